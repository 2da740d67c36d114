//! HTTP: the OpenAI-compatible endpoints, `POST /generate`, and what a server says about itself.
//!
//! A handler reads the request into a form that cannot be wrong, hands it to the [`maze`](crate::maze), and writes the
//! answer. What can be wrong with a request is one enum in `error.rs`; what goes over the wire is in `openai.rs`.
//! There are no keys and no TLS here: bind it to loopback, or put it behind something that has both.

mod body;
mod completions;
mod constraints;
mod error;
mod generate;
mod health;
mod models;
mod openai;
mod recorder;
mod sse;
mod structural_tag;

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    io,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, Method, Uri},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
    serve::ListenerExt,
};
use tokio::net::TcpListener;
use tracing::Instrument;

use self::error::HttpError;
use crate::{audit::AuditLog, maze::Maze};

/// The bounds and times of the HTTP layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Largest request body; a larger one is answered with 413. Default: 4 MiB.
    pub max_body_bytes: usize,
    /// Of a larger body so much more is read before the reply, so that the client reads it. Default: 64 MiB.
    pub max_drained_bytes: usize,
    /// A stream that has nothing to say for so long sends a comment. Default: 15 s.
    pub keep_alive_s: u64,
    /// On shutdown, open replies get so long to finish. Default: 30 s.
    pub drain_s: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { max_body_bytes: 4 << 20, max_drained_bytes: 64 << 20, keep_alive_s: 15, drain_s: 30 }
    }
}

impl ServerConfig {
    fn keep_alive_interval(&self) -> Duration {
        Duration::from_secs(self.keep_alive_s)
    }
}

/// What every handler is given.
#[derive(Clone)]
struct App {
    maze: Maze,
    config: Arc<ServerConfig>,
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
const ROUTES: [&str; 8] = [
    "GET /",
    "GET /health",
    "GET /models",
    "GET /v1/models",
    "GET /v1/models/{id}",
    "GET /v1/constraint-ir/schema",
    "POST /v1/completions",
    "POST /generate",
];

/// All routes, over one maze.
pub fn router(maze: Maze, config: ServerConfig) -> Router {
    let app = App { maze, config: Arc::new(config) };
    Router::new()
        .route("/", get(health::index))
        .route("/health", get(health::health))
        .route("/models", get(models::list))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::get))
        .route("/v1/constraint-ir/schema", get(health::constraint_ir_schema))
        .route("/v1/completions", post(completions::create))
        .route("/generate", post(generate::create))
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(log))
        .with_state(app)
}

/// The same routes with every request for text recorded in `log`, and none answered that it cannot take.
pub fn audited(router: Router, log: AuditLog) -> Router {
    router.layer(axum::Extension(log))
}

/// Serves until `shutdown` is ready, then lets open replies finish for at most `drain_s`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: ServerConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stop, stopped) = tokio::sync::oneshot::channel();
    // Tokens are small writes, each of which a client waits for.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        let _ = stop.send(());
    });
    let deadline = async move {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(config.drain_s)).await;
    };
    tokio::select! {
        result = server => result,
        () = deadline => {
            tracing::warn!(drain_s = config.drain_s, "replies were still open at the end of the drain time; cut");
            Ok(())
        }
    }
}

async fn unknown_path(uri: Uri) -> HttpError {
    HttpError::UnknownPath { path: uri.path().into() }
}

async fn method_not_allowed(method: Method, uri: Uri) -> HttpError {
    HttpError::MethodNotAllowed { method: method.to_string(), path: uri.path().into() }
}

/// Gives each request an id, in its logs and in `x-request-id`, and logs how it went; never what was in it.
async fn log(mut request: Request, next: Next) -> Response {
    let id = request_id();
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
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
