//! Further associations of a session on a long or lossy way, for bulk data alone.
//!
//! One SCTP association has a receive window of 1 MiB and waits a second at least for what it lost. A
//! session that has much to carry therefore opens up to three more of them with the same peer, introduced
//! over the session itself, and spreads the answers to requests over them; everything else stays on the
//! first one, but requests go by all of them at once. There is one session, one peer to the replicator,
//! one presence.
//!
//! Participants: [`policy`] says how many there should be, [`spread`] what goes where and what goes
//! again, [`copies`] which requests have come, all pure; a [`strand`] is the task of one association;
//! [`Associations`] belongs to the session's [`Driver`](super::Driver) and joins them: [`opening`] has how
//! they begin and end, [`measuring`] how long the way is. Only the session's initiator offers; the other
//! side asks. What is said: `docs/protocol.md`, "Several associations".

mod copies;
mod measuring;
mod message;
mod opening;
mod policy;
mod spread;
mod strand;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use kinlog_feeds::Time;
use kinlog_feeds::limits::SEND_QUEUE_BYTES;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Label, Session, SessionError, SessionRole};
use crate::clock::Clock;
use crate::limits::{ASSOCIATION_NEWS_MAX, STALL_AFTER};
use crate::link::webrtc::{FromPeer, WebrtcSettings};
use crate::link::{Counters, LinkStats};
use crate::message_log::MessageLog;
pub(crate) use copies::{Copied, Copies};
#[cfg(test)]
pub(crate) use message::examples;
pub(crate) use message::{AssociationMessage, Refusal, Token};
use policy::Policy;
pub(crate) use spread::Bulk;
use spread::{NeverSent, Spread};
pub(crate) use strand::News;
use strand::Toward;

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
    takes_copies: bool,
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
    /// By what their tasks tell; nearly no session ever has any.
    voices: Option<Box<Voices>>,
}

/// What the tasks of associations tell, and what they are given to do so.
#[derive(Debug)]
struct Voices {
    say_sender: mpsc::UnboundedSender<AssociationMessage>,
    say: mpsc::UnboundedReceiver<AssociationMessage>,
    news_sender: mpsc::Sender<(u64, News)>,
    news: mpsc::Receiver<(u64, News)>,
}

impl Voices {
    fn new() -> Box<Self> {
        let (say_sender, say) = mpsc::unbounded_channel();
        let (news_sender, news) = mpsc::channel(ASSOCIATION_NEWS_MAX);
        Box::new(Voices {
            say_sender,
            say,
            news_sender,
            news,
        })
    }
}

impl Associations {
    pub(crate) fn new(
        means: Option<Means>,
        clock: Clock,
        log: Option<MessageLog>,
        seen: Arc<Seen>,
    ) -> Self {
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
            voices: None,
        }
    }

    /// Waits for what happens next; pair with [`handle`](Self::handle). Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Happened {
        let Some(voices) = &mut self.voices else {
            return std::future::pending().await;
        };
        // Neither channel ends: this holds a sender of both.
        tokio::select! {
            Some(message) = voices.say.recv() => Happened::Say(message),
            Some((id, news)) = voices.news.recv() => Happened::News(id, news),
            else => std::future::pending().await,
        }
    }

    /// Returns what has happened by now.
    pub(crate) fn try_next(&mut self) -> Option<Happened> {
        let voices = self.voices.as_mut()?;
        if let Ok(message) = voices.say.try_recv() {
            return Some(Happened::Say(message));
        }
        let (id, news) = voices.news.try_recv().ok()?;
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
            Happened::News(id, News::Open { takes_copies }) => {
                let Some(one) = self.further.get_mut(&id) else {
                    return Ok(());
                };
                if one.toward.is_some() {
                    (one.open, one.takes_copies) = (true, takes_copies);
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
            Happened::News(_, News::Copy(copied)) => session.handle_copy(&copied),
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
                self.handle_pong(now, number);
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
        while let Some(copied) = session.poll_copied() {
            for toward in self.copiers() {
                // One that has ended carries no copies; the first association does anyway.
                let _ = toward.send(Toward::Copy(copied.clone()));
            }
        }
        session.set_copies(self.copiers().next().is_some());
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

    /// Returns by how many associations blocks come. A long or lossy way counts as two before further ones are
    /// open: what one alone has lost is noticed at once only by what comes behind it, so something always has to.
    pub(crate) fn ways(&self) -> usize {
        let is_far = self.policy.is_far(self.clock.now());
        self.seen.open().max(if is_far { 2 } else { 1 })
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

    /// Returns the associations that carry copies of requests.
    fn copiers(&self) -> impl Iterator<Item = &mpsc::UnboundedSender<Toward>> {
        let carry = self.further.values();
        let carry = carry.filter(|one| one.open && one.takes_copies);
        carry.filter_map(|one| one.toward.as_ref())
    }

    fn tell(&self, id: u64, toward: Toward) {
        if let Some(sender) = self.further.get(&id).and_then(|one| one.toward.as_ref()) {
            // What one that has ended does not take is sent again by another.
            let _ = sender.send(toward);
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

#[cfg(test)]
mod tests;
