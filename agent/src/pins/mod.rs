//! From what is known and pinned to what is joined, fetched, kept and served: a pure function.

mod interest;
mod plan;

pub(crate) use interest::{Asked, blocks, interest_of};
pub(crate) use plan::{Plan, Switches, covered, plan};
