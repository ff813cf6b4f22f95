//! The fallback rule that production stands on when there is no policy to trust: queue-proportional, as KEDA scales,
//! one action a tick.
//!
//! It wants `(waiting + running) / tasks_per_core` cores and takes the allowed action that comes nearest.

use contract::capacity::Bounds;
use contract::{ACTION_COUNT, Action, Mask, Observation, SIZE_COUNT, STEPS};

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
    let tasks = queue.saturating_add(running);
    let mask = &if tasks > 0 { keeping_one(o, mask) } else { *mask };
    match towards(o, f64::from(tasks) / tasks_per_core, mask) {
        Action::Nothing if queue > 0 && o.billed_cores() == 0 => first_machine(o, mask),
        action => action,
    }
}

/// The mask without the stops that would leave no machine.
fn keeping_one(o: &Observation, mask: &Mask) -> Mask {
    let left = |action: Action| i64::from(o.billed_cores()) + cores_added(action, o);
    std::array::from_fn(|i| mask[i] && (!matches!(Action::at(i), Action::Stop(..)) || left(Action::at(i)) > 0))
}

/// The launch of the smallest machine that is allowed now.
fn first_machine(o: &Observation, mask: &Mask) -> Action {
    let launches = (0..SIZE_COUNT).map(|i| Action::Launch(i as u16, 1)).filter(|launch| launch.is_allowed(mask));
    launches.min_by_key(|launch| launch.size().map(|size| o.cores[size])).unwrap_or_default()
}

/// The allowed action that brings the fleet, booting machines included, nearest to `wanted_cores`.
pub fn towards(o: &Observation, wanted_cores: f64, mask: &Mask) -> Action {
    let gap = wanted_cores - f64::from(o.billed_cores());
    let left = |action: &Action| (gap - cores_added(*action, o) as f64).abs();
    let allowed = (0..ACTION_COUNT).filter(|i| mask[*i]).map(Action::at);
    // doing nothing comes first in the table, and fewer machines before more: they win ties
    allowed.min_by(|a, b| left(a).total_cmp(&left(b))).unwrap_or_default()
}

/// The name of [`below_min`] in decisions.
pub const MINIMUM: &str = "minimum";

/// The launch that brings a fleet below its minimum (new, or after losses) back to it, if one is allowed now. It comes
/// before any policy: the minimum is a promise, not a wish.
pub fn below_min(o: &Observation, bounds: &[Bounds; SIZE_COUNT], mask: &Mask) -> Option<Action> {
    let missing = |i: usize| bounds[i].min().saturating_sub(o.fleet[i].total());
    let steps = |i: usize| STEPS.into_iter().rev().filter(move |n| u32::from(*n) <= missing(i));
    let launches = (0..SIZE_COUNT).flat_map(|i| steps(i).map(move |n| Action::Launch(i as u16, n)));
    launches.into_iter().find(|launch| launch.is_allowed(mask))
}

