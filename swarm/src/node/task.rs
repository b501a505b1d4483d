//! The node's task: the one owner of topics, introductions and sessions.
//!
//! It waits for wishes of the agent, events of signal servers, ends of attempts to connect, and
//! reports of sessions, news of the local network; it asks the host and tells everybody what to do. It never waits for a
//! session or a server. [`points`] keeps the places to meet at, [`meeting`] leads from a topic to a link, [`session`] from a link
//! to its end.

mod meeting;
mod mesh;
mod moved;
mod points;
mod pooling;
mod relaying;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;

use kinlog_signal::ClientEvent;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::{AbortHandle, JoinHandle};

use super::bans::Bans;
use super::circuits::Circuits;
use super::desired::Desired;
use super::introducer::Introducer;
use super::introductions::{Introductions, MeetingKey, PeerPath};
use super::ladder::LadderStep;
use super::own_addresses::OwnAddresses;
use super::pool::Pool;
use super::sessions::Sessions;
use super::signalling::Signalling;
use super::status::FoundBy;
use super::told_servers::ToldServers;
use super::{
    Host, LadderStatus, NodeConfig, NodeError, NodeEvent, NodeMetrics, NodeStatus, Request,
    StepStatus, TopicStatus,
};
use crate::clock::Clock;
use crate::lan::LanNews;
use crate::limits::{FURTHER_ASSOCIATIONS_MAX, REPORTS_QUEUED_MAX, TICK};
use crate::link::LinkError;
use crate::link::webrtc::{FromPeer, WebrtcLink, WebrtcSettings};
use crate::message_log::MessageLog;
use crate::replication;
use crate::session::{Command, Report, SessionError, SessionId, SessionRole};
use points::Points;
pub(in crate::node) use points::signal_url;

/// What a task is made of.
pub(super) struct Parts {
    pub(super) config: NodeConfig,
    pub(super) clock: Clock,
    pub(super) host: Arc<dyn Host>,
    pub(super) desired: Arc<Desired>,
    pub(super) events: broadcast::Sender<NodeEvent>,
    pub(super) replication: replication::Sender,
    /// Ends when nothing touches the store any more.
    pub(super) replicating: JoinHandle<()>,
    pub(super) message_log: Option<MessageLog>,
}

/// How an attempt to connect ended.
struct Attempted {
    path: PeerPath,
    attempt: u64,
    role: SessionRole,
    result: Result<WebrtcLink, LinkError>,
}

/// An attempt to connect that runs.
#[derive(Debug)]
struct Running {
    attempt: u64,
    signals: mpsc::Sender<FromPeer>,
    abort: AbortHandle,
}

/// The task's state.
pub(super) struct Task {
    parts: Parts,
    webrtc: WebrtcSettings,
    ice_servers: ToldServers,
    own_addresses: OwnAddresses,
    signalling: Signalling,
    points: Points,
    /// Sessions that opened, by how the peer was found.
    found: BTreeMap<FoundBy, u64>,
    introductions: Introductions,
    introducer: Introducer,
    /// What is relayed for others.
    circuits: Circuits,
    /// What others relay.
    relayed: relaying::RelayedSessions,
    bans: Bans,
    sessions: Sessions,
    pool: Pool,
    running: BTreeMap<PeerPath, Running>,
    statics: BTreeMap<MeetingKey, [u8; 32]>,
    signal_events: mpsc::Receiver<(usize, ClientEvent)>,
    lan_news: mpsc::Receiver<LanNews>,
    attempted: mpsc::Receiver<Attempted>,
    attempted_sender: mpsc::Sender<Attempted>,
    reports: mpsc::Receiver<(SessionId, Report)>,
    reports_sender: mpsc::Sender<(SessionId, Report)>,
    /// Further associations that sessions may make yet.
    associations: Arc<Semaphore>,
}

