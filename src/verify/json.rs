//! JSON: valid under a schema, and with no more white space than allowed.
//!
//! The `jsonschema` crate judges the schema, draft 2020-12 unless the schema names another, formats asserted, nothing
//! fetched. It recurses with the document and the schema, so it runs on a thread of its own with a deep stack.

use std::collections::HashMap;
use std::thread;

use jsonschema::PatternOptions;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::Judgement;
use crate::constraint::JsonWhitespace;

/// Deepest nesting of a schema that is compiled; beyond, the part is not checked. Documents nest 127 deep at most,
/// by `serde_json`'s own bound.
const MAX_SCHEMA_DEPTH: usize = 256;
/// Stack of the validating thread: address space, of which only what is used becomes memory.
const VALIDATOR_STACK_BYTES: usize = 64 << 20;
/// Size of one compiled `pattern`.
const MAX_PATTERN_BYTES: usize = 8 << 20;
/// Subschemas visited for the sake of an error message; beyond, it does not say where.
const MAX_ERROR_STEPS: u64 = 100_000;
/// Steps one `pattern` with look-around may go back; about 50 ns each.
const MAX_PATTERN_BACKTRACKS: usize = 1_000_000;

/// Whether `text` is one JSON document valid under `schema`.
pub(super) fn check_schema(text: &[u8], schema: &Value) -> Judgement {
    let document = match parse(text) {
        Ok(document) => document,
        Err(judgement) => return judgement,
    };
    if depth_exceeds(schema, MAX_SCHEMA_DEPTH) {
        return Judgement::Unknown(format!("the schema nests more than {MAX_SCHEMA_DEPTH} deep"));
    }
    let validator = thread::Builder::new().name("verify-json".into()).stack_size(VALIDATOR_STACK_BYTES);
    thread::scope(|scope| match validator.spawn_scoped(scope, || validate(&document, schema)) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Judgement::Unknown("the validator panicked".into())),
        Err(error) => Judgement::Unknown(format!("the validator's thread did not start: {error}")),
    })
}

/// The document, or what is wrong with the text.
///
/// Text that is JSON by its grammar but has no value here (a number beyond f64, a lone surrogate) is not a violation:
/// the schema was simply not checked.
fn parse(text: &[u8]) -> Result<Value, Judgement> {
    let text = str::from_utf8(text).map_err(|error| Judgement::Fails(format!("not UTF-8: {error}")))?;
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(Judgement::Fails(format!("not JSON: {error}")));
    }
    serde_json::from_str(text).map_err(|error| Judgement::Unknown(format!("JSON that has no value: {error}")))
}

fn depth_exceeds(value: &Value, limit: usize) -> bool {
    match value {
        _ if limit == 0 => true,
        Value::Array(items) => items.iter().any(|item| depth_exceeds(item, limit - 1)),
        Value::Object(map) => map.values().any(|item| depth_exceeds(item, limit - 1)),
        _ => false,
    }
}

fn validate(document: &Value, schema: &Value) -> Judgement {
    let patterns = PatternOptions::fancy_regex()
        .size_limit(MAX_PATTERN_BYTES)
        .dfa_size_limit(MAX_PATTERN_BYTES)
        .backtrack_limit(MAX_PATTERN_BACKTRACKS);
    let options = jsonschema::options().offline().should_validate_formats(true).with_pattern_options(patterns);
    let validator = match options.build(schema) {
        Ok(validator) => validator,
        Err(error) => return Judgement::Unknown(format!("the schema does not compile: {error}")),
    };
    if validator.is_valid(document) {
        return Judgement::Holds;
    }
    // The boolean answer is memoized, an error is not: it gathers those of every alternative, on every level.
    if (ErrorCost { schema, known: HashMap::new() }).of(schema, depth(document)) > MAX_ERROR_STEPS {
        return Judgement::Fails("not valid under the schema".into());
    }
    match validator.validate(document) {
        Ok(()) => Judgement::Holds,
        Err(error) if is_engine_failure(&error) => Judgement::Unknown(format!("a pattern gave up: {error}")),
        Err(error) => Judgement::Fails(format!("at `{}`: {error}", error.instance_path())),
    }
}

/// How many subschemas an error message may have to visit, followed along one path into the document.
struct ErrorCost<'a> {
    schema: &'a Value,
    /// By subschema and levels left of the document; zero while being worked out, as a circle costs nothing more.
    known: HashMap<(*const Value, usize), u64>,
}

