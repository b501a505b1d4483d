//! `kinlog-fuzz`: mutations without end, for long runs.

use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use kinlog_fuzz::{TARGETS, Target, corpus, corpus_folder, mutate, target};
use testkit::random::{self, Random};

/// Inputs between two looks at the clock.
const AT_ONCE: u64 = 256;

#[derive(Debug, Parser)]
#[command(about = "Feeds noise to every decoder; a failing input is kept in its corpus")]
struct Arguments {
    /// Targets [default: all]
    names: Vec<String>,

    /// How long each target is fed
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// Seed of the mutations [default: KINLOG_SEED, else the clock]
    #[arg(long)]
    seed: Option<u64>,

    /// Write the inputs that each target starts from into the corpus, and stop
    #[arg(long)]
    write_seeds: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let chosen: Vec<&Target> = match arguments.names.as_slice() {
        [] => TARGETS.iter().collect(),
        names => names
            .iter()
            .map(|name| target(name).with_context(|| format!("no target {name}")))
            .collect::<Result<_>>()?,
    };
    if arguments.write_seeds {
        for target in chosen {
            write_seeds(target)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let seed = arguments.seed.unwrap_or_else(random::seed);
    println!("seed {seed}");
    for target in chosen {
        feed(target, seed, Duration::from_secs(arguments.seconds))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_seeds(target: &Target) -> Result<()> {
    let folder = corpus_folder(target);
    std::fs::create_dir_all(&folder)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:02}")), seed)?;
    }
    Ok(())
}

fn feed(target: &Target, seed: u64, time: Duration) -> Result<()> {
    let mut inputs = (target.seeds)();
    inputs.extend(corpus(target).into_iter().map(|(_, bytes)| bytes));
    let mut random = Random::new(seed);
    let started = Instant::now();
    let (mut runs, mut understood) = (0u64, 0u64);
    while started.elapsed() < time {
        for _ in 0..AT_ONCE {
            let input = mutate(&inputs, &mut random);
            let Ok(valid) = catch_unwind(|| (target.run)(&input)) else {
                let kept = keep(target, seed, runs, &input)?;
                bail!("{} fails on {}", target.name, kept.display());
            };
            runs += 1;
            understood += u64::from(valid);
        }
    }
    println!(
        "{:<20} {runs} inputs, {understood} of them understood",
        target.name
    );
    Ok(())
}

/// Keeps a failing input where the tests find it from now on.
fn keep(target: &Target, seed: u64, run: u64, input: &[u8]) -> Result<PathBuf> {
    let folder = corpus_folder(target);
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("failed-{seed:x}-{run}"));
    std::fs::write(&file, input)?;
    Ok(file)
}
