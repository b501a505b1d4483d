//! The messages of the channel.

use bytes::Bytes;

use crate::encoding::{DecodeError, Reader, Writer, uint_len};
use crate::limits::LISTED_PER_MESSAGE_MAX;
use crate::wire::hypercore;
use crate::wire::kinlog::group::{decode_numbers, encode_numbers, numbers_len};
use crate::wire::kinlog::{
    Capability, GroupHeads, GroupMessage, Held, SetAnswer, SetRequest, Watch,
};

/// Types of messages.
mod message_type {
    pub(super) const LIST: u64 = 0;
    pub(super) const UNLIST: u64 = 1;
    pub(super) const ASK_SET: u64 = 2;
    pub(super) const SET: u64 = 3;
    pub(super) const HELD: u64 = 4;
    pub(super) const WANT: u64 = 5;
    pub(super) const UNWANT: u64 = 6;
    pub(super) const WATCH: u64 = 7;
    pub(super) const HEADS: u64 = 8;
    pub(super) const DIFFER: u64 = 9;
    /// The message of `hypercore/alpha` with this number less.
    pub(super) const HYPERCORE: u64 = 16;
}

const WANTED: u64 = 1;

/// A message of `kinlog/feed/1`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are about a feed")]
pub enum Message {
    /// Feeds that the sender wants, or has and was asked for:
    /// `uint flags (1 = wanted) | uint n | n x capability 16`. Each has the next number of the sender,
    /// from 0.
    List {
        /// Whether the sender wants them.
        wanted: bool,
        /// What names them.
        feeds: Vec<Capability>,
    },
    /// Numbers of the sender that stand for nothing any more: `uint n | n x uint number`.
    Unlist(Vec<u64>),
    /// Feeds of these numbers of the sender are wanted now; the same bytes.
    Want(Vec<u64>),
    /// Feeds of these numbers of the sender are not wanted any more; the same bytes.
    Unwant(Vec<u64>),
    /// Something about several feeds: `uint n | n x (uint gap, uint length - 1)`, runs of numbers, ascending, each
    /// gap from the end of the run before, then what it is. Of heads `uint flags (1 = downloading,
    /// 2 = has the manifest, 4 = allows pushes) | digest 32`, the numbers are the sender's; where they differ
    /// nothing, and the numbers are those by which the receiver had named them.
    Group(Vec<u64>, GroupMessage),
    /// Something about one feed: `uint number` of the sender's, then what it is.
    Feed(u64, FeedMessage),
}

/// What is said about one feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FeedMessage {
    /// Asks for blocks under one proof.
    AskSet(SetRequest),
    /// Answers that.
    Set(SetAnswer),
    /// Blocks held, as runs.
    Held(Held),
    /// Asks who holds what, for a while.
    Watch(Watch),
    /// A message of `hypercore/alpha`.
    Hypercore(hypercore::Message),
}

impl FeedMessage {
    /// Returns what says the same as a message of `hypercore/alpha` in fewer bytes, or it as it is.
    pub fn shortest(message: hypercore::Message) -> FeedMessage {
        if let hypercore::Message::Bitfield { start, words } = &message
            && let Some(held) = Held::from_words(*start, words)
            && held.encoded_len() < message.encoded_len()
        {
            return FeedMessage::Held(held);
        }
        FeedMessage::Hypercore(message)
    }
}

impl Message {
    /// Returns the number by which protomux names this message.
    pub fn message_type(&self) -> u64 {
        match self {
            Message::List { .. } => message_type::LIST,
            Message::Unlist(_) => message_type::UNLIST,
            Message::Want(_) => message_type::WANT,
            Message::Unwant(_) => message_type::UNWANT,
            Message::Group(_, GroupMessage::Heads(_)) => message_type::HEADS,
            Message::Group(_, GroupMessage::Differ) => message_type::DIFFER,
            Message::Feed(_, FeedMessage::AskSet(_)) => message_type::ASK_SET,
            Message::Feed(_, FeedMessage::Set(_)) => message_type::SET,
            Message::Feed(_, FeedMessage::Held(_)) => message_type::HELD,
            Message::Feed(_, FeedMessage::Watch(_)) => message_type::WATCH,
            Message::Feed(_, FeedMessage::Hypercore(message)) => {
                message_type::HYPERCORE + message.message_type()
            }
        }
    }

