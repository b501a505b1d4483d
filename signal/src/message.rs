//! Messages between client and server as valid values; bytes become them in [`decode`] only.
//!
//! [`decode`]: ClientMessage::decode

use bytes::Bytes;
use kinlog_feeds::PublicKey;
use kinlog_feeds::crypto::SIGNATURE_BYTES;
use prost::Message as _;
use zeroize::Zeroizing;

use crate::Topic;
use crate::generated::kinlog_signal_v1 as wire;
use crate::ice::{IceCredential, IceServers, IceUrl};
use crate::join::NONCE_BYTES;
use crate::limits::{
    BODY_BYTES_MAX, FRAME_BYTES_MAX, ICE_TEXT_BYTES_MAX, ICE_URLS_MAX, PEERS_LISTED_MAX,
};

/// What a signal to a peer carries.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SignalKind {
    /// A session description that opens a connection.
    Offer,
    /// The description that answers an offer.
    Answer,
    /// One address at which the sender may be reached.
    Candidate,
}

impl SignalKind {
    /// Returns its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            SignalKind::Offer => "offer",
            SignalKind::Answer => "answer",
            SignalKind::Candidate => "candidate",
        }
    }
}

/// A message of a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientMessage {
    /// Enters a topic.
    Join {
        topic: Topic,
        client_key: PublicKey,
        signature: [u8; SIGNATURE_BYTES],
        /// Whether [`ServerMessage::IceServers`] is to come first.
        ice_servers: bool,
    },
    /// Leaves a topic.
    Leave { topic: Topic },
    /// Passes a signal to one peer of a topic.
    Send {
        topic: Topic,
        to: PublicKey,
        kind: SignalKind,
        body: Bytes,
    },
    /// Asks for a pong.
    Ping,
    /// Asks for new credentials in the name of a joined topic.
    GetIceServers { topic: Topic },
}

/// A message of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerMessage {
    /// The greeting.
    Hello {
        nonce: [u8; NONCE_BYTES],
        version: u32,
        limits: AnnouncedLimits,
    },
    /// The topic was entered; `peers` are some of those who are in it.
    Joined { topic: Topic, peers: Vec<PublicKey> },
    /// A peer entered the topic.
    PeerJoined { topic: Topic, peer: PublicKey },
    /// A peer left the topic.
    PeerLeft { topic: Topic, peer: PublicKey },
    /// A peer sent a signal.
    Signal {
        topic: Topic,
        from: PublicKey,
        kind: SignalKind,
        body: Bytes,
    },
    /// Something was refused.
    Error(Refusal),
    /// Answer to a ping.
    Pong,
    /// By which servers clients learn their addresses and are relayed.
    IceServers { topic: Topic, servers: IceServers },
}

/// Limits as the server announces them, for the client to stay within.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AnnouncedLimits {
    /// Topics of one connection.
    pub topics_max: u32,
    /// Peers in one topic.
    pub peers_max: u32,
    /// Peers in one `Joined`.
    pub peers_listed_max: u32,
    /// Bytes in one signal.
    pub body_bytes_max: u32,
    /// Bytes in one WebSocket message.
    pub frame_bytes_max: u32,
    /// Milliseconds between pings of an idle client.
    pub ping_interval_ms: u32,
    /// Milliseconds of silence after which the server closes.
    pub stale_after_ms: u32,
}

/// Why the server refused something.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RefusalCode {
    /// The message does not decode.
    Malformed,
    /// The signature of a join does not hold.
    BadSignature,
    /// The connection is not in the topic it named.
    NotJoined,
    /// The named peer is not in the topic.
    NoSuchPeer,
    /// The connection is in as many topics as it may.
    TooManyTopics,
    /// The topic has as many peers as it may.
    TopicFull,
    /// The topic is joined too often just now.
    RateLimited,
    /// Another connection joined the topic with the same key.
    Replaced,
    /// The server holds as many memberships as it may.
    ServerFull,
    /// A code of a newer server.
    Unknown(i32),
}

