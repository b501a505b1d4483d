//! `kinlog feed`: make, fill, read, check and move feeds.

use std::io::{self, IsTerminal};
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use clap::Subcommand;
use kinlog_agent::api::{FeedInfo, Reply, Request, Selection, Text};
use serde::Serialize;

use crate::command::{append, bundle, conflicts, space, tcp, unexpected};
use crate::error::Failure;
use crate::home::absolute;
use crate::output::{Output, bytes, clean, clean_lines, count};
use crate::target::{Context, Ended};

#[derive(Debug, Subcommand)]
pub(crate) enum FeedCommand {
    /// Make an empty feed at a path of our own
    Create {
        /// Own path, such as /notes
        #[arg(required_unless_present = "plain")]
        path: Option<String>,
        /// List it nowhere: it has no path, and who has the key can have it
        #[arg(long, conflicts_with = "path")]
        plain: bool,
        /// For your own devices alone: sealed, and nobody else learns that it exists
        #[arg(long, conflicts_with = "plain")]
        private: bool,
        /// log: one device writes it; shared: each of your devices writes its part
        #[arg(long, value_name = "KIND", value_parser = ["log", "shared"], conflicts_with = "plain")]
        kind: Option<String>,
    },
    /// Give a path of ours another label; readers of the old one are led on
    Rename {
        /// Own path, such as /notes
        path: String,
        /// Its label from now on
        new: String,
    },
    /// Go on here with a path that another device of yours writes
    Take {
        /// The path
        path: String,
    },
    /// List a path of ours no longer; what is stored stays, and the label is free
    Retire {
        /// Own path, such as /notes
        path: String,
    },
    /// List all feeds that are held
    List,
    /// Show one feed
    Info {
        /// Own path, key or link
        feed: String,
    },
    /// Append a block per line of stdin
    Append {
        /// Own path, such as /notes, made if need be; or the key of an own feed
        path: String,
    },
    /// Print blocks, each on a line of its own
    Read {
        /// Own path, key or link
        feed: String,
        /// Blocks A..B (B not included) or last:N [default: all that are held]
        range: Option<Selection>,
        /// The same, as other commands take it
        #[arg(
            long = "range",
            value_name = "RANGE",
            conflicts_with = "range",
            hide = true
        )]
        named: Option<Selection>,
        /// These bytes instead, A..B counted from the feed's first one, as they are
        #[arg(long, value_name = "A..B", conflicts_with_all = ["range", "named"], value_parser = byte_range)]
        bytes: Option<Range<u64>>,
        /// Ask connected peers for blocks of the range that are not held, for so long
        #[arg(long, value_name = "SECONDS", conflicts_with = "bytes")]
        wait: Option<u32>,
    },
    /// Append a file in blocks of equal size, or take in a bundle
    Import {
        /// Own path, such as /files/film; made if need be
        #[arg(required_unless_present = "bundle")]
        path: Option<String>,
        #[arg(required_unless_present = "bundle")]
        file: Option<PathBuf>,
        /// Bytes in a block
        #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
        block_size: u32,
        /// Check a bundle, then store what of it is not held
        #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "file", "block_size"])]
        bundle: Option<PathBuf>,
    },
    /// Write the blocks of a feed into a file, one after the other, or with their proofs as a bundle
    Export {
        /// Own path, key or link
        feed: String,
        /// File to write; it appears whole or not at all
        #[arg(required_unless_present = "bundle")]
        file: Option<PathBuf>,
        /// Blocks A..B (B not included) or last:N; a bundle takes several [default: all]
        #[arg(long)]
        range: Vec<Selection>,
        /// Write a bundle: blocks, proofs and signed head in one file that anybody can check
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        bundle: Option<PathBuf>,
    },
    /// Check what is stored of a feed, or a bundle, against its signature
    Verify {
        /// Own path, key or link; or a file, which needs no home
        #[arg(value_name = "FEED|FILE")]
        feed: String,
    },
    /// Give up blocks: their bytes go, their proofs and the feed's length stay
    Clear {
        /// Own path, key or link
        feed: String,
        /// Blocks A..B (B not included) or last:N
        range: Selection,
        /// Also blocks of an own feed, which nobody else may hold
        #[arg(long)]
        own: bool,
        /// Blocks of an own path, here and with everybody who follows it
        #[arg(long)]
        everywhere: bool,
    },
    /// Take a feed out of the store: one that is not our own and that no pin asks for
    Drop {
        /// Key or link
        feed: String,
    },
    /// Show feeds whose author signed two histories, with the proof; exit 9 if there are any
    Conflicts(conflicts::ConflictsArguments),
    /// Cut an own plain feed to its first blocks; readers follow
    Truncate {
        /// Key of an own feed made with --plain
        feed: String,
        /// Blocks that stay
        #[arg(long, value_name = "N")]
        length: u64,
    },
    /// Serve a public feed as plain Hypercore 11 over TCP
    Serve(tcp::ServeArguments),
    /// Fetch a feed from a plain Hypercore peer over TCP
    Pull(tcp::PullArguments),
}

