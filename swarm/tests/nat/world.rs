//! The servers on the internet, and what two nodes behind routers see of each other.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kinlog_feeds::replicate::Want;
use kinlog_feeds::{FeedKey, KeyPair};
use kinlog_signal::Settings;
use kinlog_signal::ice::{IceSettings, TurnSecrets};
use kinlog_signal::stun::StunSocket;
use kinlog_swarm::link::{CandidateKind, IcePath};
use kinlog_swarm::{Label, NodeConfig, NodeEvent};
use testkit::coturn::Coturn;
use testkit::namespaces::{Internet, Nat, SERVER, Side};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Barrier, oneshot};

use crate::support::{TestHost, TestNode, blocks, config, own_feed, store};

const SIGNAL_PORT: u16 = 4848;
const TURN_PORT: u16 = 3478;
const SECRET: &str = "north-south-east-west";

/// How long a pair has; the slowest, by TURN over TCP on both sides, needs three seconds.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Between one message and the next.
const MESSAGE_EVERY: Duration = Duration::from_millis(50);

/// Signal server with STUN, and TURN server, on the internet.
pub(crate) struct Servers {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    pub(crate) fn start(internet: &Internet) -> Servers {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = internet.on_server(move || {
            let coturn = Coturn::start(SocketAddr::from((SERVER, TURN_PORT)), SECRET);
            runtime().block_on(async {
                let address = SocketAddr::from((SERVER, SIGNAL_PORT));
                let listener = TcpListener::bind(address).await.unwrap();
                let stun = StunSocket::bind(address).await.unwrap();
                let urls = ["udp", "tcp"].map(|transport| coturn.url(transport).parse().unwrap());
                let secrets = TurnSecrets::parse(SECRET).unwrap();
                let ice = IceSettings::default().turn(urls.to_vec(), secrets);
                ready.send(()).unwrap();
                let stopped = async {
                    let _ = stopped.await;
                };
                let settings = Settings::default().stun(stun).ice(ice);
                kinlog_signal::serve(listener, settings, stopped)
                    .await
                    .unwrap();
            });
        });
        is_ready.recv().expect("the servers start");
        Servers {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A server that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Returns the settings of a node that knows the signal server on the internet.
pub(crate) fn node_config(seed: u8) -> NodeConfig {
    config(seed, &[&format!("ws://{SERVER}:{SIGNAL_PORT}")])
}

/// Returns an internet, or says why the test is left out.
pub(crate) fn or_left_out(internet: Result<Internet, String>) -> Option<Internet> {
    internet
        .inspect_err(|reason| println!("left out: {reason}"))
        .ok()
}

pub(crate) fn feed_key() -> FeedKey {
    let scratch = store(9);
    let (feed, _): (_, KeyPair) = own_feed(&scratch, 7);
    feed.key()
}

/// What the two nodes of a pair are asked to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Task {
    pub(crate) relay_only: bool,
    /// So many blocks are appended one after another once the two have met.
    pub(crate) messages: usize,
}

/// What both nodes of a pair share.
#[derive(Clone)]
struct Pair {
    key: FeedKey,
    task: Task,
    both: Arc<Barrier>,
    /// When each message was appended.
    sent: Arc<Mutex<Vec<Instant>>>,
}

/// What one side saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: IcePath,
    /// From joining to the open session.
    connected: Duration,
    /// At the side that reads: from joining to the first verified block, and from appending each message
    /// to the verified block.
    delivered: Vec<Duration>,
}

impl Pair {
    /// Appends, or reads, until both have seen what there is to see.
    fn side(self, seed: u8, reads: bool) -> Option<Seen> {
        let work = async move {
            let mut config = node_config(seed);
            config.relay_only = self.task.relay_only;
            let mut node = TestNode::with(config, store(seed), TestHost::default());
            let feed = (!reads).then(|| {
                let (feed, signer) = own_feed(&node.store, 7);
                feed.append_batch(&signer, &blocks(7, 1, 1_000)).unwrap();
                node.serve(self.key);
                (feed, signer)
            });
            if reads {
                node.follow(self.key, Want::All);
            }
            let joined = Instant::now();
            node.node.join(Label::Feed, self.key.0);
            let seen = tokio::time::timeout(WAIT_MAX, async {
                let mut connected = None;
                let mut arrived = Vec::new();
                while arrived.len() <= self.task.messages {
                    match node.events.recv().await.unwrap() {
                        NodeEvent::SessionOpened { .. } => {
                            connected.get_or_insert(joined.elapsed());
                            let Some((feed, signer)) = &feed else {
                                continue;
                            };
                            for message in blocks(8, self.task.messages, 200) {
                                self.sent.lock().unwrap().push(Instant::now());
                                feed.append_batch(signer, &[message]).unwrap();
                                node.node.appended(self.key);
                                tokio::time::sleep(MESSAGE_EVERY).await;
                            }
                            break;
                        }
                        NodeEvent::BlocksStored { range, .. } => {
                            arrived.extend(range.map(|block| (block, Instant::now())));
                        }
                        _ => {}
                    }
                }
                (connected, arrived)
            });
            let seen = seen.await.ok();
            let path = node.status().await.sessions.first().cloned();
            self.both.wait().await;
            node.node.shutdown().await;
            let (connected, mut arrived) = seen?;
            arrived.sort_unstable();
            let sent = self.sent.lock().unwrap();
            let delivered = arrived.into_iter().map(|(block, at)| match block {
                0 => at - joined,
                message => at - sent[message as usize - 1],
            });
            let delivered: Vec<Duration> = delivered.collect();
            Some(Seen {
                path: path?.path.clone()?,
                connected: connected.or(delivered.first().copied())?,
                delivered,
            })
        };
        runtime().block_on(work)
    }
}

/// What became of one pair.
pub(crate) struct Met {
    pub(crate) left: Nat,
    pub(crate) right: Nat,
    /// What the author, on the left, and the reader saw.
    pub(crate) seen: Option<(Seen, Seen)>,
}

impl Met {
    pub(crate) fn try_to(internet: &Internet, left: Nat, right: Nat, task: Task) -> Met {
        internet.set_nat(Side::Left, left);
        internet.set_nat(Side::Right, right);
        let pair = Pair {
            key: feed_key(),
            task,
            both: Arc::new(Barrier::new(2)),
            sent: Arc::default(),
        };
        let other = pair.clone();
        let author = internet.on_host(Side::Left, move || pair.side(1, false));
        let reader = internet.on_host(Side::Right, move || other.side(2, true));
        let seen = author.join().unwrap().zip(reader.join().unwrap());
        Met { left, right, seen }
    }

