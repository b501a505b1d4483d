//! Seeders hear of what was deleted: the device that gave a grant tells which blocks are gone with the members,
//! and they go there too.
//!
//! A giver says what only it could bring about by ending its grant, so a block stays as long as another
//! member's live grant names it and that member's device has not said so. What this agent keeps for any other
//! reason than grants stays in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kinlog_feeds::FeedKey;
use kinlog_feeds::crypto::DeviceKey;
use kinlog_indexer::RoomId;
use kinlog_swarm::{PeerMessage, SeedClearing, SessionInfo};

use crate::api::{Error, ErrorKind};
use crate::block_ranges::{minus, union};
use crate::core::{Core, Ranges, emptied_blocks, noted_again};
use crate::limits::GIVER_CLEARED_MAX;
use crate::pins::Plan;
use crate::state::{ClearedBy, ClearedFeed};
use crate::wall::wall_ms;

impl Core {
    /// Returns what is to be told of the feeds of a room: what was deleted there and emptied here.
    pub(super) fn clearings_of(&self, room: &RoomId) -> Vec<SeedClearing> {
        self.knowledge(|knowledge| {
            let feeds = knowledge.rooms.get(room).map(|room| &room.feeds);
            let emptied = emptied_blocks(&knowledge.deletions, false).into_iter();
            let of_room =
                emptied.filter(|(key, _)| feeds.is_some_and(|feeds| feeds.contains_key(key)));
            of_room
                .flat_map(|(key, ranges)| SeedClearing::of(key, &ranges))
                .collect()
        })
    }

    /// Tells the seeders that showed a grant of this device what went of these feeds.
    pub(crate) fn tell_seeders_what_went(&self, feeds: &BTreeSet<FeedKey>) {
        let rooms: BTreeSet<(RoomId, _)> = self.knowledge(|knowledge| {
            let given = knowledge.given_grants.iter();
            let given = given.filter(|given| {
                let room = knowledge.rooms.get(&given.room);
                room.is_some_and(|room| feeds.iter().any(|feed| room.feeds.contains_key(feed)))
            });
            given
                .map(|given| (given.room, given.grant.terms().grantee))
                .collect()
        });
        for (room, seeder) in rooms {
            self.tell_seeders(&room, &seeder);
        }
    }

    /// Takes what a member's device says was cleared of what it granted.
    pub(super) fn take_clearing(
        &self,
        session: &SessionInfo,
        clearing: &SeedClearing,
    ) -> Result<(), Error> {
        let Some(certificate) = session.remote_certificate else {
            return Err(Error::permission(
                "somebody unknown clears what is kept by a grant",
            ));
        };
        let (giver, feed) = (certificate.device, clearing.feed());
        let before = self.knowledge(|knowledge| {
            let now_ms = wall_ms();
            let mut held = knowledge.held_grants.iter();
            let is_granted = held.any(|held| {
                let ranges = &held.grant.terms().ranges;
                held.is_live(now_ms)
                    && held.grant.device() == giver
                    && ranges.iter().any(|range| range.feed == feed)
            });
            is_granted.then(|| {
                knowledge
                    .given_clearings
                    .get(&giver)
                    .cloned()
                    .unwrap_or_default()
            })
        });
        let Some(before) = before else {
            return Err(Error::permission(format!(
                "device {giver} clears blocks of feed {feed}, which it does not grant"
            )));
        };
        let known = before.get(&feed).cloned().unwrap_or_default();
        let ranges = union([known.as_slice(), clearing.ranges()].concat());
        if ranges == known {
            return Ok(());
        }
        let others: usize = before.values().map(Vec::len).sum::<usize>() - known.len();
        if others + ranges.len() > GIVER_CLEARED_MAX {
            return Err(Error::new(
                ErrorKind::Quota,
                format!(
                    "device {giver} clears more than {GIVER_CLEARED_MAX} ranges of what it granted"
                ),
            ));
        }
        self.state.put_given_clearing(&giver, &feed, &ranges)?;
        self.knowledge(|knowledge| {
            let said = knowledge.given_clearings.entry(giver).or_default();
            said.insert(feed, ranges);
        });
        self.replan()
    }

