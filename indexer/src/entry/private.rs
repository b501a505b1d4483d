//! What an agent's devices say to each other alone, in their private directories.

use std::fmt;

use kinlog_feeds::crypto::{DeviceKey, Secret};

use crate::entry::body::{fixed, text};
use crate::entry::trust::{at_most, replaces_from_wire};
use crate::entry::{BodyError, EpochCopy, Ref};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{
    NAME_BYTES_MAX, OWN_EPOCH_COPIES_MAX, OWN_EPOCH_PARENTS_MAX, ROOM_EPOCH_KEYS_MAX,
    SETTING_BYTES_MAX, SETTING_NAME_BYTES_MAX,
};
use crate::seal::EpochId;
use crate::{RoomId, Text};

/// An epoch of the own devices, sealed to some of them; an open entry. The same epoch may stand in
/// several, each with copies for others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnEpoch {
    id: EpochId,
    parents: Vec<EpochId>,
    copies: Vec<EpochCopy>,
}

impl OwnEpoch {
    /// Takes at most [`OWN_EPOCH_PARENTS_MAX`] parents and [`OWN_EPOCH_COPIES_MAX`] copies.
    pub fn new(
        id: EpochId,
        parents: Vec<EpochId>,
        copies: Vec<EpochCopy>,
    ) -> Result<Self, BodyError> {
        check_count("parents", parents.len(), OWN_EPOCH_PARENTS_MAX)?;
        check_count("copies", copies.len(), OWN_EPOCH_COPIES_MAX)?;
        Ok(OwnEpoch {
            id,
            parents,
            copies,
        })
    }

    /// Returns the epoch's public name.
    pub fn id(&self) -> EpochId {
        self.id
    }

    /// Returns the epochs that it comes after.
    pub fn parents(&self) -> &[EpochId] {
        &self.parents
    }

    /// Returns the secret as it was sealed to devices.
    pub fn copies(&self) -> &[EpochCopy] {
        &self.copies
    }
}

/// A named value that all devices of an agent share: a register.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// Name of the register.
    pub name: Text<SETTING_NAME_BYTES_MAX>,
    value: Option<Vec<u8>>,
    replaces: Vec<Ref>,
}

impl Setting {
    /// Takes a value of at most [`SETTING_BYTES_MAX`] (`None` takes it away), and the at most
    /// [`REGISTER_REPLACES_MAX`] writes that it replaces.
    pub fn new(
        name: Text<SETTING_NAME_BYTES_MAX>,
        value: Option<Vec<u8>>,
        replaces: Vec<Ref>,
    ) -> Result<Self, BodyError> {
        let bytes = value.as_ref().map_or(0, Vec::len);
        check_count("value", bytes, SETTING_BYTES_MAX)?;
        Ok(Setting {
            name,
            value,
            replaces: at_most(replaces)?,
        })
    }

    /// Returns the value; `None` when it was taken away.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Returns the same value, which replaces these writes instead.
    pub fn replacing(self, replaces: Vec<Ref>) -> Result<Self, BodyError> {
        Ok(Setting {
            replaces: at_most(replaces)?,
            ..self
        })
    }

    /// Returns the writes that this one replaces.
    pub fn replaces(&self) -> &[Ref] {
        &self.replaces
    }
}

/// What a device needs to be in a room that a sibling is in.
#[derive(Clone, Eq, PartialEq)]
pub struct RoomKeys {
    /// The room.
    pub room: RoomId,
    /// What the room is called.
    pub name: Text<NAME_BYTES_MAX>,
    /// Ids that the writing device's own entries and blobs feeds derive from.
    pub feed_ids: [[u8; 16]; 2],
    secrets: Vec<Secret>,
    act_keys: Vec<Secret>,
}

impl RoomKeys {
    /// Takes epoch secrets and act keys, at most [`ROOM_EPOCH_KEYS_MAX`] of each.
    pub fn new(
        room: RoomId,
        name: Text<NAME_BYTES_MAX>,
        feed_ids: [[u8; 16]; 2],
        secrets: Vec<[u8; 32]>,
        act_keys: Vec<[u8; 32]>,
    ) -> Result<Self, BodyError> {
        check_count("secrets", secrets.len(), ROOM_EPOCH_KEYS_MAX)?;
        check_count("act_keys", act_keys.len(), ROOM_EPOCH_KEYS_MAX)?;
        Ok(RoomKeys {
            room,
            name,
            feed_ids,
            secrets: secrets.into_iter().map(Secret::new).collect(),
            act_keys: act_keys.into_iter().map(Secret::new).collect(),
        })
    }

