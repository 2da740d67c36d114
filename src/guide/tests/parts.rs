//! Single parts: their semantics, their refusals, and what a matcher promises.

use super::*;

/// Every way that is tried must stay closed, whatever the tokens.
const FORBIDDEN: [&str; 6] = ["DROP", "eval", "system(", "password", "http://", "/etc/"];

const BAD_TEXTS: [&str; 13] = [
    "DROP TABLE users;",
    "x = eval('1')",
    "os.system('ls')",
    "my password is",
    "see http://a.b/c",
    "cat /etc/passwd",
    "DDROP",
    "eveval(1)",
    "ssystem(",
    "passwopassword",
    "hhttp://",
    "//etc//etc/",
    "{\"q\": \"DROP\"}",
];

/// A random split of `text` into tokens of the vocabulary.
fn random_split(vocabulary: &Vocabulary, text: &[u8], random: &mut Random) -> Vec<u32> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let fits = |token: &u32| vocabulary.is_text(*token) && rest.starts_with(vocabulary.bytes(*token));
        let fitting: Vec<u32> = (0..vocabulary.num_tokens() as u32).filter(fits).collect();
        let token = fitting[random.below(fitting.len())];
        at += vocabulary.bytes(token).len();
        tokens.push(token);
    }
    tokens
}

#[test]
fn forbidden_text_is_caught_in_every_split() {
    let vocabulary = NANO.vocabulary();
    let texts: Vec<Value> = FORBIDDEN.iter().map(|text| json!({"text": text})).collect();
    let compiled = NANO_GUIDE.compile(&[ir(json!({"forbidden_text": texts}))]).expect("compiles");
    let mut random = Random(13);
    for bad in BAD_TEXTS {
        let first_hit = (0..=bad.len())
            .find(|&len| FORBIDDEN.iter().any(|text| bad[..len].contains(text)))
            .expect("every bad text holds a forbidden one");
        for _ in 0..100 {
            let mut matcher = compiled.matcher(b"").expect("a matcher");
            let mut num_bytes = 0;
            let refused = random_split(vocabulary, bad.as_bytes(), &mut random).into_iter().find(|&token| {
                let row = filled(&mut matcher).expect("something else may always follow");
                if is_allowed(&row, token) {
                    matcher.accept(token).expect("the mask allows it");
                    num_bytes += vocabulary.bytes(token).len();
                }
                !is_allowed(&row, token)
            });
            let token = refused.unwrap_or_else(|| panic!("{bad:?} leaked"));
            assert!(num_bytes < first_hit && num_bytes + vocabulary.bytes(token).len() >= first_hit, "{bad:?}");
        }
    }
}

#[test]
fn a_document_scope_reaches_back_into_the_prompt_but_does_not_judge_it() {
    let compile = |texts: Value| BYTES.compile(&[ir(json!({"forbidden_text": texts}))]).expect("compiles");
    let allows = |compiled: &Arc<CompiledConstraint>, prompt: &[u8], output: &[u8]| {
        let mut matcher = compiled.matcher(prompt).expect("a matcher");
        output.iter().all(|&byte| matcher.accept(u32::from(byte)).is_ok()) && matcher.is_complete().expect("alive")
    };
    let across = compile(json!([{"text": "eval(", "scope": "document"}]));
    assert!(!allows(&across, b"x = ev", b"al("));
    assert!(allows(&across, b"x = ev", b"il("));
    assert!(allows(&across, b"eval(", b"x"), "what stands in the prompt is not the output's fault");
    assert!(allows(&across, b"eval(", b"eval") && !allows(&across, b"eval(", b"eval("));
    let output = compile(json!([{"text": "eval("}]));
    assert!(allows(&output, b"x = ev", b"al("));
    let words = compile(
        json!([{"text": "foo", "whole_word": true, "scope": "document"}, {"regex": "ba+r", "scope": "document"}]),
    );
    assert!(!allows(&words, b"fo", b"o"), "a whole word ends where the output ends");
    assert!(!allows(&words, b"fo", b"o ") && allows(&words, b"fo", b"ol"));
    assert!(allows(&words, b"x fo", b"o1") && allows(&words, b"xfo", b"o "));
    assert!(allows(&words, b"foo", b" ") && allows(&words, b"foo", b"") && !allows(&words, b"foo", b" foo"));
    assert!(!allows(&words, b"ba", b"ar") && allows(&words, b"bar", b"ar") && !allows(&words, b"bar", b"bar"));
}

