//! Attacks on the rules of rooms, each by its name: what the attacker wants, and gets not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::acts::*;
use crate::world::Random;
use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, blake2b_256};
use kinlog_indexer::authority::{Authority, Devices, Refusal, RoomActs, Verdict, VoidReason};
use kinlog_indexer::entry::{ActHash, Deed, Parents, Role};

/// What acts come to beside what is said of each.
fn without_acts(mut authority: Authority) -> Authority {
    authority.acts.clear();
    authority
}

/// An announcement of an epoch with a number of its own.
fn some_epoch(number: u32) -> Deed {
    let mut deed = epoch(0, &[], &[]);
    if let Deed::Epoch(epoch) = &mut deed {
        epoch.id.0[..4].copy_from_slice(&number.to_le_bytes());
        epoch.act_id.0[12..].copy_from_slice(&number.to_le_bytes());
    }
    deed
}

/// As many acts of Ben, a guest, at small depths: each beside the others at the second place of his
/// feed, or after one such, or with a number that is not its own.
fn flood(script: &Script, last: usize, own: usize, acts: u32) -> Vec<Done> {
    let mut flood: Vec<Done> = Vec::new();
    for number in 0..acts {
        let before = &script.acts[own];
        let (after, seq) = match (number % 3, flood.last()) {
            (0, _) | (_, None) => (before.hash, 1),
            (1, Some(one)) => (one.hash, 2),
            _ => (script.acts[last].hash, 7),
        };
        let mut done = before.clone();
        done.hash = ActHash(blake2b_256(&[b"flood", &number.to_le_bytes()]));
        done.index = 1_000 + u64::from(number);
        done.act.parents = Parents::new([after], None);
        done.act.seq = seq;
        done.act.deed = some_epoch(1_000_000 + number);
        flood.push(done);
    }
    flood
}

#[test]
fn ten_thousand_acts_of_a_guest_push_out_nothing() {
    let (mut script, last) = room_of_three(Role::Admin, Role::Guest);
    let own = script.after(&[last], BEN, some_epoch(0));
    let line = script.after(&[own], BEN, some_epoch(1));
    let mut deep = line;
    for number in 0..200 {
        deep = script.after(&[deep], OWNER, some_epoch(2 + number));
    }
    // A room that is full at 300.
    let quiet = {
        let mut room = RoomActs::new(devices_of, 300);
        script
            .acts
            .iter()
            .for_each(|done| assert!(room.add(done.held())));
        room.authority()
    };
    assert!(quiet.acts[&script.acts[deep].hash].verdict.counts());
    let flood = flood(&script, last, own, 10_000);
    let mut random = Random::new(7);
    let mut expected = None;
    for order in 0..3 {
        let mut acts: Vec<&Done> = match order {
            0 => script.acts.iter().chain(&flood).collect(),
            _ => flood.iter().chain(&script.acts).collect(),
        };
        if order == 2 {
            random.shuffle(&mut acts);
        }
        let mut room = RoomActs::new(devices_of, 300);
        for (number, done) in acts.into_iter().enumerate() {
            room.add(done.held());
            if number % 997 == 0 {
                room.authority();
            }
        }
        let authority = room.authority();
        for done in &script.acts {
            assert_eq!(authority.acts[&done.hash], quiet.acts[&done.hash]);
        }
        for done in &flood {
            let verdict = &authority.acts[&done.hash].verdict;
            let is_out = matches!(verdict, Verdict::Void(void) if void.why == VoidReason::Skips);
            assert!(
                is_out || matches!(verdict, Verdict::Refused(_)),
                "{verdict}"
            );
        }
        assert_eq!(without_acts(authority.clone()), without_acts(quiet.clone()));
        assert_eq!(*expected.get_or_insert(authority.clone()), authority);
        // Whoever goes on writes after what counts.
        let heads = room.heads(&OWNER.feed());
        assert_eq!(heads.heads, [script.acts[deep].hash]);
        assert_eq!(room.heads(&BEN.feed()).seq, 2);
    }
}

