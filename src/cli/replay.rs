//! `ananke replay`: a recorded request, run again, and whether the same came out.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Deserialize;

use super::{load_progress, read_text};
use crate::config::ModelArgs;
use crate::constraint::{ConstraintIr, Digest};
use crate::maze::{self, Completed, EmbeddedModel, GenerateRequest, Hole, Maze, Prompt, PromptRecord, SamplingParams};
use crate::server;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// A record, as `GET /v1/provenance/{id}` gives it; `-` reads standard input.
    #[arg(value_name = "RECORD.json")]
    record: String,
    /// The prompt, which is not in the record: a text, a JSON list of token ids, or, of a chat or a hole, the request's
    /// body, or a chat's messages as JSON. Once for each prompt of the request.
    #[arg(long, required = true, value_name = "FILE")]
    prompt: Vec<String>,
    /// The text of a choice as it was replied, so that the first byte that differs can be named. Once for each choice.
    #[arg(long, value_name = "FILE")]
    output: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
}

/// What a replay needs of a record.
#[derive(Debug, Deserialize)]
struct Record {
    requests: Vec<Request>,
}

#[derive(Debug, Deserialize)]
struct Request {
    prompt: RecordedPrompt,
    ananke_version: String,
    model: String,
    weights_digest: Option<Digest>,
    tokenizer_digest: Digest,
    constraints: Vec<RecordedConstraint>,
    irs: Vec<ConstraintIr>,
    seed: u64,
    sampling: SamplingParams,
    max_tokens: u32,
    stop: Vec<String>,
    num_choices: u32,
    num_logprobs: Option<u32>,
    sample_forced_tokens: bool,
    choices: Vec<Choice>,
    /// The server that made it.
    remote: Option<Remote>,
}

#[derive(Debug, Deserialize)]
struct Remote {
    host: String,
}

#[derive(Debug, Deserialize)]
struct RecordedPrompt {
    kind: String,
    digest: Digest,
    tokens_digest: Digest,
}

#[derive(Debug, Deserialize)]
struct RecordedConstraint {
    digest: Digest,
}

#[derive(Debug, Deserialize)]
struct Choice {
    index: u32,
    finish_reason: String,
    num_tokens: u32,
    output_digest: Digest,
    output_bytes: usize,
}

