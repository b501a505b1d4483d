//! `kinlog demo`.
use crate::error::Failure;
use crate::output::Output;
use clap::Args;
#[derive(Args, Debug)]
pub(crate) struct DemoArguments {
    /// Leave the homes and print commands to look round
    #[arg(long)]
    pub(crate) keep: bool,
}
pub(crate) async fn run(_arguments: DemoArguments, output: &Output) -> Result<(), Failure> {
    output.flush()
}
