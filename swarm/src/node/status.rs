//! What a node does right now, in words and numbers for `kinlog status`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::PeerState;
use super::connects::ConnectStatus;
use super::introductions::{StepState, StepView};
use super::ladder::{LadderStep, Tally};
use super::pool::Standing;
use crate::histogram::HistogramStatus;
use crate::link::{IcePath, Transport};
use crate::session::{Label, label_name};

/// How a meeting point came to be known, and so how whoever is met there was found.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundBy {
    /// A signal server of the configuration.
    Signal,
    /// Our own meeting point: the peer came to us.
    Own,
    /// A meeting point that was announced on the local network.
    Lan,
    /// A meeting point remembered from an earlier session.
    Route,
    /// Another peer of the same meeting.
    Peer,
    /// The meeting point of a coordinator: a peer that introduced or relayed before, or a seeder.
    Coordinator,
}

impl FoundBy {
    /// Returns its name, as `--json` prints it.
    pub fn name(self) -> &'static str {
        match self {
            FoundBy::Signal => "signal",
            FoundBy::Own => "own",
            FoundBy::Lan => "lan",
            FoundBy::Route => "route",
            FoundBy::Peer => "peer",
            FoundBy::Coordinator => "coordinator",
        }
    }

    /// Returns the step of the ladder that it belongs to.
    pub fn step(self) -> LadderStep {
        match self {
            FoundBy::Signal => LadderStep::Signal,
            FoundBy::Own | FoundBy::Lan => LadderStep::Lan,
            FoundBy::Route => LadderStep::Routes,
            FoundBy::Peer => LadderStep::Peers,
            FoundBy::Coordinator => LadderStep::Coordinators,
        }
    }
}

/// What a node does right now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NodeStatus {
    /// Sessions, oldest first.
    pub sessions: Vec<SessionStatus>,
    /// Meeting points: signal servers, the own one, those of the local network and remembered ones.
    pub signal: Vec<SignalStatus>,
    /// Sessions that opened since the start, by how the peer was found.
    pub found: BTreeMap<FoundBy, u64>,
    /// What came of each step of the ladder since the start, in their order.
    pub ladder: Vec<LadderStatus>,
    /// The sessions that are kept, by how they are.
    pub pool: PoolStatus,
    /// The local network, where it is looked at.
    pub lan: Option<LanStatus>,
    /// Topics joined.
    pub topics: Vec<TopicStatus>,
    /// Peers seen or connected, by what they are met by.
    pub peers: Vec<PeerStatus>,
    /// What this node does for others.
    pub relay: RelayStatus,
    /// Feeds the replicator knows.
    pub feeds: Vec<FeedStatus>,
}

/// What is counted of a node, for whoever watches it. Counts are since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NodeMetrics {
    /// Sessions, oldest first.
    pub sessions: Vec<SessionStatus>,
    /// Connecting to peers (R187).
    pub connects: ConnectStatus,
    /// Blocks that came and went.
    pub replication: ReplicationStatus,
}

/// What replication has done since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReplicationStatus {
    /// How long appends took to the first connected peer that takes what is appended (R188).
    pub delivered: HistogramStatus,
    /// Appends that none of them had after a minute.
    pub missed: u64,
    /// Blocks of peers that were stored.
    pub blocks_in: u64,
    /// Blocks sent to peers.
    pub blocks_out: u64,
    /// Messages of data that were not asked for and may not come so.
    pub unsolicited: u64,
}

/// The sessions with peers that were met, and how many are kept.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PoolStatus {
    /// Sessions that are used most, or carry something.
    pub active: usize,
    /// Sessions that are kept alive.
    pub standby: usize,
    /// Peers remembered whose session was one too many.
    pub remembered: usize,
    /// Sessions closed as too many since the start.
    pub closed: u64,
    /// The limits of the first three.
    pub active_max: usize,
    /// See [`active_max`](Self::active_max).
    pub standby_max: usize,
    /// See [`active_max`](Self::active_max).
    pub remembered_max: usize,
}

