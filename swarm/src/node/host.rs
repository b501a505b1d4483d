//! What the node asks of the agent above it.

use std::collections::BTreeMap;
use std::ops::Range;

use kinlog_feeds::{FeedKey, Hash, KeyPair};

use crate::session::{PeerMessage, SessionInfo};

/// The device's key pair and the identity it belongs to, for a session certificate.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Signs the handshake.
    pub device: KeyPair,
    /// Hash of the identity set the device belongs to.
    pub identity_hash: Hash,
}

/// Policy: which feeds a session may have, and what the agent says and hears on it.
///
/// Methods are called on the node's own task: they answer from memory and never block.
pub trait Host: Send + Sync + 'static {
    /// Returns the feeds we hold that this session may have.
    fn serves(&self, session: &SessionInfo) -> Vec<FeedKey>;

    /// Returns the feeds we want through this session; each is asked for by a tag that tells
    /// nothing to a peer without the key.
    fn wants(&self, session: &SessionInfo) -> Vec<FeedKey>;

    /// Returns the feeds of which this session is shown these blocks alone; of the others that it may
    /// have, everything. Of a feed that is wanted and not served nothing is shown.
    fn limits(&self, session: &SessionInfo) -> BTreeMap<FeedKey, Vec<Range<u64>>> {
        let _ = session;
        BTreeMap::new()
    }

    /// Returns what to sign a certificate with. Asked under [`Label::Room`](crate::Label::Room),
    /// [`Label::Invite`](crate::Label::Invite) and [`Label::Code`](crate::Label::Code), after the
    /// other side's capability has verified; `None` sends none.
    fn identity(&self, session: &SessionInfo) -> Option<Credentials>;

    /// Tells that a session is open: its capability verified, or it is plain.
    fn handle_session_open(&self, session: &SessionInfo);

    /// Tells that a session's certificate came and verified; feeds are asked for again after it.
    fn handle_certificate(&self, session: &SessionInfo) {
        let _ = session;
    }

    /// Tells that a session is gone.
    fn handle_session_closed(&self, session: &SessionInfo);

    /// Takes a message of the other side, and returns what to answer on the same session.
    fn handle_peer_message(&self, session: &SessionInfo, message: PeerMessage) -> Vec<PeerMessage>;
}
