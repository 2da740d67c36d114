//! The server on a socket, as clients meet it: keys, limits, slow and greedy clients, and what it says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, Once};
use std::time::{Duration, Instant};

use ananke::engine::EngineConfig;
use ananke::maze::{GenerateRequest, Maze, Prompt};
use ananke::server::{ApiKeys, NewKey, Scope, ServerConfig, router_with_keys, serve};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

#[path = "common/scripted.rs"]
mod scripted;

/// A step of the model that leaves time to look.
const SLOW: Duration = Duration::from_millis(20);

/// A server on loopback, until it is dropped.
struct Server {
    address: SocketAddr,
    maze: Maze,
    _stop: oneshot::Sender<()>,
}

async fn start(time_per_step: Duration, config: ServerConfig, keys: Option<Arc<ApiKeys>>) -> Server {
    start_on(scripted::maze(time_per_step, EngineConfig::default()), config, keys).await
}

async fn start_on(maze: Maze, config: ServerConfig, keys: Option<Arc<ApiKeys>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let router = router_with_keys(maze.clone(), config, keys);
    tokio::spawn(serve(listener, router, config, async move {
        let _ = stopped.await;
    }));
    Server { address, maze, _stop: stop }
}

async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
}

/// All that comes; a connection that is cut may end in a reset.
async fn read_to_end(stream: &TcpStream) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(num_read @ 1..) = read(stream, &mut buffer).await {
        bytes.extend_from_slice(&buffer[..num_read]);
    }
    bytes
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        stream.writable().await.expect("it is open");
        match stream.try_write(bytes) {
            Ok(num_written) => bytes = &bytes[num_written..],
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }
}

/// A reply to its end.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Reply {
    /// Reads what a connection says until the server closes it; `None` where it says nothing.
    async fn read(stream: &TcpStream) -> Option<Self> {
        let bytes = read_to_end(stream).await;
        let text = String::from_utf8(bytes).expect("replies are UTF-8");
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into()));
        Some(Self { status, headers: headers.collect(), body: body.into() })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Server {
    /// Opens a connection and sends a request, whose reply is then read from it.
    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        let len = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}");
        let text = format!("{head}content-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}");
        write_all(&stream, text.as_bytes()).await;
        stream
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        let stream = self.send(method, path, headers, body).await;
        Reply::read(&stream).await.expect("a reply")
    }

    async fn get(&self, path: &str, headers: &str) -> Reply {
        self.ask("GET", path, headers, "").await
    }

    async fn complete(&self, headers: &str, body: &Value) -> Reply {
        self.ask("POST", "/v1/completions", headers, &body.to_string()).await
    }
}

/// A file of keys, and the keys themselves by name.
struct KeyFile {
    file: tempfile::NamedTempFile,
    secrets: BTreeMap<&'static str, String>,
}

impl KeyFile {
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        Self { file, secrets: BTreeMap::new() }
    }

    /// Adds a key, with further lines of its entry.
    fn add(mut self, name: &'static str, scopes: &[Scope], limits: &str) -> Self {
        let key = NewKey::generate(name, scopes).expect("a key");
        writeln!(self.file, "{}{limits}", key.entry).expect("it can be written");
        self.secrets.insert(name, key.secret);
        self
    }

    fn open(&self) -> Arc<ApiKeys> {
        Arc::new(ApiKeys::open(self.file.path()).expect("a list of keys"))
    }

    fn bearer(&self, name: &str) -> String {
        format!("authorization: Bearer {}\r\n", self.secrets[name])
    }
}

fn few_tokens(max_tokens: u32) -> Value {
    // No end token is likely among noise, and none is allowed here.
    json!({"prompt": "x", "max_tokens": max_tokens, "seed": 1, "constraint_ir":
        {"regex_patterns": [{"any_of": [{"pattern": "[a-z]{4000,}"}], "match": "full"}]}})
}

