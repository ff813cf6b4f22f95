//! A training run that can be gone on with: the weights, the best so far, and what the optimiser remembers.

use serde::{Deserialize, Serialize};

use super::TrainError;
use super::checkpoint::{self, bad};
use super::weights::{Shape, Weights};

/// Where a run is, after an update. The environments are not in it: a resumed run begins new episodes, so that it does not
/// give the numbers that an uninterrupted one would have given.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Environment steps done.
    pub steps: u64,
    /// The weights now.
    pub last: Weights,
    /// The best weights so far, and their evaluation, which a run that goes on makes anew.
    pub best: Option<(f64, Weights)>,
    /// Adam's means of the gradient.
    pub mean: Vec<f32>,
    /// Adam's means of its square.
    pub square: Vec<f32>,
    /// Adam's updates.
    pub updates: i32,
}

#[derive(Serialize, Deserialize)]
struct About {
    steps: u64,
    updates: i32,
    last: Shape,
    best: Option<(f64, Shape)>,
}

impl State {
    /// A run that begins with these weights.
    pub fn of(weights: Weights) -> Self {
        let zeros = vec![0.0; weights.values.len()];
        Self { steps: 0, last: weights, best: None, mean: zeros.clone(), square: zeros, updates: 0 }
    }

    /// The state as a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let best = self.best.as_ref().map(|(reward, weights)| (*reward, weights.shape()));
        let about = About { steps: self.steps, updates: self.updates, last: self.last.shape(), best };
        let best = self.best.as_ref().map_or(&[][..], |(_, weights)| &weights.values);
        checkpoint::write(&about, &[&self.last.values, best, &self.mean, &self.square])
    }

    /// Reads a state.
    ///
    /// # Errors
    /// If it is none, is cut off or changed, or belongs to another schema.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrainError> {
        let (about, rows) = checkpoint::read::<About>(bytes)?;
        let rows: [Vec<f32>; 4] = rows.try_into().map_err(|_| bad("it is no state of a training run"))?;
        let [last, best, mean, square] = rows;
        let last = Weights::of(&about.last, last)?;
        let best = about.best.map(|(reward, shape)| Ok((reward, Weights::of(&shape, best)?))).transpose()?;
        if mean.len() != last.values.len() || square.len() != last.values.len() {
            return Err(bad("its optimiser has another number of weights"));
        }
        Ok(Self { steps: about.steps, last, best, mean, square, updates: about.updates })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_as_it_was_and_is_no_checkpoint() {
        let weights = Weights::new(2, 7);
        let n = weights.values.len();
        let state = State {
            steps: 77,
            best: Some((-19.5, Weights { reward_scale: 0.5, ..Weights::new(2, 8) })),
            mean: vec![0.1; n],
            square: vec![0.2; n],
            updates: 9,
            last: weights,
        };
        assert_eq!(State::from_bytes(&state.to_bytes()).unwrap(), state);
        assert!(Weights::from_checkpoint(&state.to_bytes()).is_err());
        assert!(State::from_bytes(&state.last.to_checkpoint()).is_err());
        let without = State { best: None, ..state };
        assert_eq!(State::from_bytes(&without.to_bytes()).unwrap(), without);
    }
}
