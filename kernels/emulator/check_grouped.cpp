#include "emulator.h"

#include <array>

#include "../blocks.cu"
#include "../grouped.cu"
#include "planes.h"

// Groups of pairs, some chosen by many and some by nobody.
struct Choice {
  int rows, per_row, num_groups, tile;
  std::vector<u32> ids;
  std::vector<u32> order;
  std::vector<GroupItem> items;

  // Without a tile every pair is an item of its own.
  Choice(int rows, int per_row, int num_groups, int tile)
      : Choice(random_ids(rows * per_row, num_groups), per_row, num_groups, tile) {}

  Choice(const std::vector<u32>& ids, int per_row, int num_groups, int tile)
      : rows((int)ids.size() / per_row), per_row(per_row), num_groups(num_groups), tile(tile), ids(ids) {
    if (tile == 0) return;
    const int pairs = (int)ids.size();
    order.assign(pairs, 0xffffffffu);
    items.assign((pairs + min(num_groups, pairs) * (tile - 1)) / tile, {0xffffffffu, 0xffffffffu, 0xffffffffu});
    launch({1, 1, 1}, SORT_WARPS * WARP, [&] {
      group_pairs({ids.data(), order.data(), items.data(), pairs, num_groups, tile, (int)items.size()});
    });
    check_order();
  }

  static std::vector<u32> random_ids(int pairs, int num_groups) {
    std::vector<u32> ids(pairs);
    for (u32& id : ids) id = min(randomness(), randomness()) % (u32)num_groups / (randomness() % 2 + 1);
    return ids;
  }

  void check_order() const {
    std::vector<u32> expected(ids.size());
    for (u32 i = 0; i < expected.size(); ++i) expected[i] = i;
    std::stable_sort(expected.begin(), expected.end(), [&](u32 a, u32 b) { return ids[a] < ids[b]; });
    if (order != expected) fail("pairs in another order");
    u32 next = 0;
    for (const GroupItem& item : items) {
      if (item.count == 0) continue;
      if (item.first != next || item.count > (u32)tile) fail("items do not tile the pairs");
      for (u32 i = 0; i < item.count; ++i) {
        if (ids[order[item.first + i]] != item.group) fail("a pair in the item of another group");
      }
      next += item.count;
    }
    if (next != ids.size()) fail("pairs without an item");
  }

  Pairs pairs() const {
    return {ids.data(), tile == 0 ? nullptr : order.data(), tile == 0 ? nullptr : items.data(), per_row, num_groups};
  }
  Index grid(int outputs, int per_block) const {
    return {(u32)(tile == 0 ? ids.size() : items.size()), (u32)(outputs + per_block - 1) / per_block, 1};
  }
};

// Holds `ys` to the products of f64; `weight` and `x` give single elements.
template <typename Weight, typename X>
void compare(const char* what, const Choice& choice, const float* ys, int inputs, int outputs, double tolerance,
             Weight weight, X x) {
  Difference difference;
  for (int pair = 0; pair < (int)choice.ids.size(); ++pair) {
    for (int output = 0; output < outputs; ++output) {
      const i64 row = (i64)choice.ids[pair] * outputs + output;
      double sum = 0;
      for (int i = 0; i < inputs; ++i) sum += weight(row, i) * x(pair / choice.per_row, i);
      difference.add(ys[(i64)pair * outputs + output], sum);
    }
  }
  char name[80];
  snprintf(name, sizeof name, "%s, %d x %d of %d x %d x %d", what, choice.rows, choice.per_row, choice.num_groups,
           inputs, outputs);
  difference.check(tolerance, name);
}

template <typename W>
void check(const char* what, void (*kernel)(GroupedArgs), bool is_tiled, Choice choice, int inputs, int outputs) {
  const int stride = is_tiled ? inputs : inputs + 4;
  const W* weight = noisy<W>((i64)choice.num_groups * outputs * inputs);
  const float* xs = noisy<float>((i64)choice.rows * stride);
  bf16* rounded = memory<bf16>((i64)choice.rows * stride);
  for (i64 i = 0; i < (i64)choice.rows * stride; ++i) put(rounded, i, xs[i]);
  float* ys = memory<float>((i64)choice.ids.size() * outputs);
  const void* x = is_tiled ? (const void*)rounded : (const void*)xs;
  const GroupedArgs args = {choice.pairs(), x, weight, ys, stride, inputs, outputs};
  const u32 per_block = is_tiled ? SKINNY_OUTPUTS : GEMV_WARPS, warps = is_tiled ? SKINNY_WARPS : GEMV_WARPS;
  launch(choice.grid(outputs, per_block), warps * WARP, [&] { kernel(args); });
  compare(
      what, choice, ys, inputs, outputs, 1e-5, [&](i64 row, int i) { return (double)get(weight, row * inputs + i); },
      [&](i64 row, int i) { return (double)(is_tiled ? get(rounded, row * stride + i) : xs[row * stride + i]); });
}

