//! Four people with three devices each, what their identity sets say, and what each brings into the
//! room: all made once, since signatures are what costs.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, KeyPair};
use kinlog_feeds::manifest::Manifest;
use kinlog_indexer::RoomId;
use kinlog_indexer::Text;
use kinlog_indexer::entry::Membership;
use kinlog_indexer::identity::{
    DeviceAdded, DeviceCard, DeviceRevoked, IdentitySet, Names, Powers, Said, Statement,
};

pub(crate) const PEOPLE: u8 = 4;

/// Identity sets of a person: see [`sets`].
pub(crate) const SETS: usize = 7 + 2 * ADDED_BY_ROOT;

/// Devices of a person that its root adds in the last of these, and revokes.
pub(crate) const ADDED_BY_ROOT: usize = 3;

/// A device of a person, and how often it came anew: names its feeds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Writer {
    pub(crate) person: u8,
    pub(crate) device: u8,
    pub(crate) time: u8,
}

fn pair(sort: u8, writer: Writer) -> KeyPair {
    let mut seed = [sort; 32];
    seed[..3].copy_from_slice(&[writer.person, writer.device, writer.time]);
    KeyPair::from_seed(&seed)
}

fn root(person: u8) -> KeyPair {
    KeyPair::from_seed(&[person + 1; 32])
}

pub(crate) fn agent(person: u8) -> AgentId {
    AgentId(root(person).public_key().0)
}

pub(crate) fn device_pair(person: u8, device: u8) -> KeyPair {
    let time = 0;
    pair(
        3,
        Writer {
            person,
            device,
            time,
        },
    )
}

pub(crate) fn device(person: u8, number: u8) -> DeviceKey {
    DeviceKey(device_pair(person, number).public_key().0)
}

impl Writer {
    pub(crate) fn entries(self) -> KeyPair {
        pair(4, self)
    }

    pub(crate) fn blobs(self) -> KeyPair {
        pair(5, self)
    }

    pub(crate) fn feed(self) -> FeedKey {
        static FEEDS: OnceLock<Mutex<HashMap<Writer, FeedKey>>> = OnceLock::new();
        let mut feeds = FEEDS.get_or_init(Mutex::default).lock().unwrap();
        let make = || Manifest::single(self.entries().public_key()).key();
        *feeds.entry(self).or_insert_with(make)
    }

    /// What it brings into the room, with one of the person's sets. The room is always the same.
    pub(crate) fn membership(self, room: &RoomId, set: usize) -> Membership {
        static KNOWN: OnceLock<Mutex<HashMap<(Writer, usize), Membership>>> = OnceLock::new();
        let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap();
        let make = || {
            let device = device_pair(self.person, self.device);
            let (entries, blobs) = (self.entries(), self.blobs());
            let set = sets(self.person)[set].clone();
            Membership::sign(room, agent(self.person), set, &device, &entries, &blobs)
        };
        known.entry((self, set)).or_insert_with(make).clone()
    }
}

/// What identity sets of a person say: its first device; two; the second revoked by the root; a
/// third that the second added; the second revoked by the first, which did not know the third; the
/// first revoked by the second, a thief; both, each not knowing the other. Then three in
/// which the root adds one more device each, and three in which it revokes the last of these, each later.
pub(crate) fn sets(person: u8) -> [Bytes; SETS] {
    static KNOWN: OnceLock<Vec<[Bytes; SETS]>> = OnceLock::new();
    KNOWN.get_or_init(|| (0..PEOPLE).map(make_sets).collect())[usize::from(person)].clone()
}

fn make_sets(person: u8) -> [Bytes; SETS] {
    let add = |number: u8| {
        let pair = device_pair(person, number);
        let of =
            |seed: u8| KeyPair::from_seed(&[[person; 16], [seed; 16]].concat().try_into().unwrap());
        let (public, private) = (&of(number), &of(number + 50));
        Said::DeviceAdded(DeviceAdded {
            card: DeviceCard::sign(&agent(person), &pair, [number; 32], public, private),
            powers: Powers::ALL,
            name: Text::new(format!("device {number}")).unwrap(),
        })
    };
    let revoke = |number: u8| {
        Said::DeviceRevoked(DeviceRevoked {
            device: device(person, number),
            public: None,
            private: None,
        })
    };
    let say = |signer: &KeyPair, past: &[&Statement], said| {
        let names = Names::new(past.iter().map(|one| one.hash())).unwrap();
        Statement::sign(agent(person), signer, names, said)
    };
    let (first, second) = (device_pair(person, 0), device_pair(person, 1));
    let one = say(&root(person), &[], add(0));
    let two = say(&first, &[&one], add(1));
    let by_root = say(&root(person), &[&two], revoke(1));
    let third = say(&second, &[&two], add(2));
    let by_first = say(&first, &[&two], revoke(1));
    let by_thief = say(&second, &[&two], revoke(0));
    let set = |statements: &[&Statement]| {
        let all = statements.iter().map(|one| (*one).clone());
        IdentitySet::new(all).unwrap().encode()
    };
    let second_by_root = say(&root(person), &[&one], add(1));
    let third_by_root = say(&root(person), &[&second_by_root], add(2));
    let added = [&one, &second_by_root, &third_by_root];
    let revoked = [0, 1, 2].map(|at| say(&root(person), &[added[at]], revoke(at as u8)));
    let with = |at: usize| set(&[&added[..=at], &[&revoked[at]]].concat());
    [
        set(&[&one]),
        set(&[&one, &two]),
        set(&[&one, &two, &by_root]),
        set(&[&one, &two, &third]),
        set(&[&one, &two, &third, &by_first]),
        set(&[&one, &two, &by_thief]),
        set(&[&one, &two, &by_thief, &by_first]),
        set(&added[..1]),
        set(&added[..2]),
        set(&added),
        with(0),
        with(1),
        with(2),
    ]
}
