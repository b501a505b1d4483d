//! Random sets: one result whatever the order, and the same as the reference says.

use kinlog_feeds::crypto::PublicKey;
use testkit::random::{Random, seed};

use super::reference::Reference;
use super::world::*;
use crate::identity::{IdentitySet, Powers, Said, Statement, Verdict, VerifiedSet};

/// Random statements of an agent with few devices, most of them by somebody who may.
fn statements(random: &mut Random, count: usize) -> Vec<Statement> {
    let mut all = vec![say(ROOT, &[], add(0))];
    while all.len() < count {
        let mut who = ROOT;
        let mut makers: Vec<&Statement> = Vec::new();
        for _ in 0..4 {
            who = match random.below(8) {
                0 => ROOT,
                1 => Who::Root(random.below(3) as u8),
                _ => Who::Device(random.below(7) as u8),
            };
            let signer = who.pair().public_key();
            let makes = |statement: &&Statement| match statement.said() {
                Said::DeviceAdded(added) => added.card.device.0 == signer.0,
                Said::RootReplaced(replaced) => replaced.root == signer,
                Said::DeviceRevoked(_) | Said::Other(_) => false,
            };
            makers = all.iter().filter(makes).collect();
            if who == ROOT || !makers.is_empty() {
                break;
            }
        }
        let mut past = Vec::new();
        if !makers.is_empty() && random.below(10) > 0 {
            past.push(makers[random.index(makers.len())]);
        }
        for _ in 0..random.below(3) {
            past.push(&all[random.index(all.len())]);
        }
        let number = random.below(7) as u8;
        let powers = [Powers::ALL, Powers::ALL, Powers::ALL, Powers(3), Powers(5)];
        let said = match random.below(20) {
            0 => replace(random.below(3) as u8),
            1..=7 => revoke_at(number, cut(random.below(4)), cut(random.below(4))),
            8 => add_as("renamed", number, powers[random.index(5)]),
            _ => add_as(&format!("device {number}"), number, powers[random.index(5)]),
        };
        let next = say(who, &past, said);
        if !all.iter().any(|one| one.hash() == next.hash()) {
            all.push(next);
        }
    }
    all
}

fn assert_is_reference(statements: &[&Statement], context: &str) {
    let identity = identity(statements.iter().copied());
    let (root, devices, counts) = Reference::new(statements.iter().copied()).result();
    assert_eq!(identity.root(), root, "{context}");
    let got: Vec<(PublicKey, Powers, String)> = identity
        .devices
        .iter()
        .map(|device| (PublicKey(device.key.0), device.powers, device.name.clone()))
        .collect();
    assert_eq!(got, devices, "{context}");
    for (hash, verdict) in &identity.verdicts {
        assert_eq!(
            *verdict == Verdict::Counts,
            counts.contains(hash),
            "{context}: {hash}"
        );
    }
}

#[test]
fn random_sets_give_what_the_reference_gives() {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let cases = testkit::soak::choose(2_000, 200_000);
    let (mut voided, mut refused, mut revoked, mut replaced) = (0, 0, 0, 0);
    for case in 0..cases {
        let mut random = Random::new(seed.wrapping_add(case));
        let count = 6 + random.index(14);
        let all = statements(&mut random, count);
        // Some are missing, and what names them waits; the first is always there.
        let missing = random.below(4) == 0;
        let held: Vec<&Statement> = all
            .iter()
            .enumerate()
            .filter(|(number, _)| *number == 0 || !missing || random.below(8) > 0)
            .map(|(_, statement)| statement)
            .collect();
        assert_is_reference(&held, &format!("seed {seed}, case {case}"));
        let identity = identity(held.iter().copied());
        revoked += u64::from(!identity.revoked.is_empty());
        replaced += u64::from(identity.roots.len() > 1);
        for (_, verdict) in identity.verdicts {
            voided += u64::from(matches!(verdict, Verdict::Voided(_)));
            refused += u64::from(matches!(verdict, Verdict::NotAuthorised(_)));
        }
    }
    println!("{voided} voided, {refused} refused, {revoked} with revoked, {replaced} replaced");
    assert!(voided > cases / 10 && refused > cases && revoked > cases / 3 && replaced > cases / 20);
}

#[test]
fn any_order_duplicates_and_subsets_united_give_one_result() {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    for case in 0..testkit::soak::choose(500, 50_000) {
        let mut random = Random::new(seed.wrapping_add(case));
        let count = 4 + random.index(20);
        let all = statements(&mut random, count);
        let whole = verified(&all).kept();
        // Holders exchange whole sets that grow; each set is closed, as those of holders are.
        let mut holders: Vec<VerifiedSet> = (0..3)
            .map(|_| {
                let until = 1 + random.index(all.len());
                verified(&all[..until]).kept()
            })
            .collect();
        let mut order: Vec<&Statement> = all.iter().chain(&all[..2]).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, random.index(at + 1));
        }
        holders.push(verified(order).kept());
        for _ in 0..12 {
            let (from, to) = (random.index(4), random.index(4));
            holders[to] = holders[to].union(&holders[from]);
        }
        let first = holders
            .iter()
            .fold(verified([&all[0]]), |all, one| all.union(one));
        let last = holders
            .iter()
            .rev()
            .fold(verified([&all[0]]), |all, one| one.union(&all));
        assert_eq!(first, whole, "seed {seed}, case {case}");
        assert_eq!(last, whole, "seed {seed}, case {case}");
        assert_eq!(first.identity(), last.identity());
        let travelled = IdentitySet::decode(&first.set.encode()).unwrap();
        assert_eq!(
            travelled.verify(&agent()),
            first.identity(),
            "seed {seed}, case {case}"
        );
    }
}

#[test]
fn statements_torn_apart_into_sets_in_any_order_give_what_they_give_at_once() {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    let mut apart = 0;
    for case in 0..testkit::soak::choose(200, 50_000) {
        let mut random = Random::new(seed.wrapping_add(case));
        let all = statements(&mut random, 20);
        // None of the sets need hold what its statements name.
        let mut parts: Vec<Vec<&Statement>> = vec![Vec::new(); 2 + random.index(5)];
        for one in &all {
            for _ in 0..1 + random.below(2) {
                let to = random.index(parts.len());
                parts[to].push(one);
            }
        }
        let mut parts: Vec<VerifiedSet> = parts.into_iter().map(verified).collect();
        let whole = verified(&all);
        for _ in 0..4 {
            let at = random.index(parts.len());
            parts.swap(0, at);
            let united = VerifiedSet::together(agent(), &parts);
            assert_eq!(united, whole, "seed {seed}, case {case}");
        }
        let one_by_one = parts.iter().skip(1);
        let one_by_one = one_by_one.fold(parts[0].clone(), |all, one| all.union(one));
        apart += u32::from(one_by_one != whole.kept());
    }
    println!("{apart} of which uniting two at a time gives something else");
    assert!(apart > 0);
}

#[test]
fn what_is_kept_gives_the_same_devices_as_all() {
    let seed = seed();
    println!("KINLOG_SEED={seed}");
    for case in 0..500 {
        let mut random = Random::new(seed.wrapping_add(case));
        let all = statements(&mut random, 20);
        let (all, kept) = (verified(&all), verified(&all).kept());
        let (all, kept) = (all.identity().unwrap(), kept.identity().unwrap());
        assert_eq!(all.roots, kept.roots, "seed {seed}, case {case}");
        assert_eq!(all.devices, kept.devices, "seed {seed}, case {case}");
        assert_eq!(all.revoked, kept.revoked, "seed {seed}, case {case}");
    }
}
