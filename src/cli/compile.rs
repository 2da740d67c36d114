//! `ananke compile`: a constraint set to one constraint IR, or to what became of each constraint.

use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::analyst::{Analyst, AnalystArgs, message};
use super::compile_masks::{self, MaskReport};
use super::{read_text, validate, write_json};
use crate::braid::suggest::{self, SuggestionQuestion, Suggestions};
use crate::braid::{self, CompileOptions, Compiled, Explanation, Joint, Resolution, Strategy};
use crate::constraint::{ConstraintIr, ConstraintSet};
use crate::maze::{EmbeddedModel, Judge, JudgeConfig};

#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// A constraint set as JSON, as `ananke extract --format json` prints it; `-` reads standard input.
    #[arg(value_name = "SET.json")]
    set: String,
    /// The type that the output is a value of.
    #[arg(long = "type", value_name = "NAME")]
    type_name: Option<String>,
    /// Security patterns that bind beside the set: families (sql, commands, credentials, urls, paths) or patterns
    /// (sql.drop), each with `=text` or `=code` for another strength than its own; `all` is every family.
    #[arg(long, value_name = "PATTERNS")]
    security: Option<String>,
    /// What becomes of constraints that contradict each other, unless they are stated as hard: those are always refused.
    #[arg(long, value_enum, default_value_t = StrategyArg::Priority)]
    strategy: StrategyArg,
    /// Suggestions how to settle conflicts: a JSON list of {"between": [ids], "action": {"disable": id} or {"merge":
    /// {"into": rule}} or {"modify": {"id", "rule"}}, "by": name}. Each is checked before it is taken.
    #[arg(long, value_name = "FILE.json")]
    resolutions: Option<String>,
    /// Print what each constraint became, and why, and what it masks of the vocabulary, instead of the IR.
    #[arg(long)]
    explain: bool,
    /// Whose vocabulary the set is judged over as a whole, and --explain speaks of: a tokenizer.json, a model folder or
    /// a .gguf file [default: the embedded model's].
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// How to print what --explain says.
    #[arg(long, value_enum, default_value_t = Format::Table, requires = "explain")]
    format: Format,
    #[command(flatten)]
    analyst: AnalystArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StrategyArg {
    /// The weaker one yields: by severity, priority, confidence, then order in the sources.
    Priority,
    /// A model suggests what becomes of them (--semantic-url, --semantic-local). What it suggests is checked and
    /// recorded; where nothing can be taken, the weaker one yields.
    Assisted,
    /// The set is refused.
    Refuse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One object.
    Json,
    /// A line per constraint.
    Table,
}

/// What `--explain` says.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    explanation: Explanation,
    #[serde(flatten)]
    masks: Option<MaskReport>,
}

