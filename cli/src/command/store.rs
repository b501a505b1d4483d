//! `kinlog store`: what all feeds together take, whether it holds, and what to do if not.

use bytes::Bytes;
use clap::Subcommand;
use kinlog_agent::api::{self, ErrorKind, Reply, Request, StoreInfo};
use kinlog_agent::home::{repair_store, survey_store};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{Output, bytes, clean, count};
use crate::target::{Context, Ended};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Show what the store takes on the disk
    Stat,
    /// Give the space of cleared blocks and dropped feeds back
    Compact,
    /// Read and hash everything that is stored
    Check,
    /// Copy everything that holds of a damaged store into a fresh one; the old one is kept
    Repair,
}

pub(crate) async fn run(command: StoreCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        StoreCommand::Stat => stat(context).await,
        StoreCommand::Compact => compact(context).await,
        StoreCommand::Check => check(context).await,
        StoreCommand::Repair => repair(context).await,
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
    row("not needed", bytes(info.dead_bytes))?;
    row("index", bytes(info.index_bytes))?;
    row("disk free", bytes(info.free_bytes))
}

async fn compact(context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    for reply in context.ask(Request::StoreCompact).await? {
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        let Reply::StoreCompacted {
            segments,
            bytes_before,
            bytes_moved,
            kept,
        } = reply
        else {
            return Err(unexpected(&reply));
        };
        match segments {
            0 => output.say("nothing to give back"),
            _ => output.say(format!(
                "{} back: {} rewritten, {} of {} kept",
                bytes(bytes_before.saturating_sub(bytes_moved)),
                count(segments, "segment"),
                bytes(bytes_moved),
                bytes(bytes_before),
            )),
        }
        if kept > 0 {
            output.say(format!(
                "{} stay as they are until those before them are gone",
                count(kept, "segment")
            ));
        }
    }
    Ok(())
}

async fn check(context: &Context<'_>) -> Result<(), Failure> {
    match check_opened(context).await {
        Err(Failure::Agent(error)) if error.kind == ErrorKind::Verification => {
            let home = context.home.clone();
            // A running agent reports what it found itself; else the store may not even open.
            if let Ok(reply) = blocking(move || survey_store(&home)).await
                && matches!(&reply, Reply::StoreChecked { gaps, .. } if !gaps.is_empty())
            {
                show_check(&reply, context.output)?;
            }
            Err(Failure::Agent(error))
        }
        done => done,
    }
}

async fn check_opened(context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let progress = output.progress("");
    let ended = context
        .follow(Request::StoreCheck, Bytes::new(), |answer| {
            if let Reply::Progress(now) = &answer.reply {
                progress.update(now.bytes, now.bytes_total);
                return Ok(());
            }
            progress.clear();
            show_check(&answer.reply, output)
        })
        .await?;
    match ended {
        Ended::Done => Ok(()),
        Ended::Interrupted => Err(Failure::Interrupted),
    }
}

fn show_check(reply: &Reply, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(reply);
    }
    let Reply::StoreChecked {
        feeds,
        blocks_checked,
        nodes_checked,
        problem_count,
        problems,
        gaps,
    } = reply
    else {
        return Err(unexpected(reply));
    };
    let bad = |text: &str| output.data(&output.paint().bad(&clean(text)));
    gaps.iter().try_for_each(|gap| bad(gap))?;
    problems
        .iter()
        .try_for_each(|problem| bad(&problem.problem))?;
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
}

/// Repairs the store of a home that no agent uses.
async fn repair(context: &Context<'_>) -> Result<(), Failure> {
    let (home, output) = (context.home.clone(), context.output);
    let reply = blocking(move || repair_store(&home)).await?;
    if output.is_json() {
        return output.json(&reply);
    }
    let Reply::StoreRepaired {
        sound,
        damaged,
        feeds,
        gaps,
        records_left,
        feeds_without_name,
        ..
    } = &reply
    else {
        return Err(unexpected(&reply));
    };
    if *sound {
        output.say(format!(
            "{} everything holds, nothing was changed",
            output.paint_words().good("ok:")
        ));
        return Ok(());
    }
    for gap in gaps {
        output.say(format!("the log at {}", clean(gap)));
    }
    for feed in feeds {
        let lost: Vec<String> = feed.lost.iter().map(ToString::to_string).collect();
        let lost = match lost.is_empty() {
            true => "nothing lost".to_owned(),
            false => format!("lost {}", lost.join(", ")),
        };
        output.data(&format!(
            "{}  {} of {} held, {lost}",
            feed.key,
            count(feed.blocks_held, "block"),
            feed.length_seen,
        ))?;
    }
    if *records_left + *feeds_without_name > 0 {
        output.say(format!(
            "not carried over: {}, {} of which the record with the key is lost",
            count(*records_left, "record"),
            count(*feeds_without_name, "feed"),
        ));
    }
    if let Some(damaged) = damaged {
        output.say(format!(
            "the old store is kept as {}; delete it when nothing is missing",
            damaged.display()
        ));
    }
    output.say(
        "what is lost comes again from peers (kinlog up) or bundles; own feeds sign nothing until \
         `kinlog device renew`, as a newer head may have been lost",
    );
    Ok(())
}

async fn blocking(
    work: impl FnOnce() -> Result<Reply, api::Error> + Send + 'static,
) -> Result<Reply, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Failure::general(error.to_string()))?;
    Ok(done?)
}
