//! Verdicts on finished text, by engines that share no code with the masks.
//!
//! The guide binds an output while it is written; this module reads it once more when it is done, with a JSON Schema
//! validator, the `regex` crate, a plain search, a small Earley recognizer and tree-sitter.
//! If the two disagree, one of them is wrong, and the verdict says so instead of trusting the masks.
//! Nothing here stops or repairs an output, and nothing panics on a hostile constraint: what cannot be judged is
//! [`VerdictStatus::NotChecked`], with the reason.

use serde::{Deserialize, Serialize};

use crate::constraint::{ConstraintIr, GrammarSyntax, TokenMasks};

mod code;
mod forbidden;
mod grammar;
mod json;
mod regexes;
mod regions;

pub use code::parses;

/// An output to be judged, with what was before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Output<'a> {
    /// The bytes returned as content: no echo, no chat template, stop string excluded, nothing trimmed.
    pub text: &'a [u8],
    /// The sampled and forced token ids, in order, without the end token.
    pub tokens: &'a [u32],
    /// The bytes before the output; forbidden text with `scope: document` looks at them, and code that is the document.
    pub prompt: &'a [u8],
    /// The bytes behind the output, where it fills a hole; looked at where it is finished.
    pub suffix: &'a [u8],
    /// Whether the output ended where every constraint allowed it, not by a token limit, a stop string or an error.
    pub finished: bool,
}

/// What is known about one part of one constraint IR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The part, as a path into the IR: `json_schema`, `regex_patterns[0]`, `limits.max_chars`; with several IRs
    /// behind `constraints[i].`.
    pub part: String,
    /// Ids of the constraints that the part comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The verdict.
    pub status: VerdictStatus,
    /// Where and why, for people; absent where the status says it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The outcome for one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictStatus {
    /// An independent engine found that the part holds.
    Verified,
    /// An independent engine found that the part does not hold.
    Violated,
    /// The masks held the part at every token; no independent engine exists for it.
    Enforced,
    /// Nothing was checked; the detail says why.
    NotChecked,
    /// The output ended before the part was satisfied, or too early to know.
    Truncated,
}

impl VerdictStatus {
    /// The status as replies spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Violated => "violated",
            Self::Enforced => "enforced",
            Self::NotChecked => "not_checked",
            Self::Truncated => "truncated",
        }
    }
}

/// Judges every hard part of every IR, in the order of the fields of [`ConstraintIr`].
///
/// Soft biases are preferences and get no verdict. The `language` label gets [`VerdictStatus::NotChecked`].
/// An unfinished output is [`VerdictStatus::Truncated`] in every part that no further text could repair being
/// already [`VerdictStatus::Violated`].
///
/// Cost: about that of parsing the text once per part; each engine stops at a named bound.
#[must_use]
pub fn check(output: &Output<'_>, irs: &[ConstraintIr]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (i, ir) in irs.iter().enumerate() {
        let prefix = if irs.len() > 1 { format!("constraints[{i}].") } else { String::new() };
        let judge = |(part, judgement): (String, Judgement)| {
            let (status, detail) = judgement.conclude(output.finished);
            Verdict { sources: sources_of(ir, &part), part: format!("{prefix}{part}"), status, detail }
        };
        verdicts.extend(judge_parts(output, ir).into_iter().map(judge));
    }
    verdicts
}

/// Whether every part that binds is [`VerdictStatus::Verified`] or [`VerdictStatus::Enforced`].
///
/// False as soon as one part is violated, truncated or not checked; the `language` label binds nothing and is passed
/// over. True for no verdicts at all.
#[must_use]
pub fn all_satisfied(verdicts: &[Verdict]) -> bool {
    verdicts
        .iter()
        .filter(|verdict| !verdict.is_label())
        .all(|verdict| matches!(verdict.status, VerdictStatus::Verified | VerdictStatus::Enforced))
}

impl Verdict {
    /// Whether the verdict is on the `language` label, which describes an output and binds nothing.
    #[must_use]
    pub fn is_label(&self) -> bool {
        self.part == "language" || self.part.ends_with("].language")
    }
}

/// What an engine found in the text as it stands; whether the text is complete is not its business.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Judgement {
    /// The part holds.
    Holds,
    /// The part does not hold, although more text might repair it.
    Fails(String),
    /// The part does not hold, whatever may follow.
    Violated(String),
    /// Held by the masks alone.
    Enforced,
    /// Not to be judged here, and why.
    Unknown(String),
}

impl Judgement {
    fn conclude(self, finished: bool) -> (VerdictStatus, Option<String>) {
        match self {
            Self::Violated(why) => (VerdictStatus::Violated, Some(why)),
            Self::Unknown(why) => (VerdictStatus::NotChecked, Some(why)),
            _ if !finished => (VerdictStatus::Truncated, None),
            Self::Fails(why) => (VerdictStatus::Violated, Some(why)),
            Self::Holds => (VerdictStatus::Verified, None),
            Self::Enforced => (VerdictStatus::Enforced, None),
        }
    }
}

