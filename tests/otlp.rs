//! Spans of requests at a collector: what they say and do not say, and that no request ever waits for them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ananke::engine::EngineConfig;
use ananke::otlp::wire::{ExportTracePartialSuccess, KeyValue, Resource, Span, Value as Attribute};
use ananke::otlp::wire::{ExportTraceServiceRequest, ExportTraceServiceResponse, SpanKind, StatusCode};
use ananke::otlp::{Exporter, ExporterConfig, SpanQueue};
use ananke::remote::{Address, RemoteError};
use ananke::server::{ApiKeys, NewKey, Scope, ServerConfig, router_with_keys, traced};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode as HttpStatus};
use axum::response::IntoResponse;
use axum::routing::post;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::ServiceExt;

#[path = "common/scripted.rs"]
mod scripted;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: [u8; 8] = [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// Longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a collector answers with.
#[derive(Clone)]
enum Answer {
    /// These one after the other, and the last one again and again.
    Statuses(Vec<HttpStatus>),
    /// A success that takes all but so many.
    AllBut(i64),
    /// Nothing, ever.
    Silence,
}

/// A collector on loopback, for as long as the test.
struct Collector {
    endpoint: Address,
    bodies: UnboundedReceiver<Bytes>,
}

impl Collector {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
        let (sender, bodies) = unbounded_channel();
        let num_asked = Arc::new(Mutex::new(0));
        let take = post(async move |headers: HeaderMap, body: Bytes| {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            sender.send(body).expect("the test goes on");
            let before = {
                let mut num_asked = num_asked.lock().expect("no panic");
                *num_asked += 1;
                *num_asked - 1
            };
            match &answer {
                Answer::Statuses(statuses) => statuses[before.min(statuses.len() - 1)].into_response(),
                Answer::AllBut(rejected_spans) => {
                    let rest =
                        ExportTracePartialSuccess { rejected_spans: *rejected_spans, error_message: "old".into() };
                    ExportTraceServiceResponse { partial_success: Some(rest) }.encode_to_vec().into_response()
                }
                Answer::Silence => std::future::pending().await,
            }
        });
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/traces", take)).await });
        Self { endpoint: Address::parse(&endpoint).expect("an address"), bodies }
    }

    async fn good() -> Self {
        Self::start(Answer::Statuses(vec![HttpStatus::OK])).await
    }

    async fn body(&mut self) -> Bytes {
        let body = tokio::time::timeout(PATIENCE, self.bodies.recv()).await;
        body.expect("something is posted").expect("the collector runs")
    }

    /// What was posted next.
    async fn request(&mut self) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest::decode(self.body().await).expect("it is the message that is named")
    }

    async fn spans(&mut self) -> Vec<Span> {
        spans_of(self.request().await)
    }

    /// The one span of what was posted next.
    async fn span(&mut self) -> Span {
        let mut spans = self.spans().await;
        assert_eq!(spans.len(), 1, "{spans:?}");
        spans.remove(0)
    }

    /// Each span by itself, as soon as it is there.
    fn config(&self) -> ExporterConfig {
        config(self.endpoint.clone())
    }
}

fn config(endpoint: Address) -> ExporterConfig {
    ExporterConfig { batch_len_max: 1, ..ExporterConfig::new(endpoint) }
}

fn spans_of(request: ExportTraceServiceRequest) -> Vec<Span> {
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn server(spans: SpanQueue) -> Router {
    server_with(spans, Duration::ZERO, None)
}

fn server_with(spans: SpanQueue, time_per_step: Duration, keys: Option<Arc<ApiKeys>>) -> Router {
    let maze = scripted::maze(time_per_step, EngineConfig::default());
    traced(router_with_keys(maze, ServerConfig::default(), keys), spans)
}

async fn send(server: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Body::from(body)).expect("a request");
    server.clone().oneshot(request).await.expect("the router answers everything")
}

async fn text(response: Response<Body>) -> String {
    let bytes = to_bytes(response.into_body(), 16 << 20).await.expect("the body ends");
    String::from_utf8(bytes.to_vec()).expect("replies are UTF-8")
}

