// Masked sampling: per row of logits one token, the same as src/kernels/sampling.rs gives for the same row.
//
// Each row names its logits, [vocab_len] f32; masks [rows, num_words] u32 (bit id % 32 of word id / 32), ids and
// statuses [rows].
// One block owns one row. The order is the CPU body's: penalties and biases, mask, temperature, top-k, top-p, min-p, draw.
// Bytes it must move: 4 * vocab_len per pass; greedy takes one pass, drawing three, top-k and top-p four more each.
//
// Nothing is sorted. Weights are whole multiples of 2^-40, so sums of them are exact in any order, and a threshold is
// found digit by digit in histograms. The exponential is written out in operations that round alike everywhere.
// Warps own neighbouring ranges of ids: where the order of ids matters, it is the order of warps, then of lanes.
#include "common.cuh"

struct SamplingRow {
  u64 seed;
  float* logits;  // of this row alone where it has edits
  u32 choice;
  u32 position;
  float temperature;
  float top_p;
  float min_p;
  u32 top_k;
  u32 edits_begin;  // of the row's edits, ascending by id
  u32 edits_end;
};
static_assert(sizeof(SamplingRow) == 48, "as in src/kernels/cuda/sampling.rs");

struct Edit {
  u32 id;
  u32 kind;
  float value;
};
constexpr u32 EDIT_REPETITION = 0;  // positive logits are divided by the value, others multiplied; else it is added

struct SampleArgs {
  const u32* masks;
  const SamplingRow* rows;
  const Edit* edits;
  u32* ids;
  u32* statuses;
  u32 vocab_len;
  u32 num_words;
};
static_assert(sizeof(SampleArgs) == 48, "as in src/kernels/cuda/sampling.rs");

constexpr u32 SAMPLED = 0, EMPTY_MASK = 1, NOT_A_NUMBER = 2;
constexpr u32 NO_ID = 0xffffffffu;
constexpr int SAMPLE_THREADS = 512;
constexpr int SAMPLE_WARPS = SAMPLE_THREADS / WARP;
constexpr int DIGITS = 256;
constexpr int AT_ONCE = 8;  // words of the mask, and as many logits, that a lane has under way

// A uniform number of 53 bits: Philox 4x32-10 on (position, choice) under the seed.
__device__ u64 uniform_bits(u64 seed, u32 choice, u32 position) {
  u32 c0 = position, c1 = choice, c2 = 0, c3 = 0, k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
  for (int i = 0; i < 10; ++i) {
    const u64 low = (u64)c0 * 0xD2511F53u, high = (u64)c2 * 0xCD9E8D57u;
    const u32 next0 = (u32)(high >> 32) ^ c1 ^ k0, next2 = (u32)(low >> 32) ^ c3 ^ k1;
    c1 = (u32)high;
    c3 = (u32)low;
    c0 = next0;
    c2 = next2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return ((u64)c0 << 32 | c1) >> 11;
}

// e to the power of x <= 0, operation by operation as `exp` of src/kernels/sampling.rs.
__device__ __forceinline__ float sampling_exp(float x) {
  x = fmaxf(x, -88.0f);
  const float magic = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to a whole number
  const float n = __fsub_rn(__fadd_rn(__fmul_rn(x, 1.44269502f), magic), magic);
  float r = __fsub_rn(x, __fmul_rn(n, 0.693359375f));
  r = __fadd_rn(r, __fmul_rn(n, 2.12194440e-4f));
  float p = 1.9875691500e-4f;
  p = __fadd_rn(__fmul_rn(p, r), 1.3981999507e-3f);
  p = __fadd_rn(__fmul_rn(p, r), 8.3334519073e-3f);
  p = __fadd_rn(__fmul_rn(p, r), 4.1665795894e-2f);
  p = __fadd_rn(__fmul_rn(p, r), 1.6666665459e-1f);
  p = __fadd_rn(__fmul_rn(p, r), 5.0000001201e-1f);
  p = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(r, r), p), r), 1.0f);
  return __fmul_rn(p, __uint_as_float((u32)((int)n + 127) << 23));
}

__device__ __forceinline__ float weight_of(float scaled, float max) {
  return scaled == max ? 1.0f : sampling_exp(__fsub_rn(scaled, max));
}

// The weight in units of 2^-40.
__device__ __forceinline__ u64 units_of(float weight) { return (u64)(weight * 1099511627776.0f); }

