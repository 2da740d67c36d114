#include "emulator.h"

#include "../blocks.cu"
#include "planes.h"

template <bool PACKED, bool MIN, int R, bool HALVES = false>
void check_product(const char* what, int rows, int blocks, int outputs, int zero) {
  const Planes planes(PACKED, MIN, outputs, blocks, zero, HALVES);
  const int inputs = 32 * blocks, stride = inputs + 1;
  const float* xs = noisy<float>((i64)rows * stride);
  u8* quants = memory<u8>((i64)rows * inputs);
  float *scales = memory<float>(rows * blocks), *ys = memory<float>((i64)rows * outputs);
  int* sums = memory<int>(rows * blocks);
  launch({(u32)rows, (u32)(blocks + 7) / 8, 1}, 256,
         [&] { round_blocks({xs, (u32*)quants, scales, sums, stride, inputs, 0}); });
  const BlocksArgs args = {planes.bytes, quants, scales,  sums,   nullptr, ys,
                           planes.scales, planes.mins, rows, blocks, outputs, zero};
  launch({(u32)(outputs + BLOCKS_WARPS - 1) / BLOCKS_WARPS, (u32)(rows + R - 1) / R, 1}, BLOCKS_WARPS * WARP,
         [&] { blocks_product<PACKED, MIN, R, HALVES>(args); });
  Difference difference;
  for (int row = 0; row < rows; ++row) {
    for (int output = 0; output < outputs; ++output) {
      double expected = 0;
      for (int block = 0; block < blocks; ++block) {
        const float* x = xs + (i64)row * stride + 32 * block;
        float largest = 0;
        for (int i = 0; i < 32; ++i) largest = max(largest, fabsf(x[i]));
        const i64 at = (i64)output * blocks + block;
        for (int i = 0; i < 32; ++i) {
          const int quant = largest > 0 ? (int)nearbyintf(x[i] * (127.0f / largest)) : 0;
          expected += (largest / 127.0f) * quant * (planes.weight(at, i) * planes.scale(at, i) + planes.min_of(at));
        }
      }
      difference.add(ys[(i64)row * outputs + output], expected);
    }
  }
  char name[80];
  snprintf(name, sizeof name, "%s_%d, %d x %d x %d", what, R, rows, inputs, outputs);
  difference.check(1e-5, name);
}

// A row has the same bits in batches of any number of rows, and so in every variant.
template <bool PACKED, bool MIN, bool HALVES = false>
void check_invariant(const char* what, int blocks, int zero) {
  constexpr int ROWS = 70, OUTPUTS = 6;
  const Planes planes(PACKED, MIN, OUTPUTS, blocks, zero, HALVES);
  const int inputs = 32 * blocks;
  const float* xs = noisy<float>((i64)ROWS * inputs);
  const auto run = [&](int first, int rows) {
    u8* quants = memory<u8>((i64)rows * inputs);
    float *scales = memory<float>(rows * blocks), *ys = memory<float>((i64)rows * OUTPUTS);
    int* sums = memory<int>(rows * blocks);
    launch({(u32)rows, (u32)(blocks + 7) / 8, 1}, 256,
           [&] { round_blocks({xs + (i64)first * inputs, (u32*)quants, scales, sums, inputs, inputs, 0}); });
    const BlocksArgs args = {planes.bytes, quants, scales,  sums,   nullptr, ys,
                             planes.scales, planes.mins, rows, blocks, OUTPUTS, zero};
    const auto kernel = rows > 4   ? blocks_product<PACKED, MIN, 8, HALVES>
                        : rows > 2 ? blocks_product<PACKED, MIN, 4, HALVES>
                        : rows > 1 ? blocks_product<PACKED, MIN, 2, HALVES>
                                   : blocks_product<PACKED, MIN, 1, HALVES>;
    const u32 rows_at_once = rows > 4 ? 8 : rows > 2 ? 4 : rows;
    launch({(OUTPUTS + BLOCKS_WARPS - 1) / BLOCKS_WARPS, (rows + rows_at_once - 1) / rows_at_once, 1},
           BLOCKS_WARPS * WARP, [&] { kernel(args); });
    return ys;
  };
  const float* together = run(0, ROWS);
  for (auto [first, rows] : {std::pair{0, 1}, {69, 1}, {5, 2}, {7, 3}, {60, 8}, {3, 64}}) {
    char name[80];
    snprintf(name, sizeof name, "%s, batch-invariant, %d from %d", what, rows, first);
    check_same(run(first, rows), together + (i64)first * OUTPUTS, (i64)rows * OUTPUTS, name);
  }
}

template <bool PACKED, bool MIN, typename Y, bool HALVES = false>
void check_decode(const char* what, int zero) {
  const int outputs = 9, blocks = 11, width = 32 * blocks;
  const Planes planes(PACKED, MIN, outputs, blocks, zero, HALVES);
  const u32 ids[4] = {8, 0, 3, 9};  // the last is not a row
  Y* ys = memory<Y>(4 * width);
  const DecodeArgs args = {planes.bytes, ids, ys, planes.scales, planes.mins, blocks, outputs, zero, 0};
  launch_rows(4, width, 1, [&] { decode_blocks<Y, PACKED, MIN, HALVES>(args); });
  Difference difference;
  for (int i = 0; i < 4 * width; ++i) {
    const i64 block = (i64)ids[i / width] * blocks + i % width / 32;
    const int j = i % 32;
    const auto number = [&] { return planes.weight(block, j) * planes.scale(block, j) + planes.min_of(block); };
    difference.add(get(ys, i), ids[i / width] < outputs ? number() : 0);
  }
  difference.check(sizeof(Y) == 4 ? 1e-6 : 1e-2, what);
}

int main() {
  check_invariant<true, true>("blocks_packed_min", 130, 0);
  check_invariant<false, false>("blocks_bytes", 70, 0);
  check_invariant<false, false, true>("blocks_halves", 70, 0);
  check_product<true, false, 1>("blocks_packed", 1, 3, 5, 8);
  check_product<true, false, 2>("blocks_packed", 2, 128, 9, 8);
  check_product<true, true, 4>("blocks_packed_min", 3, 40, 6, 0);
  check_product<true, true, 8>("blocks_packed_min", 11, 5, 37, 0);
  check_product<false, false, 1>("blocks_bytes", 1, 64, 4, 0);
  check_product<false, false, 4>("blocks_bytes", 4, 70, 3, 0);
  check_product<false, false, 8>("blocks_bytes", 8, 9, 13, 16);
  check_product<false, true, 2>("blocks_bytes_min", 2, 130, 3, 0);
  check_product<false, true, 8>("blocks_bytes_min", 64, 2, 5, 0);
  check_product<false, false, 1, true>("blocks_halves", 1, 40, 5, 0);
  check_product<false, false, 2, true>("blocks_halves", 2, 130, 6, 0);
  check_product<false, false, 4, true>("blocks_halves", 3, 8, 37, 0);
  check_product<false, false, 8, true>("blocks_halves", 11, 24, 9, 0);
  check_decode<false, false, float, true>("decode_halves_f32", 0);
  check_decode<false, false, bf16, true>("decode_halves_bf16", 0);
  check_decode<true, false, float>("decode_packed_f32", 8);
  check_decode<true, true, bf16>("decode_packed_min_bf16", 0);
  check_decode<false, false, bf16>("decode_bytes_bf16", 16);
  check_decode<false, true, float>("decode_bytes_min_f32", 0);
}
