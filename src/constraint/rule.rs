//! The machine payload of a constraint: never a sentence to be keyword-matched.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ForbiddenText, Grammar, MatchMode, RegexPattern};

/// What a constraint demands, tagged by `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// The output is a JSON document valid under the schema.
    JsonSchema {
        /// The schema, with `$defs` for what it refers to. The order of properties is kept.
        schema: Value,
    },
    /// The output is a sentence of the grammar.
    Grammar {
        /// The grammar.
        grammar: Grammar,
    },
    /// The alternation of the patterns binds the output.
    Regex {
        /// The alternatives.
        any_of: Vec<RegexPattern>,
        /// How they bind.
        #[serde(rename = "match")]
        match_mode: MatchMode,
    },
    /// These never appear.
    ForbiddenText {
        /// The texts and patterns.
        any_of: Vec<ForbiddenText>,
    },
    /// Which token ids may be sampled.
    Tokens {
        /// Only these, when given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allow: Option<Vec<u32>>,
        /// None of these.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deny: Option<Vec<u32>>,
    },
    /// The output is valid code.
    Language {
        /// The language.
        language: Language,
        /// How much of a program the output is.
        granularity: Granularity,
    },
    /// Which modules may be imported. Needs a `language` rule.
    Imports {
        /// The language it speaks of; by default every language of the set's `language` rules.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<Language>,
        /// Only these, when given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allow: Option<Vec<String>>,
        /// None of these.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deny: Vec<String>,
    },
    /// How declared names are written. Needs a `language` rule.
    Names {
        /// The language it speaks of; by default every language of the set's `language` rules.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<Language>,
        /// Which declarations.
        declaration: DeclarationKind,
        /// The convention they follow.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        convention: Option<NamingConvention>,
        /// Only these names, when given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allow: Option<Vec<String>>,
    },
    /// The output declares exactly this signature. Needs a `language` rule.
    Signature {
        /// The language it speaks of; by default every language of the set's `language` rules.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<Language>,
        /// The signature, word for word.
        signature: String,
    },
    /// Which functions may or must be called. Needs a `language` rule.
    Calls {
        /// The language it speaks of; by default every language of the set's `language` rules.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<Language>,
        /// None of these.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        deny: Vec<String>,
        /// All of these.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        require: Vec<String>,
    },
    /// What no text literal contains. Needs a `language` rule.
    Literals {
        /// The language it speaks of; by default every language of the set's `language` rules.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<Language>,
        /// Regexes over a literal as it is written, quotes included.
        refuse: Vec<String>,
    },
    /// Names that are never given a text literal: credentials. Needs a `language` rule.
    Secrets {
        /// The language it speaks of; by default every language of the set's `language` rules.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<Language>,
        /// Regexes of whole names.
        names: Vec<String>,
    },
    /// How long the output may be.
    Length {
        /// At most this many tokens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_tokens: Option<u32>,
        /// At most this many code points.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_chars: Option<u32>,
    },
    /// A preference inside what the hard rules allow.
    Bias {
        /// Literal bytes; exactly one of `text` and `regex` is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// A pattern.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        regex: Option<String>,
        /// Logit units per full match.
        bias: f32,
    },
    /// A sentence for the prompt and the report; it enforces nothing.
    Prose {
        /// The sentence.
        text: String,
    },
}

impl Rule {
    /// The value of the `type` tag.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::JsonSchema { .. } => "json_schema",
            Self::Grammar { .. } => "grammar",
            Self::Regex { .. } => "regex",
            Self::ForbiddenText { .. } => "forbidden_text",
            Self::Tokens { .. } => "tokens",
            Self::Language { .. } => "language",
            Self::Imports { .. } => "imports",
            Self::Names { .. } => "names",
            Self::Signature { .. } => "signature",
            Self::Calls { .. } => "calls",
            Self::Literals { .. } => "literals",
            Self::Secrets { .. } => "secrets",
            Self::Length { .. } => "length",
            Self::Bias { .. } => "bias",
            Self::Prose { .. } => "prose",
        }
    }
}

/// A programming language that source code is read in or output is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// TypeScript.
    Typescript,
    /// Python.
    Python,
    /// Rust.
    Rust,
    /// Zig.
    Zig,
    /// Go.
    Go,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 5] = [Self::Typescript, Self::Python, Self::Rust, Self::Zig, Self::Go];
}

/// How much of a program an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// A whole file.
    File,
    /// A sequence of statements.
    Statements,
    /// The body of a function.
    FunctionBody,
    /// One expression.
    Expression,
}

/// What kind of declaration a naming rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeclarationKind {
    /// Functions and methods.
    Function,
    /// Classes, structs, interfaces, enums and type aliases.
    Type,
    /// Variables and parameters.
    Variable,
    /// Constants.
    Constant,
    /// Fields and properties.
    Field,
}

impl DeclarationKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Function, Self::Type, Self::Variable, Self::Constant, Self::Field];
}

/// How words are joined into a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamingConvention {
    /// `read_lines`
    SnakeCase,
    /// `readLines`
    CamelCase,
    /// `ReadLines`
    PascalCase,
    /// `READ_LINES`
    ScreamingSnakeCase,
}

impl NamingConvention {
    /// Whether a name is written so: `_`, `$` and `#` before it and `_` behind it do not count, and a name of nothing
    /// else is written in every convention.
    #[must_use]
    pub fn fits(self, name: &str) -> bool {
        let word = name.trim_start_matches(['_', '$', '#']).trim_end_matches('_');
        let all = |allowed: fn(char) -> bool| word.chars().all(allowed);
        let begins = |allowed: fn(&char) -> bool| word.chars().next().as_ref().is_none_or(allowed);
        match self {
            Self::SnakeCase => {
                begins(char::is_ascii_lowercase) && all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            }
            Self::CamelCase => begins(char::is_ascii_lowercase) && all(|c| c.is_ascii_alphanumeric()),
            Self::PascalCase => begins(char::is_ascii_uppercase) && all(|c| c.is_ascii_alphanumeric()),
            Self::ScreamingSnakeCase => {
                begins(char::is_ascii_uppercase) && all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NamingConvention::{CamelCase, PascalCase, ScreamingSnakeCase, SnakeCase};

    #[test]
    fn names_are_told_by_their_convention() {
        for (name, convention, holds) in [
            ("read_lines", SnakeCase, true),
            ("readLines", SnakeCase, false),
            ("_private_", SnakeCase, true),
            ("readLines", CamelCase, true),
            ("_readLines", CamelCase, true),
            ("$readLines", CamelCase, true),
            ("#count", CamelCase, true),
            ("read_lines", CamelCase, false),
            ("ReadLines", CamelCase, false),
            ("ReadLines", PascalCase, true),
            ("Read_Lines", PascalCase, false),
            ("READ_LINES", ScreamingSnakeCase, true),
            ("Read_Lines", ScreamingSnakeCase, false),
            ("2nd", SnakeCase, false),
            ("größe", SnakeCase, false),
            ("_", PascalCase, true),
            ("", SnakeCase, true),
        ] {
            assert_eq!(convention.fits(name), holds, "{name} in {convention:?}");
        }
    }
}