async fn complete(server: &Router, headers: &[(&str, &str)], body: &Value) -> Value {
    let response = send(server, "POST", "/v1/completions", headers, body.to_string()).await;
    serde_json::from_str(&text(response).await).expect("replies are JSON")
}

/// Twelve letters.
fn letters() -> Value {
    json!({"prompt": "the codeword is swordfish", "max_tokens": 64, "seed": 1,
        "structured_outputs": {"regex": "[a-z]{12}"}})
}

fn value(attributes: &[KeyValue], key: &str) -> Option<Attribute> {
    let found: Vec<_> = attributes.iter().filter(|attribute| attribute.key == key).collect();
    assert!(found.len() <= 1, "{key} is there twice");
    found.first().and_then(|attribute| attribute.value.clone()?.value)
}

fn get(span: &Span, key: &str) -> Option<Attribute> {
    value(&span.attributes, key)
}

fn number(span: &Span, key: &str) -> f64 {
    match get(span, key) {
        Some(Attribute::Double(number)) => number,
        other => panic!("{key} is {other:?}"),
    }
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().expect("it has ended").code() == StatusCode::Error
}

/// Sums of a counter in the metrics, by its label.
async fn counted(server: &Router, name: &str) -> f64 {
    let text = text(send(server, "GET", "/metrics", &[], String::new()).await).await;
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    lines.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
}

async fn wait_for(server: &Router, name: &str, expected: f64) {
    let reached = async {
        while counted(server, name).await < expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("it is counted");
    assert_eq!(counted(server, name).await, expected, "{name}");
}

const SENT: &str = "ananke_otlp_spans_sent_total";
const DROPPED: &str = "ananke_otlp_spans_dropped_total";

/// The log of this thread, on which the runtime of a test runs its tasks.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        (log, tracing::subscriber::set_default(subscriber.finish()))
    }

    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).matches(text).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_request_is_one_span_below_its_caller_that_says_how_it_went() {
    let (log, _guard) = Log::start();
    let mut collector = Collector::good().await;
    let (spans, _exporter) = Exporter::start(collector.config()).expect("it starts");
    let server = server(spans);
    let response = send(&server, "POST", "/v1/completions", &[("traceparent", SAMPLED)], letters().to_string()).await;
    let request_id = response.headers()["x-request-id"].to_str().expect("visible").to_owned();
    let reply: Value = serde_json::from_str(&text(response).await).expect("replies are JSON");

    let posted = collector.request().await;
    let Resource { attributes } = posted.resource_spans[0].resource.clone().expect("it is named");
    assert_eq!(value(&attributes, "service.name"), Some("ananke".into()));
    assert_eq!(value(&attributes, "service.version"), Some(env!("CARGO_PKG_VERSION").into()));
    let [span] = &spans_of(posted)[..] else { panic!("one request was made") };
    assert_eq!((span.trace_id_hex().as_str(), &span.parent_span_id[..], span.flags), (TRACE, &PARENT[..], 0x301));
    assert_eq!((span.span_id.len(), span.kind(), span.name.as_str()), (8, SpanKind::Server, "POST /v1/completions"));
    assert!(
        span.start_time_unix_nano > 1_700_000_000_000_000_000 && span.end_time_unix_nano > span.start_time_unix_nano
    );
    assert!(!is_error(span));
    let id = reply["id"].as_str().and_then(|id| id.strip_prefix("cmpl-")).expect("an id of a completion");
    let usage = |field: &str| Attribute::from(reply["usage"][field].as_u64().expect("a count"));
    for (key, expected) in [
        ("http.request.method", "POST".into()),
        ("http.route", "/v1/completions".into()),
        ("http.response.status_code", 200.into()),
        ("ananke.request_id", request_id.as_str().into()),
        ("gen_ai.operation.name", "text_completion".into()),
        ("gen_ai.provider.name", "ananke".into()),
        ("gen_ai.request.model", "scripted".into()),
        ("gen_ai.response.id", format!("gen-{id}").as_str().into()),
        ("gen_ai.usage.input_tokens", usage("prompt_tokens")),
        ("gen_ai.usage.output_tokens", usage("completion_tokens")),
        ("gen_ai.response.finish_reasons", ["stop"].as_slice().into()),
        ("ananke.all_satisfied", true.into()),
    ] {
        assert_eq!(get(span, key), Some(expected), "{key}");
    }
    let took = (span.end_time_unix_nano - span.start_time_unix_nano) as f64 / 1e9;
    let (admission, first) =
        (number(span, "ananke.admission_seconds"), number(span, "gen_ai.server.time_to_first_token"));
    assert!(0.0 < admission && admission <= first && first <= took, "{admission} {first} {took}");
    assert!(number(span, "ananke.mask_seconds") >= 0.0);
    assert_eq!(get(span, "error.type"), None);
    // A line of the log is found by its trace.
    assert_eq!(log.count(&format!("trace_id=\"{TRACE}\"")), 1);
    wait_for(&server, SENT, 1.0).await;
    assert_eq!(counted(&server, DROPPED).await, 0.0);
}

