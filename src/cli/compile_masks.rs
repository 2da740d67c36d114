//! What the parts of an IR that speak of texts and ids mask of a vocabulary: counts, and a few of the tokens.
//!
//! Read from the real masks: each part is compiled by itself, and what its mask lacks before the first token is what it
//! takes from every output. What a part masks further on depends on the text, and so does all that a grammar masks.

use std::fmt;

use serde::Serialize;

use crate::constraint::{ConstraintIr, Digest, ForbiddenText, Scope, TextOrRegex, TokenMasks};
use crate::guide::{GuideError, is_allowed, num_words};
use crate::maze::Judge;

/// Parts that are looked at, a compile and a mask each; the rest are counted.
const PARTS_MAX: usize = 200;
/// Tokens spelled out for each part.
const EXAMPLES_MAX: usize = 5;
/// Characters of a text or pattern that are quoted.
const QUOTED_CHARS_MAX: usize = 40;

/// What parts of an IR mask of one vocabulary.
#[derive(Debug, Serialize)]
pub(super) struct MaskReport {
    /// Which vocabulary.
    vocabulary: Digest,
    /// Its ids that stand for text.
    num_text_ids: usize,
    /// The parts.
    token_masks: Vec<PartMask>,
    /// Parts past the bound.
    #[serde(skip_serializing_if = "is_zero")]
    num_parts_left_out: usize,
}

/// What one part masks.
#[derive(Debug, Serialize)]
struct PartMask {
    /// Path into the IR.
    part: String,
    /// The text, pattern or list.
    what: String,
    /// Ids it masks before the first token; for a bias, ids that it bears on there.
    #[serde(skip_serializing_if = "Option::is_none")]
    num_ids: Option<usize>,
    /// Some of them, shortest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    examples: Vec<Example>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    does: Does,
}

#[derive(Clone, Copy, Debug)]
enum Does {
    Mask,
    Bias,
}

/// A token, spelled out.
#[derive(Debug, Serialize)]
struct Example {
    id: u32,
    text: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What the texts, id lists and biases of `ir` mask of the judge's vocabulary: a compile and a mask for each.
pub(super) fn report(judge: &Judge, ir: &ConstraintIr) -> MaskReport {
    let vocabulary = judge.tokenizer().vocabulary();
    let mut parts = parts(ir);
    let num_parts_left_out = parts.len().saturating_sub(PARTS_MAX);
    parts.truncate(PARTS_MAX);
    MaskReport {
        vocabulary: Digest::from_bytes(vocabulary.digest_bytes()),
        num_text_ids: (0..vocabulary.num_rows() as u32).filter(|&id| vocabulary.is_text(id)).count(),
        token_masks: parts.into_iter().map(|part| part.measure(judge)).collect(),
        num_parts_left_out,
    }
}

/// A part that is to be looked at, and an IR that masks what is asked for.
struct Part {
    path: String,
    what: String,
    alone: ConstraintIr,
    does: Does,
}

fn parts(ir: &ConstraintIr) -> Vec<Part> {
    let mut parts = Vec::new();
    let forbids = |text: ForbiddenText| ConstraintIr { forbidden_text: vec![text], ..ConstraintIr::default() };
    for (idx, forbidden) in ir.forbidden_text.iter().enumerate() {
        let what = forbidden.pattern().map_or_else(|error| error.to_string(), quoted);
        // Before the first token, and after an empty prompt, both scopes are the same.
        let alone = forbids(ForbiddenText { scope: Scope::Output, ..forbidden.clone() });
        parts.push(Part { path: format!("forbidden_text[{idx}]"), what, alone, does: Does::Mask });
    }
    if let Some(masks) = &ir.token_masks {
        let empty = TokenMasks { allowed_tokens: None, forbidden_tokens: None, vocabulary: masks.vocabulary };
        let lists = [
            (
                "allowed_tokens",
                &masks.allowed_tokens,
                TokenMasks { allowed_tokens: masks.allowed_tokens.clone(), ..empty.clone() },
            ),
            (
                "forbidden_tokens",
                &masks.forbidden_tokens,
                TokenMasks { forbidden_tokens: masks.forbidden_tokens.clone(), ..empty },
            ),
        ];
        for (name, ids, alone) in lists {
            let Some(ids) = ids else { continue };
            let alone = ConstraintIr { token_masks: Some(alone), ..ConstraintIr::default() };
            let what = format!("a list of {} ids", ids.len());
            parts.push(Part { path: format!("token_masks.{name}"), what, alone, does: Does::Mask });
        }
    }
    for (idx, soft) in ir.soft.iter().enumerate() {
        let what = soft.pattern().map_or_else(|error| error.to_string(), quoted);
        let text = ForbiddenText { text: soft.text.clone(), regex: soft.regex.clone(), ..ForbiddenText::text("") };
        let part = Part {
            path: format!("soft[{idx}]"),
            what: format!("{what} by {:+}", soft.bias),
            // What a bias bears on is what forbidding it would take away.
            alone: forbids(text),
            does: Does::Bias,
        };
        parts.push(part);
    }
    parts
}

fn quoted(pattern: TextOrRegex<'_>) -> String {
    let (mark, text) = match pattern {
        TextOrRegex::Text(text) => ('`', text),
        TextOrRegex::Regex(text) => ('/', text),
    };
    let mut shown: String = text.chars().take(QUOTED_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    format!("{mark}{shown}{mark}")
}

impl Part {
    fn measure(self, judge: &Judge) -> PartMask {
        let Self { path: part, what, alone, does } = self;
        match masked(judge, &alone) {
            Ok(ids) => {
                PartMask { part, what, num_ids: Some(ids.len()), examples: examples(judge, ids), error: None, does }
            }
            Err(error) => {
                PartMask { part, what, num_ids: None, examples: Vec::new(), error: Some(error.to_string()), does }
            }
        }
    }
}

/// The ids of text that the mask before the first token lacks.
fn masked(judge: &Judge, ir: &ConstraintIr) -> Result<Vec<u32>, GuideError> {
    let vocabulary = judge.tokenizer().vocabulary();
    let mut row = vec![0; num_words(vocabulary.num_rows())];
    let compiled = judge.guide().compile(std::slice::from_ref(ir));
    match compiled.and_then(|compiled| compiled.matcher(b"")?.fill(&mut row)) {
        // Nothing is left at all.
        Err(GuideError::Unsatisfiable { .. } | GuideError::DeadEnd { .. }) => row.fill(0),
        other => other?,
    }
    Ok((0..vocabulary.num_rows() as u32).filter(|&id| vocabulary.is_text(id) && !is_allowed(&row, id)).collect())
}

fn examples(judge: &Judge, mut ids: Vec<u32>) -> Vec<Example> {
    let vocabulary = judge.tokenizer().vocabulary();
    ids.sort_by_key(|&id| (vocabulary.bytes(id).len(), id));
    let spelled = |id| {
        let text = String::from_utf8_lossy(vocabulary.bytes(id)).into_owned();
        let mut shown: String = text.chars().take(QUOTED_CHARS_MAX).collect();
        if shown.len() < text.len() {
            shown.push_str("...");
        }
        Example { id, text: shown }
    };
    ids.into_iter().take(EXAMPLES_MAX).map(spelled).collect()
}

impl fmt::Display for MaskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.token_masks.is_empty() {
            return Ok(());
        }
        let digest = self.vocabulary.to_string();
        let (short, num_ids) = (&digest[..digest.len().min(12)], self.num_text_ids);
        writeln!(f, "over the vocabulary {short}, {num_ids} ids of text, before the first token:")?;
        for one in &self.token_masks {
            writeln!(f, "  {one}")?;
        }
        match self.num_parts_left_out {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more parts"),
        }
    }
}