    /// Notes what all who grant a block say is cleared, given a plan; returns whether the plan is to be made
    /// anew.
    pub(crate) fn heed_givers(&self, plan: &Plan) -> Result<bool, Error> {
        let (changed, gone) = self.knowledge(|knowledge| {
            let now_ms = wall_ms();
            let mut granted: BTreeMap<FeedKey, BTreeMap<DeviceKey, Vec<Range<u64>>>> =
                BTreeMap::new();
            let live = knowledge
                .held_grants
                .iter()
                .filter(|held| held.is_live(now_ms));
            for held in live {
                let giver = held.grant.device();
                for range in &held.grant.terms().ranges {
                    if plan.granted_alone.contains(&range.feed) {
                        let of = granted.entry(range.feed).or_default();
                        of.entry(giver).or_default().push(range.blocks());
                    }
                }
            }
            let nothing = BTreeMap::new();
            let said = |giver: &DeviceKey| knowledge.given_clearings.get(giver).unwrap_or(&nothing);
            let mut cleared = Ranges::new();
            for (feed, givers) in granted {
                let all = givers.keys().filter_map(|giver| said(giver).get(&feed));
                let mut ranges = union(all.flatten().cloned().collect());
                // Not what somebody grants who has not said so.
                for (giver, blocks) in givers {
                    let own = said(&giver).get(&feed).map_or(&[][..], Vec::as_slice);
                    ranges = minus(&ranges, &minus(&union(blocks), own));
                }
                if !ranges.is_empty() {
                    cleared.insert(feed, ranges);
                }
            }
            let noted = knowledge.cleared.iter();
            let noted = noted.filter(|(_, one)| one.by == ClearedBy::Giver);
            let feeds: BTreeSet<FeedKey> = noted
                .map(|(feed, _)| *feed)
                .chain(cleared.keys().copied())
                .collect();
            let mut changed = Vec::new();
            for feed in feeds {
                let known = knowledge.cleared.get(&feed);
                // What its own agent cleared is no feed of a room.
                if known.is_some_and(|known| known.by == ClearedBy::Agent) {
                    continue;
                }
                let known = known.map_or(&[][..], |known| &known.blocks);
                let said = cleared.remove(&feed).unwrap_or_default();
                let blocks = noted_again(known, &said, now_ms, false);
                if blocks != known {
                    let by = ClearedBy::Giver;
                    changed.push((feed, ClearedFeed { by, blocks }));
                }
            }
            let givers: BTreeSet<DeviceKey> = knowledge
                .held_grants
                .iter()
                .map(|held| held.grant.device())
                .collect();
            let gone: Vec<DeviceKey> = knowledge
                .given_clearings
                .keys()
                .filter(|giver| !givers.contains(giver))
                .copied()
                .collect();
            (changed, gone)
        });
        let is_changed = !changed.is_empty();
        for (feed, noted) in changed {
            self.note_cleared(&feed, noted)?;
        }
        for giver in gone {
            self.state.drop_given_clearings(&giver)?;
            self.knowledge(|knowledge| knowledge.given_clearings.remove(&giver));
        }
        Ok(is_changed)
    }

