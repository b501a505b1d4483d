//! Signatures that other ed25519 libraries accept and this one must not ("Taming the many EdDSAs",
//! Chalkias, Garillot, Nikolaenko 2020). JavaScript peers use libsodium, which refuses the same: a
//! signature that one half of the network accepts would split it.
#![allow(clippy::unwrap_used)] // keys and signatures are of our own making

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use kinlog_feeds::manifest::{Manifest, SignatureFault, Verifier};
use kinlog_feeds::tree::Head;
use kinlog_feeds::{FeedKey, KeyPair, PublicKey, crypto};
use sha2::{Digest, Sha512};

const MESSAGE: &[u8] = b"a head";

/// The order of the base point, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let mut hash = Sha512::new();
    hash.update(r);
    hash.update(key);
    hash.update(message);
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

fn join(r: &[u8; 32], s: &[u8; 32]) -> [u8; 64] {
    [*r, *s].concat().try_into().unwrap()
}

/// What a verifier that follows the plain equation says.
fn lax(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| {
        key.verify(message, &Signature::from_bytes(signature))
            .is_ok()
    })
}

fn strict(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    crypto::verify(&PublicKey(*key), message, signature).is_ok()
}

/// The secret scalar of a pair made from a seed (RFC 8032).
fn secret_scalar(seed: &[u8; 32]) -> Scalar {
    let hash: [u8; 64] = Sha512::digest(seed).into();
    let mut low: [u8; 32] = hash[..32].try_into().unwrap();
    low[0] &= 248;
    low[31] &= 127;
    low[31] |= 64;
    Scalar::from_bytes_mod_order(low)
}

#[test]
fn small_order_keys_sign_nothing() {
    let mut fooled = 0;
    for key in EIGHT_TORSION {
        let key = key.compress().to_bytes();
        // With such a key anybody finds, in a few tries, an R that makes the equation hold for S = 0.
        for r in EIGHT_TORSION {
            let signature = join(&r.compress().to_bytes(), &[0; 32]);
            fooled += usize::from(lax(&key, MESSAGE, &signature));
            assert!(!strict(&key, MESSAGE, &signature));
        }
    }
    assert!(fooled > 1, "the plain equation holds for {fooled} of these");
}

#[test]
fn small_order_r_is_refused_even_from_the_keys_owner() {
    let seed = [1; 32];
    let key = KeyPair::from_seed(&seed).public_key().0;
    assert_eq!(
        (ED25519_BASEPOINT_POINT * secret_scalar(&seed))
            .compress()
            .to_bytes(),
        key
    );
    let r = EdwardsPoint::default().compress().to_bytes();
    let s = challenge(&r, &key, MESSAGE) * secret_scalar(&seed);
    let signature = join(&r, &s.to_bytes());
    assert!(lax(&key, MESSAGE, &signature), "the plain equation holds");
    assert!(!strict(&key, MESSAGE, &signature));
}

#[test]
fn a_signature_has_one_form_only() {
    let pair = KeyPair::from_seed(&[1; 32]);
    let key = pair.public_key().0;
    let signature = pair.sign(MESSAGE);
    assert!(strict(&key, MESSAGE, &signature));
    let mut second = signature;
    let mut carry = 0u16;
    for (byte, order) in second[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0, "S + L fits into 32 bytes");
    assert_eq!(
        Scalar::from_bytes_mod_order(second[32..].try_into().unwrap()),
        Scalar::from_bytes_mod_order(signature[32..].try_into().unwrap()),
        "it is the same number"
    );
    assert!(!strict(&key, MESSAGE, &second));
}

#[test]
fn a_feed_whose_signer_has_small_order_accepts_no_head() {
    let small = EIGHT_TORSION[1].compress().to_bytes();
    let manifest = Manifest::single(PublicKey(small));
    let head = Head::default();
    for key in [manifest.key(), FeedKey(small)] {
        let verifier = Verifier::new(key, &manifest).unwrap();
        for r in EIGHT_TORSION {
            let raw = join(&r.compress().to_bytes(), &[0; 32]);
            let envelope = [&[1, 0][..], &raw, &[0, 0]].concat();
            let field = if key.0 == small {
                raw.to_vec()
            } else {
                envelope
            };
            let expected = SignatureFault::Signature {
                signer: PublicKey(small),
            };
            assert_eq!(verifier.verify_head(&head, &field), Err(expected));
        }
    }
}
