//! Look-around that has an exact automaton, taken apart before the expression is read.
//!
//! Conditions at the very start of an expression that is anchored there (`(?=...)` and `(?!...)` in modes full and
//! prefix) are automata of their own: the output begins with a match, or it does not. What must follow a match that is
//! only searched for, or stand before it, is part of a longer match. Everything else is refused with its place.

use std::ops::Range;

use super::GuideError;
use crate::constraint::MatchMode;

/// An expression without look-around, and what else holds for an output that begins with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Pieces that follow one another, as places in the pattern.
    pub(crate) pieces: Vec<Range<usize>>,
    pub(crate) conditions: Vec<Condition>,
}

/// The output begins with a match of this piece, or it must not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) piece: Range<usize>,
    pub(crate) negated: bool,
}

/// One look-around as it is written.
struct Look {
    /// From its opening to behind its closing bracket.
    whole: Range<usize>,
    inner: Range<usize>,
    is_closed: bool,
    ahead: bool,
    negated: bool,
}

/// Takes a pattern apart; most have no look-around and stay whole.
///
/// # Errors
/// [`GuideError::InvalidRegex`] for look-around that has no exact automaton here.
pub(crate) fn split(part: &str, pattern: &str, flags: &str, mode: MatchMode) -> Result<Split, GuideError> {
    let refuse = |offset: usize, message: &str| {
        Err(GuideError::InvalidRegex { part: part.to_owned(), offset, message: message.to_owned() })
    };
    let Scan { mut looks, bar, flags_inside } = scan(pattern);
    let mut rest = 0..pattern.len();
    let mut conditions = Vec::new();
    let Some(first) = looks.first() else { return Ok(Split { pieces: Vec::from([rest]), conditions }) };
    if flags.contains('x') {
        return refuse(first.whole.start, "look-around is not read in verbose mode; leave out flag `x`");
    }
    if let Some(unclosed) = looks.iter().find(|look| !look.is_closed) {
        return refuse(unclosed.whole.start, "unclosed group");
    }
    if let Some(offset) = flags_inside {
        return refuse(offset, "beside look-around, flags inside the pattern are not read; state them in `flags`");
    }
    if let Some(bar) = bar {
        return refuse(bar, "beside look-around, put alternatives into a group: (?:a|b)");
    }
    let is_anchored = matches!(mode, MatchMode::Full | MatchMode::Prefix);
    if is_anchored {
        let anchors = [(r"\A", true), ("^", !flags.contains('m'))];
        let anchor = anchors.iter().find(|(anchor, means_start)| *means_start && pattern.starts_with(anchor));
        let start = anchor.map_or(0, |(anchor, _)| anchor.len());
        if looks[0].whole.start == start {
            rest.start = start;
        }
        while looks.first().is_some_and(|look| look.ahead && look.whole.start == rest.start) {
            let look = looks.remove(0);
            if let Some(nested) = looks.first().filter(|nested| nested.whole.start < look.whole.end) {
                return refuse(nested.whole.start, "look-around inside look-around is not supported");
            }
            rest.start = look.whole.end;
            conditions.push(Condition { piece: look.inner, negated: look.negated });
        }
    }
    let mut pieces = Vec::from([rest.clone()]);
    if let [look] = looks.as_slice()
        && !look.negated
    {
        let (first, last) = (rest.start, rest.end);
        if look.ahead && look.whole.end == last && mode != MatchMode::Full {
            pieces = vec![first..look.whole.start, look.inner.clone()];
            looks.clear();
        } else if !look.ahead && look.whole.start == first && !is_anchored {
            pieces = vec![look.inner.clone(), look.whole.end..last];
            looks.clear();
        }
    }
    if let Some(look) = looks.first() {
        return refuse(look.whole.start, advice(look, is_anchored));
    }
    let repeated = |end: usize| pattern[end..].starts_with(['*', '+', '?', '{']);
    if let Some(condition) = conditions.iter().find(|condition| repeated(condition.piece.end + 1)) {
        return refuse(condition.piece.end + 1, "look-around cannot be repeated");
    }
    Ok(Split { pieces, conditions })
}

fn advice(look: &Look, is_anchored: bool) -> &'static str {
    match (look.ahead, is_anchored) {
        (true, true) => {
            "look-ahead is exact only at the very start of the pattern; write it there or a second pattern group"
        }
        (true, false) => "look-ahead is exact here only as `(?=...)` at the end; write what follows into the pattern",
        (false, true) => {
            "look-behind has nothing before the output to look at; write what stands before into the pattern"
        }
        (false, false) => {
            "look-behind is exact here only as `(?<=...)` at the start; write what stands before into the pattern"
        }
    }
}

struct Scan {
    /// In the order of their openings.
    looks: Vec<Look>,
    /// A `|` outside of all brackets.
    bar: Option<usize>,
    /// Flags for the rest of the pattern, as in `(?i)`, outside of all brackets.
    flags_inside: Option<usize>,
}

/// Finds look-around outside of classes and escapes; what is malformed is left for the parser to say.
fn scan(pattern: &str) -> Scan {
    let bytes = pattern.as_bytes();
    let mut scan = Scan { looks: Vec::new(), bar: None, flags_inside: None };
    // For each open bracket, the look-around that it opens.
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => at = class_end(bytes, at),
            b'(' => {
                let kinds = [("(?=", true, false), ("(?!", true, true), ("(?<=", false, false), ("(?<!", false, true)];
                if open.is_empty() && sets_flags(&pattern[at..]) {
                    scan.flags_inside.get_or_insert(at);
                }
                let kind = kinds.iter().find(|(opening, ..)| pattern[at..].starts_with(opening));
                open.push(kind.map(|_| scan.looks.len()));
                if let Some(&(opening, ahead, negated)) = kind {
                    let inner = at + opening.len()..bytes.len();
                    scan.looks.push(Look { whole: at..bytes.len(), inner, is_closed: false, ahead, negated });
                }
            }
            b')' => {
                if let Some(Some(look)) = open.pop() {
                    scan.looks[look].inner.end = at;
                    scan.looks[look].whole.end = at + 1;
                    scan.looks[look].is_closed = true;
                }
            }
            b'|' if open.is_empty() && scan.bar.is_none() => scan.bar = Some(at),
            _ => {}
        }
        at += 1;
    }
    scan
}

/// Whether it begins with `(?flags)`.
fn sets_flags(pattern: &str) -> bool {
    let flags = pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')')).map(|(flags, _)| flags);
    flags.is_some_and(|flags| !flags.is_empty() && flags.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'))
}

/// The closing bracket of the class that opens at `at`; classes nest, and a first `]` is a character.
fn class_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => {
                depth += 1;
                at += usize::from(bytes.get(at + 1) == Some(&b'^'));
                at += usize::from(bytes.get(at + 1) == Some(&b']'));
            }
            b']' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
        at += 1;
    }
    at
}
