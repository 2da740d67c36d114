use std::cell::{Cell, RefCell};
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::{memcpy_dtoh_async, memcpy_htod_async};
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaSlice, CudaStream, DevicePtr, PinnedHostSlice};
use candle_core::{CudaDevice, DType, Device, Result, Storage, Tensor, bail};

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
    ids: u64,
    statuses: u64,
    vocab_len: u32,
    num_words: u32,
}
const _: () = assert!(size_of::<SampleArgs>() == 48);
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

/// `start_on_gpu`.
pub(crate) fn start(logits: &Tensor, rows: &[(usize, &SamplingRow<'_>)]) -> Result<Started> {
    let (num_rows, vocab_len) = logits.dims2()?;
    if let Some((row, _)) = rows.iter().find(|(row, _)| *row >= num_rows) {
        bail!("{OP}: row {row} of {num_rows}")
    }
    let read_back = if rows.is_empty() { None } else { Some(draw(logits, vocab_len, rows)?) };
    let scored = rows.iter().map(|(row_idx, row)| (*row_idx, row.num_logprobs)).collect();
    Ok(Started { logits: logits.clone(), vocab_len, scored, read_back })
}

/// Rows that are being sampled.
pub struct Started {
    logits: Tensor,
    vocab_len: usize,
    /// Each row's place in the logits, and how many log-probabilities it asks for.
    scored: Vec<(usize, Option<u32>)>,
    read_back: Option<ReadBack>,
}

/// What the sampler will have written, and its way back.
struct ReadBack {
    /// Ids, then how each row went.
    results: Tensor,
    /// Taken by the drop alone.
    pages: Option<PinnedHostSlice<u32>>,
    arrived: CudaEvent,
}

impl Started {
    /// The ids on the device, `[rows]`, u32, in the order of its work; of a row that fails, some id below the length of
    /// the vocabulary. `None` without rows.
    ///
    /// # Errors
    /// When the device failed.
    pub fn ids(&self) -> Result<Option<Tensor>> {
        self.read_back.as_ref().map(|read_back| read_back.results.narrow(0, 0, self.scored.len())).transpose()
    }

    /// Waits for the tokens. Rows that ask for log-probabilities read their logits, which must still be there.
    ///
    /// # Errors
    /// When the device failed; a row's own failure is in its place.
    pub fn finish(self) -> Result<Vec<Sampled>> {
        let Some(read_back) = &self.read_back else { return Ok(Vec::new()) };
        let results = read_back.wait()?;
        let (ids, statuses) = results.split_at(self.scored.len());
        let token = |((&(row_idx, num_logprobs), &id), &status): ((&(usize, Option<u32>), &u32), &u32)| {
            match status {
                0 => {}
                1 => return Ok(Err(SamplingError::EmptyMask)),
                2 => return Ok(Err(SamplingError::NotANumber { id })),
                other => bail!("{OP}: the device answered {other} of id {id}"),
            }
            if id as usize >= self.vocab_len {
                bail!("{OP}: the device drew id {id} of {}", self.vocab_len)
            }
            let logprobs = match num_logprobs {
                // Copying off the device takes the whole of a storage.
                Some(count) => Some(score(&self.logits.get(row_idx)?.force_contiguous()?.to_vec1::<f32>()?, id, count)),
                None => None,
            };
            Ok(Ok(SampledToken { id, logprobs }))
        };
        self.scored.iter().zip(ids).zip(statuses).map(token).collect()
    }
}

thread_local! {
    /// Pages that the last rows came back in: making some takes longer than a row.
    static SPARE_PAGES: Cell<Option<PinnedHostSlice<u32>>> = const { Cell::new(None) };
}

impl ReadBack {
    /// Behind what was launched last; `results` are kept until they have arrived.
    fn new(results: Tensor, device: &CudaDevice) -> Result<Self> {
        let len = results.elem_count();
        let stream = device.cuda_stream();
        let spare = SPARE_PAGES.take().filter(|pages| pages.len() >= len && pages.context() == stream.context());
        let pages = match spare {
            Some(pages) => pages,
            // SAFETY: words take any bits, and none is read before it was written. Without a flag they are quick to read.
            None => unsafe { stream.context().alloc_pinned_with_flags(len.next_power_of_two().max(128), 0) }.w()?,
        };
        let from = Operand::vector_of(&results, &[DType::U32], len, OP)?;
        let mut this = Self { results, pages: Some(pages), arrived: stream.context().new_event(None).w()? };
        let Some(pages) = &mut this.pages else { bail!("{OP}: there are no pages") };
        let to = &mut pages.as_mut_slice().w()?[..len];
        // SAFETY: the vector was checked to have as many words. Nobody touches the pages before `arrived`: `wait` waits
        // for it, and so does the drop.
        unsafe { memcpy_dtoh_async(to, from, stream.cu_stream()) }.w()?;
        this.arrived.record(&stream).w()?;
        Ok(this)
    }

    /// The words, once they are here.
    fn wait(&self) -> Result<&[u32]> {
        self.arrived.synchronize().w()?;
        let Some(pages) = &self.pages else { bail!("{OP}: there are no pages") };
        Ok(&pages.as_slice().w()?[..self.results.elem_count()])
    }
}

impl Drop for ReadBack {
    fn drop(&mut self) {
        // A device that failed writes nothing any more.
        let _ = self.arrived.synchronize();
        let _ = SPARE_PAGES.try_with(|spare| spare.set(self.pages.take()));
    }
}

/// Launches the sampler, and brings ids and statuses back behind it.
fn draw(logits: &Tensor, vocab_len: usize, rows: &[(usize, &SamplingRow<'_>)]) -> Result<ReadBack> {
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { bail!("{OP}: the logits are not on a GPU") };
    let device = &storage.device;
    let logits = Operand::of(storage, layout, &[DType::F32], OP)?;
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
    // What is not written shows as an error.
    let results = Tensor::full(u32::MAX, 2 * rows.len(), &Device::Cuda(device.clone()))?;
    let results_address = Operand::vector_of(&results, &[DType::U32], 2 * rows.len(), OP)?;
    ASIDE.with_borrow_mut(|aside| {
        if !aside.as_ref().is_some_and(|aside| aside.is_of(device)) {
            *aside = Some(Aside::new(device)?);
        }
        let Some(aside) = aside else { bail!("{OP}: there is no way to the device") };
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
            ids: results_address,
            statuses: results_address + (rows.len() * size_of::<u32>()) as u64,
            vocab_len: vocab_len as u32,
            num_words: num_words as u32,
        };
        launch(device, "sampling", "sample", Grid::new([rows.len(), 1, 1], THREADS), arguments)?;
        aside.was_read()
    })?;
    ReadBack::new(results, device)
}

/// What can be read as words.
///
/// # Safety
/// The type is `repr(C)`, of numbers of 4 and 8 bytes that leave no gaps.
unsafe trait Words: Copy {}
// SAFETY: two numbers of 8 bytes, then eight of 4: 48 bytes.
unsafe impl Words for RowArgs {}
// SAFETY: three numbers of 4 bytes: 12 bytes.
unsafe impl Words for Edit {}

fn words_of<T: Words>(values: &[T]) -> &[u32] {
    const { assert!(size_of::<T>().is_multiple_of(4) && align_of::<T>() >= 4) }
    // SAFETY: `Words` says that there are no gaps; the type is at least as aligned as words.
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
