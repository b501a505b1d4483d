//! Files: into a feed block by block, and out of one.

use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use bytes::Bytes;
use kinlog_feeds::limits::KINLOG_BLOCK_BYTES_MAX;
use kinlog_indexer::entry::Content;

use crate::api::{AnswerSender, Error, Reply, Selection, TransferProgress};
use crate::core::{Core, NewPath};
use crate::limits::IMPORT_BATCH_BYTES;
use crate::links::FeedPath;
use crate::pins::blocks;
use crate::requests::Ended;
use crate::requests::feeds::appended_reply;

pub(super) fn import(
    core: &Core,
    path: &str,
    file: &Path,
    block_size: u32,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let path: FeedPath = path.parse().map_err(Error::from)?;
    let block_size = block_size as usize;
    if block_size == 0 || block_size > KINLOG_BLOCK_BYTES_MAX {
        let message =
            format!("block size {block_size}: expected 1 to {KINLOG_BLOCK_BYTES_MAX} bytes");
        return Err(Error::usage(message).into());
    }
    let failed = |error: std::io::Error| Error::not_found(format!("{}: {error}", file.display()));
    let mut input = File::open(file).map_err(failed)?;
    let metadata = input.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Error::usage(format!("{} is a folder", file.display())).into());
    }
    let held = core.writable(&path)?;
    let own = match held {
        Some(own) if own.is_entries => {
            return Err(Error::usage(format!("{path} is a feed of entries")).into());
        }
        Some(own) => own,
        None => core.create_path(&path, NewPath::public(Content::Bytes))?,
    };
    let bytes_total = metadata.len();
    let blocks_total = bytes_total.div_ceil(block_size as u64);
    let (mut bytes, mut blocks, mut first) = (0, 0, None);
    let mut last = None;
    loop {
        let batch = read_blocks(&mut input, block_size).map_err(failed)?;
        if batch.is_empty() {
            break;
        }
        let appended = core.append(&own, &batch)?;
        first.get_or_insert(appended.start);
        blocks += batch.len() as u64;
        bytes += batch.iter().map(|block| block.len() as u64).sum::<u64>();
        last = Some(appended);
        let progress = TransferProgress {
            what: "import".into(),
            blocks,
            blocks_total,
            bytes,
            bytes_total,
        };
        to.blocking_answer(Reply::Progress(progress).into())?;
    }
    let head = core.feed(&own.key)?.head();
    let appended = kinlog_feeds::store::Appended {
        start: first.unwrap_or(head.length),
        length: last.map_or(head.length, |last| last.length),
        byte_length: last.map_or(head.byte_length, |last| last.byte_length),
    };
    Ok(to.blocking_answer(appended_reply(core, &own, appended)?.into())?)
}

/// Reads the next blocks of a file, up to [`IMPORT_BATCH_BYTES`]; only the last may be short.
fn read_blocks(input: &mut File, block_size: usize) -> std::io::Result<Vec<Bytes>> {
    let count = (IMPORT_BATCH_BYTES / block_size).max(1);
    let mut batch = Vec::with_capacity(count.min(1024));
    while batch.len() < count {
        let mut block = Vec::with_capacity(block_size);
        Read::take(&mut *input, block_size as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            break;
        }
        batch.push(Bytes::from(block));
    }
    Ok(batch)
}

pub(super) fn export(
    core: &Core,
    name: &str,
    file: &Path,
    range: Option<Selection>,
    to: &AnswerSender,
) -> Result<(), Ended> {
    let chain = core.chain(name)?;
    let length = chain.length();
    let selection = range.unwrap_or_default();
    let wanted = blocks(&selection, length);
    let held = chain.count_held(wanted.clone());
    if wanted.end > length || held < wanted.end - wanted.start {
        let message = format!(
            "{held} of blocks {}..{} of feed {} are held (its length is {length})",
            wanted.start,
            wanted.end,
            chain.key()
        );
        let hint = match wanted.end > length {
            true => "ask for blocks that exist: --range A..B, or last:N",
            false => "follow it first",
        };
        return Err(Error::not_found(message).hint(hint).into());
    }
    let part = Part::new(file)?;
    let blocks_total = wanted.end - wanted.start;
    let mut bytes = 0;
    let mut output = BufWriter::new(&part.file);
    for index in wanted.clone() {
        let block = chain.get(index)?.ok_or_else(|| {
            Error::not_found(format!("block {index} of feed {} is not held", chain.key()))
        })?;
        output
            .write_all(&block)
            .map_err(|error| part.failed(&error))?;
        bytes += block.len() as u64;
        let blocks = index + 1 - wanted.start;
        if blocks.is_multiple_of(PROGRESS_EVERY_BLOCKS) {
            let progress = TransferProgress {
                what: "export".into(),
                blocks,
                blocks_total,
                bytes,
                bytes_total: 0,
            };
            to.blocking_answer(Reply::Progress(progress).into())?;
        }
    }
    output.flush().map_err(|error| part.failed(&error))?;
    drop(output);
    part.finish(file)?;
    let range = Selection::Range(wanted).into();
    let exported = Reply::Exported {
        key: chain.key().into(),
        file: file.to_owned(),
        range,
        bytes,
    };
    Ok(to.blocking_answer(exported.into())?)
}

/// Blocks between two progress answers of an export, 64: 4 MiB of usual blocks.
const PROGRESS_EVERY_BLOCKS: u64 = 64;

/// A file being written beside its place; removed unless it was finished.
pub(super) struct Part {
    path: std::path::PathBuf,
    pub(super) file: File,
}

impl Part {
    pub(super) fn new(target: &Path) -> Result<Part, Error> {
        if target.is_dir() {
            return Err(Error::usage(format!("{} is a folder", target.display()))
                .hint("name the file to write"));
        }
        let mut name = target
            .file_name()
            .ok_or_else(|| Error::usage(format!("{} is no name of a file", target.display())))?
            .to_owned();
        name.push(format!(".part-{}", std::process::id()));
        let path = target.with_file_name(name);
        let file = File::create(&path).map_err(|error| {
            let message = format!("cannot write {}: {error}", target.display());
            match error.kind() {
                ErrorKind::NotFound => Error::not_found(message).hint("make its folder first"),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    Error::permission(message)
                }
                _ => Error::general(message),
            }
        })?;
        Ok(Part { path, file })
    }

    /// Returns how many bytes were written.
    pub(super) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    pub(super) fn finish(self, target: &Path) -> Result<(), Error> {
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        fs::rename(&self.path, target).map_err(|error| self.failed(&error))
    }

    pub(super) fn failed(&self, error: &std::io::Error) -> Error {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull => crate::api::ErrorKind::Quota,
            _ => crate::api::ErrorKind::General,
        };
        Error::new(kind, format!("{}: {error}", self.path.display()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
