//! The node: topics, introductions, sessions, and the interface of an agent.
//!
//! [`Node`] is the handle; one task ([`task`]) owns everything that changes. What an agent wants
//! (topics, interests) is a [`Desired`] state that the task brings about, so that wishes coalesce
//! and need no queue.

mod bans;
mod circuits;
mod config;
mod connects;
mod desired;
mod event;
mod host;
mod introducer;
mod introductions;
mod ladder;
mod negotiate;
mod own_addresses;
mod plain;
mod pool;
mod sessions;
mod signalling;
mod status;
mod task;
mod told_servers;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{GetEnd, Holder, Interest, Pushes};
use kinlog_feeds::store::Store;
use kinlog_signal::SignalUrl;
use kinlog_signal::ice::IceServers;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::lan::own_urls;
use crate::limits::{
    EVENTS_QUEUED_MAX, PEER_MESSAGES_QUEUED_MAX, PING_WAIT_MAX, SHUTDOWN_WAIT_MAX,
};
use crate::link::Link;
use crate::message_log::MessageLog;
use crate::replication::{self, GetReply};
use crate::session::{Label, PeerMessage, SessionId, SessionRole};

pub use config::NodeConfig;
pub use connects::{ConnectFailure, ConnectStatus};
use desired::Desired;
pub use event::{NodeError, NodeEvent, Step};
pub use host::{Credentials, Host};
pub use introductions::{PeerState, StepState};
pub use ladder::LadderStep;
pub use pool::{PoolConfig, Standing};
pub use status::{
    FeedStatus, FoundBy, LadderStatus, LanStatus, NodeMetrics, NodeStatus, PeerStatus, PoolStatus,
    RelayStatus, ReplicationStatus, SessionStatus, SignalStatus, StepStatus, TopicStatus,
    ViaStatus,
};

/// What the handle asks of the task.
#[derive(Debug)]
enum Request {
    Send {
        session: SessionId,
        message: PeerMessage,
    },
    Status {
        reply: oneshot::Sender<NodeStatus>,
    },
    Metrics {
        reply: oneshot::Sender<NodeMetrics>,
    },
    IceServers {
        reply: oneshot::Sender<Vec<IceServers>>,
    },
    Get {
        key: FeedKey,
        block: u64,
        wait: Option<Duration>,
        reply: GetReply,
    },
    Holders {
        key: FeedKey,
        blocks: Range<u64>,
        reply: oneshot::Sender<Vec<Holder>>,
    },
    Ping {
        session: SessionId,
        reply: oneshot::Sender<Duration>,
    },
    Plain {
        link: plain::PlainLink,
        reply: oneshot::Sender<Result<SessionId, NodeError>>,
    },
    Attach {
        link: Attached,
        reply: oneshot::Sender<Result<SessionId, NodeError>>,
    },
}

/// A link that the caller of [`Node::attach`] made.
#[derive(Debug)]
struct Attached {
    link: Arc<dyn Link>,
    label: Label,
    key: [u8; 32],
    role: SessionRole,
}

