//! The index is cattle: killed in the middle or altered on the disk, it is noticed and made anew,
//! and says the same as before.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod world;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kinlog_feeds::crypto::Hash;
use kinlog_indexer::Index;
use testkit::process::{Folder, Running};
use testkit::random::{Random, seed};
use testkit::soak;
use world::{World, busy_world};

const STEPS: usize = 120;
const FOLDER: &str = "KINLOG_TEST_FOLDER";

/// Flips after which the index is made anew and compared: one in so many.
const MADE_ANEW_EVERY: u64 = 50;

/// The process is killed at most this long after its index is open.
const KILLED_AFTER_MAX: Duration = Duration::from_millis(60);

fn the_world() -> World {
    busy_world(5, STEPS)
}

/// Run by the test below in a process of its own.
#[test]
#[ignore = "the process that a_killed_index_goes_on_where_it_was kills"]
fn indexes_until_killed() {
    let mut world = the_world();
    let path = Path::new(&std::env::var_os(FOLDER).unwrap()).join("index.db");
    let mut index = Index::open(&path).unwrap();
    world.tell(&mut index);
    std::io::stdout().write_all(b"open\n").unwrap();
    std::io::stdout().flush().unwrap();
    loop {
        for chunk in world.blocks().chunks(3) {
            index.ingest(chunk).unwrap();
        }
        index.rebuild(&mut world).unwrap();
    }
}

#[test]
fn a_killed_index_goes_on_where_it_was() {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let mut random = Random::new(seed);
    let folder = Folder::new("index-kill");
    let path = folder.join("index.db");
    let mut world = the_world();
    let expected = world.indexed().dump_hash().unwrap();
    let mut missing = 0;
    for kill in 0..soak::choose(100, 10_000) {
        let mut process = Running::start(
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "indexes_until_killed",
                    "--ignored",
                    "--nocapture",
                ])
                .env(FOLDER, folder.path()),
        );
        process.read_until("open\n");
        process.run_for(KILLED_AFTER_MAX.mul_f64(random.below(1000) as f64 / 1000.0));
        process.kill_now();
        // Rows and checkpoint are one: what is missing is all that is read again.
        let mut index = Index::open(&path).unwrap();
        world.tell(&mut index);
        missing += index.catch_up(&mut world).unwrap().blocks;
        let found = index.dump_hash().unwrap();
        assert_eq!(found, expected, "kill {kill}, seed {seed}");
        if kill % 4 == 0 {
            drop(index);
            std::fs::remove_file(&path).unwrap();
        }
    }
    println!("{missing} blocks were read again");
    assert!(missing > 0, "it was killed in the middle");
}

/// Opens an index; one that has to be made anew is, as an agent does it.
fn opened(path: &Path, world: &mut World) -> (Hash, bool) {
    let (mut index, is_new) = match Index::open(path) {
        Ok(index) => (index, false),
        Err(error) => {
            assert!(error.needs_rebuild(), "{error}");
            for suffix in ["", "-wal", "-shm", "-sum"] {
                let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
            }
            (Index::open(path).unwrap(), true)
        }
    };
    world.tell(&mut index);
    index.catch_up(world).unwrap();
    (index.dump_hash().unwrap(), is_new)
}

#[test]
fn each_of_a_thousand_flipped_bits_is_noticed_and_repaired() {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let mut random = Random::new(seed);
    let folder = Folder::new("index-flips");
    let path = folder.join("index.db");
    let mut world = the_world();
    let (expected, _) = opened(&path, &mut world);
    let sum = folder.join("index.db-sum");
    let (good, good_sum) = (std::fs::read(&path).unwrap(), std::fs::read(&sum).unwrap());
    for flip in 0..soak::choose(1_000_u64, 20_000) {
        let mut bytes = good.clone();
        let (at, bit) = (random.index(bytes.len()), random.below(8));
        bytes[at] ^= 1 << bit;
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(&sum, &good_sum).unwrap();
        let what = format!("flip {flip}: byte {at} bit {bit}, seed {seed}");
        let error = Index::open(&path).expect_err(&what);
        assert!(error.needs_rebuild(), "{what}: {error}");
        if flip % MADE_ANEW_EVERY == 0 {
            std::fs::write(&sum, &good_sum).unwrap();
            let (found, is_new) = opened(&path, &mut world);
            assert!(is_new, "{what}: not noticed");
            assert_eq!(found, expected, "{what}");
        }
    }
    std::fs::write(&path, &good).unwrap();
    std::fs::write(&sum, &good_sum).unwrap();
    let (found, is_new) = opened(&path, &mut world);
    assert_eq!((found, is_new), (expected, false), "and unaltered it opens");
}
