//! Indentation: against what Python says of programs, states against what can be reached, masks against brute force.

use std::collections::HashMap;

use super::*;
use crate::constraint::Granularity;
use crate::guide::layout::Layout;

const GRAMMAR: &str = include_str!("../../braid/grammars/python/base.lark");
/// Written by scripts/language_grammars/make_layout_cases.py.
const PROGRAMS: &str = include_str!("../../../tests/data/grammars/python_layout.jsonl");

fn layout(granularity: Granularity, config: &GuideConfig) -> Layout {
    Layout::python("layout", granularity, config).expect("more than an expression")
}

/// How many bytes get through, and whether the text may end after the last.
fn walk(layout: &Layout, text: &[u8]) -> (usize, bool) {
    let mut state = layout.start;
    for (idx, &byte) in text.iter().enumerate() {
        state = layout.run(state, &[byte]).expect("room for all stacks");
        if state == 0 {
            return (idx, false);
        }
    }
    (text.len(), layout.is_accepting(state))
}

fn accepts(text: &str) -> bool {
    walk(&layout(Granularity::File, &GuideConfig::default()), text.as_bytes()).1
}

#[test]
fn programs_are_judged_as_python_does() {
    let layout = layout(Granularity::File, &GuideConfig::default());
    let mut num_refused = 0;
    for line in PROGRAMS.lines() {
        let case: Value = serde_json::from_str(line).expect("a JSON line");
        let text = case["text"].as_str().expect("a text");
        let (len, accepted) = walk(&layout, text.as_bytes());
        assert_eq!(accepted, case["accept"] == true, "{text:?} up to byte {len}");
        num_refused += usize::from(!accepted);
    }
    assert!(num_refused > 200, "only {num_refused} programs are refused");
}

#[test]
fn grammar_and_layout_together_accept_what_python_does() {
    let source = format!("{GRAMMAR}\nstart: file\n");
    let grammar = start(&BYTES, &[json!({"grammar": {"syntax": "lark", "source": source}})]);
    let layout = layout(Granularity::File, &GuideConfig::default());
    for line in PROGRAMS.lines().step_by(20) {
        let case: Value = serde_json::from_str(line).expect("a JSON line");
        let text = case["text"].as_str().expect("a text").as_bytes();
        let mut matcher = grammar.compiled().matcher(b"").expect("a matcher");
        let lexed = text.iter().all(|&byte| matcher.accept(u32::from(byte)).is_ok());
        let accepted = lexed && matcher.is_complete().expect("alive") && walk(&layout, text).1;
        assert_eq!(accepted, case["accept"] == true, "{case}");
    }
}

#[test]
fn words_at_the_start_of_a_line_are_told_from_names() {
    for text in
        ["elsewhere = 1", "match = 1", "match(x)", "case(x)", "case = 1", "iff", "tryst()", "f'{x}'", "\u{e9} = 1"]
    {
        assert!(accepts(text), "{text}");
    }
    for text in [
        "else: x",
        "if x:",
        "if x:\ny",
        "case x: y",
        "match x:\n  y",
        "match x:\n  case_ = 1",
        "async x",
        "try: x",
        "@d",
    ] {
        assert!(!accepts(text), "{text}");
    }
}

#[test]
fn strings_brackets_and_joined_lines_hide_line_feeds() {
    for text in
        ["f(\n  x,\n)\ny", "'''\n  if x:\n'''\ny", "x = \\\n    y\nz", "if x: # :\n  y", "'\\\n'\ny", "r'''\\'''\n'''"]
    {
        assert!(accepts(text), "{text}");
    }
    for text in ["f(\n  x", "'\n'", "'''\nx''", "x \\", "x \\\n", "x\n  y", "  x", "if x:\n  y\n z"] {
        assert!(!accepts(text), "{text}");
    }
}

#[test]
fn an_indentation_is_of_one_kind() {
    for text in ["if x:\n\ty\nif x:\n  y", "if x:\n\ty\n  \t# c\n\tz", "if x:\n\x0C  y\n  z"] {
        assert!(accepts(text), "{text:?}");
    }
    for text in ["if x:\n\ty\n        z", "if x:\n \ty", "if x:\n\tif y:\n\t  z", "if x:\n  y\n\x0C    z"] {
        assert!(!accepts(text), "{text:?}");
    }
}

#[test]
fn a_function_body_is_indented_throughout() {
    let layout = layout(Granularity::FunctionBody, &GuideConfig::default());
    for (text, accepted) in [
        ("  x\n  y\n", true),
        ("\n  # c\n\tif x:\n\t\ty\n\tz", true),
        ("x", false),
        ("", false),
        ("  x\ny", false),
        ("  x\n y", false),
        ("  if x:\n  y", false),
    ] {
        assert_eq!(walk(&layout, text.as_bytes()).1, accepted, "{text:?}");
    }
    assert!(Layout::python("layout", Granularity::Expression, &GuideConfig::default()).is_none());
}