/// What came of one step of the ladder, over all topics.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LadderStatus {
    /// The step.
    pub step: LadderStep,
    /// Attempts to connect to somebody whom it showed.
    pub tries: u64,
    /// Those that led to a session.
    pub successes: u64,
    /// Milliseconds from attempt to session, on average.
    pub mean_ms: Option<u64>,
    /// The same, of the last one.
    pub last_ms: Option<u64>,
}

/// What became of one step for one topic.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StepStatus {
    /// The step.
    pub step: LadderStep,
    /// What became of it.
    pub state: StepState,
    /// Peers that it shows now; for sessions, those that are open.
    pub shown: usize,
    /// Milliseconds from the beginning of the search until it was asked.
    pub asked_ms: Option<u64>,
    /// Milliseconds from then until all who were asked had answered, or could not be reached.
    pub took_ms: Option<u64>,
    /// Milliseconds from the beginning of the search until it had led to a session.
    pub connected_ms: Option<u64>,
    /// Attempts to connect to somebody whom it showed.
    pub tries: u64,
    /// Those that led to a session.
    pub successes: u64,
}

/// One peer of one meeting.
#[derive(Clone, Debug, Serialize)]
pub struct PeerStatus {
    /// What it is met by.
    #[serde(serialize_with = "label_name")]
    pub label: Label,
    /// The key of that, z-base-32.
    pub key: String,
    /// By what it is known, z-base-32: its Noise static, which is another after a restart, or before it was connected to its
    /// client key of a signal server.
    pub peer: String,
    /// How far it is with it.
    pub state: PeerState,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// The session with it, if one is open.
    pub session: Option<u64>,
    /// The other side's device key, z-base-32, when it showed a certificate, or whoever introduces says so.
    pub device: Option<String>,
    /// Whoever is connected with it, z-base-32 as `peer`, where whoever shows it is not.
    pub beyond: Option<String>,
    /// Who shows it: URLs of signal servers, and `peer N`, N the number of a session.
    pub introduced_by: Vec<String>,
    /// Who relays the session, if somebody does: "online via".
    pub via: Option<ViaStatus>,
}

/// Who relays a session.
#[derive(Clone, Debug, Serialize)]
pub struct ViaStatus {
    /// The session with the relay.
    pub session: u64,
    /// The relay's device key, z-base-32, when it showed a certificate.
    pub device: Option<String>,
}

/// What a node does for others.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RelayStatus {
    /// It relays, as configured.
    pub relays: bool,
    /// Offers, answers and candidates handed on.
    pub introductions: u64,
    /// Signals and queries dropped, as one peer sent too many.
    pub surplus: u64,
    /// Circuits that are open.
    pub circuits: usize,
    /// Bytes of content handed on by circuits, sealed between their ends.
    pub circuit_bytes: u64,
    /// Circuits refused or closed, as a limit was reached.
    pub circuits_refused: u64,
}

/// One session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    /// Its number.
    pub id: u64,
    /// What the peers met by.
    #[serde(serialize_with = "label_name")]
    pub label: Label,
    /// The key they met by, z-base-32.
    pub key: String,
    /// The other side's device key, z-base-32, when it showed a certificate.
    pub device: Option<String>,
    /// How the peer was found; nothing where the caller made the link.
    pub found_by: Option<FoundBy>,
    /// URL of the meeting point at which it was met, or `peer N`, N the number of the session with whoever introduced it.
    pub met_at: Option<String>,
    /// Kind of link.
    pub transport: Transport,
    /// The candidate pair ICE selected.
    pub path: Option<IcePath>,
    /// Who relays it, if somebody does.
    pub via: Option<ViaStatus>,
    /// `connecting`, `handshake`, `open` or `plain`.
    pub state: String,
    /// What it is in the pool; nothing where the caller made the link.
    pub standing: Option<Standing>,
    /// Associations with the peer: one, or on a long or lossy way several while much is carried.
    pub associations: usize,
    /// Shortest round trip measured, in milliseconds, where the peer says numbers back.
    pub round_trip_ms: Option<u64>,
    /// Feeds with an open channel, z-base-32.
    pub feeds: Vec<String>,
    /// Bytes received, counted at the link.
    pub bytes_in: u64,
    /// Bytes sent, counted at the link.
    pub bytes_out: u64,
    /// Messages received, counted at the link.
    pub messages_in: u64,
    /// Bytes received per second, over the last seconds.
    pub rate_in: u64,
    /// Bytes sent per second, over the last seconds.
    pub rate_out: u64,
    /// Seconds since the link opened.
    pub since_s: u64,
}

