//! From a link to its end: sessions are made, fed with what the host says, and buried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kinlog_feeds::limits::PLAIN_SESSIONS_MAX;
use kinlog_feeds::{FeedKey, PublicKey};
use tokio::sync::mpsc;

use super::{Task, random};
use crate::limits::SESSIONS_MAX;
use crate::link::{Fingerprints, Link, Transport};
use crate::node::introductions::{MeetingKey, PeerPath, Via};
use crate::node::plain::PlainLink;
use crate::node::sessions::{Entry, Handshake, Rate};
use crate::node::status::FoundBy;
use crate::node::{Attached, NodeError, NodeEvent, Step};
use crate::session::{
    Associations, Certificate, Command, Driver, Label, LinkBinding, Means, Meeting, Relays, Report,
    Seen, Session, SessionConfig, SessionError, SessionId, SessionInfo, SessionRole,
};

/// Target under which tests watch over what every link runs.
const LINKS: &str = "kinlog_swarm::links";

impl Task {
    /// Starts the session of a link to who was met in a topic, over `path` unless the link was handed over.
    pub(super) async fn start_met(
        &mut self,
        link: Arc<dyn Link>,
        path: Option<PeerPath>,
        role: SessionRole,
        (label, key): MeetingKey,
    ) -> Result<SessionId, NodeError> {
        let way = link.path().await;
        let info = SessionInfo {
            id: self.sessions.next_id(),
            label,
            key,
            role,
            remote_certificate: None,
            transport: way.transport,
            path: way.ice,
            plain: false,
        };
        let meeting = Meeting::Topic { label, key };
        self.spawn_session(link, info, meeting, path, None).await
    }

    pub(super) async fn start_attached(
        &mut self,
        attached: Attached,
    ) -> Result<SessionId, NodeError> {
        if self.sessions.entries.len() >= SESSIONS_MAX {
            return Err(NodeError::TooManySessions { max: SESSIONS_MAX });
        }
        let meeting = (attached.label, attached.key);
        self.start_met(attached.link, None, attached.role, meeting)
            .await
    }

