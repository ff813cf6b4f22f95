//! `twinscaler simulate`: runs one scenario file in the twin and prints what came of it.

use std::io::{self, Read, Write};

use twin::ScenarioError;
use twin::outcome::{SimResult, simulate};
use twin::scenario::Scenario;

/// Why a scenario was not simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The scenario could not be read.
    #[error("read the scenario {path}")]
    Read {
        /// The file, or `-`.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The scenario is not valid; nothing was printed.
    #[error(transparent)]
    Invalid(#[from] ScenarioError),
    /// The result could not be written.
    #[error("write the result")]
    Write(#[source] io::Error),
}

impl SimulateError {
    /// The exit code of the command: 2 for a scenario that cannot be read or is not valid, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            SimulateError::Read { .. } | SimulateError::Invalid(_) => 2,
            SimulateError::Write(_) => 1,
        }
    }
}

/// Runs the scenario in the file `scenario_path`, or from standard input if it is `-`, and prints the result: as JSON
/// or as a table.
///
/// # Errors
/// If the scenario cannot be read, is not valid, or the result cannot be written.
pub fn run(scenario_path: &str, json: bool) -> Result<(), SimulateError> {
    let text = read(scenario_path).map_err(|source| SimulateError::Read { path: scenario_path.into(), source })?;
    let result = simulate(&Scenario::from_json(&text)?);
    let mut out = io::stdout().lock();
    let text = if json { as_json(&result) } else { as_table(&result) };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(SimulateError::Write)
}

fn read(path: &str) -> io::Result<String> {
    if path != "-" {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn as_json(result: &SimResult) -> String {
    serde_json::to_string(result).expect("numbers, strings and maps with string keys") + "\n"
}

fn as_table(result: &SimResult) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.into(), value));
    for (name, usd) in &result.cost.by_type {
        row(&format!("machines {name}"), format!("${usd:.4}  ({:.3} h)", result.vm_hours[name]));
    }
    row("machines", format!("${:.4}", result.cost.vm));
    row("waiting", format!("${:.4}  ({:.3} task-hours)", result.cost.queue, result.queue_hours));
    row("total", format!("${:.4}", result.cost.total));
    row("core-hours", format!("{:.3} billed, {:.3} busy", result.core_hours, result.busy_core_hours));
    row("tasks", format!("{} submitted, {} done", result.submitted, result.completed));
    row("interrupted", format!("{} runs, {:.4} core-hours lost", result.interrupted, result.work_lost_hours));
    row("launches", format!("{}, {} failed", result.launches, result.failed_launches));
    row("refused actions", result.rejected_actions.to_string());
    row("makespan", result.makespan_s.map_or("cut off before the end".into(), |s| format!("{s} s")));
    row("steps", result.steps.to_string());
    rows.iter().map(|(name, value)| format!("{name:<16} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_scenario_exits_with_2_and_names_the_field() {
        let error =
            SimulateError::from(Scenario::from_json(r#"{"jobs":[{"submit_s":-1,"runtime_s":1}]}"#).unwrap_err());
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("jobs[0].submit_s"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = run("no/such/file.json", true).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (2, "read the scenario no/such/file.json"));
    }

    #[test]
    fn json_has_the_documented_keys_and_the_table_the_same_money() {
        let result = simulate(&Scenario::from_json(r#"{"jobs":[{"submit_s":0,"runtime_s":360}]}"#).unwrap());
        let value: serde_json::Value = serde_json::from_str(&as_json(&result)).unwrap();
        assert!((value["cost"]["total"].as_f64().unwrap() - 0.14).abs() < 1e-12);
        assert_eq!(value["vm_ms"]["L"], 360_000);
        assert_eq!(value["makespan_s"], 360.0);
        assert_eq!(value["observations"][0]["ready"]["S"], 1);
        assert!(as_table(&result).contains("total            $0.1400"));
    }
}
