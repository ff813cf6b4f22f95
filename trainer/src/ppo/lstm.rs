//! The LSTM on the CPU, forward and backward, as one operation of our own: burn's composed cell spends most of its time
//! in bookkeeping. faer multiplies the matrices; every buffer is reused. One LSTM alone: stacked ones are burn's.
//!
//! For inputs x, gates i, f, g, o and the state (h, c):
//! z = x·Wx + h·Wh + b, i = σ(z_i), f = σ(z_f), g = tanh(z_g), o = σ(z_o), c' = f·c + i·g, h' = o·tanh(c').

use contract::FEATURE_COUNT;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::weights::{HEAD_OUTPUTS, Weights};

/// Sets `out` to, or adds to it, `a · b`.
pub(super) fn product(out: MatMut<f32>, accum: Accum, a: MatRef<f32>, b: MatRef<f32>) {
    matmul(out, accum, a, b, 1.0, Par::Seq);
}

/// A matrix over numbers stored row by row.
pub(super) fn matrix(numbers: &[f32], columns: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(numbers, numbers.len() / columns, columns)
}

/// The same, to write to.
pub(super) fn matrix_mut(numbers: &mut [f32], columns: usize) -> MatMut<'_, f32> {
    let rows = numbers.len() / columns;
    MatMut::from_row_major_slice_mut(numbers, rows, columns)
}

/// The LSTM's weights, as they lie in [`Weights`].
#[derive(Clone, Copy)]
struct Cell<'w> {
    cells: usize,
    of_input: &'w [f32],
    of_state: &'w [f32],
    bias: &'w [f32],
}

impl<'w> Cell<'w> {
    fn of(weights: &'w Weights) -> Self {
        let [lstm_w, bias, ..] = weights.layout().split(&weights.values);
        let (of_input, of_state) = lstm_w.split_at(FEATURE_COUNT * 4 * weights.cells);
        Self { cells: weights.cells, of_input, of_state, bias }
    }

    /// z = b + x·Wx.
    fn project(&self, x: &[f32], z: &mut [f32]) {
        z.chunks_exact_mut(4 * self.cells).for_each(|row| row.copy_from_slice(self.bias));
        product(
            matrix_mut(z, 4 * self.cells),
            Accum::Add,
            matrix(x, FEATURE_COUNT),
            matrix(self.of_input, 4 * self.cells),
        );
    }

    /// z += h·Wh.
    fn recur(&self, h: &[f32], z: &mut [f32]) {
        product(
            matrix_mut(z, 4 * self.cells),
            Accum::Add,
            matrix(h, self.cells),
            matrix(self.of_state, 4 * self.cells),
        );
    }
}

/// Runs what is inlined into it (hence the closures' attribute) in vectors as wide as this processor's (AVX2), where a program for
/// any x86-64 takes narrower ones. No product and sum are fused, so that the numbers are the same to the bit.
#[inline(always)]
fn in_wide_vectors(run: impl FnOnce()) {
    pulp::Arch::new().dispatch(run);
}

/// Turns z into the gates in place, and writes the next c, its tanh and the next h.
#[inline(always)]
fn activate(cells: usize, z: &mut [f32], c_before: &[f32], c: &mut [f32], tanh_c: &mut [f32], h: &mut [f32]) {
    let state = c.chunks_exact_mut(cells).zip(tanh_c.chunks_exact_mut(cells)).zip(h.chunks_exact_mut(cells));
    for ((z, before), ((c, tanh_c), h)) in z.chunks_exact_mut(4 * cells).zip(c_before.chunks_exact(cells)).zip(state) {
        let (input, rest) = z.split_at_mut(cells);
        let (forget, rest) = rest.split_at_mut(cells);
        let (cell, output) = rest.split_at_mut(cells);
        for gate in [&mut *input, &mut *forget, &mut *output] {
            gate.iter_mut().for_each(|z| *z = sigmoid(*z));
        }
        cell.iter_mut().for_each(|z| *z = tanh(*z));
        for k in 0..cells {
            c[k] = forget[k] * before[k] + input[k] * cell[k];
        }
        for k in 0..cells {
            tanh_c[k] = tanh(c[k]);
            h[k] = output[k] * tanh_c[k];
        }
    }
}

