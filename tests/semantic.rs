//! `ananke extract --semantic-url` and `--semantic-local` as a program: what a model says is taken for what it is, and
//! every failure leaves the set as it is without a model. The model behind the address is a stub that misbehaves.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use ananke::constraint::{Constraint, ConstraintSet, Kind, Source, Strength};
use serde_json::{Value, json};
use tempfile::TempDir;

const SOURCE: &str = "export interface Order { id: string }\n\
                      export function pay(cents: number) {\n  if (cents <= 0) throw new RangeError('cents');\n}\n";
/// What opens the stub, and must be seen nowhere else.
const KEY: &str = "sk-test-0123456789";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Openai,
    Anthropic,
}

impl Dialect {
    const BOTH: [Self; 2] = [Self::Openai, Self::Anthropic];

    fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// A reply that holds this answer: text that should be JSON.
    fn reply(self, answer: &str) -> Value {
        match self {
            Self::Openai => json!({"choices": [{"message": {"content": answer}, "finish_reason": "stop"}]}),
            Self::Anthropic => {
                let input: Value = serde_json::from_str(answer).expect("a tool's input is JSON");
                let block = json!({"type": "tool_use", "id": "1", "name": "report_findings", "input": input});
                json!({"content": [block], "stop_reason": "tool_use"})
            }
        }
    }

    /// A reply that says that it was cut off.
    fn cut(self) -> Value {
        let mut reply = self.reply("{\"findings\": []}");
        match self {
            Self::Openai => reply["choices"][0]["finish_reason"] = json!("length"),
            Self::Anthropic => reply["stop_reason"] = json!("max_tokens"),
        }
        reply
    }

    /// A reply of the dialect without the answer.
    fn without_answer(self) -> Value {
        match self {
            Self::Openai => json!({"choices": [{"message": {"role": "assistant"}}]}),
            Self::Anthropic => json!({"content": [{"type": "text", "text": "{\"findings\": []}"}]}),
        }
    }
}

/// What the stub does with a request once it has read it.
type Answer = Arc<dyn Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync>;