impl Task {
    pub(super) fn new(parts: Parts) -> Result<Self, NodeError> {
        let (signal_sender, signal_events) = mpsc::channel(REPORTS_QUEUED_MAX);
        let (attempted_sender, attempted) = mpsc::channel(REPORTS_QUEUED_MAX);
        let (reports_sender, reports) = mpsc::channel(REPORTS_QUEUED_MAX);
        let secret = parts.config.device_secret.clone();
        let mut signalling = Signalling::new(secret, signal_sender);
        let (points, lan_news) = Points::start(&parts.config, &mut signalling)?;
        Ok(Task {
            webrtc: WebrtcSettings {
                stun_urls: parts.config.stun_urls.clone(),
                bind: parts.config.bind.clone(),
                udp_socket_buffer_bytes: parts.config.udp_socket_buffer_bytes,
                told: parts.config.told.clone(),
                servers: Vec::new(),
                relay_only: parts.config.relay_only,
                contacts: parts.config.contacts.clone(),
                patience: None,
            },
            ice_servers: ToldServers::default(),
            own_addresses: OwnAddresses::default(),
            signalling,
            points,
            found: BTreeMap::new(),
            introductions: Introductions::new(u64::from_le_bytes(random()?)),
            introducer: Introducer::default(),
            circuits: Circuits::new(parts.config.relays),
            relayed: relaying::RelayedSessions::default(),
            bans: Bans::default(),
            sessions: Sessions::default(),
            pool: Pool::new(parts.config.pool),
            running: BTreeMap::new(),
            statics: BTreeMap::new(),
            signal_events,
            lan_news,
            attempted,
            attempted_sender,
            reports,
            reports_sender,
            associations: Arc::new(Semaphore::new(FURTHER_ASSOCIATIONS_MAX)),
            parts,
        })
    }

