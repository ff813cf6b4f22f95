//! The windows of history that a job learns from and compares on, each as a twin.
//!
//! A candidate goes on from the policy in charge, which learned from what was new when it was trained. What judges the
//! candidate must not have taught its ancestors, so that time itself is cut into windows, and each is held out by all runs or
//! by none.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use calibration::fit::{Fit, fit};
use calibration::{Recorded, TwinError, Window, twin_error};
use controller::ports::{Control, Decisions, Instances, Tasks};
use twin::{EnvSpec, Perturbation};

use super::{ImproveError, Request, unless_stopped};
use crate::commands::window::{self, Ports};
use crate::course::Course;

/// Tasks below which a window says too little.
const TASKS_MIN: usize = 20;
/// How far training and comparison depart from what a window shows.
const PERTURBATION: Perturbation =
    Perturbation { runtime_log_sigma: 0.1, arrival_jitter_s: 60.0, ..Perturbation::NONE };

/// One window.
pub struct OneWindow {
    /// How many tasks its records have.
    pub tasks: usize,
    /// What they say of boots, run times, failures and metrics.
    pub fit: Fit,
    /// The twin against reality.
    pub error: TwinError,
    /// The window in the twin with all that the fit says, its tuned rules with it.
    pub course: Course,
}

/// The last window, and those of the grid, the newest first.
pub struct Windows {
    /// The last one: what the twin is measured on.
    pub last: OneWindow,
    /// Those of the grid that are learned from.
    pub to_learn: Vec<OneWindow>,
    /// Those of the grid that nobody ever learns from.
    pub held_out: Vec<OneWindow>,
}

impl Windows {
    /// What is learned from. A pool so young that all it has is held out learns from the last window all the same.
    pub fn learned(&self) -> Vec<Course> {
        if self.to_learn.is_empty() { vec![self.last.course.clone()] } else { courses(&self.to_learn) }
    }

    /// What the gate judges on: windows that were not learned from, and that the twin is right about: its error is at most
    /// `twin_error_max`. If there is none, it is the last one, of which other perturbed copies are played than those
    /// learned from; about that the gate itself looks at the error.
    pub fn judged(&self, twin_error_max: f64) -> Vec<Course> {
        let judged = self.apart(twin_error_max);
        if judged.is_empty() { vec![self.last.course.clone()] } else { judged }
    }

    /// Whether none of what the gate judges on was learned from.
    pub fn judges_apart(&self, twin_error_max: f64) -> bool {
        !self.apart(twin_error_max).is_empty()
    }

    fn apart(&self, twin_error_max: f64) -> Vec<Course> {
        if self.to_learn.is_empty() {
            return Vec::new();
        }
        let is_right = |w: &&OneWindow| w.error.relative().is_none_or(|error| error <= twin_error_max);
        self.held_out.iter().filter(is_right).map(|w| w.course.clone()).collect()
    }
}

fn courses(windows: &[OneWindow]) -> Vec<Course> {
    windows.iter().map(|w| w.course.clone()).collect()
}

/// A window of the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    window: Window,
    is_held_out: bool,
}

/// Windows as long as the last one, cut from time where they always are, so that a run finds held out what every run
/// before it held out: the one that the last window ends in, as far as it has come, and `older` before it.
fn parts(last: Window, older: u32) -> impl Iterator<Item = Part> {
    let (length_ms, until_ms) = (last.until_ms - last.from_ms, last.until_ms);
    let newest = (until_ms - 1) / length_ms;
    let window = move |i: u64| Window { from_ms: i * length_ms, until_ms: ((i + 1) * length_ms).min(until_ms) };
    let indexes = (0..=u64::from(older)).map_while(move |k| newest.checked_sub(k));
    indexes.map(move |i| Part { window: window(i), is_held_out: is_held_out(i) })
}

/// 2⁶⁴ over the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Whether nobody ever learns from a window of the grid: one of every two neighbours. Which one, the multiples of the golden
/// ratio say, for they lie evenly in every progression: each time of the day and each day of the week is learned from as
/// often as it is judged on, whatever the length of the windows.
fn is_held_out(index: u64) -> bool {
    let is_second = (index / 2).wrapping_mul(GOLDEN) >> 63 == 1;
    (index % 2 == 1) == is_second
}

