//! Strings and tokens: where the text of people meets the ids of models.
//!
//! A [`Tokenizer`] is read from a tokenizer.json or from a GGUF's metadata. It turns text to ids: `encode` for text
//! that anybody may have written, in which control tokens have no effect; `encode_with_control` and `encode_chat` for
//! what templates write. Its [`Vocabulary`] is the single answer to "which bytes is this id", for the masks as for the
//! output. On the way back a [`Detokenizer`] gives whole characters only, and a [`StopMatcher`] cuts the text at the
//! first stop string.
//!
//! Only byte-level BPE is read, which is what the code models use; anything else is a typed error.

mod byte_level;
mod byte_tokenizer;
mod chat;
mod config;
mod control;
mod detokenizer;
mod encoder;
mod error;
mod fim;
mod gguf_vocab;
mod pretokenizer;
mod stop;
mod tokenizer;
mod tokenizer_json;
mod vocabulary;

pub use chat::{ChatTemplate, Message};
pub use config::{ConfigFiles, TokenRef, TokenizerConfig};
pub use detokenizer::Detokenizer;
pub use error::TextError;
pub use fim::{FimMarkers, FimPieces};
pub use gguf_vocab::GgufVocab;
pub use pretokenizer::SUPPORTED_PRE_TOKENIZERS;
pub use stop::{NUM_STOP_STRINGS_MAX, STOP_STRING_LEN_MAX, StopMatcher, StopStep, StopStrings};
pub use tokenizer::Tokenizer;
pub use vocabulary::{Token, Vocabulary};
