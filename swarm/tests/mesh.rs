//! Peers introduce each other: no signal server, or none any more.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

mod support;

use std::collections::BTreeSet;

use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::Want;
use kinlog_swarm::{Label, NodeEvent, NodeStatus, PeerState, Transport};
use support::{
    PATIENCE, SignalServer, TestHost, TestNode, assert_same_blocks, blocks, config, link, own_feed,
    store,
};

const MEETING: [u8; 32] = [9; 32];

/// A node that has joined the meeting and knows no server.
fn node(seed: u8) -> TestNode {
    let node = TestNode::start(seed, &[]);
    node.node.join(Label::Feed, MEETING);
    node
}

/// Waits until the status of a node is as `is` says.
async fn until(node: &TestNode, is: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
    let wait = async {
        loop {
            let status = node.status().await;
            if is(&status) {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(status) => status,
        Err(_) => panic!("not in {PATIENCE:?}: {:#?}", node.status().await),
    }
}

fn open(status: &NodeStatus) -> usize {
    let is_open = |session: &&kinlog_swarm::SessionStatus| session.state == "open";
    status.sessions.iter().filter(is_open).count()
}

fn connected(status: &NodeStatus) -> usize {
    let is_connected = |peer: &&kinlog_swarm::PeerStatus| peer.state == PeerState::Connected;
    status.peers.iter().filter(is_connected).count()
}

/// A feed of `author` that `reader` follows.
fn offer_feed(author: &TestNode, reader: &TestNode, count: usize) -> FeedKey {
    let (feed, signer) = own_feed(&author.store, 9);
    feed.append_batch(&signer, &blocks(1, count, 1000)).unwrap();
    author.serve(feed.key());
    reader.follow(feed.key(), Want::All);
    feed.key()
}

fn opened(node: &mut TestNode) -> usize {
    let events = std::iter::from_fn(|| node.events.try_recv().ok());
    events
        .filter(|event| matches!(event, NodeEvent::SessionOpened { .. }))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_one_peer_find_each_other_after_the_signal_servers_are_gone() {
    let servers = [SignalServer::start().await, SignalServer::start().await];
    let [first, second] = [&servers[0].url, &servers[1].url];
    // No server ever knows both the author and the reader.
    let mut author = TestNode::start(1, &[first]);
    let mut middle = TestNode::start(2, &[first, second]);
    let mut reader = TestNode::start(3, &[second]);
    let key = offer_feed(&author, &reader, 50);
    author.node.join(Label::Feed, MEETING);
    middle.node.join(Label::Feed, MEETING);
    author.opened().await;
    middle.opened().await;
    reader.node.join(Label::Feed, MEETING);
    reader.opened().await;
    for server in servers {
        server.kill().await;
    }
    reader.holds(key, 50).await;
    assert_same_blocks(&author.store, &reader.store, key, 50);
    let status = until(&reader, |status| connected(status) == 2).await;
    assert!(status.signal.iter().all(|server| !server.connected));
    assert!(
        status
            .sessions
            .iter()
            .all(|session| session.transport == Transport::Webrtc && session.via.is_none())
    );
    // The one in the middle was told nothing of the feed, and counts what it handed on.
    assert!(middle.store.feed(&key).is_none());
    assert!(middle.status().await.relay.introductions >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_is_known_to_all_without_any_server_and_nobody_is_connected_twice() {
    let mut nodes = [node(1), node(2), node(3)];
    link(&nodes[0], &nodes[1], Label::Feed, MEETING).await;
    link(&nodes[1], &nodes[2], Label::Feed, MEETING).await;
    for node in &nodes {
        until(node, |status| open(status) == 2).await;
    }
    let newcomer = node(4);
    link(&newcomer, &nodes[1], Label::Feed, MEETING).await;
    for node in nodes.iter().chain([&newcomer]) {
        let status = until(node, |status| open(status) == 3 && connected(status) == 3).await;
        assert_eq!(status.peers.len(), 3, "{:#?}", status.peers);
        let sessions: BTreeSet<_> = status.peers.iter().map(|peer| peer.session).collect();
        assert_eq!(sessions.len(), 3, "each by a session of its own");
    }
    // All three know each other from several sides by now, and opened one session with each all the same.
    for node in &mut nodes {
        assert_eq!(opened(node), 3);
    }
    // Whoever leaves is gone from every list.
    newcomer.node.shutdown().await;
    for node in &nodes {
        let status = until(node, |status| status.peers.len() == 2).await;
        assert_eq!(connected(&status), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hears_of_peers_of_another_meeting() {
    let [one, middle, other] = [node(1), node(2), node(3)];
    link(&one, &middle, Label::Feed, MEETING).await;
    link(&other, &middle, Label::Feed, [8; 32]).await;
    let third = node(4);
    link(&third, &middle, Label::Feed, MEETING).await;
    // The two of the one meeting find each other: what there was to tell has been told.
    for node in [&one, &third] {
        until(node, |status| open(status) == 2).await;
    }
    let status = other.status().await;
    assert_eq!((status.sessions.len(), status.peers.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_introduced_under_an_invite_or_a_spoken_code() {
    for label in [Label::Invite, Label::Code] {
        let [one, middle, other] = [node(1), node(2), node(3)];
        for node in [&one, &middle, &other] {
            node.node.join(label, MEETING);
        }
        link(&one, &middle, label, MEETING).await;
        link(&other, &middle, label, MEETING).await;
        // Meanwhile others are, by the same peer.
        link(&one, &middle, Label::Feed, MEETING).await;
        link(&other, &middle, Label::Feed, MEETING).await;
        let status = until(&one, |status| open(status) == 3).await;
        let of_label = |status: &NodeStatus| {
            let sessions = status.sessions.iter();
            sessions.filter(|session| session.label == label).count()
        };
        assert_eq!(of_label(&status), 1);
        assert_eq!(of_label(&other.status().await), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_on_two_servers_is_connected_once_and_not_tried_for_ever() {
    let servers = [SignalServer::start().await, SignalServer::start().await];
    let urls = [servers[0].url.as_str(), servers[1].url.as_str()];
    let start = |seed| TestNode::with(config(seed, &urls), store(seed), TestHost::default());
    let nodes = [start(1), start(2)];
    for node in &nodes {
        node.node.join(Label::Feed, MEETING);
    }
    for node in &nodes {
        let status = until(node, |status| {
            let one_peer = status.peers.len() == 1 && connected(status) == 1;
            one_peer && status.sessions.len() == 1 && status.peers[0].introduced_by.len() == 2
        })
        .await;
        assert_eq!(status.peers[0].failures, 0, "{:#?}", status.peers);
    }
}
