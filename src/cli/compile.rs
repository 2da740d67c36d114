//! `ananke compile`: a constraint set to one constraint IR, or to what became of each constraint.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::analyst::{Analyst, AnalystArgs, message};
use super::{read_text, write_json};
use crate::braid::suggest::{self, SuggestionQuestion, Suggestions};
use crate::braid::{self, CompileOptions, Compiled, Resolution, Strategy};
use crate::constraint::ConstraintSet;
use crate::maze::EmbeddedModel;

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
    /// Print what each constraint became, and why, instead of the IR.
    #[arg(long)]
    explain: bool,
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
    let options = args.options()?;
    let mut compiled = braid::compile(&set, &options)?;
    if let Some(analyst) = analyst {
        compiled = assist(&set, compiled, options, analyst);
    }
    if !args.explain {
        return write_json(&compiled.ir, out);
    }
    let explanation = braid::explain(&set, &compiled);
    match args.format {
        Format::Json => write_json(&explanation, out),
        Format::Table => {
            write!(out, "{explanation}")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Asks about the conflicts in which a constraint yielded and compiles again with what is suggested. A failure is a line
/// on standard error, and what was compiled without a model stays.
fn assist(set: &ConstraintSet, compiled: Compiled, mut options: CompileOptions, analyst: Analyst) -> Compiled {
    let Some(question) = suggest::question(set, &compiled) else { return compiled };
    let assisted = suggestions(&question, analyst).and_then(|suggestions| {
        suggestions.left_out.iter().for_each(|why| eprintln!("warning: {why}"));
        options.resolutions.extend(suggestions.resolutions);
        Ok(braid::compile(set, &options)?)
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
