//! Each rule to the part of the IR that carries it.

use std::collections::BTreeSet;

use petgraph::graph::NodeIndex;
use serde_json::Value;

use super::graph::{Graph, Member, is_mined_type};
use super::language::{self, CodeInTheMaking};
use super::{BraidError, schema};
use crate::constraint::{
    ConstraintIr, Grammar, NotApplied, Priority, RegexGroup, Rule, SoftBias, SourceRef, Strength, TokenMasks,
};

/// An IR in the making.
pub(super) struct Lowering<'g> {
    ir: ConstraintIr,
    root: Option<Root<'g>>,
    code: CodeInTheMaking,
    /// Schemas that bind, with the names of their constraints; the root's first.
    schemas: Vec<(String, Value)>,
    /// Who gave the grammar.
    grammar_from: Option<String>,
}

struct Root<'g> {
    member: Member<'g>,
    parts: BTreeSet<NodeIndex>,
}

impl<'g> Lowering<'g> {
    pub(super) fn new(graph: &'g Graph<'_>, root: Option<Member<'g>>) -> Self {
        let mut lowering = Self {
            ir: ConstraintIr::default(),
            root: root.map(|member| Root { member, parts: graph.dependencies(member.index) }),
            code: CodeInTheMaking::default(),
            schemas: Vec::new(),
            grammar_from: None,
        };
        if let Some(root) = root {
            lowering.bind_schema(root);
        }
        lowering
    }

    /// Lowers one constraint: it ends in `sources` or in `not_applied`.
    pub(super) fn lower(&mut self, member: Member<'_>) -> Result<(), BraidError> {
        if is_mined_type(member.constraint) {
            self.mined_type(member);
            return Ok(());
        }
        match (member.constraint.strength, &member.constraint.rule) {
            (Strength::Advisory, _) => self.skip(member, "advisory: it informs, and enforces nothing"),
            (_, Rule::Prose { .. }) => self.skip(member, "prose is advisory: it informs, and enforces nothing"),
            (_, Rule::Bias { text, regex, bias }) => {
                self.ir.soft.push(SoftBias { text: text.clone(), regex: regex.clone(), bias: *bias });
                self.carry(member, format!("soft[{}]", self.ir.soft.len() - 1), Strength::Soft);
            }
            (Strength::Soft, rule) => {
                let why = format!("soft: a {} rule has no soft form; make it hard or state a bias", rule.type_name());
                self.skip(member, &why);
            }
            (Strength::Hard, rule) => self.hard(member, rule)?,
        }
        Ok(())
    }

    /// The IR, complete and sealed.
    pub(super) fn finish(mut self, set_name: &str) -> Result<ConstraintIr, BraidError> {
        let root = self.root.as_ref().map(|root| root.member.constraint.name.clone());
        self.ir.name = root.unwrap_or_else(|| set_name.to_owned());
        self.ir.json_schema = schema::all_of(self.schemas)?;
        self.ir.code = self.code.finish();
        self.ir.validate()?;
        Ok(self.ir.sealed())
    }

    fn mined_type(&mut self, member: Member<'_>) {
        let Some(root) = &self.root else {
            return self.skip(member, "not the chosen type");
        };
        if member.index == root.member.index {
            return;
        }
        let name = &root.member.constraint.name;
        let why = if root.parts.contains(&member.index) {
            format!("part of {name}")
        } else {
            format!("not the chosen type ({name})")
        };
        self.skip(member, &why);
    }

    fn bind_schema(&mut self, member: Member<'_>) {
        if let Rule::JsonSchema { schema } = &member.constraint.rule {
            self.schemas.push((member.constraint.name.clone(), schema.clone()));
            self.carry(member, "json_schema", Strength::Hard);
        }
    }

    fn hard(&mut self, member: Member<'_>, rule: &Rule) -> Result<(), BraidError> {
        match rule {
            Rule::JsonSchema { .. } => self.bind_schema(member),
            Rule::Grammar { grammar } => self.grammar(member, grammar)?,
            Rule::Regex { any_of, match_mode } => {
                self.ir.regex_patterns.push(RegexGroup { any_of: any_of.clone(), match_mode: *match_mode });
                self.carry(member, format!("regex_patterns[{}]", self.ir.regex_patterns.len() - 1), Strength::Hard);
            }
            Rule::ForbiddenText { any_of } => {
                for forbidden in any_of {
                    self.ir.forbidden_text.push(forbidden.clone());
                    let part = format!("forbidden_text[{}]", self.ir.forbidden_text.len() - 1);
                    self.carry(member, part, Strength::Hard);
                }
                if any_of.is_empty() {
                    self.skip(member, NOTHING);
                }
            }
            Rule::Tokens { allow, deny } => self.tokens(member, allow.as_deref(), deny.as_deref()),
            Rule::Length { max_tokens, max_chars } => self.length(member, *max_tokens, *max_chars),
            Rule::Language { language, granularity } => {
                if !self.code.speak(*language, *granularity) {
                    let why = "the set says otherwise already: one output is of one language and size".to_owned();
                    return Err(unfit(member, why));
                }
                self.carry(member, "code.language", Strength::Hard);
            }
            Rule::Imports { .. }
            | Rule::Names { .. }
            | Rule::Signature { .. }
            | Rule::Calls { .. }
            | Rule::Literals { .. }
            | Rule::Secrets { .. } => self.code(member, rule)?,
            // Never masks, whatever their strength: lowered or skipped before.
            Rule::Bias { .. } | Rule::Prose { .. } => {}
        }
        Ok(())
    }