/// Reads the windows of a request, and tunes the rules of each, until it is asked to stop.
///
/// # Errors
/// If a table fails, or the last window says too little or makes no valid twin. Windows of the grid that say too little are
/// left out.
pub(super) async fn read<T, I, D, C, P>(
    ports: &Ports<T, I, D, C, P>,
    request: &Request,
    stop: &AtomicBool,
) -> Result<Windows, ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
{
    unless_stopped(stop, request)?;
    let last = one(ports, &request.pool, request.window).await?;
    let (mut to_learn, mut held_out) = (Vec::new(), Vec::new());
    for Part { window, is_held_out } in parts(request.window, request.older) {
        unless_stopped(stop, request)?;
        match one(ports, &request.pool, window).await {
            Ok(one) => {
                tracing::info!(course = one.course.name, is_held_out, twin_error = one.error.relative(), "a window");
                if is_held_out { held_out.push(one) } else { to_learn.push(one) }
            }
            Err(error @ (ImproveError::TooLittle(_) | ImproveError::Twin(_) | ImproveError::Course(_))) => {
                tracing::info!(from_ms = window.from_ms, is_held_out, %error, "a window is left out");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Windows { last, to_learn, held_out })
}

async fn one<T, I, D, C, P>(ports: &Ports<T, I, D, C, P>, pool: &str, window: Window) -> Result<OneWindow, ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
{
    let recorded = window::read(ports, pool, window).await?.begun_with_the_fleet();
    let submitted = recorded.tasks.iter().filter(|t| t.submitted_ms >= recorded.window.from_ms).count();
    if submitted < TASKS_MIN {
        return Err(ImproveError::TooLittle(format!("{submitted} tasks, at least {TASKS_MIN} are needed")));
    }
    tokio::task::block_in_place(|| of_records(pool, recorded))
}

fn of_records(pool: &str, recorded: Recorded) -> Result<OneWindow, ImproveError> {
    let (exact, too_large) = recorded.twin()?;
    if too_large > 0 {
        tracing::warn!(tasks = too_large, "tasks that fit on no machine of the pool are left out");
    }
    let (fit, error) = (fit(&recorded), twin_error(&exact, &recorded));
    // real decisions are replayed without what the fleet cannot choose: it is in the records as it was
    let exact = Arc::new(exact.configured(|config| fit.apply(config))?.with_time_enough());
    let spec = Arc::new(EnvSpec::clone(&exact).perturbed(PERTURBATION));
    let until = jiff::Timestamp::from_millisecond(recorded.window.until_ms as i64);
    let name = format!("{pool} until {}", until.map_or_else(|e| e.to_string(), |t| t.to_string()));
    Ok(OneWindow { fit, error, course: Course::new(&name, spec, exact)?, tasks: recorded.tasks.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const SOME_DAY_H: u64 = 472_224;

    fn parts_of(until_ms: u64, window_h: u64, older: u32) -> Vec<Part> {
        parts(Window { from_ms: until_ms - window_h * HOUR_MS, until_ms }, older).collect()
    }

    #[test]
    fn the_newest_part_ends_with_the_last_window_and_the_others_are_whole() {
        let until_ms = SOME_DAY_H * HOUR_MS + 7 * HOUR_MS;
        let windows: Vec<_> = parts_of(until_ms, 6, 2).into_iter().map(|p| p.window).collect();
        let hours = |from: u64, until: u64| Window {
            from_ms: (SOME_DAY_H + from) * HOUR_MS,
            until_ms: (SOME_DAY_H + until) * HOUR_MS,
        };
        let before = Window { from_ms: (SOME_DAY_H - 6) * HOUR_MS, until_ms: SOME_DAY_H * HOUR_MS };
        assert_eq!(windows, [hours(6, 7), hours(0, 6), before]);
        assert_eq!(parts_of(6 * HOUR_MS, 6, 9).len(), 1, "there is nothing before 1970");
    }

    #[test]
    fn what_one_run_learns_from_judges_no_other_run() {
        let runs = |every_min: u64| (0..300).map(move |k| (SOME_DAY_H * 60 + k * every_min) * 60_000);
        let of = |is_held_out: bool| {
            let parts = runs(61).flat_map(|until_ms| parts_of(until_ms, 6, 9));
            parts.filter(|p| p.is_held_out == is_held_out).map(|p| p.window).collect::<Vec<_>>()
        };
        let overlap = |a: &Window, b: &Window| a.from_ms < b.until_ms && b.from_ms < a.until_ms;
        let (learned, judged) = (of(false), of(true));
        assert!(!learned.is_empty() && !judged.is_empty());
        assert!(learned.iter().all(|a| judged.iter().all(|b| !overlap(a, b))));
    }

    #[test]
    fn every_run_has_about_as_many_windows_to_learn_from_as_to_judge_on() {
        for until_h in SOME_DAY_H..SOME_DAY_H + 200 {
            let held_out = parts_of(until_h * HOUR_MS, 6, 9).iter().filter(|p| p.is_held_out).count();
            assert!((4..=6).contains(&held_out), "{held_out} of 10 at {until_h} h");
        }
    }

    #[test]
    fn each_time_of_the_day_and_of_the_week_is_held_out_every_other_time() {
        for (window_h, period_h) in [(1, 24), (2, 24), (3, 24), (4, 24), (6, 24), (8, 24), (12, 24), (24, 24), (6, 168)]
        {
            for slot_h in (0..period_h).step_by(window_h) {
                let at = |k: u64| (SOME_DAY_H + k * period_h as u64 + slot_h as u64) / window_h as u64;
                let held_out = (0..100).filter(|k| is_held_out(at(*k))).count();
                assert!((45..=55).contains(&held_out), "{held_out} of 100 at {slot_h} h, {window_h} h long");
            }
        }
    }
}
