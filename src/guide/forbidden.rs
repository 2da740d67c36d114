//! Forbidden text: bytes that never appear, however they are split into tokens.
//!
//! Literals of one IR become one Aho-Corasick automaton for each spelling rule; patterns and whole words become one
//! `absent` automaton. Both are walked byte by byte, so a text is caught across any number of tokens.

use std::cell::Cell;
use std::collections::VecDeque;

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, ClassUnicodeRange, Hir, HirKind, Repetition};

use super::automaton::RawDfa;
use super::{GuideConfig, GuideError, classes, regex};
use crate::constraint::{ForbiddenText, MatchMode, Scope, TextOrRegex};

/// Compiles the forbidden text of one IR that has this scope.
///
/// # Errors
/// [`GuideError::InvalidRegex`], [`GuideError::TooLarge`], [`GuideError::InvalidIr`] for an empty text.
pub(crate) fn compile(
    part: &str,
    texts: &[ForbiddenText],
    scope: Scope,
    config: &GuideConfig,
) -> Result<Vec<RawDfa>, GuideError> {
    GuideError::check_size(part, "number of texts", texts.len(), config.max_forbidden_texts)?;
    let num_bytes = texts.iter().flat_map(|text| [&text.text, &text.regex]).flatten().map(String::len).sum();
    GuideError::check_size(part, "bytes of the texts", num_bytes, config.max_forbidden_bytes)?;

    let class_chars = Cell::new(0);
    for pattern in texts.iter().filter_map(|text| text.regex.as_deref()) {
        classes::charge(part, pattern, false, &class_chars, config)?;
    }
    let mut literals: [Vec<&str>; 2] = [Vec::new(), Vec::new()];
    let mut patterns = Vec::new();
    for (idx, text) in texts.iter().enumerate().filter(|(_, text)| text.scope == scope) {
        let place = format!("{part}[{idx}]");
        let pattern = text.pattern().map_err(|error| invalid_ir(&place, &error.to_string()))?;
        match pattern {
            TextOrRegex::Text("") => return Err(invalid_ir(&place, "the text is empty")),
            TextOrRegex::Text(literal) if !text.whole_word => literals[usize::from(text.ignore_case)].push(literal),
            TextOrRegex::Text(literal) => patterns.push(spelled(Hir::literal(literal.as_bytes()), text)),
            TextOrRegex::Regex(pattern) => {
                let hir = regex::parse(&place, pattern, "", config)?;
                regex::refuse_empty_match(&place, &hir)?;
                patterns.push(spelled(hir, text));
            }
        }
    }

    let mut automata = Vec::new();
    for (ignore_case, literals) in [false, true].into_iter().zip(&literals) {
        if !literals.is_empty() {
            automata.push(literal_automaton(part, literals, ignore_case, config)?);
        }
    }
    if !patterns.is_empty() {
        automata.push(regex::automaton(part, &Hir::alternation(patterns), MatchMode::Absent, config)?);
    }
    Ok(automata)
}

fn invalid_ir(part: &str, message: &str) -> GuideError {
    GuideError::InvalidIr { part: part.to_owned(), message: message.to_owned() }
}

/// The expression with its case and word rules.
fn spelled(hir: Hir, text: &ForbiddenText) -> Hir {
    let hir = if text.ignore_case { fold_ascii(hir) } else { hir };
    if text.whole_word { regex::whole_word(hir) } else { hir }
}

/// The automaton of Aho and Corasick (1975), row by row, with the states that end a literal.
///
/// Its states are the nodes of the trie; a node's row is that of the longest suffix of its text that is a node too, but
/// for its own children. Linear in rows times columns, however often the literals repeat themselves.
fn literal_rows(
    part: &str,
    literals: &[&str],
    column: &impl Fn(u8) -> usize,
    num_classes: usize,
    config: &GuideConfig,
) -> Result<(Vec<u32>, Vec<bool>), GuideError> {
    const NONE: u32 = u32::MAX;
    let mut next = vec![NONE; num_classes];
    let mut refused = vec![false];
    for literal in literals {
        let mut node = 0;
        for byte in literal.bytes() {
            let slot = node * num_classes + column(byte);
            if next[slot] == NONE {
                next[slot] = refused.len() as u32;
                refused.push(false);
                next.resize(next.len() + num_classes, NONE);
                GuideError::check_size(part, "bytes of the automaton", next.len() * 4, config.max_automaton_bytes)?;
            }
            node = next[slot] as usize;
        }
        refused[node] = true;
    }
    let mut suffix = vec![0; refused.len()];
    let mut queue = VecDeque::from([0]);
    while let Some(node) = queue.pop_front() {
        for class in 0..num_classes {
            let slot = node * num_classes + class;
            let fallback = if node == 0 { 0 } else { next[suffix[node] * num_classes + class] };
            if next[slot] == NONE {
                next[slot] = fallback;
            } else {
                let child = next[slot] as usize;
                suffix[child] = fallback as usize;
                refused[child] |= refused[fallback as usize];
                queue.push_back(child);
            }
        }
    }
    Ok((next, refused))
}

