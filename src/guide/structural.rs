//! Structural parts: JSON Schema and grammars, run by llguidance.
//!
//! A schema or a grammar becomes Lark source with `no_forcing`, because a mask that allows only the canonical token of
//! a forced span dies as soon as another part forbids that token. Whatever llguidance would drop silently is refused
//! before it gets here ([`schema`](super::schema), [`lark`](super::lark)). Any error of its matcher is final, so a token
//! is validated before it is consumed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{CancellationHandle, Logger, ParserFactory};

use super::lexer_masks::{LexerMasks, MasksByLexer};
use super::liveness::{Crowded, Outline};
use super::vocabulary::SortedTokens;
use super::{GuideConfig, GuideError, mask};
use crate::text::Vocabulary;

/// Makes the matchers of structural parts for one vocabulary.
pub(crate) struct StructuralFactory {
    factory: ParserFactory,
    masks: Arc<MasksByLexer>,
    limits: ParserLimits,
}

impl StructuralFactory {
    /// Slices the vocabulary for fast JSON strings: about 0.5 s and 30 MB at 129k ids, once per model.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        tokens: &Arc<SortedTokens>,
        config: &GuideConfig,
    ) -> Result<Self, GuideError> {
        let slices = SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(&vocabulary.tok_env(), InferenceCapabilities::default(), &slices)
            .map_err(|error| GuideError::internal("vocabulary", first_line(&error.to_string())))?;
        let masks = Arc::new(MasksByLexer::new(factory.slicer(), Arc::clone(tokens), config));
        Ok(Self { factory, masks, limits: limits(config) })
    }

    /// Bytes that masks may still be kept in.
    #[cfg(test)]
    pub(crate) fn lexer_mask_room(&self) -> usize {
        self.masks.room()
    }

    /// Compiles Lark source. Deep input recurses deeply here: call it on a big stack.
    pub(crate) fn compile(&self, part: &str, lark: &str) -> Result<Structural, Rejection> {
        let grammar = GrammarInit::Serialized(TopLevelGrammar::from_lark(lark.to_owned()));
        let parser = self.factory.create_parser_from_init_ext(
            grammar,
            Logger::new(0, 0),
            InferenceCapabilities::default(),
            self.limits.clone(),
        );
        match parser {
            Ok(mut parser) => {
                parser.bias_computer = Arc::<MasksByLexer>::clone(&self.masks);
                let limits = &self.limits;
                let outline = Outline::new(parser.parser.grammar(), limits.initial_lexer_fuel, limits.max_items_in_row)
                    .map_err(|crowded| Rejection::OverLimit(Excess::of_crowd(crowded, limits)))?
                    .map(Box::new);
                let matcher = llguidance::Matcher::new(Ok(parser)).into_cancellable();
                let (part, kept) = (part.to_owned(), LexerMasks::default());
                Ok(Structural { part, matcher, kept, num_uses: 1, outline, reads_document: false })
            }
            Err(error) => Err(Rejection::read(&format!("{error:#}"), &self.limits)),
        }
    }
}

fn limits(config: &GuideConfig) -> ParserLimits {
    ParserLimits {
        max_items_in_row: config.row_items,
        initial_lexer_fuel: config.initial_lexer_fuel,
        step_lexer_fuel: config.step_lexer_fuel,
        step_max_items: config.step_items,
        max_lexer_states: config.max_lexer_states,
        max_grammar_size: config.max_grammar_symbols,
        precompute_large_lexemes: true,
        // Verbose errors quote generated text.
        verbose_errors: false,
    }
}

/// Why llguidance did not take a grammar, as far as its message tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// No sentence exists.
    Unsatisfiable,
    /// A size or fuel limit was hit.
    OverLimit(Excess),
    /// The library panicked.
    Panic(String),
    /// The source is wrong at a line and column (from 1), or nowhere in particular.
    Source { place: Option<(usize, usize)>, message: String },
}

/// A limit that stopped the library, which does not say how much it would have taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    what: String,
    limit: String,
    setting: Option<&'static str>,
}

