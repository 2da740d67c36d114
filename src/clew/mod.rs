//! Clew: source code to a constraint set. Pure and total.
//!
//! A named type of the source becomes one `json_schema` rule. The rule of soundness: **a hard schema never accepts
//! a value that the type does not allow**. It may accept less (a map whose keys can be listed accepts only those,
//! objects accept no fields but the declared ones). Where a type is not fully known (a name that no given file
//! declares, a computed key, a conditional type), its schema accepts anything *there*, so the whole constraint is only
//! advisory, as are the constraints of types that refer to it, and a diagnostic names the field.
//!
//! All else (`code`) is found by query files: facts such as imports, names and signatures become rules that bind,
//! habits such as naming conventions are counted over all files, and what tests and comments say is told.
//!
//! Broken source is data: a syntax error costs the declaration it stands in, and is reported with line and column.
//! What a model says of the sources (`semantic`) is taken as claims that inform and lean, and never bind.
//! Imports are followed over the files that are given, and no further. What Clew is not: a type checker.
//!
//! How a type becomes a rule: a reader per language turns declarations into shapes (`shape`) and keeps the names it
//! cannot settle; `link` finds what those names stand for with `modules`; `lower` makes JSON Schema of the shapes.

mod code;
mod go;
mod jsdoc;
mod json;
mod lines;
mod link;
mod literal;
mod lower;
mod manifest;
mod modules;
mod python;
mod rust;
pub mod semantic;
mod serde_attributes;
mod shape;
mod standard;
mod stream;
mod syntax;
mod telemetry;
#[cfg(test)]
mod tests;
mod typescript;
mod zig;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use code::FileCode;
pub use code::{
    Call, CodeFacts, Declared, Import, Literal, LiteralValue, Place, Signature, Syntax, facts_of_code, read_code,
    syntax_of_file,
};
pub use manifest::{Dependency, MANIFEST_BYTES_MAX, Manifest, is_manifest, read_manifest};
use modules::Given;
use serde::{Deserialize, Serialize};
use shape::Reading;
pub use standard::std_modules;
pub use stream::{CHUNK_BYTES, FACTS_BYTES_MAX, Stream};
use syntax::{Dialect, SourceFile};
pub use telemetry::{TELEMETRY_BYTES_MAX, read_telemetry};

use crate::constraint::{Constraint, ConstraintSet, Language};

/// Longest source that is read, in bytes. Parsing costs about 50 ms per MB and 20 times the source in memory.
pub const SOURCE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Constraints per file; further types are counted in a diagnostic. A constraint may be the size of its file.
pub const CONSTRAINTS_MAX: usize = 1_000;
/// Longest description, in bytes; a longer one is cut.
pub const DESCRIPTION_BYTES_MAX: usize = 1_024;
/// How deep type expressions nest, and how long chains of types that stand for one another are.
/// A level costs about 2 KB of stack; a type beyond is only advisory.
pub const TYPE_DEPTH_MAX: usize = 64;
/// Shapes made, per file, for generic types with their arguments; about 100 ns each.
const GENERIC_SHAPES_MAX: usize = 200_000;
/// Schema nodes built per file, for its types and again for its constraints; about 200 bytes each. Types that would need more are left out and counted.
const SCHEMA_NODES_MAX: usize = 500_000;

/// Why a source was not read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClewError {
    /// The source is over the limit.
    #[error("the source has {size} bytes, more than the {limit} that are read; split it")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// [`SOURCE_BYTES_MAX`].
        limit: usize,
    },
    /// The source is not UTF-8.
    #[error("not UTF-8: byte 0x{byte:02x} at offset {offset}; only UTF-8 is read")]
    NotUtf8 {
        /// Where the bad byte stands, from 0.
        offset: usize,
        /// The byte.
        byte: u8,
    },
    /// No manifest has this name.
    #[error("{file}: no manifest that is known")]
    UnknownManifest {
        /// The file.
        file: String,
    },
    /// A manifest or a telemetry file is not written as its format demands.
    #[error("{file}:{line}:{column}: {message}")]
    Malformed {
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

impl ClewError {
    /// The first bad byte of bytes that begin at `offset` of the file.
    fn not_utf8(error: &std::string::FromUtf8Error, offset: usize) -> Self {
        let at = error.utf8_error().valid_up_to();
        Self::NotUtf8 { offset: offset + at, byte: error.as_bytes()[at] }
    }
}

/// All that was read in one file; plain serde data, so that it can be cached by content and language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileFacts {
    file: String,
    language: Language,
    types: Reading,
    code: FileCode,
}