    pub(super) async fn start_plain(&mut self, plain: PlainLink) -> Result<SessionId, NodeError> {
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
        plain_feeds: Option<(Vec<FeedKey>, Vec<FeedKey>)>,
    ) -> Result<SessionId, NodeError> {
        let id = info.id;
        let now = self.parts.clock.now();
        tracing::trace!(target: LINKS, transport = ?info.transport, ice = ?info.path, "link made");
        let takes_associations = info.transport == Transport::Webrtc && !info.plain;
        let mut session = Session::new(
            now,
            SessionConfig {
                role: info.role,
                meeting,
                binding: binding(info.role, link.fingerprints()),
                format: self.parts.config.format,
                associations: takes_associations,
                introduces: self.introducing(&(info.label, info.key)),
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
        let seen = Arc::new(Seen::default());
        let means = takes_associations.then(|| Means {
            webrtc: self.webrtc_settings(),
            role: info.role,
            label: info.label,
            budget: Arc::clone(&self.associations),
        });
        let (clock, log) = (self.parts.clock, self.parts.message_log.clone());
        let associations = Associations::new(means, clock, log, Arc::clone(&seen));
        let driver = Driver {
            id,
            clock: self.parts.clock,
            session,
            link: Arc::clone(&link),
            associations,
            commands: receiver,
            reports: self.reports_sender.clone(),
            replication: self.parts.replication.clone(),
            log: self.parts.message_log.clone(),
            unanswered: 0,
            leaving: None,
        };
        let met = path.and_then(|path| {
            let found_by = match path.via {
                Via::Signal { server, .. } => self.signalling.found_by(server)?,
                Via::Peer(_) => FoundBy::Peer,
            };
            Some((found_by, self.name_of(&path.via)))
        });
        let entry = Entry {
            info,
            path,
            met,
            open: false,
            handshake: None,
            feeds: BTreeSet::new(),
            limits: BTreeMap::new(),
            link,
            associations: seen,
            commands,
            task: tokio::spawn(driver.run()),
            since: now,
            rate: Rate::starting_at(now),
            impostor: false,
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

    pub(super) async fn handle_report(&mut self, id: SessionId, report: Report) {
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
                self.check_introduced(id, remote_static);
            }
            Report::Open(introduces) => self.handle_open(id, introduces).await,
            Report::Mesh(message) => self.handle_mesh(id, message).await,
            Report::Certified(certificate) => self.handle_certified(id, certificate).await,
            Report::Host(message) => {
                let answers = self.parts.host.handle_peer_message(&entry.info, message);
                let _ = entry.commands.send(Command::Answers(answers));
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

    /// Whoever was introduced by another peer is who that said, or nobody: else the introducer stands between the
    /// two.
    fn check_introduced(&mut self, id: SessionId, remote_static: [u8; 32]) {
        let Some(entry) = self.sessions.entries.get_mut(&id) else {
            return;
        };
        if let Some(path) = entry.path
            && path.introducer().is_some()
            && path.peer.0 != remote_static
        {
            entry.impostor = true;
            self.sessions.close(id, SessionError::Impostor);
        }
    }

    async fn handle_open(&mut self, id: SessionId, introduces: Option<Relays>) {
        let Some(entry) = self.sessions.entries.get_mut(&id) else {
            return;
        };
        if entry.impostor {
            return;
        }
        entry.open = true;
        let info = entry.info.clone();
        let found_by = entry.met.as_ref().map(|(found_by, _)| *found_by);
        self.mesh_opened(id, introduces);
        let replaced = self.sessions.replaced_by(id);
        for other in &replaced {
            self.sessions.close(*other, SessionError::Replaced);
        }
        if replaced.contains(&id) {
            return;
        }
        if let Some(found_by) = found_by {
            self.count_found(found_by);
            self.pool_opened(id);
        }
        self.parts.replication.peer_open(id).await;
        self.parts.host.handle_session_open(&info);
        if info.label.is_private()
            && let Some(credentials) = self.parts.host.identity(&info)
        {
            self.sessions
                .command(id, Command::Certify(Box::new(credentials)));
        }
        self.set_feeds(id).await;
        self.tell(NodeEvent::SessionOpened { session: info });
    }

    async fn handle_certified(&mut self, id: SessionId, certificate: Certificate) {
        let now = self.parts.clock.now();
        if self.bans.is_banned(now, &certificate.device.0) {
            self.sessions.close(id, SessionError::Closed);
            return;
        }
        let Some(entry) = self.sessions.entries.get_mut(&id) else {
            return;
        };
        entry.info.remote_certificate = Some(certificate);
        let device = PublicKey(certificate.device.0);
        self.introducer.handle_device(now, id, device);
        let info = entry.info.clone();
        self.parts.host.handle_certificate(&info);
        self.set_feeds(id).await;
    }

    /// Asks the host what a session serves and wants, and tells the session.
    pub(super) async fn set_feeds(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.entries.get(&id) else {
            return;
        };
        // Those of a plain session were given when it was made.
        if !entry.open || entry.info.plain {
            return;
        }
        let serves = self.parts.host.serves(&entry.info);
        let wants = self.parts.host.wants(&entry.info);
        let mut limits = self.parts.host.limits(&entry.info);
        let served: BTreeSet<&FeedKey> = serves.iter().collect();
        let not_served = wants.iter().filter(|key| !served.contains(key));
        limits.extend(not_served.map(|key| (*key, Vec::new())));
        if entry.limits != limits {
            // Before the channels open that they are about.
            self.parts.replication.limit(id, limits.clone()).await;
            if let Some(entry) = self.sessions.entries.get_mut(&id) {
                entry.limits = limits;
            }
        }
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
        self.pool.handle_closed(id);
        self.introducer.handle_closed(now, id);
        self.circuits.handle_session_closed(id);
        self.relayed.handle_session_closed(id);
        self.introductions.handle_session_closed(now, id);
        if entry.open {
            self.parts.host.handle_session_closed(&entry.info);
            let reason = reason.to_string();
            self.tell(NodeEvent::SessionClosed {
                session: entry.info,
                reason,
            });
        } else if let Some(path) = entry.path {
            let (label, key) = (entry.info.label, entry.info.key);
            tracing::debug!(via = ?path.via, %reason, "peer did not prove itself");
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
