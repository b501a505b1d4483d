//! Bodies of calls: JSON with these fields and no other.

use kinlog_feeds::crypto::SIGNATURE_BYTES;
use kinlog_feeds::{PublicKey, text};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Topic;
use crate::limits::CALL_BODY_BYTES_MAX;
use crate::registry::{Announcement, Heartbeat};
use crate::rules::Signed;
use crate::server::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AnnounceBody {
    peer_id: String,
    /// The peer itself when it is not given.
    user_id: Option<String>,
    signal_address: String,
    #[serde(default)]
    capabilities: Vec<String>,
    time: u64,
    signature: String,
    user_signature: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct HeartbeatBody {
    network_id: String,
    peer_id: String,
    active_peers: u32,
    capacity: u32,
    time: u64,
    signature: String,
}

impl AnnounceBody {
    pub(super) fn into_announcement(
        self,
        topic: Topic,
    ) -> Result<(Announcement, Vec<Signed>), Problem> {
        let peer = PublicKey(key("peerId", &self.peer_id)?);
        let user = self.user_id.as_deref().map(|user| key("userId", user));
        let user = user.transpose()?.map_or(peer, PublicKey);
        let mut signatures = vec![(peer, signature("signature", &self.signature)?)];
        if let Some(text) = &self.user_signature {
            signatures.push((user, signature("userSignature", text)?));
        }
        let announcement = Announcement {
            topic,
            user,
            peer,
            signal_address: self.signal_address,
            capabilities: self.capabilities,
            time_s: self.time,
        };
        Ok((announcement, signatures))
    }
}

impl HeartbeatBody {
    pub(super) fn into_heartbeat(self) -> Result<(Heartbeat, [u8; SIGNATURE_BYTES]), Problem> {
        let heartbeat = Heartbeat {
            topic: Topic(key("networkId", &self.network_id)?),
            peer: PublicKey(key("peerId", &self.peer_id)?),
            active_peers: self.active_peers,
            capacity: self.capacity,
            time_s: self.time,
        };
        Ok((heartbeat, signature("signature", &self.signature)?))
    }
}

/// Reads a body, which the HTTP layer has bounded already.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    debug_assert!(bytes.len() <= CALL_BODY_BYTES_MAX);
    serde_json::from_slice(bytes).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Reads 32 bytes as z-base-32 or hex.
pub(super) fn key(field: &str, given: &str) -> Result<[u8; 32], Problem> {
    text::decode_key(given)
        .map_err(|_| Problem::bad_request(format!("{field}: 32 bytes in z-base-32 or hex")))
}

fn signature(field: &str, given: &str) -> Result<[u8; SIGNATURE_BYTES], Problem> {
    let bytes = text::decode_hex(given).ok();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Problem::bad_request(format!("{field}: {SIGNATURE_BYTES} bytes in hex")))
}
