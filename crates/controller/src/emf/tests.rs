use contract::capacity::Counts;
use contract::decision::Verdict;
use contract::money::Cap;
use contract::{Action, Observation};

use super::*;
use crate::ports::Kind;
use crate::reason::{Dropped, Refused};
use crate::samples::decided as a_decision;

const TIMING: Timing = Timing { at_ms: 63_500, own_ms: 1250.0 };

/// The names and units of a document's metrics, with the dimensions of each; panics where the specification is broken.
fn metrics(document: &Value) -> Vec<(String, String, Vec<Vec<String>>)> {
    let aws = document["_aws"].as_object().expect("_aws is an object");
    assert!(aws["Timestamp"].is_u64(), "milliseconds since the epoch");
    let mut found = Vec::new();
    for directive in aws["CloudWatchMetrics"].as_array().expect("an array of directives") {
        assert_eq!(directive["Namespace"], NAMESPACE);
        let dimensions: Vec<Vec<String>> = serde_json::from_value(directive["Dimensions"].clone()).unwrap();
        for set in &dimensions {
            assert!((1..=30).contains(&set.len()), "a set of dimensions has at most 30");
            for name in set {
                let value = document[name].as_str().unwrap_or_else(|| panic!("{name} is no text in the root"));
                assert!((1..=1024).contains(&value.len()), "{name}");
            }
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()), "a directive has 1 to 100 metrics");
        for metric in metrics {
            let (name, unit) = (metric["Name"].as_str().unwrap(), metric["Unit"].as_str().unwrap());
            assert!(document[name].is_f64() || document[name].is_u64(), "{name} is no number in the root");
            found.push((name.to_owned(), unit.to_owned(), dimensions.clone()));
        }
    }
    found
}

fn names(document: &Value) -> Vec<String> {
    metrics(document).into_iter().map(|(name, ..)| name).collect()
}

fn dimensions_of(document: &Value, metric: Metric) -> Vec<Vec<String>> {
    metrics(document).into_iter().find(|(name, ..)| name == metric.name).unwrap().2
}

fn held(reason: &str) -> Decision {
    let fleet = [Counts { ready: 2, booting: 1 }, Counts::default(), Counts { ready: 1, booting: 0 }];
    let (queue_depth, oldest_wait_s) = (Some(7), Some(12.5));
    let observation = Observation { queue_depth, oldest_wait_s, fleet, ..Observation::empty([2, 4, 8]) };
    let missing = vec!["cpu_util_avg".into(), "mem_util_avg".into()];
    Decision { verdict: Verdict::Hold, reason: reason.into(), observation, missing, ..a_decision(60) }
}

#[test]
fn a_document_by_hand() {
    let found = document(1_795_493_400_000, "demo", Some("Late"), &[(CLAIMS, 0.0), (REFUSED, 1.0)]);
    let expected = json!({
        "_aws": {"Timestamp": 1_795_493_400_000_u64, "CloudWatchMetrics": [
            {"Namespace": "Twinscaler", "Dimensions": [["Pool"]], "Metrics": [{"Name": "Claims", "Unit": "Count"}]},
            {"Namespace": "Twinscaler", "Dimensions": [["Pool"], ["Pool", "Reason"]],
                "Metrics": [{"Name": "Refused", "Unit": "Count"}]},
        ]},
        "Pool": "demo", "Reason": "Late", "Claims": 0.0, "Refused": 1.0,
    });
    assert_eq!(found, expected);
}

#[test]
fn a_decision_reports_what_it_saw_and_what_became_of_it() {
    let found = decided(&held("cooldown; the policy"), TIMING);
    let of_modes = [REAL_DOLLARS, SHADOW_DOLLARS, SHADOW_SAVING, EVALUATOR_FAILURES];
    let of_caps = [DOLLARS_PER_HOUR, SPENT_TODAY, SPENT_THIS_MONTH, LAUNCHES_CAPPED, MONEY_USED_UP];
    let elsewhere = [&of_modes[..], &of_caps].concat();
    let all: Vec<String> = EVALUATOR.iter().filter(|m| !elsewhere.contains(m)).map(|m| m.name.to_owned()).collect();
    let (mut reported, mut all) = (names(&found), all);
    reported.sort();
    all.sort();
    assert_eq!(reported, all);
    for (metric, value) in [
        (DECISIONS, 1.0),
        (HOLDS, 1.0),
        (DECIDED_BY_POLICY, 1.0),
        (DECIDED_BY_RULE, 0.0),
        (MISSING_METRICS, 2.0),
        (QUEUE_DEPTH, 7.0),
        (OLDEST_WAIT, 12.5),
        (MACHINES_READY, 3.0),
        (MACHINES_BOOTING, 1.0),
        (TICK_LAG, 2250.0),
        (EVALUATOR_TIME, 1250.0),
    ] {
        assert_eq!(found[metric.name], value, "{}", metric.name);
    }
    assert_eq!((&found["Pool"], &found["Reason"]), (&json!("p"), &json!("Cooldown")));
    assert_eq!(dimensions_of(&found, HOLDS), [vec!["Pool"], vec!["Pool", "Reason"]]);
    assert_eq!(dimensions_of(&found, QUEUE_DEPTH), [vec!["Pool"]]);
}