impl RefusalCode {
    /// Returns its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            RefusalCode::Malformed => "malformed",
            RefusalCode::BadSignature => "bad_signature",
            RefusalCode::NotJoined => "not_joined",
            RefusalCode::NoSuchPeer => "no_such_peer",
            RefusalCode::TooManyTopics => "too_many_topics",
            RefusalCode::TopicFull => "topic_full",
            RefusalCode::RateLimited => "rate_limited",
            RefusalCode::Replaced => "replaced",
            RefusalCode::ServerFull => "server_full",
            RefusalCode::Unknown(_) => "unknown",
        }
    }
}

/// A refusal with what it concerns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// The topic it concerns, if one.
    pub topic: Option<Topic>,
    /// The peer it concerns, if one.
    pub peer: Option<PublicKey>,
    /// The reason in words.
    pub message: String,
    /// Milliseconds after which trying again makes sense; 0 when the server names none.
    pub retry_after_ms: u32,
}

/// Bytes that are no message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// More bytes than a message may have.
    #[error("message of {actual} bytes, the limit is {limit}")]
    TooLong { limit: usize, actual: usize },
    /// Not protobuf of this schema.
    #[error("message does not decode: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// No kind that this build knows.
    #[error("message is empty or of an unknown kind")]
    UnknownKind,
    /// A field of a fixed length with another one.
    #[error("field {field} has {actual} bytes, expected {expected}")]
    FieldLength {
        field: &'static str,
        expected: usize,
        actual: usize,
    },
    /// A field beyond its limit.
    #[error("field {field} has {actual} entries or bytes, the limit is {limit}")]
    AboveLimit {
        field: &'static str,
        limit: usize,
        actual: usize,
    },
    /// A field with a value that this build does not know.
    #[error("field {field} has the unknown value {actual}")]
    UnknownValue { field: &'static str, actual: i32 },
}

impl ClientMessage {
    /// Encodes as one WebSocket message.
    pub fn encode(&self) -> Bytes {
        use wire::client_message::Message;
        let message = match self {
            ClientMessage::Join {
                topic,
                client_key,
                signature,
                ice_servers,
            } => Message::Join(wire::Join {
                topic: bytes_of(&topic.0),
                client_key: bytes_of(&client_key.0),
                signature: bytes_of(signature),
                ice_servers: *ice_servers,
            }),
            ClientMessage::Leave { topic } => Message::Leave(wire::Leave {
                topic: bytes_of(&topic.0),
            }),
            ClientMessage::Send {
                topic,
                to,
                kind,
                body,
            } => Message::Send(wire::Send {
                topic: bytes_of(&topic.0),
                to: bytes_of(&to.0),
                kind: encode_kind(*kind),
                body: body.clone(),
            }),
            ClientMessage::Ping => Message::Ping(wire::Ping {}),
            ClientMessage::GetIceServers { topic } => Message::GetIceServers(wire::GetIceServers {
                topic: bytes_of(&topic.0),
            }),
        };
        wire::ClientMessage {
            message: Some(message),
        }
        .encode_to_vec()
        .into()
    }

    /// Decodes one WebSocket message; never allocates more than a small multiple of its length.
    pub fn decode(frame: Bytes) -> Result<Self, MessageError> {
        use wire::client_message::Message;
        check_length(&frame)?;
        Ok(
            match wire::ClientMessage::decode(frame)?
                .message
                .ok_or(MessageError::UnknownKind)?
            {
                Message::Join(join) => ClientMessage::Join {
                    topic: Topic(fixed("topic", &join.topic)?),
                    client_key: PublicKey(fixed("client_key", &join.client_key)?),
                    signature: fixed("signature", &join.signature)?,
                    ice_servers: join.ice_servers,
                },
                Message::Leave(leave) => ClientMessage::Leave {
                    topic: Topic(fixed("topic", &leave.topic)?),
                },
                Message::Send(send) => ClientMessage::Send {
                    topic: Topic(fixed("topic", &send.topic)?),
                    to: PublicKey(fixed("to", &send.to)?),
                    kind: decode_kind(send.kind)?,
                    body: body(send.body)?,
                },
                Message::Ping(wire::Ping {}) => ClientMessage::Ping,
                Message::GetIceServers(get) => ClientMessage::GetIceServers {
                    topic: Topic(fixed("topic", &get.topic)?),
                },
            },
        )
    }
}

