//! How long does a mask of a language's grammar take, along real files?
//!
//! `cargo bench --bench code_masks`; walks files of each language token by token, under the grammar alone, over every
//! vocabulary that is there: the embedded model's (4,105 ids), and those that scripts/fetch_tokenizers.sh brings (32k
//! and 100k ids). The files are those of tests/data/labelled and, where scripts/language_grammars/fetch_sources.sh has
//! been run, some of each language taken evenly from its packages. Prints microseconds of CPU time of the thread. The
//! matcher of each file starts cold; what it shares with its siblings is warm after the first files, as in a server.
//! Each file is walked twice: with masks that lexers keep by their states, and with all of them made anew by llguidance.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod common;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ananke::braid;
use ananke::clew::language_of;
use ananke::constraint::{CodeRules, ConstraintIr, Granularity, Language};
use ananke::guide::{CompiledConstraint, Guide, GuideConfig, GuideError, is_allowed, num_words};
use ananke::text::Tokenizer;
use cpu_time::ThreadTime;
use ignore::WalkBuilder;

/// Files of each language from the packages.
const NUM_SOURCES: usize = 60;
/// Longer files are left out, so that a few do not make up the figures.
const FILE_BYTES_MAX: u64 = 64 << 10;

const LANGUAGES: [(Language, &str); 5] = [
    (Language::Typescript, "typescript"),
    (Language::Python, "python"),
    (Language::Rust, "rust"),
    (Language::Go, "go"),
    (Language::Zig, "zig"),
];

fn main() -> Result<(), Box<dyn Error>> {
    report("ananke-nano", &common::nano_tokenizer()?)?;

    for name in ["deepseek-coder", "deepseek-llm"] {
        let file = common::models().join(format!("tokenizers/{name}.gguf"));
        if file.is_file() {
            report(name, &common::gguf_tokenizer(&file)?)?;
        }
    }
    Ok(())
}

fn report(name: &str, tokenizer: &Tokenizer) -> Result<(), Box<dyn Error>> {
    println!("{name}, {} ids; us of CPU time", tokenizer.vocabulary().num_tokens());
    println!(
        "{:<12}{:>7}{:>9}{:>9}{:<7}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "language", "files", "refused", "masks", "", "mean", "p50", "p90", "p99", "max"
    );
    let guide = |min_lexer_mask_walk| {
        let config = GuideConfig { min_lexer_mask_walk, ..GuideConfig::default() };
        Guide::new(tokenizer.vocabulary().clone(), config)
    };
    let guides = [("  kept", guide(GuideConfig::default().min_lexer_mask_walk)?), ("  anew", guide(usize::MAX)?)];
    for (language, folder) in LANGUAGES {
        let code = braid::code(language, Granularity::File, CodeRules::default());
        let ir = ConstraintIr { code: Some(code), ..ConstraintIr::default() };
        let mut ways = Vec::new();
        for (name, guide) in &guides {
            ways.push((name, guide.compile(std::slice::from_ref(&ir))?, Vec::new()));
        }
        let files = files(language, folder)?;
        let mut num_refused = 0;
        for file in &files {
            let ids = tokenizer.encode(&std::fs::read_to_string(file)?, false)?;
            let mut is_refused = false;
            for (_, compiled, times) in &mut ways {
                is_refused |= !walk(compiled, &ids, times)?;
            }
            num_refused += usize::from(is_refused);
        }
        for (name, _, mut times) in ways {
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            let mean = times.iter().sum::<Duration>() / times.len() as u32;
            print!("{folder:<12}{:>7}{num_refused:>9}{:>9}{name:<7}", files.len(), times.len());
            for time in [mean, at(50), at(90), at(99), at(100)] {
                print!("{:>9.1}", time.as_nanos() as f64 / 1000.0);
            }
            println!();
        }
    }
    Ok(())
}

/// Follows a file, timing each mask; false where one refuses its next token.
fn walk(compiled: &Arc<CompiledConstraint>, ids: &[u32], times: &mut Vec<Duration>) -> Result<bool, GuideError> {
    let mut matcher = compiled.matcher(b"")?;
    let mut row = vec![0; num_words(compiled.num_rows())];
    for &id in ids {
        let start = ThreadTime::now();
        matcher.fill(&mut row)?;
        times.push(start.elapsed());
        if !is_allowed(&row, id) {
            return Ok(false);
        }
        matcher.accept(id)?;
    }
    Ok(true)
}

/// The labelled files, and as many of the packages, evenly over their sorted names.
fn files(language: Language, folder: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = found(language, &root.join("tests/data/labelled").join(folder))?;
    let sources = root.join("sources").join(folder);
    if sources.is_dir() {
        let all = found(language, &sources)?;
        let step = all.len().div_ceil(NUM_SOURCES).max(1);
        files.extend(all.into_iter().step_by(step));
    }
    Ok(files)
}

fn found(language: Language, folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in WalkBuilder::new(folder).git_ignore(false).sort_by_file_path(Path::cmp).build() {
        let entry = entry?;
        let is_small = entry.metadata()?.len() <= FILE_BYTES_MAX;
        if is_small && entry.path().is_file() && language_of(entry.path()) == Some(language) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}