impl<'a> ErrorCost<'a> {
    fn of(&mut self, value: &'a Value, depth: usize) -> u64 {
        let key = (std::ptr::from_ref(value), depth);
        if let Some(&cost) = self.known.get(&key) {
            return cost;
        }
        self.known.insert(key, 0);
        let cost = match value {
            Value::Object(map) => map.iter().map(|(keyword, value)| self.of_keyword(keyword, value, depth)).collect(),
            Value::Array(items) => items.iter().map(|item| self.of(item, depth)).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        let cost = cost.into_iter().fold(1, u64::saturating_add);
        self.known.insert(key, cost);
        cost
    }

    fn of_keyword(&mut self, keyword: &str, value: &'a Value, depth: usize) -> u64 {
        match keyword {
            "$defs" | "definitions" | "enum" | "const" | "default" | "examples" => 0,
            "$ref" => match value.as_str().and_then(|at| self.schema.pointer(at.strip_prefix('#')?)) {
                Some(target) => self.of(target, depth),
                None => u64::MAX,
            },
            "$dynamicRef" | "$recursiveRef" => u64::MAX,
            "properties"
            | "patternProperties"
            | "additionalProperties"
            | "unevaluatedProperties"
            | "items"
            | "prefixItems"
            | "unevaluatedItems"
            | "contains"
            | "propertyNames" => {
                if depth == 0 {
                    0
                } else {
                    self.of(value, depth - 1)
                }
            }
            _ => self.of(value, depth),
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether the error says that a pattern could not be run, not that it did not match.
fn is_engine_failure(error: &jsonschema::ValidationError<'_>) -> bool {
    use jsonschema::error::ValidationErrorKind::{BacktrackLimitExceeded, RegexEngineFailure};
    matches!(error.kind(), BacktrackLimitExceeded { .. } | RegexEngineFailure { .. })
}

/// Whether every run of white space between JSON tokens keeps to the limit. A tab counts as a space.
pub(super) fn check_whitespace(text: &[u8], limit: JsonWhitespace) -> Judgement {
    let (mut newlines, mut spaces) = (0u32, 0u32);
    let (mut in_string, mut escaped) = (false, false);
    for (i, &byte) in text.iter().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        in_string = byte == b'"';
        (newlines, spaces) = match byte {
            b'\n' | b'\r' => (newlines + 1, 0),
            b' ' | b'\t' => (0, spaces + 1),
            _ => (0, 0),
        };
        if newlines > limit.max_newlines {
            return Judgement::Violated(format!("byte {i}: {newlines} line breaks in a row"));
        }
        if spaces > limit.max_spaces {
            return Judgement::Violated(format!("byte {i}: {spaces} spaces in a row"));
        }
    }
    Judgement::Holds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Found {
        Valid,
        Invalid,
        Unknown,
    }

    fn judge(schema: Value, text: &str) -> Found {
        match check_schema(text.as_bytes(), &schema) {
            Judgement::Holds => Found::Valid,
            Judgement::Fails(_) => Found::Invalid,
            Judgement::Unknown(_) => Found::Unknown,
            other => panic!("a schema is never {other:?}"),
        }
    }

    #[test]
    fn schemas_judge_documents() {
        let order = json!({
            "type": "object",
            "properties": {
                "id": {"type": "string", "pattern": "^[A-Z]{2}\\d{3}$"},
                "state": {"enum": ["open", "closed"]},
                "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1},
            },
            "required": ["id", "items"],
            "additionalProperties": false,
            "$defs": {"item": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}},
        });
        use Found::{Invalid, Unknown, Valid};
        let cases = [
            (order.clone(), r#"{"id": "AB123", "items": [{"n": 1}]}"#, Valid),
            (order.clone(), r#"{"items": [{"n": 2}], "id": "AB123", "state": "open"}"#, Valid),
            (order.clone(), r#"{"id": "AB١٢٣", "items": [{"n": 1}]}"#, Invalid), // \d is ASCII
            (order.clone(), r#"{"id": "AB123", "items": []}"#, Invalid),
            (order.clone(), r#"{"id": "AB123", "items": [{"n": 0}]}"#, Invalid),
            (order.clone(), r#"{"id": "AB123", "items": [{"n": 1}], "x": 1}"#, Invalid),
            (order.clone(), r#"{"id": "AB123", "items": [{"n": 1}]"#, Invalid),
            (order.clone(), r#"{"id": "AB123", "items": [{"n": 1}]} x"#, Invalid),
            (order, "", Invalid),
            (json!({"pattern": "b+"}), r#""abbc""#, Valid), // unanchored
            (json!({"format": "date"}), r#""2026-02-29""#, Invalid),
            (json!({"format": "date"}), r#""2028-02-29""#, Valid),
            (json!({"format": "uuid"}), r#""not one""#, Invalid),
            (json!({"prefixItems": [{"type": "string"}], "items": false}), r#"["a", 1]"#, Invalid), // draft 2020-12
            (json!({"multipleOf": 0.1}), "0.3", Valid),
            (json!({"multipleOf": 0.1}), "0.35", Invalid),
            (json!(true), "[]", Valid),
            (json!(false), "[]", Invalid),
            (json!({"type": "number"}), "1e999", Unknown),
            (json!({"type": "string"}), r#""\ud800""#, Unknown),
        ];
        for (schema, text, expected) in cases {
            assert_eq!(judge(schema.clone(), text), expected, "{text} under {schema}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_not_json() {
        assert!(matches!(check_schema(b"\"\xff\"", &json!(true)), Judgement::Fails(_)));
    }

    #[test]
    fn hostile_schemas_are_not_checked_and_do_no_harm() {
        let mut deep = json!({"type": "integer"});
        for _ in 0..20_000 {
            deep = Value::Array(vec![deep]);
        }
        let deep = std::mem::ManuallyDrop::new(deep); // dropping it would itself recurse 20,000 deep
        assert!(matches!(check_schema(b"1", &deep), Judgement::Unknown(_)));
        for schema in [
            json!({"type": "nonsense"}),
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"$ref": "#/$defs/missing"}),
            json!({"pattern": "("}),
            json!({"pattern": "(?:(?:[a-z]{1,1000}){1,1000}){1,1000}"}),
            json!([]),
        ] {
            assert_eq!(judge(schema.clone(), "\"a\""), Found::Unknown, "{schema}");
        }
    }

    #[test]
    fn references_in_a_circle_end() {
        let _ = judge(json!({"$ref": "#"}), "1");
        let _ = judge(
            json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
            "1",
        );
    }

    #[test]
    fn a_schema_with_exponentially_many_errors_is_still_judged() {
        let nested = json!({"$defs": {"n": {"anyOf": [
            {"required": ["z"], "properties": {"c": {"$ref": "#/$defs/n"}}},
            {"required": ["c"], "properties": {"c": {"$ref": "#/$defs/n"}}},
            {"properties": {"c": {"$ref": "#/$defs/n"}}, "required": ["y"]},
        ]}}, "$ref": "#/$defs/n"});
        let document = |depth: usize| format!("{}{{}}{}", "{\"c\":".repeat(depth), "}".repeat(depth));
        let why = |depth| match check_schema(document(depth).as_bytes(), &nested) {
            Judgement::Fails(why) => why,
            other => panic!("{depth} levels gave {other:?}"),
        };
        assert!(why(2).starts_with("at `"), "{}", why(2));
        assert_eq!(why(60), "not valid under the schema");
    }

    #[test]
    fn a_pattern_that_backtracks_without_end_gives_up() {
        let schema = json!({"pattern": "^(?=(a+)+$)(a+)+\\1$"});
        let text = format!("\"{}b\"", "a".repeat(2_000));
        assert_ne!(judge(schema, &text), Found::Valid);
    }

    #[test]
    fn white_space_counts_between_tokens_only() {
        let limit = JsonWhitespace { max_newlines: 1, max_spaces: 2 };
        for (text, holds) in [
            ("{\n  \"a\": 1\n}", true),
            ("{\n\n\"a\": 1}", false),
            ("{   \"a\": 1}", false),
            ("{\t\t\"a\": 1}", true),
            ("{\t \t\"a\": 1}", false),
            ("{\"a    b\": \"\\\"    \"}", true),
            ("{\"a\\\\\":    1}", false),
        ] {
            assert_eq!(check_whitespace(text.as_bytes(), limit) == Judgement::Holds, holds, "{text:?}");
        }
    }
}
