//! Code by tree-sitter and by what Clew reads in it, which share nothing with the grammars that the masks follow.

use regex::Regex;

use super::Judgement;
use crate::clew::{self, CodeFacts, Place, Syntax};
use crate::constraint::{Code, ImportRule, Language, NameRule};

/// Whether tree-sitter reads `text`, a whole file, without an error; `None` where that takes more effort than granted.
///
/// TypeScript in a file whose name says so (`.tsx`, `.jsx`, `.js`) is read with JSX. Takes about 50 ms per MB.
#[must_use]
pub fn parses(text: &str, language: Language, file: &str) -> Option<bool> {
    match clew::syntax_of_file(text, language, file) {
        Syntax::WellFormed => Some(true),
        Syntax::Error { .. } => Some(false),
        Syntax::Unread => None,
    }
}

/// What is known of an output's syntax and of every rule about it, by part, from one parse; broken text is judged by its
/// unbroken parts.
pub(super) fn check(text: &[u8], code: &Code) -> Vec<(&'static str, Judgement)> {
    let Ok(text) = std::str::from_utf8(text) else {
        let unread = CodeFacts { has_errors: true, ..CodeFacts::default() };
        let mut judged = vec![("code.language", Judgement::Violated("it is not UTF-8".into()))];
        judged.extend(check_rules("", code, &unread));
        return judged;
    };
    let (syntax, facts) = clew::read_code(text, code.language, code.granularity);
    let language = match syntax {
        Syntax::WellFormed => Judgement::Holds,
        Syntax::Error { at } => Judgement::Fails(format!("tree-sitter finds a syntax error at byte {at}")),
        Syntax::Unread => Judgement::Unknown("tree-sitter could not read it with bounded effort".into()),
    };
    let mut judged = vec![("code.language", language)];
    judged.extend(check_rules(text, code, &facts));
    judged
}

fn check_rules(text: &str, code: &Code, facts: &CodeFacts) -> Vec<(&'static str, Judgement)> {
    let rules = &code.rules;
    let mut judged = Vec::new();
    if let Some(rule) = &rules.imports {
        judged.push(("code.imports", imports(facts, code.language, rule)));
    }
    if !rules.names.is_empty() {
        judged.push(("code.names", names(facts, &rules.names)));
    }
    if let Some(signature) = &rules.signature {
        let found = text.contains(signature.as_str()) && !facts.signatures.is_empty();
        let missing = || Judgement::Fails(format!("no function `{signature}` is declared"));
        judged.push(("code.signature", if found { Judgement::Holds } else { missing() }));
    }
    if !rules.denied_calls.is_empty() {
        judged.push(("code.denied_calls", calls(facts, &rules.denied_calls)));
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

fn names(facts: &CodeFacts, rules: &[NameRule]) -> Judgement {
    for declared in facts.declared.iter().filter(|declared| !declared.is_exempt) {
        for rule in rules.iter().filter(|rule| rule.declaration == declared.kind) {
            let fits = rule.convention.is_none_or(|convention| convention.fits(&declared.name));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constraint::{CodeRules, Granularity};

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
            let rules = CodeRules::default();
            let code = Code { language, granularity, document: false, rules, grammar: String::new(), layout: None };
            check(text.as_bytes(), &code).remove(0).1
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
            let code = Code { language, granularity, document: false, rules, grammar: String::new(), layout: None };
            let mut judged = check(text.as_bytes(), &code);
            assert_eq!(judged.len(), 2, "{text}");
            judged.remove(1).1
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
            (
                Language::Rust,
                serde_json::json!({"imports": {"allow": ["anyhow", "std"]}}),
                "use ::/* c */anyhow::x;\nuse ::{std::fmt, anyhow::y};",
                "use ::/* c */libc::x;",
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
    fn a_path_to_a_file_of_ones_own_is_no_text() {
        let rules = serde_json::json!({"refused_literals": ["\\.\\./"]});
        for (language, import, text) in [
            (Language::Zig, "const a = @import(\"../a.zig\");", "const a = \"../a.zig\";"),
            (Language::Typescript, "import a from \"../a\";", "const a = \"../a\";"),
        ] {
            let rules = serde_json::from_value(rules.clone()).expect("rules");
            let code = Code {
                language,
                granularity: Granularity::File,
                document: false,
                rules,
                grammar: String::new(),
                layout: None,
            };
            let judged = |text: &str| check(text.as_bytes(), &code);
            let fails = |text: &str| judged(text).iter().any(|(_, judged)| matches!(judged, Judgement::Fails(_)));
            assert!(!fails(import), "{import}");
            assert!(fails(text), "{text}");
        }
    }

    #[test]
    fn code_that_cannot_be_read_is_not_said_to_hold() {
        let rules = serde_json::json!({"imports": {"allow": ["json"]}, "denied_calls": ["eval"]});
        let rules = serde_json::from_value(rules).expect("rules");
        let (language, granularity) = (Language::Python, Granularity::File);
        let code = Code { language, granularity, document: false, rules, grammar: String::new(), layout: None };
        for text in [&b"x = \xff\n"[..], b"def f(x:\n    return (\n"] {
            let judged = check(text, &code);
            assert!(judged[1..].iter().all(|(_, judgement)| matches!(judgement, Judgement::Unknown(_))), "{judged:?}");
        }
    }
}
