//! How far two sides of a hole are from joining, so that a search for a text between them knows where to look.
//!
//! What is open before the hole has to be closed, and what the suffix closes has to be opened. This only guides; the
//! parts of a constraint decide.

use std::sync::Arc;

use super::{Half, Inside, Signs, indents, opener_of};
use crate::constraint::Language;

/// Lines before the hole whose indentation the suffix may go on with, and different indentations that are tried.
const INDENTED_LINES: usize = 200;
const INDENTS_MAX: usize = 8;

/// What stands open at a hole.
pub(crate) struct Seam {
    signs: Signs,
    head: Half,
    /// What the suffix closes, by what it may stand inside of.
    tails: Vec<Tail>,
    pieces: Vec<Arc<str>>,
}

/// How far a joint is from an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Brackets and texts that are at least to be opened or closed before the suffix may follow.
    pub(crate) num_open: u32,
    /// Whether the joint ends inside a text or a comment.
    pub(crate) is_in_text: bool,
}

/// The suffix, as it reads where it begins inside something.
struct Tail {
    inside: Inside,
    /// Brackets that it closes, the outermost first.
    wanted: Vec<u8>,
    /// The outermost of them that are open at the hole.
    num_common: usize,
}

impl Seam {
    /// Reads both sides: about 10 us for each KB.
    pub(crate) fn new(language: Language, before: &str, after: &str) -> Self {
        let signs = Signs::of(language);
        let mut head = Half::read(&signs, before, Inside::Code);
        head.lowest = head.open.len();
        let tails = signs.insides().into_iter().filter_map(|inside| {
            let tail = Half::read(&signs, after, inside);
            let wanted: Vec<u8> = tail.unmatched.iter().rev().map(|&close| opener_of(close)).collect();
            let num_common = num_common(&head.open, &wanted);
            matches!(tail.inside, Inside::Code | Inside::Line).then_some(Tail { inside, wanted, num_common })
        });
        let tails = tails.collect();
        Self { signs, head, tails, pieces: pieces(language, before, after) }
    }

    /// How far it still is behind `joint`, where so many of the brackets that are open on both sides are to be closed and
    /// opened anew: the hole may end one block and begin another. Costs some 100 ns and about 10 ns for each byte.
    pub(crate) fn gap(&self, joint: &str, num_reopened: usize) -> Gap {
        let mut head = self.head.clone();
        head.read_on(&self.signs, joint);
        let gap = |tail: &Tail| {
            let kept = tail.num_common.saturating_sub(num_reopened);
            let must_close = num_reopened > 0 && head.lowest > kept;
            let common = if must_close { kept } else { num_common(&head.open, &tail.wanted) };
            let num_brackets = head.open.len() + tail.wanted.len() - 2 * common;
            num_brackets as u32 + u32::from(head.inside != tail.inside)
        };
        let num_open = self.tails.iter().map(gap).min().unwrap_or(0);
        Gap { num_open, is_in_text: head.inside != Inside::Code }
    }

    /// The most brackets that are open on both sides.
    pub(crate) fn num_common(&self) -> usize {
        self.tails.iter().map(|tail| tail.num_common).max().unwrap_or(0)
    }

    /// Texts of several lexemes that save a search many steps: what opens a block or a list, and lines with likely
    /// indentations.
    pub(crate) fn pieces(&self) -> &[Arc<str>] {
        &self.pieces
    }
}

fn num_common(open: &[u8], wanted: &[u8]) -> usize {
    open.iter().zip(wanted).take_while(|(open, wanted)| open == wanted).count()
}

/// What opens a block or a list; for Python also line breaks with the indentations of the lines around the hole, one
/// level more, and with a header before that.
fn pieces(language: Language, before: &str, after: &str) -> Vec<Arc<str>> {
    let mut pieces: Vec<Arc<str>> =
        [" ", ";", "\n"].iter().chain(phrases(language)).map(|&piece| piece.into()).collect();
    if language != Language::Python {
        return pieces;
    }
    for indent in indents(before, after, INDENTED_LINES, INDENTS_MAX) {
        pieces.push(format!("\n{indent}").into());
        pieces.push(format!("\n{indent}    ").into());
        for header in ["if a:", "try:", "class a:"] {
            pieces.push(format!("\n{indent}{header}\n{indent}    ").into());
        }
    }
    pieces.sort_unstable();
    pieces.dedup();
    pieces
}

