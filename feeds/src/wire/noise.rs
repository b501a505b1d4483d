//! The Noise XX handshake over the Edwards curve, as npm `noise-handshake` with `noise-curve-ed`.
//!
//! `Noise_XX_Ed25519_ChaChaPoly_BLAKE2b` with an empty prologue and empty payloads. Keys are
//! Ed25519 key pairs and the product is a point of the Edwards curve, not of X25519. Points that
//! are not canonical or not in the prime-order group are refused, as libsodium does.

use blake2::Blake2b512;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use hmac::{Mac, SimpleHmac};
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::{Secret, blake2b_512};
use crate::wire::{Role, WireError};

const PROTOCOL: &[u8] = b"Noise_XX_Ed25519_ChaChaPoly_BLAKE2b";
const POINT_BYTES: usize = 32;
const MAC_BYTES: usize = 16;
/// `e`.
const MESSAGE_1_BYTES: usize = POINT_BYTES;
/// `e, ee, s, es` and an empty payload.
const MESSAGE_2_BYTES: usize = POINT_BYTES + POINT_BYTES + MAC_BYTES + MAC_BYTES;
/// `s, se` and an empty payload.
const MESSAGE_3_BYTES: usize = POINT_BYTES + MAC_BYTES + MAC_BYTES;

/// What the handshake leaves behind.
pub(super) struct Keys {
    pub(super) send: Secret,
    pub(super) receive: Secret,
    pub(super) hash: [u8; 64],
    pub(super) remote_static: [u8; 32],
}

/// What a received handshake message leads to.
pub(super) struct Step {
    /// The next message to send.
    pub(super) reply: Option<Vec<u8>>,
    /// The keys, when this was the last message.
    pub(super) keys: Option<Keys>,
}

/// One side of a handshake in progress.
pub(super) struct Handshake {
    role: Role,
    symmetric: Symmetric,
    own_static: KeyPair,
    own_ephemeral: KeyPair,
    remote_ephemeral: Option<EdwardsPoint>,
}

impl Handshake {
    /// Starts a handshake; the initiator gets its first message.
    pub(super) fn new(
        role: Role,
        static_seed: &Secret,
        ephemeral_seed: &Secret,
    ) -> (Self, Option<Vec<u8>>) {
        let mut handshake = Handshake {
            role,
            symmetric: Symmetric::new(),
            own_static: KeyPair::from_seed(static_seed),
            own_ephemeral: KeyPair::from_seed(ephemeral_seed),
            remote_ephemeral: None,
        };
        let first = (role == Role::Initiator).then(|| {
            let mut message = handshake.write_ephemeral();
            handshake.symmetric.seal(&[], &mut message);
            message
        });
        (handshake, first)
    }

    /// Takes the next message of the remote.
    pub(super) fn receive(&mut self, message: &[u8]) -> Result<Step, WireError> {
        match (self.role, self.remote_ephemeral) {
            (Role::Responder, None) => {
                self.read_ephemeral(expect_length::<MESSAGE_1_BYTES>(message)?)?;
                self.symmetric.open(&[])?;
                Ok(Step {
                    reply: Some(self.write_second()?),
                    keys: None,
                })
            }
            (Role::Initiator, None) => {
                let remote_static = self.read_second(expect_length::<MESSAGE_2_BYTES>(message)?)?;
                let reply = self.write_third()?;
                Ok(Step {
                    reply: Some(reply),
                    keys: Some(self.split(remote_static)),
                })
            }
            (Role::Responder, Some(_)) => {
                let remote_static = self.read_third(expect_length::<MESSAGE_3_BYTES>(message)?)?;
                Ok(Step {
                    reply: None,
                    keys: Some(self.split(remote_static)),
                })
            }
            // The initiator is done with its only received message; the connection has moved on.
            (Role::Initiator, Some(_)) => Err(WireError::HandshakeAuthentication),
        }
    }

    fn write_ephemeral(&mut self) -> Vec<u8> {
        self.symmetric.mix_hash(&self.own_ephemeral.public);
        self.own_ephemeral.public.to_vec()
    }

    fn read_ephemeral(&mut self, bytes: &[u8]) -> Result<EdwardsPoint, WireError> {
        let point = decode_point(bytes)?;
        self.symmetric.mix_hash(bytes);
        self.remote_ephemeral = Some(point);
        Ok(point)
    }

    /// Writes `e, ee, s, es`.
    fn write_second(&mut self) -> Result<Vec<u8>, WireError> {
        let remote = self
            .remote_ephemeral
            .ok_or(WireError::HandshakeAuthentication)?;
        let mut message = self.write_ephemeral();
        self.symmetric.mix_key(&self.own_ephemeral.agree(&remote));
        self.symmetric.seal(&self.own_static.public, &mut message);
        self.symmetric.mix_key(&self.own_static.agree(&remote));
        self.symmetric.seal(&[], &mut message);
        Ok(message)
    }

