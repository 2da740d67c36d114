#include "emulator.h"

#include "../attention_rows.cu"
#include "../attention_tiles.cu"
#include "plan.h"

constexpr u32 TILE_ROWS = 64;

template <typename T, typename K, int D>
void run(AttentionArgs args, const Plan& plan) {
  constexpr int SPREAD = D == 64 || D == 128 ? D : 0;
  void (*kernels[5])(AttentionArgs) = {
      [](AttentionArgs args) { attention_rows<T, K, SPREAD, 1>(args); },
      [](AttentionArgs args) { attention_rows<T, K, SPREAD, 2>(args); },
      [](AttentionArgs args) { attention_rows<T, K, SPREAD, 4>(args); },
      [](AttentionArgs args) {
        if constexpr (SPREAD != 0) attention_tile<T, D>(args, *(Buffers<D>*)dynamic_shared);
      },
      [](AttentionArgs args) { combine<T>(args); },
  };
  for (int i = 0; i < 5; ++i) {
    args.items = plan.starts[i];
    if (plan.lists[i].empty()) continue;
    launch({(u32)plan.lists[i].size(), (u32)args.num_kv_heads, i == 4 ? TILE_ROWS : 1}, 128, [&] { kernels[i](args); });
  }
}

template <typename T, typename K, int D>
void check(const char* what, int heads, int kv_heads, std::vector<std::pair<u32, u32>> lens, bool has_tiles) {
  const Batch batch(lens);
  const std::vector<Sequence>& sequences = batch.sequences;
  const u32 rows = batch.rows;

  // Queries are a view of a wider matrix; slots past a sequence's end stay NaN.
  const i64 kv_width = kv_heads * D, q_stride = heads * D + 2 * kv_width, slots = (i64)batch.blocks * BLOCK_LEN;
  const T* q = noisy<T>(rows * q_stride, 2.0f);
  K *keys = memory<K>(slots * kv_width), *values = memory<K>(slots * kv_width);
  for (const Sequence& sequence : sequences) {
    for (u32 position = 0; position < sequence.context_len; ++position) {
      for (i64 i = 0; i < kv_width; ++i) {
        put(keys, sequence.slot(position) * kv_width + i, noise());
        put(values, sequence.slot(position) * kv_width + i, noise());
      }
    }
  }
  const int group = heads / kv_heads;
  const Plan plan(sequences, group, has_tiles ? TILE_ROWS : 0);
  T* ys = memory<T>((i64)rows * heads * D);
  float* partials = memory<float>((i64)plan.num_partials * kv_heads * (D + 2));
  const double scale = 1 / sqrt(D);
  run<T, K, D>({q, keys, values, ys, partials, plan.words.data(), q_stride, kv_width, kv_width, (int)BLOCK_LEN, heads,
                kv_heads, D, (float)(scale * M_LOG2E), 0},
               plan);

  Difference difference;
  for (const Sequence& sequence : sequences) {
    for (u32 query = 0; query < sequence.query_len; ++query) {
      for (int head = 0; head < heads; ++head) {
        const u32 row = sequence.query_start + query, limit = sequence.context_len - sequence.query_len + query + 1;
        const i64 offset = head / group * D;
        std::vector<double> weights(limit);
        double sum = 0;
        for (u32 position = 0; position < limit; ++position) {
          double dot = 0;
          for (int i = 0; i < D; ++i) {
            dot += (double)get(q, row * q_stride + head * D + i) * get(keys, sequence.slot(position) * kv_width + offset + i);
          }
          sum += weights[position] = exp(dot * scale);
        }
        for (int i = 0; i < D; ++i) {
          double y = 0;
          for (u32 position = 0; position < limit; ++position) {
            y += weights[position] * get(values, sequence.slot(position) * kv_width + offset + i);
          }
          difference.add(get(ys, (i64)row * heads * D + head * D + i), y / sum);
        }
      }
    }
  }
  char name[80];
  snprintf(name, sizeof name, "%s, %d heads over %d of %d", what, heads, kv_heads, D);
  difference.check(has_tiles || sizeof(T) == 2 ? 1e-2 : 1e-5, name);

  // Decode in a grid for longer contexts: the same bits.
  if (std::any_of(lens.begin(), lens.end(), [](auto len) { return len.first != 1; })) return;
  const Plan wide(sequences, group, has_tiles ? TILE_ROWS : 0, 5);
  T* again = memory<T>((i64)rows * heads * D);
  partials = memory<float>((i64)wide.num_partials * kv_heads * (D + 2));
  run<T, K, D>({q, keys, values, again, partials, wide.words.data(), q_stride, kv_width, kv_width, (int)BLOCK_LEN, heads,
                kv_heads, D, (float)(scale * M_LOG2E), 0},
               wide);
  snprintf(name, sizeof name, "%s, %d heads over %d of %d, in a wider grid", what, heads, kv_heads, D);
  check_same(again, ys, (i64)rows * heads * D, name);
}

