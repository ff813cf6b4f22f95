//! Why nothing was done, as a name: what a record's text begins with, and the dimension of a metric.
//!
//! A record says why in a sentence, for people. Each sentence begins with a word of its kind, so that the kind can be
//! read from any stored record; a metric carries the kind's name and never the sentence, so that its dimensions are few.

use contract::decision::{Decision, Verdict};

/// A kind of reason.
pub trait Reason: Copy + Sized + 'static {
    /// All kinds.
    const ALL: &'static [Self];

    /// What a text of this kind begins with.
    fn word(self) -> &'static str;

    /// The kind's name, as a metric's dimension has it.
    fn name(self) -> &'static str;

    /// The kind of a text, if it is one of these.
    fn of(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| text.starts_with(kind.word()))
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $of:ident { $($(#[$line:meta])* $kind:ident: $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $of { $($(#[$line])* $kind,)+ }

        impl Reason for $of {
            const ALL: &'static [Self] = &[$(Self::$kind,)+];
            fn word(self) -> &'static str {
                match self { $(Self::$kind => $word,)+ }
            }
            fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)+ }
            }
        }
    };
}

reasons! {
    /// Why a tick changes nothing.
    Hold {
        /// Nobody wants a change.
        NoChange: "no change",
        /// The last action is too recent.
        Cooldown: "cooldown",
        /// The kill switch is engaged.
        KillSwitch: "kill switch",
        /// The load was gone at once, which is what an outage looks like: nothing is stopped.
        LoadVanished: "load vanished",
        /// The pool only decides and records.
        Observe: "observe",
        /// The pool decides nothing.
        ModeOff: "mode off",
    }
}

reasons! {
    /// Why the executor refused a decision that asked for something.
    Refused {
        /// The last claim is too recent.
        Cooldown: "cooldown",
        /// The kill switch is engaged.
        KillSwitch: "kill switch",
        /// What the decision saw is no longer so.
        Late: "late",
        /// The pool's mode does not allow it.
        Mode: "mode",
        /// So many machines are unhealthy that somebody has to look first.
        Unhealthy: "unhealthy",
        /// The plan did not pass the check.
        Plan: "the plan was refused",
    }
}

reasons! {
    /// Why the executor dropped a record of the stream.
    Dropped {
        /// The table does not have the decision: the record is forged, or the decision has expired.
        Unknown: "the table has no such decision",
        /// The decision holds.
        AsksNothing: "it asks for nothing",
        /// Another executor claimed or settled it first.
        Duplicate: "duplicate of a decision",
        /// Another version of the stack wrote it, and this one cannot read it.
        Unreadable: "the decision is of another version",
    }
}

impl Hold {
    /// Why a decision changes nothing; none if it acts, or if it was written by a version with other words.
    pub fn of_decision(decision: &Decision) -> Option<Self> {
        if decision.verdict == Verdict::Hold { Self::of(&decision.reason) } else { None }
    }
}

impl Refused {
    /// Whether the refusal comes after the claim, and so costs its cooldown.
    pub fn is_after_claim(self) -> bool {
        matches!(self, Refused::Unhealthy | Refused::Plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::decided;

    fn are_told_apart<R: Reason + PartialEq + std::fmt::Debug>() {
        for kind in R::ALL {
            assert_eq!(R::of(&format!("{}; and more", kind.word())), Some(*kind));
            assert!(kind.name().chars().all(|c| c.is_ascii_alphanumeric()), "{kind:?}");
        }
        assert_eq!(R::of("a word of nobody"), None);
        assert_eq!(R::of(""), None);
    }

    #[test]
    fn every_kind_is_read_back_from_its_own_text() {
        are_told_apart::<Hold>();
        are_told_apart::<Refused>();
        are_told_apart::<Dropped>();
    }

    #[test]
    fn only_a_decision_that_holds_has_a_reason_to() {
        let with = |verdict: Verdict, reason: &str| {
            Hold::of_decision(&Decision { verdict, reason: reason.into(), ..decided(60) })
        };
        assert_eq!(with(Verdict::Hold, "kill switch; the policy would stop S"), Some(Hold::KillSwitch));
        assert_eq!(with(Verdict::Act, "kill switch; the policy would stop S"), None);
        assert_eq!(with(Verdict::Hold, "an older version's words"), None);
    }
}
