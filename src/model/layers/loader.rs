use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::{Embedding, GroupedLinear, GroupedWeight, Linear, RmsNorm, StoredWeight};
use crate::kernels::gpu::{self, GpuMemory};
use crate::kernels::{Sums, Uploader};
use crate::model::shard::{Ranks, Share};
use crate::model::{
    GraphConfig, LoadOptions, LoadReport, ModelError, QuantLayout, QuantWeight, QuantizationReport, Shard,
};

/// Tensors by the names that Hugging Face checkpoints give them, whatever file they come from.
pub(crate) trait Weights {
    /// True when there is a tensor `name`.
    fn has(&self, name: &str) -> bool;

    /// Bytes of all tensors; `None` where they are made up.
    fn num_bytes(&self) -> Option<u64>;

    /// The tensor `name`.
    ///
    /// # Errors
    /// When it is absent, has another shape than `shape`, or is stored in a form that cannot be read.
    fn get(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError>;

    /// The rows `rows` of the tensor `name`, which has `shape`; of queries and keys they are whole heads. Others are not
    /// read.
    ///
    /// # Errors
    /// As [`Weights::get`].
    fn rows(&self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<QuantWeight<'_>, ModelError> {
        Ok(self.get(name, shape)?.into_rows(rows))
    }
}

/// Turns stored tensors into layers on the device, and counts what they take.
pub(crate) struct Loader<'a> {
    weights: &'a dyn Weights,
    options: &'a LoadOptions,
    uploader: Uploader,
    started: Instant,
    /// Bytes of the checkpoint; `None` where they are made up, or others read a part of them.
    num_bytes_to_read: Option<u64>,
    /// Those that were asked for.
    num_read: Cell<u64>,
    num_bytes: Cell<usize>,
    num_parameters: Cell<usize>,
    quantization: RefCell<Option<QuantizationReport>>,
}

impl<'a> Loader<'a> {
    /// # Errors
    /// When the device has no room for what tensors pass through on their way.
    pub(crate) fn new(weights: &'a dyn Weights, options: &'a LoadOptions) -> Result<Self, ModelError> {
        Ok(Self {
            weights,
            options,
            uploader: Uploader::new(&options.device, &options.staging)?,
            started: Instant::now(),
            num_bytes_to_read: weights.num_bytes().filter(|_| options.collective.shard() == Shard::WHOLE),
            num_read: Cell::new(0),
            num_bytes: Cell::new(0),
            num_parameters: Cell::new(0),
            quantization: RefCell::new(options.quantize.map(QuantizationReport::new)),
        })
    }

    /// Waits until everything is on the device, and says how much was read in what time.
    ///
    /// # Errors
    /// When a copy failed.
    pub(crate) fn finish(&self) -> Result<LoadReport, ModelError> {
        self.uploader.finish()?;
        let report = LoadReport { num_bytes: self.num_read.get(), duration: self.started.elapsed() };
        if let Some(progress) = &self.options.progress {
            progress.finish(&report);
        }
        Ok(report)
    }

    pub(crate) fn device(&self) -> &Device {
        &self.options.device
    }

    /// The rank that is loaded.
    pub(crate) fn shard(&self) -> Shard {
        self.options.collective.shard()
    }

