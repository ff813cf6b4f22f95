//! The names that the stack gives its programs, read from the environment once; all that is missing is listed.

use crate::tables::TableNames;

/// Names that are not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the settings: {} not set; the stack's template sets them, and its outputs show them", .0.join(", "))]
pub struct Missing(pub Vec<&'static str>);

/// The names of the tables and of the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The four tables.
    pub tables: TableNames,
    /// The bucket of policies; the executor has none.
    pub bucket: Option<String>,
}

impl Settings {
    /// Reads them with `get`, which is the environment in a program.
    ///
    /// # Errors
    /// Lists the names that are not set.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Missing> {
        let mut missing = Vec::new();
        let mut need = |name| {
            get(name).filter(|value| !value.is_empty()).unwrap_or_else(|| {
                missing.push(name);
                String::new()
            })
        };
        let tables = TableNames {
            tasks: need("TASKS_TABLE"),
            instances: need("INSTANCES_TABLE"),
            decisions: need("DECISIONS_TABLE"),
            control: need("CONTROL_TABLE"),
        };
        let bucket = get("POLICY_BUCKET").filter(|value| !value.is_empty());
        if missing.is_empty() { Ok(Self { tables, bucket }) } else { Err(Missing(missing)) }
    }

    /// The bucket, for those who cannot do without.
    ///
    /// # Errors
    /// If it is not set.
    pub fn bucket(&self) -> Result<&str, Missing> {
        self.bucket.as_deref().ok_or_else(|| Missing(vec!["POLICY_BUCKET"]))
    }
}

/// The bucket's name alone, for those who need no tables.
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
        assert_eq!(all.bucket().unwrap(), "x");
    }
}
