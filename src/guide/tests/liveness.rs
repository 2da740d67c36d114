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

/// As above, with statements that nothing separates, so that almost anything may follow an expression.
const LOOSE: &str = r#"
start: stmt*
stmt: NAME "(" NAME ")" block | "if" "(" expr ")" block | "return" expr | expr ";"?
block: "{" stmt* "}"
expr: NAME | NUMBER | STRING | TEMPLATE | "(" expr ")" | expr OP expr | expr "(" expr? ")"
    | "[" [expr ("," expr)*] "]" | "{" NAME ":" expr "}" | expr TEMPLATE
OP: "+" | "-" | "=" | "<" | ">"
TEMPLATE: /`[^`$]*`/
NAME: /[a-zA-Z_]+/
NUMBER: /[0-9]+/
STRING: /"[^"\n]*"|'[^'\n]*'/
%ignore /[ \n]+/
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
        (vec![lark(LOOSE)], "f(a){if(a){return [1,{x:(2"),
        (vec![lark(LOOSE)], "f(a){b=`x"),
        (vec![grammar("gbnf", SAME_NUMBER)], "aaa"),
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

/// Brackets of which some may be empty, words that begin with a word, and repetition on both sides.
const NESTED: &str = r#"
start: item+
item: "(" item* ")" | "[" item ("," item)* "]" | "{" pair? "}" | "if" item ("else" item)? | WORD
pair: WORD ":" item | pair "," WORD ":" item
WORD: LETTERS & ~KEYWORD
LETTERS: /[efils]+/
KEYWORD: "if" | "else"
%ignore / /
"#;

/// Bytes of the shortest end from here, by looking at every text over `alphabet` of up to `max_len` bytes.
fn shortest_end(matcher: &mut Matcher, alphabet: &[u8], max_len: usize) -> Option<usize> {
    let alphabet: Vec<u32> = alphabet.iter().filter_map(|&byte| matcher.compiled().alphabet().token(byte)).collect();
    let mut texts = vec![Vec::new()];
    for len in 0..=max_len {
        let mut longer = Vec::new();
        for text in texts {
            for &token in &text {
                matcher.accept(token).expect("it was allowed");
            }
            if matcher.is_complete().expect("a live matcher") {
                matcher.rollback(text.len()).expect("it was accepted");
                return Some(len);
            }
            let row = filled(matcher).expect("a mask");
            let allowed = alphabet.iter().filter(|&&token| is_allowed(&row, token));
            longer.extend(allowed.map(|&token| [text.as_slice(), &[token]].concat()));
            matcher.rollback(text.len()).expect("it was accepted");
        }
        texts = longer;
    }
    None
}

#[test]
fn the_shortest_end_is_as_short_as_brute_force_finds_it() {
    const ALPHABET: &[u8] = b"()[]{},:efils ";
    let beside = json!({"regex_patterns": [{"any_of": [{"pattern": "[^s]*"}], "match": "full"}]});
    let counted = json!({"regex_patterns": [{"any_of": [{"pattern": "(...)*"}], "match": "full"}]});
    let nested = json!({"grammar": {"syntax": "lark", "source": NESTED}});
    let mut random = Random(11);
    let mut num_ends = 0;
    for set in [vec![nested.clone()], vec![nested.clone(), beside], vec![nested, counted]] {
        for _ in 0..12 {
            let mut matcher = start(&BYTES, &set);
            for _ in 0..random.below(14) {
                let row = filled(&mut matcher).expect("a mask");
                let allowed = ALPHABET.iter().filter_map(|&byte| matcher.compiled().alphabet().token(byte));
                let allowed: Vec<u32> = allowed.filter(|&token| is_allowed(&row, token)).collect();
                let Some(&token) = allowed.get(random.below(allowed.len().max(1))) else { break };
                matcher.accept(token).expect("it is allowed");
            }
            let text = matcher.last_tokens(matcher.num_accepted()).expect("text alone");
            let context = text_of(&BYTES, &text);
            let found = matcher.completion().expect("a live matcher").unwrap_or_else(|| panic!("no end: {context}"));
            assert!(completes(&mut matcher, &found), "{context}: {}", text_of(&BYTES, &found));
            matcher.rollback(found.len()).expect("it was accepted");
            if let Some(shortest) = shortest_end(&mut matcher, ALPHABET, 4) {
                let len = BYTES.vocabulary().decode(&found).len();
                assert_eq!(len, shortest, "{context}: {}", text_of(&BYTES, &found));
                num_ends += 1;
            }
        }
    }
    assert!(num_ends > 10, "only {num_ends} ends are short enough to compare");
}

