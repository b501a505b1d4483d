//! What goes wrong, and how it is mended.

use std::collections::BTreeSet;
use std::time::Duration;

use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::{HeadState, Interest, PeerId, Want};
use kinlog_feeds::store::{OpenError, Store};
use testkit::disk::{CrashPolicy, Fault as DiskFault};

use crate::network::SILENCE_MAX;
use crate::plan::Fault;
use crate::rooms;
use crate::world::{Event, World};

const POLICIES: [CrashPolicy; 7] = [
    CrashPolicy::DropPending,
    CrashPolicy::KeepPending,
    CrashPolicy::Prefix,
    CrashPolicy::Subset,
    CrashPolicy::TornWrite,
    CrashPolicy::SizeWithoutContent,
    CrashPolicy::NamesLost,
];

impl World {
    pub(crate) fn make_trouble(&mut self) {
        if self.plan.faults.is_empty() {
            return;
        }
        let fault = self.plan.faults[self.random.index(self.plan.faults.len())];
        let node = self.random.index(self.plan.honest);
        match fault {
            Fault::Power => self.cut_power(node, None),
            Fault::LyingDrive => {
                if self.random.below(4) == 0 {
                    self.cut_power(node, Some(CrashPolicy::LyingSync));
                }
            }
            Fault::Refusal => self.refuse(node),
            Fault::FullDisk => {
                if let Some(running) = &self.nodes[node].running {
                    running.faults.refuse_growth(DiskFault::NoSpace);
                    self.restart_soon(node);
                }
            }
            Fault::Break => {
                if let Some((one, other)) = self.some_link() {
                    self.disconnect(one, other);
                }
            }
            Fault::Clog => {
                if let Some(ends) = self.some_link() {
                    let wait = Duration::from_micros(self.random.below(40_000_000));
                    self.block(ends, wait);
                }
            }
            Fault::Partition => self.split(),
            Fault::SecondProcess => self.open_twice(node),
            Fault::Clear => self.clear(node),
            Fault::OtherWant => self.want_something_else(node),
            Fault::Removal => self.remove(node),
            Fault::ClockJump => {
                let day = 86_400_000;
                self.nodes[node].skew_ms = self.random.below(2 * day) as i64 - day as i64;
            }
            Fault::IndexRefusal => self.refuse_index(node),
        }
    }

    fn some_link(&mut self) -> Option<(usize, usize)> {
        let links = self.network.links.len();
        let at = (links > 0).then(|| self.random.index(links))?;
        self.network.links.keys().nth(at).copied()
    }

    /// Ends a node as a power cut does and starts it again after a while.
    fn cut_power(&mut self, node: usize, policy: Option<CrashPolicy>) {
        if !self.nodes[node].is_up() {
            return;
        }
        let policy = policy.unwrap_or(POLICIES[self.random.index(POLICIES.len())]);
        self.end(node, policy);
        self.soon(10_000_000, Event::Start { node });
    }

    fn end(&mut self, node: usize, policy: CrashPolicy) {
        self.outcome.crashes += 1;
        for peer in self.network.peers(node) {
            self.disconnect(node, peer);
        }
        let lies = policy == CrashPolicy::LyingSync;
        if !lies {
            let mut held = self.nodes[node].held();
            for (_, key, blocks) in self.unsure.extract_if(.., |(of, ..)| *of == node) {
                held.iter_mut().for_each(|held| held.forget(&key, &blocks));
            }
            self.before.insert(node, held);
        }
        let seed = self.random.below(1 << 20);
        self.nodes[node].crash(policy, seed);
        if lies {
            self.distrust(node);
        }
    }

    /// After a lie of its drive a node cannot know what it signed and showed: it writes no more and
    /// follows its own feed, and its index is made anew.
    fn distrust(&mut self, node: usize) {
        if let Some(path) = &self.nodes[node].index_path {
            for end in ["", "-wal", "-shm", "-sum"] {
                let mut name = path.clone().into_os_string();
                name.push(end);
                // One that is not there need not go.
                let _ = std::fs::remove_file(name);
            }
        }
        if node < self.plan.writers {
            let key = rooms::room_feed(node);
            self.truth.books.get_mut(&key).unwrap().is_retired = true;
            let (want, live) = (Want::All, true);
            self.nodes[node]
                .interests
                .insert(key, Interest { want, live });
        }
    }

    /// The process notices that its store stopped: it is started anew soon.
    pub(crate) fn restart_soon(&mut self, node: usize) {
        let wait = Duration::from_micros(self.random.below(8_000_000));
        let life = self.nodes[node].life;
        self.after(wait, Event::Restart { node, life });
    }

    /// Ends a process and starts it again, without a power cut half of the times.
    pub(crate) fn restart(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        let policy = match self.random.below(2) {
            0 => CrashPolicy::KeepPending,
            _ => POLICIES[self.random.index(POLICIES.len())],
        };
        self.end(node, policy);
        self.start(node);
    }

    fn refuse(&mut self, node: usize) {
        let Some(running) = &self.nodes[node].running else {
            return;
        };
        let faults = [DiskFault::Io, DiskFault::NoSpace, DiskFault::ShortWrite];
        let at = running.faults.operations() + self.random.below(12);
        let fault = faults[self.random.index(faults.len())];
        running.faults.refuse(at, fault, self.random.below(2) == 0);
        self.restart_soon(node);
    }

