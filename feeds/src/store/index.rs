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

/// Pages found by position, 65,536: 33 million entries, with a directory of at most 1.5 MiB for a
/// feed of which only the end is held. Pages behind are found by hash.
const NEAR_PAGES: u64 = 64 * 1024;

/// A sparse array in pages of [`PAGE_ENTRIES`], each as long as its last entry asks for.
#[derive(Debug)]
pub(super) struct Paged<T> {
    near: Vec<Vec<T>>,
    far: HashMap<u64, Vec<T>>,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged {
            near: Vec::new(),
            far: HashMap::new(),
        }
    }
}

impl<T: Entry> Paged<T> {
    pub(super) fn get(&self, index: u64) -> Option<T> {
        let number = index / PAGE_ENTRIES;
        let page = match number < NEAR_PAGES {
            true => self.near.get(number as usize)?,
            false => self.far.get(&number)?,
        };
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
        let mut page = self.page_mut(number);
        for (index, entry) in entries {
            if index / PAGE_ENTRIES != number {
                number = index / PAGE_ENTRIES;
                page = self.page_mut(number);
            }
            let at = (index % PAGE_ENTRIES) as usize;
            if at >= page.len() {
                page.resize(at + 1, T::NONE);
            }
            page[at] = entry;
        }
    }

    pub(super) fn remove(&mut self, index: u64) -> Option<T> {
        self.get(index)?;
        let page = self.page_mut(index / PAGE_ENTRIES);
        let old = std::mem::replace(&mut page[(index % PAGE_ENTRIES) as usize], T::NONE);
        Some(old)
    }

    /// Returns the indexes that hold something, ascending.
    pub(super) fn indexes(&self) -> Vec<u64> {
        let entries = self.pages().into_iter().flat_map(|(number, page)| {
            let first = number * PAGE_ENTRIES;
            (first..)
                .zip(page)
                .filter(|(_, entry)| **entry != T::NONE)
                .map(|(index, _)| index)
        });
        entries.collect()
    }

    /// Returns the pages that are not empty, in order of their numbers.
    pub(super) fn pages(&self) -> Vec<(u64, &[T])> {
        let mut far: Vec<_> = self
            .far
            .iter()
            .map(|(number, page)| (*number, page.as_slice()))
            .collect();
        far.sort_unstable_by_key(|(number, _)| *number);
        let near = (0..)
            .zip(&self.near)
            .map(|(number, page)| (number, page.as_slice()));
        near.chain(far)
            .filter(|(_, page)| !page.is_empty())
            .collect()
    }

    /// Puts a whole page in place; `page` has at most [`PAGE_ENTRIES`] entries.
    pub(super) fn put_page(&mut self, number: u64, page: Vec<T>) {
        *self.page_mut(number) = page;
    }

    fn page_mut(&mut self, number: u64) -> &mut Vec<T> {
        if number >= NEAR_PAGES {
            return self.far.entry(number).or_default();
        }
        let at = number as usize;
        if at >= self.near.len() {
            self.near.resize_with(at + 1, Vec::new);
        }
        &mut self.near[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::UINT_MAX;

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
        for index in [0, 511, 512, NEAR_PAGES * PAGE_ENTRIES - 1, UINT_MAX] {
            assert_eq!(paged.get(index), None);
            let record = Place {
                segment: 1,
                offset: 2,
            };
            paged.set_all([(index, NodeRef::new(record, false, 3))].into_iter());
        }
        assert_eq!(
            paged.indexes(),
            vec![0, 511, 512, NEAR_PAGES * PAGE_ENTRIES - 1, UINT_MAX]
        );
        assert_eq!(paged.pages().len(), 4);
        assert!(paged.remove(511).is_some());
        assert!(paged.remove(511).is_none());
        assert_eq!(paged.get(511), None);
    }
}
