//! What whoever asks to be let into a room and the member who answers say to each other, inside a
//! session that both sides' certificates are bound to.
//!
//! Request: `u16 format | room 32 | u8 way | uint length, membership | signature 64 if way = 0`.
//! Way 0 is by an invite, whose key signs; way 1 is as a sibling of a device that is in the room:
//! the membership, which device and feeds sign, says all.
//!
//! Answer: `u16 format | room 32 | u8 0 | sealed wrap 81 | uint length, sealed keys | feeds`; or
//! `u16 format | room 32 | u8 1 | u8 reason`. The wrap is a fresh secret sealed to the device. The
//! keys ([`RoomKeys`]) are sealed as block 0 of the entries feed of whoever asked is, in an epoch of
//! the wrap.

use bytes::Bytes;
use kinlog_feeds::crypto::{FeedKey, KeyPair, PublicKey, SIGNATURE_BYTES, Secret, SignatureError};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_indexer::FORMAT;
use kinlog_indexer::entry::{ActHash, BodyError, InviteUse, Membership, MembershipError};
use kinlog_indexer::seal::{
    EpochSecret, SEALED_SECRET_BYTES, SealError, SealedSecretError, open_entry, open_sealed_secret,
    seal_entry, seal_to_device,
};
use kinlog_swarm::limits::JOIN_BYTES_MAX;

use crate::rooms::{RoomFeed, RoomId, RoomKeys, put_feeds, read_feeds};

const BY_INVITE: u8 = 0;
const AS_SIBLING: u8 = 1;

const WELCOME: u8 = 0;
const REFUSED: u8 = 1;

