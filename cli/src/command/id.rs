//! `kinlog id`.

use clap::Args;
use kinlog_agent::api::{Reply, Request};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, show_qr};
use crate::target::Context;

#[derive(Args, Debug)]
pub(crate) struct IdArguments {
    /// Show the safety number with another agent, by link, key or name
    #[arg(long, value_name = "AGENT")]
    safety: Option<String>,

    /// Show it, or the link, as a QR code too
    #[arg(long)]
    qr: bool,
}

pub(crate) async fn run(arguments: IdArguments, context: &Context<'_>) -> Result<(), Failure> {
    if let Some(agent) = arguments.safety {
        return safety(agent, arguments.qr, context).await;
    }
    for reply in context.ask(Request::Id).await? {
        let Reply::Id(id) = &reply else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        let paint = context.output.paint();
        context
            .output
            .data(&format!("name    {}", paint.strong(&clean(&id.name))))?;
        context.output.data(&format!("agent   {}", id.agent))?;
        context.output.data(&format!("device  {}", id.device))?;
        context
            .output
            .data(&format!("link    {}", paint.name(&id.link)))?;
        context
            .output
            .data(&format!("home    {}", id.home.display()))?;
        if arguments.qr {
            show_qr(&id.link, context.output)?;
        }
    }
    Ok(())
}

async fn safety(agent: String, with_qr: bool, context: &Context<'_>) -> Result<(), Failure> {
    for reply in context.ask(Request::Safety { agent }).await? {
        let Reply::Safety {
            agent,
            name,
            number,
        } = &reply
        else {
            return Err(unexpected(&reply));
        };
        if context.output.is_json() {
            context.output.json(&reply)?;
            continue;
        }
        let output = context.output;
        output.say(format!(
            "{} ({agent}) has to see the same 60 digits:",
            output.paint_words().strong(&clean(name)),
        ));
        let groups: Vec<&str> = number.split(' ').collect();
        for line in groups.chunks(4) {
            output.data(&line.join(" "))?;
        }
        if with_qr {
            show_qr(&number.replace(' ', ""), output)?;
        }
    }
    Ok(())
}
