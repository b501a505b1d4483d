//! Each rule of `docs/design/0015-identity-and-authority.md` by name.

use kinlog_feeds::crypto::KeyPair;

use super::world::*;
use crate::Text;
use crate::identity::{
    CardError, DeviceAdded, DeviceCard, IdentityError, IdentitySet, Names, Powers, Refusal, Said,
    Statement, Verdict,
};

#[test]
fn a_device_with_the_power_adds_another_and_gives_at_most_its_own_powers_and_write() {
    let first = say(
        ROOT,
        &[],
        add_as("laptop", 0, Powers::WRITE.with(Powers::ADD)),
    );
    let writer = say(Who::Device(0), &[&first], add_as("phone", 1, Powers::WRITE));
    let equal = say(Who::Device(0), &[&first], add_as("desk", 2, Powers(3)));
    let above = say(Who::Device(0), &[&first], add_as("rack", 3, Powers::ALL));
    let by_writer = say(Who::Device(1), &[&writer], add(4));
    let revoking = say(Who::Device(0), &[&writer], revoke(1));
    let all = [&first, &writer, &equal, &above, &by_writer, &revoking];
    let identity = identity(all);
    assert_eq!(devices(&identity), [0, 1, 2]);
    for statement in [&above, &by_writer, &revoking] {
        assert_eq!(refused(&identity, statement), Some(Refusal::Powers));
    }
    // A sign-in key has the power to add and nothing else, and may give the power to write.
    let key = say(ROOT, &[&first], add_as("sign-in", 5, Powers::ADD));
    let phone = say(Who::Device(5), &[&key], add_as("phone", 6, Powers(3)));
    assert_eq!(devices(&self::identity([&first, &key, &phone])), [0, 5, 6]);
}

#[test]
fn what_a_stranger_says_is_not_authorised() {
    let first = say(ROOT, &[], add(0));
    let own = say(Who::Device(7), &[&first], add(7));
    let without_past = say(Who::Device(0), &[], add(1));
    let identity = identity([&first, &own, &without_past]);
    assert_eq!(devices(&identity), [0]);
    assert_eq!(refused(&identity, &own), Some(Refusal::Stranger));
    assert_eq!(refused(&identity, &without_past), Some(Refusal::Stranger));
}

#[test]
fn a_statement_waits_for_those_it_names() {
    let first = say(ROOT, &[], add(0));
    let second = say(Who::Device(0), &[&first], add(1));
    let third = say(Who::Device(1), &[&second], add(2));
    let part = identity([&first, &third]);
    assert_eq!(devices(&part), [0]);
    assert_eq!(verdict(&part, &third), Verdict::Waits);
    assert_eq!(devices(&identity([&first, &third, &second])), [0, 1, 2]);
}

#[test]
fn of_two_devices_that_revoke_each_other_the_one_added_earlier_stands() {
    let first = say(ROOT, &[], add(0));
    let second = say(ROOT, &[&first], add(1));
    let by_thief = say(Who::Device(1), &[&second], revoke(0));
    let by_owner = say(Who::Device(0), &[&second], revoke(1));
    let identity = identity([&first, &second, &by_thief, &by_owner]);
    assert_eq!(devices(&identity), [0]);
    assert_eq!(
        verdict(&identity, &by_thief),
        Verdict::Voided(by_owner.hash())
    );
    let revoked = identity.revoked(&device(1)).unwrap();
    assert_eq!(
        revoked.revocations[0].by,
        Who::Device(0).pair().public_key()
    );
}

#[test]
fn the_root_stands_against_a_thief_with_the_earlier_device() {
    let first = say(ROOT, &[], add(0));
    let second = say(ROOT, &[&first], add(1));
    let by_thief = say(Who::Device(0), &[&second], revoke(1));
    assert_eq!(devices(&identity([&first, &second, &by_thief])), [0]);
    let by_root = say(ROOT, &[&second], revoke(0));
    let identity = identity([&first, &second, &by_thief, &by_root]);
    assert_eq!(devices(&identity), [1]);
    assert_eq!(
        verdict(&identity, &by_thief),
        Verdict::Voided(by_root.hash())
    );
}

