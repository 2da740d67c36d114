//! The `ananke` command: its arguments, and one file per subcommand.
//!
//! Results go to standard output, everything else to standard error, so that every command can stand in a pipe.
//! Exit status: 0 done, 1 failed, 2 wrong arguments, 3 generated or judged, but not satisfied, or run again with
//! another output, 4 an audit log that is whole
//! but for a torn last line.

mod analyst;
mod audit;
mod bench;
mod compile;
mod compile_masks;
mod extract;
mod generate;
mod keys;
mod loading;
mod replay;
mod validate;

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

pub use loading::load_progress;

use crate::constraint::{ConstraintIr, Language};
use crate::maze::EmbeddedModel;

/// Code generation bound, token by token, by constraints mined from your own code.
#[derive(Debug, Parser)]
#[command(name = "ananke", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mine constraints from source files.
    Extract(Box<extract::ExtractArgs>),
    /// Compile a constraint set to a constraint IR.
    Compile(Box<compile::CompileArgs>),
    /// Generate text under constraints.
    Generate(Box<generate::GenerateArgs>),
    /// Say what masks and independent engines find of finished text; no weights are loaded.
    Validate(validate::ValidateArgs),
    /// Measure masks, beside llguidance alone, in this process.
    Bench(bench::BenchArgs),
    /// Run a recorded request again, and say whether the same comes out.
    Replay(Box<replay::ReplayArgs>),
    /// Make API keys for the server.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Check an audit log, or print its head.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Print the JSON Schema of the constraint IR.
    Schema,
}

impl Cli {
    /// Runs the command, writing results to `out`.
    ///
    /// # Errors
    /// Whatever the command could not do; the message is for people.
    pub fn run(self, embedded: Option<EmbeddedModel>, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Extract(args) => extract::run(&args, embedded, out),
            Command::Compile(args) => compile::run(&args, embedded, out),
            Command::Generate(args) => generate::run(*args, embedded, out),
            Command::Validate(args) => validate::run(&args, embedded, out),
            Command::Bench(args) => bench::run(&args, embedded, out),
            Command::Replay(args) => replay::run(&args, embedded, out),
            Command::Keys(command) => keys::run(&command, out),
            Command::Audit(command) => audit::run(&command, out),
            Command::Schema => write_json(&ConstraintIr::schema(), out),
        }
    }
}

/// A language, as it is named on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum LanguageArg {
    #[value(alias = "ts")]
    Typescript,
    #[value(alias = "py")]
    Python,
    #[value(alias = "rs")]
    Rust,
    Zig,
    Go,
}

impl From<LanguageArg> for Language {
    fn from(language: LanguageArg) -> Self {
        match language {
            LanguageArg::Typescript => Self::Typescript,
            LanguageArg::Python => Self::Python,
            LanguageArg::Rust => Self::Rust,
            LanguageArg::Zig => Self::Zig,
            LanguageArg::Go => Self::Go,
        }
    }
}

fn write_json<T: serde::Serialize>(value: &T, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    // Standard output is written line by line, and a large set has a hundred thousand of them.
    let mut out = BufWriter::new(out);
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a file, or standard input for `-`.
fn read_text(path: &str) -> anyhow::Result<String> {
    if path == "-" {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}
