//! A relay that looks, changes or deceives: what it can see, and what comes of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use crate::support::raw::Raw;
use crate::support::{PATIENCE, TestNode, assert_same_blocks, own_feed};
use bytes::BytesMut;
use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::Want;
use kinlog_feeds::wire::{ChannelId, Event};
use kinlog_swarm::limits::CIRCUITS_PER_SESSION_MAX;
use kinlog_swarm::link::Link;
use kinlog_swarm::{Label, NodeEvent, Step};

const MEETING: [u8; 32] = [9; 32];
/// The side introduces and relays.
const FEATURES: u64 = 4 | 8;
const CANARY: &[u8] = b"a word between the two of them";
const BLOCKS: usize = 40;

/// What the relay does to what it carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Does {
    Carry,
    /// Changes a byte of whatever it carries.
    Change,
    /// Says that the second one is somebody else.
    Deceive,
}

/// A relay with a session with each of two nodes.
struct Relay {
    sides: [Raw; 2],
    channels: [ChannelId; 2],
    statics: [[u8; 32]; 2],
    does: Does,
    /// All that it was given to carry.
    seen: Vec<u8>,
}

impl Relay {
    /// The nodes are taken in the order of their statics: the first one offers.
    async fn between(nodes: [&TestNode; 2], does: Does) -> (Relay, bool) {
        let mut sides = Vec::new();
        for node in nodes {
            let mut raw = Raw::attach(node, Label::Feed, MEETING).await;
            let channel = raw.hello_with(Label::Feed, MEETING, FEATURES).await;
            let its = |event: &Event| match event {
                Event::HandshakeComplete { remote_static, .. } => Some(*remote_static),
                _ => None,
            };
            let its_static = raw.events.iter().find_map(its).unwrap();
            sides.push((its_static, raw, channel));
        }
        let is_turned = sides[0].0 > sides[1].0;
        sides.sort_by_key(|(its_static, ..)| *its_static);
        let [one, two] = <[_; 2]>::try_from(sides).ok().unwrap();
        let mut statics = [one.0, two.0];
        if does == Does::Deceive {
            statics[1] = [0xff; 32];
        }
        let mut relay = Relay {
            sides: [one.1, two.1],
            channels: [one.2, two.2],
            statics,
            does,
            seen: Vec::new(),
        };
        for side in [0, 1] {
            // PeerFound with one peer, as `messages_have_these_bytes` has it.
            let mut found = vec![0xc2, 0x01, 38, 0x12, 36, 0x0a, 32];
            found.extend_from_slice(&relay.statics[1 - side]);
            found.extend_from_slice(&[0x10, 1]);
            relay.send(side, &found);
        }
        (relay, is_turned)
    }

    fn send(&mut self, side: usize, message: &[u8]) {
        let channel = self.channels[side];
        self.sides[side]
            .connection
            .send(channel, 1, message)
            .unwrap();
    }

