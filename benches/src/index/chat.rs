//! A long talk of two devices in one room, sealed as it would be.

use anyhow::{Context as _, Result};
use kinlog_feeds::FeedKey;
use kinlog_indexer::Index;
use kinlog_indexer::entry::{Link, LinkScope, Links};
use kinlog_indexer::index::{Block, TreeHashes as _};

use crate::world::{Random, World, message, room_feed};

/// Blocks that the index takes at once, as the agent does.
pub(super) const BATCH: usize = 8_000;

/// Words that are talked with: some in every second message, most in one of thousands.
const WORDS: usize = 4_000;
const WORDS_A_MESSAGE: usize = 8;
const STEMS: [&str; 20] = [
    "tree", "proof", "soup", "relay", "frame", "block", "kitchen", "signed", "window", "garden",
    "letter", "river", "stone", "paper", "music", "harbour", "winter", "lantern", "copper",
    "meadow",
];

/// A world with a talk, and its blocks in the order in which they were written.
pub(super) struct Chat {
    pub(super) world: World,
    pub(super) blocks: Vec<Block>,
}

impl Chat {
    /// The room with its two members, and nothing said.
    pub(super) fn quiet() -> Chat {
        let mut world = World::new(1, 2);
        let admit = world.admit_body(1);
        let mut blocks = world.blocks();
        blocks.push(world.write(room_feed(0), 1, 2_000, Links::default(), admit));
        Chat { world, blocks }
    }

    /// `count` messages, each by the other device and with a link to the one before.
    pub(super) fn make(count: u64) -> Result<Chat> {
        let Chat {
            mut world,
            mut blocks,
        } = Chat::quiet();
        let mut random = Random::new(1);
        let scope = LinkScope::Room(world.room);
        let feeds: [FeedKey; 2] = [room_feed(0), room_feed(1)];
        for number in 0..count {
            let before = blocks.last().context("the room begins with something")?;
            let tree = world.trees.tree_hash(&before.feed, before.index + 1);
            let tree = tree.context("everything written has a tree")?;
            let link = Link::new(&scope, &before.feed, before.index, &tree);
            let links = Links::new(vec![link], false)?;
            let text: Vec<String> = (0..WORDS_A_MESSAGE)
                .map(|_| word(random.below(1 << 20) as f64 / f64::from(1 << 20)))
                .collect();
            let (depth, ms) = (number + 2, 3_000 + number * 700);
            let feed = feeds[(number as usize + 1) % 2];
            blocks.push(world.write(feed, depth, ms, links, message(&text.join(" "))));
        }
        Ok(Chat { world, blocks })
    }

    /// Gives everything to an index that knows nothing.
    pub(super) fn take_in(&self, index: &mut Index) -> Result<()> {
        for batch in self.blocks.chunks(BATCH) {
            index.ingest(batch)?;
        }
        Ok(())
    }
}

/// Returns the word at a place between 0 and 1: the first ones take up most of it.
pub(super) fn word(place: f64) -> String {
    let rank = (WORDS as f64 * place.powi(3)) as usize;
    format!("{}{}", STEMS[rank % STEMS.len()], rank / STEMS.len())
}
