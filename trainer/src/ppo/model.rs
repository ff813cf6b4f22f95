//! The network: one LSTM shared by a linear head of action logits and a value.

use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use contract::{ACTION_COUNT, FEATURE_COUNT};

use super::update::Minibatch;
use super::weights::{HEAD_OUTPUTS, Weights};

/// What a refused action's logit is lowered by: its probability is 0, and all arithmetic stays finite.
pub const REFUSED: f32 = 1e9;

/// The weights as tensors, with or without a tape for gradients.
pub struct Model {
    cells: usize,
    lstm_w: Tensor<2>,
    lstm_b: Tensor<2>,
    head_w: Tensor<2>,
    head_b: Tensor<2>,
}

/// The LSTM's state of a batch: `h` and `c`, `[batch, cells]` each.
#[derive(Clone, Debug)]
pub struct Cells {
    /// Hidden state.
    pub h: Tensor<2>,
    /// Cell state.
    pub c: Tensor<2>,
}

impl Cells {
    /// The state at the start of an episode.
    pub fn zero(batch: usize, cells: usize, device: &Device) -> Self {
        Self { h: Tensor::zeros([batch, cells], device), c: Tensor::zeros([batch, cells], device) }
    }

    /// Sets the rows whose factor is 0 back to the start of an episode; `keep` has 1 for the others.
    pub fn keep(self, keep: &[f32], device: &Device) -> Self {
        let keep = rows(keep.to_vec(), 1, device);
        Self { h: self.h * keep.clone(), c: self.c * keep }
    }
}

/// A matrix of `numbers` with this many columns.
pub fn rows(numbers: Vec<f32>, columns: usize, device: &Device) -> Tensor<2> {
    let height = numbers.len() / columns;
    Tensor::from_data(TensorData::new(numbers, [height, columns]), device)
}

impl Model {
    /// A model for inference: no tape is kept.
    pub fn inference(weights: &Weights, device: &Device) -> Self {
        let cells = weights.cells;
        let [lstm_w, lstm_b, head_w, head_b] = weights.layout().split(&weights.values);
        Self {
            cells,
            lstm_w: rows(lstm_w.to_vec(), 4 * cells, device),
            lstm_b: rows(lstm_b.to_vec(), 4 * cells, device),
            head_w: rows(head_w.to_vec(), HEAD_OUTPUTS, device),
            head_b: rows(head_b.to_vec(), HEAD_OUTPUTS, device),
        }
    }

    /// A model whose operations are recorded, so that [`Model::gradient`] can be asked for.
    pub fn learning(weights: &Weights, device: &Device) -> Self {
        let model = Self::inference(weights, device);
        let leaf = |tensor: Tensor<2>| tensor.autodiff().require_grad();
        Self {
            cells: model.cells,
            lstm_w: leaf(model.lstm_w),
            lstm_b: leaf(model.lstm_b),
            head_w: leaf(model.head_w),
            head_b: leaf(model.head_b),
        }
    }

    /// One step of the LSTM for a batch: `x` is `[batch, FEATURES]`. One matrix product for the four gates.
    pub fn step(&self, x: Tensor<2>, state: Cells) -> Cells {
        let z = Tensor::cat(vec![x, state.h], 1).matmul(self.lstm_w.clone()) + self.lstm_b.clone();
        let gate = |k: usize| z.clone().narrow(1, k * self.cells, self.cells);
        let (input, forget) = (sigmoid(gate(0)), sigmoid(gate(1)));
        let (cell, output) = (tanh(gate(2)), sigmoid(gate(3)));
        let c = forget * state.c + input * cell;
        Cells { h: output * tanh(c.clone()), c }
    }

    /// The head: logits `[rows, ACTIONS]` and values `[rows, 1]` of hidden states.
    pub fn head(&self, h: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let out = self.head_raw(h);
        (out.clone().narrow(1, 0, ACTION_COUNT), out.narrow(1, ACTION_COUNT, 1))
    }

    /// The head's outputs side by side, `[rows, ACTIONS + 1]`.
    pub fn head_raw(&self, h: Tensor<2>) -> Tensor<2> {
        h.matmul(self.head_w.clone()) + self.head_b.clone()
    }

    /// Runs the whole sequences of a minibatch and gives the hidden states of all steps, `[steps · sequences, cells]`,
    /// time-major. Each step has its own input tensor: slices of one for all steps would make the backward pass quadratic.
    pub fn unroll(&self, minibatch: &Minibatch, device: &Device) -> Tensor<2> {
        let [h, c] = minibatch.first.clone().map(|state| rows(state, self.cells, device));
        let (mut state, sequences) = (Cells { h, c }, minibatch.sequences(self.cells));
        let mut hidden = Vec::new();
        let steps = minibatch.x.chunks_exact(sequences * FEATURE_COUNT).zip(minibatch.keep.chunks_exact(sequences));
        for (x, keep) in steps {
            if keep.contains(&0.0) {
                state = state.keep(keep, device);
            }
            state = self.step(rows(x.to_vec(), FEATURE_COUNT, device), state);
            hidden.push(state.h.clone());
        }
        Tensor::cat(hidden, 0)
    }

    /// The gradient of the recorded computation, in the order of [`Weights::values`].
    pub fn gradient(&self, gradients: &Gradients) -> Vec<f32> {
        let tensors = [&self.lstm_w, &self.lstm_b, &self.head_w, &self.head_b];
        tensors.iter().flat_map(|tensor| numbers(tensor.grad(gradients), tensor)).collect()
    }
}

/// The numbers of a gradient; zeros where the result did not depend on the tensor.
fn numbers(gradient: Option<Tensor<2>>, tensor: &Tensor<2>) -> Vec<f32> {
    match gradient {
        Some(gradient) => to_vec(gradient),
        None => vec![0.0; tensor.shape().num_elements()],
    }
}

/// The numbers of a tensor, row-major.
pub fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("float tensors can be read as f32")
}
