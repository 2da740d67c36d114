//! Texts that may join what stands before a hole to the suffix behind it.
//!
//! The shortest text that makes a program of two halves is not searched for; most halves are joined by little: what is
//! open before the hole is closed, what the suffix closes is opened, one statement is ended and another begun. Brackets,
//! texts and comments of both halves are read, roughly, and such pieces strung together, the shortest strings first.
//! This only proposes; the parts of a constraint decide.

use std::collections::BTreeSet;

use crate::constraint::Language;

/// Open brackets that are remembered; what is nested deeper is joined by nothing that is proposed.
const DEPTH_MAX: usize = 64;
/// Lines before the hole whose indentation the suffix may go on with, beside that of its own first whole line.
const INDENTED_LINES: usize = 40;
/// Different indentations that are tried, those of the last lines first.
const INDENTS_MAX: usize = 5;
/// Texts that are proposed for one pair of halves.
const JOINTS_MAX: usize = 30_000;
/// What may be missing where the text before the hole breaks off.
const FILLS: [&str; 3] = ["", "x", ":x"];
/// What may stand between halves that are both inside one comment or text.
const INSIDE: [&str; 5] = ["", "x", "}", "\n", "x}"];
/// A character literal that is not closed within so many bytes is none, but a lifetime or an apostrophe.
const CHAR_BYTES_MAX: usize = 12;

/// Texts that may join `before` to `after`, at most [`JOINTS_MAX`], the shortest first.
///
/// Costs about 10 us for each KB of the halves, and 1 us for each text.
pub(super) fn joints(language: Language, before: &str, after: &str) -> impl Iterator<Item = String> + use<> {
    let signs = Signs::of(language);
    let head = Half::read(&signs, before, Inside::Code);
    let closing = signs.closing(head.inside);
    let joins = joins(language, before, after);
    let mut shortest = Shortest::default();
    if head.inside != Inside::Code {
        INSIDE.iter().for_each(|text| shortest.propose(&[text]));
    }
    for (opening, inside) in signs.openings() {
        let tail = Half::read(&signs, after, inside);
        if matches!(tail.inside, Inside::Text(_) | Inside::Block) {
            continue;
        }
        let wanted: Vec<u8> = tail.unmatched.iter().rev().map(|&close| opener_of(close)).collect();
        let common = head.open.iter().zip(&wanted).take_while(|(open, wanted)| open == wanted).count();
        // What is open on both sides may also be closed and opened anew.
        for kept in [common, common.saturating_sub(1)] {
            let closers: String = head.open[kept..].iter().rev().map(|&open| char::from(closer_of(open))).collect();
            for opened in opened(language, &wanted[kept..]) {
                shortest.fill_in(language, &joins, [closing, &closers, &opened, opening]);
            }
        }
    }
    shortest.0.into_iter().map(|(_, text)| text)
}

/// The shortest of the texts that were proposed, with their lengths before them.
#[derive(Default)]
struct Shortest(BTreeSet<(usize, String)>);

impl Shortest {
    fn propose(&mut self, pieces: &[&str]) {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let is_full = self.0.len() >= JOINTS_MAX;
        if is_full && self.0.last().is_some_and(|longest| longest.0 <= len) {
            return;
        }
        self.0.insert((len, pieces.concat()));
        if self.0.len() > JOINTS_MAX {
            self.0.pop_last();
        }
    }

    /// Proposes what is closed and opened with everything that may stand around it.
    fn fill_in(&mut self, language: Language, joins: &[String], [closing, closers, opened, opening]: [&str; 4]) {
        for fill in FILLS {
            for end in ends(language) {
                for join in joins {
                    for start in starts(language) {
                        self.propose(&[closing, fill, closers, end, join, opened, start, opening]);
                    }
                }
            }
        }
    }
}

/// Where the end of a half stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Inside {
    Code,
    /// A comment up to the end of the line.
    Line,
    /// A comment up to its closing sign.
    Block,
    /// A text literal, by its quotes.
    Text(&'static str),
}

