//! Every kind of part, and every pair of them, bit by bit against brute force.
//!
//! The oracle knows a part only as a judge of finished texts (the `regex` crate, naive search, hand-written rules). It
//! enumerates every text over a small alphabet up to a length, and calls a prefix alive when some judged text continues
//! it. Automata are judged together, because their product is pruned; structural parts each for themselves.

use super::*;

const ALPHABET: &[u8] = b"abc\"";
const TEXT_LEN_MAX: usize = 9;
/// Prefixes longer than this are not visited: their continuations would be cut off by `TEXT_LEN_MAX`.
const VISITED_LEN_MAX: usize = 2;
/// The same for pairs, of which there are many.
const VISITED_LEN_MAX_PAIRS: usize = 1;

const WORDS: &[&[u8]] =
    &[b"a", b"b", b"c", b"\"", b"aa", b"ab", b"ba", b"bc", b"ca", b"abc", b"\"a", b"b\"", b"cab", b"ab"];

type Judge = Box<dyn Fn(&[u8]) -> bool>;

struct Part {
    ir: Value,
    judge: Judge,
    is_structural: bool,
}

fn regex(pattern: &str, mode: &'static str, flags: &str) -> Part {
    let whole = match mode {
        "full" => format!(r"\A(?:{pattern})\z"),
        "prefix" => format!(r"\A(?:{pattern})"),
        _ => pattern.to_owned(),
    };
    let dialect = if flags.is_empty() { whole } else { format!("(?{flags}:{whole})") };
    let engine = ::regex::bytes::Regex::new(&dialect).expect("a valid pattern");
    Part {
        ir: json!({"regex_patterns": [{"any_of": [{"pattern": pattern, "flags": flags}], "match": mode}]}),
        judge: Box::new(move |text| engine.is_match(text) != (mode == "absent")),
        is_structural: false,
    }
}

