//! Steering one sequence past what single masks cannot see: forced tokens, dead ends, and the end of the budget.
//!
//! A mask says what may follow; it does not say whether an end can still be reached in the tokens that are left, or
//! at all when several parts must hold. A [`Pilot`] owns a sequence's matcher and keeps, where that is needed, a
//! *witness*: a complete continuation from where the sequence stands. A sampled token is kept only while a witness that
//! fits the budget is known after it; otherwise it is taken back, banned at its place, and drawn again, and after
//! a few refusals the witness itself is followed. Tokens that may be taken back are not sent before that is decided
//! (the hold-back rule).
//!
//! Everything here is decided by counts of work, never by a clock, so the same request takes the same way under any
//! load.

use std::sync::Arc;
use std::time::Duration;

use super::matcher::Matcher;
use super::structural::AbortHandle;
use super::{GuideConfig, GuideError, Verdict, mask};

/// What a request asks of its pilot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steering {
    /// Most tokens of the output, end token not counted.
    pub max_tokens: u32,
    /// Whether text that all parts together determine is appended without sampling.
    pub forced_tokens: bool,
}

/// What the engine does before it samples: the row that was filled holds for the place after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// Tokens to take back, the last ones first; none of them was sent.
    pub retract: usize,
    /// Tokens to append without sampling.
    pub forced: Vec<u32>,
    /// Where the output is over, because its budget is used up: whether it is complete.
    pub is_complete: Option<bool>,
}

/// What steering has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PilotStats {
    /// Tokens appended without sampling.
    pub num_forced: u32,
    /// Sampled tokens that were taken back.
    pub num_retracted: u32,
    /// Witness searches.
    pub num_searches: u32,
    /// The most tokens that were held back at once.
    pub hold_back: u32,
}

/// The steering of one sequence; it owns the sequence's matcher and travels with it.
pub struct Pilot {
    matcher: Matcher,
    steering: Steering,
    config: GuideConfig,
    mode: Mode,
    /// A complete continuation from the place `witness_at`, in tokens.
    witness: Option<Vec<u32>>,
    witness_at: usize,
    /// Tokens refused at their places, for the sequence as it is up to there; ascending by place.
    bans: Vec<(usize, u32)>,
    /// A sampled token that is to be accepted before the next mask.
    deferred: Option<u32>,
    /// Accepted tokens that can not be taken back any more.
    floor: usize,
    num_backtracks: usize,
    /// Times that watching was given up; each doubles the way to the next look.
    num_surrenders: u32,
    stats: PilotStats,
    /// Whether a part reads the document around the output, so that only a search knows a way to the end.
    reads_document: bool,
    /// In a document, the last place where the output may end; what comes after it is held back.
    last_end: Option<usize>,
    /// Whether a text that joins the output to the suffix has been looked for.
    has_joined: bool,
    /// Whether nothing but the witness is followed any more.
    only_witness: bool,
}

/// How closely a sequence is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing to watch: every place is an end, or there is no constraint.
    Off,
    /// Masks alone, until so many tokens are accepted; then a witness is looked for.
    Free { check_at: usize },
    /// Every token must leave a witness; `failures` searches in a row found none.
    Watched { failures: usize },
    /// No witness can be found: dead ends are met by going back over what is held.
    Groping,
}

/// In a document, a way to the end is looked for from so many closing margins before the end of the budget.
const CLOSING_MARGINS: u32 = 2;

/// Places of an output from which a text is looked for that joins it to the suffix.
const JOIN_PLACES: usize = 4;

/// By so many tokens the shortest output known at admission may be longer than the shortest there is.
const MIN_TOKENS_SLACK: u32 = 8;

