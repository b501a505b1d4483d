//! `kinlog signal serve`: introduces peers to each other.

use clap::Subcommand;

use crate::error::Failure;
use crate::output::Output;

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
    },
}

pub(crate) async fn run(command: SignalCommand, output: &Output) -> Result<(), Failure> {
    let SignalCommand::Serve { .. } = command;
    output.flush()
}
