//! Tests that go through all query files.

use std::collections::{BTreeMap, BTreeSet};

use super::idiom::{ALL, Idiom};
use super::*;

/// An example of a pattern, and what is nearly one.
struct Example {
    name: &'static str,
    positive: &'static str,
    near_miss: &'static str,
}

fn examples(idiom: &Idiom) -> Vec<Example> {
    let text = match idiom.name {
        "TypeScript" => include_str!("../testdata/patterns/typescript.txt"),
        "Python" => include_str!("../testdata/patterns/python.txt"),
        "Rust" => include_str!("../testdata/patterns/rust.txt"),
        "Go" => include_str!("../testdata/patterns/go.txt"),
        "Zig" => include_str!("../testdata/patterns/zig.txt"),
        other => panic!("{other} has no examples"),
    };
    let example = |block: &'static str| {
        let (name, sources) = block.split_once('\n').expect("a name stands on its line");
        let (positive, near_miss) = sources.split_once("---\n").expect("an example has a near miss");
        Example { name, positive, near_miss }
    };
    text.split("=== ").skip(1).map(example).collect()
}

fn read(idiom: &'static Idiom, text: &str) -> FileCode {
    let tree = idiom.dialect.parse(text).expect("a few lines parse");
    Collector::new(idiom, SourceFile { text, name: "" }).read(&tree)
}

fn is_pattern(capture: &str) -> bool {
    let roles = ["import", "argument", "name", "signature", "value", "test", "doc"];
    capture.split_once('.').is_some_and(|(role, _)| !role.starts_with('_') && !roles.contains(&role))
}

#[test]
fn every_pattern_finds_its_example_and_not_the_near_miss() {
    let (mut num_patterns, mut distinct, mut categories) = (0, BTreeSet::new(), BTreeMap::<&str, usize>::new());
    let mut wrong = Vec::new();
    for idiom in ALL {
        let patterns: BTreeSet<&str> =
            idiom.dialect.capture_names().iter().copied().filter(|name| is_pattern(name)).collect();
        let examples = examples(idiom);
        let shown: BTreeSet<&str> = examples.iter().map(|example| example.name).collect();
        assert_eq!(patterns, shown, "{}: every pattern has an example, and every example a pattern", idiom.name);
        for example in examples {
            for (text, is_expected) in [(example.positive, true), (example.near_miss, false)] {
                let code = read(idiom, text);
                if code.facts.has_errors || code.patterns.contains_key(example.name) != is_expected {
                    wrong.push(format!("{} {}: {text}", idiom.name, example.name));
                }
            }
        }
        num_patterns += patterns.len();
        for pattern in patterns {
            distinct.insert(pattern);
            *categories.entry(pattern.split('.').next().unwrap_or_default()).or_default() += 1;
        }
    }
    assert!(wrong.is_empty(), "does not parse, or is found or not where it should not be:\n{}", wrong.join("\n"));
    println!("{num_patterns} patterns, {} distinct: {categories:?}", distinct.len());
    assert!(distinct.len() >= 60);
    assert_eq!(categories.len(), 8);
}
