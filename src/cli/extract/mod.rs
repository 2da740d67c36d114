//! `ananke extract`: source files and folders to one constraint set.
//!
//! Files are read over all cores, and what comes out depends neither on their order nor on the number of threads.
//! One bad file in a folder costs that file; a file that was named has to be readable.

mod cache;
mod read;
mod semantic;
mod table;
mod walk;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;

use self::cache::Cache;
use self::read::{Facts, FileError, Reader};
use self::walk::{Input, find};
use super::analyst::{Analyst, AnalystArgs};
use super::write_json;
use crate::clew::{self, FileFacts, Manifest};
use crate::constraint::{ConstraintSet, Diagnostic, Origin};
use crate::maze::EmbeddedModel;

#[derive(Debug, Args)]
pub(super) struct ExtractArgs {
    /// Source files, manifests, and folders of them; folders are walked with their ignore files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// How to print the set.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// How many threads read files [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Keep what was read in files in this folder [default: the user's cache folder].
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Read every file anew.
    #[arg(long)]
    no_cache: bool,
    /// Read files of any size in constant memory, a chunk of top-level declarations at a time.
    #[arg(long)]
    stream: bool,
    /// Budgets of latency and errors, as advisory rules; the file is described in src/clew/telemetry.rs.
    #[arg(long, value_name = "FILE.json")]
    telemetry: Vec<String>,
    /// Who says what the code relies on beyond its types; what is said informs or leans, and never binds.
    #[command(flatten)]
    analyst: AnalystArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One ConstraintSet.
    Json,
    /// A line per constraint, for people.
    Table,
}

pub(super) fn run(
    args: &ExtractArgs,
    embedded: Option<EmbeddedModel>,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let set = mine(args, args.analyst.analyst(embedded)?)?;
    match args.format {
        Format::Json => write_json(&set, out),
        Format::Table => {
            let width = if std::io::stdout().is_terminal() { table::TERMINAL_COLUMNS } else { usize::MAX };
            table::write(&set, width, out)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The constraints of all files together, and what a model says of them if one is to be asked.
fn mine(args: &ExtractArgs, analyst: Option<Analyst>) -> anyhow::Result<ConstraintSet> {
    let found = find(&args.paths)?;
    if found.inputs.is_empty() {
        bail!("no source file below {}; .ts .tsx .js .py .rs .go .zig and manifests are read", args.paths.join(", "));
    }
    let cache = match (&args.cache, args.no_cache) {
        (_, true) => None,
        (Some(folder), _) => {
            Some(Cache::open(folder.clone()).with_context(|| format!("--cache {}", folder.display()))?)
        }
        (None, _) => Cache::of_user(),
    };
    let reader = Reader { cache: cache.as_ref(), streams: args.stream };
    let read = read_all(&reader, &found.inputs, args.jobs)?;
    if let Some(cache) = &cache {
        cache.trim();
    }
    let mut set = combine(&found.inputs, read)?;
    set.name = args.paths.join(", ");
    let no_file = |message| Diagnostic { origin: Origin { file: set.name.clone(), line: 1, column: 1 }, message };
    set.diagnostics.extend(found.problems.into_iter().map(no_file).collect::<Vec<_>>());
    for file in &args.telemetry {
        let telemetry = clew::read_telemetry(&super::read_text(file)?, file)?;
        telemetry.constraints.into_iter().for_each(|constraint| set.push(constraint));
    }
    if let Some(analyst) = analyst {
        semantic::add(&mut set, &found.inputs, analyst);
    }
    Ok(set)
}

type Outcome = Result<Facts, FileError>;

/// Reads every input, in the order of the inputs, on so many threads.
fn read_all(reader: &Reader<'_>, inputs: &[Input], jobs: Option<u16>) -> anyhow::Result<Vec<Outcome>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs.map_or(0, usize::from)).build()?;
    let bar = progress(inputs.len());
    let read = |input| {
        let outcome = reader.read(input);
        bar.inc(1);
        outcome
    };
    // The largest first: begun last, one of them would keep a single core busy while the others wait.
    let mut order: Vec<(usize, &Input)> = inputs.iter().enumerate().collect();
    order.sort_by_cached_key(|(_, input)| Reverse(input.path.metadata().map_or(0, |file| file.len())));
    let read = |(index, input)| (index, read(input));
    let mut outcomes: Vec<_> = pool.install(|| order.into_iter().par_bridge().map(read).collect());
    bar.finish_and_clear();
    outcomes.sort_unstable_by_key(|(index, _)| *index);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// A bar on standard error, where somebody sees it.
fn progress(num_files: usize) -> ProgressBar {
    let is_seen = std::io::stderr().is_terminal();
    let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} files, {per_sec}");
    let bar = ProgressBar::with_draw_target(Some(num_files as u64), target);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// One set of what was read; what was not is a diagnostic, unless the file was named or nothing is left.
fn combine(inputs: &[Input], outcomes: Vec<Outcome>) -> anyhow::Result<ConstraintSet> {
    let (mut files, mut manifests): (Vec<FileFacts>, Vec<Manifest>) = (Vec::new(), Vec::new());
    let mut bad = Vec::new();
    for (input, outcome) in inputs.iter().zip(outcomes) {
        match outcome {
            Ok(Facts::Source(facts)) => files.push(*facts),
            Ok(Facts::Manifest(manifest)) => manifests.push(manifest),
            Err(error) if input.is_named => return Err(error).with_context(|| format!("cannot read {}", input.name)),
            Err(error) => bad.push(error.diagnostic(&input.name)),
        }
    }
    if files.is_empty() && manifests.is_empty() {
        let why: BTreeSet<_> = bad.iter().map(|one| format!("{}: {}", one.origin.file, one.message)).collect();
        bail!("nothing could be read\n{}", why.into_iter().take(20).collect::<Vec<_>>().join("\n"));
    }
    let mut set = clew::combine(&files, &manifests);
    set.diagnostics.extend(bad);
    Ok(set)
}
