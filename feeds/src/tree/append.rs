//! Appending blocks: leaves and the parents they complete, hashed several at a time.

use blake2b_simd::many::{HashManyJob, hash_many, update_many};
use blake2b_simd::{Params, State};
use bytes::Bytes;

use crate::crypto::Hash;
use crate::limits::{FEED_LENGTH_MAX, UINT_MAX};
use crate::tree::node::{LEAF, PARENT};
use crate::tree::{Head, Node};

/// Blocks up to this size are copied behind their prefix and hashed in one go; for larger ones the
/// copy would cost more than keeping a hash state each.
const COPIED_BLOCK_BYTES_MAX: usize = 4 * 1024;

/// Inputs handed to the SIMD hasher at a time: a multiple of every lane count, and with the largest
/// copied blocks 256 KiB of scratch memory.
const HASHED_AT_ONCE: usize = 64;

/// Bytes of a parent's hash input: kind, size, two hashes.
const PARENT_INPUT_BYTES: usize = 1 + 8 + 32 + 32;

/// What appending a batch of blocks made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Appended {
    /// The new head, not signed yet.
    pub head: Head,
    /// One leaf a block, in order.
    pub leaves: Vec<Node>,
    /// The parents that the new leaves completed, in the order of [`completed_parents`].
    pub parents: Vec<Node>,
}

/// Why a batch cannot be appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The feed would have more blocks than the encoding can count.
    #[error("appending {blocks} blocks at length {length} passes the limit of 2^52 blocks")]
    TooLong { length: u64, blocks: u64 },
    /// The feed would have more bytes than the encoding can count.
    #[error("block {block} takes the feed past 2^53 - 1 bytes")]
    TooManyBytes { block: u64 },
}

/// Appends blocks to the tree of `head`; nothing is signed or stored.
///
/// An empty batch gives the same head back.
pub fn append(head: &Head, blocks: &[Bytes]) -> Result<Appended, AppendError> {
    let count = blocks.len() as u64;
    let length = head
        .length
        .checked_add(count)
        .filter(|length| *length <= FEED_LENGTH_MAX)
        .ok_or(AppendError::TooLong {
            length: head.length,
            blocks: count,
        })?;
    let mut byte_length = head.byte_length;
    for (block, data) in (head.length..).zip(blocks) {
        byte_length = byte_length
            .checked_add(data.len() as u64)
            .filter(|bytes| *bytes <= UINT_MAX)
            .ok_or(AppendError::TooManyBytes { block })?;
    }

    let leaves = hash_leaves(head.length, blocks);
    let levels = hash_levels(head, &leaves);
    let parents = completed_parents(head.length, length)
        .map(|index| {
            levels
                .node(index)
                .expect("each completed parent was hashed at its level")
        })
        .collect();
    let roots = crate::tree::root_indexes(length)
        .into_iter()
        .map(|index| {
            let known = levels.node(index).or_else(|| head.root(index).copied());
            known.expect("a root is new or was a root before")
        })
        .collect();
    let head = Head {
        fork: head.fork,
        length,
        byte_length,
        roots,
    };
    Ok(Appended {
        head,
        leaves,
        parents,
    })
}

/// Returns the indexes of the parents that blocks `start..end` complete, in the order in which
/// appending one block after the other completes them: for each block from the lowest up.
pub fn completed_parents(start: u64, end: u64) -> impl Iterator<Item = u64> {
    (start..end).flat_map(|block| {
        let levels = u64::from(block.trailing_ones());
        (1..=levels).map(move |depth| flat_tree::index(depth, block >> depth))
    })
}

/// Hashes blocks to leaves; the first one is block `start`.
pub fn hash_leaves(start: u64, blocks: &[Bytes]) -> Vec<Node> {
    let hashes = hash_values(blocks);
    let nodes = (start..).zip(blocks).zip(hashes);
    let leaf = |((block, data), hash): ((u64, &Bytes), Hash)| Node {
        index: 2 * block,
        size: data.len() as u64,
        hash,
    };
    nodes.map(leaf).collect()
}

/// Returns the hashes that the leaves of blocks have; where they stand does not matter.
pub(crate) fn hash_values(blocks: &[Bytes]) -> Vec<Hash> {
    let mut hashes = Vec::with_capacity(blocks.len());
    let mut scratch = Vec::new();
    for group in blocks.chunks(HASHED_AT_ONCE) {
        let are_copied = group
            .iter()
            .all(|block| block.len() <= COPIED_BLOCK_BYTES_MAX);
        hashes.extend(match are_copied {
            true => hash_copied(group, &mut scratch),
            false => hash_in_place(group),
        });
    }
    hashes
}

fn params() -> Params {
    let mut params = Params::new();
    params.hash_length(32);
    params
}

