//! Sends hostile constraints to a running server, with honest clients beside them.
//!
//!     cargo run --release --example hostile -- --count 2000 --seed 1
//!
//! Starts the `ananke-serve` of the same build (or the one of `--server`). It must neither crash nor hang nor answer
//! unbound, keep its memory, and give the honest clients the texts they got alone. Prints one table; every reply is a
//! line of the log, from which `--only INDEX` sends one input again. Exit status 0 when all of that held.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

mod inputs;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ananke::constraint::ConstraintIr;
use ananke::verify::{self, Output, VerdictStatus};
use clap::Parser;
use inputs::{Kind, Random};
use serde_json::{Value, json};

const NUM_HONEST: usize = 8;
/// What may come on top of a request's budget.
const GRACE: Duration = Duration::from_secs(1);
/// After so long without a byte a reply counts as never come.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Inputs after which the resident memory is taken as the measure of what follows.
const WARM_AT: u64 = 10_000;
/// Inputs between two looks at the resident memory.
const MEASURE_EVERY: u64 = 5_000;
/// No input is under way for so long before memory is looked at: what counts is what the server keeps, not what
/// happens to be in use.
const SETTLE: Duration = Duration::from_secs(3);
/// Small against what memory may grow by: how full a cache happens to be is no growth.
const SMALL_CACHE: &str = "cached_constraint_bytes = \"16MiB\"";
/// The same of the records of replies.
const PROVENANCE_BYTES: &str = "8MiB";
/// By how much the resident memory at the end may exceed that after [`WARM_AT`] inputs.
const GROWTH_KB_MAX: u64 = 64 << 10;

