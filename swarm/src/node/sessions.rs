//! The sessions of a node and what is known of each.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use kinlog_feeds::{FeedKey, Time};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::introductions::{MeetingKey, PeerPath};
use super::status::{FoundBy, SessionStatus, ViaStatus};
use crate::limits::DUPLICATE_WINDOW;
use crate::link::{Link, LinkStats, Transport};
use crate::session::{Command, Seen, SessionError, SessionId, SessionInfo};

/// One session.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) info: SessionInfo,
    /// How the peer was met; `None` for plain sessions.
    pub(super) path: Option<PeerPath>,
    /// By what the peer was found, and the URL of the meeting point.
    pub(super) met: Option<(FoundBy, String)>,
    pub(super) open: bool,
    pub(super) handshake: Option<Handshake>,
    pub(super) feeds: BTreeSet<FeedKey>,
    /// Feeds of which the peer is shown these blocks alone.
    pub(super) limits: BTreeMap<FeedKey, Vec<Range<u64>>>,
    pub(super) link: Arc<dyn Link>,
    pub(super) associations: Arc<Seen>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) task: JoinHandle<()>,
    pub(super) since: Time,
    pub(super) rate: Rate,
    /// It is not who its introducer said: nothing of it counts.
    pub(super) impostor: bool,
}

/// What tells handshakes and peers apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake {
    pub(super) at: Time,
    pub(super) hash: [u8; 64],
    pub(super) remote_static: [u8; 32],
}

/// Bytes a second, smoothed over a few ticks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    last: LinkStats,
    at: Time,
    bytes_in: u64,
    bytes_out: u64,
}

/// All sessions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) entries: BTreeMap<SessionId, Entry>,
    last_id: u64,
}

impl Sessions {
    pub(super) fn next_id(&mut self) -> SessionId {
        self.last_id += 1;
        SessionId(self.last_id)
    }

    pub(super) fn of_meeting(&self, meeting: &MeetingKey) -> usize {
        let is_of = |entry: &&Entry| (entry.info.label, entry.info.key) == *meeting;
        self.entries
            .values()
            .filter(is_of)
            .filter(|entry| entry.open)
            .count()
    }

    pub(super) fn plain(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| entry.info.plain)
            .count()
    }

    /// Returns the sessions that end now that `id` is open, because their peer is the same: of two
    /// that came up together both sides keep the one with the smaller handshake hash, otherwise
    /// the newer one.
    pub(super) fn replaced_by(&self, id: SessionId) -> Vec<SessionId> {
        let Some(newest) = self.entries.get(&id) else {
            return Vec::new();
        };
        let Some(new) = newest.handshake else {
            return Vec::new();
        };
        let mut replaced = Vec::new();
        for (other, entry) in &self.entries {
            if *other == id || !entry.open || entry.info.plain {
                continue;
            }
            let Some(old) = entry.handshake else { continue };
            let same_process = old.remote_static == new.remote_static
                && (entry.info.label, entry.info.key) == (newest.info.label, newest.info.key);
            let same_path = entry.path.is_some() && entry.path == newest.path;
            if (same_process || same_path) && entry.is_relayed() != newest.is_relayed() {
                // A direct one always takes over, whichever came first.
                match newest.is_relayed() {
                    true => return vec![id],
                    false => replaced.push(*other),
                }
                continue;
            }
            if same_process && new.at.since(old.at) < DUPLICATE_WINDOW && old.hash < new.hash {
                return vec![id];
            }
            if same_process || same_path {
                replaced.push(*other);
            }
        }
        replaced
    }

    pub(super) fn is_open(&self, id: SessionId) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| entry.open && !entry.info.plain)
    }

    /// Returns who relays a session, if somebody does.
    pub(super) fn relay_of(&self, entry: &Entry) -> Option<ViaStatus> {
        let relay = entry.path.filter(|_| entry.is_relayed())?.introducer()?;
        Some(ViaStatus {
            session: relay.0,
            device: self.entries.get(&relay).and_then(Entry::device),
        })
    }

    pub(super) fn command(&self, id: SessionId, command: Command) {
        if let Some(entry) = self.entries.get(&id) {
            // A session that is ending takes no commands, and needs none.
            let _ = entry.commands.send(command);
        }
    }

    /// Ends a session that is one too many, after the other side was told so.
    pub(super) fn part(&self, id: SessionId) {
        self.command(id, Command::Part);
    }

    pub(super) fn close(&self, id: SessionId, reason: SessionError) {
        self.command(id, Command::Close(reason));
    }

    pub(super) fn measure(&mut self, now: Time) {
        for entry in self.entries.values_mut() {
            let stats = entry.stats();
            entry.rate.measure(now, stats);
        }
    }

    pub(super) async fn status(&self, now: Time) -> Vec<SessionStatus> {
        let mut all = Vec::with_capacity(self.entries.len());
        for (id, entry) in &self.entries {
            let stats = entry.stats();
            let path = entry.link.path().await;
            all.push(SessionStatus {
                id: id.0,
                label: entry.info.label,
                key: kinlog_feeds::text::encode(&entry.info.key),
                device: entry.device(),
                found_by: entry.met.as_ref().map(|(found_by, _)| *found_by),
                met_at: entry.met.as_ref().map(|(_, url)| url.clone()),
                transport: path.transport,
                via: self.relay_of(entry),
                path: path.ice.or_else(|| entry.info.path.clone()),
                state: entry.state().to_owned(),
                standing: None,
                associations: 1 + entry.associations.open(),
                round_trip_ms: entry
                    .associations
                    .round_trip()
                    .map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
                feeds: entry.feeds.iter().map(ToString::to_string).collect(),
                bytes_in: stats.bytes_in,
                bytes_out: stats.bytes_out,
                messages_in: stats.messages_in,
                rate_in: entry.rate.bytes_in,
                rate_out: entry.rate.bytes_out,
                since_s: now.since(entry.since).as_secs(),
            });
        }
        all
    }
}

impl Entry {
    /// Returns what went through the link and its further associations.
    pub(super) fn stats(&self) -> LinkStats {
        self.link.stats() + self.associations.stats()
    }

    /// Returns whether another peer relays it.
    pub(super) fn is_relayed(&self) -> bool {
        self.info.transport == Transport::Relayed
    }

    /// Returns the other side's device key, when it showed a certificate.
    pub(super) fn device(&self) -> Option<String> {
        let shown = self.info.remote_certificate?;
        Some(shown.device.to_string())
    }

    fn state(&self) -> &'static str {
        match (self.info.plain, self.open) {
            (true, true) => "plain",
            (false, true) => "open",
            (_, false) => "handshake",
        }
    }
}

impl Rate {
    fn measure(&mut self, now: Time, stats: LinkStats) {
        let span = now.since(self.at);
        if span < Duration::from_millis(100) {
            return;
        }
        let per_second = |bytes: u64| {
            let micros = span.as_micros().max(1);
            u64::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u64::MAX)
        };
        let received = per_second(stats.bytes_in.saturating_sub(self.last.bytes_in));
        let sent = per_second(stats.bytes_out.saturating_sub(self.last.bytes_out));
        self.bytes_in = self.bytes_in / 2 + received / 2;
        self.bytes_out = self.bytes_out / 2 + sent / 2;
        self.last = stats;
        self.at = now;
    }

    pub(super) fn starting_at(now: Time) -> Self {
        Rate {
            at: now,
            ..Rate::default()
        }
    }
}
