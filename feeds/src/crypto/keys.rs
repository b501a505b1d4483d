//! Keys as types of their own, so that one kind is never taken for another.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::blake2b_256_keyed;
use crate::text::{self, KeyTextError};

/// Bytes of an ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

macro_rules! key_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Returns the raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                $name(bytes)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&text::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &text::encode(&self.0)[..8])
            }
        }

        impl FromStr for $name {
            type Err = KeyTextError;

            fn from_str(text: &str) -> Result<Self, KeyTextError> {
                text::decode_key(text).map($name)
            }
        }
    };
}

key_type!(
    /// A feed's name: the hash of its manifest, or its signer's key on feeds of Hypercore 10.
    FeedKey
);
key_type!(
    /// A feed's name for those who do not know it: `H_{feed key}("hypercore")`.
    DiscoveryKey
);
key_type!(
    /// An ed25519 public key.
    PublicKey
);
key_type!(
    /// An agent's name: its root public key.
    AgentId
);
key_type!(
    /// A device's ed25519 public key.
    DeviceKey
);
key_type!(
    /// A BLAKE2b-256 hash: of a tree node, of a tree, of a manifest.
    Hash
);

impl FeedKey {
    /// Returns the discovery key, which names the feed without revealing it.
    pub fn discovery_key(&self) -> DiscoveryKey {
        DiscoveryKey(blake2b_256_keyed(&self.0, &[b"hypercore"]))
    }
}

/// 32 secret bytes: compared in constant time, wiped on drop, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes 32 secret bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Secret(bytes)
    }

    /// Returns the bytes; whoever calls this keeps them out of logs and errors.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// An ed25519 key pair, kept as its seed.
#[derive(Clone)]
pub struct KeyPair {
    signing: SigningKey,
}

impl KeyPair {
    /// Derives the pair from a 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        KeyPair {
            signing: SigningKey::from_bytes(seed),
        }
    }

    /// Returns the public key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.signing.verifying_key().to_bytes())
    }

    /// Signs `message`; equal messages give equal signatures (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.signing.sign(message).to_bytes()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("public_key", &self.public_key())
            .finish_non_exhaustive()
    }
}

/// A signature that does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("signature by {signer} does not hold")]
pub struct SignatureError {
    /// The key that was said to have signed.
    pub signer: PublicKey,
}

/// Verifies an ed25519 signature strictly: keys and commitments of small order, keys that are not in
/// their shortest form and scalars above the group's order are refused, as libsodium does.
pub fn verify(
    signer: &PublicKey,
    message: &[u8],
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<(), SignatureError> {
    let error = SignatureError { signer: *signer };
    if !is_canonical(&signer.0) {
        return Err(error);
    }
    VerifyingKey::from_bytes(&signer.0)
        .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature)))
        .map_err(|_| error)
}

/// Returns whether the coordinate in an encoded point is below the field's prime, 2^255 - 19.
fn is_canonical(point: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = point;
    *first < 0xed || last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let secret = Secret::new([0xab; 32]);
        let pair = KeyPair::from_seed(secret.expose());
        let shown = format!("{secret:?} {pair:?}");
        assert!(!shown.contains("ab, ab") && !shown.contains("171") && !shown.contains("abab"));
        assert!(shown.contains("redacted"));
    }

    #[test]
    fn keys_in_a_second_form_are_refused() {
        let with_first = |first: u8| {
            let mut point = [0xff; 32];
            (point[0], point[31]) = (first, 0x7f);
            point
        };
        assert!(is_canonical(&with_first(0xec)), "p - 1");
        assert!(is_canonical(
            KeyPair::from_seed(&[1; 32]).public_key().as_bytes()
        ));
        for first in 0xed..=0xff {
            assert!(!is_canonical(&with_first(first)));
            let mut negative = with_first(first);
            negative[31] = 0xff;
            assert!(!is_canonical(&negative));
        }
        let three = with_first(0xf0);
        assert!(
            VerifyingKey::from_bytes(&three).is_ok(),
            "p + 3 decodes as the point with y = 3"
        );
        assert!(verify(&PublicKey(three), b"", &[0; 64]).is_err());
    }

    #[test]
    fn right_signature_with_wrong_key_is_refused() {
        let pair = KeyPair::from_seed(&[1; 32]);
        let other = KeyPair::from_seed(&[2; 32]);
        let signature = pair.sign(b"message");
        assert_eq!(verify(&pair.public_key(), b"message", &signature), Ok(()));
        assert!(verify(&other.public_key(), b"message", &signature).is_err());
        assert!(verify(&pair.public_key(), b"massage", &signature).is_err());
    }
}
