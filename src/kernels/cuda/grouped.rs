//! Products in which every row chooses its matrix, without the host learning what was chosen: launches have as many
//! blocks as there could be work for.

use candle_core::{CudaStorage, DType, Layout, Result, Shape, bail};

use super::launch::{Arguments, Grid, launch};
use super::matmul::{GEMV_OUTPUTS, SKINNY_OUTPUTS, SKINNY_STEP, SKINNY_THREADS, rounded};
use super::operand::{Operand, address, output, output_of};
use super::planar::{self, layout_name, rounded_blocks, weight_address};
use crate::kernels::block_matrix::BLOCK_LEN;
use crate::kernels::pair_groups::{SortPairs, num_items, outputs_of_group, pairs_per_row};
use crate::kernels::planar::Planes;
use crate::kernels::{PairGroups, Sums};

/// Groups that the one block of `group_pairs` counts in shared memory.
const GROUPS_MAX: usize = 512;
const SORT_THREADS: usize = 512;
/// Pairs of an item from which on bf16 weights go through the matrix units.
const TILED_FROM: usize = 16;

#[derive(Clone, Copy)]
#[repr(C)]
struct GroupPairsArgs {
    ids: u64,
    order: u64,
    items: u64,
    num_pairs: i32,
    num_groups: i32,
    tile: i32,
    num_items: i32,
}
const _: () = assert!(size_of::<GroupPairsArgs>() == 40);
// SAFETY: as `GroupPairsArgs` of kernels/grouped.cu; the buffer is made for the pairs and the items.
unsafe impl Arguments for GroupPairsArgs {}

/// `sort_pairs`. Ids are not read back: one that is no group is taken for the last.
pub(crate) fn sort_pairs(sort: &SortPairs, ids: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
    const OP: &str = "sort_pairs";
    let device = &ids.device;
    let num_pairs = layout.shape().elem_count();
    let ids = Operand::vector(ids, layout, &[DType::U32], num_pairs, OP)?;
    let num_words = sort.num_words(num_pairs)?;
    if sort.num_groups > GROUPS_MAX {
        bail!("{OP}: {} groups, on a GPU at most {GROUPS_MAX}", sort.num_groups)
    }
    let words = output::<u32>(device, num_words)?;
    let order = address(&words, device);
    let arguments = GroupPairsArgs {
        ids,
        order,
        items: items_address(order, num_pairs),
        num_pairs: num_pairs as i32,
        num_groups: sort.num_groups as i32,
        tile: sort.tile as i32,
        num_items: num_items(num_pairs, sort.num_groups, sort.tile) as i32,
    };
    launch(device, "grouped", "group_pairs", Grid::new([1, 1, 1], SORT_THREADS), arguments)?;
    Ok((CudaStorage::wrap_cuda_slice(words, device.clone()), Shape::from(num_words)))
}

