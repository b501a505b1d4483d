//! Answering requests: a bounded queue for each peer, reads handed out as the connection takes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::crypto::FeedKey;
use crate::limits::{
    INVALID_REQUESTS_MAX, READ_BYTES_PER_PEER_MAX, READS_PER_PEER_MAX, REQUESTS_PER_PEER_MAX,
    REQUESTS_QUEUED_MAX, URGENT_REQUESTS_MAX,
};
use crate::replicate::feed::Feed;
use crate::replicate::peer::Peer;
use crate::replicate::shown::Shown;
use crate::replicate::{NotAvailable, Output, PeerId, ProtocolViolation, ReadId};
use crate::tree::Proof;
use crate::wire::hypercore::{Data, Message, NoData, NoDataReason, Request};

/// What the proof of a head counts for.
const NO_BLOCK_BYTES_COUNTED: usize = 1024;

/// A read that the driver has.
#[derive(Debug)]
struct Reading {
    peer: PeerId,
    key: FeedKey,
    request: u64,
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
        let of_feed = || {
            peer.requests
                .iter()
                .filter(|(key, _)| *key == feed.key)
                .count()
        };
        let queued = peer.requests.len();
        if queued >= REQUESTS_QUEUED_MAX {
            return Err(ProtocolViolation::TooManyRequests {
                limit: REQUESTS_QUEUED_MAX,
            });
        }
        let limit = REQUESTS_PER_PEER_MAX + URGENT_REQUESTS_MAX;
        if queued >= limit && of_feed() >= limit {
            return Err(ProtocolViolation::TooManyRequests { limit });
        }
        // What somebody waits for goes ahead of transfers that take long.
        let place = match is_urgent(&request) {
            true => peer
                .requests
                .partition_point(|(_, request)| is_urgent(request)),
            false => queued,
        };
        peer.requests.insert(place, (feed.key, request));
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
            .retain(|(feed, queued)| feed != key || queued.id != request);
        let reading = self
            .reads
            .values_mut()
            .find(|read| read.peer == id && read.key == *key && read.request == request);
        if let Some(reading) = reading {
            reading.cancelled = true;
        }
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
        if read.cancelled {
            return None;
        }
        let Reading { key, request, .. } = read;
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
                let block = request.proof.block;
                let bytes = block.map_or(0, |_| feed.expected_block_bytes());
                if !peer.writable {
                    // Little enough that it need not wait until the connection has drained.
                    if !is_urgent(request)
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
                let reading = Reading {
                    peer: id,
                    key,
                    request: request.id,
                    bytes,
                    urgent: is_urgent(&request),
                    cancelled: false,
                };
                self.reads.insert(read, reading);
                let (request, manifest) = (request.proof, request.manifest);
                outputs.push_back(Output::Read {
                    id: read,
                    peer: id,
                    key,
                    request,
                    manifest,
                });
            }
        }
    }
}

/// Returns whether somebody may be waiting for the answer: heads always, blocks by what the peer says.
fn is_urgent(request: &Request) -> bool {
    request.priority > 0 || request.proof.block.is_none()
}

enum Judgement {
    Read,
    Decline,
    Invalid,
}

fn judge(feed: &Feed, shown: Option<&Shown>, request: &Request) -> Judgement {
    let proof = &request.proof;
    let Some(shown) = shown.filter(|shown| !shown.is_nothing()) else {
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
