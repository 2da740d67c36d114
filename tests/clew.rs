//! Clew against files: each case of `tests/data/clew` has a JSON file beside it that states the schemas, what is only
//! advisory, the diagnostics, and values that each type does and does not allow.
//!
//! `ANANKE_BLESS=1` writes what is extracted into the JSON files (values stay); read the difference before it stays.
#![allow(clippy::print_stdout, reason = "timings are printed for people")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ananke::braid::{self, CompileOptions};
use ananke::clew::{self, ClewError};
use ananke::constraint::{Constraint, ConstraintSet, Language, Rule, Strength};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Expected {
    #[serde(default)]
    instances: BTreeMap<String, Instances>,
    #[serde(default)]
    advisory: Vec<String>,
    #[serde(default)]
    diagnostics: Vec<String>,
    #[serde(default)]
    schemas: serde_json::Map<String, Value>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Instances {
    valid: Vec<Value>,
    invalid: Vec<Value>,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn cases() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(data().join("clew")).expect("the cases are in the repository");
    let mut cases: Vec<PathBuf> = folder
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| clew::language_of(path).is_some())
        .collect();
    cases.push(data().join("order.ts"));
    cases.sort();
    cases
}

fn extract_file(path: &Path) -> ConstraintSet {
    let source = std::fs::read_to_string(path).expect("a case is UTF-8");
    let name = path.file_name().and_then(|name| name.to_str()).expect("a case has a name");
    let language = clew::language_of(path).expect("a case has a language");
    clew::extract(&source, language, name).expect("the language is read")
}

fn schemas(set: &ConstraintSet) -> impl Iterator<Item = (&str, &Value)> {
    set.constraints.iter().filter_map(|constraint| match &constraint.rule {
        Rule::JsonSchema { schema } => Some((constraint.name.as_str(), schema)),
        _ => None,
    })
}

fn observed(set: &ConstraintSet, instances: BTreeMap<String, Instances>) -> Expected {
    let is_advisory_type = |constraint: &&Constraint| {
        constraint.strength == Strength::Advisory && matches!(constraint.rule, Rule::JsonSchema { .. })
    };
    let advisory = set.constraints.iter().filter(is_advisory_type);
    Expected {
        instances,
        advisory: advisory.map(|constraint| constraint.name.clone()).collect(),
        diagnostics: set
            .diagnostics
            .iter()
            .map(|diagnostic| format!("{}:{} {}", diagnostic.origin.line, diagnostic.origin.column, diagnostic.message))
            .collect(),
        schemas: schemas(set).map(|(name, schema)| (name.to_owned(), schema.clone())).collect(),
    }
}

#[test]
fn every_case_gives_the_schemas_and_diagnostics_beside_it() {
    for case in cases() {
        let beside = PathBuf::from(format!("{}.json", case.display()));
        let expected: Expected = match std::fs::read_to_string(&beside) {
            Ok(text) => serde_json::from_str(&text).expect("the file beside a case is well-formed"),
            Err(_) => Expected::default(),
        };
        let instances = serde_json::from_value(serde_json::to_value(&expected.instances).expect("plain data"));
        let observed = observed(&extract_file(&case), instances.expect("what was written reads back"));
        if std::env::var_os("ANANKE_BLESS").is_some() {
            let text = serde_json::to_string_pretty(&observed).expect("plain data") + "\n";
            std::fs::write(&beside, text).expect("the repository can be written");
            continue;
        }
        let text = |expected: &Expected| serde_json::to_string_pretty(expected).expect("plain data");
        assert_eq!(text(&observed), text(&expected), "{}", case.display());
    }
}

#[test]
fn schemas_accept_and_refuse_the_values_beside_each_case() {
    let mut num_checked = 0;
    for case in cases() {
        let set = extract_file(&case);
        let text = std::fs::read_to_string(format!("{}.json", case.display())).expect("every case is blessed");
        let expected: Expected = serde_json::from_str(&text).expect("the file beside a case is well-formed");
        for (name, instances) in expected.instances {
            let (_, schema) = schemas(&set).find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name}"));
            let validator = jsonschema::options().should_validate_formats(true).build(schema).expect("a valid schema");
            for value in &instances.valid {
                let error = validator.validate(value).err().map(|error| error.to_string());
                assert_eq!(error, None, "{}: {name} must accept {value}", case.display());
            }
            for value in &instances.invalid {
                assert!(!validator.is_valid(value), "{}: {name} must refuse {value}", case.display());
            }
            num_checked += instances.valid.len() + instances.invalid.len();
        }
    }
    assert!(num_checked > 100, "only {num_checked} values checked");
}

