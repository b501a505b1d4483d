//! A directory read by its newest snapshot and what came after it says what the whole of it says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kinlog_feeds::crypto::{AgentId, DeviceKey, FeedKey, Hash, KeyPair};
use kinlog_feeds::manifest::Manifest;
use kinlog_indexer::directory::{PageFault, Wanted};
use kinlog_indexer::entry::{
    Body, ClaimScope, Content, Cut, DirectoryLine, DirectoryRedirect, DirectoryRename,
    DirectoryRetire, Entry, FeedClaim, Link, LinkScope, Links, PageRef, Profile, Snapshot,
    SnapshotPage, SnapshotRow, Stands,
};
use kinlog_indexer::index::{Block, DirectoryRow, FeedContext, Scope};
use kinlog_indexer::limits::{SNAPSHOT_EVERY, SNAPSHOT_PAGE_BYTES};
use kinlog_indexer::{Clock, Index, Text};
use proptest::prelude::*;

/// A device of the agent with its directory.
struct Device {
    key: DeviceKey,
    directory: FeedKey,
    blocks: Vec<Bytes>,
    root: Option<u64>,
}

/// A path that goes on in a feed of a device.
#[derive(Clone, Copy)]
struct Live {
    feed: FeedKey,
    device: usize,
}

/// What two devices of an agent wrote one after the other, each knowing what the other did.
struct History {
    agent: AgentId,
    devices: Vec<Device>,
    index: Index,
    new: Vec<Block>,
    entries: u64,
    feeds: u64,
    live: BTreeMap<String, Live>,
}

fn empty_index(agent: AgentId, devices: &[Device]) -> Index {
    let mut index = Index::open_in_memory().unwrap();
    for device in devices {
        let scope = Scope::Directory {
            author: agent,
            device: device.key,
        };
        let key = device.directory;
        index.put_feed(FeedContext { key, scope }).unwrap();
    }
    index
}

impl History {
    fn new() -> Self {
        let agent = AgentId([1; 32]);
        let device = |number| Device {
            key: DeviceKey([number; 32]),
            directory: FeedKey([number + 10; 32]),
            blocks: Vec::new(),
            root: None,
        };
        let devices = vec![device(2), device(3)];
        let mut history = History {
            agent,
            index: empty_index(agent, &devices),
            devices,
            new: Vec::new(),
            entries: 0,
            feeds: 0,
            live: BTreeMap::new(),
        };
        let profile = Profile::named(Text::new("Ada").unwrap());
        history.write(0, Body::Profile(profile));
        history
    }

    fn write(&mut self, device: usize, body: Body) {
        let scope = LinkScope::Author(self.agent);
        let writer = &mut self.devices[device];
        let root = writer.root.map(|root| {
            let hash = Hash([root as u8; 32]);
            Link::new(&scope, &writer.directory, root, &hash)
        });
        self.entries += 1;
        let entry = Entry {
            links: Links::new(root.into_iter().collect(), false).unwrap(),
            depth: self.entries,
            clock: Clock {
                ms: 1_000 + self.entries,
                counter: 0,
            },
            body,
        };
        let bytes = entry.encode_open().unwrap();
        self.new.push(Block {
            feed: writer.directory,
            index: writer.blocks.len() as u64,
            bytes: bytes.clone(),
        });
        writer.blocks.push(bytes);
    }

    /// Indexes what is new, and writes the snapshots that are due.
    fn settle(&mut self) {
        self.index.ingest(&std::mem::take(&mut self.new)).unwrap();
        for device in 0..self.devices.len() {
            let (key, directory) = (self.devices[device].key, self.devices[device].directory);
            let next = self.index.next_snapshot(&self.agent, &key, &directory);
            let Some(next) = next.unwrap() else { continue };
            for body in next.bodies(self.devices[device].blocks.len() as u64) {
                self.write(device, body);
            }
            self.devices[device].root = Some(self.devices[device].blocks.len() as u64 - 1);
            self.index.ingest(&std::mem::take(&mut self.new)).unwrap();
        }
    }

