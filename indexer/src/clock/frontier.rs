//! What the next entry of a writer links to.

use kinlog_feeds::crypto::{FeedKey, Hash};

use crate::entry::{Link, LinkScope, Links};
use kinlog_feeds::limits::UINT_MAX;

use crate::limits::LINKS_MAX;

/// An entry that nothing held links to yet.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct FrontierEntry {
    /// Depth that the entry states; deeper ones are linked first.
    pub depth: u64,
    /// Feed it stands in.
    pub feed: FeedKey,
    /// Block index.
    pub index: u64,
}

/// The entries of one room, or of one author's feeds, that the next entry goes after.
///
/// [`Index::frontier`](crate::Index::frontier) makes it; [`next`](Self::next) turns it into links
/// and a depth.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frontier {
    /// Key of the link tags.
    pub scope: LinkScope,
    /// Entries seen and not reachable from others seen, deepest first.
    pub entries: Vec<FrontierEntry>,
    /// Whether more entries than [`LINKS_MAX`] stand at the frontier.
    pub more: bool,
    /// Depth of the own previous entry, `None` before the first.
    pub own_depth: Option<u64>,
}

impl Frontier {
    /// Returns the links and the depth of the next entry written to the own feed `own`.
    ///
    /// `tree_hash` gives the tree hash of a feed at a length (index + 1). An entry whose tree hash
    /// is not held is left out of the links: its place cannot be vouched for. The own previous
    /// entry is implied and never linked. The depth is one more than the deepest of both.
    pub fn next(
        &self,
        own: &FeedKey,
        mut tree_hash: impl FnMut(&FeedKey, u64) -> Option<Hash>,
    ) -> (Links, u64) {
        let mut links = Vec::new();
        let mut deepest = self.own_depth;
        let mut more = self.more;
        for entry in self.entries.iter().filter(|entry| entry.feed != *own) {
            if links.len() == LINKS_MAX {
                more = true;
                break;
            }
            let Some(hash) = tree_hash(&entry.feed, entry.index + 1) else {
                continue;
            };
            links.push(Link::new(&self.scope, &entry.feed, entry.index, &hash));
            deepest = deepest.max(Some(entry.depth));
        }
        let depth = deepest.map_or(0, |depth| depth.saturating_add(1).min(UINT_MAX));
        let links = Links::new(links, more).expect("at most LINKS_MAX links were taken");
        (links, depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RoomId;

    fn frontier(count: u8, own_depth: Option<u64>) -> Frontier {
        let entries = (0..count)
            .map(|n| FrontierEntry {
                depth: u64::from(n),
                feed: FeedKey([n; 32]),
                index: 5,
            })
            .rev()
            .collect();
        Frontier {
            scope: LinkScope::Room(RoomId([9; 32])),
            entries,
            more: false,
            own_depth,
        }
    }

    #[test]
    fn the_first_entry_of_a_scope_has_depth_0_and_no_links() {
        let (links, depth) = frontier(0, None).next(&FeedKey([99; 32]), |_, _| None);
        assert_eq!((links.as_slice().len(), links.more(), depth), (0, false, 0));
    }

    #[test]
    fn depth_is_one_more_than_the_deepest_link_or_own_entry() {
        let hash = |_: &FeedKey, length: u64| (length == 6).then_some(Hash([1; 32]));
        assert_eq!(frontier(3, Some(1)).next(&FeedKey([99; 32]), hash).1, 3);
        assert_eq!(frontier(3, Some(8)).next(&FeedKey([99; 32]), hash).1, 9);
    }

    #[test]
    fn more_than_sixteen_are_cut_to_the_deepest_and_flagged() {
        let (links, depth) =
            frontier(20, None).next(&FeedKey([99; 32]), |_, _| Some(Hash::default()));
        assert_eq!(
            (links.as_slice().len(), links.more(), depth),
            (LINKS_MAX, true, 20)
        );
    }

    #[test]
    fn entries_of_the_own_feed_and_those_without_tree_hash_are_not_linked() {
        let only_first = |feed: &FeedKey, _: u64| (feed.0[0] == 0).then_some(Hash::default());
        let (links, depth) = frontier(3, None).next(&FeedKey([1; 32]), only_first);
        assert_eq!((links.as_slice().len(), depth), (1, 1));
    }
}
