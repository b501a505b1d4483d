//! Bytes that only one device can open: an ephemeral X25519 exchange and XChaCha20-Poly1305.
//!
//! `ephemeral key 32 | ciphertext`; key = H_{shared}(NS("sealed-box") || ephemeral key || recipient),
//! nonce zero (each key is used once), associated data given by the caller.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use kinlog_feeds::crypto::{Secret, blake2b_256_keyed, namespace};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;

/// Bytes that do not open: sealed to another device, for another purpose, or altered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("sealed for another device, or altered")]
pub(crate) struct OpenError;

/// Returns the X25519 public key of a secret.
pub(crate) fn public_key(secret: &Secret) -> [u8; KEY_BYTES] {
    PublicKey::from(&StaticSecret::from(*secret.expose())).to_bytes()
}

/// Seals `plain` to `recipient`; `ephemeral` is fresh random bytes, used for nothing else.
pub(crate) fn seal(
    recipient: &[u8; KEY_BYTES],
    ephemeral: Secret,
    associated: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, OpenError> {
    let secret = StaticSecret::from(*ephemeral.expose());
    let sender = PublicKey::from(&secret).to_bytes();
    let shared = secret.diffie_hellman(&PublicKey::from(*recipient));
    if !shared.was_contributory() {
        return Err(OpenError);
    }
    let cipher = cipher(shared.as_bytes(), &sender, recipient);
    let sealed = cipher
        .encrypt(
            &XNonce::default(),
            Payload {
                msg: plain,
                aad: associated,
            },
        )
        .map_err(|_| OpenError)?;
    Ok([&sender[..], &sealed].concat())
}

/// Opens what was sealed to this device.
pub(crate) fn open(
    secret: &Secret,
    associated: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (sender, sealed) = sealed.split_first_chunk::<KEY_BYTES>().ok_or(OpenError)?;
    let secret = StaticSecret::from(*secret.expose());
    let recipient = PublicKey::from(&secret).to_bytes();
    let shared = secret.diffie_hellman(&PublicKey::from(*sender));
    if !shared.was_contributory() {
        return Err(OpenError);
    }
    cipher(shared.as_bytes(), sender, &recipient)
        .decrypt(
            &XNonce::default(),
            Payload {
                msg: sealed,
                aad: associated,
            },
        )
        .map(Zeroizing::new)
        .map_err(|_| OpenError)
}

fn cipher(
    shared: &[u8; KEY_BYTES],
    sender: &[u8; KEY_BYTES],
    recipient: &[u8; KEY_BYTES],
) -> XChaCha20Poly1305 {
    let parts: [&[u8]; 3] = [&namespace::SEALED_BOX.hash(), sender, recipient];
    let key = Zeroizing::new(blake2b_256_keyed(shared, &parts));
    XChaCha20Poly1305::new(&Key::from(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recipient_opens_and_only_for_the_same_purpose() {
        let recipient = Secret::new([1; 32]);
        let sealed = seal(
            &public_key(&recipient),
            Secret::new([2; 32]),
            b"join",
            b"secret",
        )
        .expect("sealed");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(
            open(&recipient, b"join", &sealed)
                .expect("opened")
                .as_slice(),
            b"secret"
        );
        assert_eq!(
            open(&Secret::new([3; 32]), b"join", &sealed),
            Err(OpenError)
        );
        assert_eq!(open(&recipient, b"other", &sealed), Err(OpenError));
    }

    #[test]
    fn any_altered_or_lost_byte_is_noticed() {
        let recipient = Secret::new([1; 32]);
        let sealed = seal(
            &public_key(&recipient),
            Secret::new([2; 32]),
            b"",
            b"secret",
        )
        .expect("sealed");
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(open(&recipient, b"", &altered).is_err(), "{at}");
            assert!(open(&recipient, b"", &sealed[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn a_small_order_key_is_refused() {
        assert_eq!(
            seal(&[0; 32], Secret::new([2; 32]), b"", b"secret"),
            Err(OpenError)
        );
    }
}
