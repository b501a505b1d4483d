//! Further associations of a session on a long or lossy way, for bulk data alone.
//!
//! One SCTP association has a receive window of 1 MiB and waits a second at least for what it lost. A
//! session that has much to carry therefore opens up to three more of them with the same peer, introduced
//! over the session itself, and spreads the answers to requests over them; everything else stays on the
//! first one. There is one session, one peer to the replicator, one presence.
//!
//! Participants: [`policy`] says how many there should be, [`spread`] what goes where and what goes
//! again, both pure; a [`strand`] is the task of one association; [`Associations`] belongs to the session's
//! [`Driver`](super::Driver) and joins them. Only the session's initiator offers; the other side asks. What is said:
//! `docs/protocol.md`, "Several associations".

mod message;
mod policy;
mod spread;
mod strand;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use kinlog_feeds::Time;
use kinlog_feeds::limits::SEND_QUEUE_BYTES;
use kinlog_feeds::wire::Config;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Label, Session, SessionError, SessionRole};
use crate::clock::Clock;
use crate::limits::{
    ASKED_BULK_BYTES, ASSOCIATION_IDS_KEPT, ASSOCIATION_NEWS_MAX, ASSOCIATION_REFUSALS_MAX,
    ASSOCIATIONS_MAX, NEGOTIATION_SIGNALS_MAX, PING_INTERVAL, PINGS_WAITING_MAX, STALL_AFTER,
};
use crate::link::webrtc::{FromPeer, WebrtcSettings};
use crate::link::{Counters, LinkStats};
use crate::message_log::MessageLog;
#[cfg(test)]
pub(crate) use message::examples;
pub(crate) use message::{AssociationMessage, Refusal, Token};
use policy::Policy;
pub(crate) use spread::Bulk;
use spread::{NeverSent, Spread};
pub(crate) use strand::News;
use strand::{Strand, Toward};

/// What the node sees of a session's further associations.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    open: AtomicUsize,
    /// Zero until it is known.
    round_trip_micros: AtomicU64,
    counters: Counters,
}

impl Seen {
    /// Returns how many carry, the first not counted.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Returns the shortest round trip measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let micros = self.round_trip_micros.load(Relaxed);
        (micros > 0).then_some(Duration::from_micros(micros))
    }

    /// Returns what went through them.
    pub(crate) fn stats(&self) -> LinkStats {
        self.counters.stats()
    }
}

/// What a session needs to have further associations.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) webrtc: WebrtcSettings,
    pub(crate) role: SessionRole,
    pub(crate) label: Label,
    /// Associations that all sessions may make yet.
    pub(crate) budget: Arc<Semaphore>,
}

/// One further association, from its offer until both sides have said that it is over.
#[derive(Debug)]
struct Further {
    signals: mpsc::Sender<FromPeer>,
    /// `None` once it is to end.
    toward: Option<mpsc::UnboundedSender<Toward>>,
    open: bool,
    /// Its task has ended, and the other side was told.
    ended: bool,
    /// The other side has told.
    closed: bool,
    /// Messages that came, and how many of them the other side knows to have come.
    received: u64,
    told: u64,
}

/// What happened to one of them, or is to be said to the other side about it.
#[derive(Debug)]
pub(crate) enum Happened {
    Say(AssociationMessage),
    News(u64, News),
}

/// All further associations of one session.
#[derive(Debug)]
pub(crate) struct Associations {
    /// `None` on links that have no associations.
    means: Option<Means>,
    clock: Clock,
    log: Option<MessageLog>,
    seen: Arc<Seen>,
    policy: Policy,
    spread: Spread,
    further: BTreeMap<u64, Further>,
    last_id: u64,
    /// Ids of the other side's latest offers.
    offered: BTreeSet<u64>,
    refused: u32,
    /// What was asked last, and when.
    ping: Option<(u64, Time)>,
    pings: u64,
    pinged_at: Time,
    /// Pings that somebody asked for, by number, each with when it was said.
    asked: BTreeMap<u64, (Time, oneshot::Sender<Duration>)>,
    say_sender: mpsc::UnboundedSender<AssociationMessage>,
    say: mpsc::UnboundedReceiver<AssociationMessage>,
    news_sender: mpsc::Sender<(u64, News)>,
    news: mpsc::Receiver<(u64, News)>,
}

