//! Lark: what is checked before llguidance reads a grammar, and what its refusals become.
//!
//! A light scanner splits the source as llguidance's lexer does. It bounds brackets and chains of rules, over which the
//! library recurses without a limit, and refuses what the library would take and not mean: token ids, options it
//! does not know, lazy repetitions, stop strings that are cut from the output, and schemas that are not checked.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::Value;

use super::ebnf::place;
use super::structural::Rejection;
use super::{GuideConfig, GuideError, classes, regex, schema};

/// Checks a grammar and makes it ready to be compiled: without forcing, and starting at `start`.
///
/// # Errors
/// [`GuideError::InvalidGrammar`] with line and column, [`GuideError::TooLarge`], [`GuideError::UnsupportedSchema`] for
/// a schema inside.
pub(crate) fn check(part: &str, source: &str, start: Option<&str>, config: &GuideConfig) -> Result<String, GuideError> {
    let checker = Checker { part, source, config, class_chars: Cell::new(0) };
    let lexemes = checker.scan()?;
    checker.brackets(&lexemes)?;
    checker.items(&lexemes)?;
    for (idx, lexeme) in lexemes.iter().enumerate() {
        checker.lexeme(lexeme, lexemes.get(idx + 1))?;
    }
    let start = start.unwrap_or("start");
    checker.chains(&lexemes, start)?;
    Ok(with_start(source, &lexemes, start))
}

/// Whether a sentence may hold this ASCII character, as far as the terminals tell: sure only of a no.
///
/// # Errors
/// As [`check`], which has read the source before.
pub(crate) fn may_write(part: &str, source: &str, c: char, config: &GuideConfig) -> Result<bool, GuideError> {
    let lexemes = Checker { part, source, config, class_chars: Cell::new(0) }.scan()?;
    Ok(lexemes.iter().any(|lexeme| match (lexeme.kind, lexeme.text) {
        (Kind::String, text) => string_may_hold(text, c),
        (Kind::Regex, text) => regex_may_hold(text, c),
        // A complement, and a range of characters.
        (Kind::Other, text) => text == "~" || text == ".",
        (Kind::Keyword, keyword) => !matches!(keyword, "%ignore" | "%llguidance"),
        (Kind::Token, _) => true,
        (Kind::Name | Kind::Json | Kind::Number | Kind::Newline, _) => false,
    }))
}

fn string_may_hold(text: &str, c: char) -> bool {
    let Some(folded) = text.strip_suffix('i') else {
        return serde_json::from_str::<String>(text).map_or(true, |text| text.contains(c));
    };
    let pattern = serde_json::from_str::<String>(folded).map(|text| format!("(?i){}", regex_syntax::escape(&text)));
    pattern.map_or(true, |pattern| regex_syntax::parse(&pattern).map_or(true, |hir| hir_may_hold(&hir, c)))
}

fn regex_may_hold(text: &str, c: char) -> bool {
    let end = text.rfind('/').unwrap_or(text.len());
    let flags = text[end + 1..].replace(['l', 'u'], "");
    let whole = if flags.is_empty() { text[1..end].to_owned() } else { format!("(?{flags}){}", &text[1..end]) };
    regex_syntax::parse(&whole).map_or(true, |hir| hir_may_hold(&hir, c))
}

fn hir_may_hold(hir: &Hir, c: char) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => false,
        HirKind::Literal(literal) => literal.0.contains(&(c as u8)),
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c))
        }
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&(c as u8)))
        }
        HirKind::Repetition(repetition) => hir_may_hold(&repetition.sub, c),
        HirKind::Capture(capture) => hir_may_hold(&capture.sub, c),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(|part| hir_may_hold(part, c)),
    }
}

/// What llguidance says about a grammar, with the part and the place.
pub(crate) fn explain(part: &str, rejection: Rejection) -> GuideError {
    match rejection {
        Rejection::Unsatisfiable => GuideError::Unsatisfiable { parts: vec![part.to_owned()] },
        Rejection::OverLimit(excess) => excess.of(part),
        Rejection::Panic(message) => GuideError::internal(part, message),
        Rejection::Source { place, message } => {
            let (line, column) = place.unwrap_or((1, 1));
            GuideError::InvalidGrammar { part: part.to_owned(), line, column, message }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A rule or a terminal, with its `?`, `!` or `_`.
    Name,
    String,
    Regex,
    /// `<name>` or `<[1-5]>`.
    Token,
    /// `%json`, `%llguidance`, `%regex` and so on.
    Keyword,
    /// The JSON after such a keyword.
    Json,
    Number,
    Newline,
    Other,
}

#[derive(Clone, Copy, Debug)]
struct Lexeme<'a> {
    kind: Kind,
    text: &'a str,
    at: usize,
}

impl Lexeme<'_> {
    fn is(&self, text: &str) -> bool {
        self.kind == Kind::Other && self.text == text
    }
}

