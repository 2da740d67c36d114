//! The engine's border: what goes in, what comes out, and the handle that carries both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crossbeam_channel::Sender;
use tokio::sync::mpsc;

use super::{EngineConfig, EngineError, EngineStats, Tenant};
use crate::guide::{Matcher, PilotStats};
use crate::kernels::sampling::{SamplingParams, TokenLogprobs};

/// One sequence to generate.
pub struct SequenceRequest {
    /// Token ids of the prompt; at least one.
    pub prompt: Vec<u32>,
    /// Most tokens to sample, end token not counted; with 0 the prompt is read and nothing else.
    pub max_tokens: u32,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// Seed of the random stream.
    pub seed: u64,
    /// Which choice of its request this is; each has its own random stream.
    pub choice: u32,
    /// How many alternatives to report with log-probabilities.
    pub num_logprobs: Option<u32>,
    /// How many alternatives to report with the log-probabilities of the prompt's own tokens. Such a prompt computes a
    /// row of logits for each of its tokens, and reuses no cached prefix, whose logits nobody kept.
    pub num_prompt_logprobs: Option<u32>,
    /// Whether text that the constraint determines is appended without sampling; then those tokens have no
    /// log-probabilities.
    pub forced_tokens: bool,
    /// What binds the output; it masks every token.
    pub matcher: Matcher,
    /// Prefixes are shared only among sequences of the same salt.
    pub salt: Option<Salt>,
    /// In whose line it waits, and whose share of the queue it takes.
    pub tenant: Option<Arc<Tenant>>,
}

/// Sets sequences apart whose cached prefixes must not meet.
pub type Salt = [u8; 32];

/// What a sequence's stream carries, in order: what was asked of the prompt, tokens, then one end.
#[derive(Debug)]
pub enum TokenEvent {
    /// The log-probabilities of the prompt's tokens under the raw logits, when asked for: of each but the first, which
    /// nothing stands before.
    Prompt(Vec<TokenLogprobs>),
    /// A token of the output.
    Token {
        /// Its id.
        id: u32,
        /// Its log-probabilities, when asked for.
        logprobs: Option<TokenLogprobs>,
    },
    /// The output is complete or cut off.
    Finished(Finished),
    /// The sequence failed; nothing follows.
    Failed(EngineError),
}

/// How a sequence ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Why.
    pub reason: FinishReason,
    /// The end token that was sampled and what it scored, where log-probabilities were asked for.
    pub end_token: Option<(u32, TokenLogprobs)>,
    /// Whether every part of the constraint accepts the output as it is.
    pub is_complete: bool,
    /// Masks computed for the sequence.
    pub num_masks: u32,
    /// Time spent computing them.
    pub mask_time: Duration,
    /// What steering did: tokens forced, taken back, held back.
    pub steering: PilotStats,
}

/// Why a sequence ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token was sampled.
    EndToken,
    /// `max_tokens` were sampled.
    Length,
    /// No token is allowed by all parts at once.
    DeadEnd {
        /// The parts that exclude each other here.
        parts: Vec<String>,
        /// How many bytes of output stand before the dead end.
        byte_offset: usize,
    },
}

/// A sequence's tokens as they come. Dropping it cancels the sequence and frees its blocks.
#[derive(Debug)]
pub struct TokenStream {
    events: mpsc::Receiver<TokenEvent>,
    cancelled: Arc<AtomicBool>,
}

impl TokenStream {
    /// The next event; `None` after the end, or when the engine has stopped.
    pub async fn next(&mut self) -> Option<TokenEvent> {
        self.events.recv().await
    }

    /// Polls for the next event; for readers of several streams.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<TokenEvent>> {
        self.events.poll_recv(context)
    }

    /// Takes all that has come and was not taken, and says how many tokens it was.
    pub fn drain(&mut self) -> usize {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        events.filter(|event| matches!(event, TokenEvent::Token { .. })).count()
    }

    /// The next event, for callers outside an async runtime.
    pub fn blocking_next(&mut self) -> Option<TokenEvent> {
        self.events.blocking_recv()
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

/// A submitted sequence on its way to the engine thread.
pub(super) struct Submission {
    pub(super) request: SequenceRequest,
    pub(super) events: mpsc::Sender<TokenEvent>,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) place: QueuePlace,
}

