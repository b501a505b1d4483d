//! What somebody says after acts that are long past: of itself, of others, about those who were given
//! a higher rank since. Each attack by its name.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::acts::*;
use kinlog_indexer::authority::{Refusal, VoidReason};
use kinlog_indexer::entry::Role;

const PHONE: Who = Who(0, 1, 0);
const TABLET: Who = Who(0, 2, 0);

/// A room whose owner has two more devices; returns the last act.
fn room_of_devices() -> (Script, usize) {
    let mut room = Script::new();
    let phone = room.after(&[0], OWNER, device_join(PHONE));
    let tablet = room.after(&[phone], OWNER, device_join(TABLET));
    (room, tablet)
}

#[test]
fn a_tablet_a_year_behind_takes_back_nobody_for_whom_another_vouched() {
    let (mut room, old) = room_of_devices();
    let ada = room.after(&[old], PHONE, admit(ADA, Role::Admin));
    let ben = room.after(&[ada], PHONE, admit(BEN, Role::Member));
    let cleo = room.after(&[ben], PHONE, admit(CLEO, Role::Guest));
    // Ada is made owner by the computer, Ben admin by Ada; nobody says anything of Cleo.
    let owner = room.after(&[cleo], OWNER, role(1, Role::Owner));
    let admin = room.after(&[owner], ADA, role(2, Role::Admin));
    let last = room.after(&[admin], BEN, invite(1, Role::Guest, None, None));
    let revoked = room.after(&[old], TABLET, device_revoke(PHONE, &[], Vec::new()));
    counts(&room, revoked);
    for stays in [ada, ben, owner, admin, last] {
        counts(&room, stays);
    }
    assert_eq!(void(&room, cleo), VoidReason::Revoked);
    let roles = [1, 2, 3].map(|agent| room.role(agent));
    assert_eq!(roles, [Some(Role::Owner), Some(Role::Admin), None]);
    // What the phone did beside that is taken back all the same.
    let by_phone = room.after(&[last], PHONE, role(2, Role::Guest));
    assert_eq!(void(&room, by_phone), VoidReason::Revoked);
}

#[test]
fn those_whom_a_thief_let_in_vouch_for_each_other_and_are_out() {
    let (mut room, old) = room_of_devices();
    let ada = room.after(&[old], PHONE, admit(ADA, Role::Owner));
    let ben = room.after(&[ada], PHONE, admit(BEN, Role::Owner));
    let one = room.after(&[ben], ADA, role(2, Role::Owner));
    let by_phone = room.after(&[one], PHONE, role(1, Role::Owner));
    let cleo = room.after(&[by_phone], ADA, admit(CLEO, Role::Admin));
    let vouched = room.after(&[cleo], BEN, role(3, Role::Owner));
    room.after(&[old], TABLET, device_revoke(PHONE, &[], Vec::new()));
    for gone in [ada, ben, one, by_phone, cleo, vouched] {
        assert_eq!(void(&room, gone), VoidReason::Revoked, "act {gone}");
    }
    let roles = [1, 2, 3].map(|agent| room.role(agent));
    assert_eq!(roles, [None, None, None]);
}

#[test]
fn who_leaves_or_revokes_an_invite_long_ago_takes_back_nobody_for_whom_another_vouched() {
    for leaves in [true, false] {
        let (mut room, last) = room_of_three(Role::Member, Role::Admin);
        let other = room.after(&[last], ADA, device_join(Who(1, 1, 0)));
        let made = room.after(&[other], ADA, invite(1, Role::Member, None, None));
        let cleo = room.after(&[made], ADA, admit_by(CLEO, Role::Member, 1));
        let dan = room.after(&[cleo], ADA, admit_by(Who(4, 0, 0), Role::Member, 1));
        let vouched = room.after(&[dan], BEN, role(3, Role::Admin));
        let (reason, deed) = match leaves {
            true => (VoidReason::Left, leave(Vec::new())),
            false => (VoidReason::InviteRevoked, invite_revoke(1)),
        };
        let after = if leaves { other } else { made };
        room.after(&[after], Who(1, 1, 0), deed);
        counts(&room, cleo);
        counts(&room, vouched);
        assert_eq!(void(&room, dan), reason);
        assert_eq!((room.role(3), room.role(4)), (Some(Role::Admin), None));
    }
}

