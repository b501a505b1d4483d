//! Eight replicas of one room in which people fight: whatever each reads first, again, late or
//! after a restart, whether it gave up what was deleted or not, their tables are the same, the same as after a rebuild, and what the plain fold
//! of `quarrel/fold.rs` says. Which it would notice is shown by mistakes made on purpose.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "quarrel/mod.rs"]
mod quarrel;
#[path = "acts/reference.rs"]
mod reference;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use kinlog_feeds::crypto::{FeedKey, Hash};
use kinlog_indexer::authority::{Authority, Verdict};
use kinlog_indexer::entry::{Act, Body, Cut, Deed, LinkScope, Ref, Remove, Role};
use kinlog_indexer::index::{Block, HeadHash, IngestReport, Scope, TreeHashes};
use kinlog_indexer::mistake::{Mistake, make};
use kinlog_indexer::{Index, RoomId, Text};
use quarrel::fold::{Said, Seen, fold};
use quarrel::{Quarrel, keys};
use testkit::process::Folder;
use testkit::random::{Random, usual_seed};
use testkit::soak;
use world::{World, admit_as, message, profile, room_feed};

const REPLICAS: u64 = 8;

/// Rooms of an ordinary run, each with eight replicas.
const ROOMS: u64 = 150;

/// Rooms of a soak run.
const SOAK_ROOMS: u64 = 20_000;

/// Where the rooms of an ordinary run begin: the same in each, so that a run says the same of the same
/// code. A soak goes on from the clock's seed.
const SEED: u64 = 1_795_000_000_000_000_000;

/// Threads that make them: one for each core of the machines that test.
const THREADS: u64 = 2;

/// Files made so far: none is used twice, whatever became of who used it.
static FILES: AtomicU64 = AtomicU64::new(0);

/// What was fought about in the rooms of a run.
#[derive(Debug, Default)]
struct Fights {
    void: AtomicU64,
    refused: AtomicU64,
    waiting: AtomicU64,
    cut: AtomicU64,
    gone: AtomicU64,
    forks: AtomicU64,
    disputes: AtomicU64,
    healed: AtomicU64,
    messages: AtomicU64,
    deleted: AtomicU64,
    undone: AtomicU64,
    emptied: AtomicU64,
    fetched_again: AtomicU64,
}

fn add(to: &AtomicU64, count: usize) {
    to.fetch_add(count as u64, Ordering::Relaxed);
}

/// Reads `blocks` in some order, some of them twice, in parts, each key at any time; looks at what it
/// has in between, and begins anew from its file now and then.
struct Replica<'a> {
    quarrel: &'a Quarrel,
    branch: usize,
    random: Random,
    /// Where its file is, of one that has one.
    path: Option<std::path::PathBuf>,
}

