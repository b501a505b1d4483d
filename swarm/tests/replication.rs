//! Feeds travel between nodes, each with a store of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::net::{Ipv4Addr, SocketAddr};

use crate::support::{
    SignalServer, TestHost, TestNode, assert_same_blocks, blocks, config, link, own_feed, store,
};
use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{GetEnd, Interest, Want};
use kinlog_feeds::store::{Kind, Role};
use kinlog_swarm::{Label, NodeError, NodeEvent, Step, Transport};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_gets_every_block_and_those_that_come_later() {
    let author = TestNode::start(1, &[]);
    let mut follower = TestNode::start(2, &[]);
    let (feed, signer) = own_feed(&author.store, 9);
    feed.append_batch(&signer, &blocks(1, 100, 1000)).unwrap();
    author.serve(feed.key());
    follower.follow(feed.key(), Want::All);
    link(&author, &follower, Label::Feed, feed.key().0).await;
    follower.holds(feed.key(), 100).await;
    for round in 1..=5 {
        feed.append_batch(&signer, &blocks(round, 3, 50)).unwrap();
        author.node.appended(feed.key());
        follower.holds(feed.key(), 100 + 3 * u64::from(round)).await;
    }
    assert_same_blocks(&author.store, &follower.store, feed.key(), 115);
    let status = follower.status().await;
    assert_eq!(status.feeds[0].length, 115);
    assert_eq!(status.feeds[0].blocks_held, 115);
    assert_eq!(status.sessions[0].feeds, [feed.key().to_string()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn range_and_last_blocks_are_stored_and_no_others() {
    let author = TestNode::start(1, &[]);
    let mut follower = TestNode::start(2, &[]);
    let (first, first_signer) = own_feed(&author.store, 8);
    let (second, second_signer) = own_feed(&author.store, 9);
    first
        .append_batch(&first_signer, &blocks(1, 200, 500))
        .unwrap();
    second
        .append_batch(&second_signer, &blocks(2, 200, 500))
        .unwrap();
    author.serve(first.key());
    author.serve(second.key());
    follower.follow(first.key(), Want::Range(50..60));
    follower.follow(second.key(), Want::Last(7));
    link(&author, &follower, Label::Agent, [3; 32]).await;
    follower.holds(first.key(), 10).await;
    follower.holds(second.key(), 7).await;
    let held = |key| {
        let feed = follower.store.feed(&key).unwrap();
        (0..200)
            .filter(|block| feed.has(*block))
            .collect::<Vec<u64>>()
    };
    assert_eq!(held(first.key()), (50..60).collect::<Vec<u64>>());
    assert_eq!(held(second.key()), (193..200).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeder_passes_on_what_the_author_no_longer_serves() {
    let author = TestNode::start(1, &[]);
    let mut seeder = TestNode::start(2, &[]);
    let mut latecomer = TestNode::start(3, &[]);
    let (feed, signer) = own_feed(&author.store, 9);
    let key = feed.key();
    feed.append_batch(&signer, &blocks(1, 300, 200)).unwrap();
    author.serve(key);
    seeder.follow(key, Want::All);
    link(&author, &seeder, Label::Feed, key.0).await;
    seeder.holds(key, 300).await;
    author.node.shutdown().await;
    latecomer.follow(key, Want::All);
    link(&seeder, &latecomer, Label::Feed, key.0).await;
    latecomer.holds(key, 300).await;
    assert_same_blocks(&seeder.store, &latecomer.store, key, 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sources_are_asked_for_no_block_twice() {
    let author = TestNode::start(1, &[]);
    let mut seeder = TestNode::start(2, &[]);
    let host = TestHost::default();
    let log = std::env::temp_dir().join(format!("kinlog-two-sources-{}", std::process::id()));
    let mut config = config(3, &[]);
    config.message_log = Some(log.clone());
    let mut follower = TestNode::with(config, store(3), host);
    let (feed, signer) = own_feed(&author.store, 9);
    let key = feed.key();
    feed.append_batch(&signer, &blocks(1, 200, 16_384)).unwrap();
    author.serve(key);
    seeder.follow(key, Want::All);
    link(&author, &seeder, Label::Feed, key.0).await;
    seeder.holds(key, 200).await;
    follower.follow(key, Want::All);
    link(&author, &follower, Label::Feed, key.0).await;
    link(&seeder, &follower, Label::Feed, key.0).await;
    follower.holds(key, 200).await;

    let logged: u64 = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| line.parse::<u64>().unwrap())
        .sum();
    std::fs::remove_file(&log).unwrap();
    let content = 200 * 16_384;
    assert!(logged >= content);
    assert!(
        logged <= content * 102 / 100 + 64 * 1024,
        "{logged} bytes for {content}"
    );
    let counted: u64 = follower
        .status()
        .await
        .sessions
        .iter()
        .map(|it| it.bytes_in)
        .sum();
    assert!(
        counted >= logged,
        "the log holds nothing that the links did not count"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_that_no_connected_peer_has_is_told() {
    let author = TestNode::start(1, &[]);
    let mut follower = TestNode::start(2, &[]);
    let (feed, _) = own_feed(&author.store, 9);
    follower.follow(feed.key(), Want::All);
    link(&author, &follower, Label::Agent, [3; 32]).await;
    let key = feed.key();
    follower
        .event(|event| match event {
            NodeEvent::StepFailed { step } => (*step == Step::NobodyHas { key }).then_some(()),
            _ => None,
        })
        .await;
}

/// R195: what is written comes also while the registry is offline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn append_here_is_followed_there_over_webrtc_also_without_the_signal_server() {
    let server = SignalServer::start().await;
    let author = TestNode::start(1, &[&server.url]);
    let mut follower = TestNode::start(2, &[&server.url]);
    let (feed, signer) = own_feed(&author.store, 9);
    let key = feed.key();
    feed.append_batch(&signer, &blocks(1, 64, 65_536)).unwrap();
    author.serve(key);
    follower.follow(key, Want::All);
    author.node.join(Label::Feed, key.0);
    follower.node.join(Label::Feed, key.0);
    follower.holds(key, 64).await;
    server.kill().await;
    feed.append_batch(&signer, &blocks(2, 64, 65_536)).unwrap();
    author.node.appended(key);
    follower.holds(key, 128).await;
    assert_same_blocks(&author.store, &follower.store, key, 128);
    let status = follower.status().await;
    let session = &status.sessions[0];
    assert_eq!(session.transport, Transport::Webrtc);
    assert!(session.bytes_in > 128 * 65_536);
    assert!(session.bytes_in < 128 * 65_536 * 102 / 100 + 256 * 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn largest_kinlog_block_crosses_webrtc() {
    let server = SignalServer::start().await;
    let author = TestNode::start(1, &[&server.url]);
    let mut follower = TestNode::start(2, &[&server.url]);
    let (feed, signer) = own_feed(&author.store, 9);
    let key = feed.key();
    feed.append_batch(&signer, &blocks(1, 3, 1024 * 1024))
        .unwrap();
    author.serve(key);
    follower.follow(key, Want::All);
    author.node.join(Label::Feed, key.0);
    follower.node.join(Label::Feed, key.0);
    follower.holds(key, 3).await;
    assert_same_blocks(&author.store, &follower.store, key, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_killed_in_the_middle_resumes_and_asks_for_no_stored_block_again() {
    let server = SignalServer::start().await;
    let author = TestNode::start(1, &[&server.url]);
    let (feed, signer) = own_feed(&author.store, 9);
    let key = feed.key();
    let count = 400;
    feed.append_batch(&signer, &blocks(1, count, 65_536))
        .unwrap();
    author.serve(key);
    author.node.join(Label::Feed, key.0);

    let follower_store = store(2);
    let mut received = 0;
    for stop_at in [100, 250, count as u64] {
        let config = config(2, &[&server.url]);
        let mut follower = TestNode::with(config, follower_store.clone(), TestHost::default());
        follower.follow(key, Want::All);
        follower.node.join(Label::Feed, key.0);
        let stored = follower_store.clone();
        let held = move || stored.feed(&key).unwrap().info().blocks_held;
        if held() < stop_at {
            follower
                .event(|event| match event {
                    NodeEvent::BlocksStored { .. } => (held() >= stop_at).then_some(()),
                    _ => None,
                })
                .await;
        }
        received += follower
            .status()
            .await
            .sessions
            .iter()
            .map(|it| it.bytes_in)
            .sum::<u64>();
        drop(follower);
    }
    assert_same_blocks(&author.store, &follower_store, key, count as u64);
    let content = count as u64 * 65_536;
    let repeated = 2 * kinlog_feeds::limits::IN_FLIGHT_BYTES_MAX as u64;
    assert!(
        received <= content * 102 / 100 + repeated,
        "{received} bytes for {content}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_blocks_are_pulled_over_plain_tcp() {
    let author = TestNode::start(1, &[]);
    let mut reader = TestNode::start(2, &[]);
    let (feed, signer) = own_feed(&author.store, 9);
    let key = feed.key();
    for round in 0..10 {
        feed.append_batch(&signer, &blocks(round, 1000, 100))
            .unwrap();
    }
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    author.node.serve_plain_tcp(listener, vec![key]);
    reader.node.set_interest(
        key,
        Interest {
            want: Want::All,
            live: false,
        },
    );
    reader
        .node
        .pull_plain_tcp(address, vec![key])
        .await
        .unwrap();
    reader
        .event(|event| match event {
            NodeEvent::FeedComplete { length, .. } => (*length == 10_000).then_some(()),
            _ => None,
        })
        .await;
    assert_same_blocks(&author.store, &reader.store, key, 10_000);
    let status = reader.status().await;
    assert_eq!(status.sessions[0].state, "plain");
    assert_eq!(status.sessions[0].transport, Transport::Tcp);
    let theirs = author.status().await.sessions[0].bytes_out;
    assert_eq!(status.sessions[0].bytes_in, theirs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_peer_that_lacks_the_feed_is_told_at_once() {
    let author = TestNode::start(1, &[]);
    let mut reader = TestNode::start(2, &[]);
    let (feed, _) = own_feed(&author.store, 9);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    author.node.serve_plain_tcp(listener, vec![]);
    let key = feed.key();
    reader.node.set_interest(
        key,
        Interest {
            want: Want::All,
            live: false,
        },
    );
    reader
        .node
        .pull_plain_tcp(address, vec![key])
        .await
        .unwrap();
    reader
        .event(|event| match event {
            NodeEvent::StepFailed { step } => (*step == Step::NobodyHas { key }).then_some(()),
            _ => None,
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listening_is_an_error_that_names_the_address() {
    let reader = TestNode::start(2, &[]);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = reader
        .node
        .pull_plain_tcp(address, vec![kinlog_feeds::FeedKey([1; 32])])
        .await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains(&address.to_string())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_in_two_stores_grows_on_the_newer_side_only() {
    // The follower's copy is shorter; nothing flows back.
    let author = TestNode::start(1, &[]);
    let mut follower = TestNode::start(2, &[]);
    let (feed, signer) = own_feed(&author.store, 9);
    feed.append_batch(&signer, &blocks(1, 10, 10)).unwrap();
    author.serve(feed.key());
    author.node.set_interest(
        feed.key(),
        Interest {
            want: Want::All,
            live: true,
        },
    );
    author.host.wants.lock().unwrap().push(feed.key());
    author.node.refresh();
    follower.follow(feed.key(), Want::All);
    link(&author, &follower, Label::Feed, feed.key().0).await;
    follower.holds(feed.key(), 10).await;
    let own = author.store.feed(&feed.key()).unwrap().info();
    assert_eq!(
        (own.length, own.blocks_held, own.role, own.kind),
        (10, 10, Role::Own, Kind::Kinlog)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_waited_for_until_it_comes_or_nobody_has_it() {
    let author = TestNode::start(1, &[]);
    let mut reader = TestNode::start(2, &[]);
    let (feed, signer) = own_feed(&author.store, 9);
    let key = feed.key();
    feed.append_batch(&signer, &blocks(1, 10, 100)).unwrap();
    author.serve(key);
    reader.follow(key, Want::Range(0..1));
    link(&author, &reader, Label::Feed, key.0).await;
    reader.holds(key, 1).await;
    assert_eq!(reader.node.get(key, 7, None).await.unwrap(), GetEnd::Held);
    let held = reader.store.feed(&key).unwrap();
    assert!(held.has(7) && held.info().blocks_held == 2);
    let beyond = reader.node.get(key, 1000, None).await;
    assert_eq!(beyond.unwrap(), GetEnd::NobodyHas);
    let unknown = FeedKey([7; 32]);
    let refused = reader.node.get(unknown, 0, None).await;
    assert!(
        matches!(refused, Err(NodeError::Get { block: 0, .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_author_learns_which_session_holds_what_it_wrote() {
    let mut author = TestNode::start(1, &[]);
    let mut reader = TestNode::start(2, &[]);
    let (feed, signer) = own_feed(&author.store, 9);
    let key = feed.key();
    feed.append_batch(&signer, &blocks(1, 10, 100)).unwrap();
    author.serve(key);
    author.node.watch(key, Some(0..1000));
    reader.follow(key, Want::All);
    link(&author, &reader, Label::Feed, key.0).await;
    for length in [10, 15] {
        if length > 10 {
            feed.append_batch(&signer, &blocks(2, 5, 100)).unwrap();
            author.node.appended(key);
        }
        reader.holds(key, length).await;
        loop {
            let holders = author.node.holders(key, 0..1000).await;
            if holders
                .iter()
                .any(|(_, held)| held.iter().cloned().eq(std::iter::once(0..length)))
            {
                break;
            }
            let changed =
                |event: &NodeEvent| matches!(event, NodeEvent::HoldersChanged { .. }).then_some(());
            author.event(changed).await;
        }
    }
}
