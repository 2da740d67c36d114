//! The constraints of a set as a graph of dependencies, on petgraph.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use petgraph::Direction;
use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, EdgeRef, Reversed};

use super::BraidError;
use crate::constraint::{Constraint, ConstraintSet, Kind, Language, Rule, Source, Strength};

/// The constraints, duplicates merged, with an edge from each to what depends on it.
///
/// Nodes are added in an order of the constraints' own, so that nothing here depends on the order of the set.
pub(super) struct Graph<'a> {
    /// With the dependencies that were stated.
    nodes: DiGraph<Node<'a>, ()>,
    order: Vec<NodeIndex>,
    cycles: Vec<Vec<String>>,
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
        let mut aliases: HashMap<&str, NodeIndex> = HashMap::new();
        for Merged { id, constraint, known_as } in distinct(set) {
            let index = nodes.add_node(Node { id: id.clone(), constraint });
            by_id.insert(id, index);
            // An id that a client wrote itself names its constraint as well; of several, the first.
            known_as.into_iter().for_each(|alias| {
                aliases.entry(alias).or_insert(index);
            });
        }
        for index in nodes.node_indices() {
            let constraint: &Constraint = nodes[index].constraint;
            for id in constraint.depends_on.iter().collect::<BTreeSet<_>>() {
                let Some(&dependency) = by_id.get(id).or_else(|| aliases.get(id.as_str())) else {
                    return Err(BraidError::UnknownDependency { name: constraint.name.clone(), missing: id.clone() });
                };
                nodes.add_edge(dependency, index, ());
            }
        }
        let (order, cycles) = order(&nodes);
        Ok(Self { nodes, order, cycles })
    }

    /// The constraints, each after those it depends on; those of a cycle stand together.
    pub(super) fn in_order(&self) -> impl Iterator<Item = Member<'_>> {
        self.order.iter().map(|index| self.member(*index))
    }

    /// The names of constraints that depend on each other in a circle, each circle and all of them sorted.
    pub(super) fn cycles(&self) -> &[Vec<String>] {
        &self.cycles
    }

    /// Whether a hard rule says that the output is code.
    pub(super) fn says_language(&self) -> bool {
        self.in_order().any(|member| {
            member.constraint.strength == Strength::Hard && matches!(member.constraint.rule, Rule::Language { .. })
        })
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
        let components = components(&self.nodes);
        let has_type = |component: NodeIndex| {
            components[component].iter().any(|&member| is_mined_type(self.nodes[member].constraint))
        };
        // Whether a type depends on something in the component; what depends on it comes first.
        let mut is_used: HashMap<NodeIndex, bool> = HashMap::new();
        let order = toposort(&components, None).unwrap_or_default();
        for &component in order.iter().rev() {
            let mut dependents = components.neighbors(component);
            is_used.insert(component, dependents.any(|dependent| is_used[&dependent] || has_type(dependent)));
        }
        let unused = components.node_indices().filter(|component| !is_used.get(component).copied().unwrap_or_default());
        let roots: HashSet<NodeIndex> = unused.flat_map(|component| components[component].clone()).collect();
        let mut types = self.mined_types();
        types.retain(|member| roots.contains(&member.index));
        types
    }

    /// What a constraint depends on, directly or not, and itself.
    pub(super) fn dependencies(&self, index: NodeIndex) -> BTreeSet<NodeIndex> {
        let mut reached = BTreeSet::new();
        let reversed = Reversed(&self.nodes);
        let mut walk = Dfs::new(reversed, index);
        while let Some(index) = walk.next(reversed) {
            reached.insert(index);
        }
        reached
    }
}

/// Whether a constraint says what the values of a type of the source look like.
pub(super) fn is_mined_type(constraint: &Constraint) -> bool {
    constraint.source == Source::TypeSystem && matches!(constraint.rule, Rule::JsonSchema { .. })
}

