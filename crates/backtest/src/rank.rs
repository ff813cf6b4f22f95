//! The signed-rank test of paired differences (Wilcoxon 1945): are they above zero more, and further, than below it?
//!
//! It asks nothing of the shape of the noise but that, were there no difference, both signs would be as likely; a single
//! episode that went very well or very badly cannot decide it.

use statrs::distribution::{ContinuousCDF, Normal};

/// Differences up to which the null distribution is counted out; the normal approximation is good long before.
const EXACT_MAX: usize = 60;

/// The result of a signed-rank test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedRank {
    /// Differences that are not 0; the others say nothing and are left out, as Wilcoxon did.
    pub n: usize,
    /// Sum of the ranks of the differences above 0.
    pub w_plus: f64,
    /// Probability of so large a sum, or a larger one, if both signs are as likely: the one-sided p-value.
    pub p_value: f64,
}

/// Tests whether the differences are above 0. Equal sizes share the mean of their ranks.
///
/// The p-value is exact, ties included, for up to 60 differences: it is counted over all 2ⁿ choices of signs. Above,
/// it is that of the normal approximation with continuity correction, whose variance Σ rank² / 4 is the usual
/// n(n+1)(2n+1)/24 less its correction for ties.
pub fn signed_rank_above_0(differences: &[f64]) -> SignedRank {
    let mut sizes: Vec<(f64, bool)> = differences.iter().filter(|d| **d != 0.0).map(|d| (d.abs(), *d > 0.0)).collect();
    sizes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let ranks = doubled_ranks(&sizes);
    let doubled_sum: usize = ranks.iter().zip(&sizes).filter(|(_, (_, is_above))| *is_above).map(|(r, _)| r).sum();
    let p_value = if ranks.len() <= EXACT_MAX { exact(&ranks, doubled_sum) } else { normal(&ranks, doubled_sum) };
    SignedRank { n: ranks.len(), w_plus: doubled_sum as f64 / 2.0, p_value }
}

/// Twice the rank of each of the sorted sizes: with ties a rank can be a half, and twice that is whole.
fn doubled_ranks(sorted: &[(f64, bool)]) -> Vec<usize> {
    let mut ranks = Vec::with_capacity(sorted.len());
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let before = ranks.len();
        // the ranks before + 1 to before + k have the mean before + (k + 1) / 2
        ranks.resize(before + tied.len(), 2 * before + tied.len() + 1);
    }
    ranks
}

/// P(W⁺ ≥ sum), by adding one rank after the other to the distribution of the sum.
fn exact(doubled_ranks: &[usize], doubled_sum: usize) -> f64 {
    let total: usize = doubled_ranks.iter().sum();
    let mut probability = vec![0.0; total + 1];
    probability[0] = 1.0;
    for rank in doubled_ranks {
        for sum in (0..=total).rev() {
            let with = if sum >= *rank { probability[sum - rank] } else { 0.0 };
            probability[sum] = 0.5 * (probability[sum] + with);
        }
    }
    probability[doubled_sum..].iter().sum::<f64>().min(1.0)
}