#[test]
fn what_others_named_before_they_saw_its_feeds_line_is_evaluated_after_a_flood() {
    let (mut script, last) = room_of_three(Role::Admin, Role::Guest);
    let own = script.after(&[last], BEN, some_epoch(0));
    // Ben shows Ada another second act than the one that he wrote first.
    let line = script.after(&[own], BEN, some_epoch(1));
    let other = script.after(&[own], BEN, grant_revoke(9));
    script.acts[other].act.deed = some_epoch(2);
    let after = script.after(&[other], BEN, some_epoch(3));
    let flood = flood(&script, last, own, 3_000);
    let of_ada = script.after(&[after], ADA, invite(1, Role::Guest, None, None));
    let settled = script.after(&[of_ada, line], OWNER, some_epoch(4));
    let mut authorities = Vec::new();
    for at in [0, 1_000, 3_000] {
        let mut room = RoomActs::new(devices_of, 300);
        flood[..at]
            .iter()
            .for_each(|done| assert!(room.add(done.held())));
        script.acts[..of_ada]
            .iter()
            .for_each(|done| assert!(room.add(done.held())));
        flood[at..]
            .iter()
            .for_each(|done| assert!(room.add(done.held())));
        room.authority();
        script.acts[of_ada..]
            .iter()
            .for_each(|done| assert!(room.add(done.held())));
        authorities.push(room.authority());
    }
    assert!(authorities.iter().all(|other| *other == authorities[0]));
    let verdict = |number: usize| {
        authorities[0].acts[&script.acts[number].hash]
            .verdict
            .clone()
    };
    for number in [line, of_ada, settled] {
        assert!(verdict(number).counts(), "{}", verdict(number));
    }
    assert!(matches!(verdict(other), Verdict::Void(_)));
    assert_eq!(void(&script, after), VoidReason::Skips);
}

#[test]
fn who_leaves_does_nothing_at_the_same_time_with_another_device() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let other = Who(1, 1, 0);
    let joined = room.after(&[last], ADA, device_join(other));
    // The other device, at small depths, goes on as if it knew nothing of the leaving, for ever.
    let friend = room.after(&[joined], other, admit(Who(3, 0, 0), Role::Admin));
    let helper = room.after(&[friend], Who(3, 0, 0), remove(2, Vec::new()));
    let mut deep = joined;
    for number in 0..5 {
        deep = room.after(&[deep], OWNER, some_epoch(number));
    }
    let left = room.after(&[deep], ADA, leave(vec![cut(ADA.feed(), 3)]));
    assert!(room.verdict(left).counts());
    assert_eq!(void(&room, friend), VoidReason::Left);
    assert_eq!(void(&room, helper), VoidReason::Left);
    // Two leavings at the same time are one leaving.
    let also = room.after(&[joined], other, leave(vec![cut(ADA.feed(), 2)]));
    assert!(room.verdict(left).counts() && !room.verdict(also).counts());
    let mut both = room.clone();
    both.acts.truncate(friend);
    let left = both.after(&[joined], ADA, leave(vec![cut(ADA.feed(), 3)]));
    let also = both.after(&[joined], other, leave(vec![cut(ADA.feed(), 2)]));
    assert!(both.verdict(left).counts() && both.verdict(also).counts());
    assert_eq!(both.authority().feeds[&ADA.feed()].shown_below(), 2);
    assert_eq!((room.role(1), room.role(2)), (None, Some(Role::Member)));
}

#[test]
fn who_lowers_itself_keeps_no_power_with_another_device() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let other = Who(1, 1, 0);
    let joined = room.after(&[last], ADA, device_join(other));
    let sharp = room.after(&[joined], other, remove(2, Vec::new()));
    let mild = room.after(&[joined, sharp], other, invite(1, Role::Guest, None, None));
    let down = room.after(&[joined], ADA, role(1, Role::Member));
    assert!(room.verdict(down).counts());
    assert_eq!(void(&room, sharp), VoidReason::Demoted);
    assert_eq!(void(&room, mild), VoidReason::Demoted);
    assert_eq!(
        (room.role(1), room.role(2)),
        (Some(Role::Member), Some(Role::Member))
    );
}

