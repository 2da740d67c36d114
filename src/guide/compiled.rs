//! IRs against one vocabulary: immutable, shared by every sequence that asks for the same.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::automaton::AutomatonPart;
use super::chars::CharLimit;
use super::document::{Around, KnownJoints};
use super::liveness::{Alphabet, Course, LeftCorner, UnknownWhy, Verdict};
use super::matcher::Matcher;
use super::soft::SoftBiases;
use super::spares::Spares;
use super::structural::Structural;
use super::vocabulary::SortedTokens;
use super::{GuideConfig, GuideError};
use crate::constraint::{Digest, Language};
use crate::text::Vocabulary;

/// The conjunction of all parts of all IRs of one request, ready to be followed.
pub struct CompiledConstraint {
    pub(crate) vocabulary: Arc<Vocabulary>,
    pub(crate) tokens: Arc<SortedTokens>,
    /// Row of all text tokens.
    pub(crate) text: Arc<[u32]>,
    /// Row of the text tokens that the id lists leave.
    pub(crate) allowed: Vec<u32>,
    pub(crate) lists: Vec<IdList>,
    /// What a search for a complete output steps by; made when first searched.
    pub(crate) alphabet: OnceLock<Alphabet>,
    pub(crate) automata: Vec<AutomatonPart>,
    pub(crate) chars: Option<CharLimit>,
    pub(crate) soft: Option<SoftBiases>,
    /// Set before the constraint is admitted.
    pub(crate) verdict: OnceLock<Verdict>,
    /// The same: the engine thread must not be the first to ask.
    pub(crate) may_dead_end: OnceLock<bool>,
    /// Matchers at the start, with warm lexers, to be cloned.
    pub(crate) structural: Mutex<Vec<Structural>>,
    /// Matchers that finished sequences have warmed, at their start again.
    pub(crate) spares: Spares<Vec<Structural>>,
    /// The structural parts as they are followed to their end, to be copied; `None` where one is too big for it.
    pub(crate) parsers: Option<Vec<LeftCorner>>,
    /// Such copies with what finished sequences have learned.
    pub(crate) spare_parsers: Spares<Vec<LeftCorner>>,
    /// What joins the sides of holes by itself.
    pub(crate) known_joints: KnownJoints,
    pub(crate) config: GuideConfig,
    pub(crate) digest: Digest,
    pub(crate) num_parts: usize,
    pub(crate) max_tokens: Option<u32>,
    /// The language of the document that the output stands in, where code is it.
    pub(crate) document_language: Option<Language>,
    /// What a mask was last expected to take, in nanoseconds.
    pub(crate) usual_mask_ns: AtomicU64,
}

/// Memory of one structural part at its start, lexer included; measured at 1.7-2.6 MB.
const STRUCTURAL_BYTES: usize = 2 << 20;

/// One `token_masks` part as a row.
pub(crate) struct IdList {
    pub(crate) part: String,
    pub(crate) row: Vec<u32>,
}

impl CompiledConstraint {
    /// A matcher at the start of an output that follows `prompt`.
    ///
    /// The prompt matters only to text forbidden in the document and to code that is the document, which reads it at about
    /// 1 us a byte. Costs about 3 ms and 2 MB per structural part:
    /// make it off the engine thread. One that a finished sequence left is taken first, in about 1 us.
    ///
    /// # Errors
    /// [`GuideError::LimitExceeded`] when a lazily built automaton meets a bound while it reads the prompt;
    /// [`GuideError::UnparsableContext`] where code is the document and the prompt does not go through.
    pub fn matcher(self: &Arc<Self>, prompt: &[u8]) -> Result<Matcher, GuideError> {
        let around = match self.document_part() {
            Some(_) => Some(Around::new(prompt, b"", self)?),
            None => None,
        };
        self.matcher_around(prompt, around)
    }

