//! Causal multi-head latent attention in absorbed form over a paged cache of latents: decode, chunks and whole prompts
//! are one computation.
//!
//! A cached row is the latent that keys and values of all heads are projections of, and the rotary part of the key
//! that all heads share. The projections stay outside: queries come already projected into the latent's space, and
//! what leaves are weighted sums of latents. So every head of every query reads the same rows, and a work item is up
//! to four neighbouring (query, head) pairs of one sequence. Nothing of it depends on the other items, on how the
//! prompt was cut, or on which blocks the sequence got.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop, reason = "counted loops over registers unroll; iterators hide which")]

use std::cell::RefCell;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::lanes::{Lanes, WithLanes, dispatch};
use super::operand::{Matrix, elements};
use super::paged_attention::{BatchSequence, PlanCell, check_sequences, softmax_weights};
use super::parallel::{Shared, for_each_range};
use super::tile::{TILE_COLS, TILE_ROWS_MAX, dots};

const OP: &str = "mla_attention";

/// Vectors of a latent that are summed at once.
const LATENT_VECTORS: usize = 4;
/// Scores are padded to whole vectors of the widest lanes.
const SCORES_ALIGN: usize = 16;

/// Who attends to what. One value serves all layers of a step.
#[derive(Clone, Debug)]
pub struct MlaAttention<'a> {
    /// The sequences, whose queries tile the rows of the batch in order.
    pub sequences: &'a [BatchSequence],
    /// Tokens per block.
    pub block_len: usize,
    /// Heads of a query.
    pub num_heads: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// What a GPU is told of it, made at the first layer.
    pub plan: PlanCell,
}

/// Attends from every head of every query to the latents of its own sequence, up to and including its own position.
///
/// `q_latent` is `[rows * num_heads, latent]`: each head's query in the latent's space. `q_rope` is
/// `[rows, num_heads * rope]`, turned. `plane` is `[num_slots, latent + rope]` and holds this step's rows already. All
/// are f32 with contiguous rows, possibly views; on a GPU the plane may be bf16. Returns `[rows * num_heads, latent]`,
/// f32.
///
/// Reads `context_len` rows of the plane per four heads; on a GPU with a bf16 plane of 512 and 64 per 16.
///
/// # Errors
/// When shapes or types are not these, a block lies outside the plane, or on a GPU a latent is wider than 512 or a
/// rotary part than 64.
pub fn mla_attention(q_latent: &Tensor, q_rope: &Tensor, plane: &Tensor, layout: &MlaAttention<'_>) -> Result<Tensor> {
    q_latent.apply_op3_no_bwd(q_rope, plane, layout)
}

