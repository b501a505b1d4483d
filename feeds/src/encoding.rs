//! The compact encoding of Hypercore: variable-length integers and length-prefixed bytes.
//!
//! Source: npm `compact-encoding`. A `uint` is one byte up to `0xfc`, else a marker byte and a
//! little-endian integer of 2, 4 or 8 bytes. Values stay below 2^53, as JavaScript can hold no
//! larger ones.

use crate::limits::UINT_MAX;

/// Bytes that do not decode.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ended inside a value.
    #[error("input ends at byte {at}: {needed} more bytes needed")]
    Truncated { at: usize, needed: usize },
    /// An integer above 2^53 - 1.
    #[error("integer {value} at byte {at} is above 2^53 - 1")]
    IntegerTooLarge { at: usize, value: u64 },
    /// An integer in more bytes than it needs, where what is signed or hashed has one spelling.
    #[error("integer {value} at byte {at} is written longer than it needs to be")]
    NotMinimal { at: usize, value: u64 },
    /// A count or length above its named limit.
    #[error("{what} at byte {at}: {actual} is above the limit of {limit}")]
    AboveLimit {
        what: &'static str,
        at: usize,
        limit: u64,
        actual: u64,
    },
    /// A value that the format does not know.
    #[error("{what} at byte {at}: unknown value {actual}")]
    UnknownValue {
        what: &'static str,
        at: usize,
        actual: u64,
    },
    /// Bytes after the end of a value that must fill its input.
    #[error("{count} bytes too many at byte {at}")]
    TrailingBytes { at: usize, count: usize },
}

/// Reads compact-encoded values from a byte slice; never allocates from a length it has not checked.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_strict: bool,
}

impl<'a> Reader<'a> {
    /// Returns a reader at the start of `bytes`, which takes what other implementations of Hypercore
    /// write: integers may be longer than they need be.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader {
            bytes,
            at: 0,
            is_strict: false,
        }
    }

    /// Returns a reader of bytes that are signed or hashed: an integer has one spelling, the shortest.
    pub fn strict(bytes: &'a [u8]) -> Self {
        Reader {
            is_strict: true,
            ..Reader::new(bytes)
        }
    }

    /// Reads a variable-length integer.
    pub fn uint(&mut self) -> Result<u64, DecodeError> {
        let at = self.at;
        let value = match self.u8()? {
            0xfd => u64::from(u16::from_le_bytes(self.fixed()?)),
            0xfe => u64::from(u32::from_le_bytes(self.fixed()?)),
            0xff => u64::from_le_bytes(self.fixed()?),
            small => u64::from(small),
        };
        if value > UINT_MAX {
            return Err(DecodeError::IntegerTooLarge { at, value });
        }
        if self.is_strict && self.at - at != uint_len(value) {
            return Err(DecodeError::NotMinimal { at, value });
        }
        Ok(value)
    }

    /// Reads a variable-length integer that counts or measures `what`, at most `limit`.
    pub fn uint_max(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let at = self.at;
        let value = self.uint()?;
        let limit = limit as u64;
        match usize::try_from(value) {
            Ok(small) if value <= limit => Ok(small),
            _ => Err(DecodeError::AboveLimit {
                what,
                at,
                limit,
                actual: value,
            }),
        }
    }

    /// Reads one byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.fixed::<1>()?[0])
    }

    /// Reads a little-endian 32-bit integer.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    /// Reads a little-endian 64-bit integer.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    /// Reads `N` raw bytes.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let slice = self.raw(N)?;
        Ok(slice.try_into().expect("raw returned N bytes"))
    }

    /// Reads `count` raw bytes.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.rest();
        if rest.len() < count {
            return Err(DecodeError::Truncated {
                at: self.at,
                needed: count - rest.len(),
            });
        }
        self.at += count;
        Ok(&rest[..count])
    }

    /// Reads a length-prefixed byte string of at most `limit` bytes.
    pub fn buffer(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let count = self.uint_max(what, limit)?;
        self.raw(count)
    }

    /// Returns the bytes that were not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Returns the position in bytes from the start.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Returns whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Checks that everything was read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.rest().len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { at: self.at, count }),
        }
    }
}

/// Writes compact-encoded values to the end of a byte vector.
pub trait Writer {
    /// Appends a variable-length integer; `value` is at most 2^53 - 1.
    fn put_uint(&mut self, value: u64);
    /// Appends a length-prefixed byte string.
    fn put_buffer(&mut self, bytes: &[u8]);
    /// Appends raw bytes.
    fn put_raw(&mut self, bytes: &[u8]);
}

impl Writer for Vec<u8> {
    fn put_uint(&mut self, value: u64) {
        debug_assert!(value <= UINT_MAX, "compact integers stay below 2^53");
        if value <= 0xfc {
            self.push(value as u8);
        } else if let Ok(value) = u16::try_from(value) {
            self.push(0xfd);
            self.extend_from_slice(&value.to_le_bytes());
        } else if let Ok(value) = u32::try_from(value) {
            self.push(0xfe);
            self.extend_from_slice(&value.to_le_bytes());
        } else {
            self.push(0xff);
            self.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn put_buffer(&mut self, bytes: &[u8]) {
        self.put_uint(bytes.len() as u64);
        self.put_raw(bytes);
    }

    fn put_raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Returns the bytes that [`Writer::put_uint`] writes for `value`.
pub fn uint_len(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_trip_at_every_boundary() {
        for value in [
            0,
            1,
            0xfc,
            0xfd,
            0xffff,
            0x1_0000,
            0xffff_ffff,
            0x1_0000_0000,
            UINT_MAX,
        ] {
            let mut out = Vec::new();
            out.put_uint(value);
            assert_eq!(out.len(), uint_len(value));
            let mut reader = Reader::new(&out);
            assert_eq!(reader.uint(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn a_strict_reader_takes_the_shortest_spelling_alone() {
        let long: [&[u8]; 4] = [
            &[0xfd, 0xfc, 0],
            &[0xfe, 0xff, 0xff, 0, 0],
            &[0xff, 1, 0, 0, 0, 0, 0, 0, 0],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ];
        for bytes in long {
            let value = Reader::new(bytes).uint().unwrap();
            let refused = Reader::strict(bytes).uint();
            assert_eq!(refused, Err(DecodeError::NotMinimal { at: 0, value }));
            let mut short = Vec::new();
            short.put_uint(value);
            assert_eq!(Reader::strict(&short).uint(), Ok(value));
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_an_error() {
        assert_eq!(
            Reader::new(&[5, 1, 2]).buffer("value", 100),
            Err(DecodeError::Truncated { at: 1, needed: 3 })
        );
        assert!(matches!(
            Reader::new(&[0xfe, 0xff, 0xff, 0xff, 0xff]).buffer("value", 100),
            Err(DecodeError::AboveLimit { limit: 100, .. })
        ));
    }
}
