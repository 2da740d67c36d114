//! Reads the tokenizer that a GGUF carries in its own metadata.

use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Vocab};

use super::byte_level;
use super::control::looks_like_control;
use super::pretokenizer::PreTokenizer;
use super::tokenizer::{Entry, Kind, TokenizerParts};
use super::{TextError, TokenRef, TokenizerConfig};

/// A GGUF's `tokenizer.*` metadata, as plain values.
#[derive(Debug, Clone, Default)]
pub struct GgufVocab {
    /// `tokenizer.ggml.model`; `gpt2` means byte-level BPE.
    pub model: String,
    /// `tokenizer.ggml.pre`
    pub pre: String,
    /// `tokenizer.ggml.tokens`, in order of their ids, padded to the rows of the logits.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`, each two tokens with a space between.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`: ends a text.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: ends a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: ends a message.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`
    pub add_bos: Option<bool>,
    /// `tokenizer.chat_template`
    pub chat_template: Option<String>,
    /// `tokenizer.ggml.fim_pre_token_id`, `fim_suf` and `fim_mid`, where all three are named.
    pub fim: Option<[u32; 3]>,
    /// Rows of the model's logits, where they are more than the tokens listed.
    pub num_rows: Option<usize>,
}

/// Takes the metadata apart, into a tokenizer and what a model folder would say of it.
pub(crate) fn read(vocab: GgufVocab) -> Result<(TokenizerParts, TokenizerConfig), TextError> {
    if vocab.model != "gpt2" {
        return Err(TextError::NotByteLevelBpe { found: format!("of GGUF kind {:?}", vocab.model) });
    }
    if vocab.tokens.len() != vocab.token_types.len() {
        let (num_tokens, num_types) = (vocab.tokens.len(), vocab.token_types.len());
        return Err(TextError::TokenTypesMismatch { num_tokens, num_types });
    }
    let pre = PreTokenizer::named(&vocab.pre)?;
    let config = TokenizerConfig {
        num_rows: Some(vocab.num_rows.unwrap_or(vocab.tokens.len())),
        bos: vocab.bos.map(TokenRef::Id),
        add_bos: Some(vocab.add_bos.unwrap_or(pre.adds_bos)),
        end_tokens: [vocab.eos, vocab.eot, vocab.eom].into_iter().flatten().map(TokenRef::Id).collect(),
        chat_template: vocab.chat_template,
        fim: vocab.fim.map(|ids| ids.map(TokenRef::Id)),
    };
    let merges = merges(&vocab.merges)?;
    let typed = (0u32..).zip(vocab.tokens.into_iter().zip(vocab.token_types));
    let entries: Vec<_> = typed.filter_map(|(id, (text, kind))| Some((id, entry(id, text, kind)?))).collect();
    let bpe = BPE::builder()
        .vocab_and_merges(learned(&entries), merges)
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(TextError::Build)?;
    let parts = TokenizerParts { bpe, normalizer: pre.normalizer, pre_tokenizer: pre.splits, entries, own_bos: None };
    Ok((parts, config))
}

fn merges(lines: &[String]) -> Result<Vec<(String, String)>, TextError> {
    let pair = |(index, merge): (usize, &String)| match merge.split_once(' ') {
        Some((left, right)) => Ok((left.to_string(), right.to_string())),
        None => Err(TextError::BadMerge { index, merge: merge.clone() }),
    };
    lines.iter().enumerate().map(pair).collect()
}

/// What an id is, by its type; `None` for a row that only pads the list, which converters call `[PAD<id>]`.
fn entry(id: u32, text: String, token_type: i32) -> Option<Entry> {
    let added = |text: &str, special| AddedToken::from(text, special).normalized(false);
    let kind = match token_type {
        4 | 5 if text == format!("[PAD{id}]") => return None,
        2 | 3 => Kind::Control(added(&text, true)),
        4 if looks_like_control(&text) => Kind::Control(added(&text, true)),
        4 => Kind::Added(added(&text, false)),
        5 => Kind::Unused,
        _ => Kind::Learned(byte_level::to_bytes(&text).unwrap_or_else(|| text.clone().into_bytes())),
    };
    Some(Entry { text, kind })
}

/// The tokens that merging may give: all but the control tokens.
fn learned(entries: &[(u32, Entry)]) -> Vocab {
    let mergeable = entries.iter().filter(|(_, entry)| !matches!(entry.kind, Kind::Control(_)));
    mergeable.map(|(id, entry)| (entry.text.clone(), *id)).collect()
}
