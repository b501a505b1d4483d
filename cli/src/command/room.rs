//! `kinlog room`: make rooms, invite, join.

use clap::Subcommand;
use kinlog_agent::api::{Reply, Request, RoomInfo};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, count};
use crate::target::{Context, Ended};

#[derive(Debug, Subcommand)]
pub(crate) enum RoomCommand {
    /// Make a room
    Create {
        /// What its members call it
        name: String,
    },
    /// Make a link that lets its holder join
    Invite {
        /// Name, code or id of the room
        room: String,
    },
    /// Join by a link
    Join {
        /// kinlog://join/#...
        link: String,

        /// Seconds to wait for a member who answers
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// List the rooms this agent is in
    List,
}

pub(crate) async fn run(command: RoomCommand, context: &Context<'_>) -> Result<(), Failure> {
    let request = match command {
        RoomCommand::Create { name } => Request::RoomCreate { name },
        RoomCommand::Invite { room } => Request::RoomInvite { room },
        RoomCommand::Join { link, wait } => Request::RoomJoin {
            link,
            wait_seconds: wait,
        },
        RoomCommand::List => Request::RoomList,
    };
    let ended = context
        .follow(request, bytes::Bytes::new(), |answer| {
            show(&answer.reply, context)
        })
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
        Reply::Room(room) => output.data(&line(room, context)),
        Reply::Rooms { rooms } => {
            if rooms.is_empty() {
                output.say("in no room yet: kinlog room create NAME, or kinlog room join LINK");
            }
            rooms
                .iter()
                .try_for_each(|room| output.data(&line(room, context)))
        }
        Reply::Invite { link, .. } => {
            output.say("whoever has this link can join; pass it on as you would a key");
            output.data(link)
        }
        Reply::Waiting { message, .. } => {
            output.say(clean(message));
            Ok(())
        }
        other => Err(unexpected(other)),
    }
}

fn line(room: &RoomInfo, context: &Context<'_>) -> String {
    let paint = context.output.paint();
    format!(
        "{}  {}  {}, {}",
        paint.faint(&clean(&room.code)),
        paint.strong(&clean(&room.name)),
        count(room.members, "member"),
        count(room.messages, "message"),
    )
}
