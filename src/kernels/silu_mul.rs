//! `y = silu(gate) * up`, where `silu(x) = x / (1 + e^-x)`: the gate of a SwiGLU feed-forward layer.
#![allow(unsafe_code)]

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::lanes::{Lanes, WithLanes, dispatch};
use super::operand::{Matrix, elements};
use super::parallel::{Shared, for_each_range};

const OP: &str = "silu_mul";

/// Of `gate_up` (`[rows, 2 * width]`, f32: each row a gate half and an up half), `[rows, width]` of `silu(gate) * up`.
///
/// # Errors
/// When shape or type is not this.
pub fn silu_mul(gate_up: &Tensor) -> Result<Tensor> {
    gate_up.apply_op1_no_bwd(&SiluMul)
}

struct SiluMul;

impl CustomOp1 for SiluMul {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, gate_up: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let matrix = Matrix::of(layout, OP)?;
        let gate_up = elements::<f32>(gate_up, &matrix, OP)?;
        if matrix.width % 2 != 0 {
            bail!("{OP}: a row of {} has no two halves", matrix.width)
        }
        let width = matrix.width / 2;
        let mut ys = vec![0f32; matrix.rows * width];
        let shared = Shared::new(&mut ys);
        for_each_range(matrix.rows, 4 * width, |rows| {
            for row_idx in rows {
                let (gate, up) = matrix.row(gate_up, row_idx).split_at(width);
                // SAFETY: each row is written by the one thread that got its index.
                dispatch(Row { gate, up, ys: unsafe { shared.part(row_idx * width, width) } });
            }
        });
        Ok((CpuStorage::F32(ys), Shape::from((matrix.rows, width))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        gate_up: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::silu_mul(gate_up, layout)
    }
}

/// One row; all slices have its width.
struct Row<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    ys: &'a mut [f32],
}

impl WithLanes for Row<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let width = self.ys.len();
        let whole = width - width % L::WIDTH;
        // SAFETY: loads and stores stay below `whole`, or read only the `rest` elements after it; the tail is stored
        // through a buffer of a lane's width.
        unsafe {
            for i in (0..whole).step_by(L::WIDTH) {
                let (gate, up) = (L::load(self.gate.as_ptr().add(i)), L::load(self.up.as_ptr().add(i)));
                silu_times(gate, up).store(self.ys.as_mut_ptr().add(i));
            }
            let rest = width - whole;
            if rest > 0 {
                let gate = L::load_partial(self.gate.as_ptr().add(whole), rest);
                let up = L::load_partial(self.up.as_ptr().add(whole), rest);
                let mut buffer = [0f32; 16];
                silu_times(gate, up).store(buffer.as_mut_ptr());
                self.ys[whole..].copy_from_slice(&buffer[..rest]);
            }
        }
    }
}

#[inline(always)]
unsafe fn silu_times<L: Lanes>(gate: L, up: L) -> L {
    // SAFETY: same instructions as the caller's.
    unsafe {
        let one = L::splat(1.0);
        gate.mul(up).div(one.add(gate.mul(L::splat(-1.0)).exp()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_row_is_the_textbook_formula_whatever_its_width() -> Result<()> {
        for width in [1, 16, 21] {
            let values: Vec<f32> = (0..6 * width).map(|i| ((i * 37) % 41) as f32 - 20.0).collect();
            let gate_up = Tensor::from_vec(values, (3, 2 * width), &Device::Cpu)?;
            let ys = silu_mul(&gate_up)?.to_vec2::<f32>()?;
            for (row, ys) in gate_up.to_vec2::<f32>()?.into_iter().zip(ys) {
                for i in 0..width {
                    let (gate, up) = (f64::from(row[i]), f64::from(row[width + i]));
                    let expected = gate / (1.0 + (-gate).exp()) * up;
                    assert!((f64::from(ys[i]) - expected).abs() <= 1e-6 * expected.abs() + 1e-12);
                }
            }
        }
        Ok(())
    }
}
