//! Several sets of one agent as one, whatever the order in which they came.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::crypto::{AgentId, Hash};

use crate::identity::bits::EVALUATED_MAX;
use crate::identity::set::encoded_len;
use crate::identity::verified::COUNT_BYTES;
use crate::identity::{IdentitySet, Said, Statement, VerifiedSet};
use crate::limits::{IDENTITY_SET_BYTES_MAX, IDENTITY_STATEMENTS_MAX};

/// Statements by their hashes.
type Statements<'a> = BTreeMap<Hash, &'a Statement>;

impl VerifiedSet {
    /// Returns the set of all statements of some sets of `agent`: a function of the statements, in whatever
    /// order and in which of the sets they came; what one set names may stand in another.
    ///
    /// Of more than one set holds it is what is worth holding, as [`union`](Self::union) has it; of more than
    /// two sets hold they are looked at one after another, each with its past: what takes somebody back first,
    /// then by depth and hash.
    ///
    /// # Panics
    /// When a set is another agent's, which is the caller's mistake.
    pub fn together<'a>(
        agent: AgentId,
        sets: impl IntoIterator<Item = &'a VerifiedSet>,
    ) -> VerifiedSet {
        let mut all = Statements::new();
        for set in sets {
            assert_eq!(agent, set.agent, "sets of one agent are put together");
            for (hash, statement) in set.set.by_hash() {
                let held = all.entry(*hash).or_insert(statement);
                if statement.signature() < held.signature() {
                    *held = statement;
                }
            }
        }
        let bytes = all.values().map(|statement| encoded_len(statement));
        let fits = all.len() <= IDENTITY_STATEMENTS_MAX
            && COUNT_BYTES + bytes.sum::<usize>() <= IDENTITY_SET_BYTES_MAX;
        if fits {
            of(agent, all.keys(), &all)
        } else if all.len() <= EVALUATED_MAX {
            of(agent, all.keys(), &all).kept()
        } else {
            one_after_another(agent, &all)
        }
    }
}

/// Returns some of the statements as a set.
fn of<'a>(
    agent: AgentId,
    hashes: impl IntoIterator<Item = &'a Hash>,
    all: &Statements<'_>,
) -> VerifiedSet {
    let some = hashes.into_iter().map(|hash| (*hash, all[hash].clone()));
    VerifiedSet::new(agent, IdentitySet::of_hashed(some.collect()))
}

/// Takes the statements whose pasts are there in an order that they alone give, and lets go of what is not
/// worth holding whenever there are more than can be evaluated at once. Nothing that is looked at waits, and
/// what was let go stays so, with all that names it: else long pasts would come in again and again.
fn one_after_another(agent: AgentId, all: &Statements<'_>) -> VerifiedSet {
    let mut order: Vec<(bool, u32, Hash)> = depths(all)
        .into_iter()
        .map(|(hash, depth)| (!takes_back(all[&hash]), depth, hash))
        .collect();
    order.sort_unstable();
    let mut held: BTreeSet<Hash> = BTreeSet::new();
    let mut let_go: BTreeSet<Hash> = BTreeSet::new();
    for (_, _, hash) in order {
        if held.contains(&hash) || let_go.contains(&hash) {
            continue;
        }
        // What it names came before it, or comes with it.
        let Some(more) = with_past(hash, all, &let_go) else {
            let_go.insert(hash);
            continue;
        };
        if held.len() + more.difference(&held).count() > EVALUATED_MAX {
            let kept = of(agent, &held, all).kept();
            let kept: BTreeSet<Hash> = kept.set.by_hash().keys().copied().collect();
            let_go.extend(held.difference(&kept));
            held = kept;
            if !more.is_disjoint(&let_go) {
                let_go.insert(hash);
                continue;
            }
        }
        held.extend(more);
    }
    of(agent, &held, all).kept()
}

/// Returns whether a statement revokes: what it takes back has to be known before it pushes others out.
fn takes_back(statement: &Statement) -> bool {
    matches!(
        statement.said(),
        Said::DeviceRevoked(_) | Said::RootReplaced(_)
    )
}

/// Returns the depth of each statement whose past is there whole.
fn depths(all: &Statements<'_>) -> BTreeMap<Hash, u32> {
    let mut named_by: BTreeMap<Hash, Vec<Hash>> = BTreeMap::new();
    let mut missing: BTreeMap<Hash, usize> = BTreeMap::new();
    let mut depths = BTreeMap::new();
    let mut ready = Vec::new();
    for (hash, statement) in all {
        // What a later build said may change anything: as if its past were missing.
        if statement.said().waits() {
            continue;
        }
        let names = statement.names().hashes();
        for name in names {
            named_by.entry(*name).or_default().push(*hash);
        }
        if names.is_empty() {
            ready.push(*hash);
        }
        missing.insert(*hash, names.len());
    }
    while let Some(hash) = ready.pop() {
        let names = all[&hash].names().hashes().iter();
        let below = names.filter_map(|name| depths.get(name)).max().copied();
        depths.insert(hash, 1 + below.unwrap_or(0));
        for later in named_by.remove(&hash).unwrap_or_default() {
            if let Some(missing) = missing.get_mut(&later) {
                *missing -= 1;
                if *missing == 0 {
                    ready.push(later);
                }
            }
        }
    }
    depths
}

/// Returns a statement with its past; `None` where no set could hold that, or something of it was let go.
fn with_past(hash: Hash, all: &Statements<'_>, let_go: &BTreeSet<Hash>) -> Option<BTreeSet<Hash>> {
    let mut reached = BTreeSet::from([hash]);
    let mut open = vec![hash];
    while let Some(next) = open.pop() {
        for name in all[&next].names().hashes() {
            if let_go.contains(name) {
                return None;
            }
            if reached.insert(*name) {
                open.push(*name);
            }
        }
        if reached.len() > IDENTITY_STATEMENTS_MAX {
            return None;
        }
    }
    Some(reached)
}
