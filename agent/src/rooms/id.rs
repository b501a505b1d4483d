//! A room's name: the hash of its genesis.

use std::fmt;

use kinlog_feeds::text;

/// The hash of a room's genesis entry.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RoomId(pub [u8; 32]);

impl RoomId {
    /// Returns the first 8 characters of the id, enough to tell one's own rooms apart.
    pub fn code(&self) -> String {
        text::encode(&self.0[..5])
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(&self.0))
    }
}
