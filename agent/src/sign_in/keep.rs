//! The agent's side: making a capsule's key a device, holding records, giving and taking them.

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_indexer::identity::{Device, DeviceAdded, Identity, Powers, Said};
use kinlog_swarm::{Label, PeerMessage, SessionInfo};

use crate::api::Error;
use crate::core::Core;
use crate::failure::chain;
use crate::limits::SIGN_INS_HELD_MAX;
use crate::sign_in::{HoldLink, SignInOffer, SignInRecord, SignInRecordError};

/// A record that is held, or asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HeldSignIn {
    /// Key of the topic of its code.
    pub(crate) meet_key: [u8; 32],
    /// The record, once it came.
    pub(crate) record: Option<SignInRecord>,
}

/// Returns whether a device, or one that was, is the key of a capsule.
pub(crate) fn is_sign_in_key(device: &Device) -> bool {
    device.powers == Powers::ADD && !device.writes()
}

/// Returns the keys of capsules that add devices to an agent now.
pub(crate) fn sign_in_keys(identity: &Identity) -> impl Iterator<Item = &Device> {
    identity.devices.iter().filter(|one| is_sign_in_key(one))
}

impl Core {
    /// Makes the key of a capsule a device that adds devices, and revokes the ones before it.
    pub(crate) fn create_sign_in(&self, offer: &SignInOffer) -> Result<(), Error> {
        let key = offer.card.device;
        offer
            .card
            .verify(&self.agent)
            .map_err(|error| Error::verification(format!("sign-in key: {error}")))?;
        let identity = self.own_identity()?;
        self.check_power(Powers::ADD, "add devices")?;
        let former: Vec<Device> = sign_in_keys(&identity).cloned().collect();
        if !former.is_empty() {
            self.check_power(Powers::REVOKE, "revoke the sign-in that there is")?;
        }
        let added = Said::DeviceAdded(DeviceAdded {
            card: offer.card.clone(),
            powers: Powers::ADD,
            name: "sign-in".try_into().expect("a short name"),
        });
        self.state_as_device(added, &[])?;
        for former in &former {
            self.revoke_device(former, &[])?;
        }
        let identity = self.own_identity()?;
        let ever = {
            let revoked = identity.revoked.iter().map(|one| &one.device);
            let all = identity.devices.iter().chain(revoked);
            all.filter(|one| is_sign_in_key(one)).count() as u64
        };
        let held = self.sign_in(&self.agent).and_then(|held| held.record);
        // One whose counter is used up has lost its key: nobody holds it any more.
        let next = held.and_then(|record| record.counter.checked_add(1));
        let record = SignInRecord::sign(
            self.agent,
            next.unwrap_or(0).max(ever),
            offer.meet_key,
            key,
            offer.sealed,
            self.keys.signing(),
        );
        self.keep_sign_in(&record)
    }

    /// Revokes the keys of this agent's capsules, and forgets the record; returns the keys.
    pub(crate) fn revoke_sign_in(&self) -> Result<Vec<DeviceKey>, Error> {
        let identity = self.own_identity()?;
        let keys: Vec<Device> = sign_in_keys(&identity).cloned().collect();
        if keys.is_empty() {
            return Err(Error::not_found("this agent has no sign-in to revoke"));
        }
        for key in &keys {
            self.revoke_device(key, &[])?;
        }
        self.forget_sign_in(&self.agent)?;
        Ok(keys.iter().map(|one| one.key).collect())
    }

    /// Holds the record of another agent, who asked for it, from when it is met on.
    pub(crate) fn hold_sign_in(&self, link: &HoldLink) -> Result<(), Error> {
        if link.agent == self.agent {
            return Err(Error::usage(
                "the link is of this agent itself: its devices hold it already",
            ));
        }
        if !self.knowledge(|knowledge| knowledge.agents.contains_key(&link.agent)) {
            let message = format!("agent {} is not known here", link.agent);
            return Err(Error::not_found(message)
                .hint("`kinlog follow LINK` or `kinlog seed LINK` first: a record is held for whom something is kept"));
        }
        let held = self.knowledge(|knowledge| knowledge.sign_ins.clone());
        if held
            .get(&link.agent)
            .is_some_and(|one| one.meet_key == link.meet_key)
        {
            return Ok(());
        }
        if held.len() >= SIGN_INS_HELD_MAX {
            return Err(Error::new(
                crate::api::ErrorKind::Quota,
                format!("{SIGN_INS_HELD_MAX} sign-in records are held: no more are"),
            ));
        }
        self.state.put_sign_in(&link.agent, &link.meet_key, None)?;
        self.relearn()?;
        self.replan()?;
        self.ask_for_sign_ins(&link.agent)
    }

    /// Holds a record no longer.
    pub(crate) fn forget_sign_in(&self, agent: &AgentId) -> Result<(), Error> {
        self.state.remove_sign_in(agent)?;
        self.relearn()?;
        self.replan()
    }

