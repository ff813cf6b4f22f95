//! Wires the evaluator to AWS: clients once, then one tick an invocation.

use std::process::ExitCode;
use std::time::Instant;

use aws::cloudwatch::CloudWatch;
use aws::s3::PolicyBucket;
use aws::sources::Sources;
use aws::tables::Tables;
use contract::event::Tick;
use evaluator::config::Config;
use evaluator::handler::{Evaluator, Ports};
use evaluator::metrics;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_target(false).init();
    // one that is set to nonsense is not one that is not set
    let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let started = match Config::read(env) {
        Ok(config) => run(config).await.map_err(|e| e.to_string()),
        Err(problems) => Err(problems.join("; ")),
    };
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            tracing::error!(problems, "the evaluator cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), Error> {
    let Config { tables, bucket, keys, graphite } = config;
    let sdk = aws::config::load().await;
    let tables = Tables::new(&sdk, tables);
    let evaluator = Evaluator::new(Ports {
        tasks: tables.tasks,
        instances: tables.instances,
        decisions: tables.decisions,
        control: tables.control,
        metrics: Sources::new(CloudWatch::new(&sdk), graphite),
        policies: PolicyBucket::new(&sdk, bucket),
    });
    let evaluator = &evaluator.trusting(keys);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let tick = Tick::from_event(event.payload).and_then(not_from_the_future);
        let tick = tick.inspect_err(|error| tracing::error!(error, "event refused"))?;
        let begun = Instant::now();
        let decided = evaluator.tick(&tick).await;
        println!("{}", metrics::report(&tick, &decided, begun));
        let decision = decided.inspect_err(|error| {
            tracing::error!(pool = tick.pool, tick = tick.seconds(), %error, "nothing was decided");
        })?;
        let summary = decision.map(|d| {
            json!({"tick": d.tick, "action": d.action.to_string(), "verdict": d.verdict, "policy": d.policy_name(),
                "reason": d.reason})
        });
        Ok::<_, Error>(json!({ "decision": summary }))
    }))
    .await
}

/// A decision of tomorrow would make all until then late; so a tick may be ahead of the clock by no more than its error.
fn not_from_the_future(tick: Tick) -> Result<Tick, String> {
    let ahead_s = tick.scheduled_time.as_second() - jiff::Timestamp::now().as_second();
    if ahead_s <= 600 { Ok(tick) } else { Err(format!("scheduled_time is {ahead_s} s ahead of the clock")) }
}
