//! Byte automata by themselves: masks by difference against brute force, lazily built automata against tables, bounds.

use super::*;

fn nano_guide(config: GuideConfig) -> Guide {
    Guide::new(Arc::clone(NANO.vocabulary()), config).expect("the vocabulary can be sliced")
}

/// A configuration under which no expression fits into a table.
fn lazy_config() -> GuideConfig {
    GuideConfig { max_regex_build_bytes: 0, ..GuideConfig::default() }
}

fn group(pattern: &str, mode: &str) -> Value {
    json!({"regex_patterns": [{"any_of": [{"pattern": pattern}], "match": mode}]})
}

/// Words of two and three letters, of which the vocabulary has many.
fn words(num_words: usize, random: &mut Random) -> Vec<Value> {
    let letters = b"etaoin srhldcum";
    let mut word =
        || -> String { (0..2 + random.below(2)).map(|_| char::from(letters[random.below(letters.len())])).collect() };
    (0..num_words).map(|_| json!({"text": word()})).collect()
}

/// Every text token by itself, run through the automaton.
fn brute_force(automaton: &AutomatonPart, state: u32) -> Vec<u32> {
    let vocabulary = NANO.vocabulary();
    let text = (0..vocabulary.num_tokens() as u32).filter(|&token| vocabulary.is_text(token));
    text.filter(|&token| automaton.run(state, vocabulary.bytes(token)).expect("within its bounds") != 0).collect()
}

/// Follows random tokens, and compares each mask with brute force; the number of states that were visited.
fn compare_masks(guide: &Guide, constraint: Value, random: &mut Random) -> usize {
    let compiled = guide.compile(&[ir(constraint.clone())]).unwrap_or_else(|error| panic!("{constraint}: {error}"));
    let vocabulary = NANO.vocabulary();
    let mut states = std::collections::HashSet::new();
    for automaton in &compiled.automata {
        let mut own = Vec::new();
        let mut state = automaton.start(b"some text in th", &compiled.config).expect("a state");
        for _ in 0..300 {
            states.insert(state);
            own.push(state);
            let mut row = compiled.text.to_vec();
            automaton.intersect_mask(state, &compiled.tokens, &mut row).expect("within its bounds");
            let allowed: Vec<u32> = allowed_tokens(&row).collect();
            assert_eq!(allowed, brute_force(automaton, state), "{constraint} in state {state}");
            if allowed.is_empty() {
                break;
            }
            let token = allowed[random.below(allowed.len())];
            state = automaton.run(state, vocabulary.bytes(token)).expect("within its bounds");
        }
        // What was kept says the same when it is asked again.
        for &state in own.iter().take(40) {
            let mut row = compiled.text.to_vec();
            automaton.intersect_mask(state, &compiled.tokens, &mut row).expect("within its bounds");
            let allowed: Vec<u32> = allowed_tokens(&row).collect();
            assert_eq!(allowed, brute_force(automaton, state), "{constraint} in state {state} again");
        }
        let bound = compiled.config.mask_cache_bytes / compiled.automata.len();
        assert!(automaton.num_mask_bytes() <= bound, "{} bytes of {bound}", automaton.num_mask_bytes());
    }
    states.len()
}

