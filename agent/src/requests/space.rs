//! Giving space back, and what the store takes.

use kinlog_feeds::FeedKey;
use kinlog_feeds::store::{Feed, Role};

use crate::api::{AnswerSender, Error, Reply, Selection, StoreInfo, Text, TransferProgress};
use crate::core::Core;
use crate::pins::blocks;
use crate::requests::Ended;
use crate::requests::feeds::problems;

pub(super) fn clear(
    core: &Core,
    name: &str,
    selection: &Selection,
    own: bool,
    everywhere: bool,
) -> Result<Reply, Error> {
    let feed = core.feed(&core.feed_key(name)?)?;
    let key = feed.key();
    let length = feed.head().length;
    let range = blocks(selection, length);
    if range.end > length {
        return Err(Error::not_found(format!(
            "feed {key} has {length} blocks, {}..{} were to be cleared",
            range.start, range.end
        )));
    }
    if feed.role() == Role::Own && !own && !everywhere {
        return Err(Error::permission(format!(
            "feed {key} is our own: nobody else may hold its blocks"
        ))
        .hint("--own clears them all the same, --everywhere with everybody who follows it; `kinlog feed export --bundle` keeps a copy"));
    }
    let before = feed.info();
    if everywhere {
        if range.is_empty() {
            return Err(Error::usage(format!(
                "{selection} names no block of feed {key}"
            )));
        }
        core.clear_everywhere(&key, range.clone())?;
    }
    feed.clear(range.clone())?;
    core.stored(&key)?;
    let after = feed.info();
    let wanted = !everywhere
        && core.plan().asked.get(&key).is_some_and(|asked| {
            let mut wanted = asked.iter().map(|one| blocks(&one.selection, length));
            wanted.any(|wanted| wanted.start < range.end && range.start < wanted.end)
        });
    Ok(Reply::Cleared {
        key: key.into(),
        range: Text(Selection::Range(range)),
        blocks: before.blocks_held - after.blocks_held,
        bytes: before.bytes_held - after.bytes_held,
        wanted,
        everywhere,
    })
}

pub(super) fn drop_feed(core: &Core, name: &str) -> Result<Reply, Error> {
    let feed = core.feed(&core.feed_key(name)?)?;
    let key = feed.key();
    if feed.role() == Role::Own {
        return Err(Error::permission(format!(
            "feed {key} is our own: its head stays, so that no length of it is signed twice"
        ))
        .hint(format!(
            "`kinlog feed clear {name} 0..{} --own` gives its space back",
            feed.head().length.max(1)
        )));
    }
    if core.plan().interests.contains_key(&key) {
        let why = core.plan().why.get(&key).cloned().unwrap_or_default();
        return Err(
            Error::permission(format!("feed {key} is asked for: {}", why.join("; ")))
                .hint("`kinlog pins` shows by what; `kinlog unfollow` first"),
        );
    }
    let info = feed.info();
    core.forget_feed(&key)?;
    Ok(Reply::Dropped {
        key: key.into(),
        blocks: info.blocks_held,
        bytes: info.bytes_held,
    })
}

/// Takes a feed out again that was added for something that came to nothing.
pub(super) fn forget_empty(core: &Core, key: &FeedKey) -> Result<(), Error> {
    let is_empty = |feed: Feed| feed.head().length == 0 && feed.role() != Role::Own;
    let unwanted = !core.plan().interests.contains_key(key);
    match core.store.feed(key).is_some_and(is_empty) && unwanted {
        true => core.forget_feed(key),
        false => Ok(()),
    }
}

pub(super) fn stat(core: &Core) -> Result<Reply, Error> {
    let stat = core.store.stat()?;
    Ok(Reply::Store(StoreInfo {
        folder: core.layout.store(),
        feeds: stat.feeds as u64,
        blocks: stat.blocks,
        block_bytes: stat.block_bytes,
        segments: u64::from(stat.segments),
        log_bytes: stat.log_bytes,
        dead_bytes: stat.dead_bytes,
        index_bytes: stat.index_bytes,
        free_bytes: stat.free_bytes,
    }))
}

/// Gives the space of cleared blocks and dropped feeds back.
pub(super) fn compact(core: &Core) -> Result<Reply, Error> {
    let report = core.store.compact()?;
    Ok(Reply::StoreCompacted {
        segments: u64::from(report.segments),
        bytes_before: report.bytes_before,
        bytes_moved: report.bytes_moved,
        kept: u64::from(report.kept),
    })
}

/// Reads and hashes everything that is stored of every feed.
pub(super) fn check(core: &Core, to: &AnswerSender) -> Result<(), Ended> {
    let feeds = core.store.feeds();
    let mut progress = TransferProgress {
        what: "check".into(),
        blocks: 0,
        blocks_total: core.store.stat().map_err(Error::from)?.blocks,
        bytes: 0,
        bytes_total: 0,
    };
    let (mut found, mut count, mut nodes_checked) = (Vec::new(), 0, 0);
    for feed in &feeds {
        let report = feed.verify().map_err(Error::from)?;
        count += report.problem_count;
        nodes_checked += report.nodes_checked;
        found.extend(problems(&report));
        found.truncate(kinlog_feeds::store::limits::VERIFY_PROBLEMS_MAX);
        progress.blocks += report.blocks_checked;
        progress.bytes += feed.info().bytes_held;
        to.blocking_answer(Reply::Progress(progress.clone()).into())?;
    }
    let first = found.first().map(|problem| problem.problem.clone());
    let checked = Reply::StoreChecked {
        feeds: feeds.len() as u64,
        blocks_checked: progress.blocks,
        nodes_checked,
        problem_count: count,
        problems: found,
        gaps: Vec::new(),
    };
    to.blocking_answer(checked.into())?;
    match first {
        None => Ok(()),
        Some(first) => Err(Error::verification(match count {
            1 => first,
            count => format!("{first}, and {} more", count - 1),
        })
        .hint("stop the agent, then `kinlog store repair` keeps everything that holds")
        .into()),
    }
}
