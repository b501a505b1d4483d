//! Messages on the `kinlog/peer/1` channel, as values.

use bytes::Bytes;
use kinlog_feeds::Hash;
use prost::Message as _;

use super::associations::AssociationMessage;
use super::mesh::MeshMessage;
use super::presence::Presence;
use super::seed_clearing::SeedClearing;
use crate::generated::kinlog_peer_v1 as wire;
use crate::generated::kinlog_peer_v1::peer_message::Message;
use crate::limits::{
    IDENTITY_SET_BYTES_MAX, JOIN_BYTES_MAX, MEETING_URL_BYTES_MAX, MEETING_URLS_MAX,
    SEED_GRANT_BYTES_MAX, SIGN_IN_RECORD_BYTES_MAX, TAGS_PER_MESSAGE_MAX,
};

/// A message that the node carries and its host understands.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PeerMessage {
    /// "My identity set has this hash."
    IdentityOffer {
        /// Hash of the whole set.
        hash: Hash,
    },
    /// "Send me your identity set."
    IdentityGet,
    /// A whole identity set, at most [`IDENTITY_SET_BYTES_MAX`].
    IdentitySet {
        /// The set's bytes.
        bytes: Bytes,
    },
    /// A request to join a room, at most [`JOIN_BYTES_MAX`].
    JoinRequest {
        /// The request's bytes.
        bytes: Bytes,
    },
    /// The answer to a join request, at most [`JOIN_BYTES_MAX`].
    JoinResponse {
        /// The answer's bytes.
        bytes: Bytes,
    },
    /// What members of a room, and its seeders, say to each other, at most [`JOIN_BYTES_MAX`].
    Room {
        /// The message's bytes.
        bytes: Bytes,
    },
    /// "This seed grant is mine."
    SeedProof {
        /// The grant's bytes, at most [`SEED_GRANT_BYTES_MAX`].
        grant: Bytes,
        /// Identity set of the seeder's agent, at most [`IDENTITY_SET_BYTES_MAX`].
        identity_set: Bytes,
    },
    /// "Keep this too", from the device that gave a grant before.
    SeedRenewal {
        /// The new grant's bytes, at most [`SEED_GRANT_BYTES_MAX`].
        grant: Bytes,
    },
    /// "This grant of mine holds no more."
    SeedEnd {
        /// Hash of the grant.
        hash: Hash,
    },
    /// "These blocks are gone", of a feed that a seeder keeps, from the device that gave the grant.
    SeedCleared(SeedClearing),
    /// "Send me the sign-in record that this session may have, if its number is greater."
    SignInGet {
        /// Number of the one that is held, 0 for none.
        after: u64,
    },
    /// A sign-in record, at most [`SIGN_IN_RECORD_BYTES_MAX`].
    SignInRecord {
        /// The record's bytes.
        bytes: Bytes,
    },
    /// "Here I am met without a server", in the place of what was told before.
    MeetingPoints {
        /// URLs of meeting points, at most [`MEETING_URLS_MAX`] of [`MEETING_URL_BYTES_MAX`] each.
        urls: Vec<String>,
    },
    /// "This is what I do in this room now."
    Presence(Presence),
}

impl PeerMessage {
    /// Encodes the message as the session's channel carries it (`docs/protocol.md`, "Peer messages").
    pub fn encode(self) -> Vec<u8> {
        ChannelMessage::Host(self).encode()
    }

    /// Decodes a body of the session's channel; `None` is a message that the session itself understands, or
    /// one that this build does not know.
    ///
    /// # Errors
    /// What does not decode, or is longer than its limit.
    pub fn decode(body: Bytes) -> Result<Option<PeerMessage>, PeerMessageError> {
        Ok(match ChannelMessage::decode(body)? {
            Some(ChannelMessage::Host(message)) => Some(message),
            _ => None,
        })
    }
}

/// The name by which a session asks for a feed: `H_{handshake hash}(NS("session-tag") || key)[..8]`.
pub(crate) type Tag = [u8; 8];

/// Everything the channel carries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ChannelMessage {
    Want(Vec<Tag>),
    Unwant(Vec<Tag>),
    Association(AssociationMessage),
    Mesh(MeshMessage),
    Host(PeerMessage),
}

