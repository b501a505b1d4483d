//! Frames on the bus: a fixed layout and a MAC over all of it.
//!
//! `u8 version=1 | 16 to (zeros: everybody) | 16 from | u64 number | u64 unix ms | u8 kind | payload | 32 MAC`, integers
//! little-endian, MAC = HMAC-SHA256(secret, "kinlog/signal-bus" || everything before it).

use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kinlog_feeds::{PublicKey, text};
use sha2::Sha256;

use crate::limits::{BODY_BYTES_MAX, BUS_CHANGES_MAX};
use crate::{SignalKind, Topic};

const VERSION: u8 = 1;
const LABEL: &[u8] = b"kinlog/signal-bus";
const MAC_BYTES: usize = 32;
const HEAD_BYTES: usize = 1 + 16 + 16 + 8 + 8 + 1;
const CHANGE_BYTES: usize = 1 + 32 + 32 + 8;
/// Shortest secret: one that can be guessed is none.
const SECRET_BYTES_MIN: usize = 32;

/// Largest frame on the bus.
pub(super) const BUS_FRAME_BYTES_MAX: usize =
    HEAD_BYTES + MAC_BYTES + 64 + BUS_CHANGES_MAX * CHANGE_BYTES + BODY_BYTES_MAX;

/// One start of one instance; random.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct InstanceId(pub [u8; 16]);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode_hex(&self.0))
    }
}

/// The secret that instances share.
#[derive(Clone)]
pub struct BusSecret(Hmac<Sha256>);

/// A secret that is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a bus secret has at least {SECRET_BYTES_MIN} bytes, got {actual}")]
pub struct SecretError {
    /// Bytes that were given.
    pub actual: usize,
}

impl BusSecret {
    /// Takes the bytes that all instances were given, without white space around them.
    pub fn new(bytes: &[u8]) -> Result<Self, SecretError> {
        let bytes = bytes.trim_ascii();
        let short = SecretError {
            actual: bytes.len(),
        };
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(short);
        }
        Hmac::new_from_slice(bytes)
            .map(BusSecret)
            .map_err(|_| short)
    }

    /// Returns the name of the instances' channels: without the secret nobody knows it.
    pub(crate) fn channel(&self) -> String {
        let mut mac = self.0.clone();
        mac.update(b"kinlog/signal-bus-channel");
        let name = mac.finalize().into_bytes();
        format!("kinlog:{}", text::encode_hex(&name[..8]))
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(LABEL);
        mac.update(bytes);
        mac
    }
}

impl fmt::Debug for BusSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusSecret(..)")
    }
}

/// Who came into a topic with an instance, or left it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change {
    /// Whether it is there now.
    pub joined: bool,
    /// The topic.
    pub topic: Topic,
    /// The client's key in it.
    pub key: PublicKey,
    /// Milliseconds since 1970 at which it joined.
    pub since_ms: u64,
}

/// A signal for a client of another instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Passed {
    pub(crate) topic: Topic,
    pub(crate) from: PublicKey,
    pub(crate) to: PublicKey,
    pub(crate) kind: SignalKind,
    pub(crate) body: Bytes,
}

/// What an instance says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Message {
    /// It is there.
    Alive,
    /// It wants to hear everybody's memberships.
    Ask,
    /// Some of its memberships changed.
    Changes(Vec<Change>),
    /// A part of all its memberships.
    All {
        first: bool,
        last: bool,
        changes: Vec<Change>,
    },
    /// It stops.
    Bye,
    /// A signal for one of the receiver's clients.
    Signal(Passed),
}

/// A message with who says it, to whom, when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) to: Option<InstanceId>,
    pub(crate) from: InstanceId,
    pub(crate) number: u64,
    pub(crate) unix_ms: u64,
    pub(crate) message: Message,
}

/// Bytes on the bus that are nothing of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// More or fewer bytes than a frame has.
    #[error("frame of {actual} bytes")]
    Length { actual: usize },
    /// The MAC is by another secret, or something was changed.
    #[error("the MAC does not hold")]
    Mac,
    /// By the same secret, and in a form that this version does not know.
    #[error("a frame of another version")]
    Version,
}

impl FrameError {
    /// Returns its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FrameError::Length { .. } => "length",
            FrameError::Mac => "mac",
            FrameError::Version => "version",
        }
    }
}

