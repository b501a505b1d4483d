//! Registers of an agent with three devices that write without knowing of each other: whatever a
//! replica reads first, the heads, the conflicts and every table are the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::world::{Random, World};
use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use kinlog_indexer::entry::{
    Attest, Body, Contact, Entry, LinkScope, PinSetting, Preference, Profile, Ref, Setting, Vouch,
    Witness,
};
use kinlog_indexer::index::{
    Block, BlockSource, ClaimSubject, FeedContext, RegisterRow, Scope, SourceError,
};
use kinlog_indexer::register::{Register, ValueName, Write, heads, replacing};
use kinlog_indexer::seal::{ContentKey, EpochSecret, seal_entry};
use kinlog_indexer::{Clock, Index, RoomId, Text};

const DEVICES: u8 = 3;
const STEPS: usize = 40;
const REPLICAS: usize = 8;
const FIFTY_YEARS_MS: u64 = 50 * 365 * 24 * 3_600_000;

fn text<const MAX: usize>(text: impl Into<String>) -> Text<MAX> {
    Text::new(text).unwrap()
}

/// One agent's devices, each with a feed in the open and one that is sealed for all three.
struct Devices {
    world: World,
    agent: AgentId,
    key: ContentKey,
    /// Every write, as the rules have it.
    writes: BTreeMap<Register, Vec<Write>>,
    nonce: u8,
}

fn open_feed(device: u8) -> FeedKey {
    FeedKey([100 + device; 32])
}

fn private_feed(device: u8) -> FeedKey {
    FeedKey([150 + device; 32])
}

impl Devices {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, 2);
        let agent = world.agents[0].id;
        for number in 0..DEVICES {
            let device = DeviceKey([200 + number; 32]);
            let author = agent;
            world.add_feed(open_feed(number), Scope::Author { author, device });
            world.add_feed(private_feed(number), Scope::Private { author, device });
        }
        Devices {
            world,
            agent,
            key: EpochSecret::new([77; 32]).content_key(),
            writes: BTreeMap::new(),
            nonce: 0,
        }
    }

    fn own_room(&self) -> RoomId {
        RoomId::own(&self.agent)
    }

    /// A device writes what it knows of: linked, deeper than what it saw, dated as it likes.
    fn write(&mut self, view: &mut Index, device: u8, ms: u64, body: Body) -> Ref {
        let is_open = matches!(
            body,
            Body::Profile(_) | Body::Vouch(_) | Body::Attest(_) | Body::Witness(_)
        );
        let (feed, scope) = match is_open {
            true => (open_feed(device), LinkScope::Author(self.agent)),
            false => (private_feed(device), LinkScope::Room(self.own_room())),
        };
        let frontier = view.frontier(scope, &feed).unwrap();
        let trees = self.world.trees.clone();
        let (links, depth) = frontier.next(&feed, |feed, length| {
            kinlog_indexer::index::TreeHashes::tree_hash(&trees, feed, length)
        });
        let clock = Clock { ms, counter: 0 };
        let entry = Entry {
            links,
            depth,
            clock,
            body: body.clone(),
        };
        let block = match is_open {
            true => self.world.write_bytes(feed, &entry.encode().unwrap()),
            false => {
                let index = self.world.feeds[&feed].blocks.len() as u64;
                self.nonce = self.nonce.wrapping_add(1);
                let plain = entry.encode().unwrap();
                let nonce = [self.nonce; 24];
                let sealed = seal_entry(&self.key, &feed, index, &nonce, &plain).unwrap();
                self.world.write_block(feed, sealed)
            }
        };
        let at = Ref {
            feed,
            index: block.index,
        };
        if let Some((value, replaces)) = ValueName::of(&body) {
            let register = Register {
                agent: self.agent,
                room: None,
                value,
            };
            self.writes.entry(register).or_default().push(Write {
                at,
                depth,
                clock,
                replaces: replaces.to_vec(),
            });
        }
        view.ingest(&[block]).unwrap();
        at
    }

    fn view(&self) -> Index {
        let mut view = self.world.index();
        view.put_epoch_key(self.own_room(), self.key.clone())
            .unwrap();
        view.ingest(&self.world.blocks()).unwrap();
        view
    }
}

