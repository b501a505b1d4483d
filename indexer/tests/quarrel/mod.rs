//! A room in which everything happens that the rules are there for, from one seed: members talk,
//! admit, promote, demote and remove each other knowing part of what the others did; devices join,
//! are stolen and revoked; invites run out; epochs begin side by side; clocks stand at 0 and 50 years
//! ahead; somebody signs two branches of one feed.

pub(crate) mod fold;
pub(crate) mod people;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kinlog_feeds::crypto::{FeedKey, Hash, KeyPair, PublicKey};
use kinlog_feeds::tree::{Head, append};
use kinlog_indexer::authority::{ActHeads, ActPlace, HeldAct, RoomActs};
use kinlog_indexer::entry::{
    Act, ActHash, Admit, Body, Cut, Deed, Deleted, DeviceJoin, DeviceRevoke, Edit, Entry, Envelope,
    Epoch, EpochCopy, EpochKeys, Genesis, Grant, GrantRevoke, History, Invite, InviteRevoke,
    InviteUse, Leave, Link, LinkScope, Links, Mentions, Message, Parents, Profile, Reaction, Ref,
    Remove, Role, RoleChange, Tombstone,
};
use kinlog_indexer::index::{Block, BlockSource, FeedContext, Scope, SourceError, TreeHashes};
use kinlog_indexer::seal::{ContentKey, EpochSecret, seal_entry};
use kinlog_indexer::{Clock, RoomId, Text};
use people::{PEOPLE, SETS, Writer, agent, device, sets};
use testkit::random::Random;

/// Milliseconds of 50 years.
const FIFTY_YEARS: u64 = 50 * 365 * 24 * 3_600_000;

/// What is done in a room after it was set up.
const STEPS: usize = 20;

/// Epochs: the first and those that may be announced.
const EPOCHS: u8 = 4;

/// One history of a feed.
#[derive(Clone, Debug, Default)]
struct Branch {
    blocks: Vec<Bytes>,
    head: Head,
    /// Stated depths.
    depths: Vec<u64>,
    /// Entries but their bodies.
    heads: Vec<Bytes>,
    acts: Vec<Option<HeldAct>>,
}

/// What one writer has seen of each feed, and what it makes of the acts among that.
#[derive(Debug, Default)]
struct View {
    seen: BTreeMap<FeedKey, (usize, usize)>,
    acts: RoomActs,
}

/// The room, with every branch of every feed.
#[derive(Debug)]
pub(crate) struct Quarrel {
    pub(crate) room: RoomId,
    feeds: BTreeMap<FeedKey, Vec<Branch>>,
    hashes: Arc<HashMap<(FeedKey, usize, u64), Hash>>,
    /// The feed with two branches, and the first block on which they differ.
    pub(crate) fork: Option<(FeedKey, u64)>,
    /// An act that voids deletions: with it come those that do not count.
    pub(crate) undoes: Option<Ref>,
}

/// The keys of the epochs of every such room: content key and act key of each.
pub(crate) fn keys() -> Vec<ContentKey> {
    let both = |number| [secret(number).content_key(), secret(number).act_key()];
    (0..EPOCHS).flat_map(both).collect()
}

pub(crate) fn secret(number: u8) -> EpochSecret {
    EpochSecret::new([60 + number; 32])
}

pub(crate) fn invite_pair(number: u8) -> KeyPair {
    KeyPair::from_seed(&[90 + number; 32])
}

pub(crate) fn genesis() -> (Genesis, RoomId) {
    let owner = first_of(0);
    Genesis::sign(
        Text::new("kitchen").unwrap(),
        History::Full,
        [9; 32],
        &secret(0),
        agent(0),
        sets(0)[0].clone(),
        &people::device_pair(0, 0),
        &owner.entries(),
        &owner.blobs(),
    )
}

fn act(deed: Deed) -> Body {
    Body::Act(Box::new(Act {
        parents: Parents::default(),
        seq: 0,
        deed,
    }))
}

fn first_of(person: u8) -> Writer {
    let (device, time) = (0, 0);
    Writer {
        person,
        device,
        time,
    }
}

