//! `kinlog device`: the devices of this agent, and making this one new.

use clap::Subcommand;
use kinlog_agent::api::{DeviceInfo, Reply, Request};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, count};
use crate::target::Context;

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Show the devices of this agent
    List,
}

pub(crate) async fn run(
    command: Option<DeviceCommand>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    match command.unwrap_or(DeviceCommand::List) {
        DeviceCommand::List => list(context).await,
    }
}

async fn list(context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(Request::Devices).await? {
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
    context.output.data(&format!(
        "{}  {}  {}, {}",
        device.key,
        paint.strong(&clean(&device.name)),
        match device.role.as_str() {
            "this" => "this device",
            "former" => "continued here",
            _ => "another device",
        },
        count(device.paths, "path"),
    ))?;
    if let Some(reason) = &device.must_renew {
        let message = format!("  may not write any more: {}", clean(reason));
        context.output.data(&paint.warn(&message))?;
        context
            .output
            .data("  `kinlog device renew` makes this a new device that continues the paths")?;
    }
    Ok(())
}
