//! Reading `state.db` and the index into what is known.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey};
use kinlog_indexer::directory::Wanted;
use kinlog_indexer::entry::Body;
use kinlog_indexer::index::{AgentChange, IndexError};
use kinlog_indexer::register::{Register, ValueName};
use kinlog_indexer::seal::pair_meet_key;
use kinlog_indexer::{Index, RoomId};

use crate::api::Error;
use crate::core::{Core, Steps, lock};
use crate::failure::chain;
use crate::keys::DeviceKeys;
use crate::knowledge::{GivenGrant, Knowledge, KnownAgent, KnownRoom, Line};
use crate::links::FeedPath;
use crate::state::State;

/// Reads everything that `state.db` holds.
pub(super) fn from_state(
    state: &State,
    keys: &DeviceKeys,
    agent: AgentId,
) -> Result<Knowledge, Error> {
    let mut knowledge = Knowledge::new(agent);
    knowledge.own = state
        .own_feeds()?
        .into_iter()
        .map(|feed| (feed.key, feed))
        .collect();
    let former = state.former_feeds()?.into_iter();
    knowledge.former = former.map(|feed| (feed.key, feed)).collect();
    for (agent, set) in state.identities()? {
        match KnownAgent::verify(&agent, set.into()) {
            Ok(known) => {
                knowledge.agents.insert(agent, known);
            }
            Err(error) => tracing::warn!(%agent, error = chain(&error), "identity set is not used"),
        }
    }
    knowledge.pins = state.pins()?;
    for secret in state.own_epochs()? {
        knowledge.own_epochs.add(secret);
    }
    knowledge.pair_keys = pair_keys(&knowledge, keys);
    knowledge.rooms = rooms(state, keys)?;
    knowledge.joins = state.joins()?;
    knowledge.sign_ins = state.sign_ins()?;
    knowledge.answers = state.join_answers()?;
    knowledge.held_grants = state.held_grants()?;
    knowledge.given_grants = given_grants(state, keys)?;
    knowledge.deletions = state.deletions()?;
    knowledge.cleared = state.cleared()?;
    knowledge.given_clearings = state.given_clearings()?;
    Ok(knowledge)
}

/// Returns the keys by which this device meets each of its siblings.
pub(super) fn pair_keys(knowledge: &Knowledge, keys: &DeviceKeys) -> BTreeMap<DeviceKey, [u8; 32]> {
    let this = keys.device();
    let siblings = knowledge.own_devices().into_iter();
    let siblings = siblings.filter(|(device, _)| *device != this);
    let pair = |(device, x25519)| Some((device, *pair_meet_key(keys.dh(), &x25519)?.expose()));
    siblings.filter_map(pair).collect()
}

/// Returns the grants that this device gave; those of the one before it are that one's to renew.
fn given_grants(state: &State, keys: &DeviceKeys) -> Result<Vec<GivenGrant>, Error> {
    let given = state.given_grants()?.into_iter();
    let given = given.filter(|(_, grant)| grant.device() == keys.device());
    Ok(given
        .map(|(room, grant)| GivenGrant {
            room,
            hash: grant.hash(),
            grant,
        })
        .collect())
}

fn rooms(state: &State, keys: &DeviceKeys) -> Result<BTreeMap<RoomId, KnownRoom>, Error> {
    let mut rooms = BTreeMap::new();
    for stored in state.rooms()? {
        let feeds = state.room_feeds(&stored.id)?;
        let room = KnownRoom {
            direct: stored.direct,
            feeds: feeds.into_iter().map(|feed| (feed.key, feed)).collect(),
            ..KnownRoom::new(stored.id, stored.name, keys.feed_key(&stored.entries_id))
        };
        rooms.insert(stored.id, room);
    }
    for stored in state.epochs()? {
        if let Some(room) = rooms.get_mut(&stored.room) {
            room.keys.add(&stored);
        }
    }
    Ok(rooms)
}

/// Returns what an agent calls itself, and the signal servers at which it says to be met.
fn said_of_itself(
    index: &Index,
    agent: &AgentId,
) -> Result<(Option<String>, Vec<String>), IndexError> {
    let name = index.profile(agent)?.map(|row| row.name);
    Ok((name, met_at(index, agent)?))
}

/// Returns the signal servers at which an agent says to be met.
pub(crate) fn met_at(index: &Index, agent: &AgentId) -> Result<Vec<String>, IndexError> {
    let register = Register {
        agent: *agent,
        room: None,
        value: ValueName::Profile,
    };
    // The one that is shown stands last.
    let heads = index.register(&register)?;
    Ok(match heads.last().map(|head| &head.body) {
        Some(Body::Profile(profile)) => profile.signal_urls().to_vec(),
        _ => Vec::new(),
    })
}