#[test]
fn ascii_case_is_folded_and_nothing_else() {
    let with = |texts: Value, text: &str| walk_bytes(json!({"forbidden_text": texts}), text.as_bytes()).0;
    for kind in ["text", "regex"] {
        let texts = json!([{kind: "Kä", "ignore_case": true}]);
        assert!(!with(texts.clone(), "kä") && !with(texts.clone(), "Kä"), "{kind}");
        assert!(with(texts.clone(), "kÄ") && with(texts.clone(), "\u{212A}ä"), "{kind}");
        assert!(with(json!([{kind: "Kä"}]), "kä"), "{kind}");
    }
}

#[test]
fn match_modes_mean_what_they_say() {
    let cases = [
        // pattern, flags, mode, accepted, refused
        ("a|ab", "", "full", vec!["a", "ab"], vec!["", "b", "abb"]),
        ("ab?", "", "prefix", vec!["a", "ab", "axx"], vec!["", "ba"]),
        ("ab", "", "contains", vec!["ab", "xabx"], vec!["", "ba"]),
        ("ab", "", "absent", vec!["", "ba", "a"], vec!["ab", "xab"]),
        ("^a.c$", "s", "full", vec!["a\nc"], vec!["ac"]),
        ("^b$", "m", "contains", vec!["a\nb\nc", "b"], vec!["ab"]),
        ("a b # c", "x", "full", vec!["ab"], vec!["a b"]),
        ("ÄB", "i", "full", vec!["äb", "Äb"], vec!["ab"]),
        (r"(?-u:\b)x(?-u:\b)", "g", "contains", vec!["x", "a x."], vec!["ax", "xx"]),
        ("[^a]", "", "full", vec!["é", "日", "\n"], vec!["a", "éé"]),
        (r"\d+", "", "full", vec!["١٢", "12"], vec!["x"]),
    ];
    for (pattern, flags, mode, accepted, refused) in cases {
        let ir = json!({"regex_patterns": [{"any_of": [{"pattern": pattern, "flags": flags}], "match": mode}]});
        for text in accepted {
            assert!(walk_bytes(ir.clone(), text.as_bytes()).0, "/{pattern}/{flags} {mode} must accept {text:?}");
        }
        for text in refused {
            assert!(!walk_bytes(ir.clone(), text.as_bytes()).0, "/{pattern}/{flags} {mode} must refuse {text:?}");
        }
    }
}

#[test]
fn groups_are_alternations_and_all_of_them_hold() {
    let ir = json!({"regex_patterns": [
        {"any_of": [{"pattern": "a+"}, {"pattern": "B+", "flags": "i"}], "match": "full"},
        {"any_of": [{"pattern": "..."}], "match": "full"},
    ]});
    assert!(walk_bytes(ir.clone(), b"aaa").0 && walk_bytes(ir.clone(), b"bBb").0);
    assert_eq!(walk_bytes(ir.clone(), b"aab"), (false, 2), "no prefix that cannot be completed");
    assert_eq!(walk_bytes(ir, b"aaaa"), (false, 3));
}

#[test]
fn parts_that_exclude_each_other_are_refused_by_name() {
    let disjoint = json!({"regex_patterns": [
        {"any_of": [{"pattern": "a+"}], "match": "full"},
        {"any_of": [{"pattern": "[b-z]"}], "match": "prefix"},
    ]});
    let parts = vec!["regex_patterns[0]".to_owned(), "regex_patterns[1]".to_owned()];
    assert_eq!(refusal(&BYTES, disjoint), GuideError::Unsatisfiable { parts });
    let hidden = json!({"json_schema": {"const": "eval"}, "token_masks": {"forbidden_tokens": [0]},
        "regex_patterns": [{"any_of": [{"pattern": "[^\"]"}], "match": "prefix"}]});
    let parts = vec!["regex_patterns[0]".to_owned(), "json_schema".to_owned()];
    assert_eq!(refusal(&BYTES, hidden), GuideError::Unsatisfiable { parts });
    let several = BYTES.compile(&[ir(json!({})), ir(json!({"json_schema": false}))]).map(drop);
    assert_eq!(several, Err(GuideError::Unsatisfiable { parts: vec!["constraints[1].json_schema".into()] }));
}

