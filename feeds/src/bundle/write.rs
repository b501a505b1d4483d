//! Writing a bundle: one run of blocks at a time, each checked on its way out.

use std::io::Write;
use std::ops::Range;

use bytes::Bytes;

use crate::bundle::chunk::{Frame, tag};
use crate::bundle::cover::Cover;
use crate::bundle::error::WriteError;
use crate::bundle::header::{BundleHeader, MAGIC, PREAMBLE_BYTES, VERSION};
use crate::crypto::{Blake2b256, namespace};
use crate::limits::{
    BUNDLE_RANGES_MAX, BUNDLE_RUN_BLOCKS_MAX, BUNDLE_RUN_BYTES, PLAIN_BLOCK_BYTES_MAX,
};
use crate::tree::{Node, NodeSource, hash_leaves};

/// Where a bundle draws its blocks and nodes from.
pub trait BundleSource: NodeSource {
    /// Returns a block, `None` when it is not held.
    fn block(&self, index: u64) -> Result<Option<Bytes>, Self::Error>;
}

/// Writes a bundle. Nothing that does not lead to the signed head is written.
#[derive(Debug)]
pub struct BundleWriter<W> {
    out: W,
    ranges: std::vec::IntoIter<Range<u64>>,
    now: Range<u64>,
    cover: Cover,
    check: Blake2b256,
    /// A block that did not fit into the run before.
    left_over: Option<Bytes>,
}

impl<W: Write> BundleWriter<W> {
    /// Writes the header. The blocks follow by [`write_run`](Self::write_run).
    ///
    /// # Errors
    ///
    /// [`WriteError::Range`] for ranges that are not ascending, touch each other or pass the head.
    pub fn new<E>(mut out: W, header: &BundleHeader) -> Result<Self, WriteError<E>> {
        let (limit, actual) = (BUNDLE_RANGES_MAX, header.ranges.len());
        if actual > limit {
            return Err(WriteError::TooManyRanges { limit, actual });
        }
        let length = header.signed.head.length;
        if let Some(range) = header.wrong_range() {
            return Err(WriteError::Range {
                start: range.start,
                end: range.end,
                length,
            });
        }
        let encoded = header.encode();
        let mut preamble = [0; PREAMBLE_BYTES];
        preamble[..4].copy_from_slice(&MAGIC);
        preamble[4] = VERSION;
        preamble[8..].copy_from_slice(&(encoded.len() as u32).to_le_bytes());
        let mut check = new_check();
        for part in [&preamble[..], &encoded] {
            check.update(part);
            out.write_all(part).map_err(WriteError::Io)?;
        }
        Ok(BundleWriter {
            out,
            ranges: header.ranges.clone().into_iter(),
            now: 0..0,
            cover: Cover::new(&header.signed.head),
            check,
            left_over: None,
        })
    }

    /// Writes the next run of blocks and returns which they are; `None` when all are written, after
    /// which [`finish`](Self::finish) is due.
    pub fn write_run<S: BundleSource>(
        &mut self,
        source: &S,
    ) -> Result<Option<Range<u64>>, WriteError<S::Error>> {
        if self.now.is_empty() {
            let Some(next) = self.ranges.next() else {
                return Ok(None);
            };
            self.now = next;
        }
        let start = self.now.start;
        let blocks = self.take_blocks(source)?;
        let run = start..start + blocks.len() as u64;
        self.now.start = run.end;
        let leaves = hash_leaves(start, &blocks);
        self.cover.skip_to(start);
        let given = self
            .cover
            .needed(&run)
            .into_iter()
            .map(|node| match source.node(node) {
                Ok(Some(found)) => Ok(found),
                Ok(None) => Err(WriteError::NodeMissing { node }),
                Err(error) => Err(WriteError::Source(error)),
            })
            .collect::<Result<Vec<Node>, _>>()?;
        self.cover
            .prove(&run, &leaves, &given)
            .map_err(|_| WriteError::Unproved {
                block: start,
                count: blocks.len() as u64,
            })?;
        let sizes = blocks.iter().map(|block| block.len() as u32);
        let frame = Frame {
            blocks: sizes.zip(leaves.iter().map(tag)).collect(),
            nodes: given.iter().map(|node| (node.size, node.hash)).collect(),
        };
        self.write_framed(&frame.encode(), &blocks)
            .map_err(WriteError::Io)?;
        Ok(Some(run))
    }

    /// Writes the end and gives the file back; it is flushed, not synced.
    pub fn finish<E>(mut self) -> Result<W, WriteError<E>> {
        let end = 0u32.to_le_bytes();
        self.check.update(&end);
        self.out.write_all(&end).map_err(WriteError::Io)?;
        let check = self.check.finish();
        self.out.write_all(&check).map_err(WriteError::Io)?;
        self.out.flush().map_err(WriteError::Io)?;
        Ok(self.out)
    }

    /// Reads the blocks of the next run: up to the next multiple of [`BUNDLE_RUN_BLOCKS_MAX`], so
    /// that runs are whole subtrees, or until the run is full.
    fn take_blocks<S: BundleSource>(
        &mut self,
        source: &S,
    ) -> Result<Vec<Bytes>, WriteError<S::Error>> {
        let start = self.now.start;
        let aligned = (start + 1).next_multiple_of(BUNDLE_RUN_BLOCKS_MAX as u64);
        let mut blocks: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        for block in start..self.now.end.min(aligned) {
            let value = match self.left_over.take() {
                Some(value) => value,
                None => read_block(source, block)?,
            };
            if !blocks.is_empty() && bytes + value.len() > BUNDLE_RUN_BYTES {
                self.left_over = Some(value);
                break;
            }
            bytes += value.len();
            blocks.push(value);
        }
        Ok(blocks)
    }

    fn write_framed(&mut self, frame: &[u8], blocks: &[Bytes]) -> std::io::Result<()> {
        let size = (frame.len() as u32).to_le_bytes();
        for part in [&size[..], frame] {
            self.check.update(part);
            self.out.write_all(part)?;
        }
        blocks
            .iter()
            .try_for_each(|block| self.out.write_all(block))
    }
}

fn read_block<S: BundleSource>(source: &S, block: u64) -> Result<Bytes, WriteError<S::Error>> {
    let value = source
        .block(block)
        .map_err(WriteError::Source)?
        .ok_or(WriteError::BlockMissing { block })?;
    let (size, limit) = (value.len(), PLAIN_BLOCK_BYTES_MAX);
    if size > limit {
        return Err(WriteError::BlockTooLarge { block, size, limit });
    }
    Ok(value)
}

/// Starts the check: a hash over all of the file but its blocks, which their leaf hashes cover.
pub(super) fn new_check() -> Blake2b256 {
    let mut check = Blake2b256::new();
    check.update(&namespace::BUNDLE.hash());
    check
}
