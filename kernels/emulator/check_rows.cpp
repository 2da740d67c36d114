#include "emulator.h"

#include "../norm.cu"
#include "../rows.cu"

template <typename T>
constexpr double TOLERANCE = sizeof(T) == 4 ? 1e-5 : 1e-2;

template <typename T>
void check_norm(const char* what, int rows, int width, int padding, void (*kernel)(NormArgs)) {
  const int stride = width + padding;
  const T* xs = noisy<T>(rows * stride);
  const float* weight = noisy<float>(width);
  T* ys = memory<T>(rows * width);
  launch({(u32)rows, 1, 1}, 512, [&] { kernel({xs, weight, ys, stride, width, 1e-5f}); });
  Difference difference;
  for (int row = 0; row < rows; ++row) {
    double squares = 0;
    for (int i = 0; i < width; ++i) squares += pow(get(xs, row * stride + i), 2);
    for (int i = 0; i < width; ++i) {
      const double expected = get(xs, row * stride + i) / sqrt(squares / width + 1e-5) * weight[i];
      difference.add(get(ys, row * width + i), expected);
    }
  }
  difference.check(TOLERANCE<T>, what);
}

template <typename T>
void check_silu_mul(const char* what, int rows, int width, int per_thread, void (*kernel)(SiluMulArgs)) {
  const T* gate_up = noisy<T>(rows * 2 * width, 4.0f);
  T* ys = memory<T>(rows * width);
  launch_rows(rows, width, per_thread, [&] { kernel({gate_up, ys, 2 * width, width, 0}); });
  Difference difference;
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < width; ++i) {
      const double gate = get(gate_up, row * 2 * width + i), up = get(gate_up, row * 2 * width + width + i);
      difference.add(get(ys, row * width + i), gate / (1 + exp(-gate)) * up);
    }
  }
  difference.check(TOLERANCE<T>, what);
}

template <typename T>
void check_rope(const char* what, int rows, int heads, int half, void (*kernel)(RopeArgs)) {
  const int width = heads * 2 * half, stride = width + 4;
  T* xs = noisy<T>(rows * stride);
  const float *cos = noisy<float>(rows * half), *sin = noisy<float>(rows * half);
  std::vector<double> expected(rows * stride);
  for (int i = 0; i < rows * stride; ++i) expected[i] = get(xs, i);
  for (int row = 0; row < rows; ++row) {
    for (int head = 0; head < heads; ++head) {
      for (int i = 0; i < half; ++i) {
        double &a = expected[row * stride + head * 2 * half + i], &b = (&a)[half];
        const double c = cos[row * half + i], s = sin[row * half + i], turned = a * c - b * s;
        b = b * c + a * s;
        a = turned;
      }
    }
  }
  launch_rows(rows, width, 2, [&] { kernel({xs, cos, sin, stride, half, half, width, half}); });
  Difference difference;
  for (int i = 0; i < rows * stride; ++i) difference.add(get(xs, i), expected[i]);
  difference.check(TOLERANCE<T>, what);
}

template <typename T, typename K>
void check_kv_write(const char* what, int width, void (*kernel)(KvWriteArgs)) {
  const u32 slots[4] = {3, 0, 9, 2};  // the plane has four: one row is left out
  const T* rows = noisy<T>(4 * (width + 2));
  K* plane = noisy<K>(4 * width);
  std::vector<double> expected(4 * width);
  for (int i = 0; i < 4 * width; ++i) expected[i] = get(plane, i);
  for (int row : {0, 1, 3}) {
    for (int i = 0; i < width; ++i) expected[slots[row] * width + i] = get(rows, row * (width + 2) + i);
  }
  launch_rows(4, width, 1, [&] { kernel({plane, rows, slots, width, width + 2, 4, width}); });
  Difference difference;
  for (int i = 0; i < 4 * width; ++i) difference.add(get(plane, i), expected[i]);
  difference.check(sizeof(K) == 4 ? 0 : 1e-2, what);
}

template <typename T, typename K>
void check_rope_kv_write(const char* what, int heads, int kv_heads, int half, void (*kernel)(RopeKvWriteArgs)) {
  const int q_width = heads * 2 * half, kv_width = kv_heads * 2 * half, width = q_width + 2 * kv_width, rows = 3;
  const u32 slots[rows] = {4, 7, 1};  // the planes have five: one row is left out
  T* qkv = noisy<T>(rows * width);
  const float *cos = noisy<float>(rows * half), *sin = noisy<float>(rows * half);
  K *keys = noisy<K>(5 * kv_width), *values = noisy<K>(5 * kv_width);
  std::vector<double> expected(rows * width), expected_keys(5 * kv_width), expected_values(5 * kv_width);
  for (int i = 0; i < rows * width; ++i) expected[i] = get(qkv, i);
  for (int i = 0; i < 5 * kv_width; ++i) expected_keys[i] = get(keys, i), expected_values[i] = get(values, i);
  for (int row = 0; row < rows; ++row) {
    for (int pair = 0; pair < (q_width + kv_width) / 2; ++pair) {
      const int i = pair % half, first = pair / half * 2 * half + i;
      const double c = cos[row * half + i], s = sin[row * half + i];
      const double a = get(qkv, row * width + first), b = get(qkv, row * width + first + half);
      const bool is_query = first < q_width;
      if (!is_query && slots[row] >= 5) continue;
      double* to = is_query ? &expected[row * width + first] : &expected_keys[slots[row] * kv_width + first - q_width];
      to[0] = a * c - b * s;
      to[half] = b * c + a * s;
    }
    for (int i = 0; i < kv_width && slots[row] < 5; ++i) {
      expected_values[slots[row] * kv_width + i] = get(qkv, row * width + q_width + kv_width + i);
    }
  }
  launch_rows(rows, width, 2, [&] {
    kernel({qkv, cos, sin, slots, keys, values, width, half, half, kv_width, kv_width, 5, q_width, kv_width, half});
  });
  Difference difference;
  for (int i = 0; i < rows * width; ++i) difference.add(get(qkv, i), expected[i]);
  for (int i = 0; i < 5 * kv_width; ++i) difference.add(get(keys, i), expected_keys[i]);
  for (int i = 0; i < 5 * kv_width; ++i) difference.add(get(values, i), expected_values[i]);
  difference.check(TOLERANCE<K>, what);
}