impl FileFacts {
    /// The file, as it was named to the reader.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its language.
    #[must_use]
    pub fn language(&self) -> Language {
        self.language
    }

    /// Its imports.
    #[must_use]
    pub fn imports(&self) -> &[Import] {
        &self.code.facts.imports
    }

    /// The names it declares.
    #[must_use]
    pub fn declared(&self) -> &[Declared] {
        &self.code.facts.declared
    }

    /// The signatures of its functions.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.code.facts.signatures
    }

    /// What it calls; every path once, where it is called first.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.code.facts.calls
    }

    /// Adds what a later part of the same file holds.
    fn append(&mut self, later: Self) {
        self.types.append(later.types);
        self.code.append(later.code);
    }

    fn given(&self) -> Given<'_> {
        Given { file: &self.file, language: self.language, reading: &self.types }
    }
}

/// The text of a source file.
///
/// # Errors
/// [`ClewError::TooLarge`] over [`SOURCE_BYTES_MAX`], and [`ClewError::NotUtf8`] with the first bad byte.
pub fn decode(bytes: Vec<u8>) -> Result<String, ClewError> {
    if bytes.len() > SOURCE_BYTES_MAX {
        return Err(ClewError::TooLarge { size: bytes.len(), limit: SOURCE_BYTES_MAX });
    }
    String::from_utf8(bytes).map_err(|error| ClewError::not_utf8(&error, 0))
}

/// Reads one file; `file` is what origins and diagnostics call it, and its extension may name a dialect (`.tsx`).
///
/// Linear in the size of the source: about 50 ms per MB.
///
/// # Errors
/// [`ClewError`] if the source is too large; never for what stands in the source.
pub fn read_file(source: &str, language: Language, file: &str) -> Result<FileFacts, ClewError> {
    read_lines(source, language, file, 1)
}

/// Reads a part of a file that begins with line `first_line`.
fn read_lines(source: &str, language: Language, file: &str, first_line: u32) -> Result<FileFacts, ClewError> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(ClewError::TooLarge { size: source.len(), limit: SOURCE_BYTES_MAX });
    }
    let text = SourceFile { text: source, name: file, first_line };
    let Some(tree) = code::parse(source, language, file) else {
        let diagnostics = vec![text.whole("too broken to parse with bounded effort; nothing was read")];
        let types = Reading { diagnostics, ..Reading::default() };
        return Ok(FileFacts { file: file.to_owned(), language, types, code: FileCode::default() });
    };
    let (dialect, read) = reader(language, file);
    let types = read(dialect, text, &tree);
    Ok(FileFacts { file: file.to_owned(), language, types, code: FileCode::read(&tree, language, text) })
}

/// One set of the facts of all files: habits are counted over all of them. The order of files does not matter.
///
/// At most [`CONSTRAINTS_MAX`] constraints per file. Linear in the facts, but for the schemas, whose total is bounded
/// per file.
#[must_use]
pub fn combine(files: &[FileFacts], manifests: &[Manifest]) -> ConstraintSet {
    combine_at_most(files, manifests, CONSTRAINTS_MAX.saturating_mul(files.len()))
}