fn judge_parts(output: &Output<'_>, ir: &ConstraintIr) -> Vec<(String, Judgement)> {
    let mut parts = Vec::new();
    let mut add = |part: String, judgement: Judgement| parts.push((part, judgement));
    if let Some(language) = &ir.language {
        let why = format!("{language:?} labels the output; what binds it is the grammar");
        add("language".into(), Judgement::Unknown(why));
    }
    if let Some(schema) = &ir.json_schema {
        add("json_schema".into(), json::check_schema(output.text, schema));
    }
    if let Some(grammar) = &ir.grammar {
        let judgement = match grammar.syntax {
            GrammarSyntax::Lark => Judgement::Enforced,
            GrammarSyntax::Ebnf | GrammarSyntax::Gbnf => grammar::check(output.text, grammar),
        };
        add("grammar".into(), judgement);
    }
    if let Some(code) = &ir.code {
        let judged = match code.document {
            true => code::check(&[output.prompt, output.text, output.suffix].concat(), code),
            false => code::check(output.text, code),
        };
        for (part, judgement) in judged {
            add(part.into(), judgement);
        }
    }
    if let Some(regions) = &ir.regions {
        let whitespace = ir.limits.json_whitespace.unwrap_or_default();
        add("regions".into(), regions::check(output.text, regions, whitespace));
    }
    for (i, group) in ir.regex_patterns.iter().enumerate() {
        add(format!("regex_patterns[{i}]"), regexes::check_group(output.text, group));
    }
    if let Some(masks) = &ir.token_masks {
        add("token_masks".into(), check_tokens(output.tokens, masks));
    }
    for (i, forbidden) in ir.forbidden_text.iter().enumerate() {
        add(format!("forbidden_text[{i}]"), forbidden::check(output, forbidden));
    }
    if let Some(limit) = ir.limits.max_tokens {
        add("limits.max_tokens".into(), check_count(output.tokens.len(), limit, "tokens"));
    }
    if let Some(limit) = ir.limits.max_chars {
        let num_chars = String::from_utf8_lossy(output.text).chars().count();
        add("limits.max_chars".into(), check_count(num_chars, limit, "code points"));
    }
    if ir.json_schema.is_some() {
        let limit = ir.limits.json_whitespace.unwrap_or_default();
        add("limits.json_whitespace".into(), json::check_whitespace(output.text, limit));
    }
    parts
}

fn sources_of(ir: &ConstraintIr, part: &str) -> Vec<String> {
    let carries = |source: &str| part.strip_prefix(source).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    ir.sources.iter().filter(|source| carries(&source.part)).map(|source| source.id.clone()).collect()
}

fn check_count(count: usize, limit: u32, unit: &str) -> Judgement {
    if count > limit as usize {
        return Judgement::Violated(format!("{count} {unit}, {limit} allowed"));
    }
    Judgement::Holds
}

