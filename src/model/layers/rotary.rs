use std::f64::consts::TAU;

use candle_core::{Device, Tensor};

use crate::model::ModelError;
use crate::model::config::{LlamaConfig, RopeScaling};

/// Angles by which heads are turned at each position.
pub(crate) struct RotaryEmbedding {
    inv_freq: Vec<f32>,
    device: Device,
}

impl RotaryEmbedding {
    pub(crate) fn new(config: &LlamaConfig, device: &Device) -> Self {
        let dim = config.head_dim;
        let base = |i: usize| config.rope_theta.powf(-((2 * i) as f64) / dim as f64);
        let inv_freq = (0..dim / 2).map(|i| scaled(base(i), i, &config.rope_scaling) as f32).collect();
        Self { inv_freq, device: device.clone() }
    }

    /// Cosines and sines of the angles at `positions`, each `[n, head_dim / 2]`, f32.
    pub(crate) fn angles(&self, positions: &[u32]) -> Result<(Tensor, Tensor), ModelError> {
        let shape = (positions.len(), self.inv_freq.len());
        let angles = positions.iter().flat_map(|&position| self.inv_freq.iter().map(move |f| position as f32 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Ok((Tensor::from_vec(cos, shape, &self.device)?, Tensor::from_vec(sin, shape, &self.device)?))
    }
}

fn scaled(inv_freq: f64, i: usize, scaling: &RopeScaling) -> f64 {
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
    }
}
