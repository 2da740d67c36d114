//! Everything a request can fail with, and which kind of failure it is.

use super::BindingFault;
use crate::braid::BraidError;
use crate::braid::security::ProfileError;
use crate::cache::CacheError;
use crate::clew::ClewError;
use crate::constraint::IrError;
use crate::engine::EngineError;
use crate::guide::GuideError;
use crate::hub::HubError;
use crate::model::{GpuError, ModelError};
use crate::remote::RemoteError;
use crate::text::TextError;

/// Why a request failed, or a model could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter outside its range.
    #[error("{param} is {value}, outside {min}..={max}")]
    OutOfRange {
        /// The parameter, as clients spell it.
        param: &'static str,
        /// Its value, or how many there are.
        value: f64,
        /// The least allowed.
        min: f64,
        /// The most allowed.
        max: f64,
    },
    /// More bytes of prompt than the server takes.
    #[error("the prompt has {size} bytes; this server takes {limit}")]
    PromptTooLarge {
        /// Its size.
        size: usize,
        /// `prompt_bytes_max`.
        limit: usize,
    },
    /// More bytes of text than are judged at once.
    #[error("the text has {size} bytes; at most {limit} are judged")]
    TextTooLarge {
        /// Its size.
        size: usize,
        /// `text_bytes_max`.
        limit: usize,
    },
    /// Prompt and budget do not fit the window.
    #[error("the prompt has {prompt_len} tokens{}, and the model's window holds {limit}; shorten the prompt or lower max_tokens", asked_for(*max_tokens))]
    ContextLength {
        /// Tokens of the prompt.
        prompt_len: usize,
        /// Tokens asked for.
        max_tokens: Option<u32>,
        /// Tokens the window holds.
        limit: usize,
    },
    /// More log-probabilities of a prompt than a reply may have.
    #[error(
        "the prompt's log-probabilities would be {count} numbers, over all tokens, alternatives and choices; this \
         server reports {limit}: lower `logprobs` or `n`, or shorten the prompt"
    )]
    TooManyPromptLogprobs {
        /// How many are asked for.
        count: usize,
        /// `num_prompt_logprobs_max`.
        limit: usize,
    },
    /// A token id that may not stand in a prompt.
    #[error("prompt token {position} is {id}, which is no id of ordinary text in this model's vocabulary")]
    PromptToken {
        /// Its place in the prompt.
        position: usize,
        /// The id.
        id: u32,
    },
    /// A hole, and a model that was not trained to fill one.
    #[error(
        "the model `{model}` has no fill-in-the-middle tokens, so it cannot fill the hole before a suffix; leave `suffix` \
         out, or load a model that has them"
    )]
    NoFimMarkers {
        /// The loaded model.
        model: String,
    },
    /// Token healing beside something that binds the output.
    #[error("token healing goes with no constraints, which would judge the healed bytes too; leave one of them out")]
    HealingWithConstraints,
    /// An IR that is not well-formed.
    #[error("constraints[{index}]: {source}")]
    Ir {
        /// Which of the request's IRs.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: IrError,
    },
    /// Source code that could not be read.
    #[error(transparent)]
    Clew(#[from] ClewError),
    /// A constraint set that could not be compiled.
    #[error(transparent)]
    Braid(#[from] BraidError),
    /// The rules of a request, with what was mined from its context, could not be compiled.
    #[error("{source}")]
    Rules {
        /// Which of the request's IRs they would have become.
        index: usize,
        /// What is wrong with them.
        #[source]
        source: BraidError,
    },
    /// More constraints in a set than the server takes.
    #[error("the constraint set has {count} constraints; this server takes {limit}")]
    TooManyRules {
        /// How many there are.
        count: usize,
        /// `num_rules_max`.
        limit: usize,
    },
    /// A longer description than the server takes.
    #[error("the description of constraint {index} has {size} bytes; this server takes {limit}")]
    DescriptionTooLong {
        /// Its place in the set.
        index: usize,
        /// Its size.
        size: usize,
        /// `description_bytes_max`.
        limit: usize,
    },
    /// Source code that says nothing about the output; it would be ignored without a word.
    #[error("nothing in {file} binds the output: name a type with `type`, or leave the context out")]
    NothingMined {
        /// How the source is named.
        file: String,
    },
    /// A file that neither its name nor the request says how to read.
    #[error("{file}: the extension names no language; say which with `language`")]
    UnknownLanguage {
        /// The file.
        file: String,
    },
    /// Sources took too long to read.
    #[error("the sources were not read after {limit_ms} ms; send less at once")]
    ExtractionTimeout {
        /// [`EXTRACTION_TIME_MAX`](super::EXTRACTION_TIME_MAX).
        limit_ms: u64,
    },
    /// Texts took too long to be judged.
    #[error("the texts were not judged after {limit_ms} ms; send less at once, or simplify what binds them")]
    JudgeTimeout {
        /// `judge_time_max`.
        limit_ms: u64,
    },
    /// A field that is to bind a text and gives no IR.
    #[error("{fault}")]
    Binding {
        /// The field.
        field: &'static str,
        /// Why.
        #[source]
        fault: BindingFault,
    },
    /// Security patterns that do not exist.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A constraint that cannot be enforced.
    #[error(transparent)]
    Guide(#[from] GuideError),
    /// Too many constraints wait to be compiled.
    #[error("{limit} constraints are waiting to be compiled, which is all this server lets wait; try again")]
    CompileQueueFull {
        /// `compile_queue_len_max`.
        limit: usize,
    },
    /// The compile takes longer than a request waits; it goes on.
    #[error("the constraint is still being compiled after {waited_ms} ms, and will be kept when it is done; try again")]
    StillCompiling {
        /// `compile_wait_max`.
        waited_ms: u64,
    },
    /// The client's new constraints have used up its time.
    #[error("the new constraints of this client have used its {limit_ms} ms of compiling per minute; try again")]
    CompileBudget {
        /// `compile_ms_per_minute`.
        limit_ms: u64,
    },
    /// The child process died of the constraint; the server is unharmed.
    #[error("the constraint crashed the probe, a process apart that compiles what is new: {how}")]
    ProbeCrashed {
        /// How the process ended.
        how: String,
    },
    /// The child process did not finish with the constraint.
    #[error("the probe, a process apart that compiles what is new, was not done after {limit_ms} ms")]
    ProbeTimeout {
        /// `ProbeConfig::time_max`.
        limit_ms: u64,
    },
    /// The child process could not be started.
    #[error("the probe, a process apart that compiles what is new, could not be run: {why}")]
    ProbeUnavailable {
        /// Why.
        why: String,
    },
    /// The tiers of the cache could not be opened.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A text that could not be tokenized, or a tokenizer that could not be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A model that could not be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model that could not be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A GPU was asked for that cannot be used.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// Neither a path nor the name of a repository.
    #[error(
        "there is no file or folder `{name}`, and it is no repository name; \
         give the path of a model folder or .gguf file, or OWNER/REPOSITORY"
    )]
    NoSuchModel {
        /// What was given.
        name: String,
    },
    /// A file of a model that could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A remote model failed, or could not be asked.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A remote model wrote what the constraints forbid.
    #[error("{host} wrote what {part} does not allow; the text was cut after byte {byte_offset}, and is no answer")]
    RemoteNotAllowed {
        /// The server.
        host: String,
        /// The part that refuses it.
        part: String,
        /// The first byte that is not allowed.
        byte_offset: usize,
    },
    /// A remote model ended its text where the constraints take no end.
    #[error("{host} ended its text after byte {byte_offset}, where the constraints do not let it end")]
    RemoteEndedEarly {
        /// The server.
        host: String,
        /// Bytes of the text.
        byte_offset: usize,
    },
    /// What only a model in this process can do.
    #[error("`{param}` is not supported: {reason}")]
    RemoteUnsupported {
        /// The parameter.
        param: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A defect of the server.
    #[error("internal error: {message}")]
    Internal {
        /// What went wrong.
        message: String,
    },
}

fn asked_for(max_tokens: Option<u32>) -> String {
    max_tokens.map_or(String::new(), |count| format!(", {count} more are asked for"))
}

/// What kind of failure an error is: whose it is, and whether trying again helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The request is wrong.
    Invalid,
    /// The request is larger than this server or model takes.
    TooLarge,
    /// A source in the request is larger than extraction reads.
    SourceTooLarge,
    /// The request is well-formed, and a constraint in it cannot be read or enforced.
    Unprocessable,
    /// The request is well-formed, and nothing can satisfy it.
    Unsatisfiable,
    /// No room now.
    Overloaded,
    /// Something the request needs is not there.
    Unavailable,
    /// A remote model failed, or gave what cannot be passed on.
    Upstream,
    /// A remote model took too long.
    UpstreamTimeout,
    /// A defect of the server.
    Internal,
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Binding { fault: BindingFault::Refused(_), .. } => ErrorClass::Unprocessable,
            Self::OutOfRange { .. }
            | Self::PromptToken { .. }
            | Self::NoFimMarkers { .. }
            | Self::HealingWithConstraints
            | Self::Text(_)
            | Self::NoSuchModel { .. }
            | Self::UnknownLanguage { .. }
            | Self::Binding { .. }
            | Self::RemoteUnsupported { .. }
            | Self::Profile(_) => ErrorClass::Invalid,
            Self::PromptTooLarge { .. }
            | Self::TextTooLarge { .. }
            | Self::ContextLength { .. }
            | Self::TooManyPromptLogprobs { .. }
            | Self::TooManyRules { .. }
            | Self::DescriptionTooLong { .. } => ErrorClass::TooLarge,
            Self::Clew(ClewError::TooLarge { .. }) => ErrorClass::SourceTooLarge,
            Self::Ir { .. }
            | Self::Clew(_)
            | Self::Braid(_)
            | Self::Rules { .. }
            | Self::NothingMined { .. }
            | Self::ProbeCrashed { .. } => ErrorClass::Unprocessable,
            Self::CompileQueueFull { .. }
            | Self::StillCompiling { .. }
            | Self::CompileBudget { .. }
            | Self::ExtractionTimeout { .. }
            | Self::JudgeTimeout { .. }
            | Self::ProbeTimeout { .. } => ErrorClass::Overloaded,
            Self::Guide(error) | Self::Engine(EngineError::Guide(error)) => guide_class(error),
            Self::Engine(error) => engine_class(error),
            Self::Remote(error) => remote_class(error),
            Self::RemoteNotAllowed { .. } | Self::RemoteEndedEarly { .. } => ErrorClass::Upstream,
            Self::Model(_)
            | Self::Hub(_)
            | Self::Read { .. }
            | Self::Gpu(_)
            | Self::Cache(_)
            | Self::ProbeUnavailable { .. } => ErrorClass::Unavailable,
            Self::Internal { .. } => ErrorClass::Internal,
        }
    }

    /// The failure as replies and metrics name it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::OutOfRange { .. } => "out_of_range",
            Self::PromptTooLarge { .. } => "prompt_too_large",
            Self::TextTooLarge { .. } => "text_too_large",
            Self::ContextLength { .. } => "context_length_exceeded",
            Self::TooManyPromptLogprobs { .. } => "too_many_logprobs",
            Self::PromptToken { .. } => "invalid_prompt_token",
            Self::NoFimMarkers { .. } => "no_fim_tokens",
            Self::HealingWithConstraints => "unsupported_parameter",
            Self::Ir { .. } => "invalid_constraint_ir",
            Self::Clew(ClewError::TooLarge { .. }) => "source_too_large",
            Self::Clew(_) => "extraction_failed",
            Self::Braid(_) | Self::Rules { .. } => "compilation_failed",
            Self::TooManyRules { .. } => "too_many_constraints",
            Self::DescriptionTooLong { .. } => "description_too_long",
            Self::Binding { fault: BindingFault::Refused(_), .. } => "compilation_failed",
            Self::Binding { .. } => "invalid_value",
            Self::UnknownLanguage { .. } => "unknown_language",
            Self::ExtractionTimeout { .. } => "extraction_timeout",
            Self::JudgeTimeout { .. } => "judge_timeout",
            Self::Profile(_) => "invalid_security_profile",
            Self::NothingMined { .. } => "nothing_mined",
            Self::Guide(error) | Self::Engine(EngineError::Guide(error)) => guide_code(error),
            Self::CompileQueueFull { .. } => "overloaded",
            Self::StillCompiling { .. } => "still_compiling",
            Self::CompileBudget { .. } => "compile_budget_exceeded",
            Self::ProbeCrashed { .. } => "constraint_crashed_probe",
            Self::ProbeTimeout { .. } => "probe_timeout",
            Self::ProbeUnavailable { .. } => "probe_unavailable",
            Self::Cache(_) => "cache_unavailable",
            Self::Text(_) => "invalid_text",
            Self::Engine(EngineError::QueueFull { .. } | EngineError::ShareFull { .. }) => "overloaded",
            Self::Engine(EngineError::TooLong { .. }) => "context_length_exceeded",
            Self::Engine(EngineError::EmptyPrompt) => "empty_prompt",
            Self::Engine(_) => "engine_failed",
            Self::Model(_) | Self::Hub(_) | Self::Read { .. } | Self::NoSuchModel { .. } | Self::Gpu(_) => {
                "model_unavailable"
            }
            Self::Remote(error) => remote_code(error),
            Self::RemoteNotAllowed { .. } | Self::RemoteEndedEarly { .. } => "remote_violated_constraints",
            Self::RemoteUnsupported { .. } => "unsupported_parameter",
            Self::Internal { .. } => "internal_error",
        }
    }

    /// When it is worth trying again, where somebody said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Remote(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The parameter or part that the failure speaks of.
    #[must_use]
    pub fn param(&self) -> Option<String> {
        match self {
            Self::OutOfRange { param, .. } => Some((*param).to_owned()),
            Self::PromptTooLarge { .. }
            | Self::PromptToken { .. }
            | Self::ContextLength { .. }
            | Self::Engine(EngineError::EmptyPrompt | EngineError::TooLong { .. }) => Some("prompt".into()),
            Self::TooManyPromptLogprobs { .. } => Some("logprobs".into()),
            Self::TextTooLarge { .. } => Some("text".into()),
            Self::NoFimMarkers { .. } => Some("suffix".into()),
            Self::HealingWithConstraints => Some("token_healing".into()),
            Self::Text(
                TextError::EmptyStopString | TextError::TooManyStopStrings { .. } | TextError::StopStringTooLong { .. },
            ) => Some("stop".into()),
            Self::Ir { index, .. } => Some(format!("constraints[{index}]")),
            Self::Rules { index, source } => Some(match source.constraint() {
                Some(rule) => format!("constraints[{index}].sources.{rule}"),
                None => format!("constraints[{index}]"),
            }),
            Self::TooManyRules { .. } => Some("constraints.constraints".into()),
            Self::DescriptionTooLong { index, .. } => Some(format!("constraints.constraints[{index}].description")),
            Self::Clew(_) | Self::Braid(_) | Self::NothingMined { .. } | Self::ExtractionTimeout { .. } => {
                Some("context".into())
            }
            Self::Binding { field, .. } => Some((*field).to_owned()),
            Self::UnknownLanguage { .. } => Some("language".into()),
            Self::JudgeTimeout { .. } => Some("text".into()),
            Self::Profile(_) => Some("security".into()),
            Self::RemoteUnsupported { param, .. } => Some((*param).to_owned()),
            Self::Guide(error) | Self::Engine(EngineError::Guide(error)) => error.part().map(str::to_owned),
            _ => None,
        }
    }
}

