//! Input that is meant to hurt gives a typed error quickly, or compiles and stays within its fuel.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

use super::*;

fn chain_of_refs(len: usize) -> Value {
    let mut defs = serde_json::Map::new();
    for idx in 0..len {
        defs.insert(format!("d{idx}"), json!({"type": "array", "items": {"$ref": format!("#/$defs/d{}", idx + 1)}}));
    }
    defs.insert(format!("d{len}"), json!({"type": "integer"}));
    json!({"$ref": "#/$defs/d0", "$defs": defs})
}

fn nested_schema(depth: usize) -> Value {
    (0..depth).fold(json!({"type": "integer"}), |inner, _| json!({"type": "array", "items": inner}))
}

fn chain_of_rules(len: usize, syntax: &str) -> String {
    let (colon, first) = if syntax == "lark" { (":", "start") } else { ("::=", "root") };
    let mut source = format!("{first} {colon} r0\n");
    for idx in 0..len {
        source += &format!("r{idx} {colon} r{}\n", idx + 1);
    }
    source + &format!("r{len} {colon} \"a\"\n")
}

/// What came out, and how long it took.
fn compile(value: Value) -> (Result<(), GuideError>, Duration) {
    timed(|| BYTES.compile(&[ir(value)]).map(drop))
}

/// How long something took, by the clock or by the processor, whichever is less: neither a busy machine nor tests beside
/// this one are faults.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let (clock, processor) = (Instant::now(), ProcessTime::now());
    let result = work();
    (result, clock.elapsed().min(processor.elapsed()))
}

#[test]
fn what_is_over_a_bound_is_named_and_quick() {
    let grammar = |syntax: &str, source: String| json!({"grammar": {"syntax": syntax, "source": source}});
    let regex = |pattern: &str| json!({"regex_patterns": [{"any_of": [{"pattern": pattern}], "match": "full"}]});
    let many: serde_json::Map<String, Value> = (0..5_000).map(|idx| (format!("p{idx}"), json!({}))).collect();
    let cases = [
        json!({"json_schema": chain_of_refs(2_000)}),
        json!({"json_schema": nested_schema(400)}),
        json!({"json_schema": {"properties": many}}),
        json!({"json_schema": {"enum": vec!["x"; 5_000]}}),
        json!({"json_schema": {"type": "string", "pattern": "((a{1000}){1000}){1000}"}}),
        json!({"json_schema": {"type": "array", "maxItems": 4_000_000_000u64}}),
        json!({"json_schema": {"const": "x".repeat(1 << 20)}}),
        json!({"json_schema": {}, "limits": {"json_whitespace": {"max_newlines": 1, "max_spaces": 4_000_000_000u64}}}),
        grammar("lark", chain_of_rules(5_000, "lark")),
        grammar("gbnf", chain_of_rules(4_000, "gbnf")),
        grammar("lark", format!("start: {}\"a\"{}", "(".repeat(500), ")".repeat(500))),
        grammar("gbnf", format!("root ::= {}\"a\"{}", "(".repeat(500), ")".repeat(500))),
        grammar("ebnf", format!("s = {}'a'{};", "[".repeat(500), "]".repeat(500))),
        grammar("gbnf", format!("root ::= \"a\"{}", "*".repeat(5_000))),
        grammar("ebnf", format!("root ::= 'a'{}", "*".repeat(5_000))),
        grammar("ebnf", format!("root ::= 'a'{}", " - 'b'".repeat(5_000))),
        grammar("gbnf", "root ::= ((\"a\"{1000}){1000}){1000}".into()),
        grammar("lark", "start: /((a{1000}){1000}){1000}/".into()),
        grammar("lark", "start: \"a\"~1000000000".into()),
        grammar("lark", format!("start: %json {}", nested_schema(200))),
        grammar("ebnf", "x".repeat(1 << 20)),
        regex("((a{1000}){1000}){1000}"),
        regex(&"(a|b)".repeat(10_000)),
        json!({"forbidden_text": vec![json!({"text": "x"}); 20_000]}),
        json!({"forbidden_text": [{"text": "x".repeat(1 << 20)}]}),
        json!({"token_masks": {"allowed_tokens": vec![0; 2_000_000]}}),
        json!({"regex_patterns": vec![json!({"any_of": [{"pattern": "a"}], "match": "full"}); 40]}),
    ];
    for case in cases {
        let what: String = case.to_string().chars().take(80).collect();
        let (result, took) = compile(case);
        let is_named = matches!(
            result,
            Err(GuideError::TooLarge { .. }
                | GuideError::OverLimit { .. }
                | GuideError::InvalidGrammar { .. }
                | GuideError::UnsupportedSchema { .. })
        );
        assert!(is_named, "{what}: {result:?}");
        assert!(took < Duration::from_secs(2), "{what} took {took:?}");
    }
}