template <typename T>
void check_add(const char* what, int rows, int width, bool is_vector, void (*kernel)(AddArgs)) {
  T* ys = noisy<T>(rows * width);
  const T* xs = noisy<T>(rows * width);
  std::vector<double> expected(rows * width);
  for (int i = 0; i < rows * width; ++i) expected[i] = get(ys, i) + get(xs, is_vector ? i % width : i);
  launch_rows(rows, width, 1, [&] { kernel({ys, xs, width, is_vector ? 0 : width, width, 0}); });
  Difference difference;
  for (int i = 0; i < rows * width; ++i) difference.add(get(ys, i), expected[i]);
  difference.check(TOLERANCE<T>, what);
}

template <typename T>
void check_gather(const char* what, int width, void (*kernel)(GatherArgs)) {
  const u32 ids[3] = {4, 0, 5};  // there are five rows: the last is not one
  const T* rows = noisy<T>(5 * width);
  float* ys = memory<float>(3 * width);
  launch_rows(3, width, 1, [&] { kernel({rows, ids, ys, width, 5, width}); });
  Difference difference;
  for (int i = 0; i < 3 * width; ++i) {
    difference.add(ys[i], ids[i / width] < 5 ? get(rows, ids[i / width] * width + i % width) : 0);
  }
  difference.check(0, what);
}

void check_round() {
  const float* xs = noisy<float>(2 * 305);
  bf16* ys = memory<bf16>(2 * 300);
  launch_rows(2, 300, 1, [&] { round_bf16({xs, ys, 305, 300, 0}); });
  Difference difference;
  for (int i = 0; i < 600; ++i) difference.add(get(ys, i), xs[i / 300 * 305 + i % 300]);
  difference.check(1e-2, "round_bf16");
}

int main() {
  check_norm<float>("rms_norm_f32, 3 x 576", 3, 576, 4, rms_norm_f32);
  check_norm<float>("rms_norm_f32, 2 x 4100", 2, 4100, 0, rms_norm_f32);
  check_norm<float>("rms_norm_f32_any, 2 x 7", 2, 7, 2, rms_norm_f32_any);
  check_norm<bf16>("rms_norm_bf16, 2 x 4096", 2, 4096, 8, rms_norm_bf16);
  check_norm<bf16>("rms_norm_bf16_any, 2 x 19", 2, 19, 1, rms_norm_bf16_any);
  check_silu_mul<float>("silu_mul_f32, 3 x 576", 3, 576, 4, silu_mul_f32);
  check_silu_mul<bf16>("silu_mul_bf16, 2 x 3072", 2, 3072, 8, silu_mul_bf16);
  check_silu_mul<float>("silu_mul_f32_any, 2 x 577", 2, 577, 1, silu_mul_f32_any);
  check_silu_mul<bf16>("silu_mul_bf16_any, 2 x 5", 2, 5, 1, silu_mul_bf16_any);
  check_rope<float>("rope_f32, 3 x 5 heads of 8", 3, 5, 4, rope_f32);
  check_rope<bf16>("rope_bf16, 2 x 16 heads of 128", 2, 16, 64, rope_bf16);
  check_kv_write<float, float>("kv_write_f32_f32", 300, kv_write_f32_f32);
  check_kv_write<float, bf16>("kv_write_f32_bf16", 40, kv_write_f32_bf16);
  check_kv_write<bf16, bf16>("kv_write_bf16_bf16", 40, kv_write_bf16_bf16);
  check_rope_kv_write<float, float>("rope_kv_write_f32_f32", 5, 1, 10, rope_kv_write_f32_f32);
  check_rope_kv_write<float, bf16>("rope_kv_write_f32_bf16", 8, 4, 32, rope_kv_write_f32_bf16);
  check_rope_kv_write<bf16, bf16>("rope_kv_write_bf16_bf16", 2, 2, 64, rope_kv_write_bf16_bf16);
  check_add<float>("add_assign_f32, a matrix", 3, 513, false, add_assign_f32);
  check_add<float>("add_assign_f32, a vector", 3, 40, true, add_assign_f32);
  check_add<bf16>("add_assign_bf16, a vector", 3, 40, true, add_assign_bf16);
  check_gather<float>("gather_f32", 300, gather_f32);
  check_gather<bf16>("gather_bf16", 37, gather_bf16);
  check_round();
}
