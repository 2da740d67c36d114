//! A remote model in place of the local one: stubs that misbehave, and another ananke.
//!
//! Whatever the server behind the address does, what leaves here was walked by the matchers, and every failure has its
//! own error.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ananke::maze::{self, Maze, MazeConfig, ModelSource, OpenOptions};
use ananke::remote::{Address, BackendConfig, Key, Service};
use ananke::server::{ServerConfig, router, serve};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode, header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tower::ServiceExt;

#[path = "common/scripted.rs"]
mod scripted;

/// What opens the stubs, and must be seen nowhere else.
const KEY: &str = "sk-test-0123456789";

/// What a stub does with one request.
#[derive(Clone)]
enum Reply {
    /// These bytes, one write for each piece, and the connection is closed.
    Bytes(Vec<Vec<u8>>),
    /// The head of a stream and this text, and nothing more for a while.
    Silence(String),
}

/// A server that answers the first request with the first reply, and so on; the last reply is for all that follow.
struct Stub {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// How many clients hung up while the stub was silent.
    hung_up: Arc<Mutex<usize>>,
}

#[derive(Clone, Debug)]
struct Asked {
    head: String,
    body: Value,
    at: Instant,
}

impl Stub {
    fn new(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let (asked, hung_up) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let stub = Self { address, asked: asked.clone(), hung_up: hung_up.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (replies, asked, hung_up) = (replies.clone(), asked.clone(), hung_up.clone());
                thread::spawn(move || {
                    let Some(request) = read_request(&stream) else { return };
                    let index = {
                        let mut asked = asked.lock().expect("no handler panics");
                        asked.push(request);
                        asked.len() - 1
                    };
                    answer(stream, &replies[index.min(replies.len() - 1)], &hung_up);
                });
            }
        });
        stub
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no handler panics").clone()
    }

    fn config(&self, service: Service) -> BackendConfig {
        let address = Address::parse(&self.address).expect("an address");
        let mut config = BackendConfig::new(address, service, "m".into());
        config.key = Some(Key::new(KEY).expect("a key"));
        config.timeout = Duration::from_secs(30);
        config.stall = Duration::from_secs(5);
        config
    }

    fn server(&self, service: Service) -> Router {
        over(self.config(service))
    }
}

fn answer(mut stream: TcpStream, reply: &Reply, hung_up: &Mutex<usize>) {
    match reply {
        Reply::Bytes(pieces) => {
            for piece in pieces {
                if stream.write_all(piece).and_then(|()| stream.flush()).is_err() {
                    return;
                }
            }
        }
        Reply::Silence(text) => {
            let sent = stream.write_all(&[STREAM_HEAD.as_bytes(), event(text).as_bytes()].concat());
            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
            // The client sends nothing more, so this returns when it hangs up.
            if sent.is_ok() && matches!(stream.read(&mut [0]), Ok(0) | Err(_)) {
                *hung_up.lock().expect("no handler panics") += 1;
            }
        }
    }
}

fn read_request(stream: impl Read) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line.to_ascii_lowercase());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().expect("a number"))];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Asked { head, body, at: Instant::now() })
}

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// The event of a piece of text, for completions and chats alike.
fn event(text: &str) -> String {
    let choice = json!({"index": 0, "text": text, "delta": {"content": text}, "finish_reason": null});
    format!("data: {}\n\n", json!({"choices": [choice]}))
}