impl ServerMessage {
    /// Encodes as one WebSocket message.
    pub fn encode(&self) -> Bytes {
        use wire::server_message::Message;
        let message = match self {
            ServerMessage::Hello {
                nonce,
                version,
                limits,
            } => Message::Hello(wire::Hello {
                nonce: bytes_of(nonce),
                version: *version,
                limits: Some(wire::Limits {
                    topics_max: limits.topics_max,
                    peers_max: limits.peers_max,
                    peers_listed_max: limits.peers_listed_max,
                    body_bytes_max: limits.body_bytes_max,
                    frame_bytes_max: limits.frame_bytes_max,
                    ping_interval_ms: limits.ping_interval_ms,
                    stale_after_ms: limits.stale_after_ms,
                }),
            }),
            ServerMessage::Joined { topic, peers } => Message::Joined(wire::Joined {
                topic: bytes_of(&topic.0),
                peers: peers.iter().map(|peer| bytes_of(&peer.0)).collect(),
            }),
            ServerMessage::PeerJoined { topic, peer } => Message::PeerJoined(wire::PeerJoined {
                topic: bytes_of(&topic.0),
                peer: bytes_of(&peer.0),
            }),
            ServerMessage::PeerLeft { topic, peer } => Message::PeerLeft(wire::PeerLeft {
                topic: bytes_of(&topic.0),
                peer: bytes_of(&peer.0),
            }),
            ServerMessage::Signal {
                topic,
                from,
                kind,
                body,
            } => Message::Signal(wire::Signal {
                topic: bytes_of(&topic.0),
                from: bytes_of(&from.0),
                kind: encode_kind(*kind),
                body: body.clone(),
            }),
            ServerMessage::Error(refusal) => Message::Error(wire::Error {
                code: encode_code(refusal.code),
                topic: refusal
                    .topic
                    .map(|topic| bytes_of(&topic.0))
                    .unwrap_or_default(),
                peer: refusal
                    .peer
                    .map(|peer| bytes_of(&peer.0))
                    .unwrap_or_default(),
                message: refusal.message.clone(),
                retry_after_ms: refusal.retry_after_ms,
            }),
            ServerMessage::Pong => Message::Pong(wire::Pong {}),
            ServerMessage::IceServers { topic, servers } => Message::IceServers(wire::IceServers {
                topic: bytes_of(&topic.0),
                stun_urls: servers.stun.iter().map(ToString::to_string).collect(),
                turn_urls: servers.turn.iter().map(ToString::to_string).collect(),
                username: servers.username.clone(),
                credential: servers.credential.reveal().to_owned(),
                lifetime_s: servers.lifetime_s,
            }),
        };
        let message = wire::ServerMessage {
            message: Some(message),
        };
        // Overwritten when it was sent: what clients say to each other is nobody else's.
        Bytes::from_owner(Zeroizing::new(message.encode_to_vec()))
    }

