//! Filling a hole: the prompt by the model's own markers, cut to the window where it must be, and the document that the
//! constraints see.
//!
//! The model sees what fits its window; the constraints see the whole document that the client sent.

use std::sync::Arc;

use serde::Serialize;

use super::backend::Backend;
use super::compile_pool::Lookup;
use super::request::{Hole, OnUnparsableContext, Truncation};
use super::{Client, Error, Maze, TokenizedPrompt, beside};
use crate::braid;
use crate::constraint::{ConstraintIr, Granularity};
use crate::guide::{CompiledConstraint, Document, GuideError, Matcher, num_words};
use crate::text::{FimMarkers, FimPieces, Vocabulary};

/// Of a prompt that is cut, the suffix keeps this much where both sides are longer: one part in so many.
const SUFFIX_SHARE: usize = 4;

/// How a hole was put to the model and to the constraints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FimRecord {
    /// Tokens of the text before the hole that the model saw.
    pub prefix_tokens: u32,
    /// Tokens of the text behind it that the model saw.
    pub suffix_tokens: u32,
    /// Tokens dropped from the start of the prefix, because the window has no room for them.
    pub prefix_tokens_dropped: u32,
    /// Tokens dropped from the end of the suffix.
    pub suffix_tokens_dropped: u32,
    /// Tokens of other files that the model saw.
    #[serde(skip_serializing_if = "is_zero")]
    pub extra_tokens: u32,
    /// Tokens of other files that were dropped, which are the first to go.
    #[serde(skip_serializing_if = "is_zero")]
    pub extra_tokens_dropped: u32,
    /// What the rules about code judge; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_context: Option<CodeContext>,
    /// Why they do not judge the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hole_only_because: Option<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What the grammar of a program, and the rules filled into it, judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeContext {
    /// Prefix, hole and suffix as one text.
    Document,
    /// The hole alone, as statements.
    HoleOnly,
}

/// A hole whose prompt is made.
#[derive(Clone, Debug)]
pub(super) struct OpenHole {
    pub(super) document: Document,
    pub(super) record: FimRecord,
    pub(super) on_unparsable: OnUnparsableContext,
}

impl Maze {
    /// The prompt of a hole; `max_tokens` are kept free for what fills it.
    pub(super) fn tokenize_hole(&self, hole: &Hole, max_tokens: Option<u32>) -> Result<TokenizedPrompt, Error> {
        let tokenizer = &self.inner.tokenizer;
        let markers = tokenizer.fim().ok_or_else(|| Error::NoFimMarkers { model: self.inner.card.id.clone() })?;
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let encode = |text: &str| tokenizer.encode(text, false);
        let whole = FimPieces {
            extra: encode(&hole.extra)?,
            prefix: encode(&hole.prefix)?,
            suffix: encode(&hole.suffix)?,
            begun: encode(&hole.begun)?,
        };
        let mut pieces = whole.clone();
        if hole.truncation == Truncation::Auto {
            let asked = max_tokens.unwrap_or(self.inner.config.max_tokens_default) as usize;
            let taken = asked + FimMarkers::NUM_TOKENS + usize::from(bos.is_some()) + pieces.begun.len();
            // Where not even the markers fit, the budget says so.
            if let Some(room) = self.window().checked_sub(taken) {
                cut(&mut pieces, room, tokenizer.vocabulary());
            }
        }
        let record = FimRecord {
            prefix_tokens: (pieces.prefix.len() + pieces.begun.len()) as u32,
            suffix_tokens: pieces.suffix.len() as u32,
            prefix_tokens_dropped: (whole.prefix.len() - pieces.prefix.len()) as u32,
            suffix_tokens_dropped: (whole.suffix.len() - pieces.suffix.len()) as u32,
            extra_tokens: pieces.extra.len() as u32,
            extra_tokens_dropped: (whole.extra.len() - pieces.extra.len()) as u32,
            code_context: None,
            hole_only_because: None,
        };
        let prefix = [hole.prefix.as_str(), &hole.begun].concat();
        let document = Document { prefix: prefix.clone(), suffix: hole.suffix.clone() };
        Ok(TokenizedPrompt {
            ids: markers.prompt(bos, &pieces),
            text: prefix,
            hole: Some(OpenHole { document, record, on_unparsable: hole.on_unparsable_context }),
            ..TokenizedPrompt::default()
        })
    }

