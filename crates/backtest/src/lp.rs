//! A linear programme whose optimum is certified: the number returned is a lower bound even if the solver is sloppy.
//!
//! For any multipliers `z` (not negative on inequalities), `min c·x` over `Ax ≤ b` and `lo ≤ x ≤ hi` is at least
//! `−z·b + Σ_j min(lo_j r_j, hi_j r_j)` with `r = c + Aᵀz` (weak duality). The solver's dual solution gives the `z`.

use clarabel::algebra::CscMatrix;
use clarabel::solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver, NonnegativeConeT, SupportedConeT, ZeroConeT};

/// A variable of a programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Var(usize);

/// `min c·x` over boxes, equalities and inequalities.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programme {
    cost: Vec<f64>,
    boxes: Vec<(f64, f64)>,
    equal: Rows,
    at_most: Rows,
}

#[derive(Clone, Debug, Default)]
struct Rows {
    entries: Vec<(usize, usize, f64)>,
    limits: Vec<f64>,
}

impl Rows {
    fn add(&mut self, terms: &[(f64, Var)], limit: f64) {
        let row = self.limits.len();
        self.entries.extend(terms.iter().map(|(factor, var)| (row, var.0, *factor)));
        self.limits.push(limit);
    }
}

impl Programme {
    /// A variable between `low` and `high`, both finite, that costs `cost` a unit.
    pub fn var(&mut self, low: f64, high: f64, cost: f64) -> Var {
        debug_assert!(low.is_finite() && high.is_finite() && low <= high, "{low} {high}");
        self.boxes.push((low, high));
        self.cost.push(cost);
        Var(self.cost.len() - 1)
    }

    /// Makes a unit of a variable dearer.
    pub fn charge(&mut self, var: Var, cost: f64) {
        self.cost[var.0] += cost;
    }

    /// `Σ terms = value`.
    pub fn equal(&mut self, terms: &[(f64, Var)], value: f64) {
        self.equal.add(terms, value);
    }

    /// `Σ terms ≤ value`.
    pub fn at_most(&mut self, terms: &[(f64, Var)], value: f64) {
        self.at_most.add(terms, value);
    }

    /// A lower bound of the minimum, as near to it as the solver got.
    pub fn certified_minimum(&self) -> f64 {
        let (n, m_equal, m) = (self.cost.len(), self.equal.limits.len(), self.rows());
        // the boxes are rows to the solver, low ones first
        let (mut rows, mut cols, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let mut put = |row: usize, col: usize, value: f64| {
            rows.push(row);
            cols.push(col);
            values.push(value);
        };
        self.entries().for_each(|(row, col, value)| put(row, col, value));
        (0..n).for_each(|j| put(m + j, j, -1.0));
        (0..n).for_each(|j| put(m + n + j, j, 1.0));
        let a = CscMatrix::new_from_triplets(m + 2 * n, n, rows, cols, values);
        let lows = self.boxes.iter().map(|b| -b.0);
        let b: Vec<f64> = self.limits().chain(lows).chain(self.boxes.iter().map(|b| b.1)).collect();
        let cones: [SupportedConeT<f64>; 2] = [ZeroConeT(m_equal), NonnegativeConeT(m - m_equal + 2 * n)];
        let settings = DefaultSettingsBuilder::default().verbose(false).build().expect("valid settings");
        let p = CscMatrix::zeros((n, n));
        let mut solver = DefaultSolver::new(&p, &self.cost, &a, &b, &cones, settings).expect("dimensions agree");
        solver.solve();
        self.bound(&solver.solution.z[..m])
    }

    fn rows(&self) -> usize {
        self.equal.limits.len() + self.at_most.limits.len()
    }

    fn limits(&self) -> impl Iterator<Item = f64> {
        self.equal.limits.iter().chain(&self.at_most.limits).copied()
    }

    fn entries(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        let first = self.equal.limits.len();
        let at_most = self.at_most.entries.iter().map(move |(row, col, x)| (first + row, *col, *x));
        self.equal.entries.iter().copied().chain(at_most)
    }

    /// What weak duality says about the multipliers `z`.
    fn bound(&self, z: &[f64]) -> f64 {
        let m_equal = self.equal.limits.len();
        let z = |row: usize| if row < m_equal { z[row] } else { z[row].max(0.0) };
        let mut reduced = self.cost.clone();
        self.entries().for_each(|(row, col, value)| reduced[col] += value * z(row));
        let of_rows: f64 = self.limits().enumerate().map(|(row, limit)| -z(row) * limit).sum();
        let of_boxes: f64 = reduced.iter().zip(&self.boxes).map(|(r, (lo, hi))| (lo * r).min(hi * r)).sum();
        of_rows + of_boxes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programme() -> Programme {
        // min −x − 2y over x + y ≤ 4, x − y = 1, boxes 0..10: x = 2.5, y = 1.5, −5.5
        let mut p = Programme::default();
        let (x, y) = (p.var(0.0, 10.0, -1.0), p.var(0.0, 10.0, -2.0));
        p.at_most(&[(1.0, x), (1.0, y)], 4.0);
        p.equal(&[(1.0, x), (-1.0, y)], 1.0);
        p
    }

    #[test]
    fn a_programme_by_hand() {
        let minimum = programme().certified_minimum();
        assert!(minimum <= -5.5 + 1e-9 && minimum > -5.5 - 1e-5, "{minimum}");
    }

    #[test]
    fn any_multipliers_give_a_bound_and_none_is_above_the_minimum() {
        for z in [[0.0, 0.0], [0.5, 1.5], [3.0, -2.0], [-1.0, 0.2], [0.1, -7.0]] {
            assert!(programme().bound(&z) <= -5.5 + 1e-9, "{z:?}");
        }
    }
}
