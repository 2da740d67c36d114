//! The vocabulary: what each id stands for, in bytes.
//!
//! This is the one place that says which bytes an id gives. The detokenizer emits them, the guide's trie is built from
//! them, so a mask can never allow one text and the client receive another. An id that gives no text (control tokens,
//! holes, padded rows, bytes that no valid text can hold) has no bytes and is never sampled as text.

use std::fmt;
use std::sync::{Arc, OnceLock};

use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use super::TextError;
use super::byte_level::may_occur_in_utf8;
use super::encoder::Encoder;

/// What one id of the vocabulary is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Ordinary text: these bytes, which need not be whole characters.
    Text(Vec<u8>),
    /// A control token of this name: it steers the model and gives no text.
    Control(String),
    /// An id that means nothing and must never be sampled.
    Masked,
}

/// All ids of a model with the bytes they stand for. Immutable; shared behind an `Arc`.
pub struct Vocabulary {
    /// Bytes of id `i` are `bytes[offsets[i]..offsets[i + 1]]`.
    bytes: Vec<u8>,
    offsets: Vec<usize>,
    control: Vec<(u32, String)>,
    end_tokens: Vec<u32>,
    num_rows: usize,
    digest: [u8; 32],
    encoder: Option<Arc<Encoder>>,
    tok_env: OnceLock<TokEnv>,
}

impl Vocabulary {
    /// A vocabulary of `tokens`, in order of their ids, for logits of `num_rows` rows.
    ///
    /// A text token with a byte that valid UTF-8 cannot contain is masked: no finished text could hold it.
    ///
    /// # Errors
    /// If there are more tokens than rows, no end token, or an end token past the rows.
    pub fn new(tokens: Vec<Token>, num_rows: usize, end_tokens: Vec<u32>) -> Result<Self, TextError> {
        Self::with_encoder(tokens, num_rows, end_tokens, None)
    }

    /// As [`Self::new`], for a vocabulary whose [`Self::tok_env`] splits text as `encoder` does.
    pub(crate) fn with_encoder(
        tokens: Vec<Token>,
        num_rows: usize,
        end_tokens: Vec<u32>,
        encoder: Option<Arc<Encoder>>,
    ) -> Result<Self, TextError> {
        if tokens.len() > num_rows {
            return Err(TextError::VocabularyTooSmall { num_rows, num_tokens: tokens.len() });
        }
        if end_tokens.is_empty() {
            return Err(TextError::NoEndToken);
        }
        if let Some(&id) = end_tokens.iter().find(|&&id| id as usize >= num_rows) {
            return Err(TextError::TokenOutOfRange { role: "end", id, num_rows });
        }
        let (mut bytes, mut offsets, mut control) = (Vec::new(), vec![0], Vec::new());
        for (id, token) in (0u32..).zip(tokens) {
            match token {
                Token::Text(text) if text.iter().copied().all(may_occur_in_utf8) && !end_tokens.contains(&id) => {
                    bytes.extend_from_slice(&text);
                }
                Token::Control(name) => control.push((id, name)),
                Token::Text(_) | Token::Masked => {}
            }
            offsets.push(bytes.len());
        }
        let digest = digest(&bytes, &offsets, &control, &end_tokens, num_rows);
        let tok_env = OnceLock::new();
        Ok(Self { bytes, offsets, control, end_tokens, num_rows, digest, encoder, tok_env })
    }

    /// Rows of the model's logits; at least [`Self::num_tokens`].
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// Ids that the tokenizer knows; the rows past them are padding.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The bytes of an id; empty for control tokens, padded rows and ids that must never be sampled.
    #[must_use]
    pub fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        match (self.offsets.get(id), self.offsets.get(id + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start..end],
            _ => &[],
        }
    }

    /// Whether the id may be sampled as text.
    #[must_use]
    pub fn is_text(&self, id: u32) -> bool {
        !self.bytes(id).is_empty()
    }

    /// Whether the id is a control token.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        self.control.binary_search_by_key(&id, |(id, _)| *id).is_ok()
    }

    /// The tokens that end an output, the principal one first; never empty.
    #[must_use]
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// The control tokens, in order of their ids.
    pub fn control_tokens(&self) -> impl Iterator<Item = u32> {
        self.control.iter().map(|(id, _)| *id)
    }

    /// The name of a control token, such as `<|EOT|>`.
    #[must_use]
    pub fn control_name(&self, id: u32) -> Option<&str> {
        let found = self.control.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.control[found].1)
    }

    /// BLAKE3 over all ids' bytes, the control tokens' names, the end tokens and the number of rows.
    #[must_use]
    pub fn digest_bytes(&self) -> [u8; 32] {
        self.digest
    }

    /// The concatenated bytes of `ids`; control tokens give nothing.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|&id| self.bytes(id)).copied().collect()
    }

    /// The trie and tokenizer that the mask engine walks; built once, on first use.
    ///
    /// Control tokens stand in the trie as 0xFF and their name, as toktrie marks special tokens; rows without a
    /// meaning have no entry.
    pub fn tok_env(&self) -> TokEnv {
        self.tok_env.get_or_init(|| Arc::new(TrieEnv { trie: self.trie(), encoder: self.encoder.clone() })).clone()
    }

    fn trie(&self) -> TokTrie {
        let mut words: Vec<Vec<u8>> = (0u32..).take(self.num_rows).map(|id| self.bytes(id).to_vec()).collect();
        for (id, name) in &self.control {
            let word = &mut words[*id as usize];
            word.push(TokTrie::SPECIAL_TOKEN_MARKER);
            word.extend_from_slice(name.as_bytes());
        }
        let num_words = u32::try_from(words.len()).expect("ids are u32");
        TokTrie::from(&TokRxInfo::new(num_words, self.end_tokens[0]), &words).with_eos_tokens(&self.end_tokens)
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary")
            .field("num_rows", &self.num_rows)
            .field("num_tokens", &self.num_tokens())
            .field("end_tokens", &self.end_tokens)
            .finish_non_exhaustive()
    }
}

