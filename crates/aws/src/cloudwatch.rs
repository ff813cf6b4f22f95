//! Outside metrics from CloudWatch: one batched read for all of a pool's metrics, and the plant's write.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    Dimension, Metric, MetricDataQuery, MetricDataResult, MetricDatum, MetricStat, ScanBy,
};
use contract::pool::MetricSource;
use controller::ports::{Metrics, Point, Port, PortError};

use crate::errors::failed;

/// The dimension that separates the pools.
const DIMENSION: &str = "Pool";
/// Seconds of one point: the control loop's own step.
const PERIOD_S: i32 = 60;
/// CloudWatch takes no more queries in one call.
const QUERIES_MAX: usize = 500;

/// Points by the id of their query.
type ById = HashMap<String, Vec<Point>>;

/// The adapter of CloudWatch.
#[derive(Clone, Debug)]
pub struct CloudWatch {
    client: Client,
}

fn dimension(pool: &str) -> Dimension {
    Dimension::builder().name(DIMENSION).value(pool).build()
}

fn time(ms: u64) -> DateTime {
    DateTime::from(UNIX_EPOCH + Duration::from_millis(ms))
}

/// The query of one source; its id is its place, for CloudWatch answers in an order of its own.
fn query(pool: &str, place: usize, source: &MetricSource) -> Port<MetricDataQuery> {
    let MetricSource::CloudWatch { namespace, metric, statistic, .. } = source else {
        return Err(PortError::invalid("GetMetricData", format!("{source:?} is not a metric of CloudWatch")));
    };
    let metric = Metric::builder().namespace(namespace).metric_name(metric).dimensions(dimension(pool)).build();
    let stat = MetricStat::builder().metric(metric).period(PERIOD_S).stat(statistic).build();
    Ok(MetricDataQuery::builder().id(id(place)).metric_stat(stat).build())
}

fn id(place: usize) -> String {
    format!("q{place}")
}

/// The points of a result, whatever their order.
fn points(result: &MetricDataResult) -> impl Iterator<Item = Point> {
    let at_ms = |t: &DateTime| t.to_millis().ok().and_then(|ms| u64::try_from(ms).ok());
    let pairs = result.timestamps().iter().zip(result.values());
    pairs.filter_map(move |(t, value)| Some(Point { at_ms: at_ms(t)?, value: *value }))
}

impl CloudWatch {
    /// The adapter for this configuration.
    pub fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }

    /// Publishes a pool's values of one minute: what a plant's agent does.
    ///
    /// # Errors
    /// If CloudWatch refuses them; all or none are taken.
    pub async fn put(&self, namespace: &str, pool: &str, values: &[(&str, f64)], at_ms: u64) -> Port<()> {
        let datum = |(name, value): &(&str, f64)| {
            MetricDatum::builder()
                .metric_name(*name)
                .dimensions(dimension(pool))
                .timestamp(time(at_ms))
                .value(*value)
                .build()
        };
        let data: Vec<MetricDatum> = values.iter().map(datum).collect();
        let call = self.client.put_metric_data().namespace(namespace).set_metric_data(Some(data));
        call.send().await.map_err(failed("PutMetricData"))?;
        Ok(())
    }

    /// The points in `(from_ms, to_ms]` of each query, by id.
    async fn read(&self, queries: Vec<MetricDataQuery>, from_ms: u64, to_ms: u64) -> Port<ById> {
        let mut pages = self
            .client
            .get_metric_data()
            .set_metric_data_queries(Some(queries))
            .start_time(time(from_ms))
            // The end is excluded, and both ends are read in whole seconds.
            .end_time(time(to_ms + 1000))
            .scan_by(ScanBy::TimestampDescending)
            .into_paginator()
            .send();
        let mut by_id = ById::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("GetMetricData"))?;
            // a series may go on in the next page
            for result in page.metric_data_results() {
                let inside = points(result).filter(|p| p.at_ms > from_ms && p.at_ms <= to_ms);
                by_id.entry(result.id().unwrap_or_default().to_owned()).or_default().extend(inside);
            }
        }
        Ok(by_id)
    }
}

impl Metrics for CloudWatch {
    async fn series(
        &self,
        pool: &str,
        sources: &[MetricSource],
        window_ms: u64,
        to_ms: u64,
    ) -> Port<Vec<Option<Vec<Point>>>> {
        let queries = sources.iter().enumerate().map(|(place, source)| query(pool, place, source));
        let queries = queries.collect::<Port<Vec<_>>>()?;
        let mut by_id = ById::new();
        for batch in queries.chunks(QUERIES_MAX) {
            by_id.extend(self.read(batch.to_vec(), to_ms.saturating_sub(window_ms), to_ms).await?);
        }
        Ok((0..sources.len()).map(|place| Some(by_id.remove(&id(place)).unwrap_or_default())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::pool::Aggregation;

    fn source(metric: &str) -> MetricSource {
        MetricSource::CloudWatch {
            namespace: "N".into(),
            metric: metric.into(),
            statistic: "p90".into(),
            aggregation: Aggregation::Last,
        }
    }

    #[test]
    fn a_query_is_for_the_pool_by_the_minute() {
        let query = query("p", 3, &source("cpu")).unwrap();
        assert_eq!(query.id(), Some("q3"));
        let stat = query.metric_stat().unwrap();
        assert_eq!((stat.period(), stat.stat()), (Some(60), Some("p90")));
        let metric = stat.metric().unwrap();
        assert_eq!((metric.namespace(), metric.metric_name()), (Some("N"), Some("cpu")));
        assert_eq!(metric.dimensions(), [dimension("p")]);
    }

    #[test]
    fn a_source_of_another_kind_is_refused() {
        let (url, target) = ("http://127.0.0.1:1".into(), "a".into());
        let graphite = MetricSource::Graphite { url, target, aggregation: Aggregation::Last };
        assert!(query("p", 0, &graphite).is_err());
    }

    #[test]
    fn the_points_of_a_result_carry_their_own_times() {
        let result = MetricDataResult::builder()
            .id("q0")
            .set_timestamps(Some([180, 60].map(|s| time(s * 1000)).into()))
            .set_values(Some(vec![1.5, 0.5]))
            .build();
        let expected = [Point { at_ms: 180_000, value: 1.5 }, Point { at_ms: 60_000, value: 0.5 }];
        assert_eq!(points(&result).collect::<Vec<_>>(), expected);
    }
}
