//! Acts as protobuf: the border where bytes become [`Act`]s.

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, Hash, PublicKey};
use prost::Message as _;

use crate::entry::body::{fixed, message, text};
use crate::entry::genesis::genesis;
use crate::entry::membership::identity_set;
use crate::entry::{
    Act, ActHash, Admit, BodyError, Cut, Deed, DeviceJoin, DeviceRevoke, Epoch, EpochCopy,
    EpochKeys, Grant, GrantRevoke, Invite, InviteRevoke, InviteUse, Leave, Membership, Parents,
    Remove, Role, RoleChange, tag,
};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{ROOM_CUTS_MAX, ROOM_DEVICES_MAX, ROOM_EPOCH_KEYS_MAX, ROOM_EPOCH_PARENTS_MAX};
use crate::seal::{EpochCommitment, EpochId};

impl Act {
    /// Decodes an act; the entry's `tag` says what it has to be.
    ///
    /// An act has one form: bytes that would be encoded otherwise are of a build that knows more
    /// fields, and say nothing here.
    pub(super) fn decode(body_tag: u64, bytes: &Bytes) -> Result<Self, BodyError> {
        let act = Act::from_wire(body_tag, message::<wire::Act>(body_tag, bytes)?, bytes)?;
        if act.encode() != *bytes {
            let format = u64::from(crate::BODY_FORMAT);
            return Err(BodyError::Newer {
                tag: body_tag,
                format,
            });
        }
        Ok(act)
    }

    /// Encodes the act in its one form.
    pub(super) fn encode(&self) -> Bytes {
        match &self.deed {
            Deed::NewerGenesis(newer) => newer.bytes.clone(),
            _ => wire::Act::from(self).encode_to_vec().into(),
        }
    }

    fn from_wire(body_tag: u64, body: wire::Act, bytes: &Bytes) -> Result<Self, BodyError> {
        let hashes = body.parents.iter().map(|hash| fixed("parents", hash));
        let hashes = hashes.map(|hash| hash.map(ActHash));
        let parents = Parents::from_canonical(hashes.collect::<Result<_, _>>()?);
        let parents = parents.ok_or(BodyError::Value {
            field: "parents",
            actual: body.parents.len() as u64,
        })?;
        let missing = BodyError::Missing { field: "act" };
        let deed = match body_tag {
            tag::GENESIS => genesis(body.genesis.ok_or(missing)?, bytes)?,
            tag::ADMIT => Deed::Admit(body.admit.ok_or(missing)?.try_into()?),
            tag::INVITE => Deed::Invite(body.invite.ok_or(missing)?.try_into()?),
            tag::ROLE => Deed::Role(body.role.ok_or(missing)?.try_into()?),
            tag::REMOVE => Deed::Remove(body.remove.ok_or(missing)?.try_into()?),
            tag::LEAVE => Deed::Leave(Leave {
                cuts: cuts(body.leave.ok_or(missing)?.cuts)?,
            }),
            tag::DEVICE_JOIN => Deed::DeviceJoin(body.device_join.ok_or(missing)?.try_into()?),
            tag::DEVICE_REVOKE => {
                Deed::DeviceRevoke(body.device_revoke.ok_or(missing)?.try_into()?)
            }
            tag::INVITE_REVOKE => {
                let revoke = body.invite_revoke.ok_or(missing)?;
                Deed::InviteRevoke(InviteRevoke {
                    public_key: PublicKey(fixed("public_key", &revoke.public_key)?),
                    act: ActHash(fixed("invite_act", &revoke.invite_act)?),
                })
            }
            tag::EPOCH => Deed::Epoch(body.epoch.ok_or(missing)?.try_into()?),
            tag::GRANT => Deed::Grant(body.grant.ok_or(missing)?.try_into()?),
            tag::GRANT_REVOKE => {
                let revoke = body.grant_revoke.ok_or(missing)?;
                let hash = Hash(fixed("grant_hash", &revoke.grant_hash)?);
                Deed::GrantRevoke(GrantRevoke { hash })
            }
            tag::DELETE => Deed::Delete(body.delete.ok_or(missing)?.try_into()?),
            _ => {
                return Err(BodyError::Newer {
                    tag: body_tag,
                    format: u64::from(crate::BODY_FORMAT),
                });
            }
        };
        Ok(Act {
            parents,
            seq: body.seq,
            deed,
        })
    }
}

