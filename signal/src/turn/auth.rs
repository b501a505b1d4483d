//! Who a request comes from: the long-term credential of RFC 8489 section 9.2, with usernames that
//! say until when they are good.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use kinlog_feeds::crypto::{Secret, blake2b_256_keyed};
use kinlog_feeds::text as hex;
use rtc_crypto::RTCCryptoProvider;
use rtc_stun::attributes::{
    ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM, ATTR_USERNAME, AttrType, RawAttribute,
};
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{Message, Setter as _};

use super::limits::NONCE_LIFETIME_S;
use super::message::{
    Answer, BAD_CREDENTIAL, BAD_REQUEST, NO_CREDENTIAL, OTHER_CREDENTIAL, Refusal, STALE_NONCE,
};
use crate::ice::TurnSecrets;
use crate::limits::TURN_CREDENTIAL_LIFETIME_S;

/// Part of every password's key; clients take it from the challenge.
pub(super) const REALM: &str = "kinlog";

/// Nobody guesses so many, and a challenge stays short.
const NONCE_MAC_BYTES: usize = 8;

/// By how much the clock of an instance that signed may be ahead.
const CLOCK_SLACK_S: u64 = 120;

/// Who a request comes from.
#[derive(Clone)]
pub(super) struct User {
    pub(super) username: String,
    key: Vec<u8>,
}

impl User {
    /// The client in its topic, blinded; the same in each credential that it is given.
    pub(super) fn name(&self) -> &str {
        name(&self.username)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").finish_non_exhaustive()
    }
}

/// Checks credentials and signs answers.
pub(super) struct Auth {
    secrets: TurnSecrets,
    nonces: Secret,
    crypto: Arc<dyn RTCCryptoProvider>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    pub(super) fn new(
        secrets: TurnSecrets,
        nonces: [u8; 32],
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Auth {
        Auth {
            secrets,
            nonces: Secret::new(nonces),
            crypto,
        }
    }

    /// Returns who sent a request, and takes out of it what nobody signed: that counts not (RFC 8489
    /// section 14.5). `known` is the username of the client's allocation: that one may go on by it
    /// after it ended, and by a newer one of the same name.
    pub(super) fn user(
        &self,
        unix_s: u64,
        from: IpAddr,
        request: &mut Message,
        known: Option<&str>,
    ) -> Result<User, Refusal> {
        let mut attributes = request.attributes.0.iter();
        let signature = attributes.position(|it| it.typ == ATTR_MESSAGE_INTEGRITY);
        let signature = signature.ok_or(NO_CREDENTIAL)?;
        let signed = request.attributes.0.get(..signature).unwrap_or_default();
        let username = text(signed, ATTR_USERNAME).ok_or(BAD_REQUEST)?;
        let realm = text(signed, ATTR_REALM).ok_or(BAD_REQUEST)?;
        let nonce = text(signed, ATTR_NONCE).ok_or(BAD_REQUEST)?;
        if realm != REALM || !is_live(unix_s, &username) && known != Some(username.as_str()) {
            return Err(BAD_CREDENTIAL);
        }
        if !self.is_nonce(unix_s, from, &nonce) {
            return Err(STALE_NONCE);
        }
        let user = self.secrets.credentials(&username).find_map(|credential| {
            let key = MessageIntegrity::long_term_integrity_key(
                username.clone(),
                REALM.to_owned(),
                credential.reveal().to_owned(),
                self.crypto.crypto(),
            );
            let key = key.ok()?;
            MessageIntegrity::check(request, &key, self.crypto.crypto()).ok()?;
            let username = username.clone();
            Some(User { username, key })
        });
        let user = user.ok_or(BAD_CREDENTIAL)?;
        request.attributes.0.truncate(signature);
        match known.is_some_and(|known| name(known) != user.name()) {
            true => Err(OTHER_CREDENTIAL),
            false => Ok(user),
        }
    }

    /// Signs an answer.
    pub(super) fn sign(&self, user: &User, answer: &mut Answer) {
        let key = user.key.clone();
        let crypto = self.crypto.crypto();
        let integrity = MessageIntegrity::new_raw_integrity_with_provider(key, crypto);
        // It fails only behind a fingerprint, which answers do not have.
        let _ = integrity.add_to(&mut answer.0);
    }

    /// Returns what a client at this address is to put into its requests from now on.
    pub(super) fn nonce(&self, unix_s: u64, from: IpAddr) -> String {
        let until = u32::try_from(unix_s.saturating_add(NONCE_LIFETIME_S)).unwrap_or(u32::MAX);
        self.nonce_until(until, from)
    }

    fn nonce_until(&self, until: u32, from: IpAddr) -> String {
        let until = until.to_be_bytes();
        let from = from.to_canonical().to_string();
        let mac = blake2b_256_keyed(self.nonces.expose(), &[&until, from.as_bytes()]);
        let mac = mac.get(..NONCE_MAC_BYTES).unwrap_or_default();
        hex::encode_hex(&[&until, mac].concat())
    }

    fn is_nonce(&self, unix_s: u64, from: IpAddr, nonce: &str) -> bool {
        let bytes = hex::decode_hex(nonce).unwrap_or_default();
        let Some(until) = bytes.first_chunk().map(|it| u32::from_be_bytes(*it)) else {
            return false;
        };
        let is_live = unix_s <= u64::from(until);
        is_live && self.nonce_until(until, from) == nonce
    }
}

/// Text of the first attribute of a kind, such as the name of a user.
fn text(attributes: &[RawAttribute], kind: AttrType) -> Option<String> {
    let found = attributes.iter().find(|it| it.typ == kind)?;
    String::from_utf8(found.value.clone()).ok()
}

fn name(username: &str) -> &str {
    username.split_once(':').map_or("", |(_, name)| name)
}

/// Returns whether a username says that it is good now, and for no longer than any is signed for.
fn is_live(unix_s: u64, username: &str) -> bool {
    let expiry = username
        .split_once(':')
        .and_then(|(expiry, _)| expiry.parse::<u64>().ok());
    let latest = unix_s.saturating_add(u64::from(TURN_CREDENTIAL_LIFETIME_S) + CLOCK_SLACK_S);
    expiry.is_some_and(|expiry| unix_s < expiry && expiry <= latest)
}
