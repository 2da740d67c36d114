//! Which tokens a search steps by: single bytes where the vocabulary has them.

use crate::guide::mask;
use crate::text::Vocabulary;

/// The single-byte tokens that the id lists leave, and the tokens that those cannot spell.
#[derive(Debug)]
pub(crate) struct Alphabet {
    bytes: Box<[Option<u32>; 256]>,
    /// Tokens with a byte that has no token of its own, shortest first.
    unspelt: Vec<u32>,
}

impl Alphabet {
    /// Reads the vocabulary once: about 1 ms at 129k ids.
    pub(crate) fn new(vocabulary: &Vocabulary, allowed: &[u32]) -> Self {
        let mut bytes = Box::new([None; 256]);
        for token in mask::allowed_tokens(allowed) {
            if let [byte] = *vocabulary.bytes(token) {
                bytes[usize::from(byte)].get_or_insert(token);
            }
        }
        let is_unspelt = |&token: &u32| vocabulary.bytes(token).iter().any(|&byte| bytes[usize::from(byte)].is_none());
        let mut unspelt: Vec<u32> = mask::allowed_tokens(allowed).filter(is_unspelt).collect();
        unspelt.sort_by_key(|&token| vocabulary.bytes(token).len());
        Self { bytes, unspelt }
    }

    /// Whether every text over the tokens of `row` is also one over single bytes.
    pub(crate) fn spells(&self, row: &[u32], vocabulary: &Vocabulary) -> bool {
        let mut bytes = mask::allowed_tokens(row).flat_map(|token| vocabulary.bytes(token));
        bytes.all(|&byte| self.token(byte).is_some())
    }

    /// The token of one byte.
    pub(crate) fn token(&self, byte: u8) -> Option<u32> {
        self.bytes[usize::from(byte)]
    }

    /// The tokens that `row` allows and that suffice to reach every text: what spells other tokens stands for them.
    pub(crate) fn steps(&self, row: &[u32]) -> impl Iterator<Item = u32> {
        let bytes = self.bytes.iter().flatten();
        bytes.chain(&self.unspelt).copied().filter(|&token| mask::is_allowed(row, token))
    }
}
