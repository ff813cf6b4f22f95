//! Wires the evaluator to AWS: clients once, then one tick an invocation.

use std::process::ExitCode;
use std::time::Instant;

use aws::cloudwatch::CloudWatch;
use aws::s3::PolicyBucket;
use aws::sources::Sources;
use aws::tables::Tables;
use evaluator::config::Config;
use evaluator::handler::{Evaluator, Ports};
use evaluator::invocation::{answer, tick};
use evaluator::metrics;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
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
    let Err(problems) = started else { return ExitCode::SUCCESS };
    tracing::error!(problems, "the evaluator cannot run");
    ExitCode::FAILURE
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
        let tick = tick(event.payload).inspect_err(|error| tracing::error!(error, "event refused"))?;
        let begun = Instant::now();
        let ticked = evaluator.tick(&tick).await;
        println!("{}", metrics::report(&tick, &ticked, begun));
        let ticked = ticked.inspect_err(|error| {
            tracing::error!(pool = tick.pool, tick = tick.seconds(), %error, "nothing was decided");
        })?;
        Ok::<_, Error>(answer(ticked.decision().as_ref()))
    }))
    .await
}
