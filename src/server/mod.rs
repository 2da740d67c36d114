//! HTTP: the OpenAI-compatible endpoints, `POST /generate`, and what a server says about itself.
//!
//! A handler reads the request into a form that cannot be wrong, hands it to the [`maze`](crate::maze), and writes the
//! answer. What can be wrong with a request is one enum in `error.rs`; what goes over the wire is in `openai.rs`.
//! Keys and their limits are in `access.rs`, the bounds on connections in `connection.rs`, TLS in `tls.rs`.

mod access;
mod account;
mod analysis;
mod archive;
mod body;
mod chat;
mod completions;
mod connection;
mod constraints;
mod dialects;
mod error;
mod fim;
mod generate;
mod health;
mod held;
mod id;
mod infill;
mod keys;
mod metrics;
mod models;
mod openai;
mod openapi;
mod origins;
mod policy;
mod profiles;
mod prompt;
mod recorder;
mod refusals;
mod request_fields;
mod responses;
mod sampling;
mod spans;
mod sse;
mod structural_tag;
mod tls;
mod tokens;
mod unread;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, Method, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::sync::Semaphore;
use tracing::Instrument;

use self::{archive::Archive, error::HttpError, metrics::HttpMetrics};
pub use self::{
    connection::{serve, serve_tls},
    keys::{ApiKeys, KeyFileError, NewKey, NewKeyError, Scope, UnknownScope},
    policy::{Policy, PolicyError, Reloaded},
    profiles::{ProfileError, ProfileFiles, Profiles},
    prompt::{holes_of_body, messages_of_body},
    tls::{Tls, TlsError, TlsFiles},
};
use crate::{audit::AuditLog, maze::Maze, otlp::SpanQueue};

/// The bounds and times of the HTTP layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Largest request body; a larger one is answered with 413. Default: 4 MiB.
    pub max_body_bytes: usize,
    /// Largest body that brings sources to extract from; a larger one is answered with 413. Default: 24 MiB, which holds the
    /// 10 MiB that are read, with all their line breaks and quotes escaped.
    pub max_source_body_bytes: usize,
    /// Requests to extract, compile or validate at once, their bodies included; over it the answer is 503. Default: 8.
    pub max_analyses: usize,
    /// Provenance records kept for `GET /v1/provenance/{id}`; 0 keeps none. Default: 1,024.
    pub max_provenance_records: usize,
    /// Bytes of the provenance records together, as JSON. Default: 64 MiB.
    pub max_provenance_bytes: usize,
    /// Of a larger body so much more is read before the reply, so that the client reads it. Default: 64 MiB.
    pub max_drained_bytes: usize,
    /// A stream that has nothing to say for so long sends a comment. Default: 15 s.
    pub keep_alive_s: u64,
    /// On shutdown, open replies get so long to finish. Default: 30 s.
    pub drain_s: u64,
    /// Connections at once; more wait in the system's queue. Default: 1,024.
    pub max_connections: usize,
    /// Header lines of a request; over it the answer is 431. Default: 100.
    pub max_headers: usize,
    /// Bytes of a request's head, at least 8 KiB; over it the answer is 431. So much is also buffered of each reply,
    /// beside the system's buffer. Default: 64 KiB.
    pub max_header_bytes: usize,
    /// A client gets so long to send the head of a request, else its connection is closed; and so long again for the
    /// body, else the answer is 408. An idle connection is closed after it. With TLS, the handshake gets so long before
    /// that. Default: 30 s.
    pub read_timeout_s: u64,
    /// A request that is not answered after so long is dropped with 504; a stream ends with an error. Default: 600 s,
    /// which is as long as OpenAI's own clients wait.
    pub request_timeout_s: u64,
    /// A client that takes nothing of its reply for so long is cut, and its generation dropped. Default: 30 s.
    pub stalled_stream_s: u64,
    /// What the system buffers of each connection's replies, which it may double. Default: 256 KiB; less slows down
    /// long replies over long distances.
    pub send_buffer_bytes: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 4 << 20,
            max_source_body_bytes: 24 << 20,
            max_analyses: 8,
            max_provenance_records: 1024,
            max_provenance_bytes: 64 << 20,
            max_drained_bytes: 64 << 20,
            keep_alive_s: 15,
            drain_s: 30,
            max_connections: 1024,
            max_headers: 100,
            max_header_bytes: 64 << 10,
            read_timeout_s: 30,
            request_timeout_s: 600,
            stalled_stream_s: 30,
            send_buffer_bytes: 256 << 10,
        }
    }
}

