//! Which parts contradict each other: what is left when no more of them can be left out without losing the proof.

use super::outline::Outline;
use super::product::{Factor, Intersection, Length, intersect};
use super::spelling::Spelling;
use crate::constraint::{ConstraintIr, MatchMode, RegexGroup, RegexPattern};
use crate::guide::GuideConfig;
use crate::guide::automaton::AutomatonPart;
use crate::guide::vocabulary::SortedTokens;

/// What one part says, apart from all others.
pub(crate) struct Evidence {
    pub(crate) part: String,
    pub(crate) automata: Vec<AutomatonPart>,
    pub(crate) outline: Option<Box<Outline>>,
    /// Row of the allowed ids.
    pub(crate) list: Option<Vec<u32>>,
}

/// Parts of which every one is needed for the proof that no output satisfies them, found by leaving out one after
/// another; `None` where the product of all of them proves nothing.
///
/// Runs the product at most [`GuideConfig::max_conflict_proofs`] times; parts that are still to be tried then stay.
pub(crate) fn conflict(evidence: &mut [Evidence], tokens: &SortedTokens, config: &GuideConfig) -> Option<Vec<String>> {
    let mut needed = vec![true; evidence.len()];
    if !is_empty(evidence, &needed, tokens, config) {
        return None;
    }
    for idx in 0..evidence.len().min(config.max_conflict_proofs) {
        needed[idx] = false;
        needed[idx] = !is_empty(evidence, &needed, tokens, config);
    }
    Some(evidence.iter().zip(&needed).filter(|(_, needed)| **needed).map(|(part, _)| part.part.clone()).collect())
}

fn is_empty(evidence: &mut [Evidence], needed: &[bool], tokens: &SortedTokens, config: &GuideConfig) -> bool {
    let mut factors = Vec::new();
    for (part, _) in evidence.iter_mut().zip(needed).filter(|(_, needed)| **needed) {
        factors.extend(part.outline.as_deref_mut().map(Factor::Outline));
        factors.extend(part.automata.iter().map(Factor::Automaton));
        factors.extend(part.list.as_deref().map(|row| Factor::Spelling(Spelling::new(tokens, row))));
    }
    intersect(&mut factors, Length::Bytes, config.max_proof_states) == Intersection::Empty
}

/// The IRs without one part, named as in errors; the names of the others stay what they are.
pub(crate) fn without(irs: &[ConstraintIr], part: &str) -> Vec<ConstraintIr> {
    let mut irs = irs.to_vec();
    let named = part.strip_prefix("constraints[").and_then(|rest| rest.split_once("]."));
    let (idx, field) = named.map_or((0, part), |(idx, field)| (idx.parse().unwrap_or(usize::MAX), field));
    let Some(ir) = irs.get_mut(idx) else { return irs };
    match field {
        "token_masks" => ir.token_masks = None,
        "json_schema" => ir.json_schema = None,
        "grammar" => ir.grammar = None,
        "code" => ir.code = None,
        "regions" => ir.regions = None,
        "forbidden_text" => ir.forbidden_text.clear(),
        "limits.max_chars" => ir.limits.max_chars = None,
        _ => {
            let group = field.strip_prefix("regex_patterns[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
            if let Some(group) = group.and_then(|group: usize| ir.regex_patterns.get_mut(group)) {
                let nothing = RegexPattern { pattern: String::new(), flags: String::new() };
                *group = RegexGroup { any_of: vec![nothing], match_mode: MatchMode::Prefix };
            }
        }
    }
    if irs.iter().all(|ir| ir.json_schema.is_none() && ir.regions.is_none()) {
        // It speaks of schemas only.
        irs.iter_mut().for_each(|ir| ir.limits.json_whitespace = None);
    }
    irs
}