/// A server that keeps what it is asked.
struct Stub {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

#[derive(Clone, Debug)]
struct Request {
    /// The request line and the headers.
    head: String,
    body: Vec<u8>,
}

impl Stub {
    fn new(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                thread::spawn(move || {
                    if let Some(request) = read_request(&stream) {
                        seen.lock().expect("no handler panics").push(request);
                        let _ = answer(&mut stream); // the client may leave early
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn with_reply(status: &str, body: impl ToString) -> Self {
        let (status, body) = (status.to_owned(), body.to_string());
        Self::new(Arc::new(move |stream| {
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(body.as_bytes())
        }))
    }

    fn with_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::new(Arc::new(move |stream| stream.write_all(&bytes)))
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no handler panics").clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let len =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let mut body = vec![0; len?];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, body })
}

/// A folder with one source file.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().expect("a folder"));
        tree.write("pay.ts", SOURCE);
        tree
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("a file");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ananke"));
        command.args(["extract", "pay.ts", "--no-cache", "--format", "json"]).args(arguments);
        command.current_dir(self.0.path()).env_remove("ANANKE_OFFLINE");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// Asks the model at an address.
    fn ask(&self, url: &str, dialect: Dialect, more: &[&str]) -> (ConstraintSet, String) {
        let asked = ["--semantic-url", url, "--semantic-model", "m", "--semantic-dialect", dialect.name()];
        read(&self.run(&[&asked[..], more].concat()))
    }

    /// The set without any model.
    fn plain(&self) -> ConstraintSet {
        let (set, errors) = read(&self.run(&[]));
        assert_eq!(errors, "");
        assert!(set.constraints.len() > 1 && set.diagnostics.is_empty(), "{set:?}");
        set
    }

    /// The set is what it is without a model, and both it and standard error say why.
    fn check_failure(&self, url: &str, dialect: Dialect, more: &[&str], why: &str) {
        let (set, errors) = self.ask(url, dialect, more);
        // Every tree that fails holds the same source.
        static PLAIN: OnceLock<ConstraintSet> = OnceLock::new();
        assert_eq!(set.constraints, PLAIN.get_or_init(|| self.plain()).constraints, "{why}");
        assert_eq!(set.diagnostics.len(), 1, "{:?}", set.diagnostics);
        let message = &set.diagnostics[0].message;
        assert!(message.starts_with("semantic analysis: it failed: ") && message.contains(why), "{why}: {message}");
        assert!(errors.starts_with("warning: semantic analysis failed: ") && errors.contains(why), "{why}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(!message.contains(KEY) && !errors.contains(KEY), "{errors}");
    }
}

/// The set and the errors of a run with status 0.
fn read(output: &Output) -> (ConstraintSet, String) {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    (serde_json::from_slice(&output.stdout).expect("a constraint set"), errors)
}

fn finding() -> Value {
    json!({
        "file": "pay.ts", "quote": "if (cents <= 0)", "statement": "Amounts are positive.", "topic": "precondition",
        "prefer": ["new RangeError("], "avoid": ["parseFloat("], "confidence": 0.9,
    })
}

fn findings(findings: &[Value]) -> String {
    json!({"findings": findings}).to_string()
}

#[test]
fn what_a_model_says_is_added_and_never_binds() {
    for dialect in Dialect::BOTH {
        let tree = Tree::new();
        tree.write("key", &format!("{KEY}\n"));
        let stub = Stub::with_reply("200 OK", dialect.reply(&findings(&[finding()])));
        let (set, errors) = tree.ask(&format!("{}/v1", stub.address), dialect, &["--semantic-key-file", "key"]);
        assert_eq!((errors.as_str(), set.diagnostics.as_slice()), ("", &[][..]));
        let plain = tree.plain();
        let (mined, said) = set.constraints.split_at(plain.constraints.len());
        assert_eq!(mined, plain.constraints);
        let strengths: Vec<_> = said.iter().map(|one| (one.rule.type_name(), one.strength)).collect();
        assert_eq!(
            strengths,
            [("prose", Strength::Advisory), ("bias", Strength::Soft), ("forbidden_text", Strength::Soft)]
        );
        for one in said {
            assert_eq!((one.source, one.kind, one.confidence), (Source::LlmAnalysis, Kind::Semantic, 0.5));
            assert_eq!(one.origin.as_ref().map(|at| at.line), Some(3));
        }

        let requests = stub.requests();
        let [Request { head, body }] = &requests[..] else { panic!("{requests:?}") };
        let head = head.to_lowercase();
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let (path, key, schema) = match dialect {
            Dialect::Openai => {
                ("/v1/chat/completions", "authorization: bearer", "/response_format/json_schema/schema/required")
            }
            Dialect::Anthropic => ("/v1/messages", "x-api-key:", "/tools/0/input_schema/required"),
        };
        assert!(head.starts_with(&format!("post {path} http/1.1\r\n")), "{head}");
        assert!(head.contains(&format!("{key} {KEY}")), "{head}");
        assert_eq!(body.pointer(schema), Some(&json!(["findings"])));
        assert!(body["messages"].to_string().contains("cents <= 0"), "the source is in the question");
    }
}

#[test]
fn lies_cost_only_themselves() {
    for dialect in Dialect::BOTH {
        let tree = Tree::new();
        let mut unseen = finding();
        unseen["quote"] = json!("cents < 100");
        let mut hard = finding();
        hard["strength"] = json!("hard");
        let mut elsewhere = finding();
        elsewhere["file"] = json!("/etc/passwd");
        let lies = [unseen, hard, elsewhere, json!(7), finding()];
        let stub = Stub::with_reply("200 OK", dialect.reply(&findings(&lies)));
        let (set, errors) = tree.ask(&stub.address, dialect, &[]);
        assert_eq!(errors, "");
        assert_eq!(set.constraints.len(), tree.plain().constraints.len() + 3);
        let messages: Vec<_> = set.diagnostics.iter().map(|one| one.message.as_str()).collect();
        for (message, why) in messages.iter().zip(["does not stand", "unknown field", "not shown", "invalid type"]) {
            assert!(message.contains("left out") && message.contains(why), "{message}");
        }
        assert_eq!(messages.len(), 4);
        assert!(set.constraints.iter().all(|one| one.source != Source::LlmAnalysis || one.strength != Strength::Hard));
    }
}

#[test]
fn an_address_where_nobody_listens_leaves_the_set() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    for dialect in Dialect::BOTH {
        Tree::new().check_failure(&url, dialect, &[], "cannot be asked");
    }
}

#[test]
fn silence_and_drops_end_in_time() {
    let silent: Answer = Arc::new(|stream| {
        let mut end = [0];
        stream.read_exact(&mut end) // until the client leaves
    });
    // Never silent for long, and never done.
    let dripping: Answer = Arc::new(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")?;
        loop {
            stream.write_all(b" ")?;
            thread::sleep(Duration::from_millis(20));
        }
    });
    for (answer, dialect) in [silent, dripping].into_iter().zip(Dialect::BOTH.into_iter().cycle()) {
        let stub = Stub::new(answer);
        let started = Instant::now();
        Tree::new().check_failure(&stub.address, dialect, &["--semantic-timeout", "1"], "did not answer within 1 s");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        assert_eq!(stub.requests().len(), 1, "no question is asked again");
    }
}

#[test]
fn error_replies_leave_the_set_and_are_quoted_without_the_key() {
    for dialect in Dialect::BOTH {
        for status in ["400 Bad Request", "401 Unauthorized", "429 Too Many Requests", "500 Oops", "503 Later"] {
            let tree = Tree::new();
            tree.write("key", KEY);
            let stub = Stub::with_reply(status, format!("\u{1b}[31mno entry\nwith {KEY}"));
            let why = format!("answered with status {}: [31mno entry with [the key]", &status[..3]);
            tree.check_failure(&stub.address, dialect, &["--semantic-key-file", "key"], &why);
            assert_eq!(stub.requests().len(), 1, "no question is asked again");
        }
    }
}

#[test]
fn a_redirect_is_not_followed() {
    for (status, dialect) in ["302 Found", "307 Temporary Redirect"].into_iter().zip(Dialect::BOTH) {
        let tree = Tree::new();
        let target = Stub::with_reply("200 OK", dialect.reply(&findings(&[finding()])));
        let moved = format!("HTTP/1.1 {status}\r\nlocation: {}/v1\r\ncontent-length: 0\r\n\r\n", target.address);
        let stub = Stub::with_bytes(moved);
        tree.check_failure(&stub.address, dialect, &[], &format!("status {}", &status[..3]));
        assert!(target.requests().is_empty(), "{:?}", target.requests());
    }
}

#[test]
fn broken_replies_leave_the_set() {
    let endless: Answer = Arc::new(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
        loop {
            stream.write_all(&[b' '; 65_536])?;
        }
    });
    for dialect in Dialect::BOTH {
        let whole = dialect.reply(&findings(&[finding()])).to_string();
        let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", whole.len(), &whole[..whole.len() / 2]);
        let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{whole}", whole.len() + 9);
        let ended = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", &whole[..whole.len() / 2]);
        let header = format!("HTTP/1.1 200 OK\r\nx-large: {}\r\n\r\n", "x".repeat(1 << 20));
        for (stub, why) in [
            (Stub::with_bytes(cut), "cannot be asked"),
            (Stub::with_bytes(chunked), "cannot be asked"),
            (Stub::with_bytes(ended), "not JSON"),
            (Stub::with_bytes("SSH-2.0-OpenSSH_9.6\r\n"), "cannot be asked"),
            (Stub::with_bytes(""), "cannot be asked"),
            (Stub::with_bytes(header), "cannot be asked"),
            (Stub::new(Arc::clone(&endless)), "more than 1048576 bytes"),
            (Stub::with_reply("200 OK", "<html>It works!</html>"), "not JSON"),
            (Stub::with_reply("200 OK", "\u{0}"), "not JSON"),
            (Stub::with_reply("200 OK", "[".repeat(100_000)), "not JSON"),
            (Stub::with_reply("200 OK", json!({"error": "no"})), "none of its dialect"),
            (Stub::with_reply("200 OK", json!([])), "none of its dialect"),
            (Stub::with_reply("200 OK", dialect.without_answer()), "none of its dialect"),
            (Stub::with_reply("200 OK", dialect.cut()), "is cut off"),
            (Stub::with_reply("200 OK", dialect.reply("{}")), "not of its schema"),
            (Stub::with_reply("200 OK", dialect.reply("{\"findings\": \"none\"}")), "not of its schema"),
            (Stub::with_reply("200 OK", dialect.reply("[{\"findings\": []}]")), "not of its schema"),
        ] {
            Tree::new().check_failure(&stub.address, dialect, &[], why);
        }
    }
    let openai = Dialect::Openai;
    for content in ["", "Sure!", "```json\n{\"findings\": []}\n```", "{\"findings\": [{\"file\": \"pa"] {
        let stub = Stub::with_reply("200 OK", openai.reply(content));
        Tree::new().check_failure(&stub.address, openai, &[], "the answer is not JSON");
    }
    let plain = Stub::with_reply("200 OK", "{}");
    let https = plain.address.replace("http:", "https:");
    Tree::new().check_failure(&https, openai, &["--semantic-timeout", "5"], "cannot be asked");
}

#[test]
fn nothing_in_the_environment_asks_a_model_or_names_a_key() {
    let tree = Tree::new();
    let stub = Stub::with_reply("200 OK", Dialect::Openai.reply(&findings(&[finding()])));
    let proxy = Stub::with_reply("200 OK", Dialect::Openai.reply(&findings(&[])));
    let with_environment = |arguments: &[&str]| {
        let mut command = tree.command(arguments);
        for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"] {
            command.env(name, KEY);
        }
        for name in ["OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_BASE_URL"] {
            command.env(name, &stub.address);
        }
        for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"] {
            command.env(name, &proxy.address);
        }
        command.env_remove("NO_PROXY").env_remove("no_proxy").output().expect("the program starts")
    };
    let output = with_environment(&[]);
    assert_eq!(read(&output), (tree.plain(), String::new()));
    assert_eq!(output.stdout, tree.run(&[]).stdout);
    assert!(stub.requests().is_empty() && proxy.requests().is_empty());

