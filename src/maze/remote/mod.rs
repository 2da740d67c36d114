//! A remote model in place of the local one: the same requests, the same replies, and the same claims.
//!
//! Nothing is known here of the remote model's tokens, so constraints are compiled over bytes, in which every text has one
//! split, and its text is walked byte by byte as it comes ([`answer`]). What takes the tokens themselves (lists of ids,
//! biases, log-probabilities, holes, token counts in an IR) is refused by name.

mod answer;
mod enforce;

use std::sync::Arc;

use serde::Serialize;

use self::answer::Job;
pub(super) use self::answer::{RemoteEnd, RemoteStream};
use super::backend::ChoiceStream;
use super::{Error, GenerateRequest, Maze, Prompt, TokenizedPrompt};
use crate::constraint::ConstraintIr;
use crate::guide::CompiledConstraint;
use crate::remote::{Ask, Backend, Input, RemoteError};

/// What a reply says of the remote model that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemoteRecord {
    /// Host and port of the server.
    pub host: String,
    /// What it speaks.
    pub service: &'static str,
    /// The parts that it was asked to enforce, as paths into the IRs. All parts were walked here.
    pub asked_to_enforce: Vec<String>,
}

/// What one choice of a remote model took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RemoteStats {
    /// How often it was asked for.
    pub num_attempts: u32,
    /// Whether the server counted the tokens; else the pieces in which the text came are counted.
    pub tokens_are_counted: bool,
}

/// The choices of one request, not yet asked for.
pub(super) struct Jobs {
    jobs: Vec<Job>,
    record: RemoteRecord,
}

impl Jobs {
    pub(super) fn record(&self) -> RemoteRecord {
        self.record.clone()
    }

    /// Begins to ask, each choice in a task of its own.
    pub(super) fn start(self) -> Vec<ChoiceStream> {
        self.jobs.into_iter().map(|job| ChoiceStream::Remote(job.start())).collect()
    }
}

/// The prompt as a remote model is given it. What stands before the output is a text, or for a chat nothing: its template
/// is not known here.
///
/// # Errors
/// [`Error::RemoteUnsupported`] for a prompt that takes the model's tokens.
pub(super) fn read_prompt(maze: &Maze, prompt: &Prompt) -> Result<TokenizedPrompt, Error> {
    let unsupported = |param, reason| Err(Error::RemoteUnsupported { param, reason });
    let text = match prompt {
        Prompt::Text(text) => {
            maze.check_prompt_bytes(text.len())?;
            text.clone()
        }
        Prompt::Chat(messages) => {
            maze.check_prompt_bytes(messages.iter().map(|message| message.content.len()).sum())?;
            String::new()
        }
        Prompt::Tokens(_) => return unsupported("prompt", "the token ids of a remote model are not known here"),
        Prompt::Unfinished(_) => return unsupported("token_healing", "it takes the model's tokens"),
        Prompt::Hole(_) => return unsupported("suffix", "filling a hole takes the model's own markers"),
    };
    Ok(TokenizedPrompt { text, ..TokenizedPrompt::default() })
}

/// Refuses what takes the tokens of the model.
///
/// # Errors
/// [`Error::RemoteUnsupported`].
pub(super) fn check(request: &GenerateRequest) -> Result<(), Error> {
    let asks_logprobs = request.num_logprobs.or(request.num_prompt_logprobs).is_some();
    let refused = [
        ("logprobs", asks_logprobs, "a remote model's log-probabilities are over tokens of its own"),
        ("logit_bias", !request.sampling.logit_bias.is_empty(), "the token ids of a remote model are not known here"),
    ];
    match refused.into_iter().find(|(_, is_asked, _)| *is_asked) {
        Some((param, _, reason)) => Err(Error::RemoteUnsupported { param, reason }),
        None => request.constraints.iter().try_for_each(|ir| check_constraint(ir, "constraints")),
    }
}

/// Refuses a constraint on the tokens of the model, which `param` states: text has none of them here.
///
/// # Errors
/// [`Error::RemoteUnsupported`].
pub(super) fn check_constraint(ir: &ConstraintIr, param: &'static str) -> Result<(), Error> {
    let reason = if ir.token_masks.is_some() {
        "`token_masks` name ids, and those of a remote model are not known here"
    } else if ir.limits.max_tokens.is_some() {
        "`limits.max_tokens` counts tokens of a local model; send `max_tokens` beside it"
    } else {
        return Ok(());
    };
    Err(Error::RemoteUnsupported { param, reason })
}

/// Takes places for the choices of a request and prepares to ask for them.
///
/// # Errors
/// [`Error::RemoteUnsupported`] for what the server has no name for, [`RemoteError::Busy`].
pub(super) fn prepare(
    backend: &Arc<Backend>,
    request: &GenerateRequest,
    prompt: &TokenizedPrompt,
    compiled: &Arc<CompiledConstraint>,
    (max_tokens, seed): (u32, u64),
) -> Result<Jobs, Error> {
    let config = backend.config();
    let input = input(&request.prompt);
    let asked = enforce::pick(&request.constraints, config.service, &input);
    let sampling = &request.sampling;
    let mut ask = Ask {
        input,
        enforce: asked.enforce,
        max_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        repetition_penalty: sampling.repetition_penalty,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        seed: request.seed,
    };
    if let Some(param) = config.service.lacks(&ask) {
        let reason = "the remote server has no name for it; leave it out";
        return Err(Error::RemoteUnsupported { param, reason });
    }
    ask.seed = Some(seed);
    let places = backend.take_places(request.num_choices)?;
    let jobs = places.into_iter().zip(0..).map(|(place, choice)| Job {
        backend: backend.clone(),
        ask: ask.clone(),
        choice,
        compiled: compiled.clone(),
        prompt: prompt.text.clone(),
        is_whole: request.whole,
        place,
    });
    let record = RemoteRecord {
        host: config.address.host().to_owned(),
        service: config.service.as_str(),
        asked_to_enforce: asked.parts,
    };
    Ok(Jobs { jobs: jobs.collect(), record })
}

fn input(prompt: &Prompt) -> Input {
    match prompt {
        Prompt::Chat(messages) => {
            let pairs = messages.iter().map(|message| (message.role.clone(), message.content.clone()));
            Input::Chat(pairs.collect())
        }
        Prompt::Text(text) | Prompt::Unfinished(text) => Input::Text(text.clone()),
        // Refused when the prompt was read.
        Prompt::Tokens(_) | Prompt::Hole(_) => Input::Text(String::new()),
    }
}

impl Maze {
    /// Whether the remote server, where there is one, says that it is there.
    ///
    /// # Errors
    /// Why not.
    pub async fn check_remote(&self) -> Result<(), RemoteError> {
        match &self.inner.backend {
            super::backend::Backend::Local(_) => Ok(()),
            super::backend::Backend::Remote(remote) => remote.check_health().await,
        }
    }

    /// Refuses what only a model in this process can do.
    pub(super) fn expect_local(&self, param: &'static str, reason: &'static str) -> Result<(), Error> {
        match &self.inner.backend {
            super::backend::Backend::Local(_) => Ok(()),
            super::backend::Backend::Remote(_) => Err(Error::RemoteUnsupported { param, reason }),
        }
    }
}
