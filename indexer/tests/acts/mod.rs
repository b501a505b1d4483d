//! Rooms made of acts alone, without signatures: agents, devices and feeds are small numbers.

#![allow(dead_code, reason = "each test file uses its part")]

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, PublicKey, blake2b_256};
use kinlog_indexer::authority::{
    ActPlace, Authority, Devices, HeldAct, Refusal, RoomActs, Verdict, VoidReason,
};
use kinlog_indexer::entry::{
    Act, ActHash, Admit, Cut, Deed, Deleted, DeviceJoin, DeviceRevoke, Envelope, Epoch, EpochCopy,
    FeedClaim, Genesis, Grant, GrantRevoke, History, Invite, InviteRevoke, InviteUse, Leave, Links,
    Membership, Parents, Ref, Remove, Role, RoleChange, Tombstone, tag,
};
use kinlog_indexer::seal::{EpochCommitment, EpochId};
use kinlog_indexer::{BODY_FORMAT, Clock, Text};

/// One device of one agent, and how often it came anew: names its feeds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Who(pub(crate) u8, pub(crate) u8, pub(crate) u8);

impl Who {
    pub(crate) fn agent(self) -> AgentId {
        AgentId([self.0 + 1; 32])
    }

    pub(crate) fn device(self) -> DeviceKey {
        DeviceKey([self.0 * 16 + self.1 + 1; 32])
    }

    pub(crate) fn feed(self) -> FeedKey {
        FeedKey(blake2b_256(&[b"entries", &[self.0, self.1, self.2]]))
    }

    pub(crate) fn blobs(self) -> FeedKey {
        FeedKey(blake2b_256(&[b"blobs", &[self.0, self.1, self.2]]))
    }

    /// The membership with an identity set that says what `said` does.
    pub(crate) fn membership(self, said: &[(u8, Said)]) -> Membership {
        let claim = FeedClaim {
            public_key: PublicKey([0; 32]),
            signature: [0; 64],
        };
        let mut all = vec![(self.1, Said::Added)];
        all.extend(said);
        Membership {
            agent: self.agent(),
            identity_set: set(self.0, &all),
            device: self.device(),
            entries_feed: self.feed(),
            entries_claim: claim,
            blobs_feed: self.blobs(),
            blobs_claim: claim,
            claim: [0; 64],
        }
    }
}

/// What an identity set of these tests says of a device.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Said {
    Added = 1,
    Revoked = 2,
    NeverAdded = 3,
    NotRevoked = 4,
}

/// An identity set of these tests: pairs of device and what is said.
pub(crate) fn set(agent: u8, said: &[(u8, Said)]) -> Bytes {
    let mut said: Vec<[u8; 2]> = said
        .iter()
        .map(|(device, said)| [agent * 16 + device + 1, *said as u8])
        .collect();
    said.sort_unstable();
    said.dedup();
    said.concat().into()
}

/// Evaluates sets of these tests.
pub(crate) fn devices_of(_: &AgentId, sets: &[&Bytes]) -> Devices {
    let said: Vec<(u8, u8)> = sets
        .iter()
        .flat_map(|set| set.chunks(2).map(|pair| (pair[0], pair[1])))
        .collect();
    let says = |device: u8, what: Said| said.contains(&(device, what as u8));
    let mut devices = Devices::default();
    for device in 0..=u8::MAX {
        if !says(device, Said::Added) || says(device, Said::NeverAdded) {
            continue;
        }
        let key = DeviceKey([device; 32]);
        if says(device, Said::Revoked) && !says(device, Said::NotRevoked) {
            devices.revoked.push(key);
        } else {
            devices.present.push(key);
        }
    }
    devices
}

pub(crate) fn genesis(owner: Who) -> Deed {
    Deed::Genesis(Genesis {
        name: Text::new("kitchen").unwrap(),
        history: History::Full,
        random: [9; 32],
        commitment: EpochCommitment([0; 32]),
        owner: owner.membership(&[]),
    })
}