/// A stream that says `texts` and ends for `reason`.
fn said(texts: &[&str], reason: &str) -> String {
    let texts: String = texts.iter().map(|text| event(text)).collect();
    let end = json!({"choices": [{"index": 0, "text": "", "delta": {}, "finish_reason": reason}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}});
    format!("{STREAM_HEAD}{texts}data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

fn good(texts: &[&str]) -> Reply {
    bytes(&said(texts, "stop"))
}

fn bytes(text: &str) -> Reply {
    Reply::Bytes(vec![text.as_bytes().to_vec()])
}

fn json_reply(status: &str, headers: &str, body: &str) -> Reply {
    let len = body.len();
    bytes(&format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n{headers}connection: close\r\n\r\n{body}"
    ))
}

fn over(config: BackendConfig) -> Router {
    router(maze_over(config), ServerConfig::default())
}

fn maze_over(config: BackendConfig) -> Maze {
    maze::open(OpenOptions::new(ModelSource::Remote(Box::new(config)))).expect("nothing has to be loaded")
}

async fn send(server: &Router, path: &str, body: &Value) -> Response<Body> {
    let request = Request::builder().method(Method::POST).uri(path).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).expect("a request");
    server.clone().oneshot(request).await.expect("the router answers everything")
}

async fn text(response: Response<Body>) -> String {
    let bytes = to_bytes(response.into_body(), 16 << 20).await.expect("the body ends");
    String::from_utf8(bytes.to_vec()).expect("replies are UTF-8")
}

async fn post(server: &Router, path: &str, body: &Value) -> (StatusCode, Value) {
    let response = send(server, path, body).await;
    let status = response.status();
    let text = text(response).await;
    assert!(!text.contains(KEY), "the key is in a reply");
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}")))
}

/// The JSON of each event of a stream but `[DONE]`.
async fn events(server: &Router, path: &str, body: &Value) -> Vec<Value> {
    let text = text(send(server, path, body).await).await;
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect("events are JSON")).collect()
}

fn streamed_text(events: &[Value]) -> String {
    events.iter().filter_map(|event| event.pointer("/choices/0/text").and_then(Value::as_str)).collect()
}

fn error_code(reply: &Value) -> &str {
    reply["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {reply}"))
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false})
}

/// An object with one number.
fn asked_for_json() -> Value {
    json!({"prompt": "p", "max_tokens": 50, "seed": 4, "constraint_ir": {"json_schema": schema()}})
}

#[tokio::test]
async fn a_remote_answer_reads_like_a_local_one_however_its_bytes_are_split() {
    let whole = said(&["{\"n\"", ": 1", "2}"], "stop");
    let split = Reply::Bytes(whole.bytes().map(|byte| vec![byte]).collect());
    let stub = Stub::new(vec![bytes(&whole), split]);
    let server = stub.server(Service::Vllm);
    let (status, reply) = post(&server, "/v1/completions", &asked_for_json()).await;
    assert_eq!((status, &reply["choices"][0]["text"]), (StatusCode::OK, &json!("{\"n\": 12}")), "{reply}");
    assert_eq!(reply["usage"], json!({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}));
    assert_eq!(reply["choices"][0]["validation"]["all_satisfied"], true);
    let remote = &reply["provenance"][0]["remote"];
    assert_eq!(
        (&remote["service"], &remote["asked_to_enforce"]),
        (&json!("vllm"), &json!(["constraints[0].json_schema"]))
    );
    let mut streamed = asked_for_json();
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let events = events(&server, "/v1/completions", &streamed).await;
    assert_eq!(streamed_text(&events), "{\"n\": 12}");
    assert_eq!(events.last().map(|last| &last["usage"]["prompt_tokens"]), Some(&json!(7)));
    for asked in stub.asked() {
        assert!(
            asked.head.contains(&format!("authorization: bearer {KEY}"))
                && asked.head.starts_with("post /v1/completions")
        );
        assert_eq!(asked.body["structured_outputs"]["json"], schema());
        assert_eq!((&asked.body["max_tokens"], &asked.body["seed"]), (&json!(50), &json!(4)));
    }
}

