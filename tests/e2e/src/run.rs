//! A run, minute by minute: the plant works, writes its records and metrics; then the schedule's tick is delivered.

use std::collections::HashMap;
use std::fmt::Write as _;

use contract::decision::Decision;
use contract::pool::PoolConfig;
use controller::ports::{Cloud, Instances};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::Error;
use crate::plant::{Plant, PlantTask, Reported};
use crate::stack::{CPU_METRIC, NAMESPACE, Stack};

/// A pool at work.
pub struct Run<'a> {
    /// Where.
    pub stack: &'a Stack,
    /// The machines and workers.
    pub plant: Plant,
    config: PoolConfig,
    next_tick: u64,
    /// Workers that are ready and whose machine has no record yet: they report again in a minute.
    unreported: Vec<(String, u64)>,
}

impl<'a> Run<'a> {
    /// A run that begins at `start_s`, seconds since the epoch, a full minute in the past of the real clock: whisper and
    /// CloudWatch take no points from the future.
    pub fn new(stack: &'a Stack, config: PoolConfig, seed: u64, start_s: u64, load: Vec<PlantTask>) -> Self {
        let plant = Plant::new(seed, &config, start_s * 1000, load);
        Self { stack, plant, config, next_tick: start_s, unreported: Vec::new() }
    }

    /// The time of the next tick, seconds since the epoch.
    pub fn next_tick(&self) -> u64 {
        self.next_tick
    }

    /// Lets one minute pass and delivers its tick. Gives the decision, settled.
    ///
    /// # Errors
    /// If a part fails.
    pub async fn minute(&mut self) -> Result<Decision, Error> {
        let tick = self.next_tick;
        self.next_tick += self.config.tick_s;
        self.work(tick).await?;
        let decision = self.stack.tick(tick).await?;
        self.stack.reconcile(tick).await?;
        self.look().await?;
        Ok(decision)
    }

    /// The plant's minute up to `tick`, with its records and metrics written.
    async fn work(&mut self, tick: u64) -> Result<(), Error> {
        let changes = self.plant.advance(tick * 1000);
        self.stack.tables.tasks.put_many(&changes.tasks).await?;
        self.unreported.extend(changes.ready);
        self.report_ready().await?;
        self.publish(tick).await
    }

    async fn report_ready(&mut self) -> Result<(), Error> {
        if self.unreported.is_empty() {
            return Ok(());
        }
        let alive = self.stack.tables.instances.alive(&self.stack.pool).await?;
        let by_id: HashMap<&str, _> = alive.iter().map(|r| (r.instance_id.as_str(), r)).collect();
        for (id, ready_ms) in std::mem::take(&mut self.unreported) {
            match by_id.get(id.as_str()) {
                Some(record) => self.stack.tables.instances.mark_ready(record, ready_ms).await?,
                None => self.unreported.push((id, ready_ms)),
            }
        }
        Ok(())
    }

    /// CPU to CloudWatch and memory to Graphite, one value a ready machine.
    async fn publish(&mut self, tick: u64) -> Result<(), Error> {
        let measured = self.plant.measure();
        if measured.is_empty() {
            return Ok(());
        }
        let cpu: Vec<(&str, f64)> = measured.iter().map(|m| (CPU_METRIC, m.cpu)).collect();
        self.stack.cloudwatch.put(NAMESPACE, &self.stack.pool, &cpu, tick * 1000).await?;
        let mut lines = String::new();
        for m in &measured {
            let _ = writeln!(lines, "twinscaler.{}.{}.mem_util {} {tick}", self.stack.pool, m.instance_id, m.memory);
        }
        let carbon = self.stack.cloud.carbon_addr();
        let mut carbon = TcpStream::connect(carbon).await.map_err(Error::io("connect to carbon"))?;
        carbon.write_all(lines.as_bytes()).await.map_err(Error::io("write to carbon"))?;
        carbon.shutdown().await.map_err(Error::io("write to carbon"))
    }

    /// Shows the plant what EC2 reports.
    async fn look(&mut self) -> Result<(), Error> {
        let machines = self.stack.ec2.describe(&self.stack.pool).await?;
        let alive = machines.into_iter().filter(|m| m.alive);
        let reported = alive.filter_map(|m| Some(Reported { instance_id: m.instance_id, size: m.size? }));
        self.plant.see(&reported.collect::<Vec<_>>());
        Ok(())
    }
}
