//! Code by tree-sitter, which shares nothing with the grammars that the masks follow.

use std::ops::ControlFlow;

use tree_sitter::{Node, ParseOptions, Parser};

use super::Judgement;
use crate::constraint::{Code, Granularity, Language};

/// Steps of the parser (in hundreds) granted to every text, and bytes for which a further hundred is.
const PARSE_EFFORT_BASE: usize = 2_000;
const BYTES_PER_PARSE_EFFORT: usize = 4;

/// Whether tree-sitter reads `text`, a whole file, without an error; `None` where that takes more effort than granted.
///
/// TypeScript in a file that ends in `.tsx` is read with JSX. Takes about 50 ms per MB.
#[must_use]
pub fn parses(text: &str, language: Language, file: &str) -> Option<bool> {
    Some(first_error(text, language, file)?.is_none())
}

/// What tree-sitter says of an output.
pub(super) fn check(text: &[u8], code: &Code) -> Judgement {
    let Ok(text) = std::str::from_utf8(text) else { return Judgement::Violated("it is not UTF-8".into()) };
    let (before, after) = around(code.language, code.granularity);
    let whole = format!("{before}{text}{after}");
    match first_error(&whole, code.language, "") {
        None => Judgement::Unknown("tree-sitter could not read it with bounded effort".into()),
        Some(None) => Judgement::Holds,
        Some(Some(at)) => {
            let at = at.saturating_sub(before.len()).min(text.len());
            Judgement::Fails(format!("tree-sitter finds a syntax error at byte {at}"))
        }
    }
}

/// What makes a file of a smaller piece of code.
fn around(language: Language, granularity: Granularity) -> (&'static str, &'static str) {
    match (granularity, language) {
        (Granularity::File, _) | (Granularity::Statements, Language::Typescript | Language::Python) => ("", ""),
        (Granularity::Statements | Granularity::FunctionBody, Language::Rust) => ("fn f() {\n", "\n}\n"),
        (Granularity::Statements | Granularity::FunctionBody, Language::Go) => ("package p\nfunc f() {\n", "\n}\n"),
        (Granularity::Statements | Granularity::FunctionBody, Language::Zig) => ("fn f() void {\n", "\n}\n"),
        (Granularity::FunctionBody, Language::Typescript) => ("async function* f() {\n", "\n}\n"),
        (Granularity::FunctionBody, Language::Python) => ("async def f():\n", "\n"),
        (Granularity::Expression, Language::Typescript) => ("x = (\n", "\n);\n"),
        (Granularity::Expression, Language::Python) => ("x = (\n", "\n)\n"),
        (Granularity::Expression, Language::Rust) => ("fn f() { x = \n", "\n; }\n"),
        (Granularity::Expression, Language::Go) => ("package p\nvar x = (", ")\n"),
        (Granularity::Expression, Language::Zig) => ("const x =\n", "\n;\n"),
    }
}

/// The first byte of the first error; the outer `None` where the effort is spent.
fn first_error(text: &str, language: Language, file: &str) -> Option<Option<usize>> {
    let grammar = match language {
        Language::Typescript if file.ends_with(".tsx") => tree_sitter_typescript::LANGUAGE_TSX,
        Language::Typescript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT,
        Language::Python => tree_sitter_python::LANGUAGE,
        Language::Rust => tree_sitter_rust::LANGUAGE,
        Language::Zig => tree_sitter_zig::LANGUAGE,
        Language::Go => tree_sitter_go::LANGUAGE,
    };
    let mut parser = Parser::new();
    parser.set_language(&grammar.into()).expect("the pinned grammar has an ABI this tree-sitter reads");
    let mut effort = PARSE_EFFORT_BASE + text.len() / BYTES_PER_PARSE_EFFORT;
    let mut spend = |_: &_| {
        effort = effort.saturating_sub(1);
        if effort == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = ParseOptions::new().progress_callback(&mut spend);
    let mut read = |offset: usize, _| &text.as_bytes()[offset.min(text.len())..];
    let tree = parser.parse_with_options(&mut read, None, Some(options))?;
    Some(error_in(tree.root_node()))
}

/// Goes down where the errors are, without recursion.
fn error_in(root: Node<'_>) -> Option<usize> {
    let mut node = root;
    while node.has_error() {
        if node.is_error() || node.is_missing() {
            return Some(node.start_byte());
        }
        let mut cursor = node.walk();
        let Some(child) = node.children(&mut cursor).find(Node::has_error) else { return Some(node.start_byte()) };
        node = child;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_from_good_code_in_every_language() {
        for (language, good, bad) in [
            (Language::Typescript, "const x: number = 1;", "const x: = 1;"),
            (Language::Python, "def f(x):\n    return x\n", "def f(x:\n    return x\n"),
            (Language::Rust, "fn f() -> u8 { 1 }", "fn f() -> { 1 }"),
            (Language::Go, "package p\n\nfunc f() int { return 1 }\n", "package p\n\nfunc f( int { return 1 }\n"),
            (Language::Zig, "fn f() u8 {\n    return 1;\n}\n", "fn f( u8 {\n    return 1;\n}\n"),
        ] {
            assert_eq!(parses(good, language, "f"), Some(true), "{good}");
            assert_eq!(parses(bad, language, "f"), Some(false), "{bad}");
        }
    }

    #[test]
    fn pieces_of_code_are_read_in_their_place() {
        let judge = |language, granularity, text: &str| {
            let rules = crate::constraint::CodeRules::default();
            check(text.as_bytes(), &Code { language, granularity, rules, grammar: String::new(), layout: None })
        };
        for (language, granularity, text) in [
            (Language::Rust, Granularity::Expression, "a + b"),
            (Language::Rust, Granularity::FunctionBody, "let x = 1; x"),
            (Language::Python, Granularity::FunctionBody, "    return 1\n"),
            (Language::Python, Granularity::Expression, "[x for x in y]"),
            (Language::Go, Granularity::Statements, "x := 1\nreturn x"),
            (Language::Go, Granularity::Expression, "f(1)"),
            (Language::Zig, Granularity::Expression, "a + b"),
            (Language::Typescript, Granularity::FunctionBody, "return await x;"),
        ] {
            assert_eq!(judge(language, granularity, text), Judgement::Holds, "{text}");
        }
        assert!(matches!(judge(Language::Rust, Granularity::Expression, "a +"), Judgement::Fails(_)));
    }
}