    /// Reads `e, ee, s, es`.
    fn read_second(&mut self, message: &[u8]) -> Result<[u8; 32], WireError> {
        let (ephemeral, rest) = message.split_at(POINT_BYTES);
        let (sealed_static, payload) = rest.split_at(POINT_BYTES + MAC_BYTES);
        let remote = self.read_ephemeral(ephemeral)?;
        self.symmetric.mix_key(&self.own_ephemeral.agree(&remote));
        let remote_static = self.symmetric.open(sealed_static)?;
        let point = decode_point(&remote_static)?;
        self.symmetric.mix_key(&self.own_ephemeral.agree(&point));
        self.symmetric.open(payload)?;
        Ok(point.compress().0)
    }

    /// Writes `s, se`.
    fn write_third(&mut self) -> Result<Vec<u8>, WireError> {
        let remote = self
            .remote_ephemeral
            .ok_or(WireError::HandshakeAuthentication)?;
        let mut message = Vec::with_capacity(MESSAGE_3_BYTES);
        self.symmetric.seal(&self.own_static.public, &mut message);
        self.symmetric.mix_key(&self.own_static.agree(&remote));
        self.symmetric.seal(&[], &mut message);
        Ok(message)
    }

    /// Reads `s, se`.
    fn read_third(&mut self, message: &[u8]) -> Result<[u8; 32], WireError> {
        let (sealed_static, payload) = message.split_at(POINT_BYTES + MAC_BYTES);
        let remote_static = self.symmetric.open(sealed_static)?;
        let point = decode_point(&remote_static)?;
        self.symmetric.mix_key(&self.own_ephemeral.agree(&point));
        self.symmetric.open(payload)?;
        Ok(point.compress().0)
    }

    fn split(&self, remote_static: [u8; 32]) -> Keys {
        let (first, second) = self.symmetric.derive(&[]);
        let (first, second) = (first_half(&first), first_half(&second));
        let (send, receive) = match self.role {
            Role::Initiator => (first, second),
            Role::Responder => (second, first),
        };
        Keys {
            send,
            receive,
            hash: self.symmetric.hash,
            remote_static,
        }
    }
}

/// Noise's symmetric and cipher state.
struct Symmetric {
    hash: [u8; 64],
    chaining_key: Zeroizing<[u8; 64]>,
    key: Option<Secret>,
    nonce: u64,
}

impl Symmetric {
    fn new() -> Self {
        let mut hash = [0; 64];
        hash[..PROTOCOL.len()].copy_from_slice(PROTOCOL);
        let mut symmetric = Symmetric {
            hash,
            chaining_key: Zeroizing::new(hash),
            key: None,
            nonce: 0,
        };
        symmetric.mix_hash(&[]); // the empty prologue
        symmetric
    }

    fn mix_hash(&mut self, bytes: &[u8]) {
        self.hash = blake2b_512(&[&self.hash, bytes]);
    }

    fn mix_key(&mut self, input: &[u8; 32]) {
        let (chaining_key, key) = self.derive(input);
        self.chaining_key = chaining_key;
        self.key = Some(first_half(&key));
        self.nonce = 0;
    }

    /// HKDF of Noise with empty info and two outputs.
    fn derive(&self, input: &[u8]) -> (Zeroizing<[u8; 64]>, Zeroizing<[u8; 64]>) {
        let temporary = hmac(&*self.chaining_key, &[input]);
        let first = hmac(&*temporary, &[&[1]]);
        let second = hmac(&*temporary, &[&*first, &[2]]);
        (first, second)
    }

    /// Encrypts (once there is a key) to the end of `out` and mixes the ciphertext.
    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        match &self.key {
            None => out.extend_from_slice(plain),
            Some(key) => {
                let payload = Payload {
                    msg: plain,
                    aad: &self.hash,
                };
                let sealed = ChaCha20Poly1305::new(&Key::from(*key.expose()))
                    .encrypt(&nonce(self.nonce), payload)
                    .expect("a handshake message is far below the cipher's limit");
                self.nonce += 1;
                out.extend_from_slice(&sealed);
            }
        }
        self.mix_hash(&out[start..]);
    }

    /// Decrypts (once there is a key) and mixes the ciphertext; a failure advances nothing.
    fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, WireError> {
        let plain = match &self.key {
            None => sealed.to_vec(),
            Some(key) => {
                let payload = Payload {
                    msg: sealed,
                    aad: &self.hash,
                };
                let plain = ChaCha20Poly1305::new(&Key::from(*key.expose()))
                    .decrypt(&nonce(self.nonce), payload)
                    .map_err(|_| WireError::HandshakeAuthentication)?;
                self.nonce += 1;
                plain
            }
        };
        self.mix_hash(sealed);
        Ok(plain)
    }
}

/// An Ed25519 key pair used for key agreement.
struct KeyPair {
    scalar: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl KeyPair {
    fn from_seed(seed: &Secret) -> Self {
        let mut expanded = Sha512::digest(seed.expose());
        let mut scalar = Zeroizing::new([0; 32]);
        scalar.copy_from_slice(&expanded[..32]);
        expanded.as_mut_slice().zeroize();
        // `mul_base_clamped` clamps as Ed25519 does, so this is the Ed25519 public key.
        let public = EdwardsPoint::mul_base_clamped(*scalar).compress().0;
        KeyPair { scalar, public }
    }

    fn agree(&self, remote: &EdwardsPoint) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(remote.mul_clamped(*self.scalar).compress().0)
    }
}

