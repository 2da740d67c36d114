//! Token ids back to text, as they come.
//!
//! A token may end inside a character, so bytes wait until the character is whole. Bytes that can no longer become a
//! character turn into U+FFFD at once, exactly as `String::from_utf8_lossy` would turn them in the whole text.

use std::sync::Arc;

use super::Vocabulary;

/// Turns one sequence's ids into text, never emitting part of a character.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    vocabulary: Arc<Vocabulary>,
    /// The beginning of a character: at most three bytes between calls.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// A detokenizer at the start of a text.
    #[must_use]
    pub fn new(vocabulary: Arc<Vocabulary>) -> Self {
        Self { vocabulary, pending: Vec::new() }
    }

    /// Takes the next id and returns the text that is now certain; ids without bytes give none.
    #[must_use = "the returned text is not kept"]
    pub fn push(&mut self, id: u32) -> String {
        self.pending.extend_from_slice(self.vocabulary.bytes(id));
        take_certain(&mut self.pending)
    }

    /// Ends the text: what was the beginning of a character is now U+FFFD.
    #[must_use = "the returned text is not kept"]
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    /// How many bytes wait for the rest of their character: 0 to 3.
    #[must_use]
    pub fn num_pending(&self) -> usize {
        self.pending.len()
    }
}

/// Removes from `bytes` all but an unfinished last character, and returns it as text.
fn take_certain(bytes: &mut Vec<u8>) -> String {
    let unfinished = bytes.utf8_chunks().last().map_or(0, |chunk| unfinished_len(chunk.invalid()));
    let rest = bytes.split_off(bytes.len() - unfinished);
    let certain = std::mem::replace(bytes, rest);
    String::from_utf8(certain).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The length of `invalid` if more bytes could still make it a character, else 0.
fn unfinished_len(invalid: &[u8]) -> usize {
    match std::str::from_utf8(invalid) {
        Err(error) if error.error_len().is_none() => invalid.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Token;
    use super::*;

    /// A vocabulary of these tokens, then an end token.
    fn detokenizer(tokens: &[&[u8]]) -> Detokenizer {
        let mut all: Vec<Token> = tokens.iter().map(|bytes| Token::Text(bytes.to_vec())).collect();
        all.push(Token::Control("<end>".into()));
        let num_rows = all.len();
        let end = vec![u32::try_from(tokens.len()).expect("a small vocabulary")];
        Detokenizer::new(Arc::new(Vocabulary::new(all, num_rows, end).expect("a valid vocabulary")))
    }

    #[test]
    fn a_character_comes_out_whole_or_not_at_all() {
        let mut detokenizer = detokenizer(&[b"a\xe4\xb8", b"\x96", b"\x96\xe4", b"b"]);
        assert_eq!(detokenizer.push(0), "a");
        assert_eq!(detokenizer.push(2), "世");
        assert_eq!(detokenizer.push(3), "\u{fffd}b");
        assert_eq!(detokenizer.push(0), "a");
        assert_eq!(detokenizer.push(4), "");
        assert_eq!(detokenizer.finish(), "\u{fffd}");
        assert_eq!(detokenizer.finish(), "");
    }

    /// Bytes that are rich in pieces of characters, cut anywhere.
    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![any::<u8>(), Just(0xe4), Just(0xf0), Just(0x9f), Just(0x80), Just(0xed), Just(b'a')];
        let random = prop::collection::vec(byte, 0..6);
        let text = "[a-zé世🦀]{0,3}".prop_map(String::into_bytes);
        prop::collection::vec(prop_oneof![random, text], 0..20)
    }

    proptest! {
        #[test]
        fn any_split_gives_the_lossy_text_of_the_whole(pieces in pieces()) {
            let mut pending = Vec::new();
            let mut out = String::new();
            for piece in &pieces {
                pending.extend_from_slice(piece);
                out += &take_certain(&mut pending);
                prop_assert!(pending.len() < 4);
            }
            out += &String::from_utf8_lossy(&pending);
            let whole = pieces.concat();
            prop_assert_eq!(out, String::from_utf8_lossy(&whole));
        }
    }
}
