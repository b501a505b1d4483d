//! Peers introduce each other: no signal server, or none any more.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{
    PATIENCE, SignalServer, TestHost, TestNode, assert_same_blocks, blocks, config, link, own_feed,
    store,
};
use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::Want;
use kinlog_swarm::link::webrtc::ToldAddresses;
use kinlog_swarm::{
    Label, LadderStep, NodeEvent, NodeStatus, PeerState, PoolConfig, StepState, TopicStatus,
    Transport,
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

/// R192: the registry cannot be reached, and peers go on finding each other.
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

/// R198: whoever is connected is not connected again, whoever shows it.
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

fn meeting(status: &NodeStatus) -> &TopicStatus {
    let key = kinlog_feeds::text::encode(&MEETING);
    let mut topics = status.topics.iter();
    topics.find(|topic| topic.key == key).unwrap()
}

fn tally(status: &NodeStatus, step: LadderStep) -> (u64, u64) {
    let mut ladder = status.ladder.iter();
    let found = ladder.find(|one| one.step == step).unwrap();
    (found.tries, found.successes)
}

/// R148..R153, R174, R190: two that know a signal server meet where they met before, and the server is not
/// used for it. When that place is gone they meet at a coordinator's, then at the server; then it says that
/// nobody is reached, and why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_of_the_ladder_is_used_when_those_before_it_fail() {
    let [route, coordinator, signal] = [
        SignalServer::start().await,
        SignalServer::start().await,
        SignalServer::start().await,
    ];
    let one = TestNode::start(1, &[&signal.url]);
    let (route_url, coordinator_url) = (route.url.clone(), coordinator.url.clone());
    let places = |node: &TestNode| {
        node.node.set_routes(vec![route_url.parse().unwrap()]);
        let urls = vec![coordinator_url.parse().unwrap()];
        node.node.set_coordinators(urls);
    };
    places(&one);
    one.node.join(Label::Feed, MEETING);
    let reached = |status: &NodeStatus| status.signal.iter().all(|point| point.connected);
    until(&one, |status| status.signal.len() == 3 && reached(status)).await;

    let signal_url = signal.url.clone();
    let meets = async |seed: u8, by: LadderStep| -> Result<(), NodeStatus> {
        let other = TestNode::start(seed, &[&signal_url]);
        places(&other);
        // So that it is connected to all of them when it comes to the meeting.
        other.node.join(Label::Feed, [7; 32]);
        let places = one.status().await.signal.into_iter();
        let reached = places.filter(|point| point.connected).count();
        until(&other, |status| {
            let points = status.signal.iter();
            points.filter(|point| point.connected).count() == reached
        })
        .await;
        other.node.join(Label::Feed, MEETING);
        let status = until(&other, |status| connected(status) == 1).await;
        assert_eq!(meeting(&status).state, PeerState::Connected);
        other.node.shutdown().await;
        until(&one, |status| status.sessions.is_empty()).await;

        let (tries, successes) = tally(&status, by);
        assert!(tries >= 1, "{by:?}: {:#?}", status.ladder);
        let of_step = |step: LadderStep| {
            let mut steps = meeting(&status).steps.iter();
            steps.rfind(move |one| one.step == step).copied()
        };
        let found = of_step(by).unwrap();
        let mut later = LadderStep::FINDING.into_iter().filter(|step| *step > by);
        if successes == 0 || later.any(|later| tally(&status, later).1 > 0) {
            return Err(status);
        }
        assert_eq!(found.state, StepState::Connected, "{:#?}", status.topics);
        assert!(found.asked_ms.is_some() && found.connected_ms.is_some());
        Ok(())
    };
    // A machine that stands still for the moment that later steps wait may use one of them: not every time.
    let meets = async |seeds: std::ops::Range<u8>, by: LadderStep| {
        let mut seen = None;
        for seed in seeds {
            match meets(seed, by).await {
                Ok(()) => return,
                Err(status) => seen = Some(status),
            }
        }
        panic!("{by:?} is never used: {seen:#?}");
    };
    meets(10..14, LadderStep::Routes).await;
    route.kill().await;
    until(&one, |status| !reached(status)).await;
    meets(20..24, LadderStep::Coordinators).await;
    coordinator.kill().await;
    let left = |status: &NodeStatus| status.signal.iter().filter(|it| it.connected).count();
    until(&one, |status| left(status) == 1).await;
    meets(30..34, LadderStep::Signal).await;
    signal.kill().await;

    let alone = TestNode::start(5, &[&signal_url]);
    alone.node.join(Label::Feed, MEETING);
    let status = until(&alone, |status| {
        let mut topics = status.topics.iter();
        topics.any(|topic| topic.state == PeerState::StoreForward)
    })
    .await;
    let why = status.topics[0].why.as_deref();
    assert_eq!(why, Some("nobody is shown by: signal"));
    let last = status.topics[0].steps.last().unwrap();
    assert_eq!(last.step, LadderStep::StoreForward);
}

