//! Records of sign-in that are held: the own one, and those of agents who asked for it.

use std::collections::BTreeMap;

use kinlog_feeds::crypto::AgentId;

use crate::sign_in::{HeldSignIn, SignInRecord};
use crate::state::{State, StateError, fixed};

impl State {
    /// Keeps the record of an agent in place of the one before, or the wish to have it.
    pub(crate) fn put_sign_in(
        &self,
        agent: &AgentId,
        meet_key: &[u8; 32],
        record: Option<&[u8]>,
    ) -> Result<(), StateError> {
        self.lock().execute(
            "INSERT INTO sign_ins (agent, meet_key, record) VALUES (?1, ?2, ?3)
             ON CONFLICT (agent) DO UPDATE
             SET meet_key = excluded.meet_key, record = excluded.record",
            (agent.as_bytes(), meet_key, record),
        )?;
        Ok(())
    }

    /// Forgets the record of an agent.
    pub(crate) fn remove_sign_in(&self, agent: &AgentId) -> Result<(), StateError> {
        let agent = agent.as_bytes();
        self.lock()
            .execute("DELETE FROM sign_ins WHERE agent = ?1", [agent])?;
        Ok(())
    }

    /// Returns every record, by agent.
    pub(crate) fn sign_ins(&self) -> Result<BTreeMap<AgentId, HeldSignIn>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT agent, meet_key, record FROM sign_ins")?;
        let rows = statement.query_map([], |row| {
            let record: Option<Vec<u8>> = row.get(2)?;
            Ok((AgentId(fixed(row, 0)?), fixed(row, 1)?, record))
        })?;
        rows.map(|row| {
            let (agent, meet_key, record) = row?;
            let damaged = StateError::Damaged {
                what: "a sign-in record",
            };
            let record = match record.map(|bytes| SignInRecord::decode(&bytes)) {
                None => None,
                Some(Ok(record)) => Some(record),
                Some(Err(_)) => return Err(damaged),
            };
            Ok((agent, HeldSignIn { meet_key, record }))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{DeviceKey, KeyPair};

    use super::*;
    use crate::sign_in::Capsule;
    use crate::test_folder::TestFolder;

    #[test]
    fn records_are_replaced_and_removed() {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).expect("opened");
        let agent = AgentId([1; 32]);
        let sealed = [6; Capsule::SEALED_BYTES];
        let device = KeyPair::from_seed(&[2; 32]);
        let record = SignInRecord::sign(agent, 7, [3; 32], DeviceKey([4; 32]), sealed, &device);
        state.put_sign_in(&agent, &[9; 32], None).expect("written");
        let held = |state: &State| state.sign_ins().expect("read");
        assert_eq!(held(&state)[&agent].record, None);
        let bytes = record.encode();
        state
            .put_sign_in(&agent, &[3; 32], Some(&bytes))
            .expect("written");
        let expected = HeldSignIn {
            meet_key: [3; 32],
            record: Some(record),
        };
        assert_eq!(held(&state), BTreeMap::from([(agent, expected)]));
        state.remove_sign_in(&agent).expect("removed");
        assert!(held(&state).is_empty());
    }
}
