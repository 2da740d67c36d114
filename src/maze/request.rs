//! What a caller asks of the maze, independent of any wire format.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Profile, RuleSet};
pub use crate::braid::{CompileOptions, Explanation, Resolution, Strategy, security};
pub use crate::clew::{CONSTRAINTS_MAX, DESCRIPTION_BYTES_MAX};
pub use crate::constraint::{
    Constraint, ConstraintIr, ConstraintSet, Diagnostic, Digest, ForbiddenText, FreeText, Grammar, GrammarSyntax,
    Language, Limits, MatchMode, NotApplied, RegexGroup, RegexPattern, Regions, Structure, TokenMasks,
};
pub use crate::engine::{Salt, Tenant};
pub use crate::kernels::sampling::SamplingParams;
pub use crate::text::Message;
pub use crate::verify::Verdict;

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
    /// At most this many tokens per choice; `None` means the configured default, and with 0 the prompt is read and
    /// nothing else.
    pub max_tokens: Option<u32>,
    /// Generation ends before the first of these.
    pub stop: Vec<String>,
    /// How many choices; each has its own random stream.
    pub num_choices: u32,
    /// Same seed, same bytes. `None` draws one, which the provenance reports.
    pub seed: Option<u64>,
    /// Who asks; `None` is all who have no name, and share one account.
    pub client: Option<Client>,
    /// How many alternatives to report with log-probabilities; `None` reports none.
    pub num_logprobs: Option<u32>,
    /// How many alternatives to report with the log-probabilities of the prompt's own tokens; `None` reports none. They
    /// are under the raw logits, whatever binds the answer and however it is sampled. All choices are told the same,
    /// which is computed once.
    pub num_prompt_logprobs: Option<u32>,
    /// The reply is read only when it is whole, so that a remote model's text may be given up and asked for anew.
    pub whole: bool,
    /// Draw also the tokens that the constraint determines, in whatever split the model prefers, instead of appending
    /// them. So it is done too where log-probabilities are asked for.
    pub sample_forced_tokens: bool,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whose account pays for compiling.
    pub name: Arc<str>,
    /// Sets the client apart: what is cached for it serves only requests with the same salt, and it is served nothing
    /// else, neither prefixes nor constraints nor entries of the tiers. It pays for that with time.
    pub salt: Option<Salt>,
    /// In whose line its sequences wait; `None` is the line of all who have none.
    pub tenant: Option<Arc<Tenant>>,
}

impl From<&str> for Client {
    fn from(name: &str) -> Self {
        Self { name: name.into(), salt: None, tenant: None }
    }
}

/// What the model continues.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Plain text; control tokens in it are ordinary characters.
    Text(String),
    /// Plain text that may end inside a token: the output continues it as if it had been written in whole tokens. Goes
    /// with no constraints.
    Unfinished(String),
    /// Token ids, as the client's own tokenizer gave them; control ids are refused.
    Tokens(Vec<u32>),
    /// Messages, put through the model's chat template.
    Chat(Vec<Message>),
    /// A hole in a text, to be filled by a model that was trained to.
    Hole(Hole),
}

/// A hole in a text. Control tokens in either side are ordinary characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// The text before it.
    pub prefix: String,
    /// The text behind it.
    pub suffix: String,
    /// The beginning of the hole's own text, which stands already and is not cut. Constraints see it as prefix.
    pub begun: String,
    /// Text of other files, for the model alone; the first to be cut.
    pub extra: String,
    /// What becomes of a text that is longer than the window.
    pub truncation: Truncation,
    /// What becomes of a text that the rules about code cannot read on.
    pub on_unparsable_context: OnUnparsableContext,
}

/// What becomes of a prompt that is longer than the model's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    /// It is cut farthest from the hole, and the provenance says by how much.
    #[default]
    Auto,
    /// It is refused.
    Disabled,
}

/// What becomes of a hole whose document the rules about code cannot read: one that is being typed, or too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnparsableContext {
    /// The rules judge the hole alone, and the provenance says so.
    #[default]
    HoleOnly,
    /// The request is refused.
    Refuse,
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