#[tokio::test]
async fn nothing_that_was_written_or_said_is_in_a_span() {
    let key = NewKey::generate("someone", &[Scope::Generate]).expect("a key");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), &key.entry).expect("it can be written");
    let keys = Arc::new(ApiKeys::open(file.path()).expect("a list of keys"));
    let mut collector = Collector::good().await;
    let (spans, _exporter) = Exporter::start(collector.config()).expect("it starts");
    let server = server_with(spans, Duration::ZERO, Some(keys));
    let bearer = format!("Bearer {}", key.secret);
    let headers = [
        ("authorization", bearer.as_str()),
        ("user-agent", "agent-of-mine"),
        ("x-mine", "header-of-mine"),
        ("tracestate", "vendor=state-of-mine"),
        ("traceparent", SAMPLED),
    ];
    let mut body = letters();
    body["stop"] = json!(["stop-of-mine"]);
    let reply = complete(&server, &headers, &body).await;
    let said = reply["choices"][0]["text"].as_str().expect("text").to_owned();
    assert_eq!(said.len(), 12, "{reply}");
    let secret = key.secret.as_str();
    let mut asked = vec![(
        "POST",
        "/v1/completions?query-of-mine=1",
        json!({"prompt": "swordfish", "n": 1, "model": "model-of-mine"}),
    )];
    asked.push(("POST", "/v1/completions", json!({"prompt": "swordfish", "field-of-mine": 1})));
    asked.push(("GET", "/v1/models/model-of-mine", json!(null)));
    asked.push(("GET", "/path-of-mine/swordfish?query-of-mine=1", json!(null)));
    asked.push(("METHODOFMINE", "/v1/completions", json!(null)));
    let num_asked = asked.len();
    for (method, path, body) in asked {
        send(&server, method, path, &headers, body.to_string()).await;
    }
    for num_seen in 0..=num_asked {
        let body = collector.body().await;
        let bytes = String::from_utf8_lossy(&body).to_lowercase();
        for word in ["swordfish", "codeword", "of-mine", "ofmine", "[a-z]", "someone", &said, secret] {
            assert!(!bytes.contains(&word.to_lowercase()), "span {num_seen} has `{word}`: {bytes}");
        }
    }
}

