//! What can be wrong with a request, and the one match that turns it into an answer.
//!
//! Every error leaves as OpenAI's shape, `{"error": {"message", "type", "param", "code"}}`, also those of routing and
//! of reading the body. 400 is a request we cannot read or will not take, 422 a well-formed one whose constraints
//! cannot be compiled or satisfied. `param` is a path into the body as the client wrote it.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    account::{Reached, Refused},
    refusals,
};
use crate::{
    audit::Unavailable,
    maze::{self, ErrorClass, NotApplied},
};

/// Why a request gets no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("the body is not JSON: {reason} at line {line} column {column}")]
    InvalidJson { reason: String, line: usize, column: usize },
    #[error("the request needs a JSON body with `content-type: application/json`, not {found}")]
    NotJson { found: String },
    #[error("the request body could not be read to its end")]
    BodyUnreadable,
    #[error("the request body is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the request body did not come to its end within {limit_s} s")]
    BodyTimeout { limit_s: u64 },
    #[error("the request was not answered within {limit_s} s, which is all that this server gives one")]
    RequestTimeout { limit_s: u64 },
    #[error("no API key that this server knows; send it as `authorization: Bearer KEY`")]
    InvalidApiKey,
    #[error("this API key does not have the scope `{scope}`")]
    InsufficientScope { scope: &'static str },
    #[error("{}; try again in {} s", reached(&.0.reached), .0.retry_after_s())]
    RateLimited(Refused),
    #[error("unknown parameter `{param}`: {accepted}")]
    UnknownParameter { param: String, accepted: String },
    #[error("missing required parameter `{param}`")]
    MissingParameter { param: String },
    #[error("wrong type for {}: {reason}", named(param))]
    InvalidType { param: String, reason: String },
    #[error("invalid value for {}: {reason}", named(param))]
    InvalidValue { param: String, reason: String },
    #[error("`{param}` is not supported: {reason}")]
    Unsupported { param: String, reason: String },
    #[error("the model `{asked}` does not exist; this server runs `{loaded}`")]
    ModelNotFound { asked: String, loaded: String },
    #[error("this API key may use only the model `{allowed}`; this server runs `{loaded}`")]
    ModelNotAllowed { allowed: String, loaded: String },
    #[error("the profile `{name}`, which binds this API key, is not there; nothing is generated without it")]
    ProfileUnavailable { name: String },
    #[error("{}; send `strict: false` to go on without", lost_parts(lost))]
    PartLost { param: String, lost: Vec<NotApplied> },
    #[error("no such path: {path}; GET / lists what this server offers")]
    UnknownPath { path: String },
    #[error("{path} is not offered: {why}; GET / lists what is")]
    NotOffered { path: String, why: &'static str },
    #[error(
        "there is no record of a reply `{id}` that this key was given; records are kept from a reply's end until newer \
         ones need the room"
    )]
    NoProvenance { id: String },
    #[error("{path} does not answer {method}")]
    MethodNotAllowed { method: String, path: String },
    #[error(
        "{limit} requests to extract, compile or validate are under way, which is all that this server takes at once"
    )]
    Busy { limit: usize },
    #[error("{0}; requests are taken again once it can be")]
    AuditUnavailable(#[from] Unavailable),
    #[error("{source}")]
    Maze {
        /// The path in the request that the error speaks of.
        param: Option<String>,
        source: Box<maze::Error>,
    },
}

/// A field by its path; the empty path is the body itself.
fn named(param: &str) -> String {
    if param.is_empty() { "the body".into() } else { format!("`{param}`") }
}

fn reached(limit: &Reached) -> String {
    match limit {
        Reached::Requests { limit } => format!("this API key has sent its {limit} requests per minute"),
        Reached::Tokens { limit } => format!("this API key has used its {limit} generated tokens per minute"),
        Reached::Concurrent { limit } => format!("this API key has {limit} requests under way, which is all it may"),
    }
}

fn lost_parts(lost: &[NotApplied]) -> String {
    let parts = lost.iter().map(|part| format!("`{}` cannot be enforced: {}", part.id, part.why));
    parts.collect::<Vec<_>>().join("; ")
}

