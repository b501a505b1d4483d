//! The index is cattle: killed in the middle or altered on the disk, it is noticed and made anew,
//! and says the same as before.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::world::{World, busy_world};
use kinlog_feeds::crypto::Hash;
use kinlog_indexer::Index;
use testkit::process::{Folder, Running};
use testkit::random::{Random, seed};
use testkit::soak;
use testkit::wal::frames;

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
                    "damage::indexes_until_killed",
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

/// Steps of a world whose whole index is written many times over.
const SMALL_STEPS: usize = 30;

/// Blocks of one transaction there.
const SMALL_BATCH_BLOCKS: usize = 7;

/// Returns the index of a world and its log as they stand while it is open, after some transactions.
fn written(world: &World, path: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut index = Index::open(path).unwrap();
    world.tell(&mut index);
    for batch in world.blocks().chunks(SMALL_BATCH_BLOCKS) {
        index.ingest(batch).unwrap();
    }
    let log = format!("{}-wal", path.display());
    (std::fs::read(path).unwrap(), std::fs::read(log).unwrap())
}

/// Puts an index and its log where nobody has it open.
fn left(path: &Path, index: &[u8], log: &[u8]) {
    for suffix in ["-shm", "-sum"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    std::fs::write(path, index).unwrap();
    std::fs::write(format!("{}-wal", path.display()), log).unwrap();
}

/// The log holds every step of every transaction, in order: what is cut behind one is what a crash
/// leaves there.
#[test]
fn a_crash_at_each_step_of_a_batch_is_no_damage_and_costs_what_is_read_again() {
    let mut world = busy_world(5, SMALL_STEPS);
    let expected = world.indexed().dump_hash().unwrap();
    let folder = Folder::new("index-steps");
    let (index, log) = written(&world, &folder.join("written.db"));
    let path = folder.join("index.db");
    let steps = frames(&log);
    let committed = steps.iter().filter(|step| step.commits).count();
    assert!(committed > world.blocks().len() / SMALL_BATCH_BLOCKS);
    // Behind each commit, and behind some of the steps between them.
    let every = soak::choose(9, 1);
    for (number, step) in steps.iter().enumerate() {
        if !step.commits && number % every > 0 {
            continue;
        }
        left(&path, &index, &log[..step.end]);
        let (found, is_new) = opened(&path, &mut world);
        assert!(
            !is_new,
            "step {number} of {}: a crash is no damage",
            steps.len()
        );
        assert_eq!(found, expected, "step {number} of {}", steps.len());
    }
}

#[test]
fn a_crash_while_the_log_is_taken_into_the_file_loses_nothing() {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let mut random = Random::new(seed);
    let mut world = busy_world(5, SMALL_STEPS);
    let expected = world.indexed().dump_hash().unwrap();
    let folder = Folder::new("index-checkpoint");
    let (before, log) = written(&world, &folder.join("written.db"));
    let path = folder.join("index.db");
    left(&path, &before, &log);
    rusqlite::Connection::open(&path)
        .and_then(|whole| whole.query_row("PRAGMA wal_checkpoint", [], |_| Ok(())))
        .unwrap();
    let after = std::fs::read(&path).unwrap();
    let page_bytes = usize::from(u16::from_be_bytes([after[16], after[17]]));
    for crash in 0..soak::choose(20, 500) {
        let mut torn = after.clone();
        for page in torn.chunks_mut(page_bytes).zip(before.chunks(page_bytes)) {
            if random.below(2) == 0 {
                page.0.copy_from_slice(page.1);
            }
        }
        torn.truncate(after.len() - page_bytes * random.index(after.len() / page_bytes));
        left(&path, &torn, &log);
        let (found, is_new) = opened(&path, &mut world);
        assert!(!is_new, "crash {crash}, seed {seed}: a crash is no damage");
        assert_eq!(found, expected, "crash {crash}, seed {seed}");
    }
}

#[test]
fn a_damaged_or_shorter_log_says_the_same_once_it_is_read_again() {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let mut random = Random::new(seed);
    let mut world = busy_world(5, SMALL_STEPS);
    let expected = world.indexed().dump_hash().unwrap();
    let folder = Folder::new("index-log");
    let (index, log) = written(&world, &folder.join("written.db"));
    let path = folder.join("index.db");
    for damage in 0..soak::choose(60, 5_000) {
        let mut damaged = log.clone();
        let at = random.index(log.len());
        let what = match damage % 3 {
            0 => {
                damaged[at] ^= 1 << random.below(8);
                "a bit"
            }
            1 => {
                let end = (at + 4096).min(log.len());
                damaged[at..end].fill(0);
                "a hole"
            }
            _ => {
                damaged.truncate(at);
                "an end"
            }
        };
        left(&path, &index, &damaged);
        let (found, _) = opened(&path, &mut world);
        assert_eq!(found, expected, "{what} at byte {at}, seed {seed}");
    }
}
