//! What was deleted goes from the store, a day after this device saw the deletion count.
//!
//! The index hides it at once. Until the day is over whoever lacks the block gets it here: a deletion can
//! come to be void for as long as acts of the room arrive. Then the block is cleared and its bytes are
//! overwritten, in the store and in the pages of the index; its hash stays, so that its neighbours prove
//! themselves, and it is not fetched again. Where the deletion is undone later, it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kinlog_feeds::FeedKey;
use kinlog_indexer::entry::{Body, Ref, Tombstone};
use kinlog_indexer::index::{Ended, IngestReport};

use crate::api::Error;
use crate::block_ranges::union;
use crate::core::{Core, Steps};
use crate::limits::EMPTY_AFTER;
use crate::state::{Deletion, Stage};
use crate::wall::wall_ms;

impl Core {
    /// Returns the wall clock as deletions go by it, in ms.
    pub(super) fn emptying_ms(&self) -> u64 {
        let ahead = self.switches.clock_ahead_ms;
        let ahead = ahead.map_or(0, |ahead| ahead.load(std::sync::atomic::Ordering::Relaxed));
        wall_ms().saturating_add(ahead)
    }

    /// Notes what the index found to be deleted, and reads again what is not deleted any more.
    pub(super) fn take_in_deletions(&self, report: &IngestReport) -> Result<(), Error> {
        self.note_deleted(&report.deleted)?;
        self.undo(&report.undone)
    }

    /// Notes blocks that were read and found to be deleted.
    pub(super) fn note_deleted(&self, deleted: &BTreeMap<Ref, Ended>) -> Result<(), Error> {
        for (block, ended) in deleted {
            let known = self.knowledge(|knowledge| knowledge.deletions.get(block).cloned());
            let deletion = match known {
                Some(known) if known.head == ended.head && known.stage != Stage::Undone => continue,
                _ => Deletion {
                    head: ended.head,
                    content: ended.content.clone(),
                    seen_ms: self.emptying_ms(),
                    stage: Stage::Hidden,
                },
            };
            self.put_deletion(block, deletion)?;
        }
        Ok(())
    }

    /// Takes back what was done to blocks whose deletion counts no more.
    fn undo(&self, undone: &BTreeSet<Ref>) -> Result<(), Error> {
        let mut feeds = BTreeSet::new();
        let mut is_missing = false;
        for block in undone {
            let known = self.knowledge(|knowledge| knowledge.deletions.get(block).cloned());
            let Some(mut deletion) = known else {
                feeds.insert(block.feed);
                continue;
            };
            if self.index(|index| index.is_deleted(block, &deletion.head))? {
                continue;
            }
            if deletion.is_gone() {
                deletion.stage = Stage::Undone;
                is_missing = true;
                self.put_deletion(block, deletion)?;
            } else {
                self.forget_deletion(block)?;
                feeds.insert(block.feed);
            }
        }
        for feed in &feeds {
            self.catch_up_feed(feed)?;
        }
        match is_missing {
            true => self.replan(),
            false => Ok(()),
        }
    }

    /// Empties what is due, and goes on with what was begun. Returns whether anything was.
    pub(crate) fn empty_deleted(&self) -> Result<bool, Error> {
        let now = self.emptying_ms();
        let after = u64::try_from(EMPTY_AFTER.as_millis()).unwrap_or(u64::MAX);
        let due: Vec<(Ref, Deletion)> = self.knowledge(|knowledge| {
            let all = knowledge.deletions.iter();
            let due = all.filter(|(_, one)| match one.stage {
                Stage::Hidden => now >= one.seen_ms.saturating_add(after),
                Stage::Emptying => true,
                Stage::Emptied | Stage::Undone => false,
            });
            due.map(|(block, one)| (*block, one.clone())).collect()
        });
        if due.is_empty() {
            return Ok(false);
        }
        let is_new = due.iter().any(|(_, one)| one.stage == Stage::Hidden);
        let (mut emptied, mut changed) = (Vec::new(), BTreeSet::new());
        for (block, mut deletion) in due {
            if !self.index(|index| index.is_deleted(&block, &deletion.head))? {
                // The index tells when it knows; until then nothing is lost.
                continue;
            }
            // Noted first: after a crash in between it is gone on with.
            deletion.stage = Stage::Emptying;
            self.put_deletion(&block, deletion.clone())?;
            let content = deletion.content.iter();
            let content = content.map(|(feed, blocks)| (*feed, blocks.clone()));
            let own = (block.feed, block.index..block.index + 1);
            for (key, blocks) in [own].into_iter().chain(content) {
                if let Some(feed) = self.store.feed(&key)
                    && feed.have().count_range(blocks.clone()) > 0
                {
                    feed.clear(blocks)?;
                    changed.insert(key);
                }
            }
            emptied.push((block, deletion));
        }
        let gone = emptied.iter().map(|(block, one)| (*block, one.head));
        let is_clean = self.index(|index| {
            index.put_gone(gone);
            index.scrub()
        })?;
        if is_clean {
            for (block, mut deletion) in emptied.iter().cloned() {
                deletion.stage = Stage::Emptied;
                self.put_deletion(&block, deletion)?;
            }
        }
        // Only the files were still to be overwritten: nothing changed for anybody.
        if !is_new && changed.is_empty() {
            return Ok(is_clean);
        }
        let mut steps = Steps::default();
        // The plan first: by the one before, what the network hears is not held would be fetched again.
        steps.take("plan", self.replan());
        if let Some(network) = self.network() {
            for key in &changed {
                network.stored(key);
            }
        }
        if !changed.is_empty() {
            self.tell_seeders_what_went(&changed);
        }
        for (block, _) in &emptied {
            steps.take("edits of a deleted message", self.delete_edits(block));
        }
        steps.end()?;
        Ok(true)
    }

