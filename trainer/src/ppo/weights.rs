//! The weights of the network as plain numbers: what is trained, stored and exported.

use contract::schema::sha256_hex;
use contract::{ACTION_COUNT, FEATURE_COUNT};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::TrainError;
use super::checkpoint::{self, bad};
use super::config::PpoConfig;

/// Outputs of the linear head: the action logits and the value.
pub const HEAD_OUTPUTS: usize = ACTION_COUNT + 1;
/// LSTMs on top of each other at most.
pub(super) const LAYERS_MAX: usize = 4;

/// All weights in one row, so that the optimiser, the checkpoint and the hash need to know no layers.
///
/// In order, row-major: `lstm_w` `[FEATURES + cells, 4 cells]` (gates: input, forget, cell, output), `lstm_b`
/// `[4 cells]`, the same of each LSTM above the first (whose inputs are `cells` instead of FEATURES), `head_w`
/// `[cells, ACTIONS + 1]` (logits, value), `head_b` `[ACTIONS + 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Cells of the LSTM.
    pub cells: usize,
    /// LSTMs on top of each other; more than one are for comparison only.
    pub layers: usize,
    /// Whether the state is carried from step to step. Without it every step is as the first of an episode, for comparison only.
    pub memory: bool,
    /// What a dollar of reward was multiplied by while learning; the value head gives dollars times this.
    pub reward_scale: f32,
    /// Whether the value foresees gains over a teacher ([`PpoConfig::paired_rewards`]), and not what is wasted.
    pub paired: bool,
    /// The numbers.
    pub values: Vec<f32>,
}

/// Where each tensor lies in [`Weights::values`].
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Cells of the LSTM.
    pub cells: usize,
    /// LSTMs on top of each other.
    pub layers: usize,
}

impl Layout {
    /// Lengths of the parts, as in [`Layout::split`].
    pub fn lengths(self) -> [usize; 5] {
        let cells = self.cells;
        let above = (self.layers - 1) * self.above();
        [(FEATURE_COUNT + cells) * 4 * cells, 4 * cells, above, cells * HEAD_OUTPUTS, HEAD_OUTPUTS]
    }

    /// Numbers of one LSTM above the first: `[2 cells, 4 cells]`, `[4 cells]`.
    pub fn above(self) -> usize {
        (2 * self.cells + 1) * 4 * self.cells
    }

    /// Numbers in all.
    pub fn total(self) -> usize {
        self.lengths().iter().sum()
    }

    /// The parts of one row: `lstm_w`, `lstm_b`, the LSTMs above the first, `head_w`, `head_b`.
    pub fn split(self, values: &[f32]) -> [&[f32]; 5] {
        let [a, b, c, d, _] = self.lengths();
        let (lstm_w, rest) = values.split_at(a);
        let (lstm_b, rest) = rest.split_at(b);
        let (above, rest) = rest.split_at(c);
        let (head_w, head_b) = rest.split_at(d);
        [lstm_w, lstm_b, above, head_w, head_b]
    }
}

/// What a checkpoint says of its weights.
#[derive(Serialize, Deserialize)]
pub(super) struct Shape {
    cells: usize,
    reward_scale: f32,
    // checkpoints of before have none of these
    #[serde(default = "one")]
    layers: usize,
    #[serde(default = "yes")]
    memory: bool,
    #[serde(default)]
    paired: bool,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

/// Which setting makes a network one for comparison only: the functions run a single LSTM that keeps its state.
pub(super) fn compared_for(layers: usize, memory: bool) -> Option<&'static str> {
    match (layers, memory) {
        (1, true) => None,
        (1, false) => Some("memory"),
        _ => Some("lstm_layers"),
    }
}

impl Weights {
    /// Fresh weights of the usual network, with this many cells.
    pub fn new(cells: usize, seed: u64) -> Self {
        Self::fresh(&PpoConfig { lstm_cells: cells, ..PpoConfig::default() }, seed)
    }

    /// Fresh weights: uniform in ±1/√cells as is usual for an LSTM, the forget gate open (bias 1), and a head so small
    /// that every action is about equally probable and the value about 0.
    pub fn fresh(config: &PpoConfig, seed: u64) -> Self {
        let (cells, layers) = (config.lstm_cells, config.lstm_layers);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bound = 1.0 / (cells as f32).sqrt();
        let [lstm_w, lstm_b, _, head_w, head_b] = Layout { cells, layers }.lengths();
        let mut uniform = |bound: f32| rng.random_range(-bound..=bound);
        let mut values = Vec::new();
        for layer in 0..layers {
            let weights = if layer == 0 { lstm_w } else { 2 * cells * 4 * cells };
            values.extend((0..weights).map(|_| uniform(bound)));
            values.extend((0..lstm_b).map(|i| if (cells..2 * cells).contains(&i) { 1.0 } else { 0.0 }));
        }
        values.extend((0..head_w).map(|_| uniform(0.1 * bound)));
        values.extend((0..head_b).map(|_| 0.0));
        Self { cells, layers, memory: config.memory, reward_scale: 1.0, paired: false, values }
    }