#[test]
fn what_is_just_below_the_bounds_compiles_and_runs_on_a_small_stack() {
    let config = GuideConfig::default();
    let cases = [
        json!({"json_schema": chain_of_refs(config.max_ref_chain - 2)}),
        json!({"json_schema": nested_schema(config.max_schema_nesting - 2)}),
        json!({"grammar": {"syntax": "lark", "source": chain_of_rules(config.max_rule_chain - 3, "lark")}}),
        json!({"grammar": {"syntax": "gbnf", "source": chain_of_rules(config.max_rule_chain - 3, "gbnf")}}),
        json!({"grammar": {"syntax": "gbnf", "source": format!("root ::= {}\"a\"{}", "(".repeat(24), ")".repeat(24))}}),
    ];
    for (idx, case) in cases.into_iter().enumerate() {
        let mut matcher = start(&BYTES, std::slice::from_ref(&case));
        // A mask worker has an ordinary stack.
        let worker = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
            for _ in 0..100 {
                let row = filled(&mut matcher).unwrap_or_else(|error| panic!("case {idx}: {error}"));
                let Some(token) = allowed_tokens(&row).next() else { break };
                matcher.accept(token).unwrap_or_else(|error| panic!("case {idx}: {error}"));
                if matcher.has_ended() {
                    break;
                }
            }
        });
        worker.expect("a thread").join().expect("no overflow and no panic");
    }
}

#[test]
fn ten_thousand_forbidden_texts_of_every_kind_compile_within_their_cap() {
    let mut random = Random(1);
    let mut word =
        || -> String { (0..3 + random.below(12)).map(|_| (b'a' + random.below(26) as u8) as char).collect() };
    for kind in ["text", "ignore_case", "whole_word", "regex", "mixed"] {
        for scope in ["output", "document"] {
            let texts: Vec<Value> = (0..10_000)
                .map(|idx| match (kind, idx % 4) {
                    ("text", _) | ("mixed", 0) => json!({"text": word(), "scope": scope}),
                    ("ignore_case", _) | ("mixed", 1) => json!({"text": word(), "ignore_case": true, "scope": scope}),
                    ("whole_word", _) | ("mixed", 2) => json!({"text": word(), "whole_word": true, "scope": scope}),
                    _ => json!({"regex": format!("{}[0-9]?{}", word(), word()), "scope": scope}),
                })
                .collect();
            let (compiled, took) = timed(|| BYTES.compile(&[ir(json!({"forbidden_text": texts}))]));
            let compiled = compiled.unwrap_or_else(|error| panic!("{kind}, {scope}: {error}"));
            let num_bytes = compiled.memory_bytes();
            assert!(took < Duration::from_secs(10), "{kind}, {scope} took {took:?}");
            assert!(num_bytes < 5 * BYTES.config.max_automaton_bytes, "{kind}, {scope}: {num_bytes} bytes");
        }
    }
}

