use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, Tensor, bail};

use super::launch::{Arguments, Grid, launch};
use super::operand::{Operand, output_of};
use crate::kernels::RopeKvWrite;

const FLOATS: [DType; 2] = [DType::F32, DType::BF16];

#[derive(Clone, Copy)]
#[repr(C)]
struct RopeArgs {
    xs: u64,
    cos: u64,
    sin: u64,
    xs_stride: i64,
    cos_stride: i64,
    sin_stride: i64,
    width: i32,
    half: i32,
}
const _: () = assert!(size_of::<RopeArgs>() == 56);
// SAFETY: as `RopeArgs` of kernels/rows.cu; `Operand` checked where the rows end.
unsafe impl Arguments for RopeArgs {}

/// `rope` of f32 or bf16 rows, in place; the angles are f32.
pub(crate) fn rope(
    xs: &CudaStorage,
    xs_l: &Layout,
    cos: (&CudaStorage, &Layout),
    sin: (&CudaStorage, &Layout),
) -> Result<()> {
    const OP: &str = "rope";
    let rows = Operand::of(xs, xs_l, &FLOATS, OP)?;
    let cos = Operand::of(cos.0, cos.1, &[DType::F32], OP)?;
    let sin = Operand::of(sin.0, sin.1, &[DType::F32], OP)?;
    let half = cos.width;
    if half == 0 || !rows.width.is_multiple_of(2 * half) || sin.width != half {
        bail!("{OP}: rows of {} do not hold heads of twice {half} and {}", rows.width, sin.width)
    }
    if [cos.rows, sin.rows] != [rows.rows; 2] || (rows.stride as usize) < rows.width {
        bail!("{OP}: {} rows, angles for {} and {}", rows.rows, cos.rows, sin.rows)
    }
    let arguments = RopeArgs {
        xs: rows.address,
        cos: cos.address,
        sin: sin.address,
        xs_stride: rows.stride,
        cos_stride: cos.stride,
        sin_stride: sin.stride,
        width: rows.width as i32,
        half: half as i32,
    };
    launch(&xs.device, "rows", &format!("rope_{}", rows.name()), Grid::rows(rows.rows, rows.width, 2), arguments)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct KvWriteArgs {
    plane: u64,
    rows: u64,
    slots: u64,
    plane_stride: i64,
    rows_stride: i64,
    num_slots: u32,
    width: i32,
}
const _: () = assert!(size_of::<KvWriteArgs>() == 48);
// SAFETY: as `KvWriteArgs` of kernels/rows.cu; `Operand` checked where rows and plane end, the kernel checks slots.
unsafe impl Arguments for KvWriteArgs {}

/// `kv_write` of f32 or bf16 rows into a plane of the same type, or of f32 rows into one of bf16.
///
/// Slots lie on the device and are not read back: one outside the plane writes nothing. The model checks the batch.
pub(crate) fn kv_write(
    plane: &CudaStorage,
    plane_l: &Layout,
    rows: (&CudaStorage, &Layout),
    slots: (&CudaStorage, &Layout),
) -> Result<()> {
    const OP: &str = "kv_write";
    let device = &plane.device;
    let plane = Operand::of(plane, plane_l, &FLOATS, OP)?;
    let types: &[DType] = if plane.dtype == DType::F32 { &[DType::F32] } else { &FLOATS };
    let rows = Operand::of(rows.0, rows.1, types, OP)?;
    let slots = Operand::vector(slots.0, slots.1, &[DType::U32], rows.rows, OP)?;
    if plane.width != rows.width {
        bail!("{OP}: rows of {} into a plane of {}", rows.width, plane.width)
    }
    let arguments = KvWriteArgs {
        plane: plane.address,
        rows: rows.address,
        slots,
        plane_stride: plane.stride,
        rows_stride: rows.stride,
        num_slots: plane.rows as u32,
        width: rows.width as i32,
    };
    let name = format!("kv_write_{}_{}", rows.name(), plane.name());
    launch(device, "rows", &name, Grid::rows(rows.rows, rows.width, 1), arguments)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct RopeKvWriteArgs {
    qkv: u64,
    cos: u64,
    sin: u64,
    slots: u64,
    keys: u64,
    values: u64,
    qkv_stride: i64,
    cos_stride: i64,
    sin_stride: i64,
    keys_stride: i64,
    values_stride: i64,
    num_slots: u32,
    q_width: i32,
    kv_width: i32,
    half: i32,
}
const _: () = assert!(size_of::<RopeKvWriteArgs>() == 104);
// SAFETY: as `RopeKvWriteArgs` of kernels/rows.cu; `Operand` checked where rows and planes end, the kernel checks slots.
unsafe impl Arguments for RopeKvWriteArgs {}

/// `rope_kv_write`, of the types that [`rope`] and [`kv_write`] take. The keys within `qkv` stay as they were.
pub(crate) fn rope_kv_write(device: &CudaDevice, qkv: &Tensor, to: &RopeKvWrite<'_>) -> Result<()> {
    const OP: &str = "rope_kv_write";
    let keys = Operand::of_tensor(to.keys, &FLOATS, OP)?;
    let values = Operand::of_tensor(to.values, &[keys.dtype], OP)?;
    let types: &[DType] = if keys.dtype == DType::F32 { &[DType::F32] } else { &FLOATS };
    let rows = Operand::of_tensor(qkv, types, OP)?;
    let cos = Operand::of_tensor(to.cos, &[DType::F32], OP)?;
    let sin = Operand::of_tensor(to.sin, &[DType::F32], OP)?;
    let slots = Operand::vector_of(to.slots, &[DType::U32], rows.rows, OP)?;
    let (half, kv_width) = (cos.width, keys.width);
    let q_width = rows.width.saturating_sub(2 * kv_width);
    let holds_heads = |width: usize| width > 0 && width.is_multiple_of(2 * half);
    if half == 0 || sin.width != half || values.width != kv_width || !holds_heads(q_width) || !holds_heads(kv_width) {
        bail!("{OP}: rows of {}, planes of {kv_width} and {}, heads of twice {half}", rows.width, values.width)
    }
    if [cos.rows, sin.rows] != [rows.rows; 2] || (rows.stride as usize) < rows.width {
        bail!("{OP}: {} rows, angles for {} and {}", rows.rows, cos.rows, sin.rows)
    }
    let arguments = RopeKvWriteArgs {
        qkv: rows.address,
        cos: cos.address,
        sin: sin.address,
        slots,
        keys: keys.address,
        values: values.address,
        qkv_stride: rows.stride,
        cos_stride: cos.stride,
        sin_stride: sin.stride,
        keys_stride: keys.stride,
        values_stride: values.stride,
        num_slots: keys.rows.min(values.rows) as u32,
        q_width: q_width as i32,
        kv_width: kv_width as i32,
        half: half as i32,
    };
    let name = format!("rope_kv_write_{}_{}", rows.name(), keys.name());
    launch(device, "rows", &name, Grid::rows(rows.rows, rows.width, 2), arguments)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct SiluMulArgs {
    gate_up: u64,
    ys: u64,
    stride: i64,
    width: i32,
    unused: i32,
}
const _: () = assert!(size_of::<SiluMulArgs>() == 32);
// SAFETY: as `SiluMulArgs` of kernels/rows.cu; `Operand` checked where the rows end.
unsafe impl Arguments for SiluMulArgs {}

/// `silu_mul` of f32 or bf16 rows.
pub(crate) fn silu_mul(gate_up: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
    const OP: &str = "silu_mul";
    let rows = Operand::of(gate_up, layout, &FLOATS, OP)?;
    if !rows.width.is_multiple_of(2) {
        bail!("{OP}: a row of {} has no two halves", rows.width)
    }
    let width = rows.width / 2;
    let (ys, address) = output_of(&gate_up.device, rows.dtype, rows.rows * width)?;
    let arguments =
        SiluMulArgs { gate_up: rows.address, ys: address, stride: rows.stride, width: width as i32, unused: 0 };
    let bytes = rows.dtype.size_in_bytes();
    let is_packed = rows.is_packed() && (width * bytes).is_multiple_of(16);
    let (any, per_thread) = if is_packed { ("", 16 / bytes) } else { ("_any", 1) };
    let name = format!("silu_mul_{}{any}", rows.name());
    launch(&gate_up.device, "rows", &name, Grid::rows(rows.rows, width, per_thread), arguments)?;
    Ok((ys, Shape::from((rows.rows, width))))
}

#[derive(Clone, Copy)]
#[repr(C)]
struct AddArgs {
    ys: u64,
    xs: u64,
    ys_stride: i64,
    xs_stride: i64,
    width: i32,
    unused: i32,
}
const _: () = assert!(size_of::<AddArgs>() == 40);
// SAFETY: as `AddArgs` of kernels/rows.cu; `Operand` checked where the rows end.
unsafe impl Arguments for AddArgs {}

/// `add_assign` of f32 or bf16 rows, both of one type.
pub(crate) fn add_assign(ys: &CudaStorage, ys_l: &Layout, xs: &CudaStorage, xs_l: &Layout) -> Result<()> {
    const OP: &str = "add_assign";
    let device = &ys.device;
    let ys = Operand::of(ys, ys_l, &FLOATS, OP)?;
    let (address, stride) = match xs_l.dims().len() {
        1 => (Operand::vector(xs, xs_l, &[ys.dtype], ys.width, OP)?, 0),
        _ => {
            let xs = Operand::of(xs, xs_l, &[ys.dtype], OP)?;
            if (xs.rows, xs.width) != (ys.rows, ys.width) {
                bail!("{OP}: {} x {} to {} x {}", xs.rows, xs.width, ys.rows, ys.width)
            }
            (xs.address, xs.stride)
        }
    };
    if (ys.stride as usize) < ys.width {
        bail!("{OP}: rows of {} overlap, {} apart", ys.width, ys.stride)
    }
    let arguments = AddArgs {
        ys: ys.address,
        xs: address,
        ys_stride: ys.stride,
        xs_stride: stride,
        width: ys.width as i32,
        unused: 0,
    };
    launch(device, "rows", &format!("add_assign_{}", ys.name()), Grid::rows(ys.rows, ys.width, 1), arguments)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct GatherArgs {
    rows: u64,
    ids: u64,
    ys: u64,
    stride: i64,
    num_rows: u32,
    width: i32,
}
const _: () = assert!(size_of::<GatherArgs>() == 40);
// SAFETY: as `GatherArgs` of kernels/rows.cu; `Operand` checked where the rows end, the kernel checks ids.
unsafe impl Arguments for GatherArgs {}

/// `gather` of f32 or bf16 rows, to f32.
///
/// Ids lie on the device and are not read back: one past the rows gives zeros. The model checks the batch.
pub(crate) fn gather(
    rows: &CudaStorage,
    rows_l: &Layout,
    ids: &CudaStorage,
    ids_l: &Layout,
) -> Result<(CudaStorage, Shape)> {
    const OP: &str = "gather";
    let device = &rows.device;
    let rows = Operand::of(rows, rows_l, &FLOATS, OP)?;
    let num_ids = ids_l.shape().elem_count();
    let ids = Operand::vector(ids, ids_l, &[DType::U32], num_ids, OP)?;
    let (ys, address) = output_of(device, DType::F32, num_ids * rows.width)?;
    let arguments = GatherArgs {
        rows: rows.address,
        ids,
        ys: address,
        stride: rows.stride,
        num_rows: rows.rows as u32,
        width: rows.width as i32,
    };
    let name = format!("gather_{}", rows.name());
    launch(device, "rows", &name, Grid::rows(num_ids, rows.width, 1), arguments)?;
    Ok((ys, Shape::from((num_ids, rows.width))))
}
