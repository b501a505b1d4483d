//! What is said in rooms: messages and files.

use kinlog_feeds::crypto::{FeedKey, Secret};
use kinlog_feeds::limits::UINT_MAX;

use crate::Text;
use crate::entry::body::{fixed, text};
use crate::entry::{BodyError, Mentions, Ref};
use crate::generated::kinlog_entry_v1 as wire;
use crate::limits::{FILE_CHUNKS_MAX, MESSAGE_BYTES_MAX, MIME_BYTES_MAX, NAME_BYTES_MAX};

/// A chat message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// What was written, in Markdown.
    pub text: Text<MESSAGE_BYTES_MAX>,
    /// The message that this one answers.
    pub reply: Option<Ref>,
    /// Whom it names.
    pub mentions: Mentions,
}

impl Message {
    /// Says `text`, to nobody in particular.
    pub fn new(text: Text<MESSAGE_BYTES_MAX>) -> Self {
        Message {
            text,
            reply: None,
            mentions: Mentions::default(),
        }
    }
}

/// A file in the author's blobs feed of the room, in chunks sealed under a key of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// File name as the author had it; never a path to write to unchecked.
    pub name: Text<NAME_BYTES_MAX>,
    /// MIME type.
    pub mime: Text<MIME_BYTES_MAX>,
    /// Bytes of the plaintext.
    pub size_bytes: u64,
    /// BLAKE3 of the plaintext: the content's name.
    pub blake3: [u8; 32],
    /// Feed that holds the chunks.
    pub blobs_feed: FeedKey,
    /// Block of the first chunk.
    pub first_block: u64,
    /// Number of chunks.
    pub blocks: u64,
    /// Key of the chunks.
    pub key: Secret,
}

impl TryFrom<wire::Message> for Message {
    type Error = BodyError;

    fn try_from(body: wire::Message) -> Result<Self, BodyError> {
        Ok(Message {
            text: text("text", body.text)?,
            reply: body.reply.map(Ref::try_from).transpose()?,
            mentions: Mentions::from_wire(&body.mentions)?,
        })
    }
}

impl From<&Message> for wire::Message {
    fn from(body: &Message) -> Self {
        wire::Message {
            text: body.text.to_string(),
            reply: body.reply.as_ref().map(Into::into),
            mentions: body.mentions.to_wire(),
        }
    }
}

impl TryFrom<wire::File> for File {
    type Error = BodyError;

    fn try_from(body: wire::File) -> Result<Self, BodyError> {
        let within = |field, actual, limit| {
            if actual > limit {
                Err(BodyError::Value { field, actual })
            } else {
                Ok(actual)
            }
        };
        Ok(File {
            name: text("name", body.name)?,
            mime: text("mime", body.mime)?,
            size_bytes: within("size_bytes", body.size_bytes, UINT_MAX)?,
            blake3: fixed("blake3", &body.blake3)?,
            blobs_feed: FeedKey(fixed("blobs_feed", &body.blobs_feed)?),
            first_block: within("first_block", body.first_block, UINT_MAX - FILE_CHUNKS_MAX)?,
            blocks: within("blocks", body.blocks, FILE_CHUNKS_MAX)?,
            key: Secret::new(fixed("key", &body.key)?),
        })
    }
}

impl From<&File> for wire::File {
    fn from(body: &File) -> Self {
        wire::File {
            name: body.name.to_string(),
            mime: body.mime.to_string(),
            size_bytes: body.size_bytes,
            blake3: body.blake3.to_vec().into(),
            blobs_feed: body.blobs_feed.0.to_vec().into(),
            first_block: body.first_block,
            blocks: body.blocks,
            key: body.key.expose().to_vec().into(),
        }
    }
}
