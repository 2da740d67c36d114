#include "emulator.h"

#include "../attention_rows.cu"
#include "../mla.cu"
#include "plan.h"

// On the matrix units for bf16 planes of 512 and 64, in f32 otherwise.
template <typename K>
void run(MlaArgs args, const Plan& plan) {
  void (*kernels[4])(MlaArgs) = {
      [](MlaArgs args) { mla_rows<K, 1>(args); },
      [](MlaArgs args) { mla_rows<K, 2>(args); },
      [](MlaArgs args) { mla_rows<K, 4>(args); },
      [](MlaArgs args) { mla_tile<512, 64>(args, *(MlaBuffers<512, 64>*)dynamic_shared); },
  };
  for (int i = 0; i < 4; ++i) {
    args.attention.items = plan.starts[i];
    if (plan.lists[i].empty()) continue;
    launch({(u32)plan.lists[i].size(), 1, 1}, MLA_THREADS, [&] { kernels[i](args); });
  }
  args.attention.items = plan.starts[4];
  const u32 combined = (u32)plan.lists[4].size();
  if (combined > 0) launch({combined, 1, MLA_TILE_ROWS}, THREADS, [&] { combine<float>(args.attention); });
}

template <typename K>
void check(const char* what, int heads, int latent, int rope, std::vector<std::pair<u32, u32>> lens, bool has_tiles) {
  const Batch batch(lens);
  // Queries are views of wider matrices; slots past a sequence's end stay NaN.
  const int width = latent + rope, q_stride = latent + 3, rope_stride = heads * rope + 5;
  const float *q = noisy<float>((i64)batch.rows * heads * q_stride, 2.0f);
  const float *q_rope = noisy<float>((i64)batch.rows * rope_stride, 2.0f);
  K* plane = memory<K>((i64)batch.blocks * BLOCK_LEN * width);
  for (const Sequence& sequence : batch.sequences) {
    for (u32 position = 0; position < sequence.context_len; ++position) {
      for (int i = 0; i < width; ++i) put(plane, sequence.slot(position) * width + i, noise());
    }
  }
  const Plan plan(batch.sequences, heads, has_tiles ? MLA_TILE_ROWS : 0);
  float* ys = memory<float>((i64)batch.rows * heads * latent);
  float* partials = memory<float>((i64)plan.num_partials * (latent + 2));
  const double scale = 1 / sqrt(width);
  const AttentionArgs attention = {q,     plane,          nullptr, ys, partials, plan.words.data(), q_stride, width, 0,
                                   (int)BLOCK_LEN, heads, 1, latent, (float)(scale * M_LOG2E), 0};
  run<K>({attention, q_rope, rope_stride, rope, 0}, plan);

  Difference difference;
  for (const Sequence& sequence : batch.sequences) {
    for (u32 query = 0; query < sequence.query_len; ++query) {
      for (int head = 0; head < heads; ++head) {
        const u32 row = sequence.query_start + query, limit = sequence.context_len - sequence.query_len + query + 1;
        const i64 pair = (i64)row * heads + head;
        std::vector<double> weights(limit);
        double sum = 0;
        for (u32 position = 0; position < limit; ++position) {
          const i64 at = sequence.slot(position) * width;
          double dot = 0;
          for (int i = 0; i < latent; ++i) dot += (double)q[pair * q_stride + i] * get(plane, at + i);
          for (int i = 0; i < rope; ++i) {
            dot += (double)q_rope[row * rope_stride + head * rope + i] * get(plane, at + latent + i);
          }
          sum += weights[position] = exp(dot * scale);
        }
        for (int i = 0; i < latent; ++i) {
          double y = 0;
          for (u32 position = 0; position < limit; ++position) {
            y += weights[position] * get(plane, sequence.slot(position) * width + i);
          }
          difference.add(ys[pair * latent + i], y / sum);
        }
      }
    }
  }
  char name[80];
  snprintf(name, sizeof name, "%s, %d heads over %d and %d", what, heads, latent, rope);
  difference.check(has_tiles ? 1e-2 : 1e-5, name);

  // Decode in a grid for longer contexts: the same bits.
  if (std::any_of(lens.begin(), lens.end(), [](auto len) { return len.first != 1; })) return;
  const Plan wide(batch.sequences, heads, has_tiles ? MLA_TILE_ROWS : 0, 5);
  AttentionArgs again = attention;
  again.ys = memory<float>((i64)batch.rows * heads * latent);
  again.partials = memory<float>((i64)wide.num_partials * (latent + 2));
  again.plan = wide.words.data();
  run<K>({again, q_rope, rope_stride, rope, 0}, wide);
  snprintf(name, sizeof name, "%s, %d heads over %d and %d, in a wider grid", what, heads, latent, rope);
  check_same((const float*)again.ys, ys, (i64)batch.rows * heads * latent, name);
}

