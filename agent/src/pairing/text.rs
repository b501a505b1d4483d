//! The text that is carried from one machine to the other.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use kinlog_feeds::crypto::{Secret, blake2b_256, namespace};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer as _};
use kinlog_swarm::limits::{CANDIDATE_BYTES_MAX, DESCRIPTION_BYTES_MAX};

use crate::limits::{PAIR_CANDIDATES_MAX, PAIR_OPEN, PAIR_TEXT_BYTES_MAX};
use crate::links::base64url;

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;
/// Bytes that stand before the text in a body.
const BODY_HEAD_BYTES: usize = 9;
const PREFIX: &str = "kinlog://pair/#";

/// Which way a text goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PairKind {
    /// From the machine that begins.
    Offer,
    /// Back to it.
    Answer,
}

impl PairKind {
    /// Returns the word that people use.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            PairKind::Offer => "offer",
            PairKind::Answer => "answer",
        }
    }
}

/// What the text holds: `u8 version=1 | u8 kind | key 32 | u64 made, seconds since 1970 | bytes
/// description | uint n <= 32 | n x bytes candidate | check 4`, base64url behind `kinlog://pair/#`.
/// Description and candidates are bodies as they travel through a signal server.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct PairText {
    /// Which way it goes.
    pub(crate) kind: PairKind,
    /// Fresh for each offer; the answer repeats it.
    pub(crate) key: Secret,
    /// When it was made, by the clock of whoever made it.
    pub(crate) made_s: u64,
    pub(crate) description: Bytes,
    pub(crate) candidates: Vec<Bytes>,
}

impl fmt::Debug for PairText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairText")
            .field("kind", &self.kind)
            .field("made_s", &self.made_s)
            .finish_non_exhaustive()
    }
}

/// Text that pairs nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PairTextError {
    /// Another kind of text.
    #[error("expected a text that begins with {PREFIX}")]
    NoPairText,
    /// More than any machine writes.
    #[error("the text has {actual} characters, one has at most {limit}")]
    TooLong {
        /// Characters there are.
        actual: usize,
        /// Characters there may be.
        limit: usize,
    },
    /// A character that was lost or changed.
    #[error("the text does not check: a part of it is missing, or a character was changed")]
    Check,
    /// A version that this build does not know.
    #[error("the text has version {actual}, this build knows {VERSION}")]
    Version {
        /// Version of the text.
        actual: u8,
    },
    /// Neither offer nor answer.
    #[error("the text is of kind {actual}: neither an offer nor an answer")]
    Kind {
        /// Kind of the text.
        actual: u8,
    },
    /// Fields that do not decode.
    #[error("the text does not decode: {0}")]
    Decode(#[from] DecodeError),
}

impl PairText {
    /// Returns whether its time is over at `now_s`; clocks that differ by as much again are borne with.
    pub(crate) fn is_expired(&self, now_s: u64) -> bool {
        now_s.saturating_sub(self.made_s) > 2 * PAIR_OPEN.as_secs()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.push(match self.kind {
            PairKind::Offer => 0,
            PairKind::Answer => 1,
        });
        bytes.extend_from_slice(self.key.expose());
        bytes.extend_from_slice(&self.made_s.to_le_bytes());
        bytes.put_buffer(&self.description);
        bytes.put_uint(self.candidates.len() as u64);
        for candidate in &self.candidates {
            bytes.put_buffer(candidate);
        }
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, PairTextError> {
        let (body, given) = bytes.split_last_chunk().ok_or(PairTextError::Check)?;
        if check(body) != *given {
            return Err(PairTextError::Check);
        }
        let mut reader = Reader::strict(body);
        match reader.u8()? {
            VERSION => {}
            actual => return Err(PairTextError::Version { actual }),
        }
        let kind = match reader.u8()? {
            0 => PairKind::Offer,
            1 => PairKind::Answer,
            actual => return Err(PairTextError::Kind { actual }),
        };
        let key = Secret::new(reader.fixed()?);
        let made_s = u64::from_le_bytes(reader.fixed()?);
        let description = reader.buffer("description", DESCRIPTION_BYTES_MAX + BODY_HEAD_BYTES)?;
        let description = Bytes::copy_from_slice(description);
        let count = reader.uint_max("candidates", PAIR_CANDIDATES_MAX)?;
        let mut candidates = Vec::with_capacity(count);
        for _ in 0..count {
            let candidate = reader.buffer("candidate", CANDIDATE_BYTES_MAX + BODY_HEAD_BYTES)?;
            candidates.push(Bytes::copy_from_slice(candidate));
        }
        reader.finish()?;
        Ok(PairText {
            kind,
            key,
            made_s,
            description,
            candidates,
        })
    }
}

impl fmt::Display for PairText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", base64url::encode(&self.encode()))
    }
}

impl FromStr for PairText {
    type Err = PairTextError;

    /// Reads a text; spaces and line ends, which mail and terminals put in, are left out.
    fn from_str(text: &str) -> Result<Self, PairTextError> {
        let (actual, limit) = (text.len(), PAIR_TEXT_BYTES_MAX);
        if actual > limit {
            return Err(PairTextError::TooLong { actual, limit });
        }
        let text: String = text.chars().filter(|one| !one.is_whitespace()).collect();
        let text = text.strip_prefix(PREFIX).ok_or(PairTextError::NoPairText)?;
        let bytes = base64url::decode(text).map_err(|_| PairTextError::Check)?;
        PairText::decode(&bytes)
    }
}

fn check(body: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = blake2b_256(&[&namespace::LINK_CHECK.hash(), b"pair", body]);
    hash[..CHECK_BYTES].try_into().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> PairText {
        PairText {
            kind: PairKind::Offer,
            key: Secret::new([3; 32]),
            made_s: 1_000,
            description: Bytes::from_static(b"v=0"),
            candidates: vec![Bytes::from_static(b"candidate:1")],
        }
    }

    #[test]
    fn a_text_round_trips_also_when_it_was_wrapped() {
        let written = text().to_string();
        assert_eq!(written.parse(), Ok(text()));
        let (one, other) = written.split_at(40);
        assert_eq!(format!(" {one}\r\n  {other}\n").parse(), Ok(text()));
    }

    #[test]
    fn every_changed_or_missing_character_is_noticed() {
        let written = text().to_string();
        for at in PREFIX.len()..written.len() {
            let mut changed = written.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(changed.parse::<PairText>().is_err(), "{at}");
            assert!(written[..at].parse::<PairText>().is_err(), "{at}");
        }
    }

    #[test]
    fn other_texts_are_named_and_too_long_ones_not_looked_at() {
        let error = |text: &str| text.parse::<PairText>().unwrap_err();
        assert_eq!(error("kinlog://join/#AAAA"), PairTextError::NoPairText);
        let long = "A".repeat(PAIR_TEXT_BYTES_MAX + 1);
        assert!(matches!(error(&long), PairTextError::TooLong { .. }));
    }

    #[test]
    fn the_key_is_in_no_log() {
        assert!(!format!("{:?}", text()).contains('3'));
    }

    #[test]
    fn a_text_lasts_its_time_and_as_much_again_for_clocks_that_differ() {
        let open = PAIR_OPEN.as_secs();
        assert!(!text().is_expired(1_000 + 2 * open) && !text().is_expired(0));
        assert!(text().is_expired(1_001 + 2 * open));
    }
}
