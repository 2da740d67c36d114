//! The constraint side of the engine: an IR against a vocabulary becomes token masks.
//!
//! [`Guide::compile`] takes every part of every IR of a request and makes one [`CompiledConstraint`] of them; a
//! [`Matcher`] follows it for one sequence. Structural parts (schema, grammar) are llguidance matchers; regexes and
//! forbidden text are byte automata of our own, walked over the vocabulary so that every split of a text is caught; id
//! lists are rows of bits. The masks of all parts are ANDed, and the output may end only where every part accepts.
//!
//! What it is not: a judge of finished text (that is `verify`, which shares no code with this), and a place where
//! a part is quietly dropped. What cannot be enforced is refused by name.

mod automaton;
mod chars;
mod classes;
mod clock;
mod compiled;
mod config;
mod document;
mod ebnf;
mod error;
mod forbidden;
mod lark;
mod layout;
mod lazy;
mod lexer_masks;
mod liveness;
mod look_around;
mod mask;
mod mask_cache;
mod matcher;
mod peer;
mod pilot;
mod regex;
mod regions;
mod schema;
mod seam;
mod soft;
mod spares;
mod structural;
mod tokens;
mod vocabulary;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

pub use compiled::CompiledConstraint;
pub use config::GuideConfig;
pub use document::Document;
pub use error::GuideError;
pub use liveness::{UnknownWhy, Verdict, Witness};
pub use mask::{allowed_tokens, is_allowed, num_words};
pub use matcher::Matcher;
pub use peer::{Peer, PeerMatcher};
pub use pilot::{Advice, Pilot, PilotStats, Steering};
pub use structural::AbortHandle;

use crate::constraint::{Code, ConstraintIr, Digest, Grammar, GrammarSyntax, JsonWhitespace, OnUnknown, Scope};
use crate::text::Vocabulary;
use automaton::{AutomatonPart, ByteDfa, RawDfa};
use chars::{CharCounts, CharLimit};
use compiled::IdList;
use document::KnownJoints;
use layout::Layout;
use lazy::LazyDfa;
use liveness::{Evidence, Outline};
use regex::CompiledGroup;
use schema::{CheckedSchema, JsonStyle};
use soft::SoftBiases;
use spares::{Room, Spares};
use structural::{Structural, StructuralFactory};
use vocabulary::SortedTokens;

/// Compiles IRs for one vocabulary; one per model, shared by all threads.
pub struct Guide {
    vocabulary: Arc<Vocabulary>,
    tokens: Arc<SortedTokens>,
    text: Arc<[u32]>,
    char_counts: OnceLock<Arc<CharCounts>>,
    factory: StructuralFactory,
    spare_room: Room,
    config: GuideConfig,
}

impl Guide {
    /// Prepares a vocabulary: about 0.6 s and 35 MB at 129k ids.
    ///
    /// # Errors
    /// [`GuideError::Internal`] when the vocabulary cannot be sliced.
    pub fn new(vocabulary: Arc<Vocabulary>, config: GuideConfig) -> Result<Self, GuideError> {
        let tokens = Arc::new(SortedTokens::new(&vocabulary));
        let text = tokens::text_row(&vocabulary).into();
        let factory = StructuralFactory::new(&vocabulary, &tokens, &config)?;
        let spare_room = Room::new(config.max_spares);
        Ok(Self { vocabulary, tokens, text, char_counts: OnceLock::new(), factory, spare_room, config })
    }

    /// Makes the conjunction of all parts of all `irs`; with none, every text token may follow and the output may end
    /// anywhere.
    ///
    /// Works on a thread of its own with a big stack, because the libraries below recurse; a panic there is an error of
    /// this request alone. One mask is computed, and the set is judged, before it is admitted. Takes 1-50 ms; cache the
    /// result by [`CompiledConstraint::digest`].
    ///
    /// # Errors
    /// Every [`GuideError`] that names a part and why it is refused; [`GuideError::Unsatisfiable`] when it is proven
    /// that no output satisfies all parts, [`GuideError::UnknownSatisfiability`] when that is open and `on_unknown`
    /// says to refuse.
    pub fn compile(&self, irs: &[ConstraintIr]) -> Result<Arc<CompiledConstraint>, GuideError> {
        on_big_stack(self.config.compile_stack_bytes, || self.compile_here(irs))
    }

