//! The settings of training; `settings/default.toml` has them with their reasons.

use serde::{Deserialize, Serialize};

use super::TrainError;
use super::weights::{LAYERS_MAX, compared_for};

/// Settings of PPO. Read from TOML; an unknown key is an error, a missing one has the value of [`PpoConfig::default`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PpoConfig {
    /// Environment steps in all, over all environments.
    pub steps: u64,
    /// Environments that are stepped side by side; on the CPU one matrix product serves eight of them, on a GPU all.
    pub n_envs: usize,
    /// Steps of each environment between two updates. At best a whole episode: environments that are all in the same
    /// phase of theirs show the policy one phase at a time, and it forgets the others.
    pub rollout_steps: usize,
    /// Steps that gradients flow back through; a rollout is cut into sequences of this length, with the state that each
    /// began with.
    pub sequence_steps: usize,
    /// Sequences in one minibatch; the published batch of 250 steps is one sequence of 250.
    pub minibatch_sequences: usize,
    /// Passes over the data of one rollout.
    pub epochs: usize,
    /// Cells of the LSTM.
    pub lstm_cells: usize,
    /// LSTMs on top of each other. More than one are for comparison only: the functions run one.
    pub lstm_layers: usize,
    /// Whether the LSTM keeps its state from step to step. Without it every step is as the first of an episode: for comparison
    /// only, as the functions keep it.
    pub memory: bool,
    /// Discount a step.
    pub gamma: f64,
    /// Lambda of the generalised advantage estimate.
    pub gae_lambda: f64,
    /// How far the probability ratio may move before its gradient is cut.
    pub clip: f32,
    /// Adam's step size at the start.
    pub learning_rate: f64,
    /// Share of the learning rate that is left at the end; it falls linearly. 1 keeps it.
    pub learning_rate_end: f64,
    /// Weight of half the value's squared error.
    pub value_coefficient: f32,
    /// Weight of the entropy bonus at the start: keeps the policy from settling before it has seen alternatives.
    pub entropy_coefficient: f32,
    /// Share of the entropy bonus that is left at the end; it falls linearly.
    pub entropy_end: f32,
    /// Weight of the cross entropy to the teacher's action, which holds the policy to it wherever the rewards do not say otherwise.
    /// 0 learns from rewards alone.
    pub advice_coefficient: f32,
    /// Largest Euclidean norm of the gradient. Low enough to stop a burst, high enough that the value's gradient, which is
    /// the larger one, does not shrink the policy's all the time.
    pub grad_norm_max: f32,
    /// Updates that the weights which are evaluated and exported are the average of, exponentially: what the last minibatches
    /// did to them by chance is left out. Learning goes on from the weights themselves, and a run that is resumed
    /// begins a new average. 1 takes the weights.
    pub average_updates: usize,
    /// Whether the work itself is left out of the reward ([`Environment::work_usd`](twin::Environment::work_usd)): what
    /// remains is waste, which actions can change.
    pub waste_only: bool,
    /// Whether what the teacher wastes in the same step of the same episode is taken off each reward: what comes by chance cancels.
    /// The value, also the exported one, then says how much less than its teacher the policy will waste. A policy trained further
    /// keeps what it has.
    pub paired_rewards: bool,
    /// What a dollar of reward is multiplied by before learning. The value is exported in dollars whatever this is.
    pub reward_scale: RewardScale,
    /// Whether advantages are brought to mean 0 and deviation 1 over each rollout.
    pub normalise_advantages: bool,
    /// Whether a refused action has probability 0 while learning; without it, it is drawn and does nothing.
    pub mask_refused: bool,
    /// Evaluate after at least this many steps, and as many as the evaluation before took, and keep the best weights; 0
    /// keeps the last ones.
    pub evaluate_every_steps: u64,
    /// Episodes of each evaluation.
    pub evaluate_episodes: u64,
    /// How the start is cloned from the best tuned rule, where training starts from nothing.
    pub cloning: CloningConfig,
}

/// How rewards are scaled for learning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RewardScale {
    /// By this factor.
    Fixed(f64),
    /// `"auto"`: by one over the standard deviation of the discounted rewards to come over the first rollout, so that
    /// the value head starts at the right size for any pool. A policy trained further keeps its own, unless that is more than
    /// ten times too large.
    Named(Auto),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// Measured.
    Auto,
}

