//! `ananke validate`: what the masks and the independent engines say of finished text. No weights are loaded.

mod batch;
mod case;
mod language;

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};
use serde_json::Value;

use super::{LanguageArg, read_text};
use crate::constraint::ConstraintIr;
use crate::maze::{self, EmbeddedModel, Judge, JudgeConfig, Judged, Walk};
use crate::text::Tokenizer;
use crate::verify::VerdictStatus;
use batch::{BatchConfig, Report};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["ir", "batch", "language"]))]
#[command(after_long_help = CASES)]
pub(super) struct ValidateArgs {
    /// A text, judged byte for byte as it stands (`-` reads standard input); with --language, source files and folders.
    #[arg(value_name = "TEXTFILE", required_unless_present = "batch", conflicts_with = "batch")]
    texts: Vec<String>,
    /// Judge source files of this language by its grammar alone: one JSON line per file.
    #[arg(long, value_enum, value_name = "LANGUAGE", conflicts_with_all = ["ir", "batch"])]
    language: Option<LanguageArg>,
    /// A constraint IR as JSON; may be given several times, and all hold.
    #[arg(long, value_name = "FILE")]
    ir: Vec<String>,
    /// Cases, one JSON object per line; `-` reads standard input.
    #[arg(long, value_name = "CASES.jsonl")]
    batch: Option<String>,
    /// Whose vocabulary the masks are over: a tokenizer.json, a model folder or a .gguf file [default: the embedded
    /// model's].
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Seeds the random split into tokens.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Add the verdict of the independent engines on every part to each line of a batch.
    #[arg(long, requires = "batch")]
    details: bool,
    /// Print the line that a batch would print.
    #[arg(long, conflicts_with = "batch")]
    json: bool,
}

const CASES: &str = r#"Cases:
  Each line of a batch is an object with `id` (a string or a number), `text`, and one or more of
    ir              a constraint IR (`ananke schema` prints its JSON Schema)
    constraints     a constraint set, as `ananke extract --format json` prints it, or a list of constraints
    rule            one rule of a constraint, which binds as a hard one
    json_schema     a JSON Schema
    regex           a pattern; `match` says how it binds: full (default), prefix, contains, absent
    grammar         the source of a grammar; `syntax` says which: lark, ebnf, gbnf
    forbidden_text  a list of strings, or of objects as in an IR
  All that are given hold together. For the line
    {"id": 1, "text": "[1,2]", "json_schema": {"type": "array"}, "forbidden_text": ["2"]}
  this is printed:
    {"id":1,"compiled":true,"error":null,"masks_accept":false,"masks_accept_random_split":false,
     "verified":false,"refused_at":3}
  masks_accept               the masks let the text through, in the tokenizer's own split and to an end token
  masks_accept_random_split  the same for a random split, drawn from the ids that the id lists leave
  verified                   the independent engines find that all parts hold; null where a part has none
  refused_at                 the first byte that the masks refuse; the text's length where only the end is
  Where the constraints do not compile, `compiled` is false, `error` says why, and the rest is null.

With --language, a line for each file, in order:
    {"path":"a.py","masks_accept":false,"refused_at":107,"parses":true,"error":null}
  parses                     tree-sitter reads the file without an error
  Files of a folder are those with the language's extensions; what ignore files name is left out.

Exit status:
  With --language: 0 when every file was judged.
  With --batch: 0 when every line was judged, 1 when one was not a case.
  With --ir: 0 when the masks accept the text and every part holds, 3 when not, 1 when it could not be judged
  (with --json 3, and the line says why)."#;

pub(super) fn run(
    args: &ValidateArgs,
    embedded: Option<EmbeddedModel>,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let tokenizer = tokenizer(args.tokenizer.as_deref(), embedded.as_ref())?;
    let judge = Judge::new(tokenizer, JudgeConfig::default())?;
    match (&args.batch, args.language) {
        (Some(path), _) => run_batch(&judge, path, args, out),
        (None, Some(language)) => language::run(&judge, language.into(), &args.texts, out),
        (None, None) => run_one(&judge, args, out),
    }
}

/// The tokenizer at `path`, or the embedded model's.
pub(super) fn tokenizer(path: Option<&std::path::Path>, embedded: Option<&EmbeddedModel>) -> anyhow::Result<Tokenizer> {
    match (path, embedded) {
        (Some(path), _) => Ok(maze::open_tokenizer(path).with_context(|| format!("{}: no tokenizer", path.display()))?),
        (None, Some(embedded)) => Ok(maze::open_embedded_tokenizer(embedded)?),
        (None, None) => bail!("no --tokenizer was given, and this build has no model in it"),
    }
}

fn run_batch(judge: &Judge, path: &str, args: &ValidateArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = BatchConfig { seed: args.seed, details: args.details, ..BatchConfig::default() };
    let num_malformed = if path == "-" {
        batch::run(judge, BufReader::new(std::io::stdin()), &config, out)?
    } else {
        let file = File::open(path).with_context(|| format!("cannot read {path}"))?;
        batch::run(judge, BufReader::new(file), &config, out)?
    };
    if num_malformed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{num_malformed} lines were not cases; the error of each says why");
    Ok(ExitCode::FAILURE)
}

fn run_one(judge: &Judge, args: &ValidateArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let irs = args.ir.iter().map(|path| read_ir(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let [path] = &args.texts[..] else { bail!("one text at a time; --batch takes many") };
    let text = read_text(path)?;
    let judged = judge.judge(&irs, &text, args.seed);
    if args.json {
        let outcome = judged.as_ref().map_err(ToString::to_string);
        serde_json::to_writer(&mut *out, &Report::new(Value::from(path.as_str()), outcome, str::to_owned))?;
        writeln!(out)?;
        let is_satisfied = judged.is_ok_and(|judged| judged.is_satisfied());
        return Ok(ExitCode::from(if is_satisfied { 0 } else { 3 }));
    }
    let judged = judged?;
    write_for_people(&judged, &text, out)?;
    Ok(ExitCode::from(if judged.is_satisfied() { 0 } else { 3 }))
}

fn read_ir(path: &str) -> anyhow::Result<ConstraintIr> {
    serde_json::from_str(&read_text(path)?).with_context(|| format!("{path} is no constraint IR"))
}

fn write_for_people(judged: &Judged, text: &str, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "masks, tokenizer's split: {}", describe(&judged.canonical, text))?;
    writeln!(out, "masks, random split: {}", describe(&judged.random_split, text))?;
    for verdict in &judged.verdicts {
        let status = serde_json::to_value(verdict.status)?;
        let status = match verdict.status {
            // Nothing is enforced in a text that the masks did not let through.
            VerdictStatus::Enforced if judged.canonical != Walk::Accepted => {
                "not_checked: only the masks know this part"
            }
            _ => status.as_str().unwrap_or("?"),
        };
        let detail = verdict.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        writeln!(out, "{}: {status}{detail}", verdict.part)?;
    }
    Ok(())
}

fn describe(walk: &Walk, text: &str) -> String {
    match walk {
        Walk::Accepted => "accepted".into(),
        Walk::Failed(error) => format!("not known: {error}"),
        Walk::Refused(refusal) if refusal.at == text.len() => {
            format!("refused at the end (byte {}) by {}", refusal.at, refusal.part)
        }
        Walk::Refused(refusal) => {
            let (line, column) = place(text.as_bytes(), refusal.at);
            format!("refused at byte {} (line {line}, column {column}) by {}", refusal.at, refusal.part)
        }
    }
}

/// Line and column of a byte, both from 1, the column in bytes.
fn place(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
