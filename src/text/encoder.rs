//! Ordinary text to ids: normalizer, pre-tokenizer and merges of the tokenizers crate, with the added tokens that are
//! text. Control tokens are unknown here, so no text can be encoded as one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{
    AddedToken, DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
};

use super::TextError;

/// Encodes text that may hold anything and mean nothing.
pub(crate) struct Encoder {
    inner: TokenizerImpl<KnownIds, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>,
}

/// What an [`Encoder`] is made of.
pub(crate) struct EncoderParts {
    pub(crate) bpe: BPE,
    pub(crate) normalizer: Option<NormalizerWrapper>,
    pub(crate) pre_tokenizer: PreTokenizerWrapper,
    /// Added tokens that are text; they are found before the text is split.
    pub(crate) added: Vec<(u32, AddedToken)>,
}

impl Encoder {
    pub(crate) fn new(parts: EncoderParts) -> Result<Self, TextError> {
        let EncoderParts { bpe, normalizer, pre_tokenizer, added } = parts;
        let ids = added.iter().map(|(id, token)| (token.content.clone(), *id)).collect();
        let mut inner = TokenizerImpl::new(KnownIds { bpe, ids });
        inner.with_pre_tokenizer(Some(pre_tokenizer));
        inner.with_normalizer(normalizer).map_err(TextError::Build)?;
        inner.add_tokens(added.into_iter().map(|(_, token)| token)).map_err(TextError::Build)?;
        Ok(Self { inner })
    }

    /// The ids of `text`, without anything added before or after.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self.inner.encode_fast(text, false).map_err(TextError::Encode)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The id of a text token as its file writes it.
    pub(crate) fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.get_model().token_to_id(token)
    }
}

/// A BPE that also knows the ids of the added tokens, so that each keeps its own although the control tokens between
/// them are left out (the crate numbers unknown added tokens by itself).
struct KnownIds {
    bpe: BPE,
    ids: HashMap<String, u32>,
}

impl Model for KnownIds {
    type Trainer = BpeTrainer;

    fn tokenize(&self, sequence: &str) -> tokenizers::Result<Vec<tokenizers::Token>> {
        self.bpe.tokenize(sequence)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied().or_else(|| self.bpe.token_to_id(token))
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.bpe.id_to_token(id)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.bpe.get_vocab()
    }

    fn get_vocab_size(&self) -> usize {
        self.bpe.get_vocab_size()
    }

    fn save(&self, folder: &Path, prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        self.bpe.save(folder, prefix)
    }

    fn get_trainer(&self) -> BpeTrainer {
        self.bpe.get_trainer()
    }
}
