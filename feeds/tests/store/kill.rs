//! A process that is killed in the middle of writing, on a real disk, again and again.
//!
//! What this shows: that the process does things in the right order, and that what it acknowledged
//! was handed to the system by then. What it does not show: that anything was on the disk. The
//! page cache survives a killed process, so a store that never synced would pass here; the power
//! cuts of `crash` are what tells.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kinlog_feeds::store::{FileDisk, Options, Store};
use testkit::process::{Folder, Running};
use testkit::random::{Random, seed};
use testkit::soak;

use crate::support::*;

/// Where the writing process finds its store.
const FOLDER: &str = "KINLOG_TEST_FOLDER";

/// The process is killed at most this long after its store is open.
const KILLED_AFTER_MAX: Duration = Duration::from_millis(60);

fn open_folder(folder: &Path) -> Store {
    let disk = FileDisk::new(folder).unwrap();
    let options = Options::new([3; 16])
        .segments(256 * 1024, 32 * 1024)
        .checkpoint_every(64 * 1024);
    Store::open(Arc::new(disk), options).unwrap()
}

/// Says on stdout what is acknowledged, so that it is out before the next operation.
fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{words}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Run by the test below in a process of its own.
#[test]
#[ignore = "the process that a_killed_process_loses_nothing_that_it_acknowledged kills"]
fn writes_until_killed() {
    let store = open_folder(std::env::var_os(FOLDER).unwrap().as_ref());
    let feed = own_feed(&store, &writer());
    say("open");
    loop {
        let start = feed.head().length;
        let count = 1 + start % 3;
        let appended = feed.append_batch(&writer(), &blocks(start..start + count));
        say(&format!("length {}", appended.unwrap().length));
        if start.is_multiple_of(10) {
            feed.clear(start / 2..start / 2 + 1).unwrap();
            say(&format!("cleared {}", start / 2));
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let kills = soak::choose(100, 10_000);
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let mut random = Random::new(seed);
    let mut folder = Folder::new("kill");
    let (mut acknowledged, mut cleared) = (0, Vec::new());
    for kill in 0..kills {
        if kill % 100 == 0 {
            folder = Folder::new("kill");
            (acknowledged, cleared) = (0, Vec::new());
        }
        let mut process = Running::start(
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "kill::writes_until_killed",
                    "--ignored",
                    "--nocapture",
                ])
                .env(FOLDER, folder.path()),
        );
        process.read_until("open\n");
        process.run_for(KILLED_AFTER_MAX.mul_f64(random.below(1000) as f64 / 1000.0));
        process.kill_now();
        while let Some(line) = process.line() {
            if let Some(length) = line.strip_prefix("length ") {
                acknowledged = length.trim().parse().unwrap_or(acknowledged);
            } else if let Some(block) = line.strip_prefix("cleared ") {
                cleared.extend(block.trim().parse::<u64>());
            }
        }
        let what = format!("kill {kill}, seed {seed}");
        let store = open_folder(folder.path());
        let feed = own_feed(&store, &writer());
        let length = feed.head().length;
        assert!(length >= acknowledged, "{what}: {length} of {acknowledged}");
        let mut held = 0;
        for index in 0..length {
            match feed.get(index).unwrap() {
                Some(value) => {
                    assert_eq!(value, block(index), "{what}: block {index}");
                    assert!(!cleared.contains(&index), "{what}: block {index} came back");
                    held += 1;
                }
                // One more may have been cleared than was said.
                None => assert!(index <= length / 2, "{what}: block {index}"),
            }
        }
        assert!(held >= length * 8 / 10, "{what}: {held} of {length} held");
        if kill % 10 == 0 {
            assert_eq!(feed.verify().unwrap().problems, vec![], "{what}");
        }
    }
    assert!(acknowledged > 100, "it did write: {acknowledged}");
}