#[test]
fn an_old_word_of_a_lower_rank_ends_nobody_who_was_made_owner_since() {
    let words = [
        remove(2, Vec::new()),
        role(2, Role::Guest),
        role(2, Role::Admin),
    ];
    for word in words {
        let (mut room, old) = room_of_three(Role::Admin, Role::Member);
        let raised = room.after(&[old], OWNER, role(2, Role::Owner));
        let left = room.after(&[raised], OWNER, leave(Vec::new()));
        let done = room.after(&[left], BEN, invite(1, Role::Admin, None, None));
        // Ada wrote nothing since; the founder is gone, and Ben alone is owner.
        let word = room.after(&[old], ADA, word);
        assert_eq!(void(&room, word), VoidReason::Lifted);
        counts(&room, left);
        counts(&room, done);
        assert_eq!((room.role(0), room.role(2)), (None, Some(Role::Owner)));
    }
}

#[test]
fn who_was_raised_to_a_rank_below_is_still_removed_at_the_same_time() {
    let (mut room, old) = room_of_three(Role::Admin, Role::Member);
    let raised = room.after(&[old], OWNER, role(2, Role::Admin));
    let gone = room.after(&[old], ADA, remove(2, Vec::new()));
    counts(&room, gone);
    counts(&room, raised);
    assert_eq!(room.role(2), None);
}

#[test]
fn a_removed_admin_revokes_no_device_on_old_parents() {
    let (mut room, old) = room_of_three(Role::Admin, Role::Member);
    let done = room.after(&[old], BEN, invite(1, Role::Guest, None, None));
    let other = room.after(&[done], BEN, device_join(Who(2, 1, 0)));
    // Ben revokes his first device, and says how much of it is his.
    let own = device_revoke(BEN, &[], vec![cut(BEN.feed(), 2)]);
    let own = room.after(&[other], Who(2, 1, 0), own);
    let removed = room.after(&[own], OWNER, remove(1, Vec::new()));
    let late = room.after(&[old], ADA, device_revoke(BEN, &[], Vec::new()));
    assert_eq!(void(&room, late), VoidReason::Removed);
    for stays in [done, other, own, removed] {
        counts(&room, stays);
    }
}

#[test]
fn an_admin_revokes_a_members_device_in_the_order_of_rank() {
    let (mut room, old) = room_of_three(Role::Admin, Role::Member);
    let done = room.after(&[old], BEN, invite(1, Role::Guest, None, None));
    let other = room.after(&[old], BEN, device_join(Who(2, 1, 0)));
    room.acts[other].act.seq = 0;
    let revoked = room.after(&[old], ADA, device_revoke(BEN, &[], Vec::new()));
    counts(&room, revoked);
    assert_eq!(void(&room, done), VoidReason::Revoked);
}

#[test]
fn who_came_back_ends_a_device_of_the_first_stay_that_leaves_again() {
    let (mut room, old) = room_of_three(Role::Member, Role::Member);
    let phone = room.after(&[old], ADA, device_join(Who(1, 1, 0)));
    let left = room.after(&[phone], ADA, leave(Vec::new()));
    let back = room.after(&[left], OWNER, admit(Who(1, 2, 1), Role::Member));
    assert_eq!(room.role(1), Some(Role::Member));
    // The phone of the first stay leaves for her once more, on old parents.
    let again = room.after(&[phone], Who(1, 1, 0), leave(Vec::new()));
    counts(&room, again);
    assert_eq!(
        room.role(1),
        Some(Role::Member),
        "it is about the first stay"
    );
    let deed = device_revoke(Who(1, 1, 0), &[], Vec::new());
    let revoked = room.after(&[back], Who(1, 2, 1), deed);
    counts(&room, revoked);
    assert_eq!(void(&room, again), VoidReason::Revoked);
    assert_eq!(room.role(1), Some(Role::Member));
}

