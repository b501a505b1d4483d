//! What the far side says in a session, decrypted, for tests that search it.
//!
//! Shown only to a subscriber that asks for the target `kinlog_swarm::frames` at level TRACE.

use kinlog_feeds::text;
use kinlog_feeds::wire::Event;
use tracing::{Level, enabled, trace};

const TARGET: &str = "kinlog_swarm::frames";

/// Traces every byte that an event carries.
pub(super) fn trace_event(event: &Event) {
    if !enabled!(target: TARGET, Level::TRACE) {
        return;
    }
    match event {
        Event::RemoteOpen {
            protocol,
            id,
            handshake,
        } => {
            show("open protocol", protocol.as_bytes());
            show("open id", id.as_deref().unwrap_or_default());
            show("open handshake", handshake);
        }
        Event::Opened { handshake, .. } => show("opened handshake", handshake),
        Event::Message { body, .. } => show("message", body),
        // The rest carries no bytes of the far side.
        _ => {}
    }
}

fn show(what: &str, bytes: &[u8]) {
    trace!(target: TARGET, what, hex = text::encode_hex(bytes), "received");
}
