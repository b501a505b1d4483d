//! How many levels a request must ask for until it meets a node that will be known.

use crate::bitfield::Bitfield;

/// What counts as known when a request is planned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Climb {
    /// Nodes that are stored, and those that requests on their way will bring.
    Planned,
    /// Stored nodes only: what was planned has failed once.
    Stored,
    /// The roots only.
    Roots,
}

/// Returns the number of parents to climb from the leaf of `block` in a tree of `length` blocks:
/// up to a root, or to a node whose parent has a block of any of `known` below it.
///
/// With a block come the siblings on its whole path, so a node is known as soon as its parent's
/// subtree holds a block that is.
pub(super) fn levels(known: &[&Bitfield], block: u64, length: u64) -> u64 {
    let mut levels = 0;
    loop {
        let parent_blocks = 2u64 << levels;
        let first = block & !(parent_blocks - 1);
        let Some(end) = first.checked_add(parent_blocks) else {
            return levels;
        };
        if end > length || known.iter().any(|known| known.any_in(first..end)) {
            return levels;
        }
        levels += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_climb_ends_at_a_root_or_below_a_known_path() {
        let none = Bitfield::new();
        // Length 7: roots over blocks 0..4, 4..6 and 6.
        assert_eq!(levels(&[&none], 0, 7), 2);
        assert_eq!(levels(&[&none], 5, 7), 1);
        assert_eq!(levels(&[&none], 6, 7), 0);
        assert_eq!(levels(&[], 3, 8), 3);

        let mut known = Bitfield::new();
        known.set(2, true);
        assert_eq!(levels(&[&known], 3, 8), 0);
        assert_eq!(levels(&[&known], 0, 8), 1);
        assert_eq!(levels(&[&known], 7, 8), 2);
        assert_eq!(levels(&[&none, &known], 0, 8), 1);
        assert_eq!(levels(&[], 3, 8), 3, "nothing but the roots counts");
    }

    #[test]
    fn a_run_asked_in_order_asks_for_each_node_once() {
        let mut known = Bitfield::new();
        let mut asked = 0;
        for block in 0..64 {
            asked += levels(&[&known], block, 64);
            known.set(block, true);
        }
        // 63 inner nodes and 64 leaves, less the root and one node of each pair that is computed.
        assert_eq!(asked, 63);
    }
}
