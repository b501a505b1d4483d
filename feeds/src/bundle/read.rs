//! Reading a bundle: every run is verified before it is given out.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::bundle::chunk::{Chunk, Frame, tag};
use crate::bundle::cover::Cover;
use crate::bundle::error::{BundleError, HeaderFault};
use crate::bundle::header::{BundleHeader, MAGIC, PREAMBLE_BYTES, VERSION};
use crate::bundle::write::new_check;
use crate::crypto::{Blake2b256, FeedKey};
use crate::encoding::DecodeError;
use crate::limits::{BUNDLE_FRAME_BYTES_MAX, BUNDLE_HEADER_BYTES_MAX};
use crate::tree::{Node, hash_leaves};

/// Reads and verifies a bundle; holds one run of blocks at a time, at most 8 MiB and a path of the
/// tree.
#[derive(Debug)]
pub struct BundleReader<R> {
    input: R,
    header: BundleHeader,
    /// Ranges not read yet, the next one last.
    ranges: Vec<Range<u64>>,
    cover: Cover,
    check: Option<Blake2b256>,
}

/// What a bundle holds, all of it verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BundleSummary {
    /// The header.
    pub header: BundleHeader,
    /// Blocks in it.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl<R: Read> BundleReader<R> {
    /// Reads the header and checks its signature.
    pub fn new(mut input: R) -> Result<Self, BundleError> {
        let mut preamble = [0; PREAMBLE_BYTES];
        let read = read_full(&mut input, &mut preamble).map_err(io_error)?;
        if read < MAGIC.len() || preamble[..4] != MAGIC {
            return Err(BundleError::NotABundle);
        }
        if read < PREAMBLE_BYTES {
            return Err(BundleError::HeaderCut);
        }
        let [_, _, _, _, version, zeros @ .., a, b, c, d] = preamble;
        if version != VERSION || zeros != [0; 3] {
            return Err(BundleError::Version { actual: version });
        }
        let size = u32::from_le_bytes([a, b, c, d]) as usize;
        if size > BUNDLE_HEADER_BYTES_MAX {
            return Err(BundleError::Header {
                reason: HeaderFault::TooLong {
                    limit: BUNDLE_HEADER_BYTES_MAX,
                    actual: size,
                },
            });
        }
        let encoded = read_exactly(&mut input, size)
            .map_err(io_error)?
            .ok_or(BundleError::HeaderCut)?;
        let header =
            BundleHeader::decode(&encoded).map_err(|reason| BundleError::Header { reason })?;
        header.verify()?;
        let mut check = new_check();
        check.update(&preamble);
        check.update(&encoded);
        Ok(BundleReader {
            input,
            ranges: header.ranges.iter().rev().cloned().collect(),
            cover: Cover::new(&header.signed.head),
            header,
            check: Some(check),
        })
    }

    /// Returns what the header says; its signature holds.
    pub fn header(&self) -> &BundleHeader {
        &self.header
    }

    /// Reads and verifies the next run of blocks; `None` once the end and its check were read.
    ///
    /// # Errors
    ///
    /// They name the first block that does not hold. Nothing can be read after one.
    pub fn next_run(&mut self) -> Result<Option<Chunk>, BundleError> {
        let feed = self.header.feed;
        let Some(mut check) = self.check.take() else {
            return Ok(None);
        };
        let Some(range) = self.ranges.pop() else {
            return self.end(check).map(|()| None);
        };
        let start = range.start;
        let cut = |block| BundleError::Cut { feed, block };
        let wrong = |fault| BundleError::Run {
            feed,
            block: start,
            fault,
        };
        let mut size = [0; 4];
        if read_full(&mut self.input, &mut size).map_err(io_error)? < size.len() {
            return Err(cut(start));
        }
        check.update(&size);
        let size = u32::from_le_bytes(size);
        let (limit, actual) = (BUNDLE_FRAME_BYTES_MAX as u64, u64::from(size));
        if actual > limit {
            let what = "size of a run's frame";
            return Err(wrong(DecodeError::AboveLimit {
                what,
                at: 0,
                limit,
                actual,
            }));
        }
        let encoded = read_exactly(&mut self.input, size as usize)
            .map_err(io_error)?
            .ok_or(cut(start))?;
        check.update(&encoded);
        let frame = Frame::decode(&encoded).map_err(wrong)?;
        let count = frame.blocks.len() as u64;
        if count > range.end - start {
            let what = "blocks of a run";
            return Err(wrong(DecodeError::AboveLimit {
                what,
                at: 0,
                limit: range.end - start,
                actual: count,
            }));
        }
        let chunk = self.verified_run(start, &frame)?;
        if start + count < range.end {
            self.ranges.push(start + count..range.end);
        }
        self.check = Some(check);
        Ok(Some(chunk))
    }

    /// Reads and verifies everything that is left.
    pub fn verify(mut self) -> Result<BundleSummary, BundleError> {
        let (mut blocks, mut bytes) = (0, 0);
        while let Some(run) = self.next_run()? {
            blocks += run.blocks.len() as u64;
            bytes += run.bytes();
        }
        Ok(BundleSummary {
            header: self.header,
            blocks,
            bytes,
        })
    }

    fn verified_run(&mut self, start: u64, frame: &Frame) -> Result<Chunk, BundleError> {
        let feed = self.header.feed;
        let count = frame.blocks.len() as u64;
        let run = start..start + count;
        self.cover.skip_to(start);
        let needed = self.cover.needed(&run);
        if needed.len() != frame.nodes.len() {
            return Err(BundleError::Unproved {
                feed,
                block: start,
                count,
            });
        }
        let blocks = self.read_blocks(feed, start, frame)?;
        let leaves = hash_leaves(start, &blocks);
        let differing = leaves
            .iter()
            .zip(&frame.blocks)
            .position(|(leaf, (_, expected))| tag(leaf) != *expected);
        if let Some(at) = differing {
            let block = start + at as u64;
            return Err(BundleError::Block { feed, block });
        }
        let given: Vec<Node> = needed
            .iter()
            .zip(&frame.nodes)
            .map(|(index, (size, hash))| Node {
                index: *index,
                size: *size,
                hash: *hash,
            })
            .collect();
        let nodes = self
            .cover
            .prove(&run, &leaves, &given)
            .map_err(|_| BundleError::Unproved {
                feed,
                block: start,
                count,
            })?;
        Ok(Chunk {
            start,
            blocks,
            leaves,
            nodes,
        })
    }

    fn read_blocks(
        &mut self,
        feed: FeedKey,
        start: u64,
        frame: &Frame,
    ) -> Result<Vec<Bytes>, BundleError> {
        let expected = frame.payload_bytes();
        let mut payload = Vec::new();
        (&mut self.input)
            .take(expected as u64)
            .read_to_end(&mut payload)
            .map_err(io_error)?;
        let mut rest = Bytes::from(payload);
        let mut blocks = Vec::with_capacity(frame.blocks.len());
        for (block, (size, _)) in (start..).zip(&frame.blocks) {
            let size = *size as usize;
            if rest.len() < size {
                return Err(BundleError::Cut { feed, block });
            }
            blocks.push(rest.split_to(size));
        }
        Ok(blocks)
    }

    /// Reads the end: no further run, the check, and nothing behind it.
    fn end(&mut self, mut check: Blake2b256) -> Result<(), BundleError> {
        let feed = self.header.feed;
        let mut end = [0; 4 + 32];
        if read_full(&mut self.input, &mut end).map_err(io_error)? < end.len() {
            return Err(BundleError::CheckCut { feed });
        }
        let (mark, expected) = end.split_at(4);
        check.update(mark);
        if mark != [0; 4] || check.finish() != expected {
            return Err(BundleError::Check { feed });
        }
        match read_full(&mut self.input, &mut [0]).map_err(io_error)? {
            0 => Ok(()),
            _ => Err(BundleError::Trailing { feed }),
        }
    }
}

fn io_error(error: io::Error) -> BundleError {
    BundleError::Io(Arc::new(error))
}

/// Reads until the buffer is full or the input ends; returns the bytes read.
fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match input.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Reads `count` bytes, `None` when the input ends first; memory grows with what is there.
fn read_exactly(input: &mut impl Read, count: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    input.take(count as u64).read_to_end(&mut bytes)?;
    Ok((bytes.len() == count).then_some(bytes))
}
