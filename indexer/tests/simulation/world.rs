//! The run of one seed: a queue of what happens when, and what has to be true after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::limits::READ_BYTES_PER_PEER_MAX;
use kinlog_feeds::replicate::{HeadState, Interest, PeerId};
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::wire::kinlog::FeedMessage;
use kinlog_feeds::{FeedKey, Time};
use kinlog_indexer::clock::HybridClock;
use testkit::random::Random;
use testkit::work::Work;

use crate::hostile;
use crate::mistakes::Injected;
use crate::network::{Lane, Network, SILENCE_MAX};
use crate::node::{Held, Node};
use crate::plan::{Plan, Trick};
use crate::rooms;
use crate::truth::{Truth, pair_of};

/// Time in which everything has to be where it belongs once nothing goes wrong any more.
const HEALS_WITHIN: Duration = Duration::from_secs(60);

/// How long a lie keeps a peer away: longer than a run.
pub(crate) const BAN: Duration = Duration::from_secs(600);

/// Bytes that a link may hold: what is above its high water was being read when it filled.
pub(crate) const LINK_BYTES_MAX: usize = 64 * 1024 + 2 * READ_BYTES_PER_PEER_MAX;

/// The same where the other end floods and reads nothing: what a peer may cost.
pub(crate) const UNREAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that a sender can have on their way to somebody who does not read.
pub(crate) const SENT_BYTES_MAX: usize = 64 * 1024;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    Arrive {
        ends: (usize, usize),
        session: u64,
        lane: Lane,
    },
    Work {
        node: usize,
        life: u64,
    },
    Tick {
        node: usize,
        life: u64,
    },
    Append {
        writer: usize,
    },
    Trouble,
    Mischief {
        node: usize,
    },
    Start {
        node: usize,
    },
    /// A node whose store stopped, or might have, is started anew.
    Restart {
        node: usize,
        life: u64,
    },
    Connect {
        one: usize,
        other: usize,
    },
    /// A connection that was silent for too long is given up.
    GiveUp {
        one: usize,
        other: usize,
        session: u64,
    },
    /// The index reads what came, and what is held is looked at.
    Look {
        node: usize,
    },
    Heal,
}

/// What a run came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) trace: [u8; 32],
    pub(crate) steps: u64,
    pub(crate) messages: u64,
    pub(crate) appended: u64,
    pub(crate) crashes: u64,
    pub(crate) bans: u64,
    pub(crate) conflicts: u64,
    /// Microseconds from healing to convergence.
    pub(crate) healed_after: u64,
}

/// Sets are numbered apart from other requests.
pub(crate) const SET: u64 = 1 << 62;

/// A request that one node made of another.
pub(crate) type Asked = (usize, usize, FeedKey, u64);

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) truth: Truth,
    pub(crate) room: Option<rooms::World>,
    pub(crate) healed: bool,
    pub(crate) outcome: Outcome,
    /// Pairs that are to be connected.
    pub(crate) acquainted: BTreeSet<(usize, usize)>,
    /// Appended blocks that are still to come.
    pub(crate) left: u64,
    pub(crate) queue: BTreeMap<(Time, u64), Event>,
    pub(crate) sequence: u64,
    pub(crate) trace: blake3::Hasher,
    /// Requests of honest nodes that were sent and not answered.
    pub(crate) asked: BTreeSet<Asked>,
    /// Requests that reached honest nodes and were not answered.
    pub(crate) to_answer: BTreeSet<Asked>,
    /// Who told an honest node last that it takes blocks unasked: the peer, the node, of what.
    pub(crate) takes_pushes: BTreeSet<(usize, usize, FeedKey)>,
    /// Blocks that an honest node may send unasked, once: appended while the peer took such ones.
    pub(crate) to_push: BTreeSet<Asked>,
    /// What nodes held when they went down.
    pub(crate) before: BTreeMap<usize, Vec<Held>>,
    /// Blocks that a store failed to give up: they may be gone after a restart, or not.
    pub(crate) unsure: Vec<(usize, FeedKey, std::ops::Range<u64>)>,
    pub(crate) clocks: Vec<HybridClock>,
    scratch: Option<Scratch>,
}

