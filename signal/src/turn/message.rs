//! Requests as valid values, and the bytes of answers (RFC 8656 sections 4 to 12 and 18).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use rtc_stun::attributes::{
    ATTR_CHANNEL_NUMBER, ATTR_DATA, ATTR_DONT_FRAGMENT, ATTR_ERROR_CODE, ATTR_FINGERPRINT,
    ATTR_LIFETIME, ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM, ATTR_REQUESTED_ADDRESS_FAMILY,
    ATTR_REQUESTED_TRANSPORT, ATTR_UNKNOWN_ATTRIBUTES, ATTR_USERNAME, ATTR_XOR_PEER_ADDRESS,
    ATTR_XOR_RELAYED_ADDRESS, ATTR_XORMAPPED_ADDRESS, AttrType,
};
use rtc_stun::message::{
    CLASS_ERROR_RESPONSE, CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_ALLOCATE,
    METHOD_CHANNEL_BIND, METHOD_CREATE_PERMISSION, METHOD_DATA, METHOD_REFRESH, METHOD_SEND,
    Message, MessageClass, MessageType, Method, TransactionId,
};
use rtc_stun::xoraddr::XorMappedAddress;

use super::limits::MESSAGE_BYTES_MAX;

/// UDP in REQUESTED-TRANSPORT: what is relayed, however the client itself comes.
const UDP: u8 = 17;

const FAMILY_IPV4: u8 = 1;
const FAMILY_IPV6: u8 = 2;

/// First and last number of a channel (section 12).
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

/// Channel and length before channel data.
const CHANNEL_HEAD_BYTES: usize = 4;

/// Attributes that are understood, beside those that need not be.
const KNOWN: [AttrType; 11] = [
    ATTR_USERNAME,
    ATTR_MESSAGE_INTEGRITY,
    ATTR_REALM,
    ATTR_NONCE,
    ATTR_CHANNEL_NUMBER,
    ATTR_LIFETIME,
    ATTR_XOR_PEER_ADDRESS,
    ATTR_DATA,
    ATTR_REQUESTED_TRANSPORT,
    ATTR_REQUESTED_ADDRESS_FAMILY,
    ATTR_FINGERPRINT,
];

/// Why a request is refused: code and name in metrics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Refusal(pub(super) u16, pub(super) &'static str);

pub(super) const BAD_REQUEST: Refusal = Refusal(400, "bad_request");
pub(super) const NO_CREDENTIAL: Refusal = Refusal(401, "no_credential");
pub(super) const BAD_CREDENTIAL: Refusal = Refusal(401, "bad_credential");
pub(super) const PEER_FORBIDDEN: Refusal = Refusal(403, "peer_forbidden");
pub(super) const UNKNOWN_ATTRIBUTE: Refusal = Refusal(420, "unknown_attribute");
pub(super) const MISMATCH: Refusal = Refusal(437, "mismatch");
pub(super) const STALE_NONCE: Refusal = Refusal(438, "stale_nonce");
pub(super) const FAMILY: Refusal = Refusal(440, "family");
pub(super) const OTHER_CREDENTIAL: Refusal = Refusal(441, "other_credential");
pub(super) const TRANSPORT: Refusal = Refusal(442, "transport");
pub(super) const PEER_FAMILY: Refusal = Refusal(443, "family");
pub(super) const NAME_QUOTA: Refusal = Refusal(486, "name_quota");
pub(super) const ADDRESS_QUOTA: Refusal = Refusal(486, "address_quota");
pub(super) const SERVER_QUOTA: Refusal = Refusal(508, "server_quota");
pub(super) const PERMISSION_QUOTA: Refusal = Refusal(508, "permission_quota");
pub(super) const CHANNEL_QUOTA: Refusal = Refusal(508, "channel_quota");

/// What a client wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    Allocate {
        is_ipv6: bool,
        lifetime: Option<Duration>,
    },
    Refresh {
        lifetime: Option<Duration>,
    },
    Permit {
        peers: Vec<IpAddr>,
    },
    Bind {
        channel: u16,
        peer: SocketAddr,
    },
}

/// What came from a client.
pub(super) enum Received {
    /// Something to answer.
    Request(Message),
    /// Something to pass on: a send indication.
    Send { peer: SocketAddr, data: Bytes },
    /// The same by a channel.
    ChannelData { channel: u16, data: Bytes },
    /// Nothing that this server does.
    Other,
}

