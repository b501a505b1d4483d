//! What rooms ask for: the members' entries, and what an answer to a join names.

use std::collections::BTreeSet;

use kinlog_swarm::Label;

use crate::api::Selection;
use crate::limits::{JOIN_BLOCKS_MAX, MEET_EPOCHS_MAX};
use crate::pins::Asked;
use crate::pins::plan::Planning;

impl Planning<'_> {
    pub(super) fn rooms(&mut self) {
        for room in self.knowledge.rooms.values() {
            let mut devices = room.devices();
            if room.standing.history.is_none() {
                // Nothing of it is here yet: whom a sibling named, and siblings, are believed to be in it.
                devices.extend(self.knowledge.own_devices().into_keys());
                devices.extend(room.feeds.values().map(|feed| feed.device));
            }
            for meet_key in room.meet_keys() {
                self.plan.topics.insert((Label::Room, meet_key));
                let offered = self.plan.view.rooms.entry(meet_key).or_default();
                offered.room = Some(room.id.0);
                offered.devices.extend(&devices);
                offered.serves.extend(room.feeds.keys());
                offered.wants.extend(room.feeds.keys());
            }
            for feed in room.feeds.values() {
                let is_own = self.knowledge.own.contains_key(&feed.key);
                let what = if feed.is_entries { "entries" } else { "files" };
                let whose = if is_own { "own" } else { "a member's" };
                let why = format!("{whose} {what} in room {}", room.label());
                self.plan.why.entry(feed.key).or_default().push(why);
                if !is_own {
                    let asked = self.plan.asked.entry(feed.key).or_default();
                    // Files are fetched one by one; their feed is only known and followed.
                    if feed.is_entries {
                        asked.push(Asked {
                            selection: Selection::All,
                            live: true,
                        });
                    }
                }
            }
        }
    }

    /// What an answer to a join names is fetched as far as it takes to see whether it is true.
    pub(super) fn answers(&mut self) {
        for answer in &self.knowledge.answers {
            let devices: BTreeSet<_> = answer.feeds.iter().map(|feed| feed.device).collect();
            let secrets = answer.keys.secrets.iter().take(MEET_EPOCHS_MAX);
            for meet_key in secrets.map(|secret| *secret.meet_key().expose()) {
                self.plan.topics.insert((Label::Room, meet_key));
                let offered = self.plan.view.rooms.entry(meet_key).or_default();
                offered.devices.extend(&devices);
                offered.devices.insert(answer.device);
                let entries = answer.feeds.iter().filter(|feed| feed.is_entries);
                offered.wants.extend(entries.map(|feed| feed.key));
            }
            for feed in answer.feeds.iter().filter(|feed| feed.is_entries) {
                let why = "named in an answer to a join that is being looked into";
                let first = Selection::Range(0..JOIN_BLOCKS_MAX);
                self.ask(feed.key, first, true, why);
            }
        }
    }
}
