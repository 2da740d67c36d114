//! Regions against a naive recognizer: every prefix over a small alphabet, in every split into tokens, bit by bit.

use std::collections::HashMap;

use super::*;

const ALPHABET: &[u8] = b"abc1";
/// Longest completion that is tried before a prefix counts as dead; every case's shortest ones are shorter.
const COMPLETION_LEN_MAX: usize = 5;
/// Longest prefix whose mask is compared.
const VISITED_LEN_MAX: usize = 4;

/// Tokens that lie across free text, trigger, begin, content and end of the cases below.
const WORDS: &[&[u8]] =
    &[b"a", b"b", b"c", b"1", b"aa", b"ab", b"ba", b"bc", b"cb", b"abc", b"cab", b"b1", b"1c", b"bab", b"c1a", b"ab1c"];

type Judge = fn(&[u8]) -> bool;

struct Tag {
    begin: &'static [u8],
    end: &'static [u8],
    /// Ends at the first `end`.
    is_text: bool,
    judge: Judge,
}

struct Case {
    ir: Value,
    tags: Vec<Tag>,
}

fn tag(begin: &'static str, end: &'static str, judge: Judge) -> Tag {
    Tag { begin: begin.as_bytes(), end: end.as_bytes(), is_text: false, judge }
}

fn text_tag(begin: &'static str, end: &'static str) -> Tag {
    Tag { is_text: true, ..tag(begin, end, |_| true) }
}

/// The recognizer, straight from the words of the IR's documentation.
struct Naive<'a> {
    tags: &'a [Tag],
    triggers: Vec<&'a [u8]>,
    free_text: &'a str,
    at_least_one: bool,
    stop_after_first: bool,
}

impl<'a> Naive<'a> {
    fn of(case: &'a Case) -> Self {
        let regions = &case.ir["regions"];
        let triggers = regions["triggers"].as_array().map_or(&[][..], Vec::as_slice).iter();
        Self {
            tags: &case.tags,
            triggers: triggers.map(|trigger| trigger.as_str().expect("a string").as_bytes()).collect(),
            free_text: regions["free_text"].as_str().unwrap_or("anywhere"),
            at_least_one: regions["at_least_one"] == json!(true),
            stop_after_first: regions["stop_after_first"] == json!(true),
        }
    }

    /// Whether a short completion is accepted, shorter ones first.
    fn is_alive(&self, text: &[u8]) -> bool {
        let mut longer = vec![text.to_vec()];
        for _ in 0..=COMPLETION_LEN_MAX {
            if longer.iter().any(|text| self.accepts(text)) {
                return true;
            }
            let next =
                |text: &Vec<u8>| ALPHABET.iter().map(|&byte| [text.as_slice(), &[byte]].concat()).collect::<Vec<_>>();
            longer = longer.iter().flat_map(next).collect();
        }
        false
    }

    fn accepts(&self, text: &[u8]) -> bool {
        if self.free_text == "anywhere" { self.free(text, false) } else { self.sequence(text, false) }
    }

    fn free(&self, text: &[u8], seen: bool) -> bool {
        for end in 0..=text.len() {
            if let Some(trigger) = self.triggers.iter().find(|trigger| text[..end].ends_with(trigger)) {
                return self.structure(&text[end - trigger.len()..]);
            }
        }
        seen || !self.at_least_one
    }

    fn sequence(&self, text: &[u8], seen: bool) -> bool {
        if text.is_empty() { seen || !self.at_least_one } else { self.structure(text) }
    }

    fn structure(&self, text: &[u8]) -> bool {
        self.tags.iter().any(|tag| text.strip_prefix(tag.begin).is_some_and(|rest| self.content(tag, rest)))
    }

    fn content(&self, tag: &Tag, text: &[u8]) -> bool {
        if tag.end.is_empty() {
            return (tag.judge)(text);
        }
        let mut ends = (0..=text.len()).filter(|&at| text[at..].starts_with(tag.end));
        let ends: Vec<usize> = if tag.is_text { ends.next().into_iter().collect() } else { ends.collect() };
        ends.into_iter().any(|at| (tag.judge)(&text[..at]) && self.behind(&text[at + tag.end.len()..]))
    }

