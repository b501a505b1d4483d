//! The state machine for all feeds and peers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use crate::Time;
use crate::bitfield::Bitfield;
use crate::crypto::FeedKey;
use crate::limits::{
    GROUP_FEEDS_MIN, IN_FLIGHT_BYTES_MAX, REPLICATE_TICK, REQUESTS_PER_PEER_MAX, URGENT_BYTES_MAX,
};
use crate::replicate::channel::Channel;
use crate::replicate::feed::Feed;
use crate::replicate::flow::{Context, Flow};
use crate::replicate::peer::Peer;
use crate::replicate::serve::{Served, Server};
use crate::replicate::shown::Shown;
use crate::replicate::{
    Applied, ApplyFailure, ApplyId, FeedState, GetId, HeadState, NotAvailable, Output, PeerId,
    ProtocolViolation, ReadId, ReorgStep,
};
use crate::tree::Proof;

/// Configuration of the replicator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of block data requested from all peers together and not yet received. Default
    /// [`IN_FLIGHT_BYTES_MAX`].
    pub in_flight_bytes_max: usize,
    /// Decides where a feed is begun that other readers fetch too: each should have its own. Default 0.
    pub seed: u64,
    /// Feeds from which on a peer is told of them by one digest. Default [`GROUP_FEEDS_MIN`].
    pub group_feeds_min: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
            seed: 0,
            group_feeds_min: GROUP_FEEDS_MIN,
        }
    }
}

/// Plans requests and answers over all feeds and peers of a process.
#[derive(Debug)]
pub struct Replicator {
    pub(super) now: Time,
    pub(super) feeds: BTreeMap<FeedKey, Feed>,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    pub(super) flow: Flow,
    server: Server,
    applies: BTreeMap<ApplyId, FeedKey>,
    next_apply: u64,
    pub(super) outputs: VecDeque<Output>,
    /// Peers that are to be told of feeds at the next drain.
    pub(super) greeted: BTreeSet<PeerId>,
    pub(super) group_feeds_min: usize,
    /// Blocks that somebody waits for, by feed.
    gets: BTreeMap<GetId, FeedKey>,
    last_get: u64,
    /// Feeds whose holders are to be known, the longest first.
    watched: VecDeque<FeedKey>,
    /// Feeds to be planned at the next drain.
    dirty: BTreeSet<FeedKey>,
    /// Feeds that the windows kept from asking for more.
    starved: BTreeSet<FeedKey>,
    /// Feeds that wait for something that only time decides.
    waiting: BTreeSet<FeedKey>,
    tick_at: Option<Time>,
    /// Messages of data that peers who are gone had sent unasked.
    unsolicited_gone: u64,
}

/// Splits the borrow of a replicator into one feed and the context it works in.
macro_rules! with_feed {
    ($self:ident, $key:expr, |$feed:ident, $cx:ident| $body:expr) => {{
        let mut context = Context {
            now: $self.now,
            peers: &mut $self.peers,
            flow: &mut $self.flow,
            outputs: &mut $self.outputs,
        };
        let $cx = &mut context;
        $self.feeds.get_mut($key).map(|$feed| $body)
    }};
}

mod messages;
mod status;
mod wishes;

pub use status::{FeedStatus, PeerStatus, Reach};

impl Replicator {
    /// Returns a replicator without feeds and peers.
    pub fn new(config: Config) -> Self {
        Replicator {
            now: Time::ZERO,
            feeds: BTreeMap::new(),
            peers: BTreeMap::new(),
            flow: Flow::new(config.in_flight_bytes_max, config.seed),
            server: Server::default(),
            applies: BTreeMap::new(),
            next_apply: 1,
            outputs: VecDeque::new(),
            greeted: BTreeSet::new(),
            group_feeds_min: config.group_feeds_min,
            gets: BTreeMap::new(),
            last_get: 0,
            watched: VecDeque::new(),
            dirty: BTreeSet::new(),
            starved: BTreeSet::new(),
            waiting: BTreeSet::new(),
            tick_at: None,
            unsolicited_gone: 0,
        }
    }

    /// Adds a feed; one that is known already is left as it is.
    pub fn add_feed(&mut self, key: FeedKey, state: FeedState) {
        self.feeds
            .entry(key)
            .or_insert_with(|| Feed::new(key, state));
    }