    /// Deletes what this agent changed in a message of its own that was deleted by somebody who did not
    /// know of that.
    fn delete_edits(&self, block: &Ref) -> Result<(), Error> {
        let left = self.index(|index| index.to_delete(block))?;
        let own = left.into_iter().filter(|(agent, _)| *agent == self.agent);
        let own: Vec<_> = own.map(|(_, deleted)| deleted).collect();
        let room = self.knowledge(|knowledge| knowledge.room_of(&block.feed).cloned());
        let (Some(room), Ok(tombstone)) = (room, Tombstone::new(own, Default::default())) else {
            return Ok(());
        };
        self.say(&room, Body::Tombstone(tombstone)).map(|_| ())
    }

    /// Tells the index what is gone, before it reads anything.
    pub(super) fn tell_what_is_gone(&self) -> Result<(), Error> {
        let gone: Vec<_> = self.knowledge(|knowledge| {
            let gone = knowledge.deletions.iter().filter(|(_, one)| one.is_gone());
            gone.map(|(block, one)| (*block, one.head)).collect()
        });
        self.index(|index| {
            index.put_gone(gone);
            Ok(())
        })
    }

    /// Looks at everything that was noted as deleted: after a start and after a rebuild.
    pub(super) fn look_at_deletions(&self) -> Result<(), Error> {
        self.tell_what_is_gone()?;
        let noted: BTreeSet<Ref> =
            self.knowledge(|knowledge| knowledge.deletions.keys().copied().collect());
        self.undo(&noted)?;
        for block in &noted {
            let is_undone = self.knowledge(|knowledge| {
                let known = knowledge.deletions.get(block);
                known.is_some_and(|one| one.stage == Stage::Undone)
            });
            let feed = self.store.feed(&block.feed);
            if is_undone && feed.is_none_or(|feed| feed.has(block.index)) {
                self.forget_deletion(block)?;
            }
        }
        Ok(())
    }

    fn put_deletion(&self, block: &Ref, deletion: Deletion) -> Result<(), Error> {
        self.state.put_deletion(block, &deletion)?;
        self.knowledge(|knowledge| knowledge.deletions.insert(*block, deletion));
        Ok(())
    }

    fn forget_deletion(&self, block: &Ref) -> Result<(), Error> {
        self.state.remove_deletion(block)?;
        self.knowledge(|knowledge| knowledge.deletions.remove(block));
        Ok(())
    }
}