/// Every state that can be reached within small bounds, and for each the states one byte further.
fn reachable(layout: &Layout) -> HashMap<u32, Vec<u32>> {
    let mut of_class = HashMap::new();
    (0..=255u8).for_each(|byte| _ = of_class.entry(layout.class(byte)).or_insert(byte));
    let mut edges: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut open = vec![layout.start];
    while let Some(state) = open.pop() {
        if edges.contains_key(&state) {
            continue;
        }
        let next = of_class.values().map(|&byte| layout.run(state, &[byte]).expect("room for all stacks"));
        let mut next: Vec<u32> = next.filter(|&next| next != 0).collect();
        next.sort_unstable();
        next.dedup();
        open.extend(&next);
        edges.insert(state, next);
    }
    edges
}

#[test]
fn every_state_can_be_completed_and_knows_at_most_how_far_that_is() {
    let config =
        GuideConfig { max_indent_width: 2, max_indent_depth: 2, max_open_brackets: 1, ..GuideConfig::default() };
    for granularity in [Granularity::File, Granularity::FunctionBody] {
        let layout = layout(granularity, &config);
        let edges = reachable(&layout);
        let mut sources: HashMap<u32, Vec<u32>> = HashMap::new();
        edges.iter().for_each(|(&from, to)| to.iter().for_each(|&to| sources.entry(to).or_default().push(from)));
        let mut distance: HashMap<u32, u32> = HashMap::new();
        let mut ring: Vec<u32> = edges.keys().copied().filter(|&state| layout.is_accepting(state)).collect();
        for len in 0.. {
            ring.retain(|&state| {
                distance.insert(state, len).is_none_or(|known| {
                    distance.insert(state, known);
                    false
                })
            });
            if ring.is_empty() {
                break;
            }
            ring = ring.iter().filter_map(|state| sources.get(state)).flatten().copied().collect();
        }
        assert!(edges.len() > 10_000, "only {} states", edges.len());
        for &state in edges.keys() {
            let real = *distance.get(&state).unwrap_or_else(|| panic!("{state:#x} has no completion"));
            let said = layout.min_bytes_to_end(state).expect("a live state");
            assert!(said <= real && (said == 0) == (real == 0), "{state:#x}: {said} of {real}");
        }
    }
}

/// Every text token by itself, run through the automaton.
fn brute_force(layout: &Layout, state: u32) -> Vec<u32> {
    let vocabulary = NANO.vocabulary();
    let text = (0..vocabulary.num_tokens() as u32).filter(|&token| vocabulary.is_text(token));
    text.filter(|&token| layout.run(state, vocabulary.bytes(token)).expect("room for all stacks") != 0).collect()
}

#[test]
fn masks_equal_brute_force() {
    let config = GuideConfig { max_open_brackets: 66, ..GuideConfig::default() };
    let part = AutomatonPart::layout("layout".into(), layout(Granularity::File, &config), false, 1 << 20);
    let apart = layout(Granularity::File, &config);
    let tokens = NANO_GUIDE.compile(&[ir(json!({}))]).expect("no constraint compiles").tokens.clone();
    let text = tokens::text_row(NANO.vocabulary());
    let mut num_compared = 0;
    for line in PROGRAMS.lines().step_by(30) {
        let case: Value = serde_json::from_str(line).expect("a JSON line");
        let program = case["text"].as_str().expect("a text").as_bytes();
        for at in [program.len() / 3, program.len() / 2, program.len()] {
            let state = part.run(part.start_of_output(), &program[..at]).expect("room for all stacks");
            let own = apart.run(apart.start, &program[..at]).expect("room for all stacks");
            for _ in 0..2 {
                let mut row = text.to_vec();
                part.intersect_mask(state, &tokens, &mut row).expect("room for all stacks");
                let allowed: Vec<u32> = allowed_tokens(&row).collect();
                let expected = if own == 0 { Vec::new() } else { brute_force(&apart, own) };
                assert!(allowed == expected, "{:?}", String::from_utf8_lossy(&program[..at]));
            }
            num_compared += 1;
        }
    }
    assert!(num_compared >= 120, "only {num_compared} masks were compared");
}

#[test]
fn brackets_are_bounded_inside_tokens_too() {
    let words: &[&[u8]] = &[b"(", b"((", b"x", b")", b"\n", b"((((("];
    let guide = guide(words);
    let config = GuideConfig { max_open_brackets: 3, ..GuideConfig::default() };
    let part = AutomatonPart::layout("layout".into(), layout(Granularity::File, &config), false, 1 << 20);
    let tokens = guide.compile(&[ir(json!({}))]).expect("no constraint compiles").tokens.clone();
    let state = part.run(part.start_of_output(), b"((").expect("room");
    let mut row = tokens::text_row(guide.vocabulary()).to_vec();
    part.intersect_mask(state, &tokens, &mut row).expect("room");
    assert_eq!(allowed_tokens(&row).collect::<Vec<_>>(), [0, 2, 3, 4]);
}

#[test]
fn a_sequence_that_needs_too_many_stacks_fails_alone() {
    let config = GuideConfig { max_layout_stacks: 12, ..GuideConfig::default() };
    let layout = layout(Granularity::File, &config);
    let deep: String = (0..9).map(|depth| format!("{}if x:\n", " ".repeat(depth))).collect();
    let error = layout.run(layout.start, deep.as_bytes()).expect_err("a bound is met");
    assert_eq!(error, GuideError::LimitExceeded { part: "layout".into() });
    let state = layout.run(layout.start, b"x = 1\n").expect("others go on");
    assert!(layout.is_accepting(state));
}
