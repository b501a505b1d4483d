//! The channel `hypercore/alpha`: its name, handshake, capability and messages.
//!
//! Source: `lib/messages.js`, `lib/caps.js` and `lib/replicator.js` of npm `hypercore` 11.39.5.
//! Decoding is lenient the way the protocol moves: unknown flag bits and trailing fields are
//! ignored, unknown message types decode to `None`.

mod capability;
mod message;

pub use capability::{Handshake, capability};
pub use message::{
    Data, Message, NoData, NoDataReason, Range, Request, Synchronize, Want, message_type,
};

/// Name of the protocol in protomux; JavaScript peers accept `hypercore` as an alias.
pub const PROTOCOL: &str = "hypercore/alpha";

/// The older name, which this side takes for [`PROTOCOL`].
pub const PROTOCOL_ALIAS: &str = "hypercore";
