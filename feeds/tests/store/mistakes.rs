//! Mistakes made on purpose, one at a time: the suite that is there for each notices it.
//!
//! The tests beside these show that each suite passes without the mistake.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kinlog_feeds::store::Mistake;
use testkit::disk::{CrashPolicy, Fault, OperationKind};

use crate::support::*;
use crate::{conflicts, crash, locking, sweep};

/// Asserts that a suite fails with these words, which are what the mistake leads to.
fn assert_noticed(mistake: Mistake, words: &str, suite: impl FnOnce()) {
    let noticed = catch_unwind(AssertUnwindSafe(suite)).expect_err("nobody noticed the mistake");
    let told = noticed.downcast_ref::<String>().cloned();
    let told = told.or_else(|| {
        noticed
            .downcast_ref::<&str>()
            .map(|words| (*words).to_owned())
    });
    let told = told.unwrap_or_default();
    assert!(told.contains(words), "{mistake:?} led to: {told}");
}

/// Cuts the power under a policy while the store makes a mistake.
fn assert_noticed_by_power_cuts(mistake: Mistake, words: &str, policy: CrashPolicy) {
    assert_noticed(mistake, words, || {
        crash::cut(policy, crash::options().mistaken(mistake), 1);
    });
}

#[test]
fn a_commit_without_its_sync_is_noticed() {
    assert_noticed_by_power_cuts(Mistake::SkipSync, "is lost", CrashPolicy::DropPending);
}

#[test]
fn blocks_that_are_visible_before_they_are_durable_are_noticed() {
    let mistake = Mistake::PublishBeforeSync;
    assert_noticed(mistake, "more is visible", || {
        let options = sweep::options().mistaken(mistake);
        sweep::refuse_every(Fault::Io, &options, |kind| kind == OperationKind::Sync);
    });
}

#[test]
fn a_bitmap_that_is_off_by_one_is_noticed() {
    assert_noticed_by_power_cuts(
        Mistake::BitmapOffByOne,
        ": block ",
        CrashPolicy::KeepPending,
    );
}

#[test]
fn a_proof_of_a_conflict_that_is_not_kept_is_noticed() {
    let mistake = Mistake::ForgetConflict;
    assert_noticed(mistake, "the proof is lost", || {
        conflicts::a_kept_proof_survives(small().mistaken(mistake));
    });
}

#[test]
fn a_lock_that_lets_others_in_is_noticed() {
    let mistake = Mistake::WrongLock;
    assert_noticed(mistake, "is refused", || {
        let options = kinlog_feeds::store::Options::new([3; 16]);
        locking::a_second_handle_is_refused(options.mistaken(mistake));
    });
}

#[test]
fn an_index_that_is_durable_before_the_log_is_noticed() {
    assert_noticed_by_power_cuts(
        Mistake::CheckpointBeforeData,
        "SyncedRecord",
        CrashPolicy::DropPending,
    );
}

#[test]
fn an_old_index_that_is_believed_is_noticed() {
    assert_noticed_by_power_cuts(
        Mistake::StaleIndexBelieved,
        "cut ",
        CrashPolicy::KeepPending,
    );
}

#[test]
fn a_cleared_range_that_is_served_is_noticed() {
    assert_noticed_by_power_cuts(
        Mistake::ClearedRangeServed,
        ": block ",
        CrashPolicy::DropPending,
    );
}
