//! Sectors that are lost, pages that were written elsewhere or not at all.

use std::collections::BTreeSet;

use kinlog_feeds::store::Disk as _;
use testkit::disk::{CrashDisk, CrashPolicy, Cuts};

use crate::alterations::{KILLED_BYTES, LOG_BYTES, altered};
use crate::oracle::{Allowed, Content};
use crate::stores::{Stop, written};

const PAGE_BYTES: usize = 4096;

/// The store of each kind, and what may be seen of it when pages of it are older than they should
/// be: without an index that vouches for it, a log that ends early is a shorter log.
fn stores() -> [(CrashDisk, Stop, Allowed); 2] {
    [
        (written(LOG_BYTES, Stop::Clean), Stop::Clean, Allowed::Told),
        (
            written(KILLED_BYTES, Stop::Killed),
            Stop::Killed,
            Allowed::Shorter,
        ),
    ]
}

/// The pages of all files: name, offset, bytes.
fn pages(disk: &CrashDisk, bytes: usize) -> Vec<(String, usize, Vec<u8>)> {
    let mut pages = Vec::new();
    for (name, file) in disk.to_files() {
        for (number, page) in file.chunks(bytes).enumerate() {
            pages.push((name.clone(), number * bytes, page.to_vec()));
        }
    }
    pages
}

#[test]
fn a_zeroed_sector_is_an_error_or_the_same_content() {
    for (disk, stop, allowed) in stores() {
        let content = Content::of(&disk);
        let mut erred = 0;
        for sector in [512, PAGE_BYTES] {
            for (name, at, page) in pages(&disk, sector) {
                let copy = altered(&disk, &name, at, &vec![0; page.len()]);
                let what = format!("{stop:?}, {sector} bytes of {name} at {at} zeroed");
                erred += usize::from(content.check(&copy, allowed, &what));
            }
        }
        assert!(erred > 0);
    }
}

#[test]
fn two_swapped_pages_are_an_error_or_the_same_content() {
    for (disk, stop, allowed) in stores() {
        let content = Content::of(&disk);
        let pages = pages(&disk, PAGE_BYTES);
        let mut swaps = 0;
        for (number, (name, at, page)) in pages.iter().enumerate() {
            for (other_name, other_at, other) in &pages[..number] {
                if page.len() != other.len() {
                    continue;
                }
                let copy = altered(&disk, name, *at, other);
                let file = copy.open(other_name, false).unwrap();
                file.write_at(*other_at as u64, page).unwrap();
                let what = format!("{stop:?}, {name} at {at} and {other_name} at {other_at}");
                content.check(&copy, allowed, &what);
                swaps += 1;
            }
        }
        println!("{swaps} swaps, {stop:?}");
        assert!(swaps > 20, "{swaps}");
    }
}

/// A read or a write that went to another place: each page also stands where another should.
#[test]
fn a_page_that_stands_in_anothers_place_is_an_error_or_the_same_content() {
    for (disk, stop, allowed) in stores() {
        let content = Content::of(&disk);
        let pages = pages(&disk, PAGE_BYTES);
        for (name, at, page) in &pages {
            for (other_name, other_at, other) in &pages {
                if page.len() == other.len() && page != other {
                    let copy = altered(&disk, name, *at, other);
                    let what = format!("{stop:?}, {other_name} at {other_at} in {name} at {at}");
                    content.check(&copy, allowed, &what);
                }
            }
        }
    }
}

#[test]
fn an_older_version_of_any_page_is_an_error_or_the_same_content() {
    for (disk, stop, allowed) in stores() {
        let content = Content::of(&disk);
        let now = disk.to_files();
        let mut tried = BTreeSet::new();
        let mut cuts = Cuts::new(&disk);
        while cuts.advance() {
            for (name, at, page) in pages(&cuts.image(CrashPolicy::KeepPending, 0), PAGE_BYTES) {
                let Some(current) = now.get(&name).and_then(|file| file.get(at..)) else {
                    continue;
                };
                let newer = &current[..current.len().min(PAGE_BYTES)];
                let older: Vec<u8> = (0..newer.len())
                    .map(|at| page.get(at).copied().unwrap_or(0))
                    .collect();
                if older == newer || !tried.insert((name.clone(), at, older.clone())) {
                    continue;
                }
                let copy = altered(&disk, &name, at, &older);
                let what = format!(
                    "{stop:?}, {name} at {at} as of operation {}",
                    cuts.position()
                );
                content.check(&copy, allowed, &what);
            }
        }
        println!("{} older pages, {stop:?}", tried.len());
        assert!(tried.len() > 20, "{}", tried.len());
    }
}
