//! Where each block and node of a feed stands in the log.
//!
//! 16 bytes a node and 16 a block, in pages that exist only where something is held: 10 million
//! blocks with all their nodes take about 320 MB, a feed of ten blocks under 1 KiB.

use std::collections::HashMap;

use crate::store::error::Place;

/// Entries in a full page.
pub(super) const PAGE_ENTRIES: u64 = 512;

const SEGMENT_SHIFT: u32 = 44;
const OFFSET_SHIFT: u32 = 16;
const FILL_BIT: u64 = 1 << 15;
const ORDINAL_MASK: u64 = FILL_BIT - 1;

/// A node's place: 20 bits segment, 28 bits offset of its record, 1 bit append or fill, 15 bits
/// its number in the record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NodeRef(u64);

impl NodeRef {
    pub(super) fn new(record: Place, fill: bool, ordinal: u32) -> Self {
        debug_assert!(
            u64::from(ordinal) <= ORDINAL_MASK,
            "a record has at most 2^15 - 1 nodes"
        );
        let place =
            u64::from(record.segment) << SEGMENT_SHIFT | u64::from(record.offset) << OFFSET_SHIFT;
        NodeRef(place | if fill { FILL_BIT } else { 0 } | u64::from(ordinal))
    }

    pub(super) fn record(self) -> Place {
        let offset = self.0 >> OFFSET_SHIFT & ((1 << (SEGMENT_SHIFT - OFFSET_SHIFT)) - 1);
        Place {
            segment: (self.0 >> SEGMENT_SHIFT) as u32,
            offset: offset as u32,
        }
    }

    pub(super) fn is_fill(self) -> bool {
        self.0 & FILL_BIT != 0
    }

    pub(super) fn ordinal(self) -> u32 {
        (self.0 & ORDINAL_MASK) as u32
    }

    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        NodeRef(bits)
    }
}

/// A block's place: its record, where its bytes start from there, and how many they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Extent {
    pub(super) record: Place,
    pub(super) at: u32,
    pub(super) size: u32,
}

/// An entry that a page can hold, with a value that stands for none.
pub(super) trait Entry: Copy + Eq {
    const NONE: Self;
}

impl Entry for NodeRef {
    const NONE: NodeRef = NodeRef(u64::MAX);
}

impl Entry for Extent {
    const NONE: Extent = Extent {
        record: Place {
            segment: u32::MAX,
            offset: u32::MAX,
        },
        at: 0,
        size: 0,
    };
}

/// A sparse array in pages of [`PAGE_ENTRIES`], each as long as its last entry asks for.
#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: HashMap<u64, Vec<T>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged {
            pages: HashMap::new(),
        }
    }
}

impl<T: Entry> Paged<T> {
    pub(super) fn get(&self, index: u64) -> Option<T> {
        let page = self.pages.get(&(index / PAGE_ENTRIES))?;
        page.get((index % PAGE_ENTRIES) as usize)
            .copied()
            .filter(|entry| *entry != T::NONE)
    }

    /// Sets many entries; neighbours cost one look-up of their page.
    pub(super) fn set_all(&mut self, entries: impl Iterator<Item = (u64, T)>) {
        let mut entries = entries.peekable();
        let Some((first, _)) = entries.peek() else {
            return;
        };
        let mut number = first / PAGE_ENTRIES;
        let mut page = self.pages.entry(number).or_default();
        for (index, entry) in entries {
            if index / PAGE_ENTRIES != number {
                number = index / PAGE_ENTRIES;
                page = self.pages.entry(number).or_default();
            }
            let at = (index % PAGE_ENTRIES) as usize;
            if at >= page.len() {
                page.resize(at + 1, T::NONE);
            }
            page[at] = entry;
        }
    }

    pub(super) fn remove(&mut self, index: u64) -> Option<T> {
        let page = self.pages.get_mut(&(index / PAGE_ENTRIES))?;
        let entry = page.get_mut((index % PAGE_ENTRIES) as usize)?;
        let old = std::mem::replace(entry, T::NONE);
        (old != T::NONE).then_some(old)
    }

    /// Returns the indexes that hold something, ascending.
    pub(super) fn indexes(&self) -> Vec<u64> {
        let mut pages: Vec<_> = self.pages.iter().collect();
        pages.sort_unstable_by_key(|(number, _)| **number);
        let entries = pages.into_iter().flat_map(|(number, page)| {
            let first = number * PAGE_ENTRIES;
            (first..)
                .zip(page)
                .filter(|(_, entry)| **entry != T::NONE)
                .map(|(index, _)| index)
        });
        entries.collect()
    }

    /// Returns the pages, in order of their numbers.
    pub(super) fn pages(&self) -> Vec<(u64, &[T])> {
        let mut pages: Vec<_> = self
            .pages
            .iter()
            .map(|(number, page)| (*number, page.as_slice()))
            .collect();
        pages.sort_unstable_by_key(|(number, _)| *number);
        pages
    }

    /// Puts a whole page in place; `page` has at most [`PAGE_ENTRIES`] entries.
    pub(super) fn put_page(&mut self, number: u64, page: Vec<T>) {
        self.pages.insert(number, page);
    }
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
        assert_ne!(node, NodeRef::NONE);
        let node = NodeRef::new(
            Place {
                segment: 0,
                offset: 0,
            },
            false,
            0,
        );
        assert!(!node.is_fill());
        assert_eq!(
            node.record(),
            Place {
                segment: 0,
                offset: 0
            }
        );
    }

    #[test]
    fn distant_entries_take_a_page_each() {
        let mut paged = Paged::default();
        for index in [0, 511, 512, u64::MAX] {
            assert_eq!(paged.get(index), None);
            let record = Place {
                segment: 1,
                offset: 2,
            };
            paged.set_all([(index, NodeRef::new(record, false, 3))].into_iter());
        }
        assert_eq!(paged.indexes(), vec![0, 511, 512, u64::MAX]);
        assert_eq!(paged.pages().len(), 3);
        assert!(paged.remove(511).is_some());
        assert!(paged.remove(511).is_none());
        assert_eq!(paged.get(511), None);
    }
}
