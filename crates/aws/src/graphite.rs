//! Outside metrics from Graphite's render API: one request a server, series matched by name.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use contract::limits::GRAPHITE_BYTES_MAX;
use contract::pool::{MetricSource, host};
use controller::ports::{Kind, Metrics, Point, Port, PortError};
use futures_util::future::try_join_all;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, Url};
use serde::Deserialize;

/// The operation in this adapter's errors.
const RENDER: &str = "render";
/// Time for the whole answer. Graphite is read once a tick and has a rule behind it, so that a slow one is left out.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// The adapter of Graphite.
#[derive(Clone, Debug)]
pub struct Graphite {
    client: Client,
    authorization: Option<HeaderValue>,
}

/// A series as Graphite gives it: its name, and values (null for holes) with their times in seconds.
#[derive(Debug, Deserialize)]
struct Series {
    target: String,
    datapoints: Vec<(Option<f64>, i64)>,
}

/// A target and its place among the sources.
type Target<'a> = (usize, &'a str);

impl Graphite {
    /// An adapter that sends `authorization` as the header of that name, if it is given.
    ///
    /// # Errors
    /// If the value cannot be a header, or no HTTP client can be made.
    pub fn new(authorization: Option<&str>) -> Port<Self> {
        let header = authorization.map(HeaderValue::from_str).transpose();
        let mut authorization =
            header.map_err(|_| PortError::invalid(RENDER, "the authorization is not a header value"))?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let client = Client::builder().timeout(TIMEOUT).build().map_err(unanswered)?;
        Ok(Self { client, authorization })
    }

    fn request(&self, url: &str, targets: &[Target<'_>], from_ms: u64, to_ms: u64) -> Port<RequestBuilder> {
        let mut query: Vec<(&str, String)> =
            targets.iter().map(|(place, target)| ("target", format!("alias({target},\"{}\")", name(*place)))).collect();
        query.push(("from", (from_ms / 1000).to_string()));
        query.push(("until", to_ms.div_ceil(1000).to_string()));
        query.push(("format", "json".into()));
        let url = format!("{}/render", url.trim_end_matches('/'));
        let request = self.client.get(&url).query(&query);
        match &self.authorization {
            Some(value) if keeps_secrets(&url) => Ok(request.header(AUTHORIZATION, value.clone())),
            Some(_) => Err(not_encrypted(&url)),
            None => Ok(request),
        }
    }

    /// The points of one server's targets, by place.
    async fn read(
        &self,
        url: &str,
        targets: &[Target<'_>],
        from_ms: u64,
        to_ms: u64,
    ) -> Port<Vec<(usize, Vec<Point>)>> {
        let response = self.request(url, targets, from_ms, to_ms)?.send().await.map_err(unanswered)?;
        let status = response.status();
        let body = body(response).await?;
        if !status.is_success() {
            return Err(refused(status.as_u16(), &body));
        }
        let series: Vec<Series> = serde_json::from_slice(&body)
            .map_err(|e| PortError::invalid(RENDER, format!("the answer is not a list of series: {e}")))?;
        let by_name = by_name(&series);
        let of = |place| by_name.get(name(place).as_str()).map(|series| points(series, from_ms, to_ms));
        Ok(targets.iter().map(|(place, _)| (*place, of(*place).unwrap_or_default())).collect())
    }
}

/// Whether a secret may be sent there: over https, or within this machine. Checked at each request, for only here the
/// secret, which is the stack's, meets the URL, which is the pool's.
fn keeps_secrets(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return true }; // no request can be made of it
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    url.scheme() == "https" || is_here
}

fn not_encrypted(url: &str) -> PortError {
    let message = format!("the authorization is not sent to {} over plain http; give an https:// URL", host(url));
    PortError { operation: RENDER, code: "NotEncrypted".into(), message, kind: Kind::Invalid }
}

fn name(place: usize) -> String {
    format!("q{place}")
}

/// Series by name. A target that matches several series says nothing about the fleet, and is left out.
fn by_name(series: &[Series]) -> HashMap<&str, &Series> {
    let mut by_name: HashMap<&str, Option<&Series>> = HashMap::new();
    for one in series {
        by_name.entry(one.target.as_str()).and_modify(|known| *known = None).or_insert(Some(one));
    }
    for (target, _) in by_name.iter().filter(|(_, series)| series.is_none()) {
        tracing::warn!(target, "a Graphite target matches several series; aggregate them to one");
    }
    by_name.into_iter().filter_map(|(target, series)| Some((target, series?))).collect()
}

/// The values in `(from_ms, to_ms]` that are not null.
fn points(series: &Series, from_ms: u64, to_ms: u64) -> Vec<Point> {
    let point = |(value, at_s): &(Option<f64>, i64)| {
        Some(Point { at_ms: u64::try_from(*at_s).ok()?.checked_mul(1000)?, value: (*value)? })
    };
    series.datapoints.iter().filter_map(point).filter(|p| p.at_ms > from_ms && p.at_ms <= to_ms).collect()
}

/// Reads a body up to the cap.
async fn body(mut response: Response) -> Port<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > GRAPHITE_BYTES_MAX {
            return Err(PortError::invalid(RENDER, format!("the answer is larger than {GRAPHITE_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error of a server that answered with another status than success.
fn refused(status: u16, body: &[u8]) -> PortError {
    let text = String::from_utf8_lossy(body);
    let message = text.lines().next().unwrap_or_default().chars().take(200).collect();
    let kind = match status {
        401 | 403 => Kind::Denied,
        404 => Kind::NotFound,
        429 => Kind::Throttled,
        500.. => Kind::Unavailable,
        _ => Kind::Invalid,
    };
    PortError { operation: RENDER, code: format!("Http{status}"), message, kind }
}

/// The error of a request without a whole answer.
fn unanswered(error: reqwest::Error) -> PortError {
    let (code, kind) = match &error {
        e if e.is_builder() => ("InvalidRequest", Kind::Invalid),
        e if e.is_timeout() => ("Timeout", Kind::Unavailable),
        e if e.is_connect() => ("NoConnection", Kind::Unavailable),
        _ => ("NoAnswer", Kind::Unavailable),
    };
    // Targets and credentials in the URL are nobody's business.
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    let message = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    PortError { operation: RENDER, code: code.into(), message, kind }
}

impl Metrics for Graphite {
    /// As the port says; a failure of one server fails the whole call. Graphite keeps its series by target: the pool
    /// is part of each target's text.
    async fn series(
        &self,
        _pool: &str,
        sources: &[MetricSource],
        window_ms: u64,
        to_ms: u64,
    ) -> Port<Vec<Option<Vec<Point>>>> {
        let mut servers: BTreeMap<&str, Vec<Target<'_>>> = BTreeMap::new();
        for (place, source) in sources.iter().enumerate() {
            let MetricSource::Graphite { url, target, .. } = source else {
                return Err(PortError::invalid(RENDER, format!("{source:?} is not a target of Graphite")));
            };
            servers.entry(url).or_default().push((place, target));
        }
        let from_ms = to_ms.saturating_sub(window_ms);
        let reads = servers.iter().map(|(url, targets)| self.read(url, targets, from_ms, to_ms));
        let mut series = vec![None; sources.len()];
        for (place, points) in try_join_all(reads).await?.into_iter().flatten() {
            series[place] = Some(points);
        }
        Ok(series)
    }
}
