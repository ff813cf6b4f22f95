//! The weights of the network as plain numbers: what is trained, stored and exported.

use contract::schema::{schema_hash, sha256_hex};
use contract::{ACTION_COUNT, FEATURE_COUNT};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::TrainError;

/// Outputs of the linear head: the action logits and the value.
pub const HEAD_OUTPUTS: usize = ACTION_COUNT + 1;
/// The first bytes of a checkpoint.
const MAGIC: &[u8; 8] = b"TWSCALE1";

/// All weights in one row, so that the optimiser, the checkpoint and the hash need to know no layers.
///
/// In order, row-major: `lstm_w` `[FEATURES + cells, 4 cells]` (gates: input, forget, cell, output), `lstm_b`
/// `[4 cells]`, `head_w` `[cells, ACTIONS + 1]` (logits, value), `head_b` `[ACTIONS + 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Cells of the LSTM.
    pub cells: usize,
    /// What a dollar of reward was multiplied by while learning; the value head gives dollars times this.
    pub reward_scale: f32,
    /// The numbers.
    pub values: Vec<f32>,
}

/// Where each tensor lies in [`Weights::values`].
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Cells of the LSTM.
    pub cells: usize,
}

impl Layout {
    /// Lengths of the four tensors.
    pub fn lengths(self) -> [usize; 4] {
        let cells = self.cells;
        [(FEATURE_COUNT + cells) * 4 * cells, 4 * cells, cells * HEAD_OUTPUTS, HEAD_OUTPUTS]
    }

    /// Numbers in all.
    pub fn total(self) -> usize {
        self.lengths().iter().sum()
    }

    /// The four tensors within one row: `lstm_w`, `lstm_b`, `head_w`, `head_b`.
    pub fn split(self, values: &[f32]) -> [&[f32]; 4] {
        let [a, b, c, _] = self.lengths();
        let (lstm_w, rest) = values.split_at(a);
        let (lstm_b, rest) = rest.split_at(b);
        let (head_w, head_b) = rest.split_at(c);
        [lstm_w, lstm_b, head_w, head_b]
    }
}

/// The text before the numbers of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Header {
    cells: usize,
    reward_scale: f32,
    schema_hash: String,
    sha256: String,
}

impl Weights {
    /// Fresh weights: uniform in ±1/√cells as is usual for an LSTM, the forget gate open (bias 1), and a head so small
    /// that every action is about equally probable and the value about 0.
    pub fn new(cells: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bound = 1.0 / (cells as f32).sqrt();
        let [lstm_w, lstm_b, head_w, head_b] = Layout { cells }.lengths();
        let mut uniform = |bound: f32| rng.random_range(-bound..=bound);
        let mut values: Vec<f32> = (0..lstm_w).map(|_| uniform(bound)).collect();
        values.extend((0..lstm_b).map(|i| if (cells..2 * cells).contains(&i) { 1.0 } else { 0.0 }));
        values.extend((0..head_w).map(|_| uniform(0.1 * bound)));
        values.extend((0..head_b).map(|_| 0.0));
        Self { cells, reward_scale: 1.0, values }
    }

    /// Where the tensors lie.
    pub fn layout(&self) -> Layout {
        Layout { cells: self.cells }
    }

    /// SHA-256 over the numbers, hexadecimal: equal training gives equal hashes.
    pub fn sha256(&self) -> String {
        sha256_hex(&self.bytes())
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.reward_scale.is_finite() && self.values.iter().all(|x| x.is_finite())
    }

    /// Changes the scale of the rewards; the value head is converted, so that its dollars stay the same.
    pub fn set_reward_scale(&mut self, scale: f32) {
        let factor = scale / self.reward_scale;
        let [_, _, head_w, head_b] = self.layout().lengths();
        let head = self.values.len() - head_w - head_b;
        for row in self.values[head..].chunks_exact_mut(HEAD_OUTPUTS) {
            row[ACTION_COUNT] *= factor;
        }
        self.reward_scale = scale;
    }

    fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// The checkpoint: a mark with the version, the length of a JSON header, the header, the numbers as 32-bit little
    /// endian floats.
    pub fn to_checkpoint(&self) -> Vec<u8> {
        let (cells, reward_scale) = (self.cells, self.reward_scale);
        let header = Header { cells, reward_scale, schema_hash: schema_hash().to_owned(), sha256: self.sha256() };
        let header = serde_json::to_vec(&header).expect("plain numbers and strings have a JSON form");
        let length = (header.len() as u32).to_le_bytes();
        [MAGIC.as_slice(), &length, &header, &self.bytes()].concat()
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// If it is none, is cut off or changed, or belongs to another schema.
    pub fn from_checkpoint(bytes: &[u8]) -> Result<Self, TrainError> {
        let bad = |reason: &str| TrainError::Checkpoint(reason.to_owned());
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| bad("it does not begin with TWSCALE1"))?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| bad("it is cut off"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (header, numbers) = rest.split_at_checked(length).ok_or_else(|| bad("it is cut off"))?;
        let header: Header = serde_json::from_slice(header).map_err(|e| bad(&format!("its header is bad: {e}")))?;
        if header.schema_hash != schema_hash() {
            return Err(bad("it was trained with another schema"));
        }
        if sha256_hex(numbers) != header.sha256 {
            return Err(bad("its numbers do not have the hash of its header"));
        }
        let values = numbers.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let weights = Self { cells: header.cells, reward_scale: header.reward_scale, values };
        if header.cells > 1024 || weights.values.len() != weights.layout().total() || numbers.len() % 4 != 0 {
            return Err(bad("it has another number of weights than its cells need"));
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_gives_the_same_weights_back() {
        let weights = Weights { reward_scale: 0.25, ..Weights::new(3, 7) };
        assert_eq!(Weights::from_checkpoint(&weights.to_checkpoint()).unwrap(), weights);
        assert_ne!(Weights::new(3, 8).sha256(), weights.sha256());
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
