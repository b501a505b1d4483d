//! How a node does, as a page for Prometheus. Nothing in it names anybody.

use std::time::Duration;

use kinlog_agent::api::{Metrics, Timings};
use kinlog_signal::server::Page;

/// Calls of the registry that this node made: there is no code in an agent that calls it.
const REGISTRY_CALLS: u64 = 0;

pub(super) fn page(metrics: &Metrics) -> Page {
    let mut page = Page::default();
    page.family("kinlog_build_info", "gauge", "What runs here.");
    let version = ("version", env!("CARGO_PKG_VERSION"));
    page.value("kinlog_build_info", &[version], 1);
    page.gauge(
        "kinlog_node_network_up",
        "1 while the network of the node is on.",
        u8::from(metrics.network),
    );
    connections(&mut page, metrics);
    timings(
        &mut page,
        "kinlog_connect_seconds",
        "From when a peer is first seen or dials until a session with it is open.",
        &metrics.connect,
    );
    page.counter(
        "kinlog_connect_searches_total",
        "Peers that were tried to connect to, each counted when its first try had ended.",
        metrics.connect_searches,
    );
    let name = "kinlog_connect_failures_total";
    page.family(
        name,
        "counter",
        "Attempts to connect that led to no session.",
    );
    for (reason, count) in &metrics.connect_failures {
        page.value(name, &[("reason", reason)], count);
    }
    timings(
        &mut page,
        "kinlog_delivery_seconds",
        "From an append until the first connected peer that takes what is appended says that it has it.",
        &metrics.delivery,
    );
    page.counter(
        "kinlog_deliveries_missed_total",
        "Appends that no such peer had after a minute.",
        metrics.deliveries_missed,
    );
    page.counter(
        "kinlog_registry_calls_total",
        "Calls of a signal server's registry: none, a node meets others in topics alone.",
        REGISTRY_CALLS,
    );
    let name = "kinlog_blocks_total";
    page.family(
        name,
        "counter",
        "Blocks of others stored, and blocks sent to them.",
    );
    page.value(name, &[("dir", "in")], metrics.blocks_in);
    page.value(name, &[("dir", "out")], metrics.blocks_out);
    page.counter(
        "kinlog_unsolicited_blocks_total",
        "Messages with blocks that were not asked for, and not taken.",
        metrics.blocks_unsolicited,
    );
    page.gauge(
        "kinlog_store_bytes",
        "Bytes of the store on disk.",
        metrics.store_bytes,
    );
    page.gauge(
        "kinlog_index_lag_entries",
        "Blocks that are stored and not in the index yet.",
        metrics.index_behind,
    );
    page
}

fn connections(page: &mut Page, metrics: &Metrics) {
    let name = "kinlog_connections";
    page.family(name, "gauge", "Connections, and over what they go.");
    for one in &metrics.connections {
        let labels = [("state", one.state.as_str()), ("path", one.path.as_str())];
        page.value(name, &labels, one.count);
    }
    let relayed = metrics.open_over(&["turn"]);
    let all = relayed + metrics.open_over(&["lan", "direct", "peer"]);
    // Counts of connections are small: a float holds them exactly.
    let ratio = if all == 0 {
        0.0
    } else {
        relayed as f64 / all as f64
    };
    page.gauge(
        "kinlog_turn_ratio",
        "Share of the open connections that go through a TURN server, from 0 to 1; 0 without any.",
        ratio,
    );
}

fn timings(page: &mut Page, name: &str, help: &str, timings: &Timings) {
    let buckets = timings.buckets.iter();
    let buckets = buckets.map(|(millis, count)| (Duration::from_millis(*millis), *count));
    let sum = Duration::from_micros(timings.sum_us);
    page.histogram(name, help, buckets, timings.count, sum);
}
