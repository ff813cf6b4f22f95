//! The loss of PPO (Schulman et al. 2017, equation 9) and the one of behaviour cloning.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

/// What the loss needs to know of each step, as tensors: `n` steps, one a row.
pub struct Targets {
    /// 1 at the action that was taken (or that a teacher would take), `[n, ACTIONS]`.
    pub action: Tensor<2>,
    /// 1 at the action that a teacher would take, nothing where there is none, `[n, ACTIONS]`.
    pub advice: Tensor<2>,
    /// Added to the logits: 0 for an allowed action, very low for a refused one, `[n, ACTIONS]`.
    pub penalty: Tensor<2>,
    /// Logarithm of the action's probability when it was taken, `[n, 1]`.
    pub old_log_prob: Tensor<2>,
    /// Advantage, `[n, 1]`.
    pub advantage: Tensor<2>,
    /// Discounted reward to come, `[n, 1]`.
    pub value: Tensor<2>,
}

/// How much each term counts.
#[derive(Clone, Copy, Debug)]
pub struct Coefficients {
    /// Clip range of the probability ratio.
    pub clip: f32,
    /// Of the value's error.
    pub value: f32,
    /// Of the entropy.
    pub entropy: f32,
    /// Of the cross entropy to the teacher's action, while learning by PPO.
    pub advice: f32,
}

/// The loss and its parts, each a mean over the steps.
pub struct Loss {
    /// What is minimised.
    pub total: Tensor<1>,
    /// −min(ratio · A, clipped ratio · A), or the cross entropy to the teacher's action.
    pub policy: Tensor<1>,
    /// Half the squared error of the value.
    pub value: Tensor<1>,
    /// Entropy of the policy, nats.
    pub entropy: Tensor<1>,
    /// How far the policy has moved: mean of ratio − 1 − ln ratio, an estimate of the Kullback–Leibler divergence.
    pub kl: Tensor<1>,
    /// Share of the steps whose ratio is beyond the clip range; 0 of cloning.
    pub clipped: Tensor<1>,
}

/// PPO: the clipped surrogate, the value's error, the entropy bonus, and what departs from the teacher's actions (kickstarting,
/// Schmitt et al. 2018).
pub fn ppo(logits: Tensor<2>, value: Tensor<2>, targets: &Targets, by: Coefficients) -> Loss {
    let log_probs = log_softmax(logits + targets.penalty.clone(), 1);
    let log_ratio = of_action(&log_probs, &targets.action) - targets.old_log_prob.clone();
    let ratio = log_ratio.clone().exp();
    let clipped = ratio.clone().clamp(1.0 - by.clip, 1.0 + by.clip);
    let surrogate = (ratio.clone() * targets.advantage.clone()).min_pair(clipped * targets.advantage.clone());
    let moved = ratio.sub_scalar(1.0);
    let clipped = moved.clone().abs().greater_elem(by.clip).float().mean();
    let kl = (moved - log_ratio).mean();
    let departs = of_action(&log_probs, &targets.advice).mean().neg();
    let loss = total(surrogate.neg().mean(), value, log_probs, kl, targets, by);
    Loss { total: loss.total + departs.mul_scalar(by.advice), clipped, ..loss }
}

/// Behaviour cloning: the cross entropy to the teacher's action, the value's error on the side.
pub fn cloning(logits: Tensor<2>, value: Tensor<2>, targets: &Targets, by: Coefficients) -> Loss {
    let log_probs = log_softmax(logits + targets.penalty.clone(), 1);
    let log_prob = of_action(&log_probs, &targets.action);
    let kl = (log_prob.clone() - targets.old_log_prob.clone()).mean();
    total(log_prob.neg().mean(), value, log_probs, kl, targets, by)
}

fn of_action(log_probs: &Tensor<2>, action: &Tensor<2>) -> Tensor<2> {
    (log_probs.clone() * action.clone()).sum_dim(1)
}

