//! A session as a state machine: bytes and wishes in, events and bytes out.
//!
//! Participants: the wire's [`Connection`] below, the driver around it, the node and the
//! replication above. Order on the wire: Noise, then both sides open `kinlog/peer/1` and check each
//! other's cap, then certificates, then tags of wanted feeds, then channels of feeds that both
//! sides hold or want (`channels`), or their numbers (`numbered`). A plain session (JavaScript, `feed serve`, `feed pull`) has the last step only.

mod channels;
mod numbered;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kinlog_feeds::crypto::{blake2b_256_keyed, namespace};
use kinlog_feeds::limits::{LISTED_MAX, PLAIN_FRAME_BYTES_MAX};
use kinlog_feeds::wire::hypercore::Message;
use kinlog_feeds::wire::kinlog::{FeedMessage, GroupMessage};
use kinlog_feeds::wire::{ChannelId, Config, Connection, Event};
use kinlog_feeds::{DiscoveryKey, FeedKey, Time};

use super::associations::{AssociationMessage, Bulk, Copied, Copies};
use super::certificate::{self, LinkBinding};
use super::error::SessionError;
use super::hello::{self, Hello};
use super::listing::Listing;
use super::mesh::MeshMessage;
use super::message::{ChannelMessage, Tag};
use super::trace::trace_event;
use super::{Certificate, Label, PeerMessage, SessionRole};
use crate::limits::{HELLO_WAIT_MAX, PEER_MESSAGE_BYTES_UNREAD_MAX};
use crate::node::Credentials;
use numbered::Naming;

const PEER_PROTOCOL: &str = "kinlog/peer/1";

const CERTIFICATE: u64 = 0;
const PEER_MESSAGE: u64 = 1;

/// What two peers met by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Meeting {
    /// A topic: both prove that they know its key.
    Topic { label: Label, key: [u8; 32] },
    /// An address: Hypercore and nothing else.
    Plain,
}

/// What a session is told when it is made. The seeds are random; ephemeral seed and stream header
/// are never used twice.
#[derive(Clone, Debug)]
pub(crate) struct SessionConfig {
    pub(crate) role: SessionRole,
    pub(crate) meeting: Meeting,
    pub(crate) binding: LinkBinding,
    pub(crate) format: u16,
    /// Whether the link can have further associations.
    pub(crate) associations: bool,
    /// Whether this side introduces peers of the meeting to each other; where it does, whether it relays.
    pub(crate) introduces: Option<Relays>,
    pub(crate) static_seed: [u8; 32],
    pub(crate) ephemeral_seed: [u8; 32],
    pub(crate) stream_header: [u8; 24],
}

/// Whether a side that introduces peers relays between them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Relays(pub(crate) bool);

/// What a session tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SessionEvent {
    /// Noise is done; the hash and the static key tell sessions and peers apart.
    Handshaken {
        hash: [u8; 64],
        remote_static: [u8; 32],
    },
    /// The other side's capability holds, or the session is plain: feeds may be named now. With whether the other
    /// side introduces and relays, where both introduce.
    Open(Option<Relays>),
    /// The other side showed a certificate, and it holds.
    Certified(Certificate),
    /// Something about further associations.
    Association(AssociationMessage),
    /// Something about other peers of the meeting, or from them.
    Mesh(MeshMessage),
    /// A message for the host.
    Host(PeerMessage),
    /// Both sides opened the channel of a feed.
    FeedOpened(FeedKey),
    /// The channel of a feed is gone; `rejected` when the other side never opened it.
    FeedClosed { key: FeedKey, rejected: bool },
    /// A message on the channel of a feed.
    Feed(FeedKey, Message),
    /// A feed can be spoken of by `kinlog/feed/1`, before its opening or after it.
    TakesSets(FeedKey),
    /// What was said about it there.
    Kinlog(FeedKey, FeedMessage),
    /// Heads of several feeds may be told at once, before any is opened.
    TakesGroups,
    /// What was said about several feeds, in the order of their keys.
    Group(Vec<FeedKey>, GroupMessage),
}

/// One feed that this side serves or wants in the session.
#[derive(Debug)]
struct Known {
    wanted: bool,
    tag: Tag,
}

