//! Who is in a room: a fixed point over the admits held, whatever order they came in.
//!
//! The genesis counts the owner's feed; an admit counts its feed iff the feed it stands in counts.
//! So the feeds that count only grow with the facts. Of several admits of one feed the genesis
//! wins, then the one with the smallest (stated depth, clock, feed, index). In this build all
//! members may do the same; `owner` are the devices of the agent that made the room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kinlog_feeds::crypto::FeedKey;
use rusqlite::params;

use crate::RoomId;
use crate::entry::{Genesis, Membership, Role};
use crate::index::writer::{Placed, Writer};
use crate::index::{IndexError, Scope};

/// An admit as the table has it, in the order of preference.
#[derive(Clone, Debug, Eq, PartialEq)]
struct AdmitRow {
    by_feed: FeedKey,
    root: bool,
    feed: FeedKey,
    blobs_feed: FeedKey,
    user: Arc<str>,
    device: String,
    joined_at: u64,
}

impl Writer<'_> {
    /// Takes the genesis of a room, if it is the one that the room's id names and its owner
    /// vouches for.
    pub(super) fn add_genesis(
        &mut self,
        room: RoomId,
        placed: &Placed,
        genesis: &Genesis,
    ) -> Result<(), IndexError> {
        let owner = &genesis.owner;
        if placed.index != 0
            || owner.entries_feed != placed.feed
            || genesis.room_id() != room
            || owner.verify(&room).is_err()
        {
            return Ok(());
        }
        self.db
            .prepare_cached("INSERT INTO rooms VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                room.to_string(),
                room.code(),
                genesis.name.as_str(),
                owner.agent.to_string(),
                placed.clock.ms,
                placed.feed.0
            ])?;
        self.add_admit_row(room, placed, 0, true, owner)
    }

    /// Takes an admit, if the admitted agent and device vouch for it.
    pub(super) fn add_admit(
        &mut self,
        room: RoomId,
        placed: &Placed,
        stated_depth: u64,
        member: &Membership,
    ) -> Result<(), IndexError> {
        if member.verify(&room).is_err() {
            return Ok(());
        }
        self.add_admit_row(room, placed, stated_depth, false, member)
    }

    fn add_admit_row(
        &mut self,
        room: RoomId,
        placed: &Placed,
        stated_depth: u64,
        root: bool,
        member: &Membership,
    ) -> Result<(), IndexError> {
        self.db
            .prepare_cached(
                "INSERT INTO admits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                room.to_string(),
                placed.feed.0,
                placed.index,
                root,
                member.entries_feed.0,
                member.blobs_feed.0,
                member.agent.to_string(),
                member.device.to_string(),
                stated_depth,
                placed.clock.ms,
                placed.clock.counter
            ])?;
        self.stale_rooms.insert(room);
        Ok(())
    }

    /// Finds anew which feeds of a room count, and takes those that came to count into the views.
    pub(super) fn recount(&mut self, room: RoomId) -> Result<(), IndexError> {
        let room_id = room.to_string();
        let counted = self.counted_feeds(&room_id)?;
        let before: HashMap<FeedKey, Arc<str>> = self
            .db
            .prepare_cached("SELECT feed, user_id FROM member_feeds WHERE room_id = ?1")?
            .query_map([&room_id], |row| Ok((FeedKey(row.get(0)?), row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let renamed = counted
            .iter()
            .any(|(feed, admit)| before.get(feed).is_some_and(|user| *user != admit.user));
        let before = if renamed {
            self.forget_room(room)?;
            self.stale_rooms.remove(&room);
            HashMap::new()
        } else {
            before
        };
        let owner = counted
            .values()
            .find(|admit| admit.root)
            .map(|admit| admit.user.clone());
        for (key, admit) in &counted {
            let role = if owner.as_ref() == Some(&admit.user) {
                Role::Owner
            } else {
                Role::Member
            };
            self.db
                .prepare_cached(
                    "INSERT INTO member_feeds VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)
                     ON CONFLICT DO UPDATE SET blobs_feed = excluded.blobs_feed,
                         device = excluded.device, joined_at = excluded.joined_at",
                )?
                .execute(params![
                    room_id,
                    key.0,
                    admit.blobs_feed.0,
                    admit.user,
                    admit.device,
                    role.as_str(),
                    admit.joined_at
                ])?;
            self.stale_members
                .insert((room_id.as_str().into(), admit.user.clone()));
            if before.contains_key(key) {
                continue;
            }
            if let Some(feed) = self.state.feeds.get_mut(key)
                && feed.scope == Scope::Room(room)
            {
                feed.member = Some(admit.user.clone());
                self.reapply_feed(key)?;
            }
        }
        self.refresh_tombstones(&room_id)?;
        self.report.rooms.insert(room);
        Ok(())
    }

    /// Empties the views of a room and marks it to be counted anew.
    pub(super) fn forget_room(&mut self, room: RoomId) -> Result<(), IndexError> {
        let room_id = room.to_string();
        self.forget_words(&room_id)?;
        for table in [
            "messages",
            "reactions",
            "reaction_ends",
            "edits",
            "tombstones",
            "mentions",
            "files",
            "profiles",
            "room_members",
            "member_feeds",
        ] {
            self.db.execute(
                &format!("DELETE FROM {table} WHERE room_id = ?1"),
                [&room_id],
            )?;
        }
        for feed in self.state.feeds.values_mut() {
            if feed.scope == Scope::Room(room) {
                feed.member = None;
            }
        }
        self.stale_rooms.insert(room);
        Ok(())
    }

    /// Writes the row of a member from its devices' feeds and its names.
    pub(super) fn refresh_member(&mut self, room: &str, member: &str) -> Result<(), IndexError> {
        self.db
            .prepare_cached(
                "INSERT INTO room_members
                 SELECT m.room_id, m.user_id, coalesce(
                     (SELECT name FROM profiles WHERE user_id = ?2 AND room_id = ?1),
                     (SELECT name FROM profiles WHERE user_id = ?2 AND room_id = '')),
                     min(m.joined_at), NULL, max(m.last_seen_at)
                 FROM member_feeds m WHERE m.room_id = ?1 AND m.user_id = ?2
                 GROUP BY m.room_id, m.user_id
                 ON CONFLICT DO UPDATE SET display_name = excluded.display_name,
                     joined_at = excluded.joined_at, last_seen_at = excluded.last_seen_at",
            )?
            .execute([room, member])?;
        Ok(())
    }

    /// Shows an agent's new name in every room it is in.
    pub(super) fn rename_everywhere(&mut self, member: &Arc<str>) -> Result<(), IndexError> {
        let rooms: Vec<Arc<str>> = self
            .db
            .prepare_cached("SELECT room_id FROM room_members WHERE user_id = ?1")?
            .query_map([member], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for room in rooms {
            self.report.rooms.extend(room.parse::<RoomId>());
            self.stale_members.insert((room, member.clone()));
        }
        Ok(())
    }

    /// Returns the feeds that count, each with the admit that speaks for it.
    fn counted_feeds(&self, room: &str) -> rusqlite::Result<BTreeMap<FeedKey, AdmitRow>> {
        let admits: Vec<AdmitRow> = self
            .db
            .prepare_cached(
                "SELECT by_feed, root, feed, blobs_feed, user_id, device, ms FROM admits
                 WHERE room_id = ?1 ORDER BY root DESC, depth, ms, counter, by_feed, by_idx",
            )?
            .query_map([room], |row| {
                Ok(AdmitRow {
                    by_feed: FeedKey(row.get(0)?),
                    root: row.get(1)?,
                    feed: FeedKey(row.get(2)?),
                    blobs_feed: FeedKey(row.get(3)?),
                    user: row.get(4)?,
                    device: row.get(5)?,
                    joined_at: row.get(6)?,
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        let mut by_author: HashMap<FeedKey, Vec<&AdmitRow>> = HashMap::new();
        for admit in admits.iter().filter(|admit| !admit.root) {
            by_author.entry(admit.by_feed).or_default().push(admit);
        }
        let mut counts: BTreeSet<FeedKey> = BTreeSet::new();
        let mut next: Vec<FeedKey> = admits
            .iter()
            .filter(|admit| admit.root)
            .map(|admit| admit.feed)
            .collect();
        while let Some(feed) = next.pop() {
            if counts.insert(feed) {
                next.extend(
                    by_author
                        .get(&feed)
                        .into_iter()
                        .flatten()
                        .map(|admit| admit.feed),
                );
            }
        }
        let mut chosen = BTreeMap::new();
        for admit in admits {
            if admit.root || counts.contains(&admit.by_feed) {
                chosen.entry(admit.feed).or_insert(admit);
            }
        }
        Ok(chosen)
    }
}
