//! Braid: a constraint set to the constraint IR. Pure; the order of the set's constraints does not matter.
//!
//! Three steps: order the constraints along their dependencies, choose the type that is the root, and lower each rule
//! to a part of the IR. Every constraint ends in `sources`, with the part that carries it, or in `not_applied`, with
//! the reason. A hard rule that this version cannot enforce is an error, never a silent skip.
//!
//! Mined types (source `type_system`) say what a value of a type looks like, not what the output is: of them only
//! the root binds. Everything else binds by its strength.

mod error;
mod graph;
mod language;
mod lower;
mod root;
mod schema;
pub mod security;

pub use error::BraidError;
pub use graph::cycles;
pub use language::{code, pattern_of};

use crate::constraint::{ConstraintIr, ConstraintSet, Rule};
use graph::Graph;
use lower::Lowering;

/// What the caller decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// The mined type that the output is a value of. Needed where several could be meant.
    pub root_type: Option<String>,
}

/// Compiles a set to an IR, sealed with its digest.
///
/// Linear in the set but for sorting. Two sets with the same constraints in another order give the same IR.
///
/// # Errors
/// [`BraidError`] if the root is not clear, if a hard rule cannot be lowered, or if two rules cannot share one IR.
pub fn compile(set: &ConstraintSet, options: &CompileOptions) -> Result<ConstraintIr, BraidError> {
    let graph = Graph::new(set)?;
    let root = root::choose(&graph, options.root_type.as_deref())?;
    let mut lowering = Lowering::new(&graph, root);
    // What the output is written in comes first: rules about code speak of it.
    let (speaking, others): (Vec<_>, Vec<_>) =
        graph.in_order().partition(|member| matches!(member.constraint.rule, Rule::Language { .. }));
    for member in speaking.into_iter().chain(others) {
        lowering.lower(member)?;
    }
    lowering.finish(&set.name)
}

#[cfg(test)]
mod tests;