enum Path { BLOCKS, TILES };

template <bool PACKED, bool MIN>
void check_planar(const char* what, void (*kernel)(GroupedBlocksArgs), Path path, Choice choice, int blocks,
                  int outputs, int zero) {
  const int inputs = 32 * blocks, stride = inputs;
  const Planes planes(PACKED, MIN, choice.num_groups * outputs, blocks, zero);
  const float* xs = noisy<float>((i64)choice.rows * stride);
  bf16* rounded = memory<bf16>((i64)choice.rows * stride);
  for (i64 i = 0; i < (i64)choice.rows * stride; ++i) put(rounded, i, xs[i]);
  u8* quants = memory<u8>((i64)choice.rows * inputs);
  float *scales = memory<float>(choice.rows * blocks), *ys = memory<float>((i64)choice.ids.size() * outputs);
  int* sums = memory<int>(choice.rows * blocks);
  launch({(u32)choice.rows, (u32)(blocks + 7) / 8, 1}, 256,
         [&] { round_blocks({xs, (u32*)quants, scales, sums, stride, inputs, 0}); });
  const bool is_tiled = path == TILES;
  const GroupedBlocksArgs args = {
      {choice.pairs(), is_tiled ? rounded : nullptr, planes.bytes, ys, stride, inputs, outputs},
      quants, scales, sums, planes.scales, planes.mins, zero, 0};
  launch(choice.grid(outputs, is_tiled ? SKINNY_OUTPUTS : BLOCKS_WARPS),
         is_tiled ? SKINNY_WARPS * WARP : BLOCKS_WARPS * WARP, [&] { kernel(args); });
  auto weight = [&](i64 row, int i) {
    const i64 block = row * blocks + i / 32;
    const double exact = planes.weight(block, i % 32) * planes.scale(block, i % 32) + planes.min_of(block);
    return is_tiled ? (double)lower_bf16(round_to_bf16((float)exact)) : exact;
  };
  auto x = [&](i64 row, int i) {
    if (is_tiled) return (double)get(rounded, row * stride + i);
    const i64 at = row * inputs + i;
    return (double)(signed char)quants[at] * scales[at / 32];
  };
  compare(what, choice, ys, inputs, outputs, 1e-5, weight, x);
}

// As `PairGroups::tile` of src/kernels/pair_groups.rs.
int tile_of(int rows, int pairs, int num_groups) {
  return rows == 1 ? 0 : rows <= 4 ? 4 : pairs / num_groups <= 8 ? 16 : 64;
}

// A pair of batch-invariant products has the same bits in items of 1, 4, 16 and 64, whoever shares them.
// `multiply(choice, first)` gives the products of the rows from `first` on.
template <typename Multiply>
void check_invariant(const char* what, int outputs, Multiply multiply) {
  const int rows = 40, per_row = 3, num_groups = 4;
  const std::vector<u32> ids = Choice::random_ids(rows * per_row, num_groups);
  const auto run = [&](int first, int count) {
    const auto start = ids.begin() + first * per_row;
    const std::vector<u32> own(start, start + count * per_row);
    return multiply(Choice(own, per_row, num_groups, tile_of(count, count * per_row, num_groups)), first);
  };
  const float* together = run(0, rows);
  for (auto [first, count] : {std::pair{0, 1}, {39, 1}, {5, 3}, {20, 4}, {30, 9}, {1, 38}}) {
    char name[80];
    snprintf(name, sizeof name, "%s, batch-invariant, %d from %d", what, count, first);
    const i64 width = (i64)per_row * outputs;
    check_same(run(first, count), together + first * width, count * width, name);
  }
}

template <typename W, typename X>
void check_invariant_dense(const char* what, int inputs, int outputs) {
  const W* weight = noisy<W>((i64)4 * outputs * inputs);
  const X* xs = noisy<X>((i64)40 * inputs);
  check_invariant(what, outputs, [&](const Choice& choice, int first) {
    constexpr bool IS_TILED = sizeof(X) == 2;
    float* ys = memory<float>((i64)choice.ids.size() * outputs);
    const GroupedArgs args = {choice.pairs(), xs + (i64)first * inputs, weight, ys, inputs, inputs, outputs};
    const u32 per_block = IS_TILED ? SKINNY_OUTPUTS : GEMV_WARPS, warps = IS_TILED ? SKINNY_WARPS : GEMV_WARPS;
    launch(choice.grid(outputs, per_block), warps * WARP, [&] {
      if constexpr (IS_TILED) {
        choice.tile <= 16 ? grouped_tiles<2>(args) : grouped_tiles<8>(args);
      } else if (inputs % PACK<W> != 0) {
        grouped_gemv_any<W>(args);
      } else {
        grouped_gemv<W, 4>(args);
      }
    });
    return ys;
  });
}

