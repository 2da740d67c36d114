//! The texts that a list of token ids can spell, as an automaton over bytes.

use std::collections::HashMap;

use crate::guide::mask;
use crate::guide::vocabulary::SortedTokens;

/// The concatenations of some tokens: a state is a place inside a token, found in the sorted vocabulary.
pub(crate) struct Spelling<'a> {
    tokens: &'a SortedTokens,
    /// The allowed tokens, as places in the sorted vocabulary.
    order: Vec<usize>,
    places: Vec<Place>,
    numbers: HashMap<Place, u32>,
}

/// The stretch of `order` that begins with what was read since the last token, and how much that is.
type Place = (usize, usize, usize);

impl<'a> Spelling<'a> {
    /// State 0 stands between two tokens. Costs one look at every token.
    pub(crate) fn new(tokens: &'a SortedTokens, allowed: &[u32]) -> Self {
        let order: Vec<usize> = (0..tokens.len()).filter(|&idx| mask::is_allowed(allowed, tokens.id(idx))).collect();
        let between = (0, order.len(), 0);
        Self { tokens, order, places: vec![between], numbers: HashMap::from([(between, 0)]) }
    }

    /// The state inside a token after one more byte.
    pub(crate) fn step(&mut self, state: u32, byte: u8) -> Option<u32> {
        let (from, to, depth) = self.places[state as usize];
        let at = |idx: &usize| self.tokens.bytes_of(*idx).get(depth).copied();
        // What ends at this depth sorts first.
        let begin = from + self.order[from..to].partition_point(|idx| at(idx) < Some(byte));
        let end = begin + self.order[begin..to].partition_point(|idx| at(idx) == Some(byte));
        if begin == end {
            return None;
        }
        let place = (begin, end, depth + 1);
        Some(*self.numbers.entry(place).or_insert_with(|| {
            self.places.push(place);
            self.places.len() as u32 - 1
        }))
    }

    /// Whether a token may end here.
    pub(crate) fn ends_token(&self, state: u32) -> bool {
        let (from, _, depth) = self.places[state as usize];
        depth > 0 && self.tokens.bytes_of(self.order[from]).len() == depth
    }
}
