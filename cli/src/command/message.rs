//! `kinlog send`, `read` and `search`: what people say in rooms.

use clap::Args;
use kinlog_agent::api::{FoundEntry, MessageInfo, Reply, Request};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, clean_lines};
use crate::target::{Context, Ended};

#[derive(Args, Debug)]
pub(crate) struct SendArguments {
    /// Name, code or id of the room
    room: String,

    /// What to say
    text: String,
}

#[derive(Args, Debug)]
pub(crate) struct ReadArguments {
    /// Name, code or id of the room
    room: String,

    /// Show the newest N messages only
    #[arg(long, value_name = "N")]
    last: Option<u64>,

    /// Go on with each new message
    #[arg(long)]
    watch: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SearchArguments {
    /// Words that all have to occur
    #[arg(required = true, value_name = "WORD")]
    query: Vec<String>,
}

pub(crate) async fn send(arguments: SendArguments, context: &Context<'_>) -> Result<(), Failure> {
    let request = Request::Send {
        room: arguments.room,
        text: arguments.text,
    };
    for reply in context.ask(request).await? {
        let Reply::Sent { room, index, .. } = &reply else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
        } else {
            context.output.say(format!(
                "stored as entry {index} of yours in {}",
                clean(room)
            ));
        }
    }
    Ok(())
}

pub(crate) async fn read(arguments: ReadArguments, context: &Context<'_>) -> Result<(), Failure> {
    let watch = arguments.watch;
    let request = Request::Read {
        room: arguments.room,
        last: arguments.last,
        watch,
    };
    let output = context.output;
    let ended = context
        .follow(request, bytes::Bytes::new(), |answer| {
            let Reply::Message(message) = &answer.reply else {
                return Err(unexpected(&answer.reply));
            };
            if output.is_json() {
                output.json(&answer.reply)?
            } else {
                show(message, context)?
            }
            output.flush()
        })
        .await?;
    match ended {
        Ended::Interrupted if !watch => Err(Failure::Interrupted),
        _ => Ok(()),
    }
}

pub(crate) async fn search(
    arguments: SearchArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let query = arguments.query.join(" ");
    if query.trim().is_empty() {
        return Err(Failure::usage("no word to search for").hint("kinlog search tomatoes"));
    }
    let replies = context.ask(Request::Search { query }).await?;
    if replies.is_empty() {
        context.output.say("nothing found");
    }
    for reply in replies {
        let Reply::Found(found) = &reply else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
        } else {
            show_found(found, context)?;
        }
    }
    Ok(())
}

fn show(message: &MessageInfo, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint();
    let text = clean_lines(&message.text).replace('\n', "\n        ");
    context.output.data(&format!(
        "{}  {}  {text}",
        paint.faint(&clock(message.sent_at_ms)),
        paint.name(&clean(&message.author_name)),
    ))
}

fn show_found(found: &FoundEntry, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint();
    let place = found
        .room
        .as_deref()
        .or(found.path.as_deref())
        .unwrap_or("");
    let title = if found.title.is_empty() {
        &found.author
    } else {
        &found.title
    };
    context.output.data(&format!(
        "{}  {}  {}",
        paint.strong(&clean(title)),
        paint.faint(&clean(&found.kind)),
        paint.name(&clean(place)),
    ))?;
    context
        .output
        .data(&format!("    {}", clean(&found.snippet)))
}

/// Returns the time of day in UTC, as the author's clock said.
fn clock(milliseconds: u64) -> String {
    let minutes = milliseconds / 60_000 % (24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}
