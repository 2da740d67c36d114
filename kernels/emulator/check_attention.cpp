#include "emulator.h"

#include "../attention_rows.cu"
#include "../attention_tiles.cu"

struct Sequence {
  u32 query_start, query_len, context_len;
  std::vector<u32> table;
};

constexpr u32 BLOCK_LEN = 16, SPAN_LEN = 256, SPLIT_QUERIES_MAX = 8, ROWS_MAX = 4, TILE_ROWS = 64;

// As `AttentionPlan::new` of src/kernels/attention_plan.rs, whose own tests hold it to its promises.
struct Plan {
  std::vector<u32> words;
  std::vector<Item> lists[5];  // of one, two and four rows; tiles; combined
  int starts[5];
  u32 num_partials = 0;

  // With `places`, as `AttentionPlan::of_shape`: so many items for each run of rows, of which those without work have
  // no rows. With `is_invariant`, as for batch-invariant sums: one body for all items, and spans everywhere.
  Plan(const std::vector<Sequence>& sequences, u32 group, bool has_tiles, u32 places = 0, bool is_invariant = false) {
    for (const Sequence& sequence : sequences) {
      const u32 table = words.size(), rows = sequence.query_len * group;
      words.insert(words.end(), sequence.table.begin(), sequence.table.end());
      const bool is_tiled = has_tiles && (is_invariant || rows > ROWS_MAX);
      const u32 step = is_tiled ? TILE_ROWS : ROWS_MAX;
      for (u32 first = 0; first < rows; first += step) {
        const u32 count = min(step, rows - first);
        const u32 end = sequence.context_len - sequence.query_len + (first + count - 1) / group + 1;
        std::vector<Item>& list = lists[is_tiled ? 3 : is_invariant || count > 2 ? 2 : count - 1];
        Item item = {sequence.query_start, sequence.query_len, sequence.context_len, table, first, count, 0, end,
                     NO_PARTIAL};
        const bool is_split = is_invariant || sequence.query_len <= SPLIT_QUERIES_MAX;
        const u32 spans = is_split ? (end + SPAN_LEN - 1) / SPAN_LEN : 1;
        const Item nobodys = {0, 0, 0, 0, 0, 0, 0, 0, NO_PARTIAL};
        const auto fill_up = [&] {
          for (u32 place = spans; place < places; ++place) list.push_back(nobodys);
        };
        if (spans == 1) {
          list.push_back(item);
          fill_up();
          if (places > 1) lists[4].push_back(nobodys);
          continue;
        }
        Item combined = item;
        combined.end = spans;
        combined.partial = num_partials;
        lists[4].push_back(combined);
        for (u32 span = 0; span < spans; ++span) {
          item.begin = span * SPAN_LEN;
          item.end = min(end, (span + 1) * SPAN_LEN);
          item.partial = num_partials;
          list.push_back(item);
          num_partials += count;
        }
        fill_up();
      }
    }
    for (int i = 0; i < 5; ++i) {
      starts[i] = words.size();
      for (const Item& item : lists[i]) words.insert(words.end(), (const u32*)&item, (const u32*)(&item + 1));
    }
  }
};

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
  std::vector<Sequence> sequences;
  u32 rows = 0, blocks = 0;
  for (auto [query_len, context_len] : lens) {
    sequences.push_back({rows, query_len, context_len, std::vector<u32>((context_len + BLOCK_LEN - 1) / BLOCK_LEN)});
    for (u32& block : sequences.back().table) block = blocks++;
    rows += query_len;
  }
  std::vector<u32> order(blocks);
  for (u32 i = 0; i < blocks; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), randomness);
  for (Sequence& sequence : sequences) {
    for (u32& block : sequence.table) block = order[block];
  }

  // Queries are a view of a wider matrix; slots past a sequence's end stay NaN.
  const i64 kv_width = kv_heads * D, q_stride = heads * D + 2 * kv_width, slots = (i64)blocks * BLOCK_LEN;
  const T* q = noisy<T>(rows * q_stride, 2.0f);
  K *keys = memory<K>(slots * kv_width), *values = memory<K>(slots * kv_width);
  auto slot = [](const Sequence& sequence, u32 position) {
    return (i64)sequence.table[position / BLOCK_LEN] * BLOCK_LEN + position % BLOCK_LEN;
  };
  for (const Sequence& sequence : sequences) {
    for (u32 position = 0; position < sequence.context_len; ++position) {
      for (i64 i = 0; i < kv_width; ++i) {
        put(keys, slot(sequence, position) * kv_width + i, noise());
        put(values, slot(sequence, position) * kv_width + i, noise());
      }
    }
  }
  const int group = heads / kv_heads;
  const Plan plan(sequences, group, has_tiles);
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
            dot += (double)get(q, row * q_stride + head * D + i) * get(keys, slot(sequence, position) * kv_width + offset + i);
          }
          sum += weights[position] = exp(dot * scale);
        }
        for (int i = 0; i < D; ++i) {
          double y = 0;
          for (u32 position = 0; position < limit; ++position) {
            y += weights[position] * get(values, slot(sequence, position) * kv_width + offset + i);
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
  const Plan wide(sequences, group, has_tiles, 5);
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
    const Plan plan(sequences, heads / kv_heads, has_tiles, 0, true);
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
