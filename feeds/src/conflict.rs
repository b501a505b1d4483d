//! The proof that a feed's writer signed two heads that cannot both be true.
//!
//! It holds all that a third person needs: the feed key, the manifest that the key commits to, both
//! heads with their signatures, and the nodes that show the contradiction. A [`ConflictProof`] is
//! verified when it is made, by [`between`](ConflictProof::between) or
//! [`decode`](ConflictProof::decode): there is no unverified one. `docs/formats.md` gives the bytes.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use crate::crypto::{FeedKey, Hash};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::limits::{
    CONFLICT_PROOF_BYTES_MAX, FEED_LENGTH_MAX, MANIFEST_BYTES_MAX, SIGNATURE_BYTES_MAX,
};
use crate::manifest::{Manifest, SignatureFault, Verifier, VerifierError};
use crate::tree::{Builder, Conflict, Fault, Head, Node, NodeSource, SignedHead};
use crate::tree::{root_indexes, subtrees};

const MAGIC: [u8; 4] = *b"KLCP";
const VERSION: u8 = 1;
const KIND_TREES: u8 = 1;
const KIND_FORK: u8 = 2;

/// In what way two signed heads contradict each other.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Contradiction {
    /// Of one fork, and this node of the flat tree, complete in both, differs: whatever was appended
    /// since, one head cannot continue the other.
    Trees {
        /// Flat-tree index of the leftmost such node.
        node: u64,
    },
    /// Of two forks, on a feed that has fork 0 for ever. On a plain feed this is no conflict.
    Fork,
}

/// Two heads signed by the writer of a feed, and what shows that they contradict each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConflictProof {
    feed: FeedKey,
    manifest: Manifest,
    contradiction: Contradiction,
    /// Roots of what both trees begin with.
    common: Vec<Node>,
    /// The shorter head first; of two forks the lower one.
    sides: [Side; 2],
}

/// A head with the nodes that lead there from the common beginning.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Side {
    nodes: Vec<Node>,
    signed: SignedHead,
}