fn digest(bytes: &[u8], offsets: &[usize], control: &[(u32, String)], end_tokens: &[u32], num_rows: usize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut number = |value: usize, tail: &[u8]| {
        hasher.update(&(value as u64).to_le_bytes());
        hasher.update(tail);
    };
    number(num_rows, &[]);
    number(offsets.len(), &[]);
    offsets.iter().for_each(|&offset| number(offset, &[]));
    number(bytes.len(), bytes);
    number(control.len(), &[]);
    for (id, name) in control {
        number(*id as usize, &[]);
        number(name.len(), name.as_bytes());
    }
    number(end_tokens.len(), &[]);
    end_tokens.iter().for_each(|&id| number(id as usize, &[]));
    *hasher.finalize().as_bytes()
}

/// The trie of a vocabulary with its real tokenizer.
struct TrieEnv {
    trie: TokTrie,
    encoder: Option<Arc<Encoder>>,
}

impl TrieEnv {
    /// The tokenizer's own ids for `text` where they give exactly its bytes (a tokenizer that normalizes may change
    /// them), else the longest matches.
    fn tokenize_text(&self, text: &str) -> Vec<u32> {
        let ids = self.encoder.as_ref().and_then(|encoder| encoder.encode(text).ok());
        let exact = |ids: &Vec<u32>| {
            let bytes = ids.iter().flat_map(|&id| self.trie.token(id)).copied();
            bytes.eq(text.bytes())
        };
        ids.filter(exact).unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
    }
}

impl TokenizerEnv for TrieEnv {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.tokenize_text(text))
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.encoder.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Token {
        Token::Text(bytes.to_vec())
    }

    #[test]
    fn rows_without_meaning_have_no_bytes() {
        let tokens = vec![text(b"a"), Token::Control("<e>".into()), text(b"b\xff"), Token::Masked, text(b"ab")];
        let vocabulary = Vocabulary::new(tokens, 8, vec![1]).expect("a valid vocabulary");
        let texts: Vec<u32> = (0..9).filter(|&id| vocabulary.is_text(id)).collect();
        assert_eq!(texts, [0, 4]);
        assert_eq!(vocabulary.control_tokens().collect::<Vec<_>>(), [1]);
        assert_eq!(vocabulary.decode(&[4, 1, 0, 7, u32::MAX]), b"aba");
        let env = vocabulary.tok_env();
        assert_eq!(env.tok_trie().vocab_size(), 8);
        assert_eq!(env.tok_trie().eos_tokens(), [1]);
        assert!(env.tok_trie().is_special_token(1));
        assert_eq!(env.tokenize_bytes(b"aab"), [0, 4]);
    }

    #[test]
    fn a_vocabulary_without_a_usable_end_is_refused() {
        let tokens = || vec![text(b"a"), text(b"b")];
        assert!(matches!(Vocabulary::new(tokens(), 2, vec![]), Err(TextError::NoEndToken)));
        assert!(matches!(Vocabulary::new(tokens(), 2, vec![2]), Err(TextError::TokenOutOfRange { id: 2, .. })));
        assert!(matches!(Vocabulary::new(tokens(), 1, vec![0]), Err(TextError::VocabularyTooSmall { .. })));
    }

    #[test]
    fn the_digest_sees_borders_and_kinds() {
        let digest = |tokens| Vocabulary::new(tokens, 4, vec![3]).expect("a valid vocabulary").digest_bytes();
        let base = digest(vec![text(b"ab"), text(b"c")]);
        assert_ne!(base, digest(vec![text(b"a"), text(b"bc")]));
        assert_ne!(digest(vec![Token::Masked]), digest(vec![Token::Control("x".into())]));
        assert_eq!(base, digest(vec![text(b"ab"), text(b"c")]));
    }
}