pub(crate) fn admit(who: Who, role: Role) -> Deed {
    Deed::Admit(Admit {
        member: who.membership(&[]),
        role,
        invite: None,
        epochs: Vec::new(),
    })
}

/// An admission by an invite's key; the script finds the act that made it.
pub(crate) fn admit_by(who: Who, role: Role, key: u8) -> Deed {
    Deed::Admit(Admit {
        member: who.membership(&[]),
        role,
        invite: Some(InviteUse {
            public_key: PublicKey([key; 32]),
            act: ActHash::default(),
            signature: [0; 64],
        }),
        epochs: Vec::new(),
    })
}

pub(crate) fn device_join(who: Who) -> Deed {
    Deed::DeviceJoin(DeviceJoin {
        device: who.membership(&[]),
        epochs: Vec::new(),
    })
}

pub(crate) fn invite(key: u8, role: Role, uses: Option<u32>, expires_at_ms: Option<u64>) -> Deed {
    Deed::Invite(Invite {
        public_key: PublicKey([key; 32]),
        role,
        expires_at_ms,
        uses,
    })
}

pub(crate) fn invite_revoke(key: u8) -> Deed {
    Deed::InviteRevoke(InviteRevoke {
        public_key: PublicKey([key; 32]),
        act: ActHash::default(),
    })
}

pub(crate) fn role(agent: u8, role: Role) -> Deed {
    let agent = Who(agent, 0, 0).agent();
    Deed::Role(RoleChange { agent, role })
}

pub(crate) fn remove(agent: u8, cuts: Vec<Cut>) -> Deed {
    Deed::Remove(Remove {
        agent: Who(agent, 0, 0).agent(),
        cuts,
        reason: Text::new("enough").unwrap(),
    })
}

pub(crate) fn leave(cuts: Vec<Cut>) -> Deed {
    Deed::Leave(Leave { cuts })
}

pub(crate) fn device_revoke(who: Who, said: &[(u8, Said)], cuts: Vec<Cut>) -> Deed {
    let mut all = vec![(who.1, Said::Added), (who.1, Said::Revoked)];
    all.extend(said);
    Deed::DeviceRevoke(DeviceRevoke {
        agent: who.agent(),
        device: who.device(),
        identity_set: set(who.0, &all),
        cuts,
    })
}

pub(crate) fn epoch(number: u8, parents: &[u8], devices: &[Who]) -> Deed {
    Deed::Epoch(Epoch {
        id: epoch_id(number),
        act_id: EpochId([number + 100; 16]),
        commitment: EpochCommitment([number; 32]),
        parents: parents.iter().map(|parent| epoch_id(*parent)).collect(),
        copies: devices
            .iter()
            .map(|who| EpochCopy {
                device: who.device(),
                sealed: [0; 81],
            })
            .collect(),
    })
}

pub(crate) fn epoch_id(number: u8) -> EpochId {
    EpochId([number; 16])
}

pub(crate) fn grant(number: u8) -> Deed {
    Deed::Grant(Grant {
        seeder: AgentId([200; 32]),
        expires_at_ms: 1,
        quota_class: 1,
        hash: Hash([number; 32]),
    })
}

pub(crate) fn grant_revoke(number: u8) -> Deed {
    let hash = Hash([number; 32]);
    Deed::GrantRevoke(GrantRevoke { hash })
}

/// The end of a message by somebody.
pub(crate) fn delete(number: u64) -> Deed {
    let head = Envelope {
        flags: 0,
        links: Links::default(),
        depth: 1,
        clock: Clock { ms: 1, counter: 0 },
        tag: tag::MESSAGE,
        format: u64::from(BODY_FORMAT),
        body: Bytes::new(),
    };
    let entry = Ref {
        feed: FeedKey([201; 32]),
        index: number,
    };
    let one = Deleted::new(entry, head.encode().unwrap()).unwrap();
    Deed::Delete(Tombstone::new(vec![one], Text::default()).unwrap())
}

pub(crate) fn cut(feed: FeedKey, length: u64) -> Cut {
    let tree_hash = Hash([length as u8; 32]);
    Cut {
        feed,
        length,
        tree_hash,
    }
}