template <bool PACKED, bool MIN>
void check_invariant_planar(const char* what, int blocks, int outputs, int zero) {
  const int inputs = 32 * blocks;
  const Planes planes(PACKED, MIN, 4 * outputs, blocks, zero);
  const float* xs = noisy<float>((i64)40 * inputs);
  check_invariant(what, outputs, [&](const Choice& choice, int first) {
    u8* quants = memory<u8>((i64)choice.rows * inputs);
    float *scales = memory<float>(choice.rows * blocks), *ys = memory<float>((i64)choice.ids.size() * outputs);
    int* sums = memory<int>(choice.rows * blocks);
    launch({(u32)choice.rows, (u32)(blocks + 7) / 8, 1}, 256,
           [&] { round_blocks({xs + (i64)first * inputs, (u32*)quants, scales, sums, inputs, inputs, 0}); });
    const GroupedBlocksArgs args = {{choice.pairs(), nullptr, planes.bytes, ys, inputs, inputs, outputs},
                                    quants, scales, sums, planes.scales, planes.mins, zero, 0};
    launch(choice.grid(outputs, BLOCKS_WARPS), BLOCKS_WARPS * WARP, [&] {
      choice.tile == 0 ? grouped_blocks<PACKED, MIN, 1>(args) : grouped_blocks<PACKED, MIN, 4>(args);
    });
    return ys;
  });
}

int main() {
  check_invariant_dense<float, float>("grouped_gemv_f32_4", 132, 6);
  check_invariant_dense<float, float>("grouped_gemv_f32_any", 13, 5);
  check_invariant_dense<bf16, float>("grouped_gemv_bf16_4", 1048, 5);
  check_invariant_dense<bf16, bf16>("grouped_tiles_bf16", 544, 18);
  check_invariant_planar<true, true>("grouped_blocks_packed_min", 130, 6, 0);
  check_invariant_planar<false, false>("grouped_blocks_bytes", 70, 5, 0);
  for (auto [rows, per_row, groups, tile] :
       {std::array{1, 1, 1, 4}, {3, 7, 5, 4}, {100, 6, 64, 16}, {700, 3, 9, 64}, {40, 16, 512, 16}}) {
    Choice(rows, per_row, groups, tile);
  }
  puts("group_pairs: every pair in its group's item");
  check<float>("grouped_gemv_f32_1", grouped_gemv_f32_1, false, {1, 6, 9, 0}, 64, 33);
  check<float>("grouped_gemv_f32_4", grouped_gemv_f32_4, false, {4, 3, 5, 4}, 132, 6);
  check<float>("grouped_gemv_f32_4", grouped_gemv_f32_4, false, {9, 4, 3, 16}, 576, 5);
  check<float>("grouped_gemv_f32_any", grouped_gemv_f32_any, false, {7, 3, 4, 4}, 13, 5);
  check<bf16>("grouped_gemv_bf16_1", grouped_gemv_bf16_1, false, {1, 6, 9, 0}, 512, 33);
  check<bf16>("grouped_gemv_bf16_4", grouped_gemv_bf16_4, false, {4, 6, 7, 4}, 1048, 5);
  check<bf16>("grouped_gemv_bf16_any", grouped_gemv_bf16_any, false, {1, 3, 4, 0}, 17, 5);
  check<bf16>("grouped_tiles_bf16_2", grouped_tiles_bf16_2, true, {30, 6, 16, 16}, 96, 18);
  check<bf16>("grouped_tiles_bf16_2", grouped_tiles_bf16_2, true, {5, 16, 16, 16}, 544, 16);
  check<bf16>("grouped_tiles_bf16_8", grouped_tiles_bf16_8, true, {90, 3, 4, 64}, 128, 40);
  check_planar<true, false>("grouped_blocks_packed_1", grouped_blocks_packed_1, BLOCKS, {1, 6, 9, 0}, 3, 5, 8);
  check_planar<true, true>("grouped_blocks_packed_min_4", grouped_blocks_packed_min_4, BLOCKS, {13, 6, 9, 16}, 5, 9, 0);
  check_planar<false, false>("grouped_blocks_bytes_4", grouped_blocks_bytes_4, BLOCKS, {3, 6, 9, 4}, 40, 5, 16);
  check_planar<false, true>("grouped_blocks_bytes_min_1", grouped_blocks_bytes_min_1, BLOCKS, {1, 2, 2, 0}, 33, 7, 0);
  check_planar<true, false>("grouped_tiles_packed_2", grouped_tiles_packed_2, TILES, {20, 6, 16, 16}, 3, 18, 8);
  check_planar<true, true>("grouped_tiles_packed_min_8", grouped_tiles_packed_min_8, TILES, {70, 3, 3, 64}, 5, 16, 0);
  check_planar<false, false>("grouped_tiles_bytes_8", grouped_tiles_bytes_8, TILES, {80, 3, 3, 64}, 17, 33, 16);
  check_planar<false, true>("grouped_tiles_bytes_min_2", grouped_tiles_bytes_min_2, TILES, {9, 2, 4, 16}, 9, 7, 0);
}
