//! What is kept beyond this process: extraction results, IRs that Braid compiled, and verdicts at admission.
//!
//! A compiled constraint cannot be written down, but what is costly about it can: which set it came from, and what is
//! known of it. All three follow from their names alone, so another server, or this one after a restart, need not find
//! them out again. Without tiers everything here just makes what is asked for.

use std::sync::OnceLock;

use prometheus::proto::MetricFamily;
use serde::{Deserialize, Serialize};

use super::constraint_cache::{Outcome, Refusal};
use super::rules::recorded;
use super::{Error, Salt, SourceContext};
use crate::braid::{CompileOptions, Compiled, Joint};
use crate::cache::{Kind, Tiers};
use crate::constraint::{ConstraintIr, ConstraintSet, Digest};
use crate::guide::{Guide, GuideError, UnknownWhy, Verdict, Witness};
use crate::text::Vocabulary;

/// The tiers, if there are some, and what every verdict depends on.
pub(super) struct Kept {
    tiers: OnceLock<Tiers>,
    /// Of the vocabulary and the guide's bounds.
    world: Digest,
}

/// A verdict as it is written down.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Admission {
    Satisfiable { tokens: Vec<u32> },
    Empty { parts: Vec<String> },
    Unknown { why: UnknownWhy },
}

impl Kept {
    pub(super) fn new(guide: &Guide) -> Self {
        let bounds = format!("{:?}", guide.config());
        let digests = [Digest::from_bytes(guide.vocabulary().digest_bytes()), Digest::of_bytes(bounds.as_bytes())];
        Self { tiers: OnceLock::new(), world: Digest::of_digests(&digests) }
    }

    /// Keeps results in `tiers` from now on; the first ones that are given stay.
    pub(super) fn keep_in(&self, tiers: Tiers) {
        if self.tiers.set(tiers).is_err() {
            tracing::error!("cache tiers were given twice; the first ones stay");
        }
    }

    pub(super) fn metrics(&self) -> Vec<MetricFamily> {
        self.tiers.get().map(Tiers::metrics).unwrap_or_default()
    }

    /// What is mined from a source.
    pub(super) fn set(
        &self,
        context: &SourceContext,
        salt: Option<Salt>,
        mine: impl FnOnce() -> Result<ConstraintSet, Error>,
    ) -> Result<ConstraintSet, Error> {
        let Some(tiers) = self.tiers.get() else { return mine() };
        let language = Digest::of_value(&context.language);
        let salt = salt.as_ref().map_or(&[][..], |salt| &salt[..]);
        let parts = [language.as_bytes(), context.file.as_bytes(), context.source.as_bytes(), salt];
        let name = tiers.name(Kind::Extraction, &parts);
        if let Some(set) = tiers.get(name) {
            return Ok(set);
        }
        let set = mine()?;
        tiers.put(name, &set);
        Ok(set)
    }

    /// What a set is compiled to. Kept only where it rests on a verdict or needs none: a compile that ended for want of
    /// time says nothing of the set.
    pub(super) fn ir(
        &self,
        set: &ConstraintSet,
        options: &CompileOptions,
        salt: Option<Salt>,
        compile: impl FnOnce() -> Result<Compiled, Error>,
    ) -> Result<ConstraintIr, Error> {
        let Some(tiers) = self.tiers.get() else { return Ok(recorded(compile()?)) };
        // Options have no form of their own to write down; `Debug` names every field of them.
        let (set, options) = (Digest::of_value(set), format!("{options:?}"));
        let salt = salt.as_ref().map_or(&[][..], |salt| &salt[..]);
        let parts = [set.as_bytes(), self.world.as_bytes(), options.as_bytes(), salt];
        let name = tiers.name(Kind::Ir, &parts);
        if let Some(ir) = tiers.get(name) {
            return Ok(ir);
        }
        let compiled = compile()?;
        let is_judged = compiled.joint == Joint::Satisfiable || compiled.ir.sources.len() < 2;
        let ir = recorded(compiled);
        if is_judged {
            tiers.put(name, &ir);
        }
        Ok(ir)
    }

    /// The verdict on the IRs of a key of the constraint cache, if one was ever come to.
    pub(super) fn verdict(&self, irs: Digest, vocabulary: &Vocabulary) -> Option<Verdict> {
        let tiers = self.tiers.get()?;
        Some(match tiers.get(tiers.name(Kind::Admission, &[irs.as_bytes(), self.world.as_bytes()]))? {
            Admission::Satisfiable { tokens } => {
                let bytes = vocabulary.decode(&tokens);
                Verdict::Satisfiable(Witness { tokens, bytes })
            }
            Admission::Empty { parts } => Verdict::Empty { parts },
            Admission::Unknown { why } => Verdict::Unknown { why },
        })
    }

    /// Keeps what a compile found out; a refusal for another reason than a verdict says too little to be kept.
    pub(super) fn keep_verdict(&self, irs: Digest, outcome: &Outcome) {
        let Some(tiers) = self.tiers.get() else { return };
        let admission = match outcome {
            Ok(compiled) => match compiled.verdict() {
                Verdict::Satisfiable(witness) => Admission::Satisfiable { tokens: witness.tokens.clone() },
                Verdict::Empty { parts } => Admission::Empty { parts: parts.clone() },
                Verdict::Unknown { why } => Admission::Unknown { why: *why },
            },
            Err(Refusal::Guide(GuideError::Unsatisfiable { parts })) => Admission::Empty { parts: parts.clone() },
            Err(Refusal::Guide(GuideError::UnknownSatisfiability { why })) => Admission::Unknown { why: *why },
            Err(_) => return,
        };
        tiers.put(tiers.name(Kind::Admission, &[irs.as_bytes(), self.world.as_bytes()]), &admission);
    }
}