struct Making {
    room: RoomId,
    feeds: BTreeMap<FeedKey, Vec<Branch>>,
    hashes: HashMap<(FeedKey, usize, u64), Hash>,
    views: BTreeMap<(Writer, usize), View>,
    /// Every act of every branch.
    all: RoomActs,
    writers: BTreeSet<(Writer, usize)>,
    fork: Option<(FeedKey, u64)>,
    undoes: Option<Ref>,
    /// What the next act names, whatever its author has seen.
    parents: Option<ActHeads>,
    random: Random,
}

impl Quarrel {
    pub(crate) fn new(seed: u64) -> Quarrel {
        let (genesis, room) = genesis();
        let mut making = Making {
            room,
            feeds: BTreeMap::new(),
            hashes: HashMap::new(),
            views: BTreeMap::new(),
            all: RoomActs::default(),
            writers: BTreeSet::new(),
            fork: None,
            undoes: None,
            parents: None,
            random: Random::new(seed),
        };
        let owner = (first_of(0), 0);
        making.writers.insert(owner);
        making.write(owner, act(Deed::Genesis(genesis)));
        for person in 1..PEOPLE {
            let role = Role::ALL[making.random.index(4)].max(Role::ALL[making.random.index(4)]);
            let writer = first_of(person);
            if person < PEOPLE - 1 || making.chance(40) {
                let body = making.admit(writer, role, 0);
                making.write(owner, body);
            }
            making.writers.insert((writer, 0));
        }
        for (writer, _) in making.writers.clone() {
            making.hear((writer, 0), owner);
        }
        let scene_at = making.random.index(STEPS / 4);
        for number in 0..STEPS {
            if number == scene_at {
                making.scene();
            }
            making.step(number);
        }
        Quarrel {
            room,
            feeds: making.feeds,
            hashes: Arc::new(making.hashes),
            fork: making.fork,
            undoes: making.undoes,
        }
    }

    /// What somebody holds who has that branch of the forked feed, feed by feed.
    pub(crate) fn blocks(&self, branch: usize) -> Vec<Block> {
        let feeds = self.feeds.iter().flat_map(|(feed, branches)| {
            let blocks = &branches[branch.min(branches.len() - 1)].blocks;
            let block = |(index, bytes): (usize, &Bytes)| Block {
                feed: *feed,
                index: index as u64,
                bytes: bytes.clone(),
            };
            blocks.iter().enumerate().map(block).collect::<Vec<_>>()
        });
        feeds.collect()
    }

    pub(crate) fn contexts(&self) -> impl Iterator<Item = FeedContext> {
        let scope = Scope::Room(self.room);
        self.feeds
            .keys()
            .map(move |key| FeedContext { key: *key, scope })
    }

    /// The trees of somebody with that branch, who has nothing yet.
    pub(crate) fn trees(&self, branch: usize) -> Trees {
        Trees {
            hashes: self.hashes.clone(),
            fork: self.fork,
            branch,
            lengths: Arc::default(),
        }
    }

    /// Everything with that branch, to be read again.
    pub(crate) fn source(&self, branch: usize) -> Source {
        let mut feeds: BTreeMap<FeedKey, Vec<Bytes>> = BTreeMap::new();
        for block in self.blocks(branch) {
            feeds.entry(block.feed).or_default().push(block.bytes);
        }
        Source {
            room: self.room,
            feeds,
        }
    }
}

/// The tree hashes of a replica, of what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Trees {
    hashes: Arc<HashMap<(FeedKey, usize, u64), Hash>>,
    fork: Option<(FeedKey, u64)>,
    branch: usize,
    lengths: Arc<Mutex<BTreeMap<FeedKey, u64>>>,
}

impl Trees {
    /// Takes the tree that a block came with.
    pub(crate) fn hear(&self, block: &Block) {
        let mut lengths = self.lengths.lock().unwrap();
        let length = lengths.entry(block.feed).or_default();
        *length = (*length).max(block.index + 1);
    }
}

impl TreeHashes for Trees {
    fn tree_hash(&self, feed: &FeedKey, length: u64) -> Option<Hash> {
        let held = self.lengths.lock().unwrap().get(feed).copied();
        held.filter(|held| *held >= length)?;
        let forked = self.fork.is_some_and(|(forked, _)| forked == *feed);
        let branch = if forked { self.branch } else { 0 };
        self.hashes.get(&(*feed, branch, length)).copied()
    }