#[test]
fn who_left_can_still_be_removed_and_cut_by_who_could_before() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Admin);
    let left = room.after(&[last], ADA, leave(vec![cut(ADA.feed(), 9)]));
    // Ben is the younger admin: what he could not do before he cannot do now.
    let by_lower = room.after(&[left], BEN, remove(1, Vec::new()));
    let agent = ADA.agent();
    let refused = Verdict::Refused(Refusal::HigherRank { agent });
    assert_eq!(room.verdict(by_lower), refused);
    let ended = room.after(&[left], OWNER, remove(1, vec![cut(ADA.feed(), 4)]));
    assert!(room.verdict(ended).counts());
    assert_eq!(room.authority().feeds[&ADA.feed()].shown_below(), 4);
    // Once, not twice; and nobody removes who never was here.
    for agent in [1, 4] {
        let again = room.after(&[ended], OWNER, remove(agent, Vec::new()));
        let agent = Who(agent, 0, 0).agent();
        let refused = Verdict::Refused(Refusal::NoTarget { agent });
        assert_eq!(room.verdict(again), refused);
    }
}

#[test]
fn nobody_takes_back_years_later_what_the_own_device_did() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let tool = Who(1, 1, 0);
    let cleo = Who(3, 0, 0);
    let joined = room.after(&[last], ADA, device_join(tool));
    let friend = room.after(&[joined], tool, admit(cleo, Role::Member));
    let stands = room.after(&[friend], cleo, epoch(1, &[], &[]));
    // Years later Ada's phrase says that she never had the device with which she let Cleo in.
    let mut late = stands;
    for number in 0..5 {
        late = room.after(&[late], OWNER, some_epoch(number));
    }
    let truth = device_revoke(ADA, &[(1, Said::NeverAdded)], Vec::new());
    let truth = room.after(&[late], OWNER, truth);
    for number in [joined, friend, stands, truth] {
        assert!(room.verdict(number).counts(), "{}", room.verdict(number));
    }
    assert_eq!(room.role(3), Some(Role::Member));
    // The device is out, and what it does beside that act does not count, whoever names it later.
    let beside = room.after(&[stands], tool, remove(3, Vec::new()));
    let named = room.after(&[beside], BEN, epoch(2, &[], &[]));
    let more = Who(1, 2, 0);
    let again = room.after(&[truth, named], OWNER, admit(more, Role::Guest));
    assert_eq!(void(&room, beside), VoidReason::NeverDevice);
    assert!(room.verdict(named).counts() && room.verdict(again).counts());
    assert_eq!(room.role(3), Some(Role::Member));
    assert!(!room.authority().feeds[&tool.feed()].is_live());
}

#[test]
fn nobody_revokes_a_device_of_a_higher_rank_and_hides_its_history() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Admin);
    // The devices are revoked, as their agents' statements say; the cuts are the revoker's.
    for (target, agent) in [(OWNER, 0), (ADA, 1)] {
        let mut room = room.clone();
        let act = room.after(&[last], BEN, device_revoke(target, &[], Vec::new()));
        let agent = Who(agent, 0, 0).agent();
        let refused = match room.verdict(act) {
            Verdict::Refused(Refusal::HigherRank { agent: named }) => named == agent,
            Verdict::Refused(Refusal::Role { needed, .. }) => needed == Role::Owner,
            other => panic!("{other}"),
        };
        assert!(refused && room.authority().feeds[&target.feed()].is_live());
    }
    let by_higher = device_revoke(BEN, &[], vec![cut(BEN.feed(), 3)]);
    let by_higher = room.after(&[last], ADA, by_higher);
    assert!(room.verdict(by_higher).counts());
    assert_eq!(room.authority().feeds[&BEN.feed()].shown_below(), 3);
}

