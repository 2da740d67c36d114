//! The audit log: what was asked and how it ended, one JSON object a line, in a chain that shows what became of it.
//!
//! Each line carries a number, the MAC of the line before it, and its own MAC under a key that does not lie beside the
//! log. So a line says by itself whether it is what was written, and its number where it belongs: whoever changes,
//! removes or moves one without the key is found by [`verify()`]. What a chain cannot show, that its end is missing, a
//! [`Head`] shows that is kept elsewhere.
//!
//! The MAC is BLAKE3 in its keyed mode: it is in the tree, it is a MAC without HMAC's two passes, and the keys for lines
//! and for naming the key are derived from the one in the file.
//!
//! One thread writes. A record has its place in a bounded queue before its request is admitted, the end of the reply
//! included, so that neither a full disk nor a client that leaves costs a record: what cannot be written stops
//! admission instead. This module knows nothing of HTTP.

mod error;
mod folder;
mod head;
mod key;
mod line;
mod log;
mod record;
mod recover;
mod refusals;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, str::FromStr, time::Duration};

use serde::Deserialize;

pub use error::AuditError;
pub use head::{Head, read_head};
pub use key::AuditKey;
pub use log::AuditLog;
pub(crate) use log::{Entry, Unavailable};
pub(crate) use record::{ChoiceRecord, PromptRecord, PromptSource, Refusal, Reply, ReplyStatus, Request, hash_of};
pub use verify::{Finding, FindingKind, Outcome, Summary, verify};

/// Where the log lies, what is in it, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// The folder of the segments; made where it is missing.
    pub dir: PathBuf,
    /// The file of the key: 64 hex digits, for its owner alone.
    pub key_file: PathBuf,
    /// When records are forced to the disk. Default: every second.
    pub fsync: FsyncPolicy,
    /// What is kept of prompts. Default: their BLAKE3.
    pub prompts: PromptPolicy,
    /// A segment that would grow past this many bytes is ended and the next begun. Default: 64 MiB; a start of the
    /// server reads the last two.
    pub segment_bytes: u64,
    /// A checkpoint after so many records. Default: 1,000.
    pub checkpoint_records: u64,
    /// Records that may wait to be written; each request takes two, one for its end. Default: 4,096.
    pub queue_records_max: usize,
    /// Bytes of those records. Default: 64 MiB.
    pub queue_bytes_max: usize,
    /// Requests refused before they are admitted that are written down each second, after a burst of five seconds' worth;
    /// what is over is counted. Default: 20, some 5 KB; 0 writes none.
    pub refusals_per_second_max: u32,
    /// How long after a failed write the next is tried. Default: 500 ms.
    pub retry_every: Duration,
    /// How long [`AuditLog::close`] tries before it gives up on a disk that takes nothing. Default: 5 s.
    pub close_wait_max: Duration,
}

impl AuditConfig {
    /// The defaults, for a folder and a key.
    #[must_use]
    pub fn new(dir: PathBuf, key_file: PathBuf) -> Self {
        Self {
            dir,
            key_file,
            fsync: FsyncPolicy::default(),
            prompts: PromptPolicy::default(),
            segment_bytes: 64 << 20,
            checkpoint_records: 1_000,
            queue_records_max: 4_096,
            queue_bytes_max: 64 << 20,
            refusals_per_second_max: 20,
            retry_every: Duration::from_millis(500),
            close_wait_max: Duration::from_secs(5),
        }
    }
}

/// When records are forced to the disk. Under each of them a request is admitted only after its record was written, so
/// that the death of the process alone loses nothing; the policies differ in what a loss of power takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum FsyncPolicy {
    /// Before a request is admitted, and before the end of its reply is sent. Loses nothing that was answered.
    Always,
    /// After this time at the latest, or after 1 MiB. Loses no more than that.
    Interval(Duration),
    /// When the operating system likes to.
    Never,
}

impl Default for FsyncPolicy {
    fn default() -> Self {
        Self::Interval(Duration::from_secs(1))
    }
}

/// Longest interval between two fsyncs.
const FSYNC_INTERVAL_MAX_MS: u64 = 3_600_000;

impl FromStr for FsyncPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let interval = |ms: &str| {
            let ms = ms.parse().ok().filter(|ms| (1..=FSYNC_INTERVAL_MAX_MS).contains(ms));
            ms.map(|ms| Self::Interval(Duration::from_millis(ms)))
        };
        let policy = match text {
            "always" => Some(Self::Always),
            "never" => Some(Self::Never),
            "interval" => Some(Self::default()),
            _ => text.strip_prefix("interval:").and_then(interval),
        };
        policy.ok_or_else(|| {
            format!("`{text}` is none of always, interval, interval:MS (1 to {FSYNC_INTERVAL_MAX_MS}) and never")
        })
    }
}

impl TryFrom<String> for FsyncPolicy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FsyncPolicy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Interval(_) => "interval",
            Self::Never => "never",
        }
    }
}

/// What is kept of prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptPolicy {
    /// Their BLAKE3 and their length.
    #[default]
    Hash,
    /// Also their text, up to 1 MiB a request.
    Text,
}

impl PromptPolicy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Text => "text",
        }
    }
}
