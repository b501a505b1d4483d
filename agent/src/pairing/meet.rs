//! What two paired machines say first, and what each learns of the other by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_swarm::{Label, PeerMessage, SessionId, SessionInfo};
use tokio::time::sleep;

use crate::api::Error;
use crate::core::Core;
use crate::failure::chain;
use crate::knowledge::KnownAgent;
use crate::limits::{PAIR_PING_EVERY, PAIRS_MAX};
use crate::network::Network;
use crate::requests::blocking;

/// Who is at the other end of a pairing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Paired {
    pub(crate) agent: AgentId,
    pub(crate) device: DeviceKey,
    pub(crate) session: SessionId,
}

/// Keys of texts that were carried, each with who answered by it, while the connection lasts.
#[derive(Clone, Debug, Default)]
pub(crate) struct PairKeys(BTreeMap<[u8; 32], Option<Paired>>);

impl PairKeys {
    /// Returns the keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.0.keys()
    }

    /// Returns who answered by a key.
    pub(crate) fn paired(&self, key: &[u8; 32]) -> Option<Paired> {
        self.0.get(key).copied().flatten()
    }

    /// Returns the agent that a device said to be of.
    pub(crate) fn owner(&self, device: &DeviceKey) -> Option<AgentId> {
        let mut paired = self.0.values().flatten();
        Some(paired.find(|paired| paired.device == *device)?.agent)
    }
}

impl Core {
    /// Takes sessions by a key for those of a pairing.
    pub(super) fn pair_by(&self, key: [u8; 32]) -> Result<(), Error> {
        let is_full = self.knowledge(|knowledge| {
            let pairs = &mut knowledge.pairs.0;
            let is_full = pairs.len() >= PAIRS_MAX;
            if !is_full {
                pairs.insert(key, None);
            }
            is_full
        });
        if is_full {
            return Err(Error::new(
                crate::api::ErrorKind::Quota,
                format!("{PAIRS_MAX} pairings are open already"),
            ));
        }
        self.replan()
    }

    /// Takes sessions by a key for those of nobody any more.
    fn unpair(&self, key: &[u8; 32]) -> Result<(), Error> {
        self.knowledge(|knowledge| knowledge.pairs.0.remove(key));
        self.replan()
    }

    /// Returns what this side of a pairing says first: `agent 32 | identity set to the end`.
    pub(crate) fn pair_hello(&self, key: &[u8; 32]) -> Option<PeerMessage> {
        let set = self.knowledge(|knowledge| {
            let is_pair = knowledge.pairs.0.contains_key(key);
            let own = knowledge.agents.get(&knowledge.agent);
            own.filter(|_| is_pair).map(|own| own.set.clone())
        })?;
        let mut bytes = BytesMut::from(&self.agent.0[..]);
        bytes.extend_from_slice(&set);
        let bytes = bytes.freeze();
        Some(PeerMessage::JoinRequest { bytes })
    }

    /// Returns whether a session is one of a pairing.
    pub(crate) fn is_pairing(&self, session: &SessionInfo) -> bool {
        session.label == Label::Code
            && self.knowledge(|knowledge| knowledge.pairs.0.contains_key(&session.key))
    }

    /// Takes what the other side says first: it is believed when its certificate is that of a device which
    /// the identity set names. What is followed of that agent is learned by it.
    pub(crate) fn hear_paired(&self, session: &SessionInfo, hello: &Bytes) -> Result<(), Error> {
        let refused = |why: &str| Error::verification(format!("{}: {why}", session.id));
        let Some((agent, set)) = hello.split_first_chunk() else {
            return Err(refused("what it says first is too short"));
        };
        let (agent, set) = (AgentId(*agent), hello.slice_ref(set));
        let certificate = session.remote_certificate;
        let device = certificate
            .ok_or_else(|| refused("it has shown no certificate"))?
            .device;
        let known = KnownAgent::verify(&agent, set.clone());
        let known = known.map_err(|error| refused(&chain(&error)))?;
        if known.identity.device(&device).is_none() {
            return Err(refused("its device is none of the agent that it names"));
        }
        let is_followed = self
            .plan()
            .view
            .agents
            .get(&agent.0)
            .is_some_and(|one| one.is_followed);
        if is_followed {
            self.learn_identity(&agent, &set)?;
        }
        self.knowledge(|knowledge| {
            if let Some(paired) = knowledge.pairs.0.get_mut(&session.key) {
                *paired = Some(Paired {
                    agent,
                    device,
                    session: session.id,
                });
            }
        });
        self.changed();
        Ok(())
    }
}

/// Ends a session whose other side is gone, and the pairing with it: such a link notices it too late. Without a
/// session the pairing has ended already.
pub(super) async fn watch_over(
    core: Arc<Core>,
    network: Weak<Network>,
    key: [u8; 32],
    session: Option<SessionId>,
) {
    while let Some(session) = session {
        sleep(PAIR_PING_EVERY).await;
        let Some(network) = network.upgrade() else {
            return;
        };
        if network.has_ended(&session) || network.node.ping(session).await.is_err() {
            network.node.close(session);
            break;
        }
    }
    if let Err(error) = blocking(&core, move |core| core.unpair(&key)).await {
        tracing::warn!(%error, "the plan still has a pairing that ended");
    }
}
