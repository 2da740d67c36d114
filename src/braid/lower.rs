//! Each rule to the part of the IR that carries it.

use std::collections::BTreeSet;

use petgraph::graph::NodeIndex;
use serde_json::Value;

use super::graph::{Graph, Member, is_mined_type};
use super::language::{self, CodeInTheMaking};
use super::resolve::{self, Docket};
use super::{BraidError, schema, soft};
use crate::constraint::{
    ConstraintIr, Grammar, Language, NotApplied, Priority, RegexGroup, Rule, SoftBias, Source, SourceRef, Strength,
    TokenMasks,
};

/// Biases that soft rules become, at most; the strongest rules go first. A bias costs microseconds a token.
const DERIVED_BIASES_MAX: usize = 32;

/// An IR in the making.
pub(super) struct Lowering<'g> {
    ir: ConstraintIr,
    root: Option<Root<'g>>,
    code: CodeInTheMaking,
    /// The language of the output, where a hard rule says it.
    language: Option<Language>,
    /// Schemas that bind, with the names of their constraints; the root's first.
    schemas: Vec<(String, Value)>,
    allowed_tokens: Option<BTreeSet<u32>>,
    forbidden_tokens: Option<BTreeSet<u32>>,
    /// Soft rules with the biases they would become.
    soft: Vec<(Member<'g>, Vec<SoftBias>)>,
}

struct Root<'g> {
    member: Member<'g>,
    parts: BTreeSet<NodeIndex>,
}

impl<'g> Lowering<'g> {
    pub(super) fn new(graph: &Graph<'_>, docket: &'g Docket<'_>) -> Self {
        let root = docket.root();
        let language = docket.members().find_map(|member| match member.constraint.rule {
            Rule::Language { language, .. } if member.constraint.strength == Strength::Hard => Some(language),
            _ => None,
        });
        let ir = ConstraintIr { lost: docket.lost.values().cloned().collect(), ..ConstraintIr::default() };
        let mut lowering = Self {
            ir,
            root: root.map(|member| Root { member, parts: graph.dependencies(member.index) }),
            code: CodeInTheMaking::default(),
            language,
            schemas: Vec::new(),
            allowed_tokens: None,
            forbidden_tokens: None,
            soft: Vec::new(),
        };
        if let Some(root) = root {
            lowering.bind_schema(root);
        }
        lowering
    }

    /// Lowers one constraint: it ends in `sources`, `advisory` or `not_applied`.
    pub(super) fn lower(&mut self, member: Member<'g>) -> Result<(), BraidError> {
        if is_mined_type(member.constraint) {
            self.mined_type(member);
            return Ok(());
        }
        match (member.constraint.strength, &member.constraint.rule) {
            (Strength::Advisory, _) => self.advise(member, "advisory: it informs, and enforces nothing"),
            (_, Rule::Prose { .. }) => self.advise(member, "prose is advisory: it informs, and enforces nothing"),
            (Strength::Soft, _) if self.is_habit_of_other_text(member) => {
                self.skip(member, "a habit of code, and the output is a value of a type");
            }
            (_, Rule::Bias { text, regex, bias }) => {
                self.ir.soft.push(SoftBias { text: text.clone(), regex: regex.clone(), bias: *bias });
                self.carry(member, format!("soft[{}]", self.ir.soft.len() - 1), Strength::Soft);
            }
            (Strength::Soft, rule) => match soft::biases(rule, member.constraint.confidence, self.language) {
                Ok(biases) if biases.is_empty() => self.skip(member, NOTHING),
                Ok(biases) => self.soft.push((member, biases)),
                Err(why) => self.skip(member, &why),
            },
            (Strength::Hard, rule) => self.hard(member, rule)?,
        }
        Ok(())
    }

