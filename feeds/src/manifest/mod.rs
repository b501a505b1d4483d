//! Who may sign a feed: the manifest, the feed key that commits to it, and the signatures.
//!
//! Source: `lib/messages.js`, `lib/verifier.js`, `lib/multisig.js`, `lib/caps.js` of npm `hypercore`
//! 11. Versions 0 to 3 are read and written; new feeds get version 1 with one signer.

mod multisig;
mod verifier;

use bytes::Bytes;

pub use multisig::{Multisig, PartialSignature};
pub use verifier::{SignError, SignatureFault, Verifier, VerifierError, signable, signable_compat};

use crate::crypto::namespace::hypercore_namespace;
use crate::crypto::{FeedKey, Hash, PublicKey, blake2b_256};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::limits::{
    MANIFEST_BYTES_MAX, MANIFEST_LINKED_MAX, MANIFEST_SIGNERS_MAX, MANIFEST_VERSION_MAX,
};

const ALLOW_PATCH: u64 = 1;
const HAS_PROLOGUE: u64 = 2;
const HAS_LINKED: u64 = 4;
const HAS_USER_DATA: u64 = 8;
const ALL_FLAGS: u64 = ALLOW_PATCH | HAS_PROLOGUE | HAS_LINKED | HAS_USER_DATA;

/// The only hash there is.
const HASH_BLAKE2B: u64 = 0;
/// The only kind of signature there is.
const SIGNATURE_ED25519: u64 = 0;

const V0_STATIC: u64 = 0;
const V0_SINGLE: u64 = 1;
const V0_MULTI: u64 = 2;

/// One who may sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SignerKey {
    /// Namespace that version-0 signatures are made under.
    pub namespace: [u8; 32],
    /// The ed25519 key.
    pub public_key: PublicKey,
}

/// The tree that a feed begins with, which needs no signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prologue {
    /// Tree hash at `length`.
    pub hash: Hash,
    /// Length in blocks.
    pub length: u64,
}

/// Who may sign a feed. Untrusted until its hash is the feed key ([`Verifier::new`] checks).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// Version of the layout, 0 to 3.
    pub version: u8,
    /// Whether a signer may have signed a longer tree than the one at hand.
    pub allow_patch: bool,
    /// How many signers must have signed.
    pub quorum: u64,
    /// Who may sign.
    pub signers: Vec<SignerKey>,
    /// The tree the feed begins with.
    pub prologue: Option<Prologue>,
    /// Keys of feeds that belong to this one (version 2 and up in JavaScript).
    pub linked: Option<Vec<FeedKey>>,
    /// Bytes for the application (version 2 and up in JavaScript). Empty is written as absent, as
    /// JavaScript cannot tell the two apart.
    pub user_data: Option<Bytes>,
}

impl Manifest {
    /// Returns the default manifest of a feed with one writer: version 1, 70 bytes encoded.
    pub fn single(public_key: PublicKey) -> Manifest {
        let namespace = hypercore_namespace::default_namespace();
        Manifest {
            version: 1,
            allow_patch: false,
            quorum: 1,
            signers: vec![SignerKey {
                namespace,
                public_key,
            }],
            prologue: None,
            linked: None,
            user_data: None,
        }
    }

    /// Returns the manifest of a feed of Hypercore 10, whose key is its signer's public key.
    ///
    /// It equals [`Manifest::single`]; [`Verifier::new`] sees from the key which rules hold.
    pub fn compat(public_key: PublicKey) -> Manifest {
        Manifest::single(public_key)
    }