/// Why bytes are no proof of a conflict.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConflictProofError {
    /// Larger than any proof.
    #[error("{actual} bytes, a conflict proof has at most {limit}")]
    TooLarge { limit: usize, actual: usize },
    /// The bytes do not decode, or not in the one form that is written.
    #[error("no conflict proof")]
    Malformed(#[source] DecodeError),
    /// Numbers or an order in another form than the one that is written.
    #[error("the conflict proof is not in its one form")]
    NotCanonical,
    /// The manifest is another feed's.
    #[error("the manifest is not the feed's")]
    Manifest(#[source] VerifierError),
    /// The nodes are no tree of this length.
    #[error("the nodes make no tree of {length} blocks")]
    Tree { length: u64, fault: Fault },
    /// A signature does not hold over its head.
    #[error("the signature over the head of {length} blocks does not hold")]
    Signature {
        length: u64,
        #[source]
        fault: SignatureFault,
    },
    /// Both heads hold and do not contradict each other.
    #[error("the two heads do not contradict each other")]
    NoContradiction,
}

impl ConflictProof {
    /// Makes the proof from the head held, with its trusted nodes, and the one that contradicts it.
    ///
    /// `ours` is `None` when nothing was held: then the other head's fork alone is the conflict.
    /// Returns `None` when a node that the proof needs is not held, or what was sent cannot be
    /// shown to others (sizes shifted between two nodes).
    pub fn between<S: NodeSource>(
        feed: FeedKey,
        manifest: &Manifest,
        ours: Option<&SignedHead>,
        source: &S,
        conflict: &Conflict,
    ) -> Result<Option<ConflictProof>, S::Error> {
        let theirs = &conflict.theirs;
        let nothing = SignedHead {
            head: Head::default(),
            tree_hash: Head::default().tree_hash(),
            signature: Bytes::new(),
        };
        let ours = ours.unwrap_or(&nothing);
        let proof = if ours.head.fork == theirs.head.fork {
            let held = |index: u64| match ours.head.root(index) {
                Some(root) => Ok(Some(*root)),
                None => source.node(index),
            };
            let shown: HashMap<u64, Node> = conflict
                .nodes
                .iter()
                .chain(&theirs.head.roots)
                .map(|node| (node.index, *node))
                .collect();
            let Some((node, common)) = first_difference(conflict.at, &held, &shown)? else {
                return Ok(None);
            };
            let way = |length| way_from(node, length);
            let mut own_nodes = Vec::new();
            for index in way(ours.head.length) {
                match held(index)? {
                    Some(node) => own_nodes.push(node),
                    None => return Ok(None),
                }
            }
            let their_nodes = way(theirs.head.length)
                .map(|index| shown.get(&index).copied())
                .collect::<Option<Vec<Node>>>();
            let Some(their_nodes) = their_nodes else {
                return Ok(None);
            };
            let contradiction = Contradiction::Trees { node };
            let sides = [side(ours, own_nodes), side(theirs, their_nodes)];
            in_order(feed, manifest, contradiction, common, sides)
        } else {
            let sides = [ours, theirs].map(|signed| side(signed, signed.head.roots.clone()));
            in_order(feed, manifest, Contradiction::Fork, Vec::new(), sides)
        };
        Ok(ConflictProof::decode(&proof.encode()).ok())
    }

    /// Reads and verifies a proof that fills `bytes`; needs nothing else.
    ///
    /// # Errors
    ///
    /// Any changed byte is one: the signatures cover both heads, and numbers have one form only.
    pub fn decode(bytes: &[u8]) -> Result<ConflictProof, ConflictProofError> {
        if bytes.len() > CONFLICT_PROOF_BYTES_MAX {
            let (limit, actual) = (CONFLICT_PROOF_BYTES_MAX, bytes.len());
            return Err(ConflictProofError::TooLarge { limit, actual });
        }
        let raw = RawProof::read(bytes).map_err(ConflictProofError::Malformed)?;
        let manifest = match raw.manifest {
            [] => Manifest::compat(crate::PublicKey(raw.feed.0)),
            encoded => Manifest::decode(encoded).map_err(ConflictProofError::Malformed)?,
        };
        let verifier = Verifier::new(raw.feed, &manifest).map_err(ConflictProofError::Manifest)?;
        let [first, second] = raw.sides;
        let common = raw.common;
        let sides = [
            first.verify(&verifier, &common)?,
            second.verify(&verifier, &common)?,
        ];
        let (feed, contradiction) = (raw.feed, raw.contradiction);
        let contradicts = match contradiction {
            Contradiction::Trees { .. } => differ(&sides),
            Contradiction::Fork => sides[0].signed.head.fork < sides[1].signed.head.fork,
        };
        if !contradicts {
            return Err(ConflictProofError::NoContradiction);
        }
        let proof = in_order(feed, &manifest, contradiction, common, sides);
        match proof.encode() == bytes {
            true => Ok(proof),
            false => Err(ConflictProofError::NotCanonical),
        }
    }

    /// Returns the bytes that are stored, sent and exported.
    ///
    /// Below 4 KiB for feeds of one writer and up to 2^40 blocks.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.put_raw(&MAGIC);
        let kind = match self.contradiction {
            Contradiction::Trees { .. } => KIND_TREES,
            Contradiction::Fork => KIND_FORK,
        };
        out.put_raw(&[VERSION, kind]);
        out.put_raw(&self.feed.0);
        match self.manifest.is_compat(&self.feed) {
            true => out.put_buffer(&[]),
            false => out.put_buffer(&self.manifest.encode()),
        }
        if let Contradiction::Trees { node } = self.contradiction {
            out.put_uint(node);
        }
        put_nodes(&mut out, &self.common);
        for Side { nodes, signed } in &self.sides {
            out.put_uint(signed.head.fork);
            out.put_uint(signed.head.length);
            put_nodes(&mut out, nodes);
            out.put_buffer(&signed.signature);
        }
        out
    }

    /// Returns the feed.
    pub fn feed(&self) -> FeedKey {
        self.feed
    }

    /// Returns the manifest that the feed key commits to.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns in what way the heads contradict each other.
    pub fn contradiction(&self) -> Contradiction {
        self.contradiction
    }

    /// Returns both heads, the shorter or of the lower fork first. That one is empty and unsigned
    /// where nothing but a head of another fork was ever seen.
    pub fn heads(&self) -> [&SignedHead; 2] {
        self.sides.each_ref().map(|side| &side.signed)
    }

    /// Returns the blocks among which the first difference lies; all of them for two forks.
    pub fn blocks(&self) -> Range<u64> {
        match self.contradiction {
            Contradiction::Trees { node } => {
                flat_tree::left_span(node) / 2..flat_tree::right_span(node) / 2 + 1
            }
            Contradiction::Fork => 0..self.sides[1].signed.head.length,
        }
    }
}