impl Replica<'_> {
    fn open(&self, trees: &quarrel::Trees) -> Index {
        let mut index = match &self.path {
            Some(path) => Index::open(path).unwrap(),
            None => empty(),
        };
        index.set_tree_hashes(Box::new(trees.clone()));
        index
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn read(mut self, blocks: &[Block], fights: &Fights) -> Index {
        let room = self.quarrel.room;
        let trees = self.quarrel.trees(self.branch);
        let mut index = self.open(&trees);
        let mut store = Store::default();
        let empties = self.chance(50);
        let mut blocks = blocks.to_vec();
        for at in (1..blocks.len()).rev() {
            blocks.swap(at, self.random.index(at + 1));
        }
        // What voids deletions comes after everything else: they have counted until then.
        let undoes = self.quarrel.undoes.filter(|_| self.chance(70));
        blocks.sort_by_key(|block| Some(at_of(block)) == undoes);
        let mut keys: Vec<_> = keys()
            .into_iter()
            .map(|key| (self.random.index(blocks.len() + 1), key))
            .collect();
        // Most keys are there from the beginning.
        for (at, _) in &mut keys {
            if self.random.below(2) == 0 {
                *at = 0;
            }
        }
        let contexts: BTreeMap<_, _> = self.quarrel.contexts().map(|one| (one.key, one)).collect();
        let mut at = 0;
        while at < blocks.len() {
            let end = (at + 1 + self.random.index(12)).min(blocks.len());
            for (when, key) in &keys {
                if (at..end).contains(when) {
                    let report = index.put_epoch_key(room, key.clone()).unwrap();
                    store.take_in(&mut index, report);
                }
            }
            for block in &blocks[at..end] {
                let report = index.put_feed(contexts[&block.feed]).unwrap();
                store.take_in(&mut index, report);
                trees.hear(block);
            }
            store.put(&blocks[at..end]);
            let report = index.ingest(&blocks[at..end]).unwrap();
            store.take_in(&mut index, report);
            if empties && self.chance(60) {
                store.empty(&mut index);
            }
            if self.chance(10) {
                store.fetch_again(&mut index, &blocks[..end], fights);
            }
            if self.chance(15) {
                let again = self.random.index(end);
                if !store.lost.contains(&at_of(&blocks[again])) {
                    let report = index.ingest(&blocks[again..=again]).unwrap();
                    assert_eq!(report.entries, 0);
                    store.take_in(&mut index, report);
                }
                index.messages(&room, 20).unwrap();
                index.authority(&room).unwrap();
                index.dump_hash().unwrap();
            }
            if self.path.is_some() && self.chance(25) {
                drop(index);
                index = self.open(&trees);
                for (when, key) in &keys {
                    if *when < end {
                        let report = index.put_epoch_key(room, key.clone()).unwrap();
                        store.take_in(&mut index, report);
                    }
                }
                store.begin(&mut index);
            }
            at = end;
        }
        // Only what nobody said before: what is told again may have a room looked at again.
        let told: BTreeSet<FeedKey> = blocks.iter().map(|block| block.feed).collect();
        for context in contexts
            .into_values()
            .filter(|one| !told.contains(&one.key))
        {
            let report = index.put_feed(context).unwrap();
            store.take_in(&mut index, report);
        }
        for (_, key) in keys.into_iter().filter(|(when, _)| *when >= blocks.len()) {
            let report = index.put_epoch_key(room, key).unwrap();
            store.take_in(&mut index, report);
        }
        store.fetch_again(&mut index, &blocks, fights);
        add(&fights.emptied, store.gone.len());
        add(&fights.undone, store.undone);
        index
    }
}

/// What a replica holds, and what it gave up because it was deleted.
#[derive(Default)]
struct Store {
    held: BTreeMap<Ref, Block>,
    /// Read, deleted, and still held.
    deleted: BTreeMap<Ref, HeadHash>,
    gone: BTreeMap<Ref, HeadHash>,
    /// Gone, and not deleted any more.
    lost: BTreeSet<Ref>,
    undone: usize,
}

impl Store {
    fn put(&mut self, blocks: &[Block]) {
        let blocks = blocks.iter().cloned();
        self.held.extend(blocks.map(|block| (at_of(&block), block)));
    }

    /// Does what a host does after each step: what is not deleted any more is read again.
    fn take_in(&mut self, index: &mut Index, report: IngestReport) {
        let mut reports = vec![report];
        while let Some(report) = reports.pop() {
            for (at, ended) in report.deleted {
                if !self.gone.contains_key(&at) {
                    self.deleted.insert(at, ended.head);
                }
            }
            for at in report.undone {
                self.undone += 1;
                self.deleted.remove(&at);
                if let Some(head) = self.gone.remove(&at) {
                    assert!(!index.is_deleted(&at, &head).unwrap());
                    self.lost.insert(at);
                    continue;
                }
                let block = self.held[&at].clone();
                reports.push(index.ingest(&[block]).unwrap());
            }
        }
    }

