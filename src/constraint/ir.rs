//! The constraint IR, version 1: what an output must satisfy, in the few formats a decoder can enforce.
//!
//! The parts of an IR are a conjunction, and so are several IRs given with one request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Code, Digest, Language, Regions, Strength};

/// The only IR version this build reads and writes.
pub const IR_VERSION: u32 = 1;

/// What the output must satisfy; every hard part is enforced at the logits, all parts at once.
///
/// What is judged are the bytes returned as content: no echo, no chat template, stop string excluded, nothing trimmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstraintIr {
    /// Version of this format; only 1 exists.
    #[serde(default = "ir_version")]
    pub version: u32,
    /// A name for people, in errors and reports.
    #[serde(default)]
    pub name: String,
    /// Rank among IRs, for reports; it never weakens a part.
    #[serde(default)]
    pub priority: u32,
    /// The language the output is written in, where that is known. It labels; the `grammar` enforces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// The output is code of one language, under rules about it. It stands beside `grammar`: both hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The output is one JSON document valid under this schema. Properties are generated in the schema's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<Value>,
    /// The output is a sentence of this grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<Grammar>,
    /// Parts of the output are bound, each by its own schema, grammar or pattern, with free text around them. The other
    /// fields bind the whole output all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Regions>,
    /// Each group holds for the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regex_patterns: Vec<RegexGroup>,
    /// Which token ids may be sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_masks: Option<TokenMasks>,
    /// Bytes that never appear in the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbidden_text: Vec<ForbiddenText>,
    /// Preferences among what the hard parts allow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub soft: Vec<SoftBias>,
    /// Sizes the output keeps to.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// What becomes of a set of parts of which it is not known whether any output satisfies it; with several IRs,
    /// `refuse` wins.
    #[serde(default, skip_serializing_if = "OnUnknown::is_default")]
    pub on_unknown: OnUnknown,
    /// Which constraints the parts come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceRef>,
    /// Constraints that only inform: they go into the prompt and the report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisory: Vec<NotApplied>,
    /// Constraints that lost a conflict, and to which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
    /// Constraints of the set that no part carries, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_applied: Vec<NotApplied>,
    /// Digest of the IR without this field; when a client sends one it must be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

fn ir_version() -> u32 {
    IR_VERSION
}

/// A grammar in one of the accepted syntaxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grammar {
    /// How `source` is written.
    pub syntax: GrammarSyntax,
    /// The rules.
    pub source: String,
    /// The start rule; default `start` (lark), `root` (gbnf), the first rule (ebnf).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

/// The notation of a [`Grammar`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GrammarSyntax {
    /// llguidance's dialect of Lark.
    Lark,
    /// W3C (`::=`) or ISO 14977 (`=` `,` `;`) EBNF.
    Ebnf,
    /// llama.cpp's GBNF.
    Gbnf,
}

/// One alternation of patterns, with how it binds the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegexGroup {
    /// The alternatives; at least one.
    pub any_of: Vec<RegexPattern>,
    /// How the alternation binds the output.
    #[serde(rename = "match")]
    pub match_mode: MatchMode,
}

/// A pattern in the syntax of Rust's `regex` crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegexPattern {
    /// The pattern, without delimiters.
    pub pattern: String,
    /// Any of `i`, `m`, `s`, `x`; JavaScript's `g` changes nothing and is accepted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub flags: String,
}

/// How a regex group binds the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatchMode {
    /// The whole output matches.
    Full,
    /// A match, then anything.
    Prefix,
    /// A match somewhere.
    Contains,
    /// No match anywhere; refused for a pattern that matches the empty string.
    Absent,
}

/// Which token ids may be sampled. The lists bind ids, not text, and never govern end tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenMasks {
    /// Only these ids, when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_tokens: Option<Vec<u32>>,
    /// None of these ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden_tokens: Option<Vec<u32>>,
    /// Digest of the vocabulary the ids belong to; refused when the loaded one differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<Digest>,
}

/// Bytes that never appear, however they are split into tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForbiddenText {
    /// Literal bytes; exactly one of `text` and `regex` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A pattern in the syntax of Rust's `regex` crate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Only where no ASCII word character stands directly before or after it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub whole_word: bool,
    /// ASCII letters match in both cases; other bytes exactly.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_case: bool,
    /// Where it may not appear.
    #[serde(default, skip_serializing_if = "Scope::is_default")]
    pub scope: Scope,
}

