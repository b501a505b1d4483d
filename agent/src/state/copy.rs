//! A copy of `state.db`, for a backup or from one: consistent, and sealed with another key.

use std::path::Path;

use kinlog_feeds::text;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::state::sealed::{SEALED_COLUMNS, SealedColumn, SealedForm};
use crate::state::{State, StateError};
use crate::vault::{HomeKey, SecretPlace};

/// A row's key and its sealed value.
type Sealed = (Vec<u8>, Vec<u8>);

impl State {
    /// Writes what is committed in the database at `from` into the empty file `to`; others may write to
    /// it meanwhile.
    pub(crate) fn copy_to(from: &Path, to: &Path) -> Result<(), StateError> {
        let connection = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let to = to.to_str().ok_or(StateError::Damaged {
            what: "name of the copy, which is no UTF-8",
        })?;
        connection.execute("VACUUM INTO ?1", [to])?;
        Ok(())
    }

    /// Opens a copy whose secrets are sealed with `key`: one file, with nothing beside it.
    pub(crate) fn open_copy(path: &Path, key: &HomeKey) -> Result<State, StateError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        State::prepare(connection, "DELETE", key.clone())
    }

    /// Seals every secret with another key, and forgets the pages that held them.
    pub(crate) fn seal_anew(self, key: &HomeKey) -> Result<State, StateError> {
        {
            let mut connection = self.lock();
            let transaction = connection.transaction()?;
            for column in SEALED_COLUMNS {
                for (row, sealed) in sealed_rows(&transaction, column)? {
                    let place = SecretPlace::new(column.table, column.column, &row);
                    let plain = self.unseal(place, &sealed)?;
                    let mut nonce = [0; 24];
                    getrandom::fill(&mut nonce)?;
                    write(&transaction, column, &row, key.seal(place, &nonce, &plain))?;
                }
            }
            transaction.commit()?;
            connection.execute_batch("VACUUM")?;
        }
        Ok(State {
            key: key.clone(),
            ..self
        })
    }

    /// Checks every page, and opens every secret.
    pub(crate) fn check_whole(&self) -> Result<(), StateError> {
        let connection = self.lock();
        let problem: Option<String> = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .optional()?;
        if problem.as_deref() != Some("ok") {
            return Err(StateError::Damaged { what: "a page" });
        }
        for column in SEALED_COLUMNS {
            for (row, sealed) in sealed_rows(&connection, column)? {
                self.unseal(SecretPlace::new(column.table, column.column, &row), &sealed)?;
            }
        }
        Ok(())
    }
}

/// Reads all sealed values of a column; they are few, and none is long.
fn sealed_rows(connection: &Connection, column: &SealedColumn) -> Result<Vec<Sealed>, StateError> {
    let SealedColumn {
        table,
        column: name,
        row,
        form,
    } = column;
    let mut statement = connection.prepare(&format!("SELECT {row}, {name} FROM {table}"))?;
    let mut rows = statement.query([])?;
    let mut sealed = Vec::new();
    while let Some(row) = rows.next()? {
        let key: Vec<u8> = row.get(0)?;
        let value = match form {
            SealedForm::Blob => row.get(1)?,
            SealedForm::Text => {
                let text: String = row.get(1)?;
                if text.is_empty() {
                    continue;
                }
                text::decode(&text).map_err(|_| StateError::Sealed {
                    table,
                    column: name,
                })?
            }
        };
        sealed.push((key, value));
    }
    Ok(sealed)
}

fn write(
    connection: &Connection,
    column: &SealedColumn,
    row: &[u8],
    sealed: Vec<u8>,
) -> Result<(), StateError> {
    let query = format!(
        "UPDATE {} SET {} = ?2 WHERE {} = ?1",
        column.table, column.column, column.row
    );
    match column.form {
        SealedForm::Blob => connection.execute(&query, (row, sealed))?,
        SealedForm::Text => connection.execute(&query, (row, text::encode(&sealed)))?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::Secret;

    use super::*;
    use crate::rooms::RoomId;
    use crate::state::{StoredEpoch, StoredRoom};
    use crate::test_folder::TestFolder;

    #[test]
    fn a_copy_is_consistent_and_opens_with_its_own_key_alone() {
        let folder = TestFolder::new();
        let (from, to) = (folder.path().join("state.db"), folder.path().join("copy"));
        let state = State::open(&from).unwrap();
        let room = StoredRoom {
            id: RoomId([1; 32]),
            name: "garden".into(),
            entries_id: [2; 16],
            blobs_id: [3; 16],
            direct: None,
        };
        let epoch = StoredEpoch {
            sort: crate::state::KeySort::Secret,
            id: [4; 16],
            room: room.id,
            secret: Secret::new([5; 32]),
        };
        let unnamed = StoredRoom {
            id: RoomId([6; 32]),
            name: String::new(),
            entries_id: [7; 16],
            blobs_id: [8; 16],
            direct: None,
        };
        state
            .add_room(&room, std::slice::from_ref(&epoch), &[])
            .unwrap();
        state.add_room(&unnamed, &[], &[]).unwrap();

        // The original is open meanwhile, and its newest rows are in the log beside it.
        State::copy_to(&from, &to).unwrap();
        state.set_value("later", b"one").unwrap();
        let other = HomeKey::new(Secret::new([9; 32]));
        let copy = State::open_copy(&to, state.key()).unwrap();
        copy.check_whole().unwrap();
        let copy = copy.seal_anew(&other).unwrap();
        copy.check_whole().unwrap();
        assert_eq!(copy.rooms().unwrap(), [room, unnamed]);
        assert_eq!(copy.epochs().unwrap(), [epoch]);
        assert_eq!(copy.value("later").unwrap(), None);
        drop(copy);
        let wrong = State::open_copy(&to, state.key()).unwrap();
        assert!(matches!(
            wrong.check_whole(),
            Err(StateError::Sealed { .. })
        ));
        assert!(!folder.path().join("copy-wal").exists());
    }

    #[test]
    fn a_damaged_copy_is_noticed() {
        let folder = TestFolder::new();
        let (from, to) = (folder.path().join("state.db"), folder.path().join("copy"));
        let state = State::open(&from).unwrap();
        State::copy_to(&from, &to).unwrap();
        let mut bytes = std::fs::read(&to).unwrap();
        // The head of the second page: what kind of page it is.
        bytes[4096..4104].fill(0xff);
        std::fs::write(&to, bytes).unwrap();
        let checked = State::open_copy(&to, state.key()).and_then(|copy| copy.check_whole());
        assert!(checked.is_err());
    }
}
