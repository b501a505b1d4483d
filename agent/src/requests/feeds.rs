//! Feeds: create, list, append, read, verify.

use std::ops::Range;

use bytes::Bytes;
use kinlog_feeds::FeedKey;
use kinlog_feeds::store::{Feed, Kind, ProblemPlace, Role, VerifyReport};
use kinlog_feeds::tree::Sought;
use kinlog_indexer::entry::{Content, PathKind};

use crate::api::{
    Answer, AnswerSender, BlockProblem, Error, ErrorKind, FeedInfo, Reply, Selection,
};
use crate::core::{Core, NewPath};
use crate::links::{FeedPath, Link};
use crate::pins::blocks;
use crate::requests::{Ended, conflicts};

pub(super) fn create(
    core: &Core,
    path: &str,
    plain: bool,
    is_private: bool,
    kind: Option<&str>,
) -> Result<Reply, Error> {
    let own = if plain {
        core.create_plain()?
    } else {
        let kind = match kind {
            None | Some("log") => PathKind::Log,
            Some("shared") => PathKind::Shared,
            Some(other) => {
                return Err(Error::usage(format!("{other:?} is no kind of path"))
                    .hint("log: one device writes it; shared: each device writes its part"));
            }
        };
        let new = NewPath {
            content: Content::Bytes,
            kind,
            is_private,
        };
        core.create_path(&path.parse::<FeedPath>()?, new)?
    };
    Ok(Reply::Feed(feed_info(core, &core.feed(&own.key)?)?))
}

pub(super) fn rename(core: &Core, path: &str, to: &str) -> Result<Reply, Error> {
    let own = core.rename_path(&path.parse()?, &to.parse()?)?;
    Ok(Reply::Feed(feed_info(core, &core.feed(&own.key)?)?))
}

pub(super) fn take(core: &Core, path: &str) -> Result<Reply, Error> {
    let own = core.take_path(&path.parse()?)?;
    Ok(Reply::Feed(feed_info(core, &core.feed(&own.key)?)?))
}

pub(super) fn retire(core: &Core, path: &str) -> Result<Reply, Error> {
    let own = core.retire_path(&path.parse()?)?;
    Ok(Reply::Feed(feed_info(core, &core.feed(&own.key)?)?))
}

pub(super) fn list(core: &Core) -> Result<Reply, Error> {
    let mut feeds = Vec::new();
    for feed in core.store.feeds() {
        feeds.push(feed_info(core, &feed)?);
    }
    feeds.sort_by(|one, other| (&one.path, &one.key).cmp(&(&other.path, &other.key)));
    Ok(Reply::Feeds { feeds })
}

pub(super) fn info(core: &Core, name: &str) -> Result<Reply, Error> {
    let feed = core.feed(&core.feed_key(name)?)?;
    Ok(Reply::Feed(feed_info(core, &feed)?))
}

pub(super) fn append(
    core: &Core,
    name: &str,
    lengths: &[u32],
    payload: &Bytes,
) -> Result<Reply, Error> {
    let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    if total != payload.len() as u64 {
        return Err(Error::usage(format!(
            "the blocks have {total} bytes, {} came",
            payload.len()
        )));
    }
    if lengths.len() > crate::limits::APPEND_BLOCKS_MAX {
        return Err(Error::usage(format!(
            "{} blocks at once are above the limit of {}",
            lengths.len(),
            crate::limits::APPEND_BLOCKS_MAX
        )));
    }
    let own = match core.own_feed(name) {
        Err(error) if error.kind == ErrorKind::NotFound && name.starts_with('/') => {
            core.create_path(&name.parse::<FeedPath>()?, NewPath::public(Content::Bytes))?
        }
        known => known?,
    };
    if own.is_entries {
        return Err(Error::usage(format!(
            "{name} is a feed of entries: raw blocks do not belong there"
        ))
        .hint("`kinlog publish` and `kinlog send` write entries"));
    }
    let mut rest = payload.clone();
    let blocks: Vec<Bytes> = lengths
        .iter()
        .map(|length| rest.split_to(*length as usize))
        .collect();
    let appended = core.append(&own, &blocks)?;
    appended_reply(core, &own, appended)
}

