//! The shared nouns: a [`Constraint`] and the [`ConstraintSet`] it is kept in, the machine payload ([`Rule`])
//! it carries, and the [`ConstraintIr`] that a set is compiled to.
//!
//! Everything here is a plain value with serde: no IO, no clock, no tokenizer.
//! What a constraint *means* for a vocabulary is `guide`'s business; how a set becomes an IR is `braid`'s.

mod code;
mod digest;
mod ir;
mod regions;
mod rule;
mod set;

pub use code::{Code, CodeRules, ImportRule, Layout, NameRule};
pub use digest::Digest;
pub use ir::{
    ConstraintIr, ForbiddenText, Grammar, GrammarSyntax, IR_VERSION, IrError, JsonWhitespace, Limits, Lost, MatchMode,
    NotApplied, OnUnknown, RegexGroup, RegexPattern, Scope, SoftBias, SourceRef, TextOrRegex, TokenMasks,
};
pub use regions::{Content, FreeText, Regions, Structure};
pub use rule::{DeclarationKind, Granularity, Language, NamingConvention, Rule};
pub use set::{Constraint, ConstraintSet, Diagnostic, Kind, Origin, Priority, Severity, Source, Strength};
