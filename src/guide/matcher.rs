//! How far one sequence has got through a compiled constraint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::chars::num_chars;
use super::compiled::CompiledConstraint;
use super::document::Around;
use super::liveness::{Course, Search, walk};
use super::structural::{AbortHandle, Structural};
use super::{GuideError, mask};

/// The position of one sequence: owned by it, moved to a mask worker and back.
///
/// `fill` says what may follow, `accept` moves on, `rollback` takes back. A token is checked against every part before
/// any part consumes it, so a refused token changes nothing.
pub struct Matcher {
    compiled: Arc<CompiledConstraint>,
    structural: Vec<Structural>,
    /// States of the automata, then of the soft biases: `[num_accepted + 1, row_len]`, the last row is now.
    states: Vec<u32>,
    row_len: usize,
    steps: Vec<Step>,
    num_bytes: usize,
    /// Code points begun so far.
    num_chars: usize,
    planted: Option<u32>,
    aborted: Arc<AtomicBool>,
    course: CourseState,
    /// What stands around the output, where it fills a hole.
    around: Option<Box<Around>>,
    /// In a document: what is known of the end in this place, which may be dear to find out.
    unfinished_here: Option<Option<String>>,
}

/// What is known of the way to the end.
enum CourseState {
    /// Nobody has asked.
    Unasked,
    Known(Box<Course>),
    /// A bound was met.
    Lost,
}

/// One accepted token.
#[derive(Clone, Copy)]
enum Step {
    /// A text token, which every part has consumed.
    Text(u32),
    /// An end token.
    End,
    /// A planted fault, which no part has seen.
    Fault(u32),
}

impl Matcher {
    pub(crate) fn new(
        compiled: Arc<CompiledConstraint>,
        structural: Vec<Structural>,
        start: Vec<u32>,
        around: Option<Around>,
    ) -> Self {
        let row_len = start.len();
        Self {
            compiled,
            structural,
            states: start,
            row_len,
            steps: Vec::new(),
            num_bytes: 0,
            num_chars: 0,
            planted: None,
            aborted: Arc::default(),
            course: CourseState::Unasked,
            around: around.map(Box::new),
            unfinished_here: None,
        }
    }

    /// Overwrites `row` with what may follow: a set bit is an allowed id.
    ///
    /// End tokens are allowed only where every part accepts; control ids and rows past the tokenizer's end never are.
    /// Costs about 1 us per automaton in a state that was met before, and 10-50 us per JSON Schema at 32k ids.
    ///
    /// # Errors
    /// [`GuideError::DeadEnd`] when nothing may follow, [`GuideError::Ended`] after an end token,
    /// [`GuideError::LimitExceeded`] when a part runs out of fuel, [`GuideError::RowLength`] for a wrong row.
    pub fn fill(&mut self, row: &mut [u32]) -> Result<(), GuideError> {
        let text = &self.compiled.text;
        if row.len() != text.len() {
            return Err(GuideError::RowLength { expected: text.len(), actual: row.len() });
        }
        if self.has_ended() {
            return Err(GuideError::Ended);
        }
        self.check_aborted()?;
        self.fill_text(row)?;
        if self.is_complete()? {
            self.compiled.vocabulary.end_tokens().iter().for_each(|&token| mask::allow(row, token));
        }
        if mask::is_empty(row) {
            return Err(self.dead_end(row)?);
        }
        self.planted = mask::plant_fault(row, &self.compiled.text);
        Ok(())
    }

    /// What soft biases add to the logits of the next token: ascending by id, relative to a constant that softmax
    /// cancels; empty where nothing is biased.
    ///
    /// Costs about 1 us in states that were met before. An end token gives up the matches that are under way.
    pub fn bias(&mut self) -> Arc<[(u32, f32)]> {
        let num_automata = self.compiled.automata.len();
        match &self.compiled.soft {
            Some(soft) => soft.list(&self.current()[num_automata..], &self.compiled.tokens),
            None => Arc::default(),
        }
    }