/// What begins comments and texts in a language.
struct Signs {
    line: &'static str,
    has_blocks: bool,
    /// Quotes, the longer first.
    quotes: &'static [&'static str],
    /// Whether single quotes are around characters, and elsewhere too.
    has_chars: bool,
}

impl Signs {
    fn of(language: Language) -> Self {
        match language {
            Language::Python => {
                Self { line: "#", has_blocks: false, quotes: &["\"\"\"", "'''", "\"", "'"], has_chars: false }
            }
            Language::Typescript => Self { line: "//", has_blocks: true, quotes: &["`", "\"", "'"], has_chars: false },
            Language::Rust => Self { line: "//", has_blocks: true, quotes: &["\""], has_chars: true },
            Language::Go => Self { line: "//", has_blocks: true, quotes: &["`", "\""], has_chars: true },
            Language::Zig => Self { line: "//", has_blocks: false, quotes: &["\""], has_chars: true },
        }
    }

    /// What ends a comment or a text.
    fn closing(&self, inside: Inside) -> &'static str {
        match inside {
            Inside::Code => "",
            Inside::Line => "\n",
            Inside::Block => "*/",
            Inside::Text(quotes) => quotes,
        }
    }

    /// What the suffix may stand inside of, with what begins it.
    fn openings(&self) -> Vec<(&'static str, Inside)> {
        let mut openings = vec![("", Inside::Code), (self.line, Inside::Line)];
        openings.extend(self.has_blocks.then_some(("/*", Inside::Block)));
        openings.extend(self.quotes.iter().map(|&quotes| (quotes, Inside::Text(quotes))));
        openings
    }
}

/// What one side of a hole leaves open.
struct Half {
    inside: Inside,
    /// Brackets that are open at the end, the outermost first.
    open: Vec<u8>,
    /// Brackets that are closed and were not opened, in order.
    unmatched: Vec<u8>,
}

impl Half {
    fn read(signs: &Signs, text: &str, inside: Inside) -> Self {
        let mut half = Self { inside, open: Vec::new(), unmatched: Vec::new() };
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let len = half.step(signs, rest).max(first.len_utf8());
            // What a step passes over may end inside a character of a text that is not the language's.
            rest = rest.get(len..).unwrap_or_default();
        }
        half
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
            Inside::Text(quotes) if rest.starts_with(quotes) => {
                self.inside = Inside::Code;
                return quotes.len();
            }
            Inside::Text(_) if first == b'\\' => return 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            // A text that may not go over lines was none.
            Inside::Text(quotes) if first == b'\n' && quotes.len() == 1 && quotes != "`" => self.inside = Inside::Code,
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
        } else if let Some(quotes) = signs.quotes.iter().find(|quotes| rest.starts_with(**quotes)) {
            self.inside = Inside::Text(quotes);
            return quotes.len();
        } else if signs.has_chars && first == b'\'' {
            return char_literal(rest);
        } else if matches!(first, b'(' | b'[' | b'{') && self.open.len() < DEPTH_MAX {
            self.open.push(first);
        } else if matches!(first, b')' | b']' | b'}') && self.open.pop().is_none() && self.unmatched.len() < DEPTH_MAX {
            self.unmatched.push(first);
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

/// What may stand between what was before the hole and what begins in it: blanks, and lines of likely indentation.
fn joins(language: Language, before: &str, after: &str) -> Vec<String> {
    let mut joins: Vec<String> = ["", " ", ",", "\n"].map(str::to_owned).into();
    if language != Language::Python {
        return joins;
    }
    let mut indents: Vec<&str> = Vec::new();
    let behind = after.lines().skip(1).filter(|line| !line.trim().is_empty()).take(1);
    let lines = before.lines().rev().filter(|line| !line.trim().is_empty()).take(INDENTED_LINES);
    for line in behind.chain(lines) {
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        if !indents.contains(&indent) && indents.len() < INDENTS_MAX {
            indents.push(indent);
        }
    }
    for indent in indents {
        joins.push(format!("\n{indent}"));
        joins.push(format!("\n{indent}    "));
        joins.push(format!("\n{indent}if x:\n{indent}    "));
    }
    joins.sort();
    joins.dedup();
    joins
}

/// The brackets that the suffix closes, with what may stand before each of one kind.
fn opened(language: Language, wanted: &[u8]) -> Vec<String> {
    if wanted.is_empty() {
        return vec![String::new()];
    }
    let blocks: &[&str] = match language {
        Language::Python => &[""],
        Language::Typescript => &["", "if(x)", "x=", "function x()", "class x"],
        Language::Rust => &["", "if x ", "fn x()", "x", "struct x", "match x ", "impl x "],
        Language::Go => &["", "if x ", "func x()", "x", "type x struct"],
        Language::Zig => &["", "if(x)", "fn x() void", "const x=struct"],
    };
    let calls: &[&str] = if language == Language::Python { &["", "x", "def x"] } else { &["", "x"] };
    let written = |call: &str, first: &str, block: &str| -> String {
        let pieces = wanted.iter().enumerate().map(|(idx, &open)| match open {
            b'(' => format!("{call}("),
            b'[' => "[".to_owned(),
            _ => format!("{}{{", if idx == 0 { first } else { block }),
        });
        pieces.collect()
    };
    let mut all = Vec::new();
    for call in calls {
        for block in blocks {
            all.push(written(call, block, block));
            all.push(written(call, "", block));
        }
    }
    all.sort();
    all.dedup();
    all
}

/// What may end a statement that is begun before the hole.
fn ends(language: Language) -> &'static [&'static str] {
    match language {
        Language::Python => {
            &["", ":", ":x", "():", "():x", " in x:", " in x:x", "=x", " x", " import x", ".x", "for x in x"]
        }
        Language::Typescript => &["", ";", "=x;", "(){}", "{}", "=>x", ":x", ":x;", "?x:x", ".x", " from'x'", "()"],
        Language::Rust => {
            &["", ";", "=x;", "(){}", "{}", ":x", "=>x", "!()", "->x", ".x", " x{}", "in x{}", "()", ">", ">,"]
        }
        Language::Go => &["", ";", "=x", ":=x", "(){}", "{}", ":x", ".x", " x", " struct{}", ":", "()"],
        Language::Zig => &["", ";", "=x;", "()void{}", "{}", ":x", ":x=x;", "=>x", ".x", "(x)", "()"],
    }
}

