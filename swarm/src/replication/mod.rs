//! The one replicator of the process, and the work it asks of the store.
//!
//! One task owns [`feeds::replicate::Replicator`](kinlog_feeds::replicate::Replicator). Messages
//! of all sessions come in as batches; requests, answers and announcements go out to the sessions'
//! tasks; reads and applies go to [`workers`], a few threads that may block. Nothing is announced
//! before the store said that it is durable, because the replicator announces only on
//! `handle_applied` and `handle_appended`.

mod deliveries;
mod engine;
mod waits;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{Holder, Interest, Pushes};
use kinlog_feeds::store::Store;
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::wire::kinlog::{FeedMessage, GroupMessage};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::limits::REPLICATION_BATCHES_MAX;
use crate::node::{FeedStatus, NodeEvent, ReplicationStatus};
use crate::session::{Command, SessionId};
pub(crate) use waits::GetReply;

/// What a session brings.
#[derive(Debug)]
pub(crate) enum FromPeer {
    Opened(FeedKey),
    Closed(FeedKey),
    Message(FeedKey, Message),
    /// The feed can be spoken of by `kinlog/feed/1`.
    TakesSets(FeedKey),
    /// What was said about it there.
    Kinlog(FeedKey, FeedMessage),
    /// Heads of several feeds may be told at once.
    TakesGroups,
    /// What was said about several feeds.
    Group(Vec<FeedKey>, GroupMessage),
}

#[derive(Debug)]
enum Input {
    AddPeer {
        peer: SessionId,
        commands: mpsc::UnboundedSender<Command>,
    },
    PeerOpen {
        peer: SessionId,
    },
    Batch {
        peer: SessionId,
        batch: Vec<FromPeer>,
    },
    Writable {
        peer: SessionId,
        writable: bool,
    },
    Ways {
        peer: SessionId,
        ways: usize,
    },
    Limit {
        peer: SessionId,
        limits: BTreeMap<FeedKey, Vec<Range<u64>>>,
    },
    PeerGone {
        peer: SessionId,
    },
    SetInterest {
        key: FeedKey,
        interest: Interest,
    },
    Get {
        key: FeedKey,
        block: u64,
        wait: Option<Duration>,
        reply: GetReply,
    },
    Watch {
        key: FeedKey,
        blocks: Option<Range<u64>>,
    },
    Holders {
        key: FeedKey,
        blocks: Range<u64>,
        reply: oneshot::Sender<Vec<Holder>>,
    },
    SetPushes {
        key: FeedKey,
        pushes: Pushes,
    },
    Appended {
        key: FeedKey,
    },
    Stored {
        key: FeedKey,
    },
    PublishOwn {
        except: BTreeSet<FeedKey>,
    },
    Status {
        reply: oneshot::Sender<Vec<FeedStatus>>,
    },
    Counts {
        reply: oneshot::Sender<ReplicationStatus>,
    },
}

/// Reaches the replication; when its task is gone, nothing happens any more.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    inputs: mpsc::Sender<Input>,
}

/// Reaches the replication while somebody else does; keeps nothing of it running.
#[derive(Clone, Debug)]
pub(crate) struct Shortcut {
    inputs: mpsc::WeakSender<Input>,
}

impl Shortcut {
    /// A feed has grown by an append of ours, durably; returns whether there was room to say so.
    pub(crate) fn appended(&self, key: FeedKey) -> bool {
        let inputs = self.inputs.upgrade();
        inputs.is_some_and(|inputs| inputs.try_send(Input::Appended { key }).is_ok())
    }
}

/// Starts the task and its workers. They end when the last [`Sender`] is dropped; nothing touches
/// the store any more once the task has ended.
pub(crate) fn start(
    store: Store,
    clock: Clock,
    events: broadcast::Sender<NodeEvent>,
    withholds_own: bool,
    seed: u64,
) -> (Sender, JoinHandle<()>) {
    let (inputs, receiver) = mpsc::channel(REPLICATION_BATCHES_MAX);
    let engine = engine::Engine::new(store, clock, events, withholds_own, seed);
    let task = tokio::spawn(engine.run(receiver));
    (Sender { inputs }, task)
}

