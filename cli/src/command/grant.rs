//! `kinlog room grant|grants|grant-revoke`: who keeps a room for its members.

use clap::Args;
use kinlog_agent::api::{GrantInfo, Reply, Request};

use crate::command::room::{date, seconds};
use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, count};
use crate::target::Context;

#[derive(Args, Debug)]
pub(crate) struct GrantArguments {
    /// Name, code or id of the room
    room: String,

    /// The seeder: its agent id, or the link that `kinlog id` shows there
    #[arg(long, value_name = "AGENT")]
    to: String,

    /// Until when, as 90d, 12h or 30m from now [default: 90d]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<u64>,

    /// What it may take of the seeder's space; the seeder knows what the classes mean
    #[arg(long, value_name = "N", default_value_t = 0)]
    quota_class: u8,
}

impl From<GrantArguments> for Request {
    fn from(arguments: GrantArguments) -> Request {
        Request::RoomGrant {
            room: arguments.room,
            to: arguments.to,
            expires_in: arguments.expires,
            quota_class: arguments.quota_class,
        }
    }
}

pub(super) fn show(reply: &Reply, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    match reply {
        Reply::Granted {
            feeds,
            expires_at_ms,
            link,
            ..
        } => {
            output.say(format!(
                "{}, until {}; the seeder takes it with: kinlog seed accept LINK",
                count(*feeds, "feed"),
                date(*expires_at_ms)
            ));
            output.say("pass the link to the seeder alone, as you would a key");
            output.data(link)
        }
        Reply::Grants { grants, .. } => {
            if grants.is_empty() {
                output.say("no seeder keeps this room: kinlog room grant ROOM --to AGENT");
            }
            grants
                .iter()
                .try_for_each(|grant| output.data(&line(grant, context)))
        }
        Reply::GrantsRevoked { grants, .. } => {
            output.say(format!(
                "ended: {}",
                count(grants.len() as u64, "seed grant")
            ));
            output.say("members serve the seeder no more; it stops when it meets the giver");
            Ok(())
        }
        other => Err(unexpected(other)),
    }
}

fn line(grant: &GrantInfo, context: &Context<'_>) -> String {
    let paint = context.output.paint();
    let code: String = grant.grant.to_string().chars().take(8).collect();
    let now = if grant.connected { ", connected" } else { "" };
    format!(
        "{}  {}  {} until {}, by {}, class {}{now}",
        paint.faint(&code),
        paint.name(&clean(&grant.seeder_name)),
        clean(&grant.state),
        date(grant.expires_at_ms),
        clean(&grant.given_by_name),
        grant.quota_class,
    )
}
