//! The node's task: the one owner of topics, introductions and sessions.
//!
//! It waits for wishes of the agent, events of signal servers, ends of attempts to connect, and
//! reports of sessions; it asks the host and tells everybody what to do. It never waits for a
//! session or a server.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kinlog_feeds::limits::PLAIN_SESSIONS_MAX;
use kinlog_signal::{ClientEvent, SignalKind, Topic};
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;

use super::bans::Bans;
use super::desired::Desired;
use super::introductions::{Action, Introductions, MeetingKey, PeerPath};
use super::negotiate::{Attempt, FromPeer};
use super::plain::PlainLink;
use super::sessions::{Entry, Handshake, Rate, Sessions};
use super::signalling::Signalling;
use super::{
    Attached, Host, NodeConfig, NodeError, NodeEvent, NodeStatus, Request, Step, TopicStatus,
};
use crate::clock::Clock;
use crate::limits::{NEGOTIATION_SIGNALS_MAX, REPORTS_QUEUED_MAX, SESSIONS_MAX, TICK};
use crate::link::webrtc::{self, WebrtcLink, WebrtcSettings};
use crate::link::{Fingerprints, Link, LinkError, Transport};
use crate::message_log::MessageLog;
use crate::replication;
use crate::session::{
    Certificate, Command, Driver, Label, LinkBinding, Meeting, Report, Session, SessionConfig,
    SessionError, SessionId, SessionInfo, SessionRole,
};

/// What a task is made of.
pub(super) struct Parts {
    pub(super) config: NodeConfig,
    pub(super) clock: Clock,
    pub(super) host: Arc<dyn Host>,
    pub(super) desired: Arc<Desired>,
    pub(super) events: broadcast::Sender<NodeEvent>,
    pub(super) replication: replication::Sender,
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
    signalling: Signalling,
    introductions: Introductions,
    bans: Bans,
    sessions: Sessions,
    running: BTreeMap<PeerPath, Running>,
    statics: BTreeMap<MeetingKey, [u8; 32]>,
    signal_events: mpsc::Receiver<(usize, ClientEvent)>,
    attempted: mpsc::Receiver<Attempted>,
    attempted_sender: mpsc::Sender<Attempted>,
    reports: mpsc::Receiver<(SessionId, Report)>,
    reports_sender: mpsc::Sender<(SessionId, Report)>,
}

