//! The task round the replicator: inputs in, outputs carried out, nothing awaited in between.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kinlog_feeds::replicate::{
    Config, FeedEvent, FeedKind, FeedState, HeadState, Interest, Output, PeerId, ProtocolViolation,
    Pushes, Replicator, Want,
};
use kinlog_feeds::store::{Feed, Kind, Role, Store, StoreError};
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::wire::kinlog::FeedMessage;
use kinlog_feeds::{FeedKey, Time};
use tokio::sync::{broadcast, mpsc};

use super::deliveries::Deliveries;
use super::waits::Waits;
use super::workers::{Done, NotKept, Read, Workers};
use super::{FromPeer, Input};
use crate::clock::Clock;
use crate::limits::{NOBODY_HAS_AFTER, PUSHES_READ_HERE_MAX};
use crate::node::{FeedStatus, NodeEvent, ReplicationStatus, Step};
use crate::session::{Command, SessionError, SessionId, ToPeer};

/// Everything the task owns.
pub(super) struct Engine {
    store: Store,
    clock: Clock,
    events: broadcast::Sender<NodeEvent>,
    replicator: Replicator,
    workers: Workers,
    done: mpsc::UnboundedReceiver<Done>,
    peers: BTreeMap<PeerId, Peer>,
    feeds: BTreeMap<FeedKey, Known>,
    interests: BTreeMap<FeedKey, Interest>,
    pushes: BTreeMap<FeedKey, Pushes>,
    watches: BTreeMap<FeedKey, Range<u64>>,
    waits: Waits,
    /// When the first session opened of those that are open now.
    peers_since: Option<Time>,
    /// Own feeds that peers are shown nothing of.
    withheld: Withheld,
    deliveries: Deliveries,
    blocks_in: u64,
    blocks_out: u64,
}

/// Some of the feeds that the store writes.
#[derive(Debug)]
enum Withheld {
    All,
    Only(BTreeSet<FeedKey>),
}

impl Withheld {
    fn contains(&self, key: &FeedKey) -> bool {
        match self {
            Withheld::All => true,
            Withheld::Only(keys) => keys.contains(key),
        }
    }
}

#[derive(Debug)]
struct Peer {
    commands: mpsc::UnboundedSender<Command>,
    open: bool,
}

#[derive(Debug)]
struct Known {
    feed: Feed,
    channels: BTreeSet<PeerId>,
    /// Peers whose channel is closed again.
    idle: BTreeSet<PeerId>,
    said_nobody_has: bool,
    /// Longest own head that any peer was shown.
    shown: u64,
}

impl Engine {
    pub(super) fn new(
        store: Store,
        clock: Clock,
        events: broadcast::Sender<NodeEvent>,
        withholds_own: bool,
        seed: u64,
    ) -> Self {
        let config = Config {
            seed,
            ..Config::default()
        };
        let (done_sender, done) = mpsc::unbounded_channel();
        Engine {
            store,
            clock,
            events,
            replicator: Replicator::new(config),
            workers: Workers::start(&done_sender),
            done,
            peers: BTreeMap::new(),
            feeds: BTreeMap::new(),
            interests: BTreeMap::new(),
            pushes: BTreeMap::new(),
            watches: BTreeMap::new(),
            waits: Waits::default(),
            peers_since: None,
            withheld: match withholds_own {
                true => Withheld::All,
                false => Withheld::Only(BTreeSet::new()),
            },
            deliveries: Deliveries::default(),
            blocks_in: 0,
            blocks_out: 0,
        }
    }

