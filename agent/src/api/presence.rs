//! Who is there and who types, as it is answered. Field names are what `--json` prints, so they are kept.

use kinlog_swarm::Doing;
use serde::{Deserialize, Serialize};

/// How this device shows itself to members of its rooms.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stance {
    /// There.
    #[default]
    Online,
    /// There, and nobody sits before it.
    Away,
    /// Says nothing of the kind, not that it types either. Whoever is connected sees the connection.
    Off,
}

/// What a member does in a room now.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// Types.
    Typing,
    /// Is there.
    Online,
    /// Is there, and nobody sits before it.
    Away,
    /// Says nothing, or is not connected.
    Silent,
}

impl From<Doing> for PresenceState {
    fn from(doing: Doing) -> Self {
        match doing {
            Doing::Typing => PresenceState::Typing,
            Doing::Online => PresenceState::Online,
            Doing::Away => PresenceState::Away,
            Doing::Silent => PresenceState::Silent,
        }
    }
}

/// Somebody in a room does something else than before.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PresenceInfo {
    pub room: String,
    /// z-base-32 of the agent's id.
    pub agent: String,
    pub name: String,
    pub state: PresenceState,
}
