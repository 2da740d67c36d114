//! Finished text against constraints, without a model: what the masks would have said of it, and what is true of it.
//!
//! A text is walked token by token through the masks that a sequence would meet, once in the split that the tokenizer
//! prefers and once in a random one, and is then read by the independent engines of `verify`. If the masks and the
//! engines disagree, one of them is wrong. Nothing is generated and no weights are needed.

use std::sync::Arc;
use std::time::Instant;

use super::constraint_cache::{ConstraintCache, Found, Refusal as Failure};
use super::splitter::Splitter;
use super::{ConstraintIr, Error, MazeConfig};
use crate::braid::Joint;
use crate::constraint::Digest;
use crate::guide::{self, CompiledConstraint, Guide, GuideConfig, GuideError, Matcher, is_allowed, num_words};
use crate::kernels::sampling::uniform;
use crate::text::Tokenizer;
use crate::verify::{self, Output, Verdict, VerdictStatus};

/// What judging one text may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgeConfig {
    /// The bounds of the masks.
    pub guide: GuideConfig,
    /// Bytes of one text. Default 1 MiB; each token of it costs two masks.
    pub text_bytes_max: usize,
    /// Compiled constraints kept for reuse. Default 64, a few MB each.
    pub num_cached_constraints_max: usize,
}

impl Default for JudgeConfig {
    /// The guide's own bounds, but for its mask caches: a judge walks a text twice and not a thousand times.
    fn default() -> Self {
        let guide = GuideConfig { mask_cache_bytes: 4 << 20, ..GuideConfig::default() };
        Self { guide, text_bytes_max: 1 << 20, num_cached_constraints_max: 64 }
    }
}

/// Judges texts over one vocabulary; shared by all threads.
pub struct Judge {
    tokenizer: Tokenizer,
    guide: Arc<Guide>,
    splitter: Splitter,
    constraints: ConstraintCache,
    text_bytes_max: usize,
}

/// What came out for one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Through the masks, in the tokenizer's own split.
    pub canonical: Walk,
    /// Through the masks, in a random split into ids that the id lists leave.
    pub random_split: Walk,
    /// Of the independent engines, per part, in the order of the IRs and their fields.
    pub verdicts: Vec<Verdict>,
}

/// How far a text got through the masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walk {
    /// To an end token.
    Accepted,
    /// Only so far.
    Refused(Refusal),
    /// A mask could not be computed, so nothing is known.
    Failed(GuideError),
}

/// Where the masks stopped a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Byte offset of the first byte that may not stand there; the text's length where only the end is refused.
    pub at: usize,
    /// The part that refused, as a path into the IRs; `vocabulary` where no tokens can write the text.
    pub part: String,
}

impl Judge {
    /// Prepares a vocabulary: about 0.7 s and 40 MB at 129k ids.
    ///
    /// # Errors
    /// [`Error::Guide`] when the vocabulary cannot be sliced.
    pub fn new(tokenizer: Tokenizer, config: JudgeConfig) -> Result<Self, Error> {
        let guide = Guide::new(tokenizer.vocabulary().clone(), config.guide.clone())?;
        Ok(Self::over(Arc::new(guide), tokenizer, &config))
    }

    /// A judge over the masks of a guide that others use too; `config.guide` has had its say.
    pub(super) fn over(guide: Arc<Guide>, tokenizer: Tokenizer, config: &JudgeConfig) -> Self {
        let splitter = Splitter::new(tokenizer.vocabulary().clone());
        let bounds =
            MazeConfig { num_cached_constraints_max: config.num_cached_constraints_max, ..MazeConfig::default() };
        let constraints = ConstraintCache::new(&bounds);
        Self { tokenizer, guide, splitter, constraints, text_bytes_max: config.text_bytes_max }
    }

    /// Judges `text` as a finished output after an empty prompt, under all `irs` together.
    ///
    /// The random split depends on `seed` and the text alone, so a case is judged alike wherever it stands. Costs two
    /// masks per token, and once per constraint its compilation.
    ///
    /// # Errors
    /// [`Error::Guide`] when the constraints cannot be compiled; [`Error::TextTooLarge`]. A mask that cannot be
    /// computed is no error here but [`Walk::Failed`], because the other verdicts still stand.
    pub fn judge(&self, irs: &[ConstraintIr], text: &str, seed: u64) -> Result<Judged, Error> {
        self.check_size(text)?;
        self.judge_compiled(&self.compile(irs)?, irs, text, seed, None)
    }

