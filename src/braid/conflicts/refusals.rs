//! Everything that a set forbids, by what it would be found by: literals in a trie, the rest by its automaton.
//!
//! A text is looked up against all refusals of a set in one pass, so that a set with many of them is not compared pair by
//! pair. What the trie finds is only a candidate; [`Refusals::hits`] decides exactly.

use std::cell::OnceCell;
use std::collections::HashMap;

use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, Look};

use super::automaton::{Automaton, Effort, parse};
use crate::constraint::{ForbiddenText, MatchMode, RegexPattern, Scope, TextOrRegex};

/// Literals that an expression may begin with, for it to be found by them.
const PREFIXES_MAX: usize = 32;

/// What constraints forbid; an entry for each text and each pattern group.
#[derive(Default)]
pub(super) struct Refusals {
    entries: Vec<Refusal>,
    /// Where in `entries` a literal's candidates are.
    trie: Trie,
    /// Entries that no literal finds.
    unindexed: Vec<usize>,
}

/// A text that stands in the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spelled {
    /// A name or a path of names.
    Word(String),
    /// A JSON string with its quotes. Only forbidden text switches off the escapes that would spell it differently.
    Json(String),
}

struct Refusal {
    /// The constraint it comes from.
    owner: usize,
    /// Whether it is forbidden text, and no regex group.
    is_text: bool,
    needle: Needle,
    /// Whether it may look beyond a match: then only whole outputs are judged by it.
    looks_around: bool,
    /// The outputs without it, built when a literal needs them.
    automaton: OnceCell<Option<Automaton>>,
}

enum Needle {
    Text { bytes: Vec<u8>, ignore_case: bool, whole_word: bool },
    Expression(Hir),
}

impl Refusals {
    /// Adds what is forbidden; `false` where it could not be read, and is not judged.
    pub(super) fn add_forbidden(&mut self, owner: usize, forbidden: &ForbiddenText, effort: &mut Effort) -> bool {
        // Across the prompt's end something else decides.
        if forbidden.scope == Scope::Document {
            return true;
        }
        let ForbiddenText { ignore_case, whole_word, .. } = *forbidden;
        match forbidden.pattern() {
            Ok(TextOrRegex::Text(text)) if !text.is_empty() => {
                let needle = Needle::Text { bytes: text.as_bytes().to_vec(), ignore_case, whole_word };
                self.add(owner, needle, true, whole_word);
                true
            }
            Ok(TextOrRegex::Regex(pattern)) => {
                let pattern = RegexPattern { pattern: pattern.to_owned(), flags: String::new() };
                // Folding a whole expression over ASCII alone is the guide's.
                let Some(hir) = parse(&[pattern], effort).filter(|_| !ignore_case) else { return false };
                self.add_expression(owner, if whole_word { as_word(hir) } else { hir }, true);
                true
            }
            _ => false,
        }
    }

    /// Adds an expression that matches nowhere.
    pub(super) fn add_expression(&mut self, owner: usize, hir: Hir, is_text: bool) {
        let looks_around = !hir.properties().look_set().is_empty();
        self.add(owner, Needle::Expression(hir), is_text, looks_around);
    }

    fn add(&mut self, owner: usize, needle: Needle, is_text: bool, looks_around: bool) {
        let entry = self.entries.len();
        match needle.prefixes() {
            Some(prefixes) => prefixes.iter().for_each(|prefix| self.trie.insert(prefix, entry)),
            None => self.unindexed.push(entry),
        }
        self.entries.push(Refusal { owner, is_text, needle, looks_around, automaton: OnceCell::new() });
    }

    /// The constraint that an entry comes from.
    pub(super) fn owner(&self, entry: usize) -> usize {
        self.entries[entry].owner
    }

    /// The entries that refuse this whole output; those that are not known to are left out.
    pub(super) fn hits(&self, output: &[u8], effort: &mut Effort) -> Vec<usize> {
        let mut found = self.candidates(output);
        found.retain(|&entry| self.entries[entry].hits(output, effort));
        found
    }

    /// The entries that refuse every output with this word or JSON string in it, whatever stands around it.
    pub(super) fn hits_inside(&self, spelled: &Spelled, effort: &mut Effort) -> Vec<usize> {
        let (text, is_json) = match spelled {
            Spelled::Word(text) => (text, false),
            Spelled::Json(text) => (text, true),
        };
        let mut found = self.candidates(text.as_bytes());
        found.retain(|&entry| {
            let refusal = &self.entries[entry];
            // No word character stands beside a whole word, nor beside a quote.
            let is_certain = !refusal.looks_around || matches!(refusal.needle, Needle::Text { .. });
            is_certain && (refusal.is_text || !is_json) && refusal.hits(text.as_bytes(), effort)
        });
        found
    }

