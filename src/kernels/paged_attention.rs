//! Causal attention over a paged KV cache: decode, chunks and whole prompts are one computation.
//!
//! A work item is one head of up to four neighbouring queries of one sequence. Its scores go to a buffer, are turned
//! into weights, and then weigh the values in order of position; nothing of it depends on the other items, on how the
//! prompt was cut, or on which blocks the sequence got.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "counted loops over registers unroll; iterators hide which")]

use std::cell::RefCell;
use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::Sums;
use super::attention_plan::AttentionPlan;
use super::lanes::{Lanes, WithLanes, dispatch};
use super::operand::{Matrix, elements};
use super::parallel::{Shared, for_each_range};
use super::tile::{TILE_COLS, TILE_ROWS_MAX, dots};

const OP: &str = "paged_attention";

/// Vectors of a head's values that are summed at once.
const VALUE_VECTORS: usize = 4;
/// Scores are padded to whole vectors of the widest lanes.
const SCORES_ALIGN: usize = 16;

/// One sequence's share of a batch, and where its keys and values lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSequence {
    /// Index of its first token in the batch.
    pub query_start: usize,
    /// How many tokens it runs in this step: one in decode, a chunk in prefill.
    pub query_len: usize,
    /// Tokens it may attend to, those of this step included: the last query sees all of them.
    pub context_len: usize,
    /// Its blocks, in order of position; enough of them to hold `context_len` tokens.
    pub block_table: Vec<u32>,
}

/// Who attends to what, and how heads share keys. One value serves all layers of a step.
#[derive(Clone, Debug)]
pub struct PagedAttention<'a> {
    /// The sequences, whose queries tile the rows of the batch in order.
    pub sequences: &'a [BatchSequence],
    /// Tokens per block.
    pub block_len: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; each serves `num_heads / num_kv_heads` query heads.
    pub num_kv_heads: usize,
    /// Factor on the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// What a GPU is told of it, made at the first layer.
    pub plan: PlanCell,
}

/// The division of a step's attention over a GPU, with its copy there; empty until a GPU asks, unless it was made
/// before.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a GPU plans"))]
pub struct PlanCell {
    made: OnceLock<(AttentionPlan, Tensor)>,
    sums: Sums,
}

impl PlanCell {
    /// An empty one, to be filled for such sums.
    #[must_use]
    pub fn new(sums: Sums) -> Self {
        Self { made: OnceLock::new(), sums }
    }

    /// A plan whose `words` lie on the device already.
    pub(crate) fn made(plan: AttentionPlan, words: Tensor) -> Self {
        Self { made: OnceLock::from((plan, words)), sums: Sums::default() }
    }
}

#[cfg(feature = "cuda")]
impl PlanCell {
    /// The plan of these `sequences`, made at the first call, and its copy on `device`.
    pub(super) fn plan(
        &self,
        device: &candle_core::Device,
        sequences: &[BatchSequence],
        group: usize,
        tile_rows: Option<usize>,
    ) -> Result<&(AttentionPlan, Tensor)> {
        if let Some(made) = self.made.get() {
            if made.0.tile_rows != tile_rows {
                bail!("the plan was made for other planes: with tiles of {:?}, not {tile_rows:?}", made.0.tile_rows)
            }
            return Ok(made);
        }
        let plan = AttentionPlan::new(sequences, group, tile_rows, self.sums);
        let words = Tensor::new(plan.words.as_slice(), device)?;
        Ok(self.made.get_or_init(|| (plan, words)))
    }
}

/// Attends from `q` (`[rows, num_heads * head_dim]`, f32, rows contiguous, possibly a view) to the keys and values of
/// each row's own sequence, up to and including its own position. Returns `[rows, num_heads * head_dim]`.
///
/// `keys` and `values` are planes of `[num_slots, num_kv_heads * head_dim]`, f32, that hold this step's rows already.
/// Reads `context_len` rows of both planes per tile of queries and head. On a GPU the planes may be bf16, and `q` too.
///
/// # Errors
/// When shapes or types are not these, or a block lies outside the planes.
pub fn paged_attention(q: &Tensor, keys: &Tensor, values: &Tensor, layout: &PagedAttention<'_>) -> Result<Tensor> {
    q.apply_op3_no_bwd(keys, values, layout)
}