#[test]
fn masks_kept_as_differences_equal_brute_force_whatever_room_they_have() {
    let mut random = Random(7);
    let row_bytes = 4 * num_words(NANO.vocabulary().num_rows());
    let forbidden = |scope: &str, whole_word: bool, random: &mut Random| {
        let mut texts = words(150, random);
        for text in &mut texts {
            text["scope"] = json!(scope);
            text["whole_word"] = json!(whole_word);
        }
        json!({"forbidden_text": texts})
    };
    for mask_cache_bytes in [0, row_bytes, 7 * row_bytes, 40 * row_bytes, 1 << 24] {
        let config = GuideConfig { mask_cache_bytes, ..GuideConfig::default() };
        let tables = nano_guide(config.clone());
        let lazy = nano_guide(GuideConfig { mask_cache_bytes, ..lazy_config() });
        let constraints = [
            (&tables, forbidden("output", false, &mut random)),
            (&tables, forbidden("document", false, &mut random)),
            (&tables, forbidden("output", true, &mut random)),
            (&tables, forbidden("document", true, &mut random)),
            (&tables, group("([a-z]{2,9} ?){1,40}[.]", "full")),
            (
                &tables,
                json!({"forbidden_text": words(20, &mut random), "regex_patterns": group("[a-f]{3}", "contains")["regex_patterns"]}),
            ),
            (&lazy, group("([a-z]{2,9} ?){1,40}[.]|x*y{7}", "full")),
            (&lazy, group("[a-f]{3}|the (?:cat|dog)", "absent")),
            (&lazy, group("[0-9a-f]{4}", "contains")),
        ];
        let num_states: usize =
            constraints.into_iter().map(|(guide, value)| compare_masks(guide, value, &mut random)).sum();
        assert!(num_states > 120, "only {num_states} states were visited");
    }
}

