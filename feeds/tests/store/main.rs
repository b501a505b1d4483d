//! The store against a model, against crashes, against refusals of its disk, against damage.
#![allow(clippy::unwrap_used, clippy::panic)] // Tests fail by panicking.

mod compact;
mod conflicts;
mod crash;
mod damage;
mod fixtures;
mod group_commit;
mod index;
mod kill;
mod locking;
mod many_feeds;
mod mistakes;
mod model;
mod neighbours;
mod order;
mod read_only;
mod refusal;
mod relaxed;
mod reopen;
mod repair;
mod signing;
mod sparse;
mod support;
mod sweep;
mod truncate;