impl HttpError {
    pub(crate) fn invalid_value(param: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidValue { param: param.into(), reason: reason.into() }
    }

    pub(crate) fn unsupported(param: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Unsupported { param: param.into(), reason: reason.into() }
    }

    /// The error with `name` in place of the path that it speaks of.
    pub(crate) fn map_param(self, name: impl Fn(&str) -> String) -> Self {
        match self {
            Self::UnknownParameter { param, accepted } => Self::UnknownParameter { param: name(&param), accepted },
            Self::MissingParameter { param } => Self::MissingParameter { param: name(&param) },
            Self::InvalidType { param, reason } => Self::InvalidType { param: name(&param), reason },
            Self::InvalidValue { param, reason } => Self::InvalidValue { param: name(&param), reason },
            Self::Unsupported { param, reason } => Self::Unsupported { param: name(&param), reason },
            Self::Maze { param, source } => Self::Maze { param: param.as_deref().map(name), source },
            other => other,
        }
    }

    /// The error for people, cut where it quotes too much.
    pub(crate) fn message(&self) -> String {
        shortened(self.to_string())
    }

    /// Work beside the async workers that did not come to its end.
    pub(crate) fn panicked(why: tokio::task::JoinError) -> Self {
        let source = maze::Error::Internal { message: why.to_string() };
        Self::Maze { param: None, source: Box::new(source) }
    }

    /// An error of the maze that speaks of `param`, whatever the maze calls it.
    pub(crate) fn maze(param: &str, source: maze::Error) -> Self {
        let param = source.param().map(|_| param.to_owned());
        Self::Maze { param, source: Box::new(source) }
    }

    /// Status, OpenAI's `type`, and our `code`: every status this server answers with.
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        const INVALID: &str = "invalid_request_error";
        match self {
            Self::InvalidJson { .. } => (StatusCode::BAD_REQUEST, INVALID, "invalid_json"),
            Self::BodyUnreadable => (StatusCode::BAD_REQUEST, INVALID, "body_unreadable"),
            Self::UnknownParameter { .. } => (StatusCode::BAD_REQUEST, INVALID, "unknown_parameter"),
            Self::MissingParameter { .. } => (StatusCode::BAD_REQUEST, INVALID, "missing_required_parameter"),
            Self::InvalidType { .. } => (StatusCode::BAD_REQUEST, INVALID, "invalid_type"),
            Self::InvalidValue { .. } => (StatusCode::BAD_REQUEST, INVALID, "invalid_value"),
            Self::Unsupported { .. } => (StatusCode::BAD_REQUEST, INVALID, "unsupported_parameter"),
            Self::ModelNotFound { .. } => (StatusCode::NOT_FOUND, INVALID, "model_not_found"),
            Self::ModelNotAllowed { .. } => (StatusCode::FORBIDDEN, INVALID, "model_not_allowed"),
            Self::ProfileUnavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "server_error", "profile_unavailable"),
            Self::PartLost { .. } => (StatusCode::UNPROCESSABLE_ENTITY, INVALID, "part_not_enforceable"),
            Self::UnknownPath { .. } | Self::NotOffered { .. } => {
                (StatusCode::NOT_FOUND, INVALID, "unsupported_endpoint")
            }
            Self::NoProvenance { .. } => (StatusCode::NOT_FOUND, INVALID, "provenance_not_found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, "body_too_large"),
            Self::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, INVALID, "body_timeout"),
            Self::RequestTimeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "server_error", "request_timeout"),
            Self::InvalidApiKey => (StatusCode::UNAUTHORIZED, INVALID, "invalid_api_key"),
            Self::InsufficientScope { .. } => (StatusCode::FORBIDDEN, INVALID, "insufficient_scope"),
            Self::RateLimited(refused) => {
                let kind = match refused.reached {
                    Reached::Tokens { .. } => "tokens",
                    Reached::Requests { .. } | Reached::Concurrent { .. } => "requests",
                };
                (StatusCode::TOO_MANY_REQUESTS, kind, "rate_limit_exceeded")
            }
            Self::NotJson { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, "unsupported_media_type"),
            Self::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "overloaded"),
            Self::AuditUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "server_error", "audit_unavailable"),
            Self::Maze { source, .. } => match source.class() {
                ErrorClass::Invalid => (StatusCode::BAD_REQUEST, INVALID, source.code()),
                ErrorClass::TooLarge => (StatusCode::BAD_REQUEST, INVALID, source.code()),
                ErrorClass::SourceTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, source.code()),
                ErrorClass::Unprocessable => (StatusCode::UNPROCESSABLE_ENTITY, INVALID, source.code()),
                ErrorClass::Unsatisfiable => (StatusCode::UNPROCESSABLE_ENTITY, INVALID, source.code()),
                ErrorClass::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", source.code()),
                ErrorClass::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "server_error", source.code()),
                ErrorClass::Upstream => (StatusCode::BAD_GATEWAY, "server_error", source.code()),
                ErrorClass::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "server_error", source.code()),
                ErrorClass::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", source.code()),
            },
        }
    }

    /// Our name for it, as `code` in the reply.
    pub(crate) fn code(&self) -> &'static str {
        self.kind().2
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::UnknownParameter { param, .. }
            | Self::MissingParameter { param }
            | Self::InvalidType { param, .. }
            | Self::InvalidValue { param, .. }
            | Self::PartLost { param, .. }
            | Self::Unsupported { param, .. } => Some(param.as_str()).filter(|param| !param.is_empty()),
            Self::ModelNotFound { .. } => Some("model"),
            Self::Maze { param, .. } => param.as_deref(),
            _ => None,
        }
    }

    /// The header that goes with the error: when to try again, or what is missing.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let challenge = |text: &str| HeaderValue::from_str(text).ok().map(|value| (header::WWW_AUTHENTICATE, value));
        match self {
            Self::InvalidApiKey => challenge("Bearer"),
            Self::InsufficientScope { scope } => {
                challenge(&format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""))
            }
            Self::RateLimited(refused) => Some((header::RETRY_AFTER, refused.retry_after_s().into())),
            _ if self.kind().0 == StatusCode::SERVICE_UNAVAILABLE => {
                let asked = match self {
                    Self::Maze { source, .. } => source.retry_after(),
                    _ => None,
                };
                Some((header::RETRY_AFTER, asked.map_or(1, |asked| asked.as_secs().max(1)).into()))
            }
            _ => None,
        }
    }

    /// The error as it goes over the wire, in a reply or in the middle of a stream.
    pub(crate) fn body(&self) -> ErrorBody {
        let (_, kind, code) = self.kind();
        let param = self.param().map(|param| shortened(param.to_owned()));
        ErrorBody { error: ErrorFact { message: self.message(), kind, param, code } }
    }
}

