//! What holders keep of what they are sent, and what a new statement names.

use testkit::random::Random;

use super::world::*;
use crate::identity::{
    IdentityError, IdentitySet, OtherSaid, Powers, Said, Statement, Verdict, VerifiedSet,
};
use crate::limits::{IDENTITY_SET_BYTES_MAX, IDENTITY_STATEMENTS_MAX};

#[test]
fn what_strangers_sign_about_an_agent_is_not_kept() {
    let first = say(ROOT, &[], add(0));
    let junk: Vec<Statement> = (1..100)
        .map(|number| say(Who::Device(number), &[], revoke(0)))
        .collect();
    let waiting = say(ROOT, &[&junk[0]], add(1));
    let own = verified([&first]);
    assert_eq!(own.union(&verified(&junk)), own);
    let sent = verified(junk[1..].iter().chain([&first, &waiting]));
    assert_eq!(own.union(&sent), own);
    // Named by an authorised statement, it stays, so that nobody waits.
    let named = verified([&first, &junk[0], &waiting]);
    assert_eq!(own.union(&named), named);
}

/// Statements of a device that fills the set.
fn flood(first: &Statement) -> VerifiedSet {
    let mut set = verified([first]);
    for number in 0..250 {
        let name = format!("{number:0>200}");
        set.set.insert(say(
            Who::Device(0),
            &[first],
            add_as(&name, number % 90 + 1, Powers::ALL),
        ));
    }
    set
}

#[test]
fn a_device_that_fills_the_set_does_not_keep_the_root_from_revoking_it() {
    let first = say(ROOT, &[], add(0));
    let full = flood(&first).kept();
    assert!(full.set.encode().len() <= IDENTITY_SET_BYTES_MAX);
    assert!(full.set.len() <= IDENTITY_STATEMENTS_MAX);
    let more = full.set.statements().find(|one| one.hash() != first.hash());
    let large = add_as(&"x".repeat(256), 99, Powers::ALL);
    let large = say(Who::Device(0), &[more.unwrap()], large);
    assert!(matches!(
        full.with(large),
        Err(IdentityError::TooLarge { .. })
    ));
    let revoking = say(ROOT, &[&first], revoke(0));
    let united = full.union(&verified([&first, &revoking]));
    assert!(united.set.statement(&revoking.hash()).is_some());
    assert_eq!(devices(&united.identity().unwrap()), Vec::<u8>::new());
    assert!(IdentitySet::decode(&united.set.encode()).is_ok());
    let with = full.with(revoking).unwrap().identity().unwrap();
    assert_eq!(devices(&with), Vec::<u8>::new());
}

/// What a thief with device 0 says without naming its revocation.
fn renames(first: &Statement, count: usize) -> Vec<Statement> {
    let rename = |number| add_as(&format!("{number:0>200}"), 0, Powers::ALL);
    let renames = (0..count).map(|number| say(Who::Device(0), &[first], rename(number)));
    renames.collect()
}

#[test]
fn renames_by_a_revoked_first_device_push_out_nothing_that_a_later_one_added() {
    let first = say(ROOT, &[], add(0));
    let second = say(Who::Device(0), &[&first], add(1));
    let mut honest = vec![first.clone(), second.clone()];
    for number in 2..12 {
        honest.push(say(Who::Device(1), &[&second], add(number)));
    }
    let all: Vec<&Statement> = honest.iter().collect();
    let revoking = say(ROOT, &all[..8], revoke(0));
    let others = [&honest[8], &honest[9], &honest[10], &honest[11]];
    let flood = renames(&first, 300);
    let expected: Vec<u8> = (1..12).collect();
    let (one, two) = flood.split_at(150);
    let holds =
        |more: &[Statement]| verified(all.iter().copied().chain([&revoking]).chain(more)).kept();
    let (a, b) = (holds(one), holds(two));
    for united in [a.union(&b), b.union(&a), a.union(&b).union(&a)] {
        assert_eq!(united, holds(&flood[..300 - 90]).union(&a).union(&b));
        assert_eq!(devices(&united.identity().unwrap()), expected);
        assert!(
            others
                .iter()
                .all(|one| united.set.statement(&one.hash()).is_some())
        );
        assert!(united.set.len() > 50 && united.set.len() <= IDENTITY_STATEMENTS_MAX);
    }
    // Nor before anybody revokes it.
    let before = verified(all.iter().copied().chain(one)).kept();
    assert_eq!(
        devices(&before.identity().unwrap()),
        (0..12).collect::<Vec<_>>()
    );
}

