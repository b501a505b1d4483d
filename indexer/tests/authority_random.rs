//! The evaluation of acts against the plain one, over random histories: subsets, orders, twice the
//! same, everybody acting at once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use crate::acts::*;
use crate::reference::{Reference, Told};
use crate::world::Random;
use kinlog_indexer::authority::{RoomActs, Verdict, Void, VoidReason};
use kinlog_indexer::entry::{ActHash, Deed, DeviceJoin, Role};
use kinlog_indexer::mistake::{Mistake, make};
use testkit::random::usual_seed;
use testkit::soak;

const AGENTS: usize = 5;
const ACTS: usize = 26;
/// Histories of a normal run.
const CASES: u64 = 1_000;

/// Histories of the normal tests: the same in each run, so that a run says the same of the same code.
/// `cargo xtask soak rules` goes on from the clock's seed.
const SEED: u64 = 1_795_000_000_000_000_000;

/// Histories that once came out wrong.
const PAST_FAILURES: [u64; 4] = [
    // A change of role for somebody whose invite was used up at the same time.
    1_795_261_893_908_088_383,
    1_795_262_036_256_688_009,
    1_795_262_150_732_928_624,
    // What a leaving took back, and a removal had in its past.
    1_795_279_054_840_964_421,
];

fn seed() -> u64 {
    let seed = usual_seed(SEED);
    println!("KINLOG_SEED={seed}");
    seed
}

fn some_role(random: &mut Random) -> Role {
    Role::ALL[random.below(4)]
}

/// A history in which everybody does everything, most of it having seen part of the rest.
fn history(seed: u64) -> Script {
    let mut random = Random::new(seed);
    let mut script = Script::new();
    script.salt = seed;
    script.acts.clear();
    script.after(&[], Who(0, 0, 0), genesis(Who(0, 0, 0)));
    let mut heads: Vec<usize> = vec![0];
    // Most histories begin with a room of several, so that there is something to fight about.
    for agent in 1..AGENTS - random.below(3) {
        let role = some_role(&mut random).max(some_role(&mut random));
        let at = script.after(&heads, Who(0, 0, 0), admit(Who(agent as u8, 0, 0), role));
        heads = vec![at];
    }
    let mut feeds: Vec<Who> = (0..AGENTS as u8).map(|agent| Who(agent, 0, 0)).collect();
    let mut room = script.room();
    let mut refused: BTreeSet<usize> = BTreeSet::new();
    while script.acts.len() < ACTS {
        let live = room.authority().feeds;
        let mut by = feeds[random.below(feeds.len())];
        for _ in 0..6 {
            if live.get(&by.feed()).is_none_or(|feed| !feed.is_live()) {
                by = feeds[random.below(feeds.len())];
            }
        }
        let deed = some_deed(&mut random, &mut feeds);
        // What the author has seen: the newest, or some of it, or something old.
        let count = script.acts.len();
        let mut parents: BTreeSet<usize> = match random.below(10) {
            0..3 => heads.iter().copied().collect(),
            3..8 => {
                let recent = count.saturating_sub(1 + random.below(4));
                (0..1 + random.below(2))
                    .map(|_| recent.saturating_sub(random.below(3)))
                    .collect()
            }
            _ => (0..1 + random.below(3))
                .map(|_| random.below(count))
                .collect(),
        };
        // Writers name what is authorised, and their own acts; some do not.
        if random.chance(97) {
            parents.retain(|parent| !refused.contains(parent));
            let seen = script.past(&parents.iter().copied().collect::<Vec<_>>());
            let newest = (0..count).rev();
            let mut newest = newest.filter(|at| !refused.contains(at) && !seen.contains(at));
            let own = newest.find(|at| script.acts[*at].by == by);
            if random.chance(85) {
                parents.extend(own);
            }
        }
        let parents: Vec<usize> = parents.into_iter().collect();
        let ms = [0, 500, 1_000, 2_000, u64::MAX >> 12][random.below(5)];
        let at = script.at(&parents, by, ms, deed);
        room.add(script.acts[at].held());
        let verdict = &room.authority().acts[&script.acts[at].hash].verdict;
        if matches!(verdict, Verdict::Refused(_)) {
            refused.insert(at);
            continue;
        }
        heads.retain(|head| !parents.contains(head));
        heads.push(at);
        if heads.len() > 6 {
            heads.remove(0);
        }
    }
    script
}

