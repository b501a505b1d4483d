//! `/api/health`: that the server lives, and how much it holds; `/api/ready`: that it takes clients.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;

use crate::limits::PROTOCOL_VERSION;
use crate::server::hub::Hub;

/// Answers with counts, never with names.
pub(super) async fn health(State(hub): State<Arc<Hub>>) -> impl IntoResponse {
    let counts = hub.counts();
    let body = serde_json::json!({
        "v": 1,
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL_VERSION,
        "uptime_s": hub.uptime().as_secs(),
        "connections": counts.connections,
        "topics": counts.topics,
        "memberships": counts.memberships,
    });
    (
        [
            (CONTENT_TYPE, "application/json"),
            (CACHE_CONTROL, "no-store"),
        ],
        body.to_string(),
    )
}

/// Answers 200 while connections are taken, 503 once the server is about to stop.
pub(super) async fn ready(State(hub): State<Arc<Hub>>) -> impl IntoResponse {
    let (status, word) = if hub.is_ready() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    };
    let body = serde_json::json!({ "v": 1, "status": word });
    (
        status,
        [
            (CONTENT_TYPE, "application/json"),
            (CACHE_CONTROL, "no-store"),
        ],
        body.to_string(),
    )
}
