//! Constraints and the ordered, duplicate-free list they are kept in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Digest, Rule};

/// One rule, with where it was found, how sure we are, and how strongly it binds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// Digest of the rule: the same rule found twice is one constraint with frequency 2.
    /// A client that writes a constraint by hand may leave it out; [`ConstraintSet::push`] fills it in.
    #[serde(default)]
    pub id: String,
    /// A short name; for a mined type, the type's own.
    pub name: String,
    /// What the rule says, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What the rule is about.
    pub kind: Kind,
    /// How the rule was found.
    pub source: Source,
    /// How bad a breach is.
    #[serde(default)]
    pub severity: Severity,
    /// Rank among rules of one severity.
    #[serde(default)]
    pub priority: Priority,
    /// How strongly it binds.
    #[serde(default)]
    pub strength: Strength,
    /// How sure we are, in `0.0..=1.0`.
    #[serde(default = "certain")]
    pub confidence: f32,
    /// How often the rule was found.
    #[serde(default = "once")]
    pub frequency: u32,
    /// Where it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Ids of constraints that this one presupposes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// The machine payload.
    pub rule: Rule,
}

fn certain() -> f32 {
    1.0
}

fn once() -> u32 {
    1
}

impl Constraint {
    /// A hard rule that a person states.
    pub fn stated(name: impl Into<String>, kind: Kind, rule: Rule) -> Self {
        Self {
            id: Self::id_of(&rule),
            name: name.into(),
            description: String::new(),
            kind,
            source: Source::UserDefined,
            severity: Severity::Error,
            priority: Priority::High,
            strength: Strength::Hard,
            confidence: certain(),
            frequency: once(),
            origin: None,
            depends_on: Vec::new(),
            rule,
        }
    }

    /// The id of a rule: the first 16 hex digits of its digest.
    #[must_use]
    pub fn id_of(rule: &Rule) -> String {
        Digest::of_value(rule).to_string()[..16].to_owned()
    }
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    Syntactic,
    TypeSafety,
    Semantic,
    Architectural,
    Operational,
    Security,
}

/// How a rule was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Source {
    AstPattern,
    TypeSystem,
    ControlFlow,
    DataFlow,
    TestMining,
    Documentation,
    Telemetry,
    UserDefined,
    LlmAnalysis,
}

/// How bad a breach of the rule is; ordered from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Severity {
    Hint,
    Info,
    Warning,
    #[default]
    Error,
}

/// Rank among rules of one severity; ordered from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Priority {
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

/// How strongly a rule binds; ordered from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// Only goes into the prompt and the report.
    Advisory,
    /// Biases inside what the hard rules allow.
    Soft,
    /// Masks.
    #[default]
    Hard,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The file, as it was named to the extractor.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
}

/// An ordered, duplicate-free list of constraints, with what the extractor could not read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstraintSet {
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// The constraints, in the order they were found.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    /// What was skipped while extracting, and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

impl ConstraintSet {
    /// Adds a constraint; a rule already present only gains frequency, and the higher of the two confidences.
    pub fn push(&mut self, mut constraint: Constraint) {
        constraint.id = Constraint::id_of(&constraint.rule);
        match self.constraints.iter_mut().find(|known| known.id == constraint.id) {
            Some(known) => {
                known.frequency = known.frequency.saturating_add(constraint.frequency);
                known.confidence = known.confidence.max(constraint.confidence);
            }
            None => self.constraints.push(constraint),
        }
    }

    /// The first constraint with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Constraint> {
        self.constraints.iter().find(|constraint| constraint.name == name)
    }
}

/// Something in the source that gave no constraint, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Diagnostic {
    /// Where.
    pub origin: Origin,
    /// What and why, for people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_rule_twice_is_one_constraint_with_frequency_two() {
        let rule = Rule::JsonSchema { schema: json!({"type": "string"}) };
        let mut set = ConstraintSet::default();
        set.push(Constraint::stated("a", Kind::TypeSafety, rule.clone()));
        set.push(Constraint::stated("b", Kind::TypeSafety, rule));
        assert_eq!(set.constraints.len(), 1);
        assert_eq!(set.constraints[0].frequency, 2);
    }

    #[test]
    fn a_hand_written_constraint_needs_only_the_essentials() {
        let constraint: Constraint = serde_json::from_value(json!({
            "name": "no-eval", "kind": "security", "source": "user_defined",
            "rule": {"type": "forbidden_text", "any_of": [{"text": "eval("}]}
        }))
        .expect("defaults fill the rest");
        assert_eq!(constraint.strength, Strength::Hard);
    }
}