impl CustomOp3 for PagedAttention<'_> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_l: &Layout,
        keys: &CpuStorage,
        keys_l: &Layout,
        values: &CpuStorage,
        values_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q_m, keys_m, values_m) = (Matrix::of(q_l, OP)?, Matrix::of(keys_l, OP)?, Matrix::of(values_l, OP)?);
        let operands = Operands {
            q: elements::<f32>(q, &q_m, OP)?,
            q_m,
            keys: elements::<f32>(keys, &keys_m, OP)?,
            keys_m,
            values: elements::<f32>(values, &values_m, OP)?,
            values_m,
            head_dim: self.check(&q_m, &keys_m, &values_m)?,
            layout: self,
        };
        let mut ys = vec![0f32; q_m.rows * q_m.width];
        let shared = Shared::new(&mut ys);
        let tiles = operands.tiles();
        let context_max = self.sequences.iter().map(|sequence| sequence.context_len).max().unwrap_or(0);
        for_each_range(tiles.len() * self.num_heads, 2 * context_max * operands.head_dim, |items| {
            for item in items {
                // The heads of one tile are neighbours, so that those that share keys find them in the cache.
                let (tile, head) = (tiles[item / self.num_heads], item % self.num_heads);
                dispatch(Item { operands: &operands, tile, head, ys: shared });
            }
        });
        Ok((CpuStorage::F32(ys), Shape::from((q_m.rows, q_m.width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        q: &candle_core::CudaStorage,
        q_l: &Layout,
        keys: &candle_core::CudaStorage,
        keys_l: &Layout,
        values: &candle_core::CudaStorage,
        values_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::paged_attention(self, (q, q_l), (keys, keys_l), (values, values_l))
    }
}

impl PagedAttention<'_> {
    /// Checks all that the inner loops rely on, and returns the head's width.
    pub(super) fn check(&self, q: &Matrix, keys: &Matrix, values: &Matrix) -> Result<usize> {
        let (num_heads, num_kv_heads) = (self.num_heads, self.num_kv_heads);
        let divides = num_heads.is_multiple_of(num_kv_heads) && q.width.is_multiple_of(num_heads);
        if num_kv_heads == 0 || num_heads == 0 || !divides {
            bail!("{OP}: {num_heads} heads over {num_kv_heads} in rows of {}", q.width)
        }
        let head_dim = q.width / num_heads;
        if keys.width != num_kv_heads * head_dim || values.width != keys.width || head_dim == 0 {
            bail!("{OP}: heads of {head_dim}, planes of {} and {}", keys.width, values.width)
        }
        let num_slots = keys.rows.min(values.rows);
        check_sequences(self.sequences, self.block_len, num_slots, q.rows, OP)?;
        Ok(head_dim)
    }
}

/// Checks that `sequences` tile `num_queries` rows in order, and that their blocks lie inside planes of `num_slots`.
pub(super) fn check_sequences(
    sequences: &[BatchSequence],
    block_len: usize,
    num_slots: usize,
    num_queries: usize,
    op: &'static str,
) -> Result<()> {
    if block_len == 0 {
        bail!("{op}: blocks are empty")
    }
    let num_blocks = num_slots / block_len;
    let mut query_start = 0;
    for sequence in sequences {
        let BatchSequence { query_len, context_len, block_table, .. } = sequence;
        if sequence.query_start != query_start || context_len < query_len {
            bail!("{op}: {query_len} queries at {} in a context of {context_len}", sequence.query_start)
        }
        if block_table.len() * block_len < *context_len {
            bail!("{op}: {} blocks for a context of {context_len}", block_table.len())
        }
        if let Some(block_idx) = block_table.iter().find(|&&block_idx| block_idx as usize >= num_blocks) {
            bail!("{op}: block {block_idx} of {num_blocks}")
        }
        query_start += query_len;
    }
    if query_start != num_queries {
        bail!("{op}: sequences of {query_start} rows, queries of {num_queries}")
    }
    Ok(())
}

struct Operands<'a> {
    q: &'a [f32],
    q_m: Matrix,
    keys: &'a [f32],
    keys_m: Matrix,
    values: &'a [f32],
    values_m: Matrix,
    head_dim: usize,
    layout: &'a PagedAttention<'a>,
}

/// Neighbouring queries of one sequence.
#[derive(Clone, Copy)]
struct Tile {
    sequence_idx: usize,
    first: usize,
    num_queries: usize,
}

