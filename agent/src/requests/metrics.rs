//! Numbers for whoever watches a node: none is about anybody in particular.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinlog_swarm::{ConnectFailure, HistogramStatus, NodeMetrics, SessionStatus};

use crate::api::{ConnectionCount, Error, Metrics, Reply, Timings, WayKind};
use crate::core::Core;
use crate::peers::way;
use crate::requests::blocking;
use crate::tasks::Running;

/// States of connections, as metrics name them.
const STATES: [&str; 3] = ["active", "standby", "opening"];

/// What connections go over, as metrics name it.
const PATHS: [&str; 4] = ["lan", "direct", "turn", "peer"];

pub(super) async fn metrics(running: &Arc<Running>) -> Result<Reply, Error> {
    let network = running.core.network();
    let node = match &network {
        Some(network) => Some(network.node.metrics().await),
        None => None,
    };
    drop(network);
    blocking(&running.core, move |core| build(core, node)).await
}

fn build(core: &Core, node: Option<NodeMetrics>) -> Result<Reply, Error> {
    let stat = core.store.stat()?;
    let network = node.is_some();
    let NodeMetrics {
        sessions,
        connects,
        replication,
    } = node.unwrap_or_default();
    let failures = ConnectFailure::ALL.map(|reason| {
        let count = connects.failures.get(&reason).copied().unwrap_or_default();
        (reason.name().to_owned(), count)
    });
    Ok(Reply::Metrics(Box::new(Metrics {
        network,
        connections: connections(&sessions),
        connect_searches: connects.searches,
        connect: timings(connects.took),
        connect_failures: failures.into(),
        delivery: timings(replication.delivered),
        deliveries_missed: replication.missed,
        blocks_in: replication.blocks_in,
        blocks_out: replication.blocks_out,
        blocks_unsolicited: replication.unsolicited,
        store_bytes: stat.log_bytes + stat.index_bytes,
        index_behind: core.behind()?,
    })))
}

fn connections(sessions: &[SessionStatus]) -> Vec<ConnectionCount> {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for session in sessions {
        let kind = (state(session), path(way(session).kind));
        *counts.entry(kind).or_default() += 1;
    }
    let all = STATES
        .iter()
        .flat_map(|state| PATHS.iter().map(move |path| (*state, *path)));
    all.map(|(state, path)| ConnectionCount {
        state: state.to_owned(),
        path: path.to_owned(),
        count: counts.get(&(state, path)).copied().unwrap_or_default(),
    })
    .collect()
}

fn state(session: &SessionStatus) -> &'static str {
    match session.standing {
        Some(standing) => standing.name(),
        // Whoever made the link uses it.
        None if matches!(session.state.as_str(), "open" | "plain") => "active",
        None => "opening",
    }
}

fn path(kind: WayKind) -> &'static str {
    match kind {
        WayKind::Process | WayKind::Machine | WayKind::Network => "lan",
        WayKind::Nat | WayKind::Tcp | WayKind::Unknown => "direct",
        WayKind::Turn => "turn",
        WayKind::Peer => "peer",
    }
}

fn timings(measured: HistogramStatus) -> Timings {
    Timings {
        buckets: measured.buckets,
        count: measured.count,
        sum_us: measured.sum_us,
    }
}
