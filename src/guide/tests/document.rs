//! Holes in documents: every short hole, over a small vocabulary, against the document as a whole.

use ::regex::bytes::Regex;

use super::*;
use crate::constraint::{Code, CodeRules, Granularity, Language};
use crate::guide::document::Document;

fn document(prefix: &str, suffix: &str) -> Document {
    Document { prefix: prefix.into(), suffix: suffix.into() }
}

/// Every sequence of at most `max_len` of these tokens.
fn holes(num_tokens: u32, max_len: usize) -> Vec<Vec<u32>> {
    let mut all = vec![Vec::new()];
    let mut last: Vec<Vec<u32>> = all.clone();
    for _ in 0..max_len {
        let longer =
            last.iter().flat_map(|hole| (0..num_tokens).map(|token| [hole.as_slice(), &[token]].concat())).collect();
        last = longer;
        all.extend_from_slice(&last);
    }
    all
}

/// Whether the masks let a hole through and let it end, and on the way the mask says what `accept` does.
fn takes(mut matcher: Matcher, hole: &[u32], end: u32) -> bool {
    for &token in hole {
        let allowed = filled(&mut matcher).is_ok_and(|row| is_allowed(&row, token));
        assert_eq!(matcher.accept(token).is_ok(), allowed);
        if !allowed {
            return false;
        }
    }
    let is_complete = matcher.is_complete().expect("alive");
    assert_eq!(filled(&mut matcher).is_ok_and(|row| is_allowed(&row, end)), is_complete);
    assert_eq!(matcher.accept(end).is_ok(), is_complete);
    is_complete
}

/// Forbidden text, and how it is found by looking.
enum Naive {
    Literal { text: &'static str, whole_word: bool },
    Pattern(Regex),
}

impl Naive {
    fn occurs(&self, text: &[u8], start: usize, end: usize) -> bool {
        match self {
            Self::Literal { text: literal, whole_word } => {
                let is_word = |at: Option<&u8>| at.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
                let before = start.checked_sub(1).and_then(|at| text.get(at));
                let stands_alone = !is_word(before) && !is_word(text.get(end));
                &text[start..end] == literal.as_bytes() && (!whole_word || stands_alone)
            }
            Self::Pattern(whole) => whole.is_match(&text[start..end]),
        }
    }

