//! One further association as a task: from its description over encrypted messages to its end.
//!
//! It is a connection of its own (Noise, secret stream, protomux) with the one channel
//! `kinlog/association/1`; both sides open it with a hello whose key is the token that the session
//! carried. Type 0 says how many messages have come, type 1 is a copy of a request, every other type is that of
//! `kinlog/feed/1`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use kinlog_feeds::encoding::{Reader, Writer};
use kinlog_feeds::limits::FRAME_BYTES_MAX;
use kinlog_feeds::wire::{ChannelId, Config, Connection, Event};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Seen;
use super::copies::Copied;
use super::message::{AssociationMessage, Token};
use super::spread::Bulk;
use crate::clock::Clock;
use crate::limits::{HELLO_WAIT_MAX, LINK_CLOSE_WAIT_MAX, SEND_STALL_MAX};
use crate::link::webrtc::{FromPeer, ToPeer, WebrtcLink, WebrtcSettings, opening};
use crate::link::{Link, LinkError};
use crate::message_log::MessageLog;
use crate::session::driver::Outgoing;
use crate::session::hello::{self, Hello};
use crate::session::trace::trace_event;
use crate::session::{Label, SessionError, SessionRole};

const PROTOCOL: &str = "kinlog/association/1";

/// Says how many messages have come.
const RECEIVED: u64 = 0;

/// A request that goes by the first association, too: `uint number | uint type | body`.
const COPY: u64 = 1;

/// What the session tells an association that carries.
#[derive(Debug)]
pub(super) enum Toward {
    Send(Bulk),
    Received(u64),
    Copy(Copied),
}

/// What an association tells its session.
#[derive(Debug)]
pub(crate) enum News {
    /// Both sides know each other; with whether the other one takes copies.
    Open {
        takes_copies: bool,
    },
    Bulk(Bulk),
    Copy(Copied),
    /// So many of our messages have come.
    Received(u64),
    /// It carries nothing any more.
    Gone(String),
}