/// Items lie behind the order.
fn items_address(order: u64, num_pairs: usize) -> u64 {
    order + (num_pairs * size_of::<u32>()) as u64
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Pairs {
    ids: u64,
    order: u64,
    items: u64,
    per_row: i32,
    num_groups: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct GroupedArgs {
    pairs: Pairs,
    xs: u64,
    weight: u64,
    ys: u64,
    xs_stride: i64,
    inputs: i32,
    outputs: i32,
}
const _: () = assert!(size_of::<GroupedArgs>() == 72);
// SAFETY: as `GroupedArgs` of kernels/grouped.cu; `Operand` checked where the rows end, the kernel holds ids to groups.
unsafe impl Arguments for GroupedArgs {}

#[derive(Clone, Copy)]
#[repr(C)]
struct GroupedBlocksArgs {
    product: GroupedArgs,
    x_quants: u64,
    x_scales: u64,
    x_sums: u64,
    scales: i64,
    mins: i64,
    zero: i32,
    unused: i32,
}
const _: () = assert!(size_of::<GroupedBlocksArgs>() == 120);
// SAFETY: as `GroupedBlocksArgs` of kernels/grouped.cu; `weight_address` checked the planes' size.
unsafe impl Arguments for GroupedBlocksArgs {}

impl Pairs {
    /// The pairs of `rows` rows of x, sorted where several may share an item.
    fn of(groups: &PairGroups, rows: usize, op: &'static str) -> Result<Self> {
        let num_pairs = groups.num_pairs();
        let per_row = pairs_per_row(num_pairs, rows, op)? as i32;
        let ids = Operand::vector_of(groups.ids(), &[DType::U32], num_pairs, op)?;
        let (mut order, mut items) = (0, 0);
        if groups.tile() > 1 {
            let sorted = groups.sorted()?;
            order = Operand::vector_of(sorted, &[DType::U32], sorted.elem_count(), op)?;
            items = items_address(order, num_pairs);
        }
        Ok(Self { ids, order, items, per_row, num_groups: groups.num_groups() as i32 })
    }
}

/// A block per item, and along the outputs one per `per_block` of them.
fn grid(groups: &PairGroups, outputs: usize, per_block: usize, threads: usize) -> Grid {
    Grid::new([groups.num_items(), outputs.div_ceil(per_block), 1], threads)
}

/// `grouped_matmul` of f32 rows and f32 or bf16 weights.
///
/// Batch-invariant sums take one body by type and width alone. How pairs are cut into items depends on how many there
/// are, and changes no sum: a body adds up a pair's products in one order, in whichever place of an item it is.
pub(crate) fn grouped_matmul(
    groups: &PairGroups,
    sums: Sums,
    xs: (&CudaStorage, &Layout),
    weights: (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    const OP: &str = "grouped_matmul";
    let device = &xs.0.device;
    let xs = Operand::of(xs.0, xs.1, &[DType::F32], OP)?;
    let weight = Operand::of(weights.0, weights.1, &[DType::F32, DType::BF16], OP)?;
    let outputs = outputs_of_group([xs.width, weight.width], weight.rows, groups.num_groups(), OP)?;
    if weight.stride as usize != weight.width {
        bail!("{OP}: rows of {} that lie {} apart", weight.width, weight.stride)
    }
    let is_invariant = sums == Sums::BatchInvariant;
    if is_invariant && xs.stride as usize != xs.width {
        bail!("{OP}: rows of {} that lie {} apart have no batch-invariant sums", xs.width, xs.stride)
    }
    let pairs = Pairs::of(groups, xs.rows, OP)?;
    let (ys, ys_address) = output_of(device, DType::F32, groups.num_pairs() * outputs)?;
    let product = Product { groups, pairs, xs, weight: weight.address, outputs, ys: ys_address };
    let is_tiled = weight.dtype == DType::BF16 && (is_invariant || groups.tile() >= TILED_FROM);
    if is_tiled && weight.is_packed() && xs.width.is_multiple_of(SKINNY_STEP) {
        // The buffer is given back in the order of the stream: after the product.
        let (xs, _buffer) = rounded(device, xs)?;
        let name = format!("grouped_tiles_bf16_{}", product.tile_variant());
        launch(device, "grouped", &name, product.tiles(), Product { xs, ..product }.arguments())?;
    } else {
        let variant = match xs.is_packed() && weight.is_packed() {
            true if is_invariant => "4",
            true => product.warp_variant(),
            false => "any",
        };
        let name = format!("grouped_gemv_{}_{variant}", weight.name());
        launch(device, "grouped", &name, grid(groups, outputs, GEMV_OUTPUTS, 32 * GEMV_OUTPUTS), product.arguments())?;
    }
    Ok((ys, Shape::from((groups.num_pairs(), outputs))))
}

/// `grouped_planar_matmul` of f32 rows. Batch-invariant sums take the weights as they lie for any number of tokens;
/// whole numbers and one rounding after the other give a pair the same bits in either variant.
pub(crate) fn grouped_planar_matmul(
    planes: &Planes,
    sums: Sums,
    groups: &PairGroups,
    xs: (&CudaStorage, &Layout),
    weight: (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    const OP: &str = "grouped_planar_matmul";
    let device = &xs.0.device;
    let xs = Operand::of(xs.0, xs.1, &[DType::F32], OP)?;
    if planes.has_halves {
        bail!("{OP}: weights with a scale for each 16 have no kernel for groups")
    }
    let widths = [xs.width, planes.blocks * BLOCK_LEN];
    let outputs = outputs_of_group(widths, planes.rows, groups.num_groups(), OP)?;
    let weight = weight_address(planes, weight.0, weight.1)?;
    let pairs = Pairs::of(groups, xs.rows, OP)?;
    let (ys, ys_address) = output_of(device, DType::F32, groups.num_pairs() * outputs)?;
    let product = Product { groups, pairs, xs, weight, outputs, ys: ys_address };
    let layout = layout_name(planes);
    let arguments = GroupedBlocksArgs {
        product: product.arguments(),
        x_quants: 0,
        x_scales: 0,
        x_sums: 0,
        scales: planes.scales as i64,
        mins: planes.mins as i64,
        zero: planes.zero,
        unused: 0,
    };
    if sums == Sums::Fastest && groups.num_tokens() > planar::ROWS_MAX {
        let (xs, _buffer) = rounded(device, xs)?;
        let arguments = GroupedBlocksArgs { product: Product { xs, ..product }.arguments(), ..arguments };
        let name = format!("grouped_tiles_{layout}_{}", product.tile_variant());
        launch(device, "grouped", &name, product.tiles(), arguments)?;
    } else {
        let x = rounded_blocks(device, xs)?;
        let arguments = GroupedBlocksArgs { x_quants: x.quants, x_scales: x.scales, x_sums: x.sums, ..arguments };
        let name = format!("grouped_blocks_{layout}_{}", product.warp_variant());
        let grid = grid(groups, outputs, planar::OUTPUTS, 32 * planar::OUTPUTS);
        launch(device, "grouped", &name, grid, arguments)?;
    }
    Ok((ys, Shape::from((groups.num_pairs(), outputs))))
}

/// A checked product, and where it goes.
#[derive(Clone, Copy)]
struct Product<'a> {
    groups: &'a PairGroups,
    pairs: Pairs,
    xs: Operand,
    weight: u64,
    outputs: usize,
    ys: u64,
}

impl Product<'_> {
    fn tiles(&self) -> Grid {
        grid(self.groups, self.outputs, SKINNY_OUTPUTS, SKINNY_THREADS)
    }

    /// Matrices of eight pairs that hold an item, as the kernels' names spell it.
    fn tile_variant(&self) -> &'static str {
        if self.groups.tile() <= 16 { "2" } else { "8" }
    }

    /// Pairs that a warp multiplies at a time, as the kernels' names spell it.
    fn warp_variant(&self) -> &'static str {
        if self.groups.tile() == 1 { "1" } else { "4" }
    }

    fn arguments(&self) -> GroupedArgs {
        GroupedArgs {
            pairs: self.pairs,
            xs: self.xs.address,
            weight: self.weight,
            ys: self.ys,
            xs_stride: self.xs.stride,
            inputs: self.xs.width as i32,
            outputs: self.outputs as i32,
        }
    }
}