    pub(super) async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        self.carry_on(&mut inputs).await;
        let workers = self.workers;
        // A failed join says that the runtime is going down.
        let _ = tokio::task::spawn_blocking(|| workers.finish()).await;
    }

    /// Works until nobody can send any more.
    async fn carry_on(&mut self, inputs: &mut mpsc::Receiver<Input>) {
        loop {
            self.drain();
            let timeout = [self.replicator.poll_timeout(), self.nobody_has_timeout()];
            tokio::select! {
                biased;
                Some(done) = self.done.recv() => {
                    self.handle_done(done);
                    while let Ok(done) = self.done.try_recv() {
                        self.handle_done(done);
                    }
                }
                // While the store is behind, what peers send waits in their links.
                input = inputs.recv(), if self.replicator.accepts_data() => {
                    let Some(input) = input else { return };
                    self.handle_input(input);
                    while let Ok(input) = inputs.try_recv() {
                        self.handle_input(input);
                    }
                }
                () = self.clock.sleep_until(timeout.into_iter().flatten().min()) => {
                    let now = self.clock.now();
                    for id in self.waits.gone() {
                        self.replicator.cancel_get(now, id);
                    }
                    self.replicator.handle_timeout(now);
                    self.say_nobody_has(now);
                }
            }
        }
    }

    fn handle_input(&mut self, input: Input) {
        let now = self.clock.now();
        match input {
            Input::AddPeer { peer, commands } => {
                self.peers.insert(
                    PeerId(peer.0),
                    Peer {
                        commands,
                        open: false,
                    },
                );
            }
            Input::PeerOpen { peer } => {
                if let Some(peer) = self.peers.get_mut(&PeerId(peer.0)) {
                    peer.open = true;
                    self.peers_since.get_or_insert(now);
                }
            }
            Input::Batch { peer, batch } => self.handle_batch(now, PeerId(peer.0), batch),
            Input::Writable { peer, writable } => {
                self.replicator
                    .handle_writable(now, PeerId(peer.0), writable);
            }
            Input::Ways { peer, ways } => {
                self.replicator.handle_ways(now, PeerId(peer.0), ways);
            }
            Input::Limit { peer, limits } => {
                let peer = PeerId(peer.0);
                if self.peers.contains_key(&peer) {
                    self.replicator.limit(now, peer, limits);
                }
            }
            Input::PeerGone { peer } => self.handle_peer_gone(now, PeerId(peer.0)),
            Input::SetInterest { key, interest } => {
                if self.known(&key).is_some() {
                    self.replicator.set_interest(now, &key, interest.clone());
                }
                self.interests.insert(key, interest);
                self.reopen(&key);
            }
            Input::Get {
                key,
                block,
                wait,
                reply,
            } => {
                // A feed of the store that nobody asked for yet is not known to the replicator.
                let _ = self.known(&key);
                let deadline = wait.map(|wait| now + wait);
                let id = self.replicator.get(now, &key, block, deadline);
                self.waits.add(id, reply);
                self.reopen(&key);
            }
            Input::Watch { key, blocks } => {
                if self.known(&key).is_some() {
                    self.replicator.watch(now, &key, blocks.clone());
                }
                match blocks {
                    Some(blocks) => self.watches.insert(key, blocks),
                    None => self.watches.remove(&key),
                };
            }
            Input::Holders { key, blocks, reply } => {
                let _ = reply.send(self.replicator.holders(&key, &blocks));
            }
            Input::SetPushes { key, pushes } => {
                if self.known(&key).is_some() {
                    self.replicator.set_pushes(now, &key, pushes);
                }
                self.pushes.insert(key, pushes);
            }
            Input::Appended { key } => {
                if let Some(known) = self.feeds.get(&key) {
                    let head = HeadState::from(&known.feed.info());
                    self.replicator.handle_appended(now, &key, &head);
                    let reach = self.replicator.reach(&key);
                    self.deliveries
                        .handle_appended(now, key, head.length, reach);
                }
            }
            Input::Stored { key } => self.handle_stored(now, key),
            Input::PublishOwn { except } => {
                for (key, known) in &self.feeds {
                    if known.feed.role() == Role::Own && !except.contains(key) {
                        self.replicator.publish(now, key);
                    }
                }
                self.withheld = Withheld::Only(except);
            }
            Input::Status { reply } => {
                // Whoever asked may have gone meanwhile.
                let _ = reply.send(self.status());
            }
            Input::Counts { reply } => {
                let _ = reply.send(self.counts(now));
            }
        }
    }

    fn handle_batch(&mut self, now: Time, peer: PeerId, batch: Vec<FromPeer>) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        for item in batch {
            match item {
                FromPeer::Opened(key) => {
                    let Some(known) = self.known(&key) else {
                        continue;
                    };
                    known.channels.insert(peer);
                    known.idle.remove(&peer);
                    known.said_nobody_has = false;
                    self.replicator.handle_channel_open(now, peer, key);
                }
                FromPeer::Closed(key) => {
                    if let Some(known) = self.feeds.get_mut(&key)
                        && known.channels.remove(&peer)
                    {
                        known.idle.insert(peer);
                        let asks_now = self.replicator.asks_unnoticed(peer, &key);
                        self.replicator.handle_channel_close(now, peer, &key);
                        if asks_now {
                            self.reopen(&key);
                        }
                    }
                }
                FromPeer::Message(key, message) => {
                    // What was on its way when this side closed the channel says nothing.
                    let open = self
                        .feeds
                        .get(&key)
                        .is_some_and(|known| known.channels.contains(&peer));
                    if !open {
                        continue;
                    }
                    let result = self.replicator.handle_message(now, peer, &key, message);
                    if let Err(reason) = result {
                        self.handle_violation(peer, &reason, true);
                        return;
                    }
                    self.note_delivered(now, &key);
                }
                FromPeer::TakesSets(key) => {
                    if self.known(&key).is_some() {
                        self.replicator.handle_kinlog_open(now, peer, key);
                    }
                }
                FromPeer::TakesGroups => self.replicator.handle_groups_open(now, peer),
                FromPeer::Group(mut feeds, message) => {
                    let is_open = |key: &FeedKey| {
                        let known = self.feeds.get(key);
                        known.is_some_and(|known| known.channels.contains(&peer))
                    };
                    feeds.retain(is_open);
                    self.replicator
                        .handle_group_message(now, peer, &feeds, &message);
                    for key in feeds {
                        self.note_delivered(now, &key);
                    }
                }
                FromPeer::Kinlog(key, message) => {
                    let open = self
                        .feeds
                        .get(&key)
                        .is_some_and(|known| known.channels.contains(&peer));
                    if !open {
                        continue;
                    }
                    let taken = self
                        .replicator
                        .handle_kinlog_message(now, peer, &key, message);
                    if let Err(reason) = taken {
                        self.handle_violation(peer, &reason, true);
                        return;
                    }
                    self.note_delivered(now, &key);
                }
            }
        }
    }

    /// A peer said something of a feed: perhaps that it has what was appended.
    fn note_delivered(&mut self, now: Time, key: &FeedKey) {
        if self.deliveries.waits_for(key) {
            let reach = self.replicator.reach(key);
            self.deliveries.handle_reached(now, key, reach.length);
        }
    }

    /// Channels that were closed while nothing was asked for open again.
    fn reopen(&self, key: &FeedKey) {
        let Some(known) = self.feeds.get(key) else {
            return;
        };
        if !self.replicator.asks(key) {
            return;
        }
        for peer in &known.idle {
            if let Some(peer) = self.peers.get(peer) {
                // A session that is ending takes nothing more.
                let _ = peer.commands.send(Command::Reopen(*key));
            }
        }
    }

    /// Compares what the replicator knows of a feed with the store.
    fn handle_stored(&mut self, now: Time, key: FeedKey) {
        let Some(feed) = self.store.feed(&key) else {
            self.replicator.remove_feed(now, &key);
            self.feeds.remove(&key);
            self.deliveries.forget(&key);
            self.interests.remove(&key);
            self.pushes.remove(&key);
            self.watches.remove(&key);
            return;
        };
        if self.known(&key).is_none() {
            return;
        }
        let head = HeadState::from(&feed.info());
        self.replicator
            .handle_stored(now, &key, &head, &feed.have());
    }

    fn handle_peer_gone(&mut self, now: Time, peer: PeerId) {
        if self.peers.remove(&peer).is_none() {
            return;
        }
        for known in self.feeds.values_mut() {
            known.channels.remove(&peer);
            known.idle.remove(&peer);
        }
        self.replicator.handle_peer_gone(now, peer);
        if !self.peers.values().any(|peer| peer.open) {
            self.peers_since = None;
        }
    }

    fn handle_done(&mut self, done: Done) {
        let now = self.clock.now();
        match done {
            Done::Reads(job, reads) => {
                // In the order of asking: a proof leads to nodes that went before.
                for (id, result) in self.workers.in_order(job, reads) {
                    self.replicator.handle_read(now, id, result);
                }
            }
            Done::Applied {
                id,
                feed,
                results,
                conflict,
                failed,
            } => {
                if let Some(error) = failed {
                    self.refused(&feed, &error);
                }
                if let Some(proof) = conflict {
                    self.replicator.handle_conflict(now, &feed, proof);
                }
                self.replicator.handle_applied(now, id, results);
            }
            Done::Kept { peer, feed, result } => match result {
                Ok(proof) => self.replicator.handle_conflict(now, &feed, proof),
                Err(NotKept::Bad) => self.replicator.handle_bad_conflict(now, peer, &feed),
                Err(NotKept::Allowed) => {}
                Err(NotKept::Failed(error)) => self.refused(&feed, &error),
            },
            Done::Reorganised {
                peer,
                feed,
                head,
                result,
                conflict,
                failed,
            } => {
                if let Some(error) = failed {
                    self.refused(&feed, &error);
                }
                if let Some(proof) = conflict {
                    self.replicator.handle_conflict(now, &feed, proof);
                }
                self.replicator
                    .handle_reorganised(now, &feed, peer, result, &head);
            }
            Done::Contested { feed, result } => match result {
                Ok(Some(proof)) => self.replicator.handle_conflict(now, &feed, proof),
                Ok(None) => {}
                Err(error) => self.refused(&feed, &error),
            },
            Done::Panicked(text) => self.tell(NodeEvent::StoreFailed {
                reason: format!("store work panicked: {text}"),
            }),
        }
    }

    fn refused(&self, feed: &FeedKey, error: &StoreError) {
        tracing::error!(%feed, %error, "store refused work");
        self.tell(NodeEvent::StoreFailed {
            reason: error.to_string(),
        });
    }

    /// Carries out everything the replicator wants, messages and reads in as few pieces as may be.
    fn drain(&mut self) {
        let mut messages: BTreeMap<PeerId, Vec<ToPeer>> = BTreeMap::new();
        let mut reads = Vec::new();
        let mut read_here = 0;
        while let Some(output) = self.replicator.poll_output() {
            match output {
                Output::Send {
                    peer,
                    key,
                    message,
                    urgent,
                } => {
                    trace_request(&key, &message);
                    self.blocks_out += u64::from(is_block(&message));
                    messages.entry(peer).or_default().push(ToPeer {
                        key,
                        message: FeedMessage::Hypercore(message),
                        urgent,
                    });
                }
                Output::SendKinlog {
                    peer,
                    key,
                    message,
                    urgent,
                } => {
                    trace_set(&key, &message);
                    if let FeedMessage::Set(answer) = &message {
                        self.blocks_out += answer.values.len() as u64;
                    }
                    messages.entry(peer).or_default().push(ToPeer {
                        key,
                        message,
                        urgent,
                    });
                }
                Output::SendGroup {
                    peer,
                    feeds,
                    message,
                } => {
                    // What was said before goes before.
                    let before = messages.remove(&peer);
                    if let Some(known) = self.peers.get(&peer) {
                        let before = before.map(Command::Feed);
                        for command in before.into_iter().chain([Command::Group(feeds, message)]) {
                            // A session that is ending takes nothing more.
                            let _ = known.commands.send(command);
                        }
                    }
                }
                Output::ReadSet { id, key, set, .. } => {
                    if let Some(known) = self.feeds.get(&key) {
                        self.workers.read(std::mem::take(&mut reads));
                        self.workers.read_set(id, known.feed.clone(), set);
                    }
                }
                Output::Read {
                    id,
                    key,
                    request,
                    manifest,
                    is_push,
                    ..
                } => {
                    let Some(known) = self.feeds.get_mut(&key) else {
                        continue;
                    };
                    if request.upgrade.is_some() && known.feed.role() == Role::Own {
                        let length = known.feed.head().length;
                        if length > known.shown {
                            known.shown = length;
                            // Nobody has to listen.
                            let _ = self.events.send(NodeEvent::HeadShown { key, length });
                        }
                    }
                    let read = Read {
                        id,
                        feed: known.feed.clone(),
                        request,
                        manifest,
                    };
                    // What was appended just now is in memory: reading it takes less than having it read.
                    let is_quick = is_push && read_here < PUSHES_READ_HERE_MAX;
                    if is_quick && reads.is_empty() && self.workers.reads_are_done() {
                        read_here += 1;
                        for done in self.workers.read_here(read) {
                            self.handle_done(done);
                        }
                    } else {
                        reads.push(read);
                    }
                }
                Output::Apply { id, key, items } => {
                    let Some(known) = self.feeds.get(&key) else {
                        continue;
                    };
                    self.workers.apply(id, known.feed.clone(), items);
                }
                Output::KeepConflict { peer, key, proof } => {
                    if let Some(known) = self.feeds.get(&key) {
                        self.workers.keep(peer, known.feed.clone(), proof);
                    }
                }
                Output::Reorganise {
                    key,
                    peer,
                    reorg,
                    answer,
                } => {
                    if let Some(known) = self.feeds.get(&key) {
                        let feed = known.feed.clone();
                        self.workers.reorganise(peer, feed, reorg, answer);
                    }
                }
                Output::Contest { key, shown } => {
                    if let Some(known) = self.feeds.get(&key) {
                        self.workers.contest(known.feed.clone(), shown);
                    }
                }
                Output::CloseIdle { peer, key } => {
                    if let Some(peer) = self.peers.get(&peer) {
                        let _ = peer.commands.send(Command::CloseIdle(key));
                    }
                }
                Output::Got { id, end, .. } => self.waits.end(id, end),
                Output::Violation { peer, reason, ban } => {
                    self.handle_violation(peer, &reason, ban);
                }
                Output::Event { key, event } => self.handle_event(key, event),
                // A later replicator may want more than this driver knows.
                _ => {}
            }
        }
        self.workers.read(reads);
        for (peer, messages) in messages {
            if let Some(peer) = self.peers.get(&peer) {
                // A session that is ending takes nothing more.
                let _ = peer.commands.send(Command::Feed(messages));
            }
        }
    }

    fn handle_violation(&mut self, peer: PeerId, reason: &ProtocolViolation, ban: bool) {
        let reason = reason.to_string();
        tracing::warn!(session = peer.0, %reason, ban, "peer breaks the protocol");
        if let Some(known) = self.peers.get(&peer) {
            let end = SessionError::Violation {
                reason: reason.clone(),
                ban,
            };
            let _ = known.commands.send(Command::Close(end));
        }
        self.tell(NodeEvent::PeerViolation {
            session: SessionId(peer.0),
            reason,
        });
    }

    fn handle_event(&mut self, key: FeedKey, event: FeedEvent) {
        let info = self.feeds.get(&key).map(|known| known.feed.info());
        let event = match event {
            FeedEvent::Upgraded { length } => {
                let fork = info.map_or(0, |info| info.fork);
                NodeEvent::FeedUpgraded { key, fork, length }
            }
            FeedEvent::Truncated { .. } => {
                let (fork, length) = info.map_or((0, 0), |info| (info.fork, info.length));
                NodeEvent::FeedUpgraded { key, fork, length }
            }
            FeedEvent::BlocksStored { range } => {
                let (start, end) = (range.start, range.end);
                tracing::trace!(target: BLOCKS, feed = %key, start, end, "blocks stored");
                self.blocks_in += end.saturating_sub(start);
                NodeEvent::BlocksStored { key, range }
            }
            FeedEvent::Complete => NodeEvent::FeedComplete {
                key,
                length: info.map_or(0, |info| info.length),
            },
            FeedEvent::Conflict => NodeEvent::FeedConflict { key },
            FeedEvent::HoldersChanged => NodeEvent::HoldersChanged { key },
            FeedEvent::NobodyHas { .. } => NodeEvent::StepFailed {
                step: Step::NobodyHas { key },
            },
            _ => return,
        };
        self.tell(event);
    }

    /// Returns the feed, telling the replicator of it when it is new here.
    fn known(&mut self, key: &FeedKey) -> Option<&mut Known> {
        if !self.feeds.contains_key(key) {
            let feed = self.store.feed(key)?;
            self.replicator.add_feed(*key, feed_state(&feed));
            if feed.role() == Role::Own && self.withheld.contains(key) {
                self.replicator.withhold(key);
            }
            let now = self.clock.now();
            if let Some(interest) = self.interests.get(key) {
                self.replicator.set_interest(now, key, interest.clone());
            }
            if let Some(pushes) = self.pushes.get(key) {
                self.replicator.set_pushes(now, key, *pushes);
            }
            if let Some(blocks) = self.watches.get(key) {
                self.replicator.watch(now, key, Some(blocks.clone()));
            }
            let known = Known {
                feed,
                channels: BTreeSet::new(),
                idle: BTreeSet::new(),
                said_nobody_has: false,
                shown: 0,
            };
            self.feeds.insert(*key, known);
        }
        self.feeds.get_mut(key)
    }

    fn nobody_has_timeout(&self) -> Option<Time> {
        let since = self.peers_since?;
        let silent = self
            .interests
            .iter()
            .any(|(key, interest)| self.lacks(key, interest));
        silent.then_some(since + NOBODY_HAS_AFTER)
    }

    /// Returns whether a feed is wanted, nobody opened its channel, and that was not said yet.
    fn lacks(&self, key: &FeedKey, interest: &Interest) -> bool {
        let wanted = interest.live || interest.want != Want::None;
        let known = self.feeds.get(key);
        wanted && known.is_some_and(|known| known.channels.is_empty() && !known.said_nobody_has)
    }

    fn say_nobody_has(&mut self, now: Time) {
        if self
            .peers_since
            .is_none_or(|since| now < since + NOBODY_HAS_AFTER)
        {
            return;
        }
        let lacking: Vec<FeedKey> = self
            .interests
            .iter()
            .filter(|(key, interest)| self.lacks(key, interest))
            .map(|(key, _)| *key)
            .collect();
        for key in lacking {
            if let Some(known) = self.feeds.get_mut(&key) {
                known.said_nobody_has = true;
            }
            self.tell(NodeEvent::StepFailed {
                step: Step::NobodyHas { key },
            });
        }
    }

    fn status(&self) -> Vec<FeedStatus> {
        self.feeds
            .keys()
            .filter_map(|key| {
                let status = self.replicator.status(key)?;
                Some(FeedStatus {
                    key: key.to_string(),
                    length: status.length,
                    remote_length: status
                        .peers
                        .iter()
                        .map(|peer| peer.remote_length)
                        .max()
                        .unwrap_or_default(),
                    fork_ahead: status
                        .peers
                        .iter()
                        .any(|peer| peer.remote_fork > status.fork),
                    blocks_wanted: status.wanted,
                    blocks_held: status.wanted.saturating_sub(status.missing),
                    blocks_in_flight: status.in_flight,
                    peers: status.peers.len(),
                    peers_taking_pushes: status
                        .peers
                        .iter()
                        .filter(|peer| peer.takes_pushes)
                        .count(),
                    blocks_pushed: status.peers.iter().map(|peer| peer.pushed).sum(),
                })
            })
            .collect()
    }

    fn counts(&mut self, now: Time) -> ReplicationStatus {
        let (delivered, missed) = self.deliveries.status(now);
        ReplicationStatus {
            delivered,
            missed,
            blocks_in: self.blocks_in,
            blocks_out: self.blocks_out,
            unsolicited: self.replicator.unsolicited(),
        }
    }

    fn tell(&self, event: NodeEvent) {
        // Nobody has to listen.
        let _ = self.events.send(event);
    }
}

