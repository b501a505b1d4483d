//! In which epoch to write: one whose secret exactly the devices of the members have, else a new one.

use std::collections::BTreeSet;

use kinlog_feeds::crypto::DeviceKey;
use kinlog_indexer::entry::{BodyError, Deed, Epoch, EpochCopy, EpochKeys, History};
use kinlog_indexer::limits::ROOM_EPOCH_PARENTS_MAX;
use kinlog_indexer::seal::{EpochId, EpochSecret, SealedSecretError, seal_to_device};

use crate::knowledge::{Keyring, Standing};
use crate::rooms::RoomId;

/// In which epoch the next entry is sealed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Choice {
    /// In this one.
    Use(EpochId),
    /// In a new one after these.
    Mint(Vec<EpochId>),
}

/// Chooses the epoch for what is written at `now_ms`, when exactly `devices` are to read it.
///
/// Of several heads that fit the smallest is taken, so that those who see the same write in the same.
/// One that is older than `age_ms_max` does not fit.
pub(super) fn choose(
    standing: &Standing,
    keys: &Keyring,
    devices: &BTreeSet<DeviceKey>,
    (now_ms, age_ms_max): (u64, Option<u64>),
) -> Choice {
    let heads = standing.heads();
    let fits = |id: &&EpochId| {
        let is_fresh = |at_ms: u64| age_ms_max.is_none_or(|max| now_ms.saturating_sub(at_ms) < max);
        let epoch = standing.epochs.get(*id);
        keys.secret(id).is_some()
            && epoch.is_some_and(|epoch| epoch.recipients == *devices && is_fresh(epoch.at_ms))
    };
    match heads.iter().find(fits) {
        Some(id) => Choice::Use(*id),
        None => Choice::Mint(heads),
    }
}

/// Returns what a new epoch follows: the newest whose secrets are held, then the heads that are strange,
/// as many as an act names. What is left is joined by the next one; so no number of epochs ends the minting
/// of new ones, and none comes between an epoch and what it hands on.
pub(super) fn joined(standing: &Standing, heads: Vec<EpochId>, keys: &Keyring) -> Vec<EpochId> {
    let held = standing.held_before(&heads, |id| keys.secret(id).is_some());
    let strange: Vec<EpochId> = heads.into_iter().filter(|id| !held.contains(id)).collect();
    let mut joined: Vec<EpochId> = held
        .into_iter()
        .chain(strange)
        .take(ROOM_EPOCH_PARENTS_MAX)
        .collect();
    joined.sort_unstable();
    joined
}

/// Makes the act that announces a new epoch to `devices`, each with the key to seal to.
///
/// `random` gives fresh bytes for each copy.
pub(super) fn announce<E: From<SealedSecretError>>(
    room: &RoomId,
    secret: &EpochSecret,
    parents: Vec<EpochId>,
    devices: &[(DeviceKey, [u8; 32])],
    mut random: impl FnMut() -> Result<[u8; 32], E>,
) -> Result<Deed, E> {
    let copies = devices.iter().map(|(device, x25519)| {
        Ok(EpochCopy {
            device: *device,
            sealed: seal_to_device(random()?, x25519, room, secret)?,
        })
    });
    Ok(Deed::Epoch(Epoch {
        id: secret.epoch_id(),
        act_id: secret.act_key().epoch_id(),
        commitment: secret.commitment(),
        parents,
        copies: copies.collect::<Result<_, E>>()?,
    }))
}