impl Operands<'_> {
    fn tiles(&self) -> Vec<Tile> {
        let tiles_of = |(sequence_idx, sequence): (usize, &BatchSequence)| {
            let query_len = sequence.query_len;
            (0..query_len).step_by(TILE_ROWS_MAX).map(move |first| {
                let num_queries = TILE_ROWS_MAX.min(query_len - first);
                Tile { sequence_idx, first, num_queries }
            })
        };
        self.layout.sequences.iter().enumerate().flat_map(tiles_of).collect()
    }
}

struct Item<'a> {
    operands: &'a Operands<'a>,
    tile: Tile,
    head: usize,
    ys: Shared<'a, f32>,
}

thread_local! {
    /// Scores of one item; grows to four rows of the longest context seen.
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl WithLanes for Item<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // Taken out and put back: a closure would be compiled without the instructions of `L`.
        let mut scores = SCORES.take();
        let mut first = self.tile.first;
        let end = first + self.tile.num_queries;
        while first < end {
            let num_queries = (end - first).min(L::TILE_ROWS);
            // SAFETY: the instructions of `L` are the caller's.
            unsafe {
                match num_queries {
                    1 => self.queries::<L, 1>(first, &mut scores),
                    2 => self.queries::<L, 2>(first, &mut scores),
                    3 => self.queries::<L, 3>(first, &mut scores),
                    _ => self.queries::<L, 4>(first, &mut scores),
                }
            }
            first += num_queries;
        }
        SCORES.set(scores);
    }
}

impl Item<'_> {
    /// Attends from `R` queries that start at the `first` of the sequence.
    ///
    /// # Safety
    /// The machine must have the instructions of `L`.
    #[inline(always)]
    unsafe fn queries<L: Lanes, const R: usize>(&self, first: usize, scores: &mut Vec<f32>) {
        let sequence = &self.operands.layout.sequences[self.tile.sequence_idx];
        // Row r sees the positions below limit(r).
        let limit = |r: usize| sequence.context_len - sequence.query_len + first + r + 1;
        let row_len = limit(R - 1).next_multiple_of(SCORES_ALIGN);
        if scores.len() < R * row_len {
            scores.resize(R * row_len, 0.0);
        }
        // SAFETY: `scores` holds R rows of `row_len`.
        unsafe {
            self.score::<L, R>(sequence, first, limit(R - 1), scores, row_len);
            let mut sums = [0f32; R];
            for r in 0..R {
                let row = &mut scores[r * row_len..(r + 1) * row_len];
                row[limit(r)..].fill(f32::NEG_INFINITY);
                sums[r] = softmax_weights::<L>(row);
            }
            let head_dim = self.operands.head_dim;
            let mut dim = 0;
            while dim < head_dim {
                if head_dim - dim >= VALUE_VECTORS * L::WIDTH {
                    self.weigh::<L, R, VALUE_VECTORS>(sequence, first, limit(R - 1), scores, row_len, &sums, dim);
                    dim += VALUE_VECTORS * L::WIDTH;
                } else {
                    self.weigh::<L, R, 1>(sequence, first, limit(R - 1), scores, row_len, &sums, dim);
                    dim += L::WIDTH;
                }
            }
        }
    }

    /// Index of the first element of this head at `position`, in a plane.
    #[inline(always)]
    fn element(&self, plane: &Matrix, sequence: &BatchSequence, position: usize) -> usize {
        let &PagedAttention { block_len, num_heads, num_kv_heads, .. } = self.operands.layout;
        let slot = sequence.block_table[position / block_len] as usize * block_len + position % block_len;
        let kv_head = self.head / (num_heads / num_kv_heads);
        plane.offset + slot * plane.stride + kv_head * self.operands.head_dim
    }

    /// Scaled scores of `R` queries against the positions below `limit`.
    ///
    /// # Safety
    /// The machine must have the instructions of `L`; `scores` holds `R` rows of `row_len`, a multiple of
    /// [`TILE_COLS`] that is at least `limit`.
    #[inline(always)]
    unsafe fn score<L: Lanes, const R: usize>(
        &self,
        sequence: &BatchSequence,
        first: usize,
        limit: usize,
        scores: &mut [f32],
        row_len: usize,
    ) {
        let Operands { q, q_m, keys, keys_m, head_dim, layout, .. } = self.operands;
        let q_rows = std::array::from_fn::<_, R, _>(|r| {
            let row = q_m.row(q, sequence.query_start + first + r);
            row[self.head * head_dim..(self.head + 1) * head_dim].as_ptr()
        });
        for position in (0..limit).step_by(TILE_COLS) {
            let k_rows = std::array::from_fn(|c| {
                let start = self.element(keys_m, sequence, (position + c).min(limit - 1));
                keys[start..start + head_dim].as_ptr()
            });
            // SAFETY: every pointer is one head of `head_dim` elements.
            let dots = unsafe { dots::<L, R>(q_rows, k_rows, *head_dim) };
            for (r, dots) in dots.iter().enumerate() {
                let start = r * row_len + position;
                scores[start..start + TILE_COLS].copy_from_slice(&dots.map(|dot| dot * layout.scale));
            }
        }
    }

    /// Writes the weighted sums of `V` vectors of the values, from element `dim` of the head on.
    ///
    /// # Safety
    /// The machine must have the instructions of `L`; with `V > 1` the head must have all their elements.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "one step of `queries`, taken out for its name")]
    unsafe fn weigh<L: Lanes, const R: usize, const V: usize>(
        &self,
        sequence: &BatchSequence,
        first: usize,
        limit: usize,
        weights: &[f32],
        row_len: usize,
        sums: &[f32; R],
        dim: usize,
    ) {
        let Operands { q_m, values, values_m, head_dim, .. } = self.operands;
        let width = (head_dim - dim).min(V * L::WIDTH);
        // SAFETY: `width` elements are read of each head and written of each row; rows of `ys` belong to this item.
        unsafe {
            let mut acc = [[L::splat(0.0); V]; R];
            for position in 0..limit {
                let start = self.element(values_m, sequence, position) + dim;
                let value = values[start..start + width].as_ptr();
                let mut vectors = [L::splat(0.0); V];
                if width < L::WIDTH {
                    vectors[0] = L::load_partial(value, width);
                } else {
                    for v in 0..V {
                        vectors[v] = L::load(value.add(v * L::WIDTH));
                    }
                }
                for r in 0..R {
                    let weight = L::splat(*weights.get_unchecked(r * row_len + position));
                    for v in 0..V {
                        acc[r][v] = weight.mul_add(vectors[v], acc[r][v]);
                    }
                }
            }
            for r in 0..R {
                let row = sequence.query_start + first + r;
                let ys = self.ys.part(row * q_m.width + self.head * head_dim + dim, width);
                let mut buffer = [0f32; VALUE_VECTORS * SCORES_ALIGN];
                for v in 0..V {
                    acc[r][v].mul(L::splat(1.0 / sums[r])).store(buffer.as_mut_ptr().add(v * L::WIDTH));
                }
                ys.copy_from_slice(&buffer[..width]);
            }
        }
    }
}

