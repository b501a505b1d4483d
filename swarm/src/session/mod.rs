//! What two peers say to each other over a link.

mod info;
mod message;

pub use info::{Certificate, Label, SessionId, SessionInfo, SessionRole};
pub use message::PeerMessage;