    /// Decodes one WebSocket message; never allocates more than a small multiple of its length.
    pub fn decode(frame: Bytes) -> Result<Self, MessageError> {
        use wire::server_message::Message;
        check_length(&frame)?;
        Ok(
            match wire::ServerMessage::decode(frame)?
                .message
                .ok_or(MessageError::UnknownKind)?
            {
                Message::Hello(hello) => {
                    let limits = hello.limits.unwrap_or_default();
                    ServerMessage::Hello {
                        nonce: fixed("nonce", &hello.nonce)?,
                        version: hello.version,
                        limits: AnnouncedLimits {
                            topics_max: limits.topics_max,
                            peers_max: limits.peers_max,
                            peers_listed_max: limits.peers_listed_max,
                            body_bytes_max: limits.body_bytes_max,
                            frame_bytes_max: limits.frame_bytes_max,
                            ping_interval_ms: limits.ping_interval_ms,
                            stale_after_ms: limits.stale_after_ms,
                        },
                    }
                }
                Message::Joined(joined) => ServerMessage::Joined {
                    topic: Topic(fixed("topic", &joined.topic)?),
                    peers: peers(&joined.peers)?,
                },
                Message::PeerJoined(joined) => ServerMessage::PeerJoined {
                    topic: Topic(fixed("topic", &joined.topic)?),
                    peer: PublicKey(fixed("peer", &joined.peer)?),
                },
                Message::PeerLeft(left) => ServerMessage::PeerLeft {
                    topic: Topic(fixed("topic", &left.topic)?),
                    peer: PublicKey(fixed("peer", &left.peer)?),
                },
                Message::Signal(signal) => ServerMessage::Signal {
                    topic: Topic(fixed("topic", &signal.topic)?),
                    from: PublicKey(fixed("from", &signal.from)?),
                    kind: decode_kind(signal.kind)?,
                    body: body(signal.body)?,
                },
                Message::Error(error) => ServerMessage::Error(Refusal {
                    code: decode_code(error.code),
                    topic: optional("topic", &error.topic)?.map(Topic),
                    peer: optional("peer", &error.peer)?.map(PublicKey),
                    message: error.message,
                    retry_after_ms: error.retry_after_ms,
                }),
                Message::Pong(wire::Pong {}) => ServerMessage::Pong,
                Message::IceServers(told) => ServerMessage::IceServers {
                    topic: Topic(fixed("topic", &told.topic)?),
                    servers: IceServers {
                        stun: ice_urls("stun_urls", &told.stun_urls)?,
                        turn: ice_urls("turn_urls", &told.turn_urls)?,
                        username: ice_text("username", told.username)?,
                        credential: IceCredential::new(ice_text("credential", told.credential)?),
                        lifetime_s: told.lifetime_s,
                    },
                },
            },
        )
    }
}

fn check_length(frame: &Bytes) -> Result<(), MessageError> {
    match frame.len() {
        0..=FRAME_BYTES_MAX => Ok(()),
        actual => Err(MessageError::TooLong {
            limit: FRAME_BYTES_MAX,
            actual,
        }),
    }
}

