//! Wires the evaluator to AWS: clients once, then one tick an invocation.

use std::time::Instant;

use aws::cloudwatch::CloudWatch;
use aws::graphite::Graphite;
use aws::s3::PolicyBucket;
use aws::settings::Settings;
use aws::sources::Sources;
use aws::tables::Tables;
use contract::event::Tick;
use evaluator::handler::{Evaluator, Ports};
use evaluator::metrics;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};
use signing::{POLICY_KEYS, PublicKeys};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_target(false).init();
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let keys = std::env::var_os(POLICY_KEYS).map(|text| PublicKeys::parse(&text.to_string_lossy())).transpose()?;
    let config = aws::config::load().await;
    let tables = Tables::new(&config, settings.tables.clone());
    let authorization = std::env::var("GRAPHITE_AUTHORIZATION").ok();
    let evaluator = Evaluator::new(Ports {
        tasks: tables.tasks,
        instances: tables.instances,
        decisions: tables.decisions,
        control: tables.control,
        metrics: Sources::new(CloudWatch::new(&config), Graphite::new(authorization.as_deref())?),
        policies: PolicyBucket::new(&config, settings.bucket()?),
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
