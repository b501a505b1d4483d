//! What has to be true once nothing goes wrong any more.

use std::collections::{BTreeMap, BTreeSet};

use kinlog_feeds::FeedKey;

use crate::node::Node;
use crate::plan::due;
use crate::world::World;

impl World {
    /// Returns whether everybody holds what it wants; or who does not.
    pub(crate) fn has_converged(&self) -> Result<(), String> {
        let honest = &self.nodes[..self.plan.honest];
        for (key, book) in &self.truth.books {
            let feeds = honest.iter().filter_map(|node| {
                let running = node.running.as_ref()?;
                Some((node, running.feeds.get(key)?))
            });
            let feeds: Vec<_> = feeds.collect();
            let newest = feeds.iter().map(|(_, feed)| feed.head().length).max();
            // What a lying drive lost before anybody else had it is gone.
            let length = match (book.is_retired, book.forged.is_some()) {
                (true, _) => 0,
                (false, true) => newest.unwrap_or_default(),
                (false, false) => book.blocks.len() as u64,
            };
            let mut stopped = Vec::new();
            let mut heads = BTreeSet::new();
            for (node, feed) in &feeds {
                let number = node.number;
                let is_removed = honest.iter().any(|other| {
                    other
                        .refused
                        .get(&number)
                        .is_some_and(|of| of.contains(key))
                });
                if is_removed {
                    continue;
                }
                let info = feed.info();
                if info.is_stopped {
                    stopped.push(number);
                    continue;
                }
                heads.insert((info.length, info.tree_hash));
                let is_writers = number == book.writer && !book.is_retired;
                if is_writers {
                    continue;
                }
                if info.length < length {
                    let held = info.length;
                    let status = node.running.as_ref().and_then(|r| r.replicator.status(key));
                    return Err(format!(
                        "node {number} is at {held} of {length} of {key}: {status:?}"
                    ));
                }
                let want = &node.interests[key].want;
                // The same for what nobody can prove any more.
                let exists = |block: &u64| {
                    let mut all = feeds.iter();
                    (!book.is_retired && book.forged.is_none())
                        || all
                            .any(|(_, feed)| feed.has(*block) && feed.head().length >= info.length)
                };
                let mut due = due(want, info.length).into_iter().filter(exists);
                if let Some(block) = due.find(|block| !feed.has(*block)) {
                    let status = node.running.as_ref().and_then(|r| r.replicator.status(key));
                    return Err(format!(
                        "node {number} lacks block {block} of {key}: {status:?}"
                    ));
                }
            }
            if !stopped.is_empty() && !heads.is_empty() {
                return Err(format!("forked: only {stopped:?} know of {key}"));
            }
            let is_forked = book.forged.is_some() && stopped.is_empty();
            if is_forked && heads.len() > 1 {
                self.is_one_line(key, book.writer)?;
            }
        }
        Ok(())
    }

    /// A feed with a forged block that nobody knows to be forked: what its writer wrote must be the
    /// beginning of what the others hold.
    pub(crate) fn is_one_line(&self, key: &FeedKey, writer: usize) -> Result<(), String> {
        let book = &self.truth.books[key];
        let (at, _) = book.forged.as_ref().unwrap();
        let seen_by = |node: &&Node| {
            let feed = node
                .running
                .as_ref()
                .and_then(|running| running.feeds.get(key));
            feed.is_some_and(|feed| feed.head().length > *at) && node.number != writer
        };
        let honest = &self.nodes[..self.plan.honest];
        match honest.iter().find(seen_by) {
            Some(node) if book.blocks.len() as u64 > *at => Err(format!(
                "forked: node {} and the writer hold different blocks {at} of {key}",
                node.number
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn finish(&mut self) {
        let honest = self.plan.honest;
        let mut dumps = BTreeMap::new();
        for number in 0..honest {
            self.check_all_of(number);
            let removed = self.nodes[..honest]
                .iter()
                .any(|other| other.refused.contains_key(&number));
            let running = self.nodes[number].running.as_mut().unwrap();
            let report = running.store.feeds();
            for feed in report {
                let report = feed.verify().unwrap();
                assert!(report.problems.is_empty(), "{:?}", report.problems);
            }
            if let Some(index) = &mut running.index
                && !removed
            {
                let mut unread = BTreeSet::new();
                for (key, feed) in &running.feeds {
                    if index.checkpoint(key).unwrap() < feed.head().length {
                        unread.insert(*key);
                    }
                }
                if !unread.is_empty() {
                    running.catch_up();
                }
                let index = running.index.as_ref().unwrap();
                dumps.insert(number, index.dump_hash().unwrap());
            }
        }
        let different: BTreeSet<_> = dumps.values().collect();
        let retired = self.truth.books.values().any(|book| book.is_retired);
        assert!(
            different.len() <= 1 || retired,
            "tables: the indexes of {:?} differ",
            dumps.keys()
        );
    }
}
