//! Answering requests: a bounded queue for each peer, reads handed out as the connection takes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::crypto::FeedKey;
use crate::limits::{
    INVALID_REQUESTS_MAX, READ_BYTES_PER_PEER_MAX, READS_PER_PEER_MAX, REQUESTS_PER_PEER_MAX,
    REQUESTS_QUEUED_MAX, SET_BYTES, SET_RUNS_QUEUED_MAX, URGENT_REQUESTS_MAX,
};
use crate::replicate::feed::Feed;
use crate::replicate::mistake::{Mistake, makes};
use crate::replicate::peer::{Peer, Queued};
use crate::replicate::shown::Shown;
use crate::replicate::{NotAvailable, Output, PeerId, ProtocolViolation, ReadId};
use crate::tree::{BlockSet, Proof};
use crate::wire::hypercore::{Data, Message, NoData, NoDataReason, Request};
use crate::wire::kinlog::{FeedMessage, SetAnswer, SetRequest};

/// What the proof of a head counts for.
const NO_BLOCK_BYTES_COUNTED: usize = 1024;

/// A read that the driver has.
#[derive(Debug)]
struct Reading {
    peer: PeerId,
    key: FeedKey,
    request: u64,
    is_set: bool,
    fork: u64,
    bytes: usize,
    urgent: bool,
    /// The peer took the request back.
    cancelled: bool,
}

/// All reads that are out, and the peers that wait for some.
#[derive(Debug, Default)]
pub(super) struct Server {
    reads: BTreeMap<ReadId, Reading>,
    waiting: BTreeSet<PeerId>,
    last_id: u64,
}

impl Server {
    /// Queues a request, or answers at once what needs no read.
    pub(super) fn handle_request(
        &mut self,
        outputs: &mut VecDeque<Output>,
        (id, peer): (PeerId, &mut Peer),
        feed: &Feed,
        request: Request,
    ) -> Result<(), ProtocolViolation> {
        let shown = feed.channels.get(&id).map(|channel| &channel.shown);
        match judge(feed, shown, &request) {
            Judgement::Read => {}
            Judgement::Decline => {
                outputs.push_back(no_data(
                    id,
                    feed.key,
                    request.id,
                    NoDataReason::NotAvailable,
                ));
                return Ok(());
            }
            Judgement::Invalid => {
                outputs.push_back(no_data(
                    id,
                    feed.key,
                    request.id,
                    NoDataReason::InvalidRequest,
                ));
                return count_invalid(peer);
            }
        }
        self.queue((id, peer), feed.key, Queued::Request(request))
    }

    /// Queues a set, cut to what the peer may have and is held, or says at once that the first of it is
    /// not to be had.
    pub(super) fn handle_set_request(
        &mut self,
        outputs: &mut VecDeque<Output>,
        (id, peer): (PeerId, &mut Peer),
        feed: &Feed,
        request: SetRequest,
    ) -> Result<(), ProtocolViolation> {
        let channel = feed.channels.get(&id);
        let of_ours = request.fork == feed.fork && !feed.withheld;
        let is_beyond = of_ours && request.set.end() > feed.length;
        let shown = channel.map(|channel| &channel.shown);
        let shown = shown.filter(|_| of_ours && !is_beyond);
        let set = shown.and_then(|shown| request.set.prefix(available(feed, shown, &request.set)));
        let Some(set) = set else {
            outputs.push_back(no_set(id, feed.key, &request));
            return if is_beyond {
                count_invalid(peer)
            } else {
                Ok(())
            };
        };
        let runs: usize = peer.requests.iter().map(|(_, queued)| queued.runs()).sum();
        if runs >= SET_RUNS_QUEUED_MAX {
            return Err(ProtocolViolation::TooManyRequests {
                limit: SET_RUNS_QUEUED_MAX,
            });
        }
        self.queue(
            (id, peer),
            feed.key,
            Queued::Set(SetRequest { set, ..request }),
        )
    }

