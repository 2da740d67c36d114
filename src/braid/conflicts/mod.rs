//! Which rules contradict each other, by what they mean.
//!
//! Rules come strongest first, and each is compared with what was admitted before it; one that clashes is not admitted,
//! and so stands in nobody's way. Each family is looked up in an index or against what its members have in common, so
//! that a set costs n log n where few of its rules meet. All that is said here is a proof: what is not known to have an
//! exact form, or takes more work than [`Effort`] allows, is not judged, and the guide's verdict on the whole decides.

mod automaton;
mod refusals;
mod shape;
mod texts;
mod vocabulary;
mod words;

use std::collections::BTreeMap;

use super::language;
use crate::constraint::{MatchMode, RegexPattern, Rule};
use automaton::Effort;
use refusals::Spelled;
use shape::Shape;
use texts::{Texts, TextsBuilder};
use vocabulary::Vocabulary;
use words::Words;

/// Clashes of more than two rules that are looked for, one after another.
const JOINT_ROUNDS_MAX: usize = 8;

/// Rules that a rule cannot hold beside, by number; none: nothing satisfies it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) with: Vec<usize>,
    pub(super) why: String,
}

impl Clash {
    fn pair(other: usize, why: &str) -> Self {
        Self { with: vec![other], why: why.to_owned() }
    }
}

/// Two rules that both hold, though one takes something away that the other has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Note {
    pub(super) between: [usize; 2],
    pub(super) why: String,
}

/// What was found among the rules of a set.
#[derive(Default)]
pub(super) struct Findings {
    /// Rules that were not admitted, with what they clash with.
    pub(super) clashes: Vec<(usize, Clash)>,
    pub(super) notes: Vec<Note>,
    /// Rules that were not compared with all others.
    pub(super) unjudged: Vec<usize>,
}

/// Compares rules; they come strongest first, so that a number is also a rank.
pub(super) fn find(rules: &[&Rule]) -> Findings {
    let mut joint = BTreeMap::new();
    loop {
        let (findings, clash) = pass(rules, &joint);
        match clash {
            Some((weakest, clash)) if joint.len() < JOINT_ROUNDS_MAX => joint.insert(weakest, clash),
            _ => return findings,
        };
    }
}

/// One pass over all rules but those that a clash of several has already cost; and the next such clash.
fn pass(rules: &[&Rule], joint: &BTreeMap<usize, Clash>) -> (Findings, Option<(usize, Clash)>) {
    let mut effort = Effort::of(rules.len());
    let mut findings = Findings::default();
    let mut bench = Bench::read(rules, &mut effort, &mut findings.unjudged);
    for (number, rule) in rules.iter().enumerate() {
        let known = joint.get(&number).cloned();
        match known.or_else(|| bench.clash(number, rule, &mut effort)) {
            Some(clash) => findings.clashes.push((number, clash)),
            None => findings.notes.extend(bench.admit(number, rule, &mut effort)),
        }
        if effort.is_used_up() {
            findings.unjudged.push(number);
        }
    }
    findings.unjudged.sort_unstable();
    findings.unjudged.dedup();
    findings.notes.sort();
    findings.notes.dedup();
    let clash = bench.texts.joint_clash(&mut effort).and_then(|mut with| {
        let weakest = with.pop()?;
        Some((weakest, Clash { with, why: "no text satisfies all of them".to_owned() }))
    });
    (findings, clash)
}

/// The rules that were admitted, by family.
struct Bench {
    texts: Texts,
    words: Words,
    tokens: Vocabulary<u32>,
    shapes: BTreeMap<usize, Shape>,
    /// What all admitted schemas have in common.
    meet: Option<Shape>,
    schemas: Vec<usize>,
    grammar: Option<usize>,
    /// The rule whose outputs are longest at their shortest.
    longest: (u32, usize),
    /// The tightest limit of characters.
    tightest: Option<(u32, usize)>,
    limits_length: bool,
}

impl Bench {
    fn read(rules: &[&Rule], effort: &mut Effort, unjudged: &mut Vec<usize>) -> Self {
        let mut texts = TextsBuilder::default();
        let mut shapes = BTreeMap::new();
        for (number, rule) in rules.iter().enumerate() {
            let is_judged = match rule {
                Rule::Regex { any_of, match_mode } => texts.regex(number, any_of, *match_mode, effort),
                Rule::ForbiddenText { any_of } => texts.forbidden(number, any_of, effort),
                Rule::Signature { signature, .. } => texts.literal(number, signature, effort),
                Rule::JsonSchema { schema } => {
                    let shape = Shape::of(schema);
                    for alternatives in shape.texts() {
                        texts.spelled(
                            number,
                            alternatives.into_iter().map(|text| vec![Spelled::Json(text)]).collect(),
                            true,
                        );
                    }
                    let outline = RegexPattern { pattern: shape.outline(), flags: String::new() };
                    let is_judged = texts.regex(number, &[outline], MatchMode::Full, effort);
                    shapes.insert(number, shape);
                    is_judged
                }
                Rule::Imports { allow: Some(names), .. } | Rule::Names { allow: Some(names), .. } => {
                    texts.spelled(number, names.iter().map(|name| segments(name)).collect(), false);
                    true
                }
                Rule::Calls { require, .. } => {
                    require.iter().for_each(|name| texts.spelled(number, vec![segments(name)], true));
                    true
                }
                _ => true,
            };
            if !is_judged {
                unjudged.push(number);
            }
        }
        Self {
            texts: texts.build(effort),
            words: Words::default(),
            tokens: Vocabulary::default(),
            shapes,
            meet: None,
            schemas: Vec::new(),
            grammar: None,
            longest: (0, 0),
            tightest: None,
            limits_length: rules.iter().any(|rule| matches!(rule, Rule::Length { .. })),
        }
    }

