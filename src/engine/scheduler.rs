//! Which tokens run in the next step, and what becomes of the sequences after it.
//!
//! A sequence runs some of its pending tokens: all of its prompt, a chunk of it, or the one token sampled last.
//! Decoding sequences come first, so a long prompt never holds up a running stream by more than one chunk.
//! When the pool is dry, the sequence admitted last gives up its blocks and is computed again later.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::block_pool::{BlockPool, PrefixId};
use super::mask_workers::{Lent, Mask, Steered};
use super::request::Submission;
use super::runner::{SampledRow, ScoredRow};
use super::sequence::{MaskRow, Sequence, SequenceId};
use super::stats::{add, set};
use super::waiting::WaitingLines;
use super::{EngineConfig, EngineError, EngineStats, TokenEvent};
use crate::guide::Pilot;
use crate::kernels::sampling::{KnownToken, SampledToken, SamplingError, SamplingRow};
use crate::model::Batch;

/// All sequences, and the blocks they hold.
pub(super) struct Scheduler {
    config: EngineConfig,
    end_tokens: Vec<u32>,
    pool: BlockPool,
    sequences: BTreeMap<SequenceId, Sequence>,
    /// In order of admission; each holds blocks.
    running: Vec<SequenceId>,
    waiting: WaitingLines,
    /// Cancelled sequences whose matcher is still with a mask worker: each keeps its place among the running.
    num_orphans: usize,
    /// Pilots of sequences that have ended, and how long their next masks were expected to take.
    retired: Vec<(Pilot, Duration)>,
    last_id: u64,
    stats: Arc<EngineStats>,
}

/// One step's work.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) batch: Batch,
    entries: Vec<Entry>,
    scored: Vec<ScoredPlaces>,
}

/// Places of a prompt whose logits are in the step to score the tokens behind them; none where only the end of the
/// prompt was awaited.
#[derive(Clone, Debug)]
struct ScoredPlaces {
    id: SequenceId,
    places: Range<usize>,
    /// The row of the first place.
    logit_row: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: SequenceId,
    num_tokens: usize,
    /// Its row of logits, where the sequence's last token is in the step.
    logit_row: Option<usize>,
    /// The sequence's edition that was scheduled; a later one has taken tokens back.
    edition: u32,
}

/// A row of logits to sample, and whose it is.
pub(super) struct RowToSample<'a> {
    pub(super) id: SequenceId,
    pub(super) logit_row: usize,
    pub(super) row: SamplingRow<'a>,
}

/// A row of logits and the token that stands after it, and whose it is.
pub(super) struct RowToScore {
    pub(super) id: SequenceId,
    pub(super) token: KnownToken,
}

impl Scheduler {
    pub(super) fn new(config: EngineConfig, end_tokens: Vec<u32>, stats: Arc<EngineStats>) -> Self {
        let pool = BlockPool::new(config.num_blocks);
        set(&stats.num_blocks, config.num_blocks);
        let scheduler = Self {
            config,
            end_tokens,
            pool,
            sequences: BTreeMap::new(),
            running: Vec::new(),
            waiting: WaitingLines::default(),
            num_orphans: 0,
            retired: Vec::new(),
            last_id: 0,
            stats,
        };
        scheduler.publish_gauges();
        scheduler
    }

    pub(super) fn add(&mut self, submission: Submission) {
        self.last_id += 1;
        let id = SequenceId(self.last_id);
        self.waiting.push_back(submission.request.tenant.clone(), id);
        self.sequences.insert(id, Sequence::new(submission));
    }

    /// Whether there is nothing to do until a submission comes.
    pub(super) fn is_idle(&self) -> bool {
        self.sequences.is_empty() && self.num_orphans == 0
    }

    /// Drops every sequence whose reader has gone; its blocks are free at once.
    pub(super) fn drop_cancelled(&mut self) {
        let cancelled: Vec<_> =
            self.sequences.iter().filter(|(_, sequence)| sequence.is_cancelled()).map(|(&id, _)| id).collect();
        for id in cancelled {
            self.remove(id);
        }
        self.publish_gauges();
    }

