//! Every constraint ends in exactly one place, whatever the set, and the order of the set changes nothing.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::super::{BraidError, CompileOptions, Compiled, Fate, cycles, explain};
use super::{everything, rule, set, stated};
use crate::constraint::{Constraint, ConstraintSet, Kind, Origin, Priority, Rule, Severity, Source, Strength};

/// Rules of all kinds that need no language grammar, many of which contradict each other.
fn rules() -> impl proptest::strategy::Strategy<Value = Rule> {
    let word = || prop::sample::select(vec!["a", "ab", "[a-c]{2}", "[0-9]+", "x|y", "^b", "(?i)AB", "("]);
    let mode = prop::sample::select(vec!["full", "prefix", "contains", "absent"]);
    let ids = || prop::collection::btree_set(0u32..6, 0..4);
    let text = || prop::sample::select(vec!["a", "ab", "key", "1", "zz"]);
    let schema = prop::sample::select(vec![
        json!({"type": "object", "required": ["key"]}),
        json!({"type": "string"}),
        json!({"enum": ["a", "ab", 1]}),
        json!({"const": "zz"}),
        json!({"type": "integer", "minimum": 4}),
        json!({"maximum": 3}),
        json!(false),
    ]);
    prop_oneof![
        (word(), mode).prop_map(|(word, mode)| json!({"type": "regex", "any_of": [{"pattern": word}], "match": mode})),
        prop::collection::vec((text(), any::<bool>()), 0..3).prop_map(|texts| {
            let texts: Vec<_> =
                texts.into_iter().map(|(text, word)| json!({"text": text, "whole_word": word})).collect();
            json!({"type": "forbidden_text", "any_of": texts})
        }),
        (prop::option::of(ids()), prop::option::of(ids()))
            .prop_map(|(allow, deny)| json!({"type": "tokens", "allow": allow, "deny": deny})),
        (prop::option::of(0u32..4), prop::option::of(0u32..12))
            .prop_map(|(tokens, chars)| json!({"type": "length", "max_tokens": tokens, "max_chars": chars})),
        schema.prop_map(|schema| json!({"type": "json_schema", "schema": schema})),
        text().prop_map(
            |text| json!({"type": "grammar", "grammar": {"syntax": "lark", "source": format!("start: {text:?}")}})
        ),
        text().prop_map(|text| json!({"type": "bias", "text": text, "bias": 1.0})),
        text().prop_map(|text| json!({"type": "prose", "text": text})),
    ]
    .prop_map(rule)
}

fn constraints() -> impl proptest::strategy::Strategy<Value = Vec<Constraint>> {
    let constraint = (
        rules(),
        prop::sample::select(vec![Source::UserDefined, Source::AstPattern, Source::Documentation, Source::TypeSystem]),
        prop::sample::select(vec![Severity::Hint, Severity::Warning, Severity::Error]),
        prop::sample::select(vec![Priority::Low, Priority::High]),
        prop::sample::select(vec![Strength::Hard, Strength::Hard, Strength::Soft, Strength::Advisory]),
        prop::option::of(1u32..4),
        (0u8..3, any::<bool>(), prop::option::weighted(0.3, any::<prop::sample::Index>())),
    );
    prop::collection::vec(constraint, 0..14).prop_map(|drawn| {
        let mut all: Vec<Constraint> = Vec::new();
        for (rule, source, severity, priority, strength, line, (confidence, is_syntactic, depends_on)) in drawn {
            let origin = line.map(|line| Origin { file: "a.py".to_owned(), line, column: 1 });
            let kind = if is_syntactic { Kind::Syntactic } else { Kind::Semantic };
            let confidence = f32::from(confidence) / 2.0;
            let name = format!("{} {}", rule.type_name(), all.len());
            let depends_on = depends_on.filter(|_| !all.is_empty()).map(|index| index.get(&all).id.clone());
            let depends_on = depends_on.into_iter().collect();
            let known = stated(&name, rule);
            all.push(Constraint {
                source,
                kind,
                severity,
                priority,
                strength,
                confidence,
                origin,
                depends_on,
                ..known
            });
        }
        all
    })
}

fn compile(constraints: Vec<Constraint>) -> Result<(ConstraintSet, Compiled), BraidError> {
    let set = set(constraints);
    // With a type to be the root, if there is one.
    let compiled = super::compile(&set, &CompileOptions::default()).or_else(|error| match error {
        BraidError::SeveralRoots { names } => {
            super::compile(&set, &CompileOptions { root_type: names.into_iter().next(), ..CompileOptions::default() })
        }
        error => Err(error),
    })?;
    Ok((set, compiled))
}