/// Looks again until it is so; gives up after twenty seconds.
async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not become so in twenty seconds");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_key_opens_what_its_scopes_say() {
    let file = KeyFile::new()
        .add("writer", &[Scope::Generate], "")
        .add("reader", &[Scope::Constraints], "")
        .add("scraper", &[Scope::Metrics], "")
        .add("boss", &[Scope::Admin], "");
    let server = start(Duration::ZERO, ServerConfig::default(), Some(file.open())).await;
    let completion = json!({"prompt": "x", "max_tokens": 2}).to_string();
    for (method, path, allowed) in [
        ("POST", "/v1/completions", "writer"),
        ("POST", "/generate", "writer"),
        ("GET", "/v1/constraint-ir/schema", "reader"),
        ("GET", "/metrics", "scraper"),
        ("GET", "/", "writer reader scraper boss"),
        ("GET", "/models", "writer reader scraper boss"),
        ("GET", "/v1/models", "writer reader scraper boss"),
        ("GET", "/v1/models/scripted", "writer reader scraper boss"),
        ("GET", "/health", "nobody writer reader scraper boss"),
        ("GET", "/ready", "nobody writer reader scraper boss"),
    ] {
        for name in ["nobody", "writer", "reader", "scraper", "boss"] {
            let key = if name == "nobody" { String::new() } else { file.bearer(name) };
            let reply = server.ask(method, path, &key, if method == "POST" { &completion } else { "" }).await;
            if allowed.contains(name) {
                assert_eq!(reply.status, 200, "{name}: {path}: {reply:?}");
            } else if name == "nobody" {
                assert_eq!((reply.status, reply.code().as_str()), (401, "invalid_api_key"), "{path}");
                assert_eq!(reply.header("www-authenticate"), "Bearer");
            } else {
                assert_eq!((reply.status, reply.code().as_str()), (403, "insufficient_scope"), "{name}: {path}");
                assert!(reply.header("www-authenticate").starts_with("Bearer error=\"insufficient_scope\""));
            }
        }
    }
    let reply = server.get("/no/such/path", "").await;
    assert_eq!(reply.status, 401, "a stranger does not learn which paths there are");
    assert_eq!(server.get("/no/such/path", &file.bearer("boss")).await.status, 404);
    let other = format!("x-api-key: {}\r\n", file.secrets["writer"]);
    assert_eq!(server.get("/v1/models", &other).await.status, 200);
    for wrong in ["authorization: Bearer ananke_\r\n", "authorization: Basic eDp5\r\n", "x-api-key: x\r\n"] {
        assert_eq!(server.get("/v1/models", wrong).await.code(), "invalid_api_key");
    }
}

#[tokio::test]
async fn keys_are_read_again_and_a_bad_file_changes_nothing() {
    let file = KeyFile::new().add("old", &[Scope::Generate], "");
    let keys = file.open();
    let server = start(Duration::ZERO, ServerConfig::default(), Some(keys.clone())).await;
    let models = async |key: &str| server.get("/v1/models", &format!("x-api-key: {key}\r\n")).await.status;
    let new = NewKey::generate("new", &[Scope::Generate]).expect("a key");
    let old = file.secrets["old"].clone();
    assert_eq!((models(&old).await, models(&new.secret).await), (200, 401));
    std::fs::write(file.file.path(), "[[key]]\nname = 1\n").expect("it can be written");
    assert!(keys.reload().is_err());
    assert_eq!((models(&old).await, models(&new.secret).await), (200, 401));
    std::fs::write(file.file.path(), &new.entry).expect("it can be written");
    assert_eq!(keys.reload().expect("a list of keys"), 1);
    assert_eq!((models(&old).await, models(&new.secret).await), (401, 200));
}