    /// Returns the bytes that travel and that the feed key commits to.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(6 + 65 * self.signers.len());
        out.put_uint(u64::from(self.version));
        if self.version == 0 {
            self.encode_v0(&mut out);
            return out;
        }
        let user_data = self.user_data.as_ref().filter(|data| !data.is_empty());
        let flags = [
            (self.allow_patch, ALLOW_PATCH),
            (self.prologue.is_some(), HAS_PROLOGUE),
            (self.linked.is_some(), HAS_LINKED),
            (user_data.is_some(), HAS_USER_DATA),
        ];
        out.put_uint(
            flags
                .into_iter()
                .filter(|(set, _)| *set)
                .map(|(_, flag)| flag)
                .sum(),
        );
        out.put_uint(HASH_BLAKE2B);
        out.put_uint(self.quorum);
        encode_signers(&self.signers, &mut out);
        if let Some(prologue) = &self.prologue {
            out.put_raw(&prologue.hash.0);
            out.put_uint(prologue.length);
        }
        if let Some(linked) = &self.linked {
            out.put_uint(linked.len() as u64);
            linked.iter().for_each(|key| out.put_raw(&key.0));
        }
        if let Some(user_data) = user_data {
            out.put_buffer(user_data);
        }
        out
    }

    /// Reads a manifest that fills `bytes`, at most [`MANIFEST_BYTES_MAX`].
    pub fn decode(bytes: &[u8]) -> Result<Manifest, DecodeError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(DecodeError::AboveLimit {
                what: "manifest",
                at: 0,
                limit: MANIFEST_BYTES_MAX as u64,
                actual: bytes.len() as u64,
            });
        }
        let mut reader = Reader::new(bytes);
        let manifest = Manifest::read(&mut reader)?;
        reader.finish()?;
        Ok(manifest)
    }

    /// Reads a manifest from the front of what `reader` has left.
    pub fn read(reader: &mut Reader<'_>) -> Result<Manifest, DecodeError> {
        let version = known(reader, "manifest version", MANIFEST_VERSION_MAX)?;
        if version == 0 {
            return Manifest::read_v0(reader);
        }
        let at = reader.position();
        let flags = reader.uint()?;
        if flags & !ALL_FLAGS != 0 {
            let what = "manifest flags";
            return Err(DecodeError::UnknownValue {
                what,
                at,
                actual: flags,
            });
        }
        known(reader, "manifest hash", HASH_BLAKE2B)?;
        let quorum = reader.uint()?;
        let signers = read_signers(reader)?;
        let prologue = match flags & HAS_PROLOGUE {
            0 => None,
            _ => Some(Prologue {
                hash: Hash(reader.fixed()?),
                length: reader.uint()?,
            }),
        };
        let linked = match flags & HAS_LINKED {
            0 => None,
            _ => {
                let count = reader.uint_max("linked feeds", MANIFEST_LINKED_MAX)?;
                let keys = (0..count).map(|_| Ok(FeedKey(reader.fixed()?)));
                Some(keys.collect::<Result<_, DecodeError>>()?)
            }
        };
        let user_data = match flags & HAS_USER_DATA {
            0 => None,
            _ => Some(reader.buffer("manifest user data", MANIFEST_BYTES_MAX)?),
        };
        Ok(Manifest {
            version: version as u8,
            allow_patch: flags & ALLOW_PATCH != 0,
            quorum,
            signers,
            prologue,
            linked,
            user_data: user_data
                .filter(|data| !data.is_empty())
                .map(Bytes::copy_from_slice),
        })
    }

    /// Returns the hash of the encoded manifest.
    pub fn hash(&self) -> Hash {
        Hash(blake2b_256(&[
            &hypercore_namespace::manifest(),
            &self.encode(),
        ]))
    }

    /// Returns the feed key under the rules of Hypercore 11: the manifest's hash.
    pub fn key(&self) -> FeedKey {
        FeedKey(self.hash().0)
    }

    /// Returns whether `key` is a feed of Hypercore 10 with this manifest's only signer.
    pub fn is_compat(&self, key: &FeedKey) -> bool {
        matches!(self.signers.as_slice(), [signer] if signer.public_key.0 == key.0)
    }

    fn encode_v0(&self, out: &mut Vec<u8>) {
        out.put_uint(HASH_BLAKE2B);
        match (&self.prologue, self.signers.as_slice()) {
            (Some(prologue), []) => {
                out.put_uint(V0_STATIC);
                out.put_raw(&prologue.hash.0);
            }
            (_, [signer]) if self.quorum == 1 && !self.allow_patch => {
                out.put_uint(V0_SINGLE);
                encode_signer(signer, out);
            }
            (_, signers) => {
                out.put_uint(V0_MULTI);
                out.put_uint(u64::from(self.allow_patch));
                out.put_uint(self.quorum);
                encode_signers(signers, out);
            }
        }
    }

    fn read_v0(reader: &mut Reader<'_>) -> Result<Manifest, DecodeError> {
        known(reader, "manifest hash", HASH_BLAKE2B)?;
        let mut manifest = Manifest {
            version: 0,
            allow_patch: false,
            quorum: 0,
            signers: Vec::new(),
            prologue: None,
            linked: None,
            user_data: None,
        };
        match known(reader, "manifest type", V0_MULTI)? {
            V0_STATIC => {
                manifest.prologue = Some(Prologue {
                    hash: Hash(reader.fixed()?),
                    length: 0,
                });
            }
            V0_SINGLE => {
                manifest.quorum = 1;
                manifest.signers = vec![read_signer(reader)?];
            }
            _ => {
                manifest.allow_patch = known(reader, "manifest flags", ALLOW_PATCH)? != 0;
                manifest.quorum = reader.uint()?;
                manifest.signers = read_signers(reader)?;
            }
        }
        Ok(manifest)
    }
}

/// Reads a number that the format knows only up to `last`.
fn known(reader: &mut Reader<'_>, what: &'static str, last: u64) -> Result<u64, DecodeError> {
    let at = reader.position();
    let actual = reader.uint()?;
    if actual > last {
        Err(DecodeError::UnknownValue { what, at, actual })
    } else {
        Ok(actual)
    }
}

fn encode_signer(signer: &SignerKey, out: &mut Vec<u8>) {
    out.put_uint(SIGNATURE_ED25519);
    out.put_raw(&signer.namespace);
    out.put_raw(&signer.public_key.0);
}

fn encode_signers(signers: &[SignerKey], out: &mut Vec<u8>) {
    out.put_uint(signers.len() as u64);
    signers.iter().for_each(|signer| encode_signer(signer, out));
}

fn read_signer(reader: &mut Reader<'_>) -> Result<SignerKey, DecodeError> {
    known(reader, "signature type", SIGNATURE_ED25519)?;
    Ok(SignerKey {
        namespace: reader.fixed()?,
        public_key: PublicKey(reader.fixed()?),
    })
}

fn read_signers(reader: &mut Reader<'_>) -> Result<Vec<SignerKey>, DecodeError> {
    let count = reader.uint_max("signers", MANIFEST_SIGNERS_MAX)?;
    (0..count).map(|_| read_signer(reader)).collect()
}
