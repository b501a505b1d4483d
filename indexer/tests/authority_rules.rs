//! Each rule of `docs/design/0015-identity-and-authority.md`, "Rooms", by name, and the attacks that
//! it is there for.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::acts::*;
use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, blake2b_256};
use kinlog_indexer::authority::{Devices, Refusal, RoomActs, Verdict, VoidReason};
use kinlog_indexer::entry::{Deed, Role};
use kinlog_indexer::limits::{ROOM_DEVICES_MAX, ROOM_MEMBERS_MAX};
use kinlog_indexer::seal::EpochCommitment;

#[test]
fn an_act_waits_for_what_its_author_had_seen() {
    let (script, last) = room_of_three(Role::Admin, Role::Member);
    let mut room = RoomActs::new(devices_of, 8192);
    let hash = |number: usize| script.acts[number].hash;
    room.add(script.acts[0].held());
    room.add(script.acts[last].held());
    let verdict = room.authority().acts[&hash(last)].verdict.clone();
    assert_eq!(verdict, Verdict::Waits(vec![hash(1)]));
    room.add(script.acts[1].held());
    assert!(room.authority().acts[&hash(last)].verdict.counts());
    assert_eq!(room.authority(), script.authority());
}

#[test]
fn members_admit_by_invite_and_admins_without() {
    let (mut room, last) = room_of_three(Role::Member, Role::Guest);
    let bare = room.after(&[last], ADA, admit(CLEO, Role::Guest));
    let needed = Role::Admin;
    let actual = Role::Member;
    assert_eq!(refusal(&room, bare), Refusal::Role { needed, actual });
    let opened = room.after(&[last], ADA, invite(1, Role::Member, Some(1), None));
    let by_guest = room.after(&[opened], BEN, admit_by(CLEO, Role::Guest, 1));
    assert!(matches!(
        refusal(&room, by_guest),
        Refusal::AboveOwn { .. } | Refusal::Role { .. }
    ));
    let by_member = room.after(&[opened], ADA, admit_by(CLEO, Role::Member, 1));
    counts(&room, by_member);
    assert_eq!(room.role(3), Some(Role::Member));
}

/// Reads identity sets of the tests, and those that are nothing but the keys of devices.
fn devices_by_key(_: &AgentId, sets: &[&Bytes]) -> Devices {
    let mut present = Vec::new();
    for set in sets {
        match set.len() {
            2 => present.push(DeviceKey([set[0]; 32])),
            _ => present.extend(
                set.chunks_exact(32)
                    .map(|key| DeviceKey(key.try_into().unwrap())),
            ),
        }
    }
    Devices {
        present,
        ..Devices::default()
    }
}

/// The owner admits devices in a row, each of the agent that `agent_of` names for its number; returns what
/// is said of the last.
fn last_of_so_many(devices: usize, agent_of: impl Fn(usize) -> usize) -> Verdict {
    let mut script = Script::new();
    let mut last = 0;
    for number in 1..devices {
        let named = |what: &[u8], number: usize| blake2b_256(&[what, &number.to_le_bytes()]);
        let agent = agent_of(number);
        let of_agent = (1..devices).filter(|other| agent_of(*other) == agent);
        let set: Vec<u8> = of_agent.flat_map(|other| named(b"device", other)).collect();
        let Deed::Admit(mut deed) = admit(ADA, Role::Member) else {
            unreachable!("an admission");
        };
        deed.member.agent = AgentId(named(b"agent", agent));
        deed.member.device = DeviceKey(named(b"device", number));
        deed.member.identity_set = set.into();
        deed.member.entries_feed = FeedKey(named(b"entries", number));
        deed.member.blobs_feed = FeedKey(named(b"blobs", number));
        last = script.after(&[last], OWNER, Deed::Admit(deed));
    }
    let mut room = RoomActs::new(devices_by_key, 8192);
    for act in &script.acts {
        room.add(act.held());
    }
    room.authority().acts[&script.acts[last].hash]
        .verdict
        .clone()
}