#[derive(Parser)]
struct Args {
    /// The server to start [default: the one of this build].
    #[arg(long)]
    server: Option<PathBuf>,
    /// Inputs to send.
    #[arg(long, default_value_t = 2_000)]
    count: u64,
    /// Where the inputs come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Inputs under way at once.
    #[arg(long, default_value_t = 8)]
    concurrency: usize,
    /// Seconds that the server is given for a request, waiting for its compile included.
    #[arg(long, default_value_t = 20)]
    budget: u64,
    /// Start the server with `--probe-compile`.
    #[arg(long)]
    probe: bool,
    /// Send this input alone and print the reply.
    #[arg(long)]
    only: Option<u64>,
    /// Print this input's body and send nothing.
    #[arg(long)]
    show: Option<u64>,
    /// One line of JSON for each input.
    #[arg(long, default_value = "target/hostile.log")]
    log: PathBuf,
    /// Where the server's log goes.
    #[arg(long, default_value = "target/hostile-server.log")]
    server_log: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(index) = args.show {
        let (_, body) = input(args.seed, index);
        return if io::stdout().write_all(&body).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Input `index`: its kind and the body of its request.
fn input(seed: u64, index: u64) -> (Kind, Vec<u8>) {
    let mut random = Random::new(seed, index);
    let kind = Kind::ALL[random.below(Kind::ALL.len())];
    (kind, inputs::body(kind, &mut random))
}

fn run(args: &Args) -> io::Result<bool> {
    let mut server = Server::start(args)?;
    if let Some(index) = args.only {
        let (kind, body) = input(args.seed, index);
        let begun = Instant::now();
        let reply = Client::new(server.address).post(&body)?;
        println!("{} {:?} {}: {}", kind.name(), begun.elapsed(), reply.status, String::from_utf8_lossy(&reply.body));
        return Ok(judge(&body, &reply).is_ok());
    }
    let honest: Vec<Vec<u8>> = (0..NUM_HONEST).map(honest_body).collect();
    let alone = honest.iter().map(|body| honest_text(server.address, body)).collect::<io::Result<Vec<_>>>()?;

    let begun = Instant::now();
    let tally = Mutex::new(Tally::default());
    let log = Mutex::new(BufWriter::new(File::create(&args.log)?));
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let pid = server.child.id();
    std::thread::scope(|scope| {
        for (body, expected) in honest.iter().zip(&alone) {
            let (tally, is_over, address) = (&tally, &is_over, server.address);
            scope.spawn(move || be_honest(address, body, expected, is_over, tally));
        }
        let (address, next, tally, log) = (server.address, &next, &tally, &log);
        for until in stages(args.count) {
            let attacker = move || attack(args, address, next, until, tally, log);
            let attackers: Vec<_> = (0..args.concurrency.max(1)).map(|_| scope.spawn(attacker)).collect();
            for attacker in attackers {
                if attacker.join().is_err() {
                    lock(tally).faults.push("an attacker of the harness panicked".into());
                }
            }
            std::thread::sleep(SETTLE);
            lock(tally).measure(resident_kb(pid));
        }
        is_over.store(true, Relaxed);
    });
    lock(&log).flush()?;
    let mut tally = tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (body, expected) in honest.iter().zip(&alone) {
        match honest_text(server.address, body) {
            Ok(text) if text == *expected => {}
            Ok(_) => tally.num_changed += 1,
            Err(error) => tally.faults.push(format!("an honest client was not answered at the end: {error}")),
        }
    }
    if let Some(status) = server.child.try_wait()? {
        tally.faults.push(format!("the server ended: {status}"));
    }
    let health = Client::new(server.address).get("/health").map(|reply| reply.json()).unwrap_or_default();
    if health["restarts"] != 0 {
        tally.faults.push(format!("the engine was restarted {} times", health["restarts"]));
    }
    tally.print(args, begun.elapsed(), &health);
    Ok(tally.all_held(args))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How many inputs have been sent each time that memory is looked at; the last is all of them.
fn stages(count: u64) -> impl Iterator<Item = u64> {
    (1..count.div_ceil(MEASURE_EVERY)).map(|stage| stage * MEASURE_EVERY).chain([count])
}

/// Sends inputs up to number `until`.
fn attack(
    args: &Args,
    address: SocketAddr,
    next: &AtomicU64,
    until: u64,
    tally: &Mutex<Tally>,
    log: &Mutex<BufWriter<File>>,
) {
    let mut client = Client::new(address);
    loop {
        let Ok(index) = next.fetch_update(Relaxed, Relaxed, |index| (index < until).then_some(index + 1)) else {
            return;
        };
        let (kind, body) = input(args.seed, index);
        let begun = Instant::now();
        let reply = client.post(&body);
        let took = begun.elapsed();
        let outcome = match &reply {
            Ok(reply) => judge(&body, reply),
            Err(error) => Err(format!("no reply: {error}")),
        };
        let (status, code) = reply.as_ref().map_or((0, String::new()), |reply| (reply.status, reply.code()));
        let line = json!({
            "index": index, "kind": kind.name(), "bytes": body.len(), "status": status, "code": code,
            "ms": took.as_millis() as u64, "fault": outcome.as_ref().err(),
        });
        if writeln!(lock(log), "{line}").is_err() {
            lock(tally).faults.push("the log cannot be written".into());
        }
        let mut tally = lock(tally);
        tally.add(kind, status, code, took, index);
        if let Err(fault) = outcome {
            tally.faults.push(format!("input {index} ({}): {fault}", kind.name()));
        }
        if status == 0 && tally.faults.len() > 100 {
            return;
        }
    }
}

/// Asks for the same again and again.
fn be_honest(address: SocketAddr, body: &[u8], expected: &str, is_over: &AtomicBool, tally: &Mutex<Tally>) {
    while !is_over.load(Relaxed) {
        let begun = Instant::now();
        match honest_text(address, body) {
            Ok(text) => {
                let mut tally = lock(tally);
                tally.num_honest += 1;
                tally.num_changed += u64::from(text != expected);
                tally.honest_slowest = tally.honest_slowest.max(begun.elapsed());
            }
            Err(error) => lock(tally).faults.push(format!("an honest client was not answered: {error}")),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A constraint for every other client, of another kind each.
fn honest_body(index: usize) -> Vec<u8> {
    let mut body = json!({"prompt": format!("# number {index}\nvalue = "), "max_tokens": 16, "seed": index});
    let order = json!({"type": "object", "properties": {"id": {"type": "integer"}, "state": {"enum": ["open", "paid"]}},
        "required": ["id", "state"], "additionalProperties": false});
    match index {
        1 => body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "o", "schema": order}}),
        3 => body["structured_outputs"] = json!({"regex": "[a-z]{3,9}( [a-z]{3,9}){2,4}"}),
        5 => body["structured_outputs"] = json!({"grammar": "root ::= \"[\" [0-9]+ (\", \" [0-9]+)* \"]\""}),
        7 => body["constraint_ir"] = json!({"forbidden_text": [{"text": "e"}, {"text": "return"}]}),
        _ => {}
    }
    body.to_string().into_bytes()
}

/// The text of an honest request; told to try again, a client does.
fn honest_text(address: SocketAddr, body: &[u8]) -> io::Result<String> {
    let deadline = Instant::now() + SILENCE_MAX;
    let mut client = Client::new(address);
    loop {
        let reply = client.post(body)?;
        match (reply.status, reply.json()["choices"][0]["text"].as_str()) {
            (200, Some(text)) => return Ok(text.to_owned()),
            (503, _) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            (status, _) => return Err(io::Error::other(format!("status {status}, {}", reply.code()))),
        }
    }
}

/// Whether a reply is one that this input may get.
///
/// Every 200 must carry verdicts for what was asked, none of them violated, and hold when it is judged once more; a text
/// with replaced bytes need only carry them.
fn judge(body: &[u8], reply: &Reply) -> Result<(), String> {
    let value = reply.json();
    match reply.status {
        200 => {}
        400 | 404 | 413 | 422 | 503 | 504 if value["error"]["message"].is_string() => {
            let len = value["error"]["message"].as_str().map_or(0, str::len);
            return if len > 4_096 { Err(format!("an error message of {len} bytes")) } else { Ok(()) };
        }
        status => return Err(format!("status {status}: {}", value["error"]["message"])),
    }
    let asked: Value = serde_json::from_slice(body).map_err(|error| format!("200 for no JSON: {error}"))?;
    if asked["stream"] == true {
        return Ok(());
    }
    let irs = irs(&asked["constraint_ir"]);
    let is_bound = irs.iter().any(|ir| num_hard_parts(ir) > 0)
        || ["response_format", "structured_outputs"].iter().any(|field| is_binding(&asked[*field]));
    let choices = value["choices"].as_array().filter(|choices| !choices.is_empty()).ok_or("no choices")?;
    for choice in choices {
        let verdicts = choice["validation"]["verdicts"].as_array().ok_or("no verdicts")?;
        if is_bound && verdicts.is_empty() {
            return Err("an unbound reply to a bound request".into());
        }
        // Bytes that are no characters were replaced in the text, and a pattern may match what replaced them.
        if choice["text"].as_str().is_some_and(|text| text.contains('\u{FFFD}')) {
            continue;
        }
        if let Some(verdict) = verdicts.iter().find(|verdict| verdict["status"] == "violated") {
            return Err(format!("violated: {verdict}"));
        }
        judge_again(&asked, choice, &irs)?;
    }
    Ok(())
}

/// Judges a text by the same engines, which never saw the masks; the tokens are not in the reply.
fn judge_again(asked: &Value, choice: &Value, irs: &[ConstraintIr]) -> Result<(), String> {
    let text = choice["text"].as_str().ok_or("no text")?;
    // An echo is no output.
    if asked["echo"] == true {
        return Ok(());
    }
    let finished = choice["finish_reason"] == "stop" && asked.get("stop").is_none();
    // Text forbidden in the document may lie across the prompt's end, or speak of the document's beginning.
    let prompt = asked["prompt"].as_str().unwrap_or_default().as_bytes();
    let output = Output { text: text.as_bytes(), tokens: &[], prompt, finished, ..Output::default() };
    match verify::check(&output, irs).iter().find(|verdict| verdict.status == VerdictStatus::Violated) {
        Some(verdict) => Err(format!("judged again, {} is violated by {text:?}", verdict.part)),
        None => Ok(()),
    }
}

fn irs(field: &Value) -> Vec<ConstraintIr> {
    let values = match field {
        Value::Array(values) => values.clone(),
        Value::Null => Vec::new(),
        value => vec![value.clone()],
    };
    values.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect()
}

fn num_hard_parts(ir: &ConstraintIr) -> usize {
    usize::from(ir.json_schema.is_some())
        + usize::from(ir.grammar.is_some())
        + usize::from(ir.token_masks.is_some())
        + ir.forbidden_text.len()
        + ir.regex_patterns.len()
}

fn is_binding(field: &Value) -> bool {
    let is_set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    field["type"] != "text" && field.as_object().is_some_and(|fields| fields.values().any(is_set))
}

/// What came back, counted.
#[derive(Default)]
struct Tally {
    num_sent: u64,
    statuses: BTreeMap<(&'static str, u16), u64>,
    codes: BTreeMap<(u16, String), u64>,
    slowest: Vec<(Duration, u64, &'static str)>,
    resident: Vec<(u64, u64)>,
    faults: Vec<String>,
    num_honest: u64,
    num_changed: u64,
    honest_slowest: Duration,
}

impl Tally {
    fn add(&mut self, kind: Kind, status: u16, code: String, took: Duration, index: u64) {
        self.num_sent += 1;
        *self.statuses.entry((kind.name(), status)).or_default() += 1;
        *self.codes.entry((status, code)).or_default() += 1;
        self.slowest.push((took, index, kind.name()));
        self.slowest.sort_by(|a, b| b.cmp(a));
        self.slowest.truncate(8);
    }

    /// Takes down the resident memory after the inputs so far.
    fn measure(&mut self, resident_kb: u64) {
        println!("{} inputs, {resident_kb} KB resident, {} faults", self.num_sent, self.faults.len());
        self.resident.push((self.num_sent, resident_kb));
    }

    /// By how much the last measure exceeds the one after [`WARM_AT`] inputs, where there is one.
    fn growth_kb(&self) -> Option<u64> {
        let warm = self.resident.iter().find(|(num_sent, _)| *num_sent == WARM_AT)?.1;
        self.resident.last().map(|(_, last)| last.saturating_sub(warm))
    }

    fn num_hung(&self, args: &Args) -> usize {
        let limit = Duration::from_secs(args.budget) + GRACE;
        self.slowest.iter().filter(|(took, ..)| *took > limit).count()
    }

    fn all_held(&self, args: &Args) -> bool {
        self.faults.is_empty()
            && self.num_changed == 0
            && self.num_hung(args) == 0
            && self.num_sent == args.count
            && self.growth_kb().is_none_or(|growth| growth <= GROWTH_KB_MAX)
    }

    fn print(&self, args: &Args, took: Duration, health: &Value) {
        println!(
            "inputs            {} (seed {}, {} at once) in {} s",
            self.num_sent,
            args.seed,
            args.concurrency,
            took.as_secs()
        );
        let kinds = Kind::ALL.map(Kind::name);
        for kind in kinds {
            let statuses = self.statuses.iter().filter(|((of, _), _)| *of == kind);
            let cells: Vec<String> = statuses.map(|((_, status), count)| format!("{status}: {count}")).collect();
            println!("  {kind:<15} {}", cells.join("  "));
        }
        println!("codes");
        for ((status, code), count) in &self.codes {
            println!("  {status} {code:<28} {count}");
        }
        println!("slowest replies");
        for (took, index, kind) in &self.slowest {
            println!("  {:>7} ms  input {index} ({kind})", took.as_millis());
        }
        println!("hung              {} (over {} s)", self.num_hung(args), args.budget + GRACE.as_secs());
        println!(
            "honest replies    {}, {} changed, slowest {} ms",
            self.num_honest,
            self.num_changed,
            self.honest_slowest.as_millis()
        );
        match self.growth_kb() {
            Some(growth) => println!("resident memory   {growth} KB more than after {WARM_AT} (limit {GROWTH_KB_MAX})"),
            None => println!("resident memory   not judged under {WARM_AT} inputs"),
        }
        for (num_sent, resident) in &self.resident {
            println!("  after {num_sent:<9} {resident} KB");
        }
        println!("constraints       {}", health["constraints"]);
        println!("faults            {}", self.faults.len());
        for fault in self.faults.iter().take(20) {
            println!("  {fault}");
        }
        println!("{}", if self.all_held(args) { "all held" } else { "FAILED" });
    }
}

/// A running server; dropping it ends it.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(args: &Args) -> io::Result<Self> {
        let beside = || {
            let program = std::env::current_exe()?;
            let folder = program.ancestors().nth(2).ok_or_else(|| io::Error::other("no build folder"))?;
            Ok::<_, io::Error>(folder.join("ananke-serve"))
        };
        let program = args.server.clone().map_or_else(beside, Ok)?;
        let config = args.log.with_extension("toml");
        std::fs::write(&config, format!("[limits]\ncompile_wait_s = {}\n{SMALL_CACHE}\n", args.budget))?;
        let mut command = Command::new(program);
        command.args(["--port", "0", "--offline", "--config"]).arg(config);
        command.args(["--request-timeout", &args.budget.to_string(), "--provenance-bytes", PROVENANCE_BYTES]);
        if args.probe {
            command.arg("--probe-compile");
        }
        command.env("ANANKE_LOG", "warn").stdout(Stdio::piped()).stderr(File::create(&args.server_log)?);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let mut address = None;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if let Some(url) = line.strip_prefix("listening on http://") {
                address = url.parse().ok();
            }
            // The last line it prints.
            if line.starts_with("curl ") {
                break;
            }
        }
        let address = address.ok_or_else(|| io::Error::other("the server did not start"))?;
        Ok(Self { child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either fails only where the server has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pages of a process in memory, in KB; 0 where that is not known.
fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// An HTTP client that keeps its connection.
struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

struct Reply {
    status: u16,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    fn post(&mut self, body: &[u8]) -> io::Result<Reply> {
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.exchange(&[head.as_bytes(), body].concat())
    }

    fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
    }

    /// Sends a request; once more on a new connection where the server had closed the old one.
    fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        if let Some(mut connection) = self.connection.take()
            && let Ok(reply) = self.attempt(&mut connection, request)
        {
            return Ok(reply);
        }
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        self.attempt(&mut BufReader::new(stream), request)
    }

    fn attempt(&mut self, connection: &mut BufReader<TcpStream>, request: &[u8]) -> io::Result<Reply> {
        connection.get_mut().write_all(request)?;
        let reply = read_reply(connection)?;
        self.connection = Some(BufReader::new(connection.get_ref().try_clone()?));
        Ok(reply)
    }
}

fn read_reply(connection: &mut impl BufRead) -> io::Result<Reply> {
    let broken = || io::Error::other("not an HTTP reply");
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    let mut num_bytes = None;
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            num_bytes = value.trim().parse().ok();
        }
    }
    let Some(num_bytes) = num_bytes else { return read_chunks(connection, status) };
    let mut body = vec![0; num_bytes];
    connection.read_exact(&mut body)?;
    Ok(Reply { status, body })
}

/// The body of a stream, whose chunks each begin with their length.
fn read_chunks(connection: &mut impl BufRead, status: u16) -> io::Result<Reply> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        let len = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let from = body.len();
        body.resize(from + len + 2, 0);
        connection.read_exact(&mut body[from..])?;
        body.truncate(from + len);
        if len == 0 {
            return Ok(Reply { status, body });
        }
    }
}
