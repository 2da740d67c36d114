// y = x w^T for weights of 8-bit floats (E4M3), 128 along a row under one f32 scale; and rows of them as numbers.
//
// The weights are one buffer: numbers [outputs][inputs], then scales [outputs][inputs / 128] f32, as
// src/kernels/fp8.rs lays them out. xs [rows, inputs] f32, rows `xs_stride` apart; ys [rows, outputs] f32. Sums are f32.
// Bytes `fp8_product` must move: the weights once for every R rows, 132 bytes per block of 128.
//
// One warp owns one output of up to R rows. A lane loads 16 weights four times before it uses the first; they are
// multiplied as they lie, and what 16 of them gave is scaled once.
#include "common.cuh"

constexpr int FP8_BLOCK = 128;
constexpr int FP8_WARPS = 4;
constexpr int FP8_UNROLL = 4;
constexpr int FP8_N = 16;  // weights of one load
constexpr int FP8_MIN_BLOCKS = 2;  // on a multiprocessor: leaves a thread registers enough that none is spilled

// With its bits at the upper end of a float's, a number is 2^120 times too small.
__device__ __forceinline__ float fp8_to_float(u32 byte) {
  return __uint_as_float((byte & 0x80u) << 24 | (byte & 0x7fu) << 20) * 1.329227995784916e36f;
}

struct Fp8Args {
  const u8* weight;
  const float* xs;
  float* ys;
  i64 xs_stride;
  i64 scales;  // where they begin in `weight`, in bytes
  int rows;
  int inputs;
  int outputs;
  int unused;
};
static_assert(sizeof(Fp8Args) == 56, "as in src/kernels/cuda/fp8.rs");

// Rows of x begin at multiples of 16 bytes.
template <int R>
__device__ void fp8_product(const Fp8Args& args) {
  constexpr int STEP = WARP * FP8_N;
  constexpr int UNROLL = R <= 2 ? FP8_UNROLL : FP8_UNROLL / 2;
  const int lane = threadIdx.x % WARP;
  const int output = blockIdx.x * FP8_WARPS + threadIdx.x / WARP;
  if (output >= args.outputs) return;  // whole warps only
  const int first_row = blockIdx.y * R;
  const u8* weight = args.weight + (i64)output * args.inputs;
  const float* scales = (const float*)(args.weight + args.scales) + (i64)output * (args.inputs / FP8_BLOCK);
  float sums[R] = {};
  for (int start = lane * FP8_N; start < args.inputs; start += STEP * UNROLL) {
    uint4 raw[UNROLL];
    float scale[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const int i = start + u * STEP;
      const bool is_inside = i < args.inputs;
      raw[u] = is_inside ? load_once(weight + i) : make_uint4(0, 0, 0, 0);
      scale[u] = is_inside ? scales[i / FP8_BLOCK] : 0.0f;
    }
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const int i = start + u * STEP;
      if (i < args.inputs) {
        const u32 words[4] = {raw[u].x, raw[u].y, raw[u].z, raw[u].w};
        float parts[R] = {};
#pragma unroll
        for (int word = 0; word < 4; ++word) {
          float w[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) w[j] = fp8_to_float(words[word] >> (8 * j));
#pragma unroll
          for (int r = 0; r < R; ++r) {
            float x[4];
            load_floats(args.xs + (i64)min(first_row + r, args.rows - 1) * args.xs_stride + i + 4 * word, x);
#pragma unroll
            for (int j = 0; j < 4; ++j) parts[r] += w[j] * x[j];
          }
        }
#pragma unroll
        for (int r = 0; r < R; ++r) sums[r] += scale[u] * parts[r];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const float y = warp_sum(sums[r]);
    const int row = first_row + r;
    if (lane == 0 && row < args.rows) args.ys[(i64)row * args.outputs + output] = y;
  }
}

#define FP8(R) \
  extern "C" __global__ void __launch_bounds__(128, FP8_MIN_BLOCKS) fp8_##R(Fp8Args args) { fp8_product<R>(args); }

FP8(1)
FP8(2)
FP8(4)
FP8(8)

struct DecodeFp8Args {
  const u8* weight;
  const u32* ids;  // rows to decode, or null for row blockIdx.x itself
  void* ys;
  i64 scales;
  int width;
  int num_rows;
};
static_assert(sizeof(DecodeFp8Args) == 40, "as in src/kernels/cuda/fp8.rs");

// An embedding's rows, or a whole matrix on its way to a large product. A thread owns one element.
template <typename Y>
__device__ void decode_fp8(const DecodeFp8Args& args) {
  const int i = blockIdx.y * blockDim.x + threadIdx.x;
  if (i >= args.width) return;
  const u32 row = args.ids ? args.ids[blockIdx.x] : blockIdx.x;
  float y = 0.0f;
  if (row < (u32)args.num_rows) {
    const i64 at = (i64)row * args.width + i;
    y = ((const float*)(args.weight + args.scales))[at / FP8_BLOCK] * fp8_to_float(args.weight[at]);
  }
  ((Y*)args.ys)[(i64)blockIdx.x * args.width + i] = from_float<Y>(y);
}

extern "C" __global__ void decode_fp8_f32(DecodeFp8Args args) { decode_fp8<float>(args); }
extern "C" __global__ void decode_fp8_bf16(DecodeFp8Args args) { decode_fp8<bf16>(args); }
