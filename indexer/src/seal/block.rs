//! Sealed blocks: `0x01 | epoch id 16 | nonce 24 | XChaCha20-Poly1305(u32 n | entry | padding)`.

use bytes::Bytes;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305};
use kinlog_feeds::crypto::{FeedKey, namespace};

use crate::limits::ENTRY_BYTES_MAX;
use crate::seal::{ContentKey, EpochId};

/// First byte of a sealed block.
pub const SEALED_BLOCK: u8 = 0x01;

const EPOCH_ID_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + EPOCH_ID_BYTES + NONCE_BYTES;
const LENGTH_BYTES: usize = 4;

/// A block that cannot be sealed or opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The entry is above 256 KiB.
    #[error("entry of {actual} bytes is above the limit of {limit}")]
    TooLarge { limit: usize, actual: usize },
    /// Not the first byte of a sealed block, or too short for one.
    #[error("not a sealed block")]
    NotSealed,
    /// Sealed in another epoch than the key's.
    #[error("sealed in epoch {actual}, the key is of epoch {expected}")]
    OtherEpoch { expected: EpochId, actual: EpochId },
    /// Altered, or made for another feed or index.
    #[error("seal of block {index} of feed {feed} does not hold")]
    Altered { feed: FeedKey, index: u64 },
    /// The writer padded it in another way than the format says.
    #[error("padding of block {index} of feed {feed} is not as the format says")]
    Padding { feed: FeedKey, index: u64 },
}

/// The head of a sealed block: which key opens it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SealedBlock {
    /// The epoch.
    pub epoch: EpochId,
}

impl SealedBlock {
    /// Reads the head of a sealed block.
    pub fn head(block: &[u8]) -> Result<Self, SealError> {
        let Some((&SEALED_BLOCK, rest)) = block.split_first() else {
            return Err(SealError::NotSealed);
        };
        if block.len() < HEAD_BYTES + LENGTH_BYTES + TAG_BYTES {
            return Err(SealError::NotSealed);
        }
        let (epoch, _) = rest.split_first_chunk().ok_or(SealError::NotSealed)?;
        Ok(SealedBlock {
            epoch: EpochId(*epoch),
        })
    }
}

/// Seals an encoded entry as block `index` of `feed`.
///
/// `nonce` is 24 fresh random bytes. The block is padded, so that its size says little.
pub fn seal_entry(
    key: &ContentKey,
    feed: &FeedKey,
    index: u64,
    nonce: &[u8; NONCE_BYTES],
    entry: &[u8],
) -> Result<Bytes, SealError> {
    let count = u32::try_from(entry.len()).unwrap_or(u32::MAX);
    if entry.len() > ENTRY_BYTES_MAX {
        return Err(SealError::TooLarge {
            limit: ENTRY_BYTES_MAX,
            actual: entry.len(),
        });
    }
    let epoch = key.epoch_id();
    let padded = padme(LENGTH_BYTES + entry.len());
    let mut block = Vec::with_capacity(HEAD_BYTES + padded + TAG_BYTES);
    block.push(SEALED_BLOCK);
    block.extend_from_slice(&epoch.0);
    block.extend_from_slice(nonce);
    block.extend_from_slice(&count.to_le_bytes());
    block.extend_from_slice(entry);
    block.resize(HEAD_BYTES + padded, 0);
    let tag = cipher(key)
        .encrypt_inout_detached(
            nonce.into(),
            &associated_data(feed, index, &epoch),
            (&mut block[HEAD_BYTES..]).into(),
        )
        .expect("an entry is far below what the cipher takes");
    block.extend_from_slice(&tag);
    Ok(block.into())
}

/// Opens block `index` of `feed` and returns the encoded entry.
pub fn open_entry(
    key: &ContentKey,
    feed: &FeedKey,
    index: u64,
    block: &[u8],
) -> Result<Bytes, SealError> {
    open_with_id(key, key.epoch_id(), feed, index, block)
}