/// Multiplies each row by its factor.
fn scale_rows(numbers: &mut [f32], columns: usize, factors: &[f32]) {
    for (row, &factor) in numbers.chunks_exact_mut(columns).zip(factors) {
        if factor != 1.0 {
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

/// 1 / (1 + e^−x), within 2e-7.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent, within 3e-7.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    2.0 / (1.0 + exp(-2.0 * x)) - 1.0
}

/// e^x for the activations: 2^n by the exponent's bits times 2^f by its Taylor series, f in ±½. No branch and no table, so
/// that the compiler makes vector instructions of it. NaN stays NaN; beyond ±87 it stays at e^±87.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // adding and taking away 1.5·2^23 rounds to a whole number, which then is in the low bits of the sum
    const ROUND: f32 = 12_582_912.0;
    const LN_2: [f32; 6] = {
        const L: f64 = std::f64::consts::LN_2;
        [
            L as f32,
            (L * L / 2.0) as f32,
            (L * L * L / 6.0) as f32,
            (L * L * L * L / 24.0) as f32,
            (L * L * L * L * L / 120.0) as f32,
            (L * L * L * L * L * L / 720.0) as f32,
        ]
    };
    let t = x.clamp(-87.0, 87.0) * std::f32::consts::LOG2_E;
    let rounded = t + ROUND;
    let f = t - (rounded - ROUND);
    let series = LN_2.iter().rev().fold(0.0, |sum, a| (sum + a) * f) + 1.0;
    let power = f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    series * power
}

/// The network in inference for a number of environments: one step at a time, with their states.
pub struct Stepper {
    weights: Weights,
    h: [Vec<f32>; 2],
    c: [Vec<f32>; 2],
    z: Vec<f32>,
    tanh_c: Vec<f32>,
    head: Vec<f32>,
}

impl Stepper {
    /// All states are those at the start of an episode.
    pub fn new(weights: &Weights, batch: usize) -> Self {
        assert_eq!(weights.layers, 1, "stacked LSTMs are burn's");
        let n = batch * weights.cells;
        let zeros = || [vec![0.0; n], vec![0.0; n]];
        Self {
            weights: weights.clone(),
            h: zeros(),
            c: zeros(),
            z: vec![0.0; 4 * n],
            tanh_c: vec![0.0; n],
            head: vec![0.0; batch * HEAD_OUTPUTS],
        }
    }

    /// Goes on with other weights of the same size; the states stay.
    pub fn load(&mut self, weights: &Weights) {
        self.weights.clone_from(weights);
    }

    /// The head's outputs after one step with inputs `x`, `[batch, FEATURES]`; where `keep` is 0 an episode starts. The
    /// states stay as they are until [`Stepper::advance`].
    pub fn look(&mut self, x: &[f32], keep: &[f32]) -> &[f32] {
        let cells = self.weights.cells;
        scale_rows(&mut self.h[0], cells, keep);
        scale_rows(&mut self.c[0], cells, keep);
        let cell = Cell::of(&self.weights);
        cell.project(x, &mut self.z);
        cell.recur(&self.h[0], &mut self.z);
        let [c_before, c] = &mut self.c;
        in_wide_vectors(
            #[inline(always)]
            || activate(cells, &mut self.z, c_before, c, &mut self.tanh_c, &mut self.h[1]),
        );
        let [.., head_w, head_b] = self.weights.layout().split(&self.weights.values);
        self.head.chunks_exact_mut(HEAD_OUTPUTS).for_each(|row| row.copy_from_slice(head_b));
        product(
            matrix_mut(&mut self.head, HEAD_OUTPUTS),
            Accum::Add,
            matrix(&self.h[1], cells),
            matrix(head_w, HEAD_OUTPUTS),
        );
        &self.head
    }

    /// Takes the step that [`Stepper::look`] looked at.
    pub fn advance(&mut self) {
        self.h.swap(0, 1);
        self.c.swap(0, 1);
    }

    /// The states, h and c, `[batch, cells]`.
    pub fn state(&self) -> [&[f32]; 2] {
        [&self.h[0], &self.c[0]]
    }
}

/// Whole sequences: the forward pass with all that the backward pass needs of it.
#[derive(Default)]
pub struct Tape {
    batch: usize,
    /// The gates of every step; the backward pass turns them into gradients of z.
    z: Vec<f32>,
    /// The state before each step, where an episode's start is already cleared, and the state after the last.
    h: Vec<f32>,
    c: Vec<f32>,
    tanh_c: Vec<f32>,
    hidden: Vec<f32>,
    d_h: Vec<f32>,
    d_c: Vec<f32>,
    of_state: Vec<f32>,
}

impl Tape {
    /// Runs sequences and gives the hidden state of every step, `[steps · batch, cells]`, time-major.
    ///
    /// `x` is `[steps · batch, FEATURES]`; `keep`, `[steps · batch]`, is 0 where an episode starts; `first` is the state
    /// before the first step, h and c.
    pub fn forward(&mut self, weights: &Weights, x: &[f32], keep: &[f32], first: &[Vec<f32>; 2]) -> &[f32] {
        assert_eq!(weights.layers, 1, "stacked LSTMs are burn's");
        let (cell, cells) = (Cell::of(weights), weights.cells);
        self.resize(first[0].len() / cells, keep.len(), cells);
        let n = first[0].len();
        self.h[..n].copy_from_slice(&first[0]);
        self.c[..n].copy_from_slice(&first[1]);
        cell.project(x, &mut self.z);
        for (t, keep) in keep.chunks_exact(self.batch).enumerate() {
            let (h_before, h) = self.h[t * n..].split_at_mut(n);
            let (c_before, c) = self.c[t * n..].split_at_mut(n);
            scale_rows(h_before, cells, keep);
            scale_rows(c_before, cells, keep);
            let z = &mut self.z[4 * t * n..][..4 * n];
            cell.recur(h_before, z);
            let tanh_c = &mut self.tanh_c[t * n..][..n];
            in_wide_vectors(
                #[inline(always)]
                || activate(cells, z, c_before, &mut c[..n], tanh_c, &mut h[..n]),
            );
            self.hidden[t * n..][..n].copy_from_slice(&h[..n]);
        }
        &self.hidden
    }

    fn resize(&mut self, batch: usize, steps_in_all: usize, cells: usize) {
        self.batch = batch;
        let n = batch * cells;
        self.z.resize(4 * steps_in_all * cells, 0.0);
        self.h.resize(steps_in_all * cells + n, 0.0);
        self.c.resize(steps_in_all * cells + n, 0.0);
        self.tanh_c.resize(steps_in_all * cells, 0.0);
        self.hidden.resize(steps_in_all * cells, 0.0);
        self.d_h.resize(n, 0.0);
        self.d_c.resize(n, 0.0);
        self.of_state.resize(4 * cells * cells, 0.0);
    }

    /// Adds the gradient of the LSTM's weights to `gradient` (in the order of [`Weights::values`]), given that of the hidden
    /// states. Call it once after each [`Tape::forward`], with the same arguments.
    pub fn backward(&mut self, weights: &Weights, x: &[f32], keep: &[f32], d_hidden: &[f32], gradient: &mut [f32]) {
        let (cell, cells, n) = (Cell::of(weights), weights.cells, self.batch * weights.cells);
        // one transposition is cheaper than a transposed product in every step
        transpose(cell.of_state, 4 * cells, &mut self.of_state);
        self.d_h.fill(0.0);
        self.d_c.fill(0.0);
        for (t, keep) in keep.chunks_exact(self.batch).enumerate().rev() {
            let of_step = t * n..(t + 1) * n;
            self.d_h.iter_mut().zip(&d_hidden[of_step.clone()]).for_each(|(sum, d)| *sum += d);
            let z = &mut self.z[4 * t * n..][..4 * n];
            let (c_before, tanh_c) = (&self.c[of_step.clone()], &self.tanh_c[of_step]);
            in_wide_vectors(
                #[inline(always)]
                || back(cells, z, c_before, tanh_c, &self.d_h, &mut self.d_c),
            );
            product(
                matrix_mut(&mut self.d_h, cells),
                Accum::Replace,
                matrix(z, 4 * cells),
                matrix(&self.of_state, cells),
            );
            scale_rows(&mut self.d_h, cells, keep);
            scale_rows(&mut self.d_c, cells, keep);
        }
        let (d_input, rest) = gradient.split_at_mut(FEATURE_COUNT * 4 * cells);
        let (d_state, rest) = rest.split_at_mut(4 * cells * cells);
        let d_z = matrix(&self.z, 4 * cells);
        let h_before = &self.h[..self.hidden.len()];
        product(matrix_mut(d_input, 4 * cells), Accum::Add, matrix(x, FEATURE_COUNT).transpose(), d_z);
        product(matrix_mut(d_state, 4 * cells), Accum::Add, matrix(h_before, cells).transpose(), d_z);
        for row in self.z.chunks_exact(4 * cells) {
            rest[..4 * cells].iter_mut().zip(row).for_each(|(sum, d)| *sum += d);
        }
    }
}

/// One step backward: turns the gates into the gradient of z in place, and the gradient of c' into that of c.
#[inline(always)]
fn back(cells: usize, z: &mut [f32], c_before: &[f32], tanh_c: &[f32], d_h: &[f32], d_c: &mut [f32]) {
    let state = c_before.chunks_exact(cells).zip(tanh_c.chunks_exact(cells));
    let gradients = d_h.chunks_exact(cells).zip(d_c.chunks_exact_mut(cells));
    for ((z, (before, tanh_c)), (d_h, d_c)) in z.chunks_exact_mut(4 * cells).zip(state).zip(gradients) {
        let (input, rest) = z.split_at_mut(cells);
        let (forget, rest) = rest.split_at_mut(cells);
        let (cell, output) = rest.split_at_mut(cells);
        let (before, tanh_c, d_h, d_c) = (&before[..cells], &tanh_c[..cells], &d_h[..cells], &mut d_c[..cells]);
        let (cell, output) = (&mut cell[..cells], &mut output[..cells]);
        for k in 0..cells {
            let (i, f, g, o) = (input[k], forget[k], cell[k], output[k]);
            let d = d_c[k] + d_h[k] * o * (1.0 - tanh_c[k] * tanh_c[k]);
            output[k] = d_h[k] * tanh_c[k] * o * (1.0 - o);
            input[k] = d * g * i * (1.0 - i);
            forget[k] = d * before[k] * f * (1.0 - f);
            cell[k] = d * i * (1.0 - g * g);
            d_c[k] = d * f;
        }
    }
}

/// Sets `out` to the transposition of a matrix with this many columns, some rows at a time that fill whole cache lines of it.
pub(super) fn transpose(numbers: &[f32], columns: usize, out: &mut [f32]) {
    const LINE: usize = 16;
    let rows = numbers.len() / columns;
    for (block, numbers) in numbers.chunks(LINE * columns).enumerate() {
        for (column, out) in out.chunks_exact_mut(rows).enumerate() {
            let out = out[block * LINE..].iter_mut().zip(numbers[column..].iter().step_by(columns));
            out.for_each(|(out, number)| *out = *number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposition_of_any_shape() {
        let numbers: Vec<f32> = (0..37 * 5).map(|i| i as f32).collect();
        let mut out = vec![0.0; numbers.len()];
        transpose(&numbers, 5, &mut out);
        assert!(out.iter().enumerate().all(|(i, &found)| found == numbers[i % 37 * 5 + i / 37]), "{out:?}");
    }

    #[test]
    fn the_activations_are_those_of_the_standard_library() {
        for i in -4000..=4000 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x);
            assert!((f64::from(sigmoid(x)) - 1.0 / (1.0 + (-exact).exp())).abs() < 2e-7, "{x}");
            assert!((f64::from(tanh(x)) - exact.tanh()).abs() < 3e-7, "{x}");
        }
        assert_eq!([sigmoid(1e30), tanh(1e30), tanh(-1e30)], [1.0, 1.0, -1.0]);
        assert!(sigmoid(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
    }
}
