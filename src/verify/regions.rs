//! Regions, judged by a plain scan of the finished text.
//!
//! Free text ends at its first trigger. A structure may end at any occurrence of its `end`, and every one is tried: the
//! content up to it goes to the engine of its kind, and the text behind it is one more place to go on from. Places are
//! visited in order, each once, with the best that is known of a way there. The text holds if some way through it does.

use std::collections::BTreeMap;

use super::{Judgement, grammar, json, regexes};
use crate::constraint::{Content, FreeText, GrammarSyntax, JsonWhitespace, MatchMode, RegexGroup, Regions, Structure};

/// Bytes of content that are judged, over all ways; some tens of nanoseconds each.
const MAX_CONTENT_BYTES: usize = 64 << 20;
/// Contents that are judged, over all ways; up to 100 us each, for what is compiled and where a thread is started.
const MAX_CONTENTS: usize = 10_000;

/// Whether `text` can be read as free text and structures that hold.
pub(super) fn check(text: &[u8], regions: &Regions, whitespace: JsonWhitespace) -> Judgement {
    let Ok(text) = str::from_utf8(text) else { return Judgement::Fails("not UTF-8".into()) };
    Scan { text, regions, whitespace, num_contents: 0, num_bytes: 0 }.judge()
}

struct Scan<'a> {
    text: &'a str,
    regions: &'a Regions,
    whitespace: JsonWhitespace,
    num_contents: usize,
    num_bytes: usize,
}

impl Scan<'_> {
    fn judge(mut self) -> Judgement {
        let mut best = Judgement::Fails("the output has no reading".into());
        let mut places = BTreeMap::from([(0, Judgement::Holds)]);
        while let Some((byte, way)) = places.pop_first() {
            let begin = match self.next_structure(byte) {
                Next::Begins(begin) => begin,
                Next::Ends(judgement) => {
                    best = better(judgement.and(way), best);
                    continue;
                }
            };
            let regions = self.regions;
            let mut has_begun = false;
            for (idx, structure) in regions.structures.iter().enumerate() {
                let Some(rest) = self.text[begin..].strip_prefix(structure.begin.as_str()) else { continue };
                has_begun = true;
                let from = self.text.len() - rest.len();
                let ends = ends(self.text, from, structure);
                if ends.is_empty() {
                    best = better(Judgement::Fails(format!("structures[{idx}] at byte {begin} does not end")), best);
                }
                for to in ends {
                    let content = self.content(idx, structure, from, to).and(way.clone());
                    if self.is_exhausted() {
                        return Judgement::Unknown("the output has too many readings".into());
                    }
                    let behind = to + structure.end.len();
                    if structure.end.is_empty() || is_failure(&content) {
                        best = better(content, best);
                    } else {
                        let known = places.remove(&behind);
                        places.insert(behind, known.into_iter().fold(content, better));
                    }
                }
            }
            if !has_begun {
                best = better(Judgement::Fails(format!("byte {begin}: no structure begins here")), best);
            }
        }
        best
    }

    /// What comes after `byte`, where free text or a structure begins.
    fn next_structure(&self, byte: usize) -> Next {
        let Regions { free_text, at_least_one, stop_after_first, .. } = self.regions;
        let seen = byte > 0;
        if seen && *stop_after_first {
            return Next::Ends(match byte == self.text.len() {
                true => Judgement::Holds,
                false => Judgement::Fails(format!("byte {byte}: more behind the first structure")),
            });
        }
        let is_free = *free_text == FreeText::Anywhere || (*free_text == FreeText::AfterFirst && seen);
        let begin = if is_free { self.first_trigger(byte) } else { byte };
        if begin < self.text.len() {
            return Next::Begins(begin);
        }
        Next::Ends(if seen || !*at_least_one {
            Judgement::Holds
        } else {
            Judgement::Fails("there is no structure".into())
        })
    }

    /// Where the first trigger begins, or the end of the text. No trigger lies inside another, so the first that begins
    /// is the first that ends.
    fn first_trigger(&self, from: usize) -> usize {
        let found = |trigger: &String| Some(from + self.text[from..].find(trigger.as_str())?);
        self.regions.triggers.iter().filter_map(found).min().unwrap_or(self.text.len())
    }

    fn is_exhausted(&self) -> bool {
        self.num_contents > MAX_CONTENTS || self.num_bytes > MAX_CONTENT_BYTES
    }

    /// What the engine of its kind says of the content of `structures[idx]`.
    fn content(&mut self, idx: usize, structure: &Structure, from: usize, to: usize) -> Judgement {
        self.num_contents += 1;
        self.num_bytes += to - from;
        let text = &self.text.as_bytes()[from..to];
        let judgement = match structure.content() {
            None => Judgement::Unknown("its content is not stated once".into()),
            Some(Content::Text) => Judgement::Holds,
            Some(Content::JsonSchema(schema)) => {
                json::check_whitespace(text, self.whitespace).and(json::check_schema(text, schema))
            }
            Some(Content::Grammar(one)) if one.syntax == GrammarSyntax::Lark => Judgement::Enforced,
            Some(Content::Grammar(one)) => grammar::check(text, one),
            Some(Content::Regex(pattern)) => {
                let group = RegexGroup { any_of: vec![pattern.clone()], match_mode: MatchMode::Full };
                regexes::check_group(text, &group)
            }
        };
        match judgement {
            // Another end may repair it, so it is never final.
            Judgement::Fails(why) | Judgement::Violated(why) => {
                Judgement::Fails(format!("structures[{idx}] at bytes {from}..{to}: {why}"))
            }
            Judgement::Unknown(why) => Judgement::Unknown(format!("structures[{idx}] at bytes {from}..{to}: {why}")),
            other => other,
        }
    }
}

