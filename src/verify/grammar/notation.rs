//! The three notations: W3C EBNF (`::=`, postfix operators), ISO 14977 EBNF (`=` `,` `;` `[]` `{}`) and GBNF.
//!
//! One recursive-descent reader; where the notations differ, it asks which one it reads.
//! EBNF is the ISO kind if its first `=` is not part of `::=`.
//! Quoted text and classes have escapes in GBNF alone: in both EBNF standards a backslash is a character.

use std::ops::RangeInclusive;

use crate::constraint::{Grammar, GrammarSyntax};

/// Deepest nesting of brackets; each level recurses.
const MAX_NESTING: usize = 128;
/// Largest count in a repetition.
const MAX_REPEAT: u32 = 10_000;
/// The last code point.
const MAX_CHAR: u32 = char::MAX as u32;

/// A named rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) body: Expression,
}

/// The right side of a rule.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    Set(CharSet),
    Rule(String, Place),
    Sequence(Vec<Expression>),
    Choice(Vec<Expression>),
    Repeat(Box<Expression>, RepeatCount),
}

/// How often an expression repeats: at least `min`, at most `max` times.
#[derive(Clone, Copy, Debug)]
pub(super) struct RepeatCount {
    pub(super) min: u32,
    pub(super) max: Option<u32>,
}

/// A set of code points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CharSet(Vec<RangeInclusive<u32>>);

impl CharSet {
    fn single(c: char) -> Self {
        Self(vec![c as u32..=c as u32])
    }

    pub(super) fn contains(&self, c: char) -> bool {
        self.0.iter().any(|range| range.contains(&(c as u32)))
    }

    fn without(&self, other: &Self) -> Self {
        let mut rest = self.0.clone();
        for cut in &other.0 {
            rest = rest.iter().flat_map(|range| outside(range, cut)).collect();
        }
        Self(rest)
    }

    fn all() -> Self {
        Self(vec![0..=MAX_CHAR])
    }
}

/// The one or two pieces of `range` before and after `cut`.
fn outside(
    range: &RangeInclusive<u32>,
    cut: &RangeInclusive<u32>,
) -> impl Iterator<Item = RangeInclusive<u32>> + use<> {
    let before = cut.start().checked_sub(1).map(|end| *range.start()..=end.min(*range.end()));
    let after = *range.start().max(&(cut.end() + 1))..=*range.end();
    before.into_iter().chain([after]).filter(|piece| !piece.is_empty())
}

/// Line and column in the grammar, both from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl Place {
    /// The message, with where it applies.
    pub(super) fn says(self, message: impl std::fmt::Display) -> String {
        format!("the grammar, line {}, column {}: {message}", self.line, self.column)
    }
}

/// Reads all rules of a grammar.
pub(super) fn parse(grammar: &Grammar) -> Result<Vec<Rule>, String> {
    let notation = match grammar.syntax {
        GrammarSyntax::Gbnf => Notation::Gbnf,
        GrammarSyntax::Ebnf if is_iso(&grammar.source) => Notation::Iso,
        GrammarSyntax::Ebnf => Notation::W3c,
        GrammarSyntax::Lark => return Err("Lark grammars are not read here".into()),
    };
    let chars: Vec<char> = grammar.source.chars().collect();
    let after_breaks = chars.iter().enumerate().filter(|(_, c)| **c == '\n').map(|(i, _)| i + 1);
    let line_starts = [0].into_iter().chain(after_breaks).collect();
    Reader { chars, at: 0, line_starts, nesting: 0, notation }.rules()
}

