//! Names of entries and feeds inside bodies, and what a feed's own key says about whose it is.

use kinlog_feeds::crypto::{
    AgentId, DeviceKey, FeedKey, Hash, KeyPair, PublicKey, SIGNATURE_BYTES, SignatureError,
    namespace, verify,
};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_feeds::limits::UINT_MAX;
use kinlog_feeds::manifest::Manifest;

use crate::RoomId;
use crate::entry::BodyError;
use crate::entry::body::fixed;
use crate::generated::kinlog_entry_v1 as wire;

/// An entry, by feed and block index.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ref {
    /// Feed it stands in.
    pub feed: FeedKey,
    /// Block index.
    pub index: u64,
}

/// How much of a feed is accepted: its first `length` blocks, in the tree with this hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cut {
    /// The feed.
    pub feed: FeedKey,
    /// Blocks accepted.
    pub length: u64,
    /// Tree hash at that length; zeros for length 0.
    pub tree_hash: Hash,
}

/// What a feed is claimed for: a room, or the author's own paths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimScope {
    /// A feed in a room.
    Room(RoomId),
    /// A feed in a directory of this agent.
    Agent(AgentId),
}

impl ClaimScope {
    fn key(&self) -> &[u8; 32] {
        match self {
            ClaimScope::Room(room) => room.as_bytes(),
            ClaimScope::Agent(agent) => agent.as_bytes(),
        }
    }
}

/// A claim that its feed does not make.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedClaimError {
    /// The public key is not the one that the feed key commits to.
    #[error("public key of a claim makes feed {actual}, not {expected}")]
    OtherFeed { expected: FeedKey, actual: FeedKey },
    /// The feed's key did not sign it.
    #[error("claim to feed {feed}")]
    Signature {
        feed: FeedKey,
        source: SignatureError,
    },
}

/// A feed's word that it is a device's: nobody lists or admits the feed of another.
///
/// Signed is `NS("feed-claim") || scope 32 || agent 32 || device 32 || feed 32`, by the key that
/// signs the feed; the feed key is the hash of its default manifest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FeedClaim {
    /// Key that signs the feed.
    pub public_key: PublicKey,
    /// Its signature over the claim.
    pub signature: [u8; SIGNATURE_BYTES],
}

impl FeedClaim {
    /// Makes the claim of `device` to the feed that `feed` signs.
    pub fn sign(feed: &KeyPair, scope: &ClaimScope, agent: &AgentId, device: &DeviceKey) -> Self {
        let public_key = feed.public_key();
        let key = Manifest::single(public_key).key();
        FeedClaim {
            public_key,
            signature: feed.sign(&signed_bytes(scope, agent, device, &key)),
        }
    }

    /// Verifies that `feed` says it is `device`'s of `agent`.
    pub fn verify(
        &self,
        feed: &FeedKey,
        scope: &ClaimScope,
        agent: &AgentId,
        device: &DeviceKey,
    ) -> Result<(), FeedClaimError> {
        let actual = Manifest::single(self.public_key).key();
        if actual != *feed {
            let expected = *feed;
            return Err(FeedClaimError::OtherFeed { expected, actual });
        }
        let signed = signed_bytes(scope, agent, device, feed);
        verify(&self.public_key, &signed, &self.signature).map_err(|source| {
            FeedClaimError::Signature {
                feed: *feed,
                source,
            }
        })
    }

    /// Appends `public key 32 | signature 64`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_raw(&self.public_key.0);
        out.put_raw(&self.signature);
    }

    /// Reads `public key 32 | signature 64`; verifies nothing.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(FeedClaim {
            public_key: PublicKey(reader.fixed()?),
            signature: reader.fixed()?,
        })
    }
}

fn signed_bytes(
    scope: &ClaimScope,
    agent: &AgentId,
    device: &DeviceKey,
    feed: &FeedKey,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 * 32);
    out.put_raw(&namespace::FEED_CLAIM.hash());
    out.put_raw(scope.key());
    out.put_raw(agent.as_bytes());
    out.put_raw(device.as_bytes());
    out.put_raw(feed.as_bytes());
    out
}

