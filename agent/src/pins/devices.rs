//! What this device and its siblings write: kept by all of them, and what is private served to no other.

use std::collections::BTreeSet;

use kinlog_feeds::crypto::FeedKey;
use kinlog_swarm::Label;

use crate::api::Selection;
use crate::pins::plan::{Planning, Role};
use crate::settings::{PROFILE, SETTINGS, TRUST};

impl Planning<'_> {
    pub(super) fn own_feeds(&mut self) {
        let agent = self.knowledge.agent;
        self.plan.topics.insert((Label::Agent, agent.0));
        let offered = self.plan.view.agents.entry(agent.0).or_default();
        if let Some(known) = self.knowledge.agents.get(&agent) {
            offered.identity = Some((known.identity.hash, known.set.clone()));
            // What other devices of this agent say of it is learned from whoever holds it.
            offered.is_followed = true;
        }
        for feed in self.knowledge.own.values() {
            // One that this device wrote before another went on with its path.
            let listed = || {
                let listed = self.knowledge.listed(&feed.key);
                listed.map(|(_, line)| line.path.clone())
            };
            let why = if feed.is_private {
                // Served to siblings alone: see there.
                match &feed.path {
                    Some(path) => format!("own private path {path}"),
                    None => "own private directory".to_owned(),
                }
            } else if let Some(path) = feed.path.clone().or_else(listed) {
                offered.serves.insert(feed.key);
                offered.wants.insert(feed.key);
                format!("own path {path}")
            } else if feed.is_plain {
                self.plan.topics.insert((Label::Feed, feed.key.0));
                let offered = self.plan.view.feeds.entry(feed.key.0).or_default();
                (offered.serves, offered.wants) = (true, true);
                "own plain feed".to_owned()
            } else if self.knowledge.directory_of(&feed.key) == Some(agent) {
                offered.serves.insert(feed.key);
                offered.wants.insert(feed.key);
                "own public directory".to_owned()
            } else {
                continue;
            };
            self.plan.why.entry(feed.key).or_default().push(why);
        }
    }

    /// What earlier devices of this home wrote is kept whole and served on, as far as others have it:
    /// what they were never shown stays here.
    pub(super) fn former_feeds(&mut self) {
        let agent = self.knowledge.agent;
        for feed in self.knowledge.former.values() {
            let is_directory = self.knowledge.directory_of(&feed.key) == Some(agent);
            let is_private = self.private.contains(&feed.key);
            let what = match &feed.path {
                None if is_private => {
                    "private directory of an earlier device of this home".to_owned()
                }
                Some(path) => format!("path {path} of an earlier device of this home"),
                None if is_directory => "directory of an earlier device of this home".to_owned(),
                None => continue,
            };
            if feed.has_unpublished() {
                let why = format!("{what}; its newest blocks were never published and stay here");
                self.plan.why.entry(feed.key).or_default().push(why);
                continue;
            }
            if !is_private {
                let offered = self.plan.view.agents.entry(agent.0).or_default();
                offered.serves.insert(feed.key);
                offered.wants.insert(feed.key);
            }
            self.plan.roles.insert(feed.key, Role::Device);
            self.ask(feed.key, Selection::All, true, &what);
        }
    }

    /// The agent's devices meet by the keys that only they know, and keep each other's directories whole,
    /// the private ones too. What is private is served there and nowhere else.
    pub(super) fn siblings(&mut self) {
        let knowledge = self.knowledge;
        let agent = knowledge.agent;
        let devices = knowledge.own_devices();
        let own = knowledge.own.values().filter(|feed| feed.is_private);
        let former = knowledge.former.values();
        let former = former.filter(|feed| feed.is_private && !feed.has_unpublished());
        let mut private: BTreeSet<FeedKey> = own.map(|feed| feed.key).collect();
        private.extend(former.map(|feed| feed.key));
        for (device, key) in knowledge.private_directories() {
            private.insert(key);
            if !knowledge.former.contains_key(&key) {
                let name = knowledge.device_name(&device);
                self.ask_whole(key, &format!("private directory of own {name}"));
            }
        }
        private.extend(knowledge.private_lines.iter().map(|line| line.key));
        self.said_by_siblings();
        if let Some(known) = knowledge.agents.get(&agent) {
            let offered = self.plan.view.agents.entry(agent.0).or_default();
            // A sibling may know of more devices.
            offered.is_followed = true;
            for writer in known.writers() {
                let key = writer.directory;
                if knowledge.own.contains_key(&key) || knowledge.former.contains_key(&key) {
                    continue;
                }
                let offered = self.plan.view.agents.entry(agent.0).or_default();
                offered.serves.insert(key);
                offered.wants.insert(key);
                let why = format!(
                    "public directory of own {}",
                    knowledge.device_name(&writer.key)
                );
                self.ask_whole(key, &why);
            }
        }
        if devices.len() < 2 {
            return;
        }
        for meet_key in knowledge.own_meet_keys() {
            self.plan.topics.insert((Label::Room, meet_key));
            let offered = self.plan.view.rooms.entry(meet_key).or_default();
            offered.devices.extend(devices.keys());
            offered.serves.extend(&private);
            offered.wants.extend(&private);
        }
    }

    /// What siblings say of the agent, and keep for it, every device has: else it could not write after it.
    fn said_by_siblings(&mut self) {
        let knowledge = self.knowledge;
        let agent = knowledge.agent;
        let public = knowledge.agents.get(&agent).into_iter();
        let public = public.flat_map(|known| &known.lines);
        let public = public.filter(|line| line.is_part_of(PROFILE) || line.is_part_of(TRUST));
        let private = knowledge.private_lines.iter();
        let private = private.filter(|line| line.is_part_of(SETTINGS));
        for (line, is_private) in public
            .map(|line| (line, false))
            .chain(private.map(|line| (line, true)))
        {
            if knowledge.own.contains_key(&line.key) || knowledge.former.contains_key(&line.key) {
                continue;
            }
            if !is_private {
                let offered = self.plan.view.agents.entry(agent.0).or_default();
                offered.serves.insert(line.key);
                offered.wants.insert(line.key);
            }
            let name = knowledge.device_name(&line.device);
            self.plan.roles.insert(line.key, Role::Device);
            let why = format!("path {} of own {name}", line.path);
            self.ask(line.key, Selection::All, true, &why);
        }
    }
}