struct Checker<'a> {
    part: &'a str,
    source: &'a str,
    config: &'a GuideConfig,
    /// Characters in the classes of all patterns so far.
    class_chars: Cell<u64>,
}

impl<'a> Checker<'a> {
    fn error(&self, at: usize, message: &str) -> GuideError {
        let (line, column) = place(self.source, at);
        GuideError::InvalidGrammar { part: self.part.to_owned(), line, column, message: message.to_owned() }
    }

    fn scan(&self) -> Result<Vec<Lexeme<'a>>, GuideError> {
        let mut lexemes = Vec::new();
        let mut at = 0;
        while at < self.source.len() {
            let rest = &self.source[at..];
            let (kind, len) = self.next(rest, at)?;
            if let Some(kind) = kind {
                lexemes.push(Lexeme { kind, text: &rest[..len], at });
            }
            at += len;
            let takes_json = kind == Some(Kind::Keyword) && matches!(&rest[..len], "%json" | "%llguidance" | "%regex");
            if takes_json {
                let len = self.json(at)?;
                lexemes.push(Lexeme { kind: Kind::Json, text: &self.source[at..at + len], at });
                at += len;
            }
        }
        Ok(lexemes)
    }

    /// The kind (none for space and comments) and length of what comes next.
    fn next(&self, rest: &str, at: usize) -> Result<(Option<Kind>, usize), GuideError> {
        let run = |keep: &dyn Fn(char) -> bool| rest.find(|c| !keep(c)).unwrap_or(rest.len());
        let first = rest.chars().next().unwrap_or_default();
        Ok(match first {
            ' ' | '\t' => (None, run(&|c| matches!(c, ' ' | '\t'))),
            '\n' | '\r' => (Some(Kind::Newline), run(&|c| matches!(c, '\n' | '\r'))),
            '#' => (None, run(&|c| c != '\n')),
            '/' if rest.starts_with("//") => (None, run(&|c| c != '\n')),
            '/' => {
                let end = self.quoted(rest, at, '/', "the regular expression does not end")?;
                let flags_len = rest[end..].find(|c| !"imslux".contains(c)).unwrap_or(rest.len() - end);
                (Some(Kind::Regex), end + flags_len)
            }
            '"' => {
                let end = self.quoted(rest, at, '"', "the string does not end")?;
                (Some(Kind::String), end + usize::from(rest[end..].starts_with('i')))
            }
            '<' => match rest.find('>') {
                Some(end) if !rest[1..end].contains(['<', ' ', '\n', '\t']) && end > 1 => (Some(Kind::Token), end + 1),
                _ => (Some(Kind::Other), 1),
            },
            '%' => {
                (Some(Kind::Keyword), 1 + rest[1..].find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len() - 1))
            }
            '0'..='9' => (Some(Kind::Number), run(&|c| c.is_ascii_digit())),
            _ => match name_len(rest) {
                Some(len) => (Some(Kind::Name), len),
                None => (Some(Kind::Other), first.len_utf8()),
            },
        })
    }

    /// Length of something in quotes, in which a backslash protects the next character.
    fn quoted(&self, rest: &str, at: usize, quote: char, message: &str) -> Result<usize, GuideError> {
        let mut escaped = false;
        for (idx, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\n' if quote == '"' => break,
                _ if c == quote => return Ok(idx + 1),
                _ => {}
            }
        }
        Err(self.error(at, message))
    }

    /// Length of the JSON value that begins here.
    fn json(&self, at: usize) -> Result<usize, GuideError> {
        let mut values = serde_json::Deserializer::from_str(&self.source[at..]).into_iter::<Value>();
        match values.next() {
            Some(Ok(_)) => Ok(values.byte_offset()),
            Some(Err(error)) => {
                let (line, column) = place(self.source, at);
                let column =
                    if error.line() == 1 { column + error.column().saturating_sub(1) } else { error.column().max(1) };
                let line = line + error.line().max(1) - 1;
                let message = format!("this is no JSON value: {error}");
                Err(GuideError::InvalidGrammar { part: self.part.to_owned(), line, column, message })
            }
            None => Err(self.error(at, "a JSON value is expected")),
        }
    }

    fn brackets(&self, lexemes: &[Lexeme<'_>]) -> Result<(), GuideError> {
        let mut depth = 0usize;
        for lexeme in lexemes {
            match lexeme.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            GuideError::check_size(self.part, "nesting of brackets", depth, self.config.max_rule_nesting)?;
        }
        Ok(())
    }

    /// The attributes of every rule, and how many rules there are.
    fn items(&self, lexemes: &[Lexeme<'_>]) -> Result<(), GuideError> {
        let items = definitions(lexemes);
        GuideError::check_size(self.part, "number of rules", items.len(), self.config.max_rules)?;
        for item in items {
            let body = item.body.iter().position(|lexeme| lexeme.is(":")).unwrap_or(item.body.len());
            for lexeme in item.body[..body].iter().filter(|lexeme| lexeme.kind == Kind::Name) {
                let why = match lexeme.text {
                    "stop" | "stop_capture" => "it cuts text from the output; use `suffix` or `lazy`",
                    "max_tokens" => "lengths in tokens depend on the split; use the IR's `limits`",
                    "temperature" => "sampling belongs to the request",
                    _ => continue,
                };
                return Err(self.error(lexeme.at, &format!("`{}` is not supported: {why}", lexeme.text)));
            }
        }
        Ok(())
    }

    fn lexeme(&self, lexeme: &Lexeme<'_>, next: Option<&Lexeme<'_>>) -> Result<(), GuideError> {
        match (lexeme.kind, lexeme.text) {
            (Kind::Token, _) => {
                Err(self.error(lexeme.at, "token ids in a grammar are not supported; use `token_masks`"))
            }
            (Kind::Keyword, "%lark") => Err(self.error(lexeme.at, "nested grammars are not supported; name a rule")),
            (Kind::Keyword, "%llguidance") => self.options(lexeme, next),
            (Kind::Keyword, "%json") => self.schema(lexeme, next),
            (Kind::Regex, text) => self.regex(lexeme, text),
            (Kind::Number, digits) if digits.parse::<u64>().is_ok_and(|count| count <= self.config.max_repetition) => {
                Ok(())
            }
            (Kind::Number, digits) => Err(GuideError::TooLarge {
                part: self.part.to_owned(),
                what: "a count".to_owned(),
                size: digits.parse().unwrap_or(u64::MAX),
                limit: self.config.max_repetition,
            }),
            _ => Ok(()),
        }
    }

    fn options(&self, lexeme: &Lexeme<'_>, json: Option<&Lexeme<'_>>) -> Result<(), GuideError> {
        const KNOWN: [&str; 3] = ["no_forcing", "allow_initial_skip", "ignore_once"];
        let value: Value = json.and_then(|json| serde_json::from_str(json.text).ok()).unwrap_or_default();
        let Value::Object(options) = value else {
            return Err(self.error(lexeme.at, "an object of options is expected"));
        };
        match options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            Some(key) => {
                Err(self.error(lexeme.at, &format!("the option `{key}` is not known; known are {}", KNOWN.join(", "))))
            }
            None => Ok(()),
        }
    }

    fn schema(&self, lexeme: &Lexeme<'_>, json: Option<&Lexeme<'_>>) -> Result<(), GuideError> {
        match json.map(|json| serde_json::from_str::<Value>(json.text)) {
            Some(Ok(schema)) => schema::check_nested(self.part, &schema, self.config),
            _ => Err(self.error(lexeme.at, "a schema is expected")),
        }
    }

    fn regex(&self, lexeme: &Lexeme<'_>, text: &str) -> Result<(), GuideError> {
        let end = text.rfind('/').unwrap_or(text.len());
        let (pattern, flags) = (&text[1..end], &text[end + 1..]);
        GuideError::check_size(self.part, "bytes of a pattern", pattern.len(), self.config.max_regex_bytes)?;
        let flags = flags.replace(['l', 'u'], "");
        let whole = if flags.is_empty() { pattern.to_owned() } else { format!("(?{flags}){pattern}") };
        classes::charge(self.part, &whole, false, &self.class_chars, self.config)?;
        let hir = regex_syntax::parse(&whole).map_err(|error| {
            let (offset, message) = regex::syntax_message(&error);
            let inside = offset.saturating_sub(whole.len() - pattern.len()).min(pattern.len());
            self.error(lexeme.at + 1 + inside, &message)
        })?;
        regex::check_repetition(self.part, &hir, self.config)?;
        if has_lazy(&hir) {
            let message = "a lazy repetition means nothing in a lexeme, which is always the longest; use `[lazy]`";
            return Err(self.error(lexeme.at, message));
        }
        Ok(())
    }

    /// Bounds how deep rules lead from one to another, in the order in which llguidance follows them.
    fn chains(&self, lexemes: &[Lexeme<'a>], start: &str) -> Result<(), GuideError> {
        let definitions: HashMap<&str, Definition<'_, '_>> =
            definitions(lexemes).into_iter().map(|definition| (definition.name, definition)).collect();
        if !definitions.contains_key(start) {
            return Err(self.error(0, &format!("the start rule `{start}` is not defined")));
        }
        let mut seen = HashSet::new();
        let mut stack = vec![(start, 1)];
        let ignored = lexemes.iter().position(|lexeme| lexeme.text == "%ignore");
        if let Some(first) = ignored {
            stack.extend(
                lexemes[first..].iter().filter(|lexeme| lexeme.kind == Kind::Name).map(|name| (bare(name.text), 1)),
            );
        }
        while let Some((name, chain)) = stack.pop() {
            let Some((name, definition)) = definitions.get_key_value(name).filter(|(name, _)| seen.insert(**name))
            else {
                continue;
            };
            debug_assert_eq!(*name, definition.name);
            GuideError::check_size(self.part, "length of a chain of rules", chain, self.config.max_rule_chain)?;
            let names = definition.body.iter().filter(|lexeme| lexeme.kind == Kind::Name);
            stack.extend(names.rev().map(|name| (bare(name.text), chain + 1)));
        }
        Ok(())
    }
}

/// A rule or terminal with everything up to the next one.
struct Definition<'l, 'a> {
    name: &'a str,
    body: &'l [Lexeme<'a>],
}

