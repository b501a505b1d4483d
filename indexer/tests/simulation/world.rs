//! The run of one seed: a queue of what happens when, and what has to be true after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::limits::{
    IN_FLIGHT_BYTES_MAX, READ_BYTES_PER_PEER_MAX, READS_PER_PEER_MAX, REQUESTS_QUEUED_MAX,
    UNAPPLIED_BYTES_MAX,
};
use kinlog_feeds::replicate::{FeedEvent, HeadState, Interest, Output, PeerId};
use kinlog_feeds::store::AppendError;
use kinlog_feeds::wire::hypercore::{Message, NoDataReason, Request};
use kinlog_feeds::wire::kinlog::{FeedMessage, Message as Framed, SetRequest};
use kinlog_feeds::{FeedKey, Time};
use kinlog_indexer::clock::HybridClock;
use kinlog_indexer::entry::{Entry, LinkScope};
use kinlog_indexer::index::{Block, StoreTrees, TreeHashes};
use kinlog_indexer::seal::seal_entry;
use testkit::random::Random;
use testkit::work::Work;

use crate::hostile;
use crate::mistakes::Injected;
use crate::network::{Encoded, Network, SILENCE_MAX};
use crate::node::{Held, Node};
use crate::plan::{Plan, Trick, due, is_wanted};
use crate::rooms;
use crate::truth::{Truth, pair_of};

/// Time in which everything has to be where it belongs once nothing goes wrong any more.
const HEALS_WITHIN: Duration = Duration::from_secs(60);

/// How long a lie keeps a peer away: longer than a run.
const BAN: Duration = Duration::from_secs(600);

/// Bytes that a link may hold: what is above its high water was being read when it filled.
const LINK_BYTES_MAX: usize = 64 * 1024 + 2 * READ_BYTES_PER_PEER_MAX;

