//! Identity sets as acts carry them: real statements of one agent, torn apart as its devices like,
//! come to one thing in whatever order they arrive.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::cell::Cell;
use std::time::Instant;

use crate::acts;
use crate::acts::*;
use crate::reference::{Reference, Told};
use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, KeyPair};
use kinlog_indexer::Text;
use kinlog_indexer::authority::{Authority, Devices, RoomActs, Verdict};
use kinlog_indexer::entry::{Admit, Deed, DeviceJoin, Membership, Role};
use kinlog_indexer::identity::{
    Device, DeviceAdded, DeviceCard, DeviceRevoked, Identity, IdentitySet, Names, Powers,
    Said as IdentitySaid, Statement,
};
use kinlog_indexer::limits::ROOM_SETS_REMEMBERED_MAX;
use testkit::random::Random;

/// Eve's number among the agents of the room.
const EVE: u8 = 3;

fn root() -> KeyPair {
    KeyPair::from_seed(&[77; 32])
}

fn eve() -> AgentId {
    AgentId(root().public_key().0)
}

fn pair(device: u8) -> KeyPair {
    KeyPair::from_seed(&[device + 1; 32])
}

fn key(device: u8) -> DeviceKey {
    DeviceKey(pair(device).public_key().0)
}

fn add(device: u8) -> IdentitySaid {
    let directory = |which| KeyPair::from_seed(&[device, which].repeat(16).try_into().unwrap());
    let card = DeviceCard::sign(
        &eve(),
        &pair(device),
        [device; 32],
        &directory(1),
        &directory(2),
    );
    IdentitySaid::DeviceAdded(DeviceAdded {
        card,
        powers: Powers::ALL,
        name: Text::new(format!("device {device}")).unwrap(),
    })
}

fn revoke(device: u8) -> IdentitySaid {
    IdentitySaid::DeviceRevoked(DeviceRevoked {
        device: key(device),
        public: None,
        private: None,
    })
}

fn say(signer: &KeyPair, past: &[&Statement], said: IdentitySaid) -> Statement {
    let names = Names::new(past.iter().map(|one| one.hash())).unwrap();
    Statement::sign(eve(), signer, names, said)
}

fn encoded(statements: &[&Statement]) -> Bytes {
    let statements = statements.iter().map(|one| (*one).clone());
    IdentitySet::new(statements).unwrap().encode()
}

/// Eve's device, with a set that by itself has it, as [`Membership::verify`] wants.
fn member(device: u8, again: u8, set: Bytes) -> Membership {
    let alone = IdentitySet::decode(&set).unwrap().verify(&eve()).unwrap();
    assert!(alone.device(&key(device)).unwrap().writes());
    let mut member = Who(EVE, device, again).membership(&[]);
    (member.agent, member.device, member.identity_set) = (eve(), key(device), set);
    member
}

fn admit_eve(again: u8, first: &Statement) -> Deed {
    Deed::Admit(Admit {
        member: member(1, again, encoded(&[first])),
        role: Role::Guest,
        invite: None,
        epochs: Vec::new(),
    })
}

fn join(device: u8, set: &[&Statement]) -> Deed {
    Deed::DeviceJoin(DeviceJoin {
        device: member(device, 0, encoded(set)),
        epochs: Vec::new(),
    })
}

/// Eve's statements are real, everybody else's those of these tests.
fn devices_of(agent: &AgentId, sets: &[&Bytes]) -> Devices {
    if *agent == eve() {
        kinlog_indexer::authority::devices_of(agent, sets)
    } else {
        acts::devices_of(agent, sets)
    }
}

fn authority(room: &Script, order: impl IntoIterator<Item = usize>) -> Authority {
    let mut acts = RoomActs::new(devices_of, 8192);
    for number in order {
        acts.add(room.acts[number].held());
    }
    acts.authority()
}

