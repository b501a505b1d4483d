//! Pins: what is to be kept of whom, and why.

use kinlog_feeds::crypto::{AgentId, FeedKey};
use rusqlite::Connection;

use crate::api::Selection;
use crate::links::FeedPath;
use crate::state::{State, StateError, fixed};
use crate::vault::SecretPlace;

/// What a pin names.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum PinTarget {
    /// A public path of an agent and everything below it; `None` is all of them.
    Path(AgentId, Option<FeedPath>),
    /// One feed.
    Feed(FeedKey),
}

/// A promise to keep blocks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pin {
    pub(crate) target: PinTarget,
    pub(crate) selection: Selection,
    /// Also blocks that are appended later.
    pub(crate) live: bool,
    pub(crate) tier: String,
    pub(crate) reason: String,
    /// How many times links in documents are followed.
    pub(crate) depth: u8,
    /// For this device alone.
    pub(crate) is_local: bool,
}

impl State {
    /// Keeps a pin; one of the same target and selection is replaced.
    pub(crate) fn put_pin(&self, pin: &Pin) -> Result<(), StateError> {
        self.replace_pin(pin, pin)
    }

    /// Keeps the pin `new` in place of the one with target and selection of `old`.
    pub(crate) fn replace_pin(&self, old: &Pin, new: &Pin) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for (place, pin) in self.read_pins(&transaction)? {
            let is_same =
                |other: &Pin| (&pin.target, &pin.selection) == (&other.target, &other.selection);
            if is_same(old) || is_same(new) {
                transaction.execute("DELETE FROM pins WHERE place = ?1", [place])?;
            }
        }
        self.insert_pin(&transaction, new)?;
        transaction.commit()?;
        Ok(())
    }

    /// Forgets the pin with this target and selection.
    pub(crate) fn remove_pin(&self, pin: &Pin) -> Result<(), StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for (place, other) in self.read_pins(&transaction)? {
            if (&pin.target, &pin.selection) == (&other.target, &other.selection) {
                transaction.execute("DELETE FROM pins WHERE place = ?1", [place])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Forgets every pin of a target, and returns those that were.
    pub(crate) fn remove_pins(&self, target: &PinTarget) -> Result<Vec<Pin>, StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut removed = Vec::new();
        for (place, pin) in self.read_pins(&transaction)? {
            if pin.target == *target {
                transaction.execute("DELETE FROM pins WHERE place = ?1", [place])?;
                removed.push(pin);
            }
        }
        transaction.commit()?;
        Ok(removed)
    }

    /// Returns all pins, oldest first.
    pub(crate) fn pins(&self) -> Result<Vec<Pin>, StateError> {
        let pins = self.read_pins(&self.lock())?;
        Ok(pins.into_iter().map(|(_, pin)| pin).collect())
    }

    fn insert_pin(&self, connection: &Connection, pin: &Pin) -> Result<(), StateError> {
        let mut place = [0; 16];
        getrandom::fill(&mut place)?;
        let (agent, path, key) = match &pin.target {
            PinTarget::Path(agent, path) => (Some(agent.as_bytes()), path.as_ref(), None),
            PinTarget::Feed(key) => (None, None, Some(key.as_bytes())),
        };
        // A pin may be of a private path.
        let (clear, sealed) = self.path_columns(pin_path(&place), path, true)?;
        connection.execute(
            "INSERT INTO pins (place, number, agent, path, feed_key, selection, live, tier, reason,
                 depth, private_path, is_local)
             VALUES (?1, (SELECT 1 + coalesce(max(number), 0) FROM pins), ?2, ?3, ?4, ?5, ?6, ?7,
                 ?8, ?9, ?10, ?11)",
            (
                place,
                agent,
                clear,
                key,
                pin.selection.to_string(),
                pin.live,
                &pin.tier,
                &pin.reason,
                pin.depth,
                sealed,
                pin.is_local,
            ),
        )?;
        Ok(())
    }

    /// Reads all pins with their places, oldest first.
    fn read_pins(&self, connection: &Connection) -> Result<Vec<([u8; 16], Pin)>, StateError> {
        let mut statement = connection.prepare(
            "SELECT place, agent, path, private_path, feed_key, selection, live, tier, reason, depth,
                 is_local
             FROM pins ORDER BY number",
        )?;
        let mut rows = statement.query([])?;
        let mut pins = Vec::new();
        while let Some(row) = rows.next()? {
            let place = fixed(row, 0)?;
            let path = self.path_of(pin_path(&place), (row.get(2)?, row.get(3)?))?;
            let target = match (optional(row, 1)?, optional(row, 4)?) {
                (Some(agent), None) => PinTarget::Path(AgentId(agent), path),
                (None, Some(key)) => PinTarget::Feed(FeedKey(key)),
                _ => {
                    return Err(StateError::Damaged {
                        what: "target of a pin",
                    });
                }
            };
            let selection: String = row.get(5)?;
            let selection = selection.parse().map_err(|_| StateError::Damaged {
                what: "range of a pin",
            })?;
            let pin = Pin {
                target,
                selection,
                live: row.get(6)?,
                tier: row.get(7)?,
                reason: row.get(8)?,
                depth: row.get(9)?,
                is_local: row.get(10)?,
            };
            pins.push((place, pin));
        }
        Ok(pins)
    }
}

fn pin_path(place: &[u8; 16]) -> SecretPlace<'_> {
    SecretPlace::new("pins", "private_path", place)
}

fn optional(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<[u8; 32]>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => fixed(row, column).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn pins_round_trip_and_are_replaced_and_removed() {
        let folder = TestFolder::new();
        let state = State::open(&folder.path().join("state.db")).expect("opened");
        let path = PinTarget::Path(AgentId([1; 32]), Some("/paths/a".parse().expect("valid")));
        let whole = PinTarget::Path(AgentId([1; 32]), None);
        let feed = PinTarget::Feed(FeedKey([2; 32]));
        let pin = |target: &PinTarget, selection, reason: &str| Pin {
            target: target.clone(),
            selection,
            live: true,
            tier: "gift".into(),
            reason: reason.into(),
            depth: 2,
            is_local: reason == "seed",
        };
        let all = [
            pin(&path, Selection::Last(5), "follow"),
            pin(&path, Selection::Range(3..9), "follow"),
            pin(&whole, Selection::All, "seed"),
            pin(&feed, Selection::All, "follow"),
        ];
        for pin in &all {
            state.put_pin(pin).expect("written");
        }
        assert_eq!(state.pins().expect("read"), all);
        state
            .put_pin(&pin(&feed, Selection::All, "seed"))
            .expect("written");
        assert_eq!(state.pins().expect("read")[3].reason, "seed");
        assert_eq!(state.remove_pins(&path).expect("removed"), all[..2]);
        assert_eq!(state.pins().expect("read").len(), 2);
        state.remove_pin(&all[2]).expect("removed");
        assert_eq!(state.pins().expect("read").len(), 1);
    }
}