// Which candidates are left: those above the key, and of those at the key the ids up to `last_id`. A weight's bits
// order like the weight.
struct Cut {
  u32 key;
  u32 last_id;
  __device__ __forceinline__ bool keeps(u32 other, u32 id) const {
    return other > key || (other == key && id <= last_id);
  }
};

struct Row {
  const float* logits;
  const u32* mask;
  u32 vocab_len;
  u32 num_words;
  float temperature;
  float max;  // of the allowed logits, divided by the temperature
};

// Calls f(id, is_allowed, logit) for this thread's ids in ascending order; whole warps call it together. A word of the
// mask that allows nothing costs no logits.
template <typename F>
__device__ __forceinline__ void for_each_id(const Row& row, F f) {
  const u32 per_warp = (row.num_words + SAMPLE_WARPS - 1) / SAMPLE_WARPS;
  const u32 begin = threadIdx.x / WARP * per_warp, end = min(begin + per_warp, row.num_words);
  const u32 lane = threadIdx.x % WARP;
  for (u32 first = begin; first < end; first += AT_ONCE) {
    u32 words[AT_ONCE];
    float logits[AT_ONCE];
#pragma unroll
    for (int u = 0; u < AT_ONCE; ++u) words[u] = first + u < end ? row.mask[first + u] : 0;
#pragma unroll
    for (int u = 0; u < AT_ONCE; ++u) {
      const u32 id = (first + u) * 32 + lane;
      if (id >= row.vocab_len) words[u] &= ~(1u << lane);
      logits[u] = words[u] >> lane & 1 ? row.logits[id] : 0.0f;
    }
#pragma unroll
    for (int u = 0; u < AT_ONCE; ++u) {
      if (lanes_where(words[u] >> lane & 1) == 0) continue;
      f((first + u) * 32 + lane, words[u] >> lane & 1, logits[u]);
    }
  }
}

// As for_each_id: f(id, key, units) with units 0 of what is not allowed, weighs nothing, or is cut.
template <typename F>
__device__ __forceinline__ void for_each_weight(const Row& row, const Cut& cut, F f) {
  for_each_id(row, [&](u32 id, bool is_allowed, float logit) {
    const float weight = is_allowed ? weight_of(__fdiv_rn(logit, row.temperature), row.max) : 0.0f;
    const u32 key = __float_as_uint(weight);
    f(id, key, is_allowed && cut.keeps(key, id) ? units_of(weight) : 0);
  });
}

struct Sampler {
  u32 counts[DIGITS];
  u64 sums[DIGITS];
  u64 warp_sums[SAMPLE_WARPS];
  u32 warp_counts[SAMPLE_WARPS];
  float warp_max[SAMPLE_WARPS];
  u32 warp_best[SAMPLE_WARPS];
  u32 warp_nan[SAMPLE_WARPS];
  u32 found;
  u64 above_sum;
  u32 above_count;
};

// The sum and number of the weights left, in every thread; per warp in `warp_sums`, `warp_counts`.
__device__ void add_up(Sampler& s, const Row& row, const Cut& cut, u64& total, u32& count) {
  u64 sum = 0;
  u32 number = 0;
  for_each_weight(row, cut, [&](u32, u32, u64 units) {
    sum += units;
    number += units != 0;
  });
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    sum += shuffle_xor(sum, offset);
    number += shuffle_xor(number, offset);
  }
  __syncthreads();
  if (threadIdx.x % WARP == 0) {
    s.warp_sums[threadIdx.x / WARP] = sum;
    s.warp_counts[threadIdx.x / WARP] = number;
  }
  __syncthreads();
  total = 0;
  count = 0;
  for (int w = 0; w < SAMPLE_WARPS; ++w) {
    total += s.warp_sums[w];
    count += s.warp_counts[w];
  }
}

// The `n`th id (from 1) of those at `key`, ascending.
__device__ u32 nth_at_key(Sampler& s, const Row& row, const Cut& cut, u32 key, u32 n) {
  u32 number = 0;
  for_each_weight(row, cut, [&](u32, u32 other, u64 units) { number += units != 0 && other == key; });
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) number += shuffle_xor(number, offset);
  __syncthreads();
  if (threadIdx.x % WARP == 0) s.warp_counts[threadIdx.x / WARP] = number;
  __syncthreads();
  u32 before = 0;
  for (int w = 0; w < (int)(threadIdx.x / WARP); ++w) before += s.warp_counts[w];
  // One warp has the n-th; all its lanes know it.
  if (before < n && n <= before + number) {
    for_each_weight(row, cut, [&](u32 id, u32 other, u64 units) {
      const bool is_at = units != 0 && other == key;
      const u32 lanes = lanes_where(is_at);
      const u32 up_to = __popc(lanes & (0xffffffffu >> (31 - threadIdx.x % WARP)));
      if (is_at && before + up_to == n) s.found = id;
      before += __popc(lanes);
    });
  }
  __syncthreads();
  const u32 found = s.found;
  __syncthreads();
  return found;
}

