//! How far everything is.

use crate::crypto::FeedKey;
use crate::replicate::channel::Channel;
use crate::replicate::feed::Feed;
use crate::replicate::{Load, PeerId, Replicator};

/// How far a feed is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FeedStatus {
    /// Fork of the signed head.
    pub fork: u64,
    /// Length of the signed head.
    pub length: u64,
    /// Blocks held.
    pub held: u64,
    /// Blocks wanted, held or not, of the length known.
    pub wanted: u64,
    /// Blocks wanted and not held.
    pub missing: u64,
    /// Blocks asked for and not yet received.
    pub in_flight: u64,
    /// Peers whose channel of this feed is open.
    pub peers: Vec<PeerStatus>,
}

/// What is known of a peer's side of a feed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerStatus {
    /// Which peer.
    pub peer: PeerId,
    /// Fork of the peer's head; 0 if it said nothing yet.
    pub remote_fork: u64,
    /// Length of the peer's head; 0 if it said nothing yet.
    pub remote_length: u64,
    /// Blocks the peer said to hold.
    pub remote_held: u64,
    /// Blocks asked of this peer and not yet received.
    pub in_flight: u64,
    /// Whether it takes what we append before it asks.
    pub takes_pushes: bool,
    /// Blocks that it sent before they were asked for, as it may.
    pub pushed: u64,
    /// Messages of data that it sent unasked and may not, over all feeds.
    pub unsolicited: u32,
}

/// How far what is appended to a feed has come with the peers that take it, by what they say themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reach {
    /// Peers that take what is appended before they ask, and are shown the newest block.
    pub takers: usize,
    /// Longest head that one of them says it has; 0 without any.
    pub length: u64,
}

impl Replicator {
    /// Returns how far the newest blocks of a feed have come; nobody takes them of one that is not known or is
    /// withheld.
    pub fn reach(&self, key: &FeedKey) -> Reach {
        let Some(feed) = self.feeds.get(key).filter(|feed| !feed.withheld) else {
            return Reach::default();
        };
        let newest = feed.length.saturating_sub(1);
        let mut reach = Reach::default();
        for channel in feed.channels.values() {
            if let Some(remote) = channel.remote
                && remote.allow_push
                && remote.fork == feed.fork
                && channel.shown.has(newest)
            {
                reach.takers += 1;
                reach.length = reach.length.max(remote.length);
            }
        }
        reach
    }

    /// Returns how many messages of data came that were not asked for and may not come so, of all peers that there
    /// are and were.
    pub fn unsolicited(&self) -> u64 {
        let now = self.peers.values().map(|peer| u64::from(peer.unsolicited));
        self.unsolicited_gone + now.sum::<u64>()
    }

    /// Returns whether something is asked of the feed's peers, or would be if there were any.
    pub fn asks(&self, key: &FeedKey) -> bool {
        self.feeds.get(key).is_some_and(Feed::is_downloading)
    }

    /// Returns whether that is so and the peer was told otherwise last, or its channel is being closed:
    /// channels close when neither side asks for anything, and that may be out of date by then.
    pub fn asks_unnoticed(&self, peer: PeerId, key: &FeedKey) -> bool {
        let feed = self.feeds.get(key);
        let channel = feed.and_then(|feed| feed.channels.get(&peer));
        let unnoticed = |channel: &Channel| {
            channel.is_closing || channel.told.is_some_and(|told| !told.downloading)
        };
        self.asks(key) && channel.is_some_and(unnoticed)
    }

    /// Returns how much is held for peers.
    pub fn load(&self) -> Load {
        let waiting = || self.peers.values().map(|peer| peer.requests.len());
        Load {
            requests_of_one_peer: waiting().max().unwrap_or_default(),
            requests: waiting().sum(),
            reads: self.server.reads(),
            parked: self.feeds.values().map(|feed| feed.parked.len()).sum(),
            ..self.flow.load()
        }
    }

    /// Returns how far the feed is, `None` if it is not known.
    pub fn status(&self, key: &FeedKey) -> Option<FeedStatus> {
        let feed = self.feeds.get(key)?;
        let peers = feed.channels.iter().map(|(peer, channel)| PeerStatus {
            peer: *peer,
            remote_fork: channel.remote.map_or(0, |remote| remote.fork),
            remote_length: channel.remote_length(),
            remote_held: channel.remote_have.count(),
            in_flight: channel.asked.len() as u64,
            takes_pushes: channel.remote.is_some_and(|remote| remote.allow_push),
            pushed: channel.taken_unasked,
            unsolicited: self.peers.get(peer).map_or(0, |peer| peer.unsolicited),
        });
        Some(FeedStatus {
            fork: feed.fork,
            length: feed.length,
            held: feed.have.count(),
            wanted: feed.wanted.count(feed.length),
            missing: feed.wanted.count_missing(&feed.have, feed.length),
            in_flight: feed.in_flight() as u64,
            peers: peers.collect(),
        })
    }
}