fn remote_class(error: &RemoteError) -> ErrorClass {
    match error {
        RemoteError::Refused { status: 400 | 413 | 422, .. } => ErrorClass::Invalid,
        RemoteError::Refused { status: 429 | 503, .. } | RemoteError::LeftAlone { .. } => ErrorClass::Unavailable,
        RemoteError::Broken { .. } => ErrorClass::Unavailable,
        RemoteError::Busy { .. } => ErrorClass::Overloaded,
        RemoteError::Timeout { .. } | RemoteError::Stalled { .. } => ErrorClass::UpstreamTimeout,
        RemoteError::Address { .. } | RemoteError::Key { .. } | RemoteError::Authorities { .. } => {
            ErrorClass::Unavailable
        }
        _ => ErrorClass::Upstream,
    }
}

fn remote_code(error: &RemoteError) -> &'static str {
    match error {
        RemoteError::Refused { status: 400 | 413 | 422, .. } => "remote_refused",
        RemoteError::Refused { status: 429 | 503, .. } => "remote_overloaded",
        RemoteError::Refused { .. } | RemoteError::Status { .. } => "remote_failed",
        RemoteError::LeftAlone { .. } => "remote_left_alone",
        RemoteError::Broken { .. } | RemoteError::Transport { .. } => "remote_unreachable",
        RemoteError::Untrusted { .. } => "remote_untrusted",
        RemoteError::Busy { .. } => "overloaded",
        RemoteError::Timeout { .. } | RemoteError::Stalled { .. } => "remote_timeout",
        RemoteError::CutOff { .. } | RemoteError::Cut { .. } => "remote_cut_off",
        RemoteError::Reported { .. } => "remote_failed",
        RemoteError::Declined { .. } => "remote_declined",
        RemoteError::Malformed { .. } | RemoteError::TooLarge { .. } => "remote_malformed",
        RemoteError::Address { .. } | RemoteError::Key { .. } | RemoteError::Authorities { .. } => "remote_unavailable",
    }
}

