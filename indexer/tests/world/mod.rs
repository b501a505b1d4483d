//! A small world for the index: agents with devices, a room, public feeds, and every block they
//! wrote, from one seed.

#![allow(dead_code, reason = "each test file uses its part")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, KeyPair, Secret};
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::tree::{Head, append};
use kinlog_indexer::clock::HybridClock;
use kinlog_indexer::entry::{
    Act, ActHash, Admit, Body, ClaimScope, Content, Deed, Deleted, DirectoryHeads, DirectoryLine,
    DirectoryRedirect, DirectoryRename, DirectoryRetire, Document, Edit, Entry, Envelope,
    FeedClaim, File, Genesis, History, LinkScope, Links, Membership, Mentions, Message, OPEN_BLOCK,
    Parents, Profile, Reaction, Ref, Role, Tombstone, tag,
};
use kinlog_indexer::identity::{DeviceCard, IdentitySet, Powers};
use kinlog_indexer::index::{Block, BlockSource, FeedContext, Scope, SourceError, TreeHashes};
use kinlog_indexer::seal::{ContentKey, EpochSecret, device_dh_public, seal_entry};
use kinlog_indexer::{BODY_FORMAT, Clock, Index, RoomId, Text};

/// Numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// Tree hashes by feed and length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trees(Arc<Mutex<BTreeMap<(FeedKey, u64), Hash>>>);

impl Trees {
    pub(crate) fn set(&self, feed: FeedKey, length: u64, hash: Hash) {
        self.0.lock().unwrap().insert((feed, length), hash);
    }
}

impl TreeHashes for Trees {
    fn tree_hash(&self, feed: &FeedKey, length: u64) -> Option<Hash> {
        self.0.lock().unwrap().get(&(*feed, length)).copied()
    }
}

/// A feed in this world.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub(crate) context: FeedContext,
    pub(crate) blocks: Vec<Bytes>,
    head: Head,
}

/// An agent with one device.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) device: KeyPair,
    pub(crate) set: Bytes,
    pub(crate) directory: FeedKey,
}

fn directory_pair(number: u8, which: u8) -> KeyPair {
    let mut seed = [number; 32];
    seed[0] = which;
    KeyPair::from_seed(&seed)
}

impl Agent {
    pub(crate) fn new(number: u8) -> Self {
        Agent::with(number, Powers::ALL, &format!("device {number}"))
    }

    /// The same keys in a set that says something else of the device.
    pub(crate) fn with(number: u8, powers: Powers, name: &str) -> Self {
        let root = KeyPair::from_seed(&[number; 32]);
        let device = KeyPair::from_seed(&[number + 100; 32]);
        let id = AgentId(root.public_key().0);
        let [public, private] = [201, 202].map(|which| directory_pair(number, which));
        let x25519 = device_dh_public(&Secret::new([number; 32]));
        let card = DeviceCard::sign(&id, &device, x25519, &public, &private);
        let directory = card.directory;
        let name = Text::new(name).unwrap();
        let set = IdentitySet::begin(&root, card, powers, name).encode();
        Agent {
            id,
            device,
            set,
            directory,
        }
    }

    pub(crate) fn device_key(&self) -> DeviceKey {
        DeviceKey(self.device.public_key().0)
    }

    /// Its membership in `room` with the feeds of member `number`.
    pub(crate) fn membership(&self, room: &RoomId, number: usize) -> Membership {
        let (entries, blobs) = (room_pair(number), blobs_pair(number));
        let set = self.set.clone();
        Membership::sign(room, self.id, set, &self.device, &entries, &blobs)
    }
}

/// All feeds, and the one room's id and key.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) feeds: BTreeMap<FeedKey, Feed>,
    pub(crate) room: RoomId,
    pub(crate) key: ContentKey,
    pub(crate) trees: Trees,
    pub(crate) agents: Vec<Agent>,
    /// The act written last.
    pub(crate) last_act: Option<ActHash>,
    /// How many acts each feed has.
    acts_in: BTreeMap<FeedKey, u64>,
    /// What each readable entry is but its body.
    pub(crate) heads: BTreeMap<Ref, Bytes>,
    random: Random,
}

/// The pair that signs the entries feed of a member.
pub(crate) fn room_pair(agent: usize) -> KeyPair {
    KeyPair::from_seed(&[agent as u8 + 1; 32])
}

