//! The envelope of every entry; final from the first commit.

use bytes::Bytes;
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};
use kinlog_feeds::limits::UINT_MAX;

use crate::entry::{Body, BodyError, LINK_HASH_BYTES, Link, LinkTag, Links};
use crate::limits::{CLOCK_COUNTER_MAX, ENTRY_BYTES_MAX, LINKS_MAX};
use crate::{BODY_FORMAT, Clock};

/// First byte of a block that holds an open entry.
pub const OPEN_BLOCK: u8 = 0x00;

/// The version of the envelope that this build writes and reads.
const VERSION: u8 = 1;

/// The frontier had more entries than the links.
const FLAG_MORE_LINKS: u64 = 1;

/// An entry that does not decode or does not fit.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// An envelope of a later version; not an error of the writer.
    #[error("entry version {version} is newer than this build's {VERSION}")]
    Newer { version: u8 },
    /// The envelope is damaged.
    #[error("entry envelope")]
    Envelope(#[from] DecodeError),
    /// Above 256 KiB.
    #[error("entry of {actual} bytes is above the limit of {limit}")]
    TooLarge { limit: usize, actual: usize },
    /// The body is newer than this build or damaged.
    #[error("entry body")]
    Body(#[from] BodyError),
}

/// An entry whose body is still bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// Flags as written; unknown ones are kept.
    pub flags: u64,
    /// Entries this one goes after.
    pub links: Links,
    /// Depth that the writer states.
    pub depth: u64,
    /// Date.
    pub clock: Clock,
    /// What kind of body.
    pub tag: u64,
    /// Which format of that kind.
    pub format: u64,
    /// The body to the end of the entry.
    pub body: Bytes,
}

impl Envelope {
    /// Decodes an entry's envelope and leaves its body as it is.
    pub fn decode(bytes: &Bytes) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLarge {
                limit: ENTRY_BYTES_MAX,
                actual: bytes.len(),
            });
        }
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version == 0 {
            let actual = u64::from(version);
            return Err(DecodeError::UnknownValue {
                what: "entry version",
                at: 0,
                actual,
            }
            .into());
        }
        if version != VERSION {
            return Err(EntryError::Newer { version });
        }
        let flags = reader.uint()?;
        let count = reader.uint_max("link count", LINKS_MAX)?;
        let mut links = Vec::with_capacity(count);
        for _ in 0..count {
            let tag = LinkTag(reader.fixed()?);
            let index = reader.uint()?;
            let hash = reader.fixed::<LINK_HASH_BYTES>()?;
            links.push(Link { tag, index, hash });
        }
        let depth = reader.uint()?;
        let at = reader.position();
        let ms = reader.u64()?;
        if ms > UINT_MAX {
            return Err(DecodeError::IntegerTooLarge { at, value: ms }.into());
        }
        let counter = reader.uint_max("clock counter", usize::from(CLOCK_COUNTER_MAX))?;
        let counter = u16::try_from(counter).expect("at most CLOCK_COUNTER_MAX");
        let tag = reader.uint()?;
        let format = reader.uint()?;
        let body = bytes.slice(reader.position()..);
        let links = Links::new(links, flags & FLAG_MORE_LINKS != 0)
            .expect("the count was at most LINKS_MAX");
        Ok(Envelope {
            flags,
            links,
            depth,
            clock: Clock { ms, counter },
            tag,
            format,
            body,
        })
    }

    /// Encodes the entry, without the byte in front that says whether a block is open or sealed.
    pub fn encode(&self) -> Result<Bytes, EntryError> {
        let mut out = Vec::with_capacity(64 + 32 * self.links.as_slice().len() + self.body.len());
        out.push(VERSION);
        out.put_uint(self.flags);
        out.put_uint(self.links.as_slice().len() as u64);
        for link in self.links.as_slice() {
            out.put_raw(&link.tag.0);
            out.put_uint(link.index);
            out.put_raw(&link.hash);
        }
        out.put_uint(self.depth);
        out.put_raw(&self.clock.ms.to_le_bytes());
        out.put_uint(u64::from(self.clock.counter));
        out.put_uint(self.tag);
        out.put_uint(self.format);
        out.put_raw(&self.body);
        if out.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLarge {
                limit: ENTRY_BYTES_MAX,
                actual: out.len(),
            });
        }
        Ok(out.into())
    }
}

/// An entry: after which others, when, and what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Entries this one goes after.
    pub links: Links,
    /// Depth: one more than the deepest of the links and of the own previous entry.
    pub depth: u64,
    /// Date.
    pub clock: Clock,
    /// What it says.
    pub body: Body,
}

impl Entry {
    /// Decodes an entry without the byte in front of it.
    pub fn decode(bytes: &Bytes) -> Result<Self, EntryError> {
        let envelope = Envelope::decode(bytes)?;
        let body = Body::decode(envelope.tag, envelope.format, &envelope.body)?;
        let Envelope {
            links,
            depth,
            clock,
            ..
        } = envelope;
        Ok(Entry {
            links,
            depth,
            clock,
            body,
        })
    }

    /// Encodes the entry, without a byte in front: what [`seal`](crate::seal) takes.
    pub fn encode(&self) -> Result<Bytes, EntryError> {
        let envelope = Envelope {
            flags: if self.links.more() {
                FLAG_MORE_LINKS
            } else {
                0
            },
            links: self.links.clone(),
            depth: self.depth,
            clock: self.clock,
            tag: self.body.tag(),
            format: u64::from(BODY_FORMAT),
            body: self.body.encode(),
        };
        envelope.encode()
    }

    /// Encodes the entry as an open block: `0x00` and the entry.
    pub fn encode_open(&self) -> Result<Bytes, EntryError> {
        let entry = self.encode()?;
        let mut block = Vec::with_capacity(1 + entry.len());
        block.push(OPEN_BLOCK);
        block.extend_from_slice(&entry);
        Ok(block.into())
    }
}
