//! The stream of one request's deltas: tokens become text, stop strings end it, the end is verified.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::backend::{ChoiceEvent, ChoiceStream};
use super::healing::Healing;
use super::remote::RemoteEnd;
use super::{ChoiceStats, Error, Maze, Provenance, RemoteStats, TokenizedPrompt, Validation};
use crate::constraint::{ConstraintIr, Digest};
use crate::engine::{self, Finished};
use crate::guide::{CompiledConstraint, Document};
use crate::kernels::sampling::TokenLogprobs;
use crate::text::{Detokenizer, StopMatcher, StopStrings};
use crate::verify::{self, Output};

/// A request under way. Dropping it cancels every choice and frees its blocks.
pub struct Generation {
    maze: Maze,
    compiled: Arc<CompiledConstraint>,
    constraints: Arc<[ConstraintIr]>,
    prompt: TokenizedPrompt,
    provenance: Provenance,
    choices: Vec<Choice>,
    /// Whether the log-probabilities of the prompt are still to come. They come with the first choice, and nothing else
    /// is taken before.
    awaits_prompt: bool,
    /// What is still to be told to choices.
    told: VecDeque<Delta>,
    /// Where the next round of polling begins, so that no choice starves another.
    next_choice: usize,
    /// When the request came, before its constraints were compiled.
    arrived: Instant,
    /// Where whoever pays for the tokens counts them.
    num_tokens: Option<Arc<AtomicU64>>,
    /// Whether a remote model has said how many tokens the prompt has.
    prompt_is_counted: bool,
}

/// What a request brings to its generation.
pub(super) struct Admitted {
    pub(super) constraints: Arc<[ConstraintIr]>,
    pub(super) prompt: TokenizedPrompt,
    pub(super) awaits_prompt: bool,
    pub(super) stop: StopStrings,
    pub(super) compiled: Arc<CompiledConstraint>,
    pub(super) provenance: Provenance,
    pub(super) arrived: Instant,
}

/// One choice: what has come, and what of it may be shown.
struct Choice {
    /// `None` once the choice has ended.
    stream: Option<ChoiceStream>,
    detokenizer: Detokenizer,
    healing: Healing,
    stop: StopMatcher,
    tokens: Vec<u32>,
    /// Tokens of a remote model: its pieces of text until it has said how many tokens they are.
    num_remote_tokens: u32,
    text: String,
    started: Instant,
    first_token: Option<Duration>,
    last_token: Option<Instant>,
}

/// What is new in one choice.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Which choice.
    pub choice: u32,
    /// The prompt's tokens, where their log-probabilities were asked for: in the first delta of every choice, alone.
    pub prompt: Option<Arc<PromptTokens>>,
    /// Whole characters; what may begin a stop string is held back.
    pub text: String,
    /// The tokens, where log-probabilities were asked for. Their text may run ahead of `text`.
    pub tokens: Vec<TokenInfo>,
    /// Set in the last delta of a choice.
    pub finish: Option<Finish>,
}

/// The tokens of a prompt with their log-probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptTokens {
    /// The first one, which nothing stands before.
    pub first: FirstToken,
    /// The others.
    pub rest: Vec<TokenInfo>,
}

/// A token without a log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstToken {
    /// Its bytes as text, or a control token's name; a broken character reads U+FFFD.
    pub text: String,
    /// The bytes themselves; none for a control token.
    pub bytes: Vec<u8>,
}

/// A token with its log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenInfo {
    /// Its id.
    pub id: u32,
    /// Its bytes as text; a broken character reads U+FFFD.
    pub text: String,
    /// The bytes themselves; none for a control token.
    pub bytes: Vec<u8>,
    /// Its log-probability under the raw logits.
    pub logprob: f32,
    /// The best alternatives, best first.
    pub top: Vec<Alternative>,
}

/// A token that could have come instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// Its bytes as text; a broken character reads U+FFFD.
    pub text: String,
    /// The bytes themselves; none for a control token.
    pub bytes: Vec<u8>,
    /// Its log-probability under the raw logits.
    pub logprob: f32,
}

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token or a stop string.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// No token was allowed by all parts at once.
    DeadEnd,
}

impl FinishReason {
    /// The reason as replies spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::DeadEnd => "dead_end",
        }
    }
}

