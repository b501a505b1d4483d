//! `kinlog demo`: a signal server and four agents, as processes with homes of their own.
//!
//! [`story`] plays it act by act, [`cast`] and [`child`] run the processes, [`claims`] checks what the
//! agents themselves report, [`report`] shows it.

mod big_file;
mod cast;
mod child;
mod claims;
mod courses;
mod limits;
mod report;
mod stage;
mod story;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::demo::report::Report;
use crate::demo::stage::Stage;
use crate::error::Failure;
use crate::output::Output;
use crate::target::interrupted;

#[derive(Args, Debug)]
pub(crate) struct DemoArguments {
    /// Leave the homes and print commands to look round
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn run(arguments: DemoArguments, output: &Output) -> Result<(), Failure> {
    let started = Instant::now();
    let interrupted = interrupted();
    let folder = make_folder()?;
    let mut stage = Stage::new(folder.clone(), output);
    let played = tokio::select! {
        () = interrupted => Err(Failure::Interrupted),
        played = story::play(&mut stage) => played,
    };
    stage.kill_all().await;
    let shown = played.map(|played| Report::new(played, started.elapsed()));
    let result = match shown {
        Ok(report) => report.show(output).and_then(|()| report.verdict()),
        Err(failure) => Err(failure),
    };
    if arguments.keep {
        report::look_round(&folder, output);
    } else {
        remove(&folder);
    }
    result
}

/// Makes an empty folder that only this user reads.
fn make_folder() -> Result<PathBuf, Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let mut random = [0u8; 5];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::general(format!("no random numbers: {error}")))?;
    let name = format!("kinlog-demo-{}", kinlog_feeds::text::encode(&random));
    let folder = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|error| Failure::io(folder.display(), &error))?;
    Ok(folder)
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "the demo's folder stays behind");
    }
}
