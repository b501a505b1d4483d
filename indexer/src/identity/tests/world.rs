//! One agent's roots and devices, and what they say.

use kinlog_feeds::crypto::{AgentId, DeviceKey, Hash, KeyPair};

use crate::Text;
use crate::identity::{
    Cut, DeviceAdded, DeviceCard, DeviceRevoked, Identity, IdentitySet, Names, Powers, Refusal,
    RootReplaced, Said, Statement, Verdict, VerifiedSet,
};

/// Whoever signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Who {
    Root(u8),
    Device(u8),
}

pub(super) const ROOT: Who = Who::Root(0);

impl Who {
    pub(super) fn pair(self) -> KeyPair {
        match self {
            Who::Root(number) => KeyPair::from_seed(&[200 + number; 32]),
            Who::Device(number) => KeyPair::from_seed(&[number + 1; 32]),
        }
    }
}

pub(super) fn agent() -> AgentId {
    AgentId(ROOT.pair().public_key().0)
}

pub(super) fn device(number: u8) -> DeviceKey {
    DeviceKey(Who::Device(number).pair().public_key().0)
}

pub(super) fn card(number: u8) -> DeviceCard {
    DeviceCard::sign(
        &agent(),
        &Who::Device(number).pair(),
        [number; 32],
        &KeyPair::from_seed(&[number, 1].repeat(16).try_into().unwrap()),
        &KeyPair::from_seed(&[number, 2].repeat(16).try_into().unwrap()),
    )
}

pub(super) fn add_as(name: &str, number: u8, powers: Powers) -> Said {
    Said::DeviceAdded(DeviceAdded {
        card: card(number),
        powers,
        name: Text::new(name).unwrap(),
    })
}

pub(super) fn add(number: u8) -> Said {
    add_as(&format!("device {number}"), number, Powers::ALL)
}

pub(super) fn cut(length: u64) -> Option<Cut> {
    let tree_hash = Hash([length as u8; 32]);
    Some(Cut { length, tree_hash })
}

pub(super) fn revoke_at(number: u8, public: Option<Cut>, private: Option<Cut>) -> Said {
    Said::DeviceRevoked(DeviceRevoked {
        device: device(number),
        public,
        private,
    })
}

pub(super) fn revoke(number: u8) -> Said {
    revoke_at(number, cut(10), cut(20))
}

pub(super) fn replace(number: u8) -> Said {
    Said::RootReplaced(RootReplaced::sign(&agent(), &Who::Root(number).pair()))
}

pub(super) fn say(who: Who, past: &[&Statement], said: Said) -> Statement {
    let names = Names::new(past.iter().map(|statement| statement.hash())).unwrap();
    Statement::sign(agent(), &who.pair(), names, said)
}

/// Returns a set without verifying signatures: they are made here.
pub(super) fn verified<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> VerifiedSet {
    let mut set = IdentitySet::default();
    for statement in statements {
        set.insert(statement.clone());
    }
    VerifiedSet::new(agent(), set)
}

pub(super) fn identity<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Identity {
    verified(statements).identity().unwrap()
}

/// Returns the numbers of the devices.
pub(super) fn devices(identity: &Identity) -> Vec<u8> {
    let known = |key: &DeviceKey| (0..100).find(|number| device(*number) == *key).unwrap();
    let mut numbers: Vec<u8> = identity.devices.iter().map(|one| known(&one.key)).collect();
    numbers.sort_unstable();
    numbers
}

pub(super) fn verdict(identity: &Identity, statement: &Statement) -> Verdict {
    identity.verdict(&statement.hash()).unwrap()
}

pub(super) fn refused(identity: &Identity, statement: &Statement) -> Option<Refusal> {
    match verdict(identity, statement) {
        Verdict::NotAuthorised(refusal) => Some(refusal),
        _ => None,
    }
}