#[tokio::test]
async fn requests_and_tokens_per_minute_are_limited_for_each_key_alone() {
    let file = KeyFile::new()
        .add("requests", &[Scope::Generate], "requests_per_minute = 2\n")
        .add("tokens", &[Scope::Generate], "tokens_per_minute = 20\n")
        .add("free", &[Scope::Generate], "");
    let server = start(Duration::ZERO, ServerConfig::default(), Some(file.open())).await;

    let key = file.bearer("requests");
    for left in ["1", "0"] {
        let reply = server.complete(&key, &few_tokens(2)).await;
        assert_eq!((reply.status, reply.header("x-ratelimit-remaining-requests")), (200, left), "{reply:?}");
        assert_eq!(reply.header("x-ratelimit-limit-requests"), "2");
        assert!(!reply.headers.contains_key("x-ratelimit-limit-tokens"));
    }
    let reply = server.complete(&key, &few_tokens(2)).await;
    assert_eq!((reply.status, reply.code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(reply.json()["error"]["type"], "requests");
    assert!((1..=30).contains(&reply.header("retry-after").parse::<u32>().expect("seconds")), "{reply:?}");
    assert_eq!(reply.header("x-ratelimit-reset-requests"), "1m0s");
    assert_eq!(server.get("/v1/models", &key).await.status, 200, "what costs nothing is not limited");

    // 16 of 20 tokens, then 16 more on what is left, then nothing until 12 have come back.
    let key = file.bearer("tokens");
    for left in ["20", "4"] {
        let reply = server.complete(&key, &few_tokens(16)).await;
        assert_eq!((reply.status, reply.header("x-ratelimit-remaining-tokens")), (200, left), "{reply:?}");
        assert_eq!(reply.json()["usage"]["completion_tokens"], 16);
    }
    let reply = server.complete(&key, &few_tokens(1)).await;
    assert_eq!((reply.status, reply.json()["error"]["type"].as_str()), (429, Some("tokens")), "{reply:?}");
    assert_eq!(reply.header("x-ratelimit-remaining-tokens"), "0");
    assert!((30..=40).contains(&reply.header("retry-after").parse::<u32>().expect("seconds")), "{reply:?}");

    let reply = server.complete(&file.bearer("free"), &few_tokens(16)).await;
    assert!(reply.status == 200 && !reply.headers.keys().any(|name| name.starts_with("x-ratelimit")), "{reply:?}");
}

#[tokio::test]
async fn a_client_that_hangs_up_pays_for_what_was_generated() {
    let file = KeyFile::new().add("ci", &[Scope::Generate], "tokens_per_minute = 600\nconcurrent = 1\n");
    let server = start(SLOW, ServerConfig::default(), Some(file.open())).await;
    let key = file.bearer("ci");
    let mut body = few_tokens(400);
    body["stream"] = json!(true);
    let stream = server.send("POST", "/v1/completions", &key, &body.to_string()).await;
    wait_until("some tokens were generated", async || server.maze.health().engine.generated_tokens >= 40).await;
    let reply = server.complete(&key, &few_tokens(1)).await;
    assert_eq!((reply.status, reply.json()["error"]["type"].as_str()), (429, Some("requests")), "{reply:?}");
    assert!(reply.json()["error"]["message"].as_str().is_some_and(|text| text.contains("under way")), "{reply:?}");
    assert_eq!(reply.header("retry-after"), "1");
    drop(stream);
    let mut left = 600;
    wait_until("its place is free", async || {
        let reply = server.complete(&key, &few_tokens(1)).await;
        left = reply.header("x-ratelimit-remaining-tokens").parse().expect("a number");
        reply.status == 200
    })
    .await;
    assert!((200..=580).contains(&left), "{left} of 600 are left");
}

#[tokio::test]
async fn an_isolated_key_shares_neither_prefixes_nor_constraints() {
    let file = KeyFile::new()
        .add("a", &[Scope::Generate], "")
        .add("b", &[Scope::Generate], "isolated = false\n")
        .add("apart", &[Scope::Generate], "isolated = true\n")
        .add("alone", &[Scope::Generate], "isolated = true\n");
    let server = start(Duration::ZERO, ServerConfig::default(), Some(file.open())).await;
    let mut body = few_tokens(4);
    body["prompt"] = json!("a long prompt of many words, of which whole blocks are kept for whoever begins like this");
    let mut texts = BTreeSet::new();
    for (name, finds_it) in
        [("a", false), ("b", true), ("apart", false), ("apart", true), ("alone", false), ("a", true), ("alone", true)]
    {
        let before = server.maze.health();
        let reply = server.complete(&file.bearer(name), &body).await;
        let after = server.maze.health();
        texts.insert(reply.json()["choices"][0]["text"].as_str().expect("a text").to_owned());
        assert_eq!(after.engine.prefix_hit_tokens > before.engine.prefix_hit_tokens, finds_it, "{name}: prefixes");
        assert_eq!(after.constraints.compiled == before.constraints.compiled, finds_it, "{name}: constraints");
    }
    assert_eq!(texts.len(), 1, "nobody's reply is another for it");
}

#[tokio::test]
async fn tokens_that_nobody_takes_are_counted() {
    let maze = scripted::maze(Duration::ZERO, EngineConfig::default());
    let long = json!({"regex_patterns": [{"any_of": [{"pattern": "[a-z]{4000,}"}], "match": "full"}]});
    let request = GenerateRequest {
        prompt: Prompt::Text("x".into()),
        constraints: vec![serde_json::from_value(long).expect("a constraint")],
        max_tokens: Some(20),
        num_choices: 2,
        ..GenerateRequest::default()
    };
    let num_tokens = Arc::new(AtomicU64::new(0));
    let generation = maze.generate(request).await.expect("it is admitted").counted(Some(num_tokens.clone()));
    wait_until("all is generated", async || maze.health().engine.generated_tokens == 40).await;
    wait_until("nothing runs", async || maze.health().engine.running == 0).await;
    assert_eq!(num_tokens.load(Relaxed), 0);
    drop(generation);
    assert_eq!(num_tokens.load(Relaxed), 40);
}

#[tokio::test]
async fn a_key_may_bound_max_tokens() {
    let file = KeyFile::new().add("small", &[Scope::Generate], "max_tokens = 8\n");
    let server = start(Duration::ZERO, ServerConfig::default(), Some(file.open())).await;
    let key = file.bearer("small");
    for path in ["/v1/completions", "/generate"] {
        let reply = server.ask("POST", path, &key, r#"{"prompt": "x", "max_tokens": 9}"#).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_value"), "{reply:?}");
        assert_eq!(reply.json()["error"]["param"], "max_tokens");
        assert_eq!(server.ask("POST", path, &key, r#"{"prompt": "x", "max_tokens": 8}"#).await.status, 200);
    }
    let mut body = few_tokens(0);
    body.as_object_mut().expect("an object").remove("max_tokens");
    for body in [body, json!({"prompt": "x", "seed": 4})] {
        let reply = server.complete(&key, &body).await;
        let num_tokens = reply.json()["usage"]["completion_tokens"].as_u64();
        assert!(num_tokens.is_some_and(|num_tokens| num_tokens <= 8), "{reply:?}");
    }
}

#[tokio::test]
async fn heads_are_bounded_in_lines_bytes_and_time() {
    let config = ServerConfig { max_headers: 20, max_header_bytes: 8 << 10, read_timeout_s: 1, ..Default::default() };
    let server = start(Duration::ZERO, config, None).await;
    let many: String = (0..30).map(|index| format!("x-{index}: y\r\n")).collect();
    let large = format!("x-large: {}\r\n", "y".repeat(9 << 10));
    for headers in [many, large] {
        assert_eq!(server.get("/health", &headers).await.status, 431);
    }
    for head in ["", "GET /health HTTP/1.1\r\nhost:"] {
        let stream = TcpStream::connect(server.address).await.expect("it listens");
        write_all(&stream, head.as_bytes()).await;
        let start = Instant::now();
        assert!(Reply::read(&stream).await.is_none(), "nothing was asked");
        assert!((0.9..20.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    }
    let stream = TcpStream::connect(server.address).await.expect("it listens");
    let head = "POST /generate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{";
    write_all(&stream, head.as_bytes()).await;
    let reply = Reply::read(&stream).await.expect("a reply");
    assert_eq!((reply.status, reply.code().as_str()), (408, "body_timeout"));
    assert_eq!(server.get("/health", "").await.status, 200);
}

/// A client that is still sending when the connection closes sees a broken pipe and not the reply.
#[tokio::test]
async fn what_is_refused_by_its_head_is_answered_behind_its_body() {
    let server = start(Duration::ZERO, ServerConfig::default(), None).await;
    for (path, status) in [("/v1/audio/transcriptions", 404), ("/v1/completions", 415), ("/health", 405)] {
        let stream = TcpStream::connect(server.address).await.expect("it listens");
        let (len, first) = (500_000, 1_000);
        let head = "HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=b";
        let head = format!("POST {path} {head}\r\ncontent-length: {len}\r\n\r\n{}", "x".repeat(first));
        write_all(&stream, head.as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        write_all(&stream, "x".repeat(len - first).as_bytes()).await;
        assert_eq!(Reply::read(&stream).await.expect("a reply").status, status, "{path}");
    }
}

#[tokio::test]
async fn connections_are_bounded_and_a_place_is_free_again() {
    let config = ServerConfig { max_connections: 2, read_timeout_s: 1, ..Default::default() };
    let server = start(Duration::ZERO, config, None).await;
    let idle = [TcpStream::connect(server.address).await, TcpStream::connect(server.address).await];
    let start = Instant::now();
    assert_eq!(server.get("/health", "").await.status, 200, "it waited for a place");
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    drop(idle);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let config = ServerConfig { request_timeout_s: 1, ..Default::default() };
    let server = start(SLOW, config, None).await;
    let mut body = few_tokens(400);
    let reply = server.complete("", &body).await;
    assert_eq!((reply.status, reply.code().as_str()), (504, "request_timeout"));
    body["stream"] = json!(true);
    let reply = server.complete("", &body).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.contains("event: error") && reply.body.contains("request_timeout"), "{reply:?}");
    assert!(reply.body.contains("text_completion") && !reply.body.contains("[DONE]"));
    wait_until("nothing runs", async || server.maze.health().engine.running == 0).await;
}

#[tokio::test]
async fn a_stalled_reader_is_cut_and_its_generation_dropped() {
    let file = KeyFile::new().add("ci", &[Scope::Generate], "concurrent = 1\n");
    let config = ServerConfig {
        stalled_stream_s: 1,
        send_buffer_bytes: 8 << 10,
        max_header_bytes: 8 << 10,
        ..Default::default()
    };
    let server = start(Duration::from_millis(5), config, Some(file.open())).await;
    let key = file.bearer("ci");
    let body = json!({"prompt": "x", "n": 32, "max_tokens": 480, "logprobs": 20, "stream": true, "seed": 1});
    let stalled = server.send("POST", "/v1/completions", &key, &body.to_string()).await;
    wait_until("it runs", async || server.maze.health().engine.running > 0).await;
    // The key has one place, which is free again only when the reply has been dropped.
    assert_eq!(server.complete(&key, &json!({"prompt": "x"})).await.status, 429);
    wait_until("the stalled reply is dropped", async || {
        server.complete(&key, &json!({"prompt": "x", "max_tokens": 1})).await.status == 200
    })
    .await;
    wait_until("nothing runs", async || server.maze.health().engine.running == 0).await;
    let bytes = read_to_end(&stalled).await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 200") && !text.contains("[DONE]"), "{} bytes came", bytes.len());
}

#[tokio::test]
async fn a_slow_reader_is_not_cut() {
    let config = ServerConfig {
        stalled_stream_s: 2,
        send_buffer_bytes: 8 << 10,
        max_header_bytes: 8 << 10,
        ..Default::default()
    };
    let server = start(Duration::ZERO, config, None).await;
    let body = json!({"prompt": "x", "n": 8, "max_tokens": 300, "logprobs": 20, "stream": true, "seed": 1});
    let stream = server.send("POST", "/v1/completions", "", &body.to_string()).await;
    let (mut text, mut buffer) = (Vec::new(), vec![0; 128 << 10]);
    loop {
        let num_read = read(&stream, &mut buffer).await.expect("it is not cut");
        if num_read == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..num_read]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(String::from_utf8_lossy(&text).contains("[DONE]"), "{} bytes came", text.len());
}

#[tokio::test]
async fn no_page_of_another_origin_gets_leave_to_read() {
    let server = start(Duration::ZERO, ServerConfig::default(), None).await;
    let origin = "origin: https://example.org\r\naccess-control-request-method: POST\r\n";
    for (method, path) in [("OPTIONS", "/v1/completions"), ("GET", "/v1/models"), ("GET", "/health")] {
        let reply = server.ask(method, path, origin, "").await;
        assert!(!reply.headers.keys().any(|name| name.starts_with("access-control")), "{reply:?}");
        assert_eq!(reply.status == 200, method == "GET");
    }
}

#[tokio::test]
async fn a_full_queue_is_not_ready() {
    let engine = EngineConfig { num_seqs_max: 1, queue_len_max: 1, ..EngineConfig::default() };
    let server = start_on(scripted::maze(SLOW, engine), ServerConfig::default(), None).await;
    let ready = async || {
        let reply = server.get("/ready", "").await;
        (reply.status, reply.json()["status"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ready().await, (200, "ready".into()));
    let mut body = few_tokens(400);
    body["stream"] = json!(true);
    let running = server.send("POST", "/v1/completions", "", &body.to_string()).await;
    wait_until("one runs", async || server.maze.health().engine.running == 1).await;
    let waiting = server.send("POST", "/v1/completions", "", &body.to_string()).await;
    wait_until("the queue is full", async || ready().await == (503, "overloaded".into())).await;
    drop((running, waiting));
    wait_until("there is room", async || ready().await == (200, "ready".into())).await;
}

/// All that was logged in this process.
static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().expect("no test panics while it writes").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log_everything() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(|| Sink).with_ansi(false).init();
    });
}

#[tokio::test]
async fn the_name_of_a_key_is_logged_and_the_key_never() {
    log_everything();
    let file = KeyFile::new().add("logged-by-name", &[Scope::Generate], "concurrent = 1\nmax_tokens = 1\n");
    let keys = file.open();
    let server = start(Duration::ZERO, ServerConfig::default(), Some(keys.clone())).await;
    let good = &file.secrets["logged-by-name"];
    let bad = format!("{good}0");
    let mut said = String::new();
    for key in [good, &bad] {
        for header in ["authorization: Bearer ", "authorization: bearer ", "x-api-key: ", "authorization: "] {
            let header = format!("{header}{key}\r\n");
            said += &format!("{:?}", server.complete(&header, &json!({"prompt": "x", "max_tokens": 1})).await);
            said += &format!("{:?}", server.complete(&header, &json!({"prompt": "x", "max_tokens": 2})).await);
            said += &format!("{:?}", server.complete(&header, &json!({"prompt": 1, "nothing": 2})).await);
            said += &format!("{:?}", server.get("/metrics", &header).await);
        }
    }
    // A key where its digest belongs.
    std::fs::write(file.file.path(), format!("[[key]]\nname = \"a\"\nhash = \"{good}\"\nscopes = [\"{bad}\"]\n"))
        .expect("it can be written");
    said += &keys.reload().expect_err("that is no digest").to_string();
    let logged = String::from_utf8(LOG.lock().expect("no test panics while it writes").clone()).expect("UTF-8");
    assert!(logged.contains("logged-by-name") && logged.contains("answered"), "the log has what it should have");
    let secret = good.trim_start_matches("ananke_");
    assert!(!logged.contains(secret) && !said.contains(secret));
}

/// One series of a scrape: its labels, and its value.
type Samples = BTreeMap<String, Vec<(BTreeMap<String, String>, f64)>>;

/// Reads Prometheus' text format 0.0.4, and panics on what is no part of it.
fn parse_metrics(text: &str) -> (BTreeMap<String, String>, Samples) {
    assert!(text.ends_with('\n'));
    let is_name = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
            && !name.starts_with(|c: char| c.is_numeric())
    };
    let (mut types, mut samples) = (BTreeMap::new(), Samples::new());
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(is_name(name) && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} has two types");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        assert!(seen.insert(line.rsplit_once(' ').expect("a value").0.to_owned()), "twice: {line}");
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("a closing brace")),
            None => (series, ""),
        };
        assert!(is_name(name), "{line}");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        assert!(types.contains_key(name) || family.is_some_and(|family| types[family] == "histogram"), "{line}");
        // No value of a label has a comma or a quote here.
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            let (name, value) = label.split_once("=\"").expect("a label");
            (name.to_owned(), value.strip_suffix('"').expect("a closing quote").to_owned())
        });
        samples.entry(name.to_owned()).or_default().push((labels.collect(), value.parse().expect("a number")));
    }
    (types, samples)
}