    /// Gives up what is deleted.
    fn empty(&mut self, index: &mut Index) {
        let deleted = std::mem::take(&mut self.deleted);
        index.put_gone(deleted.clone());
        self.held.retain(|at, _| !deleted.contains_key(at));
        self.gone.extend(deleted);
    }

    /// Takes from somebody else what was given up too early.
    fn fetch_again(&mut self, index: &mut Index, others: &[Block], fights: &Fights) {
        let lost = std::mem::take(&mut self.lost);
        let blocks: Vec<Block> = others
            .iter()
            .filter(|block| lost.contains(&at_of(block)))
            .cloned()
            .collect();
        add(&fights.fetched_again, blocks.len());
        self.put(&blocks);
        let report = index.ingest(&blocks).unwrap();
        self.take_in(index, report);
    }

    /// Begins anew with an index from its file.
    fn begin(&mut self, index: &mut Index) {
        index.put_gone(self.gone.clone());
        for (at, head) in &self.gone {
            assert!(index.is_deleted(at, head).unwrap(), "it was told before");
        }
        let unread = self.held.values().filter(|block| {
            let runs = index.indexed(&block.feed).unwrap();
            !runs.iter().any(|run| run.contains(&block.index))
        });
        let unread: Vec<Block> = unread.cloned().collect();
        let report = index.ingest(&unread).unwrap();
        self.take_in(index, report);
    }
}

fn at_of(block: &Block) -> Ref {
    Ref {
        feed: block.feed,
        index: block.index,
    }
}

thread_local! {
    /// Indexes that were used before: to make one costs more than to fill it.
    static USED: RefCell<Vec<Index>> = const { RefCell::new(Vec::new()) };
}

/// Returns an index in memory that holds nothing.
fn empty() -> Index {
    let used = USED.with_borrow_mut(Vec::pop);
    let mut index = used.unwrap_or_else(|| Index::open_in_memory().unwrap());
    index.rebuild(&mut quarrel::Source::nothing()).unwrap();
    index
}

fn keep(index: Index) {
    USED.with_borrow_mut(|used| used.push(index));
}

/// Reads `blocks` as they stand, with all keys at hand.
fn straight(quarrel: &Quarrel, branch: usize, blocks: &[Block]) -> Index {
    let mut index = empty();
    let trees = quarrel.trees(branch);
    index.set_tree_hashes(Box::new(trees.clone()));
    for key in keys() {
        index.put_epoch_key(quarrel.room, key).unwrap();
    }
    for context in quarrel.contexts() {
        index.put_feed(context).unwrap();
    }
    blocks.iter().for_each(|block| trees.hear(block));
    index.ingest(blocks).unwrap();
    index
}

/// What people see of an index.
fn seen(index: &Index, room: &RoomId) -> Seen {
    let mut seen = Seen::default();
    for feed in index.member_feeds(room).unwrap() {
        seen.feeds.insert(feed.feed, feed.cut);
        if let Some(role) = feed.role {
            seen.roles.insert(feed.agent, role);
        }
    }
    for message in index.messages(room, 1_000).unwrap() {
        let reactions = index.reactions(&message).unwrap().into_iter();
        let reactions = reactions.map(|one| (one.entry, one.emoji)).collect();
        seen.messages.push(Said {
            at: message.entry(),
            by: message.agent,
            text: message.text,
            deleted_by: message.deleted.map(|(by, _)| by),
            reactions,
        });
    }
    seen
}

