//! Accepting: TCP, HTTP with its limits, the upgrade, and a clean stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Extension, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use crate::address::{DEFAULT_PATH, ServerName, is_local};
use crate::join::NONCE_BYTES;
use crate::limits::{
    FRAME_BYTES_MAX, HANDSHAKE_WITHIN, HANDSHAKES_MAX, HEAD_BYTES_MAX, HEADERS_MAX,
};
use crate::rules::ConnectError;
use crate::server::connection;
use crate::server::health::health;
use crate::server::hub::Hub;
use crate::server::settings::Settings;

/// Clients get this long to take the goodbye when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// After an accept that failed for want of descriptors or memory, before the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` completes, then says goodbye to every client and returns.
///
/// # Errors
///
/// Returns an error when the system gives no random bytes for nonces. A failing accept is logged
/// and tried again.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let seed = getrandom::u64().map_err(io::Error::other)?;
    let hub = Arc::new(Hub::new(&settings, seed));
    // Every task holds a clone of `alive`; when all are gone, `gone` ends.
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let server = Server {
        hub: Arc::clone(&hub),
        names: settings
            .names
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        only_local: settings.only_local,
        handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        alive,
    };
    tokio::pin!(shutdown);
    let mut sweep_at = Instant::now() + hub.sweep();
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = sleep_until(sweep_at) => sweep_at = Instant::now() + hub.sweep(),
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => server.accept(stream, address),
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(server);
    hub.stop();
    if tokio::time::timeout(STOP_WITHIN, gone.recv())
        .await
        .is_err()
    {
        debug!("some clients did not take the goodbye");
    }
    Ok(())
}

#[derive(Clone)]
struct Server {
    hub: Arc<Hub>,
    names: Arc<[String]>,
    only_local: bool,
    handshakes: Arc<Semaphore>,
    alive: mpsc::Sender<()>,
}

impl Server {
    /// Starts the task of one socket; drops it when too many have not finished their request.
    fn accept(&self, stream: TcpStream, address: SocketAddr) {
        if self.only_local && !is_local(address.ip()) {
            debug!("a connection from outside of the local network");
            return;
        }
        let Ok(handshake) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            debug!("too many unfinished requests");
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "socket lost before its request");
            return;
        }
        let router = Router::new()
            .route(DEFAULT_PATH, any(upgrade))
            .with_state(self.clone())
            .merge(
                Router::new()
                    .route("/api/health", get(health))
                    .with_state(self.hub.clone()),
            )
            .layer(Extension(address));
        let alive = self.alive.clone();
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HANDSHAKE_WITHIN)
                .max_buf_size(HEAD_BYTES_MAX)
                .max_headers(HEADERS_MAX);
            let service = TowerToHyperService::new(router);
            let request = http
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            match tokio::time::timeout(HANDSHAKE_WITHIN, request).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "request failed"),
                Err(_) => debug!("request took too long"),
            }
            drop(handshake);
            drop(alive);
        });
    }
}

/// Answers the WebSocket request.
async fn upgrade(
    State(server): State<Server>,
    Extension(address): Extension<SocketAddr>,
    headers: HeaderMap,
    request: WebSocketUpgrade,
) -> Response {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let mut names = ServerName::from_host_header(host);
    if !server.names.is_empty() {
        names.retain(|name| server.names.iter().any(|own| own == name.as_str()));
        if names.is_empty() {
            return (
                StatusCode::MISDIRECTED_REQUEST,
                "another server was asked for",
            )
                .into_response();
        }
    }
    let mut nonce = [0; NONCE_BYTES];
    if getrandom::fill(&mut nonce).is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let request = request
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0);
    let (id, changed) = match server.hub.connect(address.ip(), names, nonce) {
        Ok(taken) => taken,
        Err(error) => {
            let status = match error {
                ConnectError::NoServerName => StatusCode::BAD_REQUEST,
                ConnectError::AddressFull => StatusCode::TOO_MANY_REQUESTS,
                ConnectError::ServerFull => StatusCode::SERVICE_UNAVAILABLE,
            };
            return (status, error.to_string()).into_response();
        }
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