/// The end of a choice.
#[derive(Clone, Debug)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// For a dead end, the parts and the byte.
    pub detail: Option<String>,
    /// The token that ended it, where log-probabilities were asked for; it is none of the tokens generated.
    pub end_token: Option<TokenInfo>,
    /// Tokens generated.
    pub num_tokens: u32,
    /// Tokens of the prompt that become known only now: those that a remote model counted, said once per request; else 0.
    pub late_prompt_tokens: u32,
    /// BLAKE3 of the whole text.
    pub output_digest: Digest,
    /// Bytes of the whole text.
    pub output_bytes: usize,
    /// What the checks found.
    pub validation: Validation,
    /// What made the output what it is.
    pub provenance: Provenance,
    /// How long it took.
    pub stats: ChoiceStats,
}

/// A whole choice.
#[derive(Clone, Debug)]
pub struct Completed {
    /// Which choice.
    pub choice: u32,
    /// The prompt's tokens, where their log-probabilities were asked for.
    pub prompt: Option<Arc<PromptTokens>>,
    /// Its text.
    pub text: String,
    /// Its tokens, where log-probabilities were asked for.
    pub tokens: Vec<TokenInfo>,
    /// Its end.
    pub finish: Finish,
}

impl Generation {
    pub(super) fn new(maze: Maze, admitted: Admitted, streams: Vec<ChoiceStream>) -> Self {
        let Admitted { constraints, prompt, awaits_prompt, stop, compiled, provenance, arrived } = admitted;
        maze.inner.metrics.prompt_tokens.inc_by(prompt.ids.len() as u64);
        let choices = streams.into_iter().map(|stream| Choice {
            stream: Some(stream),
            detokenizer: Detokenizer::new(maze.inner.tokenizer.vocabulary().clone()),
            healing: Healing::new(prompt.healed.as_deref().unwrap_or_default()),
            stop: stop.matcher(),
            tokens: Vec::new(),
            num_remote_tokens: 0,
            text: String::new(),
            started: Instant::now(),
            first_token: None,
            last_token: None,
        });
        let choices = choices.collect();
        Self {
            maze,
            compiled,
            constraints,
            prompt,
            provenance,
            choices,
            awaits_prompt,
            told: VecDeque::new(),
            next_choice: 0,
            arrived,
            num_tokens: None,
            prompt_is_counted: false,
        }
    }

    /// Counts every token that is generated for this request, also those that nobody takes, at the latest when it is
    /// dropped.
    #[must_use]
    pub fn counted(mut self, num_tokens: Option<Arc<AtomicU64>>) -> Self {
        self.num_tokens = num_tokens;
        self
    }

