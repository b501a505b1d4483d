//! Bundles.

use std::io::Cursor;
use std::sync::Arc;

use kinlog_feeds::bundle::BundleReader;
use kinlog_feeds::store::{Kind, MemoryDisk, Store};

use crate::targets::golden::{assert_part, block, golden, options};

/// Reads a bundle: every block given out is the author's.
pub(super) fn read(bytes: &[u8]) -> bool {
    let Ok(mut reader) = BundleReader::new(bytes) else {
        return false;
    };
    let is_golden = reader.header().feed == golden().feed.key();
    loop {
        match reader.next_run() {
            Ok(Some(run)) => {
                for (index, value) in run.range().zip(&run.blocks) {
                    assert!(!is_golden || *value == block(index), "block {index}");
                }
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Takes a bundle into an empty store.
pub(super) fn import(bytes: &[u8]) -> bool {
    let store = Store::open(Arc::new(MemoryDisk::new()), options()).unwrap();
    let imported = store.import_bundle(&mut Cursor::new(bytes), Kind::Plain, &mut |_| true);
    store.feeds().iter().for_each(assert_part);
    assert!(
        imported.is_ok() || store.feeds().is_empty(),
        "all or nothing"
    );
    imported.is_ok()
}
