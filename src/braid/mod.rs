//! Braid: a constraint set to the constraint IR. Pure; the order of the set's constraints does not matter.
//!
//! Four steps: order the constraints along their dependencies, choose the type that is the root, settle what contradicts
//! each other, and lower each rule to a part of the IR. Every constraint ends in exactly one of `sources` (hard or soft),
//! `advisory`, `lost` and `not_applied`. A hard rule that this version cannot enforce is an error, never a silent skip.
//!
//! Mined types (source `type_system`) say what a value of a type looks like, not what the output is: of them only
//! the root binds. Everything else binds by its strength.

mod conflicts;
mod error;
mod explain;
mod graph;
mod language;
mod lower;
mod resolve;
mod root;
mod schema;
pub mod security;
mod soft;
pub mod suggest;

pub use error::BraidError;
pub use explain::{Explained, Explanation, Fate, explain};
pub use graph::cycles;
pub use language::{code, pattern_of};
pub use resolve::{Action, Conflict, Outcome, Party, Resolution, Ruling, Strategy};

use std::collections::BTreeSet;

use crate::constraint::{ConstraintIr, ConstraintSet, NotApplied, Rule, Strength};
use graph::Graph;
use lower::Lowering;
use resolve::Docket;

/// Sets that a judge finds empty are taken apart this often; one constraint yields each time.
const JUDGEMENTS_MAX: usize = 16;

/// Judgements that may go into finding out which constraints one proof takes. Each compiles a part of the set.
const NARROWINGS_MAX: usize = 64;

/// What the caller decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompileOptions {
    /// The mined type that the output is a value of. Needed where several could be meant.
    pub root_type: Option<String>,
    /// What becomes of conflicts among rules that nobody stated as hard.
    pub strategy: Strategy,
    /// Suggestions how to settle conflicts; each is checked, and what became of it is in [`Compiled::rulings`].
    pub resolutions: Vec<Resolution>,
}

/// What a set was compiled to, and what happened on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// The IR, sealed with its digest.
    pub ir: ConstraintIr,
    /// The ids of the constraints, each after those it depends on.
    pub order: Vec<String>,
    /// The names of constraints that depend on each other in a circle; they were taken together.
    pub cycles: Vec<Vec<String>>,
    /// The conflicts that were found, and what became of them.
    pub conflicts: Vec<Conflict>,
    /// What became of each suggestion.
    pub rulings: Vec<Ruling>,
    /// Hard constraints that were not compared with all others, and why.
    pub unjudged: Vec<NotApplied>,
    /// What the judge said of the IR; [`Joint::Unknown`] where none was asked.
    pub joint: Joint,
}

/// Whether any output satisfies all parts of an IR, as far as a judge knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joint {
    /// One does.
    Satisfiable,
    /// None does, which these parts suffice to prove.
    Empty {
        /// Paths into the IR, as `sources` has them.
        parts: Vec<String>,
    },
    /// It is not known.
    Unknown,
}

/// Who says whether any output satisfies an IR as a whole.
pub type JudgeOfIrs<'a> = dyn Fn(&ConstraintIr) -> Joint + 'a;

/// Compiles a set to an IR, sealed with its digest.
///
/// Linear in the set but for sorting, as long as few of its rules meet; how much work goes into finding conflicts is
/// bounded. Two sets with the same constraints in another order give the same IR.
///
/// # Errors
/// [`BraidError`] if the root is not clear, if rules that never yield contradict each other, if a hard rule cannot be
/// lowered, or if two rules cannot share one IR.
pub fn compile(set: &ConstraintSet, options: &CompileOptions) -> Result<Compiled, BraidError> {
    compile_judged(set, options, &|_| Joint::Unknown)
}

/// [`compile`], with a judge of the whole: the guide's verdict finds sets of which only all together are empty.
///
/// Where the judge proves that, the constraints it took are narrowed down to few that are still proven empty, one of
/// them yields, and it is asked again, at most 16 times. It is asked only where two constraints bind or more.
///
/// # Errors
/// As [`compile`].
pub fn compile_judged(
    set: &ConstraintSet,
    options: &CompileOptions,
    judge: &JudgeOfIrs<'_>,
) -> Result<Compiled, BraidError> {
    let graph = Graph::new(set)?;
    let root = root::choose(&graph, options.root_type.as_deref())?;
    let mut docket = Docket::new(&graph, root, options);
    docket.settle()?;
    let mut ir = lower(&graph, &docket, &set.name)?;
    let mut joint = Joint::Unknown;
    for _ in 0..JUDGEMENTS_MAX {
        if !binds_several(&ir) {
            break;
        }
        joint = judge(&ir);
        let Joint::Empty { parts } = &joint else { break };
        let carriers = resolve::carried_by(parts, &ir.sources);
        let needed = narrow(carriers, &mut docket, |docket| {
            lower(&graph, docket, &set.name).is_ok_and(|ir| matches!(judge(&ir), Joint::Empty { .. }))
        });
        if !docket.settle_joint(&needed)? {
            break;
        }
        joint = Joint::Unknown;
        ir = lower(&graph, &docket, &set.name)?;
    }
    docket.close();
    Ok(Compiled {
        ir,
        order: docket.order(),
        cycles: graph.cycles().to_vec(),
        conflicts: docket.conflicts,
        rulings: docket.rulings,
        unjudged: docket.unjudged,
        joint,
    })
}

/// Whether more than one constraint masks.
fn binds_several(ir: &ConstraintIr) -> bool {
    let mut hard = ir.sources.iter().filter(|source| source.strength == Strength::Hard).map(|source| &source.id);
    hard.next().is_some_and(|first| hard.any(|other| other != first))
}

/// Few of the constraints that a proof named, still proven empty by themselves: a part may carry many, and the proof take
/// one of them. The weakest are left out first, by halves, quarters and so on (Zeller's delta debugging).
fn narrow<'g>(
    ids: BTreeSet<String>,
    docket: &mut Docket<'g>,
    is_empty: impl Fn(&Docket<'g>) -> bool,
) -> BTreeSet<String> {
    let proves = |docket: &mut Docket<'g>, only: &BTreeSet<String>| {
        docket.look_only_at(Some(only.clone()));
        let proves = is_empty(docket);
        docket.look_only_at(None);
        proves
    };
    if ids.len() < 2 || !proves(docket, &ids) {
        return ids;
    }
    let mut needed = ids;
    let mut num_left = NARROWINGS_MAX;
    let mut size = needed.len().div_ceil(2);
    loop {
        let weakest_first = docket.weakest_first(&needed);
        for some in weakest_first.chunks(size) {
            let fewer: BTreeSet<String> = needed.iter().filter(|id| !some.contains(*id)).cloned().collect();
            if fewer.is_empty() {
                continue;
            }
            let Some(left) = num_left.checked_sub(1) else { return needed };
            num_left = left;
            if proves(docket, &fewer) {
                needed = fewer;
            }
        }
        if size == 1 {
            return needed;
        }
        size = size.div_ceil(2).min(needed.len());
    }
}

fn lower(graph: &Graph<'_>, docket: &Docket<'_>, set_name: &str) -> Result<ConstraintIr, BraidError> {
    let mut lowering = Lowering::new(graph, docket);
    // What the output is written in comes first: rules about code speak of it.
    let (speaking, others): (Vec<_>, Vec<_>) =
        docket.members().partition(|member| matches!(member.constraint.rule, Rule::Language { .. }));
    for member in speaking.into_iter().chain(others) {
        lowering.lower(member)?;
    }
    lowering.finish(set_name)
}

#[cfg(test)]
mod tests;