/// A channel of a feed, from our open on.
#[derive(Debug)]
struct FeedChannel {
    key: FeedKey,
    open: bool,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    config: SessionConfig,
    connection: Connection,
    started: Time,
    handshake_hash: Option<[u8; 64]>,
    peer_channel: Option<ChannelId>,
    open: bool,
    certified: bool,
    serves: BTreeSet<FeedKey>,
    wants: BTreeSet<FeedKey>,
    known: BTreeMap<FeedKey, Known>,
    by_tag: BTreeMap<Tag, FeedKey>,
    by_discovery: BTreeMap<DiscoveryKey, FeedKey>,
    channels: BTreeMap<ChannelId, FeedChannel>,
    by_feed: BTreeMap<FeedKey, ChannelId>,
    /// Feeds whose channel was closed, as neither side had anything to ask for.
    idle: BTreeSet<FeedKey>,
    remote_wants: BTreeSet<Tag>,
    /// The channel `kinlog/feed/1`, from our open on.
    listing: Option<(ChannelId, Listing)>,
    naming: Naming,
    /// Feeds that both sides list.
    agreed: BTreeSet<FeedKey>,
    /// Bytes of peer messages sent since the other side last kept up.
    unread: usize,
    /// Both sides can have further associations.
    takes_associations: bool,
    /// Both sides introduce.
    introduces: bool,
    /// Bulk data goes by those instead of the link.
    diverts: bool,
    diverted: VecDeque<Bulk>,
    /// Bulk data sent and received that nobody has counted yet.
    bulk_bytes: u64,
    /// Requests sent on `kinlog/feed/1`; whether and which of them go by further associations, too.
    requests_sent: u64,
    copies_requests: bool,
    copied: VecDeque<Copied>,
    /// Which of the other side have come.
    copies: Copies,
    events: VecDeque<SessionEvent>,
}

impl Session {
    pub(crate) fn new(now: Time, config: SessionConfig) -> Self {
        let mut wire = Config::new(
            config.role.into(),
            config.static_seed,
            config.ephemeral_seed,
            config.stream_header,
        );
        if config.meeting == Meeting::Plain {
            wire.receive_frame_max = PLAIN_FRAME_BYTES_MAX;
            wire.send_frame_max = PLAIN_FRAME_BYTES_MAX;
        }
        Session {
            connection: Connection::new(now, wire),
            config,
            started: now,
            handshake_hash: None,
            peer_channel: None,
            open: false,
            certified: false,
            serves: BTreeSet::new(),
            wants: BTreeSet::new(),
            known: BTreeMap::new(),
            by_tag: BTreeMap::new(),
            by_discovery: BTreeMap::new(),
            channels: BTreeMap::new(),
            by_feed: BTreeMap::new(),
            idle: BTreeSet::new(),
            remote_wants: BTreeSet::new(),
            listing: None,
            naming: Naming::Open,
            agreed: BTreeSet::new(),
            unread: 0,
            takes_associations: false,
            introduces: false,
            diverts: false,
            diverted: VecDeque::new(),
            bulk_bytes: 0,
            requests_sent: 0,
            copies_requests: false,
            copied: VecDeque::new(),
            copies: Copies::default(),
            events: VecDeque::new(),
        }
    }

    /// Takes bytes of the other side; pair with [`poll_event`](Self::poll_event).
    pub(crate) fn handle_bytes(&mut self, now: Time, bytes: &[u8]) -> Result<(), SessionError> {
        Ok(self.connection.handle_bytes(now, bytes)?)
    }

