// y = x / sqrt(mean(x^2) + eps) * weight, row by row.
//
// xs [rows, width] (rows `xs_stride` apart), weight [width] f32, ys [rows, width].
// One block owns one row. Bytes it must move: 2 * size * rows * width + 4 * width. The second pass over the row finds it
// in the first cache level. Residuals are added where they are made, by the products.
#include "common.cuh"

struct NormArgs {
  const void* xs;
  const float* weight;
  void* ys;
  i64 xs_stride;
  int width;
  float eps;
};
static_assert(sizeof(NormArgs) == 40, "as in src/kernels/cuda/norm.rs");

template <typename T>
__device__ void norm_packed(const NormArgs& args) {
  constexpr int N = PACK<T>;
  const T* x = (const T*)args.xs + blockIdx.x * args.xs_stride;
  T* y = (T*)args.ys + (i64)blockIdx.x * args.width;
  float squares = 0.0f;
  for (int i = threadIdx.x * N; i < args.width; i += blockDim.x * N) {
    float values[N];
    unpack(load_shared_use(x + i), values);
#pragma unroll
    for (int j = 0; j < N; ++j) squares += values[j] * values[j];
  }
  const float scale = 1.0f / sqrtf(block_sum(squares) / (float)args.width + args.eps);
  for (int i = threadIdx.x * N; i < args.width; i += blockDim.x * N) {
    float values[N], weights[N];
    unpack(load_shared_use(x + i), values);
    load_floats(args.weight + i, weights);
#pragma unroll
    for (int j = 0; j < N; ++j) values[j] = values[j] * scale * weights[j];
    *(uint4*)(y + i) = pack(values);
  }
}

template <typename T>
__device__ void norm_any(const NormArgs& args) {
  const T* x = (const T*)args.xs + blockIdx.x * args.xs_stride;
  T* y = (T*)args.ys + (i64)blockIdx.x * args.width;
  float squares = 0.0f;
  for (int i = threadIdx.x; i < args.width; i += blockDim.x) {
    squares += to_float(x[i]) * to_float(x[i]);
  }
  const float scale = 1.0f / sqrtf(block_sum(squares) / (float)args.width + args.eps);
  for (int i = threadIdx.x; i < args.width; i += blockDim.x) {
    y[i] = from_float<T>(to_float(x[i]) * scale * args.weight[i]);
  }
}

#define NORM(NAME, T)                                                                      \
  extern "C" __global__ void rms_norm_##NAME(NormArgs args) { norm_packed<T>(args); }      \
  extern "C" __global__ void rms_norm_##NAME##_any(NormArgs args) { norm_any<T>(args); }

NORM(f32, float)
NORM(bf16, bf16)
