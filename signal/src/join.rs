//! The signature of a join: `NS("signal-join") || nonce || server || topic`.
//!
//! The nonce is the server's and fresh for each connection, so that a join cannot be replayed; the
//! server's name is what the client dialled, so that one server cannot pass it on to another.

use kinlog_feeds::crypto::{SIGNATURE_BYTES, SignatureError, namespace, verify};
use kinlog_feeds::encoding::Writer as _;
use kinlog_feeds::{KeyPair, PublicKey};

use crate::{ServerName, Topic};

/// Bytes of the nonce in `Hello`.
pub const NONCE_BYTES: usize = 32;

/// Signs a join of `topic` on `server` for the connection that was greeted with `nonce`.
pub fn sign_join(
    key: &KeyPair,
    nonce: &[u8; NONCE_BYTES],
    server: &ServerName,
    topic: &Topic,
) -> [u8; SIGNATURE_BYTES] {
    key.sign(&signed_bytes(nonce, server, topic))
}

/// Verifies what [`sign_join`] made.
pub fn verify_join(
    client_key: &PublicKey,
    nonce: &[u8; NONCE_BYTES],
    server: &ServerName,
    topic: &Topic,
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<(), SignatureError> {
    verify(client_key, &signed_bytes(nonce, server, topic), signature)
}

fn signed_bytes(nonce: &[u8; NONCE_BYTES], server: &ServerName, topic: &Topic) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * 32 + 3 + server.as_str().len() + 32);
    bytes.put_raw(&namespace::SIGNAL_JOIN.hash());
    bytes.put_raw(nonce);
    bytes.put_buffer(server.as_str().as_bytes());
    bytes.put_raw(&topic.0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_holds_for_its_nonce_server_topic_and_key_only() {
        let key = KeyPair::from_seed(&[1; 32]);
        let server = ServerName::new("a.example", 443);
        let topic = Topic([2; 32]);
        let signature = sign_join(&key, &[3; 32], &server, &topic);
        let public = key.public_key();
        assert_eq!(
            verify_join(&public, &[3; 32], &server, &topic, &signature),
            Ok(())
        );
        let other = ServerName::new("b.example", 443);
        let stranger = KeyPair::from_seed(&[9; 32]).public_key();
        assert!(verify_join(&public, &[4; 32], &server, &topic, &signature).is_err());
        assert!(verify_join(&public, &[3; 32], &other, &topic, &signature).is_err());
        assert!(verify_join(&public, &[3; 32], &server, &Topic([0; 32]), &signature).is_err());
        assert!(verify_join(&stranger, &[3; 32], &server, &topic, &signature).is_err());
    }
}
