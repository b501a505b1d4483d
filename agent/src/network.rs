//! The network while it is on: a swarm node that is told the plan, and what went wrong last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::DeviceKey;
use kinlog_feeds::replicate::{Interest, Pushes};
use tokio::sync::watch;

use kinlog_signal::SignalUrl;
use kinlog_swarm::link::webrtc::Contacts;
use kinlog_swarm::{Label, Node, PeerMessage, SessionId, SessionInfo, Step};

use crate::limits::{LAST_MET_MAX, SESSIONS_ENDED_KEPT_MAX};
use crate::pins::Plan;
use crate::wall_ms;

/// A running node and what it was told.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) node: Node,
    told: Mutex<Told>,
    troubles: Mutex<Troubles>,
    sessions: Mutex<BTreeMap<SessionId, SessionInfo>>,
    /// Where the other sides of open sessions say that they are met, until it is known whose they are.
    meeting_points: Mutex<BTreeMap<SessionId, Vec<String>>>,
    /// Sessions that ended, the newest few: whoever made their link makes another.
    last_ended: Mutex<VecDeque<SessionId>>,
    /// When a session with a device ended last, ms.
    last_met: Mutex<BTreeMap<DeviceKey, u64>>,
    /// Signal servers that people who are followed list, each with who does.
    listed: Mutex<BTreeMap<String, Vec<String>>>,
    /// Addresses that were tried since they were noted last.
    pub(crate) contacts: Contacts,
    /// STUN servers of the settings.
    pub(crate) stun_urls: Vec<String>,
    /// The first session has opened.
    met: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Told {
    topics: BTreeSet<(Label, [u8; 32])>,
    interests: BTreeMap<FeedKey, Interest>,
}

/// What did not work lately, by where; cleared when it does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles {
    /// Topics in which a peer could not be connected to, with the reason.
    pub(crate) topics: BTreeMap<(Label, [u8; 32]), String>,
    /// Sessions whose other side broke the protocol, with the reason; the newest few.
    pub(crate) violations: BTreeMap<SessionId, String>,
    /// Why the store takes nothing more.
    pub(crate) store: Option<String>,
}

impl Network {
    pub(crate) fn new(node: Node, contacts: Contacts, stun_urls: Vec<String>) -> Self {
        Network {
            node,
            told: Mutex::default(),
            troubles: Mutex::default(),
            sessions: Mutex::default(),
            meeting_points: Mutex::default(),
            last_ended: Mutex::default(),
            last_met: Mutex::default(),
            listed: Mutex::default(),
            contacts,
            stun_urls,
            met: watch::Sender::default(),
        }
    }

