//! What is known of an agent: its devices, and what their public directories list.

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use kinlog_indexer::identity::{Identity, IdentityError, IdentitySet};

use crate::links::FeedPath;

/// A public path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Line {
    pub(crate) path: FeedPath,
    pub(crate) key: FeedKey,
    /// Device whose directory lists it.
    pub(crate) device: DeviceKey,
    pub(crate) is_entries: bool,
}

/// An agent whose identity set is held and verified.
#[derive(Clone, Debug)]
pub(crate) struct KnownAgent {
    pub(crate) identity: Identity,
    /// The set as it travels.
    pub(crate) set: Bytes,
    /// What the agent calls itself.
    pub(crate) name: Option<String>,
    /// Public paths of all devices, by path.
    pub(crate) lines: Vec<Line>,
}

impl KnownAgent {
    /// Verifies an encoded identity set of `agent`; its lines are read from the index later.
    pub(crate) fn verify(agent: &AgentId, set: Bytes) -> Result<KnownAgent, IdentityError> {
        let identity = IdentitySet::decode(&set)?.verify(agent)?;
        Ok(KnownAgent {
            identity,
            set,
            name: None,
            lines: Vec::new(),
        })
    }

    /// Takes the statements of another set of the same agent in; returns whether any was new.
    pub(crate) fn merge(&mut self, set: &[u8]) -> Result<bool, IdentityError> {
        let agent = self.identity.agent;
        let held = IdentitySet::decode(&self.set)?;
        let other = IdentitySet::decode(set)?;
        other.verify(&agent)?;
        let both = IdentitySet::new(held.statements().chain(other.statements()).cloned())?;
        if both == held {
            return Ok(false);
        }
        self.identity = both.verify(&agent)?;
        self.set = both.encode();
        Ok(true)
    }

    /// Returns the public directories of all devices.
    pub(crate) fn directories(&self) -> impl Iterator<Item = FeedKey> {
        self.identity.devices.iter().map(|device| device.directory)
    }

    /// Returns the line of a path.
    pub(crate) fn line(&self, path: &FeedPath) -> Option<&Line> {
        self.lines.iter().find(|line| line.path == *path)
    }

    /// Returns what to call the agent: its name and the start of its id.
    pub(crate) fn label(&self) -> String {
        let id = self.identity.agent.to_string();
        match &self.name {
            Some(name) => format!("{name} ({})", &id[..8]),
            None => id[..8].to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::KeyPair;
    use kinlog_indexer::identity::{DeviceAdded, Powers, Statement};

    use super::*;

    fn set(root: &KeyPair, devices: &[u8]) -> Bytes {
        let statements = devices.iter().map(|number| {
            let added = DeviceAdded {
                agent: AgentId(root.public_key().0),
                device: DeviceKey([*number; 32]),
                x25519: [*number; 32],
                directory: FeedKey([*number; 32]),
                name: "laptop".try_into().expect("short"),
                powers: Powers::ALL,
            };
            Statement::device_added(root, added)
        });
        IdentitySet::new(statements).expect("few").encode()
    }

    #[test]
    fn sets_of_one_agent_are_united_and_those_of_another_refused() {
        let root = KeyPair::from_seed(&[1; 32]);
        let agent = AgentId(root.public_key().0);
        let mut known = KnownAgent::verify(&agent, set(&root, &[1, 2])).expect("holds");
        assert_eq!(known.merge(&set(&root, &[1])), Ok(false));
        assert_eq!(known.merge(&set(&root, &[3])), Ok(true));
        assert_eq!(known.directories().count(), 3);
        let stranger = KeyPair::from_seed(&[2; 32]);
        assert!(known.merge(&set(&stranger, &[4])).is_err());
        assert!(KnownAgent::verify(&agent, set(&stranger, &[4])).is_err());
    }
}