#[test]
fn a_room_takes_256_members_and_no_more() {
    let alone = |number| number;
    let last = last_of_so_many(ROOM_MEMBERS_MAX, alone);
    assert!(last.counts(), "{last}");
    let beyond = last_of_so_many(ROOM_MEMBERS_MAX + 1, alone);
    assert_eq!(beyond, Verdict::Refused(Refusal::Members));
}

#[test]
fn a_room_takes_512_devices_and_no_more() {
    let four_each = |number| number / 4;
    let last = last_of_so_many(ROOM_DEVICES_MAX, four_each);
    assert!(last.counts(), "{last}");
    let beyond = last_of_so_many(ROOM_DEVICES_MAX + 1, four_each);
    assert_eq!(beyond, Verdict::Refused(Refusal::Devices));
}

#[test]
fn nobody_gives_more_than_the_own_role() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let up = room.after(&[last], ADA, role(2, Role::Owner));
    let (given, own) = (Role::Owner, Role::Admin);
    assert_eq!(refusal(&room, up), Refusal::AboveOwn { given, own });
    let link = room.after(&[last], BEN, invite(1, Role::Admin, None, None));
    assert!(matches!(refusal(&room, link), Refusal::AboveOwn { .. }));
}

#[test]
fn nobody_removes_or_demotes_a_higher_rank() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Admin);
    let later = room.after(&[last], BEN, remove(1, Vec::new()));
    assert_eq!(
        refusal(&room, later),
        Refusal::HigherRank { agent: ADA.agent() }
    );
    let demotion = room.after(&[last], BEN, role(1, Role::Guest));
    assert_eq!(
        refusal(&room, demotion),
        Refusal::HigherRank { agent: ADA.agent() }
    );
    let owner = room.after(&[last], ADA, remove(0, Vec::new()));
    assert!(matches!(
        refusal(&room, owner),
        Refusal::LastOwner | Refusal::Role { .. }
    ));
    let earlier = room.after(&[last], ADA, remove(2, Vec::new()));
    counts(&room, earlier);
}

/// What an admin deleted stays deleted when it is none any more, and nobody deletes backwards.
#[test]
fn who_deletes_is_admin_when_it_does_so_and_not_now() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let by_admin = room.after(&[last], ADA, delete(1));
    let too_early = room.after(&[last], BEN, delete(2));
    let demoted = room.after(&[by_admin], OWNER, role(1, Role::Member));
    let promoted = room.after(&[demoted], OWNER, role(2, Role::Admin));
    counts(&room, promoted);
    counts(&room, by_admin);
    let (needed, actual) = (Role::Admin, Role::Member);
    assert_eq!(refusal(&room, too_early), Refusal::Role { needed, actual });
    let too_late = room.after(&[promoted], ADA, delete(3));
    assert_eq!(refusal(&room, too_late), Refusal::Role { needed, actual });
    let now = room.after(&[promoted], BEN, delete(3));
    counts(&room, now);
    // "At the same time" as the demotion, however often it says so.
    let beside = room.after(&[by_admin], ADA, delete(4));
    assert!(matches!(
        room.authority().acts[&room.acts[beside].hash].verdict,
        Verdict::Void(_)
    ));
}

#[test]
fn of_mutual_removals_the_higher_rank_stands() {
    let (mut room, last) = room_of_three(Role::Owner, Role::Owner);
    let one = room.after(&[last], ADA, remove(2, Vec::new()));
    let other = room.after(&[last], BEN, remove(0, Vec::new()));
    counts(&room, one);
    assert!(matches!(refusal(&room, other), Refusal::HigherRank { .. }));
    assert_eq!((room.role(1), room.role(2)), (Some(Role::Owner), None));
}

#[test]
fn an_admin_promoted_elsewhere_at_the_same_time_stands_above_its_removal() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let promoted = room.after(&[last], OWNER, role(2, Role::Owner));
    let back = room.after(&[promoted], BEN, remove(1, Vec::new()));
    let gone = room.after(&[last], ADA, remove(2, Vec::new()));
    counts(&room, back);
    assert_eq!(void(&room, gone), VoidReason::Lifted);
    assert_eq!((room.role(1), room.role(2)), (None, Some(Role::Owner)));
}