/// Aho-Corasick over all literals: a state that ends one of them is refused.
fn literal_automaton(
    part: &str,
    literals: &[&str],
    ignore_case: bool,
    config: &GuideConfig,
) -> Result<RawDfa, GuideError> {
    let (classes, representative) = literal_classes(literals, ignore_case);
    let num_classes = representative.len();
    let folded = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    let column = |byte: u8| classes[folded(byte) as usize] as usize;
    let (mut next, refused) = literal_rows(part, literals, &column, num_classes, config)?;
    for row in next.chunks_exact_mut(num_classes) {
        for (class, &byte) in representative.iter().enumerate() {
            row[class] = row[column(byte)];
        }
    }
    let accepting = vec![true; refused.len()];
    Ok(RawDfa { classes, num_classes, next, refused, accepting, start: 0, delayed: false })
}

/// One column for every byte that occurs in a literal, and one for all others.
fn literal_classes(literals: &[&str], ignore_case: bool) -> (Box<[u8; 256]>, Vec<u8>) {
    let mut occurs = [false; 256];
    for byte in literals.iter().flat_map(|literal| literal.bytes()) {
        occurs[byte as usize] = true;
        if ignore_case {
            occurs[byte.to_ascii_lowercase() as usize] = true;
            occurs[byte.to_ascii_uppercase() as usize] = true;
        }
    }
    let mut classes = Box::new([0; 256]);
    let mut representative = Vec::new();
    let mut other = None;
    for byte in 0..=255u8 {
        let shared = if occurs[byte as usize] { None } else { other };
        classes[byte as usize] = shared.unwrap_or_else(|| {
            representative.push(byte);
            let class = (representative.len() - 1) as u8;
            if !occurs[byte as usize] {
                other = Some(class);
            }
            class
        });
    }
    (classes, representative)
}

/// The expression with ASCII letters in both cases and every other byte as it is.
fn fold_ascii(hir: Hir) -> Hir {
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Literal(literal) => Hir::concat(literal.0.iter().map(|&byte| fold_byte(byte)).collect()),
        HirKind::Class(mut class) => {
            match &mut class {
                Class::Bytes(class) => {
                    let cased: Vec<u8> = ascii_letters(|byte| {
                        class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&byte))
                    });
                    cased.into_iter().for_each(|byte| class.push(ClassBytesRange::new(byte, byte)));
                }
                Class::Unicode(class) => {
                    let cased: Vec<u8> = ascii_letters(|byte| {
                        class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&char::from(byte)))
                    });
                    let range = |byte| ClassUnicodeRange::new(char::from(byte), char::from(byte));
                    cased.into_iter().for_each(|byte| class.push(range(byte)));
                }
            }
            Hir::class(class)
        }
        HirKind::Repetition(Repetition { min, max, greedy, sub }) => {
            Hir::repetition(Repetition { min, max, greedy, sub: Box::new(fold_ascii(*sub)) })
        }
        HirKind::Capture(capture) => fold_ascii(*capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.into_iter().map(fold_ascii).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.into_iter().map(fold_ascii).collect()),
    }
}

fn fold_byte(byte: u8) -> Hir {
    if !byte.is_ascii_alphabetic() {
        return Hir::literal([byte]);
    }
    let both = [byte.to_ascii_uppercase(), byte.to_ascii_lowercase()];
    Hir::class(Class::Bytes(ClassBytes::new(both.map(|byte| ClassBytesRange::new(byte, byte)))))
}

/// The other case of every ASCII letter that is contained.
fn ascii_letters(contains: impl Fn(u8) -> bool) -> Vec<u8> {
    (0..=127u8).filter(|byte| byte.is_ascii_alphabetic() && contains(*byte)).map(|byte| byte ^ 0x20).collect()
}
