//! One signed statement about an agent.

use kinlog_feeds::crypto::{
    AgentId, DeviceKey, FeedKey, Hash, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError,
    blake2b_256, namespace, verify,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};

use crate::identity::IdentityError;
use crate::limits::NAME_BYTES_MAX;
use crate::{FORMAT_0_REVISION, Text};

const KIND_DEVICE_ADDED: u8 = 1;

/// What a device may do in its agent's name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Powers(pub u32);

impl Powers {
    /// Writes to the agent's paths and rooms.
    pub const WRITE: Powers = Powers(1);
    /// Adds and revokes devices.
    pub const DEVICES: Powers = Powers(2);
    /// Everything that this build knows.
    pub const ALL: Powers = Powers(3);

    /// Returns whether all of `other` are among these.
    pub const fn contains(self, other: Powers) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A device becomes the agent's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceAdded {
    /// The agent.
    pub agent: AgentId,
    /// The device's signing key.
    pub device: DeviceKey,
    /// The device's X25519 public key, to which secrets are sealed.
    pub x25519: [u8; 32],
    /// The device's public directory.
    pub directory: FeedKey,
    /// Name of the device, as its owner calls it.
    pub name: Text<NAME_BYTES_MAX>,
    /// What it may do.
    pub powers: Powers,
}

/// A statement with its signature.
///
/// Layout: `u16 revision | u8 kind | agent 32 | device 32 | X25519 32 | directory 32 | u32 powers |
/// uint length, name | signature 64`; signed is `NS("statement")` and everything before the
/// signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statement {
    added: DeviceAdded,
    signature: [u8; SIGNATURE_BYTES],
}

impl Statement {
    /// Makes the statement that `added` says, signed by the agent's root.
    pub fn device_added(root: &KeyPair, added: DeviceAdded) -> Self {
        let signature = root.sign(&signed_bytes(&added));
        Statement { added, signature }
    }

    /// Decodes a statement that fills `bytes`; verifies nothing.
    pub fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let mut reader = Reader::new(bytes);
        let revision = u16::from_le_bytes(reader.fixed()?);
        if revision != FORMAT_0_REVISION {
            return Err(IdentityError::OtherRevision {
                expected: FORMAT_0_REVISION,
                actual: revision,
            });
        }
        let at = reader.position();
        let kind = reader.u8()?;
        if kind != KIND_DEVICE_ADDED {
            let actual = u64::from(kind);
            return Err(DecodeError::UnknownValue {
                what: "statement kind",
                at,
                actual,
            }
            .into());
        }
        let agent = AgentId(reader.fixed()?);
        let device = DeviceKey(reader.fixed()?);
        let x25519 = reader.fixed()?;
        let directory = FeedKey(reader.fixed()?);
        let powers = Powers(reader.u32()?);
        let at = reader.position();
        let name = reader.buffer("device name", NAME_BYTES_MAX)?;
        let name = std::str::from_utf8(name).map_err(|_| IdentityError::NotUtf8 { at })?;
        let name = Text::new(name).expect("the reader limits a name to NAME_BYTES_MAX");
        let signature = reader.fixed()?;
        reader.finish()?;
        let added = DeviceAdded {
            agent,
            device,
            x25519,
            directory,
            name,
            powers,
        };
        Ok(Statement { added, signature })
    }

    /// Encodes the statement.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = unsigned_bytes(&self.added);
        out.put_raw(&self.signature);
        out
    }

    /// Verifies that the root of the agent it speaks of signed it.
    pub fn verify(&self) -> Result<(), SignatureError> {
        verify(
            &PublicKey(self.added.agent.0),
            &signed_bytes(&self.added),
            &self.signature,
        )
    }

    /// Returns what it says.
    pub fn added(&self) -> &DeviceAdded {
        &self.added
    }

    /// Returns the hash that names the statement.
    pub fn hash(&self) -> Hash {
        Hash(blake2b_256(&[&namespace::STATEMENT.hash(), &self.encode()]))
    }
}

fn signed_bytes(added: &DeviceAdded) -> Vec<u8> {
    let mut out = namespace::STATEMENT.hash().to_vec();
    out.put_raw(&unsigned_bytes(added));
    out
}

fn unsigned_bytes(added: &DeviceAdded) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + added.name.len());
    out.put_raw(&FORMAT_0_REVISION.to_le_bytes());
    out.push(KIND_DEVICE_ADDED);
    out.put_raw(added.agent.as_bytes());
    out.put_raw(added.device.as_bytes());
    out.put_raw(&added.x25519);
    out.put_raw(added.directory.as_bytes());
    out.put_raw(&added.powers.0.to_le_bytes());
    out.put_buffer(added.name.as_bytes());
    out
}
