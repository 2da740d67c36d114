//! A model server that answers in place of a local model: one pool of connections, one circuit breaker, and the bounds
//! on what an answer may cost.
//!
//! [`Backend::begin`] asks once and gives the pieces of the answer as they come. Whether to ask again is for the caller
//! to decide, who alone knows what has been handed on; [`RemoteError::is_worth_retrying`] and [`backoff`](super::backoff)
//! are what it takes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::client::{self, HttpClient, next_bytes};
use super::service::{self, Problem, Reading};
use super::sse::{Events, Fault};
use super::{Address, Ask, Key, Piece, QUOTED_BYTES_MAX, RemoteError, Service, excerpt, retry};
use crate::circuit::{Circuit, Turn};

/// Bytes of one answer, with all that is around its text. Default of every answer: 64 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A model server, and what an answer of it may cost.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// Where it is: the address below which `/completions` lies, or `/generate` on Modal.
    pub address: Address,
    /// What it speaks.
    pub service: Service,
    /// What it calls the model.
    pub model: String,
    /// What opens it; `None` sends no key.
    pub key: Option<Key>,
    /// A PEM file with the authorities that it is known by; `None` takes those of the web.
    pub authorities: Option<PathBuf>,
    /// How long an answer may take with all its attempts. Default 300 s.
    pub timeout: Duration,
    /// How long nothing may come. Default 120 s: a service that scales to zero takes a minute to start.
    pub stall: Duration,
    /// How long connecting may take. Default 10 s.
    pub connect_timeout: Duration,
    /// How often an answer is asked for at most. Default 3.
    pub num_attempts_max: u32,
    /// Answers at once; more are told to try again. Default 64.
    pub num_answers_max: u32,
    /// So many failures in a row, and it is left alone. Default 5.
    pub num_failures_max: u32,
    /// How long it is left alone. Default 10 s.
    pub left_alone_for: Duration,
}

impl BackendConfig {
    /// Everything else at its default.
    #[must_use]
    pub fn new(address: Address, service: Service, model: String) -> Self {
        Self {
            address,
            service,
            model,
            key: None,
            authorities: None,
            timeout: Duration::from_secs(300),
            stall: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(10),
            num_attempts_max: 3,
            num_answers_max: 64,
            num_failures_max: 5,
            left_alone_for: Duration::from_secs(10),
        }
    }
}

/// What a backend has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendStats {
    /// Attempts that began.
    pub num_attempts: u64,
    /// Attempts that failed, whatever the reason.
    pub num_failed: u64,
    /// Answers under way.
    pub num_answers: u64,
    /// Whether it is being left alone.
    pub is_left_alone: bool,
}

/// A model server that is asked for answers.
pub struct Backend {
    config: BackendConfig,
    client: HttpClient,
    circuit: Circuit,
    places: Arc<Semaphore>,
    num_attempts: AtomicU64,
    num_failed: AtomicU64,
}

