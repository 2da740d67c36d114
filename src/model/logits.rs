use std::time::Instant;

use candle_core::{DType, Tensor};

use super::{ModelError, Pass};
use crate::kernels::gpu::Mark;
use crate::kernels::sampling::{self, KnownToken, SampledToken, SamplingError, SamplingRow, TokenLogprobs};

/// Unnormalized scores of the next token: one f32 row per entry of [`super::Batch::logit_rows`], on the model's
/// device.
///
/// Rows span the model's whole vocabulary, padded rows past the tokenizer's end included: the mask's part is to
/// keep those from being sampled. On a GPU they are there until the model's next forward pass, which may write its own
/// in the same place.
pub struct Logits {
    rows: Tensor,
    pass: Pass,
    computed: Computed,
}

/// When the device is done with them.
enum Computed {
    Already,
    /// Once a GPU has come so far.
    OnGpu(Mark),
    /// From then on, on a device that is simulated.
    From(Instant),
}

impl Logits {
    /// Wraps `[num_rows, vocab_len]` f32 scores that were computed by `pass`.
    ///
    /// # Errors
    /// When `rows` is not a matrix of f32.
    pub fn new(rows: Tensor, pass: Pass) -> Result<Self, ModelError> {
        rows.dims2()?;
        if rows.dtype() != DType::F32 {
            let (expected, got) = (DType::F32, rows.dtype());
            return Err(candle_core::Error::UnexpectedDType { msg: "logits", expected, got }.into());
        }
        let computed = Mark::new(rows.device())?.map_or(Computed::Already, Computed::OnGpu);
        Ok(Self { rows, pass, computed })
    }

    /// The same, as if a device were busy with them until `instant`.
    pub(crate) fn computed_from(self, instant: Instant) -> Self {
        Self { computed: Computed::From(instant), ..self }
    }

    /// Whether they are there; before that, reading or sampling them waits.
    #[must_use]
    pub fn is_computed(&self) -> bool {
        match &self.computed {
            Computed::Already => true,
            Computed::OnGpu(mark) => mark.is_reached(),
            Computed::From(instant) => Instant::now() >= *instant,
        }
    }

    /// How they were computed.
    pub fn pass(&self) -> Pass {
        self.pass
    }

    /// How many rows of scores there are.
    pub fn num_rows(&self) -> usize {
        self.rows.dims()[0]
    }

    /// Scores per row.
    pub fn vocab_len(&self) -> usize {
        self.rows.dims()[1]
    }

    /// All rows, one after the other; copies off the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn to_cpu(&self) -> Result<Vec<f32>, ModelError> {
        Ok(self.rows.flatten_all()?.to_vec1()?)
    }

    /// Samples one token for each `(row, how)`; the outcome of a row is that row's alone.
    ///
    /// Cost: one pass over each row asked for, where the rows are; from a GPU only ids are copied off, and the rows that
    /// ask for log-probabilities.
    ///
    /// # Errors
    /// When the device fails.
    pub fn sample<'a>(
        &self,
        rows: impl IntoIterator<Item = (usize, &'a SamplingRow<'a>)>,
    ) -> Result<Vec<Result<SampledToken, SamplingError>>, ModelError> {
        self.start_sampling(rows)?.finish()
    }

    /// As [`Logits::sample`], without waiting for a GPU. Logits of which log-probabilities are asked for must be there
    /// until the tokens are.
    ///
    /// # Errors
    /// When the device fails.
    pub fn start_sampling<'a>(
        &self,
        rows: impl IntoIterator<Item = (usize, &'a SamplingRow<'a>)>,
    ) -> Result<Sampling, ModelError> {
        #[cfg(feature = "cuda")]
        if self.rows.device().is_cuda() {
            let rows: Vec<_> = rows.into_iter().collect();
            return Ok(Sampling::OnGpu(sampling::start_on_gpu(&self.rows, &rows)?));
        }
        self.wait();
        let sample = |(row_idx, row)| Ok(sampling::sample(&mut self.rows.get(row_idx)?.to_vec1()?, row));
        Ok(Sampling::Done(rows.into_iter().map(sample).collect::<Result<_, ModelError>>()?))
    }

    /// The log-probabilities of tokens that stand already; the outcome of a token is that token's alone.
    ///
    /// Cost: as [`sampling::score_known`]; waits for a GPU.
    ///
    /// # Errors
    /// When the device fails, or a row or an id is not there.
    pub fn score(&self, tokens: &[KnownToken]) -> Result<Vec<Result<TokenLogprobs, SamplingError>>, ModelError> {
        self.wait();
        Ok(sampling::score_known(&self.rows, tokens)?)
    }

    /// Until a device that is simulated is done with them.
    fn wait(&self) {
        if let Computed::From(instant) = self.computed {
            std::thread::sleep(instant.saturating_duration_since(Instant::now()));
        }
    }
}

/// Tokens of rows that are being sampled.
pub enum Sampling {
    /// They are there.
    Done(Vec<Result<SampledToken, SamplingError>>),
    /// They will be.
    #[cfg(feature = "cuda")]
    OnGpu(sampling::Started),
}

impl Sampling {
    /// The tokens, once they are there; one for each row, in order.
    ///
    /// # Errors
    /// When the device failed.
    pub fn finish(self) -> Result<Vec<Result<SampledToken, SamplingError>>, ModelError> {
        match self {
            Self::Done(tokens) => Ok(tokens),
            #[cfg(feature = "cuda")]
            Self::OnGpu(started) => Ok(started.finish()?),
        }
    }

    /// The tokens, where nobody has to wait for them.
    pub(crate) fn known(&self) -> Option<&[Result<SampledToken, SamplingError>]> {
        match self {
            Self::Done(tokens) => Some(tokens),
            #[cfg(feature = "cuda")]
            Self::OnGpu(_) => None,
        }
    }

    /// The ids where a GPU will have them, `[rows]`, u32, in the order of its work; `None` where they are not on a GPU,
    /// or none.
    pub(crate) fn ids_on_gpu(&self) -> Result<Option<Tensor>, ModelError> {
        match self {
            Self::Done(_) => Ok(None),
            #[cfg(feature = "cuda")]
            Self::OnGpu(started) => Ok(started.ids()?),
        }
    }
}
