//! What the chunks of a backup hold: parts, each `u8 kind | u64 bytes | content`, up to the end, kind 0.

use std::io::{self, Write};

use kinlog_feeds::crypto::{AgentId, DeviceKey};
use serde::{Deserialize, Serialize};

use crate::api::Text;
use crate::backup::sealed_file::{BackupError, Opening};
use crate::limits::BACKUP_SUMMARY_BYTES_MAX;

/// Bytes of a part that are held at once, 64 KiB: as many as a chunk has.
const COPIED_AT_ONCE: usize = 64 * 1024;

const END: u8 = 0;
const SUMMARY: u8 = 1;
const STATE: u8 = 2;
const HEAD_BYTES: usize = 9;

/// What a backup says of itself; JSON, the first part.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Summary {
    pub agent: Text<AgentId>,
    /// The device whose paths a restored home continues.
    pub device: Text<DeviceKey>,
    pub name: String,
    /// Milliseconds since 1970 by the clock of the machine that made it.
    pub made_ms: u64,
    /// Version of the build that made it.
    pub kinlog: String,
    /// Its format.
    pub format: u16,
    /// What no peer had seen by then: only the device had it, and it is not in the backup.
    #[serde(default)]
    pub unpublished: Unpublished,
}

/// Blocks of own feeds that no peer was shown.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unpublished {
    pub feeds: u64,
    pub blocks: u64,
}

/// The start of a part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    End,
    Summary {
        bytes: usize,
    },
    State {
        bytes: u64,
    },
    /// Of a later build, which this one passes over.
    Unknown {
        bytes: u64,
    },
}

impl Part {
    pub(crate) const fn state(bytes: u64) -> Part {
        Part::State { bytes }
    }

    pub(crate) fn encode(&self) -> [u8; HEAD_BYTES] {
        let (kind, bytes) = match *self {
            Part::End => (END, 0),
            Part::Summary { bytes } => (SUMMARY, bytes as u64),
            Part::State { bytes } => (STATE, bytes),
            Part::Unknown { bytes } => (u8::MAX, bytes),
        };
        let mut head = [0; HEAD_BYTES];
        head[0] = kind;
        head[1..].copy_from_slice(&bytes.to_le_bytes());
        head
    }

    pub(crate) fn decode(head: &[u8; HEAD_BYTES]) -> Result<Part, BackupError> {
        let [kind, bytes @ ..] = *head;
        let bytes = u64::from_le_bytes(bytes);
        let what = "length of a part";
        match kind {
            END if bytes == 0 => Ok(Part::End),
            END => Err(BackupError::Content { what }),
            SUMMARY => match usize::try_from(bytes) {
                Ok(bytes) if bytes <= BACKUP_SUMMARY_BYTES_MAX => Ok(Part::Summary { bytes }),
                _ => Err(BackupError::Content { what }),
            },
            STATE => Ok(Part::State { bytes }),
            _ => Ok(Part::Unknown { bytes }),
        }
    }
}

impl Summary {
    /// Writes the summary as a part.
    ///
    /// # Errors
    /// What `to` says.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        to.write_all(&Part::Summary { bytes: json.len() }.encode())?;
        to.write_all(&json)
    }

    pub(crate) fn decode(json: &[u8]) -> Result<Summary, BackupError> {
        serde_json::from_slice(json).map_err(|_| BackupError::Content { what: "summary" })
    }
}

/// What the parts of a backup are read from.
pub(crate) trait Content {
    /// Reads the next `bytes` whole.
    fn read_whole(&mut self, bytes: &mut [u8]) -> Result<(), BackupError>;

    /// Refuses anything after what was read.
    fn finish(self) -> Result<(), BackupError>;
}

impl<R: io::Read> Content for Opening<R> {
    fn read_whole(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        Opening::read_whole(self, bytes)
    }

    fn finish(self) -> Result<(), BackupError> {
        Opening::finish(self)
    }
}

/// Reads the parts of a backup in order; the content of `state.db` goes to `state` as it comes.
pub(crate) fn read_parts(
    mut opening: impl Content,
    state: &mut impl Write,
) -> Result<Summary, BackupError> {
    let (mut summary, mut has_state) = (None, false);
    loop {
        let mut head = [0; HEAD_BYTES];
        opening.read_whole(&mut head)?;
        match Part::decode(&head)? {
            Part::End => break,
            Part::Summary { bytes } if summary.is_none() => {
                let mut json = vec![0; bytes];
                opening.read_whole(&mut json)?;
                summary = Some(Summary::decode(&json)?);
            }
            Part::State { bytes } if !has_state => {
                has_state = true;
                copy(&mut opening, bytes, state)?;
            }
            Part::Unknown { bytes } => copy(&mut opening, bytes, &mut io::sink())?,
            Part::Summary { .. } | Part::State { .. } => {
                return Err(BackupError::Content { what: "order" });
            }
        }
    }
    opening.finish()?;
    match summary {
        Some(summary) if has_state => Ok(summary),
        _ => Err(BackupError::Content {
            what: "list of parts",
        }),
    }
}

