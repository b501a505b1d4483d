//! Finding bytes: which block of a feed holds a byte, as far as proved sizes tell.
//!
//! Peers are not asked for the way (a seek request): its nodes have hashes that are proved and sizes
//! that are not, only the sum of two. What a held block leads to is proved whole, so a reader who does
//! not know yet fetches a block that is likely to be the one, and knows more.

use std::ops::Range;

use crate::tree::{Head, Node, NodeSource};

/// Where a byte of a feed is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sought {
    /// In this block, `offset` bytes from its first one.
    At {
        /// Index of the block.
        block: u64,
        /// Bytes of the block before it.
        offset: u64,
    },
    /// In one of these blocks, which have these bytes of the feed; no node below is held.
    Within {
        /// Blocks.
        blocks: Range<u64>,
        /// Bytes from the feed's beginning.
        bytes: Range<u64>,
    },
    /// Behind the last one.
    Beyond,
}

impl Sought {
    /// Returns the block that is likely to hold `byte`, were all of equal size; `None` behind the end.
    pub fn likely(&self, byte: u64) -> Option<u64> {
        match self {
            Sought::At { block, .. } => Some(*block),
            Sought::Within { blocks, bytes } => {
                let size = u128::from(bytes.end.saturating_sub(bytes.start)).max(1);
                let count = u128::from(blocks.end.saturating_sub(blocks.start));
                let before = u128::from(byte.saturating_sub(bytes.start));
                let ahead = (before * count / size).min(count.saturating_sub(1));
                Some(blocks.start + ahead as u64)
            }
            Sought::Beyond => None,
        }
    }
}

/// Finds byte `byte`, counted from 0, in the feed of this head, by the nodes held. Blocks without bytes
/// hold none.
pub fn seek<S: NodeSource>(head: &Head, source: &S, byte: u64) -> Result<Sought, S::Error> {
    let mut before = 0u64;
    for root in &head.roots {
        let end = before.saturating_add(root.size);
        if byte < end {
            return descend(source, *root, before, byte);
        }
        before = end;
    }
    Ok(Sought::Beyond)
}

/// Goes down from a node that holds the byte, and begins `before` bytes from the feed's first one.
fn descend<S: NodeSource>(
    source: &S,
    mut at: Node,
    mut before: u64,
    byte: u64,
) -> Result<Sought, S::Error> {
    while let (Some(left), Some(right)) = (
        flat_tree::left_child(at.index),
        flat_tree::right_child(at.index),
    ) {
        // Both children are held, or neither: what proves one proves the other.
        let children = source.node(left)?.zip(source.node(right)?);
        let Some((left, right)) = children else {
            let blocks =
                flat_tree::left_span(at.index) / 2..flat_tree::right_span(at.index) / 2 + 1;
            let bytes = before..before.saturating_add(at.size);
            return Ok(Sought::Within { blocks, bytes });
        };
        let middle = before.saturating_add(left.size);
        if byte < middle {
            at = left;
        } else {
            before = middle;
            at = right;
        }
    }
    Ok(Sought::At {
        block: at.index / 2,
        offset: byte - before,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::tree::append;

    struct Held(BTreeMap<u64, Node>);

    impl NodeSource for Held {
        type Error = Infallible;

        fn node(&self, index: u64) -> Result<Option<Node>, Infallible> {
            Ok(self.0.get(&index).copied())
        }
    }

    proptest! {
        #[test]
        fn every_byte_is_in_the_block_that_a_walk_finds_it_in(
            sizes in proptest::collection::vec(0usize..9, 1..70),
            forgotten in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let blocks: Vec<Bytes> = sizes.iter().map(|size| Bytes::from(vec![7; *size])).collect();
            let appended = append(&Head::default(), &blocks).unwrap();
            let mut held: BTreeMap<u64, Node> = appended.leaves.iter().chain(&appended.parents).map(|node| (node.index, *node)).collect();
            // Below some nodes nothing is held.
            for one in forgotten {
                let at = one.index(2 * sizes.len()) as u64;
                let roots: Vec<u64> = appended.head.roots.iter().map(|root| root.index).collect();
                let (from, to) = (flat_tree::left_span(at), flat_tree::right_span(at));
                held.retain(|index, _| roots.contains(index) || *index == at || !(from..=to).contains(index));
            }
            let held = Held(held);
            let mut walked = Vec::new();
            for (block, size) in (0u64..).zip(&sizes) {
                walked.extend((0..*size as u64).map(|offset| (block, offset)));
            }
            for (byte, (block, offset)) in (0u64..).zip(&walked) {
                let sought = seek(&appended.head, &held, byte).unwrap();
                let likely = sought.likely(byte).unwrap();
                match sought {
                    Sought::At { block: found, offset: at } => prop_assert_eq!((found, at), (*block, *offset)),
                    Sought::Within { blocks, bytes } => {
                        prop_assert!(blocks.contains(block) && bytes.contains(&byte));
                        prop_assert!(blocks.contains(&likely));
                        prop_assert_eq!(walked.iter().filter(|(one, _)| *one < blocks.start).count() as u64, bytes.start);
                        prop_assert_eq!(walked.iter().filter(|(one, _)| *one < blocks.end).count() as u64, bytes.end);
                    }
                    Sought::Beyond => prop_assert!(false, "byte {} is there", byte),
                }
            }
            prop_assert_eq!(seek(&appended.head, &held, walked.len() as u64).unwrap(), Sought::Beyond);
        }
    }
}