impl BlockSource for Devices {
    fn feeds(&mut self) -> Result<Vec<FeedContext>, SourceError> {
        self.world.feeds()
    }

    fn keys(&mut self) -> Result<Vec<(RoomId, ContentKey)>, SourceError> {
        let mut keys = self.world.keys()?;
        keys.push((self.own_room(), self.key.clone()));
        Ok(keys)
    }

    fn held(&mut self, feed: &FeedKey) -> Result<Vec<Range<u64>>, SourceError> {
        self.world.held(feed)
    }

    fn block(&mut self, feed: &FeedKey, index: u64) -> Result<Option<Bytes>, SourceError> {
        self.world.block(feed, index)
    }
}

/// A value of some register, which names nothing as replaced yet.
fn value(random: &mut Random, step: usize) -> Body {
    let about = AgentId([random.below(2) as u8 + 1; 32]);
    let none = Vec::new;
    match random.below(6) {
        0 => Body::Profile(
            Profile::new(text(format!("name {step}")), text("beans"), none()).unwrap(),
        ),
        1 => {
            let petname = random.chance(70).then(|| text(format!("pet {step}")));
            Body::Contact(Contact::new(about, petname, text(""), none()).unwrap())
        }
        2 => {
            let value = random.chance(70).then(|| text(format!("{}", step % 4)));
            Body::Preference(Preference::new(text("read.last"), value, none()).unwrap())
        }
        3 => Body::Vouch(Vouch::new(about, random.chance(50), text(""), none()).unwrap()),
        4 => Body::Attest(Attest {
            about,
            text: text(format!("claim {step}")),
        }),
        _ => {
            let pin = PinSetting {
                live: true,
                tier: text("gift"),
                reason: text(format!("reason {}", step % 3)),
                depth: 0,
            };
            let value = random.chance(70).then(|| pin.encode());
            Body::Setting(Setting::new(text("pin all x"), value, none()).unwrap())
        }
    }
}

/// Devices that hear of each other now and then, with clocks at 0 and 50 years ahead; some name what
/// they cannot have seen.
fn apart(seed: u64) -> Devices {
    let mut random = Random::new(seed);
    let mut devices = Devices::new(seed);
    let views: Vec<RefCell<Index>> = (0..DEVICES).map(|_| RefCell::new(devices.view())).collect();
    for step in 0..STEPS {
        let who = random.below(usize::from(DEVICES)) as u8;
        let mut view = views[usize::from(who)].borrow_mut();
        if random.chance(40) {
            view.ingest(&devices.world.blocks()).unwrap();
        }
        let mut body = value(&mut random, step);
        if let Some((value, _)) = ValueName::of(&body) {
            let register = Register {
                agent: devices.agent,
                room: None,
                value,
            };
            let mut seen: Vec<Ref> = view
                .register(&register)
                .unwrap()
                .into_iter()
                .map(|head| head.at)
                .collect();
            if random.chance(15) {
                let feed = match random.chance(50) {
                    true => open_feed(random.below(3) as u8),
                    false => private_feed(random.below(3) as u8),
                };
                seen.push(Ref {
                    feed,
                    index: random.below(STEPS) as u64 / 4,
                });
            }
            if random.chance(80) {
                body = replacing(&body, seen).unwrap();
            }
        }
        let ms = [0, FIFTY_YEARS_MS + step as u64, 10_000 + step as u64][random.below(3)];
        devices.write(&mut view, who, ms, body);
    }
    devices
}

