//! What can go wrong between an IR and a mask; every variant names the part and, where there is one, the place.

use serde::Serialize;

use super::liveness::UnknownWhy;
use crate::constraint::Digest;

/// A failure of the guide. No variant carries generated text.
///
/// `part` is a path into the IR: `json_schema`, `regex_patterns[0]`; with several IRs, `constraints[1].json_schema`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum GuideError {
    /// The IR contradicts itself (version, digest, either-or fields).
    #[error("{part}: {message}")]
    InvalidIr {
        /// The IR.
        part: String,
        /// What is wrong.
        message: String,
    },
    /// A grammar that cannot be read.
    #[error("{part}, line {line}, column {column}: {message}")]
    InvalidGrammar {
        /// The grammar.
        part: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A regular expression that cannot be read, or that has no exact meaning here.
    #[error("{part}, byte {offset}: {message}")]
    InvalidRegex {
        /// The pattern.
        part: String,
        /// Byte offset in the pattern, from 0.
        offset: usize,
        /// What is wrong.
        message: String,
    },
    /// A value in a schema that JSON Schema does not allow there.
    #[error("{part}#{pointer}: {message}")]
    InvalidSchema {
        /// The schema.
        part: String,
        /// JSON pointer to the value.
        pointer: String,
        /// What is wrong.
        message: String,
    },
    /// A keyword that cannot be enforced; it is never dropped silently.
    #[error("{part}#{pointer}: `{keyword}` is not supported: {message}")]
    UnsupportedSchema {
        /// The schema.
        part: String,
        /// JSON pointer to the keyword.
        pointer: String,
        /// The keyword.
        keyword: String,
        /// Why, and what to write instead where there is something.
        message: String,
    },
    /// A part that this build cannot enforce.
    #[error("{part} is not supported: {why}")]
    UnsupportedPart {
        /// The part.
        part: String,
        /// Why.
        why: String,
    },
    /// A part over a bound of [`GuideConfig`](super::GuideConfig).
    #[error("{part}: {what} is {size}; the limit is {limit}")]
    TooLarge {
        /// The part.
        part: String,
        /// What was counted.
        what: String,
        /// How much there is; for an aborted build, one over the limit.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// A part whose compilation was stopped at a bound of [`GuideConfig`](super::GuideConfig), so that nobody knows how
    /// much it takes.
    #[error("{part}: {what} takes more than {limit}; {}", how_to_shrink(setting.as_deref()))]
    OverLimit {
        /// The part.
        part: String,
        /// What was being done.
        what: String,
        /// The bound, with its unit.
        limit: String,
        /// The bound's name in [`GuideConfig`](super::GuideConfig); `None` for one that cannot be raised.
        setting: Option<String>,
    },
    /// A token id that the tokenizer does not have.
    #[error("{part}: token {token} is not in the vocabulary, which has {num_tokens} ids")]
    UnknownToken {
        /// The list.
        part: String,
        /// The id.
        token: u32,
        /// Number of ids.
        num_tokens: usize,
    },
    /// Token ids meant for another tokenizer.
    #[error("{part}: the ids belong to vocabulary {stated}, but {actual} is loaded")]
    OtherVocabulary {
        /// The part.
        part: String,
        /// Digest in the IR.
        stated: Digest,
        /// Digest of the loaded vocabulary.
        actual: Digest,
    },
    /// No output satisfies these parts together.
    #[error("no output satisfies {}", parts.join(" and "))]
    Unsatisfiable {
        /// The parts; each is needed for the contradiction where that was found out.
        parts: Vec<String>,
    },
    /// Nothing is known to satisfy the parts, and the IR asks to refuse what is not known to be satisfiable.
    #[error("it is not known whether any output satisfies the constraints: {why}; set `on_unknown` to `admit` to try")]
    UnknownSatisfiability {
        /// What stood in the way.
        why: UnknownWhy,
    },
    /// No token may follow, though the parts do not accept here.
    #[error("no token can follow byte {byte_offset} of the output under {}", parts.join(" and "))]
    DeadEnd {
        /// The parts that contradict each other; none can be left out.
        parts: Vec<String>,
        /// Bytes generated so far.
        byte_offset: usize,
    },
    /// The text around a hole that a part sees as one document with the output, and that does not begin or go on as it
    /// should.
    #[error("{part}: {why}")]
    UnparsableContext {
        /// The part.
        part: String,
        /// What is wrong with the text, and where.
        why: String,
    },
    /// A token that a part does not allow here.
    #[error("{part} does not allow token {token} here")]
    NotAllowed {
        /// The first part that refuses it.
        part: String,
        /// The token.
        token: u32,
    },
    /// An end token was accepted; nothing can follow.
    #[error("the output has ended")]
    Ended,
    /// A request to take back more tokens than were accepted.
    #[error("cannot take back {asked} tokens of {accepted}")]
    Rollback {
        /// Tokens to take back.
        asked: usize,
        /// Tokens accepted.
        accepted: usize,
    },
    /// A mask row of the wrong length.
    #[error("a mask row has {expected} words, not {actual}")]
    RowLength {
        /// Words per row for this vocabulary.
        expected: usize,
        /// Words given.
        actual: usize,
    },
    /// A part ran out of fuel while computing a mask; its matcher is lost.
    #[error("{part}: a mask needs more than its limit of work")]
    LimitExceeded {
        /// The part.
        part: String,
    },
    /// A mask that took longer than the engine waits for one; its matcher is lost.
    #[error("{part}: a mask took longer than this server waits for one; try again, or simplify the part")]
    Aborted {
        /// The part.
        part: String,
    },
    /// A fault of ours or of a library; it concerns this request alone.
    #[error("{part}: internal error: {message}")]
    Internal {
        /// The part.
        part: String,
        /// What happened.
        message: String,
    },
}

impl GuideError {
    /// The part that the failure speaks of, where it is one.
    #[must_use]
    pub fn part(&self) -> Option<&str> {
        match self {
            Self::InvalidIr { part, .. }
            | Self::InvalidGrammar { part, .. }
            | Self::InvalidRegex { part, .. }
            | Self::InvalidSchema { part, .. }
            | Self::UnsupportedSchema { part, .. }
            | Self::UnsupportedPart { part, .. }
            | Self::TooLarge { part, .. }
            | Self::OverLimit { part, .. }
            | Self::UnknownToken { part, .. }
            | Self::OtherVocabulary { part, .. }
            | Self::NotAllowed { part, .. }
            | Self::UnparsableContext { part, .. }
            | Self::LimitExceeded { part }
            | Self::Aborted { part }
            | Self::Internal { part, .. } => Some(part),
            Self::Unsatisfiable { parts } | Self::DeadEnd { parts, .. } => parts.first().map(String::as_str),
            Self::Ended | Self::Rollback { .. } | Self::RowLength { .. } | Self::UnknownSatisfiability { .. } => None,
        }
    }

    /// The error with every part named by `name`: for callers whose own fields became the parts.
    #[must_use]
    pub fn map_parts(mut self, name: impl Fn(&str) -> String) -> Self {
        match &mut self {
            Self::InvalidIr { part, .. }
            | Self::InvalidGrammar { part, .. }
            | Self::InvalidRegex { part, .. }
            | Self::InvalidSchema { part, .. }
            | Self::UnsupportedSchema { part, .. }
            | Self::UnsupportedPart { part, .. }
            | Self::TooLarge { part, .. }
            | Self::OverLimit { part, .. }
            | Self::UnknownToken { part, .. }
            | Self::OtherVocabulary { part, .. }
            | Self::NotAllowed { part, .. }
            | Self::UnparsableContext { part, .. }
            | Self::LimitExceeded { part }
            | Self::Aborted { part }
            | Self::Internal { part, .. } => *part = name(part),
            Self::Unsatisfiable { parts } | Self::DeadEnd { parts, .. } => {
                parts.iter_mut().for_each(|part| *part = name(part));
            }
            Self::UnknownSatisfiability { .. } | Self::Ended | Self::Rollback { .. } | Self::RowLength { .. } => {}
        }
        self
    }

    /// The part for errors that come from one place in the IR.
    pub(crate) fn internal(part: &str, message: impl Into<String>) -> Self {
        Self::Internal { part: part.to_owned(), message: message.into() }
    }

    /// The same for a regular expression that begins `num_bytes` into the pattern.
    pub(crate) fn moved_by(mut self, num_bytes: usize) -> Self {
        if let Self::InvalidRegex { offset, .. } = &mut self {
            *offset += num_bytes;
        }
        self
    }

    /// [`Self::TooLarge`] when `size` is over `limit`.
    pub(crate) fn check_size(part: &str, what: &str, size: usize, limit: usize) -> Result<(), Self> {
        if size <= limit {
            return Ok(());
        }
        Err(Self::TooLarge { part: part.to_owned(), what: what.to_owned(), size: size as u64, limit: limit as u64 })
    }
}

/// What can be done about a part that is over a limit.
fn how_to_shrink(setting: Option<&str>) -> String {
    let advice = "by how much is not known, for the work stops there; use fewer or shorter patterns and rules";
    match setting {
        Some(setting) => format!("{advice}, or a greater `{setting}`"),
        None => advice.to_owned(),
    }
}