#[test]
fn what_repeats_itself_costs_no_more() {
    let chain = |body: &dyn Fn(usize) -> String| {
        (0..24).map(|idx| format!("r{idx} ::= {}\n", body(idx + 1))).collect::<String>()
    };
    let thrice = format!("s ::= r0 - 'b'\n{}r24 ::= 'a'\n", chain(&|next| format!("r{next} | r{next} | r{next}")));
    let round = "s ::= r - 'b'\nr ::= r | r | r | 'a'\n".to_owned();
    let empty = format!(
        "s ::= {}'a'\n{}",
        "e0 ".repeat(60_000),
        (0..3_000).map(|idx| format!("e{idx} ::= e{}?\n", idx + 1)).collect::<String>() + "e3000 ::= ''\n"
    );
    let grammar = |source: String| json!({"grammar": {"syntax": "ebnf", "source": source}});
    let longest = "x".repeat(100_000);
    let name = "n".repeat(400_000);
    let members: serde_json::Map<String, Value> = (0..1_000).map(|idx| (format!("p{idx}"), json!({}))).collect();
    for (case, compiles) in [
        (json!({"forbidden_text": [{"text": longest}]}), true),
        (json!({"forbidden_text": [{"text": longest, "ignore_case": true}]}), true),
        (grammar(thrice), true),
        (grammar(round), false),
        (grammar(empty), false),
        (json!({"json_schema": {"type": "object", "properties": {name: {"properties": members}}}}), false),
        (
            json!({"regex_patterns": [{"any_of": [{"pattern": "(?:(?:(?:(?i:\u{17f})){2,18}){840,857}[^a]*)?"}], "match": "prefix"}]}),
            true,
        ),
    ] {
        let what: String = case.to_string().chars().take(80).collect();
        let (result, took) = compile(case);
        assert_eq!(result.is_ok(), compiles, "{what}: {result:?}");
        assert!(took < Duration::from_secs(4), "{what} took {took:?}");
    }
}

#[test]
fn classes_are_counted_before_they_are_expanded() {
    let folded = r"(?i:\p{L})".repeat(300);
    let group = |patterns: Vec<String>| -> Value {
        let patterns: Vec<Value> = patterns.iter().map(|pattern| json!({"pattern": pattern})).collect();
        json!({"regex_patterns": [{"any_of": patterns, "match": "full"}]})
    };
    let terminals: String = (0..300).map(|idx| format!("A{idx}: /{}x{idx}/\n", r"(?i:\p{L})".repeat(9))).collect();
    let lark = format!("start: {}\n{terminals}", (0..300).map(|idx| format!("A{idx}")).collect::<Vec<_>>().join(" | "));
    for case in [
        group(vec![folded.clone(); 300]),
        group(vec![r"[^\p{L}]".repeat(3_000)]),
        group(vec![format!("[{}]", r"\p{L}".repeat(5_000))]),
        group(vec![r"(?i:[\x00-\x{10FFFF}])".repeat(1_000)]),
        json!({"forbidden_text": vec![json!({"regex": r"(?i:\p{L})x"}); 8_000]}),
        json!({"grammar": {"syntax": "lark", "source": lark}}),
        json!({"json_schema": {"anyOf": vec![json!({"pattern": folded}); 100]}}),
    ] {
        let what: String = case.to_string().chars().take(80).collect();
        let (result, took) = compile(case);
        assert!(matches!(result, Err(GuideError::TooLarge { .. })), "{what}: {result:?}");
        assert!(took < Duration::from_secs(2), "{what} took {took:?}");
    }
    let (result, _) = compile(group(vec![r"(?i)[\w.+-]+@[\w-]+(\.[\w-]+)+".to_owned(); 2]));
    assert_eq!(result, Ok(()));
}

#[test]
fn literals_are_found_through_their_suffixes() {
    let mut random = Random(3);
    let mut text = |len: usize| -> String { (0..len).map(|_| char::from(b'a' + random.below(2) as u8)).collect() };
    for _ in 0..30 {
        let words: Vec<String> = (1..6).map(|len| text(len + 1)).collect();
        let output = text(24);
        for ignore_case in [false, true] {
            let forbidden: Vec<Value> =
                words.iter().map(|word| json!({"text": word.to_uppercase(), "ignore_case": ignore_case})).collect();
            let output = if ignore_case { output.clone() } else { output.to_uppercase() };
            let first =
                words.iter().filter_map(|word| Some(output.to_lowercase().find(word.as_str())? + word.len() - 1)).min();
            let (_, num_bytes) = walk_bytes(json!({"forbidden_text": forbidden}), output.as_bytes());
            assert_eq!(num_bytes, first.unwrap_or(output.len()), "{words:?} in {output}");
        }
    }
}

