//! Cuts holes into real files, lets a model fill them with and without the rule that the document is a program, and
//! prints one table: how often prefix, hole and suffix together parse.
//!
//!     cargo run --release --example fim -- --cuts 300
//!
//! A hole begins and ends at a random character, also inside words and strings. With `--log`, each cut is a JSON line.
//! Exit status 1 where an output that was called satisfied does not parse.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use ananke::braid;
use ananke::constraint::{CodeRules, ConstraintIr, Granularity, Language};
use ananke::maze::{
    CodeContext, Completed, FinishReason, GenerateRequest, Hole, Maze, ModelSource, OpenOptions, Prompt,
    SamplingParams, open,
};
use ananke::verify;
use anyhow::{Context, bail};
use clap::Parser;
use serde_json::json;

#[derive(Parser)]
struct Args {
    /// Model: a folder or a .gguf file.
    #[arg(long, default_value = "models/ananke-nano")]
    model: PathBuf,
    /// A folder with a folder of files for each language.
    #[arg(long, default_value = "tests/data/labelled")]
    files: PathBuf,
    /// Languages, by the names of their folders.
    #[arg(long, value_delimiter = ',', default_value = "python,rust,go")]
    languages: Vec<String>,
    /// Holes in all, shared among the languages.
    #[arg(long, default_value_t = 300)]
    cuts: usize,
    /// Most characters of a hole.
    #[arg(long, default_value_t = 120)]
    hole_chars: usize,
    /// Most tokens that fill it.
    #[arg(long, default_value_t = 96)]
    max_tokens: u32,
    /// Softmax temperature.
    #[arg(long, default_value_t = 0.2)]
    temperature: f32,
    /// Where the cuts come from; also the seed of each output.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write a line for each output.
    #[arg(long)]
    log: Option<PathBuf>,
}

/// A language with the files that parse as they are.
struct Corpus {
    name: String,
    language: Language,
    files: Vec<(String, String)>,
}

/// What became of the outputs of one language, in one way.
#[derive(Default)]
struct Tally {
    cuts: usize,
    parses: usize,
    ended: usize,
    hole_only: usize,
    satisfied: usize,
    contradicted: usize,
    seconds: f64,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let maze = open(OpenOptions::new(ModelSource::Path(args.model.clone())))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut log = args.log.as_deref().map(|path| File::create(path).map(BufWriter::new)).transpose()?;
    let mut random = Random(args.seed);
    let mut is_sound = true;
    println!(
        "{:<12} {:<10} {:>5} {:>8} {:>7} {:>10} {:>10} {:>9}",
        "language", "bound", "cuts", "parses", "ended", "hole_only", "satisfied", "s/output"
    );
    for corpus in read_all(&args)? {
        let mut tallies = [Tally::default(), Tally::default()];
        for number in 0..args.cuts / args.languages.len() {
            let (file, text) = &corpus.files[random.below(corpus.files.len())];
            let (from, until) = cut(text, args.hole_chars, &mut random);
            for (is_bound, tally) in [true, false].into_iter().zip(&mut tallies) {
                let hole = Hole { prefix: text[..from].into(), suffix: text[until..].into(), ..Hole::default() };
                let begun = Instant::now();
                let output =
                    runtime.block_on(fill(&maze, hole, is_bound.then_some(corpus.language), number as u64, &args));
                let output = match output {
                    Ok(output) => output,
                    Err(error) => {
                        eprintln!("{file} {from}..{until}: {error}");
                        tally.cuts += 1;
                        continue;
                    }
                };
                tally.seconds += begun.elapsed().as_secs_f64();
                let filled = format!("{}{}{}", &text[..from], output.text, &text[until..]);
                let parses = verify::parses(&filled, corpus.language, file) == Some(true);
                tally.count(&output, parses);
                if let Some(log) = &mut log {
                    let line = json!({"language": corpus.name, "bound": is_bound, "file": file, "from": from, "until": until,
                        "original": text[from..until], "text": output.text, "parses": parses,
                        "finish_reason": output.finish.reason, "fim": output.finish.provenance.fim,
                        "satisfied": output.finish.validation.all_satisfied});
                    writeln!(log, "{line}")?;
                }
            }
        }
        for (name, tally) in ["program", "nothing"].into_iter().zip(&tallies) {
            tally.print(&corpus.name, name);
            is_sound &= tally.contradicted == 0;
        }
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn fill(
    maze: &Maze,
    hole: Hole,
    language: Option<Language>,
    seed: u64,
    args: &Args,
) -> anyhow::Result<Completed> {
    let code = language.map(|language| braid::code(language, Granularity::File, CodeRules::default()));
    let constraints = code.map(|code| ConstraintIr { code: Some(code), ..ConstraintIr::default() });
    let request = GenerateRequest {
        prompt: Prompt::Hole(hole),
        constraints: constraints.into_iter().collect(),
        sampling: SamplingParams { temperature: args.temperature, ..SamplingParams::default() },
        max_tokens: Some(args.max_tokens),
        num_choices: 1,
        seed: Some(args.seed.wrapping_add(seed)),
        ..GenerateRequest::default()
    };
    maze.generate(request).await?.collect().await?.pop().context("one choice was asked for")
}

impl Tally {
    fn count(&mut self, output: &Completed, parses: bool) {
        let context = output.finish.provenance.fim.as_ref().and_then(|fim| fim.code_context);
        let is_satisfied = output.finish.validation.all_satisfied;
        self.cuts += 1;
        self.parses += usize::from(parses);
        self.ended += usize::from(output.finish.reason == FinishReason::Stop);
        self.hole_only += usize::from(context == Some(CodeContext::HoleOnly));
        self.satisfied += usize::from(is_satisfied && context.is_some());
        self.contradicted += usize::from(is_satisfied && context == Some(CodeContext::Document) && !parses);
    }

    fn print(&self, language: &str, bound: &str) {
        let Self { cuts, parses, ended, hole_only, satisfied, seconds, .. } = self;
        let each = seconds / *cuts as f64;
        println!(
            "{language:<12} {bound:<10} {cuts:>5} {parses:>8} {ended:>7} {hole_only:>10} {satisfied:>10} {each:>9.3}"
        );
        if self.contradicted > 0 {
            println!("{language}: {} outputs were called satisfied and do not parse", self.contradicted);
        }
    }
}

fn read_all(args: &Args) -> anyhow::Result<Vec<Corpus>> {
    args.languages.iter().map(|name| read(name, &args.files.join(name))).collect()
}

fn read(name: &str, folder: &Path) -> anyhow::Result<Corpus> {
    let language: Language = serde_json::from_value(json!(name)).with_context(|| format!("{name} is no language"))?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        let file = path.to_string_lossy().into_owned();
        if path.extension().is_none_or(|extension| extension == "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        if verify::parses(&text, language, &file) == Some(true) && !text.is_empty() {
            files.push((file, text));
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("no file in {} parses", folder.display());
    }
    Ok(Corpus { name: name.to_owned(), language, files })
}

/// A hole between two characters.
fn cut(text: &str, hole_chars: usize, random: &mut Random) -> (usize, usize) {
    let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let from = random.below(borders.len());
    let until = (from + random.below(hole_chars + 1)).min(borders.len() - 1);
    (borders[from], borders[until])
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