    /// The IR, complete and sealed.
    pub(super) fn finish(mut self, set_name: &str) -> Result<ConstraintIr, BraidError> {
        self.bias();
        let root = self.root.as_ref().map(|root| root.member.constraint.name.clone());
        self.ir.name = root.unwrap_or_else(|| set_name.to_owned());
        self.ir.json_schema = schema::all_of(self.schemas)?;
        self.ir.code = self.code.finish();
        let list = |ids: BTreeSet<u32>| ids.into_iter().collect();
        if self.allowed_tokens.is_some() || self.forbidden_tokens.is_some() {
            let (allowed_tokens, forbidden_tokens) = (self.allowed_tokens.map(list), self.forbidden_tokens.map(list));
            self.ir.token_masks = Some(TokenMasks { allowed_tokens, forbidden_tokens, vocabulary: None });
        }
        self.ir.validate()?;
        Ok(self.ir.sealed())
    }

    /// Soft rules become biases, the strongest first, as many as there is room for.
    fn bias(&mut self) {
        let mut soft = std::mem::take(&mut self.soft);
        soft.sort_by(|(one, _), (other, _)| resolve::rank(*one).cmp(&resolve::rank(*other)));
        let mut num_left = DERIVED_BIASES_MAX;
        for (member, biases) in soft {
            let Some(left) = num_left.checked_sub(biases.len()) else {
                let why = format!(
                    "soft: stronger rules have taken the {DERIVED_BIASES_MAX} biases that soft rules may become"
                );
                self.skip(member, &why);
                continue;
            };
            num_left = left;
            for bias in biases {
                self.ir.soft.push(bias);
                self.carry(member, format!("soft[{}]", self.ir.soft.len() - 1), Strength::Soft);
            }
        }
    }

    /// Whether a rule was counted in code while the output is a document.
    fn is_habit_of_other_text(&self, member: Member<'_>) -> bool {
        member.constraint.source == Source::AstPattern && self.root.is_some() && self.language.is_none()
    }

    fn mined_type(&mut self, member: Member<'_>) {
        if member.constraint.strength == Strength::Advisory {
            return self.advise(member, "advisory: something in the type is not known");
        }
        let Some(root) = &self.root else {
            let why =
                if self.language.is_some() { "the output is code, no value of a type" } else { "not the chosen type" };
            return self.skip(member, why);
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
            Rule::Grammar { grammar } => self.grammar(member, grammar),
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
        let is_stated = member.constraint.source == Source::UserDefined;
        let Some(language) = self.code.language() else {
            if is_stated {
                return Err(needs_language(member));
            }
            self.skip(member, "no rule says that the output is code");
            return Ok(());
        };
        // A code base has many signatures, and an output is one of them: the one that is asked for.
        if !is_stated && matches!(rule, Rule::Signature { .. }) {
            self.skip(member, "a signature binds where it is stated");
            return Ok(());
        }
        if let Some(other) = language::language_of(rule).filter(|other| *other != language) {
            self.skip(member, &format!("it speaks of {other:?}, and the output is {language:?}"));
            return Ok(());
        }
        match self.code.bind(rule) {
            Ok(part) => self.carry(member, part, Strength::Hard),
            Err(why) if is_stated => return Err(unfit(member, why)),
            Err(why) => self.skip(member, &why),
        }
        Ok(())
    }

    /// Of several grammars that bind, all but one lost.
    fn grammar(&mut self, member: Member<'_>, grammar: &Grammar) {
        self.ir.grammar = Some(grammar.clone());
        self.carry(member, "grammar", Strength::Hard);
    }

    /// Allow-lists intersect, deny-lists unite.
    fn tokens(&mut self, member: Member<'_>, allow: Option<&[u32]>, deny: Option<&[u32]>) {
        if let Some(allow) = allow {
            let allow: BTreeSet<u32> = allow.iter().copied().collect();
            match &mut self.allowed_tokens {
                Some(allowed) => allowed.retain(|id| allow.contains(id)),
                None => self.allowed_tokens = Some(allow),
            }
            self.carry(member, "token_masks.allowed_tokens", Strength::Hard);
        }
        if let Some(deny) = deny {
            self.forbidden_tokens.get_or_insert_default().extend(deny);
            self.carry(member, "token_masks.forbidden_tokens", Strength::Hard);
        }
        if allow.is_none() && deny.is_none() {
            self.skip(member, NOTHING);
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

    fn advise(&mut self, member: Member<'_>, why: &str) {
        self.ir.advisory.push(NotApplied { id: member.id.to_owned(), why: why.to_owned() });
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