#[test]
fn llguidance_compiles_every_schema() {
    let vocabulary = toktrie::ApproximateTokEnv::single_byte_env();
    let factory = llguidance::ParserFactory::new_simple(&vocabulary).expect("bytes are a vocabulary");
    for case in cases() {
        for (name, schema) in schemas(&extract_file(&case)) {
            let grammar = llguidance::api::TopLevelGrammar::from_json_schema(schema.clone());
            if let Err(error) = factory.create_parser(grammar) {
                panic!("{}: {name}: {error}\n{schema:#}", case.display());
            }
        }
    }
}

#[test]
fn depends_on_names_constraints_of_the_same_set() {
    for case in cases() {
        let set = extract_file(&case);
        for constraint in &set.constraints {
            for id in &constraint.depends_on {
                assert!(set.constraints.iter().any(|other| other.id == *id), "{}: {id}", constraint.name);
            }
            // A habit of all files has no place of its own.
            assert!(constraint.origin.as_ref().is_none_or(|origin| origin.line > 0 && origin.column > 0));
        }
    }
}

#[test]
fn nesting_without_end_neither_overflows_nor_hangs() {
    const DEPTH: usize = 100_000;
    let nested = |open: &str, close: &str| open.repeat(DEPTH) + close.repeat(DEPTH).as_str();
    let sources = [
        (Language::Typescript, format!("type A = {};", nested("[", "]"))),
        (Language::Typescript, format!("type A = {};", nested("(", ")"))),
        (Language::Typescript, format!("type A = {}", "{a:".repeat(DEPTH))),
        (Language::Typescript, format!("type A = {};", nested("Array<", ">"))),
        (Language::Typescript, format!("type A = {};", vec!["B"; DEPTH].join(" | "))),
        (Language::Typescript, format!("type A = string{};", "[]".repeat(DEPTH))),
        (Language::Typescript, format!("enum A {{ X = {}1{} }}", "(".repeat(DEPTH), ")".repeat(DEPTH))),
        (Language::Typescript, nested("[", "]")),
        (Language::Typescript, format!("const a = [{}];", ",".repeat(DEPTH))),
        (Language::Rust, format!("#[derive(Deserialize)] struct A {{ a: {} }}", nested("Vec<", ">"))),
        (Language::Rust, format!("type A = {};", nested("(", ",)"))),
        (Language::Rust, nested("mod a {", "}")),
        (Language::Rust, nested("mod a { struct B; ", "}")),
        (Language::Rust, format!("use {}a{};", "b::{".repeat(DEPTH), "}".repeat(DEPTH))),
        (Language::Rust, format!("#[serde{}] struct A;", nested("(a", ")"))),
        (Language::Rust, "#[serde(default)]\n".repeat(DEPTH) + "struct A { a: u8 }"),
        (Language::Rust, "struct A { a: u8 }\n".repeat(DEPTH)),
        (Language::Go, format!("package a\ntype A {}int\n", "[]".repeat(DEPTH))),
        (Language::Go, format!("package a\ntype A {}int\n", "map[string]".repeat(DEPTH))),
        (Language::Go, format!("package a\ntype A {}\n", nested("struct { a ", "}"))),
        (Language::Go, format!("package a\ntype A int\nconst B A = {}\n", nested("(", ")"))),
        (Language::Go, format!("package a\ntype A int\nconst B A = 1{}\n", " + 1".repeat(DEPTH))),
        (Language::Go, "package a\n".to_owned() + &"// a\ntype A struct { B int `json:\"b\"` }\n".repeat(DEPTH / 4)),
        (Language::Zig, format!("const A = {}u8;", "?".repeat(DEPTH))),
        (Language::Zig, format!("const A = {}u8;", "[]".repeat(DEPTH))),
        (Language::Zig, nested("const A = struct { a: u8, ", "};")),
        (Language::Zig, format!("const A = struct {{ a: {} }};", nested("struct { a: ", "}"))),
        (Language::Zig, format!("const A = a{};", ".b".repeat(DEPTH))),
        (Language::Zig, format!("const A = {};", nested("B(", ")"))),
        (Language::Python, "(".repeat(DEPTH)),
        (Language::Python, nested("[", "]")),
        (Language::Python, format!("A = Optional{}", nested("[", "]"))),
        (
            Language::Python,
            format!(
                "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: {}int{}\n",
                "list[".repeat(DEPTH),
                "]".repeat(DEPTH)
            ),
        ),
        (
            Language::Python,
            format!(
                "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: {}\n",
                vec!["int"; DEPTH].join(" | ")
            ),
        ),
    ];
    for (number, (language, source)) in sources.into_iter().enumerate() {
        let started = Instant::now();
        let set = clew::extract(&source, language, "deep").expect("below the size limit");
        assert!(started.elapsed().as_secs() < 10, "source {number} takes {:?}", started.elapsed());
        println!("source {number}: {} constraints, {:?}", set.constraints.len(), started.elapsed());
        assert!(set.constraints.iter().all(|constraint| !constraint.id.is_empty()));
    }
}

