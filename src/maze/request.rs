//! What a caller asks of the maze, independent of any wire format.

use std::sync::Arc;

use super::{Profile, RuleSet};
pub use crate::braid::{CompileOptions, Resolution, Strategy, security};
pub use crate::constraint::{
    Constraint, ConstraintIr, ConstraintSet, Diagnostic, Digest, ForbiddenText, FreeText, Grammar, GrammarSyntax,
    Language, Limits, MatchMode, NotApplied, RegexGroup, RegexPattern, Regions, Structure, TokenMasks,
};
pub use crate::kernels::sampling::SamplingParams;
pub use crate::text::Message;

/// One request: a prompt, what binds the answer, and how it is sampled.
#[derive(Clone, Debug, Default)]
pub struct GenerateRequest {
    /// What the model continues.
    pub prompt: Prompt,
    /// All of these hold for every choice.
    pub constraints: Vec<ConstraintIr>,
    /// Rules to compile; what they compile to holds as well.
    pub rules: Option<RuleSet>,
    /// Source code to mine a type from. What is mined becomes one set with `rules`, which are stronger.
    pub context: Option<SourceContext>,
    /// Rule sets of the server that hold as well.
    pub profiles: Vec<Arc<Profile>>,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// At most this many tokens per choice; `None` means the configured default.
    pub max_tokens: Option<u32>,
    /// Generation ends before the first of these.
    pub stop: Vec<String>,
    /// How many choices; each has its own random stream.
    pub num_choices: u32,
    /// Same seed, same bytes. `None` draws one, which the provenance reports.
    pub seed: Option<u64>,
    /// Whose account pays for compiling; `None` is the account of all who have no name.
    pub client: Option<Arc<str>>,
    /// How many alternatives to report with log-probabilities; `None` reports none.
    pub num_logprobs: Option<u32>,
    /// Draw also the tokens that the constraint determines, in whatever split the model prefers, instead of appending
    /// them. So it is done too where log-probabilities are asked for.
    pub sample_forced_tokens: bool,
}

/// What the model continues.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Plain text; control tokens in it are ordinary characters.
    Text(String),
    /// Token ids, as the client's own tokenizer gave them; control ids are refused.
    Tokens(Vec<u32>),
    /// Messages, put through the model's chat template.
    Chat(Vec<Message>),
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// Source code whose types may bind the answer.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// The source text.
    pub source: String,
    /// Its language.
    pub language: Language,
    /// How the source is named in origins and errors.
    pub file: String,
    /// The type that the answer is a value of; `None` where only one can be meant.
    pub type_name: Option<String>,
}
