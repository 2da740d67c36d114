//! Where top-level declarations begin, found line by line without parsing.
//!
//! The scanner knows brackets, comments and text literals, and no more. Where it is led astray (an apostrophe in JSX's
//! text, a regular expression after a bracket), text literals that cannot span lines end with theirs. A border that
//! it misses makes a chunk longer; a border that is none costs the declaration that is cut.

use crate::constraint::Language;

/// What the scanner is inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Code,
    /// A block comment, nested this deep.
    Comment(usize),
    /// Text up to this quote.
    Text {
        quote: u8,
        end: End,
    },
    /// A template literal of TypeScript.
    Template,
}

/// How a text literal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// At the quote, or with the line.
    Line,
    /// At the quote, on whatever line.
    Quote,
    /// At three quotes.
    Triple,
    /// At the quote and this many `#`; nothing is escaped.
    Raw(usize),
}

/// How far a text has been read.
pub(super) struct Scanner {
    language: Language,
    inside: Inside,
    depth: usize,
    /// Depths at which `${` of a template stands open.
    templates: Vec<usize>,
    /// The last byte of code that is no white space.
    last: u8,
    /// Whether a backslash joins the next line to this one.
    is_continued: bool,
    /// Where comments and attributes began that belong to the declaration after them.
    lead: Option<usize>,
}

/// What a line is, seen from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A declaration begins here, with its comments and attributes at this byte.
    Border(usize),
    /// It looks like a declaration, but the brackets say that it stands inside of one.
    Doubtful,
    Other,
}

impl Scanner {
    pub(super) fn new(language: Language) -> Self {
        let (templates, inside) = (Vec::new(), Inside::Code);
        Self { language, inside, depth: 0, templates, last: 0, is_continued: false, lead: None }
    }

    /// Reads a line, which begins at byte `offset`.
    pub(super) fn line(&mut self, line: &[u8], offset: usize) -> Line {
        let is_top = self.inside == Inside::Code && self.depth == 0 && !self.is_continued;
        let found = if is_top { self.top(line, offset) } else { self.doubtful(line) };
        self.walk(line);
        found
    }

    /// Moves the places kept by `by` bytes towards the beginning.
    pub(super) fn rebase(&mut self, by: usize) {
        self.lead = self.lead.map(|lead| lead.saturating_sub(by));
    }

    fn top(&mut self, line: &[u8], offset: usize) -> Line {
        let is_blank = line.iter().all(u8::is_ascii_whitespace);
        if is_blank {
            return Line::Other;
        }
        if self.is_lead(line) {
            self.lead.get_or_insert(offset);
            return Line::Other;
        }
        let lead = self.lead.take();
        match self.begins_declaration(line) && self.has_ended() {
            true => Line::Border(lead.unwrap_or(offset)),
            false => Line::Other,
        }
    }

    fn doubtful(&self, line: &[u8]) -> Line {
        let is_code = matches!(self.language, Language::Python) || self.begins_declaration(line);
        if is_code && line.first().is_some_and(u8::is_ascii_alphabetic) { Line::Doubtful } else { Line::Other }
    }

    /// Whether a line is a comment or an attribute, which belongs to what follows.
    fn is_lead(&self, line: &[u8]) -> bool {
        let leads: &[&[u8]] = match self.language {
            Language::Python => &[b"#", b"@"],
            Language::Typescript => &[b"//", b"/*", b"@"],
            Language::Rust => &[b"//", b"/*", b"#[", b"#!["],
            Language::Go | Language::Zig => &[b"//", b"/*"],
        };
        leads.iter().any(|lead| line.starts_with(lead))
    }