/// Either a literal or a pattern: what a [`ForbiddenText`] or [`SoftBias`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextOrRegex<'a> {
    /// Literal bytes.
    Text(&'a str),
    /// A pattern.
    Regex(&'a str),
}

impl ForbiddenText {
    /// A literal that must not appear in the output.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), regex: None, whole_word: false, ignore_case: false, scope: Scope::Output }
    }

    /// What is looked for.
    ///
    /// # Errors
    /// [`IrError::TextOrRegex`] unless exactly one of `text` and `regex` is given.
    pub fn pattern(&self) -> Result<TextOrRegex<'_>, IrError> {
        text_or_regex(self.text.as_deref(), self.regex.as_deref(), "forbidden_text")
    }
}

/// Where forbidden text may not appear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// In the generated bytes.
    #[default]
    Output,
    /// In the generated bytes or across the border between prompt and output.
    Document,
}

impl Scope {
    fn is_default(&self) -> bool {
        *self == Self::Output
    }
}

/// A preference: moves logits inside what the hard parts allow, and never makes a set unsatisfiable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SoftBias {
    /// Literal bytes; exactly one of `text` and `regex` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A pattern in the syntax of Rust's `regex` crate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Logit units per full match: positive prefers, negative avoids.
    pub bias: f32,
}

impl SoftBias {
    /// What is looked for.
    ///
    /// # Errors
    /// [`IrError::TextOrRegex`] unless exactly one of `text` and `regex` is given.
    pub fn pattern(&self) -> Result<TextOrRegex<'_>, IrError> {
        text_or_regex(self.text.as_deref(), self.regex.as_deref(), "soft")
    }
}

fn text_or_regex<'a>(
    text: Option<&'a str>,
    regex: Option<&'a str>,
    part: &'static str,
) -> Result<TextOrRegex<'a>, IrError> {
    match (text, regex) {
        (Some(text), None) => Ok(TextOrRegex::Text(text)),
        (None, Some(regex)) => Ok(TextOrRegex::Regex(regex)),
        _ => Err(IrError::TextOrRegex { part }),
    }
}

/// Sizes the output keeps to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// At most this many tokens; the request's own bound applies as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// At most this many code points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<u32>,
    /// White space between JSON tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_whitespace: Option<JsonWhitespace>,
}

impl Limits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of parts of which it is not known whether any output satisfies them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// They are tried; the output may come to a dead end.
    #[default]
    Admit,
    /// They are refused.
    Refuse,
}

impl OnUnknown {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How much white space may stand between two JSON tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonWhitespace {
    /// Line breaks in a row; default 1.
    pub max_newlines: u32,
    /// Spaces in a row; default 40.
    pub max_spaces: u32,
}

impl Default for JsonWhitespace {
    fn default() -> Self {
        Self { max_newlines: 1, max_spaces: 40 }
    }
}

/// Which constraint a part of the IR comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceRef {
    /// The constraint's id.
    pub id: String,
    /// The constraint's name.
    pub name: String,
    /// The part that carries it, as a path into the IR: `json_schema`, `regex_patterns[0]`.
    pub part: String,
    /// How strongly it binds.
    pub strength: Strength,
}

/// A constraint that no part carries, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotApplied {
    /// The constraint's id, or the name of a field of an imported dialect.
    pub id: String,
    /// The reason, for people.
    pub why: String,
}

/// A constraint that yielded to others it could not hold beside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// The constraint's id.
    pub id: String,
    /// The ids of the constraints it yielded to, sorted.
    pub to: Vec<String>,
    /// The conflict and the reason, for people.
    pub why: String,
}

