//! The `kinlog` command: what people and scripts type.
//!
//! [`arguments`] is the surface, one file per family in [`command`] does it, [`output`] shows it and
//! [`error`] turns every failure into a kind, a hint and an exit code, in one place.

mod arguments;
mod command;
mod demo;
mod error;
mod home;
mod metrics;
mod output;
mod passphrase;
mod target;
mod words;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(&arguments.global);
    output::start_log(&arguments.global, &output);
    match command::run(arguments, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
