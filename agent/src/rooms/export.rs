//! A room as files that need no Kinlog: its messages, members and files in a folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use kinlog_indexer::Clock;
use kinlog_indexer::entry::{Body, Envelope};
use kinlog_indexer::seal::{SealedBlock, open_chunk, open_entry};
use serde::Serialize;

use crate::api::Error;
use crate::core::Core;
use crate::knowledge::KnownRoom;

/// What was written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Exported {
    pub(crate) messages: u64,
    pub(crate) files: u64,
    /// Files of which chunks are not held.
    pub(crate) files_left_out: u64,
    pub(crate) bytes: u64,
}

#[derive(Serialize)]
struct ExportedRoom<'a> {
    v: u8,
    id: String,
    name: &'a str,
    members: Vec<ExportedMember>,
}

#[derive(Serialize)]
struct ExportedMember {
    agent: String,
    name: String,
    role: Option<&'static str>,
}

#[derive(Serialize)]
struct ExportedMessage<'a> {
    v: u8,
    agent: String,
    name: &'a str,
    sent_at_ms: u64,
    feed: String,
    index: u64,
    text: &'a str,
}

/// A message on its way into the file.
struct Said {
    feed: kinlog_feeds::FeedKey,
    index: u64,
    agent: kinlog_feeds::AgentId,
    clock: Clock,
    text: String,
}

impl Core {
    /// Writes a room into a new folder: `room.json`, `messages.ndjson` and `files/`.
    pub(crate) fn export_room(&self, room: &KnownRoom, folder: &Path) -> Result<Exported, Error> {
        fs::create_dir(folder).map_err(|error| {
            Error::usage(format!("{}: {error}", folder.display()))
                .hint("name a folder that is not there yet")
        })?;
        let io = |path: &Path, error: std::io::Error| {
            Error::general(format!("{}: {error}", path.display()))
        };
        let rows = self.look(|index| index.room_members(&room.id))?;
        let name_of = |agent: &kinlog_feeds::AgentId| {
            let row = rows.iter().find(|row| row.agent == *agent);
            row.and_then(|row| row.display_name.clone())
                .unwrap_or_default()
        };
        let about = ExportedRoom {
            v: 1,
            id: room.id.to_string(),
            name: &room.name,
            members: rows
                .iter()
                .map(|row| ExportedMember {
                    agent: row.agent.to_string(),
                    name: row.display_name.clone().unwrap_or_default(),
                    role: room.standing.role(&row.agent).map(|role| role.as_str()),
                })
                .collect(),
        };
        let path = folder.join("room.json");
        let text = serde_json::to_vec_pretty(&about)
            .map_err(|error| Error::general(format!("room.json: {error}")))?;
        fs::write(&path, text).map_err(|error| io(&path, error))?;

        let mut exported = Exported::default();
        let path = folder.join("messages.ndjson");
        let mut out = BufWriter::new(File::create(&path).map_err(|error| io(&path, error))?);
        for said in self.said_in(room)? {
            let message = ExportedMessage {
                v: 1,
                agent: said.agent.to_string(),
                name: &name_of(&said.agent),
                sent_at_ms: said.clock.ms,
                feed: said.feed.to_string(),
                index: said.index,
                text: &said.text,
            };
            serde_json::to_writer(&mut out, &message)
                .map_err(|error| Error::general(format!("messages.ndjson: {error}")))?;
            out.write_all(b"\n").map_err(|error| io(&path, error))?;
            exported.messages += 1;
        }
        out.flush().map_err(|error| io(&path, error))?;
        self.export_files(room, folder, &mut exported)?;
        Ok(exported)
    }

    /// Returns every message of the room that is shown, oldest first.
    fn said_in(&self, room: &KnownRoom) -> Result<Vec<Said>, Error> {
        let shown = self.look(|index| index.message_places(&room.id))?;
        let mut said = Vec::with_capacity(shown.len());
        for (feed, index, agent) in shown {
            let Some(block) = self
                .store
                .feed(&feed)
                .and_then(|held| held.get(index).ok()?)
            else {
                continue;
            };
            let head = SealedBlock::head(&block).ok();
            let secret = head.and_then(|head| room.keys.secret(&head.epoch));
            let opened = secret
                .and_then(|secret| open_entry(&secret.content_key(), &feed, index, &block).ok());
            let envelope = opened.and_then(|entry| Envelope::decode(&entry).ok());
            let Some(envelope) = envelope else { continue };
            let body = Body::decode(envelope.tag, envelope.format, &envelope.body);
            if let Ok(Body::Message(message)) = body {
                said.push(Said {
                    feed,
                    index,
                    agent,
                    clock: envelope.clock,
                    text: message.text.to_string(),
                });
            }
        }
        Ok(said)
    }

    fn export_files(
        &self,
        room: &KnownRoom,
        folder: &Path,
        exported: &mut Exported,
    ) -> Result<(), Error> {
        let rows =
            self.index(|index| index.files(&room.id, kinlog_indexer::limits::QUERY_ROWS_MAX))?;
        if rows.is_empty() {
            return Ok(());
        }
        let folder = folder.join("files");
        let io = |error: std::io::Error| Error::general(format!("{}: {error}", folder.display()));
        fs::create_dir(&folder).map_err(io)?;
        let mut taken = BTreeSet::new();
        for row in rows {
            let chunks = self.store.feed(&row.blobs_feed).and_then(|feed| {
                let blocks = row.first_block..row.first_block.checked_add(row.blocks)?;
                let is_whole = feed.have().count_range(blocks) == row.blocks;
                is_whole.then_some(feed)
            });
            let Some(feed) = chunks else {
                exported.files_left_out += 1;
                continue;
            };
            let path = folder.join(free_name(&row.filename, &mut taken));
            let mut out = BufWriter::new(File::create_new(&path).map_err(io)?);
            for number in 0..row.blocks {
                let block = feed.get(row.first_block + number)?.unwrap_or_default();
                let plain = open_chunk(&row.key, number, row.blocks, &block).map_err(|error| {
                    Error::verification(format!("{}: {error}", row.filename)).in_file(&path)
                })?;
                out.write_all(&plain).map_err(io)?;
                exported.bytes += plain.len() as u64;
            }
            out.flush().map_err(io)?;
            exported.files += 1;
        }
        Ok(())
    }
}

/// Returns a name for a file that leads nowhere else and that no file before it has.
fn free_name(said: &str, taken: &mut BTreeSet<String>) -> String {
    let plain: String = said
        .chars()
        .map(|one| match one {
            '/' | '\\' | ':' => '_',
            one if one.is_control() => '_',
            one => one,
        })
        .take(100)
        .collect();
    let plain = match plain.trim_start_matches('.') {
        "" => "file",
        name => name,
    };
    let mut name = plain.to_owned();
    let mut number = 1;
    while !taken.insert(name.to_lowercase()) {
        number += 1;
        name = format!("{number}-{plain}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_of_others_lead_nowhere_else() {
        let mut taken = BTreeSet::new();
        let names: Vec<String> = [
            "../../etc/passwd",
            "a/b",
            "A/B",
            "",
            "..",
            "\u{1b}[2J",
            "c:d",
        ]
        .iter()
        .map(|said| free_name(said, &mut taken))
        .collect();
        let expected = [
            "_.._etc_passwd",
            "a_b",
            "2-A_B",
            "file",
            "2-file",
            "_[2J",
            "c_d",
        ];
        assert_eq!(names, expected);
    }
}
