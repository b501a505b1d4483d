//! `kinlog lock`, `unlock`, `passphrase`: who can open the home.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kinlog_agent::api::{Connection, Request};
use kinlog_agent::home::{self, Protection};
use kinlog_agent::vault::Passphrase;
use serde::Serialize;

use crate::error::Failure;
use crate::passphrase;
use crate::target::{Context, blocking};

#[derive(Args, Debug)]
pub(crate) struct UnlockArguments {
    #[command(flatten)]
    file: PassphraseFile,
}

/// Where the passphrase that the home has is read from.
#[derive(Args, Debug)]
pub(crate) struct PassphraseFile {
    /// File (0600) with the passphrase in its first line; without it the terminal is asked
    #[arg(long, value_name = "FILE", env = passphrase::FILE_VARIABLE)]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PassphraseCommand {
    /// Show whether the home has a passphrase, and whether it is locked
    Show,
    /// Put the home under a passphrase
    Set {
        /// File (0600) with the new passphrase in its first line
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Put the home under another passphrase
    Change {
        #[command(flatten)]
        file: PassphraseFile,
        /// File (0600) with the new passphrase in its first line
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Give the key of the home to the key ring of your desktop: it opens for whoever has logged in
    Keyring {
        #[command(flatten)]
        file: PassphraseFile,
    },
    /// Take passphrase or key ring from the home: its files are all it takes to open it then
    Remove {
        #[command(flatten)]
        file: PassphraseFile,
    },
}

/// Who can open the home, as `--json` prints it.
#[derive(Serialize)]
struct State {
    home: PathBuf,
    protection: &'static str,
    /// The key of the unlocked home stands in this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_on_disk: Option<PathBuf>,
}

/// Locks the home: stops whoever runs in it, forgets its key, deletes the index.
pub(crate) async fn lock(context: &Context<'_>) -> Result<(), Failure> {
    if home::protection(&context.home, &context.state)? != Protection::None
        && let Some(running) = Connection::find(&context.home).await?
    {
        let asked = running.request(Request::Stop, bytes::Bytes::new());
        // One that is gone before it answers has stopped as well.
        if let Err(error) = asked.last().await {
            tracing::debug!(%error, "running agent did not answer");
        }
    }
    let (folder, state) = (context.home.clone(), context.state.clone());
    blocking(move || Ok(home::lock(&folder, &state)?)).await?;
    let protection = home::protection(&context.home, &context.state)?;
    tell(context, protection, None)
}

pub(crate) async fn unlock(
    arguments: UnlockArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let key_on_disk = match home::protection(&context.home, &context.state)? {
        Protection::Unlocked | Protection::KeyRing => None,
        // One without a passphrase says so before it asks for it.
        Protection::None | Protection::Locked => {
            home::check_passphrase(&context.home)?;
            let file = arguments.file.passphrase_file.as_deref();
            let passphrase = passphrase::ask(file, &context.home.display().to_string()).await?;
            let (folder, state) = (context.home.clone(), context.state.clone());
            blocking(move || Ok(home::unlock(&folder, &state, &passphrase)?)).await?
        }
    };
    // The index was deleted: the first opening makes it anew.
    context.ask(Request::Id).await?;
    let protection = home::protection(&context.home, &context.state)?;
    tell(context, protection, key_on_disk)
}

pub(crate) async fn passphrase(
    command: Option<PassphraseCommand>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let name = context.home.display().to_string();
    let (folder, state) = (context.home.clone(), context.state.clone());
    match command.unwrap_or(PassphraseCommand::Show) {
        PassphraseCommand::Show => {
            let protection = home::protection(&folder, &state)?;
            if !context.output.is_json() {
                return context.output.data(words(protection).0);
            }
        }
        PassphraseCommand::Set {
            new_passphrase_file,
        } => {
            let protection = home::protection(&folder, &state)?;
            if matches!(protection, Protection::Unlocked | Protection::Locked) {
                let message = format!("home {name} has a passphrase already");
                return Err(Failure::usage(message)
                    .hint("`kinlog passphrase change` asks for the one it has"));
            }
            let new = passphrase::choose(new_passphrase_file.as_deref(), &name).await?;
            blocking(move || Ok(home::set_passphrase(&folder, &state, None, &new)?)).await?;
        }
        PassphraseCommand::Change {
            file,
            new_passphrase_file,
        } => {
            home::check_passphrase(&folder)?;
            let old = passphrase::ask(file.passphrase_file.as_deref(), &name).await?;
            let new = passphrase::choose(new_passphrase_file.as_deref(), &name).await?;
            blocking(move || Ok(home::set_passphrase(&folder, &state, Some(&old), &new)?)).await?;
        }
        PassphraseCommand::Keyring { file } => {
            let old = asked(&file, context).await?;
            let keep = move || Ok(home::keep_in_key_ring(&folder, &state, old.as_ref())?);
            blocking(keep).await?;
        }
        PassphraseCommand::Remove { file } => {
            let old = asked(&file, context).await?;
            let remove = move || Ok(home::remove_passphrase(&folder, &state, old.as_ref())?);
            blocking(remove).await?;
        }
    }
    let protection = home::protection(&context.home, &context.state)?;
    tell(context, protection, None)
}

/// Asks for the passphrase of a home that has one.
async fn asked(
    file: &PassphraseFile,
    context: &Context<'_>,
) -> Result<Option<Passphrase>, Failure> {
    match home::protection(&context.home, &context.state)? {
        Protection::None | Protection::KeyRing => Ok(None),
        Protection::Unlocked | Protection::Locked => {
            let name = context.home.display().to_string();
            let file = file.passphrase_file.as_deref();
            passphrase::ask(file, &name).await.map(Some)
        }
    }
}

/// Says who can open the home now.
fn tell(
    context: &Context<'_>,
    protection: Protection,
    key_on_disk: Option<PathBuf>,
) -> Result<(), Failure> {
    let output = context.output;
    let (word, explained) = words(protection);
    if output.is_json() {
        return output.json(&State {
            home: context.home.clone(),
            protection: word,
            key_on_disk,
        });
    }
    if let Some(file) = key_on_disk {
        let message = format!(
            "no XDG_RUNTIME_DIR: its key is on the disk, in {}, until `kinlog lock`",
            file.display()
        );
        output.say(output.paint_words().warn(&message));
    }
    output.say(format!("home {} {explained}", context.home.display()));
    Ok(())
}

/// Returns the word for a state of the home, and what it means.
fn words(protection: Protection) -> (&'static str, &'static str) {
    match protection {
        Protection::None => (
            "none",
            "has no passphrase: whoever reads its files opens it",
        ),
        Protection::Unlocked => ("unlocked", "is unlocked until `kinlog lock`"),
        Protection::Locked => ("locked", "is locked; `kinlog unlock` opens it"),
        Protection::KeyRing => (
            "keyring",
            "opens while your desktop's key ring is unlocked, which has its key",
        ),
    }
}
