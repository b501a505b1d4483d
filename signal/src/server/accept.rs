//! One accepted socket: TLS, HTTP with its limits, and what answers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;
use axum::http::{HeaderMap, HeaderName};
use axum::routing::{any, get};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::address::{DEFAULT_PATH, is_local};
use crate::limits::{
    HANDSHAKE_WITHIN, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, HEAD_BYTES_MAX, HEADERS_MAX,
    METRICS_HANDSHAKES_MAX,
};
use crate::rules::AddressKey;
use crate::server::health::{health, ready};
use crate::server::hub::Hub;
use crate::server::metrics;
use crate::server::registry;
use crate::server::settings::Settings;
use crate::server::unfinished::{Place, Unfinished};
use crate::server::upgrade::upgrade;

/// What every request needs.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) hub: Arc<Hub>,
    pub(super) names: Arc<[String]>,
    pub(super) proxy_header: Option<HeaderName>,
    unfinished: Arc<Unfinished>,
    unfinished_metrics: Arc<Unfinished>,
    /// Held by every task of a client: when all are gone, the receiver ends.
    pub(super) alive: Option<mpsc::Sender<()>>,
    only_local: bool,
    only_topics: bool,
    tls: Option<TlsAcceptor>,
}

impl Server {
    pub(super) fn new(hub: Arc<Hub>, settings: Settings, alive: mpsc::Sender<()>) -> Self {
        let names = settings.names.into_iter();
        let of_address = settings.rules.connections_per_address_max / 4;
        let of_address = of_address.max(HANDSHAKES_PER_ADDRESS_MAX);
        Server {
            hub,
            names: names.map(|name| name.to_ascii_lowercase()).collect(),
            proxy_header: settings.proxy_header,
            unfinished: Unfinished::new(HANDSHAKES_MAX, of_address),
            unfinished_metrics: Unfinished::new(METRICS_HANDSHAKES_MAX, METRICS_HANDSHAKES_MAX),
            alive: Some(alive),
            only_local: settings.only_local,
            only_topics: settings.only_topics,
            tls: settings.tls.map(TlsAcceptor::from),
        }
    }

    /// Returns whether a client came over TLS, to us or to the proxy that is trusted.
    pub(super) fn is_secure(&self, headers: &HeaderMap) -> bool {
        let proxied = self.proxy_header.is_some();
        let proto = headers.get("x-forwarded-proto").filter(|_| proxied);
        self.tls.is_some() || proto.is_some_and(|proto| proto == "https")
    }

    /// Starts the task of one client's socket.
    pub(super) fn accept(&self, stream: TcpStream, address: SocketAddr) {
        if self.only_local && !is_local(address.ip()) {
            debug!("a connection from outside of the local network");
            return;
        }
        // A proxy is one address and stands for many.
        let counted = self.proxy_header.is_none();
        let place = counted.then(|| AddressKey::from(address.ip()));
        let Some(place) = self.unfinished.take(place) else {
            debug!("too many unfinished requests");
            return;
        };
        let mut router = Router::new().route(DEFAULT_PATH, any(upgrade));
        if !self.only_topics {
            router = router.merge(registry::router());
        }
        let mut router = router.with_state(self.clone());
        if !self.only_topics {
            let health = Router::new()
                .route("/api/health", get(health))
                .route("/api/ready", get(ready))
                .with_state(Arc::clone(&self.hub));
            router = router.merge(health);
        }
        let router = router.layer(Extension(address));
        self.start(place, stream, router, self.tls.clone());
    }

    /// Starts the task of one socket of the metrics port.
    pub(super) fn accept_metrics(&self, stream: TcpStream) {
        let Some(place) = self.unfinished_metrics.take(None) else {
            debug!("too many unfinished requests for metrics");
            return;
        };
        self.start(place, stream, metrics::router(Arc::clone(&self.hub)), None);
    }

    fn start(&self, place: Place, stream: TcpStream, router: Router, tls: Option<TlsAcceptor>) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "socket lost before its request");
            return;
        }
        let alive = self.alive.clone();
        tokio::spawn(async move {
            let answered = timeout(HANDSHAKE_WITHIN, async {
                match tls {
                    None => answer(stream, router).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => answer(stream, router).await,
                        Err(error) => debug!(%error, "TLS handshake failed"),
                    },
                }
            });
            if answered.await.is_err() {
                debug!("request took too long");
            }
            drop(place);
            drop(alive);
        });
    }
}

/// Answers what is asked on one stream, up to an upgrade.
pub(super) async fn answer<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let request = http
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    if let Err(error) = request.await {
        debug!(%error, "request failed");
    }
}
