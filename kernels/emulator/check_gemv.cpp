#include "emulator.h"

#include "../gemv.cu"

enum class Kind { GEMV, ANY, SKINNY };

template <typename W>
void check(const char* what, Kind kind, void (*kernel)(GemvArgs), int rows, int inputs, int outputs) {
  for (bool has_residual : {false, true}) {
    const bool is_skinny = kind == Kind::SKINNY;
    const int stride = is_skinny ? inputs : inputs + (kind == Kind::ANY ? 3 : 8);
    const W* weight = noisy<W>((i64)inputs * outputs);
    const float* xs = noisy<float>((i64)rows * stride);
    bf16* rounded = memory<bf16>((i64)rows * stride);
    for (i64 i = 0; i < (i64)rows * stride; ++i) put(rounded, i, xs[i]);
    const float* residual = noisy<float>((i64)rows * outputs);
    float* ys = memory<float>((i64)rows * outputs);
    const void* x = is_skinny ? (const void*)rounded : (const void*)xs;
    const GemvArgs args = {x, weight, has_residual ? residual : nullptr, ys, stride, rows, inputs, outputs, 0};
    const u32 per_block = is_skinny ? SKINNY_OUTPUTS : GEMV_WARPS;
    const Index grid = {(outputs + per_block - 1) / per_block, kind == Kind::ANY ? (u32)rows : 1, 1};
    launch(grid, is_skinny ? SKINNY_WARPS * WARP : GEMV_WARPS * WARP, [&] { kernel(args); });
    Difference difference;
    for (int row = 0; row < rows; ++row) {
      for (int output = 0; output < outputs; ++output) {
        const i64 at = (i64)row * outputs + output;
        double sum = has_residual ? residual[at] : 0;
        for (int i = 0; i < inputs; ++i) {
          const i64 from = (i64)row * stride + i;
          sum += (double)get(weight, (i64)output * inputs + i) * (is_skinny ? get(rounded, from) : xs[from]);
        }
        difference.add(ys[at], sum);
      }
    }
    char name[80];
    snprintf(name, sizeof name, "%s, %d x %d x %d%s", what, rows, inputs, outputs, has_residual ? ", added" : "");
    difference.check(1e-5, name);
  }
}

// As batch-invariant products run: further rows along blockIdx.y, in blocks of `rows_at_once`.
template <typename W, typename X>
const float* product(void (*kernel)(GemvArgs), const W* weight, const X* xs, int rows, int rows_at_once, u32 per_block,
                     int threads, int inputs, int outputs) {
  float* ys = memory<float>((i64)rows * outputs);
  const GemvArgs args = {xs, weight, nullptr, ys, inputs, rows, inputs, outputs, 0};
  const Index grid = {(outputs + per_block - 1) / per_block, (u32)(rows + rows_at_once - 1) / rows_at_once, 1};
  launch(grid, threads, [&] { kernel(args); });
  return ys;
}

// A row has the same bits in batches of any number of rows, and at any place of one.
template <typename W, typename X>
void check_invariant(const char* what, int inputs, int outputs) {
  constexpr int ROWS = 130;
  const W* weight = noisy<W>((i64)inputs * outputs);
  const X* xs = noisy<X>((i64)ROWS * inputs);
  const auto run = [&](int first, int rows) {
    const X* from = xs + (i64)first * inputs;
    if constexpr (sizeof(X) == 4) {
      return product(gemv_f32_4, weight, from, rows, 4, GEMV_WARPS, GEMV_WARPS * WARP, inputs, outputs);
    } else {
      const int tiles = (min(rows, 64) + 7) / 8;
      const auto kernel = tiles > 4 ? skinny_bf16_8 : tiles > 2 ? skinny_bf16_4 : tiles > 1 ? skinny_bf16_2 : skinny_bf16_1;
      return product(kernel, weight, from, rows, 64, SKINNY_OUTPUTS, SKINNY_WARPS * WARP, inputs, outputs);
    }
  };
  const float* together = run(0, ROWS);
  for (auto [first, rows] : {std::pair{0, 1}, {129, 1}, {5, 3}, {60, 8}, {3, 31}, {64, 64}, {1, 70}}) {
    char name[80];
    snprintf(name, sizeof name, "%s, rows %d to %d, alone and beside", what, first, first + rows);
    check_same(run(first, rows), together + (i64)first * outputs, (i64)rows * outputs, name);
  }
  Difference difference;
  for (int row = 0; row < ROWS; ++row) {
    for (int output = 0; output < outputs; ++output) {
      double sum = 0;
      for (int i = 0; i < inputs; ++i) {
        sum += (double)get(weight, (i64)output * inputs + i) * get(xs, (i64)row * inputs + i);
      }
      difference.add(together[(i64)row * outputs + output], sum);
    }
  }
  difference.check(1e-5, what);
}

int main() {
  check_invariant<float, float>("gemv_f32_4, batch-invariant", 196, 9);
  check_invariant<bf16, bf16>("skinny_bf16, batch-invariant", 352, 18);
  check<float>("gemv_f32_1", Kind::GEMV, gemv_f32_1, 1, 64, 33);
  check<float>("gemv_f32_2", Kind::GEMV, gemv_f32_2, 2, 1028, 5);
  check<float>("gemv_f32_4", Kind::GEMV, gemv_f32_4, 3, 576, 9);
  check<float>("gemv_f32_4", Kind::GEMV, gemv_f32_4, 4, 576, 9);
  check<bf16>("gemv_bf16_1", Kind::GEMV, gemv_bf16_1, 1, 2048, 33);
  check<bf16>("gemv_bf16_2", Kind::GEMV, gemv_bf16_2, 2, 1048, 5);
  check<bf16>("gemv_bf16_4", Kind::GEMV, gemv_bf16_4, 3, 576, 9);
  check<bf16>("gemv_bf16_4", Kind::GEMV, gemv_bf16_4, 4, 4104, 9);
  check<bf16>("gemv_bf16_any", Kind::ANY, gemv_bf16_any, 3, 17, 5);
  check<float>("gemv_f32_any", Kind::ANY, gemv_f32_any, 2, 1, 1);
  check<bf16>("skinny_bf16_1", Kind::SKINNY, skinny_bf16_1, 5, 96, 18);
  check<bf16>("skinny_bf16_1", Kind::SKINNY, skinny_bf16_1, 8, 2048, 16);
  check<bf16>("skinny_bf16_2", Kind::SKINNY, skinny_bf16_2, 9, 544, 40);
  check<bf16>("skinny_bf16_4", Kind::SKINNY, skinny_bf16_4, 31, 32, 7);
  check<bf16>("skinny_bf16_8", Kind::SKINNY, skinny_bf16_8, 33, 512, 70);
  check<bf16>("skinny_bf16_8", Kind::SKINNY, skinny_bf16_8, 64, 1056, 48);
}