// The smallest cut whose candidates, best first and lower ids before higher ones, are `enough(count, sum)`; that holds
// of all candidates and, once reached, of any more.
template <typename F>
__device__ Cut narrow(Sampler& s, const Row& row, const Cut& cut, F enough) {
  u32 prefix = 0, above_count = 0;
  u64 above_sum = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < DIGITS; i += SAMPLE_THREADS) {
      s.counts[i] = 0;
      s.sums[i] = 0;
    }
    __syncthreads();
    for_each_weight(row, cut, [&](u32, u32 key, u64 units) {
      const bool is_within = shift == 24 || key >> (shift + 8) == prefix;
      if (units != 0 && is_within) {
        atomicAdd(&s.counts[key >> shift & 0xff], 1u);
        atomicAdd(&s.sums[key >> shift & 0xff], units);
      }
    });
    __syncthreads();
    // From each digit to the highest.
    for (int step = 1; step < DIGITS; step *= 2) {
      const int i = threadIdx.x;
      u32 count = 0;
      u64 sum = 0;
      if (i + step < DIGITS) {
        count = s.counts[i + step];
        sum = s.sums[i + step];
      }
      __syncthreads();
      if (i < DIGITS) {
        s.counts[i] += count;
        s.sums[i] += sum;
      }
      __syncthreads();
    }
    if (threadIdx.x < DIGITS) {
      const int digit = threadIdx.x;
      const u32 count_above = above_count + (digit + 1 < DIGITS ? s.counts[digit + 1] : 0);
      const u64 sum_above = above_sum + (digit + 1 < DIGITS ? s.sums[digit + 1] : 0);
      const bool is_reached = enough(above_count + s.counts[digit], above_sum + s.sums[digit]);
      if (is_reached && !enough(count_above, sum_above)) {
        s.found = digit;
        s.above_count = count_above;
        s.above_sum = sum_above;
      }
    }
    __syncthreads();
    prefix = prefix << 8 | s.found;
    above_count = s.above_count;
    above_sum = s.above_sum;
    __syncthreads();
  }
  const u64 units = units_of(__uint_as_float(prefix));
  // How many of those at the key it takes: at least one.
  const u32 at_key = s.counts[prefix & 0xff] - ((prefix & 0xff) + 1 < DIGITS ? s.counts[(prefix & 0xff) + 1] : 0);
  u32 low = 1, high = at_key;
  while (low < high) {
    const u32 middle = low + (high - low) / 2;
    if (enough(above_count + middle, above_sum + middle * units)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  __syncthreads();
  if (low == at_key) return Cut{prefix, prefix == cut.key ? cut.last_id : NO_ID};
  return Cut{prefix, nth_at_key(s, row, cut, prefix, low)};
}

// The id at which the weights left, added up in order of ids, pass `target`.
__device__ u32 pick(Sampler& s, const Row& row, const Cut& cut, u64 target) {
  // warp_sums are those of the cut.
  u64 before = 0;
  const int warp = threadIdx.x / WARP;
  for (int w = 0; w < warp; ++w) before += s.warp_sums[w];
  if (before <= target && target < before + s.warp_sums[warp]) {
    for_each_weight(row, cut, [&](u32 id, u32, u64 units) {
      u64 up_to = units;
#pragma unroll
      for (int delta = 1; delta < WARP; delta *= 2) {
        const u64 lower = shuffle_up(up_to, delta);
        if ((int)threadIdx.x % WARP >= delta) up_to += lower;
      }
      // Passed by this lane's weight and by none before it.
      if (units != 0 && before + up_to - units <= target && target < before + up_to) s.found = id;
      before += shuffle(up_to, WARP - 1);
    });
  }
  __syncthreads();
  return s.found;
}

// The best allowed id, ties to the lowest, the logit of it, and the lowest allowed id whose logit is NaN.
__device__ void find_best(Sampler& s, const Row& row, u32& best, float& top, u32& nan) {
  best = NO_ID;
  nan = NO_ID;
  top = MINUS_INFINITY;
  for_each_id(row, [&](u32 id, bool is_allowed, float logit) {
    if (!is_allowed) return;
    if (isnan(logit)) nan = min(nan, id);
    if (best == NO_ID || logit > top) {
      best = id;
      top = logit;
    }
  });
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    const float other = shuffle_xor(top, offset);
    const u32 other_id = shuffle_xor(best, offset);
    if (other > top || (other == top && other_id < best)) {
      best = other_id;
      top = other;
    }
    nan = min(nan, shuffle_xor(nan, offset));
  }
  if (threadIdx.x % WARP == 0) {
    s.warp_max[threadIdx.x / WARP] = top;
    s.warp_best[threadIdx.x / WARP] = best;
    s.warp_nan[threadIdx.x / WARP] = nan;
  }
  __syncthreads();
  for (int w = 0; w < SAMPLE_WARPS; ++w) {
    if (s.warp_max[w] > top || (s.warp_max[w] == top && s.warp_best[w] < best)) {
      best = s.warp_best[w];
      top = s.warp_max[w];
    }
    nan = min(nan, s.warp_nan[w]);
  }
}