/// The place of one answer, given back when it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Backend {
    /// Prepares to ask; opens no connection.
    ///
    /// # Errors
    /// [`RemoteError::Authorities`] for a file that cannot be used.
    pub fn open(config: BackendConfig) -> Result<Self, RemoteError> {
        Ok(Self {
            client: client::open(config.authorities.as_deref(), config.connect_timeout)?,
            circuit: Circuit::new(config.num_failures_max, config.left_alone_for),
            places: Arc::new(Semaphore::new(config.num_answers_max as usize)),
            num_attempts: AtomicU64::new(0),
            num_failed: AtomicU64::new(0),
            config,
        })
    }

    /// What it was opened with.
    #[must_use]
    pub fn config(&self) -> &BackendConfig {
        &self.config
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> BackendStats {
        BackendStats {
            num_attempts: self.num_attempts.load(Relaxed),
            num_failed: self.num_failed.load(Relaxed),
            num_answers: u64::from(self.config.num_answers_max).saturating_sub(self.places.available_permits() as u64),
            is_left_alone: self.circuit.is_open(),
        }
    }

    /// Places for so many answers, all or none.
    ///
    /// # Errors
    /// [`RemoteError::Busy`].
    pub fn take_places(&self, count: u32) -> Result<Vec<Place>, RemoteError> {
        let all = self.places.clone().try_acquire_many_owned(count);
        let mut all = all.map_err(|_| RemoteError::Busy { host: self.host(), limit: self.config.num_answers_max })?;
        let places = std::iter::from_fn(|| all.split(1)).map(Place).collect();
        Ok(places)
    }

    /// Whether the server says that it is there.
    ///
    /// # Errors
    /// Why not.
    pub async fn check_health(&self) -> Result<(), RemoteError> {
        let until = Instant::now() + self.config.connect_timeout;
        let request = self.request(Method::GET, self.config.service.health_path(), Bytes::new());
        self.send(request, until).await.map(drop)
    }

    /// Asks for an answer once; everything ends at `until`.
    ///
    /// # Errors
    /// [`RemoteError`], which never quotes the key.
    pub async fn begin(&self, ask: &Ask, until: Instant) -> Result<Pieces<'_>, RemoteError> {
        let Some(turn) = self.circuit.turn() else {
            return Err(RemoteError::LeftAlone { host: self.host(), retry_after: self.circuit.retry_after() });
        };
        self.num_attempts.fetch_add(1, Relaxed);
        let service = self.config.service;
        let body = service.body(&self.config.model, ask);
        let body = Bytes::from(serde_json::to_vec(&body).expect("plain data is JSON"));
        let sent = self.send(self.request(Method::POST, service.path(&ask.input), body), until).await;
        let mut pieces = Pieces {
            backend: self,
            turn: Some(turn),
            until,
            body: None,
            num_bytes: 0,
            events: Events::default(),
            reading: Reading::default(),
            ready: VecDeque::new(),
        };
        let reply = pieces.book(sent)?;
        let begun = if service.streams() { pieces.stream(reply) } else { pieces.whole(reply, ask.max_tokens).await };
        pieces.book(begun)?;
        Ok(pieces)
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let url = self.config.address.below(path);
        let agent = HeaderValue::from_static(concat!("ananke/", env!("CARGO_PKG_VERSION")));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().expect("an address was read as a URL, and the path is ours");
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, agent);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        if let Some(key) = &self.config.key {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", key.secret()));
            let mut bearer = bearer.expect("a key is one word of visible ASCII");
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        request
    }

    /// Sends a request and gives the reply of a success. Redirects are not followed, and no proxy is asked.
    async fn send(&self, request: Request<Full<Bytes>>, until: Instant) -> Result<Response<Incoming>, RemoteError> {
        let sent = self.in_time(until, self.client.request(request)).await?;
        let reply = sent.map_err(|error| client::broken(self.host(), &error, self.config.key.as_ref()))?;
        let status = reply.status();
        if status.is_success() {
            return Ok(reply);
        }
        let retry_after = reply.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(retry::retry_after);
        let said = self.start_of(reply.into_body(), until).await;
        Err(RemoteError::Refused { host: self.host(), status: status.as_u16(), said, retry_after })
    }

    /// What a reply begins with, as far as it comes.
    async fn start_of(&self, mut body: Incoming, until: Instant) -> String {
        let mut start = Vec::new();
        while start.len() < 2 * QUOTED_BYTES_MAX {
            let Ok(Some(Ok(bytes))) = self.in_time(until, next_bytes(&mut body)).await else { break };
            start.extend_from_slice(&bytes);
        }
        self.excerpt(&String::from_utf8_lossy(&start))
    }

    async fn in_time<T>(&self, until: Instant, wait: impl Future<Output = T>) -> Result<T, RemoteError> {
        let stalled = Instant::now() + self.config.stall;
        timeout_at(stalled.min(until), wait).await.map_err(|_| match stalled < until {
            true => RemoteError::Stalled { host: self.host(), limit: self.config.stall },
            false => RemoteError::Timeout { host: self.host(), limit: self.config.timeout },
        })
    }

    fn problem(&self, problem: Problem) -> RemoteError {
        let host = self.host();
        match problem {
            Problem::Malformed(why) => RemoteError::Malformed { host, why: why.to_owned() },
            Problem::Cut(reason) => RemoteError::Cut { host, reason: self.excerpt(&reason) },
            Problem::Declined(said) => RemoteError::Declined { host, said: self.excerpt(&said) },
            Problem::Reported(said) => RemoteError::Reported { host, said: self.excerpt(&said) },
        }
    }

    fn excerpt(&self, text: &str) -> String {
        excerpt(text, self.config.key.as_ref())
    }

    fn host(&self) -> String {
        self.config.address.host().to_owned()
    }
}

/// One answer on its way. Dropping it hangs up, so that the server makes no more of it.
pub struct Pieces<'a> {
    backend: &'a Backend,
    /// Given back with the first failure or the end.
    turn: Option<Turn<'a>>,
    until: Instant,
    /// `None` where all has come.
    body: Option<Incoming>,
    num_bytes: usize,
    events: Events,
    reading: Reading,
    ready: VecDeque<Piece>,
}