/// Cores that an action adds to the fleet; a stop takes them away.
fn cores_added(action: Action, o: &Observation) -> i64 {
    let cores = |size: u16| i64::from(o.cores[usize::from(size)]) * i64::from(action.machines());
    match action {
        Action::Nothing => 0,
        Action::Launch(size, _) => cores(size),
        Action::Stop(size, _) => -cores(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::capacity::Counts;

    /// All actions of one machine.
    const ONE: Mask = {
        let mut mask = [false; ACTION_COUNT];
        let mut i = 0;
        while i < 1 + 2 * SIZE_COUNT {
            mask[i] = true;
            i += 1;
        }
        mask
    };
    const ALL: Mask = [true; ACTION_COUNT];

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
        let all = ONE;
        assert_eq!(decide(&observation(50, 14, 1), 1.5, &all), Action::Launch(2, 1));
        assert_eq!(decide(&observation(0, 0, 3), 1.5, &all), Action::Stop(2, 1));
        assert_eq!(decide(&observation(0, 21, 1), 1.5, &all), Action::Nothing);
        assert_eq!(decide(&observation(3, 21, 1), 1.5, &all), Action::Launch(0, 1));
    }

    #[test]
    fn a_single_task_gets_a_first_machine_and_keeps_it() {
        let empty = Observation { fleet: [Counts::default(); 3], ..observation(1, 0, 0) };
        let mut mask = ONE;
        assert_eq!(decide(&empty, 1.5, &mask), Action::Launch(0, 1));
        mask[1] = false;
        assert_eq!(decide(&empty, 1.5, &mask), Action::Launch(1, 1));
        let idle = Observation { queue_depth: Some(0), ..empty.clone() };
        assert_eq!(decide(&idle, 1.5, &ONE), Action::Nothing);
        let one = [Counts { ready: 1, booting: 0 }, Counts::default(), Counts::default()];
        let at_work = Observation { running: Some(1), fleet: one, ..idle.clone() };
        assert_eq!(decide(&at_work, 1.5, &ONE), Action::Nothing);
        let done = Observation { running: Some(0), fleet: one, ..idle };
        assert_eq!(decide(&done, 1.5, &ONE), Action::Stop(0, 1));
        let two = [Counts { ready: 1, booting: 0 }, Counts { ready: 1, booting: 0 }, Counts::default()];
        let surplus = Observation { running: Some(1), fleet: two, ..done };
        assert_eq!(decide(&surplus, 1.5, &ONE), Action::Stop(1, 1), "only the last machine is kept");
    }

    #[test]
    fn a_fleet_below_its_minimum_is_brought_back_smallest_size_first() {
        let bounds =
            [Bounds::new(1, Some(9)).unwrap(), Bounds::new(2, Some(9)).unwrap(), Bounds::new(0, None).unwrap()];
        let o = observation(0, 0, 0);
        assert_eq!(below_min(&o, &bounds, &ONE), Some(Action::Launch(1, 1)));
        let mut mask = ONE;
        mask[3] = false;
        assert_eq!(below_min(&o, &bounds, &mask), None);
        let low = [Bounds::new(1, None).unwrap(); 3];
        assert_eq!(below_min(&observation(0, 0, 1), &low, &ONE), None);
    }

    #[test]
    fn with_larger_steps_it_goes_there_at_once() {
        // 14 cores; (100 + 14) / 1.5 = 76 wanted: four L bring 32, the most there is
        assert_eq!(decide(&observation(100, 14, 1), 1.5, &ALL), Action::Launch(2, 4));
        // (25 + 14) / 1.5 = 26 wanted, 12 missing: 4 M, 2 L and L are all 4 off, and the fewest machines win
        assert_eq!(decide(&observation(25, 14, 1), 1.5, &ALL), Action::Launch(2, 1));
        assert_eq!(decide(&observation(0, 0, 5), 1.5, &ALL), Action::Stop(2, 4));
    }

    #[test]
    fn a_large_stop_leaves_the_last_machine_while_there_is_a_task() {
        let two = [Counts { ready: 2, booting: 0 }, Counts::default(), Counts::default()];
        let of_s: Mask = std::array::from_fn(|i| Action::at(i).size().is_none_or(|size| size == 0));
        let o = Observation { fleet: two, ..observation(0, 1, 0) };
        assert_eq!(decide(&o, 1.5, &of_s), Action::Stop(0, 1));
        assert_eq!(decide(&Observation { running: Some(0), ..o }, 1.5, &of_s), Action::Stop(0, 2));
    }

    #[test]
    fn what_is_missing_to_the_minimum_comes_in_the_largest_step_that_fits() {
        let bounds = [Bounds::new(0, None).unwrap(), Bounds::new(4, None).unwrap(), Bounds::new(0, None).unwrap()];
        let o = observation(0, 0, 0);
        assert_eq!(below_min(&o, &bounds, &ALL), Some(Action::Launch(1, 2)), "three are missing");
        assert_eq!(below_min(&o, &bounds, &ONE), Some(Action::Launch(1, 1)));
    }

    #[test]
    fn it_respects_the_mask_and_does_nothing_in_the_dark() {
        let mut mask = ONE;
        mask[5] = false;
        assert_eq!(decide(&observation(50, 14, 1), 1.5, &mask), Action::Launch(1, 1));
        let dark = Observation { queue_depth: None, ..observation(50, 14, 1) };
        assert_eq!(decide(&dark, 1.5, &ONE), Action::Nothing);
    }
}