/// Target under which tests watch which blocks are asked for and which are stored.
const BLOCKS: &str = "kinlog_swarm::blocks";

fn is_block(message: &Message) -> bool {
    matches!(message, Message::Data(data) if data.proof.block.is_some())
}

fn trace_request(key: &FeedKey, message: &Message) {
    if let Message::Request(request) = message
        && let Some(block) = &request.proof.block
    {
        tracing::trace!(target: BLOCKS, feed = %key, block = block.index, "block asked for");
    }
}

fn trace_set(key: &FeedKey, message: &FeedMessage) {
    if let FeedMessage::AskSet(request) = message
        && tracing::enabled!(target: BLOCKS, tracing::Level::TRACE)
    {
        for block in request.set.blocks() {
            tracing::trace!(target: BLOCKS, feed = %key, block, "block asked for");
        }
    }
}

fn feed_state(feed: &Feed) -> FeedState {
    let info = feed.info();
    FeedState {
        kind: match feed.kind() {
            Kind::Kinlog => FeedKind::Kinlog,
            Kind::Plain => FeedKind::Plain,
        },
        manifest_known: feed.manifest().is_some(),
        head: HeadState::from(&info),
        have: feed.have().runs(0..info.length).collect(),
        conflict: conflict_of(feed),
    }
}

/// Returns the proof that stopped the feed. One that cannot be read is reported, and the store takes
/// nothing for the feed either way.
fn conflict_of(feed: &Feed) -> Option<bytes::Bytes> {
    match feed.conflict() {
        Ok(proof) => proof.map(|proof| proof.encode().into()),
        Err(error) => {
            tracing::error!(feed = %feed.key(), %error, "the proof of a conflict is damaged");
            None
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}
