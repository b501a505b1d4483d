//! Devices of which their agent's identity sets say that they never were its own, and acts whose
//! meaning later sets change. Each attack by its name.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::acts::*;
use kinlog_indexer::authority::{Refusal, VoidReason};
use kinlog_indexer::entry::{Deed, DeviceJoin, Role};

/// Of the founder: a device that is stolen, one that the thief adds, one that comes after.
const STOLEN: Who = Who(0, 1, 0);
const THIEFS: Who = Who(0, 2, 0);
const NEW: Who = Who(0, 3, 0);

/// Of Ada: a second device, and two that come to the room later.
const TABLET: Who = Who(1, 1, 0);
const THIRD: Who = Who(1, 2, 0);
const IDLE: Who = Who(1, 3, 0);

const DAN: Who = Who(4, 0, 0);

/// What the founder's sets say: the stolen device is revoked, and what it added was never added.
const OF_THE_THIEF: &[(u8, Said)] = &[
    (1, Said::Added),
    (1, Said::Revoked),
    (2, Said::Added),
    (2, Said::NeverAdded),
];

/// Another device comes in, with a set that says this, too.
fn join_saying(who: Who, said: &[(u8, Said)]) -> Deed {
    Deed::DeviceJoin(DeviceJoin {
        device: who.membership(said),
        epochs: Vec::new(),
    })
}

/// The founder's laptop lets the device in that is stolen, and the thief's comes in by that; returns
/// the last act.
fn room_of_a_thief() -> (Script, usize) {
    let mut room = Script::new();
    let stolen = room.after(&[0], OWNER, device_join(STOLEN));
    let thiefs = room.after(&[stolen], STOLEN, device_join(THIEFS));
    (room, thiefs)
}

fn is_live(room: &Script, who: Who) -> bool {
    room.authority().feeds[&who.feed()].is_live()
}

#[test]
fn a_device_that_a_thief_added_retires_no_device_of_the_one_it_robbed() {
    let (mut room, old) = room_of_a_thief();
    let ada = room.after(&[old], OWNER, admit(ADA, Role::Admin));
    let ben = room.after(&[ada], OWNER, admit(BEN, Role::Member));
    let out = room.after(&[ben], OWNER, remove(2, Vec::new()));
    let said = device_revoke(STOLEN, OF_THE_THIEF, Vec::new());
    let revoked = room.after(&[out], OWNER, said);
    let joined = room.after(&[revoked], OWNER, device_join(NEW));
    let retired = device_revoke(OWNER, OF_THE_THIEF, vec![cut(OWNER.feed(), 900)]);
    let retired = room.after(&[joined], NEW, retired);
    let dan = room.after(&[retired], NEW, admit(DAN, Role::Member));
    // Years later, after nothing but its own coming.
    let deed = device_revoke(OWNER, OF_THE_THIEF, Vec::new());
    let thief = room.after(&[old], THIEFS, deed);
    assert_eq!(void(&room, thief), VoidReason::NeverDevice);
    for stays in [ada, ben, out, revoked, joined, retired, dan] {
        counts(&room, stays);
    }
    assert!(is_live(&room, NEW) && !is_live(&room, STOLEN) && !is_live(&room, THIEFS));
    let cut = room.authority().feeds[&OWNER.feed()].cut.unwrap();
    assert_eq!(cut.cut.length, 900);
    assert_eq!((room.role(2), room.role(4)), (None, Some(Role::Member)));
}

#[test]
fn it_retires_none_where_another_brought_the_next_device_either() {
    let (mut room, old) = room_of_a_thief();
    let ada = room.after(&[old], OWNER, admit(ADA, Role::Owner));
    let said = device_revoke(STOLEN, OF_THE_THIEF, Vec::new());
    let revoked = room.after(&[ada], OWNER, said);
    let new = room.after(&[revoked], ADA, admit(NEW, Role::Owner));
    let retired = device_revoke(OWNER, OF_THE_THIEF, vec![cut(OWNER.feed(), 900)]);
    let retired = room.after(&[new], NEW, retired);
    let deed = device_revoke(OWNER, OF_THE_THIEF, Vec::new());
    let thief = room.after(&[old], THIEFS, deed);
    assert_eq!(void(&room, thief), VoidReason::NeverDevice);
    for stays in [ada, revoked, new, retired] {
        counts(&room, stays);
    }
    assert!(is_live(&room, NEW) && !is_live(&room, STOLEN));
}