#[test]
fn what_others_cut_of_a_device_gives_way_to_what_its_agent_cuts() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let sibling = Who(2, 1, 0);
    let joined = room.after(&[last], BEN, device_join(sibling));
    // Ada hides all of it; Ben's other device knows how much of it is Ben's.
    room.after(&[joined], ADA, device_revoke(BEN, &[], Vec::new()));
    assert_eq!(room.authority().feeds[&BEN.feed()].shown_below(), 0);
    let own = device_revoke(BEN, &[(1, Said::Added)], vec![cut(BEN.feed(), 7)]);
    let own = room.after(&[joined], sibling, own);
    let row = room.authority().feeds[&BEN.feed()].cut.unwrap();
    assert_eq!((row.cut.length, row.by), (7, room.acts[own].hash));
    // A removal is another matter: its cut holds whatever the agent says of its devices.
    room.after(&[own], OWNER, remove(2, vec![cut(BEN.feed(), 2)]));
    assert_eq!(room.authority().feeds[&BEN.feed()].shown_below(), 2);
}

thread_local! {
    /// How often identity sets were evaluated.
    static EVALUATED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn counted_devices_of(agent: &AgentId, sets: &[&Bytes]) -> Devices {
    EVALUATED.set(EVALUATED.get() + 1);
    devices_of(agent, sets)
}

#[test]
fn a_device_is_revoked_once_and_doing_it_again_costs_nobody_the_evaluation_of_a_set() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Guest);
    let (sibling, third) = (Who(2, 1, 0), Who(2, 2, 0));
    let joined = room.after(&[last], BEN, device_join(sibling));
    let revoked = device_revoke(BEN, &[(1, Said::Added)], vec![cut(BEN.feed(), 1)]);
    let revoked = room.after(&[joined], sibling, revoked);
    let mut again = Vec::new();
    for number in 0..200u8 {
        // Each with another set, of devices that were, never came, or are another's.
        let said = [(1, Said::Added), (3 + number % 12, Said::Added)];
        let target = [BEN, third, Who(4, number % 3, 0)][usize::from(number) % 3];
        let by = if number % 2 == 0 { sibling } else { ADA };
        again.push(room.after(&[revoked], by, device_revoke(target, &said, Vec::new())));
    }
    let evaluated = |script: &Script| {
        let mut acts = RoomActs::new(counted_devices_of, 8192);
        let before = EVALUATED.get();
        script
            .acts
            .iter()
            .for_each(|done| assert!(acts.add(done.held())));
        (acts.authority(), EVALUATED.get() - before)
    };
    let mut quiet = room.clone();
    quiet.acts.truncate(again[0]);
    let (expected, few) = evaluated(&quiet);
    let (authority, many) = evaluated(&room);
    assert_eq!(many, few);
    assert_eq!(without_acts(authority), without_acts(expected));
    for number in again {
        let refused = Verdict::Refused(Refusal::NotLive);
        assert_eq!(room.verdict(number), refused);
    }
}

#[test]
fn two_branches_of_one_feed_come_to_the_same_in_whatever_order_they_are_seen() {
    let (mut script, last) = room_of_three(Role::Admin, Role::Member);
    // Ada's key signs two histories from one place on; some saw the one, some the other.
    let one = script.after(&[last], ADA, admit(Who(3, 0, 0), Role::Member));
    let more = script.after(&[one], ADA, invite(1, Role::Guest, None, None));
    let other = script.after(&[last], ADA, role(2, Role::Guest));
    let beyond = script.after(&[other], ADA, invite(2, Role::Guest, None, None));
    (script.acts[other].index, script.acts[beyond].index) = (0, 1);
    let saw_one = script.after(&[more], OWNER, some_epoch(1));
    let saw_other = script.after(&[other], BEN, some_epoch(2));
    let mut random = Random::new(11);
    let expected = script.authority();
    for _ in 0..20 {
        let mut acts = script.acts.clone();
        random.shuffle(&mut acts);
        let mut room = RoomActs::new(devices_of, 8192);
        for done in &acts {
            assert!(room.add(done.held()));
            room.authority();
        }
        assert_eq!(room.authority(), expected);
    }
    // One of the two is in line, with what follows it; what stands on neither stands.
    let counts = |number: usize| script.verdict(number).counts();
    assert!(counts(one) == counts(more) && counts(other) == counts(beyond));
    assert!(counts(one) != counts(other));
    assert!(counts(saw_one));
    assert_eq!(counts(saw_other), counts(other), "his role stands on it");
}

