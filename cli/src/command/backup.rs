//! `kinlog backup`: what brings an agent back when its device is gone.

use std::path::PathBuf;

use clap::Subcommand;
use kinlog_agent::api::{Reply, Request, UnpublishedFeed};
use kinlog_agent::backup::{self, Approval, Contents, Unpublished};
use kinlog_agent::home::{Phrase, check_empty};

use crate::command::link::{self, LetIn, NewDeviceArguments};
use crate::command::unexpected;
use crate::error::Failure;
use crate::home::absolute;
use crate::output::{bytes, clean, count, date, short_key};
use crate::passphrase;
use crate::target::{Context, blocking};
use crate::words::read_phrase;

/// Feeds that are named of those with blocks that no peer has seen.
const UNPUBLISHED_SHOWN: usize = 8;

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
    /// Make a home from a backup: a new device that continues the paths; asks for the 24 words, or
    /// another device of the agent lets it in (--link)
    Restore {
        file: PathBuf,
        /// File (0600) with the passphrase of the backup in its first line
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        let_in: NewDeviceArguments,
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
            let_in,
        } => restore(absolute(&file)?, passphrase_file, let_in, context).await,
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
    let alone = unpublished(context).await?;
    let unpublished = Unpublished {
        feeds: alone.len() as u64,
        blocks: alone.iter().map(|feed| feed.blocks).sum(),
    };
    let (home, state) = (context.home.clone(), context.state.clone());
    let made = blocking(move || {
        let home_passphrase = home_passphrase.as_ref();
        Ok(backup::create(
            &home,
            &state,
            home_passphrase,
            &file,
            &passphrase,
            unpublished,
        )?)
    });
    show(&made.await?, context)?;
    let output = context.output;
    if !output.is_json() {
        output.say("it was read again and holds; with it and the 24 words, or another device of yours, `kinlog backup restore` makes a new device");
        output.say("it holds no feeds: those come back from peers and seeders that hold them");
        if !alone.is_empty() {
            let paint = output.paint_words();
            output.say(paint.warn("no peer has seen these yet, and no backup brings them back:"));
        }
        for feed in alone.iter().take(UNPUBLISHED_SHOWN) {
            let blocks = count(feed.blocks, "block");
            output.say(format!("  {blocks} of {}", clean(&feed.name)));
        }
        if let Some(more) = alone
            .len()
            .checked_sub(UNPUBLISHED_SHOWN)
            .filter(|more| *more > 0)
        {
            output.say(format!(
                "  and more of {}",
                count(more as u64, "other feed")
            ));
        }
        if !alone.is_empty() {
            output.say(
                "`kinlog up` until somebody has them; the next backup needs to say nothing of them",
            );
        }
    }
    Ok(())
}

/// Returns the feeds of which this device alone has blocks.
async fn unpublished(context: &Context<'_>) -> Result<Vec<UnpublishedFeed>, Failure> {
    let mut all = Vec::new();
    for reply in context.ask(Request::Unpublished).await? {
        match reply {
            Reply::Unpublished { feeds } => all.extend(feeds),
            other => return Err(unexpected(&other)),
        }
    }
    Ok(all)
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
    if summary.unpublished.blocks > 0 {
        output.data(&format!("lacks   {}", lacking(&summary.unpublished)))?;
    }
    output.data(&format!(
        "holds   {}, {}, {}, {}, {}",
        count(counts.paths, "path"),
        count(counts.rooms, "room"),
        count(counts.epochs, "room key"),
        count(counts.pins, "pin"),
        count(counts.identities, "identity set"),
    ))
}

fn lacking(unpublished: &Unpublished) -> String {
    format!(
        "{} of {}, which no peer had seen when it was made",
        count(unpublished.blocks, "block"),
        count(unpublished.feeds, "feed"),
    )
}

/// Who makes the device of a restored home the agent's.
enum Approver {
    Phrase(Phrase),
    Device(LetIn),
}

async fn restore(
    file: PathBuf,
    passphrase_file: Option<PathBuf>,
    let_in: NewDeviceArguments,
    context: &Context<'_>,
) -> Result<(), Failure> {
    check_empty(&context.home)?;
    let what = format!("backup {}", file.display());
    let passphrase = passphrase::ask(passphrase_file.as_deref(), &what).await?;
    let (home, state) = (context.home.clone(), context.state.clone());
    let by = match let_in.is_given() {
        true => {
            let (checked, with) = (file.clone(), passphrase.clone());
            let summary = blocking(move || Ok(backup::verify(&checked, &with)?.summary)).await?;
            let then = "`kinlog backup restore BACKUP --answer FILE`";
            let asked = link::ask(let_in, Some(summary.agent.0), &summary.name, then, context);
            let Some(let_in) = asked.await? else {
                return Ok(());
            };
            Approver::Device(let_in)
        }
        false => Approver::Phrase(read_phrase(context.output).await?),
    };
    let restored = blocking(move || {
        let restore = |approval| backup::restore(&file, &passphrase, &home, &state, approval);
        let restored = match by {
            Approver::Phrase(phrase) => restore(Approval::Phrase(&phrase)),
            Approver::Device(LetIn { pending, answer }) => restore(Approval::Device {
                pending: Box::new(pending),
                answer: &answer,
            }),
        };
        Ok(restored?)
    })
    .await?;
    // The new device's directory begins with the first opening.
    context.ask(Request::Id).await?;
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
    if restored.lost.blocks > 0 {
        output.say(paint.warn(&format!("not in it: {}", lacking(&restored.lost))));
    }
    output.say("if the old device is lost or stolen: `kinlog device revoke`");
    output.data(&restored.device.to_string())
}
