//! Soft biases against a potential that is computed from the text alone.

use super::*;

const ALPHABET: &[u8] = b"abc";
const WORDS: &[&[u8]] = &[b"a", b"b", b"c", b"aa", b"ab", b"ba", b"cab", b"abca", b"bab"];

/// What a text is worth under one bias: matches that ended, and the progress of one under way.
struct Potential {
    bias: f64,
    whole: ::regex::bytes::Regex,
    start_distance: usize,
}

impl Potential {
    fn new(pattern: &str, bias: f64) -> Self {
        let whole = ::regex::bytes::Regex::new(&format!(r"\A(?s-u:.)*(?:{pattern})\z")).expect("a valid pattern");
        let mut potential = Self { bias, whole, start_distance: 0 };
        potential.start_distance = potential.distance(b"");
        potential
    }

    /// Bytes that the shortest continuation needs so that a match ends with it.
    fn distance(&self, text: &[u8]) -> usize {
        let mut level = vec![text.to_vec()];
        for distance in 0..5 {
            if level.iter().any(|text| self.whole.is_match(text)) {
                return distance;
            }
            level = level.iter().flat_map(|text| ALPHABET.iter().map(|&byte| [text, &[byte][..]].concat())).collect();
        }
        usize::MAX
    }

    fn progress(&self, text: &[u8]) -> f64 {
        match self.distance(text) {
            0 => 0.0,
            distance => (1.0 - distance as f64 / self.start_distance as f64).max(0.0),
        }
    }

    fn of(&self, text: &[u8]) -> f64 {
        let num_ended = (1..=text.len()).filter(|&len| self.whole.is_match(&text[..len])).count();
        self.bias * (num_ended as f64 + self.progress(text))
    }
}

fn biases() -> Vec<(Value, Vec<Potential>)> {
    let text = |text: &str, bias: f64| json!({"text": text, "bias": bias});
    let regex = |regex: &str, bias: f64| json!({"regex": regex, "bias": bias});
    vec![
        (json!([text("aba", 2.0)]), vec![Potential::new("aba", 2.0)]),
        (json!([text("aa", -1.5)]), vec![Potential::new("aa", -1.5)]),
        (json!([regex("ab|c[ab]c", 3.0)]), vec![Potential::new("ab|c[ab]c", 3.0)]),
        (json!([regex("[a-c]+", 1.0)]), vec![Potential::new("[a-c]+", 1.0)]),
        (json!([regex("^ab?c", 4.0)]), vec![Potential::new(r"\Aab?c", 4.0)]),
        (
            json!([text("ab", 1.0), text("ba", -0.25), regex("c+b", 0.5)]),
            vec![Potential::new("ab", 1.0), Potential::new("ba", -0.25), Potential::new("c+b", 0.5)],
        ),
    ]
}

fn added(list: &[(u32, f32)], token: u32) -> f64 {
    list.iter().find(|(id, _)| *id == token).map_or(0.0, |(_, bias)| f64::from(*bias))
}

/// What the potential says that `token` gains after `text`; an end token gives up what is under way.
fn gain(vocabulary: &Vocabulary, potentials: &[Potential], text: &[u8], token: u32) -> f64 {
    let gain = |potential: &Potential| {
        if vocabulary.is_text(token) {
            potential.of(&[text, vocabulary.bytes(token)].concat()) - potential.of(text)
        } else {
            -potential.bias * potential.progress(text)
        }
    };
    potentials.iter().map(gain).sum()
}

#[test]
fn every_token_gains_what_the_potential_of_the_text_gains() {
    for config in [GuideConfig::default(), GuideConfig { bias_cache_bytes: 300, ..GuideConfig::default() }] {
        let guide = Guide::new(vocabulary(WORDS), config).expect("the vocabulary can be sliced");
        let end = guide.vocabulary().end_tokens()[0];
        for (soft, potentials) in biases() {
            let compiled = guide.compile(&[ir(json!({"soft": soft}))]).expect("compiles");
            let mut texts: Vec<Vec<u32>> = vec![vec![]];
            for len in 0..3 {
                let longer = texts.iter().filter(|text| text.len() == len);
                let longer: Vec<_> =
                    longer.flat_map(|text| (0..WORDS.len() as u32).map(|id| [&text[..], &[id]].concat())).collect();
                texts.extend(longer);
            }
            for tokens in texts.iter().rev().step_by(7) {
                let mut matcher = compiled.matcher(b"").expect("a matcher");
                tokens.iter().for_each(|&token| matcher.accept(token).expect("nothing is forbidden"));
                let list = matcher.bias();
                assert!(list.is_sorted_by_key(|(id, _)| *id));
                let text = guide.vocabulary().decode(tokens);
                // The constant is the same for every token, end tokens included.
                let constant = gain(guide.vocabulary(), &potentials, &text, end) - added(&list, end);
                for token in 0..WORDS.len() as u32 {
                    let expected = gain(guide.vocabulary(), &potentials, &text, token) - constant;
                    let actual = added(&list, token);
                    assert!((expected - actual).abs() < 1e-5, "{soft} {text:?} {token}: {expected}, not {actual}");
                }
            }
        }
    }
}