    /// Whether some occurrence begins before `until` and ends behind `from`, where none that begins later ends too.
    fn occurs_across(&self, text: &[u8], from: usize, until: usize) -> bool {
        (from + 1..=text.len()).any(|end| {
            let begins = |starts: std::ops::Range<usize>| {
                starts.into_iter().any(|start| start < end && self.occurs(text, start, end))
            };
            begins(0..until) && !begins(until..end.max(until))
        })
    }
}

#[test]
fn text_forbidden_in_the_document_is_caught_at_both_seams() {
    let guide = guide(&[b"a", b"b", b"c", b" ", b"ab", b"bc a"]);
    let (vocabulary, end) = (Arc::clone(guide.vocabulary()), 7);
    let literal = |text, whole_word| Naive::Literal { text, whole_word };
    let pattern = |pattern: &str| Naive::Pattern(Regex::new(&format!("^(?:{pattern})$")).expect("a pattern"));
    let sets: [(Value, Vec<Naive>); 5] = [
        (json!([{"text": "abc"}]), vec![literal("abc", false)]),
        (json!([{"text": "ab"}, {"text": "ca c"}]), vec![literal("ab", false), literal("ca c", false)]),
        (json!([{"text": "ab", "whole_word": true}]), vec![literal("ab", true)]),
        (json!([{"regex": "ab*c"}]), vec![pattern("ab*c")]),
        (json!([{"regex": "b+ ?a"}, {"text": "cc"}]), vec![pattern("b+ ?a"), literal("cc", false)]),
    ];
    let texts = ["", "a", "b", "ca", "ab", "c", "bc", " a", "b a", "bbb", "aa b", "abc"];
    let (mut num_refused, mut num_exact) = (0, 0);
    for (forbidden, naive) in sets {
        for lazy in [false, true] {
            let mut config = GuideConfig::default();
            if lazy {
                config.max_regex_build_bytes = 1;
            }
            let guide = Guide::new(Arc::clone(&vocabulary), config).expect("a guide");
            let mut listed = forbidden.clone();
            listed.as_array_mut().expect("a list").iter_mut().for_each(|text| text["scope"] = json!("document"));
            let compiled = guide.compile(&[ir(json!({"forbidden_text": listed}))]).expect("it compiles");
            for (prefix, suffix) in texts.iter().flat_map(|prefix| texts.iter().map(move |suffix| (prefix, suffix))) {
                let document = document(prefix, suffix);
                // What the suffix holds by itself may cost an end, and never lets one through.
                let own = naive.iter().any(|text| text.occurs_across(suffix.as_bytes(), 0, suffix.len()));
                for hole in holes(6, 2) {
                    let middle = vocabulary.decode(&hole);
                    let text = [prefix.as_bytes(), &middle, suffix.as_bytes()].concat();
                    let (from, until) = (prefix.len(), prefix.len() + middle.len());
                    let is_bad = naive.iter().any(|forbidden| forbidden.occurs_across(&text, from, until));
                    let matcher = compiled.matcher_in(&document).expect("a matcher");
                    let is_taken = takes(matcher, &hole, end);
                    let middle = String::from_utf8_lossy(&middle);
                    assert!(!(is_taken && is_bad), "{forbidden}: {prefix:?} {middle:?} {suffix:?} leaked");
                    assert!(is_taken || is_bad || own, "{forbidden}: {prefix:?} {middle:?} {suffix:?} is refused");
                    num_refused += usize::from(is_bad);
                    num_exact += usize::from(!own);
                }
            }
        }
    }
    assert!(num_refused > 2_000 && num_exact > 20_000, "{num_refused} of {num_exact}");
}

fn code(grammar: &str) -> ConstraintIr {
    let (language, granularity) = (Language::Zig, Granularity::Expression);
    let code = Code {
        language,
        granularity,
        document: true,
        rules: CodeRules::default(),
        grammar: grammar.into(),
        layout: None,
    };
    ConstraintIr { code: Some(code), ..ConstraintIr::default() }
}

/// A grammar with brackets, keywords that are no names, blanks, and text in which a lexeme does not end with a token.
const SMALL: &str = "start: _b? e _b?
e: NAME | e _b? \"+\" _b? e | \"(\" _b? e _b? \")\" | \"if\" _b e | TEXT
NAME: /[a-z]+/ & ~/if/
TEXT: /'[^']*'/
_b: / +/
";

#[test]
fn the_hole_of_a_program_is_judged_with_what_stands_around_it() {
    let guide = guide(&[b"a", b"if", b" ", b"+", b"(", b")", b"'", b"a+", b") ", b"i", b"f"]);
    let (vocabulary, end) = (Arc::clone(guide.vocabulary()), 12);
    let compiled = guide.compile(&[code(SMALL)]).expect("it compiles");
    let whole = |text: &[u8]| {
        let mut matcher = compiled.matcher(b"").expect("a matcher");
        let tokens = vocabulary.tok_env().tok_trie().greedy_tokenize(text);
        let is_begun = tokens.iter().all(|&token| matcher.accept(token).is_ok());
        (is_begun, is_begun && matcher.is_complete().expect("alive"))
    };
    let texts = ["", "a", "i", "f a", "if", "(a", "a)", "+a", "a +", "'a", "' + (", "(' )'", ")", "((", " a ", "a'"];
    let (mut num_taken, mut num_refused, mut num_unparsable) = (0, 0, 0);
    for (prefix, suffix) in texts.iter().flat_map(|prefix| texts.iter().map(move |suffix| (prefix, suffix))) {
        let document = document(prefix, suffix);
        let Ok(first) = compiled.matcher_in(&document) else {
            assert!(!whole(prefix.as_bytes()).0, "{prefix:?} goes through");
            num_unparsable += 1;
            continue;
        };
        assert!(whole(prefix.as_bytes()).0, "{prefix:?} does not go through");
        drop(first);
        for hole in holes(11, 2) {
            let matcher = compiled.matcher_in(&document).expect("the prefix goes through");
            let middle = vocabulary.decode(&hole);
            let text = [prefix.as_bytes(), &middle, suffix.as_bytes()].concat();
            let expected = whole(&text).1;
            assert_eq!(takes(matcher, &hole, end), expected, "{:?}", String::from_utf8_lossy(&text));
            num_taken += usize::from(expected);
            num_refused += usize::from(!expected);
        }
    }
    assert!(num_taken > 200 && num_refused > 5_000 && num_unparsable > 0, "{num_taken} {num_refused}");
}