    for dialect in Dialect::BOTH {
        let stub = Stub::with_reply("200 OK", dialect.reply(&findings(&[finding()])));
        let asked = ["--semantic-url", &stub.address, "--semantic-model", "m", "--semantic-dialect", dialect.name()];
        let (_, errors) = read(&with_environment(&asked));
        assert_eq!(errors, "");
        let requests = stub.requests();
        assert_eq!(requests.len(), 1);
        let head = requests[0].head.to_lowercase();
        assert!(!head.contains(KEY) && !head.contains("authorization") && !head.contains("x-api-key"), "{head}");
        assert!(proxy.requests().is_empty(), "no proxy of the environment is used");
    }
}

#[test]
fn wrong_arguments_are_errors_before_anything_is_asked() {
    let tree = Tree::new();
    tree.write("empty", "\n");
    tree.write("lines", "one\ntwo\n");
    let check = |arguments: &[&str], status: i32, why: &str| {
        let output = tree.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {errors}");
        assert!(errors.contains(why) && output.stdout.is_empty(), "{arguments:?}: {errors}");
    };
    let asks = |url, more: &[&'static str]| [&["--semantic-model", "m", "--semantic-url", url][..], more].concat();
    check(&["--semantic-url", "http://127.0.0.1:1"], 2, "--semantic-model");
    check(&["--semantic-model", "m"], 2, "--semantic-url");
    check(&["--semantic-key-file", "empty"], 2, "--semantic-url");
    check(&asks("http://127.0.0.1:1", &["--semantic-local"]), 2, "cannot be used with");
    check(&asks("http://127.0.0.1:1", &["--semantic-timeout", "0"]), 2, "1..=3600");
    check(&asks("gopher://a", &[]), 1, "does not begin with http");
    check(&asks("http://user:pass@a", &[]), 1, "credentials do not belong");
    check(&asks("http://127.0.0.1:1", &["--semantic-key-file", "missing"]), 1, "--semantic-key-file missing");
    check(&asks("http://127.0.0.1:1", &["--semantic-key-file", "empty"]), 1, "it is empty");
    check(&asks("http://127.0.0.1:1", &["--semantic-key-file", "lines"]), 1, "not one word");
    check(&["--semantic-local=no-such-model.gguf"], 1, "no-such-model.gguf");
    for url in ["https://example.org/v1", "http://localhost:1", "http://192.0.2.1"] {
        check(&asks(url, &["--offline"]), 1, "which is not this machine");
    }
}

#[test]
fn offline_still_asks_this_machine() {
    let dialect = Dialect::Openai;
    let stub = Stub::with_reply("200 OK", dialect.reply(&findings(&[finding()])));
    let (set, _) = Tree::new().ask(&stub.address, dialect, &["--offline"]);
    assert!(set.constraints.iter().any(|one| one.source == Source::LlmAnalysis));
}

#[test]
fn a_question_is_bounded_and_says_what_it_left_out() {
    let tree = Tree::new();
    let line = "export const padding = 'eight words, none of which matters at all';\n";
    tree.write("pay.ts", &format!("{SOURCE}{}", line.repeat(4_000)));
    let stub = Stub::with_reply("200 OK", Dialect::Openai.reply(&findings(&[finding()])));
    let (set, errors) = tree.ask(&stub.address, Dialect::Openai, &[]);
    assert_eq!(errors, "");
    let last = &set.diagnostics.last().expect("a diagnostic").message;
    assert!(last.contains("0 of 1 source files as a whole"), "{last}");
    let requests = stub.requests();
    assert!((64_000..80_000).contains(&requests[0].body.len()), "{}", requests[0].body.len());
}

/// Two mined rules that contradict each other, and the ids of both.
fn conflict() -> (Value, Vec<String>) {
    let rules =
        ["[a-z]+", "[0-9]+"].map(|pattern| json!({"type": "regex", "any_of": [{"pattern": pattern}], "match": "full"}));
    let mined = |rule: &Value| json!({"name": "mined", "kind": "syntactic", "source": "ast_pattern", "severity": "warning", "rule": rule});
    let id = |rule: &Value| Constraint::id_of(&serde_json::from_value(rule.clone()).expect("a rule"));
    (json!({"constraints": rules.each_ref().map(mined)}), rules.iter().map(id).collect())
}

#[test]
fn a_model_settles_a_conflict_and_its_failure_leaves_it_to_priority() {
    let tree = Tree::new();
    let (set, ids) = conflict();
    tree.write("set.json", &set.to_string());
    let compile = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ananke"));
        command.args(["compile", "set.json", "--explain", "--format", "json"]).args(arguments);
        command.current_dir(tree.0.path()).env_remove("ANANKE_OFFLINE").output().expect("the program starts")
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let plain = compile(&[]);
    assert!(plain.status.success(), "{}", text(&plain.stderr));
    let assisted = |stub: &Stub| {
        let asks = ["--strategy", "assisted", "--semantic-model", "helper", "--semantic-url", &stub.address];
        let output = compile(&asks);
        assert!(output.status.success(), "{}", text(&output.stderr));
        output
    };
    let answer = |rule: &str| {
        let rule = json!({"type": "regex", "any_of": [{"pattern": rule}], "match": "full"});
        let suggestion = json!({"conflict": 1, "action": "merge", "id": ids[0], "rule": rule});
        let reply = Dialect::Openai.reply(&json!({"suggestions": [suggestion, {"conflict": 9}]}).to_string());
        Stub::with_reply("200 OK", reply)
    };
    let output = assisted(&answer("[a-z0-9]+"));
    let explained = text(&output.stdout);
    assert!(explained.contains("the model helper") && explained.contains("merged into"), "{explained}");
    let errors = text(&output.stderr);
    assert!(errors.contains("suggestion 2 of the model helper is left out") && errors.lines().count() == 1, "{errors}");

    // A suggestion that settles nothing, and one that cannot be compiled.
    let unsettled = assisted(&answer("[a-z]["));
    assert_eq!(losers(&unsettled), losers(&plain), "{}", text(&unsettled.stdout));
    for stub in [
        Stub::with_reply("500 Oops", ""),
        Stub::with_reply("200 OK", Dialect::Openai.reply("Keep both!")),
        Stub::with_reply("200 OK", Dialect::Openai.reply("{}")),
    ] {
        let output = assisted(&stub);
        assert_eq!(output.stdout, plain.stdout);
        assert!(text(&output.stderr).starts_with("warning: no suggestion was taken: "), "{}", text(&output.stderr));
    }
    for (arguments, why) in [
        (&["--strategy", "assisted"][..], "--semantic-url or --semantic-local"),
        (&["--semantic-local"][..], "only with --strategy assisted"),
    ] {
        let output = compile(arguments);
        assert!(output.status.code() == Some(1) && text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}

/// The ids of the constraints that lost, of `ananke compile --explain --format json`.
fn losers(output: &Output) -> Vec<String> {
    let explained: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let fates = explained["constraints"].as_array().expect("constraints").iter();
    fates.filter(|one| one["fate"].to_string().contains("lost")).map(|one| one["id"].to_string()).collect()
}

/// The small model knows nothing of code: what counts is that its answer keeps to the schema and its claims are checked.
#[cfg(feature = "embedded-model")]
#[test]
fn the_model_in_the_binary_answers_by_the_schema() {
    let tree = Tree::new();
    let arguments = ["--semantic-local", "--semantic-max-tokens", "256", "--semantic-timeout", "300", "--offline"];
    let (set, errors) = read(&tree.run(&arguments));
    assert_eq!(errors, "", "the answer was whole, JSON, and of its schema");
    let plain = tree.plain();
    assert_eq!(set.constraints[..plain.constraints.len()], plain.constraints);
    let said = &set.constraints[plain.constraints.len()..];
    assert!(said.iter().all(|one| one.source == Source::LlmAnalysis && one.strength != Strength::Hard));
    let left_out = |one: &ananke::constraint::Diagnostic| one.message.contains("left out");
    assert!(set.diagnostics.iter().all(left_out), "{:?}", set.diagnostics);

    let (set, errors) = read(&tree.run(&["--semantic-local", "--semantic-max-tokens", "16"]));
    let is_reported = errors.is_empty() || set.diagnostics.iter().any(|one| one.message.contains("it failed"));
    assert!(is_reported && set.constraints.len() >= plain.constraints.len(), "{errors}");
}
