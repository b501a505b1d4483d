//! What peers say one after the other, in any order and about anything: a reader and a server of the
//! golden feed, each with several peers.
//!
//! An input is a list of steps: `u8 what`, and for a message `u8 type | u16 length (little-endian) |
//! body` as `kinlog/feed/1` has it, which carries the messages of `hypercore/alpha`, too. The lower bits of
//! `what` say what happens, the upper ones to whom and by whom.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::limits::{
    APPLY_BYTES_MAX, IN_FLIGHT_BYTES_MAX, PARKED_PROOFS_MAX, REQUESTS_QUEUED_MAX,
    UNAPPLIED_BYTES_MAX, URGENT_BYTES_MAX,
};
use kinlog_feeds::replicate::{Config, Interest, Output, PeerId, Replicator, Want};
use kinlog_feeds::store::{Feed, Kind, MemoryDisk, Role, Store};
use kinlog_feeds::wire::hypercore::{Data, Message, Range, Request, Synchronize};
use kinlog_feeds::wire::kinlog::{FeedMessage, Message as Framed};
use kinlog_feeds::{FeedKey, Time};
use testkit::work::{Work, feed_state};

use crate::targets::golden::{LENGTH, block, golden, options};

/// Steps of one input: what comes after them is left.
const STEPS_MAX: usize = 400;

/// Things that a replicator may want after one step.
const OUTPUTS_MAX: usize = 100_000;

/// What a step does, by the lower three bits of its first byte.
mod step {
    pub(super) const MESSAGE: u8 = 0;
    pub(super) const OPEN: u8 = 1;
    pub(super) const OPEN_KINLOG: u8 = 2;
    pub(super) const CLOSE: u8 = 3;
    pub(super) const GONE: u8 = 4;
    pub(super) const TIME: u8 = 5;
    pub(super) const WRITABLE: u8 = 6;
    pub(super) const INTEREST: u8 = 7;
}

/// A replicator with its feed.
struct Side {
    replicator: Replicator,
    feed: Feed,
    /// Requests that it made: seeds answer them.
    asked: Vec<Request>,
}

impl Side {
    fn new(feed: Feed) -> Side {
        let mut replicator = Replicator::new(Config {
            group_feeds_min: 1,
            ..Config::default()
        });
        replicator.add_feed(feed.key(), feed_state(&feed));
        Side {
            replicator,
            feed,
            asked: Vec::new(),
        }
    }

    /// Does what the replicator wants until it wants nothing.
    fn drain(&mut self, now: Time) {
        for _ in 0..OUTPUTS_MAX {
            let Some(output) = self.replicator.poll_output() else {
                self.check();
                return;
            };
            match output {
                Output::Send {
                    message: Message::Request(request),
                    ..
                } => self.asked.push(request),
                other => {
                    if let Ok(work) = Work::of(other) {
                        work.carry_out(&self.feed).tell(now, &mut self.replicator);
                    }
                }
            }
        }
        panic!("what follows from one step has no end");
    }

    fn check(&self) {
        let load = self.replicator.load();
        let is_bounded = load.in_flight_bytes <= IN_FLIGHT_BYTES_MAX + URGENT_BYTES_MAX
            && load.unapplied_bytes <= 2 * UNAPPLIED_BYTES_MAX + APPLY_BYTES_MAX
            && load.parked <= PARKED_PROOFS_MAX
            && load.requests_of_one_peer <= REQUESTS_QUEUED_MAX;
        assert!(is_bounded, "{load:?}");
    }
}

/// A reader without anything, and a server.
struct Sides {
    sides: [Side; 2],
    now: Time,
    key: FeedKey,
}

impl Sides {
    fn new() -> Sides {
        let served = &golden().feed;
        let store = Store::open(Arc::new(MemoryDisk::new()), options()).unwrap();
        let followed = store
            .create_unknown(served.key(), Role::Followed, Kind::Kinlog)
            .unwrap();
        let mut sides = Sides {
            sides: [Side::new(followed), Side::new(served.clone())],
            now: Time(1_000_000),
            key: served.key(),
        };
        sides.wants(0, 0);
        sides
    }

    fn wants(&mut self, side: usize, which: u8) {
        let want = match which {
            0 => Want::All,
            1 => Want::Last(3),
            2 => Want::Ranges(vec![1..2, 5..9]),
            _ => Want::None,
        };
        let interest = Interest {
            want,
            live: which.is_multiple_of(2),
        };
        let (now, key) = (self.now, self.key);
        self.sides[side]
            .replicator
            .set_interest(now, &key, interest);
    }

