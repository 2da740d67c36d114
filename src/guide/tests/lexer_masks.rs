//! Masks kept by the states of a lexer, against those that llguidance makes anew.

use super::*;

/// Over the embedded model's vocabulary, where every state that comes back is kept, or none is.
fn nano_guide(min_lexer_mask_walk: usize, lexer_mask_bytes: usize) -> Guide {
    let config = GuideConfig { min_lexer_mask_walk, lexer_mask_bytes, ..GuideConfig::default() };
    Guide::new(Arc::clone(NANO.vocabulary()), config).expect("the vocabulary can be sliced")
}

/// Words with and without blanks before them, lines, comments, and brackets inside brackets.
const CALLS: &str = r##"
start: statement+
statement: NAME EQUAL value ";" | IF value OPEN statement* CLOSE
value: NAME | NUMBER | TEXT | value PLUS value | NAME "(" (value ("," value)*)? ")" | SQUARE value "]"
W: /[ \n]*/
EQUAL: W "="
IF: W "if"
OPEN: W "{"
CLOSE: W "}"
PLUS: W "+"
SQUARE: W "["
KEYWORD: "if" | "else" | "while"
NAME: W (/[A-Za-z_][A-Za-z0-9_]*/ & ~KEYWORD)
NUMBER: W /[0-9]+(\.[0-9]+)?/
TEXT: W /"([^"\\\n]|\\.)*"/
%ignore /[ \n]*#[^\n]*\n/
"##;

const CALLS_TEXT: &str = r#"total = count(first, "of \"all\"", [3.25]) + rest;
# what is left over when everything is summed
if total { print = write(total, other_name + 12); if a {} }
iffy = elsewhere("x") + whileTrue + [[value]];"#;

fn cases() -> Vec<(Value, String)> {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z]+( [a-z]+)*$"},
            "kind": {"enum": ["red", "blue", "tall", "wide"]},
            "tags": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]}},
        },
        "required": ["name", "kind", "tags"],
        "additionalProperties": false,
    });
    let document = json!({"name": "the first of many", "kind": "tall", "tags": ["a", 1, 2.5, null, "ten words", -300]});
    let lark = |source: &str| json!({"grammar": {"syntax": "lark", "source": source}});
    let ebnf = json!({"grammar": {"syntax": "ebnf", "source": "s ::= (w ' ')* w\nw ::= [a-z]+ | '(' s ')'"}});
    vec![
        (json!({"json_schema": schema}), document.to_string()),
        (lark(CALLS), CALLS_TEXT.to_owned()),
        (ebnf, "one (two three (four) five) six (seven)".to_owned()),
    ]
}

/// The rows along a text.
fn rows(compiled: &Arc<CompiledConstraint>, tokens: &[u32]) -> Vec<Vec<u32>> {
    let mut matcher = compiled.matcher(b"").expect("a matcher");
    let mut rows = Vec::new();
    for (index, &token) in tokens.iter().enumerate() {
        rows.push(filled(&mut matcher).expect("a mask"));
        let text = || String::from_utf8_lossy(&NANO.vocabulary().decode(&tokens[..=index])).into_owned();
        matcher.accept(token).unwrap_or_else(|error| panic!("{}: {error}", text()));
    }
    rows
}

#[test]
fn a_kept_mask_is_the_one_that_is_made_anew() {
    let anew = nano_guide(usize::MAX, 0);
    // At once, when a state comes back, and for some states only.
    for guide in [nano_guide(0, usize::MAX), nano_guide(1, usize::MAX), nano_guide(0, 40_000)] {
        for (part, text) in cases() {
            let tokens = NANO.encode(&text, false).expect("text");
            let expected = rows(&anew.compile(&[ir(part.clone())]).expect("it compiles"), &tokens);
            let compiled = guide.compile(&[ir(part.clone())]).expect("it compiles");
            // The next sequences take the first one's warm lexer, or copies made before it.
            for _ in 0..3 {
                assert_eq!(rows(&compiled, &tokens), expected, "{part}");
            }
            let mut matcher = compiled.matcher(b"").expect("a matcher");
            let num_kept = matcher.num_kept_masks();
            filled(&mut matcher).expect("a mask");
            assert!(num_kept > 3, "{part}: only {num_kept} are kept");
        }
    }
}

#[test]
fn copies_of_a_lexer_that_went_different_ways_do_not_mix_their_states_up() {
    let (anew, guide) = (nano_guide(usize::MAX, 0), nano_guide(0, usize::MAX));
    let (part, text) = cases().swap_remove(1);
    let other = "x9 = y(z);\nif [0.5] { _a = \"\"; }".repeat(3);
    let compiled = guide.compile(&[ir(part.clone())]).expect("it compiles");
    let fresh = anew.compile(&[ir(part)]).expect("it compiles");
    let split = [text, other].map(|text| NANO.encode(&text, false).expect("text"));
    let expected = split.clone().map(|tokens| rows(&fresh, &tokens));
    let mut pair = [(); 2].map(|()| compiled.matcher(b"").expect("a matcher"));
    for step in 0..split[0].len().max(split[1].len()) {
        for ((matcher, tokens), expected) in pair.iter_mut().zip(&split).zip(&expected) {
            let Some(&token) = tokens.get(step) else { continue };
            assert_eq!(&filled(matcher).expect("a mask"), &expected[step]);
            matcher.accept(token).expect("the text is in the language");
        }
    }
}

#[test]
fn what_is_kept_is_bounded_and_given_back() {
    let guide = nano_guide(0, usize::MAX);
    let room = || guide.factory.lexer_mask_room();
    let before = room();
    let (part, text) = cases().swap_remove(1);
    let tokens = NANO.encode(&text, false).expect("text");
    let compiled = guide.compile(&[ir(part)]).expect("it compiles");
    rows(&compiled, &tokens);
    assert!(room() < before);
    drop(compiled);
    assert_eq!(room(), before);
    let config = GuideConfig { all_lexer_mask_bytes: 0, ..guide.config().clone() };
    let guide = Guide::new(Arc::clone(NANO.vocabulary()), config).expect("the vocabulary can be sliced");
    let (part, _) = cases().swap_remove(1);
    let compiled = guide.compile(&[ir(part)]).expect("it compiles");
    rows(&compiled, &tokens);
    let matcher = compiled.matcher(b"").expect("the one that was just used");
    assert_eq!(matcher.num_kept_masks(), 0, "nothing finds room");
}
