//! Reads `infra/template.yaml` as CloudFormation sees it, for the tests beside it.

pub mod deployed;
pub mod iam;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use localcloud::Error;
use localcloud::deploy::project_template;
use localcloud::tools::tool;
use serde_json::Value;

/// The template after the SAM transform.
#[derive(Clone, Debug)]
pub struct Template(pub Value);

impl Template {
    /// Transforms the project's template.
    ///
    /// # Errors
    /// If the tools are missing or the transform refuses the template, with what it says.
    pub fn transformed() -> Result<Self, Error> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("transform.py");
        let output = run(Command::new(tool("cloud", "python")?).arg(script).arg(project_template()))?;
        if !output.status.success() {
            return Err(refused(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        serde_json::from_slice(&output.stdout).map(Self).map_err(|e| refused(e.to_string()))
    }

    /// A resource's properties; null if there is no such resource.
    pub fn properties(&self, logical_id: &str) -> &Value {
        &self.0["Resources"][logical_id]["Properties"]
    }

    /// All resources whose type starts with `prefix`, by logical id.
    pub fn of_type(&self, prefix: &str) -> BTreeMap<&str, &Value> {
        let resources = self.0["Resources"].as_object().into_iter().flatten();
        let matching = resources.filter(|(_, r)| r["Type"].as_str().is_some_and(|t| t.starts_with(prefix)));
        matching.map(|(id, resource)| (id.as_str(), resource)).collect()
    }
}

/// What cfn-lint finds in a template; empty if nothing.
///
/// # Errors
/// If it is missing or cannot be run.
pub fn lint(template: &Path) -> Result<String, Error> {
    let output = run(Command::new(tool("cloud", "cfn-lint")?).arg("--").arg(template))?;
    let mut findings = String::from_utf8_lossy(&output.stdout).into_owned();
    findings.push_str(&String::from_utf8_lossy(&output.stderr));
    if findings.is_empty() && !output.status.success() {
        findings = format!("cfn-lint ended with {}", output.status);
    }
    Ok(findings)
}

/// The project's template, before the transform.
pub fn source() -> PathBuf {
    project_template()
}

fn run(command: &mut Command) -> Result<Output, Error> {
    command.output().map_err(|source| Error::Io { what: format!("run {command:?}"), source })
}

fn refused(reason: String) -> Error {
    Error::Template { path: project_template(), reason }
}
