//! How a room begins.

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, KeyPair, blake2b_256, namespace};
use prost::Message as _;

use crate::entry::body::{fixed, message, text};
use crate::entry::{BodyError, Deed, Membership, tag};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::NAME_BYTES_MAX;
use crate::seal::{EpochCommitment, EpochSecret};
use crate::{RoomId, Text};

/// What those who join later may read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum History {
    /// Everything.
    Full,
    /// What is written after they joined.
    FromJoin,
    /// The last so many days.
    Days(u32),
}

/// The rules by which this build decides a room's acts: the first field of the room's beginning.
pub const ROOM_RULES: u32 = 1;

/// The first entry of the owner's room feed; everything but the signatures makes the room's id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Genesis {
    /// Name of the room.
    pub name: Text<NAME_BYTES_MAX>,
    /// What later members may read.
    pub history: History,
    /// Makes the id unguessable and unique.
    pub random: [u8; 32],
    /// Commits to the secret of the epoch that the room begins with.
    pub commitment: EpochCommitment,
    /// The owner and the device that made the room.
    pub owner: Membership,
}

/// The beginning of a room whose acts are decided by other rules: kept, handed on, not evaluated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewerGenesis {
    /// The rules.
    pub rules: u32,
    /// The room's id.
    pub room: RoomId,
    /// The act as it came.
    pub(super) bytes: Bytes,
}

impl Genesis {
    /// Makes a room of the own device `device`, whose feeds there `entries` and `blobs` sign;
    /// `random` is 32 fresh random bytes, `epoch` what the room's first entries are sealed in.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one field of the genesis"
    )]
    pub fn sign(
        name: Text<NAME_BYTES_MAX>,
        history: History,
        random: [u8; 32],
        epoch: &EpochSecret,
        agent: AgentId,
        identity_set: Bytes,
        device: &KeyPair,
        entries: &KeyPair,
        blobs: &KeyPair,
    ) -> (Self, RoomId) {
        let owner = |room: &RoomId, set| Membership::sign(room, agent, set, device, entries, blobs);
        let mut genesis = Genesis {
            name,
            history,
            random,
            commitment: epoch.commitment(),
            // The id does not cover the signatures, which cover the id.
            owner: owner(&RoomId::default(), identity_set),
        };
        let room = genesis.room_id();
        genesis.owner = owner(&room, genesis.owner.identity_set);
        (genesis, room)
    }

    /// Returns the room's id: `H(NS("genesis") || body)`, the whole body as it is encoded.
    pub fn room_id(&self) -> RoomId {
        room_id(&self.body())
    }

    /// Encodes what is signed.
    fn body(&self) -> Bytes {
        let (history, history_days) = history_numbers(self.history);
        let mut owner = wire::Membership::from(&self.owner);
        owner.claim = Bytes::new();
        let claims = [&mut owner.entries_claim, &mut owner.blobs_claim];
        for claim in claims.into_iter().flatten() {
            claim.signature = Bytes::new();
        }
        let body = wire::GenesisBody {
            rules: ROOM_RULES,
            name: self.name.to_string(),
            history: u32::from(history),
            history_days,
            random: self.random.to_vec().into(),
            epoch_commitment: self.commitment.0.to_vec().into(),
            owner: Some(owner),
        };
        body.encode_to_vec().into()
    }
}

fn room_id(body: &[u8]) -> RoomId {
    RoomId(blake2b_256(&[&namespace::GENESIS.hash(), body]))
}

/// Takes a genesis off the wire; `bytes` is the whole act.
pub(super) fn genesis(signed: wire::Genesis, bytes: &Bytes) -> Result<Deed, BodyError> {
    let body: wire::GenesisBody = message(tag::GENESIS, &signed.body)?;
    if body.rules != ROOM_RULES {
        return Ok(Deed::NewerGenesis(NewerGenesis {
            rules: body.rules,
            room: room_id(&signed.body),
            bytes: bytes.clone(),
        }));
    }
    let history = match (body.history, body.history_days) {
        (0, 0) => History::Full,
        (1, 0) => History::FromJoin,
        (2, days) => History::Days(days),
        (other, _) => {
            return Err(BodyError::Value {
                field: "history",
                actual: u64::from(other),
            });
        }
    };
    let missing = BodyError::Missing { field: "owner" };
    let mut owner = body.owner.ok_or(missing)?;
    owner.claim = signed.claim;
    let signatures = [signed.entries_signature, signed.blobs_signature];
    let claims = [&mut owner.entries_claim, &mut owner.blobs_claim];
    for (claim, signature) in claims.into_iter().zip(signatures) {
        if let Some(claim) = claim {
            claim.signature = signature;
        }
    }
    Ok(Deed::Genesis(Genesis {
        name: text("name", body.name)?,
        history,
        random: fixed("random", &body.random)?,
        commitment: EpochCommitment(fixed("epoch_commitment", &body.epoch_commitment)?),
        owner: owner.try_into()?,
    }))
}

fn history_numbers(history: History) -> (u8, u32) {
    match history {
        History::Full => (0, 0),
        History::FromJoin => (1, 0),
        History::Days(days) => (2, days),
    }
}