    /// Chooses the tokens of the next step; `None` when no sequence can run now.
    pub(super) fn schedule(&mut self) -> Option<Step> {
        let mut step = Step::default();
        let num_waiting = self.waiting.len();
        for decoding in [true, false] {
            for id in self.running.clone() {
                self.schedule_running(id, decoding, &mut step);
            }
        }
        let is_dry = self.waiting.len() > num_waiting;
        while !is_dry && self.running.len() + self.num_orphans < self.config.num_seqs_max {
            let Some(id) = self.waiting.front() else { break };
            if !self.admit(id, &mut step) {
                break;
            }
        }
        self.publish_gauges();
        if step.entries.is_empty() {
            return None;
        }
        self.stats.record_step(step.entries.len());
        Some(step)
    }

    /// The step after `step`, if every running sequence goes on with the token that is being sampled for it: those of
    /// `sampled`, in order. `None` where it is known to be another one, or somebody may come in.
    pub(super) fn guess_next(&mut self, step: &Step, sampled: &[SequenceId]) -> Option<Step> {
        let is_everyone = step.entries.len() == self.running.len() && sampled.len() == self.running.len();
        let has_room = self.running.len() + self.num_orphans < self.config.num_seqs_max;
        let may_come_in = has_room && self.waiting.len() > 0;
        if !is_everyone || may_come_in || sampled.len() > self.config.num_batched_tokens_max {
            return None;
        }
        let mut next = Step::default();
        for (logit_row, entry) in step.entries.iter().enumerate() {
            let sequence = self.sequences.get(&entry.id).filter(|sequence| !sequence.ends_with_next())?;
            let (start, edition) = (sequence.num_computed() + entry.num_tokens, sequence.edition());
            if sampled[logit_row] != entry.id || !self.grow(entry.id, entry.num_tokens + 1) {
                return None;
            }
            // Which token, the device knows first.
            next.batch.push(&[0], start, &self.sequences[&entry.id].block_table, self.config.block_len, 1);
            next.entries.push(Entry { id: entry.id, num_tokens: 1, logit_row: Some(logit_row), edition });
        }
        Some(next)
    }

    /// Takes a guessed step for the next one, for the sequences that did go on so; `None` when there is none. What was
    /// computed for others lies where nothing was published, and is written again by whoever has the place next.
    pub(super) fn adopt(&mut self, mut guess: Step) -> Option<Step> {
        let contexts: Vec<usize> = guess.batch.sequences.iter().map(|sequence| sequence.context_len).collect();
        guess.entries.retain(|entry| {
            let context_len = entry.logit_row.map_or(0, |row| contexts[row]);
            self.sequences.get(&entry.id).is_some_and(|sequence| {
                let goes_on = sequence.num_pending() == 1 && sequence.tokens().len() == context_len;
                goes_on && !sequence.is_away() && sequence.edition() == entry.edition
            })
        });
        if guess.entries.is_empty() {
            return None;
        }
        self.stats.record_step(guess.entries.len());
        Some(guess)
    }

    /// Gives away the pilots of the rows that will be sampled, as far as their masks are not known yet; and how many are.
    pub(super) fn lend_pilots(&mut self, step: &Step) -> (Vec<Lent>, usize) {
        let sampled: Vec<_> = step.entries.iter().filter(|entry| entry.logit_row.is_some()).collect();
        let lent: Vec<_> = sampled
            .iter()
            .filter_map(|entry| {
                let sequence = self.sequences.get_mut(&entry.id)?;
                let expected_mask_time = sequence.expected_mask_time();
                sequence.lend_pilot().map(|pilot| Lent { id: entry.id, pilot, expected_mask_time })
            })
            .collect();
        let num_ready = sampled.len() - lent.len();
        (lent, num_ready)
    }