/// Turns a row of scores into `e^(score - max)` and returns their sum. Masked scores are `-inf` and weigh 0.
///
/// # Safety
/// The machine must have the instructions of `L`; the row is a multiple of its width.
#[inline(always)]
pub(super) unsafe fn softmax_weights<L: Lanes>(row: &mut [f32]) -> f32 {
    let max = row.iter().fold(f32::NEG_INFINITY, |max, &score| if score > max { score } else { max });
    // SAFETY: chunks have the width of the lanes.
    unsafe {
        let mut sum = L::splat(0.0);
        for chunk in row.chunks_exact_mut(L::WIDTH) {
            let weights = L::load(chunk.as_ptr()).add(L::splat(-max)).exp();
            weights.store(chunk.as_mut_ptr());
            sum = sum.add(weights);
        }
        sum.sum()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise};

    /// The definition, in f64, over contiguous keys and values.
    fn reference(q: &[f32], keys: &[f32], values: &[f32], num_heads: usize, num_kv_heads: usize) -> Vec<f64> {
        let head_dim = q.len() / num_heads;
        let width = num_kv_heads * head_dim;
        let mut ys = Vec::new();
        for head in 0..num_heads {
            let kv = head / (num_heads / num_kv_heads) * head_dim;
            let q = &q[head * head_dim..(head + 1) * head_dim];
            let score = |k: &[f32]| -> f64 { q.iter().zip(&k[kv..]).map(|(a, b)| f64::from(a * b)).sum() };
            let weights: Vec<f64> = keys.chunks(width).map(|k| (score(k) / (head_dim as f64).sqrt()).exp()).collect();
            let total: f64 = weights.iter().sum();
            for dim in 0..head_dim {
                let value = |(v, w): (&[f32], &f64)| f64::from(v[kv + dim]) * w;
                ys.push(values.chunks(width).zip(&weights).map(value).sum::<f64>() / total);
            }
        }
        ys
    }

    #[test]
    fn chunks_decodes_and_shuffled_blocks_agree_with_the_definition() -> Result<()> {
        for (num_heads, num_kv_heads, head_dim) in [(4, 2, 64), (3, 1, 8), (2, 2, 20), (9, 3, 80)] {
            let (block_len, context_len) = (4, 23);
            let (q_width, kv_width) = (num_heads * head_dim, num_kv_heads * head_dim);
            let q = noise(context_len * q_width, 1);
            let (keys, values) = (noise(context_len * kv_width, 2), noise(context_len * kv_width, 3));
            let block_table = vec![5u32, 0, 7, 2, 1, 4];
            let slots: Vec<u32> =
                (0..context_len).map(|p| block_table[p / block_len] * 4 + (p % block_len) as u32).collect();
            let slots = Tensor::new(slots, &Device::Cpu)?;
            let plane = |rows: &[f32]| -> Result<Tensor> {
                let plane = Tensor::zeros((32, kv_width), DType::F32, &Device::Cpu)?;
                let rows = Tensor::from_slice(rows, (context_len, kv_width), &Device::Cpu)?;
                crate::kernels::kv_write(&plane, &rows, &slots)?;
                Ok(plane)
            };
            let (k_plane, v_plane) = (plane(&keys)?, plane(&values)?);
            let attend = |first: usize, query_len: usize| -> Result<Vec<Vec<f32>>> {
                let q = &q[first * q_width..(first + query_len) * q_width];
                let q = Tensor::from_slice(q, (query_len, q_width), &Device::Cpu)?;
                let context_len = first + query_len;
                let block_table = block_table.clone();
                let sequences = [BatchSequence { query_start: 0, query_len, context_len, block_table }];
                let scale = 1.0 / (head_dim as f32).sqrt();
                let plan = PlanCell::default();
                let layout = PagedAttention { sequences: &sequences, block_len, num_heads, num_kv_heads, scale, plan };
                paged_attention(&q, &k_plane, &v_plane, &layout)?.to_vec2()
            };
            let whole = attend(0, context_len)?;
            for (position, row) in whole.iter().enumerate() {
                let seen = (position + 1) * kv_width;
                let q = &q[position * q_width..(position + 1) * q_width];
                let expected = reference(q, &keys[..seen], &values[..seen], num_heads, num_kv_heads);
                for (y, expected) in row.iter().zip(expected) {
                    assert!((f64::from(*y) - expected).abs() < 1e-5, "position {position}: {y} for {expected}");
                }
                assert_eq!(&attend(position, 1)?[0], row, "decode at {position} differs from the whole prompt");
            }
            assert_eq!(attend(5, 11)?, whole[5..16], "a chunk differs from the whole prompt");
        }
        Ok(())
    }

    #[test]
    fn batch_invariant_rows_are_the_same_in_any_chunk_and_company() -> Result<()> {
        const BLOCK_LEN: usize = 16;
        const CONTEXT_LEN: usize = 600;
        for device in devices() {
            for (num_heads, num_kv_heads, head_dim) in [(2, 2, 128), (8, 1, 64), (3, 1, 20)] {
                let (q_width, kv_width) = (num_heads * head_dim, num_kv_heads * head_dim);
                let block_table: Vec<u32> = (0..CONTEXT_LEN.div_ceil(BLOCK_LEN) as u32).rev().collect();
                let num_slots = block_table.len() * BLOCK_LEN;
                let dtype = if device.is_cpu() { DType::F32 } else { DType::BF16 };
                let plane = |seed| {
                    Tensor::from_vec(noise(num_slots * kv_width, seed), (num_slots, kv_width), &device)?.to_dtype(dtype)
                };
                let (keys, values) = (plane(2)?, plane(3)?);
                let q = Tensor::from_vec(noise(CONTEXT_LEN * q_width, 1), (CONTEXT_LEN, q_width), &device)?;
                // Chunks of one sequence, each as if it were a sequence of its own.
                let attend = |chunks: &[(usize, usize)]| -> Result<Vec<Vec<f32>>> {
                    let (mut sequences, mut rows, mut query_start) = (Vec::new(), Vec::new(), 0);
                    for &(first, query_len) in chunks {
                        let (context_len, block_table) = (first + query_len, block_table.clone());
                        sequences.push(BatchSequence { query_start, query_len, context_len, block_table });
                        rows.push(q.narrow(0, first, query_len)?);
                        query_start += query_len;
                    }
                    let plan = PlanCell::new(Sums::BatchInvariant);
                    let (scale, block_len) = (1.0 / (head_dim as f32).sqrt(), BLOCK_LEN);
                    let layout =
                        PagedAttention { sequences: &sequences, block_len, num_heads, num_kv_heads, scale, plan };
                    paged_attention(&Tensor::cat(&rows, 0)?, &keys, &values, &layout)?.to_vec2()
                };
                let whole = attend(&[(0, CONTEXT_LEN)])?;
                for (first, query_len) in [(0, 1), (255, 1), (256, 1), (599, 1), (100, 3), (250, 8), (300, 70)] {
                    let found = attend(&[(7, 2), (first, query_len), (0, 30)])?;
                    assert_eq!(found[2..2 + query_len], whole[first..first + query_len], "{first} + {query_len}");
                }
            }
        }
        Ok(())
    }

    /// Decodes, forced blocks and prompts in one batch, over blocks in any order, with queries that are a view.
    #[test]
    fn every_device_attends_as_the_cpu_does() -> Result<()> {
        const BLOCK_LEN: usize = 16;
        const LENS: [(usize, usize); 7] = [(1, 1), (1, 300), (2, 513), (3, 40), (8, 700), (70, 130), (64, 64)];
        for device in devices() {
            for (num_heads, num_kv_heads, head_dim) in [(2, 2, 128), (8, 1, 64), (4, 2, 128), (3, 1, 20), (9, 3, 80)] {
                let mut sequences: Vec<BatchSequence> = Vec::new();
                let num_blocks: usize = LENS.iter().map(|(_, context_len)| context_len.div_ceil(BLOCK_LEN)).sum();
                // A step that shares no factor with the number of blocks visits them all.
                let step = (2..).map(|i| i * 7 + 1).find(|step| gcd(*step, num_blocks) == 1).expect("there is one");
                let mut blocks = (0..num_blocks).map(|i| (i * step % num_blocks) as u32);
                let mut query_start = 0;
                for (query_len, context_len) in LENS {
                    let block_table = blocks.by_ref().take(context_len.div_ceil(BLOCK_LEN)).collect();
                    sequences.push(BatchSequence { query_start, query_len, context_len, block_table });
                    query_start += query_len;
                }
                let (q_width, kv_width) = (num_heads * head_dim, num_kv_heads * head_dim);
                let num_slots = num_blocks * BLOCK_LEN;
                let q =
                    Tensor::from_vec(noise(query_start * (q_width + 8), 1), (query_start, q_width + 8), &Device::Cpu)?;
                let keys = Tensor::from_vec(noise(num_slots * kv_width, 2), (num_slots, kv_width), &Device::Cpu)?;
                let values = Tensor::from_vec(noise(num_slots * kv_width, 3), (num_slots, kv_width), &Device::Cpu)?;
                let attend = |device: &Device, q_dtype, kv_dtype| -> Result<Tensor> {
                    let scale = 3.0 / (head_dim as f32).sqrt();
                    let (block_len, plan) = (BLOCK_LEN, PlanCell::default());
                    let layout =
                        PagedAttention { sequences: &sequences, block_len, num_heads, num_kv_heads, scale, plan };
                    let q = q.to_device(device)?.to_dtype(q_dtype)?.narrow(1, 8, q_width)?;
                    let plane = |plane: &Tensor| plane.to_device(device)?.to_dtype(kv_dtype);
                    paged_attention(&q, &plane(&keys)?, &plane(&values)?, &layout)
                };
                let expected = attend(&Device::Cpu, DType::F32, DType::F32)?;
                let what = format!("{num_heads} heads over {num_kv_heads} of {head_dim}");
                assert_close(&attend(&device, DType::F32, DType::F32)?, &expected, 1e-5, &format!("{what}, f32"))?;
                if !device.is_cpu() {
                    let ys = attend(&device, DType::F32, DType::BF16)?;
                    assert_close(&ys, &expected, 1e-2, &format!("{what}, bf16 planes"))?;
                    let ys = attend(&device, DType::BF16, DType::BF16)?;
                    assert_close(&ys, &expected, 1e-2, &format!("{what}, bf16"))?;
                }
            }
        }
        Ok(())
    }

    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }
}
