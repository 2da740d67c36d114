//! ananke: inference for code models whose output is bound, token by token, by constraints mined from the user's code.
//!
//! Two pillars meet in the engine: *what may be said* ([`constraint`], [`clew`], [`braid`], [`text`], [`guide`]) and
//! *how it is computed* ([`kernels`], [`model`]). Above them stand [`engine`], [`verify`], [`maze`] and [`server`].
//! ARCHITECTURE.md draws the map; `tests/layering.rs` holds who may import whom.
//!
//! # Glossary
//! - **constraint**: one rule, with where it was found, how sure we are, and how strongly it binds.
//! - **constraint IR**: what an output must satisfy, in the few formats a decoder can enforce.
//! - **compiled constraint**: IRs against one vocabulary; immutable and shared.
//! - **matcher**: how far one sequence has got through a compiled constraint. **mask**: one step's bits.
//! - **lexeme** is a lexer's unit, **token** always a vocabulary id.
//! - **block** is a KV block, never a block of code. **cache** is always qualified (KV cache, constraint cache).
//! - **prefill** and **decode** are phases of the engine; the **guide** is the constraint side.
//! - **hard** constraints mask, **soft** ones bias inside what the hard ones allow, **advisory** ones only inform.

pub mod audit;
mod authorities;
pub mod braid;
pub mod cache;
mod circuit;
pub mod clew;
pub mod cli;
pub mod config;
pub mod constraint;
pub mod engine;
pub mod guide;
pub mod hub;
pub mod idle;
pub mod kernels;
pub mod maze;
pub mod model;
pub mod otlp;
pub mod panics;
pub mod remote;
pub mod server;
pub mod text;
pub mod verify;

/// The worked examples of `docs/extending.md`, run with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/extending.md")]
pub struct Extending;