    /// Takes one step; returns what is left of the input, and whether a message was one.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Option<(&'a [u8], bool)> {
        let (what, mut rest) = bytes.split_first()?;
        let side = usize::from(what >> 7);
        let (peer, low) = (PeerId(u64::from(what >> 5 & 3)), what >> 3 & 3);
        let (now, key) = (self.now, self.key);
        let replicator = &mut self.sides[side].replicator;
        let mut is_message = false;
        match what & 7 {
            step::MESSAGE => {
                let (head, body) = rest.split_first_chunk::<3>()?;
                let length = usize::from(u16::from_le_bytes([head[1], head[2]]));
                let (body, left) = body.split_at_checked(length)?;
                rest = left;
                let body = Bytes::copy_from_slice(body);
                let framed = Framed::decode(u64::from(head[0]), &body);
                is_message = matches!(framed, Ok(Some(Framed::Feed(..) | Framed::Group(..))));
                // On an error the replicator has forgotten the peer.
                let _ = match framed {
                    Ok(Some(Framed::Feed(_, FeedMessage::Hypercore(message)))) => {
                        replicator.handle_message(now, peer, &key, message)
                    }
                    Ok(Some(Framed::Feed(_, message))) => {
                        replicator.handle_kinlog_message(now, peer, &key, message)
                    }
                    Ok(Some(Framed::Group(_, message))) => {
                        replicator.handle_group_message(now, peer, &[key], &message);
                        Ok(())
                    }
                    _ => Ok(()),
                };
            }
            step::OPEN => replicator.handle_channel_open(now, peer, key),
            step::OPEN_KINLOG => {
                if low == 3 {
                    replicator.handle_groups_open(now, peer);
                }
                replicator.handle_kinlog_open(now, peer, key);
            }
            step::CLOSE => replicator.handle_channel_close(now, peer, &key),
            step::GONE => replicator.handle_peer_gone(now, peer),
            step::TIME => {
                self.now = now + Duration::from_millis([10, 500, 5_000, 60_000][usize::from(low)]);
                for side in &mut self.sides {
                    side.replicator.handle_timeout(self.now);
                }
            }
            step::WRITABLE => replicator.handle_writable(now, peer, low.is_multiple_of(2)),
            step::INTEREST => self.wants(side, low),
            _ => {}
        }
        for side in &mut self.sides {
            side.drain(self.now);
        }
        Some((rest, is_message))
    }
}

/// Takes all steps of an input: nobody panics or goes on for ever, what is kept is bounded, and what the
/// reader has is what was written. Understood is an input with a message in it.
pub(super) fn run(bytes: &[u8]) -> bool {
    let mut sides = Sides::new();
    let (mut rest, mut understood) = (bytes, false);
    for _ in 0..STEPS_MAX {
        let Some((left, is_message)) = sides.step(rest) else {
            break;
        };
        understood |= is_message;
        rest = left;
    }
    let reader = &sides.sides[0].feed;
    for index in 0..LENGTH {
        if let Some(held) = reader.get(index).unwrap() {
            assert_eq!(held, block(index), "block {index}");
        }
    }
    for root in &reader.head().roots {
        let written = golden().feed.node(root.index).unwrap();
        assert_eq!(written.as_ref(), Some(root));
    }
    understood
}

fn put(steps: &mut Vec<u8>, what: u8, message: &FeedMessage) {
    let framed = Framed::Feed(0, message.clone());
    let mut body = Vec::new();
    framed.encode(&mut body);
    let length = u16::try_from(body.len()).unwrap().to_le_bytes();
    steps.extend_from_slice(&[what, framed.message_type() as u8, length[0], length[1]]);
    steps.extend_from_slice(&body);
}

/// A whole transfer to the reader, block by block; what readers ask of the server, by both wires; and
/// both with pauses, closed channels and other wants between them.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let fetched = fetching();
    let mut asked = vec![0x80 | step::OPEN, 0x80 | step::OPEN_KINLOG];
    for seed in super::wire::kinlog_message_seeds() {
        let Some((kind, body)) = seed.split_first() else {
            continue;
        };
        let length = u16::try_from(body.len()).unwrap().to_le_bytes();
        asked.extend_from_slice(&[0x80 | step::MESSAGE, *kind, length[0], length[1]]);
        asked.extend_from_slice(body);
    }
    let mut both = fetched.clone();
    both.push(step::TIME | 2 << 3);
    both.push(step::CLOSE);
    both.push(step::INTEREST | 1 << 3);
    both.extend_from_slice(&asked);
    both.push(0x80 | step::WRITABLE | 1 << 3);
    both.push(step::GONE);
    both.extend_from_slice(&fetched);
    vec![fetched, asked, both]
}

fn fetching() -> Vec<u8> {
    let mut steps = vec![step::OPEN];
    let hypercore = |message| FeedMessage::Hypercore(message);
    let head = Synchronize {
        length: LENGTH,
        can_upgrade: true,
        uploading: true,
        has_manifest: true,
        ..Synchronize::default()
    };
    let all = Range {
        drop: false,
        start: 0,
        length: LENGTH,
    };
    for message in [Message::Synchronize(head), Message::Range(all)] {
        put(&mut steps, step::MESSAGE, &hypercore(message));
    }
    let mut sides = Sides::new();
    let mut taken = 0;
    let feed = &golden().feed;
    let manifest = Bytes::from(feed.manifest().unwrap().encode());
    loop {
        while let Some((left, _)) = sides.step(&steps[taken..]) {
            taken = steps.len() - left.len();
        }
        let asked = std::mem::take(&mut sides.sides[0].asked);
        if asked.is_empty() {
            assert_eq!(sides.sides[0].feed.info().blocks_held, LENGTH);
            return steps;
        }
        for request in asked {
            let data = Data {
                request: request.id,
                proof: feed.prove(&request.proof).unwrap(),
                manifest: request.manifest.then(|| manifest.clone()),
            };
            put(&mut steps, step::MESSAGE, &hypercore(Message::Data(data)));
        }
    }
}