fn copy(opening: &mut impl Content, bytes: u64, to: &mut impl Write) -> Result<(), BackupError> {
    let mut left = bytes;
    let mut some = vec![0; COPIED_AT_ONCE.min(usize::try_from(bytes).unwrap_or(usize::MAX))];
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(some.len());
        opening.read_whole(&mut some[..count])?;
        to.write_all(&some[..count])?;
        left -= count as u64;
    }
    Ok(())
}

/// Content that nobody sealed.
struct Opened<'a>(&'a [u8]);

impl Content for Opened<'_> {
    fn read_whole(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        let (read, rest) = self
            .0
            .split_at_checked(bytes.len())
            .ok_or(BackupError::Content { what: "end" })?;
        bytes.copy_from_slice(read);
        self.0 = rest;
        Ok(())
    }

    fn finish(self) -> Result<(), BackupError> {
        match self.0 {
            [] => Ok(()),
            _ => Err(BackupError::Content { what: "end" }),
        }
    }
}

/// Reads noise as the content of a backup, as if it had been opened; returns whether it was understood.
#[doc(hidden)]
pub fn probe_parts(plain: &[u8]) -> bool {
    let mut state = Vec::new();
    let Ok(summary) = read_parts(Opened(plain), &mut state) else {
        return false;
    };
    let mut again = Vec::new();
    let written = summary.write(&mut again);
    written.is_ok() && state.len() <= plain.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{probe_seal, sealed_file::BackupKey};

    fn summary() -> Summary {
        Summary {
            agent: AgentId([1; 32]).into(),
            device: DeviceKey([2; 32]).into(),
            name: "ann".into(),
            made_ms: 1_700_000_000_000,
            kinlog: "0.1.0".into(),
            format: 7,
            unpublished: Unpublished {
                feeds: 1,
                blocks: 2,
            },
        }
    }

    fn read(plain: &[u8]) -> Result<(Summary, Vec<u8>), BackupError> {
        let sealed = probe_seal([4; 32], plain);
        let key = BackupKey(kinlog_feeds::crypto::Secret::new([4; 32]));
        let opening = Opening::start(sealed.as_slice(), |_| Ok(key))?;
        let mut state = Vec::new();
        Ok((read_parts(opening, &mut state)?, state))
    }

    fn plain(parts: &[&[u8]]) -> Vec<u8> {
        let mut plain = Vec::new();
        summary().write(&mut plain).unwrap();
        parts.iter().for_each(|part| plain.extend_from_slice(part));
        plain
    }

    #[test]
    fn parts_come_back_and_those_of_later_builds_are_passed_over() {
        let state = Part::state(5).encode();
        let unknown = Part::Unknown { bytes: 3 }.encode();
        let end = Part::End.encode();
        let content = plain(&[&unknown, b"new", &state, b"pages", &end]);
        assert_eq!(read(&content).unwrap(), (summary(), b"pages".to_vec()));
        assert!(probe_parts(&content));
    }

    #[test]
    fn a_summary_of_a_build_that_did_not_count_what_is_unpublished_reads_as_none() {
        let mut json = serde_json::to_value(summary()).unwrap();
        json.as_object_mut().unwrap().remove("unpublished");
        let read = Summary::decode(&serde_json::to_vec(&json).unwrap()).unwrap();
        assert_eq!(read.unpublished, Unpublished::default());
    }

    #[test]
    fn what_is_missing_doubled_or_too_long_is_refused() {
        let state = Part::state(5).encode();
        let end = Part::End.encode();
        let huge = Part::state(u64::MAX).encode();
        let large = Part::Summary {
            bytes: BACKUP_SUMMARY_BYTES_MAX + 1,
        }
        .encode();
        for parts in [
            &[&end[..]][..],
            &[&state, b"page", &end],
            &[&state, b"pages"],
            &[&state, b"pages", &end, b"x"],
            &[&state, b"pages", &state, b"pages", &end],
            &[&huge, b"pages", &end],
            &[&large, b"pages", &end],
        ] {
            assert!(read(&plain(parts)).is_err());
            assert!(!probe_parts(&plain(parts)));
        }
    }
}
