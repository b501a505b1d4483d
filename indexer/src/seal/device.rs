//! An epoch secret sealed to one device.
//!
//! Layout: `u8 version=1 | ephemeral X25519 public 32 | ChaCha20-Poly1305(secret 32)`, 81 bytes. The
//! key is `derive(shared secret, "sealed-box", ephemeral 32 || recipient 32)` and used once, so the
//! nonce is 12 zeros; associated data = `NS("sealed-box") || room id`.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};
use kinlog_feeds::crypto::{Secret, derive, namespace};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize;

use crate::RoomId;
use crate::seal::EpochSecret;

/// Bytes of a secret sealed to a device.
pub const SEALED_SECRET_BYTES: usize = 1 + 32 + 32 + 16;

const VERSION: u8 = 1;

/// A sealed secret that this device cannot open.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SealedSecretError {
    /// Another length than a sealed secret has.
    #[error("sealed secret of {actual} bytes instead of {expected}")]
    Length { expected: usize, actual: usize },
    /// A version this build does not know.
    #[error("sealed secret of version {version}, this build knows {VERSION}")]
    Version { version: u8 },
    /// A key of small order, which would make the shared secret public.
    #[error("sealed secret with a weak key")]
    WeakKey,
    /// Altered, for another device or for another room.
    #[error("sealed secret does not open with this device's key for this room")]
    Altered,
}

/// Returns the X25519 public key of the secret key `derive(device secret, "device-dh", "")`.
pub fn device_dh_public(device_dh: &Secret) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*device_dh.expose())).to_bytes()
}

/// Seals the epoch secret of `room` to the device with the X25519 public key `recipient`.
///
/// `ephemeral` is 32 fresh random bytes, used for this one call.
pub fn seal_to_device(
    ephemeral: [u8; 32],
    recipient: &[u8; 32],
    room: &RoomId,
    secret: &EpochSecret,
) -> Result<[u8; SEALED_SECRET_BYTES], SealedSecretError> {
    let ephemeral = StaticSecret::from(ephemeral);
    let public = PublicKey::from(&ephemeral).to_bytes();
    let key = box_key(&ephemeral, recipient, &public, recipient)?;
    let mut sealed = *secret.expose();
    let tag = cipher(&key)
        .encrypt_inout_detached(
            (&[0; 12]).into(),
            &associated_data(room),
            sealed.as_mut_slice().into(),
        )
        .expect("32 bytes are far below what the cipher takes");
    let mut out = [0; SEALED_SECRET_BYTES];
    out[0] = VERSION;
    out[1..33].copy_from_slice(&public);
    out[33..65].copy_from_slice(&sealed);
    out[65..].copy_from_slice(&tag);
    Ok(out)
}

/// Opens a secret sealed to the device with the X25519 secret `device_dh`.
pub fn open_sealed_secret(
    device_dh: &Secret,
    room: &RoomId,
    sealed: &[u8],
) -> Result<EpochSecret, SealedSecretError> {
    let sealed: &[u8; SEALED_SECRET_BYTES] =
        sealed.try_into().map_err(|_| SealedSecretError::Length {
            expected: SEALED_SECRET_BYTES,
            actual: sealed.len(),
        })?;
    if sealed[0] != VERSION {
        return Err(SealedSecretError::Version { version: sealed[0] });
    }
    let mut public = [0; 32];
    public.copy_from_slice(&sealed[1..33]);
    let mut secret = [0; 32];
    secret.copy_from_slice(&sealed[33..65]);
    let mut tag = [0; 16];
    tag.copy_from_slice(&sealed[65..]);
    let own = StaticSecret::from(*device_dh.expose());
    let key = box_key(&own, &public, &public, &PublicKey::from(&own).to_bytes())?;
    cipher(&key)
        .decrypt_inout_detached(
            (&[0; 12]).into(),
            &associated_data(room),
            secret.as_mut_slice().into(),
            &Tag::from(tag),
        )
        .map_err(|_| SealedSecretError::Altered)?;
    let opened = EpochSecret::new(secret);
    secret.zeroize();
    Ok(opened)
}

/// Returns the key by which two devices of one agent meet before they share an epoch:
/// `derive(shared secret, "meet", smaller public 32 || larger)`; `None` for a key of small order.
pub fn pair_meet_key(own_dh: &Secret, other: &[u8; 32]) -> Option<Secret> {
    let own = StaticSecret::from(*own_dh.expose());
    let public = PublicKey::from(&own).to_bytes();
    let shared = own.diffie_hellman(&PublicKey::from(*other));
    if !shared.was_contributory() {
        return None;
    }
    let mut context = [0; 64];
    context[..32].copy_from_slice(public.as_slice().min(other.as_slice()));
    context[32..].copy_from_slice(public.as_slice().max(other.as_slice()));
    Some(derive(
        &Secret::new(shared.to_bytes()),
        namespace::MEET,
        &context,
    ))
}

fn box_key(
    own: &StaticSecret,
    other: &[u8; 32],
    ephemeral: &[u8; 32],
    recipient: &[u8; 32],
) -> Result<Secret, SealedSecretError> {
    let shared = own.diffie_hellman(&PublicKey::from(*other));
    if !shared.was_contributory() {
        return Err(SealedSecretError::WeakKey);
    }
    let mut context = [0; 64];
    context[..32].copy_from_slice(ephemeral);
    context[32..].copy_from_slice(recipient);
    Ok(derive(
        &Secret::new(shared.to_bytes()),
        namespace::SEALED_BOX,
        &context,
    ))
}

fn cipher(key: &Secret) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(key.expose().into())
}

fn associated_data(room: &RoomId) -> [u8; 64] {
    let mut out = [0; 64];
    out[..32].copy_from_slice(&namespace::SEALED_BOX.hash());
    out[32..].copy_from_slice(room.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOM: RoomId = RoomId([5; 32]);

    fn sealed() -> [u8; SEALED_SECRET_BYTES] {
        let recipient = device_dh_public(&Secret::new([1; 32]));
        seal_to_device([2; 32], &recipient, &ROOM, &EpochSecret::new([3; 32])).unwrap()
    }

    #[test]
    fn only_the_device_opens_it_and_only_for_its_room() {
        let opened = open_sealed_secret(&Secret::new([1; 32]), &ROOM, &sealed());
        assert_eq!(opened, Ok(EpochSecret::new([3; 32])));
        let altered = Err(SealedSecretError::Altered);
        assert_eq!(
            open_sealed_secret(&Secret::new([9; 32]), &ROOM, &sealed()),
            altered
        );
        assert_eq!(
            open_sealed_secret(&Secret::new([1; 32]), &RoomId([6; 32]), &sealed()),
            altered
        );
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        for at in 0..SEALED_SECRET_BYTES {
            let mut damaged = sealed();
            damaged[at] ^= 1;
            let opened = open_sealed_secret(&Secret::new([1; 32]), &ROOM, &damaged);
            assert!(opened.is_err(), "byte {at}");
        }
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        let secret = EpochSecret::new([3; 32]);
        let weak = Err(SealedSecretError::WeakKey);
        assert_eq!(seal_to_device([2; 32], &[0; 32], &ROOM, &secret), weak);
        let mut zero_key = sealed();
        zero_key[1..33].fill(0);
        assert_eq!(
            open_sealed_secret(&Secret::new([1; 32]), &ROOM, &zero_key),
            Err(SealedSecretError::WeakKey)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
            prop_assert!(open_sealed_secret(&Secret::new([1; 32]), &ROOM, &bytes).is_err());
        }
    }
}
