//! Verdicts and witnesses, on sets whose answer is known by construction.

use super::*;

/// Walks `tokens` through the masks and says whether the output may end after them.
fn completes(matcher: &mut Matcher, tokens: &[u32]) -> bool {
    for &token in tokens {
        let row = filled(matcher).expect("a mask");
        if !is_allowed(&row, token) || matcher.accept(token).is_err() {
            return false;
        }
    }
    matcher.is_complete().expect("a live matcher")
}

fn text_of(guide: &Guide, tokens: &[u32]) -> String {
    String::from_utf8_lossy(&guide.vocabulary().decode(tokens)).into_owned()
}

fn feed(matcher: &mut Matcher, text: &str) {
    for byte in text.bytes() {
        let token = *matcher.compiled().alphabet().token(byte).as_ref().expect("a token for each byte");
        matcher.accept(token).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

/// A schema of `count` required properties of several types.
fn wide_schema(count: usize) -> Value {
    let kinds = [
        json!({"type": "string"}),
        json!({"type": "integer"}),
        json!({"type": "string", "minLength": 12}),
        json!({"enum": ["alpha", "b"]}),
        json!({"type": "array", "items": {"type": "number"}, "minItems": 2}),
    ];
    let names: Vec<String> = (0..count).map(|idx| format!("property_{idx}")).collect();
    let properties: serde_json::Map<String, Value> =
        names.iter().enumerate().map(|(idx, name)| (name.clone(), kinds[idx % kinds.len()].clone())).collect();
    json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
}

/// A grammar with blocks, strings, comments and expressions.
const PROGRAM: &str = r#"
start: stmt*
stmt: NAME "=" expr ";" | "fn" NAME "(" ")" block | "return" expr ";"
block: "{" stmt* "}"
expr: NAME | NUMBER | STRING | "(" expr ")" | expr "+" expr | "[" [expr ("," expr)*] "]"
NAME: /[a-z]+/
NUMBER: /[0-9]+/
STRING: /"[^"\n]*"/
%ignore /[ \n]+/
%ignore /\/\*([^*]|\*[^\/])*\*\//
"#;

#[test]
fn a_witness_is_found_from_every_kind_of_state() {
    let lark = |source: &str| json!({"grammar": {"syntax": "lark", "source": source}});
    let cases: Vec<(Vec<Value>, &str)> = vec![
        (vec![json!({"json_schema": wide_schema(200)})], ""),
        (vec![json!({"json_schema": wide_schema(50)})], r#"{"property_0": "some te"#),
        (vec![json!({"json_schema": {"type": "string", "pattern": "^[a-z]+@[a-z]+\\.com$", "minLength": 30}})], ""),
        (vec![json!({"json_schema": {"type": "string", "minLength": 300}})], "\"abc"),
        (vec![json!({"json_schema": true})], r#"{"a":[{"b":[[1,{"c":"x"#),
        (vec![lark(PROGRAM)], ""),
        (vec![lark(PROGRAM)], "fn f(){ a=1; fn g(){ b=(1+(2+[x,(y"),
        (vec![lark(PROGRAM)], "fn f(){ /* a comment"),
        (vec![lark(PROGRAM)], "a=\"unfinished"),
        (vec![lark(PROGRAM), json!({"forbidden_text": [{"text": "}"}]})], "return 1"),
        (vec![json!({"regex_patterns": [{"any_of": [{"pattern": "(ab){40}c|d{200}"}], "match": "full"}]})], ""),
        (
            vec![
                json!({"json_schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}}),
                json!({"regex_patterns": [{"any_of": [{"pattern": "hello [0-9]{3}"}], "match": "contains"}]}),
            ],
            "",
        ),
    ];
    let mut missed = Vec::new();
    for guide in [&*BYTES, &*NANO_GUIDE] {
        for (irs, prefix) in &cases {
            let mut matcher = start(guide, irs);
            feed(&mut matcher, prefix);
            let before = filled(&mut matcher).expect("a mask");
            let Some(found) = matcher.witness(8_000, 8_000).expect("a live matcher") else {
                missed.push(format!("{prefix:?} in {:.100}", format!("{irs:?}")));
                continue;
            };
            assert_eq!(matcher.num_bytes(), prefix.len());
            assert_eq!(filled(&mut matcher).expect("a mask"), before, "the matcher is where it was");
            assert_eq!(matcher.witness(8_000, 8_000), Ok(Some(found.clone())), "the search is deterministic");
            assert!(completes(&mut matcher, &found), "{prefix:?}: {}", text_of(guide, &found));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
