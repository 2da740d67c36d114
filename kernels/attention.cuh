// What the attention kernels share: who attends to what, and where partial results go.
#pragma once
#include "common.cuh"

struct AttentionArgs {
  const void* q;
  const void* keys;
  const void* values;
  void* ys;
  float* partials;
  const u32* plan;
  i64 q_stride;
  i64 keys_stride;
  i64 values_stride;
  int block_len;
  int num_heads;
  int num_kv_heads;
  int head_dim;
  float scale_log2;  // the factor on scores, times log2(e)
  int items;         // where the plan's work items begin, in u32
};
static_assert(sizeof(AttentionArgs) == 96, "as in src/kernels/cuda/attention.rs");

constexpr u32 NO_PARTIAL = 0xffffffffu;

// Some neighbouring rows of one sequence against some of its positions. A row is a query and one of the heads that
// share a key head: row = query * group + head of the group. An item without rows is nobody's: in a recorded graph, the
// grid is that of the longest contexts.
struct Item {
  u32 query_start;  // the batch row of the sequence's first query
  u32 query_len;
  u32 context_len;
  u32 table;      // where its block table begins in the plan, in u32
  u32 first_row;  // of the sequence
  u32 num_rows;
  u32 begin;  // positions begin..end
  u32 end;
  u32 partial;  // where its partial results begin, in rows; NO_PARTIAL if the result is whole
};
constexpr int ITEM_WORDS = sizeof(Item) / 4;

__device__ __forceinline__ Item item_at(const AttentionArgs& args, int idx) {
  return *(const Item*)(args.plan + args.items + idx * ITEM_WORDS);
}

// Positions that a row may see.
__device__ __forceinline__ int limit_of(const Item& item, int group, int row) {
  return (int)(item.context_len - item.query_len) + ((int)item.first_row + row) / group + 1;
}

// Where a row's head begins in q and ys.
__device__ __forceinline__ i64 head_start(const AttentionArgs& args, const Item& item, i64 stride, int group, int kv_head,
                                          int row) {
  const int sequence_row = (int)item.first_row + row;
  const int head = kv_head * group + sequence_row % group;
  return (i64)(item.query_start + sequence_row / group) * stride + (i64)head * args.head_dim;
}

__device__ __forceinline__ i64 slot_of(const AttentionArgs& args, const u32* table, int position) {
  const u32 block_idx = (u32)position / (u32)args.block_len;
  return (i64)table[block_idx] * args.block_len + (position - block_idx * args.block_len);
}

// A partial result of a row: its maximum, its sum, and head_dim sums that are not divided yet.
__device__ __forceinline__ float* partial_at(const AttentionArgs& args, u32 partial_row, int kv_head) {
  return args.partials + ((i64)partial_row * args.num_kv_heads + kv_head) * (args.head_dim + 2);
}

// Puts together what the groups of a block have gathered of an item's rows, each under its own maximum, and stores it.
// All threads of the block must call it, after a barrier.
template <typename T, int GROUPS, int R, int DIMS>
__device__ __forceinline__ void store_rows(const AttentionArgs& args, const Item& item, int kv_head,
                                           const float (&maximum)[GROUPS][R], const float (&sum)[GROUPS][R],
                                           const float (&values)[GROUPS][R][DIMS]) {
  const int group = args.num_heads / args.num_kv_heads;
  for (int i = threadIdx.x; i < (int)item.num_rows * args.head_dim; i += blockDim.x) {
    const int row = i / args.head_dim, dim = i % args.head_dim;
    float top = MINUS_INFINITY;
#pragma unroll
    for (int g = 0; g < GROUPS; ++g) top = fmaxf(top, maximum[g][row]);
    const float base = top == MINUS_INFINITY ? 0.0f : top;
    float total = 0.0f, y = 0.0f;
#pragma unroll
    for (int g = 0; g < GROUPS; ++g) {
      const float weight = fast_exp2(maximum[g][row] - base);
      total += weight * sum[g][row];
      y += weight * values[g][row][dim];
    }
    if (item.partial == NO_PARTIAL) {
      T* ys = (T*)args.ys + head_start(args, item, (i64)args.num_heads * args.head_dim, group, kv_head, row);
      ys[dim] = from_float<T>(y / total);
    } else {
      float* partial = partial_at(args, item.partial + row, kv_head);
      if (dim == 0) partial[0] = top;
      if (dim == 0) partial[1] = total;
      partial[2 + dim] = y;
    }
  }
}
