//! `kinlog feed serve` and `pull`: plain Hypercore 11 over TCP.

use std::ops::Range;

use bytes::Bytes;
use clap::Args;
use kinlog_agent::api::{Reply, Request, Selection, Text};

use crate::command::{feed, unexpected};
use crate::error::Failure;
use crate::target::Context;

#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// Own public paths, or keys of plain feeds
    #[arg(required = true, value_name = "FEED")]
    feeds: Vec<String>,

    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    tcp: String,
}

#[derive(Args, Debug)]
pub(crate) struct PullArguments {
    /// Keys in z-base-32 or hex
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,

    /// Address of a peer, HOST:PORT; may be given again for more peers
    #[arg(long, value_name = "ADDR", required = true)]
    tcp: Vec<String>,

    /// Blocks A..B (B not included) or last:N [default: all]
    #[arg(long)]
    range: Option<Selection>,

    /// The blocks that hold these bytes, A..B counted from the feed's first one
    #[arg(long, value_name = "A..B", conflicts_with = "range", value_parser = feed::byte_range)]
    bytes: Option<Range<u64>>,

    /// Stay and fetch what is appended later
    #[arg(long)]
    live: bool,
}

/// Serves until ctrl-c; the first line on stdout is the address.
pub(crate) async fn serve(arguments: ServeArguments, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let request = Request::FeedServe {
        feeds: arguments.feeds,
        tcp: arguments.tcp,
    };
    let mut shown = None;
    context
        .follow(request, Bytes::new(), |answer| {
            let Reply::Serving { key, address } = &answer.reply else {
                return Err(unexpected(&answer.reply));
            };
            if output.is_json() {
                output.json(&answer.reply)?;
            } else {
                // All are served at one.
                if shown.as_ref() != Some(address) {
                    output.data(address)?;
                    shown = Some(address.clone());
                }
                output.say(format!("serving {key}; ctrl-c stops it"));
            }
            output.flush()
        })
        .await?;
    Ok(())
}

pub(crate) async fn pull(arguments: PullArguments, context: &Context<'_>) -> Result<(), Failure> {
    let live = arguments.live;
    let request = Request::FeedPull {
        keys: arguments.keys,
        tcp: arguments.tcp,
        range: arguments.range.map(Text),
        bytes: arguments.bytes,
        live,
    };
    match feed::transfer(request, context).await {
        Err(Failure::Interrupted) if live => Ok(()),
        other => other,
    }
}