pub(crate) async fn run(command: FeedCommand, context: &Context<'_>) -> Result<(), Failure> {
    let text = |range: Option<Selection>| range.map(Text);
    match command {
        FeedCommand::Create {
            path,
            plain,
            private,
            kind,
        } => {
            let path = path.unwrap_or_default();
            let request = Request::FeedCreate {
                path,
                plain,
                private,
                kind,
            };
            show_all(request, context).await
        }
        FeedCommand::Rename { path, new } => {
            show_all(Request::FeedRename { path, to: new }, context).await
        }
        FeedCommand::Take { path } => show_all(Request::FeedTake { path }, context).await,
        FeedCommand::Retire { path } => show_all(Request::FeedRetire { path }, context).await,
        FeedCommand::List => show_all(Request::FeedList, context).await,
        FeedCommand::Info { feed } => show_all(Request::FeedInfo { feed }, context).await,
        FeedCommand::Append { path } => append::append(path, context).await,
        FeedCommand::Read {
            feed,
            range,
            named,
            bytes,
            wait,
        } => {
            read(
                Request::FeedRead {
                    feed,
                    range: text(range.or(named)),
                    bytes,
                    wait_ms: wait.map(|seconds| u64::from(seconds) * 1000),
                },
                context,
            )
            .await
        }
        FeedCommand::Import {
            bundle: Some(file), ..
        } => {
            let file = absolute(&file)?;
            transfer(Request::BundleImport { file }, context).await
        }
        FeedCommand::Import {
            path,
            file,
            block_size,
            bundle: None,
        } => {
            if block_size == 0 {
                return Err(Failure::usage(
                    "--block-size 0: a block has at least one byte",
                ));
            }
            let file = absolute(&file.unwrap_or_default())?;
            let path = path.unwrap_or_default();
            transfer(
                Request::FeedImport {
                    path,
                    file,
                    block_size,
                },
                context,
            )
            .await
        }
        FeedCommand::Export {
            feed,
            range,
            bundle: Some(file),
            ..
        } => {
            let file = absolute(&file)?;
            let ranges = range.into_iter().map(Text).collect();
            transfer(Request::BundleExport { feed, file, ranges }, context).await
        }
        FeedCommand::Export {
            feed,
            file,
            mut range,
            bundle: None,
        } => {
            if range.len() > 1 {
                return Err(Failure::usage("several ranges go into a bundle only")
                    .hint("--bundle FILE, or one --range"));
            }
            let file = absolute(&file.unwrap_or_default())?;
            transfer(
                Request::FeedExport {
                    feed,
                    file,
                    range: text(range.pop()),
                },
                context,
            )
            .await
        }
        FeedCommand::Verify { feed } => {
            // A path of ours that is also a file here can be named by its key.
            let file = PathBuf::from(&feed);
            match file.is_file() {
                true => bundle::verify(file, context.output).await,
                false => verify(feed, context).await,
            }
        }
        FeedCommand::Clear {
            feed,
            range,
            own,
            everywhere,
        } => {
            let request = Request::FeedClear {
                feed,
                range: Text(range),
                own,
                everywhere,
            };
            space::cleared(request, context).await
        }
        FeedCommand::Drop { feed } => space::dropped(Request::FeedDrop { feed }, context).await,
        FeedCommand::Conflicts(arguments) => conflicts::run(arguments, context).await,
        FeedCommand::Truncate { feed, length } => {
            show_all(Request::FeedTruncate { feed, length }, context).await
        }
        FeedCommand::Serve(arguments) => tcp::serve(arguments, context).await,
        FeedCommand::Pull(arguments) => tcp::pull(arguments, context).await,
    }
}

/// Asks something whose answers are feeds and figures about them.
async fn show_all(request: Request, context: &Context<'_>) -> Result<(), Failure> {
    let list = matches!(request, Request::FeedList);
    for reply in context.ask(request).await? {
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        match &reply {
            Reply::Feed(feed) => show_feed(feed, context.output)?,
            Reply::Feeds { feeds } if list => {
                if feeds.is_empty() {
                    context
                        .output
                        .say("no feeds yet: echo hello | kinlog feed append /notes");
                }
                feeds
                    .iter()
                    .try_for_each(|feed| context.output.data(&feed_line(feed, context.output)))?;
            }
            other => return Err(unexpected(other)),
        }
    }
    Ok(())
}

pub(crate) fn show_feed(feed: &FeedInfo, output: &Output) -> Result<(), Failure> {
    let paint = output.paint();
    let row = |name: &str, value: String| output.data(&format!("{name:<14}{value}"));
    row("key", feed.key.to_string())?;
    if let Some(path) = &feed.path {
        row("path", paint.strong(&clean(path)))?;
    }
    if let Some(agent) = &feed.agent {
        row("author", agent.to_string())?;
    }
    if let Some(link) = &feed.link {
        row("link", paint.name(&clean(link)))?;
    }
    row("discovery key", feed.discovery_key.to_string())?;
    let private = if feed.private { ", private" } else { "" };
    row("role", format!("{}, {}{private}", feed.role, feed.content))?;
    row(
        "length",
        format!(
            "{}, {}",
            count(feed.length, "block"),
            bytes(feed.byte_length)
        ),
    )?;
    row(
        "held",
        format!(
            "{}, {}",
            count(feed.blocks_held, "block"),
            bytes(feed.bytes_held)
        ),
    )?;
    row("fork", feed.fork.to_string())?;
    match &feed.conflict {
        Some(conflict) => row("conflict", paint.bad(&clean(conflict))),
        None => Ok(()),
    }
}

