//! Who may say what: each statement, judged by its own past, once and for ever.

use std::collections::HashMap;

use kinlog_feeds::crypto::{AgentId, DeviceKey, Hash, PublicKey};

use crate::identity::bits::Bits;
use crate::identity::decide::Outcome;
use crate::identity::graph::Graph;
use crate::identity::{DeviceAdded, Powers, Refusal, Said, Statement};

/// Whoever signs or is revoked: a root, or a device.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Actor {
    Root(PublicKey),
    Device(DeviceKey),
}

/// Place of a signer among all: roots before devices, then by depth and hash of the statement that
/// made the signer one. Smaller is higher.
pub(super) type Rank = (bool, u32, Hash);

/// Order in which revocations are decided: rank, a signer's revocation of itself before its others,
/// hash.
type Order = (Rank, bool, Hash);

/// An authorised statement.
#[derive(Debug)]
pub(super) struct Act {
    /// What a device needs to say it; nothing for a root.
    needs: Powers,
    /// The statements that made the signer what it is; `None` for the first root.
    supports: Option<Bits>,
    /// The supports, theirs, and so on.
    pub(super) hangs_on: Bits,
    pub(super) rank: Rank,
    /// Whom it revokes.
    pub(super) target: Option<Actor>,
}

/// The authorised statements about one actor, or by it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) signed: Bits,
    /// What made it a device or a root.
    pub(super) made_by: Bits,
    pub(super) renamed_by: Bits,
    pub(super) revoked_by: Bits,
}

/// Statements with what each is by its own past.
#[derive(Debug)]
pub(super) struct Acts<'a> {
    pub(super) graph: Graph<'a>,
    agent: AgentId,
    /// `None`: the statement waits.
    judged: Vec<Option<Result<Act, Refusal>>>,
    pub(super) authorised: Bits,
    known: HashMap<Actor, Known>,
    /// The statements that hang on each directly.
    pub(super) dependents: Vec<Bits>,
    /// Authorised revocations, in the order of their decision.
    pub(super) revocations: Vec<(Order, usize)>,
}

impl<'a> Acts<'a> {
    /// Judges every statement whose past is held whole.
    pub(super) fn new(agent: AgentId, statements: Vec<(Hash, &'a Statement)>) -> Self {
        let graph = Graph::new(statements);
        let count = graph.statements.len();
        let mut acts = Acts {
            agent,
            judged: (0..count).map(|_| None).collect(),
            authorised: Bits::default(),
            known: HashMap::new(),
            dependents: vec![Bits::default(); count],
            revocations: Vec::new(),
            graph,
        };
        // Statements in a row often have the same past.
        let mut last: Option<(Bits, Outcome)> = None;
        for number in acts.graph.ready.clone() {
            let past = acts.graph.past[number];
            let outcome = match last.take() {
                Some((of, outcome)) if of == past => outcome,
                _ => acts.decide(&past),
            };
            let judged = acts.judge(number, &outcome);
            acts.judged[number] = Some(judged);
            last = Some((past, outcome));
        }
        acts
    }

    /// Returns what a statement is by its own past; `None` while it waits.
    pub(super) fn judged(&self, number: usize) -> Option<Result<&Act, Refusal>> {
        let judged = self.judged[number].as_ref()?;
        Some(judged.as_ref().map_err(|refusal| *refusal))
    }

    pub(super) fn act(&self, number: usize) -> &Act {
        match self.judged(number) {
            Some(Ok(act)) => act,
            _ => unreachable!("only authorised statements are asked for"),
        }
    }

    pub(super) fn known(&self, actor: &Actor) -> Known {
        self.known.get(actor).copied().unwrap_or_default()
    }

    /// Returns every device that an authorised statement adds.
    pub(super) fn devices(&self) -> impl Iterator<Item = (DeviceKey, &Known)> {
        self.known.iter().filter_map(|(actor, known)| match actor {
            Actor::Device(device) if !known.made_by.is_empty() => Some((*device, known)),
            _ => None,
        })
    }

    /// Returns the roots after each other; the last one is it now.
    pub(super) fn roots(&self, outcome: &Outcome) -> Vec<PublicKey> {
        let mut roots = vec![PublicKey(self.agent.0)];
        while let Some(root) = roots.last() {
            // Of several replacements by one root the first that counts voids the others.
            let replaced = self.known(&Actor::Root(*root)).revoked_by;
            let replaced = replaced.and(&outcome.counting).iter().next();
            let next = replaced.and_then(|number| match self.said(number) {
                Said::RootReplaced(replaced) => Some(replaced.root),
                _ => None,
            });
            match next {
                Some(next) if !roots.contains(&next) => roots.push(next),
                _ => break,
            }
        }
        roots
    }

    /// Returns the authorised statements but those that say nothing of who is a device.
    pub(super) fn telling(&self) -> Bits {
        let beside = self
            .authorised
            .iter()
            .filter(|number| self.said(*number).is_beside());
        let mut telling = self.authorised;
        beside.for_each(|number| telling.remove(number));
        telling
    }

    pub(super) fn said(&self, number: usize) -> &'a Said {
        self.graph.statements[number].1.said()
    }

