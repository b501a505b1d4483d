//! `kinlog up`: the agent as a service.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use kinlog_agent::api::{DeviceChange, Reply, Request, SignalStatus};
use kinlog_agent::{Agent, NetworkConfig};
use kinlog_signal::ice::IceUrl;
use serde::Serialize;
use tokio::sync::{broadcast, oneshot};

use crate::error::Failure;
use crate::home::absolute;
use crate::metrics::{self, MetricsArguments};
use crate::output::{Output, clean, clean_lines};
use crate::target::{Context, NO_LAN, interrupted};

/// Time a signal server has to answer before `up` says that it did not.
const UNREACHED_AFTER: Duration = Duration::from_secs(3);

#[derive(Args, Debug)]
pub(crate) struct UpArguments {
    /// Signal server to meet others at, as often as needed; those of links are remembered
    #[arg(long = "signal", value_name = "URL")]
    signals: Vec<String>,

    /// Ask nobody outside of the local network: no signal or STUN server
    #[arg(long, conflicts_with_all = ["no_lan", "offline", "public_url"])]
    lan_only: bool,

    /// Do not look for others on the local network, nor be found there
    #[arg(long, env = NO_LAN, value_parser = FalseyValueParser::new())]
    no_lan: bool,

    /// Meet nobody
    #[arg(long, conflicts_with = "public_url")]
    offline: bool,

    /// Where a router forwards connections to --meeting-port (ws://HOST:PORT): others are told of it
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,

    /// TCP port at which others meet this agent without a server [default: one that stays the same]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..))]
    meeting_port: Option<u16>,

    /// STUN server that tells the own public address (stun:HOST:PORT), as often as needed
    #[arg(long = "stun", value_name = "URL", value_parser = stun_url)]
    stuns: Vec<String>,

    /// Reach others by the TURN servers of the signal server alone: they learn no address of this machine
    #[arg(long, conflicts_with_all = ["lan_only", "public_url"])]
    relay_only: bool,

    /// Relay nothing between peers that cannot connect to each other: this machine pays for its traffic
    #[arg(long)]
    no_relay: bool,

    /// Tell connected peers nothing of each other, and take nothing that they tell of others
    #[arg(long)]
    no_introductions: bool,

    /// Join no signal server for the reason that somebody whom you follow lists it in the profile
    #[arg(long)]
    no_listed_servers: bool,

    #[command(flatten)]
    metrics: MetricsArguments,

    /// Append the size of every message received to this file
    #[arg(long, value_name = "FILE", hide = true)]
    message_log: Option<PathBuf>,

    /// Stop when stdin closes: whoever started this process is gone then
    #[arg(long, hide = true)]
    until_stdin_closes: bool,

    /// For tests: fetch every public feed of an agent of whom a path is pinned
    #[arg(long, hide = true)]
    test_without_pin_filter: bool,
}

/// Returns a URL that names a STUN server.
fn stun_url(text: &str) -> Result<String, String> {
    match text.parse::<IceUrl>() {
        Ok(url) if !url.is_turn() => Ok(url.to_string()),
        Ok(_) => Err("a STUN server is named by stun:HOST:PORT".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What `up` tells while it runs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// Commands and peers can reach it.
    Ready {
        agent: String,
        link: &'a str,
        pid: u32,
        signals: &'a [String],
        /// Where Prometheus reads how it does.
        #[serde(skip_serializing_if = "Option::is_none")]
        metrics: Option<&'a str>,
    },
    /// A device of somebody came, went, or has another name.
    Devices {
        #[serde(flatten)]
        change: &'a DeviceChange,
    },
    /// Everything is on disk.
    Stopped,
}

pub(crate) async fn run(arguments: UpArguments, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    // From here on a signal is a request to stop cleanly.
    let interrupted = interrupted();
    let mut options = context.options()?;
    options.without_pin_filter = arguments.test_without_pin_filter;
    let agent = Agent::open(&context.home, options).await?;
    let network = NetworkConfig {
        lan: !arguments.no_lan && !arguments.offline,
        lan_only: arguments.lan_only,
        offline: arguments.offline,
        public_url: arguments.public_url,
        meeting_port: arguments.meeting_port,
        signal_urls: arguments.signals.clone(),
        stun_urls: arguments.stuns,
        relay_only: arguments.relay_only,
        no_introductions: arguments.no_introductions,
        no_listed_servers: arguments.no_listed_servers,
        no_relay: arguments.no_relay,
        message_log: arguments.message_log.as_deref().map(absolute).transpose()?,
    };
    let metrics = arguments.metrics.bind().await?;
    agent.start_network(network).await?;

    let (stop, stopped) = oneshot::channel::<()>();
    let socket = tokio::spawn({
        let agent = agent.clone();
        async move {
            let shutdown = async move {
                // A sender that is gone means the same.
                let _ = stopped.await;
            };
            agent.serve_socket(shutdown).await
        }
    });

    let telling = tokio::spawn(tell_devices(agent.device_changes(), output.clone()));
    let mut watch = None;
    let reply = agent
        .request(Request::Id, bytes::Bytes::new())
        .last()
        .await?
        .reply;
    if let Reply::Id(id) = &reply {
        if output.is_json() {
            output.json(&Event::Ready {
                agent: id.agent.to_string(),
                link: &id.link,
                pid: std::process::id(),
                signals: &arguments.signals,
                metrics: metrics.as_ref().map(|port| port.url.as_str()),
            })?;
        } else {
            output.data(&format!("ready {}", id.link))?;
            let paint = output.paint_words();
            output.say(format!(
                "{} is up; ctrl-c stops it",
                paint.strong(&clean(&id.name))
            ));
            watch = Some(tokio::spawn(tell_unreached(agent.clone(), output.clone())));
            match (arguments.offline, arguments.lan_only, arguments.no_lan) {
                (true, ..) => output.say("offline: nobody is met"),
                (_, true, _) => output.say("only the local network is asked"),
                (_, _, true) if arguments.signals.is_empty() => {
                    output.say("no --signal given: only servers that links named are asked");
                }
                (_, _, false) if arguments.signals.is_empty() => output.say(
                    "no --signal given: the local network and servers that links named are asked",
                ),
                _ => {}
            }
            if let Some(port) = &metrics {
                port.tell(output);
            }
        }
        output.flush()?;
    }
    let watched = {
        let agent = agent.clone();
        let ask = move || agent.request(metrics::request(), bytes::Bytes::new());
        metrics.map(|port| tokio::spawn(port.serve(ask)))
    };

    let failed = tokio::select! {
        () = interrupted => None,
        () = agent.asked_to_stop() => None,
        () = stdin_closed(arguments.until_stdin_closes) => None,
        ended = socket => match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Failure::from(error)),
            Err(error) => Some(Failure::general(clean_lines(&error.to_string()))),
        },
    };
    drop(stop);
    telling.abort();
    for task in [watch, watched].into_iter().flatten() {
        task.abort();
    }
    if !output.is_json() {
        output.say("stopping");
    }
    agent.shutdown().await?;
    if output.is_json() {
        output.json(&Event::Stopped)?;
    }
    failed.map_or(Ok(()), Err)
}

