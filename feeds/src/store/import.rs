//! Taking a bundle in: all of it is checked first, then its head, then what is not held yet.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::bundle::{BundleError, BundleHeader, BundleReader, Chunk};
use crate::crypto::FeedKey;
use crate::limits::FEED_LENGTH_MAX;
use crate::manifest::Manifest;
use crate::store::apply::Incoming;
use crate::store::error::{ApplyError, CreateError, ReadError, StoreError};
use crate::store::feed::Feed;
use crate::store::limits::{IMPORT_BLOCKS, IMPORT_BYTES, IMPORT_TRIES};
use crate::store::state::{Kind, Role};
use crate::store::store::Store;
use crate::tree::{BlockProof, Head, Node, Proof, UpgradeProof, root_indexes, subtrees};

/// What an import brought; all of it is durable.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Imported {
    /// The feed was not held before.
    pub created: bool,
    /// Length of the head before.
    pub length_before: u64,
    /// Length of the head now.
    pub length: u64,
    /// Blocks that were not held before and are now.
    pub blocks_new: u64,
    /// Their bytes.
    pub bytes_new: u64,
    /// Blocks of the bundle that were held already; they are kept as they are.
    pub blocks_held: u64,
    /// Blocks of the bundle that hang on nodes of a shorter head that are not held here, and were
    /// left out.
    pub blocks_untied: u64,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ImportProgress {
    /// Blocks of the bundle that were looked at.
    pub blocks: u64,
    /// Blocks of the bundle.
    pub blocks_total: u64,
    /// Bytes of the blocks that were looked at.
    pub bytes: u64,
}

/// Why a bundle is not taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The bundle does not hold; nothing of it was stored.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The feed is our own, and the bundle has more of it than this store ever signed: another
    /// installation, or an earlier state of this one, wrote on. Taking it in would let the next
    /// append sign a length twice.
    #[error("feed {feed} is our own and has {ours} blocks here, {theirs} in the bundle")]
    OwnFeedLonger {
        /// The feed.
        feed: FeedKey,
        /// Our length.
        ours: u64,
        /// The bundle's.
        theirs: u64,
    },
    /// The bundle's head is longer, and its blocks do not show that it continues ours.
    #[error(
        "feed {feed}: nothing in the bundle shows that its {theirs} blocks continue the {ours} that are held"
    )]
    NotTied {
        /// The feed.
        feed: FeedKey,
        /// Our length.
        ours: u64,
        /// The bundle's.
        theirs: u64,
    },
    /// The feed grew again and again while the bundle was read.
    #[error("feed {feed} changed while the bundle was read")]
    Changed {
        /// The feed.
        feed: FeedKey,
    },
    /// The store does not take it: a conflict, another fork, a block above the feed's limit.
    #[error(transparent)]
    Refused(#[from] ApplyError),
    /// The feed cannot be added.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// What is stored of the feed is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Takes in a bundle: reads and checks all of `input`, then stores what is new.
    ///
    /// A feed that is not held is added as a followed one of `kind`. Blocks that are held stay.
    /// `progress` is told after every few MiB and ends the import by returning `false`; what was
    /// stored until then stays.
    ///
    /// # Errors
    ///
    /// Nothing is stored from a bundle that does not hold as a whole.
    pub fn import_bundle(
        &self,
        input: &mut (impl Read + Seek),
        kind: Kind,
        progress: &mut dyn FnMut(ImportProgress) -> bool,
    ) -> Result<(FeedKey, Imported), ImportError> {
        for _ in 0..IMPORT_TRIES {
            rewind(input)?;
            let link = Link::read(&mut *input, |header| {
                let held = self.feed(&header.feed);
                held.map_or(Head::default(), |feed| feed.head())
            })?;
            let header = link.header.clone();
            let held = self.feed(&header.feed);
            let created = held.is_none();
            let feed = match held {
                Some(feed) => feed,
                None => self.add(&header, kind)?,
            };
            rewind(input)?;
            match take_in(&feed, &link, &mut *input, progress) {
                Ok(Some(imported)) => {
                    return Ok((
                        header.feed,
                        Imported {
                            created,
                            ..imported
                        },
                    ));
                }
                Ok(None) => {}
                Err(error) => {
                    if created && feed.info().blocks_held == 0 {
                        self.drop_feed(&header.feed)?;
                    }
                    return Err(error);
                }
            }
        }
        rewind(input)?;
        let feed = BundleReader::new(input)?.header().feed;
        Err(ImportError::Changed { feed })
    }

    fn add(&self, header: &BundleHeader, kind: Kind) -> Result<Feed, ImportError> {
        let manifest = Manifest::decode(&header.manifest)
            .expect("the reader decoded the manifest of a header that holds");
        Ok(self.create_with_key(header.feed, &manifest, Role::Followed, kind)?)
    }
}