    /// Takes what one side said: circuits are carried, introductions are not.
    fn handle(&mut self, side: usize, body: &[u8]) {
        let is_circuit = |tag: u8| matches!(tag, 0xd2 | 0xda | 0xe2 | 0xea | 0xf2 | 0xfa);
        if !(is_circuit(body[0]) && body[1] == 1) {
            return;
        }
        let length = body[2..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (head, inner) = body.split_at(2 + length);
        assert_eq!(inner[..2], [0x0a, 32], "to a peer");
        self.seen.extend_from_slice(&inner[34..]);
        let mut carried = head.to_vec();
        carried.extend_from_slice(&[0x12, 32]);
        carried.extend_from_slice(&self.statics[side]);
        carried.extend_from_slice(&inner[34..]);
        if self.does == Does::Change && body[0] == 0xea {
            *carried.last_mut().unwrap() ^= 1;
        }
        self.send(1 - side, &carried);
    }

    async fn carry_until(&mut self, mut done: impl FnMut() -> bool) {
        let mut every = tokio::time::interval(std::time::Duration::from_millis(5));
        let carry = async {
            while !done() {
                for side in [0, 1] {
                    let channel = self.channels[side];
                    while let Ok(Some(event)) = self.sides[side].connection.poll_event() {
                        if let Event::Message {
                            channel: on,
                            message_type: 1,
                            body,
                        } = event
                            && on == channel
                        {
                            self.handle(side, &body);
                        }
                    }
                }
                for side in &mut self.sides {
                    while let Some(bytes) = side.connection.poll_transmit() {
                        for part in bytes.chunks(side.link.max_message()) {
                            side.link.send(BytesMut::from(part)).await.unwrap();
                        }
                    }
                }
                let [one, two] = &mut self.sides;
                let now = kinlog_feeds::Time::ZERO;
                tokio::select! {
                    bytes = one.link.recv() => {
                        one.connection.handle_bytes(now, &bytes.unwrap().unwrap()).unwrap();
                    }
                    bytes = two.link.recv() => {
                        two.connection.handle_bytes(now, &bytes.unwrap().unwrap()).unwrap();
                    }
                    _ = every.tick() => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, carry)
            .await
            .expect("it comes about");
    }
}

struct Both {
    author: TestNode,
    reader: TestNode,
    key: FeedKey,
}

fn both() -> Both {
    let [author, reader] = [1, 2].map(|seed| {
        let node = TestNode::start(seed, &[]);
        node.node.join(Label::Feed, MEETING);
        node
    });
    let (feed, signer) = own_feed(&author.store, 9);
    let blocks: Vec<_> = (0..BLOCKS)
        .map(|n| [CANARY, &[n as u8; 900]].concat().into())
        .collect();
    feed.append_batch(&signer, &blocks).unwrap();
    author.serve(feed.key());
    reader.follow(feed.key(), Want::All);
    let key = feed.key();
    Both {
        author,
        reader,
        key,
    }
}

fn held(node: &TestNode, key: FeedKey) -> u64 {
    node.store.feed(&key).unwrap().info().blocks_held
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// Waits until the one that offers has been told why it is not connected by the circuit.
async fn not_connected(both: &mut Both, does: Does) -> String {
    let (mut relay, is_turned) = Relay::between([&both.author, &both.reader], does).await;
    let (author, reader) = (&mut both.author.events, &mut both.reader.events);
    let events = if is_turned { reader } else { author };
    let mut reasons = Vec::new();
    let direct = "no connection within";
    relay
        .carry_until(|| {
            while let Ok(event) = events.try_recv() {
                if let NodeEvent::StepFailed {
                    step: Step::NotConnected { reason, .. },
                } = event
                {
                    reasons.push(reason);
                }
            }
            reasons.iter().any(|reason| !reason.starts_with(direct))
        })
        .await;
    assert!(!relay.seen.is_empty());
    assert!(!contains(&relay.seen, CANARY));
    assert_eq!(held(&both.reader, both.key), 0);
    reasons.retain(|reason| !reason.starts_with(direct));
    reasons.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_is_given_sealed_bytes_alone() {
    let both = both();
    let (mut relay, _) = Relay::between([&both.author, &both.reader], Does::Carry).await;
    let whole = BLOCKS as u64;
    relay
        .carry_until(|| held(&both.reader, both.key) == whole)
        .await;
    assert_same_blocks(&both.author.store, &both.reader.store, both.key, whole);
    assert!(relay.seen.len() > BLOCKS * 900);
    for secret in [CANARY, &both.key.0[..], &MEETING[..]] {
        assert!(!contains(&relay.seen, secret));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_that_changes_what_it_carries_ends_the_session_and_nothing_is_taken() {
    let mut both = both();
    not_connected(&mut both, Does::Change).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_than_the_one_introduced_is_told_nothing() {
    let mut both = both();
    let reason = not_connected(&mut both, Does::Deceive).await;
    assert_eq!(reason, "the other side is not the peer that was introduced");
}

/// A peer that introduces, and what it says.
struct Introducing {
    raw: Raw,
    channel: ChannelId,
}

impl Introducing {
    async fn to(node: &TestNode) -> Introducing {
        let mut raw = Raw::attach(node, Label::Feed, MEETING).await;
        let channel = raw.hello_with(Label::Feed, MEETING, FEATURES).await;
        Introducing { raw, channel }
    }

    fn say(&mut self, parts: &[&[u8]]) {
        let message = parts.concat();
        self.raw.connection.send(self.channel, 1, &message).unwrap();
    }

    /// Counts what was said to it by the first byte of its kind.
    async fn hears(&mut self, kind: u8, count: usize) {
        let is_it = |event: &&Event| match event {
            Event::Message { body, .. } => body.first() == Some(&kind),
            _ => false,
        };
        let done = |events: &[Event]| events.iter().filter(is_it).count() >= count;
        self.raw.until(done).await;
    }
}

/// Each circuit is a whole session with its handshake: one peer is not to take all that a node has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_opens_eight_circuits_to_a_node_and_no_more() {
    const OPENED: u8 = 30;
    let node = TestNode::start(1, &[]);
    node.node.join(Label::Feed, MEETING);
    let mut peer = Introducing::to(&node).await;
    for number in 1..=OPENED {
        // CircuitOpen from somebody with a smaller static.
        let head = [0xd2, 0x01, 36, 0x12, 32];
        peer.say(&[&head, &[0; 31], &[number], &[0x18, number]]);
    }
    peer.hears(0xe2, usize::from(OPENED) - CIRCUITS_PER_SESSION_MAX)
        .await;
    peer.hears(0xda, CIRCUITS_PER_SESSION_MAX).await;
    let sessions = node.status().await.sessions.len();
    assert!(sessions <= 1 + CIRCUITS_PER_SESSION_MAX, "{sessions}");
}

/// Device keys stand in public documents: who is in a public meeting is nobody's word to give.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_public_meeting_nobody_is_taken_for_a_person_because_a_peer_says_so() {
    let node = TestNode::start(1, &[]);
    node.node.join(Label::Feed, MEETING);
    let mut peer = Introducing::to(&node).await;
    // PeerFound with one peer, and the device that it is said to be.
    let head = [0xc2, 0x01, 72, 0x12, 70, 0x0a, 32];
    peer.say(&[&head, &[0xfe; 32], &[0x10, 1, 0x22, 32], &[7; 32]]);
    // CircuitOpen that is refused: what was said before it is taken by then.
    peer.say(&[&[0xd2, 0x01, 36, 0x12, 32], &[0xff; 32], &[0x18, 1]]);
    peer.hears(0xe2, 1).await;
    let shown = node.status().await.peers;
    let invented = kinlog_feeds::text::encode(&[0xfe; 32]);
    let invented = shown.iter().find(|one| one.peer == invented);
    assert_eq!(invented.map(|one| one.device.as_deref()), Some(None));
}