/// As [`open_entry`], with the epoch id of `key` at hand: spares a hash a block.
pub(crate) fn open_with_id(
    key: &ContentKey,
    expected: EpochId,
    feed: &FeedKey,
    index: u64,
    block: &[u8],
) -> Result<Bytes, SealError> {
    let SealedBlock { epoch } = SealedBlock::head(block)?;
    if epoch != expected {
        return Err(SealError::OtherEpoch {
            expected,
            actual: epoch,
        });
    }
    let (nonce, sealed) = block[1 + EPOCH_ID_BYTES..]
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(SealError::NotSealed)?;
    let (sealed, tag) = sealed
        .split_last_chunk::<TAG_BYTES>()
        .ok_or(SealError::NotSealed)?;
    if sealed.len() > padme(LENGTH_BYTES + ENTRY_BYTES_MAX) {
        return Err(SealError::TooLarge {
            limit: ENTRY_BYTES_MAX,
            actual: sealed.len(),
        });
    }
    let mut plain = sealed.to_vec();
    cipher(key)
        .decrypt_inout_detached(
            nonce.into(),
            &associated_data(feed, index, &epoch),
            plain.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .map_err(|_| SealError::Altered { feed: *feed, index })?;
    let padding = SealError::Padding { feed: *feed, index };
    let (count, rest) = plain.split_first_chunk::<LENGTH_BYTES>().ok_or(padding)?;
    let count = u32::from_le_bytes(*count) as usize;
    let (_, zeros) = rest.split_at_checked(count).ok_or(padding)?;
    if padme(LENGTH_BYTES + count) != plain.len() || zeros.iter().any(|byte| *byte != 0) {
        return Err(padding);
    }
    Ok(Bytes::from(plain).slice(LENGTH_BYTES..LENGTH_BYTES + count))
}

fn cipher(key: &ContentKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.secret().expose().into())
}

fn associated_data(feed: &FeedKey, index: u64, epoch: &EpochId) -> [u8; 32 + 32 + 8 + 16] {
    let mut out = [0; 88];
    out[..32].copy_from_slice(&seal_namespace());
    out[32..64].copy_from_slice(feed.as_bytes());
    out[64..72].copy_from_slice(&index.to_le_bytes());
    out[72..].copy_from_slice(&epoch.0);
    out
}

/// The namespace of the associated data, hashed once.
fn seal_namespace() -> [u8; 32] {
    static HASH: std::sync::OnceLock<[u8; 32]> = std::sync::OnceLock::new();
    *HASH.get_or_init(|| namespace::SEAL.hash())
}

/// Returns the padded length of `length >= 2` bytes: Padme ("Reducing Metadata Leakage from
/// Encrypted Files and Communication with PURBs", 2019), at most 12 % more.
fn padme(length: usize) -> usize {
    let exponent = length.ilog2();
    let mantissa_bits = exponent.ilog2() + 1;
    let mask = (1usize << (exponent - mantissa_bits.min(exponent))) - 1;
    (length + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::EpochSecret;
    use proptest::prelude::*;

    fn key() -> ContentKey {
        EpochSecret::new([7; 32]).content_key()
    }

    #[test]
    fn padme_gives_the_lengths_of_its_paper() {
        for (length, padded) in [
            (4, 4),
            (5, 5),
            (9, 10),
            (100, 104),
            (1000, 1024),
            (262_148, 270_336),
        ] {
            assert_eq!(padme(length), padded, "{length}");
        }
    }

    #[test]
    fn a_block_opens_only_at_its_own_feed_and_index() {
        let feed = FeedKey([1; 32]);
        let block = seal_entry(&key(), &feed, 5, &[3; 24], b"entry").unwrap();
        assert_eq!(open_entry(&key(), &feed, 5, &block).unwrap(), "entry");
        assert!(matches!(
            open_entry(&key(), &feed, 6, &block),
            Err(SealError::Altered { .. })
        ));
        let other = FeedKey([2; 32]);
        assert!(matches!(
            open_entry(&key(), &other, 5, &block),
            Err(SealError::Altered { .. })
        ));
        let other = EpochSecret::new([8; 32]).content_key();
        assert!(matches!(
            open_entry(&other, &feed, 5, &block),
            Err(SealError::OtherEpoch { .. })
        ));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let feed = FeedKey([1; 32]);
        let block = seal_entry(&key(), &feed, 5, &[3; 24], b"entry").unwrap();
        for at in 0..block.len() {
            let mut damaged = block.to_vec();
            damaged[at] ^= 0x40;
            assert!(open_entry(&key(), &feed, 5, &damaged).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn padme_adds_at_most_twelve_percent(length in 4usize..300_000) {
            let padded = padme(length);
            prop_assert!(padded >= length && padded * 100 <= length * 112);
            prop_assert_eq!(padme(padded), padded);
        }

        #[test]
        fn entries_round_trip(entry in proptest::collection::vec(any::<u8>(), 0..3000), index: u64) {
            let feed = FeedKey([1; 32]);
            let block = seal_entry(&key(), &feed, index, &[3; 24], &entry).unwrap();
            prop_assert_eq!(open_entry(&key(), &feed, index, &block).unwrap(), entry);
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut block in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = block.first_mut() { *first = SEALED_BLOCK; }
            prop_assert!(open_entry(&key(), &FeedKey([1; 32]), 0, &block).is_err());
        }
    }
}
