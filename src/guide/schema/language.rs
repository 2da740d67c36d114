//! Languages of strings: sets of character sequences as complete automata, with the set operations a schema needs.
//!
//! A schema's `pattern`s are intersected, complemented and compared here, over characters and not bytes, so that the
//! result can be written as a regular expression again (by eliminating states). Every construction is bounded by
//! [`Bounds`]; over a bound the answer is `None`, which callers treat as "not known", never as "yes".

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// How big an automaton and its expression may get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_states: usize,
    pub(super) max_regex_bytes: usize,
}

const LAST: u32 = 0x10_FFFF;
const SURROGATES: (u32, u32) = (0xD800, 0xDFFF);

/// A complete deterministic automaton; state 0 is the start.
#[derive(Clone, Debug)]
pub(super) struct Language {
    /// First character of each class, ascending from 0; the class of surrogates is never taken.
    classes: Vec<u32>,
    /// Row of one target per class, by state.
    next: Vec<Vec<u32>>,
    accepting: Vec<bool>,
}

/// One state of the automaton that an expression becomes first.
enum Step {
    Range(Vec<(u32, u32)>, usize),
    Split(Vec<usize>),
    AtStart(usize),
    AtEnd(usize),
    Accept,
}

/// A non-deterministic automaton under construction.
struct Nfa {
    steps: Vec<Step>,
    limit: usize,
}

impl Nfa {
    fn push(&mut self, step: Step) -> Option<usize> {
        // A bound on the expression's size; determinizing has its own.
        if self.steps.len() > 16 * self.limit {
            return None;
        }
        self.steps.push(step);
        Some(self.steps.len() - 1)
    }

    fn any_star(&mut self, then: usize) -> Option<usize> {
        let split = self.push(Step::Split(vec![then]))?;
        let any = self.push(Step::Range(vec![(0, LAST)], split))?;
        self.steps[split] = Step::Split(vec![any, then]);
        Some(split)
    }

    /// Adds `hir` before the state `then`. Recursion is bounded by the parser's own bound on nesting.
    fn add(&mut self, hir: &Hir, then: usize) -> Option<usize> {
        match hir.kind() {
            HirKind::Empty => Some(then),
            HirKind::Literal(literal) => {
                let text = str::from_utf8(&literal.0).ok()?;
                text.chars().rev().try_fold(then, |then, character| {
                    self.push(Step::Range(vec![(u32::from(character), u32::from(character))], then))
                })
            }
            HirKind::Class(Class::Unicode(class)) => {
                let ranges = class.iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect();
                self.push(Step::Range(ranges, then))
            }
            HirKind::Class(Class::Bytes(class)) => {
                let ranges = class.iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect();
                class.is_ascii().then(|| self.push(Step::Range(ranges, then)))?
            }
            HirKind::Look(Look::Start) => self.push(Step::AtStart(then)),
            HirKind::Look(Look::End) => self.push(Step::AtEnd(then)),
            HirKind::Look(_) => None,
            HirKind::Capture(capture) => self.add(&capture.sub, then),
            HirKind::Concat(parts) => parts.iter().rev().try_fold(then, |then, part| self.add(part, then)),
            HirKind::Alternation(parts) => {
                let starts = parts.iter().map(|part| self.add(part, then)).collect::<Option<_>>()?;
                self.push(Step::Split(starts))
            }
            HirKind::Repetition(repetition) => {
                let mut at = then;
                match repetition.max {
                    None => {
                        let split = self.push(Step::Split(Vec::new()))?;
                        let body = self.add(&repetition.sub, split)?;
                        self.steps[split] = Step::Split(vec![body, then]);
                        at = split;
                    }
                    Some(max) => {
                        for _ in repetition.min..max {
                            let body = self.add(&repetition.sub, at)?;
                            at = self.push(Step::Split(vec![body, then]))?;
                        }
                    }
                }
                for _ in 0..repetition.min {
                    at = self.add(&repetition.sub, at)?;
                }
                Some(at)
            }
        }
    }

