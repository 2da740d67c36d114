//! The cursor that all notations share: characters, places, strings, names, and the bounds on nesting.

use super::super::{GuideConfig, GuideError};
use super::Expr;

/// A position in a source, with the part's name for errors.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    pub(super) part: &'a str,
    pub(super) source: &'a str,
    pub(super) config: &'a GuideConfig,
    pub(super) at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(part: &'a str, source: &'a str, config: &'a GuideConfig) -> Self {
        Self { part, source, config, at: 0, depth: 0 }
    }

    /// Whether the first definition uses `::=`.
    pub(super) fn is_w3c(&self) -> Result<bool, GuideError> {
        let mut probe = self.clone();
        while let Some(c) = probe.peek() {
            let rest = probe.rest();
            if rest.starts_with("/*") {
                probe.skip_comment("/*", "*/")?;
            } else if rest.starts_with("(*") {
                probe.skip_comment("(*", "*)")?;
            } else if rest.starts_with("::=") {
                return Ok(true);
            } else if c == '=' {
                return Ok(false);
            } else {
                probe.bump();
            }
        }
        Err(self.error(0, "no rule was found; a rule is `name ::= ...` (W3C) or `name = ... ;` (ISO 14977)"))
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Steps over `text` if it is next.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    pub(super) fn expect(&mut self, text: &str, what: &str) -> Result<(), GuideError> {
        if self.eat(text) { Ok(()) } else { Err(self.unexpected(&format!("{what} expected"))) }
    }

    pub(super) fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    pub(super) fn skip_comment(&mut self, open: &str, close: &str) -> Result<(), GuideError> {
        let from = self.at;
        self.at += open.len();
        match self.rest().find(close) {
            Some(len) => self.at += len + close.len(),
            None => return Err(self.error(from, "the comment does not end")),
        }
        Ok(())
    }

    /// White space, and comments from `open` to `close`.
    pub(super) fn skip_space_and_comments(&mut self, open: &str, close: &str) -> Result<(), GuideError> {
        self.take_while(char::is_whitespace);
        while self.rest().starts_with(open) {
            self.skip_comment(open, close)?;
            self.take_while(char::is_whitespace);
        }
        Ok(())
    }

    /// A class from its `[` to its `]`: characters and ranges of them, each read by `character`, which is told where
    /// the class begins.
    pub(super) fn class(
        &mut self,
        character: impl Fn(&mut Self, usize) -> Result<char, GuideError>,
    ) -> Result<Expr, GuideError> {
        let from = self.at;
        self.bump();
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            if matches!(self.peek(), None | Some('\n')) {
                return Err(self.error(from, "the class does not end"));
            }
            let low_at = self.at;
            let low = character(self, from)?;
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let high = if is_range {
                self.bump();
                character(self, from)?
            } else {
                low
            };
            if low > high {
                return Err(self.error(low_at, "the range runs backwards"));
            }
            ranges.push((low, high));
        }
        if ranges.is_empty() {
            return Err(self.error(from, "the class is empty"));
        }
        let ranges = normalize(ranges);
        Ok(Expr::Chars(if negated { complement(&ranges) } else { ranges }))
    }

    /// Bounds operators that follow one another, as in `"a"***`: each is a level of the expression, like a bracket.
    pub(super) fn check_depth(&self, depth: usize) -> Result<(), GuideError> {
        GuideError::check_size(self.part, "operators one after another", depth, self.config.max_rule_nesting)
    }

    /// Runs `read` one bracket deeper.
    pub(super) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, GuideError>) -> Result<T, GuideError> {
        self.depth += 1;
        GuideError::check_size(self.part, "nesting of brackets", self.depth, self.config.max_rule_nesting)?;
        let result = read(self);
        self.depth -= 1;
        result
    }

    pub(super) fn is_nested(&self) -> bool {
        self.depth > 0
    }

    /// A string of W3C or ISO EBNF. They know no escapes, so a backslash that looks like one is refused.
    pub(super) fn plain_string(&mut self) -> Result<Expr, GuideError> {
        let from = self.at;
        let Some(quote) = self.bump() else { return Err(self.unexpected("a string expected")) };
        let text = self.take_while(|c| c != quote);
        if !self.eat(quote.encode_utf8(&mut [0; 4])) {
            return Err(self.error(from, "the string does not end"));
        }
        if text.is_empty() && quote == '"' && self.rest().starts_with('"') {
            return Err(self.error(from, "a quote cannot be doubled; write '\"'"));
        }
        if text.contains('\\') && text != "\\" {
            let message = "EBNF has no escapes; write #xA or the character itself, or use the syntax gbnf";
            return Err(self.error(from + 1 + text.find('\\').unwrap_or(0), message));
        }
        Ok(Expr::Literal(text.to_owned()))
    }

    /// A decimal number.
    pub(super) fn number(&mut self) -> Result<u32, GuideError> {
        let from = self.at;
        let digits = self.take_while(|c| c.is_ascii_digit());
        if digits.is_empty() {
            return Err(self.unexpected("a number expected"));
        }
        digits.parse().map_err(|_| self.error(from, "the number is too large"))
    }

    /// A code point in hexadecimal digits.
    pub(super) fn code_point(&mut self, digits: &str, from: usize) -> Result<char, GuideError> {
        u32::from_str_radix(digits, 16)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| self.error(from, "this is no Unicode character"))
    }

    pub(super) fn unexpected(&self, message: &str) -> GuideError {
        let found = match self.peek() {
            Some(c) => format!("found `{}`", c.escape_debug()),
            None => "the grammar ends".to_owned(),
        };
        self.error(self.at, &format!("{message}, but {found}"))
    }

    pub(super) fn error(&self, offset: usize, message: &str) -> GuideError {
        let (line, column) = place(self.source, offset);
        GuideError::InvalidGrammar { part: self.part.to_owned(), line, column, message: message.to_owned() }
    }
}

/// Line and column (in characters) of a byte offset, both from 1.
pub(in super::super) fn place(source: &str, offset: usize) -> (usize, usize) {
    let before = &source[..offset.min(source.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Sorted, disjoint ranges of the same characters.
pub(super) fn normalize(mut ranges: Vec<(char, char)>) -> Vec<(char, char)> {
    ranges.sort_unstable();
    let mut merged: Vec<(char, char)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, last)) if from <= *last || next_char(*last) == Some(from) => *last = (*last).max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// All characters outside normalized ranges.
pub(super) fn complement(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let mut rest = Vec::new();
    let mut from = Some('\0');
    for &(low, high) in ranges {
        if let (Some(from), Some(to)) = (from, previous_char(low))
            && from <= to
        {
            rest.push((from, to));
        }
        from = next_char(high);
    }
    rest.extend(from.map(|from| (from, char::MAX)));
    rest
}

/// Characters of `left` that are not in `right`, both normalized.
pub(super) fn difference(left: &[(char, char)], right: &[(char, char)]) -> Vec<(char, char)> {
    let outside = complement(right);
    let mut kept = Vec::new();
    for &(low, high) in left {
        for &(from, to) in &outside {
            let (from, to) = (low.max(from), high.min(to));
            if from <= to {
                kept.push((from, to));
            }
        }
    }
    kept
}

fn next_char(c: char) -> Option<char> {
    match c {
        '\u{D7FF}' => Some('\u{E000}'),
        char::MAX => None,
        _ => char::from_u32(c as u32 + 1),
    }
}

fn previous_char(c: char) -> Option<char> {
    match c {
        '\u{E000}' => Some('\u{D7FF}'),
        '\0' => None,
        _ => char::from_u32(c as u32 - 1),
    }
}