    /// Which setting makes this a network for comparison only, of which there is no policy file.
    pub fn compared_for(&self) -> Option<&'static str> {
        compared_for(self.layers, self.memory)
    }

    /// Whether training with these settings can go on from these weights.
    ///
    /// # Errors
    /// If the settings are about another network.
    pub fn check(&self, config: &PpoConfig) -> Result<(), TrainError> {
        let differs = |setting, found: String, wanted: String| {
            if found == wanted { Ok(()) } else { Err(TrainError::Network { setting, found, wanted }) }
        };
        differs("lstm_cells", self.cells.to_string(), config.lstm_cells.to_string())?;
        differs("lstm_layers", self.layers.to_string(), config.lstm_layers.to_string())?;
        differs("memory", self.memory.to_string(), config.memory.to_string())
    }

    /// Where the tensors lie.
    pub fn layout(&self) -> Layout {
        Layout { cells: self.cells, layers: self.layers }
    }

    /// SHA-256 over the numbers, hexadecimal: equal training gives equal hashes.
    pub fn sha256(&self) -> String {
        let bytes: Vec<u8> = self.values.iter().flat_map(|x| x.to_le_bytes()).collect();
        sha256_hex(&bytes)
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.reward_scale.is_finite() && self.values.iter().all(|x| x.is_finite())
    }

    /// From here on the value is that of gains over a teacher: 0 whatever is seen, in a scale that is still to be measured.
    pub fn foresee_gains(&mut self) {
        self.set_reward_scale(0.0);
        self.reward_scale = 1.0;
        self.paired = true;
    }

    /// Changes the scale of the rewards; the value head is converted, so that its dollars stay the same.
    pub fn set_reward_scale(&mut self, scale: f32) {
        let factor = scale / self.reward_scale;
        let [.., head_w, head_b] = self.layout().lengths();
        let head = self.values.len() - head_w - head_b;
        for row in self.values[head..].chunks_exact_mut(HEAD_OUTPUTS) {
            row[ACTION_COUNT] *= factor;
        }
        self.reward_scale = scale;
    }

    /// What a checkpoint says of these weights.
    pub(super) fn shape(&self) -> Shape {
        let &Self { cells, layers, memory, reward_scale, paired, .. } = self;
        Shape { cells, reward_scale, layers, memory, paired }
    }

    /// Weights from what a checkpoint says of them, and their numbers.
    pub(super) fn of(shape: &Shape, values: Vec<f32>) -> Result<Self, TrainError> {
        let &Shape { cells, reward_scale, layers, memory, paired } = shape;
        let weights = Self { cells, layers, memory, reward_scale, paired, values };
        let sane = (1..=1024).contains(&cells) && (1..=LAYERS_MAX).contains(&layers);
        let fits = sane && weights.values.len() == weights.layout().total();
        if fits { Ok(weights) } else { Err(bad("it has another number of weights than its cells need")) }
    }

    /// The weights as a file.
    pub fn to_checkpoint(&self) -> Vec<u8> {
        checkpoint::write(&self.shape(), &[&self.values])
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// If it is none, is cut off or changed, or belongs to another schema.
    pub fn from_checkpoint(bytes: &[u8]) -> Result<Self, TrainError> {
        let (shape, rows) = checkpoint::read::<Shape>(bytes)?;
        let [values]: [Vec<f32>; 1] = rows.try_into().map_err(|_| bad("it does not hold one row of weights"))?;
        Self::of(&shape, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_gains_begins_with_nothing_whatever_is_seen_and_nothing_else_changes() {
        let mut weights = Weights { reward_scale: 0.25, ..Weights::new(3, 7) };
        let before = weights.clone();
        weights.foresee_gains();
        assert!(weights.reward_scale == 1.0 && weights.paired && !before.paired);
        let [.., head_w, head_b] = weights.layout().split(&weights.values);
        let rows = head_w.chunks_exact(HEAD_OUTPUTS).chain(head_b.chunks_exact(HEAD_OUTPUTS));
        assert!(rows.clone().count() == 4 && rows.clone().all(|row| row[ACTION_COUNT] == 0.0));
        let changed = weights.values.iter().zip(&before.values).filter(|(a, b)| a != b).count();
        assert_eq!(changed, 3, "the bias was 0 before");
    }

    #[test]
    fn a_checkpoint_gives_the_same_weights_back() {
        let weights = Weights { reward_scale: 0.25, ..Weights::new(3, 7) };
        assert_eq!(Weights::from_checkpoint(&weights.to_checkpoint()).unwrap(), weights);
        assert_ne!(Weights::new(3, 8).sha256(), weights.sha256());
        let compared = PpoConfig { lstm_cells: 3, lstm_layers: 2, memory: false, ..PpoConfig::default() };
        let weights = Weights::fresh(&compared, 7);
        assert_eq!(Weights::from_checkpoint(&weights.to_checkpoint()).unwrap(), weights);
    }

    #[test]
    fn settings_of_another_network_are_named() {
        let weights = Weights::new(3, 7);
        let with = |change: fn(&mut PpoConfig)| {
            let mut config = PpoConfig { lstm_cells: 3, ..PpoConfig::default() };
            change(&mut config);
            weights.check(&config).map_err(|error| error.to_string())
        };
        assert_eq!(with(|_| ()), Ok(()));
        let error = with(|config| config.lstm_cells = 4).unwrap_err();
        assert!(error.contains("lstm_cells = 3") && error.contains("settings say 4"), "{error}");
        assert!(with(|config| config.lstm_layers = 2).unwrap_err().contains("lstm_layers = 1"));
        assert!(with(|config| config.memory = false).unwrap_err().contains("memory = true"));
    }

    #[test]
    fn a_damaged_checkpoint_is_refused_wherever_it_is_damaged() {
        let whole = Weights::new(2, 7).to_checkpoint();
        for cut in [0, 5, 11, 40, whole.len() - 1] {
            assert!(Weights::from_checkpoint(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(Weights::from_checkpoint(&flipped).unwrap_err().to_string().contains("hash"));
    }
}