fn definitions<'l, 'a>(lexemes: &'l [Lexeme<'a>]) -> Vec<Definition<'l, 'a>> {
    let begins = |idx: usize| lexemes[idx].kind == Kind::Name && (idx == 0 || lexemes[idx - 1].kind == Kind::Newline);
    let starts: Vec<usize> = (0..lexemes.len()).filter(|&idx| begins(idx)).collect();
    let ends = starts.iter().skip(1).copied().chain([lexemes.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&from, to)| Definition { name: bare(lexemes[from].text), body: &lexemes[from + 1..to] })
        .collect()
}

/// A name without the marks that only concern parse trees.
fn bare(name: &str) -> &str {
    let name = name.strip_prefix('!').unwrap_or(name);
    name.strip_prefix('?').unwrap_or(name)
}

/// Length of a rule's or a terminal's name, which are told apart by their case.
fn name_len(rest: &str) -> Option<usize> {
    let mut from = usize::from(rest.starts_with('!'));
    from += usize::from(rest[from..].starts_with(['_', '?']));
    let first = rest[from..].chars().next()?;
    let keep: fn(char) -> bool = match first {
        'a'..='z' => |c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'),
        'A'..='Z' => |c| matches!(c, 'A'..='Z' | '0'..='9' | '_' | '-'),
        _ => return None,
    };
    Some(from + rest[from..].find(|c| !keep(c)).unwrap_or(rest.len() - from))
}

fn has_lazy(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Repetition(repetition) => !repetition.greedy || has_lazy(&repetition.sub),
        HirKind::Capture(capture) => has_lazy(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(has_lazy),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

/// The source with `start` as llguidance's fixed start rule; a rule of that name that is not the start is renamed.
fn with_start(source: &str, lexemes: &[Lexeme<'_>], start: &str) -> String {
    let mut lark = String::with_capacity(source.len() + 80);
    let mut copied = 0;
    if start != "start" {
        for lexeme in lexemes.iter().filter(|lexeme| lexeme.kind == Kind::Name && bare(lexeme.text) == "start") {
            lark.push_str(&source[copied..lexeme.at]);
            lark.push_str("start-of-source");
            copied = lexeme.at + lexeme.text.len();
        }
    }
    lark.push_str(&source[copied..]);
    // At the end, so that places in the source stay what they are.
    lark.push_str("\n%llguidance {\"no_forcing\": true}\n");
    if start != "start" {
        lark.push_str(&format!("start: {start}\n"));
    }
    lark
}
