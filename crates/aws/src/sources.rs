//! Asks each outside source for its own metrics, side by side; one that fails costs its own metrics only.

use std::fmt;

use contract::pool::{MetricSource, host};
use controller::ports::{Metrics, Point, Port, PortError};
use futures_util::future::join_all;

/// The two sources of outside metrics as one.
#[derive(Clone, Debug)]
pub struct Sources<C, G> {
    cloudwatch: C,
    graphite: G,
}

/// What is asked in one request: all metrics of CloudWatch, or those of one Graphite server.
#[derive(PartialEq)]
enum Origin<'a> {
    CloudWatch,
    Graphite(&'a str),
}

/// For the log: a URL may hold a password, so that only its host is there.
impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloudWatch => f.write_str("CloudWatch"),
            Self::Graphite(url) => write!(f, "Graphite at {}", host(url)),
        }
    }
}

fn origin(source: &MetricSource) -> Origin<'_> {
    match source {
        MetricSource::CloudWatch { .. } => Origin::CloudWatch,
        MetricSource::Graphite { url, .. } => Origin::Graphite(url),
    }
}

/// Places of the sources, by origin, in the order of first appearance.
fn by_origin(sources: &[MetricSource]) -> Vec<(Origin<'_>, Vec<usize>)> {
    let mut groups: Vec<(Origin<'_>, Vec<usize>)> = Vec::new();
    for (place, source) in sources.iter().enumerate() {
        let origin = origin(source);
        match groups.iter_mut().find(|(known, _)| *known == origin) {
            Some((_, places)) => places.push(place),
            None => groups.push((origin, vec![place])),
        }
    }
    groups
}

impl<C: Metrics, G: Metrics> Sources<C, G> {
    /// Metrics from both.
    pub fn new(cloudwatch: C, graphite: G) -> Self {
        Self { cloudwatch, graphite }
    }
}

/// What became of one origin's request: no series, with a warning, if it failed.
fn answer(origin: &Origin<'_>, wanted: usize, answer: Port<Vec<Option<Vec<Point>>>>) -> Vec<Option<Vec<Point>>> {
    let answer = answer.and_then(|series| match series.len() == wanted {
        true => Ok(series),
        false => Err(PortError::invalid("series", format!("{} series for {wanted} metrics", series.len()))),
    });
    answer.unwrap_or_else(|error| {
        tracing::warn!(%origin, %error, metrics = wanted, "a source of metrics failed");
        vec![None; wanted]
    })
}

impl<C: Metrics, G: Metrics> Metrics for Sources<C, G> {
    /// Never fails: metrics whose source failed have no series, and the evaluator knows what to do without.
    async fn series(
        &self,
        pool: &str,
        sources: &[MetricSource],
        window_ms: u64,
        to_ms: u64,
    ) -> Port<Vec<Option<Vec<Point>>>> {
        let groups = by_origin(sources);
        let reads = groups.iter().map(|(origin, places)| async move {
            let of: Vec<MetricSource> = places.iter().map(|place| sources[*place].clone()).collect();
            let series = match origin {
                Origin::CloudWatch => self.cloudwatch.series(pool, &of, window_ms, to_ms).await,
                Origin::Graphite(_) => self.graphite.series(pool, &of, window_ms, to_ms).await,
            };
            answer(origin, of.len(), series)
        });
        let mut series = vec![None; sources.len()];
        for ((_, places), answers) in groups.iter().zip(join_all(reads).await) {
            for (place, points) in places.iter().zip(answers) {
                series[*place] = points;
            }
        }
        Ok(series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::pool::Aggregation;
    use controller::ports::Kind;
    use testkit::builders::cloudwatch;
    use testkit::{World, fault, op};

    fn graphite(url: &str, target: &str) -> MetricSource {
        MetricSource::Graphite { url: url.into(), target: target.into(), aggregation: Aggregation::Last }
    }

    fn points(value: f64) -> Option<Vec<Point>> {
        Some(vec![point(value)])
    }

    fn point(value: f64) -> Point {
        Point { at_ms: 1000, value }
    }

    fn world(points: &[(&MetricSource, f64)]) -> World {
        let world = World::new();
        points.iter().for_each(|(source, value)| world.add_point("p", source, point(*value)));
        world
    }

    #[tokio::test]
    async fn each_source_answers_for_its_own_metrics_in_their_places() {
        let (a, b, c) = (graphite("http://1", "a"), cloudwatch("b"), graphite("http://1", "c"));
        let sources = Sources::new(world(&[(&b, 2.0)]), world(&[(&a, 1.0), (&c, 3.0)]));
        let series = sources.series("p", &[a, b, c, graphite("http://1", "d")], 60_000, 1000).await.unwrap();
        assert_eq!(series, [points(1.0), points(2.0), points(3.0), Some(Vec::new())]);
        assert_eq!(sources.graphite.count(op::METRICS_SERIES), 1);
    }

    #[tokio::test]
    async fn a_server_that_fails_costs_its_own_metrics_only() {
        let (a, b, c) = (graphite("http://1", "a"), graphite("http://2", "b"), cloudwatch("c"));
        let sources = Sources::new(world(&[(&c, 3.0)]), world(&[(&a, 1.0), (&b, 2.0)]));
        sources.graphite.fail_next(op::METRICS_SERIES, fault(op::METRICS_SERIES, "Timeout", Kind::Unavailable));
        let series = sources.series("p", &[a, b, c], 60_000, 1000).await.unwrap();
        assert_eq!(series, [None, points(2.0), points(3.0)]);
    }

    #[tokio::test]
    async fn the_log_names_the_host_that_failed_and_no_password() {
        let logs = testkit::logs::Logs::capture();
        let sources = Sources::new(World::new(), World::new());
        sources.graphite.take_down(op::METRICS_SERIES, Kind::Unavailable);
        sources.series("p", &[graphite("https://user:secret@host.example/key", "a")], 60_000, 1000).await.unwrap();
        let text = logs.text();
        assert!(
            text.contains("Graphite at host.example ") && !text.contains("secret") && !text.contains("key"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn with_all_sources_down_everything_is_missing_and_nothing_fails() {
        let sources = Sources::new(World::new(), World::new());
        sources.cloudwatch.take_down(op::METRICS_SERIES, Kind::Denied);
        sources.graphite.take_down(op::METRICS_SERIES, Kind::Unavailable);
        let asked = [cloudwatch("a"), graphite("http://1", "b")];
        assert_eq!(sources.series("p", &asked, 60_000, 1000).await.unwrap(), [None, None]);
    }
}
