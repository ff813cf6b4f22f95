//! Who takes part in a comparison: rules by name, and policy files.

use std::path::Path;
use std::sync::Arc;

use backtest::play::{Contender, Player};
use backtest::rules::{Family, Rule, RuleError};
use backtest::tune::{Tuned, tune, tune_all};
use contract::actions_up_to;
use contract::manifest::Manifest;
use contract::observation::encode;
use policy::{Policy, PolicyError};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use twin::EnvSpec;

use crate::ppo::evaluate::{Choice, Playing};
use crate::ppo::weights::Weights;

/// A policy as the command line names it.
#[derive(Clone, Debug, PartialEq)]
pub enum Named {
    /// A rule with its settings.
    Rule(Rule),
    /// A family whose settings are to be searched.
    Family(Family),
    /// The best of all families: `rule:tuned`.
    Tuned,
    /// A policy file, or the directory that it is in.
    File(String),
}

/// Why a contender cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum ContenderError {
    /// No such rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A file of the policy.
    #[error("read {path}")]
    Read {
        /// Which.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The manifest is none.
    #[error("read {path}, which must lie beside the policy")]
    Manifest {
        /// Which.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The policy does not pass the evaluator's own checks.
    #[error("use the policy {path}")]
    Policy {
        /// Which.
        path: String,
        /// What is wrong.
        source: PolicyError,
    },
}

impl Named {
    /// Reads a name. With `search`, rules without settings are searched.
    ///
    /// # Errors
    /// If it is a rule that there is not.
    pub fn parse(text: &str, search: bool) -> Result<Self, RuleError> {
        if text == "rule:tuned" {
            return Ok(Named::Tuned);
        }
        if !text.starts_with("rule:") {
            return Ok(Named::File(text.to_owned()));
        }
        let rule: Rule = text.parse()?;
        let family = Family::ALL.into_iter().find(|f| text == format!("rule:{}", f.name()));
        Ok(family.filter(|_| search).map_or(Named::Rule(rule), Named::Family))
    }

    /// The contender; rules that are to be searched are searched on the episodes of `seeds`.
    ///
    /// # Errors
    /// If a policy file cannot be used.
    pub fn contender(&self, spec: &Arc<EnvSpec>, seeds: &[u64]) -> Result<Box<dyn Contender>, ContenderError> {
        Ok(match self {
            Named::Rule(rule) => Box::new(*rule),
            Named::Family(family) => Box::new(Searched(tune(*family, spec, seeds))),
            Named::Tuned => Box::new(Searched(tune_all(spec, seeds))),
            Named::File(path) => Box::new(PolicyFile::load(Path::new(path))?),
        })
    }
}

/// A rule whose settings were searched.
struct Searched(Tuned);

impl Contender for Searched {
    fn name(&self) -> String {
        let how = if self.0.rule == Rule::Nothing { "" } else { " (tuned)" };
        format!("{}{how}", self.0.rule)
    }
    fn initial(&self) -> Option<[u32; contract::SIZE_COUNT]> {
        self.0.rule.initial()
    }
    fn player(&self) -> Player<'_> {
        Contender::player(&self.0.rule)
    }
}

/// A verified policy, run by tract as production runs it: it goes no further in one action than it has learned.
pub struct PolicyFile {
    /// What it is called.
    pub name: String,
    /// The policy.
    pub policy: Policy,
}

impl PolicyFile {
    fn load(path: &Path) -> Result<Self, ContenderError> {
        let onnx = if path.is_dir() { path.join("policy.onnx") } else { path.to_owned() };
        let manifest_path = onnx.with_file_name("manifest.json");
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| ContenderError::Read { path: path.display().to_string(), source })
        };
        let (bytes, manifest) = (read(&onnx)?, read(&manifest_path)?);
        let manifest: Manifest = serde_json::from_slice(&manifest)
            .map_err(|source| ContenderError::Manifest { path: manifest_path.display().to_string(), source })?;
        let policy = Policy::load(&bytes, &manifest)
            .map_err(|source| ContenderError::Policy { path: onnx.display().to_string(), source })?;
        Ok(Self { name: path.display().to_string(), policy })
    }
}