/// The pair that signs the blobs feed of a member.
pub(crate) fn blobs_pair(agent: usize) -> KeyPair {
    KeyPair::from_seed(&[!(agent as u8); 32])
}

pub(crate) fn room_feed(agent: usize) -> FeedKey {
    Manifest::single(room_pair(agent).public_key()).key()
}

pub(crate) fn path_feed(agent: usize) -> FeedKey {
    Manifest::single(path_pair(agent).public_key()).key()
}

/// The pair that signs it.
pub(crate) fn path_pair(agent: usize) -> KeyPair {
    KeyPair::from_seed(&[40 + agent as u8; 32])
}

/// A line of an agent's directory about the path feed of that number.
pub(crate) fn line(label: &str, feed: usize, by: &Agent) -> DirectoryLine {
    let scope = ClaimScope::Agent(by.id);
    DirectoryLine {
        label: Text::new(label).unwrap(),
        kind: Text::new("log").unwrap(),
        content: Content::Entries,
        feed: path_feed(feed),
        feed_id: [feed as u8; 16],
        claim: FeedClaim::sign(&path_pair(feed), &scope, &by.id, &by.device_key()),
        continues: None,
    }
}

pub(crate) fn message(text: &str) -> Body {
    Body::Message(Message::new(Text::new(text).unwrap()))
}

pub(crate) fn document(title: &str, text: &str) -> Body {
    Body::Document(Document {
        title: Text::new(title).unwrap(),
        text: Text::new(text).unwrap(),
        mime: Text::new("text/markdown").unwrap(),
        language: Text::new("en").unwrap(),
    })
}

pub(crate) fn profile(name: &str) -> Body {
    Body::Profile(Profile::named(Text::new(name).unwrap()))
}

pub(crate) fn file(name: &str) -> Body {
    Body::File(File {
        name: Text::new(name).unwrap(),
        mime: Text::new("image/png").unwrap(),
        size_bytes: 100_000,
        blake3: [name.len() as u8; 32],
        blobs_feed: FeedKey([7; 32]),
        first_block: 3,
        blocks: 2,
        key: Secret::new([8; 32]),
    })
}

pub(crate) fn act(deed: Deed) -> Body {
    let parents = Parents::default();
    let seq = 0;
    Body::Act(Box::new(Act { parents, seq, deed }))
}

pub(crate) fn admit(member: Membership) -> Body {
    admit_as(member, Role::Admin)
}

pub(crate) fn admit_as(member: Membership, role: Role) -> Body {
    act(Deed::Admit(Admit {
        member,
        role,
        invite: None,
        epochs: Vec::new(),
    }))
}

impl World {
    /// A room of agent 0 with nothing in it but its genesis.
    pub(crate) fn new(seed: u64, agents: u8) -> Self {
        let agents: Vec<Agent> = (1..=agents).map(Agent::new).collect();
        let owner = &agents[0];
        let (genesis, room) = Genesis::sign(
            Text::new("kitchen").unwrap(),
            History::Full,
            [9; 32],
            &EpochSecret::new([42; 32]),
            owner.id,
            owner.set.clone(),
            &owner.device,
            &room_pair(0),
            &blobs_pair(0),
        );
        let mut world = World {
            feeds: BTreeMap::new(),
            room,
            key: EpochSecret::new([42; 32]).content_key(),
            trees: Trees::default(),
            agents,
            last_act: None,
            acts_in: BTreeMap::new(),
            heads: BTreeMap::new(),
            random: Random::new(seed),
        };
        for number in 0..world.agents.len() {
            let (author, device) = (world.agents[number].id, world.agents[number].device_key());
            world.add_feed(room_feed(number), Scope::Room(room));
            world.add_feed(path_feed(number), Scope::Author { author, device });
            world.add_feed(
                world.agents[number].directory,
                Scope::Directory { author, device },
            );
        }
        world.write(
            room_feed(0),
            0,
            1_000,
            Links::default(),
            act(Deed::Genesis(genesis)),
        );
        world
    }

    pub(crate) fn add_feed(&mut self, key: FeedKey, scope: Scope) {
        let context = FeedContext { key, scope };
        self.feeds.insert(
            key,
            Feed {
                context,
                blocks: Vec::new(),
                head: Head::default(),
            },
        );
    }

    pub(crate) fn admit_body(&self, agent: usize) -> Body {
        admit(self.agents[agent].membership(&self.room, agent))
    }

