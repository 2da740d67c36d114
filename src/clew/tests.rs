//! Tests of sets: what many files have in common.

use super::*;
use crate::constraint::{DeclarationKind, NamingConvention, Origin, Rule, Strength};

fn facts(files: &[(&str, &str)]) -> Vec<FileFacts> {
    let read = |(name, text): &(&str, &str)| {
        let language = language_of(Path::new(name)).expect("the extension is known");
        read_file(text, language, name).expect("small files are read")
    };
    files.iter().map(read).collect()
}

fn manifest(language: Language, names: &[&str]) -> Manifest {
    let origin = Origin { file: "manifest".to_owned(), line: 1, column: 1 };
    let dependencies =
        names.iter().map(|name| Dependency { name: (*name).to_owned(), origin: origin.clone() }).collect();
    Manifest { file: "manifest".to_owned(), language, dependencies, package: Some("own-package".to_owned()) }
}

const PYTHON: &str = "import yaml\nimport requests\n\ndef read_lines(path):\n    return load_all(path)\n\n\
    def write_lines(path):\n    return dump_all(path)\n\n\
    def count_lines(path):\n    \"\"\"Counts.\n\n    Raises:\n        OSError: if it is gone\n    \"\"\"\n    ...\n\n\
    def test_count():\n    assert count_lines('a') == 3\n";

#[test]
fn imports_are_a_fact_where_a_manifest_states_them_and_a_habit_elsewhere() {
    let files = facts(&[("a.py", PYTHON), ("b.ts", "import a from 'react/jsx'; import b from './c';")]);
    let set = combine(&files, &[manifest(Language::Python, &["PyYAML", "python-dateutil", "Flask"])]);
    let python = set.find("imports.python").expect("Python imports something");
    assert_eq!(python.strength, Strength::Hard);
    let Rule::Imports { language, allow: Some(allow), .. } = &python.rule else { panic!("an import rule") };
    assert_eq!(*language, Some(Language::Python));
    for module in ["yaml", "requests", "dateutil", "flask", "own_package"] {
        assert!(allow.iter().any(|known| known == module), "{module}: {allow:?}");
    }
    let typescript = set.find("imports.typescript").expect("TypeScript imports something");
    assert_eq!(typescript.strength, Strength::Soft);
    let Rule::Imports { allow: Some(allow), .. } = &typescript.rule else { panic!("an import rule") };
    assert!(allow.iter().any(|module| module == "react") && !allow.iter().any(|module| module == "./c"));
}

#[test]
fn names_are_counted_over_all_files() {
    let more = "def parse_line(line):\n    return line\n\ndef joinLines(lines):\n    return lines\n";
    let set = combine(&facts(&[("a.py", PYTHON), ("b.py", more)]), &[]);
    let names = set.find("names.python.function").expect("most functions agree");
    assert_eq!(names.description, "5 of 6 Python functions are snake_case; not joinLines");
    assert_eq!((names.strength, names.frequency), (Strength::Soft, 5));
    assert!((names.confidence - 6.0 / 8.0).abs() < 1e-6);
    let Rule::Names { declaration, convention, .. } = &names.rule else { panic!("a rule of names") };
    assert_eq!((*declaration, *convention), (DeclarationKind::Function, Some(NamingConvention::SnakeCase)));
}

#[test]
fn stubs_tests_and_documentation_are_told() {
    let set = combine(&facts(&[("a.py", PYTHON)]), &[]);
    let stub = set.find("signature.count_lines").expect("its body is missing");
    assert_eq!(stub.strength, Strength::Hard);
    assert_eq!(
        stub.rule,
        Rule::Signature { language: Some(Language::Python), signature: "def count_lines(path):".to_owned() }
    );
    assert_eq!(stub.origin.as_ref().map(|origin| origin.line), Some(10));
    let tested = set.find("test.count_lines").expect("a test says what it gives");
    assert_eq!(tested.description, "a test expects that `count_lines('a')` gives `3`");
    let documented = set.find("doc.count_lines").expect("the docstring says what it raises");
    assert_eq!(documented.description, "`count_lines` fails with OSError");
    assert_eq!((tested.strength, documented.strength), (Strength::Advisory, Strength::Advisory));
}

