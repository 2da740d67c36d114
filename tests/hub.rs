//! The hub client against a stub of the hub's protocol on the loopback interface.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use ananke::hub::{self, HubError, HubOptions};
use tempfile::TempDir;

const REPO: &str = "maker/model";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the stub misbehaves for a file.
#[derive(Clone, Copy)]
enum Fault {
    /// The connection breaks after this many bytes of a body, as many times.
    Cut { after: usize, times: usize },
    /// The body ends early without the client being able to tell.
    Short { by: usize },
    /// Every request is answered with this status.
    Status(u16),
    /// A redirect that leads nowhere.
    NoLocation,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: BTreeMap<String, Fault>,
    list_status: Option<u16>,
    token: Option<String>,
    requests: Vec<String>,
}

/// A hub with one repository. Weights are redirected to a path of their own, as large files are.
struct Stub {
    endpoint: String,
    state: Arc<Mutex<State>>,
    cache: TempDir,
}

impl Stub {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let (shared, base) = (Arc::clone(&state), endpoint.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, base) = (Arc::clone(&shared), base.clone());
                thread::spawn(move || answer(stream, &shared, &base));
            }
        });
        Self { endpoint, state, cache: TempDir::new().expect("a temporary folder") }
    }

    fn with_fault(self, file: &str, fault: Fault) -> Self {
        self.state().faults.insert(file.into(), fault);
        self
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no handler panics")
    }

    fn options(&self) -> HubOptions {
        HubOptions {
            endpoint: Some(self.endpoint.clone()),
            cache_dir: Some(self.cache.path().into()),
            ..HubOptions::default()
        }
    }

    fn fetch(&self) -> Result<PathBuf, HubError> {
        hub::fetch(REPO, &self.options())
    }

    fn fetch_offline(&self) -> Result<PathBuf, HubError> {
        // An address where nobody listens: a connection would fail, not succeed.
        let options = HubOptions { offline: true, endpoint: Some("http://127.0.0.1:9".into()), ..self.options() };
        hub::fetch(REPO, &options)
    }

    fn num_requests(&self, part: &str) -> usize {
        self.state().requests.iter().filter(|request| request.contains(part)).count()
    }
}

/// Reads one request and answers it.
fn answer(mut stream: TcpStream, state: &Mutex<State>, base: &str) {
    let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
    let Some(Ok(request)) = lines.next() else { return };
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let found = headers.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        });
        found.unwrap_or_default()
    };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut state = state.lock().expect("no handler panics");
    state.requests.push(format!("{path} {}", header("range")));
    let authorized = state.token.as_ref().is_none_or(|token| header("authorization") == format!("Bearer {token}"));
    let reply = if !authorized && !path.starts_with("/cdn/") {
        Reply::status(401)
    } else {
        route(&mut state, &path, &header("range"), base)
    };
    drop(state);
    let _ = stream.write_all(reply.head.as_bytes()).and_then(|()| stream.write_all(&reply.body));
}

struct Reply {
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: &str, headers: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
        Self { head, body: body.to_vec() }
    }

    fn status(status: u16) -> Self {
        Self::new(&format!("{status} No"), "content-length: 0\r\n", b"")
    }
}

fn route(state: &mut State, path: &str, range: &str, base: &str) -> Reply {
    if path.starts_with("/api/models/") {
        return list(state, path);
    }
    let resolve = format!("/{REPO}/resolve/{COMMIT}/");
    let (file, is_cdn) = match (path.strip_prefix(&resolve), path.strip_prefix("/cdn/")) {
        (Some(file), _) => (file, false),
        (_, Some(file)) => (file, true),
        _ => return Reply::status(404),
    };
    let is_large = file.ends_with(".safetensors") || file.ends_with(".gguf");
    let identity = format!("x-repo-commit: {COMMIT}\r\netag: \"tag-{file}\"\r\n");
    match state.faults.get(file) {
        Some(Fault::Status(status)) => Reply::status(*status),
        Some(Fault::NoLocation) => Reply::new("302 Found", &format!("{identity}content-length: 0\r\n"), b""),
        _ if is_large && !is_cdn => {
            let headers = format!(
                "location: {base}/cdn/{file}\r\nx-repo-commit: {COMMIT}\r\nx-linked-etag: \"tag-{file}\"\r\n\
                 etag: \"other\"\r\ncontent-length: 0\r\n"
            );
            Reply::new("302 Found", &headers, b"")
        }
        _ => send(state, file, range, &identity),
    }
}

fn list(state: &State, path: &str) -> Reply {
    if let Some(status) = state.list_status {
        return Reply::status(status);
    }
    if path != format!("/api/models/{REPO}/revision/main") {
        return Reply::status(404);
    }
    let siblings: Vec<_> = state.files.keys().map(|file| serde_json::json!({"rfilename": file})).collect();
    let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
    Reply::new("200 OK", &format!("content-length: {}\r\n", body.len()), body.as_bytes())
}

