//! The four calls.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{self, Body};
use axum::extract::{Extension, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use kinlog_feeds::{PublicKey, text};
use serde_json::{Value, json};

use crate::limits::{ANNOUNCED_FOR, CALL_BODY_BYTES_MAX, COORDINATOR_FOR};
use crate::rules::{ActivePeers, CallError, PeerEntry};
use crate::server::accept::Server;
use crate::server::forwarded::client_address;
use crate::server::problem::Problem;
use crate::server::registry::body::{AnnounceBody, HeartbeatBody, key, parse};
use crate::{ServerName, Topic};

pub(super) async fn active_peers(
    State(server): State<Server>,
    Extension(socket): Extension<SocketAddr>,
    Path(network): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = Caller::of(&server, socket, &headers)?;
    let topic = Topic(key("networkId", &network)?);
    let found = server.hub.active_peers(caller.address, &topic)?;
    Ok(answer(&json!({
        "networkId": text::encode(&topic.0),
        "peers": caller.peers(&found),
        "total": found.total,
        "coordinators": keys(&found.coordinators),
    })))
}

pub(super) async fn peer(
    State(server): State<Server>,
    Extension(socket): Extension<SocketAddr>,
    Path((network, user)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = Caller::of(&server, socket, &headers)?;
    let topic = Topic(key("networkId", &network)?);
    let user = PublicKey(key("userId", &user)?);
    let found = server.hub.devices_of(caller.address, &topic, &user)?;
    Ok(answer(&json!({
        "networkId": text::encode(&topic.0),
        "userId": text::encode(&user.0),
        "online": found.total > 0,
        "devices": caller.peers(&found),
        "lastCoordinators": keys(&found.coordinators),
    })))
}

pub(super) async fn announce(
    State(server): State<Server>,
    Extension(socket): Extension<SocketAddr>,
    Path(network): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = Caller::of(&server, socket, &headers)?;
    let topic = Topic(key("networkId", &network)?);
    let body = parse::<AnnounceBody>(&read(&headers, body).await?)?;
    let (said, signatures) = body.into_announcement(topic)?;
    let unix_s = unix_s()?;
    let Caller { address, names, .. } = caller;
    server
        .hub
        .announce(unix_s, address, &names, said, &signatures)?;
    Ok(answer(&json!({
        "networkId": text::encode(&topic.0),
        "expires": unix_s + ANNOUNCED_FOR.as_secs(),
    })))
}

pub(super) async fn heartbeat(
    State(server): State<Server>,
    Extension(socket): Extension<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = Caller::of(&server, socket, &headers)?;
    let body = parse::<HeartbeatBody>(&read(&headers, body).await?)?;
    let (said, signature) = body.into_heartbeat()?;
    let unix_s = unix_s()?;
    let Caller { address, names, .. } = caller;
    let ranking = server
        .hub
        .heartbeat(unix_s, address, &names, &said, &signature)?;
    Ok(answer(&json!({
        "networkId": text::encode(&said.topic.0),
        "expires": unix_s + COORDINATOR_FOR.as_secs(),
        "coordinators": keys(&ranking),
    })))
}

/// Who calls, and by which name of the server.
struct Caller {
    address: IpAddr,
    names: Vec<ServerName>,
    /// The server as the caller dialled it, for peers that are connected here.
    here: String,
}

impl Caller {
    fn of(server: &Server, socket: SocketAddr, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(address) = client_address(socket, headers, server.proxy_header.as_ref()) else {
            return Err(Problem::bad_request("the proxy's header names no address"));
        };
        let names = server.names_asked_for(headers).map_err(|_| {
            let shown = "another server was asked for";
            Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", shown)
        })?;
        if names.is_empty() {
            return Err(Problem::bad_request("no usable host header"));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let scheme = if server.is_secure(headers) {
            "wss"
        } else {
            "ws"
        };
        let here = format!("{scheme}://{}", host.unwrap_or_default());
        Ok(Caller {
            address,
            names,
            here,
        })
    }

    fn peers(&self, found: &ActivePeers) -> Vec<Value> {
        let now = unix_s().unwrap_or_default();
        let entry = |entry: &PeerEntry| {
            json!({
                "userId": text::encode(&entry.user.0),
                "peerId": text::encode(&entry.peer.0),
                "signalAddress": entry.signal_address.as_ref().unwrap_or(&self.here),
                "capabilities": entry.capabilities,
                "lastSeen": now.saturating_sub(entry.seen_ago.as_secs()),
                "isCoordinator": entry.is_coordinator,
            })
        };
        found.peers.iter().map(entry).collect()
    }
}

fn keys(keys: &[PublicKey]) -> Vec<String> {
    keys.iter().map(|key| text::encode(&key.0)).collect()
}

/// Reads a body that says that it is JSON and is not too long.
async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    if !kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let shown = "the body is application/json";
        return Err(Problem::new(status, "unsupported-media-type", shown));
    }
    body::to_bytes(body, CALL_BODY_BYTES_MAX)
        .await
        .map_err(|_| {
            let shown = format!("the body has at most {CALL_BODY_BYTES_MAX} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", shown)
        })
}

fn unix_s() -> Result<u64, Problem> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map(|now| now.as_secs()).map_err(|_| {
        let shown = "the server's clock is not set";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-clock", shown)
    })
}

fn answer(body: &Value) -> Response {
    let head = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    (head, body.to_string()).into_response()
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let status = match &error {
            CallError::RateLimited { .. } | CallError::AddressFull => StatusCode::TOO_MANY_REQUESTS,
            CallError::BadSignature => StatusCode::FORBIDDEN,
            CallError::NotAnnounced => StatusCode::NOT_FOUND,
            CallError::NotNewer => StatusCode::CONFLICT,
            CallError::TopicFull | CallError::ServerFull => StatusCode::SERVICE_UNAVAILABLE,
            CallError::TimeOff { .. } | CallError::Announcement(_) => StatusCode::BAD_REQUEST,
        };
        let mut problem = Problem::new(status, error.name(), error.to_string());
        if let CallError::RateLimited { wait } = error {
            problem.retry_after_s = Some(wait.as_secs() + 1);
        }
        problem
    }
}
