//! Code by tree-sitter and by what Clew reads in it, which share nothing with the grammars that the masks follow.

use std::ops::ControlFlow;

use regex::Regex;
use tree_sitter::{Node, ParseOptions, Parser};

use super::Judgement;
use crate::clew::{self, CodeFacts, Place};
use crate::constraint::{Code, Granularity, ImportRule, Language, NameRule, NamingConvention};

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

/// What is known of every rule about code, by part; broken text is judged by its unbroken parts.
pub(super) fn check_rules(text: &[u8], code: &Code) -> Vec<(&'static str, Judgement)> {
    let rules = &code.rules;
    let (text, facts) = match std::str::from_utf8(text) {
        Ok(text) => (text, clew::facts_of_code(text, code.language, code.granularity)),
        Err(_) => ("", CodeFacts { has_errors: true, ..CodeFacts::default() }),
    };
    let mut judged = Vec::new();
    if let Some(rule) = &rules.imports {
        judged.push(("code.imports", imports(&facts, code.language, rule)));
    }
    if !rules.names.is_empty() {
        judged.push(("code.names", names(&facts, &rules.names)));
    }
    if let Some(signature) = &rules.signature {
        let found = text.contains(signature.as_str()) && !facts.signatures.is_empty();
        let missing = || Judgement::Fails(format!("no function `{signature}` is declared"));
        judged.push(("code.signature", if found { Judgement::Holds } else { missing() }));
    }
    if !rules.denied_calls.is_empty() {
        judged.push(("code.denied_calls", calls(&facts, &rules.denied_calls)));
    }
    if !rules.refused_literals.is_empty() {
        // The patterns speak of literals with their quotes.
        let literals = facts.literals.iter().map(|literal| (format!("\"{}\"", literal.text), literal.place));
        let found = first_match(&rules.refused_literals, literals, |pattern| pattern.to_owned());
        judged.push(("code.refused_literals", found));
    }
    if !rules.secret_names.is_empty() {
        let names = facts.literal_values.iter().map(|value| (value.name.clone(), value.place));
        judged.push(("code.secret_names", first_match(&rules.secret_names, names, |name| format!("^(?:{name})$"))));
    }
    if facts.has_errors {
        // What could not be read may hold anything: only what was found is a verdict.
        for (_, judgement) in judged.iter_mut().filter(|(_, judgement)| *judgement == Judgement::Holds) {
            *judgement = Judgement::Unknown("some of the code could not be read, so nobody knows what it holds".into());
        }
    }
    judged
}

fn broken(what: &str, place: Place) -> Judgement {
    Judgement::Fails(format!("{what} at line {}, column {}", place.line, place.column))
}

fn imports(facts: &CodeFacts, language: Language, rule: &ImportRule) -> Judgement {
    let covers = |root: &String, module: &str| {
        module == root
            || (language == Language::Go
                && module.strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('/')))
    };
    let is_permitted = |module: &str| {
        let is_free = language == Language::Python && module == "__future__";
        let is_allowed = rule.allow.as_ref().is_none_or(|allow| allow.iter().any(|root| covers(root, module)));
        is_free || (is_allowed && !rule.deny.iter().any(|root| covers(root, module)))
    };
    for import in facts.imports.iter().filter(|import| !import.is_local) {
        match &import.root {
            None => return broken("an import that nobody can check", import.place),
            Some(root) if !is_permitted(root) => return broken(&format!("`{root}` is imported"), import.place),
            Some(_) => {}
        }
    }
    Judgement::Holds
}

/// Names by the letter: underscores at either end do not count.
fn follows(name: &str, convention: NamingConvention) -> bool {
    let word = name.trim_start_matches(['_', '$']).trim_end_matches('_');
    let all = |fits: fn(char) -> bool| word.chars().all(fits);
    let first = word.chars().next();
    let is_upper_first = first.is_none_or(|c| c.is_ascii_uppercase());
    let is_lower_first = first.is_none_or(|c| c.is_ascii_lowercase());
    match convention {
        NamingConvention::SnakeCase => {
            is_lower_first && all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        }
        NamingConvention::ScreamingSnakeCase => {
            is_upper_first && all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        }
        NamingConvention::CamelCase => is_lower_first && all(|c| c.is_ascii_alphanumeric()),
        NamingConvention::PascalCase => is_upper_first && all(|c| c.is_ascii_alphanumeric()),
    }
}

