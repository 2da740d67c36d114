// Products in which every row chooses its matrix: the experts of a mixture, and projections with a matrix per head.
//
// A pair is a row of x and the group it chose; pair p is of row p / per_row. weight is the matrices of all groups on
// top of each other, [groups * outputs, inputs]; ys [pairs, outputs] f32. Who chose what is known on the device
// alone: `group_pairs` sorts the pairs by their group there, and cuts each group's into items of at most `tile`. A
// launch has as many blocks as there could be items; those past the last have nothing to do.
// Bytes a product must move: the matrices that were chosen, once.
//
// grouped_gemv, grouped_blocks: a warp owns one output of an item, R pairs at a time. grouped_tiles: a block owns 16
// outputs of an item, on the matrix units, with bf16 x; weights of 4 and 8 bits become bf16 in registers.
// blockIdx.x is the item, so that neighbours share weights; blockIdx.y lies along the outputs. A pair's products are
// added up in one order, whichever pairs share its item, at whichever place of it it is, and however long items are.
#include "planar.cuh"

// Some pairs of one group: order[first..first + count].
struct GroupItem {
  u32 group;
  u32 first;
  u32 count;
};

struct GroupPairsArgs {
  const u32* ids;    // the group of each pair
  u32* order;        // the pairs, group after group, each in its order
  GroupItem* items;  // as many as there could be; those past the last are empty
  int num_pairs;
  int num_groups;
  int tile;
  int num_items;
};
static_assert(sizeof(GroupPairsArgs) == 40, "as in src/kernels/cuda/grouped.rs");

constexpr int GROUPS_MAX = 512;
constexpr int SORT_WARPS = 16;

// Each warp of the one block takes a run of pairs. It counts them, learns from the counts of the others where its own
// pairs of each group begin, and puts them there. An id that is no group is the last group's.
extern "C" __global__ void __launch_bounds__(SORT_WARPS* WARP) group_pairs(GroupPairsArgs args) {
  __shared__ u32 places[SORT_WARPS][GROUPS_MAX];
  __shared__ u32 counts[GROUPS_MAX], firsts[GROUPS_MAX], first_items[GROUPS_MAX];
  __shared__ u32 items_used;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int run = (args.num_pairs + SORT_WARPS * WARP - 1) / (SORT_WARPS * WARP) * WARP;
  const int begin = warp * run, end = min(begin + run, args.num_pairs);
  auto id_of = [&](int pair) { return min(args.ids[pair], (u32)args.num_groups - 1); };
  for (int group = lane; group < args.num_groups; group += WARP) places[warp][group] = 0;
  warp_barrier();
  for (int start = begin; start < end; start += WARP) {
    // Lanes past the end have a group of their own, which nobody counts.
    const u32 id = start + lane < end ? id_of(start + lane) : (u32)GROUPS_MAX;
    const u32 alike = lanes_alike(id);
    if (id < GROUPS_MAX && lane == lowest_lane(alike)) places[warp][id] += (u32)__popc(alike);
    warp_barrier();
  }
  __syncthreads();
  for (int group = threadIdx.x; group < args.num_groups; group += SORT_WARPS * WARP) {
    u32 count = 0;
    for (int w = 0; w < SORT_WARPS; ++w) {
      const u32 of_warp = places[w][group];
      places[w][group] = count;
      count += of_warp;
    }
    counts[group] = count;
  }
  __syncthreads();
  if (warp == 0) {
    u32 pairs = 0, items = 0;
    for (int start = 0; start < args.num_groups; start += WARP) {
      const int group = start + lane;
      const u32 count = group < args.num_groups ? counts[group] : 0;
      const u32 count_items = (count + (u32)args.tile - 1) / (u32)args.tile;
      u32 pairs_up_to = count, items_up_to = count_items;
#pragma unroll
      for (int delta = 1; delta < WARP; delta *= 2) {
        const u32 below_pairs = shuffle_up(pairs_up_to, delta), below_items = shuffle_up(items_up_to, delta);
        if (lane >= delta) pairs_up_to += below_pairs;
        if (lane >= delta) items_up_to += below_items;
      }
      if (group < args.num_groups) {
        firsts[group] = pairs + pairs_up_to - count;
        first_items[group] = items + items_up_to - count_items;
      }
      pairs += shuffle(pairs_up_to, WARP - 1);
      items += shuffle(items_up_to, WARP - 1);
    }
    if (lane == 0) items_used = items;
  }
  __syncthreads();
  for (int start = begin; start < end; start += WARP) {
    const u32 id = start + lane < end ? id_of(start + lane) : (u32)GROUPS_MAX;
    const u32 alike = lanes_alike(id);
    const u32 before = (u32)__popc(alike & ((1u << lane) - 1));
    if (id < GROUPS_MAX) args.order[firsts[id] + places[warp][id] + before] = (u32)(start + lane);
    warp_barrier();
    if (id < GROUPS_MAX && lane == lowest_lane(alike)) places[warp][id] += (u32)__popc(alike);
    warp_barrier();
  }
  for (u32 group = threadIdx.x; group < (u32)args.num_groups; group += SORT_WARPS * WARP) {
    GroupItem* item = args.items + first_items[group];
    for (u32 done = 0; done < counts[group]; done += (u32)args.tile) {
      *item++ = {group, firsts[group] + done, min((u32)args.tile, counts[group] - done)};
    }
  }
  for (int item = (int)(items_used + threadIdx.x); item < args.num_items; item += SORT_WARPS * WARP) {
    args.items[item] = {0, 0, 0};
  }
}

