//! Bundles: a feed, whole or in part, into one file and out of it again.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::ops::Range;
use std::path::Path;

use kinlog_feeds::bundle::{BundleReader, BundleWriter, WriteError};
use kinlog_feeds::limits::BUNDLE_RUN_BYTES;
use kinlog_feeds::store::{Feed, ImportError, Kind, ReadError};

use crate::api::{AnswerSender, Error, ErrorKind, Reply, Selection, TransferProgress};
use crate::core::Core;
use crate::failure::chain;
use crate::pins::blocks;
use crate::requests::Ended;
use crate::requests::feeds::feed_info;
use crate::requests::files::Part;

pub(super) fn export(
    core: &Core,
    name: &str,
    file: &Path,
    selections: &[Selection],
    to: &AnswerSender,
) -> Result<(), Ended> {
    let feed = core.feed(&core.feed_key(name)?)?;
    let key = feed.key();
    let ranges = ranges(&feed, selections)?;
    let header = feed.bundle_header(ranges.clone()).ok_or_else(|| {
        Error::not_found(format!("nothing of feed {key} is held")).hint("follow it first")
    })?;
    let part = Part::new(file)?;
    let output = BufWriter::with_capacity(BUNDLE_RUN_BYTES, &part.file);
    let failed = |error: WriteError<ReadError>| match error {
        WriteError::Io(error) => part.failed(&error),
        WriteError::Source(error) => error.into(),
        WriteError::BlockMissing { .. } => Error::not_found(format!("feed {key}: {error}")),
        WriteError::Range { .. } | WriteError::TooManyRanges { .. } => {
            Error::usage(format!("feed {key}: {error}")).hint("export parts of it: --range A..B")
        }
        other => Error::verification(format!("feed {key}: {other}")),
    };
    let mut writer = BundleWriter::new(output, &header).map_err(&failed)?;
    let mut progress = TransferProgress {
        what: "export".into(),
        blocks: 0,
        blocks_total: header.blocks(),
        bytes: 0,
        bytes_total: 0,
    };
    while let Some(run) = writer.write_run(&feed).map_err(&failed)? {
        progress.blocks += run.end - run.start;
        progress.bytes = part.bytes();
        to.blocking_answer(Reply::Progress(progress.clone()).into())?;
    }
    drop(writer.finish().map_err(&failed)?);
    let bytes = part.bytes();
    part.finish(file)?;
    let exported = Reply::BundleExported {
        key: key.into(),
        file: file.to_owned(),
        length: header.signed.head.length,
        ranges: shown(&ranges),
        blocks: header.blocks(),
        bytes,
    };
    Ok(to.blocking_answer(exported.into())?)
}

/// Returns the blocks asked for, which must be held; without a wish everything that is held.
fn ranges(feed: &Feed, selections: &[Selection]) -> Result<Vec<Range<u64>>, Error> {
    let length = feed.head().length;
    let have = feed.have();
    if selections.is_empty() {
        return Ok(have.runs(0..length).collect());
    }
    let mut wanted: Vec<Range<u64>> = selections
        .iter()
        .map(|selection| blocks(selection, length))
        .collect();
    wanted.sort_unstable_by_key(|range| range.start);
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for range in wanted {
        if range.end > length || !have.all_in(range.clone()) {
            return Err(Error::not_found(format!(
                "{} of blocks {}..{} of feed {} are held (its length is {length})",
                have.count_range(range.clone()),
                range.start,
                range.end,
                feed.key()
            ))
            .hint("without --range, a bundle gets what is held"));
        }
        match ranges.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => ranges.push(range),
        }
    }
    Ok(ranges)
}

pub(super) fn import(core: &Core, file: &Path, to: &AnswerSender) -> Result<(), Ended> {
    let failed = |error: std::io::Error| {
        let message = format!("{}: {error}", file.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(message),
            std::io::ErrorKind::PermissionDenied => Error::permission(message),
            _ => Error::general(message),
        }
    };
    let opened = File::open(file).map_err(failed)?;
    if !opened.metadata().map_err(failed)?.is_file() {
        let message = format!("{} is no file", file.display());
        return Err(Error::usage(message)
            .hint("a bundle is read twice: write it into a file first")
            .into());
    }
    let mut input = BufReader::with_capacity(BUNDLE_RUN_BYTES, opened);
    let named = |error| Error::from(error).in_file(file);
    let key = BundleReader::new(&mut input)
        .map_err(|error| named(ImportError::Bundle(error)))?
        .header()
        .feed;
    let listed = core.knowledge(|knowledge| {
        knowledge.listed(&key).is_some()
            || knowledge.directory_of(&key).is_some()
            || knowledge.room_of(&key).is_some()
    });
    let kind = if listed { Kind::Kinlog } else { Kind::Plain };
    let mut gone = None;
    let imported = core.store.import_bundle(&mut input, kind, &mut |at| {
        let progress = TransferProgress {
            what: "import".into(),
            blocks: at.blocks,
            blocks_total: at.blocks_total,
            bytes: at.bytes,
            bytes_total: 0,
        };
        let told = to.blocking_answer(Reply::Progress(progress).into());
        gone = told.err();
        gone.is_none()
    });
    if core.store.feed(&key).is_some() {
        core.stored(&key)?;
    }
    let (_, imported) = imported.map_err(named)?;
    if let Some(gone) = gone {
        return Err(gone.into());
    }
    let reply = Reply::BundleImported {
        feed: Box::new(feed_info(core, &core.feed(&key)?)?),
        created: imported.created,
        length_before: imported.length_before,
        blocks_new: imported.blocks_new,
        blocks_held_before: imported.blocks_held,
        blocks_untied: imported.blocks_untied,
    };
    Ok(to.blocking_answer(reply.into())?)
}

pub(super) fn shown(ranges: &[Range<u64>]) -> Vec<crate::api::Text<Selection>> {
    let selections = ranges.iter().cloned().map(Selection::Range);
    selections.map(Into::into).collect()
}

impl From<ImportError> for Error {
    fn from(error: ImportError) -> Self {
        let message = chain(&error);
        match error {
            ImportError::Bundle(_) => Error::verification(message)
                .hint("nothing of it was stored; ask for the bundle again"),
            ImportError::OwnFeedLonger { .. } => Error::new(ErrorKind::Conflict, message).hint(
                "another installation with this device's secret wrote on: nothing was taken in, \
                 so that no length is signed twice",
            ),
            ImportError::NotTied { ours, .. } => Error::new(ErrorKind::General, message).hint(
                format!("export it with --range {ours}.. the end, or all of it"),
            ),
            ImportError::Refused(error) => of_apply(&error, message),
            ImportError::Create(error) => error.into(),
            ImportError::Read(error) => error.into(),
            ImportError::Store(error) => error.into(),
            _ => Error::general(message),
        }
    }
}

fn of_apply(error: &kinlog_feeds::store::ApplyError, message: String) -> Error {
    use kinlog_feeds::store::ApplyError;
    match error {
        ApplyError::Conflict { .. } => Error::new(ErrorKind::Conflict, message)
            .hint("both histories are signed by the author; what is held stays as it is"),
        ApplyError::OtherFork { .. } => Error::new(ErrorKind::Conflict, message),
        _ => Error::verification(message),
    }
}