    /// The same, in a document where there is one, which `prompt` begins.
    pub(crate) fn matcher_around(
        self: &Arc<Self>,
        prompt: &[u8],
        around: Option<Around>,
    ) -> Result<Matcher, GuideError> {
        let mut structural = self.spares.take().unwrap_or_else(|| {
            let structural = self.structural.lock().unwrap_or_else(PoisonError::into_inner);
            structural.iter().map(Structural::deep_clone).collect()
        });
        let start = self.automata.iter().map(|automaton| match &around {
            Some(around) => around.start(automaton, prompt, &self.config),
            None => automaton.start(prompt, &self.config),
        });
        let mut start = start.collect::<Result<Vec<_>, _>>()?;
        start.extend(self.soft.iter().flat_map(SoftBiases::start));
        if let Some(around) = &around
            && let Err(error) = structural.iter_mut().try_for_each(|part| around.enter(part, &self.vocabulary))
        {
            self.keep_warm(structural);
            return Err(error);
        }
        Ok(Matcher::new(Arc::clone(self), structural, start, around))
    }

    /// Keeps the structural parts of a finished sequence for the next one, as far as there is room and all are sound.
    pub(crate) fn keep_warm(&self, structural: Vec<Structural>) {
        if structural.is_empty() {
            return;
        }
        let reset: Option<Vec<_>> =
            structural.into_iter().map(|part| part.reset(self.config.max_matcher_uses)).collect();
        let Some(reset) = reset else { return };
        self.spares.keep(reset);
    }

    /// The structural parts to follow a sequence with, from its start; `None` where there are none that can be followed.
    pub(crate) fn course(&self) -> Option<Course> {
        let parsers = self.parsers.as_ref().filter(|parsers| !parsers.is_empty())?;
        Some(Course::new(self.spare_parsers.take().unwrap_or_else(|| parsers.clone())))
    }

    /// The same in a document, where the parts that read it stand behind `prefix`.
    pub(crate) fn course_behind(&self, prefix: &[u8], reads_document: &[bool]) -> Option<Course> {
        let parsers = self.parsers.as_ref().filter(|parsers| !parsers.is_empty())?;
        let parsers = self.spare_parsers.take().unwrap_or_else(|| parsers.clone());
        Course::behind(parsers, reads_document, prefix, self.config.initial_lexer_fuel)
    }

    /// Keeps what a sequence's course has learned for the next one, as far as there is room.
    pub(crate) fn keep_course(&self, course: Course) {
        if !course.is_sound(self.config.max_spare_course_states) {
            return;
        }
        self.spare_parsers.keep(course.into_parsers());
    }

    /// What a mask was last expected to take; zero before there was one.
    pub(crate) fn usual_mask_time(&self) -> Duration {
        Duration::from_nanos(self.usual_mask_ns.load(Ordering::Relaxed))
    }

    pub(crate) fn record_mask_time(&self, expected: Duration) {
        let nanos = u64::try_from(expected.as_nanos()).unwrap_or(u64::MAX);
        self.usual_mask_ns.store(nanos, Ordering::Relaxed);
    }

    /// Whether nothing binds the output but which tokens are text.
    pub(crate) fn is_free(&self) -> bool {
        self.num_parts == 0
    }

    /// Whether where a sequence starts depends on its prompt.
    pub(crate) fn is_seeded(&self) -> bool {
        self.automata.iter().any(AutomatonPart::is_seeded)
    }

    /// What a search for a complete output steps by.
    pub(crate) fn alphabet(&self) -> &Alphabet {
        self.alphabet.get_or_init(|| Alphabet::new(&self.vocabulary, &self.allowed))
    }

    /// The names of all parts.
    pub(crate) fn parts(&self) -> Vec<String> {
        let structural = self.structural.lock().unwrap_or_else(PoisonError::into_inner);
        let lists = self.lists.iter().map(|list| list.part.clone());
        let automata = self.automata.iter().flat_map(|automaton| automaton.parts.iter().cloned());
        lists.chain(structural.iter().map(|part| part.part().to_owned())).chain(automata).collect()
    }

