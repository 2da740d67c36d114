//! Which rules contradict each other: each case as JSON rules, strongest first, and who clashes with whom.

use serde_json::{Value, json};

use super::super::conflicts::{Clash, find};
use super::rule;
use crate::constraint::Rule;

fn clashes(rules: &[Value]) -> Vec<(usize, Vec<usize>)> {
    let rules: Vec<Rule> = rules.iter().cloned().map(rule).collect();
    let findings = find(&rules.iter().collect::<Vec<_>>());
    findings.clashes.into_iter().map(|(number, Clash { with, .. })| (number, with)).collect()
}

/// Checks who clashes with whom, and that two rules clash whichever is the stronger.
fn check(rules: Value, expected: &[(usize, &[usize])]) {
    let rules = rules.as_array().expect("a list of rules").clone();
    let expected: Vec<_> = expected.iter().map(|(number, with)| (*number, with.to_vec())).collect();
    assert_eq!(clashes(&rules), expected, "{}", json!(rules));
    if let [one, two] = &rules[..] {
        assert_eq!(clashes(&[two.clone(), one.clone()]).is_empty(), expected.is_empty(), "turned: {one} {two}");
    }
}

const PAIR: &[(usize, &[usize])] = &[(1, &[0])];

fn regex(pattern: &str, mode: &str) -> Value {
    json!({"type": "regex", "any_of": [{"pattern": pattern}], "match": mode})
}

fn forbidden(texts: &[&str]) -> Value {
    json!({"type": "forbidden_text", "any_of": texts.iter().map(|text| json!({"text": text})).collect::<Vec<_>>()})
}

fn schema(schema: Value) -> Value {
    json!({"type": "json_schema", "schema": schema})
}

#[test]
fn regexes_clash_where_no_text_is_left() {
    check(json!([regex("[a-z]+", "full"), regex("[0-9]+", "full")]), PAIR);
    check(json!([regex("[a-z]+", "full"), regex("[a-f0-9]+", "full")]), &[]);
    check(json!([regex("ab", "prefix"), regex("ac", "prefix")]), PAIR);
    check(json!([regex("a+", "prefix"), regex("aab", "prefix")]), &[]);
    check(json!([regex("[a-z ]*", "full"), regex("[0-9]", "contains")]), PAIR);
    check(json!([regex("x", "contains"), regex("y", "contains")]), &[]);
    check(json!([regex("[0-9]{3}", "contains"), regex("[0-9]", "absent")]), PAIR);
    check(json!([regex("[a-z]{3}", "contains"), regex("aaa", "absent")]), &[]);
    check(json!([regex("a|b", "full"), regex("a", "absent"), regex("b", "absent")]), &[(2, &[0, 1])]);
    check(json!([regex("^a", "contains"), regex("^b", "contains")]), PAIR);
    check(json!([regex("^a", "contains"), regex("b", "prefix")]), PAIR);
    check(json!([regex("(?i)HELLO", "full"), regex("hello", "full")]), &[]);
    check(json!([regex("[^\\s\\S]", "full")]), &[(0, &[])]);
}

#[test]
fn regexes_clash_with_forbidden_text() {
    check(json!([regex("SELECT .*", "full"), forbidden(&["SELECT"])]), PAIR);
    check(json!([regex("(SELECT|VALUES) .*", "full"), forbidden(&["SELECT"])]), &[]);
    let word = json!({"type": "forbidden_text", "any_of": [{"text": "drop", "whole_word": true, "ignore_case": true}]});
    check(json!([regex("DROP TABLE", "prefix"), word]), PAIR);
    check(json!([regex("DROPLET", "prefix"), word]), &[]);
    check(json!([regex("DROP", "contains"), word]), &[]);
    let pattern = json!({"type": "forbidden_text", "any_of": [{"regex": "[0-9]{2}"}]});
    check(json!([regex("[0-9]{4}", "contains"), pattern]), PAIR);
    let document = json!({"type": "forbidden_text", "any_of": [{"text": "a", "scope": "document"}]});
    check(json!([regex("a", "full"), document]), &[]);
}

