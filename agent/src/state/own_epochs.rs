//! Secrets of the epochs that the own devices seal private paths in.

use kinlog_indexer::seal::{EpochId, EpochSecret};

use crate::state::{State, StateError, fixed};
use crate::vault::SecretPlace;

fn secret_place(id: &EpochId) -> SecretPlace<'_> {
    SecretPlace::new("own_epochs", "secret", &id.0)
}

impl State {
    /// Keeps the secret of an own epoch; again changes nothing.
    pub(crate) fn add_own_epoch(&self, secret: &EpochSecret) -> Result<(), StateError> {
        let id = secret.epoch_id();
        let sealed = self.seal(secret_place(&id), secret.expose())?;
        self.lock().execute(
            "INSERT OR IGNORE INTO own_epochs (id, secret) VALUES (?1, ?2)",
            (id.0, sealed),
        )?;
        Ok(())
    }

    /// Returns the secrets of all own epochs.
    pub(crate) fn own_epochs(&self) -> Result<Vec<EpochSecret>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT id, secret FROM own_epochs ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((EpochId(fixed(row, 0)?), row.get(1)?)))?;
        rows.map(|row| {
            let (id, sealed): (_, Vec<u8>) = row?;
            let secret = self.unseal_secret(secret_place(&id), &sealed)?;
            Ok(EpochSecret::new(*secret.expose()))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn secrets_of_own_epochs_come_back_and_stand_sealed() {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let secret = EpochSecret::new([7; 32]);
        state.add_own_epoch(&secret).unwrap();
        state.add_own_epoch(&secret).unwrap();
        assert_eq!(state.own_epochs().unwrap(), [secret]);
        let stored: Vec<u8> = state
            .lock()
            .query_row("SELECT secret FROM own_epochs", [], |row| row.get(0))
            .unwrap();
        assert!(!stored.windows(8).any(|part| part == [7; 8]));
    }
}
