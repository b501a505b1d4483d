//! `kinlog signal serve`: introduces peers to each other.

use std::io::{self, Write};
use std::sync::Arc;

use clap::Subcommand;
use kinlog_agent::api::ErrorKind;
use kinlog_signal::rules::ConnectionId;
use kinlog_signal::server::{Direction, Record};
use kinlog_signal::{Settings, serve};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::command::up::stdin_closed;
use crate::error::Failure;
use crate::output::Output;
use crate::target::interrupted;

#[derive(Debug, Subcommand)]
pub(crate) enum SignalCommand {
    /// Serve until ctrl-c; the first line on stdout is the URL to give to --signal
    Serve {
        /// Address to listen on; port 0 takes a free one
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4848")]
        listen: String,

        /// Stop when stdin closes: whoever started this process is gone then
        #[arg(long, hide = true)]
        until_stdin_closes: bool,

        /// For tests: write every frame in hex on stderr, so that it can be searched
        #[arg(long, hide = true)]
        test_record_frames: bool,
    },
}

/// Where the server is.
#[derive(Debug, Serialize)]
struct Listening {
    event: &'static str,
    url: String,
    pid: u32,
}

pub(crate) async fn run(command: SignalCommand, output: &Output) -> Result<(), Failure> {
    let SignalCommand::Serve {
        listen,
        until_stdin_closes,
        test_record_frames,
    } = command;
    let interrupted = interrupted();
    let listener = TcpListener::bind(&listen).await.map_err(|error| {
        let failure = match error.kind() {
            io::ErrorKind::InvalidInput => Failure::usage(format!("--listen {listen}: {error}")),
            io::ErrorKind::AddrInUse => {
                Failure::new(ErrorKind::Permission, format!("--listen {listen}: {error}"))
            }
            _ => Failure::io(format!("--listen {listen}"), &error),
        };
        failure.hint("give an address and a port, such as 0.0.0.0:4848; port 0 takes a free one")
    })?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::io(&listen, &error))?;
    let url = format!("ws://{address}");
    if output.is_json() {
        output.json(&Listening {
            event: "listening",
            url,
            pid: std::process::id(),
        })?;
    } else {
        output.data(&url)?;
        output.say("introduces peers to each other and stores nothing; ctrl-c stops it");
    }
    output.flush()?;

    let mut settings = Settings::default();
    if test_record_frames {
        settings = settings.record(Arc::new(HexOnStderr));
    }
    let stop = async {
        tokio::select! {
            () = interrupted => {}
            () = stdin_closed(until_stdin_closes) => {}
        }
    };
    serve(listener, settings, stop)
        .await
        .map_err(|error| Failure::io("signal server", &error))
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