impl std::fmt::Display for ConflictProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [one, other] = self.heads().map(|signed| &signed.head);
        match self.contradiction {
            Contradiction::Trees { .. } => {
                let blocks = self.blocks();
                write!(
                    f,
                    "heads of {} and {} blocks, both signed, differ in blocks {}..{}",
                    one.length, other.length, blocks.start, blocks.end
                )
            }
            Contradiction::Fork => {
                let (fork, length) = (other.fork, other.length);
                write!(
                    f,
                    "a head of {length} blocks is signed on fork {fork}, not 0"
                )
            }
        }
    }
}

/// A proof as its bytes say, nothing checked but its shape.
struct RawProof<'a> {
    feed: FeedKey,
    manifest: &'a [u8],
    contradiction: Contradiction,
    common: Vec<Node>,
    sides: [RawSide; 2],
}

struct RawSide {
    fork: u64,
    length: u64,
    nodes: Vec<Node>,
    signature: Bytes,
}

impl<'a> RawProof<'a> {
    fn read(bytes: &'a [u8]) -> Result<RawProof<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let unknown = |what, at, actual: u8| DecodeError::UnknownValue {
            what,
            at,
            actual: u64::from(actual),
        };
        let magic: [u8; 4] = reader.fixed()?;
        if magic != MAGIC {
            return Err(unknown("magic of a conflict proof", 0, magic[0]));
        }
        let [version, kind]: [u8; 2] = reader.fixed()?;
        if version != VERSION {
            return Err(unknown("version of a conflict proof", 4, version));
        }
        let feed = FeedKey(reader.fixed()?);
        let manifest = reader.buffer("manifest", MANIFEST_BYTES_MAX)?;
        let contradiction = match kind {
            KIND_TREES => Contradiction::Trees {
                node: read_node_index(&mut reader)?,
            },
            KIND_FORK => Contradiction::Fork,
            other => return Err(unknown("kind of a conflict proof", 5, other)),
        };
        let common = match contradiction {
            Contradiction::Trees { node } => {
                read_nodes(&mut reader, root_indexes(flat_tree::left_span(node) / 2))?
            }
            Contradiction::Fork => Vec::new(),
        };
        let sides = [
            RawSide::read(&mut reader, contradiction)?,
            RawSide::read(&mut reader, contradiction)?,
        ];
        reader.finish()?;
        Ok(RawProof {
            feed,
            manifest,
            contradiction,
            common,
            sides,
        })
    }
}

impl RawSide {
    fn read(reader: &mut Reader<'_>, contradiction: Contradiction) -> Result<RawSide, DecodeError> {
        let fork = reader.uint()?;
        let at = reader.position();
        let length = reader.uint()?;
        let least = match contradiction {
            Contradiction::Trees { node } => flat_tree::right_span(node) / 2 + 1,
            Contradiction::Fork => 0,
        };
        if !(least..=FEED_LENGTH_MAX).contains(&length) {
            let (what, actual) = ("length of a head", length);
            return Err(DecodeError::UnknownValue { what, at, actual });
        }
        let indexes = match contradiction {
            Contradiction::Trees { node } => way_from(node, length).collect(),
            Contradiction::Fork => root_indexes(length),
        };
        Ok(RawSide {
            fork,
            length,
            nodes: read_nodes(reader, indexes)?,
            signature: Bytes::copy_from_slice(reader.buffer("signature", SIGNATURE_BYTES_MAX)?),
        })
    }

