//! What members of a room say to each other beside the feeds.
//!
//! `u16 format | u8 kind`, then: 1 removed `room 32 | who removed 32 | reason, a buffer of at most
//! 1,024 bytes | signature 64` by the device that says it, over `NS("room-notice") || removed device 32
//! ||` everything before; 2 an invite to a room of two, a buffer; 3 epochs whose keys are asked for, `room 32 |
//! uint n | n x epoch id 16`; 4 keys of epochs, `room 32 | uint n | n x secret 32 | uint m | m x act key 32`. At
//! most [`EPOCHS_ASKED_MAX`] of each.

use bytes::Bytes;
use kinlog_feeds::crypto::{
    AgentId, DeviceKey, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError, namespace, verify,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_indexer::FORMAT;
use kinlog_indexer::limits::REASON_BYTES_MAX;
use kinlog_indexer::seal::{ContentKey, EpochId, EpochSecret};

use crate::limits::{EPOCHS_ASKED_MAX, INVITE_TEXT_BYTES_MAX};
use crate::links::{Invite, InviteError};
use crate::rooms::RoomId;

const REMOVED: u8 = 1;
const DIRECT: u8 = 2;
const KEYS_WANTED: u8 = 3;
const KEYS: u8 = 4;

/// A message between members.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RoomMessage {
    /// "You were removed": from who may not be served any more, and so cannot read it there.
    Removed(RemovedNotice),
    /// "Talk with me in this room of the two of us."
    Direct(Invite),
    /// "The copies of these epochs do not open here."
    KeysWanted(KeysWanted),
    /// The keys that somebody asked for, as far as it may have them.
    Keys(EpochKeysGiven),
}

/// Epochs of a room whose keys a member has not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeysWanted {
    /// The room.
    pub room: RoomId,
    /// The epochs, at most [`EPOCHS_ASKED_MAX`].
    pub epochs: Vec<EpochId>,
}

/// Keys of epochs of a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EpochKeysGiven {
    /// The room.
    pub room: RoomId,
    /// Secrets of epochs that the other device was meant to have, at most [`EPOCHS_ASKED_MAX`].
    pub secrets: Vec<EpochSecret>,
    /// Act keys of the others, at most [`EPOCHS_ASKED_MAX`].
    pub act_keys: Vec<ContentKey>,
}

/// A member's word that a device was removed from a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RemovedNotice {
    /// The room.
    pub room: RoomId,
    /// Who removed.
    pub by: AgentId,
    /// Why, in their words.
    pub reason: String,
    signature: [u8; SIGNATURE_BYTES],
}

/// Bytes that are no such message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomMessageError {
    /// They do not decode.
    #[error("message about a room")]
    Decode(#[from] DecodeError),
    /// Of another format.
    #[error("message about a room of format {actual}, this build has {expected}")]
    OtherFormat { expected: u16, actual: u16 },
    /// Text that is not UTF-8.
    #[error("text in a message about a room is not UTF-8")]
    Text,
    /// The invite does not decode.
    #[error("invite in a message about a room")]
    Invite(#[from] InviteError),
}

impl RemovedNotice {
    /// Says as `device` that `removed` was removed.
    pub fn sign(
        room: RoomId,
        by: AgentId,
        reason: &str,
        removed: &DeviceKey,
        device: &KeyPair,
    ) -> RemovedNotice {
        let mut notice = RemovedNotice {
            room,
            by,
            reason: cut_to(reason, REASON_BYTES_MAX).to_owned(),
            signature: [0; SIGNATURE_BYTES],
        };
        notice.signature = device.sign(&notice.signed(removed));
        notice
    }

    /// Verifies that `device` says so of `removed`.
    ///
    /// # Errors
    /// It does not.
    pub fn verify(&self, removed: &DeviceKey, device: &DeviceKey) -> Result<(), SignatureError> {
        verify(&PublicKey(device.0), &self.signed(removed), &self.signature)
    }

    fn signed(&self, removed: &DeviceKey) -> Vec<u8> {
        let mut out = namespace::ROOM_NOTICE.hash().to_vec();
        out.put_raw(removed.as_bytes());
        self.say(&mut out);
        out
    }

    fn say(&self, out: &mut Vec<u8>) {
        out.put_raw(self.room.as_bytes());
        out.put_raw(self.by.as_bytes());
        out.put_buffer(self.reason.as_bytes());
    }
}

impl RoomMessage {
    /// Encodes the message.
    pub fn encode(&self) -> Bytes {
        let mut out = FORMAT.to_le_bytes().to_vec();
        match self {
            RoomMessage::Removed(notice) => {
                out.push(REMOVED);
                notice.say(&mut out);
                out.put_raw(&notice.signature);
            }
            RoomMessage::Direct(invite) => {
                out.push(DIRECT);
                out.put_buffer(invite.encode().as_bytes());
            }
            RoomMessage::KeysWanted(wanted) => {
                out.push(KEYS_WANTED);
                out.put_raw(wanted.room.as_bytes());
                out.put_uint(wanted.epochs.len() as u64);
                wanted.epochs.iter().for_each(|id| out.put_raw(&id.0));
            }
            RoomMessage::Keys(given) => {
                out.push(KEYS);
                out.put_raw(given.room.as_bytes());
                out.put_uint(given.secrets.len() as u64);
                let secrets = given.secrets.iter();
                secrets.for_each(|secret| out.put_raw(secret.expose()));
                out.put_uint(given.act_keys.len() as u64);
                let act_keys = given.act_keys.iter();
                act_keys.for_each(|key| out.put_raw(key.expose()));
            }
        }
        out.into()
    }

    /// Decodes a message; of a removal nothing is verified yet.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(bytes: &[u8]) -> Result<RoomMessage, RoomMessageError> {
        let mut reader = Reader::new(bytes);
        let actual = u16::from_le_bytes(reader.fixed()?);
        if actual != FORMAT {
            let expected = FORMAT;
            return Err(RoomMessageError::OtherFormat { expected, actual });
        }
        let at = reader.position();
        let message = match reader.u8()? {
            REMOVED => {
                let (room, by) = (RoomId(reader.fixed()?), AgentId(reader.fixed()?));
                let reason = text(reader.buffer("reason", REASON_BYTES_MAX)?)?.to_owned();
                let signature = reader.fixed()?;
                RoomMessage::Removed(RemovedNotice {
                    room,
                    by,
                    reason,
                    signature,
                })
            }
            DIRECT => {
                let invite = text(reader.buffer("invite", INVITE_TEXT_BYTES_MAX)?)?;
                RoomMessage::Direct(Invite::decode(invite)?)
            }
            KEYS_WANTED => RoomMessage::KeysWanted(KeysWanted {
                room: RoomId(reader.fixed()?),
                epochs: some(&mut reader, "epochs", EpochId)?,
            }),
            KEYS => RoomMessage::Keys(EpochKeysGiven {
                room: RoomId(reader.fixed()?),
                secrets: some(&mut reader, "secrets", EpochSecret::new)?,
                act_keys: some(&mut reader, "act keys", ContentKey::new)?,
            }),
            other => {
                let (what, actual) = ("kind of message about a room", u64::from(other));
                return Err(DecodeError::UnknownValue { what, at, actual }.into());
            }
        };
        reader.finish()?;
        Ok(message)
    }
}

