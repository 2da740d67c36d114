//! Rotary embedding and KV write in one: what a layer does between its first product and attention.

use candle_core::{Result, Tensor, bail};

use super::{kv_write, rope};

/// The angles of a step's rows, and where their keys and values go.
#[derive(Clone, Copy, Debug)]
pub struct RopeKvWrite<'a> {
    /// `[rows, head_dim / 2]`, f32.
    pub cos: &'a Tensor,
    /// `[rows, head_dim / 2]`, f32.
    pub sin: &'a Tensor,
    /// `[rows]`, u32.
    pub slots: &'a Tensor,
    /// `[num_slots, kv_width]`.
    pub keys: &'a Tensor,
    /// `[num_slots, kv_width]`.
    pub values: &'a Tensor,
}

/// Of rows of queries, keys and values (`qkv`, `[rows, q_width + 2 * kv_width]`, types as of [`rope`] and [`kv_write`]):
/// turns the queries in place, and writes turned keys, and values, into their slots. What stands in the keys of `qkv`
/// afterwards is left open.
///
/// # Errors
/// As [`rope`] and [`kv_write`].
pub fn rope_kv_write(qkv: &Tensor, to: &RopeKvWrite<'_>) -> Result<()> {
    let kv_width = to.keys.dim(1)?;
    let (_, width) = qkv.dims2()?;
    let Some(q_width) = width.checked_sub(2 * kv_width) else {
        bail!("rope_kv_write: rows of {width}, planes of {kv_width}")
    };
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = qkv.device() {
        return super::cuda::rope_kv_write(device, qkv, to);
    }
    rope(&qkv.narrow(1, 0, q_width + kv_width)?, to.cos, to.sin)?;
    kv_write(to.keys, &qkv.narrow(1, q_width, kv_width)?, to.slots)?;
    kv_write(to.values, &qkv.narrow(1, q_width + kv_width, kv_width)?, to.slots)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::kernels::testing::{assert_close, devices, noise};

    #[test]
    fn every_device_does_what_the_two_do_one_after_the_other() -> Result<()> {
        let (rows, heads, kv_heads, head_dim, num_slots) = (3, 4, 2, 64, 7);
        let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        let qkv = Tensor::from_vec(noise(rows * (q_width + 2 * kv_width), 1), (rows, ()), &Device::Cpu)?;
        let angles = Tensor::from_vec(noise(rows * head_dim / 2, 2), (rows, ()), &Device::Cpu)?;
        let slots = Tensor::new(&[6u32, 0, 3], &Device::Cpu)?;
        for device in devices() {
            let types: &[DType] = if device.is_cpu() { &[DType::F32] } else { &[DType::F32, DType::BF16] };
            for &dtype in types {
                let run = |device: &Device, dtype: DType, is_fused: bool| -> Result<[Tensor; 3]> {
                    let qkv = qkv.to_device(device)?.copy()?;
                    let (cos, sin) = (angles.cos()?.to_device(device)?, angles.sin()?.to_device(device)?);
                    let slots = slots.to_device(device)?;
                    let keys = Tensor::zeros((num_slots, kv_width), dtype, device)?;
                    let values = Tensor::zeros((num_slots, kv_width), dtype, device)?;
                    if is_fused {
                        let (cos, sin, slots, keys, values) = (&cos, &sin, &slots, &keys, &values);
                        rope_kv_write(&qkv, &RopeKvWrite { cos, sin, slots, keys, values })?;
                    } else {
                        rope(&qkv.narrow(1, 0, q_width + kv_width)?, &cos, &sin)?;
                        kv_write(&keys, &qkv.narrow(1, q_width, kv_width)?, &slots)?;
                        kv_write(&values, &qkv.narrow(1, q_width + kv_width, kv_width)?, &slots)?;
                    }
                    Ok([qkv.narrow(1, 0, q_width)?, keys, values])
                };
                let expected = run(&Device::Cpu, DType::F32, false)?;
                let tolerance = if dtype == DType::F32 { 1e-5 } else { 1e-2 };
                for (found, expected) in run(&device, dtype, true)?.iter().zip(&expected) {
                    assert_close(found, expected, tolerance, &format!("{dtype:?}"))?;
                }
            }
        }
        Ok(())
    }
}