#[test]
fn a_role_given_once_more_lowers_nobody() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Admin);
    let same = room.after(&[last], BEN, role(1, Role::Admin));
    let higher = Refusal::HigherRank { agent: ADA.agent() };
    assert_eq!(room.verdict(same), Verdict::Refused(higher.clone()));
    let out = room.after(&[last], BEN, remove(1, Vec::new()));
    assert_eq!(room.verdict(out), Verdict::Refused(higher));
    assert_eq!(room.role(1), Some(Role::Admin));
}

#[test]
fn who_was_demoted_and_then_removed_does_nothing_more_in_the_old_rank() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Admin);
    let link = room.after(&[last], ADA, invite(1, Role::Member, None, None));
    let down = room.after(&[link], OWNER, role(1, Role::Member));
    room.after(&[down], BEN, remove(1, Vec::new()));
    let sock = room.after(&[link], ADA, admit_by(Who(3, 0, 0), Role::Member, 1));
    assert_eq!(void(&room, sock), VoidReason::Demoted);
    assert_eq!(room.role(3), None);
}

/// Two feeds of a guest with branches that were laid aside: an act that reaches one of them brings back
/// what goes after both.
#[test]
fn branches_of_two_feeds_that_were_laid_aside_come_back_together() {
    const LIMIT: usize = 6;
    let (mut room, last) = room_of_three(Role::Guest, Role::Guest);
    room.after(&[last], ADA, some_epoch(1));
    room.after(&[last], BEN, some_epoch(2));
    let ada = room.after(&[last], ADA, some_epoch(3));
    let ben = room.after(&[last], BEN, some_epoch(4));
    // More than are kept that nobody names.
    for number in 0..3 * LIMIT as u32 {
        room.after(&[last], ADA, some_epoch(10 + number));
    }
    let both = room.after(&[ada, ben], ADA, some_epoch(5));
    let one = room.after(&[ada], BEN, some_epoch(6));
    let mut acts = RoomActs::new(devices_of, LIMIT);
    for done in &room.acts {
        acts.add(done.held());
    }
    let authority = acts.authority();
    for at in [ada, ben, both, one] {
        let verdict = &authority.acts[&room.acts[at].hash].verdict;
        assert!(!verdict.counts(), "act {at}: {verdict}");
    }
}

#[test]
fn an_act_that_reaches_a_whole_branch_fills_the_room_there() {
    let mut room = Script::new();
    let ben = room.after(&[0], OWNER, admit(BEN, Role::Guest));
    let line = room.after(&[ben], BEN, some_epoch(1));
    let mut branch = room.with_seq(&[ben], BEN, 1_000, 0, some_epoch(2));
    for number in 3..5 {
        branch = room.after(&[branch], BEN, some_epoch(number));
    }
    let reaches = room.after(&[branch], OWNER, some_epoch(5));
    let next = room.after(&[reaches], OWNER, some_epoch(6));
    let last = room.after(&[next], OWNER, some_epoch(7));
    let mut acts: Vec<&Done> = room.acts.iter().collect();
    let mut random = Random::new(3);
    for _ in 0..8 {
        let mut held = RoomActs::new(devices_of, 6);
        for done in &acts {
            held.add(done.held());
        }
        let authority = held.authority();
        let verdict = |at: usize| authority.acts[&room.acts[at].hash].verdict.clone();
        assert!(verdict(line).counts() && verdict(reaches).counts());
        assert_eq!(
            (verdict(next), verdict(last)),
            (Verdict::Beyond, Verdict::Beyond)
        );
        random.shuffle(&mut acts);
    }
}