/// A node that is reached by nobody until `is_reached`: it reaches others all the same.
fn hidden(seed: u8, server: &str, is_reached: &Arc<AtomicBool>) -> TestNode {
    let mut config = config(seed, &[server]);
    let is_reached = Arc::clone(is_reached);
    config.bind = vec![Ipv4Addr::LOCALHOST.into()];
    config.told = Some(ToldAddresses::new(
        move |address: SocketAddr| match is_reached.load(Ordering::Relaxed) {
            true => address,
            false => (Ipv4Addr::LOCALHOST, 9).into(),
        },
    ));
    TestNode::with(config, store(seed), TestHost::default())
}

/// Two that cannot reach each other, and one that both reach, at servers of their own.
struct Apart {
    author: TestNode,
    middle: TestNode,
    reader: TestNode,
    is_reached: Arc<AtomicBool>,
}

impl Apart {
    async fn start(relays: bool) -> Apart {
        let servers = [SignalServer::start().await, SignalServer::start().await];
        let urls = [servers[0].url.as_str(), servers[1].url.as_str()];
        let is_reached = Arc::new(AtomicBool::new(false));
        let mut of_middle = config(2, &urls);
        of_middle.bind = vec![Ipv4Addr::LOCALHOST.into()];
        of_middle.relays = relays;
        let mut apart = Apart {
            author: hidden(1, urls[0], &is_reached),
            middle: TestNode::with(of_middle, store(2), TestHost::default()),
            reader: hidden(3, urls[1], &is_reached),
            is_reached,
        };
        for node in [&apart.author, &apart.middle, &apart.reader] {
            node.node.join(Label::Feed, MEETING);
        }
        apart.author.opened().await;
        apart.reader.opened().await;
        for server in servers {
            server.kill().await;
        }
        apart
    }
}

/// R193, R196: any peer relays, and a direct way takes over by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_is_online_by_a_mutual_peer_and_directly_as_soon_as_that_works() {
    let mut apart = Apart::start(true).await;
    let (feed, signer) = own_feed(&apart.author.store, 9);
    let key = feed.key();
    feed.append_batch(&signer, &blocks(1, 300, 1000)).unwrap();
    apart.author.serve(key);
    apart.reader.follow(key, Want::All);
    apart.reader.holds(key, 300).await;

    for node in [&apart.author, &apart.reader] {
        let status = node.status().await;
        let relayed =
            |session: &&kinlog_swarm::SessionStatus| session.transport == Transport::Relayed;
        let session = status
            .sessions
            .iter()
            .find(relayed)
            .expect("one is relayed");
        let via = session.via.as_ref().expect("somebody relays it").session;
        let relay = status
            .sessions
            .iter()
            .find(|session| session.id == via)
            .unwrap();
        assert_eq!(relay.transport, Transport::Webrtc);
        let peer = status
            .peers
            .iter()
            .find(|peer| peer.session == Some(session.id))
            .unwrap();
        assert_eq!(peer.state, PeerState::Relayed);
        assert_eq!(peer.via.as_ref().unwrap().session, via);
    }
    let relay = apart.middle.status().await.relay;
    assert_eq!(relay.circuits, 1);
    assert!(relay.circuit_bytes > 300 * 1000, "{relay:?}");
    assert!(apart.middle.store.feed(&key).is_none());

    // From now on a direct way works, while the author goes on writing.
    apart.is_reached.store(true, Ordering::Relaxed);
    let mut length = 300;
    let mut every = tokio::time::interval(std::time::Duration::from_millis(50));
    let (author, reader) = (&apart.author, &mut apart.reader);
    let upgraded = async {
        loop {
            every.tick().await;
            feed.append_batch(&signer, &blocks(2, 1, 500)).unwrap();
            author.node.appended(key);
            length += 1;
            if connected(&author.status().await) == 2 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, upgraded)
        .await
        .expect("a direct session takes over");
    for _ in 0..5 {
        feed.append_batch(&signer, &blocks(3, 1, 500)).unwrap();
        author.node.appended(key);
        length += 1;
    }
    reader.holds(key, length).await;
    assert_same_blocks(&author.store, &reader.store, key, length);
    for node in [author, reader] {
        let direct = |session: &kinlog_swarm::SessionStatus| session.transport == Transport::Webrtc;
        let status = until(node, |status| {
            status.sessions.len() == 2 && status.sessions.iter().all(direct)
        })
        .await;
        assert_eq!(connected(&status), 2);
    }
    until(&apart.middle, |status| status.relay.circuits == 0).await;
    while let Ok(event) = apart.reader.events.try_recv() {
        assert!(!matches!(
            event,
            NodeEvent::PeerViolation { .. } | NodeEvent::FeedConflict { .. }
        ));
    }
}

