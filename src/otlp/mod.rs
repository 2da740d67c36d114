//! Spans of requests, sent to an OpenTelemetry collector: OTLP over HTTP, in protobuf.
//!
//! Whoever makes spans [`push`](SpanQueue::push)es them and never waits. A task of its own takes them in batches and
//! posts them; what finds the queue full, or the collector away, is dropped and counted. `wire.rs` is what travels,
//! `trace_context.rs` says which trace a span belongs to.
//!
//! It is not a framework of traces: one kind of span is made, in `server/spans.rs`, and nothing is passed on to other
//! servers. Nothing here reads an environment variable.

mod exporter;
mod trace_context;
pub mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, Opts, proto::MetricFamily};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::exporter::Worker;
pub use self::trace_context::TraceParent;
use self::wire::Span;
use crate::remote::{Address, Post, RemoteError};

/// Where spans go, and what that may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterConfig {
    /// The whole address that spans are posted to, such as `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: Address,
    /// A PEM file with the authorities that the collector is known by; `None` takes those of the web.
    pub authorities: Option<PathBuf>,
    /// Spans that wait to be sent; more are dropped. Default 2,048, which is some 2 MiB.
    pub queue_len_max: usize,
    /// Spans that are posted at once. Default 512.
    pub batch_len_max: usize,
    /// How long a span waits for others to fill its batch. Default 1 s.
    pub batch_delay: Duration,
    /// How long connecting may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a batch may take with all its attempts; then it is dropped. Default 10 s.
    pub timeout: Duration,
    /// How often a batch is sent at most, where the collector asks for patience or is not there. Default 3.
    pub num_attempts_max: u32,
    /// How long the spans that are left may take at the end. Default 5 s.
    pub flush_max: Duration,
}

impl ExporterConfig {
    /// Everything else at its default.
    #[must_use]
    pub fn new(endpoint: Address) -> Self {
        Self {
            endpoint,
            authorities: None,
            queue_len_max: 2048,
            batch_len_max: 512,
            batch_delay: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
            num_attempts_max: 3,
            flush_max: Duration::from_secs(5),
        }
    }
}

/// Where spans are handed over; clones share one queue.
#[derive(Clone)]
pub struct SpanQueue {
    spans: mpsc::Sender<Span>,
    figures: Arc<Figures>,
}

/// What sends them, until it is closed.
pub struct Exporter {
    /// Told, or dropped, when no more spans come.
    closing: oneshot::Sender<()>,
    task: JoinHandle<()>,
    figures: Arc<Figures>,
    flush_max: Duration,
}

/// What became of the spans so far.
struct Figures {
    /// Those that found a place; each is sent or lost later.
    num_queued: AtomicU64,
    sent: IntCounter,
    /// Those that found none.
    overflowed: IntCounter,
    /// Those that the collector did not take.
    lost: IntCounter,
    /// The last two, as they are shown.
    dropped: IntCounterVec,
}

impl Default for Figures {
    fn default() -> Self {
        let sent = IntCounter::new("ananke_otlp_spans_sent_total", "Spans that the collector took.");
        let dropped = Opts::new("ananke_otlp_spans_dropped_total", "Spans that were not sent, by why.");
        let dropped = IntCounterVec::new(dropped, &["reason"]).expect("the name is valid");
        Self {
            num_queued: AtomicU64::new(0),
            sent: sent.expect("the name is valid"),
            overflowed: dropped.with_label_values(&["queue_full"]),
            lost: dropped.with_label_values(&["not_taken"]),
            dropped,
        }
    }
}

impl SpanQueue {
    /// Hands over a span that has ended, without waiting; a full queue drops it.
    pub fn push(&self, span: Span) {
        match self.spans.try_send(span) {
            Ok(()) => drop(self.figures.num_queued.fetch_add(1, Relaxed)),
            Err(_) => self.figures.overflowed.inc(),
        }
    }

    /// The figures now, as Prometheus families.
    #[must_use]
    pub fn metrics(&self) -> Vec<MetricFamily> {
        let mut families = self.figures.sent.collect();
        families.extend(self.figures.dropped.collect());
        families
    }
}

impl Exporter {
    /// Starts to send, on the runtime that it is called on; opens no connection before there is a span.
    ///
    /// # Errors
    /// [`RemoteError::Authorities`] for a file that cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(config: ExporterConfig) -> Result<(SpanQueue, Self), RemoteError> {
        let post = Post::open(config.endpoint.clone(), config.authorities.as_deref(), config.connect_timeout)?;
        let figures = Arc::<Figures>::default();
        let (spans, waiting) = mpsc::channel(config.queue_len_max.max(1));
        let (closing, closed) = oneshot::channel();
        let flush_max = config.flush_max;
        let task = tokio::spawn(Worker::new(config, post, waiting, closed, figures.clone()).run());
        Ok((SpanQueue { spans, figures: figures.clone() }, Self { closing, task, figures, flush_max }))
    }

    /// Takes no more spans, and sends those that wait as far as the time for it goes.
    pub async fn close(self) {
        let Self { closing, mut task, figures, flush_max } = self;
        drop(closing);
        if timeout(flush_max, &mut task).await.is_ok() {
            return;
        }
        task.abort();
        let num_left = figures.num_queued.load(Relaxed).saturating_sub(figures.sent.get() + figures.lost.get());
        figures.lost.inc_by(num_left);
        tracing::warn!(num_left, flush_s = flush_max.as_secs_f64(), "spans were still to be sent at the end; dropped");
    }
}