    fn contested_from(&self, feed: &FeedKey) -> Option<u64> {
        self.fork
            .filter(|(forked, _)| forked == feed)
            .map(|(_, at)| at)
    }
}

/// What a rebuild reads.
#[derive(Debug)]
pub(crate) struct Source {
    room: RoomId,
    feeds: BTreeMap<FeedKey, Vec<Bytes>>,
}

impl Source {
    /// A source that holds nothing.
    pub(crate) fn nothing() -> Source {
        Source {
            room: RoomId([0; 32]),
            feeds: BTreeMap::new(),
        }
    }
}

impl BlockSource for Source {
    fn feeds(&mut self) -> Result<Vec<FeedContext>, SourceError> {
        let scope = Scope::Room(self.room);
        let feeds = self.feeds.keys();
        Ok(feeds.map(|key| FeedContext { key: *key, scope }).collect())
    }

    fn keys(&mut self) -> Result<Vec<(RoomId, ContentKey)>, SourceError> {
        let all = if self.feeds.is_empty() {
            Vec::new()
        } else {
            keys()
        };
        Ok(all.into_iter().map(|key| (self.room, key)).collect())
    }

    fn held(&mut self, feed: &FeedKey) -> Result<Vec<Range<u64>>, SourceError> {
        let held = 0..self.feeds[feed].len() as u64;
        Ok(Vec::from([held]))
    }

    fn block(&mut self, feed: &FeedKey, index: u64) -> Result<Option<Bytes>, SourceError> {
        Ok(self.feeds[feed].get(index as usize).cloned())
    }
}

impl Making {
    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn person(&mut self) -> u8 {
        self.random.below(u64::from(PEOPLE)) as u8
    }

    fn role(&mut self) -> Role {
        Role::ALL[self.random.index(4)]
    }