#[test]
fn the_sum_over_a_text_does_not_depend_on_its_split() {
    let soft = json!([{"text": "abca", "bias": 2.0}, {"regex": "b[ab]*c", "bias": -1.0}]);
    let potentials = [Potential::new("abca", 2.0), Potential::new("b[ab]*c", -1.0)];
    let guide = guide(WORDS);
    let (vocabulary, end) = (guide.vocabulary(), guide.vocabulary().end_tokens()[0]);
    let compiled = guide.compile(&[ir(json!({"soft": soft}))]).expect("compiles");
    let text = b"abcabcaabcababbc";
    let whole: f64 = potentials.iter().map(|potential| potential.of(text)).sum();
    let mut random = Random(4);
    let mut splits = std::collections::HashSet::new();
    for _ in 0..60 {
        let mut matcher = compiled.matcher(b"").expect("a matcher");
        let (mut at, mut sum, mut tokens) = (0, 0.0, Vec::new());
        while at < text.len() {
            let fits = |token: &u32| text[at..].starts_with(vocabulary.bytes(*token));
            let fitting: Vec<u32> = (0..WORDS.len() as u32).filter(fits).collect();
            let token = fitting[random.below(fitting.len())];
            let list = matcher.bias();
            let constant = gain(vocabulary, &potentials, &text[..at], end) - added(&list, end);
            sum += added(&list, token) + constant;
            matcher.accept(token).expect("nothing is forbidden");
            at += vocabulary.bytes(token).len();
            tokens.push(token);
        }
        assert!((sum - whole).abs() < 1e-4, "{tokens:?}: {sum}, not {whole}");
        splits.insert(tokens);
    }
    assert!(splits.len() > 20, "only {} splits", splits.len());
}

#[test]
fn what_an_abandoned_match_was_given_is_taken_back() {
    let guide = guide(&[b"f", b"o", b"x", b"foo", b"fo"]);
    let mut matcher = start(&guide, &[json!({"soft": [{"text": "foo", "bias": 3.0}]})]);
    let step = |matcher: &mut Matcher| matcher.bias().to_vec();
    assert_eq!(step(&mut matcher), [(0, 1.0), (3, 3.0), (4, 2.0)], "`o` and `x` and the end bring nothing");
    matcher.accept(4).expect("`fo`");
    // After two of three bytes, `o` ends the match and everything else gives them up, but for what it begins anew.
    assert_eq!(step(&mut matcher), [(0, 1.0), (1, 3.0), (3, 3.0), (4, 2.0)]);
    let before = step(&mut matcher);
    matcher.accept(1).expect("`o`");
    assert_eq!(step(&mut matcher), [(0, 1.0), (3, 3.0), (4, 2.0)], "a match that ended stays counted");
    matcher.rollback(1).expect("one token");
    assert_eq!(step(&mut matcher), before);
    assert_eq!(matcher.compiled().num_parts(), 1);
    assert!(start(&guide, &[]).bias().is_empty());
}

#[test]
fn a_bias_that_means_nothing_is_refused_by_name() {
    let refused = |soft: Value| refusal(&BYTES, json!({"soft": [{"text": "a", "bias": 1.0}, soft]}));
    for soft in
        [json!({"text": "", "bias": 1.0}), json!({"text": "a", "bias": 100.5}), json!({"text": "a", "bias": -1e30})]
    {
        assert!(matches!(refused(soft.clone()), GuideError::InvalidIr { part, .. } if part == "soft[1]"), "{soft}");
    }
    for pattern in ["a*", "a$", r"a(?-u:\b)", "(", r"\b"] {
        let error = refused(json!({"regex": pattern, "bias": 1.0}));
        assert!(matches!(&error, GuideError::InvalidRegex { part, .. } if part == "soft[1]"), "{pattern}: {error:?}");
    }
    let mut infinite = ir(json!({"soft": [{"text": "a", "bias": 1.0}]}));
    for bias in [f32::NAN, f32::INFINITY] {
        infinite.soft[0].bias = bias;
        assert!(matches!(BYTES.compile(&[infinite.clone()]), Err(GuideError::InvalidIr { .. })));
    }
    let many = json!({"soft": vec![json!({"text": "a", "bias": 1.0}); 65]});
    assert!(matches!(refusal(&BYTES, many), GuideError::TooLarge { .. }));
    assert!(
        BYTES
            .compile(&[ir(
                json!({"soft": [{"regex": r"(?-u:\b)foo", "bias": 1.0}, {"regex": "[^\\s\\S]", "bias": 1.0}]})
            )])
            .is_ok()
    );
}
