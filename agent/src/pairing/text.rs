//! The text that is carried from one machine to the other.

use std::fmt;
use std::str::FromStr;

use kinlog_feeds::crypto::{Secret, blake2b_256, namespace};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer as _};
use kinlog_swarm::link::webrtc::{ShortDescription, ShortDescriptionError};

use crate::limits::{PAIR_OPEN, PAIR_TEXT_BYTES_MAX};
use crate::links::base64url;

const VERSION: u8 = 2;
const CHECK_BYTES: usize = 4;
const PREFIX: &str = "kinlog://pair/#";

/// Which way a text goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PairKind {
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

/// What the text holds: `u8 version=2 | u8 kind | key 32 | uint made, seconds since 1970 | description to the end | check
/// 4`, base64url behind `kinlog://pair/#`. The description is a [`ShortDescription`]; the number of its attempt follows from
/// the key.
#[derive(Clone, Eq, PartialEq)]
pub struct PairText {
    /// Which way it goes.
    pub(crate) kind: PairKind,
    /// Fresh for each offer; the answer repeats it.
    pub(crate) key: Secret,
    /// When it was made, by the clock of whoever made it.
    pub(crate) made_s: u64,
    pub(crate) description: ShortDescription,
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
#[non_exhaustive]
pub enum PairTextError {
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
    #[error(
        "the text has version {actual}, this build knows {VERSION}: both machines need the same version of kinlog"
    )]
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
    /// A description that is none.
    #[error("the text does not decode: {0}")]
    Description(#[from] ShortDescriptionError),
}

impl PairText {
    /// Returns a text; `made_s` in seconds since 1970.
    pub fn new(kind: PairKind, key: Secret, made_s: u64, description: ShortDescription) -> Self {
        PairText {
            kind,
            key,
            made_s,
            description,
        }
    }

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
        bytes.put_uint(self.made_s);
        bytes.extend_from_slice(&self.description.encode());
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
        let made_s = reader.uint()?;
        let rest = body.get(reader.position()..).unwrap_or_default();
        Ok(PairText {
            kind,
            key,
            made_s,
            description: ShortDescription::decode(rest)?,
        })
    }
}

/// Returns the number of the attempt that a key is for.
pub(super) fn attempt_of(key: &Secret) -> u64 {
    let hash = blake2b_256(&[&namespace::LINK_CHECK.hash(), b"pair-attempt", key.expose()]);
    u64::from_le_bytes(hash[..8].try_into().expect("a hash has 32 bytes"))
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

/// Returns a description as one of a home may be.
#[cfg(test)]
pub(super) fn description() -> ShortDescription {
    let mut bytes = vec![0, 16];
    bytes.extend_from_slice(b"abcdefghijklmnop");
    bytes.push(32);
    bytes.extend_from_slice(b"abcdefghijklmnopqrstuvwxyzABCDEF");
    bytes.extend_from_slice(&[9; 32]);
    bytes.extend_from_slice(&[
        2, 0, 192, 168, 1, 5, 0x40, 0x9c, 1, 203, 0, 113, 9, 0x40, 0x9c,
    ]);
    ShortDescription::decode(&bytes).expect("a description")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> PairText {
        PairText {
            kind: PairKind::Offer,
            key: Secret::new([3; 32]),
            made_s: 1_000,
            description: description(),
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
    fn a_text_of_a_home_is_short_enough_for_a_code_that_a_phone_reads_off_a_terminal() {
        let written = text().to_string();
        assert!(written.len() <= 271, "{} characters", written.len());
    }

    #[test]
    fn a_text_of_another_version_says_which_and_what_to_do() {
        let mut bytes = text().encode();
        bytes.truncate(bytes.len() - CHECK_BYTES);
        bytes[0] = 1;
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        let error = PairText::decode(&bytes).unwrap_err();
        assert_eq!(error, PairTextError::Version { actual: 1 });
        assert!(error.to_string().contains("both machines"), "{error}");
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