    /// What chance would bring about too seldom.
    fn scene(&mut self) {
        let [owner, first, second] = [0, 1, 2].map(|person| (first_of(person), 0));
        let role = |person, role| {
            let agent = agent(person);
            act(Deed::Role(RoleChange { agent, role }))
        };
        self.everybody_hears();
        match self.random.below(9) {
            // Two let somebody in by the one use of an invite, not knowing of each other.
            0 => {
                self.write(owner, role(1, Role::Admin));
                let public_key = invite_pair(7).public_key();
                let invite = Invite {
                    public_key,
                    role: Role::Member,
                    expires_at_ms: None,
                    uses: Some(1),
                };
                self.write(owner, act(Deed::Invite(invite)));
                self.everybody_hears();
                for (by, person) in [(owner, 2), (first, 3)] {
                    let (device, time) = (1, 1);
                    let new = Writer {
                        person,
                        device,
                        time,
                    };
                    let body = self.admit_by(new, 7, 1);
                    self.write(by, body);
                }
            }
            // A stolen device does what it likes until its sibling, at the same time, revokes it.
            1 => {
                let (person, device, time) = (1, 1, 0);
                let stolen = Writer {
                    person,
                    device,
                    time,
                };
                self.write(owner, role(1, Role::Admin));
                self.everybody_hears();
                let join = self.join(stolen, 1);
                self.write(first, join);
                self.everybody_hears();
                let seen = self.cuts(first, 1);
                let cuts = seen.into_iter().filter(|cut| cut.feed == stolen.feed());
                self.write((stolen, 0), role(2, Role::Guest));
                let revoke = DeviceRevoke {
                    agent: agent(1),
                    device: people::device(1, 1),
                    identity_set: sets(1)[4].clone(),
                    cuts: cuts.collect(),
                };
                self.write(first, act(Deed::DeviceRevoke(revoke)));
            }
            // Two devices of one member give the same grant, in two ways: nothing but the tie decides.
            2 => {
                let (person, device, time) = (1, 1, 0);
                let second = Writer {
                    person,
                    device,
                    time,
                };
                self.write(owner, role(1, Role::Admin));
                self.everybody_hears();
                let join = self.join(second, 1);
                self.write(first, join);
                self.everybody_hears();
                for (by, expires_at_ms) in [(first, 9_000), ((second, 0), 9_001)] {
                    let grant = Grant {
                        seeder: agent(3),
                        expires_at_ms,
                        quota_class: 1,
                        hash: Hash([77; 32]),
                    };
                    self.write(by, act(Deed::Grant(grant)));
                }
            }
            // The last two owners leave at the same time.
            3 => {
                self.write(owner, role(1, Role::Owner));
                self.everybody_hears();
                for who in [owner, first] {
                    let cuts = self.cuts(who, who.0.person);
                    self.write(who, act(Deed::Leave(Leave { cuts })));
                }
            }
            // An admin deletes, and then again while somebody makes it none.
            4 | 8 => {
                self.write(owner, role(1, Role::Admin));
                self.write(owner, role(2, Role::Member));
                self.everybody_hears();
                let Ref { feed, index } = self.next_of(second);
                let [tea, edit, milk] = [0, 1, 2].map(|more| Ref {
                    feed,
                    index: index + more,
                });
                let said = |text| Body::Message(Message::new(Text::new(text).unwrap()));
                self.write(second, said("tea"));
                let change = Edit {
                    target: tea,
                    text: Text::new("green tea").unwrap(),
                    mentions: Mentions::default(),
                };
                self.write(second, Body::Edit(change));
                self.write(second, said("milk"));
                self.everybody_hears();
                let end = self.tombstone(milk);
                self.write(first, act(Deed::Delete(end)));
                self.everybody_hears();
                for target in [tea, edit] {
                    let end = self.tombstone(target);
                    self.write(first, act(Deed::Delete(end)));
                }
                self.undoes = Some(self.next_of(owner));
                self.write(owner, role(1, Role::Member));
                if self.chance(50) {
                    let end = self.tombstone(edit);
                    self.write(second, Body::Tombstone(end));
                }
            }
            // Some come by an invite that has expired, as their dates have it.
            5 => {
                let invite = Invite {
                    public_key: invite_pair(9).public_key(),
                    role: Role::Member,
                    expires_at_ms: Some(5_000),
                    uses: None,
                };
                self.write(owner, act(Deed::Invite(invite)));
                for person in [1, 2, 3] {
                    let (device, time) = (1, 1);
                    let new = Writer {
                        person,
                        device,
                        time,
                    };
                    let body = self.admit_by(new, 9, 1);
                    self.write(owner, body);
                }
            }
            // A member says two things, the second as if it had not said the first.
            6 => {
                self.write(owner, role(1, Role::Owner));
                self.write(owner, role(2, Role::Member));
                self.everybody_hears();
                let heads = self
                    .views
                    .entry(first)
                    .or_default()
                    .acts
                    .heads(&first.0.feed());
                self.write(first, role(2, Role::Admin));
                self.parents = Some(heads);
                self.write(first, role(2, Role::Guest));
            }
            // Two branches of one feed, and somebody says which is the feed.
            _ => {
                self.write(
                    first,
                    Body::Message(Message::new(Text::new("tea").unwrap())),
                );
                self.write(
                    first,
                    Body::Message(Message::new(Text::new("milk").unwrap())),
                );
                self.copy(first);
                let branches = if self.writers.contains(&(first.0, 1)) {
                    2
                } else {
                    1
                };
                for branch in 0..branches {
                    let text = format!("branch {branch}");
                    let said = Body::Message(Message::new(Text::new(text).unwrap()));
                    self.write((first.0, branch), said);
                }
                self.everybody_hears();
                let remove = Remove {
                    agent: agent(1),
                    cuts: self.cuts(owner, 1),
                    reason: Text::new("two of you").unwrap(),
                };
                self.write(owner, act(Deed::Remove(remove)));
            }
        }
    }

    fn everybody_hears(&mut self) {
        for who in self.writers.clone() {
            for heard in self.writers.clone() {
                self.hear(who, heard);
            }
        }
    }

    fn writer(&mut self, person: u8) -> Writer {
        let device = self.random.below(3) as u8;
        let time = self.random.below(2) as u8;
        Writer {
            person,
            device,
            time,
        }
    }

