//! How a step's attention is divided over a device: which block of threads takes which rows and which positions.
//!
//! Made on the host once per step, uploaded once, and shared by all layers. A *row* is one query and one of the query
//! heads that share a key head. Decode is split along the context into spans of one length, so that a single sequence
//! fills the device; the length never depends on the batch, so neither do a row's sums.

use super::BatchSequence;

/// Positions of a span. At heads of 128 in bf16 a span is 128 KiB of keys and values; its partial result costs 1 KiB.
const SPAN_LEN: usize = 256;
/// Queries of a sequence up to which its context is split; more are enough to fill the device by themselves.
const SPLIT_QUERIES_MAX: usize = 8;
/// Rows of an item of `attention_rows`, at most.
const ROWS_MAX: usize = 4;
/// Rows of an item of `attention_tiles`, at most.
pub(super) const TILE_ROWS: usize = 64;
/// Rows of an item of `mla_tiles`, at most.
pub(super) const MLA_TILE_ROWS: usize = 16;
/// What stands for the place of a partial result where the result is whole.
const NO_PARTIAL: u32 = u32::MAX;
/// Words of an item.
const ITEM_WORDS: usize = 9;

/// A run of items that one launch takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Items {
    /// Where they begin in the plan's words.
    pub(super) start: usize,
    /// How many there are.
    pub(super) count: usize,
    /// Rows of the largest.
    pub(super) rows_max: usize,
}

/// The plan of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttentionPlan {
    /// Block tables, then items, as `kernels/attention.cuh` reads them.
    pub(super) words: Vec<u32>,
    /// Items of one, two and four rows.
    pub(super) rows: [Items; 3],
    /// Items for the matrix units.
    pub(super) tiles: Items,
    /// Rows whose spans are put together.
    pub(super) combined: Items,
    /// Rows of partial results, over all spans.
    pub(super) num_partials: usize,
}

/// One item, in the order of the fields of `Item` in `kernels/attention.cuh`.
#[derive(Clone, Copy)]
struct Item {
    query_start: usize,
    query_len: usize,
    context_len: usize,
    table: usize,
    first_row: usize,
    num_rows: usize,
    begin: usize,
    end: usize,
    partial: u32,
}

impl Item {
    fn words(&self) -> [u32; ITEM_WORDS] {
        let Self { query_start, query_len, context_len, table, first_row, num_rows, begin, end, partial } = *self;
        let [query_start, query_len, context_len, table, first_row, num_rows, begin, end] =
            [query_start, query_len, context_len, table, first_row, num_rows, begin, end].map(|field| field as u32);
        [query_start, query_len, context_len, table, first_row, num_rows, begin, end, partial]
    }
}

impl AttentionPlan {
    /// Plans the `sequences`, whose rows are `group` to a query. Where the matrix units can take the planes,
    /// `tile_rows` are the rows of an item for them.
    pub(super) fn new(sequences: &[BatchSequence], group: usize, tile_rows: Option<usize>) -> Self {
        let mut words = Vec::new();
        let (mut rows, mut tiles, mut combined) = (<[Vec<Item>; 3]>::default(), Vec::new(), Vec::new());
        let mut num_partials = 0;
        for sequence in sequences {
            let table = words.len();
            words.extend_from_slice(&sequence.block_table);
            let sequence_rows = sequence.query_len * group;
            let tile_rows = tile_rows.filter(|_| sequence_rows > ROWS_MAX);
            let item_rows = tile_rows.unwrap_or(ROWS_MAX);
            for first_row in (0..sequence_rows).step_by(item_rows) {
                let num_rows = (sequence_rows - first_row).min(item_rows);
                let whole = Item::of(sequence, table, first_row, num_rows, group);
                let list = match num_rows {
                    _ if tile_rows.is_some() => &mut tiles,
                    1 => &mut rows[0],
                    2 => &mut rows[1],
                    _ => &mut rows[2],
                };
                let num_spans = if sequence.query_len <= SPLIT_QUERIES_MAX { whole.end.div_ceil(SPAN_LEN) } else { 1 };
                if num_spans == 1 {
                    list.push(whole);
                    continue;
                }
                combined.push(Item { end: num_spans, partial: num_partials as u32, ..whole });
                for span in 0..num_spans {
                    let (begin, end) = (span * SPAN_LEN, whole.end.min((span + 1) * SPAN_LEN));
                    list.push(Item { begin, end, partial: num_partials as u32, ..whole });
                    num_partials += num_rows;
                }
            }
        }
        let mut place = |items: &[Item]| {
            let start = words.len();
            words.extend(items.iter().flat_map(Item::words));
            Items { start, count: items.len(), rows_max: items.iter().map(|item| item.num_rows).max().unwrap_or(0) }
        };
        let (rows, tiles, combined) = (rows.map(|items| place(&items)), place(&tiles), place(&combined));
        Self { words, rows, tiles, combined, num_partials }
    }
}