    fn candidates(&self, text: &[u8]) -> Vec<usize> {
        let mut found = self.trie.found_in(text);
        found.extend(&self.unindexed);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The outputs without this entry.
    pub(super) fn automaton(&self, entry: usize, effort: &mut Effort) -> Option<&Automaton> {
        self.entries[entry].automaton(effort)
    }
}

impl Refusal {
    /// Whether it is known to refuse this output.
    fn hits(&self, output: &[u8], effort: &mut Effort) -> bool {
        if effort.take(20 + output.len() as u64).is_none() {
            return false;
        }
        match &self.needle {
            Needle::Text { bytes, ignore_case, whole_word } => occurs(output, bytes, *ignore_case, *whole_word),
            Needle::Expression(_) => self.automaton(effort).is_some_and(|without| !without.accepts(output)),
        }
    }

    fn automaton(&self, effort: &mut Effort) -> Option<&Automaton> {
        self.automaton.get_or_init(|| Automaton::new(self.needle.hir(), MatchMode::Absent, effort)).as_ref()
    }
}

impl Needle {
    /// Literals, in lower case, of which each match begins with one; `None` where there are too many.
    fn prefixes(&self) -> Option<Vec<Vec<u8>>> {
        match self {
            Self::Text { bytes, .. } => Some(vec![bytes.to_ascii_lowercase()]),
            Self::Expression(hir) => {
                let prefixes = Extractor::new().extract(hir);
                let literals = prefixes.literals()?;
                let is_selective = literals.len() <= PREFIXES_MAX && literals.iter().all(|literal| !literal.is_empty());
                is_selective.then(|| literals.iter().map(|literal| literal.as_bytes().to_ascii_lowercase()).collect())
            }
        }
    }

    fn hir(&self) -> Hir {
        match self {
            Self::Text { bytes, ignore_case, whole_word } => {
                let letters =
                    bytes.iter().map(|&byte| if *ignore_case { either_case(byte) } else { Hir::literal([byte]) });
                let text = Hir::concat(letters.collect());
                if *whole_word { as_word(text) } else { text }
            }
            Self::Expression(hir) => hir.clone(),
        }
    }
}

fn either_case(byte: u8) -> Hir {
    let case = |byte| ClassBytesRange::new(byte, byte);
    Hir::class(Class::Bytes(ClassBytes::new([case(byte.to_ascii_lowercase()), case(byte.to_ascii_uppercase())])))
}

/// Only where no ASCII word character stands directly before or after.
fn as_word(hir: Hir) -> Hir {
    Hir::concat(vec![Hir::look(Look::WordStartHalfAscii), hir, Hir::look(Look::WordEndHalfAscii)])
}

fn occurs(output: &[u8], needle: &[u8], ignore_case: bool, whole_word: bool) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    output.windows(needle.len()).enumerate().any(|(at, window)| {
        let same = if ignore_case { window.eq_ignore_ascii_case(needle) } else { window == needle };
        let before = at.checked_sub(1).and_then(|before| output.get(before));
        same && !(whole_word && (is_word(before) || is_word(output.get(at + needle.len()))))
    })
}

/// Literals by their bytes.
#[derive(Default)]
struct Trie {
    children: HashMap<(u32, u8), u32>,
    ends: HashMap<u32, Vec<usize>>,
}

impl Trie {
    fn insert(&mut self, literal: &[u8], entry: usize) {
        let mut node = 0;
        for &byte in literal {
            let fresh = self.children.len() as u32 + 1;
            node = *self.children.entry((node, byte)).or_insert(fresh);
        }
        self.ends.entry(node).or_default().push(entry);
    }

    /// The entries of the literals that stand in a text, whatever their case.
    fn found_in(&self, text: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        for start in 0..text.len() {
            let mut node = 0;
            for byte in &text[start..] {
                let Some(&child) = self.children.get(&(node, byte.to_ascii_lowercase())) else { break };
                node = child;
                found.extend(self.ends.get(&node).into_iter().flatten());
            }
        }
        found
    }
}

impl Spelled {
    /// The text itself.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Json(text) => text,
        }
    }
}
