//! What seed grants make of the plan: a seeder keeps and serves what it was granted, a member serves a
//! seeder that proved a grant.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kinlog_feeds::crypto::FeedKey;
use kinlog_feeds::limits::UINT_MAX;
use kinlog_feeds::text;
use kinlog_indexer::grant::RoomTag;
use kinlog_swarm::Label;

use crate::api::Selection;
use crate::host::GrantedView;
use crate::knowledge::GrantStanding;
use crate::pins::plan::{Planning, Role};
use crate::state::HeldGrant;

/// Blocks of feeds.
type Ranges = BTreeMap<FeedKey, Vec<Range<u64>>>;

impl Planning<'_> {
    /// Keeps what live grants name, for whoever proves a meet key of theirs.
    pub(super) fn seeding(&mut self) {
        let knowledge = self.knowledge;
        let own_rooms: BTreeSet<RoomTag> = knowledge.rooms.keys().map(RoomTag::of).collect();
        let live: Vec<&HeldGrant> = knowledge
            .held_grants
            .iter()
            .filter(|held| held.is_live(knowledge.now_ms))
            // A member keeps and serves the room as a member.
            .filter(|held| !own_rooms.contains(&held.grant.terms().room_tag))
            .collect();
        let rooms = self.granted(&live);
        for held in live {
            let terms = held.grant.terms();
            let meet_key = *terms.meet_key.expose();
            self.plan.topics.insert((Label::Room, meet_key));
            let kept = rooms.get(&terms.room_tag).cloned().unwrap_or_default();
            self.plan.view.seeded.insert(meet_key, kept);
        }
        for (tag, feeds) in rooms {
            let why = format!(
                "kept for the members of a room by seed grant (tag {})",
                text::encode_hex(&tag.0[..4])
            );
            for (feed, ranges) in feeds {
                if !self.plan.asked.contains_key(&feed) && knowledge.directory_of(&feed).is_none() {
                    self.plan.granted_alone.insert(feed);
                }
                for range in ranges {
                    let is_open = range.end == UINT_MAX;
                    let selection = match (range.start, is_open) {
                        (0, true) => Selection::All,
                        (start, true) => Selection::From(start),
                        (_, false) => Selection::Range(range),
                    };
                    self.ask(feed, selection, is_open, &why);
                }
                self.plan.roles.entry(feed).or_insert(Role::Seeded);
                self.plan.granted.insert(feed);
            }
        }
    }

    /// Gives sessions with seeders what their grants are worth in our rooms.
    pub(super) fn seeders(&mut self) {
        let knowledge = self.knowledge;
        for (session, shown) in &knowledge.proven {
            let mut granted = GrantedView::default();
            for proven in shown {
                let Some(room) = knowledge.rooms.get(&proven.room) else {
                    continue;
                };
                let standing = room.grant_standing(&proven.grant, knowledge.now_ms);
                let terms = proven.grant.terms();
                let meet_key = *terms.meet_key.expose();
                if standing == GrantStanding::Nothing || !room.meet_keys().contains(&meet_key) {
                    continue;
                }
                granted.meet_key = meet_key;
                // A grant may name any key: what is not the room's is not served by it.
                let ranges = terms.ranges.iter();
                for range in ranges.filter(|range| room.feeds.contains_key(&range.feed)) {
                    granted.wants.insert(range.feed);
                    if standing == GrantStanding::Live {
                        let blocks = granted.serves.entry(range.feed).or_default();
                        blocks.push(range.blocks());
                    }
                }
            }
            if !granted.wants.is_empty() {
                self.plan.view.granted.insert(*session, granted);
            }
        }
    }

    /// Returns what the grants of each room name together. A member may name any key: what this agent
    /// has for other reasons, or keeps for another room, is not served by it.
    fn granted(&self, live: &[&HeldGrant]) -> BTreeMap<RoomTag, Ranges> {
        let knowledge = self.knowledge;
        let mut rooms: BTreeMap<RoomTag, Ranges> = BTreeMap::new();
        let mut first: BTreeMap<FeedKey, RoomTag> = BTreeMap::new();
        for held in live {
            let tag = held.grant.terms().room_tag;
            for range in &held.grant.terms().ranges {
                let feed = range.feed;
                let is_elsewhere = knowledge.own.contains_key(&feed)
                    || knowledge.former.contains_key(&feed)
                    || knowledge.room_of(&feed).is_some()
                    || knowledge.is_private(&feed)
                    || *first.entry(feed).or_insert(tag) != tag;
                if is_elsewhere {
                    continue;
                }
                let ranges = rooms.entry(tag).or_default().entry(feed).or_default();
                if !ranges.contains(&range.blocks()) {
                    ranges.push(range.blocks());
                }
            }
        }
        rooms
    }
}
