//! The LSTM on a GPU, forward and backward: for each step one matrix product by burn and one kernel of our own, as what burn
//! composes is some fifty kernels a step, and starting them takes longer than what they compute.
//!
//! The formulas are those of [`super::lstm`]; the products for all steps at once are made before and after.

use burn::backend::Cube;
use burn::backend::tensor::FloatTensor;
use burn::cubecl::calculate_cube_count_elemwise;
use burn::cubecl::prelude::{CubeCount, CubeDim};
use burn::tensor::{Device, Tensor};
use contract::FEATURE_COUNT;

use super::model::{rows, to_vec};
use super::update::Minibatch;
use super::weights::Weights;

/// Whole sequences: the forward pass with all that the backward pass needs of it. Everything is time-major.
pub struct Unrolled {
    cells: usize,
    steps: usize,
    sequences: usize,
    x: Tensor<2>,
    keep: Tensor<2>,
    of_state: Tensor<2>,
    /// The gates of every step; the backward pass turns them into gradients of z.
    z: Tensor<2>,
    /// The state before the first step and after each, h and c, `[(steps + 1) · sequences, cells]`.
    h: Tensor<2>,
    c: Tensor<2>,
    device: Device,
}

impl Unrolled {
    /// Runs the sequences of a minibatch.
    pub fn forward(weights: &Weights, minibatch: &Minibatch, device: &Device) -> Self {
        assert_eq!(weights.layers, 1, "stacked LSTMs are burn's");
        let cells = weights.cells;
        let [lstm_w, bias, ..] = weights.layout().split(&weights.values);
        let (of_input, of_state) = lstm_w.split_at(FEATURE_COUNT * 4 * cells);
        let on = |numbers: &[f32], columns| rows(numbers.to_vec(), columns, device);
        let (x, keep) = (on(&minibatch.x, FEATURE_COUNT), on(&minibatch.keep, 1));
        let sequences = minibatch.sequences(cells);
        let steps = minibatch.keep.len() / sequences;
        let z = x.clone().matmul(on(of_input, 4 * cells)) + on(bias, 4 * cells);
        let [h, c] = minibatch.first.each_ref().map(|first| {
            let after = Tensor::empty([steps * sequences, cells], device);
            Tensor::cat(vec![on(first, cells), after], 0)
        });
        let of_state = on(of_state, 4 * cells);
        let unrolled = Self { cells, steps, sequences, x, keep, of_state, z, h, c, device: device.clone() };
        unrolled.run();
        unrolled
    }

    fn run(&self) {
        let first = self.h.clone().narrow(0, 0, self.sequences);
        let mut h = first * self.keep.clone().narrow(0, 0, self.sequences);
        for step in 0..self.steps {
            let of_state = h.matmul(self.of_state.clone());
            h = Tensor::empty([self.sequences, self.cells], &self.device);
            let (client, count, dim) = self.launch();
            kernels::activate::launch(
                &client,
                count,
                dim,
                raw(&self.z).into_tensor_arg(),
                raw(&of_state).into_tensor_arg(),
                raw(&self.keep).into_tensor_arg(),
                raw(&self.c).into_tensor_arg(),
                raw(&self.h).into_tensor_arg(),
                raw(&h).into_tensor_arg(),
                self.cells,
                step,
            );
        }
    }

    /// The hidden state of every step, `[steps · sequences, cells]`.
    pub fn hidden(&self) -> Tensor<2> {
        self.h.clone().narrow(0, self.sequences, self.steps * self.sequences)
    }

    /// The gradient of the LSTM's weights, in the order of [`Weights::values`], given that of the hidden states.
    pub fn backward(self, d_hidden: &Tensor<2>) -> Vec<f32> {
        let state = || Tensor::<2>::zeros([self.sequences, self.cells], &self.device);
        let (d_c, mut d_h) = (state(), state());
        let to_state = self.of_state.clone().transpose();
        for step in (0..self.steps).rev() {
            let d_z = Tensor::<2>::empty([self.sequences, 4 * self.cells], &self.device);
            let (client, count, dim) = self.launch();
            kernels::back::launch(
                &client,
                count,
                dim,
                raw(&self.z).into_tensor_arg(),
                raw(&self.c).into_tensor_arg(),
                raw(&self.keep).into_tensor_arg(),
                raw(d_hidden).into_tensor_arg(),
                raw(&d_h).into_tensor_arg(),
                raw(&d_c).into_tensor_arg(),
                raw(&d_z).into_tensor_arg(),
                self.cells,
                step,
            );
            d_h = d_z.matmul(to_state.clone());
        }
        self.of_weights()
    }

    /// The products over all steps. One for each step, summed up, fill a GPU; a single one with so few rows and columns would not.
    fn of_weights(self) -> Vec<f32> {
        let Self { cells, steps, sequences, x, keep, z, h, .. } = self;
        let h_before = h.narrow(0, 0, steps * sequences) * keep;
        let by_step = |rows: Tensor<2>, columns: usize| rows.reshape([steps, sequences, columns]);
        let d_z = by_step(z.clone(), 4 * cells);
        let product = |left: Tensor<2>, columns: usize| {
            let sums = by_step(left, columns).swap_dims(1, 2).matmul(d_z.clone()).sum_dim(0);
            sums.reshape([columns, 4 * cells])
        };
        let parts = vec![product(x, FEATURE_COUNT), product(h_before, cells), z.sum_dim(0)];
        to_vec(Tensor::cat(parts, 0))
    }