impl Sender {
    /// Returns a way to it that does not keep it running.
    pub(crate) fn shortcut(&self) -> Shortcut {
        Shortcut {
            inputs: self.inputs.downgrade(),
        }
    }

    /// A session exists; commands for it go to `commands`.
    pub(crate) async fn add_peer(&self, peer: SessionId, commands: mpsc::UnboundedSender<Command>) {
        self.send(Input::AddPeer { peer, commands }).await;
    }

    /// A session is open: its peer could open channels now.
    pub(crate) async fn peer_open(&self, peer: SessionId) {
        self.send(Input::PeerOpen { peer }).await;
    }

    /// Hands over what a session brought; returns whether anybody took it.
    pub(crate) async fn deliver(&self, peer: SessionId, batch: Vec<FromPeer>) -> bool {
        self.send(Input::Batch { peer, batch }).await
    }

    /// A session takes more messages, or none for now.
    pub(crate) async fn writable(&self, peer: SessionId, writable: bool) {
        self.send(Input::Writable { peer, writable }).await;
    }

    /// By how many associations a session's blocks come.
    pub(crate) async fn ways(&self, peer: SessionId, ways: usize) {
        self.send(Input::Ways { peer, ways }).await;
    }

    /// Says of which feeds a session is shown these blocks alone.
    pub(crate) async fn limit(&self, peer: SessionId, limits: BTreeMap<FeedKey, Vec<Range<u64>>>) {
        self.send(Input::Limit { peer, limits }).await;
    }

    /// A session is gone.
    pub(crate) async fn peer_gone(&self, peer: SessionId) {
        self.send(Input::PeerGone { peer }).await;
    }

    /// Says what is wanted of a feed.
    pub(crate) async fn set_interest(&self, key: FeedKey, interest: Interest) {
        self.send(Input::SetInterest { key, interest }).await;
    }

    /// Asks for one block; the answer goes to `reply`.
    pub(crate) async fn get(
        &self,
        key: FeedKey,
        block: u64,
        wait: Option<Duration>,
        reply: GetReply,
    ) {
        let get = Input::Get {
            key,
            block,
            wait,
            reply,
        };
        self.send(get).await;
    }

    /// Says of which blocks it is to be known who holds them.
    pub(crate) async fn watch(&self, key: FeedKey, blocks: Option<Range<u64>>) {
        self.send(Input::Watch { key, blocks }).await;
    }

    /// Tells `reply` what sessions' peers say to hold.
    pub(crate) async fn holders(
        &self,
        key: FeedKey,
        blocks: Range<u64>,
        reply: oneshot::Sender<Vec<Holder>>,
    ) {
        let ask = Input::Holders { key, blocks, reply };
        self.send(ask).await;
    }

    /// Says whether peers may send blocks before they are asked for.
    pub(crate) async fn set_pushes(&self, key: FeedKey, pushes: Pushes) {
        self.send(Input::SetPushes { key, pushes }).await;
    }

    /// A feed has grown by an append of ours, durably.
    pub(crate) async fn appended(&self, key: FeedKey) {
        self.send(Input::Appended { key }).await;
    }

    /// What the store holds of a feed changed by other ways than replication, or it is gone.
    pub(crate) async fn stored(&self, key: FeedKey) {
        self.send(Input::Stored { key }).await;
    }

    /// Own feeds are withheld no more, but `except`.
    pub(crate) async fn publish_own(&self, except: BTreeSet<FeedKey>) {
        self.send(Input::PublishOwn { except }).await;
    }

    /// Returns how far every feed is.
    pub(crate) async fn status(&self) -> Vec<FeedStatus> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Status { reply }).await;
        answer.await.unwrap_or_default()
    }

    /// Returns what was done since the start.
    pub(crate) async fn counts(&self) -> ReplicationStatus {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Counts { reply }).await;
        answer.await.unwrap_or_default()
    }

    async fn send(&self, input: Input) -> bool {
        self.inputs.send(input).await.is_ok()
    }
}
