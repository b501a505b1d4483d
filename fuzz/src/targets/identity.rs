//! What anybody may sign about an agent: sets that travel, and what follows from them.

use kinlog_feeds::crypto::{AgentId, KeyPair};
use kinlog_indexer::identity::{
    DeviceAdded, DeviceCard, DeviceRevoked, IdentitySet, Names, Powers, RootReplaced, Said,
    Statement,
};

fn root() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

fn agent() -> AgentId {
    AgentId(root().public_key().0)
}

pub(super) fn set(bytes: &[u8]) -> bool {
    let Ok(set) = IdentitySet::decode(bytes) else {
        return false;
    };
    assert_eq!(set.encode(), bytes, "a set has one spelling");
    let known = seeds_of_sets();
    let Ok(verified) = set.clone().check(&agent()) else {
        return true;
    };
    // Nobody but the seeds' signers signs: what verifies is made of their statements.
    for statement in set.statements() {
        assert!(
            known
                .iter()
                .any(|seed| seed.statement(&statement.hash()).is_some())
        );
    }
    let kept = verified.kept();
    assert_eq!(kept.kept(), kept);
    if let (Ok(all), Ok(kept)) = (verified.identity(), kept.identity()) {
        assert_eq!(all.devices, kept.devices);
        assert_eq!(all.revoked, kept.revoked);
    }
    true
}

pub(super) fn set_seeds() -> Vec<Vec<u8>> {
    let sets = seeds_of_sets();
    sets.iter().map(|set| set.encode().to_vec()).collect()
}

fn seeds_of_sets() -> Vec<IdentitySet> {
    let device = |number: u8| KeyPair::from_seed(&[number + 10; 32]);
    let add = |number: u8| {
        let (public, private) = (&device(number + 100), &device(number + 150));
        Said::DeviceAdded(DeviceAdded {
            card: DeviceCard::sign(&agent(), &device(number), [number; 32], public, private),
            powers: Powers::ALL,
            name: "laptop".try_into().unwrap(),
        })
    };
    let say = |signer: &KeyPair, past: &[&Statement], said| {
        let names = Names::new(past.iter().map(|one| one.hash())).unwrap();
        Statement::sign(agent(), signer, names, said)
    };
    let first = say(&root(), &[], add(0));
    let second = say(&device(0), &[&first], add(1));
    let revoked = Said::DeviceRevoked(DeviceRevoked {
        device: kinlog_feeds::crypto::DeviceKey(device(1).public_key().0),
        public: None,
        private: None,
    });
    let revoked = say(&device(0), &[&second], revoked);
    let next = RootReplaced::sign(&agent(), &KeyPair::from_seed(&[2; 32]));
    let replaced = say(&root(), &[&first], Said::RootReplaced(next));
    let all = [first.clone(), second, revoked, replaced];
    [IdentitySet::new([first]), IdentitySet::new(all)]
        .map(Result::unwrap)
        .into()
}