impl Frame {
    pub(crate) fn encode(&self, secret: &BusSecret) -> Bytes {
        let mut bytes = vec![VERSION];
        bytes.extend(self.to.map_or([0; 16], |to| to.0));
        bytes.extend(self.from.0);
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.unix_ms.to_le_bytes());
        match &self.message {
            Message::Alive => bytes.push(1),
            Message::Ask => bytes.push(2),
            Message::Changes(changes) => {
                bytes.push(3);
                put_changes(&mut bytes, changes);
            }
            Message::All {
                first,
                last,
                changes,
            } => {
                bytes.push(4);
                bytes.push(u8::from(*first) | u8::from(*last) << 1);
                put_changes(&mut bytes, changes);
            }
            Message::Bye => bytes.push(5),
            Message::Signal(passed) => {
                bytes.push(6);
                bytes.extend(passed.topic.0);
                bytes.extend(passed.from.0);
                bytes.extend(passed.to.0);
                bytes.push(kind_byte(passed.kind));
                bytes.extend(&passed.body);
            }
        }
        let mac = secret.mac(&bytes).finalize().into_bytes();
        bytes.extend(mac);
        Bytes::from(bytes)
    }

    pub(crate) fn decode(bytes: &[u8], secret: &BusSecret) -> Result<Frame, FrameError> {
        let actual = bytes.len();
        if actual > BUS_FRAME_BYTES_MAX {
            return Err(FrameError::Length { actual });
        }
        let split = actual.checked_sub(MAC_BYTES);
        let parts = split.and_then(|at| bytes.split_at_checked(at));
        let (said, mac) = parts.ok_or(FrameError::Length { actual })?;
        let holds = secret.mac(said).verify_slice(mac);
        holds.map_err(|_| FrameError::Mac)?;
        let mut reader = Reader(said);
        reader.frame().ok_or(FrameError::Version)
    }
}

fn put_changes(bytes: &mut Vec<u8>, changes: &[Change]) {
    for change in changes {
        bytes.push(u8::from(change.joined));
        bytes.extend(change.topic.0);
        bytes.extend(change.key.0);
        bytes.extend(change.since_ms.to_le_bytes());
    }
}

fn kind_byte(kind: SignalKind) -> u8 {
    match kind {
        SignalKind::Offer => 1,
        SignalKind::Answer => 2,
        SignalKind::Candidate => 3,
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn frame(&mut self) -> Option<Frame> {
        if self.byte()? != VERSION {
            return None;
        }
        let to = self.take::<16>()?;
        let frame = Frame {
            to: (to != [0; 16]).then_some(InstanceId(to)),
            from: InstanceId(self.take()?),
            number: self.u64()?,
            unix_ms: self.u64()?,
            message: self.message()?,
        };
        self.0.is_empty().then_some(frame)
    }

    fn message(&mut self) -> Option<Message> {
        Some(match self.byte()? {
            1 => Message::Alive,
            2 => Message::Ask,
            3 => Message::Changes(self.changes()?),
            4 => {
                let flags = self.byte().filter(|flags| *flags < 4)?;
                Message::All {
                    first: flags & 1 != 0,
                    last: flags & 2 != 0,
                    changes: self.changes()?,
                }
            }
            5 => Message::Bye,
            6 => {
                let (topic, from, to) = (self.take()?, self.take()?, self.take()?);
                let kind = match self.byte()? {
                    1 => SignalKind::Offer,
                    2 => SignalKind::Answer,
                    3 => SignalKind::Candidate,
                    _ => return None,
                };
                if self.0.len() > BODY_BYTES_MAX {
                    return None;
                }
                let body = Bytes::copy_from_slice(std::mem::take(&mut self.0));
                Message::Signal(Passed {
                    topic: Topic(topic),
                    from: PublicKey(from),
                    to: PublicKey(to),
                    kind,
                    body,
                })
            }
            _ => return None,
        })
    }

    fn changes(&mut self) -> Option<Vec<Change>> {
        let mut changes = Vec::with_capacity((self.0.len() / CHANGE_BYTES).min(BUS_CHANGES_MAX));
        while !self.0.is_empty() {
            if changes.len() == BUS_CHANGES_MAX {
                return None;
            }
            changes.push(Change {
                joined: self.byte().filter(|byte| *byte < 2)? == 1,
                topic: Topic(self.take()?),
                key: PublicKey(self.take()?),
                since_ms: self.u64()?,
            });
        }
        Some(changes)
    }
}
