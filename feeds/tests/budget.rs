//! What a peer can make us keep: 64 KiB while it is a stranger, 4 MiB afterwards, 256 MiB all together. A
//! test binary of its own, because it counts every allocation; what the peers themselves keep is counted
//! too and belongs to the bound.
#![allow(clippy::unwrap_used, clippy::panic)] // Tests fail by panicking.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::limits::{
    FRAME_BYTES_DEFAULT, IN_FLIGHT_BYTES_MAX, REMOTE_PAGES_MAX, UNAPPLIED_BYTES_MAX,
    UNAUTHENTICATED_BYTES_MAX,
};
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::replicate::{Config, Interest, Output, PeerId, Replicator, Want};
use kinlog_feeds::store::{Feed, Kind, MemoryDisk, Options, Role as StoreRole, Store};
use kinlog_feeds::tree::{BlockProof, BlockRequest, Proof, ProofRequest};
use kinlog_feeds::wire::hypercore::{self, Data, Message, Request, Synchronize};
use kinlog_feeds::wire::{self, ChannelId, Connection, Event, Role};
use kinlog_feeds::{FeedKey, KeyPair, Time};
use peak_alloc::PeakAlloc;
use testkit::work::{Work, feed_state};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// Before a peer has shown that it knows anything.
const STRANGER_BYTES_MAX: usize = 64 * KIB;

/// Afterwards: 2 MiB either way.
const PEER_BYTES_MAX: usize = 4 * MIB;

/// Hostile peers at once.
const CROWD: usize = 50;

/// What a link takes of somebody who does not read: a data channel's send buffer.
const LINK_BYTES: usize = MIB;

const BLOCKS: u64 = 2000;
const BLOCK_BYTES: usize = 4 * KIB;

/// One test at a time, where all run in one process: they count its memory.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn side(role: Role, number: u8) -> Connection {
    let config = wire::Config::new(role, [number; 32], [number; 32], [number; 24]);
    Connection::new(Time::ZERO, config)
}

/// One connection with a peer, both ends of it.
struct Peer {
    /// Ours.
    near: Connection,
    /// The peer's.
    far: Connection,
    channels: Option<[ChannelId; 2]>,
    /// Bytes that the link took and nobody reads.
    link: usize,
    reads: bool,
    writable: bool,
    cut: bool,
}

impl Peer {
    fn new(number: u8) -> Peer {
        Peer {
            near: side(Role::Responder, 100 + number),
            far: side(Role::Initiator, number),
            channels: None,
            link: 0,
            reads: true,
            writable: true,
            cut: false,
        }
    }

    /// Brings bytes over; returns what came at our end.
    fn exchange(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let mut moved = false;
            while let Some(bytes) = self.far.poll_transmit() {
                moved = true;
                if self.near.handle_bytes(Time::ZERO, &bytes).is_err() {
                    self.cut = true;
                    return events;
                }
                loop {
                    match self.near.poll_event() {
                        Ok(Some(event)) => events.push(event),
                        Ok(None) => break,
                        Err(_) => {
                            self.cut = true;
                            return events;
                        }
                    }
                }
            }
            while self.reads || self.link < LINK_BYTES {
                let Some(bytes) = self.near.poll_transmit() else {
                    break;
                };
                if self.reads {
                    moved = true;
                    self.far.handle_bytes(Time::ZERO, &bytes).unwrap();
                    while self.far.poll_event().unwrap().is_some() {}
                } else {
                    self.link += bytes.len();
                }
            }
            if !moved {
                return events;
            }
        }
    }

    fn open(&mut self, key: &FeedKey) {
        self.exchange();
        let id = key.discovery_key();
        let far = self.far.open("hypercore/alpha", Some(&id.0), b"").unwrap();
        self.exchange();
        let near = self.near.open("hypercore/alpha", Some(&id.0), b"").unwrap();
        self.exchange();
        self.channels = Some([near, far]);
    }
}