#[test]
fn a_removed_admin_acts_concurrently_for_ever_and_gains_nothing() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let removal = room.after(&[last], OWNER, remove(1, Vec::new()));
    let mut before = last;
    let mut done = Vec::new();
    for round in 0..20u8 {
        // Each names what he had seen before the removal, whatever he knows.
        let friend = Who(3 + round % 10, 0, round);
        before = room.after(&[before], ADA, admit(friend, Role::Admin));
        done.push(before);
        let helped = room.after(&[before], friend, remove(2, Vec::new()));
        done.push(helped);
    }
    counts(&room, removal);
    for number in done {
        assert!(!room.verdict(number).counts(), "{}", room.verdict(number));
    }
    assert_eq!(room.role(1), None);
    assert_eq!(room.role(2), Some(Role::Member));
    let naming_it = room.after(&[removal], ADA, remove(2, Vec::new()));
    assert!(matches!(refusal(&room, naming_it), Refusal::Cut { .. }));
}

#[test]
fn a_demotion_takes_back_what_was_done_in_the_greater_role() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let down = room.after(&[last], OWNER, role(1, Role::Member));
    let sharp = room.after(&[last], ADA, remove(2, Vec::new()));
    let mild = room.after(&[sharp], ADA, invite(1, Role::Guest, None, None));
    assert_eq!(void(&room, sharp), VoidReason::Demoted);
    // A member may do that too, but not in the rank of an admin.
    assert_eq!(void(&room, mild), VoidReason::Demoted);
    let again = room.after(&[down, mild], ADA, invite(2, Role::Guest, None, None));
    counts(&room, again);
}

#[test]
fn of_concurrent_changes_of_a_role_the_smallest_stands() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let up = room.after(&[last], OWNER, role(2, Role::Admin));
    let down = room.after(&[last], ADA, role(2, Role::Guest));
    counts(&room, up);
    counts(&room, down);
    assert_eq!(room.role(2), Some(Role::Guest));
    room.after(&[up, down], OWNER, role(2, Role::Admin));
    assert_eq!(room.role(2), Some(Role::Admin));
}

#[test]
fn an_admission_beside_a_higher_one_lowers_nobody() {
    let mut room = Script::new();
    let ben = room.after(&[0], OWNER, admit(BEN, Role::Member));
    let link = room.after(&[ben], BEN, invite(1, Role::Guest, None, None));
    // Ben lets Ada in again as a guest, with her own membership, as if he had not seen her.
    let trick = room.after(&[link], BEN, admit_by(ADA, Role::Guest, 1));
    let ada = room.after(&[ben], OWNER, admit(ADA, Role::Admin));
    counts(&room, trick);
    assert_eq!(room.role(1), Some(Role::Admin));
    room.after(&[ada], OWNER, role(1, Role::Owner));
    assert_eq!(room.role(1), Some(Role::Owner));
}

#[test]
fn who_comes_back_comes_with_new_feeds() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let gone = room.after(&[last], ADA, remove(2, vec![cut(BEN.feed(), 7)]));
    let old = room.after(&[gone], ADA, admit(BEN, Role::Member));
    assert_eq!(refusal(&room, old), Refusal::KnownFeed { feed: BEN.feed() });
    let new = Who(2, 0, 1);
    let back = room.after(&[gone], ADA, admit(new, Role::Member));
    counts(&room, back);
    let authority = room.authority();
    assert_eq!(authority.feeds[&BEN.feed()].shown_below(), 7);
    assert_eq!(authority.feeds[&new.feed()].shown_below(), u64::MAX);
    let by_old = room.after(&[back], BEN, leave(Vec::new()));
    assert!(matches!(refusal(&room, by_old), Refusal::Cut { .. }));
}