    /// The first structural part that reads the document around the output.
    pub(crate) fn document_part(&self) -> Option<String> {
        let structural = self.structural.lock().unwrap_or_else(PoisonError::into_inner);
        structural.iter().find(|part| part.reads_document()).map(|part| part.part().to_owned())
    }

    /// One structural part as it is before any token.
    pub(crate) fn structural_at_start(&self, idx: usize) -> Structural {
        self.structural.lock().unwrap_or_else(PoisonError::into_inner)[idx].deep_clone()
    }

    /// Identity: the digests of the IRs in order, and of the vocabulary.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Parts of all IRs together.
    #[must_use]
    pub fn num_parts(&self) -> usize {
        self.num_parts
    }

    /// Memory that this constraint may come to hold, in bytes: its tables, its mask caches when full, and an estimate
    /// for structural parts. Matchers are not counted, neither those in use nor the warm ones, of which a guide keeps
    /// [`max_spares`](GuideConfig::max_spares); each holds about as much again as the structural parts.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let row = size_of_val(&*self.text);
        let automata: usize = self.automata.iter().map(AutomatonPart::memory_bytes).sum();
        let num_structural = self.structural.lock().unwrap_or_else(PoisonError::into_inner).len();
        let soft = self.soft.as_ref().map_or(0, SoftBiases::memory_bytes);
        let structural = num_structural * STRUCTURAL_BYTES;
        let parsers: usize = self.parsers.iter().flatten().map(LeftCorner::memory_bytes).sum();
        size_of::<Self>() + row * (1 + self.lists.len()) + automata + soft + structural + parsers
    }

    /// Row of the text tokens that the id lists leave: a bit per row of the logits, as in a mask.
    #[must_use]
    pub fn allowed_ids(&self) -> &[u32] {
        &self.allowed
    }

    /// Rows of the vocabulary, which are the bits of a mask.
    #[must_use]
    pub fn num_rows(&self) -> usize {
        self.vocabulary.num_rows()
    }

    /// Whether any output satisfies this constraint. What is admitted is never [`Verdict::Empty`].
    ///
    /// Forbidden text of `scope: document` is judged as after an empty prompt.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        const UNJUDGED: &Verdict = &Verdict::Unknown { why: UnknownWhy::Bound };
        self.verdict.get().unwrap_or(UNJUDGED)
    }

    /// Tokens of the shortest complete output that is known, the end token not counted: an upper bound of what it takes
    /// to finish. `None` where none is known.
    #[must_use]
    pub fn min_tokens(&self) -> Option<u32> {
        match self.verdict() {
            Verdict::Satisfiable(witness) => Some(witness.tokens.len() as u32),
            Verdict::Empty { .. } | Verdict::Unknown { .. } => None,
        }
    }

    /// Whether the masks may let an output begin that cannot be completed.
    ///
    /// `false` only where that is clear from the parts: one automaton or one structural part and nothing beside it, not
    /// even a limit of characters. Found out once, at admission: that looks at every token.
    #[must_use]
    pub fn may_dead_end(&self) -> bool {
        *self.may_dead_end.get_or_init(|| {
            let num_structural = self.structural.lock().unwrap_or_else(PoisonError::into_inner).len();
            match self.automata.len() + num_structural {
                0 => false,
                1 if self.chars.is_none() => !self.alphabet().spells(&self.text, &self.vocabulary),
                _ => true,
            }
        })
    }

    /// The smallest `limits.max_tokens` of the IRs; the engine keeps to it.
    #[must_use]
    pub fn max_tokens(&self) -> Option<u32> {
        self.max_tokens
    }
}

impl std::fmt::Debug for CompiledConstraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledConstraint")
            .field("digest", &self.digest)
            .field("num_parts", &self.num_parts)
            .finish_non_exhaustive()
    }
}
