//! What two sides of a session say about further associations, on its `kinlog/peer/1` channel.

use bytes::Bytes;

use crate::generated::kinlog_peer_v1 as wire;
use crate::generated::kinlog_peer_v1::peer_message::Message;
use crate::limits::{ASSOCIATION_BODY_BYTES_MAX, ASSOCIATION_CANDIDATE_BYTES_MAX};
use crate::session::PeerMessageError;
use crate::session::message::at_most;

/// By what both sides of a further association know each other: whoever has it is at one of the ends of
/// the session, as it travels there alone.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Token(pub(crate) [u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Why no association is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// There are as many as there may be.
    Enough,
    /// Too little was carried lately for more of them to be of use.
    NotNeeded,
    /// It could not be made.
    Failed,
}

impl Refusal {
    fn number(self) -> u32 {
        match self {
            Refusal::Enough => 1,
            Refusal::NotNeeded => 2,
            Refusal::Failed => 3,
        }
    }

    /// A reason of a later build is as good as none.
    fn of(number: u32) -> Refusal {
        match number {
            1 => Refusal::Enough,
            2 => Refusal::NotNeeded,
            _ => Refusal::Failed,
        }
    }
}

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum AssociationMessage {
    Ping(u64),
    Pong(u64),
    Wanted,
    Offer {
        id: u64,
        token: Token,
        description: Bytes,
    },
    Answer {
        id: u64,
        description: Bytes,
    },
    Candidate {
        id: u64,
        candidate: Bytes,
    },
    Refused {
        id: u64,
        reason: Refusal,
    },
    /// Nothing comes any more, and this many messages of the other side came.
    Closed {
        id: u64,
        received: u64,
    },
}

impl AssociationMessage {
    /// Returns whether it measures a round trip: any session may have that measured.
    pub(crate) fn measures(&self) -> bool {
        matches!(
            self,
            AssociationMessage::Ping(_) | AssociationMessage::Pong(_)
        )
    }

    /// Takes a message off the wire; `None` is one about something else.
    pub(crate) fn decode(message: Message) -> Result<Option<Self>, PeerMessageError> {
        Ok(Some(match message {
            Message::Ping(ping) => AssociationMessage::Ping(ping.number),
            Message::Pong(pong) => AssociationMessage::Pong(pong.number),
            Message::AssociationsWanted(_) => AssociationMessage::Wanted,
            Message::AssociationOffer(offer) => {
                let token = offer.token.as_ref().try_into();
                let token = token.map_err(|_| PeerMessageError::Size {
                    field: "token of an association",
                    bytes: offer.token.len(),
                    limit: 32,
                })?;
                AssociationMessage::Offer {
                    id: offer.id,
                    token: Token(token),
                    description: body("offer of an association", offer.description)?,
                }
            }
            Message::AssociationAnswer(answer) => AssociationMessage::Answer {
                id: answer.id,
                description: body("answer of an association", answer.description)?,
            },
            Message::AssociationCandidate(candidate) => AssociationMessage::Candidate {
                id: candidate.id,
                candidate: at_most(
                    "candidate of an association",
                    candidate.candidate,
                    ASSOCIATION_CANDIDATE_BYTES_MAX,
                )?,
            },
            Message::AssociationRefused(refused) => AssociationMessage::Refused {
                id: refused.id,
                reason: Refusal::of(refused.reason),
            },
            Message::AssociationClosed(closed) => AssociationMessage::Closed {
                id: closed.id,
                received: closed.received,
            },
            _ => return Ok(None),
        }))
    }
}

impl From<AssociationMessage> for Message {
    fn from(message: AssociationMessage) -> Message {
        match message {
            AssociationMessage::Ping(number) => Message::Ping(wire::Ping { number }),
            AssociationMessage::Pong(number) => Message::Pong(wire::Pong { number }),
            AssociationMessage::Wanted => Message::AssociationsWanted(wire::AssociationsWanted {}),
            AssociationMessage::Offer {
                id,
                token,
                description,
            } => Message::AssociationOffer(wire::AssociationOffer {
                id,
                token: Bytes::copy_from_slice(&token.0),
                description,
            }),
            AssociationMessage::Answer { id, description } => {
                Message::AssociationAnswer(wire::AssociationAnswer { id, description })
            }
            AssociationMessage::Candidate { id, candidate } => {
                Message::AssociationCandidate(wire::AssociationCandidate { id, candidate })
            }
            AssociationMessage::Refused { id, reason } => {
                let reason = reason.number();
                Message::AssociationRefused(wire::AssociationRefused { id, reason })
            }
            AssociationMessage::Closed { id, received } => {
                Message::AssociationClosed(wire::AssociationClosed { id, received })
            }
        }
    }
}

fn body(field: &'static str, bytes: Bytes) -> Result<Bytes, PeerMessageError> {
    at_most(field, bytes, ASSOCIATION_BODY_BYTES_MAX)
}

#[cfg(test)]
pub(crate) fn examples() -> Vec<AssociationMessage> {
    vec![
        AssociationMessage::Ping(7),
        AssociationMessage::Pong(u64::MAX),
        AssociationMessage::Wanted,
        AssociationMessage::Offer {
            id: 1,
            token: Token([9; 32]),
            description: Bytes::from_static(b"offer"),
        },
        AssociationMessage::Answer {
            id: 1,
            description: Bytes::from_static(b"answer"),
        },
        AssociationMessage::Candidate {
            id: 2,
            candidate: Bytes::from_static(b"candidate"),
        },
        AssociationMessage::Refused {
            id: 3,
            reason: Refusal::NotNeeded,
        },
        AssociationMessage::Closed {
            id: 3,
            received: 12,
        },
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
        let offer = "92012b08011220".to_owned() + &"09".repeat(32) + "1a056f66666572";
        let golden = [
            "7a020807",
            "82010b08ffffffffffffffffff01",
            "8a0100",
            &offer,
            "9a010a08011206616e73776572",
            "a2010d0802120963616e646964617465",
            "aa010408031002",
            "b201040803100c",
        ];
        let encode = |message| encode_hex(&ChannelMessage::Association(message).encode());
        let encoded: Vec<String> = examples().into_iter().map(encode).collect();
        assert_eq!(encoded, golden);
    }

    #[test]
    fn tokens_and_bodies_of_other_sizes_are_refused() {
        let decode = |message| ChannelMessage::decode(Bytes::from(encode(message)));
        let encode_offer = |token: usize, description: usize| {
            decode(Message::AssociationOffer(wire::AssociationOffer {
                id: 1,
                token: vec![0; token].into(),
                description: vec![0; description].into(),
            }))
        };
        assert!(encode_offer(32, ASSOCIATION_BODY_BYTES_MAX).is_ok());
        assert!(encode_offer(31, 1).is_err());
        assert!(encode_offer(32, ASSOCIATION_BODY_BYTES_MAX + 1).is_err());
        let candidate = vec![0; ASSOCIATION_CANDIDATE_BYTES_MAX + 1].into();
        let candidate = wire::AssociationCandidate { id: 1, candidate };
        assert!(decode(Message::AssociationCandidate(candidate)).is_err());
    }

    fn encode(message: Message) -> Vec<u8> {
        let message = Some(message);
        prost::Message::encode_to_vec(&wire::PeerMessage { message })
    }
}
