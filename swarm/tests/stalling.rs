//! Peers that stall are gone within half a minute, whatever they stall at, and keep nobody from what
//! they came for (goal 13). The server's time passes faster than the machine's.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::support::raw::Raw;
use crate::support::{PATIENCE, TestHost, TestNode, blocks, config, link, own_feed, store};
use kinlog_feeds::replicate::Want;
use kinlog_feeds::tree::{BlockRequest, ProofRequest, UpgradeRequest};
use kinlog_feeds::wire::hypercore::{Message, Request};
use kinlog_feeds::{FeedKey, Time};
use kinlog_swarm::link::Link;
use kinlog_swarm::{Label, NodeEvent};

/// How many times faster the nodes' time passes: half a minute takes six seconds.
const RATE: u32 = 5;

/// Peers of each kind.
const EACH: usize = 12;

const GONE_WITHIN: Duration = Duration::from_secs(30);

/// What noticing may take on a busy machine, in the machine's time.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);

/// More than a link holds: 4 MiB of 64 KiB each.
const BLOCKS: usize = 64;

fn node(seed: u8) -> TestNode {
    let mut config = config(seed, &[]);
    config.clock_rate = NonZeroU32::new(RATE).unwrap();
    TestNode::with(config, store(seed), TestHost::default())
}

fn ask(index: u64) -> Message {
    let length = BLOCKS as u64;
    let proof = ProofRequest {
        block: Some(BlockRequest { index, nodes: 0 }),
        upgrade: Some(UpgradeRequest { start: 0, length }),
        ..ProofRequest::default()
    };
    Message::Request(Request {
        id: index + 1,
        fork: 0,
        proof,
        manifest: true,
        priority: 0,
    })
}

/// Has asked for everything.
async fn asking(node: &TestNode, key: FeedKey) -> Raw {
    let mut peer = Raw::attach(node, Label::Feed, key.0).await;
    let channel = peer.hello(Label::Feed, key.0).await;
    peer.want(channel, &[key]).await;
    let feed = peer.accept_feed(key).await;
    for index in 0..BLOCKS as u64 {
        peer.connection.send_message(feed, &ask(index)).unwrap();
    }
    send(&mut peer).await;
    peer
}

/// Sends what waits and reads nothing.
async fn send(peer: &mut Raw) {
    while let Some(bytes) = peer.connection.poll_transmit() {
        for part in bytes.chunks(peer.link.max_message()) {
            // Whoever was hung up on says nothing more.
            let _ = peer.link.send(part.into()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_stall_are_gone_within_thirty_seconds_and_one_that_reads_stays() {
    let mut server = node(1);
    let (feed, signer) = own_feed(&server.store, 41);
    let key = feed.key();
    let values = blocks(0xa1, BLOCKS, 65_536 - 1_000);
    feed.append_batch(&signer, &values).unwrap();
    server.serve(key);

    let start = Instant::now();
    let mut stalled = Vec::new();
    let mut unread = Vec::new();
    for _ in 0..EACH {
        // Nothing but a link.
        stalled.push(Raw::attach(&server, Label::Feed, key.0).await);
        // A handshake, and no word of what it came for.
        let mut half = Raw::attach(&server, Label::Feed, key.0).await;
        half.handshake_hash().await;
        stalled.push(half);
        // A session, and nothing after it.
        let mut silent = Raw::attach(&server, Label::Feed, key.0).await;
        silent.hello(Label::Feed, key.0).await;
        stalled.push(silent);
        // Reads nothing of what it asked for.
        unread.push(asking(&server, key).await);
    }
    // Those that do not read go on saying that they are there.
    let alive = tokio::spawn(async move {
        let mut now = Time::ZERO;
        let mut beats = tokio::time::interval(Duration::from_millis(500));
        loop {
            beats.tick().await;
            now = now + Duration::from_secs(10);
            for peer in &mut unread {
                if peer.connection.handle_timeout(now).is_ok() {
                    send(peer).await;
                }
            }
        }
    });

    let mut honest = node(2);
    honest.follow(key, Want::All);
    link(&server, &honest, Label::Feed, key.0).await;
    honest.holds(key, BLOCKS as u64).await;

    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    while reasons.values().sum::<usize>() < 4 * EACH {
        let reason = server.event(|event| match event {
            NodeEvent::SessionClosed { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        *reasons.entry(reason.await).or_default() += 1;
    }
    let took = start.elapsed();
    println!("{reasons:?} after {:?} of their time", took * RATE);
    // How long it took to meet them all is not theirs.
    assert!(took < PATIENCE);
    let of = |part: &str| {
        let found = reasons.iter().filter(|(reason, _)| reason.contains(part));
        found.map(|(_, count)| count).sum::<usize>()
    };
    let before_hello = of("no hello within 10 s") + of("not finished within 10 s");
    assert_eq!(before_hello, 2 * EACH, "{reasons:?}");
    assert_eq!(of("took nothing for 20 s"), EACH, "{reasons:?}");
    assert_eq!(of("nothing received for 30 s"), EACH, "{reasons:?}");
    assert!(took <= GONE_WITHIN / RATE + NOTICED_WITHIN, "{took:?}");
    let sessions = server.status().await.sessions;
    assert_eq!(sessions.len(), 1, "the honest one: {sessions:?}");
    alive.abort();
    drop(stalled);
}