fn normal(doubled_ranks: &[usize], doubled_sum: usize) -> f64 {
    let ranks = || doubled_ranks.iter().map(|rank| *rank as f64 / 2.0);
    let (mean, variance) = (ranks().sum::<f64>() / 2.0, ranks().map(|rank| rank * rank).sum::<f64>() / 4.0);
    let z = (doubled_sum as f64 / 2.0 - mean - 0.5) / variance.sqrt();
    Normal::standard().sf(z)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(differences: &[f64]) -> f64 {
        signed_rank_above_0(differences).p_value
    }

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn small_tables_by_hand() {
        // all five above: 1 of 2⁵ choices of signs; all below: all 32
        assert!(is_near(p(&[1.0, 2.0, 3.0, 4.0, 5.0]), 1.0 / 32.0));
        assert!(is_near(p(&[-1.0, -2.0, -3.0, -4.0, -5.0]), 1.0));
        // W⁻ = 1: nothing or 1 is below; W⁻ = 3: nothing, 1, 2, 3, or 1 and 2
        assert!(is_near(p(&[-1.0, 2.0, 3.0, 4.0, 5.0]), 2.0 / 32.0));
        assert!(is_near(p(&[1.0, 2.0, -3.0, 4.0, 5.0]), 5.0 / 32.0));
        // the table's critical value of n = 8 at 0.05, one-sided: W⁻ = 5 with p = 10/256, and 6 has 14/256
        assert!(is_near(p(&[1.0, 2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0]), 10.0 / 256.0));
        assert!(is_near(p(&[1.0, 2.0, 3.0, 4.0, 5.0, -6.0, 7.0, 8.0]), 14.0 / 256.0));
    }

    #[test]
    fn ties_share_their_ranks_by_hand() {
        // ranks 1.5, 1.5, 3: the sums are 0, 1.5 (twice), 3 (twice), 4.5 (twice) and 6
        let tied = signed_rank_above_0(&[-1.0, 1.0, 2.0]);
        assert_eq!((tied.n, tied.w_plus), (3, 4.5));
        assert!(is_near(tied.p_value, 3.0 / 8.0));
        assert!(is_near(p(&[1.0, 1.0, -2.0]), 5.0 / 8.0));
    }

    #[test]
    fn zeros_say_nothing_and_nothing_says_nothing() {
        assert_eq!(signed_rank_above_0(&[0.0, 3.0, -0.0, 1.0]), signed_rank_above_0(&[3.0, 1.0]));
        assert_eq!(signed_rank_above_0(&[0.0; 24]), SignedRank { n: 0, w_plus: 0.0, p_value: 1.0 });
    }

    /// Depression scores, thousandths, of nine patients before and after a drug (Hollander and Wolfe 1973, table 3.1): T⁺ = 40, and
    /// the one-sided p-value is 0.0195.
    #[test]
    fn the_textbook_example() {
        let before = [1830, 500, 1620, 2480, 1680, 1880, 1550, 3060, 1300];
        let after = [878, 647, 598, 2050, 1060, 1290, 1060, 3140, 1290];
        let differences: Vec<f64> = before.iter().zip(after).map(|(b, a)| f64::from(b - a)).collect();
        let test = signed_rank_above_0(&differences);
        assert_eq!(test.w_plus, 40.0);
        assert!(is_near(test.p_value, 10.0 / 512.0), "{test:?}");
    }

    /// Heights of cross-fertilised less self-fertilised maize, eighths of an inch (Darwin 1876): W⁺ = 96 of 120.
    #[test]
    fn darwins_maize() {
        let eighths = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75].map(f64::from);
        let test = signed_rank_above_0(&eighths);
        assert_eq!(test.w_plus, 96.0);
        assert!(is_near(test.p_value, 676.0 / 32_768.0), "{test:?}");
    }

    #[test]
    fn the_approximation_agrees_with_the_count() {
        for (n, below) in [(40, 4), (60, 3), (60, 2)] {
            // a few sizes only, so that there are many ties
            let sorted: Vec<(f64, bool)> = (0..n).map(|i| (f64::from(i / 3), i % below != 0)).collect();
            let ranks = doubled_ranks(&sorted);
            let sum = ranks.iter().zip(&sorted).filter(|(_, s)| s.1).map(|(r, _)| r).sum();
            let (counted, approximate) = (exact(&ranks, sum), normal(&ranks, sum));
            assert!((counted - approximate).abs() < 0.002, "{counted} and {approximate} of {n}");
        }
    }

    /// The reference values are those of SciPy 1.17, `wilcoxon(d, alternative="greater", method="approx",
    /// correction=True)`.
    #[test]
    fn the_approximation_agrees_with_another_one() {
        let many: Vec<f64> = (1..=200).map(|i| if i % 3 == 0 { -f64::from(i) } else { f64::from(i) }).collect();
        assert!(is_near(p(&many), 1.531_632_624_724e-5), "{}", p(&many));
        assert!(is_near(p(&many[..61]), 0.011_830_970_829), "{}", p(&many[..61]));
        let tied: Vec<f64> = (0..80).map(|i| f64::from(1 + i / 4) * if i % 10 < 6 { 1.0 } else { -1.0 }).collect();
        assert!(is_near(p(&tied), 0.137_533_230_242), "{}", p(&tied));
    }
}
