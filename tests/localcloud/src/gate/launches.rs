//! Client tokens of `RunInstances`: which were seen, with what, and what the answer was.

use std::collections::BTreeMap;

use super::forward::Answer;

/// The launches that had a token and succeeded.
#[derive(Debug, Default)]
pub(super) struct Launches(BTreeMap<String, Launch>);

/// One launch.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    params: BTreeMap<String, String>,
    answer: Answer,
    /// What it started.
    pub instance_ids: Vec<String>,
}

/// What is known about a token.
#[derive(Debug)]
pub(super) enum Seen {
    /// Nothing: launch.
    Never,
    /// It was used with other parameters.
    Different,
    /// It was used for the same launch: this is its answer, if these machines still exist.
    Same(Answer, Vec<String>),
}

impl Launches {
    /// Looks a token up.
    pub(super) fn seen(&self, token: &str, params: &BTreeMap<String, String>) -> Seen {
        match self.0.get(token) {
            None => Seen::Never,
            Some(launch) if launch.params == *params => Seen::Same(launch.answer.clone(), launch.instance_ids.clone()),
            Some(_) => Seen::Different,
        }
    }

    /// Remembers a launch that succeeded.
    pub(super) fn remember(&mut self, token: String, params: BTreeMap<String, String>, answer: Answer) {
        let instance_ids = instance_ids(&answer);
        self.0.insert(token, Launch { params, answer, instance_ids });
    }
}

/// The ids in an answer of `RunInstances`.
fn instance_ids(answer: &Answer) -> Vec<String> {
    let text = String::from_utf8_lossy(&answer.body);
    let Ok(document) = roxmltree::Document::parse(&text) else { return Vec::new() };
    let ids = document.descendants().filter(|n| n.tag_name().name() == "instanceId");
    ids.filter_map(|n| n.text()).map(ToOwned::to_owned).collect()
}