#[test]
fn what_all_who_say_that_a_device_never_was_one_knew_of_it_revokes_still() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let joined = room.after(&[last], ADA, device_join(TABLET));
    let beside = room.after(&[joined], ADA, remove(2, Vec::new()));
    let revoked = room.after(&[joined], TABLET, device_revoke(ADA, &[], Vec::new()));
    let said = admit_saying(
        THIRD,
        &[(0, Said::Revoked), (1, Said::Added), (1, Said::NeverAdded)],
    );
    room.after(&[beside, revoked], OWNER, said);
    counts(&room, revoked);
    assert_eq!(void(&room, beside), VoidReason::Revoked);
    assert!(!is_live(&room, TABLET));
}

fn admit_saying(who: Who, said: &[(u8, Said)]) -> Deed {
    let mut deed = admit(who, Role::Member);
    if let Deed::Admit(admit) = &mut deed {
        admit.member = who.membership(said);
    }
    deed
}

/// How somebody says that a device never was one, in a room whose founder admits Ada as admin and Cleo.
/// Ada's laptop lets her tablet in; after that she admits Ben and removes Cleo.
struct Robbed {
    room: Script,
    /// The tablet has come.
    old: usize,
    ben: usize,
    gone: usize,
}

fn robbed() -> Robbed {
    let mut room = Script::new();
    let ada = room.after(&[0], OWNER, admit(ADA, Role::Admin));
    let cleo = room.after(&[ada], OWNER, admit(CLEO, Role::Member));
    let dan = room.after(&[cleo], OWNER, admit(DAN, Role::Member));
    let old = room.after(&[dan], ADA, device_join(TABLET));
    let made = room.after(&[old], DAN, invite(1, Role::Guest, None, None));
    let ben = room.after(&[made], ADA, admit(BEN, Role::Member));
    let gone = room.after(&[ben], ADA, remove(3, Vec::new()));
    Robbed {
        room,
        old: made,
        ben,
        gone,
    }
}

/// Says after `old` that Ada's laptop never was hers: by her tablet, by a member who lets a device of
/// hers in for her.
fn words() -> [(Who, Deed); 2] {
    let said = &[(0, Said::NeverAdded)];
    let mut by_member = admit_by(THIRD, Role::Guest, 1);
    if let Deed::Admit(admit) = &mut by_member {
        admit.member = THIRD.membership(said);
    }
    [(TABLET, join_saying(THIRD, said)), (DAN, by_member)]
}

#[test]
fn a_removed_admin_whose_laptop_never_was_hers_dethrones_nobody_who_was_made_owner_since() {
    for (by, word) in words() {
        let Robbed {
            mut room,
            old,
            ben,
            gone,
        } = robbed();
        let raised = room.after(&[gone], OWNER, role(2, Role::Owner));
        let removed = room.after(&[raised], BEN, remove(1, Vec::new()));
        let eve = room.after(&[removed], BEN, admit(Who(5, 0, 0), Role::Admin));
        let left = room.after(&[eve], OWNER, leave(Vec::new()));
        let work = room.after(&[left], BEN, invite(3, Role::Guest, None, None));
        room.after(&[old], by, word);
        for stays in [ben, gone, raised, removed, eve, left, work] {
            counts(&room, stays);
        }
        let roles = [0, 1, 2, 3, 5].map(|agent| room.role(agent));
        let owner = Some(Role::Owner);
        assert_eq!(roles, [None, None, owner, None, Some(Role::Admin)]);
    }
}

#[test]
fn a_removed_admin_whose_laptop_never_was_hers_brings_nobody_back_whom_it_removed() {
    for (by, word) in words() {
        let Robbed {
            mut room,
            old,
            ben,
            gone,
        } = robbed();
        let raised = room.after(&[gone], OWNER, role(2, Role::Admin));
        let removed = room.after(&[raised], OWNER, remove(1, Vec::new()));
        let eve = room.after(&[removed], BEN, admit(Who(5, 0, 0), Role::Member));
        room.after(&[old], by, word);
        for stays in [ben, gone, raised, removed, eve] {
            counts(&room, stays);
        }
        assert_eq!(room.role(3), None);
    }
}

