//! Why a log could not be opened, read or ended.

use std::{io, path::PathBuf};

use super::Finding;

/// Why a log could not be opened, read or ended.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file or folder of the log cannot be read or written.
    #[error("audit log: cannot {action} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file of the key holds something else.
    #[error("audit key {}: expected 64 hex digits on one line; make one with `openssl rand -hex 32`", path.display())]
    KeyMalformed {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read the key.
    #[error(
        "audit key {}: mode {mode:03o} lets others read it; run `chmod 600` on it, or make a new key if it was read",
        path.display()
    )]
    KeyReadable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process writes this log.
    #[error("audit log {}: another server writes it; give each server a folder of its own", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The end of the log is not what was written under this key.
    #[error(
        "audit log: {finding}; a log that does not verify is not continued: look at it with `ananke audit verify`, \
         then move the folder away or name another"
    )]
    NotWhole {
        /// The first thing found.
        finding: Box<Finding>,
    },
    /// There is no segment to check.
    #[error("{} holds no segment of an audit log (audit-000001.jsonl and so on)", path.display())]
    NoSegments {
        /// The folder.
        path: PathBuf,
    },
    /// The head is of another segment than the one that is checked.
    #[error("the head is of segment {head}, and only segment {checked} was to be checked; give the folder instead")]
    HeadElsewhere {
        /// The segment that the head names.
        head: u64,
        /// The segment of the file.
        checked: u64,
    },
    /// The file of a head holds something else.
    #[error("{} is no head as `ananke audit head` prints it: {reason}", path.display())]
    HeadMalformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No complete line to take a head from.
    #[error("{} holds no complete record", path.display())]
    NoRecord {
        /// The file.
        path: PathBuf,
    },
    /// The disk took nothing up to the end.
    #[error("audit log: {records} records could not be written before the end: {reason}")]
    NotWritten {
        /// How many were lost.
        records: usize,
        /// Why.
        reason: String,
    },
}

impl AuditError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
