//! Wires the executor to AWS: clients once, then a stream batch, a reconciliation or a notice an invocation.
// the SDK's futures within ours are nested more deeply than the default of 128
#![recursion_limit = "256"]

use std::process::ExitCode;

use aws::ec2::Ec2;
use aws::settings::ExecutorSettings;
use aws::tables::Tables;
use executor::event::Event;
use executor::{Executor, Ports};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_target(false).init();
    let started = match ExecutorSettings::read(|name| std::env::var(name).ok()) {
        Ok(settings) => run(settings).await.map_err(|e| e.to_string()),
        Err(missing) => Err(missing.to_string()),
    };
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            tracing::error!(problems, "the executor cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: ExecutorSettings) -> Result<(), Error> {
    let config = aws::config::load().await;
    let tables = Tables::new(&config, settings.tables);
    let executor = Executor::new(Ports {
        tasks: tables.tasks,
        instances: tables.instances,
        decisions: tables.decisions,
        control: tables.control,
        cloud: Ec2::new(&config, settings.stack),
    });
    let executor = &executor;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let event = Event::from_json(event.payload).inspect_err(|error| tracing::error!(error, "event refused"))?;
        Ok::<_, Error>(executor.handle(event, |document| println!("{document}")).await?)
    }))
    .await
}
