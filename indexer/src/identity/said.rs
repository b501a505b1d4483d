//! The three kinds of statement, and those of later builds.

use kinlog_feeds::crypto::{
    AgentId, DeviceKey, Hash, KeyPair, PublicKey, SIGNATURE_BYTES, namespace, verify,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};

use crate::Text;
use crate::identity::{DeviceCard, IdentityError};
use crate::limits::NAME_BYTES_MAX;

const KIND_DEVICE_ADDED: u8 = 1;
const KIND_DEVICE_REVOKED: u8 = 2;
const KIND_ROOT_REPLACED: u8 = 3;

/// The first of the kinds that whoever does not know them may pass over.
const KIND_BESIDE: u8 = 128;

/// What a device may do in its agent's name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Powers(pub u32);

impl Powers {
    /// Writes to the agent's paths and rooms.
    pub const WRITE: Powers = Powers(1);
    /// Adds devices.
    pub const ADD: Powers = Powers(2);
    /// Revokes devices.
    pub const REVOKE: Powers = Powers(4);
    /// Everything that this build knows.
    pub const ALL: Powers = Powers(7);

    /// Returns whether all of `other` are among these.
    pub const fn contains(self, other: Powers) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns these and `other`.
    #[must_use]
    pub const fn with(self, other: Powers) -> Powers {
        Powers(self.0 | other.0)
    }

    /// Returns these but `other`.
    #[must_use]
    pub const fn without(self, other: Powers) -> Powers {
        Powers(self.0 & !other.0)
    }

    /// Returns the words for them that people read: `write, add, revoke`.
    pub fn words(self) -> Vec<&'static str> {
        let words = [
            (Powers::WRITE, "write"),
            (Powers::ADD, "add"),
            (Powers::REVOKE, "revoke"),
        ];
        words
            .into_iter()
            .filter(|(power, _)| self.contains(*power))
            .map(|(_, word)| word)
            .collect()
    }
}

/// What a statement says.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::large_enum_variant)] // a set has at most 256, most of them additions
pub enum Said {
    /// A device becomes the agent's, or gets another name.
    DeviceAdded(DeviceAdded),
    /// A device is the agent's no more.
    DeviceRevoked(DeviceRevoked),
    /// Another root takes over.
    RootReplaced(RootReplaced),
    /// What a later build says.
    Other(OtherSaid),
}

/// A statement of a kind that this build does not know: its bytes up to the signature, as they stand.
///
/// Kinds from 128 on say nothing of who is a device, so whoever does not know them goes on without.
/// Those below may: the statement waits, with everything that names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OtherSaid {
    kind: u8,
    body: Vec<u8>,
}

impl OtherSaid {
    /// Returns a statement of a kind above 3; `None` for a kind that this build knows, and for 0.
    pub fn new(kind: u8, body: Vec<u8>) -> Option<Self> {
        (kind > KIND_ROOT_REPLACED).then_some(OtherSaid { kind, body })
    }
}

/// A device becomes the agent's. Said again of a device that its past has, it renames it.
///
/// Layout: `device 32 | X25519 32 | public directory 32 | private directory 32 | u32 powers | buffer
/// name <= 256 | acceptance 64 | claim of each directory that is not zeros 96`, as in [`DeviceCard`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceAdded {
    /// The device, with its acceptance.
    pub card: DeviceCard,
    /// What it may do.
    pub powers: Powers,
    /// Name of the device, as its owner calls it.
    pub name: Text<NAME_BYTES_MAX>,
}

/// A device is the agent's no more, for ever.
///
/// Layout: `device 32 | cut of the public directory | cut of the private directory`, a cut being
/// `u8 0`, or `u8 1 | uint length | tree hash 32`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceRevoked {
    /// The device.
    pub device: DeviceKey,
    /// What of its public directory is accepted; `None`: nothing beyond what others hold vouched.
    pub public: Option<Cut>,
    /// What of its private directory is accepted, likewise.
    pub private: Option<Cut>,
}

/// How much of a feed is accepted, and of which branch. Smaller cuts sort first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Cut {
    /// Blocks that are accepted.
    pub length: u64,
    /// Tree hash at that length.
    pub tree_hash: Hash,
}

/// Another root key speaks for the agent from now on; the one that signs this does no more.
///
/// Layout: `new root 32 | acceptance 64`; the acceptance is the new root's signature over
/// `NS("root-accept") || agent || new root`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RootReplaced {
    /// The new root.
    pub root: PublicKey,
    acceptance: [u8; SIGNATURE_BYTES],
}

impl RootReplaced {
    /// Makes the new root whose key pair this is accept `agent`.
    pub fn sign(agent: &AgentId, root: &KeyPair) -> Self {
        let mut replaced = RootReplaced {
            root: root.public_key(),
            acceptance: [0; SIGNATURE_BYTES],
        };
        replaced.acceptance = root.sign(&replaced.signed_bytes(agent));
        replaced
    }

