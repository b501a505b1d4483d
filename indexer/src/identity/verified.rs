//! Statements whose signatures hold, and how two such sets become one.

use kinlog_feeds::crypto::{AgentId, DeviceKey, Hash, PublicKey};

use crate::identity::acts::{Actor, Acts};
use crate::identity::bits::Bits;
use crate::identity::set::encoded_len;
use crate::identity::{IdentityError, IdentitySet, Names, Statement};
use crate::limits::{IDENTITY_NAMES_MAX, IDENTITY_SET_BYTES_MAX, IDENTITY_STATEMENTS_MAX};

/// The largest count in front of an encoded set.
const COUNT_BYTES: usize = 3;

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
    /// set travels whole and authorisation never changes. When both are too large for one set, those
    /// of the highest rank stay, each with its past: a device that fills the set keeps the root from
    /// nothing. The same whatever the order in which sets of honest holders are united.
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
        let mut order: Vec<usize> = acts.authorised.iter().collect();
        order.sort_unstable_by_key(|number| (acts.act(*number).rank, acts.age(*number)));
        let mut kept = Bits::default();
        let mut bytes = COUNT_BYTES;
        for number in order {
            let mut more = acts.graph.past[number];
            more.insert(number);
            let more = more.without(&kept);
            let of_more = more
                .iter()
                .map(|one| encoded_len(acts.graph.statements[one].1));
            bytes += of_more.sum::<usize>();
            kept = kept.or(&more);
            if kept.len() > IDENTITY_STATEMENTS_MAX || bytes > IDENTITY_SET_BYTES_MAX {
                kept = kept.without(&more);
                break;
            }
        }
        let mut set = IdentitySet::default();
        for number in kept.iter() {
            set.insert(acts.graph.statements[number].1.clone());
        }
        VerifiedSet::new(self.agent, set)
    }

    /// Returns the set with one more statement, if it holds and there is room for it.
    ///
    /// # Errors
    /// `Signature`, `Acceptance`, `OtherAgent`; `TooMany` or `TooLarge` when the set is full.
    pub fn with(&self, statement: Statement) -> Result<VerifiedSet, IdentityError> {
        let one = IdentitySet::new([statement])?.check(&self.agent)?;
        let statements = self.set.statements().chain(one.set.statements());
        let set = IdentitySet::new(statements.cloned())?;
        Ok(VerifiedSet::new(self.agent, set))
    }

    /// Returns what a new statement of `signer` names: the newest authorised statements, at most 8.
    ///
    /// Left out are those in `without` and what depends on them: a revocation that does not name what its
    /// target signed takes it back.
    pub fn names(&self, signer: &PublicKey, without: &[Hash]) -> Names {
        let acts = self.acts();
        let is_out = |number: usize| without.contains(&acts.graph.hash(number));
        let seen = acts
            .authorised
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
