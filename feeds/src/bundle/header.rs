//! What a bundle begins with: whose feed it is, the signed head, which blocks follow.

use std::ops::Range;

use bytes::Bytes;

use crate::bundle::error::{BundleError, HeaderFault};
use crate::crypto::{FeedKey, Hash};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::limits::{BUNDLE_RANGES_MAX, FEED_LENGTH_MAX, MANIFEST_BYTES_MAX, SIGNATURE_BYTES_MAX};
use crate::manifest::{Manifest, Verifier};
use crate::tree::{Head, Node, SignedHead, root_indexes};

/// First bytes of a bundle.
pub(super) const MAGIC: [u8; 4] = *b"KLBN";

/// Format of this build.
pub(super) const VERSION: u8 = 1;

/// Magic, version, three zeros, size of the header.
pub(super) const PREAMBLE_BYTES: usize = 12;

/// Whose feed a bundle is of, how far it goes, which blocks it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BundleHeader {
    /// The feed.
    pub feed: FeedKey,
    /// Who may sign it, encoded.
    pub manifest: Bytes,
    /// The head with its signature.
    pub signed: SignedHead,
    /// The blocks that follow: ascending, none empty, no two touching.
    pub ranges: Vec<Range<u64>>,
}

impl BundleHeader {
    /// Returns how many blocks follow.
    pub fn blocks(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// Returns whether every block up to the head follows.
    pub fn is_whole(&self) -> bool {
        matches!(self.ranges.as_slice(), [all] if *all == (0..self.signed.head.length))
    }

    /// Returns the first range that is empty, touches the one before, or passes the head.
    pub(super) fn wrong_range(&self) -> Option<&Range<u64>> {
        let mut free_from = 0;
        self.ranges.iter().find(|range| {
            let fits = range.start >= free_from
                && range.start < range.end
                && range.end <= self.signed.head.length;
            free_from = range.end.saturating_add(1);
            !fits
        })
    }

    /// Writes everything behind the preamble.
    pub(super) fn encode(&self) -> Vec<u8> {
        let head = &self.signed.head;
        let mut out = Vec::with_capacity(4096);
        out.put_raw(&self.feed.0);
        out.put_buffer(&self.manifest);
        out.put_uint(head.fork);
        out.put_uint(head.length);
        for root in &head.roots {
            out.put_uint(root.size);
            out.put_raw(&root.hash.0);
        }
        out.put_buffer(&self.signed.signature);
        out.put_uint(self.ranges.len() as u64);
        let mut end = 0;
        for range in &self.ranges {
            out.put_uint(range.start - end);
            out.put_uint(range.end - range.start);
            end = range.end;
        }
        out
    }

    /// Reads everything behind the preamble; the signature is not checked yet.
    pub(super) fn decode(bytes: &[u8]) -> Result<BundleHeader, HeaderFault> {
        let mut reader = Reader::new(bytes);
        let feed = FeedKey(reader.fixed()?);
        let manifest = reader.buffer("manifest", MANIFEST_BYTES_MAX)?;
        let fork = reader.uint()?;
        let length = reader.uint()?;
        if length == 0 || length > FEED_LENGTH_MAX {
            return Err(HeaderFault::Head);
        }
        let roots = root_indexes(length)
            .into_iter()
            .map(|index| {
                Ok(Node {
                    index,
                    size: reader.uint()?,
                    hash: Hash(reader.fixed()?),
                })
            })
            .collect::<Result<Vec<Node>, DecodeError>>()?;
        let signature = reader.buffer("signature", SIGNATURE_BYTES_MAX)?;
        let count = reader.uint_max("ranges", BUNDLE_RANGES_MAX)?;
        let mut ranges = Vec::with_capacity(count.min(reader.rest().len() / 2));
        let mut end = 0u64;
        for _ in 0..count {
            // Both are below 2^53 each, and `end` stays below 2^52 or the check below refuses it.
            let start = end + reader.uint()?;
            end = start + reader.uint()?;
            if end > length {
                return Err(HeaderFault::Range { start });
            }
            ranges.push(start..end);
        }
        reader.finish()?;
        let head = Head::from_roots(fork, roots).ok_or(HeaderFault::Head)?;
        let tree_hash = head.tree_hash();
        let header = BundleHeader {
            feed,
            manifest: Bytes::copy_from_slice(manifest),
            signed: SignedHead {
                head,
                tree_hash,
                signature: Bytes::copy_from_slice(signature),
            },
            ranges,
        };
        if let Some(wrong) = header.wrong_range() {
            return Err(HeaderFault::Range { start: wrong.start });
        }
        if header.encode() != bytes {
            return Err(HeaderFault::NotCanonical);
        }
        Ok(header)
    }

    /// Checks that the key commits to the manifest, and that its signers signed the head.
    pub(super) fn verify(&self) -> Result<(), BundleError> {
        let feed = self.feed;
        let manifest = Manifest::decode(&self.manifest).map_err(|fault| BundleError::Header {
            reason: fault.into(),
        })?;
        if *manifest.encode() != *self.manifest {
            return Err(BundleError::Header {
                reason: HeaderFault::NotCanonical,
            });
        }
        let verifier = Verifier::new(feed, &manifest)
            .map_err(|source| BundleError::Manifest { feed, source })?;
        let length = self.signed.head.length;
        verifier
            .verify_head(&self.signed.head, &self.signed.signature)
            .map_err(|_| BundleError::Signature { feed, length })
    }
}