impl Pilot {
    /// Steers `matcher`, which stands at the start of its output.
    #[must_use]
    pub fn new(matcher: Matcher, steering: Steering) -> Self {
        let compiled = Arc::clone(matcher.compiled());
        let config = compiled.config.clone();
        let witness = match compiled.verdict() {
            Verdict::Satisfiable(witness) if !compiled.is_seeded() && !matcher.is_in_document() => {
                Some(witness.tokens.clone())
            }
            _ => None,
        };
        let reads_document = matcher.reads_document();
        let mode = if compiled.is_free() {
            Mode::Off
        } else if reads_document {
            Mode::Free {
                check_at: steering.max_tokens.saturating_sub(CLOSING_MARGINS * config.min_closing_margin) as usize,
            }
        } else if compiled.may_dead_end() {
            Mode::Watched { failures: 0 }
        } else {
            Mode::Free { check_at: 0 }
        };
        let stats = PilotStats::default();
        let mut pilot = Self {
            matcher,
            steering,
            config,
            mode,
            witness,
            witness_at: 0,
            bans: Vec::new(),
            deferred: None,
            floor: 0,
            num_backtracks: 0,
            num_surrenders: 0,
            stats,
            reads_document,
            last_end: None,
            has_joined: false,
            only_witness: false,
        };
        if reads_document {
            return pilot;
        }
        let shortest = pilot.matcher.compiled().min_tokens().filter(|_| !pilot.matcher.is_in_document());
        let is_far_too_short = shortest.is_some_and(|shortest| shortest > steering.max_tokens + MIN_TOKENS_SLACK);
        if is_far_too_short && matches!(pilot.mode, Mode::Free { .. }) {
            pilot.mode = Mode::Free { check_at: usize::MAX };
        } else {
            pilot.plan_next_check();
        }
        pilot
    }

    /// Decides what happens to the last token, appends what is forced, and fills `row` for the place after it.
    ///
    /// Costs one mask where nothing is watched; a watched token that leaves the witness costs a search of at most
    /// `witness_fuel_per_token` masks.
    ///
    /// # Errors
    /// As [`Matcher::fill`]; [`GuideError::DeadEnd`] only after everything that may be taken back was tried.
    pub fn next(&mut self, row: &mut [u32]) -> Result<Advice, GuideError> {
        if let Some(token) = self.deferred.take() {
            self.accept(token)?;
            if self.num_left() == 0 {
                let is_complete = self.is_complete()?;
                if is_complete || !self.can_close_otherwise() {
                    return Ok(Advice { is_complete: Some(is_complete), ..Advice::default() });
                }
            }
        }
        if self.steering.max_tokens == 0 {
            return Ok(Advice { is_complete: Some(self.is_complete()?), ..Advice::default() });
        }
        let before = self.matcher.num_accepted();
        if self.num_left() == 0 && self.reads_document && !self.return_to_witness()? && !self.join()? {
            let retract = self.return_to_last_end()?;
            return Ok(Advice { retract, is_complete: Some(self.is_complete()?), ..Advice::default() });
        }
        self.watch()?;
        while let Err(error) = self.fill(row) {
            if let Err(error) = self.step_back(error) {
                self.end_otherwise(row, error)?;
                break;
            }
        }
        self.note_end(row);
        let retract = before - self.matcher.num_accepted();
        self.stats.num_retracted += retract as u32;
        let forced = if retract == 0 && self.steering.forced_tokens { self.force(row)? } else { Vec::new() };
        self.stats.num_forced += forced.len() as u32;
        let is_complete = if self.num_left() == 0 { Some(self.is_complete()?) } else { None };
        Ok(Advice { retract, forced, is_complete })
    }

    /// Moves on by a sampled token that the last row allowed.
    ///
    /// # Errors
    /// As [`Matcher::accept`].
    pub fn accept(&mut self, token: u32) -> Result<(), GuideError> {
        self.matcher.accept(token)?;
        self.raise_floor();
        Ok(())
    }

    /// Leaves a sampled token that the last row allowed to [`next`](Self::next), where accepting it may take long.
    /// Until then it is not settled.
    pub fn defer(&mut self, token: u32) {
        debug_assert!(self.deferred.is_none(), "each token has its mask");
        self.deferred = Some(token);
    }