    /// Decides whether the rules about code judge the document of a hole or the hole alone, and compiles anew where that
    /// takes another constraint. Changes nothing where no rule is about a document.
    pub(super) async fn settle_context(&self, mut admitting: Admitting) -> Result<Admitting, Error> {
        let reads_document = |ir: &ConstraintIr| ir.code.as_ref().is_some_and(|code| code.document);
        if !admitting.constraints.iter().any(reads_document) {
            return Ok(admitting);
        }
        let (mut admitting, refusal) = beside(move || {
            let refusal = admitting.try_document()?;
            Ok((admitting, refusal))
        })
        .await?;
        let Some(refusal) = refusal else { return Ok(admitting) };
        let Some(hole) = &mut admitting.prompt.hole else { return Err(refusal.into()) };
        if hole.on_unparsable == OnUnparsableContext::Refuse {
            return Err(refusal.into());
        }
        hole.record.code_context = Some(CodeContext::HoleOnly);
        hole.record.hole_only_because = Some(refusal.to_string());
        admitting.constraints.iter_mut().for_each(bind_hole_alone);
        let irs: Arc<[ConstraintIr]> = admitting.constraints.clone().into();
        let (maze, client) = (self.clone(), admitting.client.clone());
        let lookup: Lookup = beside(move || maze.inner.constraints.look_up(&irs, client.as_ref())).await?;
        admitting.compiled = self.inner.constraints.wait(lookup).await?;
        Ok(admitting)
    }

    /// Tokens that a sequence may have in all.
    pub(super) fn window(&self) -> usize {
        match &self.inner.backend {
            Backend::Local(engine) => self.inner.card.context_len.min(engine.config().num_tokens_max()),
            Backend::Remote(_) => self.inner.card.context_len,
        }
    }
}

/// A request between its first compile and its matchers.
pub(super) struct Admitting {
    pub(super) constraints: Vec<ConstraintIr>,
    pub(super) client: Option<Client>,
    pub(super) prompt: TokenizedPrompt,
    pub(super) compiled: Arc<CompiledConstraint>,
    /// A matcher at the start of the output, where one was needed to decide.
    pub(super) first: Option<Matcher>,
}

