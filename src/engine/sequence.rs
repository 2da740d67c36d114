//! One choice of one request, from admission to its last token.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::block_pool::PrefixId;
use super::mask_workers::Steered;
use super::request::{Finished, QueuePlace, Salt, Submission};
use super::{EngineError, FinishReason, TokenEvent};
use crate::guide::{GuideError, Pilot, PilotStats, Steering};
use crate::kernels::sampling::{SampledToken, SamplingParams, SamplingRow, TokenLogprobs};

/// Names a sequence for as long as the engine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SequenceId(pub(super) u64);

/// Where a sequence's pilot is. It owns the sequence's matcher and travels to a mask worker and back.
pub(super) enum PilotPlace {
    /// Here, and the next mask is not known.
    Resident(Pilot),
    /// Here, with the mask and the soft bias of the next token.
    Ready(Pilot, MaskRow, Arc<[(u32, f32)]>),
    /// With a mask worker.
    Away,
    /// Used up: the sequence ends in this step.
    Gone,
}

/// How much of a slow mask's time is still expected of the next: places that are slow come in runs.
const EXPECTED_MASK_TIME_KEPT: f32 = 0.9;

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
    pub(super) salt: Option<Salt>,
    /// Raised whenever tokens are taken back.
    edition: u32,
    pilot: PilotPlace,
    num_masks: u32,
    mask_time: Duration,
    expected_mask_time: Duration,
    steering: PilotStats,
    /// The newest tokens, which may still be taken back.
    unsent: VecDeque<(u32, Option<TokenLogprobs>)>,
    max_tokens: u32,
    sampling: SamplingParams,
    output_counts: Vec<(u32, u32)>,
    prompt_ids: Vec<u32>,
    seed: u64,
    choice: u32,
    num_logprobs: Option<u32>,
    /// What is asked of the prompt, until it is sent.
    prompt_scores: Option<PromptScores>,
    events: mpsc::Sender<TokenEvent>,
    cancelled: Arc<AtomicBool>,
    queue_place: Option<QueuePlace>,
}

/// Log-probabilities of a prompt's tokens from the second on, as far as they are known. They outlive the sequence's
/// blocks: what is computed again after a preemption is not scored again.
struct PromptScores {
    num_logprobs: u32,
    known: Vec<TokenLogprobs>,
}

impl Sequence {
    pub(super) fn new(submission: Submission) -> Self {
        let Submission { request, events, cancelled, place } = submission;
        let prompt_ids =
            if request.sampling.repetition_penalty == 1.0 { Vec::new() } else { distinct(&request.prompt) };
        let steering = Steering { max_tokens: request.max_tokens, forced_tokens: request.forced_tokens };
        let pilot = Pilot::new(request.matcher, steering);
        Self {
            prompt_len: request.prompt.len(),
            tokens: request.prompt,
            num_computed: 0,
            block_table: Vec::new(),
            prefixes: Vec::new(),
            salt: request.salt,
            edition: 0,
            num_masks: 0,
            mask_time: Duration::ZERO,
            expected_mask_time: pilot.usual_mask_time(),
            pilot: PilotPlace::Resident(pilot),
            steering: PilotStats::default(),
            unsent: VecDeque::new(),
            max_tokens: request.max_tokens,
            sampling: request.sampling,
            output_counts: Vec::new(),
            prompt_ids,
            seed: request.seed,
            choice: request.choice,
            num_logprobs: request.num_logprobs,
            prompt_scores: request
                .num_prompt_logprobs
                .map(|num_logprobs| PromptScores { num_logprobs, known: Vec::new() }),
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

    /// Whether it ends with the next token, whichever that is.
    pub(super) fn ends_with_next(&self) -> bool {
        self.num_generated() + 1 >= self.max_tokens as usize
    }

    /// Whether computing `count` more tokens reaches the last one, whose logits are then sampled.
    pub(super) fn samples_after(&self, count: usize) -> bool {
        count == self.num_pending()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) || self.events.is_closed()
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self.pilot, PilotPlace::Away)
    }

    /// How long its next mask may take: as long as the last one, or a slow one not long ago. Before it has one, as long
    /// as the last one under its constraint.
    pub(super) fn expected_mask_time(&self) -> Duration {
        self.expected_mask_time
    }

    /// Which edition of its tokens this is: taking some back makes a new one.
    pub(super) fn edition(&self) -> u32 {
        self.edition
    }

    /// Whether its prompt is computed.
    pub(super) fn is_decoding(&self) -> bool {
        self.num_computed >= self.prompt_len
    }

    /// The place in the prompt whose row of logits is the first that is still wanted, to score the token behind it.
    pub(super) fn first_unscored(&self) -> Option<usize> {
        self.prompt_scores.as_ref().map(|scores| scores.known.len())
    }

