//! One choice of a remote model: asked for, walked as it comes, asked for again where that is safe.
//!
//! Every piece of text goes through the matcher before it is handed on, and is cut at the first byte that no part
//! allows; an end is taken only where every part accepts. After a failure the choice is asked for again: anew while
//! nothing was handed on, else, where the prompt is a text, from behind what was handed on. Then the server enforces nothing,
//! since what it knows of begins with the output; the walk goes on all the same. What cannot be asked for again ends with
//! an error. So whatever a server says of its own text, no byte is handed on that the constraints forbid.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::super::backend::ChoiceEvent;
use super::super::{Error, beside};
use crate::engine::{FinishReason, Finished};
use crate::guide::{CompiledConstraint, GuideError, Matcher, PilotStats};
use crate::remote::{Ask, Backend, End, EndReason, Enforce, Input, Piece, Place, Usage, backoff};

/// Pieces that wait to be taken; then the server waits too.
const NUM_PIECES_WAITING_MAX: usize = 64;
/// Bytes of one choice. Default of every choice: 8 MiB.
const TEXT_BYTES_MAX: usize = 8 << 20;
/// Seeds stay below this, so that they survive readers with doubles.
const SEED_END: u64 = 1 << 53;

/// How a choice of a remote model ended.
pub(in crate::maze) struct RemoteEnd {
    pub(in crate::maze) finished: Finished,
    /// What the server counted, over all attempts that went into the text; `None` where it did not.
    pub(in crate::maze) usage: Option<Usage>,
    pub(in crate::maze) num_attempts: u32,
}

/// A choice that is not yet asked for.
pub(super) struct Job {
    pub(super) backend: Arc<Backend>,
    pub(super) ask: Ask,
    pub(super) choice: u32,
    pub(super) compiled: Arc<CompiledConstraint>,
    /// What stands before the output.
    pub(super) prompt: String,
    /// Whether the text is handed on only at its end.
    pub(super) is_whole: bool,
    #[expect(dead_code, reason = "held until the answer has ended")]
    pub(super) place: Place,
}

/// A choice as it comes. Dropping it hangs up.
pub(in crate::maze) struct RemoteStream {
    events: mpsc::Receiver<ChoiceEvent>,
    task: AbortHandle,
}

impl RemoteStream {
    pub(in crate::maze) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<ChoiceEvent>> {
        self.events.poll_recv(context)
    }

    pub(in crate::maze) fn drain(&mut self) -> usize {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        events.filter(|event| matches!(event, ChoiceEvent::Text(_))).count()
    }
}

impl Drop for RemoteStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Job {
    /// Begins to ask, in a task of its own.
    pub(super) fn start(self) -> RemoteStream {
        let (sender, events) = mpsc::channel(NUM_PIECES_WAITING_MAX);
        let until = Instant::now() + self.backend.config().timeout;
        let answer = Answer {
            matcher: None,
            text: String::new(),
            num_handed_on: 0,
            num_pieces_before: 0,
            num_pieces: 0,
            until,
            events: sender,
            job: self,
        };
        RemoteStream { events, task: tokio::spawn(answer.run()).abort_handle() }
    }
}

/// A choice under way.
struct Answer {
    job: Job,
    /// Behind `text`; `None` where it has to be made, or where nothing binds.
    matcher: Option<Matcher>,
    /// What was walked: whole characters.
    text: String,
    /// How many bytes of it were handed on.
    num_handed_on: usize,
    /// Pieces of earlier attempts whose text stands.
    num_pieces_before: u32,
    /// Pieces of this attempt.
    num_pieces: u32,
    until: Instant,
    events: mpsc::Sender<ChoiceEvent>,
}

/// Why an attempt gave no whole answer.
enum Stop {
    Failed(Error),
    /// Nobody reads any more.
    Unread,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Answer {
    async fn run(mut self) {
        let last = match self.answer().await {
            Ok(end) => ChoiceEvent::RemoteFinished(end),
            Err(Stop::Failed(error)) => ChoiceEvent::Failed(error),
            Err(Stop::Unread) => return,
        };
        // Where nobody reads, nobody misses it.
        let _ = self.events.send(last).await;
    }

    async fn answer(&mut self) -> Result<RemoteEnd, Stop> {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(attempt).await {
                Ok(end) => return Ok(end),
                Err(Stop::Failed(error)) => error,
                Err(Stop::Unread) => return Err(Stop::Unread),
            };
            let Some(wait) = self.again_in(&error, attempt) else { return Err(error.into()) };
            // Without the error's text: it may quote the server, and that what it was asked.
            let (code, wait_ms) = (error.code(), wait.as_millis() as u64);
            tracing::info!(code, attempt, wait_ms, "asking the remote model again");
            sleep(wait).await;
            self.go_back();
            attempt += 1;
        }
    }

    /// How long to wait before the choice is asked for again, if it may be.
    fn again_in(&self, error: &Error, attempt: u32) -> Option<std::time::Duration> {
        let is_resumable = self.num_handed_on == 0 || matches!(self.job.ask.input, Input::Text(_));
        if attempt >= self.job.backend.config().num_attempts_max || !is_resumable {
            return None;
        }
        let wait = match error {
            Error::Remote(error) if error.is_worth_retrying() => backoff(attempt, error.retry_after()),
            // Without chance the same would come again.
            Error::RemoteNotAllowed { .. } | Error::RemoteEndedEarly { .. } if self.job.ask.temperature > 0.0 => {
                std::time::Duration::ZERO
            }
            _ => return None,
        };
        (Instant::now() + wait < self.until).then_some(wait)
    }

