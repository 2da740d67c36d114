//! From the name of a distribution to the modules that it installs.

use std::collections::HashMap;
use std::sync::LazyLock;

type Table = HashMap<&'static str, Vec<&'static str>>;

static PYTHON: LazyLock<Table> = LazyLock::new(|| table(include_str!("python_names.txt")));
static RUST: LazyLock<Table> = LazyLock::new(|| table(include_str!("rust_names.txt")));

/// Lines of a name and what it stands for; those that begin with `#` are comments.
fn table(text: &'static str) -> Table {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| {
        let mut words = row.split_whitespace();
        Some((words.next()?, words.collect()))
    })
    .collect()
}

/// The root modules of a Python distribution.
///
/// One that is not in the table is taken to install a module of its own name: before the first dot (`zope.event` is in
/// the namespace `zope`), hyphens as underscores, in lower case and, because some do, as it is written.
pub(super) fn python_modules(distribution: &str) -> Vec<String> {
    let normalized = distribution.to_lowercase().replace(['_', '.'], "-");
    if let Some(modules) = PYTHON.get(normalized.as_str()) {
        return modules.iter().map(|module| (*module).to_owned()).collect();
    }
    let root = distribution.split('.').next().unwrap_or(distribution).replace('-', "_");
    let mut modules = vec![root.to_lowercase(), root];
    modules.dedup();
    modules
}

/// The crate that a Rust package builds.
pub(super) fn rust_crate(package: &str) -> String {
    match RUST.get(package) {
        Some(names) => names.concat(),
        None => package.replace('-', "_"),
    }
}

/// What code imports of an npm package: itself, and for `@types/x` also the package whose types it holds.
pub(super) fn npm_modules(package: &str) -> Vec<String> {
    let typed = package.strip_prefix("@types/").map(|typed| match typed.split_once("__") {
        Some((scope, name)) => format!("@{scope}/{name}"),
        None => typed.to_owned(),
    });
    [package.to_owned()].into_iter().chain(typed).collect()
}
