//! Texts that may join what stands before a hole to the suffix behind it.
//!
//! Most halves are joined by little: what is open before the hole is closed, what the suffix closes is opened, one
//! statement is ended and another begun. Such pieces are strung together, the shortest strings first.

use std::collections::BTreeSet;

use super::{Half, Inside, Signs, closer_of, indents, opener_of};
use crate::constraint::Language;

/// Lines before the hole whose indentation the suffix may go on with, and different indentations that are tried.
const INDENTED_LINES: usize = 40;
const INDENTS_MAX: usize = 5;
/// Texts that are proposed for one pair of halves.
const JOINTS_MAX: usize = 30_000;
/// What may be missing where the text before the hole breaks off.
const FILLS: [&str; 3] = ["", "x", ":x"];
/// What may stand between halves that are both inside one comment or text.
const INSIDE: [&str; 5] = ["", "x", "}", "\n", "x}"];
/// Texts that may join `before` to `after`, at most [`JOINTS_MAX`], the shortest first.
///
/// Costs about 10 us for each KB of the halves, and 1 us for each text.
pub(in crate::guide) fn joints(language: Language, before: &str, after: &str) -> impl Iterator<Item = String> + use<> {
    let signs = Signs::of(language);
    let head = Half::read(&signs, before, Inside::Code);
    let closing = Signs::closing(head.inside);
    let joins = joins(language, before, after);
    let mut shortest = Shortest::default();
    if head.inside != Inside::Code {
        INSIDE.iter().for_each(|text| shortest.propose(&[text]));
    }
    for inside in signs.insides() {
        let opening = signs.opening(inside);
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

/// What may stand between what was before the hole and what begins in it: blanks, and lines of likely indentation.
fn joins(language: Language, before: &str, after: &str) -> Vec<String> {
    let mut joins: Vec<String> = ["", " ", ",", "\n"].map(str::to_owned).into();
    if language != Language::Python {
        return joins;
    }
    for indent in indents(before, after, INDENTED_LINES, INDENTS_MAX) {
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
}
