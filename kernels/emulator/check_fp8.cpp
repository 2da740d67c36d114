#include "emulator.h"

#include "../fp8.cu"

// Random numbers with their scales, as src/kernels/fp8.rs lays them out.
struct Fp8Matrix {
  int outputs, inputs;
  i64 scales;
  u8* bytes;

  Fp8Matrix(int outputs, int inputs) : outputs(outputs), inputs(inputs), scales((i64)outputs * inputs) {
    const i64 blocks = scales / FP8_BLOCK;
    bytes = memory<u8>(scales + 4 * blocks);
    for (i64 i = 0; i < scales; ++i) {
      const u8 byte = (u8)randomness();
      bytes[i] = (byte & 0x7f) == 0x7f ? 0 : byte;  // no number
    }
    for (i64 i = 0; i < blocks; ++i) {
      const float scale = fabsf(noise()) * 0.01f;
      memcpy(bytes + scales + 4 * i, &scale, sizeof scale);
    }
  }

  // The definition: sign, exponent less 7, mantissa with its hidden bit; below the least exponent without.
  double value(i64 at) const {
    const int exponent = bytes[at] >> 3 & 15, mantissa = bytes[at] & 7;
    const double magnitude = exponent == 0 ? ldexp(mantissa, -9) : ldexp(8 + mantissa, exponent - 10);
    float scale;
    memcpy(&scale, bytes + scales + 4 * (at / FP8_BLOCK), sizeof scale);
    return (bytes[at] & 0x80 ? -magnitude : magnitude) * scale;
  }
};

template <int R>
void check_product(int rows, int inputs, int outputs) {
  const Fp8Matrix matrix(outputs, inputs);
  const int stride = inputs + 4;
  const float* xs = noisy<float>((i64)rows * stride);
  float* ys = memory<float>((i64)rows * outputs);
  const Fp8Args args = {matrix.bytes, xs, ys, stride, matrix.scales, rows, inputs, outputs, 0};
  launch({(u32)(outputs + FP8_WARPS - 1) / FP8_WARPS, (u32)(rows + R - 1) / R, 1}, FP8_WARPS * WARP,
         [&] { fp8_product<R>(args); });
  Difference difference;
  for (int row = 0; row < rows; ++row) {
    for (int output = 0; output < outputs; ++output) {
      double expected = 0;
      for (int i = 0; i < inputs; ++i) expected += matrix.value((i64)output * inputs + i) * xs[(i64)row * stride + i];
      difference.add(ys[(i64)row * outputs + output], expected);
    }
  }
  char name[80];
  snprintf(name, sizeof name, "fp8_%d, %d x %d x %d", R, rows, inputs, outputs);
  difference.check(1e-5, name);
}

// As batch-invariant products run: one body, four rows at a time. A row has the same bits in batches of any number.
void check_invariant(int inputs, int outputs) {
  constexpr int ROWS = 70, R = 4;
  const Fp8Matrix matrix(outputs, inputs);
  const float* xs = noisy<float>((i64)ROWS * inputs);
  const auto run = [&](int first, int rows) {
    float* ys = memory<float>((i64)rows * outputs);
    const Fp8Args args = {matrix.bytes, xs + (i64)first * inputs, ys, inputs, matrix.scales, rows, inputs, outputs, 0};
    launch({(u32)(outputs + FP8_WARPS - 1) / FP8_WARPS, (u32)(rows + R - 1) / R, 1}, FP8_WARPS * WARP,
           [&] { fp8_product<R>(args); });
    return ys;
  };
  const float* together = run(0, ROWS);
  for (auto [first, rows] : {std::pair{0, 1}, {69, 1}, {5, 3}, {60, 8}, {3, 64}}) {
    char name[80];
    snprintf(name, sizeof name, "fp8_4, batch-invariant, %d from %d", rows, first);
    check_same(run(first, rows), together + (i64)first * outputs, (i64)rows * outputs, name);
  }
}

template <typename Y>
void check_decode(const char* what) {
  const int outputs = 9, width = 384;
  const Fp8Matrix matrix(outputs, width);
  const u32 ids[4] = {8, 0, 3, 9};  // the last is not a row
  Y* ys = memory<Y>(4 * width);
  const DecodeFp8Args args = {matrix.bytes, ids, ys, matrix.scales, width, outputs};
  launch_rows(4, width, 1, [&] { decode_fp8<Y>(args); });
  Difference difference;
  for (int i = 0; i < 4 * width; ++i) {
    const u32 row = ids[i / width];
    difference.add(get(ys, i), row < (u32)outputs ? matrix.value((i64)row * width + i % width) : 0);
  }
  difference.check(sizeof(Y) == 4 ? 1e-6 : 1e-2, what);
}

int main() {
  check_invariant(2176, 6);
  check_product<1>(1, 128, 1);
  check_product<1>(1, 2048, 33);
  check_product<2>(2, 5504, 5);
  check_product<4>(3, 640, 9);
  check_product<4>(4, 1408, 6);
  check_product<8>(5, 256, 13);
  check_product<8>(16, 2176, 7);
  check_decode<float>("decode_fp8_f32");
  check_decode<bf16>("decode_fp8_bf16");
}
