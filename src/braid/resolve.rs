//! What becomes of conflicts: who yields, who is refused, and which suggestions are taken.
//!
//! A hard rule that a person or a server profile states never yields. What was mined yields to it, and among itself by
//! severity, priority, confidence and source order, never by the order of the set.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use petgraph::graph::NodeIndex;
use serde::{Deserialize, Serialize};

use super::graph::{Graph, Member, is_mined_type, is_stated};
use super::{BraidError, CompileOptions, conflicts};
use crate::constraint::{Constraint, Lost, NotApplied, Priority, Rule, Severity, Strength};

/// What becomes of rules in conflict that nobody stated as hard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The weaker ones yield, and are reported.
    #[default]
    Priority,
    /// The set is refused.
    Refuse,
}

/// A suggestion how to settle one conflict, from a person or a model.
///
/// It is taken where it settles a conflict that is there, and loosens nothing that was stated; else it is reported, and
/// the strategy decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The ids of the constraints in conflict, all of them.
    pub between: Vec<String>,
    /// What to do.
    pub action: Action,
    /// Who suggests it.
    pub by: String,
}

/// What a [`Resolution`] does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// This constraint is left out.
    Disable(String),
    /// One rule takes the place of all constraints in the conflict that were not stated as hard.
    Merge {
        /// The rule.
        into: Rule,
    },
    /// One constraint gets another rule.
    Modify {
        /// The constraint.
        id: String,
        /// Its new rule.
        rule: Rule,
    },
}

/// Constraints that cannot all hold, or of which one takes something from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The constraints; without any of them there is no conflict.
    pub between: Vec<Party>,
    /// What contradicts what, for people.
    pub why: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// A constraint in a conflict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Party {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What became of a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Outcome {
    /// One constraint yielded.
    Yielded {
        /// Its id.
        id: String,
        /// What made it the weaker one.
        because: String,
    },
    /// A suggestion was taken.
    Suggested {
        /// Whose.
        by: String,
        /// What was done.
        what: String,
    },
    /// Nothing yields: the set is refused.
    Refused,
    /// All of them hold; something that one allows is taken away by another.
    AllHold,
}

/// What became of a [`Resolution`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ruling {
    /// The suggestion.
    pub resolution: Resolution,
    /// Why it was not taken; `None`: it was.
    pub refused: Option<String>,
}

/// A constraint on its way into the IR: as it stands in the set, or as a suggestion changed it.
#[derive(Clone)]
pub(super) struct Entry<'g> {
    index: NodeIndex,
    id: Cow<'g, str>,
    constraint: Cow<'g, Constraint>,
}

impl Entry<'_> {
    pub(super) fn member(&self) -> Member<'_> {
        Member { index: self.index, id: &self.id, constraint: &self.constraint }
    }

    fn party(&self) -> Party {
        Party { id: self.id.clone().into_owned(), name: self.constraint.name.clone() }
    }
}

/// Who binds more: what was stated, then by severity, priority, confidence and source order. Strongest is least.
pub(super) type Rank<'a> =
    (Reverse<bool>, Reverse<Severity>, Reverse<Priority>, Reverse<u32>, (bool, &'a str, u32, u32), &'a str);

pub(super) fn rank(member: Member<'_>) -> Rank<'_> {
    let Constraint { severity, priority, confidence, origin, .. } = member.constraint;
    let origin = origin.as_ref().map_or((true, "", 0, 0), |origin| (false, &*origin.file, origin.line, origin.column));
    // The bits of what is not negative are in order; what is not a number is no confidence.
    let confidence = confidence.max(0.0).to_bits();
    (
        Reverse(is_stated(member.constraint)),
        Reverse(*severity),
        Reverse(*priority),
        Reverse(confidence),
        origin,
        member.id,
    )
}

/// Why the weaker of two yields.
fn because(weaker: &Entry<'_>, stronger: Option<&Entry<'_>>) -> String {
    let Some(stronger) = stronger else { return "nothing satisfies it".to_owned() };
    let (weak, strong) = (&weaker.constraint, &stronger.constraint);
    let name = &strong.name;
    let word = |value: String| value.to_lowercase();
    if is_stated(strong) {
        format!("`{name}` is stated as hard, which never yields")
    } else if weak.severity != strong.severity {
        let (weak, strong) = (word(format!("{:?}", weak.severity)), word(format!("{:?}", strong.severity)));
        format!("its severity is {weak}, that of `{name}` {strong}")
    } else if weak.priority != strong.priority {
        let (weak, strong) = (word(format!("{:?}", weak.priority)), word(format!("{:?}", strong.priority)));
        format!("its priority is {weak}, that of `{name}` {strong}")
    } else if weak.confidence != strong.confidence {
        format!("its confidence is {:.2}, that of `{name}` {:.2}", weak.confidence, strong.confidence)
    } else if weak.origin != strong.origin {
        format!("`{name}` comes first in the sources")
    } else {
        format!("`{name}` has the lower id, and nothing else tells them apart")
    }
}

/// The constraints of a set while conflicts among them are settled.
pub(super) struct Docket<'g> {
    /// In the order of the graph.
    entries: Vec<Entry<'g>>,
    root: Option<NodeIndex>,
    strategy: Strategy,
    /// Suggestions that were not looked at yet.
    waiting: Vec<Resolution>,
    /// The constraints that are looked at, beside what the output is written in; `None`: all.
    only: Option<BTreeSet<String>>,
    pub(super) lost: BTreeMap<String, Lost>,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) rulings: Vec<Ruling>,
    pub(super) unjudged: Vec<NotApplied>,
}