impl Associations {
    pub(crate) fn new(
        means: Option<Means>,
        clock: Clock,
        log: Option<MessageLog>,
        seen: Arc<Seen>,
    ) -> Self {
        let (say_sender, say) = mpsc::unbounded_channel();
        let (news_sender, news) = mpsc::channel(ASSOCIATION_NEWS_MAX);
        Associations {
            means,
            clock,
            log,
            seen,
            policy: Policy::default(),
            spread: Spread::default(),
            further: BTreeMap::new(),
            last_id: 0,
            offered: BTreeSet::new(),
            refused: 0,
            ping: None,
            pings: 0,
            pinged_at: Time::ZERO,
            asked: BTreeMap::new(),
            say_sender,
            say,
            news_sender,
            news,
        }
    }

    /// Waits for what happens next; pair with [`handle`](Self::handle). Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Happened {
        // Neither channel ends: this holds a sender of both.
        tokio::select! {
            Some(message) = self.say.recv() => Happened::Say(message),
            Some((id, news)) = self.news.recv() => Happened::News(id, news),
            else => std::future::pending().await,
        }
    }

    /// Returns what has happened by now.
    pub(crate) fn try_next(&mut self) -> Option<Happened> {
        if let Ok(message) = self.say.try_recv() {
            return Some(Happened::Say(message));
        }
        let (id, news) = self.news.try_recv().ok()?;
        Some(Happened::News(id, news))
    }

    /// Takes what happened.
    pub(crate) fn handle(
        &mut self,
        session: &mut Session,
        happened: Happened,
    ) -> Result<(), SessionError> {
        let now = self.clock.now();
        match happened {
            Happened::Say(message) => session.send_association(message),
            Happened::News(id, News::Open) => {
                let Some(one) = self.further.get_mut(&id) else {
                    return Ok(());
                };
                if one.toward.is_some() {
                    one.open = true;
                    self.seen.open.fetch_add(1, Relaxed);
                    self.spread.handle_open(id);
                    self.policy.handle_made();
                }
                Ok(())
            }
            Happened::News(id, News::Bulk(bulk)) => {
                if let Some(one) = self.further.get_mut(&id) {
                    one.received += 1;
                }
                session.handle_bulk(&bulk)
            }
            Happened::News(id, News::Received(received)) => {
                let taken = self.spread.handle_received(now, id, received);
                taken.map_err(never_sent)
            }
            Happened::News(id, News::Gone(reason)) => self.handle_gone(session, now, id, &reason),
        }
    }

    /// Takes what the other side says.
    pub(crate) fn handle_message(
        &mut self,
        session: &mut Session,
        message: AssociationMessage,
    ) -> Result<(), SessionError> {
        let now = self.clock.now();
        match message {
            AssociationMessage::Ping(number) => {
                session.send_association(AssociationMessage::Pong(number))
            }
            AssociationMessage::Pong(number) => {
                if let Some((at, answer)) = self.asked.remove(&number) {
                    // Whoever asked may have gone meanwhile.
                    let _ = answer.send(now.since(at));
                }
                if let Some((asked, at)) = self.ping
                    && asked == number
                {
                    self.ping = None;
                    self.policy.handle_round_trip(now.since(at));
                    let shortest = self.policy.round_trip().unwrap_or_default().as_micros();
                    let shortest = u64::try_from(shortest).unwrap_or(u64::MAX).max(1);
                    self.seen.round_trip_micros.store(shortest, Relaxed);
                }
                Ok(())
            }
            AssociationMessage::Wanted => self.handle_wanted(session, now),
            AssociationMessage::Offer {
                id,
                token,
                description,
            } => self.handle_offer(session, now, id, token, description),
            AssociationMessage::Answer { id, description } => {
                self.pass_on(id, FromPeer::Answer(description));
                Ok(())
            }
            AssociationMessage::Candidate { id, candidate } => {
                self.pass_on(id, FromPeer::Candidate(candidate));
                Ok(())
            }
            AssociationMessage::Refused { id, reason } => {
                tracing::debug!(id, ?reason, "no further association");
                self.policy.handle_failed(now);
                self.handle_closed(id, 0)
            }
            AssociationMessage::Closed { id, received } => self.handle_closed(id, received),
        }
    }

    /// Says a number for the other side to say back; `answer` gets the time that this took. With too
    /// many that wait, or on a session that ends first, it gets nothing.
    pub(crate) fn ping(
        &mut self,
        session: &mut Session,
        answer: oneshot::Sender<Duration>,
    ) -> Result<(), SessionError> {
        self.asked.retain(|_, (_, waiting)| !waiting.is_closed());
        if self.asked.len() >= PINGS_WAITING_MAX {
            return Ok(());
        }
        self.pings += 1;
        self.asked.insert(self.pings, (self.clock.now(), answer));
        session.send_association(AssociationMessage::Ping(self.pings))
    }

    /// Brings about what the policy wants and moves what waits. To be called after everything else.
    pub(crate) fn settle(&mut self, session: &mut Session) -> Result<(), SessionError> {
        if self.means.is_none() || !session.takes_associations() {
            return Ok(());
        }
        let now = self.clock.now();
        let carried = session.take_bulk_bytes();
        if carried > 0 {
            self.policy.handle_bulk(now, carried);
        }
        self.measure(session, now)?;
        self.open_and_close(session, now)?;
        while let Some(bulk) = session.poll_bulk() {
            self.spread.push(bulk);
        }
        while let Some((id, bulk)) = self.spread.poll(now) {
            self.tell(id, Toward::Send(bulk));
        }
        while let Some(bulk) = self.spread.poll_back() {
            session.send_bulk(&bulk)?;
        }
        session.set_diverts(self.spread.takes());
        for one in self.further.values_mut() {
            if one.received > one.told
                && let Some(toward) = &one.toward
            {
                one.told = one.received;
                // One that has ended is told otherwise.
                let _ = toward.send(Toward::Received(one.received));
            }
        }
        Ok(())
    }

    /// The first association took a message after it had waited since `since`.
    pub(crate) fn handle_sent(&mut self, since: Time) {
        let now = self.clock.now();
        if now.since(since) >= STALL_AFTER {
            self.policy.handle_stall(now);
        }
    }

    /// Returns whether the other side keeps up.
    pub(crate) fn is_writable(&self) -> bool {
        self.spread.waiting_bytes() < SEND_QUEUE_BYTES
    }

    /// Returns when [`settle`](Self::settle) is to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        if self.further.is_empty() {
            return None;
        }
        let idle = self.policy.idle_at().filter(|at| *at > self.clock.now());
        [idle, self.spread.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn measure(&mut self, session: &mut Session, now: Time) -> Result<(), SessionError> {
        let due = match self.ping {
            Some(_) => false,
            None if self.policy.needs_samples() => true,
            None => self.policy.carries(now, 1) && now.since(self.pinged_at) >= PING_INTERVAL,
        };
        if !due {
            return Ok(());
        }
        self.pings += 1;
        self.pinged_at = now;
        self.ping = Some((self.pings, now));
        session.send_association(AssociationMessage::Ping(self.pings))
    }

    fn open_and_close(&mut self, session: &mut Session, now: Time) -> Result<(), SessionError> {
        if let Some(id) = self.spread.stuck(now) {
            tracing::debug!(id, "further association brings nothing");
            self.policy.handle_failed(now);
            self.end(id);
        }
        let wanted = self.policy.wanted(now, self.further.len());
        if wanted == 0 {
            let all: Vec<u64> = self.further.keys().copied().collect();
            all.into_iter().for_each(|id| self.end(id));
            return Ok(());
        }
        let Some(means) = &self.means else {
            return Ok(());
        };
        match means.role {
            SessionRole::Initiator => {
                while self.further.len() < wanted {
                    let id = self.last_id + 1;
                    if !self.start(id, None) {
                        self.policy.handle_failed(now);
                        break;
                    }
                    self.last_id = id;
                }
                Ok(())
            }
            SessionRole::Responder if self.further.len() < wanted => {
                // Asked again after a while, if nothing comes of it.
                self.policy.handle_failed(now);
                session.send_association(AssociationMessage::Wanted)
            }
            SessionRole::Responder => Ok(()),
        }
    }

    fn handle_wanted(&mut self, session: &mut Session, now: Time) -> Result<(), SessionError> {
        let is_initiator =
            matches!(&self.means, Some(means) if means.role == SessionRole::Initiator);
        let reason = if self.further.len() >= ASSOCIATIONS_MAX - 1 {
            Some(Refusal::Enough)
        } else if !self.policy.carries(now, ASKED_BULK_BYTES) {
            Some(Refusal::NotNeeded)
        } else if is_initiator {
            None
        } else {
            Some(Refusal::Failed)
        };
        let mut reason = reason;
        while reason.is_none() && self.further.len() < ASSOCIATIONS_MAX - 1 {
            let id = self.last_id + 1;
            match self.start(id, None) {
                true => self.last_id = id,
                false => reason = Some(Refusal::Enough),
            }
        }
        match reason {
            None => Ok(()),
            Some(reason) => self.refuse(session, 0, reason),
        }
    }

    fn handle_offer(
        &mut self,
        session: &mut Session,
        now: Time,
        id: u64,
        token: Token,
        description: Bytes,
    ) -> Result<(), SessionError> {
        let is_responder =
            matches!(&self.means, Some(means) if means.role == SessionRole::Responder);
        // Offers that were begun together come in any order.
        let is_old = id.saturating_add(ASSOCIATION_IDS_KEPT) <= self.last_id;
        if !is_responder || is_old || !self.offered.insert(id) {
            return Err(violation("offered an association that is not its to offer"));
        }
        self.last_id = self.last_id.max(id);
        let oldest = self.last_id.saturating_sub(ASSOCIATION_IDS_KEPT);
        self.offered = self.offered.split_off(&oldest);
        let reason = if self.further.len() >= ASSOCIATIONS_MAX - 1 {
            Refusal::Enough
        } else if !self.policy.carries(now, ASKED_BULK_BYTES) {
            Refusal::NotNeeded
        } else if self.start(id, Some((token, description))) {
            return Ok(());
        } else {
            Refusal::Enough
        };
        self.refuse(session, id, reason)
    }

    fn refuse(
        &mut self,
        session: &mut Session,
        id: u64,
        reason: Refusal,
    ) -> Result<(), SessionError> {
        self.refused += 1;
        if self.refused > ASSOCIATION_REFUSALS_MAX {
            return Err(violation("goes on opening associations that are refused"));
        }
        session.send_association(AssociationMessage::Refused { id, reason })
    }

    /// Starts an association; returns whether there was room for it.
    fn start(&mut self, id: u64, offered: Option<(Token, Bytes)>) -> bool {
        let Some(means) = &self.means else {
            return false;
        };
        let Ok(permit) = Arc::clone(&means.budget).try_acquire_owned() else {
            return false;
        };
        let (Some(first), Some(second), Some(header), Some(drawn)) =
            (random(), random(), random(), random())
        else {
            return false;
        };
        let (token, offer) = match offered {
            Some((token, offer)) => (token, Some(offer)),
            None => (Token(drawn), None),
        };
        let (signals, incoming) = mpsc::channel(NEGOTIATION_SIGNALS_MAX);
        let (toward, from_session) = mpsc::unbounded_channel();
        let strand = Strand {
            id,
            role: means.role,
            label: means.label,
            token,
            wire: Config::new(means.role.into(), first, second, header),
            webrtc: means.webrtc.clone(),
            clock: self.clock,
            log: self.log.clone(),
            seen: Arc::clone(&self.seen),
            signals: incoming,
            toward: from_session,
            say: self.say_sender.clone(),
            news: self.news_sender.clone(),
            permit,
        };
        // It ends when its session drops the other end of `toward`.
        drop(tokio::spawn(strand.run(offer)));
        let further = Further {
            signals,
            toward: Some(toward),
            open: false,
            ended: false,
            closed: false,
            received: 0,
            told: 0,
        };
        self.further.insert(id, further);
        true
    }

    fn handle_gone(
        &mut self,
        session: &mut Session,
        now: Time,
        id: u64,
        reason: &str,
    ) -> Result<(), SessionError> {
        let Some(one) = self.further.get_mut(&id) else {
            return Ok(());
        };
        tracing::debug!(id, reason, "further association ended");
        if one.toward.take().is_some() && !one.closed {
            // Nobody wanted that.
            self.policy.handle_failed(now);
        }
        if std::mem::take(&mut one.open) {
            self.seen.open.fetch_sub(1, Relaxed);
        }
        one.ended = true;
        let (received, closed) = (one.received, one.closed);
        self.spread.handle_gone(id);
        if closed {
            self.further.remove(&id);
        }
        session.send_association(AssociationMessage::Closed { id, received })
    }

    fn handle_closed(&mut self, id: u64, received: u64) -> Result<(), SessionError> {
        let Some(one) = self.further.get_mut(&id) else {
            return Ok(());
        };
        one.closed = true;
        // It ends if it has not yet.
        one.toward = None;
        if one.ended {
            self.further.remove(&id);
        }
        let taken = self.spread.handle_closed(id, received);
        taken.map_err(never_sent)
    }

    /// Has an association end; what it still brings is taken.
    fn end(&mut self, id: u64) {
        if let Some(one) = self.further.get_mut(&id) {
            one.toward = None;
        }
        self.spread.handle_gone(id);
    }

    fn tell(&self, id: u64, toward: Toward) {
        if let Some(sender) = self.further.get(&id).and_then(|one| one.toward.as_ref()) {
            // What one that has ended does not take is sent again by another.
            let _ = sender.send(toward);
        }
    }

    fn pass_on(&self, id: u64, signal: FromPeer) {
        if let Some(one) = self.further.get(&id) {
            // A peer that floods its own attempt loses what does not fit.
            let _ = one.signals.try_send(signal);
        }
    }
}

fn never_sent(_: NeverSent) -> SessionError {
    violation("says to have messages of an association that were never sent")
}

fn violation(reason: &str) -> SessionError {
    SessionError::Violation {
        reason: reason.to_owned(),
        ban: false,
    }
}

/// Without random numbers there are no further associations.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests;