/// An act of these tests.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) hash: ActHash,
    pub(crate) by: Who,
    pub(crate) index: u64,
    pub(crate) ms: u64,
    pub(crate) sealed_by: Option<EpochId>,
    /// The numbers of the acts that it reaches, a bit each.
    pub(crate) past: Vec<u64>,
    pub(crate) act: Act,
}

impl Done {
    pub(crate) fn held(&self) -> HeldAct {
        let place = ActPlace {
            feed: self.by.feed(),
            index: self.index,
            dated_ms: self.ms,
            sealed_by: self.sealed_by,
        };
        HeldAct::verified(self.hash, place, &self.act, self.verifies())
    }

    /// Whether what it carries holds: in these tests only what a revocation says by itself.
    pub(crate) fn verifies(&self) -> bool {
        let Deed::DeviceRevoke(revoke) = &self.act.deed else {
            return true;
        };
        let devices = devices_of(&revoke.agent, &[&revoke.identity_set]);
        devices.revoked.contains(&revoke.device)
    }
}

/// A room whose acts are written one by one, each after those that are named.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) acts: Vec<Done>,
    pub(crate) salt: u64,
}

impl Script {
    /// A room of agent 0.
    pub(crate) fn new() -> Self {
        let mut script = Script::default();
        script.after(&[], Who(0, 0, 0), genesis(Who(0, 0, 0)));
        script
    }

    /// Does something after the acts with these numbers and all that they reach; returns its
    /// number.
    pub(crate) fn after(&mut self, parents: &[usize], by: Who, deed: Deed) -> usize {
        self.at(parents, by, 1_000, deed)
    }

    /// Does something at a date.
    pub(crate) fn at(&mut self, parents: &[usize], by: Who, ms: u64, deed: Deed) -> usize {
        let past = self.past(parents);
        let seq = past.iter().filter(|at| self.acts[**at].by == by).count() as u64;
        self.with_seq(parents, by, ms, seq, deed)
    }

    /// Returns what acts with these numbers reach, and they themselves.
    pub(crate) fn past(&self, parents: &[usize]) -> Vec<usize> {
        let past = self.past_bits(parents);
        let all = 0..self.acts.len();
        all.filter(|at| past[at / 64] & (1 << (at % 64)) != 0)
            .collect()
    }

    fn past_bits(&self, parents: &[usize]) -> Vec<u64> {
        let mut past = vec![0; self.acts.len() / 64 + 1];
        for at in parents {
            past[at / 64] |= 1 << (at % 64);
            for (word, more) in past.iter_mut().zip(&self.acts[*at].past) {
                *word |= more;
            }
        }
        past
    }

    /// Does something at a date, and says how many acts its feed has before it.
    pub(crate) fn with_seq(
        &mut self,
        parents: &[usize],
        by: Who,
        ms: u64,
        seq: u64,
        mut deed: Deed,
    ) -> usize {
        let number = self.acts.len();
        let past = self.past(parents);
        let invite = |key: &PublicKey| {
            let mut made = past.iter().map(|at| &self.acts[*at]);
            let made = made.find(
                |done| matches!(&done.act.deed, Deed::Invite(invite) if invite.public_key == *key),
            );
            made.map_or_else(ActHash::default, |done| done.hash)
        };
        match &mut deed {
            Deed::Admit(Admit {
                invite: Some(used), ..
            }) if used.act == ActHash::default() => used.act = invite(&used.public_key),
            Deed::InviteRevoke(revoke) if revoke.act == ActHash::default() => {
                revoke.act = invite(&revoke.public_key);
            }
            _ => {}
        }
        let parents_of = parents;
        let parents = parents.iter().map(|parent| self.acts[*parent].hash);
        let parents = Parents::new(parents, None);
        let salt = self.salt.to_le_bytes();
        let hash = ActHash(blake2b_256(&[&salt, &(number as u64).to_le_bytes()]));
        let index = self.acts.iter().filter(|done| done.by == by).count() as u64;
        self.acts.push(Done {
            hash,
            by,
            index,
            ms,
            sealed_by: None,
            past: self.past_bits(parents_of),
            act: Act { parents, seq, deed },
        });
        number
    }

