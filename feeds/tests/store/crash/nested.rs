//! The power goes again while opening recovers, and again after that.

use kinlog_feeds::store::Store;
use testkit::disk::{CrashDisk, CrashPolicy, Cuts};
use testkit::random::Random;
use testkit::soak;

use crate::crash::exhaust::promise;
use crate::crash::oracle::{Promise, check};
use crate::crash::workload::Workload;
use crate::support::*;

/// Cases in which the power goes three times.
const DEPTH_3: usize = 2_000;

/// The same in the longer variant.
const DEPTH_3_SOAK: usize = 200_000;

/// Opens an image, if it opens, and returns the disk as that left it.
fn recovered(workload: &Workload, image: &CrashDisk) -> CrashDisk {
    // A lying drive may have left damage: a typed error, which `check` has judged.
    drop(Store::open(image.as_disk(), workload.options.clone()));
    image.clone()
}

/// Cuts recovery at each of its operations, after each operation of the workload.
fn cut_recovery_everywhere(policy: CrashPolicy) {
    let workload = Workload::new(0);
    let mut cuts = Cuts::new(&workload.disk);
    let mut images = 0;
    while cuts.advance() {
        let first = recovered(&workload, &cuts.image(policy, 0));
        let mut again = Cuts::new(&first);
        while again.advance() {
            let image = again.image(policy, 0);
            let what = format!(
                "cut {}, then {} {policy:?}",
                cuts.position(),
                again.position()
            );
            check(&workload, cuts.mark(), &image, promise(policy), &what);
            images += 1;
        }
    }
    println!("{images} images of recovery under {policy:?}");
    assert!(images >= 1_000, "recovery does something: {images}");
}

#[test]
fn recovery_is_cut_and_nothing_pending_survives() {
    cut_recovery_everywhere(CrashPolicy::DropPending);
}

#[test]
fn recovery_is_cut_and_everything_pending_survives() {
    cut_recovery_everywhere(CrashPolicy::KeepPending);
}

#[test]
fn recovery_is_cut_and_the_first_of_what_is_pending_survives() {
    cut_recovery_everywhere(CrashPolicy::Prefix);
}

#[test]
fn recovery_is_cut_and_some_of_what_is_pending_survives() {
    cut_recovery_everywhere(CrashPolicy::Subset);
}

#[test]
fn recovery_is_cut_and_the_last_write_is_torn() {
    cut_recovery_everywhere(CrashPolicy::TornWrite);
}

#[test]
fn recovery_is_cut_and_writes_have_no_content() {
    cut_recovery_everywhere(CrashPolicy::SizeWithoutContent);
}

#[test]
fn recovery_is_cut_and_names_are_lost() {
    cut_recovery_everywhere(CrashPolicy::NamesLost);
}

#[test]
fn recovery_is_cut_on_a_drive_that_lies() {
    cut_recovery_everywhere(CrashPolicy::LyingSync);
}

/// Three cuts, each after a random operation under a random policy.
#[test]
fn the_power_goes_three_times() {
    let seed = testkit::random::seed();
    println!("KINLOG_SEED={seed}");
    let mut random = Random::new(seed);
    let workload = Workload::new(0);
    let mut cases: Vec<u64> = (0..soak::choose(DEPTH_3, DEPTH_3_SOAK))
        .map(|_| random.below(workload.disk.operations() as u64))
        .collect();
    cases.sort_unstable();
    let mut cuts = Cuts::new(&workload.disk);
    let mut operations = 0;
    for case in cases {
        while operations <= case && cuts.advance() {
            operations += 1;
        }
        let mut kept = Promise::Kept;
        let mut what = format!("seed {seed} cut {}", cuts.position());
        let mut pick = |what: &mut String, random: &mut Random| {
            let policy = CrashPolicy::ALL[random.index(CrashPolicy::ALL.len())];
            if promise(policy) == Promise::NeverWrong {
                kept = Promise::NeverWrong;
            }
            what.push_str(&format!(" {policy:?}"));
            (policy, random.below(4))
        };
        let (policy, variant) = pick(&mut what, &mut random);
        let mut image = cuts.image(policy, variant);
        for _ in 0..2 {
            let disk = recovered(&workload, &image);
            let count = disk.operations() as u64;
            let mut again = Cuts::new(&disk);
            for _ in 0..random.below(count + 1) {
                again.advance();
            }
            let (policy, variant) = pick(&mut what, &mut random);
            image = again.image(policy, variant);
        }
        check(&workload, cuts.mark(), &image, kept, &what);
    }
}
