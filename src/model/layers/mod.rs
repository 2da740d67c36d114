//! The parts that models are composed of. A model file says which parts, in which order; what a part computes, and
//! how its weight lies in memory for the device, is here.

mod embedding;
mod grouped;
mod linear;
mod loader;
mod mixture;
mod mlp;
mod norm;
mod rotary;
mod stored;

pub(crate) use embedding::Embedding;
pub(crate) use grouped::GroupedLinear;
use grouped::GroupedWeight;
pub(crate) use linear::{Epilogue, Linear};
pub(crate) use loader::{Loader, Weights};
pub(crate) use mixture::{Mixture, MixtureShape};
pub(crate) use mlp::Mlp;
pub(crate) use norm::RmsNorm;
pub(crate) use rotary::{AngleTable, RotaryEmbedding};
use stored::StoredWeight;
