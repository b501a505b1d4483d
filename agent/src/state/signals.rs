//! Signal servers that links brought, or that `up` was told.

use crate::limits::SIGNAL_URLS_MAX;
use crate::state::{State, StateError};

impl State {
    /// Remembers a signal server; beyond [`SIGNAL_URLS_MAX`] new ones are not kept.
    pub(crate) fn add_signal(&self, url: &str) -> Result<(), StateError> {
        self.lock().execute(
            "INSERT OR IGNORE INTO signals (url)
             SELECT ?1 WHERE (SELECT count(*) FROM signals) < ?2",
            (url, SIGNAL_URLS_MAX as u32),
        )?;
        Ok(())
    }

    /// Returns the signal servers, in order of their URLs.
    pub(crate) fn signals(&self) -> Result<Vec<String>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT url FROM signals ORDER BY url")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
