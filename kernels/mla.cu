// Causal multi-head latent attention in absorbed form over a paged plane of latents, for queries of any number.
//
// q [rows * heads, latent] and q_rope [rows, heads * rope] f32, the plane [slots, latent + rope] f32 or bf16, ys
// [rows * heads, latent] f32. All heads share the plane's rows: a row's score is its product with the whole of one, and
// what is weighed is its latent. So it is attention of one key head, whose values are the first elements of the keys;
// items and partial results are those of attention_rows.cu, whose `combine` puts spans together.
//
// mla_rows: up to four rows, in f32, any widths up to 512 and 64. A warp takes two positions at a time and holds a
// row of the plane over its lanes, once for the score and once for the sum.
// mla_tiles: up to 16 rows, on the matrix units, for bf16 planes of 512 and 64. Below.
// Bytes they must move: size * span * (latent + rope) per block, and the item's queries and outputs.
#include "attention.cuh"

struct MlaArgs {
  AttentionArgs attention;  // one key head of `head_dim` = latent; `keys` is the plane, there are no `values`
  const float* q_rope;
  i64 q_rope_stride;
  int rope;
  int unused;
};
static_assert(sizeof(MlaArgs) == 120, "as in src/kernels/cuda/mla.rs");

constexpr int MLA_THREADS = 128;
constexpr int MLA_WARPS = MLA_THREADS / WARP;
constexpr int LATENT_MAX = 512;
constexpr int ROPE_MAX = 64;

// One row's query: its head in the latent's space, and the part that was turned.
struct MlaQuery {
  const float *latent, *rope;

  __device__ __forceinline__ MlaQuery(const MlaArgs& args, const Item& item, int row) {
    const int sequence_row = (int)item.first_row + row, num_heads = args.attention.num_heads;
    const i64 query = item.query_start + sequence_row / num_heads, head = sequence_row % num_heads;
    latent = (const float*)args.attention.q + (query * num_heads + head) * args.attention.q_stride;
    rope = args.q_rope + query * args.q_rope_stride + head * args.rope;
  }
};

template <typename K, int R>
__device__ void mla_rows(const MlaArgs& args) {
  constexpr int LATENTS = LATENT_MAX / WARP, ROPES = ROPE_MAX / WARP, U = 2;
  __shared__ float warp_max[MLA_WARPS][R], warp_total[MLA_WARPS][R];
  __shared__ float warp_values[MLA_WARPS][R][LATENT_MAX];
  const AttentionArgs& attention = args.attention;
  const Item item = item_at(attention, blockIdx.x);
  if (item.num_rows == 0) return;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, latent = attention.head_dim;
  const u32* table = attention.plan + item.table;
  const int begin = item.begin, end = item.end, num_rows = item.num_rows;

  float q[R][LATENTS], q_rope[R][ROPES], maximum[R], sum[R], values[R][LATENTS];
  int limit[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = min(r, num_rows - 1);
    const MlaQuery query(args, item, row);
    limit[r] = r < num_rows ? min(limit_of(item, attention.num_heads, row), end) : 0;
    maximum[r] = MINUS_INFINITY;
    sum[r] = 0.0f;
#pragma unroll
    for (int e = 0; e < LATENTS; ++e) {
      const int dim = e * WARP + lane;
      q[r][e] = dim < latent ? query.latent[dim] * attention.scale_log2 : 0.0f;
      values[r][e] = 0.0f;
    }
#pragma unroll
    for (int e = 0; e < ROPES; ++e) {
      const int dim = e * WARP + lane;
      q_rope[r][e] = dim < args.rope ? query.rope[dim] * attention.scale_log2 : 0.0f;
    }
  }

  for (int start = begin; start < end; start += MLA_WARPS * U) {
    const int first = start + warp * U;
    float latents[U][LATENTS], ropes[U][ROPES];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const i64 slot = slot_of(attention, table, min(first + u, end - 1));
      const K* key = (const K*)attention.keys + slot * attention.keys_stride;
#pragma unroll
      for (int e = 0; e < LATENTS; ++e) {
        const int dim = e * WARP + lane;
        latents[u][e] = dim < latent ? to_float(key[dim]) : 0.0f;
      }
#pragma unroll
      for (int e = 0; e < ROPES; ++e) {
        const int dim = e * WARP + lane;
        ropes[u][e] = dim < args.rope ? to_float(key[latent + dim]) : 0.0f;
      }
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      float scores[U], top = maximum[r];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        float dot = 0.0f;
#pragma unroll
        for (int e = 0; e < LATENTS; ++e) dot += q[r][e] * latents[u][e];
#pragma unroll
        for (int e = 0; e < ROPES; ++e) dot += q_rope[r][e] * ropes[u][e];
        dot = warp_sum(dot);
        scores[u] = first + u < limit[r] ? dot : MINUS_INFINITY;
        top = fmaxf(top, scores[u]);
      }
      // Of a row that has seen nothing yet, everything stays zero.
      const float base = top == MINUS_INFINITY ? 0.0f : top;
      const float shrink = fast_exp2(maximum[r] - base);
      maximum[r] = top;
      sum[r] *= shrink;
#pragma unroll
      for (int e = 0; e < LATENTS; ++e) values[r][e] *= shrink;
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const float weight = fast_exp2(scores[u] - base);
        sum[r] += weight;
#pragma unroll
        for (int e = 0; e < LATENTS; ++e) values[r][e] += weight * latents[u][e];
      }
    }
  }

