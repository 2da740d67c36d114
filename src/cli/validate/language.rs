//! Source files against the grammar of their language, through the masks.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use ignore::WalkBuilder;
use rayon::prelude::*;
use serde::Serialize;

use crate::constraint::{CodeRules, ConstraintIr, Granularity, Language};
use crate::maze::{Judge, Walk};
use crate::{braid, clew, verify};

/// Files judged before their lines are written, per core.
const FILES_AT_ONCE: usize = 4;

#[derive(Debug, Serialize)]
struct Report {
    path: String,
    masks_accept: Option<bool>,
    refused_at: Option<usize>,
    parses: Option<bool>,
    error: Option<String>,
}

/// Judges every file of `paths` and of the folders in it, and writes a line for each, in order.
pub(super) fn run(
    judge: &Judge,
    language: Language,
    paths: &[String],
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let code = braid::code(language, Granularity::File, CodeRules::default());
    let irs = [ConstraintIr { code: Some(code), ..ConstraintIr::default() }];
    let files = files(language, paths)?;
    let mut all_judged = true;
    for files in files.chunks(FILES_AT_ONCE * rayon::current_num_threads()) {
        let reports: Vec<Report> = files.par_iter().map(|path| report(judge, language, &irs, path)).collect();
        for report in reports {
            all_judged &= report.error.is_none();
            serde_json::to_writer(&mut *out, &report)?;
            writeln!(out)?;
        }
    }
    Ok(if all_judged { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(judge: &Judge, language: Language, irs: &[ConstraintIr], path: &Path) -> Report {
    let mut report =
        Report { path: path.display().to_string(), masks_accept: None, refused_at: None, parses: None, error: None };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return Report { error: Some(format!("cannot be read: {error}")), ..report },
    };
    report.parses = verify::parses(&text, language, &report.path);
    match judge.walk(irs, &text) {
        Ok(walk) => {
            report.masks_accept = walk.is_accepted();
            match walk {
                Walk::Accepted => {}
                Walk::Refused(refusal) => report.refused_at = Some(refusal.at),
                Walk::Failed(error) => report.error = Some(error.to_string()),
            }
        }
        Err(error) => report.error = Some(error.to_string()),
    }
    report
}

/// The files named, and those of the language in the folders named, sorted within each.
fn files(language: Language, paths: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let path = Path::new(path);
        if !path.is_dir() {
            files.push(path.to_owned());
            continue;
        }
        for entry in WalkBuilder::new(path).sort_by_file_path(Path::cmp).build() {
            let entry = entry.with_context(|| format!("cannot walk {}", path.display()))?;
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            if is_file && clew::language_of(entry.path()) == Some(language) {
                files.push(entry.into_path());
            }
        }
    }
    Ok(files)
}