    fn step(&mut self, number: usize) {
        let who = self.somebody();
        if self.fork.is_none() && number > 4 && self.chance(12) {
            self.copy(who);
        }
        for _ in 0..2 {
            if self.chance(60) {
                let heard = self.random.index(self.writers.len());
                let heard = *self.writers.iter().nth(heard).unwrap();
                self.hear(who, heard);
            }
        }
        let before = self.writers.clone();
        let body = match self.random.below(100) {
            0..48 => self.said(number, who),
            _ => self.deed(who),
        };
        self.write(who, body);
        // Whoever comes in has heard of whoever let it in, and what that one had.
        let come: Vec<_> = self.writers.difference(&before).copied().collect();
        for new in come {
            let seen = self.views[&who].seen.clone();
            for (feed, (branch, length)) in seen {
                let view = self.views.entry(new).or_default();
                view.take(feed, branch, length, &self.feeds[&feed][branch]);
            }
        }
    }

    /// Somebody who writes, nearly always one that is in the room as the newest acts have it.
    fn somebody(&mut self) -> (Writer, usize) {
        let live = self.all.authority().feeds;
        let mut who = (first_of(0), 0);
        for _ in 0..6 {
            let at = self.random.index(self.writers.len());
            who = *self.writers.iter().nth(at).unwrap();
            if live.get(&who.0.feed()).is_some_and(|feed| feed.is_live()) {
                break;
            }
        }
        who
    }

    /// A device is copied by file: the copy goes on from where it stands, or from a block before.
    fn copy(&mut self, (writer, branch): (Writer, usize)) {
        let feed = writer.feed();
        let Some(length) = self.feeds.get(&feed).map(|held| held[0].blocks.len()) else {
            return;
        };
        if branch > 0 || length < 2 || self.fork.is_some() {
            return;
        }
        let at = length - self.random.index(2);
        let old = self.feeds[&feed][0].clone();
        let mut copy = Branch::default();
        for index in 0..at {
            copy.head = append(&copy.head, &old.blocks[index..=index]).unwrap().head;
            let length = index as u64 + 1;
            self.hashes.insert((feed, 1, length), copy.head.tree_hash());
        }
        copy.blocks = old.blocks[..at].to_vec();
        copy.depths = old.depths[..at].to_vec();
        copy.acts = old.acts[..at].to_vec();
        self.feeds.get_mut(&feed).unwrap().push(copy);
        let seen = self.views[&(writer, 0)].seen.clone();
        let mut view = View::default();
        for (other, (branch, length)) in seen {
            let (branch, length) = if other == feed {
                (1, at)
            } else {
                (branch, length)
            };
            view.take(other, branch, length, &self.feeds[&other][branch]);
        }
        self.views.insert((writer, 1), view);
        self.writers.insert((writer, 1));
        self.fork = Some((feed, at as u64));
    }

    fn hear(&mut self, who: (Writer, usize), (heard, branch): (Writer, usize)) {
        let feed = heard.feed();
        let Some(held) = self.feeds.get(&feed) else {
            return;
        };
        let view = self.views.entry(who).or_default();
        let length = held[branch].blocks.len();
        view.take(feed, branch, length, &held[branch]);
    }

