//! The parts that models are composed of. A model file says which parts, in which order; what a part computes, and
//! how its weight lies in memory for the device, is here.

mod embedding;
mod linear;
mod loader;
mod norm;
mod rotary;
mod stored;

pub(crate) use embedding::Embedding;
pub(crate) use linear::{Epilogue, Linear};
pub(crate) use loader::{Loader, Weights};
pub(crate) use norm::RmsNorm;
pub(crate) use rotary::RotaryEmbedding;
use stored::StoredWeight;