#[test]
fn a_matcher_in_a_document_goes_back_as_it_came() {
    let guide = guide(&[b"a", b"+", b"(", b")", b"if", b" "]);
    let compiled = guide.compile(&[code(SMALL)]).expect("it compiles");
    let document = document("(a", ")+a");
    let mut matcher = compiled.matcher_in(&document).expect("a matcher");
    let mut random = Random(3);
    let mut rows = vec![filled(&mut matcher).expect("a mask")];
    let mut tokens = Vec::new();
    for _ in 0..300 {
        let back = random.below(3).min(tokens.len());
        matcher.rollback(back).expect("they were accepted");
        tokens.truncate(tokens.len() - back);
        rows.truncate(tokens.len() + 1);
        assert_eq!(&filled(&mut matcher).expect("a mask"), rows.last().expect("one more than tokens"));
        let allowed: Vec<u32> =
            crate::guide::allowed_tokens(rows.last().expect("a row")).filter(|&id| id < 6).collect();
        let token = allowed[random.below(allowed.len())];
        matcher.accept(token).expect("the mask allows it");
        tokens.push(token);
        rows.push(filled(&mut matcher).expect("a mask"));
    }
    drop(matcher);
    // The one after it is given the same lexer, from the start of its own document.
    let mut alone = compiled.matcher(b"").expect("a matcher");
    assert!(alone.accept(3).is_err(), "a document does not begin with a closing bracket");
    let mut inside = compiled.matcher_in(&document).expect("a matcher");
    assert!(inside.accept(3).is_ok(), "and this one is inside a bracket");
}

#[test]
fn a_witness_in_a_document_ends_before_the_suffix() {
    let guide = guide(&[b"a", b"+", b"(", b")", b"if", b" ", b"'"]);
    let compiled = guide.compile(&[code(SMALL)]).expect("it compiles");
    for (prefix, suffix) in [("(a", "+a"), ("", "+a"), ("a +", ")"), ("a", "a")] {
        let mut matcher = compiled.matcher_in(&document(prefix, suffix)).expect("a matcher");
        let witness = matcher.witness(16, 2_000).expect("alive").unwrap_or_else(|| panic!("{prefix:?} {suffix:?}"));
        let hole = guide.vocabulary().decode(&witness);
        let text = [prefix.as_bytes(), &hole, suffix.as_bytes()].concat();
        let mut whole = compiled.matcher(b"").expect("a matcher");
        let tokens = guide.vocabulary().tok_env().tok_trie().greedy_tokenize(&text);
        assert!(tokens.iter().all(|&token| whole.accept(token).is_ok()), "{:?}", String::from_utf8_lossy(&text));
        assert!(whole.is_complete().expect("alive"), "{:?}", String::from_utf8_lossy(&text));
    }
    let mut matcher = compiled.matcher_in(&document("a", "+)")).expect("a matcher");
    assert_eq!(matcher.witness(4, 200).expect("alive"), None, "no hole makes this a program");
}

const PROGRAM: &str = "import os

