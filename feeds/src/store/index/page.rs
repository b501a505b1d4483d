//! A page of the index: everything known of 512 blocks and of the nodes they complete.
//!
//! On the disk: `uint` number of records, each by what its place differs from the one before it;
//! `uint` number of runs; `uint` number of block cells; `uint` number of node cells.

use std::collections::HashMap;
use std::ops::Range;

use crate::encoding::{DecodeError, Reader, Writer};
use crate::store::cache::MemoryBytes;
use crate::store::error::Place;
use crate::store::index::cells::Cells;
use crate::store::index::layer::{FoundBlock, Layer, Said, block_in, node_in};
use crate::store::index::run::{Run, Runs, Sizes};
use crate::store::index::{Extent, NodeRef, PAGE_BLOCKS, completed_by};
use crate::store::limits::{
    HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX, RECORD_BLOCKS_MAX, RECORD_NODES_MAX, SEGMENTS_MAX,
};

/// Nodes of a page at most: a leaf a block, and parents that together are one fewer, but for what
/// the last block of the page completes above it.
const PAGE_NODES_MAX: usize = 2 * PAGE_BLOCKS as usize + 64;

/// Records that a page can name: one for each of its cells and runs.
const PAGE_RECORDS_MAX: usize = 2 * PAGE_BLOCKS as usize + PAGE_NODES_MAX;

/// The runs, clipped to the page, and cells of a page.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct Page {
    runs: Runs,
    cells: Cells,
}

impl MemoryBytes for Page {
    fn memory_bytes(&self) -> usize {
        size_of::<Page>() + self.runs.memory_bytes() + self.cells.memory_bytes()
    }
}

/// Returns the blocks of page number `page`.
pub(in crate::store) fn blocks_of(page: u64) -> Range<u64> {
    page * PAGE_BLOCKS..(page + 1) * PAGE_BLOCKS
}

impl Page {
    /// Returns where a block of the page stands.
    pub(in crate::store) fn block(&self, block: u64) -> Said<FoundBlock> {
        block_in(Some(&self.cells), &self.runs, block)
    }

    /// Returns where a node of the page stands.
    pub(in crate::store) fn node(&self, index: u64) -> Said<NodeRef> {
        node_in(Some(&self.cells), &self.runs, index)
    }

    /// Returns the nodes that it knows, in no order.
    pub(in crate::store) fn nodes(&self, page: u64) -> Vec<u64> {
        let blocks = blocks_of(page);
        let cells = self.cells.nodes.iter().map(|(index, _)| *index);
        cells
            .chain(self.runs.iter().flat_map(|run| run.nodes(&blocks)))
            .collect()
    }

    /// Adds what a newer layer says of the page.
    pub(in crate::store) fn absorb(&mut self, layer: &Layer, page: u64) {
        let blocks = blocks_of(page);
        if let Some(length) = layer.truncated_at() {
            let behind = length..u64::MAX;
            self.cells.cut(&behind);
            self.runs.cut(&behind);
        }
        for run in layer.runs(&blocks) {
            if let Some(clipped) = run.clipped(&blocks) {
                self.cells.cut(&clipped.range());
                self.runs.add(clipped);
            }
        }
        if let Some(cells) = layer.cells(page) {
            self.cells.absorb(cells);
        }
    }

