//! Every kind of part, and every pair of them, bit by bit against brute force.
//!
//! The oracle knows a part only as a judge of finished texts (the `regex` crate, naive search, hand-written rules). It
//! enumerates every text over a small alphabet up to a length, and calls a prefix alive when some judged text continues
//! it. Automata are judged together, because their product is pruned; structural parts each for themselves.

use std::rc::Rc;

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
    kind: Kind,
}

/// How a part takes part in the masks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A table that is multiplied with the others.
    Literal,
    /// The same, or an automaton by itself where no expression fits into a table.
    Regex,
    /// A mask of its own.
    Alone,
    /// Only these ids, whatever the text.
    Ids(&'static [u32]),
}

impl Kind {
    fn ids(self) -> Option<&'static [u32]> {
        match self {
            Self::Ids(ids) => Some(ids),
            Self::Literal | Self::Regex | Self::Alone => None,
        }
    }
}

/// Whether tokens that are in all the lists make up the text.
fn is_spelt(vocabulary: &Vocabulary, lists: &[&[u32]], text: &[u8]) -> bool {
    let allowed: Vec<&[u8]> = (0..vocabulary.num_tokens() as u32)
        .filter(|token| vocabulary.is_text(*token) && lists.iter().all(|ids| ids.contains(token)))
        .map(|token| vocabulary.bytes(token))
        .collect();
    let mut reached = vec![true];
    for len in 1..=text.len() {
        reached.push(allowed.iter().any(|word| text[..len].ends_with(word) && reached[len - word.len()]));
    }
    reached[text.len()]
}

/// What stands before the output; only `scope: document` sees it.
const PROMPT: &[u8] = b"ca\"a";

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
        kind: if pattern.contains(['^', '$', 'B']) || pattern.contains(r"\b") { Kind::Literal } else { Kind::Regex },
    }
}

fn forbidden(texts: Value, found: impl Fn(&[u8]) -> bool + 'static) -> Part {
    Part { ir: json!({"forbidden_text": texts}), judge: Box::new(move |text| !found(text)), kind: Kind::Literal }
}

/// Forbidden across the border between prompt and output, but not inside the prompt.
fn in_document(texts: Value, pattern: &str) -> Part {
    let ending = ::regex::bytes::Regex::new(&format!(r"(?:{pattern})\z")).expect("a valid pattern");
    let found = move |text: &[u8]| {
        let document = [PROMPT, text].concat();
        (PROMPT.len() + 1..=document.len()).any(|end| ending.is_match(&document[..end]))
    };
    Part { kind: Kind::Alone, ..forbidden(texts, found) }
}

/// As whole words, where only `\"` is no word character.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    text.split(|&byte| byte == b'"').any(|found| found == word)
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

fn structural(ir: Value, judge: impl Fn(&[u8]) -> bool + 'static) -> Part {
    Part { ir, judge: Box::new(judge), kind: Kind::Alone }
}

fn grammar(syntax: &str, source: &str, judge: impl Fn(&[u8]) -> bool + 'static) -> Part {
    structural(json!({"grammar": {"syntax": syntax, "source": source}}), judge)
}

/// a^n c b^n
fn balanced(text: &[u8]) -> bool {
    let n = text.iter().take_while(|&&byte| byte == b'a').count();
    text.len() == 2 * n + 1 && text[n] == b'c' && text[n + 1..].iter().all(|&byte| byte == b'b')
}

/// `t ::= 'a' | 'a' 'c' t 'b'`: where the one that begins at `at` ends.
fn generic(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'a') {
        return None;
    }
    if text.get(at + 1) != Some(&b'c') {
        return Some(at + 1);
    }
    let inner = generic(text, at + 2)?;
    (text.get(inner) == Some(&b'b')).then_some(inner + 1)
}