impl From<&Act> for wire::Act {
    fn from(act: &Act) -> Self {
        let parents = act.parents.as_slice().iter();
        let mut body = wire::Act {
            parents: parents.map(|hash| copied(&hash.0)).collect(),
            seq: act.seq,
            ..wire::Act::default()
        };
        match &act.deed {
            Deed::Genesis(genesis) => body.genesis = Some(genesis.into()),
            // Its bytes are kept as they are.
            Deed::NewerGenesis(_) => {}
            Deed::Admit(admit) => body.admit = Some(admit.into()),
            Deed::Invite(invite) => body.invite = Some(invite.into()),
            Deed::Role(role) => {
                body.role = Some(wire::RoleChange {
                    agent: copied(&role.agent.0),
                    role: role_number(role.role),
                });
            }
            Deed::Remove(remove) => {
                body.remove = Some(wire::Remove {
                    agent: copied(&remove.agent.0),
                    cuts: remove.cuts.iter().map(wire::Cut::from).collect(),
                    reason: remove.reason.to_string(),
                });
            }
            Deed::Leave(leave) => {
                let cuts = leave.cuts.iter().map(wire::Cut::from).collect();
                body.leave = Some(wire::Leave { cuts });
            }
            Deed::DeviceJoin(join) => {
                body.device_join = Some(wire::DeviceJoin {
                    device: Some((&join.device).into()),
                    epochs: epochs_to_wire(&join.epochs),
                });
            }
            Deed::DeviceRevoke(revoke) => {
                body.device_revoke = Some(wire::DeviceRevoke {
                    agent: copied(&revoke.agent.0),
                    device_key: copied(&revoke.device.0),
                    identity_set: revoke.identity_set.clone(),
                    cuts: revoke.cuts.iter().map(wire::Cut::from).collect(),
                });
            }
            Deed::InviteRevoke(revoke) => {
                body.invite_revoke = Some(wire::InviteRevoke {
                    public_key: copied(&revoke.public_key.0),
                    invite_act: copied(&revoke.act.0),
                });
            }
            Deed::Epoch(epoch) => body.epoch = Some(epoch.into()),
            Deed::Grant(grant) => {
                body.grant = Some(wire::Grant {
                    seeder: copied(&grant.seeder.0),
                    expires_at: grant.expires_at_ms,
                    quota_class: u32::from(grant.quota_class),
                    grant_hash: copied(&grant.hash.0),
                });
            }
            Deed::GrantRevoke(revoke) => {
                let grant_hash = copied(&revoke.hash.0);
                body.grant_revoke = Some(wire::GrantRevoke { grant_hash });
            }
            Deed::Delete(delete) => body.delete = Some(delete.into()),
        }
        body
    }
}

impl TryFrom<wire::Admit> for Admit {
    type Error = BodyError;

    fn try_from(body: wire::Admit) -> Result<Self, BodyError> {
        let fields = [&body.invite_key, &body.invite_signature, &body.invite_act];
        let invite = if fields.iter().all(|field| field.is_empty()) {
            None
        } else {
            Some(InviteUse {
                public_key: PublicKey(fixed("invite_key", &body.invite_key)?),
                act: ActHash(fixed("invite_act", &body.invite_act)?),
                signature: fixed("invite_signature", &body.invite_signature)?,
            })
        };
        Ok(Admit {
            member: membership("member", body.member)?,
            role: role(body.role)?,
            invite,
            epochs: epochs("epochs", &body.epochs, ROOM_EPOCH_KEYS_MAX)?,
        })
    }
}

impl From<&Admit> for wire::Admit {
    fn from(body: &Admit) -> Self {
        let invite = body.invite.as_ref();
        wire::Admit {
            member: Some((&body.member).into()),
            role: role_number(body.role),
            invite_key: invite.map_or_else(Bytes::new, |invite| copied(&invite.public_key.0)),
            invite_signature: invite.map_or_else(Bytes::new, |invite| copied(&invite.signature)),
            epochs: epochs_to_wire(&body.epochs),
            invite_act: invite.map_or_else(Bytes::new, |invite| copied(&invite.act.0)),
        }
    }
}

impl TryFrom<wire::Invite> for Invite {
    type Error = BodyError;

    fn try_from(body: wire::Invite) -> Result<Self, BodyError> {
        Ok(Invite {
            public_key: PublicKey(fixed("public_key", &body.public_key)?),
            role: role(body.role)?,
            expires_at_ms: (body.expires_at != 0).then_some(body.expires_at),
            uses: (body.uses != 0).then_some(body.uses),
        })
    }
}