    pub(in crate::store) fn encode(&self, page: u64, out: &mut Vec<u8>) {
        let first = page * PAGE_BLOCKS;
        let runs = self.runs.iter().map(|run| run.record);
        let blocks = self.cells.blocks.iter().map(|(_, extent)| extent.record);
        let nodes = self.cells.nodes.iter().map(|(_, node)| node.record());
        let records = Records::of(runs.chain(blocks).chain(nodes));
        records.encode(out);
        out.put_uint(self.runs.len() as u64);
        for run in self.runs.iter() {
            out.put_uint(records.number(run.record));
            out.put_uint(run.range().start - first);
            for part in [run.skip, run.blocks, run.count, run.payload_at] {
                out.put_uint(u64::from(part));
            }
            out.put_uint(match run.sizes {
                Sizes::Uniform(size) => u64::from(size) + 1,
                Sizes::Varied => 0,
            });
        }
        out.put_uint(self.cells.blocks.len() as u64);
        let mut expected_at = 0;
        for (block, extent) in &self.cells.blocks {
            out.put_uint(block - first);
            out.put_uint(records.number(extent.record));
            out.put_uint(zigzag(i64::from(extent.at) - expected_at));
            out.put_uint(u64::from(extent.size));
            expected_at = i64::from(extent.at) + i64::from(extent.size);
        }
        out.put_uint(self.cells.nodes.len() as u64);
        let (mut last, mut expected) = (0, 0);
        for (index, node) in &self.cells.nodes {
            let ordinal = i64::from(node.ordinal());
            out.put_uint(index - last);
            out.put_uint(2 * records.number(node.record()) + u64::from(node.is_fill()));
            out.put_uint(zigzag(ordinal - expected));
            (last, expected) = (*index, ordinal + 1);
        }
    }

    /// Reads page number `page`; whatever it says can be looked up without overflow.
    pub(in crate::store) fn decode(page: u64, bytes: &[u8]) -> Result<Page, DecodeError> {
        let mut reader = Reader::new(bytes);
        let records = decode_records(&mut reader)?;
        let decoded = Page {
            runs: decode_runs(&mut reader, page, &records)?,
            cells: Cells {
                blocks: decode_blocks(&mut reader, page, &records)?,
                nodes: decode_nodes(&mut reader, page, &records)?,
            },
        };
        reader.finish()?;
        Ok(decoded)
    }
}

/// The records that a page names, each once.
struct Records {
    places: Vec<Place>,
    numbers: HashMap<Place, u64>,
}

impl Records {
    fn of(all: impl Iterator<Item = Place>) -> Records {
        let mut places: Vec<Place> = all.collect();
        places.sort_unstable();
        places.dedup();
        let numbers = places.iter().copied().zip(0..).collect();
        Records { places, numbers }
    }

    fn number(&self, place: Place) -> u64 {
        self.numbers[&place]
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_uint(self.places.len() as u64);
        let (mut segment, mut offset) = (0, 0);
        for place in &self.places {
            if place.segment != segment {
                offset = 0;
            }
            out.put_uint(u64::from(place.segment - segment));
            out.put_uint(u64::from(place.offset - offset));
            (segment, offset) = (place.segment, place.offset);
        }
    }
}

fn decode_records(reader: &mut Reader<'_>) -> Result<Vec<Place>, DecodeError> {
    let count = reader.uint_max("records of a page", PAGE_RECORDS_MAX)?;
    let mut places = Vec::with_capacity(count.min(reader.rest().len() / 2));
    let (mut segment, mut offset) = (0, 0);
    for _ in 0..count {
        let step = reader.uint_max("segment", SEGMENTS_MAX as usize)? as u32;
        if step > 0 {
            offset = 0;
        }
        segment += step;
        offset += reader.uint_max("offset", (1 << 28) - 1)? as u32;
        if segment > SEGMENTS_MAX || offset >= 1 << 28 {
            return Err(impossible(reader, "place", u64::from(offset)));
        }
        places.push(Place { segment, offset });
    }
    Ok(places)
}

