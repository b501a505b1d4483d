//! The file of the index: blobs that are only ever added, and two slots that name the newest root.
//!
//! The check of every blob stands in the blob that points to it, that of the root in its slot: a
//! page that is stale, swapped or altered never passes for the one that is meant.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::crypto::{blake2b_256_keyed, namespace};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::store::cache::{Cache, MemoryBytes};
use crate::store::disk::{Disk, DiskFile, read_exact_at};
use crate::store::error::{Damage, DamageKind, Place, StoreError};
use crate::store::index::page::Page;
use crate::store::index::table::Table;
use crate::store::limits::INDEX_BLOB_BYTES_MAX;

/// Name of the index.
pub(in crate::store) const FILE: &str = "index";

/// Name of an index that is still being written for the first time.
pub(in crate::store) const NEW_FILE: &str = "index.new";

/// Bytes of a slot: one page of a disk, so that writing one cannot reach the other.
pub(in crate::store) const SLOT_BYTES: u64 = 4096;

/// Where the first blob stands.
pub(in crate::store) const FIRST_BLOB: u64 = 2 * SLOT_BYTES;

const MAGIC: [u8; 4] = *b"KLIX";
const VERSION: u8 = 2;

/// Bytes of a slot that mean something: magic, version, three zeros, store id, generation, pointer.
const SLOT_CHECKED_BYTES: usize = 4 + 4 + 16 + 8 + Pointer::BYTES;

/// Where a blob is, and the check that it must pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct Pointer {
    pub(in crate::store) offset: u64,
    pub(in crate::store) bytes: u32,
    pub(in crate::store) check: [u8; 16],
}

impl Pointer {
    const BYTES: usize = 28;

    pub(in crate::store) fn encode(&self, out: &mut Vec<u8>) {
        out.put_raw(&self.offset.to_le_bytes());
        out.put_raw(&self.bytes.to_le_bytes());
        out.put_raw(&self.check);
    }

    pub(in crate::store) fn decode(reader: &mut Reader<'_>) -> Result<Pointer, DecodeError> {
        Ok(Pointer {
            offset: reader.u64()?,
            bytes: reader.u32()?,
            check: reader.fixed()?,
        })
    }
}

/// What a slot says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct Slot {
    pub(in crate::store) store_id: [u8; 16],
    pub(in crate::store) generation: u64,
    pub(in crate::store) root: Pointer,
}

impl Slot {
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SLOT_BYTES as usize);
        out.put_raw(&MAGIC);
        out.put_raw(&[VERSION, 0, 0, 0]);
        out.put_raw(&self.store_id);
        out.put_raw(&self.generation.to_le_bytes());
        self.root.encode(&mut out);
        let check = check(&self.store_id, &out);
        out.put_raw(&check);
        out.resize(SLOT_BYTES as usize, 0);
        out
    }

    /// Reads a slot; `None` when it does not hold.
    pub(in crate::store) fn decode(bytes: &[u8]) -> Option<Slot> {
        let (checked, rest) = bytes.split_at_checked(SLOT_CHECKED_BYTES)?;
        let mut reader = Reader::new(checked.get(8..)?);
        let slot = Slot {
            store_id: reader.fixed().ok()?,
            generation: reader.u64().ok()?,
            root: Pointer::decode(&mut reader).ok()?,
        };
        let holds = checked[..4] == MAGIC
            && checked[4..8] == [VERSION, 0, 0, 0]
            && *rest.first_chunk::<16>()? == check(&slot.store_id, checked);
        holds.then_some(slot)
    }
}

/// Returns the check of a blob or slot of this store.
pub(in crate::store) fn check(store_id: &[u8; 16], bytes: &[u8]) -> [u8; 16] {
    let hash = blake2b_256_keyed(store_id, &[&namespace::INDEX_FILE.hash(), bytes]);
    std::array::from_fn(|i| hash[i])
}

/// A page or table in memory.
#[derive(Debug)]
pub(in crate::store) enum Blob {
    Page(Page),
    Table(Table),
}

impl MemoryBytes for Blob {
    fn memory_bytes(&self) -> usize {
        size_of::<Blob>()
            + match self {
                Blob::Page(page) => page.memory_bytes(),
                Blob::Table(table) => table.memory_bytes(),
            }
    }
}

