//! What can go wrong between strings and tokens.

use thiserror::Error;

/// An error of the tokenizers crate, which gives text only.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error of the text layer; each variant is a fact with its values.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file of the model folder is not JSON, or not of the shape its format prescribes.
    #[error("{file} cannot be read: {source}")]
    Json {
        /// Name of the file in the model folder.
        file: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The tokenizer is not a byte-level BPE.
    #[error("the tokenizer is {found}; byte-level BPE is supported")]
    NotByteLevelBpe {
        /// What the file says it is.
        found: String,
    },
    /// The GGUF names a pre-tokenizer whose splitting rules are not known here.
    #[error("pre-tokenizer {found:?} of the GGUF is not supported; supported are {}", supported.join(", "))]
    UnsupportedPreTokenizer {
        /// `tokenizer.ggml.pre` of the file.
        found: String,
        /// The names that are supported.
        supported: &'static [&'static str],
    },
    /// A merge of the GGUF is not two tokens with a space between.
    #[error("merge {index} of the GGUF, {merge:?}, is not two tokens with a space between")]
    BadMerge {
        /// Place in the list of merges, from 0.
        index: usize,
        /// The merge as written.
        merge: String,
    },
    /// The lists of tokens and token types of a GGUF differ in length.
    #[error("the GGUF has {num_tokens} tokens but {num_types} token types")]
    TokenTypesMismatch {
        /// Length of `tokenizer.ggml.tokens`.
        num_tokens: usize,
        /// Length of `tokenizer.ggml.token_type`.
        num_types: usize,
    },
    /// The vocabulary, the merges or the added tokens contradict each other.
    #[error("the tokenizer cannot be built: {0}")]
    Build(Cause),
    /// The tokenizer failed on a text.
    #[error("the text cannot be encoded: {0}")]
    Encode(Cause),
    /// Ordinary text came out as a control token, which the vocabulary does not allow for.
    #[error(
        "ordinary text is encoded as control token {id}; its tokenizer files disagree about which tokens are control"
    )]
    ControlTokenInText {
        /// The control token.
        id: u32,
    },
    /// A configuration file names a token that the vocabulary does not have.
    #[error("the {role} token {token:?} is not in the vocabulary")]
    UnknownToken {
        /// What the token is for: `beginning` or `end`.
        role: &'static str,
        /// The token as the configuration writes it.
        token: String,
    },
    /// A configuration file names an id past the model's logits.
    #[error("the {role} token {id} is past the model's {num_rows} vocabulary rows")]
    TokenOutOfRange {
        /// What the token is for: `beginning` or `end`.
        role: &'static str,
        /// The id.
        id: u32,
        /// Rows of the model's logits.
        num_rows: usize,
    },
    /// The model has fewer logits than its tokenizer has ids.
    #[error(
        "the tokenizer has {num_tokens} tokens but the model only {num_rows} vocabulary rows; they do not belong together"
    )]
    VocabularyTooSmall {
        /// Rows of the model's logits.
        num_rows: usize,
        /// Ids of the tokenizer.
        num_tokens: usize,
    },
    /// No end token is known, so that no output could ever end.
    #[error("no end token is known; name one as eos_token_id in config.json or generation_config.json")]
    NoEndToken,
    /// The model came without a chat template.
    #[error("the model has no chat template; send a plain prompt")]
    NoChatTemplate,
    /// The chat template is not valid, or failed on these messages.
    #[error("the chat template fails: {0}")]
    Template(#[source] Box<minijinja::Error>),
    /// The chat template itself refused the messages (`raise_exception`).
    #[error("the chat template refuses these messages: {message}")]
    TemplateRefused {
        /// The template's own words.
        message: String,
    },
    /// The chat template calls a function that does not exist here, such as `strftime_now`.
    #[error("the chat template calls a function that is not provided: {detail}")]
    TemplateFunction {
        /// Which one.
        detail: String,
    },
    /// The chat template ran for too long.
    #[error("the chat template needs more than {limit} steps")]
    TemplateFuel {
        /// The limit, in template instructions.
        limit: u64,
    },
    /// The messages use every character that could mark their control tokens as plain text.
    #[error("the messages contain all of the noncharacters U+FDD0 to U+FDEF; remove them")]
    NoFreeGuard,
    /// A stop string without characters would stop everything.
    #[error("a stop string is empty; remove it")]
    EmptyStopString,
    /// More stop strings than are looked for.
    #[error("{count} stop strings, at most {limit} are allowed")]
    TooManyStopStrings {
        /// How many were given.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A stop string longer than what may be held back.
    #[error("a stop string of {len} bytes, at most {limit} are allowed")]
    StopStringTooLong {
        /// Its length in bytes.
        len: usize,
        /// The bound in bytes.
        limit: usize,
    },
}
