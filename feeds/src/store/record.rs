//! The frame of a record: header, body, check, payload. `docs/storage.md` draws it.

use crate::crypto::{blake2b_256_keyed, namespace};
use crate::store::error::Place;
use crate::store::limits::{HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// First bytes of every record, `KLRC`.
pub(super) const RECORD_MAGIC: [u8; 4] = *b"KLRC";

/// Version of the record format.
pub(super) const RECORD_VERSION: u8 = 1;

/// Bytes before the body.
pub(super) const HEADER_BYTES: usize = 36;

/// Bytes of the check behind the body.
pub(super) const CHECK_BYTES: usize = 16;

/// A record with this flag may be skipped by a build that does not know its kind.
pub(super) const FLAG_IGNORABLE: u16 = 1;

/// Kinds of record.
pub(super) mod kind {
    pub(in crate::store) const FEED: u8 = 1;
    pub(in crate::store) const APPEND: u8 = 2;
    pub(in crate::store) const FILL: u8 = 3;
    pub(in crate::store) const CLEARED: u8 = 4;
    /// What lives of an append, written again by compaction; a body like an append's.
    pub(in crate::store) const MOVED_APPEND: u8 = 5;
    pub(in crate::store) const TRUNCATE: u8 = 6;
    pub(in crate::store) const DROPPED: u8 = 7;
    pub(in crate::store) const CHECKPOINT: u8 = 8;
    pub(in crate::store) const CONFLICT: u8 = 10;
    /// What lives of an append or fill, written again by compaction; a body like a fill's.
    pub(in crate::store) const MOVED_FILL: u8 = 11;
    pub(in crate::store) const EMPTIED: u8 = 12;
    // 9 reserve is named by the format and not written.
}

/// The fixed start of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    /// Version of the format.
    pub(super) version: u8,
    /// Kind of record.
    pub(super) kind: u8,
    /// [`FLAG_IGNORABLE`].
    pub(super) flags: u16,
    /// Bytes of header, body and check.
    pub(super) head_bytes: u32,
    /// Bytes of payload behind the check.
    pub(super) payload_bytes: u32,
    /// Number of the record in the store.
    pub(super) sequence: u64,
    /// Number of the newest record that was durable when this one was written.
    pub(super) synced: u64,
    /// Feed concerned; 0 for none, feeds count from 1.
    pub(super) feed: u32,
}

impl Header {
    /// Returns the bytes of the whole record.
    pub(super) fn record_bytes(&self) -> u64 {
        u64::from(self.head_bytes) + u64::from(self.payload_bytes)
    }

    /// Writes the header over the first [`HEADER_BYTES`] of `out`.
    pub(super) fn encode(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&RECORD_MAGIC);
        out[4] = self.version;
        out[5] = self.kind;
        out[6..8].copy_from_slice(&self.flags.to_le_bytes());
        out[8..12].copy_from_slice(&self.head_bytes.to_le_bytes());
        out[12..16].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        out[24..32].copy_from_slice(&self.synced.to_le_bytes());
        out[32..36].copy_from_slice(&self.feed.to_le_bytes());
    }

    /// Reads a header; `None` when it is none or names impossible sizes.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
            std::array::from_fn(|i| bytes[at + i])
        }
        if bytes[..4] != RECORD_MAGIC {
            return None;
        }
        let header = Header {
            version: bytes[4],
            kind: bytes[5],
            flags: u16::from_le_bytes(field(bytes, 6)),
            head_bytes: u32::from_le_bytes(field(bytes, 8)),
            payload_bytes: u32::from_le_bytes(field(bytes, 12)),
            sequence: u64::from_le_bytes(field(bytes, 16)),
            synced: u64::from_le_bytes(field(bytes, 24)),
            feed: u32::from_le_bytes(field(bytes, 32)),
        };
        let head = header.head_bytes as usize;
        let possible = (HEADER_BYTES + CHECK_BYTES..=HEAD_BYTES_MAX).contains(&head)
            && header.payload_bytes as usize <= PAYLOAD_BYTES_MAX;
        possible.then_some(header)
    }
}

