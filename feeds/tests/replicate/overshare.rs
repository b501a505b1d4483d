//! A swarm of 20 with overlapping interests: each gets what it asked for and next to nothing beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::once;
use std::ops::Range;
use std::time::Duration;

use kinlog_feeds::FeedKey;
use kinlog_feeds::replicate::Want;
use kinlog_feeds::store::Kind;

use crate::world::{World, assert_holds, content};

const NODES: usize = 20;

/// Nodes that have a feed of their own; each of the others follows some of them.
const WRITERS: usize = 4;

/// Bytes that a node of a proof may take: a hash, an index, a size.
const NODE_BYTES: usize = 42;

/// Bytes beside blocks and nodes that a message may take.
const FRAME_BYTES: usize = 64;

/// Returns how many nodes a reader of `wanted` has to be given, at least, to check them against the
/// roots: one for each largest subtree without any of them.
fn nodes_needed(wanted: &BTreeSet<u64>, subtree: Range<u64>) -> usize {
    let has_any = wanted.range(subtree.clone()).next().is_some();
    let blocks = subtree.end - subtree.start;
    match (has_any, blocks) {
        (false, _) => 1,
        (true, 1) => 0,
        (true, _) => {
            let middle = subtree.start + blocks / 2;
            nodes_needed(wanted, subtree.start..middle) + nodes_needed(wanted, middle..subtree.end)
        }
    }
}

/// Returns the subtrees under the roots of a tree of so many blocks.
fn roots(length: u64) -> Vec<Range<u64>> {
    let mut start = 0;
    let mut roots = Vec::new();
    while start < length {
        let blocks = 1 << (length - start).ilog2();
        roots.push(start..start + blocks);
        start += blocks;
    }
    roots
}

/// What one node follows: a feed and runs of its blocks.
fn interests(
    world: &mut World,
    keys: &[FeedKey],
    lengths: &[u64],
) -> Vec<(usize, Vec<Range<u64>>)> {
    let mut followed = Vec::new();
    for (feed, _) in keys.iter().enumerate() {
        let length = lengths[feed];
        match world.random.index(4) {
            0 => {}
            1 => followed.push((feed, once(0..length).collect())),
            2 => {
                let start = world.random.below(length - 40);
                followed.push((feed, once(start..start + 40).collect()));
            }
            _ => {
                let mut picked: Vec<_> = (0..6)
                    .map(|_| world.random.below(length))
                    .map(|block| block..block + 1)
                    .collect();
                picked.sort_by_key(|run| run.start);
                picked.dedup();
                followed.push((feed, picked));
            }
        }
    }
    followed
}

fn swarm(seed: u64, speaks_kinlog: bool) {
    let mut world = World::new(seed, NODES);
    world.speaks_kinlog = speaks_kinlog;
    let lengths = [300, 257, 100, 64];
    let keys: Vec<FeedKey> = (0..WRITERS)
        .map(|writer| world.create(writer, 1 + writer as u8, Kind::Kinlog, lengths[writer]))
        .collect();
    let mut wanted = BTreeMap::new();
    for node in WRITERS..NODES {
        let of = interests(&mut world, &keys, &lengths);
        for (feed, runs) in &of {
            let want = Want::Ranges(runs.clone());
            world.follow(node, keys[*feed], Kind::Kinlog, want, true);
        }
        wanted.insert(node, of);
    }
    for one in 0..NODES {
        for other in one + 1..NODES {
            // Everybody meets the writers, and every third of the others.
            if one < WRITERS || world.random.index(3) == 0 {
                world.connect(one, other);
            }
        }
    }
    world.pass(Duration::from_secs(60));
    let (mut twice, mut all) = (0, 0);
    let mut strictly = 0;
    for (node, of) in wanted {
        // What it wants, and what it was asked of each of its sources: what one brought is unknown to
        // the others.
        let (mut wants, mut asked) = (Due::default(), Due::default());
        for (feed, runs) in &of {
            let blocks: BTreeSet<u64> = runs.iter().cloned().flatten().collect();
            assert_holds(&world, node, &keys[*feed], blocks.iter().copied());
            // The head comes before any block, with all of its roots.
            let head = roots(lengths[*feed]).len();
            wants.nodes += head;
            asked.nodes += head;
            wants.add(&blocks, lengths[*feed]);
            let mut seen = BTreeSet::new();
            for source in 0..NODES {
                let Some(of) = world.asked_of.get(&(node, source, keys[*feed])) else {
                    continue;
                };
                assert!(
                    of.is_subset(&blocks),
                    "node {node} asks for what it does not want"
                );
                asked.add(of, lengths[*feed]);
                twice += of.intersection(&seen).count();
                seen.extend(of);
            }
            all += seen.len();
        }
        let received = world.bytes_received.get(&node).copied().unwrap_or_default();
        let messages = world
            .messages_received
            .get(&node)
            .copied()
            .unwrap_or_default();
        let most = |due: &Due| due.bytes + NODE_BYTES * due.nodes + FRAME_BYTES * messages;
        assert!(
            received <= most(&asked),
            "node {node}: {received} bytes, {} at most",
            most(&asked)
        );
        strictly += usize::from(received <= most(&wants));
        assert_eq!(world.nodes[node].violations, []);
        println!("node {node}: {received} bytes in {messages} messages for {wants:?}, {asked:?}");
    }
    println!("{twice} of {all} blocks were asked of two; {strictly} as if of one source");
    assert!(
        50 * twice <= all,
        "{twice} of {all} blocks were asked of two"
    );
    assert!(
        strictly + 1 >= NODES - WRITERS,
        "{strictly} as if of one source"
    );
}

/// What has to come, at least.
#[derive(Debug, Default)]
struct Due {
    bytes: usize,
    nodes: usize,
}

impl Due {
    fn add(&mut self, blocks: &BTreeSet<u64>, length: u64) {
        let each = blocks
            .iter()
            .map(|block| content(*block..block + 1)[0].len());
        self.bytes += each.sum::<usize>();
        let needed = roots(length)
            .into_iter()
            .map(|root| nodes_needed(blocks, root));
        self.nodes += needed.sum::<usize>();
    }
}

#[test]
fn in_a_swarm_of_twenty_each_gets_what_it_asked_for_and_little_beside() {
    for seed in 1..=3 {
        swarm(seed, true);
        swarm(seed, false);
    }
}

#[test]
fn the_nodes_that_a_reader_needs_are_those_beside_its_blocks() {
    let all: BTreeSet<u64> = (0..8).collect();
    assert_eq!(nodes_needed(&all, 0..8), 0);
    assert_eq!(nodes_needed(&BTreeSet::from([5]), 0..8), 3);
    assert_eq!(nodes_needed(&BTreeSet::new(), 0..8), 1);
    assert_eq!(roots(7), [0..4, 4..6, 6..7]);
}