/// A conflict among entries, by their places; the weakest last.
struct Case {
    between: Vec<usize>,
    why: String,
}

impl<'g> Docket<'g> {
    pub(super) fn new(graph: &'g Graph<'_>, root: Option<Member<'g>>, options: &CompileOptions) -> Self {
        let entry = |member: Member<'g>| Entry {
            index: member.index,
            id: Cow::Borrowed(member.id),
            constraint: Cow::Borrowed(member.constraint),
        };
        Self {
            entries: graph.in_order().map(entry).collect(),
            root: root.map(|root| root.index),
            strategy: options.strategy,
            waiting: options.resolutions.clone(),
            only: None,
            lost: BTreeMap::new(),
            conflicts: Vec::new(),
            rulings: Vec::new(),
            unjudged: Vec::new(),
        }
    }

    /// The constraints that did not lose, in order.
    pub(super) fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.entries
            .iter()
            .map(Entry::member)
            .filter(|member| !self.lost.contains_key(member.id) && self.is_looked_at(*member))
    }

    fn is_looked_at(&self, member: Member<'_>) -> bool {
        let is_language = matches!(member.constraint.rule, Rule::Language { .. });
        is_language || self.only.as_ref().is_none_or(|only| only.contains(member.id))
    }

    /// Has [`Self::members`] pass over all constraints but these, until `None`.
    pub(super) fn look_only_at(&mut self, only: Option<BTreeSet<String>>) {
        self.only = only;
    }

    /// Those of `ids` that bind, the weakest first.
    pub(super) fn weakest_first(&self, ids: &BTreeSet<String>) -> Vec<String> {
        let strongest_first = self.binding().into_iter().map(|place| self.entries[place].id.clone().into_owned());
        let mut weakest_first: Vec<String> = strongest_first.filter(|id| ids.contains(id)).collect();
        weakest_first.reverse();
        weakest_first
    }

    /// The ids of all constraints, in order, and of what suggestions made of them.
    pub(super) fn order(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.id.clone().into_owned()).collect()
    }

    /// The type that the output is a value of, if it did not lose.
    pub(super) fn root(&self) -> Option<Member<'_>> {
        self.members().find(|member| Some(member.index) == self.root && is_mined_type(member.constraint))
    }

    /// Settles every conflict that can be found without the guide.
    ///
    /// # Errors
    /// [`BraidError::Conflicts`] where rules that never yield contradict each other, or the strategy refuses.
    pub(super) fn settle(&mut self) -> Result<(), BraidError> {
        let (cases, notes) = loop {
            let (cases, notes) = self.sweep();
            // A suggestion changes what the others are about, so all is looked at again.
            if !cases.iter().any(|case| self.take_suggestion(case)) {
                break (cases, notes);
            }
        };
        self.conflicts.extend(notes);
        self.decide(cases)
    }

    /// Settles a conflict that the guide has proven among these constraints; `false` where none of them is there.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub(super) fn settle_joint(&mut self, ids: &BTreeSet<String>) -> Result<bool, BraidError> {
        let among = self.binding().into_iter().filter(|&place| ids.contains(&*self.entries[place].id));
        let case =
            Case { between: among.collect(), why: "it is proven that no output satisfies all of them".to_owned() };
        if case.between.is_empty() {
            return Ok(false);
        }
        if !self.take_suggestion(&case) {
            self.decide(vec![case])?;
        }
        Ok(true)
    }

    /// Suggestions that no conflict was found for.
    pub(super) fn close(&mut self) {
        let why = "these constraints are in no conflict, or not all that are in it are named";
        for resolution in std::mem::take(&mut self.waiting) {
            self.rulings.push(Ruling { resolution, refused: Some(why.to_owned()) });
        }
    }

    /// The entries that bind, strongest first.
    fn binding(&self) -> Vec<usize> {
        let binds = |entry: &Entry<'_>| {
            entry.constraint.strength == Strength::Hard
                && !matches!(entry.constraint.rule, Rule::Prose { .. } | Rule::Bias { .. })
                && (!is_mined_type(&entry.constraint) || Some(entry.index) == self.root)
                && !self.lost.contains_key(&*entry.id)
        };
        let mut places: Vec<usize> = (0..self.entries.len()).filter(|&place| binds(&self.entries[place])).collect();
        places.sort_by(|&one, &other| rank(self.entries[one].member()).cmp(&rank(self.entries[other].member())));
        places
    }

    /// Looks for conflicts: cases to be settled, and what is only to be noted.
    fn sweep(&mut self) -> (Vec<Case>, Vec<Conflict>) {
        let places = self.binding();
        let rules: Vec<&Rule> = places.iter().map(|&place| &self.entries[place].constraint.rule).collect();
        let findings = conflicts::find(&rules);
        let notes = findings.notes.into_iter().map(|note| Conflict {
            between: note.between.iter().map(|&number| self.entries[places[number]].party()).collect(),
            why: note.why,
            outcome: Outcome::AllHold,
        });
        let notes = notes.collect();
        let why = "not compared with all others: no exact automaton of it was built within the bounds".to_owned();
        let unjudged = findings.unjudged.iter().map(|&number| &self.entries[places[number]]);
        self.unjudged =
            unjudged.map(|entry| NotApplied { id: entry.id.clone().into_owned(), why: why.clone() }).collect();
        let cases = findings.clashes.into_iter().map(|(number, clash)| {
            let mut between = clash.with;
            between.sort_unstable();
            between.push(number);
            Case { between: between.into_iter().map(|number| places[number]).collect(), why: clash.why }
        });
        (cases.collect(), notes)
    }

    /// Decides cases by the strategy.
    fn decide(&mut self, cases: Vec<Case>) -> Result<(), BraidError> {
        let mut refused = Vec::new();
        for Case { between, why } in cases {
            let parties: Vec<&Entry<'_>> = between.iter().map(|&place| &self.entries[place]).collect();
            let Some((weakest, stronger)) = parties.split_last() else { continue };
            let between: Vec<Party> = parties.iter().map(|entry| entry.party()).collect();
            if self.strategy == Strategy::Refuse || is_stated(&weakest.constraint) {
                refused.push(Conflict { between, why, outcome: Outcome::Refused });
                continue;
            }
            let because = because(weakest, stronger.last().copied());
            let id = weakest.id.clone().into_owned();
            let mut to: Vec<String> = stronger.iter().map(|entry| entry.id.clone().into_owned()).collect();
            to.sort();
            let lost = Lost { id: id.clone(), to, why: format!("{why}; {because}") };
            self.lost.insert(id.clone(), lost);
            self.conflicts.push(Conflict { between, why, outcome: Outcome::Yielded { id, because } });
        }
        if refused.is_empty() { Ok(()) } else { Err(BraidError::Conflicts { conflicts: refused }) }
    }

    /// Takes the first suggestion for a case that settles it; those that do not are reported.
    fn take_suggestion(&mut self, case: &Case) -> bool {
        let ids: BTreeSet<&str> = case.between.iter().map(|&place| &*self.entries[place].id).collect();
        let speaks_of_it =
            |resolution: &Resolution| resolution.between.iter().map(String::as_str).collect::<BTreeSet<_>>() == ids;
        let (about, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(speaks_of_it);
        self.waiting = others;
        let mut about = about.into_iter();
        for resolution in about.by_ref() {
            match self.apply(&resolution, case) {
                Ok(()) => {
                    self.rulings.push(Ruling { resolution, refused: None });
                    // What else was said about this conflict waits, and is reported at the end.
                    self.waiting.extend(about);
                    return true;
                }
                Err(why) => self.rulings.push(Ruling { resolution, refused: Some(why) }),
            }
        }
        false
    }

    /// Applies a suggestion to a case, or says what is wrong with it.
    fn apply(&mut self, resolution: &Resolution, case: &Case) -> Result<(), String> {
        let place_of = |id: &str| {
            let place = case.between.iter().copied().find(|&place| self.entries[place].id == id);
            let place = place.ok_or_else(|| format!("{id} is not in the conflict"))?;
            if is_stated(&self.entries[place].constraint) {
                return Err(format!("{id} is stated as hard, and no suggestion changes that"));
            }
            Ok(place)
        };
        let (replaced, rule) = match &resolution.action {
            Action::Disable(id) => (vec![place_of(id)?], None),
            Action::Modify { id, rule } => (vec![place_of(id)?], Some(rule)),
            Action::Merge { into } => {
                let free = case.between.iter().copied().filter(|&place| !is_stated(&self.entries[place].constraint));
                (free.collect(), Some(into))
            }
        };
        let Some(&strongest) = replaced.first() else {
            return Err("all constraints in the conflict are stated as hard".to_owned());
        };
        let kept: Vec<usize> = case.between.iter().copied().filter(|place| !replaced.contains(place)).collect();
        if let Some(rule) = rule {
            check(rule)?;
            let rules: Vec<&Rule> =
                kept.iter().map(|&place| &self.entries[place].constraint.rule).chain([rule]).collect();
            let findings = conflicts::find(&rules);
            if let Some((_, clash)) = findings.clashes.into_iter().next() {
                return Err(format!("the conflict remains: {}", clash.why));
            }
            if findings.unjudged.contains(&(rules.len() - 1)) {
                return Err("its rule cannot be read, or is too large to be compared with the others".to_owned());
            }
        }
        let what = match &resolution.action {
            Action::Disable(id) => format!("{id} is disabled"),
            Action::Merge { into } => format!("merged into {}", Constraint::id_of(into)),
            Action::Modify { id, rule } => format!("{id} is modified to {}", Constraint::id_of(rule)),
        };
        let between = case.between.iter().map(|&place| self.entries[place].party()).collect();
        let outcome = Outcome::Suggested { by: resolution.by.clone(), what: what.clone() };
        self.conflicts.push(Conflict { between, why: case.why.clone(), outcome });
        let mut to: Vec<String> = kept.iter().map(|&place| self.entries[place].id.clone().into_owned()).collect();
        to.sort();
        let stays = rule.map(Constraint::id_of);
        for &place in &replaced {
            let id = self.entries[place].id.clone().into_owned();
            if Some(&id) == stays.as_ref() {
                continue;
            }
            let why = format!("{}; {what}, as {} suggests", case.why, resolution.by);
            self.lost.insert(id.clone(), Lost { id, to: to.clone(), why });
        }
        if let Some(rule) = rule {
            self.replace(strongest, rule);
        }
        Ok(())
    }

    /// Puts a rule in the place of a constraint; one that the set has already needs no second place.
    fn replace(&mut self, place: usize, rule: &Rule) {
        let id = Constraint::id_of(rule);
        let mut constraint = self.entries[place].constraint.clone().into_owned();
        constraint.id.clone_from(&id);
        constraint.rule = rule.clone();
        let changed =
            Entry { index: self.entries[place].index, id: Cow::Owned(id), constraint: Cow::Owned(constraint) };
        if !self.entries.iter().any(|entry| entry.id == changed.id) {
            // What it was stays on record as lost.
            self.entries.insert(place + 1, changed);
        }
    }
}

