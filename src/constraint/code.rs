//! The part of an IR that binds the output to a programming language.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeclarationKind, Granularity, Language, NamingConvention};

/// Code of one language: the grammar that the masks follow, and the rules it was made from.
///
/// Braid writes the grammar; the rules are kept beside it so that finished text can be judged by engines that know
/// nothing of the grammar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// The language.
    pub language: Language,
    /// How much of a program the output is.
    pub granularity: Granularity,
    /// Whether the code is the document that the output stands in, from the first byte of the prompt to the last of the
    /// suffix, and not the output alone. Set by itself where the output fills a hole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub document: bool,
    /// What the code keeps to, beside the syntax.
    #[serde(default, skip_serializing_if = "CodeRules::is_empty")]
    pub rules: CodeRules,
    /// The language's grammar with the rules filled in, in llguidance's dialect of Lark.
    pub grammar: String,
    /// The automaton that follows what no grammar can: indentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

/// Block structure by white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Python's indentation, of any width.
    Python,
}

/// Rules about code; all of them hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CodeRules {
    /// Which modules may be imported, by their roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imports: Option<ImportRule>,
    /// How declared names are written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameRule>,
    /// A function with this signature is declared, word for word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// What is never called: `eval`, `os.system`, or `.unwrap` on whatever it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_calls: Vec<String>,
    /// Regexes that no text literal contains a match of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused_literals: Vec<String>,
    /// Regexes of whole names that are never given a text literal: credentials.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secret_names: Vec<String>,
}

impl CodeRules {
    /// Whether nothing is asked for beside the syntax.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which modules may be imported, by their roots: the package, not the path within it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImportRule {
    /// Only these, when given; sorted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// None of these; sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// How the names of one kind of declaration are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameRule {
    /// Which declarations.
    pub declaration: DeclarationKind,
    /// The convention they follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convention: Option<NamingConvention>,
    /// Only these names, when given; sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
}