/// The own meeting point and what is seen of others on the local network.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct LanStatus {
    /// Port of the own meeting point.
    pub port: Option<u16>,
    /// What others are told the own meeting point is reached by.
    pub urls: Vec<String>,
    /// Other nodes seen on the local network now.
    pub neighbours: usize,
    /// On how many other machines they are; processes of this one are none.
    pub machines: usize,
    /// Why the local network shows nobody, where it cannot.
    pub trouble: Option<String>,
}

/// One meeting point.
#[derive(Clone, Debug, Serialize)]
pub struct SignalStatus {
    /// Its URL.
    pub url: String,
    /// How it is known.
    pub found_by: FoundBy,
    /// Connected and greeted.
    pub connected: bool,
    /// Why not, when not.
    pub reason: Option<String>,
    /// Milliseconds from the loss to the next try.
    pub retry_in_ms: Option<u64>,
}

/// One topic.
#[derive(Clone, Debug, Serialize)]
pub struct TopicStatus {
    /// Its label.
    #[serde(serialize_with = "label_name")]
    pub label: Label,
    /// Its key, z-base-32.
    pub key: String,
    /// Peers seen there now, over all servers and periods.
    pub peers_seen: usize,
    /// Sessions that came of it and are open.
    pub sessions: usize,
    /// Periods it is joined in: two round a roll, three while nobody was found.
    pub periods: usize,
    /// How far it is with whoever is nearest there; store-forward where nobody is reached.
    pub state: PeerState,
    /// Why nobody is reached, where it is so.
    pub why: Option<String>,
    /// The steps of the ladder, in their order.
    pub steps: Vec<StepStatus>,
}

/// One feed.
#[derive(Clone, Debug, Serialize)]
pub struct FeedStatus {
    /// Its key, z-base-32.
    pub key: String,
    /// Its length, signed and held.
    pub length: u64,
    /// The longest length a connected peer says it has.
    pub remote_length: u64,
    /// A connected peer is on a higher fork: its head is to be followed there first.
    pub fork_ahead: bool,
    /// Blocks wanted at that length.
    pub blocks_wanted: u64,
    /// Blocks held of those wanted.
    pub blocks_held: u64,
    /// Blocks asked for and not yet stored.
    pub blocks_in_flight: u64,
    /// Connected peers with this feed.
    pub peers: usize,
    /// Those of them that take what we append before they ask for it.
    pub peers_taking_pushes: usize,
    /// Blocks that connected peers sent before they were asked for, as they may.
    pub blocks_pushed: u64,
}

impl LadderStatus {
    pub(super) fn new(step: LadderStep, tally: &Tally) -> Self {
        let mean = tally.took.as_millis().checked_div(tally.successes.into());
        let last = (tally.successes > 0).then(|| milliseconds(tally.took_last));
        LadderStatus {
            step,
            tries: tally.tries,
            successes: tally.successes,
            mean_ms: mean.map(|mean| u64::try_from(mean).unwrap_or(u64::MAX)),
            last_ms: last,
        }
    }
}

impl From<StepView> for StepStatus {
    fn from(view: StepView) -> Self {
        StepStatus {
            step: view.step,
            state: view.state,
            shown: view.shown,
            asked_ms: view.asked.map(milliseconds),
            took_ms: view.took.map(milliseconds),
            connected_ms: view.connected.map(milliseconds),
            tries: view.tries,
            successes: view.successes,
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
