//! A member is removed from a long talk while somebody reads it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use kinlog_indexer::entry::{Cut, Deed, Links, Remove, Role};
use kinlog_indexer::index::{MessageRow, Reader, TreeHashes as _};
use kinlog_indexer::{Index, RoomId, Text};

use crate::index::chat::BATCH;
use crate::row::{Effort, Measured, Row};
use crate::scratch::Scratch;
use crate::world::{World, act, admit_as, message, room_feed};

/// Members beside the owner; each repeat removes one.
const MEMBERS: usize = 5;

pub(crate) const REMOVAL: Row = Row {
    name: "index_removal_s",
    unit: "s",
    definition: "from the block by which an owner removes one of five members of a room of 100,000 \
        messages (25,000 with --quick), cut in the middle of what it wrote, to its commit; then \
        nothing behind the cut is shown (less is better). Alone: the longest wait of a thread that \
        asks for the last 50 messages again and again meanwhile.",
    measure,
    once: None,
};

fn measure(effort: &Effort) -> Result<Measured> {
    let count = effort.scaled(100_000);
    let mut world = World::new(1, 1 + MEMBERS as u8);
    for agent in 1..=MEMBERS {
        let member = world.agents[agent].membership(&world.room, agent);
        let admit = admit_as(member, Role::Member);
        world.write(room_feed(0), 1, 2_000, Links::default(), admit);
    }
    let feeds: Vec<_> = (0..=MEMBERS).map(room_feed).collect();
    for number in 0..count {
        let text = message(&format!("soup {number} of the day"));
        let feed = feeds[1 + number as usize % MEMBERS];
        world.write(feed, 2 + number, 3_000 + number, Links::default(), text);
    }
    let scratch = Scratch::new()?;
    let path = scratch.path().join("index.db");
    let mut index = Index::open(&path)?;
    world.tell(&mut index);
    for batch in world.blocks().chunks(BATCH) {
        index.ingest(batch)?;
    }
    let (mut waits, mut next) = (Vec::new(), 1..=MEMBERS);
    let mut measured = Measured::alternate(
        effort,
        || {
            let agent = next.next().context("a member is left")?;
            let depth = 2 + count + agent as u64;
            let (feed, length) = (feeds[agent], count / MEMBERS as u64 / 2);
            let block = {
                let tree_hash = world.trees.tree_hash(&feed, length);
                let tree_hash = tree_hash.context("the tree at the cut")?;
                let remove = Remove {
                    agent: world.agents[agent].id,
                    cuts: vec![Cut {
                        feed,
                        length,
                        tree_hash,
                    }],
                    reason: Text::default(),
                };
                let body = act(Deed::Remove(remove));
                world.write(feeds[0], depth, 9_000_000, Links::default(), body)
            };
            let mut seconds = 0.0;
            waits.push(longest_wait(&path, &world.room, || {
                let start = Instant::now();
                index.ingest(std::slice::from_ref(&block))?;
                seconds = start.elapsed().as_secs_f64();
                Ok(())
            })?);
            let last = index.messages(&world.room, 50)?;
            let is_shown = |row: &MessageRow| row.feed != feed || row.index < length;
            ensure!(
                last.iter().all(is_shown),
                "what is behind the cut is hidden"
            );
            Ok(seconds)
        },
        Vec::new(),
        None,
    )?;
    measured.parts.push(("the longest wait of a reader", waits));
    Ok(measured)
}

/// Does `work` while another thread reads; returns how long that waited at most, s.
fn longest_wait(path: &Path, room: &RoomId, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let (says, reads) = channel();
        let reader = scope.spawn(|| -> Result<f64> {
            let (says, reader) = (says, Reader::open(path)?);
            let mut longest = 0.0f64;
            reader.messages(room, 50)?;
            says.send(())?;
            while !ended.load(Ordering::Relaxed) {
                let start = Instant::now();
                ensure!(!reader.messages(room, 50)?.is_empty());
                longest = longest.max(start.elapsed().as_secs_f64());
            }
            Ok(longest)
        });
        let done = reads.recv().map_err(Into::into).and_then(|()| work());
        ended.store(true, Ordering::Relaxed);
        let longest = reader
            .join()
            .map_err(|_| anyhow!("the reader ended early"))?;
        done.and(longest)
    })
}