    /// The ranks, for layers that add up what they have.
    pub(crate) fn ranks(&self) -> Ranks {
        Ranks::new(&self.options.collective)
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
            None => self.weights.get(name, shape)?.layout(),
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

    /// One linear layer of this rank's rows of the matrices `names`, whose outputs stand side by side. `bias` says whether
    /// each has one; layers are called `{prefix}{name}`.
    pub(crate) fn linear(
        &self,
        prefix: &str,
        names: &[(&str, &Share)],
        inputs: usize,
        bias: bool,
    ) -> Result<Linear, ModelError> {
        let matrix =
            |(name, outputs): &(&str, &Share)| self.matrix_rows(&format!("{prefix}{name}.weight"), outputs, inputs);
        let parts = names.iter().map(matrix).collect::<Result<_, _>>()?;
        let parts =
            self.stacked(parts).map_err(|error| error.of_tensors(prefix, names.iter().map(|(name, _)| *name)))?;
        Ok(Linear::new(parts, if bias { Some(self.bias(prefix, names)?) } else { None }))
    }

    /// One linear layer of this rank's columns of the matrix `{prefix}{name}`. Its products are terms, which
    /// [`Ranks::sum_onto`] adds up; the first rank's has the bias.
    pub(crate) fn term(
        &self,
        prefix: &str,
        (name, outputs): (&str, usize),
        inputs: &Share,
        bias: bool,
    ) -> Result<Linear, ModelError> {
        let matrix = self.matrix_columns(&format!("{prefix}{name}.weight"), outputs, inputs)?;
        let has_bias = bias && self.shard().rank() == 0;
        let bias = has_bias.then(|| self.bias(prefix, &[(name, &Share::whole(outputs))])).transpose()?;
        let parts = self.stacked(vec![matrix]).map_err(|error| error.of_tensors(prefix, [name]))?;
        Ok(Linear::new(parts, bias))
    }

    /// One linear layer of the matrices `{prefix}{name}`, which the caller has read, without biases; their outputs stand
    /// side by side.
    pub(crate) fn linear_of(&self, prefix: &str, parts: Vec<(&str, QuantWeight<'_>)>) -> Result<Linear, ModelError> {
        let (names, parts): (Vec<&str>, Vec<_>) = parts.into_iter().unzip();
        let parts = self.stacked(parts).map_err(|error| error.of_tensors(prefix, names))?;
        Ok(Linear::new(parts, None))
    }

    /// One layer of a few matrices per group, all groups alike; the outputs of a group's matrices stand side by side.
    /// `name` is for messages.
    pub(crate) fn grouped(
        &self,
        name: &str,
        mut groups: Vec<Vec<QuantWeight<'_>>>,
    ) -> Result<GroupedLinear, ModelError> {
        if groups.iter().all(|parts| QuantWeight::are_alike(parts)) {
            groups = groups.into_iter().map(|parts| QuantWeight::stack(parts).into_iter().collect()).collect();
        }
        let mut groups: Vec<_> = groups.into_iter().map(Vec::into_iter).collect();
        let mut parts = Vec::new();
        loop {
            let part: Vec<QuantWeight<'_>> = groups.iter_mut().filter_map(Iterator::next).collect();
            if part.is_empty() {
                return Ok(GroupedLinear::new(parts));
            }
            let part = if self.device().is_cpu() { part } else { GroupedWeight::for_gpu(part)? };
            self.check_memory(&part)?;
            let num_parameters = part.iter().map(|group| group.shape().iter().product::<usize>()).sum();
            let stored =
                GroupedWeight::new(part, self.sums(), &self.uploader).map_err(|error| error.of_tensor(name))?;
            self.count(num_parameters, stored.num_bytes());
            parts.push(stored);
        }
    }

    /// True when there is a tensor `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }

    /// A tensor in the layout it is stored in.
    pub(crate) fn stored_matrix(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError> {
        Ok(self.reading(self.weights.get(name, shape)?))
    }

    /// As [`Loader::stored_matrix`], where the caller takes what it needs by [`Loader::part`]; the rest is not read.
    pub(crate) fn unread_matrix(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError> {
        self.weights.get(name, shape)
    }

    /// The rows `rows` of such a tensor.
    pub(crate) fn part<'b>(&self, weight: &'b QuantWeight<'_>, rows: Range<usize>) -> QuantWeight<'b> {
        self.reading(weight.rows(rows))
    }

    /// A matrix in the layout the options ask for.
    pub(crate) fn matrix(&self, name: &str, shape: &[usize]) -> Result<QuantWeight<'_>, ModelError> {
        self.laid_out(name, self.stored_matrix(name, shape)?)
    }

    /// This rank's rows of a matrix, in the layout the options ask for.
    pub(crate) fn matrix_rows(
        &self,
        name: &str,
        outputs: &Share,
        inputs: usize,
    ) -> Result<QuantWeight<'_>, ModelError> {
        self.laid_out(name, self.rows(name, &[outputs.len, inputs], outputs)?)
    }

    /// This rank's columns of a matrix, in the layout the options ask for.
    ///
    /// # Errors
    /// [`ModelError::ShardCutsBlock`].
    pub(crate) fn matrix_columns(
        &self,
        name: &str,
        outputs: usize,
        inputs: &Share,
    ) -> Result<QuantWeight<'_>, ModelError> {
        let weight = self.weights.get(name, &[outputs, inputs.len])?;
        let (tensor, layout, columns) = (name.to_owned(), weight.layout(), inputs.own.clone());
        match weight.into_columns(inputs.own.clone()) {
            Some(weight) => self.laid_out(name, self.reading(weight)),
            None => Err(ModelError::ShardCutsBlock { tensor, layout, columns }),
        }
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
        let weight = self.store(&self.matrix(name, &[rows, width])?).map_err(|error| error.of_tensor(name))?;
        Ok(Embedding::new(weight))
    }

    pub(crate) fn rms_norm(&self, name: &str, width: usize, eps: f64) -> Result<RmsNorm, ModelError> {
        let values = self.stored_matrix(name, &[width])?.to_f32()?;
        Ok(RmsNorm::new(self.vector(values).map_err(|error| error.of_tensor(name))?, eps))
    }

    fn bias(&self, prefix: &str, names: &[(&str, &Share)]) -> Result<Tensor, ModelError> {
        let mut values = Vec::new();
        for (name, outputs) in names {
            let name = format!("{prefix}{name}.bias");
            values.extend(self.rows(&name, &[outputs.len], outputs)?.to_f32()?);
        }
        self.vector(values).map_err(|error| error.of_tensors(prefix, names.iter().map(|(name, _)| *name)))
    }

    fn rows(&self, name: &str, shape: &[usize], share: &Share) -> Result<QuantWeight<'_>, ModelError> {
        Ok(self.reading(self.weights.rows(name, shape, share.own.clone())?))
    }

