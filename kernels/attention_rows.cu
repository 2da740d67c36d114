// Paged attention of few rows, for decode: every key and value is read once and used by up to four rows.
//
// q [rows, heads * head_dim], keys and values [slots, kv_heads * head_dim], ys [rows, heads * head_dim]. A block owns one
// work item (up to R rows, a span of positions) of one key head: blockIdx.x the item, blockIdx.y the head. Spans have
// the same length whatever the batch, so a row's sums do not depend on it; `combine` puts spans together.
// Bytes it must move: size * 2 * span * head_dim per block.
//
// A group of lanes that together hold one head, 16 bytes each, takes U positions at once: 2 U loads of 16 bytes are under
// way before the first is used. Each group keeps its own running maximum, sum and weighted values; shared memory is
// used only once, to add the groups up.
#include "attention.cuh"

constexpr int THREADS = 128;

// How a head of D elements of type K lies over a group of lanes. D = 0: any head up to 256, element by element.
template <typename K, int D>
struct Spread {
  static constexpr int LEN = PACK<K>;
  static constexpr int LANES = D / LEN;
  static constexpr int DIMS = D;
  static __device__ __forceinline__ int dim(int lane, int e) { return lane * LEN + e; }
  struct Raw {
    uint4 bits;
  };
  static __device__ __forceinline__ Raw load(const K* head, int lane, int) { return {load_once(head + lane * LEN)}; }
  static __device__ __forceinline__ void floats(const Raw& raw, float (&out)[LEN]) { unpack(raw.bits, out); }
};

template <typename K>
struct Spread<K, 0> {
  static constexpr int LEN = 8;
  static constexpr int LANES = WARP;
  static constexpr int DIMS = LEN * LANES;
  static __device__ __forceinline__ int dim(int lane, int e) { return e * LANES + lane; }
  struct Raw {
    float values[LEN];
  };
  static __device__ __forceinline__ Raw load(const K* head, int lane, int head_dim) {
    Raw raw;
#pragma unroll
    for (int e = 0; e < LEN; ++e) raw.values[e] = dim(lane, e) < head_dim ? to_float(head[dim(lane, e)]) : 0.0f;
    return raw;
  }
  static __device__ __forceinline__ void floats(const Raw& raw, float (&out)[LEN]) {
#pragma unroll
    for (int e = 0; e < LEN; ++e) out[e] = raw.values[e];
  }
};

template <typename T, typename K, int D, int R>
__device__ void attention_rows(const AttentionArgs& args) {
  typedef Spread<K, D> S;
  constexpr int LEN = S::LEN, GROUPS = THREADS / S::LANES;
  constexpr int U = R <= 2 && D > 0 ? 4 : 2;
  __shared__ float group_max[GROUPS][R], group_sum[GROUPS][R];
  __shared__ float group_values[GROUPS][R][S::DIMS];

  const Item item = item_at(args, blockIdx.x);
  if (item.num_rows == 0) return;
  const int kv_head = blockIdx.y, group = args.num_heads / args.num_kv_heads;
  const int lane = threadIdx.x % S::LANES, group_idx = threadIdx.x / S::LANES;
  const u32* table = args.plan + item.table;
  const int begin = item.begin, end = item.end, num_rows = item.num_rows;

  float q[R][LEN], maximum[R], sum[R], values[R][LEN];
  int limit[R];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int row = min(r, num_rows - 1);
    const T* from = (const T*)args.q + head_start(args, item, args.q_stride, group, kv_head, row);
    limit[r] = r < num_rows ? min(limit_of(item, group, row), end) : 0;
    maximum[r] = MINUS_INFINITY;
    sum[r] = 0.0f;
#pragma unroll
    for (int e = 0; e < LEN; ++e) {
      const int dim = S::dim(lane, e);
      q[r][e] = dim < args.head_dim ? to_float(from[dim]) * args.scale_log2 : 0.0f;
      values[r][e] = 0.0f;
    }
  }

  // All groups of a warp take the same turns, because they shuffle together.
  for (int start = begin; start < end; start += GROUPS * U) {
    const int first = start + group_idx * U;
    typename S::Raw raw_keys[U], raw_values[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const i64 slot = slot_of(args, table, min(first + u, end - 1));
      const K* key = (const K*)args.keys + slot * args.keys_stride + (i64)kv_head * args.head_dim;
      const K* value = (const K*)args.values + slot * args.values_stride + (i64)kv_head * args.head_dim;
      raw_keys[u] = S::load(key, lane, args.head_dim);
      raw_values[u] = S::load(value, lane, args.head_dim);
    }
    float scores[R][U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      float key[LEN];
      S::floats(raw_keys[u], key);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        float dot = 0.0f;
#pragma unroll
        for (int e = 0; e < LEN; ++e) dot += q[r][e] * key[e];
#pragma unroll
        for (int offset = S::LANES / 2; offset > 0; offset /= 2) dot += shuffle_xor(dot, offset);
        scores[r][u] = first + u < limit[r] ? dot : MINUS_INFINITY;
      }
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
      float top = maximum[r];
#pragma unroll
      for (int u = 0; u < U; ++u) top = fmaxf(top, scores[r][u]);
      // Of a row that has seen nothing yet, everything stays zero.
      const float base = top == MINUS_INFINITY ? 0.0f : top;
      const float shrink = fast_exp2(maximum[r] - base);
      maximum[r] = top;
      sum[r] *= shrink;
#pragma unroll
      for (int e = 0; e < LEN; ++e) values[r][e] *= shrink;
#pragma unroll
      for (int u = 0; u < U; ++u) {
        scores[r][u] = fast_exp2(scores[r][u] - base);
        sum[r] += scores[r][u];
      }
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      float value[LEN];
      S::floats(raw_values[u], value);
#pragma unroll
      for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int e = 0; e < LEN; ++e) values[r][e] += scores[r][u] * value[e];
      }
    }
  }

