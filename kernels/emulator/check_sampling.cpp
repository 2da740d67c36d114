#include "emulator.h"

#include "../sampling.cu"

struct Candidate {
  u32 id;
  float weight;
};

// What src/kernels/sampling.rs does, by sorting: an id and a status.
std::pair<u32, u32> expected(std::vector<float> logits, const std::vector<u32>& mask, const SamplingRow& how,
                             const std::vector<Edit>& edits) {
  for (const Edit& edit : edits) {
    if (edit.id >= logits.size()) continue;
    float& logit = logits[edit.id];
    if (edit.kind == EDIT_REPETITION) {
      logit = logit > 0 ? logit / edit.value : logit * edit.value;
    } else {
      logit += edit.value;
    }
  }
  auto is_allowed = [&](u32 id) { return id / 32 < mask.size() && (mask[id / 32] >> id % 32 & 1); };
  u32 best = NO_ID;
  for (u32 id = 0; id < logits.size(); ++id) {
    if (!is_allowed(id)) continue;
    if (isnan(logits[id])) return {id, NOT_A_NUMBER};
    if (best == NO_ID || logits[id] > logits[best]) best = id;
  }
  if (best == NO_ID) return {best, EMPTY_MASK};
  const float largest = logits[best] / how.temperature;
  if (how.temperature == 0 || largest == MINUS_INFINITY) return {best, SAMPLED};

  std::vector<Candidate> candidates;
  for (u32 id = 0; id < logits.size(); ++id) {
    const float weight = is_allowed(id) ? weight_of(logits[id] / how.temperature, largest) : 0;
    if (units_of(weight) > 0) candidates.push_back({id, weight});
  }
  auto by_weight = [](const Candidate& a, const Candidate& b) { return a.weight != b.weight ? a.weight > b.weight : a.id < b.id; };
  auto by_id = [](const Candidate& a, const Candidate& b) { return a.id < b.id; };
  auto sum = [&] {
    u64 sum = 0;
    for (const Candidate& candidate : candidates) sum += units_of(candidate.weight);
    return sum;
  };
  if (how.top_k > 0 && how.top_k < candidates.size()) {
    std::sort(candidates.begin(), candidates.end(), by_weight);
    candidates.resize(how.top_k);
  }
  if (how.top_p < 1) {
    const double needed = (double)how.top_p * (double)sum();
    std::sort(candidates.begin(), candidates.end(), by_weight);
    u64 reached = 0;
    size_t kept = 0;
    while (kept < candidates.size()) {
      reached += units_of(candidates[kept++].weight);
      if ((double)reached >= needed) break;
    }
    candidates.resize(kept);
  }
  std::sort(candidates.begin(), candidates.end(), by_id);
  if (how.min_p > 0) {
    auto is_below = [&](const Candidate& candidate) { return candidate.weight < min(how.min_p, 1.0f); };
    candidates.erase(std::remove_if(candidates.begin(), candidates.end(), is_below), candidates.end());
  }
  u64 rest = (u64)((unsigned __int128)uniform_bits(how.seed, how.choice, how.position) * sum() >> 53);
  for (const Candidate& candidate : candidates) {
    if (rest < units_of(candidate.weight)) return {candidate.id, SAMPLED};
    rest -= units_of(candidate.weight);
  }
  fail("the sum of the weights is not reached");
}

// Odd cases have many equal logits, so that ties decide; some have none allowed, a NaN, or nothing but -inf.
void check(u32 vocab_len, u32 test) {
  std::vector<float> logits(vocab_len);
  for (float& logit : logits) {
    logit = noise() * (test % 5 == 0 ? 40 : 10);
    if (test % 2 == 1) logit = roundf(logit * 4) / 4;
  }
  if (test == 90) logits[vocab_len / 2] = NAN;
  if (test == 91) std::fill(logits.begin(), logits.end(), -INFINITY);
  std::vector<u32> mask((vocab_len + 31) / 32 + (test % 7 == 0));
  for (u32& word : mask) {
    const u32 sparse = randomness() % 4 == 0 ? 1u << randomness() % 32 : 0;
    word = test == 92 ? 0 : test % 3 == 0 ? ~0u : test % 3 == 1 ? (u32)randomness() : sparse;
  }
  const float temperatures[] = {0, 1, 0.7f, 3}, top_ps[] = {1, 0, 0.5f, 0.97f}, min_ps[] = {0, 0.1f, 1};
  const u32 top_ks[] = {0, 1, 7, 900};
  std::vector<Edit> edits;
  if (test % 2 == 0) edits = {{0, 0, 1.3f}, {2, 0, 1.3f}, {2, 1, -0.25f}, {2, 1, 1.5f}, {2, 1, -0.1f}, {4, 1, 3.0f}};
  std::vector<float> scratch = logits;
  const u64 seed = (u64)randomness() << 32 | randomness();
  const SamplingRow how = {seed, scratch.data(), test % 3, test, temperatures[test % 4], top_ps[test / 2 % 4],
                           min_ps[test / 3 % 3], top_ks[test / 4 % 4], 0, (u32)edits.size()};
  u32 result[2] = {7, 7};
  launch({1, 1, 1}, SAMPLE_THREADS, [&] {
    sample({mask.data(), &how, edits.data(), &result[0], &result[1], vocab_len, (u32)mask.size()});
  });
  const auto [id, status] = expected(logits, mask, how, edits);
  if (result[1] != status || result[0] != (status == EMPTY_MASK ? 0 : id)) {
    printf("vocabulary of %u, case %u: id %u, status %u; expected %u, %u\n", vocab_len, test, result[0], result[1], id, status);
    fail("sample");
  }
}

int main() {
  int count = 0;
  for (u32 vocab_len : {5, 32, 1000, 4160, 9001}) {
    for (u32 test = 0; test < 96; ++test, ++count) check(vocab_len, test);
  }
  printf("sample: %d rows give the expected ids\n", count);
}