fn guide_class(error: &GuideError) -> ErrorClass {
    match error {
        GuideError::Unsatisfiable { .. } | GuideError::UnknownSatisfiability { .. } | GuideError::DeadEnd { .. } => {
            ErrorClass::Unsatisfiable
        }
        GuideError::Aborted { .. } => ErrorClass::Overloaded,
        GuideError::NotAllowed { .. }
        | GuideError::Ended
        | GuideError::Rollback { .. }
        | GuideError::RowLength { .. }
        | GuideError::Internal { .. } => ErrorClass::Internal,
        _ => ErrorClass::Unprocessable,
    }
}

fn guide_code(error: &GuideError) -> &'static str {
    match error {
        GuideError::Aborted { .. } => "mask_aborted",
        GuideError::InvalidIr { .. } => "invalid_constraint_ir",
        GuideError::InvalidGrammar { .. } => "invalid_grammar",
        GuideError::InvalidRegex { .. } => "invalid_regex",
        GuideError::InvalidSchema { .. } => "invalid_schema",
        GuideError::UnsupportedSchema { .. } => "unsupported_schema",
        GuideError::UnsupportedPart { .. } => "unsupported_part",
        GuideError::TooLarge { .. } | GuideError::OverLimit { .. } => "constraint_too_large",
        GuideError::UnknownToken { .. } => "unknown_token",
        GuideError::OtherVocabulary { .. } => "other_vocabulary",
        GuideError::Unsatisfiable { .. } => "unsatisfiable",
        GuideError::UnknownSatisfiability { .. } => "unknown_satisfiability",
        GuideError::DeadEnd { .. } => "dead_end",
        GuideError::UnparsableContext { .. } => "unparsable_context",
        GuideError::LimitExceeded { .. } => "constraint_limit_exceeded",
        _ => "internal_error",
    }
}

fn engine_class(error: &EngineError) -> ErrorClass {
    match error {
        EngineError::QueueFull { .. } | EngineError::ShareFull { .. } => ErrorClass::Overloaded,
        EngineError::TooLong { .. } => ErrorClass::TooLarge,
        EngineError::EmptyPrompt => ErrorClass::Invalid,
        EngineError::Stopped => ErrorClass::Unavailable,
        _ => ErrorClass::Internal,
    }
}