    fn behind(&self, text: &[u8]) -> bool {
        match self.free_text {
            _ if self.stop_after_first => text.is_empty(),
            "none" => self.sequence(text, true),
            _ => self.free(text, true),
        }
    }
}

fn is_integer(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| byte == b'1')
}

fn case(regions: Value, tags: Vec<Tag>) -> Case {
    Case { ir: json!({ "regions": regions }), tags }
}

fn cases() -> Vec<Case> {
    let ebnf = |source: &str| json!({"syntax": "ebnf", "source": source});
    let integer = json!({"type": "integer"});
    let mut cases = vec![
        case(
            json!({"triggers": ["ab"], "structures": [{"begin": "ab", "json_schema": integer, "end": "c"}]}),
            vec![tag("ab", "c", is_integer)],
        ),
        case(
            json!({"triggers": ["ab"], "structures": [
                {"begin": "abc", "json_schema": integer, "end": "c"}, {"begin": "aba", "text": true, "end": "bb"}]}),
            vec![tag("abc", "c", is_integer), text_tag("aba", "bb")],
        ),
        // Triggers that overlap, and one structure that runs to the end.
        case(
            json!({"triggers": ["aab", "ba"], "structures": [
                {"begin": "aab", "regex": {"pattern": "^c+$"}, "end": "a"}, {"begin": "ba1", "text": true}]}),
            vec![
                tag("aab", "a", |text| !text.is_empty() && text.iter().all(|&byte| byte == b'c')),
                text_tag("ba1", ""),
            ],
        ),
        case(
            json!({"triggers": ["a"], "structures": [
                {"begin": "a", "grammar": ebnf("s ::= 'a' s | s 'b' | 'c'"), "end": "b1"}]}),
            vec![tag("a", "b1", |text| {
                let c = text.iter().position(|&byte| byte == b'c');
                c.is_some_and(|c| text[..c].iter().all(|&a| a == b'a') && text[c + 1..].iter().all(|&b| b == b'b'))
            })],
        ),
        case(
            json!({"triggers": ["bb"], "structures": [
                {"begin": "bb", "grammar": {"syntax": "lark", "source": "start: A* \"c\"\nA: /a+/"}, "end": "1b"}]}),
            vec![tag("bb", "1b", |text| text.strip_suffix(b"c").is_some_and(|a| a.iter().all(|&byte| byte == b'a')))],
        ),
        // The content may be empty, and the end may begin the content.
        case(
            json!({"triggers": ["c"], "structures": [{"begin": "c", "regex": {"pattern": "(ab)*"}, "end": "aa"}]}),
            vec![tag("c", "aa", |text| text.chunks(2).all(|pair| pair == b"ab"))],
        ),
        case(
            json!({"triggers": ["c"], "structures": [{"begin": "c", "regex": {"pattern": "(ab)*1?"}}]}),
            vec![tag("c", "", |text| text.strip_suffix(b"1").unwrap_or(text).chunks(2).all(|pair| pair == b"ab"))],
        ),
        case(
            json!({"triggers": ["ca"], "structures": [{"begin": "cab", "grammar": {"syntax": "gbnf", "source":
                "root ::= (\"a\" | \"ab\") \"b\" [ac]*"}}]}),
            vec![tag("cab", "", |text| {
                let rest = text.strip_prefix(b"abb").or_else(|| text.strip_prefix(b"ab"));
                rest.is_some_and(|rest| rest.iter().all(|byte| b"ac".contains(byte)))
            })],
        ),
        // Text whose end overlaps itself.
        case(
            json!({"triggers": ["b"], "structures": [{"begin": "b", "text": true, "end": "aba"}]}),
            vec![text_tag("b", "aba")],
        ),
        case(
            json!({"triggers": ["1"], "structures": [
                {"begin": "1", "json_schema": {"enum": [1, 11, 111]}, "end": "a"}]}),
            vec![tag("1", "a", |text| [&b"1"[..], b"11", b"111"].contains(&text))],
        ),
    ];
    let shapes = [("anywhere", true, false), ("anywhere", false, true), ("anywhere", true, true)];
    let more = [("after_first", false, false), ("after_first", true, false), ("after_first", false, true)];
    let none = [("none", false, false), ("none", true, false), ("none", false, true), ("none", true, true)];
    for (free_text, at_least_one, stop_after_first) in shapes.into_iter().chain(more).chain(none) {
        let mut regions = json!({
            "free_text": free_text, "at_least_one": at_least_one, "stop_after_first": stop_after_first,
            "structures": [{"begin": "ab", "json_schema": integer, "end": "c"}, {"begin": "ba", "regex": {"pattern": "1?"}}],
        });
        if free_text != "none" {
            regions["triggers"] = json!(["ab", "ba"]);
        }
        cases.push(case(
            regions,
            vec![tag("ab", "c", is_integer), tag("ba", "", |text| text.is_empty() || text == b"1")],
        ));
    }
    cases
}

