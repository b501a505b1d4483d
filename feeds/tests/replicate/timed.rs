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
}

/// The world, and how long its connections are.
pub(crate) struct Timed {
    pub(crate) world: World,
    wires: BTreeMap<(usize, usize), Wire>,
}

impl Timed {
    pub(crate) fn new(world: World) -> Self {
        Timed {
            world,
            wires: BTreeMap::new(),
        }
    }

    /// Connects two nodes by paths of the same kind both ways.
    pub(crate) fn connect(&mut self, one: usize, other: usize, rate: u64, delay: Duration) {
        self.world.connect(one, other);
        for ends in [(one, other), (other, one)] {
            let wire = Wire {
                path: Path { rate, delay },
                lanes: Default::default(),
                queued_bytes: 0,
                writable: true,
                free_at: self.world.now,
                flying: VecDeque::new(),
                carried: 0,
            };
            self.wires.insert(ends, wire);
        }
    }

    /// Returns the bytes of blocks that went from one node to another.
    pub(crate) fn carried(&self, from: usize, to: usize) -> u64 {
        self.wires[&(from, to)].carried
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
            self.world.work();
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
            let next = arrives.chain(leaves).chain(timeouts).min();
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
