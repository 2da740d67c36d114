//! What can go wrong between a submitted sequence and its last token.

use crate::guide::GuideError;
use crate::kernels::sampling::SamplingError;
use crate::model::ModelError;

/// Why a request was refused or ended early.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// As many requests wait as the queue holds.
    #[error("{limit} requests are waiting already; try again later")]
    QueueFull {
        /// `queue_len_max`.
        limit: usize,
    },
    /// As many requests of one tenant wait as there are free places, which are for others.
    #[error("the waiting requests of this client have filled its share of the {limit} that may wait; try again later")]
    ShareFull {
        /// `queue_len_max`.
        limit: usize,
    },
    /// A sequence that no empty pool could hold.
    #[error(
        "the sequence needs {num_tokens} tokens of KV memory and the pool holds {limit}; raise --kv-memory or ask for fewer tokens"
    )]
    TooLong {
        /// Prompt and `max_tokens`.
        num_tokens: usize,
        /// What the pool holds.
        limit: usize,
    },
    /// A prompt without a single token.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// The engine thread has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// A mask could not be computed or a token not accepted.
    #[error(transparent)]
    Guide(#[from] GuideError),
    /// The forward pass failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The row could not be sampled.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A defect of the server; every request in the step fails, the weights stay.
    #[error("the engine failed: {message}")]
    Internal {
        /// What the panic said.
        message: String,
    },
}
