use std::cell::RefCell;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::memcpy_htod_async;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaSlice, CudaStream, DevicePtr, PinnedHostSlice};
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
const _: () = assert!(size_of::<RowArgs>() == 48 && size_of::<Edit>() == 12);

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
    let (mut all_edits, mut arguments, mut copies) = (Vec::new(), Vec::with_capacity(rows.len()), Vec::new());
    for (row_idx, row) in rows {
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
    let (row_words, edit_words) = (words_of(&arguments), words_of(&all_edits));
    let results = output::<u32>(device, 2 * rows.len())?;
    ASIDE.with_borrow_mut(|aside| {
        let aside = match aside {
            Some(aside) if aside.is_of(device) => aside,
            _ => aside.insert(Aside::new(device)?),
        };
        // Rows first: they hold numbers of 8 bytes.
        let begin = aside.copy(row_words.len() + edit_words.len() + rows.len() * num_words, |words| {
            let (to_rows, words) = words.split_at_mut(row_words.len());
            let (to_edits, words) = words.split_at_mut(edit_words.len());
            to_rows.copy_from_slice(row_words);
            to_edits.copy_from_slice(edit_words);
            for ((_, row), mask) in rows.iter().zip(words.chunks_exact_mut(num_words.max(1))) {
                mask[..row.mask.len()].copy_from_slice(row.mask);
                mask[row.mask.len()..].fill(0);
            }
        })?;
        let place = |num_words: usize| begin + (num_words * size_of::<u32>()) as u64;
        let arguments = SampleArgs {
            masks: place(row_words.len() + edit_words.len()),
            rows: begin,
            edits: place(row_words.len()),
            results: address(&results, device),
            vocab_len: vocab_len as u32,
            num_words: num_words as u32,
        };
        launch(device, "sampling", "sample", Grid::new([rows.len(), 1, 1], THREADS), arguments)?;
        aside.was_read()
    })?;
    device.cuda_stream().clone_dtoh(&results).w()
}

/// What the device reads of numbers that lie one after the other.
trait Words: Copy {}
impl Words for RowArgs {}
impl Words for Edit {}

fn words_of<T: Words>(values: &[T]) -> &[u32] {
    const { assert!(size_of::<T>().is_multiple_of(4) && align_of::<T>() >= 4) }
    // SAFETY: both types are `repr(C)` of numbers of 4 and 8 bytes that leave no gaps, and are as aligned as words.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values) / size_of::<u32>()) }
}

thread_local! {
    /// One thread drives a device; this is its.
    static ASIDE: RefCell<Option<Aside>> = const { RefCell::new(None) };
}

/// A way to the device beside its stream: what is sampled with arrives while the logits are still being computed.
struct Aside {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    pages: PinnedHostSlice<u32>,
    words: CudaSlice<u32>,
    /// When the words have arrived.
    arrived: CudaEvent,
    /// When the device has read them.
    read: CudaEvent,
}

impl Aside {
    fn new(device: &CudaDevice) -> Result<Self> {
        let context = device.cuda_stream().context().clone();
        let stream = context.new_stream().w()?;
        let (pages, words) = Self::buffers(&stream, 1 << 14)?;
        let (arrived, read) = (context.new_event(None).w()?, context.new_event(None).w()?);
        Ok(Self { device: device.clone(), stream, pages, words, arrived, read })
    }

    /// Pages of the host and a place on the device for `len` words.
    fn buffers(stream: &Arc<CudaStream>, len: usize) -> Result<(PinnedHostSlice<u32>, CudaSlice<u32>)> {
        // SAFETY: words take any bits, and none is read before it was written.
        unsafe { Ok((stream.context().alloc_pinned(len).w()?, stream.alloc(len).w()?)) }
    }

    fn is_of(&self, device: &CudaDevice) -> bool {
        self.device.id() == device.id()
    }

    /// Copies `len` words that `fill` writes, and has the device's stream wait for them; returns where they will be.
    fn copy(&mut self, len: usize, fill: impl FnOnce(&mut [u32])) -> Result<u64> {
        // The pages are free when the last words have arrived, their place when those were read.
        self.arrived.synchronize().w()?;
        self.stream.wait(&self.read).w()?;
        if len > self.words.len() {
            (self.pages, self.words) = Self::buffers(&self.stream, len.next_power_of_two())?;
        }
        let pages = &mut self.pages.as_mut_slice().w()?[..len];
        fill(pages);
        let to = self.words.device_ptr(&self.stream).0;
        // SAFETY: the place was made for as many words. The pages stay as they are until `arrived` says that they were
        // read: only this function writes them, after that, and a drop waits.
        unsafe { memcpy_htod_async(to, pages, self.stream.cu_stream()) }.w()?;
        self.arrived.record(&self.stream).w()?;
        self.device.cuda_stream().wait(&self.arrived).w()?;
        Ok(to)
    }

    /// Says that what was launched last on the device's stream is what reads the words.
    fn was_read(&self) -> Result<()> {
        self.read.record(&self.device.cuda_stream()).w()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // A device that failed reads nothing any more.
        let _ = self.arrived.synchronize();
        let _ = self.read.synchronize();
    }
}

/// A copy of one row, which its edits may change.
fn copy_row(device: &CudaDevice, from: u64, len: usize) -> Result<CudaSlice<f32>> {
    let copy = output::<f32>(device, len)?;
    super::matmul::copy(device, from, address(&copy, device), len * size_of::<f32>())?;
    Ok(copy)
}
