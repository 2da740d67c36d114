//! What does it cost to mine source code, and does it grow with the source and the cores as it should?
//!
//! `cargo bench --bench extract -- FOLDER...` reads every source file below the folders (`scripts/language_grammars/
//! fetch_sources.sh` fetches real ones) on one core and on two, and prints files and lines per second, the share that
//! parses without an error, constraints per file and the peak of memory. Without folders only the second half runs: a
//! file of 75 lines, and files of 100 to 100,000 lines, for each language.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ananke::clew::{self, FileFacts};
use ananke::constraint::Language;
use cpu_time::ThreadTime;
use rayon::prelude::*;

/// How often a small file is read; the median counts.
const REPEATS: usize = 201;
/// Cost grows as the number of lines to this power at most, where it is called linear: caches alone make a line of a
/// large file dearer.
const EXPONENT_MAX: f64 = 1.1;

/// The languages, their file names and a declaration of 25 lines each; `QQ` is its number.
const LANGUAGES: [(Language, &str, &str); 5] = [
    (Language::Typescript, "a.ts", include_str!("data/extract.ts")),
    (Language::Python, "a.py", include_str!("data/extract.py")),
    (Language::Rust, "a.rs", include_str!("data/extract.rs")),
    (Language::Go, "a.go", include_str!("data/extract.go")),
    (Language::Zig, "a.zig", include_str!("data/extract.zig")),
];

fn main() -> Result<(), Box<dyn Error>> {
    let folders: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if !folders.is_empty() {
        trees(&folders)?;
    }
    println!("{:<12} {:>8} {:>12} {:>14}", "language", "lines", "extract", "per line");
    for (language, name, declaration) in LANGUAGES {
        growth(language, name, declaration)?;
    }
    Ok(())
}

/// A file of so many lines.
fn source(declaration: &str, num_lines: usize) -> String {
    let lines_each = declaration.lines().count();
    let declarations = (0..num_lines.div_ceil(lines_each)).map(|idx| declaration.replace("QQ", &idx.to_string()));
    let all: String = declarations.collect();
    all.lines().take(num_lines).flat_map(|line| [line, "\n"]).collect()
}

/// Times files of one language that differ in length only, by the clock of this thread.
fn growth(language: Language, name: &str, declaration: &str) -> Result<(), Box<dyn Error>> {
    let mut points = Vec::new();
    for num_lines in [75, 100, 1_000, 10_000, 100_000] {
        let text = source(declaration, num_lines);
        let repeats = (REPEATS * 75 / num_lines).max(3);
        let mut times = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            let start = ThreadTime::now();
            std::hint::black_box(clew::extract(&text, language, name)?);
            times.push(start.elapsed());
        }
        times.sort();
        let median = times[repeats / 2];
        points.push(((num_lines as f64).ln(), median.as_secs_f64().ln()));
        let each = median.as_secs_f64() / num_lines as f64 * 1e6;
        println!("{:<12} {num_lines:>8} {:>9.2} ms {each:>11.2} us", format!("{language:?}"), millis(median));
    }
    let exponent = slope(&points[1..]);
    let verdict = if exponent <= EXPONENT_MAX { "linear" } else { "NOT linear" };
    println!("{:<12} grows as lines to the power of {exponent:.3} from 100 to 100,000: {verdict}", "");
    Ok(())
}

/// The slope of the line that fits the points best.
fn slope(points: &[(f64, f64)]) -> f64 {
    let num = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / num, y + point.1 / num));
    let of = |weight: fn(f64, f64) -> f64| points.iter().map(|point| weight(point.0 - x, point.1 - y)).sum::<f64>();
    of(|dx, dy| dx * dy) / of(|dx, _| dx * dx)
}

/// Times folders of real files.
fn trees(folders: &[String]) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<12} {:>6} {:>9} {:>8} {:>9} {:>8} {:>9} {:>11} {:>13} {:>9}",
        "language", "files", "lines", "errors", "1 core", "files/s", "2 cores", "faster", "lines/s/core", "per file"
    );
    let mut all = Vec::new();
    for folder in folders {
        collect(Path::new(folder), &mut all)?;
    }
    all.sort();
    for (language, _, _) in LANGUAGES {
        let files: Vec<_> = all.iter().filter(|path| clew::language_of(path) == Some(language)).collect();
        let read = |path: &&PathBuf| fs::read(path).ok().and_then(|bytes| clew::decode(bytes).ok());
        let texts: Vec<_> = files.iter().filter_map(|path| Some((path.display().to_string(), read(path)?))).collect();
        if !texts.is_empty() {
            tree(language, &texts)?;
        }
    }
    println!("peak memory {} MB", peak_memory_kb()? / 1024);
    Ok(())
}

fn tree(language: Language, texts: &[(String, String)]) -> Result<(), Box<dyn Error>> {
    let timed = |num_threads| -> Result<(Vec<FileFacts>, Duration), Box<dyn Error>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build()?;
        let start = Instant::now();
        let facts =
            pool.install(|| texts.par_iter().map(|(name, text)| clew::read_file(text, language, name)).collect());
        let facts: Result<Vec<_>, _> = facts;
        Ok((facts?, start.elapsed()))
    };
    timed(2)?;
    let (facts, alone) = timed(1)?;
    let (_, together) = timed(2)?;
    let start = Instant::now();
    let set = clew::combine(&facts, &[]);
    let combined = start.elapsed();
    let mut broken: Vec<_> = set.diagnostics.iter().filter(|one| one.message.contains("syntax error")).collect();
    broken.dedup_by(|one, two| one.origin.file == two.origin.file);
    let num_lines: usize = texts.iter().map(|(_, text)| text.lines().count()).sum();
    println!(
        "{:<12} {:>6} {num_lines:>9} {:>7.2}% {:>6.2} s {:>8.0} {:>6.2} s {:>8.2} x {:>13.0} {:>9.2}",
        format!("{language:?}"),
        texts.len(),
        100.0 * broken.len() as f64 / texts.len() as f64,
        alone.as_secs_f64(),
        texts.len() as f64 / alone.as_secs_f64(),
        together.as_secs_f64(),
        alone.as_secs_f64() / together.as_secs_f64(),
        num_lines as f64 / alone.as_secs_f64(),
        constraints_per_file(texts, language)?,
    );
    println!("{:<12} one set of all: {} constraints in {:.0} ms", "", set.constraints.len(), millis(combined));
    Ok(())
}

/// What each file gives by itself, on average.
fn constraints_per_file(texts: &[(String, String)], language: Language) -> Result<f64, Box<dyn Error>> {
    let counts: Result<Vec<usize>, _> = texts
        .par_iter()
        .map(|(name, text)| clew::extract(text, language, name).map(|set| set.constraints.len()))
        .collect();
    Ok(counts?.iter().sum::<usize>() as f64 / texts.len() as f64)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.is_file() && clew::language_of(path).is_some() {
        files.push(path.to_owned());
    }
    Ok(())
}

/// The most memory this process has had, in kB; 0 where the system does not say.
fn peak_memory_kb() -> Result<u64, Box<dyn Error>> {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(0) };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