fn bytes_of(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn fixed<const N: usize>(field: &'static str, bytes: &Bytes) -> Result<[u8; N], MessageError> {
    let wrong = || MessageError::FieldLength {
        field,
        expected: N,
        actual: bytes.len(),
    };
    bytes.as_ref().try_into().map_err(|_| wrong())
}

fn optional(field: &'static str, bytes: &Bytes) -> Result<Option<[u8; 32]>, MessageError> {
    if bytes.is_empty() {
        Ok(None)
    } else {
        fixed(field, bytes).map(Some)
    }
}

fn peers(list: &[Bytes]) -> Result<Vec<PublicKey>, MessageError> {
    if list.len() > PEERS_LISTED_MAX {
        let (limit, actual) = (PEERS_LISTED_MAX, list.len());
        return Err(MessageError::AboveLimit {
            field: "peers",
            limit,
            actual,
        });
    }
    list.iter()
        .map(|peer| Ok(PublicKey(fixed("peers", peer)?)))
        .collect()
}

fn body(body: Bytes) -> Result<Bytes, MessageError> {
    match body.len() {
        0..=BODY_BYTES_MAX => Ok(body),
        actual => Err(MessageError::AboveLimit {
            field: "body",
            limit: BODY_BYTES_MAX,
            actual,
        }),
    }
}

/// Takes the URLs that this build understands; a newer server may tell others beside them.
fn ice_urls(field: &'static str, urls: &[String]) -> Result<Vec<IceUrl>, MessageError> {
    if urls.len() > ICE_URLS_MAX {
        let (limit, actual) = (ICE_URLS_MAX, urls.len());
        return Err(MessageError::AboveLimit {
            field,
            limit,
            actual,
        });
    }
    let is_turn = field == "turn_urls";
    let urls = urls.iter().filter_map(|url| url.parse::<IceUrl>().ok());
    Ok(urls.filter(|url| url.is_turn() == is_turn).collect())
}

fn ice_text(field: &'static str, text: String) -> Result<String, MessageError> {
    match text.len() {
        0..=ICE_TEXT_BYTES_MAX => Ok(text),
        actual => Err(MessageError::AboveLimit {
            field,
            limit: ICE_TEXT_BYTES_MAX,
            actual,
        }),
    }
}

fn encode_kind(kind: SignalKind) -> i32 {
    match kind {
        SignalKind::Offer => wire::SignalKind::Offer.into(),
        SignalKind::Answer => wire::SignalKind::Answer.into(),
        SignalKind::Candidate => wire::SignalKind::Candidate.into(),
    }
}

fn decode_kind(kind: i32) -> Result<SignalKind, MessageError> {
    match wire::SignalKind::try_from(kind) {
        Ok(wire::SignalKind::Offer) => Ok(SignalKind::Offer),
        Ok(wire::SignalKind::Answer) => Ok(SignalKind::Answer),
        Ok(wire::SignalKind::Candidate) => Ok(SignalKind::Candidate),
        _ => Err(MessageError::UnknownValue {
            field: "kind",
            actual: kind,
        }),
    }
}

fn encode_code(code: RefusalCode) -> i32 {
    match code {
        RefusalCode::Malformed => wire::ErrorCode::Malformed.into(),
        RefusalCode::BadSignature => wire::ErrorCode::BadSignature.into(),
        RefusalCode::NotJoined => wire::ErrorCode::NotJoined.into(),
        RefusalCode::NoSuchPeer => wire::ErrorCode::NoSuchPeer.into(),
        RefusalCode::TooManyTopics => wire::ErrorCode::TooManyTopics.into(),
        RefusalCode::TopicFull => wire::ErrorCode::TopicFull.into(),
        RefusalCode::RateLimited => wire::ErrorCode::RateLimited.into(),
        RefusalCode::Replaced => wire::ErrorCode::Replaced.into(),
        RefusalCode::ServerFull => wire::ErrorCode::ServerFull.into(),
        RefusalCode::Unknown(code) => code,
    }
}

fn decode_code(code: i32) -> RefusalCode {
    match wire::ErrorCode::try_from(code) {
        Ok(wire::ErrorCode::Malformed) => RefusalCode::Malformed,
        Ok(wire::ErrorCode::BadSignature) => RefusalCode::BadSignature,
        Ok(wire::ErrorCode::NotJoined) => RefusalCode::NotJoined,
        Ok(wire::ErrorCode::NoSuchPeer) => RefusalCode::NoSuchPeer,
        Ok(wire::ErrorCode::TooManyTopics) => RefusalCode::TooManyTopics,
        Ok(wire::ErrorCode::TopicFull) => RefusalCode::TopicFull,
        Ok(wire::ErrorCode::RateLimited) => RefusalCode::RateLimited,
        Ok(wire::ErrorCode::Replaced) => RefusalCode::Replaced,
        Ok(wire::ErrorCode::ServerFull) => RefusalCode::ServerFull,
        Ok(wire::ErrorCode::Unspecified) | Err(_) => RefusalCode::Unknown(code),
    }
}
