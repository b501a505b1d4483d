//! What is said about several feeds at once.

use std::ops::Range;

use crate::crypto::{Hash, blake2b_256};
use crate::encoding::{DecodeError, Reader, Writer, uint_len};
use crate::limits::GROUP_FEEDS_MAX;

const DOWNLOADING: u64 = 1;
const HAS_MANIFEST: u64 = 2;
const ALLOWS_PUSHES: u64 = 4;

/// What is said about several feeds at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GroupMessage {
    /// The sender's heads, and that it holds every block below them.
    Heads(GroupHeads),
    /// These are not the heads of whoever was told: each is to be told by itself.
    Differ,
}

/// Heads of several feeds in one digest: who has the same knows what the other side has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GroupHeads {
    /// As in a Synchronize, for each of them.
    pub downloading: bool,
    /// As in a Synchronize, for each of them.
    pub has_manifest: bool,
    /// As in a Synchronize, for each of them.
    pub allows_pushes: bool,
    /// See [`heads_digest`].
    pub digest: Hash,
}

/// Returns the digest of heads, in the order of the feeds' keys: `H(n x (uint fork | uint length | tree hash 32))`.
pub fn heads_digest(heads: impl IntoIterator<Item = (u64, u64, Hash)>) -> Hash {
    let mut said = Vec::with_capacity(GROUP_FEEDS_MAX * 36);
    for (fork, length, tree_hash) in heads {
        said.put_uint(fork);
        said.put_uint(length);
        said.put_raw(&tree_hash.0);
    }
    Hash(blake2b_256(&[&said]))
}

/// Returns numbers, ascending, as runs.
fn runs(numbers: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(last) if last.end == *number => last.end += 1,
            _ => runs.push(*number..number + 1),
        }
    }
    runs
}

/// Returns the bytes that [`encode_numbers`] writes.
pub(super) fn numbers_len(numbers: &[u64]) -> usize {
    let runs = runs(numbers);
    let mut bytes = uint_len(runs.len() as u64);
    let mut at = 0;
    for run in runs {
        bytes += uint_len(run.start - at) + uint_len(run.end - run.start - 1);
        at = run.end;
    }
    bytes
}

/// Appends `uint n | n x (uint gap, uint length - 1)`, each gap from the end of the run before.
pub(super) fn encode_numbers(numbers: &[u64], out: &mut Vec<u8>) {
    let runs = runs(numbers);
    out.put_uint(runs.len() as u64);
    let mut at = 0;
    for run in runs {
        out.put_uint(run.start - at);
        out.put_uint(run.end - run.start - 1);
        at = run.end;
    }
}

/// Reads what [`encode_numbers`] wrote, ascending.
pub(super) fn decode_numbers(reader: &mut Reader<'_>) -> Result<Vec<u64>, DecodeError> {
    let count = reader.uint_max("runs of feeds", GROUP_FEEDS_MAX)?;
    let mut numbers = Vec::new();
    // At most 64 times 2^54: nothing overflows.
    let mut at = 0;
    for _ in 0..count {
        let first = at + reader.uint()?;
        let position = reader.position();
        let more = reader.uint_max("feeds of a group", GROUP_FEEDS_MAX - 1)? as u64;
        at = first + more + 1;
        let actual = numbers.len() as u64 + more + 1;
        if actual > GROUP_FEEDS_MAX as u64 {
            return Err(DecodeError::AboveLimit {
                what: "feeds of a group",
                at: position,
                limit: GROUP_FEEDS_MAX as u64,
                actual,
            });
        }
        numbers.extend(first..at);
    }
    Ok(numbers)
}

impl GroupHeads {
    /// Bytes of an encoding: the flags stay below 0xfd.
    pub(super) const BYTES: usize = 33;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let bit = |is: bool, bit: u64| if is { bit } else { 0 };
        out.put_uint(
            bit(self.downloading, DOWNLOADING)
                | bit(self.has_manifest, HAS_MANIFEST)
                | bit(self.allows_pushes, ALLOWS_PUSHES),
        );
        out.put_raw(&self.digest.0);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<GroupHeads, DecodeError> {
        let flags = reader.uint()?;
        Ok(GroupHeads {
            downloading: flags & DOWNLOADING != 0,
            has_manifest: flags & HAS_MANIFEST != 0,
            allows_pushes: flags & ALLOWS_PUSHES != 0,
            digest: Hash(reader.fixed()?),
        })
    }
}
