use kinlog_feeds::store::Options;
use testkit::disk::{CrashPolicy, Cuts};

use crate::crash::oracle::{Promise, assert_reading_changes_nothing, assert_verifies, check};
use crate::crash::workload::{OPERATIONS_MIN, Workload, options};

const SEEDS: u64 = 4;

/// Cuts after which everything is verified down to the signatures: one in so many.
const VERIFIED_EVERY: usize = 50;

pub(super) fn promise(policy: CrashPolicy) -> Promise {
    match policy {
        CrashPolicy::LyingSync => Promise::NeverWrong,
        _ => Promise::Kept,
    }
}

fn cut_everywhere(policy: CrashPolicy) {
    cut(policy, options(), SEEDS);
}

/// Cuts the workloads of `seeds` seeds, on stores that are opened like this.
pub(crate) fn cut(policy: CrashPolicy, options: Options, seeds: u64) {
    let mut images = 0;
    for seed in 0..seeds {
        let workload = Workload::with(seed, options.clone());
        let mut cuts = Cuts::new(&workload.disk);
        let mut operations = 0;
        while cuts.advance() {
            operations += 1;
            let what = format!("cut {} {policy:?} seed {seed}", cuts.position());
            let image = cuts.image(policy, seed);
            if seed == 0 {
                assert_reading_changes_nothing(&workload, &image, &what);
            }
            check(&workload, cuts.mark(), &image, promise(policy), &what);
            if operations % VERIFIED_EVERY == 0 && promise(policy) == Promise::Kept {
                assert_verifies(&workload, &image, &what);
            }
            images += 1;
        }
        assert!(operations >= OPERATIONS_MIN, "{operations} operations");
    }
    println!("{images} images under {policy:?}");
}

#[test]
fn nothing_pending_survives() {
    cut_everywhere(CrashPolicy::DropPending);
}

#[test]
fn everything_pending_survives() {
    cut_everywhere(CrashPolicy::KeepPending);
}

#[test]
fn the_first_of_what_is_pending_survives() {
    cut_everywhere(CrashPolicy::Prefix);
}

#[test]
fn some_of_what_is_pending_survives() {
    cut_everywhere(CrashPolicy::Subset);
}

#[test]
fn the_last_write_is_torn() {
    cut_everywhere(CrashPolicy::TornWrite);
}

#[test]
fn writes_have_their_size_and_not_their_content() {
    cut_everywhere(CrashPolicy::SizeWithoutContent);
}

#[test]
fn names_and_content_do_not_survive_together() {
    cut_everywhere(CrashPolicy::NamesLost);
}

#[test]
fn a_drive_that_lies_about_syncs_shows_no_wrong_bytes() {
    cut_everywhere(CrashPolicy::LyingSync);
}