#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (lane == 0) {
      warp_max[warp][r] = maximum[r];
      warp_total[warp][r] = sum[r];
    }
#pragma unroll
    for (int e = 0; e < LATENTS; ++e) warp_values[warp][r][e * WARP + lane] = values[r][e];
  }
  __syncthreads();
  store_rows<float>(attention, item, 0, warp_max, warp_total, warp_values);
}

#define MLA_ROWS(NAME, K)                                                                       \
  extern "C" __global__ void __launch_bounds__(MLA_THREADS) mla_rows_##NAME##_1(MlaArgs args) { \
    mla_rows<K, 1>(args);                                                                       \
  }                                                                                             \
  extern "C" __global__ void __launch_bounds__(MLA_THREADS) mla_rows_##NAME##_2(MlaArgs args) { \
    mla_rows<K, 2>(args);                                                                       \
  }                                                                                             \
  extern "C" __global__ void __launch_bounds__(MLA_THREADS) mla_rows_##NAME##_4(MlaArgs args) { \
    mla_rows<K, 4>(args);                                                                       \
  }

MLA_ROWS(f32, float)
MLA_ROWS(bf16, bf16)

// --- on the matrix units ---

constexpr int MLA_TILE_ROWS = 16;
constexpr int MLA_TILE_POSITIONS = 32;
constexpr int MLA_PADDING = 8;  // elements per row, so that eight rows of a matrix lie in different banks

// 95 KB for 512 and 64: two blocks on a multiprocessor of Hopper.
template <int LATENT, int ROPE>
struct MlaBuffers {
  bf16 q[MLA_TILE_ROWS][LATENT + ROPE + MLA_PADDING];
  bf16 rows[2][MLA_TILE_POSITIONS][LATENT + ROPE + MLA_PADDING];
  bf16 weights[MLA_TILE_ROWS][MLA_TILE_POSITIONS + MLA_PADDING];
  float of_warps[MLA_WARPS][MLA_TILE_ROWS];  // the largest scores, and at last the sums
};

// Starts the copy of positions first..first + 32; positions past `end` repeat the last.
template <int LATENT, int ROPE>
__device__ __forceinline__ void copy_latents(const AttentionArgs& args, const u32* table, int first, int end,
                                             MlaBuffers<LATENT, ROPE>& buffers, int buffer) {
  constexpr int CHUNKS = (LATENT + ROPE) / 8;
#pragma unroll 2
  for (int i = threadIdx.x; i < MLA_TILE_POSITIONS * CHUNKS; i += MLA_THREADS) {
    const int position = i / CHUNKS, dim = i % CHUNKS * 8;
    const i64 slot = slot_of(args, table, min(first + position, end - 1));
    copy_async(&buffers.rows[buffer][position][dim], (const bf16*)args.keys + slot * args.keys_stride + dim);
  }
  copy_async_commit();
}