fn rewind(input: &mut impl Seek) -> Result<(), BundleError> {
    let start = input.seek(SeekFrom::Start(0));
    start.map(drop).map_err(io_error)
}

fn io_error(error: io::Error) -> BundleError {
    BundleError::Io(Arc::new(error))
}

/// What a bundle, read and verified to its end, says of a head that is held.
struct Link {
    header: BundleHeader,
    /// The head that is held.
    ours: Head,
    /// The bundle's nodes among the roots of our length, and on the way from there to its head.
    nodes: HashMap<u64, Node>,
}

impl Link {
    fn read(
        input: impl Read,
        ours: impl FnOnce(&BundleHeader) -> Head,
    ) -> Result<Link, BundleError> {
        let mut reader = BundleReader::new(input)?;
        let header = reader.header().clone();
        let ours = ours(&header);
        let length = header.signed.head.length;
        let mut wanted = HashSet::new();
        if ours.length > 0 && ours.length < length {
            wanted.extend(root_indexes(ours.length));
            wanted.extend(subtrees(ours.length, length));
        }
        let mut nodes = HashMap::new();
        let mut keep = |found: &[Node]| {
            let found = found.iter().filter(|node| wanted.contains(&node.index));
            nodes.extend(found.map(|node| (node.index, *node)));
        };
        keep(&header.signed.head.roots);
        while let Some(run) = reader.next_run()? {
            keep(&run.nodes);
            keep(&run.leaves);
        }
        Ok(Link {
            header,
            ours,
            nodes,
        })
    }

    fn all(&self, indexes: Vec<u64>) -> Option<Vec<Node>> {
        let nodes = indexes
            .into_iter()
            .map(|index| self.nodes.get(&index).copied());
        nodes.collect()
    }

    fn incoming(&self, upgrade: UpgradeProof) -> Incoming {
        let proof = Proof {
            fork: self.header.signed.head.fork,
            upgrade: Some(upgrade),
            ..Proof::default()
        };
        Incoming {
            proof,
            manifest: Some(self.header.manifest.clone()),
        }
    }

    /// Returns the proof of the bundle's head that starts from nothing.
    fn proof_from_nothing(&self, split_at: u64) -> Option<Incoming> {
        let signed = &self.header.signed;
        let length = signed.head.length;
        let (nodes, additional_nodes) = if split_at == length {
            (signed.head.roots.clone(), Vec::new())
        } else {
            let roots = self.all(root_indexes(split_at))?;
            (roots, self.all(subtrees(split_at, length))?)
        };
        Some(self.incoming(UpgradeProof {
            start: 0,
            length: split_at,
            nodes,
            additional_nodes,
            signature: signed.signature.clone(),
        }))
    }

    /// Returns the proof that the bundle's head continues ours.
    fn proof_from_ours(&self) -> Option<Incoming> {
        let signed = &self.header.signed;
        let (start, length) = (self.ours.length, signed.head.length);
        if start == 0 {
            return self.proof_from_nothing(length);
        }
        Some(self.incoming(UpgradeProof {
            start,
            length: length - start,
            nodes: self.all(subtrees(start, length))?,
            additional_nodes: Vec::new(),
            signature: signed.signature.clone(),
        }))
    }
}

/// Stores head and blocks; `None` when the feed changed since the bundle was compared with it.
fn take_in(
    feed: &Feed,
    link: &Link,
    input: impl Read,
    progress: &mut dyn FnMut(ImportProgress) -> bool,
) -> Result<Option<Imported>, ImportError> {
    let ours = link.ours.length;
    let theirs = link.header.signed.head.length;
    if theirs > ours {
        if feed.role() == Role::Own {
            let feed = feed.key();
            return Err(ImportError::OwnFeedLonger { feed, ours, theirs });
        }
        let Some(item) = link.proof_from_ours() else {
            let feed = feed.key();
            return Err(ImportError::NotTied { feed, ours, theirs });
        };
        match apply_one(feed, item)? {
            Ok(()) => {}
            Err(ApplyError::Stale { .. } | ApplyError::Unlinked { .. }) => return Ok(None),
            Err(error) => return Err(told_apart(feed, link, error)?.into()),
        }
    } else if let Some(item) = link.proof_from_nothing(theirs)
        && let Err(error @ (ApplyError::Conflict { .. } | ApplyError::OtherFork { .. })) =
            apply_one(feed, item)?
    {
        return Err(error.into());
    }
    let mut reader = BundleReader::new(input)?;
    if *reader.header() != link.header {
        return Ok(None);
    }
    let mut blocks = Blocks::new(feed);
    let mut at = ImportProgress {
        blocks_total: link.header.blocks(),
        ..ImportProgress::default()
    };
    while let Some(run) = reader.next_run()? {
        at.blocks += run.blocks.len() as u64;
        at.bytes += run.bytes();
        if blocks.add(&run)? && !progress(at) {
            break;
        }
    }
    blocks.flush()?;
    Ok(Some(Imported {
        length_before: ours,
        length: feed.head().length,
        ..blocks.imported
    }))
}

