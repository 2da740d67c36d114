//! The guide as a whole: masks against a brute-force oracle, hostile input, and random walks under several parts.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::text::Token;

/// A vocabulary of these texts; one control token and one end token come last, and two padded rows.
fn vocabulary(words: &[&[u8]]) -> Arc<Vocabulary> {
    let mut tokens: Vec<Token> = words.iter().map(|word| Token::Text(word.to_vec())).collect();
    tokens.push(Token::Control("<tool>".into()));
    tokens.push(Token::Control("<end>".into()));
    let end = tokens.len() as u32 - 1;
    let num_rows = tokens.len() + 2;
    Arc::new(Vocabulary::new(tokens, num_rows, vec![end]).expect("a valid vocabulary"))
}

/// Every byte of printable ASCII with newline, and some longer tokens.
fn small_vocabulary() -> Arc<Vocabulary> {
    let bytes: Vec<Vec<u8>> = (b' '..=b'~').chain([b'\n']).map(|byte| vec![byte]).collect();
    let longer: [&[u8]; 14] = [
        b"aa",
        b"ab",
        b"ba",
        b"abc",
        b"{\"",
        b"\":",
        b"\",",
        b"}\n",
        b"  ",
        b"12",
        b"eval",
        b"val(",
        "é".as_bytes(),
        b"\xc3",
    ];
    let words: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).chain(longer).collect();
    vocabulary(&words)
}

fn guide(vocabulary: Arc<Vocabulary>) -> Guide {
    Guide::new(vocabulary, GuideConfig::default()).expect("the vocabulary can be sliced")
}

fn ir(value: Value) -> ConstraintIr {
    serde_json::from_value(value).expect("a well-formed IR")
}

fn row(matcher: &mut Matcher) -> Vec<u32> {
    let mut row = vec![u32::MAX; matcher.compiled().text.len()];
    matcher.fill(&mut row).expect("a mask");
    row
}

#[test]
fn smoke() {
    let guide = guide(small_vocabulary());
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    let compiled =
        guide.compile(&[ir(json!({"json_schema": schema, "forbidden_text": [{"text": "12"}]}))]).expect("compiles");
    let mut matcher = compiled.matcher(b"").expect("a matcher");
    for byte in "{\"a\":11".bytes() {
        let token = guide.vocabulary().tok_env().tokenize_bytes(&[byte])[0];
        assert!(is_allowed(&row(&mut matcher), token), "{}", byte as char);
        matcher.accept(token).expect("allowed");
    }
    let two = guide.vocabulary().tok_env().tokenize_bytes(b"2")[0];
    assert!(!is_allowed(&row(&mut matcher), two));
    assert!(!matcher.is_complete().expect("fine"));
}