impl CustomOp3 for MlaAttention<'_> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        q_latent: &CpuStorage,
        q_latent_l: &Layout,
        q_rope: &CpuStorage,
        q_rope_l: &Layout,
        plane: &CpuStorage,
        plane_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (latent_m, rope_m) = (Matrix::of(q_latent_l, OP)?, Matrix::of(q_rope_l, OP)?);
        let plane_m = Matrix::of(plane_l, OP)?;
        self.check(&latent_m, &rope_m, &plane_m)?;
        let operands = Operands {
            q_latent: elements::<f32>(q_latent, &latent_m, OP)?,
            latent_m,
            q_rope: elements::<f32>(q_rope, &rope_m, OP)?,
            rope_m,
            plane: elements::<f32>(plane, &plane_m, OP)?,
            plane_m,
            layout: self,
        };
        let mut ys = vec![0f32; latent_m.rows * latent_m.width];
        let shared = Shared::new(&mut ys);
        let tiles = operands.tiles();
        let context_max = self.sequences.iter().map(|sequence| sequence.context_len).max().unwrap_or(0);
        for_each_range(tiles.len(), 2 * context_max * plane_m.width * TILE_ROWS_MAX, |items| {
            for item in items {
                dispatch(Item { operands: &operands, tile: tiles[item], ys: shared });
            }
        });
        Ok((CpuStorage::F32(ys), Shape::from((latent_m.rows, latent_m.width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        q_latent: &candle_core::CudaStorage,
        q_latent_l: &Layout,
        q_rope: &candle_core::CudaStorage,
        q_rope_l: &Layout,
        plane: &candle_core::CudaStorage,
        plane_l: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::mla_attention(self, (q_latent, q_latent_l), (q_rope, q_rope_l), (plane, plane_l))
    }
}

impl MlaAttention<'_> {
    /// Checks all that the inner loops rely on.
    pub(super) fn check(&self, latent: &Matrix, rope: &Matrix, plane: &Matrix) -> Result<()> {
        let num_heads = self.num_heads;
        if num_heads == 0 || latent.rows != rope.rows * num_heads || !rope.width.is_multiple_of(num_heads) {
            bail!("{OP}: {num_heads} heads, {} rows of latents, {} x {} of rope", latent.rows, rope.rows, rope.width)
        }
        let rope_dim = rope.width / num_heads;
        if plane.width != latent.width + rope_dim || latent.width == 0 || rope_dim == 0 {
            bail!("{OP}: queries of {} and {rope_dim}, a plane of {}", latent.width, plane.width)
        }
        check_sequences(self.sequences, self.block_len, plane.rows, rope.rows, OP)
    }
}

struct Operands<'a> {
    q_latent: &'a [f32],
    latent_m: Matrix,
    q_rope: &'a [f32],
    rope_m: Matrix,
    plane: &'a [f32],
    plane_m: Matrix,
    layout: &'a MlaAttention<'a>,
}

/// Neighbouring (query, head) pairs of one sequence; pair `query * num_heads + head`, counted from its first query.
#[derive(Clone, Copy)]
struct Tile {
    sequence_idx: usize,
    first: usize,
    num_pairs: usize,
}

impl Operands<'_> {
    fn tiles(&self) -> Vec<Tile> {
        let num_heads = self.layout.num_heads;
        let tiles_of = |(sequence_idx, sequence): (usize, &BatchSequence)| {
            let num_pairs = sequence.query_len * num_heads;
            (0..num_pairs).step_by(TILE_ROWS_MAX).map(move |first| {
                let num_pairs = TILE_ROWS_MAX.min(num_pairs - first);
                Tile { sequence_idx, first, num_pairs }
            })
        };
        self.layout.sequences.iter().enumerate().flat_map(tiles_of).collect()
    }
}

struct Item<'a> {
    operands: &'a Operands<'a>,
    tile: Tile,
    ys: Shared<'a, f32>,
}

/// `R` pairs that are computed together: from the `first` of their sequence on, with rows of `row_len` scores.
#[derive(Clone, Copy)]
struct Span<'a> {
    sequence: &'a BatchSequence,
    num_heads: usize,
    first: usize,
    /// Positions that the last of the pairs sees.
    limit: usize,
    row_len: usize,
}

impl Span<'_> {
    /// Pair `r` sees the positions below this.
    #[inline(always)]
    fn limit_of(&self, r: usize) -> usize {
        let BatchSequence { context_len, query_len, .. } = self.sequence;
        context_len - query_len + (self.first + r) / self.num_heads + 1
    }

    /// The query of pair `r` in the batch, and its head.
    #[inline(always)]
    fn query_and_head(&self, r: usize) -> (usize, usize) {
        let pair = self.first + r;
        (self.sequence.query_start + pair / self.num_heads, pair % self.num_heads)
    }
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
        let end = first + self.tile.num_pairs;
        while first < end {
            let num_pairs = (end - first).min(L::TILE_ROWS);
            // SAFETY: the instructions of `L` are the caller's.
            unsafe {
                match num_pairs {
                    1 => self.pairs::<L, 1>(first, &mut scores),
                    2 => self.pairs::<L, 2>(first, &mut scores),
                    3 => self.pairs::<L, 3>(first, &mut scores),
                    _ => self.pairs::<L, 4>(first, &mut scores),
                }
            }
            first += num_pairs;
        }
        SCORES.set(scores);
    }
}

