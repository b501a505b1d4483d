//! A feed as the source of a bundle.

use std::ops::Range;

use bytes::Bytes;

use crate::bundle::{BundleHeader, BundleSource};
use crate::store::error::ReadError;
use crate::store::feed::Feed;
use crate::tree::{Node, NodeSource};

impl NodeSource for Feed {
    type Error = ReadError;

    fn node(&self, index: u64) -> Result<Option<Node>, ReadError> {
        Feed::node(self, index)
    }
}

impl BundleSource for Feed {
    fn block(&self, index: u64) -> Result<Option<Bytes>, ReadError> {
        self.get(index)
    }
}

impl Feed {
    /// Returns what a bundle of these blocks begins with, `None` while nothing signed is held.
    ///
    /// The feed itself is the source of the bundle's blocks; what is appended meanwhile is not part
    /// of it.
    pub fn bundle_header(&self, ranges: Vec<Range<u64>>) -> Option<BundleHeader> {
        let (manifest, signed) = (self.manifest()?, self.signed_head()?);
        Some(BundleHeader {
            feed: self.key(),
            manifest: manifest.encode().into(),
            signed,
            ranges,
        })
    }
}
