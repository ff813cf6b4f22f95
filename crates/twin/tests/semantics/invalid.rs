//! Invalid scenarios are refused with a message that names the field.

use serde_json::json;
use twin::scenario::Scenario;

fn message(text: &str) -> String {
    Scenario::from_json(text).expect_err(text).to_string()
}

#[test]
fn each_mistake_is_named() {
    let job = r#""submit_s":0,"runtime_s":1"#;
    let kind = r#""name":"A","cores":1,"usd_per_hour":1"#;
    let cases = [
        (r#"{"jobs":[{"submit_s":-1,"runtime_s":1}]}"#.to_string(), "jobs[0].submit_s"),
        (r#"{"jobs":[{"submit_s":0,"runtime_s":-0.1}]}"#.into(), "jobs[0].runtime_s"),
        (r#"{"jobs":[{"submit_s":NaN,"runtime_s":1}]}"#.into(), "jobs[0].submit_s"),
        (r#"{"jobs":[{"submit_s":0,"runtime_s":Infinity}]}"#.into(), "jobs[0].runtime_s"),
        (r#"{"jobs":[{"submit_s":1e999,"runtime_s":1}]}"#.into(), "jobs[0].submit_s"),
        (r#"{"jobs":[{"submit_s":0}]}"#.into(), "runtime_s"),
        (r#"{"jobs":[{"submit_s":0,"runtime_s":1,"speed":2}]}"#.into(), "speed"),
        (format!(r#"{{"jobs":[{{{job},"cores":0}}]}}"#), "jobs[0].cores"),
        (format!(r#"{{"jobs":[{{{job},"cores":9}}]}}"#), "jobs[0].cores: 9 fit on no machine type"),
        (format!(r#"{{"jobs":[{{{job},"memory_mb":32769}}]}}"#), "jobs[0].memory_mb: 32769 fit on no machine type"),
        (format!(r#"{{"jobs":[{{{job},"cores":8,"memory_mb":-5}}]}}"#), "jobs[0].memory_mb"),
        (format!(r#"{{"jobs":[{{"id":3,{job}}},{{"id":3,{job}}}]}}"#), "jobs[1].id: 3 is given twice"),
        (r#"{"actions":[0,7]}"#.into(), "actions[1]: 7 is for an unknown type"),
        (r#"{"actions":[0,-1]}"#.into(), "actions[1]"),
        (r#"{"config":{"step_s":0}}"#.into(), "config.step_s"),
        (r#"{"config":{"step_s":-60}}"#.into(), "config.step_s"),
        (r#"{"config":{"cooldown_s":-1}}"#.into(), "config.cooldown_s"),
        (r#"{"config":{"min_billed_s":-1}}"#.into(), "config.min_billed_s"),
        (r#"{"config":{"max_steps":-1}}"#.into(), "config.max_steps"),
        (r#"{"config":{"queue_usd_per_task_hour":-1}}"#.into(), "config.queue_usd_per_task_hour"),
        (r#"{"config":{"colour":1}}"#.into(), "colour"),
        (r#"{"config":{"boot":{"kind":"sometimes","seconds":1}}}"#.into(), "config.boot"),
        (r#"{"config":{"boot":{"kind":"fixed","seconds":-1}}}"#.into(), "config.boot.seconds"),
        (r#"{"config":{"boot":{"kind":"list","seconds":[]}}}"#.into(), "config.boot.seconds"),
        (r#"{"config":{"boot":{"kind":"list","seconds":[1,-2]}}}"#.into(), "config.boot.seconds[1]"),
        (r#"{"config":{"boot":{"kind":"uniform","low_s":3,"high_s":2}}}"#.into(), "config.boot.low_s"),
        (r#"{"config":{"drain":1}}"#.into(), "config.drain"),
        (r#"{"config":{"drain_max_s":60}}"#.into(), "drain_max_s: must be above 0, and needs drain"),
        (r#"{"config":{"drain":true,"drain_max_s":0}}"#.into(), "drain_max_s: must be above 0, and needs drain"),
        (r#"{"config":{"stop_delay_s":30}}"#.into(), "config.stop_delay_s"),
        (r#"{"config":{"stop_delay_s":{"low":15}}}"#.into(), "high"),
        (r#"{"config":{"stop_delay_s":{"low":-1,"high":2}}}"#.into(), "config.stop_delay_s.low: -1 is not"),
        (r#"{"config":{"stop_delay_s":{"low":1,"high":1e10}}}"#.into(), "config.stop_delay_s.high"),
        (r#"{"config":{"stop_delay_s":{"low":3,"high":2}}}"#.into(), "config.stop_delay_s.low: must not be above"),
        (
            format!(r#"{{"config":{{"vm_types":[{{{kind},"spot_interruptions_per_hour":-1}}]}}}}"#),
            "config.vm_types[0].spot_interruptions_per_hour",
        ),
        (r#"{"config":{"vm_types":[]}}"#.into(), "config.vm_types"),
        (
            format!(r#"{{"config":{{"vm_types":[{{{kind},"min":3,"max":2}}]}}}}"#),
            "config.vm_types[0].min: min 3 is above",
        ),
        (format!(r#"{{"config":{{"vm_types":[{{{kind}}},{{{kind}}}]}}}}"#), "config.vm_types[1].name"),
        (r#"{"config":{"vm_types":[{"name":"vm","cores":1,"usd_per_hour":1}]}}"#.into(), "config.vm_types[0].name"),
        (r#"{"config":{"vm_types":[{"name":"A","cores":0,"usd_per_hour":1}]}}"#.into(), "config.vm_types[0].cores"),
        (r#"{"config":{"vm_types":[{"name":"A","cores":1,"usd_per_hour":-1}]}}"#.into(), "usd_per_hour"),
        (r#"{"jobs":[]} trailing"#.into(), "trailing"),
        ("{".into(), "EOF"),
    ];
    for (text, part) in cases {
        let message = message(&text);
        assert!(message.contains(part), "{text}\n  gives: {message}\n  not:   {part}");
    }
}

#[test]
fn every_problem_is_listed() {
    let scenario = json!({"config": {"step_s": 0, "cooldown_s": -1}, "jobs": [{"submit_s": -1, "runtime_s": 1}]});
    let problems = Scenario::from_json(&scenario.to_string()).unwrap_err().problems;
    assert_eq!(problems.len(), 3, "{problems:?}");
}