#[test]
fn a_revocation_beats_what_its_target_says_at_the_same_time_for_ever_after() {
    let first = say(ROOT, &[], add(0));
    let stolen = say(Who::Device(0), &[&first], add(1));
    let revoking = say(Who::Device(0), &[&stolen], revoke(1));
    let mut statements = vec![first, stolen.clone(), revoking.clone()];
    // A chain of accomplices that never names the revocation, and one who does.
    let mut last = stolen.clone();
    for number in 2..9 {
        last = say(Who::Device(number - 1), &[&last], add(number));
        statements.push(last.clone());
    }
    let knowing = say(Who::Device(1), &[&revoking], add(20));
    statements.push(knowing.clone());
    let identity = identity(&statements);
    assert_eq!(devices(&identity), [0]);
    for statement in &statements[3..10] {
        assert_eq!(
            verdict(&identity, statement),
            Verdict::Voided(revoking.hash())
        );
    }
    assert_eq!(refused(&identity, &knowing), Some(Refusal::Revoked));
}

#[test]
fn a_revoked_key_does_not_come_back_not_even_by_the_root() {
    let first = say(ROOT, &[], add(0));
    let revoking = say(ROOT, &[&first], revoke(0));
    let again = say(ROOT, &[&revoking], add(0));
    let identity = identity([&first, &revoking, &again]);
    assert_eq!(devices(&identity), Vec::<u8>::new());
    assert_eq!(refused(&identity, &again), Some(Refusal::CameBack));
    // Nor by an addition at the same time.
    let unaware = say(ROOT, &[], add_as("again", 0, Powers::ALL));
    assert_eq!(
        devices(&self::identity([&first, &revoking, &unaware])),
        Vec::<u8>::new()
    );
}

#[test]
fn a_replaced_root_says_nothing_more_and_the_new_one_speaks() {
    let first = say(ROOT, &[], add(0));
    let replaced = say(ROOT, &[&first], replace(1));
    let unaware = say(ROOT, &[&first], revoke(0));
    let aware = say(ROOT, &[&replaced], add(2));
    let by_new = say(Who::Root(1), &[&replaced], add(1));
    let back = say(Who::Root(1), &[&replaced], replace(0));
    let by_device = say(Who::Device(0), &[&first], replace(3));
    let all = [
        &first, &replaced, &unaware, &aware, &by_new, &back, &by_device,
    ];
    let identity = identity(all);
    assert_eq!(identity.root(), Who::Root(1).pair().public_key());
    assert_eq!(devices(&identity), [0, 1]);
    assert_eq!(
        verdict(&identity, &unaware),
        Verdict::Voided(replaced.hash())
    );
    assert_eq!(refused(&identity, &aware), Some(Refusal::Revoked));
    assert_eq!(refused(&identity, &back), Some(Refusal::FormerRoot));
    assert_eq!(refused(&identity, &by_device), Some(Refusal::Powers));
}

#[test]
fn of_two_replacements_of_one_root_one_counts_and_only_its_root_speaks() {
    let first = say(ROOT, &[], add(0));
    let one = say(ROOT, &[&first], replace(1));
    let two = say(ROOT, &[&first], replace(2));
    let by_one = say(Who::Root(1), &[&one], add(1));
    let by_two = say(Who::Root(2), &[&two], add(2));
    let identity = identity([&first, &one, &two, &by_one, &by_two]);
    let expected: (u8, u8) = if one.hash() < two.hash() {
        (1, 1)
    } else {
        (2, 2)
    };
    assert_eq!(identity.root(), Who::Root(expected.0).pair().public_key());
    assert_eq!(devices(&identity), [0, expected.1]);
}