#[test]
fn types_that_multiply_stay_within_the_budget() {
    let mut doubling = String::from("type T0 = { a: string };\n");
    for n in 1..60 {
        doubling += &format!("type T{n} = Partial<T{0}> & {{ l{n}: Partial<T{0}>, r{n}: Partial<T{0}> }};\n", n - 1);
    }
    let generic = "type D<T> = [T, T];\ntype X = ".to_owned() + &"D<".repeat(50) + "string" + &">".repeat(50) + ";";
    let long: String =
        (0..20_000).map(|n| format!("interface I{n} {{ next: I{} | null }}\n", (n + 1) % 20_000)).collect();
    for source in [doubling, generic, long] {
        let started = Instant::now();
        let set = clew::extract(&source, Language::Typescript, "big.ts").expect("below the size limit");
        println!("{} bytes: {} constraints, {:?}", source.len(), set.constraints.len(), started.elapsed());
        assert!(set.constraints.len() <= clew::CONSTRAINTS_MAX);
        assert!(!set.diagnostics.is_empty(), "what is left out is said");
    }
}

#[test]
fn a_type_compiles_in_under_2_ms() {
    let set = extract_file(&data().join("order.ts"));
    let options = CompileOptions::default();
    let run = || braid::compile(&set, &options).expect("Order is the only root").ir;
    assert_eq!(run().name, "Order");
    let mut times: Vec<_> = (0..51)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed()
        })
        .collect();
    times.sort();
    println!("compile: median {:?}, max {:?}", times[25], times[50]);
    assert!(times[25].as_micros() < 2_000, "median {:?}", times[25]);
}

#[test]
fn a_source_over_the_limit_is_a_typed_error() {
    let large = " ".repeat(clew::SOURCE_BYTES_MAX + 1);
    assert_eq!(
        clew::extract(&large, Language::Python, "a.py"),
        Err(ClewError::TooLarge { size: large.len(), limit: clew::SOURCE_BYTES_MAX })
    );
}

#[test]
fn languages_go_by_extension() {
    for (name, language) in [
        ("a/b.ts", Some(Language::Typescript)),
        ("b.d.ts", Some(Language::Typescript)),
        ("b.tsx", Some(Language::Typescript)),
        ("b.pyi", Some(Language::Python)),
        ("b.zig", Some(Language::Zig)),
        ("b.mjs", Some(Language::Typescript)),
        ("README", None),
        ("b.txt", None),
    ] {
        assert_eq!(clew::language_of(Path::new(name)), language, "{name}");
    }
}

#[test]
fn a_file_of_75_lines_takes_under_4_ms() {
    let read = |name: &str| std::fs::read_to_string(data().join("clew").join(name)).expect("a case is UTF-8");
    let source = read("objects.ts") + &read("unions.ts");
    assert!(source.lines().count() >= 75);
    let run = || clew::extract(&source, Language::Typescript, "order.ts").expect("TypeScript is read");
    run();
    let mut times: Vec<_> = (0..51)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed()
        })
        .collect();
    times.sort();
    println!("{} lines: median {:?}, max {:?}", source.lines().count(), times[25], times[50]);
    assert!(times[25].as_micros() < 4_000, "median {:?}", times[25]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_sources_never_panic_and_give_the_same_set_twice(
        case in 0_usize..64,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..12),
    ) {
        let cases = cases();
        let path = &cases[case % cases.len()];
        let mut bytes = std::fs::read(path).expect("a case can be read");
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len().max(1));
            match edit {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if at < bytes.len() => { bytes.remove(at); }
                _ => bytes.truncate(bytes.len() - at.min(bytes.len()) / 4),
            }
        }
        let source = String::from_utf8_lossy(&bytes);
        let language = clew::language_of(path).expect("a case has a language");
        let once = clew::extract(&source, language, "mutated").expect("below the size limit");
        let twice = clew::extract(&source, language, "mutated").expect("below the size limit");
        prop_assert_eq!(once, twice);
    }
}
