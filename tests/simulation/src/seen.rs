//! What must happen somewhere in a set of seeds. An event that never does fails the run, for then nothing is tested.

use std::collections::BTreeMap;

macro_rules! events {
    ($($name:ident: $text:literal,)+) => {
        /// Something that a set of seeds must have seen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each has its text, which the run prints")]
        pub enum Event { $($name,)+ }

        /// All events.
        pub const EVENTS: &[Event] = &[$(Event::$name,)+];

        impl Event {
            /// The event in words.
            pub fn text(self) -> &'static str {
                match self { $(Event::$name => $text,)+ }
            }
        }
    };
}

events! {
    DuplicateTick: "the same tick was evaluated twice",
    LateTick: "a tick came after a younger one",
    MissingTick: "a tick never came",
    FutureTick: "a tick was minutes ahead",
    RedeliveredBatch: "a batch of the stream was delivered again",
    ReorderedBatch: "records of the stream came in the wrong order",
    LostRecord: "a record of the stream was never delivered",
    ForgedRecord: "a forged record of the stream was dropped",
    MalformedEvent: "a malformed event was refused",
    Crowd: "four or more executors ran at once",
    Claimed: "a claim was won",
    Duplicate: "a duplicate met a decision that somebody had claimed",
    RefusedCooldown: "a claim was refused in the cooldown",
    RefusedKilled: "a claim was refused behind the kill switch",
    RefusedLate: "a claim was refused as late",
    RefusedMode: "a claim was refused by the pool's mode",
    RefusedModeRaced: "a claim was refused because the mode was set between its reading and the claim",
    Raced: "a claim met another transaction",
    Launched: "a launch was settled",
    Terminated: "a termination was settled",
    Draining: "a busy machine was told to work off its tasks",
    Drained: "a machine was stopped once it had worked off its tasks",
    WorkedOn: "a machine whose time to drain was over, and that might not be stopped, worked on",
    LaunchedElsewhere: "a machine of another type was launched where there was no capacity",
    LaunchedSeveral: "several machines were launched at once",
    TerminatedSeveral: "several machines were stopped at once",
    TerminatedSome: "of several machines only some could be stopped",
    RefusedUnhealthy: "a decision was refused because most machines were unhealthy",
    RefusedNeverReady: "a decision was refused because most machines never took tasks",
    StopBudget: "a stop was refused by the budget of stops",
    PlanRefused: "a plan did not pass the check",
    NothingToStop: "there was nothing to stop",
    NoCapacity: "EC2 had no capacity",
    VcpuLimit: "a launch met the vCPU limit",
    NoAddresses: "a launch met a full subnet",
    TokenMismatch: "a launch met a token mismatch",
    TemplateGone: "a launch met a missing template",
    ImageGone: "a launch met a missing image",
    FewerMachines: "EC2 made fewer machines than asked for",
    LaunchThrottled: "a launch was throttled",
    LaunchLost: "a launch worked behind a time-out",
    LaunchRepeated: "a launch was sent twice by the client's retry",
    IntentRepeated: "an intent was written twice by the client's retry",
    TerminationLost: "a termination worked behind a time-out",
    DrainLost: "a machine was told to drain behind a time-out",
    DecisionTooLarge: "a decision was too large for its table",
    IntentTooLarge: "a plan or an outcome was too large for its table",
    ExpiredRow: "a decision whose time was over still stood in its table",
    Denied: "a call was denied",
    Outage: "a service was down for some ticks",
    PastDown: "the last decisions could not be read in an outage",
    OwnerDown: "whose machine it is could not be read in an outage",
    BudgetDown: "the launches of the last hour could not be read in an outage",
    ArrivalsDown: "the times of submission could not be read in an outage",
    StoreDownAtColdStart: "a cold start found the policy store down",
    DescribeBehindNew: "describe did not show a new machine yet",
    DescribeBehindDead: "describe still showed a dead machine",
    IndexBehind: "the index of machines alive was behind",
    UnsettledIndexBehind: "the index of unsettled decisions was behind",
    NeverHealthy: "a machine never became healthy",
    BadImage: "a machine was launched from an image that never starts its worker",
    StoppedByHuman: "a person stopped a machine",
    StartedByHuman: "a person started a stopped machine again",
    Retagged: "a person took a machine's tags away",
    SizeRetagged: "a person changed a machine's size tag",
    Protected: "a termination met a protected machine",
    LaunchedByHand: "a person launched a machine with our tags",
    OtherStack: "another stack launched a machine for a pool of the same name",
    OtherStacksNotice: "the loss of another stack's machine was announced",
    NoticeOfOthers: "a notice about a machine that is not ours was dropped",
    SpotLoss: "a machine was lost",
    SpotNotice: "the loss of a machine was announced",
    NoticeTaken: "a machine whose loss was announced was taken out of service",
    ZoneLoss: "several machines were lost at once",
    CrashInEvaluator: "an evaluator crashed",
    CrashBeforeClaim: "an executor crashed before its claim",
    CrashAfterClaim: "an executor crashed after its claim, before its plan was stored",
    CrashAfterPlan: "an executor crashed after its plan was stored, before it acted",
    CrashAfterLaunch: "an executor crashed after its launch, before the record",
    CrashAfterTermination: "an executor crashed after its termination, before the record",
    CrashBeforeSettling: "an executor crashed after the record, before it settled",
    CrashOnNotice: "an executor crashed on a notice of an interruption",
    CrashInReconciler: "a reconciler crashed",
    OlderVersion: "a decision was stored by an older version with fewer actions",
    NewerVersion: "a decision was stored by a newer version, with fields and a schema of its own",
    UnreadableVersion: "a decision was stored by a version that cannot be read",
    UnreadableTick: "a tick met a decision that cannot be read",
    UnreadableRecord: "a record of the stream named a decision that cannot be read",
    UnreadableUnsettled: "a reconciliation met a decision that cannot be read and nobody has settled",
    DescribeEmpty: "describe was made to show none of the recorded machines, once",
    Suspected: "a machine was suspected at first sight",
    SuspectsRaced: "two reconciliations met over the same suspects, and one of them ended nothing",
    SuspectsLost: "suspects were written down behind a time-out",
    StuckEnded: "a machine that never took tasks was ended",
    OrphanEnded: "an orphan was ended by a pool that asks for that",
    Adopted: "a machine without a record was adopted",
    Orphan: "an orphan was reported",
    NoMoneyHour: "a launch was refused for money of the hour",
    NoMoneyDay: "a launch was refused for money of the day",
    NoMoneyMonth: "a launch was refused for money of the month",
    NoMoneyUnknown: "a launch was refused because what was spent could not be read",
    PlanWithoutMoney: "a plan was refused for money",
    Lost: "a machine was marked as lost",
    Finished: "an interrupted decision was finished",
    Released: "a decision that nobody carried out was released",
    MetricsMissing: "metrics were missing",
    MetricsStale: "metrics were stale",
    MetricsNan: "a metric was not a number",
    MetricsInfinite: "a metric was infinite",
    MetricsNegative: "a metric was negative",
    MetricsAbsurd: "a metric was absurd",
    ClockSkew: "clocks were minutes apart",
    PoisonedState: "a stored recurrent state was poisoned",
    PolicyDecided: "a policy decided",
    RuleTookOver: "the rule took over",
    MinimumRestored: "a fleet below its minimum was brought back",
    Promoted: "a promoted policy took over",
    CrashBeforePointer: "a promoter crashed before it moved the pointer",
    CrashAfterPointer: "a promoter crashed after it moved the pointer",
    PromotionRaced: "a promotion lost the race for the pointer",
    PromotionRepeated: "a promotion that had died was repeated with success",
    RolledBack: "a policy was rolled back",
    RefusedCorrupt: "a corrupt policy was refused",
    RefusedTruncated: "a truncated policy was refused",
    RefusedHuge: "a huge policy was refused",
    RefusedShape: "a policy of another shape was refused",
    RefusedSchema: "a policy of another schema was refused",
    RefusedNotFinite: "a policy with numbers that are not finite was refused",
    RefusedGolden: "a policy that does not reproduce its golden steps was refused",
    RefusedUnsigned: "a policy without a signature was refused",
    RefusedForged: "a policy with a forged signature was refused",
    PointerToNothing: "the pointer pointed to nothing",
    LastGoodStayed: "the last good policy stayed in charge",
    HeldKilled: "a decision was held behind the kill switch",
    HeldVanished: "a stop was held because the load was gone at once",
    HeldObserve: "a decision was held by mode observe",
    ShadowLaunched: "the shadow fleet of a pool that observes got a machine",
    ShadowStopped: "the shadow fleet of a pool that observes lost a machine",
    ShadowApart: "a shadow fleet was another one than the real one",
    ModeOff: "a tick in mode off decided nothing",
    BadConfig: "the configuration could not be used",
    Idle: "nothing was submitted for hours",
    Burst: "hundreds of tasks came at once",
    EndlessTask: "a task never ended",
    LoadVanished: "all tasks were gone at once",
    ZeroLengthTask: "a task took no time at all",
}

/// How often each event was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<Event, u64>);

impl Seen {
    /// Counts an event.
    pub fn note(&mut self, event: Event) {
        *self.0.entry(event).or_default() += 1;
    }

    /// Counts an event if something holds.
    pub fn note_if(&mut self, holds: bool, event: Event) {
        if holds {
            self.note(event);
        }
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        for (event, n) in &other.0 {
            *self.0.entry(*event).or_default() += n;
        }
    }

    /// How often an event was seen.
    pub fn count(&self, event: Event) -> u64 {
        self.0.get(&event).copied().unwrap_or_default()
    }

    /// Events that were never seen, in words.
    pub fn missing(&self) -> Vec<&'static str> {
        EVENTS.iter().filter(|event| self.count(**event) == 0).map(|event| event.text()).collect()
    }
}
