//! How names are written, and what most of them agree on.

use crate::constraint::{DeclarationKind, NamingConvention};

/// Names that fit one convention alone, below which nothing is called a habit.
pub(super) const TELLING_NAMES_MIN: usize = 3;
/// The share of names that a habit takes.
pub(super) const HABIT_SHARE_MIN: f32 = 0.8;

/// The conventions, and how people write their names.
pub(super) const CONVENTIONS: [(NamingConvention, &str); 4] = [
    (NamingConvention::SnakeCase, "snake_case"),
    (NamingConvention::CamelCase, "camelCase"),
    (NamingConvention::PascalCase, "PascalCase"),
    (NamingConvention::ScreamingSnakeCase, "SCREAMING_SNAKE_CASE"),
];

/// The kinds of declarations, and what several of them are called.
pub(super) const KINDS: [(DeclarationKind, &str, &str); 5] = [
    (DeclarationKind::Function, "function", "functions"),
    (DeclarationKind::Type, "type", "types"),
    (DeclarationKind::Variable, "variable", "variables"),
    (DeclarationKind::Constant, "constant", "constants"),
    (DeclarationKind::Field, "field", "fields"),
];

/// Names that follow no habit because the language fixes them: `_`, `__init__`.
pub(super) fn is_fixed(name: &str) -> bool {
    name.chars().all(|c| matches!(c, '_' | '$'))
        || name.len() > 4 && name.starts_with("__") && name.ends_with("__")
        || name == "constructor"
}

/// How the names of one kind are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Names, counted once per file.
    pub(super) num_names: usize,
    /// Per convention: names that fit it, and those that fit no other.
    num_fitting: [(usize, usize); CONVENTIONS.len()],
}

/// A convention that most names follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Habit {
    pub(super) convention: NamingConvention,
    pub(super) written: &'static str,
    pub(super) num_fitting: usize,
}

impl Tally {
    pub(super) fn count(&mut self, name: &str) {
        self.num_names += 1;
        let fitting: Vec<usize> = (0..CONVENTIONS.len()).filter(|at| CONVENTIONS[*at].0.fits(name)).collect();
        for &at in &fitting {
            self.num_fitting[at].0 += 1;
            self.num_fitting[at].1 += usize::from(fitting.len() == 1);
        }
    }

    /// The convention of the majority, where there is one and enough names tell it from the others.
    ///
    /// `total` is snake_case and camelCase at once, `readLines` is one of them.
    pub(super) fn habit(&self) -> Option<Habit> {
        let (at, &(num_fitting, num_telling)) =
            self.num_fitting.iter().enumerate().max_by_key(|(at, (_, telling))| (*telling, usize::MAX - at))?;
        let share = num_fitting as f32 / self.num_names.max(1) as f32;
        let (convention, written) = CONVENTIONS[at];
        let is_habit = num_telling >= TELLING_NAMES_MIN && share >= HABIT_SHARE_MIN;
        is_habit.then_some(Habit { convention, written, num_fitting })
    }
}

/// The share of `part` in `whole`, as sure as that many cases make it (Laplace's rule).
pub(super) fn confidence(part: usize, whole: usize) -> f32 {
    (part + 1) as f32 / (whole + 2) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn habit(names: &[&str]) -> Option<(NamingConvention, usize)> {
        let mut tally = Tally::default();
        names.iter().for_each(|name| tally.count(name));
        tally.habit().map(|habit| (habit.convention, habit.num_fitting))
    }

    #[test]
    fn a_habit_needs_names_that_tell_and_a_majority() {
        assert_eq!(habit(&["read_a", "read_b", "read_c", "total"]), Some((NamingConvention::SnakeCase, 4)));
        assert_eq!(habit(&["readA", "readB", "readC", "total"]), Some((NamingConvention::CamelCase, 4)));
        assert_eq!(habit(&["total", "read", "x"]), None);
        assert_eq!(habit(&["readA", "readB", "readC", "read_a", "read_b"]), None);
        assert_eq!(habit(&["MAX_A", "MAX_B", "MAX_C", "N"]), Some((NamingConvention::ScreamingSnakeCase, 4)));
    }

    #[test]
    fn names_that_the_language_fixes_follow_no_habit() {
        assert!(is_fixed("__init__") && is_fixed("_") && !is_fixed("__x"));
    }
}