/// What a place goes on to.
enum Next {
    /// A structure must begin at this byte.
    Begins(usize),
    /// Nothing: this is what the rest of the text is.
    Ends(Judgement),
}

/// Where the content of a structure may end: text at the first `end`, and so Lark, which nothing here reads and which is
/// admitted only where it cannot hold what its `end` begins with; other content at any.
fn ends(text: &str, from: usize, structure: &Structure) -> Vec<usize> {
    let end = structure.end.as_bytes();
    if end.is_empty() {
        return vec![text.len()];
    }
    let found = (from..=text.len()).filter(|&at| text.as_bytes()[at..].starts_with(end));
    let is_lark = structure.grammar.as_ref().is_some_and(|grammar| grammar.syntax == GrammarSyntax::Lark);
    if structure.text || is_lark { found.take(1).collect() } else { found.collect() }
}

impl Judgement {
    /// The worse of two.
    fn and(self, other: Self) -> Self {
        if self.rank() <= other.rank() { self } else { other }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Fails(_) | Self::Violated(_) => 0,
            Self::Unknown(_) => 1,
            Self::Enforced => 2,
            Self::Holds => 3,
        }
    }
}

/// The better of two; between equals the new one, which was found further on.
fn better(new: Judgement, old: Judgement) -> Judgement {
    if new.rank() >= old.rank() { new } else { old }
}

