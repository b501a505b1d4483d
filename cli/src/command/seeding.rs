//! `kinlog seed accept|list|drop`: keeping a room's sealed feeds for its members.

use bytes::Bytes;
use clap::Subcommand;
use kinlog_agent::api::{Reply, Request, SeedingInfo};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{bytes, clean, count};
use crate::target::{Context, Ended};

#[derive(Debug, Subcommand)]
pub(crate) enum SeedCommand {
    /// Keep a room for its members, by a grant that one of them gave: sealed, without keys
    Accept {
        /// kinlog://grant/#...
        link: String,
    },
    /// List the seed grants that are held, and what is kept by them
    List,
    /// Give up a seed grant, and what is kept by it
    Drop {
        /// The grant, or its first characters, as `kinlog seed list` shows it
        grant: String,
    },
}

pub(crate) async fn run(command: SeedCommand, context: &Context<'_>) -> Result<(), Failure> {
    let request = match command {
        SeedCommand::Accept { link } => Request::SeedAccept { link },
        SeedCommand::List => Request::SeedList,
        SeedCommand::Drop { grant } => Request::SeedDrop { grant },
    };
    let ended = context
        .follow(request, Bytes::new(), |answer| show(&answer.reply, context))
        .await?;
    match ended {
        Ended::Done => Ok(()),
        Ended::Interrupted => Err(Failure::Interrupted),
    }
}

fn show(reply: &Reply, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    if output.is_json() {
        return output.json(reply);
    }
    match reply {
        Reply::Seeding { grants } => {
            if grants.is_empty() {
                output.say("no seed grant is held: a member makes one with kinlog room grant");
            }
            grants
                .iter()
                .try_for_each(|grant| output.data(&line(grant, context)))
        }
        Reply::SeedingDropped {
            grants,
            blocks,
            bytes: freed,
        } => {
            for grant in grants {
                output.data(&line(grant, context))?;
            }
            output.say(format!(
                "given up; given back: {}, {}",
                count(*blocks, "block"),
                bytes(*freed)
            ));
            Ok(())
        }
        other => Err(unexpected(other)),
    }
}

fn line(grant: &SeedingInfo, context: &Context<'_>) -> String {
    let paint = context.output.paint();
    let code: String = grant.grant.to_string().chars().take(8).collect();
    format!(
        "{}  {}  room {}, {}: {}, {}; class {}",
        paint.faint(&code),
        paint.strong(&clean(&grant.state)),
        clean(&grant.room_tag).chars().take(8).collect::<String>(),
        count(grant.feeds, "feed"),
        count(grant.blocks, "sealed block"),
        bytes(grant.bytes),
        grant.quota_class,
    )
}