    /// [`Self::judge`] under `irs` that were compiled elsewhere, and only until `deadline`: what was not walked by then is
    /// [`Walk::Failed`].
    pub(super) fn judge_compiled(
        &self,
        compiled: &Arc<CompiledConstraint>,
        irs: &[ConstraintIr],
        text: &str,
        seed: u64,
        deadline: Option<Instant>,
    ) -> Result<Judged, Error> {
        self.check_size(text)?;
        let canonical = self.canonical_split(text);
        let tokens = canonical.as_deref().unwrap_or_default();
        let output = Output { text: text.as_bytes(), tokens, finished: true, ..Output::default() };
        let verdicts = verify::check(&output, irs);
        let random = self.random_split(text.as_bytes(), compiled.allowed_ids(), seed);
        let mut walker = Walker::new(self, compiled, text.as_bytes())?;
        walker.deadline = deadline;
        let limit = compiled.max_tokens().map_or(usize::MAX, |limit| limit as usize);
        let canonical = walker.walk(canonical.as_deref(), limit);
        // A limit of tokens binds the split that is most likely, not every split.
        let random_split = walker.walk(random.as_deref(), usize::MAX);
        Ok(Judged { canonical, random_split, verdicts })
    }

    /// Takes `text` through the masks in the tokenizer's own split, as a finished output after an empty prompt.
    ///
    /// Costs a mask per token, and once per constraint its compilation.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn walk(&self, irs: &[ConstraintIr], text: &str) -> Result<Walk, Error> {
        self.check_size(text)?;
        let compiled = self.compile(irs)?;
        let mut walker = Walker::new(self, &compiled, text.as_bytes())?;
        Ok(walker.walk(self.canonical_split(text).as_deref(), usize::MAX))
    }

    fn check_size(&self, text: &str) -> Result<(), Error> {
        let (size, limit) = (text.len(), self.text_bytes_max);
        if size > limit { Err(Error::TextTooLarge { size, limit }) } else { Ok(()) }
    }

    /// The constraint, from the cache or compiled here; two threads that meet a new one at once both compile it.
    fn compile(&self, irs: &[ConstraintIr]) -> Result<Arc<CompiledConstraint>, Error> {
        let key = Digest::of_value(irs);
        match self.constraints.find_or_start(key, |_| Ok(()))? {
            Found::Ready(compiled) => Ok(compiled),
            Found::Failed(refusal) => Err(refusal.into()),
            Found::Started(_) | Found::Joined(_) => {
                let outcome = self.guide.compile(irs).map_err(Failure::Guide);
                self.constraints.settle(key, &outcome);
                Ok(outcome?)
            }
        }
    }

    /// Whether any output satisfies an IR, as far as the guide's bounds let it be known: the judge that
    /// [`compile_judged`](crate::braid::compile_judged) asks. Costs one compile.
    ///
    /// # Errors
    /// As [`Self::judge`], but for what nothing satisfies.
    pub fn joint(&self, ir: &ConstraintIr) -> Result<Joint, Error> {
        joint(self.compile(std::slice::from_ref(ir)))
    }

    /// The tokenizer whose vocabulary the masks are over.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The guide whose masks are asked.
    #[must_use]
    pub fn guide(&self) -> &Guide {
        &self.guide
    }

    /// The tokenizer's own split where it gives exactly the text's bytes as text, else the longest tokens that lead to
    /// the end; `None` where the vocabulary cannot write the text.
    #[must_use]
    pub fn canonical_split(&self, text: &str) -> Option<Vec<u32>> {
        let exact = |ids: &Vec<u32>| self.tokenizer.decode(ids) == text.as_bytes();
        let own = self.tokenizer.encode(text, false).ok().filter(exact);
        own.or_else(|| {
            let all = vec![u32::MAX; num_words(self.tokenizer.vocabulary().num_rows())];
            self.splitter.split(text.as_bytes(), &all, |num_tokens| num_tokens - 1)
        })
    }

    fn random_split(&self, text: &[u8], allowed: &[u32], seed: u64) -> Option<Vec<u32>> {
        let digest = Digest::of_bytes(text);
        let stream = u32::from_le_bytes(digest.as_bytes()[..4].try_into().expect("a digest has 32 bytes"));
        let mut position = 0;
        self.splitter.split(text, allowed, |num_tokens| {
            position += 1;
            (uniform(seed, stream, position) * num_tokens as f64) as usize
        })
    }
}

