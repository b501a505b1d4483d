//! Where the feeds of a room are: `uint n <= 512 | n x (feed 32 | agent 32 | device 32 | u8 content)`,
//! content 0 entries, 1 bytes.

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use kinlog_feeds::encoding::{DecodeError, Reader, Writer};

use crate::limits::ROOM_FEEDS_MAX;

/// A feed of a member's device in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomFeed {
    /// The feed.
    pub key: FeedKey,
    /// The member.
    pub agent: AgentId,
    /// The member's device, which signs it.
    pub device: DeviceKey,
    /// Holds entries, not files.
    pub is_entries: bool,
}

/// Writes the places of feeds, at most [`ROOM_FEEDS_MAX`].
pub(crate) fn put_feeds(out: &mut Vec<u8>, feeds: &[RoomFeed]) {
    let feeds = &feeds[..feeds.len().min(ROOM_FEEDS_MAX)];
    out.put_uint(feeds.len() as u64);
    for feed in feeds {
        out.put_raw(feed.key.as_bytes());
        out.put_raw(feed.agent.as_bytes());
        out.put_raw(feed.device.as_bytes());
        out.push(u8::from(!feed.is_entries));
    }
}

/// Reads what [`put_feeds`] wrote.
pub(crate) fn read_feeds(reader: &mut Reader<'_>) -> Result<Vec<RoomFeed>, DecodeError> {
    let count = reader.uint_max("feeds of the room", ROOM_FEEDS_MAX)?;
    let mut feeds = Vec::with_capacity(count);
    for _ in 0..count {
        let key = FeedKey(reader.fixed()?);
        let agent = AgentId(reader.fixed()?);
        let device = DeviceKey(reader.fixed()?);
        let (what, at) = ("content", reader.position());
        let is_entries = match reader.u8()? {
            0 => true,
            1 => false,
            other => {
                let actual = u64::from(other);
                return Err(DecodeError::UnknownValue { what, at, actual });
            }
        };
        feeds.push(RoomFeed {
            key,
            agent,
            device,
            is_entries,
        });
    }
    Ok(feeds)
}
