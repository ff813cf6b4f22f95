//! The local cloud with the template deployed into it, and the adapters to set it up and look at it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws::cloudwatch::CloudWatch;
use aws::config::Access;
use aws::ec2::Ec2;
use aws::s3::PolicyBucket;
use aws::tables::{TableNames, Tables};
use contract::decision::{Decision, Verdict};
use contract::pool::PoolConfig;
use controller::ports::Decisions;
use localcloud::{DeployOptions, LocalCloud, Options, Outputs, package_functions};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::Error;

/// Longest wait for the stream to start the executor and for it to settle.
const SETTLE: Duration = Duration::from_secs(120);
/// Pause between two looks at a decision.
const LOOK: Duration = Duration::from_millis(40);

/// A running stack.
pub struct Stack {
    /// The cloud under it.
    pub cloud: LocalCloud,
    /// The stack's outputs.
    pub outputs: Outputs,
    /// The tables, as root.
    pub tables: Tables,
    /// The bucket, as root.
    pub store: PolicyBucket,
    /// EC2, as root.
    pub ec2: Ec2,
    /// CloudWatch, as root.
    pub cloudwatch: CloudWatch,
    /// The pool's name.
    pub pool: String,
}

impl Stack {
    /// Builds the functions, starts the cloud and deploys the template for `pool`.
    ///
    /// # Errors
    /// Names the part that failed.
    pub async fn start(pool: &str, log_dir: Option<PathBuf>) -> Result<Self, Error> {
        let zips = tokio::task::spawn_blocking(|| package_functions(&target_dir().join("lambda-local")));
        let zips = zips.await.map_err(|e| Error::Wrong(e.to_string()))??;
        let cloud = LocalCloud::start(Options { log_dir }).await?;
        let stack_name = format!("twinscaler-{pool}");
        let options = DeployOptions {
            stack_name: stack_name.clone(),
            template: localcloud::deploy::project_template(),
            parameters: [("PoolName", pool), ("SchedulesState", "DISABLED")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            zips,
        };
        let outputs = cloud.deploy(&options).await?;
        Self::over(cloud, outputs, &stack_name, pool).await
    }

    async fn over(cloud: LocalCloud, outputs: Outputs, name: &str, pool: &str) -> Result<Self, Error> {
        let env: std::collections::BTreeMap<String, String> = cloud.env().into_iter().collect();
        let access = Access {
            region: &env["AWS_REGION"],
            key_id: &env["AWS_ACCESS_KEY_ID"],
            secret: &env["AWS_SECRET_ACCESS_KEY"],
        };
        let all = aws::config::at(cloud.endpoint(), access.clone()).await;
        let ec2 = aws::config::at(cloud.ec2_endpoint(), access).await;
        let output = |name: &str| {
            let value = outputs.get(name).cloned();
            value.ok_or_else(|| Error::Wrong(format!("the template has no output {name}")))
        };
        let names = TableNames {
            tasks: output("TasksTableName")?,
            instances: output("InstancesTableName")?,
            decisions: output("DecisionsTableName")?,
            control: output("ControlTableName")?,
        };
        Ok(Self {
            tables: Tables::new(&all, names),
            store: PolicyBucket::new(&all, output("PolicyBucketName")?),
            ec2: Ec2::new(&ec2, name),
            cloudwatch: CloudWatch::new(&all),
            pool: pool.to_owned(),
            cloud,
            outputs,
        })
    }

    /// The pool's configuration: sizes, bounds, launch templates of the stack, CPU from CloudWatch, memory from Graphite.
    pub fn pool_config(&self, cooldown_s: u64) -> PoolConfig {
        let size = |name: &str, cores: u32, max: u32| {
            json!({"name": name, "launch_template": self.outputs[&format!("LaunchTemplateName{name}")], "cores": cores,
                "memory_mb": 4096 * cores, "usd_per_hour": 0.1 * f64::from(cores), "bounds": {"min": 1, "max": max}})
        };
        let cpu = |statistic: &str| json!({"source": "cloudwatch", "namespace": NAMESPACE, "metric": CPU_METRIC, "statistic": statistic});
        let every = format!("twinscaler.{}.*.mem_util", self.pool);
        let memory = |target: String| json!({"source": "graphite", "url": self.cloud.graphite_url(), "target": target});
        let config = json!({"version": 1, "pool": self.pool, "cooldown_s": cooldown_s,
            "sizes": [size("S", 2, 4), size("M", 4, 4), size("L", 8, 10)],
            "metrics": {"cpu_util_avg": cpu("Average"), "cpu_util_p90": cpu("p90"),
                "mem_util_avg": memory(format!("averageSeries({every})")),
                "mem_util_p90": memory(format!("percentileOfSeries({every}, 90)"))}});
        PoolConfig::from_json(&config.to_string()).expect("a valid configuration")
    }

    /// Runs the command with the stack's settings in its environment, as the batch job runs it, and gives what it
    /// printed. What it says on standard error is passed through.
    ///
    /// # Errors
    /// If it cannot be run or fails.
    pub async fn command(&self, arguments: &[&str]) -> Result<String, Error> {
        let program = program()?;
        let output = Command::new(&program)
            .args(arguments)
            .envs(self.cloud.env())
            .env("TASKS_TABLE", &self.outputs["TasksTableName"])
            .env("INSTANCES_TABLE", &self.outputs["InstancesTableName"])
            .env("DECISIONS_TABLE", &self.outputs["DecisionsTableName"])
            .env("CONTROL_TABLE", &self.outputs["ControlTableName"])
            .env("POLICY_BUCKET", &self.outputs["PolicyBucketName"])
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Error::io(format!("run {}", program.display())))?;
        if !output.status.success() {
            return Err(Error::Command {
                command: arguments.join(" "),
                status: output.status.to_string(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Creates the pool through the command, with a configuration file and a policy.
    ///
    /// # Errors
    /// If the command fails.
    pub async fn create_pool(&self, config: &PoolConfig, policy: &Path) -> Result<(), Error> {
        let file = self.cloud.log_dir().join("pool.json");
        let text = serde_json::to_string_pretty(config).expect("a configuration is plain data");
        std::fs::write(&file, text).map_err(Error::io(format!("write {}", file.display())))?;
        let (file, policy) = (file.display().to_string(), policy.display().to_string());
        self.command(&["pool", "create", "--config", &file, "--policy", &policy]).await.map(drop)
    }

    /// What the schedule would send at a time, seconds since the epoch.
    pub fn event(&self, tick: u64) -> Value {
        json!({"pool": self.pool, "scheduled_time": rfc3339(tick)})
    }

    /// Delivers one tick to the evaluator and waits until the executor is done with what came of it.
    ///
    /// # Errors
    /// If a function fails, or the executor is not done in time.
    pub async fn tick(&self, tick: u64) -> Result<Decision, Error> {
        self.cloud.invoke(&self.outputs["EvaluatorFunctionName"], &self.event(tick)).await?;
        self.settled(tick).await
    }

    /// Starts the executor's reconciliation, as its schedule would.
    ///
    /// # Errors
    /// If the function fails.
    pub async fn reconcile(&self, tick: u64) -> Result<Value, Error> {
        Ok(self.cloud.invoke(&self.outputs["ExecutorFunctionName"], &self.event(tick)).await?)
    }

    /// The decision of a tick, once it is settled if it asks for something.
    ///
    /// # Errors
    /// If there is none, or it is not settled in time.
    pub async fn settled(&self, tick: u64) -> Result<Decision, Error> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let decision = self.tables.decisions.get(&self.pool, tick).await?;
            let decision = decision.ok_or_else(|| Error::Wrong(format!("tick {tick} has no decision")))?;
            if decision.verdict == Verdict::Hold || decision.is_settled() {
                return Ok(decision);
            }
            if Instant::now() > deadline {
                let logs = self.cloud.function_logs(&self.outputs["ExecutorFunctionName"]).await.unwrap_or_default();
                let logs = logs[logs.len().saturating_sub(30)..].join("\n");
                return Err(Error::Wrong(format!(
                    "tick {tick} was not settled in {SETTLE:?}; the executor said:\n{logs}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Namespace of the plant's metrics in CloudWatch.
pub const NAMESPACE: &str = "Twinscaler/Plant";
/// The plant's CPU metric in CloudWatch.
pub const CPU_METRIC: &str = "CpuUtilisation";

/// RFC 3339, as EventBridge Scheduler writes it.
pub fn rfc3339(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    at.expect("a time of this age").to_string()
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The project's root.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The `twinscaler` command that was built with this program: beside it, or one folder up for tests.
fn program() -> Result<PathBuf, Error> {
    let here = std::env::current_exe().map_err(Error::io("find this program"))?;
    let beside = here.ancestors().skip(1).take(2).map(|dir| dir.join("twinscaler")).find(|path| path.is_file());
    beside.ok_or_else(|| {
        Error::Wrong("the twinscaler command is not built; run `cargo build --workspace --bin twinscaler`".into())
    })
}