#[test]
fn a_revoked_device_takes_back_nothing_of_another_that_was_revoked_before() {
    let (mut room, old) = room_of_devices();
    let done = room.after(&[old], TABLET, invite(1, Role::Guest, None, None));
    let cuts = vec![cut(TABLET.feed(), 7)];
    let retired = room.after(&[done], OWNER, device_revoke(TABLET, &[], cuts));
    let stolen = device_revoke(PHONE, &[], Vec::new());
    let stolen = room.after(&[retired], OWNER, stolen);
    let thief = room.after(&[old], PHONE, device_revoke(TABLET, &[], Vec::new()));
    assert_eq!(void(&room, thief), VoidReason::Revoked);
    for stays in [done, retired, stolen] {
        counts(&room, stays);
    }
    let cut = room.authority().feeds[&TABLET.feed()].cut.unwrap();
    assert_eq!(cut.cut.length, 7);
}

#[test]
fn who_was_removed_brings_nobody_back_whom_it_removed() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Admin);
    let old = room.after(&[last], ADA, device_join(Who(1, 1, 0)));
    let removed = room.after(&[old], ADA, remove(2, Vec::new()));
    let removal = room.after(&[removed], OWNER, remove(1, Vec::new()));
    // Ada's idle tablet says, truly, that her first device is none of hers any more.
    let revoked = room.after(&[old], Who(1, 1, 0), device_revoke(ADA, &[], Vec::new()));
    counts(&room, revoked);
    counts(&room, removed);
    counts(&room, removal);
    assert_eq!((room.role(1), room.role(2)), (None, None));
}

#[test]
fn who_left_as_owner_and_came_back_as_guest_is_a_guest_whatever_an_idle_device_says() {
    let tablet = Who(1, 1, 0);
    for word in [
        role(1, Role::Owner),
        role(1, Role::Admin),
        leave(Vec::new()),
    ] {
        let (mut room, last) = room_of_three(Role::Owner, Role::Member);
        let old = room.after(&[last], ADA, device_join(tablet));
        let left = room.after(&[old], ADA, leave(Vec::new()));
        room.after(&[left], OWNER, admit(Who(1, 2, 1), Role::Guest));
        room.after(&[old], tablet, word);
        assert_eq!(room.role(1), Some(Role::Guest));
        let feed = room.authority().feeds[&Who(1, 2, 1).feed()].clone();
        assert!(feed.is_live());
    }
}

#[test]
fn one_only_lowers_oneself() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    for given in [Role::Owner, Role::Admin] {
        let own = room.after(&[last], ADA, role(1, given));
        assert!(matches!(
            refusal(&room, own),
            Refusal::NotLower { .. } | Refusal::AboveOwn { .. }
        ));
    }
    let lowered = room.after(&[last], ADA, role(1, Role::Guest));
    counts(&room, lowered);
}

#[test]
fn an_idle_device_dethrones_nobody_who_was_made_owner_since() {
    for word in [role(2, Role::Guest), leave(Vec::new())] {
        let (mut room, last) = room_of_three(Role::Member, Role::Admin);
        let tablet = Who(2, 1, 0);
        let old = room.after(&[last], BEN, device_join(tablet));
        let raised = room.after(&[old], OWNER, role(2, Role::Owner));
        let left = room.after(&[raised], OWNER, leave(Vec::new()));
        let word = room.after(&[old], tablet, word);
        assert_eq!(void(&room, word), VoidReason::Lifted);
        counts(&room, left);
        assert_eq!((room.role(0), room.role(2)), (None, Some(Role::Owner)));
    }
}

#[test]
fn there_is_an_epoch_to_follow_whatever_somebody_announces() {
    let (mut room, last) = room_of_three(Role::Guest, Role::Member);
    let made = room.after(&[last], OWNER, epoch(1, &[], &[OWNER, ADA, BEN]));
    // One that is its own parent, two that are each other's, a copy of the head after itself.
    let own = room.after(&[made], ADA, epoch(2, &[1, 2], &[]));
    let one = room.after(&[own], ADA, epoch(3, &[4], &[]));
    room.after(&[one], ADA, epoch(4, &[3], &[]));
    room.after(&[last], BEN, epoch(1, &[1], &[]));
    let authority = room.authority();
    let heads = authority.epoch_heads(&epoch_id(1));
    assert_eq!(heads, [epoch_id(2), epoch_id(4)]);
}

