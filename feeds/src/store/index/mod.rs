//! Where each block and node of a feed stands in the log.
//!
//! What was appended is kept as *runs*: one entry for a whole record, from which the place of every
//! block and node in it follows. What came as fills is kept as *cells*, one for each block and
//! node. Both in layers: what changed since the last checkpoint lies above what is on the disk.

pub(in crate::store) mod base;
pub(in crate::store) mod cells;
pub(in crate::store) mod directory;
pub(in crate::store) mod file;
pub(in crate::store) mod layer;
pub(in crate::store) mod page;
pub(in crate::store) mod places;
pub(in crate::store) mod run;
pub(in crate::store) mod snapshot;
pub(in crate::store) mod table;
pub(in crate::store) mod writer;

use crate::store::error::Place;

/// Blocks of a page: it also holds the nodes that these blocks complete.
pub(in crate::store) const PAGE_BLOCKS: u64 = 512;

const SEGMENT_SHIFT: u32 = 44;
const OFFSET_SHIFT: u32 = 16;
const FILL_BIT: u64 = 1 << 15;
const ORDINAL_MASK: u64 = FILL_BIT - 1;

/// A node's place: 20 bits segment, 28 bits offset of its record, 1 bit append or fill, 15 bits
/// its number in the record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct NodeRef(u64);

impl NodeRef {
    pub(in crate::store) fn new(record: Place, fill: bool, ordinal: u32) -> Self {
        debug_assert!(
            u64::from(ordinal) <= ORDINAL_MASK,
            "a record has at most 2^15 - 1 nodes"
        );
        let place =
            u64::from(record.segment) << SEGMENT_SHIFT | u64::from(record.offset) << OFFSET_SHIFT;
        NodeRef(place | if fill { FILL_BIT } else { 0 } | u64::from(ordinal))
    }

    pub(in crate::store) fn record(self) -> Place {
        let offset = self.0 >> OFFSET_SHIFT & ((1 << (SEGMENT_SHIFT - OFFSET_SHIFT)) - 1);
        Place {
            segment: (self.0 >> SEGMENT_SHIFT) as u32,
            offset: offset as u32,
        }
    }

    pub(in crate::store) fn is_fill(self) -> bool {
        self.0 & FILL_BIT != 0
    }

    pub(in crate::store) fn ordinal(self) -> u32 {
        (self.0 & ORDINAL_MASK) as u32
    }
}

/// A block's place: its record, where its bytes start from there, and how many they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct Extent {
    pub(in crate::store) record: Place,
    pub(in crate::store) at: u32,
    pub(in crate::store) size: u32,
}

/// Returns the block that completes node `index` when it is appended: the last one below it.
pub(in crate::store) fn completed_by(index: u64) -> u64 {
    flat_tree::right_span(index) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_place_keeps_its_parts_at_their_limits() {
        let record = Place {
            segment: (1 << 20) - 1,
            offset: (1 << 28) - 1,
        };
        let node = NodeRef::new(record, true, (1 << 15) - 2);
        assert_eq!(node.record(), record);
        assert!(node.is_fill());
        assert_eq!(node.ordinal(), (1 << 15) - 2);
        let first = Place {
            segment: 0,
            offset: 0,
        };
        let node = NodeRef::new(first, false, 0);
        assert!(!node.is_fill());
        assert_eq!((node.record(), node.ordinal()), (first, 0));
    }
}