/// Says which devices of anybody came and went: whoever talks to them should know.
async fn tell_devices(mut changes: broadcast::Receiver<DeviceChange>, output: Output) {
    loop {
        match changes.recv().await {
            Ok(change) if output.is_json() => {
                // Nobody is left to be told when stdout is closed.
                let _ = output.json(&Event::Devices { change: &change });
                let _ = output.flush();
            }
            Ok(change) => output.say(format!(
                "{} {}",
                output.paint_words().warn(&clean(&change.name)),
                clean(&sentence(&change)),
            )),
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn sentence(change: &DeviceChange) -> String {
    let (device, by) = (&change.device_name, &change.by);
    match change.what.as_str() {
        "device_added" => format!("has a new device: {device}, added by {by}"),
        "device_renamed" => format!("calls the device {by} {device} now"),
        "device_revoked" => format!("has revoked the device {device} (by {by})"),
        "device_undone" => format!("has lost the device {device}: what added it was taken back"),
        _ => "has a new phrase: the safety number is another one now, compare it".to_owned(),
    }
}

/// Says once which signal servers are not reached a while after the start; `kinlog status` says so later.
async fn tell_unreached(agent: Agent, output: Output) {
    tokio::time::sleep(UNREACHED_AFTER).await;
    let status = agent.request(Request::Status, bytes::Bytes::new());
    let Ok(Reply::Status(status)) = status.last().await.map(|answer| answer.reply) else {
        return;
    };
    let is_server = |signal: &&SignalStatus| signal.found_by == "signal";
    let mut servers = status.signals.iter().filter(is_server);
    if let Some(trouble) = status.lan.as_ref().and_then(|lan| lan.trouble.as_ref()) {
        let word = output.paint_words().warn("no local network:");
        output.say(format!("{word} {}", clean(trouble)));
    }
    for signal in servers.by_ref().filter(|signal| !signal.connected) {
        let url = &signal.url;
        let problem = match &signal.problem {
            Some(problem) if problem.contains(url) => problem.clone(),
            Some(problem) => format!("{url}: {problem}"),
            None => format!("no answer yet from {url}"),
        };
        output.say(format!(
            "{} {}",
            output.paint_words().warn("no signal server:"),
            clean(&problem),
        ));
        output.say("it is tried again until it answers; kinlog status shows it");
    }
}

/// Resolves when stdin closes, if `watch`; else never.
pub(crate) async fn stdin_closed(watch: bool) {
    if !watch {
        return std::future::pending().await;
    }
    let (closed, waiting) = oneshot::channel::<()>();
    // A thread of its own: it may wait until the end of the process, which does not wait for it.
    std::thread::spawn(move || {
        let mut scrap = [0u8; 256];
        while matches!(std::io::stdin().read(&mut scrap), Ok(read) if read > 0) {}
        drop(closed);
    });
    let _ = waiting.await;
}