#[test]
fn sets_that_hang_on_each_other_are_one_set_in_whatever_order_they_came() {
    let [one, two, three, four] = [1, 2, 3, 4].map(|device| say(&root(), &[], add(device)));
    let elsewhere = say(&root(), &[], add(9));
    let revoking = say(&root(), &[&one, &elsewhere], revoke(1));
    let mut room = Script::new();
    let ada = room.after(&[0], OWNER, admit(ADA, Role::Admin));
    let first = room.after(&[ada], OWNER, admit_eve(0, &one));
    let second = room.after(&[first], Who(EVE, 1, 0), join(2, &[&one, &two]));
    // Beside each other: the one carries a revocation that waits, the other what it waits for.
    let waits = join(3, &[&three, &one, &revoking]);
    let waits = room.after(&[second], Who(EVE, 1, 0), waits);
    let rest = join(4, &[&four, &elsewhere]);
    let rest = room.after(&[second], Who(EVE, 2, 0), rest);
    let left = room.after(&[waits, rest], Who(EVE, 2, 0), leave(Vec::new()));
    let back = room.after(&[left], OWNER, admit_eve(1, &one));
    let ben = room.after(&[back], OWNER, admit(BEN, Role::Member));

    let expected = authority(&room, 0..room.acts.len());
    let mut swapped: Vec<usize> = (0..room.acts.len()).collect();
    swapped.swap(waits, rest);
    assert_eq!(authority(&room, swapped), expected);
    assert_eq!(authority(&room, (0..room.acts.len()).rev()), expected);
    // Together they revoke her first device, by which she cannot come back.
    let refused = &expected.acts[&room.acts[back].hash].verdict;
    assert!(matches!(refused, Verdict::Refused(_)), "{refused}");
    assert_eq!(expected.role(&BEN.agent()), None, "{ben} stands on it");
}

/// A room in which `count` devices of Eve say beside each other that so many others were never hers.
fn many_words(count: u8) -> Script {
    let first = say(&root(), &[], add(1));
    let mut room = Script::new();
    let mut last = room.after(&[0], OWNER, admit_eve(0, &first));
    for device in 2..2 + count {
        let added = say(&root(), &[], add(device));
        last = room.after(&[last], Who(EVE, 1, 0), join(device, &[&first, &added]));
    }
    for number in 0..count {
        let added = say(&pair(1), &[&first], add(104 + number));
        let by = Who(EVE, 2 + number, 0);
        room.after(&[last], by, join(104 + number, &[&first, &added]));
    }
    let idle = say(&root(), &[], add(205));
    let revoking = say(&root(), &[&first], revoke(1));
    let set = [&idle, &revoking, &first];
    room.after(&[last], Who(EVE, 1, 0), join(205, &set));
    room
}

thread_local! {
    /// How often sets were evaluated.
    static EVALUATED: Cell<usize> = const { Cell::new(0) };
}

fn counted_devices_of(agent: &AgentId, sets: &[&Bytes]) -> Devices {
    EVALUATED.set(EVALUATED.get() + 1);
    devices_of(agent, sets)
}

#[test]
fn what_a_device_says_of_another_is_found_once() {
    const COUNT: u8 = 40;
    let mut room = many_words(COUNT);
    let mut acts = RoomActs::new(counted_devices_of, 8192);
    let at = Instant::now();
    for done in &room.acts {
        assert!(acts.add(done.held()));
    }
    let voids = acts.authority();
    let voids = voids.acts.values();
    let voids = voids.filter(|row| matches!(row.verdict, Verdict::Void(_)));
    assert_eq!(voids.count(), usize::from(COUNT));
    let first = EVALUATED.get();
    println!(
        "{COUNT} and {COUNT}: {:?}, {first} evaluations",
        at.elapsed()
    );
    // More than are remembered: each word on each arrival that it may be about, and each act on what it brings.
    assert!(first > ROOM_SETS_REMEMBERED_MAX, "{first}");
    assert!(first < 2 * usize::from(COUNT).pow(2), "{first}");
    for number in 0..3 {
        let next = room.after(&[0], OWNER, invite(number, Role::Guest, None, None));
        assert!(acts.add(room.acts[next].held()));
        acts.authority();
    }
    assert_eq!(EVALUATED.get(), first, "nothing is asked again");
}

/// Random statements about Eve: devices that her root or one of them adds, then what revokes some.
fn statements(random: &mut Random) -> Vec<Statement> {
    let mut all = vec![say(&root(), &[], add(1))];
    while all.len() < 13 {
        let added = all.len().min(8);
        let is_root = random.below(4) == 0;
        let maker = random.index(added.min(7));
        let signer = if is_root {
            root()
        } else {
            pair(1 + maker as u8)
        };
        let mut past: Vec<&Statement> = Vec::new();
        if !is_root {
            past.push(&all[maker]);
        }
        let said = if added < 8 {
            add(1 + added as u8)
        } else {
            past.push(&all[random.index(all.len())]);
            revoke(1 + random.below(7) as u8)
        };
        let next = say(&signer, &past, said);
        if all.iter().all(|one| one.hash() != next.hash()) {
            all.push(next);
        }
    }
    all
}