#[test]
fn forged_signatures_and_acceptances_are_refused() {
    let thief = KeyPair::from_seed(&[99; 32]);
    let first = say(ROOT, &[], add(0));
    // The root's name under a thief's signature.
    let mut bytes = IdentitySet::new([first.clone()]).unwrap().encode().to_vec();
    let end = bytes.len();
    bytes[end - 64..].copy_from_slice(&thief.sign(b"anything"));
    let forged = IdentitySet::decode(&bytes).unwrap().check(&agent());
    assert!(matches!(
        forged,
        Err(IdentityError::Signature { number: 0, .. })
    ));
    // A device that accepted another agent.
    let other = kinlog_feeds::crypto::AgentId(thief.public_key().0);
    let pair = Who::Device(1).pair();
    let card = DeviceCard::without_directories(&other, &pair, [1; 32]);
    let said = Said::DeviceAdded(DeviceAdded {
        card,
        powers: Powers::ALL,
        name: Text::new("taken").unwrap(),
    });
    let taken = Statement::sign(agent(), &ROOT.pair(), Names::default(), said);
    let set = IdentitySet::new([first.clone(), taken]).unwrap();
    assert!(matches!(
        set.check(&agent()),
        Err(IdentityError::Card { .. })
    ));
    // A root that accepted another agent.
    let said = crate::identity::RootReplaced::sign(&other, &Who::Root(1).pair());
    let taken = Statement::sign(
        agent(),
        &ROOT.pair(),
        Names::default(),
        Said::RootReplaced(said),
    );
    let set = IdentitySet::new([first, taken]).unwrap();
    assert!(matches!(
        set.check(&agent()),
        Err(IdentityError::Acceptance { .. })
    ));
}

#[test]
fn what_a_voided_addition_gave_is_voided_with_it_and_earlier_decisions_are_made_again() {
    // 0 is revoked by 3, the lowest of all; at the same time 0 adds 1, which revokes 2, which revokes
    // nobody: 1's revocation is decided before that of 3, since 1 was added before 3.
    let first = say(ROOT, &[], add(0));
    let second = say(ROOT, &[&first], add(2));
    let accomplice = say(Who::Device(0), &[&second], add(1));
    let by_accomplice = say(Who::Device(1), &[&accomplice], revoke(2));
    let mut chain = second.clone();
    let mut statements = vec![first, second, accomplice.clone(), by_accomplice.clone()];
    for number in 4..8 {
        chain = say(ROOT, &[&chain], add(number));
        statements.push(chain.clone());
    }
    let last = say(ROOT, &[&chain], add(3));
    let by_last = say(Who::Device(3), &[&last], revoke(0));
    statements.extend([last, by_last.clone()]);
    let identity = identity(&statements);
    assert_eq!(devices(&identity), [2, 3, 4, 5, 6, 7]);
    for statement in [&accomplice, &by_accomplice] {
        assert_eq!(
            verdict(&identity, statement),
            Verdict::Voided(by_last.hash())
        );
    }
}

#[test]
fn a_set_that_names_the_directory_of_another_agent_is_refused() {
    // The thief's device takes over what the victim says of its directory, word for word.
    let (victim, mallory) = (card(0), Who::Root(9).pair());
    let id = kinlog_feeds::crypto::AgentId(mallory.public_key().0);
    let (own, seed) = (Who::Device(9).pair(), [7; 32]);
    let pairs = [1, 2].map(|number| kinlog_feeds::crypto::KeyPair::from_seed(&[number; 32]));
    let honest = DeviceCard::sign(&id, &own, seed, &pairs[0], &pairs[1]).encode();
    let mut bytes = honest.clone();
    bytes[64..96].copy_from_slice(victim.directory.as_bytes());
    let mut accepted = kinlog_feeds::crypto::namespace::DEVICE_ACCEPT
        .hash()
        .to_vec();
    accepted.extend_from_slice(id.as_bytes());
    accepted.extend_from_slice(&bytes[..128]);
    bytes[128..192].copy_from_slice(&own.sign(&accepted));
    bytes[192..288].copy_from_slice(&victim.encode()[192..288]);
    let refused = |bytes: &[u8]| {
        let card = DeviceCard::decode(bytes).unwrap();
        let name = Text::new("taken").unwrap();
        let set = IdentitySet::begin(&mallory, card, Powers::ALL, name);
        set.check(&id).map(drop)
    };
    assert_eq!(refused(&honest), Ok(()));
    assert!(matches!(
        refused(&bytes),
        Err(IdentityError::Card {
            number: 0,
            source: CardError::Claim {
                which: "public",
                ..
            }
        })
    ));
}