fn shuffled(constraints: &[Constraint], seed: u64) -> Vec<Constraint> {
    let mut all: Vec<Constraint> = constraints.to_vec();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for at in (1..all.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.swap(at, (state % (at as u64 + 1)) as usize);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_constraint_has_one_fate(constraints in constraints()) {
        match compile(constraints.clone()) {
            Ok((set, compiled)) => {
                let Compiled { ir, .. } = &compiled;
                let with = |strength| ir.sources.iter().filter(move |source| source.strength == strength).map(|source| source.id.as_str());
                let places: [BTreeSet<&str>; 5] = [
                    with(Strength::Hard).collect(),
                    with(Strength::Soft).collect(),
                    ir.advisory.iter().map(|one| one.id.as_str()).collect(),
                    ir.lost.iter().map(|one| one.id.as_str()).collect(),
                    ir.not_applied.iter().map(|one| one.id.as_str()).collect(),
                ];
                let ids: BTreeSet<String> = set.constraints.iter().map(|constraint| Constraint::id_of(&constraint.rule)).collect();
                for id in &ids {
                    let num_places = places.iter().filter(|place| place.contains(id.as_str())).count();
                    prop_assert_eq!(num_places, 1, "{}", id);
                }
                prop_assert_eq!(places.iter().map(BTreeSet::len).sum::<usize>(), ids.len());
                let explanation = explain(&set, &compiled);
                prop_assert_eq!(explanation.constraints.len(), ids.len());
                // What is stated never yields.
                let stated = |id: &str| set.constraints.iter().any(|one| one.id == id && one.source == Source::UserDefined && one.strength == Strength::Hard);
                prop_assert!(!ir.lost.iter().any(|lost| stated(&lost.id)));
            }
            Err(BraidError::Conflicts { conflicts }) => prop_assert!(!conflicts.is_empty()),
            Err(BraidError::AdvisoryRoot { .. } | BraidError::SameName { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn order_changes_nothing(constraints in constraints(), seed: u64) {
        let (one, two) = (compile(constraints.clone()), compile(shuffled(&constraints, seed)));
        match (one, two) {
            (Ok((set, one)), Ok((turned, two))) => {
                prop_assert_eq!(&one, &two);
                prop_assert_eq!(explain(&set, &one), explain(&turned, &two));
            }
            (one, two) => prop_assert_eq!(one.map(|_| ()), two.map(|_| ())),
        }
    }

    #[test]
    fn what_is_left_clashes_no_more(mut constraints in constraints()) {
        // Without a type that lost, another one would be the root.
        constraints.retain(|one| one.source != Source::TypeSystem);
        constraints.iter_mut().for_each(|one| one.depends_on.clear());
        if let Ok((set, compiled)) = compile(constraints) {
            let lost: BTreeSet<_> = compiled.ir.lost.iter().map(|lost| lost.id.clone()).collect();
            let left = set.constraints.into_iter().filter(|one| !lost.contains(&one.id)).collect();
            if let Ok((_, again)) = compile(left) {
                prop_assert!(again.ir.lost.is_empty(), "{:?}", again.ir.lost);
            }
        }
    }
}

/// A set with conflicts of each kind, suggestions aside.
fn contested() -> Vec<Constraint> {
    let mut all = everything();
    let mined = |name: &str, value| Constraint { source: Source::AstPattern, ..stated(name, rule(value)) };
    all.extend([
        mined("digits", json!({"type": "regex", "any_of": [{"pattern": "[0-9]{4}"}], "match": "full"})),
        mined("é", json!({"type": "regex", "any_of": [{"pattern": "é"}], "match": "contains"})),
        mined("list", json!({"type": "json_schema", "schema": {"type": "array"}})),
        mined("other grammar", json!({"type": "grammar", "grammar": {"syntax": "lark", "source": "start: \"b\""}})),
        mined("ids", json!({"type": "tokens", "allow": [8]})),
        Constraint {
            strength: Strength::Soft,
            ..stated("habit", rule(json!({"type": "forbidden_text", "any_of": [{"text": "var "}]})))
        },
        Constraint {
            strength: Strength::Soft,
            ..mined("calls", json!({"type": "calls", "deny": ["eval", ".unwrap"]}))
        },
    ]);
    all
}

#[test]
fn a_thousand_shuffles_give_one_digest() {
    let all = contested();
    let (_, compiled) = compile(all.clone()).expect("it compiles");
    assert!(compiled.ir.lost.len() >= 4, "{:?}", compiled.ir.lost);
    for seed in 0..1_000 {
        let (_, other) = compile(shuffled(&all, seed)).expect("it compiles in any order");
        assert_eq!(other.ir.digest, compiled.ir.digest, "seed {seed}");
        assert_eq!(other.order, compiled.order);
    }
}

#[test]
fn an_explanation_reads_well() {
    let (set, compiled) = compile(contested()).expect("it compiles");
    let explanation = explain(&set, &compiled);
    let of = |name: &str| &explanation.constraints.iter().find(|one| one.name == name).expect("it is in the set").fate;
    assert_eq!(
        *of("no eval"),
        Fate::Enforced { parts: vec!["forbidden_text[0]".to_owned(), "forbidden_text[1]".to_owned()] }
    );
    assert!(matches!(of("habit"), Fate::Soft { parts } if parts.len() == 1));
    // Counted in code, where the output is a value of a type.
    assert!(matches!(of("calls"), Fate::NotApplied { .. }));
    assert!(matches!(of("digits"), Fate::Lost { .. }));
    assert!(matches!(of("Item"), Fate::NotApplied { .. }));
    assert!(matches!(of("hint"), Fate::Advisory { .. }));
    let text = explanation.to_string();
    assert!(text.contains("other grammar") && text.contains("is stated as hard, which never yields"), "{text}");
    let json = serde_json::to_value(&explanation).expect("plain data");
    assert_eq!(json["constraints"].as_array().map(Vec::len), Some(set.constraints.len()));
}

#[test]
fn soft_rules_become_biases() {
    let soft = |value| Constraint { strength: Strength::Soft, confidence: 0.5, ..stated("soft", rule(value)) };
    let bias = |value| {
        let (_, compiled) = compile(vec![soft(value)]).expect("it compiles");
        compiled
            .ir
            .soft
            .into_iter()
            .map(|soft| (soft.text.or(soft.regex).unwrap_or_default(), soft.bias))
            .collect::<Vec<_>>()
    };
    let one = |pattern: &str, weight: f32| vec![(pattern.to_owned(), weight)];
    let regex = |mode: &str| json!({"type": "regex", "any_of": [{"pattern": "a.b", "flags": "is"}], "match": mode});
    assert_eq!(bias(regex("absent")), one("(?is:a.b)", -1.5));
    assert_eq!(bias(regex("contains")), one("(?is:a.b)", 1.5));
    assert_eq!(bias(regex("full")), []);
    assert_eq!(bias(json!({"type": "forbidden_text", "any_of": [{"text": "any"}]})), one("any", -1.5));
    let word = json!({"type": "forbidden_text", "any_of": [{"text": "a.b", "whole_word": true, "ignore_case": true}]});
    assert_eq!(bias(word), one(r"(?-u:\b)(?i:a\.b)(?-u:\b)", -1.5));
    let calls = json!({"type": "calls", "deny": ["eval", ".unwrap"]});
    assert_eq!(bias(calls), one(r"(?:(?-u:\b)eval|\.unwrap)\(", -1.5));
    let names = json!({"type": "names", "language": "python", "declaration": "function", "convention": "snake_case"});
    let [(pattern, _)] = &bias(names)[..] else { panic!("one bias") };
    let pattern = regex_automata::meta::Regex::new(pattern).expect("a pattern");
    assert!(
        pattern.is_match("def readLines(") && !pattern.is_match("def read_lines(") && !pattern.is_match("undef aB")
    );
    assert_eq!(bias(json!({"type": "names", "declaration": "function", "convention": "snake_case"})), []);
}

#[test]
fn what_is_implied_comes_first_whatever_is_stated() {
    let language = json!({"type": "language", "language": "python", "granularity": "file"});
    let gentle = |name: &str, priority, value| Constraint {
        strength: Strength::Advisory,
        priority,
        ..stated(name, rule(value))
    };
    let all = vec![
        gentle(
            "names",
            Priority::Critical,
            json!({"type": "names", "declaration": "function", "convention": "snake_case"}),
        ),
        gentle("signature", Priority::High, json!({"type": "signature", "signature": "def f():"})),
        gentle("python", Priority::Low, language),
    ];
    let (set, compiled) = compile(all.clone()).expect("it compiles");
    let names: Vec<_> = explain(&set, &compiled).constraints.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["python", "signature", "names"]);

    // What is stated to be the other way round makes a circle, which is reported; what was stated decides.
    let mut turned = all;
    turned[2].depends_on = vec![turned[0].id.clone()];
    let (set, compiled) = compile(turned.clone()).expect("a circle is no error");
    assert_eq!(compiled.cycles, [["names", "python", "signature"]]);
    assert_eq!(cycles(&set).expect("the set is closed"), compiled.cycles);
    let names: Vec<_> = explain(&set, &compiled).constraints.into_iter().map(|one| one.name).collect();
    let place = |name: &str| names.iter().position(|other| other == name);
    assert!(place("names") < place("python"), "{names:?}");
}
