//! What a run came to: read from the tables alone, as the bill would be.

use std::sync::Arc;

use backtest::play::outcomes;
use backtest::rules::{Family, Rule};
use backtest::tune::tune;
use calibration::{Window, real_usd};
use contract::decision::{Decider, Decision, Outcome, Verdict};
use contract::pool::PoolConfig;
use contract::record::{InstanceRecord, TaskRecord};
use controller::ports::{Cloud, Decisions, Instances, Tasks};
use twin::{EnvSpec, History, Workload};
use twinscaler::report::{self, FleetPoint, Mark};

use crate::Error;
use crate::stack::Stack;

/// Everything the tables hold of a run.
pub struct Records {
    /// Tasks by submission.
    pub tasks: Vec<TaskRecord>,
    /// Machines by launch.
    pub instances: Vec<InstanceRecord>,
    /// Decisions by tick.
    pub decisions: Vec<Decision>,
    /// The run's start and end.
    pub window: Window,
}

/// One line of the comparison.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    who: String,
    vm_usd: f64,
    queue_usd: f64,
    packing: f64,
    wait_s_p50: f64,
    wait_s_p95: f64,
}

impl Records {
    /// Reads a run that began and ended at these times, seconds since the epoch.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn read(stack: &Stack, start_s: u64, end_s: u64) -> Result<Self, Error> {
        let (pool, from_ms, until_ms) = (&stack.pool, start_s * 1000, end_s * 1000);
        Ok(Self {
            tasks: stack.tables.tasks.submitted(pool, from_ms, until_ms).await?,
            instances: stack.tables.instances.launched(pool, from_ms, until_ms).await?,
            decisions: stack.tables.decisions.range(pool, start_s, end_s).await?,
            window: Window { from_ms, until_ms },
        })
    }

    /// What is not as it must be at the end of a run with `submitted` tasks; empty if all is well.
    ///
    /// # Errors
    /// If EC2 cannot be asked.
    pub async fn broken(&self, stack: &Stack, submitted: usize) -> Result<Vec<String>, Error> {
        let mut broken = Vec::new();
        if self.tasks.len() != submitted {
            broken.push(format!("{} of {submitted} tasks are in the table", self.tasks.len()));
        }
        let unfinished = self.tasks.iter().filter(|t| t.finished_ms.is_none()).count();
        if unfinished > 0 {
            broken.push(format!("{unfinished} tasks did not finish"));
        }
        let unsettled = self.decisions.iter().filter(|d| d.verdict == Verdict::Act && !d.is_settled()).count();
        if unsettled > 0 {
            broken.push(format!("{unsettled} decisions that asked for something are not settled"));
        }
        let alive = |id: &str| self.instances.iter().any(|i| i.instance_id == id && i.terminated_ms.is_none());
        for machine in stack.ec2.describe(&stack.pool).await?.iter().filter(|m| m.alive) {
            if !alive(&machine.instance_id) {
                broken.push(format!("{} runs and has no record: it leaked", machine.instance_id));
            }
        }
        Ok(broken)
    }

    /// Hashes of the policies that decided, in order, each with its first tick.
    pub fn policies(&self) -> Vec<(u64, String)> {
        let mut seen: Vec<(u64, String)> = Vec::new();
        for d in &self.decisions {
            if let Decider::Policy { sha256 } = &d.decider
                && seen.last().is_none_or(|(_, last)| last != sha256)
            {
                seen.push((d.tick, sha256.clone()));
            }
        }
        seen
    }

    fn real(&self, config: &PoolConfig) -> Line {
        let (vm_usd, queue_usd) = real_usd(config, &self.tasks, &self.instances, self.window);
        let mut waits_s: Vec<f64> = self.tasks.iter().filter_map(wait_s).collect();
        waits_s.sort_by(f64::total_cmp);
        let busy_core_ms: u64 =
            self.tasks.iter().filter_map(|t| Some(u64::from(t.cores) * (t.finished_ms? - t.started_ms?))).sum();
        let billed_core_ms: u64 = self
            .instances
            .iter()
            .filter_map(|i| {
                let until_ms = i.terminated_ms.unwrap_or(self.window.until_ms);
                Some(u64::from(config.sizes[i.size].cores) * until_ms.saturating_sub(i.ready_ms?))
            })
            .sum();
        Line {
            who: "the run".into(),
            vm_usd,
            queue_usd,
            packing: busy_core_ms as f64 / billed_core_ms.max(1) as f64,
            wait_s_p50: nearest_rank(&waits_s, 0.50),
            wait_s_p95: nearest_rank(&waits_s, 0.95),
        }
    }

    /// The same load in the twin, under the rule and under the best fleet that never changes.
    fn compared(&self, config: &PoolConfig) -> Result<Vec<Line>, Error> {
        let history = History::from_records(&self.tasks, &self.instances, self.window.from_ms, self.window.until_ms);
        let minimum = config.bounds().map(|b| b.min());
        let workload = Arc::new(Workload::new(history.jobs));
        let spec = Arc::new(EnvSpec::from_pool(config, vec![workload], history.boots_s, minimum)?);
        let line = |who: String, o: &twin::Outcome| Line {
            who,
            vm_usd: o.vm_usd,
            queue_usd: o.queue_usd,
            packing: o.packing,
            wait_s_p50: o.wait_s_p50,
            wait_s_p95: o.wait_s_p95,
        };
        let rule = outcomes(&Rule::Production { tasks_per_core: config.rule_tasks_per_core }, &spec, &[1])?;
        let tuned = tune(Family::Production, &spec, &[1]).rule;
        let best_rule = outcomes(&tuned, &spec, &[1])?;
        let fleet = tune(Family::Static, &spec, &[1]).rule;
        let fixed = outcomes(&fleet, &spec, &[1])?;
        Ok(vec![
            line(format!("twin: rule, {} tasks per core", config.rule_tasks_per_core), &rule[0]),
            line(format!("twin: rule tuned on this load, {tuned}"), &best_rule[0]),
            line(format!("twin: best static fleet, {fleet}"), &fixed[0]),
        ])
    }

    /// The comparison as text and the whole report as a page.
    ///
    /// # Errors
    /// If the load does not make a valid twin.
    pub fn report(&self, config: &PoolConfig) -> Result<(String, String), Error> {
        let head = ["", "total $", "machines $", "waiting $", "packing %", "wait p50 s", "wait p95 s"];
        let lines = std::iter::once(self.real(config)).chain(self.compared(config)?);
        let rows: Vec<Vec<String>> = lines.map(|l| l.cells()).collect();
        let counts = self.counts();
        let text = format!("{}\n{}", report::text_table(&head, &rows), report::text_table(&["", "count"], &counts));
        let chart = report::fleet_chart(&self.points(), config.cores(), &self.marks());
        let body = format!(
            "<h2>Fleet and queue</h2>{chart}<h2>Cost</h2>{}<p>The run is billed from its records; the other lines are \
             the same load in the twin.</p><h2>Decisions</h2>{}",
            report::table(&head, &rows),
            report::table(&["", "count"], &counts)
        );
        Ok((text, report::page("twinscaler: the demo's run", &body)))
    }

    fn points(&self) -> Vec<FleetPoint> {
        let start_s = self.window.from_ms / 1000;
        let point = |d: &Decision| FleetPoint {
            t_s: d.tick.saturating_sub(start_s) as f64,
            machines: d.measured().fleet.map(|c| c.total()),
            queue: d.measured().queue_depth.unwrap_or(0),
        };
        self.decisions.iter().map(point).collect()
    }

    fn marks(&self) -> Vec<Mark> {
        let start_s = self.window.from_ms / 1000;
        let label = |i: usize, sha256: &str| match i {
            0 => format!("initial policy {}", &sha256[..8]),
            _ => format!("promoted {}", &sha256[..8]),
        };
        let policies = self.policies();
        let marks = policies.iter().enumerate();
        marks.map(|(i, (tick, sha256))| Mark { t_s: (tick - start_s) as f64, label: label(i, sha256) }).collect()
    }

    fn counts(&self) -> Vec<Vec<String>> {
        let count = |what: &str, test: &dyn Fn(&Decision) -> bool| {
            vec![what.to_owned(), self.decisions.iter().filter(|d| test(d)).count().to_string()]
        };
        let outcome = |d: &Decision| d.intent.as_ref().and_then(|i| i.outcome.clone());
        vec![
            vec!["tasks finished".into(), self.tasks.iter().filter(|t| t.finished_ms.is_some()).count().to_string()],
            vec![
                "runs interrupted".into(),
                self.tasks.iter().map(|t| t.attempts.saturating_sub(1)).sum::<u32>().to_string(),
            ],
            count("decisions", &|_| true),
            count("by the policy", &|d| matches!(d.decider, Decider::Policy { .. })),
            count("by a rule", &|d| matches!(d.decider, Decider::Rule { .. })),
            count("held back by the cooldown", &|d| d.refusals.iter().any(|r| r == "cooldown")),
            count("machines launched", &|d| matches!(outcome(d), Some(Outcome::Launched { .. }))),
            count("machines stopped", &|d| {
                matches!(outcome(d), Some(Outcome::Terminated { .. } | Outcome::Draining { .. }))
            }),
            count("refused, failed or without capacity", &|d| {
                matches!(
                    outcome(d),
                    Some(Outcome::Refused { .. } | Outcome::Failed { .. } | Outcome::NoCapacity { .. })
                )
            }),
            vec!["policies promoted during the run".into(), self.policies().len().saturating_sub(1).to_string()],
        ]
    }
}

impl Line {
    fn cells(&self) -> Vec<String> {
        vec![
            self.who.clone(),
            format!("{:.2}", self.vm_usd + self.queue_usd),
            format!("{:.2}", self.vm_usd),
            format!("{:.2}", self.queue_usd),
            format!("{:.0}", 100.0 * self.packing),
            format!("{:.0}", self.wait_s_p50),
            format!("{:.0}", self.wait_s_p95),
        ]
    }
}

/// Time from a task's submission to its last start.
fn wait_s(task: &TaskRecord) -> Option<f64> {
    Some((task.started_ms? - task.submitted_ms) as f64 / 1000.0)
}

/// The value at a share of an ascending list; 0 if it is empty.
fn nearest_rank(ascending: &[f64], share: f64) -> f64 {
    let rank = (share * ascending.len() as f64).ceil() as usize;
    ascending.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}
