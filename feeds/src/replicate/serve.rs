//! Answering requests: a bounded queue for each peer, reads handed out as the connection takes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::Time;
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
use crate::wire::hypercore::{Data, Message, NoData, NoDataReason, Request, Want};
use crate::wire::kinlog::{FeedMessage, SetAnswer, SetRequest};

/// What the proof of a head counts for.
const NO_BLOCK_BYTES_COUNTED: usize = 1024;
/// What a refusal counts for.
const REFUSAL_BYTES_COUNTED: usize = 16;

/// Names no request: its data comes unasked (npm `hypercore`).
const PUSHED: u64 = 0;

/// What an answer means beside itself.
pub(super) enum Served {
    /// A block is on its way that the peer did not ask for.
    Pushed { peer: PeerId, key: FeedKey },
    /// The peer asked for too much that makes no sense.
    Invalid(PeerId, ProtocolViolation),
}

/// A read that the driver has.
#[derive(Debug)]
struct Reading {
    peer: PeerId,
    key: FeedKey,
    request: Queued,
    bytes: usize,
    /// The peer took the request back.
    cancelled: bool,
}

/// All reads that are out, and the peers that wait for some.
#[derive(Debug, Default)]
pub(super) struct Server {
    reads: BTreeMap<ReadId, Reading>,
    waiting: BTreeSet<PeerId>,
    /// Peers that got all that they get within a tick.
    delayed: BTreeSet<PeerId>,
    /// Reads that were not done, in their order.
    postponed: Vec<(PeerId, FeedKey, Queued)>,
    last_id: u64,
}

impl Server {
    /// Queues a request, or that it brings nothing.
    pub(super) fn handle_request(
        &mut self,
        (id, peer): (PeerId, &mut Peer),
        feed: &Feed,
        request: Request,
    ) -> Result<(), ProtocolViolation> {
        let shown = feed.channels.get(&id).map(|channel| &channel.shown);
        match judge(feed, shown, &request) {
            Judgement::Read => {}
            Judgement::Decline => {
                let refusal = Queued::Refusal {
                    id: request.id,
                    reason: NoDataReason::NotAvailable,
                };
                return self.queue((id, peer), feed.key, refusal);
            }
            Judgement::Invalid => {
                let refusal = Queued::Refusal {
                    id: request.id,
                    reason: NoDataReason::InvalidRequest,
                };
                count_invalid(peer)?;
                return self.queue((id, peer), feed.key, refusal);
            }
        }
        self.queue((id, peer), feed.key, Queued::Request(request))
    }

    /// Queues the answer to what the peer wants to know of a region.
    pub(super) fn handle_want(
        &mut self,
        peer: (PeerId, &mut Peer),
        key: FeedKey,
        want: Want,
    ) -> Result<(), ProtocolViolation> {
        self.queue(peer, key, Queued::Want(want))
    }

    /// Queues what the peer is sent without having asked.
    pub(super) fn push(&mut self, (id, peer): (PeerId, &mut Peer), key: FeedKey, request: Request) {
        let place = peer.requests.partition_point(|(_, one)| one.is_urgent());
        peer.requests.insert(place, (key, Queued::Request(request)));
        self.waiting.insert(id);
    }

