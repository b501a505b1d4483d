//! From what is known and pinned to what is joined, fetched, kept and served: a pure function.

mod devices;
mod followed;
mod interest;
mod plan;
mod rooms;
mod secrets;
mod seeding;
#[cfg(test)]
mod ten_thousand_paths;
mod trie;

pub(crate) use followed::covered;
pub(crate) use interest::{Asked, blocks, interest_of};
pub(crate) use plan::{Deep, FeedFacts, Plan, Role, Switches, plan};