    /// Pilots come home; a sequence without a mask ends here. Returns the rows that nobody needs any more.
    pub(super) fn take_back(&mut self, masks: Vec<Mask>) -> Vec<MaskRow> {
        let mut spare = Vec::new();
        for mask in masks {
            add(&self.stats.num_masks, 1);
            self.stats.record_mask(mask.time);
            let Some(sequence) = self.sequences.get_mut(&mask.id) else {
                self.num_orphans -= 1;
                if let Ok(steered) = mask.outcome {
                    spare.push(steered.row);
                    self.retired.push((steered.pilot, mask.time));
                }
                continue;
            };
            match mask.outcome {
                Ok(steered) => spare.extend(self.steer(mask.id, steered, mask.time)),
                Err(error) => {
                    let event = sequence.lose_pilot(error);
                    self.end(mask.id, event);
                }
            }
        }
        spare
    }

    /// The pilots of sequences that have ended since the last call, to be dropped where nobody waits.
    pub(super) fn take_retired(&mut self) -> Vec<(Pilot, Duration)> {
        std::mem::take(&mut self.retired)
    }

    /// Whether anybody waits for this sequence.
    pub(super) fn is_wanted(&self, id: SequenceId) -> bool {
        self.sequences.contains_key(&id)
    }

    /// Does what a pilot advises: takes tokens back, appends forced ones, and ends what they have filled up.
    fn steer(&mut self, id: SequenceId, steered: Steered, time: Duration) -> Option<MaskRow> {
        let block_len = self.config.block_len;
        let sequence = self.sequences.get_mut(&id)?;
        add(&self.stats.num_forced_tokens, steered.advice.forced.len());
        add(&self.stats.num_retracted_tokens, steered.advice.retract);
        add(&self.stats.num_generated_tokens, steered.advice.forced.len());
        for block in sequence.retract(steered.advice.retract, block_len).into_iter().rev() {
            self.pool.free(block);
        }
        match sequence.take_back(steered, time) {
            Ok(None) => None,
            Ok(Some((finished, row))) => {
                self.end(id, TokenEvent::Finished(finished));
                Some(row)
            }
            Err(error) => {
                self.end(id, TokenEvent::Failed(error));
                None
            }
        }
    }

    /// The rows of the step that score what stands in prompts, in the order of the prompts' tokens.
    pub(super) fn rows_to_score(&self, step: &Step) -> Vec<RowToScore> {
        let rows = step.scored.iter().filter_map(|scored| {
            let owner = scored.id;
            let known = self.sequences.get(&owner)?.known_behind(scored.places.clone());
            Some((scored.logit_row..).zip(known).map(move |(row_idx, (id, num_logprobs))| RowToScore {
                id: owner,
                token: KnownToken { row_idx, id, num_logprobs },
            }))
        });
        rows.flatten().collect()
    }

    /// Takes in what the prompts' tokens scored, and sends what has become whole.
    pub(super) fn commit_scores(&mut self, step: &Step, scored: Vec<ScoredRow>) {
        for (id, score) in scored {
            let Some(sequence) = self.sequences.get_mut(&id) else { continue };
            match score {
                Ok(score) => sequence.add_score(score),
                Err(error) => self.end(id, TokenEvent::Failed(error.into())),
            }
        }
        for scored in &step.scored {
            if let Some(sequence) = self.sequences.get_mut(&scored.id) {
                sequence.send_scores();
            }
        }
    }

