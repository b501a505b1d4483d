//! Identity sets that are held, own and others', as they travel.

use kinlog_feeds::crypto::AgentId;

use crate::state::{State, StateError, fixed};

impl State {
    /// Keeps the identity set of an agent in place of the one held before.
    pub(crate) fn put_identity(&self, agent: &AgentId, set: &[u8]) -> Result<(), StateError> {
        self.lock().execute(
            "INSERT INTO identities (agent, identity_set) VALUES (?1, ?2)
             ON CONFLICT (agent) DO UPDATE SET identity_set = excluded.identity_set",
            (agent.as_bytes(), set),
        )?;
        Ok(())
    }

    /// Returns every identity set, by agent.
    pub(crate) fn identities(&self) -> Result<Vec<(AgentId, Vec<u8>)>, StateError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT agent, identity_set FROM identities ORDER BY agent")?;
        let rows = statement.query_map([], |row| Ok((AgentId(fixed(row, 0)?), row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