/// One room, its eight replicas, and what they must agree on.
fn agree(case: u64, folder: &Folder, fights: &Fights) {
    let quarrel = Quarrel::new(case);
    let room = quarrel.room;
    let branches = if quarrel.fork.is_some() { 2 } else { 1 };
    let mut hashes = Vec::new();
    let mut contested = Vec::new();
    for branch in 0..branches {
        let what = format!("KINLOG_SEED={case}, branch {branch}");
        let blocks = quarrel.blocks(branch);
        let mut index = straight(&quarrel, branch, &blocks);
        let expected = index.dump_hash().unwrap();
        assert_eq!(
            seen(&index, &room),
            fold(&room, &blocks, &keys()),
            "{what}: not what the fold says"
        );
        let authority = index.authority(&room).unwrap();
        for number in (0..REPLICAS).filter(|number| *number as usize % branches == branch) {
            let mut random = Random::new(case ^ (number + 1) << 32);
            let path = (number == 0).then(|| {
                let file = FILES.fetch_add(1, Ordering::Relaxed);
                folder.join(format!("{file}.db"))
            });
            // The last ones have heard part of it only.
            let mut some = blocks.clone();
            let is_part = number >= REPLICAS - 2;
            if is_part {
                some.retain(|_| random.below(100) < 80);
            }
            let replica = Replica {
                quarrel: &quarrel,
                branch,
                random,
                path: path.clone(),
            };
            let read = replica.read(&some, fights);
            let (theirs, ours) = if is_part {
                let other = straight(&quarrel, branch, &some);
                let comes_to = (other.dump_hash().unwrap(), other.authority(&room).unwrap());
                keep(other);
                comes_to
            } else {
                (expected, authority.clone())
            };
            told(
                &read.authority(&room).unwrap(),
                &ours,
                &format!("{what}, replica {number}"),
            );
            assert_eq!(
                read.dump_hash().unwrap(),
                theirs,
                "{what}, replica {number}"
            );
            match path {
                Some(path) => {
                    drop(read);
                    std::fs::remove_file(path).unwrap();
                }
                None => keep(read),
            }
        }
        index.rebuild(&mut quarrel.source(branch)).unwrap();
        assert_eq!(index.dump_hash().unwrap(), expected, "{what}, rebuilt");
        hashes.push(expected);
        contested.push(disputes(&quarrel, branch, &index, &what));
        count(&index, &authority, fights);
        keep(index);
    }
    // Whoever holds the other branch than the one that a cut names takes that one, and agrees.
    for (branch, disputed) in contested.iter().enumerate() {
        let other = 1 - branch;
        if *disputed && contested.get(other) == Some(&false) {
            let mut index = straight(&quarrel, branch, &quarrel.blocks(branch));
            let trees = quarrel.trees(other);
            quarrel
                .blocks(other)
                .iter()
                .for_each(|block| trees.hear(block));
            index.set_tree_hashes(Box::new(trees));
            index.rebuild(&mut quarrel.source(other)).unwrap();
            assert_eq!(
                index.dump_hash().unwrap(),
                hashes[other],
                "KINLOG_SEED={case}, healed"
            );
            add(&fights.healed, 1);
        }
    }
    add(&fights.forks, branches - 1);
}

/// Compares what two make of the acts, and names those on which they differ.
fn told(one: &Authority, other: &Authority, what: &str) {
    if one == other {
        return;
    }
    for (hash, row) in &one.acts {
        let theirs = other.acts.get(hash).map(|row| &row.verdict);
        if theirs != Some(&row.verdict) {
            println!(
                "{what}: {hash}, tag {}: {:?} and {theirs:?}",
                row.tag, row.verdict
            );
        }
    }
    panic!("{what}: the acts come to something else");
}

/// Returns whether the forked feed is disputed, and looks from where on.
fn disputes(quarrel: &Quarrel, branch: usize, index: &Index, what: &str) -> bool {
    let trees = quarrel.trees(branch);
    quarrel
        .blocks(branch)
        .iter()
        .for_each(|block| trees.hear(block));
    let disputes = index.disputed(&quarrel.room).unwrap();
    let mut is_forked = false;
    for dispute in &disputes {
        assert_ne!(dispute.held, dispute.stated);
        let (_, feeds) = (index, index.member_feeds(&quarrel.room).unwrap());
        let cut = feeds.iter().find(|feed| feed.feed == dispute.feed);
        let Some(length) = cut.and_then(|feed| feed.cut) else {
            continue;
        };
        assert_eq!(
            trees.tree_hash(&dispute.feed, length),
            Some(dispute.held),
            "{what}"
        );
        let from = trees.contested_from(&dispute.feed);
        let from = from.map_or(length - 1, |from| from.min(length - 1));
        assert_eq!(dispute.index, from, "{what}: disputed from another block");
        is_forked |= quarrel.fork.is_some_and(|(feed, _)| feed == dispute.feed);
    }
    is_forked
}