def total(items, rate=1.5):
    result = 0
    for item in items:
        if item.price > 3:  # a 'dear' one
            result += item.price * (1 - rate)
        else:
            result += f(\"it's: {item}\", [1, 2,
                3])
    return result


class Cart:
    '''Holds
  items.'''
    def add(self, item): self.items.append(item)
";

#[test]
fn python_is_read_with_its_indentation_around_the_hole() {
    let grammar = include_str!("../../braid/grammars/python/base.lark");
    let code = ir(json!({"code": {"language": "python", "granularity": "file", "layout": "python", "document": true,
        "grammar": format!("{grammar}\nstart: file\n")}}));
    let compiled = NANO_GUIDE.compile(&[code]).expect("it compiles");
    let vocabulary = NANO.vocabulary();
    let split = |text: &str| vocabulary.tok_env().tok_trie().greedy_tokenize(text.as_bytes());
    let mut random = Random(11);
    let mut num_refused = 0;
    for _ in 0..150 {
        let (a, b) = (random.below(PROGRAM.len()), random.below(PROGRAM.len()));
        let (from, until) = (a.min(b), a.max(b).min(a.min(b) + 60));
        let document = document(&PROGRAM[..from], &PROGRAM[until..]);
        let original = &PROGRAM[from..until];
        for wrong in ["", ")", "\n        x", "\n  y = 1\n", "'"] {
            let hole = format!("{original}{wrong}");
            let text = format!("{}{hole}{}", &PROGRAM[..from], &PROGRAM[until..]);
            let mut whole = compiled.matcher(b"").expect("a matcher");
            let expected =
                split(&text).iter().all(|&token| whole.accept(token).is_ok()) && whole.is_complete().expect("alive");
            let mut matcher = compiled.matcher_in(&document).expect("the prefix goes through");
            let taken = split(&hole).iter().all(|&token| matcher.accept(token).is_ok())
                && matcher.is_complete().expect("alive");
            assert_eq!(taken, expected, "{text}");
            assert!(expected || !wrong.is_empty(), "{text}");
            num_refused += usize::from(!expected);
        }
    }
    assert!(num_refused > 300, "{num_refused}");
}

#[test]
fn what_no_program_is_may_fill_a_hole() {
    let choice = ir(json!({"regex_patterns": [{"any_of": [{"pattern": "\\)"}], "match": "full"}]}));
    let mut alone = code(SMALL);
    let compiled = BYTES.compile(&[alone.clone(), choice.clone()]).expect("in a document it may be satisfied");
    assert_eq!(compiled.verdict(), &Verdict::Unknown { why: UnknownWhy::Prompt });
    let matcher = compiled.matcher_in(&document("(a", "")).expect("a matcher");
    assert!(takes(matcher, &[u32::from(b')')], 257));
    assert!(!takes(compiled.matcher(b"a").expect("a matcher"), &[u32::from(b')')], 257));
    assert!(takes(compiled.matcher(b"(a").expect("a matcher"), &[u32::from(b')')], 257), "a prompt is a prefix");
    alone.code.iter_mut().for_each(|code| code.document = false);
    let refused = BYTES.compile(&[alone, choice]).map(drop);
    assert!(matches!(refused, Err(GuideError::Unsatisfiable { .. })), "{refused:?}");
}

#[test]
fn other_parts_judge_the_hole_alone() {
    let compiled = BYTES
        .compile(&[ir(json!({
            "regex_patterns": [{"any_of": [{"pattern": "[a-z]+"}], "match": "full"}],
            "json_schema": {"type": "boolean"},
            "grammar": {"syntax": "gbnf", "source": "root ::= \"true\" | \"false\""},
        }))])
        .expect("it compiles");
    for (hole, expected) in [("true", true), ("tru", false), ("null", false)] {
        let matcher = compiled.matcher_in(&document("{\"a\": 1, ", ", \"b\": 2}")).expect("a matcher");
        let tokens: Vec<u32> = hole.bytes().map(u32::from).collect();
        assert_eq!(takes(matcher, &tokens, 257), expected, "{hole}");
    }
}

