//! Who may ask for what: the key of a request, its scope, and its place under the limits of that key.
//!
//! Without a file of keys everything is open. The name of a key goes into the request's log lines and to the maze,
//! which books compile time on it; the key itself goes nowhere.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    App,
    account::{Meter, Standing},
    error::HttpError,
    held::until_sent,
    keys::{ApiKey, ApiKeys, Scope},
    refusals::Course,
};
use crate::maze::{Client, Error, GenerateRequest, Profile};

/// What a route needs of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// No key.
    Nothing,
    /// Any key.
    Key,
    /// A key with this scope.
    Scope(Scope),
}

/// What each route needs, by its template. A route that is not listed needs `admin`, so that one nobody thought of is
/// closed; a test holds that every route is listed.
const NEEDS: [(&str, Need); 24] = [
    ("/", Need::Key),
    ("/health", Need::Nothing),
    ("/ready", Need::Nothing),
    ("/metrics", Need::Scope(Scope::Metrics)),
    ("/models", Need::Key),
    ("/v1/models", Need::Key),
    ("/v1/models/{*id}", Need::Key),
    ("/v1/constraint-ir/schema", Need::Scope(Scope::Constraints)),
    ("/v1/chat/completions", Need::Scope(Scope::Generate)),
    ("/v1/completions", Need::Scope(Scope::Generate)),
    ("/generate", Need::Scope(Scope::Generate)),
    ("/v1/responses", Need::Scope(Scope::Generate)),
    ("/v1/tokenize", Need::Scope(Scope::Generate)),
    ("/v1/detokenize", Need::Scope(Scope::Generate)),
    ("/tokenize", Need::Scope(Scope::Generate)),
    ("/detokenize", Need::Scope(Scope::Generate)),
    ("/v1/constraints/extract", Need::Scope(Scope::Constraints)),
    ("/v1/constraints/compile", Need::Scope(Scope::Constraints)),
    ("/v1/constraints/validate", Need::Scope(Scope::Constraints)),
    ("/v1/provenance/{*id}", Need::Key),
    ("/openapi.json", Need::Key),
    ("/infill", Need::Scope(Scope::Generate)),
    ("/v1/fim/completions", Need::Scope(Scope::Generate)),
    (UNMATCHED, Need::Key),
];

/// Stands for every path that is no route.
pub(crate) const UNMATCHED: &str = "unmatched";

/// The template of the route that a request goes to.
pub(crate) fn route(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or(UNMATCHED, MatchedPath::as_str)
}

fn need(route: &str) -> Need {
    NEEDS.iter().find(|row| row.0 == route).map_or(Need::Scope(Scope::Admin), |row| row.1)
}

/// Who asks, as handlers see it; nobody in particular on a server without keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The key's name, and whether it is set apart.
    pub(crate) client: Option<Client>,
    /// Most tokens of one choice.
    max_tokens: Option<u32>,
    /// What binds every request of the key.
    profile: Option<Arc<Profile>>,
    /// Where generated tokens are counted, to be paid for at the end.
    pub(crate) num_tokens: Option<Arc<AtomicU64>>,
}

impl Caller {
    /// The key's name.
    pub(crate) fn name(&self) -> Option<&Arc<str>> {
        self.client.as_ref().map(|client| &client.name)
    }

    /// What a request that asked for `asked` tokens of each choice gets, where `default` is what it would get without
    /// asking.
    ///
    /// # Errors
    /// None at all, or more than the key may ask for.
    pub(crate) fn max_tokens(&self, asked: Option<u32>, default: u32) -> Result<Option<u32>, HttpError> {
        match (self.max_tokens, asked) {
            (_, Some(0)) => {
                let (min, max) = (1.0, f64::from(u32::MAX));
                Err(HttpError::maze("max_tokens", Error::OutOfRange { param: "max_tokens", value: 0.0, min, max }))
            }
            (Some(limit), Some(asked)) if asked > limit => Err(HttpError::invalid_value(
                "max_tokens",
                format!("{asked} is more than this key may ask for, {limit}"),
            )),
            (Some(limit), None) if default > limit => Ok(Some(limit)),
            _ => Ok(asked),
        }
    }

