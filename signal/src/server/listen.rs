//! Accepting, and a clean stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use crate::ice::{OwnPorts, Teller};
use crate::server::accept::Server;
use crate::server::hub::Hub;
use crate::server::settings::Settings;
use crate::stun::StunSocket;

/// Clients get this long to take the goodbye when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// After an accept that failed for want of descriptors or memory, before the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a server listens.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listeners {
    /// WebSocket and HTTP of clients.
    pub signal: TcpListener,
    /// `/metrics`, for whoever watches; not for clients.
    pub metrics: Option<TcpListener>,
}

impl Listeners {
    /// Adds a port for `/metrics`.
    pub fn metrics(mut self, listener: TcpListener) -> Self {
        self.metrics = Some(listener);
        self
    }
}

impl From<TcpListener> for Listeners {
    fn from(signal: TcpListener) -> Self {
        Listeners {
            signal,
            metrics: None,
        }
    }
}

/// Serves until `shutdown` completes, then says goodbye to every client and returns.
///
/// After `shutdown` no further client is taken: `/api/ready` and new clients get 503 while those
/// that are there, after [`Settings::leave_after`], are told to go and have 5 s to take it.
///
/// # Errors
///
/// Returns an error when the system gives no random bytes for nonces. A failing accept is logged
/// and tried again.
pub async fn serve(
    listeners: impl Into<Listeners>,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let listeners = listeners.into();
    let seed = getrandom::u64().map_err(io::Error::other)?;
    let mut blinding = [0; 32];
    getrandom::fill(&mut blinding).map_err(io::Error::other)?;
    let stun_port = match &settings.stun {
        Some(socket) => Some(socket.local_addr()?.port()),
        None => None,
    };
    let turn_port = match &settings.turn {
        Some(turn) => Some(turn.local_addr()?.port()),
        None => None,
    };
    let own = OwnPorts {
        stun: stun_port,
        turn: turn_port,
    };
    let teller = Teller::new(settings.ice.clone(), own, blinding);
    let bus = settings.bus()?;
    let hub = Arc::new(Hub::new(&settings, teller, seed, bus));
    let link = InstanceLink::start(&hub, &settings);
    // Ends with this future, however that ends.
    let mut relaying = JoinSet::new();
    if let Some(turn) = settings.turn.clone() {
        relaying.spawn(async move { turn.run().await });
    }
    let leave_after = settings.leave_after;
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let mut server = Server::new(Arc::clone(&hub), settings, alive);
    accept_until(&listeners, &server, shutdown).await;

    hub.leave();
    accept_until(&listeners, &server, sleep(leave_after)).await;

    server.alive = None;
    hub.stop();
    let all_gone = async {
        if timeout(STOP_WITHIN, gone.recv()).await.is_err() {
            debug!("some clients did not take the goodbye");
        }
    };
    accept_until(&listeners, &server, all_gone).await;
    link.stop().await;
    Ok(())
}

/// The task that publishes to other instances and hears of them.
struct InstanceLink {
    #[cfg(feature = "redis")]
    running: Option<super::redis::Link>,
}

impl InstanceLink {
    #[cfg(feature = "redis")]
    fn start(hub: &Arc<Hub>, settings: &Settings) -> Self {
        let cluster = settings.cluster.clone();
        InstanceLink {
            running: cluster.map(|cluster| super::redis::Link::start(Arc::clone(hub), cluster)),
        }
    }

    #[cfg(not(feature = "redis"))]
    fn start(_hub: &Arc<Hub>, _settings: &Settings) -> Self {
        InstanceLink {}
    }

    /// Says goodbye to the others.
    async fn stop(self) {
        #[cfg(feature = "redis")]
        if let Some(link) = self.running {
            link.stop().await;
        }
    }
}

/// Accepts and does what is due until `end` completes.
async fn accept_until(listeners: &Listeners, server: &Server, end: impl Future<Output = ()>) {
    tokio::pin!(end);
    let mut sweep_at = Instant::now() + server.hub.sweep();
    loop {
        tokio::select! {
            () = &mut end => return,
            () = sleep_until(sweep_at) => sweep_at = Instant::now() + server.hub.sweep(),
            (stream, address) = accept(&listeners.signal) => server.accept(stream, address),
            () = answer_stun(server.hub.stun()) => {}
            (stream, _) = accept_some(listeners.metrics.as_ref()) => server.accept_metrics(stream),
        }
    }
}

async fn answer_stun(socket: Option<&StunSocket>) {
    match socket {
        Some(socket) => socket.answer().await,
        None => std::future::pending().await,
    }
}

async fn accept_some(listener: Option<&TcpListener>) -> (TcpStream, SocketAddr) {
    match listener {
        Some(listener) => accept(listener).await,
        None => std::future::pending().await,
    }
}

pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