#[test]
fn a_document_that_is_too_long_is_told_so() {
    let config = GuideConfig { max_suffix_bytes: 3, max_prefix_bytes: 5, ..GuideConfig::default() };
    let guide = Guide::new(Arc::clone(BYTES.vocabulary()), config).expect("a guide");
    let compiled = guide.compile(&[code(SMALL)]).expect("it compiles");
    let mut of_hole = code(SMALL);
    of_hole.code.iter_mut().for_each(|code| code.document = false);
    let alone = guide.compile(&[of_hole]).expect("it compiles");
    assert!(compiled.matcher_in(&document("a + a", " +a")).is_ok());
    for (prefix, suffix) in [("a + a ", ""), ("", " +a ")] {
        let error = compiled.matcher_in(&document(prefix, suffix)).map(drop).expect_err("too long");
        assert!(matches!(error, GuideError::UnparsableContext { .. }), "{error}");
        assert!(alone.matcher_in(&document(prefix, suffix)).is_ok(), "the hole alone can be judged");
    }
}

/// A language's grammar for whole files that stand in documents.
fn program_ir(language: &str) -> ConstraintIr {
    let grammar = match language {
        "python" => include_str!("../../braid/grammars/python/base.lark"),
        "rust" => include_str!("../../braid/grammars/rust/base.lark"),
        "go" => include_str!("../../braid/grammars/go/base.lark"),
        _ => include_str!("../../braid/grammars/typescript/base.lark"),
    };
    let layout = (language == "python").then_some("python");
    ir(json!({"code": {"language": language, "granularity": "file", "layout": layout, "document": true,
        "grammar": format!("{grammar}\nstart: file\n")}}))
}

fn program(language: &str) -> Arc<CompiledConstraint> {
    NANO_GUIDE.compile(&[program_ir(language)]).expect("it compiles")
}

/// Whether the whole text is a program.
fn is_program(compiled: &Arc<CompiledConstraint>, text: &str) -> bool {
    let mut whole = compiled.matcher(b"").expect("a matcher");
    let tokens = NANO.vocabulary().tok_env().tok_trie().greedy_tokenize(text.as_bytes());
    tokens.iter().all(|&token| whole.accept(token).is_ok()) && whole.is_complete().expect("alive")
}

/// What joins both sides of a hole by itself; checked against the whole text.
fn joint(compiled: &Arc<CompiledConstraint>, before: &str, after: &str) -> Option<String> {
    let mut matcher = compiled.matcher_in(&document(before, after)).expect("the prefix goes through");
    let joint = matcher.joint_in_place().expect("alive")?;
    assert_eq!(matcher.num_accepted(), 0, "the matcher is left as it was");
    let joint = String::from_utf8(NANO.vocabulary().decode(&joint)).expect("joints are text");
    assert!(is_program(compiled, &format!("{before}{joint}{after}")), "{before}{joint}{after}");
    Some(joint)
}

