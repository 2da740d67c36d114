//! `ananke extract`: source files to one constraint set.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::{read_text, write_json};
use crate::clew;
use crate::constraint::ConstraintSet;

#[derive(Debug, Args)]
pub(super) struct ExtractArgs {
    /// Source files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// How to print the set.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One ConstraintSet.
    Json,
    /// A line per constraint.
    Table,
}

pub(super) fn run(args: &ExtractArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let set = extract(&args.files)?;
    match args.format {
        Format::Json => write_json(&set, out),
        Format::Table => write_table(&set, out),
    }
}

/// The constraints of several files, in order, each rule once.
pub(super) fn extract(files: &[String]) -> anyhow::Result<ConstraintSet> {
    let mut all = ConstraintSet { name: files.join(", "), ..ConstraintSet::default() };
    for file in files {
        let language = clew::language_of(Path::new(file)).with_context(|| {
            format!("{file}: unknown file type; TypeScript (.ts, .tsx) and Python (.py, .pyi) are read")
        })?;
        let set = clew::extract(&read_text(file)?, language, file)?;
        set.constraints.into_iter().for_each(|constraint| all.push(constraint));
        all.diagnostics.extend(set.diagnostics);
    }
    Ok(all)
}

fn write_table(set: &ConstraintSet, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let rows: Vec<[String; 5]> = set
        .constraints
        .iter()
        .map(|constraint| {
            let origin = constraint.origin.as_ref();
            [
                constraint.name.clone(),
                constraint.rule.type_name().to_owned(),
                format!("{:?}", constraint.strength).to_lowercase(),
                format!("{:.2}", constraint.confidence),
                origin.map_or_else(String::new, |at| format!("{}:{}:{}", at.file, at.line, at.column)),
            ]
        })
        .collect();
    let header = ["NAME", "RULE", "STRENGTH", "CONFIDENCE", "ORIGIN"].map(str::to_owned);
    let widths: [usize; 5] = std::array::from_fn(|column| {
        rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    for row in [&header].into_iter().chain(&rows) {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    for diagnostic in &set.diagnostics {
        let at = &diagnostic.origin;
        writeln!(out, "{}:{}:{}: {}", at.file, at.line, at.column, diagnostic.message)?;
    }
    Ok(ExitCode::SUCCESS)
}