#[test]
fn a_dead_end_names_the_smallest_set_of_parts_and_the_byte() {
    let mut matcher = start(
        &BYTES,
        &[json!({
            "json_schema": {"enum": ["eval", "x"]}, "forbidden_text": [{"text": "eva"}],
            "regex_patterns": [{"any_of": [{"pattern": "zzz"}], "match": "absent"}],
        })],
    );
    for byte in b"\"ev" {
        filled(&mut matcher).expect("not yet");
        matcher.accept(u32::from(*byte)).expect("allowed");
    }
    let Err(GuideError::DeadEnd { parts, byte_offset: 3 }) = filled(&mut matcher) else { panic!("a dead end") };
    assert!(parts.contains(&"json_schema".to_owned()) && parts.contains(&"forbidden_text".to_owned()));
    matcher.rollback(1).expect("a dead end can be backed out of");
    assert!(filled(&mut matcher).is_ok());
}

#[test]
fn id_lists_bind_ids_and_never_the_end() {
    let guide = guide(&[b"a", b"b", b"ab", b"a"]);
    let end = guide.vocabulary().end_tokens()[0];
    let mut matcher =
        start(&guide, &[json!({"token_masks": {"allowed_tokens": [0, 1, 4], "forbidden_tokens": [1, end]}})]);
    let row = filled(&mut matcher).expect("a mask");
    assert_eq!(allowed_tokens(&row).collect::<Vec<_>>(), [0, end], "not the other spelling of `a`, no control token");
    assert_eq!(matcher.accept(3), Err(GuideError::NotAllowed { part: "token_masks".into(), token: 3 }));
    let digest = tokens::digest(guide.vocabulary());
    assert!(guide.compile(&[ir(json!({"token_masks": {"vocabulary": digest}}))]).is_ok());
    let other = json!({"token_masks": {"vocabulary": Digest::of_bytes(b"other")}});
    assert!(matches!(refusal(&guide, other), GuideError::OtherVocabulary { .. }));
    let unknown = json!({"token_masks": {"allowed_tokens": [99]}});
    assert!(matches!(refusal(&guide, unknown), GuideError::UnknownToken { token: 99, .. }));
    let nothing = json!({"token_masks": {"allowed_tokens": []}, "regex_patterns": [{"any_of": [{"pattern": "a"}], "match": "full"}]});
    assert!(matches!(refusal(&guide, nothing), GuideError::Unsatisfiable { .. }));
}

#[test]
fn without_parts_every_text_may_follow_and_the_output_may_end() {
    let guide = guide(&[b"a", b"b"]);
    let mut matcher = start(&guide, &[]);
    let row = filled(&mut matcher).expect("a mask");
    assert_eq!(allowed_tokens(&row).collect::<Vec<_>>(), [0, 1, 3]);
    assert_eq!(matcher.compiled().num_parts(), 0);
}

#[test]
fn an_end_token_ends_and_rollback_takes_everything_back() {
    let mut matcher = start(
        &BYTES,
        &[json!({
            "json_schema": {"type": "integer"}, "forbidden_text": [{"text": "12"}],
        })],
    );
    let end = BYTES.vocabulary().end_tokens()[0];
    assert!(matches!(matcher.accept(end), Err(GuideError::NotAllowed { .. })));
    let before = filled(&mut matcher).expect("a mask");
    for byte in b"31" {
        matcher.accept(u32::from(*byte)).expect("allowed");
    }
    let at_31 = filled(&mut matcher).expect("a mask");
    assert!(is_allowed(&at_31, end) && !is_allowed(&at_31, u32::from(b'2')));
    matcher.accept(end).expect("an integer is complete");
    assert!(matcher.has_ended() && matcher.is_complete().expect("alive"));
    assert_eq!(matcher.num_accepted(), 3);
    assert_eq!(filled(&mut matcher), Err(GuideError::Ended));
    assert_eq!(matcher.accept(u32::from(b'1')), Err(GuideError::Ended));
    matcher.rollback(1).expect("one end token");
    assert_eq!(filled(&mut matcher).expect("a mask"), at_31);
    matcher.rollback(2).expect("two digits");
    assert_eq!(filled(&mut matcher).expect("a mask"), before);
    assert_eq!(matcher.rollback(1), Err(GuideError::Rollback { asked: 1, accepted: 0 }));
}

