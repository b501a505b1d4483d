//! The bytes of a backup: a header with the key under its passphrase, then chunks under that key.
//!
//! `"kinlogbk" | u8 version=1 | envelope 101 (NS "backup", holds the backup's key 32) | chunks`. A chunk is
//! XChaCha20-Poly1305 of 65,536 bytes, the last one of what is left (0 to 65,536); its key is
//! `derive(backup key, "backup-part", "chunks")`, its nonce `u64 number | u8 last (0 or 1) | 15 zeros`, its
//! associated data `NS("backup-part") | header 110`. A file that ends early, or goes on, does not open.

use std::io::{self, Read, Write};

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305};
use kinlog_feeds::crypto::{Secret, derive, namespace};
use zeroize::Zeroizing;

use crate::limits::BACKUP_CHUNK_BYTES;
use crate::vault::{
    ENVELOPE_OVERHEAD_BYTES, EnvelopeError, HomeKey, KdfParameters, Passphrase, Salt,
    envelope_parameters, open_with_passphrase, seal_with_passphrase,
};

const MAGIC: &[u8; 8] = b"kinlogbk";
const VERSION: u8 = 1;
const ENVELOPE_BYTES: usize = ENVELOPE_OVERHEAD_BYTES + 32;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Bytes before the first chunk.
pub(crate) const HEADER_BYTES: usize = MAGIC.len() + 1 + ENVELOPE_BYTES;