    /// The rows of the step that can be sampled: their masks are here.
    pub(super) fn rows_to_sample(&self, step: &Step) -> Vec<RowToSample<'_>> {
        let rows = step.entries.iter().filter_map(|entry| {
            let logit_row = entry.logit_row?;
            let sequence = self.sequences.get(&entry.id)?;
            // What was forced or taken back meanwhile: these logits are no longer those of the last token.
            let is_last = sequence.edition() == entry.edition && sequence.samples_after(entry.num_tokens);
            let row = sequence.sampling_row().filter(|_| is_last)?;
            Some(RowToSample { id: entry.id, logit_row, row })
        });
        rows.collect()
    }

    /// Records what was computed and sampled. A row whose mask is late keeps its place: its last token runs again.
    pub(super) fn commit(&mut self, step: &Step, sampled: Vec<SampledRow>) -> Vec<MaskRow> {
        for entry in &step.entries {
            let Some(sequence) = self.sequences.get_mut(&entry.id) else { continue };
            if sequence.edition() != entry.edition {
                continue;
            }
            let is_late = entry.logit_row.is_some() && sequence.is_away();
            add(&self.stats.num_masks_late, usize::from(is_late));
            sequence.advance(entry.num_tokens - usize::from(is_late));
            self.publish_blocks(entry.id);
        }
        let mut spare = Vec::new();
        for (id, token) in sampled {
            spare.extend(self.commit_token(id, token));
        }
        self.publish_gauges();
        spare
    }

    /// Fails every sequence; the pool forgets its content.
    pub(super) fn fail_all(&mut self, message: &str) {
        for id in self.sequences.keys().copied().collect::<Vec<_>>() {
            self.end(id, TokenEvent::Failed(EngineError::Internal { message: message.to_owned() }));
        }
        self.pool.reset();
        self.publish_gauges();
    }

    fn schedule_running(&mut self, id: SequenceId, decoding: bool, step: &mut Step) {
        let Some(sequence) = self.sequences.get(&id) else { return };
        let num_tokens = sequence.num_next(self.config.forced_block_len_max).min(self.budget(sequence, step));
        let is_decoding = sequence.is_decoding();
        if sequence.is_away() || num_tokens == 0 || is_decoding != decoding || !self.running.contains(&id) {
            return;
        }
        while !self.grow(id, num_tokens) {
            if !self.preempt_last(id, step) {
                return;
            }
        }
        self.push(id, num_tokens, step);
    }

    /// Takes a waiting sequence in, with whatever prefix of it is cached; false when it does not fit now.
    fn admit(&mut self, id: SequenceId, step: &mut Step) -> bool {
        if self.sequences[&id].is_away() || self.budget(&self.sequences[&id], step) == 0 {
            return false;
        }
        self.reuse_prefix(id);
        let sequence = &self.sequences[&id];
        let num_tokens = sequence.num_pending().min(self.budget(sequence, step));
        if num_tokens == 0 || !self.grow(id, num_tokens) {
            self.release_blocks(id);
            return false;
        }
        add(&self.stats.num_prefix_hit_tokens, self.sequences[&id].num_computed());
        self.waiting.pop_front();
        self.running.push(id);
        self.sequences.get_mut(&id).expect("it is the front of the queue").leave_queue();
        self.push(id, num_tokens, step);
        true
    }

    /// How many tokens of a sequence the step still takes.
    fn budget(&self, sequence: &Sequence, step: &Step) -> usize {
        let num_scored: usize = step.scored.iter().map(|scored| scored.places.len()).sum();
        let num_scored = self.config.num_scored_tokens_max.max(1).saturating_sub(num_scored);
        (self.config.num_batched_tokens_max - step.batch.num_tokens()).min(sequence.num_before_scores(num_scored))
    }

    fn push(&mut self, id: SequenceId, num_tokens: usize, step: &mut Step) {
        let sequence = &self.sequences[&id];
        let start = sequence.num_computed();
        let samples = sequence.samples_after(num_tokens);
        let tokens = &sequence.tokens()[start..start + num_tokens];
        if sequence.num_generated() == 0 {
            add(&self.stats.num_prefill_tokens, num_tokens);
        }
        let places = sequence.places_to_score(num_tokens);
        // The rows of a chunk are those of its last tokens: what is scored, and the one behind it where it is sampled.
        let num_logits = places.len() + usize::from(samples);
        let first_row = step.batch.logit_rows.len();
        let logit_row = samples.then(|| first_row + places.len());
        step.batch.push(tokens, start, &sequence.block_table, self.config.block_len, num_logits);
        if sequence.first_unscored().is_some() {
            step.scored.push(ScoredPlaces { id, places, logit_row: first_row });
        }
        step.entries.push(Entry { id, num_tokens, logit_row, edition: sequence.edition() });
    }

    /// Gives a sequence blocks for `num_tokens` more tokens; false when the pool runs dry.
    fn grow(&mut self, id: SequenceId, num_tokens: usize) -> bool {
        let sequence = self.sequences.get_mut(&id).expect("only known sequences are scheduled");
        let needed = (sequence.num_computed() + num_tokens).div_ceil(self.config.block_len);
        while sequence.block_table.len() < needed {
            let Some(block) = self.pool.allocate() else { return false };
            sequence.block_table.push(block);
        }
        true
    }

    /// Takes the blocks of the sequence admitted last, unless it is in the step already. False when none is left.
    fn preempt_last(&mut self, for_id: SequenceId, step: &Step) -> bool {
        let in_step = |id: &SequenceId| step.entries.iter().any(|entry| entry.id == *id);
        let victim = self.running.iter().rev().copied().find(|id| !in_step(id) && !self.sequences[id].is_away());
        let Some(victim) = victim else { return false };
        add(&self.stats.num_preemptions, 1);
        self.release_blocks(victim);
        self.running.retain(|&id| id != victim);
        self.waiting.push_front(victim);
        victim != for_id
    }

    fn reuse_prefix(&mut self, id: SequenceId) {
        let sequence = self.sequences.get_mut(&id).expect("only known sequences are scheduled");
        let block_len = self.config.block_len;
        let num_blocks_max = sequence.num_reusable() / block_len;
        let mut before = PrefixId::Root(sequence.salt);
        for index in 0..num_blocks_max {
            let tokens = &sequence.tokens()[index * block_len..(index + 1) * block_len];
            let Some((block, prefix)) = self.pool.reuse(before, tokens) else { break };
            sequence.block_table.push(block);
            sequence.prefixes.push(prefix);
            sequence.advance(block_len);
            before = prefix;
        }
    }

    /// Publishes the blocks that the last step filled.
    fn publish_blocks(&mut self, id: SequenceId) {
        let sequence = self.sequences.get_mut(&id).expect("it was in the step");
        let block_len = self.config.block_len;
        while (sequence.prefixes.len() + 1) * block_len <= sequence.num_computed() {
            let index = sequence.prefixes.len();
            let before = sequence.prefixes.last().copied().unwrap_or(PrefixId::Root(sequence.salt));
            let tokens = &sequence.tokens()[index * block_len..(index + 1) * block_len];
            let prefix = self.pool.publish(sequence.block_table[index], before, tokens);
            sequence.prefixes.push(prefix);
        }
    }

    fn commit_token(&mut self, id: SequenceId, token: Result<SampledToken, SamplingError>) -> Option<MaskRow> {
        let sequence = self.sequences.get_mut(&id)?;
        let token = match token {
            Ok(token) => token,
            Err(error) => {
                self.end(id, TokenEvent::Failed(error.into()));
                return None;
            }
        };
        add(&self.stats.num_generated_tokens, 1);
        let defers = sequence.expected_mask_time() > self.config.mask_late_after;
        let (outcome, row) = sequence.accept(token, &self.end_tokens, defers);
        match outcome {
            Ok(None) => {}
            Ok(Some(finished)) => self.end(id, TokenEvent::Finished(finished)),
            Err(error) => self.end(id, TokenEvent::Failed(error)),
        }
        Some(row)
    }

    fn end(&mut self, id: SequenceId, event: TokenEvent) {
        if let Some(sequence) = self.sequences.get(&id) {
            sequence.send(event);
        }
        self.remove(id);
    }

    fn remove(&mut self, id: SequenceId) {
        self.release_blocks(id);
        let Some(sequence) = self.sequences.remove(&id) else { return };
        self.running.retain(|&other| other != id);
        self.waiting.remove(id);
        self.num_orphans += usize::from(sequence.is_away());
        let expected_mask_time = sequence.expected_mask_time();
        self.retired.extend(sequence.into_pilot().map(|pilot| (pilot, expected_mask_time)));
    }

    fn release_blocks(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        // The last block first: a prefix's front is what later requests share, so it should be evicted last.
        for block in sequence.rewind().into_iter().rev() {
            self.pool.free(block);
        }
    }

    fn publish_gauges(&self) {
        set(&self.stats.num_running, self.running.len());
        set(&self.stats.num_waiting, self.waiting.len());
        set(&self.stats.num_blocks_free, self.pool.num_free());
        debug_assert!(self.pool.num_free() <= self.pool.num_blocks());
    }
}