    pub(crate) fn room(&self) -> RoomActs {
        let mut room = RoomActs::new(devices_of, 8192);
        for done in &self.acts {
            assert!(room.add(done.held()));
        }
        room
    }

    pub(crate) fn authority(&self) -> Authority {
        self.room().authority()
    }

    pub(crate) fn verdict(&self, number: usize) -> Verdict {
        self.authority().acts[&self.acts[number].hash]
            .verdict
            .clone()
    }

    pub(crate) fn role(&self, agent: u8) -> Option<Role> {
        self.authority().role(&Who(agent, 0, 0).agent())
    }
}

/// Everybody acts, and hears of the others after a while: never one head, seldom many.
pub(crate) fn late_history(seed: u64, acts: usize) -> Script {
    let mut random = crate::world::Random::new(seed);
    let mut script = Script::new();
    script.salt = seed;
    let mut heads = 0;
    for agent in 1..8u8 {
        let role = if agent < 4 { Role::Admin } else { Role::Member };
        heads = script.after(&[heads], Who(0, 0, 0), admit(Who(agent, 0, 0), role));
    }
    // What each has done last, and seen of each other.
    let mut last = [heads; 8];
    let mut room = script.room();
    while script.acts.len() < acts {
        let who = random.below(8);
        let mut parents = vec![last[who]];
        for _ in 0..random.below(4) {
            // Others are heard of up to some acts late.
            let late = script.acts.len() - 1 - random.below(12).min(script.acts.len() - 8);
            parents.push(late);
        }
        let target = 1 + random.below(3) as u8;
        let number = script.acts.len() as u32;
        let deed = match random.below(20) {
            0..3 => role(
                target,
                [Role::Guest, Role::Member, Role::Admin][random.below(3)],
            ),
            3 => invite_revoke(random.below(200) as u8),
            4..8 => invite(random.below(200) as u8, Role::Member, Some(3), None),
            _ => {
                let mut deed = epoch(0, &[], &[]);
                if let Deed::Epoch(epoch) = &mut deed {
                    epoch.id.0[..4].copy_from_slice(&number.to_le_bytes());
                    epoch.act_id.0[12..].copy_from_slice(&number.to_le_bytes());
                }
                deed
            }
        };
        let written = script.after(&parents, Who(who as u8, 0, 0), deed);
        room.add(script.acts[written].held());
        // Writers know what they may.
        if room.refusal(&script.acts[written].hash).is_some() {
            script.acts.pop();
            // The next one has another name.
            script.salt = script.salt.wrapping_add(1 << 40);
            continue;
        }
        last[who] = written;
    }
    script
}

pub(crate) const OWNER: Who = Who(0, 0, 0);
pub(crate) const ADA: Who = Who(1, 0, 0);
pub(crate) const BEN: Who = Who(2, 0, 0);
pub(crate) const CLEO: Who = Who(3, 0, 0);

/// The owner admits Ada, then Ben, in these roles; returns the last act.
pub(crate) fn room_of_three(ada: Role, ben: Role) -> (Script, usize) {
    let mut room = Script::new();
    let first = room.after(&[0], OWNER, admit(ADA, ada));
    let last = room.after(&[first], OWNER, admit(BEN, ben));
    (room, last)
}

/// Why an act is not authorised.
pub(crate) fn refusal(script: &Script, number: usize) -> Refusal {
    match script.verdict(number) {
        Verdict::Refused(refusal) => refusal,
        other => panic!("act {number}: {other}"),
    }
}

/// Why an act is void.
pub(crate) fn void(script: &Script, number: usize) -> VoidReason {
    match script.verdict(number) {
        Verdict::Void(void) => void.why,
        other => panic!("act {number}: {other}"),
    }
}

/// Asserts that an act counts.
pub(crate) fn counts(script: &Script, number: usize) {
    let verdict = script.verdict(number);
    assert!(verdict.counts(), "act {number}: {verdict}");
}