#[test]
fn every_open_bracket_is_closed_in_its_order() {
    let mut matcher = start(&NANO_GUIDE, &[json!({"grammar": {"syntax": "lark", "source": NESTED}})]);
    let mut random = Random(3);
    let (mut text, mut end) = (String::new(), Vec::new());
    for _ in 0..80 {
        let (open, close) = [("(", b')'), ("[", b']'), ("{e:", b'}')][random.below(3)];
        text.push_str(open);
        end.push(close);
    }
    text.push('i');
    end.reverse();
    feed(&mut matcher, &text);
    let found = matcher.completion().expect("a live matcher").expect("an end");
    assert_eq!(NANO_GUIDE.vocabulary().decode(&found), end);
    // The same parser goes back with the sequence.
    matcher.rollback(1).expect("it was accepted");
    feed(&mut matcher, "e");
    assert_eq!(matcher.completion(), Ok(Some(found)));
}

/// One part that accepts exactly the documents of `words`, in one of six notations.
fn choice(notation: usize, words: &[&str], is_nested: bool) -> Value {
    let document = |word: &&str| if is_nested { format!("{{\"k\":[\"{word}\"]}}") } else { format!("\"{word}\"") };
    let documents: Vec<String> = words.iter().map(document).collect();
    let quoted = |quote: fn(&String) -> String, or: &str| documents.iter().map(quote).collect::<Vec<_>>().join(or);
    match notation {
        0 if is_nested => json!({"json_schema": {"type": "object", "properties": {"k": {
            "type": "array", "items": {"enum": words}, "minItems": 1, "maxItems": 1
        }}, "required": ["k"], "additionalProperties": false}}),
        0 => json!({"json_schema": {"enum": words}}),
        1 => {
            json!({"grammar": {"syntax": "ebnf", "source": format!("root ::= {}", quoted(|text| format!("'{text}'"), " | "))}})
        }
        2 => {
            json!({"grammar": {"syntax": "gbnf", "source": format!("root ::= {}", quoted(|text| format!("{text:?}"), " | "))}})
        }
        3 => {
            json!({"grammar": {"syntax": "lark", "source": format!("start: {}", quoted(|text| format!("{text:?}"), " | "))}})
        }
        4 => full(&quoted(|text| regex_syntax::escape(text), "|")),
        _ => {
            let any_of: Vec<Value> =
                documents.iter().map(|text| json!({"pattern": regex_syntax::escape(text)})).collect();
            json!({"regex_patterns": [{"any_of": any_of, "match": "full"}]})
        }
    }
}

fn regex_part(pattern: &str, mode: &str) -> Value {
    json!({"regex_patterns": [{"any_of": [{"pattern": pattern}], "match": mode}]})
}

fn full(pattern: &str) -> Value {
    regex_part(pattern, "full")
}

fn contains(pattern: &str) -> Value {
    regex_part(pattern, "contains")
}

fn absent(pattern: &str) -> Value {
    regex_part(pattern, "absent")
}

fn prefix(pattern: &str) -> Value {
    regex_part(pattern, "prefix")
}

fn forbid(text: &str) -> Value {
    json!({"forbidden_text": [{"text": text}]})
}

fn schema(schema: Value) -> Value {
    json!({"json_schema": schema})
}