    /// As [`Self::compile`], on the caller's thread, which must have [`GuideConfig::compile_stack_bytes`] of stack.
    ///
    /// For threads that compile again and again. A panic of a library is an error of this request alone.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_here(&self, irs: &[ConstraintIr]) -> Result<Arc<CompiledConstraint>, GuideError> {
        self.compile_known(irs, None)
    }

    /// As [`Self::compile_here`], with the verdict that an earlier compile of these IRs over this vocabulary and with
    /// these bounds came to, so that they are not judged again. A witness is walked through the parts once more, and the
    /// set is judged where they do not accept it; another verdict is believed.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_known(
        &self,
        irs: &[ConstraintIr],
        known: Option<Verdict>,
    ) -> Result<Arc<CompiledConstraint>, GuideError> {
        let work = || {
            for (idx, ir) in irs.iter().enumerate() {
                let part = Prefix::new(irs.len(), idx).part("ir");
                ir.validate().map_err(|error| GuideError::InvalidIr { part, message: error.to_string() })?;
            }
            let num_parts = irs.iter().map(num_parts).sum();
            GuideError::check_size("constraints", "number of parts", num_parts, self.config.max_parts)?;
            if let Some(Verdict::Empty { parts }) = &known {
                return Err(GuideError::Unsatisfiable { parts: parts.clone() });
            }
            let (compiled, mut outlines) = self.build(irs, num_parts).map_err(|error| self.blame(irs, error))?;
            let compiled = Arc::new(compiled);
            let verdict = match known.filter(|verdict| still_holds(&compiled, verdict)) {
                Some(verdict) => verdict,
                None => admit(&compiled, &mut outlines).map_err(|error| self.blame(irs, error))?,
            };
            match verdict {
                Verdict::Unknown { why } if irs.iter().any(|ir| ir.on_unknown == OnUnknown::Refuse) => {
                    Err(GuideError::UnknownSatisfiability { why })
                }
                verdict => {
                    let _ = compiled.verdict.set(verdict);
                    let _ = compiled.may_dead_end();
                    Ok(compiled)
                }
            }
        };
        let caught = std::panic::catch_unwind(AssertUnwindSafe(work));
        caught.unwrap_or_else(|_| Err(GuideError::internal("constraints", "the compiler panicked")))
    }

    /// The bounds on what is compiled.
    #[must_use]
    pub fn config(&self) -> &GuideConfig {
        &self.config
    }

    /// The vocabulary that IRs are compiled against.
    #[must_use]
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    fn plan(&self, irs: &[ConstraintIr]) -> Result<Plan, GuideError> {
        let mut plan = Plan { allowed: self.text.to_vec(), ..Plan::default() };
        let style = JsonStyle {
            whitespace: self.json_whitespace(irs)?,
            text_is_forbidden: irs.iter().any(|ir| !ir.forbidden_text.is_empty()),
        };
        for (idx, ir) in irs.iter().enumerate() {
            self.add(&mut plan, &Prefix::new(irs.len(), idx), ir, style)?;
        }
        Ok(plan)
    }

    /// The constraint, not yet judged, and the outlines of its structural parts.
    fn build(&self, irs: &[ConstraintIr], num_parts: usize) -> Result<(CompiledConstraint, Outlines), GuideError> {
        let mut plan = self.plan(irs)?;
        let chars = self.char_limit(irs);
        if let Some(limit) = &chars {
            plan.automata.push((limit.part.clone(), chars::utf8(&limit.part)?.prune()));
        }
        let outlines: Outlines = plan.structural.iter_mut().filter_map(Structural::take_outline).collect();
        let is_followed = outlines.len() == plan.structural.len();
        let parsers = is_followed.then(|| outlines.iter().map(|outline| outline.left_corner()).collect());
        let lists = std::mem::take(&mut plan.lists);
        let structural = std::mem::take(&mut plan.structural);
        let allowed = std::mem::take(&mut plan.allowed);
        let compiled = CompiledConstraint {
            vocabulary: Arc::clone(&self.vocabulary),
            tokens: Arc::clone(&self.tokens),
            text: Arc::clone(&self.text),
            automata: self.automata(plan)?,
            allowed,
            lists,
            chars,
            soft: self.soft(irs)?,
            alphabet: OnceLock::new(),
            verdict: OnceLock::new(),
            may_dead_end: OnceLock::new(),
            structural: Mutex::new(structural),
            spares: Spares::new(self.config.max_spare_matchers, &self.spare_room),
            parsers,
            spare_parsers: Spares::new(self.config.max_spare_matchers, &self.spare_room),
            known_joints: KnownJoints::new(self.config.max_known_joints),
            config: self.config.clone(),
            digest: self.digest(irs),
            num_parts,
            max_tokens: irs.iter().filter_map(|ir| ir.limits.max_tokens).min(),
            document_language: irs
                .iter()
                .filter_map(|ir| ir.code.as_ref())
                .find(|code| code.document)
                .map(|code| code.language),
            usual_mask_ns: AtomicU64::new(0),
        };
        Ok((compiled, outlines))
    }

    /// Narrows an error that says that nothing can be generated to the parts that it takes.
    fn blame(&self, irs: &[ConstraintIr], error: GuideError) -> GuideError {
        let GuideError::Unsatisfiable { parts } = error else { return error };
        let Ok(plan) = self.plan(irs) else { return GuideError::Unsatisfiable { parts } };
        let needed = liveness::conflict(&mut self.evidence(plan), &self.tokens, &self.config);
        GuideError::Unsatisfiable { parts: needed.unwrap_or_else(|| self.needed(irs, parts)) }
    }

    /// Those of `parts` without which something could be generated, where only the masks tell.
    fn needed(&self, irs: &[ConstraintIr], parts: Vec<String>) -> Vec<String> {
        let mut irs = irs.to_vec();
        let mut needed = Vec::new();
        for (idx, part) in parts.into_iter().enumerate() {
            let rest = liveness::without(&irs, &part);
            if idx < self.config.max_conflict_proofs && self.is_refuted(&rest) {
                irs = rest;
            } else if !needed.contains(&part) {
                needed.push(part);
            }
        }
        needed
    }

    fn is_refuted(&self, irs: &[ConstraintIr]) -> bool {
        let admitted = self
            .build(irs, irs.iter().map(num_parts).sum())
            .and_then(|(compiled, mut outlines)| admit(&Arc::new(compiled), &mut outlines));
        matches!(admitted, Err(GuideError::Unsatisfiable { .. }))
    }

    /// What each part says on its own. Text forbidden in the document is left out: it depends on the prompt.
    fn evidence(&self, plan: Plan) -> Vec<Evidence> {
        let blank = |part: String| Evidence { part, automata: Vec::new(), outline: None, list: None };
        let mut evidence: Vec<Evidence> = Vec::new();
        for list in plan.lists {
            evidence.push(Evidence { list: Some(list.row), ..blank(list.part) });
        }
        for mut structural in plan.structural {
            evidence.push(Evidence { outline: structural.take_outline(), ..blank(structural.part().to_owned()) });
        }
        let tables = plan.automata.into_iter().map(|(part, dfa)| AutomatonPart::new(vec![part], dfa, 0));
        let lazy = plan.lazy.into_iter().filter(|(_, _, scope)| *scope == Scope::Output);
        let lazy = lazy.map(|(part, lazy, _)| AutomatonPart::lazy(part, lazy, false, 0));
        for automaton in tables.chain(lazy) {
            let part = automaton.parts[0].clone();
            match evidence.iter_mut().find(|known| known.part == part) {
                Some(known) => known.automata.push(automaton),
                None => evidence.push(Evidence { automata: vec![automaton], ..blank(part) }),
            }
        }
        evidence
    }

    /// The smallest `limits.max_chars`, named after the first IR that states it.
    fn char_limit(&self, irs: &[ConstraintIr]) -> Option<CharLimit> {
        let stated = irs.iter().enumerate().filter_map(|(idx, ir)| Some((ir.limits.max_chars?, idx)));
        let (max_chars, idx) = stated.min()?;
        let counts = self.char_counts.get_or_init(|| Arc::new(CharCounts::new(&self.vocabulary, &self.text)));
        let part = Prefix::new(irs.len(), idx).part("limits.max_chars");
        Some(CharLimit { part, max_chars: max_chars as usize, counts: Arc::clone(counts) })
    }

    fn soft(&self, irs: &[ConstraintIr]) -> Result<Option<SoftBiases>, GuideError> {
        let biases = irs.iter().enumerate().flat_map(|(idx, ir)| {
            let prefix = Prefix::new(irs.len(), idx);
            ir.soft.iter().enumerate().map(move |(idx, soft)| (prefix.part(&format!("soft[{idx}]")), soft))
        });
        SoftBiases::new(biases, self.vocabulary.end_tokens(), &self.config)
    }

    /// The tightest white space that any IR asks for; it binds the schemas of all.
    fn json_whitespace(&self, irs: &[ConstraintIr]) -> Result<JsonWhitespace, GuideError> {
        let part = "limits.json_whitespace";
        let stated = irs.iter().filter_map(|ir| ir.limits.json_whitespace).reduce(|a, b| JsonWhitespace {
            max_newlines: a.max_newlines.min(b.max_newlines),
            max_spaces: a.max_spaces.min(b.max_spaces),
        });
        let Some(whitespace) = stated else { return Ok(JsonWhitespace::default()) };
        let in_regions = |ir: &ConstraintIr| {
            let structures = ir.regions.iter().flat_map(|regions| &regions.structures);
            structures.into_iter().any(|structure| structure.json_schema.is_some())
        };
        if irs.iter().all(|ir| ir.json_schema.is_none() && !in_regions(ir)) {
            let why = "it bounds documents of a `json_schema`, and there is none".to_owned();
            return Err(GuideError::UnsupportedPart { part: part.to_owned(), why });
        }
        let limit = self.config.max_json_whitespace;
        let most = whitespace.max_newlines.max(whitespace.max_spaces);
        GuideError::check_size(part, "white space in a row", most as usize, limit)?;
        Ok(whitespace)
    }

    /// Adds the parts of one IR to the plan.
    fn add(&self, plan: &mut Plan, prefix: &Prefix, ir: &ConstraintIr, style: JsonStyle) -> Result<(), GuideError> {
        if let Some(lists) = &ir.token_masks {
            let part = prefix.part("token_masks");
            let mut row = self.text.to_vec();
            tokens::restrict(&mut row, lists, &self.vocabulary, &part, &self.config)?;
            mask::intersect(&mut plan.allowed, &row);
            plan.lists.push(IdList { part, row });
        }
        if let Some(schema) = &ir.json_schema {
            let checked = CheckedSchema::new(&prefix.part("json_schema"), schema, style, &self.config)?;
            let structural = self.factory.compile(&prefix.part("json_schema"), &checked.lark);
            plan.structural.push(structural.map_err(|rejection| checked.explain(rejection))?);
        }
        if let Some(grammar) = &ir.grammar {
            plan.structural.push(self.grammar(&prefix.part("grammar"), grammar)?);
        }
        if let Some(code) = &ir.code {
            self.code(plan, prefix.part("code"), code)?;
        }
        if let Some(regions) = &ir.regions {
            let part = prefix.part("regions");
            let compiled = regions::compile(&part, regions, style, &self.text, &self.factory, &self.config);
            plan.structural.push(compiled?);
        }
        for (idx, group) in ir.regex_patterns.iter().enumerate() {
            let part = prefix.part(&format!("regex_patterns[{idx}]"));
            for automaton in regex::compile_group(&part, group, &self.config)? {
                plan.add(automaton, part.clone(), Scope::Output);
            }
        }
        for scope in [Scope::Output, Scope::Document] {
            let part = prefix.part("forbidden_text");
            for automaton in forbidden::compile(&part, &ir.forbidden_text, scope, &self.config)? {
                plan.add(automaton, part.clone(), scope);
            }
        }
        Ok(())
    }

    fn grammar(&self, part: &str, grammar: &Grammar) -> Result<Structural, GuideError> {
        GuideError::check_size(part, "bytes of the grammar", grammar.source.len(), self.config.max_grammar_bytes)?;
        let start = grammar.start.as_deref();
        let lark = match grammar.syntax {
            GrammarSyntax::Lark => lark::check(part, &grammar.source, start, &self.config)?,
            GrammarSyntax::Ebnf => ebnf::ebnf_to_lark(part, &grammar.source, start, &self.config)?.lark,
            GrammarSyntax::Gbnf => ebnf::gbnf_to_lark(part, &grammar.source, start, &self.config)?.lark,
        };
        self.factory.compile(part, &lark).map_err(|rejection| lark::explain(part, rejection))
    }

    /// The grammar, and the automaton that follows what it does not know.
    fn code(&self, plan: &mut Plan, part: String, code: &Code) -> Result<(), GuideError> {
        let grammar = Grammar { syntax: GrammarSyntax::Lark, source: code.grammar.clone(), start: None };
        plan.structural.push(self.grammar(&part, &grammar)?.reading_document(code.document));
        let layout = match code.layout {
            Some(crate::constraint::Layout::Python) => Layout::python(&part, code.granularity, &self.config),
            None => None,
        };
        plan.layouts.extend(layout.map(|layout| (part, layout, code.document)));
        Ok(())
    }

    /// Multiplies automata while the product stays small, so that what they exclude together is known early.
    fn merge(&self, automata: Vec<(String, ByteDfa)>) -> Result<Vec<(Vec<String>, ByteDfa)>, GuideError> {
        let mut merged: Vec<(Vec<String>, ByteDfa)> = Vec::new();
        for (part, dfa) in automata {
            if dfa.is_empty() {
                return Err(GuideError::Unsatisfiable { parts: vec![part] });
            }
            let product = merged
                .iter()
                .enumerate()
                .find_map(|(idx, (_, other))| Some((idx, other.product(&dfa, self.config.max_product_states)?)));
            match product {
                None => merged.push((vec![part], dfa)),
                Some((idx, product)) => {
                    let (parts, merged) = &mut merged[idx];
                    if !parts.contains(&part) {
                        parts.push(part);
                    }
                    if product.is_empty() {
                        return Err(GuideError::Unsatisfiable { parts: parts.clone() });
                    }
                    *merged = product;
                }
            }
        }
        Ok(merged)
    }

    /// All automata with their masks, which share one bound.
    fn automata(&self, plan: Plan) -> Result<Vec<AutomatonPart>, GuideError> {
        let merged = self.merge(plan.automata)?;
        let num_automata = merged.len() + plan.continuing.len() + plan.lazy.len() + plan.layouts.len();
        let mask_bytes = self.config.mask_cache_bytes / num_automata.max(1);
        let tables = merged.into_iter().map(|(parts, dfa)| AutomatonPart::new(parts, dfa, mask_bytes));
        let continuing = plan.continuing.into_iter();
        let lazy = plan.lazy.into_iter();
        Ok(tables
            .chain(continuing.map(|(part, raw)| AutomatonPart::continuing(part, raw, mask_bytes)))
            .chain(
                lazy.map(|(part, lazy, scope)| AutomatonPart::lazy(part, lazy, scope == Scope::Document, mask_bytes)),
            )
            .chain(
                plan.layouts
                    .into_iter()
                    .map(|(part, layout, continues)| AutomatonPart::layout(part, layout, continues, mask_bytes)),
            )
            .collect())
    }

    fn digest(&self, irs: &[ConstraintIr]) -> Digest {
        let mut digests: Vec<Digest> = irs.iter().map(ConstraintIr::compute_digest).collect();
        digests.push(tokens::digest(&self.vocabulary));
        Digest::of_digests(&digests)
    }
}