#[test]
fn a_type_with_an_unknown_base_keeps_its_own_fields_and_is_advisory() {
    for (language, file, text) in [
        (Language::Typescript, "a.ts", "import { B } from 'b';\ninterface A extends B { c: string; d?: number }\n"),
        (
            Language::Python,
            "a.py",
            "from b import B\nfrom dataclasses import dataclass\n@dataclass\nclass A(B):\n    c: str\n    d: float = 1.0\n",
        ),
    ] {
        let set = extract(text, language, file).expect("a small file");
        let constraint = set.find("A").expect("its fields are known");
        assert_eq!(constraint.strength, Strength::Advisory, "{file}");
        let Rule::JsonSchema { schema } = &constraint.rule else { panic!("{file}: a schema") };
        assert_eq!(schema["properties"]["c"]["type"], "string", "{file}: {schema}");
        assert_eq!(schema["required"], serde_json::json!(["c"]), "{file}: {schema}");
        assert_eq!(schema["additionalProperties"], serde_json::json!({}), "{file}: {schema}");
        assert!(set.diagnostics.iter().any(|one| one.message.contains("only advisory")), "{file}");
    }
}

#[test]
fn style_and_suggestions_follow_from_what_is_there() {
    let many: String = (0..30).map(|n| format!("function f{n}() {{\n\treturn g{n}('a', 'b');\n}}\n")).collect();
    let set = combine(&facts(&[("a.ts", &many)]), &[]);
    let tabs = set.find("style.typescript.tabs").expect("it is indented by tabs");
    assert_eq!(tabs.rule, Rule::Bias { text: Some("\n\t".to_owned()), regex: None, bias: 1.0 });
    let quotes = set.find("style.typescript.quotes").expect("its quotes are single");
    assert_eq!(quotes.rule, Rule::Bias { text: Some("\"".to_owned()), regex: None, bias: -1.0 });
    let eval = set.find("suggested.typescript.eval").expect("nothing calls it");
    assert_eq!(eval.strength, Strength::Advisory);
    assert!(matches!(&eval.rule, Rule::Calls { deny, .. } if deny == &["eval"]));
    let pattern = set.find("pattern.functions.function_declaration").expect("there are functions");
    assert_eq!(pattern.description, "this TypeScript code uses function declaration (30 places in 1 file)");
    let with_eval = combine(&facts(&[("a.ts", &(many + "eval(x);"))]), &[]);
    assert!(with_eval.find("suggested.typescript.eval").is_none());
}

#[test]
fn the_order_of_files_does_not_matter() {
    let mut files = facts(&[
        ("a.py", PYTHON),
        ("b.py", "import os\nclass A:\n    x: int = 1\n"),
        ("c.ts", "interface A { b: string }"),
        ("d.rs", "use a::b; fn c() { d.unwrap(); }"),
        ("e.go", "package a\nimport \"fmt\"\n"),
        ("f.zig", "const std = @import(\"std\");"),
    ]);
    let manifests = [manifest(Language::Python, &["a"]), manifest(Language::Rust, &["b-c"])];
    let set = combine(&files, &manifests);
    files.reverse();
    assert_eq!(combine(&files, &manifests), set);
    files.swap(1, 4);
    assert_eq!(combine(&files, &[manifests[1].clone(), manifests[0].clone()]), set);
}

#[test]
fn facts_are_kept_and_read_back() {
    let generic = "type P<T> = { a: T; b: T };\ntype X = P<P<Date>>;\nfunction f() { return g('x'); }\n";
    for file in facts(&[("a.ts", generic), ("a.py", PYTHON)]) {
        let text = serde_json::to_string(&file).expect("plain data");
        let again: FileFacts = serde_json::from_str(&text).expect("what was written reads back");
        assert_eq!(again, file);
    }
}

#[test]
fn a_file_gives_no_more_constraints_than_the_limit() {
    let many: String = (0..3_000).map(|n| format!("def f{n}(a):\n    pass\n")).collect();
    let set = extract(&many, Language::Python, "a.py").expect("a small file");
    assert_eq!(set.constraints.len(), CONSTRAINTS_MAX);
    assert!(
        set.find("names.python.function").is_none() || set.find("pattern.functions.function_declaration").is_some()
    );
    assert!(set.diagnostics.iter().any(|diagnostic| diagnostic.message.contains("are left out")));
}