/// What every check of a store is keyed and prefixed with.
#[derive(Clone, Debug)]
pub(super) struct Checker {
    store_id: [u8; 16],
    namespace: [u8; 32],
}

impl Checker {
    pub(super) fn new(store_id: [u8; 16]) -> Self {
        Checker {
            store_id,
            namespace: namespace::RECORD.hash(),
        }
    }

    pub(super) fn store_id(&self) -> &[u8; 16] {
        &self.store_id
    }

    /// Returns the check of header and body at a place of this store.
    pub(super) fn check(&self, place: Place, header_and_body: &[u8]) -> [u8; CHECK_BYTES] {
        let segment = u64::from(place.segment).to_le_bytes();
        let offset = u64::from(place.offset).to_le_bytes();
        let parts = [&self.namespace, &segment[..], &offset, header_and_body];
        let hash = blake2b_256_keyed(&self.store_id, &parts);
        std::array::from_fn(|i| hash[i])
    }

    /// Writes the check into the last bytes of a head part.
    pub(super) fn seal(&self, place: Place, head: &mut [u8]) {
        let (body, check) = head.split_at_mut(head.len() - CHECK_BYTES);
        check.copy_from_slice(&self.check(place, body));
    }

    /// Returns whether a head part stands where it was written, unchanged.
    pub(super) fn holds(&self, place: Place, head: &[u8]) -> bool {
        head.split_last_chunk::<CHECK_BYTES>()
            .is_some_and(|(body, check)| self.check(place, body) == *check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn the_check_has_its_golden_value() {
        let all = include_str!("../../tests/vectors/kinlog-1.json");
        let vector = &serde_json::from_str::<serde_json::Value>(all).unwrap()["record"];
        let bytes = |value: &serde_json::Value| text::decode_hex(value.as_str().unwrap()).unwrap();
        let place = Place {
            segment: vector["in"]["segment"].as_u64().unwrap() as u32,
            offset: vector["in"]["offset"].as_u64().unwrap() as u32,
        };
        let checker = Checker::new(bytes(&vector["in"]["store_id"]).try_into().unwrap());
        let check = checker.check(place, &bytes(&vector["in"]["head"]));
        assert_eq!(check.to_vec(), bytes(&vector["out"]["check"]));
    }

    fn header() -> Header {
        Header {
            version: RECORD_VERSION,
            kind: kind::APPEND,
            flags: 0,
            head_bytes: 52,
            payload_bytes: 7,
            sequence: 0x0102_0304_0506_0708,
            synced: 9,
            feed: 3,
        }
    }

    #[test]
    fn header_has_these_bytes() {
        let mut bytes = [0; HEADER_BYTES];
        header().encode(&mut bytes);
        let expected = [
            b'K', b'L', b'R', b'C', 1, 2, 0, 0, 52, 0, 0, 0, 7, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 9,
            0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(Header::decode(&bytes), Some(header()));
    }

    #[test]
    fn impossible_sizes_are_no_header() {
        for (head_bytes, payload_bytes) in [(0, 0), (51, 0), (u32::MAX, 0), (52, u32::MAX)] {
            let mut bytes = [0; HEADER_BYTES];
            Header {
                head_bytes,
                payload_bytes,
                ..header()
            }
            .encode(&mut bytes);
            assert_eq!(Header::decode(&bytes), None, "{head_bytes} {payload_bytes}");
        }
    }

    #[test]
    fn a_head_part_holds_only_in_its_store_and_place() {
        let place = Place {
            segment: 4,
            offset: 64,
        };
        let checker = Checker::new([1; 16]);
        let mut head = vec![0; HEADER_BYTES + CHECK_BYTES];
        header().encode(&mut head);
        checker.seal(place, &mut head);
        assert!(checker.holds(place, &head));
        assert!(!checker.holds(
            Place {
                offset: 65,
                ..place
            },
            &head
        ));
        assert!(!checker.holds(
            Place {
                segment: 5,
                ..place
            },
            &head
        ));
        assert!(!Checker::new([2; 16]).holds(place, &head));
        head[20] ^= 1;
        assert!(!checker.holds(place, &head));
        assert!(!checker.holds(place, &head[..10]));
    }
}
