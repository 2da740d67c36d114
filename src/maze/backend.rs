//! Where text comes from: the engine in this process, or a model server behind an address.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::Error;
use super::remote::{RemoteEnd, RemoteStream};
use crate::engine::{EngineHandle, Finished, TokenEvent, TokenStream};
use crate::kernels::sampling::TokenLogprobs;
use crate::remote;

/// What generates.
pub(super) enum Backend {
    /// A model in this process, which masks bind token by token.
    Local(EngineHandle),
    /// A model elsewhere, whose text is walked as it comes.
    Remote(Arc<remote::Backend>),
}

/// What comes of a choice, in order: what was asked of the prompt, tokens or text, then one end.
pub(super) enum ChoiceEvent {
    Prompt(Vec<TokenLogprobs>),
    Token { id: u32, logprobs: Option<TokenLogprobs> },
    Text(String),
    Finished(Finished),
    RemoteFinished(RemoteEnd),
    Failed(Error),
}

/// One choice as it comes. Dropping it ends the work on it.
pub(super) enum ChoiceStream {
    Local(TokenStream),
    Remote(RemoteStream),
}

impl ChoiceStream {
    /// Polls for the next event; `None` after the end.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<ChoiceEvent>> {
        match self {
            Self::Local(stream) => stream.poll_next(context).map(|event| event.map(ChoiceEvent::from)),
            Self::Remote(stream) => stream.poll_next(context),
        }
    }

    /// Takes all that has come and was not taken, and says how many tokens or pieces of text it was.
    pub(super) fn drain(&mut self) -> usize {
        match self {
            Self::Local(stream) => stream.drain(),
            Self::Remote(stream) => stream.drain(),
        }
    }
}

impl From<TokenEvent> for ChoiceEvent {
    fn from(event: TokenEvent) -> Self {
        match event {
            TokenEvent::Prompt(scores) => Self::Prompt(scores),
            TokenEvent::Token { id, logprobs } => Self::Token { id, logprobs },
            TokenEvent::Finished(finished) => Self::Finished(finished),
            TokenEvent::Failed(error) => Self::Failed(error.into()),
        }
    }
}