    /// What a mask under this constraint was last expected to take; zero before there was one.
    #[must_use]
    pub fn usual_mask_time(&self) -> Duration {
        self.matcher.compiled().usual_mask_time()
    }

    /// Records what this sequence's next mask is expected to take, for the sequences that begin after it.
    pub fn record_mask_time(&self, expected: Duration) {
        self.matcher.compiled().record_mask_time(expected);
    }

    /// Accepted tokens that will not be taken back any more and may be sent.
    #[must_use]
    pub fn num_settled(&self) -> usize {
        self.floor
    }

    /// Whether nothing binds the output, so that a mask costs no more than a copy.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.mode == Mode::Off
    }

    /// Whether the output may end here, under every part.
    ///
    /// # Errors
    /// As [`Matcher::is_complete`].
    pub fn is_complete(&mut self) -> Result<bool, GuideError> {
        self.matcher.is_complete()
    }

    /// Whether tokens can still be taken back in favour of an end in budget: one that a known way leads to, or the last
    /// one that was passed.
    #[must_use]
    pub fn can_close_otherwise(&self) -> bool {
        let place = self.matcher.num_accepted();
        self.can_follow_witness() || self.may_join() || self.last_end.is_some_and(|end| end < place)
    }

    /// Whether tokens can be taken back in favour of a witness that fits the budget.
    fn can_follow_witness(&self) -> bool {
        let place = self.matcher.num_accepted();
        let is_held = !self.reads_document || self.floor <= self.witness_at;
        self.floor < place && self.fits() && self.witness_at < place && is_held
    }

    /// In a document, goes back to where the known witness begins, however long ago that is, unless the output is on its
    /// way; nothing but it follows then. Returns whether there is one.
    fn return_to_witness(&mut self) -> Result<bool, GuideError> {
        if !self.can_follow_witness() {
            return Ok(false);
        }
        if self.followed_witness().is_none() {
            self.matcher.rollback(self.matcher.num_accepted() - self.witness_at)?;
            let witness = self.witness.take().unwrap_or_default();
            self.follow_only(witness);
        }
        Ok(true)
    }

    /// What soft biases add to the logits of the next token; see [`Matcher::bias`].
    pub fn bias(&mut self) -> Arc<[(u32, f32)]> {
        self.matcher.bias()
    }

    /// Stops a mask that takes too long; the sequence is lost then.
    #[must_use]
    pub fn abort_handle(&self) -> AbortHandle {
        self.matcher.abort_handle()
    }

    /// What steering has done so far.
    #[must_use]
    pub fn stats(&self) -> PilotStats {
        self.stats
    }

    /// Whether the known witness ends within the budget.
    fn fits(&self) -> bool {
        let max_tokens = self.steering.max_tokens as usize;
        self.witness.as_ref().is_some_and(|witness| self.witness_at + witness.len() <= max_tokens)
    }

    fn num_left(&self) -> usize {
        (self.steering.max_tokens as usize).saturating_sub(self.matcher.num_accepted())
    }

    /// How many of the newest tokens are kept from the client, where the output stands alone.
    fn hold_back(&self) -> usize {
        match self.mode {
            Mode::Off | Mode::Free { .. } => 0,
            Mode::Watched { .. } => 1,
            Mode::Groping => self.config.hold_back_tokens,
        }
    }

    fn raise_floor(&mut self) {
        let place = self.matcher.num_accepted();
        let settled = if self.reads_document {
            // The output may have to end where it last could.
            self.last_end.unwrap_or(0)
        } else {
            place.saturating_sub(self.hold_back())
        };
        self.floor = self.floor.max(settled);
        self.stats.hold_back = self.stats.hold_back.max(place.saturating_sub(settled) as u32);
    }

    /// In a document, remembers that the output may end where `row` is the mask of; what came before is settled.
    fn note_end(&mut self, row: &[u32]) {
        if self.reads_document && self.matcher.allows_end(row) {
            self.last_end = Some(self.matcher.num_accepted());
            self.raise_floor();
        }
    }

    /// Whether a text may be looked for that joins the output to the suffix.
    fn may_join(&self) -> bool {
        self.reads_document && !self.has_joined && self.floor < self.matcher.num_accepted()
    }

    /// Looks for a text that joins what was not sent of the output, or the beginning of that, to the suffix; the output
    /// goes back to there, and nothing but that text follows. Where none is found the whole output may give way to a joint
    /// of the hole's two sides. Once in a sequence; returns whether there is one.
    fn join(&mut self) -> Result<bool, GuideError> {
        if !self.may_join() {
            return Ok(false);
        }
        self.has_joined = true;
        let place = self.matcher.num_accepted();
        let Some(held) = self.matcher.last_tokens(place - self.floor) else { return Ok(false) };
        for joint_at in join_places(self.floor, place) {
            self.matcher.rollback(self.matcher.num_accepted() - joint_at)?;
            let count_max = self.config.max_joints / JOIN_PLACES;
            if let Some(joint) = self.matcher.joint(self.num_left(), count_max)? {
                self.follow_only(joint);
                return Ok(true);
            }
        }
        // Nothing was sent of an output that could not have ended anywhere: all of it may go.
        if self.floor == 0
            && let Some(joint) = self.matcher.joint_in_place()?.filter(|joint| joint.len() <= self.num_left())
        {
            self.follow_only(joint.to_vec());
            return Ok(true);
        }
        for &token in &held[self.matcher.num_accepted() - self.floor..] {
            self.matcher.accept(token)?;
        }
        Ok(false)
    }

    /// Follows nothing but `witness` from the present place.
    fn follow_only(&mut self, witness: Vec<u32>) {
        self.bans.clear();
        self.witness = Some(witness);
        self.witness_at = self.matcher.num_accepted();
        self.only_witness = true;
    }

    /// Takes back what came after the last place where the output may end; returns how many tokens that are.
    fn return_to_last_end(&mut self) -> Result<usize, GuideError> {
        let place = self.matcher.num_accepted();
        let retract = place - self.last_end.unwrap_or(place);
        self.matcher.rollback(retract)?;
        self.stats.num_retracted += retract as u32;
        Ok(retract)
    }

    /// Meets a dead end by joining the output to the suffix, or by ending where it last could: nothing else is left in
    /// `row`. Where neither can be, the error stands.
    fn end_otherwise(&mut self, row: &mut [u32], error: GuideError) -> Result<(), GuideError> {
        if !matches!(error, GuideError::DeadEnd { .. }) {
            return Err(error);
        }
        if self.join()? {
            return self.fill(row);
        }
        let place = self.matcher.num_accepted();
        let last_end = self.last_end.filter(|&end| end < place);
        let Some(last_end) = last_end else { return Err(error) };
        self.matcher.rollback(place - last_end)?;
        row.fill(0);
        self.matcher.allow_end_tokens(row);
        Ok(())
    }

    /// Sees to it that a witness is known where one is needed; takes the last token back where it left none.
    fn watch(&mut self) -> Result<(), GuideError> {
        match self.mode {
            Mode::Off | Mode::Groping => Ok(()),
            Mode::Free { check_at } if self.matcher.num_accepted() < check_at => Ok(()),
            Mode::Free { .. } => {
                self.renew_witness()?;
                self.plan_next_check();
                Ok(())
            }
            Mode::Watched { failures } => self.watch_last_token(failures),
        }
    }

    fn watch_last_token(&mut self, failures: usize) -> Result<(), GuideError> {
        let place = self.matcher.num_accepted();
        let has_base = self.fits() && self.witness_at + 1 >= place;
        if self.renew_witness()? {
            self.mode = Mode::Watched { failures: 0 };
            self.plan_next_check();
            return Ok(());
        }
        if has_base && place > self.floor && self.witness_at < place {
            return self.take_back();
        }
        let gave_up = failures + 1 >= self.config.max_witness_failures;
        self.mode = if gave_up && self.matcher.compiled().may_dead_end() && !self.reads_document {
            Mode::Groping
        } else if gave_up {
            // The search is out of its depth here; it tries again further on.
            self.num_surrenders += 1;
            Mode::Free { check_at: place + (self.config.max_witness_failures << self.num_surrenders.min(10)) }
        } else {
            Mode::Watched { failures: failures + 1 }
        };
        Ok(())
    }

    /// Makes the witness one from the present place that fits what is left of the budget, if one can be found. The
    /// old one stays known when none is.
    fn renew_witness(&mut self) -> Result<bool, GuideError> {
        let place = self.matcher.num_accepted();
        let num_left = self.num_left();
        if let Some(rest) = self.followed_witness().filter(|rest| rest.len() <= num_left) {
            self.witness = Some(rest);
            self.witness_at = place;
            return Ok(true);
        }
        if let Some(known) = self.lasting_witness()? {
            self.witness = Some(known);
            self.witness_at = place;
            return Ok(true);
        }
        self.stats.num_searches += 1;
        let Some(found) = self.matcher.witness(num_left, self.config.witness_fuel_per_token)? else {
            return Ok(false);
        };
        self.witness = Some(found);
        self.witness_at = place;
        Ok(true)
    }

    /// The witness itself, or all of it but its first token, where that still completes the output within the budget: a
    /// word may go on, and the brackets around it are closed as before.
    fn lasting_witness(&mut self) -> Result<Option<Vec<u32>>, GuideError> {
        let num_left = self.num_left();
        let Some(witness) = &self.witness else { return Ok(None) };
        if self.witness_at + 1 != self.matcher.num_accepted() || witness.is_empty() {
            return Ok(None);
        }
        for rest in [witness.as_slice(), &witness[1..]] {
            if rest.len() <= num_left && self.matcher.is_completed_by(rest)? {
                return Ok(Some(rest.to_vec()));
            }
        }
        Ok(None)
    }

    /// What is left of the witness when the tokens accepted since are its own.
    fn followed_witness(&self) -> Option<Vec<u32>> {
        let witness = self.witness.as_ref()?;
        let since = self.matcher.num_accepted().checked_sub(self.witness_at)?;
        let accepted = self.matcher.last_tokens(since)?;
        witness.starts_with(&accepted).then(|| witness[since..].to_vec())
    }

    /// Watches every token when the budget is close to what the witness needs, else says when to look again: one
    /// token may lengthen the shortest end by as much as the shortest whole output.
    fn plan_next_check(&mut self) {
        if self.mode == Mode::Off || (self.matcher.compiled().may_dead_end() && !self.reads_document) {
            return;
        }
        let place = self.matcher.num_accepted();
        let known = self.witness.as_ref().filter(|_| self.witness_at == place).map(Vec::len);
        let Some(shortest) = known else {
            self.mode = Mode::Watched { failures: 0 };
            return;
        };
        let growth = self.matcher.compiled().min_tokens().unwrap_or(0).max(self.config.min_closing_margin) as usize;
        let slack = self.num_left().saturating_sub(shortest);
        let num_safe = slack.saturating_sub(growth) / (growth + 1);
        self.mode = match num_safe {
            0 => Mode::Watched { failures: 0 },
            steps => Mode::Free { check_at: place + steps },
        };
    }

    /// Takes the last token back and bans it at its place.
    fn take_back(&mut self) -> Result<(), GuideError> {
        let Some(&token) = self.matcher.last_tokens(1).as_deref().and_then(<[u32]>::first) else {
            return Err(GuideError::Rollback { asked: 1, accepted: self.matcher.num_accepted() });
        };
        self.matcher.rollback(1)?;
        let place = self.matcher.num_accepted();
        self.bans.retain(|&(banned_at, _)| banned_at <= place);
        self.bans.push((place, token));
        Ok(())
    }

    /// Meets an empty mask: goes back by one token that was not sent.
    fn step_back(&mut self, error: GuideError) -> Result<(), GuideError> {
        let is_dead_end = matches!(error, GuideError::DeadEnd { .. });
        let is_tried_out = self.num_backtracks >= self.config.max_backtracks;
        if !is_dead_end || is_tried_out || self.matcher.num_accepted() <= self.floor {
            return Err(error);
        }
        self.num_backtracks += 1;
        self.take_back()
    }

    /// The mask of this place, without what was refused here; only the witness's way when that happened too often.
    fn fill(&mut self, row: &mut [u32]) -> Result<(), GuideError> {
        let place = self.matcher.num_accepted();
        self.bans.retain(|&(banned_at, _)| (self.floor..=place).contains(&banned_at));
        self.matcher.fill(row)?;
        let num_bans = self.bans.iter().filter(|&&(banned_at, _)| banned_at == place).count();
        if num_bans == 0 && !self.only_witness {
            return Ok(());
        }
        let is_asked = self.only_witness || num_bans >= self.config.max_refusals;
        let only = self.followed_witness().filter(|_| self.fits() && is_asked);
        if let Some(only) = only {
            row.fill(0);
            match only.first() {
                Some(&token) => mask::allow(row, token),
                None => self.matcher.allow_end_tokens(row),
            }
            return Ok(());
        }
        self.bans.iter().filter(|&&(banned_at, _)| banned_at == place).for_each(|&(_, token)| mask::forbid(row, token));
        if mask::is_empty(row) {
            return Err(GuideError::DeadEnd {
                parts: self.matcher.part_names(),
                byte_offset: self.matcher.num_bytes(),
            });
        }
        Ok(())
    }

    /// Appends what is determined, block by block, and leaves in `row` the mask after it.
    ///
    /// Determined are the bytes that begin every allowed token, and as far as a structural part can look ahead, what
    /// must follow them. They are written in the tokenizer's own split; the last tokens are left to the sampler where
    /// a longer token could begin with them (llguidance, "fast-forward tokens", toktrie's `chop_tokens`).
    fn force(&mut self, row: &mut [u32]) -> Result<Vec<u32>, GuideError> {
        let start = self.matcher.num_accepted();
        let mut forced = Vec::new();
        let mut filled = Ok(());
        while filled.is_ok() && forced.len() < self.config.max_forced_tokens {
            let room = self.num_left().min(self.config.max_forced_tokens - forced.len());
            let num_before = forced.len();
            for token in self.matcher.forced(row, room)? {
                // Another split may still pass where a part refuses this one.
                if self.matcher.accept(token).is_err() {
                    break;
                }
                forced.push(token);
            }
            if forced.len() == num_before {
                break;
            }
            filled = self.fill(row);
        }
        if forced.is_empty() {
            return Ok(forced);
        }
        let is_dead_end = match filled {
            Ok(()) => false,
            Err(GuideError::DeadEnd { .. }) => self.num_left() > 0,
            Err(error) => return Err(error),
        };
        if is_dead_end || (matches!(self.mode, Mode::Watched { .. }) && !self.renew_witness()?) {
            // Either no token follows, or the tokenizer's split is longer than the budget allows: what is determined
            // is sampled under its masks, where a dead end can be met and the witness knows a shorter split.
            self.matcher.rollback(self.matcher.num_accepted() - start)?;
            self.fill(row)?;
            return Ok(Vec::new());
        }
        self.raise_floor();
        Ok(forced)
    }
}

/// Where an output of `place` tokens, of which the first `floor` are settled, may go back to, the farthest last.
fn join_places(floor: usize, place: usize) -> [usize; JOIN_PLACES] {
    [8, 4, 2, 1].map(|share: usize| place - (place - floor).div_ceil(share))
}

impl std::fmt::Debug for Pilot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pilot").field("mode", &self.mode).field("stats", &self.stats).finish_non_exhaustive()
    }
}
