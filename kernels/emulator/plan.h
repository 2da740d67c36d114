// Who attends to what, for the checks: sequences over shuffled blocks, and their plan.
#pragma once
#include "../attention.cuh"

constexpr u32 BLOCK_LEN = 16, SPAN_LEN = 256, SPLIT_QUERIES_MAX = 8, ROWS_MAX = 4;

struct Sequence {
  u32 query_start, query_len, context_len;
  std::vector<u32> table;

  i64 slot(u32 position) const { return (i64)table[position / BLOCK_LEN] * BLOCK_LEN + position % BLOCK_LEN; }
};

// Sequences of these lengths of query and context, over blocks in any order.
struct Batch {
  std::vector<Sequence> sequences;
  u32 rows = 0, blocks = 0;

  explicit Batch(const std::vector<std::pair<u32, u32>>& lens) {
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
  }
};

// As `AttentionPlan::new` of src/kernels/attention_plan.rs, whose own tests hold it to its promises; without `tile_rows`
// there are no tiles.
//
// With `places`, as `AttentionPlan::of_shape`: so many items for each run of rows, of which those without work have no
// rows. With `is_invariant`, as for batch-invariant sums: one body for all items, and spans everywhere.
struct Plan {
  std::vector<u32> words;
  std::vector<Item> lists[5];  // of one, two and four rows; tiles; combined
  int starts[5];
  u32 num_partials = 0;

  Plan(const std::vector<Sequence>& sequences, u32 group, u32 tile_rows, u32 places = 0, bool is_invariant = false) {
    for (const Sequence& sequence : sequences) {
      const u32 table = words.size(), rows = sequence.query_len * group;
      words.insert(words.end(), sequence.table.begin(), sequence.table.end());
      const bool is_tiled = tile_rows > 0 && (is_invariant || rows > ROWS_MAX);
      const u32 step = is_tiled ? tile_rows : ROWS_MAX;
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