#[tokio::test]
async fn a_stream_is_a_span_to_its_last_byte() {
    let mut collector = Collector::good().await;
    let (spans, _exporter) = Exporter::start(collector.config()).expect("it starts");
    let server = server(spans);
    let mut body = letters();
    body["stream"] = json!(true);
    body["n"] = json!(2);
    body["stream_options"] = json!({"include_usage": true});
    let response = send(&server, "POST", "/v1/completions", &[], body.to_string()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(collector.bodies.try_recv().is_err(), "the reply has only begun");
    let text = text(response).await;
    let usage = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let usage = usage.expect("the last chunk")["usage"].clone();
    let span = collector.span().await;
    assert_eq!((span.trace_id.len(), span.parent_span_id.len(), span.flags), (16, 0, 0x101));
    for (key, field) in
        [("gen_ai.usage.input_tokens", "prompt_tokens"), ("gen_ai.usage.output_tokens", "completion_tokens")]
    {
        assert_eq!(get(&span, key), usage[field].as_u64().map(Attribute::from), "{key}: {usage}");
    }
    assert_eq!(get(&span, "gen_ai.response.finish_reasons"), Some(["stop", "stop"].as_slice().into()));
    assert_eq!(get(&span, "error.type"), None);
}

#[tokio::test]
async fn the_callers_wish_is_kept_and_what_is_no_parent_is_ignored() {
    let mut collector = Collector::good().await;
    let (spans, _exporter) = Exporter::start(collector.config()).expect("it starts");
    let server = server(spans);
    let ask = async |headers: &[(&str, &str)]| send(&server, "GET", "/v1/models", headers, String::new()).await;
    let unsampled = SAMPLED.replace("-01", "-00");
    ask(&[("traceparent", &unsampled)]).await;
    for path in ["/health", "/ready", "/metrics"] {
        send(&server, "GET", path, &[("traceparent", SAMPLED)], String::new()).await;
    }
    for headers in [
        &[("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01")][..],
        &[("traceparent", "nonsense")],
        &[("traceparent", SAMPLED), ("traceparent", SAMPLED)],
    ] {
        ask(headers).await;
        let span = collector.span().await;
        assert_eq!((span.name.as_str(), span.parent_span_id.len()), ("GET /v1/models", 0), "{headers:?}");
        assert_ne!(span.trace_id_hex(), TRACE, "{headers:?}");
        assert_eq!(get(&span, "gen_ai.request.model"), None);
    }
    ask(&[("traceparent", SAMPLED)]).await;
    assert_eq!(collector.span().await.parent_span_id, PARENT, "and none of the first four came");
}

#[tokio::test]
async fn a_refusal_says_why_and_who_leaves_is_noted() {
    let mut collector = Collector::good().await;
    let (spans, _exporter) = Exporter::start(collector.config()).expect("it starts");
    let server = server_with(spans, Duration::from_millis(20), None);
    for (method, path, body, name, status, error) in [
        ("POST", "/v1/completions", r#"{"prompt": 1.5}"#, "POST /v1/completions", 400, "invalid_value"),
        ("POST", "/v1/completions", r#"{"prompt": "x", "model": "y"}"#, "POST /v1/completions", 404, "model_not_found"),
        ("GET", "/v1/models/y", "", "GET /v1/models/{*id}", 404, "model_not_found"),
        ("GET", "/no/such/path", "", "GET", 404, "unsupported_endpoint"),
        ("BREW", "/v1/models", "", "HTTP /v1/models", 405, "method_not_allowed"),
    ] {
        let response = send(&server, method, path, &[], body.into()).await;
        assert_eq!(response.status(), status, "{name}");
        drop(response);
        let span = collector.span().await;
        assert_eq!(span.name, name);
        assert_eq!(get(&span, "http.response.status_code"), Some(u64::from(status).into()));
        assert_eq!(get(&span, "error.type"), Some(error.into()), "{name}");
        assert!(!is_error(&span), "the client is to blame");
    }
    let body =
        json!({"prompt": "x", "max_tokens": 400, "stream": true, "structured_outputs": {"regex": "[a-z]{4000}"}});
    drop(send(&server, "POST", "/v1/completions", &[], body.to_string()).await);
    let left = collector.span().await;
    assert_eq!(get(&left, "http.response.status_code"), Some(200.into()));
    assert_eq!(get(&left, "error.type"), Some("cancelled".into()));
    assert!(get(&left, "gen_ai.usage.input_tokens").is_some() && get(&left, "gen_ai.usage.output_tokens").is_none());
    let mut whole = body;
    whole["stream"] = json!(false);
    let asked = send(&server, "POST", "/v1/completions", &[], whole.to_string());
    assert!(tokio::time::timeout(Duration::from_millis(100), asked).await.is_err(), "it takes longer");
    let left = collector.span().await;
    assert_eq!((get(&left, "http.response.status_code"), get(&left, "error.type")), (None, Some("cancelled".into())));
}

#[tokio::test]
async fn no_request_fails_or_waits_because_of_a_collector_and_what_is_lost_is_counted() {
    let absent = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Address::parse(&format!("http://{}/v1/traces", listener.local_addr().expect("an address"))).expect("an address")
    };
    let failing = Collector::start(Answer::Statuses(vec![HttpStatus::INTERNAL_SERVER_ERROR])).await;
    let busy = Collector::start(Answer::Statuses(vec![HttpStatus::SERVICE_UNAVAILABLE])).await;
    let silent = Collector::start(Answer::Silence).await;
    for endpoint in [absent, failing.endpoint.clone(), busy.endpoint.clone(), silent.endpoint.clone()] {
        let (log, _guard) = Log::start();
        let config = ExporterConfig { timeout: Duration::from_millis(300), ..config(endpoint.clone()) };
        let (spans, _exporter) = Exporter::start(config).expect("it starts");
        let server = server(spans);
        for _ in 0..4 {
            let reply = complete(&server, &[], &letters()).await;
            assert_eq!(reply["choices"][0]["finish_reason"], "stop", "{endpoint:?}: {reply}");
        }
        wait_for(&server, DROPPED, 4.0).await;
        assert_eq!((counted(&server, SENT).await, log.count("spans are lost")), (0.0, 1), "{endpoint:?}");
        assert!(log.count(endpoint.host()) >= 1, "the line names the collector");
    }
}

#[tokio::test]
async fn a_queue_that_is_full_drops_and_an_outage_has_one_line_at_each_end() {
    let (log, _guard) = Log::start();
    let mut silent = Collector::start(Answer::Silence).await;
    let config = ExporterConfig { queue_len_max: 3, ..silent.config() };
    let (spans, _exporter) = Exporter::start(config).expect("it starts");
    let server = server(spans);
    let ask = async || drop(send(&server, "GET", "/v1/models", &[], String::new()).await);
    ask().await;
    silent.span().await;
    for _ in 0..10 {
        ask().await;
    }
    assert_eq!(counted(&server, "ananke_otlp_spans_dropped_total{reason=\"queue_full\"}").await, 7.0);
    assert_eq!(log.count("spans are lost"), 0, "the collector still has its time");

    let statuses = [500, 400, 500, 200].map(|status| HttpStatus::from_u16(status).expect("a status"));
    let mut flaky = Collector::start(Answer::Statuses(statuses.to_vec())).await;
    let (spans, _exporter) = Exporter::start(flaky.config()).expect("it starts");
    let server = self::server(spans);
    for num_sent in 0..5 {
        drop(send(&server, "GET", "/v1/models", &[], String::new()).await);
        flaky.span().await;
        let counter = if num_sent < 3 { DROPPED } else { SENT };
        wait_for(&server, counter, f64::from(if num_sent < 3 { num_sent + 1 } else { num_sent - 2 })).await;
    }
    assert_eq!((log.count("spans are lost"), log.count("spans are sent again")), (1, 1));
    assert_eq!(log.count("num_dropped=3"), 1);
}

#[tokio::test]
async fn a_collector_that_asks_for_patience_gets_the_batch_again_and_one_that_takes_a_part_is_believed() {
    let statuses = [503, 429, 200].map(|status| HttpStatus::from_u16(status).expect("a status"));
    let mut collector = Collector::start(Answer::Statuses(statuses.to_vec())).await;
    let (spans, exporter) = Exporter::start(collector.config()).expect("it starts");
    let server = server(spans);
    drop(send(&server, "GET", "/v1/models", &[], String::new()).await);
    let first = collector.span().await;
    assert_eq!([collector.span().await, collector.span().await], [first.clone(), first], "the same span");
    wait_for(&server, SENT, 1.0).await;
    assert_eq!(counted(&server, DROPPED).await, 0.0);
    exporter.close().await;

    let (log, _guard) = Log::start();
    let mut picky = Collector::start(Answer::AllBut(2)).await;
    let config = ExporterConfig { batch_len_max: 5, batch_delay: PATIENCE, ..picky.config() };
    let (spans, _exporter) = Exporter::start(config).expect("it starts");
    let server = self::server(spans);
    for _ in 0..5 {
        drop(send(&server, "GET", "/v1/models", &[], String::new()).await);
    }
    assert_eq!(picky.spans().await.len(), 5, "a full batch goes at once");
    wait_for(&server, SENT, 3.0).await;
    wait_for(&server, DROPPED, 2.0).await;
    assert_eq!(log.count("did not take 2 of them: old"), 1);
}

#[tokio::test]
async fn closing_sends_what_waits_and_ends_in_its_time_whatever_the_collector_does() {
    let mut collector = Collector::good().await;
    let config = ExporterConfig { batch_delay: PATIENCE, batch_len_max: 2, ..collector.config() };
    let (spans, exporter) = Exporter::start(config).expect("it starts");
    for _ in 0..3 {
        spans.push(Span::of_server("GET /".into(), None));
    }
    exporter.close().await;
    assert_eq!((collector.spans().await.len(), collector.spans().await.len()), (2, 1));
    spans.push(Span::of_server("GET /".into(), None));
    let server = server(spans);
    assert_eq!(
        (counted(&server, SENT).await, counted(&server, DROPPED).await),
        (3.0, 1.0),
        "the last one came too late"
    );

    let (log, _guard) = Log::start();
    let silent = Collector::start(Answer::Silence).await;
    let config = ExporterConfig { flush_max: Duration::from_millis(50), timeout: PATIENCE, ..silent.config() };
    let (spans, exporter) = Exporter::start(config).expect("it starts");
    for _ in 0..3 {
        spans.push(Span::of_server("GET /".into(), None));
    }
    tokio::time::timeout(PATIENCE, exporter.close()).await.expect("it ends");
    let server = self::server(spans);
    assert_eq!((counted(&server, SENT).await, counted(&server, DROPPED).await), (0.0, 3.0));
    assert_eq!(log.count("num_left=3"), 1);
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_an_error_at_the_start() {
    let endpoint = Address::parse("https://127.0.0.1:1/v1/traces").expect("an address");
    let config = ExporterConfig { authorities: Some("/no/such/ca.pem".into()), ..ExporterConfig::new(endpoint) };
    let error = Exporter::start(config).err().expect("there is no such file");
    assert!(
        matches!(error, RemoteError::Authorities { .. }) && error.to_string().contains("/no/such/ca.pem"),
        "{error}"
    );
}

/// The program, until the test ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_program_sends_its_last_spans_when_it_is_told_to_stop() {
    let mut collector = Collector::good().await;
    let endpoint = format!("http://{}/v1/traces", collector.endpoint.host());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ananke-serve"));
    command.args(["--port", "0", "--offline", "--otlp-endpoint", &endpoint]);
    let mut program = Program(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts"));
    let stdout = BufReader::new(program.0.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let address = tokio::task::spawn_blocking(move || {
        let mut stdout = stdout;
        stdout.find_map(|line| line.strip_prefix("listening on http://").map(str::to_owned))
    });
    let address = address.await.expect("no panic").expect("it says where");
    let mut stream = TcpStream::connect(&address).expect("it listens");
    let request = format!("GET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntraceparent: {SAMPLED}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("it is answered");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let pid = rustix::process::Pid::from_child(&program.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert_eq!(collector.span().await.parent_span_id, PARENT);
    let status = tokio::task::spawn_blocking(move || program.0.wait());
    assert!(status.await.expect("no panic").expect("it ends").success());
}