#[test]
fn a_device_that_is_to_write_has_directories() {
    let add = |powers| {
        let pair = Who::Device(1).pair();
        Said::DeviceAdded(DeviceAdded {
            card: DeviceCard::without_directories(&agent(), &pair, [1; 32]),
            powers,
            name: Text::new("sign-in").unwrap(),
        })
    };
    let with = |powers| {
        let set = IdentitySet::new([say(ROOT, &[], add(powers))]).unwrap();
        set.check(&agent()).map(drop)
    };
    assert_eq!(with(Powers::ADD), Ok(()));
    let refused = Err(IdentityError::WritesNowhere { number: 0 });
    assert_eq!(with(Powers::ALL), refused);
    assert_eq!(with(Powers::WRITE), refused);
}

#[test]
fn a_device_is_renamed_by_adding_it_again_and_never_changed_by_it() {
    let first = say(ROOT, &[], add_as("laptop", 0, Powers::ALL));
    let second = say(Who::Device(0), &[&first], add_as("phone", 1, Powers::WRITE));
    let renamed = say(ROOT, &[&second], add_as("telephone", 1, Powers::WRITE));
    let identity = identity([&first, &second, &renamed]);
    assert_eq!(identity.device(&device(1)).unwrap().name, "telephone");
    assert_eq!(identity.device(&device(1)).unwrap().added_in, second.hash());
    let stronger = say(ROOT, &[&second], add_as("phone", 1, Powers::ALL));
    let identity = self::identity([&first, &second, &stronger]);
    assert_eq!(refused(&identity, &stronger), Some(Refusal::OtherKeys));
    // A new name holds nothing up: the thief's device goes with the thief.
    let revoking = say(ROOT, &[&first], revoke(0));
    let identity = self::identity([&first, &second, &renamed, &revoking]);
    assert_eq!(devices(&identity), Vec::<u8>::new());
    assert_eq!(verdict(&identity, &renamed), Verdict::Counts);
}

#[test]
fn a_device_revokes_itself_before_anything_else_it_says_at_the_same_time() {
    let first = say(ROOT, &[], add(0));
    let second = say(ROOT, &[&first], add(1));
    let itself = say(Who::Device(0), &[&second], revoke(0));
    let other = say(Who::Device(0), &[&second], revoke(1));
    let identity = identity([&first, &second, &itself, &other]);
    assert_eq!(devices(&identity), [1]);
    assert_eq!(verdict(&identity, &other), Verdict::Voided(itself.hash()));
}

#[test]
fn of_several_revocations_the_smallest_cut_holds_for_each_directory() {
    let first = say(ROOT, &[], add(0));
    let second = say(ROOT, &[&first], add(1));
    let one = say(ROOT, &[&second], revoke_at(1, cut(7), cut(3)));
    let two = say(Who::Device(0), &[&second], revoke_at(1, cut(5), None));
    let identity = identity([&first, &second, &one, &two]);
    let revoked = identity.revoked(&device(1)).unwrap();
    assert_eq!((revoked.public, revoked.private), (cut(5), None));
    assert_eq!(revoked.revocations.len(), 2);
}