#[test]
fn a_mask_of_forbidden_text_is_kept_as_a_small_difference() {
    let mut random = Random(3);
    let mut texts: Vec<Vec<u8>> =
        (0..20_000).map(|_| (0..1 + random.below(5)).map(|_| b'a' + random.below(26) as u8).collect()).collect();
    texts.sort();
    texts.dedup();
    let guide = guide(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let compiled = guide.compile(&[ir(json!({"forbidden_text": words(150, &mut random)}))]).expect("compiles");
    let [automaton] = compiled.automata.as_slice() else { panic!("one automaton") };
    let num_states = automaton.table().expect("a table").num_states();
    for state in 1..num_states as u32 {
        automaton.intersect_mask(state, &compiled.tokens, &mut compiled.text.to_vec()).expect("a table has no bound");
    }
    let row_bytes = size_of_val(&*compiled.text);
    let bytes_per_state = automaton.num_mask_bytes() / num_states;
    assert!(2 * bytes_per_state < row_bytes, "{bytes_per_state} bytes a state, a row has {row_bytes}");
}

/// A random expression over `a`, `b` and `c`.
fn random_pattern(random: &mut Random, depth: usize) -> String {
    let kind = if depth == 0 { random.below(3) } else { random.below(9) };
    let inner = |random: &mut Random| random_pattern(random, depth.saturating_sub(1));
    match kind {
        0 => "a".into(),
        1 => "b".into(),
        2 => "[^a]".into(),
        3 | 4 => format!("{}{}", inner(random), inner(random)),
        5 => format!("(?:{}|{})", inner(random), inner(random)),
        6 => format!("(?:{})*", inner(random)),
        7 => format!("(?:{}){{1,3}}", inner(random)),
        _ => format!("(?:{})?", inner(random)),
    }
}

#[test]
fn a_lazily_built_automaton_is_the_table_state_by_state() {
    let words: &[&[u8]] = &[b"a", b"b", b"c", b"ab", b"ba", b"abc", b"cca", "é".as_bytes(), b"\xC3"];
    let tables = guide(words);
    let lazy = Guide::new(Arc::clone(tables.vocabulary()), lazy_config()).expect("the vocabulary can be sliced");
    let mut random = Random(11);
    let mut num_rows = 0;
    for seed in 0..400 {
        let pattern = random_pattern(&mut random, 3);
        let mode = ["full", "prefix", "contains", "absent"][seed % 4];
        let value = group(&pattern, mode);
        let (table, built) = match (tables.compile(&[ir(value.clone())]), lazy.compile(&[ir(value.clone())])) {
            (Ok(table), Ok(built)) => (table, built),
            (Err(left), Err(right)) => {
                assert_eq!(left, right, "/{pattern}/ {mode}");
                continue;
            }
            (left, right) => panic!("/{pattern}/ {mode}: {left:?}, {right:?}"),
        };
        assert!(table.automata[0].table().is_some() && built.automata[0].table().is_none());
        let (mut left, mut right) = (table.matcher(b"").expect("a matcher"), built.matcher(b"").expect("a matcher"));
        for _ in 0..12 {
            let row = filled(&mut left);
            assert_eq!(row.is_ok(), filled(&mut right).is_ok(), "/{pattern}/ {mode}");
            let Ok(row) = row else { break };
            assert_eq!(row, filled(&mut right).expect("a mask"), "/{pattern}/ {mode}");
            num_rows += 1;
            let distance = |matcher: &Matcher| {
                let state = matcher.automaton_states()[0];
                matcher.compiled().automata[0].min_bytes_to_end(state)
            };
            assert_eq!(distance(&left), distance(&right), "/{pattern}/ {mode}");
            let allowed: Vec<u32> = allowed_tokens(&row).collect();
            let token = allowed[random.below(allowed.len())];
            left.accept(token).expect("the mask allows it");
            right.accept(token).expect("the mask allows it");
            if left.has_ended() {
                break;
            }
        }
    }
    assert!(num_rows > 1_500, "only {num_rows} rows were compared");
}

#[test]
fn a_lazily_built_automaton_reads_the_prompt_without_judging_it() {
    let guide = Guide::new(Arc::clone(BYTES.vocabulary()), lazy_config()).expect("the vocabulary can be sliced");
    let compiled =
        guide.compile(&[ir(json!({"forbidden_text": [{"regex": "ba+r", "scope": "document"}]}))]).expect("compiles");
    assert!(compiled.automata[0].table().is_none());
    let allows = |prompt: &[u8], output: &[u8]| {
        let mut matcher = compiled.matcher(prompt).expect("a matcher");
        output.iter().all(|&byte| matcher.accept(u32::from(byte)).is_ok()) && matcher.is_complete().expect("alive")
    };
    assert!(!allows(b"ba", b"ar") && allows(b"ba", b"ax") && allows(b"", b"ar"));
    assert!(allows(b"bar", b"ar") && !allows(b"bar", b"bar") && !allows(b"ba", b"r"));
}

#[test]
fn a_lazily_built_automaton_keeps_to_its_bounds() {
    let pattern = "[ab]*a[ab]{20}";
    let text = |random: &mut Random| if random.below(2) == 0 { b'a' } else { b'b' };
    for config in [
        GuideConfig { max_lazy_bytes: 20_000, ..GuideConfig::default() },
        GuideConfig { lazy_step_fuel: 8, ..GuideConfig::default() },
    ] {
        let guide = Guide::new(Arc::clone(BYTES.vocabulary()), config).expect("the vocabulary can be sliced");
        let error = match guide.compile(&[ir(group(pattern, "full"))]) {
            Err(error) => error,
            Ok(compiled) => {
                let mut matcher = compiled.matcher(b"").expect("a matcher");
                let mut random = Random(5);
                let steps = (0..2_000).map(|_| {
                    filled(&mut matcher)?;
                    matcher.accept(u32::from(text(&mut random)))
                });
                let error = steps.into_iter().find_map(Result::err).expect("a bound is met");
                assert!(compiled.matcher(b"").and_then(|mut other| filled(&mut other)).is_ok(), "others go on");
                error
            }
        };
        assert_eq!(error, GuideError::LimitExceeded { part: "regex_patterns[0]".into() });
    }
    let config = GuideConfig { max_lazy_nfa_bytes: 1 << 10, ..GuideConfig::default() };
    let guide = Guide::new(Arc::clone(BYTES.vocabulary()), config).expect("the vocabulary can be sliced");
    assert!(matches!(refusal(&guide, group(pattern, "full")), GuideError::TooLarge { .. }));
}
