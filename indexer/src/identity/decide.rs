//! Which of the authorised statements count.
//!
//! Revocations are decided in the order of rank. One that counts voids whatever its target signed
//! without being named, directly or not, by the revocation: what the target says afterwards, or
//! claims to have said at the same time, is nothing. Where a voided addition takes the ground from a
//! revocation that was decided before, all is decided anew without that addition.

use crate::identity::acts::Acts;
use crate::identity::bits::Bits;

/// What counts among some statements.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// The authorised ones among them.
    within: Bits,
    /// Revocations that count.
    pub(super) counting: Bits,
    void: Bits,
    /// Which revocation voided what: statement, revocation.
    causes: Vec<(usize, usize)>,
}

impl Outcome {
    /// Returns those of some authorised statements that count.
    pub(super) fn counts(&self, of: &Bits) -> Bits {
        of.and(&self.within).without(&self.void)
    }

    /// Returns the revocation that voided a statement.
    pub(super) fn voided_by(&self, number: usize) -> Option<usize> {
        let cause = self.causes.iter().find(|(voided, _)| *voided == number);
        cause.map(|(_, revocation)| *revocation)
    }

    fn void(&mut self, number: usize, revocation: usize) {
        self.void.insert(number);
        self.causes.push((number, revocation));
    }
}

impl Acts<'_> {
    /// Decides what counts among the statements `among`, whose pasts are among them.
    ///
    /// At most as many passes as statements: each but the last loses an addition for good.
    pub(super) fn decide(&self, among: &Bits) -> Outcome {
        let mut lost = Vec::new();
        loop {
            match self.pass(among.and(&self.authorised), &lost) {
                Ok(outcome) => return outcome,
                Err(more) => lost.extend(more),
            }
        }
    }

    /// Decides every revocation once, without what is `lost`.
    ///
    /// # Errors
    /// Returns the additions, each with the revocation that voids it, on which a revocation hangs that was
    /// decided before.
    fn pass(&self, within: Bits, lost: &[(usize, usize)]) -> Result<Outcome, Vec<(usize, usize)>> {
        let mut outcome = Outcome {
            within,
            ..Outcome::default()
        };
        for (number, revocation) in lost {
            outcome.void(*number, *revocation);
            self.void_dependents(*number, *revocation, &mut outcome);
        }
        for &(_, revocation) in &self.revocations {
            if !within.contains(revocation) || outcome.void.contains(revocation) {
                continue;
            }
            outcome.counting.insert(revocation);
            let Some(target) = &self.act(revocation).target else {
                continue;
            };
            let signed = outcome.counts(&self.known(target).signed);
            let taken = signed
                .without(&self.graph.past[revocation])
                .without(&outcome.counting);
            for number in taken.iter() {
                outcome.void(number, revocation);
            }
            for number in taken.iter() {
                self.void_dependents(number, revocation, &mut outcome);
            }
            let undone = outcome.counting.and(&outcome.void);
            if !undone.is_empty() {
                let grounds = undone.iter().fold(Bits::default(), |all, number| {
                    all.or(&self.act(number).hangs_on)
                });
                let lost = taken.and(&grounds).iter();
                return Err(lost.map(|number| (number, revocation)).collect());
            }
        }
        Ok(outcome)
    }

    /// Voids what no longer has what it hangs on, once `number` gives nothing.
    fn void_dependents(&self, number: usize, revocation: usize, outcome: &mut Outcome) {
        let mut next = outcome.counts(&self.dependents[number]);
        while let Some(dependent) = next.pop() {
            if !self.is_supported(self.act(dependent), &outcome.void) {
                outcome.void(dependent, revocation);
                next = next.or(&outcome.counts(&self.dependents[dependent]));
            }
        }
    }
}