/// Whether a person or a server profile states that the rule holds: it never yields.
pub(super) fn is_stated(constraint: &Constraint) -> bool {
    constraint.source == Source::UserDefined && constraint.strength == Strength::Hard
}

/// The names of constraints that depend on each other in a circle, each circle and all of them sorted.
///
/// Recursive types are such circles, and legal; this is for reports.
///
/// # Errors
/// [`BraidError::UnknownDependency`] if the set is not closed.
pub fn cycles(set: &ConstraintSet) -> Result<Vec<Vec<String>>, BraidError> {
    Ok(Graph::new(set)?.cycles)
}

/// A rule, with the constraint that speaks for all that have it.
struct Merged<'a> {
    id: String,
    constraint: &'a Constraint,
    /// Ids that clients gave it.
    known_as: BTreeSet<&'a str>,
}

/// Each rule once, under its id, in an order that is the constraints' own: the most binding of equal rules stands.
fn distinct(set: &ConstraintSet) -> Vec<Merged<'_>> {
    let mut all: Vec<(String, &Constraint)> =
        set.constraints.iter().map(|constraint| (Constraint::id_of(&constraint.rule), constraint)).collect();
    let text = |constraint: &Constraint| serde_json::to_string(constraint).unwrap_or_default();
    let binds = |constraint: &Constraint| {
        (constraint.strength, is_stated(constraint), !is_mined_type(constraint), constraint.priority)
    };
    all.sort_by(|(id, one), (other_id, other)| {
        let by_rank = || binds(other).cmp(&binds(one)).then_with(|| one.name.cmp(&other.name));
        id.cmp(other_id).then_with(by_rank).then_with(|| text(one).cmp(&text(other)))
    });
    let mut merged: Vec<Merged<'_>> = Vec::with_capacity(all.len());
    for (id, constraint) in all {
        if merged.last().is_none_or(|last| last.id != id) {
            merged.push(Merged { id, constraint, known_as: BTreeSet::new() });
        }
        if let Some(last) = merged.last_mut().filter(|last| last.id != constraint.id && !constraint.id.is_empty()) {
            last.known_as.insert(&constraint.id);
        }
    }
    merged.sort_by(|one, other| {
        let key = |merged: &Merged<'_>| (Reverse(merged.constraint.priority), merged.constraint.name.clone());
        key(one).cmp(&key(other)).then_with(|| one.id.cmp(&other.id))
    });
    merged
}

/// What constraints presuppose without saying so. A hub stands between all that provide it and all that need it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hub {
    /// How the output is written, before what its values are.
    Syntax,
    /// What is declared, before how it is called.
    Declarations,
    /// The rule that says which language it is, before rules about that language, or about any.
    Language(Option<Language>),
}

fn provides(constraint: &Constraint) -> Vec<Hub> {
    match &constraint.rule {
        Rule::Language { language, .. } => vec![Hub::Syntax, Hub::Language(None), Hub::Language(Some(*language))],
        Rule::Grammar { .. } => vec![Hub::Syntax],
        Rule::Signature { .. } | Rule::JsonSchema { .. } => vec![Hub::Declarations],
        Rule::Imports { .. }
        | Rule::Names { .. }
        | Rule::Calls { .. }
        | Rule::Literals { .. }
        | Rule::Secrets { .. } => Vec::new(),
        _ if constraint.kind == Kind::Syntactic => vec![Hub::Syntax],
        _ => Vec::new(),
    }
}

fn needs(constraint: &Constraint) -> Vec<Hub> {
    match &constraint.rule {
        Rule::JsonSchema { .. } => vec![Hub::Syntax],
        Rule::Names { language, .. } => vec![Hub::Language(*language), Hub::Declarations],
        Rule::Imports { language, .. }
        | Rule::Signature { language, .. }
        | Rule::Calls { language, .. }
        | Rule::Literals { language, .. }
        | Rule::Secrets { language, .. } => {
            vec![Hub::Language(*language)]
        }
        _ => Vec::new(),
    }
}

