//! Seeds that failed once, and are run ever since.

use crate::profile::Profile;

/// A seed that failed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its profile.
    pub profile: Profile,
    /// The seed.
    pub seed: u64,
    /// What was wrong then.
    pub reason: String,
}

/// Reads the file: a line a seed, `profile seed reason`; empty lines and those that begin with `#` count for nothing.
///
/// # Errors
/// Names the line that is none of these.
pub fn read(text: &str) -> Result<Vec<Kept>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| one(line).ok_or_else(|| format!("not `profile seed reason`: {line}"))).collect()
}

fn one(line: &str) -> Option<Kept> {
    let mut words = line.splitn(3, ' ');
    let profile = words.next()?.parse().ok()?;
    let seed = words.next()?.parse().ok()?;
    let reason = words.next().filter(|reason| !reason.trim().is_empty())?.to_owned();
    Some(Kept { profile, seed, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_others_are_named() {
        let text = "# a comment\n\nhell 7 I1: too many\n";
        let kept = Kept { profile: Profile::Hell, seed: 7, reason: "I1: too many".into() };
        assert_eq!(read(text).unwrap(), [kept]);
        for wrong in ["limbo 7 x", "hell x y", "hell 7"] {
            assert!(read(wrong).unwrap_err().contains(wrong));
        }
    }
}