    /// Overwrites `row` with the text tokens that may follow, perhaps none.
    pub(crate) fn fill_text(&mut self, row: &mut [u32]) -> Result<(), GuideError> {
        row.copy_from_slice(&self.compiled.allowed);
        for (automaton, &state) in self.compiled.automata.iter().zip(self.current()) {
            automaton.intersect_mask(state, &self.compiled.tokens, row)?;
        }
        if let Some(limit) = &self.compiled.chars {
            limit.intersect_mask(self.num_chars, row);
        }
        for structural in &mut self.structural {
            structural.intersect_mask(row)?;
        }
        Ok(())
    }

    /// What the structural parts' last masks cost; see [`Structural::last_mask_work`].
    pub(crate) fn last_mask_work(&self) -> usize {
        self.structural.iter().map(Structural::last_mask_work).sum()
    }

    /// States of the structural parts' lexers that keep a mask.
    #[cfg(test)]
    pub(crate) fn num_kept_masks(&self) -> usize {
        self.structural.iter().map(Structural::num_kept_masks).sum()
    }

    /// Bytes that some structural part says must follow, as long as the output cannot end here.
    pub(crate) fn forced_bytes(&self) -> Vec<u8> {
        // What a document determines may stand in its suffix.
        if self.around.is_some() {
            return Vec::new();
        }
        self.structural.iter().map(Structural::forced_bytes).max_by_key(Vec::len).unwrap_or_default()
    }

    /// Bytes that the automata need at least after `token` before the output may end.
    pub(crate) fn min_bytes_to_end(&self, token: u32) -> u32 {
        let bytes = self.compiled.vocabulary.bytes(token);
        let automata = self.compiled.automata.iter().zip(self.current());
        let needs = automata.filter_map(|(automaton, &state)| {
            automaton.min_bytes_to_end(automaton.run(state, bytes).ok()?) // unknown counts as none
        });
        needs.max().unwrap_or(0)
    }

    /// A complete continuation of at most `max_tokens` tokens (end tokens not counted) from here, found with at most
    /// `fuel` masks; `None` where none was found. Deterministic; the matcher is left as it was.
    ///
    /// # Errors
    /// [`GuideError::LimitExceeded`] or [`GuideError::Internal`] from a structural part.
    pub fn witness(&mut self, max_tokens: usize, fuel: usize) -> Result<Option<Vec<u32>>, GuideError> {
        if let Some(tokens) = self.completion()?.filter(|tokens| tokens.len() <= max_tokens) {
            return Ok(Some(tokens));
        }
        let cost = self.around.as_ref().map_or(1, |around| around.cost_of_an_end());
        Ok(Search::new(self, max_tokens, fuel / cost).run()?.tokens())
    }

    /// The shortest complete continuation from here, in bytes, in the fewest tokens that spell it; `None` where the
    /// structural parts cannot be followed, or none was found within `max_closing_states`. The matcher is left as it
    /// was.
    ///
    /// Costs about 1 us for each byte since the last call, and some 10 us for each byte of the continuation where the
    /// parts agree on it.
    ///
    /// # Errors
    /// As [`Self::witness`].
    pub(crate) fn completion(&mut self) -> Result<Option<Vec<u32>>, GuideError> {
        if self.has_ended() {
            return Ok(Some(Vec::new()));
        }
        if self.reads_document() {
            return Ok(None);
        }
        let mut course = match std::mem::replace(&mut self.course, CourseState::Lost) {
            CourseState::Known(course) => course,
            CourseState::Lost => return Ok(None),
            CourseState::Unasked => match self.compiled.course() {
                Some(course) => Box::new(course),
                None => return Ok(None),
            },
        };
        let compiled = Arc::clone(&self.compiled);
        let tokens: Vec<u32> = self
            .steps
            .iter()
            .filter_map(|step| if let Step::Text(token) = step { Some(*token) } else { None })
            .collect();
        let mut found = None;
        if course.follow(&tokens, &compiled.vocabulary, compiled.config.initial_lexer_fuel) {
            let automata = self.current()[..compiled.automata.len()].to_vec();
            found = course.complete(&compiled, &automata, |bytes| walk(self, bytes))?;
        }
        if course.is_sound(compiled.config.max_course_states) {
            self.course = CourseState::Known(course);
        }
        Ok(found.map(|witness| witness.tokens))
    }

    /// # Errors
    /// [`GuideError::Aborted`] once somebody has stopped this sequence.
    pub(crate) fn check_aborted(&self) -> Result<(), GuideError> {
        if self.aborted.load(Ordering::Acquire) {
            return Err(GuideError::Aborted { part: self.part_names().join(" and ") });
        }
        Ok(())
    }