fn is_iso(source: &str) -> bool {
    source.find('=').is_none_or(|at| !source[..at].ends_with("::"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Notation {
    W3c,
    Iso,
    Gbnf,
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    /// Where each line begins in `chars`.
    line_starts: Vec<usize>,
    nesting: usize,
    notation: Notation,
}

impl Reader {
    fn rules(mut self) -> Result<Vec<Rule>, String> {
        let mut rules = Vec::new();
        self.skip_space()?;
        while self.peek().is_some() {
            self.skip_rule_number()?;
            let place = self.place();
            let name = self.name().ok_or_else(|| place.says("expected a rule name"))?;
            self.skip_space()?;
            let define = if self.notation == Notation::Iso { "=" } else { "::=" };
            self.expect(define)?;
            let body = self.choice()?;
            self.end_of_rule()?;
            rules.push(Rule { name, place, body });
        }
        if rules.is_empty() {
            return Err("the grammar has no rule".into());
        }
        Ok(rules)
    }

    fn end_of_rule(&mut self) -> Result<(), String> {
        let ended = self.take(";") || (self.notation == Notation::Iso && self.take("."));
        if !ended && self.peek().is_some() && !self.at_rule() {
            return Err(self.place().says("expected the end of the rule"));
        }
        self.skip_space()
    }

    fn choice(&mut self) -> Result<Expression, String> {
        let mut alternatives = vec![self.sequence()?];
        while self.take("|") || (self.notation == Notation::Iso && (self.take("/") || self.take("!"))) {
            alternatives.push(self.sequence()?);
        }
        Ok(if alternatives.len() == 1 { alternatives.remove(0) } else { Expression::Choice(alternatives) })
    }

    fn sequence(&mut self) -> Result<Expression, String> {
        let mut items = Vec::new();
        loop {
            self.skip_space()?;
            if !self.at_item() {
                return Ok(Expression::Sequence(items));
            }
            items.push(self.item()?);
            self.skip_space()?;
            if self.notation == Notation::Iso && !self.take(",") {
                return Ok(Expression::Sequence(items));
            }
        }
    }

    /// Whether an item of a sequence begins here, and not what closes the sequence.
    fn at_item(&mut self) -> bool {
        match self.peek() {
            None | Some('|' | ')' | ']' | '}' | ';') => false,
            Some('/' | '!' | '.' | ',') if self.notation == Notation::Iso => false,
            Some(_) => self.notation == Notation::Iso || !self.at_rule(),
        }
    }

    /// The `[12]` that W3C's recommendations print before a rule; a class where no rule follows.
    fn skip_rule_number(&mut self) -> Result<(), String> {
        if self.notation == Notation::W3c && self.at_rule() && self.take_rule_number() {
            self.skip_space()?;
        }
        Ok(())
    }

    /// Passes over `[12]`; false, and nothing passed over, where no such number stands here.
    fn take_rule_number(&mut self) -> bool {
        let number = self.chars[self.at..].iter().skip(1).take_while(|c| c.is_ascii_alphanumeric()).count();
        let found = self.peek() == Some('[') && number > 0 && self.chars.get(self.at + 1 + number) == Some(&']');
        if found {
            self.at += number + 2;
        }
        found
    }

    /// Whether a name and `::=` stand here, numbered or not: without terminators, this is how a rule ends.
    fn at_rule(&mut self) -> bool {
        let before = self.at;
        if self.notation == Notation::W3c && self.take_rule_number() && self.skip_space().is_err() {
            self.at = before;
            return false;
        }
        let found = self.name().is_some() && self.skip_space().is_ok() && self.take("::=");
        self.at = before;
        found
    }

    /// A primary with its repetition and exception.
    fn item(&mut self) -> Result<Expression, String> {
        let place = self.place();
        let primary = self.primary()?;
        let item = self.postfix(primary)?;
        if self.notation == Notation::Gbnf {
            return Ok(item);
        }
        self.skip_space()?;
        if !self.take("-") {
            return Ok(item);
        }
        self.skip_space()?;
        let nothing_excepted = self.notation == Notation::Iso && !self.at_item();
        if let (true, Expression::Repeat(body, RepeatCount { min: 0, max: None })) = (nothing_excepted, &item) {
            return Ok(Expression::Repeat(body.clone(), RepeatCount { min: 1, max: None }));
        }
        match (as_set(&item), as_set(&self.primary()?)) {
            (Some(from), Some(cut)) => Ok(Expression::Set(from.without(&cut))),
            _ => Err(place.says("only single characters can be excepted from single characters")),
        }
    }

    fn primary(&mut self) -> Result<Expression, String> {
        let place = self.place();
        match (self.notation, self.peek()) {
            (_, Some(quote @ ('"' | '\''))) => self.quoted(quote),
            (_, Some('(')) => self.bracketed(')'),
            (Notation::Iso, Some('[')) => Ok(repeat(self.bracketed(']')?, 0, Some(1))),
            (Notation::Iso, Some('{')) => Ok(repeat(self.bracketed('}')?, 0, None)),
            (Notation::Iso, Some('?')) => Err(place.says("special sequences have no fixed meaning")),
            (Notation::Iso, Some('0'..='9')) => {
                let count = self.count(place)?;
                self.skip_space()?;
                self.expect("*")?;
                self.skip_space()?;
                Ok(repeat(self.primary()?, count, Some(count)))
            }
            (Notation::W3c | Notation::Gbnf, Some('[')) => self.class(),
            (Notation::W3c, Some('#')) => Ok(Expression::Set(CharSet::single(self.class_char(place)?))),
            (Notation::Gbnf, Some('.')) => {
                self.at += 1;
                Ok(Expression::Set(CharSet::all()))
            }
            _ => match self.name() {
                Some(name) => Ok(Expression::Rule(name, place)),
                None => Err(place.says("expected a name, a text, a class or a bracket")),
            },
        }
    }

    /// `(...)` and its kin.
    fn bracketed(&mut self, close: char) -> Result<Expression, String> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.place().says(format_args!("brackets nest more than {MAX_NESTING} deep")));
        }
        self.at += 1;
        let inner = self.choice()?;
        self.nesting -= 1;
        self.expect(close.encode_utf8(&mut [0; 4]))?;
        Ok(inner)
    }

    /// `?`, `*`, `+` and, in GBNF, `{m,n}` after a primary.
    fn postfix(&mut self, mut item: Expression) -> Result<Expression, String> {
        loop {
            item = match self.peek() {
                Some('?') => repeat(item, 0, Some(1)),
                Some('*') => repeat(item, 0, None),
                Some('+') => repeat(item, 1, None),
                Some('{') if self.notation == Notation::Gbnf => {
                    let count = self.braces()?;
                    item = Expression::Repeat(Box::new(item), count);
                    continue;
                }
                _ => return Ok(item),
            };
            self.at += 1;
        }
    }

    /// `{m}`, `{m,}`, `{m,n}` or `{,n}`.
    fn braces(&mut self) -> Result<RepeatCount, String> {
        let place = self.place();
        self.at += 1;
        let min = if self.peek() == Some(',') { 0 } else { self.count(place)? };
        let max = match self.take(",") {
            false => Some(min),
            true if self.peek() == Some('}') => None,
            true => Some(self.count(place)?),
        };
        self.expect("}")?;
        if max.is_some_and(|max| max < min) {
            return Err(place.says("the repetition runs backwards"));
        }
        Ok(RepeatCount { min, max })
    }

    fn count(&mut self, place: Place) -> Result<u32, String> {
        let digits = self.take_while(|c| c.is_ascii_digit());
        match digits.parse() {
            Ok(count) if count <= MAX_REPEAT => Ok(count),
            _ => Err(place.says(format_args!("expected a count of at most {MAX_REPEAT} to repeat by, not `{digits}`"))),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Expression, String> {
        let place = self.place();
        self.at += 1;
        let mut items = Vec::new();
        loop {
            match self.peek() {
                None => return Err(place.says("the quote is not closed")),
                Some(c) if c == quote => break,
                Some('\\') if self.notation == Notation::Gbnf => items.push(self.escape()?),
                Some(c) => {
                    self.at += 1;
                    items.push(c);
                }
            }
        }
        self.at += 1;
        Ok(Expression::Sequence(items.into_iter().map(|c| Expression::Set(CharSet::single(c))).collect()))
    }

    fn class(&mut self) -> Result<Expression, String> {
        let place = self.place();
        self.at += 1;
        let negated = self.take("^");
        let mut ranges = Vec::new();
        while !self.take("]") {
            let first = self.class_char(place)?;
            let is_range = self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|&c| c != ']');
            let last = if is_range {
                self.at += 1;
                self.class_char(place)?
            } else {
                first
            };
            if last < first {
                return Err(place.says(format_args!("the range {first:?}-{last:?} runs backwards")));
            }
            ranges.push(first as u32..=last as u32);
        }
        let set = CharSet(ranges);
        Ok(Expression::Set(if negated { CharSet::all().without(&set) } else { set }))
    }

    /// One character of a class: itself, W3C's `#xN`, or an escape in GBNF.
    fn class_char(&mut self, place: Place) -> Result<char, String> {
        let c = self.peek().ok_or_else(|| place.says("the class is not closed"))?;
        if c == '\\' && self.notation == Notation::Gbnf {
            return self.escape();
        }
        let after = |offset: usize| self.chars.get(self.at + offset).copied();
        let is_code = after(1) == Some('x') && after(2).is_some_and(|c| c.is_ascii_hexdigit());
        if c == '#' && is_code && self.notation == Notation::W3c {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return to_char(&digits).ok_or_else(|| place.says(format_args!("#x{digits} is no character")));
        }
        self.at += 1;
        Ok(c)
    }

    /// A backslash escape of GBNF.
    fn escape(&mut self) -> Result<char, String> {
        let place = self.place();
        let kind = self.chars.get(self.at + 1).copied();
        self.at += 2;
        let num_digits = match kind {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(c @ ('\\' | '"' | '\'' | '[' | ']' | '^' | '-')) => return Ok(c),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => return Err(place.says("unknown escape")),
        };
        let digits: String = self.chars.iter().skip(self.at).take(num_digits).collect();
        self.at += num_digits;
        let complete = digits.len() == num_digits;
        to_char(&digits).filter(|_| complete).ok_or_else(|| place.says("the escape is no character"))
    }

    /// A rule name; in ISO's notation several words may make one.
    fn name(&mut self) -> Option<String> {
        let mut name = self.word()?;
        while self.notation == Notation::Iso {
            let before = self.at;
            let Some(word) = self.skip_space().ok().and_then(|()| self.word()) else {
                self.at = before;
                break;
            };
            name = format!("{name} {word}");
        }
        Some(name)
    }

    fn word(&mut self) -> Option<String> {
        let can_begin =
            |c: char| c.is_alphabetic() || c == '_' || (self.notation == Notation::Gbnf && c.is_ascii_digit());
        self.peek().filter(|&c| can_begin(c))?;
        let mut word = self.take_while(|c| c.is_alphanumeric() || c == '_');
        // A hyphen joins words unless it stands apart, as the sign of an exception does.
        while self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| c.is_alphanumeric()) {
            self.at += 1;
            word = format!("{word}-{}", self.take_while(|c| c.is_alphanumeric() || c == '_'));
        }
        Some(word)
    }

    fn skip_space(&mut self) -> Result<(), String> {
        loop {
            self.take_while(char::is_whitespace);
            let place = self.place();
            if self.notation == Notation::W3c && self.take("/*") {
                self.skip_past("*/", place)?;
            } else if self.notation == Notation::Iso && self.take("(*") {
                self.skip_nested(place)?;
            } else if self.notation == Notation::Gbnf && self.take("#") {
                self.take_while(|c| c != '\n');
            } else {
                return Ok(());
            }
        }
    }

    fn skip_past(&mut self, end: &str, place: Place) -> Result<(), String> {
        while !self.take(end) {
            self.peek().ok_or_else(|| place.says("the comment is not closed"))?;
            self.at += 1;
        }
        Ok(())
    }

    /// ISO's comments nest.
    fn skip_nested(&mut self, place: Place) -> Result<(), String> {
        let mut depth = 1;
        while depth > 0 {
            if self.take("(*") {
                depth += 1;
            } else if self.take("*)") {
                depth -= 1;
            } else {
                self.peek().ok_or_else(|| place.says("the comment is not closed"))?;
                self.at += 1;
            }
        }
        Ok(())
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, expected: &str) -> bool {
        let found = expected.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c));
        if found {
            self.at += expected.chars().count();
        }
        found
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let taken: String = self.chars[self.at..].iter().take_while(|&&c| belongs(c)).collect();
        self.at += taken.chars().count();
        taken
    }

    fn expect(&mut self, expected: &str) -> Result<(), String> {
        if self.take(expected) {
            return Ok(());
        }
        Err(self.place().says(format_args!("expected `{expected}`")))
    }

    fn place(&self) -> Place {
        let line = self.line_starts.partition_point(|&start| start <= self.at);
        Place { line, column: self.at - self.line_starts[line - 1] + 1 }
    }
}