/// Returns the keys of the epochs before a new one, as far as the history policy gives them.
pub(super) fn keys_before(
    history: History,
    parents: &[EpochId],
    standing: &Standing,
    keys: &Keyring,
) -> Result<EpochKeys, BodyError> {
    let act_keys = || {
        let act_ids = parents.iter().filter_map(|id| {
            let announced = standing.epochs.get(id)?.act_id;
            keys.act_key(&announced?)
        });
        act_ids.map(|key| *key.expose()).collect()
    };
    match history {
        History::Full => {
            let secrets = parents.iter().filter_map(|id| keys.secret(id));
            EpochKeys::new(secrets.map(|secret| *secret.expose()).collect(), act_keys())
        }
        History::FromJoin | History::Days(_) => EpochKeys::new(Vec::new(), act_keys()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::Announced;
    use kinlog_indexer::entry::ActHash;

    fn device(number: u8) -> DeviceKey {
        DeviceKey([number; 32])
    }

    fn devices(numbers: &[u8]) -> BTreeSet<DeviceKey> {
        numbers.iter().map(|number| device(*number)).collect()
    }

    /// Epochs made of secrets, each with its parents and recipients.
    fn room(epochs: &[(u8, &[u8], &[u8])]) -> (Standing, Keyring) {
        let (mut standing, mut keys) = (Standing::default(), Keyring::default());
        for (number, parents, recipients) in epochs {
            let secret = secret(*number);
            let epoch = Announced {
                act: None,
                act_id: Some(secret.act_key().epoch_id()),
                commitment: Some(secret.commitment()),
                copies: Vec::new(),
                oldest: Some((u32::from(*number), ActHash::default())),
                parents: parents.iter().map(|parent| id(*parent)).collect(),
                recipients: devices(recipients),
                entitled: devices(recipients),
                at_ms: u64::from(*number),
            };
            standing.epochs.insert(secret.epoch_id(), epoch);
            keys.add_secret(secret);
        }
        (standing, keys)
    }

    fn secret(number: u8) -> EpochSecret {
        EpochSecret::new([number; 32])
    }

    fn id(number: u8) -> EpochId {
        secret(number).epoch_id()
    }

    #[test]
    fn the_head_that_exactly_the_members_have_is_used() {
        let (standing, keys) = room(&[(1, &[], &[1]), (2, &[1], &[1, 2])]);
        let choose = |members: &[u8]| choose(&standing, &keys, &devices(members), (0, None));
        assert_eq!(choose(&[1, 2]), Choice::Use(id(2)));
        assert_eq!(choose(&[1]), Choice::Mint(vec![id(2)]), "2 was removed");
        assert_eq!(
            choose(&[1, 2, 3]),
            Choice::Mint(vec![id(2)]),
            "3 has no copy"
        );
    }

    #[test]
    fn of_two_heads_everybody_takes_the_same_and_a_new_epoch_joins_them() {
        let epochs: &[(u8, &[u8], &[u8])] =
            &[(1, &[], &[1]), (2, &[1], &[1, 2]), (3, &[1], &[1, 2])];
        let (standing, keys) = room(epochs);
        let heads: Vec<EpochId> = BTreeSet::from([id(2), id(3)]).into_iter().collect();
        let chosen = |members: &[u8]| choose(&standing, &keys, &devices(members), (0, None));
        assert_eq!(chosen(&[1, 2]), Choice::Use(heads[0]));
        assert_eq!(chosen(&[2]), Choice::Mint(heads));
    }

    #[test]
    fn of_more_heads_than_an_act_names_the_known_ones_are_joined() {
        let strange: Vec<u8> = (10..60).collect();
        let mut epochs: Vec<(u8, &[u8], &[u8])> = vec![(1, &[], &[1]), (2, &[], &[1])];
        epochs.extend(strange.iter().map(|number| (*number, &[][..], &[1][..])));
        let (standing, mut keys) = room(&epochs);
        strange
            .iter()
            .for_each(|number| keys.forget_secret(&id(*number)));
        let joined = joined(&standing, standing.heads(), &keys);
        assert_eq!(joined.len(), ROOM_EPOCH_PARENTS_MAX);
        assert!(joined.contains(&id(1)) && joined.contains(&id(2)));
        assert!(joined.is_sorted());
    }

    #[test]
    fn an_epoch_whose_secret_is_not_held_is_not_written_in() {
        let (standing, mut keys) = room(&[(1, &[], &[1]), (2, &[1], &[1, 2])]);
        keys.forget_secret(&id(2));
        let choice = choose(&standing, &keys, &devices(&[1, 2]), (0, None));
        assert_eq!(choice, Choice::Mint(vec![id(2)]));
    }

    #[test]
    fn an_epoch_above_its_age_is_not_written_in() {
        let (standing, keys) = room(&[(1, &[], &[1, 2])]);
        let at = |now, age| choose(&standing, &keys, &devices(&[1, 2]), (now, age));
        assert_eq!(at(7, Some(7)), Choice::Use(id(1)));
        assert_eq!(at(8, Some(7)), Choice::Mint(vec![id(1)]));
        assert_eq!(at(8, None), Choice::Use(id(1)));
    }

    #[test]
    fn what_is_handed_on_follows_the_history_policy() {
        let (standing, keys) = room(&[(1, &[], &[1])]);
        let of = |history| keys_before(history, &[id(1)], &standing, &keys).expect("few");
        let full = of(History::Full);
        assert_eq!(full.secrets().collect::<Vec<_>>(), [&[1; 32]]);
        for less in [History::FromJoin, History::Days(7)] {
            let keys = of(less);
            assert_eq!(keys.secrets().count(), 0);
            let act_key = secret(1).act_key();
            assert_eq!(keys.act_keys().collect::<Vec<_>>(), [act_key.expose()]);
        }
    }

    #[test]
    fn each_device_gets_a_copy_that_it_alone_opens() {
        use kinlog_feeds::crypto::Secret;
        use kinlog_indexer::seal::{device_dh_public, open_sealed_secret};

        let room = RoomId([9; 32]);
        let dh = |number: u8| Secret::new([number; 32]);
        let to = [1, 2].map(|number| (device(number), device_dh_public(&dh(number))));
        let mut count = 0;
        let made = announce::<SealedSecretError>(&room, &secret(7), vec![id(1)], &to, || {
            count += 1;
            Ok([count; 32])
        });
        let Ok(Deed::Epoch(epoch)) = made else {
            unreachable!("an epoch was made");
        };
        assert_eq!((epoch.id, epoch.parents), (id(7), vec![id(1)]));
        for (copy, number) in epoch.copies.iter().zip([1, 2]) {
            let opened = open_sealed_secret(&dh(number), &room, &copy.sealed);
            assert_eq!((copy.device, opened), (device(number), Ok(secret(7))));
            assert!(open_sealed_secret(&dh(number + 1), &room, &copy.sealed).is_err());
        }
    }
}
