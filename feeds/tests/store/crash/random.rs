//! Workloads drawn from a seed: new ground in every run, and as much of it as is asked for.

use testkit::disk::{CrashPolicy, Cuts};
use testkit::random::{Random, seed};
use testkit::soak::{self, Deadline};

use crate::crash::exhaust::promise;
use crate::crash::oracle::check;
use crate::crash::workload::Workload;

#[test]
fn random_workloads_survive_power_cuts() {
    let first = seed();
    println!("KINLOG_SEED={first}");
    let images_min = soak::choose(2_000, 10_000_000);
    let deadline = Deadline::new();
    let (mut images, mut workloads) = (0, 0);
    while images < images_min && !deadline.is_past() {
        let seed = first.wrapping_add(workloads);
        let workload = Workload::random(seed);
        let mut random = Random::new(seed);
        let mut cuts = Cuts::new(&workload.disk);
        while cuts.advance() {
            let policy = CrashPolicy::ALL[random.index(CrashPolicy::ALL.len())];
            let variant = random.below(4);
            let what = format!(
                "KINLOG_SEED={seed}, cut {} {policy:?} {variant}",
                cuts.position()
            );
            let image = cuts.image(policy, variant);
            check(&workload, cuts.mark(), &image, promise(policy), &what);
            images += 1;
        }
        workloads += 1;
    }
    println!("{images} images of {workloads} workloads");
}