fn grammar(syntax: &str, source: &str) -> Value {
    json!({"grammar": {"syntax": syntax, "source": source}})
}

/// Only the ids whose text consists of `bytes`.
fn only_bytes(bytes: &str) -> Value {
    let vocabulary = NANO.vocabulary();
    let fits = |token: &u32| {
        let text = vocabulary.bytes(*token);
        vocabulary.is_text(*token) && !text.is_empty() && text.iter().all(|byte| bytes.as_bytes().contains(byte))
    };
    json!({"token_masks": {"allowed_tokens": (0..vocabulary.num_tokens() as u32).filter(fits).collect::<Vec<_>>()}})
}

/// Distinct words, none inside another.
fn words(random: &mut Random) -> [String; 4] {
    std::array::from_fn(|idx| {
        let len = 3 + random.below(6);
        let body: String = (0..len).map(|_| char::from(b'a' + random.below(20) as u8)).collect();
        format!("{}{body}", ["v", "w", "x", "y"][idx])
    })
}

/// Sets of three kinds, from words that each part allows or forbids: what they share is known.
fn sets_of_words(random: &mut Random, is_satisfiable: bool) -> Vec<Vec<Value>> {
    let mut sets = Vec::new();
    for case in 0..42 {
        let [a, b, c, d] = &words(random);
        let is_nested = random.below(2) == 1;
        let mut part = |words: &[&str]| choice(random.below(6), words, is_nested);
        sets.push(match (case % 3, is_satisfiable) {
            (0, true) => vec![part(&[a, b]), part(&[b, c])],
            (0, false) => vec![part(&[a, b]), part(&[c, d])],
            (1, true) => vec![part(&[a, b]), part(&[b, c]), part(&[b, d])],
            (1, false) => vec![part(&[a, b]), part(&[b, c]), part(&[a, c])],
            (_, true) => vec![part(&[a, b, c]), part(&[b, c, d]), forbid(b)],
            (_, false) => vec![part(&[a, b]), part(&[b, c]), forbid(b)],
        });
    }
    sets
}

/// A document in which a forbidden value stands deep inside what is required.
fn deep(value: &str) -> Value {
    let inner = json!({"type": "object", "properties": {"free": {"type": "string"}, "flag": {"const": value}},
        "required": ["free", "flag"], "additionalProperties": false});
    schema(json!({"type": "object", "properties": {
        "id": {"type": "integer"}, "name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}},
        "inner": inner
    }, "required": ["id", "name", "tags", "inner"], "additionalProperties": false}))
}

const SAME_NUMBER: &str = r#"root ::= "a" root "b" | "ab""#;
const SUM: &str = "sum ::= term ('+' term)*\nterm ::= [0-9]+ | '(' sum ')'";