struct Comparison<'a> {
    case: &'a Case,
    naive: Naive<'a>,
    alive: HashMap<Vec<u8>, bool>,
    vocabulary: Arc<Vocabulary>,
    num_rows: usize,
    num_complete: usize,
}

impl Comparison<'_> {
    /// Compares the mask after `prefix` bit by bit, then goes on with every token that it allows.
    fn visit(&mut self, matcher: &mut Matcher, prefix: &[u8]) {
        let end = self.vocabulary.end_tokens()[0];
        let ends = self.naive.accepts(prefix);
        let mut expected = Vec::new();
        for token in 0..WORDS.len() as u32 {
            let longer = [prefix, self.vocabulary.bytes(token)].concat();
            if *self.alive.entry(longer).or_insert_with_key(|longer| self.naive.is_alive(longer)) {
                expected.push(token);
            }
        }
        expected.extend(ends.then_some(end));
        let actual: Vec<u32> = match filled(matcher) {
            Ok(row) => allowed_tokens(&row).collect(),
            Err(GuideError::DeadEnd { .. }) => Vec::new(),
            Err(error) => panic!("{} after {}: {error}", self.case.ir, prefix.escape_ascii()),
        };
        assert_eq!(actual, expected, "{} after {}", self.case.ir, prefix.escape_ascii());
        self.num_rows += 1;
        self.num_complete += usize::from(ends);
        for &token in actual.iter().filter(|&&token| token != end) {
            let longer = [prefix, self.vocabulary.bytes(token)].concat();
            if longer.len() <= VISITED_LEN_MAX {
                matcher.accept(token).expect("the mask allows it");
                self.visit(matcher, &longer);
                matcher.rollback(1).expect("it was accepted");
            }
        }
    }
}

#[test]
fn regions_mask_exactly_what_a_naive_recognizer_lets_live_in_every_split() {
    let guide = guide(WORDS);
    let (mut num_rows, mut num_complete) = (0, 0);
    for case in cases() {
        let (case, naive, alive) = (&case, Naive::of(&case), HashMap::new());
        let vocabulary = Arc::clone(guide.vocabulary());
        let mut comparison = Comparison { case, naive, alive, vocabulary, num_rows: 0, num_complete: 0 };
        comparison.visit(&mut start(&guide, std::slice::from_ref(&case.ir)), b"");
        assert!(comparison.num_complete > 0, "nothing was complete under {}", case.ir);
        num_rows += comparison.num_rows;
        num_complete += comparison.num_complete;
    }
    assert!(num_rows > 2_000 && num_complete > 200, "only {num_rows} rows, {num_complete} of them complete");
}

/// The masks' answer for `text` under these regions, byte by byte.
fn accepts(regions: &Value, text: &str) -> bool {
    walk_bytes(json!({ "regions": regions }), text.as_bytes()).0
}