fn conflicts_of(devices: &Devices) -> Vec<(Register, Vec<Ref>)> {
    let standing = devices.writes.iter().map(|(register, writes)| {
        let heads = heads(writes).into_iter().map(|head| head.at).collect();
        (register.clone(), heads)
    });
    standing.collect()
}

#[test]
fn writes_that_are_forgotten_were_never_read() {
    let mut changed = 0;
    for case in 0..12u64 {
        let devices = apart(case);
        let (mut index, mut random) = (devices.view(), Random::new(case));
        let mut fewer = devices.world.blocks();
        let before = index.dump_hash().unwrap();
        for device in 0..DEVICES {
            for feed in [open_feed(device), private_feed(device)] {
                let start = random.below(4) as u64;
                let range = start..start + random.below(6) as u64;
                fewer.retain(|block| block.feed != feed || !range.contains(&block.index));
                index.forget_blocks(&feed, &[range]).unwrap();
            }
        }
        let mut never = devices.world.index();
        let key = devices.key.clone();
        never.put_epoch_key(devices.own_room(), key).unwrap();
        never.ingest(&fewer).unwrap();
        let expected = never.dump_hash().unwrap();
        assert_eq!(index.dump_hash().unwrap(), expected, "case {case}");
        changed += usize::from(before != expected);
        index.ingest(&devices.world.blocks()).unwrap();
        assert_eq!(index.dump_hash().unwrap(), before, "case {case}");
    }
    assert!(changed > 6, "{changed}: nothing is tried");
}

#[test]
fn eight_replicas_of_devices_apart_agree_with_the_rules_and_with_a_rebuild() {
    let (mut several, mut conflicting) = (0, 0);
    for case in 0..12u64 {
        let mut devices = apart(case);
        let mut straight = devices.view();
        for (register, expected) in conflicts_of(&devices) {
            let actual = straight.register(&register).unwrap();
            let actual: Vec<Ref> = actual.into_iter().map(|head| head.at).collect();
            assert_eq!(actual, expected, "case {case}, {register:?}");
            several += usize::from(expected.len() > 1);
        }
        conflicting += straight.conflicting(None).unwrap().len();
        let expected = straight.dump_hash().unwrap();
        for replica in 0..REPLICAS as u64 {
            let mut random = Random::new(case ^ (replica + 1) << 32);
            let mut blocks: Vec<Block> = devices.world.blocks();
            random.shuffle(&mut blocks);
            let mut index = devices.world.index();
            let key_at = random.below(blocks.len());
            for (number, block) in blocks.iter().enumerate() {
                if number == key_at {
                    index
                        .put_epoch_key(devices.own_room(), devices.key.clone())
                        .unwrap();
                }
                index.ingest(std::slice::from_ref(block)).unwrap();
                if random.chance(10) {
                    index.conflicting(Some(&devices.agent)).unwrap();
                    index.ingest(std::slice::from_ref(block)).unwrap();
                }
            }
            let actual = index.dump_hash().unwrap();
            assert_eq!(actual, expected, "case {case}, replica {replica}");
        }
        straight.rebuild(&mut devices).unwrap();
        assert_eq!(
            straight.dump_hash().unwrap(),
            expected,
            "case {case}, rebuilt"
        );
    }
    println!("{several} registers with several heads, {conflicting} of them in conflict");
    assert!(several > 10 && conflicting > 5, "nobody disagreed");
}

fn named(name: &str, replaces: Vec<Ref>) -> Body {
    Body::Profile(Profile::new(text(name), text(""), replaces).unwrap())
}

fn contradictions(index: &Index, agent: &AgentId) -> Vec<RegisterRow> {
    index.conflicting(Some(agent)).unwrap()
}

