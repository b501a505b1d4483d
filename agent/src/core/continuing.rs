//! Going on where an earlier device of this home ended: its paths in new feeds, with what no peer saw.

use bytes::Bytes;
use kinlog_feeds::crypto::Hash;
use kinlog_feeds::store::Feed;
use kinlog_indexer::entry::{Body, Cut, DirectoryHeads, Entry, OPEN_BLOCK};
use kinlog_indexer::index::{StoreTrees, TreeHashes};

use crate::api::Error;
use crate::core::{Core, Place};
use crate::knowledge::KnownAgent;
use crate::limits::{APPEND_BLOCKS_MAX, IMPORT_BATCH_BYTES};
use crate::state::{FormerFeed, OwnFeed};

impl Core {
    /// Begins the directory of a new device, and continues the paths of the one before.
    ///
    /// A crash leaves some of it done; the next opening does the rest.
    pub(super) fn continue_paths(&self) -> Result<(), Error> {
        let directory = self.directory()?;
        if self.feed(&directory.key)?.head().length == 0 {
            let begin = self.first_words()?;
            self.write_entries(&directory, Place::Public, vec![begin])?;
        }
        for former in self.state.former_feeds()? {
            let successor = self.knowledge(|knowledge| {
                let successor = former.successor.as_ref()?;
                knowledge.own.get(successor).cloned()
            });
            // One whose successor is a former feed as well was continued by the device after it.
            let Some(own) = successor else { continue };
            // How far it came is not known yet: see `continue_restored`.
            if former.awaits_peers() {
                continue;
            }
            let is_listed = self.knowledge(|knowledge| {
                knowledge.listed(&own.key).is_some() || knowledge.private_line(&own.key).is_some()
            });
            if !is_listed {
                self.list_continued(&former, &own)?;
            }
            self.write_again(&former, &own)?;
        }
        Ok(())
    }

    /// Returns the first entry of a new device's directory: what the agent calls itself, unless other
    /// devices of it say that.
    fn first_words(&self) -> Result<Body, Error> {
        let this = self.keys.device();
        let has_others = self.knowledge(|knowledge| {
            let own = knowledge.agents.get(&self.agent).into_iter();
            own.flat_map(KnownAgent::writers)
                .any(|device| device.key != this)
        });
        Ok(match has_others {
            true => Body::DirectoryHeads(DirectoryHeads::default()),
            false => Body::Profile(self.profile()?),
        })
    }

    /// Continues the paths of a restored home whose feeds peers have shown by now; returns how many wait
    /// on.
    ///
    /// Where a feed ended in truth the backup does not know, and a path that goes on too early would lose
    /// what was published after it. So one goes on where a peer's head ends that is no shorter than what
    /// the backup and the old directory know; one of which nobody shows anything only when whoever calls
    /// this has `waited` long enough.
    pub(crate) fn continue_restored(&self, waited: bool) -> Result<usize, Error> {
        let (mut waiting, mut confirmed) = (0, 0);
        for former in self.state.former_feeds()? {
            if !former.awaits_peers() {
                continue;
            }
            let vouched = self.index(|index| index.vouched_head(&self.agent, &former.key))?;
            let known = former.published.max(vouched.map_or(0, |head| head.length));
            let feed = self.store.feed(&former.key);
            let length = feed.map_or(0, |feed| feed.head().length);
            if length < known || length == 0 && !waited {
                waiting += 1;
                continue;
            }
            self.state.confirm_restored(&former.key, length)?;
            confirmed += 1;
        }
        if confirmed == 0 || self.guard.doubt().is_some() {
            return Ok(waiting);
        }
        let former = self.state.former_feeds()?.into_iter();
        let former = former.map(|feed| (feed.key, feed)).collect();
        self.knowledge(|knowledge| knowledge.former = former);
        self.continue_paths()?;
        self.replan()?;
        Ok(waiting)
    }

    /// Commits to how much of the old feed is the path's, and lists the new one after it.
    fn list_continued(&self, former: &FormerFeed, own: &OwnFeed) -> Result<(), Error> {
        let Some(path) = &own.path else {
            return Ok(());
        };
        let trees = StoreTrees::of(self.store.clone());
        let length = former.published;
        let tree_hash = trees.tree_hash(&former.key, length).or_else(|| {
            // Nothing of it was published, and nothing of it is the path's.
            (length == 0).then_some(Hash([0; 32]))
        });
        let continues = tree_hash.map(|tree_hash| Cut {
            feed: former.key,
            length,
            tree_hash,
        });
        let body = self.line(own, path, continues)?;
        self.write_to_directory(own.is_private, vec![body])
    }

    /// Appends the blocks that no peer was shown to the new feed: the first thing it holds, so that
    /// its length says how far this came.
    fn write_again(&self, former: &FormerFeed, own: &OwnFeed) -> Result<(), Error> {
        if !former.has_unpublished() {
            return Ok(());
        }
        let (old, new) = (self.feed(&former.key)?, self.feed(&own.key)?);
        let mut next = former.published + new.head().length;
        while next < former.length {
            let batch = read_batch(&old, next..former.length)?;
            let first = next;
            next += batch.len() as u64;
            if own.is_private {
                for (index, block) in (first..).zip(batch) {
                    self.write_private_again(former, own, index, &block)?;
                }
            } else if own.is_entries {
                for block in batch {
                    self.write_entry_again(own, block)?;
                }
            } else {
                self.append(own, &batch)?;
            }
        }
        Ok(())
    }

    /// A sealed block is opened, and sealed for its new place: as it is it opens in its old one alone.
    fn write_private_again(
        &self,
        former: &FormerFeed,
        own: &OwnFeed,
        index: u64,
        block: &Bytes,
    ) -> Result<(), Error> {
        let opened = self.open_private(&former.key, index, block);
        let plain = opened.unwrap_or_else(|error| {
            tracing::warn!(feed = %former.key, index, %error, "block is not written again");
            Bytes::new()
        });
        let entry = own.is_entries.then(|| Entry::decode(&plain));
        match entry {
            Some(Ok(entry)) => {
                let epoch = self.own_epoch()?;
                self.write_entries(own, Place::Private(&epoch), vec![entry.body])?;
            }
            // What this build cannot read goes on as it is; an empty one keeps the order of the others.
            _ => {
                self.append(own, &[plain])?;
                self.catch_up_feed(&own.key)?;
            }
        }
        Ok(())
    }

    fn write_entry_again(&self, own: &OwnFeed, block: Bytes) -> Result<(), Error> {
        let open = block.first() == Some(&OPEN_BLOCK);
        match open.then(|| Entry::decode(&block.slice(1..))) {
            Some(Ok(entry)) => {
                self.write_entries(own, Place::Public, vec![entry.body])?;
            }
            // What this build cannot read goes on as it is.
            _ => {
                self.append(own, &[block])?;
                self.catch_up_feed(&own.key)?;
            }
        }
        Ok(())
    }
}

/// Reads blocks until there are enough for one commit.
fn read_batch(feed: &Feed, range: std::ops::Range<u64>) -> Result<Vec<Bytes>, Error> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for index in range {
        // A block of ours that is cleared or damaged leaves an empty one: the others keep their order.
        let block = feed.get(index).unwrap_or_else(|error| {
            tracing::warn!(feed = %feed.key(), index, %error, "block is not written again");
            None
        });
        let block = block.unwrap_or_default();
        bytes += block.len();
        batch.push(block);
        if bytes >= IMPORT_BATCH_BYTES || batch.len() >= APPEND_BLOCKS_MAX {
            break;
        }
    }
    Ok(batch)
}
