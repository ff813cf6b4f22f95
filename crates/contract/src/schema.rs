//! One hash over everything that training and serving must agree on.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::action::ACTIONS;
use crate::observation::{FEATURES, Scale};
use crate::reward::REWARD;

/// The canonical text of the guard rails, part of the schema hash: change it with the rules of `controller::guard`.
pub const GUARD: &str = "guard v4: mode, kill switch, cooldown, machines per action, bounds min/max, no capacity, \
                         launches per hour, stops per hour, dollars per hour/day/month, \
                         the last of them kept for a missing minimum, no scale-in when doubtful; mask is an input of the network";

/// The text that is hashed: one line a feature, one an action, the reward, the guard.
pub fn canonical_text() -> String {
    let mut text = String::from("twinscaler schema 1\n");
    for feature in &FEATURES {
        let scale = match feature.scale {
            Scale::Linear { max } => format!("linear {max}"),
            Scale::Log { max } => format!("log {max}"),
        };
        text += &format!("feature {} {scale} missing {}\n", feature.name, feature.if_missing);
    }
    for (i, (_, name)) in ACTIONS.iter().enumerate() {
        text += &format!("action {i} {name}\n");
    }
    text + REWARD + "\n" + GUARD + "\n"
}

/// SHA-256 of [`canonical_text`] in hexadecimal. A policy that carries another hash is refused.
pub fn schema_hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| sha256_hex(canonical_text().as_bytes()))
}

/// SHA-256 in lower-case hexadecimal: how policies are named and checked.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_feature_and_action_once() {
        let text = canonical_text();
        for feature in &FEATURES {
            assert_eq!(text.matches(&format!("feature {} ", feature.name)).count(), 1, "{}", feature.name);
        }
        for (_, name) in &ACTIONS {
            assert!(text.contains(name));
        }
    }

    #[test]
    fn sha256_of_the_empty_string_is_the_published_one() {
        assert_eq!(sha256_hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
