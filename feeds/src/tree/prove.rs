//! Making proofs: which nodes a reader needs, from what it says it has.
//!
//! Each part is first a list of indexes, worked out without touching a node (seeks apart), and
//! loaded at the end. Every climb is bounded by the height of the tree, whatever the request says.

use bytes::Bytes;

use crate::limits::FEED_LENGTH_MAX;
use crate::tree::head::{contains, subtrees};
use crate::tree::{
    BlockProof, HashProof, Head, Node, NodeSource, Proof, ProofRequest, SeekProof, SeekRequest,
    UpgradeProof, root_indexes,
};

/// Why a proof cannot be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError<E> {
    /// An upgrade from or to lengths that this feed does not have.
    #[error("upgrade from {start} by {blocks} blocks does not fit length {length}")]
    InvalidUpgrade {
        start: u64,
        blocks: u64,
        length: u64,
    },
    /// A block or node outside the feed, or more levels than the tree has.
    #[error("node {node} with {levels} levels lies outside a feed of length {length}")]
    OutOfBounds { node: u64, levels: u64, length: u64 },
    /// A seek outside the subtree that the rest of the request names.
    #[error("byte {bytes} does not lie where the request looks for it")]
    InvalidSeek { bytes: u64 },
    /// A seek and a block inside one upgrade, which the format cannot say.
    #[error("a seek and a block of the same upgrade cannot be in one proof")]
    SeekAndBlockInUpgrade,
    /// A node the proof needs is not held.
    #[error("node {node} is not held")]
    MissingNode { node: u64 },
    /// The source of nodes failed.
    #[error("nodes could not be read")]
    Source(#[source] E),
}

/// Makes the proof that answers `request` from the head and the nodes held.
///
/// `signature` is the signature field over `head`; it goes into the upgrade part. The block's value
/// is left empty: the caller fills it in.
pub fn prove<S: NodeSource>(
    head: &Head,
    source: &S,
    request: &ProofRequest,
    signature: &[u8],
) -> Result<Proof, ProveError<S::Error>> {
    let prover = Prover { head, source };
    let parts = prover.parts(request)?;
    let mut proof = Proof {
        fork: head.fork,
        ..Proof::default()
    };
    match (request.block, request.hash, parts.node) {
        (Some(block), _, Some(nodes)) => {
            let nodes = prover.load(&nodes)?;
            proof.block = Some(BlockProof {
                index: block.index,
                value: Bytes::new(),
                nodes,
            });
        }
        (None, Some(hash), Some(nodes)) => {
            proof.hash = Some(HashProof {
                index: hash.index,
                nodes: prover.load(&nodes)?,
            });
        }
        (None, None, _) => {}
        (Some(block), _, None) => return Err(prover.out_of_bounds(2 * block.index, block.nodes)),
        (None, Some(hash), None) => return Err(prover.out_of_bounds(hash.index, hash.nodes)),
    }
    if let (Some(seek), Some(nodes)) = (request.seek, parts.seek) {
        proof.seek = Some(SeekProof {
            bytes: seek.bytes,
            nodes: prover.load(&nodes)?,
        });
    }
    if let Some(upgrade) = request.upgrade {
        proof.upgrade = Some(UpgradeProof {
            start: upgrade.start,
            length: upgrade.length,
            nodes: prover.load(&parts.upgrade)?,
            additional_nodes: prover.load(&parts.additional)?,
            signature: Bytes::copy_from_slice(signature),
        });
    }
    Ok(proof)
}

/// The block or hash part of a request, in one form.
#[derive(Clone, Copy)]
struct Target {
    index: u64,
    levels: u64,
    /// A hash request lists the node itself first.
    list_itself: bool,
}

/// Indexes of the nodes of each part.
#[derive(Default)]
struct Parts {
    node: Option<Vec<u64>>,
    seek: Option<Vec<u64>>,
    upgrade: Vec<u64>,
    additional: Vec<u64>,
}

impl Parts {
    /// Lists the path from `seek_root` up to `root`, which is above it.
    fn seek_path(&mut self, seek_root: u64, root: u64) {
        let mut path = vec![seek_root];
        let mut at = seek_root;
        while at != root {
            path.push(flat_tree::sibling(at));
            at = flat_tree::parent(at);
        }
        self.seek = Some(path);
    }

