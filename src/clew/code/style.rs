//! Indentation and quotes, counted.

use serde::{Deserialize, Serialize};

/// How a file is laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Style {
    /// Lines that begin with a tab.
    pub(super) num_tabs: u32,
    /// Steps inwards of 2, 4 and 8 spaces, and of other widths.
    pub(super) num_spaces: [u32; 4],
    /// Literals in single quotes where double ones would do.
    pub(super) num_single: u32,
    /// Literals in double quotes where single ones would do.
    pub(super) num_double: u32,
}

/// How a block is indented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Indent {
    Tabs,
    Spaces(usize),
}

const WIDTHS: [usize; 4] = [2, 4, 8, 0];

impl Style {
    /// Counts the steps inwards, from each line to the next. Lines of block comments are left out.
    pub(super) fn of(text: &str) -> Self {
        let mut style = Self::default();
        let mut before = 0;
        for line in text.lines() {
            let inner = line.trim_start_matches([' ', '\t']);
            if inner.is_empty() || inner.starts_with('*') {
                continue;
            }
            let width = line.len() - inner.len();
            if line.starts_with('\t') {
                style.num_tabs += 1;
                before = 0;
            } else {
                if width > before {
                    let step = width - before;
                    let slot = WIDTHS.iter().position(|known| *known == step).unwrap_or(WIDTHS.len() - 1);
                    style.num_spaces[slot] += 1;
                }
                before = width;
            }
        }
        style
    }

    /// What most of the file is indented with.
    pub(super) fn indent(&self) -> Option<Indent> {
        let (width, num_steps) = WIDTHS
            .iter()
            .zip(self.num_spaces)
            .take(WIDTHS.len() - 1)
            .max_by_key(|(width, count)| (*count, 8 - *width))?;
        match (self.num_tabs, num_steps) {
            (0, 0) => None,
            (tabs, steps) if tabs > steps => Some(Indent::Tabs),
            _ => Some(Indent::Spaces(*width)),
        }
    }

    /// Adds what a later part of the same file holds.
    pub(super) fn add(&mut self, later: &Self) {
        self.num_tabs = self.num_tabs.saturating_add(later.num_tabs);
        for (sum, more) in self.num_spaces.iter_mut().zip(later.num_spaces) {
            *sum = sum.saturating_add(more);
        }
        self.num_single = self.num_single.saturating_add(later.num_single);
        self.num_double = self.num_double.saturating_add(later.num_double);
    }

    pub(super) fn count_quote(&mut self, quote: char) {
        match quote {
            '\'' => self.num_single += 1,
            _ => self.num_double += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indentation_is_the_usual_step_inwards() {
        let indent = |text| Style::of(text).indent();
        assert_eq!(indent("a:\n    b\n    c:\n        d\n"), Some(Indent::Spaces(4)));
        assert_eq!(indent("a {\n  b\n}\n"), Some(Indent::Spaces(2)));
        assert_eq!(indent("a {\n\tb\n}\n"), Some(Indent::Tabs));
        assert_eq!(indent("a\n"), None);
    }
}
