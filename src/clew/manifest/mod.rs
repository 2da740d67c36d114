//! What a project declares that it depends on, from its manifest: the names that its code may import.
//!
//! A manifest names distributions, code imports modules. Where the two differ, a data file of well-known ones says how
//! ([`python_names.txt`](python_names.txt), [`rust_names.txt`](rust_names.txt)); nothing is looked up, and no other
//! file is followed. A manifest that is not written as its format demands is an error with its place, because a list of
//! dependencies that is read in half would forbid the other half.

mod cargo;
mod go;
mod names;
mod npm;
mod python;
#[cfg(test)]
mod tests;
mod zig;

use serde::{Deserialize, Serialize};

use super::ClewError;
use super::lines::Lines;
use crate::constraint::{Language, Origin};

/// Longest manifest that is read, in bytes; one takes about 10 ms per MB.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;

/// What a manifest declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The file, as the caller named it.
    pub file: String,
    /// The language whose code it speaks of.
    pub language: Language,
    /// What the declared dependencies are imported as, in order of their places; a distribution that installs several
    /// modules gives several, and one that is declared twice is there twice.
    pub dependencies: Vec<Dependency>,
    /// What the package itself is imported as.
    pub package: Option<String>,
}

/// One module that a declared dependency brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The root module, as an import names it: `react`, `yaml`, `serde_json`, `github.com/x/y`.
    pub name: String,
    /// Where the dependency is declared.
    pub origin: Origin,
}

/// Reads a manifest whose format is told by `file_name`; `path` is what origins call it.
///
/// Read are `package.json` (all four tables of dependencies), `pyproject.toml` (PEP 621 with optional dependencies,
/// dependency groups, Poetry), `*requirements*.txt`, `Cargo.toml` (also build, development and target tables),
/// `go.mod` and `build.zig.zon`. Linear in the size of the text.
///
/// # Errors
/// [`ClewError::UnknownManifest`], [`ClewError::TooLarge`], or [`ClewError::Malformed`] with line and column of what the
/// format does not allow.
pub fn read_manifest(text: &str, file_name: &str, path: &str) -> Result<Manifest, ClewError> {
    let file = || path.to_owned();
    let (language, read) = format_of(file_name).ok_or_else(|| ClewError::UnknownManifest { file: file() })?;
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(ClewError::TooLarge { size: text.len(), limit: MANIFEST_BYTES_MAX });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines::of(text);
    let Found { mut dependencies, package } = read(text).map_err(|fault| {
        let (line, column) = lines.place(fault.offset);
        ClewError::Malformed { file: file(), line, column, message: fault.message }
    })?;
    dependencies.sort_by_key(|(_, offset)| *offset);
    let located = |(name, offset)| {
        let (line, column) = lines.place(offset);
        Dependency { name, origin: Origin { file: file(), line, column } }
    };
    Ok(Manifest { file: file(), language, dependencies: dependencies.into_iter().map(located).collect(), package })
}

/// Whether a file of this name is a manifest that [`read_manifest`] knows.
#[must_use]
pub fn is_manifest(file_name: &str) -> bool {
    format_of(file_name).is_some()
}

type Reader = fn(&str) -> Result<Found, Fault>;

fn format_of(file_name: &str) -> Option<(Language, Reader)> {
    match file_name {
        "package.json" => Some((Language::Typescript, npm::read)),
        "pyproject.toml" => Some((Language::Python, python::read_pyproject)),
        "Cargo.toml" => Some((Language::Rust, cargo::read)),
        "go.mod" => Some((Language::Go, go::read)),
        "build.zig.zon" => Some((Language::Zig, zig::read)),
        name if name.contains("requirements") && name.ends_with(".txt") => {
            Some((Language::Python, python::read_requirements))
        }
        _ => None,
    }
}

/// What a format's reader gives: names with the byte they are declared at.
#[derive(Default)]
struct Found {
    dependencies: Vec<(String, usize)>,
    package: Option<String>,
}

/// What a format does not allow, and the byte it stands at.
#[derive(Debug)]
struct Fault {
    offset: usize,
    message: String,
}

impl Fault {
    fn new(offset: usize, message: impl Into<String>) -> Self {
        Self { offset, message: message.into() }
    }
}

/// A TOML document with the place of everything in it.
fn toml_table(text: &str) -> Result<toml::de::DeTable<'_>, Fault> {
    let table = toml::de::DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Fault::new(offset, error.message().replace('\n', ", "))
    })?;
    Ok(table.into_inner())
}

/// The value at `key`, which must be a table where there is one.
fn table_at<'t, 'i>(table: &'t toml::de::DeTable<'i>, key: &str) -> Result<Option<&'t toml::de::DeTable<'i>>, Fault> {
    let Some(value) = table.get(key) else { return Ok(None) };
    let fault = || Fault::new(value.span().start, format!("`{key}` must be a table"));
    value.get_ref().as_table().map(Some).ok_or_else(fault)
}