// Who multiplies what.
struct Pairs {
  const u32* ids;
  const u32* order;  // null where every pair is an item of its own
  const GroupItem* items;
  int per_row;
  int num_groups;

  __device__ __forceinline__ GroupItem item(u32 idx) const {
    return order ? items[idx] : GroupItem{min(ids[idx], (u32)num_groups - 1), idx, 1};
  }
  // The `i`th pair of an item; past its end the last one.
  __device__ __forceinline__ u32 pair(const GroupItem& item, u32 i) const {
    const u32 place = item.first + min(i, item.count - 1);
    return order ? order[place] : place;
  }
  __device__ __forceinline__ i64 row(const GroupItem& item, u32 i) const { return pair(item, i) / (u32)per_row; }
};

struct GroupedArgs {
  Pairs pairs;
  const void* xs;
  const void* weight;
  float* ys;
  i64 xs_stride;
  int inputs;
  int outputs;
};
static_assert(sizeof(GroupedArgs) == 72, "as in src/kernels/cuda/grouped.rs");

template <typename W, int R>
__device__ void grouped_gemv(const GroupedArgs& args) {
  const GroupItem item = args.pairs.item(blockIdx.x);
  const int output = blockIdx.y * GEMV_WARPS + threadIdx.x / WARP;
  if (output >= args.outputs) return;  // whole warps only
  const W* weight = (const W*)args.weight + ((i64)item.group * args.outputs + output) * args.inputs;
  for (u32 first = 0; first < item.count; first += R) {
    const float* x[R];
#pragma unroll
    for (int r = 0; r < R; ++r) x[r] = (const float*)args.xs + args.pairs.row(item, first + r) * args.xs_stride;
    float sums[R] = {};
    add_products<W, R>(weight, [&](int r) { return x[r]; }, args.inputs, sums);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float y = warp_sum(sums[r]);
      if (threadIdx.x % WARP == 0 && first + r < item.count) {
        args.ys[(i64)args.pairs.pair(item, first + r) * args.outputs + output] = y;
      }
    }
  }
}

// Any number of inputs at any alignment.
template <typename W>
__device__ void grouped_gemv_any(const GroupedArgs& args) {
  const GroupItem item = args.pairs.item(blockIdx.x);
  const int output = blockIdx.y * GEMV_WARPS + threadIdx.x / WARP;
  if (output >= args.outputs) return;
  const W* weight = (const W*)args.weight + ((i64)item.group * args.outputs + output) * args.inputs;
  for (u32 i = 0; i < item.count; ++i) {
    const float* x = (const float*)args.xs + args.pairs.row(item, i) * args.xs_stride;
    const float y = product_any(weight, x, args.inputs);
    if (threadIdx.x % WARP == 0) args.ys[(i64)args.pairs.pair(item, i) * args.outputs + output] = y;
  }
}

#define GROUPED_GEMV(NAME, W)                                                                                   \
  extern "C" __global__ void __launch_bounds__(128) grouped_gemv_##NAME##_1(GroupedArgs args) {                 \
    grouped_gemv<W, 1>(args);                                                                                   \
  }                                                                                                             \
  extern "C" __global__ void __launch_bounds__(128) grouped_gemv_##NAME##_4(GroupedArgs args) {                 \
    grouped_gemv<W, 4>(args);                                                                                   \
  }                                                                                                             \
  extern "C" __global__ void __launch_bounds__(128) grouped_gemv_##NAME##_any(GroupedArgs args) {               \
    grouped_gemv_any<W>(args);                                                                                  \
  }

GROUPED_GEMV(f32, float)
GROUPED_GEMV(bf16, bf16)

// The 16 outputs from `first` on of an item of at most 8 * NT pairs; x is bf16.
template <int NT, typename Rows>
__device__ __forceinline__ void grouped_tile(const GroupedArgs& args, const GroupItem& item, int first,
                                             const Rows& weights) {
  const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
  const bf16* x[NT];
#pragma unroll
  for (int n = 0; n < NT; ++n) {
    x[n] = (const bf16*)args.xs + args.pairs.row(item, 8 * n + g) * args.xs_stride + 8 * t;
  }
  skinny_tile(weights, x, (int)(item.count + 7) / 8, args.inputs / SKINNY_STEP, [&](int output, int i, float sum) {
    if (first + output >= args.outputs || i >= (int)item.count) return;
    args.ys[(i64)args.pairs.pair(item, i) * args.outputs + first + output] = sum;
  });
}

