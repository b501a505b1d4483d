//! A simulation of whole nodes: the real replicator, store and index over a network, disks and clocks
//! that go wrong as a seed says. The same seed does the same, to the byte.
//!
//! It stands here because feeds and index meet here without a runtime, sockets or threads. A seed
//! decides who takes part and which troubles and tricks there are ([`plan`]); [`world`] lets them
//! happen and asserts after each step what has to be true.
#![allow(clippy::unwrap_used, clippy::panic)] // What is not as it has to be ends the run.

mod convergence;
mod hostile;
mod mistakes;
mod network;
mod node;
mod plan;
#[path = "../world/mod.rs"]
mod rooms;
mod traffic;
mod trouble;
mod truth;
mod world;
mod writing;

use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use testkit::random::usual_seed;
use testkit::soak;

use world::{Outcome, World};

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;

/// Threads that go through seeds.
const THREADS: usize = 2;

/// Seeds that found something once, each with what it was.
const FOUND: &str = include_str!("found.txt");

fn run(seed: u64) -> Outcome {
    World::new(seed, None).run()
}

/// Runs seeds until there is none left or the time is up; returns what each came to and names those
/// that failed.
fn run_all(seeds: impl Iterator<Item = u64> + Send) -> (Vec<Outcome>, Vec<u64>) {
    let (seeds, done) = (Mutex::new(seeds), Mutex::new((Vec::new(), Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(seed) = { seeds.lock().unwrap().next() } {
                    let outcome = catch_unwind(|| run(seed));
                    let mut done = done.lock().unwrap();
                    match outcome {
                        Ok(outcome) => done.0.push(outcome),
                        Err(_) => {
                            println!("seed {seed} FAILED: KINLOG_SEED={seed} replays it");
                            done.1.push(seed);
                        }
                    }
                }
            });
        }
    });
    done.into_inner().unwrap()
}

fn is_on_its_own() -> bool {
    std::env::var_os("KINLOG_SEED").is_some()
}

#[test]
fn everything_holds_whatever_goes_wrong() {
    let first = usual_seed(1);
    let deadline = soak::Deadline::new();
    let count = match is_on_its_own() && !soak::is_on() {
        true => 1,
        false => soak::choose(SEEDS, u64::MAX),
    };
    println!("seeds from {first}");
    let watch = soak::Stopwatch::new();
    let taken = AtomicU64::new(0);
    let (outcomes, failed) = run_all(
        std::iter::from_fn(|| {
            let number = taken.fetch_add(1, Ordering::Relaxed);
            let more = number < count && !(soak::is_on() && deadline.is_past());
            more.then(|| first.wrapping_add(number))
        })
        .fuse(),
    );
    let seconds = watch.elapsed().as_secs_f64();
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    println!(
        "{} seeds in {seconds:.1} s: {} steps, {} messages, {} blocks, {} crashes, {} bans, {} conflicts; \
         the slowest was whole {:.1} s after healing",
        outcomes.len(),
        sum(|of| of.steps),
        sum(|of| of.messages),
        sum(|of| of.appended),
        sum(|of| of.crashes),
        sum(|of| of.bans),
        sum(|of| of.conflicts),
        outcomes.iter().map(|of| of.healed_after).max().unwrap_or(0) as f64 / 1e6,
    );
    assert!(failed.is_empty(), "failed: seeds {failed:?}");
}

#[test]
fn what_was_found_once_stays_mended() {
    let seeds: Vec<u64> = FOUND
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    assert!(!seeds.is_empty());
    let (_, failed) = run_all(seeds.into_iter());
    assert!(failed.is_empty(), "failed: seeds {failed:?}");
}

#[test]
fn the_same_seed_does_the_same() {
    let first = usual_seed(4);
    println!("seeds from {first}");
    for seed in first..first + soak::choose(5, 100) {
        let (once, again) = (run(seed), run(seed));
        assert_eq!(once, again, "seed {seed}");
        assert_ne!(
            once.trace,
            run(seed + 1).trace,
            "another seed does something else"
        );
    }
}
