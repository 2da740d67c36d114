//! What became of each constraint of a set, for people.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;

use super::{Compiled, Conflict, Outcome, Ruling};
use crate::constraint::{Constraint, ConstraintSet, NotApplied, Source, Strength};

/// What became of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Each constraint, in the order in which they were lowered.
    pub constraints: Vec<Explained>,
    /// The names of constraints that depend on each other in a circle.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cycles: Vec<Vec<String>>,
    /// The conflicts that were found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Conflict>,
    /// What became of each suggestion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rulings: Vec<Ruling>,
    /// Constraints that were not compared with all others, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unjudged: Vec<NotApplied>,
}

/// What became of one constraint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The type of its rule.
    pub rule: String,
    /// How it was found; `None` for a rule that a suggestion brought in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// What it became.
    pub fate: Fate,
}

/// What a constraint became: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "became", rename_all = "snake_case")]
pub enum Fate {
    /// It masks, by these parts of the IR.
    Enforced {
        /// Paths into the IR.
        parts: Vec<String>,
    },
    /// It biases, by these parts of the IR.
    Soft {
        /// Paths into the IR.
        parts: Vec<String>,
    },
    /// It only informs.
    Advisory {
        /// Why.
        why: String,
    },
    /// It lost a conflict.
    Lost {
        /// The ids of those it yielded to.
        to: Vec<String>,
        /// Why.
        why: String,
    },
    /// No part carries it.
    NotApplied {
        /// Why.
        why: String,
    },
}

/// Says what became of each constraint of a set that was compiled.
///
/// Linear but for sorting.
#[must_use]
pub fn explain(set: &ConstraintSet, compiled: &Compiled) -> Explanation {
    let mut known: HashMap<String, &Constraint> = HashMap::new();
    for constraint in &set.constraints {
        let standing = known.entry(Constraint::id_of(&constraint.rule)).or_insert(constraint);
        // Of constraints with one rule the names may differ: the same one whatever their order.
        if (&constraint.name, constraint.source) < (&standing.name, standing.source) {
            *standing = constraint;
        }
    }
    let mut fates = fates(compiled);
    let explained = |id: &String| {
        let constraint = known.get(id);
        let carried = compiled.ir.sources.iter().find(|source| source.id == *id).filter(|_| constraint.is_none());
        Some(Explained {
            id: id.clone(),
            name: constraint.map(|constraint| constraint.name.clone()).or(carried.map(|source| source.name.clone()))?,
            rule: constraint.map_or("suggested", |constraint| constraint.rule.type_name()).to_owned(),
            source: constraint.map(|constraint| constraint.source),
            fate: fates.remove(id)?,
        })
    };
    Explanation {
        constraints: compiled.order.iter().filter_map(explained).collect(),
        cycles: compiled.cycles.clone(),
        conflicts: compiled.conflicts.clone(),
        rulings: compiled.rulings.clone(),
        unjudged: compiled.unjudged.clone(),
    }
}

fn fates(compiled: &Compiled) -> BTreeMap<String, Fate> {
    let mut parts: BTreeMap<&str, (Strength, Vec<String>)> = BTreeMap::new();
    for source in &compiled.ir.sources {
        parts.entry(&source.id).or_insert((source.strength, Vec::new())).1.push(source.part.clone());
    }
    let carried = parts.into_iter().map(|(id, (strength, parts))| {
        (id, if strength == Strength::Hard { Fate::Enforced { parts } } else { Fate::Soft { parts } })
    });
    let ir = &compiled.ir;
    let advisory = ir.advisory.iter().map(|one| (&*one.id, Fate::Advisory { why: one.why.clone() }));
    let lost = ir.lost.iter().map(|one| (&*one.id, Fate::Lost { to: one.to.clone(), why: one.why.clone() }));
    let not_applied = ir.not_applied.iter().map(|one| (&*one.id, Fate::NotApplied { why: one.why.clone() }));
    carried.chain(advisory).chain(lost).chain(not_applied).map(|(id, fate)| (id.to_owned(), fate)).collect()
}

impl Fate {
    /// In one word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Enforced { .. } => "enforced",
            Self::Soft { .. } => "soft",
            Self::Advisory { .. } => "advisory",
            Self::Lost { .. } => "lost",
            Self::NotApplied { .. } => "not applied",
        }
    }

    /// The parts it became, or why it became none.
    #[must_use]
    pub fn details(&self) -> String {
        match self {
            Self::Enforced { parts } | Self::Soft { parts } => parts.join(", "),
            Self::Advisory { why } | Self::NotApplied { why } => why.clone(),
            Self::Lost { to, why } if to.is_empty() => why.clone(),
            Self::Lost { to, why } => format!("to {}: {why}", to.join(", ")),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parties: Vec<String> =
            self.between.iter().map(|party| format!("`{}` ({})", party.name, party.id)).collect();
        write!(f, "{}: {}", parties.join(" and "), self.why)?;
        match &self.outcome {
            Outcome::Yielded { id, because } => write!(f, "; {id} yields: {because}"),
            Outcome::Suggested { by, what } => write!(f, "; {what}, as {by} suggests"),
            Outcome::AllHold => f.write_str("; both hold"),
            Outcome::Refused => Ok(()),
        }
    }
}

impl fmt::Display for Explanation {
    /// A table of constraints, then a line for everything else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["ID", "NAME", "RULE", "BECAME", "DETAILS"].map(str::to_owned);
        let rows: Vec<[String; 5]> = self
            .constraints
            .iter()
            .map(|one| {
                [&one.id, &one.name, &one.rule, one.fate.word(), &one.fate.details()]
                    .map(|cell| cell.replace('\n', " "))
            })
            .collect();
        let widths: [usize; 5] = std::array::from_fn(|column| {
            rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        for row in [&header].into_iter().chain(&rows) {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        for cycle in &self.cycles {
            writeln!(f, "circle: {} depend on each other", cycle.join(", "))?;
        }
        for conflict in &self.conflicts {
            writeln!(f, "conflict: {conflict}")?;
        }
        for Ruling { resolution, refused } in &self.rulings {
            let (by, between) = (&resolution.by, resolution.between.join(", "));
            match refused {
                Some(why) => writeln!(f, "suggestion by {by} for {between}: not taken, {why}")?,
                None => writeln!(f, "suggestion by {by} for {between}: taken")?,
            }
        }
        for NotApplied { id, why } in &self.unjudged {
            writeln!(f, "{id}: {why}")?;
        }
        Ok(())
    }
}