#[test]
fn schemas_clash_where_no_document_is_left() {
    let clash = |one: Value, two: Value| check(json!([schema(one), schema(two)]), PAIR);
    let meet = |one: Value, two: Value| check(json!([schema(one), schema(two)]), &[]);
    clash(json!({"type": "string"}), json!({"type": "object"}));
    meet(json!({"type": ["string", "null"]}), json!({"type": ["object", "null"]}));
    meet(json!({"type": "number"}), json!({"type": "integer"}));
    clash(json!({"const": 1}), json!({"const": 2}));
    meet(json!({"const": 1}), json!({"const": 1.0}));
    clash(json!({"enum": ["a", "b"]}), json!({"enum": ["c"]}));
    clash(json!({"enum": ["a", "b"]}), json!({"type": "string", "minLength": 2}));
    clash(json!({"type": "integer", "minimum": 5}), json!({"maximum": 4}));
    clash(json!({"type": "integer", "exclusiveMinimum": 4}), json!({"exclusiveMaximum": 5}));
    meet(json!({"type": "number", "exclusiveMinimum": 4}), json!({"exclusiveMaximum": 5}));
    clash(json!({"type": "number", "minimum": 4}), json!({"exclusiveMaximum": 4}));
    clash(json!({"type": "string", "maxLength": 3}), json!({"minLength": 4}));
    clash(json!({"type": "array", "minItems": 2}), json!({"maxItems": 1}));
    clash(json!({"type": "string", "pattern": "^[a-z]+$"}), json!({"pattern": "^\\d+$"}));
    meet(json!({"type": "string", "pattern": "[a-z]"}), json!({"pattern": "\\d"}));
    clash(
        json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false}),
        json!({"type": "object", "required": ["b"]}),
    );
    meet(
        json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false}),
        json!({"type": "object", "properties": {"b": {}}}),
    );
    let of = |inner: Value| json!({"type": "object", "properties": {"p": {"type": "object", "properties": {"q": inner}, "required": ["q"]}}, "required": ["p"]});
    clash(of(json!({"type": "string"})), of(json!({"type": "null"})));
    meet(of(json!({"type": "string"})), json!({"type": "object", "properties": {"p": {"type": "object"}}}));
    clash(
        json!({"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}}),
        json!({"anyOf": [{"type": "null"}, {"type": "boolean"}]}),
    );
    clash(json!({"anyOf": [{"const": "a"}, {"const": "b"}]}), json!({"type": "string", "pattern": "^c"}));
    // What is not known says nothing.
    meet(json!({"not": {"type": "string"}}), json!({"type": "string"}));
    meet(json!({"type": "string", "pattern": "^\\p{L}$"}), json!({"pattern": "^(?=a)b$"}));
    let endless = json!({"$ref": "#"});
    meet(endless.clone(), json!({"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}));
}

#[test]
fn a_schema_alone_can_be_empty() {
    check(json!([schema(json!(false))]), &[(0, &[])]);
    check(json!([schema(json!({"enum": []}))]), &[(0, &[])]);
    check(json!([schema(json!({"type": "string", "minLength": 2, "maxLength": 1}))]), &[(0, &[])]);
    check(json!([schema(json!({"required": ["a"], "properties": {"a": false}}))]), &[]);
    check(json!([schema(json!({"type": "object", "required": ["a"], "properties": {"a": false}}))]), &[(0, &[])]);
    check(json!([schema(json!({"type": "number", "minimum": 0.1, "maximum": 0.2}))]), &[]);
    check(json!([schema(json!({"type": "integer", "minimum": 0.1, "maximum": 0.2}))]), &[(0, &[])]);
}

#[test]
fn three_schemas_that_meet_in_pairs_can_be_empty() {
    let one_of = |values: &[u32]| schema(json!({"enum": values}));
    check(json!([one_of(&[1, 2]), one_of(&[2, 3]), one_of(&[1, 3])]), &[(2, &[0, 1])]);
}

#[test]
fn schemas_clash_with_text() {
    check(json!([schema(json!({"type": "object"})), regex("[a-z]+", "full")]), PAIR);
    check(json!([schema(json!({"type": "object"})), regex("\\s*\\{", "prefix")]), &[]);
    let kind = |value: Value| schema(json!({"type": "object", "properties": {"kind": value}, "required": ["kind"]}));
    check(json!([kind(json!({"const": "drop table"})), forbidden(&["drop"])]), PAIR);
    check(json!([kind(json!({"enum": ["drop", "raindrop"]})), forbidden(&["drop"])]), PAIR);
    check(json!([kind(json!({"enum": ["drop", "keep"]})), forbidden(&["drop"])]), &[]);
    check(
        json!([kind(json!({"enum": ["drop", "keep"]})), forbidden(&["drop"]), forbidden(&["keep"])]),
        &[(2, &[0, 1])],
    );
    check(json!([kind(json!({})), forbidden(&["kind"])]), PAIR);
    // An escape may spell it differently where only a pattern is absent.
    check(json!([kind(json!({"const": "drop"})), regex("drop", "absent")]), &[]);
}

#[test]
fn lists_clash_where_nothing_is_left() {
    let imports = |value: Value| {
        let mut rule = json!({"type": "imports"});
        rule.as_object_mut().expect("an object").extend(value.as_object().expect("an object").clone());
        rule
    };
    check(json!([imports(json!({"allow": ["fs"]})), imports(json!({"deny": ["fs"]}))]), PAIR);
    check(json!([imports(json!({"allow": ["net/http"]})), imports(json!({"deny": ["net"]}))]), PAIR);
    check(json!([imports(json!({"allow": ["fs", "path"]})), imports(json!({"deny": ["fs"]}))]), &[]);
    check(
        json!([
            imports(json!({"allow": ["fs", "path"]})),
            imports(json!({"deny": ["fs"]})),
            imports(json!({"deny": ["path"]}))
        ]),
        &[(2, &[0, 1])],
    );
    check(json!([imports(json!({"allow": ["fs"]})), imports(json!({"allow": ["path"]}))]), PAIR);
    check(json!([imports(json!({"allow": []})), imports(json!({"allow": ["path"]}))]), &[]);
    check(
        json!([
            imports(json!({"allow": ["a", "b"]})),
            imports(json!({"allow": ["b", "c"]})),
            imports(json!({"allow": ["a", "c"]}))
        ]),
        &[(2, &[0, 1])],
    );
    check(
        json!([
            imports(json!({"allow": ["os"], "language": "python"})),
            imports(json!({"deny": ["os"], "language": "go"}))
        ]),
        &[],
    );
    check(json!([imports(json!({"allow": ["os"], "language": "python"})), imports(json!({"deny": ["os"]}))]), PAIR);
    check(json!([imports(json!({"allow": ["os"], "deny": ["os"]}))]), &[(0, &[])]);
    check(json!([imports(json!({"allow": ["evil"]})), forbidden(&["evil"])]), PAIR);

    check(json!([{"type": "tokens", "allow": [1, 2]}, {"type": "tokens", "allow": [3]}]), PAIR);
    check(json!([{"type": "tokens", "allow": [1, 2]}, {"type": "tokens", "deny": [1, 2]}]), PAIR);
    check(json!([{"type": "tokens", "allow": [1, 2]}, {"type": "tokens", "deny": [1]}]), &[]);
}

#[test]
fn what_is_taken_away_but_not_all_is_noted() {
    let rules: Vec<Rule> = [
        json!({"type": "imports", "allow": ["fs", "path"]}),
        json!({"type": "imports", "deny": ["fs"]}),
        schema(json!({"enum": ["drop", "keep"]})),
        forbidden(&["drop"]),
    ]
    .into_iter()
    .map(rule)
    .collect();
    let findings = find(&rules.iter().collect::<Vec<_>>());
    assert!(findings.clashes.is_empty());
    let whys: Vec<_> = findings.notes.iter().map(|note| note.why.as_str()).collect();
    assert_eq!(whys, ["module `fs` is denied", "\"drop\" is forbidden"]);
}

#[test]
fn rules_about_code_clash() {
    let names = |convention: &str| json!({"type": "names", "declaration": "function", "convention": convention});
    check(json!([names("snake_case"), names("camel_case")]), PAIR);
    check(json!([names("snake_case"), names("snake_case")]), &[]);
    let types = json!({"type": "names", "declaration": "type", "convention": "pascal_case"});
    check(json!([names("snake_case"), types]), &[]);
    let only = |allow: &[&str]| json!({"type": "names", "declaration": "function", "allow": allow});
    check(json!([names("snake_case"), only(&["readLines"])]), PAIR);
    check(json!([names("snake_case"), only(&["readLines", "read"])]), &[]);
    check(json!([only(&["a_secret", "secret_b"]), forbidden(&["secret"])]), PAIR);

    let calls = |field: &str, name: &str| json!({"type": "calls", field: [name]});
    check(json!([calls("require", "eval"), calls("deny", "eval")]), PAIR);
    check(json!([calls("require", "value.unwrap"), calls("deny", ".unwrap")]), PAIR);
    check(json!([calls("require", "unwrap"), calls("deny", "value.unwrap")]), &[]);
    check(json!([calls("require", "evaluate"), forbidden(&["eval"])]), PAIR);

    let signature = |text: &str| json!({"type": "signature", "signature": text});
    check(json!([signature("def total(a: int) -> int:"), signature("def total(a: str) -> int:")]), PAIR);
    check(json!([signature("def total(a: int) -> int:"), signature("def sum(a: int) -> int:")]), &[]);
    check(json!([signature("def total(a: int) -> int:"), forbidden(&["a: int"])]), PAIR);
    check(json!([signature("def total(a: int) -> int:"), regex("[a-z]*", "full")]), PAIR);

    let language = |language: &str| json!({"type": "language", "language": language, "granularity": "file"});
    check(json!([language("rust"), language("go")]), PAIR);
}

#[test]
fn a_length_clashes_with_what_is_longer_at_its_shortest() {
    let length = |chars: u32| json!({"type": "length", "max_chars": chars});
    check(json!([regex("[a-z]{5}é", "full"), length(5)]), PAIR);
    check(json!([regex("[a-z]{5}é", "full"), length(6)]), &[]);
    check(json!([schema(json!({"const": "hello"})), length(6)]), PAIR);
    check(json!([schema(json!({"const": "hello"})), length(7)]), &[]);
    check(json!([schema(json!({"type": "object", "required": ["ab"]})), length(7)]), PAIR);
    check(json!([schema(json!({"type": "object", "required": ["ab"]})), length(8)]), &[]);
    check(json!([json!({"type": "signature", "signature": "def f():"}), length(7)]), PAIR);
    check(json!([regex("a", "contains"), {"type": "length", "max_tokens": 0}]), PAIR);
    check(json!([regex("a", "absent"), {"type": "length", "max_tokens": 0}]), &[]);
}

#[test]
fn grammars_clash() {
    let grammar = |source: &str| json!({"type": "grammar", "grammar": {"syntax": "lark", "source": source}});
    check(json!([grammar("start: \"a\""), grammar("start: \"b\"")]), PAIR);
}

#[test]
fn what_has_no_exact_automaton_is_not_judged() {
    for pattern in ["(?=a)b", "\\bword\\b", "(a{1000}){1000}", "(", "(?:.*a){40}.{400}"] {
        let rules = [rule(regex(pattern, "full")), rule(regex("[0-9]", "full"))];
        let findings = find(&rules.iter().collect::<Vec<_>>());
        assert_eq!(findings.unjudged, [0], "{pattern}");
        assert!(findings.clashes.is_empty(), "{pattern}");
    }
}

#[test]
fn clashes_of_three_texts_are_found_and_each_is_needed() {
    check(
        json!([
            regex("[abc]", "full"),
            regex("[ab]|x", "full"),
            regex("a", "absent"),
            regex("b", "absent"),
            regex("z", "absent")
        ]),
        &[(3, &[0, 1, 2])],
    );
}