    /// Decodes the body of a message; a type this build does not know gives `None`.
    pub fn decode(message_type: u64, body: &Bytes) -> Result<Option<Message>, DecodeError> {
        let mut reader = Reader::new(body);
        let of_numbers = match message_type {
            message_type::LIST => {
                let wanted = reader.uint()? & WANTED != 0;
                let count = reader.uint_max("feeds listed", LISTED_PER_MESSAGE_MAX)?;
                let feeds = (0..count).map(|_| reader.fixed());
                let feeds = feeds.collect::<Result<_, _>>()?;
                return Ok(Some(Message::List { wanted, feeds }));
            }
            message_type::HEADS => {
                let numbers = decode_numbers(&mut reader)?;
                let heads = GroupHeads::decode(&mut reader)?;
                return Ok(Some(Message::Group(numbers, GroupMessage::Heads(heads))));
            }
            message_type::DIFFER => {
                let numbers = decode_numbers(&mut reader)?;
                return Ok(Some(Message::Group(numbers, GroupMessage::Differ)));
            }
            message_type::UNLIST => Some(Message::Unlist as fn(Vec<u64>) -> Message),
            message_type::WANT => Some(Message::Want as fn(Vec<u64>) -> Message),
            message_type::UNWANT => Some(Message::Unwant as fn(Vec<u64>) -> Message),
            _ => None,
        };
        if let Some(message) = of_numbers {
            let count = reader.uint_max("numbers of feeds", LISTED_PER_MESSAGE_MAX)?;
            let numbers = (0..count).map(|_| reader.uint());
            return Ok(Some(message(numbers.collect::<Result<_, _>>()?)));
        }
        let number = reader.uint()?;
        let message = match message_type {
            message_type::ASK_SET => FeedMessage::AskSet(SetRequest::decode(&mut reader)?),
            message_type::SET => FeedMessage::Set(SetAnswer::decode(&mut reader, body)?),
            message_type::HELD => FeedMessage::Held(Held::decode(&mut reader)?),
            message_type::WATCH => FeedMessage::Watch(Watch::decode(&mut reader)?),
            message_type => {
                let Some(of_hypercore) = message_type.checked_sub(message_type::HYPERCORE) else {
                    return Ok(None);
                };
                let rest = body.slice(reader.position()..);
                match hypercore::Message::decode(of_hypercore, &rest)? {
                    Some(message) => FeedMessage::Hypercore(message),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Message::Feed(number, message)))
    }

    /// Returns the bytes that [`encode`](Self::encode) writes.
    pub fn encoded_len(&self) -> usize {
        match self {
            Message::List { feeds, .. } => 1 + uint_len(feeds.len() as u64) + 16 * feeds.len(),
            Message::Unlist(numbers) | Message::Want(numbers) | Message::Unwant(numbers) => {
                let each = numbers.iter().map(|number| uint_len(*number));
                uint_len(numbers.len() as u64) + each.sum::<usize>()
            }
            Message::Group(numbers, message) => {
                numbers_len(numbers)
                    + match message {
                        GroupMessage::Heads(_) => GroupHeads::BYTES,
                        GroupMessage::Differ => 0,
                    }
            }
            Message::Feed(number, message) => {
                uint_len(*number)
                    + match message {
                        FeedMessage::AskSet(request) => request.encoded_len(),
                        FeedMessage::Set(answer) => answer.encoded_len(),
                        FeedMessage::Held(held) => held.encoded_len(),
                        FeedMessage::Watch(watch) => watch.encoded_len(),
                        FeedMessage::Hypercore(message) => message.encoded_len(),
                    }
            }
        }
    }

    /// Appends the encoded body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::List { wanted, feeds } => {
                out.put_uint(if *wanted { WANTED } else { 0 });
                out.put_uint(feeds.len() as u64);
                feeds.iter().for_each(|capability| out.put_raw(capability));
            }
            Message::Unlist(numbers) | Message::Want(numbers) | Message::Unwant(numbers) => {
                out.put_uint(numbers.len() as u64);
                numbers.iter().for_each(|number| out.put_uint(*number));
            }
            Message::Group(numbers, message) => {
                encode_numbers(numbers, out);
                if let GroupMessage::Heads(heads) = message {
                    heads.encode(out);
                }
            }
            Message::Feed(number, message) => {
                out.put_uint(*number);
                match message {
                    FeedMessage::AskSet(request) => request.encode(out),
                    FeedMessage::Set(answer) => answer.encode(out),
                    FeedMessage::Held(held) => held.encode(out),
                    FeedMessage::Watch(watch) => watch.encode(out),
                    FeedMessage::Hypercore(message) => message.encode(out),
                }
            }
        }
    }
}