/// Grammars in which longest match would change the language: what may end early, keywords beside names, and two
/// closing brackets beside an operator of two of them.
fn adversarial_grammars() -> Vec<Part> {
    let keyword = ::regex::bytes::Regex::new(r#"\A(?:ab"|[abc]+c)\z"#).expect("a valid pattern");
    let other_keyword = keyword.clone();
    let shift = |text: &[u8]| {
        generic(text, 0).is_some_and(|end| {
            end == text.len() || (text[end..].starts_with(b"bb") && generic(text, end + 2) == Some(text.len()))
        })
    };
    let runs = |text: &[u8]| {
        let rest = text.strip_suffix(b"b").unwrap_or(text);
        !rest.is_empty() && rest.iter().all(|&byte| byte == b'a')
    };
    vec![
        grammar("ebnf", "s ::= 'a'* 'a' 'b'?", runs),
        grammar("ebnf", "s = {'a'}, 'a', ['b'];", runs),
        grammar("gbnf", "root ::= run \"a\" \"b\"?\nrun ::= \"a\"*", runs),
        grammar("ebnf", "s ::= key '\"' | name 'c'\nkey ::= 'ab'\nname ::= [abc]+", move |text| keyword.is_match(text)),
        grammar("gbnf", "root ::= \"ab\" \"\\\"\" | name \"c\"\nname ::= [abc]+", move |text| {
            other_keyword.is_match(text)
        }),
        grammar("ebnf", "s ::= t | t 'bb' t\nt ::= 'a' | 'a' 'c' t 'b'", shift),
        grammar("gbnf", "root ::= t (\"bb\" t)?\nt ::= \"a\" (\"c\" t \"b\")?", shift),
    ]
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
        forbidden(json!([{"text": "ab", "whole_word": true}, {"text": "ca\"b", "whole_word": true}]), |text| {
            let bordered = [b"\"", text, b"\""].concat();
            has_word(text, b"ab") || contains(&bordered, b"\"ca\"b\"")
        }),
        forbidden(json!([{"text": "AbC", "whole_word": true, "ignore_case": true}]), |text| has_word(text, b"abc")),
        forbidden(json!([{"regex": "b+a", "whole_word": true}]), |text| {
            text.split(|&byte| byte == b'"').any(|word| {
                word.strip_suffix(b"a").is_some_and(|b| !b.is_empty() && b.iter().all(|&byte| byte == b'b'))
            })
        }),
        in_document(json!([{"text": "aab", "scope": "document"}, {"text": "a\"a", "scope": "document"}]), "aab|a\"a"),
        in_document(json!([{"text": "AC", "scope": "document", "ignore_case": true}]), "ac"),
        Part {
            ir: json!({"token_masks": {"allowed_tokens": [0, 1, 3, 4, 9, 10, 11, 12]}}),
            judge: Box::new(|_| true),
            kind: Kind::Ids(&[0, 1, 3, 4, 9, 10, 11, 12]),
        },
        Part {
            ir: json!({"token_masks": {"forbidden_tokens": [0, 5, 13]}}),
            judge: Box::new(|_| true),
            kind: Kind::Ids(&[1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]),
        },
        Part { ir: json!({"limits": {"max_chars": 4}}), judge: Box::new(|text| text.len() <= 4), kind: Kind::Alone },
        Part {
            ir: json!({"soft": [{"text": "ab", "bias": 9.0}, {"regex": "c+", "bias": -9.0}]}),
            judge: Box::new(|_| true),
            kind: Kind::Alone,
        },
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

/// A part with the texts that it accepts.
struct Judged<'a> {
    part: &'a Part,
    accepted: Vec<bool>,
    own: Rc<Language>,
}

impl<'a> Judged<'a> {
    fn new(part: &'a Part, texts: &[Vec<u8>]) -> Self {
        let accepted: Vec<bool> = texts.iter().map(|text| (part.judge)(text)).collect();
        let own = Rc::new(Language::of(&[&accepted]));
        Self { part, accepted, own }
    }

    /// Whether it is multiplied with others of its kind.
    fn is_merged(&self, are_lazy: bool) -> bool {
        self.part.kind == Kind::Literal || (self.part.kind == Kind::Regex && !are_lazy)
    }
}

/// The tables of some judged parts together, and each other part for itself.
fn languages(parts: &[&Judged<'_>], are_lazy: bool) -> Vec<Rc<Language>> {
    let merged: Vec<&[bool]> =
        parts.iter().filter(|part| part.is_merged(are_lazy)).map(|part| part.accepted.as_slice()).collect();
    if merged.len() < 2 {
        return parts.iter().map(|part| Rc::clone(&part.own)).collect();
    }
    let alone = parts.iter().filter(|part| !part.is_merged(are_lazy)).map(|part| Rc::clone(&part.own));
    alone.chain([Rc::new(Language::of(&merged))]).collect()
}

/// Visits every prefix that the masks let through, up to a length, and compares every bit of its row.
fn compare(guide: &Guide, parts: &[&Part], languages: &[Rc<Language>]) -> usize {
    let visited_len_max = if parts.len() == 1 { VISITED_LEN_MAX } else { VISITED_LEN_MAX_PAIRS };
    let names: Vec<&Value> = parts.iter().map(|part| &part.ir).collect();
    let irs: Vec<ConstraintIr> = parts.iter().map(|part| ir(part.ir.clone())).collect();
    let vocabulary = guide.vocabulary();
    let end = vocabulary.end_tokens()[0];
    let expected = |prefix: &[u8]| -> Vec<u32> {
        let text = (0..vocabulary.num_tokens() as u32).filter(|&token| vocabulary.is_text(token));
        let alive = text.filter(|&token| {
            let longer = [prefix, vocabulary.bytes(token)].concat();
            let lacks_id = |part: &&Part| matches!(part.kind, Kind::Ids(ids) if !ids.contains(&token));
            !parts.iter().any(lacks_id) && languages.iter().all(|language| language.is_alive(&longer))
        });
        let ends = languages.iter().all(|language| language.accepts(prefix));
        alive.chain(ends.then_some(end)).collect()
    };
    let compiled = match guide.compile(&irs) {
        Ok(compiled) => compiled,
        Err(GuideError::Unsatisfiable { .. }) => {
            let lists: Vec<_> = parts.iter().filter_map(|part| part.kind.ids()).collect();
            let shared = |text: &[u8]| {
                languages.iter().all(|language| language.accepts(text)) && is_spelt(vocabulary, &lists, text)
            };
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
        let mut matcher = compiled.matcher(PROMPT).expect("a matcher");
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

/// Compares every part, and every pair.
fn compare_all(guide: &Guide, parts: &[Part], are_lazy: bool) -> usize {
    let texts = all_texts();
    let judged: Vec<Judged<'_>> = parts.iter().map(|part| Judged::new(part, &texts)).collect();
    let mut num_rows = 0;
    for (left_idx, left) in judged.iter().enumerate() {
        let num_visited = compare(guide, &[left.part], &languages(&[left], are_lazy));
        assert!(num_visited > 1, "{} was hardly visited", left.part.ir);
        num_rows += num_visited;
        for right in &judged[left_idx + 1..] {
            num_rows += compare(guide, &[left.part, right.part], &languages(&[left, right], are_lazy));
        }
    }
    num_rows
}

#[test]
fn every_part_and_every_pair_masks_exactly_what_brute_force_allows() {
    let num_rows = compare_all(&guide(WORDS), &parts(), false);
    assert!(num_rows > 1_000, "only {num_rows} rows were compared");
}

#[test]
fn lazily_built_automata_mask_exactly_what_brute_force_allows() {
    let config = GuideConfig { max_regex_build_bytes: 0, ..GuideConfig::default() };
    let guide = Guide::new(vocabulary(WORDS), config).expect("the vocabulary can be sliced");
    // Look-around and soft biases need a table.
    let needs_table = |part: &Part| {
        let ir = part.ir.to_string();
        ir.contains("soft") || (part.kind == Kind::Literal && ir.contains("regex") && !ir.contains("AB"))
    };
    let parts: Vec<Part> = parts().into_iter().filter(|part| !needs_table(part)).collect();
    let num_rows = compare_all(&guide, &parts, true);
    assert!(num_rows > 800, "only {num_rows} rows were compared");
}

#[test]
fn masks_kept_by_a_lexer_are_exactly_what_brute_force_allows() {
    let config = GuideConfig { min_lexer_mask_walk: 0, ..GuideConfig::default() };
    let guide = Guide::new(vocabulary(WORDS), config).expect("the vocabulary can be sliced");
    let is_structural = |part: &Part| part.ir.get("grammar").or(part.ir.get("json_schema")).is_some();
    let parts: Vec<Part> = parts().into_iter().filter(is_structural).chain(adversarial_grammars()).collect();
    let num_rows = compare_all(&guide, &parts, false);
    assert!(num_rows > 150, "only {num_rows} rows were compared");
}

#[test]
fn no_rule_of_a_scannerless_grammar_is_read_by_longest_match() {
    let num_rows = compare_all(&guide(WORDS), &adversarial_grammars(), false);
    assert!(num_rows > 60, "only {num_rows} rows were compared");
}

/// Look-around where it is exact.
fn look_around_parts() -> Vec<Part> {
    let part = |pattern: &str, mode: &str, judge: Judge| Part {
        ir: json!({"regex_patterns": [{"any_of": [{"pattern": pattern}], "match": mode}]}),
        judge,
        kind: Kind::Literal,
    };
    let starts = ::regex::bytes::Regex::new(r"\Ab[ab]*c").expect("a valid pattern");
    vec![
        part(
            "^(?=.*c)(?!.*ab)[abc]+$",
            "full",
            Box::new(|text| text.contains(&b'c') && !contains(text, b"ab") && !text.contains(&b'"')),
        ),
        part(r"\A(?!a)(?=[ab]+c).+", "prefix", Box::new(move |text| starts.is_match(text))),
        part("(?!abc?$).*", "full", Box::new(|text| text != b"ab" && text != b"abc")),
        part("(?!ab)", "prefix", Box::new(|text| !text.starts_with(b"ab"))),
        part("ab(?=[c\"])", "contains", Box::new(|text| contains(text, b"abc") || contains(text, b"ab\""))),
        part("(?<=a)b", "absent", Box::new(|text| !contains(text, b"ab"))),
        part("a(?=b|c)", "prefix", Box::new(|text| text.starts_with(b"ab") || text.starts_with(b"ac"))),
        part("c+", "absent", Box::new(|text| !text.contains(&b'c'))),
    ]
}

#[test]
fn look_around_masks_exactly_what_brute_force_allows() {
    let num_rows = compare_all(&guide(WORDS), &look_around_parts(), false);
    assert!(num_rows > 100, "only {num_rows} rows were compared");
}