#[test]
fn what_can_only_loop_is_unsatisfiable() {
    for case in [
        json!({"grammar": {"syntax": "lark", "source": "start: start"}}),
        json!({"grammar": {"syntax": "lark", "source": "start: a\na: b\nb: a"}}),
        json!({"grammar": {"syntax": "lark", "source": "start: /[^\\s\\S]/"}}),
        json!({"json_schema": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}}),
        json!({"regex_patterns": [{"any_of": [{"pattern": "[^\\s\\S]"}], "match": "full"}]}),
    ] {
        let (result, took) = compile(case.clone());
        assert!(matches!(result, Err(GuideError::Unsatisfiable { .. })), "{case}: {result:?}");
        assert!(took < Duration::from_secs(1));
    }
}

#[test]
fn a_crowd_of_ways_that_begin_alike_is_refused_before_it_is_compared() {
    let nested: String = (0..100).map(|rule| format!("\nr{rule}: {}", vec!["x"; 100].join(" | "))).collect();
    let calls: Vec<String> = (0..100).map(|rule| format!("r{rule}")).collect();
    for source in [
        format!("start: {}", vec![r#""a""#; 40_000].join(" | ")),
        format!("start: \"b\" ({})", vec![r#""a" "c""#; 20_000].join(" | ")),
        format!("start: {}{nested}\nx: \"a\" \"b\"", calls.join(" | ")),
    ] {
        let (result, took) = compile(json!({"grammar": {"syntax": "lark", "source": source}}));
        assert!(
            matches!(&result, Err(GuideError::OverLimit { setting, .. }) if setting.as_deref() == Some("row_items")),
            "{result:?}"
        );
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    let words: Vec<String> = (0..3_000).map(|word| format!("\"w{word}\"")).collect();
    let (result, _) =
        compile(json!({"grammar": {"syntax": "lark", "source": format!("start: {}", words.join(" | "))}}));
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn lexemes_that_may_all_be_empty_are_judged_within_bounds() {
    let (result, took) = compile(json!({"grammar": {"syntax": "lark", "source": "start: \"a\"* (/(é?)?/{0,1200})*"}}));
    assert_eq!(result, Ok(()));
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn an_expensive_mask_ends_in_a_typed_error() {
    let config = GuideConfig { step_lexer_fuel: 20, step_items: 20, ..GuideConfig::default() };
    let guide = Guide::new(Arc::clone(BYTES.vocabulary()), config).expect("the vocabulary can be sliced");
    let source = "start: (/[a-m]+x?/ | /[g-z]+y/ | /(a|b)*c{3,9}/)+";
    let mut error = None;
    if let Ok(compiled) = guide.compile(&[ir(json!({"grammar": {"syntax": "lark", "source": source}}))]) {
        let mut matcher = compiled.matcher(b"").expect("a matcher");
        for _ in 0..50 {
            if let Err(found) = filled(&mut matcher).and_then(|_| matcher.accept(u32::from(b'a'))) {
                error = Some(found);
                break;
            }
        }
    } else {
        error = guide.compile(&[ir(json!({"grammar": {"syntax": "lark", "source": source}}))]).map(drop).err();
    }
    assert_eq!(error, Some(GuideError::LimitExceeded { part: "grammar".into() }));
}

#[test]
fn errors_carry_no_generated_text() {
    let mut matcher = start(&BYTES, &[json!({"json_schema": {"const": "secret"}})]);
    for byte in b"\"sec" {
        matcher.accept(u32::from(*byte)).expect("allowed");
    }
    let error = matcher.accept(u32::from(b'x')).expect_err("not in the constant");
    assert!(!error.to_string().contains("sec"), "{error}");
    let json = serde_json::to_value(&error).expect("errors serialize");
    assert_eq!(json, json!({"code": "not_allowed", "part": "json_schema", "token": u32::from(b'x')}));
}
