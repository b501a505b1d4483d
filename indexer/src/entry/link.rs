//! Links from an entry to those it goes after.

use kinlog_feeds::crypto::{AgentId, FeedKey, Hash, blake2b_256_keyed, namespace};

use crate::RoomId;
use crate::limits::LINKS_MAX;

/// Bytes of a tree hash that a link carries.
pub const LINK_HASH_BYTES: usize = 12;

/// What keys the link tags: the room, or the author outside rooms.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LinkScope {
    /// Entries of one room.
    Room(RoomId),
    /// Entries of one author's feeds outside rooms.
    Author(AgentId),
}

impl LinkScope {
    /// Returns the tag of `feed` here: `H_k(NS("link-tag") || feed key)[..8]`.
    pub fn tag(&self, feed: &FeedKey) -> LinkTag {
        let hash = blake2b_256_keyed(self.key(), &[&namespace::LINK_TAG.hash(), feed.as_bytes()]);
        let (tag, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
        LinkTag(*tag)
    }

    fn key(&self) -> &[u8; 32] {
        match self {
            LinkScope::Room(room) => room.as_bytes(),
            LinkScope::Author(agent) => agent.as_bytes(),
        }
    }
}

/// A feed's name in links: says nothing outside its room or author.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkTag(pub [u8; 8]);

/// A link: an entry, and the tree of its feed up to and including it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// The feed.
    pub tag: LinkTag,
    /// Block index of the entry.
    pub index: u64,
    /// First bytes of the feed's tree hash at length `index + 1`.
    pub hash: [u8; LINK_HASH_BYTES],
}

impl Link {
    /// Returns the link to block `index` of `feed`, whose tree hash at `index + 1` is `tree_hash`.
    pub fn new(scope: &LinkScope, feed: &FeedKey, index: u64, tree_hash: &Hash) -> Self {
        Link {
            tag: scope.tag(feed),
            index,
            hash: Link::truncate(tree_hash),
        }
    }

    /// Returns the part of a tree hash that links carry.
    pub fn truncate(tree_hash: &Hash) -> [u8; LINK_HASH_BYTES] {
        let (hash, _) = tree_hash
            .0
            .split_first_chunk()
            .expect("a hash has 32 bytes");
        *hash
    }
}

/// More links than an entry carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{actual} links are above the limit of {limit}")]
pub struct LinksError {
    /// Links allowed.
    pub limit: usize,
    /// Links given.
    pub actual: usize,
}

/// The links of an entry, at most 16.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Links {
    links: Vec<Link>,
    more: bool,
}

impl Links {
    /// Takes the links of an entry; `more` says that the frontier had more than these.
    pub fn new(links: Vec<Link>, more: bool) -> Result<Self, LinksError> {
        if links.len() > LINKS_MAX {
            return Err(LinksError {
                limit: LINKS_MAX,
                actual: links.len(),
            });
        }
        Ok(Links { links, more })
    }

    /// Adds a link; of too many the last gives way, and that there were more is said.
    pub fn and(mut self, link: Link) -> Self {
        if self.links.len() >= LINKS_MAX {
            self.links.truncate(LINKS_MAX - 1);
            self.more = true;
        }
        self.links.push(link);
        self
    }

    /// Returns whether the writer saw more entries at the frontier than it could link.
    pub fn more(&self) -> bool {
        self.more
    }

    /// Returns the links.
    pub fn as_slice(&self) -> &[Link] {
        &self.links
    }
}
