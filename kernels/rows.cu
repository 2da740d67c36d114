// The small operations on rows: rotary embedding, paged KV write, SiLU-mul, addition, gather, rounding to bf16.
//
// Each is bound by memory: it reads its inputs once and writes its output once. Rows are contiguous and may be
// `stride` elements apart. blockIdx.x is the row; threads, and blockIdx.y, lie along it.
#include "common.cuh"

struct RopeArgs {
  void* xs;
  const float* cos;
  const float* sin;
  i64 xs_stride;
  i64 cos_stride;
  i64 sin_stride;
  int width;
  int half;
};
static_assert(sizeof(RopeArgs) == 56, "as in src/kernels/cuda/rows.rs");

// In place: element i of each head of `2 * half` turns with element i + half. A thread owns one pair.
template <typename T>
__device__ void rope(const RopeArgs& args) {
  const int pair = blockIdx.y * blockDim.x + threadIdx.x;
  if (pair >= args.width / 2) return;
  const int head = pair / args.half, i = pair % args.half;
  T* x = (T*)args.xs + blockIdx.x * args.xs_stride + (i64)head * 2 * args.half + i;
  const float cos = args.cos[blockIdx.x * args.cos_stride + i], sin = args.sin[blockIdx.x * args.sin_stride + i];
  const float a = to_float(x[0]), b = to_float(x[args.half]);
  x[0] = from_float<T>(a * cos - b * sin);
  x[args.half] = from_float<T>(b * cos + a * sin);
}

extern "C" __global__ void rope_f32(RopeArgs args) { rope<float>(args); }
extern "C" __global__ void rope_bf16(RopeArgs args) { rope<bf16>(args); }

struct KvWriteArgs {
  void* plane;
  const void* rows;
  const u32* slots;
  i64 plane_stride;
  i64 rows_stride;
  u32 num_slots;
  int width;
};
static_assert(sizeof(KvWriteArgs) == 48, "as in src/kernels/cuda/rows.rs");

// Row blockIdx.x to its slot of the plane; a slot outside the plane writes nothing.
template <typename T, typename K>
__device__ void kv_write(const KvWriteArgs& args) {
  const u32 slot = args.slots[blockIdx.x];
  const int i = blockIdx.y * blockDim.x + threadIdx.x;
  if (slot >= args.num_slots || i >= args.width) return;
  const T* row = (const T*)args.rows + blockIdx.x * args.rows_stride;
  ((K*)args.plane)[slot * args.plane_stride + i] = from_float<K>(to_float(row[i]));
}

extern "C" __global__ void kv_write_f32_f32(KvWriteArgs args) { kv_write<float, float>(args); }
extern "C" __global__ void kv_write_f32_bf16(KvWriteArgs args) { kv_write<float, bf16>(args); }
extern "C" __global__ void kv_write_bf16_bf16(KvWriteArgs args) { kv_write<bf16, bf16>(args); }

struct RopeKvWriteArgs {
  void* qkv;
  const float* cos;
  const float* sin;
  const u32* slots;
  void* keys;
  void* values;
  i64 qkv_stride;
  i64 cos_stride;
  i64 sin_stride;
  i64 keys_stride;
  i64 values_stride;
  u32 num_slots;
  int q_width;
  int kv_width;
  int half;
};
static_assert(sizeof(RopeKvWriteArgs) == 104, "as in src/kernels/cuda/rows.rs");

// Of a row of queries, keys and values: turns the queries in place, and the keys on their way to the row's slot, where
// the values go too. A thread owns a pair: of one head's halves, or of neighbouring values. What stands in the row's
// keys afterwards is what stood there before. A slot outside the planes is not written.
template <typename T, typename K>
__device__ void rope_kv_write(const RopeKvWriteArgs& args) {
  const int turned = (args.q_width + args.kv_width) / 2, pair = blockIdx.y * blockDim.x + threadIdx.x;
  if (pair >= turned + args.kv_width / 2) return;
  T* row = (T*)args.qkv + blockIdx.x * args.qkv_stride;
  const u32 slot = args.slots[blockIdx.x];
  if (pair >= turned) {
    const int i = 2 * (pair - turned);
    const T* value = row + args.q_width + args.kv_width + i;
    if (slot >= args.num_slots) return;
    K* to = (K*)args.values + slot * args.values_stride + i;
    to[0] = from_float<K>(to_float(value[0]));
    to[1] = from_float<K>(to_float(value[1]));
    return;
  }
  const int i = pair % args.half, first = pair / args.half * 2 * args.half + i;
  const float cos = args.cos[blockIdx.x * args.cos_stride + i], sin = args.sin[blockIdx.x * args.sin_stride + i];
  const float a = to_float(row[first]), b = to_float(row[first + args.half]);
  const float x = a * cos - b * sin, y = b * cos + a * sin;
  if (first < args.q_width) {
    row[first] = from_float<T>(x);
    row[first + args.half] = from_float<T>(y);
  } else if (slot < args.num_slots) {
    K* to = (K*)args.keys + slot * args.keys_stride + first - args.q_width;
    to[0] = from_float<K>(x);
    to[args.half] = from_float<K>(y);
  }
}

