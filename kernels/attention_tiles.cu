// Paged attention of many rows, for prompts and shared key heads: the products run on the matrix units.
//
// Shapes as in attention_rows.cu, with bf16 planes and heads of 64 or 128. A block owns one work item of up to 64 rows
// and one key head, its four warps 16 rows each; rows of one query are neighbours, so heads that share keys share the
// tile. Keys and values of 64 positions at a time come through two shared buffers each: while one is multiplied, the
// next is on its way. Scores and outputs stay in registers; queries and weights are rounded to bf16.
// Bytes it must move: 4 * span * head_dim per block, and the tile's queries and outputs.
#include "attention.cuh"

constexpr int TILE_POSITIONS = 64;
constexpr int TILE_THREADS = 128;
constexpr int PADDING = 8;  // elements per row, so that eight rows of a matrix lie in different banks

template <int D>
struct Buffers {
  bf16 keys[2][TILE_POSITIONS][D + PADDING];
  bf16 values[2][TILE_POSITIONS][D + PADDING];
};

// Starts the copy of positions first..first + 64 of one head; positions past `end` repeat the last.
template <int D>
__device__ __forceinline__ void copy_tile(const AttentionArgs& args, const u32* table, int kv_head, int first, int end,
                                          Buffers<D>& buffers, int buffer) {
  constexpr int CHUNKS = D / 8;
#pragma unroll 4
  for (int i = threadIdx.x; i < TILE_POSITIONS * CHUNKS; i += TILE_THREADS) {
    const int position = i / CHUNKS, dim = i % CHUNKS * 8;
    const i64 slot = slot_of(args, table, min(first + position, end - 1));
    const i64 at = (i64)kv_head * D + dim;
    copy_async(&buffers.keys[buffer][position][dim], (const bf16*)args.keys + slot * args.keys_stride + at);
    copy_async(&buffers.values[buffer][position][dim], (const bf16*)args.values + slot * args.values_stride + at);
  }
  copy_async_commit();
}

// Two neighbouring queries as bf16.
__device__ __forceinline__ u32 query_pair(const float* q) { return pack_bf16(q[0], q[1]); }
__device__ __forceinline__ u32 query_pair(const bf16* q) { return (u32)q[0].bits | (u32)q[1].bits << 16; }

template <typename T, int D>
__device__ void attention_tile(const AttentionArgs& args, Buffers<D>& buffers) {
  constexpr int SCORE_TILES = TILE_POSITIONS / 8, VALUE_TILES = D / 8;
  const Item item = item_at(args, blockIdx.x);
  if (item.num_rows == 0) return;
  const int kv_head = blockIdx.y, group = args.num_heads / args.num_kv_heads;
  const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  const u32* table = args.plan + item.table;
  const int num_rows = item.num_rows;
  // This lane's two rows; rows past the end repeat the last one and are not stored.
  const int rows[2] = {(int)threadIdx.x / WARP * 16 + g, (int)threadIdx.x / WARP * 16 + g + 8};
  int limit[2];
  u32 q[D / 16][4];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = min(rows[h], num_rows - 1);
    const T* from = (const T*)args.q + head_start(args, item, args.q_stride, group, kv_head, row);
    limit[h] = min(limit_of(item, group, row), (int)item.end);
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {
      q[k][h] = query_pair(from + 16 * k + 2 * t);
      q[k][2 + h] = query_pair(from + 16 * k + 2 * t + 8);
    }
  }
  // Nobody in the tile sees further than its last row.
  const int begin = item.begin, end = min((int)item.end, limit_of(item, group, num_rows - 1));

  float maximum[2] = {MINUS_INFINITY, MINUS_INFINITY}, sum[2] = {0.0f, 0.0f};
  float ys[VALUE_TILES][4] = {};
  if (begin < end) copy_tile(args, table, kv_head, begin, end, buffers, 0);
  for (int first = begin, buffer = 0; first < end; first += TILE_POSITIONS, buffer ^= 1) {
    if (first + TILE_POSITIONS < end) {
      copy_tile(args, table, kv_head, first + TILE_POSITIONS, end, buffers, buffer ^ 1);
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads();

    float scores[SCORE_TILES][4] = {};
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {
#pragma unroll
      for (int n = 0; n < SCORE_TILES; n += 2) {
        u32 b[4];
        const int position = 8 * n + lane / 16 * 8 + lane % 8, dim = 16 * k + lane / 8 % 2 * 8;
        load_matrices(b, &buffers.keys[buffer][position][dim]);
        multiply_add(scores[n], q[k], b[0], b[1]);
        multiply_add(scores[n + 1], q[k], b[2], b[3]);
      }
    }

#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float top = maximum[h];
#pragma unroll
      for (int n = 0; n < SCORE_TILES; ++n) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& score = scores[n][2 * h + c];
          score = first + 8 * n + 2 * t + c < limit[h] ? score * args.scale_log2 : MINUS_INFINITY;
          top = fmaxf(top, score);
        }
      }
      top = fmaxf(top, shuffle_xor(top, 1));
      top = fmaxf(top, shuffle_xor(top, 2));
      const float base = top == MINUS_INFINITY ? 0.0f : top;
      const float shrink = fast_exp2(maximum[h] - base);
      maximum[h] = top;
      float added = 0.0f;