    /// Writes an entry with everything stated by the caller, sealed in rooms, open elsewhere; an
    /// act goes after those of its feed, and one that names none after the last one.
    pub(crate) fn write(
        &mut self,
        feed: FeedKey,
        depth: u64,
        ms: u64,
        links: Links,
        body: Body,
    ) -> Block {
        let mut body = body;
        if let Body::Act(act) = &mut body {
            if act.parents.as_slice().is_empty() {
                act.parents = Parents::new(self.last_act, None);
            }
            let before = self.acts_in.entry(feed).or_default();
            act.seq = *before;
            *before += 1;
        }
        let is_act = matches!(body, Body::Act(_));
        let entry = Entry {
            links,
            depth,
            clock: Clock { ms, counter: 0 },
            body,
        };
        let block = self.write_bytes(feed, &entry.encode().unwrap());
        if is_act {
            let entry = entry.encode().unwrap();
            self.last_act = Some(ActHash::of(&self.room, &feed, block.index, &entry));
        }
        block
    }

    /// Goes on as if the newest act, in `feed`, had not been written: one that nobody accepts is
    /// nothing to go after.
    pub(crate) fn go_on_without(&mut self, feed: FeedKey, last_act: Option<ActHash>) {
        self.last_act = last_act;
        *self.acts_in.get_mut(&feed).unwrap() -= 1;
    }

    /// Writes an encoded entry.
    pub(crate) fn write_bytes(&mut self, feed: FeedKey, entry: &[u8]) -> Block {
        let index = self.feeds[&feed].blocks.len() as u64;
        if let Ok(mut envelope) = Envelope::decode(&entry.to_vec().into()) {
            envelope.body = Bytes::new();
            self.heads
                .insert(Ref { feed, index }, envelope.encode().unwrap());
        }
        let block = match self.feeds[&feed].context.scope {
            Scope::Room(_) => {
                let nonce = self.random.bytes();
                seal_entry(&self.key, &feed, index, &nonce, entry).unwrap()
            }
            _ => [&[OPEN_BLOCK], entry].concat().into(),
        };
        self.write_block(feed, block)
    }

    /// Writes a block of any bytes.
    pub(crate) fn write_block(&mut self, key: FeedKey, bytes: Bytes) -> Block {
        let feed = self.feeds.get_mut(&key).unwrap();
        let index = feed.blocks.len() as u64;
        feed.head = append(&feed.head, std::slice::from_ref(&bytes))
            .unwrap()
            .head;
        self.trees.set(key, index + 1, feed.head.tree_hash());
        feed.blocks.push(bytes.clone());
        Block {
            feed: key,
            index,
            bytes,
        }
    }

    /// Every block, feed by feed.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        self.feeds
            .iter()
            .flat_map(|(key, feed)| {
                feed.blocks.iter().enumerate().map(|(index, bytes)| Block {
                    feed: *key,
                    index: index as u64,
                    bytes: bytes.clone(),
                })
            })
            .collect()
    }

    /// An index that knows every feed and the room's key, and has read nothing.
    pub(crate) fn index(&self) -> Index {
        let mut index = Index::open_in_memory().unwrap();
        self.tell(&mut index);
        index
    }

    /// Tells an index of every feed and the room's key.
    pub(crate) fn tell(&self, index: &mut Index) {
        index.set_tree_hashes(Box::new(self.trees.clone()));
        for feed in self.feeds.values() {
            index.put_feed(feed.context).unwrap();
        }
        index.put_epoch_key(self.room, self.key.clone()).unwrap();
    }

    /// An index that has read everything, feed by feed.
    pub(crate) fn indexed(&self) -> Index {
        let mut index = self.index();
        index.ingest(&self.blocks()).unwrap();
        index
    }
}

impl BlockSource for World {
    fn feeds(&mut self) -> Result<Vec<FeedContext>, SourceError> {
        Ok(self.feeds.values().map(|feed| feed.context).collect())
    }

    fn keys(&mut self) -> Result<Vec<(RoomId, ContentKey)>, SourceError> {
        Ok(vec![(self.room, self.key.clone())])
    }

    fn held(&mut self, feed: &FeedKey) -> Result<Vec<Range<u64>>, SourceError> {
        let held = 0..self.feeds[feed].blocks.len() as u64;
        Ok(Vec::from([held]))
    }

    fn block(&mut self, feed: &FeedKey, index: u64) -> Result<Option<Bytes>, SourceError> {
        Ok(self.feeds[feed].blocks.get(index as usize).cloned())
    }
}

