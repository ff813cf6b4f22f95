//! What the evaluator is told at its start, read from the environment once; everything that is wrong is listed.

use aws::graphite::Graphite;
use aws::settings::{self, Settings};
use aws::tables::TableNames;
use signing::{POLICY_KEYS, PublicKeys};

/// The variable with the `Authorization` header that Graphite wants.
pub const GRAPHITE_AUTHORIZATION: &str = "GRAPHITE_AUTHORIZATION";

/// What the evaluator needs beside the SDK's own configuration.
#[derive(Debug)]
pub struct Config {
    /// The four tables.
    pub tables: TableNames,
    /// The bucket of policies.
    pub bucket: String,
    /// The keys whose signatures are trusted; without any, policies need none.
    pub keys: Option<PublicKeys>,
    /// Graphite, with its authorization.
    pub graphite: Graphite,
}

impl Config {
    /// Reads it with `get`, which is the environment in a program.
    ///
    /// # Errors
    /// Lists all problems, without any value that may be a secret.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let tables = Settings::read(&get).map(|settings| settings.tables).map_err(|e| e.to_string());
        let bucket = settings::bucket(&get).map_err(|e| e.to_string());
        let keys = get(POLICY_KEYS).map(|text| PublicKeys::parse(&text)).transpose();
        let keys = keys.map_err(|e| format!("{POLICY_KEYS}: {e}"));
        let graphite = Graphite::new(get(GRAPHITE_AUTHORIZATION).as_deref());
        let graphite = graphite.map_err(|e| format!("{GRAPHITE_AUTHORIZATION}: {}", e.message));
        match (tables, bucket, keys, graphite) {
            (Ok(tables), Ok(bucket), Ok(keys), Ok(graphite)) => Ok(Self { tables, bucket, keys, graphite }),
            (tables, bucket, keys, graphite) => {
                let problems = [tables.err(), bucket.err(), keys.err(), graphite.err()];
                Err(problems.into_iter().flatten().collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_the_names_alone_there_are_no_keys_and_no_authorization() {
        let names = |name: &str| (name.ends_with("_TABLE") || name == "POLICY_BUCKET").then(|| "x".to_owned());
        let config = Config::read(names).unwrap();
        assert_eq!((config.bucket.as_str(), config.tables.tasks.as_str(), config.keys.is_some()), ("x", "x", false));
    }

    #[test]
    fn every_problem_is_listed_at_once_and_no_secret() {
        let bad = |name: &str| match name {
            "TASKS_TABLE" => Some("tasks".to_owned()),
            POLICY_KEYS => Some("no key".to_owned()),
            GRAPHITE_AUTHORIZATION => Some("Bearer secret\n".to_owned()),
            _ => None,
        };
        let problems = Config::read(bad).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
        let names =
            ["INSTANCES_TABLE, DECISIONS_TABLE, CONTROL_TABLE", "POLICY_BUCKET", POLICY_KEYS, GRAPHITE_AUTHORIZATION];
        for (problem, name) in problems.iter().zip(names) {
            assert!(problem.contains(name) && !problem.contains("secret"), "{name}: {problem}");
        }
    }
}