/// A running node; dropping it stops it, [`shutdown`](Node::shutdown) stops it cleanly.
#[derive(Debug)]
pub struct Node {
    desired: Arc<Desired>,
    replication: replication::Shortcut,
    requests: mpsc::Sender<Request>,
    events: broadcast::Sender<NodeEvent>,
    store: Store,
    message_log: Option<MessageLog>,
    meeting_port: Option<u16>,
    public_url: Option<SignalUrl>,
    task: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts a node on the current tokio runtime.
    ///
    /// Nothing is dialled before the first [`join`](Self::join).
    ///
    /// # Errors
    ///
    /// [`NodeError::MessageLog`] when that file cannot be opened, [`NodeError::SignalUrl`] when a
    /// URL of the configuration is none, [`NodeError::Random`] without random numbers.
    pub fn start(config: NodeConfig, store: Store, host: Arc<dyn Host>) -> Result<Node, NodeError> {
        let message_log = match &config.message_log {
            Some(path) => Some(
                MessageLog::open(path).map_err(|error| NodeError::MessageLog {
                    path: path.display().to_string(),
                    reason: error.to_string(),
                })?,
            ),
            None => None,
        };
        let point = config.meeting_point.as_ref();
        let public_url = point.and_then(|point| point.public_url.clone());
        let clock = Clock::start(config.clock_rate);
        let desired = Arc::new(Desired::default());
        let (events, _) = broadcast::channel(EVENTS_QUEUED_MAX);
        let (requests, incoming) = mpsc::channel(PEER_MESSAGES_QUEUED_MAX);
        let seed = u64::from_le_bytes(task::random()?);
        let (replication, replicating) = replication::start(
            store.clone(),
            clock,
            events.clone(),
            config.withhold_own,
            seed,
        );
        let shortcut = replication.shortcut();
        let task = task::Task::new(task::Parts {
            config,
            clock,
            host,
            desired: Arc::clone(&desired),
            events: events.clone(),
            replication,
            replicating,
            message_log: message_log.clone(),
        })?;
        let meeting_port = task.meeting_port();
        let task = Some(tokio::spawn(task.run(incoming)));
        Ok(Node {
            desired,
            replication: shortcut,
            requests,
            events,
            store,
            message_log,
            meeting_port,
            public_url,
            task,
        })
    }

    /// Meets others in the topic of this key, at every meeting point, until
    /// [`leave`](Self::leave).
    pub fn join(&self, label: Label, key: [u8; 32]) {
        self.desired.change(|it| {
            it.topics.insert((label, key));
        });
    }

    /// Leaves a topic; sessions that came of it go on.
    pub fn leave(&self, label: Label, key: [u8; 32]) {
        self.desired.change(|it| {
            it.topics.remove(&(label, key));
        });
    }

    /// Meets others at this signal server too.
    ///
    /// # Errors
    ///
    /// [`NodeError::SignalUrl`] for what is no URL of one.
    pub fn add_signal(&self, url: &str) -> Result<(), NodeError> {
        let url = task::signal_url(url)?;
        self.desired.change(|it| {
            if !it.signals.contains(&url) {
                it.signals.push(url);
            }
        });
        Ok(())
    }

    /// Says at which remembered meeting points others may be met, the best first, in the place of those
    /// said before; at most [`ROUTES_JOINED_MAX`](crate::limits::ROUTES_JOINED_MAX) are joined.
    pub fn set_routes(&self, routes: Vec<SignalUrl>) {
        self.desired.change(|it| it.routes = routes);
    }

    /// Says where coordinators may be met: peers that introduced or relayed before, and seeders. Others who remember
    /// the same ones are met there. At most
    /// [`COORDINATORS_JOINED_MAX`](crate::limits::COORDINATORS_JOINED_MAX) are joined.
    pub fn set_coordinators(&self, coordinators: Vec<SignalUrl>) {
        self.desired.change(|it| it.coordinators = coordinators);
    }

    /// Keeps to these limits of sessions from now on, in the place of those of the configuration.
    pub fn set_pool(&self, pool: PoolConfig) {
        self.desired.change(|it| it.pool = Some(pool));
    }

    /// Returns the port of the own meeting point, if there is one.
    pub fn meeting_port(&self) -> Option<u16> {
        self.meeting_port
    }

    /// Returns what others reach the own meeting point by now, on the networks that this machine is in.
    pub fn meeting_urls(&self) -> Vec<String> {
        let port = self.meeting_port;
        port.map_or(Vec::new(), |port| own_urls(port, self.public_url.as_ref()))
    }

    /// Says which blocks of a feed are wanted. The feed is in the store.
    pub fn set_interest(&self, key: FeedKey, interest: Interest) {
        self.desired.change(|it| {
            it.interests.insert(key, interest);
        });
    }

    /// Says whether peers may send blocks of a feed before they are asked for: at first they may not.
    /// What this process appends is sent at once to all who say that they take it.
    pub fn set_pushes(&self, key: FeedKey, pushes: Pushes) {
        self.desired.change(|it| {
            it.pushes.insert(key, pushes);
        });
    }