/// R149, R169, R170: who asks hears of peers two hops away, and by whom they are connected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_of_peers_of_a_peer_are_known_with_who_is_connected_with_them() {
    let apart = Apart::start(false).await;
    // It is there, and dials nobody.
    let far = TestNode::start(4, &[]);
    link(&far, &apart.reader, Label::Feed, MEETING).await;
    until(&apart.reader, |status| open(status) == 2).await;
    let asking = hidden(5, "ws://127.0.0.1:9", &apart.is_reached);
    asking.node.join(Label::Feed, MEETING);
    link(&asking, &apart.middle, Label::Feed, MEETING).await;
    let status = until(&asking, |status| {
        status.peers.iter().any(|peer| peer.beyond.is_some())
    })
    .await;
    let beyond: Vec<_> = status
        .peers
        .iter()
        .filter(|it| it.beyond.is_some())
        .collect();
    assert_eq!(beyond.len(), 1, "{beyond:#?}");
    let via = beyond[0].beyond.as_ref().unwrap();
    let mut shown = status.peers.iter();
    let via = shown.find(|peer| peer.peer == *via).unwrap();
    assert!(via.beyond.is_none() && via.session.is_none());
    let session = status.sessions[0].id;
    assert_eq!(beyond[0].introduced_by, [format!("peer {session}")]);
    far.node.shutdown().await;
}

/// R177: a meeting of more peers than a node keeps sessions, and all of them have everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meeting_that_is_larger_than_the_pool_replicates_to_all() {
    let server = SignalServer::start().await;
    let mut nodes: Vec<TestNode> = (1..=6)
        .map(|seed| {
            let mut config = config(seed, &[&server.url]);
            config.pool = PoolConfig::default().active(1).standby(1);
            TestNode::with(config, store(seed), TestHost::default())
        })
        .collect();
    let (feed, signer) = own_feed(&nodes[0].store, 9);
    feed.append_batch(&signer, &blocks(1, 20, 1000)).unwrap();
    nodes[0].serve(feed.key());
    for node in &nodes[1..] {
        node.follow(feed.key(), Want::All);
    }
    for node in &nodes {
        node.node.join(Label::Feed, MEETING);
    }
    for node in &mut nodes[1..] {
        node.holds(feed.key(), 20).await;
    }
    let pool = nodes[0].status().await.pool;
    assert_eq!((pool.active_max, pool.standby_max), (1, 1));
    assert!(pool.active + pool.standby >= 1, "{pool:?}");
}

/// R181: sessions beyond the limits end at the cleanup, whoever loses one is told why, so that neither side dials at
/// once, and what is written still comes to all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_too_many_end_and_nobody_misses_anything() {
    let server = SignalServer::start().await;
    let mut nodes: Vec<TestNode> = (1..=3)
        .map(|seed| {
            let mut config = config(seed, &[&server.url]);
            if seed == 1 {
                config.pool = PoolConfig::default().active(1).standby(0);
            }
            // A minute of the pool is six seconds.
            config.clock_rate = 10.try_into().unwrap();
            TestNode::with(config, store(seed), TestHost::default())
        })
        .collect();
    let key = offer_feed(&nodes[0], &nodes[1], 5);
    nodes[2].follow(key, Want::All);
    for node in &nodes {
        node.node.join(Label::Feed, MEETING);
    }
    for node in &mut nodes[1..] {
        node.holds(key, 5).await;
    }
    until(&nodes[0], |status| status.pool.closed > 0).await;
    let parted = async {
        while nodes[1].status().await.pool.remembered + nodes[2].status().await.pool.remembered == 0
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, parted)
        .await
        .expect("who lost a session was told why");
    let feed = nodes[0].store.feed(&key).unwrap();
    let signer = kinlog_feeds::KeyPair::from_seed(&[9; 32]);
    feed.append_batch(&signer, &blocks(2, 5, 1000)).unwrap();
    nodes[0].node.appended(key);
    for node in &mut nodes[1..] {
        node.holds(key, 10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_relayed_by_a_node_that_does_not_relay() {
    let apart = Apart::start(false).await;
    let failed = |status: &NodeStatus| {
        let mut peers = status.peers.iter();
        peers.any(|peer| peer.state == PeerState::StoreForward)
    };
    until(&apart.author, failed).await;
    until(&apart.reader, failed).await;
    let relay = apart.middle.status().await.relay;
    assert_eq!(
        (relay.relays, relay.circuits, relay.circuit_bytes),
        (false, 0, 0)
    );
    assert_eq!(open(&apart.author.status().await), 1);
}