impl Excess {
    /// Reads which limit a message is about; `None` for a message that is about none.
    fn read(message: &str, limits: &ParserLimits) -> Option<Self> {
        let lower = message.to_ascii_lowercase();
        let fuel = || (format!("{} units of lexer fuel", limits.initial_lexer_fuel), Some("initial_lexer_fuel"));
        let known = [
            ("initial lexer configuration", "reading the terminals and patterns", fuel()),
            ("checking relevance of lexemes", "telling which terminals match anything", fuel()),
            ("lexer precomputation failed", "preparing the lexer of the largest terminals", fuel()),
            ("dnf too large", "multiplying out the terminals", fuel()),
            (
                "grammar size (number of symbols)",
                "the expanded grammar",
                (format!("{} symbols", limits.max_grammar_size), Some("max_grammar_symbols")),
            ),
            // The library numbers a grammar's symbols in 16 bits, and asserts that they fit.
            ("grammar.symbols.len()", "the expanded grammar", ("65,000 symbols".to_owned(), None)),
        ];
        let found = known.into_iter().find(|(words, _, _)| lower.contains(words));
        if let Some((_, what, (limit, setting))) = found {
            return Some(Self { what: what.to_owned(), limit, setting });
        }
        let limits = ["too large", "too many", "too big", "fuel", "limit", "stack level exceeded", "too complex"];
        let is_limit = limits.iter().any(|limit| lower.contains(limit));
        let what = || format!("compiling it ({})", first_line(message));
        is_limit.then(|| Self { what: what(), limit: "the library's own bound".to_owned(), setting: None })
    }

    fn of_crowd(crowded: Crowded, limits: &ParserLimits) -> Self {
        let what = "telling apart the ways of going on that begin alike".to_owned();
        match crowded {
            Crowded::Place => Self {
                what,
                limit: format!("{} of them in one place", limits.max_items_in_row),
                setting: Some("row_items"),
            },
            Crowded::Work(steps) => Self { what, limit: format!("{steps} steps of counting them"), setting: None },
        }
    }

    /// The error of a part.
    pub(crate) fn of(self, part: &str) -> GuideError {
        let setting = self.setting.map(str::to_owned);
        GuideError::OverLimit { part: part.to_owned(), what: self.what, limit: self.limit, setting }
    }
}

impl Rejection {
    fn read(message: &str, limits: &ParserLimits) -> Self {
        let lower = message.to_ascii_lowercase();
        if lower.contains("unsatisfiable schema") {
            return Self::Unsatisfiable;
        }
        let panic = message.strip_prefix("panic: ").filter(|panic| !panic.contains("grammar.symbols.len()"));
        if let Some(panic) = panic {
            return Self::Panic(first_line(panic));
        }
        if let Some(excess) = Excess::read(message, limits) {
            return Self::OverLimit(excess);
        }
        let (place, message) = split_place(message);
        Self::Source { place, message: first_line(message) }
    }
}