#pragma unroll
      for (int n = 0; n < SCORE_TILES; ++n) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          scores[n][2 * h + c] = fast_exp2(scores[n][2 * h + c] - base);
          added += scores[n][2 * h + c];
        }
      }
      sum[h] = sum[h] * shrink + added;  // of this lane's columns; the four lanes are added up at the end
#pragma unroll
      for (int n = 0; n < VALUE_TILES; ++n) {
        ys[n][2 * h] *= shrink;
        ys[n][2 * h + 1] *= shrink;
      }
    }

#pragma unroll
    for (int k = 0; k < TILE_POSITIONS / 16; ++k) {
      const u32 weights[4] = {
          pack_bf16(scores[2 * k][0], scores[2 * k][1]),
          pack_bf16(scores[2 * k][2], scores[2 * k][3]),
          pack_bf16(scores[2 * k + 1][0], scores[2 * k + 1][1]),
          pack_bf16(scores[2 * k + 1][2], scores[2 * k + 1][3]),
      };
#pragma unroll
      for (int n = 0; n < VALUE_TILES; n += 2) {
        u32 b[4];
        const int position = 16 * k + lane / 8 % 2 * 8 + lane % 8, dim = 8 * n + lane / 16 * 8;
        load_matrices_transposed(b, &buffers.values[buffer][position][dim]);
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
    const int row = rows[h];
    if (row >= num_rows) continue;
    if (item.partial == NO_PARTIAL) {
      T* y = (T*)args.ys + head_start(args, item, (i64)args.num_heads * D, group, kv_head, row);
#pragma unroll
      for (int n = 0; n < VALUE_TILES; ++n) {
        y[8 * n + 2 * t] = from_float<T>(ys[n][2 * h] / sum[h]);
        y[8 * n + 2 * t + 1] = from_float<T>(ys[n][2 * h + 1] / sum[h]);
      }
    } else {
      float* partial = partial_at(args, item.partial + row, kv_head);
      if (t == 0) partial[0] = maximum[h];
      if (t == 0) partial[1] = sum[h];
#pragma unroll
      for (int n = 0; n < VALUE_TILES; ++n) {
        partial[2 + 8 * n + 2 * t] = ys[n][2 * h];
        partial[2 + 8 * n + 2 * t + 1] = ys[n][2 * h + 1];
      }
    }
  }
}

#define TILES(NAME, T, D)                                                                                 \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS) attention_tiles_##NAME(AttentionArgs args) { \
    DYNAMIC_SHARED(shared);                                                                               \
    attention_tile<T, D>(args, *(Buffers<D>*)shared);                                                     \
  }

TILES(f32_64, float, 64)
TILES(f32_128, float, 128)
TILES(bf16_64, bf16, 64)
TILES(bf16_128, bf16, 128)