fn some_deed(random: &mut Random, feeds: &mut Vec<Who>) -> Deed {
    let agent = random.below(AGENTS) as u8;
    let who = Who(agent, random.below(3) as u8, random.below(3) as u8);
    let key = random.below(3) as u8;
    let role_given = some_role(random);
    let cuts = if random.chance(50) {
        let length = random.next() % 9;
        vec![cut(who.feed(), length), cut(who.blobs(), length + 1)]
    } else {
        Vec::new()
    };
    let said: &[(u8, Said)] = match random.below(8) {
        0 => &[(1, Said::NeverAdded)],
        1 => &[(1, Said::Revoked)],
        2 => &[(1, Said::NotRevoked), (0, Said::NotRevoked)],
        3 => &[(2, Said::Added)],
        _ => &[],
    };
    match random.below(23) {
        0..4 => {
            feeds.push(who);
            let mut deed = admit(who, role_given);
            if let Deed::Admit(admit) = &mut deed {
                admit.member = who.membership(said);
            }
            deed
        }
        4..7 => {
            feeds.push(who);
            admit_by(who, role_given.min(Role::Member), key)
        }
        7 => {
            let uses = [None, Some(1), Some(2)][random.below(3)];
            let end = [None, Some(900), Some(3_000)][random.below(3)];
            invite(key, role_given, uses, end)
        }
        8 => invite(key, Role::Member, Some(1), None),
        9..12 => role(agent, role_given),
        12..15 => remove(agent, cuts),
        15 => leave(cuts),
        16 => {
            feeds.push(who);
            device_join(who)
        }
        17 => device_revoke(who, said, cuts),
        18 => invite_revoke(key),
        19 => epoch(random.below(4) as u8, &[random.below(4) as u8], &[who]),
        20 => grant(key),
        21 => delete(u64::from(key)),
        _ => grant_revoke(key),
    }
}

/// A history in which agents with several devices each revoke these, and each other's, leave, and give
/// each other roles; most of it on old parents, and all of it authorised. In some, where `contests`, later
/// sets say that a device never was one, or is revoked no more.
fn history_of_devices(seed: u64, contests: bool) -> Script {
    let mut random = Random::new(seed);
    let mut script = Script::new();
    script.salt = seed;
    let mut last = 0;
    let mut feeds = vec![OWNER];
    for agent in 1..3 {
        let role = [Role::Admin, Role::Owner][random.below(2)];
        last = script.after(&[last], OWNER, admit(Who(agent, 0, 0), role));
        feeds.push(Who(agent, 0, 0));
    }
    for device in 1..3 {
        let agent = random.below(3) as u8;
        last = script.after(
            &[last],
            Who(agent, 0, 0),
            device_join(Who(agent, device, 0)),
        );
        feeds.push(Who(agent, device, 0));
    }
    let common = last;
    let mut room = script.room();
    for _ in 0..6 * ACTS {
        let count = script.acts.len();
        if count >= ACTS {
            break;
        }
        let by = feeds[random.below(feeds.len())];
        let some = |random: &mut Random| common + random.below(count - common);
        let mut parents: BTreeSet<usize> = match random.below(3) {
            0 => BTreeSet::from([common]),
            1 => BTreeSet::from([some(&mut random)]),
            _ => BTreeSet::from([some(&mut random), some(&mut random), count - 1]),
        };
        parents.extend((common..count).rev().find(|at| script.acts[*at].by == by));
        let parents: Vec<usize> = parents.into_iter().collect();
        let deed = some_deed_of_devices(&mut random, by, &mut feeds, contests);
        let at = script.after(&parents, by, deed);
        room.add(script.acts[at].held());
        if room.refusal(&script.acts[at].hash).is_some() {
            script.acts.pop();
            // The next one has another name.
            script.salt = script.salt.wrapping_add(1 << 40);
        }
    }
    script
}