    /// What a rule clashes with among those admitted.
    fn clash(&self, number: usize, rule: &Rule, effort: &mut Effort) -> Option<Clash> {
        let own = match rule {
            Rule::JsonSchema { .. } => self.schema_clash(number, effort),
            Rule::Grammar { .. } => self
                .grammar
                .map(|other| Clash::pair(other, "an IR holds one grammar; send the other as an IR of its own")),
            Rule::Tokens { allow, deny } => {
                self.tokens.clash(number, allow.as_deref(), deny.as_deref().unwrap_or_default(), "token")
            }
            Rule::Length { .. } => {
                let (chars, other) = self.longest;
                chars_max(rule).filter(|max| *max < chars).map(|max| Clash::pair(other, &too_long(chars, max)))
            }
            _ => self.words.clash(number, rule),
        };
        let too_long = || {
            let (max, other) = self.tightest?;
            let chars = self.fewest_chars(number);
            (chars > max).then(|| Clash::pair(other, &too_long(chars, max)))
        };
        own.or_else(|| self.texts.clash(number, effort)).or_else(too_long)
    }

    fn admit(&mut self, number: usize, rule: &Rule, effort: &mut Effort) -> Vec<Note> {
        let mut notes = self.texts.admit(number);
        match rule {
            Rule::JsonSchema { .. } => {
                let shape = &self.shapes[&number];
                // Past the bound what is known stays what it was.
                match &self.meet {
                    Some(meet) if effort.take(meet.units() + shape.units()).is_some() => {
                        self.meet = Some(meet.meet(shape))
                    }
                    Some(_) => {}
                    None => self.meet = Some(shape.clone()),
                }
                self.schemas.push(number);
            }
            Rule::Grammar { .. } => self.grammar = Some(number),
            Rule::Tokens { allow, deny } => {
                let deny = deny.as_deref().unwrap_or_default();
                notes.extend(self.tokens.admit(number, allow.as_deref(), deny, "token"));
            }
            Rule::Length { .. } => {
                let max = chars_max(rule).map(|max| (max, number));
                self.tightest = self.tightest.into_iter().chain(max).min();
            }
            _ => notes.extend(self.words.admit(number, rule)),
        }
        if self.limits_length {
            let chars = self.fewest_chars(number);
            if chars > self.longest.0 {
                self.longest = (chars, number);
            }
        }
        notes
    }

    /// A schema against what the others have in common; where nothing is left, against one, else against as few as prove
    /// it.
    fn schema_clash(&self, number: usize, effort: &mut Effort) -> Option<Clash> {
        let shape = &self.shapes[&number];
        if let Some(why) = shape.why_empty(effort) {
            return Some(Clash { with: Vec::new(), why });
        }
        let meet = self.meet.as_ref()?;
        effort.take(meet.units() + shape.units())?;
        let why = meet.meet(shape).why_empty(effort)?;
        let with_one = self.schemas.iter().find_map(|other| {
            let why = self.shapes[other].meet(shape).why_empty(effort)?;
            Some(Clash { with: vec![*other], why })
        });
        if with_one.is_some() {
            return with_one;
        }
        let mut needed = self.schemas.clone();
        for other in self.schemas.iter().rev() {
            let fewer: Vec<usize> = needed.iter().copied().filter(|needed| needed != other).collect();
            let meet = fewer.iter().fold(shape.clone(), |meet, other| meet.meet(&self.shapes[other]));
            if meet.why_empty(effort).is_some() {
                needed = fewer;
            }
        }
        Some(Clash { with: needed, why })
    }

    fn fewest_chars(&self, number: usize) -> u32 {
        let of_shape = self.shapes.get(&number).map_or(0, Shape::fewest_chars);
        of_shape.max(self.texts.fewest_chars(number))
    }
}

/// The characters a length rule leaves; without tokens there are none.
fn chars_max(rule: &Rule) -> Option<u32> {
    match rule {
        Rule::Length { max_tokens: Some(0), .. } => Some(0),
        Rule::Length { max_chars, .. } => *max_chars,
        _ => None,
    }
}

fn too_long(chars: u32, max: u32) -> String {
    format!("the shortest output has {chars} characters, and {max} are allowed")
}

/// The pieces of a path of names that are written without a break; `node:fs` has two.
fn segments(path: &str) -> Vec<Spelled> {
    let pieces = language::segments(path).flat_map(|segment| segment.split(':')).filter(|piece| !piece.is_empty());
    pieces.map(|piece| Spelled::Word(piece.to_owned())).collect()
}
