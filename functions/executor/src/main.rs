//! Wires the executor to AWS: clients once, then a stream batch or a reconciliation an invocation.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws::ec2::Ec2;
use aws::settings::Settings;
use aws::tables::Tables;
use controller::emf::Timing;
use controller::ports::Port;
use executor::event::{Event, Record};
use executor::execute::Done;
use executor::{Executor, Ports, metrics};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_target(false).init();
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let config = aws::config::load().await;
    let tables = Tables::new(&config, settings.tables);
    let executor = Executor::new(Ports {
        tasks: tables.tasks,
        instances: tables.instances,
        decisions: tables.decisions,
        control: tables.control,
        cloud: Ec2::new(&config),
    });
    let executor = &executor;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let event = Event::from_json(event.payload).inspect_err(|error| tracing::error!(error, "event refused"))?;
        let mut begun = Instant::now();
        Ok::<_, Error>(match event {
            Event::Stream(records) => {
                let report = |record: &Record, done: &Port<Done>| {
                    println!("{}", metrics::executed(&record.pool, done, timing(begun)));
                    begun = Instant::now();
                };
                serde_json::to_value(executor.batch(records, report).await)?
            }
            Event::Schedule(tick) => {
                let done = executor.reconcile(&tick).await;
                println!("{}", metrics::reconciled(&tick.pool, &done, timing(begun)));
                let done = done.inspect_err(|error| {
                    tracing::error!(pool = tick.pool, tick = tick.seconds(), %error, "reconciliation stopped");
                })?;
                json!({ "reconciled": done })
            }
        })
    }))
    .await
}

/// What a metric document says of time: the functions' own clock, which nothing is decided by.
fn timing(begun: Instant) -> Timing {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timing { at_ms: at.as_millis() as u64, own_ms: begun.elapsed().as_secs_f64() * 1000.0 }
}
