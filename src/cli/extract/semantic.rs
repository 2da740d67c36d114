//! The beginnings of sources to a model, and what it says of them into the set.
//!
//! Whatever goes wrong costs only what the model would have said: it is a line on standard error and a diagnostic.

use std::fs::File;
use std::io::Read;

use anyhow::bail;

use super::walk::{Input, What};
use crate::clew::semantic::{self, ANSWER_NAME, Excerpt, QUESTION_BYTES_MAX, QUESTION_FILES_MAX, SemanticQuestion};
use crate::cli::analyst::{Analyst, OpenAnalyst, message};
use crate::constraint::ConstraintSet;
use crate::remote::Question;

/// A model whose context does not hold a question about so many bytes of source is not asked.
const QUESTION_BYTES_MIN: usize = 256;
/// What a character that is cut in two may have left of it, in bytes.
const CUT_CHARACTER_BYTES_MAX: usize = 3;

/// Asks about the inputs and adds what is said to the set; a failure is reported in it.
pub(super) fn add(set: &mut ConstraintSet, inputs: &[Input], analyst: Analyst) {
    match analyse(&set.name, inputs, analyst) {
        Ok(said) => semantic::merge(set, said),
        Err(error) => {
            let why = message(&error);
            eprintln!("warning: semantic analysis failed: {why}; the set holds what was found without it");
            set.diagnostics.push(semantic::diagnostic(&set.name, format!("it failed: {why}")));
        }
    }
}

fn analyse(name: &str, inputs: &[Input], analyst: Analyst) -> anyhow::Result<ConstraintSet> {
    let num_sources = inputs.iter().filter(|input| matches!(input.what, What::Source(_))).count();
    let sources = read(inputs);
    if sources.is_empty() {
        bail!("there is no source text to ask about");
    }
    let analyst = analyst.open()?;
    let Shown { question, excerpts, num_whole } = fit(&sources, &analyst)?;
    let answer = analyst.ask(&asked(&question, &analyst))?;
    let mut said = semantic::read_answer(&answer, &excerpts, name)?;
    if num_whole < num_sources {
        let message = format!("{} was shown {num_whole} of {num_sources} source files as a whole", analyst.name());
        said.diagnostics.push(semantic::diagnostic(name, message));
    }
    Ok(said)
}

/// The beginnings of the first sources: enough for the largest question, and to tell whether a file goes on.
fn read(inputs: &[Input]) -> Vec<Excerpt> {
    let mut excerpts: Vec<Excerpt> = Vec::new();
    let mut num_bytes = 0;
    for input in inputs {
        let What::Source(language) = input.what else { continue };
        if excerpts.len() == QUESTION_FILES_MAX || num_bytes > QUESTION_BYTES_MAX {
            break;
        }
        // A file that cannot be read is a diagnostic already.
        let Some(text) = beginning(input).filter(|text| !text.trim().is_empty()) else { continue };
        num_bytes += text.len();
        excerpts.push(Excerpt { file: input.name.clone(), language, text });
    }
    excerpts
}

/// The first bytes of a file as text; `None` if they are none.
fn beginning(input: &Input) -> Option<String> {
    let mut bytes = Vec::new();
    let limit = QUESTION_BYTES_MAX + 1 + CUT_CHARACTER_BYTES_MAX;
    File::open(&input.path).ok()?.take(limit as u64).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).map(Some).unwrap_or_else(|error| {
        let is_cut = error.utf8_error().error_len().is_none();
        let end = error.utf8_error().valid_up_to();
        let mut bytes = error.into_bytes();
        bytes.truncate(end);
        String::from_utf8(bytes).ok().filter(|_| is_cut)
    })
}

/// A question, and what it shows.
struct Shown {
    question: SemanticQuestion,
    excerpts: Vec<Excerpt>,
    num_whole: usize,
}

/// The largest question that leaves the model room for its answer: of half as much source each time.
fn fit(sources: &[Excerpt], analyst: &OpenAnalyst) -> anyhow::Result<Shown> {
    let mut budget = QUESTION_BYTES_MAX;
    while budget >= QUESTION_BYTES_MIN {
        let (excerpts, num_whole) = cut(sources, budget);
        let question = semantic::question(&excerpts);
        if !excerpts.is_empty() && analyst.fits(&asked(&question, analyst))? {
            return Ok(Shown { question, excerpts, num_whole });
        }
        budget /= 2;
    }
    bail!("the context of {} does not hold the question and its answer", analyst.name())
}

fn asked<'a>(question: &'a SemanticQuestion, analyst: &OpenAnalyst) -> Question<'a> {
    analyst.question((&question.system, &question.user), ANSWER_NAME, &question.schema)
}

/// As many sources as the budget holds, the last of them cut after a line, and how many are whole.
fn cut(sources: &[Excerpt], budget: usize) -> (Vec<Excerpt>, usize) {
    let (mut excerpts, mut num_whole, mut room) = (Vec::new(), 0, budget);
    for source in sources {
        let is_whole = source.text.len() <= room;
        let end = match is_whole {
            true => source.text.len(),
            false => source.text[..source.text.floor_char_boundary(room)].rfind('\n').map_or(0, |end| end + 1),
        };
        num_whole += usize::from(is_whole);
        room -= end;
        if end > 0 {
            excerpts.push(Excerpt { text: source.text[..end].to_owned(), ..source.clone() });
        }
        if !is_whole {
            break;
        }
    }
    (excerpts, num_whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constraint::Language;

    #[test]
    fn sources_are_cut_after_a_line_and_counted() {
        let source = |file: &str, text: &str| Excerpt {
            file: file.to_owned(),
            language: Language::Python,
            text: text.to_owned(),
        };
        let sources = [source("a.py", "a = 1\n"), source("b.py", "b = 2\nc = '\u{e9}'\n"), source("c.py", "d\n")];
        let check = |budget: usize, texts: &[&str], num_whole: usize| {
            let (excerpts, whole) = cut(&sources, budget);
            let found: Vec<&str> = excerpts.iter().map(|excerpt| excerpt.text.as_str()).collect();
            assert_eq!((found.as_slice(), whole), (texts, num_whole), "{budget}");
        };
        check(100, &["a = 1\n", "b = 2\nc = '\u{e9}'\n", "d\n"], 3);
        check(17, &["a = 1\n", "b = 2\n"], 1);
        check(6, &["a = 1\n"], 1);
        check(5, &[], 0);
    }
}
