//! The channel `kinlog/feed/1`: what Kinlog peers say to each other about feeds that JavaScript peers
//! do not know.
//!
//! One channel a session, for all its feeds. A side *lists* a feed by a capability, which proves that
//! it knows the key and tells nothing to whoever does not; the n-th feed that it lists has the number n
//! in what it says later. A feed that both sides list is agreed upon. The rest names such a feed:
//! blocks asked for and proved together, blocks held as runs, and every message of `hypercore/alpha`,
//! so that an agreed feed needs no channel of its own.
//!
//! Bytes: `docs/formats.md`; who says what when: `docs/protocol.md`.

mod group;
mod held;
mod listing;
mod message;
mod opening;
mod set;
mod watch;

pub use group::{GroupHeads, GroupMessage, heads_digest};
pub use held::Held;
pub use listing::{Capability, capability};
pub use message::{FeedMessage, Message};
pub use opening::{Agreed, Opening, feature};
pub use set::{SetAnswer, SetRequest};
pub use watch::Watch;

/// Name of the protocol in protomux; its id is empty.
pub const PROTOCOL: &str = "kinlog/feed/1";