pub(super) fn read(
    core: &Core,
    name: &str,
    range: Option<Selection>,
    to: &AnswerSender,
) -> Result<(), Ended> {
    if let Some(union) = core.union(name)? {
        return read_union(union, range.as_ref(), to);
    }
    let chain = core.chain(name)?;
    let length = chain.length();
    let wanted = blocks(range.as_ref().unwrap_or(&Selection::All), length);
    if wanted.end > length {
        let message = format!(
            "feed {} has {length} blocks, {}..{} were asked for",
            chain.key(),
            wanted.start,
            wanted.end
        );
        return Err(Error::not_found(message).into());
    }
    for index in wanted {
        let Some(block) = chain.get(index)? else {
            if range.is_none() {
                continue;
            }
            return Err(not_held(core, &chain.key(), index).into());
        };
        let reply = Reply::Block {
            index,
            bytes: block.len() as u64,
        };
        to.blocking_answer(Answer {
            reply,
            payload: block,
        })?;
    }
    Ok(())
}

fn not_held(core: &Core, key: &FeedKey, index: u64) -> Error {
    let message = format!("block {index} of feed {key} is not held");
    let cleared = core.knowledge(|knowledge| knowledge.cleared_of(key));
    match cleared.iter().any(|range| range.contains(&index)) {
        true => Error::not_found(format!("{message}: its agent cleared it")).hint(format!(
            "`kinlog why {key}` shows what was cleared, and when"
        )),
        false => Error::not_found(message).hint("follow its range first"),
    }
}

