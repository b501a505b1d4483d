//! Frames: a 3-byte little-endian length, then so many bytes.

use bytes::BytesMut;

use crate::wire::WireError;

/// Bytes of the length in front of each frame.
pub(super) const LENGTH_BYTES: usize = 3;

/// What stands at the front of the input.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// A whole frame; its payload starts after [`LENGTH_BYTES`].
    Frame(BytesMut),
    /// So many bytes are missing at least.
    Missing(usize),
}

/// Takes the next frame off the input; a length above `limit` is an error before a byte of it is
/// kept.
pub(super) fn take(input: &mut BytesMut, limit: usize) -> Result<Next, WireError> {
    let Some(&[one, two, three]) = input.first_chunk::<LENGTH_BYTES>() else {
        return Ok(Next::Missing(LENGTH_BYTES - input.len()));
    };
    let actual = u32::from_le_bytes([one, two, three, 0]) as usize;
    if actual > limit {
        return Err(WireError::FrameTooLarge { limit, actual });
    }
    let whole = LENGTH_BYTES + actual;
    if input.len() < whole {
        return Ok(Next::Missing(whole - input.len()));
    }
    Ok(Next::Frame(input.split_to(whole)))
}

/// Writes the length of everything behind it into the first three bytes of `frame`.
pub(super) fn put_length(frame: &mut [u8]) {
    let length = frame.len() - LENGTH_BYTES;
    debug_assert!(length < 1 << 24, "frames are limited before they are built");
    frame[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes()[..LENGTH_BYTES]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
        let mut input = BytesMut::from(&[0xff, 0xff, 0xff][..]);
        let limit = 65_536;
        let refused = WireError::FrameTooLarge {
            limit,
            actual: 0xff_ffff,
        };
        assert_eq!(take(&mut input, limit), Err(refused));
    }

    #[test]
    fn frames_come_whole_whatever_the_chunks() {
        let mut input = BytesMut::new();
        for byte in [2, 0, 0, 7, 8, 0, 0] {
            let before = take(&mut input, 10).unwrap();
            assert!(matches!(before, Next::Missing(_)));
            input.extend_from_slice(&[byte]);
            if let [2, 0, 0, 7, 8] = input[..] {
                let Next::Frame(frame) = take(&mut input, 10).unwrap() else {
                    unreachable!()
                };
                assert_eq!(&frame[..], [2, 0, 0, 7, 8]);
            }
        }
        assert_eq!(take(&mut input, 10), Ok(Next::Missing(1)));
    }
}
