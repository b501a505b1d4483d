//! Peers that guess, snoop, lie or send rubbish, against a node of ours.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::sync::Arc;
use std::time::Duration;

use crate::support::raw::Raw;
use crate::support::{PATIENCE, TestHost, TestNode, blocks, config, link, own_feed, store};
use bytes::{Bytes, BytesMut};
use kinlog_feeds::crypto::{blake2b_256_keyed, namespace};
use kinlog_feeds::replicate::Want;
use kinlog_feeds::tree::{BlockRequest, ProofRequest, UpgradeRequest};
use kinlog_feeds::wire::Event;
use kinlog_feeds::wire::hypercore::{Data, Message, Range, Request, Synchronize};
use kinlog_feeds::{FeedKey, Hash, KeyPair, text};
use kinlog_swarm::link::memory;
use kinlog_swarm::link::{Fingerprints, Link};
use kinlog_swarm::{Credentials, Label, NodeEvent, SessionRole};

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// Looks for a key as it is and as text.
fn names(all: &[u8], key: &[u8; 32]) -> bool {
    contains(all, key)
        || contains(all, text::encode(key).as_bytes())
        || contains(all, text::encode_hex(key).as_bytes())
}

fn request(id: u64, proof: ProofRequest) -> Message {
    Message::Request(Request {
        id,
        fork: 0,
        proof,
        manifest: true,
        priority: 0,
    })
}

fn upgrade_with_block(length: u64, index: u64) -> ProofRequest {
    ProofRequest {
        block: Some(BlockRequest { index, nodes: 0 }),
        upgrade: Some(UpgradeRequest { start: 0, length }),
        ..ProofRequest::default()
    }
}

fn data(messages: &[Message]) -> Vec<Data> {
    let data = |message: &Message| match message {
        Message::Data(data) => Some(data.clone()),
        _ => None,
    };
    messages.iter().filter_map(data).collect()
}