fn satisfiable_sets() -> Vec<Vec<Value>> {
    let object = json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"], "additionalProperties": false});
    let by_hand = vec![
        vec![schema(object.clone()), contains("ada"), forbid("bob")],
        vec![schema(object.clone()), full(r#"(?s)\{.*"name": *"[a-c]{5}".*\}"#)],
        vec![deep("rm -rf"), forbid("rm -fr")],
        vec![deep("rm -rf"), contains("hello"), absent("[0-9]{2}")],
        vec![schema(json!({"type": "integer"})), contains("77"), absent("777")],
        vec![schema(json!({"anyOf": [{"type": "integer"}, {"const": "secret"}]})), forbid("secret")],
        vec![schema(json!(true)), contains("true"), prefix("\\[")],
        vec![grammar("gbnf", SAME_NUMBER), full("a{4}b*")],
        vec![grammar("gbnf", SAME_NUMBER), contains("aaabb"), forbid("aaaa")],
        vec![grammar("ebnf", SUM), contains(r"\(\("), forbid("1")],
        vec![grammar("ebnf", SUM), grammar("lark", "start: /[0-9()+]{9}/")],
        vec![grammar("lark", PROGRAM), contains("fn"), forbid("return")],
        vec![grammar("lark", PROGRAM), contains("zz")],
        vec![only_bytes("0123456789"), full("[0-9a-f]{6}"), absent("[0-5]")],
        vec![
            only_bytes("{}\"ab:"),
            schema(json!({"type": "object", "properties": {"a": {"enum": ["b", "c"]}},
            "required": ["a"], "additionalProperties": false})),
        ],
        vec![full("[a-z]+"), contains("q"), contains("zz"), absent("zq")],
        vec![prefix("ab"), full(".{5}"), absent("b.b")],
        vec![
            json!({"regex_patterns": [{"any_of": [{"pattern": "yes"}, {"pattern": "no"}], "match": "full"}]}),
            forbid("no"),
        ],
    ];
    [sets_of_words(&mut Random(5), true), by_hand].concat()
}

fn empty_sets() -> Vec<Vec<Value>> {
    let by_hand = vec![
        vec![deep("rm -rf"), forbid("rm -rf")],
        vec![deep("rm -rf"), forbid("m -r"), contains("hello")],
        vec![schema(json!({"enum": ["a secret", "secrets", "no secret here"]})), forbid("secret")],
        vec![schema(json!({"type": "integer"})), contains("x")],
        vec![schema(json!({"type": "array", "items": {"type": "integer"}})), contains("x")],
        vec![schema(json!({"type": "string", "maxLength": 3})), contains("abcd")],
        vec![schema(json!({"type": "string", "pattern": "^[a-f]+$"})), contains("g")],
        vec![
            schema(json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
            "additionalProperties": false})),
            forbid("\"a\""),
        ],
        vec![grammar("gbnf", SAME_NUMBER), full("a+")],
        vec![grammar("gbnf", SAME_NUMBER), forbid("b")],
        vec![grammar("ebnf", SUM), contains("-")],
        vec![grammar("ebnf", SUM), absent("[0-9]")],
        vec![grammar("lark", PROGRAM), prefix("fn x\\("), forbid("{")],
        vec![grammar("gbnf", SAME_NUMBER), full("ab{2,9}"), forbid("zz")],
        vec![only_bytes("0123456789"), full("[a-f]{6}")],
        vec![only_bytes("0123456789"), full("[0-9a-f]{6}"), absent("[0-9]")],
        vec![full("[a-z]+"), contains("0")],
        vec![contains("a"), contains("b"), full(".")],
        vec![prefix("ab"), full("b.*")],
    ];
    [sets_of_words(&mut Random(6), false), by_hand].concat()
}

fn irs_of(set: &[Value]) -> Vec<ConstraintIr> {
    set.iter().cloned().map(ir).collect()
}

/// The IRs that a conflict names.
fn members(parts: &[String]) -> Vec<usize> {
    let index = |part: &String| part.strip_prefix("constraints[")?.split(']').next()?.parse().ok();
    let mut members: Vec<usize> = parts.iter().filter_map(index).collect();
    members.dedup();
    members
}