/// Makes a signature that does not continue our tree into the conflict that it is, if it is one.
fn told_apart(feed: &Feed, link: &Link, error: ApplyError) -> Result<ApplyError, StoreError> {
    let may_be_conflict = matches!(
        error,
        ApplyError::BadData {
            may_be_conflict: true,
            ..
        }
    );
    let both = link.proof_from_nothing(link.ours.length);
    match both.filter(|_| may_be_conflict) {
        None => Ok(error),
        Some(item) => Ok(apply_one(feed, item)?.err().unwrap_or(error)),
    }
}

fn apply_one(feed: &Feed, item: Incoming) -> Result<Result<(), ApplyError>, StoreError> {
    let applied = feed.apply(&[item])?.pop();
    Ok(applied.map_or(Ok(()), |applied| applied.map(drop)))
}

/// Levels of the tallest tree, 2^52 blocks.
const TREE_HEIGHT_MAX: u32 = FEED_LENGTH_MAX.trailing_zeros() + 1;

/// Blocks on their way from a bundle into the store, each with the nodes from it up to one that the
/// store knows, or will know by the blocks before it.
struct Blocks<'a> {
    feed: &'a Feed,
    items: Vec<Incoming>,
    item_bytes: usize,
    /// Nodes that the items will make known.
    queued: HashSet<u64>,
    /// Proved nodes on the path to where the next run may begin, and beside it.
    carried: HashMap<u64, Node>,
    imported: Imported,
}

impl<'a> Blocks<'a> {
    fn new(feed: &'a Feed) -> Self {
        Blocks {
            feed,
            items: Vec::new(),
            item_bytes: 0,
            queued: HashSet::new(),
            carried: HashMap::new(),
            imported: Imported::default(),
        }
    }

    /// Takes a run; returns whether something was stored.
    fn add(&mut self, run: &Chunk) -> Result<bool, ImportError> {
        let nodes = run.nodes.iter().chain(&run.leaves);
        self.carried.extend(nodes.map(|node| (node.index, *node)));
        let mut flushed = false;
        for (index, value) in run.range().zip(&run.blocks) {
            if self.feed.has(index) {
                self.imported.blocks_held += 1;
                continue;
            }
            let nodes = self.way_up(index)?;
            let block = BlockProof {
                index,
                value: value.clone(),
                nodes,
            };
            let proof = Proof {
                fork: self.feed.head().fork,
                block: Some(block),
                ..Proof::default()
            };
            self.item_bytes += value.len();
            self.items.push(Incoming {
                proof,
                manifest: None,
            });
            if self.items.len() >= IMPORT_BLOCKS || self.item_bytes >= IMPORT_BYTES {
                self.flush()?;
                flushed = true;
            }
        }
        self.carry(run.range().end);
        Ok(flushed)
    }

    /// Returns the siblings from a block up to the first node that is known.
    fn way_up(&mut self, block: u64) -> Result<Vec<Node>, ReadError> {
        let mut nodes = Vec::new();
        let mut at = 2 * block;
        while !self.queued.contains(&at) && self.feed.node(at)?.is_none() {
            let Some(sibling) = self.carried.get(&flat_tree::sibling(at)) else {
                break;
            };
            nodes.push(*sibling);
            self.queued.extend([at, sibling.index]);
            at = flat_tree::parent(at);
        }
        Ok(nodes)
    }

    /// Forgets all nodes but those on the path to `next`, and beside it.
    fn carry(&mut self, next: u64) {
        let mut kept = HashMap::new();
        let mut at = 2 * next;
        for _ in 0..TREE_HEIGHT_MAX {
            for index in [at, flat_tree::sibling(at)] {
                kept.extend(self.carried.get(&index).map(|node| (index, *node)));
            }
            at = flat_tree::parent(at);
        }
        self.carried = kept;
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        let items = std::mem::take(&mut self.items);
        self.item_bytes = 0;
        self.queued.clear();
        if items.is_empty() {
            return Ok(());
        }
        let results = self.feed.apply(&items)?;
        for (item, result) in items.iter().zip(results) {
            match result {
                Ok(_) => {
                    self.imported.blocks_new += 1;
                    let value = item.proof.block.as_ref().map(|block| block.value.len());
                    self.imported.bytes_new += value.unwrap_or(0) as u64;
                }
                Err(ApplyError::MissingAnchor { .. }) => self.imported.blocks_untied += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