/// A node with a feed, and everybody who is connected to it.
struct Node {
    replicator: Replicator,
    feed: Feed,
    peers: BTreeMap<PeerId, Peer>,
}

impl Node {
    fn new() -> Node {
        let store = Store::open(Arc::new(MemoryDisk::new()), Options::new([1; 16])).unwrap();
        let signer = KeyPair::from_seed(&[5; 32]);
        let manifest = Manifest::single(signer.public_key());
        let feed = store
            .create_feed(&manifest, StoreRole::Own, Kind::Kinlog)
            .unwrap();
        let block = Bytes::from(vec![7; BLOCK_BYTES]);
        for _ in 0..BLOCKS / 100 {
            feed.append_batch(&signer, &vec![block.clone(); 100])
                .unwrap();
        }
        // Every second one is held: what is not may be asked for.
        for block in (0..BLOCKS).step_by(2) {
            feed.clear(block..block + 1).unwrap();
        }
        let mut replicator = Replicator::new(Config::default());
        replicator.add_feed(feed.key(), feed_state(&feed));
        Node {
            replicator,
            feed,
            peers: BTreeMap::new(),
        }
    }

    fn meet(&mut self, id: PeerId) {
        let mut peer = Peer::new(id.0 as u8);
        peer.open(&self.feed.key());
        self.peers.insert(id, peer);
        self.replicator
            .handle_channel_open(Time::ZERO, id, self.feed.key());
        self.work();
    }

    /// The peer says something, and all that follows from it happens.
    fn hear(&mut self, id: PeerId, messages: impl IntoIterator<Item = Message>) {
        let key = self.feed.key();
        let peer = self.peers.get_mut(&id).unwrap();
        let [_, far] = peer.channels.unwrap();
        for message in messages {
            if !peer.cut {
                peer.far.send_message(far, &message).unwrap();
            }
        }
        for event in peer.exchange() {
            let Event::Message {
                message_type, body, ..
            } = event
            else {
                continue;
            };
            let Ok(Some(message)) = Message::decode(message_type, &body) else {
                continue;
            };
            let taken = self
                .replicator
                .handle_message(Time::ZERO, id, &key, message);
            if taken.is_err() {
                peer.cut = true;
                break;
            }
        }
        self.work();
    }

    fn work(&mut self) {
        while let Some(output) = self.replicator.poll_output() {
            match output {
                Output::Send { peer, message, .. } => {
                    let Some(peer) = self.peers.get_mut(&peer) else {
                        continue;
                    };
                    let [near, _] = peer.channels.unwrap();
                    peer.cut |= peer.near.send_message(near, &message).is_err();
                    peer.exchange();
                }
                Output::Violation { peer, .. } => self.peers.get_mut(&peer).unwrap().cut = true,
                other => {
                    if let Ok(work) = Work::of(other) {
                        work.carry_out(&self.feed)
                            .tell(Time::ZERO, &mut self.replicator);
                    }
                }
            }
            for (id, peer) in &mut self.peers {
                if peer.near.is_writable() != peer.writable {
                    peer.writable = !peer.writable;
                    let writable = peer.writable;
                    self.replicator.handle_writable(Time::ZERO, *id, writable);
                }
            }
        }
        let cut: Vec<PeerId> = self.cut().collect();
        for id in cut {
            self.replicator.handle_peer_gone(Time::ZERO, id);
        }
    }

    fn cut(&self) -> impl Iterator<Item = PeerId> {
        let cut = self.peers.iter().filter(|(_, peer)| peer.cut);
        cut.map(|(id, _)| *id)
    }
}

/// The id of a request is repeated in its answer: large ones take most.
const LARGE: u64 = 1 << 52;

fn ask(id: u64, index: u64) -> Message {
    let block = Some(BlockRequest { index, nodes: 0 });
    Message::Request(Request {
        id: LARGE + id,
        proof: ProofRequest {
            block,
            ..ProofRequest::default()
        },
        ..Request::default()
    })
}

