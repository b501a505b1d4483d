//! Nodes reach each other through a TURN server alone, with credentials of the signal server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{
    SignalServer, TestHost, TestNode, assert_same_blocks, blocks, config, own_feed, store,
};
use kinlog_feeds::replicate::Want;
use kinlog_signal::Settings;
use kinlog_signal::ice::{IceServers, IceSettings, TurnSecrets};
use kinlog_signal::turn::{TurnServer, TurnSettings};
use kinlog_swarm::link::CandidateKind;
use kinlog_swarm::link::webrtc::{Negotiation, Progress, WebrtcSettings};
use kinlog_swarm::{Label, NodeConfig, NodeEvent, Step};
use testkit::coturn::Coturn;
use tokio::task::JoinSet;
use tokio::time::timeout;

const SECRET: &str = "north-south-east-west";
const BLOCKS: u64 = 300;

fn ice(coturn: &Coturn, transport: &str, secrets: &str) -> IceSettings {
    let urls = vec![coturn.url(transport).parse().unwrap()];
    IceSettings::default().turn(urls, TurnSecrets::parse(secrets).unwrap())
}

fn hidden(seed: u8, server: &SignalServer) -> NodeConfig {
    let mut config = config(seed, &[&server.url]);
    config.relay_only = true;
    config
}

fn start(config: NodeConfig, seed: u8) -> TestNode {
    TestNode::with(config, store(seed), TestHost::default())
}

/// Replicates a feed by coturn between two nodes that use relays alone.
async fn replicate_by_coturn(transport: &str) {
    let coturn = Coturn::on_loopback(SECRET);
    let ice = ice(&coturn, transport, SECRET);
    replicate_by_relay(Settings::default().ice(ice)).await;
}

/// Replicates a feed by the signal server's own relay, and looks at what that did.
async fn replicate_by_own(transport: &str) {
    let loopback = Ipv4Addr::LOCALHOST;
    let secrets = TurnSecrets::parse(SECRET).unwrap();
    let mut relay = TurnSettings::new((loopback, 0).into(), loopback.into(), secrets.clone());
    relay.allows_loopback = true;
    let turn = TurnServer::bind(relay).await.unwrap();
    let port = turn.local_addr().unwrap().port();
    let mut running = JoinSet::new();
    let settings = if transport == "udp" {
        // Clients are told by the name under which they dialled; UDP comes first.
        let ice = IceSettings::default().turn(Vec::new(), secrets);
        Settings::default().ice(ice).turn(turn.clone())
    } else {
        let alone = turn.clone();
        running.spawn(async move { alone.run().await });
        let url = format!("turn:127.0.0.1:{port}?transport={transport}");
        Settings::default().ice(IceSettings::default().turn(vec![url.parse().unwrap()], secrets))
    };
    replicate_by_relay(settings).await;
    let counts = turn.counts();
    assert!(counts.allocated >= 2, "{counts:?}");
    let relayed = BLOCKS * 1_000;
    assert!(counts.bytes_to_peers > relayed, "{counts:?}");
    assert!(counts.bytes_to_clients > relayed, "{counts:?}");
}

/// Replicates a feed between two nodes that use relays alone, and looks at what they did.
async fn replicate_by_relay(settings: Settings) {
    let server = SignalServer::with(settings).await;
    let author = start(hidden(1, &server), 1);
    let mut reader = start(hidden(2, &server), 2);
    let (feed, signer) = own_feed(&author.store, 7);
    feed.append_batch(&signer, &blocks(7, BLOCKS as usize, 1_000))
        .unwrap();
    author.serve(feed.key());
    reader.follow(feed.key(), Want::All);
    author.node.join(Label::Feed, feed.key().0);
    reader.node.join(Label::Feed, feed.key().0);
    reader.holds(feed.key(), BLOCKS).await;
    assert_same_blocks(&author.store, &reader.store, feed.key(), BLOCKS);
    for node in [&author, &reader] {
        let status = node.status().await;
        let path = status.sessions[0]
            .path
            .clone()
            .expect("ICE has selected a pair");
        assert_eq!(path.local.kind, CandidateKind::Relay, "{path:?}");
        let remote = path.remote.kind;
        assert!(
            matches!(remote, CandidateKind::Relay | CandidateKind::Prflx),
            "{path:?}"
        );
    }
    author.node.shutdown().await;
    reader.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coturn_relays_by_udp_what_nodes_that_use_relays_alone_replicate() {
    replicate_by_coturn("udp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coturn_relays_by_tcp_what_nodes_that_use_relays_alone_replicate() {
    replicate_by_coturn("tcp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signal_server_itself_relays_by_udp_what_nodes_that_use_relays_alone_replicate() {
    replicate_by_own("udp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signal_server_itself_relays_by_tcp_what_nodes_that_use_relays_alone_replicate() {
    replicate_by_own("tcp").await;
}

/// Waits until the node says why it reached nobody.
async fn refused(node: &mut TestNode) -> String {
    node.event(|event| match event {
        NodeEvent::StepFailed {
            step: Step::NotConnected { reason, .. },
        } => Some(reason.clone()),
        NodeEvent::SessionOpened { session } => panic!("connected: {session:?}"),
        _ => None,
    })
    .await
}

/// Starts two nodes that use relays alone and meet at once; returns why the one that offers, or both,
/// reached nobody.
async fn attempt(ice: IceSettings) -> String {
    let server = SignalServer::with(Settings::default().ice(ice)).await;
    let mut left = start(hidden(1, &server), 1);
    let mut right = start(hidden(2, &server), 2);
    left.node.join(Label::Invite, [9; 32]);
    right.node.join(Label::Invite, [9; 32]);
    tokio::select! {
        reason = refused(&mut left) => reason,
        reason = refused(&mut right) => reason,
    }
}

/// Returns whether an offer made with credentials that end at `expiry` has a relayed candidate.
async fn is_relayed_until(coturn: &Coturn, expiry: u64) -> bool {
    let secrets = TurnSecrets::parse(SECRET).unwrap();
    let (username, credential) = secrets.sign(expiry, "somebody");
    let servers = IceServers {
        turn: vec![coturn.url("udp").parse().unwrap()],
        username,
        credential,
        ..IceServers::default()
    };
    let settings = WebrtcSettings {
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        servers: vec![servers],
        relay_only: true,
        ..WebrtcSettings::default()
    };
    let (mut offer, description) = Negotiation::offer(&settings, 1).await.unwrap();
    let is_relay = |body: &[u8]| String::from_utf8_lossy(body).contains("typ relay");
    let later = async {
        loop {
            if let Ok(Progress::Candidate(body)) = offer.progress().await {
                return is_relay(&body);
            }
        }
    };
    // The server answers at once; one that refuses gives nothing to wait for.
    is_relay(&description)
        || timeout(Duration::from_secs(1), later)
            .await
            .unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coturn_refuses_credentials_that_have_ended() {
    let coturn = Coturn::on_loopback(SECRET);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(is_relayed_until(&coturn, now + 600).await);
    assert!(!is_relayed_until(&coturn, now - 600).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coturn_refuses_credentials_of_another_secret() {
    let coturn = Coturn::on_loopback(SECRET);
    attempt(ice(&coturn, "udp", "west-east-south-north")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_use_relays_alone_reach_nobody_without_one() {
    let reason = attempt(IceSettings::default()).await;
    assert!(
        reason.contains("no signal server named a TURN server"),
        "{reason}"
    );
}