// This lane's two rows of a group's weights; rows past the end repeat the last one.
struct TileRows {
  i64 upper, lower;
  __device__ __forceinline__ TileRows(const GroupedArgs& args, const GroupItem& item, int first) {
    const int g = threadIdx.x % WARP / 4;
    const i64 start = (i64)item.group * args.outputs;
    upper = start + min(first + g, args.outputs - 1);
    lower = start + min(first + g + 8, args.outputs - 1);
  }
};

template <int NT>
__device__ void grouped_tiles(const GroupedArgs& args) {
  const GroupItem item = args.pairs.item(blockIdx.x);
  if (item.count == 0) return;
  const int first = blockIdx.y * SKINNY_OUTPUTS;
  const TileRows rows(args, item, first);
  grouped_tile<NT>(args, item, first, DenseRows((const bf16*)args.weight, rows.upper, rows.lower, args.inputs));
}

extern "C" __global__ void __launch_bounds__(256) grouped_tiles_bf16_2(GroupedArgs args) { grouped_tiles<2>(args); }
extern "C" __global__ void __launch_bounds__(256) grouped_tiles_bf16_8(GroupedArgs args) { grouped_tiles<8>(args); }

struct GroupedBlocksArgs {
  GroupedArgs product;
  const u8* x_quants;  // of `grouped_blocks`; of tiles, x is product.xs
  const float* x_scales;
  const int* x_sums;
  i64 scales;  // where the planes begin in the weights, in bytes
  i64 mins;
  int zero;
  int unused;

  __device__ __forceinline__ PlanarWeight weights() const {
    return PlanarWeight((const u8*)product.weight, scales, mins, product.inputs / 32, zero);
  }
};
static_assert(sizeof(GroupedBlocksArgs) == 120, "as in src/kernels/cuda/grouped.rs");

template <bool PACKED, bool MIN, int R>
__device__ void grouped_blocks(const GroupedBlocksArgs& args) {
  const Pairs& pairs = args.product.pairs;
  const GroupItem item = pairs.item(blockIdx.x);
  const int outputs = args.product.outputs, output = blockIdx.y * BLOCKS_WARPS + threadIdx.x / WARP;
  if (output >= outputs) return;  // whole warps only
  const PlanarWeight weights = args.weights();
  for (u32 first = 0; first < item.count; first += R) {
    int rows[R];
#pragma unroll
    for (int r = 0; r < R; ++r) rows[r] = (int)pairs.row(item, first + r);
    float sums[R] = {};
    add_block_products<PACKED, MIN, R>(weights, (i64)item.group * outputs + output,
                                       {args.x_quants, args.x_scales, args.x_sums}, rows, sums);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float y = warp_sum(sums[r]);
      if (threadIdx.x % WARP == 0 && first + r < item.count) {
        args.product.ys[(i64)pairs.pair(item, first + r) * outputs + output] = y;
      }
    }
  }
}

template <bool PACKED, bool MIN, int NT>
__device__ void grouped_block_tiles(const GroupedBlocksArgs& args) {
  const GroupItem item = args.product.pairs.item(blockIdx.x);
  if (item.count == 0) return;
  const int first = blockIdx.y * SKINNY_OUTPUTS;
  const TileRows rows(args.product, item, first);
  const PlanarWeight weights = args.weights();
  grouped_tile<NT>(args.product, item, first, PlanarRows<PACKED, MIN>(weights, rows.upper, rows.lower));
}

#define GROUPED_BLOCKS(NAME, PACKED, MIN)                                                                           \
  extern "C" __global__ void __launch_bounds__(128, MIN_BLOCKS) grouped_blocks_##NAME##_1(GroupedBlocksArgs args) { \
    grouped_blocks<PACKED, MIN, 1>(args);                                                                           \
  }                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(128, MIN_BLOCKS) grouped_blocks_##NAME##_4(GroupedBlocksArgs args) { \
    grouped_blocks<PACKED, MIN, 4>(args);                                                                           \
  }                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(256) grouped_tiles_##NAME##_2(GroupedBlocksArgs args) {              \
    grouped_block_tiles<PACKED, MIN, 2>(args);                                                                      \
  }                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(256) grouped_tiles_##NAME##_8(GroupedBlocksArgs args) {              \
    grouped_block_tiles<PACKED, MIN, 8>(args);                                                                      \
  }

GROUPED_BLOCKS(packed, true, false)
GROUPED_BLOCKS(packed_min, true, true)
GROUPED_BLOCKS(bytes, false, false)
GROUPED_BLOCKS(bytes_min, false, true)
