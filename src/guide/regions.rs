//! Regions: free text and structures in turns, as one grammar for llguidance.
//!
//! llguidance takes the longest lexeme and never goes back, so everything here is laid out such that at most one thing
//! can go on at any byte. Free text up to a trigger is one lazy lexeme per trigger: it ends with the first trigger,
//! whatever token that byte is in. No `begin` starts another, so a structure is known once its `begin` is read. And a
//! structure must say where it ends: after a complete structure nothing may be left that could go on inside it. That is
//! proven here for every kind of content, or the structure is refused by name.
//!
//! The content of a structure is a nested grammar with names and white space of its own, checked and compiled by itself
//! first, so that an error speaks of its own place.

use super::automaton::{ByteDfa, DEAD};
use super::ebnf::{self, Converted};
use super::schema::{CheckedSchema, JsonStyle};
use super::structural::{Structural, StructuralFactory};
use super::{GuideConfig, GuideError, lark, mask, regex};
use crate::constraint::{Content, FreeText, Grammar, GrammarSyntax, MatchMode, RegexPattern, Regions, Structure};
use regex_syntax::hir::{Hir, HirKind, Look};
use serde_json::Value;
use std::collections::HashSet;

/// Any text, of any length.
const ANY: &str = "(?s:.*)";

/// Compiles the regions of one IR into one structural part. `text` is the row of all text tokens.
///
/// Costs the compilation of every structure twice: once alone, for its errors, and once in the whole.
///
/// # Errors
/// Every [`GuideError`] of a schema, grammar or pattern, with the structure's place;
/// [`GuideError::UnsupportedPart`] where a structure does not tell where it ends; [`GuideError::TooLarge`].
pub(crate) fn compile(
    part: &str,
    regions: &Regions,
    style: JsonStyle,
    text: &[u32],
    factory: &StructuralFactory,
    config: &GuideConfig,
) -> Result<Structural, GuideError> {
    check(part, regions, config)?;
    let lowering = Lowering { part, regions, style, text, factory, config };
    let source = lowering.lark()?;
    GuideError::check_size(part, "bytes of the regions as a grammar", source.len(), config.max_region_bytes)?;
    factory.compile(part, &source).map_err(|rejection| lark::explain(part, rejection))
}

/// Counts and triggers.
fn check(part: &str, regions: &Regions, config: &GuideConfig) -> Result<(), GuideError> {
    let Regions { triggers, structures, .. } = regions;
    GuideError::check_size(part, "number of structures", structures.len(), config.max_region_structures)?;
    GuideError::check_size(part, "number of triggers", triggers.len(), config.max_region_triggers)?;
    let tags = structures.iter().flat_map(|structure| [&structure.begin, &structure.end]);
    let num_bytes = tags.chain(triggers).map(String::len).sum();
    GuideError::check_size(part, "bytes of triggers, begins and ends", num_bytes, config.max_region_tag_bytes)?;
    regions
        .check_triggers()
        .map_err(|error| GuideError::InvalidIr { part: part.to_owned(), message: error.to_string() })
}

struct Lowering<'a> {
    part: &'a str,
    regions: &'a Regions,
    style: JsonStyle,
    text: &'a [u32],
    factory: &'a StructuralFactory,
    config: &'a GuideConfig,
}

