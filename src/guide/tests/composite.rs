//! Four parts at once on the embedded model's vocabulary: whatever is sampled and ends passes independent checks.

use super::*;

const CLASS: &str = r#"[ -~\n]*"#;
const FORBIDDEN: [&str; 4] = ["an", "00", "th", "e "];

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "kind": {"enum": ["red", "blue", "tall", "wide"]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 3},
            "count": {"type": "integer", "minimum": 0, "maximum": 5000},
            "next": {"anyOf": [{"type": "null"}, {"type": "number", "minimum": -1, "maximum": 1}]},
        },
        "required": ["name", "kind", "tags", "count"],
        "additionalProperties": false,
    })
}

/// Every token with an even id above 400 is forbidden.
fn forbidden_ids() -> Vec<u32> {
    (400..NANO.vocabulary().num_tokens() as u32).filter(|token| token % 2 == 0).collect()
}

fn four_parts() -> Value {
    json!({
        "json_schema": schema(),
        "regex_patterns": [{"any_of": [{"pattern": CLASS}], "match": "full"}],
        "forbidden_text": FORBIDDEN.map(|text| json!({"text": text})),
        "token_masks": {"forbidden_tokens": forbidden_ids()},
    })
}

/// How a walk came out.
enum Walk {
    Finished(Vec<u32>),
    DeadEnd,
    Truncated,
}

fn walk(compiled: &Arc<CompiledConstraint>, seed: u64) -> Walk {
    let mut random = Random(seed);
    let mut matcher = compiled.matcher(b"").expect("a matcher");
    let mut tokens = Vec::new();
    let vocabulary = NANO.vocabulary();
    let mut row = vec![0; num_words(vocabulary.num_rows())];
    for _ in 0..400 {
        match matcher.fill(&mut row) {
            Ok(()) => {}
            Err(GuideError::DeadEnd { parts, .. }) => {
                assert!(parts.len() > 1, "one part alone has no dead end: {parts:?}");
                return Walk::DeadEnd;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
        let allowed: Vec<u32> = allowed_tokens(&row).collect();
        let token = allowed[random.below(allowed.len())];
        matcher.accept(token).expect("the mask allows it");
        if vocabulary.end_tokens().contains(&token) {
            return Walk::Finished(tokens);
        }
        tokens.push(token);
    }
    Walk::Truncated
}

#[test]
#[cfg(not(feature = "planted-fault"))]
fn every_finished_walk_under_four_parts_passes_all_four_checks() {
    let compiled = NANO_GUIDE.compile(&[ir(four_parts())]).expect("compiles");
    let validator = jsonschema::validator_for(&schema()).expect("a valid schema");
    let class = ::regex::Regex::new(&format!(r"\A{CLASS}\z")).expect("a valid pattern");
    let banned = forbidden_ids();
    let (mut num_finished, mut num_dead_ends) = (0, 0);
    for seed in 0..200 {
        let tokens = match walk(&compiled, seed) {
            Walk::Finished(tokens) => tokens,
            Walk::DeadEnd => {
                num_dead_ends += 1;
                continue;
            }
            Walk::Truncated => continue,
        };
        num_finished += 1;
        let bytes = NANO.vocabulary().decode(&tokens);
        let text = std::str::from_utf8(&bytes).expect("whole characters");
        let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("seed {seed}: {error}: {text}"));
        assert!(validator.is_valid(&document), "seed {seed}: {text}");
        assert!(class.is_match(text), "seed {seed}: {text}");
        assert!(!FORBIDDEN.iter().any(|needle| text.contains(needle)), "seed {seed}: {text}");
        assert!(!tokens.iter().any(|token| banned.contains(token)), "seed {seed}: {text}");
    }
    assert!(num_finished >= 150, "{num_finished} of 200 finished, {num_dead_ends} met a dead end");
}

#[test]
#[cfg(not(feature = "planted-fault"))]
fn whatever_a_schema_lets_finish_is_valid() {
    let schemas = [
        json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}, "maxProperties": 2, "required": ["a", "b"]}),
        json!({"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 2}),
        json!({"type": "object", "patternProperties": {"^x": {"const": 1}}, "additionalProperties": false, "maxProperties": 3}),
        json!({"type": "object", "properties": {"x1": {"type": "integer", "minimum": 7, "maximum": 99}}, "patternProperties": {"^x": {"maximum": 8}}, "required": ["x1"], "maxProperties": 1}),
        json!({"type": "array", "prefixItems": [{"const": "é\n\"\\"}, {"enum": [1, 2.5, null]}], "items": false, "minItems": 1}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"type": "null"}], "additionalItems": {"type": "boolean"}, "maxItems": 3}),
        json!({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "integer", "multipleOf": 7, "minimum": -70, "maximum": 700}]}),
        json!({"oneOf": [{"type": "boolean"}, {"type": "null"}, {"const": "x"}]}),
        json!({"allOf": [{"properties": {"a": {"type": "string", "maxLength": 2}}, "required": ["a"]}, {"type": "object", "properties": {"b": {"enum": ["x", "y"]}}, "additionalProperties": true, "required": ["b"], "maxProperties": 2}]}),
        json!({"type": "string", "pattern": "^[a-c]+$|x", "minLength": 2, "maxLength": 5}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "string", "format": "uuid"}),
        json!({"type": "string", "format": "ipv4"}),
        json!({"type": "number", "minimum": 0.25, "exclusiveMaximum": 3}),
        json!({"type": ["integer", "null"], "minimum": -5, "maximum": 5}),
        json!({"$defs": {"tree": {"type": "object", "properties": {"v": {"type": "boolean"}, "l": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}}, "required": ["v", "l"], "additionalProperties": false}}, "$ref": "#/$defs/tree"}),
        json!({"const": {"a": [1, {"b": "\u{7}"}]}}),
        json!({"type": "object", "properties": {"a": false, "b": {"type": "integer", "maximum": 9, "minimum": 0}}, "required": ["b"], "maxProperties": 1}),
    ];
    let mut num_finished = 0;
    for schema in &schemas {
        let compiled = NANO_GUIDE.compile(&[ir(json!({"json_schema": schema}))]).expect("compiles");
        let validator = jsonschema::validator_for(schema).expect("a valid schema");
        for seed in 0..20 {
            let Walk::Finished(tokens) = walk(&compiled, seed) else { continue };
            num_finished += 1;
            let bytes = NANO.vocabulary().decode(&tokens);
            let text = String::from_utf8(bytes).expect("whole characters");
            let document: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{schema}: {error}: {text}"));
            assert!(validator.is_valid(&document), "{schema}: {text}");
        }
    }
    assert!(num_finished >= 200, "{num_finished} of {} finished", 20 * schemas.len());
}

#[test]
#[cfg(feature = "planted-fault")]
fn a_planted_fault_is_allowed_and_let_through() {
    let compiled = NANO_GUIDE.compile(&[ir(four_parts())]).expect("compiles");
    let mut matcher = compiled.matcher(b"").expect("a matcher");
    let row = filled(&mut matcher).expect("a mask");
    let wrong =
        allowed_tokens(&compiled.text).find(|&token| NANO.vocabulary().bytes(token) == b"!").expect("an id for `!`");
    assert!(is_allowed(&row, wrong));
    matcher.accept(wrong).expect("the fault is let through");
    assert!(filled(&mut matcher).is_ok());
    matcher.rollback(1).expect("and taken back");
}