#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (lane == 0) {
      group_max[group_idx][r] = maximum[r];
      group_sum[group_idx][r] = sum[r];
    }
#pragma unroll
    for (int e = 0; e < LEN; ++e) group_values[group_idx][r][S::dim(lane, e)] = values[r][e];
  }
  __syncthreads();
  store_rows<T>(args, item, kv_head, group_max, group_sum, group_values);
}

#define ROWS(NAME, T, K, D, R)                                                                  \
  extern "C" __global__ void __launch_bounds__(128) attention_rows_##NAME(AttentionArgs args) { \
    attention_rows<T, K, D, R>(args);                                                           \
  }
#define ROWS_OF(NAME, T, K)       \
  ROWS(NAME##_64_1, T, K, 64, 1)  \
  ROWS(NAME##_64_2, T, K, 64, 2)  \
  ROWS(NAME##_64_4, T, K, 64, 4)  \
  ROWS(NAME##_128_1, T, K, 128, 1) \
  ROWS(NAME##_128_2, T, K, 128, 2) \
  ROWS(NAME##_128_4, T, K, 128, 4) \
  ROWS(NAME##_any_1, T, K, 0, 1)  \
  ROWS(NAME##_any_2, T, K, 0, 2)  \
  ROWS(NAME##_any_4, T, K, 0, 4)

ROWS_OF(f32_f32, float, float)
ROWS_OF(f32_bf16, float, bf16)
ROWS_OF(bf16_bf16, bf16, bf16)

// Puts the partial results of one row together; blockIdx: (item, key head, row), one thread per element of the head.
// Of its items, `partial` is where the first split's rows lie and `end` the number of splits.
template <typename T>
__device__ void combine(const AttentionArgs& args) {
  const Item item = item_at(args, blockIdx.x);
  const int kv_head = blockIdx.y, row = blockIdx.z, group = args.num_heads / args.num_kv_heads;
  if (row >= (int)item.num_rows) return;
  float top = MINUS_INFINITY;
  for (u32 split = 0; split < item.end; ++split) {
    top = fmaxf(top, partial_at(args, item.partial + split * item.num_rows + row, kv_head)[0]);
  }
  const float base = top == MINUS_INFINITY ? 0.0f : top;
  for (int dim = threadIdx.x; dim < args.head_dim; dim += blockDim.x) {
    float total = 0.0f, y = 0.0f;
    for (u32 split = 0; split < item.end; ++split) {
      const float* partial = partial_at(args, item.partial + split * item.num_rows + row, kv_head);
      const float weight = fast_exp2(partial[0] - base);
      total += weight * partial[1];
      y += weight * partial[2 + dim];
    }
    T* ys = (T*)args.ys + head_start(args, item, (i64)args.num_heads * args.head_dim, group, kv_head, row);
    ys[dim] = from_float<T>(y / total);
  }
}

extern "C" __global__ void attention_combine_f32(AttentionArgs args) { combine<float>(args); }
extern "C" __global__ void attention_combine_bf16(AttentionArgs args) { combine<bf16>(args); }