#[tokio::test]
async fn a_lie_is_cut_and_asked_for_again_with_another_seed() {
    let stub = Stub::new(vec![good(&["{\"n\": ", "\"x\"}"]), good(&["{\"n\": 3}"])]);
    let ask = json!({"prompt": "p", "seed": 4, "constraints": {"json_schema": schema()}});
    let (status, reply) = post(&stub.server(Service::Vllm), "/generate", &ask).await;
    assert_eq!((status, &reply["generated_text"]), (StatusCode::OK, &json!("{\"n\": 3}")), "{reply}");
    assert_eq!(reply["stats"]["remote"], json!({"num_attempts": 2, "tokens_are_counted": true}));
    let seeds: Vec<_> = stub.asked().iter().map(|asked| asked.body["seed"].clone()).collect();
    assert!(seeds.len() == 2 && seeds[0] != seeds[1], "{seeds:?}");
}

#[tokio::test]
async fn a_lie_that_stays_is_never_claimed() {
    let stub = Stub::new(vec![good(&["{\"n\": ", "\"x\"}"])]);
    let server = stub.server(Service::Vllm);
    let (status, reply) = post(&server, "/v1/completions", &asked_for_json()).await;
    assert_eq!((status, error_code(&reply)), (StatusCode::BAD_GATEWAY, "remote_violated_constraints"), "{reply}");
    assert!(reply["error"]["message"].as_str().is_some_and(|text| text.contains("after byte 6")), "{reply}");
    assert_eq!(stub.asked().len(), 3);
    let mut greedy = asked_for_json();
    greedy["temperature"] = json!(0);
    let (status, _) = post(&server, "/v1/completions", &greedy).await;
    assert_eq!((status, stub.asked().len()), (StatusCode::BAD_GATEWAY, 4), "without chance the same would come again");
    let mut streamed = asked_for_json();
    streamed["stream"] = json!(true);
    let events = events(&server, "/v1/completions", &streamed).await;
    assert_eq!(error_code(events.last().expect("a stream says how it ends")), "remote_violated_constraints");
    assert_eq!(streamed_text(&events), "{\"n\": ", "what is allowed, and no byte more");
    assert!(events.iter().all(|event| event.pointer("/choices/0/validation").is_none_or(Value::is_null)));
}

#[tokio::test]
async fn an_end_where_the_constraints_take_none_is_no_end() {
    let stub = Stub::new(vec![good(&["{\"n\": 3"]), good(&["{\"n\": 4}"]), good(&["{\"n\""])]);
    let server = stub.server(Service::Openai);
    let (status, reply) = post(&server, "/v1/completions", &asked_for_json()).await;
    assert_eq!((status, &reply["choices"][0]["text"]), (StatusCode::OK, &json!("{\"n\": 4}")), "{reply}");
    let (status, reply) = post(&server, "/v1/completions", &asked_for_json()).await;
    assert_eq!((status, error_code(&reply)), (StatusCode::BAD_GATEWAY, "remote_violated_constraints"), "{reply}");
    let cut = Stub::new(vec![bytes(&said(&["{\"n\": 3"], "length"))]);
    let (status, reply) = post(&cut.server(Service::Openai), "/v1/completions", &asked_for_json()).await;
    let choice = &reply["choices"][0];
    assert_eq!((status, &choice["finish_reason"]), (StatusCode::OK, &json!("length")), "{reply}");
    assert_eq!(choice["validation"]["all_satisfied"], false, "truncated output is never satisfied");
}

#[tokio::test]
async fn text_that_was_sent_is_gone_on_from_and_not_repeated() {
    let broken = format!("{STREAM_HEAD}{}{}", event("{\"n\""), event(": 1"));
    let stub = Stub::new(vec![bytes(&broken), good(&["2", "}"])]);
    let mut streamed = asked_for_json();
    streamed["stream"] = json!(true);
    let events = events(&stub.server(Service::Vllm), "/v1/completions", &streamed).await;
    assert_eq!(streamed_text(&events), "{\"n\": 12}", "{events:?}");
    let asked = stub.asked();
    assert_eq!(asked[1].body["prompt"], "p{\"n\": 1");
    assert_eq!(asked[1].body["max_tokens"], 48, "two pieces are spent");
    assert!(asked[1].body.get("structured_outputs").is_none(), "what is left is no object by itself");
    let mut chat = json!({"messages": [{"role": "user", "content": "p"}], "stream": true});
    chat["constraint_ir"] = asked_for_json()["constraint_ir"].clone();
    let stub = Stub::new(vec![bytes(&broken), good(&["2", "}"])]);
    let events = self::events(&stub.server(Service::Vllm), "/v1/chat/completions", &chat).await;
    assert_eq!(error_code(events.last().expect("an end")), "remote_cut_off", "{events:?}");
    assert_eq!(stub.asked().len(), 1, "a chat cannot be gone on with");
}

