//! Pins: what is to be kept of whom, and why.

use kinlog_feeds::crypto::{AgentId, FeedKey};

use crate::api::Selection;
use crate::links::FeedPath;
use crate::state::{State, StateError, fixed};

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
        for pin in [old, new] {
            let (agent, path, key) = columns(&pin.target);
            transaction.execute(
                "DELETE FROM pins
                 WHERE agent IS ?1 AND path IS ?2 AND feed_key IS ?3 AND selection = ?4",
                (agent, path, key, pin.selection.to_string()),
            )?;
        }
        let (agent, path, key) = columns(&new.target);
        transaction.execute(
            "INSERT INTO pins (agent, path, feed_key, selection, live, tier, reason, depth)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (
                agent,
                path,
                key,
                new.selection.to_string(),
                new.live,
                &new.tier,
                &new.reason,
                new.depth,
            ),
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// Forgets every pin of a target, and returns those that were.
    pub(crate) fn remove_pins(&self, target: &PinTarget) -> Result<Vec<Pin>, StateError> {
        let removed: Vec<Pin> = self
            .pins()?
            .into_iter()
            .filter(|pin| pin.target == *target)
            .collect();
        let (agent, path, key) = columns(target);
        self.lock().execute(
            "DELETE FROM pins WHERE agent IS ?1 AND path IS ?2 AND feed_key IS ?3",
            (agent, path, key),
        )?;
        Ok(removed)
    }

    /// Returns all pins, oldest first.
    pub(crate) fn pins(&self) -> Result<Vec<Pin>, StateError> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT agent, path, feed_key, selection, live, tier, reason, depth FROM pins
             ORDER BY id",
        )?;
        let rows = statement.query_map([], |row| {
            let agent: Option<[u8; 32]> = optional(row, 0)?;
            let path: Option<String> = row.get(1)?;
            let key: Option<[u8; 32]> = optional(row, 2)?;
            let selection: String = row.get(3)?;
            Ok((
                agent,
                path,
                key,
                selection,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(7)?,
            ))
        })?;
        rows.map(|row| {
            let (agent, path, key, selection, live, tier, reason, depth) = row?;
            let path =
                path.map(|text| text.parse())
                    .transpose()
                    .map_err(|_| StateError::Damaged {
                        what: "path of a pin",
                    })?;
            let target = match (agent, key) {
                (Some(agent), None) => PinTarget::Path(AgentId(agent), path),
                (None, Some(key)) => PinTarget::Feed(FeedKey(key)),
                _ => {
                    return Err(StateError::Damaged {
                        what: "target of a pin",
                    });
                }
            };
            let selection = selection.parse().map_err(|_| StateError::Damaged {
                what: "range of a pin",
            })?;
            Ok(Pin {
                target,
                selection,
                live,
                tier,
                reason,
                depth,
            })
        })
        .collect()
    }
}

type Columns<'a> = (Option<&'a [u8; 32]>, Option<&'a str>, Option<&'a [u8; 32]>);

fn columns(target: &PinTarget) -> Columns<'_> {
    match target {
        PinTarget::Path(agent, path) => (
            Some(agent.as_bytes()),
            path.as_ref().map(FeedPath::as_str),
            None,
        ),
        PinTarget::Feed(key) => (None, None, Some(key.as_bytes())),
    }
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
    }
}
