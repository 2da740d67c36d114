//! What the two sides of a hole leave open, and what may join them.
//!
//! Brackets, texts and comments of both sides are read, roughly. [`joints`] strings pieces together that close what is
//! open and open what is closed; [`Seam`] says to a search how far it still has to go. Both only propose; the parts of a
//! constraint decide.

mod gap;
mod joints;

pub(crate) use gap::Seam;
pub(super) use joints::joints;

use crate::constraint::Language;

/// Open brackets that are remembered; what is nested deeper is not counted.
const DEPTH_MAX: usize = 64;
/// A character literal that is not closed within so many bytes is none, but a lifetime or an apostrophe.
const CHAR_BYTES_MAX: usize = 12;

/// Where the end of a half stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Inside {
    Code,
    /// A comment up to the end of the line.
    Line,
    /// A comment up to its closing sign.
    Block,
    Text(Quotes),
}

/// What is around a text literal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Quotes {
    open: &'static str,
    close: &'static str,
    has_escapes: bool,
    has_lines: bool,
}

impl Quotes {
    const fn short(sign: &'static str) -> Self {
        Self { open: sign, close: sign, has_escapes: true, has_lines: false }
    }

    const fn long(sign: &'static str) -> Self {
        Self { has_lines: true, ..Self::short(sign) }
    }

    const fn raw(open: &'static str, close: &'static str) -> Self {
        Self { open, close, has_escapes: false, has_lines: true }
    }
}

/// What begins comments and texts in a language.
struct Signs {
    line: &'static str,
    has_blocks: bool,
    /// The longer first.
    quotes: &'static [Quotes],
    /// Whether single quotes are around characters, and elsewhere too.
    has_chars: bool,
}

impl Signs {
    fn of(language: Language) -> Self {
        const PYTHON: [Quotes; 4] =
            [Quotes::long("\"\"\""), Quotes::long("'''"), Quotes::short("\""), Quotes::short("'")];
        const TYPESCRIPT: [Quotes; 3] = [Quotes::long("`"), Quotes::short("\""), Quotes::short("'")];
        const RUST: [Quotes; 4] =
            [Quotes::raw("r##\"", "\"##"), Quotes::raw("r#\"", "\"#"), Quotes::raw("r\"", "\""), Quotes::long("\"")];
        const GO: [Quotes; 2] = [Quotes::raw("`", "`"), Quotes::short("\"")];
        const ZIG: [Quotes; 1] = [Quotes::short("\"")];
        match language {
            Language::Python => Self { line: "#", has_blocks: false, quotes: &PYTHON, has_chars: false },
            Language::Typescript => Self { line: "//", has_blocks: true, quotes: &TYPESCRIPT, has_chars: false },
            Language::Rust => Self { line: "//", has_blocks: true, quotes: &RUST, has_chars: true },
            Language::Go => Self { line: "//", has_blocks: true, quotes: &GO, has_chars: true },
            Language::Zig => Self { line: "//", has_blocks: false, quotes: &ZIG, has_chars: true },
        }
    }

    /// What ends a comment or a text.
    fn closing(inside: Inside) -> &'static str {
        match inside {
            Inside::Code => "",
            Inside::Line => "\n",
            Inside::Block => "*/",
            Inside::Text(quotes) => quotes.close,
        }
    }

    /// What begins it.
    fn opening(&self, inside: Inside) -> &'static str {
        match inside {
            Inside::Code => "",
            Inside::Line => self.line,
            Inside::Block => "/*",
            Inside::Text(quotes) => quotes.open,
        }
    }

    /// What the suffix may stand inside of.
    fn insides(&self) -> Vec<Inside> {
        let mut insides = vec![Inside::Code, Inside::Line];
        insides.extend(self.has_blocks.then_some(Inside::Block));
        insides.extend(self.quotes.iter().copied().map(Inside::Text));
        insides
    }
}

/// What one side of a hole leaves open.
#[derive(Clone)]
struct Half {
    inside: Inside,
    /// Brackets that are open at the end, the outermost first.
    open: Vec<u8>,
    /// The fewest brackets that were open.
    lowest: usize,
    /// Brackets that are closed and were not opened, in order.
    unmatched: Vec<u8>,
}

impl Half {
    fn read(signs: &Signs, text: &str, inside: Inside) -> Self {
        let mut half = Self { inside, open: Vec::new(), lowest: 0, unmatched: Vec::new() };
        half.read_on(signs, text);
        half
    }

