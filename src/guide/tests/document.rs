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
