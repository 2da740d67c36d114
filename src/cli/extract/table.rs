//! A constraint set for people: one line per constraint, grouped by what it is about.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::constraint::{Constraint, ConstraintSet, Rule, Source};

/// How wide a table is on a terminal.
pub(super) const TERMINAL_COLUMNS: usize = 100;
/// Narrower than this, a name or an origin is not cut.
const CELL_COLUMNS_MIN: usize = 16;

const HEADER: [&str; 5] = ["NAME", "SUPPORT", "STRENGTH", "CONFIDENCE", "ORIGIN"];
const NAME: usize = 0;
const ORIGIN: usize = 4;

type Row = [String; HEADER.len()];

/// Writes the constraints by category, the best supported first, then what was not read, in so many columns.
pub(super) fn write(set: &ConstraintSet, columns: usize, out: &mut impl Write) -> io::Result<()> {
    let mut categories: BTreeMap<String, Vec<&Constraint>> = BTreeMap::new();
    for constraint in &set.constraints {
        categories.entry(category(constraint)).or_default().push(constraint);
    }
    for of_one in categories.values_mut() {
        of_one.sort_by_key(|one| Reverse((one.strength, one.frequency)));
    }
    let rows: Vec<Row> = categories.values().flatten().map(|constraint| row(constraint)).collect();
    let header = HEADER.map(str::to_owned);
    let widths = widths(rows.iter().chain([&header]), columns);
    write_row(&header, &widths, out)?;
    let mut rows = rows.iter();
    for (category, of_one) in &categories {
        writeln!(out, "{category} ({})", of_one.len())?;
        for row in rows.by_ref().take(of_one.len()) {
            write_row(row, &widths, out)?;
        }
    }
    for diagnostic in &set.diagnostics {
        let at = &diagnostic.origin;
        writeln!(out, "{}:{}:{}: {}", at.file, at.line, at.column, diagnostic.message)?;
    }
    Ok(())
}

/// The category of a pattern, else what the rule is about.
fn category(constraint: &Constraint) -> String {
    if let Some((category, _)) = constraint.name.strip_prefix("pattern.").and_then(|name| name.split_once('.')) {
        return category.replace('_', " ");
    }
    let known = match (&constraint.rule, constraint.source) {
        (Rule::JsonSchema { .. }, _) => "types",
        (Rule::Imports { .. }, _) => "imports",
        (Rule::Names { .. }, _) => "naming",
        (Rule::Signature { .. }, _) => "signatures",
        (Rule::Calls { .. }, _) => "calls",
        (_, Source::TestMining) => "tests",
        (_, Source::Documentation) => "documentation",
        (_, Source::Telemetry) => "telemetry",
        (_, Source::LlmAnalysis) => "said by a model",
        (rule, _) => rule.type_name(),
    };
    known.replace('_', " ")
}

fn row(constraint: &Constraint) -> Row {
    let strength = format!("{:?}", constraint.strength).to_lowercase();
    let at = constraint.origin.as_ref();
    [
        format!("  {}", constraint.name),
        support(constraint),
        strength,
        format!("{:.2}", constraint.confidence),
        at.map_or_else(String::new, |at| format!("{}:{}:{}", at.file, at.line, at.column)),
    ]
}

/// The counts that a description states (`41 of 43`), else how often the rule was found.
fn support(constraint: &Constraint) -> String {
    let words: Vec<&str> = constraint.description.split_whitespace().collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let counts = words.windows(3).find(|three| is_number(three[0]) && three[1] == "of" && is_number(three[2]));
    counts.map_or_else(|| constraint.frequency.to_string(), |counts| counts.join(" "))
}

/// As wide as the widest cell, but names and origins give way until a line fits.
fn widths<'a>(rows: impl Iterator<Item = &'a Row>, columns: usize) -> [usize; HEADER.len()] {
    let mut widths = [0; HEADER.len()];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * (HEADER.len() - 1);
    while total(&widths) > columns {
        let widest = if widths[NAME] >= widths[ORIGIN] { NAME } else { ORIGIN };
        if widths[widest] <= CELL_COLUMNS_MIN {
            break;
        }
        widths[widest] -= 1;
    }
    widths
}

fn write_row(row: &Row, widths: &[usize; HEADER.len()], out: &mut impl Write) -> io::Result<()> {
    let mut line = String::new();
    for (column, (cell, width)) in row.iter().zip(*widths).enumerate() {
        let cell = if column == ORIGIN { cut_start(cell, width) } else { cut_end(cell, width) };
        line.push_str(&format!("{cell:width$}  "));
    }
    writeln!(out, "{}", line.trim_end())
}

fn cut_end(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// Of a place, the end says more.
fn cut_start(text: &str, width: usize) -> String {
    let len = text.chars().count();
    match len > width {
        true => ['…'].into_iter().chain(text.chars().skip(len + 1 - width)).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constraint::{Kind, Origin, Strength};

    fn prose(name: &str, description: &str, file: &str) -> Constraint {
        let rule = Rule::Prose { text: description.to_owned() };
        Constraint {
            description: description.to_owned(),
            strength: Strength::Advisory,
            origin: Some(Origin { file: file.to_owned(), line: 3, column: 1 }),
            ..Constraint::stated(name, Kind::Syntactic, rule)
        }
    }

    fn table(columns: usize) -> String {
        let long = format!("a/{}/b.ts", "folder/".repeat(30));
        let mut set = ConstraintSet::default();
        set.push(prose("pattern.error_handling.try_catch", "3 of 12 functions catch", "a.ts"));
        set.push(prose(&format!("pattern.functions.{}", "async_".repeat(20)), "5 uses", &long));
        set.push(prose("other", "nothing counted", "b.ts"));
        let mut out = Vec::new();
        write(&set, columns, &mut out).expect("a vector takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_table_is_grouped_and_keeps_what_fits() {
        let all = table(usize::MAX);
        let lines: Vec<&str> = all.lines().map(str::trim_end).collect();
        assert!(lines[0].starts_with("NAME") && lines[0].contains("SUPPORT"));
        assert_eq!((lines[1], lines[3], lines[5]), ("error handling (1)", "functions (1)", "prose (1)"));
        assert!(lines[2].contains("3 of 12  advisory") && lines[2].ends_with("a.ts:3:1"), "{}", lines[2]);
    }

    #[test]
    fn a_table_on_a_terminal_fits() {
        let narrow = table(TERMINAL_COLUMNS);
        assert!(narrow.lines().all(|line| line.chars().count() <= TERMINAL_COLUMNS), "{narrow}");
        assert!(narrow.contains("…") && narrow.contains("b.ts:3:1"));
    }
}
