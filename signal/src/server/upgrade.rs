//! Answers the WebSocket request.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, State};
use axum::http::header::{HOST, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::ServerName;
use crate::join::NONCE_BYTES;
use crate::limits::FRAME_BYTES_MAX;
use crate::rules::ConnectError;
use crate::server::accept::Server;
use crate::server::connection;
use crate::server::forwarded::client_address;

/// Seconds after which who met a server that stops may look whether it is back.
const STOPPING_RETRY_S: &str = "5";

pub(super) async fn upgrade(
    State(server): State<Server>,
    Extension(address): Extension<SocketAddr>,
    headers: HeaderMap,
    request: WebSocketUpgrade,
) -> Response {
    let Some(address) = client_address(address, &headers, server.proxy_header.as_ref()) else {
        let shown = "the proxy's header names no address";
        return (StatusCode::BAD_REQUEST, shown).into_response();
    };
    let Ok(names) = server.names_asked_for(&headers) else {
        let shown = "another server was asked for";
        return (StatusCode::MISDIRECTED_REQUEST, shown).into_response();
    };
    let mut nonce = [0; NONCE_BYTES];
    if getrandom::fill(&mut nonce).is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let request = request
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0);
    let (id, changed) = match server.hub.connect(address, names, nonce) {
        Ok(taken) => taken,
        Err(error) => return refusal(error),
    };
    let (hub, lost) = (Arc::clone(&server.hub), Arc::clone(&server.hub));
    let alive = server.alive.clone();
    request
        .on_failed_upgrade(move |_error| lost.disconnect(id))
        .on_upgrade(move |socket| async move {
            connection::run(hub, id, changed, socket).await;
            drop(alive);
        })
}

fn refusal(error: ConnectError) -> Response {
    let status = match error {
        ConnectError::NoServerName => StatusCode::BAD_REQUEST,
        ConnectError::AddressFull => StatusCode::TOO_MANY_REQUESTS,
        ConnectError::ServerFull | ConnectError::ServerStops => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = (status, error.to_string()).into_response();
    if error == ConnectError::ServerStops {
        let seconds = axum::http::HeaderValue::from_static(STOPPING_RETRY_S);
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

/// The request is for a server of another name.
pub(super) struct AnotherServer;

impl Server {
    /// Returns the names by which the client may have dialled, when they are ours.
    pub(super) fn names_asked_for(
        &self,
        headers: &HeaderMap,
    ) -> Result<Vec<ServerName>, AnotherServer> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let mut names = ServerName::from_host_header(host.unwrap_or_default());
        if !self.names.is_empty() {
            names.retain(|name| self.names.iter().any(|own| own == name.as_str()));
            if names.is_empty() {
                return Err(AnotherServer);
            }
        }
        Ok(names)
    }
}
