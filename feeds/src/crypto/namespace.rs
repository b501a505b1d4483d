//! Every namespace of Kinlog and of Hypercore, in one place.
//!
//! Whatever is hashed, signed or derived starts with a namespace, so that bytes made for one
//! purpose are never accepted for another. A test asserts that all differ.

use crate::crypto::blake2b_256;

/// A Kinlog namespace: `H("kinlog/" || label)`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Namespace(&'static str);

macro_rules! namespaces {
    ($($(#[$doc:meta])* $name:ident = $label:literal;)*) => {
        $($(#[$doc])* pub const $name: Namespace = Namespace($label);)*

        /// Every Kinlog namespace.
        pub const ALL: &[Namespace] = &[$($name),*];
    };
}

namespaces! {
    /// Root seed of an agent from its phrase.
    ROOT = "root";
    /// Signing seed of a device.
    DEVICE_SIGN = "device-sign";
    /// X25519 secret of a device.
    DEVICE_DH = "device-dh";
    /// Signing seed of a feed.
    FEED = "feed";
    /// Content key of an epoch.
    CONTENT = "content";
    /// Meet key of an epoch.
    MEET = "meet";
    /// Public id of an epoch.
    EPOCH_ID = "epoch-id";
    /// What an epoch's announcement commits its secret to.
    EPOCH_COMMIT = "epoch-commit";
    /// Topic on a signal server.
    TOPIC = "topic";
    /// Second of the day at which a topic rolls.
    TOPIC_OFFSET = "topic-offset";
    /// Signature of a join on a signal server.
    SIGNAL_JOIN = "signal-join";
    /// Signature of a call of a signal server's registry.
    SIGNAL_REGISTRY = "signal-registry";
    /// Client seed towards one signal server and topic.
    SIGNAL_CLIENT = "signal-client";
    /// Capability in the session hello.
    SESSION_CAP = "session-cap";
    /// Certificate of a session.
    SESSION_CERT = "session-cert";
    /// Tag by which a feed is asked for in a session.
    SESSION_TAG = "session-tag";
    /// Capability by which a feed is listed in a session.
    FEED_CAP = "feed-cap";
    /// Associated data of a sealed entry.
    SEAL = "seal";
    /// Associated data of a file chunk.
    FILE = "file";
    /// Tag of a feed in an entry's links.
    LINK_TAG = "link-tag";
    /// Check of a store record.
    RECORD = "record";
    /// Check of a segment's header.
    SEGMENT = "segment";
    /// Check of the index written out.
    INDEX_FILE = "index-file";
    /// Signature of an identity statement.
    STATEMENT = "statement";
    /// Signature of a join request to a room.
    JOIN_REQUEST = "join-request";
    /// Key that seals an epoch secret to a device.
    SEALED_BOX = "sealed-box";
    /// Check of an invite link.
    INVITE_CHECK = "invite-check";
    /// Hash of a room's genesis.
    GENESIS = "genesis";
    /// Hash of an agent's identity set.
    IDENTITY_SET = "identity-set";
    /// Signature of a device for its feeds in a room.
    ROOM_CLAIM = "room-claim";
    /// Key of an epoch that seals acts.
    ACT = "act";
    /// Name of an act in a room.
    ACT_HASH = "act-hash";
    /// Signature of a feed for its device.
    FEED_CLAIM = "feed-claim";
    /// Signature of a new device's key for its agent.
    DEVICE_ACCEPT = "device-accept";
    /// Signature of a new root key for its agent.
    ROOT_ACCEPT = "root-accept";
    /// Safety number of an agent.
    SAFETY = "safety";
    /// The room that an agent's own devices are.
    OWN_ROOM = "own-room";
    /// Signature of a seed grant.
    SEED_GRANT = "seed-grant";
    /// Tag of a room in a seed grant.
    ROOM_TAG = "room-tag";
    /// Check of a grant link.
    GRANT_CHECK = "grant-check";
    /// Key of a sign-in capsule.
    SIGN_IN = "sign-in";
    /// Key pair by which those meet who know a sign-in code.
    SIGN_IN_MEET = "sign-in-meet";
    /// Check of a sign-in code.
    SIGN_IN_CHECK = "sign-in-check";
    /// Signature of a sign-in record.
    SIGN_IN_RECORD = "sign-in-record";
    /// Signature of a member's word that somebody was removed.
    ROOM_NOTICE = "room-notice";
    /// Check at the end of a bundle.
    BUNDLE = "bundle";
    /// Key of a home, sealed under a passphrase.
    HOME_KEY = "home-key";
    /// Associated data of a secret in a home's files.
    HOME_SECRET = "home-secret";
    /// Key of a backup, sealed under a passphrase.
    BACKUP = "backup";
    /// Associated data of a part of a backup.
    BACKUP_PART = "backup-part";
    /// Key pair of a code that links a device.
    LINK_CODE = "link-code";
    /// Check of a code that links a device.
    LINK_CHECK = "link-check";
    /// Signature of a new device's request, by its code.
    LINK_REQUEST = "link-request";
    /// Signature of the answer to it.
    LINK_ANSWER = "link-answer";
    /// Words that two devices show while they are linked.
    LINK_WORDS = "link-words";
}

impl Namespace {
    /// Returns the label after `kinlog/`.
    pub const fn label(&self) -> &'static str {
        self.0
    }

    /// Returns the 32 bytes that stand for this namespace.
    pub fn hash(&self) -> [u8; 32] {
        blake2b_256(&[b"kinlog/", self.0.as_bytes()])
    }
}

/// Returns Hypercore's namespace `number` of `name`: `H(H(name) || number)`.
pub fn hypercore(name: &str, number: u8) -> [u8; 32] {
    blake2b_256(&[&blake2b_256(&[name.as_bytes()]), &[number]])
}

/// Hypercore's own namespaces, by their position under the name `hypercore`.
pub mod hypercore_namespace {
    use super::hypercore;

    /// Tree signatures.
    pub fn tree() -> [u8; 32] {
        hypercore("hypercore", 0)
    }

    /// Capability of the initiator.
    pub fn replicate_initiator() -> [u8; 32] {
        hypercore("hypercore", 1)
    }

    /// Capability of the responder.
    pub fn replicate_responder() -> [u8; 32] {
        hypercore("hypercore", 2)
    }

    /// Manifest hashes.
    pub fn manifest() -> [u8; 32] {
        hypercore("hypercore", 3)
    }

    /// The namespace of default signers.
    pub fn default_namespace() -> [u8; 32] {
        hypercore("hypercore", 4)
    }

    /// Block encryption of foreign feeds.
    pub fn default_encryption() -> [u8; 32] {
        hypercore("hypercore", 5)
    }

    /// Stream id of the secret stream's initiator (0), responder (1), unordered messages (2).
    pub fn secret_stream(number: u8) -> [u8; 32] {
        hypercore("hyperswarm/secret-stream", number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_namespaces_differ() {
        let mut seen: BTreeSet<[u8; 32]> = ALL.iter().map(Namespace::hash).collect();
        assert_eq!(seen.len(), ALL.len());
        for number in 0..6 {
            assert!(seen.insert(hypercore("hypercore", number)));
        }
        for number in 0..3 {
            assert!(seen.insert(hypercore("hyperswarm/secret-stream", number)));
        }
    }
}
