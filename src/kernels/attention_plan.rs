//! How a step's attention is divided over a device: which block of threads takes which rows and which positions.
//!
//! Made on the host once per step, uploaded once, and shared by all layers. A *row* is one query and one of the query
//! heads that share a key head. Decode is split along the context into spans of one length, so that a single sequence
//! fills the device; the length never depends on the batch, so neither do a row's sums.
//!
//! A plan of a [`PlanShape`] has the same number of items at the same places for every decode step of that shape: what
//! a step does not need are items without rows, which kernels pass over.
//!
//! For batch-invariant sums nothing depends on how many queries a sequence runs: one body for all items, and spans
//! everywhere. Positions that a row may not see add nothing to its sums, to the bit, so it does not matter which rows
//! share its item. A prompt's partial results then cost `4 * (head_dim + 2)` bytes per row, head and span.

use candle_core::DType;

use super::{BatchSequence, Sums};

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
/// Widths of latent and rotary part that `mla_tiles` is compiled for: DeepSeek-V2's.
pub(super) const MLA_TILE_WIDTHS: (usize, usize) = (512, 64);
/// What stands for the place of a partial result where the result is whole.
const NO_PARTIAL: u32 = u32::MAX;
/// Words of an item.
const ITEM_WORDS: usize = 9;

/// Rows of an item of `attention_tiles`, where the matrix units take planes of `dtype` with heads of `head_dim`: both
/// are loaded 16 bytes at a time.
pub(crate) fn tile_rows(dtype: DType, head_dim: usize) -> Option<usize> {
    (dtype == DType::BF16 && matches!(head_dim, 64 | 128)).then_some(TILE_ROWS)
}

/// Rows of an item of `mla_tiles`, where the matrix units take a plane of `dtype` with latents and rotary parts this wide.
pub(crate) fn mla_tile_rows(dtype: DType, latent: usize, rope: usize) -> Option<usize> {
    (dtype == DType::BF16 && (latent, rope) == MLA_TILE_WIDTHS).then_some(MLA_TILE_ROWS)
}

/// What all decode steps of one bucket have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlanShape {
    /// Query heads per key head.
    pub(crate) group: usize,
    /// As [`tile_rows`] or [`mla_tile_rows`] says of the planes.
    pub(crate) tile_rows: Option<usize>,
    /// Positions of the longest context.
    pub(crate) context_len: usize,
    /// Positions of a block.
    pub(crate) block_len: usize,
    /// Whether rows may be divided by how many there are.
    pub(crate) sums: Sums,
}

impl PlanShape {
    fn num_spans(&self) -> usize {
        self.context_len.div_ceil(SPAN_LEN)
    }
}

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
pub(crate) struct AttentionPlan {
    /// Block tables, then items, as `kernels/attention.cuh` reads them.
    pub(crate) words: Vec<u32>,
    /// Items of one, two and four rows.
    pub(super) rows: [Items; 3],
    /// Items for the matrix units.
    pub(super) tiles: Items,
    /// Rows whose spans are put together.
    pub(super) combined: Items,
    /// Rows of partial results, over all spans.
    pub(super) num_partials: usize,
    /// Rows of an item for the matrix units, where it may have such.
    pub(super) tile_rows: Option<usize>,
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
    /// Nobody's: kernels leave at once.
    const NONE: Self = Self {
        query_start: 0,
        query_len: 0,
        context_len: 0,
        table: 0,
        first_row: 0,
        num_rows: 0,
        begin: 0,
        end: 0,
        partial: NO_PARTIAL,
    };

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
    pub(super) fn new(sequences: &[BatchSequence], group: usize, tile_rows: Option<usize>, sums: Sums) -> Self {
        Draft::new(group, tile_rows, sums, None).of(sequences)
    }

    /// Plans decode: one query of each of the `sequences`, whose contexts fit the `shape`. Plans of as many sequences
    /// and one shape differ in nothing but their words.
    ///
    /// # Panics
    /// When a sequence has more than one query or a longer context.
    pub(crate) fn of_shape(sequences: &[BatchSequence], shape: &PlanShape) -> Self {
        let fits = |sequence: &BatchSequence| sequence.query_len == 1 && sequence.context_len <= shape.context_len;
        assert!(sequences.iter().all(fits), "a sequence does not fit {shape:?}");
        Draft::new(shape.group, shape.tile_rows, shape.sums, Some(*shape)).of(sequences)
    }
}

/// A plan in the making.
struct Draft {
    group: usize,
    tile_rows: Option<usize>,
    sums: Sums,
    shape: Option<PlanShape>,
    words: Vec<u32>,
    rows: [Vec<Item>; 3],
    tiles: Vec<Item>,
    combined: Vec<Item>,
    num_partials: usize,
}

impl Draft {
    fn new(group: usize, tile_rows: Option<usize>, sums: Sums, shape: Option<PlanShape>) -> Self {
        let (words, rows, tiles, combined) = Default::default();
        Self { group, tile_rows, sums, shape, words, rows, tiles, combined, num_partials: 0 }
    }

