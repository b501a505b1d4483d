//! The secrets of a home that is open or unlocked, as its own agent reads them.

use kinlog_agent::vault::{HomeKey, SecretPlace};
use kinlog_feeds::crypto::Secret;
use rusqlite::{Connection, OpenFlags};

use super::Home;

impl Home {
    /// Returns the key that the home's secrets are sealed with; it has no passphrase.
    #[track_caller]
    pub fn home_key(&self) -> HomeKey {
        let key = std::fs::read(self.path().join("home.key")).expect("a home without passphrase");
        HomeKey::new(Secret::new(key.try_into().expect("32 bytes")))
    }

    #[track_caller]
    pub fn device_secret(&self) -> Secret {
        self.device_secret_with(&self.home_key())
    }

    #[track_caller]
    pub fn device_secret_with(&self, key: &HomeKey) -> Secret {
        let sealed = std::fs::read(self.path().join("device.secret")).expect("the secret's file");
        let opened = key.open_secret(SecretPlace::DEVICE_SECRET, &sealed);
        opened.expect("sealed with the home's key")
    }

    /// Returns the `state.db` of the home, to read from.
    #[track_caller]
    pub fn state_db(&self) -> Connection {
        let path = self.path().join("state.db");
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database")
    }

    /// Returns the sealed blobs of a column, opened; `row` is the table's key.
    #[track_caller]
    pub fn sealed(&self, table: &'static str, column: &'static str, row: &str) -> Vec<Vec<u8>> {
        let (state, key) = (self.state_db(), self.home_key());
        let mut rows = state
            .prepare(&format!(
                "SELECT {row}, {column} FROM {table} ORDER BY {row}"
            ))
            .expect("a column");
        let rows = rows
            .query_map([], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
            })
            .expect("rows");
        rows.map(|row| {
            let (row, sealed) = row.expect("blobs");
            let opened = key.open(SecretPlace::new(table, column, &row), &sealed);
            opened.expect("sealed with the home's key").to_vec()
        })
        .collect()
    }
}