fn feed_line(feed: &FeedInfo, output: &Output) -> String {
    let paint = output.paint();
    let path = match &feed.path {
        Some(path) if feed.private => {
            format!(
                "  {}  {}",
                paint.strong(&clean(path)),
                paint.faint("private")
            )
        }
        Some(path) => format!("  {}", paint.strong(&clean(path))),
        None => String::new(),
    };
    format!(
        "{}  {:<9}  {:>7} of {:>7}  {:>8}{path}",
        feed.key,
        feed.role,
        feed.blocks_held,
        feed.length,
        bytes(feed.bytes_held),
    )
}

/// A block as `--json` prints it.
#[derive(Serialize)]
struct BlockLine<'a> {
    reply: &'static str,
    index: u64,
    bytes: u64,
    /// The block, when it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// The block in hex, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// Reads `A..B` of bytes.
pub(crate) fn byte_range(text: &str) -> Result<Range<u64>, String> {
    match text.parse() {
        Ok(Selection::Range(range)) => Ok(range),
        _ => Err(format!("{text:?} names no bytes: expected A..B with A < B")),
    }
}

async fn read(request: Request, context: &Context<'_>) -> Result<(), Failure> {
    let in_bytes = matches!(request, Request::FeedRead { bytes: Some(_), .. });
    let output = context.output;
    let terminal = io::stdout().is_terminal();
    let ended = context
        .follow(request, Bytes::new(), |answer| {
            let Reply::Block { index, bytes: size } = &answer.reply else {
                return Err(unexpected(&answer.reply));
            };
            let text = std::str::from_utf8(&answer.payload);
            if output.is_json() {
                return output.json(&BlockLine {
                    reply: "block",
                    index: *index,
                    bytes: *size,
                    text: text.ok(),
                    hex: text
                        .is_err()
                        .then(|| kinlog_feeds::text::encode_hex(&answer.payload)),
                });
            }
            match (terminal, text) {
                (false, _) if in_bytes => output.bytes(&answer.payload),
                (false, _) => {
                    output.bytes(&answer.payload)?;
                    output.bytes(b"\n")
                }
                (true, Ok(text)) => output.data(&clean_lines(text)),
                (true, Err(_)) => {
                    let note = format!("block {index}: {} that are no text", bytes(*size));
                    output.data(&output.paint().faint(&note))
                }
            }
        })
        .await?;
    match ended {
        Ended::Done => Ok(()),
        Ended::Interrupted => Err(Failure::Interrupted),
    }
}

/// Does something that takes a while and ends.
pub(crate) async fn transfer(request: Request, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let progress = output.progress("");
    let ended = context
        .follow(request, Bytes::new(), |answer| {
            let reply = &answer.reply;
            if let Reply::Progress(now) = reply {
                progress.update(now.bytes, now.bytes_total);
                return if output.is_json() {
                    output.json(reply)
                } else {
                    Ok(())
                };
            }
            progress.clear();
            if output.is_json() {
                return output.json(reply);
            }
            match reply {
                Reply::Appended { .. } => append::show_appended(reply, output),
                Reply::Feed(feed) => show_feed(feed, output),
                Reply::Exported {
                    file,
                    range,
                    bytes: size,
                    ..
                } => {
                    output.say(format!("blocks {range}, {} written", bytes(*size)));
                    output.data(&file.display().to_string())
                }
                Reply::BundleExported { .. } | Reply::BundleImported { .. } => {
                    bundle::show(reply, output)
                }
                other => Err(unexpected(other)),
            }
        })
        .await?;
    match ended {
        Ended::Done => Ok(()),
        Ended::Interrupted => Err(Failure::Interrupted),
    }
}

async fn verify(feed: String, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let ended = context
        .follow(Request::FeedVerify { feed }, Bytes::new(), |answer| {
            let Reply::Verified {
                key,
                length,
                blocks_checked,
                problems,
            } = &answer.reply
            else {
                return Err(unexpected(&answer.reply));
            };
            if output.is_json() {
                return output.json(&answer.reply);
            }
            for problem in problems {
                // It says which feed and block.
                output.data(&output.paint().bad(&clean(&problem.problem)))?;
            }
            if problems.is_empty() {
                output.say(format!(
                    "{} {} of {length} checked against the signed head of {key}",
                    output.paint_words().good("ok:"),
                    count(*blocks_checked, "block"),
                ));
            }
            Ok(())
        })
        .await?;
    match ended {
        Ended::Done => Ok(()),
        Ended::Interrupted => Err(Failure::Interrupted),
    }
}