#[test]
fn a_finished_document_can_be_taken_back() {
    // llguidance stops by itself where nothing can follow; that must not be the end of the matcher.
    let mut matcher = start(&BYTES, &[json!({"grammar": {"syntax": "lark", "source": "start: \"ab\" | \"ac\""}})]);
    for byte in b"ab" {
        matcher.accept(u32::from(*byte)).expect("allowed");
    }
    let end = BYTES.vocabulary().end_tokens()[0];
    assert_eq!(allowed_tokens(&filled(&mut matcher).expect("a mask")).collect::<Vec<_>>(), [end]);
    assert!(matches!(matcher.accept(u32::from(b'b')), Err(GuideError::NotAllowed { .. })));
    matcher.rollback(1).expect("one token");
    let row = filled(&mut matcher).expect("a mask");
    assert_eq!(allowed_tokens(&row).collect::<Vec<_>>(), [u32::from(b'b'), u32::from(b'c')]);
}

#[test]
fn a_grammar_that_leads_nowhere_can_be_backed_out_of() {
    let source = "start: \"a\" (nowhere | \"c\")\nnowhere: \"x\" nowhere";
    let mut matcher = start(&BYTES, &[json!({"grammar": {"syntax": "lark", "source": source}})]);
    matcher.accept(u32::from(b'a')).expect("allowed");
    let mut num_accepted = 1;
    while num_accepted < 9 && matcher.accept(u32::from(b'x')).is_ok() {
        num_accepted += 1;
        if let Err(error) = filled(&mut matcher) {
            assert_eq!(error, GuideError::DeadEnd { parts: vec!["grammar".into()], byte_offset: num_accepted });
        }
    }
    matcher.rollback(num_accepted - 1).expect("a lost matcher is made anew");
    assert!(is_allowed(&filled(&mut matcher).expect("a mask"), u32::from(b'c')));
    matcher.accept(u32::from(b'c')).expect("allowed");
    assert!(matcher.is_complete().expect("alive"));
}

#[test]
fn forced_tokens_are_those_without_a_choice() {
    let mut matcher = start(&BYTES, &[json!({"grammar": {"syntax": "ebnf", "source": "s ::= 'abc' ('d' | 'e') 'f'"}})]);
    let forced = |matcher: &mut Matcher, room| {
        let row = filled(matcher).expect("a mask");
        matcher.forced(&row, room).expect("alive")
    };
    assert_eq!(forced(&mut matcher, 9), b"abc".map(u32::from));
    assert_eq!(forced(&mut matcher, 2), b"ab".map(u32::from));
    assert_eq!(matcher.num_accepted(), 0, "asking changes nothing");
    for byte in b"abc" {
        matcher.accept(u32::from(*byte)).expect("allowed");
    }
    assert!(forced(&mut matcher, 9).is_empty());
    matcher.accept(u32::from(b'd')).expect("allowed");
    assert_eq!(forced(&mut matcher, 9), [u32::from(b'f')]);
    matcher.accept(u32::from(b'f')).expect("allowed");
    assert!(forced(&mut matcher, 9).is_empty(), "only the end may follow, and that is sampled");
}

#[test]
fn the_last_forced_tokens_are_left_to_a_longer_one_that_may_begin_with_them() {
    let guide = guide(&[b"a", b"b", b"c", b"d", b"ab", b"cd", b"cde", b"e"]);
    let full = |pattern: &str| json!({"regex_patterns": [{"any_of": [{"pattern": pattern}], "match": "full"}]});
    for (pattern, expected) in [("abcd[a-e]", &[4u32][..]), ("abe[a-e]", &[4, 7]), ("abcd", &[4]), ("[a-e]+", &[])] {
        let mut matcher = start(&guide, &[full(pattern)]);
        let row = filled(&mut matcher).expect("a mask");
        assert_eq!(matcher.forced(&row, 9).expect("alive"), expected, "{pattern}");
    }
}

