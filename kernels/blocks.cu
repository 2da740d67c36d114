// y = x w^T for weights of 4 and 8 bits in blocks of 32 along a row.
//
// The weights are one buffer of planes: quants [outputs][blocks][16 or 32], scales [outputs][blocks] f16, and
// for formats with minima as many minima. x is rounded to 8 bits in blocks of 32 first (`round_blocks`), as on the CPU:
// the integer part is exact, and a block counts whole * scale * x_scale + min * x_scale * sum. Of halves, each half
// of a block has a scale, and counts by itself.
// Bytes `blocks_*` must move: the weights once, 18 bytes per block of 4 bits, 34 of 8, 36 of halves.
//
// One warp owns one output of up to R rows; a lane takes whole blocks, one 16-byte load of 4-bit weights each or two of
// 8-bit ones, two to four blocks under way at a time.
#include "planar.cuh"

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

template <bool PACKED, bool MIN, int R, bool HALVES = false>
__device__ void blocks_product(const BlocksArgs& args) {
  const int output = blockIdx.x * BLOCKS_WARPS + threadIdx.x / WARP;
  if (output >= args.outputs) return;  // whole warps only
  const int first_row = blockIdx.y * R;
  const PlanarWeight weights(args.weight, args.scales, args.mins, args.blocks, args.zero);
  int rows[R];
#pragma unroll
  for (int r = 0; r < R; ++r) rows[r] = min(first_row + r, args.rows - 1);
  float sums[R] = {};
  add_block_products<PACKED, MIN, R, HALVES>(weights, output, {args.x_quants, args.x_scales, args.x_sums}, rows, sums);
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const float y = warp_sum(sums[r]);
    const int row = first_row + r;
    if (threadIdx.x % WARP == 0 && row < args.rows) {
      const i64 at = (i64)row * args.outputs + output;
      args.ys[at] = args.residual ? args.residual[at] + y : y;
    }
  }
}

#define BLOCKS_OF(NAME, PACKED, MIN, R, HALVES)                                                           \
  extern "C" __global__ void __launch_bounds__(128, MIN_BLOCKS) blocks_##NAME##_##R(BlocksArgs args) {    \
    blocks_product<PACKED, MIN, R, HALVES>(args);                                                         \
  }
#define BLOCKS(NAME, PACKED, MIN, HALVES)  \
  BLOCKS_OF(NAME, PACKED, MIN, 1, HALVES)  \
  BLOCKS_OF(NAME, PACKED, MIN, 2, HALVES)  \
  BLOCKS_OF(NAME, PACKED, MIN, 4, HALVES)  \
  BLOCKS_OF(NAME, PACKED, MIN, 8, HALVES)

BLOCKS(packed, true, false, false)
BLOCKS(packed_min, true, true, false)
BLOCKS(bytes, false, false, false)
BLOCKS(bytes_min, false, true, false)
BLOCKS(halves, false, false, true)

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
template <typename Y, bool PACKED, bool MIN, bool HALVES = false>
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
    const i64 scale = HALVES ? 2 * block + j / 16 : block;
    y = (float)(quant - args.zero) * half_to_float(((const u16*)(args.weight + args.scales))[scale]);
    if (MIN) y += half_to_float(((const u16*)(args.weight + args.mins))[block]);
  }
  ((Y*)args.ys)[(i64)blockIdx.x * args.blocks * 32 + i] = from_float<Y>(y);
}

#define DECODE(NAME, PACKED, MIN, HALVES)                                \
  extern "C" __global__ void decode_##NAME##_f32(DecodeArgs args) {      \
    decode_blocks<float, PACKED, MIN, HALVES>(args);                     \
  }                                                                      \
  extern "C" __global__ void decode_##NAME##_bf16(DecodeArgs args) {     \
    decode_blocks<bf16, PACKED, MIN, HALVES>(args);                      \
  }

DECODE(packed, true, false, false)
DECODE(packed_min, true, true, false)
DECODE(bytes, false, false, false)
DECODE(bytes_min, false, true, false)
DECODE(halves, false, false, true)
