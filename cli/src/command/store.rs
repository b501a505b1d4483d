//! `kinlog store`: what all feeds together take, whether it holds, and what to do if not.

use bytes::Bytes;
use clap::Subcommand;
use kinlog_agent::api::{Reply, Request, StoreInfo};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{Output, bytes, clean, count};
use crate::target::{Context, Ended};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Show what the store takes on the disk
    Stat,
    /// Read and hash everything that is stored
    Check,
}

pub(crate) async fn run(command: StoreCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        StoreCommand::Stat => stat(context).await,
        StoreCommand::Check => check(context).await,
    }
}

async fn stat(context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    for reply in context.ask(Request::StoreStat).await? {
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        match &reply {
            Reply::Store(info) => show_stat(info, output)?,
            other => return Err(unexpected(other)),
        }
    }
    Ok(())
}

fn show_stat(info: &StoreInfo, output: &Output) -> Result<(), Failure> {
    let row = |name: &str, value: String| output.data(&format!("{name:<14}{value}"));
    row("folder", info.folder.display().to_string())?;
    row("feeds", info.feeds.to_string())?;
    row(
        "blocks",
        format!("{}, {}", info.blocks, bytes(info.block_bytes)),
    )?;
    row(
        "log",
        format!(
            "{} in {}",
            bytes(info.log_bytes),
            count(info.segments, "segment")
        ),
    )?;
    row("index", bytes(info.index_bytes))?;
    row("disk free", bytes(info.free_bytes))
}

async fn check(context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let progress = output.progress("");
    let ended = context
        .follow(Request::StoreCheck, Bytes::new(), |answer| {
            if let Reply::Progress(now) = &answer.reply {
                progress.update(now.bytes, now.bytes_total);
                return Ok(());
            }
            progress.clear();
            if output.is_json() {
                return output.json(&answer.reply);
            }
            let Reply::StoreChecked {
                feeds,
                blocks_checked,
                nodes_checked,
                problem_count,
                problems,
            } = &answer.reply
            else {
                return Err(unexpected(&answer.reply));
            };
            for problem in problems {
                output.data(&output.paint().bad(&clean(&problem.problem)))?;
            }
            let verdict = match problem_count {
                0 => output.paint_words().good("ok:"),
                _ => output.paint_words().bad("damaged:"),
            };
            output.say(format!(
                "{verdict} {} and {} of {} hashed again, {}",
                count(*blocks_checked, "block"),
                count(*nodes_checked, "tree node"),
                count(*feeds, "feed"),
                count(*problem_count, "problem"),
            ));
            Ok(())
        })
        .await?;
    match ended {
        Ended::Done => Ok(()),
        Ended::Interrupted => Err(Failure::Interrupted),
    }
}