/// Settings of behaviour cloning, the start of training: the table `[cloning]`. The rest is as for PPO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CloningConfig {
    /// Environment steps in all; 0 starts PPO from fresh weights.
    pub steps: u64,
    /// Passes over the data of one rollout.
    pub epochs: usize,
    /// Sequences in one minibatch; small, since imitation needs many updates rather than exact gradients.
    pub minibatch_sequences: usize,
    /// Adam's step size at the start; it falls towards a tenth, round by round.
    pub learning_rate: f64,
    /// Share of the steps in which the policy acts instead of the teacher; it rises from 0 towards this, round by round.
    pub student_share: f64,
    /// Weight of half the value's squared error.
    pub value_coefficient: f32,
}

impl Default for CloningConfig {
    fn default() -> Self {
        Self {
            steps: 60_000,
            epochs: 6,
            minibatch_sequences: 4,
            learning_rate: 2e-3,
            student_share: 0.8,
            value_coefficient: 0.5,
        }
    }
}

impl Default for PpoConfig {
    /// `settings/default.toml`.
    fn default() -> Self {
        Self {
            steps: 6_000_000,
            n_envs: 32,
            rollout_steps: 256,
            sequence_steps: 64,
            minibatch_sequences: 16,
            epochs: 4,
            lstm_cells: 128,
            lstm_layers: 1,
            memory: true,
            gamma: 0.93,
            gae_lambda: 0.95,
            clip: 0.2,
            learning_rate: 1e-3,
            learning_rate_end: 0.1,
            value_coefficient: 0.5,
            entropy_coefficient: 0.01,
            entropy_end: 0.0,
            advice_coefficient: 0.0,
            grad_norm_max: 5.0,
            average_updates: 1,
            waste_only: true,
            paired_rewards: false,
            reward_scale: RewardScale::Named(Auto::Auto),
            normalise_advantages: true,
            mask_refused: true,
            evaluate_every_steps: 65_536,
            evaluate_episodes: 32,
            cloning: CloningConfig::default(),
        }
    }
}

