//! What a new device has learned on its way in, without IO: statements, records, which of them to open.

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, Hash};
use kinlog_indexer::Text;
use kinlog_indexer::identity::{DeviceAdded, DeviceCard, Powers, Said, Statement, VerifiedSet};
use kinlog_indexer::limits::NAME_BYTES_MAX;

use crate::api::Error;
use crate::failure::chain;
use crate::knowledge::KnownAgent;
use crate::limits::SIGN_IN_RECORDS_LOOKED_AT_MAX;
use crate::sign_in::{Capsule, SignInRecord};

/// The search for a capsule that can be opened.
#[derive(Debug)]
pub(super) struct Search {
    agent: AgentId,
    meet_key: [u8; 32],
    known: Option<KnownAgent>,
    /// Records that came, the bytes of each once.
    records: Vec<SignInRecord>,
    /// How many of them were tried.
    tried: Vec<SignInRecord>,
}

impl Search {
    pub(super) fn new(agent: AgentId, meet_key: [u8; 32]) -> Self {
        Search {
            agent,
            meet_key,
            known: None,
            records: Vec::new(),
            tried: Vec::new(),
        }
    }

    /// Takes an identity set: one peer may have an older one than another.
    ///
    /// # Errors
    /// `Verification` when a signature in it does not hold.
    pub(super) fn learn(&mut self, set: Bytes) -> Result<(), Error> {
        let learned = match &mut self.known {
            Some(known) => known.merge(&set).map(drop),
            None => KnownAgent::verify(&self.agent, set).map(|known| self.known = Some(known)),
        };
        learned.map_err(|error| {
            Error::verification(format!("identity set of {}: {}", self.agent, chain(&error)))
        })
    }

    /// Takes a record; what is none for this code, or beyond the limit, is left out.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let Ok(record) = SignInRecord::decode(bytes) else {
            return;
        };
        let is_ours = record.agent == self.agent && record.meet_key == self.meet_key;
        let is_new = !self.records.contains(&record);
        if is_ours && is_new && self.records.len() < SIGN_IN_RECORDS_LOOKED_AT_MAX {
            self.records.push(record);
        }
    }

    /// Returns the newest record that stands and was not tried yet.
    pub(super) fn next(&mut self) -> Option<SignInRecord> {
        let identity = &self.known.as_ref()?.identity;
        let standing = self
            .records
            .iter()
            .filter(|record| !self.tried.contains(record) && record.verify(identity).is_ok());
        let best = standing.reduce(|best, other| match other.replaces(best) {
            Ok(()) => other,
            Err(_) => best,
        })?;
        let best = best.clone();
        self.tried.push(best.clone());
        Some(best)
    }

    /// Returns what is known of the agent, once somebody said it.
    pub(super) fn known(&self) -> Option<&KnownAgent> {
        self.known.as_ref()
    }

    /// Returns the hash of the statements that are held.
    pub(super) fn hash(&self) -> Option<Hash> {
        Some(self.known.as_ref()?.identity.hash)
    }
}

/// Returns the statements with one more, by which the key in a capsule adds a device.
///
/// # Errors
/// `Permission` when that key adds nobody: it was revoked.
pub(super) fn add_device(
    set: &VerifiedSet,
    capsule: &Capsule,
    card: DeviceCard,
    name: Text<NAME_BYTES_MAX>,
) -> Result<VerifiedSet, Error> {
    let device = card.device;
    let signer = capsule.key_pair();
    let said = Said::DeviceAdded(DeviceAdded {
        card,
        powers: Powers::WRITE.with(Powers::ADD),
        name,
    });
    let names = set.names(&signer.public_key(), &[]);
    let statement = Statement::sign(*set.agent(), signer, names, said);
    let refused = |error: kinlog_indexer::identity::IdentityError| {
        Error::general(format!(
            "identity set of {}: {}",
            set.agent(),
            chain(&error)
        ))
    };
    let with = set.with(statement).map_err(refused)?;
    let identity = with.identity().map_err(refused)?;
    if identity.device(&device).is_none() {
        return Err(
            Error::permission("this sign-in was revoked: it adds no device")
                .hint("make another on a device of this agent: `kinlog sign-in create`"),
        );
    }
    Ok(with)
}

#[cfg(test)]
mod tests {
    use kinlog_feeds::crypto::{DeviceKey, KeyPair, Secret};
    use kinlog_indexer::identity::{DeviceRevoked, IdentitySet};

    use super::*;

    fn pair(number: u8) -> KeyPair {
        KeyPair::from_seed(&[number; 32])
    }

    fn agent() -> AgentId {
        AgentId(pair(1).public_key().0)
    }

    fn card(number: u8) -> DeviceCard {
        let [public, private] = [50, 100].map(|more| pair(number + more));
        DeviceCard::sign(&agent(), &pair(number), [0; 32], &public, &private)
    }

