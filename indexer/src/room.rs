//! A room's name.

use std::fmt;
use std::str::FromStr;

use kinlog_feeds::crypto::{AgentId, blake2b_256, namespace};
use kinlog_feeds::text::{self, KeyTextError};

/// Characters of a room code.
const CODE_CHARS: usize = 8;

/// A room's name: the hash of its genesis.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RoomId(pub [u8; 32]);

impl RoomId {
    /// Returns the room that an agent's own devices are, without anybody else and without a genesis:
    /// `H(NS("own-room") || agent)`.
    pub fn own(agent: &AgentId) -> Self {
        RoomId(blake2b_256(&[
            &namespace::OWN_ROOM.hash(),
            agent.as_bytes(),
        ]))
    }

    /// Returns the raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first 8 characters of the id, which people use to name a room.
    pub fn code(&self) -> String {
        let mut code = self.to_string();
        code.truncate(CODE_CHARS);
        code
    }
}

impl From<[u8; 32]> for RoomId {
    fn from(bytes: [u8; 32]) -> Self {
        RoomId(bytes)
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(&self.0))
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomId({})", self.code())
    }
}

impl FromStr for RoomId {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        text::decode_key(text).map(RoomId)
    }
}