pub(super) fn run(
    args: &CompileArgs,
    embedded: Option<EmbeddedModel>,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let analyst = args.analyst.analyst(embedded)?;
    match (args.strategy, &analyst) {
        (StrategyArg::Assisted, None) => {
            bail!("--strategy assisted asks a model; name one with --semantic-url or --semantic-local")
        }
        (StrategyArg::Priority | StrategyArg::Refuse, Some(_)) => {
            bail!("a model is asked only with --strategy assisted")
        }
        _ => {}
    }
    let text = read_text(&args.set)?;
    let mut set: ConstraintSet =
        serde_json::from_str(&text).with_context(|| format!("{} is no constraint set", args.set))?;
    if let Some(patterns) = &args.security {
        braid::security::profile(patterns)?.into_iter().for_each(|constraint| set.push(constraint));
    }
    let judge = judge(args.tokenizer.as_deref(), embedded.as_ref())?;
    let options = args.options()?;
    let mut compiled = compile(&set, &options, judge.as_ref())?;
    if let Some(analyst) = analyst {
        compiled = assist(&set, compiled, options, analyst, judge.as_ref());
    }
    if let Joint::Empty { parts } = &compiled.joint {
        bail!("no output satisfies {}", parts.join(" and "));
    }
    if !args.explain {
        return write_json(&compiled.ir, out);
    }
    let masks = judge.map(|judge| compile_masks::report(&judge, &compiled.ir));
    let explained = Explained { explanation: braid::explain(&set, &compiled), masks };
    match args.format {
        Format::Json => write_json(&explained, out),
        Format::Table => {
            write!(out, "{}", explained.explanation)?;
            if let Some(masks) = &explained.masks {
                write!(out, "{masks}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Who judges sets as a whole; `None`, with a line that says so, where there is no vocabulary to judge over.
fn judge(path: Option<&std::path::Path>, embedded: Option<&EmbeddedModel>) -> anyhow::Result<Option<Judge>> {
    if path.is_none() && embedded.is_none() {
        eprintln!("not judged as a whole: this build has no model in it; give --tokenizer PATH");
        return Ok(None);
    }
    Ok(Some(Judge::new(validate::tokenizer(path, embedded)?, JudgeConfig::default())?))
}

/// Compiles, and says on standard error where the guide could not judge the whole.
fn compile(set: &ConstraintSet, options: &CompileOptions, judge: Option<&Judge>) -> anyhow::Result<Compiled> {
    let Some(judge) = judge else { return Ok(braid::compile(set, options)?) };
    let failure = RefCell::new(None);
    let joint = |ir: &ConstraintIr| {
        judge.joint(ir).unwrap_or_else(|error| {
            failure.borrow_mut().get_or_insert(error);
            Joint::Unknown
        })
    };
    let compiled = braid::compile_judged(set, options, &joint)?;
    if let Some(error) = failure.into_inner() {
        eprintln!("not judged as a whole: {error}");
    }
    Ok(compiled)
}

/// Asks about the conflicts in which a constraint yielded and compiles again with what is suggested. A failure is a line
/// on standard error, and what was compiled without a model stays.
fn assist(
    set: &ConstraintSet,
    compiled: Compiled,
    mut options: CompileOptions,
    analyst: Analyst,
    judge: Option<&Judge>,
) -> Compiled {
    let Some(question) = suggest::question(set, &compiled) else { return compiled };
    let assisted = suggestions(&question, analyst).and_then(|suggestions| {
        suggestions.left_out.iter().for_each(|why| eprintln!("warning: {why}"));
        options.resolutions.extend(suggestions.resolutions);
        compile(set, &options, judge)
    });
    assisted.unwrap_or_else(|error| {
        eprintln!("warning: no suggestion was taken: {}; the weaker constraints yield", message(&error));
        compiled
    })
}

fn suggestions(question: &SuggestionQuestion, analyst: Analyst) -> anyhow::Result<Suggestions> {
    let analyst = analyst.open()?;
    let asked = analyst.question((&question.system, &question.user), suggest::ANSWER_NAME, &question.schema);
    if !analyst.fits(&asked)? {
        bail!("the context of {} does not hold the question and its answer", analyst.name());
    }
    let answer = analyst.ask(&asked)?;
    question.read_answer(&answer, &format!("the model {}", analyst.name())).map_err(anyhow::Error::msg)
}

impl CompileArgs {
    fn options(&self) -> anyhow::Result<CompileOptions> {
        let strategy = match self.strategy {
            StrategyArg::Priority | StrategyArg::Assisted => Strategy::Priority,
            StrategyArg::Refuse => Strategy::Refuse,
        };
        let resolutions: Vec<Resolution> = match &self.resolutions {
            Some(file) if *file == self.set && file == "-" => {
                bail!("standard input is read once; give --resolutions a file")
            }
            Some(file) => {
                serde_json::from_str(&read_text(file)?).with_context(|| format!("{file} is no list of resolutions"))?
            }
            None => Vec::new(),
        };
        Ok(CompileOptions { root_type: self.type_name.clone(), strategy, resolutions })
    }
}
