//! `kinlog publish`: text files as searchable documents.

use std::path::{Path, PathBuf};

use clap::Args;
use kinlog_agent::api::{Reply, Request};

use crate::command::unexpected;
use crate::error::Failure;
use crate::home::absolute;
use crate::output::{bytes, clean, count};
use crate::target::Context;

#[derive(Args, Debug)]
pub(crate) struct PublishArguments {
    /// Own path, such as /notes; made if need be
    path: String,

    /// For your own devices alone: sealed, and nobody else learns that it exists
    #[arg(long)]
    private: bool,

    /// Text files (UTF-8), a document each
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(crate) async fn run(arguments: PublishArguments, context: &Context<'_>) -> Result<(), Failure> {
    let mut files = Vec::with_capacity(arguments.files.len());
    for file in &arguments.files {
        check_text(file)?;
        files.push(absolute(file)?);
    }
    let request = Request::Publish {
        path: arguments.path,
        files,
        private: arguments.private,
    };
    for reply in context.ask(request).await? {
        let Reply::Published {
            link,
            length,
            documents,
            ..
        } = &reply
        else {
            return Err(unexpected(&reply));
        };
        let output = context.output;
        if output.is_json() {
            output.json(&reply)?;
            continue;
        }
        for document in documents {
            output.say(format!(
                "{:>5}  {}  {}",
                document.index,
                clean(&document.title),
                output.paint_words().faint(&bytes(document.bytes))
            ));
        }
        output.say(format!(
            "published; the path has {} now",
            count(*length, "block")
        ));
        if let Some(link) = link {
            output.data(link)?;
        }
    }
    Ok(())
}

/// Refuses a file that is no text before anything is written.
fn check_text(file: &Path) -> Result<(), Failure> {
    let content = std::fs::read(file).map_err(|error| Failure::io(file.display(), &error))?;
    let Err(error) = std::str::from_utf8(&content) else {
        return Ok(());
    };
    let valid = &content[..error.valid_up_to()];
    let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
    Err(Failure::usage(format!(
        "{} is not UTF-8 text: line {line}, byte {} of the file",
        file.display(),
        error.valid_up_to()
    ))
    .hint("kinlog feed import takes files of any kind"))
}