/// Reads a count, and so many fixed fields.
fn some<T, const N: usize>(
    reader: &mut Reader<'_>,
    what: &'static str,
    make: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.uint_max(what, EPOCHS_ASKED_MAX)?;
    (0..count).map(|_| Ok(make(reader.fixed()?))).collect()
}

fn text(bytes: &[u8]) -> Result<&str, RoomMessageError> {
    std::str::from_utf8(bytes).map_err(|_| RoomMessageError::Text)
}

/// Returns the start of a text that has at most `bytes_max` bytes.
fn cut_to(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::Secret;

    use super::*;

    fn messages() -> Vec<RoomMessage> {
        let invite = Invite {
            room: RoomId([5; 32]),
            seed: Secret::new([6; 32]),
            signal_urls: Vec::new(),
        };
        let room = RoomId([5; 32]);
        vec![
            RoomMessage::Removed(notice()),
            RoomMessage::Direct(invite),
            RoomMessage::KeysWanted(KeysWanted {
                room,
                epochs: vec![EpochId([8; 16]), EpochId([9; 16])],
            }),
            RoomMessage::Keys(EpochKeysGiven {
                room,
                secrets: vec![EpochSecret::new([10; 32])],
                act_keys: vec![ContentKey::new([11; 32]), ContentKey::new([12; 32])],
            }),
        ]
    }

    fn notice() -> RemovedNotice {
        let device = KeyPair::from_seed(&[7; 32]);
        let (room, by) = (RoomId([1; 32]), AgentId([2; 32]));
        RemovedNotice::sign(room, by, "spam", &DeviceKey([3; 32]), &device)
    }

    #[test]
    fn messages_round_trip_and_lost_bytes_are_noticed() {
        for message in messages() {
            let bytes = message.encode();
            assert_eq!(RoomMessage::decode(&bytes), Ok(message));
            for at in 0..bytes.len() {
                assert!(RoomMessage::decode(&bytes[..at]).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn a_removal_is_told_by_one_device_to_one_device() {
        let device = DeviceKey(KeyPair::from_seed(&[7; 32]).public_key().0);
        let removed = DeviceKey([3; 32]);
        assert_eq!(notice().verify(&removed, &device), Ok(()));
        assert!(notice().verify(&DeviceKey([4; 32]), &device).is_err());
        assert!(notice().verify(&removed, &DeviceKey([4; 32])).is_err());
        let other = RemovedNotice {
            reason: "none".to_owned(),
            ..notice()
        };
        assert!(other.verify(&removed, &device).is_err());
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(cut_to("aäb", 2), "a");
        assert_eq!(cut_to("aäb", 3), "aä");
        assert_eq!(cut_to("ab", 9), "ab");
    }
}
