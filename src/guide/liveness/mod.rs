//! Liveness: whether a compiled constraint can be satisfied at all, and how an output can still be brought to its end.
//!
//! [`search`] finds a witness, one complete output, by stepping through the very masks that the engine applies; so
//! what it finds is true whatever the parts are. [`product`] looks for a text that all parts share in regular supersets
//! of them ([`outline`] for schemas and grammars, [`spelling`] for id lists): there a shortest text is found quickly,
//! and where none is left there is a proof. [`verdict`] puts both together at admission, and [`conflict`] says which
//! parts a proof takes. While a sequence runs, [`course`] follows its structural parts exactly ([`left_corner`]), so that
//! the shortest way to the end is known from wherever it stands; [`joint`] looks for a way from there to the text behind
//! a hole.

mod alphabet;
mod conflict;
mod course;
mod joint;
mod left_corner;
mod outline;
mod product;
mod search;
mod spelling;
mod tiling;
mod verdict;

pub use verdict::{UnknownWhy, Verdict, Witness};

pub(crate) use alphabet::Alphabet;
pub(crate) use conflict::{Evidence, conflict, without};
pub(crate) use course::Course;
pub(crate) use joint::{JointBounds, JointSearch};
pub(crate) use left_corner::LeftCorner;
pub(crate) use outline::{Crowded, Outline};
pub(crate) use search::Search;
pub(crate) use verdict::{judge, walk};