    fn begins_declaration(&self, line: &[u8]) -> bool {
        let len = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let word = std::str::from_utf8(&line[..len]).unwrap_or_default();
        let words: &[&str] = match self.language {
            // Any statement, but for the later parts of a compound one.
            Language::Python => {
                let continues = ["else", "elif", "except", "finally"].contains(&word);
                let first = line.first().copied().unwrap_or(b' ');
                return !continues && !first.is_ascii_whitespace() && !b")]}".contains(&first);
            }
            Language::Typescript => &[
                "abstract",
                "async",
                "class",
                "const",
                "declare",
                "enum",
                "export",
                "function",
                "import",
                "interface",
                "let",
                "module",
                "namespace",
                "type",
                "var",
            ],
            Language::Rust => &[
                "async",
                "const",
                "enum",
                "extern",
                "fn",
                "impl",
                "macro_rules",
                "mod",
                "pub",
                "static",
                "struct",
                "trait",
                "type",
                "union",
                "unsafe",
                "use",
            ],
            Language::Go => &["const", "func", "import", "type", "var"],
            Language::Zig => &[
                "comptime",
                "const",
                "export",
                "extern",
                "fn",
                "inline",
                "noinline",
                "pub",
                "test",
                "threadlocal",
                "usingnamespace",
                "var",
            ],
        };
        words.contains(&word)
    }

    /// Whether what stands before may be the end of a declaration.
    fn has_ended(&self) -> bool {
        match self.language {
            Language::Python | Language::Go => true,
            Language::Typescript => !b"=,(+-*/&|?:<.".contains(&self.last),
            Language::Rust | Language::Zig => [0, b';', b'}', b']'].contains(&self.last),
        }
    }

    fn walk(&mut self, line: &[u8]) {
        self.is_continued = false;
        let mut at = 0;
        while at < line.len() {
            at = match self.inside {
                Inside::Code => self.code(line, at),
                Inside::Comment(depth) => self.comment(line, at, depth),
                Inside::Text { quote, end } => self.text(line, at, quote, end),
                Inside::Template => self.template(line, at),
            };
        }
        let is_joined = line.trim_ascii_end().ends_with(b"\\");
        if let Inside::Text { end: End::Line, .. } = self.inside
            && !is_joined
        {
            self.inside = Inside::Code;
        }
    }

    /// One step through code; the byte to go on from.
    fn code(&mut self, line: &[u8], at: usize) -> usize {
        let rest = &line[at..];
        let (before, byte) = (self.last, rest[0]);
        if self.begins_line_comment(rest) {
            return line.len();
        }
        if rest.starts_with(b"/*") && !matches!(self.language, Language::Python | Language::Zig) {
            self.inside = Inside::Comment(1);
            return at + 2;
        }
        if !byte.is_ascii_whitespace() {
            self.last = byte;
        }
        match byte {
            b'(' | b'[' | b'{' => self.depth += 1,
            b'}' if self.templates.last() == Some(&self.depth) => {
                self.templates.pop();
                self.depth -= 1;
                self.inside = Inside::Template;
            }
            b')' | b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            b'\\' => self.is_continued = self.language == Language::Python && rest.trim_ascii_end().len() == 1,
            b'/' if self.language == Language::Typescript && may_begin_regex(&line[..at], before) => {
                return at + regex_len(rest).unwrap_or(1);
            }
            b'"' | b'\'' | b'`' => return at + self.quote(line, at),
            _ => {}
        }
        at + 1
    }

    fn begins_line_comment(&self, rest: &[u8]) -> bool {
        match self.language {
            Language::Python => rest.starts_with(b"#"),
            Language::Zig => rest.starts_with(b"//") || rest.starts_with(b"\\\\"),
            _ => rest.starts_with(b"//"),
        }
    }

