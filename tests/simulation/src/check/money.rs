//! I2 for dollars: no launch leads above a money cap, by what really runs and what the records say was spent.

use contract::calendar::{Period, day, month};
use contract::record::InstanceRecord;

use super::act::counted_for_max;
use super::{Checked, Scene, ensure};
use crate::plant::is_ours;

const MS_PER_HOUR: f64 = 3_600_000.0;
/// Rounding of the sums here, which are floating point numbers.
const ROUNDING_USD: f64 = 1e-6;

/// A cap, and what it bounds if nothing else is launched: dollars.
struct Bound {
    name: &'static str,
    usd: f64,
    max: f64,
}

/// What runs and what it costs.
struct Books {
    /// What an hour costs.
    usd_per_hour: f64,
    /// Every machine's price, start, and end or now.
    bills: Vec<(f64, u64, u64)>,
}

impl Books {
    /// Machines that run and that the controller can know of; bills by the records, a minute at least for what ended.
    fn of(scene: Scene<'_>) -> Self {
        let sizes = scene.config.sizes.iter().enumerate();
        let usd_per_hour = sizes.map(|(size, of)| counted_for_max(scene, size) as f64 * of.usd_per_hour).sum();
        let bill = |r: InstanceRecord| {
            let ended_ms = r.terminated_ms.map_or(scene.now_ms, |at_ms| at_ms.max(r.launched_ms + 60_000));
            (r.usd_per_hour, r.launched_ms, ended_ms)
        };
        Self { usd_per_hour, bills: scene.world.instances().into_iter().map(bill).collect() }
    }

    /// The same as the controller has to count it: recorded machines at their records' prices, which are an alternate's for some,
    /// and every machine of ours without a live record as the dearest, for what it is nobody knows.
    fn with_strays(scene: Scene<'_>) -> Self {
        let mut books = Self::of(scene);
        let dearest = scene.config.sizes.iter().map(|size| size.usd_per_hour).fold(0.0, f64::max);
        let live: Vec<_> = scene.world.instances().into_iter().filter(|r| r.terminated_ms.is_none()).collect();
        books.usd_per_hour +=
            live.iter().map(|r| r.usd_per_hour - scene.config.sizes[r.size].usd_per_hour).sum::<f64>();
        let recorded = |id: &str| live.iter().any(|r| r.instance_id == id);
        for machine in scene.world.machines() {
            let ours = machine.alive && is_ours(&machine, &scene.config.pool);
            if ours && !recorded(&machine.instance_id) {
                books.usd_per_hour += dearest;
                books.bills.push((dearest, machine.launched_ms, scene.now_ms));
            }
        }
        books
    }

    /// What each cap bounds.
    fn bounds(&self, scene: Scene<'_>) -> Vec<Bound> {
        let until_end = |period: Option<Period>| {
            let period = period.expect("a time of this century");
            let rest_h = (period.until_ms - scene.now_ms) as f64 / MS_PER_HOUR;
            self.spent(period) + self.usd_per_hour * rest_h
        };
        let bound = |name, max: Option<f64>, usd: &dyn Fn() -> f64| max.map(|max| Bound { name, usd: usd(), max });
        let config = scene.config;
        let hour = bound("hour", config.usd_per_hour_max, &|| self.usd_per_hour);
        let today = bound("day", config.usd_per_day_max, &|| until_end(day(scene.now_ms)));
        let this_month = bound("month", config.usd_per_month_max, &|| until_end(month(scene.now_ms)));
        [hour, today, this_month].into_iter().flatten().collect()
    }

    /// Dollars of a period until now.
    fn spent(&self, period: Period) -> f64 {
        let usd = |(usd_per_hour, from_ms, ended_ms): &(f64, u64, u64)| {
            usd_per_hour * ended_ms.saturating_sub(*from_ms.max(&period.from_ms)) as f64 / MS_PER_HOUR
        };
        self.bills.iter().map(usd).sum()
    }
}

/// I2: after a launch everything that runs may go on until the period ends: by the time of its claim, which is the
/// executor's only clock, or by now, for one that was resumed. The two differ where midnight lies between them.
pub(super) fn within_caps(scene: Scene<'_>, tick: u64, claimed_ms: u64) -> Checked {
    let passed = |now_ms: u64| {
        let scene = Scene { now_ms, ..scene };
        Books::of(scene).bounds(scene).into_iter().find(|bound| bound.usd > bound.max + ROUNDING_USD)
    };
    match (passed(claimed_ms), passed(scene.now_ms)) {
        (Some(Bound { name, usd, max }), Some(_)) => ensure(false, "I2", || {
            format!("the launch of {tick} leads to {usd} dollars; {max} is the cap of the {name}")
        }),
        _ => Ok(()),
    }
}

/// Whether a cap leaves no room for one more machine of a size, so that not even the minimum can be restored. The guard asks
/// for the dearest type that may stand in: which one it will be is not known before the launch.
pub(super) fn leaves_no_room(scene: Scene<'_>, size: usize) -> bool {
    let mut books = Books::with_strays(scene);
    books.usd_per_hour += scene.config.sizes[size].usd_per_hour_at_most();
    books.bounds(scene).iter().any(|bound| bound.usd > bound.max - ROUNDING_USD)
}