#[test]
fn code_points_are_counted_by_their_first_byte_and_given_back() {
    let guide = guide(&[b"a", "\u{e9}".as_bytes(), b"\xC3", b"\xA9", b"ab", "aé".as_bytes(), b"abcdefghijkl"]);
    let end = guide.vocabulary().end_tokens()[0];
    let limits = [json!({"limits": {"max_chars": 12}}), json!({"limits": {"max_chars": 2}})];
    let mut matcher = start(&guide, &limits);
    assert_eq!(matcher.compiled().num_parts(), 2);
    let allowed = |matcher: &mut Matcher| allowed_tokens(&filled(matcher).expect("a mask")).collect::<Vec<_>>();
    assert_eq!(allowed(&mut matcher), [0, 1, 2, 4, 5, end]);
    let part = "constraints[1].limits.max_chars".to_owned();
    assert_eq!(matcher.accept(6), Err(GuideError::NotAllowed { part, token: 6 }));
    matcher.accept(0).expect("one of two");
    matcher.accept(2).expect("two of two");
    assert_eq!(allowed(&mut matcher), [3], "half a character is no text to end with");
    matcher.accept(3).expect("the other half costs nothing");
    assert_eq!(allowed(&mut matcher), [end]);
    matcher.rollback(2).expect("two tokens");
    assert_eq!(allowed(&mut matcher), [0, 1, 2, end]);
    matcher.rollback(1).expect("one token");
    matcher.accept(1).expect("one character of two bytes");
    assert_eq!(allowed(&mut matcher), [0, 1, 2, end]);
    assert_eq!(
        refusal(
            &guide,
            json!({"limits": {"max_chars": 0}, "regex_patterns": [{"any_of": [{"pattern": "a"}], "match": "full"}]})
        ),
        GuideError::Unsatisfiable { parts: vec!["regex_patterns[0]".into(), "limits.max_chars".into()] }
    );
}

#[test]
fn the_way_to_an_end_is_counted_in_bytes() {
    let compiled = BYTES
        .compile(&[ir(json!({"regex_patterns": [{"any_of": [{"pattern": "a{3,5}|xyz{4}"}], "match": "full"}]}))])
        .expect("compiles");
    let [automaton] = compiled.automata.as_slice() else { panic!("one automaton") };
    let start = automaton.start(b"", &compiled.config).expect("a state");
    for (text, bytes) in
        [("", Some(3)), ("x", Some(5)), ("aa", Some(1)), ("aaaa", Some(0)), ("xyzzz", Some(1)), ("b", None)]
    {
        assert_eq!(
            automaton.min_bytes_to_end(automaton.run(start, text.as_bytes()).expect("a state")),
            bytes,
            "{text}"
        );
    }
    assert!(compiled.memory_bytes() > 4 * compiled.text.len());
}

#[test]
fn look_around_without_an_exact_automaton_is_refused_with_its_place() {
    let group = |pattern: &str, flags: &str, mode: &str| json!({"regex_patterns": [{"any_of": [{"pattern": pattern, "flags": flags}], "match": mode}]});
    let cases = [
        ("a(?=b)c", "", "full", 1, "very start"),
        ("a(?=b)", "", "full", 1, "very start"),
        ("a(?!b)", "", "prefix", 1, "very start"),
        ("x(?=a)b", "", "contains", 1, "at the end"),
        ("(?<!a)b", "", "contains", 0, "look-behind"),
        ("(?<=a)b", "", "full", 0, "before the output"),
        ("(?=a)b|c", "", "full", 6, "group"),
        ("(?=(?!a)b)c", "", "full", 3, "inside"),
        ("(?=a)+b", "", "full", 5, "repeated"),
        ("^(?=a)b", "m", "full", 1, "very start"),
        ("(?=a) b", "x", "full", 0, "verbose"),
        ("(?=a)b(", "", "full", 6, "unclosed"),
        ("(?=[)b", "", "full", 0, "unclosed"),
        ("(?=a", "", "full", 0, "unclosed"),
        ("(?i)a(?=b)", "", "prefix", 0, "flags"),
        ("(?=[b-a])b", "", "full", 4, "range"),
    ];
    for (pattern, flags, mode, at, needle) in cases {
        match refusal(&BYTES, group(pattern, flags, mode)) {
            GuideError::InvalidRegex { offset, message, .. } => {
                assert!(offset == at && message.contains(needle), "/{pattern}/ {mode}: byte {offset}, {message}");
            }
            other => panic!("/{pattern}/ {mode}: {other:?}"),
        }
    }
    let two = json!({"regex_patterns": [{"any_of": [{"pattern": "(?=a)b"}, {"pattern": "c"}], "match": "full"}]});
    assert!(matches!(refusal(&BYTES, two), GuideError::InvalidRegex { message, .. } if message.contains("of its own")));
    for (pattern, text) in [(r"\(?=a", "(=a"), (r"\(?=a", "=a"), ("[(?=]a", "?a"), ("[](?!]", "]"), ("[[(?=]]", "(")] {
        assert!(walk_bytes(group(pattern, "", "full"), text.as_bytes()).0, "/{pattern}/ has no look-around");
    }
    let password = r"^(?=.*\d)(?=.*[A-Z])(?!.*password).{8,}$";
    for (text, accepted) in
        [("Abcdefg1", true), ("abcdefg1", false), ("Abcdefgh", false), ("Apassword1", false), ("Ab1", false)]
    {
        assert_eq!(walk_bytes(group(password, "", "full"), text.as_bytes()).0, accepted, "{text}");
    }
}

