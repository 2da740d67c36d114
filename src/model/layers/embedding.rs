use std::sync::Arc;

use candle_core::Tensor;

use super::{Linear, StoredWeight};
use crate::model::ModelError;

/// A row of weights per token id.
pub(crate) struct Embedding {
    weight: Arc<StoredWeight>,
}

impl Embedding {
    pub(crate) fn new(weight: StoredWeight) -> Self {
        Self { weight: Arc::new(weight) }
    }

    /// `[ids, hidden]` of `ids` (`[ids]`, u32, on the weight's device), each below the number of rows.
    pub(crate) fn forward(&self, ids: &Tensor) -> Result<Tensor, ModelError> {
        self.weight.rows(ids)
    }

    /// The same weight as an output layer: a tied head.
    pub(crate) fn tied_head(&self) -> Linear {
        Linear::new(vec![Arc::clone(&self.weight)], None)
    }
}