/// A join message that is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Bytes that are none.
    #[error("join message")]
    Decode(#[from] DecodeError),
    /// Of another format.
    #[error("join message of format {actual}, this build has {expected}")]
    OtherFormat { expected: u16, actual: u16 },
    /// The membership does not decode.
    #[error("membership in the join request")]
    Body(#[from] BodyError),
    /// The membership does not hold.
    #[error("membership in the join request")]
    Membership(#[from] MembershipError),
    /// About another room than was asked for.
    #[error("join message for another room")]
    OtherRoom,
    /// The invite's key did not sign.
    #[error("join request is not signed by the invite")]
    Invite(#[from] SignatureError),
    /// Asked in another way than the session is for.
    #[error("join request in another way than the session is for")]
    OtherWay,
    /// The keys are not for this device.
    #[error("wrap of the keys in the answer")]
    Wrap(#[from] SealedSecretError),
    /// The keys do not open.
    #[error("keys in the answer")]
    Seal(#[from] SealError),
}

/// Asks to be let into a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinRequest {
    /// The room.
    pub room: RoomId,
    /// Who asks, with the feeds it will write.
    pub membership: Membership,
    /// By which invite; `None` for a sibling of a device in the room.
    pub invite: Option<InviteUse>,
}

impl JoinRequest {
    /// Asks by an invite.
    pub fn by_invite(room: RoomId, membership: Membership, invite: &KeyPair) -> Self {
        let invite = Some(InviteUse::sign(invite, &room, &membership));
        JoinRequest {
            room,
            membership,
            invite,
        }
    }

    /// Asks as a sibling of a device that is in the room.
    pub fn as_sibling(room: RoomId, membership: Membership) -> Self {
        JoinRequest {
            room,
            membership,
            invite: None,
        }
    }

    /// Encodes the request.
    pub fn encode(&self) -> Bytes {
        let mut out = FORMAT.to_le_bytes().to_vec();
        out.put_raw(self.room.as_bytes());
        out.push(match self.invite {
            Some(_) => BY_INVITE,
            None => AS_SIBLING,
        });
        out.put_buffer(&self.membership.encode());
        if let Some(invite) = &self.invite {
            out.put_raw(&invite.signature);
        }
        out.into()
    }

    /// Decodes and verifies a request for `room`: by the invite `invite`, or as a sibling where none
    /// is given.
    ///
    /// # Errors
    /// Whatever does not hold: room, way, signature, membership.
    pub fn verify(
        bytes: &[u8],
        room: &RoomId,
        invite: Option<&PublicKey>,
    ) -> Result<JoinRequest, JoinError> {
        let mut reader = Reader::strict(bytes);
        check_format(&mut reader)?;
        if RoomId(reader.fixed()?) != *room {
            return Err(JoinError::OtherRoom);
        }
        let way = reader.u8()?;
        let encoded = Bytes::copy_from_slice(reader.buffer("membership", JOIN_BYTES_MAX)?);
        let signature: Option<[u8; SIGNATURE_BYTES]> = match way {
            BY_INVITE => Some(reader.fixed()?),
            AS_SIBLING => None,
            _ => return Err(JoinError::OtherWay),
        };
        reader.finish()?;
        let membership = Membership::decode(&encoded)?;
        let invite = match (signature, invite) {
            (Some(signature), Some(public_key)) => {
                let public_key = *public_key;
                // Which act made the invite is for whoever admits to say.
                let used = InviteUse {
                    public_key,
                    act: ActHash::default(),
                    signature,
                };
                used.verify(room, &membership)?;
                Some(used)
            }
            (None, None) => None,
            _ => return Err(JoinError::OtherWay),
        };
        membership.verify(room)?;
        Ok(JoinRequest {
            room: *room,
            membership,
            invite,
        })
    }
}

/// Why a member lets nobody in by a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The invite is not, or no longer, one of the room.
    NoInvite,
    /// The invite has expired.
    Expired,
    /// As many have joined by the invite as may.
    UsedUp,
    /// The room is full.
    Full,
    /// The agent is in the room with other devices, and whoever was asked may not let this one in.
    OtherDevices,
    /// The room has rules that this build, or that of whoever was asked, does not know.
    Newer,
}

impl Refusal {
    const ALL: [Refusal; 6] = [
        Refusal::NoInvite,
        Refusal::Expired,
        Refusal::UsedUp,
        Refusal::Full,
        Refusal::OtherDevices,
        Refusal::Newer,
    ];

    fn number(self) -> u8 {
        match self {
            Refusal::NoInvite => 0,
            Refusal::Expired => 1,
            Refusal::UsedUp => 2,
            Refusal::Full => 3,
            Refusal::OtherDevices => 4,
            Refusal::Newer => 5,
        }
    }

    /// Returns the reason for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refusal::NoInvite => "the invite was revoked, or is of no use there",
            Refusal::Expired => "the invite has expired",
            Refusal::UsedUp => "as many have joined by the invite as may",
            Refusal::Full => {
                "the room is full: it has 256 members or 512 devices, as many as may be; ask again when somebody left"
            }
            Refusal::OtherDevices => {
                "this agent is in the room with another device, which has to let this one in"
            }
            Refusal::Newer => "the room was made by a newer kinlog, which opens it",
        }
    }
}

/// A member's answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum JoinAnswer {
    /// Keys for the device alone, and where the acts of the room are.
    Welcome {
        /// The room.
        room: RoomId,
        /// A secret sealed to the device.
        wrap: [u8; SEALED_SECRET_BYTES],
        /// [`RoomKeys`], sealed under it.
        keys: Bytes,
        /// Feeds of the members, at most [`ROOM_FEEDS_MAX`](crate::limits::ROOM_FEEDS_MAX).
        feeds: Vec<RoomFeed>,
    },
    /// Nobody is let in.
    Refused {
        /// The room.
        room: RoomId,
        /// Why.
        why: Refusal,
    },
}

