//! The document around a hole: what stands before and behind an output, and who looks at it.
//!
//! Text forbidden in the document is followed from the end of the prefix into the suffix, and code that is bound as a
//! document, grammar and layout, reads prefix, hole and suffix as one text. Every other part judges the hole alone. A part that sees
//! the document decides anew what an end is: the output may end where the suffix goes through from there, and the part
//! accepts what it has read then, whether it would accept the hole by itself or not.
//!
//! Of forbidden text only what begins before the suffix counts, and what ended in the prefix does not; nor does what ends
//! where the suffix by itself already ends a match of the same. Where the suffix itself begins with forbidden text, an
//! end may be refused although the match is the suffix's own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::automaton::{AutomatonPart, DEAD};
use super::compiled::CompiledConstraint;
use super::liveness::{JointBounds, JointSearch};
use super::seam::{self, Seam};
use super::structural::Structural;
use super::{GuideConfig, GuideError};
use crate::constraint::Digest;
use crate::text::Vocabulary;

/// What stands around an output that fills a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text before the hole.
    pub prefix: String,
    /// The text behind it.
    pub suffix: String,
}

/// A document as the parts of one sequence see it.
pub(crate) struct Around {
    suffix: Box<[u8]>,
    /// Both texts as tokens that give their bytes; which ones is of no matter to a grammar.
    prefix_tokens: Box<[u32]>,
    suffix_tokens: Box<[u32]>,
    /// Whether an automaton may end before the suffix, by its number and state.
    seams: HashMap<(usize, u32), bool>,
    max_seams: usize,
}

impl Around {
    /// Prepares a document for one sequence under `compiled`.
    ///
    /// # Errors
    /// [`GuideError::UnparsableContext`] where a program's grammar is to read more than it may.
    pub(crate) fn new(prefix: &[u8], suffix: &[u8], compiled: &CompiledConstraint) -> Result<Self, GuideError> {
        let config = &compiled.config;
        let (prefix_tokens, suffix_tokens) = match compiled.document_part() {
            Some(part) => {
                check_size(&part, "before", prefix.len(), config.max_prefix_bytes)?;
                check_size(&part, "behind", suffix.len(), config.max_suffix_bytes)?;
                let unspelled = || unparsable(&part, "the vocabulary cannot spell the text around the hole".into());
                let tokens = |text| greedy(text, &compiled.vocabulary).ok_or_else(unspelled);
                (tokens(prefix)?, tokens(suffix)?)
            }
            None => Default::default(),
        };
        Ok(Self {
            suffix: suffix.into(),
            prefix_tokens,
            suffix_tokens,
            seams: HashMap::new(),
            max_seams: config.max_seam_states,
        })
    }

    /// Takes a part that reads the document from its start to the beginning of the hole.
    ///
    /// # Errors
    /// [`GuideError::UnparsableContext`] names the first byte that it does not take.
    pub(crate) fn enter(&self, structural: &mut Structural, vocabulary: &Vocabulary) -> Result<(), GuideError> {
        if !structural.reads_document() {
            return Ok(());
        }
        let num_allowed = structural.num_allowed(&self.prefix_tokens)?;
        if num_allowed < self.prefix_tokens.len() {
            let at: usize = self.prefix_tokens[..num_allowed].iter().map(|&token| vocabulary.bytes(token).len()).sum();
            let why = format!("the text before the hole does not go through, at byte {at} or a little after it");
            return Err(unparsable(structural.part(), why));
        }
        structural.consume_all(&self.prefix_tokens)
    }

    /// The state of an automaton at the beginning of the hole.
    ///
    /// # Errors
    /// [`GuideError::UnparsableContext`] where a layout does not take the prefix, and those of the automaton.
    pub(crate) fn start(
        &self,
        automaton: &AutomatonPart,
        prefix: &[u8],
        config: &GuideConfig,
    ) -> Result<u32, GuideError> {
        let state = automaton.start(prefix, config)?;
        if state == DEAD && automaton.is_seeded() {
            let why = "the indentation of the text before the hole does not go through".to_owned();
            return Err(unparsable(&automaton.parts.join(" and "), why));
        }
        Ok(state)
    }

