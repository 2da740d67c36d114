//! A stream of cases: read, judged on every core, and written in the order they came.
//!
//! Memory is bounded however long the stream is: a line has a largest length, and only so many cases are under way.
//! Each case has a place in a queue before a worker takes it, and the writer waits for the queue's head; so the order
//! is kept without a buffer that could grow. What goes wrong with a case is told in its own line.

use std::io::{BufRead, Write};
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use super::case::{Case, Malformed};
use crate::braid::Joint;
use crate::constraint::ConstraintIr;
use crate::maze::{self, Judge, Judged};
use crate::verify::Verdict;

/// The bounds of a batch.
#[derive(Clone, Debug)]
pub(super) struct BatchConfig {
    /// Bytes of one line. Default 4 MiB.
    pub(super) line_bytes_max: usize,
    /// Cases that are read and not yet written. Default 16 per worker; each holds a line and its constraint.
    pub(super) num_under_way_max: usize,
    /// Threads that judge. Default: as many as there are cores.
    pub(super) num_workers: usize,
    /// Stack of such a thread. Default 16 MiB of address space; deep texts recurse in the independent engines.
    pub(super) worker_stack_bytes: usize,
    /// Seeds the random splits. Default 0.
    pub(super) seed: u64,
    /// Whether each report has the verdict on every part. Default no.
    pub(super) details: bool,
}

impl Default for BatchConfig {
    fn default() -> Self {
        let num_workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            line_bytes_max: 4 << 20,
            num_under_way_max: 16 * num_workers,
            num_workers,
            worker_stack_bytes: 16 << 20,
            seed: 0,
            details: false,
        }
    }
}

/// The line that is printed for a case.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    id: Value,
    compiled: bool,
    error: Option<String>,
    masks_accept: Option<bool>,
    masks_accept_random_split: Option<bool>,
    verified: Option<bool>,
    refused_at: Option<usize>,
    /// What the independent engines find of each part, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdicts: Option<Vec<Verdict>>,
    /// Whether the line was a case at all.
    #[serde(skip)]
    is_case: bool,
}

impl Report {
    /// What came out for a case; `name` gives parts the names that its author knows.
    pub(super) fn new(id: Value, judged: Result<&Judged, String>, name: impl Fn(&str) -> String) -> Self {
        match judged {
            Err(error) => Self { id, error: Some(error), is_case: true, ..Self::default() },
            Ok(judged) => Self {
                id,
                compiled: true,
                error: judged.failure().map(|error| error.clone().map_parts(name).to_string()),
                masks_accept: judged.canonical.is_accepted(),
                masks_accept_random_split: judged.random_split.is_accepted(),
                verified: judged.verified(),
                refused_at: judged.refusal().map(|refusal| refusal.at),
                verdicts: None,
                is_case: true,
            },
        }
    }

    /// The report with the verdict on every part.
    fn with_verdicts(mut self, judged: &Judged, name: impl Fn(&str) -> String) -> Self {
        let verdicts = judged.verdicts.iter().cloned();
        self.verdicts = Some(verdicts.map(|verdict| Verdict { part: name(&verdict.part), ..verdict }).collect());
        self
    }

    fn malformed(line: usize, Malformed { id, message }: Malformed) -> Self {
        Self { id, error: Some(format!("line {line}, {message}")), ..Self::default() }
    }
}

/// A line of the stream, or why it could not be taken in.
enum Line {
    Text(Vec<u8>),
    /// Longer than this many bytes.
    TooLong(usize),
}

/// A line on its way to a worker, with where its report is waited for.
struct Job {
    number: usize,
    line: Line,
    report: Sender<Report>,
}

/// Judges every line of `lines` and writes a line to `out` for each; empty lines are passed over.
///
/// Returns how many lines were not cases.
///
/// # Errors
/// When the stream cannot be read or the reports cannot be written.
pub(super) fn run(
    judge: &Judge,
    lines: impl BufRead + Send,
    config: &BatchConfig,
    out: &mut impl Write,
) -> anyhow::Result<usize> {
    let (jobs, waiting) = sync_channel::<Job>(config.num_under_way_max);
    let (order, ordered) = sync_channel::<Receiver<Report>>(config.num_under_way_max);
    let waiting = Mutex::new(waiting);
    std::thread::scope(|scope| {
        for _ in 0..config.num_workers {
            let builder = std::thread::Builder::new().name("ananke-judge".into()).stack_size(config.worker_stack_bytes);
            builder.spawn_scoped(scope, || work(judge, &waiting, config)).context("cannot start a worker")?;
        }
        let reader = scope.spawn(move || feed(lines, config.line_bytes_max, &jobs, &order));
        let written = write_in_order(ordered, out);
        // The reader first: where writing failed, it ends at its next line.
        let read = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        let num_malformed = written?;
        read.context("cannot read the cases")?;
        Ok(num_malformed)
    })
}

