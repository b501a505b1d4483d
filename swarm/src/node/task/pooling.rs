//! The pool of sessions: what is noted of them, and what is closed.

use kinlog_feeds::{PublicKey, Time};

use super::Task;
use crate::node::pool::Standing;
use crate::node::{PoolStatus, SessionStatus};
use crate::session::{SessionError, SessionId};

impl Task {
    /// Closes sessions that are too many, and tells the other sides, so that none of them dials at once.
    pub(super) fn clean_up(&mut self) {
        let now = self.parts.clock.now();
        while let Some(surplus) = self.pool.poll_close(now) {
            tracing::debug!(
                session = surplus.session.0,
                "one session more than are kept"
            );
            self.introductions
                .handle_parted(now, surplus.meeting, surplus.peer);
            self.sessions.part(surplus.session);
        }
        self.introductions.set_full(self.pool.is_full());
    }

    /// A session with a peer that was met is open.
    pub(super) fn pool_opened(&mut self, id: SessionId) {
        let now = self.parts.clock.now();
        if let Some(entry) = self.sessions.entries.get(&id)
            && let Some(handshake) = entry.handshake
        {
            let peer = PublicKey(handshake.remote_static);
            self.pool.handle_open(now, id, entry.info.meeting(), peer);
        }
    }

    /// The other side of a session has enough others: it is ended here, as it waits for that.
    pub(super) fn handle_parting(&mut self, now: Time, id: SessionId) {
        if let Some(parted) = self.pool.handle_parted(now, id) {
            self.introductions
                .handle_parted(now, parted.meeting, parted.peer);
        }
        self.sessions.close(id, SessionError::Surplus);
    }

    /// Notes which sessions carried something since the last look.
    pub(super) fn note_traffic(&mut self, now: Time) {
        for (id, entry) in &self.sessions.entries {
            let stats = entry.stats();
            let bytes = stats.bytes_in + stats.bytes_out;
            self.pool.handle_traffic(now, *id, bytes);
        }
    }

    pub(super) async fn sessions_status(&self, now: Time) -> Vec<SessionStatus> {
        let standings = self.pool.standings(now);
        let mut sessions = self.sessions.status(now).await;
        for session in &mut sessions {
            session.standing = standings.get(&SessionId(session.id)).copied();
        }
        sessions
    }

    pub(super) fn pool_status(&self, now: Time) -> PoolStatus {
        let standings = self.pool.standings(now);
        let active = |one: &&Standing| **one == Standing::Active;
        let active = standings.values().filter(active).count();
        let (remembered, closed) = self.pool.counts();
        let config = self.pool.config();
        PoolStatus {
            active,
            standby: standings.len() - active,
            remembered,
            closed,
            active_max: config.active,
            standby_max: config.standby,
            remembered_max: config.remembered,
        }
    }
}
