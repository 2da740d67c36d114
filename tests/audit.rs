//! The audit log of a real server: killed in the middle of streams, left by clients, out of disk, and read again.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::{Value, json};

const NUM_STREAMS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with a key, a log, and a server that writes it.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        use std::os::unix::fs::OpenOptionsExt;
        let scene = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let key = fs::OpenOptions::new().write(true).create(true).mode(0o600).truncate(true).open(scene.path("key"));
        writeln!(key.expect("writable"), "{}", "5a".repeat(32)).expect("writable");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn segment(&self) -> PathBuf {
        self.path("log/audit-000001.jsonl")
    }

    fn serve(&self, flags: &[&str]) -> Server {
        // Past a limit on the size of files, a write fails as it does on a full disk, instead of killing the process.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ananke-serve")]);
        command.args(["--port", "0", "--offline", "--drain", "5"]);
        command.arg("--audit-dir").arg(self.path("log")).arg("--audit-key").arg(self.path("key")).args(flags);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the server starts");
        // All that it prints is read: it does not go on if nobody listens.
        let printed = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let mut address = None;
        for line in printed.take_while(|line| !line.starts_with("curl ")) {
            address = line.strip_prefix("listening on http://").map(str::to_owned).or(address);
        }
        Server { child, address: address.expect("the server says where it listens") }
    }

    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.segment()).expect("the log is readable");
        text.lines().map(|line| serde_json::from_str(line).expect("lines are JSON")).collect()
    }

    fn ananke(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ananke")).args(args).current_dir(self.folder.path()).output().expect("it runs")
    }

    /// Exit status and output of `ananke audit verify`.
    fn verify(&self, more: &[&str]) -> (i32, String) {
        let output = self.ananke(&[&["audit", "verify", "log", "--key", "key"], more].concat());
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn post(&self, path: &str, body: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json");
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).expect("it reads");
        stream
    }

    /// Status and whole reply of a request.
    fn ask(&self, path: &str, body: &Value) -> (u16, String) {
        let mut reply = String::new();
        self.post(path, body).read_to_string(&mut reply).expect("it answers");
        (status_of(&reply), reply)
    }

    /// Asks the server to stop; returns its exit status.
    fn stop(mut self) -> Option<i32> {
        kill_process(self.pid(), Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status_of(reply: &str) -> u16 {
    reply.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn streaming(seed: usize) -> Value {
    json!({"prompt": format!("def f{seed}(a, b):\n"), "max_tokens": 400, "stream": true, "seed": seed})
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn count(records: &[Value], member: &str, value: &str) -> usize {
    records.iter().filter(|record| record[member] == value).count()
}

#[test]
fn killed_in_the_middle_of_a_hundred_streams_the_log_verifies_and_tampering_is_found() {
    let scene = Scene::new();
    let mut server = scene.serve(&["--audit-fsync", "always"]);
    let server_ref = &server;
    let (num_begun, num_events) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
    let ids: Vec<String> = std::thread::scope(|scope| {
        let streams: Vec<_> = (0..NUM_STREAMS)
            .map(|i| {
                scope.spawn(move || {
                    let mut lines = BufReader::new(server_ref.post("/v1/completions", &streaming(i))).lines();
                    assert!(lines.next().expect("a status line").expect("readable").contains("200"));
                    let id = lines
                        .by_ref()
                        .map_while(Result::ok)
                        .find_map(|line| line.strip_prefix("x-request-id: ").map(str::to_owned));
                    num_begun.fetch_add(1, Ordering::Relaxed);
                    lines.map_while(Result::ok).filter(|line| line.starts_with("data: ")).for_each(|_| {
                        num_events.fetch_add(1, Ordering::Relaxed);
                    });
                    id.expect("replies have an id")
                })
            })
            .collect();
        until("the streams run", || {
            num_begun.load(Ordering::Relaxed) == NUM_STREAMS && num_events.load(Ordering::Relaxed) >= NUM_STREAMS
        });
        kill_process(server_ref.pid(), Signal::KILL).expect("it runs");
        streams.into_iter().map(|stream| stream.join().expect("no panic")).collect()
    });
    server.child.wait().expect("it was killed");

    let (status, said) = scene.verify(&[]);
    assert!(status == 0 || status == 4, "{said}");
    let records = scene.records();
    for id in &ids {
        let of = records.iter().filter(|record| record["event"] == "request" && record["id"] == id.as_str());
        assert_eq!(of.count(), 1, "{id} was answered, and its record was synced before");
    }
    let num_open = count(&records, "event", "request") - count(&records, "event", "reply");
    assert!(num_open > 0, "the server was not killed in the middle");
    assert!(!fs::read_to_string(scene.segment()).expect("readable").contains("def f"), "prompts are hashed");

    tampering_is_found(&scene);

    // The next server goes on where the killed one stopped.
    let server = scene.serve(&[]);
    assert_eq!(server.ask("/generate", &json!({"prompt": "x", "max_tokens": 2})).0, 200);
    assert_eq!(server.stop(), Some(0));
    let (status, said) = scene.verify(&[]);
    assert!(status == 0 && said.contains("a closing checkpoint") && said.starts_with("whole"), "{said}");
    assert_eq!(count(&scene.records(), "after", "killed"), 1);
}

/// Each kind of tampering, planted in the log and found by the command with its file, line and name.
fn tampering_is_found(scene: &Scene) {
    let whole = fs::read(scene.segment()).expect("readable");
    let mut lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
    if lines.last().is_some_and(|line| !line.ends_with(b"\n")) {
        lines.pop(); // a torn tail is not the subject here
    }
    let head = scene.ananke(&["audit", "head", "log", "--key", "key"]);
    assert!(head.status.success());
    fs::write(scene.path("head"), &head.stdout).expect("writable");
    let middle = lines.len() / 2;
    let check = |tampered: Vec<&[u8]>, expected: &str, line: usize| {
        fs::write(scene.segment(), tampered.concat()).expect("writable");
        let (status, said) = scene.verify(&["--head", "head"]);
        let place = format!("log/audit-000001.jsonl:{line}: {expected}: ");
        assert!(status == 1 && said.lines().any(|said| said.starts_with(&place)), "{place} {said}");
        let (_, said) = scene.verify(&["--head", "head", "--json"]);
        let first: Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
        assert_eq!(first["finding"]["kind"], expected.replace(' ', "_"), "{said}");
    };
    let mut removed = lines.clone();
    removed.remove(middle);
    check(removed, "removed", middle + 1);
    let mut swapped = lines.clone();
    swapped.swap(middle, middle + 1);
    check(swapped, "reordered", middle + 2);
    let edited = String::from_utf8(lines[middle].to_vec()).expect("UTF-8").replacen("req-", "rep-", 1);
    assert_ne!(edited.as_bytes(), lines[middle]);
    let mut changed = lines.clone();
    changed[middle] = edited.as_bytes();
    check(changed, "changed", middle + 1);
    let shorter = [&lines[middle][..lines[middle].len() / 2], b"\n"].concat();
    let mut truncated = lines.clone();
    truncated[middle] = &shorter;
    check(truncated, "changed", middle + 1);
    check(lines[..lines.len() - 3].to_vec(), "cut off", lines.len() - 3);
    let mut torn = lines.clone();
    let last = torn.pop().expect("lines");
    torn.push(&last[..last.len() / 2]);
    fs::write(scene.segment(), torn.concat()).expect("writable");
    let (status, said) = scene.verify(&[]);
    assert!(status == 4 && said.contains("torn tail"), "{said}");
    fs::write(scene.segment(), lines.concat()).expect("writable");
    assert_eq!(scene.verify(&["--head", "head"]).0, 0);
}

#[test]
fn what_happened_to_each_request_is_in_the_log() {
    let scene = Scene::new();
    let server = scene.serve(&["--audit-prompts", "text", "--audit-fsync", "never"]);
    let ir = json!({"regex_patterns": [{"any_of": [{"pattern": "(yes|no)"}], "match": "full"}]});
    let (status, _) = server.ask("/generate", &json!({"prompt": "answer: ", "constraints": ir, "max_tokens": 8}));
    assert_eq!(status, 200);
    let two = json!({"prompt": ["a", "b"], "n": 2, "max_tokens": 3, "stream": true});
    assert_eq!(server.ask("/v1/completions", &two).0, 200);
    let empty = json!({"prompt": "x", "structured_outputs": {"regex": "a", "choice": ["b"]}});
    assert_eq!(server.ask("/v1/completions", &empty).0, 422);
    // Refused before it is admitted, twice; what is not there is refused as well.
    let unknown = json!({"prompt": "x", "secret_field": 1});
    assert_eq!((server.ask("/v1/completions", &unknown).0, server.ask("/generate", &unknown).0), (400, 400));
    assert_eq!(server.ask("/no/such/path", &unknown).0, 404);
    // A client that leaves.
    let mut stream = server.post("/v1/completions", &streaming(1));
    let mut begun = [0; 64];
    stream.read_exact(&mut begun).expect("it answers");
    stream.shutdown(Shutdown::Both).expect("it is open");
    drop(stream);
    until("the end is recorded", || count(&scene.records(), "event", "reply") == 4);
    assert_eq!(server.stop(), Some(0));

    let records = scene.records();
    let of = |event: &str| records.iter().filter(|record| record["event"] == event).cloned().collect::<Vec<_>>();
    let (requests, replies) = (of("request"), of("reply"));
    let refused = of("refused");
    let found: Vec<_> = refused.iter().map(|line| [&line["endpoint"], &line["status"], &line["code"]]).collect();
    let line = |endpoint: &str, status: u32, code: &str| [json!(endpoint), json!(status), json!(code)];
    let expected = [
        line("/v1/completions", 400, "unknown_parameter"),
        line("/generate", 400, "unknown_parameter"),
        line("unmatched", 404, "unsupported_endpoint"),
    ];
    assert_eq!(found, expected.each_ref().map(|line| line.each_ref()), "what is admitted has no such line");
    assert!(refused.iter().all(|line| line["id"].as_str().is_some_and(|id| id.starts_with("req-"))));
    assert!(!json!(refused).to_string().contains("secret_field"));
    assert_eq!(requests[0]["prompts"][0]["text"], "answer: ");
    let hash = ananke::constraint::Digest::of_bytes(b"answer: ").to_string();
    assert_eq!(requests[0]["prompts"][0]["blake3"], hash.as_str());
    assert_eq!((&requests[0]["endpoint"], &requests[1]["endpoint"]), (&json!("/generate"), &json!("/v1/completions")));
    assert_eq!(requests[0]["constraints"], replies[0]["constraints"]);
    assert_eq!(requests[0]["constraints"].as_array().map(Vec::len), Some(1));
    assert_eq!(replies[0]["choices"][0]["verdicts"], json!({"verified": 1}));
    assert_eq!(replies[0]["choices"][0]["all_satisfied"], true);
    let mut indices: Vec<_> = replies[1]["choices"].as_array().expect("a list").iter().map(|c| &c["index"]).collect();
    indices.sort_by_key(|index| index.as_u64());
    assert_eq!(indices, [&json!(0), &json!(1), &json!(2), &json!(3)]);
    assert_eq!((&replies[2]["status"], &replies[2]["choices"]), (&json!("refused"), &json!([])));
    assert!(replies[2]["code"].is_string());
    // On a fast machine the reply may have ended before the client was seen to leave.
    assert!(["dropped", "complete"].contains(&replies[3]["status"].as_str().expect("a status")), "{}", replies[3]);
    for (request, reply) in requests.iter().zip(&replies) {
        assert_eq!(request["id"], reply["id"]);
    }
    assert_eq!(scene.verify(&[]).0, 0);
}

#[test]
fn out_of_disk_requests_get_503_until_there_is_room_and_no_record_is_lost() {
    let scene = Scene::new();
    let server = scene.serve(&["--audit-fsync", "always"]);
    let body = json!({"prompt": "x", "max_tokens": 2});
    assert_eq!(server.ask("/generate", &body).0, 200);
    let unlimited = getrlimit(Resource::Fsize);
    let len = fs::metadata(scene.segment()).expect("it is there").len();
    let limit = Rlimit { current: Some(len + 200), maximum: unlimited.maximum };
    prlimit(Some(server.pid()), Resource::Fsize, limit).expect("the limit of a child may be set");
    for _ in 0..3 {
        let (status, reply) = server.ask("/generate", &body);
        assert!(status == 503 && reply.contains("audit_unavailable") && reply.contains("retry-after"), "{reply}");
    }
    let mut health = TcpStream::connect(&server.address).expect("it listens");
    write!(health, "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it reads");
    let mut reply = String::new();
    health.read_to_string(&mut reply).expect("it answers");
    assert_eq!(status_of(&reply), 200, "what generates nothing is answered");
    prlimit(Some(server.pid()), Resource::Fsize, unlimited).expect("the limit of a child may be set");
    until("requests are taken again", || server.ask("/generate", &body).0 == 200);
    assert_eq!(server.stop(), Some(0));
    let (status, said) = scene.verify(&[]);
    assert_eq!(status, 0, "{said}");
    let records = scene.records();
    let refused: u64 = records.iter().filter_map(|record| record["refused"].as_u64()).sum();
    assert!(refused >= 3, "{refused}");
    assert_eq!(count(&records, "event", "request"), count(&records, "event", "reply"));
    assert_eq!(count(&records, "status", "complete"), 2);
}

#[test]
fn a_server_does_not_start_on_a_log_that_it_cannot_trust() {
    let scene = Scene::new();
    let server = scene.serve(&[]);
    assert_eq!(server.stop(), Some(0));
    let start = |key: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ananke-serve"));
        command.args(["--port", "0", "--offline", "--audit-dir"]).arg(scene.path("log")).arg("--audit-key").arg(key);
        let output = command.output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let text = fs::read_to_string(scene.segment()).expect("readable");
    fs::write(scene.segment(), text.replacen("\"new\"", "\"old\"", 1)).expect("writable");
    let (status, said) = start(&scene.path("key"));
    assert!(status == Some(1) && said.contains("audit-000001.jsonl:2: changed"), "{said}");
    fs::write(scene.path("readable"), "00".repeat(32)).expect("writable");
    let (status, said) = start(&scene.path("readable"));
    assert!(status == Some(1) && said.contains("lets others read it") && !said.contains("0000"), "{said}");
}
