//! The recurrent state that a policy goes on from at a tick, from the decisions before it.

use contract::decision::Decision;
use contract::limits::LSTM_GAP_TICKS_MAX;
use contract::observation::encode;

use crate::{Policy, PolicyError, State};

/// The last decision's state, if it is this policy's and young enough at `tick` (seconds, as is `tick_s`).
pub fn carried(policy: &Policy, last: Option<&Decision>, tick: u64, tick_s: u64) -> Option<State> {
    let last = last?;
    let gap_ticks = tick.saturating_sub(last.tick) / tick_s.max(1);
    let state = last.lstm.as_ref().filter(|s| s.policy == policy.sha256() && gap_ticks <= LSTM_GAP_TICKS_MAX)?;
    (state.h.len() == policy.cells() && state.c.len() == policy.cells())
        .then(|| State { h: state.h.clone(), c: state.c.clone() })
}

/// The state after these decisions' observations, oldest first, as if the policy had been in charge.
///
/// # Errors
/// If the policy cannot take one of the steps.
pub fn warmed_up<'a>(policy: &Policy, past: impl IntoIterator<Item = &'a Decision>) -> Result<State, PolicyError> {
    let mut state = policy.zero_state();
    for decision in past {
        policy.step(&encode(&decision.observation), &decision.mask, &mut state)?;
    }
    Ok(state)
}