fn send(state: &mut State, file: &str, range: &str, identity: &str) -> Reply {
    let Some(bytes) = state.files.get(file) else { return Reply::status(404) };
    let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap_or(0);
    let last: usize = last.parse().unwrap_or(bytes.len().saturating_sub(1));
    if first >= bytes.len() {
        return Reply::status(416);
    }
    let body = &bytes[first..=last];
    let headers = format!("{identity}content-range: bytes {first}-{last}/{}\r\n", bytes.len());
    let complete = Reply::new("206 Partial", &format!("{headers}content-length: {}\r\n", body.len()), body);
    match state.faults.get_mut(file) {
        Some(Fault::Cut { after, times }) if *times > 0 && body.len() > 1 => {
            *times -= 1;
            Reply { body: body[..(*after).min(body.len())].to_vec(), ..complete }
        }
        // Without a length, the end of the connection is the end of the body.
        Some(Fault::Short { by }) if body.len() > 1 => Reply::new("206 Partial", &headers, &body[..body.len() - *by]),
        _ => complete,
    }
}

fn single() -> Stub {
    Stub::new(&[
        ("README.md", b"not wanted"),
        ("config.json", b"{\"a\": 1}"),
        ("tokenizer.json", b"{}"),
        ("tokenizer_config.json", b"{}"),
        ("generation_config.json", b"{}"),
        ("model.safetensors", &[7; 5_000]),
        ("pytorch_model.bin", &[8; 9_000]),
    ])
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the snapshot").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().expect("ASCII")).collect();
    names.sort();
    names
}

#[test]
fn a_single_file_model_arrives_whole_and_is_found_offline() {
    let stub = single();
    let folder = stub.fetch().expect("the stub serves it");
    let wanted =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&folder), wanted);
    assert_eq!(std::fs::read(folder.join("model.safetensors")).expect("there"), [7; 5_000]);

    assert_eq!(stub.fetch_offline().expect("the cache has it"), folder);
    let before = stub.num_requests("/resolve/");
    assert_eq!(stub.fetch().expect("the cache has it"), folder);
    assert_eq!(stub.num_requests("/resolve/"), before, "nothing is fetched twice");
}

#[test]
fn all_shards_of_an_index_arrive() {
    let index =
        br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let stub = Stub::new(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", &[1; 100]),
        ("model-2.safetensors", &[2; 200]),
        ("model-3.safetensors", &[3; 300]),
    ]);
    let folder = stub.fetch().expect("the stub serves it");
    let shards = ["model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"];
    assert_eq!(names(&folder)[1..4], shards);
    assert_eq!(stub.fetch_offline().expect("the cache has it"), folder);

    stub.state().files.remove("model-2.safetensors");
    let elsewhere = TempDir::new().expect("a temporary folder");
    let options = HubOptions { cache_dir: Some(elsewhere.path().into()), ..stub.options() };
    let error = hub::fetch(REPO, &options).expect_err("a shard is gone");
    assert!(matches!(&error, HubError::MissingFile { file, .. } if file == "model-2.safetensors"), "{error}");
}

