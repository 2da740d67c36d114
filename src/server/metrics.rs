//! `GET /metrics`: the figures of the HTTP layer and of everything below it, in Prometheus' text format.

use std::time::Instant;

use axum::{
    Extension,
    extract::{Request, State},
    http::{Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, TEXT_FORMAT, TextEncoder, core::Collector};

use super::{App, access::route, error::HttpError};
use crate::{maze, otlp::SpanQueue};

/// Seconds until a reply begins.
const DURATION_BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0, 100.0, 600.0];

/// What is recorded of requests as such. Labels come from fixed sets, so that no client can make a new series.
pub(crate) struct HttpMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let requests = Opts::new("ananke_http_requests_total", "Replies begun, by route and status.");
        let duration = HistogramOpts::new(
            "ananke_http_request_duration_seconds",
            "From the head of a request to the head of its reply, by route.",
        );
        let duration = duration.buckets(DURATION_BUCKETS.to_vec());
        Self {
            requests: IntCounterVec::new(requests, &["method", "path", "status"]).expect("the names are valid"),
            duration: HistogramVec::new(duration, &["path"]).expect("the names are valid and the buckets ascend"),
        }
    }
}

/// Counts each reply, whoever gave it.
pub(crate) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, path) = (method(request.method()), route(&request).to_owned());
    let start = Instant::now();
    let response = next.run(request).await;
    app.metrics.requests.with_label_values(&[method, &path, response.status().as_str()]).inc();
    app.metrics.duration.with_label_values(&[&path]).observe(start.elapsed().as_secs_f64());
    response
}

/// Stands for every method that is none of HTTP's own.
pub(crate) const OTHER_METHOD: &str = "other";

/// A client may write any word as its method.
pub(crate) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => OTHER_METHOD,
    }
}

pub(crate) async fn scrape(State(app): State<App>, spans: Option<Extension<SpanQueue>>) -> Result<Response, HttpError> {
    let mut families = app.metrics.requests.collect();
    families.extend(app.metrics.duration.collect());
    families.retain(|family| !family.get_metric().is_empty());
    families.extend(app.maze.metrics());
    families.extend(spans.iter().flat_map(|spans| spans.metrics()));
    let text = TextEncoder::new().encode_to_string(&families).map_err(|error| {
        let source = maze::Error::Internal { message: format!("metrics cannot be written: {error}") };
        HttpError::Maze { param: None, source: Box::new(source) }
    })?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}