    fn capsule(number: u8) -> Capsule {
        Capsule::new(Secret::new([number; 32]), "Ada".try_into().unwrap())
    }

    fn with(set: &VerifiedSet, said: Said) -> VerifiedSet {
        let names = set.names(&pair(2).public_key(), &[]);
        set.with(Statement::sign(agent(), &pair(2), names, said))
            .unwrap()
    }

    /// The agent with device 2 and a capsule.
    fn set(capsule: &Capsule) -> VerifiedSet {
        let begun = IdentitySet::begin(&pair(1), card(2), Powers::ALL, "one".try_into().unwrap());
        let said = Said::DeviceAdded(DeviceAdded {
            card: capsule.card(&agent()),
            powers: Powers::ADD,
            name: "sign-in".try_into().unwrap(),
        });
        with(&begun.check(&agent()).unwrap(), said)
    }

    fn revoke(set: &VerifiedSet, device: DeviceKey) -> VerifiedSet {
        let (public, private) = (None, None);
        with(
            set,
            Said::DeviceRevoked(DeviceRevoked {
                device,
                public,
                private,
            }),
        )
    }

    fn record(counter: u64, capsule: &Capsule) -> SignInRecord {
        let sealed = [u8::try_from(counter).unwrap(); Capsule::SEALED_BYTES];
        SignInRecord::sign(
            agent(),
            counter,
            [7; 32],
            capsule.device(),
            sealed,
            &pair(2),
        )
    }

    #[test]
    fn the_key_of_a_capsule_adds_a_device_that_writes_and_adds() {
        let capsule = capsule(5);
        let set = add_device(
            &set(&capsule),
            &capsule,
            card(3),
            "phone".try_into().unwrap(),
        );
        let identity = set.unwrap().identity().unwrap();
        let device = identity.device(&card(3).device).unwrap();
        assert!(device.writes());
        assert_eq!(device.powers.words(), ["write", "add"]);
        assert_eq!(device.added_by, capsule.key_pair().public_key());
    }

    #[test]
    fn the_revoked_key_of_a_capsule_adds_nobody() {
        let capsule = capsule(5);
        let before = set(&capsule);
        let revoked = revoke(&before, capsule.device());
        let name = || "phone".try_into().unwrap();
        let refused = add_device(&revoked, &capsule, card(3), name()).unwrap_err();
        assert_eq!(refused.exit_code(), 6);
        // One who was not told yet signs concurrently: nobody who was counts it.
        let late = add_device(&before, &capsule, card(3), name()).unwrap();
        let both = late.union(&revoked).identity().unwrap();
        assert!(both.device(&card(3).device).is_none());
    }

    #[test]
    fn the_newest_record_that_stands_is_tried_first_and_none_twice() {
        let capsule = capsule(5);
        let mut search = Search::new(agent(), [7; 32]);
        search.take(&record(1, &capsule).encode());
        search.take(&record(2, &capsule).encode());
        search.take(&record(3, &self::capsule(6)).encode());
        search.take(&record(1, &capsule).encode());
        assert!(
            search.next().is_none(),
            "nobody said yet whose devices they are"
        );
        search.learn(set(&capsule).set().encode()).unwrap();
        assert_eq!(search.next().map(|record| record.counter), Some(2));
        assert_eq!(search.next().map(|record| record.counter), Some(1));
        assert!(search.next().is_none());
        // Another peer knows that it was revoked, and of the newer one.
        let mut search = Search::new(agent(), [7; 32]);
        search.take(&record(2, &capsule).encode());
        search.learn(set(&capsule).set().encode()).unwrap();
        let revoked = revoke(&set(&capsule), capsule.device());
        search.learn(revoked.set().encode()).unwrap();
        assert!(search.next().is_none());
    }

    #[test]
    fn records_for_another_code_and_beyond_the_limit_are_left_out() {
        let capsule = capsule(5);
        let mut search = Search::new(agent(), [8; 32]);
        search.take(&record(1, &capsule).encode());
        assert!(search.records.is_empty());
        let mut search = Search::new(agent(), [7; 32]);
        for counter in 0..=SIGN_IN_RECORDS_LOOKED_AT_MAX as u64 {
            search.take(&record(counter, &capsule).encode());
        }
        assert_eq!(search.records.len(), SIGN_IN_RECORDS_LOOKED_AT_MAX);
        let stranger = pair(9);
        let card = DeviceCard::sign(&AgentId([4; 32]), &stranger, [0; 32], &pair(7), &pair(8));
        let set = IdentitySet::begin(&stranger, card, Powers::ALL, "x".try_into().unwrap());
        assert!(search.learn(set.encode()).is_err());
        assert!(search.known().is_none());
    }
}