/// Halves of programs that little joins only by chance.
const HALVES: [(&str, &str, &str); 15] = [
    ("python", "def f():\n    x = 1\n    y", "lose()\n    except ValueError:\n        pass\n    return x\n"),
    ("python", "def f(x):\n    retu", "ello.\n\n    Says \"hi\".\n    \"\"\"\n    return x\n"),
    ("python", "x = {'a': [1, (2", "self, y):\n        return y\n\n    def g(self):\n        pass\n"),
    ("python", "match x:\n    case 1:\n        y = 'a", "2 if x else [\n    3]\n"),
    ("rust", "pub struct A {\n    x: u3", "self) -> u32 {\n        self.x\n    }\n}\n"),
    ("rust", "use a::{b, c", "rg => 1,\n            _ => 2,\n        }\n    }\n}\n"),
    ("rust", "fn f() {\n    let x = r#\"a", "t, T: 'a> Iterator for A<'a, T> {\n    type Item = T;\n}\n"),
    ("rust", "/* a ", " b */\nfn main() {}\n"),
    (
        "rust",
        "impl A {\n    fn f(&self) -> Option<Du",
        "    B::C => {\n                    None\n                }\n                B::D(..) => Some(d),\n            },\n            \
         E::F(Some(d)) => match self {\n                _ => None,\n            },\n            E::G => None,\n        }\n    }\n}\n",
    ),
    ("go", "package a\n\nimport \"o", "nt, b int) {\n\t\tx()\n\t}()\n}\n"),
    ("go", "package a\n\nfunc f() int {\n\treturn 1", "ring `json:\"a\"`\n\tB int\n}\n"),
    ("go", "package a\n\nfunc f(x int) {\n\tg([]int{1", "se 3:\n\t\tx()\n\tdefault:\n\t}\n}\n"),
    ("typescript", "const a = `x ${f(", " y`;\nconst b = 1;\n"),
    ("typescript", "const f = (a: nu", " = 1;\n  }\n}\n"),
    ("typescript", "interface A { b: str", "elf: 1 }, [2]);\n"),
];

#[test]
fn halves_of_programs_are_joined_across_what_is_missing() {
    for (language, before, after) in HALVES {
        assert!(joint(&program(language), before, after).is_some(), "{before:?} {after:?}");
    }
}

#[test]
fn what_joins_a_document_is_the_same_however_often_and_beside_what_it_is_asked_for() {
    let config = GuideConfig { max_known_joints: 2, ..GuideConfig::default() };
    let guide = Guide::new(Arc::clone(NANO.vocabulary()), config).expect("a guide");
    let code = program_ir("go");
    let compiled = guide.compile(&[code]).expect("it compiles");
    let documents = [
        ("package a\n\nfunc f() {\n\tg(", "\n}\n"),
        ("package a\n\nfunc f() {\n\tg(", ")\n}\n"),
        ("package a\n", "no\n) ] } (\n"),
        ("package a\n\nvar x = []int{", "\n"),
    ];
    let all = || documents.map(|(before, after)| joint(&compiled, before, after));
    let first = all();
    assert!(first[0].is_some() && first[1].is_some() && first[2].is_none() && first[3].is_some(), "{first:?}");
    assert_ne!(first[0], first[1]);
    assert_eq!(all(), first);
    assert_eq!(joint(&compiled, documents[3].0, documents[3].1), first[3], "remembered");
}

#[test]
fn a_search_for_a_joint_keeps_to_its_bounds() {
    let [_, _, hard, ..] = HALVES;
    for (max_joint_states, max_joint_texts, is_found) in [(40_000, 64, true), (2, 64, false), (40_000, 0, false)] {
        let config = GuideConfig { max_joint_states, max_joint_texts, ..GuideConfig::default() };
        let guide = Guide::new(Arc::clone(NANO.vocabulary()), config).expect("a guide");
        let compiled = guide.compile(&[program_ir(hard.0)]).expect("it compiles");
        assert_eq!(joint(&compiled, hard.1, hard.2).is_some(), is_found, "{max_joint_states} {max_joint_texts}");
    }
}

#[test]
fn other_parts_hold_in_what_joins_a_document() {
    let (before, after) = ("def f():\n    g(", "\n    return 1\n");
    let plain = joint(&program("python"), before, after).expect("a bracket is to be closed");
    assert_eq!(plain, ")");
    for (part, forbidden) in [
        (json!({"regex_patterns": [{"any_of": [{"pattern": "[a-z ]+\\)[^)]*"}], "match": "full"}]}), None),
        (json!({"forbidden_text": [{"text": "g()", "scope": "document"}]}), Some("g()")),
    ] {
        let compiled = NANO_GUIDE.compile(&[program_ir("python"), ir(part)]).expect("it compiles");
        let mut matcher = compiled.matcher_in(&document(before, after)).expect("the prefix goes through");
        let tokens = matcher.joint_in_place().expect("alive").expect("another joint");
        assert!(matcher.is_completed_by(&tokens).expect("alive"));
        let text = String::from_utf8(NANO.vocabulary().decode(&tokens)).expect("joints are text");
        assert!(text != plain && forbidden.is_none_or(|forbidden| !format!("{before}{text}").contains(forbidden)));
    }
}