    fn of(mut self, sequences: &[BatchSequence]) -> AttentionPlan {
        for sequence in sequences {
            self.push(sequence);
        }
        let Self { mut words, rows, tiles, combined, num_partials, tile_rows, .. } = self;
        let mut place = |items: &[Item], rows_max: usize| {
            let start = words.len();
            words.extend(items.iter().flat_map(Item::words));
            Items { start, count: items.len(), rows_max }
        };
        let largest = |items: &[Item]| items.iter().map(|item| item.num_rows).max().unwrap_or(0);
        // Of a shape, whoever launches has to reckon with the rows of any step.
        let combined_rows =
            self.shape.map_or(largest(&combined), |shape| shape.group.min(tile_rows.unwrap_or(ROWS_MAX)));
        let rows = rows.map(|items| place(&items, largest(&items)));
        let tiles = place(&tiles, largest(&tiles));
        let combined = place(&combined, combined_rows);
        AttentionPlan { words, rows, tiles, combined, num_partials, tile_rows }
    }

    fn push(&mut self, sequence: &BatchSequence) {
        let table = self.words.len();
        self.words.extend_from_slice(&sequence.block_table);
        if let Some(shape) = self.shape {
            let needed = sequence.context_len.div_ceil(shape.block_len);
            self.words.truncate(table + needed);
            self.words.resize(table + shape.context_len.div_ceil(shape.block_len), 0);
        }
        let sequence_rows = sequence.query_len * self.group;
        let tile_rows = self.tile_rows.filter(|_| self.is_invariant() || sequence_rows > ROWS_MAX);
        let rows_max = tile_rows.unwrap_or(ROWS_MAX);
        for first_row in (0..sequence_rows).step_by(rows_max) {
            let num_rows = (sequence_rows - first_row).min(rows_max);
            self.push_rows(tile_rows.is_some(), Item::of(sequence, table, first_row, num_rows, self.group));
        }
    }

    fn is_invariant(&self) -> bool {
        self.sums == Sums::BatchInvariant
    }

