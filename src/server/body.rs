//! Reading a JSON body: every way it can be wrong gets its own error, with the place.

use axum::{
    body::Body as Incoming,
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde_json::{Value, error::Category};

use super::{App, ServerConfig, error::HttpError};

/// A request body of type `T`; unknown fields are refused by `T`'s own `deny_unknown_fields`.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, app: &App) -> Result<Self, HttpError> {
        let bytes = read_bytes(request, &app.config, app.config.max_body_bytes).await?;
        parse(&bytes).map(Self)
    }
}

/// A request body that brings sources, and so may be larger than others; it is read beside the async workers.
pub(crate) struct SourceBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<App> for SourceBody<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, app: &App) -> Result<Self, HttpError> {
        let bytes = read_bytes(request, &app.config, app.config.max_source_body_bytes).await?;
        let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
        parsed.map_err(HttpError::panicked)?.map(Self)
    }
}

/// The bytes of a body that says it is JSON, within the time for it.
async fn read_bytes(request: Request, config: &ServerConfig, limit: usize) -> Result<Vec<u8>, HttpError> {
    expect_json(request.headers())?;
    let limit_s = config.read_timeout_s;
    let whole = tokio::time::timeout(config.read_timeout(), read_whole(request.into_body(), config, limit));
    whole.await.map_err(|_| HttpError::BodyTimeout { limit_s })?
}

fn expect_json(headers: &HeaderMap) -> Result<(), HttpError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(HttpError::NotJson { found: "a body without one".into() });
    };
    let found = value.to_str().unwrap_or("an unreadable one");
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(HttpError::NotJson { found: format!("`{found}`") })
}

/// The bytes of a body. One that is too long is read past, up to a bound: a client that is still sending when the
/// connection closes sees a broken pipe and never the reply that says why.
async fn read_whole(body: Incoming, config: &ServerConfig, limit: usize) -> Result<Vec<u8>, HttpError> {
    let (mut bytes, mut num_read) = (Vec::new(), 0);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| HttpError::BodyUnreadable)?;
        num_read += chunk.len();
        if num_read <= limit {
            bytes.extend_from_slice(&chunk);
        } else if num_read - limit > config.max_drained_bytes {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if num_read > limit { Err(HttpError::BodyTooLarge { limit }) } else { Ok(bytes) }
}

/// Reads a `T` from the bytes of a body, which must be a JSON object: serde alone would take a list by position.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HttpError> {
    if bytes.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| fault("", "", &error))?;
        return Err(HttpError::InvalidType { param: String::new(), reason: "expected a JSON object".into() });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = read(&mut deserializer, "")?;
    deserializer.end().map_err(|error| fault("", "", &error))?;
    Ok(value)
}

/// Reads a `T` from a value that stands at `param` in the body.
pub(crate) fn parse_value<T: DeserializeOwned>(value: &Value, param: &str) -> Result<T, HttpError> {
    read(value, param)
}

fn read<'de, T, D>(deserializer: D, param: &str) -> Result<T, HttpError>
where
    T: DeserializeOwned,
    D: Deserializer<'de, Error = serde_json::Error>,
{
    serde_path_to_error::deserialize(deserializer)
        .map_err(|error| fault(param, &error.path().to_string(), error.inner()))
}

/// Names what serde found: the syntax error's line and column, or the field and what was wrong with it.
fn fault(prefix: &str, path: &str, error: &serde_json::Error) -> HttpError {
    if error.classify() != Category::Data {
        return HttpError::InvalidJson {
            reason: without_place(&error.to_string()).into(),
            line: error.line(),
            column: error.column(),
        };
    }
    let param = join(prefix, path);
    let message = error.to_string();
    let reason = without_place(&message);
    match reason.split_once(' ') {
        Some(("unknown", rest)) if rest.starts_with("field") => {
            let accepted = rest.split_once(", ").map_or("no parameters are taken here", |(_, accepted)| accepted);
            HttpError::UnknownParameter { param, accepted: accepted.into() }
        }
        Some(("missing", rest)) => HttpError::MissingParameter { param: join(&param, quoted(rest)) },
        Some(("duplicate", rest)) => {
            HttpError::InvalidValue { param: join(&param, quoted(rest)), reason: "given more than once".into() }
        }
        Some(("invalid", rest)) if rest.starts_with("type: ") => {
            HttpError::InvalidType { param, reason: rest["type: ".len()..].into() }
        }
        Some(("invalid", rest)) if rest.starts_with("value: ") => {
            HttpError::InvalidValue { param, reason: rest["value: ".len()..].into() }
        }
        _ => HttpError::InvalidValue { param, reason: reason.into() },
    }
}

/// The name in serde's "field `name`".
fn quoted(text: &str) -> &str {
    text.split('`').nth(1).unwrap_or_default()
}

/// `response_format` and `json_schema.name` are `response_format.json_schema.name`; `[0]` needs no dot.
pub(crate) fn join(prefix: &str, path: &str) -> String {
    match (prefix, path) {
        (prefix, "" | ".") => prefix.into(),
        ("" | ".", path) => path.into(),
        (prefix, path) if path.starts_with(['[', '.', '#']) => format!("{prefix}{path}"),
        (prefix, path) => format!("{prefix}.{path}"),
    }
}

/// serde_json appends ` at line L column C`, which is a field of the error, or noise beside the name of the field.
fn without_place(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code, reason = "only read by serde")]
        count: u32,
        #[allow(dead_code, reason = "only read by serde")]
        inner: Option<Vec<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code, reason = "only read by serde")]
        name: String,
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        for (body, code, param, message) in [
            (r#"{"count": 1"#, "invalid_json", None, "at line 1 column 11"),
            ("{\"count\": 1,\n \"inner\" 2}", "invalid_json", None, "at line 2 column 10"),
            (r#"{"count": 1} {}"#, "invalid_json", None, "trailing characters"),
            (r#"{"count": 1, "cuont": 2}"#, "unknown_parameter", Some("cuont"), "`count`"),
            (r#"{"count": 1, "inner": [{"name": "a"}, {"nmae": ""}]}"#, "unknown_parameter", Some("inner[1].nmae"), ""),
            (r#"{"inner": null}"#, "missing_required_parameter", Some("count"), ""),
            (r#"{"count": 1, "inner": [{}]}"#, "missing_required_parameter", Some("inner[0].name"), ""),
            (r#"{"count": "1"}"#, "invalid_type", Some("count"), "string"),
            (r#"{"count": -1}"#, "invalid_value", Some("count"), "-1"),
            (r#"{"count": 1, "inner": [{"name": 2}]}"#, "invalid_type", Some("inner[0].name"), "expected a string"),
            (r#"{"count": 1, "count": 1}"#, "invalid_value", Some("count"), "more than once"),
            ("[1, null]", "invalid_type", None, "object"),
            ("[1", "invalid_json", None, "column 2"),
            ("", "invalid_json", None, "column 0"),
        ] {
            let error = parse::<Outer>(body.as_bytes()).expect_err(body);
            let wire = serde_json::to_value(error.body()).expect("errors serialize");
            assert_eq!(wire["error"]["code"], code, "{body}: {wire}");
            if let Some(param) = param {
                assert_eq!(wire["error"]["param"], param, "{body}: {wire}");
            }
            assert!(wire["error"]["message"].as_str().is_some_and(|text| text.contains(message)), "{body}: {wire}");
        }
    }
}
