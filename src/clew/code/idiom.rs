//! What differs between languages, as data: a grammar, query files and a few words.
//!
//! `queries/README.md` is the recipe for a further language.

use super::modules::Modules;
use crate::clew::is_read_with_jsx;
use crate::clew::syntax::Dialect;
use crate::constraint::{Granularity, Language};

/// One language, as far as mining goes.
pub(super) struct Idiom {
    /// Its name in sentences.
    pub(super) name: &'static str,
    /// The grammar and the query files.
    pub(super) dialect: Dialect,
    /// How modules are named.
    pub(super) modules: Modules,
    /// Nodes that are text literals.
    pub(super) text_kinds: &'static [&'static str],
    /// Parts of a literal that are computed.
    pub(super) computed_kinds: &'static [&'static str],
    /// What a fragment stands between, so that it is a file: a function's body, an expression.
    pub(super) body: (&'static str, &'static str),
    pub(super) expression: (&'static str, &'static str),
    /// Whether the grammar wants something between `{` and `}` and makes it up where nothing stands there.
    pub(super) makes_up_members: bool,
    /// Whether statements may stand in a file as they are.
    pub(super) has_free_statements: bool,
    /// Whether a text may stand in single or double quotes alike.
    pub(super) has_two_quotes: bool,
    /// First segments of paths that are no modules.
    pub(super) builtin_roots: &'static [&'static str],
    /// Calls and words that are worth refusing where a code base does without them.
    pub(super) dangers: &'static str,
}

/// The query files of a folder as one query.
macro_rules! queries {
    ($language:literal) => {
        concat!(
            include_str!(concat!("../queries/", $language, "/patterns.scm")),
            include_str!(concat!("../queries/", $language, "/imports.scm")),
            include_str!(concat!("../queries/", $language, "/names.scm")),
            include_str!(concat!("../queries/", $language, "/signatures.scm")),
            include_str!(concat!("../queries/", $language, "/calls.scm")),
            include_str!(concat!("../queries/", $language, "/literals.scm")),
            include_str!(concat!("../queries/", $language, "/tests.scm")),
        )
    };
}

const fn typescript(grammar: fn() -> tree_sitter::Language) -> Idiom {
    Idiom {
        name: "TypeScript",
        dialect: Dialect::new(grammar, queries!("typescript")),
        modules: Modules::Packages,
        text_kinds: &["string", "template_string"],
        computed_kinds: &["template_substitution"],
        body: ("async function* _() {\n", "\n}"),
        expression: ("x = (\n", "\n);\n"),
        makes_up_members: false,
        has_free_statements: true,
        has_two_quotes: true,
        builtin_roots: &[],
        dangers: include_str!("../queries/typescript/dangers.txt"),
    }
}

/// Rust's primitive types, which have paths of their own.
const PRIMITIVES: [&str; 17] = [
    "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
    "f32", "f64",
];

static TYPESCRIPT: Idiom = typescript(|| tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into());
static TSX: Idiom = typescript(|| tree_sitter_typescript::LANGUAGE_TSX.into());
static PYTHON: Idiom = Idiom {
    name: "Python",
    dialect: Dialect::new(|| tree_sitter_python::LANGUAGE.into(), queries!("python")),
    modules: Modules::Dotted,
    text_kinds: &["string", "concatenated_string"],
    computed_kinds: &["interpolation"],
    body: ("async def _():\n", "\n"),
    expression: ("x = (\n", "\n)\n"),
    makes_up_members: false,
    has_free_statements: true,
    has_two_quotes: true,
    builtin_roots: &[],
    dangers: include_str!("../queries/python/dangers.txt"),
};
static RUST: Idiom = Idiom {
    name: "Rust",
    dialect: Dialect::new(|| tree_sitter_rust::LANGUAGE.into(), queries!("rust")),
    modules: Modules::Crates,
    text_kinds: &["string_literal", "raw_string_literal"],
    computed_kinds: &[],
    body: ("fn _f() {\n", "\n}"),
    expression: ("fn _f() { x =\n", "\n; }\n"),
    makes_up_members: false,
    has_free_statements: false,
    has_two_quotes: false,
    builtin_roots: &PRIMITIVES,
    dangers: include_str!("../queries/rust/dangers.txt"),
};
static GO: Idiom = Idiom {
    name: "Go",
    dialect: Dialect::new(|| tree_sitter_go::LANGUAGE.into(), queries!("go")),
    modules: Modules::Paths,
    text_kinds: &["interpreted_string_literal", "raw_string_literal"],
    computed_kinds: &[],
    body: ("package p\nfunc _() {\n", "\n}"),
    expression: ("package p\nvar _ = (\n", ")\n"),
    makes_up_members: false,
    has_free_statements: false,
    has_two_quotes: false,
    builtin_roots: &[],
    dangers: include_str!("../queries/go/dangers.txt"),
};
static ZIG: Idiom = Idiom {
    name: "Zig",
    dialect: Dialect::new(|| tree_sitter_zig::LANGUAGE.into(), queries!("zig")),
    modules: Modules::Files,
    text_kinds: &["string", "multiline_string"],
    computed_kinds: &[],
    body: ("fn _f() void {\n", "\n}"),
    expression: ("const _ =\n", "\n;\n"),
    makes_up_members: true,
    has_free_statements: false,
    has_two_quotes: false,
    builtin_roots: &[],
    dangers: include_str!("../queries/zig/dangers.txt"),
};

/// The idiom of a language; the file's extension tells TypeScript's dialects apart. JavaScript is read with JSX.
pub(super) fn idiom(language: Language, file: &str) -> &'static Idiom {
    match language {
        Language::Typescript if is_read_with_jsx(file) => &TSX,
        Language::Typescript => &TYPESCRIPT,
        Language::Python => &PYTHON,
        Language::Rust => &RUST,
        Language::Go => &GO,
        Language::Zig => &ZIG,
    }
}

/// Every idiom, for tests that go through all of them.
#[cfg(test)]
pub(super) static ALL: [&Idiom; 6] = [&TYPESCRIPT, &TSX, &PYTHON, &RUST, &GO, &ZIG];

impl Idiom {
    /// What a fragment stands between; both end in a line break, so that lines shift and columns stay.
    pub(super) fn around(&self, granularity: Granularity) -> (&'static str, &'static str) {
        match granularity {
            Granularity::File => ("", ""),
            Granularity::Statements if self.has_free_statements => ("", ""),
            Granularity::Statements | Granularity::FunctionBody => self.body,
            Granularity::Expression => self.expression,
        }
    }
}
