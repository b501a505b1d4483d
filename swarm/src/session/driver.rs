//! Moves bytes between a session and its link, and events between the session and its owners.
//!
//! One task a session. What the node and the replication want arrives as [`Command`]s and never
//! waits; what the other side sends waits for the replication, so that its messages pile up in the
//! link and not here.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use kinlog_feeds::wire::kinlog::{FeedMessage, GroupMessage};
use kinlog_feeds::{FeedKey, Time};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

use super::associations::Associations;
use super::{MeshMessage, PeerMessage, Relays, Session, SessionError, SessionEvent, SessionId};
use crate::clock::Clock;
use crate::limits::{
    ASSOCIATION_NEWS_MAX, BATCH_MESSAGES_MAX, LINK_CLOSE_WAIT_MAX, PARTING_WAIT_MAX,
    SEND_STALL_MAX, UNANSWERED_MAX,
};
use crate::link::{Link, LinkError};
use crate::message_log::MessageLog;
use crate::node::Credentials;
use crate::replication::{self, FromPeer};

/// A message of the replication.
#[derive(Debug)]
pub(crate) struct ToPeer {
    pub(crate) key: FeedKey,
    pub(crate) message: FeedMessage,
    /// Whether it goes ahead of bulk data that waits.
    pub(crate) urgent: bool,
}

/// What the owners of a session tell it.
#[derive(Debug)]
pub(crate) enum Command {
    /// The feeds of the session, see [`Session::set_feeds`].
    SetFeeds {
        serves: Vec<FeedKey>,
        wants: Vec<FeedKey>,
    },
    /// Show our certificate. Boxed, as what is largest decides what each session's queue takes.
    Certify(Box<Credentials>),
    /// Send a message of the host.
    Host(PeerMessage),
    /// Say something about other peers of the meeting, or to them.
    Mesh(MeshMessage),
    /// Send what the host says to one message of the other side that was told of.
    Answers(Vec<PeerMessage>),
    /// Send messages of the replication.
    Feed(Vec<ToPeer>),
    /// Say something about several feeds.
    Group(Vec<FeedKey>, GroupMessage),
    /// Close the channel of a feed, see [`Session::close_idle`].
    CloseIdle(FeedKey),
    /// Open the channel of a feed again, see [`Session::reopen`].
    Reopen(FeedKey),
    /// Measure a round trip, see [`Associations::ping`].
    Ping(oneshot::Sender<Duration>),
    /// Say that the session is one too many: the other side ends it, or this one after [`PARTING_WAIT_MAX`].
    Part,
    /// End the session.
    Close(SessionError),
}

/// What a session tells the node; messages of feeds go to the replication.
#[derive(Debug)]
pub(crate) enum Report {
    Handshaken {
        hash: [u8; 64],
        remote_static: [u8; 32],
    },
    /// With whether the other side introduces and relays.
    Open(Option<Relays>),
    Certified(super::Certificate),
    Host(PeerMessage),
    Mesh(MeshMessage),
    FeedOpened(FeedKey),
    FeedClosed {
        key: FeedKey,
        rejected: bool,
    },
    Closed(SessionError),
}

/// Everything a session's task works with.
pub(crate) struct Driver {
    pub(crate) id: SessionId,
    pub(crate) clock: Clock,
    pub(crate) session: Session,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) associations: Associations,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) reports: mpsc::Sender<(SessionId, Report)>,
    pub(crate) replication: replication::Sender,
    pub(crate) log: Option<MessageLog>,
    /// Messages of the other side that the host has not answered yet, at most [`UNANSWERED_MAX`].
    pub(crate) unanswered: usize,
    /// It was said that the session is one too many: it ends then at the latest.
    pub(crate) leaving: Option<Time>,
}

impl Driver {
    /// Runs the session to its end, closes the link and reports why.
    pub(crate) async fn run(mut self) {
        let reason = match self.exchange().await {
            Ok(never) => match never {},
            Err(SessionError::ClosedByPeer) if self.leaving.is_some() => SessionError::Surplus,
            Err(reason) => reason,
        };
        let _ = tokio::time::timeout(LINK_CLOSE_WAIT_MAX, self.link.close()).await;
        self.replication.peer_gone(self.id).await;
        // Nobody listens any more when the node is gone.
        let _ = self.reports.send((self.id, Report::Closed(reason))).await;
    }

