//! What others say that they do, bounded in number, rate and time.

use std::collections::BTreeMap;

use kinlog_feeds::crypto::DeviceKey;
use kinlog_indexer::RoomId;
use kinlog_swarm::{Doing, Presence, SessionId};

use crate::limits::{
    PRESENCE_A_SECOND, PRESENCE_AT_ONCE, PRESENCE_FOR_S_MAX, PRESENCES_MAX, ROOM_PRESENCE_A_SECOND,
    ROOM_PRESENCE_AT_ONCE, TYPING_FOR_S_MAX,
};
use crate::rooms::Rate;

/// What the devices in rooms do.
#[derive(Debug, Default)]
pub(super) struct Heard {
    said: BTreeMap<(RoomId, DeviceKey), Said>,
    /// How fast each device is heard. One that is not full is kept when its session ends: to connect again gives
    /// no more.
    of_devices: BTreeMap<DeviceKey, Rate>,
    of_rooms: BTreeMap<RoomId, Rate>,
}

/// What one device said last in a room.
#[derive(Clone, Copy, Debug)]
struct Said {
    session: SessionId,
    /// Whether it is away, and until when that holds.
    away: bool,
    until_ms: u64,
    /// Until when it types; 0 when it does not.
    typing_until_ms: u64,
}

impl Said {
    fn doing(&self, now_ms: u64) -> Option<Doing> {
        if now_ms < self.typing_until_ms {
            return Some(Doing::Typing);
        }
        let stance = if self.away {
            Doing::Away
        } else {
            Doing::Online
        };
        (now_ms < self.until_ms).then_some(stance)
    }

    /// Returns when what it does changes by itself.
    fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let ends = [self.typing_until_ms, self.until_ms];
        ends.into_iter().filter(|at| *at > now_ms).min()
    }
}

/// What a message that is taken brings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Taken {
    /// The device does something else now than before.
    pub(super) is_change: bool,
    /// It is the first about this room in its session.
    pub(super) is_first: bool,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("said for {for_s} s, at most {limit}")]
    TooLong { for_s: u32, limit: u32 },
    #[error("one device says more than {PRESENCE_A_SECOND} things a second")]
    DeviceTooFast,
    #[error("more than {ROOM_PRESENCE_A_SECOND} things a second are said in one room")]
    RoomTooFast,
    #[error("{PRESENCES_MAX} devices are known to do something already")]
    TooMany,
}

impl Heard {
    /// Takes what a device in the room says.
    pub(super) fn hear(
        &mut self,
        now_ms: u64,
        session: SessionId,
        device: DeviceKey,
        presence: &Presence,
    ) -> Result<Taken, Refusal> {
        let room = RoomId(presence.room);
        self.count(now_ms, device, room)?;
        let limit = match presence.doing {
            Doing::Typing => TYPING_FOR_S_MAX,
            Doing::Online | Doing::Away | Doing::Silent => PRESENCE_FOR_S_MAX,
        };
        let for_s = presence.for_s;
        if for_s > limit {
            return Err(Refusal::TooLong { for_s, limit });
        }
        let before = self.said.get(&(room, device)).copied();
        let doing_before = before.and_then(|said| said.doing(now_ms));
        if presence.doing == Doing::Silent {
            self.said.remove(&(room, device));
            return Ok(Taken {
                is_change: doing_before.is_some(),
                is_first: false,
            });
        }
        if before.is_none() && self.said.len() >= PRESENCES_MAX {
            self.said.retain(|_, said| said.doing(now_ms).is_some());
            if self.said.len() >= PRESENCES_MAX {
                return Err(Refusal::TooMany);
            }
        }
        let until_ms = now_ms + u64::from(for_s) * 1000;
        let mut now = before.unwrap_or(Said {
            session,
            away: false,
            until_ms: 0,
            typing_until_ms: 0,
        });
        now.session = session;
        match presence.doing {
            Doing::Typing => now.typing_until_ms = until_ms,
            doing => {
                now.away = doing == Doing::Away;
                now.until_ms = until_ms;
                now.typing_until_ms = 0;
            }
        }
        self.said.insert((room, device), now);
        Ok(Taken {
            is_change: now.doing(now_ms) != doing_before,
            is_first: before.is_none_or(|before| before.session != session),
        })
    }