/// Draws among what the pilot allows until the output is over; returns its tokens and whether they are complete.
fn draw(pilot: &mut Pilot, random: &mut Random) -> (Vec<u32>, bool) {
    let vocabulary = NANO.vocabulary();
    let mut row = vec![0; num_words(vocabulary.num_rows())];
    let mut tokens: Vec<u32> = Vec::new();
    let mut sent = 0;
    loop {
        let advice = pilot.next(&mut row).expect("alive");
        assert!(tokens.len() - advice.retract >= sent, "what was sent is not taken back");
        tokens.truncate(tokens.len() - advice.retract);
        tokens.extend(&advice.forced);
        if let Some(is_complete) = advice.is_complete {
            return (tokens, is_complete);
        }
        let allowed: Vec<u32> = allowed_tokens(&row).collect();
        let token = allowed[random.below(allowed.len())];
        pilot.accept(token).expect("it is allowed");
        if vocabulary.end_tokens().contains(&token) {
            return (tokens, true);
        }
        tokens.push(token);
        sent = pilot.num_settled();
    }
}

/// Draws an output for the hole of a document; checks that it is one, where it is called complete.
fn drawn(
    compiled: &Arc<CompiledConstraint>,
    (before, after): (&str, &str),
    max_tokens: u32,
    seed: u64,
) -> (String, bool) {
    let matcher = compiled.matcher_in(&document(before, after)).expect("the prefix goes through");
    let mut pilot = Pilot::new(matcher, Steering { max_tokens, forced_tokens: true });
    let (tokens, is_complete) = draw(&mut pilot, &mut Random(seed));
    assert!(tokens.len() <= max_tokens as usize);
    let text = String::from_utf8_lossy(&NANO.vocabulary().decode(&tokens)).into_owned();
    assert!(!is_complete || is_program(compiled, &format!("{before}{text}{after}")), "{before:?} {text:?} {after:?}");
    (text, is_complete)
}

#[test]
fn an_output_that_cannot_end_gives_way_to_what_joins_its_document() {
    // No texts are tried and no witness is looked for, so that only the search from the hole's start is left.
    let config = GuideConfig { max_joints: 0, witness_fuel_per_token: 0, ..GuideConfig::default() };
    let guide = Guide::new(Arc::clone(NANO.vocabulary()), config).expect("a guide");
    let mut num_given_way = 0;
    for (language, before, after) in [HALVES[0], HALVES[4], HALVES[9]] {
        let compiled = guide.compile(&[program_ir(language)]).expect("it compiles");
        let joint = joint(&compiled, before, after).expect("there is one");
        for (seed, max_tokens) in [(1, 24), (2, 48)] {
            let (text, is_complete) = drawn(&compiled, (before, after), max_tokens, seed);
            assert!(is_complete, "{before:?} {text:?} {after:?}");
            num_given_way += usize::from(text == joint);
        }
        // What is too long for the budget is not begun.
        assert!(!drawn(&compiled, (before, after), 1, 3).1);
    }
    assert!(num_given_way >= 4, "{num_given_way}");
}

#[test]
fn an_output_ends_whole_where_its_document_can_be_joined() {
    // A witness that is found and left again is gone back to, however many tokens ago that was.
    for (language, before, after) in HALVES.into_iter().step_by(2) {
        let compiled = program(language);
        for seed in 0..4 {
            let (text, is_complete) = drawn(&compiled, (before, after), 40 + 8 * seed as u32, seed);
            assert!(is_complete, "{before:?} {text:?} {after:?}");
        }
    }
}
