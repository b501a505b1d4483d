//! Rooms that keep some days: keys of epochs that are too old are destroyed, and what was sealed with
//! them is cleared, on every device alike.

use std::collections::BTreeSet;

use kinlog_feeds::FeedKey;
use kinlog_indexer::entry::History;
use kinlog_indexer::seal::{EpochId, SealedBlock};

use crate::api::Error;
use crate::core::{Core, Steps};
use crate::knowledge::{Announced, KnownRoom, Standing};
use crate::limits::{CLOCK_AHEAD_MS_MAX, EPOCH_AGE_MAX_DAYS};
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

/// Returns the epochs of which every child is older than a room keeps, and those that lapsed so long ago.
///
/// A child's date is its author's word. It is taken to be no earlier than the parent could be written in
/// ([`EPOCH_AGE_MAX_DAYS`] after it), so that nobody ends what was said today by a child of long ago; and where
/// it lies ahead of this clock it says nothing, so that nobody keeps a key for ever.
fn too_old(standing: &Standing, keeps_ms: u64, now_ms: u64) -> BTreeSet<EpochId> {
    let ahead_ms = now_ms.saturating_add(CLOCK_AHEAD_MS_MAX);
    let used_until = |epoch: &Announced| {
        let age_ms = EPOCH_AGE_MAX_DAYS.as_millis() as u64;
        epoch.at_ms.min(ahead_ms).saturating_add(age_ms)
    };
    let is_over = |(id, epoch): &(&EpochId, &Announced)| {
        let mut children = standing
            .epochs
            .values()
            .filter(|child| child.parents.contains(id))
            .peekable();
        let ended = |child: &Announced| match child.at_ms {
            at_ms if at_ms > ahead_ms => used_until(epoch),
            at_ms => at_ms.max(used_until(epoch)),
        };
        children.peek().is_some()
            && children.all(|child| now_ms.saturating_sub(ended(child)) > keeps_ms)
    };
    // Nobody writes in one that lapsed for longer than in any other, whatever follows it.
    let has_lapsed = |(id, epoch): &(&EpochId, &Announced)| {
        !standing.epochs.contains_key(*id) && now_ms.saturating_sub(used_until(epoch)) > keeps_ms
    };
    let over = standing.epochs.iter().filter(is_over);
    let over = over.chain(standing.lapsed.iter().filter(has_lapsed));
    over.map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    fn id(number: u8) -> EpochId {
        EpochId([number; 16])
    }

    /// Epochs with their parents and dates.
    fn standing(epochs: &[(u8, &[u8], u64)]) -> Standing {
        let mut standing = Standing::default();
        for (number, parents, at_ms) in epochs {
            let epoch = Announced {
                parents: parents.iter().map(|parent| id(*parent)).collect(),
                at_ms: *at_ms,
                ..Announced::default()
            };
            standing.epochs.insert(id(*number), epoch);
        }
        standing
    }

    fn old(standing: &Standing, keeps_ms: u64, now_ms: u64) -> Vec<EpochId> {
        too_old(standing, keeps_ms, now_ms).into_iter().collect()
    }

    #[test]
    fn an_epoch_ends_when_all_that_follow_it_are_old() {
        let at = |days: u64| days * DAY_MS;
        let room = standing(&[
            (1, &[], at(1)),
            (2, &[1], at(3)),
            (3, &[1], at(5)),
            (4, &[2, 3], at(7)),
        ]);
        let old = |now| old(&room, at(2), now);
        assert_eq!(old(at(7)), []);
        assert_eq!(old(at(7) + 1), [id(1)]);
        assert_eq!(old(at(9) + 1), [id(1), id(2), id(3)]);
        assert_eq!(old(at(1_000)), [id(1), id(2), id(3)], "the newest stays");
    }

    #[test]
    fn a_child_dated_long_ago_ends_nothing_that_was_said_today() {
        let today = 20_000 * DAY_MS;
        let room = standing(&[(1, &[], today), (2, &[1], 0)]);
        assert_eq!(old(&room, 3 * DAY_MS, today + 4 * DAY_MS), []);
        assert_eq!(old(&room, 3 * DAY_MS, today + 4 * DAY_MS + 1), [id(1)]);
    }

    #[test]
    fn a_child_of_the_year_2100_keeps_no_key() {
        let (today, ahead) = (20_000 * DAY_MS, 47_000 * DAY_MS);
        let room = standing(&[(1, &[], today), (2, &[1], ahead), (3, &[2], today)]);
        let kept = old(&room, 3 * DAY_MS, today + 4 * DAY_MS);
        assert_eq!(kept, []);
        let gone = old(&room, 3 * DAY_MS, today + 4 * DAY_MS + 1);
        assert_eq!(gone, [id(1)]);
    }
}
