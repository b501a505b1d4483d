//! Blocks that are proved together: which nodes one proof for all of them needs.
//!
//! The nodes follow from the set alone: below each node that the reader trusts, every largest
//! subtree without a block of the set, from left to right. Their indexes need not travel, and no
//! node is named that can be computed from the blocks.

use std::ops::Range;

use crate::limits::{FEED_LENGTH_MAX, SET_BLOCKS_MAX};

/// Blocks below one node that the reader trusts, or will by the time the answer arrives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    top: u64,
    runs: Vec<Range<u64>>,
}

impl Group {
    /// Returns the runs of blocks below the node `depth` levels above the first of them; `None` when
    /// they are empty, out of order, touch each other or do not all lie below it.
    pub fn new(depth: u64, runs: Vec<Range<u64>>) -> Option<Group> {
        let (first, last) = (runs.first()?.start, runs.last()?.end);
        if last > FEED_LENGTH_MAX || depth > u64::from(FEED_LENGTH_MAX.ilog2()) {
            return None;
        }
        let top = flat_tree::index(depth, first >> depth);
        let in_order = runs.windows(2).all(|pair| pair[0].end < pair[1].start);
        let fits = last <= blocks_below(top).end && runs.iter().all(|run| run.start < run.end);
        (in_order && fits).then_some(Group { top, runs })
    }

    /// Returns the node that the blocks lead to.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// Returns the levels between a block and the node.
    pub fn depth(&self) -> u64 {
        flat_tree::depth(self.top)
    }

    /// Returns the runs of blocks, ascending and apart.
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// Returns the first block.
    pub fn first(&self) -> u64 {
        self.runs.first().map_or(0, |run| run.start)
    }

    /// Returns how many blocks there are.
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }
}

/// Blocks that are asked for and proved together, at most [`SET_BLOCKS_MAX`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BlockSet {
    groups: Vec<Group>,
}

impl BlockSet {
    /// Returns the set of these groups; `None` when there is none, when their nodes are not apart
    /// and ascending, or when there are too many blocks.
    pub fn new(groups: Vec<Group>) -> Option<BlockSet> {
        let apart = groups
            .windows(2)
            .all(|pair| blocks_below(pair[0].top).end <= blocks_below(pair[1].top).start);
        let mut count = 0u64;
        for group in &groups {
            count = count.checked_add(group.count())?;
        }
        let fits = (1..=SET_BLOCKS_MAX as u64).contains(&count);
        (apart && fits).then_some(BlockSet { groups })
    }

    /// Returns the groups, ascending.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Returns how many blocks there are, at least one.
    pub fn count(&self) -> usize {
        let count: u64 = self.groups.iter().map(Group::count).sum();
        usize::try_from(count).expect("a set has at most SET_BLOCKS_MAX blocks")
    }

    /// Returns the blocks, ascending.
    pub fn blocks(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs().flatten()
    }

    /// Returns the runs of blocks, ascending; those of two groups may touch.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.groups
            .iter()
            .flat_map(|group| group.runs.iter().cloned())
    }

    /// Returns the first `count` blocks with the nodes that they lead to; `None` of none.
    pub fn prefix(&self, count: usize) -> Option<BlockSet> {
        let mut left = count as u64;
        let mut groups = Vec::new();
        for group in &self.groups {
            let mut runs = Vec::new();
            for run in &group.runs {
                let end = run.end.min(run.start.saturating_add(left));
                if run.start < end {
                    runs.push(run.start..end);
                    left -= end - run.start;
                }
            }
            if !runs.is_empty() {
                let top = group.top;
                groups.push(Group { top, runs });
            }
        }
        (!groups.is_empty()).then_some(BlockSet { groups })
    }

    /// Returns the indexes of the nodes that a proof of the set lists, in their order.
    pub fn nodes(&self) -> Vec<u64> {
        let mut nodes = Vec::new();
        for group in &self.groups {
            list(group.top, &group.runs, &mut nodes);
        }
        nodes
    }

    /// Returns the length that a feed must have at least for the set to lie in it.
    pub fn end(&self) -> u64 {
        self.groups
            .last()
            .map_or(0, |group| blocks_below(group.top).end)
    }
}

/// Returns the blocks below a node.
pub(super) fn blocks_below(node: u64) -> Range<u64> {
    let (left, right) = flat_tree::spans(node);
    left / 2..right / 2 + 1
}

/// Returns those of the runs that have a block among `blocks`.
pub(super) fn runs_in<'a>(runs: &'a [Range<u64>], blocks: &Range<u64>) -> &'a [Range<u64>] {
    let first = runs.partition_point(|run| run.end <= blocks.start);
    let end = runs.partition_point(|run| run.start < blocks.end);
    &runs[first..end.max(first)]
}

fn list(at: u64, runs: &[Range<u64>], nodes: &mut Vec<u64>) {
    let blocks = blocks_below(at);
    let runs = runs_in(runs, &blocks);
    let Some(first) = runs.first() else {
        nodes.push(at);
        return;
    };
    if first.start <= blocks.start && blocks.end <= first.end {
        return;
    }
    if let (Some(left), Some(right)) = (flat_tree::left_child(at), flat_tree::right_child(at)) {
        list(left, runs, nodes);
        list(right, runs, nodes);
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // groups of one run
mod tests {
    use super::*;

    #[test]
    fn nodes_are_the_largest_subtrees_without_a_block() {
        let group = Group::new(3, vec![2..3, 5..6]).unwrap();
        assert_eq!((group.top(), group.depth(), group.count()), (7, 3, 2));
        let set = BlockSet::new(vec![group]).unwrap();
        // Blocks 0..2, 3, 4 and 6..8.
        assert_eq!(set.nodes(), [1, 6, 8, 13]);
        assert_eq!(set.prefix(1).unwrap().nodes(), [1, 6, 11]);
        assert_eq!(set.prefix(2), Some(set.clone()));
        assert_eq!((set.prefix(0), set.end()), (None, 8));
    }

    #[test]
    fn a_whole_subtree_needs_no_node() {
        let group = Group::new(4, vec![16..32]).unwrap();
        assert_eq!(BlockSet::new(vec![group]).unwrap().nodes(), [0; 0]);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        assert_eq!(Group::new(1, vec![]), None);
        assert_eq!(Group::new(1, vec![4..4]), None);
        assert_eq!(Group::new(3, vec![4..5, 5..6]), None, "they touch");
        assert_eq!(Group::new(3, vec![4..5, 3..4]), None, "out of order");
        assert_eq!(Group::new(1, vec![4..7]), None, "7 lies beside the node");
        assert_eq!(Group::new(53, vec![0..1]), None);
        assert_eq!(Group::new(0, vec![u64::MAX - 1..u64::MAX]), None);
        let group = |depth, run: Range<u64>| Group::new(depth, vec![run]).unwrap();
        assert_eq!(BlockSet::new(vec![]), None);
        assert_eq!(BlockSet::new(vec![group(2, 0..1), group(0, 1..2)]), None);
        assert_eq!(BlockSet::new(vec![group(0, 1..2), group(0, 0..1)]), None);
        assert!(BlockSet::new(vec![group(0, 0..1), group(0, 1..2)]).is_some());
        let many = group(20, 0..SET_BLOCKS_MAX as u64 + 1);
        assert_eq!(BlockSet::new(vec![many]), None);
    }
}