#[test]
fn a_revoked_device_does_not_come_back_when_the_one_that_revoked_it_is_retired() {
    let mut room = Script::new();
    // The test's sets give the later revocation to the device of the smaller number.
    let (stolen, laptop) = (Who(0, 2, 0), Who(0, 1, 0));
    let old = room.after(&[0], OWNER, device_join(stolen));
    let ada = room.after(&[old], OWNER, admit(ADA, Role::Admin));
    let revoked = room.after(&[ada], OWNER, device_revoke(stolen, &[], Vec::new()));
    let joined = room.after(&[revoked], OWNER, device_join(laptop));
    let cuts = vec![cut(OWNER.feed(), 9)];
    let retired = room.after(&[joined], laptop, device_revoke(OWNER, &[], cuts));
    let thief = room.after(&[old], stolen, device_revoke(OWNER, &[], Vec::new()));
    assert_eq!(void(&room, thief), VoidReason::Revoked);
    for stays in [ada, revoked, joined, retired] {
        counts(&room, stays);
    }
    let live = |who: Who| room.authority().feeds[&who.feed()].is_live();
    assert!(live(laptop) && !live(stolen));
}

#[test]
fn who_left_does_not_come_back_as_owner_by_leaving_once_more() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let eve = room.after(&[last], OWNER, admit(CLEO, Role::Owner));
    let old = room.after(&[eve], OWNER, device_join(TABLET));
    let gone = room.after(&[old], CLEO, leave(Vec::new()));
    let raised = room.after(&[gone], OWNER, role(1, Role::Owner));
    let left = room.after(&[raised], OWNER, leave(Vec::new()));
    let done = room.after(&[left], ADA, invite(1, Role::Guest, None, None));
    room.after(&[old], TABLET, leave(Vec::new()));
    for stays in [raised, left, done] {
        counts(&room, stays);
    }
    assert_eq!((room.role(0), room.role(1)), (None, Some(Role::Owner)));
}

#[test]
fn what_a_later_vouch_opens_is_the_same_for_who_settles_it_and_who_does_not() {
    let (mut room, last) = room_of_three(Role::Owner, Role::Admin);
    let dan = room.after(&[last], OWNER, admit(Who(4, 0, 0), Role::Member));
    let old = room.after(&[dan], ADA, device_join(Who(1, 2, 0)));
    let second = room.after(&[old], ADA, device_join(Who(1, 1, 0)));
    let removed = room.after(&[second], Who(1, 1, 0), remove(4, Vec::new()));
    let lowered = room.after(&[removed], ADA, role(1, Role::Member));
    let guest = room.after(&[lowered], BEN, role(1, Role::Guest));
    let revoked = device_revoke(ADA, &[], Vec::new());
    let revoked = room.after(&[old], Who(1, 2, 0), revoked);
    room.after(&[guest, revoked], OWNER, role(1, Role::Member));
    let settled = room.authority();
    // Beside the head: the same acts, and one more that has nothing to do with them.
    room.after(&[last], BEN, invite(9, Role::Guest, None, None));
    let beside = room.authority();
    for done in &room.acts[..room.acts.len() - 1] {
        assert_eq!(settled.acts[&done.hash], beside.acts[&done.hash]);
    }
}

#[test]
fn who_makes_an_epoch_has_its_secret_whatever_the_act_says() {
    let (mut room, last) = room_of_three(Role::Guest, Role::Member);
    let made = room.after(&[last], ADA, epoch(1, &[], &[OWNER, BEN]));
    let left = room.after(&[made], ADA, leave(Vec::new()));
    counts(&room, left);
    let authority = room.authority();
    assert_eq!(authority.epoch_heads(&epoch_id(1)), [epoch_id(1)]);
    assert_eq!(authority.epoch_to_write(&epoch_id(1)), None);
}

