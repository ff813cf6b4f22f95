//! The network: one LSTM (or several on top of each other) shared by a linear head of action logits and a value.

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
    lstms: Vec<Lstm>,
    head: Head,
}

/// The weights of one LSTM.
struct Lstm {
    w: Tensor<2>,
    b: Tensor<2>,
}

/// The linear head of action logits and a value.
pub struct Head {
    w: Tensor<2>,
    b: Tensor<2>,
}

/// The state of a batch: `h` and `c` of each LSTM, `[batch, cells]` each.
#[derive(Clone, Debug)]
pub struct Cells(Vec<[Tensor<2>; 2]>);

impl Cells {
    /// The state at the start of an episode.
    pub fn zero(batch: usize, weights: &Weights, device: &Device) -> Self {
        let zeros = || Tensor::zeros([batch, weights.cells], device);
        Self((0..weights.layers).map(|_| [zeros(), zeros()]).collect())
    }

    /// Sets the rows whose factor is 0 back to the start of an episode; `keep` has 1 for the others.
    pub fn keep(self, keep: &[f32], device: &Device) -> Self {
        let keep = rows(keep.to_vec(), 1, device);
        Self(self.0.into_iter().map(|state| state.map(|x| x * keep.clone())).collect())
    }

    /// The hidden state that the head sees: that of the uppermost LSTM.
    pub fn top(&self) -> Tensor<2> {
        self.0.last().expect("there is an LSTM")[0].clone()
    }

    /// The numbers, h and c, `[batch, layers · cells]`.
    pub fn numbers(&self) -> [Vec<f32>; 2] {
        [0, 1].map(|part| to_vec(Tensor::cat(self.0.iter().map(|state| state[part].clone()).collect(), 1)))
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
        let [w, b, above, ..] = weights.layout().split(&weights.values);
        let lstm = |(w, b): (&[f32], &[f32])| Lstm {
            w: rows(w.to_vec(), 4 * cells, device),
            b: rows(b.to_vec(), 4 * cells, device),
        };
        let above = above.chunks_exact(weights.layout().above()).map(|one| one.split_at(one.len() - 4 * cells));
        Self {
            cells,
            lstms: std::iter::once((w, b)).chain(above).map(lstm).collect(),
            head: Head::inference(weights, device),
        }
    }

    /// A model whose operations are recorded, so that [`Model::gradient`] can be asked for.
    pub fn learning(weights: &Weights, device: &Device) -> Self {
        let model = Self::inference(weights, device);
        Self {
            cells: model.cells,
            lstms: model.lstms.into_iter().map(|lstm| Lstm { w: leaf(lstm.w), b: leaf(lstm.b) }).collect(),
            head: model.head.learning(),
        }
    }

    /// The head on top.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// One step for a batch: `x` is `[batch, FEATURES]`. What one LSTM gives out goes into the one above it.
    pub fn step(&self, x: Tensor<2>, state: Cells) -> Cells {
        let mut x = x;
        let step = |(lstm, state): (&Lstm, [Tensor<2>; 2])| {
            let next = lstm.step(x.clone(), state, self.cells);
            x = next[0].clone();
            next
        };
        Cells(self.lstms.iter().zip(state.0).map(step).collect())
    }

    /// States from their numbers, h and c, `[batch, layers · cells]`.
    pub fn state(&self, numbers: [Vec<f32>; 2], device: &Device) -> Cells {
        let all = numbers.map(|numbers| rows(numbers, self.state_width(), device));
        let of = |k: usize| all.clone().map(|numbers| numbers.narrow(1, k * self.cells, self.cells));
        Cells((0..self.lstms.len()).map(of).collect())
    }

    fn state_width(&self) -> usize {
        self.lstms.len() * self.cells
    }

    /// Runs the whole sequences of a minibatch and gives the hidden states of all steps, `[steps · sequences, cells]`,
    /// time-major. Each step has its own input tensor: slices of one for all steps would make the backward pass quadratic.
    pub fn unroll(&self, minibatch: &Minibatch, device: &Device) -> Tensor<2> {
        let mut state = self.state(minibatch.first.clone(), device);
        let sequences = minibatch.sequences(self.state_width());
        let mut hidden = Vec::new();
        let steps = minibatch.x.chunks_exact(sequences * FEATURE_COUNT).zip(minibatch.keep.chunks_exact(sequences));
        for (x, keep) in steps {
            if keep.contains(&0.0) {
                state = state.keep(keep, device);
            }
            state = self.step(rows(x.to_vec(), FEATURE_COUNT, device), state);
            hidden.push(state.top());
        }
        Tensor::cat(hidden, 0)
    }

    /// The gradient of the recorded computation, in the order of [`Weights::values`].
    pub fn gradient(&self, gradients: &Gradients) -> Vec<f32> {
        let lstms = self.lstms.iter().flat_map(|lstm| [&lstm.w, &lstm.b]);
        let of_lstms = lstms.flat_map(|tensor| numbers(tensor.grad(gradients), tensor));
        of_lstms.chain(self.head.gradient(gradients)).collect()
    }
}

impl Head {
    /// A head for inference: no tape is kept.
    pub fn inference(weights: &Weights, device: &Device) -> Self {
        let [.., w, b] = weights.layout().split(&weights.values);
        Self { w: rows(w.to_vec(), HEAD_OUTPUTS, device), b: rows(b.to_vec(), HEAD_OUTPUTS, device) }
    }

    /// The same, whose operations are recorded, so that [`Head::gradient`] can be asked for.
    pub fn learning(self) -> Self {
        Self { w: leaf(self.w), b: leaf(self.b) }
    }

    /// Logits `[rows, ACTIONS]` and values `[rows, 1]` of hidden states.
    pub fn outputs(&self, h: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let out = self.raw(h);
        (out.clone().narrow(1, 0, ACTION_COUNT), out.narrow(1, ACTION_COUNT, 1))
    }

    /// Both side by side, `[rows, ACTIONS + 1]`.
    pub fn raw(&self, h: Tensor<2>) -> Tensor<2> {
        h.matmul(self.w.clone()) + self.b.clone()
    }

    /// The gradient of the recorded computation, in the order of [`Weights::values`], at whose end the head is.
    pub fn gradient(&self, gradients: &Gradients) -> Vec<f32> {
        [&self.w, &self.b].map(|tensor| numbers(tensor.grad(gradients), tensor)).concat()
    }
}

fn leaf(tensor: Tensor<2>) -> Tensor<2> {
    tensor.autodiff().require_grad()
}

impl Lstm {
    /// One step: `x` and the state before it give the state after it. One matrix product for the four gates.
    fn step(&self, x: Tensor<2>, [h, c]: [Tensor<2>; 2], cells: usize) -> [Tensor<2>; 2] {
        let z = Tensor::cat(vec![x, h], 1).matmul(self.w.clone()) + self.b.clone();
        let gate = |k: usize| z.clone().narrow(1, k * cells, cells);
        let (input, forget) = (sigmoid(gate(0)), sigmoid(gate(1)));
        let (cell, output) = (tanh(gate(2)), sigmoid(gate(3)));
        let c = forget * c + input * cell;
        [output * tanh(c.clone()), c]
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