    /// The request under the policy of the key, whatever it asks for itself.
    pub(crate) fn bind(&self, mut request: GenerateRequest) -> GenerateRequest {
        if let Some(policy) = &self.profile
            && !request.profiles.iter().any(|own| own.name == policy.name)
        {
            request.profiles.push(policy.clone());
        }
        request
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// Lets a request through that its key allows, and holds its place until the last byte of the reply has gone.
pub(crate) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Some(keys) = &app.keys else { return next.run(request).await };
    let need = need(route(&request));
    let key = match authorize(keys, need, request.headers()) {
        Ok(None) => return next.run(request).await,
        Ok(Some(key)) => key,
        Err(error) => return error.into_response(),
    };
    tracing::Span::current().record("key", &*key.name);
    if let Some(course) = request.extensions().get::<Arc<Course>>() {
        course.set_client(&key.name);
    }
    // Nothing behind this line sees the key, and so nothing can log it.
    for header in [header::AUTHORIZATION.as_str(), API_KEY_HEADER] {
        request.headers_mut().remove(header);
    }
    let profile = match policy_of(&app, &key, need) {
        Ok(profile) => profile,
        Err(error) => return error.into_response(),
    };
    let client = Some(Client { name: key.name.clone(), salt: key.salt(), tenant: Some(key.tenant.clone()) });
    let mut caller = Caller { client, max_tokens: key.limits.max_tokens, profile, num_tokens: None };
    if !matches!(need, Need::Scope(Scope::Generate | Scope::Constraints)) {
        request.extensions_mut().insert(caller);
        return next.run(request).await;
    }
    let (ticket, standing) = key.account.admit(key.limits, Instant::now());
    let mut response = match ticket {
        Ok(ticket) => {
            caller.num_tokens = Some(ticket.num_tokens());
            request.extensions_mut().insert(caller);
            until_sent(next.run(request).await, ticket)
        }
        Err(refused) => HttpError::RateLimited(refused).into_response(),
    };
    tell(standing, response.headers_mut());
    response
}

/// The profile that binds a key, which may generate text only with its own model.
fn policy_of(app: &App, key: &ApiKey, need: Need) -> Result<Option<Arc<Profile>>, HttpError> {
    if need != Need::Scope(Scope::Generate) {
        return Ok(None);
    }
    let loaded = &app.maze.model().id;
    if let Some(allowed) = key.model.as_ref().filter(|allowed| *allowed != loaded) {
        return Err(HttpError::ModelNotAllowed { allowed: allowed.clone(), loaded: loaded.clone() });
    }
    let Some(name) = &key.profile else { return Ok(None) };
    let profile = app.profiles.as_ref().and_then(|profiles| profiles.find(name));
    profile.map(Some).ok_or_else(|| HttpError::ProfileUnavailable { name: name.clone() })
}

/// Where a key may stand besides `authorization: Bearer`.
const API_KEY_HEADER: &str = "x-api-key";

/// The key of a request that may go on; `None` where it needs none.
fn authorize(keys: &ApiKeys, need: Need, headers: &HeaderMap) -> Result<Option<Arc<ApiKey>>, HttpError> {
    if need == Need::Nothing {
        return Ok(None);
    }
    let key = presented(headers).and_then(|presented| keys.find(presented)).ok_or(HttpError::InvalidApiKey)?;
    match need {
        Need::Scope(scope) if !key.may(scope) => Err(HttpError::InsufficientScope { scope: scope.as_str() }),
        _ => Ok(Some(key)),
    }
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| headers.get(API_KEY_HEADER).and_then(|value| value.to_str().ok()))
}

/// OpenAI's headers on how the limits stand.
fn tell(standing: Standing, headers: &mut HeaderMap) {
    const REQUESTS: [&str; 3] =
        ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
    const TOKENS: [&str; 3] = ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
    for (names, meter) in [(REQUESTS, standing.requests), (TOKENS, standing.tokens)] {
        let Some(Meter { limit, left, reset }) = meter else { continue };
        let values = [limit.to_string(), (left.max(0.0) as u64).to_string(), in_units(reset)];
        for (name, value) in names.into_iter().zip(values) {
            headers.insert(name, HeaderValue::from_str(&value).expect("digits and units stand in a header"));
        }
    }
}

/// A duration as OpenAI writes it: `6m0s`, `12s`, `20ms`.
fn in_units(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms.div_ceil(1000) {
        _ if ms < 1000 => format!("{ms}ms"),
        seconds @ ..60 => format!("{seconds}s"),
        seconds => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ROUTES;

    #[test]
    fn every_route_says_what_it_needs_and_an_unknown_one_is_closed() {
        for listed in ROUTES {
            let (_, path) = listed.split_once(' ').expect("method and path");
            let template = path.replace("{id}", "{*id}");
            assert!(NEEDS.iter().any(|row| row.0 == template), "{listed} has no row");
        }
        assert_eq!(need("/v2/whatever"), Need::Scope(Scope::Admin));
    }

    #[test]
    fn durations_are_written_as_openai_does() {
        for (ms, text) in [(0, "0ms"), (20, "20ms"), (1000, "1s"), (1001, "2s"), (59_999, "1m0s"), (360_000, "6m0s")] {
            assert_eq!(in_units(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn a_key_stands_in_either_header() {
        for (name, value, found) in [
            ("authorization", "Bearer abc", Some("abc")),
            ("authorization", "bearer  abc ", Some("abc")),
            ("authorization", "Basic abc", None),
            ("authorization", "abc", None),
            ("x-api-key", "abc", Some("abc")),
            ("cookie", "abc", None),
        ] {
            let headers = HeaderMap::from_iter([(
                header::HeaderName::from_static(name),
                HeaderValue::from_str(value).expect("a header"),
            )]);
            assert_eq!(presented(&headers), found, "{name}: {value}");
        }
    }
}