    fn line(&mut self, device: usize, label: &str, continues: Option<Cut>) -> DirectoryLine {
        self.feeds += 1;
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&self.feeds.to_le_bytes());
        let pair = KeyPair::from_seed(&seed);
        let scope = ClaimScope::Agent(self.agent);
        DirectoryLine {
            label: Text::new(label).unwrap(),
            kind: Text::new("log").unwrap(),
            content: Content::Bytes,
            feed: Manifest::single(pair.public_key()).key(),
            feed_id: [self.feeds as u8; 16],
            claim: FeedClaim::sign(&pair, &scope, &self.agent, &self.devices[device].key),
            continues,
        }
    }

    fn create(&mut self, device: usize, label: &str) {
        if self.live.contains_key(label) {
            return;
        }
        let line = self.line(device, label, None);
        let feed = line.feed;
        self.live.insert(label.to_owned(), Live { feed, device });
        self.write(device, Body::DirectoryLine(line));
    }

    fn step(&mut self, step: &Step) {
        let nth = |live: &BTreeMap<String, Live>, number: usize| {
            let count = live.len().max(1);
            live.iter()
                .nth(number % count)
                .map(|(label, one)| (label.clone(), *one))
        };
        match step {
            Step::Create(device, label) => self.create(*device, label),
            Step::Rename(number, to) => {
                let Some((from, one)) = nth(&self.live, *number) else {
                    return;
                };
                if self.live.contains_key(to) {
                    return;
                }
                self.live.remove(&from);
                self.live.insert(to.clone(), one);
                let label = |label: &str| Text::new(label).unwrap();
                let (feed, device) = (one.feed, one.device);
                let rename = DirectoryRename {
                    feed,
                    label: label(to),
                };
                self.write(device, Body::DirectoryRename(rename));
                let redirect = DirectoryRedirect {
                    from: label(&from),
                    to: label(to),
                };
                self.write(device, Body::DirectoryRedirect(redirect));
            }
            Step::Take(number) => {
                let Some((label, one)) = nth(&self.live, *number) else {
                    return;
                };
                let device = 1 - one.device;
                let cut = Cut {
                    feed: one.feed,
                    length: *number as u64 % 9,
                    tree_hash: Hash([7; 32]),
                };
                let line = self.line(device, &label, Some(cut));
                let feed = line.feed;
                self.live.insert(label, Live { feed, device });
                self.write(device, Body::DirectoryLine(line));
            }
            Step::Retire(number) => {
                let Some((label, one)) = nth(&self.live, *number) else {
                    return;
                };
                self.live.remove(&label);
                let feed = one.feed;
                self.write(one.device, Body::DirectoryRetire(DirectoryRetire { feed }));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(usize, String),
    Rename(usize, String),
    Take(usize),
    Retire(usize),
}

/// A label of one of a few folders; long, so that snapshots come soon.
fn label(names: usize) -> impl Strategy<Value = String> {
    (0..4usize, 0..names)
        .prop_map(|(folder, name)| format!("/{}/{name:-<140}", ["a", "b", "b-c", "long"][folder]))
}

fn step(names: usize) -> impl Strategy<Value = Step> {
    let create = (0..2usize, label(names));
    prop_oneof![
        6 => create.prop_map(|(device, label)| Step::Create(device, label)),
        2 => (any::<usize>(), label(names)).prop_map(|(number, label)| Step::Rename(number, label)),
        1 => any::<usize>().prop_map(Step::Take),
        1 => any::<usize>().prop_map(Step::Retire),
    ]
}

/// Fetches what a reader of a prefix needs, wave by wave; returns how many there were, and bytes.
fn follow(history: &History, index: &mut Index, prefix: &str) -> (usize, usize) {
    let (mut waves, mut bytes) = (0, 0);
    loop {
        let leads = index.leads(&history.agent).unwrap();
        let wanted = Wanted::new([prefix.to_owned()], &leads);
        let mut fetched = Vec::new();
        for device in &history.devices {
            let (key, length) = (device.directory, device.blocks.len() as u64);
            let state = index.snapshot_state(&key).unwrap();
            let blocks = wanted.blocks(&state.held(), length).into_iter().flatten();
            let missing: BTreeSet<u64> = blocks
                .filter(|at| *at < length && !index.is_indexed(&key, *at))
                .collect();
            fetched.extend(missing.into_iter().map(|at| Block {
                feed: key,
                index: at,
                bytes: device.blocks[at as usize].clone(),
            }));
        }
        if fetched.is_empty() {
            return (waves, bytes);
        }
        waves += 1;
        bytes += fetched.iter().map(|block| block.bytes.len()).sum::<usize>();
        index.ingest(&fetched).unwrap();
    }
}

/// Returns the feeds under a prefix, or under a label that leads there from it.
fn covered(index: &Index, agent: &AgentId, prefix: &str) -> Vec<DirectoryRow> {
    let rows = index.directory(agent).unwrap();
    let redirects = index.redirects(agent).unwrap();
    let listed: BTreeSet<String> = rows.iter().map(|row| row.label.clone()).collect();
    let below = Wanted::new([prefix.to_owned()], &[]);
    let mut labels: BTreeSet<String> = listed.clone();
    labels.retain(|label| below.covers(label));
    let from = redirects.keys();
    for mut at in from.filter(|from| below.covers(from) && !listed.contains(*from)) {
        for _ in 0..redirects.len() {
            match redirects.get(at) {
                Some(next) if !listed.contains(at) => at = next,
                _ => break,
            }
        }
        labels.insert(at.clone());
    }
    rows.into_iter()
        .filter(|row| labels.contains(&row.label))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_and_its_tail_say_what_the_whole_directory_says(
        steps in proptest::collection::vec(step(60), 500..900),
        prefix in prop_oneof![
            Just("/a".to_owned()), Just("/b".to_owned()), Just("/b-c".to_owned()),
            Just(String::new()), label(60),
        ],
        meets in 1usize..4,
    ) {
        let mut history = History::new();
        // One who comes back now and then, and one who comes at the end.
        let mut regular = empty_index(history.agent, &history.devices);
        for (number, step) in steps.iter().enumerate() {
            history.step(step);
            if number % 40 == 39 {
                history.settle();
            }
            if number % (steps.len() / meets) == 0 {
                history.settle();
                follow(&history, &mut regular, &prefix);
            }
        }
        history.settle();
        prop_assert!(history.devices.iter().any(|device| device.root.is_some()));
        let mut late = empty_index(history.agent, &history.devices);
        for reader in [&mut regular, &mut late] {
            follow(&history, reader, &prefix);
            let agent = &history.agent;
            let (read, whole) = (covered(reader, agent, &prefix), covered(&history.index, agent, &prefix));
            prop_assert_eq!(read, whole);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn paths_of_entries_that_come_one_by_one_are_those_of_all_at_once(
        steps in proptest::collection::vec(step(2), 1..90),
        first in 0usize..2,
    ) {
        let mut history = History::new();
        steps.iter().for_each(|step| history.step(step));
        let blocks = std::mem::take(&mut history.new);
        let mut at_once = empty_index(history.agent, &history.devices);
        at_once.ingest(&blocks).unwrap();
        // As they were written; and all of one device before those of the other.
        let (mut in_order, mut apart) = (
            empty_index(history.agent, &history.devices),
            empty_index(history.agent, &history.devices),
        );
        let is_first = |block: &&Block| block.feed == history.devices[first].directory;
        let sides = blocks.iter().filter(is_first);
        let sides = sides.chain(blocks.iter().filter(|block| !is_first(block)));
        for (index, blocks) in [
            (&mut in_order, blocks.iter().collect::<Vec<_>>()),
            (&mut apart, sides.collect()),
        ] {
            for block in blocks {
                let before = index.directory(&history.agent).unwrap();
                let before = (before, index.redirects(&history.agent).unwrap());
                let report = index.ingest(std::slice::from_ref(block)).unwrap();
                let now = index.directory(&history.agent).unwrap();
                let now = (now, index.redirects(&history.agent).unwrap());
                let told = report.agents.get(&history.agent).is_some_and(|told| told.paths);
                prop_assert!(told || before == now, "nobody is told that paths changed");
            }
            prop_assert_eq!(index.dump_hash().unwrap(), at_once.dump_hash().unwrap());
        }
    }
}

#[test]
fn one_of_many_paths_is_found_in_four_waves_and_the_name_comes_along() {
    let mut history = History::new();
    for number in 0..1500u64 {
        // In no order, as people name things.
        history.create(0, &format!("/paths/{:03}/p{number:04}", number * 611 % 500));
        if number % 50 == 49 {
            history.settle();
        }
    }
    history.settle();
    let root = history.devices[0].root.unwrap();
    let tail = history.devices[0].blocks.len() as u64 - root;
    assert!(
        tail <= SNAPSHOT_EVERY,
        "{tail} entries after the last snapshot"
    );
    let mut reader = empty_index(history.agent, &history.devices);
    // Head, then root and tail, then pages: the wave before them is the signed head's.
    let (waves, bytes) = follow(&history, &mut reader, "/paths/250");
    assert_eq!(waves, 3);
    assert!(bytes < 100 * 1024, "{bytes} B");
    let found = covered(&reader, &history.agent, "/paths/250");
    assert_eq!(found.len(), 3);
    assert_eq!(found, covered(&history.index, &history.agent, "/paths/250"));
    assert!(
        reader.directory(&history.agent).unwrap().len() < 400,
        "not the whole directory"
    );
    let profile = reader.profile(&history.agent).unwrap();
    assert_eq!(profile.unwrap().name, "Ada");

    // Nobody writes pages again that did not change.
    let mut before = 0;
    for number in 0..600 {
        history.create(0, &format!("/paths/250/q{number:04}"));
        if number % 50 == 49 {
            history.settle();
        }
        // The first half takes what came before it into its snapshot.
        if number == 300 {
            before = history.devices[0].blocks.len();
        }
    }
    let written = &history.devices[0].blocks[before..];
    let pages = written
        .iter()
        .filter(|block| block.len() > SNAPSHOT_PAGE_BYTES / 4);
    let bytes: usize = pages.map(Bytes::len).sum();
    assert!(
        bytes < 200 * 1024,
        "{bytes} B of pages and roots for 300 paths side by side"
    );
}

/// Writes rows as a page, of any label; returns its block.
fn write_page(history: &mut History, labels: &[&str]) -> u64 {
    let rows = labels.iter().map(|label| SnapshotRow::Line {
        line: Box::new(history.line(0, label, None)),
        first_label: None,
        is_retired: false,
        head: None,
        at: Stands::default(),
    });
    let rows = rows.collect();
    history.write(0, Body::SnapshotPage(SnapshotPage::new(rows).unwrap()));
    history.devices[0].blocks.len() as u64 - 1
}

#[test]
fn a_page_that_is_not_what_its_root_says_is_refused_and_the_others_are_read() {
    let mut history = History::new();
    // No reader below asks for this: whoever holds everything needs no snapshot.
    history.create(0, "/zz");
    let good = write_page(&mut history, &["/a/1", "/a/2"]);
    let too_far = write_page(&mut history, &["/b/1", "/d/9"]);
    let other_first = write_page(&mut history, &["/c/2"]);
    let pages = [
        ("/a/1", good),
        ("/b/1", too_far),
        ("/c/1", other_first),
        ("/d/1", 0),
        ("/e", 99),
    ];
    let pages = pages.map(|(first, index)| PageRef {
        first_label: Text::new(first).unwrap(),
        index,
    });
    history.write(
        0,
        Body::Snapshot(Snapshot::new(pages.into(), vec![]).unwrap()),
    );
    let root = history.devices[0].blocks.len() as u64 - 1;
    history.devices[0].root = Some(root);
    history.create(0, "/a/3");
    let mut reader = empty_index(history.agent, &history.devices);
    // Block 0 is the profile; it is fetched because the root calls it a page.
    for prefix in ["/a", "/b", "/c", "/d"] {
        follow(&history, &mut reader, prefix);
    }
    let rows = reader.directory(&history.agent).unwrap();
    let labels: Vec<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    assert_eq!(labels, ["/a/1", "/a/2", "/a/3"]);
    let state = reader
        .snapshot_state(&history.devices[0].directory)
        .unwrap();
    let past = PageFault::PastEnd {
        index: too_far,
        end: "/c/1".to_owned(),
        actual: "/d/9".to_owned(),
    };
    let other = PageFault::OtherFirst {
        index: other_first,
        expected: "/c/1".to_owned(),
        actual: "/c/2".to_owned(),
    };
    let behind = PageFault::NotBefore { root, index: 99 };
    let faults = [past, other, PageFault::NotAPage { index: 0 }, behind];
    assert_eq!(state.faults, faults);
}
