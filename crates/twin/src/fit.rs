//! Finds the machine with the lowest id that has the room for a task, in logarithmic time.

/// Machine ids that there is room for at first.
const WIDTH_MIN: usize = 64;

/// A binary tree over machine ids; each node holds the most free cores and memory of any machine below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FitTree {
    /// Number of leaves, a power of two. Node 1 is the root; the leaf of machine `id` is `width + id`.
    width: usize,
    cores: Vec<u32>,
    /// Empty as long as no task needs memory.
    memory: Vec<u64>,
}

impl FitTree {
    /// Forgets all machines but keeps their memory. Without `memory_counts`, memory is not looked at.
    pub fn clear(&mut self, memory_counts: bool) {
        self.width = self.width.max(WIDTH_MIN);
        self.cores.resize(2 * self.width, 0);
        self.cores.fill(0);
        self.memory.clear();
        if memory_counts {
            self.memory.resize(2 * self.width, 0);
        }
    }

    fn counts_memory(&self) -> bool {
        !self.memory.is_empty()
    }

    /// Machine `id` has this much free now; 0 cores for one that takes no tasks.
    pub fn set(&mut self, id: u32, cores: u32, memory_mb: u64) {
        while id as usize >= self.width {
            self.double();
        }
        let mut node = self.width + id as usize;
        self.cores[node] = cores;
        if !self.counts_memory() {
            return self.climb(node, cores);
        }
        self.memory[node] = memory_mb;
        while node > 1 {
            node /= 2;
            if !self.pull(node) {
                break;
            }
        }
    }

    /// Brings the nodes above one up to date, with cores alone; this is much of an episode's time.
    fn climb(&mut self, mut node: usize, mut cores: u32) {
        while node > 1 {
            cores = cores.max(self.cores[node ^ 1]);
            node /= 2;
            if self.cores[node] == cores {
                return;
            }
            self.cores[node] = cores;
        }
    }

    /// Recomputes a node from its children; false if nothing changed.
    fn pull(&mut self, node: usize) -> bool {
        let cores = self.cores[2 * node].max(self.cores[2 * node + 1]);
        let mut changed = cores != self.cores[node];
        self.cores[node] = cores;
        if self.counts_memory() {
            let memory = self.memory[2 * node].max(self.memory[2 * node + 1]);
            changed |= memory != self.memory[node];
            self.memory[node] = memory;
        }
        changed
    }

    fn double(&mut self) {
        let old = self.width;
        self.width *= 2;
        self.cores.resize(2 * self.width, 0);
        self.cores.copy_within(old..2 * old, 2 * old);
        self.cores[3 * old..].fill(0);
        if self.counts_memory() {
            self.memory.resize(2 * self.width, 0);
            self.memory.copy_within(old..2 * old, 2 * old);
            self.memory[3 * old..].fill(0);
        }
        (1..self.width).rev().for_each(|node| {
            self.pull(node);
        });
    }

    fn may_hold(&self, node: usize, cores: u32, memory_mb: u64) -> bool {
        self.cores[node] >= cores && (!self.counts_memory() || self.memory[node] >= memory_mb)
    }

    /// The lowest id with this much free. A task needs at least one core, so that absent machines never match.
    pub fn first(&self, cores: u32, memory_mb: u64) -> Option<u32> {
        debug_assert!(cores > 0);
        if !self.may_hold(1, cores, memory_mb) {
            return None;
        }
        if self.counts_memory() { self.first_below(1, cores, memory_mb) } else { Some(self.descend(cores)) }
    }

    /// With cores alone, a node that may hold the task always has a leaf that does.
    fn descend(&self, cores: u32) -> u32 {
        let mut node = 1;
        while node < self.width {
            node = 2 * node + usize::from(self.cores[2 * node] < cores);
        }
        (node - self.width) as u32
    }

    /// With memory too, the cores may be free on one machine and the memory on another: go back and look on.
    fn first_below(&self, node: usize, cores: u32, memory_mb: u64) -> Option<u32> {
        if !self.may_hold(node, cores, memory_mb) {
            return None;
        }
        if node >= self.width {
            return Some((node - self.width) as u32);
        }
        self.first_below(2 * node, cores, memory_mb).or_else(|| self.first_below(2 * node + 1, cores, memory_mb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_finds_what_a_scan_finds(
            sets in prop::collection::vec((0u32..140, 0u32..9, 0u64..5), 1..60),
            asks in prop::collection::vec((1u32..9, 0u64..5), 1..20),
            memory_counts: bool,
        ) {
            let mut tree = FitTree::default();
            for round in 0..2 {
                tree.clear(memory_counts);
                let mut plain = [(0, 0); 140];
                for (id, cores, memory) in sets.iter().skip(round * 3) {
                    tree.set(*id, *cores, *memory);
                    plain[*id as usize] = (*cores, *memory);
                }
                for (cores, memory) in &asks {
                    let scan = plain.iter().position(|(c, m)| c >= cores && (!memory_counts || m >= memory));
                    prop_assert_eq!(tree.first(*cores, *memory), scan.map(|id| id as u32));
                }
            }
        }
    }
}
