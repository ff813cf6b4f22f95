//! How busy the machines in service are: mean and nearest-rank percentile, kept up to date machine by machine.

/// Counts of ready machines by type and busy cores.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    /// For each type, where its counts begin; then by busy cores.
    first: Vec<usize>,
    counts: Vec<u32>,
    /// Utilisation of each count, descending, with its index.
    levels: Vec<(f64, u32)>,
    /// Busy cores of the ready machines, by type.
    busy: Vec<u64>,
    cores: Vec<u32>,
    ready: u32,
}

impl Load {
    pub fn new(cores: &[u32]) -> Self {
        let mut load = Self { cores: cores.to_vec(), busy: vec![0; cores.len()], ..Self::default() };
        for &n in cores {
            load.first.push(load.counts.len());
            for busy in 0..=n {
                load.levels.push((f64::from(busy) / f64::from(n), load.counts.len() as u32));
                load.counts.push(0);
            }
        }
        load.levels.sort_by(|a, b| b.0.total_cmp(&a.0));
        load
    }

    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.busy.fill(0);
        self.ready = 0;
    }

    pub fn join(&mut self, kind: usize, busy: u32) {
        self.counts[self.first[kind] + busy as usize] += 1;
        self.busy[kind] += u64::from(busy);
        self.ready += 1;
    }

    pub fn leave(&mut self, kind: usize, busy: u32) {
        self.counts[self.first[kind] + busy as usize] -= 1;
        self.busy[kind] -= u64::from(busy);
        self.ready -= 1;
    }

    /// A machine's busy cores change.
    pub fn change(&mut self, kind: usize, from: u32, to: u32) {
        self.counts[self.first[kind] + from as usize] -= 1;
        self.counts[self.first[kind] + to as usize] += 1;
        self.busy[kind] = self.busy[kind] - u64::from(from) + u64::from(to);
    }

    /// Ready machines of a type that run nothing.
    pub fn idle(&self, kind: usize) -> u32 {
        self.counts[self.first[kind]]
    }

    pub fn busy_cores(&self) -> u64 {
        self.busy.iter().sum()
    }

    /// Mean share of busy cores over ready machines; 0 of none.
    pub fn mean(&self) -> f64 {
        if self.ready == 0 {
            return 0.0;
        }
        let sum: f64 = self.busy.iter().zip(&self.cores).map(|(busy, cores)| *busy as f64 / f64::from(*cores)).sum();
        sum / f64::from(self.ready)
    }

    /// Nearest-rank 90th percentile over ready machines: ascending, index `ceil(0.9 n) - 1`; 0 of none.
    pub fn p90(&self) -> f64 {
        let above = self.ready - (9 * self.ready).div_ceil(10);
        let mut seen = 0;
        for (share, i) in &self.levels {
            seen += self.counts[*i as usize];
            if seen > above {
                return *share;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn mean_and_percentile_are_those_of_the_sorted_list(
            machines in prop::collection::vec((0usize..3, 0u32..9), 0..40), moved in 0u32..9,
        ) {
            let cores = [2, 4, 8];
            let mut load = Load::new(&cores);
            let mut shares = Vec::new();
            for (kind, busy) in &machines {
                let (before, busy) = (moved.min(cores[*kind]), (*busy).min(cores[*kind]));
                load.join(*kind, before);
                load.change(*kind, before, busy);
                shares.push(f64::from(busy) / f64::from(cores[*kind]));
            }
            load.join(1, 3);
            load.leave(1, 3);
            shares.sort_by(f64::total_cmp);
            let n = shares.len();
            let p90 = if n == 0 { 0.0 } else { shares[(0.9 * n as f64).ceil() as usize - 1] };
            prop_assert_eq!(load.p90(), p90);
            for (kind, _) in cores.iter().enumerate() {
                let idle = machines.iter().filter(|(k, busy)| *k == kind && *busy == 0).count();
                prop_assert_eq!(load.idle(kind) as usize, idle);
            }
            prop_assert!((load.mean() - shares.iter().sum::<f64>() / n.max(1) as f64).abs() < 1e-12);
        }
    }
}