/// What a compile says of a set as a whole.
pub(super) fn joint(compiled: Result<Arc<CompiledConstraint>, Error>) -> Result<Joint, Error> {
    match compiled {
        Ok(compiled) => Ok(match compiled.verdict() {
            guide::Verdict::Satisfiable(_) => Joint::Satisfiable,
            guide::Verdict::Empty { parts } => Joint::Empty { parts: parts.clone() },
            guide::Verdict::Unknown { .. } => Joint::Unknown,
        }),
        Err(Error::Guide(GuideError::Unsatisfiable { parts })) => Ok(Joint::Empty { parts }),
        Err(error) => Err(error),
    }
}

impl Judged {
    /// Where the masks stopped the text: in the tokenizer's own split, or else in the random one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        [&self.canonical, &self.random_split].into_iter().find_map(Walk::refusal)
    }

    /// The same with every part named by `name`.
    #[must_use]
    pub fn map_parts(self, name: impl Fn(&str) -> String) -> Self {
        let walk = |walk| match walk {
            Walk::Refused(Refusal { at, part }) => Walk::Refused(Refusal { at, part: name(&part) }),
            Walk::Failed(error) => Walk::Failed(error.map_parts(&name)),
            Walk::Accepted => Walk::Accepted,
        };
        let verdict = |verdict: Verdict| Verdict { part: name(&verdict.part), ..verdict };
        Self {
            canonical: walk(self.canonical),
            random_split: walk(self.random_split),
            verdicts: self.verdicts.into_iter().map(verdict).collect(),
        }
    }

    /// The failure of a mask, if there was one.
    #[must_use]
    pub fn failure(&self) -> Option<&GuideError> {
        [&self.canonical, &self.random_split].into_iter().find_map(Walk::failure)
    }

    /// Whether the independent engines found every part to hold; `None` where no part fails, but one has no engine of
    /// its own or could not be judged.
    #[must_use]
    pub fn verified(&self) -> Option<bool> {
        let binding = || self.verdicts.iter().filter(|verdict| !verdict.is_label());
        if binding().any(|verdict| matches!(verdict.status, VerdictStatus::Violated | VerdictStatus::Truncated)) {
            return Some(false);
        }
        binding().all(|verdict| verdict.status == VerdictStatus::Verified).then_some(true)
    }

    /// Whether the masks let the text through in both splits, and every part is verified or, where no independent
    /// engine exists, held by the masks.
    #[must_use]
    pub fn is_satisfied(&self) -> bool {
        let accepted = self.canonical == Walk::Accepted && self.random_split == Walk::Accepted;
        accepted && verify::all_satisfied(&self.verdicts)
    }
}

impl Walk {
    /// Whether the masks let the text through; `None` where a mask could not be computed.
    #[must_use]
    pub fn is_accepted(&self) -> Option<bool> {
        match self {
            Self::Accepted => Some(true),
            Self::Refused(_) => Some(false),
            Self::Failed(_) => None,
        }
    }

    fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused(refusal) = self { Some(refusal) } else { None }
    }

    fn failure(&self) -> Option<&GuideError> {
        if let Self::Failed(error) = self { Some(error) } else { None }
    }
}

/// Takes one text through the masks of one constraint.
struct Walker<'a> {
    judge: &'a Judge,
    text: &'a [u8],
    matcher: Matcher,
    row: Vec<u32>,
    /// When the walk is given up.
    deadline: Option<Instant>,
}

impl<'a> Walker<'a> {
    fn new(judge: &'a Judge, compiled: &Arc<CompiledConstraint>, text: &'a [u8]) -> Result<Self, GuideError> {
        let row = vec![0; num_words(judge.tokenizer.vocabulary().num_rows())];
        Ok(Self { judge, text, matcher: compiled.matcher(b"")?, row, deadline: None })
    }

