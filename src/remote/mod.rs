//! Models behind an HTTP address.
//!
//! A [`Backend`] is a model server that answers in place of a local model: its text comes in pieces as it is made, and
//! what it costs is bounded in `backend.rs`. What each kind of server speaks is in `service.rs`.
//!
//! A [`Post`] hands bodies to a server that is no model.
//!
//! An [`Endpoint`] is asked one question, and its answer is text that should be JSON of a given schema. Two dialects are spoken: OpenAI's chat completions, which the self-hosted servers speak too, and Anthropic's
//! messages. The schema travels with the question in the way the dialect has for it; whether the answer keeps to it is
//! for the caller to judge, because nothing that comes back is trusted.
//!
//! What a question may cost is bounded: one request and no retry, no redirect followed, no proxy, one time limit from
//! the name's look-up to the last byte, and so many bytes of answer. Nothing here reads an environment variable.

mod backend;
mod client;
mod dialect;
mod endpoint;
mod post;
mod retry;
mod service;
mod sse;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

pub use backend::{Backend, BackendConfig, BackendStats, Pieces, Place};
pub use dialect::Dialect;
pub use endpoint::{Address, Key};
pub use post::Post;
pub use retry::backoff;
use serde_json::Value;
pub use service::{Ask, End, EndReason, Enforce, Input, Piece, Service, Usage};

/// Bytes of a reply that are read, after decompression. Default of every request: 1 MiB.
pub const REPLY_BYTES_MAX: usize = 1 << 20;
/// Bytes of an error reply that are quoted.
const QUOTED_BYTES_MAX: usize = 300;

/// A model that can be asked over HTTP.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// What it speaks.
    pub dialect: Dialect,
    /// What the server calls it.
    pub model: String,
    /// What opens the server; `None` sends no key.
    pub key: Option<Key>,
    /// How long one question may take, from looking up the name to the last byte.
    pub timeout: Duration,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What the model is to do.
    pub system: &'a str,
    /// What it is to do it with.
    pub user: &'a str,
    /// What the answer is called, in letters, digits and `_`.
    pub answer_name: &'a str,
    /// The JSON Schema of the answer.
    pub schema: &'a Value,
    /// Tokens of the answer, at most.
    pub max_tokens: u32,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Not an address that can be asked.
    #[error("`{url}` is no address that can be asked: {why}")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a key that can be sent.
    #[error("no key that can be sent: {why}")]
    Key {
        /// What is wrong with it; never the key.
        why: &'static str,
    },
    /// No whole reply came in time.
    #[error("{host} did not answer within {} s", limit.as_secs())]
    Timeout {
        /// Who was asked.
        host: String,
        /// How long it had.
        limit: Duration,
    },
    /// No connection, a connection that broke, or something that is no HTTP.
    #[error("{host} cannot be asked: {source}")]
    Transport {
        /// Who was asked.
        host: String,
        /// What the client says.
        #[source]
        source: Box<ureq::Error>,
    },
    /// An error status, or a redirect, which is not followed.
    #[error("{host} answered with status {status}{}", quoted(said))]
    Status {
        /// Who was asked.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The start of what it said.
        said: String,
    },
    /// An error status of a backend.
    #[error("{host} answered with status {status}{}", quoted(said))]
    Refused {
        /// Who was asked.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The start of what it said.
        said: String,
        /// When it wants to be asked again, where it says so.
        retry_after: Option<Duration>,
    },
    /// No connection to a backend, or one that broke.
    #[error("the connection to {host} failed: {why}")]
    Broken {
        /// Who was asked.
        host: String,
        /// What the client says.
        why: String,
    },
    /// A backend showed a certificate that none of the authorities vouches for, or one of another host. Nothing was sent.
    #[error("{host} is not trusted: {why}; name the authority that signed its certificate, or mend the certificate")]
    Untrusted {
        /// Who was asked.
        host: String,
        /// What is wrong with its certificate.
        why: String,
    },
    /// Nothing came from a backend for too long.
    #[error("{host} was silent for {} s", limit.as_secs_f64())]
    Stalled {
        /// Who was asked.
        host: String,
        /// How long it may be.
        limit: Duration,
    },
    /// An answer stopped coming before its end.
    #[error("the answer of {host} broke off before its end")]
    CutOff {
        /// Who was asked.
        host: String,
    },
    /// A backend says in the middle of an answer that it failed.
    #[error("{host} reports an error{}", quoted(said))]
    Reported {
        /// Who was asked.
        host: String,
        /// The start of what it said.
        said: String,
    },
    /// A backend that failed too often is not asked for a while.
    #[error("{host} failed several times in a row and is left alone for {} s", retry_after.as_secs_f64())]
    LeftAlone {
        /// Who was asked.
        host: String,
        /// For how long in all.
        retry_after: Duration,
    },
    /// As many answers as may be are under way.
    #[error("{limit} answers of {host} are under way, which is all that this server asks for at once")]
    Busy {
        /// Who was asked.
        host: String,
        /// `num_answers_max`.
        limit: u32,
    },
    /// The authorities that a backend is known by cannot be read.
    #[error("the authorities in {}: {why}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The reply is over the limit.
    #[error("the reply of {host} has more than {limit} bytes")]
    TooLarge {
        /// Who was asked.
        host: String,
        /// How many may come.
        limit: usize,
    },
    /// The reply is not what the dialect has for an answer.
    #[error("the reply of {host} is none of its dialect: {why}")]
    Malformed {
        /// Who was asked.
        host: String,
        /// What is missing or wrong.
        why: String,
    },
    /// The model stopped before the end of its answer.
    #[error("the answer of {host} is cut off: it ended with `{reason}`")]
    Cut {
        /// Who was asked.
        host: String,
        /// The reason in the dialect's words.
        reason: String,
    },
    /// The model declined.
    #[error("the model at {host} declined{}", quoted(said))]
    Declined {
        /// Who was asked.
        host: String,
        /// The start of what it said.
        said: String,
    },
}

