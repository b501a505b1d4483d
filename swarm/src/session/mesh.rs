//! What a peer says about other peers of the same meeting, and carries between them.

use bytes::Bytes;
use kinlog_feeds::PublicKey;
use kinlog_signal::SignalKind;

use crate::generated::kinlog_peer_v1 as wire;
use crate::generated::kinlog_peer_v1::peer_message::Message;
use crate::limits::{CIRCUIT_DATA_BYTES_MAX, INTRODUCED_BODY_BYTES_MAX, PEERS_TOLD_MAX};
use crate::session::PeerMessageError;
use crate::session::message::at_most;

/// A peer that an introducer has a session with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FoundPeer {
    /// Its Noise static in the meeting.
    pub(crate) peer: PublicKey,
    pub(crate) can_relay: bool,
    /// For how long the introducer has had the session.
    pub(crate) connected_s: u32,
    /// Its device, where everybody of the meeting shows one.
    pub(crate) device: Option<PublicKey>,
    /// Whoever has the session, where that is not the introducer itself.
    pub(crate) via: Option<PublicKey>,
}

/// The other of the two between whom an introducer stands, as either of them names it to the introducer or hears it named.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Beyond {
    /// For that peer.
    To(PublicKey),
    /// Of that peer.
    From(PublicKey),
}

/// Why there is no circuit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CircuitRefusal {
    /// The peer asked does not relay.
    NoRelay,
    /// It has no session with the other end that would do.
    UnknownPeer,
    /// It relays as much as it may.
    Enough,
    /// The other end does not want it.
    NotWanted,
}

impl CircuitRefusal {
    fn number(self) -> u32 {
        match self {
            CircuitRefusal::NoRelay => 1,
            CircuitRefusal::UnknownPeer => 2,
            CircuitRefusal::Enough => 3,
            CircuitRefusal::NotWanted => 4,
        }
    }

    /// A reason of a later build is as good as the last.
    fn of(number: u32) -> Self {
        match number {
            1 => CircuitRefusal::NoRelay,
            2 => CircuitRefusal::UnknownPeer,
            3 => CircuitRefusal::Enough,
            _ => CircuitRefusal::NotWanted,
        }
    }
}

/// How far a query goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reach {
    /// Whom the other side has, and from now on who comes and goes.
    Near,
    /// The same, and once whom those have in turn.
    Further,
    /// Asked on for somebody else: answered once, and never asked on.
    Forwarded,
}

/// What is said about one circuit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum CircuitMessage {
    Open,
    Accepted,
    Refused(CircuitRefusal),
    Data(Bytes),
    Credit(u32),
    Closed,
}

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum MeshMessage {
    Query {
        request_id: u64,
        reach: Reach,
    },
    Found {
        request_id: u64,
        peers: Vec<FoundPeer>,
        gone: Vec<PublicKey>,
    },
    /// What changed since the last one.
    State {
        peers: Vec<FoundPeer>,
        gone: Vec<PublicKey>,
        coordinators: Vec<PublicKey>,
        /// Seconds since 1970, by the teller's clock.
        timestamp_s: u64,
    },
    /// The sender has enough sessions, and closes this one.
    Parting,
    Introduced {
        beyond: Beyond,
        kind: SignalKind,
        body: Bytes,
    },
    Circuit {
        beyond: Beyond,
        /// Tells the circuits between the same two apart.
        number: u64,
        message: CircuitMessage,
    },
}

impl MeshMessage {
    /// Returns whether it is content, which waits its turn behind other content.
    pub(crate) fn is_bulk(&self) -> bool {
        let data = |message: &CircuitMessage| matches!(message, CircuitMessage::Data(_));
        matches!(self, MeshMessage::Circuit { message, .. } if data(message))
    }