    /// Whether the output may end where an automaton is in `state`; `idx` is the automaton's number.
    ///
    /// # Errors
    /// Those of the automaton.
    pub(crate) fn automaton_may_end(
        &mut self,
        idx: usize,
        automaton: &AutomatonPart,
        state: u32,
    ) -> Result<bool, GuideError> {
        if let Some(&known) = self.seams.get(&(idx, state)) {
            return Ok(known);
        }
        let may_end = automaton.may_end_before(state, &self.suffix)?;
        if self.seams.len() >= self.max_seams {
            self.seams.clear();
        }
        self.seams.insert((idx, state), may_end);
        Ok(may_end)
    }

    /// Whether the output may end where a structural part is now.
    ///
    /// # Errors
    /// Those of the part.
    pub(crate) fn structural_may_end(&self, structural: &mut Structural) -> Result<bool, GuideError> {
        if structural.reads_document() {
            structural.is_accepting_before(&self.suffix_tokens)
        } else {
            structural.is_accepting()
        }
    }

    /// By how much a look at every possible end is dearer than without a document.
    pub(crate) fn cost_of_an_end(&self) -> usize {
        // Most places refuse the suffix within a few tokens.
        const TOKENS_WORTH_A_MASK: usize = 256;
        1 + self.suffix_tokens.len() / TOKENS_WORTH_A_MASK
    }
}

impl super::Matcher {
    /// A text of at most `room` tokens that joins the output so far to the suffix, in tokens, so that every part holds;
    /// `None` where none of at most `count_max` that are tried is such a one. The matcher is left as it was.
    ///
    /// Costs some 10 us for each text that is tried.
    ///
    /// # Errors
    /// Those of the parts.
    pub(crate) fn joint(&mut self, room: usize, count_max: usize) -> Result<Option<Vec<u32>>, GuideError> {
        let compiled = Arc::clone(self.compiled());
        let vocabulary = &compiled.vocabulary;
        let output = self.last_tokens(self.num_accepted());
        let (Some(language), Some(around), Some(output)) = (compiled.document_language, self.around(), output) else {
            return Ok(None);
        };
        let before = [vocabulary.decode(&around.prefix_tokens), vocabulary.decode(&output)].concat();
        let (before, after) = (String::from_utf8_lossy(&before), String::from_utf8_lossy(&around.suffix));
        // Beginnings that the parts refuse: nothing that begins so need be tried.
        let mut refused: HashSet<Vec<u8>> = HashSet::new();
        let mut num_tried = 0;
        for text in seam::joints(language, &before, &after) {
            let text = text.as_bytes();
            if (1..=text.len()).any(|len| refused.contains(&text[..len])) {
                continue;
            }
            let Some(tokens) = greedy(text, vocabulary).filter(|tokens| tokens.len() <= room) else { continue };
            num_tried += 1;
            if num_tried > count_max {
                break;
            }
            let place = self.num_accepted();
            let num_allowed = self.accept_first(&tokens)?;
            let is_joint = num_allowed == tokens.len() && self.is_complete()?;
            self.rollback(self.num_accepted() - place)?;
            if is_joint {
                return Ok(Some(tokens.into()));
            }
            if num_allowed < tokens.len() {
                refused.insert(vocabulary.decode(&tokens[..=num_allowed]));
            }
        }
        Ok(None)
    }

