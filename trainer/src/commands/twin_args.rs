//! The options of all commands that play a load in the twin.

use std::path::PathBuf;

use clap::Args;
use traces::Width;

use crate::load::LoadOptions;

/// The twin to play in.
#[derive(Args, Clone, Debug)]
pub struct TwinArgs {
    /// Settings of the twin, JSON: a scenario's `config`
    #[arg(long = "twin", value_name = "FILE")]
    config: Option<PathBuf>,
    /// published: the settings as they are; ec2: with all that a real fleet does
    #[arg(long, default_value = "published", value_name = "PROFILE")]
    profile: Profile,
    /// What becomes of tasks that are wider than the largest machine
    #[arg(long, default_value = "refuse", value_name = "refuse|split")]
    wide: Wide,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Published,
    Ec2,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Wide {
    Refuse,
    Split,
}

impl TwinArgs {
    /// What a load is played with; nothing is perturbed.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            config: self.config.clone(),
            machines_per_action: None,
            is_ec2: self.profile == Profile::Ec2,
            wide: if self.wide == Wide::Split { Width::Split } else { Width::Refuse },
            is_perturbed: false,
        }
    }
}