fn count(index: &Index, authority: &Authority, fights: &Fights) {
    for row in authority.acts.values() {
        match &row.verdict {
            Verdict::Void(_) => add(&fights.void, 1),
            Verdict::Refused(_) => add(&fights.refused, 1),
            Verdict::Waits(_) => add(&fights.waiting, 1),
            _ => {}
        }
    }
    let rooms = index.rooms().unwrap();
    for room in &rooms {
        let messages = index.messages(&room.id, 1_000).unwrap();
        add(&fights.messages, messages.len());
        let deleted = messages.iter().filter(|message| message.deleted.is_some());
        add(&fights.deleted, deleted.count());
        add(&fights.disputes, index.disputed(&room.id).unwrap().len());
    }
    let cut = authority.feeds.values().filter(|feed| !feed.is_live());
    add(&fights.cut, cut.count());
    let gone = authority
        .members
        .values()
        .filter(|member| member.role.is_none());
    add(&fights.gone, gone.count());
}

#[test]
fn eight_replicas_of_a_fight_agree_with_each_other_with_a_rebuild_and_with_the_fold() {
    let seed = usual_seed(SEED);
    println!("KINLOG_SEED={seed}");
    let folder = Folder::new("convergence");
    let fights = Fights::default();
    let rooms = soak::choose(ROOMS, SOAK_ROOMS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (folder, fights) = (&folder, &fights);
            scope.spawn(move || {
                for number in (thread..rooms).step_by(THREADS as usize) {
                    agree(seed.wrapping_add(number), folder, fights);
                }
            });
        }
    });
    println!("{rooms} rooms, {} replicas: {fights:?}", rooms * REPLICAS);
    let fought = [
        &fights.void,
        &fights.refused,
        &fights.waiting,
        &fights.cut,
        &fights.gone,
        &fights.forks,
        &fights.disputes,
        &fights.deleted,
        &fights.undone,
        &fights.emptied,
        &fights.fetched_again,
    ];
    for (number, fought) in fought.into_iter().enumerate() {
        assert!(
            fought.load(Ordering::Relaxed) > 0,
            "nobody fought: {number}"
        );
    }
}

/// Everything that a run of rooms has to notice, each within the rooms of an ordinary run; and a room that
/// showed it in one, which is tried first. Where it shows it no longer, all are gone through.
const MISTAKES: [(Mistake, u64); 11] = [
    (Mistake::WeakRemoval, 60),
    (Mistake::WeakRevocation, 35),
    (Mistake::StolenAddition, 19),
    (Mistake::BothBranches, 54),
    (Mistake::ExpiredInvite, 0),
    (Mistake::InviteWithoutEnd, 40),
    (Mistake::NoOwner, 20),
    (Mistake::CutShown, 0),
    (Mistake::LateKey, 8),
    (Mistake::LinkForgotten, 0),
    (Mistake::DeletionForgotten, 5),
];

