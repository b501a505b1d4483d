//! `kinlog room`: make rooms, invite, join; who is in them; leave, export.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kinlog_agent::api::{
    InviteInfo, MemberInfo, PresenceState, ReaderInfo, Reply, Request, RoomInfo, RoomLeft,
};

use crate::command::grant;
use crate::command::ping::show_steps;
use crate::error::Failure;
use crate::output::{bytes, clean, count, show_qr};
use crate::target::{Context, Ended};

#[derive(Debug, Subcommand)]
pub(crate) enum RoomCommand {
    /// Make a room
    Create {
        /// What its members call it
        name: String,

        /// What those who join later may read: full, from-join, or the last days as 30d
        #[arg(long, value_name = "POLICY")]
        history: Option<String>,
    },
    /// Make a link that lets its holder join, or revoke one
    Invite(InviteArguments),
    /// List the invites of a room
    Invites {
        /// Name, code or id of the room
        room: String,
    },
    /// Let a seeder keep the room for its members: sealed, without keys
    Grant(grant::GrantArguments),
    /// List the seed grants of a room
    Grants {
        /// Name, code or id of the room
        room: String,
    },
    /// End what a seeder was granted
    GrantRevoke {
        /// Name, code or id of the room
        room: String,

        /// The grant, or its first characters, or the seeder's agent id
        grant: String,
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
    /// Show who is in a room, and who sees something of it
    Members {
        /// Name, code or id of the room
        room: String,
    },
    /// Give a member another role
    Role {
        /// Name, code or id of the room
        room: String,

        /// Name, id or link of the member
        who: String,

        /// guest, member, admin or owner
        role: String,
    },
    /// Remove a member, who reads nothing that is written from then on
    Remove {
        /// Name, code or id of the room
        room: String,

        /// Name, id or link of the member
        who: String,

        /// Why; the member is told
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Leave a room, or give up joining one
    Leave {
        /// Name, code or id of the room
        room: String,

        /// Keep nothing of it
        #[arg(long)]
        purge: bool,
    },
    /// Write the messages and files of a room into a new folder
    Export {
        /// Name, code or id of the room
        room: String,

        /// A folder that is not there yet
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct InviteArguments {
    #[command(subcommand)]
    command: Option<InviteCommand>,

    /// Name, code or id of the room
    #[arg(required = true)]
    room: Option<String>,

    /// guest, member, admin or owner [default: member]
    #[arg(long)]
    role: Option<String>,

    /// Until when, as 7d, 12h or 30m from now [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<u64>,

    /// How many may join by it [default: without limit]
    #[arg(long, value_name = "N")]
    uses: Option<u32>,

    /// Show the link as a QR code too
    #[arg(long)]
    qr: bool,
}

#[derive(Debug, Subcommand)]
enum InviteCommand {
    /// Let nobody in by an invite any more
    Revoke {
        /// Name, code or id of the room
        room: String,

        /// Key of the invite, or its link
        invite: String,
    },
}

/// Reads a time as people write it: `7d`, `12h`, `30m`, `45s`.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let error = || format!("{text:?} is no time: expected 7d, 12h, 30m or 45s");
    let unit = text.chars().last().ok_or_else(error)?;
    let each = match unit {
        'd' => 24 * 60 * 60,
        'h' => 60 * 60,
        'm' => 60,
        's' => 1,
        _ => return Err(error()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| error())?;
    number
        .checked_mul(each)
        .filter(|seconds| *seconds > 0)
        .ok_or_else(error)
}

pub(crate) async fn run(command: RoomCommand, context: &Context<'_>) -> Result<(), Failure> {
    let with_qr = matches!(&command, RoomCommand::Invite(arguments) if arguments.qr);
    let ended = context
        .follow(request(command)?, bytes::Bytes::new(), |answer| {
            show(&answer.reply, context)?;
            match &answer.reply {
                Reply::Invite { link, .. } if with_qr => show_qr(link, context.output),
                _ => Ok(()),
            }
        })
        .await?;
    match ended {
        Ended::Done => Ok(()),
        Ended::Interrupted => Err(Failure::Interrupted),
    }
}

fn request(command: RoomCommand) -> Result<Request, Failure> {
    Ok(match command {
        RoomCommand::Create { name, history } => Request::RoomCreate { name, history },
        RoomCommand::Invite(arguments) => match arguments.command {
            Some(InviteCommand::Revoke { room, invite }) => {
                Request::RoomInviteRevoke { room, key: invite }
            }
            None => Request::RoomInvite {
                room: arguments.room.unwrap_or_default(),
                role: arguments.role,
                expires_in: arguments.expires,
                uses: arguments.uses,
            },
        },
        RoomCommand::Grant(arguments) => arguments.into(),
        RoomCommand::Grants { room } => Request::RoomGrants { room },
        RoomCommand::GrantRevoke { room, grant } => Request::RoomGrantRevoke { room, grant },
        RoomCommand::Invites { room } => Request::RoomInvites { room },
        RoomCommand::Join { link, wait } => Request::RoomJoin {
            link,
            wait_seconds: wait,
        },
        RoomCommand::List => Request::RoomList,
        RoomCommand::Members { room } => Request::RoomMembers { room },
        RoomCommand::Role { room, who, role } => Request::RoomRole { room, who, role },
        RoomCommand::Remove { room, who, reason } => Request::RoomRemove { room, who, reason },
        RoomCommand::Leave { room, purge } => Request::RoomLeave { room, purge },
        RoomCommand::Export { room, folder } => Request::RoomExport {
            room,
            // A running agent has another working folder than this command.
            folder: std::path::absolute(&folder)
                .map_err(|error| Failure::io(folder.display().to_string(), &error))?,
        },
    })
}

pub(crate) fn show(reply: &Reply, context: &Context<'_>) -> Result<(), Failure> {
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
        Reply::Invites { invites, .. } => {
            if invites.is_empty() {
                output.say("nobody is invited: kinlog room invite ROOM");
            }
            invites
                .iter()
                .try_for_each(|invite| output.data(&invite_line(invite, context)))
        }
        Reply::Members {
            members, readers, ..
        } => {
            for member in members {
                show_member(member, context)?;
            }
            output.data("")?;
            output.data("Who sees what:")?;
            readers
                .iter()
                .try_for_each(|reader| output.data(&reader_line(reader)))
        }
        Reply::Waiting { message, steps, .. } => {
            output.say(clean(message));
            show_steps(steps, output);
            Ok(())
        }
        Reply::RoomChanged(change) => {
            output.say(clean(&change.message));
            output.say(match change.told {
                0 => "no other member is connected: they hear of it when they meet".to_owned(),
                told => format!("told {}", count(told, "connected device")),
            });
            Ok(())
        }
        Reply::RoomLeft(left) => {
            output.say(left_line(left));
            Ok(())
        }
        Reply::RoomExported(exported) => {
            output.say(format!(
                "{}, {} ({}) in {}",
                count(exported.messages, "message"),
                count(exported.files, "file"),
                bytes(exported.bytes),
                exported.folder.display()
            ));
            if exported.files_left_out > 0 {
                output.say(format!(
                    "{} left out: not all of it is held here",
                    count(exported.files_left_out, "file")
                ));
            }
            Ok(())
        }
        other => grant::show(other, context),
    }
}

fn line(room: &RoomInfo, context: &Context<'_>) -> String {
    let paint = context.output.paint();
    let name = match &room.with {
        Some(with) => format!("with {with}"),
        None => room.name.clone(),
    };
    let left = match (&room.left, room.acts_left) {
        (Some(left), _) => format!("; {}", paint.warn(&clean(left))),
        (None, Some(acts)) => {
            let few = format!(
                "this device may do {} more here: then another device of yours, or an admin who removes and invites you again",
                count(acts, "act")
            );
            format!("; {}", paint.warn(&few))
        }
        (None, None) => String::new(),
    };
    format!(
        "{}  {}  {}, {}{left}",
        paint.faint(&clean(&room.code)),
        paint.strong(&clean(&name)),
        count(room.members, "member"),
        count(room.messages, "message"),
    )
}

fn show_member(member: &MemberInfo, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint();
    let connected = member.devices.iter().any(|device| device.connected);
    let devices = match member.devices.len() {
        0 => String::new(),
        devices => format!(", {}", count(devices as u64, "device")),
    };
    let now = match member.presence {
        Some(PresenceState::Typing) => ", typing \u{2026}",
        Some(PresenceState::Online) => ", online",
        Some(PresenceState::Away) => ", away",
        Some(PresenceState::Silent) | None if connected => ", connected",
        Some(PresenceState::Silent) | None => "",
    };
    let why = match (&member.removed_by, &member.reason) {
        (Some(by), Some(reason)) if !reason.is_empty() => {
            format!(" by {}: {}", clean(by), clean(reason))
        }
        (Some(by), _) => format!(" by {}", clean(by)),
        _ => String::new(),
    };
    context.output.data(&format!(
        "{}  {}  {}{why}{devices}{now}",
        paint.faint(member.agent.get(..8).unwrap_or(&member.agent)),
        paint.name(&clean(&member.name)),
        member.role,
    ))
}

fn reader_line(reader: &ReaderInfo) -> String {
    format!(
        "  {} ({}): {}",
        clean(&reader.who),
        clean(&reader.name),
        clean(&reader.sees)
    )
}

fn invite_line(invite: &InviteInfo, context: &Context<'_>) -> String {
    let paint = context.output.paint();
    let uses = match invite.uses {
        Some(uses) => format!("{} of {uses} used", invite.used),
        None => format!("used {}", count(u64::from(invite.used), "time")),
    };
    let until = match (invite.open, invite.expires_at_ms) {
        (false, _) => ", lets nobody in any more".to_owned(),
        (true, Some(at)) => format!(", until {}", date(at)),
        (true, None) => String::new(),
    };
    format!(
        "{}  {}  by {}, {uses}{until}",
        paint.faint(&invite.key),
        invite.role,
        clean(&invite.by)
    )
}

fn left_line(left: &RoomLeft) -> String {
    let told = match left.told {
        0 => "no member is connected to hear of it",
        _ => "the others are told",
    };
    match left.purged {
        true => format!(
            "left room {}; {told}; nothing of it is kept: {} in {} given back ({})",
            clean(&left.room),
            count(left.blocks, "block"),
            count(left.feeds, "feed"),
            bytes(left.bytes),
        ),
        false => format!(
            "left room {}; {told}; what was said stays here, --purge gives its space back",
            clean(&left.room)
        ),
    }
}

/// Returns a day in UTC.
pub(super) fn date(milliseconds: u64) -> String {
    // Days to a date of the Gregorian calendar, by eras of 400 years.
    let days = i64::try_from(milliseconds / 86_400_000).unwrap_or(0) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, expected) in [("7d", 604_800), ("12h", 43_200), ("30m", 1800), ("45s", 45)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "7",
            "d",
            "0d",
            "-1d",
            "7w",
            "99999999999999999999d",
            "é",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (milliseconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400_000, "2000-02-29"),
            (1_800_000_000_000, "2027-01-15"),
        ] {
            assert_eq!(date(milliseconds), expected);
        }
    }
}
