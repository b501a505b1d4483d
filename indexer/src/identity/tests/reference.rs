//! The rules once more, as short as they can be said: sets of hashes, no order but what is written
//! down, everything computed anew each time.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::{Hash, PublicKey};

use super::world::agent;
use crate::identity::{DeviceAdded, Powers, Said, Statement};

type Set = BTreeSet<Hash>;

/// Root or device, and its key.
type Actor = (bool, PublicKey);

#[derive(Clone, Debug)]
struct Said2 {
    by: Actor,
    needs: Powers,
    /// `None` for the first root.
    from: Option<Set>,
    is_rename: bool,
}

#[derive(Debug)]
pub(super) struct Reference<'a> {
    statements: BTreeMap<Hash, &'a Statement>,
    judged: BTreeMap<Hash, Option<Said2>>,
}

impl<'a> Reference<'a> {
    pub(super) fn new(statements: impl IntoIterator<Item = &'a Statement>) -> Self {
        let mut reference = Reference {
            statements: statements
                .into_iter()
                .map(|one| (one.hash(), one))
                .collect(),
            judged: BTreeMap::new(),
        };
        let mut whole: Vec<(u32, Hash)> = reference
            .statements
            .keys()
            .filter_map(|hash| Some((reference.depth(hash)?, *hash)))
            .collect();
        whole.sort_unstable();
        for (_, hash) in whole {
            let judged = reference.judge(&hash);
            reference.judged.insert(hash, judged);
        }
        reference
    }

    /// Returns root, devices with their powers and names, and the statements that count.
    pub(super) fn result(&self) -> (PublicKey, Vec<(PublicKey, Powers, String)>, Set) {
        let counts = self.counts(&self.judged.keys().copied().collect());
        let mut keys: BTreeSet<PublicKey> = BTreeSet::new();
        for hash in &counts {
            keys.extend(self.added(hash).map(|added| PublicKey(added.card.device.0)));
        }
        let mut devices = Vec::new();
        for key in keys {
            let additions = self.additions(&key, &counts);
            if additions.is_empty() || self.is_revoked(&(false, key), &counts) {
                continue;
            }
            let named = counts.iter().filter(|hash| {
                self.added(hash)
                    .is_some_and(|added| added.card.device.0 == key.0)
            });
            let named = named.max_by_key(|hash| (self.depth(hash), **hash)).unwrap();
            let name = self.added(named).unwrap().name.to_string();
            devices.push((key, self.powers(&additions), name));
        }
        (*self.roots(&counts).last().unwrap(), devices, counts)
    }

    fn past(&self, hash: &Hash) -> Option<Set> {
        let mut past = Set::new();
        for name in self.statements.get(hash)?.names().hashes() {
            past.extend(self.past(name)?);
            past.insert(*name);
        }
        Some(past)
    }

    fn depth(&self, hash: &Hash) -> Option<u32> {
        let mut depth = 0;
        for name in self.statements.get(hash)?.names().hashes() {
            depth = depth.max(self.depth(name)?);
        }
        Some(depth + 1)
    }

