//! Paths of feeds: a public one stands as it is, a private one sealed in a column of its own.

use crate::links::FeedPath;
use crate::state::{State, StateError};
use crate::vault::SecretPlace;

impl State {
    /// Returns what stands in the columns `path` and `private_path`.
    pub(super) fn path_columns<'a>(
        &self,
        place: SecretPlace<'_>,
        path: Option<&'a FeedPath>,
        is_private: bool,
    ) -> Result<(Option<&'a str>, String), StateError> {
        match path.map(FeedPath::as_str) {
            Some(path) if is_private => Ok((None, self.seal_text(place, path)?)),
            path => Ok((path, String::new())),
        }
    }

    /// Reads the columns `path` and `private_path`.
    pub(super) fn path_of(
        &self,
        place: SecretPlace<'_>,
        (clear, sealed): (Option<String>, String),
    ) -> Result<Option<FeedPath>, StateError> {
        let opened = self.unseal_text(place, &sealed)?;
        let text = match opened.is_empty() {
            true => clear.as_deref(),
            false => Some(opened.as_str()),
        };
        let path = text.map(str::parse).transpose();
        path.map_err(|_| StateError::Damaged {
            what: "path of a feed",
        })
    }

    /// Seals the paths that an earlier build left in clear, and overwrites where they stood.
    pub(super) fn seal_clear_paths(&self) -> Result<(), StateError> {
        let mut connection = self.lock();
        let mut is_any = false;
        let transaction = connection.transaction()?;
        for (table, key, private) in CLEAR_ONCE {
            let mut statement = transaction.prepare(&format!(
                "SELECT {key}, path FROM {table} WHERE {private} AND path IS NOT NULL"
            ))?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(Vec<u8>, String)> = rows.collect::<Result<_, _>>()?;
            for (row, path) in rows {
                let place = SecretPlace::new(table, PRIVATE_PATH, &row);
                let sealed = self.seal_text(place, &path)?;
                transaction.execute(
                    &format!("UPDATE {table} SET path = NULL, private_path = ?2 WHERE {key} = ?1"),
                    (&row, sealed),
                )?;
                is_any = true;
            }
        }
        transaction.commit()?;
        if is_any {
            // The log still holds the pages as they were.
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(())
    }
}

/// The column of a sealed path.
const PRIVATE_PATH: &str = "private_path";

/// Tables with paths that were once in clear: their keys, and which rows are private.
const CLEAR_ONCE: [(&str, &str, &str); 3] = [
    ("own_feeds", "feed_key", "private"),
    ("former_feeds", "feed_key", "private"),
    ("pins", "place", "true"),
];
