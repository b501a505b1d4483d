//! Who is in a room and what is shown of it: the tables that follow from its acts.
//!
//! Every feed that was ever authorised to come in has its entries in the views, and in
//! `member_feeds` the block from which on they are hidden. So a removal changes some rows and moves
//! no message, however long the room is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kinlog_feeds::crypto::{AgentId, FeedKey};
use rusqlite::params;

use crate::RoomId;
use crate::authority::{Authority, RoomFeed};
use crate::entry::{Body, History, Role, tag};
use crate::index::writer::{Placed, Writer};
use crate::index::{IndexError, Scope};
use crate::mistake::{Mistake, makes};
use crate::register::{Register, ValueName};
use crate::{BODY_FORMAT, Clock};

/// A feed as the table has it: whose it is, and from where on it is hidden.
type Shown = HashMap<FeedKey, (Arc<str>, u64)>;

impl Writer<'_> {
    /// Finds anew what the acts of a room come to, and changes what follows.
    pub(super) fn recount(&mut self, room: RoomId) -> Result<(), IndexError> {
        let authority = self
            .state
            .with_acts(self.db, &room, |acts| acts.authority())?;
        let authority = Arc::new(authority);
        let before = self.state.written.remove(&room);
        let room_id = room.to_string();
        self.write_verdicts(&room_id, &authority, before.as_deref())?;
        self.write_room(&room, &authority)?;
        let mut shown = self.shown(&room_id)?;
        let other_owner = shown.iter().any(|(feed, (agent, _))| {
            let now = authority.feeds.get(feed);
            now.is_none_or(|now| now.agent.to_string() != **agent)
        });
        if other_owner {
            self.forget_room(room)?;
            self.stale_rooms.remove(&room);
            shown.clear();
        }
        self.write_members(&room_id, &authority)?;
        for (key, feed) in &authority.feeds {
            self.write_feed(&room_id, key, feed, authority.role(&feed.agent))?;
        }
        self.write_lists(&room_id, &authority)?;
        self.write_cuts(&room_id, &authority)?;
        self.show(room, &authority, &shown)?;
        self.state.written.insert(room, authority);
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
            "register_writes",
            "register_replaced",
            "conflicts",
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
                feed.shown_below = 0;
            }
        }
        self.stale_rooms.insert(room);
        Ok(())
    }

    /// Writes what a member is called, and when it was last heard of.
    pub(super) fn refresh_member(&mut self, room: &str, member: &str) -> Result<(), IndexError> {
        self.db
            .prepare_cached(
                "UPDATE room_members SET display_name = coalesce(
                     (SELECT name FROM profiles WHERE user_id = ?2 AND room_id = ?1),
                     (SELECT name FROM profiles WHERE user_id = ?2 AND room_id = '')),
                     last_seen_at = (SELECT max(last_seen_at) FROM member_feeds
                         WHERE user_id = ?2 AND room_id = ?1)
                 WHERE room_id = ?1 AND user_id = ?2",
            )?
            .execute([room, member])?;
        Ok(())
    }

    /// Shows an agent's new name in every room it is in.
    pub(super) fn rename_everywhere(&mut self, member: &Arc<str>) -> Result<(), IndexError> {
        let rooms: Vec<Arc<str>> = self
            .db
            .prepare_cached("SELECT DISTINCT room_id FROM member_feeds WHERE user_id = ?1")?
            .query_map([member], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for room in rooms {
            self.report.rooms.extend(room.parse::<RoomId>());
            self.stale_members.insert((room, member.clone()));
        }
        Ok(())
    }

    fn write_room(&mut self, room: &RoomId, authority: &Authority) -> Result<(), IndexError> {
        let Some(start) = &authority.start else {
            return Ok(());
        };
        let (history, days) = match start.history {
            History::Full => ("full", None),
            History::FromJoin => ("from-join", None),
            History::Days(days) => ("days", Some(days)),
        };
        self.db
            .prepare_cached("INSERT OR IGNORE INTO rooms VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                room.to_string(),
                room.code(),
                start.name,
                start.agent.to_string(),
                start.dated_ms,
                start.feed.0,
                history,
                days
            ])?;
        Ok(())
    }

    fn shown(&self, room: &str) -> rusqlite::Result<Shown> {
        self.db
            .prepare_cached(
                "SELECT feed, user_id, shown_below FROM member_feeds WHERE room_id = ?1",
            )?
            .query_map([room], |row| {
                Ok((FeedKey(row.get(0)?), (row.get(1)?, row.get(2)?)))
            })?
            .collect()
    }

    fn write_members(&mut self, room: &str, authority: &Authority) -> Result<(), IndexError> {
        let known: Vec<String> = self
            .db
            .prepare_cached("SELECT user_id FROM room_members WHERE room_id = ?1")?
            .query_map([room], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let members: BTreeSet<String> = authority.members.keys().map(ToString::to_string).collect();
        for gone in known.iter().filter(|known| !members.contains(*known)) {
            self.db
                .prepare_cached("DELETE FROM room_members WHERE room_id = ?1 AND user_id = ?2")?
                .execute([room, gone])?;
        }
        for (agent, member) in &authority.members {
            let ended = member.ended.as_ref();
            self.db
                .prepare_cached(
                    "INSERT INTO room_members VALUES (?1, ?2, NULL, ?3, ?4, NULL, ?5, ?6, ?7, ?8, ?9)
                     ON CONFLICT DO UPDATE SET joined_at = excluded.joined_at,
                         left_at = excluded.left_at, role = excluded.role, ended = excluded.ended,
                         ended_by = excluded.ended_by, ended_act = excluded.ended_act,
                         reason = excluded.reason",
                )?
                .execute(params![
                    room,
                    agent.to_string(),
                    member.joined_ms,
                    ended.map(|ended| ended.dated_ms),
                    member.role.map(Role::as_str),
                    ended.map(|ended| ended.sort.as_str()),
                    ended.map(|ended| ended.agent.to_string()),
                    ended.map(|ended| ended.by.0),
                    ended.map(|ended| ended.reason.as_str())
                ])?;
            let agent: Arc<str> = agent.to_string().into();
            self.stale_members.insert((room.into(), agent));
        }
        Ok(())
    }

    fn write_feed(
        &mut self,
        room: &str,
        key: &FeedKey,
        feed: &RoomFeed,
        role: Option<Role>,
    ) -> Result<(), IndexError> {
        self.db
            .prepare_cached(
                "INSERT INTO member_feeds VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, ?8, ?9, ?10)
                 ON CONFLICT DO UPDATE SET blobs_feed = excluded.blobs_feed,
                     device = excluded.device, role = excluded.role,
                     joined_at = excluded.joined_at, shown_below = excluded.shown_below,
                     admitted_by = excluded.admitted_by, void = excluded.void",
            )?
            .execute(params![
                room,
                key.0,
                feed.blobs_feed.0,
                feed.agent.to_string(),
                feed.device.to_string(),
                role.map_or("", Role::as_str),
                feed.admitted_ms,
                shown_below(feed),
                feed.admitted_by.0,
                feed.void.map(|void| void.to_string())
            ])?;
        Ok(())
    }

    /// Writes invites, epochs and grants, of which there are few.
    fn write_lists(&mut self, room: &str, authority: &Authority) -> Result<(), IndexError> {
        for table in ["invites", "epochs", "epoch_devices", "grants"] {
            self.db
                .prepare_cached(&format!("DELETE FROM {table} WHERE room_id = ?1"))?
                .execute([room])?;
        }
        for (act, invite) in &authority.invites {
            self.db
                .prepare_cached("INSERT INTO invites VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
                .execute(params![
                    room,
                    act.0,
                    invite.public_key.0,
                    invite.agent.to_string(),
                    invite.role.as_str(),
                    invite.expires_at_ms,
                    invite.uses,
                    invite.used,
                    invite.revoked_by.map(|by| by.0)
                ])?;
        }
        for (id, epoch) in &authority.epochs {
            let Some(oldest) = epoch.announced.first() else {
                continue;
            };
            let parents: Vec<u8> = epoch.parents.iter().flat_map(|parent| parent.0).collect();
            self.db
                .prepare_cached("INSERT INTO epochs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
                .execute(params![
                    room,
                    id.0,
                    oldest.act_id.0,
                    oldest.act.0,
                    oldest.agent.to_string(),
                    epoch.dated_ms,
                    parents,
                    epoch.is_head
                ])?;
        }
        let announced = authority.epochs.iter();
        let announced = announced.map(|(id, epoch)| (id, &epoch.recipients));
        let devices: BTreeSet<_> = announced
            .chain(&authority.given)
            .flat_map(|(id, devices)| devices.iter().map(|device| (*id, *device)))
            .collect();
        for (id, device) in devices {
            self.db
                .prepare_cached("INSERT INTO epoch_devices VALUES (?1, ?2, ?3)")?
                .execute(params![room, id.0, device.to_string()])?;
        }
        for (act, row) in &authority.grants {
            self.db
                .prepare_cached("INSERT INTO grants VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
                .execute(params![
                    room,
                    row.grant.hash.0,
                    act.0,
                    row.agent.to_string(),
                    row.grant.seeder.to_string(),
                    row.grant.expires_at_ms,
                    row.grant.quota_class,
                    row.revoked_by.map(|by| by.0)
                ])?;
        }
        Ok(())
    }

    /// Writes the cuts, and where a held tree is not the one that its cut names.
    fn write_cuts(&mut self, room: &str, authority: &Authority) -> Result<(), IndexError> {
        for table in ["cuts", "disputes"] {
            self.db
                .prepare_cached(&format!("DELETE FROM {table} WHERE room_id = ?1"))?
                .execute([room])?;
        }
        let cuts: BTreeMap<FeedKey, _> = authority
            .feeds
            .iter()
            .flat_map(|(key, feed)| [(*key, feed.cut), (feed.blobs_feed, feed.blobs_cut)])
            .filter_map(|(key, cut)| Some((key, cut?)))
            .collect();
        for (key, cut) in cuts {
            let (length, stated) = (cut.cut.length, cut.cut.tree_hash);
            self.db
                .prepare_cached("INSERT INTO cuts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    room,
                    key.0,
                    length,
                    stated.0,
                    cut.sort.as_str(),
                    cut.agent.to_string(),
                    cut.by.0
                ])?;
            if length == 0 {
                continue;
            }
            let held = self.trees.and_then(|trees| trees.tree_hash(&key, length));
            if let Some(held) = held.filter(|held| *held != stated) {
                let last = length - 1;
                let from = self.trees.and_then(|trees| trees.contested_from(&key));
                let from = from.map_or(last, |from| from.min(last));
                self.db
                    .prepare_cached("INSERT INTO disputes VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                    .execute(params![room, key.0, from, stated.0, held.0, cut.by.0])?;
            }
        }
        Ok(())
    }

    /// Takes feeds that came in into the views, and what of others is shown or hidden now out of
    /// what hangs on it.
    fn show(
        &mut self,
        room: RoomId,
        authority: &Authority,
        before: &Shown,
    ) -> Result<(), IndexError> {
        let room_id = room.to_string();
        let mut changed = BTreeSet::new();
        for (key, feed) in &authority.feeds {
            let below = shown_below(feed);
            let was = before.get(key).map(|(_, below)| *below);
            let agent: Arc<str> = feed.agent.to_string().into();
            let Some(known) = self.state.feeds.get_mut(key) else {
                continue;
            };
            if known.scope != Scope::Room(room) {
                continue;
            }
            known.shown_below = below;
            known.cut_at = feed.cut.map(|cut| cut.cut.length);
            if known.member.is_none() {
                known.member = Some(agent.clone());
                self.reapply_feed(key)?;
            }
            if was.is_some_and(|was| was != below) {
                changed.insert(feed.agent);
                self.refresh_marked_by(key)?;
            }
        }
        for agent in changed {
            self.name_anew(room, agent)?;
        }
        self.refresh_tombstones(&room_id)
    }

    /// Finds what a member calls itself in a room from the entries that are shown.
    fn name_anew(&mut self, room: RoomId, agent: AgentId) -> Result<(), IndexError> {
        let register = Register {
            agent,
            room: Some(room),
            value: ValueName::Profile,
        };
        self.forget_register(&register)?;
        let (db, mut found) = (self.db, Vec::new());
        let mut profiles = db.prepare_cached(
            "SELECT f.feed, f.idx, f.order_depth, f.ms, f.counter, f.body FROM member_feeds m
             JOIN facts f ON f.feed = m.feed AND f.tag = ?3 AND f.tag <> 18 AND f.state = 0
                 AND f.idx < m.shown_below
             WHERE m.room_id = ?1 AND m.user_id = ?2",
        )?;
        let key = params![room.to_string(), agent.to_string(), tag::PROFILE];
        let mut rows = profiles.query(key)?;
        while let Some(row) = rows.next()? {
            let clock = Clock {
                ms: row.get(3)?,
                counter: row.get(4)?,
            };
            let placed = Placed {
                feed: FeedKey(row.get(0)?),
                index: row.get(1)?,
                depth: row.get(2)?,
                clock,
            };
            found.push((placed, row.get::<_, Vec<u8>>(5)?));
        }
        drop(rows);
        for (placed, body) in found {
            let body = Body::decode(tag::PROFILE, u64::from(BODY_FORMAT), &body.into());
            if let Ok(Body::Profile(profile)) = body {
                self.add_register_write(&placed, register.clone(), profile.replaces())?;
            }
        }
        Ok(())
    }
}

/// Returns from where on a feed is hidden, as the table has it.
fn shown_below(feed: &RoomFeed) -> u64 {
    if makes(Mistake::CutShown) {
        return i64::MAX as u64;
    }
    feed.shown_below().min(i64::MAX as u64)
}
