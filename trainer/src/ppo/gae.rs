//! Generalised advantage estimation (Schulman et al. 2015, equation 16).

/// Advantages of one environment's steps.
///
/// `values` has one entry more than `rewards`: the value of the state after the last step. `discounts[t]` is what the state
/// after step t counts: γ(t), or 0 if the episode ended with step t. With δ(t) = r(t) + γ(t) V(t+1) − V(t), the advantage is
/// A(t) = δ(t) + γ(t) λ A(t+1).
pub fn advantages(rewards: &[f64], values: &[f64], discounts: &[f64], lambda: f64) -> Vec<f64> {
    let mut advantages = vec![0.0; rewards.len()];
    let mut next = 0.0;
    for t in (0..rewards.len()).rev() {
        let delta = rewards[t] + discounts[t] * values[t + 1] - values[t];
        next = delta + discounts[t] * lambda * next;
        advantages[t] = next;
    }
    advantages
}

/// Brings numbers, in several rows, to mean 0 and deviation 1; equal ones become 0.
pub fn normalise<'a>(rows: impl Iterator<Item = &'a mut [f32]>) {
    let rows: Vec<&mut [f32]> = rows.collect();
    let (mean, deviation) = mean_and_deviation(rows.iter().flat_map(|row| row.iter()).map(|&x| f64::from(x)));
    for x in rows.into_iter().flatten() {
        *x = ((f64::from(*x) - mean) / (deviation + 1e-8)) as f32;
    }
}

/// The mean and the standard deviation (of the whole, not of a sample).
pub fn mean_and_deviation(numbers: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = numbers.clone().count().max(1) as f64;
    let mean = numbers.clone().sum::<f64>() / n;
    (mean, (numbers.map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_steps_by_hand() {
        // gamma 0.5, lambda 0.5: delta = [1 + 0.5·2 − 1, 2 + 0.5·4 − 2, 3 + 0.5·8 − 4] = [1, 2, 3]
        // A2 = 3, A1 = 2 + 0.25·3 = 2.75, A0 = 1 + 0.25·2.75 = 1.6875
        let a = advantages(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0, 8.0], &[0.5; 3], 0.5);
        assert_eq!(a, [1.6875, 2.75, 3.0]);
    }

    #[test]
    fn nothing_after_the_end_of_an_episode_counts() {
        // delta1 = 2 − 2 = 0 and A1 = 0 whatever comes after; A0 = 1 + 0.25·0
        let a = advantages(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0, 8.0], &[0.5, 0.0, 0.5], 0.5);
        assert_eq!(a, [1.0, 0.0, 3.0]);
    }

    #[test]
    fn with_lambda_one_the_advantage_is_the_return_less_the_value() {
        let a = advantages(&[1.0, 1.0], &[5.0, 7.0, 16.0], &[0.5; 2], 1.0);
        assert_eq!(a, [1.0 + 0.5 + 0.25 * 16.0 - 5.0, 1.0 + 0.5 * 16.0 - 7.0]);
    }

    #[test]
    fn each_step_has_its_own_discount() {
        // delta = [1 + 0.5·2 − 1, 2 + 0.25·4 − 2] = [1, 1]; A0 = 1 + 0.5·1·1
        assert_eq!(advantages(&[1.0, 2.0], &[1.0, 2.0, 4.0], &[0.5, 0.25], 1.0), [1.5, 1.0]);
    }

    #[test]
    fn normalised_by_hand() {
        let (mut x, mut y) = ([1.0], [3.0]);
        normalise([x.as_mut_slice(), y.as_mut_slice()].into_iter());
        assert_eq!((x, y), ([-1.0], [1.0]));
        let mut same = [2.0, 2.0];
        normalise([same.as_mut_slice()].into_iter());
        assert_eq!(same, [0.0, 0.0]);
    }
}