/// A retired device, and another's act that dropped the thief's.
#[test]
fn a_thief_whose_device_another_dropped_retires_no_device_that_was_revoked_since() {
    // The test's sets give the later revocation to the device of the smaller number.
    let (laptop, stolen) = (Who(2, 0, 0), Who(2, 1, 0));
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let old = room.after(&[last], laptop, device_join(stolen));
    let done = room.after(&[old], laptop, invite(1, Role::Member, None, None));
    let cleo = room.after(&[done], laptop, admit_by(CLEO, Role::Member, 1));
    let dropped = room.after(&[cleo], ADA, device_revoke(stolen, &[], Vec::new()));
    // Ben retires the laptop in his identity, and no device of his comes to the room any more.
    let retired = device_revoke(laptop, &[(1, Said::Added), (1, Said::Revoked)], Vec::new());
    let thief = room.after(&[old], stolen, retired);
    assert_eq!(void(&room, thief), VoidReason::Revoked);
    for stays in [done, cleo, dropped] {
        counts(&room, stays);
    }
    let live = |who: Who| room.authority().feeds[&who.feed()].is_live();
    assert!(live(laptop) && !live(stolen));
    assert_eq!(room.role(3), Some(Role::Member));
}

#[test]
fn another_who_drops_a_retired_device_brings_no_device_back_that_it_revoked_before() {
    let (phone, stolen) = (Who(2, 0, 0), Who(2, 1, 0));
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let old = room.after(&[last], BEN, device_join(stolen));
    // The phone is retired later; Ada, who has not heard of what it said, drops it.
    let said = room.after(&[old], phone, device_revoke(stolen, &[], Vec::new()));
    let dropped = room.after(&[old], ADA, device_revoke(phone, &[], Vec::new()));
    counts(&room, said);
    counts(&room, dropped);
    let live = |who: Who| room.authority().feeds[&who.feed()].is_live();
    assert!(!live(phone) && !live(stolen));
}

#[test]
fn whom_a_device_alone_let_in_drops_no_device_that_says_otherwise_of_it() {
    let (laptop, phone) = (Who(2, 0, 0), Who(2, 1, 0));
    let (mut room, last) = room_of_three(Role::Member, Role::Owner);
    let old = room.after(&[last], laptop, device_join(phone));
    let cleo = room.after(&[old], laptop, admit(CLEO, Role::Owner));
    let lowered = room.after(&[cleo], laptop, role(2, Role::Admin));
    let dropped = room.after(&[lowered], CLEO, device_revoke(phone, &[], Vec::new()));
    counts(&room, dropped);
    let said = room.after(&[old], phone, device_revoke(laptop, &[], Vec::new()));
    counts(&room, said);
    for gone in [cleo, lowered, dropped] {
        assert_eq!(void(&room, gone), VoidReason::Revoked);
    }
}

/// A change of role that is open in one pass and closed in the next.
#[test]
fn what_stands_on_an_admission_counts_whenever_somebody_vouches_for_that() {
    let (mut room, last) = room_of_three(Role::Owner, Role::Admin);
    let dan = room.after(&[last], OWNER, admit(Who(4, 0, 0), Role::Admin));
    let old = room.after(&[dan], ADA, device_join(Who(1, 2, 0)));
    let second = room.after(&[old], ADA, device_join(Who(1, 1, 0)));
    let removed = room.after(&[second], Who(1, 1, 0), remove(4, Vec::new()));
    let beside = room.after(&[second], Who(4, 0, 0), invite(5, Role::Admin, None, None));
    let lowered = room.after(&[removed], ADA, role(1, Role::Member));
    let guest = room.after(&[lowered], BEN, role(1, Role::Guest));
    let revoked = device_revoke(ADA, &[], Vec::new());
    let revoked = room.after(&[old], Who(1, 2, 0), revoked);
    let told = |room: &Script| {
        let authority = room.authority();
        let acts = room.acts[..=revoked].iter();
        acts.map(|done| authority.acts[&done.hash].verdict.clone())
            .collect::<Vec<_>>()
    };
    for stays in [second, removed, lowered, guest, revoked] {
        counts(&room, stays);
    }
    assert_eq!(void(&room, beside), VoidReason::Removed);
    assert_eq!(room.role(4), None);
    // A later vouch, from above, changes nothing of it.
    let before = told(&room);
    let vouched = room.after(&[guest, revoked, beside], OWNER, role(1, Role::Member));
    counts(&room, vouched);
    assert_eq!(told(&room), before);
}