/// [`combine`] with at most `limit` constraints in all; those of single places are left out first, and counted in a
/// diagnostic.
#[must_use]
pub fn combine_at_most(files: &[FileFacts], manifests: &[Manifest], limit: usize) -> ConstraintSet {
    let mut files: Vec<&FileFacts> = files.iter().collect();
    files.sort_by(|one, two| one.file.cmp(&two.file).then(one.language.cmp(&two.language)));
    let mut manifests = manifests.to_vec();
    manifests.sort_by(|one, two| one.file.cmp(&two.file));
    let types: Vec<Given<'_>> = files.iter().map(|facts| facts.given()).collect();
    let code: Vec<_> = files
        .iter()
        .map(|facts| code::rules::File { name: &facts.file, language: facts.language, code: &facts.code })
        .collect();
    let ConstraintSet { constraints, diagnostics, .. } = lower::to_constraints(&types, &manifests);
    let rules = code::rules::mine(&code, &manifests);
    let mut set = ConstraintSet { diagnostics, ..ConstraintSet::default() };
    let mut items = unique(constraints.into_iter().chain(rules.items));
    let room = limit.saturating_sub(rules.habits.len());
    if let (Some(more @ 1..), Some(last)) = (items.len().checked_sub(room), files.last()) {
        let file = SourceFile { text: "", name: &last.file, first_line: 1 };
        set.diagnostics
            .push(file.whole(format!("{more} rules of single places are left out: {limit} are kept in all")));
        items.truncate(room);
    }
    set.constraints = unique(items.into_iter().chain(rules.habits));
    set.constraints.truncate(limit);
    let ids: HashSet<String> = set.constraints.iter().map(|constraint| constraint.id.clone()).collect();
    for constraint in &mut set.constraints {
        constraint.depends_on.retain(|id| ids.contains(id));
    }
    set
}

/// The same rule found twice is one constraint, as in [`ConstraintSet::push`], in linear time.
fn unique(constraints: impl Iterator<Item = Constraint>) -> Vec<Constraint> {
    let mut unique: Vec<Constraint> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for constraint in constraints {
        match known.get(&constraint.id) {
            Some(&index) => {
                let first = &mut unique[index];
                first.frequency = first.frequency.saturating_add(constraint.frequency);
                first.confidence = first.confidence.max(constraint.confidence);
                // What one place knows for sure is not weaker because another place only hints at it.
                first.strength = first.strength.max(constraint.strength);
            }
            None => {
                known.insert(constraint.id.clone(), unique.len());
                unique.push(constraint);
            }
        }
    }
    unique
}

/// Mines one file by itself: [`read_file`], then [`combine`].
///
/// # Errors
/// Those of [`read_file`].
pub fn extract(source: &str, language: Language, file: &str) -> Result<ConstraintSet, ClewError> {
    let mut set = combine(&[read_file(source, language, file)?], &[]);
    set.name = file.to_owned();
    Ok(set)
}

/// The language of a file, by its extension. JavaScript is read by TypeScript's grammar.
#[must_use]
pub fn language_of(path: &Path) -> Option<Language> {
    match path.extension()?.to_str()? {
        "ts" | "tsx" | "mts" | "cts" | "js" | "jsx" | "mjs" | "cjs" => Some(Language::Typescript),
        "py" | "pyi" => Some(Language::Python),
        "rs" => Some(Language::Rust),
        "go" => Some(Language::Go),
        "zig" => Some(Language::Zig),
        _ => None,
    }
}

type Reader = fn(&'static Dialect, SourceFile<'_>, &tree_sitter::Tree) -> Reading;

/// What reads the types of a file, with the dialect of its queries.
fn reader(language: Language, file: &str) -> (&'static Dialect, Reader) {
    match language {
        Language::Typescript if is_read_with_jsx(file) => (&typescript::TSX, typescript::read),
        Language::Typescript => (&typescript::TYPESCRIPT, typescript::read),
        Language::Python => (&python::PYTHON, python::read),
        Language::Rust => (&rust::RUST, rust::read),
        Language::Go => (&go::GO, go::read),
        Language::Zig => (&zig::ZIG, zig::read),
    }
}

/// Whether a file of TypeScript or JavaScript may hold JSX, by its extension.
fn is_read_with_jsx(file: &str) -> bool {
    [".tsx", ".js", ".jsx", ".mjs", ".cjs"].iter().any(|extension| file.ends_with(extension))
}
