//! Peers that ask and do not read: what waits for them is bounded, then their connection ends.

use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::bitfield::Bitfield;
use kinlog_feeds::limits::{
    PROMPT_BYTES_MAX, READ_BYTES_PER_PEER_MAX, REPLICATE_TICK, URGENT_BYTES_MAX,
};
use kinlog_feeds::replicate::{
    Config, FeedKind, FeedState, HeadState, NotAvailable, Output, PeerId, ProtocolViolation,
    ReadId, Replicator,
};
use kinlog_feeds::tree::{BlockProof, BlockRequest, BlockSet, Group, Proof, ProofRequest};
use kinlog_feeds::wire::hypercore::{Message, Request, Synchronize, Want};
use kinlog_feeds::wire::kinlog::{FeedMessage, SetRequest};
use kinlog_feeds::{FeedKey, Hash, Time};

const KEY: FeedKey = FeedKey([7; 32]);
const PEER: PeerId = PeerId(1);

/// A holder of every second block of a feed, and a peer that asks.
struct Holder {
    replicator: Replicator,
    now: Time,
    /// Reads that were asked for, and which block.
    reads: Vec<(ReadId, u64)>,
    /// Bytes of messages to the peer, as they lie in memory and on the wire.
    waits: usize,
}

impl Holder {
    fn of(length: u64, block_bytes: u64) -> Holder {
        let mut replicator = Replicator::new(Config::default());
        let mut have = Bitfield::new();
        for block in (0..length).step_by(2) {
            have.set(block, true);
        }
        let state = FeedState {
            kind: FeedKind::Kinlog,
            manifest_known: true,
            head: HeadState {
                fork: 0,
                length,
                byte_length: length * block_bytes,
                tree_hash: Hash([0; 32]),
            },
            conflict: None,
            have,
        };
        replicator.add_feed(KEY, state);
        replicator.handle_channel_open(Time::ZERO, PEER, KEY);
        let mut holder = Holder {
            replicator,
            now: Time::ZERO,
            reads: Vec::new(),
            waits: 0,
        };
        holder
            .say(Message::Synchronize(Synchronize {
                can_upgrade: true,
                uploading: true,
                downloading: true,
                ..Synchronize::default()
            }))
            .unwrap();
        holder.drain();
        holder.waits = 0;
        holder
    }

    fn say(&mut self, message: Message) -> Result<(), ProtocolViolation> {
        self.replicator
            .handle_message(self.now, PEER, &KEY, message)
    }

    fn writable(&mut self, writable: bool) {
        self.replicator.handle_writable(self.now, PEER, writable);
    }

    fn drain(&mut self) {
        while let Some(output) = self.replicator.poll_output() {
            match output {
                Output::Send { message, .. } => self.waits += bytes_of(&message),
                Output::SendKinlog { .. } => self.waits += 64,
                Output::Read { id, request, .. } => {
                    let block = request.block.map(|block| block.index);
                    self.reads.push((id, block.unwrap_or_default()));
                }
                _ => {}
            }
        }
    }

    /// Says it until the connection ends.
    fn flood(&mut self, of: impl Fn(u64) -> Message) -> Option<ProtocolViolation> {
        (0..1_000_000).find_map(|number| {
            let ended = self.say(of(number)).err();
            if number % 100 == 0 {
                self.drain();
            }
            ended
        })
    }
}

fn bytes_of(message: &Message) -> usize {
    match message {
        Message::Bitfield { words, .. } => 4 * words.len(),
        Message::Data(data) => data.proof.block.as_ref().map_or(0, |one| one.value.len()),
        _ => 16,
    }
}

fn ask(id: u64, index: u64) -> Message {
    Message::Request(Request {
        id,
        proof: ProofRequest {
            block: Some(BlockRequest { index, nodes: 0 }),
            ..ProofRequest::default()
        },
        ..Request::default()
    })
}

fn is_too_many(ended: Option<&ProtocolViolation>) -> bool {
    matches!(ended, Some(ProtocolViolation::TooManyRequests { .. }))
}

#[test]
fn a_peer_that_reads_no_refusals_is_cut_before_much_waits() {
    let mut holder = Holder::of(1000, 100);
    holder.writable(false);
    let ended = holder.flood(|id| ask(id, 1));
    assert!(is_too_many(ended.as_ref()), "{ended:?}");
    assert!(holder.waits <= URGENT_BYTES_MAX, "{}", holder.waits);
}

#[test]
fn refused_sets_that_are_not_read_end_the_connection_too() {
    let mut holder = Holder::of(1000, 100);
    holder.replicator.handle_kinlog_open(holder.now, PEER, KEY);
    holder.drain();
    holder.writable(false);
    let set = BlockSet::new(vec![Group::new(4, vec![1..2, 3..4]).unwrap()]).unwrap();
    let mut ended = None;
    for id in 1..1_000_000 {
        let request = SetRequest {
            id,
            fork: 0,
            is_urgent: false,
            set: set.clone(),
        };
        let said = FeedMessage::AskSet(request);
        let taken = holder
            .replicator
            .handle_kinlog_message(holder.now, PEER, &KEY, said);
        ended = taken.err();
        if ended.is_some() {
            break;
        }
        holder.drain();
    }
    assert!(is_too_many(ended.as_ref()), "{ended:?}");
    assert!(holder.waits <= 4 * URGENT_BYTES_MAX, "{}", holder.waits);
}