#[test]
fn a_future_clock_cannot_win_for_ever() {
    let mut devices = Devices::new(1);
    let agent = devices.agent;
    let (mut one, mut other) = (devices.view(), devices.view());
    let ahead = devices.write(&mut one, 0, FIFTY_YEARS_MS, named("ahead", vec![]));
    let beside = devices.write(&mut other, 1, 1_000, named("beside", vec![]));
    other.ingest(&devices.world.blocks()).unwrap();
    assert_eq!(other.profile(&agent).unwrap().unwrap().name, "ahead");
    let conflict = contradictions(&other, &agent).pop().unwrap();
    let sides: Vec<Ref> = conflict.heads.iter().map(|head| head.at).collect();
    assert_eq!(sides, [beside, ahead], "both sides are kept");

    // Whoever sees both settles it, fifty years before the date of one of them.
    devices.write(&mut other, 1, 2_000, named("settled", sides));
    for index in [other, devices.view()] {
        assert_eq!(index.profile(&agent).unwrap().unwrap().name, "settled");
        assert!(contradictions(&index, &agent).is_empty());
    }
}

#[test]
fn two_that_say_the_same_do_not_contradict_each_other() {
    let mut devices = Devices::new(2);
    let agent = devices.agent;
    let (mut one, mut other) = (devices.view(), devices.view());
    devices.write(&mut one, 0, 1_000, named("Ada", vec![]));
    devices.write(&mut other, 1, 2_000, named("Ada", vec![]));
    let index = devices.view();
    let register = Register {
        agent,
        room: None,
        value: ValueName::Profile,
    };
    assert_eq!(index.register(&register).unwrap().len(), 2);
    assert!(contradictions(&index, &agent).is_empty());
}

#[test]
fn what_is_taken_away_goes_and_claims_only_add() {
    let mut devices = Devices::new(3);
    let agent = devices.agent;
    let about = AgentId([9; 32]);
    let mut view = devices.view();
    let contact = |petname: Option<&str>, replaces| {
        let petname = petname.map(text);
        Body::Contact(Contact::new(about, petname, text("next door"), replaces).unwrap())
    };
    let first = devices.write(&mut view, 0, 1_000, contact(Some("Bo"), vec![]));
    let row = view.contacts(&agent).unwrap().pop().unwrap();
    assert_eq!((row.agent, row.petname.as_str()), (about, "Bo"));
    devices.write(&mut view, 1, 2_000, contact(None, vec![first]));
    assert!(view.contacts(&agent).unwrap().is_empty());

    for device in 0..2 {
        let claim = Attest {
            about,
            text: text("brought the chairs back"),
        };
        devices.write(&mut view, device, 3_000, Body::Attest(claim));
    }
    let witness = Witness {
        about: first,
        text: text("I was there"),
    };
    devices.write(&mut view, 0, 4_000, Body::Witness(witness));
    assert_eq!(view.attests(None, Some(&about)).unwrap().len(), 2);
    let seen = view.witnesses(Some(&agent), Some(&first)).unwrap();
    assert_eq!(seen[0].about, ClaimSubject::Entry(first));
    let vouch = |trusted, replaces| {
        Body::Vouch(Vouch::new(about, trusted, text("neighbour"), replaces).unwrap())
    };
    let trusted = devices.write(&mut view, 0, 5_000, vouch(true, vec![]));
    assert!(view.vouches(Some(&agent), None).unwrap()[0].trusted);
    devices.write(&mut view, 2, 4_000, vouch(false, vec![trusted]));
    assert!(!view.vouches(None, Some(&about)).unwrap()[0].trusted);
}

#[test]
fn what_an_agent_keeps_for_itself_is_not_read_from_the_open() {
    let mut devices = Devices::new(4);
    let agent = devices.agent;
    let about = AgentId([9; 32]);
    let contact = Contact::new(about, Some(text("Bo")), text(""), vec![]).unwrap();
    let entry = Entry {
        links: Default::default(),
        depth: 0,
        clock: Clock::default(),
        body: Body::Contact(contact),
    };
    let bytes = entry.encode().unwrap();
    devices.world.write_bytes(open_feed(0), &bytes);
    assert!(devices.view().contacts(&agent).unwrap().is_empty());
}
