use super::{BatchSequence, KvCache, ModelError, ModelInfo};

/// The device's view of one step: every scheduled token of every sequence, concatenated.
///
/// `token_ids`, `positions` and `slots` have the same length, and the sequences' queries tile them in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The tokens to run.
    pub token_ids: Vec<u32>,
    /// Each token's position in its own sequence, from 0.
    pub positions: Vec<u32>,
    /// Where each token's keys and values go: `block_idx * block_len + offset`.
    pub slots: Vec<u32>,
    /// Who owns which tokens.
    pub sequences: Vec<BatchSequence>,
    /// Indices into `token_ids` whose logits are wanted, in the order of the rows of [`super::Logits`].
    pub logit_rows: Vec<u32>,
}

impl Batch {
    /// Adds the next `token_ids` of one sequence, whose first `num_computed` tokens are in the KV cache already.
    ///
    /// `block_table` must reach to the last new token. `num_logits` of the last new tokens get a row of logits.
    pub fn push(
        &mut self,
        token_ids: &[u32],
        num_computed: usize,
        block_table: &[u32],
        block_len: usize,
        num_logits: usize,
    ) {
        let query_start = self.token_ids.len();
        let context_len = num_computed + token_ids.len();
        debug_assert!(block_table.len() * block_len >= context_len && num_logits <= token_ids.len());
        self.token_ids.extend_from_slice(token_ids);
        for position in num_computed..context_len {
            self.positions.push(position as u32);
            self.slots.push(block_table[position / block_len] * block_len as u32 + (position % block_len) as u32);
        }
        let end = self.token_ids.len();
        self.logit_rows.extend((end - num_logits..end).map(|row| row as u32));
        self.sequences.push(BatchSequence {
            query_start,
            query_len: token_ids.len(),
            context_len,
            block_table: block_table.to_vec(),
        });
    }

    /// Number of tokens in the step.
    pub fn num_tokens(&self) -> usize {
        self.token_ids.len()
    }

    /// Checks the batch against itself and against what a model and its cache can take.
    ///
    /// # Errors
    /// [`ModelError::InvalidBatch`] naming the first contradiction.
    pub fn check(&self, model: &ModelInfo, cache: &KvCache) -> Result<(), ModelError> {
        let invalid = |detail: String| Err(ModelError::InvalidBatch { detail });
        if *cache.spec() != model.kv {
            return invalid("the KV cache was made for another model".into());
        }
        let num_tokens = self.num_tokens();
        if num_tokens == 0 {
            return invalid("it has no tokens".into());
        }
        if self.positions.len() != num_tokens || self.slots.len() != num_tokens {
            let (positions, slots) = (self.positions.len(), self.slots.len());
            return invalid(format!("{num_tokens} tokens, {positions} positions, {slots} slots"));
        }
        if let Some(id) = self.token_ids.iter().find(|&&id| id as usize >= model.vocab_len) {
            return invalid(format!("token id {id} is outside the vocabulary of {}", model.vocab_len));
        }
        if let Some(position) = self.positions.iter().find(|&&position| position as usize >= model.context_len) {
            return invalid(format!("position {position} is outside the context of {}", model.context_len));
        }
        let num_slots = cache.num_blocks() * cache.block_len();
        if let Some(slot) = self.slots.iter().find(|&&slot| slot as usize >= num_slots) {
            return invalid(format!("slot {slot} is outside the KV cache of {num_slots}"));
        }
        if let Some(row) = self.logit_rows.iter().find(|&&row| row as usize >= num_tokens) {
            return invalid(format!("logits wanted of token {row} of {num_tokens}"));
        }
        let mut query_start = 0;
        for sequence in &self.sequences {
            sequence.check(query_start, cache)?;
            query_start += sequence.query_len;
        }
        if query_start != num_tokens {
            return invalid(format!("its sequences hold {query_start} of its {num_tokens} tokens"));
        }
        Ok(())
    }
}

impl BatchSequence {
    fn check(&self, query_start: usize, cache: &KvCache) -> Result<(), ModelError> {
        let invalid = |detail: String| Err(ModelError::InvalidBatch { detail });
        if self.query_start != query_start {
            return invalid(format!("a sequence starts at {}, expected {query_start}", self.query_start));
        }
        if self.query_len == 0 || self.context_len < self.query_len {
            return invalid(format!("{} queries in a context of {}", self.query_len, self.context_len));
        }
        if self.block_table.len() * cache.block_len() < self.context_len {
            let (blocks, context_len) = (self.block_table.len(), self.context_len);
            return invalid(format!("{blocks} blocks do not hold a context of {context_len}"));
        }
        match self.block_table.iter().find(|&&block_idx| block_idx as usize >= cache.num_blocks()) {
            Some(&block_idx) => Err(ModelError::BlockOutOfRange { block_idx, num_blocks: cache.num_blocks() }),
            None => Ok(()),
        }
    }
}