#[test]
fn a_pool_that_observes_reports_its_books_and_what_was_measured() {
    let mut observed = held("observe; the policy would stop S");
    let (config, head, measured) = (crate::samples::config(), Default::default(), observed.observation.clone());
    let (arrivals_ms, policy) = (None, None);
    let read = crate::shadow::Read { tick: 60, config: &config, measured: &measured, head: &head, arrivals_ms, policy };
    let (mut shadow, _) = crate::shadow::at_tick(None, &read);
    shadow.real = contract::shadow::Account { machines_usd: 7.0, waiting_usd: 0.5 };
    shadow.shadow = contract::shadow::Account { machines_usd: 5.5, waiting_usd: 1.0 };
    observed.shadow = Some(shadow);
    observed.observation = Observation { queue_depth: Some(99), ..Observation::empty([2, 4, 8]) };
    let found = decided(&observed, TIMING);
    let reported = ["RealDollars", "ShadowDollars", "ShadowSaving", "QueueDepth", "MachinesReady"].map(|n| &found[n]);
    assert_eq!(reported, [7.5, 6.5, 1.0, 7.0, 3.0]);
    assert!(metrics(&found).iter().any(|(name, unit, _)| name == "ShadowSaving" && unit == "None"));
}

#[test]
fn a_pool_with_money_caps_reports_what_it_spends_and_when_a_budget_is_used_up() {
    let spending = |usd_today: Option<f64>, cap: Cap, is_full: bool| {
        let (usd_this_month, room_usd_per_hour) = (usd_today.map(|usd| usd + 30.0), 0.5);
        let spending = Spending { usd_per_hour: 1.4, usd_today, usd_this_month, room_usd_per_hour, cap, is_full };
        decided(&Decision { spending: Some(spending), ..held("no change; the policy") }, TIMING)
    };
    let of = |found: &Value| {
        ["DollarsPerHour", "SpentToday", "SpentThisMonth", "LaunchesCapped", "MoneyUsedUp"].map(|n| found[n].as_f64())
    };
    assert_eq!(of(&spending(Some(12.0), Cap::Day, true)), [1.4, 12.0, 42.0, 1.0, 1.0].map(Some));
    assert_eq!(of(&spending(Some(12.0), Cap::Month, false)), [1.4, 12.0, 42.0, 0.0, 0.0].map(Some));
    assert_eq!(of(&spending(None, Cap::Hour, true)), [Some(1.4), None, None, Some(1.0), Some(0.0)]);
    assert_eq!(of(&spending(None, Cap::Unknown, true)), [Some(1.4), None, None, Some(1.0), Some(1.0)]);
}

#[test]
fn what_is_missing_or_not_finite_is_left_out_and_never_zero() {
    let dark = Decision { observation: Observation::empty([2, 4, 8]), ..held("no change") };
    let found = decided(&dark, Timing { own_ms: f64::NAN, ..TIMING });
    for absent in [QUEUE_DEPTH, OLDEST_WAIT, EVALUATOR_TIME] {
        assert!(found.get(absent.name).is_none() && !names(&found).contains(&absent.name.to_owned()), "{absent:?}");
    }
    assert_eq!(document(1, "p", None, &[])["_aws"]["CloudWatchMetrics"], json!([]));
}

#[test]
fn a_decision_that_acts_has_no_reason_and_one_of_another_version_has_some_other() {
    let acting = decided(&Decision { verdict: Verdict::Act, action: Action::Stop(0, 1), ..held("stop S") }, TIMING);
    assert!(acting.get(REASON).is_none());
    assert_eq!((&acting["Holds"], dimensions_of(&acting, HOLDS)), (&json!(0.0), vec![vec!["Pool".to_owned()]]));
    assert_eq!(decided(&held("words of another version"), TIMING)[REASON], OTHER);
}

