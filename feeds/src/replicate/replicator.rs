//! The state machine for all feeds and peers.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::Time;
use crate::crypto::FeedKey;
use crate::limits::IN_FLIGHT_BYTES_MAX;
use crate::replicate::{
    Applied, ApplyFailure, ApplyId, FeedState, Interest, NotAvailable, Output, PeerId,
    ProtocolViolation, ReadId,
};
use crate::tree::Proof;
use crate::wire::hypercore::Message;

/// Configuration of the replicator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of block data requested from all peers together and not yet received. Default
    /// [`IN_FLIGHT_BYTES_MAX`].
    pub in_flight_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
        }
    }
}

/// How far a feed is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FeedStatus {
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
    /// Length of the peer's head; 0 if it said nothing yet.
    pub remote_length: u64,
    /// Blocks the peer said to hold.
    pub remote_held: u64,
    /// Blocks asked of this peer and not yet received.
    pub in_flight: u64,
}

/// Plans requests and answers over all feeds and peers of a process.
#[derive(Debug)]
pub struct Replicator {
    config: Config,
    outputs: VecDeque<Output>,
}

impl Replicator {
    /// Returns a replicator without feeds and peers.
    pub fn new(config: Config) -> Self {
        Replicator {
            config,
            outputs: VecDeque::new(),
        }
    }

    /// Adds a feed; a feed that is known already keeps its channels and takes the new state.
    pub fn add_feed(&mut self, _key: FeedKey, _state: FeedState) {}

    /// Forgets a feed; the driver closes its channels.
    pub fn remove_feed(&mut self, _key: &FeedKey) {}

    /// Says what is wanted of a feed.
    pub fn set_interest(&mut self, _now: Time, _key: &FeedKey, _interest: Interest) {}

    /// The own feed `key` has grown to `length` blocks, durably.
    pub fn handle_appended(&mut self, _now: Time, _key: &FeedKey, _length: u64, _byte_length: u64) {
    }

    /// Both sides have opened the channel of feed `key` and shown their capability.
    pub fn handle_channel_open(&mut self, _now: Time, _peer: PeerId, _key: FeedKey) {}

    /// The channel of feed `key` with this peer is closed.
    pub fn handle_channel_close(&mut self, _now: Time, _peer: PeerId, _key: &FeedKey) {}

    /// The peer is gone with all its channels.
    pub fn handle_peer_gone(&mut self, _now: Time, _peer: PeerId) {}

    /// The peer's connection takes no more for now (or does again): answers to it are held back.
    pub fn handle_writable(&mut self, _now: Time, _peer: PeerId, _writable: bool) {}

    /// A message of the peer on the channel of feed `key`. On an error close the connection.
    pub fn handle_message(
        &mut self,
        _now: Time,
        _peer: PeerId,
        _key: &FeedKey,
        _message: Message,
    ) -> Result<(), ProtocolViolation> {
        Ok(())
    }

    /// The answer to [`Output::Read`].
    pub fn handle_read(
        &mut self,
        _now: Time,
        _id: ReadId,
        _result: Result<(Proof, Option<Bytes>), NotAvailable>,
    ) {
    }

    /// The answer to [`Output::Apply`]: one result for each item, in order.
    pub fn handle_applied(
        &mut self,
        _now: Time,
        _id: ApplyId,
        _results: Vec<Result<Applied, ApplyFailure>>,
    ) {
    }

    /// Lets the time pass: requests that stay unanswered go to another peer.
    pub fn handle_timeout(&mut self, _now: Time) {}

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// Returns the next thing to do. Call until `None` after every drain.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns how far the feed is, `None` if it is not known.
    pub fn status(&self, _key: &FeedKey) -> Option<FeedStatus> {
        let _ = &self.config;
        None
    }
}
