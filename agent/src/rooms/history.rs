//! Rooms that keep some days: keys of epochs that are too old are destroyed, and what was sealed with
//! them is cleared, on every device alike.

use std::collections::BTreeSet;

use kinlog_feeds::FeedKey;
use kinlog_indexer::entry::History;
use kinlog_indexer::seal::{EpochId, SealedBlock};

use crate::api::Error;
use crate::core::{Core, Steps};
use crate::knowledge::{KnownRoom, Standing};
use crate::rooms::admit::days_ms;
use crate::rooms::write::stored_act_key;
use crate::wall_ms;

impl Core {
    /// Destroys what rooms do not keep any longer; returns whether anything was.
    pub(crate) fn forget_old_epochs(&self) -> Result<bool, Error> {
        let rooms =
            self.knowledge(|knowledge| knowledge.rooms.values().cloned().collect::<Vec<_>>());
        let (mut steps, mut cleared) = (Steps::default(), Vec::new());
        for room in &rooms {
            steps.take("room", self.forget_in(room, &mut cleared));
        }
        if cleared.is_empty() {
            return steps.end().map(|()| false);
        }
        // Nothing of it is left in the index either; it holds keys in memory, and forgets them so.
        steps.take("index", self.rebuild_index());
        for key in &cleared {
            steps.take("feed", self.stored(key));
        }
        steps.end().map(|()| true)
    }

    /// Destroys what one room does not keep any longer; feeds of which blocks went are `cleared`.
    fn forget_in(&self, room: &KnownRoom, cleared: &mut Vec<FeedKey>) -> Result<(), Error> {
        let Some(History::Days(days)) = room.standing.history else {
            return Ok(());
        };
        let old = too_old(&room.standing, days_ms(days), wall_ms());
        let new: Vec<EpochId> = old
            .iter()
            .copied()
            .filter(|id| room.keys.secret(id).is_some())
            .collect();
        for id in &new {
            let Some(secret) = room.keys.secret(id) else {
                continue;
            };
            // Blocks first: a crash in between leaves a key, and the next look goes on.
            cleared.extend(self.clear_epoch(room, id)?);
            let act_key = stored_act_key(&room.id, &secret.act_key());
            self.state.destroy_secret(&id.0, &act_key)?;
        }
        self.knowledge(|knowledge| {
            if let Some(known) = knowledge.rooms.get_mut(&room.id) {
                for id in &new {
                    known.keys.forget_secret(id);
                }
                known.too_old = old;
            }
        });
        Ok(())
    }

    /// Clears the blocks of a room that are sealed in an epoch; acts are sealed otherwise and stay.
    fn clear_epoch(&self, room: &KnownRoom, epoch: &EpochId) -> Result<Vec<FeedKey>, Error> {
        let mut cleared = Vec::new();
        for key in room.feeds.keys() {
            let Some(feed) = self.store.feed(key) else {
                continue;
            };
            let held = feed.have();
            let mut is_cleared = false;
            for run in held.runs(0..feed.head().length) {
                for index in run {
                    let block = feed.get(index).ok().flatten();
                    let head = block.and_then(|block| SealedBlock::head(&block).ok());
                    if head.is_some_and(|head| head.epoch == *epoch) {
                        feed.clear(index..index + 1)?;
                        is_cleared = true;
                    }
                }
            }
            if is_cleared {
                cleared.push(*key);
            }
        }
        Ok(cleared)
    }
}

/// Returns the epochs of which every child is older than a room keeps.
fn too_old(standing: &Standing, keeps_ms: u64, now_ms: u64) -> BTreeSet<EpochId> {
    let is_over = |id: &EpochId| {
        let mut children = standing
            .epochs
            .values()
            .filter(|epoch| epoch.parents.contains(id))
            .peekable();
        children.peek().is_some()
            && children.all(|child| now_ms.saturating_sub(child.at_ms) > keeps_ms)
    };
    standing.epochs.keys().copied().filter(is_over).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::Announced;

    #[test]
    fn an_epoch_ends_when_all_that_follow_it_are_old() {
        let id = |number| EpochId([number; 16]);
        let mut standing = Standing::default();
        let epochs: [(u8, &[u8], u64); 4] = [
            (1, &[], 0),
            (2, &[1], 100),
            (3, &[1], 200),
            (4, &[2, 3], 300),
        ];
        for (number, parents, at_ms) in epochs {
            let epoch = Announced {
                parents: parents.iter().map(|parent| id(*parent)).collect(),
                at_ms,
                ..Announced::default()
            };
            standing.epochs.insert(id(number), epoch);
        }
        let old = |now| too_old(&standing, 50, now).into_iter().collect::<Vec<_>>();
        assert_eq!(old(250), []);
        assert_eq!(old(251), [id(1)]);
        assert_eq!(old(351), [id(1), id(2), id(3)]);
        assert_eq!(old(10_000), [id(1), id(2), id(3)], "the newest stays");
    }
}
