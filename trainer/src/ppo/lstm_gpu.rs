//! The LSTM on a GPU: one kernel of our own for all steps forward, and one backward. What burn composes is some fifty kernels a
//! step, and starting them takes longer than what they compute.
//!
//! The formulas are those of [`super::lstm`]. Sequences do not depend on each other: a cube of the GPU runs a few of them from the
//! first step to the last, one unit for each cell, and keeps their states to itself. The products for all steps at once are burn's.

use burn::backend::Cube;
use burn::backend::tensor::FloatTensor;
use burn::cubecl::prelude::{CubeCount, CubeDim};
use burn::tensor::{Device, Tensor};
use contract::FEATURE_COUNT;

use super::lstm::transpose;
use super::model::{rows, to_vec};
use super::update::Minibatch;
use super::weights::Weights;

/// Whole sequences: the forward pass with all that the backward pass needs of it. Everything is time-major.
pub struct Unrolled<'m> {
    cells: usize,
    steps: usize,
    sequences: usize,
    weights: &'m Weights,
    x: Tensor<2>,
    keep: Tensor<2>,
    /// The gates of every step; the backward pass turns them into gradients of z.
    z: Tensor<2>,
    /// The state before the first step and after each, h and c, `[(steps + 1) · sequences, cells]`.
    h: Tensor<2>,
    c: Tensor<2>,
    device: Device,
}

/// Rounds of its loops after which Mesa's software driver ends a kernel without a word.
const ROUNDS_MAX: usize = 65_535;

/// Whether the kernels can run these sequences on this GPU: it needs a unit for each cell.
pub fn fits(weights: &Weights, minibatch: &Minibatch, device: &Device) -> bool {
    let units = raw(&Tensor::empty([1, 1], device)).client.properties().hardware.max_units_per_cube as usize;
    let cells = weights.cells;
    let steps = minibatch.keep.len() / minibatch.sequences(cells).max(1);
    weights.layers == 1 && cells <= units && steps * (cells + 1) < ROUNDS_MAX
}

impl<'m> Unrolled<'m> {
    /// Runs the sequences of a minibatch.
    pub fn forward(weights: &'m Weights, minibatch: &Minibatch, device: &Device) -> Self {
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
        let unrolled = Self { cells, steps, sequences, weights, x, keep, z, h, c, device: device.clone() };
        unrolled.run(&on(of_state, 4 * cells));
        unrolled
    }

    fn run(&self, of_state: &Tensor<2>) {
        let at_once = self.at_once();
        kernels::forward::launch(
            &raw(&self.z).client,
            self.cubes(at_once),
            CubeDim::new_1d(self.cells as u32),
            raw(of_state).into_buffer_arg(),
            raw(&self.keep).into_buffer_arg(),
            raw(&self.z).into_buffer_arg(),
            raw(&self.h).into_buffer_arg(),
            raw(&self.c).into_buffer_arg(),
            self.steps,
            self.sequences,
            self.cells,
            at_once,
        );
    }

    /// The hidden state of every step, `[steps · sequences, cells]`.
    pub fn hidden(&self) -> Tensor<2> {
        self.h.clone().narrow(0, self.sequences, self.steps * self.sequences)
    }

    /// The gradient of the LSTM's weights, in the order of [`Weights::values`], given that of the hidden states.
    pub fn backward(self, d_hidden: &Tensor<2>) -> Vec<f32> {
        let (cells, at_once) = (self.cells, self.at_once());
        let [lstm_w, ..] = self.weights.layout().split(&self.weights.values);
        let mut to_state = vec![0.0; 4 * cells * cells];
        transpose(&lstm_w[FEATURE_COUNT * 4 * cells..], 4 * cells, &mut to_state);
        kernels::backward::launch(
            &raw(&self.z).client,
            self.cubes(at_once),
            CubeDim::new_1d(cells as u32),
            raw(&rows(to_state, cells, &self.device)).into_buffer_arg(),
            raw(&self.keep).into_buffer_arg(),
            raw(&self.c).into_buffer_arg(),
            raw(d_hidden).into_buffer_arg(),
            raw(&self.z).into_buffer_arg(),
            self.steps,
            self.sequences,
            cells,
            at_once,
        );
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

    /// Sequences of one cube: each weight that it reads serves all of them, and their gates fit into 16 KiB of shared memory, which
    /// every GPU has.
    fn at_once(&self) -> usize {
        (1024 / self.cells).clamp(1, 8)
    }

    fn cubes(&self, at_once: usize) -> CubeCount {
        CubeCount::new_1d(self.sequences.div_ceil(at_once) as u32)
    }
}

/// The tensor's buffer, for a kernel to read or to write.
fn raw(tensor: &Tensor<2>) -> FloatTensor<Cube> {
    let raw = tensor.clone().try_into_primitive::<Cube>().expect("a tensor of the GPU");
    assert!(raw.is_contiguous(), "kernels read rows one after another");
    raw
}

#[allow(missing_docs, reason = "what the macro makes of a kernel has none")]
#[allow(clippy::too_many_arguments, reason = "a kernel's buffers cannot be put together")]
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

