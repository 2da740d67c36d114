//! Kernels: one safe function per operation, with its CPU body, which is its specification.

pub mod sampling;
