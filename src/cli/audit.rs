//! `ananke audit`: checks a log, and prints the head that an operator keeps elsewhere.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::audit::{self, AuditKey, Finding, Head, Outcome, Summary};

/// Only a torn last line was found: a crash leaves one, tampering is not needed for it.
const EXIT_TORN_TAIL: u8 = 4;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Find every line that was changed, removed, moved or cut off.
    ///
    /// One line per finding: file, line, kind, what exactly. Exit status: 0 whole, 1 something was found or the log could
    /// not be read, 4 only a torn last line, as a crash leaves it.
    Verify(VerifyArgs),
    /// Print number and MAC of the last record. Kept elsewhere, it shows later that nothing before it was cut off.
    Head(HeadArgs),
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The folder of the log, or one of its segments.
    #[arg(value_name = "FOLDER|FILE")]
    path: PathBuf,
    /// The file of the key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What `ananke audit head` printed earlier: the record that it names must be there.
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// One JSON object per finding, and one with the summary.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct HeadArgs {
    /// The folder of the log, or one of its segments.
    #[arg(value_name = "FOLDER|FILE")]
    path: PathBuf,
    /// The file of the key: check all of it first, and print no head of a log that does not verify.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(super) fn run(command: &AuditCommand, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Verify(args) => verify(args, out),
        AuditCommand::Head(args) => head(args, out),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Report<'a> {
    Finding(&'a Finding),
    Summary(&'a Summary),
}

fn verify(args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let key = AuditKey::read(&args.key)?;
    let head = args.head.as_deref().map(Head::read).transpose()?;
    let mut written = Ok(());
    let summary = audit::verify(&args.path, &key, head.as_ref(), |finding| {
        let mut write = || -> anyhow::Result<()> {
            if args.json {
                return write_line(&Report::Finding(&finding), out);
            }
            Ok(writeln!(out, "{finding}")?)
        };
        if written.is_ok() {
            written = write();
        }
    })?;
    written?;
    if args.json {
        write_line(&Report::Summary(&summary), out)?;
    } else {
        write_summary(&summary, out)?;
    }
    Ok(match summary.outcome {
        Outcome::Whole => ExitCode::SUCCESS,
        Outcome::TornTail => ExitCode::from(EXIT_TORN_TAIL),
        Outcome::Tampered => ExitCode::FAILURE,
    })
}

fn write_line<T: Serialize>(value: &T, out: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    Ok(writeln!(out)?)
}

fn write_summary(summary: &Summary, out: &mut impl Write) -> anyhow::Result<()> {
    let Summary { outcome, segments, records, findings, last, closed } = summary;
    let word = match outcome {
        Outcome::Whole => "whole",
        Outcome::TornTail => "whole but for a torn tail",
        Outcome::Tampered => "not whole",
    };
    write!(out, "{word}: {records} records in {segments} segments, {findings} findings")?;
    match last {
        Some(Head { segment, seq, .. }) => write!(out, "; the last is record {seq} in segment {segment}")?,
        None => write!(out, "; no record is authentic")?,
    }
    let end = if *closed { "a closing checkpoint" } else { "no closing checkpoint: the server runs, or was killed" };
    Ok(writeln!(out, ", {end}")?)
}

fn head(args: &HeadArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if let Some(key) = &args.key {
        let mut first = None;
        let summary = audit::verify(&args.path, &AuditKey::read(key)?, None, |finding| {
            first.get_or_insert(finding);
        })?;
        if let (Outcome::Tampered, Some(finding)) = (summary.outcome, first) {
            anyhow::bail!("{finding}; {} findings in all: `ananke audit verify` lists them", summary.findings);
        }
    }
    write_line(&audit::read_head(&args.path)?, out)?;
    Ok(ExitCode::SUCCESS)
}