fn decode_runs(reader: &mut Reader<'_>, page: u64, records: &[Place]) -> Result<Runs, DecodeError> {
    let count = reader.uint_max("runs of a page", PAGE_BLOCKS as usize)?;
    let mut runs = Vec::with_capacity(count.min(reader.rest().len() / 7));
    for _ in 0..count {
        let record = record(reader, records)?;
        let from = page * PAGE_BLOCKS + reader.uint_max("start", PAGE_BLOCKS as usize - 1)? as u64;
        let skip = reader.uint_max("skipped blocks", RECORD_BLOCKS_MAX)? as u32;
        let blocks = reader.uint_max("blocks of a run", PAGE_BLOCKS as usize)? as u32;
        let count = reader.uint_max("blocks of a record", RECORD_BLOCKS_MAX)? as u32;
        let payload_at = reader.uint_max("payload offset", HEAD_BYTES_MAX)? as u32;
        let sizes = match reader.uint_max("block size", PAYLOAD_BYTES_MAX + 1)? as u32 {
            0 => Sizes::Varied,
            more => Sizes::Uniform(more - 1),
        };
        let fits = match sizes {
            Sizes::Uniform(size) => u64::from(size) * u64::from(count) <= PAYLOAD_BYTES_MAX as u64,
            Sizes::Varied => true,
        };
        let run = Run {
            start: from.checked_sub(u64::from(skip)).unwrap_or(u64::MAX),
            count,
            skip,
            blocks,
            record,
            payload_at,
            sizes,
        };
        let inside = skip + blocks <= count
            && blocks > 0
            && run.start <= from
            && from + u64::from(blocks) <= (page + 1) * PAGE_BLOCKS;
        if !inside || !fits {
            return Err(impossible(reader, "run", from));
        }
        runs.push(run);
    }
    Ok(runs.into_iter().collect())
}

fn decode_blocks(
    reader: &mut Reader<'_>,
    page: u64,
    records: &[Place],
) -> Result<Vec<(u64, Extent)>, DecodeError> {
    let count = reader.uint_max("blocks of a page", PAGE_BLOCKS as usize)?;
    let mut blocks: Vec<(u64, Extent)> = Vec::with_capacity(count.min(reader.rest().len() / 4));
    let mut expected_at = 0;
    for _ in 0..count {
        let block = page * PAGE_BLOCKS + reader.uint_max("block", PAGE_BLOCKS as usize - 1)? as u64;
        let record = record(reader, records)?;
        let at = expected_at + unzigzag(reader.uint()?);
        let size = reader.uint_max("block size", PAYLOAD_BYTES_MAX)? as u32;
        let ascending = blocks.last().is_none_or(|(last, _)| *last < block);
        let possible = 0..=(HEAD_BYTES_MAX + PAYLOAD_BYTES_MAX) as i64;
        if !ascending || !possible.contains(&at) {
            return Err(impossible(reader, "block cell", block));
        }
        let at = at as u32;
        blocks.push((block, Extent { record, at, size }));
        expected_at = i64::from(at) + i64::from(size);
    }
    Ok(blocks)
}

fn decode_nodes(
    reader: &mut Reader<'_>,
    page: u64,
    records: &[Place],
) -> Result<Vec<(u64, NodeRef)>, DecodeError> {
    let count = reader.uint_max("nodes of a page", PAGE_NODES_MAX)?;
    let mut nodes: Vec<(u64, NodeRef)> = Vec::with_capacity(count.min(reader.rest().len() / 3));
    let (mut index, mut expected) = (0, 0);
    for _ in 0..count {
        index += reader.uint()?;
        let what = reader.uint_max("record", 2 * PAGE_RECORDS_MAX + 1)?;
        let ordinal = expected + unzigzag(reader.uint()?);
        let ascending = nodes.last().is_none_or(|(last, _)| *last < index);
        let record = records.get(what / 2).copied();
        let (Some(record), true) = (record, index < 1 << 53) else {
            return Err(impossible(reader, "node cell", index));
        };
        let possible = 0..=RECORD_NODES_MAX as i64;
        if !ascending || completed_by(index) / PAGE_BLOCKS != page || !possible.contains(&ordinal) {
            return Err(impossible(reader, "node cell", index));
        }
        nodes.push((index, NodeRef::new(record, what % 2 == 1, ordinal as u32)));
        expected = ordinal + 1;
    }
    Ok(nodes)
}