    fn queue(
        &mut self,
        (id, peer): (PeerId, &mut Peer),
        key: FeedKey,
        request: Queued,
    ) -> Result<(), ProtocolViolation> {
        let of_feed = || {
            peer.requests
                .iter()
                .filter(|(queued, _)| *queued == key)
                .count()
        };
        let queued = peer.requests.len();
        let is_bounded = !makes(Mistake::QueueWithoutEnd);
        if queued >= REQUESTS_QUEUED_MAX && is_bounded {
            return Err(ProtocolViolation::TooManyRequests {
                limit: REQUESTS_QUEUED_MAX,
            });
        }
        let limit = REQUESTS_PER_PEER_MAX + URGENT_REQUESTS_MAX;
        if queued >= limit && of_feed() >= limit && is_bounded {
            return Err(ProtocolViolation::TooManyRequests { limit });
        }
        // What somebody waits for goes ahead of transfers that take long.
        let place = match request.is_urgent() {
            true => peer
                .requests
                .partition_point(|(_, request)| request.is_urgent()),
            false => queued,
        };
        peer.requests.insert(place, (key, request));
        self.waiting.insert(id);
        Ok(())
    }

    /// Takes a request back, wherever it is.
    pub(super) fn handle_cancel(
        &mut self,
        id: PeerId,
        peer: &mut Peer,
        key: &FeedKey,
        request: u64,
    ) {
        peer.requests
            .retain(|(feed, queued)| feed != key || !queued.is_request(request));
        let named = |read: &&mut Reading| {
            read.peer == id && read.key == *key && !read.is_set && read.request == request
        };
        let reading = self.reads.values_mut().find(named);
        if let Some(reading) = reading {
            reading.cancelled = true;
        }
    }

    /// Returns how many reads are out.
    pub(super) fn reads(&self) -> usize {
        self.reads.len()
    }

    pub(super) fn handle_writable(&mut self, peer: PeerId) {
        self.waiting.insert(peer);
    }

    pub(super) fn handle_peer_gone(&mut self, peer: PeerId) {
        self.waiting.remove(&peer);
        self.cancel_where(|read| read.peer == peer);
    }

    pub(super) fn handle_channel_close(&mut self, id: PeerId, key: &FeedKey) {
        self.cancel_where(|read| read.peer == id && read.key == *key);
    }

    fn cancel_where(&mut self, gone: impl Fn(&Reading) -> bool) {
        for read in self.reads.values_mut().filter(|read| gone(read)) {
            read.cancelled = true;
        }
    }

    /// The answer to a read becomes the answer to the peer.
    pub(super) fn handle_read(
        &mut self,
        outputs: &mut VecDeque<Output>,
        peers: &mut BTreeMap<PeerId, Peer>,
        id: ReadId,
        result: Result<(Proof, Option<Bytes>), NotAvailable>,
    ) -> Option<(PeerId, ProtocolViolation)> {
        let read = self.reads.remove(&id)?;
        let peer = peers.get_mut(&read.peer)?;
        peer.reading -= 1;
        peer.reading_bytes -= read.bytes;
        if !peer.requests.is_empty() {
            self.waiting.insert(read.peer);
        }
        if read.cancelled && !makes(Mistake::CancelledRead) {
            return None;
        }
        let Reading { key, request, .. } = read;
        if read.is_set {
            let answer = match result {
                Ok((
                    Proof {
                        fork,
                        blocks: Some(blocks),
                        ..
                    },
                    _,
                )) => SetAnswer::new(request, fork, *blocks),
                _ => SetAnswer::nothing(request, read.fork),
            };
            outputs.push_back(Output::SendKinlog {
                peer: read.peer,
                key,
                message: FeedMessage::Set(answer),
                urgent: read.urgent,
            });
            return None;
        }
        match result {
            Ok((proof, manifest)) => {
                let message = Message::Data(Data {
                    request,
                    proof,
                    manifest,
                });
                outputs.push_back(Output::Send {
                    peer: read.peer,
                    key,
                    message,
                    urgent: read.urgent,
                });
                None
            }
            Err(NotAvailable::Missing) => {
                outputs.push_back(no_data(read.peer, key, request, NoDataReason::NotAvailable));
                None
            }
            Err(NotAvailable::InvalidRequest) => {
                outputs.push_back(no_data(
                    read.peer,
                    key,
                    request,
                    NoDataReason::InvalidRequest,
                ));
                count_invalid(peer).err().map(|reason| (read.peer, reason))
            }
        }
    }

