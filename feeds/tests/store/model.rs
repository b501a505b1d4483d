//! Random operations against the simplest thing that could be right.

use bytes::Bytes;
use kinlog_feeds::store::{Feed, MemoryDisk, Store};
use proptest::prelude::*;

use crate::support::*;

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<Bytes>),
    Get(u64),
    Fetch(Vec<u64>),
    Clear(u64, u64),
    Compact,
    Reopen { clean: bool, keep_index: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let data = prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => proptest::collection::vec(any::<u8>(), 4090..4110),
    ];
    let batch = proptest::collection::vec(data.prop_map(Bytes::from), 0..8);
    prop_oneof![
        4 => batch.prop_map(Op::Append),
        3 => (0..80u64).prop_map(Op::Get),
        3 => proptest::collection::vec(0..80u64, 0..6).prop_map(Op::Fetch),
        1 => (0..80u64, 1..10u64).prop_map(|(start, count)| Op::Clear(start, count)),
        1 => Just(Op::Compact),
        1 => any::<(bool, bool)>()
            .prop_map(|(clean, keep_index)| Op::Reopen { clean, keep_index }),
    ]
}

/// Opens with checkpoints after every few operations.
fn opened(disk: &MemoryDisk) -> Store {
    let options = small().checkpoint_every(3 * 1024).rebuild_every(5 * 1024);
    Store::open(disk.as_disk(), options).unwrap()
}

/// A writer's store and a follower's on one disk each, and what each should hold.
struct World {
    disks: [MemoryDisk; 2],
    stores: [Store; 2],
    feeds: [Feed; 2],
    written: Vec<Bytes>,
    held: [Vec<Option<Bytes>>; 2],
}

impl World {
    fn new() -> Self {
        let disks = [MemoryDisk::new(), MemoryDisk::new()];
        let stores = [opened(&disks[0]), opened(&disks[1])];
        let own = own_feed(&stores[0], &writer());
        let following = follower(&stores[1], &own);
        World {
            disks,
            stores,
            feeds: [own, following],
            written: Vec::new(),
            held: [Vec::new(), Vec::new()],
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Append(blocks) => {
                let appended = self.feeds[0].append_batch(&writer(), &blocks).unwrap();
                assert_eq!(appended.start, self.written.len() as u64);
                self.held[0].extend(blocks.iter().cloned().map(Some));
                self.written.extend(blocks);
                assert_eq!(appended.length, self.written.len() as u64);
            }
            Op::Get(index) => {
                for side in 0..2 {
                    let expected = self.held[side].get(index as usize).cloned().flatten();
                    assert_eq!(self.feeds[side].has(index), expected.is_some());
                    assert_eq!(self.feeds[side].get(index).unwrap(), expected);
                }
            }
            Op::Fetch(indexes) => self.fetch(&indexes),
            Op::Clear(start, count) => {
                for side in 0..2 {
                    self.feeds[side].clear(start..start + count).unwrap();
                    let end = self.held[side].len().min((start + count) as usize);
                    if let Some(gone) = self.held[side].get_mut(start as usize..end) {
                        gone.fill(None);
                    }
                }
            }
            Op::Compact => {
                for store in &self.stores {
                    store.compact().unwrap();
                }
            }
            Op::Reopen { clean, keep_index } => {
                for side in 0..2 {
                    if clean {
                        self.stores[side].close().unwrap();
                    }
                    let mut files = self.disks[side].to_files();
                    if !keep_index {
                        files.remove("index");
                    }
                    self.disks[side] = disk_of(&files);
                    self.stores[side] = opened(&self.disks[side]);
                    let key = self.feeds[side].key();
                    self.feeds[side] = self.stores[side].feed(&key).unwrap();
                    assert_eq!(self.stores[side].open_report().tail_dropped, None);
                }
            }
        }
    }

    fn fetch(&mut self, indexes: &[u64]) {
        let (source, feed) = (&self.feeds[0], &self.feeds[1]);
        let (length, ours) = (source.head().length, feed.head().length);
        let mut items = Vec::new();
        if length > ours {
            items.push(upgrade_item(source, ours));
        }
        let known = indexes.iter().copied().filter(|index| source.has(*index));
        let known: Vec<u64> = known.collect();
        items.extend(known.iter().map(|index| block_item(source, *index)));
        for result in feed.apply(&items).unwrap() {
            result.unwrap();
        }
        self.held[1].resize(self.written.len(), None);
        for index in known {
            self.held[1][index as usize] = Some(self.written[index as usize].clone());
        }
    }

    fn check(&self) {
        for side in 0..2 {
            let (feed, held) = (&self.feeds[side], &self.held[side]);
            let all: Vec<_> = (0..held.len() as u64)
                .map(|index| feed.get(index).unwrap())
                .collect();
            assert_eq!(&all, held);
            let info = feed.info();
            assert_eq!(info.blocks_held, held.iter().flatten().count() as u64);
            let bytes: usize = held.iter().flatten().map(Bytes::len).sum();
            assert_eq!(info.bytes_held, bytes as u64);
            assert_eq!(feed.verify().unwrap().problems, vec![]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_vector_does(ops in proptest::collection::vec(op(), 1..40)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.check();
    }
}
