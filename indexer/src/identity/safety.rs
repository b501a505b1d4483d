//! Digits that two people compare to know that nobody stands between them.

use std::fmt;

use kinlog_feeds::crypto::{AgentId, PublicKey, blake2b_256, namespace};

/// How often the hash is iterated: finding another key with the same 30 digits costs that much more.
const ITERATIONS: usize = 5200;

/// Groups of 5 digits for each agent.
const GROUPS: usize = 6;

/// The safety number of two agents: 60 digits, the same on both sides.
///
/// 30 digits for each agent, the smaller id first: six groups of five bytes of
/// `H^5200(NS("safety") || agent || current root)`, each as a big-endian number modulo 100,000. It
/// changes when a root is replaced, not with devices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SafetyNumber([u32; 2 * GROUPS]);

impl SafetyNumber {
    /// Returns the number of two agents, each with the root that speaks for it now.
    pub fn of(one: (&AgentId, &PublicKey), two: (&AgentId, &PublicKey)) -> Self {
        let (first, second) = if one.0 <= two.0 {
            (one, two)
        } else {
            (two, one)
        };
        let mut groups = [0; 2 * GROUPS];
        let (of_first, of_second) = groups.split_at_mut(GROUPS);
        fill(of_first, first);
        fill(of_second, second);
        SafetyNumber(groups)
    }

    /// Returns the 60 digits without spaces, as a QR code has them.
    pub fn digits(&self) -> String {
        self.0.iter().map(|group| format!("{group:05}")).collect()
    }
}

impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, group) in self.0.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{group:05}")?;
        }
        Ok(())
    }
}

fn fill(groups: &mut [u32], (agent, root): (&AgentId, &PublicKey)) {
    let mut hash = blake2b_256(&[&namespace::SAFETY.hash(), agent.as_bytes(), root.as_bytes()]);
    for _ in 1..ITERATIONS {
        hash = blake2b_256(&[&hash]);
    }
    for (group, bytes) in groups.iter_mut().zip(hash.chunks_exact(5)) {
        let number = bytes
            .iter()
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        *group = (number % 100_000) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_sixty_digits_and_a_new_root_changes_its_half() {
        let (ada, bob) = (AgentId([1; 32]), AgentId([2; 32]));
        let (root, other) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let number = SafetyNumber::of((&ada, &root), (&bob, &other));
        assert_eq!(number, SafetyNumber::of((&bob, &other), (&ada, &root)));
        assert_eq!(number.digits().len(), 60);
        assert_eq!(number.to_string().split(' ').count(), 12);
        let replaced = SafetyNumber::of((&ada, &root), (&bob, &PublicKey([3; 32])));
        assert_eq!(number.0[..6], replaced.0[..6]);
        assert_ne!(number.0[6..], replaced.0[6..]);
    }
}