/// Reads bytes of a feed, whichever blocks they are in.
pub(super) fn read_bytes(
    core: &Core,
    name: &str,
    bytes: Range<u64>,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let feed = core.feed(&core.feed_key(name)?)?;
    let key = feed.key();
    if core.is_private(&key) || core.knowledge(|knowledge| knowledge.room_of(&key).is_some()) {
        let message = format!("feed {key} is sealed: its bytes are not those that were written");
        return Err(Error::usage(message).hint("read it by blocks").into());
    }
    let absent = |block: u64| {
        let message = format!("block {block} of feed {key} is not held");
        let hint = format!(
            "kinlog feed pull {key} --bytes {}..{} --tcp ADDR",
            bytes.start, bytes.end
        );
        Error::not_found(message).hint(hint)
    };
    let (mut block, mut offset) = match feed.seek(bytes.start).map_err(Error::from)? {
        Sought::At { block, offset } => (block, offset as usize),
        Sought::Within { blocks, .. } => return Err(absent(blocks.start).into()),
        Sought::Beyond => return Err(beyond(&key, feed.info().byte_length, &bytes).into()),
    };
    let mut left = bytes.end - bytes.start;
    while left > 0 {
        if block >= feed.head().length {
            return Err(beyond(&key, feed.info().byte_length, &bytes).into());
        }
        let whole = feed.get(block).map_err(Error::from)?;
        let whole = whole.ok_or_else(|| absent(block))?;
        let part = whole.slice(offset.min(whole.len())..);
        let part = part.slice(..part.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        left -= part.len() as u64;
        let reply = Reply::Block {
            index: block,
            bytes: part.len() as u64,
        };
        let payload = part;
        to.blocking_answer(Answer { reply, payload })?;
        (block, offset) = (block + 1, 0);
    }
    Ok(())
}

/// Bytes that a feed does not have.
pub(super) fn beyond(key: &FeedKey, length: u64, bytes: &Range<u64>) -> Error {
    let (start, end) = (bytes.start, bytes.end);
    let message = format!("feed {key} has {length} bytes, {start}..{end} were asked for");
    Error::not_found(message)
}

/// Answers with the blocks of a path that several devices write, in one order.
fn read_union(
    union: Vec<Bytes>,
    range: Option<&Selection>,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let length = union.len() as u64;
    let skipped = match range {
        None | Some(Selection::All) => 0,
        Some(Selection::Last(count)) => length.saturating_sub(*count),
        Some(other) => {
            let message =
                format!("a shared path has no block numbers: {other} names nothing of it");
            return Err(Error::usage(message).hint("last:N, or all").into());
        }
    };
    for (index, block) in (0..).zip(union).skip(skipped as usize) {
        let reply = Reply::Block {
            index,
            bytes: block.len() as u64,
        };
        to.blocking_answer(Answer {
            reply,
            payload: block,
        })?;
    }
    Ok(())
}

pub(super) fn verify(core: &Core, name: &str, to: &AnswerSender) -> Result<(), Ended> {
    let feed = core.feed(&core.feed_key(name)?)?;
    let report = feed.verify().map_err(Error::from)?;
    let problems = problems(&report);
    let first = problems.first().map(|problem| problem.problem.clone());
    to.blocking_answer(
        Reply::Verified {
            key: feed.key().into(),
            length: feed.head().length,
            blocks_checked: report.blocks_checked,
            problems,
        }
        .into(),
    )?;
    match first {
        None => Ok(()),
        Some(first) => Err(Error::verification(match report.problem_count {
            1 => first,
            count => format!("{first}, and {} more", count - 1),
        })
        .hint(
            "what is damaged is neither returned nor served; follow the feed elsewhere to compare",
        )
        .into()),
    }
}

/// Returns what a check found, in words.
pub(super) fn problems(report: &VerifyReport) -> Vec<BlockProblem> {
    let problems = report.problems.iter().map(|problem| BlockProblem {
        key: problem.feed.into(),
        block: match problem.at {
            ProblemPlace::Manifest | ProblemPlace::Head(_) | ProblemPlace::Conflict => None,
            ProblemPlace::Block(_) | ProblemPlace::Node(_) => Some(problem.block()),
        },
        problem: problem.to_string(),
    });
    problems.collect()
}

/// Returns what a feed is, with its path and author where they are known.
pub(super) fn feed_info(core: &Core, feed: &Feed) -> Result<FeedInfo, Error> {
    let info = feed.info();
    let place = core.knowledge(|knowledge| place(knowledge, &info.key));
    let role = match (info.role, &place) {
        (_, Place::Directory(_)) => "directory",
        (_, Place::PrivateDirectory) => "private directory",
        (_, Place::Room) => "room",
        (Role::Own, _) => "own",
        _ if info.kind == Kind::Plain => "plain",
        _ => core.role_of(&info.key),
    };
    let (agent, path, is_entries) = match place {
        Place::Directory(agent) => (Some(agent), None, true),
        Place::PrivateDirectory => (Some(core.agent), None, true),
        Place::Listed(agent, path, is_entries) => (Some(agent), Some(path), is_entries),
        Place::Room | Place::Unlisted => {
            let is_entries = core.knowledge(|knowledge| {
                let room = knowledge.room_of(&info.key);
                room.is_some_and(|room| room.feeds[&info.key].is_entries)
            });
            (None, None, is_entries)
        }
    };
    let is_private = core.is_private(&info.key);
    let link = match (agent, &path) {
        // Nobody else could follow it.
        _ if is_private => None,
        (Some(agent), Some(path)) => {
            let signal_urls = core.state.signals()?;
            let path = Some(path.clone());
            Some(
                Link::Agent {
                    agent,
                    path,
                    signal_urls,
                }
                .to_string(),
            )
        }
        _ if info.kind == Kind::Plain => {
            let signal_urls = core.state.signals()?;
            Some(
                Link::Feed {
                    key: info.key,
                    signal_urls,
                }
                .to_string(),
            )
        }
        _ => None,
    };
    Ok(FeedInfo {
        key: info.key.into(),
        discovery_key: info.discovery_key.into(),
        path: path.map(|path| path.to_string()),
        agent: agent.map(Into::into),
        link,
        role: role.to_owned(),
        private: is_private,
        content: if is_entries { "entries" } else { "bytes" }.to_owned(),
        fork: info.fork,
        length: info.length,
        byte_length: info.byte_length,
        blocks_held: info.blocks_held,
        bytes_held: info.bytes_held,
        contiguous: feed.have().contiguous_length(),
        conflict: conflicts::summary(feed),
    })
}

enum Place {
    Directory(kinlog_feeds::AgentId),
    PrivateDirectory,
    Listed(kinlog_feeds::AgentId, FeedPath, bool),
    Room,
    Unlisted,
}

fn place(knowledge: &crate::knowledge::Knowledge, key: &FeedKey) -> Place {
    if let Some(agent) = knowledge.directory_of(key) {
        return Place::Directory(agent);
    }
    if knowledge
        .private_directories()
        .iter()
        .any(|(_, one)| one == key)
    {
        return Place::PrivateDirectory;
    }
    if let Some(line) = knowledge.private_line(key) {
        return Place::Listed(knowledge.agent, line.path.clone(), line.is_entries);
    }
    if let Some((agent, line)) = knowledge.listed(key) {
        return Place::Listed(agent, line.path.clone(), line.is_entries);
    }
    if knowledge.room_of(key).is_some() {
        Place::Room
    } else {
        Place::Unlisted
    }
}

/// Returns the answer to an append.
pub(super) fn appended_reply(
    core: &Core,
    own: &crate::state::OwnFeed,
    appended: kinlog_feeds::store::Appended,
) -> Result<Reply, Error> {
    Ok(Reply::Appended {
        key: own.key.into(),
        path: own.path.as_ref().map(ToString::to_string),
        start: appended.start,
        length: appended.length,
        byte_length: appended.byte_length,
        link: own
            .path
            .as_ref()
            .filter(|_| !own.is_private)
            .map(|path| core.path_link(path))
            .transpose()?,
    })
}