/// Whether a rule is well-formed, as far as an IR must be.
fn check(rule: &Rule) -> Result<(), String> {
    match rule {
        Rule::Regex { any_of, .. } if any_of.is_empty() => Err("the rule has no pattern".to_owned()),
        Rule::ForbiddenText { any_of } => {
            any_of.iter().try_for_each(|forbidden| forbidden.pattern().map(|_| ())).map_err(|error| error.to_string())
        }
        Rule::Bias { text, regex, bias } if text.is_some() == regex.is_some() || !bias.is_finite() => {
            Err("a bias has a text or a regex, and a finite weight".to_owned())
        }
        _ => Ok(()),
    }
}

/// The ids of the constraints that parts of an IR come from, by the paths that sources give.
pub(super) fn carried_by(parts: &[String], sources: &[crate::constraint::SourceRef]) -> BTreeSet<String> {
    let lies_in = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    // With several IRs a part is named with its own.
    let own = |part: &str| match part.strip_prefix("constraints[") {
        Some(rest) => rest.split_once("].").map_or(part, |(_, own)| own).to_owned(),
        None => part.to_owned(),
    };
    let parts: Vec<String> = parts.iter().map(|part| own(part)).collect();
    let is_meant = |path: &str| parts.iter().any(|part| lies_in(path, part) || lies_in(part, path));
    let mut known: HashMap<&str, bool> = HashMap::new();
    sources
        .iter()
        .filter(|source| source.strength == Strength::Hard)
        .filter(|source| *known.entry(&source.part).or_insert_with(|| is_meant(&source.part)))
        .map(|source| source.id.clone())
        .collect()
}