    /// Takes a record that a peer gave.
    pub(crate) fn learn_sign_in(&self, session: &SessionInfo, bytes: &Bytes) -> Result<(), Error> {
        let record = SignInRecord::decode(bytes).map_err(refused)?;
        let identity = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(&record.agent);
            known.map(|known| known.identity.clone())
        });
        let Some(identity) = identity else {
            let message = format!("sign-in record of {}, who is not known", record.agent);
            return Err(Error::verification(message));
        };
        let held = self.sign_in(&record.agent);
        if held
            .as_ref()
            .is_some_and(|held| held.record.as_ref() == Some(&record))
        {
            return Ok(());
        }
        // A sibling tells of a new code; nobody else does.
        let is_sibling = self.plan().view.is_sibling(session) && record.agent == self.agent;
        let is_asked = held
            .as_ref()
            .is_some_and(|held| held.meet_key == record.meet_key);
        if !is_sibling && !is_asked {
            return Err(refused(SignInRecordError::OtherCode));
        }
        record.verify(&identity).map_err(refused)?;
        // One that stands no more gives way to any that does.
        let held = held.and_then(|held| held.record);
        if let Some(held) = held.filter(|held| held.stands(&identity).is_ok()) {
            record.replaces(&held).map_err(refused)?;
        }
        self.keep_sign_in(&record)
    }

    /// Asks a peer for a newer record than the one that is held, if it may have one.
    pub(crate) fn ask_for_sign_in(&self, session: &SessionInfo) {
        let plan = self.plan();
        if !plan.view.takes_sign_in(session) {
            return;
        }
        if let Some(network) = self.network() {
            let after = plan
                .view
                .sign_in(session)
                .map_or(0, |(counter, _)| *counter);
            network.send(session.id, PeerMessage::SignInGet { after });
        }
    }

    /// Asks everybody who may have a newer record of an agent: what was refused before, for a statement
    /// that was not known yet, is given again.
    pub(crate) fn ask_for_sign_ins(&self, agent: &AgentId) -> Result<(), Error> {
        self.tidy_sign_in(agent)?;
        for session in self.sign_in_sessions(agent) {
            self.ask_for_sign_in(&session);
        }
        Ok(())
    }

    /// Returns what is held, or asked for, of an agent.
    pub(crate) fn sign_in(&self, agent: &AgentId) -> Option<HeldSignIn> {
        self.knowledge(|knowledge| knowledge.sign_ins.get(agent).cloned())
    }

    fn keep_sign_in(&self, record: &SignInRecord) -> Result<(), Error> {
        let bytes = record.encode();
        self.state
            .put_sign_in(&record.agent, &record.meet_key, Some(&bytes))?;
        self.relearn()?;
        self.replan()?;
        let Some(network) = self.network() else {
            return Ok(());
        };
        // Other holders are not left to ask.
        let bytes = Bytes::from(bytes);
        for session in self.sign_in_sessions(&record.agent) {
            let bytes = bytes.clone();
            network.send(session.id, PeerMessage::SignInRecord { bytes });
        }
        Ok(())
    }

    /// Drops the record of an agent whose key or signer its statements took back.
    fn tidy_sign_in(&self, agent: &AgentId) -> Result<(), Error> {
        let stale = self.knowledge(|knowledge| {
            let held = knowledge.sign_ins.get(agent)?;
            let known = knowledge.agents.get(agent)?;
            let stands = held.record.as_ref()?.stands(&known.identity);
            stands.is_err().then_some(held.meet_key)
        });
        let Some(meet_key) = stale else {
            return Ok(());
        };
        if *agent == self.agent {
            return self.forget_sign_in(agent);
        }
        // Who asked for it to be held may make another for the same code.
        self.state.put_sign_in(agent, &meet_key, None)?;
        self.relearn()?;
        self.replan()
    }

    /// Returns the open sessions with others who may hold, and have, the record of an agent.
    fn sign_in_sessions(&self, agent: &AgentId) -> Vec<SessionInfo> {
        let Some(network) = self.network() else {
            return Vec::new();
        };
        let plan = self.plan();
        let meet_key = self.sign_in(agent).map(|held| held.meet_key);
        let is_own = *agent == self.agent;
        network.sessions_where(|session| {
            let by_code = session.label == Label::Code && Some(session.key) == meet_key;
            by_code || (is_own && plan.view.is_sibling(session))
        })
    }

    fn check_power(&self, power: Powers, what: &str) -> Result<(), Error> {
        if self.own_powers()?.contains(power) {
            return Ok(());
        }
        Err(Error::permission(format!("this device may not {what}"))
            .hint("do it on a device that may: `kinlog device list` shows them"))
    }
}