/// What an association works with.
pub(super) struct Strand {
    pub(super) id: u64,
    pub(super) role: SessionRole,
    pub(super) label: Label,
    pub(super) token: Token,
    pub(super) wire: Config,
    pub(super) webrtc: WebrtcSettings,
    pub(super) clock: Clock,
    pub(super) log: Option<MessageLog>,
    pub(super) seen: Arc<Seen>,
    pub(super) signals: mpsc::Receiver<FromPeer>,
    /// Closed when the session has no more use for it.
    pub(super) toward: mpsc::UnboundedReceiver<Toward>,
    pub(super) say: mpsc::UnboundedSender<AssociationMessage>,
    pub(super) news: mpsc::Sender<(u64, News)>,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Strand {
    /// Opens the association by answering an offer, or by making one, and carries messages until it
    /// ends.
    pub(super) async fn run(mut self, offered: Option<Bytes>) {
        let reason = match self.open(offered).await {
            Ok(link) => {
                let reason = match self.exchange(&link).await {
                    Ok(()) => "not needed any more".to_owned(),
                    Err(error) => error.to_string(),
                };
                // What does not close in time is dropped as it is.
                let _ = tokio::time::timeout(LINK_CLOSE_WAIT_MAX, link.close()).await;
                reason
            }
            Err(error) => error.to_string(),
        };
        drop(self.permit);
        // Nobody listens any more when the session is gone.
        let _ = self.news.send((self.id, News::Gone(reason))).await;
    }

    async fn open(&mut self, offered: Option<Bytes>) -> Result<WebrtcLink, LinkError> {
        let id = self.id;
        let token = &self.token;
        let say = &self.say;
        let tell = move |message| {
            let message = match message {
                ToPeer::Offer(description) => AssociationMessage::Offer {
                    id,
                    token: token.clone(),
                    description,
                },
                ToPeer::Answer(description) => AssociationMessage::Answer { id, description },
                ToPeer::Candidate(candidate) => AssociationMessage::Candidate { id, candidate },
            };
            // It ends with its session.
            let _ = say.send(message);
        };
        let opened = async {
            match offered {
                None => opening::offer(&self.webrtc, id, &mut self.signals, tell).await,
                Some(offer) => opening::answer(&self.webrtc, &offer, &mut self.signals, tell).await,
            }
        };
        tokio::select! {
            link = opened => link,
            // Nothing is sent before it carries: this is the end.
            _ = self.toward.recv() => Err(LinkError::Closed),
        }
    }

    async fn exchange(&mut self, link: &WebrtcLink) -> Result<(), SessionError> {
        let started = self.clock.now();
        let mut connection = Connection::new(started, self.wire.clone());
        let mut hash = None;
        let mut channel: Option<ChannelId> = None;
        let mut is_open = false;
        let mut outgoing = Outgoing::default();
        let mut sending: Option<BoxFuture<'_, Result<(), LinkError>>> = None;
        let mut sending_since = None;
        loop {
            while let Some(event) = connection.poll_event()? {
                trace_event(&event);
                match event {
                    Event::HandshakeComplete { hash: ours, .. } => {
                        let cap = hello::cap(&ours, self.role, self.label, &self.token.0);
                        let opening = Hello::new(0, self.label, cap).with_copies().encode();
                        channel = Some(connection.open(PROTOCOL, None, &opening)?);
                        hash = Some(ours);
                    }
                    Event::RemoteOpen { protocol, id, .. } => {
                        connection.reject_remote(&protocol, id.as_deref())?;
                    }
                    Event::Opened { handshake, .. } => {
                        let hash = hash.as_ref().ok_or(SessionError::WrongCapability)?;
                        let theirs = Hello::decode(&handshake)?;
                        let role = self.role.other();
                        let expected = hello::cap(hash, role, self.label, &self.token.0);
                        if !hello::cap_matches(expected, theirs.cap) {
                            return Err(SessionError::WrongCapability);
                        }
                        connection.set_receive_frame_max(FRAME_BYTES_MAX);
                        connection.set_send_frame_max(theirs.frame_bytes_max);
                        is_open = true;
                        let takes_copies = theirs.takes_copies();
                        self.tell(News::Open { takes_copies }).await?;
                    }
                    Event::Rejected { .. } | Event::Closed { .. } => {
                        return Err(SessionError::ClosedByPeer);
                    }
                    Event::Message {
                        message_type: RECEIVED,
                        body,
                        ..
                    } => {
                        let received = Reader::new(&body).uint()?;
                        self.tell(News::Received(received)).await?;
                    }
                    Event::Message {
                        message_type: COPY,
                        body,
                        ..
                    } => {
                        let mut reader = Reader::new(&body);
                        let (number, kind) = (reader.uint()?, reader.uint()?);
                        let body = body.slice(reader.position()..);
                        let request = Bulk { kind, body };
                        self.tell(News::Copy(Copied { number, request })).await?;
                    }
                    Event::Message {
                        message_type: kind,
                        body,
                        ..
                    } => self.tell(News::Bulk(Bulk { kind, body })).await?,
                    // A later version of the wire may tell more.
                    _ => {}
                }
            }
            if sending.is_none() {
                while outgoing.bytes() < link.max_message()
                    && let Some(bytes) = connection.poll_transmit()
                {
                    outgoing.push(bytes);
                }
                let message = outgoing.next(link.max_message());
                sending = message.map(|message| {
                    self.seen.counters.count_out(message.len());
                    link.send(message)
                });
                sending_since = sending.as_ref().map(|_| self.clock.now());
            }
            let stalled = sending_since.map(|since| since + SEND_STALL_MAX);
            let silent = (!is_open).then_some(started + HELLO_WAIT_MAX);
            let timeout = [connection.poll_timeout(), stalled, silent];
            tokio::select! {
                biased;
                toward = self.toward.recv() => {
                    let Some(first) = toward else { return Ok(()) };
                    let Some(channel) = channel else { return Ok(()) };
                    send(&mut connection, channel, first)?;
                    while let Ok(toward) = self.toward.try_recv() {
                        send(&mut connection, channel, toward)?;
                    }
                }
                sent = async { sending.as_mut().expect("guarded by is_some").await },
                    if sending.is_some() =>
                {
                    sending = None;
                    sent?;
                }
                message = link.recv(), if connection.wants_input() => {
                    let message = message?.ok_or(SessionError::ClosedByPeer)?;
                    if let Some(log) = &self.log {
                        log.record(message.len());
                    }
                    self.seen.counters.count_in(message.len());
                    connection.handle_bytes(self.clock.now(), &message)?;
                }
                () = self.clock.sleep_until(timeout.into_iter().flatten().min()) => {
                    let now = self.clock.now();
                    if stalled.is_some_and(|at| now >= at) {
                        return Err(SessionError::Stalled { seconds: SEND_STALL_MAX.as_secs() });
                    }
                    if silent.is_some_and(|at| now >= at) {
                        return Err(SessionError::HelloTimeout { seconds: HELLO_WAIT_MAX.as_secs() });
                    }
                    connection.handle_timeout(now)?;
                }
            }
        }
    }

    /// Waits while the session has not taken what came before.
    async fn tell(&self, news: News) -> Result<(), SessionError> {
        let told = self.news.send((self.id, news)).await;
        told.map_err(|_| SessionError::Closed)
    }
}

fn send(
    connection: &mut Connection,
    channel: ChannelId,
    toward: Toward,
) -> Result<(), SessionError> {
    match toward {
        Toward::Send(bulk) => connection.send(channel, bulk.kind, &bulk.body)?,
        Toward::Received(received) => {
            let mut body = Vec::with_capacity(9);
            body.put_uint(received);
            connection.send_ahead(channel, RECEIVED, &body)?;
        }
        // Where much waits already it would come late: it is for what it saves of time.
        Toward::Copy(_) if !connection.is_writable() => {}
        Toward::Copy(Copied { number, request }) => {
            let mut body = Vec::with_capacity(18 + request.body.len());
            body.put_uint(number);
            body.put_uint(request.kind);
            body.put_raw(&request.body);
            connection.send_ahead(channel, COPY, &body)?;
        }
    }
    Ok(())
}