impl Received {
    /// Reads one message; never more than [`MESSAGE_BYTES_MAX`].
    pub(super) fn decode(bytes: &[u8]) -> Received {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Received::Other;
        }
        if let Some((channel, data)) = split_channel_data(bytes) {
            let data = Bytes::copy_from_slice(data);
            return Received::ChannelData { channel, data };
        }
        let mut message = Message::new();
        if message.unmarshal_binary(bytes).is_err() {
            return Received::Other;
        }
        match (message.typ.class, message.typ.method) {
            (CLASS_REQUEST, _) => Received::Request(message),
            (CLASS_INDICATION, METHOD_SEND) => {
                let peer = peers(&message).into_iter().flatten().next();
                match (peer, message.get(ATTR_DATA)) {
                    (Some(peer), Ok(data)) => Received::Send {
                        peer,
                        data: data.into(),
                    },
                    _ => Received::Other,
                }
            }
            _ => Received::Other,
        }
    }
}

/// Reads what an authenticated request wants.
pub(super) fn wish(request: &Message) -> Result<Wish, Refusal> {
    if !unknown(request).is_empty() {
        return Err(UNKNOWN_ATTRIBUTE);
    }
    let lifetime = match request.get(ATTR_LIFETIME) {
        Ok(value) => {
            let seconds = value.as_slice().try_into().map_err(|_| BAD_REQUEST)?;
            Some(Duration::from_secs(u32::from_be_bytes(seconds).into()))
        }
        Err(_) => None,
    };
    match request.typ.method {
        METHOD_ALLOCATE => {
            match request.get(ATTR_REQUESTED_TRANSPORT).as_deref() {
                Ok([UDP, ..]) => {}
                Ok(_) => return Err(TRANSPORT),
                Err(_) => return Err(BAD_REQUEST),
            }
            let is_ipv6 = match request.get(ATTR_REQUESTED_ADDRESS_FAMILY).as_deref() {
                Ok([FAMILY_IPV6, ..]) => true,
                Ok([FAMILY_IPV4, ..]) | Err(_) => false,
                Ok(_) => return Err(FAMILY),
            };
            Ok(Wish::Allocate { is_ipv6, lifetime })
        }
        METHOD_REFRESH => Ok(Wish::Refresh { lifetime }),
        METHOD_CREATE_PERMISSION => {
            let peers = peers(request).ok_or(BAD_REQUEST)?;
            if peers.is_empty() {
                return Err(BAD_REQUEST);
            }
            let peers = peers.iter().map(SocketAddr::ip).collect();
            Ok(Wish::Permit { peers })
        }
        METHOD_CHANNEL_BIND => {
            let number = request.get(ATTR_CHANNEL_NUMBER).unwrap_or_default();
            let channel = number.first_chunk().map(|it| u16::from_be_bytes(*it));
            let channel = channel
                .filter(|it| CHANNELS.contains(it))
                .ok_or(BAD_REQUEST)?;
            let peer = peers(request).into_iter().flatten().next();
            let peer = peer.ok_or(BAD_REQUEST)?;
            Ok(Wish::Bind { channel, peer })
        }
        _ => Err(BAD_REQUEST),
    }
}

/// Returns every peer that a message names; `None` when one does not decode.
fn peers(message: &Message) -> Option<Vec<SocketAddr>> {
    let named = message.attributes.0.iter();
    let named = named.filter(|attribute| attribute.typ == ATTR_XOR_PEER_ADDRESS);
    named
        .map(|attribute| {
            // The mask needs the transaction, and the crate reads only the first of a kind.
            let mut one = Message::new();
            one.transaction_id = message.transaction_id;
            one.add(attribute.typ, &attribute.value);
            let mut peer = XorMappedAddress {
                ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                port: 0,
            };
            let is_whole = matches!(attribute.value.len(), 8 | 20);
            let read = peer.get_from_as(&one, ATTR_XOR_PEER_ADDRESS).is_ok();
            (is_whole && read).then(|| SocketAddr::new(peer.ip, peer.port))
        })
        .collect()
}

/// Returns the kinds of attributes that have to be understood and are not.
fn unknown(request: &Message) -> Vec<AttrType> {
    let kinds = request.attributes.0.iter().map(|attribute| attribute.typ);
    let kinds = kinds.filter(|kind| kind.required() && !KNOWN.contains(kind));
    // Every datagram that we send may be fragmented: to ask that none is, is to ask for what is not.
    debug_assert!(!KNOWN.contains(&ATTR_DONT_FRAGMENT));
    kinds.collect()
}

/// An answer or indication that is being written.
pub(super) struct Answer(pub(super) Message);