#[test]
fn what_a_thiefs_device_did_is_taken_back_but_for_whom_another_vouched_for() {
    for (by, word) in words() {
        let Robbed {
            mut room,
            old,
            ben,
            gone,
        } = robbed();
        // Both are admitted by what never was Ada's; the founder gave one of them a role since.
        let eve = room.after(&[gone], ADA, admit(Who(5, 0, 0), Role::Admin));
        let by_eve = room.after(&[eve], Who(5, 0, 0), role(2, Role::Admin));
        let vouched = room.after(&[ben], OWNER, role(2, Role::Guest));
        room.after(&[old], by, word);
        for taken in [gone, eve, by_eve] {
            assert_eq!(void(&room, taken), VoidReason::NeverDevice, "act {taken}");
        }
        counts(&room, ben);
        counts(&room, vouched);
        let roles = [1, 2, 3, 5].map(|agent| room.role(agent));
        let member = Some(Role::Member);
        assert_eq!(roles, [Some(Role::Admin), Some(Role::Guest), member, None]);
        assert!(!is_live(&room, ADA));
    }
}

#[test]
fn a_higher_rank_that_says_so_takes_back_whom_another_vouched_for_too() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Admin);
    let thiefs = room.after(&[last], ADA, device_join(TABLET));
    let eve = room.after(&[thiefs], TABLET, admit(CLEO, Role::Member));
    let vouched = room.after(&[eve], BEN, role(3, Role::Admin));
    let word = device_revoke(ADA, &[(1, Said::NeverAdded)], Vec::new());
    let word = room.after(&[last], OWNER, word);
    counts(&room, word);
    for taken in [thiefs, eve, vouched] {
        assert_eq!(void(&room, taken), VoidReason::NeverDevice, "act {taken}");
    }
    assert_eq!(room.role(3), None);
}

#[test]
fn who_is_given_a_role_has_no_device_by_it_that_never_was_one() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let old = room.after(&[last], ADA, device_join(IDLE));
    let thiefs = room.after(&[old], ADA, device_join(TABLET));
    let act = room.after(&[thiefs], TABLET, remove(2, Vec::new()));
    let raised = room.after(&[act], OWNER, role(1, Role::Owner));
    room.after(&[old], IDLE, join_saying(THIRD, &[(1, Said::NeverAdded)]));
    counts(&room, raised);
    assert_eq!(void(&room, act), VoidReason::NeverDevice);
    assert!(!is_live(&room, TABLET));
    assert_eq!(room.role(2), Some(Role::Member));
}

/// Ada's laptop removes Ben and lets Eve in, beside a revocation of the laptop by her tablet; the founder has
/// seen that, makes Ben owner, removes Ada and leaves, and Ben lets Cleo in.
struct Unsaid {
    room: Script,
    old: usize,
    by_laptop: [usize; 2],
    revoked: usize,
    since: Vec<usize>,
}

/// What Ada's laptop did is void, what came after it counts, and Ben goes on as owner.
fn nothing_came_of_it(room: &mut Script, by_laptop: [usize; 2], since: &[usize]) {
    for stays in since {
        counts(room, *stays);
    }
    for taken in by_laptop {
        assert!(!room.verdict(taken).counts(), "act {taken}");
    }
    let roles = [2, 3, 5].map(|agent| room.role(agent));
    assert_eq!(roles, [Some(Role::Owner), Some(Role::Admin), None]);
    assert!(is_live(room, BEN));
    let last = *since.last().unwrap();
    let next = room.after(&[last], BEN, invite(1, Role::Guest, None, None));
    counts(room, next);
}

fn unsaid(revocation: impl FnOnce(&mut Script, usize) -> usize) -> Unsaid {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let tablet = room.after(&[last], ADA, device_join(TABLET));
    let old = room.after(&[tablet], ADA, device_join(IDLE));
    let gone = room.after(&[old], ADA, remove(2, Vec::new()));
    let eve = room.after(&[gone], ADA, admit(Who(5, 0, 0), Role::Member));
    let revoked = revocation(&mut room, old);
    let raised = room.after(&[eve, revoked], OWNER, role(2, Role::Owner));
    let removed = room.after(&[raised], OWNER, remove(1, Vec::new()));
    let left = room.after(&[removed], OWNER, leave(Vec::new()));
    let work = room.after(&[left], BEN, admit(CLEO, Role::Admin));
    Unsaid {
        room,
        old,
        by_laptop: [gone, eve],
        revoked,
        since: vec![raised, removed, left, work],
    }
}