impl std::fmt::Debug for Guide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guide").field("num_rows", &self.vocabulary.num_rows()).finish_non_exhaustive()
    }
}

/// What the structural parts of a constraint generate at most.
type Outlines = Vec<Box<Outline>>;

/// The parts collected so far.
#[derive(Default)]
struct Plan {
    allowed: Vec<u32>,
    lists: Vec<IdList>,
    structural: Vec<Structural>,
    automata: Vec<(String, ByteDfa)>,
    continuing: Vec<(String, RawDfa)>,
    lazy: Vec<(String, Box<LazyDfa>, Scope)>,
    layouts: Vec<(String, Layout, bool)>,
}

impl Plan {
    fn add(&mut self, automaton: CompiledGroup, part: String, scope: Scope) {
        match (automaton, scope) {
            (CompiledGroup::Automaton(raw), Scope::Output) => self.automata.push((part, raw.prune())),
            (CompiledGroup::Automaton(raw), Scope::Document) => self.continuing.push((part, raw)),
            (CompiledGroup::Lazy(lazy), scope) => self.lazy.push((part, lazy, scope)),
        }
    }
}

/// How the parts of one IR are named: bare when it is the only one.
struct Prefix(String);

impl Prefix {
    fn new(num_irs: usize, idx: usize) -> Self {
        Self(if num_irs == 1 { String::new() } else { format!("constraints[{idx}].") })
    }