fn some_deed_of_devices(
    random: &mut Random,
    by: Who,
    feeds: &mut Vec<Who>,
    contests: bool,
) -> Deed {
    let agent = random.below(3) as u8;
    let who = Who(agent, random.below(4) as u8, 0);
    let own = Who(by.0, who.1, 0);
    if contests && random.chance(30) {
        return some_contest(random, own, who, feeds);
    }
    match random.below(20) {
        0..3 => {
            feeds.push(own);
            device_join(own)
        }
        3..6 => device_revoke(own, &[], Vec::new()),
        6..9 => device_revoke(who, &[], Vec::new()),
        9..15 => role(agent, some_role(random)),
        15 => leave(Vec::new()),
        16 => remove(agent, Vec::new()),
        17 => {
            let who = Who(3 + agent, 0, 0);
            feeds.push(who);
            admit(who, some_role(random))
        }
        _ => invite(random.below(200) as u8, Role::Guest, None, None),
    }
}

/// A set that says of a device that it never was one, or is revoked no more; with a device that comes in, of
/// the own or of another agent, or with the revocation of one; or the removal of somebody who knew that.
fn some_contest(random: &mut Random, own: Who, other: Who, feeds: &mut Vec<Who>) -> Deed {
    let about = random.below(4) as u8;
    let said = match random.below(4) {
        0 => vec![(about, Said::NotRevoked)],
        _ => vec![(about, Said::Added), (about, Said::NeverAdded)],
    };
    match random.below(6) {
        0..2 => {
            feeds.push(own);
            let device = own.membership(&said);
            Deed::DeviceJoin(DeviceJoin {
                device,
                epochs: Vec::new(),
            })
        }
        2 => {
            feeds.push(other);
            let mut deed = admit(other, Role::Member);
            if let Deed::Admit(admit) = &mut deed {
                admit.member = other.membership(&said);
            }
            deed
        }
        3 => device_revoke(own, &said, Vec::new()),
        4 => device_revoke(other, &said, Vec::new()),
        _ => remove(other.0, Vec::new()),
    }
}

/// A history, an act a line.
fn told(script: &Script) -> String {
    let authority = script.authority();
    let lines = script.acts.iter().enumerate().map(|(number, done)| {
        let at = |hash: &ActHash| {
            script
                .acts
                .iter()
                .position(|other| other.hash == *hash)
                .unwrap()
        };
        let parents: Vec<usize> = done.act.parents.as_slice().iter().map(at).collect();
        let verdict = &authority.acts[&done.hash].verdict;
        let (by, deed) = (done.by, format!("{:?}", done.act.deed));
        let deed: String = deed.chars().take(160).collect();
        format!("{number} after {parents:?} by {by:?}: {deed}: {verdict}\n")
    });
    lines.collect()
}

/// The acts of a history as the plain rules take them.
fn told_acts(script: &Script) -> Vec<Told> {
    let acts = script.acts.iter().map(|done| Told {
        hash: done.hash,
        feed: done.by.feed(),
        index: done.index,
        ms: done.ms,
        sealed_by: done.sealed_by,
        verifies: done.verifies(),
        act: done.act.clone(),
    });
    acts.collect()
}