    /// A rule about code binds where the output is code of its language.
    fn code(&mut self, member: Member<'_>, rule: &Rule) -> Result<(), BraidError> {
        let Some(language) = self.code.language() else { return Err(needs_language(member)) };
        if let Some(other) = language::language_of(rule).filter(|other| *other != language) {
            self.skip(member, &format!("it speaks of {other:?}, and the output is {language:?}"));
            return Ok(());
        }
        let part = self.code.bind(rule).map_err(|why| unfit(member, why))?;
        self.carry(member, part, Strength::Hard);
        Ok(())
    }

    fn grammar(&mut self, member: Member<'_>, grammar: &Grammar) -> Result<(), BraidError> {
        // Equal rules are one constraint, so a second grammar is another one.
        if let Some(first) = &self.grammar_from {
            let (first, second) = (first.clone(), member.constraint.name.clone());
            return Err(BraidError::ConflictingGrammars { first, second });
        }
        self.grammar_from = Some(member.constraint.name.clone());
        self.ir.grammar = Some(grammar.clone());
        self.carry(member, "grammar", Strength::Hard);
        Ok(())
    }

    /// Allow-lists intersect, deny-lists unite.
    fn tokens(&mut self, member: Member<'_>, allow: Option<&[u32]>, deny: Option<&[u32]>) {
        if allow.is_none() && deny.is_none() {
            return self.skip(member, NOTHING);
        }
        let masks = self.ir.token_masks.get_or_insert_with(TokenMasks::default);
        if let Some(allow) = allow {
            let mut allowed: BTreeSet<u32> = allow.iter().copied().collect();
            if let Some(before) = &masks.allowed_tokens {
                allowed.retain(|id| before.binary_search(id).is_ok());
            }
            masks.allowed_tokens = Some(allowed.into_iter().collect());
        }
        if let Some(deny) = deny {
            let before = masks.forbidden_tokens.take().unwrap_or_default();
            let forbidden: BTreeSet<u32> = before.iter().chain(deny).copied().collect();
            masks.forbidden_tokens = Some(forbidden.into_iter().collect());
        }
        if allow.is_some() {
            self.carry(member, "token_masks.allowed_tokens", Strength::Hard);
        }
        if deny.is_some() {
            self.carry(member, "token_masks.forbidden_tokens", Strength::Hard);
        }
    }

    fn length(&mut self, member: Member<'_>, max_tokens: Option<u32>, max_chars: Option<u32>) {
        let tighter = |limit: Option<u32>, other: u32| Some(limit.map_or(other, |limit| limit.min(other)));
        if let Some(max_tokens) = max_tokens {
            self.ir.limits.max_tokens = tighter(self.ir.limits.max_tokens, max_tokens);
            self.carry(member, "limits.max_tokens", Strength::Hard);
        }
        if let Some(max_chars) = max_chars {
            self.ir.limits.max_chars = tighter(self.ir.limits.max_chars, max_chars);
            self.carry(member, "limits.max_chars", Strength::Hard);
        }
        if max_tokens.is_none() && max_chars.is_none() {
            self.skip(member, NOTHING);
        }
    }

    fn carry(&mut self, member: Member<'_>, part: impl Into<String>, strength: Strength) {
        self.ir.priority = self.ir.priority.max(rank(member.constraint.priority));
        let (id, name) = (member.id.to_owned(), member.constraint.name.clone());
        self.ir.sources.push(SourceRef { id, name, part: part.into(), strength });
    }

    fn skip(&mut self, member: Member<'_>, why: &str) {
        self.ir.not_applied.push(NotApplied { id: member.id.to_owned(), why: why.to_owned() });
    }
}

const NOTHING: &str = "the rule demands nothing";

/// The IR's priority is the highest of the constraints it carries.
fn rank(priority: Priority) -> u32 {
    match priority {
        Priority::Low => 0,
        Priority::Medium => 1,
        Priority::High => 2,
        Priority::Critical => 3,
    }
}

fn needs_language(member: Member<'_>) -> BraidError {
    let rule = member.constraint.rule.type_name();
    BraidError::NeedsLanguage { id: member.id.to_owned(), name: member.constraint.name.clone(), rule }
}

fn unfit(member: Member<'_>, why: String) -> BraidError {
    BraidError::Unfit { id: member.id.to_owned(), name: member.constraint.name.clone(), why }
}