    fn part(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }
}

fn num_parts(ir: &ConstraintIr) -> usize {
    usize::from(ir.json_schema.is_some())
        + usize::from(ir.grammar.is_some())
        + usize::from(ir.code.is_some())
        + usize::from(ir.regions.is_some())
        + usize::from(ir.token_masks.is_some())
        + usize::from(!ir.forbidden_text.is_empty())
        + usize::from(!ir.soft.is_empty())
        + usize::from(ir.limits.max_chars.is_some())
        + ir.regex_patterns.len()
}

/// Runs `work` on a thread with `stack_bytes` of stack.
fn on_big_stack<T: Send>(
    stack_bytes: usize,
    work: impl FnOnce() -> Result<T, GuideError> + Send,
) -> Result<T, GuideError> {
    let failed = |message: &str| GuideError::internal("constraints", message);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("ananke-compile".to_owned())
            .stack_size(stack_bytes)
            .spawn_scoped(scope, work)
            .map_err(|error| failed(&format!("no thread to compile on: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(failed("the compiler panicked")))
    })
}

/// Judges a constraint after one mask: what is empty at the first step, or proven empty, is not admitted.
fn admit(compiled: &Arc<CompiledConstraint>, outlines: &mut Outlines) -> Result<Verdict, GuideError> {
    let mut row = vec![0; compiled.text.len()];
    let mut matcher = compiled.matcher(b"")?;
    match matcher.fill(&mut row) {
        // What a document allows is known when there is one.
        Ok(()) | Err(GuideError::DeadEnd { .. }) if matcher.reads_document() => {
            return Ok(Verdict::Unknown { why: UnknownWhy::Prompt });
        }
        Err(GuideError::DeadEnd { parts, .. }) => return Err(GuideError::Unsatisfiable { parts }),
        other => other?,
    }
    match liveness::judge(&mut matcher, outlines)? {
        Verdict::Empty { .. } => Err(GuideError::Unsatisfiable { parts: compiled.parts() }),
        verdict => Ok(verdict),
    }
}

/// Whether a verdict may be taken over: a witness is walked once more.
fn still_holds(compiled: &Arc<CompiledConstraint>, verdict: &Verdict) -> bool {
    let Verdict::Satisfiable(witness) = verdict else { return true };
    let Ok(mut matcher) = compiled.matcher(b"") else { return false };
    witness.tokens.iter().all(|&token| matcher.accept(token).is_ok()) && matcher.is_complete().unwrap_or(false)
}

#[cfg(test)]
mod tests;
