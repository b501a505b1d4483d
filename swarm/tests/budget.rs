//! What hostile peers make a whole node keep, counted by the allocator (goal 12): a test binary of its own,
//! as it counts every allocation. Links, sessions, replication and store of the node are in it, and so is
//! what the peers themselves keep.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{Interest, Want};
use kinlog_feeds::store::{MemoryDisk, Options, Store};
use kinlog_feeds::tree::{BlockProof, BlockRequest, Proof, ProofRequest};
use kinlog_feeds::wire::hypercore::{self, Data, Message, Request};
use kinlog_feeds::wire::{ChannelId, Connection};
use kinlog_swarm::link::memory::{self, MemoryLink};
use kinlog_swarm::link::{Link, LinkError};
use kinlog_swarm::{
    Credentials, Host, Label, Node, NodeEvent, PeerMessage, SessionInfo, SessionRole,
};
use peak_alloc::PeakAlloc;
use support::raw::Raw;
use support::{PATIENCE, blocks, config, own_feed};
use tokio::sync::{Mutex, MutexGuard};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// Before a peer has shown that it knows anything, the session round it and its link among it.
const STRANGER_BYTES_MAX: usize = 64 * KIB + 32 * KIB;

/// Afterwards, and what a link takes of somebody who does not read.
const PEER_BYTES_MAX: usize = 4 * MIB + MIB;

/// Messages of all peers together that wait for the replication.
const WAITING_BYTES_MAX: usize = 2 * MIB;

/// Hostile peers at once.
const CROWD: usize = 50;

/// All of them, and the node.
const PROCESS_BYTES_MAX: usize = 256 * MIB;

const BLOCKS: u64 = 2_000;

/// A peer whose link takes nothing for so long has said what it can.
const TAKES_NOTHING: Duration = Duration::from_millis(500);

/// One test at a time, where all run in one process: they count its memory.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Serves and wants one feed, and shows everybody a large identity set.
#[derive(Debug)]
struct Generous(FeedKey);

impl Host for Generous {
    fn serves(&self, _: &SessionInfo) -> Vec<FeedKey> {
        vec![self.0]
    }

    fn wants(&self, _: &SessionInfo) -> Vec<FeedKey> {
        vec![self.0]
    }

    fn identity(&self, _: &SessionInfo) -> Option<Credentials> {
        None
    }

    fn handle_session_open(&self, _: &SessionInfo) {}

    fn handle_session_closed(&self, _: &SessionInfo) {}

    fn handle_peer_message(&self, _: &SessionInfo, message: PeerMessage) -> Vec<PeerMessage> {
        match message {
            PeerMessage::IdentityGet => vec![PeerMessage::IdentitySet {
                bytes: Bytes::from(vec![7; 60 * KIB]),
            }],
            _ => Vec::new(),
        }
    }
}

fn ask(number: u64) -> Message {
    let index = number * 7 % BLOCKS;
    let block = Some(BlockRequest { index, nodes: 0 });
    Message::Request(Request {
        // The id is repeated in the answer: large ones take most.
        id: (1 << 52) + number,
        proof: ProofRequest {
            block,
            ..ProofRequest::default()
        },
        ..Request::default()
    })
}

fn want(number: u64) -> Message {
    let region = hypercore::Want {
        start: (number / 2 % 80) << 21,
        length: 1 << 21,
        any: false,
    };
    match number % 2 {
        0 => Message::Want(region),
        _ => Message::Unwant(region),
    }
}

/// Bits of which every second is set.
fn gaps(number: u64) -> Message {
    Message::Bitfield {
        start: number * 32_768,
        words: vec![0x5555_5555; 1024],
    }
}

fn unasked(number: u64) -> Message {
    let block = Some(BlockProof {
        index: number,
        value: Bytes::from(vec![0; 8 * KIB]),
        nodes: Vec::new(),
    });
    Message::Data(Data {
        request: 1_000 + number,
        proof: Proof {
            block,
            ..Proof::default()
        },
        manifest: None,
    })
}

/// Says the message of this number.
type Say = fn(&mut Connection, [ChannelId; 2], u64) -> bool;

fn of_feed(connection: &mut Connection, channel: ChannelId, message: &Message) -> bool {
    connection.send_message(channel, message).is_ok()
}