fn forbidden(texts: Value, found: impl Fn(&[u8]) -> bool + 'static) -> Part {
    Part { ir: json!({"forbidden_text": texts}), judge: Box::new(move |text| !found(text)), is_structural: false }
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

fn structural(ir: Value, judge: impl Fn(&[u8]) -> bool + 'static) -> Part {
    Part { ir, judge: Box::new(judge), is_structural: true }
}

fn grammar(syntax: &str, source: &str, judge: impl Fn(&[u8]) -> bool + 'static) -> Part {
    structural(json!({"grammar": {"syntax": syntax, "source": source}}), judge)
}

/// a^n c b^n
fn balanced(text: &[u8]) -> bool {
    let n = text.iter().take_while(|&&byte| byte == b'a').count();
    text.len() == 2 * n + 1 && text[n] == b'c' && text[n + 1..].iter().all(|&byte| byte == b'b')
}

fn parts() -> Vec<Part> {
    let folded = ::regex::bytes::Regex::new("(?i:ab)|c\"+a").expect("a valid pattern");
    vec![
        regex("(a|b)*c", "full", ""),
        regex("a|ab|c{2,3}b?", "full", ""),
        regex("A[B-C]?", "prefix", "i"),
        regex("abc|ca", "contains", ""),
        regex("^ab|c$", "contains", ""),
        regex("a$", "prefix", ""),
        regex("aa|cb", "absent", ""),
        regex(r"(?-u:\b)ab(?-u:\b)", "absent", ""),
        regex(r"[^b]+$", "absent", ""),
        forbidden(json!([{"text": "ab"}, {"text": "ca"}]), |text| contains(text, b"ab") || contains(text, b"ca")),
        forbidden(json!([{"text": "AB", "ignore_case": true}, {"regex": "c\"+a"}]), move |text| folded.is_match(text)),
        forbidden(json!([{"text": "ab", "whole_word": true}]), |text| {
            text.split(|&byte| byte == b'"').any(|word| word == b"ab")
        }),
        grammar("lark", "start: \"a\" start \"b\" | \"c\"", balanced),
        grammar("ebnf", "s ::= 'a' s 'b' | 'c'", balanced),
        grammar("ebnf", "s = s, 'a', {'b'} | 'c';", |text| {
            text.first() == Some(&b'c')
                && (text.len() == 1
                    || (text[1] == b'a'
                        && !contains(text, b"c\"")
                        && text[1..].iter().all(|byte| b"ab".contains(byte))))
        }),
        grammar("gbnf", "root ::= (\"a\" | \"ab\") \"b\" x*\nx ::= [^abc] | \"c\"", |text| {
            let rest = text.strip_prefix(b"abb").or_else(|| text.strip_prefix(b"ab"));
            rest.is_some_and(|rest| rest.iter().all(|byte| b"c\"".contains(byte)))
        }),
        structural(json!({"json_schema": {"enum": ["a", "ab", "c"]}}), |text| {
            [&b"\"a\""[..], b"\"ab\"", b"\"c\""].contains(&text)
        }),
        structural(json!({"json_schema": {"type": "string", "pattern": "^a+b$", "maxLength": 4}}), |text| {
            let inner = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
            inner
                .and_then(|inner| inner.strip_suffix(b"b"))
                .is_some_and(|a| (1..4).contains(&a.len()) && a.iter().all(|&byte| byte == b'a'))
        }),
    ]
}

/// Texts as numbers: the empty one is 0, and the texts that continue text `t` by one letter are `4 t + 1` to `4 t + 4`.
fn number(text: &[u8]) -> Option<usize> {
    text.iter().try_fold(0, |number, byte| {
        let letter = ALPHABET.iter().position(|known| known == byte)?;
        Some(number * ALPHABET.len() + 1 + letter)
    })
}

fn all_texts() -> Vec<Vec<u8>> {
    let num_texts = (0..=TEXT_LEN_MAX).fold(0, |sum, _| sum * ALPHABET.len() + 1);
    let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
    while texts.len() < num_texts {
        let parent = (texts.len() - 1) / ALPHABET.len();
        let letter = ALPHABET[(texts.len() - 1) % ALPHABET.len()];
        texts.push([texts[parent].as_slice(), &[letter]].concat());
    }
    texts
}

/// Which texts are accepted, and which can still become so.
struct Language {
    accepted: Vec<bool>,
    alive: Vec<bool>,
}

impl Language {
    fn of(judged: &[&[bool]]) -> Self {
        let accepted: Vec<bool> = (0..judged[0].len()).map(|text| judged.iter().all(|part| part[text])).collect();
        let mut alive = accepted.clone();
        for text in (1..alive.len()).rev() {
            if alive[text] {
                alive[(text - 1) / ALPHABET.len()] = true;
            }
        }
        Self { accepted, alive }
    }

    fn is_alive(&self, text: &[u8]) -> bool {
        number(text).is_some_and(|text| self.alive[text])
    }

    fn accepts(&self, text: &[u8]) -> bool {
        number(text).is_some_and(|text| self.accepted[text])
    }
}

/// The automata of some judged parts together, and each structural part for itself.
fn languages(parts: &[(&Part, &[bool])]) -> Vec<Language> {
    let automata: Vec<&[bool]> =
        parts.iter().filter(|(part, _)| !part.is_structural).map(|(_, judged)| *judged).collect();
    let structural = parts.iter().filter(|(part, _)| part.is_structural);
    let mut languages: Vec<Language> = structural.map(|(_, judged)| Language::of(&[judged])).collect();
    if !automata.is_empty() {
        languages.push(Language::of(&automata));
    }
    languages
}

/// Visits every prefix that the masks let through, up to a length, and compares every bit of its row.
fn compare(guide: &Guide, parts: &[&Part], languages: &[Language]) -> usize {
    let visited_len_max = if parts.len() == 1 { VISITED_LEN_MAX } else { VISITED_LEN_MAX_PAIRS };
    let names: Vec<&Value> = parts.iter().map(|part| &part.ir).collect();
    let irs: Vec<ConstraintIr> = parts.iter().map(|part| ir(part.ir.clone())).collect();
    let vocabulary = guide.vocabulary();
    let end = vocabulary.end_tokens()[0];
    let expected = |prefix: &[u8]| -> Vec<u32> {
        let text = (0..vocabulary.num_tokens() as u32).filter(|&token| vocabulary.is_text(token));
        let alive = text.filter(|&token| {
            let longer = [prefix, vocabulary.bytes(token)].concat();
            languages.iter().all(|language| language.is_alive(&longer))
        });
        let ends = languages.iter().all(|language| language.accepts(prefix));
        alive.chain(ends.then_some(end)).collect()
    };
    let compiled = match guide.compile(&irs) {
        Ok(compiled) => compiled,
        Err(GuideError::Unsatisfiable { .. }) => {
            let shared = |text: &[u8]| languages.iter().all(|language| language.accepts(text));
            assert!(!all_texts().iter().any(|text| shared(text)), "{names:?} can be satisfied");
            // The masks are right for what is not admitted as well.
            match guide.build(&irs, parts.len()) {
                Ok((compiled, _)) => Arc::new(compiled),
                Err(_) => return 1,
            }
        }
        Err(error) => panic!("{names:?}: {error}"),
    };
    let mut num_rows = 0;
    let mut stack: Vec<Vec<u32>> = vec![Vec::new()];
    while let Some(tokens) = stack.pop() {
        let mut matcher = compiled.matcher(b"").expect("a matcher");
        tokens.iter().for_each(|&token| matcher.accept(token).expect("the mask allowed it"));
        let prefix = vocabulary.decode(&tokens);
        let actual = match filled(&mut matcher) {
            Ok(row) => allowed_tokens(&row).collect(),
            Err(GuideError::DeadEnd { byte_offset, .. }) => {
                assert_eq!(byte_offset, prefix.len());
                Vec::new()
            }
            Err(error) => panic!("{names:?} after {:?}: {error}", prefix.escape_ascii().to_string()),
        };
        assert_eq!(actual, expected(&prefix), "{names:?} after {:?}", prefix.escape_ascii().to_string());
        num_rows += 1;
        // What the mask refuses, accept refuses, and nothing changes.
        for token in 0..vocabulary.num_rows() as u32 {
            if !actual.contains(&token) {
                assert!(matches!(matcher.accept(token), Err(GuideError::NotAllowed { .. })), "{names:?} token {token}");
            }
        }
        for &token in actual.iter().filter(|&&token| token != end) {
            if prefix.len() + vocabulary.bytes(token).len() <= visited_len_max {
                let mut longer = tokens.clone();
                longer.push(token);
                stack.push(longer);
            }
        }
    }
    num_rows
}

#[test]
fn every_part_and_every_pair_masks_exactly_what_brute_force_allows() {
    let (guide, texts, parts) = (guide(WORDS), all_texts(), parts());
    let judged: Vec<Vec<bool>> =
        parts.iter().map(|part| texts.iter().map(|text| (part.judge)(text)).collect()).collect();
    let mut num_rows = 0;
    for (left_idx, left) in parts.iter().enumerate() {
        let alone = (left, judged[left_idx].as_slice());
        let num_visited = compare(&guide, &[left], &languages(&[alone]));
        assert!(num_visited > 1, "{} was hardly visited", left.ir);
        num_rows += num_visited;
        for (right_idx, right) in parts.iter().enumerate().skip(left_idx + 1) {
            let both = [alone, (right, judged[right_idx].as_slice())];
            num_rows += compare(&guide, &[left, right], &languages(&both));
        }
    }
    assert!(num_rows > 600, "only {num_rows} rows were compared");
}
