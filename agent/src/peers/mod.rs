//! Everybody this home may meet, and how each is reached now.
//!
//! [`known`] lists whom it knows and why; [`merge()`] puts what four sources say of them together, pure:
//! open sessions, what connected peers report, what was remembered, who is seen in topics. None of
//! them asks a server. [`way`] puts the path of a link into words, [`ladder`] the steps by which
//! somebody is looked for. For people: `docs/connecting.md`.

mod known;
mod ladder;
mod merge;
mod way;

pub(crate) use known::{Known, Who, known, owner, reports, way_named};
pub(crate) use ladder::{Sought, climb, steps};
pub(crate) use merge::{Report, merge};
pub(crate) use way::way;
