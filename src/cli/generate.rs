//! `ananke generate`: one prompt to text, under everything given.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{load_progress, read_text};
use crate::clew;
use crate::config::ModelArgs;
use crate::constraint::ConstraintIr;
use crate::maze::{
    self, Completed, EmbeddedModel, Finish, GenerateRequest, Maze, Message, Prompt, SamplingParams, SourceContext,
};

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// What to generate; `-` reads standard input.
    prompt: String,
    #[command(flatten)]
    model: ModelArgs,
    /// A source file whose types may bind the output.
    #[arg(long, value_name = "FILE")]
    context: Option<String>,
    /// The type of the context that the output is a value of.
    #[arg(long = "type", value_name = "NAME", requires = "context")]
    type_name: Option<String>,
    /// A constraint IR as JSON; may be given several times, and all hold.
    #[arg(long, value_name = "FILE")]
    ir: Vec<String>,
    /// Most tokens to generate.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Softmax temperature; 0 takes the best token.
    #[arg(long, default_value_t = 0.7)]
    temperature: f32,
    /// Keep the best tokens up to this share of the probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Same seed, same bytes.
    #[arg(long)]
    seed: Option<u64>,
    /// How many outputs.
    #[arg(short = 'n', long, default_value_t = 1)]
    num_choices: u32,
    /// End before this string; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Continue the prompt as it stands, without the model's chat template.
    #[arg(long)]
    raw: bool,
    /// How to print the outputs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The text as it comes; the report on standard error.
    Text,
    /// One JSON line per output, with verdicts and provenance.
    Json,
}

pub(super) fn run(
    args: GenerateArgs,
    embedded: Option<EmbeddedModel>,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let mut options = args.model.clone().open_options(embedded)?;
    options.progress = Some(load_progress());
    let format = args.format;
    let maze = maze::open(options)?;
    if let Some(report) = &maze.model().quantization {
        eprintln!("quantized on load: {report}");
    }
    let request = request(args, &maze)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let completed = runtime.block_on(stream(&maze, request, format, out))?;
    for choice in &completed {
        match format {
            Format::Json => writeln!(out, "{}", to_json(choice))?,
            Format::Text => report(&choice.finish),
        }
    }
    let is_satisfied = completed.iter().all(|choice| choice.finish.validation.all_satisfied);
    Ok(if is_satisfied { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn request(args: GenerateArgs, maze: &Maze) -> anyhow::Result<GenerateRequest> {
    let text = if args.prompt == "-" { read_text("-")? } else { args.prompt };
    let is_chat = !args.raw && maze.model().has_chat_template;
    Ok(GenerateRequest {
        prompt: if is_chat { Prompt::Chat(vec![Message::new("user", text)]) } else { Prompt::Text(text) },
        constraints: args.ir.iter().map(|path| read_ir(path)).collect::<Result<_, _>>()?,
        context: args.context.map(|file| source_context(file, args.type_name)).transpose()?,
        sampling: SamplingParams { temperature: args.temperature, top_p: args.top_p, ..SamplingParams::default() },
        max_tokens: Some(args.max_tokens),
        stop: args.stop,
        num_choices: args.num_choices,
        seed: args.seed,
        ..GenerateRequest::default()
    })
}

fn read_ir(path: &str) -> anyhow::Result<ConstraintIr> {
    serde_json::from_str(&read_text(path)?).with_context(|| format!("{path} is no constraint IR"))
}

fn source_context(file: String, type_name: Option<String>) -> anyhow::Result<SourceContext> {
    let Some(language) = clew::language_of(Path::new(&file)) else {
        bail!("{file}: unknown file type; TypeScript (.ts, .tsx) and Python (.py, .pyi) are read");
    };
    Ok(SourceContext { source: read_text(&file)?, language, file, type_name })
}

/// Runs the request; a single text output appears as it is generated.
async fn stream(
    maze: &Maze,
    request: GenerateRequest,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<Vec<Completed>> {
    let is_live = format == Format::Text && request.num_choices == 1;
    let mut generation = maze.generate(request).await?;
    if !is_live {
        let completed = generation.collect().await?;
        if format == Format::Text {
            completed.iter().try_for_each(|choice| writeln!(out, "{}", choice.text))?;
        }
        return Ok(completed);
    }
    let mut text = String::new();
    while let Some(delta) = generation.next().await {
        let delta = delta?;
        write!(out, "{}", delta.text)?;
        out.flush()?;
        text.push_str(&delta.text);
        if let Some(finish) = delta.finish {
            writeln!(out)?;
            return Ok(vec![Completed { choice: 0, prompt: None, text, tokens: Vec::new(), finish }]);
        }
    }
    bail!("the generation ended without saying how")
}

fn to_json(choice: &Completed) -> serde_json::Value {
    json!({
        "choice": choice.choice,
        "text": choice.text,
        "finish_reason": choice.finish.reason.as_str(),
        "detail": choice.finish.detail,
        "tokens_generated": choice.finish.num_tokens,
        "validation": choice.finish.validation,
        "provenance": choice.finish.provenance,
        "stats": choice.finish.stats,
    })
}

fn report(finish: &Finish) {
    let stats = &finish.stats;
    let per_second = 1e6 / (stats.time_per_token_us.max(1) as f64);
    eprintln!(
        "{} after {} tokens ({per_second:.1} tok/s, {} masks of {} us on average), seed {}",
        finish.reason.as_str(),
        finish.num_tokens,
        stats.constraint_checks,
        stats.avg_constraint_check_us,
        finish.provenance.seed,
    );
    for verdict in &finish.validation.verdicts {
        let status = serde_json::to_value(verdict.status).unwrap_or_default();
        let detail = verdict.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        eprintln!("  {} {}{detail}", verdict.part, status.as_str().unwrap_or("?"));
    }
}