#[test]
fn nothing_for_people_and_nothing_secret_gets_into_a_document() {
    let told = Decision {
        decider: Decider::Rule { name: "production".into(), because: "hunter2".into() },
        refusals: vec!["hunter2".into()],
        ..held("cooldown; rule production, because https://reader:hunter2@graphite.example")
    };
    assert!(!decided(&told, TIMING).to_string().contains("hunter2"));
}

#[test]
fn a_pool_that_is_off_and_a_tick_that_failed_are_reported() {
    let found = off("p", 60, TIMING);
    assert_eq!((&found["Decisions"], &found["Holds"], &found["Reason"]), (&json!(0.0), &json!(1.0), &json!("ModeOff")));
    let found = undecided("p", 60, Kind::Throttled, TIMING);
    assert_eq!((&found["EvaluatorFailures"], &found["Reason"]), (&json!(1.0), &json!("Throttled")));
    assert_eq!(dimensions_of(&found, EVALUATOR_FAILURES).len(), 2);
    assert_eq!(undecided("p", 7200, Kind::Denied, TIMING)["TickLag"], 0.0, "a tick ahead of the clock has no lag");
}

#[test]
fn a_tick_whose_decision_cannot_be_read_is_decided_and_holds_nothing_that_is_known() {
    let found = decided_elsewhere("p", 60, TIMING);
    assert_eq!((&found["Decisions"], found.get("Holds"), found.get("Reason")), (&json!(1.0), None, None));
    assert!(found["TickLag"].is_number() && found["EvaluatorTime"].is_number(), "{found}");
}

const PAGE: &str = include_str!("../../../../docs/reference/metrics.md");
const TEMPLATE: &str = include_str!("../../../../infra/template.yaml");

/// Rows of the page's tables that have so many cells and whose first one is a name in code.
fn rows(cells: usize) -> Vec<Vec<String>> {
    let split = |row: &str| row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = PAGE.lines().filter_map(|line| line.strip_prefix("| `")).map(split).collect();
    rows.into_iter().filter(|row| row.len() == cells).collect()
}

fn name(cell: &str) -> String {
    cell.trim_end_matches('`').to_owned()
}

#[test]
fn the_page_lists_exactly_these_metrics_in_this_order() {
    let of_code = |m: &Metric| {
        let dimensions = if m.by_reason { "Pool; Pool, Reason" } else { "Pool" };
        (m.name.to_owned(), m.unit.name().to_owned(), dimensions.to_owned())
    };
    let in_code: Vec<_> = EVALUATOR.iter().chain(EXECUTOR).map(of_code).collect();
    let on_page: Vec<_> = rows(5).into_iter().map(|r| (name(&r[0]), r[1].clone(), r[2].clone())).collect();
    assert_eq!(on_page, in_code);
}

#[test]
fn the_page_explains_exactly_these_reasons_in_this_order() {
    fn all<R: Reason>() -> Vec<&'static str> {
        R::ALL.iter().map(|kind| kind.name()).collect()
    }
    let other = || vec![OTHER];
    let in_code = [all::<Hold>(), other(), all::<Dropped>(), all::<Refused>(), other()].concat();
    let on_page: Vec<String> = rows(2).iter().map(|row| name(&row[0])).collect();
    assert_eq!(on_page, in_code);
}

#[test]
fn alarms_of_the_stack_watch_metrics_that_exist_and_the_page_names_each() {
    let resources: Vec<&str> = TEMPLATE.split("\n\n").filter(|r| r.contains("Namespace: Twinscaler\n")).collect();
    assert!(!resources.is_empty());
    for resource in &resources {
        let metric = resource.lines().find_map(|line| line.trim().strip_prefix("MetricName: ")).unwrap();
        assert!(EVALUATOR.iter().chain(EXECUTOR).any(|m| m.name == metric), "no metric {metric}");
        let alarm = resource.lines().find(|line| !line.trim().is_empty()).unwrap().trim().trim_end_matches(':');
        let row = rows(5).into_iter().find(|row| name(&row[0]) == metric).unwrap();
        assert!(row[4].contains(&format!("(in the stack: `{alarm}`)")), "{alarm}: {}", row[4]);
    }
    assert_eq!(PAGE.matches("(in the stack: `").count(), resources.len(), "the page names an alarm that is not there");
}