fn by_tablet(room: &mut Script, old: usize) -> usize {
    room.after(&[old], TABLET, device_revoke(ADA, &[], Vec::new()))
}

#[test]
fn a_removed_admins_idle_device_that_revokes_the_one_that_revoked_silences_nobody() {
    let Unsaid {
        mut room,
        old,
        by_laptop,
        revoked,
        since,
    } = unsaid(by_tablet);
    let word = room.after(&[old], IDLE, device_revoke(TABLET, &[], Vec::new()));
    counts(&room, word);
    assert_eq!(void(&room, revoked), VoidReason::Revoked);
    assert_eq!(void(&room, by_laptop[0]), VoidReason::WasVoid);
    nothing_came_of_it(&mut room, by_laptop, &since);
}

#[test]
fn nor_does_who_drops_the_device_that_revoked() {
    let mut dan = 0;
    let Unsaid {
        mut room,
        by_laptop,
        revoked,
        since,
        ..
    } = unsaid(|room, old| {
        dan = room.after(&[old], OWNER, admit(DAN, Role::Owner));
        room.after(&[dan], TABLET, device_revoke(ADA, &[], Vec::new()))
    });
    // The laptop was revoked after the tablet, as the sets have it.
    let dropped = room.after(&[dan], DAN, device_revoke(TABLET, &[], Vec::new()));
    counts(&room, dropped);
    assert_eq!(void(&room, revoked), VoidReason::Revoked);
    nothing_came_of_it(&mut room, by_laptop, &since);
}

#[test]
fn nor_does_another_branch_of_the_feed_that_revoked() {
    let Unsaid {
        mut room,
        old,
        by_laptop,
        revoked,
        since,
    } = unsaid(by_tablet);
    // What is itself void is in line nevertheless.
    let branch = room.after(&[old], TABLET, invite(7, Role::Guest, None, None));
    // In the place of the revocation, and before it.
    room.acts[branch].index = room.acts[revoked].index;
    room.acts[branch].hash.0 = [0; 32];
    assert_eq!(void(&room, revoked), VoidReason::Skips);
    nothing_came_of_it(&mut room, by_laptop, &since);
}

#[test]
fn nor_does_a_friend_who_takes_the_revocation_back_that_was_the_friends() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let dan = room.after(&[last], OWNER, admit(DAN, Role::Owner));
    let idle = room.after(&[dan], DAN, device_join(Who(4, 1, 0)));
    let gone = room.after(&[idle], ADA, remove(2, Vec::new()));
    let revoked = room.after(&[idle], DAN, device_revoke(ADA, &[], Vec::new()));
    let raised = room.after(&[gone, revoked], OWNER, role(2, Role::Owner));
    let removed = room.after(&[raised], OWNER, remove(1, Vec::new()));
    assert_eq!(void(&room, gone), VoidReason::Revoked);
    let word = room.after(&[idle], Who(4, 1, 0), device_revoke(DAN, &[], Vec::new()));
    counts(&room, word);
    assert_eq!(void(&room, revoked), VoidReason::Revoked);
    assert_eq!(void(&room, gone), VoidReason::WasVoid);
    counts(&room, raised);
    counts(&room, removed);
    assert!(is_live(&room, BEN));
}

/// An admin who heard nothing of it gives Ada a role, years later on old parents.
#[test]
fn nor_does_a_lower_rank_that_knew_what_the_laptop_did_and_not_that_it_was_void() {
    let mut room = Script::new();
    let dan = room.after(&[0], OWNER, admit(DAN, Role::Admin));
    let ada = room.after(&[dan], OWNER, admit(ADA, Role::Admin));
    let ben = room.after(&[ada], OWNER, admit(BEN, Role::Member));
    let old = room.after(&[ben], ADA, device_join(TABLET));
    let gone = room.after(&[old], ADA, remove(2, Vec::new()));
    let revoked = by_tablet(&mut room, old);
    let raised = room.after(&[gone, revoked], OWNER, role(2, Role::Owner));
    let removed = room.after(&[raised], OWNER, remove(1, Vec::new()));
    let left = room.after(&[removed], OWNER, leave(Vec::new()));
    let work = room.after(&[left], BEN, admit(CLEO, Role::Admin));
    room.after(&[gone], DAN, role(1, Role::Member));
    assert!(!room.verdict(gone).counts());
    for stays in [raised, removed, left, work] {
        counts(&room, stays);
    }
    assert!(is_live(&room, BEN));
    let next = room.after(&[work], BEN, invite(1, Role::Guest, None, None));
    counts(&room, next);
}

