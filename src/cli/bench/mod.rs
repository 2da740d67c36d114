//! `ananke bench masks`: what schemas cost and whether their masks are right, beside llguidance alone.
//!
//! Both engines get the same vocabulary, schemas and documents in the same process, taking turns. Time per mask is CPU
//! time of the thread, so that a neighbour on the machine does not count; compiling works on a thread of its own, so it
//! is wall time. Masks are compared on the schemas that both accept.

mod key_order;
mod schemas;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use cpu_time::ThreadTime;
use serde::Serialize;

use super::validate::tokenizer;
use crate::constraint::ConstraintIr;
use crate::guide::{Matcher, Peer, PeerMatcher, allowed_tokens, is_allowed, num_words};
use crate::kernels::sampling::uniform;
use crate::maze::{EmbeddedModel, Judge, JudgeConfig};
use crate::verify::{self, Output, VerdictStatus};
use schemas::{Document, Schema};

/// Documents generated for a schema that brings no valid one.
const NUM_GENERATED: u64 = 3;
/// Tokens of a generated document, after which it is left unfinished.
const NUM_TOKENS_MAX: u32 = 300;
/// Schemas that are named under the table for each way to be wrong.
const NUM_NAMED_MAX: usize = 20;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Compile and mask times over JSON Schemas, and whether valid and invalid documents are told apart.
    Masks(MasksArgs),
}

#[derive(Debug, Args)]
struct MasksArgs {
    /// A folder of .json files: bare schemas, MaskBench's `{"schema", "tests"}`, or lists of these as in the
    /// JSON-Schema-Test-Suite.
    #[arg(long, value_name = "DIR")]
    schemas: PathBuf,
    /// Whose vocabulary the masks are over: a tokenizer.json, a model folder or a .gguf file [default: the embedded
    /// model's].
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Only the first schemas, in the order of their files.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Print one JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &BenchArgs, embedded: Option<EmbeddedModel>, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let What::Masks(args) = &args.what;
    let tokenizer = tokenizer(args.tokenizer.as_deref(), embedded.as_ref())?;
    let mut bench = Bench::new(Judge::new(tokenizer, JudgeConfig::default())?)?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    for file in schemas::files(&args.schemas)? {
        let found = schemas::read(&file)?;
        bench.report.files += 1;
        bench.report.files_without_schema += usize::from(found.is_empty());
        for schema in found.iter().take(left) {
            bench.measure(schema)?;
        }
        left = left.saturating_sub(found.len());
        if left == 0 {
            break;
        }
    }
    let report = bench.finish();
    if args.json {
        super::write_json(&report, out)?;
    } else {
        report.write_table(out)?;
    }
    Ok(ExitCode::from(if report.ananke.num_wrong() == 0 { 0 } else { 3 }))
}

/// The two engines, and what was found of them.
struct Bench {
    judge: Judge,
    peer: Peer,
    row: Vec<u32>,
    ananke: Tally,
    llguidance: Tally,
    report: Report,
}

/// One engine's counts and times.
#[derive(Default)]
struct Tally {
    counts: Counts,
    compile: Vec<Duration>,
    masks: Vec<Duration>,
}

/// What the engines are asked alike.
trait Engine {
    fn fill(&mut self, row: &mut [u32]) -> Result<(), String>;
    fn accept(&mut self, token: u32) -> Result<(), String>;
}

impl Engine for Matcher {
    fn fill(&mut self, row: &mut [u32]) -> Result<(), String> {
        Matcher::fill(self, row).map_err(|error| error.to_string())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        Matcher::accept(self, token).map_err(|error| error.to_string())
    }
}

impl Engine for PeerMatcher {
    fn fill(&mut self, row: &mut [u32]) -> Result<(), String> {
        PeerMatcher::fill(self, row)
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        PeerMatcher::accept(self, token)
    }
}

/// A compiled schema: gives matchers at its start.
type Compiled<'a> = Option<Box<dyn Fn() -> anyhow::Result<Box<dyn Engine>> + 'a>>;

impl Bench {
    fn new(judge: Judge) -> anyhow::Result<Self> {
        let vocabulary = judge.tokenizer().vocabulary();
        let peer = Peer::new(vocabulary, JudgeConfig::default().guide.compile_stack_bytes)?;
        let row = vec![0; num_words(vocabulary.num_rows())];
        let report = Report { num_ids: vocabulary.num_tokens(), ..Report::default() };
        Ok(Self { judge, peer, row, ananke: Tally::default(), llguidance: Tally::default(), report })
    }

