//! The hash over everything that must be the same for the same entries and keys.
//!
//! `H` over each table of `sqlite_master`, in the order of their names: name, columns, then rows
//! ordered by primary key; values typed and length-prefixed. Full-text tables stand for their
//! content tables and are left out with their shadow tables, and so is the column
//! `meta.checkpoint`, and nothing else.

use std::collections::BTreeSet;

use kinlog_feeds::crypto::{Blake2b256, Hash};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

/// Tables that FTS5 keeps behind a virtual one.
const SHADOWS: [&str; 5] = ["data", "idx", "content", "docsize", "config"];

/// Returns the dump hash.
pub(super) fn dump_hash(db: &Connection) -> rusqlite::Result<Hash> {
    let tables: Vec<(String, bool)> = db
        .prepare(
            "SELECT name, sql LIKE 'CREATE VIRTUAL TABLE%' FROM sqlite_master
             WHERE type = 'table' ORDER BY name",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let left_out: BTreeSet<String> = tables
        .iter()
        .filter(|(_, is_virtual)| *is_virtual)
        .flat_map(|(name, _)| {
            let shadows = SHADOWS.iter().map(move |shadow| format!("{name}_{shadow}"));
            shadows.chain([name.clone()])
        })
        .collect();
    let mut chain = Chain(Blake2b256::new());
    for (table, _) in &tables {
        if !left_out.contains(table) {
            add_table(db, table, &mut chain)?;
        }
    }
    Ok(Hash(chain.0.finish()))
}

fn add_table(db: &Connection, table: &str, chain: &mut Chain) -> rusqlite::Result<()> {
    let mut columns: Vec<(String, i64)> = db
        .prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    if table == "meta" {
        columns.retain(|(name, _)| name != "checkpoint");
    }
    chain.add(b't', table.as_bytes());
    for (name, _) in &columns {
        chain.add(b'c', name.as_bytes());
    }
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let list = columns
        .iter()
        .map(|(name, _)| quoted(name))
        .collect::<Vec<_>>()
        .join(", ");
    let mut keys: Vec<&(String, i64)> = columns.iter().filter(|(_, pk)| *pk > 0).collect();
    keys.sort_by_key(|(_, pk)| *pk);
    if keys.is_empty() {
        keys.extend(&columns);
    }
    let order = keys
        .iter()
        .map(|(name, _)| quoted(name))
        .collect::<Vec<_>>()
        .join(", ");
    let mut statement = db.prepare(&format!(
        "SELECT {list} FROM {} ORDER BY {order}",
        quoted(table)
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        chain.add(b'r', &[]);
        for column in 0..columns.len() {
            match row.get_ref(column)? {
                ValueRef::Null => chain.add(b'n', &[]),
                ValueRef::Integer(value) => chain.add(b'i', &value.to_le_bytes()),
                ValueRef::Real(value) => chain.add(b'f', &value.to_le_bytes()),
                ValueRef::Text(value) => chain.add(b's', value),
                ValueRef::Blob(value) => chain.add(b'b', value),
            }
        }
    }
    Ok(())
}

/// Values hashed one after another, each with its type and length.
#[derive(Debug)]
struct Chain(Blake2b256);

impl Chain {
    fn add(&mut self, kind: u8, value: &[u8]) {
        self.0.update(&[kind]);
        self.0.update(&(value.len() as u64).to_le_bytes());
        self.0.update(value);
    }
}