    fn added(&self, hash: &Hash) -> Option<&'a DeviceAdded> {
        match self.statements[hash].said() {
            Said::DeviceAdded(added) => Some(added),
            _ => None,
        }
    }

    fn target(&self, hash: &Hash) -> Option<Actor> {
        match self.statements[hash].said() {
            Said::DeviceAdded(_) | Said::Other(_) => None,
            Said::DeviceRevoked(revoked) => Some((false, PublicKey(revoked.device.0))),
            Said::RootReplaced(_) => Some((true, *self.statements[hash].signer())),
        }
    }

    fn says(&self, hash: &Hash) -> Option<&Said2> {
        self.judged.get(hash)?.as_ref()
    }

    fn powers(&self, additions: &Set) -> Powers {
        let given = additions.iter().filter_map(|hash| self.added(hash));
        given.fold(Powers(0), |all, added| all.with(added.powers))
    }

    fn additions(&self, key: &PublicKey, counts: &Set) -> Set {
        let of = |hash: &&Hash| {
            self.added(hash)
                .is_some_and(|added| added.card.device.0 == key.0)
                && self.says(hash).is_some_and(|says| !says.is_rename)
        };
        counts.iter().filter(of).copied().collect()
    }

    fn is_revoked(&self, actor: &Actor, counts: &Set) -> bool {
        counts
            .iter()
            .any(|hash| self.target(hash).as_ref() == Some(actor))
    }

    fn roots(&self, counts: &Set) -> Vec<PublicKey> {
        let mut roots = vec![PublicKey(agent().0)];
        loop {
            let last = (true, *roots.last().unwrap());
            let next = counts.iter().find(|hash| self.target(hash) == Some(last));
            match next.map(|hash| self.statements[hash].said()) {
                Some(Said::RootReplaced(replaced)) => roots.push(replaced.root),
                _ => return roots,
            }
        }
    }

    fn judge(&self, hash: &Hash) -> Option<Said2> {
        let counts = self.counts(&self.past(hash)?);
        let statement = self.statements[hash];
        let signer = *statement.signer();
        let roots = self.roots(&counts);
        let is_root = roots.last() == Some(&signer);
        let from = match is_root {
            true if roots.len() == 1 => None,
            true => Some(
                counts
                    .iter()
                    .filter(|hash| {
                        matches!(
                            self.statements[*hash].said(),
                            Said::RootReplaced(replaced) if replaced.root == signer
                        )
                    })
                    .copied()
                    .collect(),
            ),
            false => Some(self.additions(&signer, &counts)),
        };
        if !is_root {
            let is_device = from.as_ref().is_some_and(|from| !from.is_empty());
            if !is_device || roots.contains(&signer) || self.is_revoked(&(false, signer), &counts) {
                return None;
            }
        }
        let mut is_rename = false;
        let needs = match statement.said() {
            Said::DeviceAdded(added) => {
                let key = PublicKey(added.card.device.0);
                if self.is_revoked(&(false, key), &counts) {
                    return None;
                }
                let held = self.additions(&key, &counts);
                if let Some(first) = held.iter().min_by_key(|hash| (self.depth(hash), **hash)) {
                    is_rename = true;
                    let first = self.added(first).unwrap();
                    if !first.card.same_keys(&added.card) || self.powers(&held) != added.powers {
                        return None;
                    }
                }
                Powers::ADD.with(added.powers.without(Powers::WRITE))
            }
            Said::DeviceRevoked(_) => Powers::REVOKE,
            Said::RootReplaced(replaced) if is_root && !roots.contains(&replaced.root) => Powers(0),
            Said::RootReplaced(_) => return None,
            Said::Other(_) => Powers(0),
        };
        let needs = if is_root { Powers(0) } else { needs };
        if !is_root && !self.powers(from.as_ref()?).contains(needs) {
            return None;
        }
        Some(Said2 {
            by: (is_root, signer),
            needs,
            from,
            is_rename,
        })
    }

    fn is_grounded(&self, hash: &Hash, void: &Set) -> bool {
        let says = self.says(hash).unwrap();
        says.from.as_ref().is_none_or(|from| {
            let left: Set = from.difference(void).copied().collect();
            !left.is_empty() && self.powers(&left).contains(says.needs)
        })
    }

    fn hangs_on(&self, hash: &Hash, other: &Hash) -> bool {
        let from = self.says(hash).and_then(|says| says.from.as_ref());
        from.is_some_and(|from| {
            from.contains(other) || from.iter().any(|one| self.hangs_on(one, other))
        })
    }

    fn order(&self, hash: &Hash) -> (bool, u32, Hash, bool, Hash) {
        let says = self.says(hash).unwrap();
        let from = says.from.iter().flatten();
        let made = from.map(|hash| (self.depth(hash).unwrap(), *hash)).min();
        let (depth, by) = made.unwrap_or_default();
        (
            !says.by.0,
            depth,
            by,
            self.target(hash) != Some(says.by),
            *hash,
        )
    }

    fn counts(&self, among: &Set) -> Set {
        let said: Set = among
            .iter()
            .filter(|hash| self.says(hash).is_some())
            .copied()
            .collect();
        let mut revocations: Vec<Hash> = said
            .iter()
            .filter(|hash| self.target(hash).is_some())
            .copied()
            .collect();
        revocations.sort_unstable_by_key(|hash| self.order(hash));
        let mut lost = Set::new();
        'again: loop {
            let mut void = lost.clone();
            self.settle(&said, &mut void);
            let mut counting = Set::new();
            for revocation in &revocations {
                if void.contains(revocation) {
                    continue;
                }
                counting.insert(*revocation);
                let past = self.past(revocation).unwrap();
                let taken: Set = said
                    .iter()
                    .filter(|hash| Some(self.says(hash).unwrap().by) == self.target(revocation))
                    .filter(|hash| !past.contains(*hash) && !counting.contains(*hash))
                    .filter(|hash| !void.contains(*hash))
                    .copied()
                    .collect();
                void.extend(&taken);
                self.settle(&said, &mut void);
                let undone: Vec<&Hash> = counting.intersection(&void).collect();
                if !undone.is_empty() {
                    lost.extend(
                        taken
                            .iter()
                            .filter(|hash| undone.iter().any(|undone| self.hangs_on(undone, hash))),
                    );
                    continue 'again;
                }
            }
            return said.difference(&void).copied().collect();
        }
    }

    /// Voids all that lost its ground.
    fn settle(&self, said: &Set, void: &mut Set) {
        loop {
            let fallen: Vec<Hash> = said
                .iter()
                .filter(|hash| !void.contains(*hash) && !self.is_grounded(hash, void))
                .copied()
                .collect();
            if fallen.is_empty() {
                return;
            }
            void.extend(fallen);
        }
    }
}
