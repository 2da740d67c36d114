//! Which mined type the output is a value of.

use super::BraidError;
use super::graph::{Graph, Member};
use crate::constraint::Strength;

/// The type called `wanted`, or the one type that no other is made of; `None` when no types were mined.
pub(super) fn choose<'g>(graph: &'g Graph<'_>, wanted: Option<&str>) -> Result<Option<Member<'g>>, BraidError> {
    let root = match wanted {
        Some(name) => Some(named(graph, name)?),
        // The output is code, and no value of a type, unless one was asked for.
        None if graph.says_language() => None,
        None => only(graph.root_types())?,
    };
    match root {
        Some(root) if root.constraint.strength != Strength::Hard => {
            Err(BraidError::AdvisoryRoot { name: root.constraint.name.clone() })
        }
        root => Ok(root),
    }
}

fn named<'g>(graph: &'g Graph<'_>, name: &str) -> Result<Member<'g>, BraidError> {
    let types = graph.mined_types();
    let found: Vec<_> = types.iter().filter(|member| member.constraint.name == name).collect();
    match found[..] {
        [one] => Ok(*one),
        [] => Err(BraidError::UnknownRoot { name: name.to_owned(), names: names(&types) }),
        _ => Err(BraidError::SameName { name: name.to_owned(), count: found.len() }),
    }
}

fn only(roots: Vec<Member<'_>>) -> Result<Option<Member<'_>>, BraidError> {
    match roots[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(BraidError::SeveralRoots { names: names(&roots) }),
    }
}

fn names(members: &[Member<'_>]) -> Vec<String> {
    let mut names: Vec<String> = members.iter().map(|member| member.constraint.name.clone()).collect();
    names.dedup();
    names
}