    /// Lets the time pass.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> Result<(), SessionError> {
        if !self.open && now >= self.started + HELLO_WAIT_MAX {
            return Err(SessionError::HelloTimeout {
                seconds: HELLO_WAIT_MAX.as_secs(),
            });
        }
        Ok(self.connection.handle_timeout(now)?)
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let hello = (!self.open).then_some(self.started + HELLO_WAIT_MAX);
        [hello, self.connection.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns the next event. Call until `None` after each `handle_*` and each wish; an error
    /// ends the session.
    pub(crate) fn poll_event(&mut self) -> Result<Option<SessionEvent>, SessionError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let Some(event) = self.connection.poll_event()? else {
                return Ok(None);
            };
            if let Some(event) = self.handle_event(event)? {
                return Ok(Some(event));
            }
        }
    }

    /// Returns the next bytes for the other side. Call until `None` after every drain.
    pub(crate) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.connection.poll_transmit()
    }

    /// Returns whether the other side keeps up with what is sent to it.
    pub(crate) fn is_writable(&self) -> bool {
        self.connection.is_writable()
    }

    /// Returns whether more bytes of the other side are of use now.
    pub(crate) fn wants_input(&self) -> bool {
        self.connection.wants_input()
    }

    /// Says which feeds the other side may have of us and which we want of it; what is in neither
    /// list does not exist in this session. Takes effect once the session is open.
    pub(crate) fn set_feeds(
        &mut self,
        serves: impl IntoIterator<Item = FeedKey>,
        wants: impl IntoIterator<Item = FeedKey>,
    ) -> Result<(), SessionError> {
        self.serves = serves.into_iter().collect();
        self.wants = wants.into_iter().take(LISTED_MAX).collect();
        if self.open {
            self.apply_feeds()
        } else {
            Ok(())
        }
    }

    /// Shows our certificate; only after [`SessionEvent::Open`].
    pub(crate) fn certify(&mut self, credentials: &Credentials) -> Result<(), SessionError> {
        let (Some(channel), Some(hash), true) =
            (self.peer_channel, &self.handshake_hash, self.open)
        else {
            return Ok(());
        };
        let body = certificate::sign(
            &credentials.device,
            &credentials.identity_hash,
            self.config.role,
            hash,
            &self.config.binding,
        );
        Ok(self.connection.send_ahead(channel, CERTIFICATE, &body)?)
    }

    /// Sends a message of our host; nothing happens in a plain session.
    pub(crate) fn send_host(&mut self, message: PeerMessage) -> Result<(), SessionError> {
        self.send_peer(ChannelMessage::Host(message))
    }

    /// Says something about further associations.
    pub(crate) fn send_association(
        &mut self,
        message: AssociationMessage,
    ) -> Result<(), SessionError> {
        self.send_peer(ChannelMessage::Association(message))
    }

    /// Returns whether both sides can have further associations.
    pub(crate) fn takes_associations(&self) -> bool {
        self.takes_associations
    }

    /// Says something about other peers of the meeting, or to them.
    pub(crate) fn send_mesh(&mut self, message: MeshMessage) -> Result<(), SessionError> {
        let (Some(channel), true) = (self.peer_channel, self.introduces) else {
            return Ok(());
        };
        if !message.is_bulk() {
            return self.send_peer(ChannelMessage::Mesh(message));
        }
        // How much of it waits is bounded by the windows of circuits.
        let message = ChannelMessage::Mesh(message).encode();
        Ok(self.connection.send(channel, PEER_MESSAGE, &message)?)
    }

    fn send_peer(&mut self, message: ChannelMessage) -> Result<(), SessionError> {
        let Some(channel) = self.peer_channel else {
            return Ok(());
        };
        let message = message.encode();
        // Whoever asks on and reads nothing is not given all of it to keep.
        self.unread = match self.connection.is_writable() {
            true => 0,
            false => self.unread + message.len(),
        };
        if self.unread > PEER_MESSAGE_BYTES_UNREAD_MAX {
            let limit = PEER_MESSAGE_BYTES_UNREAD_MAX;
            return Err(SessionError::Unread { limit });
        }
        Ok(self
            .connection
            .send_ahead(channel, PEER_MESSAGE, &message)?)
    }

    fn handle_event(&mut self, event: Event) -> Result<Option<SessionEvent>, SessionError> {
        trace_event(&event);
        match event {
            Event::HandshakeComplete {
                hash,
                remote_static,
            } => {
                self.handle_handshake(hash)?;
                Ok(Some(SessionEvent::Handshaken {
                    hash,
                    remote_static,
                }))
            }
            Event::RemoteOpen {
                protocol,
                id,
                handshake,
            } => {
                self.handle_remote_open(&protocol, id.as_deref(), &handshake)?;
                Ok(None)
            }
            Event::Opened { channel, handshake } if self.peer_channel == Some(channel) => {
                self.handle_hello(&handshake)?;
                Ok(None)
            }
            Event::Opened { channel, handshake } if self.is_listing(channel) => {
                self.handle_listing_opened(&handshake)?;
                Ok(None)
            }
            Event::Opened { channel, handshake } => self.handle_feed_opened(channel, &handshake),
            Event::Rejected { channel } | Event::Closed { channel }
                if self.peer_channel == Some(channel) =>
            {
                Err(SessionError::NotKinlog)
            }
            Event::Rejected { channel } | Event::Closed { channel } if self.is_listing(channel) => {
                self.handle_listing_gone()?;
                Ok(None)
            }
            Event::Rejected { channel } => self.handle_feed_gone(channel, true),
            Event::Closed { channel } => self.handle_feed_gone(channel, false),
            Event::Message {
                channel,
                message_type,
                body,
            } if self.is_listing(channel) => self.handle_listing_message(message_type, &body),
            Event::Message {
                channel,
                message_type,
                body,
            } if self.peer_channel == Some(channel) => self.handle_peer_message(message_type, body),
            Event::Message {
                channel,
                message_type,
                body,
            } => {
                let Some(feed) = self.channels.get(&channel).filter(|feed| feed.open) else {
                    return Ok(None);
                };
                let message = Message::decode(message_type, &body)?;
                Ok(message.map(|message| SessionEvent::Feed(feed.key, message)))
            }
            // A later version of the wire may tell more than this session needs.
            _ => Ok(None),
        }
    }

    fn handle_handshake(&mut self, hash: [u8; 64]) -> Result<(), SessionError> {
        self.handshake_hash = Some(hash);
        match self.config.meeting {
            Meeting::Topic { label, key } => {
                let cap = hello::cap(&hash, self.config.role, label, &key);
                let mut hello = Hello::new(self.config.format, label, cap);
                if self.config.associations {
                    hello = hello.with_associations();
                }
                if let Some(Relays(relays)) = self.config.introduces {
                    hello = hello.with_introductions(relays);
                }
                let channel = self.connection.open(PEER_PROTOCOL, None, &hello.encode())?;
                self.peer_channel = Some(channel);
            }
            Meeting::Plain => {
                self.naming = Naming::Channels;
                self.open_listing(&hash)?;
                self.open = true;
                self.events.push_back(SessionEvent::Open(None));
                self.apply_feeds()?;
            }
        }
        Ok(())
    }

    fn handle_hello(&mut self, body: &[u8]) -> Result<(), SessionError> {
        let (Meeting::Topic { label, key }, Some(hash)) =
            (self.config.meeting, &self.handshake_hash)
        else {
            return Err(SessionError::NotKinlog);
        };
        let theirs = Hello::decode(body)?;
        let expected = hello::cap(hash, self.config.role.other(), label, &key);
        if theirs.label != label.byte() || !hello::cap_matches(expected, theirs.cap) {
            return Err(SessionError::WrongCapability);
        }
        let (ours, theirs_format) = (self.config.format, theirs.format());
        if ours != 0 && theirs_format != 0 && ours != theirs_format {
            return Err(SessionError::OtherFormat {
                ours,
                theirs: theirs_format,
            });
        }
        self.connection
            .set_receive_frame_max(kinlog_feeds::limits::FRAME_BYTES_MAX);
        self.connection.set_send_frame_max(theirs.frame_bytes_max);
        self.open = true;
        self.takes_associations = self.config.associations && theirs.takes_associations();
        self.introduces = self.config.introduces.is_some() && theirs.introduces();
        let relays = self.introduces.then(|| Relays(theirs.relays()));
        self.events.push_back(SessionEvent::Open(relays));
        if theirs.lists_feeds() {
            let hash = *hash;
            return self.open_listing(&hash);
        }
        self.naming = Naming::Channels;
        self.apply_feeds()
    }

    fn handle_peer_message(
        &mut self,
        message_type: u64,
        body: Bytes,
    ) -> Result<Option<SessionEvent>, SessionError> {
        match message_type {
            CERTIFICATE => {
                let Some(hash) = &self.handshake_hash else {
                    return Ok(None);
                };
                if std::mem::replace(&mut self.certified, true) {
                    return Err(SessionError::SecondCertificate);
                }
                let role = self.config.role.other();
                let shown = certificate::check(&body, role, hash, &self.config.binding)?;
                Ok(Some(SessionEvent::Certified(shown)))
            }
            PEER_MESSAGE => match ChannelMessage::decode(body)? {
                Some(ChannelMessage::Want(tags)) => {
                    self.handle_want(tags)?;
                    Ok(None)
                }
                Some(ChannelMessage::Unwant(tags)) => {
                    self.handle_unwant(&tags)?;
                    Ok(None)
                }
                Some(ChannelMessage::Association(message)) => Ok((self.takes_associations
                    || message.measures())
                .then_some(SessionEvent::Association(message))),
                Some(ChannelMessage::Mesh(message)) => {
                    Ok(self.introduces.then_some(SessionEvent::Mesh(message)))
                }
                Some(ChannelMessage::Host(message)) => Ok(Some(SessionEvent::Host(message))),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    fn is_listing(&self, channel: ChannelId) -> bool {
        self.listing
            .as_ref()
            .is_some_and(|(listing, _)| *listing == channel)
    }

    fn is_plain(&self) -> bool {
        self.config.meeting == Meeting::Plain
    }
}

/// Returns the name by which a session with this handshake asks for a feed.
pub(super) fn session_tag(handshake_hash: &[u8; 64], key: &FeedKey) -> Tag {
    let hash = blake2b_256_keyed(
        handshake_hash,
        &[&namespace::SESSION_TAG.hash(), key.as_bytes()],
    );
    let mut tag = Tag::default();
    tag.copy_from_slice(&hash[..8]);
    tag
}
