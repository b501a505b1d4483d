//! `kinlog device`: the devices of this agent, and making this one new.

use std::io::{self, IsTerminal};

use clap::Subcommand;
use kinlog_agent::api::{DeviceInfo, Reply, Request};
use kinlog_agent::home::{Layout, Phrase};
use zeroize::Zeroizing;

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, count, short_key};
use crate::target::{Context, interrupted};

/// Bytes of 24 words with much room between them, 1 KiB: the longest has 8 letters.
const PHRASE_BYTES_MAX: usize = 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Show the devices of this agent
    List,
    /// Make a new device that continues the paths of this one; asks for the 24 words
    Renew,
}

pub(crate) async fn run(
    command: Option<DeviceCommand>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    match command.unwrap_or(DeviceCommand::List) {
        DeviceCommand::List => list(context).await,
        DeviceCommand::Renew => renew(context).await,
    }
}

/// Reads the words from the terminal, or from stdin when it is none: never from the command line,
/// which other users of the machine can read.
async fn renew(context: &Context<'_>) -> Result<(), Failure> {
    Layout::new(&context.home).check_initialised()?;
    let output = context.output;
    if io::stdin().is_terminal() {
        output.say("The 24 words of this agent, in one line or several:");
    }
    let words = read_words().await?;
    let phrase = Phrase::parse(&words).map_err(|error| Failure::usage(error.to_string()))?;
    drop(words);
    let renewed = kinlog_agent::home::renew(&context.home, &context.state, &phrase)?;
    drop(phrase);
    // The paths are continued by the first opening.
    context.ask(Request::Devices).await?;
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

/// Reads words until there are 24, or the input ends.
async fn read_words() -> Result<Zeroizing<String>, Failure> {
    let read = tokio::task::spawn_blocking(|| {
        let mut words = Zeroizing::new(String::with_capacity(PHRASE_BYTES_MAX));
        while words.split_whitespace().count() < 24 && words.len() < PHRASE_BYTES_MAX {
            if io::stdin().read_line(&mut words)? == 0 {
                break;
            }
        }
        io::Result::Ok(words)
    });
    tokio::select! {
        () = interrupted() => Err(Failure::Interrupted),
        read = read => match read {
            Ok(words) => words.map_err(|error| Failure::io("stdin", &error)),
            Err(error) => Err(Failure::general(error.to_string())),
        },
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
