//! Reads Hugging Face's tokenizer.json.
//!
//! Its truncation and padding are left aside on purpose: a server must not shorten prompts silently.

use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, Encoding, NormalizerWrapper, PostProcessor, PostProcessorWrapper, PreTokenizerWrapper};

use super::TextError;
use super::byte_level;
use super::control::looks_like_control;
use super::pretokenizer::in_linear_time;
use super::tokenizer::{Entry, Kind, TokenizerParts};

/// The parts of the file that are used.
#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<AddedEntry>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    model: BPE,
}

#[derive(Deserialize)]
struct AddedEntry {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

/// Just enough to tell which kind of tokenizer a file holds.
#[derive(Deserialize)]
struct FileKind {
    model: ModelKind,
}

#[derive(Deserialize)]
struct ModelKind {
    /// Absent in old files, which are all BPE.
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Takes a tokenizer.json apart.
pub(crate) fn read(json: &[u8]) -> Result<TokenizerParts, TextError> {
    let kind = parse::<FileKind>(json)?.model.kind;
    if let Some(found) = kind.filter(|kind| kind != "BPE") {
        return Err(TextError::NotByteLevelBpe { found });
    }
    let file: TokenizerFile = parse(json)?;
    let Some(pre_tokenizer) = file.pre_tokenizer.filter(is_byte_level) else {
        return Err(TextError::NotByteLevelBpe { found: "a BPE over characters".to_string() });
    };
    Ok(TokenizerParts {
        entries: entries(&file.model, file.added_tokens),
        bpe: file.model,
        normalizer: file.normalizer,
        pre_tokenizer: in_linear_time(pre_tokenizer)?,
        own_bos: own_bos(file.post_processor.as_ref())?,
    })
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, TextError> {
    serde_json::from_slice(json).map_err(|source| TextError::Json { file: "tokenizer.json", source })
}

fn is_byte_level(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::ByteLevel(_) => true,
        PreTokenizerWrapper::Sequence(sequence) => sequence.as_ref().iter().any(is_byte_level),
        _ => false,
    }
}

/// Every id of the file: the learned tokens, and over them the added ones.
fn entries(bpe: &BPE, added: Vec<AddedEntry>) -> Vec<(u32, Entry)> {
    let learned = bpe.get_vocab().into_iter().map(|(text, id)| {
        let kind = Kind::Learned(byte_level::to_bytes(&text).unwrap_or_else(|| text.clone().into_bytes()));
        (id, Entry { text, kind })
    });
    let added = added.into_iter().map(|AddedEntry { id, token }| {
        let text = token.content.clone();
        let is_control = token.special || looks_like_control(&text);
        (id, Entry { text, kind: if is_control { Kind::Control(token) } else { Kind::Added(token) } })
    });
    learned.chain(added).collect()
}

/// The token that the file's own post-processor puts before every text.
fn own_bos(post_processor: Option<&PostProcessorWrapper>) -> Result<Option<u32>, TextError> {
    let Some(post_processor) = post_processor else { return Ok(None) };
    let processed = post_processor.process(Encoding::default(), None, true).map_err(TextError::Build)?;
    Ok(processed.get_ids().first().copied())
}
