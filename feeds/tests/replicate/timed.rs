//! A world whose messages take time: each direction of a connection carries so many bytes a second,
//! and what is urgent leaves before bulk data that waits, as on a wire.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kinlog_feeds::Time;
use kinlog_feeds::limits::SEND_QUEUE_BYTES;
use kinlog_feeds::replicate::PeerId;
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::wire::kinlog::{self, FeedMessage};

use crate::world::{Sent, World};

/// What one message costs beside its body: its length, its type, its part of a frame.
const MESSAGE_OVERHEAD_BYTES: usize = 6;

/// Store work is done in turns of this length.
const WORK_TURN: Duration = Duration::from_millis(1);

/// What one direction of a connection is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// Bytes a second.
    pub(crate) rate: u64,
    /// Time from one end to the other.
    pub(crate) delay: Duration,
}

#[derive(Debug)]
struct Wire {
    path: Path,
    /// Urgent messages and bulk data that wait.
    lanes: [VecDeque<Sent>; 2],
    queued_bytes: usize,
    writable: bool,
    free_at: Time,
    /// What is between the ends, and when it arrives.
    flying: VecDeque<(Time, Sent)>,
    /// Bytes of blocks carried so far.
    carried: u64,
    /// Most bytes that ever waited.
    most_queued: usize,
}

/// The world, and how long its connections are.
pub(crate) struct Timed {
    pub(crate) world: World,
    wires: BTreeMap<(usize, usize), Wire>,
    /// Store work that each node gets done in a millisecond.
    work_per_ms: usize,
    worked_at: Time,
}

impl Timed {
    pub(crate) fn new(world: World) -> Self {
        Timed {
            worked_at: world.now,
            world,
            wires: BTreeMap::new(),
            work_per_ms: usize::MAX,
        }
    }

    /// Lets store work take its time, as well.
    pub(crate) fn working(mut self, work_per_ms: usize) -> Self {
        self.work_per_ms = work_per_ms;
        self
    }

    /// Connects two nodes by paths of the same kind both ways.
    pub(crate) fn connect(&mut self, one: usize, other: usize, rate: u64, delay: Duration) {
        let path = Path { rate, delay };
        self.connect_by(one, other, path, path);
    }

    /// Connects two nodes by different paths there and back.
    pub(crate) fn connect_by(&mut self, one: usize, other: usize, there: Path, back: Path) {
        self.world.connect(one, other);
        for (ends, path) in [((one, other), there), ((other, one), back)] {
            let wire = Wire {
                path,
                lanes: Default::default(),
                queued_bytes: 0,
                writable: true,
                free_at: self.world.now,
                flying: VecDeque::new(),
                carried: 0,
                most_queued: 0,
            };
            self.wires.insert(ends, wire);
        }
    }

    /// Returns the bytes of blocks that went from one node to another.
    pub(crate) fn carried(&self, from: usize, to: usize) -> u64 {
        self.wires[&(from, to)].carried
    }

    /// Returns the most bytes that ever waited to be sent from one node to another.
    pub(crate) fn most_queued(&self, from: usize, to: usize) -> usize {
        self.wires[&(from, to)].most_queued
    }

    /// Goes on until `done`, at most `limit`; returns how long it took.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&World) -> bool,
    ) -> Duration {
        let start = self.world.now;
        let end = start + limit;
        loop {
            let is_busy = self.work();
            if done(&self.world) || self.world.now >= end {
                let took = self.world.now.since(start);
                println!("took {took:?} of simulated time");
                return took;
            }
            self.send();
            let arrives = self
                .wires
                .values()
                .filter_map(|wire| Some(wire.flying.front()?.0));
            let leaves = self.wires.values().filter_map(|wire| {
                let waits = wire.lanes.iter().any(|lane| !lane.is_empty());
                waits.then_some(wire.free_at)
            });
            let nodes = self.world.nodes.iter();
            let timeouts = nodes.filter_map(|node| node.replicator.poll_timeout());
            let more_work = is_busy.then(|| self.world.now + WORK_TURN);
            let next = arrives.chain(leaves).chain(timeouts).chain(more_work).min();
            self.world.now = next.unwrap_or(end).max(self.world.now).min(end);
            let now = self.world.now;
            for node in &mut self.world.nodes {
                if node.replicator.poll_timeout().is_some_and(|at| at <= now) {
                    node.replicator.handle_timeout(now);
                }
            }
            self.send();
            self.deliver();
        }
    }

    /// Does the store work for which there was time; returns whether some is left.
    fn work(&mut self) -> bool {
        let turns = self.world.now.since(self.worked_at).as_micros() / WORK_TURN.as_micros();
        if self.work_per_ms == usize::MAX {
            return self.world.work_at_most(usize::MAX);
        }
        // What was not used is not kept.
        let most = if turns == 0 { 0 } else { self.work_per_ms };
        if turns > 0 {
            self.worked_at = self.world.now;
        }
        self.world.work_at_most(most)
    }

    /// Puts what waits on the wires that are free.
    fn send(&mut self) {
        let now = self.world.now;
        for (ends, wire) in &mut self.wires {
            let link = self.world.links.get_mut(ends).into_iter();
            for sent in link.flat_map(|link| link.drain(..)) {
                wire.queued_bytes += size(&sent.1);
                wire.lanes[usize::from(!sent.2)].push_back(sent);
            }
            while wire.free_at <= now {
                let [ahead, behind] = &mut wire.lanes;
                let Some(sent) = ahead.pop_front().or_else(|| behind.pop_front()) else {
                    break;
                };
                let bytes = size(&sent.1);
                wire.queued_bytes -= bytes;
                if let FeedMessage::Hypercore(Message::Data(data)) = &sent.1 {
                    let value = data
                        .proof
                        .block
                        .as_ref()
                        .map_or(0, |block| block.value.len());
                    wire.carried += value as u64;
                }
                let takes = Duration::from_micros(bytes as u64 * 1_000_000 / wire.path.rate);
                wire.free_at = wire.free_at.max(now) + takes;
                wire.flying
                    .push_back((wire.free_at + wire.path.delay, sent));
            }
            wire.most_queued = wire.most_queued.max(wire.queued_bytes);
            let writable = wire.queued_bytes < SEND_QUEUE_BYTES;
            if writable != wire.writable {
                wire.writable = writable;
                let peer = PeerId(ends.1 as u64);
                let node = &mut self.world.nodes[ends.0];
                node.replicator.handle_writable(now, peer, writable);
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.world.now;
        let mut due = Vec::new();
        for (ends, wire) in &mut self.wires {
            while wire.flying.front().is_some_and(|(at, _)| *at <= now) {
                due.extend(wire.flying.pop_front().map(|(_, sent)| (*ends, sent)));
            }
        }
        for ((from, to), (key, message, _)) in due {
            self.world.hand_over(from, to, &key, message);
        }
    }
}

fn size(message: &FeedMessage) -> usize {
    kinlog::Message::Feed(0, message.clone()).encoded_len() - 1 + MESSAGE_OVERHEAD_BYTES
}
