//! What somebody does in a room right now, as a session says it: told and forgotten, never stored.

use bytes::Bytes;

use super::message::PeerMessageError;
use crate::generated::kinlog_peer_v1 as wire;

/// "This is what I do in this room now."
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Presence {
    /// Id of the room; the other side is in it too.
    pub room: [u8; 32],
    /// What the sender does there.
    pub doing: Doing,
    /// For how many seconds that holds, unless something else is said. Nothing is checked of it yet.
    pub for_s: u32,
}

/// What somebody does in a room.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Doing {
    /// There, and not typing.
    Online,
    /// There, and nobody sits before it.
    Away,
    /// Typing.
    Typing,
    /// Says nothing more of what it does.
    Silent,
}

impl Doing {
    const ALL: [(u32, Doing); 4] = [
        (1, Doing::Online),
        (2, Doing::Away),
        (3, Doing::Typing),
        (4, Doing::Silent),
    ];

    fn number(self) -> u32 {
        let found = Self::ALL.iter().find(|(_, doing)| *doing == self);
        found.map_or(0, |(number, _)| *number)
    }
}

impl From<Presence> for wire::Presence {
    fn from(presence: Presence) -> Self {
        wire::Presence {
            room: Bytes::copy_from_slice(&presence.room),
            doing: presence.doing.number(),
            for_s: presence.for_s,
        }
    }
}

impl Presence {
    /// Reads it off the wire; `None` is something that only a later build does.
    pub(super) fn read(sent: &wire::Presence) -> Result<Option<Presence>, PeerMessageError> {
        let room = sent.room.as_ref().try_into();
        let room = room.map_err(|_| PeerMessageError::Size {
            field: "id of a room",
            bytes: sent.room.len(),
            limit: 32,
        })?;
        let known = Doing::ALL.iter().find(|(number, _)| *number == sent.doing);
        Ok(known.map(|(_, doing)| Presence {
            room,
            doing: *doing,
            for_s: sent.for_s,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_build_does_is_ignored_and_a_room_of_another_length_refused() {
        let presence = Presence {
            room: [7; 32],
            doing: Doing::Typing,
            for_s: 8,
        };
        let sent = wire::Presence::from(presence);
        assert_eq!(Presence::read(&sent), Ok(Some(presence)));
        for doing in [0, 5, u32::MAX] {
            let later = wire::Presence {
                doing,
                ..sent.clone()
            };
            assert_eq!(Presence::read(&later), Ok(None));
        }
        for length in [0, 31, 33] {
            let other = wire::Presence {
                room: vec![7; length].into(),
                ..sent.clone()
            };
            let refused = Presence::read(&other);
            assert!(matches!(refused, Err(PeerMessageError::Size { .. })));
        }
    }
}
