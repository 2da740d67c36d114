//! What JSON Schema is lowered to, against the `jsonschema` crate: keyword by keyword, and over random schemas.
//!
//! A text may get through the masks only if it is valid; a valid one must get through with its keys in some order,
//! since the order of properties is meaning here.

#![allow(clippy::print_stdout, reason = "the figures are what it is run for")]

use std::sync::{Arc, LazyLock};

use ananke::constraint::ConstraintIr;
use ananke::guide::{CompiledConstraint, Guide, GuideConfig, GuideError, is_allowed, num_words};
use ananke::text::{Token, Vocabulary};
use serde_json::{Value, json};

/// A guide over single bytes and an end token.
static BYTES: LazyLock<Guide> = LazyLock::new(|| {
    let mut tokens: Vec<Token> = (0..=255u8).map(|byte| Token::Text(vec![byte])).collect();
    tokens.push(Token::Control("<end>".into()));
    let vocabulary = Vocabulary::new(tokens, 257, vec![256]).expect("a valid vocabulary");
    Guide::new(Arc::new(vocabulary), GuideConfig::default()).expect("the vocabulary can be sliced")
});

/// The compiled schema; `None` where nothing satisfies it.
fn compile(schema: &Value) -> Result<Option<Arc<CompiledConstraint>>, GuideError> {
    let ir: ConstraintIr = serde_json::from_value(json!({"json_schema": schema})).expect("an IR");
    match BYTES.compile(&[ir]) {
        Ok(compiled) => Ok(Some(compiled)),
        Err(GuideError::Unsatisfiable { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn accepts(compiled: Option<&Arc<CompiledConstraint>>, text: &str) -> bool {
    let Some(compiled) = compiled else { return false };
    let mut matcher = compiled.matcher(b"").expect("a matcher");
    let mut row = vec![0; num_words(257)];
    for byte in text.bytes() {
        if matcher.fill(&mut row).is_err() || !is_allowed(&row, u32::from(byte)) {
            return false;
        }
        matcher.accept(u32::from(byte)).expect("the mask allows it");
    }
    matcher.is_complete().expect("a live matcher")
}

fn is_valid(schema: &Value, instance: &Value) -> bool {
    let options = jsonschema::options().offline().should_validate_formats(true);
    let validator = options.build(schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
    validator.is_valid(instance)
}

fn check(schema: Value, valid: &[Value], invalid: &[Value]) {
    let compiled = compile(&schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
    for (instances, expected) in [(valid, true), (invalid, false)] {
        for instance in instances {
            assert_eq!(accepts(compiled.as_ref(), &instance.to_string()), expected, "{instance} under {schema}");
            assert_eq!(is_valid(&schema, instance), expected, "the validator: {instance} under {schema}");
        }
    }
}

#[test]
fn every_lowering_takes_what_it_means_and_no_near_miss() {
    check(json!({"anyOf": [{"type": "integer"}, {"minimum": 2}]}), &[json!(1), json!(2.5), json!("a")], &[json!(1.5)]);
    // oneOf: disjoint by type, constant, range, pattern, required constant; overlapping where the rest has a form.
    check(
        json!({"oneOf": [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}]}),
        &[json!("ax"), json!("b")],
        &[json!("c"), json!(1)],
    );
    check(
        json!({"oneOf": [{"type": "integer", "maximum": 3}, {"type": "integer", "minimum": 7}]}),
        &[json!(3), json!(7)],
        &[json!(4)],
    );
    check(
        json!({"oneOf": [{"type": "integer", "maximum": 5}, {"type": "integer", "minimum": 3}]}),
        &[json!(2), json!(6)],
        &[json!(3), json!(5)],
    );
    let kind = |kind: &str, more: &str| json!({"type": "object", "properties": {"kind": {"const": kind}, more: {"type": "integer"}}, "required": ["kind", more], "additionalProperties": false});
    check(
        json!({"oneOf": [kind("a", "x"), kind("b", "y")]}),
        &[json!({"kind": "a", "x": 1}), json!({"kind": "b", "y": 1})],
        &[json!({"kind": "a", "y": 1}), json!({"kind": "c", "x": 1})],
    );
    check(
        json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        &[json!({"a": 1}), json!({"b": 1, "c": 2})],
        &[json!({"a": 1, "b": 1}), json!({"c": 1})],
    );
    // many patterns that no key matches two of
    check(
        json!({"patternProperties": (0..12).map(|idx| (format!("^k{}$", (b'a' + idx) as char), json!({"const": idx}))).collect::<serde_json::Map<_, _>>(), "additionalProperties": false}),
        &[json!({"kc": 2, "ka": 0})],
        &[json!({"kc": 1}), json!({"k": 0})],
    );
    // not
    check(json!({"not": {"type": "string"}}), &[json!(1), json!({}), json!([])], &[json!("a")]);
    check(json!({"not": {"const": "ab"}}), &[json!("a"), json!("abc"), json!("é"), json!(1)], &[json!("ab")]);
    check(json!({"type": "integer", "not": {"enum": [3, 5]}}), &[json!(4), json!(-3)], &[json!(3), json!(5)]);
    check(json!({"type": "number", "not": {"const": 3}}), &[json!(3.5), json!(2)], &[json!(3)]);
    check(json!({"type": "string", "not": {"pattern": "x"}}), &[json!("ay")], &[json!("axy")]);
    check(json!({"not": {"required": ["a"]}}), &[json!({"b": 1}), json!({})], &[json!({"a": 1}), json!(1)]);
    check(json!({"not": {"anyOf": [{"type": "string"}, {"minimum": 3}]}}), &[json!(2)], &[json!("a"), json!(3)]);
    check(json!({"not": {"not": {"type": "null"}}}), &[json!(null)], &[json!(1)]);
    check(
        json!({"not": {"const": [1, {"a": 2}]}}),
        &[json!([1]), json!([1, {"a": 3}]), json!([1, {}])],
        &[json!([1, {"a": 2}])],
    );
    check(
        json!({"not": {"const": {"a": 1}}}),
        &[json!({}), json!({"a": 1, "b": 1}), json!({"a": 2})],
        &[json!({"a": 1})],
    );
    check(
        json!({"not": {"items": {"type": "string"}}, "maxItems": 3}),
        &[json!(["a", 1])],
        &[json!([]), json!(["a", "b"]), json!(3)],
    );
    check(json!({"not": {"minLength": 2}}), &[json!("a")], &[json!("ab"), json!(1)]);
    // if, then, else
    let conditional = json!({
        "type": "object",
        "properties": {"country": {"enum": ["US", "NL"]}, "code": {"type": "string"}},
        "required": ["country", "code"],
        "if": {"properties": {"country": {"const": "US"}}},
        "then": {"properties": {"code": {"pattern": "^[0-9]{5}$"}}},
        "else": {"properties": {"code": {"pattern": "^[0-9]{4}[A-Z]{2}$"}}}
    });
    check(
        conditional,
        &[json!({"country": "US", "code": "12345"}), json!({"country": "NL", "code": "1234AB"})],
        &[json!({"country": "US", "code": "1234AB"}), json!({"country": "NL", "code": "12345"})],
    );
    // dependencies
    check(
        json!({"properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}}),
        &[json!({"b": 1}), json!({"a": 1, "b": 1}), json!({}), json!(1)],
        &[json!({"a": 1}), json!({"a": 1, "c": 1})],
    );
    check(
        json!({"properties": {"a": {}, "b": {}}, "dependentSchemas": {"a": {"properties": {"b": {"type": "null"}}}}}),
        &[json!({"b": 1}), json!({"a": 1, "b": null}), json!({"a": 1})],
        &[json!({"a": 1, "b": 1})],
    );
    // contains and uniqueItems
    check(
        json!({"type": "array", "maxItems": 3, "contains": {"const": 7}}),
        &[json!([7]), json!([1, 7, "a"]), json!([7, 7])],
        &[json!([]), json!([1, 2, 3]), json!([7, 1, 1, 1])],
    );
    check(
        json!({"type": "array", "maxItems": 3, "contains": {"type": "string"}, "minContains": 1, "maxContains": 2}),
        &[json!(["a"]), json!(["a", 1, "b"])],
        &[json!([1]), json!(["a", "b", "c"])],
    );
    check(
        json!({"not": {"contains": {"type": "string"}}}),
        &[json!([1, null]), json!([])],
        &[json!([1, "a"]), json!(1)],
    );
    check(
        json!({"type": "array", "items": {"enum": ["r", "w", 1]}, "uniqueItems": true}),
        &[json!([]), json!(["w", "r", 1])],
        &[json!(["r", "r"]), json!(["r", "w", 1, "r"])],
    );
    check(
        json!({"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false, "uniqueItems": true}),
        &[json!(["a", 1]), json!(["a"])],
        &[json!([1, 1]), json!(["a", 1, 1])],
    );
    // keys
    check(
        json!({"propertyNames": {"pattern": "^[a-c]+$", "maxLength": 2}}),
        &[json!({"ab": 1}), json!({}), json!(1)],
        &[json!({"abc": 1}), json!({"d": 1})],
    );
    check(
        json!({"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "additionalProperties": false, "minProperties": 1, "maxProperties": 2}),
        &[json!({"a": 1}), json!({"b": 1, "c": 1})],
        &[json!({}), json!({"a": 1, "b": 1, "c": 1})],
    );
    check(
        json!({"type": "object", "properties": {"a": {}, "b": {}}, "minProperties": 1}),
        &[json!({"b": 1}), json!({"z": 1}), json!({"a": 1, "z": 1})],
        &[json!({})],
    );
    check(
        json!({"patternProperties": {"^a": {"minimum": 3}, "b$": {"maximum": 5}}, "additionalProperties": {"type": "null"}}),
        &[json!({"ab": 4}), json!({"a": 9}), json!({"b": 1}), json!({"c": null})],
        &[json!({"ab": 9}), json!({"ab": 2}), json!({"c": 1})],
    );
    check(
        json!({"allOf": [{"properties": {"a": {"type": "integer"}}}, {"$ref": "#/$defs/b"}], "unevaluatedProperties": false, "$defs": {"b": {"properties": {"b": {}}}}}),
        &[json!({"a": 1, "b": 2})],
        &[json!({"a": 1, "c": 2}), json!({"a": "x"})],
    );
    check(
        json!({"not": {"properties": {"a": {}}, "additionalProperties": false}}),
        &[json!({"b": 1}), json!({"a": 1, "b": 1})],
        &[json!({"a": 1}), json!({}), json!(1)],
    );
    // numbers
    check(
        json!({"type": "number", "minimum": 0, "maximum": 2, "not": {"type": "integer"}}),
        &[json!(0.5), json!(1.25)],
        &[json!(1), json!(2), json!(0)],
    );
    check(
        json!({"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer"}),
        &[json!(12), json!(0), json!(-24)],
        &[json!(4), json!(6)],
    );
    // recursion with siblings
    check(
        json!({"$ref": "#/$defs/list", "maxItems": 1, "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}}),
        &[json!([]), json!([[[], []]])],
        &[json!([[], []]), json!([1])],
    );
}

#[test]
fn formats_take_what_their_rfc_says_and_no_near_miss() {
    for (format, valid, invalid) in [
        ("date", vec!["2024-02-29", "2000-02-29", "1999-12-31"], vec!["2023-02-29", "1900-02-29", "2024-13-01"]),
        ("time", vec!["23:59:60Z", "15:59:60.5-08:00", "12:00:00+05:30"], vec!["22:59:60Z", "23:59:61Z", "12:00:00"]),
        ("date-time", vec!["2024-02-29T00:00:00z"], vec!["2023-02-29T00:00:00Z", "2024-02-29 00:00:00Z"]),
        ("email", vec!["a.b@c.de"], vec!["a..b@c.de", "a@-b", ".a@b"]),
        (
            "ipv6",
            vec!["::", "1::8", "::ffff:192.168.0.1", "1:2:3:4:5:6:7:8"],
            vec!["1::2::3", "1:2:3:4:5:6:7", "12345::"],
        ),
        ("json-pointer", vec!["", "/a~0b/~1", "/"], vec!["a", "/~2", "/~"]),
        ("relative-json-pointer", vec!["0", "1/a", "2#"], vec!["01", "-1", "/a"]),
        ("uri", vec!["http://a.b/c?d#e", "urn:a:b"], vec!["//a", "a b:c", "http://a b"]),
        ("uri-reference", vec!["", "../a", "//a/b", "?x", "a:b"], vec!["\\a", "a b", "#a#b"]),
        ("uri-template", vec!["/a/{id}{?x,y*}", "plain"], vec!["/{a", "{a b}"]),
    ] {
        let compiled = compile(&json!({"type": "string", "format": format})).expect("a known format");
        for (texts, expected) in [(valid, true), (invalid, false)] {
            for text in texts {
                assert_eq!(accepts(compiled.as_ref(), &json!(text).to_string()), expected, "{format} {text}");
            }
        }
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    fn scalar(&mut self) -> Value {
        self.pick(&[
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(1),
            json!(3),
            json!(1.5),
            json!(""),
            json!("a"),
            json!("ab"),
        ])
    }

    fn instance(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 3 } else { 6 }) {
            3 => (0..self.below(4)).map(|_| self.instance(depth - 1)).collect(),
            4 | 5 => (0..self.below(4))
                .map(|_| (self.pick(&["a", "b", "ab", "c"]).to_owned(), self.instance(depth - 1)))
                .collect(),
            _ => self.scalar(),
        }
    }

    fn schemas(&mut self, depth: usize) -> Value {
        (0..1 + self.below(3)).map(|_| self.schema(depth - 1)).collect()
    }

    fn schema(&mut self, depth: usize) -> Value {
        if depth == 0 {
            return match self.below(6) {
                0 => json!(true),
                1 => json!(false),
                2 => json!({"const": self.scalar()}),
                _ => json!({"type": self.pick(&["null", "boolean", "integer", "number", "string", "array", "object"])}),
            };
        }
        let mut schema = serde_json::Map::new();
        for _ in 0..1 + self.below(3) {
            let (keyword, value) = match self.below(28) {
                0 | 1 => ("type", json!(self.pick(&["integer", "number", "string", "array", "object"]))),
                2 => ("type", json!([self.pick(&["null", "string"]), self.pick(&["array", "object", "integer"])])),
                3 => ("enum", (0..3).map(|_| self.instance(1)).collect()),
                4 => ("const", self.instance(1)),
                5 => ("minimum", json!(self.below(3))),
                6 => ("exclusiveMaximum", json!(self.below(4))),
                7 => ("multipleOf", self.pick(&[json!(2), json!(0.5), json!(3)])),
                8 => ("pattern", json!(self.pick(&["^a", "b$", "^[ab]*$", "a"]))),
                9 => ("maxLength", json!(self.below(3))),
                10 => ("minLength", json!(self.below(3))),
                11 => ("items", self.schema(depth - 1)),
                12 => ("prefixItems", self.schemas(depth)),
                13 | 14 => ("maxItems", json!(self.below(4))),
                15 => ("minItems", json!(self.below(3))),
                16 => ("contains", self.schema(depth - 1)),
                17 => ("uniqueItems", json!(true)),
                18 => ("properties", json!({"a": self.schema(depth - 1), "b": self.schema(depth - 1)})),
                19 => ("patternProperties", json!({self.pick(&["^a", "b$"]): self.schema(depth - 1)})),
                20 => ("additionalProperties", self.schema(depth - 1)),
                21 => ("required", json!([self.pick(&["a", "b", "c"])])),
                22 => ("minProperties", json!(self.below(3))),
                23 => ("maxProperties", json!(self.below(3))),
                24 => ("propertyNames", json!({"pattern": self.pick(&["^a", "b"])})),
                25 => ("dependentRequired", json!({"a": ["b"]})),
                26 => ("dependentSchemas", json!({"b": self.schema(depth - 1)})),
                _ => match self.below(6) {
                    0 | 1 => ("not", self.schema(depth - 1)),
                    2 => ("allOf", self.schemas(depth)),
                    3 => ("anyOf", self.schemas(depth)),
                    4 => ("oneOf", self.schemas(depth)),
                    _ => {
                        schema.insert("then".to_owned(), self.schema(depth - 1));
                        schema.insert("else".to_owned(), self.schema(depth - 1));
                        ("if", self.schema(depth - 1))
                    }
                },
            };
            schema.insert(keyword.to_owned(), value);
        }
        Value::Object(schema)
    }
}

/// The instance with the keys of every object in every order.
fn orders(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.iter().fold(vec![json!([])], |done, item| {
            let inner = orders(item);
            let grown = done.iter().flat_map(|list| {
                inner.iter().map(move |item| list.as_array().into_iter().flatten().chain([item]).cloned().collect())
            });
            grown.collect()
        }),
        Value::Object(members) => {
            let mut done: Vec<serde_json::Map<String, Value>> = vec![serde_json::Map::new()];
            for _ in 0..members.len() {
                done = done
                    .iter()
                    .flat_map(|head| {
                        let left = members.iter().filter(|(name, _)| !head.contains_key(*name));
                        left.flat_map(move |(name, value)| {
                            orders(value).into_iter().map(move |value| {
                                let mut head = head.clone();
                                head.insert(name.clone(), value);
                                head
                            })
                        })
                    })
                    .collect();
            }
            done.into_iter().map(Value::Object).collect()
        }
        other => vec![other.clone()],
    }
}

#[test]
fn random_schemas_let_through_what_is_valid_and_nothing_else() {
    const NUM_SCHEMAS: usize = 400;
    let seed = std::env::var("LOWERING_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("seed {seed}");
    let mut random = Random(seed);
    let (mut num_compiled, mut num_valid) = (0, 0);
    let mut refused = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..NUM_SCHEMAS {
        let depth = 1 + random.below(3);
        let schema = random.schema(depth);
        let instances: Vec<Value> = (0..24).map(|_| random.instance(2)).collect();
        let compiled = match compile(&schema) {
            Ok(compiled) => compiled,
            Err(GuideError::UnsupportedSchema { keyword, .. }) => {
                *refused.entry(keyword).or_default() += 1;
                continue;
            }
            Err(error) => panic!("{schema}: {error}"),
        };
        num_compiled += 1;
        for instance in instances {
            let accepted = orders(&instance).iter().any(|order| accepts(compiled.as_ref(), &order.to_string()));
            let valid = is_valid(&schema, &instance);
            assert_eq!(accepted, valid, "{instance} under {schema}");
            num_valid += usize::from(valid);
        }
    }
    println!("{num_compiled} of {NUM_SCHEMAS} compile, {num_valid} instances valid; refused by keyword: {refused:?}");
    assert!(num_compiled > NUM_SCHEMAS / 2 && num_valid > num_compiled, "the generator has become too narrow");
}

#[test]
fn hostile_schemas_end_in_a_typed_error_soon() {
    let wide = |keyword: &str, depth: usize| {
        let mut schema = json!({"properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["a", "b"]});
        for _ in 0..depth {
            schema = json!({keyword: [schema.clone(), {"properties": {"a": {"const": 3}, "c": schema}}]});
        }
        schema
    };
    let many = |keyword: &str, inner: fn(usize) -> Value| json!({keyword: (0..60).map(inner).collect::<Value>()});
    let dependent: serde_json::Map<String, Value> = (0..40).map(|idx| (format!("k{idx}"), json!(["z"]))).collect();
    let cases = [
        wide("anyOf", 9),
        wide("oneOf", 7),
        json!({"not": wide("allOf", 9)}),
        json!({"allOf": [many("anyOf", |idx| json!({"required": [idx.to_string()]})), many("anyOf", |idx| json!({"required": [format!("x{idx}")]})), many("anyOf", |idx| json!({"required": [format!("y{idx}")]}))]}),
        many("oneOf", |idx| json!({"required": [idx.to_string()]})),
        json!({"dependentRequired": dependent}),
        json!({"maxItems": 1_000_000, "contains": {"const": 1}}),
        json!({"maxItems": 40, "contains": {"const": 1}, "minContains": 20}),
        json!({"items": {"enum": (0..30).collect::<Vec<_>>()}, "uniqueItems": true}),
        json!({"type": "integer", "multipleOf": 123_456_789}),
        json!({"not": {"pattern": "(a|b)*a(a|b){30}"}}),
        json!({"allOf": (0..40).map(|idx| json!({"patternProperties": {format!("x{idx}"): {"minimum": idx}}})).collect::<Value>()}),
        json!({"properties": (0..60).map(|idx| (idx.to_string(), json!({}))).collect::<serde_json::Map<_, _>>(), "maxProperties": 30}),
    ];
    for case in cases {
        let what: String = case.to_string().chars().take(100).collect();
        let started = std::time::Instant::now();
        let result = compile(&case).map(drop);
        println!("{:?} {what}: {:?}", started.elapsed(), result.as_ref().map_err(ToString::to_string));
        let is_typed =
            matches!(result, Ok(()) | Err(GuideError::TooLarge { .. } | GuideError::UnsupportedSchema { .. }));
        assert!(is_typed, "{what}: {result:?}");
        assert!(started.elapsed() < std::time::Duration::from_secs(10), "{what} took {:?}", started.elapsed());
    }
}