    /// Returns the epoch secrets; whoever calls this keeps them out of logs and errors.
    pub fn secrets(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.secrets.iter().map(Secret::expose)
    }

    /// Returns the act keys of epochs whose secret was not given; whoever calls this keeps them out
    /// of logs and errors.
    pub fn act_keys(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.act_keys.iter().map(Secret::expose)
    }
}

impl fmt::Debug for RoomKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomKeys")
            .field("room", &self.room)
            .field("secrets", &self.secrets.len())
            .field("act_keys", &self.act_keys.len())
            .finish_non_exhaustive()
    }
}

fn check_count(field: &'static str, count: usize, max: usize) -> Result<(), BodyError> {
    if count > max {
        let actual = count as u64;
        return Err(BodyError::Value { field, actual });
    }
    Ok(())
}

impl TryFrom<wire::OwnEpoch> for OwnEpoch {
    type Error = BodyError;

    fn try_from(body: wire::OwnEpoch) -> Result<Self, BodyError> {
        check_count("parents", body.parents.len(), OWN_EPOCH_PARENTS_MAX)?;
        check_count("copies", body.copies.len(), OWN_EPOCH_COPIES_MAX)?;
        let parents = body.parents.iter();
        let parents = parents.map(|parent| Ok(EpochId(fixed("parents", parent)?)));
        let copies = body.copies.iter().map(|copy| {
            Ok(EpochCopy {
                device: DeviceKey(fixed("copies.device_key", &copy.device_key)?),
                sealed: fixed("copies.sealed", &copy.sealed)?,
            })
        });
        OwnEpoch::new(
            EpochId(fixed("epoch_id", &body.epoch_id)?),
            parents.collect::<Result<_, BodyError>>()?,
            copies.collect::<Result<_, BodyError>>()?,
        )
    }
}

impl From<&OwnEpoch> for wire::OwnEpoch {
    fn from(body: &OwnEpoch) -> Self {
        let parents = body.parents.iter();
        let copy = |copy: &EpochCopy| wire::EpochCopy {
            device_key: copy.device.0.to_vec().into(),
            sealed: copy.sealed.to_vec().into(),
        };
        wire::OwnEpoch {
            epoch_id: body.id.0.to_vec().into(),
            parents: parents.map(|parent| parent.0.to_vec().into()).collect(),
            copies: body.copies.iter().map(copy).collect(),
        }
    }
}

impl TryFrom<wire::Setting> for Setting {
    type Error = BodyError;

    fn try_from(body: wire::Setting) -> Result<Self, BodyError> {
        Setting::new(
            text("name", body.name)?,
            body.value.map(Into::into),
            replaces_from_wire(body.replaces)?,
        )
    }
}

impl From<&Setting> for wire::Setting {
    fn from(body: &Setting) -> Self {
        wire::Setting {
            name: body.name.to_string(),
            value: body.value.clone().map(Into::into),
            replaces: body.replaces.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::RoomKeys> for RoomKeys {
    type Error = BodyError;

    fn try_from(body: wire::RoomKeys) -> Result<Self, BodyError> {
        check_count("secrets", body.secrets.len(), ROOM_EPOCH_KEYS_MAX)?;
        check_count("act_keys", body.act_keys.len(), ROOM_EPOCH_KEYS_MAX)?;
        let keys = |field, keys: &[bytes::Bytes]| {
            keys.iter()
                .map(|key| fixed(field, key))
                .collect::<Result<Vec<[u8; 32]>, _>>()
        };
        RoomKeys::new(
            RoomId(fixed("room", &body.room)?),
            text("name", body.name)?,
            [
                fixed("entries_id", &body.entries_id)?,
                fixed("blobs_id", &body.blobs_id)?,
            ],
            keys("secrets", &body.secrets)?,
            keys("act_keys", &body.act_keys)?,
        )
    }
}

impl From<&RoomKeys> for wire::RoomKeys {
    fn from(body: &RoomKeys) -> Self {
        let keys = |keys: &[Secret]| {
            let keys = keys.iter();
            keys.map(|key| key.expose().to_vec().into()).collect()
        };
        wire::RoomKeys {
            room: body.room.as_bytes().to_vec().into(),
            name: body.name.to_string(),
            entries_id: body.feed_ids[0].to_vec().into(),
            blobs_id: body.feed_ids[1].to_vec().into(),
            secrets: keys(&body.secrets),
            act_keys: keys(&body.act_keys),
        }
    }
}
