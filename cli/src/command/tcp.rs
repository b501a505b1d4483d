//! `kinlog feed serve` and `pull`: plain Hypercore 11 over TCP.

use bytes::Bytes;
use clap::Args;
use kinlog_agent::api::{Reply, Request, Selection, Text};

use crate::command::{feed, unexpected};
use crate::error::Failure;
use crate::target::Context;

#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// Own public path, or the key of a plain feed
    feed: String,

    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    tcp: String,
}

#[derive(Args, Debug)]
pub(crate) struct PullArguments {
    /// Key in z-base-32 or hex
    key: String,

    /// Address of the peer, HOST:PORT
    #[arg(long, value_name = "ADDR")]
    tcp: String,

    /// Blocks A..B (B not included) or last:N [default: all]
    #[arg(long)]
    range: Option<Selection>,

    /// Stay and fetch what is appended later
    #[arg(long)]
    live: bool,
}

/// Serves until ctrl-c; the first line on stdout is the address.
pub(crate) async fn serve(arguments: ServeArguments, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    let request = Request::FeedServe {
        feed: arguments.feed,
        tcp: arguments.tcp,
    };
    context
        .follow(request, Bytes::new(), |answer| {
            let Reply::Serving { key, address } = &answer.reply else {
                return Err(unexpected(&answer.reply));
            };
            if output.is_json() {
                output.json(&answer.reply)?;
            } else {
                output.data(address)?;
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
        key: arguments.key,
        tcp: arguments.tcp,
        range: arguments.range.map(Text),
        live,
    };
    match feed::transfer(request, context).await {
        Err(Failure::Interrupted) if live => Ok(()),
        other => other,
    }
}
