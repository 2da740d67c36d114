//! Forbidden text: bytes that never appear, however they are split into tokens.
//!
//! Literals of one IR become one automaton for each spelling rule: Aho-Corasick, or a trie that is entered at word
//! borders; patterns become one `absent` automaton. All are walked byte by byte, so a text is caught across any number
//! of tokens.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, ClassUnicodeRange, Hir, HirKind, Repetition};

use super::automaton::RawDfa;
use super::regex::CompiledGroup;
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
) -> Result<Vec<CompiledGroup>, GuideError> {
    GuideError::check_size(part, "number of texts", texts.len(), config.max_forbidden_texts)?;
    let num_bytes = texts.iter().flat_map(|text| [&text.text, &text.regex]).flatten().map(String::len).sum();
    GuideError::check_size(part, "bytes of the texts", num_bytes, config.max_forbidden_bytes)?;

    let class_chars = Cell::new(0);
    for pattern in texts.iter().filter_map(|text| text.regex.as_deref()) {
        classes::charge(part, pattern, false, &class_chars, config)?;
    }
    let mut literals: [[Vec<&str>; 2]; 2] = Default::default();
    let mut patterns = Vec::new();
    for (idx, text) in texts.iter().enumerate().filter(|(_, text)| text.scope == scope) {
        let place = format!("{part}[{idx}]");
        let pattern = text.pattern().map_err(|error| invalid_ir(&place, &error.to_string()))?;
        match pattern {
            TextOrRegex::Text("") => return Err(invalid_ir(&place, "the text is empty")),
            TextOrRegex::Text(literal) => {
                literals[usize::from(text.whole_word)][usize::from(text.ignore_case)].push(literal);
            }
            TextOrRegex::Regex(pattern) => {
                let hir = regex::parse(&place, pattern, "", config)?;
                regex::refuse_empty_match(&place, &hir)?;
                patterns.push(spelled(hir, text));
            }
        }
    }

    let mut automata = Vec::new();
    for (whole_word, ignore_case) in [(false, false), (false, true), (true, false), (true, true)] {
        let literals = &literals[usize::from(whole_word)][usize::from(ignore_case)];
        if literals.is_empty() {
            continue;
        }
        let raw = if whole_word {
            word_automaton(part, literals, ignore_case, config)
        } else {
            literal_automaton(part, literals, ignore_case, config)
        };
        automata.push(CompiledGroup::Automaton(raw?));
    }
    if !patterns.is_empty() {
        automata.push(CompiledGroup::new(part, &Hir::alternation(patterns), MatchMode::Absent, config)?);
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
pub(crate) fn literal_automaton(
    part: &str,
    literals: &[&str],
    ignore_case: bool,
    config: &GuideConfig,
) -> Result<RawDfa, GuideError> {
    let (classes, representative) = literal_classes(literals, ignore_case, |_| 0);
    let num_classes = representative.len();
    let column = |byte: u8| classes[byte as usize] as usize;
    let (mut next, refused) = literal_rows(part, literals, &column, num_classes, config)?;
    for row in next.chunks_exact_mut(num_classes) {
        for (class, &byte) in representative.iter().enumerate() {
            row[class] = row[column(byte)];
        }
    }
    let accepting = vec![true; refused.len()];
    Ok(RawDfa { classes, num_classes, next, refused, accepting, start: 0, delayed: false })
}

/// One column for every byte that occurs in a literal, in either case where case is folded, and one for all other bytes
/// of each `kind`; with one byte of every column.
fn literal_classes(literals: &[&str], ignore_case: bool, kind: impl Fn(u8) -> u16) -> (Box<[u8; 256]>, Vec<u8>) {
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    let mut occurs = [false; 256];
    literals.iter().flat_map(|literal| literal.bytes()).for_each(|byte| occurs[fold(byte) as usize] = true);
    let mut column_of: HashMap<u16, u8> = HashMap::new();
    let mut classes = Box::new([0; 256]);
    let mut representative = Vec::new();
    for byte in 0..=255u8 {
        let key = if occurs[fold(byte) as usize] { 256 + u16::from(fold(byte)) } else { kind(byte) };
        classes[byte as usize] = *column_of.entry(key).or_insert_with(|| {
            representative.push(byte);
            (representative.len() - 1) as u8
        });
    }
    (classes, representative)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A trie of whole words, entered wherever no word character stands before.
///
/// A word has been found when the byte after it is no word character, so what is refused shows one byte late.
fn word_automaton(part: &str, words: &[&str], ignore_case: bool, config: &GuideConfig) -> Result<RawDfa, GuideError> {
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    let mut trie = WordTrie::default();
    words.iter().for_each(|word| trie.insert(word.bytes().map(fold)));
    let (classes, representative) = literal_classes(words, ignore_case, |byte| u16::from(is_word(byte)));
    let num_classes = representative.len();
    let mut states = WordStates::new(trie.is_end.len());
    let start = states.number(WordState { nodes: Vec::new(), at_border: true, ends_word: false, found: false });
    let mut next = Vec::new();
    let mut at = 0;
    while let Some(state) = states.order.get(at).cloned() {
        at += 1;
        for &byte in &representative {
            let from_root = state.at_border.then_some(WordTrie::ROOT);
            let nodes = state.nodes.iter().copied().chain(from_root);
            let nodes: Vec<u32> = nodes.filter_map(|node| trie.child(node, fold(byte))).collect();
            next.push(states.number(WordState {
                ends_word: nodes.iter().any(|&node| trie.is_end[node as usize]),
                at_border: !is_word(byte),
                found: state.ends_word && !is_word(byte),
                nodes,
            }));
        }
        GuideError::check_size(part, "bytes of the automaton", next.len() * 4, config.max_automaton_bytes)?;
    }
    let refused = states.order.iter().map(|state| state.found).collect();
    let accepting = states.order.iter().map(|state| !state.ends_word).collect();
    Ok(RawDfa { classes, num_classes, next, refused, accepting, start, delayed: true })
}

struct WordTrie {
    children: HashMap<(u32, u8), u32>,
    is_end: Vec<bool>,
}

impl Default for WordTrie {
    fn default() -> Self {
        Self { children: HashMap::new(), is_end: vec![false] }
    }
}

impl WordTrie {
    const ROOT: u32 = 0;

    fn insert(&mut self, word: impl Iterator<Item = u8>) {
        let end = word.fold(Self::ROOT, |node, byte| {
            *self.children.entry((node, byte)).or_insert_with(|| {
                self.is_end.push(false);
                self.is_end.len() as u32 - 1
            })
        });
        self.is_end[end as usize] = true;
    }

    fn child(&self, node: u32, byte: u8) -> Option<u32> {
        self.children.get(&(node, byte)).copied()
    }
}

/// Words under way, by their nodes, the longest first.
#[derive(Clone, PartialEq, Eq, Hash)]
struct WordState {
    nodes: Vec<u32>,
    /// Whether a word may begin here.
    at_border: bool,
    /// Whether a word is found if it ends here.
    ends_word: bool,
    /// Whether a word ended one byte ago.
    found: bool,
}

/// Numbers for states; nearly all of them have at most one word under way and need no hash.
struct WordStates {
    order: Vec<WordState>,
    few: Vec<u32>,
    many: HashMap<WordState, u32>,
}

impl WordStates {
    fn new(num_nodes: usize) -> Self {
        Self { order: Vec::new(), few: vec![u32::MAX; num_nodes * 8], many: HashMap::new() }
    }

    fn number(&mut self, state: WordState) -> u32 {
        let fresh = self.order.len() as u32;
        let flags = usize::from(state.at_border) + 2 * usize::from(state.ends_word) + 4 * usize::from(state.found);
        let known = match state.nodes.as_slice() {
            // The root is never under way, so its place stands for no word.
            [] => &mut self.few[flags],
            [node] => &mut self.few[*node as usize * 8 + flags],
            _ => self.many.entry(state.clone()).or_insert(u32::MAX),
        };
        if *known == u32::MAX {
            *known = fresh;
            self.order.push(state);
            return fresh;
        }
        *known
    }
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
