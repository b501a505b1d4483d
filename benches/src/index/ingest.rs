//! Taking in messages, beside what SQLite makes of the same rows.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use kinlog_indexer::Index;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use crate::index::chat::{BATCH, Chat};
use crate::row::{Effort, Measured, Row};
use crate::scratch::Scratch;

pub(crate) const INGEST: Row = Row {
    name: "index_ingest",
    unit: "entries/s",
    definition: "200,000 chat messages (50,000 with --quick) of two devices that answer each other: \
        unsealed, decoded, links checked, in their order, searchable; 8 words and one link each, \
        batches of 8,000 as the agent makes them, into a new file with WAL. Limit: the rows that \
        this left in facts, messages and messages_search, put into the same schema by prepared \
        statements in the same batches.",
    measure,
    once: None,
};

fn measure(effort: &Effort) -> Result<Measured> {
    let chat = Chat::make(effort.scaled(200_000))?;
    let example = Scratch::new()?;
    rate(&chat, &example.path().join("index.db"))?;
    let rows = Rows::read(&example.path().join("index.db"))?;
    ensure!(
        rows.messages.len() + 2 == chat.blocks.len(),
        "every message"
    );
    Measured::alternate(
        effort,
        || {
            let scratch = Scratch::new()?;
            rate(&chat, &scratch.path().join("index.db"))
        },
        Vec::new(),
        Some((
            "the same rows by prepared statements",
            Box::new(|| {
                let scratch = Scratch::new()?;
                rows.insert(&scratch.path().join("index.db"))
            }),
        )),
    )
}

/// Takes the talk into a new index; returns entries a second.
fn rate(chat: &Chat, path: &Path) -> Result<f64> {
    let mut index = Index::open(path)?;
    chat.world.tell(&mut index);
    let start = Instant::now();
    chat.take_in(&mut index)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(index.counts()?.entries == chat.blocks.len() as u64);
    Ok(chat.blocks.len() as f64 / seconds)
}

/// What an index holds of a talk, in the order in which it came.
struct Rows {
    facts: Vec<Vec<Value>>,
    messages: Vec<Vec<Value>>,
    /// Rowid and text.
    words: Vec<(i64, String)>,
}

impl Rows {
    fn read(path: &Path) -> Result<Rows> {
        let db = Connection::open(path)?;
        let words = db
            .prepare("SELECT rowid, text FROM messages ORDER BY depth")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Rows {
            facts: all(&db, "SELECT * FROM facts ORDER BY depth")?,
            messages: all(&db, "SELECT rowid, * FROM messages ORDER BY depth")?,
            words,
        })
    }

    /// Puts them into a new file; returns entries a second.
    fn insert(&self, path: &Path) -> Result<f64> {
        drop(Index::open(path)?);
        let mut db = Connection::open(path)?;
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 4096;",
        )?;
        let columns: Vec<String> = db
            .prepare("SELECT name FROM pragma_table_info('messages')")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let into_facts = format!("INSERT INTO facts VALUES ({})", marks(&self.facts));
        let into_messages = format!(
            "INSERT INTO messages (rowid, {}) VALUES ({})",
            columns.join(", "),
            marks(&self.messages)
        );
        let start = Instant::now();
        let batches = self.facts.chunks(BATCH).zip(self.messages.chunks(BATCH));
        for ((facts, messages), words) in batches.zip(self.words.chunks(BATCH)) {
            let transaction = db.transaction()?;
            {
                let mut fact = transaction.prepare_cached(&into_facts)?;
                for row in facts {
                    fact.execute(params_from_iter(row))?;
                }
                let mut message = transaction.prepare_cached(&into_messages)?;
                for row in messages {
                    message.execute(params_from_iter(row))?;
                }
                let mut word = transaction
                    .prepare_cached("INSERT INTO messages_search (rowid, text) VALUES (?1, ?2)")?;
                for (row, text) in words {
                    word.execute(params![row, text])?;
                }
            }
            transaction.commit()?;
        }
        Ok(self.facts.len() as f64 / start.elapsed().as_secs_f64())
    }
}

fn all(db: &Connection, sql: &str) -> Result<Vec<Vec<Value>>> {
    let mut statement = db.prepare(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns).map(|column| row.get(column)).collect()
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn marks(rows: &[Vec<Value>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    vec!["?"; columns].join(", ")
}
