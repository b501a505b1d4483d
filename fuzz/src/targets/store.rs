//! What stands on the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinlog_feeds::store::{MemoryDisk, ReadError, RepairError, Store, repair as repair_store};

use crate::targets::golden::{LENGTH, assert_part, block, golden, options};

const SEGMENT: &str = "log-00000000";

fn written_log() -> Vec<u8> {
    let mut log = golden().disk.to_files()[SEGMENT].clone();
    let end = log.iter().rposition(|byte| *byte != 0).unwrap();
    log.truncate(end + 1);
    log
}

/// Places of the records in the log.
fn records(log: &[u8]) -> Vec<usize> {
    let four = log.windows(4).enumerate();
    four.filter(|(_, four)| *four == b"KLRC")
        .map(|(at, _)| at)
        .collect()
}

pub(super) fn record_header_seeds() -> Vec<Vec<u8>> {
    let log = written_log();
    let starts = records(&log).into_iter();
    starts.map(|at| log[at..at + 36].to_vec()).collect()
}

pub(super) fn record_body_seeds() -> Vec<Vec<u8>> {
    let log = written_log();
    let field = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap());
    let mut seeds: Vec<Vec<u8>> = records(&log)
        .into_iter()
        .map(|at| {
            let end = at + field(at + 8) as usize - 16;
            let mut seed = vec![log[at + 5]];
            seed.extend_from_slice(&log[at + 12..at + 16]);
            seed.extend_from_slice(&log[at + 36..end]);
            seed
        })
        .collect();
    // Kinds that the golden log has none of: cleared, dropped, checkpoint.
    seeds.push([&[4, 0, 0, 0, 0], &[2, 1, 3, 9, 1][..]].concat());
    seeds.push(vec![7, 0, 0, 0, 0]);
    seeds.push([&[8, 0, 0, 0, 0], &[1; 16][..]].concat());
    seeds
}

pub(super) fn segment_header_seeds() -> Vec<Vec<u8>> {
    Vec::from([written_log()[..64].to_vec()])
}

pub(super) fn log_seeds() -> Vec<Vec<u8>> {
    Vec::from([written_log()])
}

pub(super) fn index_seeds() -> Vec<Vec<u8>> {
    let disk = MemoryDisk::from_files(golden().disk.to_files());
    let store = Store::open(Arc::new(disk.clone()), options()).unwrap();
    store.close().unwrap();
    Vec::from([disk.to_files()["index"].clone()])
}

fn disk(log: Vec<u8>, index: Option<Vec<u8>>) -> MemoryDisk {
    let mut files = BTreeMap::from([(SEGMENT.to_owned(), log)]);
    files.extend(index.map(|index| ("index".to_owned(), index)));
    MemoryDisk::from_files(files)
}

/// Opens a store; what can be read of it is what was written.
fn open(disk: MemoryDisk) -> bool {
    let Ok(store) = Store::open(Arc::new(disk), options()) else {
        return false;
    };
    for feed in store.feeds() {
        if feed.key() != golden().feed.key() {
            continue;
        }
        for index in 0..feed.head().length.min(2 * LENGTH) {
            match feed.get(index) {
                Ok(Some(value)) => assert_eq!(value, block(index)),
                Ok(None) | Err(ReadError::Damaged { .. }) => {}
                Err(error) => panic!("block {index}: {error}"),
            }
        }
    }
    true
}

/// A store whose log is these bytes.
pub(super) fn log(bytes: &[u8]) -> bool {
    open(disk(bytes.to_vec(), None))
}

/// The golden log, closed, with these bytes as its index: slots, root, directory, tables and pages.
pub(super) fn index(bytes: &[u8]) -> bool {
    static CLOSED: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let log = CLOSED.get_or_init(|| {
        let disk = MemoryDisk::from_files(golden().disk.to_files());
        let store = Store::open(Arc::new(disk.clone()), options()).unwrap();
        store.close().unwrap();
        disk.to_files()[SEGMENT].clone()
    });
    open(disk(log.clone(), Some(bytes.to_vec())))
}

/// Repairs a store whose log is these bytes; what comes out opens and holds nothing new.
pub(super) fn repair(bytes: &[u8]) -> bool {
    let into = MemoryDisk::new();
    let from = Arc::new(disk(bytes.to_vec(), None));
    match repair_store(from, Arc::new(into.clone()), options()) {
        Ok(report) => {
            let store = Store::open(Arc::new(into), options()).unwrap();
            store.feeds().iter().for_each(assert_part);
            !report.feeds.is_empty()
        }
        Err(RepairError::NoStore) => false,
        Err(error) => panic!("{error}"),
    }
}
