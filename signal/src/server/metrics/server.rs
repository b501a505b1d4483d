//! What the signal server counts, as a page. No name in it comes from a client.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;

use crate::server::hub::Hub;
use crate::server::metrics::Page;
use crate::turn::{TurnCounts, TurnServer};

/// Returns what the metrics port serves.
pub(in crate::server) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(hub)
}

async fn metrics(State(hub): State<Arc<Hub>>) -> Page {
    render(&hub)
}

fn render(hub: &Hub) -> Page {
    let (counts, counters) = (hub.counts(), hub.counters());
    let mut page = Page::default();
    page.family("kinlog_build_info", "gauge", "What runs here.");
    let version = ("version", env!("CARGO_PKG_VERSION"));
    page.value("kinlog_build_info", &[version], 1);
    page.gauge(
        "kinlog_signal_ready",
        "1 while clients are taken.",
        u8::from(hub.is_ready()),
    );
    page.gauge(
        "kinlog_signal_uptime_seconds",
        "Time since the start.",
        hub.uptime().as_secs(),
    );
    page.gauge(
        "kinlog_signal_connections",
        "Open connections.",
        counts.connections,
    );
    page.gauge(
        "kinlog_signal_connections_unjoined",
        "Open connections that joined nothing yet.",
        counts.unjoined,
    );
    page.gauge(
        "kinlog_signal_topics",
        "Topics with members.",
        counts.topics,
    );
    page.gauge(
        "kinlog_signal_memberships",
        "Memberships in all topics.",
        counts.memberships,
    );
    page.gauge(
        "kinlog_signal_addresses",
        "Addresses whose budget is remembered.",
        counts.addresses,
    );
    if let Some(stun) = hub.stun() {
        let name = "kinlog_signal_stun_datagrams_total";
        page.family(name, "counter", "Datagrams to the STUN port.");
        let counts = stun.counts();
        for (result, value) in [
            ("answered", counts.answered),
            ("refused", counts.refused),
            ("too_often", counts.too_often),
            ("ignored", counts.ignored),
        ] {
            page.value(name, &[("result", result)], value);
        }
    }
    relay(
        &mut page,
        &hub.turn().map(TurnServer::counts).unwrap_or_default(),
    );
    page.counter(
        "kinlog_signal_connects_total",
        "Connections taken.",
        counters.connects,
    );
    page.counters(
        "kinlog_signal_connects_refused_total",
        "Connections not taken.",
        "reason",
        &counters.connects_refused,
    );
    page.counters(
        "kinlog_signal_closes_total",
        "Connections that ended.",
        "reason",
        &counters.closes,
    );
    page.counters(
        "kinlog_signal_frames_total",
        "Frames of clients.",
        "kind",
        &counters.frames,
    );
    page.counter(
        "kinlog_signal_received_bytes_total",
        "Bytes of frames of clients.",
        counters.received_bytes,
    );
    page.counter(
        "kinlog_signal_sent_frames_total",
        "Frames to clients.",
        counters.sent_frames,
    );
    page.counter(
        "kinlog_signal_sent_bytes_total",
        "Bytes of frames to clients.",
        counters.sent_bytes,
    );
    page.counters(
        "kinlog_signal_relayed_total",
        "Offers, answers and candidates passed on.",
        "kind",
        &counters.relayed,
    );
    page.counter(
        "kinlog_signal_relayed_bytes_total",
        "Bytes of bodies passed on.",
        counters.relayed_bytes,
    );
    page.counters(
        "kinlog_signal_refusals_total",
        "Refusals of joins and signals.",
        "code",
        &counters.refusals,
    );
    page.counter(
        "kinlog_signal_pauses_total",
        "Times that a sender over its rate was not read from.",
        counters.pauses,
    );
    page.counters(
        "kinlog_registry_calls_total",
        "Calls of the registry over HTTP.",
        "call",
        &counters.registry_calls,
    );
    page.counters(
        "kinlog_registry_refusals_total",
        "Calls of the registry that were refused.",
        "reason",
        &counters.registry_refusals,
    );
    if let Some(bus) = hub.bus_status() {
        page.gauge(
            "kinlog_signal_bus_connected",
            "1 while other instances are reached.",
            u8::from(bus.connected),
        );
        page.gauge(
            "kinlog_signal_bus_instances",
            "Other instances.",
            bus.instances,
        );
        page.gauge(
            "kinlog_signal_remote_memberships",
            "Memberships with other instances.",
            counts.remote_memberships,
        );
        page.counters(
            "kinlog_signal_bus_refused_total",
            "Frames of the bus that were not believed.",
            "reason",
            &bus.refused,
        );
    }
    if let Some(bytes) = resident_bytes() {
        page.gauge(
            "process_resident_memory_bytes",
            "Memory of this process.",
            bytes,
        );
    }
    page
}

/// What the relay carries; zeros where there is none, so that whoever watches finds it.
fn relay(page: &mut Page, counts: &TurnCounts) {
    page.gauge(
        "kinlog_turn_allocations",
        "Live allocations of the relay.",
        counts.allocations,
    );
    page.counter(
        "kinlog_turn_allocations_total",
        "Allocations made.",
        counts.allocated,
    );
    let name = "kinlog_turn_relayed_bytes_total";
    page.family(name, "counter", "Bytes relayed.");
    page.value(name, &[("to", "peers")], counts.bytes_to_peers);
    page.value(name, &[("to", "clients")], counts.bytes_to_clients);
    page.counters(
        "kinlog_turn_refusals_total",
        "Requests to the relay that were refused.",
        "reason",
        &counts.refused,
    );
    page.counters(
        "kinlog_turn_dropped_total",
        "Datagrams and messages that were not relayed.",
        "reason",
        &counts.dropped,
    );
}

/// Returns the resident memory of this process, where the system tells it as Linux does.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