/// What somebody says who reads nothing, how often, and how often before it is sent: some 64 KiB or less.
type Flood = (&'static str, Say, u64, u64);

/// All that is said.
const FLOODS: [Flood; 6] = [
    (
        "asks for blocks",
        |it, [_, feed], number| of_feed(it, feed, &ask(number)),
        20_000,
        512,
    ),
    (
        "asks what is held",
        |it, [_, feed], number| of_feed(it, feed, &want(number)),
        20_000,
        512,
    ),
    (
        "claims every second block",
        |it, [_, feed], number| of_feed(it, feed, &gaps(number)),
        2_000,
        8,
    ),
    (
        "sends what nobody asked for",
        |it, [_, feed], number| of_feed(it, feed, &unasked(number)),
        1_000,
        8,
    ),
    (
        // Protobuf field 4 of a peer message, empty.
        "asks for the identity set",
        |it, [peer, _], _| it.send(peer, 1, &[0x22, 0]).is_ok(),
        4_096,
        512,
    ),
    (
        "asks for feeds that nobody knows",
        |it, [peer, _], number| {
            let tag = number.to_le_bytes();
            it.send(peer, 1, &[&[0x0a, 10, 0x0a, 8][..], &tag].concat())
                .is_ok()
        },
        20_000,
        512,
    ),
];

struct Hostile {
    peer: Raw,
    channels: [ChannelId; 2],
    say: Say,
    times: u64,
    at_once: u64,
}

impl Hostile {
    async fn meet(node: &Node, key: FeedKey, number: usize) -> Hostile {
        let mut peer = Raw::attach_to(node, Label::Feed, key.0).await;
        let channel = peer.hello(Label::Feed, key.0).await;
        peer.want(channel, &[key]).await;
        let feed = peer.accept_feed(key).await;
        let (_, say, times, at_once) = FLOODS[number % FLOODS.len()];
        let channels = [channel, feed];
        peer.events = Vec::new();
        Hostile {
            peer,
            channels,
            say,
            times,
            at_once,
        }
    }

    /// Says all of it, or what the link takes; reads nothing.
    async fn flood(&mut self) {
        let Raw {
            link, connection, ..
        } = &mut self.peer;
        for number in 0..self.times {
            if !(self.say)(connection, self.channels, number) {
                return;
            }
            if number % self.at_once == 0 && !send(link, connection).await {
                return;
            }
        }
    }
}

/// Returns whether the other side took it.
async fn send(link: &MemoryLink, connection: &mut Connection) -> bool {
    while let Some(bytes) = connection.poll_transmit() {
        for part in bytes.chunks(link.max_message()) {
            let sent = link.send(BytesMut::from(part));
            if !matches!(tokio::time::timeout(TAKES_NOTHING, sent).await, Ok(Ok(()))) {
                return false;
            }
        }
    }
    true
}

fn server() -> (Node, FeedKey) {
    // Nothing of the store's own is made in another thread, later.
    let mut options = Options::new([1; 16]).without_keeper();
    options.grow_ahead = false;
    let store = Store::open(Arc::new(MemoryDisk::new()), options).unwrap();
    let (feed, signer) = own_feed(&store, 41);
    feed.append_batch(&signer, &blocks(0xa1, BLOCKS as usize, 4 * KIB))
        .unwrap();
    let key = feed.key();
    let node = Node::start(config(1, &[]), store, Arc::new(Generous(key))).unwrap();
    let (want, live) = (Want::All, true);
    node.set_interest(key, Interest { want, live });
    (node, key)
}

/// Returns what is allocated once nothing more of what came before is given back.
async fn allocated() -> usize {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let (mut before, mut same) = (usize::MAX, 0);
    while same < 10 {
        looks.tick().await;
        let now = ALLOCATOR.current_usage();
        same = if now.abs_diff(before) < KIB {
            same + 1
        } else {
            0
        };
        before = now;
    }
    before
}

/// Lets peers of these numbers flood at once; returns the most bytes that there were more than before.
async fn flooded(numbers: impl Iterator<Item = usize>) -> usize {
    let (node, key) = server();
    let mut events = node.subscribe();
    let before = allocated().await;
    ALLOCATOR.reset_peak_usage();
    let mut crowd = Vec::new();
    for number in numbers {
        crowd.push(Hostile::meet(&node, key, number).await);
    }
    let flooding = crowd.into_iter().map(|mut hostile| {
        tokio::spawn(async move {
            hostile.flood().await;
            hostile
        })
    });
    let mut crowd = Vec::new();
    for flooding in flooding.collect::<Vec<_>>() {
        let done = tokio::time::timeout(PATIENCE, flooding).await;
        crowd.push(done.expect("a flood ends").unwrap());
    }
    // What was taken is still being worked on.
    allocated().await;
    let open = node.status().await.sessions.len();
    let most = ALLOCATOR.peak_usage() - before;
    let mut reasons = BTreeMap::new();
    while let Ok(event) = events.try_recv() {
        if let NodeEvent::SessionClosed { reason, .. } = event {
            *reasons.entry(reason).or_insert(0) += 1;
        }
    }
    println!("{} KiB, {open} still open, cut: {reasons:?}", most / KIB);
    drop(crowd);
    node.shutdown().await;
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_floods_a_node_and_reads_nothing_is_given_more_than_the_budget() {
    let _alone = alone().await;
    for (number, (what, ..)) in FLOODS.iter().enumerate() {
        print!("{what}: ");
        let most = flooded(std::iter::once(number)).await;
        let bound = PEER_BYTES_MAX + WAITING_BYTES_MAX;
        assert!(most <= bound, "{what}: {most} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_who_flood_a_node_stay_within_the_budget_of_the_process() {
    let _alone = alone().await;
    let most = flooded(0..CROWD).await;
    assert!(most <= CROWD * PEER_BYTES_MAX, "{most} bytes");
    assert!(most <= PROCESS_BYTES_MAX, "{most} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_strangers_take_what_their_beginnings_may() {
    let _alone = alone().await;
    let (node, key) = server();
    let before = allocated().await;
    ALLOCATOR.reset_peak_usage();
    let mut strangers = Vec::new();
    for _ in 0..CROWD {
        let (ours, theirs) = memory::pair();
        let (label, role) = (Label::Feed, SessionRole::Responder);
        node.attach(Arc::new(theirs), label, key.0, role)
            .await
            .unwrap();
        // A frame of nearly 64 KiB that does not end.
        let mut beginning = BytesMut::from(&[0x00, 0xff, 0x00][..]);
        beginning.resize(60 * KIB, 7);
        for part in beginning.chunks(1_000) {
            let sent: Result<(), LinkError> = ours.send(BytesMut::from(part)).await;
            sent.unwrap();
        }
        strangers.push(ours);
    }
    allocated().await;
    let most = (ALLOCATOR.peak_usage() - before) / CROWD;
    println!("{} KiB each", most / KIB);
    assert!(most <= STRANGER_BYTES_MAX, "{most} bytes each");
    assert_eq!(node.status().await.sessions.len(), CROWD);
    drop(strangers);
    node.shutdown().await;
}