    /// Somebody's own entry, or an act of an agent's own, in the words of an entry.
    fn write(&mut self, who: (Writer, usize), body: Body) {
        let (writer, branch) = who;
        let feed = writer.feed();
        self.feeds
            .entry(feed)
            .or_insert_with(|| vec![Branch::default()]);
        let mut body = body;
        let mut key = secret(0).content_key();
        if let Body::Act(act) = &mut body {
            let heads = self.views.entry(who).or_default().acts.heads(&feed);
            let heads = self
                .parents
                .take()
                .map_or((heads, false), |then| (then, true));
            let (heads, is_then) = heads;
            act.seq = heads.seq;
            act.parents = match (is_then, self.random.below(12)) {
                (true, _) => heads.parents(),
                // As if nothing had happened since.
                (false, 0) => Parents::new(heads.own, None),
                (false, _) => heads.parents(),
            };
            // Whoever uses or ends an invite names the act that made it, as far as it is known.
            let known = self.views.entry(who).or_default().acts.authority();
            let invites = known.invites;
            let made = |key: &PublicKey| {
                let mut invites = invites.iter();
                let made = invites.find(|(_, invite)| invite.public_key == *key);
                made.map_or_else(ActHash::default, |(act, _)| *act)
            };
            match &mut act.deed {
                Deed::Admit(Admit {
                    invite: Some(used), ..
                }) => used.act = made(&used.public_key),
                // Most end one that they know of; some name an act that made none.
                Deed::InviteRevoke(revoke) => {
                    if let (Some(invite), 1..) = (invites.values().next(), self.random.below(4)) {
                        revoke.public_key = invite.public_key;
                    }
                    revoke.act = made(&revoke.public_key);
                }
                Deed::GrantRevoke(revoke) => {
                    let grants = known.grants.into_values();
                    let mut hashes = grants.map(|row| row.grant.hash);
                    revoke.hash = hashes.next().unwrap_or(revoke.hash);
                }
                _ => {}
            }
            key = secret(0).act_key();
        }
        let number = self.random.below(u64::from(EPOCHS)) as u8;
        match &body {
            Body::Act(_) if self.chance(8) => key = secret(number).act_key(),
            Body::Act(_) if self.chance(2) => key = secret(number).content_key(),
            Body::Act(_) => {}
            _ if self.chance(30) => key = secret(number).content_key(),
            _ => {}
        }
        let (links, mut depth) = self.links(who);
        match self.random.below(14) {
            0 => depth = depth.saturating_sub(2),
            1 => depth += 3,
            _ => {}
        }
        let step = self.hashes.len() as u64;
        let ms = [0, FIFTY_YEARS + step, 4_000 + step, 6_000 + step][self.random.index(4)];
        let clock = Clock { ms, counter: 0 };
        let entry = Entry {
            links,
            depth,
            clock,
            body,
        };
        let plain = entry.encode().unwrap();
        let held = self.feeds.get_mut(&feed).unwrap();
        let held = &mut held[branch];
        let index = held.blocks.len() as u64;
        let nonce = self.random.bytes(24).try_into().unwrap();
        let block = seal_entry(&key, &feed, index, &nonce, &plain).unwrap();
        held.head = append(&held.head, std::slice::from_ref(&block))
            .unwrap()
            .head;
        held.blocks.push(block);
        held.depths.push(depth);
        held.heads.push(head_of(&plain));
        let place = ActPlace {
            feed,
            index,
            dated_ms: ms,
            sealed_by: Some(key.epoch_id()),
        };
        let held_act = match &entry.body {
            Body::Act(act) => Some(HeldAct::verify(&self.room, place, &plain, act)),
            _ => None,
        };
        held_act.iter().for_each(|act| {
            self.all.add(act.clone());
        });
        held.acts.push(held_act);
        let hash = held.head.tree_hash();
        self.hashes.insert((feed, branch, index + 1), hash);
        self.hear(who, who);
    }

    /// Links to some of what the writer saw last, and the depth that follows.
    fn links(&mut self, (writer, _): (Writer, usize)) -> (Links, u64) {
        let (mut links, mut below) = (Vec::new(), None);
        let scope = LinkScope::Room(self.room);
        let seen: Vec<_> = self
            .views
            .iter()
            .filter(|((other, _), _)| *other == writer)
            .flat_map(|(_, view)| view.seen.clone())
            .collect();
        for (feed, (branch, length)) in seen {
            let Some(last) = length.checked_sub(1) else {
                continue;
            };
            let is_own = feed == writer.feed();
            if !is_own && !self.chance(50) {
                continue;
            }
            below = below.max(Some(self.feeds[&feed][branch].depths[last]));
            if !is_own && links.len() < 4 {
                let hash = self.hashes[&(feed, branch, length as u64)];
                links.push(Link::new(&scope, &feed, last as u64, &hash));
            }
        }
        let depth = below.map_or(0, |below| below + 1);
        (Links::new(links, false).unwrap(), depth)
    }

