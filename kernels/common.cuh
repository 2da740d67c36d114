// What the kernels share: rows of numbers as floats, sums over a warp and a block.
#pragma once
#include "primitives.cuh"

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return lower_bf16(x.bits); }

template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return bf16{(u16)pack_bf16(x, 0.0f)};
}

// Elements of 16 bytes.
template <typename T>
constexpr int PACK = 16 / (int)sizeof(T);

__device__ __forceinline__ void unpack(uint4 v, float (&out)[4]) {
  out[0] = __uint_as_float(v.x);
  out[1] = __uint_as_float(v.y);
  out[2] = __uint_as_float(v.z);
  out[3] = __uint_as_float(v.w);
}

__device__ __forceinline__ void unpack(uint4 v, float (&out)[8]) {
  const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = lower_bf16(words[i]);
    out[2 * i + 1] = upper_bf16(words[i]);
  }
}

__device__ __forceinline__ uint4 pack(const float (&x)[4]) {
  return make_uint4(__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]), __float_as_uint(x[3]));
}

__device__ __forceinline__ uint4 pack(const float (&x)[8]) {
  return make_uint4(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7]));
}

// `N` neighbouring elements as floats; `from` is aligned to 16 bytes, N elements are whole packs of 16 bytes.
template <typename T, int N>
__device__ __forceinline__ void load_floats(const T* from, float (&out)[N]) {
  static_assert(N % PACK<T> == 0, "whole packs");
#pragma unroll
  for (int i = 0; i < N; i += PACK<T>) {
    float part[PACK<T>];
    unpack(load_shared_use(from + i), part);
#pragma unroll
    for (int j = 0; j < PACK<T>; ++j) out[i + j] = part[j];
  }
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) x += shuffle_xor(x, offset);
  return x;
}

// The sum over a block of at most 32 warps, in every thread. All threads of the block must call it.
__device__ __forceinline__ float block_sum(float x) {
  __shared__ float parts[WARP];
  x = warp_sum(x);
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = x;
  __syncthreads();
  const int num_warps = (blockDim.x + WARP - 1) / WARP;
  x = (int)threadIdx.x % WARP < num_warps ? parts[threadIdx.x % WARP] : 0.0f;
  x = warp_sum(x);
  __syncthreads();
  return x;
}
