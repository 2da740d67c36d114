// Which experts a row is sent to, how much each counts, and the sum of what they answer.
//
// choose: scores [rows, experts] f32, rows contiguous, to ids [rows, chosen] u32, best first. weigh: the softmax over a
// row's scores at its ids, scaled. Both are one warp per row; blockIdx.x is the row, lane l owns experts l, l + 32 and
// so on. weighted_sum: xs [rows * n, width] and weights [rows, n] f32 to ys [rows, width].
// Bytes they must move: their inputs and outputs, once.
#include "common.cuh"

constexpr int EXPERTS_MAX = 1024;  // 32 of each lane, one bit each

// The place of the largest score among those that are open in some lane, which is closed; of equal scores the lowest,
// NaN counts as minus infinity. At least one must be open.
__device__ __forceinline__ int take_best(const float* scores, int len, u32& open) {
  const int lane = threadIdx.x % WARP;
  float best = MINUS_INFINITY;
  int place = len;
  for (int i = 0; lane + WARP * i < len; ++i) {
    if (!(open >> i & 1)) continue;
    const float score = fmaxf(scores[lane + WARP * i], MINUS_INFINITY);  // of NaN and a number, the number
    if (place == len || score > best) {
      best = score;
      place = lane + WARP * i;
    }
  }
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    const float other = shuffle_xor(best, offset);
    const int other_place = shuffle_xor(place, offset);
    if (other > best || (other == best && other_place < place)) {
      best = other;
      place = other_place;
    }
  }
  if (place % WARP == lane) open &= ~(1u << place / WARP);
  return place;
}

struct ChooseArgs {
  const float* scores;
  u32* ids;
  i64 stride;
  int num_experts;
  int num_chosen;
  int num_groups;  // of neighbouring experts, all of one size
  int num_open_groups;
};
static_assert(sizeof(ChooseArgs) == 40, "as in src/kernels/cuda/experts.rs");

extern "C" __global__ void choose_experts(ChooseArgs args) {
  __shared__ float group_best[EXPERTS_MAX];
  const int lane = threadIdx.x % WARP, group_len = args.num_experts / args.num_groups;
  const float* scores = args.scores + blockIdx.x * args.stride;
  u32 open = 0xffffffffu;
  if (args.num_open_groups < args.num_groups) {
    for (int group = lane; group < args.num_groups; group += WARP) {
      float best = MINUS_INFINITY;
      for (int i = 0; i < group_len; ++i) best = fmaxf(best, scores[group * group_len + i]);
      group_best[group] = best;
    }
    warp_barrier();
    open = 0;
    u32 groups = 0xffffffffu;
    for (int i = 0; i < args.num_open_groups; ++i) {
      const int group = take_best(group_best, args.num_groups, groups);
      for (int j = 0; lane + WARP * j < args.num_experts; ++j) {
        if ((lane + WARP * j) / group_len == group) open |= 1u << j;
      }
    }
  }
  for (int i = 0; i < args.num_chosen; ++i) {
    const int id = take_best(scores, args.num_experts, open);
    if (lane == 0) args.ids[(i64)blockIdx.x * args.num_chosen + i] = (u32)id;
  }
}

struct WeighArgs {
  const float* scores;
  const u32* ids;
  float* weights;
  i64 scores_stride;
  i64 ids_stride;
  int num_experts;
  int num_chosen;
  float factor;
  int normalize;  // divides by the sum of the chosen, and leaves the factor out
};
static_assert(sizeof(WeighArgs) == 56, "as in src/kernels/cuda/experts.rs");

// An id that is no expert weighs nothing.
extern "C" __global__ void expert_weights(WeighArgs args) {
  const int lane = threadIdx.x % WARP;
  const float* scores = args.scores + blockIdx.x * args.scores_stride;
  const u32* ids = args.ids + blockIdx.x * args.ids_stride;
  float top = MINUS_INFINITY;
  for (int i = lane; i < args.num_experts; i += WARP) top = fmaxf(top, scores[i]);
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) top = fmaxf(top, shuffle_xor(top, offset));
  float sum = 0.0f;
  for (int i = lane; i < args.num_experts; i += WARP) sum += expf(scores[i] - top);
  sum = warp_sum(sum);
  auto weight_of = [&](int i) { return ids[i] < (u32)args.num_experts ? expf(scores[ids[i]] - top) / sum : 0.0f; };
  float chosen = 0.0f;
  for (int i = lane; i < args.num_chosen; i += WARP) chosen += weight_of(i);
  chosen = warp_sum(chosen);
  const float factor = args.normalize ? 1.0f / chosen : args.factor;
  for (int i = lane; i < args.num_chosen; i += WARP) {
    args.weights[(i64)blockIdx.x * args.num_chosen + i] = weight_of(i) * factor;
  }
}

struct WeightedSumArgs {
  const float* xs;
  const float* weights;
  float* ys;
  i64 xs_stride;
  i64 weights_stride;
  int n;
  int width;
};
static_assert(sizeof(WeightedSumArgs) == 48, "as in src/kernels/cuda/experts.rs");

// A thread owns one element of row blockIdx.x, and adds in the order of the rows.
extern "C" __global__ void weighted_sum(WeightedSumArgs args) {
  const int i = blockIdx.y * blockDim.x + threadIdx.x;
  if (i >= args.width) return;
  const float* weights = args.weights + blockIdx.x * args.weights_stride;
  const float* x = args.xs + (i64)blockIdx.x * args.n * args.xs_stride + i;
  float y = 0.0f;
  for (int j = 0; j < args.n; ++j) y += weights[j] * x[j * args.xs_stride];
  args.ys[(i64)blockIdx.x * args.width + i] = y;
}
