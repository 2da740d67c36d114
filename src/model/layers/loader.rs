use std::cell::{Cell, RefCell};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::{Embedding, GroupedLinear, GroupedWeight, Linear, RmsNorm, StoredWeight};
use crate::kernels::Sums;
use crate::kernels::gpu::{self, GpuMemory};
use crate::model::{GraphConfig, LoadOptions, ModelError, QuantLayout, QuantWeight, QuantizationReport};

/// Tensors by the names that Hugging Face checkpoints give them, whatever file they come from.
pub(crate) trait Weights {
    /// True when there is a tensor `name`.
    fn has(&self, name: &str) -> bool;

    /// The tensor `name`.
    ///
    /// # Errors
    /// When it is absent, has another shape than `shape`, or is stored in a form that cannot be read.
    fn get(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError>;
}

/// Turns stored tensors into layers on the device, and counts what they take.
pub(crate) struct Loader<'a> {
    weights: &'a dyn Weights,
    options: &'a LoadOptions,
    num_bytes: Cell<usize>,
    num_parameters: Cell<usize>,
    quantization: RefCell<Option<QuantizationReport>>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(weights: &'a dyn Weights, options: &'a LoadOptions) -> Self {
        let quantization = RefCell::new(options.quantize.map(QuantizationReport::new));
        Self { weights, options, num_bytes: Cell::new(0), num_parameters: Cell::new(0), quantization }
    }

    pub(crate) fn device(&self) -> &Device {
        &self.options.device
    }

    /// How a GPU adds up.
    pub(crate) fn sums(&self) -> Sums {
        if self.options.batch_invariant { Sums::BatchInvariant } else { Sums::Fastest }
    }

