//! What stands in one piece of code, as plain data.

use serde::{Deserialize, Serialize};
use tree_sitter::Node;

use crate::constraint::{DeclarationKind, Origin};

/// What a piece of code imports, declares, calls and spells out.
///
/// Everything stands in source order. Facts of broken code are those of its unbroken parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeFacts {
    /// Every import, in whatever form.
    pub imports: Vec<Import>,
    /// Every declared name.
    pub declared: Vec<Declared>,
    /// The signature of every function.
    pub signatures: Vec<Signature>,
    /// Every call whose callee has a name.
    pub calls: Vec<Call>,
    /// Every text literal.
    pub literals: Vec<Literal>,
    /// Names that are given a value that begins with a text literal.
    pub literal_values: Vec<LiteralValue>,
    /// Whether some part could not be read.
    pub has_errors: bool,
}

/// Whether a piece of code is well-formed, as far as its parser knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// It is.
    WellFormed,
    /// It is not.
    Error {
        /// Byte offset of the first error.
        at: usize,
    },
    /// It could not be parsed with bounded effort.
    Unread,
}

/// A place in a piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
}

impl Place {
    /// Where a node begins.
    pub(crate) fn of(node: Node<'_>) -> Self {
        let start = node.start_position();
        let from_one = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
        Self { line: from_one(start.row), column: from_one(start.column) }
    }

    /// The same place, with the name of its file.
    #[must_use]
    pub fn in_file(self, file: &str) -> Origin {
        Origin { file: file.to_owned(), line: self.line, column: self.column }
    }
}

/// An import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The root module; `None` where it is computed, so that nobody can tell.
    ///
    /// TypeScript: the package, `@scope/name` and `node:fs` whole. Python: the first name. Rust: the crate. Go: the whole
    /// path. Zig: the name of a module or file.
    pub root: Option<String>,
    /// The module as it is written.
    pub module: String,
    /// The form of the import, by the name it has in the language's `imports.scm`.
    pub form: String,
    /// Whether it names a part of the program itself: a relative path, `crate`, a module declared in the same file.
    pub is_local: bool,
    /// Where.
    pub place: Place,
}

/// A declared name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// What it names.
    pub kind: DeclarationKind,
    /// The name.
    pub name: String,
    /// Whether the name follows no habit: the language or an import fixes it.
    pub is_exempt: bool,
    /// Where.
    pub place: Place,
}

/// The signature of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The name of the function.
    pub name: String,
    /// The signature without the body, on one line.
    pub text: String,
    /// Whether the function has a body.
    pub has_body: bool,
    /// Whether the body only says that it is missing: `todo!()`, `pass`.
    pub is_stub: bool,
    /// Whether it stands inside a type, module or function.
    pub is_nested: bool,
    /// Where.
    pub place: Place,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// What is called: `eval`, `os.system`, `std::process::exit`; `.unwrap` where it is called on what has no name.
    /// A macro goes without its `!`.
    pub path: String,
    /// Where.
    pub place: Place,
}

/// A text literal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Literal {
    /// What it stands for; parts that are computed stay as they are written.
    pub text: String,
    /// Where.
    pub place: Place,
}

/// A name that is given a text literal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiteralValue {
    /// The name of the variable, field, key or argument.
    pub name: String,
    /// Where.
    pub place: Place,
}