#[tokio::test]
async fn metrics_are_in_the_text_format_and_count_what_happened() {
    let server = start(Duration::ZERO, ServerConfig::default(), None).await;
    let usage = server.complete("", &few_tokens(24)).await.json()["usage"].clone();
    server.complete("", &few_tokens(24)).await;
    server.complete("", &json!({"prompt": "x", "structured_outputs": {"regex": "(a"}})).await;
    for path in ["/v1/models/scripted", "/v1/models/other", "/no/such/path", "/nor/this?a=b"] {
        server.get(path, "").await;
    }
    server.ask("BREW", "/no/such/path", "", "").await;
    // The engine says how many run at the end of a step, which is after the last token has gone out.
    wait_until("nothing runs", async || server.maze.health().engine.running == 0).await;
    let reply = server.get("/metrics", "").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain; version=0.0.4"));
    let (types, samples) = parse_metrics(&reply.body);
    for (name, kind) in [
        ("ananke_time_to_first_token_seconds", "histogram"),
        ("ananke_inter_token_latency_seconds", "histogram"),
        ("ananke_e2e_request_latency_seconds", "histogram"),
        ("ananke_http_request_duration_seconds", "histogram"),
        ("ananke_constraint_compile_seconds", "histogram"),
        ("ananke_mask_seconds", "histogram"),
        ("ananke_batch_size", "histogram"),
        ("ananke_prompt_tokens_total", "counter"),
        ("ananke_generation_tokens_total", "counter"),
        ("ananke_prefix_cache_hit_tokens_total", "counter"),
        ("ananke_http_requests_total", "counter"),
        ("ananke_request_success_total", "counter"),
        ("ananke_masks_late_total", "counter"),
        ("ananke_graph_replays_total", "counter"),
        ("ananke_eager_steps_total", "counter"),
        ("ananke_steps_ahead_total", "counter"),
        ("ananke_forced_tokens_total", "counter"),
        ("ananke_retracted_tokens_total", "counter"),
        ("ananke_dead_ends_total", "counter"),
        ("ananke_constraint_cache_hits_total", "counter"),
        ("ananke_constraint_cache_misses_total", "counter"),
        ("ananke_num_requests_running", "gauge"),
        ("ananke_num_requests_waiting", "gauge"),
        ("ananke_kv_cache_usage_ratio", "gauge"),
    ] {
        assert_eq!(types.get(name).map(String::as_str), Some(kind), "{name}");
    }
    let value = |name: &str| samples[name].iter().map(|sample| sample.1).sum::<f64>();
    let usage = |field: &str| usage[field].as_f64().expect("a number");
    assert_eq!(value("ananke_generation_tokens_total"), 2.0 * usage("completion_tokens"));
    assert_eq!(value("ananke_prompt_tokens_total"), 2.0 * usage("prompt_tokens"));
    assert_eq!(value("ananke_time_to_first_token_seconds_count"), 2.0);
    assert_eq!(value("ananke_inter_token_latency_seconds_count"), 2.0 * (usage("completion_tokens") - 1.0));
    assert_eq!(value("ananke_e2e_request_latency_seconds_count"), 2.0);
    assert_eq!(
        (value("ananke_constraint_cache_misses_total"), value("ananke_constraint_cache_hits_total")),
        (2.0, 1.0)
    );
    assert_eq!(value("ananke_constraint_compile_seconds_count"), 2.0);
    assert_eq!(value("ananke_mask_seconds_count"), server.maze.health().engine.masks as f64);
    assert_eq!(value("ananke_batch_size_count"), server.maze.health().engine.steps as f64);
    assert_eq!((value("ananke_num_requests_running"), value("ananke_kv_cache_usage_ratio")), (0.0, 0.0));
    let requests: BTreeMap<_, _> = samples["ananke_http_requests_total"]
        .iter()
        .map(|(labels, count)| ([&*labels["method"], &*labels["path"], &*labels["status"]].join(" "), *count))
        .collect();
    let expected = [
        ("POST /v1/completions 200", 2.0),
        ("POST /v1/completions 422", 1.0),
        ("GET /v1/models/{*id} 200", 1.0),
        ("GET /v1/models/{*id} 404", 1.0),
        ("GET unmatched 404", 2.0),
        ("other unmatched 404", 1.0),
    ];
    assert_eq!(requests, expected.map(|(series, count)| (series.to_owned(), count)).into());
    for name in types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
        let mut of_series: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        for (labels, count) in &samples[&format!("{name}_bucket")] {
            let mut labels = labels.clone();
            let bound = labels.remove("le").expect("every bucket has a bound");
            of_series.entry(labels).or_default().push((bound.parse().expect("a number"), *count));
        }
        for (labels, buckets) in of_series {
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}: {buckets:?}");
            let count = samples[&format!("{name}_count")].iter().find(|sample| sample.0 == labels).map(|found| found.1);
            assert_eq!(buckets.last().copied(), count.map(|count| (f64::INFINITY, count)), "{name}");
        }
    }
}
