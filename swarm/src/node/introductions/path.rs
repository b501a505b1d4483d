//! A peer as one introducer shows it, and how far it is with it there.

use kinlog_feeds::{PublicKey, Time};
use kinlog_signal::Topic;

use super::PeerState;
use crate::node::connects::Search;
use crate::session::{Label, SessionId};

/// Who introduces.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Via {
    /// A signal server, by its position among those configured, in one topic.
    Signal { server: usize, topic: Topic },
    /// A peer that this node has a session with.
    Peer(SessionId),
}

/// A peer as one introducer shows it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct PeerPath {
    pub(crate) via: Via,
    /// Its client key there; from a peer, its Noise static in the meeting.
    pub(crate) peer: PublicKey,
}

impl PeerPath {
    /// A peer as a signal server shows it.
    pub(crate) fn signal(server: usize, topic: Topic, peer: PublicKey) -> Self {
        let via = Via::Signal { server, topic };
        PeerPath { via, peer }
    }

    /// A peer as another peer shows it.
    pub(crate) fn by_peer(introducer: SessionId, peer: PublicKey) -> Self {
        let via = Via::Peer(introducer);
        PeerPath { via, peer }
    }

    /// Returns the session with whoever introduces, if that is a peer.
    pub(crate) fn introducer(&self) -> Option<SessionId> {
        match self.via {
            Via::Signal { .. } => None,
            Via::Peer(session) => Some(session),
        }
    }
}

/// What a topic stands for.
pub(crate) type MeetingKey = (Label, [u8; 32]);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// No session, and none under way.
    Idle { try_at: Option<Time> },
    /// An offer was made or taken.
    Negotiating {
        attempt: u64,
        offered: bool,
        /// The other description is there, too.
        described: bool,
    },
    /// A session runs, or begins.
    Connected { session: SessionId },
}

/// The circuit to a peer by its introducer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CircuitState {
    /// There is none; one may be asked for from then on.
    None { from: Time },
    /// One was asked for, and is given up then.
    Opening { number: u64, until: Time },
    /// A session runs by it, or begins.
    Running { session: SessionId },
}

#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) meeting: MeetingKey,
    pub(super) own: PublicKey,
    pub(super) present: bool,
    pub(super) state: State,
    pub(super) failures: u32,
    /// An attempt failed, and none has led to a session since.
    pub(super) unreached: bool,
    pub(super) candidates: u32,
    pub(super) candidates_since: Time,
    /// The Noise static of the peer: a signal server does not say it, a session does.
    pub(super) identity: Option<PublicKey>,
    /// Its device, as whoever introduces it says.
    pub(super) device: Option<PublicKey>,
    pub(super) circuit: CircuitState,
    pub(super) circuit_failures: u32,
    /// What was told last.
    pub(super) told: PeerState,
    /// When it was shown first, or again after it was gone.
    pub(super) shown_at: Time,
    /// It was not dialled yet, and waits while earlier steps of the ladder may lead to it.
    pub(super) is_new: bool,
    /// When the attempt under way began.
    pub(super) began: Option<Time>,
    /// It is being connected to, by one attempt or several.
    pub(super) search: Option<Search>,
    /// It asked for an offer and got none yet.
    pub(super) knocked: bool,
    /// When it was dialled last.
    pub(super) dialled_at: Time,
}

impl Introduction {
    pub(super) fn new(path: &PeerPath, meeting: MeetingKey, own: PublicKey) -> Self {
        Introduction {
            meeting,
            own,
            present: false,
            state: State::Idle { try_at: None },
            failures: 0,
            unreached: false,
            candidates: 0,
            candidates_since: Time::ZERO,
            identity: path.introducer().map(|_| path.peer),
            device: None,
            circuit: CircuitState::None { from: Time::ZERO },
            circuit_failures: 0,
            told: PeerState::Disconnected,
            shown_at: Time::ZERO,
            is_new: false,
            began: None,
            search: None,
            knocked: false,
            dialled_at: Time::ZERO,
        }
    }

    pub(super) fn is_attempt(&self, attempt: u64) -> bool {
        matches!(self.state, State::Negotiating { attempt: current, .. } if current == attempt)
    }

    pub(super) fn is_offered(&self) -> bool {
        matches!(self.state, State::Negotiating { offered: true, .. })
    }

    pub(super) fn is_incoming(&self) -> bool {
        matches!(self.state, State::Negotiating { offered: false, .. })
    }
}