/// Compares the two on what is ready of a history.
fn compare(script: &Script, case: u64) {
    let authority = script.authority();
    let acts = told_acts(script);
    let reference = Reference::new(&acts, devices_of);
    let outcome = reference.outcome(&reference.evaluated());
    let out_of_line = reference.out_of_line();
    for (number, done) in script.acts.iter().enumerate() {
        let row = &authority.acts[&done.hash];
        let ours = match &row.verdict {
            Verdict::Counts => (true, true),
            Verdict::Void(_) => (true, false),
            _ => (false, false),
        };
        let theirs = (
            reference.is_authorised(number) || out_of_line.contains(&number),
            outcome.counts.contains(&number),
        );
        let verdict = &row.verdict;
        assert!(
            ours == theirs,
            "case {case}: act {number}: {verdict}\n{}",
            told(script)
        );
    }
    for agent in 0..AGENTS as u8 {
        let agent = Who(agent, 0, 0).agent();
        let theirs = reference.role(&outcome.counts, &agent);
        let theirs = theirs.map(|(role, giver)| (role, script.acts[giver].hash));
        let member = authority.members.get(&agent);
        let ours = member.and_then(|member| member.role.zip(member.giver));
        assert_eq!(
            ours,
            theirs,
            "case {case}: role of {agent}\n{}",
            told(script)
        );
    }
    for (feed, row) in &authority.feeds {
        let brought = reference.brought(&outcome.counts, feed);
        assert_eq!(row.void.is_none(), brought.is_some(), "case {case}: {feed}");
        let Some(brought) = brought else { continue };
        assert_eq!(
            row.admitted_by, script.acts[brought].hash,
            "case {case}: {feed}"
        );
        let endings = reference.cutting(&outcome, brought);
        let lengths = endings.into_iter().map(|ending| {
            let cuts: &[kinlog_indexer::entry::Cut] = match &script.acts[ending].act.deed {
                Deed::Remove(remove) => &remove.cuts,
                Deed::Leave(leave) => &leave.cuts,
                Deed::DeviceRevoke(revoke) => &revoke.cuts,
                // Whatever carries a set may say that a device was never one.
                _ => &[],
            };
            let named = cuts.iter().filter(|cut| cut.feed == *feed);
            named.map(|cut| cut.length).min().unwrap_or(0)
        });
        let cut = row.cut.map(|cut| cut.cut.length);
        assert_eq!(cut, lengths.min(), "case {case}: cut of {feed}");
    }
    let owners = authority.members.values();
    let owners = owners.filter(|member| member.role == Some(Role::Owner));
    // A set that unsays something, by the last act of all, does not look for an owner.
    let unsaid = authority.acts.values().any(|row| {
        matches!(&row.verdict, Verdict::Void(void)
            if [VoidReason::NeverDevice, VoidReason::NotRevoked].contains(&void.why))
    });
    assert!(
        owners.count() > 0 || unsaid,
        "case {case}: a room without an owner"
    );
}

#[test]
fn random_histories_come_to_what_the_plain_rules_say() {
    let seed = seed();
    let end = soak::Deadline::new();
    let (mut counted, mut void, mut refused) = (0, 0, 0);
    let mut cases = 0;
    for case in PAST_FAILURES {
        compare(&history(case), case);
    }
    for case in (0..).map(|n| seed.wrapping_add(n)) {
        if cases >= CASES && (!soak::is_on() || end.is_past()) {
            break;
        }
        let script = match cases % 4 {
            0 => history_of_devices(case, cases % 8 == 4),
            _ => history(case),
        };
        compare(&script, case);
        for row in script.authority().acts.values() {
            match row.verdict {
                Verdict::Counts => counted += 1,
                Verdict::Void(_) => void += 1,
                _ => refused += 1,
            }
        }
        cases += 1;
    }
    println!("{cases} histories: {counted} acts count, {void} are void, {refused} are refused");
    assert!(void * 50 > counted && refused > 0, "nothing was contested");
}