    /// Tells the node what has changed in the plan.
    pub(crate) fn apply(&self, plan: &Plan) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (label, key) in plan.topics.difference(&told.topics) {
            self.node.join(*label, *key);
        }
        for (label, key) in told.topics.difference(&plan.topics) {
            self.node.leave(*label, *key);
        }
        for (key, interest) in &plan.interests {
            let before = told.interests.get(key);
            if before != Some(interest) {
                self.node.set_interest(*key, interest.clone());
            }
            if before.is_none() {
                // What an author writes comes at once, where all that is new is wanted.
                self.node.set_pushes(*key, Pushes::Taken);
            }
        }
        for key in told
            .interests
            .keys()
            .filter(|key| !plan.interests.contains_key(*key))
        {
            self.node.set_interest(*key, Interest::default());
            self.node.set_pushes(*key, Pushes::Refused);
        }
        told.topics.clone_from(&plan.topics);
        told.interests.clone_from(&plan.interests);
        self.node.refresh();
    }

    /// Asks peers for the newest head of a feed again, of which one head was to be enough.
    pub(crate) fn ask_again(&self, key: &FeedKey) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(interest) = told.interests.get(key) {
            self.node.set_interest(*key, interest.clone());
        }
    }

    /// Tells the node that an own feed grew.
    pub(crate) fn appended(&self, key: &FeedKey) {
        self.node.appended(*key);
    }

    /// Tells the node that the store changed by other ways than replication.
    pub(crate) fn stored(&self, key: &FeedKey) {
        self.node.stored(*key);
    }

    /// Returns what did not work lately.
    pub(crate) fn troubles(&self) -> Troubles {
        self.troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes what happened to `troubles`.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Troubles)) {
        change(&mut self.troubles.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes an open session, or what is newly known of it; returns what was known before.
    pub(crate) fn session_opened(&self, session: SessionInfo) -> Option<SessionInfo> {
        self.met.send_replace(true);
        self.note(|troubles| {
            troubles.topics.remove(&(session.label, session.key));
        });
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session.id, session)
    }

    /// Returns what tells whether a first session opened; it ends with the network.
    pub(crate) fn met(&self) -> watch::Receiver<bool> {
        self.met.subscribe()
    }

    /// Forgets a session.
    pub(crate) fn session_closed(&self, session: SessionId) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = sessions.remove(&session);
        self.meeting_points().remove(&session);
        if let Some(device) = ended.and_then(|one| Some(one.remote_certificate?.device)) {
            let mut met = self.last_met.lock().unwrap_or_else(PoisonError::into_inner);
            met.insert(device, wall_ms());
            if met.len() > LAST_MET_MAX {
                let oldest = met.iter().min_by_key(|(_, at)| **at);
                let oldest = oldest.map(|(device, _)| *device);
                oldest.map(|device| met.remove(&device));
            }
        }
        let mut ended = self
            .last_ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ended.push_back(session);
        if ended.len() > SESSIONS_ENDED_KEPT_MAX {
            ended.pop_front();
        }
    }

    /// Notes which signal servers are joined because somebody lists them.
    pub(crate) fn note_listed(&self, servers: &[(SignalUrl, Vec<String>)]) {
        let servers = servers.iter();
        let noted = servers.map(|(url, by)| (url.to_string(), by.clone()));
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        *listed = noted.collect();
    }

    /// Returns who lists a signal server, when it is joined for that.
    pub(crate) fn listed_by(&self, url: &str) -> Option<Vec<String>> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.get(url).cloned()
    }

    /// Returns when sessions with devices ended last, ms.
    pub(crate) fn last_met(&self) -> BTreeMap<DeviceKey, u64> {
        let met = self.last_met.lock().unwrap_or_else(PoisonError::into_inner);
        met.clone()
    }

    /// Returns whether a session ended not long ago.
    pub(crate) fn has_ended(&self, session: &SessionId) -> bool {
        let ended = self
            .last_ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ended.contains(session)
    }

    /// Notes where the other side of an open session says that it is met.
    pub(crate) fn hear_meeting_points(&self, session: SessionId, urls: Vec<String>) {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.contains_key(&session) {
            self.meeting_points().insert(session, urls);
        }
    }

    /// Takes what the other sides of sessions said that are known now; the rest waits.
    pub(crate) fn take_meeting_points(
        &self,
        is_known: impl Fn(SessionId) -> bool,
    ) -> BTreeMap<SessionId, Vec<String>> {
        let mut waiting = self.meeting_points();
        let (taken, rest) = std::mem::take(&mut *waiting)
            .into_iter()
            .partition(|(session, _)| is_known(*session));
        *waiting = rest;
        taken
    }

    fn meeting_points(&self) -> MutexGuard<'_, BTreeMap<SessionId, Vec<String>>> {
        self.meeting_points
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an open session.
    pub(crate) fn session(&self, session: SessionId) -> Option<SessionInfo> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&session).cloned()
    }

    /// Returns the open sessions about a key.
    pub(crate) fn sessions_about(&self, label: Label, key: &[u8; 32]) -> Vec<SessionInfo> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = sessions
            .values()
            .filter(|one| one.label == label && one.key == *key);
        meant.cloned().collect()
    }

    /// Returns the open sessions that are meant.
    pub(crate) fn sessions_where(&self, meant: impl Fn(&SessionInfo) -> bool) -> Vec<SessionInfo> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions
            .values()
            .filter(|one| meant(one))
            .cloned()
            .collect()
    }

    /// Sends a message; one that finds the queue full is lost, and said again at the next meeting.
    pub(crate) fn send(&self, session: SessionId, message: PeerMessage) {
        if let Err(error) = self.node.send(session, message) {
            tracing::warn!(%session, %error, "message to a peer was not sent");
        }
    }

    /// Notes a step that found nothing.
    pub(crate) fn note_step(&self, step: Step) {
        if let Step::NotConnected { label, key, reason } = step {
            self.note(|troubles| {
                troubles.topics.insert((label, key), reason);
            });
        }
    }
}