// For batch-invariant sums, a row has the same bits in a whole prompt, in a chunk, and in decode.
template <typename T, typename K, int D>
void check_invariant(const char* what, int heads, int kv_heads, u32 context_len, bool has_tiles) {
  const i64 width = heads * D, kv_width = kv_heads * D;
  std::vector<u32> table((context_len + BLOCK_LEN - 1) / BLOCK_LEN);
  for (u32 i = 0; i < table.size(); ++i) table[i] = table.size() - 1 - i;
  const i64 slots = (i64)table.size() * BLOCK_LEN;
  const T* q = noisy<T>(context_len * width, 2.0f);
  const K *keys = noisy<K>(slots * kv_width), *values = noisy<K>(slots * kv_width);
  // `query_len` queries from `first` on, behind `others` that see little.
  const auto attend = [&](u32 first, u32 query_len, u32 others) {
    std::vector<Sequence> sequences;
    if (others > 0) sequences.push_back({0, others, others, table});
    sequences.push_back({others, query_len, first + query_len, table});
    const u32 rows = others + query_len;
    T *some = memory<T>(rows * width), *ys = memory<T>(rows * width);
    memcpy(some, q, others * width * sizeof(T));
    memcpy(some + others * width, q + first * width, query_len * width * sizeof(T));
    const Plan plan(sequences, heads / kv_heads, has_tiles ? TILE_ROWS : 0, 0, true);
    float* partials = memory<float>((i64)plan.num_partials * kv_heads * (D + 2));
    run<T, K, D>({some, keys, values, ys, partials, plan.words.data(), width, kv_width, kv_width, (int)BLOCK_LEN, heads,
                  kv_heads, D, (float)(M_LOG2E / sqrt(D)), 0},
                 plan);
    return ys + others * width;
  };
  const T* whole = attend(0, context_len, 0);
  for (auto [first, query_len] : {std::pair{0u, 1u}, {255u, 1u}, {256u, 1u}, {context_len - 1, 1u}, {251u, 8u}, {100u, 70u}}) {
    char name[80];
    snprintf(name, sizeof name, "%s, batch-invariant, %u from %u", what, query_len, first);
    check_same(attend(first, query_len, 3), whole + first * width, query_len * width, name);
  }
}

int main() {
  check_invariant<float, float, 64>("rows f32_f32", 2, 1, 270, false);
  check_invariant<float, bf16, 20>("rows f32_bf16_any", 3, 1, 259, false);
  check_invariant<float, bf16, 64>("tiles f32", 4, 2, 530, true);
  check_invariant<bf16, bf16, 128>("tiles bf16", 1, 1, 300, true);
  check<float, float, 64>("rows f32_f32", 4, 2, {{1, 1}, {1, 300}, {3, 40}, {5, 5}}, false);
  check<float, float, 128>("rows f32_f32", 2, 2, {{1, 17}, {2, 600}, {20, 33}}, false);
  check<float, float, 20>("rows f32_f32_any", 3, 1, {{1, 1}, {1, 300}, {7, 23}}, false);
  check<float, bf16, 128>("rows f32_bf16", 2, 2, {{1, 257}, {2, 512}, {4, 100}}, false);
  check<float, bf16, 64>("rows f32_bf16", 4, 1, {{1, 257}, {2, 30}}, false);
  check<bf16, bf16, 80>("rows bf16_bf16_any", 9, 3, {{1, 20}, {2, 30}}, false);
  check<bf16, bf16, 128>("tiles bf16", 2, 2, {{1, 290}, {70, 130}}, true);
  check<float, bf16, 128>("tiles f32", 4, 2, {{1, 290}, {70, 130}, {5, 5}}, true);
  check<float, bf16, 64>("tiles f32", 8, 1, {{1, 700}, {33, 65}, {3, 520}, {64, 64}}, true);
  check<bf16, bf16, 64>("tiles bf16", 4, 4, {{6, 261}, {65, 65}}, true);
  check<float, float, 64>("rows f32_f32", 2, 1, {{1, 1}, {1, 600}, {1, 256}, {1, 257}}, false);
  check<float, bf16, 64>("tiles f32", 8, 1, {{1, 1}, {1, 600}, {1, 256}}, true);
}