    fn verify(self, verifier: &Verifier, common: &[Node]) -> Result<Side, ConflictProofError> {
        let RawSide {
            fork,
            length,
            nodes,
            signature,
        } = self;
        let mut builder = Builder::new(&Head::default());
        builder
            .append_bare(common)
            .and_then(|()| builder.append_bare(&nodes))
            .map_err(|fault| ConflictProofError::Tree { length, fault })?;
        let head = builder.head(fork);
        let nothing_held = length == 0 && fork == 0 && signature.is_empty();
        if !nothing_held {
            verifier
                .verify_head(&head, &signature)
                .map_err(|fault| ConflictProofError::Signature { length, fault })?;
        }
        let tree_hash = head.tree_hash();
        let signed = SignedHead {
            head,
            tree_hash,
            signature,
        };
        Ok(Side { nodes, signed })
    }
}

/// Returns whether both heads are of one fork and differ in the first node behind the common ones.
fn differ([one, other]: &[Side; 2]) -> bool {
    let first = |side: &Side| side.nodes.first().map(|node| node.hash);
    one.signed.head.fork == other.signed.head.fork && first(one) != first(other)
}

fn side(signed: &SignedHead, nodes: Vec<Node>) -> Side {
    Side {
        nodes,
        signed: signed.clone(),
    }
}

/// Puts the sides into the order that makes the same two heads the same bytes, whoever found them.
fn in_order(
    feed: FeedKey,
    manifest: &Manifest,
    contradiction: Contradiction,
    common: Vec<Node>,
    mut sides: [Side; 2],
) -> ConflictProof {
    let order = |side: &Side| -> (u64, u64, Hash) {
        let head = &side.signed.head;
        (head.fork, head.length, side.signed.tree_hash)
    };
    if order(&sides[0]) > order(&sides[1]) {
        sides.reverse();
    }
    ConflictProof {
        feed,
        manifest: manifest.clone(),
        contradiction,
        common,
        sides,
    }
}

/// Finds the leftmost root at length `at` that the two trees do not share, and the roots before it.
fn first_difference<E>(
    at: u64,
    held: &impl Fn(u64) -> Result<Option<Node>, E>,
    shown: &HashMap<u64, Node>,
) -> Result<Option<(u64, Vec<Node>)>, E> {
    let mut common = Vec::new();
    for index in root_indexes(at) {
        let Some(own) = held(index)? else {
            return Ok(None);
        };
        match shown.get(&index) {
            Some(theirs) if theirs.hash != own.hash => return Ok(Some((index, common))),
            _ => common.push(own),
        }
    }
    Ok(None)
}

/// Returns the subtrees that lead from the left end of `node` to a tree of `length` blocks.
fn way_from(node: u64, length: u64) -> impl Iterator<Item = u64> {
    let end = flat_tree::right_span(node) / 2 + 1;
    std::iter::once(node).chain(subtrees(end, length))
}

fn put_nodes(out: &mut Vec<u8>, nodes: &[Node]) {
    for node in nodes {
        out.put_uint(node.size);
        out.put_raw(&node.hash.0);
    }
}

fn read_nodes(reader: &mut Reader<'_>, indexes: Vec<u64>) -> Result<Vec<Node>, DecodeError> {
    indexes
        .into_iter()
        .map(|index| {
            Ok(Node {
                index,
                size: reader.uint()?,
                hash: Hash(reader.fixed()?),
            })
        })
        .collect()
}

fn read_node_index(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let at = reader.position();
    let index = reader.uint()?;
    if index >= 2 * FEED_LENGTH_MAX || flat_tree::right_span(index) >= 2 * FEED_LENGTH_MAX {
        return Err(DecodeError::IntegerTooLarge { at, value: index });
    }
    Ok(index)
}