impl Item<'_> {
    /// Attends from `R` pairs that start at the `first` of the sequence.
    ///
    /// # Safety
    /// The machine must have the instructions of `L`.
    #[inline(always)]
    unsafe fn pairs<L: Lanes, const R: usize>(&self, first: usize, scores: &mut Vec<f32>) {
        let MlaAttention { sequences, num_heads, .. } = *self.operands.layout;
        let sequence = &sequences[self.tile.sequence_idx];
        let mut span = Span { sequence, num_heads, first, limit: 0, row_len: 0 };
        span.limit = span.limit_of(R - 1);
        span.row_len = span.limit.next_multiple_of(SCORES_ALIGN);
        if scores.len() < R * span.row_len {
            scores.resize(R * span.row_len, 0.0);
        }
        // SAFETY: `scores` holds R rows of `row_len`.
        unsafe {
            self.score::<L, R>(span, scores);
            let mut sums = [0f32; R];
            for r in 0..R {
                let row = &mut scores[r * span.row_len..(r + 1) * span.row_len];
                row[span.limit_of(r)..].fill(f32::NEG_INFINITY);
                sums[r] = softmax_weights::<L>(row);
            }
            let latent_dim = self.operands.latent_m.width;
            let mut dim = 0;
            while dim < latent_dim {
                if latent_dim - dim >= LATENT_VECTORS * L::WIDTH {
                    self.weigh::<L, R, LATENT_VECTORS>(span, scores, &sums, dim);
                    dim += LATENT_VECTORS * L::WIDTH;
                } else {
                    self.weigh::<L, R, 1>(span, scores, &sums, dim);
                    dim += L::WIDTH;
                }
            }
        }
    }

    /// The cached row of `position`.
    #[inline(always)]
    fn row(&self, sequence: &BatchSequence, position: usize) -> &[f32] {
        let Operands { plane, plane_m, layout: MlaAttention { block_len, .. }, .. } = self.operands;
        let slot = sequence.block_table[position / block_len] as usize * block_len + position % block_len;
        plane_m.row(plane, slot)
    }

    /// Scaled scores of `R` pairs against the positions below the span's limit.
    ///
    /// # Safety
    /// The machine must have the instructions of `L`; `scores` holds `R` rows of the span's length, a multiple of
    /// [`TILE_COLS`] that is at least its limit.
    #[inline(always)]
    unsafe fn score<L: Lanes, const R: usize>(&self, span: Span<'_>, scores: &mut [f32]) {
        let Operands { q_latent, latent_m, q_rope, rope_m, layout, .. } = self.operands;
        let (latent_dim, rope_dim) = (latent_m.width, rope_m.width / layout.num_heads);
        let latent_rows = std::array::from_fn::<_, R, _>(|r| {
            let (query, head) = span.query_and_head(r);
            latent_m.row(q_latent, query * layout.num_heads + head).as_ptr()
        });
        let rope_rows = std::array::from_fn::<_, R, _>(|r| {
            let (query, head) = span.query_and_head(r);
            rope_m.row(q_rope, query)[head * rope_dim..(head + 1) * rope_dim].as_ptr()
        });
        for position in (0..span.limit).step_by(TILE_COLS) {
            let rows: [&[f32]; TILE_COLS] =
                std::array::from_fn(|c| self.row(span.sequence, (position + c).min(span.limit - 1)));
            let latents = std::array::from_fn(|c| rows[c].as_ptr());
            let ropes = std::array::from_fn(|c| rows[c][latent_dim..].as_ptr());
            // SAFETY: every pointer is a latent of `latent_dim` or a rotary part of `rope_dim` elements.
            let (latent_dots, rope_dots) =
                unsafe { (dots::<L, R>(latent_rows, latents, latent_dim), dots::<L, R>(rope_rows, ropes, rope_dim)) };
            for r in 0..R {
                let scores = &mut scores[r * span.row_len + position..][..TILE_COLS];
                for c in 0..TILE_COLS {
                    scores[c] = (latent_dots[r][c] + rope_dots[r][c]) * layout.scale;
                }
            }
        }
    }

    /// Writes the weighted sums of `V` vectors of the latents, from element `dim` on.
    ///
    /// # Safety
    /// The machine must have the instructions of `L`; with `V > 1` the latent must have all their elements.
    #[inline(always)]
    unsafe fn weigh<L: Lanes, const R: usize, const V: usize>(
        &self,
        span: Span<'_>,
        weights: &[f32],
        sums: &[f32; R],
        dim: usize,
    ) {
        let latent_dim = self.operands.latent_m.width;
        let width = (latent_dim - dim).min(V * L::WIDTH);
        // SAFETY: `width` elements are read of each latent and written of each pair's row, which belongs to this item;
        // `weights` has a row of `row_len` per pair.
        unsafe {
            let mut acc = [[L::splat(0.0); V]; R];
            for position in 0..span.limit {
                let latent = self.row(span.sequence, position)[dim..dim + width].as_ptr();
                let mut vectors = [L::splat(0.0); V];
                if width < L::WIDTH {
                    vectors[0] = L::load_partial(latent, width);
                } else {
                    for v in 0..V {
                        vectors[v] = L::load(latent.add(v * L::WIDTH));
                    }
                }
                for r in 0..R {
                    let weight = L::splat(*weights.get_unchecked(r * span.row_len + position));
                    for v in 0..V {
                        acc[r][v] = weight.mul_add(vectors[v], acc[r][v]);
                    }
                }
            }
            for r in 0..R {
                let (query, head) = span.query_and_head(r);
                let ys = self.ys.part((query * span.num_heads + head) * latent_dim + dim, width);
                let mut buffer = [0f32; LATENT_VECTORS * SCORES_ALIGN];
                for v in 0..V {
                    acc[r][v].mul(L::splat(1.0 / sums[r])).store(buffer.as_mut_ptr().add(v * L::WIDTH));
                }
                ys.copy_from_slice(&buffer[..width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise as flat_noise};
    use crate::kernels::{PairGroups, Sums, grouped_matmul, kv_write};

    const BLOCK_LEN: usize = 4;
    const BLOCK_TABLE: [u32; 6] = [5, 0, 7, 2, 1, 4];

    fn noise(rows: usize, width: usize, seed: u32) -> Vec<f32> {
        flat_noise(rows * width, seed)
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    /// The widths of one case, with all its operands.
    struct Case {
        num_heads: usize,
        nope: usize,
        rope: usize,
        value: usize,
        latent: usize,
        q_nope: Vec<f32>,
        q_rope: Vec<f32>,
        latents: Vec<f32>,
        k_rope: Vec<f32>,
        /// Per head, `[latent, nope]`: turns a query into the latent's space.
        k_up: Vec<f32>,
        /// Per head, `[value, latent]`.
        v_up: Vec<f32>,
        context_len: usize,
    }

    impl Case {
        fn new(num_heads: usize, [nope, rope, value, latent]: [usize; 4], context_len: usize) -> Self {
            Self {
                num_heads,
                nope,
                rope,
                value,
                latent,
                q_nope: noise(context_len * num_heads, nope, 1),
                q_rope: noise(context_len, num_heads * rope, 2),
                latents: noise(context_len, latent, 3),
                k_rope: noise(context_len, rope, 4),
                k_up: noise(num_heads * latent, nope, 5),
                v_up: noise(num_heads * value, latent, 6),
                context_len,
            }
        }

        fn scale(&self) -> f32 {
            1.0 / ((self.nope + self.rope) as f32).sqrt()
        }

        /// The expanded form in f64: every head's own keys and values, then attention as it is defined.
        fn expanded(&self, position: usize, head: usize) -> Vec<f64> {
            let Self { nope, rope, value, latent, num_heads, .. } = *self;
            let q_nope = &self.q_nope[(position * num_heads + head) * nope..][..nope];
            let q_rope = &self.q_rope[(position * num_heads + head) * rope..][..rope];
            let latent_at = |other: usize| &self.latents[other * latent..][..latent];
            let key = |other: usize, dim: usize| {
                let column: Vec<f32> = (0..latent).map(|r| self.k_up[(head * latent + r) * nope + dim]).collect();
                dot(&column, latent_at(other))
            };
            let scores: Vec<f64> = (0..=position)
                .map(|other| {
                    let by_key: f64 = (0..nope).map(|dim| f64::from(q_nope[dim]) * key(other, dim)).sum();
                    let by_rope = dot(q_rope, &self.k_rope[other * rope..][..rope]);
                    ((by_key + by_rope) * f64::from(self.scale())).exp()
                })
                .collect();
            let total: f64 = scores.iter().sum();
            let value_of =
                |dim: usize, other: usize| dot(&self.v_up[(head * value + dim) * latent..][..latent], latent_at(other));
            let weighed =
                |dim| scores.iter().enumerate().map(|(other, score)| score * value_of(dim, other)).sum::<f64>();
            (0..value).map(|dim| weighed(dim) / total).collect()
        }

        fn plane(&self) -> Result<Tensor> {
            let (len, device) = (self.context_len, &Device::Cpu);
            let slot = |p: usize| BLOCK_TABLE[p / BLOCK_LEN] * BLOCK_LEN as u32 + (p % BLOCK_LEN) as u32;
            let slots = Tensor::new((0..len).map(slot).collect::<Vec<_>>(), device)?;
            // What was in the plane before must not show.
            let plane = Tensor::full(f32::NAN, (32, self.latent + self.rope), device)?;
            let latents = Tensor::from_slice(&self.latents, (len, self.latent), device)?;
            let ropes = Tensor::from_slice(&self.k_rope, (len, self.rope), device)?;
            kv_write(&plane.narrow(1, 0, self.latent)?, &latents, &slots)?;
            kv_write(&plane.narrow(1, self.latent, self.rope)?, &ropes, &slots)?;
            Ok(plane)
        }

        /// The absorbed form of the queries `first..first + query_len`: `[query_len, num_heads * value]`.
        fn absorbed(&self, plane: &Tensor, first: usize, query_len: usize) -> Result<Vec<Vec<f32>>> {
            let Self { num_heads, nope, rope, value, latent, .. } = *self;
            let (device, pairs) = (&Device::Cpu, query_len * num_heads);
            let rows = |values: &[f32], count: usize, width: usize| -> Result<Tensor> {
                Tensor::from_slice(values, (count, width), device)
            };
            let heads: Vec<u32> = (0..pairs).map(|pair| (pair % num_heads) as u32).collect();
            let heads = PairGroups::new(Tensor::from_vec(heads, (query_len, num_heads), device)?, num_heads)?;
            let q_nope = rows(&self.q_nope[first * num_heads * nope..][..pairs * nope], pairs, nope)?;
            let q_rope = rows(&self.q_rope[first * num_heads * rope..][..pairs * rope], query_len, num_heads * rope)?;
            let (k_up, v_up) =
                (rows(&self.k_up, num_heads * latent, nope)?, rows(&self.v_up, num_heads * value, latent)?);
            let (context_len, block_table) = (first + query_len, BLOCK_TABLE.to_vec());
            let sequences = [BatchSequence { query_start: 0, query_len, context_len, block_table }];
            let (scale, plan) = (self.scale(), PlanCell::default());
            let layout = MlaAttention { sequences: &sequences, block_len: BLOCK_LEN, num_heads, scale, plan };
            let q_latent = grouped_matmul(&q_nope, &k_up, &heads)?;
            let sums = mla_attention(&q_latent, &q_rope, plane, &layout)?;
            grouped_matmul(&sums, &v_up, &heads)?.reshape((query_len, num_heads * value))?.to_vec2()
        }
    }

    #[test]
    fn the_absorbed_form_is_the_expanded_one_for_prompts_chunks_and_decodes() -> Result<()> {
        for (num_heads, widths) in
            [(4, [32, 16, 32, 64]), (3, [8, 4, 12, 20]), (1, [5, 2, 3, 7]), (16, [16, 8, 16, 80])]
        {
            let case = Case::new(num_heads, widths, 23);
            let plane = case.plane()?;
            let whole = case.absorbed(&plane, 0, 23)?;
            for (position, row) in whole.iter().enumerate() {
                for head in 0..num_heads {
                    let found = &row[head * case.value..(head + 1) * case.value];
                    for (y, expected) in found.iter().zip(case.expanded(position, head)) {
                        let within = 2e-5 * (1.0 + expected.abs());
                        assert!((f64::from(*y) - expected).abs() < within, "{position}, {head}: {y} for {expected}");
                    }
                }
                assert_eq!(
                    &case.absorbed(&plane, position, 1)?[0],
                    row,
                    "decode at {position} differs from the prompt"
                );
            }
            assert_eq!(case.absorbed(&plane, 5, 11)?, whole[5..16], "a chunk differs from the whole prompt");
        }
        Ok(())
    }

    /// Decodes, forced blocks and prompts in one batch, over blocks in any order, with operands that are views.
    #[test]
    fn every_device_attends_as_the_cpu_does() -> Result<()> {
        const BLOCK_LEN: usize = 16;
        const LENS: [(usize, usize); 6] = [(1, 1), (1, 300), (2, 513), (3, 40), (9, 70), (20, 20)];
        for device in devices() {
            for (num_heads, latent, rope) in [(16, 512, 64), (1, 512, 64), (3, 512, 64), (4, 64, 16), (5, 20, 6)] {
                let num_blocks: usize = LENS.iter().map(|(_, context_len)| context_len.div_ceil(BLOCK_LEN)).sum();
                // From the last to the first.
                let mut blocks = (0..num_blocks as u32).rev();
                let (mut sequences, mut rows): (Vec<BatchSequence>, usize) = (Vec::new(), 0);
                for (query_len, context_len) in LENS {
                    let block_table = blocks.by_ref().take(context_len.div_ceil(BLOCK_LEN)).collect();
                    sequences.push(BatchSequence { query_start: rows, query_len, context_len, block_table });
                    rows += query_len;
                }
                let matrix = |rows: usize, width: usize, seed| {
                    Tensor::from_vec(flat_noise(rows * width, seed), (rows, width), &Device::Cpu)
                };
                let q_latent = matrix(rows * num_heads, latent + 8, 1)?;
                let q_rope = matrix(rows, num_heads * rope + 8, 2)?;
                let plane = matrix(num_blocks * BLOCK_LEN, latent + rope, 3)?;
                let attend = |device: &Device, dtype| -> Result<Tensor> {
                    let (block_len, scale, plan) = (BLOCK_LEN, 0.3, PlanCell::default());
                    let layout = MlaAttention { sequences: &sequences, block_len, num_heads, scale, plan };
                    let q_latent = q_latent.to_device(device)?.narrow(1, 8, latent)?;
                    let q_rope = q_rope.to_device(device)?.narrow(1, 8, num_heads * rope)?;
                    mla_attention(&q_latent, &q_rope, &plane.to_device(device)?.to_dtype(dtype)?, &layout)
                };
                let expected = attend(&Device::Cpu, DType::F32)?;
                let what = format!("{num_heads} heads over {latent} and {rope}");
                assert_close(&attend(&device, DType::F32)?, &expected, 1e-5, &what)?;
                if !device.is_cpu() {
                    assert_close(&attend(&device, DType::BF16)?, &expected, 2e-2, &format!("{what}, bf16 plane"))?;
                }
            }
        }
        Ok(())
    }

    /// Prompts, chunks and decode of one sequence, alone and behind others, over planes of both types.
    #[test]
    fn batch_invariant_rows_are_the_same_alone_in_company_and_in_any_chunk() -> Result<()> {
        const BLOCK_LEN: usize = 16;
        const LEN: usize = 300;
        const NUM_BLOCKS: usize = LEN.div_ceil(BLOCK_LEN);
        for device in devices() {
            for (num_heads, latent, rope) in [(16, 512, 64), (3, 512, 64), (5, 20, 6)] {
                for dtype in [DType::F32, DType::BF16] {
                    if device.is_cpu() && dtype == DType::BF16 {
                        continue;
                    }
                    let matrix = |rows: usize, width: usize, seed| {
                        Tensor::from_vec(flat_noise(rows * width, seed), (rows, width), &device)
                    };
                    let (q_latent, q_rope) = (matrix(LEN * num_heads, latent, 1)?, matrix(LEN, num_heads * rope, 2)?);
                    let plane = matrix(NUM_BLOCKS * BLOCK_LEN, latent + rope, 3)?.to_dtype(dtype)?;
                    let block_table: Vec<u32> = (0..NUM_BLOCKS as u32).rev().collect();
                    // `query_len` queries from `first` on, behind as many `others`, each at a position of its own.
                    let attend = |first: usize, query_len: usize, others: usize| -> Result<Vec<Vec<f32>>> {
                        let sequence = |query_start, query_len, context_len| BatchSequence {
                            query_start,
                            query_len,
                            context_len,
                            block_table: block_table.clone(),
                        };
                        let mut sequences: Vec<_> = (0..others).map(|other| sequence(other, 1, other + 1)).collect();
                        sequences.push(sequence(others, query_len, first + query_len));
                        let rows = |tensor: &Tensor, per_query: usize| {
                            let own = tensor.narrow(0, first * per_query, query_len * per_query)?;
                            Tensor::cat(&[tensor.narrow(0, 0, others * per_query)?, own], 0)
                        };
                        let (scale, plan) = (0.3, PlanCell::new(Sums::BatchInvariant));
                        let layout =
                            MlaAttention { sequences: &sequences, block_len: BLOCK_LEN, num_heads, scale, plan };
                        let ys = mla_attention(&rows(&q_latent, num_heads)?, &rows(&q_rope, 1)?, &plane, &layout)?;
                        ys.narrow(0, others * num_heads, query_len * num_heads)?.to_vec2()
                    };
                    let whole = attend(0, LEN, 0)?;
                    for (first, query_len, others) in
                        [(0, 1, 0), (255, 1, 1), (256, 1, 7), (LEN - 1, 1, 0), (251, 8, 2), (90, 70, 3)]
                    {
                        let found = attend(first, query_len, others)?;
                        let expected = &whole[first * num_heads..(first + query_len) * num_heads];
                        assert!(found == expected, "{num_heads} heads, {latent}, {dtype:?}: {query_len} from {first}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() -> Result<()> {
        let tensor = |rows: usize, width: usize| Tensor::zeros((rows, width), DType::F32, &Device::Cpu);
        let call = |q_latent: Tensor, q_rope: Tensor, plane: Tensor, block: u32| {
            let block_table = vec![block];
            let sequences = [BatchSequence { query_start: 0, query_len: 2, context_len: 2, block_table }];
            let plan = PlanCell::default();
            let layout = MlaAttention { sequences: &sequences, block_len: 4, num_heads: 3, scale: 1.0, plan };
            mla_attention(&q_latent, &q_rope, &plane, &layout).map(|_| ())
        };
        assert!(call(tensor(6, 8)?, tensor(2, 6)?, tensor(8, 10)?, 1).is_ok());
        assert!(call(tensor(6, 8)?, tensor(2, 6)?, tensor(8, 10)?, 2).is_err(), "a block outside the plane");
        assert!(call(tensor(6, 8)?, tensor(2, 6)?, tensor(8, 11)?, 1).is_err(), "a plane of another width");
        assert!(call(tensor(4, 8)?, tensor(2, 6)?, tensor(8, 10)?, 1).is_err(), "rows without a head");
        assert!(call(tensor(9, 8)?, tensor(3, 6)?, tensor(8, 10)?, 1).is_err(), "a query of no sequence");
        Ok(())
    }
}
