//! EBNF in three notations, made into Lark that means exactly the same.
//!
//! W3C (`::=`), ISO 14977 (`=` `,` `;`) and GBNF are read into one [`Grammar`]; [`emit`] writes it for llguidance.
//! EBNF has no lexer: a sentence is a sequence of characters. llguidance has one, with longest match, so a rule or even
//! a literal made into a terminal would change the language (`("a" | "ab") "b"` would lose `ab`). Every terminal
//! written here is therefore a single character.

mod emit;
mod gbnf;
mod iso;
mod reader;
mod w3c;

use super::{GuideConfig, GuideError};
use reader::Reader;
pub(super) use reader::place;

/// A grammar as it was read: rules in order, names not yet resolved.
#[derive(Debug, Default)]
struct Grammar {
    rules: Vec<Rule>,
}

/// `name ::= body`.
#[derive(Debug)]
struct Rule {
    name: String,
    /// Byte offset of the name in the source.
    offset: usize,
    body: Expr,
}

/// What a rule can be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expr {
    /// One character out of these inclusive ranges, sorted and disjoint.
    Chars(Vec<(char, char)>),
    /// These characters; may be empty.
    Literal(String),
    /// Another rule, and where it is named.
    Rule(String, usize),
    Sequence(Vec<Expr>),
    Choice(Vec<Expr>),
    /// At least `min`, at most `max` times.
    Repeat(Box<Expr>, u32, Option<u32>),
    /// The first but not the second; both must be single characters. Where the `-` stands.
    Except(Box<Expr>, Box<Expr>, usize),
    /// One or more, never empty: ISO's `{x}-`. Where the `-` stands.
    NonEmpty(Box<Expr>, usize),
}

/// A grammar as Lark, with what its sentences are made of.
#[derive(Debug)]
pub(super) struct Converted {
    pub(super) lark: String,
    /// Inclusive ranges of every character that a sentence may hold; more than those, never fewer.
    pub(super) chars: Vec<(char, char)>,
}

/// Converts W3C or ISO 14977 EBNF; which one it is shows in its first `::=` or `=`.
///
/// # Errors
/// [`GuideError::InvalidGrammar`] with line and column, [`GuideError::TooLarge`], [`GuideError::Unsatisfiable`].
pub(super) fn ebnf_to_lark(
    part: &str,
    source: &str,
    start: Option<&str>,
    config: &GuideConfig,
) -> Result<Converted, GuideError> {
    let reader = Reader::new(part, source, config);
    let grammar = if reader.is_w3c()? { w3c::read(reader)? } else { iso::read(reader)? };
    convert(part, source, grammar, start, config)
}

/// Converts GBNF, whose start is `root`.
///
/// # Errors
/// As [`ebnf_to_lark`].
pub(super) fn gbnf_to_lark(
    part: &str,
    source: &str,
    start: Option<&str>,
    config: &GuideConfig,
) -> Result<Converted, GuideError> {
    let grammar = gbnf::read(Reader::new(part, source, config))?;
    convert(part, source, grammar, Some(start.unwrap_or("root")), config)
}

fn convert(
    part: &str,
    source: &str,
    grammar: Grammar,
    start: Option<&str>,
    config: &GuideConfig,
) -> Result<Converted, GuideError> {
    emit::Emitter::new(Reader::new(part, source, config), &grammar, start)?.lark()
}
