//! Seed grants: those that this agent gave, and those it was given.

use kinlog_feeds::crypto::Hash;
use kinlog_indexer::RoomId;
use kinlog_indexer::grant::SeedGrant;

use crate::state::{State, StateError, fixed};
use crate::vault::SecretPlace;

/// A grant that this agent was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HeldGrant {
    pub(crate) hash: Hash,
    pub(crate) grant: SeedGrant,
    /// The member who gave it said that it holds no more.
    pub(crate) is_ended: bool,
}

impl HeldGrant {
    /// Returns whether feeds are kept and served by it at `now_ms`.
    pub(crate) fn is_live(&self, now_ms: u64) -> bool {
        !self.is_ended && !self.grant.is_expired(now_ms)
    }
}

/// Places of what is sealed: a grant holds a meet key.
fn held(hash: &Hash) -> SecretPlace<'_> {
    SecretPlace::new("grants_held", "bytes", &hash.0)
}

fn given(hash: &Hash) -> SecretPlace<'_> {
    SecretPlace::new("grants_given", "bytes", &hash.0)
}

impl State {
    /// Keeps a grant that this agent was given; one that is kept already stays as it is.
    pub(crate) fn add_held_grant(&self, grant: &SeedGrant) -> Result<(), StateError> {
        let hash = grant.hash();
        let bytes = self.seal(held(&hash), &grant.encode())?;
        self.lock().execute(
            "INSERT OR IGNORE INTO grants_held (number, hash, bytes)
             SELECT coalesce(max(number), 0) + 1, ?1, ?2 FROM grants_held",
            (hash.0, bytes),
        )?;
        Ok(())
    }

    /// Notes that a grant holds no more.
    pub(crate) fn end_held_grant(&self, hash: &Hash) -> Result<(), StateError> {
        self.lock()
            .execute("UPDATE grants_held SET ended = 1 WHERE hash = ?1", [hash.0])?;
        Ok(())
    }

    /// Forgets a grant that this agent was given.
    pub(crate) fn drop_held_grant(&self, hash: &Hash) -> Result<(), StateError> {
        self.lock()
            .execute("DELETE FROM grants_held WHERE hash = ?1", [hash.0])?;
        Ok(())
    }

    /// Returns the grants this agent was given, in the order in which they came.
    pub(crate) fn held_grants(&self) -> Result<Vec<HeldGrant>, StateError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT hash, bytes, ended FROM grants_held ORDER BY number")?;
        let rows = statement.query_map([], |row| {
            Ok((Hash(fixed(row, 0)?), row.get(1)?, row.get(2)?))
        })?;
        rows.map(|row| {
            let (hash, sealed, is_ended): (_, Vec<u8>, _) = row?;
            let grant = opened(&self.unseal(held(&hash), &sealed)?)?;
            Ok(HeldGrant {
                hash,
                grant,
                is_ended,
            })
        })
        .collect()
    }

    /// Keeps a grant that this agent gave for a room.
    pub(crate) fn add_given_grant(
        &self,
        room: &RoomId,
        grant: &SeedGrant,
    ) -> Result<(), StateError> {
        let hash = grant.hash();
        let bytes = self.seal(given(&hash), &grant.encode())?;
        self.lock().execute(
            "INSERT OR IGNORE INTO grants_given (number, hash, room, bytes)
             SELECT coalesce(max(number), 0) + 1, ?1, ?2, ?3 FROM grants_given",
            (hash.0, room.0, bytes),
        )?;
        Ok(())
    }

    /// Forgets a grant that this agent gave.
    pub(crate) fn drop_given_grant(&self, hash: &Hash) -> Result<(), StateError> {
        self.lock()
            .execute("DELETE FROM grants_given WHERE hash = ?1", [hash.0])?;
        Ok(())
    }

    /// Returns the grants that this agent gave, with their rooms, in the order in which it gave them.
    pub(crate) fn given_grants(&self) -> Result<Vec<(RoomId, SeedGrant)>, StateError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT hash, room, bytes FROM grants_given ORDER BY number")?;
        let rows = statement.query_map([], |row| {
            Ok((Hash(fixed(row, 0)?), RoomId(fixed(row, 1)?), row.get(2)?))
        })?;
        rows.map(|row| {
            let (hash, room, sealed): (_, _, Vec<u8>) = row?;
            let grant = opened(&self.unseal(given(&hash), &sealed)?)?;
            Ok((room, grant))
        })
        .collect()
    }
}

fn opened(bytes: &[u8]) -> Result<SeedGrant, StateError> {
    SeedGrant::decode(bytes).map_err(|_| StateError::Damaged { what: "seed grant" })
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::KeyPair;
    use kinlog_feeds::crypto::{AgentId, FeedKey, Secret};
    use kinlog_indexer::grant::{GrantTerms, GrantedRange, RoomTag};

    use super::*;
    use crate::test_folder::TestFolder;

    fn grant(number: u8) -> SeedGrant {
        let terms = GrantTerms {
            room_tag: RoomTag([number; 16]),
            meet_key: Secret::new([number; 32]),
            grantee: AgentId([3; 32]),
            expires_at_ms: 1_000,
            quota_class: 0,
            ranges: vec![GrantedRange::whole(FeedKey([6; 32]))],
        };
        SeedGrant::sign(terms, &KeyPair::from_seed(&[5; 32])).expect("one range")
    }

    #[test]
    fn grants_are_kept_until_they_are_dropped_and_their_meet_keys_are_not_in_the_file() {
        let folder = TestFolder::new();
        let path = folder.path().join("state.db");
        let state = State::open(&path).expect("opened");
        for number in [9, 7, 8, 9] {
            state.add_held_grant(&grant(number)).expect("written");
        }
        state.end_held_grant(&grant(7).hash()).expect("written");
        state.drop_held_grant(&grant(8).hash()).expect("written");
        let room = RoomId([1; 32]);
        state.add_given_grant(&room, &grant(4)).expect("written");
        state.add_given_grant(&room, &grant(2)).expect("written");
        state.drop_given_grant(&grant(4).hash()).expect("written");
        drop(state);
        for file in std::fs::read_dir(folder.path()).expect("read") {
            let bytes = std::fs::read(file.expect("listed").path()).expect("read");
            for key in [[9; 32], [7; 32], [2; 32]] {
                assert!(!bytes.windows(32).any(|window| window == key));
            }
        }
        let state = State::open(&path).expect("reopened");
        let held = state.held_grants().expect("read");
        let told = held.iter().map(|one| (one.grant.clone(), one.is_ended));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [(grant(9), false), (grant(7), true)]
        );
        assert!(held[0].is_live(1_000) && !held[0].is_live(1_001) && !held[1].is_live(0));
        assert_eq!(state.given_grants().expect("read"), [(room, grant(2))]);
    }
}
