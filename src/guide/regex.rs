//! Regex groups: the alternation of a group, with its match mode, as a byte automaton.
//!
//! Patterns are in the syntax of the `regex` crate and run over bytes. Anchors and ASCII word boundaries are exact in a
//! DFA that knows the end of input; a Unicode word boundary is not and is refused. A group that is too big for a
//! transition table is built lazily. Look-around is taken apart where that is exact ([`look_around`]).

use regex_automata::dfa::dense;
use regex_automata::dfa::{Automaton, StartKind};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::{Dot, Hir, HirKind, Look, Repetition};
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;

use super::automaton::RawDfa;
use super::lazy::LazyDfa;
use super::look_around::{self, Condition, Split};
use super::{GuideConfig, GuideError, classes};
use crate::constraint::{MatchMode, RegexGroup};

/// What a regex group was compiled to.
pub(crate) enum CompiledGroup {
    /// An automaton of our own.
    Automaton(RawDfa),
    /// An automaton that is built as it is walked, for a group whose table would be too big.
    Lazy(Box<LazyDfa>),
}

impl CompiledGroup {
    /// The table of an expression where it fits, else the lazily built automaton.
    ///
    /// # Errors
    /// [`GuideError::TooLarge`] where the table does not fit and look-around keeps it from being built lazily, or where
    /// not even the expression fits; [`GuideError::InvalidRegex`] for what has no automaton.
    pub(crate) fn new(part: &str, hir: &Hir, mode: MatchMode, config: &GuideConfig) -> Result<Self, GuideError> {
        match automaton(part, hir, mode, config) {
            Err(GuideError::TooLarge { .. }) if hir.properties().look_set().is_empty() => {
                LazyDfa::new(part, hir, mode, config).map(|lazy| Self::Lazy(Box::new(lazy)))
            }
            table => table.map(Self::Automaton),
        }
    }
}

/// Compiles a group; all of the automata hold.
///
/// # Errors
/// [`GuideError::InvalidRegex`], [`GuideError::TooLarge`].
pub(crate) fn compile_group(
    part: &str,
    group: &RegexGroup,
    config: &GuideConfig,
) -> Result<Vec<CompiledGroup>, GuideError> {
    GuideError::check_size(part, "number of patterns", group.any_of.len(), config.max_forbidden_texts)?;
    let mode = group.match_mode;
    let class_chars = Cell::new(0);
    let mut alternatives = Vec::with_capacity(group.any_of.len());
    let mut automata = Vec::new();
    for (idx, pattern) in group.any_of.iter().enumerate() {
        let place = format!("{part}.any_of[{idx}]");
        GuideError::check_size(&place, "bytes of the pattern", pattern.pattern.len(), config.max_regex_bytes)?;
        let Split { pieces, conditions } = look_around::split(&place, &pattern.pattern, &pattern.flags, mode)?;
        let read = |piece: Range<usize>| {
            let ignores_space = pattern.flags.contains('x');
            classes::charge(&place, &pattern.pattern[piece.clone()], ignores_space, &class_chars, config)?;
            let hir = parse(&place, &pattern.pattern[piece.clone()], &pattern.flags, config);
            hir.map_err(|error| error.moved_by(piece.start))
        };
        if let Some(condition) = conditions.first().filter(|_| group.any_of.len() > 1) {
            let message = "look-ahead in one of several patterns; give this pattern a group of its own".to_owned();
            return Err(GuideError::InvalidRegex { part: place, offset: condition.piece.start, message });
        }
        for Condition { piece, negated } in conditions {
            let mut begins = automaton(part, &read(piece)?, MatchMode::Prefix, config)?;
            if negated {
                begins.accepting.iter_mut().for_each(|accepting| *accepting = !*accepting);
            }
            automata.push(CompiledGroup::Automaton(begins));
        }
        let hir = Hir::concat(pieces.into_iter().map(read).collect::<Result<_, _>>()?);
        if mode == MatchMode::Absent {
            refuse_empty_match(&place, &hir)?;
        }
        alternatives.push(hir);
    }
    automata.push(CompiledGroup::new(part, &Hir::alternation(alternatives), mode, config)?);
    Ok(automata)
}