#[test]
fn the_smallest_cut_wins_and_what_is_not_named_is_cut_at_nothing() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let other = room.after(&[last], BEN, device_join(Who(2, 1, 0)));
    room.after(&[other], OWNER, remove(2, vec![cut(BEN.feed(), 9)]));
    room.after(
        &[other],
        ADA,
        remove(2, vec![cut(BEN.feed(), 4), cut(ADA.feed(), 0)]),
    );
    let authority = room.authority();
    let row = &authority.feeds[&BEN.feed()];
    let by = row.cut.unwrap();
    assert_eq!((by.cut.length, by.agent), (4, ADA.agent()));
    assert_eq!(row.blobs_cut.unwrap().cut.length, 0);
    assert_eq!(authority.feeds[&Who(2, 1, 0).feed()].shown_below(), 0);
    // A cut of somebody else's feed says nothing.
    assert_eq!(authority.feeds[&ADA.feed()].shown_below(), u64::MAX);
}

#[test]
fn the_last_owner_stays() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    for deed in [leave(Vec::new()), role(0, Role::Guest)] {
        let mut room = room.clone();
        let act = room.after(&[last], OWNER, deed);
        assert_eq!(refusal(&room, act), Refusal::LastOwner);
    }
    // Two who leave at once: the one of the higher rank stays.
    let two = room.after(&[last], OWNER, role(1, Role::Owner));
    let one = room.after(&[two], OWNER, leave(Vec::new()));
    let other = room.after(&[two], ADA, leave(Vec::new()));
    assert_eq!(void(&room, one), VoidReason::LastOwner);
    counts(&room, other);
    assert_eq!((room.role(0), room.role(1)), (Some(Role::Owner), None));
    // What follows settles it.
    let settled = room.after(&[one, other], BEN, epoch(1, &[], &[]));
    room.after(&[settled], OWNER, role(2, Role::Owner));
    assert_eq!(room.role(0), Some(Role::Owner));
    assert_eq!(room.role(2), Some(Role::Owner));
}

#[test]
fn a_thief_does_nothing_after_or_beside_the_revocation_of_the_device() {
    let (mut room, last) = room_of_three(Role::Owner, Role::Member);
    // Ada's other device revokes the stolen one.
    let sibling = Who(1, 1, 0);
    let joined = room.after(&[last], ADA, device_join(sibling));
    let revoked = device_revoke(ADA, &[(1, Said::Added)], vec![cut(ADA.feed(), 3)]);
    let revocation = room.after(&[joined], sibling, revoked);
    let beside = room.after(&[joined], ADA, remove(2, Vec::new()));
    let friend = room.after(&[beside], ADA, admit(CLEO, Role::Owner));
    let helper = room.after(&[friend], CLEO, invite(1, Role::Owner, None, None));
    let after = room.after(&[revocation, friend], ADA, remove(2, Vec::new()));
    counts(&room, revocation);
    assert_eq!(void(&room, beside), VoidReason::Revoked);
    assert_eq!(void(&room, friend), VoidReason::Revoked);
    assert_eq!(void(&room, helper), VoidReason::Revoked);
    assert!(matches!(refusal(&room, after), Refusal::Cut { .. }));
    // Ada stays what she is, by her other device.
    assert_eq!(room.role(1), Some(Role::Owner));
    assert_eq!(room.authority().feeds[&ADA.feed()].shown_below(), 3);
    let again = room.after(&[revocation], sibling, device_join(Who(1, 0, 1)));
    assert_eq!(refusal(&room, again), Refusal::NoDevice);
}

