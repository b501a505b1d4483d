//! Answers the WebSocket request.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::http::header::{HOST, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

use crate::ServerName;
use crate::join::NONCE_BYTES;
use crate::rules::ConnectError;
use crate::server::accept::Server;
use crate::server::connection;
use crate::server::forwarded::client_address;
use crate::server::handshake::accept;

/// Seconds after which who met a server that stops may look whether it is back.
const STOPPING_RETRY_S: &str = "5";

pub(super) async fn upgrade(
    State(server): State<Server>,
    Extension(address): Extension<SocketAddr>,
    mut request: Request,
) -> Response {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let answer = match accept(&request) {
        Ok(answer) => answer,
        Err(refused) => return *refused,
    };
    let headers = request.headers();
    let Some(address) = client_address(address, headers, server.proxy_header.as_ref()) else {
        let shown = "the proxy's header names no address";
        return (StatusCode::BAD_REQUEST, shown).into_response();
    };
    let Ok(names) = server.names_asked_for(headers) else {
        let shown = "another server was asked for";
        return (StatusCode::MISDIRECTED_REQUEST, shown).into_response();
    };
    let mut nonce = [0; NONCE_BYTES];
    if getrandom::fill(&mut nonce).is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let (id, outbox) = match server.hub.connect(address, names, nonce) {
        Ok(taken) => taken,
        Err(error) => return refusal(error),
    };
    let (hub, alive) = (Arc::clone(&server.hub), server.alive.clone());
    tokio::spawn(async move {
        match on_upgrade.await.ok().and_then(open) {
            Some(opened) => connection::run(hub, id, outbox, opened).await,
            None => hub.disconnect(id),
        }
        drop(alive);
    });
    answer
}

/// The socket under a WebSocket that was granted, without the layers that HTTP needed.
pub(super) struct Opened {
    pub(super) read: OwnedReadHalf,
    pub(super) write: OwnedWriteHalf,
    pub(super) tls: Option<Box<ServerConnection>>,
    /// What came together with the request.
    pub(super) early: Bytes,
}

fn open(upgraded: Upgraded) -> Option<Opened> {
    let (stream, tls, early) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(plain) => (plain.io.into_inner(), None, plain.read_buf),
        Err(other) => {
            let secure = other.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
            let (stream, tls) = secure.io.into_inner().into_inner();
            (stream, Some(Box::new(tls)), secure.read_buf)
        }
    };
    let (read, write) = stream.into_split();
    Some(Opened {
        read,
        write,
        tls,
        early,
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
