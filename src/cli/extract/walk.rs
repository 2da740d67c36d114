//! From paths to the files that are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use ignore::{DirEntry, WalkBuilder};

use crate::clew;
use crate::constraint::Language;

/// Folders of things that a project did not write, skipped even where no ignore file says so, unless they are named.
const SKIPPED_FOLDERS: [&str; 9] = [
    "__pycache__",
    "bower_components",
    "node_modules",
    "site-packages",
    "target",
    "vendor",
    "venv",
    "zig-cache",
    "zig-out",
];

/// A file to read.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    /// What origins call it: the path as given, with `/` between folders.
    pub(super) name: String,
    pub(super) what: What,
    /// Whether a person named this very file.
    pub(super) is_named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Source(Language),
    Manifest,
}

/// The files below paths, in order of their names, each once, and what could not be walked.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) inputs: Vec<Input>,
    pub(super) problems: Vec<String>,
}

/// Finds the files: the named ones, and below named folders those with a known name.
///
/// Hidden files are skipped, and what `.gitignore`, `.ignore` and git's own lists name, in a repository or not. Links
/// are not followed.
pub(super) fn find(paths: &[String]) -> anyhow::Result<Walked> {
    let (mut inputs, mut problems) = (BTreeMap::new(), Vec::new());
    for path in paths {
        if Path::new(path).is_dir() {
            walk(path, &mut inputs, &mut problems);
            continue;
        }
        let Some(what) = what(Path::new(path)) else {
            bail!(
                "{path}: unknown file type; .ts .tsx .js .jsx (and .mts .cts .mjs .cjs), .py .pyi, .rs, .go, .zig, \
                 package.json, pyproject.toml, *requirements*.txt, Cargo.toml, go.mod and build.zig.zon are read"
            );
        };
        let name = path.replace('\\', "/");
        inputs.insert(name.clone(), Input { path: path.into(), name, what, is_named: true });
    }
    problems.sort();
    Ok(Walked { inputs: inputs.into_values().collect(), problems })
}

fn walk(folder: &str, inputs: &mut BTreeMap<String, Input>, problems: &mut Vec<String>) {
    for entry in WalkBuilder::new(folder).require_git(false).filter_entry(is_own).build() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                problems.push(error.to_string());
                continue;
            }
        };
        let Some(what) = what(entry.path()) else { continue };
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            let path = entry.into_path();
            let name = path.to_string_lossy().replace('\\', "/");
            inputs.entry(name.clone()).or_insert(Input { path, name, what, is_named: false });
        }
    }
}

fn is_own(entry: &DirEntry) -> bool {
    let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
    let is_skipped = entry.file_name().to_str().is_some_and(|name| SKIPPED_FOLDERS.contains(&name));
    entry.depth() == 0 || !(is_folder && is_skipped)
}

fn what(path: &Path) -> Option<What> {
    let name = path.file_name()?.to_str()?;
    if clew::is_manifest(name) {
        return Some(What::Manifest);
    }
    clew::language_of(path).map(What::Source)
}