fn write_in_order(ordered: Receiver<Receiver<Report>>, out: &mut impl Write) -> anyhow::Result<usize> {
    let mut num_malformed = 0;
    for report in ordered {
        let report = report.recv().context("a worker ended early")?;
        num_malformed += usize::from(!report.is_case);
        serde_json::to_writer(&mut *out, &report)?;
        writeln!(out)?;
    }
    out.flush()?;
    Ok(num_malformed)
}

/// Gives each line its place in the order, then to a worker. Ends early when nobody takes them any more.
fn feed(
    mut lines: impl BufRead,
    line_bytes_max: usize,
    jobs: &SyncSender<Job>,
    order: &SyncSender<Receiver<Report>>,
) -> std::io::Result<()> {
    let mut number = 0;
    while let Some(line) = read_line(&mut lines, line_bytes_max)? {
        number += 1;
        if matches!(&line, Line::Text(text) if text.trim_ascii().is_empty()) {
            continue;
        }
        let (report, receiver) = channel();
        if order.send(receiver).is_err() || jobs.send(Job { number, line, report }).is_err() {
            break;
        }
    }
    Ok(())
}

/// The next line without its end; one that is too long is read past, not kept.
fn read_line(lines: &mut impl BufRead, bytes_max: usize) -> std::io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut is_too_long = false;
    loop {
        let chunk = lines.fill_buf()?;
        if chunk.is_empty() && line.is_empty() && !is_too_long {
            return Ok(None);
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let taken = end.unwrap_or(chunk.len());
        if line.len() + taken > bytes_max {
            is_too_long = true;
            line = Vec::new();
        }
        if !is_too_long {
            line.extend_from_slice(&chunk[..taken]);
        }
        let is_last = end.is_some() || chunk.is_empty();
        lines.consume(taken + usize::from(end.is_some()));
        if is_last {
            return Ok(Some(if is_too_long { Line::TooLong(bytes_max) } else { Line::Text(line) }));
        }
    }
}

fn work(judge: &Judge, waiting: &Mutex<Receiver<Job>>, config: &BatchConfig) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { number, line, report }) = next else { return };
        // The writer may have gone away; then nobody wants the report.
        let _ = report.send(judge_line(judge, number, &line, config));
    }
}

fn judge_line(judge: &Judge, number: usize, line: &Line, config: &BatchConfig) -> Report {
    let case = match line {
        Line::Text(text) => Case::read(text),
        Line::TooLong(limit) => {
            Err(Malformed { id: Value::Null, message: format!("which is longer than {limit} bytes") })
        }
    };
    match case {
        Err(malformed) => Report::malformed(number, malformed),
        Ok(case) => judge_case(judge, &case, config),
    }
}

/// A panic concerns this case alone.
fn judge_case(judge: &Judge, case: &Case, config: &BatchConfig) -> Report {
    let name = |part: &str| case.bindings.part_name(part);
    let judged = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let joint = |ir: &ConstraintIr| judge.joint(ir).unwrap_or(Joint::Unknown);
        let irs = case.bindings.irs(&joint).map_err(|(field, why)| format!("{field}: {why}"))?;
        judge.judge(&irs, &case.text, config.seed).map_err(|error| explain(error, name))
    }));
    let judged = judged.unwrap_or_else(|_| Err("internal error: judging this case panicked".into()));
    let report = Report::new(case.id.clone(), judged.as_ref().map_err(Clone::clone), name);
    match &judged {
        Ok(judged) if config.details => report.with_verdicts(judged, name),
        _ => report,
    }
}

/// The failure with its parts named by `name`.
pub(super) fn explain(error: maze::Error, name: impl Fn(&str) -> String) -> String {
    match error {
        maze::Error::Guide(error) => error.map_parts(name).to_string(),
        error => error.to_string(),
    }
}
