use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::{CudaDevice, Result, Storage, Tensor, bail};

use super::launch::{Arguments, Grid, launch};
use super::operand::{Operand, address, output};
use crate::kernels::sampling::{Edit, SampledToken, SamplingError, SamplingRow, edits, score};

const OP: &str = "sample";
/// Threads of the one block that a row has.
const THREADS: usize = 512;

#[derive(Clone, Copy)]
#[repr(C)]
struct SampleArgs {
    masks: u64,
    rows: u64,
    edits: u64,
    results: u64,
    vocab_len: u32,
    num_words: u32,
}
const _: () = assert!(size_of::<SampleArgs>() == 40);
// SAFETY: as `SampleArgs` of kernels/sampling.cu; the buffers are made below for the rows, `num_words` is checked.
unsafe impl Arguments for SampleArgs {}

/// One row, as `SamplingRow` of `kernels/sampling.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct RowArgs {
    seed: u64,
    logits: u64,
    choice: u32,
    position: u32,
    temperature: f32,
    top_p: f32,
    min_p: f32,
    top_k: u32,
    edits_begin: u32,
    edits_end: u32,
}
const _: () = assert!(size_of::<RowArgs>() == 48);
// SAFETY: `repr(C)`, of numbers alone.
unsafe impl DeviceRepr for RowArgs {}
// SAFETY: `repr(C)`, of numbers alone.
unsafe impl DeviceRepr for Edit {}

/// What became of one row.
type Sampled = std::result::Result<SampledToken, SamplingError>;

/// `sample_on_gpu`.
pub(crate) fn sample(logits: &Tensor, rows: &[(usize, &SamplingRow<'_>)]) -> Result<Vec<Sampled>> {
    let (num_rows, vocab_len) = logits.dims2()?;
    if let Some((row, _)) = rows.iter().find(|(row, _)| *row >= num_rows) {
        bail!("{OP}: row {row} of {num_rows}")
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let results = draw(logits, vocab_len, rows)?;
    let token = |((row_idx, row), result): (&(usize, &SamplingRow<'_>), &[u32])| {
        let id = match result {
            &[id, 0] => id,
            [_, 1] => return Ok(Err(SamplingError::EmptyMask)),
            &[id, 2] => return Ok(Err(SamplingError::NotANumber { id })),
            other => bail!("{OP}: the device answered {other:?}"),
        };
        if id as usize >= vocab_len {
            bail!("{OP}: the device drew id {id} of {vocab_len}")
        }
        let logprobs = match row.num_logprobs {
            Some(count) => Some(score(&logits.get(*row_idx)?.to_vec1::<f32>()?, id, count)),
            None => None,
        };
        Ok(Ok(SampledToken { id, logprobs }))
    };
    rows.iter().zip(results.chunks_exact(2)).map(token).collect()
}

/// Id and status of each row, read back from the device.
fn draw(logits: &Tensor, vocab_len: usize, rows: &[(usize, &SamplingRow<'_>)]) -> Result<Vec<u32>> {
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { bail!("{OP}: the logits are not on a GPU") };
    let device = &storage.device;
    let logits = Operand::of(storage, layout, &[candle_core::DType::F32], OP)?;
    let num_words = rows.iter().map(|(_, row)| row.mask.len()).max().unwrap_or(0);
    let mut masks = vec![0u32; rows.len() * num_words];
    let (mut all_edits, mut arguments, mut copies) = (Vec::new(), Vec::with_capacity(rows.len()), Vec::new());
    for ((row_idx, row), mask) in rows.iter().zip(masks.chunks_mut(num_words.max(1))) {
        mask[..row.mask.len()].copy_from_slice(row.mask);
        let mut edits = edits(row);
        // Stable: the edits of one id keep their order.
        edits.sort_by_key(|edit| edit.id);
        let mut from = logits.address + (*row_idx as u64) * (logits.stride as u64) * size_of::<f32>() as u64;
        if !edits.is_empty() {
            let copy = copy_row(device, from, vocab_len)?;
            from = address(&copy, device);
            copies.push(copy);
        }
        let begin = all_edits.len() as u32;
        all_edits.append(&mut edits);
        let params = row.params;
        arguments.push(RowArgs {
            seed: row.seed,
            logits: from,
            choice: row.choice,
            position: row.position,
            temperature: params.temperature,
            top_p: params.top_p,
            min_p: params.min_p,
            top_k: params.top_k,
            edits_begin: begin,
            edits_end: all_edits.len() as u32,
        });
    }
    let stream = device.cuda_stream();
    // An empty upload has no address.
    masks.resize(masks.len().max(1), 0);
    let masks = stream.clone_htod(&masks).w()?;
    let row_arguments = stream.clone_htod(&arguments).w()?;
    let edits = if all_edits.is_empty() { None } else { Some(stream.clone_htod(&all_edits).w()?) };
    let results = output::<u32>(device, 2 * rows.len())?;
    let arguments = SampleArgs {
        masks: address(&masks, device),
        rows: address(&row_arguments, device),
        edits: edits.as_ref().map_or(0, |edits| address(edits, device)),
        results: address(&results, device),
        vocab_len: vocab_len as u32,
        num_words: num_words as u32,
    };
    launch(device, "sampling", "sample", Grid::new([rows.len(), 1, 1], THREADS), arguments)?;
    stream.clone_dtoh(&results).w()
}

/// A copy of one row, which its edits may change.
fn copy_row(device: &CudaDevice, from: u64, len: usize) -> Result<CudaSlice<f32>> {
    let copy = output::<f32>(device, len)?;
    super::matmul::copy(device, from, address(&copy, device), len * size_of::<f32>())?;
    Ok(copy)
}