#[test]
fn what_a_later_build_says_beside_is_kept_after_all_else() {
    let first = say(ROOT, &[], add(0));
    let beside = |number: u8| {
        let body = vec![number; 700];
        say(
            ROOT,
            &[&first],
            Said::Other(OtherSaid::new(200, body).unwrap()),
        )
    };
    let many: Vec<Statement> = (0..120).map(beside).collect();
    let set = verified(many.iter().chain([&first])).kept();
    assert!(set.set.len() > 50 && set.set.len() < 121);
    let second = say(Who::Device(0), &[&first], add(1));
    let with = set.with(second.clone()).unwrap();
    assert_eq!(devices(&with.identity().unwrap()), [0, 1]);
    assert_eq!(
        set.names(&ROOT.pair().public_key(), &[]).hashes(),
        [first.hash()]
    );
    // A stranger's is not kept, and a kind that may say anything waits.
    let other = |who, kind| {
        say(
            who,
            &[&first],
            Said::Other(OtherSaid::new(kind, vec![1]).unwrap()),
        )
    };
    let (strange, later) = (other(Who::Device(7), 200), other(ROOT, 127));
    let named = say(ROOT, &[&later], revoke(0));
    let set = verified([&first, &strange, &later, &named]);
    let identity = set.identity().unwrap();
    assert_eq!(devices(&identity), [0]);
    assert_eq!(verdict(&identity, &later), Verdict::Waits);
    assert_eq!(verdict(&identity, &named), Verdict::Waits);
    assert_eq!(set.kept(), verified([&first]));
}

#[test]
fn a_full_set_is_the_same_whatever_the_order_of_uniting() {
    let first = say(ROOT, &[], add(0));
    let all = flood(&first);
    let third = |rest: usize| {
        let parts = all.set.statements().enumerate();
        let part = parts.filter(|(number, _)| number % 3 == rest);
        let part: Vec<&Statement> = part.map(|(_, statement)| statement).collect();
        verified(part.into_iter().chain([&first])).kept()
    };
    let (a, b, c) = (third(0), third(1), third(2));
    let one = a.union(&b).union(&c);
    assert_eq!(one, c.union(&a).union(&b));
    assert_eq!(one, b.union(&c.union(&a)).union(&one));
    assert_eq!(one, all.kept());
}

#[test]
fn of_two_signatures_of_one_statement_everybody_keeps_the_same() {
    let first = say(ROOT, &[], add(0));
    let mut other = IdentitySet::new([first.clone()]).unwrap().encode().to_vec();
    let last = other.len() - 1;
    other[last] ^= 0x10;
    let other = IdentitySet::decode(&other).unwrap();
    let other = other.statements().next().unwrap();
    assert_eq!(other.hash(), first.hash());
    let (one, two) = (verified([&first]), verified([other]));
    assert_eq!(one.union(&two), two.union(&one));
}

#[test]
fn a_new_statement_names_the_newest_and_leaves_out_what_it_takes_back() {
    let first = say(ROOT, &[], add(0));
    let second = say(Who::Device(0), &[&first], add(1));
    let theft = say(Who::Device(0), &[&second], revoke(1));
    let set = verified([&first, &second, &theft]);
    let root = ROOT.pair().public_key();
    assert_eq!(set.names(&root, &[]).hashes(), [theft.hash()]);
    let names = set.names(&root, &[theft.hash()]);
    assert_eq!(names.hashes(), [second.hash()]);
    let revoking = Statement::sign(agent(), &ROOT.pair(), names, revoke(0));
    let identity = set.with(revoking).unwrap().identity().unwrap();
    assert_eq!(devices(&identity), [1]);
}

#[test]
fn of_more_than_eight_heads_the_one_that_makes_the_signer_is_named() {
    let root = say(ROOT, &[], add(0));
    let mut set = verified([&root]);
    let mut last = None;
    for number in 1..20 {
        let head = say(ROOT, &[&root], add(number));
        set.set.insert(head.clone());
        last = Some(head);
    }
    let last = last.unwrap();
    let signer = Who::Device(19);
    let names = set.names(&signer.pair().public_key(), &[]);
    assert_eq!(names.hashes().len(), 8);
    assert!(names.hashes().contains(&last.hash()));
    let statement = Statement::sign(agent(), &signer.pair(), names, add(30));
    let identity = set.with(statement).unwrap().identity().unwrap();
    assert!(devices(&identity).contains(&30));
}

