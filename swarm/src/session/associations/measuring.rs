//! How long the way to the other side is.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use kinlog_feeds::Time;
use tokio::sync::oneshot;

use super::{AssociationMessage, Associations};
use crate::limits::{PING_INTERVAL, PINGS_WAITING_MAX};
use crate::session::{Session, SessionError};

impl Associations {
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

    pub(super) fn measure(&mut self, session: &mut Session, now: Time) -> Result<(), SessionError> {
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

    /// The other side has said a number back.
    pub(super) fn handle_pong(&mut self, now: Time, number: u64) {
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
    }
}
