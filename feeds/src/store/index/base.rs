//! What the index file says of one feed, read page by page as it is asked for.

use std::sync::Arc;

use crate::bitfield::Bitfield;
use crate::store::error::StoreError;
use crate::store::index::file::{Blob, IndexFile, Pointer};
use crate::store::index::layer::{FoundBlock, Said};
use crate::store::index::page::Page;
use crate::store::index::table::{Spine, TABLE_PAGES, decode_have};
use crate::store::index::{NodeRef, PAGE_BLOCKS, completed_by};

/// The tables of a feed as of a checkpoint. It stays what it is while newer ones are written.
#[derive(Debug)]
pub(in crate::store) struct Base {
    pub(in crate::store) file: Arc<IndexFile>,
    /// Where the spine is.
    pub(in crate::store) at: Pointer,
    pub(in crate::store) spine: Spine,
}

impl Base {
    /// Reads the spine at `at`.
    pub(in crate::store) fn load(file: Arc<IndexFile>, at: Pointer) -> Result<Base, StoreError> {
        let spine = file.decoded(&at, Spine::decode)?;
        Ok(Base { file, at, spine })
    }

    /// Returns where a block stands.
    pub(in crate::store) fn block(&self, block: u64) -> Result<Option<FoundBlock>, StoreError> {
        self.look(block / PAGE_BLOCKS, |page| page.block(block))
    }

    /// Returns where a node stands.
    pub(in crate::store) fn node(&self, index: u64) -> Result<Option<NodeRef>, StoreError> {
        self.look(completed_by(index) / PAGE_BLOCKS, |page| page.node(index))
    }

    /// Returns the pages there are, in order.
    pub(in crate::store) fn pages(&self) -> Result<Vec<u64>, StoreError> {
        let mut pages = Vec::new();
        for (table, at) in self.spine.tables.iter() {
            let blob = self.file.table(at)?;
            if let Blob::Table(entries) = &*blob {
                pages.extend(entries.iter().map(|(page, _)| table * TABLE_PAGES + page));
            }
        }
        Ok(pages)
    }

    /// Returns the nodes that a page knows, in no order.
    pub(in crate::store) fn nodes_of(&self, page: u64) -> Result<Vec<u64>, StoreError> {
        let nodes = self.with_page(page, |content| content.nodes(page))?;
        Ok(nodes.unwrap_or_default())
    }

    /// Returns the blocks held, where they are not listed with the feed.
    pub(in crate::store) fn have(&self) -> Result<Bitfield, StoreError> {
        let mut have = Bitfield::new();
        for (chunk, at) in self.spine.have.iter() {
            self.file
                .decoded(at, |bytes| decode_have(&mut have, chunk, bytes))?;
        }
        Ok(have)
    }

    fn look<T>(
        &self,
        page: u64,
        ask: impl FnOnce(&Page) -> Said<T>,
    ) -> Result<Option<T>, StoreError> {
        Ok(match self.with_page(page, ask)? {
            Some(Said::Found(found)) => Some(found),
            _ => None,
        })
    }

    fn with_page<T>(
        &self,
        page: u64,
        use_it: impl FnOnce(&Page) -> T,
    ) -> Result<Option<T>, StoreError> {
        let Some(at) = self.spine.tables.get(page / TABLE_PAGES) else {
            return Ok(None);
        };
        let table = self.file.table(at)?;
        let Blob::Table(entries) = &*table else {
            return Err(self.file.damage(at));
        };
        let Some(at) = entries.get(page % TABLE_PAGES) else {
            return Ok(None);
        };
        let blob = self.file.page(page, at)?;
        match &*blob {
            Blob::Page(content) => Ok(Some(use_it(content))),
            Blob::Table(_) => Err(self.file.damage(at)),
        }
    }
}
