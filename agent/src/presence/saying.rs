//! Saying it: to whom, and what is made of what others say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use kinlog_indexer::RoomId;
use kinlog_swarm::{Doing, Label, PeerMessage, Presence, SessionId};

use crate::api::{Error, Stance};
use crate::core::Core;
use crate::knowledge::KnownRoom;
use crate::limits::{PRESENCE_FOR_S_MAX, TYPING_FOR_S};
use crate::presence::own::doing as said_as;
use crate::state::StateError;

/// Under which `state.db` keeps that nothing is said.
const STANCE: &str = "presence";

/// What members do, and when something of it ends by itself.
#[derive(Debug, Default)]
pub(crate) struct Present {
    pub(crate) doing: BTreeMap<AgentId, Doing>,
    pub(crate) changes_at: Option<Instant>,
}

impl Core {
    /// Returns what the members of a room do now, of several devices what says most.
    pub(crate) fn present(&self, room: &KnownRoom) -> Present {
        let (doing, changes_at) = self.presences().in_room(&room.id);
        let mut present = Present {
            changes_at,
            ..Present::default()
        };
        // Who was put out meanwhile is not shown, whatever its device said.
        for (agent, device, _) in room.standing.devices() {
            let Some(one) = doing.get(device) else {
                continue;
            };
            let of_agent = present.doing.entry(*agent).or_insert(*one);
            if rank(*one) > rank(*of_agent) {
                *of_agent = *one;
            }
        }
        present
    }

    /// Tells the members who are connected that somebody types here, or no longer; returns how many devices can
    /// hear that.
    pub(crate) fn say_typing(&self, room: &KnownRoom, stops: bool) -> Result<u64, Error> {
        if !room.standing.has_device(&self.agent, &self.keys.device()) {
            return Err(Error::permission(format!(
                "this device is not in room {}: nobody there listens to it",
                room.label()
            )));
        }
        let listeners = self.listeners(Some(&room.id));
        let presences = self.presences();
        let now_ms = presences.now_ms();
        let (is_said, stance) = {
            let mut own = presences.own();
            let is_said = match stops {
                true => own.stops(&room.id),
                false => own.types(now_ms, room.id),
            };
            (is_said, own.stance())
        };
        if is_said {
            let doing = match stops {
                true => said_as(stance),
                false => Doing::Typing,
            };
            self.tell(doing, &listeners);
        }
        Ok(match stance {
            Stance::Off => 0,
            _ => listeners.len() as u64,
        })
    }

    /// Ends typing that was said: the message is there.
    pub(crate) fn typed(&self, room: &KnownRoom) {
        let stance = {
            let mut own = self.presences().own();
            if !own.stops(&room.id) {
                return;
            }
            own.stance()
        };
        self.tell(said_as(stance), &self.listeners(Some(&room.id)));
    }

    /// Shows this device from now on so; keeps for the next start whether anything is said.
    pub(crate) fn take_stance(&self, stance: Stance) -> Result<(), Error> {
        let kept: &[u8] = match stance {
            Stance::Off => b"off",
            Stance::Online | Stance::Away => b"on",
        };
        self.state.set_value(STANCE, kept)?;
        self.presences().own().take(stance);
        self.tell(said_as(stance), &self.listeners(None));
        Ok(())
    }

    /// Shows this device as it did when it stopped, but that nobody is away at a start.
    pub(crate) fn restore_stance(&self) -> Result<(), StateError> {
        if self.state.value(STANCE)?.as_deref() == Some(b"off") {
            self.presences().own().take(Stance::Off);
        }
        Ok(())
    }

    /// Returns how this device shows itself.
    pub(crate) fn stance(&self) -> Stance {
        self.presences().own().stance()
    }

    /// Says that this device is there: to everybody who can hear it, or to those alone who were not told since
    /// they are connected, or since they are known to be in a room.
    pub(super) fn say_stance(&self, to_all: bool) {
        let stance = self.stance();
        if stance == Stance::Off {
            return;
        }
        let mut listeners = self.listeners(None);
        {
            let mut own = self.presences().own();
            match to_all {
                true => own.forget_told(),
                false => listeners.retain(|listener| !own.has_told(listener)),
            }
        }
        self.tell(said_as(stance), &listeners);
    }

    /// Returns one session with each connected device of a member, of one room or of all: those by a room's meet
    /// keys, and pairings.
    fn listeners(&self, of: Option<&RoomId>) -> Vec<(RoomId, SessionId)> {
        let Some(network) = self.network() else {
            return Vec::new();
        };
        let sessions = network.sessions_where(|one| {
            one.remote_certificate.is_some() && matches!(one.label, Label::Room | Label::Code)
        });
        if sessions.is_empty() {
            return Vec::new();
        }
        let own = self.keys.device();
        self.knowledge(|knowledge| {
            let mut listeners = Vec::new();
            let rooms = knowledge.rooms.values();
            for room in rooms.filter(|room| of.is_none_or(|id| room.id == *id)) {
                if !room.standing.has_device(&self.agent, &own) {
                    continue;
                }
                let keys = room.meet_keys();
                let devices = room.standing.devices();
                let mut untold: BTreeSet<DeviceKey> = devices.map(|(_, key, _)| *key).collect();
                for session in &sessions {
                    let is_met = match session.label {
                        Label::Room => keys.contains(&session.key),
                        _ => knowledge.pairs.keys().any(|key| *key == session.key),
                    };
                    let device = session.remote_certificate.map(|shown| shown.device);
                    if is_met && device.is_some_and(|device| untold.remove(&device)) {
                        listeners.push((room.id, session.id));
                    }
                }
            }
            listeners
        })
    }

    fn tell(&self, doing: Doing, listeners: &[(RoomId, SessionId)]) {
        let Some(network) = self.network() else {
            return;
        };
        for (room, session) in listeners {
            network.send(*session, PeerMessage::Presence(presence(room, doing)));
        }
        self.presences().own().told(listeners);
    }
}

/// Returns the words for what this device does in a room.
pub(super) fn presence(room: &RoomId, doing: Doing) -> Presence {
    Presence {
        room: room.0,
        doing,
        for_s: match doing {
            Doing::Typing => TYPING_FOR_S,
            Doing::Silent => 0,
            Doing::Online | Doing::Away => PRESENCE_FOR_S_MAX,
        },
    }
}

/// Orders what devices of one agent do: it is where it is seen most.
fn rank(doing: Doing) -> u8 {
    match doing {
        Doing::Silent => 0,
        Doing::Away => 1,
        Doing::Online => 2,
        Doing::Typing => 3,
    }
}