    /// Forgets a feed; the driver closes its channels.
    pub fn remove_feed(&mut self, now: Time, key: &FeedKey) {
        self.now = now;
        let peers: Vec<PeerId> = match self.feeds.get(key) {
            Some(feed) => feed.channels.keys().copied().collect(),
            None => return,
        };
        for peer in peers {
            self.handle_channel_close(now, peer, key);
        }
        with_feed!(self, key, |feed, cx| feed.forget(cx));
        self.feeds.remove(key);
        self.gets.retain(|_, of| of != key);
        for set in [&mut self.dirty, &mut self.starved, &mut self.waiting] {
            set.remove(key);
        }
    }

    /// The own feed `key` has grown to `head`, durably, or was truncated to it.
    pub fn handle_appended(&mut self, now: Time, key: &FeedKey, head: &HeadState) {
        self.now = now;
        let pushes = with_feed!(self, key, |feed, cx| feed.handle_appended(cx, head));
        for (peer, request) in pushes.into_iter().flatten() {
            if let Some(found) = self.peers.get_mut(&peer) {
                self.server.push((peer, found), *key, request);
            }
        }
    }

    /// Shows peers nothing of `key` until [`publish`](Self::publish): neither length nor head nor block.
    /// They are asked for theirs, also for those that are not longer than ours.
    pub fn withhold(&mut self, key: &FeedKey) {
        if let Some(feed) = self.feeds.get_mut(key) {
            feed.withheld = true;
        }
    }

    /// Shows peers what was withheld from them.
    pub fn publish(&mut self, now: Time, key: &FeedKey) {
        self.now = now;
        with_feed!(self, key, |feed, cx| feed.publish(cx));
        self.touch(key);
    }

    /// The answer to [`Output::Reorganise`], and the head as it is now.
    pub fn handle_reorganised(
        &mut self,
        now: Time,
        key: &FeedKey,
        peer: PeerId,
        result: Result<ReorgStep, ApplyFailure>,
        head: &HeadState,
    ) {
        self.now = now;
        let cut = with_feed!(self, key, |feed, cx| {
            feed.handle_reorganised(cx, peer, result, head)
        });
        self.cut(cut.flatten());
        self.touch(key);
    }

    /// Feed `key` is stopped by a conflict, durably: `proof` is passed on to its peers. Of a feed
    /// that is stopped already nothing changes.
    pub fn handle_conflict(&mut self, now: Time, key: &FeedKey, proof: Bytes) {
        self.now = now;
        with_feed!(self, key, |feed, cx| feed.handle_conflict(cx, proof));
        self.touch(key);
    }

    /// What [`Output::KeepConflict`] carried is no proof of a conflict of feed `key`.
    pub fn handle_bad_conflict(&mut self, now: Time, peer: PeerId, key: &FeedKey) {
        self.now = now;
        self.cut([(peer, ProtocolViolation::BadConflict { key: *key })]);
    }

    /// The store holds `held` of the blocks of `key` up to `head`, by other ways than this
    /// replicator: a bundle, or giving space back.
    pub fn handle_stored(&mut self, now: Time, key: &FeedKey, head: &HeadState, held: &Bitfield) {
        self.now = now;
        with_feed!(self, key, |feed, cx| feed.handle_stored(cx, head, held));
        self.touch(key);
    }

    /// Blocks of `key` are no longer held, durably.
    pub fn handle_cleared(&mut self, now: Time, key: &FeedKey, range: Range<u64>) {
        self.now = now;
        with_feed!(self, key, |feed, cx| feed.handle_cleared(cx, range));
        self.touch(key);
    }