#[tokio::test]
async fn every_failure_has_its_own_error() {
    let no_end = format!("{STREAM_HEAD}{}data: [DONE]\n\n", event("a"));
    let cut = format!("{STREAM_HEAD}{}", event("a"));
    let short = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\ndata: {}\n";
    let reported = format!("{STREAM_HEAD}data: {}\n\n", json!({"error": {"message": "out of memory"}}));
    for (reply, status, code, num_asked) in [
        (json_reply("500 Oops", "", "{}"), 502, "remote_failed", 2),
        (json_reply("401 Who", "", &format!("{{\"key\": \"{KEY}\"}}")), 502, "remote_failed", 1),
        (json_reply("400 Bad", "", "{\"error\": \"too long\"}"), 400, "remote_refused", 1),
        (json_reply("429 Slow", "retry-after: 0\r\n", "{}"), 503, "remote_overloaded", 2),
        (json_reply("302 There", "location: http://127.0.0.1:1/\r\n", ""), 502, "remote_failed", 1),
        (json_reply("200 OK", "", "{\"choices\": []}"), 502, "remote_malformed", 1),
        (bytes(&format!("{STREAM_HEAD}data: {{\n\n")), 502, "remote_malformed", 1),
        (bytes(&format!("{STREAM_HEAD}data: []\n\n")), 502, "remote_malformed", 1),
        (bytes(&no_end), 502, "remote_malformed", 1),
        (bytes(&said(&["a"], "content_filter")), 502, "remote_declined", 1),
        (bytes(&said(&["a"], "tool_calls")), 502, "remote_cut_off", 1),
        (bytes(&cut), 502, "remote_cut_off", 2),
        (bytes(short), 503, "remote_unreachable", 2),
        (bytes(&reported), 502, "remote_failed", 2),
        (bytes("SSH-2.0-OpenSSH_9.6\r\n"), 503, "remote_unreachable", 2),
        (Reply::Silence("a".into()), 504, "remote_timeout", 2),
    ] {
        let stub = Stub::new(vec![reply]);
        let mut config = stub.config(Service::Vllm);
        (config.num_attempts_max, config.stall) = (2, Duration::from_millis(300));
        let (found, body) = post(&over(config), "/v1/completions", &json!({"prompt": "p"})).await;
        assert_eq!((found.as_u16(), error_code(&body)), (status, code), "{body}");
        assert_eq!(stub.asked().len(), num_asked, "{code}: {body}");
    }
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let address = Address::parse(&format!("http://{free}/v1")).expect("an address");
    let server = over(BackendConfig::new(address, Service::Vllm, "m".into()));
    let (status, body) = post(&server, "/v1/completions", &json!({"prompt": "p"})).await;
    assert_eq!((status.as_u16(), error_code(&body)), (503, "remote_unreachable"), "{body}");
}