extern "C" __global__ void rope_kv_write_f32_f32(RopeKvWriteArgs args) { rope_kv_write<float, float>(args); }
extern "C" __global__ void rope_kv_write_f32_bf16(RopeKvWriteArgs args) { rope_kv_write<float, bf16>(args); }
extern "C" __global__ void rope_kv_write_bf16_bf16(RopeKvWriteArgs args) { rope_kv_write<bf16, bf16>(args); }

struct SiluMulArgs {
  const void* gate_up;
  void* ys;
  i64 stride;
  int width;
  int unused;
};
static_assert(sizeof(SiluMulArgs) == 32, "as in src/kernels/cuda/rows.rs");

__device__ __forceinline__ float silu_times(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }

// ys[row][i] = silu(gate_up[row][i]) * gate_up[row][width + i]; a thread owns 16 bytes of the output.
template <typename T>
__device__ void silu_mul_packed(const SiluMulArgs& args) {
  constexpr int N = PACK<T>;
  const int i = (blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (i >= args.width) return;
  const T* gate = (const T*)args.gate_up + blockIdx.x * args.stride + i;
  float gates[N], ups[N];
  unpack(load_once(gate), gates);
  unpack(load_once(gate + args.width), ups);
#pragma unroll
  for (int j = 0; j < N; ++j) gates[j] = silu_times(gates[j], ups[j]);
  *(uint4*)((T*)args.ys + (i64)blockIdx.x * args.width + i) = pack(gates);
}

template <typename T>
__device__ void silu_mul_any(const SiluMulArgs& args) {
  const int i = blockIdx.y * blockDim.x + threadIdx.x;
  if (i >= args.width) return;
  const T* gate = (const T*)args.gate_up + blockIdx.x * args.stride + i;
  ((T*)args.ys)[(i64)blockIdx.x * args.width + i] =
      from_float<T>(silu_times(to_float(gate[0]), to_float(gate[args.width])));
}

extern "C" __global__ void silu_mul_f32(SiluMulArgs args) { silu_mul_packed<float>(args); }
extern "C" __global__ void silu_mul_bf16(SiluMulArgs args) { silu_mul_packed<bf16>(args); }
extern "C" __global__ void silu_mul_f32_any(SiluMulArgs args) { silu_mul_any<float>(args); }
extern "C" __global__ void silu_mul_bf16_any(SiluMulArgs args) { silu_mul_any<bf16>(args); }

struct AddArgs {
  void* ys;
  const void* xs;
  i64 ys_stride;
  i64 xs_stride;
  int width;
  int unused;
};
static_assert(sizeof(AddArgs) == 40, "as in src/kernels/cuda/rows.rs");

// ys[row] += xs[row], or += the one vector xs where xs_stride is 0.
template <typename T>
__device__ void add_assign(const AddArgs& args) {
  const int i = blockIdx.y * blockDim.x + threadIdx.x;
  if (i >= args.width) return;
  T* y = (T*)args.ys + blockIdx.x * args.ys_stride + i;
  *y = from_float<T>(to_float(*y) + to_float(((const T*)args.xs)[blockIdx.x * args.xs_stride + i]));
}

extern "C" __global__ void add_assign_f32(AddArgs args) { add_assign<float>(args); }
extern "C" __global__ void add_assign_bf16(AddArgs args) { add_assign<bf16>(args); }

struct GatherArgs {
  const void* rows;
  const u32* ids;
  float* ys;
  i64 stride;
  u32 num_rows;
  int width;
};
static_assert(sizeof(GatherArgs) == 40, "as in src/kernels/cuda/rows.rs");

// ys[i] = rows[ids[i]], as f32; an id past the rows gives zeros.
template <typename T>
__device__ void gather(const GatherArgs& args) {
  const int i = blockIdx.y * blockDim.x + threadIdx.x;
  if (i >= args.width) return;
  const u32 id = args.ids[blockIdx.x];
  args.ys[(i64)blockIdx.x * args.width + i] =
      id < args.num_rows ? to_float(((const T*)args.rows)[id * args.stride + i]) : 0.0f;
}

extern "C" __global__ void gather_f32(GatherArgs args) { gather<float>(args); }
extern "C" __global__ void gather_bf16(GatherArgs args) { gather<bf16>(args); }

struct RoundArgs {
  const float* xs;
  bf16* ys;
  i64 stride;
  int width;
  int unused;
};
static_assert(sizeof(RoundArgs) == 32, "as in src/kernels/cuda/matmul.rs");

// ys [rows, width] = xs, rounded to bf16.
extern "C" __global__ void round_bf16(RoundArgs args) {
  const int i = blockIdx.y * blockDim.x + threadIdx.x;
  if (i >= args.width) return;
  args.ys[(i64)blockIdx.x * args.width + i] = from_float<bf16>(args.xs[blockIdx.x * args.stride + i]);
}