#[test]
fn a_device_that_a_thief_added_was_never_one() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let joined = room.after(&[last], ADA, device_join(Who(1, 1, 0)));
    let act = room.after(&[joined], Who(1, 1, 0), remove(2, Vec::new()));
    counts(&room, act);
    // Another act carries what Ada's phrase said of it.
    let truth = device_revoke(ADA, &[(1, Said::NeverAdded)], Vec::new());
    let mut knowing = room.clone();
    let mut unknowing = room;
    unknowing.after(&[last], OWNER, truth.clone());
    assert_eq!(void(&unknowing, joined), VoidReason::NeverDevice);
    assert_eq!(void(&unknowing, act), VoidReason::NeverDevice);
    assert_eq!(unknowing.role(2), Some(Role::Member));
    // Whoever knew of it leaves it what it knew of.
    let truth = knowing.after(&[joined], OWNER, truth);
    counts(&knowing, joined);
    assert_eq!(void(&knowing, act), VoidReason::NeverDevice);
    let device = Who(1, 1, 0);
    let later = knowing.after(&[truth], device, epoch(1, &[], &[]));
    assert!(matches!(refusal(&knowing, later), Refusal::Cut { .. }));
    assert_eq!(knowing.authority().feeds[&device.feed()].shown_below(), 0);
}

#[test]
fn a_revocation_that_the_statements_take_back_does_not_count() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let forged = room.after(&[last], BEN, device_revoke(ADA, &[], Vec::new()));
    let (needed, actual) = (Role::Admin, Role::Member);
    assert_eq!(refusal(&room, forged), Refusal::Role { needed, actual });
    let revoked = room.after(&[last], OWNER, device_revoke(ADA, &[], Vec::new()));
    counts(&room, revoked);
    let said = &[(1, Said::Added), (0, Said::NotRevoked)];
    let mut join = device_join(Who(1, 1, 0));
    if let kinlog_indexer::entry::Deed::DeviceJoin(body) = &mut join {
        body.device = Who(1, 1, 0).membership(said);
    }
    room.after(&[last], ADA, join);
    assert_eq!(void(&room, revoked), VoidReason::NotRevoked);
}

#[test]
fn an_invite_admits_until_it_is_used_up_expired_or_revoked() {
    let (mut room, last) = room_of_three(Role::Member, Role::Member);
    let link = room.after(&[last], ADA, invite(1, Role::Member, Some(1), Some(5_000)));
    let late = room.at(&[link], BEN, 5_001, admit_by(CLEO, Role::Guest, 1));
    assert!(matches!(
        refusal(&room, late),
        Refusal::InviteExpired { .. }
    ));
    let mut revoked = room.clone();
    let end = revoked.after(&[link], ADA, invite_revoke(1));
    let after = revoked.after(&[end], OWNER, admit_by(CLEO, Role::Guest, 1));
    assert!(matches!(
        refusal(&revoked, after),
        Refusal::InviteRevoked { .. }
    ));
    let used = room.at(&[link], ADA, 5_000, admit_by(CLEO, Role::Guest, 1));
    counts(&room, used);
    let again = room.after(&[used], ADA, admit_by(Who(4, 0, 0), Role::Guest, 1));
    assert_eq!(refusal(&room, again), Refusal::InviteUsedUp { uses: 1 });
    let unknown = room.after(&[used], ADA, admit_by(Who(4, 0, 0), Role::Guest, 9));
    assert_eq!(refusal(&room, unknown), Refusal::NoInvite);
}

#[test]
fn a_one_use_invite_used_twice_at_once_admits_one_the_higher_rank_first() {
    let (mut room, last) = room_of_three(Role::Member, Role::Member);
    let link = room.after(&[last], OWNER, invite(1, Role::Member, Some(1), None));
    let by_member = room.after(&[link], BEN, admit_by(CLEO, Role::Guest, 1));
    let by_owner = room.after(&[link], OWNER, admit_by(Who(4, 0, 0), Role::Guest, 1));
    counts(&room, by_owner);
    assert_eq!(void(&room, by_member), VoidReason::InviteUsedUp);
    assert_eq!((room.role(3), room.role(4)), (None, Some(Role::Guest)));
}

#[test]
fn an_invite_revoked_at_the_same_time_admits_nobody() {
    let (mut room, last) = room_of_three(Role::Member, Role::Member);
    let link = room.after(&[last], ADA, invite(1, Role::Member, None, None));
    room.after(&[link], OWNER, invite_revoke(1));
    let used = room.after(&[link], BEN, admit_by(CLEO, Role::Guest, 1));
    let does = room.after(&[used], CLEO, epoch(1, &[], &[]));
    assert_eq!(void(&room, used), VoidReason::InviteRevoked);
    assert_eq!(void(&room, does), VoidReason::InviteRevoked);
}