    /// The states reached without a character, sorted; those that wait for the end only when `at_end`.
    fn closure(&self, from: &[usize], at_start: bool, at_end: bool) -> Vec<usize> {
        let mut seen = vec![false; self.steps.len()];
        let mut stack = from.to_vec();
        let mut found = Vec::new();
        while let Some(state) = stack.pop() {
            if std::mem::replace(&mut seen[state], true) {
                continue;
            }
            match &self.steps[state] {
                Step::Split(targets) => stack.extend(targets),
                Step::AtStart(target) if at_start => stack.push(*target),
                Step::AtStart(_) => {}
                Step::AtEnd(target) => {
                    found.push(state);
                    if at_end {
                        stack.push(*target);
                    }
                }
                Step::Range(..) | Step::Accept => found.push(state),
            }
        }
        found.sort_unstable();
        found
    }

    fn determinize(&self, start: usize, bounds: Bounds) -> Option<Language> {
        let ranges =
            self.steps.iter().filter_map(|step| if let Step::Range(ranges, _) = step { Some(ranges) } else { None });
        let classes = class_starts(ranges.flatten().flat_map(|&(first, last)| [first, last + 1]));
        let mut order = vec![self.closure(&[start], true, false)];
        let mut number = HashMap::from([(order[0].clone(), 0u32)]);
        let (mut next, mut accepting) = (Vec::new(), Vec::new());
        while next.len() < order.len() {
            let state = order[next.len()].clone();
            let ended = self.closure(&state, next.is_empty(), true);
            accepting.push(ended.iter().any(|&step| matches!(self.steps[step], Step::Accept)));
            let mut row = Vec::with_capacity(classes.len());
            for &class in &classes {
                let targets: Vec<usize> = state
                    .iter()
                    .filter_map(|&step| match &self.steps[step] {
                        Step::Range(ranges, target) if contains(ranges, class) => Some(*target),
                        _ => None,
                    })
                    .collect();
                let target = self.closure(&targets, false, false);
                let fresh = order.len() as u32;
                row.push(*number.entry(target.clone()).or_insert_with(|| {
                    order.push(target);
                    fresh
                }));
            }
            next.push(row);
            if is_over(order.len(), classes.len(), bounds) {
                return None;
            }
        }
        Some(Language { classes, next, accepting }.minimized())
    }
}

/// Rows of many classes cost as much as more states.
fn is_over(num_states: usize, num_classes: usize, bounds: Bounds) -> bool {
    num_states.max(num_states * num_classes / 64) > bounds.max_states
}

fn contains(ranges: &[(u32, u32)], character: u32) -> bool {
    ranges.iter().any(|&(first, last)| (first..=last).contains(&character))
}

fn class_starts(bounds: impl Iterator<Item = u32>) -> Vec<u32> {
    let fixed = [0, SURROGATES.0, SURROGATES.1 + 1];
    let mut starts: Vec<u32> = bounds.filter(|&bound| bound <= LAST).chain(fixed).collect();
    starts.sort_unstable();
    starts.dedup();
    starts
}

impl Language {
    /// The strings in which `hir` is found somewhere; `None` over a bound, or for what has no such automaton.
    pub(super) fn found(hir: &Hir, bounds: Bounds) -> Option<Self> {
        let mut nfa = Nfa { steps: vec![Step::Accept], limit: bounds.max_states };
        let after = nfa.any_star(0)?;
        let body = nfa.add(hir, after)?;
        let start = nfa.any_star(body)?;
        nfa.determinize(start, bounds)
    }

    /// Exactly these strings.
    pub(super) fn of_texts(texts: &[String], bounds: Bounds) -> Option<Self> {
        let mut nfa = Nfa { steps: vec![Step::Accept], limit: bounds.max_states };
        let hirs: Vec<Hir> = texts.iter().map(|text| Hir::literal(text.as_bytes().to_vec())).collect();
        let starts = hirs.iter().map(|hir| nfa.add(hir, 0)).collect::<Option<_>>()?;
        let start = nfa.push(Step::Split(starts))?;
        nfa.determinize(start, bounds)
    }

    /// The strings of `min` to `max` characters.
    pub(super) fn of_length(min: u64, max: Option<u64>, bounds: Bounds) -> Option<Self> {
        let longest = usize::try_from(max.unwrap_or(min)).ok().filter(|&longest| longest + 2 <= bounds.max_states)?;
        let num_classes = class_starts(std::iter::empty()).len();
        let last = if max.is_some() { longest + 1 } else { longest };
        let next = (0..=last).map(|state| vec![(state + 1).min(last) as u32; num_classes]).collect();
        let accepting =
            (0..=last).map(|state| state as u64 >= min && max.is_none_or(|max| state as u64 <= max)).collect();
        Some(Self { classes: class_starts(std::iter::empty()), next, accepting })
    }