impl From<&Invite> for wire::Invite {
    fn from(body: &Invite) -> Self {
        wire::Invite {
            public_key: copied(&body.public_key.0),
            role: role_number(body.role),
            expires_at: body.expires_at_ms.unwrap_or_default(),
            uses: body.uses.unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::RoleChange> for RoleChange {
    type Error = BodyError;

    fn try_from(body: wire::RoleChange) -> Result<Self, BodyError> {
        Ok(RoleChange {
            agent: AgentId(fixed("agent", &body.agent)?),
            role: role(body.role)?,
        })
    }
}

impl TryFrom<wire::Remove> for Remove {
    type Error = BodyError;

    fn try_from(body: wire::Remove) -> Result<Self, BodyError> {
        Ok(Remove {
            agent: AgentId(fixed("agent", &body.agent)?),
            cuts: cuts(body.cuts)?,
            reason: text("reason", body.reason)?,
        })
    }
}

impl TryFrom<wire::DeviceJoin> for DeviceJoin {
    type Error = BodyError;

    fn try_from(body: wire::DeviceJoin) -> Result<Self, BodyError> {
        Ok(DeviceJoin {
            device: membership("device", body.device)?,
            epochs: epochs("epochs", &body.epochs, ROOM_EPOCH_KEYS_MAX)?,
        })
    }
}

impl TryFrom<wire::DeviceRevoke> for DeviceRevoke {
    type Error = BodyError;

    fn try_from(body: wire::DeviceRevoke) -> Result<Self, BodyError> {
        Ok(DeviceRevoke {
            agent: AgentId(fixed("agent", &body.agent)?),
            device: DeviceKey(fixed("device_key", &body.device_key)?),
            identity_set: identity_set(&body.identity_set)?,
            cuts: cuts(body.cuts)?,
        })
    }
}

impl TryFrom<wire::Epoch> for Epoch {
    type Error = BodyError;

    fn try_from(body: wire::Epoch) -> Result<Self, BodyError> {
        at_most("copies", body.copies.len(), ROOM_DEVICES_MAX)?;
        let copies = body.copies.iter().map(|copy| {
            Ok(EpochCopy {
                device: DeviceKey(fixed("device_key", &copy.device_key)?),
                sealed: fixed("sealed", &copy.sealed)?,
            })
        });
        Ok(Epoch {
            id: EpochId(fixed("epoch_id", &body.epoch_id)?),
            act_id: EpochId(fixed("act_id", &body.act_id)?),
            commitment: EpochCommitment(fixed("commitment", &body.commitment)?),
            parents: epochs("parents", &body.parents, ROOM_EPOCH_PARENTS_MAX)?,
            copies: copies.collect::<Result<_, BodyError>>()?,
        })
    }
}

impl From<&Epoch> for wire::Epoch {
    fn from(body: &Epoch) -> Self {
        let copies = body.copies.iter().map(|copy| wire::EpochCopy {
            device_key: copied(&copy.device.0),
            sealed: copied(&copy.sealed),
        });
        wire::Epoch {
            epoch_id: copied(&body.id.0),
            act_id: copied(&body.act_id.0),
            parents: epochs_to_wire(&body.parents),
            copies: copies.collect(),
            commitment: copied(&body.commitment.0),
        }
    }
}

impl TryFrom<wire::Grant> for Grant {
    type Error = BodyError;

    fn try_from(body: wire::Grant) -> Result<Self, BodyError> {
        let quota_class = u8::try_from(body.quota_class).map_err(|_| BodyError::Value {
            field: "quota_class",
            actual: u64::from(body.quota_class),
        })?;
        Ok(Grant {
            seeder: AgentId(fixed("seeder", &body.seeder)?),
            expires_at_ms: body.expires_at,
            quota_class,
            hash: Hash(fixed("grant_hash", &body.grant_hash)?),
        })
    }
}

impl TryFrom<wire::EpochKeys> for EpochKeys {
    type Error = BodyError;

    fn try_from(body: wire::EpochKeys) -> Result<Self, BodyError> {
        at_most("secrets", body.secrets.len(), ROOM_EPOCH_KEYS_MAX)?;
        at_most("act_keys", body.act_keys.len(), ROOM_EPOCH_KEYS_MAX)?;
        let secrets = body.secrets.iter().map(|key| fixed("secrets", key));
        let act_keys = body.act_keys.iter().map(|key| fixed("act_keys", key));
        EpochKeys::new(
            secrets.collect::<Result<_, _>>()?,
            act_keys.collect::<Result<_, _>>()?,
        )
    }
}

impl From<&EpochKeys> for wire::EpochKeys {
    fn from(body: &EpochKeys) -> Self {
        wire::EpochKeys {
            secrets: body.secrets().map(|key| copied(key)).collect(),
            act_keys: body.act_keys().map(|key| copied(key)).collect(),
        }
    }
}

fn membership(
    field: &'static str,
    body: Option<wire::Membership>,
) -> Result<Membership, BodyError> {
    body.ok_or(BodyError::Missing { field })?.try_into()
}

fn role(number: u32) -> Result<Role, BodyError> {
    let role = Role::ALL.get(number as usize).copied();
    role.ok_or(BodyError::Value {
        field: "role",
        actual: u64::from(number),
    })
}

const fn role_number(role: Role) -> u32 {
    match role {
        Role::Guest => 0,
        Role::Member => 1,
        Role::Admin => 2,
        Role::Owner => 3,
    }
}

fn cuts(cuts: Vec<wire::Cut>) -> Result<Vec<Cut>, BodyError> {
    at_most("cuts", cuts.len(), ROOM_CUTS_MAX)?;
    cuts.into_iter().map(Cut::try_from).collect()
}

fn epochs(field: &'static str, ids: &[Bytes], limit: usize) -> Result<Vec<EpochId>, BodyError> {
    at_most(field, ids.len(), limit)?;
    let ids = ids.iter().map(|id| fixed(field, id).map(EpochId));
    ids.collect()
}

fn epochs_to_wire(ids: &[EpochId]) -> Vec<Bytes> {
    ids.iter().map(|id| copied(&id.0)).collect()
}

fn at_most(field: &'static str, count: usize, limit: usize) -> Result<(), BodyError> {
    if count > limit {
        let actual = count as u64;
        return Err(BodyError::Value { field, actual });
    }
    Ok(())
}

fn copied(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