impl From<&Genesis> for wire::Genesis {
    fn from(genesis: &Genesis) -> Self {
        let owner = &genesis.owner;
        wire::Genesis {
            body: genesis.body(),
            claim: owner.claim.to_vec().into(),
            entries_signature: owner.entries_claim.signature.to_vec().into(),
            blobs_signature: owner.blobs_claim.signature.to_vec().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{DeviceKey, FeedKey, PublicKey};

    use super::*;
    use crate::entry::{Act, Body, FeedClaim, Parents};
    use crate::identity::IdentitySet;

    const FORMAT: u64 = crate::BODY_FORMAT as u64;

    fn act() -> wire::Act {
        let claim = FeedClaim {
            public_key: PublicKey([3; 32]),
            signature: [4; 64],
        };
        let genesis = Genesis {
            name: Text::new("kitchen").expect("short"),
            history: History::Days(30),
            random: [9; 32],
            commitment: EpochSecret::new([1; 32]).commitment(),
            owner: Membership {
                agent: AgentId([1; 32]),
                identity_set: Bytes::from_static(b"set"),
                device: DeviceKey([2; 32]),
                entries_feed: FeedKey([5; 32]),
                entries_claim: claim,
                blobs_feed: FeedKey([6; 32]),
                blobs_claim: claim,
                claim: [7; 64],
            },
        };
        let act = Act {
            parents: Parents::default(),
            seq: 0,
            deed: Deed::Genesis(genesis),
        };
        wire::Act::from(&act)
    }

    fn decode(act: &wire::Act) -> Result<Body, BodyError> {
        Body::decode(tag::GENESIS, FORMAT, &act.encode_to_vec().into())
    }

    fn with_body(change: impl FnOnce(&mut wire::GenesisBody)) -> wire::Act {
        let mut act = act();
        let genesis = act.genesis.as_mut().expect("a genesis");
        let mut body = wire::GenesisBody::decode(genesis.body.clone()).expect("a body");
        change(&mut body);
        genesis.body = body.encode_to_vec().into();
        act
    }

    #[test]
    fn the_id_covers_every_field_and_no_signature() {
        let id = |act: &wire::Act| match decode(act) {
            Ok(Body::Act(act)) => match act.deed {
                Deed::Genesis(genesis) => genesis.room_id(),
                Deed::NewerGenesis(newer) => newer.room,
                other => unreachable!("{other:?}"),
            },
            other => unreachable!("{other:?}"),
        };
        let first = id(&act());
        let mut signed = act();
        signed.genesis.as_mut().expect("a genesis").claim = vec![8; 64].into();
        assert_eq!(id(&signed), first);
        let others = [
            with_body(|body| body.rules = 2),
            with_body(|body| body.name.push('2')),
            with_body(|body| body.history_days = 31),
            with_body(|body| body.random = vec![8; 32].into()),
            with_body(|body| body.epoch_commitment = vec![8; 32].into()),
            with_body(|body| {
                let owner = body.owner.as_mut().expect("an owner");
                owner.identity_set = Bytes::from_static(b"other");
            }),
        ];
        let ids: Vec<RoomId> = others.iter().map(id).collect();
        for (number, other) in ids.iter().enumerate() {
            assert!(
                *other != first && !ids[..number].contains(other),
                "{number}"
            );
        }
        assert_ne!(IdentitySet::hash_of(b"set"), IdentitySet::hash_of(b"other"));
    }

    #[test]
    fn a_room_of_other_rules_is_newer_and_keeps_its_bytes() {
        let mut bytes = with_body(|body| body.rules = 2).encode_to_vec();
        // A field that this build does not know, as such a room may well have.
        bytes.extend([0xf8, 0x07, 1]);
        let bytes = Bytes::from(bytes);
        let Ok(Body::Act(act)) = Body::decode(tag::GENESIS, FORMAT, &bytes) else {
            unreachable!("it is read as a newer one");
        };
        assert!(matches!(&act.deed, Deed::NewerGenesis(newer) if newer.rules == 2));
        assert_eq!(Body::Act(act).encode(), bytes);
    }

    #[test]
    fn an_act_has_one_form() {
        let newer = |bytes: Vec<u8>| {
            let decoded = Body::decode(tag::GENESIS, FORMAT, &bytes.into());
            matches!(decoded, Err(BodyError::Newer { .. }))
        };
        let bytes = act().encode_to_vec();
        assert!(!newer(bytes.clone()));
        // An unknown field, the field of another act, a field that says what is said by leaving it out.
        for more in [&[0xf8, 0x07, 1][..], &[0x22, 0], &[0x70, 0]] {
            assert!(newer([&bytes[..], more].concat()), "{more:?}");
        }
        let inside = with_body(|_| {});
        let mut inside_more = inside.clone();
        let genesis = inside_more.genesis.as_mut().expect("a genesis");
        genesis.body = [&genesis.body[..], &[0xf8, 0x07, 1]].concat().into();
        assert!(!newer(inside.encode_to_vec()));
        assert!(newer(inside_more.encode_to_vec()));
    }
}