    async fn exchange(&mut self) -> Result<std::convert::Infallible, SessionError> {
        let link = Arc::clone(&self.link);
        let mut outgoing = Outgoing::default();
        let mut sending: Option<BoxFuture<'_, Result<(), LinkError>>> = None;
        let mut sending_since = None;
        let mut writable = true;
        let mut ways = 1;
        loop {
            self.drain().await?;
            self.associations.settle(&mut self.session)?;
            if sending.is_none() {
                // No more than the link takes now: what is urgent overtakes what waits behind.
                while outgoing.bytes < link.max_message()
                    && let Some(bytes) = self.session.poll_transmit()
                {
                    outgoing.push(bytes);
                }
                sending = outgoing
                    .next(link.max_message())
                    .map(|message| link.send(message));
                sending_since = sending.as_ref().map(|_| self.clock.now());
            }
            if (self.session.is_writable() && self.associations.is_writable()) != writable {
                writable = !writable;
                self.replication.writable(self.id, writable).await;
            }
            if self.associations.ways() != ways {
                ways = self.associations.ways();
                self.replication.ways(self.id, ways).await;
            }
            let stalled = sending_since.map(|since| since + SEND_STALL_MAX);
            let further = self.associations.poll_timeout();
            let timeout = [self.session.poll_timeout(), stalled, further, self.leaving];
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    self.handle_command(command.ok_or(SessionError::Closed)?)?;
                    while let Ok(command) = self.commands.try_recv() {
                        self.handle_command(command)?;
                    }
                }
                sent = async { sending.as_mut().expect("guarded by is_some").await },
                    if sending.is_some() =>
                {
                    sending = None;
                    sent?;
                    if let Some(since) = sending_since {
                        self.associations.handle_sent(since);
                    }
                }
                happened = self.associations.next(), if self.unanswered < UNANSWERED_MAX => {
                    self.associations.handle(&mut self.session, happened)?;
                    // As many as wait at most: what comes meanwhile is not taken before these are handed on.
                    for _ in 0..ASSOCIATION_NEWS_MAX {
                        let Some(happened) = self.associations.try_next() else { break };
                        self.associations.handle(&mut self.session, happened)?;
                    }
                }
                message = link.recv(),
                    if self.session.wants_input() && self.unanswered < UNANSWERED_MAX =>
                {
                    let message = message?.ok_or(SessionError::ClosedByPeer)?;
                    if let Some(log) = &self.log {
                        log.record(message.len());
                    }
                    self.session.handle_bytes(self.clock.now(), &message)?;
                }
                () = self.clock.sleep_until(timeout.into_iter().flatten().min()) => {
                    let now = self.clock.now();
                    if stalled.is_some_and(|at| now >= at) {
                        return Err(SessionError::Stalled { seconds: SEND_STALL_MAX.as_secs() });
                    }
                    if self.leaving.is_some_and(|at| now >= at) {
                        return Err(SessionError::Surplus);
                    }
                    self.session.handle_timeout(now)?;
                }
            }
        }
    }

    fn handle_command(&mut self, command: Command) -> Result<(), SessionError> {
        match command {
            Command::SetFeeds { serves, wants } => self.session.set_feeds(serves, wants),
            Command::Certify(credentials) => self.session.certify(&credentials),
            Command::Host(message) => self.session.send_host(message),
            Command::Mesh(message) => self.session.send_mesh(message),
            Command::Answers(messages) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                let mut messages = messages.into_iter();
                messages.try_for_each(|message| self.session.send_host(message))
            }
            Command::Feed(messages) => {
                for ToPeer {
                    key,
                    message,
                    urgent,
                } in messages
                {
                    self.session.send_feed(&key, message, urgent)?;
                }
                Ok(())
            }
            Command::Group(feeds, message) => self.session.send_group(&feeds, message),
            Command::CloseIdle(key) => self.session.close_idle(&key),
            Command::Reopen(key) => self.session.reopen(&key),
            Command::Ping(answer) => self.associations.ping(&mut self.session, answer),
            Command::Part => {
                self.leaving = Some(self.clock.now() + PARTING_WAIT_MAX);
                self.session.send_mesh(MeshMessage::Parting)
            }
            Command::Close(reason) => Err(reason),
        }
    }

    /// Hands on everything the session has to tell, feed messages in as few batches as may be; what
    /// comes behind too many unanswered messages waits until the host has answered.
    async fn drain(&mut self) -> Result<(), SessionError> {
        let mut batch = Vec::new();
        while self.unanswered < UNANSWERED_MAX
            && let Some(event) = self.session.poll_event()?
        {
            if batch.len() >= BATCH_MESSAGES_MAX {
                self.deliver(std::mem::take(&mut batch)).await?;
            }
            let report = match event {
                SessionEvent::Feed(key, message) => {
                    batch.push(FromPeer::Message(key, message));
                    continue;
                }
                SessionEvent::Kinlog(key, message) => {
                    batch.push(FromPeer::Kinlog(key, message));
                    continue;
                }
                SessionEvent::TakesSets(key) => {
                    batch.push(FromPeer::TakesSets(key));
                    continue;
                }
                SessionEvent::TakesGroups => {
                    batch.push(FromPeer::TakesGroups);
                    continue;
                }
                SessionEvent::Group(feeds, message) => {
                    batch.push(FromPeer::Group(feeds, message));
                    continue;
                }
                SessionEvent::FeedOpened(key) => {
                    batch.push(FromPeer::Opened(key));
                    Report::FeedOpened(key)
                }
                SessionEvent::FeedClosed { key, rejected } => {
                    batch.push(FromPeer::Closed(key));
                    Report::FeedClosed { key, rejected }
                }
                SessionEvent::Handshaken {
                    hash,
                    remote_static,
                } => Report::Handshaken {
                    hash,
                    remote_static,
                },
                SessionEvent::Open(introduces) => Report::Open(introduces),
                SessionEvent::Certified(certificate) => Report::Certified(certificate),
                SessionEvent::Host(message) => {
                    self.unanswered += 1;
                    Report::Host(message)
                }
                SessionEvent::Mesh(message) => Report::Mesh(message),
                SessionEvent::Association(message) => {
                    self.associations
                        .handle_message(&mut self.session, message)?;
                    continue;
                }
            };
            if self.reports.send((self.id, report)).await.is_err() {
                return Err(SessionError::Closed);
            }
        }
        self.deliver(batch).await
    }

    async fn deliver(&self, batch: Vec<FromPeer>) -> Result<(), SessionError> {
        if !batch.is_empty() && !self.replication.deliver(self.id, batch).await {
            return Err(SessionError::Closed);
        }
        Ok(())
    }
}