/// The end of entries; of what is no message or edit, or was never written, a lie.
pub(crate) fn tombstone(world: &World, targets: &[Ref]) -> Tombstone {
    let lie = Envelope {
        flags: 0,
        links: Links::default(),
        depth: 3,
        clock: Clock { ms: 7, counter: 0 },
        tag: tag::MESSAGE,
        format: u64::from(BODY_FORMAT),
        body: Bytes::new(),
    };
    let deleted = targets.iter().map(|target| {
        let head = world.heads.get(target).cloned();
        let told = head.and_then(|head| Deleted::new(*target, head).ok());
        told.unwrap_or_else(|| Deleted::new(*target, lie.encode().unwrap()).unwrap())
    });
    Tombstone::new(deleted.collect(), Text::default()).unwrap()
}

/// Something said about an entry that may be a message, may be somebody else's, may be nothing.
fn mark(world: &World, target: Ref, random: &mut Random, step: usize) -> Body {
    let emoji = Text::new(["+1", "\u{1f331}"][random.below(2)]).unwrap();
    match random.below(7) {
        0 => Body::Tombstone(tombstone(world, &[target])),
        6 => act(Deed::Delete(tombstone(world, &[target]))),
        1 | 2 => Body::Edit(Edit {
            target,
            text: Text::new(format!("edited in step {step}")).unwrap(),
            mentions: Mentions::default(),
        }),
        3 => {
            let removes = (0..3).map(|_| Ref {
                feed: target.feed,
                index: random.below(step + 1) as u64 / 3,
            });
            let removes = removes.collect();
            Body::Reaction(Reaction::new(target, Text::default(), removes).unwrap())
        }
        _ => Body::Reaction(Reaction::new(target, emoji, Vec::new()).unwrap()),
    }
}

