//! From what is known and pinned to what is joined, fetched, kept and served: a pure function.

mod interest;
mod plan;
mod seeding;
mod trie;

pub(crate) use interest::{Asked, blocks, interest_of};
pub(crate) use plan::{Deep, FeedFacts, Plan, Role, Switches, covered, plan};
