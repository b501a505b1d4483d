//! Statements whose signatures hold, and how two such sets become one.

use std::collections::HashMap;

use kinlog_feeds::crypto::{AgentId, DeviceKey, Hash, PublicKey};

use crate::identity::acts::{Actor, Acts};
use crate::identity::bits::Bits;
use crate::identity::set::encoded_len;
use crate::identity::{IdentityError, IdentitySet, Names, Statement};
use crate::limits::{IDENTITY_NAMES_MAX, IDENTITY_SET_BYTES_MAX, IDENTITY_STATEMENTS_MAX};

/// The largest count in front of an encoded set.
pub(super) const COUNT_BYTES: usize = 3;

/// The statements of one agent, each with a signature that holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedSet {
    pub(super) agent: AgentId,
    pub(super) set: IdentitySet,
}

impl VerifiedSet {
    pub(super) fn new(agent: AgentId, set: IdentitySet) -> Self {
        VerifiedSet { agent, set }
    }

    /// Returns the agent that all of it is about.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// Returns the statements.
    pub fn set(&self) -> &IdentitySet {
        &self.set
    }

    /// Returns what is worth holding of both sets: authorised statements and their pasts.
    ///
    /// Anybody can sign a statement about anybody; what is not authorised, or waits, is left out, for a
    /// set travels whole and authorisation never changes. When both are too large for one set, what
    /// counts stays before what is void, the root's before all others, and of each other signer as many
    /// as of the next, each with its past: a device that fills the set, revoked or not, pushes out
    /// nothing but its own. A function of the statements that are there, in whatever order they came.
    ///
    /// # Panics
    /// When the sets are of two agents, which is the caller's mistake.
    #[must_use]
    pub fn union(&self, other: &VerifiedSet) -> VerifiedSet {
        assert_eq!(self.agent, other.agent, "sets of one agent are united");
        let mut all = self.clone();
        for statement in other.set.statements() {
            all.set.insert(statement.clone());
        }
        all.kept()
    }

    /// Returns what is worth holding of this set; see [`union`](Self::union).
    #[must_use]
    pub fn kept(&self) -> VerifiedSet {
        let acts = self.acts();
        let mut kept = Bits::default();
        let mut bytes = COUNT_BYTES;
        for number in shared_out(&acts) {
            let mut more = acts.graph.past[number];
            more.insert(number);
            let more = more.without(&kept);
            let of_more = more
                .iter()
                .map(|one| encoded_len(acts.graph.statements[one].1));
            let with = bytes + of_more.sum::<usize>();
            if kept.len() + more.len() <= IDENTITY_STATEMENTS_MAX && with <= IDENTITY_SET_BYTES_MAX
            {
                kept = kept.or(&more);
                bytes = with;
            }
        }
        let kept = kept.iter().map(|number| {
            let (hash, statement) = acts.graph.statements[number];
            (hash, statement.clone())
        });
        VerifiedSet::new(self.agent, IdentitySet::of_hashed(kept.collect()))
    }

    /// Returns the set with one more statement, if it holds and there is room for it; in a full set it
    /// may take the place of others (see [`union`](Self::union)).
    ///
    /// # Errors
    /// `Signature`, `Card`, `Acceptance`, `OtherAgent`; `TooMany` or `TooLarge` when the set is full.
    pub fn with(&self, statement: Statement) -> Result<VerifiedSet, IdentityError> {
        let one = IdentitySet::new([statement])?.check(&self.agent)?;
        let statements = self.set.statements().chain(one.set.statements());
        match IdentitySet::new(statements.cloned()) {
            Ok(set) => Ok(VerifiedSet::new(self.agent, set)),
            Err(full) => {
                let united = self.union(&one);
                let mut hashes = one.set.by_hash().keys();
                let is_in = hashes.all(|hash| united.set.statement(hash).is_some());
                is_in.then_some(united).ok_or(full)
            }
        }
    }

    /// Returns what a new statement of `signer` names: the newest authorised statements, at most 8.
    ///
    /// Left out are those in `without` and what depends on them: a revocation that does not name what its
    /// target signed takes it back.
    pub fn names(&self, signer: &PublicKey, without: &[Hash]) -> Names {
        let acts = self.acts();
        let is_out = |number: usize| without.contains(&acts.graph.hash(number));
        let seen = acts
            .telling()
            .iter()
            .filter(|number| !is_out(*number) && !acts.graph.past[*number].iter().any(is_out));
        let seen: Vec<usize> = seen.collect();
        let below = seen.iter().fold(Bits::default(), |below, number| {
            below.or(&acts.graph.past[*number])
        });
        let reach = |number: usize| {
            let mut reach = acts.graph.past[number];
            reach.insert(number);
            reach
        };
        let device = acts.known(&Actor::Device(DeviceKey(signer.0))).made_by;
        let makes_signer = acts.known(&Actor::Root(*signer)).made_by.or(&device);
        let makes_signer = |number: usize| !reach(number).and(&makes_signer).is_empty();
        let mut heads: Vec<usize> = seen;
        heads.retain(|number| !below.contains(*number));
        let mut chosen = Vec::new();
        let mut reached = Bits::default();
        while chosen.len() < IDENTITY_NAMES_MAX {
            let best = heads
                .iter()
                .copied()
                .filter(|head| !reached.contains(*head));
            let best = best.max_by_key(|head| {
                let first = chosen.is_empty() && makes_signer(*head);
                let gain = reach(*head).without(&reached).len();
                (first, gain, acts.age(*head))
            });
            let Some(best) = best else { break };
            reached = reached.or(&reach(best));
            chosen.push(acts.graph.hash(best));
        }
        Names::new(chosen).expect("at most IDENTITY_NAMES_MAX were chosen")
    }

    pub(super) fn acts(&self) -> Acts<'_> {
        let statements = self.set.by_hash().iter();
        let statements = statements.map(|(hash, statement)| (*hash, statement));
        Acts::new(self.agent, statements.collect())
    }
}

/// What a statement is worth in a set that is too full for all: smaller is kept first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Worth {
    Counts,
    /// A void revocation: without it a later look might decide otherwise.
    VoidRevocation,
    Void,
    SaysNothing,
}

/// Returns the authorised statements in the order in which they are kept: by worth, the roots' before the
/// devices', of each device the first, of each the second and so on, by rank, depth and hash.
fn shared_out(acts: &Acts<'_>) -> Vec<usize> {
    let outcome = acts.decide(&acts.authorised);
    let counts = outcome.counts(&acts.authorised);
    let mut by_age: Vec<usize> = acts.authorised.iter().collect();
    by_age.sort_unstable_by_key(|number| acts.age(*number));
    let mut shares: HashMap<(Worth, PublicKey), usize> = HashMap::new();
    let mut order: Vec<_> = by_age
        .into_iter()
        .map(|number| {
            let act = acts.act(number);
            let worth = if acts.said(number).is_beside() {
                Worth::SaysNothing
            } else if counts.contains(number) {
                Worth::Counts
            } else if act.target.is_some() {
                Worth::VoidRevocation
            } else {
                Worth::Void
            };
            let signer = *acts.graph.statements[number].1.signer();
            let (is_device, _, _) = act.rank;
            let share = shares.entry((worth, signer)).or_default();
            let place = if is_device { *share } else { 0 };
            *share += 1;
            (
                (worth, is_device, place, act.rank, acts.age(number)),
                number,
            )
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, number)| number).collect()
}