/// Why a value is not an acceptable IR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IrError {
    /// The version is not one this build knows.
    #[error("constraint IR version {version} is unknown; this build reads version {IR_VERSION}")]
    Version {
        /// The version found.
        version: u32,
    },
    /// The digest in the IR is not the digest of the IR.
    #[error("the IR's digest is {actual}, not {stated}; it was changed after it was compiled")]
    Digest {
        /// The digest the IR carries.
        stated: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// Both or neither of `text` and `regex`.
    #[error("{part}: give exactly one of `text` and `regex`")]
    TextOrRegex {
        /// The part of the IR.
        part: &'static str,
    },
    /// A regex group without patterns, which nothing could match.
    #[error("regex_patterns[{group}]: `any_of` is empty")]
    EmptyGroup {
        /// Index of the group.
        group: usize,
    },
    /// Regions that an output could be read under in two ways, or in none.
    #[error("{place}: {message}")]
    Regions {
        /// The place in the IR: `regions.structures[2].begin`.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A bias that is not a number.
    #[error("soft[{index}]: the bias must be finite")]
    Bias {
        /// Index of the bias.
        index: usize,
    },
}

impl Default for ConstraintIr {
    fn default() -> Self {
        Self {
            version: IR_VERSION,
            name: String::new(),
            priority: 0,
            language: None,
            code: None,
            json_schema: None,
            grammar: None,
            regions: None,
            regex_patterns: Vec::new(),
            token_masks: None,
            forbidden_text: Vec::new(),
            soft: Vec::new(),
            limits: Limits::default(),
            on_unknown: OnUnknown::default(),
            sources: Vec::new(),
            advisory: Vec::new(),
            lost: Vec::new(),
            not_applied: Vec::new(),
            digest: None,
        }
    }
}

impl ConstraintIr {
    /// An IR whose one part is a JSON Schema.
    #[must_use]
    pub fn from_json_schema(schema: Value) -> Self {
        Self { json_schema: Some(schema), ..Self::default() }
    }

    /// Digest of everything but the `digest` field: order-sensitive in `json_schema`, canonical elsewhere.
    #[must_use]
    pub fn compute_digest(&self) -> Digest {
        Digest::of_value(&Self { digest: None, ..self.clone() })
    }

    /// The IR with its digest filled in.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.digest = Some(self.compute_digest());
        self
    }

    /// Checks what serde cannot: version, digest, and the either-or fields.
    ///
    /// # Errors
    /// The first [`IrError`] found.
    pub fn validate(&self) -> Result<(), IrError> {
        if self.version != IR_VERSION {
            return Err(IrError::Version { version: self.version });
        }
        for (group, regexes) in self.regex_patterns.iter().enumerate() {
            if regexes.any_of.is_empty() {
                return Err(IrError::EmptyGroup { group });
            }
        }
        if let Some(regions) = &self.regions {
            regions.validate()?;
        }
        for forbidden in &self.forbidden_text {
            forbidden.pattern()?;
        }
        for (index, soft) in self.soft.iter().enumerate() {
            soft.pattern()?;
            if !soft.bias.is_finite() {
                return Err(IrError::Bias { index });
            }
        }
        match self.digest {
            Some(stated) if stated != self.compute_digest() => {
                Err(IrError::Digest { stated, actual: self.compute_digest() })
            }
            _ => Ok(()),
        }
    }

    /// Whether the IR asks for nothing that binds the text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.json_schema.is_none()
            && self.grammar.is_none()
            && self.code.is_none()
            && self.regions.is_none()
            && self.regex_patterns.is_empty()
            && self.token_masks.is_none()
            && self.forbidden_text.is_empty()
            && self.soft.is_empty()
            && self.limits.is_default()
    }

    /// The JSON Schema of this format.
    #[must_use]
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<ConstraintIr, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn unknown_keys_are_refused_at_every_level() {
        for bad in [
            json!({"jsonschema": {}}),
            json!({"grammar": {"syntax": "lark", "source": "start: \"a\"", "root": "start"}}),
            json!({"regex_patterns": [{"any_of": [{"pattern": "a"}], "match": "full", "mode": 1}]}),
            json!({"forbidden_text": [{"text": "a", "wholeword": true}]}),
        ] {
            assert!(parse(bad.clone()).is_err(), "{bad} must be refused");
        }
    }

    #[test]
    fn an_ir_that_binds_code_alone_is_not_empty() {
        let code = json!({"language": "python", "granularity": "file", "grammar": "start: \"a\""});
        assert!(!parse(json!({"code": code})).expect("a well-formed IR").is_empty());
        assert!(ConstraintIr::default().is_empty());
    }

    #[test]
    fn match_mode_is_required() {
        assert!(parse(json!({"regex_patterns": [{"any_of": [{"pattern": "a"}]}]})).is_err());
    }

    #[test]
    fn a_changed_ir_no_longer_has_its_digest() {
        let mut ir = ConstraintIr::from_json_schema(json!({"type": "string"})).sealed();
        assert_eq!(ir.validate(), Ok(()));
        ir.priority = 3;
        assert!(matches!(ir.validate(), Err(IrError::Digest { .. })));
    }

    #[test]
    fn either_or_fields_are_checked() {
        let both = parse(json!({"forbidden_text": [{"text": "a", "regex": "a"}]})).expect("well-formed");
        assert_eq!(both.validate(), Err(IrError::TextOrRegex { part: "forbidden_text" }));
        let neither = parse(json!({"soft": [{"bias": 1.0}]})).expect("well-formed");
        assert_eq!(neither.validate(), Err(IrError::TextOrRegex { part: "soft" }));
    }

    #[test]
    fn the_published_schema_describes_what_serde_reads() {
        let schema = ConstraintIr::schema();
        assert_eq!(schema["additionalProperties"], json!(false));
        assert!(schema["properties"]["forbidden_text"].is_object());
    }
}
