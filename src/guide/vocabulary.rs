//! The vocabulary in the order in which a byte automaton walks it.

use super::automaton::{ByteDfa, DEAD};
use super::mask;
use crate::text::Vocabulary;

/// All text tokens sorted by their bytes, each with the length it shares with its predecessor.
///
/// That is a trie without nodes: walking it takes one step of the automaton per byte that is new, and what begins with
/// a refused prefix is skipped.
pub(crate) struct SortedTokens {
    ids: Vec<u32>,
    /// Bytes shared with the token before.
    shared: Vec<u32>,
    /// Where each token's bytes begin, and one more for the end.
    starts: Vec<u32>,
    bytes: Vec<u8>,
    max_len: usize,
}

impl SortedTokens {
    /// Sorts the ids that may be sampled as text: about 50 ms at 129k ids, once per model.
    pub(crate) fn new(vocabulary: &Vocabulary) -> Self {
        let mut ids: Vec<u32> =
            (0..vocabulary.num_tokens() as u32).filter(|&token| vocabulary.is_text(token)).collect();
        ids.retain(|token| !vocabulary.end_tokens().contains(token));
        ids.sort_by_key(|&token| vocabulary.bytes(token));
        let mut sorted = Self { ids, shared: Vec::new(), starts: vec![0], bytes: Vec::new(), max_len: 0 };
        let mut before: &[u8] = &[];
        for &token in &sorted.ids {
            let bytes = vocabulary.bytes(token);
            sorted.shared.push(before.iter().zip(bytes).take_while(|(a, b)| a == b).count() as u32);
            sorted.bytes.extend_from_slice(bytes);
            sorted.starts.push(sorted.bytes.len() as u32);
            sorted.max_len = sorted.max_len.max(bytes.len());
            before = bytes;
        }
        sorted
    }

    /// The tokens that `text` begins with, with their lengths in bytes, longest first.
    pub(crate) fn prefixes_of(&self, text: &[u8]) -> Vec<(u32, usize)> {
        let mut found = Vec::new();
        let (mut from, mut to) = (0, self.ids.len());
        for (depth, &byte) in text.iter().enumerate().take(self.max_len) {
            let at = |idx: usize| self.bytes_of(idx).get(depth).copied();
            // What ends at this depth sorts first; it was found one byte earlier.
            let begin = from + partition_point(to - from, |idx| at(from + idx) < Some(byte));
            let end = begin + partition_point(to - begin, |idx| at(begin + idx) == Some(byte));
            (from, to) = (begin, end);
            let ends = (from..to).take_while(|&idx| self.bytes_of(idx).len() == depth + 1);
            found.extend(ends.map(|idx| (self.ids[idx], depth + 1)));
            if from == to {
                break;
            }
        }
        found.reverse();
        found
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The id of the token at a place in the order.
    pub(crate) fn id(&self, idx: usize) -> u32 {
        self.ids[idx]
    }

    /// The bytes of the token at a place in the order.
    pub(crate) fn bytes_of(&self, idx: usize) -> &[u8] {
        &self.bytes[self.starts[idx] as usize..self.starts[idx + 1] as usize]
    }

    /// Bytes of the longest token.
    pub(crate) fn max_len(&self) -> usize {
        self.max_len
    }

    /// Allows in `row` every token whose bytes `dfa` can take from `state`.
    pub(crate) fn walk(&self, dfa: &ByteDfa, state: u32, row: &mut [u32]) {
        // states[depth] is the state after `depth` bytes of the current token.
        let mut states = vec![state; self.max_len + 1];
        let mut at = 0;
        while at < self.ids.len() {
            let bytes = &self.bytes[self.starts[at] as usize..self.starts[at + 1] as usize];
            let mut depth = self.shared[at] as usize;
            while depth < bytes.len() {
                states[depth + 1] = dfa.step(states[depth], bytes[depth]);
                depth += 1;
                if states[depth] == DEAD {
                    break;
                }
            }
            if states[depth] != DEAD {
                mask::allow(row, self.ids[at]);
                at += 1;
                continue;
            }
            // Everything that shares these `depth` bytes is refused as well.
            at += 1;
            while at < self.ids.len() && self.shared[at] as usize >= depth {
                at += 1;
            }
        }
    }
}

/// How many of `0..len` satisfy `holds`, which holds for a first stretch only.
fn partition_point(len: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