fn record(reader: &mut Reader<'_>, records: &[Place]) -> Result<Place, DecodeError> {
    let number = reader.uint_max("record", PAGE_RECORDS_MAX)?;
    let place = records.get(number).copied();
    place.ok_or_else(|| impossible(reader, "record", number as u64))
}

fn impossible(reader: &Reader<'_>, what: &'static str, actual: u64) -> DecodeError {
    DecodeError::UnknownValue {
        what,
        at: reader.position(),
        actual,
    }
}

/// Puts the sign last, so that small differences either way are small numbers.
fn zigzag(difference: i64) -> u64 {
    ((difference << 1) ^ (difference >> 63)) as u64
}

fn unzigzag(encoded: u64) -> i64 {
    (encoded >> 1) as i64 ^ -((encoded & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = Place> {
        (0..4u32, 0..5000u32).prop_map(|(segment, offset)| Place { segment, offset })
    }

    fn layer() -> impl Strategy<Value = Layer> {
        let sizes = prop_oneof![Just(Sizes::Varied), (0..3000u32).prop_map(Sizes::Uniform)];
        let run = (0..2000u64, 1..700u32, place(), 52..9000u32, sizes).prop_map(
            |(start, count, record, at, sizes)| Run::whole(start, count, record, at, sizes),
        );
        let block = (0..2000u64, place(), 0..50_000u32, 0..5000u32);
        let node = (0..4000u64, place(), any::<bool>(), 0..30_000u32);
        (
            proptest::collection::vec(run, 0..6),
            proptest::collection::vec(block, 0..60),
            proptest::collection::vec(node, 0..60),
            proptest::option::of(0..2000u64),
        )
            .prop_map(|(runs, blocks, nodes, truncated)| {
                let mut layer = Layer::default();
                if let Some(length) = truncated {
                    layer.truncate(length);
                }
                for run in runs {
                    layer.add_run(run);
                }
                for (block, record, at, size) in blocks {
                    layer.set_block(block, Extent { record, at, size });
                }
                for (index, record, fill, ordinal) in nodes {
                    layer.set_node(index, NodeRef::new(record, fill, ordinal));
                }
                layer
            })
    }

    proptest! {
        #[test]
        fn pages_say_what_the_layers_said_and_come_back_as_they_were(
            old in layer(),
            new in layer(),
        ) {
            for page in 0..6 {
                let mut content = Page::default();
                content.absorb(&old, page);
                content.absorb(&new, page);
                let mut bytes = Vec::new();
                content.encode(page, &mut bytes);
                prop_assert_eq!(Page::decode(page, &bytes), Ok(content.clone()));
                for block in blocks_of(page) {
                    let expected = match new.block(block) {
                        Said::Nothing => old.block(block),
                        said => said,
                    };
                    let found = |said| match said {
                        Said::Found(found) => Some(found),
                        _ => None,
                    };
                    prop_assert_eq!(found(content.block(block)), found(expected));
                }
                for index in 0..4200u64 {
                    if completed_by(index) / PAGE_BLOCKS != page {
                        continue;
                    }
                    let expected = match new.node(index) {
                        Said::Nothing => old.node(index),
                        said => said,
                    };
                    let found = |said| match said {
                        Said::Found(found) => Some(found),
                        _ => None,
                    };
                    prop_assert_eq!(found(content.node(index)), found(expected));
                }
            }
        }

        #[test]
        fn any_bytes_decode_or_fail_and_what_decodes_can_be_looked_up(
            layer in layer(),
            flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        ) {
            let mut content = Page::default();
            content.absorb(&layer, 1);
            let mut bytes = Vec::new();
            content.encode(1, &mut bytes);
            for (at, value) in flips {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            if let Ok(page) = Page::decode(1, &bytes) {
                for block in blocks_of(1) {
                    page.block(block);
                    page.node(2 * block);
                }
                page.nodes(1);
            }
        }
    }
}