#[test]
fn what_a_thief_voided_of_an_admin_who_was_lowered_for_it_comes_back() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let tablet = room.after(&[last], ADA, device_join(TABLET));
    let old = room.after(&[tablet], ADA, device_join(IDLE));
    let cleo = room.after(&[old], ADA, admit(CLEO, Role::Member));
    let thief = by_tablet(&mut room, old);
    let lowered = room.after(&[cleo, thief], OWNER, role(1, Role::Member));
    assert_eq!(void(&room, cleo), VoidReason::Revoked);
    room.after(&[old], IDLE, join_saying(THIRD, &[(0, Said::NotRevoked)]));
    counts(&room, cleo);
    counts(&room, lowered);
}

#[test]
fn who_was_made_admin_takes_back_nothing_that_counted_then_by_a_removed_friends_word() {
    let eve = Who(5, 0, 0);
    let mut room = Script::new();
    let made = room.after(&[0], OWNER, admit(eve, Role::Admin));
    let old = room.after(&[made], OWNER, admit(ADA, Role::Member));
    let key = room.after(&[old], ADA, invite(1, Role::Member, None, None));
    let cleo = room.after(&[key], ADA, admit_by(CLEO, Role::Member, 1));
    let ben = room.after(&[cleo], OWNER, admit(BEN, Role::Admin));
    room.after(&[ben], OWNER, remove(5, Vec::new()));
    let friend = room.after(&[old], eve, role(1, Role::Guest));
    let removed = room.after(&[ben, friend], BEN, remove(1, Vec::new()));
    counts(&room, removed);
    assert_eq!(void(&room, friend), VoidReason::Removed);
    for stays in [key, cleo] {
        counts(&room, stays);
    }
    assert_eq!(room.role(3), Some(Role::Member));
}

/// The founder left, and another owner lowered itself beside that: the founder stays, and goes on.
#[test]
fn who_stayed_as_the_last_owner_and_went_on_stays_whatever_a_removed_member_says() {
    let mut room = Script::new();
    let ben = room.after(&[0], OWNER, admit(BEN, Role::Owner));
    let cleo = room.after(&[ben], OWNER, admit(CLEO, Role::Member));
    let left = room.after(&[cleo], OWNER, leave(Vec::new()));
    let lowered = room.after(&[cleo], BEN, role(2, Role::Admin));
    let removed = room.after(&[left, lowered], OWNER, remove(2, Vec::new()));
    assert_eq!(void(&room, left), VoidReason::LastOwner);
    let raised = room.after(&[removed], OWNER, role(3, Role::Owner));
    let work = room.after(&[raised], OWNER, admit(ADA, Role::Member));
    room.after(&[lowered], BEN, invite(1, Role::Guest, None, None));
    assert_eq!(void(&room, left), VoidReason::LastOwner);
    for stays in [removed, raised, work] {
        counts(&room, stays);
    }
    assert!(is_live(&room, OWNER));
    assert_eq!(room.role(0), Some(Role::Owner));
}

#[test]
fn a_friend_who_brings_back_a_leaving_that_the_removal_saw_void_takes_back_nobody_by_it() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let dan = room.after(&[last], OWNER, admit(DAN, Role::Owner));
    let idle = room.after(&[dan], DAN, device_join(Who(4, 1, 0)));
    let old = room.after(&[idle], ADA, device_join(TABLET));
    let cleo = room.after(&[old], ADA, admit(CLEO, Role::Admin));
    let left = room.after(&[old], TABLET, leave(Vec::new()));
    let dropped = room.after(&[old], DAN, device_revoke(TABLET, &[], Vec::new()));
    let removed = room.after(&[cleo, left, dropped], OWNER, remove(1, Vec::new()));
    assert_eq!(void(&room, left), VoidReason::Revoked);
    room.after(&[old], Who(4, 1, 0), device_revoke(DAN, &[], Vec::new()));
    assert_eq!(void(&room, dropped), VoidReason::Revoked);
    counts(&room, cleo);
    counts(&room, removed);
    assert_eq!(room.role(3), Some(Role::Admin));
}