/// A folder for indexes that are files; removed at the end.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's own folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl World {
    pub(crate) fn new(seed: u64, injected: Option<Injected>) -> World {
        let mut random = Random::new(seed);
        let plan = Plan::of(seed, &mut random);
        let nodes = (0..plan.nodes())
            .map(|number| Node::new(number, injected))
            .collect();
        let room = plan
            .has_index
            .then(|| rooms::World::new(seed, plan.writers as u8));
        let mut world = World {
            now: Time(1_000_000),
            left: plan.blocks,
            nodes,
            network: Network::default(),
            truth: Truth::default(),
            room,
            healed: false,
            outcome: Outcome::default(),
            acquainted: BTreeSet::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            trace: blake3::Hasher::new(),
            asked: BTreeSet::new(),
            to_answer: BTreeSet::new(),
            takes_pushes: BTreeSet::new(),
            to_push: BTreeSet::new(),
            before: BTreeMap::new(),
            unsure: Vec::new(),
            clocks: vec![HybridClock::default(); plan.nodes()],
            scratch: None,
            random,
            plan,
        };
        world.prepare();
        world
    }

    pub(crate) fn prepare(&mut self) {
        if self.plan.index_on_disk {
            let name = format!(
                "kinlog-simulation-{}-{}",
                std::process::id(),
                self.plan.seed
            );
            let thread = format!("{:?}", std::thread::current().id());
            let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
            let folder = std::env::temp_dir().join(format!("{name}-{digits}"));
            std::fs::create_dir_all(&folder).unwrap();
            for node in &mut self.nodes[..self.plan.honest] {
                node.index_path = Some(folder.join(format!("{}.db", node.number)));
            }
            self.scratch = Some(Scratch(folder));
        }
        for writer in 0..self.plan.writers {
            self.truth.add(rooms::room_feed(writer), writer);
        }
        for node in 0..self.nodes.len() {
            let room = self.room.as_ref().filter(|_| node < self.plan.honest);
            self.nodes[node].start(self.now, room);
            for writer in 0..self.plan.writers {
                let own = (writer == node).then_some(writer);
                let interest = match own {
                    Some(_) => Interest::default(),
                    None => self.plan.interest(node, &mut self.random),
                };
                let key = rooms::room_feed(writer);
                self.nodes[node].take_up(self.now, key, own, interest);
            }
        }
        self.found_the_room();
        for one in 0..self.nodes.len() {
            for other in one + 1..self.nodes.len() {
                let with_seeder = one == self.plan.seeder() || other == self.plan.seeder();
                if with_seeder || self.random.below(100) < 40 {
                    self.acquainted.insert((one, other));
                }
            }
        }
        for (one, other) in self.acquainted.clone() {
            self.soon(2_000_000, Event::Connect { one, other });
        }
        let trouble = self.plan.trouble.as_micros() as u64;
        for _ in 0..self.plan.blocks / 2 {
            let writer = self.random.index(self.plan.writers);
            self.soon(trouble, Event::Append { writer });
        }
        for _ in 0..trouble / 1_500_000 {
            self.soon(trouble, Event::Trouble);
        }
        for node in self.plan.honest..self.nodes.len() {
            for _ in 0..trouble / 500_000 {
                self.soon(trouble, Event::Mischief { node });
            }
        }
        for node in 0..self.plan.honest {
            self.soon(5_000_000, Event::Look { node });
        }
        self.after(self.plan.trouble, Event::Heal);
    }

    /// The owner of the room admits the other writers.
    pub(crate) fn found_the_room(&mut self) {
        let Some(room) = &mut self.room else {
            return;
        };
        let key = rooms::room_feed(0);
        for writer in 1..self.plan.writers {
            let body = room.admit_body(writer);
            room.write(
                key,
                writer as u64,
                1_000 + writer as u64,
                Default::default(),
                body,
            );
        }
        let blocks = room.feeds[&key].blocks.clone();
        self.append_blocks(0, &blocks);
        self.nodes[0].running.as_mut().unwrap().catch_up();
    }

    pub(crate) fn soon(&mut self, within_micros: u64, event: Event) {
        let micros = self.random.below(within_micros.max(1));
        self.after(Duration::from_micros(micros), event);
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// Lets everything happen; panics where something is not as it has to be.
    pub(crate) fn run(mut self) -> Outcome {
        let end = self.now + self.plan.trouble + HEALS_WITHIN;
        let mut next_look = self.now + self.plan.trouble;
        while let Some((&(at, _), _)) = self.queue.first_key_value() {
            if self.healed && at >= next_look {
                if self.has_converged().is_ok() {
                    break;
                }
                next_look = next_look + Duration::from_secs(1);
                if at >= end {
                    break;
                }
            }
            let ((at, _), event) = self.queue.pop_first().unwrap();
            self.now = at;
            self.outcome.steps += 1;
            assert!(self.outcome.steps < 3_000_000, "this comes to no end");
            self.handle(event);
        }
        if let Err(reason) = self.has_converged() {
            panic!("no convergence within {HEALS_WITHIN:?}: {reason}");
        }
        let healed_at = Time(1_000_000) + self.plan.trouble;
        self.outcome.healed_after = self.now.since(healed_at).as_micros() as u64;
        self.finish();
        self.outcome.trace = *self.trace.finalize().as_bytes();
        self.outcome.clone()
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.trace.update(&self.now.0.to_le_bytes());
        match event {
            Event::Arrive {
                ends,
                session,
                lane,
            } => self.arrive(ends, session, lane),
            Event::Work { node, life } if self.nodes[node].life == life => self.work(node),
            Event::Tick { node, life } if self.nodes[node].life == life => {
                let now = self.now;
                if let Some(running) = &mut self.nodes[node].running {
                    running.ticks_at = None;
                    running.replicator.handle_timeout(now);
                    self.drain(node);
                }
            }
            Event::Restart { node, life } if self.nodes[node].life == life => {
                if !self.healed {
                    self.restart(node);
                }
            }
            Event::Work { .. } | Event::Tick { .. } | Event::Restart { .. } => {}
            Event::Append { writer } => self.append(writer),
            Event::Trouble if !self.healed => self.make_trouble(),
            Event::Mischief { node } => self.make_mischief(node),
            Event::Trouble => {}
            Event::Start { node } => self.start(node),
            Event::Connect { one, other } => self.connect(one, other),
            Event::GiveUp {
                one,
                other,
                session,
            } => {
                let link = self.network.links.get(&(one, other));
                if link.is_some_and(|link| {
                    link.session == session
                        && self.now < link.blocked_until
                        && self.now.since(link.blocked_since) >= SILENCE_MAX
                }) {
                    self.disconnect(one, other);
                }
            }
            Event::Look { node } => {
                self.look(node);
                self.after(Duration::from_secs(5), Event::Look { node });
            }
            Event::Heal => self.heal(),
        }
    }

    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].is_up() {
            return;
        }
        let room = self.room.as_ref().filter(|_| node < self.plan.honest);
        self.nodes[node].start(self.now, room);
        if node < self.plan.honest {
            if let Some(before) = self.before.remove(&node) {
                self.nodes[node].check_held(&before);
            }
            let running = self.nodes[node].running.as_mut().unwrap();
            if node < self.plan.writers
                && let Some(feed) = running.feeds.get(&rooms::room_feed(node))
            {
                self.truth.reopened(feed);
            }
            running.catch_up();
            self.check_all_of(node);
        }
        self.drain(node);
        for (one, other) in self.acquainted.clone() {
            if one == node || other == node {
                self.soon(500_000, Event::Connect { one, other });
            }
        }
    }

    pub(crate) fn connect(&mut self, one: usize, other: usize) {
        let now = self.now;
        if self.network.is_connected(one, other)
            || !self.nodes[one].is_up()
            || !self.nodes[other].is_up()
            || self.nodes[one].is_banned(now, other)
            || self.nodes[other].is_banned(now, one)
        {
            return; // the one who starts connects
        }
        if self.network.is_split(now, one, other) {
            self.soon(5_000_000, Event::Connect { one, other });
            return;
        }
        self.network.connect(one, other);
        let feeds = |node: usize| {
            let running = self.nodes[node].running.as_ref();
            running.map(|running| running.feeds.keys().copied().collect::<BTreeSet<_>>())
        };
        let (mine, theirs) = (feeds(one).unwrap(), feeds(other).unwrap());
        let shared: Vec<FeedKey> = mine.intersection(&theirs).copied().collect();
        for (node, peer) in [(one, other), (other, one)] {
            let Node {
                running, refused, ..
            } = &mut self.nodes[node];
            let running = running.as_mut().unwrap();
            running.meet(now, peer, &shared, refused.get(&peer), &self.plan);
        }
        self.drain(one);
        self.drain(other);
    }

    /// Breaks a connection; it is made anew after a while.
    pub(crate) fn disconnect(&mut self, one: usize, other: usize) {
        if !self.network.is_connected(one, other) {
            return;
        }
        self.network.disconnect(one, other);
        let of_both =
            |from: usize, to: usize| (from, to) == (one, other) || (from, to) == (other, one);
        for asked in [&mut self.asked, &mut self.to_answer, &mut self.to_push] {
            asked.retain(|(from, to, ..)| !of_both(*from, *to));
        }
        self.takes_pushes
            .retain(|(from, to, _)| !of_both(*from, *to));
        for (node, peer) in [(one, other), (other, one)] {
            if let Some(running) = &mut self.nodes[node].running {
                running.held_back.retain(|(from, ..)| *from != peer);
                running
                    .replicator
                    .handle_peer_gone(self.now, PeerId(peer as u64));
            }
        }
        self.soon(3_000_000, Event::Connect { one, other });
        self.drain(one);
        self.drain(other);
    }

    pub(crate) fn work(&mut self, node: usize) {
        let now = self.now;
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        running.is_working = false;
        let jobs = 1 + self.random.below(8);
        let mut failed = false;
        for _ in 0..jobs {
            let Some(work) = running.work.pop_front() else {
                break;
            };
            let Some(feed) = running.feeds.get(&work.feed()).cloned() else {
                continue;
            };
            let before = matches!(work, Work::Apply { .. }).then(|| feed.have());
            let length = feed.head().length;
            let done = work.carry_out(&feed);
            if node < self.plan.honest {
                let now = feed.head().length;
                assert!(
                    now >= length,
                    "stale: node {node} goes back from {length} to {now}"
                );
                let new = before
                    .as_ref()
                    .map(|before| feed.have().without(before, 0..now));
                for block in new.into_iter().flatten().flatten() {
                    let value = running.faults.paused(|| feed.get(block));
                    let value = value.unwrap().unwrap();
                    self.truth.check_block(node, &feed.key(), block, &value);
                }
                for applied in done.applied().iter().flatten() {
                    if let Some(head) = &applied.head {
                        self.truth.check_head(node, &feed.key(), head);
                    }
                }
            }
            if done.failed.is_some() {
                failed = true;
                if let Some(before) = before {
                    let more = feed.have().without(&before, 0..feed.head().length);
                    let many = more.iter().map(|run| run.end - run.start).sum::<u64>();
                    // An apply of many bytes is several records, of which the first may be durable.
                    assert!(
                        many == 0 || done.applied().len() > 1,
                        "more is visible than is durable: {more:?} at node {node}"
                    );
                }
            }
            done.tell(now, &mut running.replicator);
        }
        if failed {
            running.has_failed = true;
            self.restart_soon(node);
        }
        self.drain(node);
        self.take_held_back(node);
    }

    pub(crate) fn take_held_back(&mut self, node: usize) {
        loop {
            let Some(running) = &mut self.nodes[node].running else {
                return;
            };
            if !running.replicator.accepts_data() {
                return;
            }
            let Some((from, key, message)) = running.held_back.pop_front() else {
                return;
            };
            self.take(node, from, key, message);
        }
    }

    /// Asserts that everything a node holds is there and is what was written.
    pub(crate) fn check_all_of(&self, node: usize) {
        let running = self.nodes[node].running.as_ref().unwrap();
        for (key, feed) in &running.feeds {
            let (length, have) = (feed.head().length, feed.have());
            assert!(
                have.first_set_from(length).is_none(),
                "have: node {node} holds blocks behind the end of {key}"
            );
            for block in have.runs(0..length).flatten() {
                let value = running.faults.paused(|| feed.get(block)).unwrap();
                let value =
                    value.unwrap_or_else(|| panic!("have: node {node} has no {block} of {key}"));
                self.truth.check_block(node, key, block, &value);
            }
        }
    }

    pub(crate) fn look(&mut self, node: usize) {
        if let Some(running) = &mut self.nodes[node].running
            && !running.has_failed
        {
            running.catch_up();
            self.check_all_of(node);
        }
    }

    pub(crate) fn make_mischief(&mut self, node: usize) {
        let peers = self.network.peers(node);
        let Some(running) = &self.nodes[node].running else {
            return;
        };
        if peers.is_empty() || self.plan.tricks.is_empty() {
            return;
        }
        let to = peers[self.random.index(peers.len())];
        let keys: Vec<FeedKey> = running.feeds.keys().copied().collect();
        let key = keys[self.random.index(keys.len())];
        let feed = running.feeds[&key].clone();
        let trick = self.plan.tricks[self.random.index(self.plan.tricks.len())];
        let random = &mut self.random;
        let length = feed.head().length;
        let messages: Vec<Message> = match trick {
            Trick::Flood => (0..random.below(3_000))
                .map(|id| hostile::request(id, random.below(length.max(1)), None))
                .collect(),
            Trick::Unasked => hostile::unasked_block(&feed, random).into_iter().collect(),
            Trick::StaleHead => {
                let shown = hostile::whole_history(&feed).into_iter().collect();
                std::mem::replace(self.nodes[node].stale.entry(key).or_default(), shown)
            }
            Trick::ClaimAll => vec![Message::Range(kinlog_feeds::wire::hypercore::Range {
                drop: false,
                start: 0,
                length: length + random.below(100),
            })],
            Trick::BogusConflict if random.below(10) == 0 => vec![Message::Extension {
                name: Bytes::from_static(b"kinlog/conflict"),
                payload: random.bytes(300).into(),
            }],
            Trick::Nonsense => (0..random.below(20))
                .map(|_| hostile::nonsense(random))
                .collect(),
            Trick::Fork if random.below(10) == 0 => return self.forge(node, key),
            _ => Vec::new(),
        };
        for message in messages {
            let message = FeedMessage::Hypercore(message);
            self.transmit((node, to), key, hostile::encode(message));
        }
    }

    /// A hostile node has a copy of the key of a feed and adds a block to it.
    pub(crate) fn forge(&mut self, node: usize, key: FeedKey) {
        let book = self.truth.books.get_mut(&key).unwrap();
        let running = self.nodes[node].running.as_mut().unwrap();
        let feed = running.feeds[&key].clone();
        let at = feed.head().length;
        if book.forged.is_some() || at == 0 || running.has_failed {
            return;
        }
        let block = Bytes::from_static(b"said by somebody else");
        book.forged = Some((at, block.clone()));
        if feed.append_batch(&pair_of(book.writer), &[block]).is_ok() {
            let head = HeadState::from(&feed.info());
            running.replicator.handle_appended(self.now, &key, &head);
        }
        self.drain(node);
    }
}