    /// Returns when both had a session; nothing when they did not meet.
    pub(crate) fn connected(&self) -> Option<Duration> {
        let (author, reader) = self.seen.as_ref()?;
        Some(author.connected.max(reader.connected))
    }

    /// Returns how long the first block, and then each message, was on its way.
    pub(crate) fn delivered(&self) -> &[Duration] {
        let reader = self.seen.as_ref().map(|(_, reader)| reader);
        reader.map_or(&[], |reader| &reader.delivered)
    }

    /// Returns whether some relay carries what the two say; nothing when they did not meet.
    pub(crate) fn is_relayed(&self) -> Option<bool> {
        let (author, reader) = self.seen.as_ref()?;
        let ends = [&author.path, &reader.path].map(|path| [path.local.kind, path.remote.kind]);
        Some(ends.concat().contains(&CandidateKind::Relay))
    }

    /// Returns whether neither address would let the other in: then only a relay helps.
    pub(crate) fn needs_relay(&self) -> bool {
        use Nat::{Restricted, Symmetric, UdpBlocked};
        matches!(
            (self.left, self.right),
            (UdpBlocked, _)
                | (_, UdpBlocked)
                | (Symmetric, Symmetric | Restricted)
                | (Restricted, Symmetric)
        )
    }
}

/// The heading of a table of what is printed of each.
pub(crate) const TABLE: &str = "\
| one side | other side | way | as the other side sees it | connected, ms | first block, ms |
|---|---|---|---|---|---|";

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} | {} ", self.left.name(), self.right.name())?;
        let Some((author, reader)) = &self.seen else {
            return write!(f, "| no | | | |");
        };
        let kind = |kind| match kind {
            CandidateKind::Host => "host",
            CandidateKind::Srflx => "srflx",
            CandidateKind::Prflx => "prflx",
            CandidateKind::Relay => "relay",
        };
        let way = if self.is_relayed() == Some(true) {
            "TURN"
        } else {
            "direct"
        };
        write!(
            f,
            "| {way} | {} - {} | {} | {} |",
            kind(reader.path.remote.kind),
            kind(author.path.remote.kind),
            self.connected().unwrap_or_default().as_millis(),
            self.delivered()
                .first()
                .copied()
                .unwrap_or_default()
                .as_millis(),
        )
    }
}