    pub(super) fn all() -> Self {
        let classes = class_starts(std::iter::empty());
        Self { next: vec![vec![0; classes.len()]], accepting: vec![true], classes }
    }

    pub(super) fn complement(mut self) -> Self {
        self.accepting.iter_mut().for_each(|accepting| *accepting = !*accepting);
        self
    }

    pub(super) fn intersection(&self, other: &Self, bounds: Bounds) -> Option<Self> {
        self.product(other, bounds, |a, b| a && b)
    }

    pub(super) fn union(&self, other: &Self, bounds: Bounds) -> Option<Self> {
        self.product(other, bounds, |a, b| a || b)
    }

    fn product(&self, other: &Self, bounds: Bounds, accepts: impl Fn(bool, bool) -> bool) -> Option<Self> {
        let classes = class_starts(self.classes.iter().chain(&other.classes).copied());
        let columns: Vec<(usize, usize)> =
            classes.iter().map(|&class| (self.class_of(class), other.class_of(class))).collect();
        let mut order = vec![(0u32, 0u32)];
        let mut number = HashMap::from([((0, 0), 0u32)]);
        let (mut next, mut accepting) = (Vec::new(), Vec::new());
        while next.len() < order.len() {
            let (a, b) = order[next.len()];
            accepting.push(accepts(self.accepting[a as usize], other.accepting[b as usize]));
            let row = columns.iter().map(|&(left, right)| {
                let target = (self.next[a as usize][left], other.next[b as usize][right]);
                *number.entry(target).or_insert_with(|| {
                    order.push(target);
                    order.len() as u32 - 1
                })
            });
            let row = row.collect();
            next.push(row);
            if is_over(order.len(), classes.len(), bounds) {
                return None;
            }
        }
        Some(Self { classes, next, accepting }.minimized())
    }

    fn class_of(&self, character: u32) -> usize {
        self.classes.partition_point(|&first| first <= character) - 1
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        let end =
            text.chars().fold(0u32, |state, character| self.next[state as usize][self.class_of(u32::from(character))]);
        self.accepting[end as usize]
    }

    fn is_surrogates(&self, class: usize) -> bool {
        self.classes[class] == SURROGATES.0
    }

    /// Whether it contains no string. Every state of a minimized automaton is reachable.
    pub(super) fn is_empty(&self) -> bool {
        let mut seen = vec![false; self.next.len()];
        let mut stack = vec![0usize];
        while let Some(state) = stack.pop() {
            if std::mem::replace(&mut seen[state], true) {
                continue;
            }
            if self.accepting[state] {
                return false;
            }
            let taken = (0..self.classes.len()).filter(|&class| !self.is_surrogates(class));
            stack.extend(taken.map(|class| self.next[state][class] as usize));
        }
        true
    }

    /// Moore's partition refinement; numbers states in order of discovery, so that equal languages are equal tables.
    /// Those for which that is slow stay as they are; it makes them no less right.
    fn minimized(self) -> Self {
        if self.next.len() * self.classes.len() > 1 << 14 {
            return self;
        }
        let mut block: Vec<usize> = self.accepting.iter().map(|&accepting| usize::from(accepting)).collect();
        let mut num_blocks = 0;
        loop {
            let mut number = HashMap::new();
            let refined: Vec<usize> = (0..self.next.len())
                .map(|state| {
                    let row = self.next[state].iter().enumerate();
                    let row = row.filter(|(class, _)| !self.is_surrogates(*class));
                    let signature: Vec<usize> =
                        std::iter::once(block[state]).chain(row.map(|(_, &target)| block[target as usize])).collect();
                    let fresh = number.len();
                    *number.entry(signature).or_insert(fresh)
                })
                .collect();
            let count = number.len();
            block = refined;
            if count == num_blocks {
                break;
            }
            num_blocks = count;
        }
        // State 0 keeps number 0, as signatures are numbered by first appearance.
        let mut next = vec![Vec::new(); num_blocks];
        let mut accepting = vec![false; num_blocks];
        for state in (0..self.next.len()).rev() {
            next[block[state]] = self.next[state].iter().map(|&target| block[target as usize] as u32).collect();
            accepting[block[state]] = self.accepting[state];
        }
        Self { classes: self.classes, next, accepting }
    }