impl RemoteError {
    /// Whether the same question may be answered when it is asked again.
    #[must_use]
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            Self::Broken { .. } | Self::Stalled { .. } | Self::CutOff { .. } | Self::Reported { .. } => true,
            _ => false,
        }
    }

    /// When the server wants to be asked again, or is asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::LeftAlone { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether it is the server that failed, and not the question, or too many of them.
    fn is_of_the_server(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status >= 500,
            Self::Broken { .. }
            | Self::Untrusted { .. }
            | Self::Stalled { .. }
            | Self::CutOff { .. }
            | Self::Reported { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. } => true,
            _ => false,
        }
    }
}

impl Endpoint {
    /// Asks once, and gives the text of the answer.
    ///
    /// Blocks for at most [`timeout`](Self::timeout).
    ///
    /// # Errors
    /// [`RemoteError`], which never quotes the key.
    pub fn ask(&self, question: &Question<'_>) -> Result<String, RemoteError> {
        let body = self.dialect.request(&self.model, question);
        let reply = self.post(&serde_json::to_vec(&body).expect("plain data is JSON"))?;
        let malformed = |why: String| RemoteError::Malformed { host: self.host(), why };
        let reply: Value =
            serde_json::from_slice(&reply).map_err(|error| malformed(format!("it is not JSON: {error}")))?;
        self.dialect.answer(&reply, question.answer_name).map_err(|problem| match problem {
            dialect::Problem::Malformed(why) => malformed(why.to_owned()),
            dialect::Problem::Cut(reason) => RemoteError::Cut { host: self.host(), reason: self.excerpt(&reason) },
            dialect::Problem::Declined(said) => RemoteError::Declined { host: self.host(), said: self.excerpt(&said) },
        })
    }

    /// Sends a body and reads the reply of a success.
    fn post(&self, body: &[u8]) -> Result<Vec<u8>, RemoteError> {
        // The client's own defaults would take a proxy from the environment and follow redirects.
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder()
                .proxy(None)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .http_status_as_error(false)
                .timeout_global(Some(self.timeout))
                .max_idle_connections(0)
                .accept_encoding("identity")
                .user_agent(concat!("ananke/", env!("CARGO_PKG_VERSION")))
                .build(),
        );
        let mut request = agent.post(self.address.url_of(self.dialect)).header("content-type", "application/json");
        for (name, value) in self.dialect.headers(self.key.as_ref()) {
            request = request.header(name, value);
        }
        let reply = request.send(body).map_err(|source| self.transport(source))?;
        let status = reply.status();
        let mut bytes = Vec::new();
        let read = reply.into_body().into_reader().take(REPLY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        if !status.is_success() {
            // What could be read of it is said, even if it broke off.
            let said = self.excerpt(&String::from_utf8_lossy(&bytes));
            return Err(RemoteError::Status { host: self.host(), status: status.as_u16(), said });
        }
        read.map_err(|error| self.transport(error.into()))?;
        if bytes.len() > REPLY_BYTES_MAX {
            return Err(RemoteError::TooLarge { host: self.host(), limit: REPLY_BYTES_MAX });
        }
        Ok(bytes)
    }

    fn transport(&self, source: ureq::Error) -> RemoteError {
        match source {
            ureq::Error::Timeout(_) => RemoteError::Timeout { host: self.host(), limit: self.timeout },
            source => RemoteError::Transport { host: self.host(), source: Box::new(source) },
        }
    }

    fn host(&self) -> String {
        self.address.host().to_owned()
    }

    fn excerpt(&self, text: &str) -> String {
        excerpt(text, self.key.as_ref())
    }
}

/// The start of a text from outside, on one line, without control characters and without our key.
pub(crate) fn excerpt(text: &str, key: Option<&Key>) -> String {
    let text = match key {
        Some(key) => text.replace(key.secret(), "[the key]"),
        None => text.to_owned(),
    };
    let end = text.floor_char_boundary(QUOTED_BYTES_MAX);
    let line: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let more = if end < text.len() { " ..." } else { "" };
    line.split_whitespace().collect::<Vec<_>>().join(" ") + more
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_one_short_line_without_the_key() {
        let endpoint = Endpoint {
            address: Address::parse("http://127.0.0.1:1").expect("an address"),
            dialect: Dialect::Openai,
            model: "m".into(),
            key: Some(Key::new("secret-key").expect("a key")),
            timeout: Duration::from_secs(1),
        };
        assert_eq!(endpoint.excerpt("bad\u{1b}[31m\n key secret-key!"), "bad [31m key [the key]!");
        let long = endpoint.excerpt(&"\u{e9}".repeat(QUOTED_BYTES_MAX));
        assert!(long.len() <= QUOTED_BYTES_MAX + 4 && long.ends_with(" ..."), "{long}");
        let debug = format!("{endpoint:?}");
        assert!(!debug.contains("secret-key"), "{debug}");
    }
}
