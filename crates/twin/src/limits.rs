//! Named bounds of what a scenario may ask for.

/// Longest time that a scenario may name, seconds (about 31 years): sums over ten million tasks still fit 64 bits.
pub const TIME_S_MAX: f64 = 1e9;
/// Cores of one machine or task: the largest EC2 machines have under a thousand.
pub const CORES_MAX: u32 = 4096;
/// Memory of one machine or task, MB: far above any machine, and sums still fit 64 bits.
pub const MEMORY_MB_MAX: u64 = 1 << 40;
/// Machines of one type at the start.
pub const INITIAL_MAX: u32 = 1_000_000;
/// Machine types of a scenario: as many as an action's number can name.
pub const TYPES_MAX: usize = 499;
/// Tasks that a generator may be asked for, on average.
pub const TASKS_MAX: f64 = 1e7;
