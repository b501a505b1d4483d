//! The open body of `kinlog/peer/1`: who we are to each other, proved without telling the key.
//!
//! `u8 version = 1 | u64 features | uint max frame | u8 label | cap 32`. The cap is
//! `H_{handshake hash}(NS("session-cap") || role || label || K)`, K the key the two met by. The
//! upper 16 bits of the features are the format, zero when not stated.

use kinlog_feeds::crypto::{Secret, blake2b_256_keyed, namespace};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_feeds::limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX};

use crate::session::{Label, SessionRole};

const VERSION: u8 = 1;
const FORMAT_SHIFT: u32 = 48;
/// The side opens `kinlog/feed/1` once it has seen this bit of the other one's.
const LISTS_FEEDS: u64 = 1;
/// The side takes what is said about further associations, and can make some.
const TAKES_ASSOCIATIONS: u64 = 2;
/// The side tells of its other peers of the meeting, hears of those of others, and is introduced to them.
const INTRODUCES: u64 = 4;
/// The side relays between them.
const RELAYS: u64 = 8;

/// The side takes copies of requests: said where a further association is opened.
const TAKES_COPIES: u64 = 16;

/// What one side says when it opens the peer channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Hello {
    pub(crate) features: u64,
    pub(crate) frame_bytes_max: usize,
    pub(crate) label: u8,
    pub(crate) cap: [u8; 32],
}

impl Hello {
    pub(crate) fn new(format: u16, label: Label, cap: [u8; 32]) -> Self {
        Hello {
            features: u64::from(format) << FORMAT_SHIFT | LISTS_FEEDS,
            frame_bytes_max: FRAME_BYTES_MAX,
            label: label.byte(),
            cap,
        }
    }

    /// Says that the side can make further associations.
    pub(crate) fn with_associations(mut self) -> Self {
        self.features |= TAKES_ASSOCIATIONS;
        self
    }

    /// Says that the side takes copies of requests.
    pub(crate) fn with_copies(mut self) -> Self {
        self.features |= TAKES_COPIES;
        self
    }

    /// Returns whether the side takes copies of requests.
    pub(crate) fn takes_copies(&self) -> bool {
        self.features & TAKES_COPIES != 0
    }

    /// Says that the side introduces, and whether it relays.
    pub(crate) fn with_introductions(mut self, relays: bool) -> Self {
        self.features |= INTRODUCES | if relays { RELAYS } else { 0 };
        self
    }

    /// Returns whether the side introduces.
    pub(crate) fn introduces(&self) -> bool {
        self.features & INTRODUCES != 0
    }

    /// Returns whether the side relays between those whom it introduces.
    pub(crate) fn relays(&self) -> bool {
        self.introduces() && self.features & RELAYS != 0
    }

    /// Returns whether the side can make further associations.
    pub(crate) fn takes_associations(&self) -> bool {
        self.features & TAKES_ASSOCIATIONS != 0
    }

    /// Returns the format that the side speaks, zero when not stated.
    pub(crate) fn format(&self) -> u16 {
        u16::try_from(self.features >> FORMAT_SHIFT).unwrap_or_default()
    }

    /// Returns whether the side speaks `kinlog/feed/1`.
    pub(crate) fn lists_feeds(&self) -> bool {
        self.features & LISTS_FEEDS != 0
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(47);
        out.put_raw(&[VERSION]);
        out.put_raw(&self.features.to_le_bytes());
        out.put_uint(self.frame_bytes_max as u64);
        out.put_raw(&[self.label]);
        out.put_raw(&self.cap);
        out
    }

    /// Decodes an open body; what follows the known fields is ignored.
    pub(crate) fn decode(body: &[u8]) -> Result<Hello, HelloError> {
        let mut reader = Reader::new(body);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(HelloError::Version { version });
        }
        let features = reader.u64()?;
        let frame_bytes = reader.uint()?;
        let label = reader.u8()?;
        let cap = reader.fixed::<32>()?;
        // More than this side ever sends is as good as that; less than the default is not Kinlog.
        let frame_bytes = usize::try_from(frame_bytes)
            .unwrap_or(usize::MAX)
            .min(FRAME_BYTES_MAX);
        if frame_bytes < FRAME_BYTES_DEFAULT {
            return Err(HelloError::Frame { frame_bytes });
        }
        Ok(Hello {
            features,
            frame_bytes_max: frame_bytes,
            label,
            cap,
        })
    }
}

/// Why an open body is not one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HelloError {
    /// A version this build does not know.
    #[error("hello of version {version}, this build speaks 1")]
    Version {
        /// The version.
        version: u8,
    },
    /// Frames smaller than every Kinlog peer takes.
    #[error("hello announces frames of {frame_bytes} bytes at most, less than every peer takes")]
    Frame {
        /// The largest frame announced.
        frame_bytes: usize,
    },
    /// Not the layout.
    #[error("hello: {0}")]
    Decode(#[from] DecodeError),
}

/// Returns what the side `role` shows to prove that it knows `key`.
pub(crate) fn cap(
    handshake_hash: &[u8; 64],
    role: SessionRole,
    label: Label,
    key: &[u8; 32],
) -> [u8; 32] {
    blake2b_256_keyed(
        handshake_hash,
        &[
            &namespace::SESSION_CAP.hash(),
            &[role.byte()],
            &[label.byte()],
            key,
        ],
    )
}

/// Compares two caps in constant time.
pub(crate) fn cap_matches(expected: [u8; 32], shown: [u8; 32]) -> bool {
    Secret::new(expected) == Secret::new(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_comes_back_as_it_was() {
        let hello = Hello::new(9, Label::Room, [7; 32]);
        let bytes = hello.encode();
        assert_eq!(Hello::decode(&bytes).unwrap(), hello);
        assert_eq!(hello.format(), 9);
        let mut longer = bytes.clone();
        longer.extend_from_slice(b"later fields");
        assert_eq!(Hello::decode(&longer).unwrap(), hello);
        for end in 0..bytes.len() {
            assert!(Hello::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn hello_of_another_version_or_tiny_frames_is_refused() {
        let mut hello = Hello::new(0, Label::Feed, [0; 32]);
        let mut bytes = hello.encode();
        bytes[0] = 2;
        assert_eq!(
            Hello::decode(&bytes),
            Err(HelloError::Version { version: 2 })
        );
        hello.frame_bytes_max = 1024;
        assert!(matches!(
            Hello::decode(&hello.encode()),
            Err(HelloError::Frame { .. })
        ));
    }

    #[test]
    fn cap_depends_on_each_of_its_parts() {
        let own = cap(&[1; 64], SessionRole::Initiator, Label::Feed, &[2; 32]);
        assert!(cap_matches(own, own));
        for other in [
            cap(&[9; 64], SessionRole::Initiator, Label::Feed, &[2; 32]),
            cap(&[1; 64], SessionRole::Responder, Label::Feed, &[2; 32]),
            cap(&[1; 64], SessionRole::Initiator, Label::Agent, &[2; 32]),
            cap(&[1; 64], SessionRole::Initiator, Label::Feed, &[3; 32]),
        ] {
            assert!(!cap_matches(own, other));
        }
    }
}