    /// Back to where the next attempt goes on: behind what was handed on.
    fn go_back(&mut self) {
        self.matcher = None;
        self.text.truncate(self.num_handed_on);
        self.num_pieces_before = if self.text.is_empty() { 0 } else { self.num_pieces_before + self.num_pieces };
        self.num_pieces = 0;
    }

    /// Asks once and walks what comes.
    async fn attempt(&mut self, attempt: u32) -> Result<RemoteEnd, Stop> {
        self.make_matcher().await?;
        let ask = self.ask(attempt);
        if ask.max_tokens == 0 {
            return Ok(self.end(End { reason: EndReason::Length, usage: None }, attempt).await?);
        }
        let backend = self.job.backend.clone();
        let mut pieces = backend.begin(&ask, self.until).await.map_err(Error::from)?;
        loop {
            match pieces.next().await.map_err(Error::from)? {
                Piece::Text(text) => {
                    self.num_pieces = self.num_pieces.saturating_add(1);
                    self.walk(text).await?;
                    if !self.job.is_whole {
                        self.hand_on().await?;
                    }
                }
                Piece::End(end) => {
                    let end = self.end(end, attempt).await?;
                    self.hand_on().await?;
                    return Ok(end);
                }
            }
        }
    }

    /// The question of an attempt: what has been handed on is a part of the prompt, and its tokens are spent.
    fn ask(&self, attempt: u32) -> Ask {
        let mut ask = self.job.ask.clone();
        let again = u64::from(attempt - 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let seed = |seed: u64| match (self.job.choice, attempt) {
            (0, 1) => seed,
            (choice, _) => seed.wrapping_add(u64::from(choice)).wrapping_add(again) % SEED_END,
        };
        ask.seed = ask.seed.map(seed);
        if let (Input::Text(prompt), false) = (&mut ask.input, self.text.is_empty()) {
            prompt.push_str(&self.text);
            ask.enforce = Enforce::Nothing;
            ask.max_tokens = ask.max_tokens.saturating_sub(self.num_pieces_before);
        }
        ask
    }

    /// Makes the matcher behind what was handed on.
    async fn make_matcher(&mut self) -> Result<(), Error> {
        if self.job.compiled.num_parts() == 0 {
            return Ok(());
        }
        let (compiled, prompt, text) = (self.job.compiled.clone(), self.job.prompt.clone(), self.text.clone());
        let matcher = beside(move || {
            let mut matcher = compiled.matcher(prompt.as_bytes())?;
            text.bytes().try_for_each(|byte| matcher.accept(byte.into()))?;
            Ok(matcher)
        });
        self.matcher = Some(matcher.await?);
        Ok(())
    }

    /// Takes more text through the matcher, and adds it up to the first byte that is not allowed, in whole characters.
    async fn walk(&mut self, text: String) -> Result<(), Stop> {
        if self.text.len() + text.len() > TEXT_BYTES_MAX {
            let host = self.host();
            return Err(Error::from(crate::remote::RemoteError::TooLarge { host, limit: TEXT_BYTES_MAX }).into());
        }
        let Some(matcher) = self.matcher.take() else {
            self.text.push_str(&text);
            return Ok(());
        };
        let (matcher, text, refused) = beside(move || Ok(walk(matcher, text))).await?;
        self.matcher = Some(matcher);
        let Some((at, error)) = refused else {
            self.text.push_str(&text);
            return Ok(());
        };
        let GuideError::NotAllowed { part, .. } = error else { return Err(Error::from(error).into()) };
        let byte_offset = self.text.len() + at;
        self.text.push_str(&text[..text.floor_char_boundary(at)]);
        // What is allowed stays, where the client has seen what comes before it.
        if self.num_handed_on > 0 {
            self.hand_on().await?;
        }
        Err(Error::RemoteNotAllowed { host: self.host(), part, byte_offset }.into())
    }

    /// Hands on what was walked and not handed on.
    async fn hand_on(&mut self) -> Result<(), Stop> {
        let text = self.text[self.num_handed_on..].to_owned();
        if !text.is_empty() {
            self.num_handed_on = self.text.len();
            self.events.send(ChoiceEvent::Text(text)).await.map_err(|_| Stop::Unread)?;
        }
        Ok(())
    }

    /// The end as the server says it, where the constraints take it.
    async fn end(&mut self, end: End, attempt: u32) -> Result<RemoteEnd, Error> {
        let is_complete = match self.matcher.take() {
            Some(mut matcher) => beside(move || Ok(matcher.is_complete()?)).await?,
            None => true,
        };
        let reason = match end.reason {
            EndReason::Length => FinishReason::Length,
            EndReason::Stop if is_complete => FinishReason::EndToken,
            EndReason::Stop => {
                return Err(Error::RemoteEndedEarly { host: self.host(), byte_offset: self.text.len() });
            }
        };
        let usage = end
            .usage
            .map(|usage| Usage { num_tokens: usage.num_tokens.saturating_add(self.num_pieces_before), ..usage });
        let finished = Finished {
            reason,
            end_token: None,
            is_complete,
            num_masks: 0,
            mask_time: std::time::Duration::ZERO,
            steering: PilotStats::default(),
        };
        Ok(RemoteEnd { finished, usage, num_attempts: attempt })
    }

    fn host(&self) -> String {
        self.job.backend.config().address.host().to_owned()
    }
}

/// The matcher behind `text`, or behind what of it is allowed; then at which byte it is not, and why.
fn walk(mut matcher: Matcher, text: String) -> (Matcher, String, Option<(usize, GuideError)>) {
    let refused = text.bytes().enumerate().find_map(|(at, byte)| Some((at, matcher.accept(byte.into()).err()?)));
    (matcher, text, refused)
}
