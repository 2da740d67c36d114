//! Compiled constraints, kept by the digest of what they were compiled from; the least recently used goes first.
//!
//! One cache belongs to one vocabulary, so the vocabulary is no part of the key.

use std::sync::{Arc, Mutex, PoisonError};

use super::Error;
use crate::constraint::Digest;
use crate::guide::CompiledConstraint;

pub(super) struct ConstraintCache {
    /// Most recently used last. The list is short; a scan costs less than a linked map would.
    entries: Mutex<Vec<(Digest, Arc<CompiledConstraint>)>>,
    len_max: usize,
}

impl ConstraintCache {
    pub(super) fn new(len_max: usize) -> Self {
        Self { entries: Mutex::new(Vec::new()), len_max }
    }

    /// The constraint under `key`; compiled outside the lock when it is not there.
    pub(super) fn get_or_compile(
        &self,
        key: Digest,
        compile: impl FnOnce() -> Result<Arc<CompiledConstraint>, Error>,
    ) -> Result<Arc<CompiledConstraint>, Error> {
        if let Some(known) = self.get(key) {
            return Ok(known);
        }
        let compiled = compile()?;
        self.insert(key, compiled.clone());
        Ok(compiled)
    }

    fn get(&self, key: Digest) -> Option<Arc<CompiledConstraint>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let index = entries.iter().position(|(known, _)| *known == key)?;
        let entry = entries.remove(index);
        let compiled = entry.1.clone();
        entries.push(entry);
        Some(compiled)
    }

    fn insert(&self, key: Digest, compiled: Arc<CompiledConstraint>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|(known, _)| *known != key);
        entries.push((key, compiled));
        if entries.len() > self.len_max {
            entries.remove(0);
        }
    }
}