impl ServerConfig {
    fn keep_alive_interval(&self) -> Duration {
        Duration::from_secs(self.keep_alive_s)
    }

    fn read_timeout(&self) -> Duration {
        Duration::from_secs(self.read_timeout_s)
    }

    fn stalled_stream(&self) -> Duration {
        Duration::from_secs(self.stalled_stream_s)
    }
}

/// What every handler is given.
#[derive(Clone)]
struct App {
    maze: Maze,
    config: Arc<ServerConfig>,
    /// Who may ask; everyone where there is none.
    keys: Option<Arc<ApiKeys>>,
    /// The rule sets that requests may name and keys are bound by.
    profiles: Option<Arc<Profiles>>,
    metrics: Arc<HttpMetrics>,
    archive: Arc<Archive>,
    /// Places for requests that are analysed.
    analyses: Arc<Semaphore>,
}

impl App {
    /// A request may name the loaded model, or none.
    fn expect_model(&self, asked: Option<&str>) -> Result<(), HttpError> {
        let loaded = &self.maze.model().id;
        match asked {
            Some(asked) if asked != loaded => {
                Err(HttpError::ModelNotFound { asked: asked.into(), loaded: loaded.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// What `GET /` lists; [`router`] says the same in axum's words.
const ROUTES: [&str; 23] = [
    "GET /",
    "GET /health",
    "GET /ready",
    "GET /metrics",
    "GET /models",
    "GET /v1/models",
    "GET /v1/models/{id}",
    "GET /v1/constraint-ir/schema",
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/responses",
    "POST /generate",
    "POST /v1/tokenize",
    "POST /v1/detokenize",
    "POST /tokenize",
    "POST /detokenize",
    "POST /v1/constraints/extract",
    "POST /v1/constraints/compile",
    "POST /v1/constraints/validate",
    "GET /v1/provenance/{id}",
    "GET /openapi.json",
    "POST /infill",
    "POST /v1/fim/completions",
];

/// All routes, over one maze, open to everyone.
pub fn router(maze: Maze, config: ServerConfig) -> Router {
    router_with_keys(maze, config, None)
}

/// All routes, over one maze, for whoever has one of these keys; for everyone where there are none.
pub fn router_with_keys(maze: Maze, config: ServerConfig, keys: Option<Arc<ApiKeys>>) -> Router {
    router_with_policy(maze, config, Policy::of_keys(keys))
}

/// All routes, over one maze, for whoever the policy lets in, under what it says.
pub fn router_with_policy(maze: Maze, config: ServerConfig, policy: Policy) -> Router {
    let Policy { keys, profiles } = policy;
    let app = App {
        archive: Arc::new(Archive::new(config.max_provenance_records, config.max_provenance_bytes)),
        analyses: Arc::new(Semaphore::new(config.max_analyses)),
        maze,
        config: Arc::new(config),
        keys,
        profiles,
        metrics: Arc::default(),
    };
    Router::new()
        .route("/", get(health::index))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(metrics::scrape))
        .route("/models", get(models::list))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::get))
        .route("/v1/constraint-ir/schema", get(health::constraint_ir_schema))
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/responses", post(responses::create))
        .route("/generate", post(generate::create))
        .route("/v1/tokenize", post(tokens::tokenize))
        .route("/v1/detokenize", post(tokens::detokenize))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/v1/constraints/extract", post(analysis::extract))
        .route("/v1/constraints/compile", post(analysis::compile))
        .route("/v1/constraints/validate", post(analysis::validate))
        .route("/v1/provenance/{*id}", get(archive::get))
        .route("/openapi.json", get(openapi::describe))
        .route("/infill", post(infill::create))
        .route("/v1/fim/completions", post(fim::create))
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(app.clone(), within_time))
        .layer(middleware::from_fn_with_state(app.clone(), access::guard))
        .layer(middleware::from_fn_with_state(app.clone(), unread::read_past))
        .layer(middleware::from_fn(refusals::record))
        .layer(middleware::from_fn(spans::trace))
        .layer(middleware::from_fn(log))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::count))
        .with_state(app)
}

