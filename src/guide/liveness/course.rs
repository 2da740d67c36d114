//! Where one sequence stands in all its structural parts, and the shortest text that ends it from there.

use super::left_corner::LeftCorner;
use super::product::{Factor, complete};
use super::spelling::Spelling;
use crate::guide::GuideError;
use crate::guide::compiled::CompiledConstraint;
use crate::text::Vocabulary;

/// The structural parts of one sequence, followed token by token beside its matcher.
pub(crate) struct Course {
    parsers: Vec<LeftCorner>,
    tokens: Vec<u32>,
    /// `[num_tokens + 1, num_parsers]`.
    states: Vec<u32>,
}

impl Course {
    pub(crate) fn new(mut parsers: Vec<LeftCorner>) -> Self {
        let states = parsers.iter_mut().map(LeftCorner::start).collect();
        Self { parsers, tokens: Vec::new(), states }
    }

    /// The same in a document: parts that read it stand behind `prefix`; `None` where one knows no such text.
    pub(crate) fn behind(
        mut parsers: Vec<LeftCorner>,
        reads_document: &[bool],
        prefix: &[u8],
        fuel: u64,
    ) -> Option<Self> {
        let mut states = Vec::new();
        for (parser, &reads_document) in parsers.iter_mut().zip(reads_document) {
            parser.set_fuel(fuel);
            let read: &[u8] = if reads_document { prefix } else { &[] };
            let start = parser.start();
            states.push(read.iter().try_fold(start, |state, &byte| parser.step(state, byte))?);
        }
        Some(Self { parsers, tokens: Vec::new(), states })
    }

    /// The parts, and where each of them stands.
    pub(crate) fn here(&mut self) -> (&mut [LeftCorner], &[u32]) {
        let from = self.states.len() - self.parsers.len();
        (&mut self.parsers, &self.states[from..])
    }

    /// What it has learned, for the next sequence.
    pub(crate) fn into_parsers(self) -> Vec<LeftCorner> {
        self.parsers
    }

    /// Whether what it says can be relied on, and it has not grown past its bound.
    pub(crate) fn is_sound(&self, max_states: usize) -> bool {
        !self.has_failed() && self.parsers.iter().map(LeftCorner::num_states).sum::<usize>() <= max_states
    }

    /// Whether a part has met a bound, after which nothing it says holds.
    pub(crate) fn has_failed(&self) -> bool {
        self.parsers.iter().any(LeftCorner::has_failed)
    }

    /// Goes to where the sequence stands after `tokens`, from the last token that it has in common with them; `false`
    /// where a part knows no such text. Costs about 1 us a byte.
    pub(crate) fn follow(&mut self, tokens: &[u32], vocabulary: &Vocabulary, fuel: u64) -> bool {
        let num_parsers = self.parsers.len();
        let shared = self.tokens.iter().zip(tokens).take_while(|(old, new)| old == new).count();
        self.tokens.truncate(shared);
        self.states.truncate(num_parsers * (shared + 1));
        self.parsers.iter_mut().for_each(|parser| parser.set_fuel(fuel));
        for &token in &tokens[shared..] {
            let from = self.states.len() - num_parsers;
            for idx in 0..num_parsers {
                let parser = &mut self.parsers[idx];
                let bytes = vocabulary.bytes(token);
                let to = bytes.iter().try_fold(self.states[from + idx], |state, &byte| parser.step(state, byte));
                let Some(to) = to else {
                    self.states.truncate(from + num_parsers);
                    return false;
                };
                self.states.push(to);
            }
            self.tokens.push(token);
        }
        true
    }

    /// The first text from here, shortest first, that completes the output as all parts want it and of which `is_real`
    /// makes something. `automata` are the states of the constraint's automata.
    ///
    /// # Errors
    /// Those of `is_real`.
    pub(crate) fn complete<T>(
        &mut self,
        compiled: &CompiledConstraint,
        automata: &[u32],
        is_real: impl FnMut(Vec<u8>) -> Result<Option<T>, GuideError>,
    ) -> Result<Option<T>, GuideError> {
        let mut from = self.states[self.states.len() - self.parsers.len()..].to_vec();
        let mut factors: Vec<Factor<'_>> = self.parsers.iter_mut().map(Factor::LeftCorner).collect();
        factors.extend(compiled.automata.iter().map(Factor::Automaton));
        from.extend_from_slice(automata);
        if !compiled.alphabet().spells(&compiled.text, &compiled.vocabulary) {
            factors.push(Factor::Spelling(Spelling::new(&compiled.tokens, &compiled.allowed)));
            from.push(0);
        }
        let bounds = (compiled.config.max_closing_states, compiled.config.max_closing_texts);
        complete(&mut factors, from, bounds, is_real)
    }
}