impl fmt::Display for PartMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.part, self.what)?;
        let (Some(num_ids), None) = (self.num_ids, &self.error) else {
            return write!(f, "not known, {}", self.error.as_deref().unwrap_or("nothing was computed"));
        };
        match self.does {
            Does::Mask => write!(f, "{num_ids} ids are masked")?,
            Does::Bias => write!(f, "bears on {num_ids} ids")?,
        }
        let spelled: Vec<String> =
            self.examples.iter().map(|example| format!("{} {:?}", example.id, example.text)).collect();
        match (spelled.is_empty(), num_ids > spelled.len()) {
            (true, _) => Ok(()),
            (false, true) => write!(f, ": {}, ...", spelled.join(", ")),
            (false, false) => write!(f, ": {}", spelled.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::maze::{JudgeConfig, open_tokenizer};

    fn judge() -> Judge {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/ananke-nano");
        let tokenizer = open_tokenizer(&folder).expect("the embedded model's tokenizer");
        Judge::new(tokenizer, JudgeConfig::default()).expect("a judge")
    }

    #[test]
    fn a_text_masks_exactly_the_tokens_that_hold_it_whole() {
        let judge = judge();
        let vocabulary = judge.tokenizer().vocabulary();
        let ir: ConstraintIr = serde_json::from_value(json!({
            "forbidden_text": [
                {"text": "on"}, {"text": "ON", "ignore_case": true}, {"regex": "[0-9]"}, {"regex": "("}, {"text": "no token holds this"}
            ],
            "token_masks": {"allowed_tokens": [5, 6, 7], "forbidden_tokens": [5]},
            "soft": [{"text": "on", "bias": 1.5}],
        }))
        .expect("an IR");
        let report = report(&judge, &ir);
        let holding = |holds: &dyn Fn(&str) -> bool| {
            (0..vocabulary.num_rows() as u32)
                .filter(|&id| vocabulary.is_text(id) && holds(&String::from_utf8_lossy(vocabulary.bytes(id))))
                .count()
        };
        let on = holding(&|text| text.contains("on"));
        let expected = [
            Some(on),
            Some(holding(&|text| text.to_ascii_lowercase().contains("on"))),
            Some(holding(&|text| text.contains(|c: char| c.is_ascii_digit()))),
            None,
            Some(0),
            Some(report.num_text_ids - [5, 6, 7].into_iter().filter(|&id| vocabulary.is_text(id)).count()),
            Some(usize::from(vocabulary.is_text(5))),
            Some(on),
        ];
        assert!(on > 5, "the vocabulary has such tokens");
        assert_eq!(report.token_masks.iter().map(|one| one.num_ids).collect::<Vec<_>>(), expected);
        for one in &report.token_masks[..1] {
            assert_eq!(one.examples.len(), EXAMPLES_MAX);
            assert!(one.examples.iter().all(|example| example.text.contains("on")), "{:?}", one.examples);
        }
        let text = report.to_string();
        assert!(text.contains(&format!("forbidden_text[0] `on`: {on} ids are masked: ")), "{text}");
        assert!(text.contains("forbidden_text[3] /(/: not known, ") && text.contains("soft[0] `on` by +1.5: bears on"));
    }

    #[test]
    fn the_report_is_bounded() {
        let texts: Vec<_> =
            (0..PARTS_MAX + 7).map(|number| json!({"text": format!("{number} {}", "x".repeat(100))})).collect();
        let ir = serde_json::from_value(json!({"forbidden_text": texts})).expect("an IR");
        let report = report(&judge(), &ir);
        assert_eq!((report.token_masks.len(), report.num_parts_left_out), (PARTS_MAX, 7));
        assert!(report.to_string().lines().all(|line| line.len() < 120));
    }
}