/// Bytes of a message or a path that go over the wire: what a client wrote may be megabytes, and errors quote it.
const QUOTED_BYTES_MAX: usize = 2_000;

/// A text with its middle left out where it is too long; the end may say what was expected.
fn shortened(text: String) -> String {
    const GAP: &str = " ... ";
    if text.len() <= QUOTED_BYTES_MAX {
        return text;
    }
    let tail_len = QUOTED_BYTES_MAX / 4;
    let head = &text[..text.floor_char_boundary(QUOTED_BYTES_MAX - tail_len - GAP.len())];
    let tail = &text[text.ceil_char_boundary(text.len() - tail_len)..];
    [head, GAP, tail].concat()
}

/// OpenAI's error object in its envelope.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ErrorBody {
    error: ErrorFact,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ErrorFact {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: &'static str,
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let (status, _, code) = self.kind();
        if status.is_server_error() {
            tracing::error!(code, error = %self, "request failed");
        } else {
            tracing::debug!(code, "request refused");
        }
        let mut response = (status, Json(self.body())).into_response();
        response.headers_mut().extend(self.header());
        response.extensions_mut().insert(refusals::Code(code));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_send_back_megabytes() {
        let long = "é".repeat(1 << 20);
        let error = HttpError::UnknownParameter { param: long, accepted: "only `prompt`".into() }.body().error;
        assert!(error.message.len() <= QUOTED_BYTES_MAX && error.message.ends_with("only `prompt`"));
        assert!(error.param.is_some_and(|param| param.len() <= QUOTED_BYTES_MAX));
        assert_eq!(shortened("short".into()), "short");
    }
}
