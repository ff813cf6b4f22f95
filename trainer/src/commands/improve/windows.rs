//! The windows of history that a job learns from and compares on, each as a twin.

use std::sync::Arc;

use calibration::fit::{Fit, fit};
use calibration::{Recorded, TwinError, Window, twin_error};
use controller::ports::{Control, Decisions, Instances, Tasks};
use twin::{EnvSpec, Perturbation};

use super::{ImproveError, Request};
use crate::commands::window::{self, Ports};
use crate::course::Course;

/// Tasks below which a window says too little.
const TASKS_MIN: usize = 20;
/// How far training and comparison depart from what a window shows.
const PERTURBATION: Perturbation =
    Perturbation { runtime_log_sigma: 0.1, arrival_jitter_s: 60.0, ..Perturbation::NONE };

/// One window.
pub struct OneWindow {
    /// Its records.
    pub recorded: Recorded,
    /// What they say of boots, run times, failures and metrics.
    pub fit: Fit,
    /// The twin against reality.
    pub error: TwinError,
    /// The window in the twin, its tuned rules with it.
    pub course: Course,
}

/// The last window, and older ones, the newest first.
pub struct Windows {
    /// The last one.
    pub last: OneWindow,
    /// Older ones with enough tasks.
    pub older: Vec<OneWindow>,
}

impl Windows {
    /// What is learned from: the last window, and every second older one.
    pub fn learned(&self) -> Vec<Course> {
        let older = self.older.iter().skip(1).step_by(2);
        std::iter::once(&self.last).chain(older).map(|w| w.course.clone()).collect()
    }

    /// What the gate judges on: windows that were not learned from, and that the twin is right about: its error is at most
    /// `twin_error_max`. If there is none, it is the last one, of which other perturbed copies are played than those
    /// learned from; about that the gate itself looks at the error.
    pub fn judged(&self, twin_error_max: f64) -> Vec<Course> {
        let held_out = self.older.iter().step_by(2);
        let right = held_out.filter(|w| w.error.relative().is_none_or(|error| error <= twin_error_max));
        let judged: Vec<Course> = right.map(|w| w.course.clone()).collect();
        if judged.is_empty() { vec![self.last.course.clone()] } else { judged }
    }
}

/// Reads the windows of a request.
///
/// # Errors
/// If a table fails, or the last window says too little or makes no valid twin. Older windows that say too little are left
/// out.
pub(super) async fn read<T, I, D, C, P>(
    ports: &Ports<T, I, D, C, P>,
    request: &Request,
) -> Result<Windows, ImproveError>
where
    T: Tasks,
    I: Instances,
    D: Decisions,
    C: Control,
{
    let Window { from_ms, until_ms } = request.window;
    let last = one(ports, &request.pool, request.window).await?;
    let mut older = Vec::new();
    for k in 1..=u64::from(request.older) {
        let back_ms = k * (until_ms - from_ms);
        let Some(from_ms) = from_ms.checked_sub(back_ms) else { break };
        match one(ports, &request.pool, Window { from_ms, until_ms: until_ms - back_ms }).await {
            Ok(window) => {
                let error = window.error.relative();
                tracing::info!(window = k, twin_error = error, "an older window");
                older.push(window);
            }
            Err(error @ (ImproveError::TooLittle(_) | ImproveError::Twin(_) | ImproveError::Course(_))) => {
                tracing::info!(window = k, %error, "an older window is left out");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Windows { last, older })
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
    let exact = Arc::new(exact.with_time_enough());
    let spec = Arc::new(EnvSpec::clone(&exact).perturbed(PERTURBATION));
    let until = jiff::Timestamp::from_millisecond(recorded.window.until_ms as i64);
    let name = format!("{pool} until {}", until.map_or_else(|e| e.to_string(), |t| t.to_string()));
    Ok(OneWindow { fit, error, course: Course::new(&name, spec, exact)?, recorded })
}
