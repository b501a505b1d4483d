//! Which blocks of a part of a feed are held, as runs.

use std::ops::Range;

use crate::encoding::{DecodeError, Reader, Writer, uint_len};
use crate::limits::{HELD_RUNS_MAX, UINT_MAX};

/// The blocks held in `start..end`; the rest of them are not.
///
/// `uint start | uint length | uint n | n x (uint gap, uint length)`, each gap counted from the end of
/// the run before, the first from `start`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// What is told of.
    pub blocks: Range<u64>,
    /// What of it is held, ascending and apart.
    pub runs: Vec<Range<u64>>,
}

impl Held {
    /// Returns what the words of a bitfield tell; `None` when there are too many runs to say it so.
    pub fn from_words(start: u64, words: &[u32]) -> Option<Held> {
        let end = start.checked_add(32 * words.len() as u64)?;
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (number, word) in (0u64..).zip(words) {
            let mut at = 0;
            while at < 32 {
                at += (word >> at).trailing_zeros().min(32 - at);
                let ones = if at < 32 {
                    (word >> at).trailing_ones()
                } else {
                    0
                };
                if ones == 0 {
                    break;
                }
                let first = start + 32 * number + u64::from(at);
                let run = first..first + u64::from(ones);
                match runs.last_mut() {
                    Some(last) if last.end == run.start => last.end = run.end,
                    _ => runs.push(run),
                }
                at += ones;
            }
        }
        (runs.len() <= HELD_RUNS_MAX && end <= UINT_MAX).then_some(Held {
            blocks: start..end,
            runs,
        })
    }

    /// Returns the bytes that [`encode`](Self::encode) writes.
    pub fn encoded_len(&self) -> usize {
        let mut at = self.blocks.start;
        let mut bytes =
            uint_len(at) + uint_len(self.blocks.end - at) + uint_len(self.runs.len() as u64);
        for run in &self.runs {
            bytes += uint_len(run.start - at) + uint_len(run.end - run.start);
            at = run.end;
        }
        bytes
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut at = self.blocks.start;
        out.put_uint(at);
        out.put_uint(self.blocks.end - at);
        out.put_uint(self.runs.len() as u64);
        for run in &self.runs {
            out.put_uint(run.start - at);
            out.put_uint(run.end - run.start);
            at = run.end;
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Held, DecodeError> {
        let start = reader.uint()?;
        let end = add(reader, start, UINT_MAX)?;
        let count = reader.uint_max("runs held", HELD_RUNS_MAX)?;
        // Two bytes a run at least: nothing is reserved that was not sent.
        let mut runs = Vec::with_capacity(count.min(reader.rest().len() / 2));
        let mut at = start;
        for _ in 0..count {
            let first = add(reader, at, end)?;
            at = add(reader, first, end)?;
            runs.push(first..at);
        }
        Ok(Held {
            blocks: start..end,
            runs,
        })
    }
}

/// Reads a number that leads from `at` to at most `end`.
fn add(reader: &mut Reader<'_>, at: u64, end: u64) -> Result<u64, DecodeError> {
    let position = reader.position();
    let more = reader.uint()?;
    if more > end - at {
        return Err(DecodeError::AboveLimit {
            what: "blocks held",
            at: position,
            limit: end - at,
            actual: more,
        });
    }
    Ok(at + more)
}
