//! Reactions and edits: what entries say about messages, whichever comes first.
//!
//! Marks are kept beside their message, not in it, so a message is what its facts say: the newest
//! edit by its author's agent stands, and a [deletion](super::deletions) ends it.

use std::sync::Arc;

use kinlog_feeds::crypto::FeedKey;
use rusqlite::{OptionalExtension, params};

use crate::BODY_FORMAT;
use crate::entry::{Body, Edit, Mentions, Reaction, Ref, tag};
use crate::index::deletions::DELETED;
use crate::index::state::Place;
use crate::index::writer::{Placed, Writer};
use crate::index::{IndexError, Scope};

/// A message as its own fact has it.
struct Said {
    room: Arc<str>,
    member: Arc<str>,
    depth: u64,
    text: String,
    mentions: Mentions,
}

impl Writer<'_> {
    pub(super) fn add_reaction(
        &mut self,
        placed: &Placed,
        room: &str,
        member: &str,
        reaction: &Reaction,
    ) -> Result<(), IndexError> {
        let Placed { feed, index, .. } = placed;
        let Ref {
            feed: target,
            index: target_index,
        } = &reaction.target;
        for ended in reaction.removes() {
            self.db
                .prepare_cached(
                    "INSERT OR IGNORE INTO reaction_ends VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    ended.feed.0,
                    ended.index,
                    feed.0,
                    index,
                    target.0,
                    target_index,
                    room,
                    member
                ])?;
            self.db
                .prepare_cached(
                    "DELETE FROM reactions WHERE target_feed = ?1 AND target_idx = ?2
                     AND feed = ?3 AND idx = ?4 AND room_id = ?5 AND user_id = ?6",
                )?
                .execute(params![
                    target.0,
                    target_index,
                    ended.feed.0,
                    ended.index,
                    room,
                    member
                ])?;
        }
        if reaction.emoji.is_empty() {
            return Ok(());
        }
        let emoji = reaction.emoji.as_str();
        self.db
            .prepare_cached(
                "INSERT INTO reactions SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
                 WHERE NOT EXISTS (SELECT 1 FROM reaction_ends WHERE reaction_feed = ?3
                     AND reaction_idx = ?4 AND target_feed = ?1 AND target_idx = ?2
                     AND room_id = ?5 AND user_id = ?6)",
            )?
            .execute(params![
                target.0,
                target_index,
                feed.0,
                index,
                room,
                member,
                emoji,
                placed.clock.ms
            ])?;
        Ok(())
    }

    pub(super) fn add_edit(
        &mut self,
        placed: &Placed,
        room: &str,
        member: &str,
        edit: &Edit,
    ) -> Result<(), IndexError> {
        let Ref { feed, index } = edit.target;
        self.db
            .prepare_cached("INSERT INTO edits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
            .execute(params![
                feed.0,
                index,
                placed.feed.0,
                placed.index,
                room,
                member,
                placed.depth,
                placed.clock.ms,
                placed.clock.counter,
                edit.text.as_str()
            ])?;
        self.state.marked.insert((feed, index));
        self.refresh_message((feed, index))
    }

    /// Moves an edit whose order depth rose.
    pub(super) fn raise_edit(&mut self, placed: &Placed, edit: &Edit) -> Result<(), IndexError> {
        let Ref { feed, index } = edit.target;
        self.db
            .prepare_cached(
                "UPDATE edits SET depth = ?5 WHERE target_feed = ?1 AND target_idx = ?2
                 AND feed = ?3 AND idx = ?4",
            )?
            .execute(params![
                feed.0,
                index,
                placed.feed.0,
                placed.index,
                placed.depth
            ])?;
        self.refresh_message((feed, index))
    }

    /// Writes anew what a shown message says, after its marks or somebody's role changed.
    pub(super) fn refresh_message(&mut self, target: Place) -> Result<(), IndexError> {
        let Some(said) = self.said(target)? else {
            return Ok(());
        };
        let (feed, index) = (target.0.0, target.1);
        let shown: Option<(i64, String)> = self
            .db
            .prepare_cached(
                "SELECT rowid, text FROM messages
                 WHERE room_id = ?1 AND depth = ?2 AND feed = ?3 AND idx = ?4",
            )?
            .query_row(params![said.room, said.depth, feed, index], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((row, before)) = shown else {
            return Ok(());
        };
        let ended = self.ended(target)?;
        let edit = match ended {
            Some(_) => {
                self.db
                    .prepare_cached(
                        "UPDATE edits SET text = ''
                         WHERE target_feed = ?1 AND target_idx = ?2 AND text <> ''",
                    )?
                    .execute(params![feed, index])?;
                None
            }
            None => self.newest_edit(target, &said)?,
        };
        let (edited_at, text, mentions) = match (&ended, edit) {
            (Some(_), _) => (None, String::new(), Mentions::default()),
            (None, Some((ms, edit))) => (Some(ms), edit.text.into_string(), edit.mentions),
            (None, None) => (None, said.text, said.mentions),
        };
        let (deleted_at, deleted_by) = ended.unzip();
        if text != before {
            self.words.go(row, &before);
            self.words.come(row, &text);
        }
        self.db
            .prepare_cached(
                "UPDATE messages SET text = ?2, edited_at = ?3, deleted_at = ?4, deleted_by = ?5,
                     reply_feed = iif(?4 IS NULL, reply_feed, NULL),
                     reply_idx = iif(?4 IS NULL, reply_idx, NULL)
                 WHERE rowid = ?1",
            )?
            .execute(params![row, text, edited_at, deleted_at, deleted_by])?;
        self.put_mentions(target, &said.room, &mentions)
    }

    /// Judges anew what entries of a feed changed, after more or less of it is shown.
    pub(super) fn refresh_marked_by(&mut self, feed: &FeedKey) -> Result<(), IndexError> {
        let targets: Vec<Place> = self
            .db
            .prepare_cached("SELECT target_feed, target_idx FROM edits WHERE feed = ?1")?
            .query_map([feed.0], |row| Ok((FeedKey(row.get(0)?), row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        targets
            .into_iter()
            .try_for_each(|target| self.refresh_message(target))
    }

    /// Names those a message names now.
    pub(super) fn put_mentions(
        &mut self,
        (feed, index): Place,
        room: &str,
        mentions: &Mentions,
    ) -> Result<(), IndexError> {
        self.db
            .prepare_cached("DELETE FROM mentions WHERE feed = ?1 AND idx = ?2")?
            .execute(params![feed.0, index])?;
        self.add_mentions((feed, index), room, mentions)
    }

    /// Names those a message names that named nobody before.
    pub(super) fn add_mentions(
        &mut self,
        (feed, index): Place,
        room: &str,
        mentions: &Mentions,
    ) -> Result<(), IndexError> {
        for agent in mentions.agents() {
            self.db
                .prepare_cached("INSERT INTO mentions VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![feed.0, index, agent.to_string(), room])?;
        }
        Ok(())
    }

    fn newest_edit(&self, target: Place, said: &Said) -> Result<Option<(u64, Edit)>, IndexError> {
        let found: Option<(u64, Vec<u8>)> = self
            .db
            .prepare_cached(
                "SELECT e.ms, f.body FROM edits e JOIN facts f ON f.feed = e.feed AND f.idx = e.idx
                 WHERE e.target_feed = ?1 AND e.target_idx = ?2 AND e.room_id = ?3
                 AND e.user_id = ?4 AND EXISTS (SELECT 1 FROM member_feeds m
                     WHERE m.room_id = e.room_id AND m.feed = e.feed AND e.idx < m.shown_below)
                 ORDER BY e.depth DESC, e.ms DESC, e.counter DESC, e.feed DESC, e.idx DESC LIMIT 1",
            )?
            .query_row(
                params![target.0.0, target.1, said.room, said.member],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        Ok(found.and_then(|(ms, body)| {
            match Body::decode(tag::EDIT, u64::from(BODY_FORMAT), &body.into()) {
                Ok(Body::Edit(edit)) => Some((ms, edit)),
                _ => None,
            }
        }))
    }

    /// Returns what a message of a feed that counts said at first.
    fn said(&self, (feed, index): Place) -> Result<Option<Said>, IndexError> {
        let Some(known) = self.state.feeds.get(&feed) else {
            return Ok(None);
        };
        let (Scope::Room(_), Some(room), Some(member)) = (known.scope, &known.room, &known.member)
        else {
            return Ok(None);
        };
        let found: Option<(u64, Vec<u8>, i64)> = self
            .db
            .prepare_cached(
                "SELECT order_depth, body, state FROM facts
                 WHERE feed = ?1 AND idx = ?2 AND tag = ?3 AND state IN (0, 3)",
            )?
            .query_row(params![feed.0, index, tag::MESSAGE], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        Ok(found.and_then(|(depth, body, state)| {
            if state == DELETED {
                return Some(Said {
                    room: room.clone(),
                    member: member.clone(),
                    depth,
                    text: String::new(),
                    mentions: Mentions::default(),
                });
            }
            match Body::decode(tag::MESSAGE, u64::from(BODY_FORMAT), &body.into()) {
                Ok(Body::Message(message)) => Some(Said {
                    room: room.clone(),
                    member: member.clone(),
                    depth,
                    text: message.text.into_string(),
                    mentions: message.mentions,
                }),
                _ => None,
            }
        }))
    }
}
