//! `twinscaler simulate`: runs one scenario file in the twin and prints what came of it.

use std::io::{self, Read, Write};

use std::sync::Arc;

use backtest::rules::RuleError;
use contract::Action;
use serde::Serialize;
use twin::outcome::{SimResult, play, simulate};
use twin::scenario::Scenario;
use twin::{EnvSpec, ScenarioError};

use crate::contender::{ContenderError, Named};

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
    /// There is no such rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The policy cannot be used.
    #[error(transparent)]
    Contender(#[from] ContenderError),
    /// The policy failed in mid-episode.
    #[error("play the policy: {0}")]
    Policy(String),
    /// The result could not be written.
    #[error("write the result")]
    Write(#[source] io::Error),
}

impl SimulateError {
    /// The exit code of the command: 2 for a scenario that cannot be read or is not valid, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            SimulateError::Policy(_) | SimulateError::Write(_) => 1,
            _ => 2,
        }
    }
}

/// What is printed: the result, and under a policy the actions that it took.
#[derive(Serialize)]
struct Printed {
    #[serde(flatten)]
    result: SimResult,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions: Option<Vec<Action>>,
}

/// Runs the scenario in the file `scenario_path`, or from standard input if it is `-`, and prints the result: as JSON
/// or as a table. A `policy` takes the place of the scenario's actions; it begins with the scenario's fleet.
///
/// # Errors
/// If the scenario cannot be read, is not valid, the policy cannot play, or the result cannot be written.
pub fn run(scenario_path: &str, policy: Option<&str>, json: bool) -> Result<(), SimulateError> {
    let text = read(scenario_path).map_err(|source| SimulateError::Read { path: scenario_path.into(), source })?;
    let scenario = Scenario::from_json(&text)?;
    let printed = match policy {
        None => Printed { result: simulate(&scenario), policy: None, actions: None },
        Some(policy) => simulate_policy(&scenario, policy)?,
    };
    let mut out = io::stdout().lock();
    let text = if json { as_json(&printed) } else { as_table(&printed) };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(SimulateError::Write)
}

fn simulate_policy(scenario: &Scenario, policy: &str) -> Result<Printed, SimulateError> {
    let named = Named::parse(policy, false)?;
    if scenario.workload.jobs().is_empty() {
        // over at the start (T5): nobody is asked
        let idle = Scenario { actions: Vec::new(), ..scenario.clone() };
        return Ok(Printed { result: simulate(&idle), policy: Some(policy.to_owned()), actions: Some(Vec::new()) });
    }
    let spec = Arc::new(EnvSpec::new(scenario.config.clone(), vec![Arc::new(scenario.workload.clone())])?);
    let seed = scenario.config.boot.seed();
    let contender = named.contender(&spec, &[seed])?;
    let (result, actions) = play(&spec, seed, &mut contender.player()).map_err(SimulateError::Policy)?;
    Ok(Printed { result, policy: Some(contender.name()), actions: Some(actions) })
}

fn read(path: &str) -> io::Result<String> {
    if path != "-" {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn as_json(result: &Printed) -> String {
    serde_json::to_string(result).expect("numbers, strings and maps with string keys") + "\n"
}

fn as_table(printed: &Printed) -> String {
    let result = &printed.result;
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
    rows.extend(printed.policy.iter().map(|policy| ("policy".into(), policy.clone())));
    let numbers =
        |actions: &Vec<Action>| actions.iter().map(|a| u16::from(*a).to_string()).collect::<Vec<_>>().join(",");
    rows.extend(printed.actions.iter().map(|actions| ("actions".into(), numbers(actions))));
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
        let error = run("no/such/file.json", None, true).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (2, "read the scenario no/such/file.json"));
    }

    #[test]
    fn json_has_the_documented_keys_and_the_table_the_same_money() {
        let scenario = Scenario::from_json(r#"{"jobs":[{"submit_s":0,"runtime_s":360}]}"#).unwrap();
        let result = Printed { result: simulate(&scenario), policy: None, actions: None };
        let value: serde_json::Value = serde_json::from_str(&as_json(&result)).unwrap();
        assert!((value["cost"]["total"].as_f64().unwrap() - 0.14).abs() < 1e-12);
        assert_eq!(value["vm_ms"]["L"], 360_000);
        assert_eq!(value["makespan_s"], 360.0);
        assert_eq!(value["observations"][0]["ready"]["S"], 1);
        assert!(as_table(&result).contains("total            $0.1400"));
    }

    #[test]
    fn the_actions_of_a_policy_replay_its_run() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/initial/policy.onnx");
        let jobs = (0..60).map(|i| serde_json::json!({"submit_s": 30 * (i / 20), "runtime_s": 200 + i}));
        let mut json = serde_json::json!({"jobs": jobs.collect::<Vec<_>>(),
            "config": {"boot": {"kind": "uniform", "low_s": 40.0, "high_s": 90.0, "seed": 5}, "cooldown_s": 60.0}});
        for policy in ["rule:queue=1.2", "rule:static=1,1,3", "rule:tuned", dir] {
            let played = simulate_policy(&Scenario::from_json(&json.to_string()).unwrap(), policy).unwrap();
            json["actions"] = serde_json::to_value(&played.actions).unwrap();
            let replayed = simulate(&Scenario::from_json(&json.to_string()).unwrap());
            assert_eq!(replayed, played.result, "{policy}");
        }
        let error = simulate_policy(&Scenario::from_json(&json.to_string()).unwrap(), "rule:magic").err().unwrap();
        assert_eq!(error.exit_code(), 2);
    }
}