    /// Hands out reads for the peers whose connections take more.
    pub(super) fn serve(
        &mut self,
        outputs: &mut VecDeque<Output>,
        peers: &mut BTreeMap<PeerId, Peer>,
        feeds: &BTreeMap<FeedKey, Feed>,
    ) {
        for id in std::mem::take(&mut self.waiting) {
            let Some(peer) = peers.get_mut(&id) else {
                continue;
            };
            while peer.reading < READS_PER_PEER_MAX
                && (peer.reading == 0 || peer.reading_bytes < READ_BYTES_PER_PEER_MAX)
            {
                let Some((key, request)) = peer.requests.front() else {
                    break;
                };
                let Some(feed) = feeds.get(key) else {
                    peer.requests.pop_front();
                    continue;
                };
                let bytes = match request.blocks() {
                    0 | 1 => request.blocks() * feed.expected_block_bytes(),
                    many => SET_BYTES.min(many.saturating_mul(feed.expected_block_bytes())),
                };
                if !peer.writable {
                    // Little enough that it need not wait until the connection has drained.
                    if !request.is_urgent()
                        || bytes.max(NO_BLOCK_BYTES_COUNTED) > peer.urgent_bytes_left
                    {
                        break;
                    }
                    peer.urgent_bytes_left -= bytes.max(NO_BLOCK_BYTES_COUNTED);
                }
                let Some((key, request)) = peer.requests.pop_front() else {
                    break;
                };
                peer.reading += 1;
                peer.reading_bytes += bytes;
                self.last_id += 1;
                let read = ReadId(self.last_id);
                let (name, is_set, fork) = match &request {
                    Queued::Request(request) => (request.id, false, request.fork),
                    Queued::Set(request) => (request.id, true, request.fork),
                };
                let reading = Reading {
                    peer: id,
                    key,
                    request: name,
                    is_set,
                    fork,
                    bytes,
                    urgent: request.is_urgent(),
                    cancelled: false,
                };
                self.reads.insert(read, reading);
                outputs.push_back(match request {
                    Queued::Request(request) => Output::Read {
                        id: read,
                        peer: id,
                        key,
                        request: request.proof,
                        manifest: request.manifest,
                    },
                    Queued::Set(SetRequest { set, .. }) => Output::ReadSet {
                        id: read,
                        peer: id,
                        key,
                        set,
                    },
                });
            }
        }
    }
}

/// Returns how many of the first blocks of a set are held and may be shown.
fn available(feed: &Feed, shown: &Shown, set: &BlockSet) -> usize {
    let mut count = 0;
    for run in set.runs() {
        let held = feed
            .have
            .first_unset_from(run.start)
            .clamp(run.start, run.end);
        let seen = shown.within(run.start..held).next();
        let end = match seen {
            Some(seen) if seen.start == run.start => seen.end,
            _ => run.start,
        };
        count += end - run.start;
        if end < run.end {
            break;
        }
    }
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn no_set(peer: PeerId, key: FeedKey, request: &SetRequest) -> Output {
    let answer = SetAnswer::nothing(request.id, request.fork);
    Output::SendKinlog {
        peer,
        key,
        message: FeedMessage::Set(answer),
        urgent: true,
    }
}

enum Judgement {
    Read,
    Decline,
    Invalid,
}

fn judge(feed: &Feed, shown: Option<&Shown>, request: &Request) -> Judgement {
    let proof = &request.proof;
    let hides = |shown: &Shown| shown.is_nothing() && !makes(Mistake::LimitForgotten);
    let Some(shown) = shown.filter(|shown| !hides(shown)) else {
        return Judgement::Decline;
    };
    if request.fork != feed.fork || feed.length == 0 || feed.withheld {
        return Judgement::Decline;
    }
    if let Some(upgrade) = proof.upgrade
        && (upgrade.length == 0
            || upgrade
                .start
                .checked_add(upgrade.length)
                .is_none_or(|end| end > feed.length))
    {
        return Judgement::Invalid;
    }
    match proof.block {
        // Nodes alone tell whoever finds bytes by them, or follows a plain feed onto another fork, no
        // more than blocks bring along; of a feed that is shown in part they might.
        _ if (proof.seek.is_some() || proof.hash.is_some()) && *shown != Shown::All => {
            Judgement::Decline
        }
        _ if makes(Mistake::LimitForgotten) => Judgement::Read,
        Some(block) if !feed.have.get(block.index) || !shown.has(block.index) => Judgement::Decline,
        _ => Judgement::Read,
    }
}

fn count_invalid(peer: &mut Peer) -> Result<(), ProtocolViolation> {
    peer.invalid_requests += 1;
    let count = peer.invalid_requests;
    if count >= INVALID_REQUESTS_MAX {
        return Err(ProtocolViolation::InvalidRequests { count });
    }
    Ok(())
}

fn no_data(peer: PeerId, key: FeedKey, request: u64, reason: NoDataReason) -> Output {
    let message = Message::NoData(NoData {
        request,
        reason: Some(reason),
    });
    Output::Send {
        peer,
        key,
        message,
        urgent: true,
    }
}
