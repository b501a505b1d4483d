//! Nodes that meet without a signal server: on one network, and where they met before.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop where they fail"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{PATIENCE, SignalServer, TestHost, TestNode, config, store};
use kinlog_swarm::limits::LAN_DIALS_PER_MINUTE;
use kinlog_swarm::{FoundBy, Label, LanConfig, LanInterfaces, MeetingPointConfig, NodeConfig};
use mdns_sd::{IfKind, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::net::TcpListener;

const KEY: [u8; 32] = [0x17; 32];
const SERVICE: &str = "_kinlog._tcp.local.";

/// A port for mDNS that no other test of this machine hears.
fn mdns_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

/// Settings of a node that looks for others on loopback.
fn on_loopback(seed: u8, port: u16) -> NodeConfig {
    let mut config = config(seed, &[]);
    config.meeting_point = Some(MeetingPointConfig::default());
    let lan = LanConfig::default().interfaces(LanInterfaces::Loopback);
    config.lan = Some(lan.port(Some(port)));
    config
}

fn start(config: NodeConfig) -> TestNode {
    let seed = config.device_secret.expose()[0];
    TestNode::with(config, store(seed), TestHost::default())
}

/// Looks every few milliseconds until something is so.
async fn until<T>(
    node: &TestNode,
    mut look: impl FnMut(&kinlog_swarm::NodeStatus) -> Option<T>,
) -> T {
    let looking = async {
        let mut every = tokio::time::interval(Duration::from_millis(20));
        loop {
            every.tick().await;
            if let Some(found) = look(&node.node.status().await) {
                return found;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("not so in {PATIENCE:?}: {:#?}", node.node.status().await),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_network_meet_without_a_server() {
    let port = mdns_port();
    let mut nodes: Vec<TestNode> = (1..=3).map(|seed| start(on_loopback(seed, port))).collect();
    for node in &nodes {
        node.node.join(Label::Feed, KEY);
    }
    for node in &mut nodes {
        node.opened().await;
    }
    for node in &nodes {
        let found = until(node, |status| {
            let is_there = status.sessions.len() == 2 && status.lan.as_ref()?.neighbours == 2;
            is_there.then(|| status.clone())
        })
        .await;
        let by: BTreeMap<FoundBy, u64> = found.found;
        assert!(
            by.keys()
                .all(|by| matches!(by, FoundBy::Lan | FoundBy::Own)),
            "{by:?}"
        );
        let lan = found.lan.unwrap();
        assert_eq!(lan.trouble, None);
        assert_eq!(lan.port, node.node.meeting_port());
        for session in &found.sessions {
            assert!(
                session.found_by.is_some() && session.met_at.is_some(),
                "{session:?}"
            );
        }
    }
    // Who leaves says so: the others see it go before any record runs out.
    let gone = nodes.pop().unwrap();
    gone.node.shutdown().await;
    for node in &nodes {
        until(node, |status| {
            (status.lan.as_ref()?.neighbours == 1).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_is_met_at_its_own_meeting_point_by_who_remembers_it() {
    let mut host = config(1, &[]);
    host.meeting_point = Some(MeetingPointConfig::default());
    let mut host = start(host);
    let mut guest = TestNode::start(2, &[]);
    host.node.join(Label::Feed, KEY);
    guest.node.join(Label::Feed, KEY);
    let port = host.node.meeting_port().unwrap();
    let route = format!("ws://127.0.0.1:{port}");
    guest.node.set_routes(vec![route.parse().unwrap()]);
    host.opened().await;
    guest.opened().await;
    let status = guest.node.status().await;
    assert_eq!(status.found, [(FoundBy::Route, 1)].into());
    assert_eq!(status.sessions[0].met_at.as_deref(), Some(route.as_str()));
    assert_eq!(host.node.status().await.found, [(FoundBy::Own, 1)].into());
    // A route that is wanted no more is left; the session goes on.
    guest.node.set_routes(Vec::new());
    until(&guest, |status| status.signal.is_empty().then_some(())).await;
    until(&host, |status| {
        (status.topics[0].peers_seen == 0).then_some(())
    })
    .await;
    assert_eq!(guest.node.status().await.sessions.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_is_named_later_is_joined_without_a_new_start() {
    let server = SignalServer::start().await;
    let mut early = TestNode::start(1, &[]);
    early.node.join(Label::Feed, KEY);
    let mut late = TestNode::start(2, &[&server.url]);
    late.node.join(Label::Feed, KEY);
    early.node.add_signal(&server.url).unwrap();
    early.opened().await;
    late.opened().await;
    assert_eq!(
        early.node.status().await.found,
        [(FoundBy::Signal, 1)].into()
    );
    assert!(early.node.add_signal("http://no.server").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn port_that_is_taken_gives_way_to_another() {
    let at = |port| {
        let mut config = config(1, &[]);
        config.meeting_point = Some(MeetingPointConfig::default().port(port));
        start(config).node
    };
    let first = at(0);
    let taken = first.meeting_port().unwrap();
    let second = at(taken).meeting_port().unwrap();
    assert!(second != taken && second != 0, "{taken}, {second}");
}

/// Somebody says to be many nodes, each with a name smaller than any honest one is likely to have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_invented_nodes_costs_a_dozen_dials() {
    const INVENTED: u64 = 48;
    let port = mdns_port();
    let liar = ServiceDaemon::new_with_port(port).unwrap();
    liar.disable_interface(IfKind::All).unwrap();
    liar.enable_interface(IfKind::LoopbackV4).unwrap();
    let dials = Arc::new(AtomicUsize::new(0));
    for number in 0..INVENTED {
        // Each takes the call, counts it, and says nothing.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let name = format!("{number:016x}");
        let host = format!("{name}.local.");
        let at = listener.local_addr().unwrap().port();
        let rubbish: &[(&str, &str)] = &[("topic", "\u{1b}[2J"), ("url", "ws://8.8.8.8")];
        let mut service =
            ServiceInfo::new(SERVICE, &name, &host, "127.0.0.1", at, rubbish).unwrap();
        service.set_requires_probe(false);
        while liar.register(service.clone()).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let dials = Arc::clone(&dials);
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                dials.fetch_add(1, Ordering::Relaxed);
                held.push(stream);
            }
        });
    }
    let seen = liar.browse(SERVICE).unwrap();
    let mut announced = 0;
    while announced < INVENTED {
        if let ServiceEvent::ServiceResolved(_) = seen.recv_async().await.unwrap() {
            announced += 1;
        }
    }
    let mut nodes = [1, 2].map(|seed| start(on_loopback(seed, port)));
    for node in &mut nodes {
        node.node.join(Label::Feed, KEY);
    }
    for node in &nodes {
        until(node, |status| {
            (status.lan.as_ref()?.neighbours >= 10).then_some(())
        })
        .await;
    }
    let both = nodes.len() * LAN_DIALS_PER_MINUTE;
    assert!(dials.load(Ordering::Relaxed) <= both);
    let _ = liar.shutdown();
}
