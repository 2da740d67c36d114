//! One safe function per kernel: it checks shapes, types and indices, then runs the CPU body (or, on a GPU build, its
//! twin). The CPU body is the kernel's specification.
//!
//! Every output row is reduced in an order that depends on the row alone, never on how many rows run beside it or on
//! which thread runs them: that is what makes a sequence's bytes the same under any batching and any chunking. On a GPU
//! that holds where [`Sums::BatchInvariant`] asks for it.
//! Loops are written once over `Lanes` and compiled for AVX-512, AVX2 and portable code; which one runs is
//! found at run time. All of them share one pool of threads (`parallel`).

mod lanes;
mod operand;
mod parallel;
mod tile;

mod add;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a GPU is planned for"))]
mod attention_plan;
mod block_matrix;
mod expert_choice;
mod fixed_vector;
mod fp8;
mod gather;
mod grouped_matmul;
mod kv_write;
mod matmul;
mod mla_attention;
mod paged_attention;
mod pair_groups;
mod planar;
mod rms_norm;
mod rope;
mod rope_kv_write;
mod silu_mul;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a GPU's memory is reached through buffers"))]
mod staging;
mod sums;
mod uploader;
mod weighted_sum;

pub mod gpu;
pub mod sampling;

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
pub(crate) mod testing;

pub use add::add_assign;
pub(crate) use attention_plan::{AttentionPlan, PlanShape, mla_tile_rows, tile_rows};
pub use block_matrix::{BlockFormat, BlockMatrix, block_matmul};
pub use expert_choice::{ExpertChoice, ExpertScaling, choose_experts, expert_weights};
pub use fixed_vector::FixedVector;
pub use fp8::{FP8_BLOCK_BYTES, FP8_BLOCK_LEN, Fp8Matrix, fp8_blocks, fp8_matmul, fp8_rows, fp8_values};
pub use gather::gather;
pub use grouped_matmul::{grouped_block_matmul, grouped_matmul, grouped_matmul_with};
pub use kv_write::kv_write;
pub use matmul::{matmul, matmul_add, matmul_with};
pub use mla_attention::{MlaAttention, mla_attention};
pub use paged_attention::{BatchSequence, PagedAttention, PlanCell, paged_attention};
pub use pair_groups::{Groups, PairGroups, sort_pairs};
pub(crate) use parallel::fill_ranges;
pub use planar::{PlanarBlocks, grouped_planar_matmul, planar_matmul, planar_rows};
pub use rms_norm::rms_norm;
pub use rope::rope;
pub use rope_kv_write::{RopeKvWrite, rope_kv_write};
pub use silu_mul::silu_mul;
pub use staging::StagingConfig;
pub use sums::Sums;
pub use uploader::Uploader;
pub use weighted_sum::weighted_sum;