__device__ void edit(float* logits, const Edit* edits, u32 begin, u32 end, u32 vocab_len) {
  for (u32 i = begin + threadIdx.x; i < end; i += SAMPLE_THREADS) {
    const u32 id = edits[i].id;
    // The first edit of an id does all of them, in their order.
    if (id >= vocab_len || (i > begin && edits[i - 1].id == id)) continue;
    float logit = logits[id];
    for (u32 j = i; j < end && edits[j].id == id; ++j) {
      const float value = edits[j].value;
      if (edits[j].kind == EDIT_REPETITION) {
        logit = logit > 0.0f ? __fdiv_rn(logit, value) : __fmul_rn(logit, value);
      } else {
        logit = __fadd_rn(logit, value);
      }
    }
    logits[id] = logit;
  }
}

extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS, 1) sample(SampleArgs args) {
  __shared__ Sampler s;
  const SamplingRow how = args.rows[blockIdx.x];
  edit(how.logits, args.edits, how.edits_begin, how.edits_end, args.vocab_len);
  __syncthreads();

  Row row = {how.logits, args.masks + (u64)blockIdx.x * args.num_words, args.vocab_len, args.num_words, how.temperature, 0.0f};
  u32 id, nan, status = SAMPLED;
  float top;
  find_best(s, row, id, top, nan);
  if (nan != NO_ID) {
    id = nan;
    status = NOT_A_NUMBER;
  } else if (id == NO_ID) {
    status = EMPTY_MASK;
  } else if (how.temperature != 0.0f && __fdiv_rn(top, how.temperature) != MINUS_INFINITY) {
    row.max = __fdiv_rn(top, how.temperature);
    Cut cut = {0, NO_ID};
    u64 total;
    u32 count;
    add_up(s, row, cut, total, count);
    if (how.top_k > 0 && how.top_k < count) {
      const u32 top_k = how.top_k;
      cut = narrow(s, row, cut, [=](u32 number, u64) { return number >= top_k; });
      add_up(s, row, cut, total, count);
    }
    if (how.top_p < 1.0f) {
      const double needed = __dmul_rn((double)how.top_p, __ull2double_rn(total));
      cut = narrow(s, row, cut, [=](u32 number, u64 sum) { return number > 0 && __ull2double_rn(sum) >= needed; });
    }
    // All weights below min_p go, whatever their id; the best weighs 1 and stays.
    const u32 least = __float_as_uint(fminf(how.min_p, 1.0f));
    if (how.min_p > 0.0f && least > cut.key) cut = {least, NO_ID};
    add_up(s, row, cut, total, count);
    const u64 uniform = uniform_bits(how.seed, how.choice, how.position);
    // (uniform * total) >> 53
    const u64 target = __umul64hi(uniform << 11, total);
    id = pick(s, row, cut, target);
  }
  if (threadIdx.x == 0) {
    // The next step may read ids before anyone has looked at how rows went: one of no row is no id of its.
    args.ids[blockIdx.x] = status == EMPTY_MASK ? 0 : id;
    args.statuses[blockIdx.x] = status;
  }
}
