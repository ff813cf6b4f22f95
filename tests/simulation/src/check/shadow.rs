//! What must hold for a decision that has a shadow ledger: nothing is done, and the books balance with the decision before.

use contract::action::Action;
use contract::decision::{Decision, Verdict};
use contract::observation::Observation;
use contract::shadow::{Account, Shadow};
use controller::ports::Decisions;
use controller::reason::Hold;

use super::{Checked, Scene, ensure};
use crate::now;

/// I10 and the books. `recent`: ticks that were decided since the evaluator began; it may not have seen them.
pub(super) fn balanced(scene: Scene<'_>, d: &Decision, recent: &[u64]) -> Checked {
    let Some(shadow) = &d.shadow else {
        return ensure(Hold::of_decision(d) != Some(Hold::Observe), "I10", || format!("{} has no ledger", d.tick));
    };
    ensure(d.verdict == Verdict::Hold, "I10", || format!("{} acts in mode observe", d.tick))?;
    ensure(carried_out(d, shadow), "books", || format!("{} at {} made {:?}", d.action, d.tick, shadow.fleet()))?;
    if shadow.since == d.tick {
        let empty = shadow.ticks == 1 && shadow.real == Account::default() && shadow.shadow == Account::default();
        return ensure(empty, "books", || format!("a ledger begins at {} with {shadow:?}", d.tick));
    }
    let limit = 1 + recent.len();
    let past = now(scene.world.outside().before(&d.pool, d.tick, limit)).expect("the outside's calls never fail");
    let balances = past.iter().any(|last| adds_up(scene, last, d, shadow));
    ensure(balances, "books", || format!("the books at {} do not follow from those before: {shadow:?}", d.tick))
}

/// Whether the shadow fleet is the one that was seen, and the action if it would have been carried out.
fn carried_out(d: &Decision, shadow: &Shadow) -> bool {
    let acts = Hold::of_decision(d) == Some(Hold::Observe);
    (0..3).all(|size| {
        let step = match d.action {
            Action::Launch(s, n) if acts && usize::from(s) == size => i64::from(n),
            Action::Stop(s, n) if acts && usize::from(s) == size => -i64::from(n),
            _ => 0,
        };
        i64::from(shadow.fleet()[size].total()) == i64::from(d.observation.fleet[size].total()) + step
    })
}

/// Whether a decision's books are those of the one before and the time between.
fn adds_up(scene: Scene<'_>, last: &Decision, d: &Decision, shadow: &Shadow) -> bool {
    let Some(before) = last.shadow.as_ref().filter(|before| before.since == shadow.since) else { return false };
    let hours = (d.tick - last.tick) as f64 / 3600.0;
    let machines = |o: &Observation| -> f64 {
        let prices = scene.config.sizes.iter().map(|size| size.usd_per_hour);
        o.fleet.iter().zip(prices).map(|(n, usd)| f64::from(n.ready) * usd * hours).sum()
    };
    let waiting =
        |o: &Observation| f64::from(o.queue_depth.unwrap_or(0)) * scene.config.queue_usd_per_task_hour * hours;
    // What is seen is whole tasks; the books count the fluid.
    let half_a_task = 0.5 * scene.config.queue_usd_per_task_hour * hours + 1e-9;
    let near = |a: f64, b: f64, by: f64| (a - b).abs() <= by;
    shadow.ticks == before.ticks + 1
        && near(shadow.real.machines_usd, before.real.machines_usd + machines(d.measured()), 1e-9)
        && near(shadow.shadow.machines_usd, before.shadow.machines_usd + machines(&d.observation), 1e-9)
        && near(shadow.real.waiting_usd, before.real.waiting_usd + waiting(d.measured()), 1e-9)
        && near(shadow.shadow.waiting_usd, before.shadow.waiting_usd + waiting(&d.observation), half_a_task)
}