    /// Enters a text literal; how many bytes its beginning has.
    fn quote(&mut self, line: &[u8], at: usize) -> usize {
        let (rest, quote) = (&line[at..], line[at]);
        let is_triple = rest.len() > 2 && rest[1] == quote && rest[2] == quote;
        let (inside, len) = match (self.language, quote) {
            (Language::Python, b'`') | (Language::Rust | Language::Zig, b'`') => return 1,
            (Language::Python, _) if is_triple => (Inside::Text { quote, end: End::Triple }, 3),
            (Language::Typescript, b'`') => (Inside::Template, 1),
            (Language::Go, b'`') => (Inside::Text { quote, end: End::Raw(0) }, 1),
            (Language::Rust, b'\'') => return char_len(rest),
            (Language::Rust, _) => match raw_hashes(&line[..at]) {
                Some(hashes) => (Inside::Text { quote, end: End::Raw(hashes) }, 1),
                None => (Inside::Text { quote, end: End::Quote }, 1),
            },
            _ => (Inside::Text { quote, end: End::Line }, 1),
        };
        self.inside = inside;
        len
    }

    fn comment(&mut self, line: &[u8], at: usize, depth: usize) -> usize {
        let rest = &line[at..];
        if rest.starts_with(b"*/") {
            self.inside = if depth == 1 { Inside::Code } else { Inside::Comment(depth - 1) };
            return at + 2;
        }
        if rest.starts_with(b"/*") && self.language == Language::Rust {
            self.inside = Inside::Comment(depth + 1);
            return at + 2;
        }
        at + 1
    }

    fn text(&mut self, line: &[u8], at: usize, quote: u8, end: End) -> usize {
        let rest = &line[at..];
        if rest[0] == b'\\' && !matches!(end, End::Raw(_)) {
            return at + 2;
        }
        let (is_end, len) = match end {
            End::Line | End::Quote => (rest[0] == quote, 1),
            End::Triple => (rest.starts_with(&[quote; 3]), 3),
            End::Raw(hashes) => {
                let closing = rest.len() > hashes && rest[1..=hashes].iter().all(|byte| *byte == b'#');
                (rest[0] == quote && closing, 1 + hashes)
            }
        };
        if is_end {
            self.inside = Inside::Code;
            return at + len;
        }
        at + 1
    }

    fn template(&mut self, line: &[u8], at: usize) -> usize {
        match line[at] {
            b'\\' => return at + 2,
            b'`' => self.inside = Inside::Code,
            b'$' if line.get(at + 1) == Some(&b'{') => {
                self.depth += 1;
                self.templates.push(self.depth);
                self.inside = Inside::Code;
                return at + 2;
            }
            _ => {}
        }
        at + 1
    }
}

/// Whether a slash after this code begins a regular expression instead of dividing.
fn may_begin_regex(before: &[u8], last: u8) -> bool {
    let before = before.trim_ascii_end();
    let word = before.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric() || b"_$".contains(byte)).count();
    match &before[before.len() - word..] {
        [] => last == 0 || !(b")]}\"'`".contains(&last) || last.is_ascii_alphanumeric()),
        word => [&b"return"[..], b"typeof", b"case", b"in", b"of", b"throw", b"void", b"delete"].contains(&word),
    }
}

/// The length of a regular expression that begins here, if it ends on this line.
fn regex_len(rest: &[u8]) -> Option<usize> {
    let (mut at, mut in_class) = (1, false);
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'/' if !in_class => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// How many `#` stand between a quote and the `r` that makes its text raw.
fn raw_hashes(before: &[u8]) -> Option<usize> {
    let hashes = before.iter().rev().take_while(|byte| **byte == b'#').count();
    let prefix = &before[..before.len() - hashes];
    let len = prefix.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    matches!(&prefix[prefix.len() - len..], b"r" | b"br" | b"cr").then_some(hashes)
}

/// The length of a character literal of Rust that begins here; 1 for the quote of a lifetime.
fn char_len(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return rest.iter().skip(3).position(|byte| *byte == b'\'').map_or(1, |end| end + 4);
    }
    let char_bytes = std::str::from_utf8(&rest[1..rest.len().min(5)]).or_else(|error| {
        std::str::from_utf8(&rest[1..1 + error.valid_up_to()]) // a later character is cut
    });
    let len = char_bytes.ok().and_then(|text| text.chars().next()).map_or(1, char::len_utf8);
    if rest.get(1 + len) == Some(&b'\'') { len + 2 } else { 1 }
}
