//! The program's start: a wrong configuration ends it, with one line that says all that is wrong.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_wrong_configuration_is_one_line_with_all_problems() {
    let output = Command::new(env!("CARGO_BIN_EXE_executor")).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["level"], &line["fields"]["message"]), (&"ERROR".into(), &"the executor cannot run".into()));
    let problems = line["fields"]["problems"].as_str().unwrap();
    for name in ["TASKS_TABLE", "CONTROL_TABLE", "STACK_NAME"] {
        assert!(problems.contains(name), "{name}: {problems}");
    }
    assert!(!text.contains("secret"), "{text}");
}