    /// Forgets what was said in a session; returns whether that was anything.
    pub(super) fn session_closed(&mut self, session: SessionId) -> bool {
        let before = self.said.len();
        self.said.retain(|_, said| said.session != session);
        self.said.len() < before
    }

    /// Returns what the devices in a room do, and when the first of that ends by itself.
    pub(super) fn in_room(
        &self,
        now_ms: u64,
        room: &RoomId,
    ) -> (BTreeMap<DeviceKey, Doing>, Option<u64>) {
        let first = (*room, DeviceKey([0; 32]));
        let last = (*room, DeviceKey([0xff; 32]));
        let said = self.said.range(first..=last);
        let next = said.clone().filter_map(|(_, said)| said.next_ms(now_ms));
        let next = next.min();
        let doing = said.filter_map(|((_, device), said)| Some((*device, said.doing(now_ms)?)));
        (doing.collect(), next)
    }

    /// Counts a message of a device, first for the device: one that floods takes nothing from the room.
    fn count(&mut self, now_ms: u64, device: DeviceKey, room: RoomId) -> Result<(), Refusal> {
        if self.of_devices.len() >= PRESENCES_MAX && !self.of_devices.contains_key(&device) {
            self.of_devices.retain(|_, rate| !rate.is_full(now_ms));
            if self.of_devices.len() >= PRESENCES_MAX {
                return Err(Refusal::TooMany);
            }
        }
        let full = Rate::of(PRESENCE_AT_ONCE, PRESENCE_A_SECOND, now_ms);
        let of_device = self.of_devices.entry(device).or_insert(full);
        of_device.take(now_ms).map_err(|_| Refusal::DeviceTooFast)?;
        // Rooms are those that this device is in: nobody else makes one up.
        let full = Rate::of(ROOM_PRESENCE_AT_ONCE, ROOM_PRESENCE_A_SECOND, now_ms);
        let of_room = self.of_rooms.entry(room).or_insert(full);
        of_room.take(now_ms).map_err(|_| Refusal::RoomTooFast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomId = RoomId([5; 32]);
    const DEVICE: DeviceKey = DeviceKey([1; 32]);

    fn said(doing: Doing, for_s: u32) -> Presence {
        Presence {
            room: ROOM.0,
            doing,
            for_s,
        }
    }

    fn doing(heard: &Heard, now_ms: u64) -> Option<Doing> {
        heard.in_room(now_ms, &ROOM).0.get(&DEVICE).copied()
    }

    #[test]
    fn typing_ends_by_itself_and_leaves_what_was_said_before() {
        let mut heard = Heard::default();
        let mut say = |now_ms, doing, for_s| {
            let taken = heard.hear(now_ms, SessionId(1), DEVICE, &said(doing, for_s));
            taken.map(|taken| taken.is_change)
        };
        assert_eq!(say(0, Doing::Away, 3600), Ok(true));
        assert_eq!(say(1000, Doing::Typing, 8), Ok(true));
        assert_eq!(say(5000, Doing::Typing, 8), Ok(false), "it goes on");
        assert_eq!(heard.in_room(5000, &ROOM).1, Some(13_000));
        assert_eq!(doing(&heard, 12_999), Some(Doing::Typing));
        assert_eq!(doing(&heard, 13_000), Some(Doing::Away));
        assert_eq!(heard.in_room(13_000, &ROOM).1, Some(3_600_000));
        assert_eq!(doing(&heard, 3_600_000), None);
        assert_eq!(heard.in_room(3_600_000, &ROOM).1, None);
        let other = RoomId([6; 32]);
        assert!(heard.in_room(0, &other).0.is_empty(), "of one room alone");
    }

    #[test]
    fn to_be_online_ends_typing_and_to_be_silent_everything() {
        let mut heard = Heard::default();
        heard
            .hear(0, SessionId(1), DEVICE, &said(Doing::Typing, 8))
            .unwrap();
        heard
            .hear(1, SessionId(1), DEVICE, &said(Doing::Online, 60))
            .unwrap();
        assert_eq!(doing(&heard, 2), Some(Doing::Online));
        let silent = said(Doing::Silent, 0);
        let is_change = |taken: Result<Taken, Refusal>| taken.unwrap().is_change;
        assert!(is_change(heard.hear(3, SessionId(1), DEVICE, &silent)));
        assert_eq!(doing(&heard, 4), None);
        assert!(!is_change(heard.hear(5, SessionId(1), DEVICE, &silent)));
    }

    #[test]
    fn the_first_word_in_a_session_is_told_from_the_others() {
        let mut heard = Heard::default();
        let mut is_first = |session, doing| {
            let heard = heard.hear(0, SessionId(session), DEVICE, &said(doing, 8));
            heard.unwrap().is_first
        };
        assert!(is_first(1, Doing::Online));
        assert!(!is_first(1, Doing::Typing));
        assert!(is_first(2, Doing::Online));
        assert!(!is_first(2, Doing::Silent));
    }

    #[test]
    fn what_is_said_ends_with_its_session() {
        let mut heard = Heard::default();
        heard
            .hear(0, SessionId(1), DEVICE, &said(Doing::Online, 60))
            .unwrap();
        assert!(!heard.session_closed(SessionId(2)));
        assert!(heard.session_closed(SessionId(1)));
        assert_eq!(doing(&heard, 1), None);
    }

    #[test]
    fn a_time_far_ahead_is_refused_and_changes_nothing() {
        let mut heard = Heard::default();
        heard
            .hear(0, SessionId(1), DEVICE, &said(Doing::Online, 60))
            .unwrap();
        for (what, for_s) in [
            (Doing::Typing, TYPING_FOR_S_MAX + 1),
            (Doing::Typing, u32::MAX),
            (Doing::Away, PRESENCE_FOR_S_MAX + 1),
            (Doing::Online, u32::MAX),
        ] {
            let refused = heard.hear(0, SessionId(1), DEVICE, &said(what, for_s));
            assert!(matches!(refused, Err(Refusal::TooLong { .. })), "{what:?}");
        }
        assert_eq!(doing(&heard, 1), Some(Doing::Online));
        assert_eq!(doing(&heard, 60_000), None);
    }

    #[test]
    fn a_device_that_floods_is_not_heard_and_takes_nothing_from_the_others() {
        let mut heard = Heard::default();
        let typing = said(Doing::Typing, 8);
        let mut taken = 0;
        for number in 0..10_000 {
            // A new session for each: to connect again gives no more.
            heard.session_closed(SessionId(number));
            taken += u64::from(heard.hear(0, SessionId(number), DEVICE, &typing).is_ok());
        }
        assert_eq!(taken, PRESENCE_AT_ONCE);
        let other = DeviceKey([2; 32]);
        assert!(heard.hear(0, SessionId(9), other, &typing).is_ok());
        assert_eq!(
            heard.hear(0, SessionId(1), DEVICE, &typing),
            Err(Refusal::DeviceTooFast)
        );
        assert!(heard.hear(500, SessionId(1), DEVICE, &typing).is_ok());
    }

    #[test]
    fn many_devices_together_are_heard_as_fast_as_a_room_may_be_and_no_more_are_remembered_than_fit()
     {
        let mut heard = Heard::default();
        let device = |number: u32| {
            let mut key = [3; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            DeviceKey(key)
        };
        let online = said(Doing::Online, 3600);
        let taken = (0..2000).filter(|number| {
            let heard = heard.hear(0, SessionId(1), device(*number), &online);
            heard != Err(Refusal::RoomTooFast)
        });
        assert_eq!(taken.count() as u64, ROOM_PRESENCE_AT_ONCE);

        let mut heard = Heard::default();
        for number in 0..3 * PRESENCES_MAX as u32 {
            let mut online = online;
            online.room[..4].copy_from_slice(&(number / 100).to_be_bytes());
            let _ = heard.hear(0, SessionId(1), device(number), &online);
        }
        assert_eq!(heard.said.len(), PRESENCES_MAX);
        assert!(heard.of_devices.len() <= PRESENCES_MAX);
        // What has ended makes room.
        let later = 3_600_000;
        assert!(heard.hear(later, SessionId(1), DEVICE, &online).is_ok());
    }
}
