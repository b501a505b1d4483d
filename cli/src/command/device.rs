//! `kinlog device`: the devices of this agent, and making this one new.

use clap::Subcommand;
use kinlog_agent::api::{CutInfo, DeviceInfo, Reply, Request};
use kinlog_agent::home::Layout;

use crate::command::link::{self, LinkArguments};
use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, count, short_key};
use crate::target::Context;
use crate::words::read_phrase;

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Show the devices of this agent, or of another one that is known
    List {
        /// Link, key or name of the other agent
        #[arg(long, value_name = "AGENT")]
        of: Option<String>,
    },
    /// Show a code that makes another installation a device of this agent
    Link(LinkArguments),
    /// Confirm the words for a `kinlog device link` that waits
    Confirm {
        /// The words that the new device shows
        words: String,
    },
    /// Give a device another name
    Rename {
        /// Name or key of the device
        device: String,
        /// The new name
        name: String,
    },
    /// Revoke a device: it writes and reads nothing new from then on
    Revoke {
        /// Name or key of the device
        device: String,

        /// Take back what it said about this device: an addition, or a revocation
        #[arg(long, value_name = "DEVICE")]
        undo: Vec<String>,

        /// Do it; without this it is only said what it would do
        #[arg(long)]
        yes: bool,
    },
    /// Make a new device that continues the paths of this one; asks for the 24 words
    Renew,
}

pub(crate) async fn run(
    command: Option<DeviceCommand>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    match command.unwrap_or(DeviceCommand::List { of: None }) {
        DeviceCommand::List { of } => list(Request::Devices { of }, context).await,
        DeviceCommand::Link(arguments) => link::show(arguments, context).await,
        DeviceCommand::Confirm { words } => link::confirm(words, context).await,
        DeviceCommand::Rename { device, name } => {
            list(Request::DeviceRename { device, name }, context).await
        }
        DeviceCommand::Revoke { device, undo, yes } => {
            let preview = !yes;
            let request = Request::DeviceRevoke {
                device,
                undo,
                preview,
            };
            revoke(request, context).await
        }
        DeviceCommand::Renew => renew(context).await,
    }
}

async fn renew(context: &Context<'_>) -> Result<(), Failure> {
    Layout::new(&context.home).check_initialised()?;
    let output = context.output;
    let phrase = read_phrase(output).await?;
    let renewed = kinlog_agent::home::renew(&context.home, &context.state, &phrase)?;
    drop(phrase);
    // The paths are continued by the first opening.
    context.ask(Request::Devices { of: None }).await?;
    if output.is_json() {
        return output.json(&renewed);
    }
    let paint = output.paint_words();
    output.say(format!(
        "this is device {} now; {} go on in it",
        paint.strong(&short_key(&renewed.device)),
        count(renewed.paths, "path"),
    ));
    if renewed.blocks_written_again > 0 {
        output.say(format!(
            "{} that no peer had seen are written again",
            count(renewed.blocks_written_again, "block")
        ));
    }
    output.data(&renewed.device.to_string())
}

async fn revoke(request: Request, context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(request).await? {
        let Reply::Revocation {
            device,
            public,
            private,
            said,
            done,
        } = &reply
        else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        let output = context.output;
        let paint = output.paint();
        let name = paint.strong(&clean(&device.name));
        output.data(&match done {
            true => format!("{name} is revoked, and never comes back"),
            false => format!("{name} would be revoked, and never come back"),
        })?;
        let kept = |cut: &Option<CutInfo>| match cut {
            Some(cut) => format!("its first {}", count(cut.length, "entry")),
            None => "nothing beyond what others hold vouched".to_owned(),
        };
        output.data(&format!(
            "  accepted of its public directory: {}",
            kept(public)
        ))?;
        output.data(&format!(
            "  accepted of its private directory: {}",
            kept(private)
        ))?;
        for line in said {
            output.data(&format!("  {}", clean(line)))?;
        }
        if !done {
            output.say(
                "`--yes` does it; `--undo DEVICE` takes back what it said about another device",
            );
        }
    }
    Ok(())
}

async fn list(request: Request, context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(request).await? {
        let Reply::Devices { devices } = &reply else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        for device in devices {
            show(device, context)?;
        }
    }
    Ok(())
}

fn show(device: &DeviceInfo, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint();
    let role = match (device.state.as_str(), device.role.as_str()) {
        ("revoked", _) => format!("revoked by {}", clean(&device.revoked_by.join(", "))),
        ("undone", _) => format!("undone by {}", clean(&device.revoked_by.join(", "))),
        (_, "this") => "this device".to_owned(),
        (_, "former") => "continued here".to_owned(),
        _ => "another device".to_owned(),
    };
    context.output.data(&format!(
        "{}  {}  {role}, {}",
        device.key,
        paint.strong(&clean(&device.name)),
        count(device.paths, "path"),
    ))?;
    context.output.data(&paint.faint(&format!(
        "  may {}; added by {}",
        match device.powers[..] {
            [] => "nothing".to_owned(),
            _ => clean(&device.powers.join(", ")),
        },
        clean(&device.added_by),
    )))?;
    if let Some(reason) = &device.must_renew {
        let message = format!("  may not write any more: {}", clean(reason));
        context.output.data(&paint.warn(&message))?;
        context
            .output
            .data("  `kinlog device renew` makes this a new device that continues the paths")?;
    }
    Ok(())
}