    fn measure(&mut self, schema: &Schema) -> anyhow::Result<()> {
        let is_even = self.report.schemas.is_multiple_of(2);
        self.report.schemas += 1;
        let ir = ConstraintIr::from_json_schema(schema.schema.clone());
        let (judge, peer) = (&self.judge, &self.peer);
        let mut ours: Compiled<'_> = None;
        let mut theirs: Compiled<'_> = None;
        // Taking turns, so that neither always finds the caches warm.
        for turn in [is_even, !is_even] {
            if turn {
                let start = Instant::now();
                let compiled = judge.guide().compile(std::slice::from_ref(&ir));
                self.ananke.compiled(start.elapsed(), compiled.is_ok());
                ours = compiled.ok().map(|compiled| -> Box<dyn Fn() -> anyhow::Result<Box<dyn Engine>>> {
                    Box::new(move || Ok(Box::new(compiled.matcher(b"")?)))
                });
            } else {
                let start = Instant::now();
                let compiled = peer.compile(&schema.schema);
                self.llguidance.compiled(start.elapsed(), compiled.is_ok());
                theirs = compiled.ok().map(|compiled| -> Box<dyn Fn() -> anyhow::Result<Box<dyn Engine>>> {
                    Box::new(move || Ok(Box::new(compiled.deep_clone())))
                });
            }
        }
        let is_common = ours.is_some() && theirs.is_some();
        self.report.schemas_both_accept += usize::from(is_common);
        let generated = match (&ours, &theirs, schema.instances.iter().any(|instance| instance.is_valid)) {
            (_, _, true) | (None, None, _) => Vec::new(),
            (Some(start), ..) => generate(start, judge, &schema.name, &ir, &mut self.row, &mut self.ananke.counts)?,
            (None, Some(start), _) => {
                generate(start, judge, &schema.name, &ir, &mut self.row, &mut self.llguidance.counts)?
            }
        };
        for (compiled, tally) in [(&ours, &mut self.ananke), (&theirs, &mut self.llguidance)] {
            let Some(start) = compiled else { continue };
            let mut run = Run { start, judge, row: &mut self.row, tally, is_timed: is_common };
            for tokens in &generated {
                run.walk(tokens)?;
            }
            for instance in &schema.instances {
                run.instance(schema, instance)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Report {
        self.report.ananke = self.ananke.figures();
        self.report.llguidance = self.llguidance.figures();
        self.report
    }
}

impl Tally {
    fn compiled(&mut self, time: Duration, is_accepted: bool) {
        let counts = &mut self.counts;
        *(if is_accepted { &mut counts.schemas_accepted } else { &mut counts.schemas_refused }) += 1;
        if is_accepted {
            self.compile.push(time);
        }
    }

    fn figures(self) -> Figures {
        Figures {
            compile_us: Quantiles::of(self.compile),
            num_masks: self.masks.len(),
            mask_us: Quantiles::of(self.masks),
            counts: self.counts,
        }
    }
}

/// One engine's turn at one schema.
struct Run<'a> {
    start: &'a dyn Fn() -> anyhow::Result<Box<dyn Engine>>,
    judge: &'a Judge,
    row: &'a mut [u32],
    tally: &'a mut Tally,
    /// Whether the other engine accepts the schema as well, so that times can be compared.
    is_timed: bool,
}

/// How a document fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    Refused,
    /// A mask could not be computed.
    Failed,
}

impl Run<'_> {
    fn instance(&mut self, schema: &Schema, instance: &schemas::Instance) -> anyhow::Result<()> {
        let as_given = match &instance.document {
            Document::Text(text) => text.clone(),
            Document::Value(value) => value.to_string(),
        };
        let mut outcome = self.text(&as_given)?;
        let mut is_reordered = false;
        if outcome == Outcome::Refused
            && let Document::Value(value) = &instance.document
        {
            let ordered = key_order::in_schema_order(value, &schema.schema).to_string();
            if ordered != as_given {
                outcome = self.text(&ordered)?;
                is_reordered = true;
            }
        }
        let counts = &mut self.tally.counts;
        let count = match (instance.is_valid, outcome) {
            (_, Outcome::Failed) => &mut counts.masks_failed,
            (true, Outcome::Accepted) if is_reordered => &mut counts.valid_accepted_in_schema_order,
            (true, Outcome::Accepted) => &mut counts.valid_accepted_as_given,
            (true, Outcome::Refused) => &mut counts.valid_refused,
            (false, Outcome::Refused) => &mut counts.invalid_refused,
            (false, Outcome::Accepted) => &mut counts.invalid_accepted,
        };
        *count += 1;
        match (instance.is_valid, outcome) {
            (true, Outcome::Refused) => counts.valid_refused_of.push(schema.name.clone()),
            (false, Outcome::Accepted) => counts.invalid_accepted_of.push(schema.name.clone()),
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> anyhow::Result<Outcome> {
        match self.judge.canonical_split(text) {
            Some(tokens) => self.walk(&tokens),
            None => Ok(Outcome::Refused),
        }
    }

    fn walk(&mut self, tokens: &[u32]) -> anyhow::Result<Outcome> {
        let mut engine = (self.start)()?;
        let end = self.judge.tokenizer().vocabulary().end_tokens()[0];
        for &token in tokens.iter().chain([&end]) {
            let before = ThreadTime::now();
            let filled = engine.fill(self.row);
            let time = before.elapsed();
            if self.is_timed {
                self.tally.masks.push(time);
            }
            if let Err(message) = filled {
                let is_dead_end = message.starts_with("no token can follow") || message.starts_with("NoExtensionBias");
                return Ok(if is_dead_end { Outcome::Refused } else { Outcome::Failed });
            }
            if !is_allowed(self.row, token) {
                return Ok(Outcome::Refused);
            }
            if token != end && engine.accept(token).is_err() {
                return Ok(Outcome::Failed);
            }
        }
        Ok(Outcome::Accepted)
    }
}

/// Documents that the masks themselves allow, as tokens; finished ones are judged by the independent validator.
fn generate(
    start: &dyn Fn() -> anyhow::Result<Box<dyn Engine>>,
    judge: &Judge,
    name: &str,
    ir: &ConstraintIr,
    row: &mut [u32],
    counts: &mut Counts,
) -> anyhow::Result<Vec<Vec<u32>>> {
    let mut documents = Vec::new();
    for seed in 0..NUM_GENERATED {
        let (tokens, is_complete) = generate_one(start()?.as_mut(), judge, row, seed);
        let text = judge.tokenizer().decode(&tokens);
        if is_complete {
            counts.generated_complete += 1;
            let output = Output { text: &text, tokens: &tokens, finished: true, ..Output::default() };
            let verdicts = verify::check(&output, std::slice::from_ref(ir));
            let is_violated = verdicts.iter().any(|v| v.part == "json_schema" && v.status == VerdictStatus::Violated);
            if is_violated {
                counts.generated_violated += 1;
                counts.generated_violated_of.push(format!("{name} (seed {seed})"));
            }
        }
        // In the tokenizer's own split: where only one text can follow, llguidance alone allows no other.
        let whole = text.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        documents.extend(judge.canonical_split(whole));
    }
    Ok(documents)
}

/// A random document that leans towards its end, and whether it reached it.
fn generate_one(engine: &mut dyn Engine, judge: &Judge, row: &mut [u32], seed: u64) -> (Vec<u32>, bool) {
    let vocabulary = judge.tokenizer().vocabulary();
    let closes = |token: &u32| vocabulary.bytes(*token).iter().all(|byte| b"\"]}0,:".contains(byte));
    let mut tokens = Vec::new();
    for position in 0..NUM_TOKENS_MAX {
        if engine.fill(row).is_err() {
            break;
        }
        let allowed: Vec<u32> = allowed_tokens(row).collect();
        if allowed.iter().any(|token| vocabulary.end_tokens().contains(token)) {
            return (tokens, true);
        }
        let closing: Vec<u32> = allowed.iter().copied().filter(closes).collect();
        let choices = if closing.is_empty() || uniform(seed, 1, position) < 0.3 { &allowed } else { &closing };
        let Some(&token) = choices.get((uniform(seed, 0, position) * choices.len() as f64) as usize) else { break };
        if engine.accept(token).is_err() {
            break;
        }
        tokens.push(token);
    }
    (tokens, false)
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    num_ids: usize,
    files: usize,
    files_without_schema: usize,
    schemas: usize,
    schemas_both_accept: usize,
    ananke: Figures,
    llguidance: Figures,
}

#[derive(Debug, Default, Serialize)]
struct Figures {
    #[serde(flatten)]
    counts: Counts,
    compile_us: Quantiles,
    num_masks: usize,
    mask_us: Quantiles,
}

#[derive(Debug, Default, Serialize)]
struct Counts {
    schemas_accepted: usize,
    schemas_refused: usize,
    valid_accepted_as_given: usize,
    valid_accepted_in_schema_order: usize,
    valid_refused: usize,
    invalid_refused: usize,
    invalid_accepted: usize,
    masks_failed: usize,
    generated_complete: usize,
    generated_violated: usize,
    /// The schemas of what went wrong, one entry per document.
    invalid_accepted_of: Vec<String>,
    generated_violated_of: Vec<String>,
    valid_refused_of: Vec<String>,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Quantiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let Some(last) = times.len().checked_sub(1) else { return Self::default() };
        let at = |share: f64| times[(last as f64 * share).round() as usize].as_secs_f64() * 1e6;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
    }
}

impl Figures {
    fn num_wrong(&self) -> usize {
        self.counts.invalid_accepted + self.counts.generated_violated
    }
}

impl Report {
    fn write_table(&self, out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(
            out,
            "{} schemas in {} files ({} files have none), {} ids; both engines accept {}",
            self.schemas, self.files, self.files_without_schema, self.num_ids, self.schemas_both_accept
        )?;
        writeln!(out, "{:<44}{:>14}{:>18}", "", "ananke", "llguidance alone")?;
        let (ours, theirs) = (&self.ananke, &self.llguidance);
        for (label, count) in COUNTS {
            writeln!(out, "{label:<44}{:>14}{:>18}", count(&ours.counts), count(&theirs.counts))?;
        }
        let times =
            [("compile, ms", 1e3, ours.compile_us, theirs.compile_us), ("mask, us", 1.0, ours.mask_us, theirs.mask_us)];
        for (what, unit, ours, theirs) in times {
            let rows = [("p50", ours.p50, theirs.p50), ("p90", ours.p90, theirs.p90), ("p99", ours.p99, theirs.p99)];
            for (label, ours, theirs) in rows.into_iter().chain([("max", ours.max, theirs.max)]) {
                let label = format!("{what}, {label}");
                writeln!(out, "{label:<44}{:>14.2}{:>18.2}", ours / unit, theirs / unit)?;
            }
        }
        writeln!(out, "{:<44}{:>14}{:>18}", "masks, of schemas that both accept", ours.num_masks, theirs.num_masks)?;
        for (engine, Figures { counts, .. }) in [("ananke", ours), ("llguidance alone", theirs)] {
            let lists = [
                ("invalid accepted", &counts.invalid_accepted_of),
                ("generated and violated", &counts.generated_violated_of),
                ("valid refused", &counts.valid_refused_of),
            ];
            for (verdict, schemas) in lists {
                for schema in schemas.iter().take(NUM_NAMED_MAX) {
                    writeln!(out, "{engine}, {verdict}: {schema}")?;
                }
                if let Some(more @ 1..) = schemas.len().checked_sub(NUM_NAMED_MAX) {
                    writeln!(out, "{engine}, {verdict}: {more} more (--json names all)")?;
                }
            }
        }
        Ok(())
    }
}

type Count = fn(&Counts) -> usize;

const COUNTS: [(&str, Count); 10] = [
    ("schemas accepted", |counts| counts.schemas_accepted),
    ("schemas refused", |counts| counts.schemas_refused),
    ("valid accepted as given", |counts| counts.valid_accepted_as_given),
    ("valid accepted with keys in schema order", |counts| counts.valid_accepted_in_schema_order),
    ("valid refused", |counts| counts.valid_refused),
    ("invalid refused", |counts| counts.invalid_refused),
    ("invalid accepted", |counts| counts.invalid_accepted),
    ("documents whose masks ran out of fuel", |counts| counts.masks_failed),
    ("documents generated to their end", |counts| counts.generated_complete),
    ("of these, violated", |counts| counts.generated_violated),
];

#[cfg(test)]
mod tests;