#[test]
fn any_order_any_number_of_times_gives_the_same() {
    let seed = seed();
    for case in 0..150 {
        let script = history(seed.wrapping_add(case));
        let mut random = Random::new(seed ^ case);
        let expected = script.authority();
        // The first acts alone, and with them what the others make of them later.
        let some = random.below(ACTS);
        for order in 0..4 {
            let mut acts = script.acts.clone();
            random.shuffle(&mut acts);
            let mut room = RoomActs::new(devices_of, 8192);
            for (number, done) in acts.iter().enumerate() {
                assert!(room.add(done.held()));
                assert!(!room.add(acts[random.below(number + 1)].held()));
                if number == some || random.chance(20) {
                    room.authority();
                    room.heads(&done.by.feed());
                }
            }
            assert_eq!(room.authority(), expected, "case {case}, order {order}");
        }
    }
}

/// Verdicts on the first acts of a history.
fn verdicts(script: &Script, first: usize) -> Vec<Verdict> {
    let authority = script.authority();
    let acts = script.acts[..first].iter();
    acts.map(|done| authority.acts[&done.hash].verdict.clone())
        .collect()
}

/// Whoever has seen everything gives somebody a role, or removes somebody: nothing that is past comes to
/// anything else by it.
#[test]
fn what_somebody_says_after_everything_changes_nothing_of_it() {
    let seed = seed();
    let end = soak::Deadline::new();
    let (mut cases, mut said) = (0, 0);
    while cases < CASES / 10 || soak::is_on() && !end.is_past() {
        let script = history_of_devices(seed.wrapping_add(cases), cases % 2 == 1);
        let (mut random, acts) = (Random::new(seed ^ cases), script.acts.len());
        let before = verdicts(&script, acts);
        let is_named = |at: &usize| match &before[*at] {
            Verdict::Counts => true,
            Verdict::Void(void) => void.why != VoidReason::Skips,
            _ => false,
        };
        let named: Vec<usize> = (0..acts).filter(is_named).collect();
        let is_head = |at: &usize| {
            !named
                .iter()
                .any(|later| script.past(&[*later]).contains(at) && later != at)
        };
        let heads: Vec<usize> = named.iter().copied().filter(is_head).collect();
        let feeds: BTreeSet<Who> = script.acts.iter().map(|done| done.by).collect();
        for by in feeds {
            let agent = random.below(AGENTS) as u8;
            for deed in [
                role(agent, some_role(&mut random)),
                remove(agent, Vec::new()),
            ] {
                let mut then = script.clone();
                let last = then.after(&heads, by, deed);
                let verdict = then.verdict(last);
                if matches!(verdict, Verdict::Refused(_)) {
                    continue;
                }
                said += 1;
                for (at, (is, was)) in verdicts(&then, acts).iter().zip(&before).enumerate() {
                    let same = match (is, was) {
                        // Of several reasons another may be told.
                        (Verdict::Void(_), Verdict::Void(_)) => true,
                        _ => is == was,
                    };
                    assert!(same, "case {cases}: act {at} was {was}\n{}", told(&then));
                }
            }
        }
        cases += 1;
    }
    println!("{said} words after {cases} histories");
    assert!(said > cases / 4, "{said} of {cases}");
}

/// What counts of the first acts, by depth and name, of which as many as the limit are in line or
/// reached from there; of all where these are never as many.
fn of_the_first(script: &Script, limit: usize) -> BTreeSet<ActHash> {
    let mut acts = told_acts(script);
    let depths = Reference::new(&acts, devices_of).depths().to_vec();
    let mut order: Vec<usize> = (0..acts.len()).collect();
    order.sort_by_key(|at| (depths[*at], acts[*at].hash));
    acts = order.into_iter().map(|at| acts[at].clone()).collect();
    let is_full = |most: &usize| {
        let first = Reference::new(&acts[..*most], devices_of);
        first.evaluated().len() >= limit
    };
    let most = (1..acts.len()).find(is_full).unwrap_or(acts.len());
    let first = Reference::new(&acts[..most], devices_of);
    let outcome = first.outcome(&first.evaluated());
    outcome.counts.into_iter().map(|at| acts[at].hash).collect()
}

