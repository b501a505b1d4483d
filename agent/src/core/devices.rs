//! What this device says about its agent: who is one of its devices.

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash};
use kinlog_indexer::identity::{
    Cut, Device, DeviceAdded, DeviceRevoked, Identity, IdentityError, Powers, Said, Statement,
    Verdict,
};
use kinlog_swarm::Label;
use tokio::sync::broadcast;

use crate::api::{DeviceChange, Error, ErrorKind};
use crate::core::Core;
use crate::failure::chain;
use crate::knowledge::KnownAgent;

impl Core {
    /// Returns what holds of this agent.
    pub(crate) fn own_identity(&self) -> Result<Identity, Error> {
        let known = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(&self.agent);
            known.map(|known| known.identity.clone())
        });
        known.ok_or_else(|| Error::verification("state.db has no identity set of this agent"))
    }

    /// Returns what this device may do.
    pub(crate) fn own_powers(&self) -> Result<Powers, Error> {
        let identity = self.own_identity()?;
        let own = identity.device(&self.keys.device());
        Ok(own.map_or(Powers::default(), |device| device.powers))
    }

    /// Signs and keeps a statement of this device, and tells everybody who is met.
    ///
    /// `without` are statements that it takes back by not naming them.
    ///
    /// # Errors
    /// `Permission` for a statement that this device may not make; `Quota` when the set is full.
    pub(crate) fn state_as_device(&self, said: Said, without: &[Hash]) -> Result<(), Error> {
        self.guard.sign(&self.store)?;
        let held = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(&self.agent);
            known.map(|known| known.verified.clone())
        });
        let held =
            held.ok_or_else(|| Error::verification("state.db has no identity set of this agent"))?;
        let signing = self.keys.signing();
        let names = held.names(&signing.public_key(), without);
        let statement = Statement::sign(self.agent, signing, names, said);
        let hash = statement.hash();
        let full = |error: IdentityError| Error::new(ErrorKind::Quota, chain(&error));
        let with = held.with(statement).map_err(full)?;
        let identity = with.identity().map_err(full)?;
        match identity.verdict(&hash) {
            Some(Verdict::NotAuthorised(refusal)) => {
                return Err(Error::permission(format!(
                    "this device may not say that: {}",
                    refusal.as_str()
                ))
                .hint("`kinlog device list` shows which device may; the phrase always does"));
            }
            Some(Verdict::Counts) => {}
            _ => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "another device said otherwise, and stands above this one",
                )
                .hint("`kinlog device list` shows who revoked whom"));
            }
        }
        self.learn_identity(&self.agent, &with.set().encode())?;
        if let Some(network) = self.network() {
            for session in network.sessions_about(Label::Agent, self.agent.as_bytes()) {
                self.greet(&session)?;
            }
        }
        Ok(())
    }

    /// Finds a device of this agent by its key, the start of it, or its name.
    pub(crate) fn find_device(&self, text: &str) -> Result<Device, Error> {
        let identity = self.own_identity()?;
        let found: Vec<&Device> = identity
            .devices
            .iter()
            .filter(|device| {
                let key = device.key.to_string();
                device.name == text || (text.len() >= 4 && key.starts_with(text))
            })
            .collect();
        match found[..] {
            [device] => Ok(device.clone()),
            [] => Err(Error::not_found(format!("no device {text:?}"))
                .hint("`kinlog device list` shows all of them")),
            _ => Err(
                Error::usage(format!("{text:?} are {} devices", found.len()))
                    .hint("give the key, as `kinlog device list` shows it"),
            ),
        }
    }

    /// Gives a device another name.
    pub(crate) fn rename_device(&self, device: &Device, name: &str) -> Result<(), Error> {
        let held = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(&self.agent)?;
            let added = known.verified.set().statement(&device.added_in)?;
            match added.said() {
                Said::DeviceAdded(added) => Some(added.card.clone()),
                _ => None,
            }
        });
        let card = held.ok_or_else(|| Error::not_found("the statement that added the device"))?;
        let name = name
            .try_into()
            .map_err(|error| Error::usage(format!("name: {error}")))?;
        let powers = device.powers;
        self.state_as_device(Said::DeviceAdded(DeviceAdded { card, powers, name }), &[])
    }

    /// Returns how much of a device's directories is held: what a revocation accepts.
    pub(crate) fn cuts(&self, device: &Device) -> (Option<Cut>, Option<Cut>) {
        let cut = |key: &FeedKey| {
            let head = self.store.feed(key)?.head();
            let (length, tree_hash) = (head.length, head.tree_hash());
            (length > 0).then_some(Cut { length, tree_hash })
        };
        (cut(&device.directory), cut(&device.private_directory))
    }

    /// Revokes a device with the cuts of what is held of it; `undo` are devices that it revoked or
    /// added, about which it is not believed.
    pub(crate) fn revoke_device(&self, device: &Device, undo: &[DeviceKey]) -> Result<(), Error> {
        let without = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(&self.agent);
            let statements = known
                .into_iter()
                .flat_map(|one| one.verified.set().statements());
            let by_device = statements.filter(|one| one.signer().0 == device.key.0);
            let undone = by_device.filter(|one| match one.said() {
                Said::DeviceAdded(added) => undo.contains(&added.card.device),
                Said::DeviceRevoked(revoked) => undo.contains(&revoked.device),
                Said::RootReplaced(_) | Said::Other(_) => false,
            });
            undone.map(Statement::hash).collect::<Vec<_>>()
        });
        let (public, private) = self.cuts(device);
        let revoked = DeviceRevoked {
            device: device.key,
            public,
            private,
        };
        self.state_as_device(Said::DeviceRevoked(revoked), &without)
    }

    /// Tells whoever watches which devices of an agent came and went, and heeds it when they are own.
    pub(super) fn note_devices(&self, agent: &AgentId, before: Option<&Identity>) {
        let known = self.knowledge(|knowledge| knowledge.agents.get(agent).cloned());
        let Some(known) = known else { return };
        if *agent == self.agent {
            self.host.set_identity_hash(known.identity.hash);
            self.heed_revocation();
        }
        // Of an agent that was not known before nothing has changed.
        let Some(before) = before else { return };
        for change in changes(before, &known) {
            tracing::info!(agent = %change.name, device = %change.device_name, what = change.what, by = %change.by, "devices changed");
            // Nobody has to watch.
            let _ = self.device_changes.send(change);
        }
    }

    /// Returns a receiver of changes of anybody's devices from now on.
    pub(crate) fn device_changes(&self) -> broadcast::Receiver<DeviceChange> {
        self.device_changes.subscribe()
    }

    /// Takes what became of the own devices into effect: a revoked device writes nothing more.
    pub(crate) fn heed_revocation(&self) {
        let Ok(identity) = self.own_identity() else {
            return;
        };
        let device = self.keys.device();
        if let Some(revoked) = identity.revoked(&device) {
            let by = revoked.revocations.iter();
            let by: Vec<String> = by.map(|one| identity.signer_name(&one.by)).collect();
            self.guard.revoke(by.join(", "));
        } else if identity.device(&device).is_none() {
            self.guard
                .revoke("whoever revoked the device that added it".to_owned());
        }
    }
}

