//! `kinlog backup`: what brings an agent back when its device is gone.

use std::path::PathBuf;

use clap::Subcommand;
use kinlog_agent::backup::{self, Contents};
use kinlog_agent::home::check_empty;

use crate::error::Failure;
use crate::home::absolute;
use crate::output::{bytes, clean, count, date, short_key};
use crate::passphrase;
use crate::target::{Context, blocking};
use crate::words::read_phrase;

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Write identities, pins, rooms and their keys into one sealed file; feeds come back from peers
    Create {
        /// A file that does not exist yet
        file: PathBuf,
        /// File (0600) with the passphrase of the backup in its first line
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Open a backup whole, and say what is in it
    Verify {
        file: PathBuf,
        /// File (0600) with the passphrase of the backup in its first line
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Make a home from a backup: a new device that continues the paths; asks for the 24 words
    Restore {
        file: PathBuf,
        /// File (0600) with the passphrase of the backup in its first line
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

pub(crate) async fn run(command: BackupCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        BackupCommand::Create {
            file,
            new_passphrase_file,
        } => create(absolute(&file)?, new_passphrase_file, context).await,
        BackupCommand::Verify {
            file,
            passphrase_file,
        } => {
            let file = absolute(&file)?;
            let what = format!("backup {}", file.display());
            let passphrase = passphrase::ask(passphrase_file.as_deref(), &what).await?;
            let contents = blocking(move || Ok(backup::verify(&file, &passphrase)?)).await?;
            show(&contents, context)
        }
        BackupCommand::Restore {
            file,
            passphrase_file,
        } => restore(absolute(&file)?, passphrase_file, context).await,
    }
}

async fn create(
    file: PathBuf,
    passphrase_file: Option<PathBuf>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    // What is wrong with the home is said before anybody thinks of a passphrase.
    let home_passphrase = context.options()?.passphrase;
    kinlog_agent::home::check_unlocked(&context.home, &context.state, home_passphrase.is_some())?;
    let what = format!("backup {}", file.display());
    let passphrase = passphrase::choose(passphrase_file.as_deref(), &what).await?;
    let (home, state) = (context.home.clone(), context.state.clone());
    let made = blocking(move || {
        let home_passphrase = home_passphrase.as_ref();
        Ok(backup::create(
            &home,
            &state,
            home_passphrase,
            &file,
            &passphrase,
        )?)
    });
    show(&made.await?, context)?;
    let output = context.output;
    if !output.is_json() {
        output.say("it was read again and holds; with it and the 24 words `kinlog backup restore` makes a new device");
        output.say("it holds no feeds: those come back from peers and seeders that hold them");
    }
    Ok(())
}

fn show(contents: &Contents, context: &Context<'_>) -> Result<(), Failure> {
    let output = context.output;
    if output.is_json() {
        return output.json(contents);
    }
    let (summary, counts, paint) = (&contents.summary, &contents.counts, output.paint());
    output.data(&format!(
        "backup  {}, {}",
        contents.file.display(),
        bytes(contents.bytes)
    ))?;
    output.data(&format!("of      {}", paint.strong(&clean(&summary.name))))?;
    output.data(&format!("agent   {}", summary.agent))?;
    output.data(&format!("device  {}", summary.device))?;
    output.data(&format!("made    {}", date(summary.made_ms)))?;
    output.data(&format!(
        "holds   {}, {}, {}, {}, {}",
        count(counts.paths, "path"),
        count(counts.rooms, "room"),
        count(counts.epochs, "room key"),
        count(counts.pins, "pin"),
        count(counts.identities, "identity set"),
    ))
}

async fn restore(
    file: PathBuf,
    passphrase_file: Option<PathBuf>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    check_empty(&context.home)?;
    let what = format!("backup {}", file.display());
    let passphrase = passphrase::ask(passphrase_file.as_deref(), &what).await?;
    let phrase = read_phrase(context.output).await?;
    let (home, state) = (context.home.clone(), context.state.clone());
    let restored =
        blocking(move || Ok(backup::restore(&file, &passphrase, &home, &state, &phrase)?));
    let restored = restored.await?;
    // The new device's directory begins with the first opening.
    context.ask(kinlog_agent::api::Request::Id).await?;
    let output = context.output;
    if output.is_json() {
        return output.json(&restored);
    }
    let paint = output.paint_words();
    output.say(format!(
        "{} is back in {}, as device {}",
        paint.strong(&clean(&restored.name)),
        context.home.display(),
        paint.strong(&short_key(&restored.device)),
    ));
    if restored.paths > 0 {
        output.say(format!(
            "{} go on when peers have shown how far they came: `kinlog up`",
            count(restored.paths, "path"),
        ));
    }
    if restored.rooms > 0 {
        output.say(format!(
            "{}: what was said can be read as soon as it is here; to write again, join with an invite",
            count(restored.rooms, "room"),
        ));
    }
    output.say("if the old device is lost or stolen: `kinlog device revoke`");
    output.data(&restored.device.to_string())
}