// A block owns an item of up to 16 rows, for example all heads of one query. Its four warps score eight of 32 positions
// each against all rows, share the weights through shared memory, and sum a quarter of the latent's elements each: so
// every row of the plane is read once from memory, through two buffers. Queries and weights are rounded to bf16.
template <int LATENT, int ROPE>
__device__ void mla_tile(const MlaArgs& args, MlaBuffers<LATENT, ROPE>& buffers) {
  constexpr int STEPS = (LATENT + ROPE) / 32, COLUMNS = LATENT / MLA_WARPS, VALUE_TILES = COLUMNS / 8;
  static_assert((LATENT + ROPE) % 32 == 0 && COLUMNS % 16 == 0, "whole matrices");
  const AttentionArgs& attention = args.attention;
  const Item item = item_at(attention, blockIdx.x);
  if (item.num_rows == 0) return;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, t = lane % 4;
  const u32* table = attention.plan + item.table;
  const int num_rows = item.num_rows, num_heads = attention.num_heads;
  // Nobody in the tile sees further than its last row.
  const int begin = item.begin, end = min((int)item.end, limit_of(item, num_heads, num_rows - 1));
  if (begin < end) copy_latents(attention, table, begin, end, buffers, 0);

  // Rows past the end repeat the last one and are not stored.
  constexpr int PAIRS = (LATENT + ROPE) / 2;
  for (int i = threadIdx.x; i < MLA_TILE_ROWS * PAIRS; i += MLA_THREADS) {
    const int row = i / PAIRS, dim = i % PAIRS * 2;
    const MlaQuery query(args, item, min(row, num_rows - 1));
    const float* from = dim < LATENT ? query.latent + dim : query.rope + (dim - LATENT);
    *(u32*)&buffers.q[row][dim] = pack_bf16(from[0], from[1]);
  }
  int limit[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) limit[h] = min(limit_of(item, num_heads, min(g + 8 * h, num_rows - 1)), end);

  float maximum[2] = {MINUS_INFINITY, MINUS_INFINITY}, sum[2] = {0.0f, 0.0f};
  float ys[VALUE_TILES][4] = {};
  for (int first = begin, buffer = 0; first < end; first += MLA_TILE_POSITIONS, buffer ^= 1) {
    if (first + MLA_TILE_POSITIONS < end) {
      copy_latents(attention, table, first + MLA_TILE_POSITIONS, end, buffers, buffer ^ 1);
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads();

    // Scores of this warp's eight positions; two sums, so that an instruction does not wait for the one before.
    float scores[4] = {}, odd_scores[4] = {};
#pragma unroll 6
    for (int k = 0; k < STEPS; ++k) {
      u32 q[4], q_odd[4], b[4];
      load_matrices(b, &buffers.rows[buffer][8 * warp + lane % 8][32 * k + lane / 8 * 8]);
      load_matrices(q, &buffers.q[lane % 16][32 * k + lane / 16 * 8]);
      load_matrices(q_odd, &buffers.q[lane % 16][32 * k + 16 + lane / 16 * 8]);
      multiply_add(scores, q, b[0], b[1]);
      multiply_add(odd_scores, q_odd, b[2], b[3]);
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float top = MINUS_INFINITY;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& score = scores[2 * h + c];
        score = (score + odd_scores[2 * h + c]) * attention.scale_log2;
        if (first + 8 * warp + 2 * t + c >= limit[h]) score = MINUS_INFINITY;
        top = fmaxf(top, score);
      }
      top = fmaxf(top, shuffle_xor(top, 1));
      top = fmaxf(top, shuffle_xor(top, 2));
      if (t == 0) buffers.of_warps[warp][g + 8 * h] = top;
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float top = maximum[h];
#pragma unroll
      for (int w = 0; w < MLA_WARPS; ++w) top = fmaxf(top, buffers.of_warps[w][g + 8 * h]);
      const float base = top == MINUS_INFINITY ? 0.0f : top;
      const float shrink = fast_exp2(maximum[h] - base);
      maximum[h] = top;
      const float first_weight = fast_exp2(scores[2 * h] - base), second_weight = fast_exp2(scores[2 * h + 1] - base);
      sum[h] = sum[h] * shrink + first_weight + second_weight;  // of this lane's columns
      *(u32*)&buffers.weights[g + 8 * h][8 * warp + 2 * t] = pack_bf16(first_weight, second_weight);
#pragma unroll
      for (int n = 0; n < VALUE_TILES; ++n) {
        ys[n][2 * h] *= shrink;
        ys[n][2 * h + 1] *= shrink;
      }
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < MLA_TILE_POSITIONS / 16; ++k) {
      u32 weights[4];
      load_matrices(weights, &buffers.weights[lane % 16][16 * k + lane / 16 * 8]);
#pragma unroll
      for (int n = 0; n < VALUE_TILES; n += 2) {
        u32 b[4];
        const int position = 16 * k + lane / 8 % 2 * 8 + lane % 8, dim = COLUMNS * warp + 8 * n + lane / 16 * 8;
        load_matrices_transposed(b, &buffers.rows[buffer][position][dim]);
        multiply_add(ys[n], weights, b[0], b[1]);
        multiply_add(ys[n + 1], weights, b[2], b[3]);
      }
    }
    __syncthreads();  // the next turn's copy writes where this one read
  }

#pragma unroll
  for (int h = 0; h < 2; ++h) {
    sum[h] += shuffle_xor(sum[h], 1);
    sum[h] += shuffle_xor(sum[h], 2);
    if (t == 0) buffers.of_warps[warp][g + 8 * h] = sum[h];
  }
  __syncthreads();
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = g + 8 * h;
    if (row >= num_rows) continue;
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < MLA_WARPS; ++w) total += buffers.of_warps[w][row];
    const bool is_whole = item.partial == NO_PARTIAL;
    float* to;
    if (is_whole) {
      to = (float*)attention.ys + head_start(attention, item, (i64)num_heads * LATENT, num_heads, 0, row);
    } else {
      float* partial = partial_at(attention, item.partial + row, 0);
      if (warp == 0 && t == 0) partial[0] = maximum[h];
      if (warp == 0 && t == 0) partial[1] = total;
      to = partial + 2;
    }
    const float divisor = is_whole ? total : 1.0f;
#pragma unroll
    for (int n = 0; n < VALUE_TILES; ++n) {
      const int dim = COLUMNS * warp + 8 * n + 2 * t;
      to[dim] = ys[n][2 * h] / divisor;
      to[dim + 1] = ys[n][2 * h + 1] / divisor;
    }
  }
}

extern "C" __global__ void __launch_bounds__(MLA_THREADS) mla_tiles_bf16_512_64(MlaArgs args) {
  DYNAMIC_SHARED(shared);
  mla_tile<512, 64>(args, *(MlaBuffers<512, 64>*)shared);
}