    /// Asks peers for one block of a feed that the store knows and the host wants, beside what is wanted
    /// by [`set_interest`](Self::set_interest), and waits until it is held, until no connected peer has
    /// it, or until `wait` is over. Dropping what is returned takes it back.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`]; [`NodeError::Get`] where the store does not know the feed or too many
    /// blocks are waited for.
    pub async fn get(
        &self,
        key: FeedKey,
        block: u64,
        wait: Option<Duration>,
    ) -> Result<GetEnd, NodeError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Get {
            key,
            block,
            wait,
            reply,
        };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| NodeError::Stopped)?;
        let ended = answer.await.map_err(|_| NodeError::Stopped)?;
        ended.map_err(|source| NodeError::Get { key, block, source })
    }

    /// Says of which blocks of a feed it is to be known which peers hold them, `None` of none any more;
    /// [`NodeEvent::HoldersChanged`] tells when to look again.
    pub fn watch(&self, key: FeedKey, blocks: Option<Range<u64>>) {
        self.desired.change(|it| {
            it.watches.insert(key, blocks);
        });
    }

    /// Returns which of these blocks each session's peer says to hold, durably; empty once the node has
    /// stopped. Of blocks that are held here too, only [watched](Self::watch) ones are told of.
    pub async fn holders(
        &self,
        key: FeedKey,
        blocks: Range<u64>,
    ) -> Vec<(SessionId, Vec<Range<u64>>)> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Holders { key, blocks, reply };
        // A node that stopped knows of nobody.
        let _ = self.requests.send(request).await;
        let holders = answer.await.unwrap_or_default().into_iter();
        holders
            .map(|holder| (SessionId(holder.peer.0), holder.held))
            .collect()
    }

    /// Shows peers the feeds that the store writes, but `except`, which were withheld until now
    /// ([`NodeConfig::withhold_own`]).
    pub fn publish_own(&self, except: std::collections::BTreeSet<FeedKey>) {
        self.desired.change(|it| it.publish_own = Some(except));
    }

    /// Asks the host again what every session serves and wants.
    pub fn refresh(&self) {
        self.desired.change(|it| it.refresh = true);
    }

    /// Tells that a feed has grown by an append of this process, durably.
    pub fn appended(&self, key: FeedKey) {
        // Nothing that is wished for besides changes what this means: it need not go by the node's task.
        if self.replication.appended(key) {
            return;
        }
        self.desired.change(|it| {
            it.appended.insert(key);
        });
    }

    /// Tells that the store holds more or less of a feed than replication brought, durably: a bundle
    /// was taken in, blocks were cleared, or the feed was dropped.
    pub fn stored(&self, key: FeedKey) {
        self.desired.change(|it| {
            it.stored.insert(key);
        });
    }

    /// Sends a message to the other side of a session; it is dropped when the session is gone.
    ///
    /// # Errors
    ///
    /// [`NodeError::Busy`] while [`PEER_MESSAGES_QUEUED_MAX`] requests wait.
    pub fn send(&self, session: SessionId, message: PeerMessage) -> Result<(), NodeError> {
        self.requests
            .try_send(Request::Send { session, message })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => NodeError::Busy {
                    queued: PEER_MESSAGES_QUEUED_MAX,
                },
                mpsc::error::TrySendError::Closed(_) => NodeError::Stopped,
            })
    }

    /// Ends a session of [`pull_plain_tcp`](Self::pull_plain_tcp) or [`attach`](Self::attach) that is
    /// needed no more. One that came of a topic is met again.
    pub fn close(&self, session: SessionId) {
        self.desired.change(|it| {
            it.closed.insert(session);
        });
    }

    /// Returns every event from now on; a subscriber that lags by more than
    /// [`EVENTS_QUEUED_MAX`] loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }

    /// Measures the round trip to the other side of an open session.
    ///
    /// # Errors
    ///
    /// [`NodeError::NoAnswer`] when the session is not open, ends, or says nothing back within
    /// [`PING_WAIT_MAX`]: peers of other builds may not.
    pub async fn ping(&self, session: SessionId) -> Result<Duration, NodeError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(Request::Ping { session, reply }).await;
        sent.map_err(|_| NodeError::Stopped)?;
        match tokio::time::timeout(PING_WAIT_MAX, answer).await {
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(_)) | Err(_) => Err(NodeError::NoAnswer { session }),
        }
    }

    /// Returns what the node does now; empty once it has stopped.
    pub async fn status(&self) -> NodeStatus {
        let (reply, answer) = oneshot::channel();
        // A node that stopped does nothing.
        let _ = self.requests.send(Request::Status { reply }).await;
        answer.await.unwrap_or_default()
    }

    /// Returns what is counted of the node since it was started; zeros once it has stopped.
    pub async fn metrics(&self) -> NodeMetrics {
        let (reply, answer) = oneshot::channel();
        // A node that stopped counts nothing.
        let _ = self.requests.send(Request::Metrics { reply }).await;
        answer.await.unwrap_or_default()
    }

    /// Returns the STUN and TURN servers that signal servers told and that may be used now, with credentials.
    pub async fn ice_servers(&self) -> Vec<IceServers> {
        let (reply, answer) = oneshot::channel();
        // A node that stopped was told nothing.
        let _ = self.requests.send(Request::IceServers { reply }).await;
        answer.await.unwrap_or_default()
    }

    /// Serves feeds to Hypercore peers that connect to `listener`, as Noise responder, until the
    /// node stops. At most [`PLAIN_SESSIONS_MAX`](kinlog_feeds::limits::PLAIN_SESSIONS_MAX)
    /// sessions at once; a connection beyond is closed.
    ///
    /// The task returned ends with the node; aborting it closes the listener, and leaves the sessions
    /// there are. Dropping the handle changes nothing.
    pub fn serve_plain_tcp(&self, listener: TcpListener, feeds: Vec<FeedKey>) -> JoinHandle<()> {
        tokio::spawn(plain::serve(listener, feeds, self.requests.clone()))
    }

    /// Connects to a Hypercore peer at `address` and asks for feeds, as Noise initiator. What is
    /// wanted of each says [`set_interest`](Self::set_interest).
    ///
    /// Each is added to the store as a plain one unless it is there.
    ///
    /// # Errors
    ///
    /// [`NodeError::Connect`] when nobody answers there, [`NodeError::TooManyPlainSessions`],
    /// [`NodeError::Store`] when a feed cannot be added.
    pub async fn pull_plain_tcp(
        &self,
        address: SocketAddr,
        keys: Vec<FeedKey>,
    ) -> Result<SessionId, NodeError> {
        plain::pull(address, keys, &self.store, &self.requests).await
    }

    /// Runs a session over a link that the caller made, as if the two peers had met by `label` and
    /// `key`: an address both know, or two nodes of one process.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`], [`NodeError::TooManySessions`].
    pub async fn attach(
        &self,
        link: Arc<dyn Link>,
        label: Label,
        key: [u8; 32],
        role: SessionRole,
    ) -> Result<SessionId, NodeError> {
        let (reply, answer) = oneshot::channel();
        let link = Attached {
            link,
            label,
            key,
            role,
        };
        let request = Request::Attach { link, reply };
        self.requests
            .send(request)
            .await
            .map_err(|_| NodeError::Stopped)?;
        answer.await.map_err(|_| NodeError::Stopped)?
    }

    /// Returns whether received messages are logged to a file.
    pub fn logs_messages(&self) -> bool {
        self.message_log.is_some()
    }

    /// Closes all sessions and stops; waits at most [`SHUTDOWN_WAIT_MAX`], usually a few
    /// milliseconds. On return nothing of the node uses the store any more, unless it took longer.
    pub async fn shutdown(mut self) {
        self.desired.stop();
        if let Some(task) = self.task.take() {
            // A task that does not end in time is dropped with the runtime.
            let _ = tokio::time::timeout(SHUTDOWN_WAIT_MAX, task).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.desired.stop();
    }
}
