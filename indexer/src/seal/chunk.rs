//! Chunks of files: 64 KiB of plaintext each, under a key of the file's own.

use bytes::Bytes;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305};
use kinlog_feeds::crypto::{Secret, namespace};

use crate::limits::FILE_CHUNK_BYTES;

const TAG_BYTES: usize = 16;

/// A chunk that cannot be sealed or opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// Above 64 KiB.
    #[error("chunk {number} of {actual} bytes is above the limit of {limit}")]
    TooLarge {
        number: u64,
        limit: usize,
        actual: usize,
    },
    /// Altered, of another place, of another file, or of a file with another number of chunks.
    #[error("seal of chunk {number} does not hold")]
    Altered { number: u64 },
}

/// Seals chunk `number` of a file of `count` chunks; `key` is used for this one file only.
///
/// The nonce is the chunk's number, so one key must never seal two contents.
pub fn seal_chunk(
    key: &Secret,
    number: u64,
    count: u64,
    plain: &[u8],
) -> Result<Bytes, ChunkError> {
    if plain.len() > FILE_CHUNK_BYTES {
        let actual = plain.len();
        return Err(ChunkError::TooLarge {
            number,
            limit: FILE_CHUNK_BYTES,
            actual,
        });
    }
    let mut out = Vec::with_capacity(plain.len() + TAG_BYTES);
    out.extend_from_slice(plain);
    let tag = XChaCha20Poly1305::new(key.expose().into())
        .encrypt_inout_detached(
            (&nonce(number)).into(),
            &associated_data(count),
            out.as_mut_slice().into(),
        )
        .expect("a chunk is far below what the cipher takes");
    out.extend_from_slice(&tag);
    Ok(out.into())
}

/// Opens chunk `number` of a file of `count` chunks.
pub fn open_chunk(
    key: &Secret,
    number: u64,
    count: u64,
    sealed: &[u8],
) -> Result<Bytes, ChunkError> {
    let (sealed, tag) = sealed
        .split_last_chunk::<TAG_BYTES>()
        .ok_or(ChunkError::Altered { number })?;
    if sealed.len() > FILE_CHUNK_BYTES {
        let actual = sealed.len();
        return Err(ChunkError::TooLarge {
            number,
            limit: FILE_CHUNK_BYTES,
            actual,
        });
    }
    let mut plain = sealed.to_vec();
    XChaCha20Poly1305::new(key.expose().into())
        .decrypt_inout_detached(
            (&nonce(number)).into(),
            &associated_data(count),
            plain.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .map_err(|_| ChunkError::Altered { number })?;
    Ok(plain.into())
}

fn nonce(number: u64) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce
}

fn associated_data(count: u64) -> [u8; 40] {
    let mut out = [0; 40];
    out[..32].copy_from_slice(&namespace::FILE.hash());
    out[32..].copy_from_slice(&count.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_opens_only_at_its_place_in_a_file_of_its_length() {
        let key = Secret::new([1; 32]);
        let sealed = seal_chunk(&key, 2, 5, &[9; FILE_CHUNK_BYTES]).unwrap();
        assert_eq!(sealed.len(), 65_552);
        assert_eq!(
            open_chunk(&key, 2, 5, &sealed).unwrap(),
            vec![9; FILE_CHUNK_BYTES]
        );
        let altered = |number| Err(ChunkError::Altered { number });
        assert_eq!(open_chunk(&key, 3, 5, &sealed), altered(3));
        assert_eq!(open_chunk(&key, 2, 6, &sealed), altered(2));
        assert_eq!(open_chunk(&Secret::new([2; 32]), 2, 5, &sealed), altered(2));
        assert_eq!(open_chunk(&key, 2, 5, &sealed[1..]), altered(2));
        assert_eq!(open_chunk(&key, 2, 5, &[]), altered(2));
    }

    #[test]
    fn chunks_above_64_kib_are_refused() {
        let key = Secret::new([1; 32]);
        let large = vec![0; FILE_CHUNK_BYTES + 1];
        assert!(matches!(
            seal_chunk(&key, 0, 1, &large),
            Err(ChunkError::TooLarge { .. })
        ));
    }
}
