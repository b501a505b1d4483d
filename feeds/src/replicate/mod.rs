//! The replicator: which block is asked of whom, what is announced and what is answered.
//!
//! One [`Replicator`] serves all feeds and all peers of a process, so that no block is asked for
//! twice. It is sans-IO: it never touches the store, it asks for reads and applies by
//! [`Output::Read`] and [`Output::Apply`], and what is announced to peers has been applied (is
//! durable) before.
//!
//! **Drain rule.** After each `handle_*`, or after a batch of `handle_message` calls that one
//! input brought, call [`Replicator::poll_output`] until it gives `None`. Data that arrived
//! between two drains is applied together.

mod announce;
mod channel;
mod climb;
mod contest;
mod feed;
mod flow;
mod follow;
mod get;
mod groups;
mod holders;
mod interest;
mod load;
#[cfg(feature = "test-switches")]
pub mod mistake;
#[cfg(not(feature = "test-switches"))]
mod mistake;
mod output;
mod pace;
mod peer;
mod plan;
mod ranges;
mod reorg;
mod replicator;
mod serve;
mod shown;
mod turns;

pub use get::{GetEnd, GetId, GetRefused};
pub use holders::Holder;
pub use interest::{FeedKind, FeedState, HeadState, Interest, Pushes, Want};
pub use load::Load;
pub use output::{
    Applied, ApplyFailure, ApplyId, FeedEvent, Incoming, NotAvailable, Output, PeerId,
    ProtocolViolation, ReadId,
};
pub use reorg::{Reorg, ReorgStep};
pub use replicator::{Config, FeedStatus, PeerStatus, Reach, Replicator};