/// A world in which everybody talks while they know only part of what the others wrote, with
/// strangers, liars and bytes that mean nothing among them.
///
/// Agent 0 owns the room; 1 is admitted by 0, 2 by 1; 3 writes but nobody admits it, and its own
/// admits count for nothing.
pub(crate) fn busy_world(seed: u64, steps: usize) -> World {
    let mut random = Random::new(seed);
    let mut world = World::new(seed, 4);
    let views: Vec<Rc<RefCell<Index>>> = (0..4)
        .map(|_| Rc::new(RefCell::new(world.index())))
        .collect();
    let mut clocks = [HybridClock::default(); 4];
    let mut wall = 10_000u64;
    let genesis = world.blocks();
    for view in &views {
        view.borrow_mut().ingest(&genesis).unwrap();
    }
    for step in 0..steps {
        wall += random.next() % 120_000;
        let who = random.below(4);
        let in_room = (10..17).contains(&step) || random.chance(60);
        let feed = if in_room {
            room_feed(who)
        } else if random.chance(40) {
            world.agents[who].directory
        } else {
            path_feed(who)
        };
        let body = match (step, in_room, random.below(12)) {
            (1, ..) => world.admit_body(1),
            (3, ..) => world.admit_body(2),
            (5, ..) => world.admit_body(3),
            (_, true, 0) => profile(&format!("room name {step}")),
            (_, true, 1) => file(&format!("picture {step}.png")),
            (_, true, 2) => world.admit_body(random.below(3)),
            (_, true, 3..=5) => {
                let target = Ref {
                    feed: room_feed(random.below(4)),
                    index: random.below(step + 1) as u64 / 3,
                };
                mark(&world, target, &mut random, step)
            }
            (_, true, 6) => Body::Message(Message {
                reply: Some(Ref {
                    feed: room_feed(random.below(4)),
                    index: random.below(30) as u64,
                }),
                mentions: Mentions::new([world.agents[random.below(4)].id]).unwrap(),
                ..Message::new(Text::new(format!("answer {step}")).unwrap())
            }),
            (_, true, _) => message(&format!("message {step} about soup {}", random.below(9))),
            (_, false, 0 | 1) => profile(&format!("name {step}")),
            (_, false, 2) => Body::DirectoryRename(DirectoryRename {
                feed: path_feed(random.below(4)),
                label: Text::new(format!("/renamed-{step}")).unwrap(),
            }),
            (_, false, 3) => Body::DirectoryRedirect(DirectoryRedirect {
                from: Text::new(format!("/old-{}", random.below(3))).unwrap(),
                to: Text::new(format!("/new-{step}")).unwrap(),
            }),
            (_, false, 4) => Body::DirectoryHeads(
                DirectoryHeads::new(vec![kinlog_indexer::entry::Head {
                    feed: path_feed(who),
                    length: random.next() % 20,
                    tree_hash: Hash(random.bytes()),
                }])
                .unwrap(),
            ),
            (_, false, 5..=7) => {
                let listed = random.below(4);
                let mut line = line(&format!("/path-{step}"), listed, &world.agents[who]);
                // Some list what is not theirs.
                if random.chance(80) {
                    line = self::line(&line.label, who, &world.agents[who]);
                }
                Body::DirectoryLine(line)
            }
            (_, false, 8) => Body::DirectoryRetire(DirectoryRetire {
                feed: path_feed(random.below(4)),
            }),
            (_, false, _) => document(&format!("lesson {step}"), "how to cook a soup"),
        };
        // 1 and 3 are admitted by the owner in its room feed, 5 by the stranger in its own.
        let (who, feed) = match step {
            1 => (0, room_feed(0)),
            3 => (1, room_feed(1)),
            5 => (3, room_feed(3)),
            _ => (who, feed),
        };
        if step < 6 {
            // Whoever admits knows that it may.
            views[who].borrow_mut().ingest(&world.blocks()).unwrap();
        }
        let scope = match world.feeds[&feed].context.scope {
            Scope::Room(room) => LinkScope::Room(room),
            other => LinkScope::Author(other.author().unwrap()),
        };
        let trees = world.trees.clone();
        let frontier = views[who].borrow().frontier(scope, &feed).unwrap();
        let mut body = body;
        if let Body::Act(act) = &mut body {
            let heads = views[who].borrow().act_heads(&world.room, &feed).unwrap();
            act.parents = heads.parents();
            act.seq = heads.seq;
        }
        let (links, mut depth) = frontier.next(&feed, |feed, length| trees.tree_hash(feed, length));
        let clock = match random.below(10) {
            0 => Clock {
                ms: wall + 3_600_000,
                counter: 5,
            },
            _ => clocks[who].tick(wall),
        };
        // Some lie about how deep they stand.
        match random.below(12) {
            0 => depth = depth.saturating_sub(2),
            1 => depth += 3,
            _ => {}
        }
        let entry = Entry {
            links,
            depth,
            clock,
            body,
        };
        // Some of every kind of damage, in rooms too, and none where members are made.
        let damage = match step {
            0..10 => 23,
            10..17 => step - 10,
            _ => random.below(24),
        };
        let block = match damage {
            0 => world.write_block(feed, vec![0x77, step as u8].into()),
            1 => world.write_bytes(feed, &[9, 9, 9]),
            2 => world.write_bytes(feed, &[0, 1]),
            3 => {
                let mut envelope = Envelope::decode(&entry.encode().unwrap()).unwrap();
                envelope.tag = 9_999;
                world.write_bytes(feed, &envelope.encode().unwrap())
            }
            4 => {
                let mut envelope = Envelope::decode(&entry.encode().unwrap()).unwrap();
                envelope.body = Bytes::from_static(&[0xff; 5]);
                world.write_bytes(feed, &envelope.encode().unwrap())
            }
            5 => {
                let other = EpochSecret::new([1; 32]).content_key();
                let index = world.feeds[&feed].blocks.len() as u64;
                let entry = entry.encode().unwrap();
                let sealed = seal_entry(&other, &feed, index, &random.bytes(), &entry).unwrap();
                world.write_block(feed, sealed)
            }
            6 => {
                let mut sealed = vec![1u8; 80];
                sealed[1..17].copy_from_slice(&world.key.epoch_id().0);
                world.write_block(feed, sealed.into())
            }
            _ => world.write_bytes(feed, &entry.encode().unwrap()),
        };
        views[who].borrow_mut().ingest(&[block]).unwrap();
        // Now and then one hears everything that another feed has so far.
        if random.chance(50) {
            let listener = random.below(4);
            let all = world.blocks();
            let keys: Vec<FeedKey> = world.feeds.keys().copied().collect();
            let heard = keys[random.below(keys.len())];
            let news: Vec<Block> = all
                .into_iter()
                .filter(|block| block.feed == heard)
                .collect();
            views[listener].borrow_mut().ingest(&news).unwrap();
        }
    }
    world
}