#[test]
fn refusals_that_are_read_go_on_for_ever() {
    let mut holder = Holder::of(1000, 100);
    for id in 0..200_000 {
        assert_eq!(holder.say(ask(id, 1)), Ok(()));
        if id % 64 == 0 {
            holder.drain();
            holder.now = holder.now + Duration::from_millis(1);
            holder.replicator.handle_timeout(holder.now);
        }
    }
    holder.drain();
    assert_eq!(holder.waits, 200_000 * 16, "each is answered");
}

#[test]
fn what_is_held_is_told_no_faster_than_it_may_wait() {
    // 256 KiB of bits for 12 bytes of wanting.
    let mut holder = Holder::of(1 << 21, 100);
    let want = Want {
        start: 0,
        length: 1 << 21,
        any: false,
    };
    let of = |number| match number % 2 {
        0 => Message::Want(want),
        _ => Message::Unwant(want),
    };
    let ended = holder.flood(of);
    assert!(is_too_many(ended.as_ref()), "{ended:?}");
    let waits = holder.waits;
    assert!(
        (PROMPT_BYTES_MAX / 2..=PROMPT_BYTES_MAX).contains(&waits),
        "{waits}"
    );
}

#[test]
fn what_is_held_is_told_once_the_connection_takes_more() {
    let mut holder = Holder::of(1 << 21, 100);
    holder.writable(false);
    let length = 1 << 21;
    let want = |any| {
        Message::Want(Want {
            start: 0,
            length,
            any,
        })
    };
    holder.say(want(false)).unwrap();
    holder.drain();
    assert_eq!(holder.waits, 0);
    holder.writable(true);
    holder.drain();
    assert_eq!(holder.waits, 256 * 1024);
}

#[test]
fn what_waits_for_time_comes_with_the_next_tick() {
    let mut holder = Holder::of(1 << 21, 100);
    let length = 1 << 21;
    let want = Want {
        start: 0,
        length,
        any: false,
    };
    for _ in 0..6 {
        holder.say(Message::Want(want)).unwrap();
        holder.say(Message::Unwant(want)).unwrap();
    }
    holder.drain();
    assert!(holder.waits <= PROMPT_BYTES_MAX);
    holder.now = holder.replicator.poll_timeout().unwrap();
    assert!(holder.now <= Time::ZERO + 2 * REPLICATE_TICK);
    holder.replicator.handle_timeout(holder.now);
    holder.drain();
    assert_eq!(holder.waits, 6 * 256 * 1024);
}

#[test]
fn large_blocks_in_a_feed_of_small_ones_are_read_few_at_once() {
    const LARGE: usize = 1024 * 1024;
    let mut holder = Holder::of(1000, 100);
    let value = Bytes::from(vec![0; LARGE]);
    let mut id = 0;
    let mut asked = 0;
    for round in 0..20 {
        while asked < 900 {
            id += 1;
            asked += 1;
            holder.say(ask(id, 2 * (asked % 500))).unwrap();
        }
        holder.drain();
        // A driver reads as much as one peer may have read at once, and no more.
        let (mut bytes, before) = (0, holder.waits);
        for (read, index) in std::mem::take(&mut holder.reads) {
            let block = Some(BlockProof {
                index,
                value: value.clone(),
                nodes: Vec::new(),
            });
            let proof = Proof {
                block,
                ..Proof::default()
            };
            let result = match bytes < READ_BYTES_PER_PEER_MAX {
                true => Ok((proof, None)),
                false => Err(NotAvailable::Postponed),
            };
            bytes += LARGE;
            holder.replicator.handle_read(holder.now, read, result);
        }
        let came = holder.replicator.load();
        holder.drain();
        asked -= ((holder.waits - before) / LARGE) as u64;
        assert!(
            holder.waits - before <= 2 * LARGE,
            "{}",
            holder.waits - before
        );
        let reads = holder.reads.len();
        assert!(round == 0 || reads <= 1, "{reads} at once, {came:?}");
    }
    assert!(holder.waits >= 20 * LARGE, "all the while it goes on");
}

#[test]
fn what_was_postponed_is_read_again_in_its_order() {
    let mut holder = Holder::of(1000, 100);
    for id in 0..10 {
        holder.say(ask(id, 2 * id)).unwrap();
    }
    holder.drain();
    for (read, _) in std::mem::take(&mut holder.reads) {
        let result = Err(NotAvailable::Postponed);
        holder.replicator.handle_read(holder.now, read, result);
    }
    holder.drain();
    let again: Vec<u64> = holder.reads.iter().map(|(_, block)| *block).collect();
    assert_eq!(again, (0..10).map(|id| 2 * id).collect::<Vec<_>>());
    assert_eq!(holder.waits, 0, "nothing was refused");
}