    /// A text that joins the two sides of the hole by itself, so that every part holds, in tokens; `None` where the search
    /// finds none within its bounds, or the parts cannot be followed. The matcher stands at the start of its output and is
    /// left there.
    ///
    /// It depends on the document alone, so it is searched for once: some 10 us for each of at most `max_joint_states`
    /// states, and about 1 us for each byte of the prefix.
    ///
    /// # Errors
    /// Those of the parts, and [`GuideError::Aborted`].
    pub(crate) fn joint_in_place(&mut self) -> Result<Option<Arc<[u32]>>, GuideError> {
        debug_assert_eq!(self.num_accepted(), 0, "a joint in the output's place begins where the output does");
        let compiled = Arc::clone(self.compiled());
        let (Some(language), Some(around)) = (compiled.document_language, self.around()) else { return Ok(None) };
        let (prefix, suffix) = (compiled.vocabulary.decode(&around.prefix_tokens), around.suffix.clone());
        let document = Digest::of_digests(&[Digest::of_bytes(&prefix), Digest::of_bytes(&suffix)]);
        if let Some(known) = compiled.known_joints.get(document) {
            return Ok(known);
        }
        let reads_document = self.which_read_document();
        let Some(mut course) = compiled.course_behind(&prefix, &reads_document) else { return Ok(None) };
        let automata = self.automaton_states().to_vec();
        let seam = Seam::new(language, &String::from_utf8_lossy(&prefix), &String::from_utf8_lossy(&suffix));
        let mut joint = None;
        for bounds in JointBounds::guesses(compiled.config.max_joint_states, seam.num_common()) {
            let sides = (&seam, &*suffix);
            let mut search = JointSearch::new(&compiled, &mut course, &reads_document, &automata, sides, bounds);
            joint = self.first_that_holds(&mut search)?.map(Arc::from);
            if joint.is_some() {
                break;
            }
        }
        compiled.keep_course(course);
        compiled.known_joints.keep(document, joint.clone());
        Ok(joint)
    }

    /// The first joint of a search that every part takes.
    fn first_that_holds(&mut self, search: &mut JointSearch<'_>) -> Result<Option<Box<[u32]>>, GuideError> {
        let compiled = Arc::clone(self.compiled());
        for _ in 0..compiled.config.max_joint_texts {
            self.check_aborted()?;
            let Some(text) = search.next(|idx, state| self.automaton_may_end_in(idx, state))? else { break };
            if let Some(tokens) = greedy(text.as_bytes(), &compiled.vocabulary)
                && self.is_completed_by(&tokens)?
            {
                return Ok(Some(tokens));
            }
        }
        Ok(None)
    }

    /// Accepts tokens up to the first that is refused; returns how many.
    fn accept_first(&mut self, tokens: &[u32]) -> Result<usize, GuideError> {
        for (count, &token) in tokens.iter().enumerate() {
            match self.accept(token) {
                Ok(()) => {}
                Err(GuideError::NotAllowed { .. }) => return Ok(count),
                Err(error) => return Err(error),
            }
        }
        Ok(tokens.len())
    }
}

impl CompiledConstraint {
    /// A matcher at the start of an output that fills the hole of `document`.
    ///
    /// # Errors
    /// As [`Self::matcher`].
    pub fn matcher_in(self: &Arc<Self>, document: &Document) -> Result<super::Matcher, GuideError> {
        let (prefix, suffix) = (document.prefix.as_bytes(), document.suffix.as_bytes());
        self.matcher_around(prefix, Some(Around::new(prefix, suffix, self)?))
    }
}

type Known = VecDeque<(Digest, Option<Arc<[u32]>>)>;

/// What was found in the places of outputs, by document: of the newest documents, within a bound.
pub(crate) struct KnownJoints {
    known: Mutex<Known>,
    max: usize,
}

impl KnownJoints {
    /// Of at most `max` documents.
    pub(crate) fn new(max: usize) -> Self {
        Self { known: Mutex::default(), max }
    }

    fn get(&self, document: Digest) -> Option<Option<Arc<[u32]>>> {
        self.lock().iter().find(|(known, _)| *known == document).map(|(_, joint)| joint.clone())
    }

    fn keep(&self, document: Digest, joint: Option<Arc<[u32]>>) {
        let mut known = self.lock();
        known.push_back((document, joint));
        let num_over = known.len().saturating_sub(self.max);
        known.drain(..num_over);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unparsable(part: &str, why: String) -> GuideError {
    GuideError::UnparsableContext { part: part.to_owned(), why }
}

fn check_size(part: &str, place: &str, size: usize, limit: usize) -> Result<(), GuideError> {
    if size <= limit {
        return Ok(());
    }
    Err(unparsable(part, format!("the text {place} the hole has {size} bytes; at most {limit} are read")))
}

/// Tokens that give exactly these bytes, each as long as it can be; `None` where the vocabulary lacks a byte.
fn greedy(bytes: &[u8], vocabulary: &Vocabulary) -> Option<Box<[u32]>> {
    let tokens = vocabulary.tok_env().tok_trie().greedy_tokenize(bytes);
    (vocabulary.decode(&tokens) == bytes).then(|| tokens.into())
}
