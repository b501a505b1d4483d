//! What an operator may change.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderName;

use crate::bus::Bus;
#[cfg(feature = "redis")]
use crate::bus::{BusSecret, BusSettings, InstanceId};
use crate::ice::IceSettings;
use crate::rules::RuleSettings;
use crate::server::record::Record;
use crate::stun::StunSocket;
use crate::turn::TurnServer;

/// Settings of a server; the defaults suit a public one.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Limits and rates.
    pub rules: RuleSettings,
    /// Names (`host:port`, lower case) under which this server is dialled. When any are given,
    /// requests for other names are refused with status 421: then a hostile server cannot pass the
    /// joins of its own clients on to this one. Default: none, every name is taken.
    pub names: Vec<String>,
    /// Takes connections from private, link-local and loopback addresses alone, and closes others
    /// unheard: for a meeting point that is meant for one network. Default: off.
    pub only_local: bool,
    /// Serves the WebSocket alone: no registry and no word on its health. Default: off.
    pub only_topics: bool,
    /// Where binding requests of STUN are answered, by convention the UDP port of the number that the
    /// WebSocket's TCP port has. Default: nowhere.
    pub stun: Option<StunSocket>,
    /// STUN and TURN servers that clients are told. Default: this one, where it answers STUN.
    pub ice: IceSettings,
    /// A TURN server of its own, which clients are told before others; credentials for it are signed
    /// by the secrets in [`ice`](Self::ice), without which nobody is told. Default: none.
    pub turn: Option<TurnServer>,
    /// Diagnostic: gets every frame in and out. Default none. Whoever sets it sees all topics,
    /// client keys and signals; it exists so that a test can search them.
    pub record: Option<Arc<dyn Record>>,
    /// Certificate and key; with them the server speaks `wss` and `https`. Default none.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Header in which a proxy before the server names its clients, such as `x-forwarded-for`; the
    /// last address in it counts. Whoever reaches the server without the proxy can write what he
    /// likes there. Default none: clients are those who connect.
    pub proxy_header: Option<HeaderName>,
    /// Time between saying that the server stops (`/api/ready`, refusals) and closing its clients,
    /// so that a load balancer can look. Default 0.
    pub leave_after: Duration,
    /// The other instances of this server, met over Redis. Default none.
    #[cfg(feature = "redis")]
    pub cluster: Option<Cluster>,
}

/// How instances of one server reach each other.
#[cfg(feature = "redis")]
#[derive(Clone)]
#[non_exhaustive]
pub struct Cluster {
    /// `redis://[user:password@]host[:port]`; the same for all.
    pub redis: String,
    /// By which they believe each other; the same for all.
    pub secret: BusSecret,
    /// How soon a silent one is gone.
    pub bus: BusSettings,
}

#[cfg(feature = "redis")]
impl Cluster {
    /// Returns the settings of instances that share a Redis and a secret.
    ///
    /// # Errors
    ///
    /// Returns an error when the URL is none of Redis; it does not repeat the URL, which may hold a
    /// password.
    pub fn new(redis: &str, secret: BusSecret) -> Result<Self, ClusterError> {
        ::redis::Client::open(redis).map_err(|_| ClusterError)?;
        Ok(Cluster {
            redis: redis.to_owned(),
            secret,
            bus: BusSettings::default(),
        })
    }
}

/// A URL that is none of Redis.
#[cfg(feature = "redis")]
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the URL of Redis is redis://[user:password@]host[:port]")]
pub struct ClusterError;

#[cfg(feature = "redis")]
impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Settings {
    /// Replaces limits and rates.
    pub fn rules(mut self, rules: RuleSettings) -> Self {
        self.rules = rules;
        self
    }

    /// Replaces the names the server answers to.
    pub fn names(mut self, names: Vec<String>) -> Self {
        self.names = names;
        self
    }

    /// Takes connections from addresses of a local network alone.
    pub fn only_local(mut self, only_local: bool) -> Self {
        self.only_local = only_local;
        self
    }

    /// Serves the WebSocket alone.
    pub fn only_topics(mut self, only_topics: bool) -> Self {
        self.only_topics = only_topics;
        self
    }

    /// Sets certificate and key.
    pub fn tls(mut self, tls: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the header in which a proxy names its clients.
    pub fn proxy_header(mut self, header: HeaderName) -> Self {
        self.proxy_header = Some(header);
        self
    }

    /// Sets how long the server says that it stops before it does.
    pub fn leave_after(mut self, wait: Duration) -> Self {
        self.leave_after = wait;
        self
    }

    /// Answers binding requests of STUN on this socket.
    pub fn stun(mut self, socket: StunSocket) -> Self {
        self.stun = Some(socket);
        self
    }

    /// Replaces the STUN and TURN servers that clients are told.
    pub fn ice(mut self, ice: IceSettings) -> Self {
        self.ice = ice;
        self
    }

    /// Relays by this TURN server.
    pub fn turn(mut self, turn: TurnServer) -> Self {
        self.turn = Some(turn);
        self
    }

    /// Makes the server one of several instances.
    #[cfg(feature = "redis")]
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Returns this instance's end of the bus.
    #[cfg(feature = "redis")]
    pub(super) fn bus(&self) -> io::Result<Option<Bus>> {
        let Some(cluster) = &self.cluster else {
            return Ok(None);
        };
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let secret = cluster.secret.clone();
        Ok(Some(Bus::new(InstanceId(id), secret, cluster.bus)))
    }

    /// Returns this instance's end of the bus: there is none without Redis.
    #[cfg(not(feature = "redis"))]
    pub(super) fn bus(&self) -> io::Result<Option<Bus>> {
        Ok(None)
    }

    /// Sets the diagnostic that gets every frame.
    pub fn record(mut self, record: Arc<dyn Record>) -> Self {
        self.record = Some(record);
        self
    }
}
