//! A clash is a proof: no text, and no document, that was tried satisfies the rules it names, by engines of others.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::conflicts::{Clash, find};
use super::rule;
use crate::constraint::Rule;

/// All words of up to five letters from `abc`.
fn words() -> Vec<String> {
    let mut words = vec![String::new()];
    let mut at = 0;
    while at < words.len() && words[at].len() < 5 {
        let longer: Vec<String> = ["a", "b", "c"].iter().map(|letter| words[at].clone() + letter).collect();
        words.extend(longer);
        at += 1;
    }
    words
}

fn holds(rule: &Rule, text: &str) -> bool {
    let Ok(Value::Object(rule)) = serde_json::to_value(rule) else { return false };
    if let Some(max) = rule.get("max_chars").and_then(Value::as_u64) {
        return text.chars().count() as u64 <= max;
    }
    rule["any_of"].as_array().is_some_and(|any_of| match rule.get("match").and_then(Value::as_str) {
        None => !any_of.iter().any(|forbidden| text.contains(forbidden["text"].as_str().unwrap_or("?"))),
        Some(mode) => {
            let patterns: Vec<String> =
                any_of.iter().map(|one| format!("(?:{})", one["pattern"].as_str().unwrap_or("?"))).collect();
            let pattern = match mode {
                "full" => format!("^(?:{})$", patterns.join("|")),
                "prefix" => format!("^(?:{})", patterns.join("|")),
                _ => patterns.join("|"),
            };
            let regex = regex_automata::meta::Regex::new(&pattern).expect("a pattern");
            regex.is_match(text) != (mode == "absent")
        }
    })
}

fn text_rules() -> impl Strategy<Value = Vec<Rule>> {
    let leaf = prop::sample::select(vec!["a", "b", "c", "[ab]", "[^a]", "ab", "."]);
    let pattern = leaf.prop_map(str::to_owned).prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("{one}{two}")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("(?:{one}|{two})")),
            inner.clone().prop_map(|inner| format!("(?:{inner})*")),
            inner.clone().prop_map(|inner| format!("(?:{inner}){{2}}")),
            inner.prop_map(|inner| format!("^{inner}")),
        ]
    });
    let mode = prop::sample::select(vec!["full", "prefix", "contains", "absent"]);
    let any = prop_oneof![
        6 => (prop::collection::vec(pattern, 1..3), mode).prop_map(|(patterns, mode)| {
            let any_of: Vec<_> = patterns.iter().map(|pattern| json!({"pattern": pattern})).collect();
            json!({"type": "regex", "any_of": any_of, "match": mode})
        }),
        2 => prop::sample::select(vec!["a", "b", "ab", "ca"]).prop_map(|text| json!({"type": "forbidden_text", "any_of": [{"text": text}]})),
        1 => (0u32..5).prop_map(|max| json!({"type": "length", "max_chars": max})),
    ];
    prop::collection::vec(any.prop_map(rule), 1..6)
}

fn schemas() -> impl Strategy<Value = Vec<Value>> {
    let number = || prop::sample::select(vec![json!(0), json!(1), json!(2), json!(1.5), json!(3)]);
    let value = prop::sample::select(documents());
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "boolean", "integer", "number", "string", "array", "object"])
            .prop_map(|name| json!({"type": name})),
        value.clone().prop_map(|value| json!({"const": value})),
        prop::collection::vec(value, 1..4).prop_map(|values| json!({"enum": values})),
        (number(), number()).prop_map(|(min, max)| json!({"minimum": min, "maximum": max})),
        (number(), number())
            .prop_map(|(min, max)| json!({"exclusiveMinimum": min, "exclusiveMaximum": max, "type": "number"})),
        (0u32..3, 0u32..3).prop_map(|(min, max)| json!({"minLength": min, "maxLength": max, "type": "string"})),
        (0u32..3, 0u32..3).prop_map(|(min, max)| json!({"minItems": min, "maxItems": max})),
        prop::sample::select(vec!["^a", "b$", "^[ab]+$", "\\d"])
            .prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
        Just(json!({"required": ["x"]})),
        Just(json!({"not": {"type": "string"}})),
        any::<bool>().prop_map(Value::Bool),
    ];
    let schema = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone())
                .prop_map(|(x, y)| json!({"type": "object", "properties": {"x": x, "y": y}, "required": ["x"]})),
            inner
                .clone()
                .prop_map(|x| json!({"type": "object", "properties": {"x": x}, "additionalProperties": false})),
            inner.clone().prop_map(|other| json!({"additionalProperties": other, "required": ["y"]})),
            inner.clone().prop_map(|item| json!({"type": "array", "items": item, "minItems": 1})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|all| json!({"allOf": all})),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|any| json!({"anyOf": any})),
            inner.prop_map(|one| json!({"$ref": "#/$defs/d", "$defs": {"d": one}})),
        ]
    });
    prop::collection::vec(
        schema.prop_filter("references are to the root", |schema| {
            !schema.to_string()[1..].contains("$ref")
                || schema.get("$ref").is_some_and(|_| schema.to_string().matches("$ref").count() == 1)
        }),
        1..4,
    )
}

fn documents() -> Vec<Value> {
    let scalars = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(2),
        json!(3),
        json!(""),
        json!("a"),
        json!("ab"),
        json!("b"),
        json!("1"),
    ];
    let mut documents = scalars.to_vec();
    documents.extend([json!([]), json!({})]);
    for one in &scalars {
        documents.push(json!([one]));
        documents.push(json!({"x": one}));
        documents.push(json!({"x": one, "y": "a"}));
        documents.push(json!({"y": one}));
        documents.push(json!({"x": {"x": one}}));
        documents.push(json!([one, 1]));
    }
    documents
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_text_satisfies_rules_that_clash(rules in text_rules()) {
        for (number, Clash { with, why }) in find(&rules.iter().collect::<Vec<_>>()).clashes {
            let among: Vec<&Rule> = with.iter().chain([&number]).map(|number| &rules[*number]).collect();
            let witness = words().into_iter().find(|word| among.iter().all(|rule| holds(rule, word)));
            prop_assert!(witness.is_none(), "{:?} satisfies {:?} ({})", witness, among, why);
        }
    }

    #[test]
    fn no_document_satisfies_schemas_that_clash(schemas in schemas()) {
        let rules: Vec<Rule> = schemas.iter().map(|schema| Rule::JsonSchema { schema: schema.clone() }).collect();
        for (number, Clash { with, why }) in find(&rules.iter().collect::<Vec<_>>()).clashes {
            let among: Vec<_> = with.iter().chain([&number]).map(|number| &schemas[*number]).collect();
            let validators: Vec<_> = among.iter().map(|schema| jsonschema::validator_for(schema).expect("a schema")).collect();
            let witness = documents().into_iter().find(|value| validators.iter().all(|validator| validator.is_valid(value)));
            prop_assert!(witness.is_none(), "{:?} satisfies {:?} ({})", witness, among, why);
        }
    }

    #[test]
    fn no_document_is_shorter_than_is_said(schemas in schemas()) {
        for schema in schemas {
            let length = |max: usize| rule(json!({"type": "length", "max_chars": max}));
            let validator = jsonschema::validator_for(&schema).expect("a schema");
            let written = documents().into_iter().filter(|value| validator.is_valid(value)).map(|value| value.to_string());
            let Some(shortest) = written.map(|text| text.chars().count()).min() else { continue };
            let rules = [Rule::JsonSchema { schema: schema.clone() }, length(shortest)];
            prop_assert!(find(&rules.iter().collect::<Vec<_>>()).clashes.is_empty(), "{} in {}", schema, shortest);
        }
    }
}
