//! `cargo xtask`: what developers and CI run on this repository.

mod bench;
mod generate;
mod layers;
mod parts;
mod repository;
mod soak;
mod test;

use std::process::ExitCode;

use anyhow::Result;
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
    /// Installs what tests need, then runs every check and every test; the last line counts them.
    Test {
        /// Leaves out a part that cannot be had here, with the tests that need it.
        #[arg(long, value_enum)]
        without: Vec<parts::Part>,
    },
    /// Measures ours beside npm hypercore in one run; a JSON line a row.
    Bench(bench::Options),
    /// Runs tests with many more cases, for as long as asked; `--list` names them.
    Soak(soak::Options),
    /// Regenerates the Rust of every `<crate>/proto/*.proto` into `<crate>/src/generated/`.
    Gen {
        /// Writes nothing; fails when the committed files differ.
        #[arg(long)]
        check: bool,
    },
    /// Checks that crates name only crates above them, and that cores do no IO.
    CheckLayers,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Test { without } => return Ok(test::run(&without)),
        Task::Bench(options) => bench::run(&options)?,
        Task::Soak(options) => soak::run(&options)?,
        Task::Gen { check: false } => generate::write()?,
        Task::Gen { check: true } => generate::check()?,
        Task::CheckLayers => layers::check()?,
    }
    Ok(ExitCode::SUCCESS)
}
