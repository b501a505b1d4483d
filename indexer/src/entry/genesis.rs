//! How a room begins.

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, KeyPair, blake2b_256, namespace};
use kinlog_feeds::encoding::Writer;

use crate::entry::body::{fixed, text};
use crate::entry::{BodyError, Membership};
use crate::generated::kinlog_entry_v0 as wire;
use crate::identity::IdentitySet;
use crate::limits::NAME_BYTES_MAX;
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

/// The first entry of the owner's room feed; everything but the claim makes the room's id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Genesis {
    /// Name of the room.
    pub name: Text<NAME_BYTES_MAX>,
    /// What later members may read.
    pub history: History,
    /// Makes the id unguessable and unique.
    pub random: [u8; 32],
    /// The owner and the device that made the room.
    pub owner: Membership,
}

impl Genesis {
    /// Makes a room of the own device `device`, whose feeds there `entries` and `blobs` sign;
    /// `random` is 32 fresh random bytes.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one field of the genesis"
    )]
    pub fn sign(
        name: Text<NAME_BYTES_MAX>,
        history: History,
        random: [u8; 32],
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
            // The id does not cover the signatures, which cover the id.
            owner: owner(&RoomId::default(), identity_set),
        };
        let room = genesis.room_id();
        genesis.owner = owner(&room, genesis.owner.identity_set);
        (genesis, room)
    }

    /// Returns the room's id: `H(NS("genesis") || name || history || random || owner)`, the owner
    /// as agent, identity set hash, device and feeds.
    pub fn room_id(&self) -> RoomId {
        let (history, days) = history_numbers(self.history);
        let mut out = Vec::with_capacity(512);
        out.put_raw(&namespace::GENESIS.hash());
        out.put_buffer(self.name.as_bytes());
        out.push(history);
        out.put_raw(&days.to_le_bytes());
        out.put_raw(&self.random);
        out.put_raw(self.owner.agent.as_bytes());
        out.put_raw(&IdentitySet::hash_of(&self.owner.identity_set).0);
        out.put_raw(self.owner.device.as_bytes());
        out.put_raw(self.owner.entries_feed.as_bytes());
        out.put_raw(self.owner.blobs_feed.as_bytes());
        RoomId(blake2b_256(&[&out]))
    }
}

fn history_numbers(history: History) -> (u8, u32) {
    match history {
        History::Full => (0, 0),
        History::FromJoin => (1, 0),
        History::Days(days) => (2, days),
    }
}

impl TryFrom<wire::Genesis> for Genesis {
    type Error = BodyError;

    fn try_from(body: wire::Genesis) -> Result<Self, BodyError> {
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
        Ok(Genesis {
            name: text("name", body.name)?,
            history,
            random: fixed("random", &body.random)?,
            owner: body
                .owner
                .ok_or(BodyError::Missing { field: "owner" })?
                .try_into()?,
        })
    }
}

impl From<&Genesis> for wire::Genesis {
    fn from(body: &Genesis) -> Self {
        let (history, history_days) = history_numbers(body.history);
        wire::Genesis {
            name: body.name.to_string(),
            history: u32::from(history),
            history_days,
            random: body.random.to_vec().into(),
            owner: Some((&body.owner).into()),
        }
    }
}