#[tokio::test]
async fn what_the_server_asks_to_wait_is_waited() {
    let stub = Stub::new(vec![json_reply("503 Later", "retry-after: 1\r\n", "{}"), good(&["a"])]);
    let (status, _) = post(&stub.server(Service::Vllm), "/v1/completions", &json!({"prompt": "p"})).await;
    let asked = stub.asked();
    assert_eq!((status, asked.len()), (StatusCode::OK, 2));
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(1));
    // Nobody waits for longer than an answer may take; the client is told instead.
    let stub = Stub::new(vec![json_reply("503 Later", "retry-after: 100\r\n", "{}")]);
    let response = send(&stub.server(Service::Vllm), "/v1/completions", &json!({"prompt": "p"})).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "100");
    assert_eq!(stub.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_alone() {
    let failing = || json_reply("500 Oops", "", "{}");
    let stub = Stub::new(vec![failing(), failing(), failing(), good(&["a"])]);
    let mut config = stub.config(Service::Vllm);
    (config.num_attempts_max, config.num_failures_max) = (1, 3);
    config.left_alone_for = Duration::from_secs(1);
    let server = over(config);
    let ask = json!({"prompt": "p"});
    for _ in 0..3 {
        assert_eq!(post(&server, "/v1/completions", &ask).await.0, StatusCode::BAD_GATEWAY);
    }
    let (status, body) = post(&server, "/v1/completions", &ask).await;
    assert_eq!((status, error_code(&body)), (StatusCode::SERVICE_UNAVAILABLE, "remote_left_alone"));
    let ready = Request::get("/ready").body(Body::empty()).expect("a request");
    let ready = server.clone().oneshot(ready).await.expect("an answer");
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(stub.asked().len(), 3, "it was not asked");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(post(&server, "/v1/completions", &ask).await.0, StatusCode::OK);
    assert_eq!(post(&server, "/v1/completions", &ask).await.0, StatusCode::OK);
}

#[tokio::test]
async fn who_hangs_up_here_hangs_up_there_and_places_are_bounded() {
    let stub = Stub::new(vec![Reply::Silence("a".into())]);
    let mut config = stub.config(Service::Vllm);
    config.num_answers_max = 1;
    let server = over(config);
    let ask = json!({"prompt": "p", "stream": true});
    let mut body = send(&server, "/v1/completions", &ask).await.into_body().into_data_stream();
    let first = tokio_stream::StreamExt::next(&mut body).await.expect("a chunk").expect("the stream is whole");
    assert!(String::from_utf8_lossy(&first).contains("\"a\""));
    let (status, refused) = post(&server, "/v1/completions", &json!({"prompt": "p"})).await;
    assert_eq!((status, error_code(&refused)), (StatusCode::SERVICE_UNAVAILABLE, "overloaded"));
    drop(body);
    let hung_up = || *stub.hung_up.lock().expect("no handler panics");
    let begun = Instant::now();
    while hung_up() == 0 && begun.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(hung_up(), 1);
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_here() {
    let stub = Stub::new(vec![good(&["one ", "tw", "o three"])]);
    let ask = json!({"prompt": "p", "stop": ["two"]});
    let (status, reply) = post(&stub.server(Service::Vllm), "/v1/completions", &ask).await;
    assert_eq!((status, &reply["choices"][0]["text"]), (StatusCode::OK, &json!("one ")), "{reply}");
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    assert!(stub.asked()[0].body.get("stop").is_none(), "the matcher is to see what comes before it is cut");
}

#[tokio::test]
async fn an_echo_alone_asks_nobody() {
    let stub = Stub::new(vec![good(&["a"])]);
    let ask = json!({"prompt": "p", "echo": true, "max_tokens": 0});
    let (status, reply) = post(&stub.server(Service::Openai), "/v1/completions", &ask).await;
    assert_eq!((status, &reply["choices"][0]["text"]), (StatusCode::OK, &json!("p")), "{reply}");
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn what_takes_the_models_tokens_is_refused_by_name() {
    let stub = Stub::new(vec![good(&["a"])]);
    let server = stub.server(Service::Openai);
    for (path, body, param) in [
        ("/v1/completions", json!({"prompt": "p", "logprobs": 1}), "logprobs"),
        ("/v1/completions", json!({"prompt": "p", "logprobs": 1, "echo": true, "max_tokens": 0}), "logprobs"),
        ("/v1/completions", json!({"prompt": "p", "logit_bias": {"1": 2}}), "logit_bias"),
        ("/v1/completions", json!({"prompt": [1, 2]}), "prompt"),
        ("/v1/completions", json!({"prompt": "p", "suffix": "s"}), "suffix"),
        ("/v1/completions", json!({"prompt": "p", "top_k": 3}), "top_k"),
        ("/v1/tokenize", json!({"prompt": "p"}), "prompt"),
    ] {
        let (status, reply) = post(&server, path, &body).await;
        assert_eq!((status, error_code(&reply)), (StatusCode::BAD_REQUEST, "unsupported_parameter"), "{body}: {reply}");
        assert_eq!(reply["error"]["param"], param, "{reply}");
    }
    for ir in [json!({"token_masks": {"allowed_tokens": [97]}}), json!({"limits": {"max_tokens": 3}})] {
        for (path, body, param) in [
            ("/v1/completions", json!({"prompt": "p", "constraint_ir": ir}), "constraints"),
            ("/v1/constraints/validate", json!({"text": "a", "ir": ir}), "ir"),
            ("/v1/constraints/validate", json!({"texts": ["a", "b"], "regex": "a", "ir": ir}), "ir"),
        ] {
            let (status, reply) = post(&server, path, &body).await;
            assert_eq!((status, error_code(&reply)), (StatusCode::BAD_REQUEST, "unsupported_parameter"), "{reply}");
            assert_eq!(reply["error"]["param"], param, "{reply}");
            let name = ir.as_object().and_then(|ir| ir.keys().next()).expect("a part");
            assert!(reply["error"]["message"].as_str().is_some_and(|message| message.contains(name)), "{reply}");
        }
    }
    // Whatever is about text is judged here as anywhere.
    let (status, reply) = post(&server, "/v1/constraints/validate", &json!({"texts": ["a", "b"], "regex": "a"})).await;
    let satisfied: Vec<&Value> = (0..2).map(|idx| &reply["results"][idx]["all_satisfied"]).collect();
    assert_eq!((status, satisfied), (StatusCode::OK, vec![&json!(true), &json!(false)]), "{reply}");
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn the_service_on_modal_is_asked_as_it_takes_it_and_walked_all_the_same() {
    let reply =
        |text: &str| json_reply("200 OK", "", &json!({"generated_text": text, "tokens_generated": 5}).to_string());
    let stub = Stub::new(vec![
        reply("{\"n\": 1}"),
        reply("sure! {\"n\": 1}"),
        reply("{\"n\": 2}"),
        json_reply("200 OK", "", "[]"),
    ]);
    let server = stub.server(Service::Modal);
    let mut ask = asked_for_json();
    let (status, refused) = post(&server, "/v1/completions", &ask).await;
    assert_eq!((status, &refused["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("seed")));
    ask.as_object_mut().expect("an object").remove("seed");
    let (status, first) = post(&server, "/v1/completions", &ask).await;
    assert_eq!((status, &first["choices"][0]["text"]), (StatusCode::OK, &json!("{\"n\": 1}")), "{first}");
    assert_eq!(first["usage"]["completion_tokens"], 5);
    let (status, second) = post(&server, "/v1/completions", &ask).await;
    assert_eq!((status, &second["choices"][0]["text"]), (StatusCode::OK, &json!("{\"n\": 2}")), "{second}");
    let (status, third) = post(&server, "/v1/completions", &ask).await;
    assert_eq!((status, error_code(&third)), (StatusCode::BAD_GATEWAY, "remote_malformed"));
    let asked = &stub.asked()[0];
    assert!(asked.head.starts_with("post /v1/generate"), "{}", asked.head);
    assert_eq!(asked.body["constraints"]["grammars"][0]["json_schema"], schema());
    assert_eq!((&asked.body["prompt"], &asked.body["max_tokens"]), (&json!("p"), &json!(50)));
}

#[tokio::test]
async fn text_of_no_constraint_passes_and_forbidden_text_never_does() {
    let stub = Stub::new(vec![good(&["a pass", "word é", "🦀"]), good(&["a pass", "word"])]);
    let server = stub.server(Service::Openai);
    let (status, reply) = post(&server, "/v1/completions", &json!({"prompt": "p"})).await;
    assert_eq!((status, &reply["choices"][0]["text"]), (StatusCode::OK, &json!("a password é🦀")), "{reply}");
    let ask = json!({"prompt": "p", "stream": true, "constraint_ir": {"forbidden_text": [{"text": "password"}]}});
    let events = events(&server, "/v1/completions", &ask).await;
    assert!(!streamed_text(&events).contains("password"), "{events:?}");
    assert_eq!(error_code(events.last().expect("an end")), "remote_violated_constraints");
}

/// Signs a certificate for `name`; both in PEM, with the certificate's key.
struct Signed {
    authority: String,
    certificate: String,
    key: String,
}

fn signed(name: &str) -> Signed {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority signs itself");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("a certificate").pem();
    Signed { authority: authority.pem(), certificate, key: key.serialize_pem() }
}

/// A server behind TLS that says `a` to everyone; its port, and what it was asked.
fn behind_tls(signed: &Signed) -> (u16, Arc<Mutex<Vec<Asked>>>) {
    let certificate = CertificateDer::from_pem_slice(signed.certificate.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).expect("PEM");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").expect("a free port"), Arc::new(config));
    let (port, asked) = (listener.local_addr().expect("bound").port(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream);
            // A client that hangs up in the handshake has asked nothing.
            let Some(request) = read_request(&mut stream) else { continue };
            seen.lock().expect("no handler panics").push(request);
            let _ = stream.write_all(said(&["a"], "stop").as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (port, asked)
}

/// A client of the server at `port`, which it knows by the authorities in the file, or by those of the web.
fn known_by(port: u16, authorities: Option<&Path>) -> Router {
    let address = Address::parse(&format!("https://127.0.0.1:{port}/v1")).expect("an address");
    let mut config = BackendConfig::new(address, Service::Vllm, "m".into());
    config.key = Some(Key::new(KEY).expect("a key"));
    (config.authorities, config.num_attempts_max) = (authorities.map(Path::to_owned), 2);
    over(config)
}

#[tokio::test]
async fn a_server_behind_tls_is_asked_only_where_its_authority_vouches_for_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the temporary folder is writable");
        path
    };
    let (own, other, elsewhere) = (signed("127.0.0.1"), signed("127.0.0.1"), signed("127.0.0.2"));
    let (own_file, other_file) = (file("own.pem", &own.authority), file("other.pem", &other.authority));
    let elsewhere_file = file("elsewhere.pem", &elsewhere.authority);
    let ((port, asked), (port_elsewhere, asked_elsewhere)) = (behind_tls(&own), behind_tls(&elsewhere));
    let ask = json!({"prompt": "p"});
    for (server, what) in [
        (known_by(port, Some(&other_file)), "another authority"),
        (known_by(port, None), "the authorities of the web"),
        (known_by(port_elsewhere, Some(&elsewhere_file)), "a certificate of another host"),
    ] {
        let (status, reply) = post(&server, "/v1/completions", &ask).await;
        assert_eq!((status, error_code(&reply)), (StatusCode::BAD_GATEWAY, "remote_untrusted"), "{what}: {reply}");
        let message = reply["error"]["message"].as_str().expect("a message");
        assert!(message.contains("127.0.0.1") && message.contains("certificate"), "{what}: {message}");
    }
    let num_asked = |asked: &Mutex<Vec<Asked>>| asked.lock().expect("no handler panics").len();
    assert_eq!((num_asked(&asked), num_asked(&asked_elsewhere)), (0, 0), "nothing is sent to who is not trusted");
    let (status, reply) = post(&known_by(port, Some(&own_file)), "/v1/completions", &ask).await;
    assert_eq!((status, &reply["choices"][0]["text"]), (StatusCode::OK, &json!("a")), "{reply}");
    let heads: Vec<String> = asked.lock().expect("no handler panics").iter().map(|asked| asked.head.clone()).collect();
    assert!(heads.len() == 1 && heads[0].contains(&format!("authorization: bearer {KEY}")), "{heads:?}");
}

#[tokio::test]
async fn where_tls_was_named_nothing_is_sent_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut first = vec![0; 4096];
            let len = stream.read(&mut first).unwrap_or(0);
            kept.lock().expect("no handler panics").push(first[..len].to_vec());
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        }
    });
    let (status, reply) = post(&known_by(port, None), "/v1/completions", &json!({"prompt": "p"})).await;
    assert_eq!((status, error_code(&reply)), (StatusCode::SERVICE_UNAVAILABLE, "remote_unreachable"), "{reply}");
    let seen = seen.lock().expect("no handler panics").clone();
    assert_eq!(seen.len(), 2, "a broken connection is tried again");
    for bytes in seen {
        // The record type of a handshake and TLS's major version, and nothing of the request.
        assert_eq!(bytes[..2], [22, 3]);
        let holds = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        assert!(!holds(b"POST") && !holds(KEY.as_bytes()));
    }
}

#[test]
fn authorities_that_cannot_be_read_are_an_error_at_the_start() {
    let address = Address::parse("https://127.0.0.1:1/v1").expect("an address");
    let mut config = BackendConfig::new(address, Service::Vllm, "m".into());
    config.authorities = Some("no-such-file.pem".into());
    let opened = maze::open(OpenOptions::new(ModelSource::Remote(Box::new(config))));
    let error = opened.err().expect("there is no such file").to_string();
    assert!(error.contains("no-such-file.pem") && error.contains("cannot be read"), "{error}");
}

/// An ananke of its own on a port, over a model of noise.
async fn upstream() -> (String, Router) {
    let maze = scripted::chat_maze(MazeConfig::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let local = router(maze, ServerConfig::default());
    tokio::spawn(serve(listener, local.clone(), ServerConfig::default(), std::future::pending()));
    (address, local)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ananke_gives_what_it_gives_by_itself() {
    let (address, local) = upstream().await;
    let address = Address::parse(&address).expect("an address");
    let remote = over(BackendConfig::new(address, Service::Ananke, "scripted".into()));
    let ir = json!({"regex_patterns": [{"any_of": [{"pattern": "[a-z]{3,9}( [0-9]{2,4}){2}"}], "match": "full"}]});
    let mut completion = json!({"prompt": "p", "max_tokens": 40, "seed": 11, "n": 2});
    completion["constraint_ir"] = ir.clone();
    let mut chat = json!({"messages": [{"role": "user", "content": "p"}], "max_tokens": 40, "seed": 11});
    chat["constraint_ir"] = ir;
    for (path, body, pointer) in [
        ("/v1/completions", &completion, "/choices/0/text"),
        ("/v1/chat/completions", &chat, "/choices/0/message/content"),
    ] {
        let (here, there) = (post(&remote, path, body).await, post(&local, path, body).await);
        assert_eq!((here.0, there.0), (StatusCode::OK, StatusCode::OK), "{here:?} {there:?}");
        assert_eq!(here.1.pointer(pointer), there.1.pointer(pointer), "{path}");
        assert!(here.1.pointer(pointer).and_then(Value::as_str).is_some_and(|text| text.len() >= 9), "{here:?}");
        let prompt_tokens = |reply: &Value| reply["usage"]["prompt_tokens"].as_u64();
        assert_eq!(prompt_tokens(&here.1), prompt_tokens(&there.1), "{path}");
        let choices = here.1["choices"].as_array().expect("choices");
        assert!(choices.iter().all(|choice| choice["validation"]["all_satisfied"] == true), "{choices:?}");
    }
}