impl Admitting {
    /// Takes the prefix through the parts that read the document; says why where that fails, or where nothing at all may
    /// follow it.
    fn try_document(&mut self) -> Result<Option<GuideError>, Error> {
        let mut matcher = match self.matcher() {
            Ok(matcher) => matcher,
            Err(Error::Guide(refusal @ GuideError::UnparsableContext { .. })) => return Ok(Some(refusal)),
            Err(error) => return Err(error),
        };
        let mut row = vec![0; num_words(self.compiled.num_rows())];
        match matcher.fill(&mut row) {
            Ok(()) => {}
            Err(GuideError::DeadEnd { parts, .. }) => {
                let why = "nothing can follow the text before the hole".to_owned();
                return Ok(Some(GuideError::UnparsableContext { part: parts.join(" and "), why }));
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(hole) = &mut self.prompt.hole {
            hole.record.code_context = Some(CodeContext::Document);
        }
        self.first = Some(matcher);
        Ok(None)
    }

    /// A matcher for one more choice.
    pub(super) fn matcher(&mut self) -> Result<Matcher, Error> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        Ok(match &self.prompt.hole {
            Some(hole) => self.compiled.matcher_in(&hole.document)?,
            None => self.compiled.matcher(self.prompt.text.as_bytes())?,
        })
    }
}

/// Makes a rule about whole files one about statements: a hole is no file. That a signature is declared is asked of
/// a document only.
fn bind_hole_alone(ir: &mut ConstraintIr) {
    let Some(code) = &mut ir.code else { return };
    let granularity = match code.granularity {
        Granularity::File => Granularity::Statements,
        other => other,
    };
    let mut rules = std::mem::take(&mut code.rules);
    rules.signature = None;
    *code = braid::code(code.language, granularity, rules);
    ir.digest = None;
}

/// Makes rules about code those of the document around a hole.
///
/// # Errors
/// [`Error::Ir`] for a digest that was not right before.
pub(super) fn bind_document(irs: &mut [ConstraintIr]) -> Result<(), Error> {
    for (index, ir) in irs.iter_mut().enumerate().filter(|(_, ir)| ir.code.is_some()) {
        ir.validate().map_err(|source| Error::Ir { index, source })?;
        ir.digest = None;
        ir.code.iter_mut().for_each(|code| code.document = true);
    }
    Ok(())
}

/// Drops what is farthest from the hole, in whole tokens and characters, until `room` tokens are left beside what is
/// begun. The suffix keeps a share of its own, and what the prefix leaves; what both leave is for other files.
fn cut(pieces: &mut FimPieces, room: usize, vocabulary: &Vocabulary) {
    let FimPieces { extra, prefix, suffix, .. } = pieces;
    let for_suffix = (room / SUFFIX_SHARE).max(room.saturating_sub(prefix.len()));
    keep_first(suffix, for_suffix, vocabulary);
    keep_last(prefix, room - suffix.len(), vocabulary);
    keep_last(extra, room - suffix.len() - prefix.len(), vocabulary);
}

fn keep_first(tokens: &mut Vec<u32>, count: usize, vocabulary: &Vocabulary) {
    if tokens.len() <= count {
        return;
    }
    tokens.truncate(count);
    while std::str::from_utf8(&vocabulary.decode(tokens)).is_err() {
        tokens.pop();
    }
}

fn keep_last(tokens: &mut Vec<u32>, count: usize, vocabulary: &Vocabulary) {
    if tokens.len() <= count {
        return;
    }
    tokens.drain(..tokens.len() - count);
    let is_inside = |token: &u32| vocabulary.bytes(*token).first().is_some_and(|byte| byte & 0xC0 == 0x80);
    let num_broken = tokens.iter().take_while(|token| is_inside(token)).count();
    tokens.drain(..num_broken);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Token;

    /// Ids 0 to 255 are the bytes.
    fn bytes() -> Vocabulary {
        let mut tokens: Vec<Token> = (0..=255u8).map(|byte| Token::Text(vec![byte])).collect();
        tokens.push(Token::Control("<end>".into()));
        Vocabulary::new(tokens, 257, vec![256]).expect("a valid vocabulary")
    }

    /// What is left of `extra`, `prefix` and `suffix`.
    fn cut_texts(texts: [&str; 3], room: usize) -> [String; 3] {
        let [extra, prefix, suffix] = texts.map(|text| text.bytes().map(u32::from).collect());
        let vocabulary = bytes();
        let mut pieces = FimPieces { extra, prefix, suffix, begun: Vec::new() };
        cut(&mut pieces, room, &vocabulary);
        assert!(pieces.extra.len() + pieces.prefix.len() + pieces.suffix.len() <= room);
        [pieces.extra, pieces.prefix, pieces.suffix]
            .map(|ids| String::from_utf8(vocabulary.decode(&ids)).expect("whole characters"))
    }

    #[test]
    fn what_is_farthest_from_the_hole_goes_first() {
        let cut = |prefix, suffix, room| cut_texts(["", prefix, suffix], room)[1..].join("|");
        assert_eq!(cut("abcdefgh", "ijklmnop", 16), "abcdefgh|ijklmnop");
        assert_eq!(cut("abcdefgh", "ijklmnop", 8), "cdefgh|ij", "a quarter for the suffix");
        assert_eq!(cut("ab", "ijklmnop", 8), "ab|ijklmn", "and what the prefix leaves");
        assert_eq!(cut("abcdefgh", "i", 4), "fgh|i", "what the suffix leaves is the prefix's");
        assert_eq!(cut("abc", "def", 0), "|");
        assert_eq!(cut_texts(["xyz", "abc", "d"], 6), ["yz", "abc", "d"], "other files get what is left");
        assert_eq!(cut_texts(["xyz", "abc", "d"], 4), ["", "abc", "d"]);
    }

    #[test]
    fn characters_are_cut_whole() {
        for room in 0..20 {
            cut_texts(["é", "äöü€", "ä🦀€x"], room);
        }
        assert_eq!(cut_texts(["", "aä", ""], 1), [""; 3]);
    }
}
