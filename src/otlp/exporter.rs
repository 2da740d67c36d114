//! The task that sends spans: in batches, each within a time, and with one line in the log for each outage.

use std::sync::Arc;

use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::wire::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, InstrumentationScope, KeyValue, Resource, ResourceSpans,
    ScopeSpans, Span,
};
use super::{ExporterConfig, Figures};
use crate::remote::{Post, RemoteError, backoff, excerpt};

/// `service.name` of every span, and the scope that makes them.
const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) struct Worker {
    config: ExporterConfig,
    post: Post,
    spans: mpsc::Receiver<Span>,
    /// Ready when no more spans come.
    closing: oneshot::Receiver<()>,
    is_closing: bool,
    figures: Arc<Figures>,
    /// Whether the log has said that spans are being lost.
    is_down: bool,
    /// `Figures::overflowed` when it was last looked at.
    num_overflowed: u64,
}

/// Why spans are lost.
#[derive(Debug, thiserror::Error)]
enum Outage {
    #[error(transparent)]
    NotSent(#[from] RemoteError),
    #[error("the collector did not take {num_spans} of them{}{said}", if said.is_empty() { "" } else { ": " })]
    NotTaken { num_spans: u64, said: String },
    #[error("they come faster than the collector takes them")]
    TooMany,
}

impl Worker {
    pub(super) fn new(
        config: ExporterConfig,
        post: Post,
        spans: mpsc::Receiver<Span>,
        closing: oneshot::Receiver<()>,
        figures: Arc<Figures>,
    ) -> Self {
        Self { config, post, spans, closing, is_closing: false, figures, is_down: false, num_overflowed: 0 }
    }

    pub(super) async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            let outcome = self.export(batch).await;
            self.report(outcome);
        }
    }

    /// The next spans, as many as there are when the first of them has waited for long enough; `None` after the last.
    async fn next_batch(&mut self) -> Option<Vec<Span>> {
        let mut batch = Vec::new();
        let mut due = None;
        loop {
            let room = self.config.batch_len_max.max(1) - batch.len();
            if room == 0 {
                return Some(batch);
            }
            tokio::select! {
                _ = &mut self.closing, if !self.is_closing => {
                    self.is_closing = true;
                    self.spans.close();
                }
                count = self.spans.recv_many(&mut batch, room) => {
                    if count == 0 {
                        return (!batch.is_empty()).then_some(batch);
                    }
                    due.get_or_insert_with(|| Instant::now() + self.config.batch_delay);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => return Some(batch),
            }
        }
    }

    async fn export(&self, batch: Vec<Span>) -> Result<(), Outage> {
        let num_spans = batch.len() as u64;
        let outcome = self.send(request(batch).encode_to_vec()).await;
        // A collector that says nothing of a part that it did not take took all.
        let outcome = outcome.map(|response| response.partial_success.unwrap_or_default());
        let num_lost = match &outcome {
            Ok(rest) => u64::try_from(rest.rejected_spans).unwrap_or(0).min(num_spans),
            Err(_) => num_spans,
        };
        self.figures.sent.inc_by(num_spans - num_lost);
        self.figures.lost.inc_by(num_lost);
        let rest = outcome?;
        if num_lost > 0 {
            return Err(Outage::NotTaken { num_spans: num_lost, said: excerpt(&rest.error_message, None) });
        }
        Ok(())
    }

    /// Sends a batch until the collector has it, or the time or the attempts for it are used up.
    async fn send(&self, body: Vec<u8>) -> Result<ExportTraceServiceResponse, RemoteError> {
        let until = Instant::now() + self.config.timeout;
        let mut attempt = 1;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let error = match self.post.send("application/x-protobuf", body.clone(), left).await {
                // Whatever it says of it, a success means that it has the batch.
                Ok(reply) => return Ok(ExportTraceServiceResponse::decode(&*reply).unwrap_or_default()),
                Err(error) => error,
            };
            let wait = backoff(attempt, error.retry_after());
            if !may_be_repeated(&error) || attempt >= self.config.num_attempts_max || Instant::now() + wait >= until {
                return Err(error);
            }
            sleep(wait).await;
            attempt += 1;
        }
    }

    /// Says once that spans are being lost, and once that they are no more.
    fn report(&mut self, outcome: Result<(), Outage>) {
        let before = std::mem::replace(&mut self.num_overflowed, self.figures.overflowed.get());
        let outcome = outcome.and(if self.num_overflowed > before { Err(Outage::TooMany) } else { Ok(()) });
        match outcome {
            Err(error) if !self.is_down => {
                self.is_down = true;
                tracing::warn!(%error, "spans are lost; requests go on");
            }
            Ok(()) if self.is_down => {
                self.is_down = false;
                let num_dropped = self.figures.overflowed.get() + self.figures.lost.get();
                tracing::info!(num_dropped, "spans are sent again");
            }
            _ => {}
        }
    }
}

/// What the specification has sent again: the collector asked for it, or was not there.
fn may_be_repeated(error: &RemoteError) -> bool {
    match error {
        RemoteError::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
        RemoteError::Broken { .. } => true,
        _ => false,
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource =
        Resource { attributes: vec![KeyValue::new("service.name", NAME), KeyValue::new("service.version", VERSION)] };
    let scope = InstrumentationScope { name: NAME.to_owned(), version: VERSION.to_owned() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }
}