    /// One unit of the GPU for each cell of each sequence.
    fn launch(&self) -> (burn::cubecl::client::Client, CubeCount, CubeDim) {
        let (client, units) = (raw(&self.z).client, self.sequences * self.cells);
        let dim = CubeDim::new(&client, units);
        let count = calculate_cube_count_elemwise(&client, units, dim);
        (client, count, dim)
    }
}

/// The tensor's buffer, for a kernel to read or to write.
fn raw(tensor: &Tensor<2>) -> FloatTensor<Cube> {
    let raw = tensor.clone().try_into_primitive::<Cube>().expect("a tensor of the GPU");
    assert!(raw.is_contiguous(), "kernels read rows one after another");
    raw
}

#[allow(missing_docs, reason = "what the macro makes of a kernel has none")]
mod kernels {
    use burn::cubecl;
    use burn::cubecl::prelude::*;

    #[cube]
    fn sigmoid(x: f32) -> f32 {
        1.0 / (1.0 + f32::exp(-x))
    }

    /// By the sigmoid, which stays finite where some drivers' own does not.
    #[cube]
    fn tanh(x: f32) -> f32 {
        2.0 * sigmoid(2.0 * x) - 1.0
    }

    /// Turns z into the gates of one step in place, and writes the state after it; `next` is its h as the next step sees it.
    #[cube(launch)]
    pub fn activate(
        z: &mut Tensor<f32>,
        of_state: &Tensor<f32>,
        keep: &Tensor<f32>,
        c: &mut Tensor<f32>,
        h: &mut Tensor<f32>,
        next: &mut Tensor<f32>,
        cells: usize,
        step: usize,
    ) {
        if ABSOLUTE_POS >= next.len() {
            terminate!();
        }
        let sequences = next.len() / cells;
        let sequence = ABSOLUTE_POS / cells;
        let cell = ABSOLUTE_POS % cells;
        let row = step * sequences + sequence;
        let gate = row * 4 * cells + cell;
        let added = sequence * 4 * cells + cell;
        let i = sigmoid(z[gate] + of_state[added]);
        let f = sigmoid(z[gate + cells] + of_state[added + cells]);
        let g = tanh(z[gate + 2 * cells] + of_state[added + 2 * cells]);
        let o = sigmoid(z[gate + 3 * cells] + of_state[added + 3 * cells]);
        z[gate] = i;
        z[gate + cells] = f;
        z[gate + 2 * cells] = g;
        z[gate + 3 * cells] = o;
        let after = f * c[row * cells + cell] * keep[row] + i * g;
        let hidden = o * tanh(after);
        let later = row + sequences;
        c[later * cells + cell] = after;
        h[later * cells + cell] = hidden;
        if later < keep.len() {
            next[ABSOLUTE_POS] = hidden * keep[later];
        }
    }

    /// One step backward: turns its gates into the gradient of z, and the gradient of the c after it into that of the c before
    /// it, which is still to be multiplied by `keep`, as `d_h` is.
    #[cube(launch)]
    pub fn back(
        z: &mut Tensor<f32>,
        c: &Tensor<f32>,
        keep: &Tensor<f32>,
        d_hidden: &Tensor<f32>,
        d_h: &Tensor<f32>,
        d_c: &mut Tensor<f32>,
        d_z: &mut Tensor<f32>,
        cells: usize,
        step: usize,
    ) {
        if ABSOLUTE_POS >= d_c.len() {
            terminate!();
        }
        let sequences = d_c.len() / cells;
        let sequence = ABSOLUTE_POS / cells;
        let cell = ABSOLUTE_POS % cells;
        let row = step * sequences + sequence;
        let later = row + sequences;
        let mut of_h = d_hidden[row * cells + cell];
        let mut of_c = 0.0f32;
        if later < keep.len() {
            of_h += d_h[ABSOLUTE_POS] * keep[later];
            of_c = d_c[ABSOLUTE_POS] * keep[later];
        }
        let gate = row * 4 * cells + cell;
        let i = z[gate];
        let f = z[gate + cells];
        let g = z[gate + 2 * cells];
        let o = z[gate + 3 * cells];
        let tanh_c = tanh(c[later * cells + cell]);
        let d = of_c + of_h * o * (1.0 - tanh_c * tanh_c);
        let d_i = d * g * i * (1.0 - i);
        let d_f = d * c[row * cells + cell] * keep[row] * f * (1.0 - f);
        let d_g = d * i * (1.0 - g * g);
        let d_o = of_h * tanh_c * o * (1.0 - o);
        d_c[ABSOLUTE_POS] = d * f;
        z[gate] = d_i;
        z[gate + cells] = d_f;
        z[gate + 2 * cells] = d_g;
        z[gate + 3 * cells] = d_o;
        let here = sequence * 4 * cells + cell;
        d_z[here] = d_i;
        d_z[here + cells] = d_f;
        d_z[here + 2 * cells] = d_g;
        d_z[here + 3 * cells] = d_o;
    }
}
