//! What this device says of itself.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_indexer::RoomId;
use kinlog_swarm::{Doing, SessionId};

use crate::api::Stance;
use crate::limits::TYPING_AGAIN_AFTER_MS;

/// What this device says, and when it said last that it types.
#[derive(Debug)]
pub(super) struct Own {
    stance: Stance,
    typing_said_ms: BTreeMap<RoomId, u64>,
    /// Open sessions whose other side was told, with the room.
    told: BTreeSet<(SessionId, RoomId)>,
}

/// Returns what a device says that shows itself so.
pub(super) fn doing(stance: Stance) -> Doing {
    match stance {
        Stance::Online => Doing::Online,
        Stance::Away => Doing::Away,
        Stance::Off => Doing::Silent,
    }
}

impl Own {
    pub(super) fn new(stance: Stance) -> Self {
        Own {
            stance,
            typing_said_ms: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    pub(super) fn stance(&self) -> Stance {
        self.stance
    }

    /// Returns whether somebody was told how this device shows itself.
    pub(super) fn has_told(&self, (room, session): &(RoomId, SessionId)) -> bool {
        self.told.contains(&(*session, *room))
    }

    /// Notes who was told; each is told again by itself only when something changes.
    pub(super) fn told(&mut self, listeners: &[(RoomId, SessionId)]) {
        let listeners = listeners.iter();
        self.told
            .extend(listeners.map(|(room, session)| (*session, *room)));
    }

    /// Takes everybody for not told, sessions too that ended while they were told.
    pub(super) fn forget_told(&mut self) {
        self.told.clear();
    }

    /// Forgets a session that has ended.
    pub(super) fn session_closed(&mut self, session: SessionId) {
        self.told.retain(|(one, _)| *one != session);
    }

    /// Takes another stance; it is to be said everywhere.
    pub(super) fn take(&mut self, stance: Stance) {
        self.stance = stance;
        self.typing_said_ms.clear();
    }

    /// Somebody types in a room; returns whether that is to be said now: not when it just was, nor when nothing
    /// is said at all.
    pub(super) fn types(&mut self, now_ms: u64, room: RoomId) -> bool {
        self.typing_said_ms
            .retain(|_, said| now_ms < *said + 2 * TYPING_AGAIN_AFTER_MS);
        let said = self.typing_said_ms.get(&room);
        let is_known = said.is_some_and(|said| now_ms < *said + TYPING_AGAIN_AFTER_MS);
        if is_known || self.stance == Stance::Off {
            return false;
        }
        self.typing_said_ms.insert(room, now_ms);
        true
    }

    /// Nobody types there any more; returns whether that is to be said.
    pub(super) fn stops(&mut self, room: &RoomId) -> bool {
        self.typing_said_ms.remove(room).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomId = RoomId([5; 32]);

    #[test]
    fn each_key_press_may_be_told_and_few_of_them_are_said() {
        let mut own = Own::new(Stance::Online);
        let said = (0..10_000).filter(|now_ms| own.types(*now_ms, ROOM));
        assert_eq!(said.collect::<Vec<_>>(), [0, 4_000, 8_000]);
        assert!(own.types(10_000, RoomId([6; 32])), "another room");
        assert!(own.stops(&ROOM));
        assert!(!own.stops(&ROOM), "said once");
        assert!(own.types(10_001, ROOM));
    }

    #[test]
    fn who_shows_nothing_types_unseen() {
        let mut own = Own::new(Stance::Off);
        assert!(!own.types(0, ROOM));
        own.take(Stance::Away);
        assert!(own.types(0, ROOM));
        own.take(Stance::Off);
        assert!(!own.stops(&ROOM), "who is silent has nothing to take back");
    }
}