#[test]
fn mistakes_are_noticed_within_an_ordinary_run() {
    let seed = usual_seed(SEED);
    println!("KINLOG_SEED={seed}");
    let folder = Folder::new("mistakes");
    std::panic::set_hook(Box::new(|_| ()));
    let tried = MISTAKES.len();
    let noticed = std::thread::scope(|scope| {
        let threads = (0..THREADS as usize).map(|thread| {
            let folder = &folder;
            scope.spawn(move || {
                let chosen = (thread..tried).step_by(THREADS as usize);
                let chosen = chosen.map(|at| &MISTAKES[(seed as usize + at) % MISTAKES.len()]);
                chosen
                    .map(|(mistake, likely)| {
                        make(Some(*mistake));
                        let mut rooms = std::iter::once(*likely).chain(0..ROOMS);
                        let noticed = rooms.find(|number| {
                            let case = seed.wrapping_add(*number);
                            let fights = Fights::default();
                            catch_unwind(AssertUnwindSafe(|| agree(case, folder, &fights))).is_err()
                        });
                        make(None);
                        println!("{mistake:?}: noticed in room {noticed:?}");
                        // And it was the mistake that was noticed.
                        if let Some(number) = noticed {
                            agree(seed.wrapping_add(number), folder, &Fights::default());
                        }
                        (*mistake, noticed)
                    })
                    .collect::<Vec<_>>()
            })
        });
        let threads: Vec<_> = threads.collect();
        let done = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        done.collect::<Vec<_>>()
    });
    drop(std::panic::take_hook());
    for (mistake, noticed) in noticed {
        assert!(noticed.is_some(), "nobody noticed {mistake:?}");
    }
}

/// Whether the dispute over `feed` is known before and after the last block of its cut, which comes
/// when all else is there.
fn disputed_around(quarrel: &Quarrel, feed: &FeedKey, length: u64) -> (bool, bool) {
    let mut index = empty();
    let trees = quarrel.trees(0);
    index.set_tree_hashes(Box::new(trees.clone()));
    for key in keys() {
        index.put_epoch_key(quarrel.room, key).unwrap();
    }
    for context in quarrel.contexts() {
        index.put_feed(context).unwrap();
    }
    let blocks = quarrel.blocks(0).into_iter();
    let (mut last, mut before) = (None, Vec::new());
    for block in blocks.filter(|block| block.feed != *feed || block.index < length) {
        match block.feed == *feed && block.index + 1 == length {
            true => last = Some(block),
            false => before.push(block),
        }
    }
    let mut is_known = |blocks: &[Block]| {
        blocks.iter().for_each(|block| trees.hear(block));
        index.ingest(blocks).unwrap();
        let disputes = index.disputed(&quarrel.room).unwrap();
        disputes.iter().any(|dispute| dispute.feed == *feed)
    };
    let around = (is_known(&before), is_known(last.as_slice()));
    keep(index);
    around
}

/// Rooms seldom end with it, so it is arranged; of a block that is an act the room is looked at anyway.
#[test]
fn a_cut_is_compared_with_the_tree_when_its_last_block_comes_after_all_else() {
    let (mut found, mut noticed) = (0, 0);
    for number in 0..8 * ROOMS {
        if noticed > 0 {
            break;
        }
        let quarrel = Quarrel::new(SEED.wrapping_add(number));
        let index = straight(&quarrel, 0, &quarrel.blocks(0));
        let disputes = index.disputed(&quarrel.room).unwrap();
        let feeds = index.member_feeds(&quarrel.room).unwrap();
        keep(index);
        for dispute in disputes {
            let mut feeds = feeds.iter();
            let cut = feeds.find(|feed| feed.feed == dispute.feed);
            let Some(length) = cut.and_then(|feed| feed.cut).filter(|cut| *cut > 0) else {
                continue;
            };
            if disputed_around(&quarrel, &dispute.feed, length) == (false, true) {
                found += 1;
                make(Some(Mistake::DisputeForgotten));
                let around = disputed_around(&quarrel, &dispute.feed, length);
                make(None);
                noticed += usize::from(around == (false, false));
            }
        }
    }
    println!("{found} disputes come with the last block, {noticed} are forgotten by the mistake");
    assert!(found > 0 && noticed > 0);
}