/// Bytes on their way out, cut into messages of the link's size.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    waiting: VecDeque<Bytes>,
    bytes: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.waiting.push_back(bytes);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn next(&mut self, max: usize) -> Option<BytesMut> {
        if self.bytes == 0 {
            return None;
        }
        let mut message = BytesMut::with_capacity(self.bytes.min(max));
        while let Some(first) = self.waiting.front_mut() {
            let room = max - message.len();
            if first.len() > room {
                message.extend_from_slice(&first[..room]);
                first.advance(room);
                break;
            }
            message.extend_from_slice(first);
            self.waiting.pop_front();
        }
        self.bytes -= message.len();
        Some(message)
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue takes 32 places of the largest at once, for each session.
    #[test]
    fn commands_are_small() {
        assert!(size_of::<Command>() <= 128, "{}", size_of::<Command>());
    }

    #[test]
    fn frames_are_cut_and_joined_to_the_size_of_the_link() {
        let mut outgoing = Outgoing::default();
        for frame in [&b"abc"[..], b"", b"defgh", b"i"] {
            outgoing.push(Bytes::copy_from_slice(frame));
        }
        let messages: Vec<BytesMut> = std::iter::from_fn(|| outgoing.next(4)).collect();
        assert_eq!(messages, [&b"abcd"[..], b"efgh", b"i"]);
        assert!(outgoing.next(4).is_none());
    }
}
