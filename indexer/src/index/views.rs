//! Stage two: what people see, as a function of the facts.

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, FeedKey};
use kinlog_feeds::text;
use rusqlite::{OptionalExtension, params};

use crate::BODY_FORMAT;
use crate::clock::Clock;
use crate::entry::{
    Body, Deed, DirectoryHeads, Document, File, LinkScope, Message, SnapshotRow, tag,
};
use crate::index::deletions::DELETED;
use crate::index::kept::read_kept;
use crate::index::registers::written_by;
use crate::index::rowid;
use crate::index::state::Place;
use crate::index::words::segment;
use crate::index::writer::{Placed, Writer};
use crate::index::{IndexError, Scope};
use crate::register::{Register, ValueName};

impl Writer<'_> {
    /// Takes a new fact into the views; `body` is `None` where this build does not read it.
    pub(super) fn apply(&mut self, placed: &Placed, body: Option<&Body>) -> Result<(), IndexError> {
        let Some(feed) = self.state.feeds.get(&placed.feed) else {
            return Ok(());
        };
        match feed.scope {
            Scope::Room(_) => self.apply_in_room(placed, body),
            Scope::Unknown => self.apply_in_the_open(placed, None, false, body),
            Scope::Author { author, .. } => {
                self.apply_in_the_open(placed, Some(author), false, body)
            }
            Scope::Directory { author, .. } => {
                self.apply_in_the_open(placed, Some(author), true, body)
            }
            Scope::PrivateDirectory { author, .. } => {
                let change = self.report.change(author);
                change.directories = true;
                match body {
                    Some(Body::DirectoryHeads(heads)) => self.put_heads(&author, placed, heads),
                    _ => {
                        change.paths = true;
                        Ok(())
                    }
                }
            }
            Scope::Private { author, .. } => self.apply_in_private(placed, author, body),
        }
    }

    /// Takes the facts of a feed into the views that did not have them: it came to count, or to
    /// have an author.
    pub(super) fn reapply_feed(&mut self, key: &FeedKey) -> Result<(), IndexError> {
        let Some(feed) = self.state.feeds.get(key) else {
            return Ok(());
        };
        let (in_room, author) = (feed.room.is_some(), feed.scope.author());
        if let Some(author) = author {
            self.db
                .prepare_cached("UPDATE documents SET author = ?2 WHERE feed = ?1")?
                .execute(params![key.0, author.to_string()])?;
        }
        let (db, feed) = (self.db, *key);
        let mut facts = db.prepare_cached(
            "SELECT idx, tag, order_depth, depth, ms, counter, state, body FROM facts
             WHERE feed = ?1 AND (?2 OR tag <> ?3) ORDER BY idx",
        )?;
        // Documents are in their view already, whoever the author is.
        let mut rows = facts.query(params![feed.0, in_room, tag::DOCUMENT])?;
        while let Some(row) = rows.next()? {
            let clock = Clock {
                ms: row.get(4)?,
                counter: row.get(5)?,
            };
            let placed = Placed {
                feed,
                index: row.get(0)?,
                depth: row.get(2)?,
                clock,
            };
            let body = if row.get::<_, i64>(6)? == 0 {
                let kept = Bytes::from(row.get::<_, Vec<u8>>(7)?);
                let place = (feed, placed.index);
                read_kept(self.state, self.keys, place, row.get(1)?, kept)
            } else {
                None
            };
            if row.get::<_, i64>(6)? == DELETED {
                self.apply_deleted(&placed, row.get(1)?)?;
            } else if in_room {
                self.apply_in_room(&placed, body.as_ref())?;
            } else {
                self.apply(&placed, body.as_ref())?;
            }
        }
        Ok(())
    }

    /// Makes the views of a scope anew, after its links were.
    pub(super) fn reapply_scope(&mut self, scope: LinkScope) -> Result<(), IndexError> {
        match scope {
            LinkScope::Room(room) => {
                let mut feeds = self.state.feeds.values();
                match feeds.any(|feed| feed.scope == Scope::Room(room)) {
                    true => self.forget_room(room),
                    // What the own devices share stands in no view by its links.
                    false => Ok(()),
                }
            }
            LinkScope::Author(author) => {
                let feeds: Vec<FeedKey> = self
                    .state
                    .feeds
                    .iter()
                    .filter(|(_, feed)| feed.scope.author() == Some(author))
                    .map(|(key, _)| *key)
                    .collect();
                feeds.iter().try_for_each(|feed| self.reapply_feed(feed))
            }
        }
    }

    /// Moves an entry in the views: its order depth rose from `before`.
    pub(super) fn apply_raised(&mut self, place: Place, before: u64) -> Result<(), IndexError> {
        let (feed, index) = place;
        let Some(known) = self.state.feeds.get(&feed) else {
            return Ok(());
        };
        let (scope, room, member) = (known.scope, known.room.clone(), known.member.clone());
        let (tag, depth, clock, body) = self
            .db
            .prepare_cached(
                "SELECT tag, order_depth, ms, counter, body FROM facts
                 WHERE feed = ?1 AND idx = ?2 AND state IN (0, 3)",
            )?
            .query_row(params![feed.0, index], |row| {
                let clock = Clock {
                    ms: row.get(2)?,
                    counter: row.get(3)?,
                };
                Ok((
                    row.get::<_, u64>(0)?,
                    row.get(1)?,
                    clock,
                    row.get::<_, Vec<u8>>(4)?,
                ))
            })
            .optional()?
            .unwrap_or_default();
        let placed = Placed {
            feed,
            index,
            depth,
            clock,
        };
        match tag {
            tag::MESSAGE if member.is_some() => {
                self.db
                    .prepare_cached(
                        "UPDATE messages SET depth = ?7 WHERE room_id = ?1 AND depth = ?2
                         AND ms = ?3 AND counter = ?4 AND feed = ?5 AND idx = ?6",
                    )?
                    .execute(params![
                        room,
                        before,
                        clock.ms,
                        clock.counter,
                        feed.0,
                        index,
                        depth
                    ])?;
            }
            tag::FILE if member.is_some() => {
                self.db
                    .prepare_cached("UPDATE files SET depth = ?2 WHERE id = ?1")?
                    .execute(params![file_id(&placed), depth])?;
            }
            tag::EDIT if member.is_some() => {
                let body = Body::decode(tag, u64::from(BODY_FORMAT), &body.into());
                if let Ok(Body::Edit(edit)) = body {
                    self.raise_edit(&placed, &edit)?;
                }
            }
            tag::DIRECTORY_LINE
            | tag::DIRECTORY_RENAME
            | tag::DIRECTORY_REDIRECT
            | tag::DIRECTORY_RETIRE => {
                self.state.unfold(&feed, index);
                match scope {
                    Scope::Directory { author, .. } => {
                        self.stale_directories.insert(author);
                    }
                    Scope::PrivateDirectory { author, .. } => {
                        self.report.change(author).paths = true;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the views that are made once a transaction.
    pub(super) fn finish_views(&mut self) -> Result<(), IndexError> {
        loop {
            for room in std::mem::take(&mut self.stale_rooms) {
                self.recount(room)?;
            }
            for place in std::mem::take(&mut self.stale_deletions) {
                self.settle_deletion(place)?;
            }
            for scope in std::mem::take(&mut self.stale_links) {
                self.relink(scope)?;
            }
            if self.stale_rooms.is_empty() && self.stale_deletions.is_empty() {
                break;
            }
        }
        for (key, ms) in std::mem::take(&mut self.last_seen) {
            let Some(feed) = self.state.feeds.get(&key) else {
                continue;
            };
            let (Some(room), Some(member)) = (&feed.room, &feed.member) else {
                continue;
            };
            self.db
                .prepare_cached(
                    "UPDATE member_feeds SET last_seen_at = max(coalesce(last_seen_at, 0), ?3)
                     WHERE room_id = ?1 AND feed = ?2",
                )?
                .execute(params![room, key.0, ms])?;
            self.stale_members.insert((room.clone(), member.clone()));
        }
        self.finish_registers()?;
        for (room, member) in std::mem::take(&mut self.stale_members) {
            self.refresh_member(&room, &member)?;
        }
        for agent in std::mem::take(&mut self.stale_directories) {
            self.remake_directory(&agent)?;
        }
        Ok(())
    }

    fn apply_in_room(&mut self, placed: &Placed, body: Option<&Body>) -> Result<(), IndexError> {
        let Some(feed) = self.state.feeds.get(&placed.feed) else {
            return Ok(());
        };
        let (Scope::Room(id), Some(room), Some(member)) =
            (feed.scope, feed.room.clone(), feed.member.clone())
        else {
            return Ok(());
        };
        let shown_below = feed.shown_below;
        let seen = self.last_seen.entry(placed.feed).or_default();
        *seen = placed.clock.ms.max(*seen);
        self.report.rooms.insert(id);
        match body {
            Some(Body::Message(message)) => self.add_message(placed, &room, &member, message),
            Some(Body::File(file)) => self.add_file(placed, &room, &member, file),
            Some(Body::Reaction(body)) => self.add_reaction(placed, &room, &member, body),
            Some(Body::Edit(body)) => self.add_edit(placed, &room, &member, body),
            Some(Body::Tombstone(body)) => self.add_tombstone(placed, &room, &member, body, false),
            Some(Body::Act(act)) => match &act.deed {
                Deed::Delete(body) => self.add_tombstone(placed, &room, &member, body, true),
                _ => Ok(()),
            },
            Some(Body::Profile(profile)) if placed.index < shown_below => {
                let Ok(agent) = member.parse() else {
                    return Ok(());
                };
                let register = Register {
                    agent,
                    room: Some(id),
                    value: ValueName::Profile,
                };
                self.add_register_write(placed, register, profile.replaces())
            }
            _ => Ok(()),
        }
    }

    /// Takes in what an agent keeps for itself: documents, and registers that only its devices write.
    fn apply_in_private(
        &mut self,
        placed: &Placed,
        author: AgentId,
        body: Option<&Body>,
    ) -> Result<(), IndexError> {
        match body {
            Some(Body::Document(document)) => self.add_document(placed, Some(author), document),
            Some(body @ (Body::Setting(_) | Body::Contact(_) | Body::Preference(_))) => {
                self.report.change(author).values = true;
                self.add_open_write(placed, author, body)
            }
            _ => Ok(()),
        }
    }

    /// Takes a write of a register that is no room's.
    fn add_open_write(
        &mut self,
        placed: &Placed,
        author: AgentId,
        body: &Body,
    ) -> Result<(), IndexError> {
        match written_by(author, body) {
            Some((register, replaces)) => self.add_register_write(placed, register, replaces),
            None => Ok(()),
        }
    }

    fn apply_in_the_open(
        &mut self,
        placed: &Placed,
        author: Option<AgentId>,
        is_directory: bool,
        body: Option<&Body>,
    ) -> Result<(), IndexError> {
        if let (Some(author), true) = (author, is_directory) {
            self.report.change(author).directories = true;
        }
        match (body, author) {
            (Some(Body::Document(document)), _) => self.add_document(placed, author, document),
            (Some(body @ (Body::Profile(_) | Body::Vouch(_))), Some(author)) => {
                self.report.change(author).values = true;
                self.add_open_write(placed, author, body)
            }
            (Some(Body::Attest(attest)), Some(author)) => {
                self.add_attest(placed, &author.to_string(), attest)
            }
            (Some(Body::Witness(witness)), Some(author)) => {
                self.add_witness(placed, &author.to_string(), witness)
            }
            (
                Some(
                    Body::DirectoryLine(_)
                    | Body::DirectoryRename(_)
                    | Body::DirectoryRedirect(_)
                    | Body::DirectoryRetire(_)
                    | Body::Snapshot(_),
                ),
                Some(author),
            ) if is_directory => {
                self.stale_directories.insert(author);
                Ok(())
            }
            (Some(Body::SnapshotPage(page)), Some(author)) if is_directory => {
                self.stale_directories.insert(author);
                let heads = page.rows().iter().filter_map(|row| match row {
                    SnapshotRow::Line { head, .. } => *head,
                    SnapshotRow::Redirect { .. } => None,
                });
                let heads = DirectoryHeads::new(heads.collect());
                heads.map_or(Ok(()), |heads| self.put_heads(&author, placed, &heads))
            }
            (Some(Body::DirectoryHeads(heads)), Some(author)) if is_directory => {
                self.put_heads(&author, placed, heads)
            }
            (Some(Body::Cleared(_)), Some(author)) if is_directory => {
                self.report.change(author).paths = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn add_message(
        &mut self,
        placed: &Placed,
        room: &str,
        member: &str,
        message: &Message,
    ) -> Result<(), IndexError> {
        let Placed {
            feed,
            index,
            depth,
            clock,
        } = placed;
        let text = message.text.as_str();
        let insert = &mut self.hot.insert_message;
        let row = rowid::find(clock, feed, *index, |row| {
            insert.execute(params![
                row,
                room,
                depth,
                clock.ms,
                clock.counter,
                feed.0,
                index,
                member,
                text,
                message.reply.map(|reply| reply.feed.0),
                message.reply.map(|reply| reply.index)
            ])
        })?;
        if self.words.is_next(row) {
            self.hot.insert_words.execute(params![row, segment(text)])?;
        } else {
            self.words.come(row, text);
        }
        let place = (*feed, *index);
        self.add_mentions(place, room, &message.mentions)?;
        if self.state.marked.contains(&place) {
            self.refresh_message(place)?;
        }
        Ok(())
    }

    fn add_file(
        &mut self,
        placed: &Placed,
        room: &str,
        member: &str,
        file: &File,
    ) -> Result<(), IndexError> {
        let Placed {
            feed,
            index,
            depth,
            clock,
        } = placed;
        self.db
            .prepare_cached(
                "INSERT INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,
                 ?14, ?15, ?16, ?17)",
            )?
            .execute(params![
                file_id(placed),
                room,
                member,
                file.name.as_str(),
                file.mime.as_str(),
                file.size_bytes,
                text::encode(&file.blake3),
                format!("blake3:{}", text::encode_hex(&file.blake3)),
                clock.ms,
                depth,
                clock.counter,
                feed.0,
                index,
                file.blake3,
                file.blobs_feed.0,
                file.first_block,
                file.blocks,
            ])?;
        Ok(())
    }

    fn add_document(
        &mut self,
        placed: &Placed,
        author: Option<AgentId>,
        document: &Document,
    ) -> Result<(), IndexError> {
        let Placed {
            feed, index, clock, ..
        } = placed;
        self.db
            .prepare_cached("INSERT INTO documents VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                feed.0,
                index,
                author.map(|author| author.to_string()),
                document.title.as_str(),
                document.mime.as_str(),
                document.language.as_str(),
                document.text.as_str(),
                clock.ms,
            ])?;
        let row = self.db.last_insert_rowid();
        self.db
            .prepare_cached(
                "INSERT INTO documents_search (rowid, title, text) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![
                row,
                segment(&document.title),
                segment(&document.text)
            ])?;
        Ok(())
    }

    /// Keeps the longest head of each feed that an agent vouches for; of two with one length, the
    /// smaller hash, the same everywhere.
    fn put_heads(
        &mut self,
        author: &AgentId,
        placed: &Placed,
        heads: &DirectoryHeads,
    ) -> Result<(), IndexError> {
        let mut statement = self.db.prepare_cached(
            "INSERT INTO heads VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET length = excluded.length, tree_hash = excluded.tree_hash
             WHERE excluded.length > heads.length
                 OR (excluded.length = heads.length AND excluded.tree_hash < heads.tree_hash)",
        )?;
        let author = author.to_string();
        for head in heads.heads() {
            statement.execute(params![author, head.feed.0, head.length, head.tree_hash.0])?;
            self.db
                .prepare_cached("INSERT OR IGNORE INTO lengths VALUES (?1, ?2, ?3)")?
                .execute(params![head.feed.0, placed.clock.ms, head.length])?;
        }
        Ok(())
    }
}

/// Returns the id of a file: the entry that brought it.
fn file_id(placed: &Placed) -> String {
    format!("{}/{}", placed.feed, placed.index)
}