    /// Names the reply.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.provenance.id
    }

    /// When it was admitted, in seconds since 1970.
    #[must_use]
    pub fn created(&self) -> u64 {
        self.provenance.created
    }

    /// Tokens of the prompt; 0 before a remote model, whose count comes with [`Finish::late_prompt_tokens`].
    #[must_use]
    pub fn num_prompt_tokens(&self) -> u32 {
        self.prompt.ids.len() as u32
    }

    /// The prompt as the model reads it.
    #[must_use]
    pub fn prompt_ids(&self) -> &[u32] {
        &self.prompt.ids
    }

    /// What makes its outputs what they are.
    #[must_use]
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The IRs that bind it, mined ones among them.
    #[must_use]
    pub fn constraints(&self) -> &Arc<[ConstraintIr]> {
        &self.constraints
    }

    /// The next delta of any choice; `None` after all have ended.
    ///
    /// An error ends the whole request.
    pub async fn next(&mut self) -> Option<Result<Delta, Error>> {
        loop {
            if let Some(delta) = self.told.pop_front() {
                return Some(Ok(delta));
            }
            let (choice_idx, event) = poll_fn(|context| self.poll_event(context)).await?;
            match self.take(choice_idx, event).await {
                Ok(Some(delta)) => return Some(Ok(delta)),
                Ok(None) => {}
                Err(error) => {
                    self.count_unread();
                    self.choices.clear();
                    return Some(Err(error));
                }
            }
        }
    }

    /// Waits for every choice to end.
    ///
    /// # Errors
    /// The first error of any choice.
    pub async fn collect(mut self) -> Result<Vec<Completed>, Error> {
        let mut partial = vec![Delta::default(); self.choices.len()];
        let mut completed = Vec::with_capacity(self.choices.len());
        while let Some(delta) = self.next().await {
            let delta = delta?;
            let so_far = &mut partial[delta.choice as usize];
            so_far.prompt = delta.prompt.or(so_far.prompt.take());
            so_far.text.push_str(&delta.text);
            so_far.tokens.extend(delta.tokens);
            if let Some(finish) = delta.finish {
                let Delta { prompt, text, tokens, .. } = std::mem::take(so_far);
                completed.push(Completed { choice: delta.choice, prompt, text, tokens, finish });
            }
        }
        completed.sort_by_key(|choice| choice.choice);
        Ok(completed)
    }

    /// The next event of any choice, in turn; `None` inside when every choice has ended.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Option<ChoiceEvent>)>> {
        let num_choices = if self.awaits_prompt { 1 } else { self.choices.len() };
        let mut is_live = false;
        for turn in 0..num_choices {
            let choice_idx = (self.next_choice + turn) % num_choices;
            let Some(stream) = &mut self.choices[choice_idx].stream else { continue };
            is_live = true;
            if let Poll::Ready(event) = stream.poll_next(context) {
                self.next_choice = choice_idx + 1;
                return Poll::Ready(Some((choice_idx, event)));
            }
        }
        if is_live { Poll::Pending } else { Poll::Ready(None) }
    }

    async fn take(&mut self, choice_idx: usize, event: Option<ChoiceEvent>) -> Result<Option<Delta>, Error> {
        match event {
            Some(ChoiceEvent::Prompt(scores)) => {
                self.tell_prompt(scores);
                Ok(None)
            }
            Some(ChoiceEvent::Token { id, logprobs }) => self.take_token(choice_idx, id, logprobs).await,
            Some(ChoiceEvent::Text(text)) => self.take_text(choice_idx, &text).await,
            Some(ChoiceEvent::Finished(finished)) => self.end(choice_idx, End::Engine(finished)).await.map(Some),
            Some(ChoiceEvent::RemoteFinished(end)) => self.end_remote(choice_idx, end).await.map(Some),
            Some(ChoiceEvent::Failed(error)) => Err(error),
            None => Err(engine::EngineError::Stopped.into()),
        }
    }

    /// Tells every choice what the prompt's tokens scored.
    fn tell_prompt(&mut self, scores: Vec<TokenLogprobs>) {
        self.awaits_prompt = false;
        let Some((&first, rest)) = self.prompt.ids.split_first() else { return };
        let first = FirstToken { text: self.maze.token_text(first), bytes: self.maze.token_bytes(first).to_vec() };
        let rest = rest.iter().zip(scores).map(|(&id, score)| self.token_info(id, score)).collect();
        let prompt = Arc::new(PromptTokens { first, rest });
        let choices = 0..self.choices.len() as u32;
        self.told.extend(choices.map(|choice| Delta { choice, prompt: Some(prompt.clone()), ..Delta::default() }));
    }

    async fn take_token(
        &mut self,
        choice_idx: usize,
        id: u32,
        logprobs: Option<TokenLogprobs>,
    ) -> Result<Option<Delta>, Error> {
        self.book_token(choice_idx);
        let choice = &mut self.choices[choice_idx];
        choice.first_token.get_or_insert_with(|| choice.started.elapsed());
        choice.tokens.push(id);
        let new = choice.healing.strip(choice.detokenizer.push(id));
        let step = choice.stop.push(&new);
        choice.text.push_str(&step.text);
        let token = logprobs.map(|logprobs| self.token_info(id, logprobs));
        let tokens: Vec<_> =
            token.and_then(|token| self.choices[choice_idx].healing.strip_token(token)).into_iter().collect();
        if step.stopped {
            let mut delta = self.end(choice_idx, End::StopString).await?;
            delta.text.insert_str(0, &step.text);
            delta.tokens = tokens;
            return Ok(Some(delta));
        }
        let is_empty = step.text.is_empty() && tokens.is_empty();
        Ok((!is_empty).then_some(Delta { choice: choice_idx as u32, text: step.text, tokens, ..Delta::default() }))
    }

    /// Text of a remote model, in whole characters and walked.
    async fn take_text(&mut self, choice_idx: usize, text: &str) -> Result<Option<Delta>, Error> {
        self.book_token(choice_idx);
        let choice = &mut self.choices[choice_idx];
        choice.first_token.get_or_insert_with(|| choice.started.elapsed());
        choice.num_remote_tokens = choice.num_remote_tokens.saturating_add(1);
        let step = choice.stop.push(text);
        choice.text.push_str(&step.text);
        if step.stopped {
            let mut delta = self.end(choice_idx, End::StopString).await?;
            delta.text.insert_str(0, &step.text);
            return Ok(Some(delta));
        }
        let delta = Delta { choice: choice_idx as u32, text: step.text, ..Delta::default() };
        Ok((!delta.text.is_empty()).then_some(delta))
    }

    /// The end of a remote model's choice, with what its server counted.
    async fn end_remote(&mut self, choice_idx: usize, end: RemoteEnd) -> Result<Delta, Error> {
        let mut num_prompt_tokens = 0;
        if let Some(usage) = end.usage {
            let counted = &mut self.choices[choice_idx].num_remote_tokens;
            let more = usage.num_tokens.saturating_sub(std::mem::replace(counted, usage.num_tokens));
            self.count_tokens(more.into());
            if !std::mem::replace(&mut self.prompt_is_counted, true) {
                num_prompt_tokens = usage.num_prompt_tokens;
                self.maze.inner.metrics.prompt_tokens.inc_by(num_prompt_tokens.into());
            }
        }
        let mut delta = self.end(choice_idx, End::Engine(end.finished)).await?;
        if let Some(finish) = &mut delta.finish {
            finish.late_prompt_tokens = num_prompt_tokens;
            let tokens_are_counted = end.usage.is_some();
            finish.stats.remote = Some(RemoteStats { num_attempts: end.num_attempts, tokens_are_counted });
        }
        Ok(delta)
    }

    fn book_token(&mut self, choice_idx: usize) {
        let metrics = &self.maze.inner.metrics;
        let now = Instant::now();
        match self.choices[choice_idx].last_token.replace(now) {
            None => metrics.time_to_first_token.observe(now.duration_since(self.arrived).as_secs_f64()),
            Some(last) => metrics.inter_token_latency.observe(now.duration_since(last).as_secs_f64()),
        }
        self.count_tokens(1);
    }

    fn count_tokens(&self, count: u64) {
        self.maze.inner.metrics.generation_tokens.inc_by(count);
        if let Some(num_tokens) = &self.num_tokens {
            num_tokens.fetch_add(count, Relaxed);
        }
    }

    /// Counts what was generated and nobody took.
    fn count_unread(&mut self) {
        let streams = self.choices.iter_mut().filter_map(|choice| choice.stream.as_mut());
        let num_unread: usize = streams.map(ChoiceStream::drain).sum();
        self.count_tokens(num_unread as u64);
    }

    /// Ends a choice: what was held back comes out, and the whole is verified.
    async fn end(&mut self, choice_idx: usize, end: End) -> Result<Delta, Error> {
        let choice = &mut self.choices[choice_idx];
        let num_unread = choice.stream.take().map_or(0, |mut stream| stream.drain());
        let mut rest = String::new();
        let mut cut = String::new();
        if !choice.stop.is_stopped() {
            cut = choice.healing.strip(choice.detokenizer.finish());
            let step = choice.stop.push(&cut);
            rest = step.text + &choice.stop.finish();
        }
        choice.text.push_str(&rest);
        let stats = choice.stats(end.finished());
        let num_tokens = choice.num_tokens();
        let (output_digest, output_bytes) = (Digest::of_bytes(choice.text.as_bytes()), choice.text.len());
        let validation = self.verify(choice_idx, &end, &cut).await?;
        self.count_tokens(num_unread as u64);
        let (reason, detail) = end.reason();
        self.maze.inner.metrics.finished(reason, self.arrived.elapsed());
        let provenance = self.provenance.clone();
        let end_token = end.finished().and_then(|finished| finished.end_token.clone());
        let finish = Finish {
            reason,
            detail,
            end_token: end_token.map(|(id, logprobs)| self.token_info(id, logprobs)),
            num_tokens,
            late_prompt_tokens: 0,
            output_digest,
            output_bytes,
            validation,
            provenance,
            stats,
        };
        Ok(Delta { choice: choice_idx as u32, text: rest, finish: Some(finish), ..Delta::default() })
    }

    /// Judges a finished choice beside the async workers: a validator may take its time.
    ///
    /// `cut` stands at the end of the text for a character that did not become whole. An output that was cut off is
    /// judged without it: what follows could still have completed it.
    async fn verify(&mut self, choice_idx: usize, end: &End, cut: &str) -> Result<Validation, Error> {
        let choice = &mut self.choices[choice_idx];
        let mut text = choice.text.clone();
        if end.finished().is_some_and(|finished| !finished.is_complete) && text.ends_with(cut) {
            text.truncate(text.len() - cut.len());
        }
        let tokens = std::mem::take(&mut choice.tokens);
        let prompt = self.prompt.text.clone();
        let hole = self.prompt.hole.as_ref().map(|hole| hole.document.clone());
        let healed = self.prompt.healed.clone().unwrap_or_default();
        let constraints = self.constraints.clone();
        let is_complete = end.finished().map(|finished| finished.is_complete);
        let (maze, compiled) = (self.maze.clone(), self.compiled.clone());
        let judge = move || -> Result<Validation, Error> {
            let finished = match is_complete {
                Some(is_complete) => is_complete,
                None => maze.accepts(&compiled, &prompt, hole.as_ref(), &format!("{healed}{text}"))?,
            };
            let output = Output {
                text: text.as_bytes(),
                tokens: &tokens,
                prompt: prompt.as_bytes(),
                suffix: hole.as_ref().map_or(b"", |document| document.suffix.as_bytes()),
                finished,
            };
            Ok(Validation::new(verify::check(&output, &constraints)))
        };
        tokio::task::spawn_blocking(judge).await.map_err(|panic| Error::Internal { message: panic.to_string() })?
    }

    fn token_info(&self, id: u32, logprobs: TokenLogprobs) -> TokenInfo {
        let text_of = |id: u32| self.maze.token_text(id);
        let bytes_of = |id: u32| self.maze.token_bytes(id).to_vec();
        let alternative = |(id, logprob)| Alternative { text: text_of(id), bytes: bytes_of(id), logprob };
        let top = logprobs.top.into_iter().map(alternative).collect();
        TokenInfo { id, text: text_of(id), bytes: bytes_of(id), logprob: logprobs.logprob, top }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.count_unread();
    }
}

