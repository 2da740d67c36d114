//! A child process that compiles what is new before the server does, and may crash in its stead.
//!
//! The child is this program again ([`serve_probe`]). It is told the vocabulary and the bounds in a first line, then
//! answers one line of IRs after another: it compiles them and computes the first masks, on the same stack as the server
//! would. What it answers decides nothing; that it lives to answer does. It keeps to a limit of memory, and is replaced
//! when it dies. Only a fresh child's death counts, so that the verdict does not hang on what came before.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use serde::{Deserialize, Serialize};

use super::constraint_cache::Refusal;
use crate::constraint::ConstraintIr;
use crate::guide::{CompiledConstraint, Guide, GuideConfig, GuideError, allowed_tokens, num_words};
use crate::text::{Token, Vocabulary};

/// How much address space the child's allocator reserves at a time: mimalloc's own 1 GiB would not fit under a small
/// limit. Other allocators do not read it.
const ALLOCATOR_RESERVE: (&str, &str) = ("MIMALLOC_ARENA_RESERVE", "64MiB");

/// What a child says first.
const READY: &str = "ready";

/// How new constraints are tried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeConfig {
    /// The program to start; its standard input and output are the channel.
    pub program: PathBuf,
    /// What makes the program call [`serve_probe`].
    pub args: Vec<OsString>,
    /// Address space of the child. Default 4 GiB, of which the stack and the allocator's arenas reserve some hundred MiB.
    pub memory_bytes_max: u64,
    /// How long the child may take for one constraint. Default 10 s; over it the answer is 503.
    pub time_max: Duration,
    /// How long a child may take to start. Default 60 s; slicing 129k ids takes about 0.6 s.
    pub start_time_max: Duration,
    /// Masks computed for each constraint, the first token of each accepted. Default 4.
    pub num_masks: usize,
    /// Stack of the child's compiles. Default `None`: that of the server.
    pub stack_bytes: Option<usize>,
}

impl ProbeConfig {
    /// The running program with these arguments, everything else at its default.
    ///
    /// # Errors
    /// When the operating system does not say which program runs.
    pub fn this_program(args: Vec<OsString>) -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            args,
            memory_bytes_max: 4 << 30,
            time_max: Duration::from_secs(10),
            start_time_max: Duration::from_secs(60),
            num_masks: 4,
            stack_bytes: None,
        })
    }
}

/// The first line of the channel.
#[derive(Serialize, Deserialize)]
struct Hello {
    guide: GuideConfig,
    num_rows: usize,
    end_tokens: Vec<u32>,
    tokens: Vec<WireToken>,
    memory_bytes_max: u64,
    num_masks: usize,
}

#[derive(Serialize, Deserialize)]
enum WireToken {
    #[serde(rename = "t")]
    Text(Vec<u8>),
    #[serde(rename = "c")]
    Control(String),
    #[serde(rename = "m")]
    Masked,
}

impl Hello {
    fn new(config: &ProbeConfig, guide: &Guide) -> Self {
        let vocabulary = guide.vocabulary();
        let mut bounds = guide.config().clone();
        bounds.compile_stack_bytes = config.stack_bytes.unwrap_or(bounds.compile_stack_bytes);
        let token = |id| match vocabulary.control_name(id) {
            Some(name) => WireToken::Control(name.to_owned()),
            None if vocabulary.is_text(id) => WireToken::Text(vocabulary.bytes(id).to_vec()),
            None => WireToken::Masked,
        };
        Self {
            guide: bounds,
            num_rows: vocabulary.num_rows(),
            end_tokens: vocabulary.end_tokens().to_vec(),
            tokens: (0..vocabulary.num_tokens() as u32).map(token).collect(),
            memory_bytes_max: config.memory_bytes_max,
            num_masks: config.num_masks,
        }
    }

    fn into_guide(self) -> Result<Guide, String> {
        let tokens = self.tokens.into_iter().map(|token| match token {
            WireToken::Text(bytes) => Token::Text(bytes),
            WireToken::Control(name) => Token::Control(name),
            WireToken::Masked => Token::Masked,
        });
        let vocabulary = Vocabulary::new(tokens.collect(), self.num_rows, self.end_tokens);
        let vocabulary = vocabulary.map_err(|error| error.to_string())?;
        Guide::new(Arc::new(vocabulary), self.guide).map_err(|error| error.to_string())
    }
}

/// The server's side: one child, started when it is first needed.
pub(super) struct Prober {
    config: ProbeConfig,
    guide: Arc<Guide>,
    running: Option<Running>,
}

/// A child that has said that it is ready. Dropping it ends it.
struct Running {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
    num_probes: u64,
}

/// Why there was no answer.
enum NoAnswer {
    Died(String),
    Late,
}

impl Prober {
    pub(super) fn new(config: ProbeConfig, guide: Arc<Guide>) -> Self {
        Self { config, guide, running: None }
    }