#[test]
fn a_removed_admin_unsays_no_revocation_and_silences_nobody() {
    let by_founder =
        |room: &mut Script, old| room.after(&[old], OWNER, device_revoke(ADA, &[], Vec::new()));
    // The founder's is not after its own admissions; what the word says of it is the same.
    let revocations: [fn(&mut Script, usize) -> usize; 2] = [by_tablet, by_founder];
    let words = [
        vec![(0, Said::NotRevoked)],
        vec![(1, Said::Added), (1, Said::NeverAdded)],
        vec![(0, Said::NeverAdded), (1, Said::NeverAdded)],
    ];
    for revocation in revocations {
        for word in &words {
            let Unsaid {
                mut room,
                old,
                by_laptop,
                revoked,
                since,
            } = unsaid(revocation);
            counts(&room, revoked);
            room.after(&[old], IDLE, join_saying(THIRD, word));
            nothing_came_of_it(&mut room, by_laptop, &since);
        }
    }
}

#[test]
fn who_comes_back_after_such_a_removal_comes_with_the_device_that_was_not_revoked_after_all() {
    let Unsaid {
        mut room,
        old,
        since,
        ..
    } = unsaid(by_tablet);
    let work = *since.last().unwrap();
    let early = admit(Who(1, 0, 1), Role::Member);
    let early = room.after(&[work], BEN, early);
    assert_eq!(refusal(&room, early), Refusal::NoDevice);
    let word = join_saying(THIRD, &[(0, Said::NotRevoked)]);
    let word = room.after(&[old], IDLE, word);
    let back = room.after(&[work, word], BEN, admit(Who(1, 0, 1), Role::Member));
    counts(&room, back);
    assert!(is_live(&room, Who(1, 0, 1)) && !is_live(&room, ADA));
    assert_eq!(room.role(1), Some(Role::Member));
    // Its agent may revoke it once more; whether that counts the sets say.
    let joined = room.after(&[back], Who(1, 0, 1), device_join(Who(1, 3, 1)));
    counts(&room, joined);
    let revoked = device_revoke(ADA, &[(0, Said::Revoked)], Vec::new());
    let revoked = room.after(&[joined], Who(1, 3, 1), revoked);
    assert_eq!(void(&room, revoked), VoidReason::NotRevoked);
}

#[test]
fn a_member_still_unsays_what_a_thief_revoked() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let tablet = room.after(&[last], ADA, device_join(TABLET));
    let old = room.after(&[tablet], ADA, device_join(IDLE));
    let done = room.after(&[old], ADA, admit(CLEO, Role::Member));
    let thief = room.after(&[old], TABLET, device_revoke(ADA, &[], Vec::new()));
    let seen = room.after(&[done, thief], OWNER, invite(1, Role::Guest, None, None));
    assert_eq!(void(&room, done), VoidReason::Revoked);
    room.after(&[seen], IDLE, join_saying(THIRD, &[(0, Said::NotRevoked)]));
    assert_eq!(void(&room, thief), VoidReason::NotRevoked);
    counts(&room, done);
    assert_eq!(room.role(3), Some(Role::Member));
}

/// What a member's later set brings to count is not undone; who is silenced by it comes back.
#[test]
fn an_owner_whom_a_members_later_set_silences_is_owner_still_and_admitted_with_new_feeds() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let tablet = room.after(&[last], ADA, device_join(TABLET));
    let old = room.after(&[tablet], ADA, device_join(IDLE));
    let gone = room.after(&[old], ADA, remove(2, Vec::new()));
    let revoked = room.after(&[old], TABLET, device_revoke(ADA, &[], Vec::new()));
    let raised = room.after(&[gone, revoked], OWNER, role(2, Role::Owner));
    let left = room.after(&[raised], OWNER, leave(Vec::new()));
    let work = room.after(&[left], BEN, admit(CLEO, Role::Admin));
    let word = join_saying(THIRD, &[(0, Said::NotRevoked)]);
    let word = room.after(&[old], IDLE, word);
    assert_eq!(void(&room, revoked), VoidReason::NotRevoked);
    counts(&room, gone);
    assert!(!is_live(&room, BEN));
    assert_eq!(room.role(2), Some(Role::Owner));
    let again = Who(2, 0, 1);
    let back = room.after(&[work, word], CLEO, admit(again, Role::Member));
    let removed = room.after(&[back], again, remove(1, Vec::new()));
    counts(&room, removed);
    assert!(is_live(&room, again));
    assert_eq!(room.role(1), None);
}