    /// Turns z, so far without what the state adds, into the gates of every step, and writes the states after each.
    #[cube(launch)]
    pub fn forward(
        of_state: &[f32],
        keep: &[f32],
        z: &mut [f32],
        h: &mut [f32],
        c: &mut [f32],
        steps: usize,
        sequences: usize,
        #[comptime] cells: usize,
        #[comptime] at_once: usize,
    ) {
        let cell = UNIT_POS as usize;
        let first = CUBE_POS * at_once;
        let mut before = Shared::<[f32]>::new_slice(at_once * cells);
        let mut gates = Array::<f32>::new(4 * at_once);
        for step in 0..steps {
            #[unroll]
            for s in 0..at_once {
                if first + s < sequences {
                    let row = step * sequences + first + s;
                    before[s * cells + cell] = h[row * cells + cell] * keep[row];
                    #[unroll]
                    for gate in 0..4 {
                        gates[s * 4 + gate] = z[row * 4 * cells + gate * cells + cell];
                    }
                }
            }
            sync_cube();
            for k in 0..cells {
                #[unroll]
                for gate in 0..4 {
                    let weight = of_state[k * 4 * cells + gate * cells + cell];
                    #[unroll]
                    for s in 0..at_once {
                        gates[s * 4 + gate] += before[s * cells + k] * weight;
                    }
                }
            }
            #[unroll]
            for s in 0..at_once {
                if first + s < sequences {
                    let row = step * sequences + first + s;
                    let i = sigmoid(gates[s * 4]);
                    let f = sigmoid(gates[s * 4 + 1]);
                    let g = tanh(gates[s * 4 + 2]);
                    let o = sigmoid(gates[s * 4 + 3]);
                    let here = row * 4 * cells + cell;
                    z[here] = i;
                    z[here + cells] = f;
                    z[here + 2 * cells] = g;
                    z[here + 3 * cells] = o;
                    let after = f * c[row * cells + cell] * keep[row] + i * g;
                    c[(row + sequences) * cells + cell] = after;
                    h[(row + sequences) * cells + cell] = o * tanh(after);
                }
            }
            // nobody overwrites the states before all have read them
            sync_cube();
        }
    }

    /// Turns the gates of every step into the gradients of z, the last step first.
    #[cube(launch)]
    pub fn backward(
        to_state: &[f32],
        keep: &[f32],
        c: &[f32],
        d_hidden: &[f32],
        z: &mut [f32],
        steps: usize,
        sequences: usize,
        #[comptime] cells: usize,
        #[comptime] at_once: usize,
    ) {
        let cell = UNIT_POS as usize;
        let first = CUBE_POS * at_once;
        let mut d_z = Shared::<[f32]>::new_slice(at_once * 4 * cells);
        let mut d_h = Array::<f32>::new(at_once);
        let mut d_c = Array::<f32>::new(at_once);
        let mut sums = Array::<f32>::new(at_once);
        #[unroll]
        for s in 0..at_once {
            d_h[s] = 0.0;
            d_c[s] = 0.0;
        }
        for back in 0..steps {
            let step = steps - 1 - back;
            #[unroll]
            for s in 0..at_once {
                sums[s] = 0.0;
                if first + s < sequences {
                    let row = step * sequences + first + s;
                    let here = row * 4 * cells + cell;
                    let i = z[here];
                    let f = z[here + cells];
                    let g = z[here + 2 * cells];
                    let o = z[here + 3 * cells];
                    let of_h = d_h[s] + d_hidden[row * cells + cell];
                    let tanh_c = tanh(c[(row + sequences) * cells + cell]);
                    let d = d_c[s] + of_h * o * (1.0 - tanh_c * tanh_c);
                    d_c[s] = d * f * keep[row];
                    z[here] = d * g * i * (1.0 - i);
                    z[here + cells] = d * c[row * cells + cell] * keep[row] * f * (1.0 - f);
                    z[here + 2 * cells] = d * i * (1.0 - g * g);
                    z[here + 3 * cells] = of_h * tanh_c * o * (1.0 - o);
                    #[unroll]
                    for gate in 0..4 {
                        d_z[s * 4 * cells + gate * cells + cell] = z[here + gate * cells];
                    }
                }
            }
            sync_cube();
            for k in 0..cells {
                #[unroll]
                for gate in 0..4 {
                    let weight = to_state[(gate * cells + k) * cells + cell];
                    #[unroll]
                    for s in 0..at_once {
                        sums[s] += d_z[s * 4 * cells + gate * cells + k] * weight;
                    }
                }
            }
            #[unroll]
            for s in 0..at_once {
                if first + s < sequences {
                    d_h[s] = sums[s] * keep[step * sequences + first + s];
                }
            }
            sync_cube();
        }
    }
}