/// What may begin the statement that the suffix goes on with.
fn starts(language: Language) -> &'static [&'static str] {
    match language {
        Language::Python => {
            &["", "x", "x=", "if x", "def x", "x:x", "class x", "return ", "for x in x", "with x", "import x", "@x"]
        }
        Language::Typescript => {
            &["", "x", "x=", "let x=", "function x", "if", "return ", "x:", "x.", "(x)", "class x", "import x"]
        }
        Language::Rust => &["", "x", "let x=", "fn x", "if x", "return ", "x:", "x.", "use x", "x=", "x=>", "pub "],
        Language::Go => &["", "x", "x:=", "x=", "func x", "if x", "return ", "x:", "x.", "var x", "type x", "case x"],
        Language::Zig => &["", "x", "x=", "const x=", "fn x", "if", "return ", ".x=", "x.", "var x=", "x:", "pub "],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_joins_two_halves_is_proposed() {
        for (language, before, after, wanted) in [
            (Language::Python, "x = f(a, [1", "\ny = 2\n", "])"),
            (Language::Python, "def f(x):\n    \"\"\"Says", " hello.\"\"\"\n    return x\n", "\"\"\"\"\"\""),
            (Language::Python, "def f(self, a", "return a\n", "):\n    "),
            (Language::Rust, "fn f() { g('(', \"{\"", "} fn h() {}\n", ")"),
            (Language::Rust, "fn f<'a>(x: &'a str) { g(", ")) }\n", "x("),
            (Language::Go, "func f() { // a { comment", "\n}\n", "\n"),
            (Language::Typescript, "const a = `${b", "`;\n", "}"),
        ] {
            let joints: Vec<String> = joints(language, before, after).collect();
            assert!(joints.iter().any(|joint| joint == wanted), "{before:?} {after:?}");
            assert!(joints.len() <= JOINTS_MAX && joints.is_sorted_by_key(String::len));
        }
    }

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