/// A node with a device of its own that serves two of three feeds: `a` to all, `b` to nobody here.
fn guarded() -> (TestNode, FeedKey, FeedKey, Credentials) {
    let credentials = Credentials {
        device: KeyPair::from_seed(&[31; 32]),
        identity_hash: Hash([32; 32]),
    };
    let host = TestHost {
        credentials: Some(credentials.clone()),
        ..TestHost::default()
    };
    let node = TestNode::with(config(1, &[]), store(1), host);
    let (a, signer_a) = own_feed(&node.store, 41);
    let (b, signer_b) = own_feed(&node.store, 42);
    a.append_batch(&signer_a, &blocks(0xa1, 20, 300)).unwrap();
    b.append_batch(&signer_b, &blocks(0xb2, 20, 300)).unwrap();
    node.serve(a.key());
    (node, a.key(), b.key(), credentials)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghost_in_a_guessed_feed_topic_gets_that_feed_and_no_name() {
    let (node, a, _, credentials) = guarded();
    let mut ghost = Raw::attach(&node, Label::Feed, a.0).await;
    let channel = ghost.hello(Label::Feed, a.0).await;
    ghost.want(channel, &[a]).await;
    let feed = ghost.accept_feed(a).await;
    ghost
        .connection
        .send_message(feed, &request(1, upgrade_with_block(20, 7)))
        .unwrap();
    let mut found = Vec::new();
    ghost
        .until(|events| {
            events.iter().any(|event| {
                matches!(event, Event::Message { channel, message_type: 3, .. } if *channel == feed)
            })
        })
        .await;
    found.extend(data(&ghost.feed_messages(feed)));
    assert_eq!(
        found[0].proof.block.as_ref().unwrap().value,
        blocks(0xa1, 20, 300)[7]
    );

    let told = ghost.told();
    assert!(
        contains(&told, &blocks(0xa1, 20, 300)[7]),
        "the search finds what is there"
    );
    assert!(!names(&told, &credentials.device.public_key().0));
    assert!(!names(&told, &credentials.identity_hash.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_of_one_feed_is_told_nothing_of_another() {
    let (node, a, b, _) = guarded();
    let mut follower = Raw::attach(&node, Label::Agent, [5; 32]).await;
    let channel = follower.hello(Label::Agent, [5; 32]).await;
    follower.want(channel, &[a]).await;
    let feed = follower.accept_feed(a).await;
    for index in 0..20 {
        let message = request(index + 1, upgrade_with_block(20, index));
        follower.connection.send_message(feed, &message).unwrap();
    }
    let count = |events: &[Event]| {
        let is_data = |event: &&Event| {
            matches!(
                event,
                Event::Message {
                    message_type: 3,
                    ..
                }
            )
        };
        events.iter().filter(is_data).count()
    };
    follower.until(|events| count(events) == 20).await;
    let told = follower.told();
    assert!(contains(&told, &blocks(0xa1, 20, 300)[3]));
    assert!(!names(&told, &b.0) && !names(&told, &b.discovery_key().0));
    for block in blocks(0xb2, 20, 300) {
        assert!(!contains(&told, &block[8..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_that_may_not_be_had_looks_like_one_that_is_not_there() {
    let (node, a, b, _) = guarded();
    let absent = FeedKey([99; 32]);
    let mut answers = Vec::new();
    for key in [b, absent] {
        let mut peer = Raw::attach(&node, Label::Feed, a.0).await;
        let channel = peer.hello(Label::Feed, a.0).await;
        peer.want(channel, &[key]).await;
        let before = peer.events.len();
        peer.open_feed(key).await;
        peer.until(|events| events.len() > before).await;
        answers.push(peer.events[before..].to_vec());
    }
    assert_eq!(answers[0], answers[1]);
    assert!(
        matches!(answers[0][..], [Event::Rejected { .. }]),
        "{answers:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stranger_without_the_key_is_hung_up_on_without_a_word() {
    let (node, a, _, _) = guarded();
    let mut stranger = Raw::attach(&node, Label::Feed, a.0).await;
    let hash = stranger.handshake_hash().await;
    let cap = blake2b_256_keyed(
        &hash,
        &[&namespace::SESSION_CAP.hash(), &[0], &[2], &[77; 32]],
    );
    let mut hello = vec![1];
    hello.extend_from_slice(&0_u64.to_le_bytes());
    hello.extend_from_slice(&[0xfe, 0, 0, 4, 0, 2]);
    hello.extend_from_slice(&cap);
    stranger
        .connection
        .open("kinlog/peer/1", None, &hello)
        .unwrap();
    stranger.until(|_| false).await;
    assert!(stranger.closed);
    let said = stranger.events.iter().filter(|event| {
        !matches!(
            event,
            Event::HandshakeComplete { .. } | Event::RemoteOpen { .. }
        )
    });
    // Its own hello may have been answered by the node's, which is bound to the handshake.
    assert!(
        said.clone()
            .all(|event| matches!(event, Event::Opened { .. })),
        "{:?}",
        stranger.events
    );
    assert!(!names(&stranger.told(), &a.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_ends_one_session_and_leaves_the_others() {
    let (node, a, _, _) = guarded();
    let mut honest = TestNode::start(2, &[]);
    honest.follow(a, Want::All);
    let mut seed = 0x5eed_u64;
    println!("seed {seed:#x}");
    for _ in 0..50 {
        let (ours, theirs) = memory::pair();
        let role = SessionRole::Responder;
        node.node
            .attach(Arc::new(theirs), Label::Feed, a.0, role)
            .await
            .unwrap();
        let mut rubbish = BytesMut::new();
        for _ in 0..200 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            rubbish.extend_from_slice(&seed.to_be_bytes());
        }
        // A first frame of the right size, so that it is taken for a handshake message.
        rubbish[..3].copy_from_slice(&[32, 0, 0]);
        ours.send(rubbish).await.unwrap();
        let ended = async { while ours.recv().await.unwrap().is_some() {} };
        tokio::time::timeout(Duration::from_secs(20), ended)
            .await
            .expect("the node hangs up");
    }
    link(&node, &honest, Label::Feed, a.0).await;
    honest.holds(a, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn altered_block_is_not_stored_and_ends_the_session() {
    let source = store(9);
    let (feed, signer) = own_feed(&source, 44);
    let key = feed.key();
    feed.append_batch(&signer, &blocks(0xc3, 8, 500)).unwrap();

    let mut node = TestNode::start(1, &[]);
    node.follow(key, Want::All);
    let mut liar = Raw::attach(&node, Label::Feed, key.0).await;
    let peer = liar.hello(Label::Feed, key.0).await;
    let wanted = |event: &Event| matches!(event, Event::Message { channel, message_type: 1, .. } if *channel == peer);
    liar.until(|events| events.iter().any(wanted)).await;
    let channel = liar.open_feed(key).await;
    let head = Synchronize {
        length: 8,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        has_manifest: true,
        ..Synchronize::default()
    };
    liar.connection
        .send_message(channel, &Message::Synchronize(head))
        .unwrap();
    let all = Range {
        drop: false,
        start: 0,
        length: 8,
    };
    liar.connection
        .send_message(channel, &Message::Range(all))
        .unwrap();
    let mut answered = 0;
    while !liar.closed {
        let requests = |liar: &Raw| {
            let request = |message: &Message| match message {
                Message::Request(request) => Some(*request),
                _ => None,
            };
            liar.feed_messages(channel)
                .iter()
                .filter_map(request)
                .collect::<Vec<_>>()
        };
        let before = liar.events.len();
        for asked in requests(&liar).into_iter().skip(answered) {
            answered += 1;
            let mut proof = feed.prove(&asked.proof).unwrap();
            if let Some(block) = &mut proof.block {
                let mut value = block.value.to_vec();
                value[100] ^= 1;
                block.value = Bytes::from(value);
            }
            let manifest = feed.manifest().filter(|_| asked.manifest);
            let manifest = manifest.map(|manifest| Bytes::from(manifest.encode()));
            let answer = Message::Data(Data {
                request: asked.id,
                proof,
                manifest,
            });
            if liar.connection.send_message(channel, &answer).is_err() {
                break;
            }
        }
        liar.until(|events| events.len() > before).await;
    }
    assert!(answered > 0);
    node.event(|event| match event {
        NodeEvent::PeerViolation { .. } => Some(()),
        _ => None,
    })
    .await;
    let held = node.store.feed(&key).unwrap();
    assert_eq!(held.info().blocks_held, 0);
    assert!((0..8).all(|block| held.get(block).unwrap().is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fingerprints_swapped_on_the_way_end_the_session_and_no_certificate_is_believed() {
    let device = |seed: u8| {
        let credentials = Credentials {
            device: KeyPair::from_seed(&[seed; 32]),
            identity_hash: Hash([seed; 32]),
        };
        let host = TestHost {
            credentials: Some(credentials),
            ..TestHost::default()
        };
        TestNode::with(config(seed, &[]), store(seed), host)
    };
    // Each side sees the certificate of whoever stands between them.
    let swapped = |own: u8| Fingerprints {
        local: [own; 32],
        remote: [66; 32],
    };
    let honest = |own: u8, other: u8| Fingerprints {
        local: [own; 32],
        remote: [other; 32],
    };
    for (left_sees, right_sees, holds) in [
        (honest(1, 2), honest(2, 1), true),
        (swapped(1), swapped(2), false),
    ] {
        let (mut left, mut right) = (device(51), device(52));
        let (one, other) = memory::pair();
        let one = Arc::new(one.with_fingerprints(left_sees));
        let other = Arc::new(other.with_fingerprints(right_sees));
        let room = [5; 32];
        left.node
            .attach(one, Label::Room, room, SessionRole::Initiator)
            .await
            .unwrap();
        right
            .node
            .attach(other, Label::Room, room, SessionRole::Responder)
            .await
            .unwrap();
        if holds {
            for node in [&left, &right] {
                let shown = async {
                    while node.host.certified.lock().unwrap().is_empty() {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::time::timeout(PATIENCE, shown)
                    .await
                    .expect("certificates hold");
            }
            continue;
        }
        for node in [&mut left, &mut right] {
            node.event(|event| match event {
                NodeEvent::SessionClosed { .. } => Some(()),
                _ => None,
            })
            .await;
            assert!(node.host.certified.lock().unwrap().is_empty());
        }
    }
}