    /// The end of an entry; of what is no message or edit, or is not there, a lie.
    fn tombstone(&self, target: Ref) -> Tombstone {
        let held = self.feeds.get(&target.feed).map(|branches| &branches[0]);
        let head = held.and_then(|held| held.heads.get(target.index as usize));
        let told = head.and_then(|head| Deleted::new(target, head.clone()).ok());
        let told = told.unwrap_or_else(|| {
            let lie = Entry {
                links: Links::default(),
                depth: 3,
                clock: Clock { ms: 7, counter: 0 },
                body: Body::Message(Message::new(Text::default())),
            };
            Deleted::new(target, head_of(&lie.encode().unwrap())).unwrap()
        });
        Tombstone::new(vec![told], Text::default()).unwrap()
    }

    /// Where somebody's next entry stands.
    fn next_of(&self, (writer, branch): (Writer, usize)) -> Ref {
        let feed = writer.feed();
        let held = self.feeds.get(&feed).and_then(|held| held.get(branch));
        let index = held.map_or(0, |held| held.blocks.len()) as u64;
        Ref { feed, index }
    }

    fn target(&mut self) -> Ref {
        let at = self.random.index(self.feeds.len());
        let (feed, branches) = self.feeds.iter().nth(at).unwrap();
        let (feed, length) = (*feed, branches[0].blocks.len());
        let index = self.random.index(length + 1) as u64;
        Ref { feed, index }
    }

    fn said(&mut self, number: usize, (writer, _): (Writer, usize)) -> Body {
        let target = self.target();
        match self.random.below(12) {
            0 if self.chance(30) => act(Deed::Delete(self.tombstone(target))),
            0 => Body::Tombstone(self.tombstone(target)),
            1 | 2 => Body::Edit(Edit {
                target,
                text: Text::new(format!("edited in step {number}")).unwrap(),
                mentions: Mentions::default(),
            }),
            3 => {
                let removes = vec![self.target(), self.target()];
                Body::Reaction(Reaction::new(target, Text::default(), removes).unwrap())
            }
            4 => {
                let emoji = Text::new("+1").unwrap();
                Body::Reaction(Reaction::new(target, emoji, Vec::new()).unwrap())
            }
            5 => {
                let name = format!("{} in step {number}", writer.person);
                Body::Profile(Profile::named(Text::new(name).unwrap()))
            }
            6 => {
                let (old, act) = (secret(0), secret(1).act_key());
                let keys = EpochKeys::new(vec![*old.expose()], vec![*act.expose()]);
                Body::EpochKeys(keys.unwrap())
            }
            _ => {
                let text = Text::new(format!("soup, step {number}")).unwrap();
                let mentions = Mentions::new([agent(self.person())]).unwrap();
                Body::Message(Message {
                    mentions,
                    reply: Some(target),
                    ..Message::new(text)
                })
            }
        }
    }

