//! Unpinning: the promise ends, and the space that nothing else keeps is given back.

use std::ops::Range;

use kinlog_feeds::FeedKey;
use kinlog_feeds::store::{Feed, Role};

use crate::api::{Error, Reply};
use crate::core::Core;
use crate::pins::blocks;
use crate::requests::follow::{link_of, pin_info, target};
use crate::requests::space::forget;

pub(super) fn unpin(core: &Core, link: &str) -> Result<Reply, Error> {
    let target = target(core, &link.parse()?)?;
    let before = core.plan();
    let pins = core.knowledge(|knowledge| knowledge.pins.clone());
    let pins = pins.iter().filter(|pin| pin.target == target);
    let pins = pins.map(|pin| pin_info(core, pin)).collect();
    if core.state.remove_pins(&target)?.is_empty() {
        return Err(
            Error::not_found(format!("nothing is pinned by {}", link_of(&target)))
                .hint("`kinlog pins` shows what is"),
        );
    }
    core.relearn()?;
    core.replan()?;
    let (mut freed_blocks, mut freed_bytes) = (0, 0);
    for key in before.asked.keys() {
        let Some(feed) = core.store.feed(key).filter(|feed| feed.role() != Role::Own) else {
            continue;
        };
        let held = feed.info();
        if core.plan().interests.contains_key(key) {
            let unwanted = unwanted(core, key, &feed);
            for range in &unwanted {
                feed.clear(range.clone())?;
            }
            if unwanted.is_empty() {
                continue;
            }
            core.stored(key)?;
            let left = feed.info();
            freed_blocks += held.blocks_held - left.blocks_held;
            freed_bytes += held.bytes_held - left.bytes_held;
        } else {
            forget(core, key)?;
            freed_blocks += held.blocks_held;
            freed_bytes += held.bytes_held;
        }
    }
    Ok(Reply::Unpinned {
        pins,
        blocks: freed_blocks,
        bytes: freed_bytes,
    })
}

/// Returns the held blocks of a feed that nothing asks for any more.
fn unwanted(core: &Core, key: &FeedKey, feed: &Feed) -> Vec<Range<u64>> {
    let plan = core.plan();
    let length = feed.head().length;
    let asked = plan.asked.get(key).into_iter().flatten();
    let mut wanted: Vec<Range<u64>> = asked.map(|one| blocks(&one.selection, length)).collect();
    wanted.sort_by_key(|range| range.start);
    let (mut at, mut gaps) = (0, Vec::new());
    for range in wanted {
        if range.start > at {
            gaps.push(at..range.start.min(length));
        }
        at = at.max(range.end);
    }
    gaps.push(at.min(length)..length);
    let have = feed.have();
    gaps.retain(|gap| !gap.is_empty() && have.count_range(gap.clone()) > 0);
    gaps
}