/// Decodes a canonical, non-trivial point of the prime-order group.
fn decode_point(bytes: &[u8]) -> Result<EdwardsPoint, WireError> {
    let compressed = CompressedEdwardsY::from_slice(bytes).map_err(|_| WireError::InvalidPoint)?;
    let point = compressed.decompress().ok_or(WireError::InvalidPoint)?;
    let canonical = point.compress() == compressed;
    if !canonical || point.is_small_order() || !point.is_torsion_free() {
        return Err(WireError::InvalidPoint);
    }
    Ok(point)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    let mut mac = <SimpleHmac<Blake2b512> as KeyInit>::new_from_slice(key)
        .expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn first_half(bytes: &[u8; 64]) -> Secret {
    let mut half = [0; 32];
    half.copy_from_slice(&bytes[..32]);
    Secret::new(half)
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::from(bytes)
}

fn expect_length<const EXPECTED: usize>(message: &[u8]) -> Result<&[u8], WireError> {
    if message.len() == EXPECTED {
        Ok(message)
    } else {
        Err(WireError::FrameLength {
            expected: EXPECTED,
            actual: message.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::decode_hex;

    #[test]
    fn small_order_and_foreign_points_are_refused() {
        // The eight points of small order (order 1, 2, 4, 8) in canonical form, RFC 7748 style lists.
        for point in [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        ] {
            let bytes = decode_hex(point).unwrap();
            assert_eq!(
                decode_point(&bytes),
                Err(WireError::InvalidPoint),
                "{point}"
            );
        }
        // Not canonical: y = p + 1.
        let mut bytes = [0xff; 32];
        bytes[0] = 0xee;
        bytes[31] = 0x7f;
        assert_eq!(decode_point(&bytes), Err(WireError::InvalidPoint));
        // A good key plus a point of order 8 is off the prime-order group.
        let torsion = curve25519_dalek::constants::EIGHT_TORSION[1];
        let good = KeyPair::from_seed(&Secret::new([1; 32])).public;
        let mixed = CompressedEdwardsY(good).decompress().unwrap() + torsion;
        assert_eq!(
            decode_point(&mixed.compress().0),
            Err(WireError::InvalidPoint)
        );
        assert!(decode_point(&good).is_ok());
    }

    #[test]
    fn public_key_is_the_ed25519_public_key() {
        let seed = [7; 32];
        let pair = KeyPair::from_seed(&Secret::new(seed));
        assert_eq!(pair.public, crate::KeyPair::from_seed(&seed).public_key().0);
    }

    #[test]
    fn keys_are_those_of_noise_handshake() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/hypercore-v11.json")).unwrap();
        let section = &vectors["noiseXX"];
        let fixed = |name: &str| -> [u8; 32] {
            decode_hex(section[name].as_str().unwrap())
                .unwrap()
                .try_into()
                .unwrap()
        };
        let seed = |name: &str| Secret::new(fixed(name));
        let (mut initiator, first) = Handshake::new(
            Role::Initiator,
            &seed("initiatorStaticSeed"),
            &seed("initiatorEphemeralSeed"),
        );
        let (mut responder, none) = Handshake::new(
            Role::Responder,
            &seed("responderStaticSeed"),
            &seed("responderEphemeralSeed"),
        );
        assert!(none.is_none());
        let second = responder.receive(&first.unwrap()).unwrap().reply.unwrap();
        let done = initiator.receive(&second).unwrap();
        let keys = done.keys.unwrap();
        assert_eq!(keys.send.expose(), &fixed("initiatorTx"));
        assert_eq!(keys.receive.expose(), &fixed("initiatorRx"));
        let other = responder
            .receive(&done.reply.unwrap())
            .unwrap()
            .keys
            .unwrap();
        assert_eq!(other.send.expose(), &fixed("initiatorRx"));
        assert_eq!(other.receive.expose(), &fixed("initiatorTx"));
        let public = |seed: [u8; 32]| crate::KeyPair::from_seed(&seed).public_key().0;
        assert_eq!(keys.remote_static, public(fixed("responderStaticSeed")));
        assert_eq!(other.remote_static, public(fixed("initiatorStaticSeed")));
    }

    #[test]
    fn any_flipped_bit_of_a_handshake_ends_it() {
        let seeds = [
            Secret::new([1; 32]),
            Secret::new([2; 32]),
            Secret::new([3; 32]),
        ];
        let (_, first) = Handshake::new(Role::Initiator, &seeds[0], &seeds[1]);
        let (mut responder, _) = Handshake::new(Role::Responder, &seeds[1], &seeds[2]);
        let second = responder.receive(&first.unwrap()).unwrap().reply.unwrap();
        for at in 0..second.len() {
            let (mut initiator, _) = Handshake::new(Role::Initiator, &seeds[0], &seeds[1]);
            let mut forged = second.clone();
            forged[at] ^= 1 << (at % 8);
            assert!(initiator.receive(&forged).is_err(), "byte {at}");
        }
    }
}
