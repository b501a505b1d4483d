//! Bundles: what exports and imports tell, and checking one without a home.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use kinlog_agent::api::{ErrorKind, Reply, Selection, Text};
use kinlog_feeds::bundle::{BundleError, BundleReader, BundleSummary};
use kinlog_feeds::limits::BUNDLE_RUN_BYTES;

use crate::command::{feed, unexpected};
use crate::error::Failure;
use crate::output::{Output, bytes, count};
use crate::target::interrupted;

/// Ranges that are spelled out for people; the rest is counted.
const RANGES_SHOWN: usize = 8;

/// Checks a bundle from its first byte to its last.
pub(crate) async fn verify(file: PathBuf, output: &Output) -> Result<(), Failure> {
    let summary = tokio::select! {
        () = interrupted() => return Err(Failure::Interrupted),
        summary = tokio::task::spawn_blocking(move || read(&file)) => {
            summary.map_err(|error| Failure::general(error.to_string()))??
        }
    };
    let head = &summary.header.signed.head;
    let ranges = summary.header.ranges.iter().cloned();
    let reply = Reply::BundleVerified {
        key: summary.header.feed.into(),
        fork: head.fork,
        length: head.length,
        byte_length: head.byte_length,
        ranges: ranges.map(|range| Text(Selection::Range(range))).collect(),
        blocks: summary.blocks,
        bytes: summary.bytes,
    };
    show(&reply, output)
}

fn read(file: &PathBuf) -> Result<BundleSummary, Failure> {
    let input = File::open(file).map_err(|error| Failure::io(file.display(), &error))?;
    let input = BufReader::with_capacity(BUNDLE_RUN_BYTES, input);
    let read = BundleReader::new(input).and_then(BundleReader::verify);
    read.map_err(|error| match error {
        BundleError::Io(error) => Failure::io(file.display(), &error),
        BundleError::NotABundle => Failure::new(
            ErrorKind::Verification,
            format!("{}: {error}", file.display()),
        )
        .hint("the stored feed at a path of that name is checked by its key"),
        error => Failure::new(
            ErrorKind::Verification,
            format!("{}: {error}", file.display()),
        ),
    })
}

/// Shows what was written, read or checked.
pub(crate) fn show(reply: &Reply, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(reply);
    }
    match reply {
        Reply::BundleExported {
            file,
            length,
            ranges,
            blocks,
            bytes: size,
            ..
        } => {
            output.say(format!(
                "{} of {length} with their proofs, {}: {}",
                count(*blocks, "block"),
                bytes(*size),
                spelled(ranges)
            ));
            output.data(&file.display().to_string())
        }
        Reply::BundleImported {
            feed: info,
            length_before,
            blocks_new,
            blocks_held_before,
            blocks_untied,
            ..
        } => {
            output.say(format!(
                "{} new, {blocks_held_before} held before; length {length_before} before, {} now",
                count(*blocks_new, "block"),
                info.length
            ));
            if *blocks_untied > 0 {
                output.say(format!(
                    "{} left out: the tree nodes that tie them to the longer head here are not held",
                    count(*blocks_untied, "block")
                ));
            }
            feed::show_feed(info, output)
        }
        Reply::BundleVerified {
            key,
            fork,
            length,
            ranges,
            blocks,
            bytes: size,
            ..
        } => {
            output.say(format!(
                "{} every block leads to the head that the feed's author signed",
                output.paint_words().good("ok:"),
            ));
            let row = |name: &str, value: String| output.data(&format!("{name:<14}{value}"));
            row("key", key.to_string())?;
            row("length", count(*length, "block"))?;
            row(
                "holds",
                format!("{}, {}", count(*blocks, "block"), bytes(*size)),
            )?;
            row("ranges", spelled(ranges))?;
            row("fork", fork.to_string())
        }
        other => Err(unexpected(other)),
    }
}

fn spelled(ranges: &[Text<Selection>]) -> String {
    let mut shown: Vec<String> = ranges
        .iter()
        .take(RANGES_SHOWN)
        .map(ToString::to_string)
        .collect();
    match ranges.len().saturating_sub(RANGES_SHOWN) {
        0 if shown.is_empty() => return "no blocks, the head alone".to_owned(),
        0 => {}
        more => shown.push(format!("and {more} more")),
    }
    shown.join(", ")
}