#[test]
fn a_wrong_row_is_refused() {
    let mut matcher = start(&BYTES, &[]);
    assert!(matches!(matcher.fill(&mut [0; 2]), Err(GuideError::RowLength { actual: 2, .. })));
}

#[test]
fn json_white_space_is_bounded() {
    let schema = json!({"type": "array", "items": {"const": 1}, "maxItems": 2});
    let accepts = |whitespace: Value, text: &str| {
        let limits = if whitespace.is_null() { json!({}) } else { json!({"json_whitespace": whitespace}) };
        walk_bytes(json!({"json_schema": schema, "limits": limits}), text.as_bytes()).0
    };
    let spaces = " ".repeat(40);
    assert!(accepts(Value::Null, "[1,\n  1]") && accepts(Value::Null, &format!("[{spaces}\n{spaces}1]")));
    assert!(!accepts(Value::Null, &format!("[{spaces} 1]")), "41 spaces");
    assert!(!accepts(Value::Null, "[\n\n1]") && !accepts(Value::Null, "[\n \n1]") && !accepts(Value::Null, "[\t1]"));
    assert!(!accepts(Value::Null, " [1]"), "nothing before the document");
    assert!(accepts(json!({"max_newlines": 0, "max_spaces": 1}), "[1, 1]"));
    assert!(!accepts(json!({"max_newlines": 0, "max_spaces": 1}), "[1,\n1]"));
    assert!(accepts(json!({"max_newlines": 0, "max_spaces": 0}), "[1,1]"));
    assert!(!accepts(json!({"max_newlines": 0, "max_spaces": 0}), "[1, 1]"));
    assert!(accepts(json!({"max_newlines": 2, "max_spaces": 0}), "[\n\n1]"));
    assert!(!accepts(json!({"max_newlines": 2, "max_spaces": 0}), "[\n\n\n1]"));
}

