//! Why a set gives no IR.

use super::Conflict;
use crate::constraint::IrError;

/// Why a constraint set was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BraidError {
    /// Several mined types could be the root.
    #[error("several types could be meant: {}; choose one with --type NAME", names.join(", "))]
    SeveralRoots {
        /// Their names, sorted.
        names: Vec<String>,
    },
    /// The chosen root is not in the set.
    #[error("there is no type `{name}`; the set has {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") })]
    UnknownRoot {
        /// The name asked for.
        name: String,
        /// The names of the mined types, sorted.
        names: Vec<String>,
    },
    /// Several different mined types have the chosen name.
    #[error("{count} different types are called `{name}`; compile the file with the one you mean by itself")]
    SameName {
        /// The name.
        name: String,
        /// How many.
        count: usize,
    },
    /// The root is only advisory, because something in it is not known.
    #[error(
        "type `{name}` is only advisory, so it cannot be enforced; the diagnostics of its extraction say which field is not known, and --type NAME chooses another type"
    )]
    AdvisoryRoot {
        /// The type's name.
        name: String,
    },
    /// A constraint presupposes one that is not in the set.
    #[error("constraint `{name}` depends on {missing}, which is not in the set")]
    UnknownDependency {
        /// The constraint's name.
        name: String,
        /// The id it depends on.
        missing: String,
    },
    /// Constraints that never yield contradict each other, or the strategy lets none yield.
    #[error("{}", listed(conflicts))]
    Conflicts {
        /// The conflicts, each with a subset in which every member is needed.
        conflicts: Vec<Conflict>,
    },
    /// A hard rule about code without a rule that says which language the code is in.
    #[error(
        "needs_language: `{name}` ({rule}, {id}) speaks of code, but no hard `language` rule says in which language"
    )]
    NeedsLanguage {
        /// The constraint's id.
        id: String,
        /// The constraint's name.
        name: String,
        /// The type of its rule.
        rule: &'static str,
    },
    /// A hard rule about code that the language's grammar cannot hold.
    #[error("`{name}` ({id}) cannot be enforced: {why}")]
    Unfit {
        /// The constraint's id.
        id: String,
        /// The constraint's name.
        name: String,
        /// What it asks for, and why that is out of reach.
        why: String,
    },
    /// Several schemas bind at once, and one of them uses a keyword that cannot stand inside another schema.
    #[error("`{name}` uses `{keyword}`, which cannot be combined with another schema; use `$defs` and `#/` references")]
    NotMergeable {
        /// The constraint's name.
        name: String,
        /// The keyword.
        keyword: &'static str,
    },
    /// A schema nests too deep to be combined with another.
    #[error("the schema of `{name}` nests deeper than {limit} levels")]
    SchemaTooDeep {
        /// The constraint's name.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// A rule's payload is not acceptable.
    #[error(transparent)]
    Ir(#[from] IrError),
}

impl BraidError {
    /// The constraint that it is about, by id or by name; of several the first.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::NeedsLanguage { id, .. } | Self::Unfit { id, .. } => Some(id),
            Self::UnknownDependency { name, .. }
            | Self::NotMergeable { name, .. }
            | Self::SchemaTooDeep { name, .. } => Some(name),
            Self::Conflicts { conflicts } => conflicts.first()?.between.first().map(|party| party.id.as_str()),
            Self::SeveralRoots { .. }
            | Self::UnknownRoot { .. }
            | Self::SameName { .. }
            | Self::AdvisoryRoot { .. }
            | Self::Ir(_) => None,
        }
    }

    /// Whether it is about the choice of the type that the output is a value of.
    #[must_use]
    pub fn is_of_root(&self) -> bool {
        matches!(
            self,
            Self::SeveralRoots { .. } | Self::UnknownRoot { .. } | Self::SameName { .. } | Self::AdvisoryRoot { .. }
        )
    }
}

/// The first few conflicts, one a line.
fn listed(conflicts: &[Conflict]) -> String {
    const SHOWN_MAX: usize = 10;
    let mut lines = vec!["constraints contradict each other, and none of them yields".to_owned()];
    lines.extend(conflicts.iter().take(SHOWN_MAX).map(Conflict::to_string));
    if conflicts.len() > SHOWN_MAX {
        lines.push(format!("and {} more", conflicts.len() - SHOWN_MAX));
    }
    lines.join("\n  ")
}
