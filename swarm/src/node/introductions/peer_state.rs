//! How far it is with a peer.

use serde::Serialize;

/// How far it is with a peer, from unknown to connected.
///
/// What may follow what says [`may_become`](Self::may_become).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PeerState {
    /// Nobody shows it any more, and no session runs.
    Disconnected,
    /// It is shown, and waits for its turn or for an offer.
    Discovering,
    /// It could not be reached, directly or by a relay: what it is to have goes by others until the next try.
    StoreForward,
    /// An offer was made or taken.
    Signalling,
    /// Both descriptions are there: addresses are tried, or the link's session is not open yet.
    Connecting,
    /// A session runs by a peer that both know, while a direct way is tried again.
    Relayed,
    /// A session runs directly.
    Connected,
}

impl PeerState {
    /// All states.
    pub const ALL: [PeerState; 7] = [
        PeerState::Disconnected,
        PeerState::Discovering,
        PeerState::StoreForward,
        PeerState::Signalling,
        PeerState::Connecting,
        PeerState::Relayed,
        PeerState::Connected,
    ];

    /// Returns whether `next` may follow at once.
    pub fn may_become(self, next: PeerState) -> bool {
        use PeerState::{
            Connected, Connecting, Disconnected, Discovering, Relayed, Signalling, StoreForward,
        };
        match (self, next) {
            (Disconnected, next) => next == Discovering,
            // Nothing is tried to connect before descriptions were exchanged.
            (Discovering, next) => next != Connecting && next != Discovering,
            (StoreForward, next) => next != Connecting && next != StoreForward,
            (Signalling, next) => next != Signalling,
            (Connecting, next) => next != Connecting,
            // A session that is lost is not given up at once, and a running attempt is no news while one runs.
            (Relayed, next) => matches!(next, Connected | Discovering | Disconnected),
            (Connected, next) => matches!(next, Relayed | Discovering | Disconnected),
        }
    }

    /// Returns the state's name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            PeerState::Disconnected => "disconnected",
            PeerState::Discovering => "discovering",
            PeerState::StoreForward => "store-forward",
            PeerState::Signalling => "signalling",
            PeerState::Connecting => "connecting",
            PeerState::Relayed => "relayed",
            PeerState::Connected => "connected",
        }
    }

    /// Returns the states to pass through from here to `next`, `next` included.
    pub(super) fn steps_to(self, next: PeerState) -> Vec<PeerState> {
        if self == next {
            return Vec::new();
        }
        if self.may_become(next) {
            return vec![next];
        }
        let between = |middle: &PeerState| self.may_become(*middle) && middle.may_become(next);
        // What is shortest to tell: usually it is discovered (again) first.
        let order = [PeerState::Discovering, PeerState::Signalling];
        match order.into_iter().find(between) {
            Some(middle) => vec![middle, next],
            None => vec![PeerState::Discovering, PeerState::Signalling, next],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_reached_from_every_other_by_allowed_steps_alone() {
        for from in PeerState::ALL {
            for to in PeerState::ALL {
                let mut state = from;
                for step in from.steps_to(to) {
                    assert!(state.may_become(step), "{from:?} to {to:?}: {step:?}");
                    state = step;
                }
                assert_eq!(state, to);
            }
            assert!(!from.may_become(from));
        }
    }

    #[test]
    fn names_are_those_of_json() {
        for state in PeerState::ALL {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("\"{}\"", state.name()));
        }
    }
}
