//! What becomes of each call: errors as the service behind the port gives them, lost answers, and repetitions.

use std::sync::{Arc, Mutex, PoisonError};

use controller::ports::Kind;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use testkit::fate::{Director, Fate};
use testkit::{fault, op};

use crate::profile::Rates;
use crate::seen::{Event, Seen};

/// An error that a service gives: its code and what our adapters make of it.
type Code = (&'static str, Kind);

/// Failures of any call to AWS.
const ANY: [Code; 6] = [
    // Also what a table says to an item above 400 KB.
    ("ValidationException", Kind::Invalid),
    ("InternalServerError", Kind::Unavailable),
    ("ServiceUnavailable", Kind::Unavailable),
    ("ThrottlingException", Kind::Throttled),
    ("ExpiredTokenException", Kind::Denied),
    ("AccessDeniedException", Kind::Denied),
];

/// Failures of launches.
const LAUNCH: [Code; 9] = [
    ("RequestLimitExceeded", Kind::Throttled),
    ("InsufficientInstanceCapacity", Kind::NoCapacity),
    ("VcpuLimitExceeded", Kind::NoCapacity),
    ("InsufficientFreeAddressesInSubnet", Kind::NoCapacity),
    ("IdempotentParameterMismatch", Kind::Invalid),
    ("InvalidLaunchTemplateName.NotFoundException", Kind::NotFound),
    ("InvalidAMIID.NotFound", Kind::NotFound),
    ("UnauthorizedOperation", Kind::Denied),
    ("InternalError", Kind::Unavailable),
];

/// How much more often a launch fails than another call.
const LAUNCH_FAILS: f64 = 5.0;

/// Failures of the store of policies.
const STORE: [Code; 4] = [
    ("SlowDown", Kind::Throttled),
    ("InternalError", Kind::Unavailable),
    ("AccessDenied", Kind::Denied),
    ("BodyCut", Kind::Unavailable),
];

/// Failures of the outside metrics.
const METRICS: [Code; 3] =
    [("Throttling", Kind::Throttled), ("Timeout", Kind::Unavailable), ("UnreadableResponse", Kind::Invalid)];

/// A claim's own.
const CLAIM: [Code; 3] = [
    ("TransactionConflict", Kind::Conflict),
    ("TransactionInProgressException", Kind::Unavailable),
    ("ProvisionedThroughputExceededException", Kind::Throttled),
];

/// The director of a simulation.
pub struct Faults {
    rng: ChaCha8Rng,
    rates: Rates,
    seen: Arc<Mutex<Seen>>,
}

impl Faults {
    /// A director with its own randomness, which notes what it lets happen.
    pub fn new(rng: ChaCha8Rng, rates: Rates, seen: Arc<Mutex<Seen>>) -> Self {
        Self { rng, rates, seen }
    }

    fn note(&self, event: Event) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).note(event);
    }

    fn code(&mut self, operation: &str) -> Code {
        let of_its_own: &[Code] = match operation {
            op::LAUNCH => &LAUNCH,
            op::DECISIONS_CLAIM => &CLAIM,
            op::METRICS_SERIES => &METRICS,
            op::POLICIES_POINTER
            | op::POLICIES_MANIFEST
            | op::POLICIES_FILE
            | op::POLICIES_PUT_FILE
            | op::POLICIES_MOVE_POINTER => &STORE,
            _ => &ANY,
        };
        let codes = if self.rng.random_bool(0.2) { &ANY } else { of_its_own };
        codes[self.rng.random_range(0..codes.len())]
    }

    fn fails(&mut self, operation: &'static str) -> Fate {
        let (code, kind) = self.code(operation);
        let event = match (operation, code) {
            (op::LAUNCH, "VcpuLimitExceeded") => Some(Event::VcpuLimit),
            (op::LAUNCH, "InsufficientFreeAddressesInSubnet") => Some(Event::NoAddresses),
            (op::LAUNCH, "IdempotentParameterMismatch") => Some(Event::TokenMismatch),
            (op::LAUNCH, "InvalidLaunchTemplateName.NotFoundException") => Some(Event::TemplateGone),
            (op::LAUNCH, "InvalidAMIID.NotFound") => Some(Event::ImageGone),
            (op::LAUNCH, "RequestLimitExceeded") => Some(Event::LaunchThrottled),
            (op::DECISIONS_PUT_ONCE, "ValidationException") => Some(Event::DecisionTooLarge),
            (op::DECISIONS_PUT_INTENT, "ValidationException") => Some(Event::IntentTooLarge),
            _ if kind == Kind::Denied => Some(Event::Denied),
            _ => None,
        };
        if let Some(event) = event {
            self.note(event);
        }
        Fate::Fails(fault(operation, code, kind))
    }
}

/// Whether an answer that is lost hides an effect.
fn writes(operation: &str) -> bool {
    matches!(
        operation,
        op::LAUNCH
            | op::TERMINATE
            | op::INSTANCES_PUT_NEW
            | op::INSTANCES_MARK_DRAINING
            | op::INSTANCES_REOPEN
            | op::INSTANCES_MARK_TERMINATED
            | op::DECISIONS_PUT_ONCE
            | op::DECISIONS_CLAIM
            | op::DECISIONS_PUT_INTENT
            | op::CONTROL_PUT_NO_CAPACITY
            | op::CONTROL_PUT_SUSPECTS
            | op::POLICIES_PUT_FILE
            | op::POLICIES_MOVE_POINTER
    )
}

impl Director for Faults {
    fn fate(&mut self, operation: &'static str) -> Fate {
        let at = self.rng.random::<f64>();
        let Rates { fails, lost, repeated, .. } = self.rates;
        // Launches are rare among the calls, and have more ways to fail than any other.
        let fails = if operation == op::LAUNCH { fails * LAUNCH_FAILS } else { fails };
        if at < fails {
            self.fails(operation)
        } else if at < fails + lost && writes(operation) {
            match operation {
                op::LAUNCH => self.note(Event::LaunchLost),
                op::TERMINATE => self.note(Event::TerminationLost),
                op::INSTANCES_MARK_DRAINING => self.note(Event::DrainLost),
                op::CONTROL_PUT_SUSPECTS => self.note(Event::SuspectsLost),
                _ => {}
            }
            Fate::Lost(fault(operation, "Timeout", Kind::Unavailable))
        } else if at > 1.0 - repeated && writes(operation) {
            match operation {
                op::LAUNCH => self.note(Event::LaunchRepeated),
                op::DECISIONS_PUT_INTENT => self.note(Event::IntentRepeated),
                _ => {}
            }
            Fate::Repeated
        } else {
            Fate::Fine
        }
    }
}