    /// Queues a set, cut to what the peer may have and is held, or that the first of it is not to be
    /// had.
    pub(super) fn handle_set_request(
        &mut self,
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
            if is_beyond {
                count_invalid(peer)?;
            }
            let SetRequest { id: set, fork, .. } = request;
            return self.queue((id, peer), feed.key, Queued::NoSet { id: set, fork });
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
            false if request.is_before_bulk() => peer
                .requests
                .partition_point(|(_, request)| request.is_before_bulk()),
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
            read.peer == id && read.key == *key && read.request.is_request(request)
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
        self.delayed.remove(&peer);
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
    ) -> Option<Served> {
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
        if let Err(NotAvailable::Postponed) = result {
            self.postponed.push((read.peer, read.key, read.request));
            self.waiting.insert(read.peer);
            return None;
        }
        if let Ok((proof, _)) = &result {
            let one = proof.block.iter().map(|block| block.value.len());
            let set = proof.blocks.iter().flat_map(|blocks| &blocks.values);
            peer.learn_answer_bytes(one.chain(set.map(Bytes::len)).sum());
        }
        let (urgent, key) = (read.request.is_urgent(), read.key);
        let request = match read.request {
            Queued::Set(request) => {
                let answer = match result {
                    Ok((
                        Proof {
                            fork,
                            blocks: Some(blocks),
                            ..
                        },
                        _,
                    )) => SetAnswer::new(request.id, fork, *blocks),
                    _ => SetAnswer::nothing(request.id, request.fork),
                };
                outputs.push_back(Output::SendKinlog {
                    peer: read.peer,
                    key,
                    message: FeedMessage::Set(answer),
                    urgent,
                });
                return None;
            }
            Queued::Request(request) => request.id,
            Queued::Refusal { .. } | Queued::NoSet { .. } | Queued::Want(_) => return None,
        };
        let is_push = request == PUSHED;
        let why = match result {
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
                    urgent,
                });
                return is_push.then_some(Served::Pushed {
                    peer: read.peer,
                    key,
                });
            }
            // What is appended is not taken back so soon; the peer asks as everybody does.
            Err(_) if is_push => {
                return Some(Served::Pushed {
                    peer: read.peer,
                    key,
                });
            }
            Err(NotAvailable::InvalidRequest) => NoDataReason::InvalidRequest,
            Err(_) => NoDataReason::NotAvailable,
        };
        outputs.push_back(no_data(read.peer, key, request, why));
        match why {
            NoDataReason::InvalidRequest => {
                let reason = count_invalid(peer).err()?;
                Some(Served::Invalid(read.peer, reason))
            }
            _ => None,
        }
    }

    /// Hands out reads, and answers that need none, for the peers whose connections take more.
    pub(super) fn serve(
        &mut self,
        now: Time,
        outputs: &mut VecDeque<Output>,
        peers: &mut BTreeMap<PeerId, Peer>,
        feeds: &BTreeMap<FeedKey, Feed>,
    ) {
        // The first of them comes first again.
        for (id, key, request) in self.postponed.drain(..).rev() {
            if let Some(peer) = peers.get_mut(&id).filter(|peer| peer.feeds.contains(&key)) {
                peer.requests.push_front((key, request));
            }
        }
        for id in std::mem::take(&mut self.waiting) {
            let Some(peer) = peers.get_mut(&id) else {
                continue;
            };
            while let Some((key, request)) = peer.requests.front() {
                let Some(feed) = feeds.get(key) else {
                    peer.requests.pop_front();
                    continue;
                };
                let served = match request {
                    Queued::Request(_) | Queued::Set(_) => {
                        self.start_read(outputs, (id, peer), feed)
                    }
                    _ => {
                        let gave = give_promptly(now, outputs, (id, peer), feed);
                        if !gave && peer.writable {
                            self.delayed.insert(id);
                        }
                        gave
                    }
                };
                if !served {
                    break;
                }
            }
        }
    }

    /// Returns whether some peer waits for nothing but time.
    pub(super) fn waits_for_time(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// Lets the time pass.
    pub(super) fn handle_timeout(&mut self) {
        self.waiting.append(&mut self.delayed);
    }

    /// Hands out the read for the first request of a peer, if it may have one more.
    fn start_read(
        &mut self,
        outputs: &mut VecDeque<Output>,
        (id, peer): (PeerId, &mut Peer),
        feed: &Feed,
    ) -> bool {
        let Some((_, request)) = peer.requests.front() else {
            return false;
        };
        if peer.reading >= READS_PER_PEER_MAX
            || (peer.reading > 0 && peer.reading_bytes >= READ_BYTES_PER_PEER_MAX)
        {
            return false;
        }
        let block_bytes = feed.expected_block_bytes();
        let bytes = match request.blocks() {
            0 => 0,
            1 => block_bytes.max(peer.answer_bytes),
            many => SET_BYTES
                .min(many.saturating_mul(block_bytes))
                .max(peer.answer_bytes),
        };
        // Little that is urgent need not wait until the connection has drained.
        let may_go = peer.writable || request.is_urgent();
        if !may_go || !peer.takes(bytes.max(NO_BLOCK_BYTES_COUNTED)) {
            return false;
        }
        let Some((key, request)) = peer.requests.pop_front() else {
            return false;
        };
        peer.reading += 1;
        peer.reading_bytes += bytes;
        self.last_id += 1;
        let read = ReadId(self.last_id);
        outputs.push_back(match &request {
            Queued::Set(request) => Output::ReadSet {
                id: read,
                peer: id,
                key,
                set: request.set.clone(),
            },
            Queued::Request(request) => Output::Read {
                id: read,
                peer: id,
                key,
                request: request.proof,
                manifest: request.manifest,
                is_push: request.id == PUSHED,
            },
            Queued::Refusal { .. } | Queued::NoSet { .. } | Queued::Want(_) => return false,
        });
        let reading = Reading {
            peer: id,
            key,
            request,
            bytes,
            cancelled: false,
        };
        self.reads.insert(read, reading);
        true
    }
}

/// Gives the first answer that a peer waits for and that needs no read, if it may have it now.
fn give_promptly(
    now: Time,
    outputs: &mut VecDeque<Output>,
    (id, peer): (PeerId, &mut Peer),
    feed: &Feed,
) -> bool {
    let bytes = match peer.requests.front() {
        Some((_, Queued::Want(want))) => feed.held_bytes(want),
        _ => REFUSAL_BYTES_COUNTED,
    };
    if !peer.takes_promptly(now, bytes) {
        return false;
    }
    match peer.requests.pop_front() {
        Some((
            key,
            Queued::Refusal {
                id: request,
                reason,
            },
        )) => {
            outputs.push_back(no_data(id, key, request, reason));
        }
        Some((key, Queued::NoSet { id: set, fork })) => {
            outputs.push_back(no_set(id, key, set, fork));
        }
        Some((_, Queued::Want(want))) => feed.tell_held(outputs, id, &want),
        _ => return false,
    }
    true
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

fn no_set(peer: PeerId, key: FeedKey, set: u64, fork: u64) -> Output {
    let answer = SetAnswer::nothing(set, fork);
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
