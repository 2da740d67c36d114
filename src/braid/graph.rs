//! The constraints of a set as a graph of dependencies, on petgraph.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use petgraph::Direction;
use petgraph::algo::condensation;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, EdgeRef};

use super::BraidError;
use crate::constraint::{Constraint, ConstraintSet, Rule, Source};

/// The constraints, duplicates merged, with an edge from each to what depends on it.
///
/// Nodes are added in an order of the constraints' own, so that nothing here depends on the order of the set.
pub(super) struct Graph<'a> {
    nodes: DiGraph<Node<'a>, ()>,
    order: Vec<NodeIndex>,
}

struct Node<'a> {
    id: String,
    constraint: &'a Constraint,
}

/// A constraint in the graph, with the id its rule has.
#[derive(Clone, Copy)]
pub(super) struct Member<'g> {
    pub(super) index: NodeIndex,
    pub(super) id: &'g str,
    pub(super) constraint: &'g Constraint,
}

impl<'a> Graph<'a> {
    pub(super) fn new(set: &'a ConstraintSet) -> Result<Self, BraidError> {
        let mut nodes = DiGraph::new();
        let mut by_id = HashMap::new();
        for (id, constraint) in distinct(set) {
            let index = nodes.add_node(Node { id: id.clone(), constraint });
            by_id.insert(id, index);
        }
        // An id that a client wrote itself names its constraint as well.
        for constraint in &set.constraints {
            let index = by_id[&Constraint::id_of(&constraint.rule)];
            by_id.entry(constraint.id.clone()).or_insert(index);
        }
        for index in nodes.node_indices() {
            let constraint: &Constraint = nodes[index].constraint;
            for id in &constraint.depends_on {
                let Some(&dependency) = by_id.get(id) else {
                    return Err(BraidError::UnknownDependency { name: constraint.name.clone(), missing: id.clone() });
                };
                nodes.update_edge(dependency, index, ());
            }
        }
        let order = kahn(&nodes);
        Ok(Self { nodes, order })
    }

    /// The constraints, each after those it depends on; those of a cycle stand together.
    pub(super) fn in_order(&self) -> impl Iterator<Item = Member<'_>> {
        self.order.iter().map(|index| self.member(*index))
    }

    fn member(&self, index: NodeIndex) -> Member<'_> {
        let node = &self.nodes[index];
        Member { index, id: &node.id, constraint: node.constraint }
    }

    /// The types that were mined, sorted by name.
    pub(super) fn mined_types(&self) -> Vec<Member<'_>> {
        let mut types: Vec<_> = self.in_order().filter(|member| is_mined_type(member.constraint)).collect();
        types.sort_by(|a, b| (&a.constraint.name, a.id).cmp(&(&b.constraint.name, b.id)));
        types
    }

    /// The mined types that no other mined type depends on; of types that depend on each other, all.
    pub(super) fn root_types(&self) -> Vec<Member<'_>> {
        let mut types = self.mined_types();
        types.retain(|member| {
            let dependents = self.reached(member.index, Direction::Outgoing);
            let dependencies = self.reached(member.index, Direction::Incoming);
            dependents
                .into_iter()
                .all(|other| !is_mined_type(self.nodes[other].constraint) || dependencies.contains(&other))
        });
        types
    }

    /// What a constraint depends on, directly or not, and itself.
    pub(super) fn dependencies(&self, index: NodeIndex) -> BTreeSet<NodeIndex> {
        self.reached(index, Direction::Incoming)
    }

    fn reached(&self, start: NodeIndex, direction: Direction) -> BTreeSet<NodeIndex> {
        let mut reached = BTreeSet::new();
        match direction {
            Direction::Outgoing => {
                let mut walk = Dfs::new(&self.nodes, start);
                while let Some(index) = walk.next(&self.nodes) {
                    reached.insert(index);
                }
            }
            Direction::Incoming => {
                let reversed = petgraph::visit::Reversed(&self.nodes);
                let mut walk = Dfs::new(reversed, start);
                while let Some(index) = walk.next(reversed) {
                    reached.insert(index);
                }
            }
        }
        reached
    }
}

/// Whether a constraint says what the values of a type of the source look like.
pub(super) fn is_mined_type(constraint: &Constraint) -> bool {
    constraint.source == Source::TypeSystem && matches!(constraint.rule, Rule::JsonSchema { .. })
}

/// The names of constraints that depend on each other in a circle, each circle and all of them sorted.
///
/// Recursive types are such circles, and legal; this is for reports.
///
/// # Errors
/// [`BraidError::UnknownDependency`] if the set is not closed.
pub fn cycles(set: &ConstraintSet) -> Result<Vec<Vec<String>>, BraidError> {
    let graph = Graph::new(set)?;
    let mut cycles: Vec<Vec<String>> = petgraph::algo::tarjan_scc(&graph.nodes)
        .into_iter()
        .filter(|members| members.len() > 1 || graph.nodes.contains_edge(members[0], members[0]))
        .map(|members| {
            let mut names: Vec<String> =
                members.iter().map(|index| graph.nodes[*index].constraint.name.clone()).collect();
            names.sort();
            names
        })
        .collect();
    cycles.sort();
    Ok(cycles)
}

/// Each rule once, under its id, in an order that is the constraints' own: the most binding of equal rules stands.
fn distinct(set: &ConstraintSet) -> Vec<(String, &Constraint)> {
    let mut all: Vec<(String, &Constraint)> =
        set.constraints.iter().map(|constraint| (Constraint::id_of(&constraint.rule), constraint)).collect();
    all.sort_by_cached_key(|(id, constraint)| {
        let rank = (Reverse(constraint.strength), is_mined_type(constraint), Reverse(constraint.priority));
        let text = serde_json::to_string(constraint).unwrap_or_default();
        (Reverse(constraint.priority), constraint.name.clone(), id.clone(), rank, text)
    });
    let mut best: HashMap<String, usize> = HashMap::new();
    for (position, (id, constraint)) in all.iter().enumerate() {
        let standing = best.entry(id.clone()).or_insert(position);
        let rank = |constraint: &Constraint| (constraint.strength, !is_mined_type(constraint));
        if rank(constraint) > rank(all[*standing].1) {
            *standing = position;
        }
    }
    let mut position = 0;
    all.retain(|(id, _)| {
        position += 1;
        best[id] == position - 1
    });
    all
}

/// Kahn's algorithm (1962) over the strongly connected components; ties go to the lowest node.
fn kahn(nodes: &DiGraph<Node<'_>, ()>) -> Vec<NodeIndex> {
    let indices = nodes.map(|index, _| index, |_, ()| ());
    let components = condensation(indices, true);
    let first = |component: NodeIndex| components[component].iter().min().copied().unwrap_or_default();
    let mut num_waiting: HashMap<NodeIndex, usize> = components
        .node_indices()
        .map(|component| (component, components.edges_directed(component, Direction::Incoming).count()))
        .collect();
    let mut ready: BTreeSet<(NodeIndex, NodeIndex)> = num_waiting
        .iter()
        .filter(|(_, waiting)| **waiting == 0)
        .map(|(component, _)| (first(*component), *component))
        .collect();
    let mut order = Vec::with_capacity(nodes.node_count());
    while let Some((_, component)) = ready.pop_first() {
        let mut members = components[component].clone();
        members.sort_unstable();
        order.extend(members);
        for edge in components.edges(component) {
            let waiting = num_waiting.entry(edge.target()).or_default();
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                ready.insert((first(edge.target()), edge.target()));
            }
        }
    }
    order
}