    /// Nothing arrives over a link in one direction; one that is silent for too long is given up.
    fn block(&mut self, (one, other): (usize, usize), wait: Duration) {
        let until = self.now + wait;
        let Some(link) = self.network.links.get_mut(&(one, other)) else {
            return;
        };
        if link.blocked_until <= self.now {
            link.blocked_since = self.now;
        }
        link.blocked_until = link.blocked_until.max(until);
        let session = link.session;
        let silent = (self.now + SILENCE_MAX).since(link.blocked_since);
        let event = Event::GiveUp {
            one,
            other,
            session,
        };
        self.after(2 * SILENCE_MAX - silent, event);
    }

    fn split(&mut self) {
        let wait = Duration::from_micros(self.random.below(45_000_000));
        let nodes = self.nodes.len();
        let part: BTreeSet<usize> = (0..nodes).filter(|_| self.random.below(2) == 0).collect();
        let one_way = self.random.below(2) == 0;
        self.network.split = Some((part.clone(), self.now + wait));
        let links: Vec<(usize, usize)> = self.network.links.keys().copied().collect();
        for (from, to) in links {
            let crosses = part.contains(&from) != part.contains(&to);
            if crosses && (!one_way || part.contains(&from)) {
                self.block((from, to), wait);
            }
        }
    }

    fn open_twice(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        let disk = std::sync::Arc::new(self.nodes[node].disk.clone());
        let opened = Store::open(disk, self.nodes[node].options());
        assert!(
            matches!(opened, Err(OpenError::Locked { .. })),
            "lock: a second process opens the store of node {node}"
        );
    }

    fn feed_of_others(&mut self, node: usize) -> Option<FeedKey> {
        let writers: Vec<usize> = (0..self.plan.writers).filter(|w| *w != node).collect();
        let writer = (!writers.is_empty()).then(|| writers[self.random.index(writers.len())])?;
        Some(rooms::room_feed(writer))
    }

    /// A follower gives blocks back; what it still wants it asks for again.
    fn clear(&mut self, node: usize) {
        if node == self.plan.seeder() || self.plan.has_index {
            return;
        }
        let Some(key) = self.feed_of_others(node) else {
            return;
        };
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        let feed = running.feeds[&key].clone();
        let length = feed.head().length;
        if length == 0 || running.has_failed {
            return;
        }
        let start = self.random.below(length);
        let end = (start + 1 + self.random.below(20)).min(length);
        match feed.clear(start..end) {
            Ok(()) => {
                running
                    .replicator
                    .handle_cleared(self.now, &key, start..end);
            }
            Err(_) => {
                // Whether before or behind the record, only the store knows.
                let head = HeadState::from(&feed.info());
                running
                    .replicator
                    .handle_stored(self.now, &key, &head, &feed.have());
                running.has_failed = true;
                self.unsure.push((node, key, start..end));
                self.restart_soon(node);
            }
        }
        self.drain(node);
    }

    fn want_something_else(&mut self, node: usize) {
        if node == self.plan.seeder() || self.plan.has_index {
            return;
        }
        let Some(key) = self.feed_of_others(node) else {
            return;
        };
        let interest = self.plan.interest(node, &mut self.random);
        let node_of = &mut self.nodes[node];
        if let Some(running) = &mut node_of.running {
            let (now, interest) = (self.now, interest.clone());
            running.replicator.set_interest(now, &key, interest);
        }
        node_of.interests.insert(key, interest);
        self.drain(node);
    }

    /// All others agree that a node may not have a feed any more.
    fn remove(&mut self, node: usize) {
        let hostile = self.plan.hostile > 0 && self.random.below(2) == 0;
        let node = if hostile { self.nodes.len() - 1 } else { node };
        if node == self.plan.seeder() || self.random.below(4) != 0 {
            return;
        }
        let Some(key) = self.feed_of_others(node) else {
            return;
        };
        for other in (0..self.plan.honest).filter(|other| *other != node) {
            let refused = self.nodes[other].refused.entry(node).or_default();
            refused.insert(key);
            let limits = refused.iter().map(|key| (*key, Vec::new())).collect();
            if self.network.is_connected(other, node)
                && let Some(running) = &mut self.nodes[other].running
            {
                let peer = PeerId(node as u64);
                running.replicator.limit(self.now, peer, limits);
                self.drain(other);
            }
        }
    }

    /// The index cannot write its checkpoint: nothing of what it was given may stay.
    fn refuse_index(&mut self, node: usize) {
        let Some(path) = self.nodes[node].index_path.clone() else {
            return;
        };
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        let blocks = running.faults.paused(|| running.unread());
        let Some(index) = running.index.as_mut().filter(|_| !blocks.is_empty()) else {
            return;
        };
        let before = index.dump_hash().unwrap();
        let other = rusqlite::Connection::open(&path).unwrap();
        other
            .execute_batch(
                "CREATE TRIGGER refuses BEFORE INSERT ON meta BEGIN SELECT RAISE (ABORT, 'full'); END",
            )
            .unwrap();
        let refused = index.ingest(&blocks);
        other.execute_batch("DROP TRIGGER refuses").unwrap();
        assert!(refused.is_err(), "the index wrote what it could not write");
        assert_eq!(
            index.dump_hash().unwrap(),
            before,
            "tables: something stays of what the index of node {node} could not write"
        );
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.network.split = None;
        for link in self.network.links.values_mut() {
            link.blocked_until = self.now;
        }
        for node in 0..self.nodes.len() {
            match &self.nodes[node].running {
                None => self.start(node),
                Some(running) => {
                    running.faults.heal();
                    if running.has_failed || running.faults.fired() {
                        self.restart(node);
                    }
                }
            }
        }
        for (one, other) in self.acquainted.clone() {
            self.soon(500_000, Event::Connect { one, other });
        }
    }
}