impl JoinAnswer {
    /// Lets a device with the X25519 key `x25519` in, which will write the feed `entries`.
    ///
    /// `random` is fresh: two secrets and a nonce, used for this one call.
    ///
    /// # Errors
    /// A weak key of the device.
    pub fn welcome(
        room: RoomId,
        (x25519, entries): (&[u8; 32], &FeedKey),
        (wrap, ephemeral, nonce): ([u8; 32], [u8; 32], &[u8; 24]),
        keys: &RoomKeys,
        feeds: Vec<RoomFeed>,
    ) -> Result<JoinAnswer, JoinError> {
        let wrap = EpochSecret::new(wrap);
        let plain = keys.encode();
        Ok(JoinAnswer::Welcome {
            room,
            keys: seal_entry(&wrap.content_key(), entries, 0, nonce, &plain)?,
            wrap: seal_to_device(ephemeral, x25519, &room, &wrap)?,
            feeds,
        })
    }

    /// Opens the keys of a welcome to the device with the X25519 secret `dh`, which will write the
    /// feed `entries`.
    ///
    /// # Errors
    /// Keys for somebody else, or altered.
    pub fn open_keys(
        room: &RoomId,
        wrap: &[u8; SEALED_SECRET_BYTES],
        keys: &[u8],
        (dh, entries): (&Secret, &FeedKey),
    ) -> Result<RoomKeys, JoinError> {
        let wrap = open_sealed_secret(dh, room, wrap)?;
        let plain = open_entry(&wrap.content_key(), entries, 0, keys)?;
        Ok(RoomKeys::decode(&plain)?)
    }

    /// Returns the room it is about.
    pub fn room(&self) -> &RoomId {
        match self {
            JoinAnswer::Welcome { room, .. } | JoinAnswer::Refused { room, .. } => room,
        }
    }

    /// Encodes the answer.
    pub fn encode(&self) -> Bytes {
        let mut out = FORMAT.to_le_bytes().to_vec();
        out.put_raw(self.room().as_bytes());
        match self {
            JoinAnswer::Welcome {
                wrap, keys, feeds, ..
            } => {
                out.push(WELCOME);
                out.put_raw(wrap);
                out.put_buffer(keys);
                put_feeds(&mut out, feeds);
            }
            JoinAnswer::Refused { why, .. } => {
                out.push(REFUSED);
                out.push(why.number());
            }
        }
        out.into()
    }

    /// Decodes an answer; what it says of the room is not checked.
    ///
    /// # Errors
    /// Bytes that are no answer of this format.
    pub fn decode(bytes: &[u8]) -> Result<JoinAnswer, JoinError> {
        let mut reader = Reader::strict(bytes);
        check_format(&mut reader)?;
        let room = RoomId(reader.fixed()?);
        let at = reader.position();
        let answer = match reader.u8()? {
            WELCOME => JoinAnswer::Welcome {
                room,
                wrap: reader.fixed()?,
                keys: Bytes::copy_from_slice(reader.buffer("keys", JOIN_BYTES_MAX)?),
                feeds: read_feeds(&mut reader)?,
            },
            REFUSED => {
                let at = reader.position();
                let number = reader.u8()?;
                let why = Refusal::ALL.into_iter().find(|why| why.number() == number);
                let why = why.ok_or_else(|| unknown("reason", at, number))?;
                JoinAnswer::Refused { room, why }
            }
            other => return Err(unknown("answer", at, other).into()),
        };
        reader.finish()?;
        Ok(answer)
    }
}

fn unknown(what: &'static str, at: usize, actual: u8) -> DecodeError {
    let actual = u64::from(actual);
    DecodeError::UnknownValue { what, at, actual }
}

