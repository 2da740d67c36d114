// What the products of weights of 4 and 8 bits share: a warp's dot products in whole numbers, and weights as bf16.
//
// A matrix is one buffer of planes: quants [rows][blocks][16 or 32], scales [rows][blocks] f16, and for formats with
// minima as many minima. Of halves, whose bytes are signed and have no minima, each half of a block has its own scale.
#pragma once
#include "products.cuh"

constexpr int BLOCKS_WARPS = 4;
constexpr int MIN_BLOCKS = 2;  // on a multiprocessor: leaves a thread registers enough that none is spilled

// The planes of a matrix.
struct PlanarWeight {
  const u8* quants;
  const u16* scales;
  const u16* mins;
  int blocks;  // of a row
  int zero;    // what is taken from each weight

  __device__ __forceinline__ PlanarWeight(const u8* bytes, i64 scales, i64 mins, int blocks, int zero)
      : quants(bytes),
        scales((const u16*)(bytes + scales)),
        mins((const u16*)(bytes + mins)),
        blocks(blocks),
        zero(zero) {}
};

// Rows of x, rounded to 8 bits in blocks of 32: `round_blocks` of blocks.cu made them.
struct RoundedRows {
  const u8* quants;
  const float* scales;
  const int* sums;
};

// One block of weights. Words are four weights each: of 4-bit formats the low halves are weights 0..16 and
// the high halves 16..32, as in the file.
template <bool PACKED>
struct Quants;

template <>
struct Quants<true> {
  uint4 bits;
  __device__ __forceinline__ void load(const u8* quants, i64 block) { bits = load_once(quants + block * 16); }
  __device__ __forceinline__ int dot(uint4 low, uint4 high) const {
    const u32 words[4] = {bits.x, bits.y, bits.z, bits.w};
    const u32 first[4] = {low.x, low.y, low.z, low.w}, second[4] = {high.x, high.y, high.z, high.w};
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum = dot4(words[i] & 0x0f0f0f0fu, first[i], sum);
      sum = dot4(words[i] >> 4 & 0x0f0f0f0fu, second[i], sum);
    }
    return sum;
  }
};

// 8-bit weights are signed.
template <>
struct Quants<false> {
  uint4 bits[2];
  __device__ __forceinline__ void load(const u8* quants, i64 block) {
    bits[0] = load_once(quants + block * 32);
    bits[1] = load_once(quants + block * 32 + 16);
  }
  __device__ __forceinline__ int dot_half(int half, uint4 x, int sum) const {
    sum = dot4(bits[half].x, x.x, sum);
    sum = dot4(bits[half].y, x.y, sum);
    sum = dot4(bits[half].z, x.z, sum);
    return dot4(bits[half].w, x.w, sum);
  }
  __device__ __forceinline__ int dot(uint4 low, uint4 high) const { return dot_half(1, high, dot_half(0, low, 0)); }
};

// Adds this lane's share of the dot products of one row of weights and R rows of x: whole blocks of 32, two to four of
// them under way at a time. The order of a row's sum does not depend on the other rows.
template <bool PACKED, bool MIN, int R, bool HALVES = false>
__device__ __forceinline__ void add_block_products(const PlanarWeight& weights, i64 weight_row, const RoundedRows& x,
                                                   const int (&x_rows)[R], float (&sums)[R]) {
  constexpr int BLOCKS_UNROLL = R <= 2 ? 4 : 2, SCALES = HALVES ? 2 : 1;
  static_assert(!HALVES || (!PACKED && !MIN), "halves are signed bytes without minima");
  const i64 first_block = weight_row * weights.blocks;
  for (int start = threadIdx.x % WARP; start < weights.blocks; start += WARP * BLOCKS_UNROLL) {
    Quants<PACKED> quants[BLOCKS_UNROLL];
    float scale[BLOCKS_UNROLL][SCALES], min_of[BLOCKS_UNROLL];
#pragma unroll
    for (int u = 0; u < BLOCKS_UNROLL; ++u) {
      const i64 block = first_block + min(start + u * WARP, weights.blocks - 1);
      quants[u].load(weights.quants, block);
#pragma unroll
      for (int s = 0; s < SCALES; ++s) scale[u][s] = half_to_float(weights.scales[SCALES * block + s]);
      min_of[u] = MIN ? half_to_float(weights.mins[block]) : 0.0f;
    }
#pragma unroll
    for (int u = 0; u < BLOCKS_UNROLL; ++u) {
      const int block = start + u * WARP;
      if (block >= weights.blocks) break;
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const i64 at = (i64)x_rows[r] * weights.blocks + block;
        const u8* values = x.quants + at * 32;
        const uint4 low = load_shared_use(values), high = load_shared_use(values + 16);
        const float x_scale = x.scales[at];
        if constexpr (HALVES) {
          sums[r] = fmaf((float)quants[u].dot_half(0, low, 0), scale[u][0] * x_scale, sums[r]);
          sums[r] = fmaf((float)quants[u].dot_half(1, high, 0), scale[u][1] * x_scale, sums[r]);
        } else {
          const int x_sum = x.sums[at];
          const int whole = quants[u].dot(low, high) - weights.zero * x_sum;
          sums[r] = fmaf((float)whole, scale[u][0] * x_scale, sums[r]);
          if (MIN) sums[r] = fmaf(min_of[u], x_scale * (float)x_sum, sums[r]);
        }
      }
    }
  }
}

// As DenseRows of products.cuh, for weights that become bf16 on their way to the matrix units; a step is a block.
template <bool PACKED, bool MIN>
struct PlanarRows {
  const PlanarWeight& weights;
  i64 upper, lower;  // where their rows begin, in blocks

  struct Half {
    u64 quants;  // of eight neighbours, the first in the lowest byte
    u16 scale, min;
  };
  struct Raw {
    Half upper, lower;
  };
  __device__ __forceinline__ PlanarRows(const PlanarWeight& weights, i64 upper_row, i64 lower_row)
      : weights(weights), upper(upper_row * weights.blocks), lower(lower_row * weights.blocks) {}
  __device__ __forceinline__ Half half(i64 block) const {
    // In a block of 4-bit weights, weights i and i + 16 share a byte.
    const int t = threadIdx.x % 4;
    const u8* from = weights.quants + (PACKED ? block * 16 + 8 * (t % 2) : block * 32 + 8 * t);
    return {*(const u64*)from, weights.scales[block], MIN ? weights.mins[block] : (u16)0};
  }
  __device__ __forceinline__ Raw load(int step) const { return {half(upper + step), half(lower + step)}; }
  __device__ __forceinline__ float weight(const Half& half, int i) const {
    const int byte = (int)(half.quants >> 8 * i & 0xff);
    const int quant = !PACKED ? (int)(signed char)byte : threadIdx.x % 4 < 2 ? byte & 0x0f : byte >> 4;
    const float min_of = MIN ? half_to_float(half.min) : 0.0f;
    return fmaf((float)(quant - weights.zero), half_to_float(half.scale), min_of);
  }
  __device__ __forceinline__ uint4 row_of(const Half& half) const {
    return make_uint4(pack_bf16(weight(half, 0), weight(half, 1)), pack_bf16(weight(half, 2), weight(half, 3)),
                      pack_bf16(weight(half, 4), weight(half, 5)), pack_bf16(weight(half, 6), weight(half, 7)));
  }
  __device__ __forceinline__ uint4 upper_of(const Raw& raw) const { return row_of(raw.upper); }
  __device__ __forceinline__ uint4 lower_of(const Raw& raw) const { return row_of(raw.lower); }
};