    /// Says of which feeds a peer is shown these blocks alone; of one without any not even the head, of
    /// those not named everything. What it was shown before stays with it, what it asked is
    /// answered no more.
    pub fn limit(&mut self, now: Time, peer: PeerId, limits: BTreeMap<FeedKey, Vec<Range<u64>>>) {
        self.now = now;
        let limits: BTreeMap<FeedKey, Shown> = limits
            .into_iter()
            .map(|(key, ranges)| (key, Shown::only(ranges)))
            .collect();
        let known = self.peer(peer);
        known.limits = limits.clone();
        let open: Vec<FeedKey> = known.feeds.iter().copied().collect();
        for key in open {
            let shown = limits.get(&key).cloned().unwrap_or_default();
            let channel = self
                .feeds
                .get_mut(&key)
                .and_then(|feed| feed.channels.get_mut(&peer));
            let Some(channel) = channel.filter(|channel| channel.shown != shown) else {
                continue;
            };
            channel.shown = shown;
            channel.pushing = 0;
            self.server.handle_channel_close(peer, &key);
            if let Some(found) = self.peers.get_mut(&peer) {
                found.requests.retain(|(queued, _)| *queued != key);
            }
            with_feed!(self, &key, |feed, cx| feed.show(cx, peer));
        }
    }

    /// Both sides have opened the channel of feed `key` and shown their capability.
    pub fn handle_channel_open(&mut self, now: Time, peer: PeerId, key: FeedKey) {
        self.now = now;
        let by_number = self
            .peers
            .get(&peer)
            .is_some_and(|known| known.by_number.contains(&key));
        self.handle_channel_close(now, peer, &key);
        if !self.feeds.contains_key(&key) {
            return;
        }
        let known = self.peer(peer);
        known.feeds.insert(key);
        let after = known.last_request;
        let shown = known.limits.get(&key).cloned().unwrap_or_default();
        if by_number {
            known.by_number.insert(key);
        }
        let first_set = known.last_set;
        // A drain may bring thousands at once.
        let waits = by_number && known.takes_groups;
        if waits {
            known.greetings.insert(key);
            self.greeted.insert(peer);
        }
        with_feed!(self, &key, |feed, cx| {
            let mut channel = Channel::new(now, after);
            channel.shown = shown;
            (channel.takes_sets, channel.is_kinlog) = (by_number, by_number);
            channel.first_set = first_set;
            feed.channels.insert(peer, channel);
            if !waits {
                feed.greet(cx, peer);
            }
            if by_number {
                feed.watch_peer(cx, peer);
            }
        });
        self.touch(&key);
    }

    /// The peer and this side may speak of feed `key` by `kinlog/feed/1`, and both ask for blocks in
    /// sets. Comes before or after [`handle_channel_open`](Self::handle_channel_open), and ends with
    /// the channel.
    pub fn handle_kinlog_open(&mut self, now: Time, peer: PeerId, key: FeedKey) {
        self.now = now;
        let known = self.peer(peer);
        known.window = REQUESTS_PER_PEER_MAX;
        known.by_number.insert(key);
        with_feed!(self, &key, |feed, cx| {
            if let Some(channel) = feed.channels.get_mut(&peer) {
                channel.takes_sets = true;
                feed.handle_kinlog(cx, peer);
                feed.watch_peer(cx, peer);
            }
        });
        self.touch(&key);
    }

    /// The channel of feed `key` with this peer is closed.
    pub fn handle_channel_close(&mut self, now: Time, peer: PeerId, key: &FeedKey) {
        self.now = now;
        with_feed!(self, key, |feed, cx| feed.close_channel(cx, peer));
        self.server.handle_channel_close(peer, key);
        if let Some(found) = self.peers.get_mut(&peer) {
            found.feeds.remove(key);
            found.by_number.remove(key);
            found.greetings.remove(key);
            found.requests.retain(|(queued, _)| queued != key);
        }
        self.touch(key);
    }

    /// The peer is gone with all its channels.
    pub fn handle_peer_gone(&mut self, now: Time, peer: PeerId) {
        self.now = now;
        let feeds = match self.peers.get(&peer) {
            Some(found) => found.feeds.clone(),
            None => return,
        };
        for key in &feeds {
            self.handle_channel_close(now, peer, key);
        }
        self.server.handle_peer_gone(peer);
        if let Some(gone) = self.peers.remove(&peer) {
            self.unsolicited_gone += u64::from(gone.unsolicited);
        }
    }

    /// The peer's connection takes no more for now (or does again): answers to it are held back.
    pub fn handle_writable(&mut self, now: Time, peer: PeerId, writable: bool) {
        self.now = now;
        if let Some(found) = self.peers.get_mut(&peer) {
            found.writable = writable;
            if writable {
                found.urgent_bytes_left = URGENT_BYTES_MAX;
                self.server.handle_writable(peer);
            }
        }
    }

