//! Nodes with stores in memory, a host that does as it is told, and a real signal server.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod raw;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::crypto::Secret;
use kinlog_feeds::manifest::Manifest;
use kinlog_feeds::replicate::{Interest, Want};
use kinlog_feeds::store::{Feed, Kind, MemoryDisk, Options, Role, Store};
use kinlog_feeds::{FeedKey, KeyPair};
use kinlog_signal::Settings;
use kinlog_swarm::link::memory;
use kinlog_swarm::{
    Credentials, Host, Label, Node, NodeConfig, NodeEvent, NodeStatus, PeerMessage, SessionInfo,
    SessionRole,
};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A host that serves and wants the same in every session.
#[derive(Default)]
pub(crate) struct TestHost {
    pub(crate) serves: Mutex<Vec<FeedKey>>,
    pub(crate) wants: Mutex<Vec<FeedKey>>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) heard: Mutex<Vec<PeerMessage>>,
    pub(crate) certified: Mutex<Vec<SessionInfo>>,
    pub(crate) open: Mutex<Vec<SessionInfo>>,
}

impl Host for TestHost {
    fn serves(&self, _session: &SessionInfo) -> Vec<FeedKey> {
        self.serves.lock().unwrap().clone()
    }

    fn wants(&self, _session: &SessionInfo) -> Vec<FeedKey> {
        self.wants.lock().unwrap().clone()
    }

    fn identity(&self, _session: &SessionInfo) -> Option<Credentials> {
        self.credentials.clone()
    }

    fn handle_session_open(&self, session: &SessionInfo) {
        self.open.lock().unwrap().push(session.clone());
    }

    fn handle_certificate(&self, session: &SessionInfo) {
        self.certified.lock().unwrap().push(session.clone());
    }

    fn handle_session_closed(&self, session: &SessionInfo) {
        self.open
            .lock()
            .unwrap()
            .retain(|open| open.id != session.id);
    }

    fn handle_peer_message(&self, _: &SessionInfo, message: PeerMessage) -> Vec<PeerMessage> {
        self.heard.lock().unwrap().push(message.clone());
        match message {
            PeerMessage::JoinRequest { bytes } => vec![PeerMessage::JoinResponse { bytes }],
            _ => Vec::new(),
        }
    }
}

/// A node with what it stands on.
pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) store: Store,
    pub(crate) host: Arc<TestHost>,
    pub(crate) events: broadcast::Receiver<NodeEvent>,
}

pub(crate) fn store(seed: u8) -> Store {
    Store::open(Arc::new(MemoryDisk::new()), Options::new([seed; 16])).unwrap()
}

pub(crate) fn config(seed: u8, signal: &[&str]) -> NodeConfig {
    let mut config = NodeConfig::new(Secret::new([seed; 32]));
    config.signal_urls = signal.iter().map(|url| (*url).to_owned()).collect();
    config
}

impl TestNode {
    pub(crate) fn start(seed: u8, signal: &[&str]) -> Self {
        TestNode::with(config(seed, signal), store(seed), TestHost::default())
    }

    pub(crate) fn with(config: NodeConfig, store: Store, host: TestHost) -> Self {
        let host = Arc::new(host);
        let node = Node::start(config, store.clone(), host.clone()).unwrap();
        let events = node.subscribe();
        TestNode {
            node,
            store,
            host,
            events,
        }
    }

    /// Serves a feed to everybody.
    pub(crate) fn serve(&self, key: FeedKey) {
        self.host.serves.lock().unwrap().push(key);
        self.node.refresh();
    }

    /// Follows a feed, and serves what it has of it.
    pub(crate) fn follow(&self, key: FeedKey, want: Want) {
        self.store
            .create_unknown(key, Role::Followed, Kind::Kinlog)
            .unwrap();
        self.host.wants.lock().unwrap().push(key);
        self.host.serves.lock().unwrap().push(key);
        self.node.set_interest(key, Interest { want, live: true });
        self.node.refresh();
    }

    /// Waits for the first event that `pick` takes.
    pub(crate) async fn event<T>(&mut self, mut pick: impl FnMut(&NodeEvent) -> Option<T>) -> T {
        let wait = async {
            loop {
                match self.events.recv().await {
                    Ok(event) => {
                        if let Some(picked) = pick(&event) {
                            return picked;
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => panic!("the node has stopped"),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(picked) => picked,
            Err(_) => panic!(
                "no such event in {PATIENCE:?}; {:#?}",
                self.node.status().await
            ),
        }
    }

    pub(crate) async fn opened(&mut self) -> SessionInfo {
        self.event(|event| match event {
            NodeEvent::SessionOpened { session } => Some(session.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until a feed holds as many blocks; events only say when to look again.
    pub(crate) async fn holds(&mut self, key: FeedKey, blocks: u64) {
        let held = |store: &Store| store.feed(&key).unwrap().info().blocks_held;
        let store = self.store.clone();
        if held(&store) < blocks {
            self.event(|event| match event {
                NodeEvent::BlocksStored { .. } => (held(&store) >= blocks).then_some(()),
                _ => None,
            })
            .await;
        }
        assert_eq!(held(&store), blocks);
    }

    pub(crate) async fn status(&self) -> NodeStatus {
        self.node.status().await
    }
}

/// Joins two nodes by a link in memory, as if they had met by `label` and `key`.
pub(crate) async fn link(left: &TestNode, right: &TestNode, label: Label, key: [u8; 32]) {
    let (one, other) = memory::pair();
    left.node
        .attach(Arc::new(one), label, key, SessionRole::Initiator)
        .await
        .unwrap();
    right
        .node
        .attach(Arc::new(other), label, key, SessionRole::Responder)
        .await
        .unwrap();
}

/// A feed of our own in `store`, with its signer.
pub(crate) fn own_feed(store: &Store, seed: u8) -> (Feed, KeyPair) {
    let signer = KeyPair::from_seed(&[seed; 32]);
    let manifest = Manifest::single(signer.public_key());
    (
        store
            .create_feed(&manifest, Role::Own, Kind::Kinlog)
            .unwrap(),
        signer,
    )
}

/// Blocks that differ from each other and from those of other seeds.
pub(crate) fn blocks(seed: u8, count: usize, bytes: usize) -> Vec<Bytes> {
    (0..count)
        .map(|n| {
            let mut block = vec![seed; bytes];
            let number = n.to_le_bytes();
            let shared = number.len().min(bytes);
            block[..shared].copy_from_slice(&number[..shared]);
            Bytes::from(block)
        })
        .collect()
}

pub(crate) fn assert_same_blocks(left: &Store, right: &Store, key: FeedKey, count: u64) {
    let (left, right) = (left.feed(&key).unwrap(), right.feed(&key).unwrap());
    for index in 0..count {
        let block = left.get(index).unwrap();
        assert!(block.is_some(), "block {index} is missing");
        assert_eq!(block, right.get(index).unwrap(), "block {index}");
    }
}

/// A signal server of this process.
pub(crate) struct SignalServer {
    pub(crate) url: String,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl SignalServer {
    pub(crate) async fn start() -> Self {
        SignalServer::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        SignalServer::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), settings).await
    }

    async fn on(address: SocketAddr, settings: Settings) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            kinlog_signal::serve(listener, settings, stopped)
                .await
                .unwrap();
        });
        SignalServer {
            url: format!("ws://{address}"),
            address,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.stop.take();
        self.task.await.unwrap();
        self.address
    }

    pub(crate) async fn start_again(address: SocketAddr) -> Self {
        SignalServer::on(address, Settings::default()).await
    }
}
