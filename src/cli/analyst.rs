//! A model that is asked about code: behind an address that was given, or in this process. Without a flag there is none.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::load_progress;
use crate::config::ConfigError;
use crate::constraint::ConstraintIr;
use crate::maze::{
    self, EmbeddedModel, FinishReason, GenerateRequest, Maze, Message, ModelSource, OpenOptions, Prompt, SamplingParams,
};
use crate::remote::{Address, Dialect, Endpoint, Key, Question};

/// Bytes of a key file that are read.
const KEY_FILE_BYTES_MAX: u64 = 8 * 1024;
/// Positions that a model in this process is asked with, at most: its KV cache is as large.
const LOCAL_CONTEXT_MAX: usize = 32 * 1024;

/// Whom to ask, if anybody. No environment variable names a model or a key.
#[derive(Debug, Args)]
pub(super) struct AnalystArgs {
    /// Ask a model at this base address, such as http://127.0.0.1:8000/v1. What it is asked about (source text, or
    /// rules in conflict) is sent there, once. Without an answer the result is what it is without a model.
    #[arg(long, value_name = "URL", requires = "semantic_model", conflicts_with = "semantic_local")]
    semantic_url: Option<String>,
    /// What the server calls the model.
    #[arg(long, value_name = "NAME", requires = "semantic_url")]
    semantic_model: Option<String>,
    /// What the server speaks [default: openai].
    #[arg(long, value_enum, value_name = "DIALECT", requires = "semantic_url")]
    semantic_dialect: Option<DialectArg>,
    /// A file that holds the server's key, and nothing else.
    #[arg(long, value_name = "FILE", requires = "semantic_url")]
    semantic_key_file: Option<PathBuf>,
    /// Ask a model in this process, without network: a folder, a .gguf file, or a repository that is in the cache
    /// [default: the model in this binary].
    #[arg(long, value_name = "MODEL", num_args = 0..=1, require_equals = true)]
    semantic_local: Option<Option<String>>,
    /// Seconds the answer may take; loading a model in this process is not counted.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    semantic_timeout: u64,
    /// Tokens the answer may have; in this process, at most a quarter of the model's context.
    #[arg(long, value_name = "TOKENS", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(16..=65536))]
    semantic_max_tokens: u32,
    /// Never open a connection that leaves this machine.
    #[arg(long, env = "ANANKE_OFFLINE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    offline: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DialectArg {
    /// Chat completions, as OpenAI and the self-hosted servers have them.
    Openai,
    /// Messages, as Anthropic has them.
    Anthropic,
}

/// Whom to ask, checked; nothing is opened yet.
pub(super) struct Analyst {
    place: Place,
    timeout: Duration,
    max_tokens: u32,
}

enum Place {
    Remote(Endpoint),
    Local(Box<OpenOptions>),
}

/// A model that can be asked now.
pub(super) enum OpenAnalyst {
    Remote { endpoint: Endpoint, max_tokens: u32 },
    Local { maze: Maze, timeout: Duration, max_tokens: u32 },
}

impl AnalystArgs {
    /// The analyst that the flags name; `None` without one.
    ///
    /// # Errors
    /// What the flags have wrong: an address, a key, a model that is not there, a connection that `--offline` excludes.
    pub(super) fn analyst(&self, embedded: Option<EmbeddedModel>) -> anyhow::Result<Option<Analyst>> {
        let timeout = Duration::from_secs(self.semantic_timeout);
        let place = match (&self.semantic_url, &self.semantic_local) {
            (Some(url), _) => Place::Remote(self.endpoint(url, timeout)?),
            (None, Some(model)) => Place::Local(Box::new(local_options(model.as_deref(), embedded)?)),
            (None, None) => return Ok(None),
        };
        Ok(Some(Analyst { place, timeout, max_tokens: self.semantic_max_tokens }))
    }

    fn endpoint(&self, url: &str, timeout: Duration) -> anyhow::Result<Endpoint> {
        let address = Address::parse(url).context("--semantic-url")?;
        if self.offline == Some(true) && !address.is_loopback() {
            return Err(ConfigError::OfflineAddress { host: address.host().to_owned() }.into());
        }
        let key = self.semantic_key_file.as_deref().map(read_key).transpose()?;
        let Some(model) = self.semantic_model.clone() else { bail!("--semantic-url needs --semantic-model") };
        let dialect = match self.semantic_dialect {
            None | Some(DialectArg::Openai) => Dialect::Openai,
            Some(DialectArg::Anthropic) => Dialect::Anthropic,
        };
        Ok(Endpoint { address, dialect, model, key, timeout })
    }
}

/// A model that opens no connection and has memory for one sequence.
fn local_options(model: Option<&str>, embedded: Option<EmbeddedModel>) -> Result<OpenOptions, ConfigError> {
    let source = match (model, embedded) {
        (Some(name), _) => ModelSource::parse(name).map_err(Box::new).map_err(ConfigError::Model)?,
        (None, Some(embedded)) => ModelSource::Embedded(embedded),
        (None, None) => return Err(ConfigError::NoLocalModel),
    };
    let progress = Some(load_progress());
    let mut options = OpenOptions { offline: true, progress, ..OpenOptions::new(source) };
    options.context_len_max = Some(LOCAL_CONTEXT_MAX);
    options.engine.num_seqs_max = 1;
    Ok(options)
}

