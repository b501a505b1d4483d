//! Lengths, offsets and counts that say something else, with checks that fail and with checks that
//! hold.

use kinlog_feeds::crypto::{blake2b_256_keyed, namespace};
use testkit::disk::CrashDisk;

use crate::alterations::{KILLED_BYTES, LOG_BYTES, altered};
use crate::oracle::{Allowed, Content};
use crate::stores::{Stop, written};

/// Header of a record and the check behind its head part, in bytes.
const HEADER_BYTES: usize = 36;
const CHECK_BYTES: usize = 16;

/// Values that overflow something, in four and in eight bytes.
fn values() -> impl Iterator<Item = Vec<u8>> {
    let four = [0, 1, i32::MAX as u32, u32::MAX].map(|value| value.to_le_bytes().to_vec());
    let eight = [0, 1, i32::MAX as u64, u32::MAX.into(), i64::MAX as u64]
        .map(|value| value.to_le_bytes().to_vec());
    four.into_iter().chain(eight)
}

/// The head parts of all records: file, offset, bytes.
fn head_parts(disk: &CrashDisk) -> Vec<(String, usize, Vec<u8>)> {
    let mut found = Vec::new();
    for (name, file) in disk.to_files() {
        if !name.starts_with("log-") {
            continue;
        }
        let mut at = 64;
        while file.get(at..).is_some_and(|rest| rest.starts_with(b"KLRC")) {
            let number = |from: usize| {
                let bytes = file[at + from..at + from + 4].try_into().unwrap();
                u32::from_le_bytes(bytes) as usize
            };
            let (head, payload) = (number(8), number(12));
            found.push((name.clone(), at, file[at..at + head].to_vec()));
            at += head + payload;
        }
    }
    assert!(found.len() > 20, "{} records", found.len());
    found
}

/// Makes the check of a head part hold again, as `docs/storage.md` gives it.
fn seal(head: &mut [u8], name: &str, at: usize, store_id: &[u8]) {
    let segment: u64 = name.strip_prefix("log-").unwrap().parse().unwrap();
    let (checked, check) = head.split_at_mut(head.len() - CHECK_BYTES);
    let hash = blake2b_256_keyed(
        store_id,
        &[
            &namespace::RECORD.hash(),
            &segment.to_le_bytes(),
            &(at as u64).to_le_bytes(),
            checked,
        ],
    );
    check.copy_from_slice(&hash[..CHECK_BYTES]);
}

#[test]
fn numbers_of_headers_are_an_error_or_the_same_content() {
    for (bytes, stop) in [(LOG_BYTES, Stop::Clean), (KILLED_BYTES, Stop::Killed)] {
        let disk = written(bytes, stop);
        let content = Content::of(&disk);
        for (name, at, _) in head_parts(&disk) {
            for field in (0..HEADER_BYTES).step_by(4) {
                for value in values() {
                    let copy = altered(&disk, &name, at + field, &value);
                    let what = format!("{stop:?}, {name} at {at}, field {field}: {value:?}");
                    content.check(&copy, Allowed::Told, &what);
                }
            }
        }
        for name in disk
            .to_files()
            .keys()
            .filter(|name| name.starts_with("log-"))
        {
            for field in (0..64).step_by(4) {
                for value in values() {
                    let copy = altered(&disk, name, field, &value);
                    let what = format!("{stop:?}, header of {name}, field {field}: {value:?}");
                    content.check(&copy, Allowed::Told, &what);
                }
            }
        }
    }
}

#[test]
fn numbers_of_the_index_are_an_error_or_the_same_content() {
    let disk = written(LOG_BYTES, Stop::Clean);
    let content = Content::of(&disk);
    let index = &disk.to_files()["index"];
    for field in (0..index.len() - 8).step_by(4) {
        for value in values() {
            let copy = altered(&disk, "index", field, &value);
            let what = format!("index at {field}: {value:?}");
            content.check(&copy, Allowed::Told, &what);
        }
    }
}

/// Whoever writes the files can make every check hold; even then nothing is read that no leaf hash
/// vouches for, nothing panics, and no length is believed.
#[test]
fn forged_numbers_of_records_show_no_other_bytes() {
    let disk = written(KILLED_BYTES, Stop::Killed);
    let content = Content::of(&disk);
    let mut erred = 0;
    for (name, at, head) in head_parts(&disk) {
        let store_id = disk.to_files()[&name][16..32].to_vec();
        let mut same = head.clone();
        seal(&mut same, &name, at, &store_id);
        assert_eq!(same, head, "sealed as the store does");
        for field in (0..head.len() - CHECK_BYTES - 8).step_by(4) {
            for value in values() {
                let mut forged = head.clone();
                forged[field..field + value.len()].copy_from_slice(&value);
                seal(&mut forged, &name, at, &store_id);
                let copy = altered(&disk, &name, at, &forged);
                let what = format!("{name} at {at}, forged field {field}: {value:?}");
                erred += usize::from(content.check(&copy, Allowed::Forged, &what));
            }
        }
    }
    assert!(erred > 100, "forging is noticed: {erred}");
}