    /// The decode steps to record.
    pub(crate) fn graphs(&self) -> Option<&'a GraphConfig> {
        self.options.graphs.as_ref()
    }

    /// Bytes that the layers made so far take on the device.
    pub(crate) fn num_bytes(&self) -> usize {
        self.num_bytes.get()
    }

    /// How keys and values are kept: f32 on the CPU; on a GPU bf16, unless matrices are multiplied in f32, as `name` is.
    pub(crate) fn kv_dtype(&self, name: &str, shape: &[usize]) -> Result<DType, ModelError> {
        if self.device().is_cpu() {
            return Ok(DType::F32);
        }
        if self.options.quantize.is_some() {
            return Ok(DType::BF16);
        }
        let layout = match self.options.layout {
            Some(layout) => layout,
            None => self.stored_matrix(name, shape)?.layout(),
        };
        Ok(match layout {
            QuantLayout::F32 | QuantLayout::F16 => DType::F32,
            _ => DType::BF16,
        })
    }

    /// What rounding the matrices read so far changed, where the options ask for it.
    pub(crate) fn quantization(&self) -> Option<QuantizationReport> {
        self.quantization.borrow().clone()
    }

    /// Numbers that the layers made so far hold.
    pub(crate) fn num_parameters(&self) -> usize {
        self.num_parameters.get()
    }

    /// One linear layer of the matrices `names` (each with its number of outputs), whose outputs stand side by side.
    /// `bias` says whether each has one; layers are called `{prefix}{name}`.
    pub(crate) fn linear(
        &self,
        prefix: &str,
        names: &[(&str, usize)],
        inputs: usize,
        bias: bool,
    ) -> Result<Linear, ModelError> {
        let matrix =
            |&(name, outputs): &(&str, usize)| self.matrix(&format!("{prefix}{name}.weight"), &[outputs, inputs]);
        let parts = self.stacked(names.iter().map(matrix).collect::<Result<_, _>>()?)?;
        Ok(Linear::new(parts, if bias { Some(self.bias(prefix, names)?) } else { None }))
    }

    /// One linear layer of matrices that the caller has read, without biases; their outputs stand side by side.
    pub(crate) fn linear_of(&self, parts: Vec<QuantWeight<'_>>) -> Result<Linear, ModelError> {
        Ok(Linear::new(self.stacked(parts)?, None))
    }

    /// One layer of a few matrices per group, all groups alike; the outputs of a group's matrices stand side by side.
    pub(crate) fn grouped(&self, groups: Vec<Vec<QuantWeight<'_>>>) -> Result<GroupedLinear, ModelError> {
        let stacked: Option<Vec<Vec<QuantWeight<'_>>>> =
            groups.iter().map(|parts| QuantWeight::stack(parts).map(|stacked| vec![stacked])).collect();
        let mut groups: Vec<_> = stacked.unwrap_or(groups).into_iter().map(Vec::into_iter).collect();
        let mut parts = Vec::new();
        loop {
            let part: Vec<QuantWeight<'_>> = groups.iter_mut().filter_map(Iterator::next).collect();
            if part.is_empty() {
                return Ok(GroupedLinear::new(parts));
            }
            let part = if self.device().is_cpu() { part } else { GroupedWeight::for_gpu(part)? };
            self.check_memory(&part)?;
            let stored = GroupedWeight::new(&part, &self.options.device)?;
            self.count(part.iter().map(|group| group.shape().iter().product::<usize>()).sum(), stored.num_bytes());
            parts.push(stored);
        }
    }

    /// True when there is a tensor `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }

    /// A tensor in the layout it is stored in.
    pub(crate) fn stored_matrix(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError> {
        self.weights.get(name, shape)
    }

    /// A matrix in the layout the options ask for.
    pub(crate) fn matrix(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError> {
        self.laid_out(name, self.weights.get(name, shape)?)
    }

    /// The same matrix, which is `name` or a part of it, in the layout the options ask for.
    pub(crate) fn laid_out<'b>(&self, name: &str, weight: QuantWeight<'b>) -> Result<QuantWeight<'b>, ModelError> {
        let row_len = weight.shape().last().copied().unwrap_or(1);
        let weight = match self.options.layout.map(|layout| layout.fitting(row_len).unwrap_or(layout)) {
            Some(layout) if layout != weight.layout() => {
                QuantWeight::quantize(&weight.to_f32()?, layout, weight.shape())?
            }
            _ => weight,
        };
        match self.quantization.borrow_mut().as_mut() {
            Some(quantization) => quantization.round(name, weight),
            None => Ok(weight),
        }
    }

    pub(crate) fn embedding(&self, name: &str, rows: usize, width: usize) -> Result<Embedding, ModelError> {
        Ok(Embedding::new(self.store(&self.matrix(name, &[rows, width])?)?))
    }

    pub(crate) fn rms_norm(&self, name: &str, width: usize, eps: f64) -> Result<RmsNorm, ModelError> {
        Ok(RmsNorm::new(self.vector(self.weights.get(name, &[width])?.to_f32()?)?, eps))
    }

    fn bias(&self, prefix: &str, names: &[(&str, usize)]) -> Result<Tensor, ModelError> {
        let mut values = Vec::new();
        for (name, outputs) in names {
            values.extend(self.weights.get(&format!("{prefix}{name}.bias"), &[*outputs])?.to_f32()?);
        }
        self.vector(values)
    }

    fn stacked(&self, parts: Vec<QuantWeight<'_>>) -> Result<Vec<Arc<StoredWeight>>, ModelError> {
        let parts = match QuantWeight::stack(&parts) {
            Some(stacked) => vec![stacked],
            None => parts,
        };
        parts.iter().map(|part| self.store(part).map(Arc::new)).collect()
    }

    fn store(&self, weight: &QuantWeight<'_>) -> Result<StoredWeight, ModelError> {
        self.check_memory(std::slice::from_ref(weight))?;
        let stored = StoredWeight::new(weight, &self.options.device)?.with_sums(self.sums())?;
        self.count(weight.shape().iter().product(), stored.num_bytes());
        Ok(stored)
    }

    /// Refuses weights that a GPU has no room for, before the driver does.
    fn check_memory(&self, weights: &[QuantWeight<'_>]) -> Result<(), ModelError> {
        let Some(GpuMemory { free, total }) = gpu::memory(&self.options.device) else { return Ok(()) };
        let needed = weights.iter().map(|weight| match weight.layout() {
            QuantLayout::F16 => 2 * weight.bytes().len(),
            _ => weight.bytes().len(),
        });
        let needed = needed.sum();
        if needed <= free {
            return Ok(());
        }
        let shape = weights.first().map_or(&[][..], QuantWeight::shape);
        let count = weights.len();
        let what = format!("the next {count} of {shape:?}, after {} MiB of weights,", self.num_bytes() >> 20);
        let advice = "take a smaller model or one with fewer bits per weight (GGUF Q8_0, Q4_0), or another --gpu";
        Err(ModelError::NotEnoughMemory { what, needed, free, total, advice })
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor, ModelError> {
        self.count(values.len(), values.len() * size_of::<f32>());
        let len = values.len();
        Ok(Tensor::from_vec(values, len, &self.options.device)?)
    }

    fn count(&self, num_parameters: usize, num_bytes: usize) {
        self.num_parameters.set(self.num_parameters.get() + num_parameters);
        self.num_bytes.set(self.num_bytes.get() + num_bytes);
    }
}