/// The key in a file; what the file says is in no error.
fn read_key(path: &Path) -> anyhow::Result<Key> {
    let name = || format!("--semantic-key-file {}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(name)?;
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).with_context(name)?;
    Key::new(&text).with_context(name)
}

impl Analyst {
    /// Loads what has to be loaded.
    ///
    /// # Errors
    /// A model in this process that cannot be loaded.
    pub(super) fn open(self) -> anyhow::Result<OpenAnalyst> {
        let Self { place, timeout, max_tokens } = self;
        match place {
            Place::Remote(endpoint) => Ok(OpenAnalyst::Remote { endpoint, max_tokens }),
            Place::Local(options) => {
                let maze = maze::open(*options)?;
                let max_tokens = max_tokens.min(u32::try_from(maze.model().context_len / 4).unwrap_or(u32::MAX)).max(1);
                Ok(OpenAnalyst::Local { maze, timeout, max_tokens })
            }
        }
    }
}

impl OpenAnalyst {
    /// A question with room for as long an answer as there may be.
    pub(super) fn question<'a>(
        &self,
        (system, user): (&'a str, &'a str),
        answer_name: &'a str,
        schema: &'a Value,
    ) -> Question<'a> {
        let (Self::Remote { max_tokens, .. } | Self::Local { max_tokens, .. }) = self;
        Question { system, user, answer_name, schema, max_tokens: *max_tokens }
    }

    /// What answers.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Remote { endpoint, .. } => &endpoint.model,
            Self::Local { maze, .. } => &maze.model().id,
        }
    }

    /// Whether a question leaves room for its answer; of a remote model that is not known, and `true`.
    ///
    /// # Errors
    /// A question that cannot be tokenized.
    pub(super) fn fits(&self, question: &Question<'_>) -> anyhow::Result<bool> {
        let Self::Local { maze, max_tokens, .. } = self else { return Ok(true) };
        let num_tokens = match prompt(maze, question) {
            Prompt::Chat(messages) => maze.tokenizer().encode_chat(&messages, true)?.len(),
            Prompt::Text(text) | Prompt::Unfinished(text) => {
                maze.tokenizer().encode(&text, maze.tokenizer().adds_bos())?.len()
            }
            Prompt::Tokens(ids) => ids.len(),
            Prompt::Hole(_) => anyhow::bail!("a question has no hole"),
        };
        Ok(num_tokens + *max_tokens as usize <= maze.model().context_len)
    }

    /// Asks once, and gives the text of the answer.
    ///
    /// # Errors
    /// Whatever kept the answer from being whole.
    pub(super) fn ask(&self, question: &Question<'_>) -> anyhow::Result<String> {
        match self {
            Self::Remote { endpoint, .. } => Ok(endpoint.ask(question)?),
            Self::Local { maze, timeout, .. } => ask_local(maze, *timeout, question),
        }
    }
}

fn prompt(maze: &Maze, question: &Question<'_>) -> Prompt {
    if maze.model().has_chat_template {
        Prompt::Chat(vec![Message::new("system", question.system), Message::new("user", question.user)])
    } else {
        Prompt::Text(format!("{}\n\n{}", question.system, question.user))
    }
}

/// Generates the answer under its schema, the most likely token each time.
fn ask_local(maze: &Maze, timeout: Duration, question: &Question<'_>) -> anyhow::Result<String> {
    let request = GenerateRequest {
        prompt: prompt(maze, question),
        constraints: vec![ConstraintIr { json_schema: Some(question.schema.clone()), ..ConstraintIr::default() }],
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        max_tokens: Some(question.max_tokens),
        num_choices: 1,
        seed: Some(0),
        ..GenerateRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let generated = async { maze.generate(request).await?.collect().await };
    let generated = runtime.block_on(async { tokio::time::timeout(timeout, generated).await });
    // Work beside the runtime that is late is not waited for.
    runtime.shutdown_background();
    let Ok(completed) = generated else {
        bail!("{} did not answer within {} s", maze.model().id, timeout.as_secs());
    };
    let Some(choice) = completed?.into_iter().next() else { bail!("{} gave no answer", maze.model().id) };
    if choice.finish.reason != FinishReason::Stop || !choice.finish.validation.all_satisfied {
        bail!("the answer of {} is not whole: it ended with `{}`", maze.model().id, choice.finish.reason.as_str());
    }
    Ok(choice.text)
}

/// An error and its causes on one line, without what an error already says of its own cause.
pub(super) fn message(error: &anyhow::Error) -> String {
    let whole = error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.contains(&cause) {
        true => text,
        false if text.is_empty() => cause,
        false => format!("{text}: {cause}"),
    });
    whole.split_whitespace().collect::<Vec<_>>().join(" ")
}
