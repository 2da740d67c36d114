// y = x w^T for weights of 4 and 8 bits in blocks of 32 along a row.
//
// The weights are one buffer of planes: quants [outputs][blocks][16 or 32], scales [outputs][blocks] f16, and
// for formats with minima as many minima. x is rounded to 8 bits in blocks of 32 first (`round_blocks`), as on the CPU:
// the integer part is exact, and a block counts whole * scale * x_scale + min * x_scale * sum.
// Bytes `blocks_*` must move: the weights once, 18 bytes per block of 4 bits, 34 of 8.
//
// One warp owns one output of up to R rows; a lane takes whole blocks, one 16-byte load of 4-bit weights each or two of
// 8-bit ones, two to four blocks under way at a time.
#include "common.cuh"

struct RoundBlocksArgs {
  const float* xs;
  u32* quants;  // [rows][inputs] i8
  float* scales;
  int* sums;
  i64 stride;
  int inputs;
  int unused;
};
static_assert(sizeof(RoundBlocksArgs) == 48, "as in src/kernels/cuda/blocks.rs");

// A warp owns a block of 32 of row blockIdx.x, one element per lane.
extern "C" __global__ void round_blocks(RoundBlocksArgs args) {
  const int lane = threadIdx.x % WARP;
  const int block = blockIdx.y * (blockDim.x / WARP) + threadIdx.x / WARP, blocks = args.inputs / WARP;
  if (block >= blocks) return;  // whole warps only
  const float x = args.xs[blockIdx.x * args.stride + block * WARP + lane];
  float largest = fabsf(x);
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) largest = fmaxf(largest, shuffle_xor(largest, offset));
  const float inverse = largest > 0.0f ? __fdiv_rn(127.0f, largest) : 0.0f;
  const int quant = __float2int_rn(x * inverse);
  int sum = quant;
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) sum += shuffle_xor(sum, offset);
  const i64 at = (i64)blockIdx.x * blocks + block;
  ((signed char*)args.quants)[at * WARP + lane] = (signed char)quant;
  if (lane == 0) args.scales[at] = __fdiv_rn(largest, 127.0f);
  if (lane == 0) args.sums[at] = sum;
}

struct BlocksArgs {
  const u8* weight;
  const u8* x_quants;
  const float* x_scales;
  const int* x_sums;
  const float* residual;
  float* ys;
  i64 scales;  // where the planes begin in `weight`, in bytes
  i64 mins;
  int rows;
  int blocks;
  int outputs;
  int zero;  // what is taken from each weight
};
static_assert(sizeof(BlocksArgs) == 80, "as in src/kernels/cuda/blocks.rs");

constexpr int BLOCKS_WARPS = 4;
constexpr int MIN_BLOCKS = 2;  // on a multiprocessor: leaves a thread registers enough that none is spilled

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
  __device__ __forceinline__ int dot(uint4 low, uint4 high) const {
    int sum = dot4(bits[0].x, low.x, 0);
    sum = dot4(bits[0].y, low.y, sum);
    sum = dot4(bits[0].z, low.z, sum);
    sum = dot4(bits[0].w, low.w, sum);
    sum = dot4(bits[1].x, high.x, sum);
    sum = dot4(bits[1].y, high.y, sum);
    sum = dot4(bits[1].z, high.z, sum);
    return dot4(bits[1].w, high.w, sum);
  }
};