impl TryFrom<wire::Ref> for Ref {
    type Error = BodyError;

    fn try_from(body: wire::Ref) -> Result<Self, BodyError> {
        let (field, actual) = ("ref.index", body.index);
        if actual > UINT_MAX {
            return Err(BodyError::Value { field, actual });
        }
        Ok(Ref {
            feed: FeedKey(fixed("ref.feed", &body.feed)?),
            index: body.index,
        })
    }
}

impl From<&Ref> for wire::Ref {
    fn from(body: &Ref) -> Self {
        wire::Ref {
            feed: body.feed.0.to_vec().into(),
            index: body.index,
        }
    }
}

impl TryFrom<wire::FeedClaim> for FeedClaim {
    type Error = BodyError;

    fn try_from(body: wire::FeedClaim) -> Result<Self, BodyError> {
        Ok(FeedClaim {
            public_key: PublicKey(fixed("feed_claim.public_key", &body.public_key)?),
            signature: fixed("feed_claim.signature", &body.signature)?,
        })
    }
}

impl From<&FeedClaim> for wire::FeedClaim {
    fn from(body: &FeedClaim) -> Self {
        wire::FeedClaim {
            public_key: body.public_key.0.to_vec().into(),
            signature: body.signature.to_vec().into(),
        }
    }
}

impl TryFrom<wire::Cut> for Cut {
    type Error = BodyError;

    fn try_from(body: wire::Cut) -> Result<Self, BodyError> {
        let (field, actual) = ("cut.length", body.length);
        if actual > UINT_MAX {
            return Err(BodyError::Value { field, actual });
        }
        Ok(Cut {
            feed: FeedKey(fixed("cut.feed", &body.feed)?),
            length: body.length,
            tree_hash: Hash(fixed("cut.tree_hash", &body.tree_hash)?),
        })
    }
}

impl From<&Cut> for wire::Cut {
    fn from(body: &Cut) -> Self {
        wire::Cut {
            feed: body.feed.0.to_vec().into(),
            length: body.length,
            tree_hash: body.tree_hash.0.to_vec().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: AgentId = AgentId([1; 32]);
    const DEVICE: DeviceKey = DeviceKey([2; 32]);

    #[test]
    fn a_claim_holds_for_its_feed_scope_agent_and_device_alone() {
        let pair = KeyPair::from_seed(&[7; 32]);
        let feed = Manifest::single(pair.public_key()).key();
        let room = ClaimScope::Room(RoomId([3; 32]));
        let claim = FeedClaim::sign(&pair, &room, &AGENT, &DEVICE);
        assert_eq!(claim.verify(&feed, &room, &AGENT, &DEVICE), Ok(()));
        let others = [
            (ClaimScope::Agent(AGENT), AGENT, DEVICE),
            (room, AgentId([9; 32]), DEVICE),
            (room, AGENT, DeviceKey([9; 32])),
        ];
        for (scope, agent, device) in others {
            assert!(matches!(
                claim.verify(&feed, &scope, &agent, &device),
                Err(FeedClaimError::Signature { .. })
            ));
        }
        assert!(matches!(
            claim.verify(&FeedKey([5; 32]), &room, &AGENT, &DEVICE),
            Err(FeedClaimError::OtherFeed { .. })
        ));
    }

    #[test]
    fn nobody_claims_the_feed_of_another_with_a_key_of_their_own() {
        let (owner, thief) = (KeyPair::from_seed(&[7; 32]), KeyPair::from_seed(&[8; 32]));
        let feed = Manifest::single(owner.public_key()).key();
        let scope = ClaimScope::Agent(AGENT);
        let forged = FeedClaim {
            public_key: owner.public_key(),
            ..FeedClaim::sign(&thief, &scope, &AGENT, &DEVICE)
        };
        assert!(forged.verify(&feed, &scope, &AGENT, &DEVICE).is_err());
    }
}