pub(super) fn run(
    args: &ReplayArgs,
    embedded: Option<EmbeddedModel>,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let record: Record = serde_json::from_str(&read_text(&args.record)?)
        .with_context(|| format!("{} is no provenance record", args.record))?;
    let num_prompts = record.requests.len();
    ensure!(num_prompts == args.prompt.len(), "the record has {num_prompts} prompts; give --prompt for each");
    if let Some(remote) = record.requests.iter().find_map(|request| request.remote.as_ref()) {
        bail!("the reply was made by a model at {}, which cannot be run again here", remote.host);
    }
    let requests = record.requests.iter().zip(&args.prompt);
    let requests = requests.map(|(request, path)| request.again(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut outputs = read_outputs(&record, &args.output)?.into_iter();
    let mut options = args.model.open_options(embedded)?;
    options.progress = Some(load_progress());
    let maze = maze::open(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report { out, differs: false };
    for (request, again) in record.requests.iter().zip(requests) {
        runtime.block_on(request.compare_program(&maze, &mut report))?;
        let completed = runtime.block_on(generate(&maze, request, again, &mut report))?;
        for choice in completed {
            let output = outputs.next().flatten();
            request.compare_choice(&choice, output.as_deref(), &mut report)?;
        }
    }
    let Report { out, differs } = report;
    if differs {
        return Ok(ExitCode::from(3));
    }
    writeln!(out, "identical")?;
    Ok(ExitCode::SUCCESS)
}

async fn generate(
    maze: &Maze,
    recorded: &Request,
    again: GenerateRequest,
    report: &mut Report<'_, impl Write>,
) -> anyhow::Result<Vec<Completed>> {
    let prompt = again.prompt.clone();
    let generation = maze.generate(again).await?;
    let tokens_digest = PromptRecord::new(&prompt, generation.prompt_ids()).tokens_digest;
    report.compare("tokens of the prompt", &recorded.prompt.tokens_digest, &tokens_digest)?;
    Ok(generation.collect().await?)
}

/// What is found, as it is found.
struct Report<'a, W> {
    out: &'a mut W,
    /// Whether the outputs do.
    differs: bool,
}

impl<W: Write> Report<'_, W> {
    /// Notes what could make outputs differ; that alone is no difference between them.
    fn compare<T: PartialEq + Display>(&mut self, what: &str, recorded: &T, here: &T) -> std::io::Result<()> {
        if recorded == here { Ok(()) } else { writeln!(self.out, "{what}: recorded {recorded}, here {here}") }
    }
}

impl Request {
    /// The request with the prompt at `path`.
    fn again(&self, path: &str) -> anyhow::Result<GenerateRequest> {
        for (ir, recorded) in self.irs.iter().zip(&self.constraints) {
            let digest = ir.compute_digest();
            ensure!(digest == recorded.digest, "the record was changed: a constraint has not the digest it is given");
        }
        Ok(GenerateRequest {
            prompt: self.prompt.read(path)?,
            constraints: self.irs.clone(),
            sampling: self.sampling.clone(),
            max_tokens: Some(self.max_tokens),
            stop: self.stop.clone(),
            num_choices: self.num_choices,
            seed: Some(self.seed),
            num_logprobs: self.num_logprobs,
            sample_forced_tokens: self.sample_forced_tokens,
            ..GenerateRequest::default()
        })
    }

    async fn compare_program(&self, maze: &Maze, report: &mut Report<'_, impl Write>) -> anyhow::Result<()> {
        let model = maze.model();
        let known = |digest: Option<Digest>| digest.map_or_else(|| "not known".to_owned(), |digest| digest.to_string());
        let weights = maze.weights_digest_when_known().await;
        report.compare("version", &self.ananke_version.as_str(), &env!("CARGO_PKG_VERSION"))?;
        report.compare("name of the model", &self.model, &model.id)?;
        report.compare("weights", &known(self.weights_digest), &known(weights))?;
        report.compare("tokenizer", &self.tokenizer_digest, &model.tokenizer_digest)?;
        Ok(())
    }

    /// `output` is the text that was replied, where it is known.
    fn compare_choice(
        &self,
        again: &Completed,
        output: Option<&str>,
        report: &mut Report<'_, impl Write>,
    ) -> anyhow::Result<()> {
        let index = again.choice;
        let Some(recorded) = self.choices.iter().find(|choice| choice.index == index) else {
            bail!("the record has no choice {index}");
        };
        if recorded.output_digest == again.finish.output_digest {
            return Ok(());
        }
        report.differs = true;
        let what = |what: &str| format!("{what} of choice {index}");
        report.compare(&what("end"), &recorded.finish_reason.as_str(), &again.finish.reason.as_str())?;
        report.compare(&what("tokens"), &recorded.num_tokens, &again.finish.num_tokens)?;
        report.compare(&what("bytes"), &recorded.output_bytes, &again.finish.output_bytes)?;
        let out = &mut report.out;
        match output.map(|output| first_difference(output.as_bytes(), again.text.as_bytes())) {
            Some(at) => writeln!(out, "{} differ from byte {at} on", what("texts"))?,
            None => writeln!(out, "{} differ; --output FILE says from which byte on", what("texts"))?,
        }
        Ok(())
    }
}

/// The first byte in which two texts that are not the same differ; the length of the shorter one where it begins the
/// other.
fn first_difference(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

impl RecordedPrompt {
    /// The prompt in a file, which has to be the recorded one.
    fn read(&self, path: &str) -> anyhow::Result<Prompt> {
        let text = read_text(path)?;
        let prompt = match self.kind.as_str() {
            "text" => Prompt::Text(self.exact(text)),
            "unfinished" => Prompt::Unfinished(self.exact(text)),
            "hole" => {
                let holes = server::holes_of_body(text.as_bytes()).map_err(|why| anyhow::anyhow!("{path}: {why}"))?;
                let asked = |hole: &Hole| Digest::of_value(hole) == self.digest;
                let hole = holes.into_iter().find(asked);
                Prompt::Hole(hole.with_context(|| format!("{path} does not ask to fill the recorded hole"))?)
            }
            "tokens" => {
                Prompt::Tokens(serde_json::from_str(&text).with_context(|| format!("{path} is no list of ids"))?)
            }
            "chat" => {
                let messages = server::messages_of_body(text.as_bytes());
                Prompt::Chat(messages.map_err(|why| anyhow::anyhow!("{path}: {why}"))?)
            }
            other => bail!("the record has a prompt of kind `{other}`, which this version cannot run again"),
        };
        let found = PromptRecord::new(&prompt, &[]).digest;
        ensure!(found == self.digest, "{path} is not the recorded prompt: its digest is {found}, not {}", self.digest);
        Ok(prompt)
    }

    /// The text, or the text without the line break that editors and shells put at the end of a file.
    fn exact(&self, text: String) -> String {
        exact(text, &self.digest)
    }
}

fn exact(mut text: String, digest: &Digest) -> String {
    let cut = text.strip_suffix('\n').filter(|cut| Digest::of_bytes(cut.as_bytes()) == *digest).map(str::len);
    text.truncate(cut.unwrap_or(text.len()));
    text
}

/// The texts of the choices, in the order in which they are generated again; none where none were given.
fn read_outputs(record: &Record, paths: &[String]) -> anyhow::Result<Vec<Option<String>>> {
    let mut choices = Vec::new();
    for request in &record.requests {
        let mut own: Vec<&Choice> = request.choices.iter().collect();
        own.sort_by_key(|choice| choice.index);
        choices.extend(own);
    }
    if paths.is_empty() {
        return Ok(vec![None; choices.len()]);
    }
    ensure!(paths.len() == choices.len(), "the record has {} choices; give --output for each, or none", choices.len());
    let read = |(choice, path): (&Choice, &String)| {
        let text = exact(read_text(path)?, &choice.output_digest);
        let is_recorded = Digest::of_bytes(text.as_bytes()) == choice.output_digest;
        ensure!(is_recorded, "{path} is not the recorded output of choice {}", choice.index);
        Ok(Some(text))
    };
    choices.into_iter().zip(paths).map(read).collect()
}
