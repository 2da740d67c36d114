//! One choice of one request, from admission to its last token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::block_pool::PrefixId;
use super::request::{Finished, QueuePlace, Submission};
use super::{EngineError, FinishReason, TokenEvent};
use crate::guide::{GuideError, Matcher};
use crate::kernels::sampling::{SampledToken, SamplingParams, SamplingRow};

/// Names a sequence for as long as the engine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SequenceId(pub(super) u64);

/// Where a sequence's matcher is. It belongs to one sequence and travels to a mask worker and back.
pub(super) enum MatcherPlace {
    /// Here, and its next mask is not known.
    Resident(Matcher),
    /// Here, with the mask of the next token.
    Ready(Matcher, MaskRow),
    /// With a mask worker.
    Away,
    /// Used up: the sequence ends in this step.
    Gone,
}

/// One mask row: `[num_words]` u32.
pub(super) type MaskRow = Vec<u32>;

/// A sequence; the engine owns it.
pub(super) struct Sequence {
    /// Prompt and output.
    tokens: Vec<u32>,
    prompt_len: usize,
    /// How many of `tokens` have their KV in the block table.
    num_computed: usize,
    pub(super) block_table: Vec<u32>,
    /// Identity of each published block in the table's front.
    pub(super) prefixes: Vec<PrefixId>,
    matcher: MatcherPlace,
    num_masks: u32,
    mask_time: Duration,
    max_tokens: u32,
    sampling: SamplingParams,
    output_counts: Vec<(u32, u32)>,
    prompt_ids: Vec<u32>,
    seed: u64,
    choice: u32,
    num_logprobs: Option<u32>,
    events: mpsc::Sender<TokenEvent>,
    cancelled: Arc<AtomicBool>,
    queue_place: Option<QueuePlace>,
}

impl Sequence {
    pub(super) fn new(submission: Submission) -> Self {
        let Submission { request, events, cancelled, place } = submission;
        let prompt_ids =
            if request.sampling.repetition_penalty == 1.0 { Vec::new() } else { distinct(&request.prompt) };
        Self {
            prompt_len: request.prompt.len(),
            tokens: request.prompt,
            num_computed: 0,
            block_table: Vec::new(),
            prefixes: Vec::new(),
            matcher: MatcherPlace::Resident(request.matcher),
            num_masks: 0,
            mask_time: Duration::ZERO,
            max_tokens: request.max_tokens,
            sampling: request.sampling,
            output_counts: Vec::new(),
            prompt_ids,
            seed: request.seed,
            choice: request.choice,
            num_logprobs: request.num_logprobs,
            events,
            cancelled,
            queue_place: Some(place),
        }
    }

    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(super) fn num_computed(&self) -> usize {
        self.num_computed
    }

    /// Tokens whose KV is not computed yet; at least one while the sequence lives.
    pub(super) fn num_pending(&self) -> usize {
        self.tokens.len() - self.num_computed
    }

    pub(super) fn num_generated(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }

    /// Whether computing `count` more tokens reaches the last one, whose logits are then sampled.
    pub(super) fn samples_after(&self, count: usize) -> bool {
        count == self.num_pending()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) || self.events.is_closed()
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self.matcher, MatcherPlace::Away)
    }

    /// The first schedule ends the wait in the queue.
    pub(super) fn leave_queue(&mut self) {
        self.queue_place = None;
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.num_computed += count;
        debug_assert!(self.num_computed <= self.tokens.len(), "only known tokens are computed");
    }

    /// Blocks are gone; everything is computed again.
    pub(super) fn rewind(&mut self) -> Vec<u32> {
        self.num_computed = 0;
        self.prefixes.clear();
        std::mem::take(&mut self.block_table)
    }

    /// Takes the matcher for a mask worker; `None` when it is away or the mask is known already.
    pub(super) fn lend_matcher(&mut self) -> Option<Matcher> {
        match std::mem::replace(&mut self.matcher, MatcherPlace::Away) {
            MatcherPlace::Resident(matcher) => Some(matcher),
            other => {
                self.matcher = other;
                None
            }
        }
    }

    pub(super) fn take_back(&mut self, matcher: Matcher, row: MaskRow, mask_time: Duration) {
        self.matcher = MatcherPlace::Ready(matcher, row);
        self.num_masks += 1;
        self.mask_time += mask_time;
    }

    /// The row to sample with, once its mask is here.
    pub(super) fn sampling_row(&self) -> Option<SamplingRow<'_>> {
        let MatcherPlace::Ready(_, mask) = &self.matcher else { return None };
        Some(SamplingRow {
            mask,
            params: &self.sampling,
            output_counts: &self.output_counts,
            prompt_ids: &self.prompt_ids,
            seed: self.seed,
            choice: self.choice,
            position: self.num_generated() as u32,
            num_logprobs: self.num_logprobs,
        })
    }

    /// Accepts a sampled token: the matcher first, then the output. Returns the end of the sequence, if this is it.
    ///
    /// The used mask row comes back too.
    ///
    /// # Errors
    /// When the matcher refuses a token that its mask allowed; such a token is never sent.
    pub(super) fn accept(
        &mut self,
        sampled: SampledToken,
        end_tokens: &[u32],
    ) -> (Result<Option<Finished>, EngineError>, MaskRow) {
        let MatcherPlace::Ready(matcher, row) = std::mem::replace(&mut self.matcher, MatcherPlace::Gone) else {
            unreachable!("only rows with a mask are sampled");
        };
        (self.accept_with(matcher, sampled, end_tokens), row)
    }

    fn accept_with(
        &mut self,
        mut matcher: Matcher,
        sampled: SampledToken,
        end_tokens: &[u32],
    ) -> Result<Option<Finished>, EngineError> {
        if end_tokens.contains(&sampled.id) {
            return Ok(Some(self.finished(FinishReason::EndToken, true)));
        }
        matcher.accept(sampled.id)?;
        self.count(sampled.id);
        self.tokens.push(sampled.id);
        self.send(TokenEvent::Token { id: sampled.id, logprobs: sampled.logprobs });
        if self.num_generated() >= self.max_tokens as usize {
            let is_complete = matcher.is_complete()?;
            return Ok(Some(self.finished(FinishReason::Length, is_complete)));
        }
        self.matcher = MatcherPlace::Resident(matcher);
        Ok(None)
    }

    /// How a sequence ends whose mask could not be computed; its matcher did not come home.
    pub(super) fn lose_matcher(&mut self, error: GuideError) -> TokenEvent {
        self.matcher = MatcherPlace::Gone;
        match error {
            GuideError::DeadEnd { parts, byte_offset } => {
                TokenEvent::Finished(self.finished(FinishReason::DeadEnd { parts, byte_offset }, false))
            }
            error => TokenEvent::Failed(error.into()),
        }
    }

    fn finished(&self, reason: FinishReason, is_complete: bool) -> Finished {
        Finished { reason, is_complete, num_masks: self.num_masks, mask_time: self.mask_time }
    }

    /// Sends an event; a reader that has gone is noticed at the next step.
    pub(super) fn send(&self, event: TokenEvent) {
        let sent = self.events.try_send(event);
        debug_assert!(
            !matches!(sent, Err(mpsc::error::TrySendError::Full(_))),
            "the channel holds all that a sequence can send"
        );
    }

    fn count(&mut self, id: u32) {
        let penalized = self.sampling.frequency_penalty != 0.0
            || self.sampling.presence_penalty != 0.0
            || self.sampling.repetition_penalty != 1.0;
        if !penalized {
            return;
        }
        match self.output_counts.binary_search_by_key(&id, |&(known, _)| known) {
            Ok(found) => self.output_counts[found].1 += 1,
            Err(place) => self.output_counts.insert(place, (id, 1)),
        }
    }
}

fn distinct(ids: &[u32]) -> Vec<u32> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}