impl PpoConfig {
    /// Reads settings from TOML.
    ///
    /// # Errors
    /// If the text is not TOML, has an unknown key, or a value makes no sense.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        let config: Self = toml::from_str(text).map_err(|e| TrainError::Config(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Which setting makes the network one for comparison only, of which no policy file can be made.
    pub fn compared_for(&self) -> Option<&'static str> {
        compared_for(self.lstm_layers, self.memory)
    }

    /// Whether the settings make sense together.
    ///
    /// # Errors
    /// Names the first that does not.
    pub fn check(&self) -> Result<(), TrainError> {
        let rules = [
            (self.steps > 0, "steps must be at least 1"),
            (self.n_envs > 0, "n_envs must be at least 1"),
            (self.sequence_steps > 0, "sequence_steps must be at least 1"),
            (self.rollout_steps > 0, "rollout_steps must be at least 1"),
            (
                self.rollout_steps.is_multiple_of(self.sequence_steps.max(1)),
                "rollout_steps must be a multiple of sequence_steps",
            ),
            (self.minibatch_sequences > 0, "minibatch_sequences must be at least 1"),
            (self.epochs > 0, "epochs must be at least 1"),
            ((1..=512).contains(&self.lstm_cells), "lstm_cells must be between 1 and 512"),
            ((1..=LAYERS_MAX).contains(&self.lstm_layers), "lstm_layers must be between 1 and 4"),
            ((0.0..=1.0).contains(&self.gamma), "gamma must be between 0 and 1"),
            ((0.0..=1.0).contains(&self.gae_lambda), "gae_lambda must be between 0 and 1"),
            (self.clip > 0.0, "clip must be above 0"),
            (self.learning_rate > 0.0 && self.learning_rate.is_finite(), "learning_rate must be a number above 0"),
            ((0.0..=1.0).contains(&self.learning_rate_end), "learning_rate_end must be between 0 and 1"),
            (self.grad_norm_max > 0.0, "grad_norm_max must be above 0"),
            (self.average_updates > 0, "average_updates must be at least 1"),
            (
                !matches!(self.reward_scale, RewardScale::Fixed(s) if !(s > 0.0 && s.is_finite())),
                "reward_scale must be above 0",
            ),
            (self.entropy_coefficient >= 0.0, "entropy_coefficient must be at least 0"),
            ((0.0..=1.0).contains(&self.entropy_end), "entropy_end must be between 0 and 1"),
            (self.advice_coefficient >= 0.0, "advice_coefficient must be at least 0"),
            (self.value_coefficient >= 0.0, "value_coefficient must be at least 0"),
            (self.cloning.epochs > 0, "cloning.epochs must be at least 1"),
            (self.cloning.minibatch_sequences > 0, "cloning.minibatch_sequences must be at least 1"),
            (self.cloning.learning_rate > 0.0, "cloning.learning_rate must be above 0"),
            (self.cloning.value_coefficient >= 0.0, "cloning.value_coefficient must be at least 0"),
            ((0.0..=1.0).contains(&self.cloning.student_share), "cloning.student_share must be between 0 and 1"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(TrainError::Config((*rule).to_owned())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_overrides_the_default_and_refuses_unknown_keys() {
        let config = PpoConfig::from_toml("epochs = 7\nreward_scale = 0.5").unwrap();
        assert_eq!(config.epochs, 7);
        assert_eq!(config.reward_scale, RewardScale::Fixed(0.5));
        assert_eq!(config.gamma, 0.93);
        assert_eq!(PpoConfig::from_toml("reward_scale = \"auto\"").unwrap(), PpoConfig::default());
        assert!(PpoConfig::from_toml("epoch = 7").unwrap_err().to_string().contains("epoch"));
        assert!(PpoConfig::from_toml("clip = 0.0").unwrap_err().to_string().contains("clip must be above 0"));
        assert!(PpoConfig::from_toml("reward_scale = -1.0").is_err());
        for (wrong, named) in [
            ("entropy_end = -3.0", "entropy_end"),
            ("[cloning]\nstudent_share = 1.5", "cloning.student_share"),
            ("[cloning]\nvalue_coefficient = nan", "cloning.value_coefficient"),
        ] {
            let error = PpoConfig::from_toml(wrong).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn the_files_of_settings_are_what_they_say() {
        let default = include_str!("../../settings/default.toml");
        assert_eq!(PpoConfig::from_toml(default).unwrap(), PpoConfig::default());
        // it names every setting, so that a copy of it can be changed
        let all: toml::Table = toml::from_str(&toml::to_string(&PpoConfig::default()).unwrap()).unwrap();
        let named: toml::Table = toml::from_str(default).unwrap();
        let keys = |table: &toml::Table| table.keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(keys(&named), keys(&all));
        assert_eq!(keys(named["cloning"].as_table().unwrap()), keys(all["cloning"].as_table().unwrap()));

        let published = PpoConfig::from_toml(include_str!("../../settings/published.toml")).unwrap();
        assert_eq!((published.gamma, published.gae_lambda, published.value_coefficient), (0.99, 0.97, 0.0005));
        assert_eq!(published.cloning.steps, 0);
    }

    /// The files of settings in a folder of `settings`, by name.
    fn files(folder: &str) -> Vec<(String, PpoConfig)> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("settings").join(folder);
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let tomls = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
        let read = |path: std::path::PathBuf| {
            let name = path.display().to_string();
            let config = PpoConfig::from_toml(&std::fs::read_to_string(&path).unwrap());
            (name.clone(), config.unwrap_or_else(|error| panic!("{name}: {error}")))
        };
        tomls.map(read).collect()
    }

    #[test]
    fn every_file_of_settings_parses_and_makes_sense() {
        let ablations = files("ablations");
        assert!(ablations.len() > 20 && ablations.iter().all(|(_, config)| *config != PpoConfig::default()));
        for (name, config) in files("").into_iter().chain(ablations) {
            let (a_rollout, cloning) = ((config.n_envs * config.rollout_steps) as u64, &config.cloning);
            let sequences = config.n_envs * config.rollout_steps / config.sequence_steps;
            assert!(config.steps >= 10 * a_rollout, "{name}: enough updates to learn from");
            assert!(config.minibatch_sequences <= sequences, "{name}: a rollout fills a minibatch");
            assert!(config.evaluate_every_steps == 0 || config.evaluate_every_steps <= config.steps / 10, "{name}");
            // the teacher hands over bit by bit, in several rounds, each of which has not too many tiny updates
            let is_cloned = cloning.steps > 0;
            assert!(!is_cloned || cloning.steps >= 4 * a_rollout, "{name}: the clone sees its own errors");
            assert!(!is_cloned || (8..=256).contains(&(sequences / cloning.minibatch_sequences)), "{name}");
        }
    }

    #[test]
    fn settings_survive_toml() {
        let config = PpoConfig::default();
        assert_eq!(PpoConfig::from_toml(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
}