/// Pages and tables of all index files of a store, by number of the file and offset.
pub(in crate::store) type BlobCache = Cache<(u32, u64), Blob>;

/// An index file open for reading.
#[derive(Debug)]
pub(in crate::store) struct IndexFile {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    store_id: [u8; 16],
    cache: Arc<BlobCache>,
    /// Tells the file from others in the cache.
    number: u32,
    damaged: AtomicBool,
    in_use: AtomicBool,
}

impl IndexFile {
    pub(in crate::store) fn new(
        disk: Arc<dyn Disk>,
        file: Arc<dyn DiskFile>,
        store_id: [u8; 16],
        cache: Arc<BlobCache>,
        number: u32,
    ) -> Self {
        IndexFile {
            disk,
            file,
            store_id,
            cache,
            number,
            damaged: AtomicBool::new(false),
            in_use: AtomicBool::new(false),
        }
    }

    /// From here on damage unlinks the file: it is what the store reads through, and no candidate.
    pub(in crate::store) fn take_into_use(&self) {
        self.in_use.store(true, Ordering::Release);
    }

    pub(in crate::store) fn disk_file(&self) -> &dyn DiskFile {
        &*self.file
    }

    pub(in crate::store) fn store_id(&self) -> &[u8; 16] {
        &self.store_id
    }

    /// Returns whether a blob did not hold: nothing more is written, the next opening makes a new
    /// index.
    pub(in crate::store) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    /// Reads and checks a blob.
    ///
    /// # Errors
    ///
    /// One that does not hold is damage at its offset of the index; the file is unlinked, so that
    /// the next opening makes it anew from the log.
    pub(in crate::store) fn read(&self, at: &Pointer) -> Result<Vec<u8>, StoreError> {
        if at.bytes as usize > INDEX_BLOB_BYTES_MAX {
            return Err(self.damage(at));
        }
        let mut bytes = vec![0; at.bytes as usize];
        match read_exact_at(&*self.file, at.offset, &mut bytes) {
            Ok(()) if check(&self.store_id, &bytes) == at.check => Ok(bytes),
            Ok(()) => Err(self.damage(at)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.damage(at)),
            Err(error) => Err(StoreError::io("read_at", FILE, error)),
        }
    }

    /// Reads and decodes a blob.
    pub(in crate::store) fn decoded<T>(
        &self,
        at: &Pointer,
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, StoreError> {
        decode(&self.read(at)?).map_err(|_| self.damage(at))
    }

    /// Returns a page, from memory if it was read before.
    pub(in crate::store) fn page(
        &self,
        number: u64,
        at: &Pointer,
    ) -> Result<Arc<Blob>, StoreError> {
        self.cache.get_or((self.number, at.offset), || {
            self.decoded(at, |bytes| Page::decode(number, bytes).map(Blob::Page))
        })
    }

    /// Returns a table, from memory if it was read before.
    pub(in crate::store) fn table(&self, at: &Pointer) -> Result<Arc<Blob>, StoreError> {
        self.cache.get_or((self.number, at.offset), || {
            self.decoded(at, |bytes| Table::decode(bytes).map(Blob::Table))
        })
    }

    /// Notes that what is at `at` does not hold.
    pub(in crate::store) fn damage(&self, at: &Pointer) -> StoreError {
        let first = !self.damaged.swap(true, Ordering::AcqRel);
        if first && self.in_use.load(Ordering::Acquire) {
            // Where this is refused, the next opening finds the same damage and says the same.
            let _ = self.disk.unlink(FILE).and_then(|()| self.disk.sync_dir());
        }
        let offset = u32::try_from(at.offset).unwrap_or(u32::MAX);
        Damage {
            place: Place {
                segment: Place::INDEX,
                offset,
            },
            what: DamageKind::IndexPage,
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_slot_is_checked() {
        let root = Pointer {
            offset: 1 << 40,
            bytes: 77,
            check: [3; 16],
        };
        let slot = Slot {
            store_id: [9; 16],
            generation: 12,
            root,
        };
        let bytes = slot.encode();
        assert_eq!(bytes.len() as u64, SLOT_BYTES);
        assert_eq!(Slot::decode(&bytes), Some(slot));
        for at in 0..SLOT_CHECKED_BYTES + 16 {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert_eq!(Slot::decode(&altered), None, "byte {at}");
        }
        assert_eq!(Slot::decode(&bytes[..60]), None);
    }
}