/// A place in the bounded queue, given back when the sequence is first scheduled or gone.
pub(super) struct QueuePlace {
    num_queued: Arc<AtomicUsize>,
    tenant: Option<Arc<Tenant>>,
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.num_queued.fetch_sub(1, Ordering::AcqRel);
        if let Some(tenant) = &self.tenant {
            tenant.num_queued.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A cloneable, bounded sender to the engine thread; the thread ends when the last one is dropped.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) submissions: Sender<Vec<Submission>>,
    pub(super) num_queued: Arc<AtomicUsize>,
    pub(super) stats: Arc<EngineStats>,
    pub(super) config: EngineConfig,
}

impl EngineHandle {
    /// Submits the choices of one request; all are admitted to the queue, or none.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`], [`EngineError::ShareFull`], [`EngineError::TooLong`], [`EngineError::EmptyPrompt`], [`EngineError::Stopped`].
    pub fn submit(&self, requests: Vec<SequenceRequest>) -> Result<Vec<TokenStream>, EngineError> {
        for request in &requests {
            self.check(request)?;
        }
        let tenant = requests.first().and_then(|request| request.tenant.clone());
        let places = self.take_places(requests.len(), tenant)?;
        let (submissions, streams) = requests.into_iter().zip(places).map(submission).unzip();
        self.submissions.send(submissions).map_err(|_| EngineError::Stopped)?;
        Ok(streams)
    }

    /// The engine's counters.
    #[must_use]
    pub fn stats(&self) -> &EngineStats {
        &self.stats
    }

    /// Sequences that were submitted and not scheduled yet; at most `queue_len_max`.
    #[must_use]
    pub fn num_queued(&self) -> usize {
        self.num_queued.load(Ordering::Acquire)
    }

    /// The engine's bounds.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    fn check(&self, request: &SequenceRequest) -> Result<(), EngineError> {
        if request.prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let num_tokens = request.prompt.len() + request.max_tokens as usize;
        let limit = self.config.num_tokens_max();
        if num_tokens > limit {
            return Err(EngineError::TooLong { num_tokens, limit });
        }
        Ok(())
    }

    fn take_places(&self, count: usize, tenant: Option<Arc<Tenant>>) -> Result<Vec<QueuePlace>, EngineError> {
        let limit = self.config.queue_len_max;
        let take = |queued: &AtomicUsize, limit: usize| {
            let more = |queued: usize| (queued + count <= limit).then_some(queued + count);
            queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
        };
        if let Some(tenant) = &tenant {
            let num_free = limit.saturating_sub(self.num_queued());
            if count <= num_free && !take(&tenant.num_queued, num_free) {
                return Err(EngineError::ShareFull { limit });
            }
            if count > num_free {
                return Err(EngineError::QueueFull { limit });
            }
        }
        if !take(&self.num_queued, limit) {
            if let Some(tenant) = &tenant {
                tenant.num_queued.fetch_sub(count, Ordering::AcqRel);
            }
            return Err(EngineError::QueueFull { limit });
        }
        let place = || QueuePlace { num_queued: self.num_queued.clone(), tenant: tenant.clone() };
        Ok((0..count).map(|_| place()).collect())
    }
}

/// The event channel holds all that the sequence can ever send, so a slow reader never holds up the engine.
fn submission((request, place): (SequenceRequest, QueuePlace)) -> (Submission, TokenStream) {
    let (events, receiver) = mpsc::channel(request.max_tokens as usize + 2);
    let cancelled = Arc::new(AtomicBool::new(false));
    let stream = TokenStream { events: receiver, cancelled: cancelled.clone() };
    (Submission { request, events, cancelled, place }, stream)
}