    /// Whether `tokens` complete the output from here; the matcher is left as it was.
    ///
    /// # Errors
    /// As [`Self::witness`].
    pub(crate) fn is_completed_by(&mut self, tokens: &[u32]) -> Result<bool, GuideError> {
        let before = self.steps.len();
        let mut holds = true;
        for &token in tokens {
            match self.accept(token) {
                Ok(()) => {}
                Err(GuideError::NotAllowed { .. }) => {
                    holds = false;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let holds = holds && self.is_complete()?;
        self.rollback(self.steps.len() - before)?;
        Ok(holds)
    }

    /// Moves on by `token`.
    ///
    /// # Errors
    /// [`GuideError::NotAllowed`] names the first part that refuses it; nothing has changed then.
    pub fn accept(&mut self, token: u32) -> Result<(), GuideError> {
        if self.has_ended() {
            return Err(GuideError::Ended);
        }
        if self.planted.take() == Some(token) {
            self.push_standing(Step::Fault(token));
            return Ok(());
        }
        if self.compiled.vocabulary.end_tokens().contains(&token) {
            return self.accept_end(token);
        }
        if let Some(part) = self.refusing(token)? {
            return Err(GuideError::NotAllowed { part, token });
        }
        let compiled = Arc::clone(&self.compiled);
        let bytes = compiled.vocabulary.bytes(token);
        let ends = compiled.automata.iter().zip(self.current()).map(|(automaton, &state)| automaton.run(state, bytes));
        let mut ends = ends.collect::<Result<Vec<u32>, _>>()?;
        if let Some(soft) = &compiled.soft {
            ends.extend(soft.run(&self.current()[compiled.automata.len()..], bytes));
        }
        for structural in &mut self.structural {
            structural.consume(token)?;
        }
        self.states.extend(ends);
        self.push(Step::Text(token));
        Ok(())
    }

    /// Whether the output may end here, under every part.
    ///
    /// # Errors
    /// [`GuideError::LimitExceeded`] or [`GuideError::Internal`] from a structural part.
    pub fn is_complete(&mut self) -> Result<bool, GuideError> {
        Ok(self.has_ended() || self.unfinished()?.is_none())
    }

    /// The tokens of text that must follow, in the tokenizer's own split; empty where there is a choice.
    ///
    /// `row` is the mask of this place. The bytes that begin every allowed token are determined; each part by itself
    /// looks further ahead. The last tokens are left out where a longer token could begin with them, so that what follows is
    /// still the sampler's to choose. At most `room` tokens. Nothing is accepted; a token that some part refuses after
    /// the first ones may be among them.
    ///
    /// # Errors
    /// As [`Self::is_complete`].
    pub fn forced(&mut self, row: &[u32], room: usize) -> Result<Vec<u32>, GuideError> {
        // The planted fault of a test build is no forced token.
        if cfg!(feature = "planted-fault") || room == 0 || self.around.is_some() || self.is_complete()? {
            return Ok(Vec::new());
        }
        let mut allowed = mask::allowed_tokens(row);
        let Some(first) = allowed.next() else { return Ok(Vec::new()) };
        let vocabulary = Arc::clone(&self.compiled.vocabulary);
        let mut common = vocabulary.bytes(first);
        let mut is_only = true;
        for token in allowed {
            is_only = false;
            let shared = common.iter().zip(vocabulary.bytes(token)).take_while(|(a, b)| a == b).count();
            common = &common[..shared];
            if common.is_empty() {
                return Ok(Vec::new());
            }
        }
        let max_len = self.compiled.config.max_forced_bytes;
        let mut ahead: Vec<_> = self.structural.iter().map(Structural::forced_bytes).collect();
        for (automaton, &state) in self.compiled.automata.iter().zip(self.current()) {
            ahead.push(automaton.forced_bytes(state, max_len)?);
        }
        let ahead = ahead.into_iter().filter(|bytes| bytes.starts_with(common)).max_by_key(Vec::len);
        let mut bytes = ahead.unwrap_or_else(|| common.to_vec());
        bytes.truncate(max_len);
        let mut block = self.canonical(&bytes);
        if block.is_empty() && is_only {
            block.push(first);
        }
        block.truncate(room);
        Ok(block)
    }

    /// Splits text that must follow as the tokenizer splits it after the last token, without the tokens at its end that
    /// a longer token could begin with.
    fn canonical(&self, bytes: &[u8]) -> Vec<u32> {
        let vocabulary = &self.compiled.vocabulary;
        let env = vocabulary.tok_env();
        let last = match self.steps.last() {
            Some(Step::Text(token)) => vocabulary.bytes(*token),
            _ => &[],
        };
        let whole = env.tokenize_bytes(&[last, bytes].concat());
        let mut len = 0;
        let border = whole.iter().position(|&token| {
            let before = len;
            len += vocabulary.bytes(token).len();
            before == last.len()
        });
        let mut block = match border {
            Some(border) => whole[border..].to_vec(),
            None => env.tokenize_bytes(bytes),
        };
        let open = (1..=block.len().min(MAX_HEALED_TOKENS))
            .rev()
            .find(|&count| env.tok_trie().has_extensions(&vocabulary.decode(&block[block.len() - count..])));
        block.truncate(block.len() - open.unwrap_or(0));
        block
    }

    /// Takes back the last `num_tokens` accepted tokens, end tokens included.
    ///
    /// # Errors
    /// [`GuideError::Rollback`] when fewer were accepted.
    pub fn rollback(&mut self, num_tokens: usize) -> Result<(), GuideError> {
        let Some(kept) = self.steps.len().checked_sub(num_tokens) else {
            return Err(GuideError::Rollback { asked: num_tokens, accepted: self.steps.len() });
        };
        let taken = self.steps.split_off(kept);
        self.unfinished_here = None;
        let num_consumed = taken.iter().filter(|step| matches!(step, Step::Text(_))).count();
        self.num_bytes -= taken.iter().map(|step| self.text_of(*step).len()).sum::<usize>();
        self.num_chars -= taken.iter().map(|step| num_chars(self.text_of(*step))).sum::<usize>();
        self.states.truncate(self.row_len * (kept + 1));
        self.planted = None;
        for idx in 0..self.structural.len() {
            if self.structural[idx].rollback(num_consumed).is_err() {
                self.structural[idx] = self.replayed(idx)?;
            }
        }
        Ok(())
    }

    /// Whether the output fills a hole.
    pub(crate) fn is_in_document(&self) -> bool {
        self.around.is_some()
    }

    /// What stands around the output, where it fills a hole.
    pub(crate) fn around(&self) -> Option<&Around> {
        self.around.as_deref()
    }

    /// Whether some structural part reads the document around the output, not the output alone.
    pub(crate) fn reads_document(&self) -> bool {
        self.structural.iter().any(Structural::reads_document)
    }

    /// Tokens accepted so far, end tokens included.
    #[must_use]
    pub fn num_accepted(&self) -> usize {
        self.steps.len()
    }

    /// Bytes of text accepted so far.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    /// Whether an end token was accepted.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.steps.last(), Some(Step::End))
    }

    /// The last `count` tokens, when so many tokens of text were accepted.
    pub(crate) fn last_tokens(&self, count: usize) -> Option<Vec<u32>> {
        let from = self.steps.len().checked_sub(count)?;
        let tokens = self.steps[from..].iter().map(|step| match step {
            Step::Text(token) | Step::Fault(token) => Some(*token),
            Step::End => None,
        });
        tokens.collect()
    }

    /// The parts, for errors that concern all of them.
    pub(crate) fn part_names(&self) -> Vec<String> {
        let lists = self.compiled.lists.iter().map(|list| list.part.clone());
        let automata = self.compiled.automata.iter().flat_map(|automaton| automaton.parts.iter().cloned());
        let structural = self.structural.iter().map(|structural| structural.part().to_owned());
        lists.chain(automata).chain(structural).collect()
    }

    /// Whether `row` allows an end token.
    pub(crate) fn allows_end(&self, row: &[u32]) -> bool {
        self.compiled.vocabulary.end_tokens().iter().any(|&token| mask::is_allowed(row, token))
    }

    /// Allows the end tokens in `row`.
    pub(crate) fn allow_end_tokens(&self, row: &mut [u32]) {
        self.compiled.vocabulary.end_tokens().iter().for_each(|&token| mask::allow(row, token));
    }

    /// Stops a mask that takes too long; see [`AbortHandle`].
    #[must_use]
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle::new(&self.aborted, &self.structural)
    }

    /// The constraint that this matcher follows.
    #[must_use]
    pub fn compiled(&self) -> &Arc<CompiledConstraint> {
        &self.compiled
    }

    /// Of each structural part, whether it reads the document around the output.
    pub(crate) fn which_read_document(&self) -> Vec<bool> {
        self.structural.iter().map(Structural::reads_document).collect()
    }

    /// The states of the constraint's automata, in their order.
    pub(crate) fn automaton_states(&self) -> &[u32] {
        &self.current()[..self.compiled.automata.len()]
    }

    fn current(&self) -> &[u32] {
        &self.states[self.states.len() - self.row_len..]
    }

    fn push(&mut self, step: Step) {
        self.unfinished_here = None;
        self.num_bytes += self.text_of(step).len();
        self.num_chars += num_chars(self.text_of(step));
        self.steps.push(step);
    }

    /// The text of a step.
    fn text_of(&self, step: Step) -> &[u8] {
        match step {
            Step::Text(token) | Step::Fault(token) => self.compiled.vocabulary.bytes(token),
            Step::End => &[],
        }
    }

    /// A structural part as it is after all steps: an error of llguidance is final, so a lost matcher is made anew.
    fn replayed(&self, idx: usize) -> Result<Structural, GuideError> {
        let mut structural = self.compiled.structural_at_start(idx);
        if let Some(around) = &self.around {
            around.enter(&mut structural, &self.compiled.vocabulary)?;
        }
        for step in &self.steps {
            if let Step::Text(token) = step {
                structural.consume(*token)?;
            }
        }
        Ok(structural)
    }

    /// Keeps the automata where they are for a step that they do not see.
    fn push_standing(&mut self, step: Step) {
        self.states.extend_from_within(self.states.len() - self.row_len..);
        self.push(step);
    }

    fn accept_end(&mut self, token: u32) -> Result<(), GuideError> {
        if let Some(part) = self.unfinished()? {
            return Err(GuideError::NotAllowed { part, token });
        }
        self.push_standing(Step::End);
        Ok(())
    }

    /// The first part that refuses a text token here.
    fn refusing(&mut self, token: u32) -> Result<Option<String>, GuideError> {
        let compiled = &self.compiled;
        if !mask::is_allowed(&compiled.text, token) {
            return Ok(Some("vocabulary".to_owned()));
        }
        if !mask::is_allowed(&compiled.allowed, token) {
            return Ok(compiled
                .lists
                .iter()
                .find(|list| !mask::is_allowed(&list.row, token))
                .map(|list| list.part.clone()));
        }
        let bytes = compiled.vocabulary.bytes(token);
        for (automaton, &state) in compiled.automata.iter().zip(self.current()) {
            if automaton.run(state, bytes)? == super::automaton::DEAD {
                return Ok(Some(automaton.parts.join(" and ")));
            }
        }
        if let Some(limit) = compiled.chars.as_ref().filter(|limit| !limit.allows(self.num_chars, bytes)) {
            return Ok(Some(limit.part.clone()));
        }
        for structural in &mut self.structural {
            if !structural.allows(token)? {
                return Ok(Some(structural.part().to_owned()));
            }
        }
        Ok(None)
    }

    /// The first part that does not accept the output as it is.
    fn unfinished(&mut self) -> Result<Option<String>, GuideError> {
        if let Some(known) = &self.unfinished_here {
            return Ok(known.clone());
        }
        let found = self.find_unfinished()?;
        self.unfinished_here = self.around.is_some().then(|| found.clone());
        Ok(found)
    }

    fn find_unfinished(&mut self) -> Result<Option<String>, GuideError> {
        for idx in 0..self.compiled.automata.len() {
            if !self.automaton_may_end(idx)? {
                return Ok(Some(self.compiled.automata[idx].parts.join(" and ")));
            }
        }
        for idx in 0..self.structural.len() {
            if !self.structural_may_end(idx)? {
                return Ok(Some(self.structural[idx].part().to_owned()));
            }
        }
        Ok(None)
    }

    /// Whether one automaton lets the output end here.
    fn automaton_may_end(&mut self, idx: usize) -> Result<bool, GuideError> {
        self.automaton_may_end_in(idx, self.current()[idx])
    }

    /// Whether one automaton lets the output end in `state`, before the suffix where there is one.
    pub(crate) fn automaton_may_end_in(&mut self, idx: usize, state: u32) -> Result<bool, GuideError> {
        let automaton = &self.compiled.automata[idx];
        match &mut self.around {
            Some(around) => around.automaton_may_end(idx, automaton, state),
            None => Ok(automaton.is_accepting(state)),
        }
    }

    /// The same of one structural part.
    fn structural_may_end(&mut self, idx: usize) -> Result<bool, GuideError> {
        let structural = &mut self.structural[idx];
        match &self.around {
            Some(around) => around.structural_may_end(structural),
            None => structural.is_accepting(),
        }
    }

    /// Names the parts that contradict each other: leaving out any of them would let a token follow, or the output end.
    fn dead_end(&mut self, scratch: &mut [u32]) -> Result<GuideError, GuideError> {
        let mut narrowing = self.narrowing()?;
        let mut idx = 0;
        while idx < narrowing.len() {
            scratch.fill(u32::MAX);
            let others = narrowing.iter().enumerate().filter(|(other, _)| *other != idx);
            others.for_each(|(_, (_, row))| mask::intersect(scratch, row));
            mask::intersect(scratch, &self.with_end_tokens(self.compiled.text.to_vec()));
            if mask::is_empty(scratch) {
                narrowing.remove(idx);
            } else {
                idx += 1;
            }
        }
        scratch.fill(0);
        let mut parts: Vec<String> = Vec::new();
        for part in narrowing.into_iter().flat_map(|(parts, _)| parts) {
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        Ok(GuideError::DeadEnd { parts, byte_offset: self.num_bytes })
    }

    /// What each part alone would let follow, end tokens included where it accepts.
    fn narrowing(&mut self) -> Result<Vec<Narrowing>, GuideError> {
        let mut narrowing = Vec::new();
        for list in &self.compiled.lists {
            narrowing.push((vec![list.part.clone()], self.with_end_tokens(list.row.clone())));
        }
        for idx in 0..self.compiled.automata.len() {
            let mut row = self.compiled.text.to_vec();
            let state = self.current()[idx];
            self.compiled.automata[idx].intersect_mask(state, &self.compiled.tokens, &mut row)?;
            let row = if self.automaton_may_end(idx)? { self.with_end_tokens(row) } else { row };
            narrowing.push((self.compiled.automata[idx].parts.clone(), row));
        }
        if let Some(limit) = &self.compiled.chars {
            let mut row = self.compiled.text.to_vec();
            limit.intersect_mask(self.num_chars, &mut row);
            narrowing.push((vec![limit.part.clone()], self.with_end_tokens(row)));
        }
        for idx in 0..self.structural.len() {
            let mut row = self.compiled.text.to_vec();
            self.structural[idx].intersect_mask(&mut row)?;
            let row = if self.structural_may_end(idx)? { self.with_end_tokens(row) } else { row };
            narrowing.push((vec![self.structural[idx].part().to_owned()], row));
        }
        Ok(narrowing)
    }

    fn with_end_tokens(&self, mut row: Vec<u32>) -> Vec<u32> {
        self.compiled.vocabulary.end_tokens().iter().for_each(|&token| mask::allow(&mut row, token));
        row
    }
}

/// Tokens at the end of forced text that are looked at together for a longer token that begins with them.
const MAX_HEALED_TOKENS: usize = 4;

impl Drop for Matcher {
    /// The lexers that this sequence has warmed serve the next one.
    fn drop(&mut self) {
        self.compiled.keep_warm(std::mem::take(&mut self.structural));
        if let CourseState::Known(course) = std::mem::replace(&mut self.course, CourseState::Lost) {
            self.compiled.keep_course(*course);
        }
    }
}

/// Parts, and the row of what they alone would let follow.
type Narrowing = (Vec<String>, Vec<u32>);

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher")
            .field("num_accepted", &self.num_accepted())
            .field("num_bytes", &self.num_bytes)
            .finish_non_exhaustive()
    }
}
