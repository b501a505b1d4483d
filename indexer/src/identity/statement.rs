//! One signed statement about an agent.

use kinlog_feeds::crypto::{
    AgentId, Hash, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError, blake2b_256, namespace,
    verify,
};
use kinlog_feeds::encoding::{Reader, Writer};

use crate::FORMAT;
use crate::identity::{IdentityError, Said};
use crate::limits::IDENTITY_NAMES_MAX;

/// The statements that another one depends on, by their hashes: at most 8, ascending.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names(Vec<Hash>);

impl Names {
    /// Takes at most [`IDENTITY_NAMES_MAX`] hashes, in any order.
    pub fn new(hashes: impl IntoIterator<Item = Hash>) -> Result<Self, IdentityError> {
        let mut hashes: Vec<Hash> = hashes.into_iter().collect();
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.len() > IDENTITY_NAMES_MAX {
            return Err(IdentityError::TooManyNames {
                limit: IDENTITY_NAMES_MAX,
                actual: hashes.len(),
            });
        }
        Ok(Names(hashes))
    }

    /// Returns the hashes, ascending.
    pub fn hashes(&self) -> &[Hash] {
        &self.0
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, IdentityError> {
        let count = reader.uint_max("named statements", IDENTITY_NAMES_MAX)?;
        let mut hashes: Vec<Hash> = Vec::with_capacity(count);
        for number in 0..count {
            let hash = Hash(reader.fixed()?);
            if hashes.last().is_some_and(|last| *last >= hash) {
                return Err(IdentityError::NotCanonical { number });
            }
            hashes.push(hash);
        }
        Ok(Names(hashes))
    }
}

/// A statement with its signature.
///
/// Layout: `u16 format | u8 kind | agent 32 | signer 32 | uint n <= 8 | n x statement hash 32,
/// ascending | body | signature 64`; signed is `NS("statement")` and everything before the signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statement {
    agent: AgentId,
    signer: PublicKey,
    names: Names,
    said: Said,
    signature: [u8; SIGNATURE_BYTES],
}

impl Statement {
    /// Makes a statement about `agent` that depends on `names`; whether `signer` may say it shows
    /// when the set is evaluated.
    pub fn sign(agent: AgentId, signer: &KeyPair, names: Names, said: Said) -> Self {
        let mut statement = Statement {
            agent,
            signer: signer.public_key(),
            names,
            said,
            signature: [0; SIGNATURE_BYTES],
        };
        statement.signature = signer.sign(&statement.signed_bytes());
        statement
    }

    /// Decodes a statement that fills `bytes`; verifies nothing.
    pub fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let mut reader = Reader::strict(bytes);
        let format = u16::from_le_bytes(reader.fixed()?);
        if format != FORMAT {
            return Err(IdentityError::OtherFormat {
                expected: FORMAT,
                actual: format,
            });
        }
        let kind_at = reader.position();
        let kind = reader.u8()?;
        let agent = AgentId(reader.fixed()?);
        let signer = PublicKey(reader.fixed()?);
        let names = Names::read(&mut reader)?;
        let said = Said::read(kind, kind_at, &mut reader)?;
        let signature = reader.fixed()?;
        reader.finish()?;
        Ok(Statement {
            agent,
            signer,
            names,
            said,
            signature,
        })
    }

    /// Encodes the statement.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.write_unsigned(&mut out);
        out.put_raw(&self.signature);
        out
    }

    /// Verifies that its signer signed it; not its acceptance, nor whether the signer may say it.
    pub fn verify(&self) -> Result<(), SignatureError> {
        verify(&self.signer, &self.signed_bytes(), &self.signature)
    }

    /// Returns the hash that names the statement: `H(NS("statement") || everything before the
    /// signature)`, so that two signatures of one statement are one statement.
    pub fn hash(&self) -> Hash {
        Hash(blake2b_256(&[&self.signed_bytes()]))
    }

    /// Returns the agent that it is about.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// Returns who signed it: a root or a device.
    pub fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// Returns the statements that it names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Returns what it says.
    pub fn said(&self) -> &Said {
        &self.said
    }

    pub(super) fn signature(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.signature
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.put_raw(&namespace::STATEMENT.hash());
        self.write_unsigned(&mut out);
        out
    }

    fn write_unsigned(&self, out: &mut Vec<u8>) {
        out.put_raw(&FORMAT.to_le_bytes());
        out.push(self.said.kind());
        out.put_raw(self.agent.as_bytes());
        out.put_raw(self.signer.as_bytes());
        out.put_uint(self.names.0.len() as u64);
        for hash in &self.names.0 {
            out.put_raw(&hash.0);
        }
        self.said.write(out);
    }
}
