#include "emulator.h"

#include "../experts.cu"

// The best of `scores` by their definition: NaN is the lowest, ties go to the lower place.
std::vector<u32> best_of(const std::vector<float>& scores, std::vector<bool> open, int count) {
  std::vector<u32> best;
  for (int i = 0; i < count; ++i) {
    int place = -1;
    for (int j = 0; j < (int)scores.size(); ++j) {
      const float score = isnan(scores[j]) ? -INFINITY : scores[j];
      if (open[j] && (place < 0 || score > (isnan(scores[place]) ? -INFINITY : scores[place]))) place = j;
    }
    open[place] = false;
    best.push_back(place);
  }
  return best;
}

void check(const char* what, int rows, int experts, int chosen, int groups, int open_groups, bool normalize,
           bool has_ties) {
  const int stride = experts + 3, ids_stride = chosen;
  float* scores = noisy<float>(rows * stride, 8.0f);
  if (has_ties) {
    for (int i = 0; i < rows * stride; ++i) scores[i] = i % 11 == 3 ? -INFINITY : floorf(scores[i]);
    scores[0] = scores[1] = NAN;
  }
  u32* ids = memory<u32>(rows * chosen);
  launch({(u32)rows, 1, 1}, WARP, [&] { choose_experts({scores, ids, stride, experts, chosen, groups, open_groups}); });
  float* weights = memory<float>(rows * chosen);
  const float factor = 16.0f;
  launch({(u32)rows, 1, 1}, WARP,
         [&] { expert_weights({scores, ids, weights, stride, ids_stride, experts, chosen, factor, normalize}); });
  Difference difference;
  for (int row = 0; row < rows; ++row) {
    const std::vector<float> own(scores + row * stride, scores + row * stride + experts);
    const int group_len = experts / groups;
    std::vector<bool> open(experts, open_groups == groups);
    if (open_groups < groups) {
      std::vector<float> bests(groups, -INFINITY);
      for (int i = 0; i < experts; ++i) bests[i / group_len] = fmaxf(bests[i / group_len], own[i]);
      for (u32 group : best_of(bests, std::vector<bool>(groups, true), open_groups)) {
        for (int i = 0; i < group_len; ++i) open[group * group_len + i] = true;
      }
    }
    const std::vector<u32> expected = best_of(own, open, chosen);
    for (int i = 0; i < chosen; ++i) {
      if (ids[row * chosen + i] != expected[i]) fail("another expert");
    }
    if (has_ties) continue;
    double sum = 0, of_chosen = 0;
    for (float score : own) sum += exp((double)score);
    for (u32 id : expected) of_chosen += exp((double)own[id]) / sum;
    for (int i = 0; i < chosen; ++i) {
      const double weight = exp((double)own[expected[i]]) / sum;
      difference.add(weights[row * chosen + i], normalize ? weight / of_chosen : weight * factor);
    }
  }
  if (has_ties) {
    printf("%-44s the same experts\n", what);
  } else {
    difference.check(1e-5, what);
  }
}

void check_sum(int rows, int n, int width) {
  const int stride = width + 2, weights_stride = n + 1;
  const float *xs = noisy<float>(rows * n * stride), *weights = noisy<float>(rows * weights_stride);
  float* ys = memory<float>(rows * width);
  launch_rows(rows, width, 1, [&] { weighted_sum({xs, weights, ys, stride, weights_stride, n, width}); });
  Difference difference;
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < width; ++i) {
      double expected = 0;
      for (int j = 0; j < n; ++j) {
        expected += (double)weights[row * weights_stride + j] * xs[(row * n + j) * stride + i];
      }
      difference.add(ys[row * width + i], expected);
    }
  }
  difference.check(1e-6, "weighted_sum");
}

// A row's experts, their weights and the sum of their answers have the same bits alone and beside others.
void check_invariant(int experts, int chosen, int width) {
  constexpr int ROWS = 9;
  const float *scores = noisy<float>(ROWS * experts, 8.0f), *xs = noisy<float>(ROWS * chosen * width);
  const auto run = [&](int first, int rows) {
    u32* ids = memory<u32>(rows * chosen);
    float *weights = memory<float>(rows * chosen), *ys = memory<float>(rows * width);
    const float *own = scores + first * experts, *answers = xs + first * chosen * width;
    launch({(u32)rows, 1, 1}, WARP, [&] { choose_experts({own, ids, experts, experts, chosen, 1, 1}); });
    launch({(u32)rows, 1, 1}, WARP,
           [&] { expert_weights({own, ids, weights, experts, chosen, experts, chosen, 2.0f, false}); });
    launch_rows(rows, width, 1, [&] { weighted_sum({answers, weights, ys, width, chosen, chosen, width}); });
    return ys;
  };
  const float* together = run(0, ROWS);
  for (auto [first, rows] : {std::pair{0, 1}, {8, 1}, {3, 5}}) {
    check_same(run(first, rows), together + first * width, rows * width, "choose, weigh and add, batch-invariant");
  }
}

int main() {
  check_invariant(64, 6, 300);
  check("choose and weigh, 6 of 64", 9, 64, 6, 1, 1, false, false);
  check("choose and weigh, 6 of 160 in 3 of 8", 9, 160, 6, 8, 3, false, false);
  check("choose and weigh, 8 of 256 in 4 of 8", 3, 256, 8, 8, 4, true, false);
  check("choose and weigh, all of 5", 2, 5, 5, 1, 1, true, false);
  check("choose, ties, 40 of 100", 4, 100, 40, 1, 1, false, true);
  check("choose, ties, 4 of 12 in 2 of 6", 20, 12, 4, 6, 2, false, true);
  check("choose, ties, 3 of 1024 in 7 of 64", 2, 1024, 3, 64, 7, false, true);
  check_sum(5, 6, 300);
  check_sum(1, 1, 7);
}