#[test]
fn one_block_less_is_another_room() {
    let seed = usual_seed(SEED);
    println!("KINLOG_SEED={seed}");
    let quarrel = Quarrel::new(seed);
    let blocks = quarrel.blocks(0);
    let mut index = straight(&quarrel, 0, &blocks);
    let expected = index.dump_hash().unwrap();
    for gone in 0..blocks.len() {
        // What was deleted is not missed.
        let again = index.ingest(&blocks[gone..=gone]).unwrap();
        if !again.deleted.is_empty() {
            continue;
        }
        let mut fewer = blocks.clone();
        fewer.remove(gone);
        let hash = straight(&quarrel, 0, &fewer).dump_hash().unwrap();
        assert_ne!(hash, expected, "without block {gone}");
    }
}

#[test]
fn a_removal_hides_what_is_behind_its_cut_and_moves_no_message() {
    let mut world = World::new(1, 3);
    for agent in 1..3 {
        let admit = admit_as(
            world.agents[agent].membership(&world.room, agent),
            Role::Member,
        );
        world.write(room_feed(0), agent as u64, 2_000, Default::default(), admit);
    }
    for number in 0..6 {
        let text = message(&format!("soup {number}"));
        world.write(
            room_feed(1),
            3 + number,
            3_000 + number,
            Default::default(),
            text,
        );
    }
    let name = profile("Ada");
    world.write(room_feed(1), 9, 4_000, Default::default(), name);
    let mut index = world.indexed();
    let texts = |index: &Index| {
        let messages = index.messages(&world.room, 10).unwrap();
        messages.into_iter().map(|row| row.text).collect::<Vec<_>>()
    };
    assert_eq!(texts(&index).len(), 6);
    let mut later = world.clone();
    let cut = |length, tree_hash| {
        Body::Act(Box::new(Act {
            parents: Default::default(),
            seq: 0,
            deed: Deed::Remove(Remove {
                agent: world.agents[1].id,
                cuts: vec![Cut {
                    feed: room_feed(1),
                    length,
                    tree_hash,
                }],
                reason: Text::new("enough").unwrap(),
            }),
        }))
    };
    let held = world.trees.tree_hash(&room_feed(1), 2).unwrap();
    let removal = later.write(room_feed(0), 10, 5_000, Default::default(), cut(2, held));
    index.ingest(&[removal]).unwrap();
    assert_eq!(texts(&index), ["soup 0", "soup 1"]);
    assert_eq!(index.search("soup", 10).unwrap().len(), 2);
    let members = index.room_members(&world.room).unwrap();
    let removed = |row: &&kinlog_indexer::index::MemberRow| row.agent == world.agents[1].id;
    let member = members.iter().find(removed).unwrap();
    assert_eq!(
        (member.left_at, member.display_name.as_deref()),
        (Some(5_000), None)
    );
    assert_eq!(
        index.dump_hash().unwrap(),
        later.indexed().dump_hash().unwrap()
    );
    assert_eq!(index.disputed(&world.room).unwrap().len(), 0);
    // What comes behind the cut is hidden too, and is not linked.
    let more = later.write(
        room_feed(1),
        11,
        6_000,
        Default::default(),
        message("soup 7"),
    );
    index.ingest(&[more]).unwrap();
    assert_eq!(texts(&index), ["soup 0", "soup 1"]);
    let frontier = index
        .frontier(LinkScope::Room(world.room), &room_feed(2))
        .unwrap();
    assert!(
        frontier
            .entries
            .iter()
            .all(|entry| entry.feed != room_feed(1))
    );
    // A cut that names another tree than the one that is held.
    let other = later.write(
        room_feed(0),
        12,
        7_000,
        Default::default(),
        cut(1, Hash([9; 32])),
    );
    index.ingest(&[other]).unwrap();
    assert_eq!(
        index.disputed(&world.room).unwrap().len(),
        0,
        "he is gone already"
    );
    let scope = Scope::Room(world.room);
    assert_eq!(later.feeds[&room_feed(1)].context.scope, scope);
}
