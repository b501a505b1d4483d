//! Who holds what: asked for a while.

use std::ops::Range;

use crate::encoding::{DecodeError, Reader, Writer, uint_len};
use crate::limits::UINT_MAX;

/// Asks to be told which of these blocks the receiver holds, durably, and of every change, also of
/// blocks that the sender has itself. It ends by itself after so many seconds, at once with 0; a later
/// one about the same feed takes its place.
///
/// `uint start | uint length | uint seconds`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Watch {
    /// Which blocks.
    pub blocks: Range<u64>,
    /// For how long, in seconds.
    pub seconds: u64,
}

impl Watch {
    /// Returns the bytes that [`encode`](Self::encode) writes.
    pub fn encoded_len(&self) -> usize {
        let length = self.blocks.end - self.blocks.start;
        uint_len(self.blocks.start) + uint_len(length) + uint_len(self.seconds)
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_uint(self.blocks.start);
        out.put_uint(self.blocks.end - self.blocks.start);
        out.put_uint(self.seconds);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Watch, DecodeError> {
        let start = reader.uint()?;
        let at = reader.position();
        let length = reader.uint()?;
        let limit = UINT_MAX.saturating_sub(start);
        if length > limit {
            return Err(DecodeError::AboveLimit {
                what: "blocks watched",
                at,
                limit,
                actual: length,
            });
        }
        Ok(Watch {
            blocks: start..start + length,
            seconds: reader.uint()?,
        })
    }
}