impl Core {
    /// Reads pins, rooms, invites and joins again after they were changed in `state.db`.
    pub(crate) fn relearn(&self) -> Result<(), Error> {
        let _turn = lock(&self.learning);
        let fresh = from_state(&self.state, &self.keys, self.agent)?;
        self.knowledge(|knowledge| {
            knowledge.own = fresh.own;
            knowledge.pins = fresh.pins;
            // Where a room stands is in the index, not in `state.db`.
            let before = std::mem::replace(&mut knowledge.rooms, fresh.rooms);
            for (id, known) in before {
                if let Some(room) = knowledge.rooms.get_mut(&id) {
                    room.standing = known.standing;
                    room.told_removed = known.told_removed;
                    room.too_old = known.too_old;
                }
            }
            knowledge.joins = fresh.joins;
            knowledge.sign_ins = fresh.sign_ins;
            knowledge.open_invites();
            knowledge.held_grants = fresh.held_grants;
            knowledge.given_grants = fresh.given_grants;
            for (agent, known) in fresh.agents {
                knowledge.agents.entry(agent).or_insert(known);
            }
        });
        Ok(())
    }

    /// Takes what the index says of an agent into what is known.
    pub(super) fn learn_agent(&self, agent: &AgentId) -> Result<(), Error> {
        // The index is held until all is taken in, so that nobody takes in older rows after it.
        self.index(|index| {
            let rows = index.directory(agent)?;
            let (name, signal_urls) = said_of_itself(index, agent)?;
            let mut lines = Line::of_rows(rows, &index.redirects(agent)?);
            self.end_lines(index, agent, &mut lines)?;
            let directories = self.knowledge(|knowledge| {
                // Our own are kept whole.
                let known = knowledge.agents.get(agent).filter(|_| *agent != self.agent);
                let known = known.into_iter().flat_map(KnownAgent::directories);
                known.collect::<Vec<_>>()
            });
            self.learn_snapshots(index, agent, &directories)?;
            self.knowledge(|knowledge| {
                if let Some(known) = knowledge.agents.get_mut(agent) {
                    known.lines = lines;
                    known.name = name;
                    known.signal_urls = signal_urls;
                }
                knowledge.note_ended(agent);
            });
            if *agent == self.agent {
                let (rows, redirects) = index.private_directory(agent)?;
                let mut lines = Line::of_rows(rows, &redirects);
                self.end_lines(index, agent, &mut lines)?;
                self.knowledge(|knowledge| {
                    knowledge.private_lines = lines;
                    knowledge.note_ended(agent);
                });
            }
            self.learn_cleared(index, agent)
        })?;
        if *agent == self.agent {
            self.learn_own_epochs()?;
            self.learn_labels()?;
            self.learn_contacts()?;
            self.unshared.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Takes in what changed of an agent: its paths, of which there may be many, only where they did.
    pub(super) fn learn_change(&self, agent: &AgentId, change: AgentChange) -> Result<(), Error> {
        let (is_own, is_cut, directories) = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(agent);
            let is_cut = known.is_some_and(|known| !known.identity.revoked.is_empty());
            let directories = known.into_iter().flat_map(KnownAgent::directories);
            (
                *agent == self.agent,
                is_cut,
                directories.collect::<Vec<_>>(),
            )
        });
        // Where paths of revoked devices end follows from the heads in directories.
        if change.paths || change.directories && is_cut {
            return self.learn_agent(agent);
        }
        self.index(|index| {
            if change.values {
                let (name, signal_urls) = said_of_itself(index, agent)?;
                self.knowledge(|knowledge| {
                    if let Some(known) = knowledge.agents.get_mut(agent) {
                        known.name = name;
                        known.signal_urls = signal_urls;
                    }
                });
            }
            // Our own are kept whole.
            if change.directories && !is_own {
                self.learn_snapshots(index, agent, &directories)?;
            }
            Ok(())
        })?;
        if is_own && change.values {
            self.learn_contacts()?;
            self.unshared.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Takes in which blocks of an agent's directories lead to its paths.
    fn learn_snapshots(
        &self,
        index: &mut Index,
        agent: &AgentId,
        directories: &[FeedKey],
    ) -> Result<(), IndexError> {
        let mut snapshots = BTreeMap::new();
        for key in directories {
            snapshots.insert(*key, index.snapshot_state(key)?);
        }
        let leads = match directories.is_empty() {
            true => Vec::new(),
            false => index.leads(agent)?,
        };
        self.knowledge(|knowledge| {
            if let Some(known) = knowledge.agents.get_mut(agent) {
                known.note_faults(&snapshots);
                known.snapshots = snapshots;
                known.leads = leads;
            }
        });
        Ok(())
    }

    /// Returns whether everything that a directory of `length` blocks says of a path is read.
    pub(crate) fn has_read(
        &self,
        agent: &AgentId,
        directory: &FeedKey,
        path: Option<&FeedPath>,
        length: u64,
    ) -> Result<bool, Error> {
        let prefix = path.map_or("", FeedPath::as_str).to_owned();
        let accepted = self.knowledge(|knowledge| knowledge.accepted(directory));
        let end = accepted.unwrap_or(u64::MAX);
        let length = length.min(end);
        self.index(|index| {
            let wanted = Wanted::new([prefix], &index.leads(agent)?);
            let state = index.snapshot_state(directory)?;
            let blocks = wanted.blocks(&state.held(), length).into_iter();
            let mut blocks = blocks.flat_map(|range| range.start..range.end.min(length));
            Ok((length > 0 || end == 0) && blocks.all(|block| index.is_indexed(directory, block)))
        })
    }

    /// Gives own feeds the labels that a sibling device gave them.
    fn learn_labels(&self) -> Result<(), Error> {
        let _turn = lock(&self.learning);
        let moved = self.knowledge(|knowledge| {
            let known = knowledge.agents.get(&self.agent).into_iter();
            let lines = known.flat_map(|known| &known.lines);
            let lines = lines.chain(&knowledge.private_lines);
            let moved = lines.filter_map(|line| {
                let path = knowledge.own.get(&line.key)?.path.as_ref()?;
                (*path != line.path).then(|| (line.key, line.path.clone()))
            });
            moved.collect::<Vec<_>>()
        });
        for (key, path) in moved {
            // Where this device has another feed at that path, it stays where it is.
            if self.knowledge(|knowledge| knowledge.own_path(&path).is_some()) {
                continue;
            }
            self.state.set_path(&key, Some(&path))?;
            self.knowledge(|knowledge| {
                if let Some(own) = knowledge.own.get_mut(&key) {
                    own.path = Some(path);
                }
            });
        }
        Ok(())
    }

    /// Returns whether a feed that somebody says is a room's may be taken for one: nothing is shared
    /// between rooms, and what this device writes is put into a room by this device alone.
    pub(crate) fn may_join_room(&self, room: &RoomId, key: &FeedKey) -> bool {
        self.knowledge(|knowledge| {
            let elsewhere = knowledge
                .room_of(key)
                .is_some_and(|other| other.id != *room);
            !elsewhere && !knowledge.own.contains_key(key)
        })
    }

    /// Takes a received identity set in; returns whether it said anything new.
    pub(crate) fn learn_identity(
        &self,
        agent: &AgentId,
        set: &bytes::Bytes,
    ) -> Result<bool, Error> {
        let turn = lock(&self.learning);
        let held = self.knowledge(|knowledge| knowledge.agents.get(agent).cloned());
        let before = held.as_ref().map(|known| known.identity.clone());
        let refused = |error: kinlog_indexer::identity::IdentityError| {
            Error::verification(format!("identity set of {agent}: {}", chain(&error)))
        };
        let known = match held {
            Some(mut known) => {
                if !known.merge(set).map_err(refused)? {
                    return Ok(false);
                }
                known
            }
            None => KnownAgent::verify(agent, set.clone()).map_err(refused)?,
        };
        self.state.put_identity(agent, &known.set)?;
        self.knowledge(|knowledge| {
            let known = match knowledge.agents.remove(agent) {
                // Lines and name may have come from the index meanwhile.
                Some(held) => KnownAgent {
                    identity: known.identity,
                    verified: known.verified,
                    set: known.set,
                    ..held
                },
                None => KnownAgent {
                    petname: knowledge.petnames.get(agent).cloned(),
                    ..known
                },
            };
            knowledge.agents.insert(*agent, known);
            knowledge.pair_keys = pair_keys(knowledge, &self.keys);
        });
        drop(turn);
        self.note_devices(agent, before.as_ref());
        // The set is kept: what follows from it is done as far as it goes, and what does not go now is
        // done by the next look. Whoever brought the set is refused nothing.
        let mut steps = Steps::default();
        let unlisted = self.heed_cuts(agent);
        steps.take("index", self.catch_up());
        steps.take("cleared", self.heed_cleared(true));
        if *agent == self.agent {
            steps.take("own epochs", self.tend_own_epochs());
            self.unshared.store(true, Ordering::Release);
        }
        steps.take("rooms", self.drop_revoked_devices());
        steps.take("plan", self.replan());
        let given_up = unlisted.and_then(|gone| self.give_up_what_is_cut(agent, gone));
        steps.take("cuts", given_up);
        if let Err(error) = steps.end() {
            tracing::warn!(%agent, %error, "what follows from an identity set is not all done");
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use kinlog_feeds::KeyPair;

    use super::*;
    use crate::api::Selection;
    use crate::rooms::RoomFeed;
    use crate::state::{Pin, PinTarget};
    use crate::test_folder::TestFolder;

    #[test]
    fn what_was_just_remembered_is_known_whoever_looks_at_the_same_time() {
        let folder = TestFolder::new();
        let core = folder.core("Ada");
        let remembered = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !remembered.load(Ordering::Relaxed) {
                        core.relearn().unwrap();
                    }
                });
            }
            for number in 0..30 {
                let pin = Pin {
                    target: PinTarget::Feed(FeedKey([number; 32])),
                    selection: Selection::All,
                    live: true,
                    tier: "gift".to_owned(),
                    reason: "follow".to_owned(),
                    depth: 0,
                    is_local: false,
                };
                core.state.put_pin(&pin).unwrap();
                core.relearn().unwrap();
                let own = core.new_feed(None, false, true).unwrap();
                let known = core.knowledge(|known| {
                    (known.pins.contains(&pin), known.own.contains_key(&own.key))
                });
                if known != (true, true) {
                    remembered.store(true, Ordering::Relaxed);
                }
                assert_eq!(known, (true, true), "pin and feed {number}");
            }
            remembered.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn an_identity_set_is_planned_with_though_something_else_cannot_be_indexed() {
        use bytes::Bytes;
        use kinlog_indexer::identity::{DeviceCard, IdentitySet, Powers};

        let folder = TestFolder::new();
        let core = folder.core("Ada");
        // The index was never told of this feed, though it is believed to be.
        let bad = core.new_feed(None, true, false).unwrap();
        core.pretend_indexed(bad.key);
        let feed = RoomFeed {
            key: bad.key,
            agent: core.agent,
            device: core.keys.device(),
            is_entries: true,
        };
        let room = KnownRoom {
            feeds: [(bad.key, feed)].into(),
            ..KnownRoom::new(RoomId([5; 32]), "", bad.key)
        };
        core.knowledge(|known| known.rooms.insert(room.id, room));
        core.append(&bad, &[Bytes::from_static(b"\x09what")])
            .unwrap();
        assert!(core.catch_up().is_err());

        let root = KeyPair::from_seed(&[1; 32]);
        let agent = AgentId(root.public_key().0);
        let device = KeyPair::from_seed(&[2; 32]);
        let [public, private] = [3, 4].map(|seed| KeyPair::from_seed(&[seed; 32]));
        let card = DeviceCard::sign(&agent, &device, [4; 32], &public, &private);
        let directory = card.directory;
        let name = "laptop".try_into().unwrap();
        let set = IdentitySet::begin(&root, card, Powers::ALL, name).encode();
        let pin = Pin {
            target: PinTarget::Path(agent, None),
            selection: Selection::All,
            live: true,
            tier: "gift".to_owned(),
            reason: "follow".to_owned(),
            depth: 0,
            is_local: false,
        };
        core.state.put_pin(&pin).unwrap();
        core.relearn().unwrap();
        assert!(core.learn_identity(&agent, &set).unwrap());
        let plan = core.plan();
        assert!(plan.interests.contains_key(&directory));
        assert!(plan.view.agents[&agent.0].identity.is_some());
    }

    #[test]
    fn no_feed_is_taken_from_another_room_or_from_ourselves() {
        let folder = TestFolder::new();
        let core = folder.core("Ada");
        let own = core.new_feed(None, true, false).unwrap();
        let taken = RoomFeed {
            key: FeedKey([7; 32]),
            agent: AgentId([8; 32]),
            device: DeviceKey([9; 32]),
            is_entries: true,
        };
        let room = KnownRoom {
            feeds: [(taken.key, taken.clone())].into(),
            ..KnownRoom::new(RoomId([5; 32]), "", own.key)
        };
        core.knowledge(|known| known.rooms.insert(room.id, room));
        let (this, other) = (RoomId([5; 32]), RoomId([6; 32]));
        assert!(core.may_join_room(&this, &taken.key));
        assert!(!core.may_join_room(&other, &taken.key));
        assert!(!core.may_join_room(&this, &own.key));
        assert!(core.may_join_room(&other, &FeedKey([10; 32])));
    }
}