    /// Has the child compile `irs`; returns once it has lived through it.
    pub(super) fn probe(&mut self, irs: &[ConstraintIr]) -> Result<(), Refusal> {
        let mut line = serde_json::to_vec(irs).map_err(|error| unavailable(&error))?;
        line.push(b'\n');
        loop {
            let mut running = match self.running.take() {
                Some(running) => running,
                None => Running::start(&self.config, &self.guide)?,
            };
            let is_fresh = running.num_probes == 0;
            running.num_probes += 1;
            match running.ask(&line, self.config.time_max) {
                Ok(_) => {
                    self.running = Some(running);
                    return Ok(());
                }
                Err(NoAnswer::Died(how)) if is_fresh => return Err(Refusal::ProbeCrashed { how }),
                // What came before may have had a part in it; a fresh one will tell.
                Err(NoAnswer::Died(_)) => {}
                Err(NoAnswer::Late) => {
                    return Err(Refusal::ProbeTimeout { limit_ms: self.config.time_max.as_millis() as u64 });
                }
            }
        }
    }
}

fn unavailable(why: &impl ToString) -> Refusal {
    Refusal::ProbeUnavailable { why: why.to_string() }
}

impl Running {
    fn start(config: &ProbeConfig, guide: &Guide) -> Result<Self, Refusal> {
        let mut child = Command::new(&config.program)
            .args(&config.args)
            .env(ALLOCATOR_RESERVE.0, ALLOCATOR_RESERVE.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What a crash prints may quote the constraint.
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| unavailable(&error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unavailable(&"it has no standard input or output"));
        };
        let (sender, answers) = bounded(1);
        let reader = std::thread::Builder::new().name("probe".into()).spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut running = Self { child, stdin, answers, num_probes: 0 };
        reader.map_err(|error| unavailable(&error))?;
        let mut hello = serde_json::to_vec(&Hello::new(config, guide)).map_err(|error| unavailable(&error))?;
        hello.push(b'\n');
        match running.ask(&hello, config.start_time_max) {
            Ok(answer) if answer == READY => Ok(running),
            Ok(_) => Err(unavailable(&"it speaks another language")),
            Err(NoAnswer::Died(how)) => Err(unavailable(&format!("it ended while starting: {how}"))),
            Err(NoAnswer::Late) => Err(unavailable(&"it did not start in time")),
        }
    }

    /// Sends a line and waits for the answer.
    fn ask(&mut self, line: &[u8], limit: Duration) -> Result<String, NoAnswer> {
        // A child that is gone shows below, by its answers' end.
        let _ = self.stdin.write_all(line).and_then(|()| self.stdin.flush());
        match self.answers.recv_timeout(limit) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => Err(NoAnswer::Late),
            Err(RecvTimeoutError::Disconnected) => Err(NoAnswer::Died(match self.child.wait() {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            })),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either fails only where the child has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side: answers each line of IRs on `input` with one line on `output`, until `input` ends.
///
/// Gives up memory beyond its limit, and ends with the thread that started it.
///
/// # Errors
/// When the channel breaks, or its first line is not what a server sends.
pub fn serve_probe(mut input: impl BufRead + Send, mut output: impl Write + Send) -> io::Result<()> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let hello: Hello = serde_json::from_str(&line)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let limit = Some(hello.memory_bytes_max);
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit })?;
    // A dead child leaves no files behind.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let num_masks = hello.num_masks;
    let stack_bytes = hello.guide.compile_stack_bytes;
    let guide = hello.into_guide().map_err(io::Error::other)?;
    std::thread::scope(|scope| {
        let serve = || -> io::Result<()> {
            let mut answer = READY;
            loop {
                writeln!(output, "{answer}")?;
                output.flush()?;
                line.clear();
                if input.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                answer = if live_through(&guide, &line, num_masks) { "compiled" } else { "refused" };
            }
        };
        let thread = std::thread::Builder::new().name("probe".into()).stack_size(stack_bytes);
        let thread = thread.spawn_scoped(scope, serve)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the probe panicked")))
    })
}

/// Compiles a line of IRs and computes the first masks; whether all of that went well.
fn live_through(guide: &Guide, line: &str, num_masks: usize) -> bool {
    let Ok(irs) = serde_json::from_str::<Vec<ConstraintIr>>(line) else { return false };
    let work = || guide.compile_here(&irs).and_then(|compiled| first_masks(&compiled, guide, num_masks));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok_and(|done| done.is_ok())
}

fn first_masks(compiled: &Arc<CompiledConstraint>, guide: &Guide, num_masks: usize) -> Result<(), GuideError> {
    let mut matcher = compiled.matcher(b"")?;
    let mut row = vec![0; num_words(guide.vocabulary().num_rows())];
    for _ in 0..num_masks {
        matcher.fill(&mut row)?;
        let Some(token) = allowed_tokens(&row).next() else { break };
        matcher.accept(token)?;
        if matcher.has_ended() {
            break;
        }
    }
    Ok(())
}