    /// Takes down that `weight` is being read.
    fn reading<'b>(&self, weight: QuantWeight<'b>) -> QuantWeight<'b> {
        self.num_read.set(self.num_read.get() + weight.num_bytes() as u64);
        if let Some(progress) = &self.options.progress {
            progress.advance(self.num_read.get(), self.num_bytes_to_read);
        }
        weight
    }

    fn stacked(&self, parts: Vec<QuantWeight<'_>>) -> Result<Vec<Arc<StoredWeight>>, ModelError> {
        let parts = match QuantWeight::are_alike(&parts) {
            true => QuantWeight::stack(parts).into_iter().collect(),
            false => parts,
        };
        parts.iter().map(|part| self.store(part).map(Arc::new)).collect()
    }

    fn store(&self, weight: &QuantWeight<'_>) -> Result<StoredWeight, ModelError> {
        self.check_memory(std::slice::from_ref(weight))?;
        let stored = StoredWeight::new(weight, self.sums(), &self.uploader)?;
        self.count(weight.shape().iter().product(), stored.num_bytes());
        Ok(stored)
    }

    /// Refuses weights that a GPU has no room for, before the driver does.
    fn check_memory(&self, weights: &[QuantWeight<'_>]) -> Result<(), ModelError> {
        let Some(GpuMemory { free, total }) = gpu::memory(&self.options.device) else { return Ok(()) };
        let needed = weights.iter().map(|weight| StoredWeight::num_bytes_on_gpu(weight, self.sums())).sum();
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
        Ok(self.uploader.values(values, &[len])?)
    }

    fn count(&self, num_parameters: usize, num_bytes: usize) {
        self.num_parameters.set(self.num_parameters.get() + num_parameters);
        self.num_bytes.set(self.num_bytes.get() + num_bytes);
    }
}
