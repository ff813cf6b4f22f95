//! What the command line does, one file a command.

pub mod backtest;
pub mod calibrate;
pub mod improve;
pub mod pool;
pub mod train;
pub mod window;

use indicatif::{ProgressBar, ProgressStyle};

use crate::ppo::train::Progress;

/// A progress bar for training, on standard error and only if that is a terminal.
pub(crate) fn bar(steps: u64) -> ProgressBar {
    let template = "{msg} {wide_bar} {pos}/{len} steps {per_sec} {eta}";
    let style = ProgressStyle::with_template(template).expect("a valid template");
    ProgressBar::new(steps).with_style(style).with_message("training")
}

/// Moves the bar on.
pub(crate) fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_position(progress.steps.min(progress.steps_total));
    if let Some(best) = progress.best {
        bar.set_message(format!("training, best ${:.3}", -best));
    }
}
