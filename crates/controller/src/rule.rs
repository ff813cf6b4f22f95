//! The fallback rule that production stands on when there is no policy to trust: queue-proportional, as KEDA scales,
//! one machine a tick.
//!
//! It wants `(waiting + running) / tasks_per_core` cores and takes the allowed action that comes nearest.

use contract::capacity::Bounds;
use contract::{Action, Mask, Observation, SIZE_COUNT};

/// The rule's name in decisions, back-tests and manifests.
pub const NAME: &str = "production";

/// The action of the rule: launch while at least half a machine is missing, largest step first; stop an idle surplus.
///
/// Without a queue depth it does nothing, for then nothing is known. As with KEDA, the first machine is launched as
/// soon as a task waits, and the last one stays while there is a task: otherwise a task that is worth less than half a
/// machine would never run, or be interrupted each time it does.
pub fn decide(o: &Observation, tasks_per_core: f64, mask: &Mask) -> Action {
    debug_assert!(tasks_per_core > 0.0, "checked by the configuration");
    let (Some(queue), Some(running)) = (o.queue_depth, o.running) else { return Action::Nothing };
    match towards(o, f64::from(queue + running) / tasks_per_core, mask) {
        Action::Nothing if queue > 0 && o.billed_cores() == 0 => first_machine(o, mask),
        Action::Stop(size) if queue + running > 0 && o.billed_cores() == o.cores[usize::from(size)] => Action::Nothing,
        action => action,
    }
}

/// The launch of the smallest machine that is allowed now.
fn first_machine(o: &Observation, mask: &Mask) -> Action {
    let launches = (0..SIZE_COUNT).map(|i| Action::Launch(i as u16)).filter(|launch| mask[launch.index()]);
    launches.min_by_key(|launch| launch.size().map(|size| o.cores[size])).unwrap_or_default()
}

/// The allowed action that brings the fleet, booting machines included, nearest to `wanted_cores`.
pub fn towards(o: &Observation, wanted_cores: f64, mask: &Mask) -> Action {
    let gap = wanted_cores - f64::from(o.billed_cores());
    let allowed = steps(o).into_iter().filter(|(action, _)| mask[action.index()]);
    let best = allowed.min_by(|a, b| distance(gap, a.1).total_cmp(&distance(gap, b.1)));
    best.map_or(Action::Nothing, |(action, _)| action)
}

/// The name of [`below_min`] in decisions.
pub const MINIMUM: &str = "minimum";

/// The launch that brings a fleet below its minimum (new, or after losses) back to it, if one is allowed now. It comes
/// before any policy: the minimum is a promise, not a wish.
pub fn below_min(o: &Observation, bounds: &[Bounds; SIZE_COUNT], mask: &Mask) -> Option<Action> {
    (0..SIZE_COUNT)
        .filter(|i| o.fleet[*i].total() < bounds[*i].min())
        .map(|i| Action::Launch(i as u16))
        .find(|action| mask[action.index()])
}

/// How far from the wanted cores an action that changes them by `step` leaves the fleet.
fn distance(gap: f64, step: f64) -> f64 {
    (gap - step).abs()
}

/// Every action with the cores that it adds; doing nothing comes first and so wins ties.
fn steps(o: &Observation) -> [(Action, f64); contract::ACTION_COUNT] {
    std::array::from_fn(|i| {
        let action = Action::from(i as u16);
        let step = match action {
            Action::Nothing => 0.0,
            Action::Launch(s) => f64::from(o.cores[usize::from(s)]),
            Action::Stop(s) => -f64::from(o.cores[usize::from(s)]),
        };
        (action, step)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::capacity::Counts;

    fn observation(queue: u32, running: u32, large: u32) -> Observation {
        let one = Counts { ready: 1, booting: 0 };
        Observation {
            queue_depth: Some(queue),
            running: Some(running),
            fleet: [one, one, Counts { ready: large, booting: 0 }],
            ..Observation::empty([2, 4, 8])
        }
    }

    #[test]
    fn it_moves_the_fleet_towards_the_wanted_cores() {
        let all = [true; 7];
        assert_eq!(decide(&observation(50, 14, 1), 1.5, &all), Action::Launch(2));
        assert_eq!(decide(&observation(0, 0, 3), 1.5, &all), Action::Stop(2));
        assert_eq!(decide(&observation(0, 21, 1), 1.5, &all), Action::Nothing);
        assert_eq!(decide(&observation(3, 21, 1), 1.5, &all), Action::Launch(0));
    }

    #[test]
    fn a_single_task_gets_a_first_machine_and_keeps_it() {
        let empty = Observation { fleet: [Counts::default(); 3], ..observation(1, 0, 0) };
        let mut mask = [true; 7];
        assert_eq!(decide(&empty, 1.5, &mask), Action::Launch(0));
        mask[Action::Launch(0).index()] = false;
        assert_eq!(decide(&empty, 1.5, &mask), Action::Launch(1));
        let idle = Observation { queue_depth: Some(0), ..empty.clone() };
        assert_eq!(decide(&idle, 1.5, &[true; 7]), Action::Nothing);
        let one = [Counts { ready: 1, booting: 0 }, Counts::default(), Counts::default()];
        let at_work = Observation { running: Some(1), fleet: one, ..idle.clone() };
        assert_eq!(decide(&at_work, 1.5, &[true; 7]), Action::Nothing);
        let done = Observation { running: Some(0), fleet: one, ..idle };
        assert_eq!(decide(&done, 1.5, &[true; 7]), Action::Stop(0));
        let two = [Counts { ready: 1, booting: 0 }, Counts { ready: 1, booting: 0 }, Counts::default()];
        let surplus = Observation { running: Some(1), fleet: two, ..done };
        assert_eq!(decide(&surplus, 1.5, &[true; 7]), Action::Stop(1), "only the last machine is kept");
    }

    #[test]
    fn a_fleet_below_its_minimum_is_brought_back_smallest_size_first() {
        let bounds =
            [Bounds::new(1, Some(9)).unwrap(), Bounds::new(2, Some(9)).unwrap(), Bounds::new(0, None).unwrap()];
        let o = observation(0, 0, 0);
        assert_eq!(below_min(&o, &bounds, &[true; 7]), Some(Action::Launch(1)));
        let mut mask = [true; 7];
        mask[Action::Launch(1).index()] = false;
        assert_eq!(below_min(&o, &bounds, &mask), None);
        let low = [Bounds::new(1, None).unwrap(); 3];
        assert_eq!(below_min(&observation(0, 0, 1), &low, &[true; 7]), None);
    }

    #[test]
    fn it_respects_the_mask_and_does_nothing_in_the_dark() {
        let mut mask = [true; 7];
        mask[Action::Launch(2).index()] = false;
        assert_eq!(decide(&observation(50, 14, 1), 1.5, &mask), Action::Launch(1));
        let dark = Observation { queue_depth: None, ..observation(50, 14, 1) };
        assert_eq!(decide(&dark, 1.5, &[true; 7]), Action::Nothing);
    }
}