/// Splits `at 3(14): why` or `3(14): why` into the place and the reason.
fn split_place(message: &str) -> (Option<(usize, usize)>, &str) {
    let found = message.find("at ").filter(|&at| at == 0).map_or(message, |at| &message[at + 3..]);
    let parsed = found.split_once("): ").and_then(|(place, rest)| {
        let (line, column) = place.split_once('(')?;
        Some(((line.parse().ok()?, column.parse().ok()?), rest))
    });
    match parsed {
        Some((place, rest)) => (Some(place), rest),
        None => (None, message),
    }
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// How far one sequence has got through one structural part.
pub(crate) struct Structural {
    part: String,
    matcher: llguidance::Matcher,
    kept: LexerMasks,
    /// Sequences that have used this matcher, one after another.
    num_uses: u32,
    /// For the verdict at admission, which takes it away.
    outline: Option<Box<Outline>>,
    /// Whether it reads the document around the output, and not the output alone.
    reads_document: bool,
}

/// Stops the mask that a matcher is computing on another thread. That is final: the matcher is lost.
#[derive(Clone, Debug, Default)]
pub struct AbortHandle {
    flag: Arc<AtomicBool>,
    structural: Vec<CancellationHandle>,
}

impl AbortHandle {
    pub(crate) fn new(flag: &Arc<AtomicBool>, structural: &[Structural]) -> Self {
        let structural = structural.iter().filter_map(|part| part.matcher.cancellation_handle()).collect();
        Self { flag: Arc::clone(flag), structural }
    }

    /// Stops it; its next look at the handle ends it with [`GuideError::Aborted`].
    pub fn abort(&self) {
        self.flag.store(true, Ordering::Release);
        self.structural.iter().for_each(CancellationHandle::cancel);
    }
}

impl Structural {
    pub(crate) fn part(&self) -> &str {
        &self.part
    }

    /// The same part, reading the document around the output where `reads_document`.
    pub(crate) fn reading_document(self, reads_document: bool) -> Self {
        Self { reads_document, ..self }
    }

    /// Whether it reads the document around the output.
    pub(crate) fn reads_document(&self) -> bool {
        self.reads_document
    }

    /// A regular superset of what this part generates; `None` once taken, or where it is too big to have.
    pub(crate) fn take_outline(&mut self) -> Option<Box<Outline>> {
        self.outline.take()
    }

    /// A copy that shares nothing, not even the lexer: about 3 ms and 2 MB.
    pub(crate) fn deep_clone(&self) -> Self {
        let (part, matcher) = (self.part.clone(), self.matcher.deep_clone());
        let kept = self.kept.deep_clone();
        Self { part, matcher, kept, num_uses: 1, outline: None, reads_document: self.reads_document }
    }

    /// The matcher at its start again, with the lexer it has warmed; `None` when it is lost or was used often enough
    /// that its lexer may have grown large.
    pub(crate) fn reset(mut self, max_uses: u32) -> Option<Self> {
        let is_fit = self.num_uses < max_uses && !self.matcher.is_error() && !self.matcher.is_cancelled();
        (is_fit && self.matcher.reset().is_ok()).then_some(Self { num_uses: self.num_uses + 1, ..self })
    }

    /// The bytes that must follow, as far as this part can tell; empty where there is a choice or an end.
    ///
    /// Looks ahead on a copy that shares the lexer: about 1 us, and a few for each byte that is found.
    pub(crate) fn forced_bytes(&self) -> Vec<u8> {
        self.matcher.clone().compute_ff_bytes()
    }

    /// Keeps in `row` what this part allows; end tokens are the caller's business.
    pub(crate) fn intersect_mask(&mut self, row: &mut [u32]) -> Result<(), GuideError> {
        match self.kept.while_computing(|| self.matcher.compute_mask_or_eos()) {
            Ok(allowed) => mask::intersect(row, allowed.as_slice()),
            // An empty mask is an error to llguidance, and a dead end of the conjunction to us.
            Err(error) if is_empty_mask(&error.to_string()) => row.fill(0),
            Err(error) => return Err(self.lost(&error.to_string())),
        }
        Ok(())
    }

    /// States of the lexer that keep a mask.
    #[cfg(test)]
    pub(crate) fn num_kept_masks(&self) -> usize {
        self.kept.num_kept()
    }

    /// What the last mask cost: Earley items and lexer steps, each about 0.05 us. The same on every machine.
    pub(crate) fn last_mask_work(&self) -> usize {
        let stats = self.matcher.last_step_stats();
        stats.map_or(0, |stats| stats.all_items + stats.lexer_cost as usize)
    }

    /// Whether the part accepts the output so far.
    pub(crate) fn is_accepting(&mut self) -> Result<bool, GuideError> {
        match self.matcher.is_accepting() {
            Ok(accepting) => Ok(accepting),
            Err(error) if is_empty_mask(&error.to_string()) => Ok(false),
            Err(error) => Err(self.lost(&error.to_string())),
        }
    }

    /// Whether `token` may follow; changes nothing.
    pub(crate) fn allows(&mut self, token: u32) -> Result<bool, GuideError> {
        match self.matcher.validate_tokens(&[token]) {
            Ok(num_valid) => Ok(num_valid == 1),
            Err(error) => Err(self.lost(&error.to_string())),
        }
    }

    /// Moves on by a token that [`Self::allows`] said may follow.
    pub(crate) fn consume(&mut self, token: u32) -> Result<(), GuideError> {
        self.matcher.consume_token(token).map_err(|error| self.lost(&error.to_string()))
    }

    /// How many of `tokens` may follow, one after another; changes nothing.
    pub(crate) fn num_allowed(&mut self, tokens: &[u32]) -> Result<usize, GuideError> {
        self.matcher.validate_tokens(tokens).map_err(|error| self.lost(&error.to_string()))
    }

    /// Moves on by tokens that [`Self::num_allowed`] said may follow. Costs about 1 us a byte.
    pub(crate) fn consume_all(&mut self, tokens: &[u32]) -> Result<(), GuideError> {
        self.matcher.consume_tokens(tokens).map_err(|error| self.lost(&error.to_string()))
    }

    /// Whether the part accepts the output so far with `suffix` behind it; changes nothing.
    ///
    /// Most places refuse the suffix within a few tokens, which costs some us; where it goes through, all of it is read,
    /// on a copy that shares the lexer. A suffix that takes more fuel than there is may not follow.
    pub(crate) fn is_accepting_before(&mut self, suffix: &[u32]) -> Result<bool, GuideError> {
        const FIRST_LOOK: usize = 4;
        if suffix.is_empty() {
            return self.is_accepting();
        }
        let first = &suffix[..FIRST_LOOK.min(suffix.len())];
        if self.num_allowed(first)? < first.len() {
            return Ok(false);
        }
        let mut ahead = self.matcher.clone();
        Ok(ahead.consume_tokens(suffix).is_ok() && ahead.is_accepting().unwrap_or(false))
    }

    /// Takes tokens back.
    pub(crate) fn rollback(&mut self, num_tokens: usize) -> Result<(), GuideError> {
        self.matcher.rollback(num_tokens).map_err(|error| self.lost(&error.to_string()))
    }

    fn lost(&self, message: &str) -> GuideError {
        let message = message.to_ascii_lowercase();
        if self.matcher.is_cancelled() {
            return GuideError::Aborted { part: self.part.clone() };
        }
        if message.starts_with("lexer error") || message.starts_with("parser error") {
            return GuideError::LimitExceeded { part: self.part.clone() };
        }
        // Only the kind of failure: the rest of the message may quote generated text.
        let kind = if message.starts_with("panic") { "the matcher panicked" } else { "the matcher failed" };
        GuideError::internal(&self.part, kind)
    }
}

fn is_empty_mask(message: &str) -> bool {
    message.starts_with("NoExtensionBias")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_says_where() {
        let read = |message| Rejection::read(message, &limits(&GuideConfig::default()));
        assert_eq!(
            read("at 3(14): unknown name: \"X\"\n   3 | start: X"),
            Rejection::Source { place: Some((3, 14)), message: "unknown name: \"X\"".into() }
        );
        assert_eq!(
            read("1(7): lexer error\n..."),
            Rejection::Source { place: Some((1, 7)), message: "lexer error".into() }
        );
        assert_eq!(
            read("no start rule found"),
            Rejection::Source { place: None, message: "no start rule found".into() }
        );
        assert_eq!(
            read("at 1(8): failed to compile JSON schema: Unsatisfiable schema: false"),
            Rejection::Unsatisfiable
        );
    }

    #[test]
    fn a_limit_is_named_with_what_was_over_it() {
        let config = GuideConfig::default();
        for (message, expected) in [
            (
                "lexer precomputation failed; either increase limits.initial_lexer_fuel or disable this",
                format!(
                    "code: preparing the lexer of the largest terminals takes more than {} units of lexer fuel; by how \
                     much is not known, for the work stops there; use fewer or shorter patterns and rules, or a greater \
                     `initial_lexer_fuel`",
                    config.initial_lexer_fuel
                ),
            ),
            (
                "panic: assertion failed: grammar.symbols.len() < 65536",
                "code: the expanded grammar takes more than 65,000 symbols; by how much is not known, for the work \
                 stops there; use fewer or shorter patterns and rules"
                    .to_owned(),
            ),
            (
                "schema too large",
                "code: compiling it (schema too large) takes more than the library's own bound; by how much is not \
                 known, for the work stops there; use fewer or shorter patterns and rules"
                    .to_owned(),
            ),
        ] {
            let Rejection::OverLimit(excess) = Rejection::read(message, &limits(&config)) else { panic!("{message}") };
            assert_eq!(excess.of("code").to_string(), expected);
        }
    }
}
