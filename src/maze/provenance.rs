//! What a reply says of its own making: which model, under which constraints, and what the checks found.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{FimRecord, GenerateRequest, Maze, RemoteRecord, RemoteStats};
use crate::constraint::{Digest, Lost, NotApplied, SourceRef};
use crate::engine::Finished;
use crate::guide::{self, CompiledConstraint};
use crate::kernels::sampling::SamplingParams;
use crate::verify::{self, Verdict, VerdictStatus};

/// Everything that made an output what it is; the same values give the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Provenance {
    /// Names the reply: `gen-` and 16 hex digits.
    pub id: String,
    /// When the request was admitted, in seconds since 1970.
    pub created: u64,
    /// Version of the program.
    pub ananke_version: &'static str,
    /// The model.
    pub model: String,
    /// BLAKE3 of its weights: of the one file, or of the digests of several in the order of their names; with
    /// weights rounded on load, of that and of the name of what they are rounded to. Null for a model
    /// without files, and for the moment after the start in which they are still being read for it.
    pub weights_digest: Option<Digest>,
    /// Identity of its vocabulary.
    pub tokenizer_digest: Digest,
    /// The IRs that were enforced together.
    pub constraints: Vec<ConstraintRecord>,
    /// The profiles of the server among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Whether a complete output is known to exist: `satisfiable`, or `unknown` where the bounds did not let it be found.
    pub satisfiability: &'static str,
    /// Tokens of the shortest complete output that was found at admission, the end token not counted; from this
    /// `max_tokens` up, outputs are steered to their end. Text forbidden in the document is judged as after an empty
    /// prompt.
    pub min_tokens: Option<u32>,
    /// The seed; choice `i` draws from stream `i` of it.
    pub seed: u64,
    /// How tokens were drawn.
    pub sampling: SamplingParams,
    /// Most tokens of a choice.
    pub max_tokens: u32,
    /// Strings that end a choice.
    pub stop: Vec<String>,
    /// Bytes of the prompt that were written again in tokens of the model's choice; absent without token healing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healed_bytes: Option<usize>,
    /// How a hole was filled; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fim: Option<FimRecord>,
    /// The server that made it; absent where the model is in this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteRecord>,
}

/// One IR, as provenance names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConstraintRecord {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// The constraints its parts come from.
    pub sources: Vec<SourceRef>,
    /// The constraints that only inform.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advisory: Vec<NotApplied>,
    /// The constraints that lost a conflict.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Lost>,
    /// The constraints that no part carries.
    pub not_applied: Vec<NotApplied>,
}

impl Provenance {
    pub(super) fn new(
        maze: &Maze,
        request: &GenerateRequest,
        compiled: &CompiledConstraint,
        max_tokens: u32,
        seed: u64,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let constraints = request.constraints.iter().map(|ir| ConstraintRecord {
            name: ir.name.clone(),
            digest: ir.compute_digest(),
            sources: ir.sources.clone(),
            advisory: ir.advisory.clone(),
            lost: ir.lost.clone(),
            not_applied: ir.not_applied.clone(),
        });
        let constraints: Vec<_> = constraints.collect();
        let nonce = blake_id(now, seed, &constraints);
        Self {
            id: format!("gen-{nonce}"),
            created: now.as_secs(),
            ananke_version: env!("CARGO_PKG_VERSION"),
            model: maze.model().id.clone(),
            weights_digest: maze.weights_digest(),
            tokenizer_digest: maze.model().tokenizer_digest,
            constraints,
            profiles: request.profiles.iter().map(|profile| profile.name.to_string()).collect(),
            satisfiability: satisfiability(compiled),
            min_tokens: compiled.min_tokens(),
            seed,
            sampling: request.sampling.clone(),
            max_tokens,
            stop: request.stop.clone(),
            healed_bytes: None,
            fim: None,
            remote: None,
        }
    }
}

/// The verdict at admission as replies spell it.
pub(super) fn satisfiability(compiled: &CompiledConstraint) -> &'static str {
    match compiled.verdict() {
        guide::Verdict::Satisfiable(_) => "satisfiable",
        guide::Verdict::Empty { .. } => "empty",
        guide::Verdict::Unknown { .. } => "unknown",
    }
}

/// An id that two requests share only if they came in the same nanosecond with the same seed and constraints.
fn blake_id(now: Duration, seed: u64, constraints: &[ConstraintRecord]) -> String {
    let digests: Vec<_> = constraints.iter().map(|record| record.digest).collect();
    let digest = Digest::of_value(&(now.as_nanos().to_string(), seed, digests));
    digest.to_string()[..16].to_owned()
}

/// What the checks on a finished choice found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Validation {
    /// Every part is verified or enforced. False for truncated output, whatever it holds so far.
    pub all_satisfied: bool,
    /// The parts that hold.
    pub satisfied: Vec<String>,
    /// The parts that do not.
    pub violated: Vec<String>,
    /// One verdict per part.
    pub verdicts: Vec<Verdict>,
}

impl Validation {
    pub(super) fn new(verdicts: Vec<Verdict>) -> Self {
        let named = |wanted: &[VerdictStatus]| {
            let parts = verdicts.iter().filter(|verdict| wanted.contains(&verdict.status));
            parts.map(|verdict| verdict.part.clone()).collect()
        };
        Self {
            all_satisfied: verify::all_satisfied(&verdicts),
            satisfied: named(&[VerdictStatus::Verified, VerdictStatus::Enforced]),
            violated: named(&[VerdictStatus::Violated]),
            verdicts,
        }
    }
}

/// How long a choice took, and its constraint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ChoiceStats {
    /// From admission to the last token, in milliseconds.
    pub total_time_ms: u64,
    /// From admission to the first token, in milliseconds.
    pub time_to_first_token_ms: u64,
    /// Time per token of output, in microseconds.
    pub time_per_token_us: u64,
    /// Masks computed.
    pub constraint_checks: u32,
    /// Mean time of one mask, in microseconds.
    pub avg_constraint_check_us: u64,
    /// Tokens appended without sampling, because the constraint determines them.
    pub forced_tokens: u32,
    /// Sampled tokens taken back before they were sent, because no end could be reached after them.
    pub retracted_tokens: u32,
    /// The most tokens that were held back at once, so that they could be taken back.
    pub hold_back: u32,
    /// What it took of a remote model; absent where the model is in this process, or the choice was ended here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteStats>,
}

impl ChoiceStats {
    pub(super) fn new(total: Duration, to_first: Duration, num_tokens: usize, finished: Option<&Finished>) -> Self {
        let steering = finished.map(|end| end.steering).unwrap_or_default();
        let (num_masks, mask_time) = finished.map_or((0, Duration::ZERO), |end| (end.num_masks, end.mask_time));
        Self {
            total_time_ms: total.as_millis() as u64,
            time_to_first_token_ms: to_first.as_millis() as u64,
            time_per_token_us: (total.as_micros() / num_tokens.max(1) as u128) as u64,
            constraint_checks: num_masks,
            forced_tokens: steering.num_forced,
            retracted_tokens: steering.num_retracted,
            hold_back: steering.hold_back,
            remote: None,
            avg_constraint_check_us: (mask_time.as_micros() / u128::from(num_masks.max(1))) as u64,
        }
    }
}
