//! `kinlog send`, `react`, `edit`, `delete`, `read` and `search`: what people say in rooms.

use clap::Args;
use kinlog_agent::api::{FoundEntry, MessageInfo, Reply, Request};

use crate::command::presence::Typists;
use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{LastLine, clean, clean_lines, date};
use crate::target::{Context, Ended};

#[derive(Args, Debug)]
pub(crate) struct SendArguments {
    /// Name, code or id of the room
    room: String,

    /// What to say, in Markdown; @name names a member
    text: String,

    /// The message this answers, as `kinlog read` names it
    #[arg(long, value_name = "MESSAGE")]
    reply_to: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ReactArguments {
    /// Name, code or id of the room
    room: String,

    /// The message, as `kinlog read` names it
    message: String,

    /// An emoji or a short word
    emoji: String,

    /// Take it back
    #[arg(long)]
    remove: bool,
}

#[derive(Args, Debug)]
pub(crate) struct EditArguments {
    /// Name, code or id of the room
    room: String,

    /// A message of yours, as `kinlog read` names it
    message: String,

    /// What it says from now on
    text: String,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteArguments {
    /// Name, code or id of the room
    room: String,

    /// A message of yours; admins and owners delete any
    message: String,

    /// Why, for the others to read
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Args, Debug)]
pub(crate) struct DirectArguments {
    /// Id, link or name of the agent
    agent: String,

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

    /// Go on with each new message, and show who is typing
    #[arg(long)]
    watch: bool,

    /// Show messages that name you only
    #[arg(long)]
    mentions: bool,
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
        reply_to: arguments.reply_to,
    };
    said(request, "stored", context).await
}

pub(crate) async fn react(arguments: ReactArguments, context: &Context<'_>) -> Result<(), Failure> {
    let done = if arguments.remove {
        "taken back, stored"
    } else {
        "stored"
    };
    let request = Request::React {
        room: arguments.room,
        message: arguments.message,
        emoji: arguments.emoji,
        remove: arguments.remove,
    };
    said(request, done, context).await
}

pub(crate) async fn edit(arguments: EditArguments, context: &Context<'_>) -> Result<(), Failure> {
    let request = Request::Edit {
        room: arguments.room,
        message: arguments.message,
        text: arguments.text,
    };
    said(request, "edited, stored", context).await
}

pub(crate) async fn delete(
    arguments: DeleteArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let request = Request::Delete {
        room: arguments.room,
        message: arguments.message,
        reason: arguments.reason,
    };
    said(request, "deleted, stored", context).await
}

/// Asks for something to be written into a room, and tells that it is.
async fn said(request: Request, done: &str, context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(request).await? {
        let Reply::Sent { id, room, .. } = &reply else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
        } else {
            context
                .output
                .say(format!("{done} as {} in {}", clean(id), clean(room)));
        }
    }
    Ok(())
}

pub(crate) async fn direct(
    arguments: DirectArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let request = Request::Direct {
        agent: arguments.agent,
        text: arguments.text,
    };
    let output = context.output;
    for reply in context.ask(request).await? {
        let Reply::DirectSent { room, link, .. } = &reply else {
            return Err(unexpected(&reply));
        };
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        let code = room.get(..8).unwrap_or(room);
        output.say(format!("stored in room {code}: kinlog read {code}"));
        if let Some(link) = link {
            output.say(
                "the other is not in it yet: asked where you two meet, else pass this link on",
            );
            output.data(link)?;
        }
    }
    Ok(())
}

pub(crate) async fn read(arguments: ReadArguments, context: &Context<'_>) -> Result<(), Failure> {
    let watch = arguments.watch;
    let output = context.output;
    let (mut last_line, mut typists) = (LastLine::new(output), Typists::default());
    let request = Request::Read {
        room: arguments.room,
        last: arguments.last,
        watch,
        mentions: arguments.mentions,
        presence: watch && (output.is_json() || last_line.is_visible()),
    };
    let ended = context
        .follow(request, bytes::Bytes::new(), |answer| {
            match &answer.reply {
                Reply::Message(_) | Reply::Presence(_) if output.is_json() => {
                    output.json(&answer.reply)?;
                }
                Reply::Message(message) => {
                    last_line.clear();
                    show(message, context)?;
                }
                Reply::Presence(info) => typists.take(info),
                other => return Err(unexpected(other)),
            }
            output.flush()?;
            last_line.show(typists.line());
            Ok(())
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
    let (output, paint) = (context.output, context.output.paint());
    let name = |name: &str| paint.name(&clean(name));
    if let Some(answered) = &message.reply_to {
        let what = match (answered.author_name.as_str(), answered.text.as_str()) {
            ("", _) => format!("{}, which is not here", clean(&answered.id)),
            (author, "") => format!("{}, deleted", clean(author)),
            (author, text) => format!("{}: {}", clean(author), clean(text)),
        };
        output.data(&format!("  {}", paint.faint(&format!("> {what}"))))?;
    }
    let mut marks = Vec::new();
    if message.changed {
        marks.push("changed");
    }
    if message.edited_at_ms.is_some() && message.deleted.is_none() {
        marks.push("edited");
    }
    if message.clock_marked {
        marks.push("clock off");
    }
    let marks = if marks.is_empty() {
        String::new()
    } else {
        format!(" {}", paint.faint(&format!("({})", marks.join(", "))))
    };
    let text = match &message.deleted {
        Some(deleted) if deleted.by == message.author => paint.faint("(deleted)"),
        Some(_) => paint.faint("(deleted by an admin)"),
        None => clean_lines(&message.text).replace('\n', "\n        "),
    };
    output.data(&format!(
        "{}  {}  {}  {text}{marks}",
        paint.faint(&date(message.sent_at_ms)),
        paint.faint(&clean(&message.id)),
        name(&message.author_name),
    ))?;
    if message.reactions.is_empty() {
        return Ok(());
    }
    let reactions: Vec<String> = message
        .reactions
        .iter()
        .map(|reaction| {
            let names: Vec<String> = reaction.names.iter().map(|name| clean(name)).collect();
            format!("{} {}", clean(&reaction.emoji), names.join(", "))
        })
        .collect();
    output.data(&format!("        {}", paint.faint(&reactions.join("  "))))
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