    /// Hands over what was cleared on a session with a seeder.
    pub(super) fn hand_over_clearings(&self, session: &SessionInfo, room: &RoomId) {
        let Some(network) = self.network() else {
            return;
        };
        for clearing in self.clearings_of(room) {
            network.send(session.id, PeerMessage::SeedCleared(clearing));
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of one run
mod tests {
    use kinlog_feeds::KeyPair;
    use kinlog_feeds::crypto::{Hash, Secret};
    use kinlog_indexer::grant::{GrantTerms, GrantedRange, RoomTag, SeedGrant};
    use kinlog_swarm::{Certificate, Label, SessionId, SessionRole, Transport};

    use super::*;
    use crate::api::Selection;
    use crate::state::{Pin, PinTarget};
    use crate::test_folder::TestFolder;

    const FEED: FeedKey = FeedKey([6; 32]);
    const PINNED: FeedKey = FeedKey([7; 32]);

    fn giver(number: u8) -> KeyPair {
        KeyPair::from_seed(&[number; 32])
    }

    fn session(by: &KeyPair) -> SessionInfo {
        SessionInfo {
            id: SessionId(1),
            label: Label::Room,
            key: [2; 32],
            role: SessionRole::Initiator,
            remote_certificate: Some(Certificate {
                device: DeviceKey(by.public_key().0),
                identity_hash: Hash::default(),
            }),
            transport: Transport::Memory,
            path: None,
            plain: false,
        }
    }

    fn clearing(feed: FeedKey, range: Range<u64>) -> SeedClearing {
        SeedClearing::of(feed, &[range]).remove(0)
    }

    /// A seeder with a grant of two feeds by each of two members; one feed is pinned, too.
    fn seeder(folder: &TestFolder) -> Core {
        let core = folder.core("sue");
        let pin = Pin {
            target: PinTarget::Feed(PINNED),
            selection: Selection::All,
            live: true,
            tier: "gift".into(),
            reason: "follow".into(),
            depth: 0,
            is_local: true,
        };
        core.state.put_pin(&pin).unwrap();
        for number in [1, 2] {
            let terms = GrantTerms {
                room_tag: RoomTag([9; 16]),
                meet_key: Secret::new([2; 32]),
                grantee: core.agent,
                expires_at_ms: wall_ms() + 1_000_000,
                quota_class: 0,
                ranges: [FEED, PINNED].map(GrantedRange::whole).into(),
            };
            let grant = SeedGrant::sign(terms, &giver(number)).unwrap();
            core.state.add_held_grant(&grant).unwrap();
        }
        core.relearn().unwrap();
        core.replan().unwrap();
        core
    }

    #[test]
    fn a_block_goes_when_all_who_grant_it_say_so_and_nobody_else_does() {
        let folder = TestFolder::new();
        let core = seeder(&folder);
        let cleared = |feed: FeedKey| core.knowledge(|known| known.cleared_of(&feed));
        let [one, other, stranger] = [1, 2, 3].map(giver);
        core.take_clearing(&session(&one), &clearing(FEED, 0..5))
            .unwrap();
        assert_eq!(cleared(FEED), [], "another member grants it still");
        let refused = core.take_clearing(&session(&stranger), &clearing(FEED, 0..5));
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Permission);
        let mut nobody = session(&other);
        nobody.remote_certificate = None;
        core.take_clearing(&nobody, &clearing(FEED, 0..5))
            .unwrap_err();
        let elsewhere = clearing(FeedKey([8; 32]), 0..5);
        core.take_clearing(&session(&one), &elsewhere).unwrap_err();
        core.take_clearing(&session(&other), &clearing(FEED, 3..9))
            .unwrap();
        assert_eq!(cleared(FEED), [3..5]);
        core.take_clearing(&session(&other), &clearing(FEED, 0..1))
            .unwrap();
        assert_eq!(cleared(FEED), [0..1, 3..5]);

        // What is here for another reason stays.
        for by in [&one, &other] {
            core.take_clearing(&session(by), &clearing(PINNED, 0..5))
                .unwrap();
        }
        assert_eq!(cleared(PINNED), []);

        // The grant of one ends: what the other says is all there is to say.
        let of_one = core.knowledge(|known| known.held_grants[0].hash);
        core.state.drop_held_grant(&of_one).unwrap();
        core.relearn().unwrap();
        core.replan().unwrap();
        assert_eq!(cleared(FEED), [0..1, 3..9]);
        let said = core.state.given_clearings().unwrap();
        assert_eq!(said.len(), 1, "whoever grants nothing is forgotten");
    }

    #[test]
    fn a_giver_fills_no_disk() {
        let folder = TestFolder::new();
        let core = seeder(&folder);
        let said = (0..GIVER_CLEARED_MAX as u64).map(|number| 2 * number..2 * number + 1);
        let said = BTreeMap::from([(FEED, said.collect::<Vec<_>>())]);
        let by = DeviceKey(giver(1).public_key().0);
        core.knowledge(|known| known.given_clearings.insert(by, said));
        let beyond = 4 * GIVER_CLEARED_MAX as u64;
        let more = clearing(FEED, beyond..beyond + 1);
        let refused = core.take_clearing(&session(&giver(1)), &more);
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Quota);
    }
}