    fn signed_bytes(&self, agent: &AgentId) -> Vec<u8> {
        let mut out = namespace::ROOT_ACCEPT.hash().to_vec();
        out.put_raw(agent.as_bytes());
        out.put_raw(self.root.as_bytes());
        out
    }
}

impl Said {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Said::DeviceAdded(_) => KIND_DEVICE_ADDED,
            Said::DeviceRevoked(_) => KIND_DEVICE_REVOKED,
            Said::RootReplaced(_) => KIND_ROOT_REPLACED,
            Said::Other(other) => other.kind,
        }
    }

    /// Returns whether it may change who is a device in a way that this build does not know.
    pub(super) fn waits(&self) -> bool {
        matches!(self, Said::Other(other) if other.kind < KIND_BESIDE)
    }

    /// Returns whether it says nothing of who is a device.
    pub(super) fn is_beside(&self) -> bool {
        matches!(self, Said::Other(other) if other.kind >= KIND_BESIDE)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Said::DeviceAdded(added) => {
                out.put_raw(&added.card.keys());
                out.put_raw(&added.powers.0.to_le_bytes());
                out.put_buffer(added.name.as_bytes());
                added.card.write_proof(out);
            }
            Said::DeviceRevoked(revoked) => {
                out.put_raw(revoked.device.as_bytes());
                write_cut(out, revoked.public);
                write_cut(out, revoked.private);
            }
            Said::RootReplaced(replaced) => {
                out.put_raw(replaced.root.as_bytes());
                out.put_raw(&replaced.acceptance);
            }
            Said::Other(other) => out.put_raw(&other.body),
        }
    }

    pub(super) fn read(
        kind: u8,
        kind_at: usize,
        reader: &mut Reader<'_>,
    ) -> Result<Said, IdentityError> {
        match kind {
            KIND_DEVICE_ADDED => {
                let card = DeviceCard::read_keys(reader)?;
                let powers = Powers(reader.u32()?);
                let at = reader.position();
                let name = reader.buffer("device name", NAME_BYTES_MAX)?;
                let name = std::str::from_utf8(name).map_err(|_| IdentityError::NotUtf8 { at })?;
                let name = Text::new(name).expect("the reader limits a name to NAME_BYTES_MAX");
                let card = card.read_proof(reader)?;
                Ok(Said::DeviceAdded(DeviceAdded { card, powers, name }))
            }
            KIND_DEVICE_REVOKED => Ok(Said::DeviceRevoked(DeviceRevoked {
                device: DeviceKey(reader.fixed()?),
                public: read_cut(reader)?,
                private: read_cut(reader)?,
            })),
            KIND_ROOT_REPLACED => Ok(Said::RootReplaced(RootReplaced {
                root: PublicKey(reader.fixed()?),
                acceptance: reader.fixed()?,
            })),
            kind => {
                let body = reader.rest().len().saturating_sub(SIGNATURE_BYTES);
                let body = reader.raw(body)?.to_vec();
                let other = OtherSaid::new(kind, body).ok_or(DecodeError::UnknownValue {
                    what: "statement kind",
                    at: kind_at,
                    actual: u64::from(kind),
                })?;
                Ok(Said::Other(other))
            }
        }
    }

    /// Verifies what those say of themselves whom statement `number` of a set is about.
    pub(super) fn verify(&self, agent: &AgentId, number: usize) -> Result<(), IdentityError> {
        match self {
            Said::DeviceAdded(added) => {
                added
                    .card
                    .verify(agent)
                    .map_err(|source| IdentityError::Card { number, source })?;
                if added.powers.contains(Powers::WRITE) && !added.card.has_directories() {
                    return Err(IdentityError::WritesNowhere { number });
                }
                Ok(())
            }
            Said::DeviceRevoked(_) | Said::Other(_) => Ok(()),
            Said::RootReplaced(replaced) => {
                let signed = replaced.signed_bytes(agent);
                verify(&replaced.root, &signed, &replaced.acceptance)
                    .map_err(|source| IdentityError::Acceptance { number, source })
            }
        }
    }
}

fn write_cut(out: &mut Vec<u8>, cut: Option<Cut>) {
    match cut {
        None => out.push(0),
        Some(cut) => {
            out.push(1);
            out.put_uint(cut.length);
            out.put_raw(&cut.tree_hash.0);
        }
    }
}

fn read_cut(reader: &mut Reader<'_>) -> Result<Option<Cut>, DecodeError> {
    let at = reader.position();
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(Cut {
            length: reader.uint()?,
            tree_hash: Hash(reader.fixed()?),
        })),
        other => Err(DecodeError::UnknownValue {
            what: "cut",
            at,
            actual: u64::from(other),
        }),
    }
}