fn total(
    policy: Tensor<1>,
    value: Tensor<2>,
    log_probs: Tensor<2>,
    kl: Tensor<1>,
    targets: &Targets,
    by: Coefficients,
) -> Loss {
    let error = value - targets.value.clone();
    let value = (error.clone() * error).mean().mul_scalar(0.5);
    // a refused action has probability 0 and a finite logarithm, so it adds 0
    let entropy = (log_probs.clone().exp() * log_probs).sum_dim(1).mean().neg();
    let total = policy.clone() + value.clone().mul_scalar(by.value) - entropy.clone().mul_scalar(by.entropy);
    Loss { total, policy, value, entropy, clipped: kl.zeros_like(), kl }
}

#[cfg(test)]
mod tests {
    use super::super::model::{REFUSED, rows};
    use super::*;
    use burn::tensor::Device;

    const BY: Coefficients = Coefficients { clip: 0.2, value: 0.5, entropy: 0.01, advice: 0.0 };

    /// Two steps, two allowed actions with logits 0 (probability ½ each), the rest refused.
    fn example(old: [f32; 2], advantage: [f32; 2]) -> (Tensor<2>, Tensor<2>, Targets) {
        let device = Device::flex();
        let seven = |first: [f32; 2], rest: f32| [&first[..], &[rest; 5]].concat();
        let two = |x: [f32; 2]| rows(x.to_vec(), 1, &device);
        let targets = Targets {
            action: rows([seven([1.0, 0.0], 0.0), seven([0.0, 1.0], 0.0)].concat(), 7, &device),
            advice: rows([seven([0.0, 1.0], 0.0), seven([0.0, 0.0], 0.0)].concat(), 7, &device),
            penalty: rows(seven([0.0, 0.0], -REFUSED).repeat(2), 7, &device),
            old_log_prob: two(old.map(f32::ln)),
            advantage: two(advantage),
            value: two([1.0, 2.0]),
        };
        (rows(vec![0.0; 14], 7, &device), two([0.0, 4.0]), targets)
    }

    fn near(tensor: Tensor<1>, expected: f32) {
        let found = tensor.into_scalar::<f32>();
        assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
    }

    #[test]
    fn ppo_by_hand() {
        // ratios: 0.5/0.25 = 2, cut to 1.2 for the positive advantage; 0.5/0.5 = 1
        let (logits, value, targets) = example([0.25, 0.5], [1.0, -3.0]);
        let loss = ppo(logits, value, &targets, BY);
        near(loss.policy.clone(), -(1.2 - 3.0) / 2.0);
        near(loss.value.clone(), 0.5 * (1.0 + 4.0) / 2.0);
        near(loss.entropy.clone(), 2f32.ln());
        near(loss.kl, (1.0 - 2f32.ln()) / 2.0);
        near(loss.clipped, 0.5);
        let total = 0.9 + 0.5 * 1.25 - 0.01 * 2f32.ln();
        near(loss.total, total);
        // advice for the first step alone, probability ½
        let (logits, value, targets) = example([0.25, 0.5], [1.0, -3.0]);
        near(ppo(logits, value, &targets, Coefficients { advice: 0.1, ..BY }).total, total + 0.1 * 2f32.ln() / 2.0);
    }

    #[test]
    fn a_worse_action_that_became_more_probable_is_not_cut() {
        // ratio 2 with advantage −1: min(−2, −1.2) = −2
        let (logits, value, targets) = example([0.25, 0.5], [-1.0, 0.0]);
        near(ppo(logits, value, &targets, BY).policy, 1.0);
    }

    #[test]
    fn cloning_by_hand() {
        let (logits, value, targets) = example([0.5, 0.5], [0.0, 0.0]);
        let loss = cloning(logits, value, &targets, BY);
        near(loss.policy, 2f32.ln());
        near(loss.clipped, 0.0);
        near(loss.total, 2f32.ln() + 0.5 * 1.25 - 0.01 * 2f32.ln());
    }
}
