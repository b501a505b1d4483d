//! Columns that hold what nobody but this agent may know: sealed one by one with the home's key.
//!
//! A column of secrets is listed in [`SEALED_COLUMNS`], so that a backup, which has another key, seals it
//! anew.

use kinlog_feeds::crypto::Secret;
use kinlog_feeds::text;
use zeroize::Zeroizing;

use crate::state::{State, StateError};
use crate::vault::SecretPlace;

/// How a sealed value stands in its column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SealedForm {
    /// As it is.
    Blob,
    /// In z-base-32; an empty text is not sealed.
    Text,
}

/// A column of sealed values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealedColumn {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    /// The primary key: one blob.
    pub(crate) row: &'static str,
    pub(crate) form: SealedForm,
}

const fn column(
    table: &'static str,
    column: &'static str,
    row: &'static str,
    form: SealedForm,
) -> SealedColumn {
    SealedColumn {
        table,
        column,
        row,
        form,
    }
}

/// Every column of sealed values.
pub(crate) const SEALED_COLUMNS: &[SealedColumn] = &[
    column("epochs", "secret", "id", SealedForm::Blob),
    column("former_feeds", "private_path", "feed_key", SealedForm::Text),
    column("grants_given", "bytes", "hash", SealedForm::Blob),
    column("grants_held", "bytes", "hash", SealedForm::Blob),
    column("invites", "seed", "public_key", SealedForm::Blob),
    column("join_answers", "keys", "id", SealedForm::Blob),
    column("joins", "invite", "room", SealedForm::Text),
    column("own_epochs", "secret", "id", SealedForm::Blob),
    column("own_feeds", "private_path", "feed_key", SealedForm::Text),
    column("pins", "private_path", "place", SealedForm::Text),
    column("rooms", "name", "id", SealedForm::Text),
];

impl State {
    /// Seals a value for its place, with a nonce of its own.
    pub(crate) fn seal(&self, place: SecretPlace<'_>, plain: &[u8]) -> Result<Vec<u8>, StateError> {
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce)?;
        Ok(self.key().seal(place, &nonce, plain))
    }

    /// Opens a sealed value.
    pub(crate) fn unseal(
        &self,
        place: SecretPlace<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StateError> {
        let opened = self.key().open(place, sealed);
        opened.map_err(|_| not_opened(place))
    }

    /// Opens a sealed secret.
    pub(crate) fn unseal_secret(
        &self,
        place: SecretPlace<'_>,
        sealed: &[u8],
    ) -> Result<Secret, StateError> {
        let opened = self.key().open_secret(place, sealed);
        opened.map_err(|_| not_opened(place))
    }

    /// Seals a text for a column of texts; an empty one stays as it is.
    pub(crate) fn seal_text(
        &self,
        place: SecretPlace<'_>,
        plain: &str,
    ) -> Result<String, StateError> {
        if plain.is_empty() {
            return Ok(String::new());
        }
        Ok(text::encode(&self.seal(place, plain.as_bytes())?))
    }

    /// Opens a sealed text.
    pub(crate) fn unseal_text(
        &self,
        place: SecretPlace<'_>,
        sealed: &str,
    ) -> Result<Zeroizing<String>, StateError> {
        if sealed.is_empty() {
            return Ok(Zeroizing::default());
        }
        let bytes = text::decode(sealed).map_err(|_| not_opened(place))?;
        let plain = self.unseal(place, &bytes)?;
        match std::str::from_utf8(&plain) {
            Ok(plain) => Ok(Zeroizing::new(plain.to_owned())),
            Err(_) => Err(not_opened(place)),
        }
    }
}

fn not_opened(place: SecretPlace<'_>) -> StateError {
    StateError::Sealed {
        table: place.table(),
        column: place.column(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;
    use crate::vault::HomeKey;

    #[test]
    fn a_sealed_text_is_not_in_the_file_and_opens_with_the_homes_key_alone() {
        let folder = TestFolder::new();
        let path = folder.path().join("state.db");
        let state = State::open(&path).unwrap();
        let place = SecretPlace::new("rooms", "name", b"one");
        let sealed = state.seal_text(place, "behind the green door").unwrap();
        state.set_value("kept", sealed.as_bytes()).unwrap();
        assert_eq!(
            *state.unseal_text(place, &sealed).unwrap(),
            "behind the green door"
        );
        assert_eq!(state.seal_text(place, "").unwrap(), "");
        assert!(state.unseal_text(place, "").unwrap().is_empty());
        for wrong in ["y", "no base32!", &sealed[1..]] {
            assert!(matches!(
                state.unseal_text(place, wrong),
                Err(StateError::Sealed {
                    table: "rooms",
                    column: "name"
                })
            ));
        }
        drop(state);
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(10).any(|window| window == b"green door"));
        }
        let other = HomeKey::new(Secret::new([1; 32]));
        let state = State::open_with(&path, &other).unwrap();
        assert!(state.unseal_text(place, &sealed).is_err());
    }

    /// A place that is not listed would keep the key of the home in a backup.
    #[test]
    fn every_place_of_a_sealed_value_is_listed() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/state");
        let mut places = 0;
        let files = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        for file in files.filter(|file| file.extension().is_some_and(|end| end == "rs")) {
            let text = std::fs::read_to_string(file).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            for place in text.split("SecretPlace::new(\"").skip(1) {
                let mut names = place.split('"');
                let (table, column) = (names.next().unwrap(), names.nth(1).unwrap());
                let mut listed = SEALED_COLUMNS.iter();
                let is_listed = listed.any(|one| (one.table, one.column) == (table, column));
                assert!(is_listed, "{table}.{column}");
                places += 1;
            }
        }
        assert_eq!(places, SEALED_COLUMNS.len());
    }

    #[test]
    fn every_column_that_is_listed_is_a_blob_or_text_with_its_key() {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let connection = state.lock();
        for one in SEALED_COLUMNS {
            let query = format!(
                "SELECT type FROM pragma_table_info('{}') WHERE name = '{}'",
                one.table, one.column
            );
            let kind: String = connection.query_row(&query, [], |row| row.get(0)).unwrap();
            let expected = match one.form {
                SealedForm::Blob => "BLOB",
                SealedForm::Text => "TEXT",
            };
            assert_eq!(kind, expected, "{}.{}", one.table, one.column);
            let query = format!(
                "SELECT count(*) FROM pragma_table_info('{}') WHERE pk > 0 AND name = '{}'",
                one.table, one.row
            );
            let keys: u32 = connection.query_row(&query, [], |row| row.get(0)).unwrap();
            assert_eq!(keys, 1, "{}.{}", one.table, one.row);
        }
    }
}