    /// Divides all positions of an item.
    fn push_rows(&mut self, is_tiled: bool, whole: Item) {
        let Item { num_rows, query_len, end, .. } = whole;
        let is_split = self.is_invariant() || query_len <= SPLIT_QUERIES_MAX;
        let list = match num_rows {
            _ if is_tiled => &mut self.tiles,
            // The body for four rows takes fewer as well.
            _ if self.sums == Sums::BatchInvariant => &mut self.rows[2],
            1 => &mut self.rows[0],
            2 => &mut self.rows[1],
            _ => &mut self.rows[2],
        };
        let num_spans = if is_split { end.div_ceil(SPAN_LEN) } else { 1 };
        let num_places = self.shape.map_or(num_spans, |shape| shape.num_spans());
        let partial = self.num_partials as u32;
        if num_spans == 1 {
            list.push(whole);
        } else {
            list.extend((0..num_spans).map(|span| Item {
                begin: span * SPAN_LEN,
                end: end.min((span + 1) * SPAN_LEN),
                partial: partial + (span * num_rows) as u32,
                ..whole
            }));
        }
        list.extend(std::iter::repeat_n(Item::NONE, num_places - num_spans));
        if num_places > 1 {
            self.combined.push(if num_spans > 1 { Item { end: num_spans, partial, ..whole } } else { Item::NONE });
            self.num_partials += num_places * num_rows;
        }
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
    use super::Sums::{BatchInvariant, Fastest};
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
        let fastest = [(1, None), (1, wide), (3, wide), (8, wide), (4, None), (16, Some(MLA_TILE_ROWS))]
            .map(|(group, tile_rows)| (group, tile_rows, Fastest));
        let invariant =
            [(1, None), (1, wide), (3, wide), (3, None), (16, Some(MLA_TILE_ROWS)), (3, Some(MLA_TILE_ROWS))]
                .map(|(group, tile_rows)| (group, tile_rows, BatchInvariant));
        for (group, tile_rows, sums) in fastest.into_iter().chain(invariant) {
            let lens = [(1, 1), (1, 256), (1, 257), (5, 1000), (8, 8), (9, 700), (100, 130), (64, 64)];
            let mut sequences = Vec::new();
            for (query_len, context_len) in lens {
                let query_start = sequences.iter().map(|sequence: &BatchSequence| sequence.query_len).sum();
                sequences.push(sequence(query_start, query_len, context_len));
            }
            let plan = AttentionPlan::new(&sequences, group, tile_rows, sums);
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

    /// A recorded launch has one grid: steps of one shape must fit it, and do what their own plans do.
    #[test]
    fn plans_of_one_shape_differ_in_words_alone_and_divide_as_their_own() {
        let lens = [[1, 256, 257, 1024], [1024, 1000, 700, 12], [1, 1, 1, 1]];
        let wide = Some(TILE_ROWS);
        for (group, tile_rows, sums) in
            [(1, None), (1, wide), (3, wide), (8, wide), (8, None), (16, Some(MLA_TILE_ROWS))]
                .into_iter()
                .flat_map(|(group, tile_rows)| [(group, tile_rows, Fastest), (group, tile_rows, BatchInvariant)])
        {
            let shape = PlanShape { group, tile_rows, context_len: 1024, block_len: 16, sums };
            let mut first: Option<AttentionPlan> = None;
            for lens in lens {
                let sequences: Vec<_> = lens.into_iter().enumerate().map(|(i, len)| sequence(i, 1, len)).collect();
                let (own, shaped) = (
                    AttentionPlan::new(&sequences, group, tile_rows, sums),
                    AttentionPlan::of_shape(&sequences, &shape),
                );
                let first = first.get_or_insert_with(|| shaped.clone());
                assert_eq!(shaped.words.len(), first.words.len());
                assert_eq!(
                    AttentionPlan { words: Vec::new(), ..shaped.clone() },
                    AttentionPlan { words: Vec::new(), ..first.clone() }
                );
                let lists =
                    |plan: &AttentionPlan| [plan.rows[0], plan.rows[1], plan.rows[2], plan.tiles, plan.combined];
                for (own_list, list) in lists(&own).into_iter().zip(lists(&shaped)) {
                    assert!(own_list.rows_max <= list.rows_max);
                    // Where tables and partial results lie is each plan's own.
                    let work = |plan: &AttentionPlan, list| -> Vec<(Vec<u32>, Vec<u32>, bool)> {
                        let some = items(plan, list).into_iter().filter(|item| item[5] > 0);
                        some.map(|item| {
                            let blocks = &plan.words[item[3] as usize..][..(item[2] as usize).div_ceil(16)];
                            ([&item[..3], &item[4..8]].concat(), blocks.to_vec(), item[8] == NO_PARTIAL)
                        })
                        .collect()
                    };
                    assert_eq!(work(&own, own_list), work(&shaped, list), "{shape:?}, {lens:?}");
                }
                assert_partials_are_owned_once(&shaped);
            }
        }
    }

    /// Every partial result is written by one row of one item, inside the buffer, and read by one combination.
    fn assert_partials_are_owned_once(plan: &AttentionPlan) {
        let mut written = vec![0; plan.num_partials];
        for list in [plan.rows[0], plan.rows[1], plan.rows[2], plan.tiles] {
            for item in items(plan, list).into_iter().filter(|item| item[5] > 0 && item[8] != NO_PARTIAL) {
                (item[8]..item[8] + item[5]).for_each(|row| written[row as usize] += 1);
            }
        }
        for item in items(plan, plan.combined).into_iter().filter(|item| item[5] > 0) {
            (item[8]..item[8] + item[5] * item[7]).for_each(|row| written[row as usize] -= 1);
        }
        assert!(written.iter().all(|&count| count == 0), "a partial result has two owners, or none");
    }

    #[test]
    fn a_row_is_divided_alike_in_any_batch() {
        let alone = AttentionPlan::new(&[sequence(0, 1, 1000)], 1, Some(TILE_ROWS), Fastest);
        let others = [sequence(0, 1, 1000), sequence(1, 1, 300), sequence(2, 70, 90)];
        let together = AttentionPlan::new(&others, 1, Some(TILE_ROWS), Fastest);
        let spans = |plan: &AttentionPlan| -> Vec<Vec<u32>> {
            let all = items(plan, plan.rows[0]).into_iter().filter(|item| item[0] == 0);
            all.map(|item| item[4..8].to_vec()).collect()
        };
        assert_eq!(spans(&alone), spans(&together));
    }

    /// Decode, a chunk and a whole prompt divide the positions of a row at the same places, for one body.
    #[test]
    fn a_row_of_batch_invariant_sums_is_divided_alike_in_any_chunk() {
        for tile_rows in [None, Some(TILE_ROWS)] {
            let divided = |sequence: BatchSequence, query: usize| {
                let plan = AttentionPlan::new(&[sequence], 1, tile_rows, BatchInvariant);
                assert_eq!((plan.rows[0].count, plan.rows[1].count), (0, 0));
                let list = if tile_rows.is_some() { plan.tiles } else { plan.rows[2] };
                let holds = |item: &&[u32]| (item[4]..item[4] + item[5]).contains(&(query as u32));
                // Spans past the row's own position give it nothing.
                let spans = items(&plan, list).into_iter().filter(holds).filter(|item| item[6] <= 599);
                spans.map(|item| (item[6], item[7].min(600))).collect::<Vec<_>>()
            };
            let alone = divided(sequence(0, 1, 600), 0);
            assert_eq!(alone, [(0, 256), (256, 512), (512, 600)]);
            assert_eq!(divided(sequence(0, 70, 660), 9), alone);
            assert_eq!(divided(sequence(0, 3, 600), 2), alone);
            assert_eq!(divided(sequence(0, 600, 600), 599), alone);
        }
    }
}
