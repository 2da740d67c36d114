//! How far one sequence has got through a compiled constraint.

use std::sync::Arc;

use super::chars::num_chars;
use super::compiled::CompiledConstraint;
use super::structural::Structural;
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
    pub(crate) fn new(compiled: Arc<CompiledConstraint>, structural: Vec<Structural>, start: Vec<u32>) -> Self {
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

    /// Tokens that must follow one after another, because each is the only one allowed; empty where there is a choice.
    ///
    /// Appending them changes no output: a sampler could not have chosen otherwise. Costs one mask per token.
    pub fn forced(&mut self) -> Vec<u32> {
        let mut forced = Vec::new();
        if cfg!(feature = "planted-fault") {
            return forced;
        }
        let mut row = vec![0; self.compiled.text.len()];
        while self.fill(&mut row).is_ok() {
            let mut allowed = mask::allowed_tokens(&row);
            let (Some(only), None) = (allowed.next(), allowed.next()) else { break };
            if self.accept(only).is_err() {
                break;
            }
            forced.push(only);
        }
        if self.rollback(forced.len()).is_err() {
            // The matcher is lost; the next call reports it.
            forced.clear();
        }
        forced
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

    /// The constraint that this matcher follows.
    #[must_use]
    pub fn compiled(&self) -> &Arc<CompiledConstraint> {
        &self.compiled
    }

    /// The states of the constraint's automata, in their order.
    #[cfg(test)]
    pub(crate) fn automaton_states(&self) -> &[u32] {
        &self.current()[..self.compiled.automata.len()]
    }

    fn current(&self) -> &[u32] {
        &self.states[self.states.len() - self.row_len..]
    }

    fn push(&mut self, step: Step) {
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
        for (automaton, &state) in self.compiled.automata.iter().zip(self.current()) {
            if !automaton.is_accepting(state) {
                return Ok(Some(automaton.parts.join(" and ")));
            }
        }
        for structural in &mut self.structural {
            if !structural.is_accepting()? {
                return Ok(Some(structural.part().to_owned()));
            }
        }
        Ok(None)
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
        for (automaton, &state) in self.compiled.automata.iter().zip(self.current()) {
            let mut row = self.compiled.text.to_vec();
            automaton.intersect_mask(state, &self.compiled.tokens, &mut row)?;
            let row = if automaton.is_accepting(state) { self.with_end_tokens(row) } else { row };
            narrowing.push((automaton.parts.clone(), row));
        }
        if let Some(limit) = &self.compiled.chars {
            let mut row = self.compiled.text.to_vec();
            limit.intersect_mask(self.num_chars, &mut row);
            narrowing.push((vec![limit.part.clone()], self.with_end_tokens(row)));
        }
        for idx in 0..self.structural.len() {
            let mut row = self.compiled.text.to_vec();
            self.structural[idx].intersect_mask(&mut row)?;
            let row = if self.structural[idx].is_accepting()? { self.with_end_tokens(row) } else { row };
            narrowing.push((vec![self.structural[idx].part().to_owned()], row));
        }
        Ok(narrowing)
    }

    fn with_end_tokens(&self, mut row: Vec<u32>) -> Vec<u32> {
        self.compiled.vocabulary.end_tokens().iter().for_each(|&token| mask::allow(&mut row, token));
        row
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