impl Answer {
    fn new(method: Method, class: MessageClass, transaction: TransactionId) -> Answer {
        let mut message = Message::new();
        message.typ = MessageType::new(method, class);
        message.transaction_id = transaction;
        message.write_header();
        Answer(message)
    }

    pub(super) fn success(request: &Message) -> Answer {
        let method = request.typ.method;
        Answer::new(method, CLASS_SUCCESS_RESPONSE, request.transaction_id)
    }

    /// Says why not, without words: before a client has proved anything it gets few bytes for its own.
    pub(super) fn refused(request: &Message, refusal: Refusal) -> Answer {
        let method = request.typ.method;
        let mut answer = Answer::new(method, CLASS_ERROR_RESPONSE, request.transaction_id);
        let class = u8::try_from(refusal.0 / 100).unwrap_or_default();
        let number = u8::try_from(refusal.0 % 100).unwrap_or_default();
        answer.0.add(ATTR_ERROR_CODE, &[0, 0, class, number]);
        if refusal == UNKNOWN_ATTRIBUTE {
            let kinds = unknown(request)
                .into_iter()
                .flat_map(|it| it.0.to_be_bytes());
            answer
                .0
                .add(ATTR_UNKNOWN_ATTRIBUTES, &kinds.collect::<Vec<_>>());
        }
        answer
    }

    /// Asks for a credential.
    pub(super) fn challenge(mut self, realm: &str, nonce: &str) -> Answer {
        self.0.add(ATTR_REALM, realm.as_bytes());
        self.0.add(ATTR_NONCE, nonce.as_bytes());
        self
    }

    pub(super) fn lifetime(mut self, lifetime: Duration) -> Answer {
        let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        self.0.add(ATTR_LIFETIME, &seconds.to_be_bytes());
        self
    }

    pub(super) fn relayed(self, address: SocketAddr) -> Answer {
        self.address(ATTR_XOR_RELAYED_ADDRESS, address)
    }

    pub(super) fn mapped(self, address: SocketAddr) -> Answer {
        self.address(ATTR_XORMAPPED_ADDRESS, address)
    }

    fn address(mut self, kind: AttrType, address: SocketAddr) -> Answer {
        let shown = XorMappedAddress {
            ip: address.ip().to_canonical(),
            port: address.port(),
        };
        // It fails for no address.
        let _ = shown.add_to_as(&mut self.0, kind);
        self
    }

    pub(super) fn bytes(self) -> Bytes {
        self.0.raw.into()
    }
}

/// Returns what a peer sent as an indication.
pub(super) fn data_indication(number: u64, peer: SocketAddr, data: &[u8]) -> Bytes {
    let mut transaction = TransactionId::default();
    if let Some(place) = transaction.0.first_chunk_mut() {
        *place = number.to_be_bytes();
    }
    let answer = Answer::new(METHOD_DATA, CLASS_INDICATION, transaction);
    let mut answer = answer.address(ATTR_XOR_PEER_ADDRESS, peer);
    answer.0.add(ATTR_DATA, data);
    answer.bytes()
}

/// Returns what a peer sent as channel data, padded as streams need it.
pub(super) fn channel_data(channel: u16, data: &[u8], is_stream: bool) -> Bytes {
    let mut bytes = Vec::with_capacity(CHANNEL_HEAD_BYTES + data.len() + 3);
    bytes.extend_from_slice(&channel.to_be_bytes());
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(data);
    if is_stream {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes.into()
}

fn split_channel_data(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let ([c0, c1, l0, l1], data) = bytes.split_first_chunk::<CHANNEL_HEAD_BYTES>()?;
    let channel = u16::from_be_bytes([*c0, *c1]);
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let data = data.get(..length)?;
    CHANNELS.contains(&channel).then_some((channel, data))
}

/// Returns how long the first message of a stream is, as soon as its head is there.
///
/// # Errors
///
/// Returns an error when it is none, or too long.
pub(super) fn stream_message_bytes(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let Some([first, _, l0, l1]) = bytes.first_chunk::<CHANNEL_HEAD_BYTES>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let whole = match first >> 6 {
        0 => rtc_stun::message::MESSAGE_HEADER_SIZE + length,
        1 => (CHANNEL_HEAD_BYTES + length).next_multiple_of(4),
        _ => return Err(BAD_REQUEST),
    };
    if whole > MESSAGE_BYTES_MAX {
        return Err(BAD_REQUEST);
    }
    Ok(Some(whole))
}