/// The same where the other end floods and reads nothing: what a peer may cost.
const UNREAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that a sender can have on their way to somebody who does not read.
const SENT_BYTES_MAX: usize = 64 * 1024;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    Arrive {
        ends: (usize, usize),
        session: u64,
        key: FeedKey,
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
const SET: u64 = 1 << 62;

/// A request that one node made of another.
type Asked = (usize, usize, FeedKey, u64);

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
    left: u64,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    trace: blake3::Hasher,
    /// Requests of honest nodes that were sent and not answered.
    asked: BTreeSet<Asked>,
    /// Requests that reached honest nodes and were not answered.
    to_answer: BTreeSet<Asked>,
    /// What nodes held when they went down.
    pub(crate) before: BTreeMap<usize, Vec<Held>>,
    /// Blocks that a store failed to give up: they may be gone after a restart, or not.
    pub(crate) unsure: Vec<(usize, FeedKey, std::ops::Range<u64>)>,
    clocks: Vec<HybridClock>,
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

    fn prepare(&mut self) {
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
    fn found_the_room(&mut self) {
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

    fn at(&mut self, at: Time, event: Event) {
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

    fn handle(&mut self, event: Event) {
        self.trace.update(&self.now.0.to_le_bytes());
        match event {
            Event::Arrive { ends, session, key } => self.arrive(ends, session, key),
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

    fn connect(&mut self, one: usize, other: usize) {
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
            let speaks_kinlog = self.plan.speaks_kinlog;
            running.meet(now, peer, &shared, refused.get(&peer), speaks_kinlog);
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
        let of_both = |asked: &Asked| {
            (asked.0, asked.1) == (one, other) || (asked.0, asked.1) == (other, one)
        };
        self.asked.retain(|asked| !of_both(asked));
        self.to_answer.retain(|asked| !of_both(asked));
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

    fn arrive(&mut self, ends: (usize, usize), session: u64, key: FeedKey) {
        let Some(link) = self.network.links.get(&ends) else {
            return;
        };
        if link.session != session {
            return;
        }
        if self.now < link.blocked_until {
            // In steps: it may be mended earlier.
            let until = link
                .blocked_until
                .min(self.now + Duration::from_millis(500));
            self.at(until, Event::Arrive { ends, session, key });
            return;
        }
        let chance = (&self.plan, &mut self.random);
        let Some((message, empties)) = self.network.arrive(chance, ends, &key) else {
            return;
        };
        let (from, to) = ends;
        if empties && let Some(running) = &mut self.nodes[from].running {
            let peer = PeerId(to as u64);
            running.replicator.handle_writable(self.now, peer, true);
            self.drain(from);
        }
        if let Some(running) = &mut self.nodes[to].running {
            if running.held_back.is_empty() && running.replicator.accepts_data() {
                self.take(to, from, key, message);
            } else {
                running.held_back.push_back((from, key, message));
            }
        }
    }

    /// A message reaches the replicator.
    fn take(&mut self, node: usize, from: usize, key: FeedKey, (kind, body): Encoded) {
        self.outcome.messages += 1;
        self.trace.update(&[node as u8, from as u8, kind as u8]);
        self.trace.update(&body);
        let Ok(Some(Framed::Feed(_, message))) = Framed::decode(kind, &body) else {
            assert!(self.plan.is_hostile(from), "node {from} sends what is none");
            self.ban(node, from);
            return;
        };
        if !self.plan.is_hostile(node) {
            self.note_taken(node, from, key, &message);
        }
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        let peer = PeerId(from as u64);
        let replicator = &mut running.replicator;
        let taken = match message {
            FeedMessage::Hypercore(message) => {
                replicator.handle_message(self.now, peer, &key, message)
            }
            message => replicator.handle_kinlog_message(self.now, peer, &key, message),
        };
        if let Err(reason) = taken {
            self.cut(node, from, &reason.to_string(), true);
        }
        self.drain(node);
    }

    fn note_taken(&mut self, node: usize, from: usize, key: FeedKey, message: &FeedMessage) {
        let answered = match message {
            FeedMessage::Hypercore(Message::Request(Request { id, .. })) => {
                self.to_answer.insert((from, node, key, *id));
                return;
            }
            FeedMessage::AskSet(SetRequest { id, .. }) => {
                self.to_answer.insert((from, node, key, SET | *id));
                return;
            }
            FeedMessage::Hypercore(Message::Data(data)) => data.request,
            FeedMessage::Set(answer) => SET | answer.id,
            _ => return,
        };
        if !self.plan.is_hostile(from) {
            assert!(
                self.asked.remove(&(node, from, key, answered)),
                "unasked: {from} sends {node} what it did not ask for"
            );
        }
    }

    /// Ends a connection with a peer that broke the protocol.
    fn cut(&mut self, node: usize, peer: usize, reason: &str, ban: bool) {
        if !self.plan.is_hostile(node) {
            assert!(
                self.plan.is_hostile(peer),
                "blamed: node {node} cuts the honest {peer}: {reason}"
            );
        }
        if ban {
            self.ban(node, peer);
        }
        self.disconnect(node, peer);
    }

    fn ban(&mut self, node: usize, peer: usize) {
        self.outcome.bans += 1;
        self.nodes[node].bans.insert(peer, self.now + BAN);
        self.disconnect(node, peer);
    }

    /// Carries out what a replicator wants.
    pub(crate) fn drain(&mut self, node: usize) {
        loop {
            let Some(running) = &mut self.nodes[node].running else {
                return;
            };
            let Some(output) = running.replicator.poll_output() else {
                break;
            };
            match Work::of(output) {
                Ok(work) => running.work.push_back(work),
                Err(Output::Send {
                    peer, key, message, ..
                }) => {
                    let message = FeedMessage::Hypercore(message);
                    self.send(node, peer.0 as usize, key, message);
                }
                Err(Output::SendKinlog {
                    peer, key, message, ..
                }) => {
                    self.send(node, peer.0 as usize, key, message);
                }
                Err(Output::Violation { peer, reason, ban }) => {
                    self.cut(node, peer.0 as usize, &reason.to_string(), ban);
                }
                Err(Output::Event { event, .. }) => self.note_event(node, &event),
                Err(_) => {}
            }
        }
        let life = self.nodes[node].life;
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        let mut due = Vec::new();
        if !running.is_working && !running.work.is_empty() {
            running.is_working = true;
            let takes = Duration::from_micros(20 + self.random.below(2_000));
            due.push((self.now + takes, Event::Work { node, life }));
        }
        if let Some(at) = running.replicator.poll_timeout()
            && running.ticks_at.is_none_or(|known| at < known)
        {
            running.ticks_at = Some(at);
            due.push((at, Event::Tick { node, life }));
        }
        let load = running.replicator.load();
        for (at, event) in due {
            self.at(at, event);
        }
        if node < self.plan.honest {
            let peers = self.nodes.len();
            let fits = load.requests_of_one_peer <= REQUESTS_QUEUED_MAX
                && load.reads <= peers * READS_PER_PEER_MAX
                && load.in_flight_bytes <= 2 * IN_FLIGHT_BYTES_MAX
                && load.unapplied_bytes <= 4 * UNAPPLIED_BYTES_MAX;
            assert!(fits, "unbounded: node {node} holds {load:?}");
        }
    }

    fn note_event(&mut self, node: usize, event: &FeedEvent) {
        match event {
            FeedEvent::Conflict => self.outcome.conflicts += 1,
            FeedEvent::StoreFailed => self.restart_soon(node),
            _ => {}
        }
    }

    fn send(&mut self, node: usize, to: usize, key: FeedKey, message: FeedMessage) {
        let ends = (node, to);
        if !self.network.is_connected(node, to) {
            return;
        }
        if self.plan.is_hostile(node) {
            for encoded in hostile::tamper(&self.plan.tricks, &mut self.random, message) {
                self.transmit(ends, key, encoded);
            }
            return;
        }
        self.check_sent(node, to, key, &message);
        let is_state = matches!(
            message,
            FeedMessage::Hypercore(Message::Synchronize(_) | Message::Range(_))
        );
        let encoded = hostile::encode(message);
        if self.plan.duplicates && is_state && self.random.below(4) == 0 {
            self.transmit(ends, key, encoded.clone());
        }
        self.transmit(ends, key, encoded);
        let bytes = self.network.links.get(&ends).map_or(0, |link| link.bytes);
        let limit = match self.plan.is_hostile(to) {
            true => UNREAD_BYTES_MAX,
            false => LINK_BYTES_MAX,
        };
        assert!(
            bytes <= limit,
            "unbounded: {bytes} bytes wait for node {to} at node {node}"
        );
    }

    pub(crate) fn transmit(&mut self, ends: (usize, usize), key: FeedKey, message: Encoded) {
        let waits = self.network.links.get(&ends).map_or(0, |link| link.bytes);
        if self.plan.is_hostile(ends.0) && waits > SENT_BYTES_MAX {
            return; // the receiver takes no more, whatever the sender does
        }
        let chance = (self.now, &self.plan, &mut self.random);
        let Some((at, session, fills)) = self.network.send(chance, ends, key, message) else {
            return;
        };
        self.at(at, Event::Arrive { ends, session, key });
        if fills && let Some(running) = &mut self.nodes[ends.0].running {
            let peer = PeerId(ends.1 as u64);
            running.replicator.handle_writable(self.now, peer, false);
        }
    }

    /// Looks at what an honest node is about to send.
    fn check_sent(&mut self, node: usize, to: usize, key: FeedKey, message: &FeedMessage) {
        let message = match message {
            FeedMessage::Hypercore(message) => message,
            FeedMessage::AskSet(request) => {
                let want = &self.nodes[node].interests[&key].want;
                let mut blocks = request.set.blocks();
                let unwanted = blocks.find(|block| !is_wanted(want, *block));
                assert_eq!(unwanted, None, "unwanted: node {node} asks for it of {key}");
                if !self.plan.is_hostile(to) {
                    self.asked.insert((node, to, key, SET | request.id));
                }
                return;
            }
            FeedMessage::Set(answer) => {
                self.answered((to, node, key, SET | answer.id));
                if !answer.values.is_empty() {
                    self.check_shown(node, to, key);
                }
                return;
            }
            FeedMessage::Watch(_) => return,
            FeedMessage::Held(held) => {
                let running = self.nodes[node].running.as_ref().unwrap();
                let have = running.feeds[&key].have();
                let lacks = held.runs.iter().find(|run| !have.all_in((*run).clone()));
                assert_eq!(
                    lacks, None,
                    "announced: node {node} does not hold it of {key}"
                );
                return;
            }
        };
        match message {
            Message::Request(request) => {
                if let Some(block) = request.proof.block {
                    let want = &self.nodes[node].interests[&key].want;
                    assert!(
                        is_wanted(want, block.index),
                        "unwanted: node {node} asks for block {} of {key}",
                        block.index
                    );
                }
                if !self.plan.is_hostile(to) {
                    self.asked.insert((node, to, key, request.id));
                }
            }
            Message::Data(data) => {
                let asked = (to, node, key, data.request);
                self.answered(asked);
                self.check_shown(node, to, key);
            }
            Message::NoData(no_data) => {
                if no_data.reason != Some(NoDataReason::InvalidRequest) {
                    self.answered((to, node, key, no_data.request));
                }
                self.asked.remove(&(to, node, key, no_data.request));
            }
            Message::Range(range) if !range.drop => {
                let running = self.nodes[node].running.as_ref().unwrap();
                let feed = &running.feeds[&key];
                let end = range.start + range.length;
                let have = feed.have();
                assert!(
                    have.all_in(range.start..end) && end <= feed.head().length,
                    "announced: node {node} does not hold all of {}..{end} of {key}",
                    range.start
                );
                if !running.has_failed {
                    for block in [range.start, end - 1] {
                        let value = running.faults.paused(|| feed.get(block)).unwrap();
                        let value = value.unwrap_or_else(|| {
                            panic!("announced: node {node} cannot serve block {block} of {key}")
                        });
                        self.truth.check_block(node, &key, block, &value);
                    }
                }
            }
            _ => {}
        }
    }

    fn check_shown(&self, node: usize, to: usize, key: FeedKey) {
        let refused = self.nodes[node].refused.get(&to);
        assert!(
            !refused.is_some_and(|refused| refused.contains(&key)),
            "shown: node {node} answers {to}, who may not have {key}"
        );
    }

    /// An honest node answers a request.
    fn answered(&mut self, asked: Asked) {
        let (asker, node, key, _) = asked;
        // A hostile one may use a number for many requests at once.
        let was_asked = match self.plan.is_hostile(asker) {
            true => self.to_answer.contains(&asked),
            false => self.to_answer.remove(&asked),
        };
        assert!(
            was_asked,
            "unasked: node {node} answers {asker} about {key}"
        );
    }

    fn work(&mut self, node: usize) {
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

    fn take_held_back(&mut self, node: usize) {
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

    fn append(&mut self, writer: usize) {
        let book = &self.truth.books[&rooms::room_feed(writer)];
        let running = self.nodes[writer].running.as_ref();
        let can_write = running.is_some_and(|running| !running.has_failed);
        if !can_write || book.is_retired || !book.attempt.is_empty() || self.left == 0 {
            return;
        }
        let count = match self.random.below(6) {
            0 => 1 + self.random.below(8),
            _ => 1 + self.random.below(3),
        };
        let count = count.min(self.left);
        self.left -= count;
        if self.plan.has_index {
            for _ in 0..count {
                self.write_entry(writer);
            }
        } else {
            let blocks: Vec<Bytes> = (0..count)
                .map(|_| {
                    let bytes = match self.random.below(8) {
                        0 => 0,
                        1 => 4_000 + self.random.index(2_000),
                        _ => self.random.index(300),
                    };
                    self.random.bytes(bytes).into()
                })
                .collect();
            self.append_blocks(writer, &blocks);
        }
        self.drain(writer);
    }

    /// Writes an entry as an agent does: after what its index knows, and indexed at once.
    fn write_entry(&mut self, writer: usize) {
        let key = rooms::room_feed(writer);
        let now_ms = (self.now.0 / 1_000) as i64 + 1_700_000_000_000;
        let node = &mut self.nodes[writer];
        let wall_ms = (now_ms + node.skew_ms) as u64;
        let room = self.room.as_ref().unwrap();
        let Some(running) = node.running.as_mut().filter(|running| !running.has_failed) else {
            return;
        };
        running.catch_up();
        let index = running.index.as_mut().unwrap();
        let scope = LinkScope::Room(room.room);
        let trees = StoreTrees::of(running.store.clone());
        let frontier = index.frontier(scope, &key).unwrap();
        let (links, depth) = frontier.next(&key, |feed, length| trees.tree_hash(feed, length));
        let number = self.random.below(1_000_000);
        let entry = Entry {
            links,
            depth,
            clock: self.clocks[writer].tick(wall_ms),
            body: rooms::message(&format!("message {number} of {writer}")),
        };
        let at = running.feeds[&key].head().length;
        let nonce: [u8; 24] = self.random.bytes(24).try_into().unwrap();
        let entry = entry.encode().unwrap();
        let block = seal_entry(&room.key, &key, at, &nonce, &entry).unwrap();
        self.append_blocks(writer, std::slice::from_ref(&block));
        let running = self.nodes[writer].running.as_mut().unwrap();
        if running.has_failed {
            return;
        }
        let block = Block {
            feed: key,
            index: at,
            bytes: block,
        };
        running.index.as_mut().unwrap().ingest(&[block]).unwrap();
    }

    fn append_blocks(&mut self, writer: usize, blocks: &[Bytes]) {
        let key = rooms::room_feed(writer);
        let running = self.nodes[writer].running.as_mut().unwrap();
        let feed = running.feeds[&key].clone();
        match feed.append_batch(&pair_of(writer), blocks) {
            Ok(_) => {
                let head = HeadState::from(&feed.info());
                self.truth.acknowledged(&key, blocks, &head);
                self.outcome.appended += blocks.len() as u64;
                running.replicator.handle_appended(self.now, &key, &head);
            }
            Err(AppendError::Conflict { .. }) => {}
            Err(_) => {
                let book = self.truth.books.get_mut(&key).unwrap();
                assert_eq!(
                    feed.head().length,
                    book.blocks.len() as u64,
                    "more is visible than is durable at node {writer}"
                );
                book.attempt = blocks.to_vec();
                running.has_failed = true;
                self.restart_soon(writer);
            }
        }
    }

    /// Asserts that everything a node holds is there and is what was written.
    fn check_all_of(&self, node: usize) {
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

    fn look(&mut self, node: usize) {
        if let Some(running) = &mut self.nodes[node].running
            && !running.has_failed
        {
            running.catch_up();
            self.check_all_of(node);
        }
    }

    fn make_mischief(&mut self, node: usize) {
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
    fn forge(&mut self, node: usize, key: FeedKey) {
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

    /// Returns whether everybody holds what it wants; or who does not.
    fn has_converged(&self) -> Result<(), String> {
        let honest = &self.nodes[..self.plan.honest];
        for (key, book) in &self.truth.books {
            let feeds = honest.iter().filter_map(|node| {
                let running = node.running.as_ref()?;
                Some((node, running.feeds.get(key)?))
            });
            let feeds: Vec<_> = feeds.collect();
            let newest = feeds.iter().map(|(_, feed)| feed.head().length).max();
            // What a lying drive lost before anybody else had it is gone.
            let length = match (book.is_retired, book.forged.is_some()) {
                (true, _) => 0,
                (false, true) => newest.unwrap_or_default(),
                (false, false) => book.blocks.len() as u64,
            };
            let mut stopped = Vec::new();
            let mut heads = BTreeSet::new();
            for (node, feed) in &feeds {
                let number = node.number;
                let is_removed = honest.iter().any(|other| {
                    other
                        .refused
                        .get(&number)
                        .is_some_and(|of| of.contains(key))
                });
                if is_removed {
                    continue;
                }
                let info = feed.info();
                if info.is_stopped {
                    stopped.push(number);
                    continue;
                }
                heads.insert((info.length, info.tree_hash));
                let is_writers = number == book.writer && !book.is_retired;
                if is_writers {
                    continue;
                }
                if info.length < length {
                    let held = info.length;
                    let status = node.running.as_ref().and_then(|r| r.replicator.status(key));
                    return Err(format!(
                        "node {number} is at {held} of {length} of {key}: {status:?}"
                    ));
                }
                let want = &node.interests[key].want;
                // The same for what nobody can prove any more.
                let exists = |block: &u64| {
                    let mut all = feeds.iter();
                    (!book.is_retired && book.forged.is_none())
                        || all
                            .any(|(_, feed)| feed.has(*block) && feed.head().length >= info.length)
                };
                let mut due = due(want, info.length).into_iter().filter(exists);
                if let Some(block) = due.find(|block| !feed.has(*block)) {
                    let status = node.running.as_ref().and_then(|r| r.replicator.status(key));
                    return Err(format!(
                        "node {number} lacks block {block} of {key}: {status:?}"
                    ));
                }
            }
            if !stopped.is_empty() && !heads.is_empty() {
                return Err(format!("forked: only {stopped:?} know of {key}"));
            }
            let is_forked = book.forged.is_some() && stopped.is_empty();
            if is_forked && heads.len() > 1 {
                self.is_one_line(key, book.writer)?;
            }
        }
        Ok(())
    }

    /// A feed with a forged block that nobody knows to be forked: what its writer wrote must be the
    /// beginning of what the others hold.
    fn is_one_line(&self, key: &FeedKey, writer: usize) -> Result<(), String> {
        let book = &self.truth.books[key];
        let (at, _) = book.forged.as_ref().unwrap();
        let seen_by = |node: &&Node| {
            let feed = node
                .running
                .as_ref()
                .and_then(|running| running.feeds.get(key));
            feed.is_some_and(|feed| feed.head().length > *at) && node.number != writer
        };
        let honest = &self.nodes[..self.plan.honest];
        match honest.iter().find(seen_by) {
            Some(node) if book.blocks.len() as u64 > *at => Err(format!(
                "forked: node {} and the writer hold different blocks {at} of {key}",
                node.number
            )),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) {
        let honest = self.plan.honest;
        let mut dumps = BTreeMap::new();
        for number in 0..honest {
            self.check_all_of(number);
            let removed = self.nodes[..honest]
                .iter()
                .any(|other| other.refused.contains_key(&number));
            let running = self.nodes[number].running.as_mut().unwrap();
            let report = running.store.feeds();
            for feed in report {
                let report = feed.verify().unwrap();
                assert!(report.problems.is_empty(), "{:?}", report.problems);
            }
            if let Some(index) = &mut running.index
                && !removed
            {
                let mut unread = BTreeSet::new();
                for (key, feed) in &running.feeds {
                    if index.checkpoint(key).unwrap() < feed.head().length {
                        unread.insert(*key);
                    }
                }
                if !unread.is_empty() {
                    running.catch_up();
                }
                let index = running.index.as_ref().unwrap();
                dumps.insert(number, index.dump_hash().unwrap());
            }
        }
        let different: BTreeSet<_> = dumps.values().collect();
        let retired = self.truth.books.values().any(|book| book.is_retired);
        assert!(
            different.len() <= 1 || retired,
            "tables: the indexes of {:?} differ",
            dumps.keys()
        );
    }
}
