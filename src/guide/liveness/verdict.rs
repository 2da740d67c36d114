//! The verdict at admission: satisfiable with a witness, empty with a proof, or unknown because a bound was reached.
//!
//! A text that all parts share is looked for in the product of their automata and outlines. What is found is walked
//! through the real matcher, because an outline may promise more than its part keeps; what cannot be found there is a
//! proof. Where the product is too large or promised too much, the search over the masks decides.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::outline::Outline;
use super::product::{Factor, Intersection, Length, intersect};
use super::search::{Outcome, Search};
use super::spelling::Spelling;
use super::tiling;
use crate::guide::GuideError;
use crate::guide::automaton::AutomatonPart;
use crate::guide::compiled::CompiledConstraint;
use crate::guide::matcher::Matcher;

/// Whether any output satisfies a constraint, as far as its bounds let it be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This output does.
    Satisfiable(Witness),
    /// It is proven that none does.
    Empty {
        /// Parts that contradict each other; without any of them the proof is lost.
        parts: Vec<String>,
    },
    /// Neither was found.
    Unknown {
        /// What stood in the way.
        why: UnknownWhy,
    },
}

/// One complete output that satisfies a constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The output as tokens, the end token not among them.
    pub tokens: Vec<u32>,
    /// The output as text.
    pub bytes: Vec<u8>,
}

/// Why it is not known whether a constraint can be satisfied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownWhy {
    /// No complete output was found within [`GuideConfig::witness_masks`](crate::guide::GuideConfig::witness_masks), and no proof that there is none.
    Bound,
    /// Nothing is left to say after an empty prompt, but text that a prompt begins may change that.
    Prompt,
    /// A part ran out of fuel while a complete output was looked for.
    Fuel,
}

impl fmt::Display for UnknownWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bound => "no complete output was found within the bounds of the search",
            Self::Prompt => "it depends on the prompt",
            Self::Fuel => "a part ran out of fuel during the search",
        })
    }
}

/// Judges a constraint before it is admitted, with a matcher at its start; `outlines` are those of its structural parts.
///
/// Costs 1-10 ms for a schema of usual size, and at most the bounds named in [`GuideConfig`].
pub(crate) fn judge(matcher: &mut Matcher, outlines: &mut [Box<Outline>]) -> Result<Verdict, GuideError> {
    let compiled = &Arc::clone(matcher.compiled());
    let mut factors: Vec<Factor<'_>> = outlines.iter_mut().map(|outline| Factor::Outline(outline)).collect();
    let judging_output = compiled.automata.iter().filter(|automaton| !automaton.is_seeded());
    factors.extend(judging_output.map(Factor::Automaton));
    if !compiled.alphabet().spells(&compiled.text, &compiled.vocabulary) {
        factors.push(Factor::Spelling(Spelling::new(&compiled.tokens, &compiled.allowed)));
    }
    match intersect(&mut factors, Length::Bytes, compiled.config.max_proof_states) {
        // The caller finds out which parts it takes.
        Intersection::Empty => return Ok(Verdict::Empty { parts: Vec::new() }),
        Intersection::Text(bytes) => {
            if let Some(witness) = walk(matcher, bytes)? {
                return Ok(Verdict::Satisfiable(in_fewer_tokens(compiled, matcher, factors, witness)?));
            }
        }
        Intersection::TooLarge => {}
    }
    if !compiled.is_seeded()
        && let Some(tokens) = matcher.completion()?
    {
        let bytes = compiled.vocabulary.decode(&tokens);
        return Ok(Verdict::Satisfiable(Witness { tokens, bytes }));
    }
    let depends_on_prompt = compiled.automata.iter().any(AutomatonPart::is_seeded);
    Ok(match Search::new(matcher, usize::MAX, compiled.config.witness_masks).run() {
        Ok(Outcome::Found(tokens)) => {
            let bytes = compiled.vocabulary.decode(&tokens);
            Verdict::Satisfiable(Witness { tokens, bytes })
        }
        Ok(Outcome::Exhausted) if depends_on_prompt => Verdict::Unknown { why: UnknownWhy::Prompt },
        Ok(Outcome::Exhausted) => Verdict::Empty { parts: Vec::new() },
        Ok(Outcome::GaveUp) => Verdict::Unknown { why: UnknownWhy::Bound },
        Err(_) => Verdict::Unknown { why: UnknownWhy::Fuel },
    })
}

/// The text in the fewest tokens, if the parts really accept it.
pub(crate) fn walk(matcher: &mut Matcher, bytes: Vec<u8>) -> Result<Option<Witness>, GuideError> {
    let compiled = Arc::clone(matcher.compiled());
    let Some(tokens) = tiling::fewest_tokens(&bytes, &compiled.tokens, &compiled.allowed) else { return Ok(None) };
    let num_accepted = tokens.iter().take_while(|&&token| matcher.accept(token).is_ok()).count();
    let holds = num_accepted == tokens.len() && matcher.is_complete()?;
    matcher.rollback(num_accepted)?;
    Ok(if holds { Some(Witness { tokens, bytes }) } else { None })
}

/// A witness of fewer tokens where a longer text has one, as far as [`GuideConfig::max_spelling_states`] let it be
/// found. The text of the fewest bytes is tried no further while it takes few tokens or very many.
fn in_fewer_tokens<'a>(
    compiled: &'a CompiledConstraint,
    matcher: &mut Matcher,
    mut factors: Vec<Factor<'a>>,
    witness: Witness,
) -> Result<Witness, GuideError> {
    const WORTH_TRYING: std::ops::Range<usize> = 9..65;
    if !WORTH_TRYING.contains(&witness.tokens.len()) {
        return Ok(witness);
    }
    factors.retain(|factor| !matches!(factor, Factor::Spelling(_)));
    factors.push(Factor::Spelling(Spelling::new(&compiled.tokens, &compiled.allowed)));
    let length = Length::Tokens { max_len: compiled.tokens.max_len() as u32 };
    match intersect(&mut factors, length, compiled.config.max_spelling_states) {
        Intersection::Text(bytes) => {
            let shorter = walk(matcher, bytes)?.filter(|found| found.tokens.len() < witness.tokens.len());
            Ok(shorter.unwrap_or(witness))
        }
        Intersection::Empty | Intersection::TooLarge => Ok(witness),
    }
}