#[test]
fn who_gives_a_member_a_role_vouches_for_its_devices() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Admin);
    // Ben admits Cleo; Ada removes Ben at the same time; the owner saw Cleo and made her an admin.
    let cleo = room.after(&[last], BEN, admit(CLEO, Role::Member));
    room.after(&[last], ADA, remove(2, Vec::new()));
    assert_eq!(void(&room, cleo), VoidReason::Removed);
    room.after(&[cleo], OWNER, role(3, Role::Admin));
    counts(&room, cleo);
    assert_eq!(room.role(3), Some(Role::Admin));
    assert!(room.authority().feeds[&CLEO.feed()].is_live());
}

#[test]
fn an_act_beside_its_authors_earlier_one_does_not_count() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let one = room.after(&[last], ADA, invite(1, Role::Guest, None, None));
    let other = room.after(&[last], ADA, invite(2, Role::Guest, None, None));
    counts(&room, one);
    assert_eq!(void(&room, other), VoidReason::Skips);
}

#[test]
fn an_epoch_is_announced_once_and_of_two_at_the_same_time_both_count() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let low = room.after(&[last], BEN, epoch(1, &[2], &[BEN]));
    let mut deed = epoch(1, &[3], &[ADA, BEN]);
    if let Deed::Epoch(epoch) = &mut deed {
        epoch.commitment = EpochCommitment([9; 32]);
    }
    let high = room.after(&[last], ADA, deed);
    counts(&room, high);
    counts(&room, low);
    let known = &room.authority().epochs[&epoch_id(1)];
    let mut expected = [(room.acts[low].hash, 1), (room.acts[high].hash, 9)];
    expected.sort_unstable();
    let said = known.announced.iter();
    let said: Vec<_> = said.map(|one| (one.act, one.commitment.0[0])).collect();
    assert_eq!(said, expected, "of one depth, by hash");
    assert_eq!(known.parents, [epoch_id(2), epoch_id(3)].into());
    assert_eq!(known.recipients, [ADA.device(), BEN.device()].into());
    let again = room.after(&[low, high], OWNER, epoch(1, &[], &[OWNER]));
    assert_eq!(refusal(&room, again), Refusal::KnownEpoch);
}

#[test]
fn an_act_is_sealed_as_the_genesis_or_in_an_announced_epoch() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let announced = room.after(&[last], OWNER, epoch(1, &[], &[]));
    let act_id = kinlog_indexer::seal::EpochId([101; 16]);
    let inside = room.after(&[announced], ADA, grant(1));
    room.acts[inside].sealed_by = Some(act_id);
    counts(&room, inside);
    let before = room.after(&[last], BEN, grant(2));
    room.acts[before].sealed_by = Some(act_id);
    assert_eq!(refusal(&room, before), Refusal::Sealed);
    // In the open, where the genesis is sealed; and as it is, where that is.
    let mut sealed = room.clone();
    for number in 0..=announced {
        sealed.acts[number].sealed_by = Some(epoch_id(9));
    }
    counts(&sealed, announced);
    let open = sealed.after(&[announced], BEN, grant(4));
    assert_eq!(refusal(&sealed, open), Refusal::Sealed);
    sealed.acts[open].sealed_by = Some(epoch_id(9));
    counts(&sealed, open);
    // Under the epoch's content key, which not everybody gets.
    let hidden = room.after(&[inside], ADA, grant(3));
    room.acts[hidden].sealed_by = Some(epoch_id(1));
    assert_eq!(refusal(&room, hidden), Refusal::Sealed);
}