/// A statement that adds a device, all that it hangs on, and whatever else its bearer puts to it.
fn torn<'a>(random: &mut Random, all: &'a [Statement], at: usize) -> Vec<&'a Statement> {
    let mut set = vec![&all[at]];
    let mut next = 0;
    while let Some(one) = set.get(next).copied() {
        let names = one.names().hashes().iter();
        set.extend(names.filter_map(|name| all.iter().find(|other| other.hash() == *name)));
        next += 1;
    }
    let more = all.iter().filter(|_| random.below(6) == 0);
    set.extend(more.collect::<Vec<_>>());
    set
}

/// A room in which Eve's devices join on each other and beside each other, each with a set of its own.
fn torn_room(random: &mut Random) -> Script {
    let all = statements(random);
    let mut room = Script::new();
    let mut last = vec![room.after(&[0], OWNER, admit_eve(0, &all[0]))];
    let mut there = vec![1u8];
    for _ in 0..40 {
        let at = random.index(all.len());
        let IdentitySaid::DeviceAdded(added) = all[at].said() else {
            continue;
        };
        let device = (1..9)
            .find(|device| key(*device) == added.card.device)
            .unwrap();
        let set = torn(random, &all, at);
        let alone = IdentitySet::new(set.iter().map(|one| (*one).clone())).unwrap();
        let has = |alone: Identity| alone.device(&key(device)).is_some_and(Device::writes);
        if there.contains(&device) || !alone.verify(&eve()).is_ok_and(has) {
            continue;
        }
        let by = Who(EVE, there[random.index(there.len())], 0);
        let mut after = vec![
            last[random.index(last.len())],
            last[random.index(last.len())],
        ];
        // Its own acts, and what brought it in, are in an act's past.
        after.extend(last.iter().copied().filter(|number| {
            let done = &room.acts[*number];
            let brings =
                matches!(&done.act.deed, Deed::DeviceJoin(join) if join.device.device == key(by.1));
            done.by == by || brings
        }));
        after.sort_unstable();
        after.dedup();
        let number = room.after(&after, by, join(device, &set));
        let so_far = authority(&room, 0..=number);
        if let Verdict::Refused(_) = so_far.acts[&room.acts[number].hash].verdict {
            continue;
        }
        last.push(number);
        there.push(device);
    }
    let newest = &last[last.len().saturating_sub(2)..];
    room.after(newest, OWNER, admit(BEN, Role::Member));
    room
}

#[test]
fn sets_torn_apart_at_random_come_to_the_same_in_any_order_and_as_the_plain_rules_say() {
    let seed = testkit::random::usual_seed(1);
    println!("KINLOG_SEED={seed}");
    let (mut counting, mut void, mut refused) = (0, 0, 0);
    for case in 0..testkit::soak::choose(30, 4_000) {
        let mut random = Random::new(seed.wrapping_add(case));
        let room = torn_room(&mut random);
        let expected = authority(&room, 0..room.acts.len());
        for _ in 0..4 {
            let mut order: Vec<usize> = (0..room.acts.len()).collect();
            for at in (1..order.len()).rev() {
                order.swap(at, random.index(at + 1));
            }
            assert_eq!(
                authority(&room, order),
                expected,
                "seed {seed}, case {case}"
            );
        }
        let acts: Vec<Told> = room.acts.iter().map(told).collect();
        let reference = Reference::new(&acts, devices_of);
        let outcome = reference.outcome(&reference.evaluated());
        for (number, done) in room.acts.iter().enumerate() {
            let verdict = &expected.acts[&done.hash].verdict;
            let counts = outcome.counts.contains(&number);
            assert_eq!(
                verdict.counts(),
                counts,
                "seed {seed}, case {case}: {number}: {verdict}"
            );
            match verdict {
                Verdict::Counts => counting += 1,
                Verdict::Void(_) => void += 1,
                _ => refused += 1,
            }
        }
    }
    println!("{counting} count, {void} void, {refused} refused");
    assert!(counting > 100 && void > 0 && refused > 10);
}

fn told(done: &Done) -> Told {
    Told {
        hash: done.hash,
        feed: done.by.feed(),
        index: done.index,
        ms: done.ms,
        sealed_by: done.sealed_by,
        verifies: done.verifies(),
        act: done.act.clone(),
    }
}