/// Reads a pattern.
///
/// # Errors
/// [`GuideError::InvalidRegex`], [`GuideError::TooLarge`].
pub(crate) fn parse(part: &str, pattern: &str, flags: &str, config: &GuideConfig) -> Result<Hir, GuideError> {
    let invalid = |offset, message: String| GuideError::InvalidRegex { part: part.to_owned(), offset, message };
    GuideError::check_size(part, "bytes of the pattern", pattern.len(), config.max_regex_bytes)?;
    classes::charge(part, pattern, flags.contains('x'), &Cell::new(0), config)?;
    let mut builder = regex_syntax::ParserBuilder::new();
    builder.utf8(false);
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'm' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            'x' => builder.ignore_whitespace(true),
            // JavaScript's "all matches" changes nothing here.
            'g' => &mut builder,
            other => return Err(invalid(0, format!("flag `{other}` is not known; known are i, m, s and x"))),
        };
    }
    let hir = builder.build().parse(pattern).map_err(|error| {
        let (offset, message) = syntax_message(&error);
        invalid(offset, message)
    })?;
    check_repetition(part, &hir, config)?;
    if hir.properties().look_set().contains_word_unicode() {
        let offset = pattern.find(r"\b").or_else(|| pattern.find(r"\B")).unwrap_or(0);
        return Err(invalid(offset, r"a Unicode word boundary has no exact automaton; write (?-u:\b)".to_owned()));
    }
    Ok(hir)
}

/// A pattern that matches the empty string is found everywhere, so it cannot be absent.
pub(crate) fn refuse_empty_match(part: &str, hir: &Hir) -> Result<(), GuideError> {
    if hir.properties().minimum_len() != Some(0) {
        return Ok(());
    }
    let message = "the pattern matches the empty string, which is everywhere".to_owned();
    Err(GuideError::InvalidRegex { part: part.to_owned(), offset: 0, message })
}

/// Where a pattern is wrong (byte offset), and how.
pub(crate) fn syntax_message(error: &regex_syntax::Error) -> (usize, String) {
    match error {
        regex_syntax::Error::Parse(error) => (error.span().start.offset, error.kind().to_string()),
        regex_syntax::Error::Translate(error) => (error.span().start.offset, error.kind().to_string()),
        other => (0, other.to_string()),
    }
}

/// Bounds the product of nested repetition counts: `(a{1000}){1000}` is a million.
pub(crate) fn check_repetition(part: &str, hir: &Hir, config: &GuideConfig) -> Result<(), GuideError> {
    let size = repetition(hir);
    if size <= config.max_repetition {
        return Ok(());
    }
    let what = "product of nested repetitions".to_owned();
    Err(GuideError::TooLarge { part: part.to_owned(), what, size, limit: config.max_repetition })
}

/// Recursion is bounded: the parser refuses patterns nested deeper than 250.
fn repetition(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Repetition(Repetition { min, max, sub, .. }) => {
            let count = u64::from(max.unwrap_or(*min).max(1));
            count.saturating_mul(repetition(sub))
        }
        HirKind::Capture(capture) => repetition(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(repetition).max().unwrap_or(1),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => 1,
    }
}

fn anything() -> Hir {
    Hir::repetition(Repetition { min: 0, max: None, greedy: true, sub: Box::new(Hir::dot(Dot::AnyByte)) })
}

/// The automaton of one expression under a match mode.
///
/// # Errors
/// [`GuideError::TooLarge`] when it does not fit, [`GuideError::InvalidRegex`] for what has no automaton.
pub(crate) fn automaton(part: &str, hir: &Hir, mode: MatchMode, config: &GuideConfig) -> Result<RawDfa, GuideError> {
    let hir = hir.clone();
    let whole = match mode {
        MatchMode::Full => hir,
        MatchMode::Prefix => Hir::concat(vec![hir, anything()]),
        MatchMode::Contains => Hir::concat(vec![anything(), hir, anything()]),
        MatchMode::Absent => Hir::concat(vec![anything(), hir]),
    };
    let dfa = determinize(part, &whole, config)?;
    tabulate(part, &dfa, mode == MatchMode::Absent, config)
}