impl Item {
    /// All positions that some of the rows may see.
    fn of(sequence: &BatchSequence, table: usize, first_row: usize, num_rows: usize, group: usize) -> Self {
        let BatchSequence { query_start, query_len, context_len, .. } = *sequence;
        let last_query = (first_row + num_rows - 1) / group;
        let end = context_len - query_len + last_query + 1;
        Self { query_start, query_len, context_len, table, first_row, num_rows, begin: 0, end, partial: NO_PARTIAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(query_start: usize, query_len: usize, context_len: usize) -> BatchSequence {
        let block_table = (0..context_len.div_ceil(16) as u32).map(|i| i * 3 + query_start as u32).collect();
        BatchSequence { query_start, query_len, context_len, block_table }
    }

    fn items(plan: &AttentionPlan, items: Items) -> Vec<&[u32]> {
        plan.words[items.start..].chunks_exact(ITEM_WORDS).take(items.count).collect()
    }

    /// Every row must meet every position that it may see exactly once, in one item or in the spans that one
    /// combination names.
    #[test]
    fn every_row_meets_every_position_once() {
        let wide = Some(TILE_ROWS);
        for (group, tile_rows) in [(1, None), (1, wide), (3, wide), (8, wide), (4, None), (16, Some(MLA_TILE_ROWS))] {
            let lens = [(1, 1), (1, 256), (1, 257), (5, 1000), (8, 8), (9, 700), (100, 130), (64, 64)];
            let mut sequences = Vec::new();
            for (query_len, context_len) in lens {
                let query_start = sequences.iter().map(|sequence: &BatchSequence| sequence.query_len).sum();
                sequences.push(sequence(query_start, query_len, context_len));
            }
            let plan = AttentionPlan::new(&sequences, group, tile_rows);
            let mut seen = std::collections::BTreeMap::new();
            let mut partial_rows = vec![0; plan.num_partials];
            let lists = [plan.rows[0], plan.rows[1], plan.rows[2], plan.tiles];
            for (list, capacity) in lists.into_iter().zip([1, 2, ROWS_MAX, tile_rows.unwrap_or(0)]) {
                assert!(list.rows_max <= capacity);
                for item in items(&plan, list) {
                    let &[query_start, query_len, context_len, table, first_row, num_rows, begin, end, partial] = item
                    else {
                        panic!("an item of {} words", item.len())
                    };
                    let owner = sequences.iter().find(|s| s.query_start == query_start as usize).expect("its sequence");
                    assert_eq!((owner.query_len, owner.context_len), (query_len as usize, context_len as usize));
                    let blocks = &plan.words[table as usize..][..owner.block_table.len()];
                    assert_eq!(blocks, owner.block_table);
                    assert!(begin < end && num_rows > 0);
                    for row in 0..num_rows {
                        let limit = context_len - query_len + (first_row + row) / group as u32 + 1;
                        *seen.entry((query_start, first_row + row)).or_insert(0) +=
                            end.min(limit).saturating_sub(begin);
                        if partial != NO_PARTIAL {
                            partial_rows[(partial + row) as usize] += 1;
                        }
                    }
                }
            }
            for sequence in &sequences {
                for row in 0..sequence.query_len * group {
                    let visible = sequence.context_len - sequence.query_len + row / group + 1;
                    assert_eq!(
                        seen[&(sequence.query_start as u32, row as u32)],
                        visible as u32,
                        "row {row} {sequence:?}"
                    );
                }
            }
            assert!(partial_rows.iter().all(|&count| count == 1), "a partial result has two owners, or none");
            let combined: usize =
                items(&plan, plan.combined).iter().map(|item| item[5] as usize * item[7] as usize).sum();
            assert_eq!(combined, plan.num_partials);
        }
    }

    #[test]
    fn a_row_is_divided_alike_in_any_batch() {
        let alone = AttentionPlan::new(&[sequence(0, 1, 1000)], 1, Some(TILE_ROWS));
        let others = [sequence(0, 1, 1000), sequence(1, 1, 300), sequence(2, 70, 90)];
        let together = AttentionPlan::new(&others, 1, Some(TILE_ROWS));
        let spans = |plan: &AttentionPlan| -> Vec<Vec<u32>> {
            let all = items(plan, plan.rows[0]).into_iter().filter(|item| item[0] == 0);
            all.map(|item| item[4..8].to_vec()).collect()
        };
        assert_eq!(spans(&alone), spans(&together));
    }
}