    /// Walks one split of the text, `None` where there is none, and goes back to the start.
    fn walk(&mut self, tokens: Option<&[u32]>, num_tokens_max: usize) -> Walk {
        let Some(tokens) = tokens else { return Walk::Refused(self.refused_without_split()) };
        let outcome = self.follow(tokens, num_tokens_max);
        let back = self.matcher.rollback(self.matcher.num_accepted());
        match outcome.and_then(|refusal| back.map(|()| refusal)) {
            Ok(None) => Walk::Accepted,
            Ok(Some(refusal)) => Walk::Refused(refusal),
            Err(error) => Walk::Failed(error),
        }
    }

    /// The first refusal on the way, or none.
    fn follow(&mut self, tokens: &[u32], num_tokens_max: usize) -> Result<Option<Refusal>, GuideError> {
        for (idx, &token) in tokens.iter().enumerate() {
            if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Err(GuideError::Aborted { part: "text".into() });
            }
            let at = self.matcher.num_bytes();
            if idx == num_tokens_max {
                return Ok(Some(Refusal { at, part: "limits.max_tokens".into() }));
            }
            if let Some(part) = self.refusing(token)? {
                let len = self.judge.tokenizer.vocabulary().bytes(token).len();
                return Ok(Some(Refusal { at: self.first_refused_byte(at, at + len)?, part }));
            }
            self.matcher.accept(token)?;
        }
        let end = self.judge.tokenizer.vocabulary().end_tokens()[0];
        Ok(self.refusing(end)?.map(|part| Refusal { at: self.text.len(), part }))
    }

    /// The part whose mask does not have `token`.
    fn refusing(&mut self, token: u32) -> Result<Option<String>, GuideError> {
        if let Err(error) = self.matcher.fill(&mut self.row) {
            return match error {
                GuideError::DeadEnd { parts, .. } => Ok(Some(parts.join(" and "))),
                error => Err(error),
            };
        }
        if is_allowed(&self.row, token) {
            return Ok(None);
        }
        match self.matcher.accept(token) {
            Err(GuideError::NotAllowed { part, .. }) => Ok(Some(part)),
            Err(error) => Err(error),
            Ok(()) => Err(GuideError::Internal {
                part: "constraints".into(),
                message: "the matcher accepts a token that its mask does not have".into(),
            }),
        }
    }

    /// The first byte in `from..to` that no allowed token can write, where the token that spans them is refused; `from`
    /// where shorter tokens can write them all, so that only the id was refused.
    fn first_refused_byte(&mut self, from: usize, to: usize) -> Result<usize, GuideError> {
        let mut seen = vec![false; to - from + 1];
        let furthest = self.explore(from, from, to, &mut seen)?;
        Ok(if furthest < to { furthest } else { from })
    }

    /// The furthest byte that tokens can write from `at`, where the matcher stands; positions in `seen` were tried.
    fn explore(&mut self, at: usize, from: usize, to: usize, seen: &mut [bool]) -> Result<usize, GuideError> {
        seen[at - from] = true;
        if at == to {
            return Ok(at);
        }
        match self.matcher.fill(&mut self.row) {
            Err(GuideError::DeadEnd { .. }) => return Ok(at),
            other => other?,
        }
        let rest = &self.text[at..to];
        let (judge, row) = (self.judge, &self.row);
        let vocabulary = judge.tokenizer.vocabulary();
        let common = |id: &u32| vocabulary.bytes(*id).iter().zip(rest).take_while(|(a, b)| a == b).count();
        let writable = judge.splitter.beginning_with(rest[0]).iter().filter(|&&id| is_allowed(row, id));
        let mut furthest = at + writable.map(common).max().unwrap_or(0);
        let next: Vec<_> = judge.splitter.prefixes(rest).filter(|&(id, _)| is_allowed(row, id)).collect();
        for (id, len) in next {
            if !seen[at + len - from] {
                self.matcher.accept(id)?;
                furthest = furthest.max(self.explore(at + len, from, to, seen)?);
                self.matcher.rollback(1)?;
            }
        }
        Ok(furthest)
    }

    /// Where no split exists at all, the vocabulary is what refuses, or the id lists.
    fn refused_without_split(&self) -> Refusal {
        let splitter = &self.judge.splitter;
        let all = vec![u32::MAX; self.row.len()];
        let by_vocabulary = splitter.num_writable(self.text, &all);
        if by_vocabulary < self.text.len() {
            return Refusal { at: by_vocabulary, part: "vocabulary".into() };
        }
        let at = splitter.num_writable(self.text, self.matcher.compiled().allowed_ids());
        Refusal { at, part: "token_masks".into() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::LazyLock;

    use serde_json::{Value, json};

    use super::*;
    use crate::text::{Token, Vocabulary};

    static NANO: LazyLock<Judge> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
        let tokenizer = crate::maze::open_tokenizer(&folder).expect("the embedded model is in the repository");
        Judge::new(tokenizer, JudgeConfig::default()).expect("the vocabulary can be sliced")
    });

    fn judge(irs: &[Value], text: &str) -> Judged {
        let irs: Vec<ConstraintIr> =
            irs.iter().map(|ir| serde_json::from_value(ir.clone()).expect("a well-formed IR")).collect();
        NANO.judge(&irs, text, 7).unwrap_or_else(|error| panic!("{irs:?}: {error}"))
    }

    fn regex(pattern: &str, mode: &str) -> Value {
        json!({"regex_patterns": [{"any_of": [{"pattern": pattern}], "match": mode}]})
    }

    #[test]
    fn each_kind_of_part_is_told_right_from_wrong_to_the_byte() {
        let grammar = |syntax: &str, source: &str| json!({"grammar": {"syntax": syntax, "source": source}});
        let object = json!({"type": "object", "properties": {"name": {"enum": ["alpha", "beta"]}}, "required": ["name"],
                            "additionalProperties": false});
        for (ir, right, wrong, at) in [
            (json!({"json_schema": object}), r#"{"name":"alpha"}"#, r#"{"name":"alphabet"}"#, 14),
            (json!({"json_schema": {"type": "integer"}}), "-17", "-1.7", 2),
            (regex("(return|yield) [a-z]+", "full"), "return value", "return Value", 7),
            (regex("def ", "prefix"), "def function", "define", 3),
            (regex("x", "contains"), "prefix it", "no such letter", 14),
            (regex("password", "absent"), "passwor d", "the password is", 11),
            (grammar("gbnf", "root ::= \"a\"+ \"b\""), "aaab", "aaaa", 4),
            (grammar("ebnf", "s ::= 'import' ' ' [a-z]+"), "import os", "import 0s", 7),
            (json!({"forbidden_text": [{"text": "eval("}]}), "evaluate", "x = eval(y)", 8),
        ] {
            let judged = judge(std::slice::from_ref(&ir), right);
            assert_eq!((judged.refusal(), judged.verified()), (None, Some(true)), "{ir} on {right}");
            assert!(judged.is_satisfied());
            let judged = judge(std::slice::from_ref(&ir), wrong);
            for walk in [&judged.canonical, &judged.random_split] {
                assert_eq!(walk.refusal().map(|refusal| refusal.at), Some(at), "{ir} on {wrong}: {judged:?}");
            }
            assert_eq!((judged.verified(), judged.is_satisfied()), (Some(false), false), "{ir} on {wrong}");
        }
    }

    #[test]
    fn the_first_refused_byte_lies_inside_a_token() {
        let judged = judge(&[regex("retur[a-m]", "full")], "return");
        assert_eq!(NANO.canonical_split("return").map(|tokens| tokens.len()), Some(1), "one token");
        assert_eq!(judged.canonical, Walk::Refused(Refusal { at: 5, part: "regex_patterns[0]".into() }));
    }

    #[test]
    fn a_character_is_refused_at_its_first_wrong_byte() {
        let judged = judge(&[regex("é", "full")], "è");
        assert_eq!(judged.refusal().map(|refusal| refusal.at), Some(1), "é and è share their first byte");
    }

    #[test]
    fn parts_of_several_irs_hold_together_and_are_named() {
        let irs = [json!({"json_schema": {"type": "array", "items": {"type": "string"}}}), regex("[^z]*", "full")];
        assert!(judge(&irs, r#"["a","b"]"#).is_satisfied());
        let judged = judge(&irs, r#"["a","z"]"#);
        assert_eq!(judged.refusal(), Some(&Refusal { at: 6, part: "constraints[1].regex_patterns[0]".into() }));
        let judged = judge(&irs, r#"["a",1]"#);
        assert_eq!(judged.refusal(), Some(&Refusal { at: 5, part: "constraints[0].json_schema".into() }));
        assert_eq!(judged.verified(), Some(false));
    }

    #[test]
    fn what_no_engine_judges_is_not_verified_and_not_violated() {
        let lark = json!({"grammar": {"syntax": "lark", "source": "start: \"a\"+"}});
        let judged = judge(std::slice::from_ref(&lark), "aa");
        assert_eq!((judged.verified(), judged.is_satisfied()), (None, true));
        let judged = judge(&[lark, regex("a", "full")], "aa");
        assert_eq!(judged.verified(), Some(false));
    }

    #[test]
    fn id_lists_bind_ids_and_a_limit_of_tokens_binds_the_canonical_split() {
        let token = NANO.canonical_split("return").expect("it can be written")[0];
        let judged = judge(&[json!({"token_masks": {"forbidden_tokens": [token]}})], "return");
        let refused = Walk::Refused(Refusal { at: 0, part: "token_masks".into() });
        assert_eq!((&judged.canonical, &judged.random_split), (&refused, &Walk::Accepted));
        let judged = judge(&[json!({"token_masks": {"allowed_tokens": [token]}})], "returns");
        assert_eq!(judged.random_split, Walk::Refused(Refusal { at: 6, part: "token_masks".into() }));
        let judged = judge(&[json!({"limits": {"max_tokens": 1}})], "return return");
        assert_eq!(judged.canonical, Walk::Refused(Refusal { at: 6, part: "limits.max_tokens".into() }));
        assert_eq!((&judged.random_split, judged.verified()), (&Walk::Accepted, Some(false)));
    }

    #[test]
    fn the_random_split_writes_the_text_in_other_tokens() {
        let text = "def function(value): return value";
        let vocabulary = NANO.tokenizer.vocabulary();
        let all = vec![u32::MAX; num_words(vocabulary.num_rows())];
        let split = |seed| NANO.random_split(text.as_bytes(), &all, seed).expect("it can be written");
        assert_eq!(vocabulary.decode(&split(1)), text.as_bytes());
        assert_ne!(Some(split(1)), NANO.canonical_split(text));
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
    }

    #[test]
    fn a_text_that_no_tokens_write_is_refused_where_they_end() {
        let tokens = vec![Token::Text(b"ab".to_vec()), Token::Text(b"a".to_vec()), Token::Control("<e>".into())];
        let splitter = Splitter::new(Arc::new(Vocabulary::new(tokens, 3, vec![2]).expect("a valid vocabulary")));
        assert_eq!(splitter.num_writable(b"abac", &[u32::MAX]), 3);
        // Control tokens have no bytes, so a text that names one is written in ordinary tokens.
        let name = NANO.tokenizer.end_text();
        assert!(judge(&[regex(".*", "full")], name).is_satisfied(), "{name}");
    }

    #[test]
    fn what_cannot_be_compiled_or_is_too_large_is_an_error() {
        let ir = ConstraintIr::from_json_schema(json!({"$ref": "https://example.org/x"}));
        let error = NANO.judge(&[ir], "1", 0).map(drop).expect_err("nothing is fetched");
        assert!(matches!(error, Error::Guide(_)), "{error}");
        let config = JudgeConfig { text_bytes_max: 3, ..JudgeConfig::default() };
        let small = Judge::new(NANO.tokenizer.clone(), config).expect("the vocabulary can be sliced");
        assert!(small.judge(&[], "abc", 0).expect("three bytes").is_satisfied());
        assert!(matches!(small.judge(&[], "abcd", 0), Err(Error::TextTooLarge { size: 4, limit: 3 })));
    }

    #[test]
    fn a_mask_without_fuel_fails_its_walk_alone() {
        let guide = GuideConfig { step_items: 20, row_items: 20, ..GuideConfig::default() };
        let starved = Judge::new(NANO.tokenizer.clone(), JudgeConfig { guide, ..JudgeConfig::default() });
        let starved = starved.expect("the vocabulary can be sliced");
        let grammar =
            json!({"grammar": {"syntax": "gbnf", "source": "root ::= \"x\" e\ne ::= e e | \"a\" | \"ab\" e"}});
        let ir: ConstraintIr = serde_json::from_value(grammar).expect("a well-formed IR");
        let judged = starved.judge(&[ir], "xaaaaaaaaaaaaaaaaaaaaaaaa", 0).expect("it compiles");
        assert_eq!(judged.canonical.is_accepted(), None, "{judged:?}");
        assert!(judged.failure().is_some());
        assert_eq!(judged.verified(), Some(true), "the engines still say what they found");
    }
}