    /// An anchored regular expression for it, by eliminating one state after another; `None` over the bound.
    pub(super) fn to_pattern(&self, bounds: Bounds) -> Option<String> {
        let alive = self.alive();
        let num_states = self.next.len();
        let (start, end) = (num_states, num_states + 1);
        let mut edges: Vec<BTreeMap<usize, Expression>> = vec![BTreeMap::new(); num_states + 2];
        for state in (0..num_states).filter(|&state| alive[state]) {
            for (target, label) in self.labels(state) {
                if alive[target] {
                    edges[state].insert(target, label);
                }
            }
            if self.accepting[state] {
                edges[state].insert(end, Expression::empty());
            }
        }
        edges[start].insert(0, Expression::empty());
        let mut into: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); num_states + 2];
        for (source, row) in edges.iter().enumerate() {
            for &target in row.keys() {
                into[target].insert(source);
            }
        }
        let mut left: Vec<usize> = (0..num_states).filter(|&state| alive[state]).collect();
        let mut num_bytes = 0;
        while !left.is_empty() {
            let cost = |state: usize| (into[state].len() * edges[state].len(), state);
            let (position, &state) = left.iter().enumerate().min_by_key(|(_, state)| cost(**state))?;
            left.swap_remove(position);
            let mut out = std::mem::take(&mut edges[state]);
            let again = out.remove(&state).map(Expression::star);
            for &target in out.keys() {
                into[target].remove(&state);
            }
            for source in std::mem::take(&mut into[state]) {
                let Some(first) = edges[source].remove(&state) else { continue };
                for (&target, label) in &out {
                    let through = first.clone().then(again.as_ref()).then(Some(label));
                    num_bytes += through.text.len();
                    if num_bytes > 16 * bounds.max_regex_bytes {
                        return None;
                    }
                    let both = match edges[source].remove(&target) {
                        Some(other) => other.or(through),
                        None => through,
                    };
                    edges[source].insert(target, both);
                    into[target].insert(source);
                }
            }
        }
        let whole = edges[start].remove(&end)?;
        (whole.text.len() + 8 <= bounds.max_regex_bytes).then(|| format!("^(?:{})$", whole.text))
    }

    /// States from which an accepting one can be reached.
    fn alive(&self) -> Vec<bool> {
        let mut alive = self.accepting.clone();
        loop {
            let before = alive.iter().filter(|&&alive| alive).count();
            for state in 0..self.next.len() {
                let row = self.next[state].iter().enumerate();
                alive[state] |=
                    row.into_iter().any(|(class, &target)| !self.is_surrogates(class) && alive[target as usize]);
            }
            if alive.iter().filter(|&&alive| alive).count() == before {
                return alive;
            }
        }
    }

    /// The characters that lead from a state to each other state, as classes.
    fn labels(&self, state: usize) -> BTreeMap<usize, Expression> {
        let mut ranges: BTreeMap<usize, Vec<(u32, u32)>> = BTreeMap::new();
        for (class, &target) in self.next[state].iter().enumerate().filter(|(class, _)| !self.is_surrogates(*class)) {
            let first = self.classes[class];
            let last = self.classes.get(class + 1).map_or(LAST, |next| next - 1);
            let ranges = ranges.entry(target as usize).or_default();
            match ranges.last_mut() {
                Some((_, end)) if *end + 1 == first => *end = last,
                _ => ranges.push((first, last)),
            }
        }
        ranges.into_iter().map(|(target, ranges)| (target, Expression::class(&ranges))).collect()
    }
}

/// A regular expression under construction.
#[derive(Clone, Debug)]
struct Expression {
    text: String,
    is_alternation: bool,
}

impl Expression {
    fn empty() -> Self {
        Self { text: String::new(), is_alternation: false }
    }

