//! `kinlog signal serve`: introduces peers to each other.

mod config;
mod relay;
mod secrets;

use std::io::{self, Write};
use std::sync::Arc;

use clap::Subcommand;
use kinlog_agent::api::ErrorKind;
use kinlog_signal::rules::ConnectionId;
use kinlog_signal::serve;
use kinlog_signal::server::{Direction, Listeners, Record};
use kinlog_signal::stun::StunSocket;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::command::signal::config::{Config, ServeArguments};
use crate::command::up::stdin_closed;
use crate::error::Failure;
use crate::output::Output;
use crate::target::interrupted;

#[derive(Debug, Subcommand)]
pub(crate) enum SignalCommand {
    /// Serve until ctrl-c; the first line on stdout is the URL to give to --signal
    ///
    /// What stands here wins over the environment (KINLOG_SIGNAL_...), that over --config, that over
    /// the defaults.
    Serve(Box<ServeArguments>),
}

/// Where the server is.
#[derive(Debug, Serialize)]
struct Listening {
    event: &'static str,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<String>,
    pid: u32,
}

pub(crate) async fn run(command: SignalCommand, output: &Output) -> Result<(), Failure> {
    let SignalCommand::Serve(arguments) = command;
    let interrupted = interrupted();
    let config = Config::gather(&arguments)?;
    let mut settings = config.settings()?;
    if arguments.test_record_frames {
        settings = settings.record(Arc::new(HexOnStderr));
    }
    let scheme = if settings.tls.is_some() { "wss" } else { "ws" };

    let (listener, url, stun) = bind_with_stun(&config.listen, scheme, config.stun).await?;
    if let Some(stun) = stun {
        settings = settings.stun(stun);
    }
    let mut turn = None;
    if let (Some(relay), Some(secrets)) = (&config.relay, settings.ice.secrets.clone()) {
        let server = relay.bind(secrets).await?;
        let address = server.local_addr();
        turn = Some(
            address
                .map_err(|error| Failure::io("turn", &error))?
                .to_string(),
        );
        settings = settings.turn(server);
    }
    let mut listeners = Listeners::from(listener);
    let mut metrics = None;
    if let Some(address) = &config.metrics {
        let (listener, url) = bind("metrics", address, "http").await?;
        listeners = listeners.metrics(listener);
        metrics = Some(format!("{url}/metrics"));
    }
    if output.is_json() {
        output.json(&Listening {
            event: "listening",
            url,
            metrics,
            turn,
            pid: std::process::id(),
        })?;
    } else {
        output.data(&url)?;
        output.say("introduces peers to each other and stores nothing; ctrl-c stops it");
        if let Some(url) = metrics {
            output.say(format!("metrics are at {url}"));
        }
        if let Some(address) = turn {
            output.say(format!("relays (TURN) for clients that come to {address}"));
        }
    }
    output.flush()?;

    let until_stdin_closes = arguments.until_stdin_closes;
    let stop = async {
        tokio::select! {
            () = interrupted => {}
            () = stdin_closed(until_stdin_closes) => {}
        }
    };
    serve(listeners, settings, stop)
        .await
        .map_err(|error| Failure::io("signal server", &error))
}

/// Takes the TCP port of clients and, where wanted, the UDP port of the same number.
async fn bind_with_stun(
    address: &str,
    scheme: &str,
    stun: bool,
) -> Result<(TcpListener, String, Option<StunSocket>), Failure> {
    /// A free TCP port whose number is taken for UDP is rare; so many in a row are none.
    const TRIES_MAX: u32 = 16;
    let mut tries = 0;
    loop {
        tries += 1;
        let (listener, url) = bind("listen", address, scheme).await?;
        if !stun {
            return Ok((listener, url, None));
        }
        let taken = listener
            .local_addr()
            .map_err(|error| Failure::io(address, &error))?;
        match StunSocket::bind(taken).await {
            Ok(socket) => return Ok((listener, url, Some(socket))),
            Err(error) if address.ends_with(":0") && tries < TRIES_MAX => {
                tracing::debug!(%error, %taken, "another port");
            }
            Err(error) => {
                let failure = Failure::io(format!("--listen {address}, for STUN by UDP"), &error);
                return Err(failure.hint("take another port, or leave STUN out with --no-stun"));
            }
        }
    }
}

/// Takes an address; returns it as a URL, too.
pub(crate) async fn bind(
    setting: &str,
    address: &str,
    scheme: &str,
) -> Result<(TcpListener, String), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let shown = format!("--{setting} {address}");
        let failure = match error.kind() {
            io::ErrorKind::InvalidInput => Failure::usage(format!("{shown}: {error}")),
            io::ErrorKind::AddrInUse => {
                Failure::new(ErrorKind::Permission, format!("{shown}: {error}"))
            }
            _ => Failure::io(shown, &error),
        };
        failure.hint("give an address and a port, such as 127.0.0.1:4848; port 0 takes a free one")
    })?;
    let taken = listener
        .local_addr()
        .map_err(|error| Failure::io(address, &error))?;
    Ok((listener, format!("{scheme}://{taken}")))
}

/// Writes `in HEX` and `out HEX` lines.
#[derive(Debug)]
struct HexOnStderr;

impl Record for HexOnStderr {
    fn record(&self, direction: Direction, _connection: ConnectionId, frame: &[u8]) {
        let direction = match direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        // Whoever stopped reading wants no more of it.
        let _ = writeln!(
            io::stderr(),
            "{direction} {}",
            kinlog_feeds::text::encode_hex(frame)
        );
    }
}
