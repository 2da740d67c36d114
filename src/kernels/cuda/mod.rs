//! The CUDA twins of the kernels: each function takes what `cpu_fwd` takes, checks as much, and launches.
//!
//! The code they launch is `kernels/*.cu`, compiled by `build.rs` for one compute capability. Everything of one device
//! runs on one stream, in order; nothing here waits for it. What only the device could check (a slot, a token id) was
//! checked on the host when the batch was made.
#![allow(unsafe_code)]

mod launch;
mod operand;

mod attention;
mod matmul;
mod norm;
mod planar;
mod rows;
mod sampling;
mod staging;

pub(crate) use attention::paged_attention;
pub(crate) use launch::{CAPABILITY, is_present};
pub(crate) use matmul::matmul;
pub(crate) use norm::rms_norm;
pub(crate) use planar::{planar_matmul, planar_rows};
pub(crate) use rows::{add_assign, gather, kv_write, rope, rope_kv_write, silu_mul};
pub use sampling::Started;
pub(crate) use sampling::start;
pub(crate) use staging::Staging;