#[test]
fn sets_that_are_satisfiable_by_construction_are_never_refused() {
    let sets = satisfiable_sets();
    assert!(sets.len() >= 60);
    let (mut num_unknown, mut wrong) = (0, Vec::new());
    for set in &sets {
        match NANO_GUIDE.compile(&irs_of(set)) {
            Err(error) => wrong.push(format!("{error}: {set:?}")),
            Ok(compiled) => match compiled.verdict().clone() {
                Verdict::Satisfiable(witness) => {
                    let mut matcher = compiled.matcher(b"").expect("a matcher");
                    assert!(completes(&mut matcher, &witness.tokens), "{set:?}");
                    assert_eq!(NANO_GUIDE.vocabulary().decode(&witness.tokens), witness.bytes);
                    assert_eq!(compiled.min_tokens(), Some(witness.tokens.len() as u32));
                }
                Verdict::Unknown { why } => {
                    eprintln!("unknown, {why}: {set:?}");
                    num_unknown += 1;
                }
                Verdict::Empty { .. } => wrong.push(format!("empty: {set:?}")),
            },
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(num_unknown * 10 <= sets.len(), "{num_unknown} of {} are unknown", sets.len());
}

#[test]
fn sets_that_are_empty_by_construction_are_refused_with_a_conflict_of_which_every_part_is_needed() {
    let sets = empty_sets();
    assert!(sets.len() >= 60);
    let (mut num_unknown, mut wrong) = (0, Vec::new());
    for set in &sets {
        match NANO_GUIDE.compile(&irs_of(set)) {
            Err(GuideError::Unsatisfiable { parts }) => {
                let members = members(&parts);
                for dropped in &members {
                    let rest: Vec<Value> =
                        members.iter().filter(|member| *member != dropped).map(|&idx| set[idx].clone()).collect();
                    if let Err(error) = NANO_GUIDE.compile(&irs_of(&rest)) {
                        wrong.push(format!("{parts:?} without {dropped}: {error}: {set:?}"));
                    }
                }
            }
            Err(error) => wrong.push(format!("{error}: {set:?}")),
            Ok(compiled) => match compiled.verdict() {
                Verdict::Unknown { why } => {
                    eprintln!("unknown, {why}: {set:?}");
                    num_unknown += 1;
                }
                verdict => wrong.push(format!("{verdict:?}: {set:?}")),
            },
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(num_unknown * 10 <= sets.len(), "{num_unknown} of {} are unknown", sets.len());
}

#[test]
fn a_verdict_that_is_known_is_taken_over_and_a_false_witness_is_not() {
    let compile = |irs: &[ConstraintIr], known: Verdict| {
        crate::guide::on_big_stack(NANO_GUIDE.config().compile_stack_bytes, || {
            NANO_GUIDE.compile_known(irs, Some(known))
        })
    };
    let (mut num_witnesses, mut num_false) = (0, 0);
    for set in satisfiable_sets() {
        let irs = irs_of(&set);
        let judged = NANO_GUIDE.compile(&irs).expect("it is satisfiable").verdict().clone();
        let taken = compile(&irs, judged.clone()).expect("it is satisfiable");
        assert_eq!(*taken.verdict(), judged);
        let Verdict::Satisfiable(witness) = &judged else { continue };
        num_witnesses += 1;
        let too_long = [&witness.tokens[..], &witness.tokens[..], &[0]].concat();
        for tokens in [too_long, NANO_GUIDE.vocabulary().end_tokens().to_vec()] {
            // By acceptance alone: past its end a false one may come to where no token is allowed.
            let mut matcher = taken.matcher(b"").expect("a matcher");
            let is_accepted = tokens.iter().all(|&token| matcher.accept(token).is_ok());
            let holds = is_accepted && matcher.is_complete().unwrap_or(false);
            num_false += usize::from(!holds);
            let bytes = NANO_GUIDE.vocabulary().decode(&tokens);
            let claimed = Verdict::Satisfiable(Witness { tokens, bytes });
            let verdict = compile(&irs, claimed.clone()).expect("it is satisfiable").verdict().clone();
            assert_eq!(verdict, if holds { claimed } else { judged.clone() }, "{set:?}");
        }
        let unknown = Verdict::Unknown { why: UnknownWhy::Bound };
        assert_eq!(*compile(&irs, unknown.clone()).expect("it is admitted").verdict(), unknown);
    }
    assert!(num_witnesses >= 50 && num_false >= 50, "{num_witnesses} witnesses, {num_false} false ones");
    let parts = vec!["regex_patterns[0]".to_owned()];
    let irs = irs_of(&[full("a")]);
    let error = compile(&irs, Verdict::Empty { parts: parts.clone() }).expect_err("nothing satisfies it");
    assert!(matches!(error, GuideError::Unsatisfiable { parts: named } if named == parts));
}

/// Fewest tokens of `text`, by trying every token at every place.
fn fewest_tokens(text: &[u8]) -> usize {
    let vocabulary = NANO.vocabulary();
    let mut fewest = vec![usize::MAX; text.len() + 1];
    fewest[0] = 0;
    for at in 0..text.len() {
        for token in (0..vocabulary.num_tokens() as u32).filter(|&token| vocabulary.is_text(token)) {
            let bytes = vocabulary.bytes(token);
            if !bytes.is_empty() && fewest[at] != usize::MAX && text[at..].starts_with(bytes) {
                fewest[at + bytes.len()] = fewest[at + bytes.len()].min(fewest[at] + 1);
            }
        }
    }
    fewest[text.len()]
}

#[test]
fn min_tokens_of_a_finite_language_is_close_to_the_true_shortest() {
    let mut random = Random(11);
    let mut languages: Vec<Vec<String>> = vec![
        vec!["a very long string that is not the shortest".into(), "z".into()],
        vec!["the quick brown fox jumps over the lazy dog and runs".into(), "q0Z#xK9$vJ7&wQ3!pL5@".into()],
    ];
    for _ in 0..20 {
        let text = |random: &mut Random| {
            (0..4 + random.below(40)).map(|_| char::from(b'#' + random.below(56) as u8)).collect()
        };
        languages.push((0..4).map(|_| text(&mut random)).map(|text: String| text.replace('\\', "~")).collect());
    }
    for language in &languages {
        let documents: Vec<String> = language.iter().map(|text| format!("\"{text}\"")).collect();
        let shortest = documents.iter().map(|text| fewest_tokens(text.as_bytes())).min().expect("texts");
        let alternatives: Vec<String> = documents.iter().map(|text| regex_syntax::escape(text)).collect();
        for part in [schema(json!({"enum": language})), full(&alternatives.join("|"))] {
            let compiled = NANO_GUIDE.compile(&[ir(part.clone())]).unwrap_or_else(|error| panic!("{part}: {error}"));
            let found = compiled.min_tokens().expect("a witness") as usize;
            assert!((shortest..=shortest + 8).contains(&found), "{found} for {shortest}: {part}");
        }
    }
    let big_or_small =
        schema(json!({"anyOf": [wide_schema(20), {"type": "array", "items": {"type": "integer"}, "minItems": 2}]}));
    let compiled = NANO_GUIDE.compile(&[ir(big_or_small)]).expect("a satisfiable set");
    assert!(compiled.min_tokens().expect("a witness") as usize <= fewest_tokens(b"[0,0]") + 8);
    let optional =
        schema(json!({"type": "object", "properties": {"long_name_of_an_optional_part": {"type": "string"}},
        "additionalProperties": false}));
    let compiled = NANO_GUIDE.compile(&[ir(optional)]).expect("a satisfiable set");
    assert!(compiled.min_tokens().expect("a witness") as usize <= fewest_tokens(b"{}") + 8);
}

#[test]
fn what_is_not_known_to_be_satisfiable_is_refused_where_the_ir_says_so() {
    let config =
        GuideConfig { max_proof_states: 10, max_closing_states: 10, witness_masks: 1, ..GuideConfig::default() };
    let guide = Guide::new(Arc::clone(NANO.vocabulary()), config).expect("the vocabulary can be sliced");
    let set = |on_unknown: &str| json!({"json_schema": wide_schema(4), "on_unknown": on_unknown});
    let admitted = guide.compile(&[ir(set("admit"))]).expect("admitted");
    assert_eq!(admitted.verdict(), &Verdict::Unknown { why: UnknownWhy::Bound });
    assert_eq!(admitted.min_tokens(), None);
    let irs = [ir(set("refuse")), ir(forbid("x"))];
    let refused = guide.compile(&irs).map(drop);
    assert_eq!(refused, Err(GuideError::UnknownSatisfiability { why: UnknownWhy::Bound }));
}

#[test]
fn only_parts_that_stand_alone_cannot_come_to_a_dead_end() {
    let may_dead_end = |set: &[Value]| NANO_GUIDE.compile(&irs_of(set)).expect("a satisfiable set").may_dead_end();
    assert!(!may_dead_end(&[schema(json!({"type": "string"}))]));
    assert!(!may_dead_end(&[full("[a-z]+"), forbid("x")]), "automata are one while their product is small");
    assert!(!may_dead_end(&[only_bytes("abc")]));
    assert!(may_dead_end(&[schema(json!({"type": "string"})), forbid("x")]));
    assert!(may_dead_end(&[only_bytes("abc"), full("[a-z]+")]));
    let few_chars = json!({"limits": {"max_chars": 9}});
    assert!(may_dead_end(&[full("[a-z]{3,}[.]"), few_chars]), "a word of nine letters has no room for its full stop");
}

/// A complete text of a part, by random steps through its masks and then the shortest way out.
fn random_text(guide: &Guide, part: &Value, random: &mut Random) -> Option<Vec<u8>> {
    let mut matcher = start(guide, std::slice::from_ref(part));
    let mut tokens = Vec::new();
    for _ in 0..random.below(40) {
        let row = filled(&mut matcher).expect("a mask");
        let allowed: Vec<u32> = allowed_tokens(&row).filter(|&token| guide.vocabulary().is_text(token)).collect();
        // The shortest of a few, or every step would be a long token that few texts contain.
        let drawn = (0..3).filter_map(|_| allowed.get(random.below(allowed.len().max(1))));
        let Some(&token) = drawn.min_by_key(|&&token| guide.vocabulary().bytes(token).len()) else { break };
        matcher.accept(token).expect("an allowed token");
        tokens.push(token);
    }
    tokens.extend(matcher.witness(2_000, 2_000).expect("a live matcher")?);
    Some(guide.vocabulary().decode(&tokens))
}

#[test]
fn nothing_that_the_masks_generate_is_proven_impossible() {
    let parts = [
        schema(json!(true)),
        schema(json!({"type": "number"})),
        schema(json!({"type": "integer", "minimum": -12, "maximum": 4_000})),
        schema(json!({"type": "string", "minLength": 2, "maxLength": 30})),
        schema(json!({"type": "object"})),
        schema(
            json!({"type": "object", "properties": {"a": {"type": "number"}, "b": {"$ref": "#"}, "c": {"type": "array",
            "items": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}}, "required": ["a"], "additionalProperties": false}),
        ),
        schema(json!({"type": "array", "items": {"type": "string", "format": "date"}, "minItems": 1, "maxItems": 3})),
        schema(
            json!({"type": "object", "patternProperties": {"^x_": {"type": "boolean"}}, "additionalProperties": false}),
        ),
        schema(wide_schema(5)),
        grammar("lark", PROGRAM),
        grammar("ebnf", SUM),
        grammar("gbnf", SAME_NUMBER),
        grammar("lark", "start: a+ b?\na: \"x\" | \"y\" start \"z\"\nb: /[0-9]{2,4}/ | %json {\"type\": \"boolean\"}"),
    ];
    let mut random = Random(23);
    let mut num_checked = 0;
    for part in &parts {
        for _ in 0..12 {
            let Some(text) = random_text(&NANO_GUIDE, part, &mut random) else { continue };
            let Ok(text) = String::from_utf8(text) else { continue };
            let set = [part.clone(), full(&regex_syntax::escape(&text))];
            let compiled = NANO_GUIDE.compile(&irs_of(&set)).map(|compiled| compiled.verdict().clone());
            let is_right = matches!(&compiled, Ok(Verdict::Satisfiable(witness)) if witness.bytes == text.as_bytes());
            assert!(is_right, "{compiled:?} for {text:?} of {part}");
            num_checked += 1;
        }
    }
    assert!(num_checked >= 10 * parts.len(), "only {num_checked} texts were checked");
}