/// Returns the blocks that were emptied, by feed, ascending and apart: those that are not fetched again, or those
/// whose deletion was undone.
pub(crate) fn emptied_blocks(
    deletions: &BTreeMap<Ref, Deletion>,
    undone: bool,
) -> BTreeMap<FeedKey, Vec<Range<u64>>> {
    let mut emptied: BTreeMap<FeedKey, Vec<Range<u64>>> = BTreeMap::new();
    let meant = |one: &Deletion| match undone {
        true => one.stage == Stage::Undone,
        false => one.is_gone(),
    };
    for (block, deletion) in deletions.iter().filter(|(_, one)| meant(one)) {
        let own = emptied.entry(block.feed).or_default();
        own.push(block.index..block.index + 1);
        if let Some((feed, blocks)) = &deletion.content {
            emptied.entry(*feed).or_default().push(blocks.clone());
        }
    }
    for ranges in emptied.values_mut() {
        *ranges = union(std::mem::take(ranges));
    }
    emptied
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use kinlog_feeds::crypto::Secret;
    use kinlog_indexer::entry::{File, Message};

    use super::*;
    use crate::api::{Request, Selection};
    use crate::rooms::{InviteTerms, RoomTerms};
    use crate::state::{Pin, PinTarget};
    use crate::test_folder::TestFolder;
    use crate::{Agent, OpenOptions, introduce};

    async fn agent(folder: &TestFolder, name: &str, ahead_ms: &'static AtomicU64) -> Agent {
        let home = folder.home(name);
        let mut options = OpenOptions::new(folder.state());
        options.clock_ahead_ms = Some(ahead_ms);
        Agent::open(&home, options).await.unwrap()
    }

    /// Waits until what an agent has is so.
    async fn until(core: &Core, is_so: impl Fn(&Core) -> bool) {
        // Nobody tells of blocks that are in no index.
        let waiting = async {
            while !is_so(core) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        waited.expect("so in time");
    }

    fn shows(folder: &Path, bytes: &[u8]) -> bool {
        let files = std::fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().path()).any(|file| {
            if file.is_dir() {
                return shows(&file, bytes);
            }
            // A socket is no file.
            let held = std::fs::read(file).unwrap_or_default();
            let mut windows = held.windows(bytes.len());
            windows.any(|window| window == bytes)
        })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_blocks_of_a_deleted_file_go_from_all_homes_and_those_of_no_other() {
        let folder = TestFolder::new();
        let ahead_ms: &'static AtomicU64 = Box::leak(Box::default());
        let (ada, bob) = (
            agent(&folder, "ada", ahead_ms).await,
            agent(&folder, "bob", ahead_ms).await,
        );
        let (of_ada, of_bob) = (&ada.running().core, &bob.running().core);
        let id = of_ada.create_room(&RoomTerms::FAMILY).unwrap().id;
        let room = || of_ada.knowledge(|knowledge| knowledge.rooms[&id].clone());
        let link = of_ada.invite(&room(), &InviteTerms::OPEN).unwrap();
        let _met = introduce(&ada, &bob).await.unwrap();
        let join = Request::RoomJoin {
            link,
            wait_seconds: None,
        };
        bob.request(join, Bytes::new()).last().await.unwrap();

        let blobs = of_ada.knowledge(|knowledge| {
            let feeds = &knowledge.rooms[&id].feeds;
            let is_blobs = |key| feeds.get(key).is_some_and(|feed| !feed.is_entries);
            let mut own = knowledge.own.values();
            own.find(|own| is_blobs(&own.key)).cloned().unwrap()
        });
        let chunk = |number: u64| Bytes::from(format!("pixels {number} of a picture").repeat(9));
        let chunks: Vec<Bytes> = (0..4).map(chunk).collect();
        of_ada.append(&blobs, &chunks).unwrap();
        let file = |first_block| {
            let file = File {
                name: "picture.png".try_into().unwrap(),
                mime: "image/png".try_into().unwrap(),
                size_bytes: 100,
                blake3: [first_block as u8; 32],
                blobs_feed: blobs.key,
                first_block,
                blocks: 2,
                key: Secret::new([8; 32]),
            };
            let (own, appended) = of_ada.say(&room(), Body::File(file)).unwrap();
            let (feed, index) = (own.key, appended.start);
            Ref { feed, index }
        };
        let (first, _) = (file(0), file(2));
        // Files are fetched one by one; Bob wants these.
        let wanted = Pin {
            target: PinTarget::Feed(blobs.key),
            selection: Selection::All,
            live: true,
            tier: "gift".into(),
            reason: "pin".into(),
            depth: 0,
            is_local: true,
        };
        of_bob.state.put_pin(&wanted).unwrap();
        of_bob.relearn().unwrap();
        of_bob.replan().unwrap();
        let held = |core: &Core, range| {
            let feed = core.store.feed(&blobs.key);
            feed.map_or(0, |feed| feed.have().count_range(range))
        };
        for core in [of_ada, of_bob] {
            until(core, |core| {
                let read = core.index(|index| index.files(&id, 9)).unwrap();
                read.len() == 2 && held(core, 0..4) == 4
            })
            .await;
        }
        assert!(
            shows(&folder.path().join("bob"), &chunks[0]),
            "the search is blind"
        );

        let deleted = of_ada.index(|index| index.to_delete(&first)).unwrap();
        let deleted: Vec<_> = deleted.into_iter().map(|(_, one)| one).collect();
        let tombstone = Tombstone::new(deleted, Default::default()).unwrap();
        of_ada.say(&room(), Body::Tombstone(tombstone)).unwrap();
        for core in [of_ada, of_bob] {
            until(core, |core| {
                core.knowledge(|knowledge| knowledge.deletions.contains_key(&first))
            })
            .await;
            assert_eq!(held(core, 0..4), 4, "the day is not over");
        }
        let day_ms = EMPTY_AFTER.as_millis() as u64 + 60_000;
        ahead_ms.fetch_add(day_ms, Ordering::Relaxed);
        let text = "a day later".try_into().unwrap();
        of_ada
            .say(&room(), Body::Message(Message::new(text)))
            .unwrap();
        for core in [of_ada, of_bob] {
            until(core, |core| held(core, 0..2) == 0).await;
            assert_eq!(held(core, 2..4), 2, "another file's");
        }
        for name in ["ada", "bob"] {
            let home = folder.path().join(name);
            let shown = chunks.iter().map(|chunk| shows(&home, chunk));
            assert_eq!(
                shown.collect::<Vec<_>>(),
                [false, false, true, true],
                "{name}"
            );
        }
    }
}