impl Contender for PolicyFile {
    fn name(&self) -> String {
        self.name.clone()
    }
    fn player(&self) -> Player<'_> {
        let mut state = self.policy.zero_state();
        let learned = actions_up_to(self.policy.machines_per_action_max()).len();
        Box::new(move |observation, mask| {
            let mask = std::array::from_fn(|action| action < learned && mask[action]);
            let step = self.policy.step(&encode(observation), &mask, &mut state);
            step.map(|out| out.best(&mask)).map_err(|e| e.to_string())
        })
    }
}

/// Weights that have just been learned; they take their most probable action, as production does.
pub struct Learned<'a> {
    /// What they are called.
    pub name: String,
    /// The weights.
    pub weights: &'a Weights,
}

impl Contender for Learned<'_> {
    fn name(&self) -> String {
        self.name.clone()
    }
    fn player(&self) -> Player<'_> {
        // the most probable action draws nothing
        let (mut policy, mut rng) = (Playing::new(self.weights), ChaCha8Rng::seed_from_u64(0));
        Box::new(move |observation, mask| Ok(policy.act(&encode(observation), mask, Choice::Argmax, &mut rng)))
    }
}

#[cfg(test)]
mod tests {
    use contract::{Action, Observation};

    use super::*;
    use crate::parity::package;

    #[test]
    fn names_are_rules_families_or_files() {
        assert_eq!(Named::parse("rule:tuned", false).unwrap(), Named::Tuned);
        assert_eq!(Named::parse("rule:cpu", true).unwrap(), Named::Family(Family::Cpu));
        assert!(matches!(Named::parse("rule:cpu", false).unwrap(), Named::Rule(Rule::Cpu { .. })));
        assert!(matches!(Named::parse("rule:cpu=0.7", true).unwrap(), Named::Rule(Rule::Cpu { .. })));
        assert_eq!(Named::parse("policies/initial", true).unwrap(), Named::File("policies/initial".into()));
        assert!(Named::parse("rule:magic", true).is_err());
    }

    #[test]
    fn the_shipped_policy_takes_part_by_its_file_and_by_its_directory() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/initial");
        let spec = Arc::new(EnvSpec::published());
        let usd = |path: &str| {
            let contender = Named::File(path.to_owned()).contender(&spec, &[0]).unwrap();
            backtest::play::outcomes(contender.as_ref(), &spec, &[0]).unwrap()[0].total_usd
        };
        let total = usd(dir);
        assert_eq!(total, usd(&format!("{dir}/policy.onnx")));
        assert!(total < 22.0, "{total}");
        let missing = Named::File("no/such.onnx".into()).contender(&spec, &[0]).err().unwrap();
        assert!(missing.to_string().contains("no/such.onnx"));
    }

    #[test]
    fn a_policy_goes_no_further_in_one_action_than_it_has_learned() {
        let (onnx, manifest) = package(&Weights::new(8, 1), Default::default()).unwrap();
        let (observation, one) = (Observation::empty([2, 4, 8]), actions_up_to(1).len());
        // one machine at once is refused here, more are not
        let mask = std::array::from_fn(|action| action == 0 || action >= one);
        let learned_up_to = |machines_per_action_max| {
            let manifest = Manifest { machines_per_action_max, ..manifest.clone() };
            PolicyFile { name: String::new(), policy: Policy::load(&onnx, &manifest).unwrap() }
        };
        let action = |policy: &PolicyFile| policy.player()(&observation, &mask).unwrap();
        assert_eq!(action(&learned_up_to(1)), Action::Nothing);
        assert!(action(&learned_up_to(4)).machines() > 1, "were it to be tried, it would do so");
    }
}
