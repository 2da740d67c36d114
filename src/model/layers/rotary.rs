use std::f64::consts::TAU;

use candle_core::{Device, Tensor};

use crate::kernels;
use crate::model::ModelError;
use crate::model::config::{RopeScaling, Yarn};

/// Angles by which heads are turned at each position.
pub(crate) struct RotaryEmbedding {
    inv_freq: Vec<f32>,
    /// Factor on cosines and sines.
    magnitude: f32,
    device: Device,
}

impl RotaryEmbedding {
    /// For heads whose `dim` elements all turn, the slowest pair by about `1 / theta` per position.
    pub(crate) fn new(dim: usize, theta: f64, scaling: &RopeScaling, device: &Device) -> Self {
        let inv_freq = |i: usize| theta.powf(-((2 * i) as f64) / dim as f64);
        let ramp = match scaling {
            RopeScaling::Yarn(yarn) => yarn_ramp(yarn, dim, theta),
            _ => (0.0, 0.0),
        };
        let magnitude = match scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            _ => 1.0,
        };
        let inv_freq = (0..dim / 2).map(|i| scaled(inv_freq(i), i, scaling, ramp) as f32).collect();
        Self { inv_freq, magnitude: magnitude as f32, device: device.clone() }
    }

    /// Cosines and sines of the angles at `positions`, each `[n, dim / 2]`, f32.
    pub(crate) fn angles(&self, positions: &[u32]) -> Result<(Tensor, Tensor), ModelError> {
        let shape = (positions.len(), self.inv_freq.len());
        let angles = positions.iter().flat_map(|&position| self.inv_freq.iter().map(move |f| position as f32 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            angles.map(|angle| (angle.cos() * self.magnitude, angle.sin() * self.magnitude)).unzip();
        Ok((Tensor::from_vec(cos, shape, &self.device)?, Tensor::from_vec(sin, shape, &self.device)?))
    }

    /// The angles at the positions below `len`: `4 * dim * len` bytes.
    pub(crate) fn table(&self, len: usize) -> Result<AngleTable, ModelError> {
        let (cos, sin) = self.angles(&(0..len as u32).collect::<Vec<_>>())?;
        Ok(AngleTable { cos, sin })
    }
}

/// The angles of the first positions, on the device: what [`RotaryEmbedding::angles`] computes, to the bit.
pub(crate) struct AngleTable {
    cos: Tensor,
    sin: Tensor,
}

impl AngleTable {
    /// Cosines and sines at `positions` (`[n]`, u32, on the table's device, each below its length), each
    /// `[n, dim / 2]`, f32.
    pub(crate) fn at(&self, positions: &Tensor) -> Result<(Tensor, Tensor), ModelError> {
        Ok((kernels::gather(&self.cos, positions)?, kernels::gather(&self.sin, positions)?))
    }
}

/// The frequency of pair `i`; `ramp` is [`yarn_ramp`]'s.
fn scaled(inv_freq: f64, i: usize, scaling: &RopeScaling, ramp: (f64, f64)) -> f64 {
    match scaling {
        RopeScaling::Default => inv_freq,
        RopeScaling::Linear { factor } => inv_freq / factor,
        RopeScaling::Factors(factors) => inv_freq / factors.get(i).map_or(1.0, |&factor| f64::from(factor)),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            // How many turns a head makes over the context the model was trained on, between the two bounds.
            let turns = original_max_position_embeddings * inv_freq / TAU;
            let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
            kept * inv_freq + (1.0 - kept) * inv_freq / factor
        }
        RopeScaling::Yarn(Yarn { factor, .. }) => {
            let divided = ((i as f64 - ramp.0) / (ramp.1 - ramp.0)).clamp(0.0, 1.0);
            (1.0 - divided) * inv_freq + divided * inv_freq / factor
        }
    }
}

/// The pairs between which YaRN goes over from keeping frequencies to dividing them.
fn yarn_ramp(yarn: &Yarn, dim: usize, theta: f64) -> (f64, f64) {
    // The pair that makes so many turns over the context the model was trained on.
    let pair =
        |turns: f64| dim as f64 * (yarn.original_max_position_embeddings / (turns * TAU)).ln() / (2.0 * theta.ln());
    let (low, high) = (pair(yarn.beta_fast), pair(yarn.beta_slow));
    let (low, high) = if yarn.truncate { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min((dim - 1) as f64));
    if low == high { (low, high + 0.001) } else { (low, high) }
}