/// Returns what became of an agent's devices since `before`.
fn changes(before: &Identity, known: &KnownAgent) -> Vec<DeviceChange> {
    let now = &known.identity;
    let change = |what: &str, device: &Device, by: String| DeviceChange {
        agent: now.agent.into(),
        name: known.label(),
        what: what.to_owned(),
        device: device.key.into(),
        device_name: device.name.clone(),
        by,
    };
    let mut changes = Vec::new();
    for device in &now.devices {
        match before.device(&device.key) {
            None => {
                let by = now.signer_name(&device.added_by);
                changes.push(change("device_added", device, by));
            }
            Some(old) if old.name != device.name => {
                changes.push(change("device_renamed", device, old.name.clone()));
            }
            Some(_) => {}
        }
    }
    for revoked in &now.revoked {
        if before.revoked(&revoked.device.key).is_none() {
            let by = revoked.revocations.iter();
            let by: Vec<String> = by.map(|one| now.signer_name(&one.by)).collect();
            changes.push(change("device_revoked", &revoked.device, by.join(", ")));
        }
    }
    let gone = before
        .devices
        .iter()
        .filter(|device| now.device(&device.key).is_none() && now.revoked(&device.key).is_none());
    changes.extend(gone.map(|device| {
        let by = now.signer_name(&device.added_by);
        change("device_undone", device, by)
    }));
    if before.root() != now.root() {
        changes.push(DeviceChange {
            agent: now.agent.into(),
            name: known.label(),
            what: "root_replaced".to_owned(),
            device: DeviceKey(now.root().0).into(),
            device_name: String::new(),
            by: "the phrase".to_owned(),
        });
    }
    changes
}
