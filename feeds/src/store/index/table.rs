//! Tables of pages: where each page of a feed is, and what of a feed is held.

use std::collections::BTreeMap;

use crate::bitfield::{Bitfield, PAGE_BITS};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::limits::FEED_LENGTH_MAX;
use crate::store::cache::MemoryBytes;
use crate::store::index::PAGE_BLOCKS;
use crate::store::index::file::Pointer;

/// Pages in one table: 262,144 blocks; 16 KiB when full.
pub(in crate::store) const TABLE_PAGES: u64 = 512;

/// Blocks of one chunk of the have-bitfield, in pages of 32,768.
pub(in crate::store) const HAVE_CHUNK_BLOCKS: u64 = 64 * PAGE_BITS;

/// Words of a bitfield page as the file has it.
const PAGE_WORDS: usize = PAGE_BITS as usize / 32;

/// Pointers by number, ascending: pages by their number in the table, or tables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct Table(BTreeMap<u64, Pointer>);

impl MemoryBytes for Table {
    fn memory_bytes(&self) -> usize {
        // Nodes of the tree are two thirds full on average.
        self.0.len() * (size_of::<(u64, Pointer)>() * 3 / 2)
    }
}

impl Table {
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::store) fn get(&self, number: u64) -> Option<&Pointer> {
        self.0.get(&number)
    }

    /// Puts a pointer in place; returns the one it replaces.
    pub(in crate::store) fn set(&mut self, number: u64, at: Pointer) -> Option<Pointer> {
        self.0.insert(number, at)
    }

    pub(in crate::store) fn remove(&mut self, number: u64) -> Option<Pointer> {
        self.0.remove(&number)
    }

    pub(in crate::store) fn iter(&self) -> impl Iterator<Item = (u64, &Pointer)> {
        self.0.iter().map(|(number, at)| (*number, at))
    }

    /// Takes out everything from `number` on.
    pub(in crate::store) fn split_off(&mut self, number: u64) -> Table {
        Table(self.0.split_off(&number))
    }

    pub(in crate::store) fn encode(&self, out: &mut Vec<u8>) {
        out.put_uint(self.0.len() as u64);
        let mut last = 0;
        for (number, at) in &self.0 {
            out.put_uint(number - last);
            at.encode(out);
            last = *number;
        }
    }

    pub(in crate::store) fn decode(bytes: &[u8]) -> Result<Table, DecodeError> {
        let mut reader = Reader::new(bytes);
        let table = Self::read(&mut reader, TABLE_PAGES - 1)?;
        reader.finish()?;
        Ok(table)
    }

    /// Reads a table whose numbers are at most `limit`.
    fn read(reader: &mut Reader<'_>, limit: u64) -> Result<Table, DecodeError> {
        let mut table = Table::default();
        let mut last = 0;
        for _ in 0..reader.uint()? {
            let at = reader.position();
            last += reader.uint()?;
            if last > limit {
                return Err(DecodeError::AboveLimit {
                    what: "number in a table",
                    at,
                    limit,
                    actual: last,
                });
            }
            table.set(last, Pointer::decode(reader)?);
        }
        Ok(table)
    }
}

/// All tables of a feed, and the chunks of its have-bitfield where that is not listed with the feed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct Spine {
    pub(in crate::store) tables: Table,
    pub(in crate::store) have: Table,
}

impl Spine {
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.have.is_empty()
    }

    pub(in crate::store) fn encode(&self, out: &mut Vec<u8>) {
        self.tables.encode(out);
        self.have.encode(out);
    }

    pub(in crate::store) fn decode(bytes: &[u8]) -> Result<Spine, DecodeError> {
        let mut reader = Reader::new(bytes);
        let spine = Spine {
            tables: Table::read(&mut reader, FEED_LENGTH_MAX / PAGE_BLOCKS / TABLE_PAGES)?,
            have: Table::read(&mut reader, FEED_LENGTH_MAX / HAVE_CHUNK_BLOCKS)?,
        };
        reader.finish()?;
        Ok(spine)
    }
}

/// Writes one chunk of a have-bitfield: page by page as runs, or as it is where that is smaller.
pub(in crate::store) fn encode_have(have: &Bitfield, chunk: u64, out: &mut Vec<u8>) {
    let first = chunk * HAVE_CHUNK_BLOCKS;
    for page in 0..HAVE_CHUNK_BLOCKS / PAGE_BITS {
        let start = first + page * PAGE_BITS;
        let mut runs = Vec::new();
        let mut count = 0;
        let mut at = start;
        for run in have.runs(start..start + PAGE_BITS) {
            runs.put_uint(run.start - at);
            runs.put_uint(run.end - run.start);
            at = run.end;
            count += 1;
        }
        if count == 0 {
            continue;
        }
        out.put_uint(page);
        if runs.len() < PAGE_WORDS * 4 {
            out.put_uint(count);
            out.put_raw(&runs);
        } else {
            out.put_uint(0);
            for word in have.words(start, PAGE_BITS) {
                out.put_raw(&word.to_le_bytes());
            }
        }
    }
}

/// Reads one chunk of a have-bitfield into `have`.
pub(in crate::store) fn decode_have(
    have: &mut Bitfield,
    chunk: u64,
    bytes: &[u8],
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    let pages = (HAVE_CHUNK_BLOCKS / PAGE_BITS) as usize;
    while !reader.is_empty() {
        let page = reader.uint_max("page of a bitfield", pages - 1)? as u64;
        let start = chunk * HAVE_CHUNK_BLOCKS + page * PAGE_BITS;
        let runs = reader.uint_max("runs of a bitfield page", PAGE_BITS as usize)?;
        if runs == 0 {
            let raw = reader.raw(PAGE_WORDS * 4)?;
            let words: Vec<u32> = raw
                .chunks_exact(4)
                .map(|four| {
                    four.iter()
                        .rev()
                        .fold(0, |word, byte| word << 8 | u32::from(*byte))
                })
                .collect();
            have.set_words(start, &words);
        }
        let mut at = 0;
        for _ in 0..runs {
            let from = at + reader.uint_max("start of a run", PAGE_BITS as usize)?;
            at = from + reader.uint_max("length of a run", PAGE_BITS as usize)?;
            if at > PAGE_BITS as usize {
                return Err(DecodeError::AboveLimit {
                    what: "end of a run",
                    at: reader.position(),
                    limit: PAGE_BITS,
                    actual: at as u64,
                });
            }
            have.set_range(start + from as u64..start + at as u64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_have_bitfield_comes_back_whatever_its_pages_look_like() {
        let mut have = Bitfield::new();
        have.set_range(0..PAGE_BITS * 2 + 7);
        for index in 0..9000 {
            have.set(PAGE_BITS * 5 + 3 * index, true);
        }
        have.set(HAVE_CHUNK_BLOCKS - 1, true);
        have.set_range(HAVE_CHUNK_BLOCKS..HAVE_CHUNK_BLOCKS * 2);
        have.set(HAVE_CHUNK_BLOCKS * 3 + 40_000, true);
        let mut back = Bitfield::new();
        for chunk in 0..4 {
            let mut bytes = Vec::new();
            encode_have(&have, chunk, &mut bytes);
            decode_have(&mut back, chunk, &bytes).unwrap();
        }
        assert_eq!(back, have);
    }
}
