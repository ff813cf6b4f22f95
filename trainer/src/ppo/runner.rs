//! The network in inference, wherever it is computed.

use std::borrow::Cow;

use burn::tensor::Device;

use super::lstm::Stepper;
use super::model::{Cells, Model, rows, to_vec};
use super::weights::Weights;
use contract::FEATURE_COUNT;

/// Steps the network for a number of environments at once, and keeps their states.
pub enum Runner {
    /// On the CPU, by our own operation.
    Own(Box<Stepper>),
    /// On a GPU, or several LSTMs on top of each other, by burn's.
    Burn(Box<OnDevice>),
}

/// The network on a burn device.
pub struct OnDevice {
    model: Model,
    state: Cells,
    next: Cells,
    head: Vec<f32>,
    device: Device,
}

impl Runner {
    /// All states are those at the start of an episode.
    pub fn new(weights: &Weights, batch: usize, device: &Device) -> Self {
        if is_cpu(device) && weights.layers == 1 {
            return Self::Own(Box::new(Stepper::new(weights, batch)));
        }
        let state = Cells::zero(batch, weights, device);
        let (model, next, device) = (Model::inference(weights, device), state.clone(), device.clone());
        Self::Burn(Box::new(OnDevice { model, state, next, head: Vec::new(), device }))
    }

    /// Goes on with other weights of the same size; the states stay.
    pub fn load(&mut self, weights: &Weights) {
        match self {
            Self::Own(stepper) => stepper.load(weights),
            Self::Burn(on) => on.model = Model::inference(weights, &on.device),
        }
    }

    /// The head's outputs, `[batch, HEAD_OUTPUTS]`, after one step with inputs `x`, `[batch, FEATURES]`; where `keep` is 0 an
    /// episode starts. The states move on with [`Runner::advance`].
    pub fn look(&mut self, x: &[f32], keep: &[f32]) -> &[f32] {
        match self {
            Self::Own(stepper) => stepper.look(x, keep),
            Self::Burn(on) => on.look(x, keep),
        }
    }

    /// Takes the step that was looked at.
    pub fn advance(&mut self) {
        match self {
            Self::Own(stepper) => stepper.advance(),
            Self::Burn(on) => std::mem::swap(&mut on.state, &mut on.next),
        }
    }

    /// The states, h and c, `[batch, layers · cells]`.
    pub fn state(&self) -> [Cow<'_, [f32]>; 2] {
        match self {
            Self::Own(stepper) => stepper.state().map(Cow::Borrowed),
            Self::Burn(on) => on.state.numbers().map(Cow::Owned),
        }
    }
}

impl OnDevice {
    fn look(&mut self, x: &[f32], keep: &[f32]) -> &[f32] {
        let state = self.state.clone();
        let state = if keep.contains(&0.0) { state.keep(keep, &self.device) } else { state };
        self.next = self.model.step(rows(x.to_vec(), FEATURE_COUNT, &self.device), state);
        self.head = to_vec(self.model.head().raw(self.next.top()));
        &self.head
    }
}

/// Whether the network is computed on the CPU.
pub fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}