/// Why a file cannot be opened as a backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Does not begin as one.
    #[error("no backup of kinlog")]
    NotABackup,
    /// Of a later build.
    #[error("backup of version {actual}, this build reads {expected}", expected = VERSION)]
    Version { actual: u8 },
    /// The key does not come out.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Altered, cut short, or followed by something else.
    #[error("chunk {number} is altered, missing, or not the last")]
    Altered { number: u64 },
    /// The chunks hold, what is in them does not.
    #[error("{what} of the backup is damaged")]
    Content { what: &'static str },
    /// The disk.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The first bytes of a backup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Header([u8; HEADER_BYTES]);

impl Header {
    /// Puts a backup's key under a passphrase. Takes as long as a derivation.
    pub(crate) fn seal(
        key: &BackupKey,
        passphrase: &Passphrase,
        salt: &Salt,
        nonce: &[u8; NONCE_BYTES],
    ) -> Result<Header, EnvelopeError> {
        let (label, floor) = (namespace::BACKUP, KdfParameters::FLOOR);
        let envelope =
            seal_with_passphrase(passphrase, label, &floor, salt, nonce, key.0.expose())?;
        let mut bytes = [0; HEADER_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[MAGIC.len()] = VERSION;
        bytes[MAGIC.len() + 1..].copy_from_slice(&envelope);
        Ok(Header(bytes))
    }

    /// Reads a header whose parameters are within the bounds; derives nothing.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, BackupError> {
        let Some((&version, envelope)) = bytes
            .strip_prefix(MAGIC.as_slice())
            .and_then(<[u8]>::split_first)
        else {
            return Err(BackupError::NotABackup);
        };
        if version != VERSION {
            return Err(BackupError::Version { actual: version });
        }
        envelope_parameters(envelope)?;
        Ok(Header(*bytes))
    }

    /// Returns the backup's key. Takes as long as a derivation.
    pub(crate) fn open(&self, passphrase: &Passphrase) -> Result<BackupKey, EnvelopeError> {
        let envelope = &self.0[MAGIC.len() + 1..];
        let key = open_with_passphrase(passphrase, namespace::BACKUP, envelope)?;
        let key = key.as_slice().try_into();
        let key = key.map_err(|_| EnvelopeError::Length {
            actual: envelope.len(),
        })?;
        Ok(BackupKey(Secret::new(key)))
    }

    fn associated_data(&self) -> Vec<u8> {
        [&namespace::BACKUP_PART.hash(), self.0.as_slice()].concat()
    }
}

/// The key of one backup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct BackupKey(pub(crate) Secret);

impl BackupKey {
    fn chunks(&self) -> Secret {
        derive(&self.0, namespace::BACKUP_PART, b"chunks")
    }

    /// Returns the key that the secrets within are sealed with once more, as in a home.
    pub(crate) fn secrets(&self) -> HomeKey {
        HomeKey::new(derive(&self.0, namespace::BACKUP_PART, b"secrets"))
    }
}

/// Writes a backup, chunk by chunk.
pub(crate) struct Sealing<W> {
    to: W,
    key: Secret,
    associated: Vec<u8>,
    number: u64,
    plain: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealing<W> {
    pub(crate) fn start(mut to: W, header: &Header, key: &BackupKey) -> io::Result<Self> {
        to.write_all(&header.0)?;
        Ok(Sealing {
            to,
            key: key.chunks(),
            associated: header.associated_data(),
            number: 0,
            plain: Zeroizing::new(Vec::with_capacity(BACKUP_CHUNK_BYTES)),
        })
    }

    /// Writes the last chunk.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.to)
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        let tag = XChaCha20Poly1305::new(self.key.expose().into())
            .encrypt_inout_detached(
                (&nonce(self.number, is_last)).into(),
                &self.associated,
                self.plain.as_mut_slice().into(),
            )
            .expect("a chunk is far below what the cipher takes");
        self.to.write_all(&self.plain)?;
        self.to.write_all(&tag)?;
        self.plain.clear();
        self.number += 1;
        Ok(())
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.plain.len() == BACKUP_CHUNK_BYTES {
            self.seal(false)?;
        }
        let count = bytes.len().min(BACKUP_CHUNK_BYTES - self.plain.len());
        self.plain.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Reads a backup, chunk by chunk: nothing that does not hold is given out.
pub(crate) struct Opening<R> {
    from: R,
    key: Secret,
    associated: Vec<u8>,
    number: u64,
    /// The chunk that comes, sealed: whether it is the last shows when it is the next one's turn.
    ahead: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    at: usize,
    has_ended: bool,
}

impl<R: Read> Opening<R> {
    /// Reads the header and what follows it; the key is what `open` says of it.
    pub(crate) fn start(
        mut from: R,
        open: impl FnOnce(&Header) -> Result<BackupKey, EnvelopeError>,
    ) -> Result<Self, BackupError> {
        let mut header = [0; HEADER_BYTES];
        from.read_exact(&mut header)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => BackupError::NotABackup,
                _ => BackupError::Io(error),
            })?;
        let header = Header::decode(&header)?;
        let key = open(&header)?;
        let mut opening = Opening {
            from,
            key: key.chunks(),
            associated: header.associated_data(),
            number: 0,
            ahead: Vec::new(),
            plain: Zeroizing::default(),
            at: 0,
            has_ended: false,
        };
        opening.ahead = opening.read_sealed()?;
        Ok(opening)
    }

    /// Reads the next `bytes` whole.
    pub(crate) fn read_whole(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        let mut done = 0;
        while done < bytes.len() {
            match self.read_some(&mut bytes[done..])? {
                0 => return Err(BackupError::Content { what: "end" }),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Refuses anything after what was read.
    pub(crate) fn finish(mut self) -> Result<(), BackupError> {
        match self.read_some(&mut [0; 1])? {
            0 => Ok(()),
            _ => Err(BackupError::Content { what: "end" }),
        }
    }

    fn read_some(&mut self, bytes: &mut [u8]) -> Result<usize, BackupError> {
        while self.at == self.plain.len() && !self.has_ended {
            self.open_next()?;
        }
        let rest = &self.plain[self.at..];
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }

    fn open_next(&mut self) -> Result<(), BackupError> {
        let altered = BackupError::Altered {
            number: self.number,
        };
        let is_full = self.ahead.len() == BACKUP_CHUNK_BYTES + TAG_BYTES;
        let next = match is_full {
            true => self.read_sealed()?,
            false => Vec::new(),
        };
        let is_last = next.is_empty();
        let sealed = std::mem::replace(&mut self.ahead, next);
        let Some((sealed, tag)) = sealed.split_last_chunk::<TAG_BYTES>() else {
            return Err(altered);
        };
        let mut plain = Zeroizing::new(sealed.to_vec());
        let opened = XChaCha20Poly1305::new(self.key.expose().into()).decrypt_inout_detached(
            (&nonce(self.number, is_last)).into(),
            &self.associated,
            plain.as_mut_slice().into(),
            &Tag::from(*tag),
        );
        opened.map_err(|_| altered)?;
        self.number += 1;
        (self.plain, self.at, self.has_ended) = (plain, 0, is_last);
        Ok(())
    }

    fn read_sealed(&mut self) -> Result<Vec<u8>, BackupError> {
        let limit = BACKUP_CHUNK_BYTES + TAG_BYTES;
        let mut sealed = Vec::with_capacity(limit);
        let from = &mut self.from;
        from.take(limit as u64).read_to_end(&mut sealed)?;
        Ok(sealed)
    }
}

fn nonce(number: u64, is_last: bool) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce[8] = is_last.into();
    nonce
}

/// Writes a backup of `plain` that opens with `key`, whatever its passphrase: no derivation is done.
///
/// For whoever feeds noise to the reader.
#[doc(hidden)]
pub fn probe_seal(key: [u8; 32], plain: &[u8]) -> Vec<u8> {
    let mut header = [0; HEADER_BYTES];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header[MAGIC.len()] = VERSION;
    header[MAGIC.len() + 1] = 1;
    let at = MAGIC.len() + 2;
    header[at..at + KdfParameters::BYTES].copy_from_slice(&KdfParameters::FLOOR.encode());
    let key = BackupKey(Secret::new(key));
    let mut out = Vec::new();
    Sealing::start(&mut out, &Header(header), &key)
        .and_then(|mut sealing| {
            sealing.write_all(plain)?;
            sealing.finish().map(drop)
        })
        .expect("writing to memory does not fail");
    out
}

/// Reads what [`probe_seal`] wrote.
#[doc(hidden)]
pub fn probe_open(key: [u8; 32], sealed: &[u8]) -> Result<Vec<u8>, BackupError> {
    let mut opening = Opening::start(sealed, |_| Ok(BackupKey(Secret::new(key))))?;
    let (mut plain, mut some) = (Vec::new(), [0; 1000]);
    loop {
        match opening.read_some(&mut some)? {
            0 => return Ok(plain),
            count => plain.extend_from_slice(&some[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_of_a_backup_are_final() {
        let passphrase = Passphrase::choose("correct horse").unwrap();
        let key = BackupKey(Secret::new([3; 32]));
        let header = Header::seal(&key, &passphrase, &[7; 16], &[8; 24]).unwrap();
        let mut bytes = Vec::new();
        let mut sealing = Sealing::start(&mut bytes, &header, &key).unwrap();
        sealing.write_all(b"kinlog").unwrap();
        sealing.finish().unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = include_str!("golden.hex").split_whitespace();
        assert_eq!(hex, golden.collect::<String>());

        let mut opening =
            Opening::start(bytes.as_slice(), |header| header.open(&passphrase)).unwrap();
        let mut plain = [0; 6];
        opening.read_whole(&mut plain).unwrap();
        opening.finish().unwrap();
        assert_eq!(&plain, b"kinlog");
        let wrong = Passphrase::typed("correct hors").unwrap();
        let refused = Opening::start(bytes.as_slice(), |header| header.open(&wrong)).err();
        let closed = BackupError::Envelope(EnvelopeError::Closed);
        assert_eq!(refused.unwrap().to_string(), closed.to_string());
    }

    #[test]
    fn chunks_that_are_missing_swapped_or_added_are_noticed() {
        let plain: Vec<u8> = (0..3 * BACKUP_CHUNK_BYTES).map(|at| at as u8).collect();
        let sealed = probe_seal([1; 32], &plain);
        assert_eq!(probe_open([1; 32], &sealed).unwrap(), plain);
        let chunk = BACKUP_CHUNK_BYTES + TAG_BYTES;
        assert_eq!(sealed.len(), HEADER_BYTES + 3 * chunk);
        let (header, chunks) = sealed.split_at(HEADER_BYTES);
        let parts: Vec<&[u8]> = chunks.chunks(chunk).collect();
        for order in [
            &[0, 1][..],
            &[0, 2],
            &[1, 0, 2],
            &[0, 1, 2, 2],
            &[0, 0, 1, 2],
            &[],
        ] {
            let mut other = header.to_vec();
            order
                .iter()
                .for_each(|number| other.extend_from_slice(parts[*number]));
            assert!(probe_open([1; 32], &other).is_err(), "{order:?}");
        }
        for cut in [1, TAG_BYTES, chunk - 1] {
            assert!(probe_open([1; 32], &sealed[..sealed.len() - cut]).is_err());
        }
        let mut longer = sealed.clone();
        longer.push(0);
        assert!(probe_open([1; 32], &longer).is_err());
        let mut weak = sealed;
        weak[10] = 0;
        weak[12] = 0;
        assert!(matches!(
            probe_open([1; 32], &weak),
            Err(BackupError::Envelope(EnvelopeError::Weak { .. }))
        ));
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_comes_back(
            plain in prop::collection::vec(any::<u8>(), 0..3000),
            at in any::<prop::sample::Index>(),
        ) {
            let mut sealed = probe_seal([5; 32], &plain);
            prop_assert_eq!(probe_open([5; 32], &sealed).unwrap(), plain);
            let at = at.index(sealed.len());
            sealed[at] ^= 1;
            prop_assert!(probe_open([5; 32], &sealed).is_err());
        }
    }
}