/// A thief with device 0 adds devices of its own, which add devices and revoke what they can, over and over;
/// nothing of it names the revocation.
fn torn_flood(first: &Statement) -> Vec<Statement> {
    let added = |number: u8| say(Who::Device(0), &[first], add(number));
    let makers: Vec<Statement> = (20..60).map(added).collect();
    let mut flood = makers.clone();
    for number in 0..700 {
        let maker = number % makers.len();
        let name = format!("{number:0>200}");
        let said = match number % 3 {
            0 => revoke_at((2 + number % 10) as u8, cut(number as u64), None),
            _ => add_as(&name, 60 + (number % 30) as u8, Powers::ALL),
        };
        flood.push(say(Who::Device(20 + maker as u8), &[&makers[maker]], said));
    }
    flood
}

#[test]
fn more_than_can_be_evaluated_at_once_is_the_same_in_any_order_and_pushes_out_no_share() {
    let first = say(ROOT, &[], add(0));
    let second = say(ROOT, &[], add(1));
    let mut honest = vec![first.clone(), second.clone()];
    for number in 2..12 {
        honest.push(say(Who::Device(1), &[&second], add(number)));
    }
    // The device says last, and deeper than all of the flood, that the thief's is revoked.
    let mut last = second.clone();
    for name in ["laptop", "old laptop", "older laptop"] {
        last = say(Who::Device(1), &[&last], add_as(name, 1, Powers::ALL));
        honest.push(last.clone());
    }
    honest.push(say(Who::Device(1), &[&last], revoke(0)));
    let flood = torn_flood(&first);
    let expected: Vec<u8> = (1..12).collect();
    let mut random = Random::new(7);
    let mut last = None;
    for case in 0..4 {
        // Torn into sets of which most hold nothing that their statements name.
        let mut parts: Vec<Vec<&Statement>> = vec![Vec::new(); 5 + case];
        for one in flood.iter().chain(&honest) {
            let to = random.index(parts.len());
            parts[to].push(one);
        }
        let parts: Vec<VerifiedSet> = parts.into_iter().map(verified).collect();
        let united = VerifiedSet::together(agent(), &parts);
        assert_eq!(devices(&united.identity().unwrap()), expected);
        assert!(united.set.len() <= IDENTITY_STATEMENTS_MAX);
        assert!(united.set.encode().len() <= IDENTITY_SET_BYTES_MAX);
        assert_eq!(*last.get_or_insert(united.clone()), united, "case {case}");
        let reversed = VerifiedSet::together(agent(), parts.iter().rev());
        assert_eq!(reversed, united, "case {case}");
    }
}

/// Each set has an addition and a long chain of the root's words on it; taken by depth the chains come in
/// turn, and what of one was let go would come in again with each later word.
#[test]
fn many_long_chains_are_gone_through_once() {
    let chain = |number: u8| {
        let mut chain = vec![say(ROOT, &[], add(number))];
        for word in 0..200u64 {
            let last = &chain[chain.len() - 1];
            chain.push(say(ROOT, &[last], revoke_at(100 + number, cut(word), None)));
        }
        verified(&chain)
    };
    let sets: Vec<VerifiedSet> = (0..20).map(chain).collect();
    let united = VerifiedSet::together(agent(), &sets);
    assert!(united.set.len() <= IDENTITY_STATEMENTS_MAX);
    let reversed = VerifiedSet::together(agent(), sets.iter().rev());
    assert_eq!(reversed, united);
}

#[test]
fn what_strangers_sign_does_not_make_a_set_too_large() {
    let first = say(ROOT, &[], add(0));
    let second = say(Who::Device(0), &[&first], add(1));
    let cut = |number: u16| revoke_at(0, cut(u64::from(number)), cut(u64::from(number)));
    let junk: Vec<Statement> = (0..600)
        .map(|number| say(Who::Device(9), &[], cut(number)))
        .collect();
    let parts = junk.chunks(200).map(verified);
    let own = [verified([&second]), verified([&first])];
    let parts: Vec<VerifiedSet> = parts.chain(own).collect();
    let united = VerifiedSet::together(agent(), &parts);
    assert_eq!(united, verified([&first, &second]));
}