    fn read_on(&mut self, signs: &Signs, text: &str) {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let len = self.step(signs, rest).max(first.len_utf8());
            // What a step passes over may end inside a character of a text that is not the language's.
            rest = rest.get(len..).unwrap_or_default();
        }
    }

    /// Passes over the next sign or character; returns its bytes, or 0 for one character.
    fn step(&mut self, signs: &Signs, rest: &str) -> usize {
        let first = rest.as_bytes()[0];
        match self.inside {
            Inside::Line if first == b'\n' => self.inside = Inside::Code,
            Inside::Block if rest.starts_with("*/") => {
                self.inside = Inside::Code;
                return 2;
            }
            Inside::Line | Inside::Block => {}
            Inside::Text(quotes) if rest.starts_with(quotes.close) => {
                self.inside = Inside::Code;
                return quotes.close.len();
            }
            Inside::Text(quotes) if first == b'\\' && quotes.has_escapes => {
                return 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            }
            // A text that may not go over lines was none.
            Inside::Text(quotes) if first == b'\n' && !quotes.has_lines => self.inside = Inside::Code,
            Inside::Text(_) => {}
            Inside::Code => return self.step_in_code(signs, rest, first),
        }
        0
    }

    fn step_in_code(&mut self, signs: &Signs, rest: &str, first: u8) -> usize {
        if rest.starts_with(signs.line) {
            self.inside = Inside::Line;
        } else if signs.has_blocks && rest.starts_with("/*") {
            self.inside = Inside::Block;
            return 2;
        } else if let Some(quotes) = signs.quotes.iter().find(|quotes| rest.starts_with(quotes.open)) {
            self.inside = Inside::Text(*quotes);
            return quotes.open.len();
        } else if signs.has_chars && first == b'\'' {
            return char_literal(rest);
        } else if matches!(first, b'(' | b'[' | b'{') && self.open.len() < DEPTH_MAX {
            self.open.push(first);
        } else if matches!(first, b')' | b']' | b'}') {
            let is_matched = self.open.pop().is_some();
            self.lowest = self.lowest.min(self.open.len());
            if !is_matched && self.unmatched.len() < DEPTH_MAX {
                self.unmatched.push(first);
            }
        }
        0
    }
}

/// The bytes of the character literal that `rest` begins with; 0 if it begins with none.
fn char_literal(rest: &str) -> usize {
    let Some(inner) = rest[1..].chars().next() else { return 0 };
    let from = if inner == '\\' { 3 } else { 1 + inner.len_utf8() };
    let Some(end) = rest.as_bytes().get(from..) else { return 0 };
    match end.iter().take(CHAR_BYTES_MAX).position(|&byte| byte == b'\'') {
        Some(0) => from + 1,
        Some(at) if inner == '\\' => from + at + 1,
        _ => 0,
    }
}

fn opener_of(close: u8) -> u8 {
    match close {
        b')' => b'(',
        b']' => b'[',
        _ => b'{',
    }
}

fn closer_of(open: u8) -> u8 {
    match open {
        b'(' => b')',
        b'[' => b']',
        _ => b'}',
    }
}

/// Different indentations of the suffix's first whole line and of the last `num_lines` lines before the hole, those of
/// the last lines first.
fn indents<'a>(before: &'a str, after: &'a str, num_lines: usize, count_max: usize) -> Vec<&'a str> {
    let behind = after.lines().skip(1).filter(|line| !line.trim().is_empty()).take(1);
    let lines = before.lines().rev().filter(|line| !line.trim().is_empty()).take(num_lines);
    let mut indents: Vec<&str> = Vec::new();
    for line in behind.chain(lines) {
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        if !indents.contains(&indent) && indents.len() < count_max {
            indents.push(indent);
        }
    }
    indents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_read_to_its_end() {
        let signs = ["'", "\"", "\\", "/*", "*/", "//", "#", "\n", "é", "(", "]", "{", "`", "'\\u", "😀"];
        for language in [Language::Python, Language::Typescript, Language::Rust, Language::Go, Language::Zig] {
            for a in signs {
                for b in signs {
                    for c in signs {
                        let text = [a, b, c].concat();
                        let half = Half::read(&Signs::of(language), &text, Inside::Code);
                        assert!(half.open.len() + half.unmatched.len() <= 3, "{text:?}");
                    }
                }
            }
        }
    }
}
