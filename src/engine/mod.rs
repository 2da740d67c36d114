//! The loop that turns requests into tokens: admission, scheduling, masks, forward pass, sampling.
//!
//! One thread owns every sequence, block and matcher; there is no lock in this folder.
//! Callers hold an [`EngineHandle`], a bounded sender into the thread, and get one [`TokenStream`] per sequence back.
//! Prefill, chunk, resume after preemption and decode are one path: a sequence has tokens that are not computed yet,
//! and a step computes some of them.
//!
//! The engine knows token ids only. Text, stop strings and verdicts are the maze's business.

mod block_pool;
mod config;
mod error;
mod mask_workers;
mod request;
mod runner;
mod scheduler;
mod sequence;
mod stats;
mod thread;
mod time_slice;
mod waiting;

pub use config::EngineConfig;
pub use error::EngineError;
pub use request::{EngineHandle, FinishReason, Finished, Salt, SequenceRequest, TokenEvent, TokenStream};
pub use stats::{Distribution, EngineStats, StatsSnapshot};
pub use thread::Engine;
pub use waiting::Tenant;