template <bool PACKED, bool MIN, int R>
__device__ void blocks_product(const BlocksArgs& args) {
  constexpr int BLOCKS_UNROLL = R <= 2 ? 4 : 2;
  const int lane = threadIdx.x % WARP;
  const int output = blockIdx.x * BLOCKS_WARPS + threadIdx.x / WARP;
  if (output >= args.outputs) return;  // whole warps only
  const int first_row = blockIdx.y * R;
  const i64 first_block = (i64)output * args.blocks;
  const u16* scales = (const u16*)(args.weight + args.scales) + first_block;
  const u16* mins = (const u16*)(args.weight + args.mins) + first_block;
  float sums[R] = {};
  for (int start = lane; start < args.blocks; start += WARP * BLOCKS_UNROLL) {
    Quants<PACKED> quants[BLOCKS_UNROLL];
    float scale[BLOCKS_UNROLL], min_of[BLOCKS_UNROLL];
#pragma unroll
    for (int u = 0; u < BLOCKS_UNROLL; ++u) {
      const int block = min(start + u * WARP, args.blocks - 1);
      quants[u].load(args.weight, first_block + block);
      scale[u] = half_to_float(scales[block]);
      min_of[u] = MIN ? half_to_float(mins[block]) : 0.0f;
    }
#pragma unroll
    for (int u = 0; u < BLOCKS_UNROLL; ++u) {
      const int block = start + u * WARP;
      if (block >= args.blocks) break;
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const i64 at = (i64)min(first_row + r, args.rows - 1) * args.blocks + block;
        const u8* x = args.x_quants + at * 32;
        const float x_scale = args.x_scales[at];
        const int x_sum = args.x_sums[at];
        const int whole = quants[u].dot(load_shared_use(x), load_shared_use(x + 16)) - args.zero * x_sum;
        sums[r] = fmaf((float)whole, scale[u] * x_scale, sums[r]);
        if (MIN) sums[r] = fmaf(min_of[u], x_scale * (float)x_sum, sums[r]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const float y = warp_sum(sums[r]);
    const int row = first_row + r;
    if (lane == 0 && row < args.rows) {
      const i64 at = (i64)row * args.outputs + output;
      args.ys[at] = args.residual ? args.residual[at] + y : y;
    }
  }
}

#define BLOCKS(NAME, PACKED, MIN)                                                                                       \
  extern "C" __global__ void __launch_bounds__(128, MIN_BLOCKS) blocks_##NAME##_1(BlocksArgs a) { blocks_product<PACKED, MIN, 1>(a); } \
  extern "C" __global__ void __launch_bounds__(128, MIN_BLOCKS) blocks_##NAME##_2(BlocksArgs a) { blocks_product<PACKED, MIN, 2>(a); } \
  extern "C" __global__ void __launch_bounds__(128, MIN_BLOCKS) blocks_##NAME##_4(BlocksArgs a) { blocks_product<PACKED, MIN, 4>(a); } \
  extern "C" __global__ void __launch_bounds__(128, MIN_BLOCKS) blocks_##NAME##_8(BlocksArgs a) { blocks_product<PACKED, MIN, 8>(a); }

BLOCKS(packed, true, false)
BLOCKS(packed_min, true, true)
BLOCKS(bytes, false, false)
BLOCKS(bytes_min, false, true)

struct DecodeArgs {
  const u8* weight;
  const u32* ids;  // rows to decode, or null for row blockIdx.x itself
  void* ys;
  i64 scales;
  i64 mins;
  int blocks;
  int num_rows;
  int zero;
  int unused;
};
static_assert(sizeof(DecodeArgs) == 56, "as in src/kernels/cuda/blocks.rs");

// Rows as numbers: an embedding's, or a whole matrix on its way to a large product. A thread owns one element.
template <typename Y, bool PACKED, bool MIN>
__device__ void decode_blocks(const DecodeArgs& args) {
  const int i = blockIdx.y * blockDim.x + threadIdx.x;
  if (i >= args.blocks * 32) return;
  const u32 row = args.ids ? args.ids[blockIdx.x] : blockIdx.x;
  float y = 0.0f;
  if (row < (u32)args.num_rows) {
    const i64 block = (i64)row * args.blocks + i / 32;
    const int j = i % 32;
    int quant;
    if (PACKED) {
      quant = args.weight[block * 16 + j % 16] >> (j < 16 ? 0 : 4) & 0x0f;
    } else {
      quant = ((const signed char*)args.weight)[block * 32 + j];
    }
    y = (float)(quant - args.zero) * half_to_float(((const u16*)(args.weight + args.scales))[block]);
    if (MIN) y += half_to_float(((const u16*)(args.weight + args.mins))[block]);
  }
  ((Y*)args.ys)[(i64)blockIdx.x * args.blocks * 32 + i] = from_float<Y>(y);
}

#define DECODE(NAME, PACKED, MIN)                                                                                  \
  extern "C" __global__ void decode_##NAME##_f32(DecodeArgs args) { decode_blocks<float, PACKED, MIN>(args); }     \
  extern "C" __global__ void decode_##NAME##_bf16(DecodeArgs args) { decode_blocks<bf16, PACKED, MIN>(args); }

DECODE(packed, true, false)
DECODE(packed_min, true, true)
DECODE(bytes, false, false)
DECODE(bytes_min, false, true)