#[test]
fn an_index_cannot_name_files_outside_the_snapshot() {
    for index in
        [&br#"{"weight_map": {"a": "../../x.safetensors"}}"#[..], b"{}", b"not JSON", b"{\"weight_map\": {\"a\": 1}}"]
    {
        let stub =
            Stub::new(&[("config.json", b"{}"), ("tokenizer.json", b"{}"), ("model.safetensors.index.json", index)]);
        assert!(matches!(stub.fetch(), Err(HubError::Malformed { .. })));
    }
}

#[test]
fn a_gguf_file_needs_no_other() {
    let stub = Stub::new(&[("model-q4.gguf", &[4; 1_000]), ("README.md", b"")]);
    let path = stub.fetch().expect("the stub serves it");
    assert_eq!(path.file_name().expect("a file"), "model-q4.gguf");
    assert_eq!(stub.fetch_offline().expect("the cache has it"), path);
}

#[test]
fn among_several_gguf_files_one_must_be_named() {
    let stub = Stub::new(&[("a.gguf", &[1; 10]), ("b.gguf", &[2; 20])]);
    let error = stub.fetch().expect_err("which one?");
    assert!(matches!(&error, HubError::SeveralWeights { files, .. } if files == &["a.gguf", "b.gguf"]), "{error}");
    let named = |file: &str| hub::fetch(REPO, &HubOptions { file: Some(file.into()), ..stub.options() });
    assert_eq!(std::fs::read(named("b.gguf").expect("it exists")).expect("there"), [2; 20]);
    assert!(matches!(named("c.gguf"), Err(HubError::MissingFile { .. })));
    assert!(matches!(named("../b.gguf"), Err(HubError::Malformed { .. })));
}

#[test]
fn each_refusal_of_the_hub_is_told_apart() {
    let refused = |status: u16| {
        let stub = single();
        stub.state().list_status = Some(status);
        stub.fetch().expect_err("the stub refuses")
    };
    assert!(matches!(refused(401), HubError::Unauthorized { .. }));
    assert!(matches!(refused(403), HubError::Forbidden { .. }));
    assert!(matches!(refused(404), HubError::NotFound { .. }));
    assert!(matches!(refused(503), HubError::Status { status: 503, .. }));
    let gated = single().with_fault("model.safetensors", Fault::Status(403));
    assert!(matches!(gated.fetch(), Err(HubError::Forbidden { .. })));
    let unknown = hub::fetch("maker/other", &single().options()).expect_err("no such repository");
    assert!(unknown.to_string().contains("maker/other"), "{unknown}");
}

#[test]
fn a_token_opens_a_private_repository() {
    let stub = single();
    stub.state().token = Some("secret".into());
    assert!(matches!(stub.fetch(), Err(HubError::Unauthorized { .. })));
    let options = HubOptions { token: Some("secret".into()), ..stub.options() };
    hub::fetch(REPO, &options).expect("the token is right");
}

#[test]
fn a_model_without_what_it_needs_names_it() {
    let missing = |file: &str| {
        let stub = single();
        stub.state().files.remove(file);
        stub.fetch().expect_err("a file is gone")
    };
    assert!(matches!(&missing("tokenizer.json"), HubError::MissingFile { file, .. } if file == "tokenizer.json"));
    assert!(matches!(&missing("config.json"), HubError::MissingFile { file, .. } if file == "config.json"));
    assert!(matches!(missing("model.safetensors"), HubError::NoWeights { .. }));
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    let stub = single().with_fault("model.safetensors", Fault::Cut { after: 2_000, times: 2 });
    let folder = stub.fetch().expect("the third attempt gets the rest");
    assert_eq!(std::fs::read(folder.join("model.safetensors")).expect("there"), [7; 5_000]);
    assert_eq!(stub.num_requests("/cdn/model.safetensors bytes=2000-"), 1);
    assert_eq!(stub.num_requests("/cdn/model.safetensors bytes=4000-"), 1);
}

#[test]
fn a_connection_that_always_breaks_is_an_error_and_leaves_nothing_to_find() {
    let stub = single().with_fault("model.safetensors", Fault::Cut { after: 0, times: 1_000 });
    let error = stub.fetch().expect_err("nothing ever arrives");
    assert!(matches!(&error, HubError::Download { file, .. } if file == "model.safetensors"), "{error}");
    assert!(matches!(stub.fetch_offline(), Err(HubError::Offline { .. })));

    stub.state().faults.clear();
    stub.fetch().expect("the next run goes on");
}

#[test]
fn a_download_that_is_already_complete_but_unnamed_is_taken_up() {
    let stub = single();
    let blobs = stub.cache.path().join("models--maker--model/blobs");
    std::fs::create_dir_all(&blobs).expect("a folder");
    // hf-hub replaces what it takes for the extension of the tag.
    for left in [5_000, 6_000] {
        std::fs::write(blobs.join("tag-model.part"), vec![7; left]).expect("a file");
        let folder = stub.fetch().expect("what was left is dropped");
        assert_eq!(std::fs::read(folder.join("model.safetensors")).expect("there"), [7; 5_000]);
        std::fs::remove_file(folder.join("model.safetensors")).expect("there");
    }
}

#[test]
fn a_file_of_the_wrong_size_is_removed() {
    let stub = single().with_fault("model.safetensors", Fault::Short { by: 100 });
    let error = stub.fetch().expect_err("bytes are missing");
    assert!(matches!(error, HubError::Size { expected: 5_000, actual: 4_900, .. }), "{error}");
    stub.state().faults.clear();
    let folder = stub.fetch().expect("the next run fetches it anew");
    assert_eq!(std::fs::read(folder.join("model.safetensors")).expect("there"), [7; 5_000]);
}

#[test]
fn an_answer_that_makes_no_sense_is_an_error_not_a_panic() {
    let stub = single().with_fault("config.json", Fault::NoLocation);
    assert!(matches!(stub.fetch(), Err(HubError::Malformed { .. })));
}

#[test]
fn nobody_listening_is_an_error_that_names_the_repository() {
    let stub = single();
    let options = HubOptions { endpoint: Some("http://127.0.0.1:9".into()), ..stub.options() };
    let error = hub::fetch(REPO, &options).expect_err("nobody listens");
    assert!(matches!(&error, HubError::Download { repo, .. } if repo == REPO), "{error}");
}

#[test]
fn offline_says_what_is_missing_and_how_to_bring_it() {
    let stub = single();
    let error = stub.fetch_offline().expect_err("the cache is empty").to_string();
    assert!(error.contains(REPO) && error.contains("without --offline"), "{error}");
    assert_eq!(stub.state().requests.len(), 0);

    let folder = stub.fetch().expect("the stub serves it");
    std::fs::remove_file(folder.join("tokenizer.json")).expect("there");
    let error = stub.fetch_offline().expect_err("a file is gone");
    assert!(matches!(&error, HubError::Offline { missing, .. } if missing == "tokenizer.json"), "{error}");
}