impl Pieces<'_> {
    /// The next piece. After the end or an error there is none.
    ///
    /// # Errors
    /// [`RemoteError`], which never quotes the key.
    pub async fn next(&mut self) -> Result<Piece, RemoteError> {
        let next = self.read().await;
        let piece = self.book(next)?;
        if matches!(piece, Piece::End(_))
            && let Some(turn) = self.turn.take()
        {
            turn.succeeded();
        }
        Ok(piece)
    }

    /// Takes the reply for a stream of events.
    fn stream(&mut self, reply: Response<Incoming>) -> Result<(), RemoteError> {
        let kind = reply.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("nothing");
        if !kind.starts_with("text/event-stream") {
            let why = format!("a stream was asked for, and `{}` came", self.backend.excerpt(kind));
            return Err(RemoteError::Malformed { host: self.backend.host(), why });
        }
        self.body = Some(reply.into_body());
        Ok(())
    }

    /// Reads a reply that is one body.
    async fn whole(&mut self, reply: Response<Incoming>, max_tokens: u32) -> Result<(), RemoteError> {
        self.body = Some(reply.into_body());
        let mut whole = Vec::new();
        while let Some(bytes) = self.bytes().await? {
            whole.extend_from_slice(&bytes);
        }
        let reply: Value =
            serde_json::from_slice(&whole).map_err(|_| self.backend.problem(Problem::Malformed("it is not JSON")))?;
        let (text, end) = service::modal_reply(&reply, max_tokens).map_err(|problem| self.backend.problem(problem))?;
        self.ready.extend([Piece::Text(text), Piece::End(end)]);
        Ok(())
    }

    async fn read(&mut self) -> Result<Piece, RemoteError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(piece);
            }
            let event = self.events.next().map_err(|fault| match fault {
                Fault::TooLarge => {
                    RemoteError::TooLarge { host: self.backend.host(), limit: super::sse::EVENT_BYTES_MAX }
                }
                Fault::NotUtf8 => self.backend.problem(Problem::Malformed("an event is not UTF-8")),
            })?;
            let closed = match event {
                Some(data) => {
                    let read = self.reading.read(&data, &mut self.ready);
                    read.map_err(|problem| self.backend.problem(problem))?;
                    false
                }
                None => match self.bytes().await? {
                    Some(bytes) => {
                        self.events.push(&bytes);
                        false
                    }
                    None => true,
                },
            };
            if self.ready.is_empty() {
                match self.reading.end(closed) {
                    Some(end) => return end.map(Piece::End).map_err(|problem| self.backend.problem(problem)),
                    None if closed => return Err(RemoteError::CutOff { host: self.backend.host() }),
                    None => {}
                }
            }
        }
    }

    /// More of the reply; `None` at its end.
    async fn bytes(&mut self) -> Result<Option<Bytes>, RemoteError> {
        let Some(body) = &mut self.body else { return Ok(None) };
        let next = self.backend.in_time(self.until, next_bytes(body)).await?;
        let Some(bytes) = next else {
            self.body = None;
            return Ok(None);
        };
        let bytes =
            bytes.map_err(|error| client::broken(self.backend.host(), &error, self.backend.config.key.as_ref()))?;
        self.num_bytes += bytes.len();
        if self.num_bytes > ANSWER_BYTES_MAX {
            return Err(RemoteError::TooLarge { host: self.backend.host(), limit: ANSWER_BYTES_MAX });
        }
        Ok(Some(bytes))
    }

    /// Books a failure, of the server where it is one's fault.
    fn book<T>(&mut self, result: Result<T, RemoteError>) -> Result<T, RemoteError> {
        if let Err(error) = &result
            && let Some(turn) = self.turn.take()
        {
            self.backend.num_failed.fetch_add(1, Relaxed);
            if error.is_of_the_server() && turn.failed() {
                let (host, retry_after_s) = (self.backend.host(), self.backend.config.left_alone_for.as_secs_f64());
                tracing::warn!(host, retry_after_s, "the remote model keeps failing and is left alone for a while");
            }
        }
        result
    }
}

impl Drop for Pieces<'_> {
    /// An answer that nobody wanted to the end speaks for the server all the same.
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take_if(|_| self.num_bytes > 0) {
            turn.succeeded();
        }
    }
}
