//! `kinlog conflicts`: values that your devices wrote without knowing of each other, and which of them stands.

use clap::Subcommand;
use kinlog_agent::api::{Reply, Request, ValueConflictInfo};

use crate::command::unexpected;
use crate::error::Failure;
use crate::output::{clean, count, date};
use crate::target::Context;

#[derive(Debug, Subcommand)]
pub(crate) enum ConflictsCommand {
    /// List the values that contradict each other
    List {
        /// Those of others too, as far as they are known here
        #[arg(long)]
        all: bool,
    },
    /// Show one with all its sides
    Show {
        /// What `list` calls it
        #[arg(value_name = "CONFLICT")]
        id: String,
    },
    /// Let one side stand, on all your devices
    Resolve {
        /// What `list` calls it
        #[arg(value_name = "CONFLICT")]
        id: String,
        /// Number of the side [default: the one that is shown]
        #[arg(long, value_name = "N")]
        side: Option<u64>,
    },
}

pub(crate) async fn run(
    command: Option<ConflictsCommand>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let command = command.unwrap_or(ConflictsCommand::List { all: false });
    let is_resolved = matches!(command, ConflictsCommand::Resolve { .. });
    let request = match command {
        ConflictsCommand::List { all } => Request::ValueConflicts { all },
        ConflictsCommand::Show { id } => Request::ValueConflict { id },
        ConflictsCommand::Resolve { id, side } => Request::ConflictResolve { id, side },
    };
    for reply in context.ask(request).await? {
        let Reply::ValueConflicts {
            conflicts,
            stopped_feeds,
        } = &reply
        else {
            return Err(unexpected(&reply));
        };
        let output = context.output;
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        if conflicts.is_empty() {
            output.say("no values contradict each other");
        }
        for conflict in conflicts {
            if is_resolved {
                output.say(format!("{} is settled:", clean(&conflict.id)));
            }
            show(conflict, context)?;
        }
        if let (false, Some(own)) = (is_resolved, conflicts.iter().find(|one| one.own)) {
            let id = clean(&own.id);
            output.say(format!(
                "one side stands by `kinlog conflicts resolve \"{id}\" --side N`"
            ));
        }
        if *stopped_feeds > 0 {
            output.say(format!(
                "{} stopped, with two histories: `kinlog feed conflicts`",
                count(*stopped_feeds, "feed")
            ));
        }
    }
    Ok(())
}

fn show(conflict: &ValueConflictInfo, context: &Context<'_>) -> Result<(), Failure> {
    let paint = context.output.paint();
    let room = match &conflict.room {
        Some(room) => format!(", in {}", clean(room)),
        None => String::new(),
    };
    context.output.data(&format!(
        "{}  {}",
        paint.name(&clean(&conflict.id)),
        paint.faint(&format!("{}{room}", clean(&conflict.what))),
    ))?;
    for side in &conflict.sides {
        let mark = if side.shown { "*" } else { " " };
        let value = match &side.value {
            Some(value) => clean(value),
            None => "taken away".to_owned(),
        };
        let by = match side.device_name.is_empty() {
            true => String::new(),
            false => format!("{}, ", clean(&side.device_name)),
        };
        context.output.data(&format!(
            "  {mark} {}  {}  {}",
            side.number,
            paint.strong(&value),
            paint.faint(&format!("{by}{}", date(side.written_at_ms))),
        ))?;
    }
    Ok(())
}