    /// Lists the path from `target` up to `root`, which is above it, with the path of the seek
    /// spliced in where the two part.
    fn target_path(&mut self, target: Option<Target>, seek_root: Option<u64>, root: u64) {
        let Some(target) = target else {
            if let Some(seek_root) = seek_root {
                self.seek_path(seek_root, root);
            }
            return;
        };
        let mut path = Vec::new();
        if target.list_itself {
            path.push(target.index);
        }
        let mut at = target.index;
        while at != root {
            let sibling = flat_tree::sibling(at);
            match seek_root {
                Some(seek) if contains(sibling, seek) && sibling != seek => {
                    self.seek_path(seek, sibling);
                }
                _ => path.push(sibling),
            }
            at = flat_tree::parent(at);
        }
        self.node = Some(path);
    }
}

struct Prover<'a, S> {
    head: &'a Head,
    source: &'a S,
}

impl<S: NodeSource> Prover<'_, S> {
    fn parts(&self, request: &ProofRequest) -> Result<Parts, ProveError<S::Error>> {
        let length = self.head.length;
        let (start, end) = match request.upgrade {
            None => (0, length),
            Some(upgrade) => {
                let end = upgrade.start.checked_add(upgrade.length);
                match end {
                    Some(end) if upgrade.length > 0 && end <= length => (upgrade.start, end),
                    _ => {
                        let (start, blocks) = (upgrade.start, upgrade.length);
                        return Err(ProveError::InvalidUpgrade {
                            start,
                            blocks,
                            length,
                        });
                    }
                }
            }
        };
        let target = self.target(request)?;
        let in_upgrade = |target: &Target| {
            request.upgrade.is_some() && flat_tree::right_span(target.index) >= 2 * start
        };
        if let (Some(_), Some(_), Some(target)) = (request.seek, request.upgrade, target)
            && target.index >= 2 * start
        {
            return Err(ProveError::SeekAndBlockInUpgrade);
        }

        let mut parts = Parts::default();
        // The node whose path replaces the upgrade root above it.
        let mut subtree = None;
        match target {
            Some(target) if !in_upgrade(&target) => {
                let root = self.climb(target, end)?;
                let seek_root = match request.seek {
                    Some(seek) => Some(self.seek_below(root, seek)?),
                    None => None,
                };
                parts.target_path(Some(target), seek_root, root);
            }
            _ if request.upgrade.is_some() => {
                subtree = match request.seek {
                    Some(seek) => self.seek_from_head(end, seek)?,
                    None => target.map(|target| target.index),
                };
            }
            _ => {}
        }
        if request.upgrade.is_some() {
            let seek_root = subtree.filter(|_| request.seek.is_some());
            for root in subtrees(start, end) {
                let open = parts.node.is_none() && parts.seek.is_none();
                let replaced = subtree.is_some_and(|subtree| contains(root, subtree))
                    && target.is_none_or(|target| contains(root, target.index));
                if open && replaced {
                    parts.target_path(target, seek_root, root);
                } else {
                    parts.upgrade.push(root);
                }
            }
            if length > end {
                parts.additional = subtrees(end, length);
            }
        }
        Ok(parts)
    }

    fn target(&self, request: &ProofRequest) -> Result<Option<Target>, ProveError<S::Error>> {
        let target = match (request.block, request.hash) {
            (Some(block), _) => {
                let index = block.index.saturating_mul(2);
                Target {
                    index,
                    levels: block.nodes,
                    list_itself: false,
                }
            }
            (None, Some(hash)) => Target {
                index: hash.index,
                levels: hash.nodes,
                list_itself: true,
            },
            (None, None) => return Ok(None),
        };
        let inside = target.index < 2 * FEED_LENGTH_MAX
            && flat_tree::right_span(target.index) < 2 * self.head.length;
        if inside {
            Ok(Some(target))
        } else {
            Err(self.out_of_bounds(target.index, target.levels))
        }
    }

    /// Returns the node `target.levels` above the target, which must lie in the first `end` blocks.
    fn climb(&self, target: Target, end: u64) -> Result<u64, ProveError<S::Error>> {
        let mut at = target.index;
        for _ in 0..target.levels {
            at = flat_tree::parent(at);
            if flat_tree::right_span(at) >= 2 * end {
                return Err(self.out_of_bounds(target.index, target.levels));
            }
        }
        Ok(at)
    }

    /// Returns the lowest node held that contains the byte, below `root`, which may not hold it.
    fn seek_below(&self, root: u64, seek: SeekRequest) -> Result<u64, ProveError<S::Error>> {
        let invalid = ProveError::InvalidSeek { bytes: seek.bytes };
        let first_block = flat_tree::left_span(root) / 2;
        let before = i128::from(self.byte_offset(root)?);
        let offset = before - i128::from(seek.padding) * i128::from(first_block);
        let bytes = i128::from(seek.bytes);
        if offset > bytes {
            return Err(invalid);
        }
        if offset == bytes {
            return Ok(root);
        }
        let bytes = bytes - offset;
        if unpadded(&self.node(root)?, seek) <= bytes {
            return Err(invalid);
        }
        self.descend(root, bytes, seek)
    }

    /// Returns the lowest node held that contains the byte, in a tree of `length` blocks; `None`
    /// when the byte lies behind its end.
    fn seek_from_head(
        &self,
        length: u64,
        seek: SeekRequest,
    ) -> Result<Option<u64>, ProveError<S::Error>> {
        let mut bytes = i128::from(seek.bytes);
        for root in root_indexes(length) {
            let size = unpadded(&self.node(root)?, seek);
            if bytes == size {
                return Ok(Some(root));
            }
            if bytes < size {
                return self.descend(root, bytes, seek).map(Some);
            }
            bytes -= size;
        }
        Ok(None)
    }

    /// Goes down from `root` to the block that holds byte `bytes` of it, or as deep as nodes are
    /// held.
    fn descend(
        &self,
        root: u64,
        mut bytes: i128,
        seek: SeekRequest,
    ) -> Result<u64, ProveError<S::Error>> {
        let mut at = root;
        if bytes == 0 {
            return Ok(at);
        }
        while let (Some(left), Some(right)) =
            (flat_tree::left_child(at), flat_tree::right_child(at))
        {
            let Some(node) = self.find(left)? else {
                return Ok(at);
            };
            let size = unpadded(&node, seek);
            if size == bytes {
                return Ok(left);
            }
            at = if size > bytes {
                left
            } else {
                bytes -= size;
                right
            };
        }
        Ok(at)
    }

    /// Returns the bytes of all blocks left of the subtree of `index`.
    fn byte_offset(&self, index: u64) -> Result<u64, ProveError<S::Error>> {
        let leaf = flat_tree::left_span(index);
        let mut offset = 0u64;
        for root in &self.head.roots {
            if !contains(root.index, leaf) {
                offset = offset.saturating_add(root.size);
                continue;
            }
            let mut at = root.index;
            while let (Some(left), Some(right)) =
                (flat_tree::left_child(at), flat_tree::right_child(at))
            {
                if contains(left, leaf) {
                    at = left;
                } else {
                    offset = offset.saturating_add(self.node(left)?.size);
                    at = right;
                }
            }
            break;
        }
        Ok(offset)
    }

    fn find(&self, index: u64) -> Result<Option<Node>, ProveError<S::Error>> {
        match self.head.root(index) {
            Some(root) => Ok(Some(*root)),
            None => self.source.node(index).map_err(ProveError::Source),
        }
    }

    fn node(&self, index: u64) -> Result<Node, ProveError<S::Error>> {
        self.find(index)?
            .ok_or(ProveError::MissingNode { node: index })
    }

    fn load(&self, indexes: &[u64]) -> Result<Vec<Node>, ProveError<S::Error>> {
        indexes.iter().map(|index| self.node(*index)).collect()
    }

    fn out_of_bounds(&self, node: u64, levels: u64) -> ProveError<S::Error> {
        ProveError::OutOfBounds {
            node,
            levels,
            length: self.head.length,
        }
    }
}

/// Returns the bytes below a node without the padding of each block; negative when the padding
/// asked for is larger than the blocks.
fn unpadded(node: &Node, seek: SeekRequest) -> i128 {
    let leaves = i128::from(flat_tree::count_leaves(node.index));
    i128::from(node.size) - i128::from(seek.padding) * leaves
}