    /// What of a person's feeds somebody accepts: what it has seen, or what comes to mind.
    fn cuts(&mut self, who: (Writer, usize), person: u8) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let seen = self.views.entry(who).or_default().seen.clone();
        for (feed, (branch, length)) in seen {
            let theirs = (0..6).any(|at| {
                let (device, time) = (at % 3, at / 3);
                Writer {
                    person,
                    device,
                    time,
                }
                .feed()
                    == feed
            });
            if !theirs || self.chance(15) {
                continue;
            }
            let less = self.random.index(3);
            let length = length.saturating_sub(less) as u64;
            let mut tree_hash = Hash::default();
            if let Some(hash) = self.hashes.get(&(feed, branch, length)) {
                tree_hash = *hash;
            }
            if self.chance(10) {
                tree_hash = Hash([7; 32]);
            }
            cuts.push(Cut {
                feed,
                length,
                tree_hash,
            });
        }
        cuts
    }

    fn joins(&mut self, writer: Writer) {
        self.writers.insert((writer, 0));
    }

    fn admit(&mut self, writer: Writer, role: Role, set: usize) -> Body {
        self.joins(writer);
        let admit = Admit {
            member: writer.membership(&self.room, set),
            role,
            invite: None,
            epochs: vec![secret(0).epoch_id()],
        };
        act(Deed::Admit(admit))
    }

    fn admit_by(&mut self, writer: Writer, invite: u8, set: usize) -> Body {
        self.joins(writer);
        let member = writer.membership(&self.room, set);
        let invite = InviteUse::sign(&invite_pair(invite), &self.room, &member);
        act(Deed::Admit(Admit {
            member,
            role: Role::Member,
            invite: Some(invite),
            epochs: Vec::new(),
        }))
    }

    fn join(&mut self, writer: Writer, set: usize) -> Body {
        self.joins(writer);
        act(Deed::DeviceJoin(DeviceJoin {
            device: writer.membership(&self.room, set),
            epochs: Vec::new(),
        }))
    }

    fn deed(&mut self, who: (Writer, usize)) -> Body {
        let person = self.person();
        let role = self.role();
        let number = self.random.below(2) as u8;
        let agent_of = agent(person);
        let deed = match self.random.below(24) {
            0..3 => Deed::Role(RoleChange {
                agent: agent_of,
                role,
            }),
            3..7 => Deed::Remove(Remove {
                agent: agent_of,
                cuts: self.cuts(who, person),
                reason: Text::new("enough").unwrap(),
            }),
            7 => Deed::Leave(Leave {
                cuts: self.cuts(who, who.0.person),
            }),
            8 => {
                let writer = self.writer(person);
                let set = self.set_of(writer.device);
                return self.admit(writer, role, set);
            }
            9..11 => Deed::Invite(Invite {
                public_key: invite_pair(number).public_key(),
                role: Role::Member,
                expires_at_ms: [None, Some(5_000)][self.random.index(2)],
                uses: [None, Some(1)][self.random.index(2)],
            }),
            11..14 => {
                let writer = self.writer(person);
                let set = self.set_of(writer.device);
                return self.admit_by(writer, number, set);
            }
            14 => Deed::InviteRevoke(InviteRevoke {
                public_key: invite_pair(number).public_key(),
                act: ActHash::default(),
            }),
            15..17 => {
                let writer = Writer {
                    device: 1 + self.random.below(2) as u8,
                    ..self.writer(who.0.person)
                };
                let set = self.set_of(writer.device);
                return self.join(writer, set);
            }
            17..20 => {
                let person = if self.chance(60) {
                    who.0.person
                } else {
                    person
                };
                let (gone, set) = [(1, 2), (1, 4), (0, 5), (1, 6), (0, 6)][self.random.index(5)];
                Deed::DeviceRevoke(DeviceRevoke {
                    agent: agent(person),
                    device: device(person, gone),
                    identity_set: sets(person)[set].clone(),
                    cuts: self.cuts(who, person),
                })
            }
            20..22 => {
                let number = 1 + self.random.below(u64::from(EPOCHS) - 1) as u8;
                let copy = EpochCopy {
                    device: device(person, 0),
                    sealed: [number; 81],
                };
                Deed::Epoch(Epoch {
                    id: secret(number).epoch_id(),
                    act_id: secret(number).act_key().epoch_id(),
                    commitment: secret(number).commitment(),
                    parents: vec![secret(0).epoch_id()],
                    copies: vec![copy],
                })
            }
            22 => Deed::Grant(Grant {
                seeder: agent_of,
                expires_at_ms: 9_000,
                quota_class: 1,
                hash: Hash([number; 32]),
            }),
            _ => Deed::GrantRevoke(GrantRevoke {
                hash: Hash([number; 32]),
            }),
        };
        act(deed)
    }

    /// A set with which a device may come in.
    fn set_of(&mut self, device: u8) -> usize {
        let sets: &[usize] = match device {
            0 => &[0, 1, 2, 3, 4, 6],
            1 => &[1, 3, 5],
            _ => &[3],
        };
        let set = sets[self.random.index(sets.len())];
        assert!(set < SETS);
        set
    }
}

impl View {
    fn take(&mut self, feed: FeedKey, branch: usize, length: usize, held: &Branch) {
        let seen = self.seen.entry(feed).or_insert((branch, 0));
        // Who has seen one branch takes no block of the other.
        if seen.0 != branch {
            return;
        }
        for act in held.acts[seen.1.min(length)..length].iter().flatten() {
            self.acts.add(act.clone());
        }
        seen.1 = seen.1.max(length);
    }
}

/// An entry but its body.
pub(crate) fn head_of(entry: &Bytes) -> Bytes {
    let mut envelope = Envelope::decode(entry).unwrap();
    envelope.body = Bytes::new();
    envelope.encode().unwrap()
}