/// The same routes with every request for text recorded in `log`, and none answered that it cannot take.
pub fn audited(router: Router, log: AuditLog) -> Router {
    router.layer(axum::Extension(log))
}

/// The same routes with a span of each request handed to `spans`.
pub fn traced(router: Router, spans: SpanQueue) -> Router {
    router.layer(axum::Extension(spans))
}

/// What OpenAI's API has and this server has not, by the beginning of its paths.
const NOT_OFFERED: [(&str, &str); 18] = [
    ("/v1/embeddings", "the model writes text and has no embeddings to give"),
    ("/v1/audio", "the model reads and writes text"),
    ("/v1/images", "the model reads and writes text"),
    ("/v1/videos", "the model reads and writes text"),
    ("/v1/realtime", "the model reads and writes text"),
    ("/v1/moderations", "no model for it is loaded; constraints say what an output may not hold"),
    ("/v1/files", "nothing is kept between requests"),
    ("/v1/uploads", "nothing is kept between requests"),
    ("/v1/batches", "nothing is kept between requests; send them at once, and they run together"),
    ("/v1/fine_tuning", "models are served here, not trained"),
    ("/v1/evals", "nothing is kept between requests"),
    ("/v1/assistants", "nothing is kept between requests; send the whole conversation to /v1/chat/completions"),
    ("/v1/threads", "nothing is kept between requests; send the whole conversation to /v1/chat/completions"),
    ("/v1/conversations", "nothing is kept between requests; send the whole conversation to /v1/responses"),
    ("/v1/responses/", "responses are not kept; GET /v1/provenance/{id} has what made one what it is"),
    ("/v1/chat/completions/", "completions are not kept; GET /v1/provenance/{id} has what made one what it is"),
    ("/v1/vector_stores", "nothing is kept between requests"),
    ("/v1/containers", "nothing is run here"),
];

async fn unknown_path(uri: Uri) -> HttpError {
    let path = uri.path();
    let known = NOT_OFFERED.iter().find(|(beginning, _)| {
        path.strip_prefix(beginning)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || beginning.ends_with('/'))
    });
    match known {
        Some((_, why)) => HttpError::NotOffered { path: path.into(), why },
        None => HttpError::UnknownPath { path: path.into() },
    }
}

async fn method_not_allowed(method: Method, uri: Uri) -> HttpError {
    HttpError::MethodNotAllowed { method: method.to_string(), path: uri.path().into() }
}

/// When a request is given up.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: tokio::time::Instant,
    limit_s: u64,
}

/// Drops what is not answered in time; a stream looks at the [`Deadline`] itself.
async fn within_time(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let limit_s = app.config.request_timeout_s;
    let at = tokio::time::Instant::now() + Duration::from_secs(limit_s);
    request.extensions_mut().insert(Deadline { at, limit_s });
    match tokio::time::timeout_at(at, next.run(request)).await {
        Ok(response) => response,
        Err(_) => HttpError::RequestTimeout { limit_s }.into_response(),
    }
}

/// Gives each request an id, in its logs and in `x-request-id`, and logs how it went; never what was in it.
async fn log(mut request: Request, next: Next) -> Response {
    let id = request_id();
    let (method, path, later) = (request.method(), request.uri().path(), tracing::field::Empty);
    let span = tracing::info_span!("request", id, %method, path, key = later, trace_id = later);
    let start = Instant::now();
    request.extensions_mut().insert(RequestId(id.clone()));
    async move {
        let mut response = next.run(request).await;
        tracing::info!(status = response.status().as_u16(), ms = start.elapsed().as_millis() as u64, "answered");
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-request-id", value);
        }
        response
    }
    .instrument(span)
    .await
}

/// What a request is called in logs and in `x-request-id`.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Unique in this process, and unlike those of another.
fn request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    format!("req-{:016x}", HASHER.hash_one(NEXT.fetch_add(1, Ordering::Relaxed)))
}