fn is_failure(judgement: &Judgement) -> bool {
    judgement.rank() == 0
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judge(regions: Value, text: &str) -> &'static str {
        let regions: Regions = serde_json::from_value(regions).expect("well-formed");
        match check(text.as_bytes(), &regions, JsonWhitespace::default()) {
            Judgement::Holds => "holds",
            Judgement::Fails(_) => "fails",
            Judgement::Unknown(_) => "unknown",
            Judgement::Enforced => "enforced",
            Judgement::Violated(_) => "violated",
        }
    }

    #[test]
    fn free_text_and_structures_take_turns() {
        let call = json!({"triggers": ["<f"], "structures": [
            {"begin": "<f=a>", "json_schema": {"type": "integer"}, "end": "</f>"},
            {"begin": "<f=b>", "regex": {"pattern": "^x*$"}, "end": "</f>"}]});
        for (text, expected) in [
            ("", "holds"),
            ("prose </f>", "holds"),
            ("prose <f=a>12</f><f=b></f> more <f=b>xx</f>", "holds"),
            ("<f=a>x</f>", "fails"),
            ("<f=c>1</f>", "fails"),
            ("<f=a>12", "fails"),
            ("<f=a>12</f> <f", "fails"),
        ] {
            assert_eq!(judge(call.clone(), text), expected, "{text:?}");
        }
        for (field, value, right, wrong) in [
            ("at_least_one", json!(true), "a <f=a>1</f> b", "a"),
            ("stop_after_first", json!(true), "a <f=a>1</f>", "<f=a>1</f> b"),
            ("free_text", json!("after_first"), "<f=a>1</f> b", "a <f=a>1</f>"),
        ] {
            let mut regions = call.clone();
            regions[field] = value;
            assert_eq!((judge(regions.clone(), right), judge(regions, wrong)), ("holds", "fails"), "{field}");
        }
        let none = json!({"free_text": "none", "structures": call["structures"]});
        assert_eq!((judge(none.clone(), "<f=a>1</f><f=b></f>"), judge(none, "<f=a>1</f> ")), ("holds", "fails"));
    }

    #[test]
    fn every_end_is_tried() {
        let string = json!({"triggers": ["<"], "structures": [
            {"begin": "<", "json_schema": {"type": "string"}, "end": ">"}]});
        assert_eq!(judge(string.clone(), r#"a <"b > c"> d"#), "holds");
        assert_eq!(judge(string.clone(), r#"a <"b > c"> d <"e">"#), "holds");
        assert_eq!(judge(string, r#"a <"b > c" > d"#), "holds");
        // The first reading that comes to mind leaves a structure unfinished; the second does not.
        let greedy =
            json!({"triggers": ["<"], "structures": [{"begin": "<", "regex": {"pattern": "[^x]*"}, "end": ">"}]});
        assert_eq!(judge(greedy.clone(), "<a> <b>"), "holds");
        assert_eq!(judge(greedy.clone(), "<a> < b"), "fails");
        assert_eq!(judge(greedy.clone(), "<a< <b>"), "holds");
        assert_eq!(judge(greedy, "<a> x < b> > <x"), "fails");
        let text = json!({"triggers": ["<"], "structures": [{"begin": "<", "text": true, "end": "aa"}], "stop_after_first": true});
        assert_eq!((judge(text.clone(), "<baa"), judge(text, "<baaa")), ("holds", "fails"));
    }

    #[test]
    fn what_no_engine_judges_is_said_and_a_fault_elsewhere_still_counts() {
        let regions = json!({"triggers": ["<"], "structures": [
            {"begin": "<l>", "grammar": {"syntax": "lark", "source": "start: \"a\""}, "end": ";"},
            {"begin": "<g>", "grammar": {"syntax": "gbnf", "source": "root ::= \"a\"+"}, "end": ";"},
            {"begin": "<?>", "regex": {"pattern": "("}, "end": ";"}]});
        for (text, expected) in [
            ("<l>a; <g>aa;", "enforced"),
            ("<l>a; <g>b;", "fails"),
            ("<?>a; <l>a;", "unknown"),
            ("<g>b; <?>a;", "fails"),
            // What nobody can read may reach to any end.
            ("<?>a; <g>b;", "unknown"),
        ] {
            assert_eq!(judge(regions.clone(), text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_text_with_very_many_readings_is_given_up_on() {
        let regions =
            json!({"triggers": ["<"], "structures": [{"begin": "<", "regex": {"pattern": "[^x]*"}, "end": ">"}]});
        let text = "<>".repeat(20_000) + "<x";
        assert_eq!(judge(regions, &text), "unknown");
    }
}