fn check_format(reader: &mut Reader<'_>) -> Result<(), JoinError> {
    let actual = u16::from_le_bytes(reader.fixed()?);
    if actual != FORMAT {
        return Err(JoinError::OtherFormat {
            expected: FORMAT,
            actual,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{AgentId, DeviceKey, blake2b_256};
    use kinlog_indexer::identity::{DeviceCard, IdentitySet, Powers};
    use kinlog_indexer::limits::ROOM_EPOCH_KEYS_MAX;
    use kinlog_indexer::seal::{ContentKey, device_dh_public};
    use proptest::prelude::*;

    use super::*;
    use crate::limits::ROOM_FEEDS_MAX;

    const ROOM: RoomId = RoomId([3; 32]);

    fn membership() -> Membership {
        let root = KeyPair::from_seed(&[1; 32]);
        let device = KeyPair::from_seed(&[2; 32]);
        let agent = AgentId(root.public_key().0);
        let [public, private] = [5, 8].map(|seed| KeyPair::from_seed(&[seed; 32]));
        let card = DeviceCard::sign(&agent, &device, [4; 32], &public, &private);
        let name = "laptop".try_into().expect("short");
        let set = IdentitySet::begin(&root, card, Powers::ALL, name).encode();
        let (entries, blobs) = (KeyPair::from_seed(&[6; 32]), KeyPair::from_seed(&[7; 32]));
        Membership::sign(&ROOM, agent, set, &device, &entries, &blobs)
    }

    fn request(invite: &KeyPair) -> JoinRequest {
        JoinRequest::by_invite(ROOM, membership(), invite)
    }

    fn feed(key: u8, is_entries: bool) -> RoomFeed {
        RoomFeed {
            key: FeedKey([key; 32]),
            agent: AgentId([1; 32]),
            device: DeviceKey([2; 32]),
            is_entries,
        }
    }

    fn keys() -> RoomKeys {
        RoomKeys {
            secrets: vec![EpochSecret::new([7; 32]), EpochSecret::new([8; 32])],
            act_keys: vec![EpochSecret::new([9; 32]).act_key()],
        }
    }

    const DH: [u8; 32] = [11; 32];
    const ENTRIES: FeedKey = FeedKey([12; 32]);

    fn welcome() -> JoinAnswer {
        let device = device_dh_public(&Secret::new(DH));
        let random = ([13; 32], [14; 32], &[15; 24]);
        let feeds = vec![feed(1, true), feed(2, false)];
        JoinAnswer::welcome(ROOM, (&device, &ENTRIES), random, &keys(), feeds).expect("sealed")
    }

    fn opened(answer: &JoinAnswer, dh: [u8; 32], entries: &FeedKey) -> Result<RoomKeys, JoinError> {
        let JoinAnswer::Welcome {
            room, wrap, keys, ..
        } = answer
        else {
            unreachable!("a welcome was made");
        };
        JoinAnswer::open_keys(room, wrap, keys, (&Secret::new(dh), entries))
    }

    #[test]
    fn a_request_holds_for_its_room_and_invite_only() {
        let invite = KeyPair::from_seed(&[8; 32]);
        let request = request(&invite);
        let bytes = request.encode();
        let public = invite.public_key();
        let verify = |room, invite| JoinRequest::verify(&bytes, room, invite);
        assert_eq!(verify(&ROOM, Some(&public)), Ok(request.clone()));
        let other = KeyPair::from_seed(&[9; 32]).public_key();
        assert!(matches!(
            verify(&ROOM, Some(&other)),
            Err(JoinError::Invite(_))
        ));
        assert_eq!(
            verify(&RoomId([4; 32]), Some(&public)),
            Err(JoinError::OtherRoom)
        );
        assert_eq!(verify(&ROOM, None), Err(JoinError::OtherWay));
    }

    #[test]
    fn a_sibling_asks_without_an_invite_and_nobody_asks_by_an_invite_without_its_key() {
        let request = JoinRequest::as_sibling(ROOM, membership());
        let bytes = request.encode();
        assert_eq!(JoinRequest::verify(&bytes, &ROOM, None), Ok(request));
        let public = KeyPair::from_seed(&[8; 32]).public_key();
        assert_eq!(
            JoinRequest::verify(&bytes, &ROOM, Some(&public)),
            Err(JoinError::OtherWay)
        );
    }

    #[test]
    fn every_altered_or_lost_byte_of_a_request_is_noticed() {
        let invite = KeyPair::from_seed(&[8; 32]);
        let public = invite.public_key();
        let bytes = request(&invite).encode();
        for at in 0..bytes.len() {
            let mut altered = bytes.to_vec();
            altered[at] ^= 1;
            for damaged in [&altered[..], &bytes[..at]] {
                let verified = JoinRequest::verify(damaged, &ROOM, Some(&public));
                assert!(verified.is_err(), "{at}");
            }
        }
    }

    #[test]
    fn the_keys_of_an_answer_are_for_the_device_that_asked_and_its_feed() {
        let answer = welcome();
        assert_eq!(opened(&answer, DH, &ENTRIES), Ok(keys()));
        assert!(matches!(
            opened(&answer, [1; 32], &ENTRIES),
            Err(JoinError::Wrap(_))
        ));
        assert!(matches!(
            opened(&answer, DH, &FeedKey([1; 32])),
            Err(JoinError::Seal(_))
        ));
    }

    #[test]
    fn answers_round_trip_and_lost_bytes_are_noticed() {
        let refused = Refusal::ALL.map(|why| JoinAnswer::Refused { room: ROOM, why });
        for answer in refused.into_iter().chain([welcome()]) {
            let bytes = answer.encode();
            assert_eq!(JoinAnswer::decode(&bytes), Ok(answer));
            for at in 0..bytes.len() {
                assert!(JoinAnswer::decode(&bytes[..at]).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn a_full_answer_fits_into_a_message() {
        let many = RoomKeys {
            secrets: vec![EpochSecret::new([7; 32]); ROOM_EPOCH_KEYS_MAX],
            act_keys: Vec::new(),
        };
        let device = device_dh_public(&Secret::new(DH));
        let random = ([13; 32], [14; 32], &[15; 24]);
        let feeds = vec![feed(1, true); ROOM_FEEDS_MAX];
        let answer = JoinAnswer::welcome(ROOM, (&device, &ENTRIES), random, &many, feeds);
        assert!(answer.expect("sealed").encode().len() <= JOIN_BYTES_MAX);
    }

    #[test]
    fn the_bytes_of_join_messages_are_kept() {
        let hash = |bytes: &[u8]| kinlog_feeds::text::encode(&blake2b_256(&[bytes]));
        let invite = KeyPair::from_seed(&[8; 32]);
        let made = [
            request(&invite).encode(),
            JoinRequest::as_sibling(ROOM, membership()).encode(),
            welcome().encode(),
            Bytes::copy_from_slice(&keys().encode()),
        ];
        let actual = made.map(|bytes| (bytes.len(), hash(&bytes)));
        let actual: Vec<_> = actual
            .iter()
            .map(|(bytes, hash)| (*bytes, hash.as_str()))
            .collect();
        let expected = [
            (1042, "r958tn8xuyoqbue4z47dgpss4jepzjsuuitu6jkn6paws941167y"),
            (978, "856mc3zhsowidsyur1xqb3gz7uqdnm85h7pb9cuzchabd6nmsczo"),
            (473, "ttgy85m614unkgyt6h4axbz6xeunqrak7rhx1qesiomzd69qwp7y"),
            (98, "rcsr8ao7dd7wrjy8aynw1x1mt6u9pwy763ynd38ycpfdg4dbn8py"),
        ];
        assert_eq!(actual, expected);
    }

    proptest! {
        #[test]
        fn keys_round_trip(secrets in proptest::collection::vec(any::<[u8; 32]>(), 0..20),
                           act_keys in proptest::collection::vec(any::<[u8; 32]>(), 0..20)) {
            let keys = RoomKeys {
                secrets: secrets.into_iter().map(EpochSecret::new).collect(),
                act_keys: act_keys.into_iter().map(ContentKey::new).collect(),
            };
            prop_assert_eq!(RoomKeys::decode(&keys.encode()), Ok(keys));
        }
    }
}
