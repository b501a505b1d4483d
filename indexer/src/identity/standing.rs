//! What a verified set says about its agent.

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, PublicKey};

use crate::identity::acts::{Acts, Known};
use crate::identity::bits::Bits;
use crate::identity::decide::Outcome;
use crate::identity::{Cut, IdentityError, Powers, Said, Verdict, VerifiedSet};

/// A device of an agent, or one that was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// Signing key.
    pub key: DeviceKey,
    /// X25519 public key.
    pub x25519: [u8; 32],
    /// Public directory; zeros for a key that only adds devices.
    pub directory: FeedKey,
    /// Private directory; zeros likewise.
    pub private_directory: FeedKey,
    /// Name.
    pub name: String,
    /// What it may do.
    pub powers: Powers,
    /// The root or the device that added it.
    pub added_by: PublicKey,
    /// The statement that did.
    pub added_in: Hash,
}

impl Device {
    /// Returns whether it has both directories and may write, which a sign-in key may not.
    pub fn writes(&self) -> bool {
        let none = FeedKey([0; 32]);
        self.powers.contains(Powers::WRITE)
            && self.directory != none
            && self.private_directory != none
    }
}

/// One statement that revokes a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// The root or the device that signed it.
    pub by: PublicKey,
    /// Its hash.
    pub statement: Hash,
}

/// A device that was revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revoked {
    /// As it was.
    pub device: Device,
    /// What is accepted of its public directory: the smallest cut of all revocations; `None`:
    /// nothing beyond what others hold vouched.
    pub public: Option<Cut>,
    /// What is accepted of its private directory, likewise.
    pub private: Option<Cut>,
    /// Those that count, at least one, in the order of their hashes.
    pub revocations: Vec<Revocation>,
    /// Depth of the earliest of them: how many statements led to it.
    pub depth: u32,
}

/// What a verified set says about its agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The agent.
    pub agent: AgentId,
    /// Hash of the set.
    pub hash: Hash,
    /// The roots after each other, the one that speaks now at the end.
    pub roots: Vec<PublicKey>,
    /// Devices, in the order of their keys; none when all were revoked.
    pub devices: Vec<Device>,
    /// Devices that were revoked, in the order of their keys.
    pub revoked: Vec<Revoked>,
    /// What became of each statement, in the order of their hashes.
    pub verdicts: Vec<(Hash, Verdict)>,
}

impl Identity {
    /// Returns the device with this key.
    pub fn device(&self, key: &DeviceKey) -> Option<&Device> {
        self.devices.iter().find(|device| device.key == *key)
    }

    /// Returns the revoked device with this key.
    pub fn revoked(&self, key: &DeviceKey) -> Option<&Revoked> {
        self.revoked.iter().find(|one| one.device.key == *key)
    }

    /// Returns the root that speaks for the agent now.
    pub fn root(&self) -> PublicKey {
        *self.roots.last().expect("the agent's id is the first root")
    }

    /// Returns what became of a statement.
    pub fn verdict(&self, statement: &Hash) -> Option<Verdict> {
        let at = self
            .verdicts
            .binary_search_by_key(statement, |(hash, _)| *hash);
        at.ok().map(|at| self.verdicts[at].1)
    }

    /// Returns what to call a signer: `the root`, or the name of a device.
    pub fn signer_name(&self, signer: &PublicKey) -> String {
        if self.roots.contains(signer) {
            return "the phrase".to_owned();
        }
        let key = DeviceKey(signer.0);
        let revoked = self.revoked(&key).map(|revoked| &revoked.device);
        match self.device(&key).or(revoked) {
            Some(device) => device.name.clone(),
            None => signer.to_string(),
        }
    }
}

impl VerifiedSet {
    /// Evaluates the set: the cheap half, no signature is looked at.
    ///
    /// # Errors
    /// `Empty` when no statement of the set counts.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        let acts = self.acts();
        let outcome = acts.decide(&acts.authorised);
        if outcome.counts(&acts.telling()).is_empty() {
            return Err(IdentityError::Empty { agent: self.agent });
        }
        let (mut devices, mut revoked) = (Vec::new(), Vec::new());
        for (key, known) in acts.devices() {
            let Some(device) = device(&acts, &outcome, key, known) else {
                continue;
            };
            let by = known.revoked_by.and(&outcome.counting);
            if by.is_empty() {
                devices.push(device);
            } else {
                revoked.push(taken_back(&acts, device, &by));
            }
        }
        devices.sort_unstable_by_key(|device| device.key);
        revoked.sort_unstable_by_key(|one| one.device.key);
        let verdicts = (0..acts.graph.statements.len()).map(|number| {
            let verdict = match acts.judged(number) {
                None => Verdict::Waits,
                Some(Err(refusal)) => Verdict::NotAuthorised(refusal),
                Some(Ok(_)) => match outcome.voided_by(number) {
                    Some(revocation) => Verdict::Voided(acts.graph.hash(revocation)),
                    None if acts.said(number).is_beside() => Verdict::SaysNothing,
                    None => Verdict::Counts,
                },
            };
            (acts.graph.hash(number), verdict)
        });
        Ok(Identity {
            agent: self.agent,
            hash: self.set.hash(),
            roots: acts.roots(&outcome),
            devices,
            revoked,
            verdicts: verdicts.collect(),
        })
    }
}

/// Returns a device as the additions that count make it: its keys from the earliest, its name from the
/// latest, the powers of all.
fn device(acts: &Acts<'_>, outcome: &Outcome, key: DeviceKey, known: &Known) -> Option<Device> {
    let additions = outcome.counts(&known.made_by);
    let first = acts.earliest(&additions)?;
    let named = additions.or(&outcome.counts(&known.renamed_by));
    let named = named.iter().max_by_key(|number| acts.age(*number))?;
    let (hash, statement) = acts.graph.statements[first];
    let card = &acts.added(first)?.card;
    Some(Device {
        key,
        x25519: card.x25519,
        directory: card.directory,
        private_directory: card.private_directory,
        name: acts.added(named)?.name.to_string(),
        powers: acts.powers(&additions),
        added_by: *statement.signer(),
        added_in: hash,
    })
}

fn taken_back(acts: &Acts<'_>, device: Device, by: &Bits) -> Revoked {
    let said = || {
        by.iter().filter_map(|number| match acts.said(number) {
            Said::DeviceRevoked(revoked) => Some(revoked),
            _ => None,
        })
    };
    Revoked {
        device,
        public: said().map(|revoked| revoked.public).min().flatten(),
        private: said().map(|revoked| revoked.private).min().flatten(),
        depth: by
            .iter()
            .map(|number| acts.age(number).0)
            .min()
            .unwrap_or(0),
        revocations: by
            .iter()
            .map(|number| {
                let (statement, said) = acts.graph.statements[number];
                let by = *said.signer();
                Revocation { by, statement }
            })
            .collect(),
    }
}