// For batch-invariant sums, a row has the same bits in a whole prompt, in a chunk, in decode, and in decode in a grid
// for longer contexts.
template <typename K>
void check_invariant(const char* what, int heads, int latent, int rope, u32 context_len, bool has_tiles) {
  const i64 width = latent + rope, q_width = (i64)heads * latent, rope_width = (i64)heads * rope;
  std::vector<u32> table((context_len + BLOCK_LEN - 1) / BLOCK_LEN);
  for (u32 i = 0; i < table.size(); ++i) table[i] = table.size() - 1 - i;
  const float* q = noisy<float>(context_len * q_width, 2.0f);
  const float* q_rope = noisy<float>(context_len * rope_width, 2.0f);
  const K* plane = noisy<K>((i64)table.size() * BLOCK_LEN * width);
  // `query_len` queries from `first` on, behind `others` that see little.
  const auto attend = [&](u32 first, u32 query_len, u32 others, u32 places) {
    std::vector<Sequence> sequences;
    for (u32 other = 0; other < others; ++other) sequences.push_back({other, 1, other + 1, table});
    sequences.push_back({others, query_len, first + query_len, table});
    const u32 rows = others + query_len;
    float *some = memory<float>(rows * q_width), *some_rope = memory<float>(rows * rope_width);
    memcpy(some, q, others * q_width * sizeof(float));
    memcpy(some + others * q_width, q + first * q_width, query_len * q_width * sizeof(float));
    memcpy(some_rope, q_rope, others * rope_width * sizeof(float));
    memcpy(some_rope + others * rope_width, q_rope + first * rope_width, query_len * rope_width * sizeof(float));
    const Plan plan(sequences, heads, has_tiles ? MLA_TILE_ROWS : 0, places, true);
    float *ys = memory<float>(rows * q_width), *partials = memory<float>((i64)plan.num_partials * (latent + 2));
    const AttentionArgs attention = {some, plane, nullptr, ys, partials, plan.words.data(), latent, width, 0,
                                     (int)BLOCK_LEN, heads, 1, latent, (float)(M_LOG2E / sqrt(width)), 0};
    run<K>({attention, some_rope, rope_width, rope, 0}, plan);
    return ys + others * q_width;
  };
  const float* whole = attend(0, context_len, 0, 0);
  for (auto [first, query_len] :
       {std::pair{0u, 1u}, {255u, 1u}, {256u, 1u}, {context_len - 1, 1u}, {251u, 8u}, {90u, 30u}}) {
    char name[80];
    snprintf(name, sizeof name, "%s, batch-invariant, %u from %u", what, query_len, first);
    check_same(attend(first, query_len, 3, 0), whole + first * q_width, query_len * q_width, name);
    if (query_len > 1) continue;
    snprintf(name, sizeof name, "%s, batch-invariant, %u in a wider grid", what, first);
    check_same(attend(first, 1, 2, 3), whole + first * q_width, q_width, name);
  }
}

int main() {
  check_invariant<float>("mla rows f32", 3, 20, 6, 270, false);
  check_invariant<bf16>("mla rows bf16", 2, 80, 8, 262, false);
  check_invariant<bf16>("mla tiles bf16", 3, 512, 64, 260, true);
  check<float>("mla rows f32", 4, 64, 16, {{1, 1}, {1, 300}, {3, 40}, {5, 5}}, false);
  check<float>("mla rows f32", 3, 20, 6, {{1, 17}, {2, 530}, {9, 33}}, false);
  check<float>("mla rows f32", 2, 512, 64, {{1, 257}, {4, 20}}, false);
  check<bf16>("mla rows bf16", 1, 512, 64, {{1, 300}, {1, 3}}, false);
  check<bf16>("mla rows bf16", 5, 80, 8, {{2, 30}, {1, 260}}, false);
  check<bf16>("mla tiles bf16", 16, 512, 64, {{1, 1}, {1, 290}, {2, 40}}, true);
  check<bf16>("mla tiles bf16", 3, 512, 64, {{1, 33}, {9, 44}, {3, 260}}, true);
  check<float>("mla rows f32", 3, 64, 16, {{1, 1}, {1, 600}, {1, 256}, {1, 257}}, false);
  check<bf16>("mla tiles bf16", 16, 512, 64, {{1, 1}, {1, 520}, {1, 256}}, true);
}
