//! The record of a finished request: what it takes to run it again and to tell whether the same came out.
//!
//! Neither prompt nor output is in it, only their digests; so whoever wants to run it again brings the prompt.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{ChoiceStats, Finish, FinishReason, GenerateRequest, Generation, Prompt, Provenance, Validation};
use crate::constraint::{ConstraintIr, Digest};

/// One request of which every choice has ended, or is about to.
#[derive(Clone, Debug, Serialize)]
pub struct RequestRecord {
    /// What was continued.
    pub prompt: PromptRecord,
    /// What made the output what it is.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// How many choices.
    pub num_choices: u32,
    /// Alternatives reported with log-probabilities, where they were asked for.
    pub num_logprobs: Option<u32>,
    /// Whether tokens that the constraints determine were drawn all the same.
    pub sample_forced_tokens: bool,
    /// The IRs, in the order of `constraints`.
    #[serde(serialize_with = "as_list")]
    pub irs: Arc<[ConstraintIr]>,
    /// The choices that have ended, in the order in which they did.
    pub choices: Vec<ChoiceRecord>,
}

/// What a prompt was, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PromptRecord {
    /// `text`, `unfinished`, `tokens`, `chat` or `hole`.
    pub kind: &'static str,
    /// BLAKE3 of the text, or of the canonical JSON of the ids, the messages, or what a hole's request says.
    pub digest: Digest,
    /// Its tokens.
    pub num_tokens: u32,
    /// BLAKE3 of the canonical JSON of its ids, in which the chat template has had its say.
    pub tokens_digest: Digest,
}

/// How one choice ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChoiceRecord {
    /// Which.
    pub index: u32,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// For a dead end, the parts and the byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_detail: Option<String>,
    /// Its tokens.
    pub num_tokens: u32,
    /// BLAKE3 of its text.
    pub output_digest: Digest,
    /// Bytes of its text.
    pub output_bytes: usize,
    /// What the checks found.
    pub validation: Validation,
    /// How long it took.
    pub stats: ChoiceStats,
}

fn as_list<S: Serializer>(irs: &Arc<[ConstraintIr]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(irs.iter())
}

impl RequestRecord {
    /// The record of a request that was admitted, still without choices. Costs a digest of the prompt.
    #[must_use]
    pub fn new(request: &GenerateRequest, generation: &Generation) -> Self {
        Self {
            prompt: PromptRecord::new(&request.prompt, generation.prompt_ids()),
            provenance: generation.provenance().clone(),
            num_choices: request.num_choices,
            num_logprobs: request.num_logprobs,
            sample_forced_tokens: request.sample_forced_tokens,
            irs: generation.constraints().clone(),
            choices: Vec::new(),
        }
    }
}

impl PromptRecord {
    /// The record of a prompt that became `ids`.
    #[must_use]
    pub fn new(prompt: &Prompt, ids: &[u32]) -> Self {
        let (kind, digest) = match prompt {
            Prompt::Text(text) => ("text", Digest::of_bytes(text.as_bytes())),
            Prompt::Unfinished(text) => ("unfinished", Digest::of_bytes(text.as_bytes())),
            Prompt::Hole(hole) => ("hole", Digest::of_value(hole)),
            Prompt::Tokens(ids) => ("tokens", Digest::of_value(ids)),
            Prompt::Chat(messages) => ("chat", Digest::of_value(messages)),
        };
        Self { kind, digest, num_tokens: ids.len() as u32, tokens_digest: Digest::of_value(ids) }
    }
}

impl ChoiceRecord {
    /// The record of choice `index`, which ended so.
    #[must_use]
    pub fn new(index: u32, finish: &Finish) -> Self {
        Self {
            index,
            finish_reason: finish.reason,
            finish_detail: finish.detail.clone(),
            num_tokens: finish.num_tokens,
            output_digest: finish.output_digest,
            output_bytes: finish.output_bytes,
            validation: finish.validation.clone(),
            stats: finish.stats,
        }
    }
}
