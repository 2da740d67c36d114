// What the products share: a warp's dot products of one row of weights, and tiles of 16 outputs on the matrix units.
#pragma once
#include "common.cuh"

constexpr int GEMV_WARPS = 4;
constexpr int GEMV_UNROLL = 4;

// Adds this lane's share of the dot products of one row of weights and the R rows `row_of(r)` of x; rows are aligned to
// 16 bytes.
//
// A lane loads 16 bytes of weights four times before it uses the first; x comes from the caches. The order of a row's
// sum does not depend on R.
template <typename W, int R, typename RowOf>
__device__ __forceinline__ void add_products(const W* weight, RowOf row_of, int inputs, float (&sums)[R]) {
  constexpr int N = PACK<W>;
  constexpr int STEP = WARP * N;
  for (int start = (int)threadIdx.x % WARP * N; start < inputs; start += STEP * GEMV_UNROLL) {
    uint4 raw[GEMV_UNROLL];
#pragma unroll
    for (int u = 0; u < GEMV_UNROLL; ++u) {
      const int i = start + u * STEP;
      raw[u] = i < inputs ? load_once(weight + i) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int u = 0; u < GEMV_UNROLL; ++u) {
      const int i = start + u * STEP;
      if (i < inputs) {
        float w[N];
        unpack(raw[u], w);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          float values[N];
          load_floats(row_of(r) + i, values);
#pragma unroll
          for (int j = 0; j < N; ++j) sums[r] += w[j] * values[j];
        }
      }
    }
  }
}

// The dot product of one row of weights and one of x, of any length at any alignment, in every lane.
template <typename W>
__device__ __forceinline__ float product_any(const W* weight, const float* x, int inputs) {
  float sum = 0.0f;
  for (int i = (int)threadIdx.x % WARP; i < inputs; i += WARP) sum += to_float(weight[i]) * x[i];
  return warp_sum(sum);
}

constexpr int SKINNY_WARPS = 8;
constexpr int SKINNY_OUTPUTS = 16;
constexpr int SKINNY_STEP = 32;  // inputs that four lanes take together: two matrix instructions

// Where a lane finds its rows of bf16 weights. Lane 4 g + t takes rows g and g + 8 of a tile's 16, and of each step the
// inputs 8 t..8 t + 8.
struct DenseRows {
  const bf16 *upper, *lower;

  struct Raw {
    uint4 upper, lower;
  };
  __device__ __forceinline__ DenseRows(const bf16* weight, i64 upper_row, i64 lower_row, int inputs)
      : upper(weight + upper_row * inputs + 8 * (threadIdx.x % 4)),
        lower(weight + lower_row * inputs + 8 * (threadIdx.x % 4)) {}
  __device__ __forceinline__ Raw load(int step) const {
    return {load_once(upper + step * SKINNY_STEP), load_once(lower + step * SKINNY_STEP)};
  }
  __device__ __forceinline__ uint4 upper_of(const Raw& raw) const { return raw.upper; }
  __device__ __forceinline__ uint4 lower_of(const Raw& raw) const { return raw.lower; }
};

// 16 outputs of up to 8 * NT rows of bf16 x, on the matrix units. The eight warps of a block divide the steps and add
// up through shared memory in a fixed order; `store(output, row, sum)` gets each result once, also of rows that
// repeat others. `x` are this lane's rows 8 n + g, from input 8 t on, of which only the first `num_tiles` count.
//
// The order of the inputs within a product is free as long as both sides agree: lane t of four takes eight
// neighbours, so that weights and x are both loaded 16 bytes at a time, straight into the registers that the matrix
// instruction reads.
template <int NT, typename Rows, typename Store>
__device__ __forceinline__ void skinny_tile(const Rows& weights, const bf16* const (&x)[NT], int num_tiles, int steps,
                                            Store store) {
  constexpr int UNROLL = 2;
  __shared__ float parts[SKINNY_WARPS][NT][WARP][4];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  float sums[NT][4] = {};
  // All lanes of a warp take the same steps: the matrix instruction needs the whole warp.
  for (int step = warp; step < steps; step += SKINNY_WARPS * UNROLL) {
    typename Rows::Raw raw[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) raw[u] = weights.load(min(step + u * SKINNY_WARPS, steps - 1));
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      if (step + u * SKINNY_WARPS >= steps) break;
      const int k = (step + u * SKINNY_WARPS) * SKINNY_STEP;
      const uint4 upper = weights.upper_of(raw[u]), lower = weights.lower_of(raw[u]);
      const u32 first_half[4] = {upper.x, lower.x, upper.y, lower.y};
      const u32 second_half[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
      for (int n = 0; n < NT; ++n) {
        if (n >= num_tiles) break;
        const uint4 b = load_shared_use(x[n] + k);
        multiply_add(sums[n], first_half, b.x, b.y);
        multiply_add(sums[n], second_half, b.z, b.w);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < NT; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) parts[warp][n][lane][i] = sums[n][i];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < num_tiles * WARP * 4; i += blockDim.x) {
    const int n = i / (WARP * 4), part_lane = i / 4 % WARP, c = i % 4;
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < SKINNY_WARPS; ++w) sum += parts[w][n][part_lane][c];
    store(part_lane / 4 + (c >= 2 ? 8 : 0), 8 * n + 2 * (part_lane % 4) + c % 2, sum);
  }
}