    /// Of the next `num_tokens` those whose rows of logits score the tokens behind them.
    pub(super) fn places_to_score(&self, num_tokens: usize) -> Range<usize> {
        let end = (self.num_computed + num_tokens).min(self.prompt_len - 1);
        let start = self.first_unscored().map_or(end, |first| first.max(self.num_computed).min(end));
        start..end
    }

    /// How many tokens may run before more than `num_scored` of them have to be scored.
    pub(super) fn num_before_scores(&self, num_scored: usize) -> usize {
        self.first_unscored().map_or(usize::MAX, |first| first.saturating_sub(self.num_computed) + num_scored)
    }

    /// How many of its tokens may come out of the prefix cache: the last one always runs, since its logits are needed,
    /// and so does what is still to be scored.
    pub(super) fn num_reusable(&self) -> usize {
        self.first_unscored().unwrap_or(usize::MAX).min(self.tokens.len() - 1)
    }

    /// The token behind each of `places`, and how many alternatives are to be reported.
    pub(super) fn known_behind(&self, places: Range<usize>) -> impl Iterator<Item = (u32, u32)> + '_ {
        let num_logprobs = self.prompt_scores.as_ref().map_or(0, |scores| scores.num_logprobs);
        self.tokens[places.start + 1..=places.end].iter().map(move |&id| (id, num_logprobs))
    }

    /// Takes in the score of the next token of the prompt.
    pub(super) fn add_score(&mut self, score: TokenLogprobs) {
        if let Some(scores) = &mut self.prompt_scores {
            scores.known.push(score);
        }
    }

    /// Sends the prompt's scores as soon as there are all.
    pub(super) fn send_scores(&mut self) {
        if self.first_unscored() == Some(self.prompt_len - 1)
            && let Some(scores) = self.prompt_scores.take()
        {
            self.send(TokenEvent::Prompt(scores.known));
        }
    }

    /// How many tokens may run next: what is left of the prompt, or the one sampled last with what is forced after it.
    pub(super) fn num_next(&self, forced_block_len_max: usize) -> usize {
        if self.is_decoding() { self.num_pending().min(forced_block_len_max.max(1)) } else { self.num_pending() }
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

    /// Takes the pilot for a mask worker; `None` when it is away or the mask is known already.
    pub(super) fn lend_pilot(&mut self) -> Option<Pilot> {
        match std::mem::replace(&mut self.pilot, PilotPlace::Away) {
            PilotPlace::Resident(pilot) => Some(pilot),
            other => {
                self.pilot = other;
                None
            }
        }
    }

    /// Takes the last `count` tokens back, none of which was sent; the one before them runs again.
    ///
    /// Returns the blocks to free: a published block is shared and is never written to again.
    pub(super) fn retract(&mut self, count: usize, block_len: usize) -> Vec<u32> {
        if count == 0 {
            return Vec::new();
        }
        self.edition += 1;
        for token in self.tokens.split_off(self.tokens.len() - count) {
            self.uncount(token);
            self.unsent.pop_back();
        }
        self.num_computed = self.num_computed.min(self.tokens.len() - 1);
        let num_kept = self.num_computed / block_len;
        if self.prefixes.len() <= num_kept {
            return Vec::new();
        }
        self.num_computed = num_kept * block_len;
        self.prefixes.truncate(num_kept);
        self.block_table.split_off(num_kept)
    }

    /// The pilot is back with its mask; what it forces is appended. Returns the end of the sequence when the budget is
    /// used up, with the mask row that nobody needs then.
    ///
    /// # Errors
    /// When the matcher cannot say whether the output is complete.
    pub(super) fn take_back(
        &mut self,
        steered: Steered,
        mask_time: Duration,
    ) -> Result<Option<(Finished, MaskRow)>, EngineError> {
        let Steered { mut pilot, row, bias, advice } = steered;
        self.num_masks += 1;
        self.mask_time += mask_time;
        self.expected_mask_time = mask_time.max(self.expected_mask_time.mul_f32(EXPECTED_MASK_TIME_KEPT));
        pilot.record_mask_time(self.expected_mask_time);
        self.steering = pilot.stats();
        for token in advice.forced {
            self.push(token, None);
        }
        self.send_settled(&pilot);
        if advice.is_complete.is_some() || self.num_generated() >= self.max_tokens as usize {
            let is_complete = match advice.is_complete {
                Some(is_complete) => is_complete,
                None => pilot.is_complete()?,
            };
            self.pilot = PilotPlace::Resident(pilot);
            return Ok(Some((self.finished(FinishReason::Length, is_complete), row)));
        }
        self.pilot = PilotPlace::Ready(pilot, row, bias);
        Ok(None)
    }

    /// The row to sample with, once its mask is here.
    pub(super) fn sampling_row(&self) -> Option<SamplingRow<'_>> {
        let PilotPlace::Ready(_, mask, bias) = &self.pilot else { return None };
        Some(SamplingRow {
            mask,
            bias,
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
    /// Where masks are slow, reading a token may be so too: with `defers` the mask worker reads it, and it is sent after
    /// that. The used mask row comes back too.
    ///
    /// # Errors
    /// When the matcher refuses a token that its mask allowed; such a token is never sent.
    pub(super) fn accept(
        &mut self,
        sampled: SampledToken,
        end_tokens: &[u32],
        defers: bool,
    ) -> (Result<Option<Finished>, EngineError>, MaskRow) {
        let PilotPlace::Ready(mut pilot, row, _) = std::mem::replace(&mut self.pilot, PilotPlace::Gone) else {
            unreachable!("only rows with a mask are sampled");
        };
        let outcome = self.accept_with(&mut pilot, sampled, end_tokens, defers);
        self.pilot = PilotPlace::Resident(pilot);
        (outcome, row)
    }

    fn accept_with(
        &mut self,
        pilot: &mut Pilot,
        sampled: SampledToken,
        end_tokens: &[u32],
        defers: bool,
    ) -> Result<Option<Finished>, EngineError> {
        if end_tokens.contains(&sampled.id) {
            let end_token = sampled.logprobs.map(|logprobs| (sampled.id, logprobs));
            return Ok(Some(Finished { end_token, ..self.finished(FinishReason::EndToken, true) }));
        }
        if defers {
            pilot.defer(sampled.id);
            self.push(sampled.id, sampled.logprobs);
            return Ok(None);
        }
        pilot.accept(sampled.id)?;
        self.push(sampled.id, sampled.logprobs);
        self.send_settled(pilot);
        if self.num_generated() >= self.max_tokens as usize {
            let is_complete = pilot.is_complete()?;
            if is_complete || !pilot.can_close_otherwise() {
                return Ok(Some(self.finished(FinishReason::Length, is_complete)));
            }
        }
        Ok(None)
    }

    /// The pilot, where it is here: dropping it may take long.
    pub(super) fn into_pilot(self) -> Option<Pilot> {
        match self.pilot {
            PilotPlace::Resident(pilot) | PilotPlace::Ready(pilot, ..) => Some(pilot),
            PilotPlace::Away | PilotPlace::Gone => None,
        }
    }

    /// How a sequence ends whose mask could not be computed; its pilot did not come home.
    pub(super) fn lose_pilot(&mut self, error: GuideError) -> TokenEvent {
        self.pilot = PilotPlace::Gone;
        match error {
            GuideError::DeadEnd { parts, byte_offset } => {
                TokenEvent::Finished(self.finished(FinishReason::DeadEnd { parts, byte_offset }, false))
            }
            error => TokenEvent::Failed(error.into()),
        }
    }

    fn push(&mut self, token: u32, logprobs: Option<TokenLogprobs>) {
        self.count(token);
        self.tokens.push(token);
        self.unsent.push_back((token, logprobs));
    }

    /// Sends the tokens that cannot be taken back any more.
    fn send_settled(&mut self, pilot: &Pilot) {
        let num_held = self.num_generated().saturating_sub(pilot.num_settled());
        while self.unsent.len() > num_held {
            self.send_oldest();
        }
    }

    fn send_oldest(&mut self) {
        if let Some((id, logprobs)) = self.unsent.pop_front() {
            self.send(TokenEvent::Token { id, logprobs });
        }
    }

    /// Sends what was held back; the end follows.
    fn finished(&mut self, reason: FinishReason, is_complete: bool) -> Finished {
        while !self.unsent.is_empty() {
            self.send_oldest();
        }
        let Self { num_masks, mask_time, steering, .. } = *self;
        Finished { reason, end_token: None, is_complete, num_masks, mask_time, steering }
    }

    /// Sends an event; a reader that has gone is noticed at the next step.
    pub(super) fn send(&self, event: TokenEvent) {
        let sent = self.events.try_send(event);
        debug_assert!(
            !matches!(sent, Err(mpsc::error::TrySendError::Full(_))),
            "the channel holds all that a sequence can send"
        );
    }

    fn is_penalized(&self) -> bool {
        self.sampling.frequency_penalty != 0.0
            || self.sampling.presence_penalty != 0.0
            || self.sampling.repetition_penalty != 1.0
    }

    fn count(&mut self, id: u32) {
        if !self.is_penalized() {
            return;
        }
        match self.output_counts.binary_search_by_key(&id, |&(known, _)| known) {
            Ok(found) => self.output_counts[found].1 += 1,
            Err(place) => self.output_counts.insert(place, (id, 1)),
        }
    }

    fn uncount(&mut self, id: u32) {
        let Ok(found) = self.output_counts.binary_search_by_key(&id, |&(known, _)| known) else { return };
        self.output_counts[found].1 -= 1;
        if self.output_counts[found].1 == 0 {
            self.output_counts.remove(found);
        }
    }
}

fn distinct(ids: &[u32]) -> Vec<u32> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}
