//! The certificate of a session: a device says "this handshake, over this DTLS link, is mine".
//!
//! `device key 32 | identity-set hash 32 | signature 64`, the signature over `NS("session-cert") ||
//! role || handshake hash 64 || DTLS fingerprint of the initiator 32 || of the responder 32`, zeros
//! where the link is not DTLS. A signal server that swaps fingerprints ends up with two links whose
//! handshakes and fingerprints differ, and can show neither side a certificate that holds.

use kinlog_feeds::crypto::{SIGNATURE_BYTES, namespace, verify};
use kinlog_feeds::encoding::{Reader, Writer};
use kinlog_feeds::{DeviceKey, Hash, KeyPair, PublicKey};

use crate::session::SessionRole;

/// What a verified session certificate says of the other side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The device that signed this session's handshake.
    pub device: DeviceKey,
    /// Hash of the identity set the device names; zeros when it has none.
    pub identity_hash: Hash,
}

/// Why a certificate does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not the layout.
    #[error("certificate of {bytes} bytes, expected 128")]
    Layout {
        /// Its size.
        bytes: usize,
    },
    /// Signed by another key, for another session, or over another DTLS link.
    #[error("certificate of device {device} does not hold for this session")]
    Signature {
        /// The device it names.
        device: DeviceKey,
    },
}

/// The DTLS fingerprints of a link, by role; zeros where the link is not DTLS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct LinkBinding {
    pub(crate) initiator: [u8; 32],
    pub(crate) responder: [u8; 32],
}

fn signable(role: SessionRole, handshake_hash: &[u8; 64], binding: &LinkBinding) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + 1 + 64 + 64);
    out.put_raw(&namespace::SESSION_CERT.hash());
    out.put_raw(&[role.byte()]);
    out.put_raw(handshake_hash);
    out.put_raw(&binding.initiator);
    out.put_raw(&binding.responder);
    out
}

/// Returns the certificate of `device` for the side `role` of a session.
pub(crate) fn sign(
    device: &KeyPair,
    identity_hash: &Hash,
    role: SessionRole,
    handshake_hash: &[u8; 64],
    binding: &LinkBinding,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.put_raw(&device.public_key().0);
    out.put_raw(&identity_hash.0);
    out.put_raw(&device.sign(&signable(role, handshake_hash, binding)));
    out
}

/// Verifies a certificate that the side `role` showed.
pub(crate) fn check(
    bytes: &[u8],
    role: SessionRole,
    handshake_hash: &[u8; 64],
    binding: &LinkBinding,
) -> Result<Certificate, CertificateError> {
    let layout = |_| CertificateError::Layout { bytes: bytes.len() };
    let mut reader = Reader::new(bytes);
    let device = DeviceKey(reader.fixed::<32>().map_err(layout)?);
    let identity_hash = Hash(reader.fixed::<32>().map_err(layout)?);
    let signature = reader.fixed::<SIGNATURE_BYTES>().map_err(layout)?;
    reader.finish().map_err(layout)?;
    verify(
        &PublicKey(device.0),
        &signable(role, handshake_hash, binding),
        &signature,
    )
    .map_err(|_| CertificateError::Signature { device })?;
    Ok(Certificate {
        device,
        identity_hash,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: [u8; 64] = [5; 64];
    const BINDING: LinkBinding = LinkBinding {
        initiator: [1; 32],
        responder: [2; 32],
    };

    fn certificate() -> Vec<u8> {
        let device = KeyPair::from_seed(&[3; 32]);
        sign(
            &device,
            &Hash([4; 32]),
            SessionRole::Initiator,
            &HASH,
            &BINDING,
        )
    }

    #[test]
    fn certificate_holds_for_its_session() {
        let shown = check(&certificate(), SessionRole::Initiator, &HASH, &BINDING).unwrap();
        assert_eq!(shown.device.0, KeyPair::from_seed(&[3; 32]).public_key().0);
        assert_eq!(shown.identity_hash, Hash([4; 32]));
    }

    #[test]
    fn certificate_for_another_role_session_or_link_is_refused() {
        let bytes = certificate();
        assert!(check(&bytes, SessionRole::Responder, &HASH, &BINDING).is_err());
        assert!(check(&bytes, SessionRole::Initiator, &[6; 64], &BINDING).is_err());
        let swapped = LinkBinding {
            initiator: [1; 32],
            responder: [9; 32],
        };
        assert!(check(&bytes, SessionRole::Initiator, &HASH, &swapped).is_err());
    }

    #[test]
    fn certificate_with_a_changed_or_missing_byte_is_refused() {
        let bytes = certificate();
        for at in (0..32).chain(64..128) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(
                check(&changed, SessionRole::Initiator, &HASH, &BINDING).is_err(),
                "byte {at}"
            );
        }
        let short = check(&bytes[..127], SessionRole::Initiator, &HASH, &BINDING);
        assert_eq!(short, Err(CertificateError::Layout { bytes: 127 }));
    }
}