#[test]
fn a_fenced_block_and_a_tool_call_in_prose_are_bound_and_the_prose_is_free() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
        "additionalProperties": false});
    let fenced = json!({"triggers": ["```json"],
        "structures": [{"begin": "```json\n", "json_schema": schema, "end": "\n```"}]});
    for (text, accepted) in [
        ("", true),
        ("Just talk, ünïcode, ``` and ```js.", true),
        ("Here:\n```json\n{\"a\": 1}\n```\nDone.", true),
        ("```json\n{\"a\": 1}\n```", true),
        ("```json\n{\"a\": 1}\n``````json\n{\"a\": 2}\n```", true),
        ("````json\n{\"a\": 1}\n```", true),
        ("```json\n{\"a\": 1}", false),
        ("```json\n{\"b\": 1}\n```", false),
        ("```json {\"a\": 1}\n```", false),
        ("see ```jsonc", false),
    ] {
        assert_eq!(accepts(&fenced, text), accepted, "{text:?}");
    }
    let call = |name: &str| {
        let begin = format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": ");
        json!({"begin": begin, "json_schema": schema, "end": "}\n</tool_call>"})
    };
    let calls = json!({"triggers": ["<tool_call>"], "structures": [call("f"), call("g")], "at_least_one": true});
    for (text, accepted) in [
        ("", false),
        ("I will not.", false),
        ("So: <tool_call>\n{\"name\": \"g\", \"arguments\": {\"a\": 12}}\n</tool_call> there", true),
        ("<tool_call>\n{\"name\": \"h\", \"arguments\": {\"a\": 12}}\n</tool_call>", false),
    ] {
        assert_eq!(accepts(&calls, text), accepted, "{text:?}");
    }
}

#[test]
fn an_end_inside_a_json_string_ends_nothing() {
    let regions = json!({"triggers": ["<"], "structures": [
        {"begin": "<", "json_schema": {"type": "array", "items": {"type": "string"}}, "end": "]>"}]});
    assert!(accepts(&regions, "a <[\"]>\", \"x]>\"]]> b"));
    assert!(!accepts(&regions, "a <[\"]> b"));
}

#[test]
fn what_does_not_tell_where_it_ends_is_refused_with_its_place() {
    let with = |field: &str, content: Value, end: &str| {
        let mut structure = json!({"begin": "<x>", "end": end});
        structure[field] = content;
        let first = json!({"begin": "<y>", "text": true, "end": "!"});
        json!({"regions": {"triggers": ["<"], "structures": [first, structure]}})
    };
    let lark = |source: &str| json!({"syntax": "lark", "source": source});
    let gbnf = |source: &str| json!({"syntax": "gbnf", "source": source});
    let taken = [
        ("json_schema", json!({"type": "integer"}), "0x"),
        ("json_schema", json!({}), "e"),
        ("regex", json!({"pattern": ".*"}), "</x>"),
        ("regex", json!({"pattern": "a+"}), "a"),
        ("regex", json!({"pattern": r"a(?-u:\b)."}), ";"),
        ("regex", json!({"pattern": r"(?s-u:.)"}), ";"),
        ("grammar", gbnf("root ::= [^b]*"), "ac"),
        ("grammar", lark("start: /a+/"), "a"),
        ("grammar", lark("start: \"ab\"i"), "Bx"),
        ("grammar", lark("start: /[^x]/"), "ü"),
        ("grammar", lark("start: %json {\"type\": \"integer\"}"), ";"),
    ];
    for (field, content, end) in taken {
        let ir = with(field, content, end);
        match refusal(&BYTES, ir.clone()) {
            GuideError::UnsupportedPart { part, .. } => {
                assert_eq!(part, format!("regions.structures[1].{field}"), "{ir}")
            }
            other => panic!("{ir}: {other}"),
        }
    }
    let told = [
        ("json_schema", json!({"type": ["string", "null"]}), "0"),
        ("json_schema", json!({"type": "integer"}), "\n"),
        ("regex", json!({"pattern": "[^<]*"}), "</x>"),
        ("regex", json!({"pattern": ".*"}), "\n"),
        ("regex", json!({"pattern": ".*?"}), ""),
        ("grammar", gbnf("root ::= [^b]*"), "ab"),
        ("grammar", lark("start: /[a-z \\n]+/"), "```"),
    ];
    for (field, content, end) in told {
        let ir = with(field, content, end);
        assert!(BYTES.compile(&[self::ir(ir.clone())]).is_ok(), "{ir}: {:?}", BYTES.compile(&[self::ir(ir.clone())]));
    }
}

