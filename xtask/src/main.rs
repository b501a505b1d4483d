//! `cargo xtask`: what developers and CI run on this repository.

mod generate;
mod repository;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Checks, tests, generators and benches of this repository"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Regenerates the Rust of every `<crate>/proto/*.proto` into `<crate>/src/generated/`.
    Gen {
        /// Writes nothing; fails when the committed files differ.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Gen { check: false } => generate::write(),
        Task::Gen { check: true } => generate::check(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
