// y = x w^T for few rows of x: the products of decode, bound by reading the weights once.
//
// xs [rows, inputs] f32 (or bf16 for `skinny`), rows `xs_stride` apart; weight [outputs, inputs] f32 or bf16, rows
// contiguous; ys [rows, outputs] f32. With a residual [rows, outputs], y = residual + x w^T.
// Bytes it must move: size * outputs * inputs.
//
// Blocks along blockIdx.y take further rows. A row's products are added up in one order, whichever rows are beside it
// in its block and however many there are.
//
// gemv: one warp owns one output of up to four rows; a multiprocessor of sixteen warps has 32 KiB in flight.
// skinny: five rows and more, on the matrix units; a block owns 16 outputs.
#include "products.cuh"

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

__device__ __forceinline__ void store_output(const GemvArgs& args, int row, int output, float y) {
  const i64 at = (i64)row * args.outputs + output;
  args.ys[at] = args.residual ? args.residual[at] + y : y;
}

// One warp per output and R rows of x.
template <typename W, int R>
__device__ void gemv(const GemvArgs& args) {
  const int output = blockIdx.x * GEMV_WARPS + threadIdx.x / WARP;
  if (output >= args.outputs) return;  // whole warps only
  const int first_row = blockIdx.y * R;
  auto row_of = [&](int r) { return (const float*)args.xs + min(first_row + r, args.rows - 1) * args.xs_stride; };
  float sums[R] = {};
  add_products<W, R>((const W*)args.weight + (i64)output * args.inputs, row_of, args.inputs, sums);
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const float y = warp_sum(sums[r]);
    if (threadIdx.x % WARP == 0 && first_row + r < args.rows) store_output(args, first_row + r, output, y);
  }
}

// Any number of inputs at any alignment; a row of x per blockIdx.y.
template <typename W>
__device__ void gemv_any(const GemvArgs& args) {
  const int output = blockIdx.x * GEMV_WARPS + threadIdx.x / WARP;
  if (output >= args.outputs) return;
  const float* x = (const float*)args.xs + blockIdx.y * args.xs_stride;
  const float y = product_any((const W*)args.weight + (i64)output * args.inputs, x, args.inputs);
  if (threadIdx.x % WARP == 0) store_output(args, blockIdx.y, output, y);
}

#define GEMV(NAME, W)                                                                                          \
  extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_1(GemvArgs args) { gemv<W, 1>(args); }       \
  extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_2(GemvArgs args) { gemv<W, 2>(args); }       \
  extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_4(GemvArgs args) { gemv<W, 4>(args); }       \
  extern "C" __global__ void __launch_bounds__(128) gemv_##NAME##_any(GemvArgs args) { gemv_any<W>(args); }

GEMV(f32, float)
GEMV(bf16, bf16)

// NT tiles of eight rows, from row blockIdx.y * 8 * NT on. Inputs are a multiple of 32.
template <int NT>
__device__ void skinny(const GemvArgs& args) {
  const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
  const int first = blockIdx.x * SKINNY_OUTPUTS, first_row = blockIdx.y * 8 * NT;
  // Rows past the end repeat the last one; what they give is not stored.
  const int upper = min(first + g, args.outputs - 1), lower = min(first + g + 8, args.outputs - 1);
  const bf16* x[NT];
#pragma unroll
  for (int n = 0; n < NT; ++n) {
    const int row = min(first_row + 8 * n + g, args.rows - 1);
    x[n] = (const bf16*)args.xs + row * args.xs_stride + 8 * t;
  }
  const DenseRows weights((const bf16*)args.weight, upper, lower, args.inputs);
  skinny_tile(weights, x, NT, args.inputs / SKINNY_STEP, [&](int output, int row, float sum) {
    const bool is_inside = first + output < args.outputs && first_row + row < args.rows;
    if (is_inside) store_output(args, first_row + row, first + output, sum);
  });
}

#define SKINNY(NT) \
  extern "C" __global__ void __launch_bounds__(256) skinny_bf16_##NT(GemvArgs args) { skinny<NT>(args); }

SKINNY(1)
SKINNY(2)
SKINNY(4)
SKINNY(8)