#[test]
fn a_writer_takes_the_head_epoch_that_reaches_the_devices_and_nobody_else() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let first = epoch_id(9);
    assert_eq!(
        room.authority().epoch_to_write(&first),
        None,
        "Ada and Ben lack it"
    );
    let one = room.after(&[last], OWNER, epoch(1, &[9], &[OWNER, ADA, BEN]));
    assert_eq!(room.authority().epoch_to_write(&first), Some(epoch_id(1)));
    let gone = room.after(&[one], OWNER, remove(2, Vec::new()));
    assert_eq!(room.authority().epoch_to_write(&first), None, "Ben has it");
    room.after(&[gone], ADA, epoch(2, &[1], &[OWNER, ADA]));
    assert_eq!(room.authority().epoch_to_write(&first), Some(epoch_id(2)));
    assert_eq!(room.authority().epoch_heads(&first), [epoch_id(2)]);
}

#[test]
fn grants_and_invites_end_by_their_author_or_an_admin() {
    let (mut room, last) = room_of_three(Role::Member, Role::Member);
    let given = room.after(&[last], ADA, grant(1));
    let other = room.after(&[given], BEN, grant_revoke(1));
    assert!(matches!(refusal(&room, other), Refusal::Role { .. }));
    assert_eq!(
        room.authority().grants.values().next().unwrap().revoked_by,
        None
    );
    let own = room.after(&[given], ADA, grant_revoke(1));
    let hash = room.acts[own].hash;
    let authority = room.authority();
    assert_eq!(
        authority.grants.values().next().unwrap().revoked_by,
        Some(hash)
    );
}

#[test]
fn a_writer_names_the_counting_heads_and_the_own_act_before() {
    let (mut script, last) = room_of_three(Role::Admin, Role::Member);
    let removal = script.after(&[last], OWNER, remove(1, Vec::new()));
    let trick = script.after(&[last], ADA, admit(CLEO, Role::Member));
    let mut room = script.room();
    let heads = room.heads(&BEN.feed());
    assert_eq!(
        heads.heads,
        [script.acts[removal].hash],
        "what is void is not named"
    );
    let own = room.heads(&ADA.feed());
    assert_eq!(own.own, Some(script.acts[trick].hash));
    assert_eq!(own.parents().as_slice().len(), 2);
}

#[test]
fn of_two_beginnings_with_one_id_the_smaller_is_the_rooms() {
    let mut script = Script::new();
    let other = script.after(&[], OWNER, genesis(OWNER));
    script.acts[other].index = 0;
    let [one, two] = [script.acts[0].hash, script.acts[other].hash];
    let follows = |script: &mut Script, after| script.after(&[after], OWNER, epoch(1, &[], &[]));
    let (on_one, on_two) = (follows(&mut script, 0), follows(&mut script, other));
    for number in [on_one, on_two] {
        script.acts[number].act.seq = 1;
        script.acts[number].index = 1;
    }
    let mut back = RoomActs::new(devices_of, 8192);
    for done in script.acts.iter().rev() {
        back.add(done.held());
    }
    let authority = script.authority();
    assert_eq!(back.authority(), authority);
    assert_eq!(authority.start.map(|start| start.act), Some(one.min(two)));
    let (ours, others) = if one < two {
        (on_one, on_two)
    } else {
        (on_two, on_one)
    };
    counts(&script, ours);
    assert!(matches!(
        refusal(&script, others),
        Refusal::NamesRefused { .. }
    ));
}

#[test]
fn nobody_is_evicted_by_a_copy_of_the_invites_key() {
    let (mut room, last) = room_of_three(Role::Member, Role::Member);
    // Ben, the younger member, invites and lets Cleo in; Ada, the older one, copies the key beside it.
    let link = room.after(&[last], BEN, invite(1, Role::Member, Some(1), None));
    let used = room.after(&[link], BEN, admit_by(CLEO, Role::Member, 1));
    let copy = room.after(&[last], ADA, invite(1, Role::Guest, Some(1), None));
    let ended = room.after(&[copy], ADA, invite_revoke(1));
    for act in [link, used, copy, ended] {
        counts(&room, act);
    }
    assert_eq!(room.role(3), Some(Role::Member));
    // One that its author has seen is none of his to bring again, and none of his to end.
    let again = room.after(&[link, ended], ADA, invite(1, Role::Guest, None, None));
    assert_eq!(refusal(&room, again), Refusal::KnownInvite);
    let mut end = invite_revoke(1);
    if let kinlog_indexer::entry::Deed::InviteRevoke(revoke) = &mut end {
        revoke.act = room.acts[link].hash;
    }
    let foreign = room.after(&[link, ended], ADA, end);
    assert!(matches!(refusal(&room, foreign), Refusal::Role { .. }));
}

