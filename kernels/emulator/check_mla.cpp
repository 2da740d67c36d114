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

int main() {
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