    /// Takes one of the messages between 23 and 31; `None` is one that this build does not know.
    pub(crate) fn decode(message: Message) -> Result<Option<Self>, PeerMessageError> {
        let circuit = |to: Bytes, from: Bytes, number: u64, message: CircuitMessage| {
            let beyond = beyond(&to, &from)?;
            Ok(Some(MeshMessage::Circuit {
                beyond,
                number,
                message,
            }))
        };
        match message {
            Message::PeerQuery(query) => Ok(Some(MeshMessage::Query {
                request_id: query.request_id,
                reach: match (query.forwarded, query.further) {
                    (true, _) => Reach::Forwarded,
                    (false, true) => Reach::Further,
                    (false, false) => Reach::Near,
                },
            })),
            Message::NetworkState(state) => decode_state(&state).map(Some),
            Message::Parting(_) => Ok(Some(MeshMessage::Parting)),
            Message::PeerFound(found) => decode_found(&found).map(Some),
            Message::Introduced(introduced) => {
                let kind = match introduced.kind {
                    1 => SignalKind::Offer,
                    2 => SignalKind::Answer,
                    3 => SignalKind::Candidate,
                    _ => return Ok(None),
                };
                let body = introduced.body;
                let body = at_most("body of an introduction", body, INTRODUCED_BODY_BYTES_MAX)?;
                let beyond = beyond(&introduced.to, &introduced.from)?;
                Ok(Some(MeshMessage::Introduced { beyond, kind, body }))
            }
            Message::CircuitOpen(it) => circuit(it.to, it.from, it.number, CircuitMessage::Open),
            Message::CircuitAccepted(it) => {
                circuit(it.to, it.from, it.number, CircuitMessage::Accepted)
            }
            Message::CircuitRefused(it) => {
                let reason = CircuitRefusal::of(it.reason);
                circuit(it.to, it.from, it.number, CircuitMessage::Refused(reason))
            }
            Message::CircuitData(it) => {
                let bytes = at_most("data of a circuit", it.bytes, CIRCUIT_DATA_BYTES_MAX)?;
                circuit(it.to, it.from, it.number, CircuitMessage::Data(bytes))
            }
            Message::CircuitCredit(it) => {
                circuit(it.to, it.from, it.number, CircuitMessage::Credit(it.bytes))
            }
            Message::CircuitClosed(it) => {
                circuit(it.to, it.from, it.number, CircuitMessage::Closed)
            }
            _ => Ok(None),
        }
    }
}

impl From<MeshMessage> for Message {
    fn from(message: MeshMessage) -> Message {
        match message {
            MeshMessage::Query { request_id, reach } => Message::PeerQuery(wire::PeerQuery {
                request_id,
                further: reach == Reach::Further,
                forwarded: reach == Reach::Forwarded,
            }),
            MeshMessage::Parting => Message::Parting(wire::Parting {}),
            MeshMessage::State {
                peers,
                gone,
                coordinators,
                timestamp_s,
            } => Message::NetworkState(wire::NetworkState {
                online_members: peers.into_iter().map(encode_found).collect(),
                coordinators: coordinators.iter().map(bytes).collect(),
                timestamp: timestamp_s,
                gone: gone.iter().map(bytes).collect(),
            }),
            MeshMessage::Found {
                request_id,
                peers,
                gone,
            } => Message::PeerFound(wire::PeerFound {
                request_id,
                peers: peers.into_iter().map(encode_found).collect(),
                gone: gone.iter().map(bytes).collect(),
            }),
            MeshMessage::Introduced { beyond, kind, body } => {
                let kind = match kind {
                    SignalKind::Offer => 1,
                    SignalKind::Answer => 2,
                    SignalKind::Candidate => 3,
                };
                let (to, from) = both(beyond);
                Message::Introduced(wire::Introduced {
                    to,
                    from,
                    kind,
                    body,
                })
            }
            MeshMessage::Circuit {
                beyond,
                number,
                message,
            } => circuit_message(beyond, number, message),
        }
    }
}

fn circuit_message(beyond: Beyond, number: u64, message: CircuitMessage) -> Message {
    let (to, from) = both(beyond);
    match message {
        CircuitMessage::Open => Message::CircuitOpen(wire::CircuitOpen { to, from, number }),
        CircuitMessage::Accepted => {
            Message::CircuitAccepted(wire::CircuitAccepted { to, from, number })
        }
        CircuitMessage::Refused(reason) => Message::CircuitRefused(wire::CircuitRefused {
            to,
            from,
            number,
            reason: reason.number(),
        }),
        CircuitMessage::Data(bytes) => Message::CircuitData(wire::CircuitData {
            to,
            from,
            number,
            bytes,
        }),
        CircuitMessage::Credit(bytes) => Message::CircuitCredit(wire::CircuitCredit {
            to,
            from,
            number,
            bytes,
        }),
        CircuitMessage::Closed => Message::CircuitClosed(wire::CircuitClosed { to, from, number }),
    }
}

