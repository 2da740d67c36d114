//! The CUDA twins of the kernels: each function takes what `cpu_fwd` takes, checks as much, and launches.
//!
//! The code they launch is `kernels/*.cu`, compiled by `build.rs` for one compute capability. Everything of one device
//! runs on one stream, in order; nothing here waits for it. What only the device could check (a slot, a token id) was
//! checked on the host when the batch was made.
#![allow(unsafe_code)]

mod launch;
mod operand;

mod attention;
mod experts;
mod fp8;
mod grouped;
mod matmul;
mod mla;
mod norm;
mod planar;
mod rows;
mod sampling;
mod staging;

pub(crate) use attention::paged_attention;
pub(crate) use experts::{choose_experts, expert_weights, weighted_sum};
pub(crate) use fp8::{fp8_matmul, fp8_rows};
pub(crate) use grouped::{grouped_matmul, grouped_planar_matmul, sort_pairs};
pub(crate) use launch::{CAPABILITY, is_present};
pub(crate) use matmul::matmul;
pub(crate) use mla::mla_attention;
pub(crate) use norm::rms_norm;
pub(crate) use planar::{planar_matmul, planar_rows};
pub(crate) use rows::{add_assign, gather, kv_write, rope, rope_kv_write, silu_mul};
pub use sampling::Started;
pub(crate) use sampling::start;
pub(crate) use staging::{Staging, UploadRing, pinned_copy_rate, upload, upload_blocks, upload_ring};