/// The order along stated and implied dependencies, and the circles among them.
///
/// Within a circle only what was stated counts; what is a circle still stands together, in the nodes' own order.
fn order(nodes: &DiGraph<Node<'_>, ()>) -> (Vec<NodeIndex>, Vec<Vec<String>>) {
    // Nodes keep their indices; hubs come after them. The edges say whether they were stated.
    let mut all: DiGraph<(), bool> = nodes.map(|_, _| (), |_, ()| true);
    let mut hubs: BTreeMap<Hub, NodeIndex> = BTreeMap::new();
    for index in nodes.node_indices() {
        for hub in provides(nodes[index].constraint) {
            let hub = *hubs.entry(hub).or_insert_with(|| all.add_node(()));
            all.add_edge(index, hub, false);
        }
        for hub in needs(nodes[index].constraint) {
            let hub = *hubs.entry(hub).or_insert_with(|| all.add_node(()));
            all.add_edge(hub, index, false);
        }
    }
    let is_hub = |index: NodeIndex| index.index() >= nodes.node_count();
    let mut circle_of: HashMap<NodeIndex, usize> = HashMap::new();
    let mut cycles = Vec::new();
    for members in kosaraju_scc(&all) {
        if members.len() == 1 && !all.contains_edge(members[0], members[0]) {
            continue;
        }
        members.iter().for_each(|&member| {
            circle_of.insert(member, cycles.len());
        });
        let names =
            members.iter().filter(|&&member| !is_hub(member)).map(|&member| nodes[member].constraint.name.clone());
        let mut names: Vec<String> = names.collect();
        names.sort();
        cycles.push(names);
    }
    all.retain_edges(|all, edge| {
        let (from, to) = all.edge_endpoints(edge).unwrap_or_default();
        all[edge] || circle_of.get(&from).is_none_or(|circle| circle_of.get(&to) != Some(circle))
    });
    cycles.sort();
    let mut order = kahn(&all, is_hub);
    order.retain(|&index| !is_hub(index));
    (order, cycles)
}

/// The strongly connected components, with the edges between them; an edge for each that the nodes have.
fn components<N, E>(nodes: &DiGraph<N, E>) -> DiGraph<Vec<NodeIndex>, ()> {
    let mut components = DiGraph::new();
    let mut component_of = vec![NodeIndex::end(); nodes.node_count()];
    for members in kosaraju_scc(nodes) {
        let component = components.add_node(Vec::new());
        members.iter().for_each(|member| component_of[member.index()] = component);
        components[component] = members;
    }
    for edge in nodes.edge_references() {
        let (from, to) = (component_of[edge.source().index()], component_of[edge.target().index()]);
        if from != to {
            components.add_edge(from, to, ());
        }
    }
    components
}

/// Kahn's algorithm (1962) over the strongly connected components; hubs as soon as they can, then the lowest node.
fn kahn(nodes: &DiGraph<(), bool>, is_hub: impl Fn(NodeIndex) -> bool) -> Vec<NodeIndex> {
    let components = components(nodes);
    let first = |component: NodeIndex| {
        let first = components[component].iter().min().copied().unwrap_or_default();
        (!is_hub(first), first, component)
    };
    let mut num_waiting: Vec<usize> = components
        .node_indices()
        .map(|component| components.neighbors_directed(component, Direction::Incoming).count())
        .collect();
    let mut ready: BTreeSet<_> =
        components.node_indices().filter(|component| num_waiting[component.index()] == 0).map(first).collect();
    let mut order = Vec::with_capacity(nodes.node_count());
    while let Some((_, _, component)) = ready.pop_first() {
        let mut members = components[component].clone();
        members.sort_unstable();
        order.extend(members);
        for edge in components.edges(component) {
            let waiting = &mut num_waiting[edge.target().index()];
            *waiting -= 1;
            if *waiting == 0 {
                ready.insert(first(edge.target()));
            }
        }
    }
    order
}