fn finish(hash: blake2b_simd::Hash) -> Hash {
    Hash(
        hash.as_bytes()
            .try_into()
            .expect("the parameters ask for 32 bytes"),
    )
}

fn hash_all<'a>(inputs: impl Iterator<Item = &'a [u8]>) -> Vec<Hash> {
    let params = params();
    let mut jobs: Vec<HashManyJob<'_>> = inputs
        .map(|input| HashManyJob::new(&params, input))
        .collect();
    hash_many(jobs.iter_mut());
    jobs.iter().map(|job| finish(job.to_hash())).collect()
}

fn hash_copied(blocks: &[Bytes], scratch: &mut Vec<u8>) -> Vec<Hash> {
    scratch.clear();
    for block in blocks {
        scratch.extend_from_slice(&LEAF);
        scratch.extend_from_slice(&(block.len() as u64).to_le_bytes());
        scratch.extend_from_slice(block);
    }
    let mut rest = scratch.as_slice();
    hash_all(blocks.iter().map(|block| {
        let (input, after) = rest.split_at(1 + 8 + block.len());
        rest = after;
        input
    }))
}

fn hash_in_place(blocks: &[Bytes]) -> Vec<Hash> {
    let params = params();
    let mut states: Vec<State> = blocks
        .iter()
        .map(|block| {
            let mut state = params.to_state();
            state
                .update(&LEAF)
                .update(&(block.len() as u64).to_le_bytes());
            state
        })
        .collect();
    update_many(states.iter_mut().zip(blocks));
    states
        .iter()
        .map(|state| finish(state.finalize()))
        .collect()
}

/// Hashes the nodes above the leaves of a whole subtree, a power of two of them, one at least; returns
/// all of them ascending, the top in the middle.
pub(super) fn hash_subtree(leaves: &[Node]) -> Vec<Node> {
    let mut nodes = leaves.to_vec();
    nodes.resize(2 * leaves.len() - 1, leaves[0]);
    let mut level = leaves.to_vec();
    let mut depth = 0;
    loop {
        for (at, node) in level.iter().enumerate() {
            nodes[((2 * at + 1) << depth) - 1] = *node;
        }
        if level.len() < 2 {
            return nodes;
        }
        level = hash_parents(None, &level);
        depth += 1;
    }
}

/// The new nodes of an append, level by level from the leaves.
struct Levels<'a> {
    leaves: &'a [Node],
    /// Level `n` of the tree at position `n - 1`.
    above: Vec<Vec<Node>>,
}

impl Levels<'_> {
    fn node(&self, index: u64) -> Option<Node> {
        let depth = flat_tree::depth(index) as usize;
        let level = match depth.checked_sub(1) {
            None => self.leaves,
            Some(above) => self.above.get(above)?.as_slice(),
        };
        let first = flat_tree::offset(level.first()?.index);
        let at = flat_tree::offset(index).checked_sub(first)?;
        level.get(usize::try_from(at).ok()?).copied()
    }
}

fn hash_levels<'a>(head: &Head, leaves: &'a [Node]) -> Levels<'a> {
    let mut above: Vec<Vec<Node>> = Vec::new();
    loop {
        let below = above.last().map_or(leaves, Vec::as_slice);
        // A level that starts with a right child completes a root of the old head.
        let left = below
            .first()
            .filter(|first| flat_tree::offset(first.index) % 2 == 1)
            .map(|first| {
                *head
                    .root(flat_tree::sibling(first.index))
                    .expect("the left sibling was a root")
            });
        let level = hash_parents(left, below);
        if level.is_empty() {
            return Levels { leaves, above };
        }
        above.push(level);
    }
}

fn hash_parents(left: Option<Node>, below: &[Node]) -> Vec<Node> {
    let first_pair = left.zip(below.first().copied());
    let aligned = &below[usize::from(first_pair.is_some())..];
    let pairs = first_pair
        .into_iter()
        .chain(aligned.chunks_exact(2).map(|pair| (pair[0], pair[1])))
        .collect::<Vec<(Node, Node)>>();
    let mut parents = Vec::with_capacity(pairs.len());
    let mut inputs = [[0u8; PARENT_INPUT_BYTES]; HASHED_AT_ONCE];
    for group in pairs.chunks(HASHED_AT_ONCE) {
        for (input, (left, right)) in inputs.iter_mut().zip(group) {
            input[..1].copy_from_slice(&PARENT);
            input[1..9].copy_from_slice(&(left.size + right.size).to_le_bytes());
            input[9..41].copy_from_slice(&left.hash.0);
            input[41..].copy_from_slice(&right.hash.0);
        }
        let hashes = hash_all(inputs[..group.len()].iter().map(|input| input.as_slice()));
        parents.extend(group.iter().zip(hashes).map(|((left, right), hash)| Node {
            index: flat_tree::parent(left.index),
            size: left.size + right.size,
            hash,
        }));
    }
    parents
}
