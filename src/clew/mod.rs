//! Clew: source code to a constraint set. Pure and total.
//!
//! A named type of the source becomes one `json_schema` rule. The rule of soundness: **a hard schema never accepts
//! a value that the type does not allow**. It may accept less (a map whose keys can be listed accepts only those,
//! objects accept no fields but the declared ones). Where a type is not fully known (a name that is imported, a
//! computed key, a conditional type), its schema accepts anything *there*, so the whole constraint is only advisory,
//! as are the constraints of types that refer to it, and a diagnostic names the field.
//!
//! Broken source is data: a syntax error costs the declaration it stands in, and is reported with line and column.
//! What is read so far: types of TypeScript and Python. What Clew is not: a type checker, and it follows no imports.

mod jsdoc;
mod lines;
mod literal;
mod lower;
mod manifest;
mod python;
mod shape;
mod standard;
mod syntax;
mod typescript;

use std::path::Path;

use crate::constraint::{ConstraintSet, Language};
pub use manifest::{Dependency, MANIFEST_BYTES_MAX, Manifest, is_manifest, read_manifest};
pub use standard::std_modules;
use syntax::{Dialect, SourceFile};

/// Longest source that is read, in bytes. Parsing costs about 50 ms per MB and 20 times the source in memory.
pub const SOURCE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Constraints per file; further types are counted in a diagnostic. A constraint may be the size of its file.
pub const CONSTRAINTS_MAX: usize = 1_000;
/// Longest description, in bytes; a longer one is cut.
pub const DESCRIPTION_BYTES_MAX: usize = 1_024;
/// How deep type expressions nest, and how long chains of types that stand for one another are.
/// A level costs about 2 KB of stack; a type beyond is only advisory.
pub const TYPE_DEPTH_MAX: usize = 64;
/// Syntax nodes read, per file, to instantiate generic types; about 1 us each.
const GENERIC_NODES_MAX: usize = 200_000;
/// Schema nodes built per file; about 200 bytes each. Types that would need more are left out and counted.
const SCHEMA_NODES_MAX: usize = 500_000;

/// Why a source was not read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClewError {
    /// There is no reader for the language yet.
    #[error("{language:?} is not read yet; TypeScript and Python are")]
    UnsupportedLanguage {
        /// The language asked for.
        language: Language,
    },
    /// The source is over the limit.
    #[error("the source has {size} bytes, more than the {limit} that are read; split it")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// [`SOURCE_BYTES_MAX`].
        limit: usize,
    },
    /// No manifest has this name.
    #[error("{file}: no manifest that is known")]
    UnknownManifest {
        /// The file.
        file: String,
    },
    /// A manifest is not written as its format demands.
    #[error("{file}:{line}:{column}: {message}")]
    Manifest {
        /// The file.
        file: String,
        /// Line, from 1.
        line: u32,
        /// Column in bytes, from 1.
        column: u32,
        /// What is wrong.
        message: String,
    },
}

/// Mines the named types of `source`, in source order; `file` is what origins and diagnostics call it.
///
/// For TypeScript, a `file` that ends in `.tsx` is read with JSX. Each constraint's schema is self-contained: types it
/// refers to stand in `$defs`. Linear in the size of the source but for the schemas, whose total is bounded.
///
/// # Errors
/// [`ClewError`] if the language is not read or the source is too large; never for what stands in the source.
pub fn extract(source: &str, language: Language, file: &str) -> Result<ConstraintSet, ClewError> {
    let read = reader(language, file)?;
    if source.len() > SOURCE_BYTES_MAX {
        return Err(ClewError::TooLarge { size: source.len(), limit: SOURCE_BYTES_MAX });
    }
    let mut set = read(SourceFile { text: source, name: file });
    set.name = file.to_owned();
    Ok(set)
}

/// The language of a file, by its extension.
#[must_use]
pub fn language_of(path: &Path) -> Option<Language> {
    match path.extension()?.to_str()? {
        "ts" | "tsx" | "mts" | "cts" => Some(Language::Typescript),
        "py" | "pyi" => Some(Language::Python),
        "rs" => Some(Language::Rust),
        "go" => Some(Language::Go),
        "zig" => Some(Language::Zig),
        _ => None,
    }
}

type Reader = fn(SourceFile<'_>) -> ConstraintSet;

fn reader(language: Language, file: &str) -> Result<Reader, ClewError> {
    match language {
        Language::Typescript if file.ends_with(".tsx") => Ok(|file| mine(&typescript::TSX, file, typescript::read)),
        Language::Typescript => Ok(|file| mine(&typescript::TYPESCRIPT, file, typescript::read)),
        Language::Python => Ok(|file| mine(&python::PYTHON, file, python::read)),
        Language::Rust | Language::Zig | Language::Go => Err(ClewError::UnsupportedLanguage { language }),
    }
}

/// Parses, reads the types, and lowers them to constraints.
fn mine(
    dialect: &'static Dialect,
    file: SourceFile<'_>,
    read: fn(&'static Dialect, SourceFile<'_>, &tree_sitter::Tree) -> shape::Reading,
) -> ConstraintSet {
    match dialect.parse(file.text) {
        Some(tree) => lower::to_constraints(read(dialect, file, &tree), file),
        None => ConstraintSet {
            diagnostics: vec![file.whole("too broken to parse with bounded effort; nothing was read")],
            ..ConstraintSet::default()
        },
    }
}