    pub(super) fn added(&self, number: usize) -> Option<&'a DeviceAdded> {
        match self.said(number) {
            Said::DeviceAdded(added) => Some(added),
            _ => None,
        }
    }

    /// Returns the powers that some additions give together.
    pub(super) fn powers(&self, additions: &Bits) -> Powers {
        let given = additions.iter().filter_map(|number| self.added(number));
        given.fold(Powers::default(), |all, added| all.with(added.powers))
    }

    /// Returns the number of the earliest of some statements: least depth, then least hash.
    pub(super) fn earliest(&self, of: &Bits) -> Option<usize> {
        of.iter().min_by_key(|number| self.age(*number))
    }

    pub(super) fn age(&self, number: usize) -> (u32, Hash) {
        (self.graph.depth[number], self.graph.hash(number))
    }

    /// Returns whether a signer still has what it needs, when `void` statements give nothing.
    pub(super) fn is_supported(&self, act: &Act, void: &Bits) -> bool {
        let Some(supports) = &act.supports else {
            return true;
        };
        let left = supports.without(void);
        !left.is_empty() && self.powers(&left).contains(act.needs)
    }

    /// Judges one statement in the state that its past gives.
    fn judge(&mut self, number: usize, past: &Outcome) -> Result<Act, Refusal> {
        let (hash, statement) = self.graph.statements[number];
        let (actor, supports, has) = self.signer(statement.signer(), past)?;
        let is_device = matches!(actor, Actor::Device(_));
        let mut needs = Powers::default();
        let mut target = None;
        let mut made = None;
        let mut is_rename = false;
        match statement.said() {
            Said::DeviceAdded(added) => {
                needs = Powers::ADD.with(added.powers.without(Powers::WRITE));
                let device = Actor::Device(added.card.device);
                let known = self.known(&device);
                if !known.revoked_by.and(&past.counting).is_empty() {
                    return Err(Refusal::CameBack);
                }
                let additions = past.counts(&known.made_by);
                if let Some(first) = self.earliest(&additions) {
                    let same = self.added(first).is_some_and(|first| {
                        first.card.same_keys(&added.card) && self.powers(&additions) == added.powers
                    });
                    if !same {
                        return Err(Refusal::OtherKeys);
                    }
                    is_rename = true;
                }
                made = Some(device);
            }
            Said::DeviceRevoked(revoked) => {
                needs = Powers::REVOKE;
                target = Some(Actor::Device(revoked.device));
            }
            Said::RootReplaced(replaced) => {
                if is_device {
                    return Err(Refusal::Powers);
                }
                if self.roots(past).contains(&replaced.root) {
                    return Err(Refusal::FormerRoot);
                }
                target = Some(actor);
                made = Some(Actor::Root(replaced.root));
            }
            // Anybody who is one says it, and nothing follows from it.
            Said::Other(_) => {}
        }
        if !is_device {
            needs = Powers::default();
        } else if !has.contains(needs) {
            return Err(Refusal::Powers);
        }
        let support = supports.and_then(|supports| self.earliest(&supports));
        let (depth, by) = support.map_or((0, Hash::default()), |number| self.age(number));
        let mut hangs_on = supports.unwrap_or_default();
        for support in supports.unwrap_or_default().iter() {
            hangs_on = hangs_on.or(&self.act(support).hangs_on);
            self.dependents[support].insert(number);
        }
        let rank = (is_device, depth, by);
        self.authorised.insert(number);
        self.known.entry(actor).or_default().signed.insert(number);
        if let Some(made) = made {
            let made = self.known.entry(made).or_default();
            let place = if is_rename {
                &mut made.renamed_by
            } else {
                &mut made.made_by
            };
            place.insert(number);
        }
        if let Some(target) = target {
            self.known
                .entry(target)
                .or_default()
                .revoked_by
                .insert(number);
            let order = (rank, target != actor, hash);
            let at = self
                .revocations
                .partition_point(|(other, _)| *other < order);
            self.revocations.insert(at, (order, number));
        }
        Ok(Act {
            needs,
            supports,
            hangs_on,
            rank,
            target,
        })
    }

    /// Returns what a signer is in the state of `past`, what made it so, and its powers.
    fn signer(
        &self,
        signer: &PublicKey,
        past: &Outcome,
    ) -> Result<(Actor, Option<Bits>, Powers), Refusal> {
        let roots = self.roots(past);
        if roots.last() == Some(signer) {
            let actor = Actor::Root(*signer);
            let supports = past.counts(&self.known(&actor).made_by);
            let supports = (roots.len() > 1).then_some(supports);
            return Ok((actor, supports, Powers::default()));
        }
        let actor = Actor::Device(DeviceKey(signer.0));
        let known = self.known(&actor);
        let supports = past.counts(&known.made_by);
        if roots.contains(signer) || !known.revoked_by.and(&past.counting).is_empty() {
            return Err(Refusal::Revoked);
        }
        if supports.is_empty() {
            return Err(Refusal::Stranger);
        }
        Ok((actor, Some(supports), self.powers(&supports)))
    }
}
