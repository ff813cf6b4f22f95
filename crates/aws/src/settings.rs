//! The names that the stack gives its programs, read from the environment once; all that is missing is listed.

use crate::tables::TableNames;

/// Names that are not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the settings: {} not set; the stack's template sets them, and its outputs show them", .0.join(", "))]
pub struct Missing(pub Vec<&'static str>);

/// The names of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The four tables.
    pub tables: TableNames,
}

/// What the executor has to know: it reads no policies, and launches and stops for one stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorSettings {
    /// The four tables.
    pub tables: TableNames,
    /// The name of the stack, which its machines are tagged with.
    pub stack: String,
}

impl ExecutorSettings {
    /// Reads them with `get`, which is the environment in a program.
    ///
    /// # Errors
    /// Lists the names that are not set.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Missing> {
        let mut reader = Reader { get, missing: Vec::new() };
        let (tables, stack) = (reader.tables(), reader.need("STACK_NAME"));
        reader.unless_missing(Self { tables, stack })
    }
}

/// Reads names, and remembers those that are not set.
struct Reader<F> {
    get: F,
    missing: Vec<&'static str>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    /// A value, if it is set.
    fn value(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    fn need(&mut self, name: &'static str) -> String {
        self.value(name).unwrap_or_else(|| {
            self.missing.push(name);
            String::new()
        })
    }

    fn tables(&mut self) -> TableNames {
        TableNames {
            tasks: self.need("TASKS_TABLE"),
            instances: self.need("INSTANCES_TABLE"),
            decisions: self.need("DECISIONS_TABLE"),
            control: self.need("CONTROL_TABLE"),
        }
    }

    fn unless_missing<T>(self, settings: T) -> Result<T, Missing> {
        if self.missing.is_empty() { Ok(settings) } else { Err(Missing(self.missing)) }
    }
}

impl Settings {
    /// Reads them with `get`, which is the environment in a program.
    ///
    /// # Errors
    /// Lists the names that are not set.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Missing> {
        let mut reader = Reader { get, missing: Vec::new() };
        let tables = reader.tables();
        reader.unless_missing(Self { tables })
    }
}

/// The name of the bucket of policies.
///
/// # Errors
/// If it is not set.
pub fn bucket(get: impl Fn(&str) -> Option<String>) -> Result<String, Missing> {
    get("POLICY_BUCKET").filter(|value| !value.is_empty()).ok_or_else(|| Missing(vec!["POLICY_BUCKET"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_listed() {
        let some = |name: &str| matches!(name, "TASKS_TABLE" | "CONTROL_TABLE").then(|| "x".to_owned());
        let missing = Settings::read(some).unwrap_err();
        assert_eq!(missing.0, ["INSTANCES_TABLE", "DECISIONS_TABLE"]);
        let all = Settings::read(|_| Some("x".to_owned())).unwrap();
        assert_eq!(all.tables.control, "x");
    }

    #[test]
    fn the_executor_does_not_start_without_the_name_of_its_stack() {
        let some = |name: &str| matches!(name, "TASKS_TABLE" | "CONTROL_TABLE").then(|| "x".to_owned());
        let missing = ExecutorSettings::read(some).unwrap_err();
        assert_eq!(missing.0, ["INSTANCES_TABLE", "DECISIONS_TABLE", "STACK_NAME"]);
        let empty = |name: &str| Some(if name == "STACK_NAME" { "" } else { "x" }.to_owned());
        assert_eq!(ExecutorSettings::read(empty).unwrap_err().0, ["STACK_NAME"]);
        let all = ExecutorSettings::read(|name| (name != "POLICY_BUCKET").then(|| "x".to_owned()));
        assert_eq!(all.unwrap().stack, "x");
    }
}