impl Lowering<'_> {
    fn lark(&self) -> Result<String, GuideError> {
        let mut lines = vec!["%llguidance {\"no_forcing\": true}".to_owned(), format!("start: {}", self.start())];
        self.free_text(&mut lines);
        for (idx, structure) in self.regions.structures.iter().enumerate() {
            lines.push(format!("s{idx}: {} b{idx}", literal(&structure.begin)));
            self.body(idx, structure, &mut lines)?;
        }
        for (name, ends) in [("first", true), ("firstlast", false)] {
            let options: Vec<String> = self.structures(ends).map(|(idx, _)| format!("s{idx}")).collect();
            if !options.is_empty() {
                lines.push(format!("{name}: {}", options.join(" | ")));
            }
        }
        lines.push(String::new());
        Ok(lines.join("\n"))
    }

    /// Structures that end before the output does, or not.
    fn structures(&self, ends: bool) -> impl Iterator<Item = (usize, &Structure)> {
        self.regions.structures.iter().enumerate().filter(move |(_, structure)| structure.end.is_empty() != ends)
    }

    /// What an output is. `item` and `last` begin with free text, `first` and `firstlast` with a structure; `last` and
    /// `firstlast` run to the end of the output.
    fn start(&self) -> String {
        let Regions { free_text, at_least_one, stop_after_first, .. } = self.regions;
        let (closed, open) = (self.structures(true).next().is_some(), self.structures(false).next().is_some());
        let mut options: Vec<&str> = Vec::new();
        let mut add = |exists: bool, option| {
            if exists {
                options.push(option);
            }
        };
        match (free_text, stop_after_first) {
            (FreeText::Anywhere, true) => {
                add(!at_least_one, "free");
                add(closed, "item");
                add(open, "last");
            }
            (FreeText::Anywhere, false) => {
                add(!at_least_one, "free");
                add(closed, "item+ free");
                add(open, "last");
                add(open && closed, "item+ last");
            }
            (FreeText::AfterFirst, false) => {
                add(!at_least_one, "\"\"");
                add(closed, "first free");
                add(closed, "first item+ free");
                add(closed && open, "first last");
                add(closed && open, "first item+ last");
                add(open, "firstlast");
            }
            (FreeText::None, false) => {
                add(!at_least_one, "\"\"");
                add(closed, "first+");
                add(open, "firstlast");
                add(closed && open, "first+ firstlast");
            }
            (FreeText::AfterFirst | FreeText::None, true) => {
                add(!at_least_one, "\"\"");
                add(closed, "first");
                add(open, "firstlast");
            }
        }
        options.join(" | ")
    }

    /// Free text to the end of the output, and free text through each trigger with the structures it may begin.
    fn free_text(&self, lines: &mut Vec<String>) {
        let triggers: Vec<String> = self.regions.triggers.iter().map(|trigger| escape(trigger)).collect();
        if triggers.is_empty() {
            return;
        }
        lines.push("free: FREE | \"\"".to_owned());
        lines.push(format!("FREE: /{ANY}/ & ~/{ANY}({}){ANY}/", triggers.join("|")));
        for (idx, trigger) in triggers.iter().enumerate() {
            lines.push(format!("to{idx}[lazy]: /{ANY}{trigger}/"));
        }
        for (name, ends) in [("item", true), ("last", false)] {
            let options: Vec<String> = self.structures(ends).filter_map(|at| self.triggered(at)).collect();
            if !options.is_empty() {
                lines.push(format!("{name}: {}", options.join(" | ")));
            }
        }
    }

    /// Free text through the trigger of a structure, then what is left of the structure.
    fn triggered(&self, (idx, structure): (usize, &Structure)) -> Option<String> {
        let mut triggers = self.regions.triggers.iter().enumerate();
        let (trigger, rest) =
            triggers.find_map(|(trigger, text)| Some((trigger, structure.begin.strip_prefix(text.as_str())?)))?;
        Some(format!("to{trigger} {} b{idx}", literal(rest)))
    }

    /// The rule for what follows a `begin`.
    fn body(&self, idx: usize, structure: &Structure, lines: &mut Vec<String>) -> Result<(), GuideError> {
        let place = format!("{}.structures[{idx}]", self.part);
        let Structure { end, .. } = structure;
        let content = structure.content().ok_or_else(|| GuideError::internal(&place, "the content was not checked"))?;
        let rule = match content {
            Content::Text if end.is_empty() => format!("b{idx}: /{ANY}/ | \"\""),
            Content::Text => format!("b{idx}[lazy]: /{ANY}{}/", escape(end)),
            Content::Regex(pattern) => format!("b{idx}: {}", self.regex(&format!("{place}.regex"), pattern, end)?),
            Content::JsonSchema(schema) => {
                let inner = self.schema(&format!("{place}.json_schema"), schema, end)?;
                lines.push(nested(idx, &inner));
                format!("b{idx}: in{idx} {}", literal(end))
            }
            Content::Grammar(grammar) => {
                let (inner, end) = self.grammar(&format!("{place}.grammar"), grammar, end)?;
                lines.push(nested(idx, &inner));
                format!("b{idx}: in{idx} {end}")
            }
        };
        lines.push(rule);
        Ok(())
    }

    /// A document ends where its last token does, and only a number can go on: with a digit, a point, an exponent.
    fn schema(&self, place: &str, schema: &Value, end: &str) -> Result<String, GuideError> {
        let checked = CheckedSchema::new(place, schema, self.style, self.config)?;
        let alone = self.factory.compile(place, &checked.lark).map_err(|rejection| checked.explain(rejection))?;
        self.admit(place, alone)?;
        if end.starts_with(|c: char| c.is_ascii_digit() || ".eE+-".contains(c)) && may_be_number(schema) {
            return Err(ambiguous(place, "the document may be a number, which goes on with what `end` begins with"));
        }
        Ok(checked.lark)
    }

    /// The content as a nested grammar, and `end` behind it.
    fn grammar(&self, place: &str, grammar: &Grammar, end: &str) -> Result<(String, String), GuideError> {
        let Grammar { syntax, source, start } = grammar;
        let start = start.as_deref();
        GuideError::check_size(place, "bytes of the grammar", source.len(), self.config.max_grammar_bytes)?;
        let converted = match syntax {
            GrammarSyntax::Lark => {
                let inner = lark::check(place, source, start, self.config)?;
                self.lark_end(place, source, end)?;
                self.admit_lark(place, &inner)?;
                return Ok((inner, literal(end)));
            }
            GrammarSyntax::Ebnf => ebnf::ebnf_to_lark(place, source, start, self.config)?,
            GrammarSyntax::Gbnf => ebnf::gbnf_to_lark(place, source, start, self.config)?,
        };
        let Converted { lark, chars } = converted;
        self.admit_lark(place, &lark)?;
        // A sentence lacks some character of `end`, so the first such character tells where the sentence ended.
        let is_written = |c: char| chars.iter().any(|&(from, to)| (from..=to).contains(&c));
        if !end.is_empty() && end.chars().all(is_written) {
            return Err(ambiguous(place, "the grammar can write every character of `end`"));
        }
        // One character to a lexeme, like the grammar's own: none is longer than another.
        let end: Vec<String> = end.chars().map(|c| literal(c.encode_utf8(&mut [0; 4]))).collect();
        Ok((lark, end.join(" ")))
    }

    /// Lark has lexemes of any length, so they must all stop where `end` begins.
    fn lark_end(&self, place: &str, source: &str, end: &str) -> Result<(), GuideError> {
        match end.chars().next() {
            None => Ok(()),
            Some(first) if first.is_ascii() && !lark::may_write(place, source, first, self.config)? => Ok(()),
            Some(_) => {
                let why = "a terminal of the grammar may go on with what `end` begins with; \
                           let `end` begin with an ASCII character that no terminal can write";
                Err(ambiguous(place, why))
            }
        }
    }

    /// Content and `end` together as one lexeme, which is exact if none of its texts begins another.
    fn regex(&self, place: &str, pattern: &RegexPattern, end: &str) -> Result<String, GuideError> {
        let content = without_anchors(regex::parse(place, &pattern.pattern, &pattern.flags, self.config)?);
        if !content.properties().look_set().is_empty() {
            let why = "anchors inside a pattern, and word boundaries, have no exact form in a structure";
            return Err(GuideError::UnsupportedPart { part: place.to_owned(), why: why.to_owned() });
        }
        let is_nullable = end.is_empty() && content.properties().minimum_len() == Some(0);
        let whole = Hir::concat(vec![content, Hir::literal(end.as_bytes())]);
        let Some(lexeme) = regex::lark_pattern(&whole) else {
            let why = "it matches bytes that are not UTF-8, which a structure cannot hold".to_owned();
            return Err(GuideError::UnsupportedPart { part: place.to_owned(), why });
        };
        let rule = format!("/{lexeme}/");
        self.admit_lark(place, &format!("start: {rule}\n"))?;
        if end.is_empty() {
            return Ok(if is_nullable { format!("{rule} | \"\"") } else { rule });
        }
        let dfa = regex::automaton(place, &whole, MatchMode::Full, self.config)?.prune();
        if dfa.is_empty() {
            return Err(GuideError::Unsatisfiable { parts: vec![place.to_owned()] });
        }
        if !is_prefix_free(&dfa) {
            return Err(ambiguous(place, "the pattern can go on behind `end`; keep out of it what `end` begins with"));
        }
        Ok(rule)
    }

    fn admit_lark(&self, place: &str, source: &str) -> Result<(), GuideError> {
        let alone = self.factory.compile(place, source).map_err(|rejection| lark::explain(place, rejection))?;
        self.admit(place, alone)
    }

    /// Content that no text satisfies would be a dead end behind its `begin`.
    fn admit(&self, place: &str, mut alone: Structural) -> Result<(), GuideError> {
        let mut row = self.text.to_vec();
        alone.intersect_mask(&mut row)?;
        if mask::is_empty(&row) && !alone.is_accepting()? {
            return Err(GuideError::Unsatisfiable { parts: vec![place.to_owned()] });
        }
        Ok(())
    }
}

