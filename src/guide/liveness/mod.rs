//! Liveness: whether a compiled constraint can be satisfied at all, and how an output can still be brought to its end.
//!
//! [`search`] finds a witness, one complete output, by stepping through the very masks that the engine applies; so
//! what it finds is true whatever the parts are.

mod alphabet;
mod search;
mod tiling;

pub(crate) use alphabet::Alphabet;
pub(crate) use search::Search;
