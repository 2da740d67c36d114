// y = x w^T for few rows of x: the products of decode, bound by reading the weights once.
//
// xs [rows, inputs] f32 (or bf16 for `skinny`), rows `xs_stride` apart; weight [outputs, inputs] f32 or bf16, rows
// contiguous; ys [rows, outputs] f32. With a residual [rows, outputs], y = residual + x w^T.
// Bytes it must move: size * outputs * inputs.
//
// Blocks along blockIdx.y take further rows. A row's products are added up in one order, whichever rows are beside it
// in its block and however many there are.
//
// gemv: one warp owns one output of up to four rows. A lane loads 16 bytes of weights four times before it uses the
// first, so that a multiprocessor of sixteen warps has 32 KiB in flight; x comes from the caches.
//
// skinny: five rows and more, on the matrix units. A block owns 16 outputs and splits the inputs over its eight warps,
// which add up through shared memory in a fixed order. The order of k within a product is free as long as both sides
// agree: lane t of four takes eight neighbours, so that weights and x are both loaded 16 bytes at a time, straight
// into the registers that the matrix instruction reads.
#include "common.cuh"

struct GemvArgs {
  const void* xs;
  const void* weight;
  const float* residual;
  float* ys;
  i64 xs_stride;
  int rows;
  int inputs;
  int outputs;
  int unused;
};
static_assert(sizeof(GemvArgs) == 56, "as in src/kernels/cuda/matmul.rs");

constexpr int GEMV_WARPS = 4;
constexpr int GEMV_UNROLL = 4;

__device__ __forceinline__ void store_output(const GemvArgs& args, int row, int output, float y) {
  const i64 at = (i64)row * args.outputs + output;
  args.ys[at] = args.residual ? args.residual[at] + y : y;
}

// One warp per output and R rows of x.
template <typename W, int R>
__device__ void gemv(const GemvArgs& args) {
  constexpr int N = PACK<W>;
  constexpr int STEP = WARP * N;
  const int lane = threadIdx.x % WARP;
  const int output = blockIdx.x * GEMV_WARPS + threadIdx.x / WARP;
  if (output >= args.outputs) return;  // whole warps only
  const int first_row = blockIdx.y * R;
  const W* weight = (const W*)args.weight + (i64)output * args.inputs;
  const float* xs = (const float*)args.xs;
  float sums[R] = {};
  for (int start = lane * N; start < args.inputs; start += STEP * GEMV_UNROLL) {
    uint4 raw[GEMV_UNROLL];
#pragma unroll
    for (int u = 0; u < GEMV_UNROLL; ++u) {
      const int i = start + u * STEP;
      raw[u] = i < args.inputs ? load_once(weight + i) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int u = 0; u < GEMV_UNROLL; ++u) {
      const int i = start + u * STEP;
      if (i < args.inputs) {
        float w[N];
        unpack(raw[u], w);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          float x[N];
          load_floats(xs + min(first_row + r, args.rows - 1) * args.xs_stride + i, x);
#pragma unroll
          for (int j = 0; j < N; ++j) sums[r] += w[j] * x[j];
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const float y = warp_sum(sums[r]);
    if (lane == 0 && first_row + r < args.rows) store_output(args, first_row + r, output, y);
  }
}

// Any number of inputs at any alignment; a row of x per blockIdx.y.
template <typename W>
__device__ void gemv_any(const GemvArgs& args) {
  const int lane = threadIdx.x % WARP;
  const int output = blockIdx.x * GEMV_WARPS + threadIdx.x / WARP;
  if (output >= args.outputs) return;
  const W* weight = (const W*)args.weight + (i64)output * args.inputs;
  const float* x = (const float*)args.xs + blockIdx.y * args.xs_stride;
  float sum = 0.0f;
  for (int i = lane; i < args.inputs; i += WARP) sum += to_float(weight[i]) * x[i];
  sum = warp_sum(sum);
  if (lane == 0) store_output(args, blockIdx.y, output, sum);
}

#define GEMV(NAME, W)                                                                                          \
  extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_1(GemvArgs args) { gemv<W, 1>(args); }       \
  extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_2(GemvArgs args) { gemv<W, 2>(args); }       \
  extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_4(GemvArgs args) { gemv<W, 4>(args); }       \
  extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_any(GemvArgs args) { gemv_any<W>(args); }

GEMV(f32, float)
GEMV(bf16, bf16)

constexpr int SKINNY_WARPS = 8;
constexpr int SKINNY_OUTPUTS = 16;
constexpr int SKINNY_STEP = 32;  // k of one 16-byte load per lane: two matrix instructions

// NT tiles of eight rows, from row blockIdx.y * 8 * NT on. Inputs are a multiple of 32.
template <int NT>
__device__ void skinny(const GemvArgs& args) {
  constexpr int UNROLL = 2;
  __shared__ float parts[SKINNY_WARPS][NT][WARP][4];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int g = lane / 4, t = lane % 4;
  const int first = blockIdx.x * SKINNY_OUTPUTS, first_row = blockIdx.y * 8 * NT;
  // Rows past the end repeat the last one; what they give is not stored.
  const int upper = min(first + g, args.outputs - 1), lower = min(first + g + 8, args.outputs - 1);
  const bf16* weight = (const bf16*)args.weight;
  const bf16* w0 = weight + (i64)upper * args.inputs + 8 * t;
  const bf16* w1 = weight + (i64)lower * args.inputs + 8 * t;
  const bf16* x[NT];
#pragma unroll
  for (int n = 0; n < NT; ++n) {
    const int row = min(first_row + 8 * n + g, args.rows - 1);
    x[n] = (const bf16*)args.xs + row * args.xs_stride + 8 * t;
  }
  float sums[NT][4] = {};
  const int steps = args.inputs / SKINNY_STEP;
  // All lanes of a warp take the same steps: the matrix instruction needs the whole warp.
  for (int step = warp; step < steps; step += SKINNY_WARPS * UNROLL) {
    uint4 a0[UNROLL], a1[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const int k = min(step + u * SKINNY_WARPS, steps - 1) * SKINNY_STEP;
      a0[u] = load_once(w0 + k);
      a1[u] = load_once(w1 + k);
    }
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      if (step + u * SKINNY_WARPS >= steps) break;
      const int k = (step + u * SKINNY_WARPS) * SKINNY_STEP;
      const u32 first_half[4] = {a0[u].x, a1[u].x, a0[u].y, a1[u].y};
      const u32 second_half[4] = {a0[u].z, a1[u].z, a0[u].w, a1[u].w};
#pragma unroll
      for (int n = 0; n < NT; ++n) {
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
  for (int i = threadIdx.x; i < NT * WARP * 4; i += blockDim.x) {
    const int n = i / (WARP * 4), part_lane = i / 4 % WARP, c = i % 4;
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < SKINNY_WARPS; ++w) sum += parts[w][n][part_lane][c];
    const int output = first + part_lane / 4 + (c >= 2 ? 8 : 0);
    const int row = first_row + 8 * n + 2 * (part_lane % 4) + c % 2;
    if (output < args.outputs && row < args.rows) store_output(args, row, output, sum);
  }
}

#define SKINNY(NT) \
  extern "C" __global__ void __launch_bounds__(256) skinny_bf16_##NT(GemvArgs args) { skinny<NT>(args); }

SKINNY(1)
SKINNY(2)
SKINNY(4)
SKINNY(8)
