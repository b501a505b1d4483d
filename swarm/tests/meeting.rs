//! Two nodes meet through a real signal server and talk over real WebRTC.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support;
use crate::support::{SignalServer, TestHost, TestNode, config, store};
use bytes::Bytes;
use kinlog_feeds::{Hash, KeyPair};
use kinlog_signal::Settings;
use kinlog_signal::rules::RuleSettings;
use kinlog_signal::topic::period;
use kinlog_swarm::link::CandidateKind;
use kinlog_swarm::{Credentials, Label, NodeEvent, PeerMessage, SessionRole, Step, Transport};
use tokio::runtime::{Builder, Runtime};

/// A key whose topic does not roll while a test runs: round a roll two nodes meet twice, once in each
/// period.
fn key() -> [u8; 32] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    *KEY.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let hour = 3_600;
        let mut keys = (0..=u8::MAX).map(|number| [number; 32]);
        let stays =
            |key: &[u8; 32]| period(key, now.as_secs() - hour) == period(key, now.as_secs() + hour);
        keys.find(stays)
            .expect("topics roll once a day, each at its own time")
    })
}

async fn connected_pair(server: &SignalServer, label: Label) -> (TestNode, TestNode) {
    let mut left = TestNode::start(1, &[&server.url]);
    let mut right = TestNode::start(2, &[&server.url]);
    left.node.join(label, key());
    right.node.join(label, key());
    left.opened().await;
    right.opened().await;
    (left, right)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_in_one_topic_connect_over_webrtc() {
    let server = SignalServer::start().await;
    let (left, right) = connected_pair(&server, Label::Feed).await;
    for node in [&left, &right] {
        let status = node.status().await;
        assert_eq!(status.sessions.len(), 1, "{status:#?}");
        let session = &status.sessions[0];
        assert_eq!(session.transport, Transport::Webrtc);
        assert_eq!(session.state, "open");
        assert_eq!(session.device, None);
        let path = session.path.clone().expect("ICE has selected a pair");
        assert!(matches!(
            path.local.kind,
            CandidateKind::Host | CandidateKind::Prflx
        ));
        assert_eq!(path.protocol, "udp");
        assert!(path.local.address.is_some() && path.remote.address.is_some());
        assert!(session.bytes_in > 0 && session.bytes_out > 0);
        assert!(status.signal[0].connected);
        assert_eq!(status.topics[0].peers_seen, 1);
        assert_eq!(status.topics[0].sessions, 1);
    }
    let roles = [&left, &right].map(|node| node.host.open.lock().unwrap()[0].role);
    assert!(roles.contains(&SessionRole::Initiator) && roles.contains(&SessionRole::Responder));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_answer_each_other() {
    let server = SignalServer::start().await;
    let (left, right) = connected_pair(&server, Label::Invite).await;
    let session = left.host.open.lock().unwrap()[0].id;
    let request = PeerMessage::JoinRequest {
        bytes: Bytes::from_static(b"let me in"),
    };
    left.node.send(session, request.clone()).unwrap();
    support_wait(|| !left.host.heard.lock().unwrap().is_empty()).await;
    assert_eq!(*right.host.heard.lock().unwrap(), [request]);
    let response = PeerMessage::JoinResponse {
        bytes: Bytes::from_static(b"let me in"),
    };
    assert_eq!(*left.host.heard.lock().unwrap(), [response]);
}

/// Polls a fact that no event tells.
async fn support_wait(fact: impl Fn() -> bool) {
    let poll = async {
        let mut every = tokio::time::interval(Duration::from_millis(5));
        while !fact() {
            every.tick().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, poll)
        .await
        .expect("the fact comes about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_shown_in_rooms_and_hold_over_the_dtls_link() {
    let server = SignalServer::start().await;
    let device = |seed: u8| Credentials {
        device: KeyPair::from_seed(&[seed; 32]),
        identity_hash: Hash([seed; 32]),
    };
    let start = |seed: u8| {
        let host = TestHost {
            credentials: Some(device(seed)),
            ..TestHost::default()
        };
        TestNode::with(config(seed, &[&server.url]), store(seed), host)
    };
    let (left, right) = (start(1), start(2));
    left.node.join(Label::Room, key());
    right.node.join(Label::Room, key());
    for (node, other) in [(&left, 2), (&right, 1)] {
        support_wait(|| !node.host.certified.lock().unwrap().is_empty()).await;
        let shown = node.host.certified.lock().unwrap()[0]
            .remote_certificate
            .unwrap();
        assert_eq!(shown.device.0, device(other).device.public_key().0);
        assert_eq!(shown.identity_hash, Hash([other; 32]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_certificate_is_shown_in_a_public_topic() {
    let server = SignalServer::start().await;
    let start = |seed: u8| {
        let credentials = Credentials {
            device: KeyPair::from_seed(&[seed; 32]),
            identity_hash: Hash([seed; 32]),
        };
        let host = TestHost {
            credentials: Some(credentials),
            ..TestHost::default()
        };
        TestNode::with(config(seed, &[&server.url]), store(seed), host)
    };
    let (mut left, mut right) = (start(1), start(2));
    left.node.join(Label::Feed, key());
    right.node.join(Label::Feed, key());
    let session = left.opened().await;
    right.opened().await;
    // A message that is answered comes after whatever was sent at the opening.
    let bytes = Bytes::from_static(b"anything else?");
    left.node
        .send(session.id, PeerMessage::JoinRequest { bytes })
        .unwrap();
    support_wait(|| !left.host.heard.lock().unwrap().is_empty()).await;
    assert!(left.host.certified.lock().unwrap().is_empty());
    assert!(right.host.certified.lock().unwrap().is_empty());
}

/// A node on a runtime of its own, so that it can end as by kill -9: nothing runs any more, nothing
/// is said to anybody.
struct Mortal {
    node: TestNode,
    runtime: Runtime,
}

impl Mortal {
    fn start(seed: u8, url: &str) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let node = {
            let _inside = runtime.enter();
            TestNode::start(seed, &[url])
        };
        node.node.join(Label::Feed, key());
        Mortal { node, runtime }
    }

    fn kill(self) {
        self.runtime.shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_peer_is_met_again_soon_whichever_side_offers() {
    let server = SignalServer::start().await;
    let mut mortals = [Mortal::start(1, &server.url), Mortal::start(2, &server.url)];
    for mortal in &mut mortals {
        mortal.node.opened().await;
    }
    // Keys decide who offers: one of the two kills hits that side, the other one the other side.
    for round in 0..4_u8 {
        let [left, right] = mortals;
        let (mut survivor, killed, seed) = match round % 2 {
            0 => (left, right, 2),
            _ => (right, left, 1),
        };
        let before = survivor.node.host.open.lock().unwrap()[0].id;
        killed.kill();
        let back = Instant::now();
        let mut returned = Mortal::start(seed, &server.url);
        returned.node.opened().await;
        let session = survivor.node.opened().await;
        assert_ne!(session.id, before);
        assert!(
            back.elapsed() < Duration::from_secs(8),
            "round {round}: {:?}",
            back.elapsed()
        );
        support_wait(|| survivor.node.host.open.lock().unwrap().len() == 1).await;
        mortals = match round % 2 {
            0 => [survivor, returned],
            _ => [returned, survivor],
        };
    }
    mortals.into_iter().for_each(Mortal::kill);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_the_signal_server_and_are_not_doubled_when_it_is_back() {
    let server = SignalServer::start().await;
    let (mut left, mut right) = connected_pair(&server, Label::Feed).await;
    let address = server.kill().await;
    for node in [&mut left, &mut right] {
        node.event(|event| match event {
            NodeEvent::StepFailed {
                step: Step::SignalUnreachable { .. },
            } => Some(()),
            _ => None,
        })
        .await;
    }
    let session = left.host.open.lock().unwrap()[0].id;
    let bytes = Bytes::from_static(b"still there?");
    left.node
        .send(session, PeerMessage::JoinRequest { bytes })
        .unwrap();
    support_wait(|| !left.host.heard.lock().unwrap().is_empty()).await;

    let _server = SignalServer::start_again(address).await;
    for node in [&mut left, &mut right] {
        node.event(|event| match event {
            NodeEvent::SignalConnected { .. } => Some(()),
            _ => None,
        })
        .await;
    }
    // Both see each other in the topic again; nothing is dialled, the old session runs.
    for node in [&left, &right] {
        let seen = async {
            while node.status().await.topics[0].peers_seen == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(support::PATIENCE, seen)
            .await
            .expect("both are in the topic again");
        assert_eq!(node.status().await.sessions.len(), 1);
    }
    assert_eq!(left.host.open.lock().unwrap()[0].id, session);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable_server_and_empty_topic_are_told_within_ten_seconds() {
    let server = SignalServer::start().await;
    let unreachable = "ws://127.0.0.1:9";
    let mut node = TestNode::start(1, &[&server.url, unreachable]);
    let start = Instant::now();
    node.node.join(Label::Feed, key());
    let (mut lost, mut nobody) = (false, false);
    node.event(|event| {
        if let NodeEvent::StepFailed { step } = event {
            lost |=
                matches!(step, Step::SignalUnreachable { url, .. } if url.starts_with(unreachable));
            nobody |= *step
                == Step::NobodyInTopic {
                    label: Label::Feed,
                    key: key(),
                };
        }
        (lost && nobody).then_some(())
    })
    .await;
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "took {:?}",
        start.elapsed()
    );
    let status = node.status().await;
    assert!(status.signal[0].connected && !status.signal[1].connected);
    assert!(status.signal[1].reason.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_that_the_server_refuses_is_told() {
    let mut rules = RuleSettings::default();
    rules.topics_per_connection_max = 0;
    let server = SignalServer::with(Settings::default().rules(rules)).await;
    let mut node = TestNode::start(1, &[&server.url]);
    node.node.join(Label::Feed, key());
    let reason = node
        .event(|event| match event {
            NodeEvent::StepFailed {
                step:
                    Step::NotConnected {
                        key: joined,
                        reason,
                        ..
                    },
            } if *joined == key() => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert_eq!(reason, "signal server: at most 0 topics");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_the_session_of_the_other_side() {
    let server = SignalServer::start().await;
    let (left, mut right) = connected_pair(&server, Label::Feed).await;
    left.node.shutdown().await;
    right
        .event(|event| match event {
            NodeEvent::SessionClosed { .. } => Some(()),
            _ => None,
        })
        .await;
}

/// R198: a connection is used again, wherever else the peer is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_met_on_two_servers_keep_one_session() {
    let (first, second) = (SignalServer::start().await, SignalServer::start().await);
    let urls = [first.url.as_str(), second.url.as_str()];
    let mut left = TestNode::start(1, &urls);
    let mut right = TestNode::start(2, &urls);
    left.node.join(Label::Feed, key());
    right.node.join(Label::Feed, key());
    left.opened().await;
    right.opened().await;
    let settled = async {
        loop {
            let (l, r) = (left.status().await, right.status().await);
            let one = |status: &kinlog_swarm::NodeStatus| {
                status.sessions.len() == 1
                    && status.sessions[0].state == "open"
                    && status.topics[0].peers_seen == 2
            };
            if one(&l) && one(&r) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, settled)
        .await
        .expect("one session remains");
}