impl Maze {
    /// Whether a compiled constraint accepts exactly this text: what a stop string left may or may not be complete.
    fn accepts(
        &self,
        compiled: &Arc<CompiledConstraint>,
        prompt: &str,
        hole: Option<&Document>,
        text: &str,
    ) -> Result<bool, Error> {
        let mut matcher = match hole {
            Some(document) => compiled.matcher_in(document)?,
            None => compiled.matcher(prompt.as_bytes())?,
        };
        for id in self.inner.tokenizer.encode(text, false)? {
            if matcher.accept(id).is_err() {
                return Ok(false);
            }
        }
        Ok(matcher.is_complete()?)
    }
}

impl Choice {
    fn num_tokens(&self) -> u32 {
        self.num_remote_tokens.max(self.tokens.len() as u32)
    }

    fn stats(&self, finished: Option<&Finished>) -> ChoiceStats {
        let total = self.started.elapsed();
        ChoiceStats::new(total, self.first_token.unwrap_or(total), self.num_tokens() as usize, finished)
    }
}

/// What ended a choice.
enum End {
    Engine(Finished),
    StopString,
}

impl End {
    fn finished(&self) -> Option<&Finished> {
        match self {
            Self::Engine(finished) => Some(finished),
            Self::StopString => None,
        }
    }

    fn reason(&self) -> (FinishReason, Option<String>) {
        let Self::Engine(finished) = self else { return (FinishReason::Stop, None) };
        match &finished.reason {
            engine::FinishReason::EndToken => (FinishReason::Stop, None),
            engine::FinishReason::Length => (FinishReason::Length, None),
            engine::FinishReason::DeadEnd { parts, byte_offset } => {
                let detail = format!("no token satisfies {} at once after byte {byte_offset}", parts.join(" and "));
                (FinishReason::DeadEnd, Some(detail))
            }
        }
    }
}