fn refused(error: SignInRecordError) -> Error {
    Error::verification(chain(&error))
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{Hash, Secret};
    use kinlog_swarm::{Certificate, SessionId, SessionRole, Transport};

    use super::*;
    use crate::api::ErrorKind;
    use crate::keys::DeviceKeys;
    use crate::sign_in::{Capsule, SignInCode};
    use crate::test_folder::TestFolder;

    fn offer(core: &Core, number: u8) -> SignInOffer {
        let capsule = Capsule::new(Secret::new([number; 32]), "Ada".try_into().unwrap());
        SignInOffer {
            card: capsule.card(&core.agent),
            meet_key: SignInCode::new([7; 16]).meet_key(),
            sealed: [number; Capsule::SEALED_BYTES],
        }
    }

    fn session(label: Label, key: [u8; 32], device: Option<DeviceKey>) -> SessionInfo {
        SessionInfo {
            id: SessionId(1),
            label,
            key,
            role: SessionRole::Initiator,
            remote_certificate: device.map(|device| Certificate {
                device,
                identity_hash: Hash::default(),
            }),
            transport: Transport::Memory,
            path: None,
            plain: false,
        }
    }

    fn held(core: &Core) -> SignInRecord {
        core.sign_in(&core.agent).unwrap().record.unwrap()
    }

    #[test]
    fn a_record_that_was_replaced_is_refused_and_its_key_adds_nobody() {
        let folder = TestFolder::new();
        let ada = folder.core("ada");
        ada.create_sign_in(&offer(&ada, 1)).unwrap();
        let old = held(&ada);
        ada.create_sign_in(&offer(&ada, 2)).unwrap();
        let new = held(&ada);
        assert_eq!((old.counter, new.counter), (1, 2));
        let identity = ada.own_identity().unwrap();
        assert!(identity.revoked(&old.key).is_some());
        assert!(identity.device(&new.key).is_some());
        let met = session(Label::Code, new.meet_key, None);
        let refused = ada.learn_sign_in(&met, &old.encode().into()).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Verification);
        // Its key stands, and the number is lower: refused for that alone.
        let sealed = [9; Capsule::SEALED_BYTES];
        let device = ada.keys.signing();
        let lower = SignInRecord::sign(ada.agent, 1, new.meet_key, new.key, sealed, device);
        let refused = ada.learn_sign_in(&met, &lower.encode().into()).unwrap_err();
        assert!(
            refused.message.contains("a newer one is held: number 2"),
            "{refused}"
        );
        assert_eq!(held(&ada), new);
        ada.learn_sign_in(&met, &new.encode().into()).unwrap();
    }

    #[test]
    fn a_strangers_record_for_our_agent_is_refused() {
        let folder = TestFolder::new();
        let (ada, eve) = (folder.core("ada"), folder.core("eve"));
        ada.create_sign_in(&offer(&ada, 1)).unwrap();
        let own = held(&ada);
        let sealed = [9; Capsule::SEALED_BYTES];
        let forged =
            |key| SignInRecord::sign(ada.agent, 9, own.meet_key, key, sealed, eve.keys.signing());
        let eve_key = DeviceKeys::new(Secret::new([8; 32])).device();
        let met = session(Label::Code, own.meet_key, Some(eve.keys.device()));
        for record in [forged(own.key), forged(eve_key)] {
            let refused = ada
                .learn_sign_in(&met, &record.encode().into())
                .unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Verification);
        }
        // Of an agent that asked for nothing.
        eve.create_sign_in(&offer(&eve, 3)).unwrap();
        let unasked = held(&eve).encode().into();
        assert!(ada.learn_sign_in(&met, &unasked).is_err());
        assert_eq!(held(&ada), own);
        assert_eq!(ada.state.sign_ins().unwrap().len(), 1);
    }

    #[test]
    fn another_code_is_told_by_a_sibling_only() {
        let folder = TestFolder::new();
        let ada = folder.core("ada");
        ada.create_sign_in(&offer(&ada, 1)).unwrap();
        let own = held(&ada);
        let sealed = [9; Capsule::SEALED_BYTES];
        let device = ada.keys.signing();
        let other = SignInRecord::sign(ada.agent, 5, [6; 32], own.key, sealed, device);
        let met = session(Label::Code, own.meet_key, None);
        assert!(ada.learn_sign_in(&met, &other.encode().into()).is_err());
        assert_eq!(held(&ada), own);
    }

    #[test]
    fn what_was_revoked_is_held_and_served_no_more() {
        let folder = TestFolder::new();
        let ada = folder.core("ada");
        ada.create_sign_in(&offer(&ada, 1)).unwrap();
        let own = held(&ada);
        let by_code = session(Label::Code, own.meet_key, None);
        assert!(ada.plan().view.sign_in(&by_code).is_some());
        assert!(ada.plan().topics.contains(&(Label::Code, own.meet_key)));
        assert_eq!(ada.revoke_sign_in().unwrap(), [own.key]);
        assert!(ada.plan().view.sign_in(&by_code).is_none());
        assert!(!ada.plan().topics.contains(&(Label::Code, own.meet_key)));
        assert!(ada.state.sign_ins().unwrap().is_empty());
        // A holder that missed it gives it back: refused.
        assert!(ada.learn_sign_in(&by_code, &own.encode().into()).is_err());
        // The next one counts on.
        ada.create_sign_in(&offer(&ada, 2)).unwrap();
        assert_eq!(held(&ada).counter, 2);
    }

    #[test]
    fn an_offer_for_another_agent_is_no_device_of_ours() {
        let folder = TestFolder::new();
        let (ada, eve) = (folder.core("ada"), folder.core("eve"));
        let refused = ada.create_sign_in(&offer(&eve, 1)).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Verification);
        assert!(ada.sign_in(&ada.agent).is_none());
    }
}