#[test]
fn faults_inside_a_structure_speak_of_their_own_place() {
    let with = |content: Value| {
        let mut structure = content;
        structure["begin"] = json!("<");
        json!({"regions": {"free_text": "none", "structures": [structure]}})
    };
    let grammar = |source: &str| with(json!({"grammar": {"syntax": "lark", "source": source}}));
    assert!(matches!(
        refusal(&BYTES, with(json!({"json_schema": {"properties": {"x": {"contains": {"const": 1}}}}}))),
        GuideError::UnsupportedSchema { part, pointer, .. }
            if part == "regions.structures[0].json_schema" && pointer.starts_with("/properties/x/contains")
    ));
    assert!(matches!(
        refusal(&BYTES, grammar("start: \"a\"\n  | missing")),
        GuideError::InvalidGrammar { part, line: 1 | 2, .. } if part == "regions.structures[0].grammar"
    ));
    assert!(matches!(
        refusal(&BYTES, with(json!({"regex": {"pattern": "a("}}))),
        GuideError::InvalidRegex { part, offset: 1, .. } if part == "regions.structures[0].regex"
    ));
    for empty in [
        with(json!({"json_schema": false})),
        grammar("start: start"),
        with(json!({"regex": {"pattern": "[a&&b]"}, "end": "c"})),
    ] {
        assert!(
            matches!(
                refusal(&BYTES, empty.clone()),
                GuideError::Unsatisfiable { parts } if parts[0].starts_with("regions.structures[0].")
            ),
            "{empty}"
        );
    }
    let inside = json!({"regions": {"triggers": ["b", "abc"], "structures": [
        {"begin": "b", "text": true}, {"begin": "abc", "text": true}]}});
    assert!(matches!(refusal(&BYTES, inside), GuideError::InvalidIr { part, .. } if part == "regions"));
}

#[test]
fn every_count_of_regions_is_bounded() {
    let text = |idx: usize| json!({"begin": format!("<{idx}>"), "text": true, "end": ";"});
    let structures: Vec<Value> = (0..200).map(text).collect();
    let triggers: Vec<String> = (0..100).map(|idx| format!("<{idx}>")).collect();
    for ir in [
        json!({"regions": {"free_text": "none", "structures": structures}}),
        json!({"regions": {"triggers": triggers, "structures": structures[..100]}}),
        json!({"regions": {"free_text": "none", "structures": [{"begin": "<".repeat(20_000), "text": true}]}}),
    ] {
        assert!(matches!(refusal(&BYTES, ir), GuideError::TooLarge { part, .. } if part == "regions"));
    }
    assert!(BYTES.compile(&[ir(json!({"regions": {"free_text": "none", "structures": structures[..128]}}))]).is_ok());
}

#[test]
fn regions_and_parts_of_the_whole_output_hold_together() {
    let ir = json!({
        "regions": {"triggers": ["<"], "structures": [{"begin": "<", "json_schema": {"type": "string"}, "end": ">"}]},
        "forbidden_text": [{"text": "no"}],
        "regex_patterns": [{"any_of": [{"pattern": "[a-z<>\" ]*"}], "match": "full"}],
    });
    for (text, accepted) in [
        ("yes <\"so\"> yes", true),
        ("yes <\"no\"> yes", false),
        ("no <\"so\"> yes", false),
        ("yes <\"SO\"> yes", false),
        ("yes <so> yes", false),
    ] {
        assert_eq!(walk_bytes(ir.clone(), text.as_bytes()).0, accepted, "{text:?}");
    }
}