/// Bits of which every second is set, all over the range that is followed.
fn gaps(number: u64) -> Message {
    Message::Bitfield {
        start: number * 32_768,
        words: vec![0x5555_5555; 1024],
    }
}

/// Single blocks far apart.
fn scattered(number: u64) -> Message {
    Message::Range(hypercore::Range {
        drop: false,
        start: number * 40_000,
        length: 1,
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

/// An empty block, and a large one.
fn unasked(number: u64) -> Message {
    let bytes = [0, FRAME_BYTES_DEFAULT / 8][number as usize % 2];
    let block = Some(BlockProof {
        index: number,
        value: Bytes::from(vec![0; bytes]),
        nodes: Vec::new(),
    });
    Message::Data(Data {
        request: 1000 + number,
        proof: Proof {
            block,
            ..Proof::default()
        },
        manifest: None,
    })
}

fn empty(number: u64) -> Message {
    match number % 3 {
        0 => Message::Extension {
            name: Bytes::new(),
            payload: Bytes::new(),
        },
        1 => Message::Bitfield {
            start: 0,
            words: Vec::new(),
        },
        _ => Message::Cancel(number),
    }
}

/// What somebody says who reads nothing, and how often.
type Flood = (&'static str, fn(u64) -> Message, u64);

/// All that is said.
const FLOODS: [Flood; 8] = [
    (
        "blocks that are held",
        |id| ask(id, id * 2 % BLOCKS + 1),
        20_000,
    ),
    (
        "blocks that are not held",
        |id| ask(id, id * 2 % BLOCKS),
        1_000_000,
    ),
    (
        "blocks that there are not",
        |id| ask(id, BLOCKS + id),
        1_000_000,
    ),
    ("what is held, again and again", want, 200_000),
    ("gaps", gaps, 4 * REMOTE_PAGES_MAX as u64),
    ("scattered blocks", scattered, 100_000),
    ("what nobody asked for", unasked, 2_000),
    ("nothing", empty, 200_000),
];

#[test]
fn nobody_who_floods_and_reads_nothing_is_given_more_than_four_mebibytes() {
    let _alone = alone();
    for (what, flood, times) in FLOODS {
        let mut node = Node::new();
        let id = PeerId(1);
        node.meet(id);
        node.peers.get_mut(&id).unwrap().reads = false;
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let mut said = 0;
        while said < times && !node.peers[&id].cut {
            node.hear(id, (said..said + 100).map(flood));
            said += 100;
        }
        let most = ALLOCATOR.peak_usage() - before;
        let cut = node.peers[&id].cut;
        println!("{what}: {} KiB after {said}, cut: {cut}", most / KIB);
        assert!(most <= PEER_BYTES_MAX, "{what}: {most} bytes");
    }
}

#[test]
fn fifty_who_flood_and_read_nothing_take_no_more_each() {
    let _alone = alone();
    let mut node = Node::new();
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    for number in 0..CROWD as u64 {
        node.meet(PeerId(number));
        node.peers.get_mut(&PeerId(number)).unwrap().reads = false;
    }
    for round in 0..60 {
        for number in 0..CROWD as u64 {
            if node.peers[&PeerId(number)].cut {
                continue;
            }
            let (_, flood, _) = FLOODS[number as usize % FLOODS.len()];
            let said = round * 100..(round + 1) * 100;
            node.hear(PeerId(number), said.map(flood));
        }
    }
    let most = ALLOCATOR.peak_usage() - before;
    let cut = node.cut().count();
    println!("{} KiB each of {CROWD}, {cut} cut", most / KIB / CROWD);
    assert!(most <= CROWD * PEER_BYTES_MAX, "{most} bytes");
    assert!(most <= 256 * MIB);
}

/// A reader of what a hostile peer promises: it answers every second request, so that what comes leads
/// nowhere and waits for the rest.
#[test]
fn answers_with_gaps_wait_within_the_budget() {
    let _alone = alone();
    let source = Node::new();
    let key = source.feed.key();
    let store = Store::open(Arc::new(MemoryDisk::new()), Options::new([2; 16])).unwrap();
    let feed = store
        .create_unknown(key, StoreRole::Followed, Kind::Kinlog)
        .unwrap();
    let mut replicator = Replicator::new(Config::default());
    replicator.add_feed(key, feed_state(&feed));
    let (id, mut now) = (PeerId(1), Time::ZERO);
    let (want, live) = (Want::All, true);
    replicator.set_interest(now, &key, Interest { want, live });
    replicator.handle_channel_open(now, id, key);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let head = Synchronize {
        length: BLOCKS,
        can_upgrade: true,
        uploading: true,
        has_manifest: true,
        ..Synchronize::default()
    };
    let all = hypercore::Range {
        drop: false,
        start: 0,
        length: BLOCKS,
    };
    // It is one of ours: the window is as wide as it gets.
    let kinlog = Message::Extension {
        name: Bytes::from_static(b"kinlog"),
        payload: Bytes::from_static(&[1]),
    };
    for message in [kinlog, Message::Synchronize(head), Message::Range(all)] {
        replicator.handle_message(now, id, &key, message).unwrap();
    }
    let mut answered = 0;
    while answered < 20_000 && now < Time::ZERO + Duration::from_secs(600) {
        let Some(output) = replicator.poll_output() else {
            let Some(next) = replicator.poll_timeout() else {
                break;
            };
            now = next;
            replicator.handle_timeout(now);
            continue;
        };
        let asked = match output {
            Output::Send {
                message: Message::Request(asked),
                ..
            } => asked,
            other => {
                if let Ok(work) = Work::of(other) {
                    work.carry_out(&feed).tell(now, &mut replicator);
                }
                continue;
            }
        };
        // No head, and of the blocks those that are held: every second one.
        let proof = asked
            .proof
            .block
            .and_then(|_| source.feed.prove(&asked.proof).ok());
        let Some(proof) = proof else {
            continue;
        };
        let data = Message::Data(Data {
            request: asked.id,
            proof,
            manifest: None,
        });
        answered += 1;
        if replicator.handle_message(now, id, &key, data).is_err() {
            break;
        }
    }
    let most = ALLOCATOR.peak_usage() - before;
    println!(
        "{} KiB after {answered} answers; {:?}",
        most / KIB,
        replicator.load()
    );
    assert!(answered > 100, "{answered} answers");
    // What is on its way and what is not stored yet are bounds of all peers together.
    let bound = IN_FLIGHT_BYTES_MAX + UNAPPLIED_BYTES_MAX;
    assert!(most <= bound, "{most} bytes");
    assert_eq!(
        feed.info().blocks_held,
        0,
        "nothing is proved without a head"
    );
}

#[test]
fn strangers_take_sixty_four_kibibytes_whatever_they_begin_with() {
    let _alone = alone();
    let beginnings: [(&str, Vec<u8>); 4] = [
        ("nothing", Vec::new()),
        ("the length of a large frame", vec![0xff, 0xff, 0xff]),
        (
            "a frame that does not end",
            [&[0x00, 0xff, 0x00][..], &[7; 60 * KIB]].concat(),
        ),
        ("bytes without end", vec![1; UNAUTHENTICATED_BYTES_MAX + 1]),
    ];
    for (what, bytes) in beginnings {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let mut strangers: Vec<Connection> = Vec::new();
        for number in 0..CROWD as u8 {
            let mut stranger = side(Role::Responder, number);
            for piece in bytes.chunks(1000) {
                let fine = stranger.handle_bytes(Time::ZERO, piece).is_ok()
                    && matches!(stranger.poll_event(), Ok(None));
                if !fine {
                    break;
                }
            }
            strangers.push(stranger);
        }
        let most = (ALLOCATOR.peak_usage() - before) / CROWD;
        println!("{what}: {most} bytes each");
        // The input of a stranger, and a connection round it.
        assert!(most <= STRANGER_BYTES_MAX + 4 * KIB, "{what}: {most} bytes");
    }
}