    /// Answers of the peer come by so many ways at once (associations, say), one without more being told: a
    /// way that stands still is to hold up no other.
    pub fn handle_ways(&mut self, now: Time, peer: PeerId, ways: usize) {
        self.now = now;
        if let Some(found) = self.peers.get_mut(&peer) {
            found.pace.set_ways(ways);
        }
    }

    /// The answer to [`Output::Read`].
    pub fn handle_read(
        &mut self,
        now: Time,
        id: ReadId,
        result: Result<(Proof, Option<Bytes>), NotAvailable>,
    ) {
        self.now = now;
        let (outputs, peers) = (&mut self.outputs, &mut self.peers);
        match self.server.handle_read(outputs, peers, id, result) {
            Some(Served::Pushed { peer, key }) => {
                with_feed!(self, &key, |feed, cx| feed.end_push(cx, peer));
            }
            Some(Served::Invalid(peer, reason)) => self.cut([(peer, reason)]),
            None => {}
        }
    }

    /// The answer to [`Output::Apply`]: one result for each item, in order; items without one
    /// count as [`ApplyFailure::Store`].
    pub fn handle_applied(
        &mut self,
        now: Time,
        id: ApplyId,
        results: Vec<Result<Applied, ApplyFailure>>,
    ) {
        self.now = now;
        let Some(key) = self.applies.remove(&id) else {
            return;
        };
        let cut = with_feed!(self, &key, |feed, cx| feed.handle_applied(cx, id, results));
        self.cut(cut.into_iter().flatten());
        self.touch(&key);
    }

    /// Lets the time pass: requests that stay unanswered go to another peer.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        if self.tick_at.is_none_or(|at| now < at) {
            return;
        }
        self.tick_at = None;
        self.server.handle_timeout();
        for key in std::mem::take(&mut self.waiting) {
            with_feed!(self, &key, |feed, cx| feed.time_out(cx));
            self.dirty.insert(key);
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.tick_at
    }

    /// Returns the next thing to do. Call until `None` after every drain.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.work();
        }
        let output = self.outputs.pop_front();
        if let Some(Output::Got { id, .. }) = &output {
            self.gets.remove(id);
        }
        output
    }

    /// Returns whether connections may go on being read: false while the store is behind by more
    /// than the windows can have asked for. It comes true again with
    /// [`handle_applied`](Self::handle_applied).
    pub fn accepts_data(&self) -> bool {
        self.applies.is_empty() || self.flow.accepts_data()
    }

    pub(super) fn peer(&mut self, peer: PeerId) -> &mut Peer {
        self.peers.entry(peer).or_insert_with(Peer::new)
    }

    pub(super) fn touch(&mut self, key: &FeedKey) {
        self.dirty.insert(*key);
    }

    /// Plans what changed since the last drain.
    fn work(&mut self) {
        self.greet();
        // Room may have come free for feeds that wanted more.
        let mut keys = std::mem::take(&mut self.dirty);
        keys.append(&mut self.starved);
        let mut cut = Vec::new();
        for key in keys {
            let next = &mut self.next_apply;
            let planned = with_feed!(self, &key, |feed, cx| {
                let apply = feed.start_apply(cx, next);
                (apply, feed.plan(cx))
            });
            let Some((apply, planned)) = planned else {
                continue;
            };
            self.applies.extend(apply.map(|apply| (apply, key)));
            cut.extend(planned.violations);
            if planned.starved {
                self.starved.insert(key);
            }
            if planned.waits {
                self.waiting.insert(key);
            }
        }
        self.server
            .serve(self.now, &mut self.outputs, &mut self.peers, &self.feeds);
        self.cut(cut);
        let waits = !self.waiting.is_empty() || self.server.waits_for_time();
        if self.tick_at.is_none() && waits {
            self.tick_at = Some(self.now + REPLICATE_TICK);
        }
    }

    fn cut(&mut self, violations: impl IntoIterator<Item = (PeerId, ProtocolViolation)>) {
        for (peer, reason) in violations {
            if !self.peers.contains_key(&peer) {
                continue; // it is gone already
            }
            let ban = reason.is_proven_lie();
            self.outputs
                .push_back(Output::Violation { peer, reason, ban });
            self.handle_peer_gone(self.now, peer);
        }
    }
}