/// What opens a block or a list.
fn phrases(language: Language) -> &'static [&'static str] {
    match language {
        Language::Python => &[
            "a(",
            "def a(",
            "def a(a",
            "def a(a:a",
            "for a in ",
            "with a",
            "import a",
            "from a import(",
            "lambda a",
            "except(",
            "elif a",
            "a=",
            "return ",
            "[a for a in ",
            "{a:",
        ],
        Language::Typescript => &[
            "a(",
            "{a:",
            "if(a){",
            "else{",
            "for(a of ",
            "while(a){",
            "switch(a){",
            "switch(a){case a:",
            "try{",
            "try{}catch(a){",
            "function a(",
            "function a(){",
            "(a)=>{",
            "(a:",
            "class a{",
            "class a{a(",
            "class a{a(){",
            "interface a{",
            "interface a{a:",
            "type a=",
            "type a={",
            "enum a{",
            "const a=",
            "return ",
            "import{a",
            "export{",
            "a<a",
            "${",
        ],
        Language::Rust => &[
            "a(",
            "a!(",
            "a{",
            "a{a:",
            "a::{",
            "a::",
            "if a{",
            "else{",
            "for a in ",
            "while a{",
            "loop{",
            "match a{",
            "match a{a=>",
            "match(",
            "if(",
            "while(",
            "let a=",
            "let a:",
            "|a|",
            "a=>",
            "return ",
            "unsafe{",
            "fn a(",
            "fn a(){",
            "fn a()->",
            "impl a{",
            "impl a{fn a(",
            "impl a{fn a(){",
            "impl a for a{",
            "struct a{",
            "struct a{a:",
            "enum a{",
            "trait a{",
            "mod a{",
            "use a::{",
            "use a::",
            "type a=",
            "const a:",
            "where a:",
            "#[a(",
            "a<a",
            "fn a<a",
        ],
        Language::Go => &[
            "a(",
            "a{",
            "a{a:",
            "[]a{",
            "map[a]a{",
            "if a{",
            "if a:=a;a",
            "if a[",
            "else{",
            "for{",
            "for a{",
            "for a:=range ",
            "switch a{",
            "switch a{case a:",
            "select{",
            "select{case a:",
            "func(){",
            "func a(",
            "func a(){",
            "func(a a)a(",
            "func(a a)a(){",
            "func a()",
            "struct{",
            "type a struct{",
            "type a interface{",
            "type a ",
            "var a=",
            "var a ",
            "var(a",
            "const(a",
            "a:=",
            "return ",
            "package a\n",
            "import(",
            "defer func(){",
            "go func(){",
        ],
        Language::Zig => &[
            "a(",
            "a{",
            ".{",
            ".{.a=",
            "if(a){",
            "if(a)|a|{",
            "else{",
            "while(a){",
            "while(a)|a|{",
            "for(a)|a|{",
            "for(a)|",
            "switch(a){",
            "switch(a){a=>",
            "fn a(",
            "fn a()a{",
            "fn a()a{a(",
            "const a=",
            "const a=struct{",
            "const a=struct{fn a(",
            "const a=struct{fn a()a{",
            "const a=enum{",
            "const a=union(a){",
            "var a=",
            "return ",
            "test{",
            "@a(",
            "catch|a|{",
            "struct{",
            "struct{a:",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_on_either_side_is_counted() {
        for (language, before, joint, after, gap) in [
            (Language::Python, "x = f(a, [1", "", "\ny = 2\n", 2),
            (Language::Python, "x = f(a, [1", "])", "\ny = 2\n", 0),
            (Language::Python, "def f(x):\n    \"\"\"Says", "", " hello.\"\"\"\n    return x\n", 0),
            (Language::Python, "def f(self, a", "):\n    ", "return a\n", 0),
            (Language::Rust, "fn f() { g('(', \"{\"", "", "} fn h() {}\n", 1),
            (Language::Rust, "fn f<'a>(x: &'a str) { g(", "", ")) }\n", 1),
            (Language::Rust, "fn f<'a>(x: &'a str) { g(", "x(", ")) }\n", 0),
            (Language::Rust, "fn f() { g(r#\"{\"", "", "({\"#) }\n", 0),
            (Language::Rust, "struct A {", "}fn x(", ") { x }", 0),
            (Language::Rust, "struct A {", "", ") { x }", 2),
            (Language::Go, "func f() { // a { comment", "", "\n}\n", 0),
            (Language::Go, "func f() { x := `\\", "", "`\n}\n", 0),
            (Language::Typescript, "const a = `${b", "}", "`;\n", 0),
        ] {
            assert_eq!(
                Seam::new(language, before, after).gap(joint, 0).num_open,
                gap,
                "{before:?} {joint:?} {after:?}"
            );
        }
    }

    #[test]
    fn what_is_closed_and_opened_anew_counts_twice() {
        let seam = Seam::new(Language::Go, "var x = []int{1", "se 3:\n\t}\n}\n");
        assert_eq!((seam.num_common(), seam.gap("", 0).num_open, seam.gap("", 1).num_open), (1, 1, 3));
        assert_eq!((seam.gap("{", 0).num_open, seam.gap("{", 1).num_open), (0, 4));
        assert_eq!((seam.gap("}", 0).num_open, seam.gap("}", 1).num_open), (2, 2));
        assert_eq!(seam.gap("}func f(){switch x{ca", 1).num_open, 0);
    }
}