fn ambiguous(place: &str, why: &str) -> GuideError {
    let why = format!("where the structure ends could be read in two ways: {why}");
    GuideError::UnsupportedPart { part: place.to_owned(), why }
}

/// A grammar of its own, with its own names.
fn nested(idx: usize, lark: &str) -> String {
    format!("in{idx}: %lark {{\n{lark}\n}}")
}

/// A terminal that is this text.
fn literal(text: &str) -> String {
    if text.is_empty() { "\"\"".to_owned() } else { format!("/{}/", escape(text)) }
}

/// The text as a pattern, free of anything that a pattern or its quotes could take for a sign.
fn escape(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.into() } else { format!("\\x{{{:X}}}", c as u32) }).collect()
}

/// The pattern without an anchor at either end, where the whole content has to match anyway.
fn without_anchors(hir: Hir) -> Hir {
    let HirKind::Concat(parts) = hir.kind() else { return hir };
    let is_look = |part: Option<&Hir>, look| part.is_some_and(|part| *part.kind() == HirKind::Look(look));
    let from = usize::from(is_look(parts.first(), Look::Start));
    let to = parts.len() - usize::from(is_look(parts.last(), Look::End));
    Hir::concat(parts[from.min(to)..to].to_vec())
}

/// Whether no accepted text begins another: nothing goes on from an end.
fn is_prefix_free(dfa: &ByteDfa) -> bool {
    let mut seen = HashSet::from([dfa.start]);
    let mut stack = vec![dfa.start];
    while let Some(state) = stack.pop() {
        for byte in 0..=255 {
            let to = dfa.step(state, byte);
            if to == DEAD {
                continue;
            }
            if dfa.is_accepting(state) {
                return false;
            }
            if seen.insert(to) {
                stack.push(to);
            }
        }
    }
    true
}

/// Whether a document of the schema may be a number, as far as its root tells.
fn may_be_number(schema: &Value) -> bool {
    let is_number = |value: &Value| matches!(value.as_str(), Some("number" | "integer"));
    let by_type = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(is_number),
        Some(one) => is_number(one),
        None => true,
    };
    let by_value = match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => value.is_number(),
        (None, Some(Value::Array(values))) => values.iter().any(Value::is_number),
        _ => true,
    };
    by_type && by_value
}
