//! Every byte and every length.

use kinlog_feeds::store::{Disk as _, Mistake, Options};
use testkit::disk::CrashDisk;
use testkit::random::{Random, seed};
use testkit::soak;

use crate::oracle::{Allowed, Content};
use crate::stores::{Stop, options, written};

/// Parts of the exhaustive sweeps, run beside each other.
const PARTS: usize = 4;

/// Bytes of log of the store whose every byte is altered; with its index it has about 64 KiB.
pub(crate) const LOG_BYTES: u64 = 60 * 1024;

/// Bytes of log of the store that was not closed.
pub(crate) const KILLED_BYTES: u64 = 30 * 1024;

/// Returns a copy of a disk in which bytes of a file are replaced.
pub(crate) fn altered(disk: &CrashDisk, name: &str, at: usize, bytes: &[u8]) -> CrashDisk {
    let copy = disk.fork();
    let file = copy.open(name, false).unwrap();
    file.write_at(at as u64, bytes).unwrap();
    copy
}

fn flip_every_byte(bytes: u64, stop: Stop, part: usize) {
    flip(bytes, stop, part, options());
}

/// Flips a bit of every byte of a part, and opens the store like this.
fn flip(bytes: u64, stop: Stop, part: usize, options: Options) {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let disk = written(bytes, stop);
    let content = Content::with(&disk, options);
    let mut random = Random::new(seed);
    let (mut flips, mut erred) = (0, 0);
    for (name, file) in disk.to_files() {
        for at in (part..file.len()).step_by(PARTS) {
            let bits = soak::choose(1 << random.below(8), 0xff_u8);
            for bit in (0..8).map(|bit| 1 << bit).filter(|bit| bits & bit != 0) {
                let copy = altered(&disk, &name, at, &[file[at] ^ bit]);
                let what = format!("{stop:?}, {name} byte {at} bit {bit}, seed {seed}");
                erred += usize::from(content.check(&copy, Allowed::Told, &what));
                flips += 1;
            }
        }
    }
    println!("{flips} flips of a store of {bytes} bytes, {stop:?}: {erred} typed errors");
    assert!(flips * PARTS >= bytes as usize && erred > 0);
}

fn cut_every_length(bytes: u64, stop: Stop, part: usize) {
    let disk = written(bytes, stop);
    let content = Content::of(&disk);
    let mut cuts = 0;
    for (name, file) in disk.to_files() {
        for length in (part..file.len()).step_by(PARTS) {
            let copy = disk.fork();
            let file = copy.open(&name, false).unwrap();
            file.set_len(length as u64).unwrap();
            let what = format!("{stop:?}, {name} cut to {length}");
            // With an index that vouches for the log, a shorter log is not taken for a whole one.
            let allowed = match (stop, name.starts_with("log-")) {
                (Stop::Clean, true) => Allowed::Told,
                _ => Allowed::Shorter,
            };
            content.check(&copy, allowed, &what);
            cuts += 1;
        }
    }
    println!("{cuts} lengths of a store of {bytes} bytes, {stop:?}");
}

macro_rules! in_parts {
    ($($name:ident: $part:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn a_flip_of_any_byte_is_an_error_or_the_same_content() {
                flip_every_byte(LOG_BYTES, Stop::Clean, $part);
            }

            #[test]
            fn a_flip_of_any_byte_after_a_kill_is_told() {
                flip_every_byte(KILLED_BYTES, Stop::Killed, $part);
            }

            #[test]
            fn a_cut_at_any_length_is_an_error_or_the_same_content() {
                cut_every_length(LOG_BYTES, Stop::Clean, $part);
            }

            #[test]
            fn a_cut_at_any_length_after_a_kill_shows_no_other_bytes() {
                cut_every_length(KILLED_BYTES, Stop::Killed, $part);
            }
        }
    )*};
}

in_parts! {
    part_0: 0;
    part_1: 1;
    part_2: 2;
    part_3: 3;
}

#[test]
fn a_store_that_verifies_nothing_is_noticed() {
    let noticed = std::panic::catch_unwind(|| {
        let mistaken = options().mistaken(Mistake::SkipVerification);
        flip(KILLED_BYTES, Stop::Clean, 0, mistaken);
    });
    assert!(noticed.is_err(), "nobody noticed");
}
