//! The texts that a list of token ids can spell, as an automaton over bytes.

use crate::guide::vocabulary::SortedTokens;

/// The concatenations of some tokens: a state is a place inside a token, a node of the vocabulary's trie.
#[derive(Clone, Copy)]
pub(crate) struct Spelling<'a> {
    tokens: &'a SortedTokens,
    /// Row of the allowed ids.
    allowed: &'a [u32],
}

impl<'a> Spelling<'a> {
    /// State 0 stands between two tokens.
    pub(crate) fn new(tokens: &'a SortedTokens, allowed: &'a [u32]) -> Self {
        Self { tokens, allowed }
    }

    /// The state inside a token after one more byte.
    pub(crate) fn step(self, state: u32, byte: u8) -> Option<u32> {
        self.tokens.child(state, byte)
    }

    /// Whether a token may end here.
    pub(crate) fn ends_token(self, state: u32) -> bool {
        self.tokens.ends_allowed(state, self.allowed)
    }
}
