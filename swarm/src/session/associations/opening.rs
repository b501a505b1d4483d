//! How further associations begin and end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use kinlog_feeds::Time;
use kinlog_feeds::wire::Config;
use tokio::sync::mpsc;

use super::strand::Strand;
use super::{
    AssociationMessage, Associations, Further, Refusal, Token, Voices, never_sent, violation,
};
use crate::limits::{
    ASKED_BULK_BYTES, ASSOCIATION_IDS_KEPT, ASSOCIATION_REFUSALS_MAX, ASSOCIATIONS_MAX,
    NEGOTIATION_SIGNALS_MAX,
};
use crate::link::webrtc::FromPeer;
use crate::session::{Session, SessionError, SessionRole};

impl Associations {
    pub(super) fn open_and_close(
        &mut self,
        session: &mut Session,
        now: Time,
    ) -> Result<(), SessionError> {
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

    pub(super) fn handle_wanted(
        &mut self,
        session: &mut Session,
        now: Time,
    ) -> Result<(), SessionError> {
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

    pub(super) fn handle_offer(
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
        let voices = self.voices.get_or_insert_with(Voices::new);
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
            say: voices.say_sender.clone(),
            news: voices.news_sender.clone(),
            permit,
        };
        // It ends when its session drops the other end of `toward`.
        drop(tokio::spawn(strand.run(offer)));
        let further = Further {
            signals,
            toward: Some(toward),
            open: false,
            takes_copies: false,
            ended: false,
            closed: false,
            received: 0,
            told: 0,
        };
        self.further.insert(id, further);
        true
    }

    pub(super) fn handle_gone(
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

    pub(super) fn handle_closed(&mut self, id: u64, received: u64) -> Result<(), SessionError> {
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

    pub(super) fn pass_on(&self, id: u64, signal: FromPeer) {
        if let Some(one) = self.further.get(&id) {
            // A peer that floods its own attempt loses what does not fit.
            let _ = one.signals.try_send(signal);
        }
    }
}

/// Without random numbers there are no further associations.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}
