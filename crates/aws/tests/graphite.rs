//! Graphite over the wire: holes, silence, nonsense and delays.

mod script;

use std::time::{Duration, Instant};

use aws::graphite::Graphite;
use contract::pool::{Aggregation, MetricSource};
use controller::ports::{Kind, Metrics, Point, Port, PortError};
use script::{Answer, Fault, Script, answer};

const NOW_S: u64 = 1_700_000_040;

fn source(url: &str, target: &str) -> MetricSource {
    MetricSource::Graphite { url: url.into(), target: target.into(), aggregation: Aggregation::Last }
}

/// The points of targets `a` and `b` in the last minute.
async fn series(graphite: &Graphite, url: &str) -> Port<Vec<Option<Vec<Point>>>> {
    graphite.series("p", &[source(url, "a"), source(url, "b")], 60_000, NOW_S * 1000).await
}

async fn with(answer: Answer) -> (Script, Port<Vec<Option<Vec<Point>>>>) {
    let (script, url) = Script::start([answer]).await;
    let got = series(&Graphite::new(None).unwrap(), &url).await;
    (script, got)
}

async fn error(answer: Answer) -> PortError {
    with(answer).await.1.unwrap_err()
}

fn points<const N: usize>(points: [(u64, f64); N]) -> Option<Vec<Point>> {
    Some(points.map(|(at_s, value)| Point { at_ms: at_s * 1000, value }).into())
}

#[tokio::test]
async fn values_that_are_no_holes_count_and_series_are_matched_by_name() {
    let body = format!(
        r#"[{{"target":"q1","datapoints":[[0.75,{}],[null,{NOW_S}]],"tags":{{}}}},
            {{"target":"q0","datapoints":[[0.25,{}],[0.5,{}],[9.0,{}]]}}]"#,
        NOW_S - 10,
        NOW_S - 20,
        NOW_S - 10,
        NOW_S + 10,
    );
    let (script, got) = with(answer(200, body)).await;
    assert_eq!(got.unwrap(), [points([(NOW_S - 20, 0.25), (NOW_S - 10, 0.5)]), points([(NOW_S - 10, 0.75)])]);
    let asked = script.asked();
    assert_eq!(asked.len(), 1);
    let expected = format!(
        "/render?target=alias%28a%2C%22q0%22%29&target=alias%28b%2C%22q1%22%29&from={}&until={NOW_S}&format=json",
        NOW_S - 60
    );
    assert_eq!(asked[0].path_and_query, expected);
    assert!(!asked[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn unknown_metrics_and_only_holes_have_no_points() {
    assert_eq!(with(answer(200, "[]")).await.1.unwrap(), [points([]), points([])]);
    let holes = format!(r#"[{{"target":"q0","datapoints":[[null,{NOW_S}]]}}]"#);
    assert_eq!(with(answer(200, holes)).await.1.unwrap(), [points([]), points([])]);
    let old = format!(r#"[{{"target":"q0","datapoints":[[1.0,{}]]}}]"#, NOW_S - 60);
    assert_eq!(with(answer(200, old)).await.1.unwrap(), [points([]), points([])]);
}

#[tokio::test]
async fn a_target_that_matches_several_series_has_no_points() {
    let one = format!(r#"{{"target":"q0","datapoints":[[1.0,{NOW_S}]]}}"#);
    let other = format!(r#"{{"target":"q1","datapoints":[[2.0,{NOW_S}]]}}"#);
    let (_, got) = with(answer(200, format!("[{one},{one},{other}]"))).await;
    assert_eq!(got.unwrap(), [points([]), points([(NOW_S, 2.0)])]);
}

#[tokio::test]
async fn an_answer_that_is_no_list_of_series_is_invalid() {
    for body in ["", "<html>", r#"{"target":"q0"}"#, r#"[{"target":"q0","datapoints":[["high",1]]}]"#, "[{"] {
        assert_eq!(error(answer(200, body)).await.kind, Kind::Invalid, "{body}");
    }
    assert_eq!(error(answer(200, vec![b' '; 5 << 20]).length_unknown()).await.kind, Kind::Invalid);
}

#[tokio::test]
async fn a_refusal_carries_the_first_line_and_its_kind() {
    let table = [
        (400, Kind::Invalid),
        (401, Kind::Denied),
        (403, Kind::Denied),
        (404, Kind::NotFound),
        (429, Kind::Throttled),
        (500, Kind::Unavailable),
        (503, Kind::Unavailable),
    ];
    for (status, kind) in table {
        let error = error(answer(status, "it is broken\nTraceback: all of it")).await;
        assert_eq!((error.kind, error.message.as_str()), (kind, "it is broken"), "{status}");
        assert_eq!(error.code, format!("Http{status}"));
    }
}

#[tokio::test]
async fn a_slow_answer_is_given_up() {
    let began = Instant::now();
    let error = error(answer(200, "[]").after(Duration::from_secs(30))).await;
    assert_eq!((error.kind, error.code.as_str()), (Kind::Unavailable, "Timeout"));
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_closed_port_is_unavailable() {
    let error = series(&Graphite::new(None).unwrap(), "http://127.0.0.1:1").await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Unavailable, "NoConnection"));
    assert!(!error.message.contains("render"), "{}", error.message);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_unavailable_and_nonsense_is_invalid() {
    for (fault, kind) in
        [(Fault::CutBefore, Kind::Unavailable), (Fault::CutWithin, Kind::Unavailable), (Fault::Nonsense, Kind::Invalid)]
    {
        let error = series(&Graphite::new(None).unwrap(), &script::faulty(fault).await).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}");
    }
}

#[tokio::test]
async fn the_authorization_goes_over_https_or_to_this_machine_and_nowhere_else() {
    let graphite = Graphite::new(Some("Bearer abc")).unwrap();
    for url in ["http://192.0.2.1", "http://graphite.invalid", "http://127.0.0.1.invalid", "http://a@graphite.invalid"]
    {
        let error = series(&graphite, url).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (Kind::Invalid, "NotEncrypted"), "{url}");
        assert!(!error.message.contains("abc"), "{}", error.message);
    }
    // and what may be sent is sent: nothing listens there
    for url in ["https://127.0.0.1:1", "http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"] {
        assert_eq!(series(&graphite, url).await.unwrap_err().code, "NoConnection", "{url}");
    }
}

#[tokio::test]
async fn the_authorization_is_sent_as_it_is() {
    let (script, url) = Script::start([answer(200, "[]")]).await;
    let graphite = Graphite::new(Some("Bearer abc")).unwrap();
    series(&graphite, &url).await.unwrap();
    assert_eq!(script.asked()[0].headers["authorization"], "Bearer abc");
    assert!(!format!("{graphite:?}").contains("abc"));
    assert_eq!(Graphite::new(Some("line\nbreak")).unwrap_err().kind, Kind::Invalid);
}

#[tokio::test]
async fn an_address_that_is_none_is_invalid() {
    let error = series(&Graphite::new(None).unwrap(), "graphite.local").await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
}
