//! The ways in which a text can be split into tokens.
//!
//! A model may write a text in any split, not only in the one its tokenizer prefers; whoever asks what the masks say of
//! a text must be able to try others. Nothing here knows of constraints but a row of the ids that may be used.

use std::sync::Arc;

use crate::guide::is_allowed;
use crate::text::Vocabulary;

/// The text tokens of one vocabulary, in the order of their bytes.
pub(super) struct Splitter {
    vocabulary: Arc<Vocabulary>,
    ids: Vec<u32>,
}

impl Splitter {
    /// Sorts the text tokens: about 50 ms at 129k ids, once per vocabulary.
    pub(super) fn new(vocabulary: Arc<Vocabulary>) -> Self {
        let mut ids: Vec<u32> = (0..vocabulary.num_tokens() as u32).filter(|&id| vocabulary.is_text(id)).collect();
        ids.sort_by_key(|&id| (vocabulary.bytes(id), id));
        Self { vocabulary, ids }
    }

    /// The tokens that begin with `byte`.
    pub(super) fn beginning_with(&self, byte: u8) -> &[u32] {
        self.narrow(&self.ids, 0, byte)
    }

    /// The tokens that `text` begins with, shortest first, each with its length.
    pub(super) fn prefixes<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (u32, usize)> + 'a {
        let mut ids: &[u32] = &self.ids;
        text.iter()
            .enumerate()
            .map_while(move |(depth, &byte)| {
                ids = self.narrow(ids, depth, byte);
                (!ids.is_empty()).then(|| {
                    let num_whole = ids.partition_point(|&id| self.vocabulary.bytes(id).len() == depth + 1);
                    ids[..num_whole].iter().map(move |&id| (id, depth + 1))
                })
            })
            .flatten()
    }

    /// One split of `text` into tokens that `allowed` has; `choose` picks among the number of tokens that can stand
    /// next, shortest first. `None` where there is no such split. Takes time linear in the text.
    pub(super) fn split(
        &self,
        text: &[u8],
        allowed: &[u32],
        mut choose: impl FnMut(usize) -> usize,
    ) -> Option<Vec<u32>> {
        let next = |at: usize| self.prefixes(&text[at..]).filter(|&(id, _)| is_allowed(allowed, id));
        // Whether a split of the rest exists from here on.
        let mut splits = vec![false; text.len() + 1];
        splits[text.len()] = true;
        for at in (0..text.len()).rev() {
            splits[at] = next(at).any(|(_, len)| splits[at + len]);
        }
        let (mut tokens, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let candidates: Vec<_> = next(at).filter(|&(_, len)| splits[at + len]).collect();
            if candidates.is_empty() {
                return None;
            }
            let (id, len) = candidates[choose(candidates.len())];
            tokens.push(id);
            at += len;
        }
        Some(tokens)
    }

    /// Bytes of `text` from its beginning that tokens of `allowed` can be put together to.
    pub(super) fn num_writable(&self, text: &[u8], allowed: &[u32]) -> usize {
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for at in 0..text.len() {
            if reached[at] {
                let next = self.prefixes(&text[at..]).filter(|&(id, _)| is_allowed(allowed, id));
                next.for_each(|(_, len)| reached[at + len] = true);
            }
        }
        reached.iter().rposition(|&reached| reached).unwrap_or(0)
    }

    /// Of `ids`, which agree in their first `depth` bytes, those that go on with `byte`.
    fn narrow<'a>(&self, ids: &'a [u32], depth: usize, byte: u8) -> &'a [u32] {
        let at = |id: u32| self.vocabulary.bytes(id).get(depth).copied();
        let from = ids.partition_point(|&id| at(id) < Some(byte));
        let to = from + ids[from..].partition_point(|&id| at(id) == Some(byte));
        &ids[from..to]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guide::num_words;
    use crate::text::Token;

    fn splitter(words: &[&str]) -> Splitter {
        let mut tokens: Vec<Token> = words.iter().map(|word| Token::Text(word.as_bytes().to_vec())).collect();
        tokens.push(Token::Control("<end>".into()));
        let end = tokens.len() as u32 - 1;
        Splitter::new(Arc::new(Vocabulary::new(tokens, words.len() + 1, vec![end]).expect("a valid vocabulary")))
    }

    #[test]
    fn the_prefixes_of_a_text_come_shortest_first() {
        let splitter = splitter(&["ab", "a", "b", "abc", "a", "c", "abd"]);
        assert_eq!(splitter.prefixes(b"abce").collect::<Vec<_>>(), [(1, 1), (4, 1), (0, 2), (3, 3)]);
        assert_eq!(splitter.prefixes(b"x").count() + splitter.prefixes(b"").count(), 0);
        assert_eq!(splitter.beginning_with(b'b'), [2]);
    }

    #[test]
    fn a_split_never_runs_into_a_corner() {
        // "aab" ends only in "ab": the longest first token of "aaab" would leave a single "b".
        let splitter = splitter(&["a", "aa", "aaa", "ab"]);
        let all = vec![u32::MAX; num_words(5)];
        for pick in 0..3 {
            let tokens = splitter.split(b"aaab", &all, |len| pick.min(len - 1)).expect("it can be split");
            let bytes: Vec<u8> = tokens.iter().flat_map(|&id| splitter.vocabulary.bytes(id)).copied().collect();
            assert_eq!(bytes, b"aaab");
        }
        assert_eq!(splitter.split(b"aba", &all, |len| len - 1), Some(vec![3, 0]));
        assert_eq!(splitter.split(b"aba", &[0b0111], |_| 0), None, "without `ab` nothing ends in b");
        assert_eq!(splitter.split(b"", &all, |_| 0), Some(vec![]));
        assert_eq!(splitter.num_writable(b"aabb", &all), 3);
    }
}