fn decode_found(found: &wire::PeerFound) -> Result<MeshMessage, PeerMessageError> {
    Ok(MeshMessage::Found {
        request_id: found.request_id,
        peers: decode_peers(&found.peers)?,
        gone: decode_keys(&found.gone)?,
    })
}

fn decode_state(state: &wire::NetworkState) -> Result<MeshMessage, PeerMessageError> {
    Ok(MeshMessage::State {
        peers: decode_peers(&state.online_members)?,
        gone: decode_keys(&state.gone)?,
        coordinators: decode_keys(&state.coordinators)?,
        timestamp_s: state.timestamp,
    })
}

fn decode_peers(peers: &[wire::FoundPeer]) -> Result<Vec<FoundPeer>, PeerMessageError> {
    at_most_peers(peers.len())?;
    let peers = peers.iter().map(|one| {
        Ok(FoundPeer {
            peer: key(&one.peer)?,
            can_relay: one.can_relay,
            connected_s: one.connected_s,
            device: key_or_none(&one.device)?,
            via: key_or_none(&one.via)?,
        })
    });
    peers.collect()
}

fn decode_keys(keys: &[Bytes]) -> Result<Vec<PublicKey>, PeerMessageError> {
    at_most_peers(keys.len())?;
    keys.iter().map(key).collect()
}

fn at_most_peers(count: usize) -> Result<(), PeerMessageError> {
    match count > PEERS_TOLD_MAX {
        true => Err(PeerMessageError::Peers {
            count,
            limit: PEERS_TOLD_MAX,
        }),
        false => Ok(()),
    }
}

fn key_or_none(bytes: &Bytes) -> Result<Option<PublicKey>, PeerMessageError> {
    match bytes.is_empty() {
        true => Ok(None),
        false => key(bytes).map(Some),
    }
}

fn encode_found(found: FoundPeer) -> wire::FoundPeer {
    wire::FoundPeer {
        peer: bytes(&found.peer),
        can_relay: found.can_relay,
        connected_s: found.connected_s,
        device: found.device.as_ref().map(bytes).unwrap_or_default(),
        via: found.via.as_ref().map(bytes).unwrap_or_default(),
    }
}

fn beyond(to: &Bytes, from: &Bytes) -> Result<Beyond, PeerMessageError> {
    if from.is_empty() {
        key(to).map(Beyond::To)
    } else {
        key(from).map(Beyond::From)
    }
}

fn both(beyond: Beyond) -> (Bytes, Bytes) {
    match beyond {
        Beyond::To(peer) => (bytes(&peer), Bytes::new()),
        Beyond::From(peer) => (Bytes::new(), bytes(&peer)),
    }
}

fn bytes(key: &PublicKey) -> Bytes {
    Bytes::copy_from_slice(&key.0)
}

fn key(bytes: &Bytes) -> Result<PublicKey, PeerMessageError> {
    let key = <[u8; 32]>::try_from(bytes.as_ref());
    key.map(PublicKey).map_err(|_| PeerMessageError::Size {
        field: "name of a peer",
        bytes: bytes.len(),
        limit: 32,
    })
}