impl Task {
    pub(super) fn new(parts: Parts) -> Result<Self, NodeError> {
        let (signal_sender, signal_events) = mpsc::channel(REPORTS_QUEUED_MAX);
        let (attempted_sender, attempted) = mpsc::channel(REPORTS_QUEUED_MAX);
        let (reports_sender, reports) = mpsc::channel(REPORTS_QUEUED_MAX);
        let secret = parts.config.device_secret.clone();
        Ok(Task {
            webrtc: WebrtcSettings {
                stun_urls: parts.config.stun_urls.clone(),
                bind: parts.config.bind.clone(),
            },
            signalling: Signalling::start(secret, &parts.config.signal_urls, &signal_sender)?,
            introductions: Introductions::new(u64::from_le_bytes(random()?)),
            bans: Bans::default(),
            sessions: Sessions::default(),
            running: BTreeMap::new(),
            statics: BTreeMap::new(),
            signal_events,
            attempted,
            attempted_sender,
            reports,
            reports_sender,
            parts,
        })
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.introduce();
            let introductions = self.introductions.poll_timeout();
            tokio::select! {
                () = self.parts.desired.changed() => {
                    if self.apply_wishes().await {
                        break;
                    }
                }
                Some((server, event)) = self.signal_events.recv() => {
                    self.handle_signal_event(server, event);
                }
                Some(attempted) = self.attempted.recv() => self.handle_attempted(attempted).await,
                Some((id, report)) = self.reports.recv() => self.handle_report(id, report).await,
                Some(request) = requests.recv() => self.handle_request(request).await,
                _ = tick.tick() => self.handle_tick(),
                () = self.parts.clock.sleep_until(introductions) => {}
            }
        }
        drop(requests);
        self.stop().await;
    }

    async fn stop(mut self) {
        for running in self.running.values() {
            running.abort.abort();
        }
        for (id, entry) in std::mem::take(&mut self.sessions.entries) {
            // A session that ends already needs no command.
            let _ = entry.commands.send(Command::Close(SessionError::Closed));
            self.parts.host.handle_session_closed(&entry.info);
            tracing::debug!(session = id.0, "closed by shutdown");
            // Its reports have no reader any more; it ends all the same.
            self.reports.close();
            let _ = entry.task.await;
        }
    }

    /// Brings about what the agent wishes; returns whether it wishes to stop.
    async fn apply_wishes(&mut self) -> bool {
        let wishes = self.parts.desired.take();
        if wishes.stop {
            return true;
        }
        for (key, interest) in wishes.interests {
            self.parts.replication.set_interest(key, interest).await;
        }
        for key in wishes.appended {
            self.parts.replication.appended(key).await;
        }
        self.apply_topics(wishes.topics.into_iter());
        if wishes.refresh {
            for id in self.sessions.entries.keys().copied().collect::<Vec<_>>() {
                self.set_feeds(id);
            }
        }
        false
    }

    fn apply_topics(&mut self, wanted: impl Iterator<Item = MeetingKey>) {
        let now = self.parts.clock.now();
        let introductions = &self.introductions;
        let left = self
            .signalling
            .apply(now, wanted, |key| introductions.peers_seen(key));
        for (server, topic) in left {
            self.introductions.handle_topic_left(server, topic);
        }
    }

    fn handle_tick(&mut self) {
        let now = self.parts.clock.now();
        self.sessions.measure(now);
        let wanted: Vec<MeetingKey> = self.signalling.meetings().copied().collect();
        self.apply_topics(wanted.into_iter());
        let introductions = &self.introductions;
        let empty = self
            .signalling
            .empty_meetings(now, |key| introductions.peers_seen(key));
        for event in empty {
            self.tell(event);
        }
    }

    async fn handle_request(&mut self, request: Request) {
        match request {
            Request::Send { session, message } => {
                self.sessions.command(session, Command::Host(message));
            }
            Request::Status { reply } => {
                let status = self.status().await;
                // Whoever asked may have gone meanwhile.
                let _ = reply.send(status);
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

    async fn status(&self) -> NodeStatus {
        let topics = self.signalling.meetings().map(|meeting| TopicStatus {
            label: meeting.0,
            key: kinlog_feeds::text::encode(&meeting.1),
            peers_seen: self.introductions.peers_seen(meeting),
            sessions: self.sessions.of_meeting(meeting),
            periods: self.signalling.topics_joined(meeting),
        });
        NodeStatus {
            topics: topics.collect(),
            sessions: self.sessions.status(self.parts.clock.now()).await,
            signal: self.signalling.status(),
            feeds: self.parts.replication.status().await,
        }
    }

    // Introductions.

    fn handle_signal_event(&mut self, server: usize, event: ClientEvent) {
        let now = self.parts.clock.now();
        match event {
            ClientEvent::Connected => {
                self.tell(NodeEvent::SignalConnected {
                    url: self.signalling.url(server),
                });
            }
            ClientEvent::Disconnected { reason, retry_in } => {
                self.introductions.handle_server_lost(server);
                let retry_in_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
                let url = self.signalling.url(server);
                self.tell(NodeEvent::StepFailed {
                    step: Step::SignalUnreachable {
                        url,
                        reason,
                        retry_in_ms,
                    },
                });
            }
            ClientEvent::Joined { topic, peers } => {
                self.signalling.has_entered(now, &topic);
                let (Some(meeting), Some(own)) = (
                    self.signalling.meeting(&topic),
                    self.signalling.own_key(server, &topic),
                ) else {
                    return;
                };
                let own = own.public_key();
                let bans = &self.bans;
                let peers: Vec<_> = peers
                    .into_iter()
                    .filter(|peer| !bans.is_banned(now, &peer.0))
                    .collect();
                self.introductions
                    .handle_joined(now, server, topic, meeting, own, &peers);
            }
            ClientEvent::PeerJoined { topic, peer } => {
                let (Some(meeting), Some(own)) = (
                    self.signalling.meeting(&topic),
                    self.signalling.own_key(server, &topic),
                ) else {
                    return;
                };
                if !self.bans.is_banned(now, &peer.0) {
                    let path = PeerPath {
                        server,
                        topic,
                        peer,
                    };
                    let own = own.public_key();
                    self.introductions
                        .handle_peer_joined(now, path, meeting, own);
                }
            }
            ClientEvent::PeerLeft { topic, peer } => {
                self.introductions.handle_peer_left(PeerPath {
                    server,
                    topic,
                    peer,
                });
            }
            ClientEvent::Signal {
                topic,
                from,
                kind,
                body,
            } => {
                if !self.bans.is_banned(now, &from.0) {
                    let path = PeerPath {
                        server,
                        topic,
                        peer: from,
                    };
                    self.handle_signal(path, kind, body);
                }
            }
            ClientEvent::Refused(refusal) => tracing::debug!(?refusal, "signal server refuses"),
            _ => {}
        }
    }

    fn handle_signal(&mut self, path: PeerPath, kind: SignalKind, body: Bytes) {
        let now = self.parts.clock.now();
        let Some(attempt) = webrtc::attempt_of(&body) else {
            return;
        };
        match kind {
            SignalKind::Offer => self.handle_offer(path, attempt, body),
            SignalKind::Answer => self.pass_on(&path, attempt, FromPeer::Answer(body)),
            SignalKind::Candidate if webrtc::is_knock(&body) => {
                self.introductions.handle_knock(now, path);
            }
            SignalKind::Candidate => {
                if self.introductions.handle_candidate(now, path, attempt) {
                    self.pass_on(&path, attempt, FromPeer::Candidate(body));
                }
            }
        }
    }

    fn handle_offer(&mut self, path: PeerPath, attempt: u64, offer: Bytes) {
        let (Some(meeting), Some(own)) = (
            self.signalling.meeting(&path.topic),
            self.own_public(path.server, &path.topic),
        ) else {
            return;
        };
        let full = self.sessions.entries.len() >= SESSIONS_MAX;
        if full || !self.introductions.handle_offer(path, meeting, own, attempt) {
            return;
        }
        self.start_attempt(path, attempt, Some(offer));
    }

    fn pass_on(&mut self, path: &PeerPath, attempt: u64, signal: FromPeer) {
        if let Some(running) = self.running.get(path)
            && running.attempt == attempt
        {
            // A peer that floods its own attempt loses what does not fit.
            let _ = running.signals.try_send(signal);
        }
    }

    /// Carries out what introductions are due.
    fn introduce(&mut self) {
        let now = self.parts.clock.now();
        if self.sessions.entries.len() >= SESSIONS_MAX {
            return;
        }
        while let Some(action) = self.introductions.poll_action(now) {
            match action {
                Action::Offer { path, attempt } => self.start_attempt(path, attempt, None),
                Action::Knock { path } => {
                    let Some(client) = self.signalling.client(path.server) else {
                        continue;
                    };
                    let body = webrtc::knock();
                    if let Err(error) =
                        client.send(path.topic, path.peer, SignalKind::Candidate, body)
                    {
                        tracing::debug!(%error, "knock not sent");
                    }
                }
            }
        }
    }

    fn start_attempt(&mut self, path: PeerPath, attempt: u64, offer: Option<Bytes>) {
        let Some(client) = self.signalling.client(path.server).cloned() else {
            return;
        };
        let (signals, incoming) = mpsc::channel(NEGOTIATION_SIGNALS_MAX);
        let settings = self.webrtc.clone();
        let work = Attempt {
            path,
            attempt,
            client,
            settings,
            incoming,
        };
        let done = self.attempted_sender.clone();
        let task = tokio::spawn(async move {
            let (role, result) = match offer {
                None => (SessionRole::Initiator, work.offer().await),
                Some(offer) => (SessionRole::Responder, work.answer(offer).await),
            };
            // Nobody waits for it once the node has stopped.
            let _ = done
                .send(Attempted {
                    path,
                    attempt,
                    role,
                    result,
                })
                .await;
        });
        let running = Running {
            attempt,
            signals,
            abort: task.abort_handle(),
        };
        if let Some(older) = self.running.insert(path, running) {
            older.abort.abort();
        }
    }

    async fn handle_attempted(&mut self, attempted: Attempted) {
        let Attempted {
            path,
            attempt,
            role,
            result,
        } = attempted;
        if self
            .running
            .get(&path)
            .is_some_and(|running| running.attempt == attempt)
        {
            self.running.remove(&path);
        }
        let now = self.parts.clock.now();
        let meeting = self.signalling.meeting(&path.topic);
        match (result, meeting) {
            (Ok(link), Some(meeting)) if self.introductions.is_current(&path, attempt) => {
                match self.start_session(link, path, role, meeting).await {
                    Ok(id) => self.introductions.handle_session(path, id),
                    Err(error) => tracing::error!(%error, "session not started"),
                }
            }
            // Superseded by a newer attempt, or the topic was left: the link closes as it drops.
            (Ok(link), _) => drop(tokio::spawn(async move { link.close().await })),
            (Err(error), meeting) => {
                tracing::debug!(%error, attempt, "no connection");
                if let Some((label, key)) = meeting
                    && self.introductions.is_current(&path, attempt)
                {
                    let reason = error.to_string();
                    self.tell(NodeEvent::StepFailed {
                        step: Step::NotConnected { label, key, reason },
                    });
                }
                self.introductions.handle_failed(now, path, attempt);
            }
        }
    }

    // Sessions.

    async fn start_session(
        &mut self,
        link: WebrtcLink,
        path: PeerPath,
        role: SessionRole,
        meeting: MeetingKey,
    ) -> Result<SessionId, NodeError> {
        let (label, key) = meeting;
        let ice = link.path().await.ice;
        let info = SessionInfo {
            id: self.sessions.next_id(),
            label,
            key,
            role,
            remote_certificate: None,
            transport: Transport::Webrtc,
            path: ice,
            plain: false,
        };
        let meeting = Meeting::Topic { label, key };
        self.spawn_session(Arc::new(link), info, meeting, Some(path), None)
            .await
    }

    async fn start_attached(&mut self, attached: Attached) -> Result<SessionId, NodeError> {
        if self.sessions.entries.len() >= SESSIONS_MAX {
            return Err(NodeError::TooManySessions { max: SESSIONS_MAX });
        }
        let Attached {
            link,
            label,
            key,
            role,
        } = attached;
        let path = link.path().await;
        let info = SessionInfo {
            id: self.sessions.next_id(),
            label,
            key,
            role,
            remote_certificate: None,
            transport: path.transport,
            path: path.ice,
            plain: false,
        };
        self.spawn_session(link, info, Meeting::Topic { label, key }, None, None)
            .await
    }

    async fn start_plain(&mut self, plain: PlainLink) -> Result<SessionId, NodeError> {
        if self.sessions.plain() >= PLAIN_SESSIONS_MAX {
            return Err(NodeError::TooManyPlainSessions {
                max: PLAIN_SESSIONS_MAX,
            });
        }
        let PlainLink {
            link,
            role,
            serves,
            wants,
        } = plain;
        let info = SessionInfo {
            id: self.sessions.next_id(),
            label: Label::Feed,
            key: wants
                .first()
                .or(serves.first())
                .map(|key| key.0)
                .unwrap_or_default(),
            role,
            remote_certificate: None,
            transport: Transport::Tcp,
            path: None,
            plain: true,
        };
        let feeds = Some((serves, wants));
        self.spawn_session(Arc::new(link), info, Meeting::Plain, None, feeds)
            .await
    }

    async fn spawn_session(
        &mut self,
        link: Arc<dyn Link>,
        info: SessionInfo,
        meeting: Meeting,
        path: Option<PeerPath>,
        plain_feeds: Option<(Vec<kinlog_feeds::FeedKey>, Vec<kinlog_feeds::FeedKey>)>,
    ) -> Result<SessionId, NodeError> {
        let id = info.id;
        let now = self.parts.clock.now();
        let mut session = Session::new(
            now,
            SessionConfig {
                role: info.role,
                meeting,
                binding: binding(info.role, link.fingerprints()),
                format_revision: self.parts.config.format_revision,
                static_seed: self.static_seed(&info)?,
                ephemeral_seed: random()?,
                stream_header: random()?,
            },
        );
        if let Some((serves, wants)) = plain_feeds {
            // The other side names feeds as soon as it may: they have to be known by then.
            let set = session.set_feeds(serves, wants);
            set.expect("a session that is not open has nothing to send");
        }
        let (commands, receiver) = mpsc::unbounded_channel();
        self.parts.replication.add_peer(id, commands.clone()).await;
        let driver = Driver {
            id,
            clock: self.parts.clock,
            session,
            link: Arc::clone(&link),
            commands: receiver,
            reports: self.reports_sender.clone(),
            replication: self.parts.replication.clone(),
            log: self.parts.message_log.clone(),
        };
        let entry = Entry {
            info,
            path,
            open: false,
            handshake: None,
            feeds: Default::default(),
            link,
            commands,
            task: tokio::spawn(driver.run()),
            since: now,
            rate: Rate::starting_at(now),
        };
        self.sessions.entries.insert(id, entry);
        Ok(id)
    }

    /// The Noise static is fresh for each process and topic: it tells one peer's links apart from
    /// another's, and nothing else.
    fn static_seed(&mut self, info: &SessionInfo) -> Result<[u8; 32], NodeError> {
        if info.plain {
            return random();
        }
        let meeting = (info.label, info.key);
        if let Some(seed) = self.statics.get(&meeting) {
            return Ok(*seed);
        }
        let seed = random()?;
        self.statics.insert(meeting, seed);
        Ok(seed)
    }

    async fn handle_report(&mut self, id: SessionId, report: Report) {
        let now = self.parts.clock.now();
        let Some(entry) = self.sessions.entries.get_mut(&id) else {
            return;
        };
        match report {
            Report::Handshaken {
                hash,
                remote_static,
            } => {
                entry.handshake = Some(Handshake {
                    at: now,
                    hash,
                    remote_static,
                });
            }
            Report::Open => self.handle_open(id).await,
            Report::Certified(certificate) => self.handle_certified(id, certificate),
            Report::Host(message) => {
                let answers = self.parts.host.handle_peer_message(&entry.info, message);
                for answer in answers {
                    let _ = entry.commands.send(Command::Host(answer));
                }
            }
            Report::FeedOpened(key) => {
                entry.feeds.insert(key);
            }
            Report::FeedClosed { key, rejected } => {
                entry.feeds.remove(&key);
                if rejected && entry.info.plain {
                    self.tell(NodeEvent::StepFailed {
                        step: Step::NobodyHas { key },
                    });
                }
            }
            Report::Closed(reason) => self.handle_closed(id, reason),
        }
    }

    async fn handle_open(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.entries.get_mut(&id) else {
            return;
        };
        entry.open = true;
        let info = entry.info.clone();
        if let Some(path) = entry.path {
            self.introductions.handle_session_open(path);
        }
        let replaced = self.sessions.replaced_by(id);
        for other in &replaced {
            self.sessions.close(*other, SessionError::Replaced);
        }
        if replaced.contains(&id) {
            return;
        }
        self.parts.replication.peer_open(id).await;
        self.parts.host.handle_session_open(&info);
        if info.label.is_private()
            && let Some(credentials) = self.parts.host.identity(&info)
        {
            self.sessions.command(id, Command::Certify(credentials));
        }
        self.set_feeds(id);
        self.tell(NodeEvent::SessionOpened { session: info });
    }

    fn handle_certified(&mut self, id: SessionId, certificate: Certificate) {
        let now = self.parts.clock.now();
        if self.bans.is_banned(now, &certificate.device.0) {
            self.sessions.close(id, SessionError::Closed);
            return;
        }
        let Some(entry) = self.sessions.entries.get_mut(&id) else {
            return;
        };
        entry.info.remote_certificate = Some(certificate);
        let info = entry.info.clone();
        self.parts.host.handle_certificate(&info);
        self.set_feeds(id);
    }

    /// Asks the host what a session serves and wants, and tells the session.
    fn set_feeds(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.entries.get(&id) else {
            return;
        };
        // Those of a plain session were given when it was made.
        if !entry.open || entry.info.plain {
            return;
        }
        let serves = self.parts.host.serves(&entry.info);
        let wants = self.parts.host.wants(&entry.info);
        self.sessions
            .command(id, Command::SetFeeds { serves, wants });
    }

    fn handle_closed(&mut self, id: SessionId, reason: SessionError) {
        let Some(entry) = self.sessions.entries.remove(&id) else {
            return;
        };
        let now = self.parts.clock.now();
        tracing::debug!(session = id.0, %reason, "session closed");
        if matches!(reason, SessionError::Violation { ban: true, .. }) {
            if let Some(certificate) = entry.info.remote_certificate {
                self.bans.ban(now, certificate.device.0);
            }
            if let Some(path) = &entry.path {
                self.bans.ban(now, path.peer.0);
                self.introductions.forget(path);
            }
        }
        if let Some(path) = entry.path {
            let other = self.sessions.other_with(id, &path);
            self.introductions
                .handle_session_closed(now, path, id, other);
        }
        if entry.open {
            self.parts.host.handle_session_closed(&entry.info);
            let reason = reason.to_string();
            self.tell(NodeEvent::SessionClosed {
                session: entry.info,
                reason,
            });
        } else if let Some(path) = entry.path {
            let (label, key) = (entry.info.label, entry.info.key);
            tracing::debug!(server = path.server, %reason, "peer did not prove itself");
            let reason = reason.to_string();
            self.tell(NodeEvent::StepFailed {
                step: Step::NotConnected { label, key, reason },
            });
        } else {
            let reason = reason.to_string();
            self.tell(NodeEvent::SessionClosed {
                session: entry.info,
                reason,
            });
        }
    }

    fn own_public(&self, server: usize, topic: &Topic) -> Option<kinlog_feeds::PublicKey> {
        self.signalling
            .own_key(server, topic)
            .map(|key| key.public_key())
    }

    fn tell(&self, event: NodeEvent) {
        // Nobody has to listen.
        let _ = self.parts.events.send(event);
    }
}

/// Returns the fingerprints by role, as both sides of a link name them.
fn binding(role: SessionRole, fingerprints: Option<Fingerprints>) -> LinkBinding {
    match (role, fingerprints) {
        (_, None) => LinkBinding::default(),
        (SessionRole::Initiator, Some(Fingerprints { local, remote })) => LinkBinding {
            initiator: local,
            responder: remote,
        },
        (SessionRole::Responder, Some(Fingerprints { local, remote })) => LinkBinding {
            initiator: remote,
            responder: local,
        },
    }
}

fn random<const N: usize>() -> Result<[u8; N], NodeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| NodeError::Random {
        reason: error.to_string(),
    })?;
    Ok(bytes)
}