/// Why bytes on the peer channel are no message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerMessageError {
    /// Not protobuf.
    #[error("peer message: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A field is longer than it may be, or not as long as it must be.
    #[error("{field} of {bytes} bytes, limit {limit}")]
    Size {
        /// The field.
        field: &'static str,
        /// Its size.
        bytes: usize,
        /// The size it may, or must, have.
        limit: usize,
    },
    /// More ranges than one message may carry, or half of one.
    #[error("{count} ranges of cleared blocks and a rest, at most {limit} whole ones")]
    Ranges {
        /// How many.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// Ranges that do not ascend, or reach beyond any feed.
    #[error("ranges of cleared blocks out of order")]
    RangesOrder,
    /// More peers than one message may tell of.
    #[error("{count} peers in a message, at most {limit}")]
    Peers {
        /// How many.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// More meeting points than one message may tell of.
    #[error("{count} meeting points in a message, at most {limit}")]
    Urls {
        /// How many.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// More tags than one message may carry.
    #[error("{count} tags in a message, at most {limit}")]
    Tags {
        /// How many.
        count: usize,
        /// How many may be.
        limit: usize,
    },
}

impl ChannelMessage {
    pub(crate) fn encode(self) -> Vec<u8> {
        let message = match self {
            ChannelMessage::Want(tags) => Message::Want(wire::Want {
                tags: encode_tags(&tags),
            }),
            ChannelMessage::Unwant(tags) => Message::Unwant(wire::Unwant {
                tags: encode_tags(&tags),
            }),
            ChannelMessage::Association(message) => message.into(),
            ChannelMessage::Mesh(message) => message.into(),
            ChannelMessage::Host(PeerMessage::IdentityOffer { hash }) => {
                let hash = Bytes::copy_from_slice(&hash.0);
                Message::IdentityOffer(wire::IdentityOffer { hash })
            }
            ChannelMessage::Host(PeerMessage::IdentityGet) => {
                Message::IdentityGet(wire::IdentityGet {})
            }
            ChannelMessage::Host(PeerMessage::IdentitySet { bytes }) => {
                Message::IdentitySet(wire::IdentitySet { set: bytes })
            }
            ChannelMessage::Host(PeerMessage::JoinRequest { bytes }) => {
                Message::JoinRequest(wire::JoinRequest { request: bytes })
            }
            ChannelMessage::Host(PeerMessage::JoinResponse { bytes }) => {
                Message::JoinResponse(wire::JoinResponse { response: bytes })
            }
            ChannelMessage::Host(PeerMessage::Room { bytes }) => {
                Message::RoomWord(wire::RoomWord { word: bytes })
            }
            ChannelMessage::Host(PeerMessage::SeedProof {
                grant,
                identity_set,
            }) => Message::SeedProof(wire::SeedProof {
                grant,
                identity_set,
            }),
            ChannelMessage::Host(PeerMessage::SeedRenewal { grant }) => {
                Message::SeedRenewal(wire::SeedRenewal { grant })
            }
            ChannelMessage::Host(PeerMessage::SeedEnd { hash }) => {
                let hash = Bytes::copy_from_slice(&hash.0);
                Message::SeedEnd(wire::SeedEnd { hash })
            }
            ChannelMessage::Host(PeerMessage::SeedCleared(clearing)) => {
                Message::SeedCleared(clearing.into())
            }
            ChannelMessage::Host(PeerMessage::SignInGet { after }) => {
                Message::SignInGet(wire::SignInGet { after })
            }
            ChannelMessage::Host(PeerMessage::SignInRecord { bytes }) => {
                Message::SignInRecord(wire::SignInRecord { record: bytes })
            }
            ChannelMessage::Host(PeerMessage::MeetingPoints { urls }) => {
                Message::MeetingPoints(wire::MeetingPoints { urls })
            }
            ChannelMessage::Host(PeerMessage::Presence(presence)) => {
                Message::Presence(presence.into())
            }
        };
        wire::PeerMessage {
            message: Some(message),
        }
        .encode_to_vec()
    }

    /// Decodes a message; `None` is one that this build does not know.
    pub(crate) fn decode(body: Bytes) -> Result<Option<ChannelMessage>, PeerMessageError> {
        let Some(message) = wire::PeerMessage::decode(body)?.message else {
            return Ok(None);
        };
        let message = match message {
            Message::Want(want) => ChannelMessage::Want(decode_tags(&want.tags)?),
            Message::Unwant(unwant) => ChannelMessage::Unwant(decode_tags(&unwant.tags)?),
            Message::IdentityOffer(offer) => {
                let hash = decode_hash("identity hash", &offer.hash)?;
                ChannelMessage::Host(PeerMessage::IdentityOffer { hash })
            }
            Message::IdentityGet(_) => ChannelMessage::Host(PeerMessage::IdentityGet),
            Message::IdentitySet(set) => {
                let bytes = at_most("identity set", set.set, IDENTITY_SET_BYTES_MAX)?;
                ChannelMessage::Host(PeerMessage::IdentitySet { bytes })
            }
            Message::JoinRequest(join) => {
                let bytes = at_most("join request", join.request, JOIN_BYTES_MAX)?;
                ChannelMessage::Host(PeerMessage::JoinRequest { bytes })
            }
            Message::JoinResponse(join) => {
                let bytes = at_most("join response", join.response, JOIN_BYTES_MAX)?;
                ChannelMessage::Host(PeerMessage::JoinResponse { bytes })
            }
            Message::RoomWord(room) => {
                let bytes = at_most("message about a room", room.word, JOIN_BYTES_MAX)?;
                ChannelMessage::Host(PeerMessage::Room { bytes })
            }
            Message::SeedProof(proof) => ChannelMessage::Host(PeerMessage::SeedProof {
                grant: at_most("seed grant", proof.grant, SEED_GRANT_BYTES_MAX)?,
                identity_set: at_most("identity set", proof.identity_set, IDENTITY_SET_BYTES_MAX)?,
            }),
            Message::SeedRenewal(renewal) => {
                let grant = at_most("seed grant", renewal.grant, SEED_GRANT_BYTES_MAX)?;
                ChannelMessage::Host(PeerMessage::SeedRenewal { grant })
            }
            Message::SeedEnd(end) => {
                let hash = decode_hash("hash of a seed grant", &end.hash)?;
                ChannelMessage::Host(PeerMessage::SeedEnd { hash })
            }
            Message::SeedCleared(cleared) => {
                ChannelMessage::Host(PeerMessage::SeedCleared(cleared.try_into()?))
            }
            Message::SignInGet(get) => {
                ChannelMessage::Host(PeerMessage::SignInGet { after: get.after })
            }
            Message::SignInRecord(sent) => {
                let bytes = at_most("sign-in record", sent.record, SIGN_IN_RECORD_BYTES_MAX)?;
                ChannelMessage::Host(PeerMessage::SignInRecord { bytes })
            }
            Message::MeetingPoints(points) => {
                if points.urls.len() > MEETING_URLS_MAX {
                    return Err(PeerMessageError::Urls {
                        count: points.urls.len(),
                        limit: MEETING_URLS_MAX,
                    });
                }
                let longest = points.urls.iter().map(String::len).max();
                if let Some(bytes) = longest.filter(|bytes| *bytes > MEETING_URL_BYTES_MAX) {
                    return Err(PeerMessageError::Size {
                        field: "URL of a meeting point",
                        bytes,
                        limit: MEETING_URL_BYTES_MAX,
                    });
                }
                ChannelMessage::Host(PeerMessage::MeetingPoints { urls: points.urls })
            }
            Message::Presence(sent) => match Presence::read(&sent)? {
                Some(presence) => ChannelMessage::Host(PeerMessage::Presence(presence)),
                None => return Ok(None),
            },
            message @ (Message::Ping(_)
            | Message::Pong(_)
            | Message::AssociationsWanted(_)
            | Message::AssociationOffer(_)
            | Message::AssociationAnswer(_)
            | Message::AssociationCandidate(_)
            | Message::AssociationRefused(_)
            | Message::AssociationClosed(_)) => match AssociationMessage::decode(message)? {
                Some(message) => ChannelMessage::Association(message),
                None => return Ok(None),
            },
            message @ (Message::PeerQuery(_)
            | Message::PeerFound(_)
            | Message::NetworkState(_)
            | Message::Parting(_)
            | Message::Introduced(_)
            | Message::CircuitOpen(_)
            | Message::CircuitAccepted(_)
            | Message::CircuitRefused(_)
            | Message::CircuitData(_)
            | Message::CircuitCredit(_)
            | Message::CircuitClosed(_)) => match MeshMessage::decode(message)? {
                Some(message) => ChannelMessage::Mesh(message),
                None => return Ok(None),
            },
        };
        Ok(Some(message))
    }
}

fn decode_hash(field: &'static str, bytes: &Bytes) -> Result<Hash, PeerMessageError> {
    let hash = bytes.as_ref().try_into();
    hash.map(Hash).map_err(|_| PeerMessageError::Size {
        field,
        bytes: bytes.len(),
        limit: 32,
    })
}

pub(super) fn at_most(
    field: &'static str,
    bytes: Bytes,
    limit: usize,
) -> Result<Bytes, PeerMessageError> {
    if bytes.len() > limit {
        return Err(PeerMessageError::Size {
            field,
            bytes: bytes.len(),
            limit,
        });
    }
    Ok(bytes)
}

fn encode_tags(tags: &[Tag]) -> Vec<Bytes> {
    tags.iter().map(|tag| Bytes::copy_from_slice(tag)).collect()
}

fn decode_tags(tags: &[Bytes]) -> Result<Vec<Tag>, PeerMessageError> {
    if tags.len() > TAGS_PER_MESSAGE_MAX {
        return Err(PeerMessageError::Tags {
            count: tags.len(),
            limit: TAGS_PER_MESSAGE_MAX,
        });
    }
    tags.iter()
        .map(|tag| {
            Tag::try_from(tag.as_ref()).map_err(|_| PeerMessageError::Size {
                field: "tag",
                bytes: tag.len(),
                limit: 8,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::FeedKey;
    use proptest::prelude::*;

    use super::*;
    use crate::session::{Doing, associations, mesh};

    fn messages() -> Vec<ChannelMessage> {
        let mut messages = vec![
            ChannelMessage::Want(vec![[1; 8], [2; 8]]),
            ChannelMessage::Unwant(vec![[3; 8]]),
            ChannelMessage::Host(PeerMessage::IdentityOffer {
                hash: Hash([4; 32]),
            }),
            ChannelMessage::Host(PeerMessage::IdentityGet),
            ChannelMessage::Host(PeerMessage::IdentitySet {
                bytes: Bytes::from_static(b"set"),
            }),
            ChannelMessage::Host(PeerMessage::JoinRequest {
                bytes: Bytes::from_static(b"in?"),
            }),
            ChannelMessage::Host(PeerMessage::JoinResponse {
                bytes: Bytes::from_static(b"in"),
            }),
            ChannelMessage::Host(PeerMessage::Room {
                bytes: Bytes::from_static(b"word"),
            }),
            ChannelMessage::Host(PeerMessage::SeedProof {
                grant: Bytes::from_static(b"grant"),
                identity_set: Bytes::from_static(b"set"),
            }),
            ChannelMessage::Host(PeerMessage::SeedRenewal {
                grant: Bytes::from_static(b"grant"),
            }),
            ChannelMessage::Host(PeerMessage::SeedEnd {
                hash: Hash([5; 32]),
            }),
            ChannelMessage::Host(PeerMessage::SeedCleared(
                SeedClearing::of(FeedKey([6; 32]), &[0..3, 7..(1 << 53) - 1]).remove(0),
            )),
            ChannelMessage::Host(PeerMessage::SignInGet { after: 7 }),
            ChannelMessage::Host(PeerMessage::SignInRecord {
                bytes: Bytes::from_static(b"record"),
            }),
            ChannelMessage::Host(PeerMessage::MeetingPoints {
                urls: vec!["ws://192.168.1.5:40000".to_owned(); MEETING_URLS_MAX],
            }),
            ChannelMessage::Host(PeerMessage::Presence(Presence {
                room: [7; 32],
                doing: Doing::Typing,
                for_s: 8,
            })),
        ];
        let further = associations::examples().into_iter();
        messages.extend(further.map(ChannelMessage::Association));
        messages.extend(mesh::examples().into_iter().map(ChannelMessage::Mesh));
        messages
    }

    #[test]
    fn messages_come_back_as_they_were() {
        for message in messages() {
            let bytes = Bytes::from(message.clone().encode());
            assert_eq!(ChannelMessage::decode(bytes).unwrap(), Some(message));
        }
    }

    #[test]
    fn message_of_a_later_build_is_ignored() {
        // Field 90, length-delimited, empty.
        assert_eq!(
            ChannelMessage::decode(Bytes::from_static(&[0xd2, 0x05, 0x00])),
            Ok(None)
        );
    }

    #[test]
    fn oversized_fields_are_refused() {
        let set = Bytes::from(vec![0; IDENTITY_SET_BYTES_MAX + 1]);
        let bytes = ChannelMessage::Host(PeerMessage::IdentitySet { bytes: set }).encode();
        let error = ChannelMessage::decode(Bytes::from(bytes)).unwrap_err();
        assert!(matches!(
            error,
            PeerMessageError::Size {
                field: "identity set",
                ..
            }
        ));
        let grant = Bytes::from(vec![0; SEED_GRANT_BYTES_MAX + 1]);
        let bytes = ChannelMessage::Host(PeerMessage::SeedRenewal { grant }).encode();
        assert!(ChannelMessage::decode(Bytes::from(bytes)).is_err());
        let many = ChannelMessage::Want(vec![[0; 8]; TAGS_PER_MESSAGE_MAX + 1]).encode();
        let error = ChannelMessage::decode(Bytes::from(many)).unwrap_err();
        assert!(matches!(error, PeerMessageError::Tags { .. }));
    }

    #[test]
    fn meeting_points_that_are_many_or_long_are_refused() {
        let decode = |urls: Vec<String>| {
            let bytes = ChannelMessage::Host(PeerMessage::MeetingPoints { urls }).encode();
            ChannelMessage::decode(Bytes::from(bytes))
        };
        let url = "x".repeat(MEETING_URL_BYTES_MAX);
        assert!(decode(vec![url.clone(); MEETING_URLS_MAX]).is_ok());
        let many = decode(vec![url.clone(); MEETING_URLS_MAX + 1]);
        assert!(matches!(many, Err(PeerMessageError::Urls { .. })));
        let long = decode(vec![url + "x"]);
        assert!(matches!(long, Err(PeerMessageError::Size { .. })));
    }

    #[test]
    fn cleared_blocks_that_are_many_or_out_of_order_are_refused() {
        let decode = |ranges: Vec<u64>, key: usize| {
            let cleared = wire::SeedCleared {
                feed_key: vec![1; key].into(),
                ranges,
            };
            let message = Some(Message::SeedCleared(cleared));
            let bytes = wire::PeerMessage { message }.encode_to_vec();
            ChannelMessage::decode(Bytes::from(bytes))
        };
        assert!(decode((0..2 * 1024).collect(), 32).is_ok());
        assert!(decode(Vec::new(), 32).is_ok());
        let many = decode((0..2 * 1025).collect(), 32);
        assert!(matches!(many, Err(PeerMessageError::Ranges { .. })));
        let half = decode(vec![1, 2, 3], 32);
        assert!(matches!(half, Err(PeerMessageError::Ranges { .. })));
        for ranges in [vec![2, 2], vec![3, 1], vec![0, 2, 2, 3], vec![0, u64::MAX]] {
            assert_eq!(decode(ranges, 32), Err(PeerMessageError::RangesOrder));
        }
        assert!(matches!(
            decode(vec![0, 1], 31),
            Err(PeerMessageError::Size { .. })
        ));
        let many: Vec<_> = (0..2500).map(|number| 2 * number..2 * number + 1).collect();
        let parts = SeedClearing::of(FeedKey([6; 32]), &many);
        let counts = parts.iter().map(|part| part.ranges().len());
        assert_eq!(counts.collect::<Vec<_>>(), [1024, 1024, 452]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = ChannelMessage::decode(Bytes::from(bytes));
        }
    }
}