#[test]
fn no_escape_hides_a_forbidden_text_or_a_second_spelling_of_a_key() {
    let string = json!({"type": "string"});
    let free = json!({"json_schema": string});
    assert!(walk_bytes(free, br#""\u0007""#).0, "control characters have no other spelling");
    let bound = json!({"json_schema": string, "forbidden_text": [{"text": "eval"}]});
    for text in [r#""\u0065val""#, r#""\u0007""#, r#""ev\/al""#] {
        assert!(!walk_bytes(bound.clone(), text.as_bytes()).0, "{text}");
    }
    assert!(walk_bytes(bound, br#""a\n\"\\b""#).0);
    let open = json!({"json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}});
    assert!(walk_bytes(open.clone(), br#"{"a": 1, "b": "x"}"#).0);
    assert!(!walk_bytes(open, br#"{"\u0061": "x"}"#).0, "the key is `a` and must be an integer");
}

#[test]
fn what_is_not_enforced_is_refused_by_name() {
    let aimless = json!({"limits": {"json_whitespace": {"max_newlines": 1, "max_spaces": 1}}});
    assert!(matches!(refusal(&BYTES, aimless), GuideError::UnsupportedPart { .. }));
    let stale = json!({"digest": Digest::of_bytes(b"other")});
    assert!(matches!(refusal(&BYTES, stale), GuideError::InvalidIr { .. }));
    let limited = BYTES.compile(&[ir(json!({"limits": {"max_tokens": 9}})), ir(json!({"limits": {"max_tokens": 7}}))]);
    assert_eq!(limited.expect("compiles").max_tokens(), Some(7));
    assert!(BYTES.compile(&[ir(json!({"language": "python"}))]).is_ok(), "a language alone is a label");
}

#[test]
fn a_schema_keyword_that_cannot_be_masked_is_refused_with_its_place() {
    let cases = [
        (json!({"not": {"type": "integer"}}), "/not", "not"),
        (json!({"not": {"multipleOf": 3}}), "/not", "not"),
        (json!({"if": {"minimum": 1, "type": "integer"}, "then": {"const": 1}}), "/if", "if"),
        (json!({"properties": {"a/b": {"contains": {"const": 1}}}}), "/properties/a~1b/contains", "contains"),
        (
            json!({"$defs": {"x": {"uniqueItems": true}}, "items": {"$ref": "#/$defs/x"}}),
            "/$defs/x/uniqueItems",
            "uniqueItems",
        ),
        (json!({"type": "string", "format": "iban"}), "/format", "format"),
        (json!({"items": {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 2}]}}), "/items/oneOf", "oneOf"),
        (json!({"$ref": "http://example.com/a.json"}), "/$ref", "$ref"),
        (
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": {"prefixItems": [{}]}}),
            "/items/prefixItems",
            "prefixItems",
        ),
        (json!({"pattern": "(?=a)b"}), "/pattern", "pattern"),
        (json!({"pattern": r"\bx"}), "/pattern", "pattern"),
        (json!({"x-guidance": {"lenient": true}}), "/x-guidance", "x-guidance"),
        (
            json!({"properties": {"a": {"properties": {"b": {}}, "minProperties": 2}}}),
            "/properties/a/minProperties",
            "minProperties",
        ),
        (json!({"anyOf": [{}, {}], "unevaluatedItems": false}), "/unevaluatedItems", "unevaluatedItems"),
        (json!({"then": {}}), "/then", "then"),
        (
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/a", "minimum": 1, "definitions": {"a": {}}}),
            "/minimum",
            "minimum",
        ),
        (json!({"nullable": true}), "/nullable", "nullable"),
        (json!({"minimum": 9_007_199_254_740_993u64}), "/minimum", "minimum"),
        (json!({"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}), "/$defs/a/not", "not"),
        (json!({"type": "object", "minProperties": 2}), "/minProperties", "minProperties"),
        (json!({"$schema": "http://example.com/"}), "/$schema", "$schema"),
    ];
    for (schema, at, named) in cases {
        match refusal(&BYTES, json!({"json_schema": schema})) {
            GuideError::UnsupportedSchema { pointer, keyword, .. } => assert_eq!((&*pointer, &*keyword), (at, named)),
            other => panic!("{schema}: {other:?}"),
        }
    }
    for (schema, at) in [
        (json!({"anyOf": [{}, 3]}), "/anyOf/1"),
        (json!({"minLength": -1}), "/minLength"),
        (json!({"$ref": "#/$defs/missing"}), "/$ref"),
        (json!({"properties": []}), "/properties"),
    ] {
        match refusal(&BYTES, json!({"json_schema": schema})) {
            GuideError::InvalidSchema { pointer, .. } => assert_eq!(pointer, at),
            other => panic!("{schema}: {other:?}"),
        }
    }
    for schema in [
        json!({"type": "string", "pattern": "^a{3}$", "maxLength": 2}),
        json!({"type": "integer", "minimum": 5, "maximum": 4}),
        json!({"enum": []}),
        json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
        json!({"$ref": "#"}),
        json!({"not": {}}),
        json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        json!({"type": "string", "pattern": "^a", "not": {"pattern": "a"}}),
    ] {
        let error = refusal(&BYTES, json!({"json_schema": schema}));
        assert!(matches!(error, GuideError::Unsatisfiable { .. }), "{schema}: {error:?}");
    }
    for schema in [
        json!(true),
        json!({"uniqueItems": false}),
        json!({"$defs": {"unused": {"not": {}}}}),
        json!({"$anchor": "me", "anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#me"}}]}),
    ] {
        assert!(BYTES.compile(&[ir(json!({"json_schema": schema}))]).is_ok(), "{schema}");
    }
}