#[cfg(test)]
pub(crate) fn examples() -> Vec<MeshMessage> {
    let peer = PublicKey([7; 32]);
    let circuit = |message| MeshMessage::Circuit {
        beyond: Beyond::From(peer),
        number: 9,
        message,
    };
    vec![
        MeshMessage::Query {
            request_id: 1,
            reach: Reach::Near,
        },
        MeshMessage::Query {
            request_id: 1,
            reach: Reach::Further,
        },
        MeshMessage::Query {
            request_id: 1,
            reach: Reach::Forwarded,
        },
        MeshMessage::Found {
            request_id: 1,
            peers: vec![FoundPeer {
                peer,
                can_relay: true,
                connected_s: 5,
                device: None,
                via: None,
            }],
            gone: vec![PublicKey([8; 32])],
        },
        MeshMessage::State {
            peers: vec![FoundPeer {
                peer,
                can_relay: false,
                connected_s: 0,
                device: Some(PublicKey([8; 32])),
                via: Some(peer),
            }],
            gone: vec![peer],
            coordinators: vec![peer],
            timestamp_s: 9,
        },
        MeshMessage::Parting,
        MeshMessage::Introduced {
            beyond: Beyond::To(peer),
            kind: SignalKind::Answer,
            body: Bytes::from_static(b"answer"),
        },
        circuit(CircuitMessage::Open),
        circuit(CircuitMessage::Accepted),
        circuit(CircuitMessage::Refused(CircuitRefusal::Enough)),
        circuit(CircuitMessage::Data(Bytes::from_static(b"sealed"))),
        circuit(CircuitMessage::Credit(65_536)),
        circuit(CircuitMessage::Closed),
    ]
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::text::encode_hex;

    use super::*;
    use crate::session::message::ChannelMessage;

    /// What another implementation has to write.
    #[test]
    fn messages_have_these_bytes() {
        let seven = "0a20".to_owned() + &"07".repeat(32);
        let of_seven = "1220".to_owned() + &"07".repeat(32);
        let eight = "1a20".to_owned() + &"08".repeat(32);
        let (sevens, eights) = ("07".repeat(32), "08".repeat(32));
        let golden = [
            "ba01020801".to_owned(),
            "ba010408011001".to_owned(),
            "ba010408011801".to_owned(),
            format!("c2014c08011226{seven}10011805{eight}"),
            format!("ca02ae010a660a20{sevens}2220{eights}2a20{sevens}1220{sevens}18092220{sevens}"),
            "d20200".to_owned(),
            format!("ca012c{seven}18022206616e73776572"),
            format!("d20124{of_seven}1809"),
            format!("da0124{of_seven}1809"),
            format!("e20126{of_seven}18092003"),
            format!("ea012c{of_seven}180922067365616c6564"),
            format!("f20128{of_seven}180920808004"),
            format!("fa0124{of_seven}1809"),
        ];
        let encode = |message| encode_hex(&ChannelMessage::Mesh(message).encode());
        let encoded: Vec<String> = examples().into_iter().map(encode).collect();
        assert_eq!(encoded, golden);
    }

    #[test]
    fn too_many_peers_long_bodies_and_short_names_are_refused() {
        let encode = |message: Message| {
            let message = Some(message);
            let bytes = prost::Message::encode_to_vec(&wire::PeerMessage { message });
            ChannelMessage::decode(Bytes::from(bytes))
        };
        let name = Bytes::from(vec![1; 32]);
        let gone = |count: usize| wire::PeerFound {
            gone: vec![name.clone(); count],
            ..wire::PeerFound::default()
        };
        assert!(encode(Message::PeerFound(gone(PEERS_TOLD_MAX))).is_ok());
        assert!(encode(Message::PeerFound(gone(PEERS_TOLD_MAX + 1))).is_err());
        let body = |bytes: usize| wire::Introduced {
            to: name.clone(),
            kind: 1,
            body: vec![0; bytes].into(),
            ..wire::Introduced::default()
        };
        assert!(encode(Message::Introduced(body(INTRODUCED_BODY_BYTES_MAX))).is_ok());
        assert!(encode(Message::Introduced(body(INTRODUCED_BODY_BYTES_MAX + 1))).is_err());
        let data = |bytes: usize| wire::CircuitData {
            to: name.clone(),
            number: 1,
            bytes: vec![0; bytes].into(),
            ..wire::CircuitData::default()
        };
        assert!(encode(Message::CircuitData(data(CIRCUIT_DATA_BYTES_MAX))).is_ok());
        assert!(encode(Message::CircuitData(data(CIRCUIT_DATA_BYTES_MAX + 1))).is_err());
        let short = wire::CircuitOpen {
            to: Bytes::from_static(&[1; 31]),
            number: 1,
            ..wire::CircuitOpen::default()
        };
        assert!(encode(Message::CircuitOpen(short)).is_err());
        let nobody = wire::CircuitOpen::default();
        assert!(encode(Message::CircuitOpen(nobody)).is_err());
    }
}