    fn class(ranges: &[(u32, u32)]) -> Self {
        let mut text = "[".to_owned();
        for &(first, last) in ranges {
            text.push_str(&character(first));
            if last > first {
                text.push_str(&format!("-{}", character(last)));
            }
        }
        text.push(']');
        Self { text, is_alternation: false }
    }

    fn or(self, other: Self) -> Self {
        if self.text == other.text {
            return self;
        }
        Self { text: format!("{}|{}", self.text, other.text), is_alternation: true }
    }

    fn grouped(&self) -> String {
        if self.is_alternation { format!("(?:{})", self.text) } else { self.text.clone() }
    }

    fn star(self) -> Self {
        let text = if self.text.is_empty() { String::new() } else { format!("(?:{})*", self.text) };
        Self { text, is_alternation: false }
    }

    fn then(self, other: Option<&Self>) -> Self {
        match other {
            None => self,
            Some(other) if self.text.is_empty() => other.clone(),
            Some(other) if other.text.is_empty() => self,
            Some(other) => Self { text: self.grouped() + &other.grouped(), is_alternation: false },
        }
    }
}

/// A character where it means itself in every dialect.
fn character(code: u32) -> String {
    match char::from_u32(code) {
        Some(character) if character.is_ascii_alphanumeric() => character.to_string(),
        _ => format!("\\x{{{code:x}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { max_states: 2_000, max_regex_bytes: 32 << 10 };

    fn found(pattern: &str) -> Language {
        Language::found(&regex_syntax::parse(pattern).expect("a pattern"), BOUNDS).expect("a small automaton")
    }

    fn texts() -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut last = texts.clone();
        for _ in 0..4 {
            last = last.iter().flat_map(|text| ["a", "b", "é"].map(|next| format!("{text}{next}"))).collect();
            texts.extend(last.clone());
        }
        texts
    }

    #[test]
    fn operations_agree_with_the_regex_engine() {
        let patterns = ["a", "^a", "a$", "^$", "^(ab|b)*$", "a{2,3}b", "^[^a]{2}", "(^a|b$)", "é.a?", "^a^b", "", "$a"];
        for left in patterns {
            let regex = regex::Regex::new(left).expect("a pattern");
            let language = found(left);
            let rest = language.clone().complement();
            let again = regex::Regex::new(&rest.to_pattern(BOUNDS).unwrap_or_else(|| "[^\\s\\S]".to_owned()));
            let again = again.expect("a pattern");
            for text in texts() {
                assert_eq!(language.contains(&text), regex.is_match(&text), "{left} {text:?}");
                assert_eq!(again.is_match(&text), !regex.is_match(&text), "not {left} {text:?}");
            }
            for right in patterns {
                let other = regex::Regex::new(right).expect("a pattern");
                let both = language.intersection(&found(right), BOUNDS).expect("a small automaton");
                let either = language.union(&found(right), BOUNDS).expect("a small automaton");
                let mut is_empty = true;
                for text in texts() {
                    let (a, b) = (regex.is_match(&text), other.is_match(&text));
                    assert_eq!((both.contains(&text), either.contains(&text)), (a && b, a || b), "{left} {right}");
                    is_empty &= !(a && b);
                }
                assert!(!both.is_empty() || is_empty, "{left} {right}");
                assert!(language.intersection(&rest, BOUNDS).expect("small").is_empty());
            }
        }
    }

    #[test]
    fn lengths_and_texts_are_languages() {
        let between = Language::of_length(1, Some(2), BOUNDS).expect("small");
        assert!(between.contains("é") && between.contains("ab") && !between.contains("") && !between.contains("abc"));
        let least = Language::of_length(2, None, BOUNDS).expect("small");
        assert!(least.contains("abcdef") && !least.contains("a"));
        let texts = Language::of_texts(&["a".to_owned(), "ab".to_owned()], BOUNDS).expect("small");
        assert!(texts.contains("ab") && !texts.contains("b") && !texts.is_empty());
        assert!(Language::of_texts(&[], BOUNDS).expect("small").is_empty());
        assert!(Language::of_length(1 << 40, None, BOUNDS).is_none());
        assert!(Language::found(&regex_syntax::parse("(a|b)*a(a|b){14}").expect("a pattern"), BOUNDS).is_none());
        assert!(Language::all().contains("x"));
    }
}