#[test]
fn an_act_says_how_many_its_feed_has_before_it_and_names_them_all() {
    let (mut room, last) = room_of_three(Role::Admin, Role::Member);
    let one = room.after(&[last], ADA, invite(1, Role::Guest, None, None));
    for (parents, seq, count) in [(last, 1, 0), (one, 0, 1), (one, 2, 1), (one, u64::MAX, 1)] {
        let mut room = room.clone();
        let deed = invite(2, Role::Guest, None, None);
        let other = room.with_seq(&[parents], ADA, 1_000, seq, deed);
        let expected = match seq {
            u64::MAX => Refusal::TooMany { limit: 4096 },
            _ => Refusal::Sequence { seq, count },
        };
        assert_eq!(refusal(&room, other), expected);
    }
    // What is not authorised takes no place, and nothing goes after it.
    let refused = room.after(&[one], ADA, role(2, Role::Owner));
    let next = room.after(&[one], ADA, epoch(1, &[], &[]));
    counts(&room, next);
    let on_it = room.with_seq(&[refused], ADA, 1_000, 1, epoch(2, &[], &[]));
    let act = room.acts[refused].hash;
    assert_eq!(refusal(&room, on_it), Refusal::NamesRefused { act });
}

#[test]
fn a_feed_has_as_many_acts_as_its_authors_role_may() {
    let (mut room, mut last) = room_of_three(Role::Guest, Role::Admin);
    for (by, most) in [(ADA, 512), (BEN, 515)] {
        for number in 0..most {
            let mut deed = epoch(0, &[], &[]);
            if let kinlog_indexer::entry::Deed::Epoch(epoch) = &mut deed {
                epoch.id.0[..3].copy_from_slice(&[by.0, number as u8, (number >> 8) as u8]);
                epoch.act_id.0[3..6].copy_from_slice(&[by.0, number as u8, (number >> 8) as u8]);
            }
            last = room.after(&[last], by, deed);
        }
        counts(&room, last);
    }
    let above = room.after(&[last], ADA, epoch(100, &[], &[]));
    assert_eq!(refusal(&room, above), Refusal::TooMany { limit: 512 });
    // Whoever has no acts left can still leave.
    let left = room.after(&[last], ADA, leave(Vec::new()));
    counts(&room, left);
    assert_eq!(room.role(1), None);
}

#[test]
fn a_grant_is_given_once_and_ended_by_who_gave_it() {
    let (mut room, last) = room_of_three(Role::Member, Role::Member);
    let given = room.after(&[last], BEN, grant(1));
    let copy = room.after(&[last], ADA, grant(1));
    // Ada copied it at the same time: both count, and each ends its own.
    counts(&room, copy);
    counts(&room, given);
    let again = room.after(&[given, copy], BEN, grant(1));
    assert_eq!(refusal(&room, again), Refusal::KnownGrant);
    let ended = |room: &Script, at: usize| room.authority().grants[&room.acts[at].hash].revoked_by;
    let of_copy = room.after(&[given, copy], ADA, grant_revoke(1));
    assert_eq!(ended(&room, given), None);
    assert_eq!(ended(&room, copy), Some(room.acts[of_copy].hash));
    let of_both = room.after(&[given, copy], OWNER, grant_revoke(1));
    assert_eq!(ended(&room, given), Some(room.acts[of_both].hash));
    let unknown = room.after(&[given], BEN, grant_revoke(2));
    assert_eq!(refusal(&room, unknown), Refusal::NoGrant);
}