#[test]
fn of_more_acts_than_are_evaluated_the_same_ones_are_beyond_in_any_order() {
    let seed = seed();
    for case in 0..60 {
        let script = history(seed.wrapping_add(case));
        let mut random = Random::new(seed ^ case);
        let limit = 1 + random.below(ACTS);
        let mut expected = None;
        for order in 0..4 {
            let mut acts = script.acts.clone();
            random.shuffle(&mut acts);
            let mut room = RoomActs::new(devices_of, limit);
            for done in &acts {
                room.add(done.held());
                if random.chance(20) {
                    room.authority();
                }
            }
            let authority = room.authority();
            let beyond = authority
                .acts
                .values()
                .filter(|row| row.verdict == Verdict::Beyond);
            // What is out of line is of account only where something in line reaches it.
            let (mut in_line, mut all) = (0, 0);
            for row in authority.acts.values().filter(|row| row.agent.is_some()) {
                let is_skip = |void: &Void| void.why == VoidReason::Skips;
                match &row.verdict {
                    Verdict::Void(void) if is_skip(void) => all += 1,
                    Verdict::Counts | Verdict::Void(_) => (in_line, all) = (in_line + 1, all + 1),
                    _ => {}
                }
            }
            assert!(in_line <= limit, "{in_line} of {limit}");
            assert!(all >= limit || beyond.count() == 0, "{all} of {limit}");
            let counting = authority.acts.iter();
            let counting = counting.filter(|(_, row)| row.verdict.counts());
            let counting: BTreeSet<ActHash> = counting.map(|(hash, _)| *hash).collect();
            assert_eq!(
                counting,
                of_the_first(&script, limit),
                "case {case}, limit {limit}"
            );
            let expected = expected.get_or_insert(authority.clone());
            for (hash, row) in &authority.acts {
                assert_eq!(
                    *row, expected.acts[hash],
                    "case {case}, limit {limit}, order {order}"
                );
            }
            assert_eq!(*expected, authority, "order {order}");
        }
    }
}

/// How fast that is, the benchmark `authority_2000_ms` measures.
#[test]
fn two_thousand_acts_of_people_who_hear_late_come_to_the_same_back_to_front() {
    let script = late_history(7, 2_000);
    let authority = script.authority();
    let void = authority
        .acts
        .values()
        .filter(|row| matches!(row.verdict, Verdict::Void(_)));
    let counting = authority
        .acts
        .values()
        .filter(|row| row.verdict.counts())
        .count();
    let void = void.count();
    assert!(void >= 5 && counting > 500, "{void} void, {counting} count");
    let mut room = RoomActs::new(devices_of, 8192);
    for act in script.acts.iter().map(Done::held).rev() {
        room.add(act);
    }
    assert_eq!(room.authority(), authority);
}

/// Rooms seldom hang on it, so it is arranged: two of one rank use up an invite at one depth.
#[test]
fn acts_of_one_rank_and_depth_come_to_the_same_in_whatever_order_they_came() {
    let (mut script, last) = room_of_three(Role::Admin, Role::Member);
    let other = script.after(&[last], ADA, device_join(Who(1, 1, 0)));
    let made = script.after(&[other], OWNER, invite(1, Role::Member, Some(1), None));
    let one = script.after(&[made], ADA, admit_by(CLEO, Role::Member, 1));
    let two = script.after(
        &[made],
        Who(1, 1, 0),
        admit_by(Who(4, 0, 0), Role::Member, 1),
    );
    let let_in = |first: usize, then: usize| {
        let mut room = RoomActs::new(devices_of, 8192);
        for number in (0..=made).chain([first, then]) {
            room.add(script.acts[number].held());
        }
        let acts = room.authority().acts;
        [one, two].map(|number| acts[&script.acts[number].hash].verdict.counts())
    };
    assert_eq!(let_in(one, two), let_in(two, one));
    make(Some(Mistake::TieByArrival));
    let noticed = let_in(one, two) != let_in(two, one);
    make(None);
    assert!(noticed, "nobody noticed that the order of coming decided");
}