    /// Returns the port of the own meeting point.
    pub(super) fn meeting_port(&self) -> Option<u16> {
        self.points.port()
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.clean_up();
            self.introduce();
            self.tell_found();
            self.relay();
            self.tell_changes();
            let next = [
                self.next_introduction(),
                self.introducer.poll_timeout(),
                self.circuits.poll_timeout(),
                self.pool.poll_timeout(),
            ];
            let next = next.into_iter().flatten().min();
            tokio::select! {
                () = self.parts.desired.changed() => {
                    if self.apply_wishes().await {
                        break;
                    }
                }
                Some((server, event)) = self.signal_events.recv() => {
                    self.handle_signal_event(server, event);
                }
                Some(news) = self.lan_news.recv() => self.handle_lan_news(news),
                Some(attempted) = self.attempted.recv() => self.handle_attempted(attempted).await,
                Some((id, report)) = self.reports.recv() => self.handle_report(id, report).await,
                Some(request) = requests.recv() => self.handle_request(request).await,
                _ = tick.tick() => {
                    self.handle_tick();
                    self.look_at_addresses().await;
                }
                () = self.parts.clock.sleep_until(next) => {}
            }
        }
        drop(requests);
        self.stop().await;
    }

    async fn stop(self) {
        for running in self.running.values() {
            running.abort.abort();
        }
        // Nobody reads reports any more; sessions end all the same.
        drop(self.reports);
        // Before the news are dropped, which would end it too, and unheard. It waits for nothing else.
        drop(self.lan_news);
        let leaving = self.points.close();
        let mut ending = Vec::new();
        for entry in self.sessions.entries.into_values() {
            // A session that ends already needs no command.
            let _ = entry.commands.send(Command::Close(SessionError::Closed));
            self.parts.host.handle_session_closed(&entry.info);
            ending.push(entry.task);
        }
        leaving.await;
        for task in ending {
            let _ = task.await;
        }
        drop(self.parts.replication);
        let _ = self.parts.replicating.await;
    }

    /// Brings about what the agent wishes; returns whether it wishes to stop.
    async fn apply_wishes(&mut self) -> bool {
        let wishes = self.parts.desired.take();
        if wishes.stop {
            return true;
        }
        self.apply_points(&wishes);
        if let Some(pool) = wishes.pool {
            self.pool.set_config(pool);
        }
        for (key, blocks) in wishes.watches {
            self.parts.replication.watch(key, blocks).await;
        }
        for (key, pushes) in wishes.pushes {
            self.parts.replication.set_pushes(key, pushes).await;
        }
        for (key, interest) in wishes.interests {
            self.parts.replication.set_interest(key, interest).await;
        }
        for key in wishes.appended {
            self.parts.replication.appended(key).await;
        }
        for key in wishes.stored {
            self.parts.replication.stored(key).await;
        }
        for id in wishes.closed {
            self.sessions.close(id, SessionError::Closed);
        }
        if let Some(except) = wishes.publish_own {
            self.parts.replication.publish_own(except).await;
        }
        self.apply_topics(wishes.topics.into_iter());
        if wishes.refresh {
            for id in self.sessions.entries.keys().copied().collect::<Vec<_>>() {
                self.set_feeds(id).await;
            }
        }
        false
    }

    fn apply_topics(&mut self, wanted: impl Iterator<Item = MeetingKey>) {
        let now = self.parts.clock.now();
        let introductions = &self.introductions;
        let left = self
            .signalling
            .apply(now, wanted, |topics| introductions.peers_in(topics));
        for (server, topic) in left {
            self.introductions.handle_topic_left(server, topic);
        }
        self.tell_ladder();
    }

    /// Tells the ladder what is wanted, and who can be asked.
    fn tell_ladder(&mut self) {
        let now = self.parts.clock.now();
        let wanted = self.signalling.meetings().copied().collect();
        let points = self.signalling.steps();
        self.introductions.handle_wanted(now, &wanted, points);
    }

    fn handle_tick(&mut self) {
        let now = self.parts.clock.now();
        self.sessions.measure(now);
        self.note_traffic(now);
        self.look_further(now);
        let wanted: Vec<MeetingKey> = self.signalling.meetings().copied().collect();
        self.apply_topics(wanted.into_iter());
        let introductions = &self.introductions;
        let empty = self
            .signalling
            .empty_meetings(now, |key| usize::from(!introductions.is_alone(key)));
        for event in empty {
            self.tell(event);
        }
    }

    async fn handle_request(&mut self, request: Request) {
        match request {
            Request::Send { session, message } => {
                self.pool.handle_use(self.parts.clock.now(), session);
                self.sessions.command(session, Command::Host(message));
            }
            Request::Ping { session, reply } => {
                self.pool.handle_use(self.parts.clock.now(), session);
                if self.sessions.is_open(session) {
                    self.sessions.command(session, Command::Ping(reply));
                }
            }
            Request::Status { reply } => {
                let status = self.status().await;
                // Whoever asked may have gone meanwhile.
                let _ = reply.send(status);
            }
            Request::Metrics { reply } => {
                let _ = reply.send(self.metrics().await);
            }
            Request::IceServers { reply } => {
                let _ = reply.send(self.ice_servers.usable(self.parts.clock.now()));
            }
            Request::Get {
                key,
                block,
                wait,
                reply,
            } => self.parts.replication.get(key, block, wait, reply).await,
            Request::Holders { key, blocks, reply } => {
                self.parts.replication.holders(key, blocks, reply).await;
            }
            Request::Plain { link, reply } => {
                let result = self.start_plain(link).await;
                let _ = reply.send(result);
            }
            Request::Attach { link, reply } => {
                let result = self.start_attached(link).await;
                let _ = reply.send(result);
            }
        }
    }

    async fn metrics(&self) -> NodeMetrics {
        NodeMetrics {
            sessions: self.sessions_status(self.parts.clock.now()).await,
            connects: self.introductions.connects().status(),
            replication: self.parts.replication.counts().await,
        }
    }

    async fn status(&self) -> NodeStatus {
        let now = self.parts.clock.now();
        let topics = self.signalling.meetings().map(|meeting| {
            let climb = self.introductions.climb(now, meeting);
            TopicStatus {
                label: meeting.0,
                key: kinlog_feeds::text::encode(&meeting.1),
                peers_seen: self.introductions.peers_seen(meeting),
                sessions: self.sessions.of_meeting(meeting),
                periods: self.signalling.topics_joined(meeting),
                state: climb.state,
                why: climb.why,
                steps: climb.steps.into_iter().map(StepStatus::from).collect(),
            }
        });
        let ladder = LadderStep::FINDING.map(|step| {
            let tally = self.introductions.tally(step);
            LadderStatus::new(step, &tally)
        });
        NodeStatus {
            topics: topics.collect(),
            sessions: self.sessions_status(now).await,
            pool: self.pool_status(now),
            ladder: ladder.into(),
            signal: self.signalling.status(),
            found: self.found.clone(),
            lan: self.points.status(),
            peers: self.peers_status(),
            relay: self.relay_status(),
            feeds: self.parts.replication.status().await,
        }
    }

    /// Returns what connections have in common, with the servers that are told now.
    fn webrtc_settings(&self) -> WebrtcSettings {
        WebrtcSettings {
            servers: self.ice_servers.usable(self.parts.clock.now()),
            ..self.webrtc.clone()
        }
    }

    fn tell(&self, event: NodeEvent) {
        // Nobody has to listen.
        let _ = self.parts.events.send(event);
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], NodeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| NodeError::Random {
        reason: error.to_string(),
    })?;
    Ok(bytes)
}