fn check_tokens(tokens: &[u32], masks: &TokenMasks) -> Judgement {
    let allowed = |id: &u32| masks.allowed_tokens.as_ref().is_none_or(|ids| ids.contains(id));
    let forbidden = |id: &u32| masks.forbidden_tokens.as_ref().is_some_and(|ids| ids.contains(id));
    match tokens.iter().position(|id| !allowed(id) || forbidden(id)) {
        Some(i) => Judgement::Violated(format!("token {i} has id {}, which the lists do not allow", tokens[i])),
        None => Judgement::Holds,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PROMPT: &[u8] = b"x = ev";

    fn verdicts(ir: Value, text: &str, finished: bool) -> Vec<Verdict> {
        let ir: ConstraintIr = serde_json::from_value(ir).expect("the test's IR is well-formed");
        let output =
            Output { text: text.as_bytes(), tokens: &[5, 6, 7], prompt: PROMPT, finished, ..Output::default() };
        check(&output, &[ir])
    }

    fn status(ir: Value, text: &str, finished: bool) -> (String, VerdictStatus) {
        let verdict = verdicts(ir, text, finished).remove(0);
        (verdict.part, verdict.status)
    }

    #[test]
    fn each_part_tells_right_from_wrong() {
        let full = |pattern: &str| json!({"regex_patterns": [{"any_of": [{"pattern": pattern}], "match": "full"}]});
        let ebnf = json!({"grammar": {"syntax": "ebnf", "source": "s ::= 'a' s | 'b'"}});
        let gbnf = json!({"grammar": {"syntax": "gbnf", "source": "root ::= \"a\"* \"b\""}});
        let regions = json!({"regions": {"triggers": ["<"], "structures": [
            {"begin": "<", "json_schema": {"type": "integer"}, "end": ">"}]}});
        let cases = [
            ("json_schema", json!({"json_schema": {"type": "integer"}}), "7", "\"7\""),
            ("grammar", ebnf, "aab", "aba"),
            ("grammar", gbnf, "aab", "aba"),
            ("regex_patterns[0]", full("[a-c]+"), "abc", "abcd"),
            ("regions", regions, "a <7> b", "a <x> b"),
            ("forbidden_text[0]", json!({"forbidden_text": [{"text": "eval("}]}), "evaluate", "a eval(b)"),
            ("limits.max_chars", json!({"limits": {"max_chars": 3}}), "äöü", "abcd"),
        ];
        for (part, ir, right, wrong) in cases {
            assert_eq!(status(ir.clone(), right, true), (part.into(), VerdictStatus::Verified), "{ir} on {right}");
            assert_eq!(status(ir.clone(), wrong, true), (part.into(), VerdictStatus::Violated), "{ir} on {wrong}");
        }
    }

    #[test]
    fn token_lists_and_limits_bind_ids() {
        use VerdictStatus::{Verified, Violated};
        for (ir, expected) in [
            (json!({"token_masks": {"allowed_tokens": [5, 6, 7, 8]}}), Verified),
            (json!({"token_masks": {"allowed_tokens": [5, 7]}}), Violated),
            (json!({"token_masks": {"forbidden_tokens": [1, 2]}}), Verified),
            (json!({"token_masks": {"forbidden_tokens": [1, 7]}}), Violated),
            (json!({"token_masks": {"allowed_tokens": [5, 6, 7], "forbidden_tokens": [6]}}), Violated),
            (json!({"limits": {"max_tokens": 3}}), Verified),
            (json!({"limits": {"max_tokens": 2}}), Violated),
        ] {
            assert_eq!(status(ir.clone(), "abc", true).1, expected, "{ir}");
            let unfinished = if expected == Verified { VerdictStatus::Truncated } else { Violated };
            assert_eq!(status(ir.clone(), "abc", false).1, unfinished, "{ir}");
        }
    }

    #[test]
    fn what_no_independent_engine_judges_says_so() {
        let lark = json!({"grammar": {"syntax": "lark", "source": "start: \"a\""}});
        assert_eq!(status(lark.clone(), "a", true).1, VerdictStatus::Enforced);
        assert_eq!(status(lark, "a", false).1, VerdictStatus::Truncated);
        assert_eq!(status(json!({"language": "python"}), "a", true).1, VerdictStatus::NotChecked);
        assert_eq!(verdicts(json!({"soft": [{"text": "a", "bias": 1.0}]}), "b", true), []);
    }

    #[test]
    fn an_unfinished_output_is_never_satisfied() {
        let ir = json!({"json_schema": {"type": "integer"}, "limits": {"max_chars": 10}});
        let verdicts = verdicts(ir, "7", false);
        assert!(verdicts.iter().all(|verdict| verdict.status == VerdictStatus::Truncated), "{verdicts:?}");
        assert!(!all_satisfied(&verdicts));
    }

    #[test]
    fn satisfied_means_that_every_binding_part_is_verified_or_enforced() {
        let satisfied = |ir: Value, text: &str| all_satisfied(&verdicts(ir, text, true));
        assert!(satisfied(json!({}), "anything"));
        assert!(satisfied(json!({"language": "python", "forbidden_text": [{"text": "x"}]}), "y"));
        assert!(!satisfied(json!({"language": "python", "forbidden_text": [{"text": "x"}]}), "x"));
        assert!(!satisfied(json!({"forbidden_text": [{"regex": "("}]}), "y"));
    }

    #[test]
    fn parts_of_several_irs_are_told_apart_and_name_their_sources() {
        let ir: ConstraintIr = serde_json::from_value(json!({
            "limits": {"max_chars": 3},
            "forbidden_text": [{"text": "x"}],
            "sources": [
                {"id": "a", "name": "a", "part": "limits", "strength": "hard"},
                {"id": "b", "name": "b", "part": "forbidden_text[0]", "strength": "hard"},
                {"id": "c", "name": "c", "part": "forbidden_text[0]", "strength": "hard"},
            ],
        }))
        .expect("well-formed");
        let output = Output { text: b"ab", finished: true, ..Output::default() };
        let verdicts = check(&output, &[ir.clone(), ir]);
        let named: Vec<_> = verdicts.iter().map(|v| (v.part.as_str(), v.sources.join(","))).collect();
        assert_eq!(
            named,
            [
                ("constraints[0].forbidden_text[0]", "b,c".to_owned()),
                ("constraints[0].limits.max_chars", "a".to_owned()),
                ("constraints[1].forbidden_text[0]", "b,c".to_owned()),
                ("constraints[1].limits.max_chars", "a".to_owned()),
            ]
        );
    }

    #[test]
    fn a_verdict_survives_json() {
        let verdict = Verdict {
            part: "json_schema".into(),
            sources: Vec::new(),
            status: VerdictStatus::NotChecked,
            detail: Some("why".into()),
        };
        let json = serde_json::to_value(&verdict).expect("plain data");
        assert_eq!(json, json!({"part": "json_schema", "status": "not_checked", "detail": "why"}));
        assert_eq!(serde_json::from_value::<Verdict>(json).expect("reads back"), verdict);
    }
}