fn repeat(item: Expression, min: u32, max: Option<u32>) -> Expression {
    Expression::Repeat(Box::new(item), RepeatCount { min, max })
}

/// The expression as one set of characters, if it is one.
fn as_set(expression: &Expression) -> Option<CharSet> {
    match expression {
        Expression::Set(set) => Some(set.clone()),
        Expression::Sequence(items) if items.len() == 1 => as_set(&items[0]),
        Expression::Choice(alternatives) => {
            let sets = alternatives.iter().map(as_set).collect::<Option<Vec<_>>>()?;
            Some(CharSet(sets.into_iter().flat_map(|set| set.0).collect()))
        }
        _ => None,
    }
}

fn to_char(hex: &str) -> Option<char> {
    u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_subtract_range_by_range() {
        let set = |ranges: &[(char, char)]| CharSet(ranges.iter().map(|&(a, b)| a as u32..=b as u32).collect());
        for (from, cut, expected) in [
            (set(&[('a', 'z')]), set(&[('c', 'd')]), set(&[('a', 'b'), ('e', 'z')])),
            (set(&[('a', 'z')]), set(&[('a', 'a'), ('z', 'z')]), set(&[('b', 'y')])),
            (set(&[('a', 'c'), ('x', 'z')]), set(&[('b', 'y')]), set(&[('a', 'a'), ('z', 'z')])),
            (set(&[('a', 'c')]), set(&[('d', 'e')]), set(&[('a', 'c')])),
            (set(&[('a', 'c')]), set(&[('\0', char::MAX)]), set(&[])),
        ] {
            assert_eq!(from.without(&cut), expected);
        }
    }

    #[test]
    fn the_number_before_a_rule_is_no_class() {
        let grammar = |source: &str| Grammar { syntax: GrammarSyntax::Ebnf, source: source.into(), start: None };
        let rules = parse(&grammar("[1] s ::= item+ /* all */ [2a] item ::= '<' [3] '>' [4] c ::= [5]"));
        let names: Vec<_> = rules.expect("well-formed").into_iter().map(|rule| rule.name).collect();
        assert_eq!(names, ["s", "item", "c"]);
    }

    #[test]
    fn an_exception_is_told_from_a_hyphenated_name() {
        let grammar = |source: &str| Grammar { syntax: GrammarSyntax::Ebnf, source: source.into(), start: None };
        let rules = parse(&grammar("s ::= any-char  any-char ::= [a-c] - 'b'")).expect("well-formed");
        assert!(matches!(&rules[1].body, Expression::Sequence(items) if matches!(&items[..], [Expression::Set(_)])));
    }
}