fn determinize(part: &str, hir: &Hir, config: &GuideConfig) -> Result<dense::DFA<Vec<u32>>, GuideError> {
    let budget = config.max_regex_build_bytes;
    let too_large = || GuideError::TooLarge {
        part: part.to_owned(),
        what: "bytes of the expression's automaton".to_owned(),
        size: budget as u64 + 1,
        limit: budget as u64,
    };
    let invalid = |message: String| GuideError::InvalidRegex { part: part.to_owned(), offset: 0, message };
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new().utf8(false).which_captures(WhichCaptures::None).nfa_size_limit(Some(budget / 4)),
        )
        .build_from_hir(hir)
        .map_err(|error| if error.size_limit().is_some() { too_large() } else { invalid(error.to_string()) })?;
    // Each state of the table is made by walking through the states of the NFA.
    let num_states = config.max_regex_work / nfa.states().len().max(1) as u64;
    let row_bytes = 4 * nfa.byte_classes().alphabet_len().next_power_of_two();
    let table_bytes = usize::try_from(num_states).unwrap_or(usize::MAX).saturating_mul(row_bytes);
    dense::Builder::new()
        .configure(
            dense::Config::new()
                .match_kind(MatchKind::All)
                .start_kind(StartKind::Anchored)
                .accelerate(false)
                .dfa_size_limit(Some(budget.min(table_bytes)))
                // Sets of many states fill this slowly: 2,500 alternatives would take 4 s to fill all of the budget.
                .determinize_size_limit(Some(budget / 8)),
        )
        .build_from_nfa(&nfa)
        .map_err(|error| if error.is_size_limit_exceeded() { too_large() } else { invalid(error.to_string()) })
}

/// Copies the reachable part of a dense DFA into a table of our own.
///
/// A match shows one byte late, or at the end of input. So the output may end where the end of input shows a match;
/// for `absent` it may end where it shows none, and a state that shows a match must not be entered.
fn tabulate(part: &str, dfa: &dense::DFA<Vec<u32>>, absent: bool, config: &GuideConfig) -> Result<RawDfa, GuideError> {
    let mut classes = Box::new([0u8; 256]);
    for byte in 0..=255u8 {
        classes[byte as usize] = dfa.byte_classes().get(byte);
    }
    // The last unit of the alphabet is the end of input.
    let num_classes = dfa.byte_classes().alphabet_len() - 1;
    let mut representative = vec![0u8; num_classes];
    for byte in (0..=255u8).rev() {
        representative[classes[byte as usize] as usize] = byte;
    }
    let start = dfa
        .start_state(&start::Config::new().anchored(Anchored::Yes))
        .map_err(|error| GuideError::internal(part, error.to_string()))?;
    let mut number = HashMap::from([(start, 0u32)]);
    let mut order = vec![start];
    let (mut next, mut refused, mut accepting) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 0;
    while at < order.len() {
        let state = order[at];
        at += 1;
        refused.push(absent && dfa.is_match_state(state));
        accepting.push(dfa.is_match_state(dfa.next_eoi_state(state)) != absent);
        for &byte in &representative {
            let to = dfa.next_state(state, byte);
            next.push(*number.entry(to).or_insert_with(|| {
                order.push(to);
                order.len() as u32 - 1
            }));
        }
    }
    GuideError::check_size(part, "bytes of the automaton", next.len() * 4, config.max_automaton_bytes)?;
    Ok(RawDfa { classes, num_classes, next, refused, accepting, start: 0, delayed: absent })
}

/// The expression as llguidance writes it; `None` where its dialect cannot say it.
pub(crate) fn lark_pattern(hir: &Hir) -> Option<String> {
    if !hir.properties().look_set().is_empty() || !hir.properties().is_utf8() {
        return None;
    }
    let mut pattern = String::new();
    regex_syntax::hir::print::Printer::new().print(hir, &mut pattern).ok()?;
    Some(llguidance::regex_to_lark(&pattern, ""))
}

/// `hir` only where no ASCII word character stands directly before or after it.
pub(crate) fn whole_word(hir: Hir) -> Hir {
    Hir::concat(vec![Hir::look(Look::WordStartHalfAscii), hir, Hir::look(Look::WordEndHalfAscii)])
}
