//! The roles of the template, statement by statement.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Template;

/// One statement of a role's policy.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its name.
    pub sid: String,
    /// Whether it allows; else it denies.
    pub allows: bool,
    /// The actions.
    pub actions: BTreeSet<String>,
    /// The resources, as the template writes them.
    pub resources: Vec<Value>,
    /// The condition; null if there is none.
    pub condition: Value,
}

impl Statement {
    fn read(value: &Value) -> Self {
        let actions = list(&value["Action"]).into_iter().filter_map(|action| action.as_str().map(ToOwned::to_owned));
        Self {
            sid: value["Sid"].as_str().unwrap_or_default().to_owned(),
            allows: value["Effect"] == "Allow",
            actions: actions.collect(),
            resources: list(&value["Resource"]),
            condition: value["Condition"].clone(),
        }
    }

    /// Whether it speaks of everything.
    pub fn of_everything(&self) -> bool {
        self.resources.iter().any(|resource| resource == "*")
    }
}

/// The statements of a role.
pub fn statements(template: &Template, role: &str) -> Vec<Statement> {
    let policies = list(&template.properties(role)["Policies"]);
    let statements = policies.iter().flat_map(|policy| list(&policy["PolicyDocument"]["Statement"]));
    statements.map(|statement| Statement::read(&statement)).collect()
}

/// All that a role's statements allow, conditions aside.
pub fn allowed(template: &Template, role: &str) -> BTreeSet<String> {
    statements(template, role).into_iter().filter(|s| s.allows).flat_map(|s| s.actions).collect()
}

/// A value, or each of a list's.
fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}