fn names(facts: &CodeFacts, rules: &[NameRule]) -> Judgement {
    for declared in facts.declared.iter().filter(|declared| !declared.is_exempt) {
        for rule in rules.iter().filter(|rule| rule.declaration == declared.kind) {
            let fits = rule.convention.is_none_or(|convention| follows(&declared.name, convention));
            let is_allowed = rule.allow.as_ref().is_none_or(|allow| allow.contains(&declared.name));
            if !(fits && is_allowed) {
                return broken(&format!("`{}` is declared", declared.name), declared.place);
            }
        }
    }
    Judgement::Holds
}

fn calls(facts: &CodeFacts, denied: &[String]) -> Judgement {
    let is_denied = |path: &str| {
        denied.iter().any(|denied| path == denied || (denied.starts_with('.') && path.ends_with(denied.as_str())))
    };
    match facts.calls.iter().find(|call| is_denied(&call.path)) {
        Some(call) => broken(&format!("`{}` is called", call.path), call.place),
        None => Judgement::Holds,
    }
}

fn first_match(
    patterns: &[String],
    texts: impl Iterator<Item = (String, Place)>,
    whole: impl Fn(&str) -> String,
) -> Judgement {
    let compiled: Result<Vec<Regex>, _> = patterns.iter().map(|pattern| Regex::new(&whole(pattern))).collect();
    let Ok(compiled) = compiled else { return Judgement::Unknown("a pattern is no regex".into()) };
    for (text, place) in texts {
        if compiled.iter().any(|pattern| pattern.is_match(&text)) {
            return broken(&format!("`{text}` stands"), place);
        }
    }
    Judgement::Holds
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

    #[test]
    fn every_rule_tells_right_from_wrong() {
        let rules = |rules: serde_json::Value| serde_json::from_value(rules).expect("rules");
        let part = |language, rules, text: &str| {
            let granularity = Granularity::File;
            let code = Code { language, granularity, rules, grammar: String::new(), layout: None };
            let mut judged = check_rules(text.as_bytes(), &code);
            assert_eq!(judged.len(), 1, "{text}");
            judged.remove(0).1
        };
        for (language, stated, right, wrong) in [
            (Language::Python, serde_json::json!({"imports": {"allow": ["json"]}}), "import json\n", "import os\n"),
            (
                Language::Python,
                serde_json::json!({"imports": {"deny": ["os"]}}),
                "import json\n",
                "from os import path\n",
            ),
            (
                Language::Go,
                serde_json::json!({"imports": {"allow": ["net"]}}),
                "package p\nimport \"net/http\"\n",
                "package p\nimport \"os\"\n",
            ),
            (
                Language::Typescript,
                serde_json::json!({"imports": {"allow": ["zod"]}}),
                "import z from \"zod\";",
                "const x = require(\"fs\");",
            ),
            (
                Language::Rust,
                serde_json::json!({"names": [{"declaration": "function", "convention": "snake_case"}]}),
                "fn a_b() {}",
                "fn aB() {}",
            ),
            (Language::Python, serde_json::json!({"denied_calls": ["eval"]}), "evaluate(1)\n", "eval(1)\n"),
            (
                Language::Rust,
                serde_json::json!({"denied_calls": [".unwrap"]}),
                "fn f() { x.unwrap; }",
                "fn f() { x.unwrap(); }",
            ),
            (
                Language::Python,
                serde_json::json!({"refused_literals": ["http://"]}),
                "# http://x\n",
                "x = 'http://x'\n",
            ),
            (
                Language::Python,
                serde_json::json!({"secret_names": ["password"]}),
                "password = read()\n",
                "password = 'x'\n",
            ),
            (
                Language::Python,
                serde_json::json!({"signature": "def f(x):"}),
                "def f(x):\n    return x\n",
                "def f(y):\n    return y\n",
            ),
        ] {
            assert_eq!(part(language, rules(stated.clone()), right), Judgement::Holds, "{stated} on {right}");
            let judged = part(language, rules(stated.clone()), wrong);
            assert!(matches!(judged, Judgement::Fails(_)), "{stated} on {wrong}: {judged:?}");
        }
    }

    #[test]
    fn code_that_cannot_be_read_is_not_said_to_hold() {
        let rules = serde_json::json!({"imports": {"allow": ["json"]}, "denied_calls": ["eval"]});
        let rules = serde_json::from_value(rules).expect("rules");
        let (language, granularity) = (Language::Python, Granularity::File);
        let code = Code { language, granularity, rules, grammar: String::new(), layout: None };
        for text in [&b"x = \xff\n"[..], b"def f(x:\n    return (\n"] {
            let judged = check_rules(text, &code);
            assert!(judged.iter().all(|(_, judgement)| matches!(judgement, Judgement::Unknown(_))), "{judged:?}");
        }
    }
}
